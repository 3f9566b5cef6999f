//! What the master says, and what its silence means.

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Time};

use super::Session;
use crate::engine::context::Context;
use crate::engine::master::{Clock, MasterClient};
use crate::limits::{
    GROUP_AHEAD_MAX, MASTER_PAUSE, MASTER_SILENCE, MASTER_TRIES, QUESTIONS_MAX, RESEND_MIN, SILENCE_MAX,
    STRIKES_MAX,
};

impl Session {
    /// The master did not ACK in time: the block goes out again, or another opener gets its turn.
    pub(super) fn on_master_silent(&mut self, now: Time, mut master: MasterClient, context: &mut Context) {
        let (alone, is_rfc2090) = (self.openers.len() == 1, self.is_rfc2090());
        if let Some(opener) = self.openers.get_mut(&master.client) {
            opener.pace.silent(now.since(self.sent_at));
        }
        // The next silence begins here, even if nothing goes out.
        self.sent_at = now;
        if self.outpace(now, master.client, context) {
            return;
        }
        let Some(opener) = self.openers.get_mut(&master.client) else {
            self.clock = Clock::Idle;
            return self.step(now, context);
        };
        // Its last word says what it lacks; without one, it lacks what it was sent: in RFC 2090, nothing yet.
        let gap = opener.acked.map_or(master.block, |acked| acked.saturating_add(1));
        if gap > 0 {
            opener.lacks.insert(gap);
        }
        // It may not know that it is master.
        let unaware = is_rfc2090 && master.block == 0 && opener.questions < QUESTIONS_MAX;
        let deaf = opener.acked.is_none() || unaware;
        master.tries += 1;
        let (client, tries) = (master.client, master.tries);
        let passed_over = if is_rfc2090 {
            // What the policy makes of its silence comes first.
            let tries_max = MASTER_TRIES.max(self.channel.policy.silences.into());
            let is_silent = tries > tries_max && now.since(master.heard_at) >= MASTER_PAUSE;
            !alone && (deaf || is_silent) && self.is_anybody_due(now, client)
        } else {
            let patience = if opener.strikes == 0 { MASTER_SILENCE } else { SILENCE_MAX * 3 };
            let passed_over = now.since(master.heard_at) >= patience;
            opener.strikes += u8::from(passed_over);
            // Who never ACKed at all is not worth a second of everybody's time.
            passed_over || (deaf && !alone)
        };
        if passed_over {
            return self.pass_over(now, client, context);
        }
        context.count("session", "resend");
        self.clock = Clock::Master(master);
        self.ahead.silent(tries);
        if deaf {
            return self.ask(now, client, gap, context);
        }
        if tries > MASTER_TRIES {
            // It loses the same block again and again: it gets that one in a later turn, and the others wait no longer.
            if !is_rfc2090 && let Some(next) = self.next_pacer(now, gap, client, GROUP_AHEAD_MAX) {
                context.count("session", "master_stuck");
                self.hand_over(now, client, next);
                return self.step(now, context);
            }
            // With nobody to hand over to, the two take turns block by block.
            if tries % 2 == 1
                && let Some(block) = self.wanted_by_others(now, client)
            {
                return self.multicast(now, block, context);
            }
        }
        if gap == self.last && self.holds_back(now) {
            return self.step(now, context);
        }
        if self.openers.get(&client).is_some_and(|opener| opener.strict) {
            self.take_back(client);
            return self.step(now, context);
        }
        self.ahead.repair(now, gap);
        self.multicast(now, gap, context);
    }

    /// Another opener has its turn. Who is known to be gone is lost.
    fn pass_over(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        let (alone, is_rfc2090) = (self.openers.len() == 1, self.is_rfc2090());
        self.turns += 1;
        let mut gone = false;
        if let Some(opener) = self.openers.get_mut(&client) {
            opener.turn = self.turns;
            // By RFC 2090 it is asked again at the end.
            opener.strikes = opener.strikes.saturating_add(u8::from(is_rfc2090));
            gone = !is_rfc2090 && (opener.strikes >= STRIKES_MAX || opener.questions >= QUESTIONS_MAX);
            opener.asked_at = if is_rfc2090 { Some(now) } else { opener.asked_at };
        }
        context.count("session", "master_passed_over");
        self.clock = Clock::Idle;
        if gone && !alone {
            self.lose(client);
        }
        self.step(now, context);
    }

