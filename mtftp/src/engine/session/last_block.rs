//! The last block is the last that anybody gets: iPXE that has it, and then leaves, may boot an image with holes. So it is held
//! back while somebody may lack another one. Who has all the others waits a moment for them to be repaired, so that one
//! packet serves all; then it gets a copy by unicast, and waits for nobody.

use std::net::SocketAddrV4;

use driver::{Deadline, Time};

use super::step::patience;
use super::{Opener, Session};
use crate::engine::context::Context;
use crate::engine::master::{Clock, MasterClient};
use crate::limits::{ANSWER_FIRST, QUESTIONS_MAX, QUESTIONS_PER_STEP, RESEND_MIN, SILENCE_MAX};

impl Session {
    /// Whether an opener could lack a block before the last without our knowing.
    pub(super) fn unsure(&self, opener: &Opener) -> bool {
        opener.acked.is_none_or(|acked| acked + 1 < self.last) && opener.questions < QUESTIONS_MAX
    }

    /// Whether the last block must wait: iPXE that has it and then leaves may boot an image with holes.
    pub(super) fn holds_back(&self, now: Time) -> bool {
        let since = self.held_since.unwrap_or(now);
        self.last > 1
            && !self.is_rfc2090()
            && self.openers.values().any(|opener| {
                opener.opened_at <= since && (opener.lacks.any_below(self.last) || self.unsure(opener))
            })
    }

    /// The last block but one is the last chance to hear of silent openers without a copy too many: they get it by
    /// unicast first, while they still lack it.
    pub(super) fn ask_before_the_end(
        &mut self,
        now: Time,
        block: u16,
        master: SocketAddrV4,
        context: &mut Context,
    ) {
        if u32::from(block) + 1 != u32::from(self.last) {
            return;
        }
        let clients: Vec<_> = self
            .openers
            .iter()
            .filter(|(client, opener)| {
                **client != master && opener.lacks.first() == Some(block) && self.unsure(opener)
            })
            .filter(|(_, opener)| opener.acked.is_none_or(|acked| acked + 1 < block))
            .map(|(client, _)| *client)
            .collect();
        for client in clients.into_iter().take(QUESTIONS_PER_STEP) {
            self.ask(now, client, block, context);
        }
    }

    /// Asks, by a unicast block, openers whose state is not known and who were not asked just now.
    fn ask_silent(&mut self, now: Time, block: u16, context: &mut Context) {
        let due = |opener: &Opener| {
            opener.questions < QUESTIONS_MAX
                && !opener.repair.is_under_way()
                && (block == self.last || self.unsure(opener))
                && opener.asked_at.is_none_or(|at| now.since(at) >= patience(opener.questions))
        };
        let clients: Vec<_> =
            self.openers.iter().filter(|(_, o)| due(o)).map(|(client, _)| *client).collect();
        for client in clients.into_iter().take(QUESTIONS_PER_STEP) {
            self.ask(now, client, block, context);
        }
        // The timer runs from here even if nobody was due.
        self.sent_at = now;
    }

    /// As soon as nothing holds the last block back, those who lack nothing else get it, before newcomers get theirs:
    /// else a stream of newcomers would keep the first from ever booting. True if it went out.
    pub(super) fn release_last(&mut self, now: Time, hold: bool, context: &mut Context) -> bool {
        let waits = |opener: &Opener| opener.acked.is_some() && opener.lacks.first() == Some(self.last);
        let waiting = self.openers.iter().filter(|(_, opener)| !hold && self.last > 1 && waits(opener));
        let Some((client, _)) = waiting.min_by_key(|(_, opener)| opener.turn) else { return false };
        let (client, block) = (*client, self.last);
        self.clock = Clock::Master(MasterClient { client, block, heard_at: now, tries: 0, paced: 0 });
        self.ahead.restart();
        self.ahead.sent(now, block);
        self.multicast(now, block, context);
        true
    }

    /// Nobody is known to lack anything before the last block: asks who was not heard of, then sends the last one,
    /// then waits for its ACKs.
    pub(super) fn finish(&mut self, now: Time, hold: bool, context: &mut Context) {
        if hold {
            let block = self.last.saturating_sub(1).max(1);
            return self.ask_silent(now, block, context);
        }
        if self.openers.values().any(|opener| !opener.lacks.contains(self.last)) {
            // The answer to the last question may be on its way.
            let exhausted = |o: &Opener| {
                o.questions >= QUESTIONS_MAX
                    && !o.lacks.contains(self.last)
                    && o.asked_at.is_none_or(|at| now.since(at) >= patience(o.questions))
            };
            let gone: Vec<_> = self.openers.iter().filter(|(_, o)| exhausted(o)).map(|(c, _)| *c).collect();
            for client in gone {
                self.lose(client);
            }
        }
        if self.openers.values().any(|opener| opener.lacks.contains(self.last)) {
            self.multicast(now, self.last, context);
            for opener in self.openers.values_mut() {
                opener.asked_at = Some(now);
            }
            return;
        }
        self.ask_silent(now, self.last, context);
    }

    /// When those who have all but the last block get it, whoever may lack what: those who were just asked have time to answer.
    fn waits_until(&self) -> Option<Time> {
        let since = self.held_since?;
        let asked = self.openers.values().filter(|opener| opener.questions == 1 && self.unsure(opener));
        let since = asked.filter_map(|opener| opener.asked_at).fold(since, Time::max);
        Some(since + self.round_trip.resend_after(ANSWER_FIRST, RESEND_MIN, SILENCE_MAX))
    }

    /// When this one gets the last block alone, if it has all others.
    fn alone_at(&self, opener: &Opener, waits_until: Time) -> Option<Time> {
        if opener.acked != Some(self.last - 1) || opener.questions >= QUESTIONS_MAX {
            return None;
        }
        let again = opener.resend_after().saturating_mul(1 << opener.questions);
        Some(opener.alone_at.map_or(waits_until, |at| at + again).max(waits_until))
    }

    pub(super) fn alone_deadline(&self) -> Option<Deadline> {
        let waits_until = self.waits_until()?;
        let at = self.openers.values().filter_map(|opener| self.alone_at(opener, waits_until)).min()?;
        Some(Deadline { at, why: "the last block is held back" })
    }

    /// Who has all but the last block gets it by unicast: others need longer. Their timers run on.
    pub(super) fn release_alone(&mut self, now: Time, context: &mut Context) {
        let Some(waits_until) = self.waits_until().filter(|at| *at <= now) else { return };
        let due = |opener: &Opener| self.alone_at(opener, waits_until).is_some_and(|at| at <= now);
        let clients: Vec<_> =
            self.openers.iter().filter(|(_, opener)| due(opener)).map(|(client, _)| *client).collect();
        let sent_at = self.sent_at;
        for client in clients.into_iter().take(QUESTIONS_PER_STEP) {
            context.count("session", "last_alone");
            if let Some(opener) = self.openers.get_mut(&client) {
                opener.alone_at = Some(now);
            }
            self.ask(now, client, self.last, context);
        }
        self.sent_at = sent_at;
    }
}
