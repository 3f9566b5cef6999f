//! One office and who holds it: the engine of every election here. What differs from one election to the next is what the
//! office is, the index (the lesser wins; a reversed one where the greater shall), and how long the timers are; all that is
//! the caller's.
//!
//! ```text
//!            the holder does not work,               own timer has run out (R001.10): first message
//!            or there is none (R001.10)
//!  standing by ─────────────────────────► waiting ──────────────────────────────────────────► holding
//!       ▲  ▲                                 │                                                  │  ▲
//!       │  └─────────────────────────────────┘                                                  │  │ first message of a
//!       │    it works after all; a first or second message of another one (R001.16, R001.21)    │  │ greater index:
//!       └───────────────────────────────────────────────────────────────────────────────────────┘  │ second message
//!            first message of a lesser index, second message of a greater term (R001.17, R001.23)  └──┘ (R001.22)
//! ```
//!
//! A *term* is (epoch, index, server). The greater epoch wins; of one epoch the lesser index (R001.18), then the lesser name.
//! The epoch is what the source lacks: without it a holder that was cut off would be back in office with the first message
//! it sends, and nobody could tell an old message from a new one. Who declares itself takes an epoch above all that it has
//! heard of. Between a holder and who declares itself against it the index decides, as in the source, and the winner goes
//! above both epochs.
//!
//! Who is cut off takes the others for dead, and would come back with the greater epoch each time. So epochs that stand are
//! even, and whoever hears few or none of the others declares itself *for the time being*, with the odd one below. It is
//! accepted by those who wait as well, and gives way to all that stands when the others are heard again.

use driver::Time;
use wire::ServerId;

use crate::limits::{EPOCH_JUMP_MAX, EPOCH_MAX};

/// By what right a server holds an office.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term<I> {
    /// Rises with every change of the holder; 0 is before the first, odd is for the time being.
    pub epoch: u32,
    /// The server's place among the candidates.
    pub index: I,
    /// Who.
    pub server: ServerId,
}

impl<I: Ord> Term<I> {
    /// Whether this one holds, of the two.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        (self.epoch, &other.index, other.server) > (other.epoch, &self.index, self.server)
    }

    fn is_better(&self, other: &Self) -> bool {
        (&self.index, self.server) < (&other.index, other.server)
    }
}

/// Where a server stands with regard to an office.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Another one holds it, or nobody.
    StandingBy,
    /// The holder does not work; if nobody else has declared itself by then, we do.
    Waiting {
        /// When.
        until: Time,
    },
    /// We hold it.
    Holding,
}

/// What a message of another server came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<I> {
    /// The sender holds the office from now on.
    Accepted {
        /// Whether we did before.
        deposed: bool,
    },
    /// We knew.
    Known,
    /// We hold the office, and tell everybody: a second message is due, with this term of ours.
    Revoked(Term<I>),
    /// An old term: nothing changed.
    Stale,
    /// An epoch that nobody can have come to: nothing changed.
    Absurd,
}

/// An office.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Office<I> {
    me: ServerId,
    index: I,
    state: State,
    holder: Option<Term<I>>,
    /// Since when that one holds it, or since when nobody does.
    since: Time,
    /// The greatest epoch heard of.
    epoch: u32,
}

impl<I: Ord + Copy> Office<I> {
    /// Nobody holds it, as far as we know.
    #[must_use]
    pub fn new(me: ServerId, index: I, now: Time) -> Self {
        Self { me, index, state: State::StandingBy, holder: None, since: now, epoch: 0 }
    }