    fn wanted_by_others(&self, now: Time, master: SocketAddrV4) -> Option<u16> {
        let hold = self.holds_back(now);
        self.openers
            .iter()
            .filter(|(client, _)| **client != master)
            .filter_map(|(_, o)| self.want(o, hold))
            .min()
    }

    /// The master ACKed; whether that brings it on.
    pub(super) fn on_master_ack(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        (block, waited): (u16, Duration),
        progress: bool,
        context: &mut Context,
    ) {
        let is_rfc2090 = self.is_rfc2090();
        let Clock::Master(master) = &mut self.clock else { return };
        master.heard_at = now;
        // Only the first after the OACK: else each copy begets an ACK and each ACK a copy, for ever.
        let answers_oack = is_rfc2090 && master.block == 0;
        master.block = master.block.max(1);
        if !progress && !answers_oack {
            let lacks =
                self.openers.get(&client).is_some_and(|opener| opener.lacks.first() == Some(block + 1));
            let is_held = block + 1 == self.last && self.holds_back(now);
            if lacks && !is_held && !self.ahead.holds(block + 1) {
                // Who had the pace before had it.
                self.ahead.repair(now, block + 1);
                return self.multicast(now, block + 1, context);
            }
            if !self.ahead.repeated(now, block, self.may_be_late(client)) {
                if self.ahead.had_all()
                    && let Some(opener) = self.openers.get_mut(&client)
                {
                    opener.strict = false;
                }
                // It starts nothing, and the timer runs on: else two copies beget two copies for ever.
                return context.count("session", "ack_again");
            }
            return self.on_gap(now, client, context);
        }
        let tries = std::mem::take(&mut master.tries);
        let told = self.ahead.acked(now, block);
        let span = told.round_trip.or((answers_oack && tries == 0).then_some(waited));
        if let Some(span) = span {
            self.round_trip.measured(span);
        }
        if let Some(opener) = self.openers.get_mut(&client) {
            opener.pace.acked(told.blocks.max(1), waited);
            // Clients of PXE-MTFTP take blocks in any order (PXE 2.1 § 2.4.10).
            opener.strict = told.is_strict.filter(|_| is_rfc2090).unwrap_or(opener.strict);
            match span {
                Some(span) => opener.round_trip.measured(span),
                None if tries > 0 => opener.round_trip.resent(),
                None => {}
            }
        }
        if is_rfc2090 && told.is_strict == Some(true) {
            self.take_back(client);
        } else if told.is_gap {
            self.ahead.repair(now, block + 1);
            self.multicast(now, block + 1, context);
        }
        // Its patience, and ours, begin anew.
        self.sent_at = now;
        self.tenure.acked(told.blocks, span);
        if is_rfc2090 && self.audition(now, client, context) {
            return;
        }
        if !self.outpace(now, client, context) {
            self.step(now, context);
        }
    }

    /// When the block that the master seems to lack counts as lost.
    pub(super) fn suspects(&self) -> Option<Deadline> {
        let client = self.master()?;
        let at = self.ahead.suspects(self.may_be_late(client))?;
        Some(Deadline { at, why: "a block seems to be lost" })
    }

    /// How long a block of which repeated ACKs tell may only be late.
    fn may_be_late(&self, client: SocketAddrV4) -> Duration {
        let opener = self.openers.get(&client);
        if opener.is_some_and(|opener| opener.strict) {
            // It drops all that comes behind a gap: the sooner the better.
            return Duration::ZERO;
        }
        let own = opener.map_or(self.round_trip, |opener| opener.round_trip);
        own.resend_after(RESEND_MIN, Duration::ZERO, SILENCE_MAX)
    }

    /// The first block that is out to the master was lost.
    pub(super) fn on_gap(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        let Some(gap) = self.ahead.lowest() else { return };
        context.count("session", "gap");
        self.ahead.lost();
        if self.openers.get(&client).is_some_and(|opener| opener.strict) {
            self.take_back(client);
            return self.step(now, context);
        }
        self.ahead.repair(now, gap);
        self.multicast(now, gap, context);
    }

    /// All that is out goes out again: it took nothing behind a gap.
    fn take_back(&mut self, client: SocketAddrV4) {
        if let Some(opener) = self.openers.get_mut(&client) {
            self.ahead.take_back().for_each(|block| opener.lacks.insert(block));
        }
    }
}
