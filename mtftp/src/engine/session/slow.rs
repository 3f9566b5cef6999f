//! What becomes of a master that keeps the others waiting (the boot item's policy).

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::Time;
use wire::policy::SlowClients;

use super::Session;
use crate::engine::action::Event;
use crate::engine::context::Context;
use crate::engine::master::Clock;
use crate::limits::{AUDITION_BLOCKS, AUDITION_RATE, AUDITION_ROUND_TRIP, AUDITIONS_MAX};

/// How the master of RFC 2090 does. Nobody else ACKs, so whether another one would be faster is found out by trying: if
/// the master's ACKs take ever longer the more is out to it, as they do when it cannot keep up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tenure {
    since: Time,
    /// Blocks that it ACKed.
    blocks: u32,
    /// How long its ACKs took: the quickest, and the last.
    quickest: Option<Duration>,
    latest: Duration,
    /// Who was master before it is tried, and the time for a block then.
    tried_for: Option<(SocketAddrV4, Duration)>,
    /// How often somebody was.
    tries: u8,
}

impl Tenure {
    pub(super) fn begin(&mut self, now: Time) {
        let (tried_for, tries) = (self.tried_for, self.tries);
        *self = Self { since: now, tried_for, tries, ..Self::default() };
    }

    pub(super) fn acked(&mut self, blocks: u16, round_trip: Option<Duration>) {
        self.blocks = self.blocks.saturating_add(blocks.into());
        if let Some(span) = round_trip {
            self.quickest = Some(self.quickest.map_or(span, |quickest| quickest.min(span)));
            self.latest = span;
        }
    }

    /// The time for a block, if enough of them are known.
    fn each(&self, now: Time) -> Option<Duration> {
        (self.blocks >= AUDITION_BLOCKS).then(|| now.since(self.since) / self.blocks)
    }

    fn may_be_slow(&self) -> bool {
        self.latest >= AUDITION_ROUND_TRIP
            && self.quickest.is_some_and(|quickest| quickest * 4 <= self.latest)
    }
}

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

    /// The master went on. If it may be slow, another one is tried; if that one is twice as fast, it stays master, else the
    /// one before has the pace back. True if somebody was named.
    pub(super) fn audition(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) -> bool {
        let Some(each) = self.tenure.each(now) else { return false };
        if let Some((before, each_before)) = self.tenure.tried_for.take() {
            if each * 2 <= each_before {
                context.count("session", "slow_master");
                self.put_last(before);
            } else if self.openers.contains_key(&before) {
                self.name(now, before, 0, context);
                return true;
            }
            return false;
        }
        // A master that took part in a trial takes no block behind a gap any more (EDK2): where blocks are lost, the trial
        // would cost it the rest of the file. And who is half as fast as a line of 1 Gbit/s is not slow.
        let rate = f64::from(self.channel.block_size) / each.as_secs_f64().max(1e-9);
        // With another policy than to keep it, its rate decides.
        if self.channel.policy.slow != SlowClients::Keep
            || self.tenure.tries >= AUDITIONS_MAX
            || !self.ahead.is_clean()
            || rate > AUDITION_RATE
            || !self.tenure.may_be_slow()
        {
            return false;
        }
        let others = self.openers.iter().filter(|(other, opener)| {
            **other != client && !opener.slow && opener.acked.is_none() && opener.questions == 0
        });
        let next = others.min_by_key(|(_, opener)| opener.turn).map(|(other, _)| *other);
        let Some(next) = next else { return false };
        context.count("session", "audition");
        self.tenure.tries += 1;
        self.tenure.tried_for = Some((client, each));
        self.name(now, next, 0, context);
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

    /// A slow master has the pace only while nobody else could have it.
    pub(super) fn yields(&self, now: Time, client: SocketAddrV4, hold: bool) -> bool {
        let is_slow = self.openers.get(&client).is_some_and(|opener| opener.slow);
        if self.is_rfc2090() {
            return is_slow && self.is_anybody_quick(now);
        }
        is_slow && self.openers.values().any(|other| !other.slow && self.leads_with(other, hold).is_some())
    }

    /// Whether the slow wait for anybody.
    pub(super) fn is_anybody_quick(&self, now: Time) -> bool {
        self.openers.values().any(|opener| opener.is_quick(now))
    }
}
