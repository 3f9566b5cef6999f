//! RFC 2090: who is told that it is the master, and who that it is not.

use std::net::SocketAddrV4;

use driver::Time;
use wire::tftp::{MulticastAnswer, Options, Packet};

use super::Session;
use crate::engine::context::Context;
use crate::limits::TOLD_OFF_AGAIN;

impl Session {
    /// A newcomer is master if nobody is; else it listens.
    pub(super) fn begin_or_listen(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        if self.awaits_more() {
            return self.tell_role(client, false, context);
        }
        if self.master().is_none() {
            self.step(now, context);
        }
        if self.master() != Some(client) {
            self.tell_role(client, false, context);
        }
    }

    /// An OACK: whether the client is master. RFC 2090 lets a server leave out where the data goes; atftp then ends with
    /// an error.
    pub(super) fn tell_role(&mut self, client: SocketAddrV4, is_master: bool, context: &mut Context) {
        let known = self.openers.get(&client).map(|opener| (&opener.granted, opener.acked));
        let Some((granted, acked)) = known.or_else(|| self.lane_options(client)) else { return };
        let others = if acked.is_none() { granted.clone() } else { Options::default() };
        let group = Some(self.channel.group);
        let multicast = Some(MulticastAnswer { group, is_master }.to_string());
        let answer = Packet::OptionAck(Options { multicast, ..others });
        context.send(self.channel.role, client, answer.encode());
    }

    /// It ACKs although it is not the master: it hears that it is not.
    pub(super) fn tell_off(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        let Some(opener) = self.openers.get_mut(&client) else { return };
        if opener.told_off_at.is_none_or(|at| now.since(at) >= TOLD_OFF_AGAIN) {
            opener.told_off_at = Some(now);
            context.count("session", "told_off");
            self.tell_role(client, false, context);
        }
    }
}