    /// Where we stand.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether we hold it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.state == State::Holding
    }

    /// Who holds it, ourselves perhaps, working or not.
    #[must_use]
    pub fn holder(&self) -> Option<&Term<I>> {
        self.holder.as_ref()
    }

    /// Since when that one holds it, or since when nobody does.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// Our index.
    #[must_use]
    pub fn index(&self) -> I {
        self.index
    }

    /// Our index is another one from now on; who holds the office holds it.
    pub fn set_index(&mut self, index: I) {
        self.index = index;
        if let Some(holder) = self.holder.as_mut().filter(|holder| holder.server == self.me) {
            holder.index = index;
        }
    }

    /// The holder does not work, or there is none: our own timer starts, unless it runs (R001.10).
    pub fn wait(&mut self, now: Time, delay: std::time::Duration) {
        if self.state == State::StandingBy {
            self.state = State::Waiting { until: now + delay };
        }
    }

    /// The holder works after all: our own timer stops.
    pub fn stand_by(&mut self) {
        if matches!(self.state, State::Waiting { .. }) {
            self.state = State::StandingBy;
        }
    }

    /// If our own timer has run out we hold the office, and the first message is due with this term (R001.10, R001.11).
    pub fn on_timeout(&mut self, now: Time, for_now: bool) -> Option<Term<I>> {
        let State::Waiting { until } = self.state else { return None };
        if until <= now { self.declare(now, for_now) } else { None }
    }

    /// We hold the office from now on, whoever did; the first message is due with this term. `for_now`: only until others
    /// are heard again. `None` at the end of all epochs, after four thousand million changes: nothing changed.
    pub fn declare(&mut self, now: Time, for_now: bool) -> Option<Term<I>> {
        let epoch = if for_now { self.epoch.saturating_sub(1) | 1 } else { next_epoch(self.epoch)? };
        Some(self.hold(now, epoch))
    }

    fn hold(&mut self, now: Time, epoch: u32) -> Term<I> {
        let term = Term { epoch, index: self.index, server: self.me };
        if !self.is_ours() {
            self.since = now;
        }
        (self.state, self.holder) = (State::Holding, Some(term));
        self.epoch = self.epoch.max(epoch);
        term
    }

    /// Nobody holds the office, as far as we know: the holder has left, or we slept and know nothing.
    pub fn vacate(&mut self, now: Time) {
        (self.state, self.holder, self.since) = (State::StandingBy, None, now);
    }

    /// Somebody held it in that epoch, who is of no interest otherwise. An epoch that is too far ahead is not believed.
    pub fn hear_of(&mut self, epoch: u32) {
        if !self.is_absurd(epoch) {
            self.epoch = self.epoch.max(epoch);
        }
    }

    fn is_absurd(&self, epoch: u32) -> bool {
        epoch > EPOCH_MAX || epoch > self.epoch.saturating_add(EPOCH_JUMP_MAX)
    }

    /// A first message: somebody declares itself (R001.14–R001.18).
    pub fn on_first(&mut self, now: Time, theirs: Term<I>) -> Verdict<I> {
        if self.is_absurd(theirs.epoch) {
            return Verdict::Absurd;
        }
        let Some(ours) = self.holder.filter(|_| self.is_ours()) else { return self.on_second(now, theirs) };
        if theirs.epoch < ours.epoch || (theirs.epoch == ours.epoch && ours.beats(&theirs)) {
            // It has not heard of us.
            return Verdict::Revoked(ours);
        }
        match next_epoch(theirs.epoch).filter(|_| ours.is_better(&theirs) && !is_for_now(ours.epoch)) {
            Some(above) => Verdict::Revoked(self.hold(now, above)),
            None => self.accept(now, theirs),
        }
    }

    /// A second message: somebody says that it holds the office (R001.23).
    pub fn on_second(&mut self, now: Time, theirs: Term<I>) -> Verdict<I> {
        let verdict = self.on_record(now, theirs);
        if verdict == Verdict::Known {
            // Who says so lives.
            self.stand_by();
        }
        verdict
    }

    /// A record says that somebody holds the office; it may have said so before it fell silent.
    pub fn on_record(&mut self, now: Time, theirs: Term<I>) -> Verdict<I> {
        if self.is_absurd(theirs.epoch) { Verdict::Absurd } else { self.weigh(now, theirs) }
    }

    fn weigh(&mut self, now: Time, theirs: Term<I>) -> Verdict<I> {
        match self.holder {
            Some(ours) if self.is_ours() && ours.beats(&theirs) => Verdict::Revoked(ours),
            Some(known) if known == theirs => Verdict::Known,
            // Its index has changed.
            Some(known) if known.server == theirs.server && known.epoch == theirs.epoch => {
                self.holder = Some(theirs);
                Verdict::Known
            }
            Some(known) if theirs.beats(&known) => self.accept(now, theirs),
            Some(_) if self.state == State::StandingBy => Verdict::Stale,
            // Who holds it does not work, or nobody does; but somebody did, later than that.
            Some(_) | None if theirs.epoch < self.epoch.saturating_sub(1) | 1 => Verdict::Stale,
            Some(_) | None => self.accept(now, theirs),
        }
    }

    fn accept(&mut self, now: Time, theirs: Term<I>) -> Verdict<I> {
        let deposed = self.is_ours();
        (self.state, self.holder, self.since) = (State::StandingBy, Some(theirs), now);
        self.epoch = self.epoch.max(theirs.epoch);
        Verdict::Accepted { deposed }
    }
}

/// The next one that stands.
fn next_epoch(epoch: u32) -> Option<u32> {
    epoch.checked_add(2).map(|epoch| epoch & !1).filter(|epoch| *epoch <= EPOCH_MAX)
}

fn is_for_now(epoch: u32) -> bool {
    !epoch.is_multiple_of(2)
}

#[cfg(test)]
mod tests;
