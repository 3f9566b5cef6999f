//! When a session of RFC 2090 begins to send: at once, or when enough clients are there, or after a while, or at an
//! operator's word. Firmware bears no waiting, but a client of RFC 2090 listens until it is made master.

use std::time::Duration;

use driver::Time;

use super::Session;
use crate::engine::action::AwaitedStart;
use crate::engine::context::Context;
use crate::limits::START_WITHIN_MAX;

impl Session {
    /// What its policy says.
    pub(super) fn awaited_start(&self, now: Time) -> Option<AwaitedStart> {
        let within = Duration::from_secs(self.channel.policy.start_within_s.into()).min(START_WITHIN_MAX);
        let clients = self.channel.policy.start_clients;
        (self.is_rfc2090() && clients > 1).then_some(AwaitedStart { clients, at: now + within })
    }

    /// Whether a newcomer must wait; the last one that was awaited begins it.
    pub(super) fn awaits_more(&mut self) -> bool {
        let present = self.openers.len();
        self.start = self.start.filter(|start| present < usize::from(start.clients));
        self.start.is_some()
    }

    /// Its time has come, or an operator says so. False if it has begun before.
    pub(crate) fn begin(&mut self, now: Time, context: &mut Context) -> bool {
        if self.start.take().is_none() {
            return false;
        }
        // Who waited is there until it proves otherwise.
        self.heard_at = now;
        self.step(now, context);
        true
    }
}
