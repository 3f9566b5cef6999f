//! What becomes of a master that keeps the others waiting (the boot item's policy).

use std::net::SocketAddrV4;

use driver::Time;
use wire::policy::SlowClients;

use super::Session;
use crate::engine::action::Event;
use crate::engine::context::Context;
use crate::engine::master::Clock;

impl Session {
    /// The master ACKed, or was silent; if it is too slow for the others, somebody else sets the pace. True if so: then
    /// that one has been told.
    pub(super) fn outpace(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) -> bool {
        let Some(opener) = self.openers.get_mut(&client) else { return false };
        let is_slow = opener.pace.is_slow(self.channel.policy, self.channel.block_size);
        // Who never ACKed may be forged, and is passed over at once.
        let has_acked = opener.acked.is_some();
        if !is_slow || !has_acked || opener.slow || !self.keeps_waiting(client) {
            return false;
        }
        let what = self.channel.policy.slow;
        context.count("session", "slow_client");
        context.tell(Event::SlowClient { client, group: self.channel.group, what });
        self.tally.slow += 1;
        self.clock = Clock::Idle;
        match what {
            SlowClients::Keep => {}
            SlowClients::DropToUnicast => self.begin_lane(now, client, context),
            SlowClients::SecondStream => self.put_last(client),
        }
        self.step(now, context);
        true
    }

    /// Whether anybody who is not slow himself waits for this one.
    fn keeps_waiting(&self, client: SocketAddrV4) -> bool {
        self.openers.iter().any(|(other, opener)| *other != client && !opener.slow)
    }

    fn put_last(&mut self, client: SocketAddrV4) {
        self.turns += 1;
        if let Some(opener) = self.openers.get_mut(&client) {
            opener.slow = true;
            opener.turn = self.turns;
        }
    }

    /// A slow master has the pace only while nobody else wants it.
    pub(super) fn yields(&self, client: SocketAddrV4) -> bool {
        let is_slow = self.openers.get(&client).is_some_and(|opener| opener.slow);
        is_slow && self.openers.values().any(|other| !other.slow && other.lacks.first().is_some())
    }
}
