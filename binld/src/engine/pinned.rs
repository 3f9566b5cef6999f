//! The pinned tuple: our holder of it, and our own contents that wait for it (P2–P4).

use std::net::SocketAddrV4;

use driver::Time;
use wire::Content;

use super::claims::{ClaimKey, State};
use super::event::Event;
use super::{Engine, Timer};
use crate::limits::{PINNED_CHECK, WAITER_SILENT};

impl Engine {
    /// Whether the turn of our holder of the pinned tuple is over (P2).
    pub(super) fn on_turn_due(&mut self, now: Time) {
        self.timers.arm(Timer::Turn, now + PINNED_CHECK, "turn on the pinned tuple to be looked at");
        // Contents of ours that our own clients ask for wait like those of others.
        let asks = |asked_at: Option<Time>| asked_at.is_some_and(|at| now.since(at) < WAITER_SILENT);
        let own = self.claims.iter().filter(|claim| {
            claim.key.pinned && matches!(claim.state, State::Waiting { .. }) && asks(claim.asked_at)
        });
        let own: Vec<Content> = own.map(|claim| claim.key.content.clone()).collect();
        own.iter().for_each(|content| self.turns.hear(now, content));
        let holder = self.claims.on(self.config.pinned.group).filter(|claim| claim.key.pinned);
        let Some(holder) = holder.filter(|claim| matches!(claim.state, State::Held { .. })) else { return };
        let (key, told_at) = (holder.key.clone(), holder.told_at);
        own.iter().for_each(|content| self.turns.refuse(now, content));
        if !self.turns.is_over(now, told_at) {
            return;
        }
        self.counters.add("claim", "turn_over", 1);
        self.turns.end(now, &key.content);
        self.tell(Event::TurnOver { content: key.content.clone(), waiting: self.turns.waiting(now) });
        if let Some(claim) = self.claims.get_mut(&key) {
            claim.leaves = true;
        }
        self.drain(now, &key);
    }

    /// The pinned tuple may be free for one of our own that waits for it.
    pub(super) fn wake_pinned(&mut self, now: Time) {
        if self.claims.on(self.config.pinned.group).is_some() {
            return;
        }
        let due = self.claims.iter().find(|claim| {
            claim.key.pinned && matches!(claim.state, State::Waiting { until, .. } if until <= now)
        });
        if let Some(key) = due.map(|claim| claim.key.clone()) {
            self.timers.arm(Timer::Claim(key), now, "pinned tuple may be free");
        }
    }

    /// Tells everybody who waits for the pinned tuple that this content has it now: its announcement cannot be told from
    /// a question (P4). Nobody answers.
    pub(super) fn say_turn(&mut self, now: Time, key: &ClaimKey) {
        let group = SocketAddrV4::new(*self.config.query.ip(), self.config.control_port);
        let held = self.claims.get(key).filter(|claim| matches!(claim.state, State::Held { .. }));
        if let Some(statement) = held.and_then(|claim| self.statement_of(now, claim)) {
            self.say(group, self.config.pinned.group, statement, Some(0));
        }
    }
}
