//! What becomes of the offices as time goes on: filled, taken over, given up.

use std::collections::BTreeSet;
use std::time::Duration;

use driver::Time;
use wire::ServerId;
use wire::control::Message;
use wire::elect::{Declare, SHARDS, Shard, Term as ToldTerm};

use super::candidate::Candidate;
use super::{CONFIRM_WITHIN, HOLD_DOWN, News, Output, Responders, To};
use crate::elect::State;
use crate::rendezvous::index;

impl Responders {
    /// Every office without anybody who works in it is waited for; the others are not any more.
    pub(super) fn look_at_offices(&mut self, now: Time) {
        let patience = self.patience();
        for shard in Shard::all() {
            let Some(office) = self.office(shard) else { continue };
            let (holder, since, state) = (office.holder().copied(), office.since(), office.state());
            let needs_another = match holder {
                Some(term) if term.server == self.me => continue,
                Some(term) => !self.may_stay(term.server),
                // Before we know what others know somebody may answer it.
                None => self.joined && now >= since + patience,
            };
            let delay = (needs_another && state == State::StandingBy)
                .then(|| self.election_delay(shard, holder.map(|term| term.server)));
            let Some(office) = self.office_mut(shard) else { continue };
            match delay {
                Some(delay) => office.wait(now, delay),
                None if needs_another => {}
                None => office.stand_by(),
            }
        }
    }

    /// Whether that server works, and wants to answer.
    fn may_stay(&self, server: ServerId) -> bool {
        let drained = |candidate: &Candidate| candidate.weight() == Some(0) && self.weight() > 0;
        self.candidates.get(&server).is_some_and(|candidate| candidate.works && !drained(candidate))
    }

    /// Our own timers that have run out.
    pub(super) fn declare_due(&mut self, now: Time) {
        let due: Vec<Shard> = Shard::all()
            .zip(&self.offices)
            .filter(|(_, office)| matches!(office.state(), State::Waiting { until } if until <= now))
            .map(|(shard, _)| shard)
            .collect();
        self.declare(now, &due);
    }

    /// Who has a better index than the responder takes over, when it has worked for long enough.
    pub(super) fn preempt(&mut self, now: Time) {
        if now.since(self.stable_since) < HOLD_DOWN || self.weight() == 0 {
            return;
        }
        let best: Vec<Shard> = Shard::all().filter(|shard| self.is_best(*shard)).collect();
        self.declare(now, &best);
    }

    /// Whether another one that works answers the shard, and none that works has a better index than we.
    fn is_best(&self, shard: Shard) -> bool {
        let Some(office) = self.office(shard).filter(|office| office.state() == State::StandingBy) else {
            return false;
        };
        let ours = (office.index(), self.me);
        let is_better = |server: &ServerId, candidate: &Candidate| {
            let weight = candidate.weight().filter(|_| candidate.works);
            weight.is_some_and(|weight| (index(shard, server, weight), *server) < ours)
        };
        office.holder().is_some_and(|term| ours < (term.index, term.server))
            && !self.candidates.iter().any(|(server, candidate)| is_better(server, candidate))
    }

    /// Whether we hear fewer than half of the others: they may be dead, or it is us that is not heard.
    fn is_cut_off(&self) -> bool {
        let working = self.candidates.values().filter(|candidate| candidate.works).count();
        working * 2 < self.candidates.len()
    }

    /// The first message: to all, and to those who answered the shards (R001.11).
    fn declare(&mut self, now: Time, shards: &[Shard]) {
        let (mut terms, mut before) = (Vec::new(), BTreeSet::new());
        let for_now = self.is_cut_off();
        for shard in shards {
            let Some(office) = self.office_mut(*shard) else { continue };
            let old = office.holder().map(|term| term.server);
            let Some(term) = office.declare(now, for_now) else { continue };
            terms.push((*shard, ToldTerm { epoch: term.epoch, index: term.index }));
            before.insert(old);
        }
        if terms.is_empty() {
            return;
        }
        let message = Message::Declare(Declare { shards: terms.clone() });
        self.count("declare", "sent");
        self.out.push_back(Output::Send(To::Link, message.clone()));
        let old = before.iter().flatten().filter_map(|server| self.candidates.get(server));
        let old: Vec<_> = old.map(Candidate::control).collect();
        self.out.extend(old.into_iter().map(|control| Output::Send(To::One(control), message.clone())));
        let from = before.iter().flatten().next().copied().filter(|_| before.len() == 1);
        self.out.push_back(Output::Tell(News::TookOver { shards: terms.len(), from }));
        self.unpublished = true;
    }

    /// Whoever answers a shard says so in its record: a responder that does not confirm what a message said has started
    /// anew, or the message was not its own.
    pub(super) fn audit(&mut self, now: Time) {
        self.take_up_all(now);
        let mut confirmed = [false; SHARDS as usize];
        for (server, candidate) in &self.candidates {
            for (shard, term) in &candidate.shards {
                let holder = self.office(*shard).and_then(|office| office.holder());
                if holder.is_some_and(|holder| holder.server == *server && holder.epoch <= term.epoch)
                    && let Some(it) = confirmed.get_mut(usize::from(shard.number()))
                {
                    *it = true;
                }
            }
        }
        let within = CONFIRM_WITHIN + self.interval().saturating_sub(Duration::from_millis(300));
        let mut unconfirmed = 0;
        for (office, confirmed) in self.offices.iter_mut().zip(confirmed) {
            let is_anothers = office.holder().is_some_and(|term| term.server != self.me);
            if is_anothers && !confirmed && now.since(office.since()) >= within {
                office.vacate(now);
                unconfirmed += 1;
            }
        }
        if unconfirmed > 0 {
            self.count("election", "unconfirmed");
            self.unsettled = true;
        }
    }
}
