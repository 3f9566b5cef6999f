//! How a claim moves through its life. The states and their picture are in [`claims`](super::claims).

use std::time::Duration;

use driver::{Role, Time, Wall};
use wire::GroupAddr;
use wire::Stamp;
use wire::query::{Opcode, Query};

use super::backoff::Pause;
use super::claims::{Basis, Claim, ClaimKey, Commitment, Placement, Rest, State, StateName};
use super::clearing::{Clearing, Due, Schedule};
use super::event::Event;
use super::picking::Pick;
use super::requests::Subject;
use super::wants::Wanted;
use super::{Action, Change, ClaimRecord, Engine, Journal, Ticket, Timer};
use crate::limits::{
    ALIVE_RECENT_MS, ANNOUNCE_FIRST, ANNOUNCE_INTERVAL, ANNOUNCE_JITTER, CANDIDATES_MAX, CLAIM_ACK_MAX,
    EXHAUSTED_PAUSE, HANDOUT_LIFETIME, PINNED_CHECK, PINNED_RETRIES, PINNED_RETRY_JITTER, QUERY_INTERVAL,
    REST, REST_PINNED, SHARE_AFTER, SHARE_WAIT, SLICE_RETRY, START_JITTER,
};

impl Engine {
    /// Moves a claim and arms its timer.
    pub(super) fn set_state(&mut self, now: Time, key: &ClaimKey, state: State) {
        let (at, why) = state.due_at();
        let wall = self.wall_at(now);
        self.claims.set_state(key, state, wall);
        self.unpublished.insert(key.clone());
        self.timers.arm(Timer::Claim(key.clone()), at, why);
    }

    /// Makes sure that there is a claim for the content: share first, else begin (G9).
    pub(super) fn want(&mut self, now: Time, wanted: &Wanted, urgent: bool) {
        let key = &wanted.key;
        if let Some(claim) = self.claims.get_mut(key) {
            if urgent {
                claim.asked_at = Some(now);
            }
            match &mut claim.state {
                State::Clearing { clearing, .. } | State::Rechecking { clearing, .. } if urgent => {
                    clearing.hurry();
                    let (at, why) = claim.state.due_at();
                    self.timers.arm(Timer::Claim(key.clone()), at, why);
                }
                State::Draining { .. } if !claim.leaves => self.undrain(now, key),
                State::Draining { .. }
                | State::Waiting { .. }
                | State::Clearing { .. }
                | State::Rechecking { .. }
                | State::Recording { .. }
                | State::Configuring { .. }
                | State::Held { .. } => {}
            }
            return;
        }
        let claim = Claim {
            key: key.clone(),
            boot_item: wanted.boot_item,
            item: wanted.item.to_string(),
            state: State::Waiting { until: now, soon: false },
            since: self.wall_at(now),
            basis: None,
            candidate: 0,
            refusals: 0,
            told_at: None,
            asked_at: urgent.then_some(now),
            elsewhere: None,
            cleared: false,
            leaves: false,
            referenced: None,
        };
        self.claims.insert(claim);
        self.begin_clearing(now, key, if urgent { Schedule::Foreground } else { Schedule::Background });
    }

    /// Clears the next candidate, or waits if there is none.
    pub(super) fn begin_clearing(&mut self, now: Time, key: &ClaimKey, schedule: Schedule) {
        if key.pinned && self.turns.must_wait(now, &key.content) {
            return self.set_state(now, key, State::Waiting { until: now + PINNED_CHECK, soon: false });
        }
        if self.share_first(now, key) {
            return;
        }
        match self.pick(now, key) {
            Pick::Free(at) => self.start_clearing(now, key, at, self.basis(), schedule),
            Pick::Lendable(at, owner) => self.ask_loan(now, key, at, owner),
            Pick::Later => {
                // At the start it is only a moment.
                let soon = !self.domain.is_settled(now);
                self.set_state(now, key, State::Waiting { until: now + SLICE_RETRY, soon });
                self.unsettle();
            }
            Pick::Nothing if key.pinned => self.wait(now, key),
            // Everything in the pool is taken or marked (G22).
            Pick::Nothing => self.on_exhausted(now, key),
        }
    }

    pub(super) fn start_clearing(
        &mut self,
        now: Time,
        key: &ClaimKey,
        at: Placement,
        basis: Basis,
        schedule: Schedule,
    ) {
        self.counters.add("clearing", "started", 1);
        self.tell(Event::Clearing { group: at.group, content: key.content.clone() });
        // Who is told *clear* has no need to be out of step.
        let early = self.may_clear_early(now);
        let jitter = if early { Duration::ZERO } else { self.draw.jitter(START_JITTER) };
        let clearing = Clearing::new(self.plan(now, schedule), now + jitter);
        if let Some(claim) = self.claims.get_mut(key) {
            claim.basis = Some(basis);
        }
        self.early.remove(key);
        self.set_state(now, key, State::Clearing { at, clearing });
    }

    /// How fast an address is to be found for the claim: a client may be waiting.
    pub(super) fn schedule_of(&self, now: Time, key: &ClaimKey) -> Schedule {
        let asked_at = self.claims.get(key).and_then(|claim| claim.asked_at);
        let hurried = asked_at.is_some_and(|asked_at| now.since(asked_at) < HANDOUT_LIFETIME);
        if hurried { Schedule::Foreground } else { Schedule::Background }
    }

    /// The next candidate.
    pub(super) fn try_again(&mut self, now: Time, key: &ClaimKey) {
        let schedule = self.schedule_of(now, key);
        self.begin_clearing(now, key, schedule);
    }

    /// The right to that address has ended before it was committed: it is asked for anew, if it is ours now, or another.
    pub(super) fn begin_again(&mut self, now: Time, key: &ClaimKey, group: GroupAddr) {
        self.counters.add("clearing", "begun_again", 1);
        let at = self.claims.get(key).and_then(|claim| claim.state.placement());
        if let Some(at) = at.filter(|_| self.is_in_our_slice(group) && !self.is_lent(group)) {
            return self.start_clearing(now, key, at, self.basis(), self.schedule_of(now, key));
        }
        let shared = self.shareable(now, key).map(|(_, at)| at.group);
        let referenced = self.claims.get(key).and_then(|claim| claim.referenced);
        if shared.is_none() || shared != referenced {
            self.abandon_reference(now, key);
        }
        self.try_again(now, key);
    }

    pub(super) fn on_exhausted(&mut self, now: Time, key: &ClaimKey) {
        if let Some(claim) = self.claims.get_mut(key) {
            claim.refusals = 0;
        }
        self.counters.add("clearing", "exhausted", 1);
        self.tell(Event::Exhausted { content: key.content.clone() });
        self.wait(now, key);
    }

    /// No address for now: P1 for the pinned tuple, a pause after too many refusals for the others (G22).
    pub(super) fn wait(&mut self, now: Time, key: &ClaimKey) {
        let refusals = self.claims.get(key).map_or(0, |claim| claim.refusals);
        let pause = if key.pinned {
            let step = refusals.saturating_sub(1).min(PINNED_RETRIES.len() - 1);
            let base = PINNED_RETRIES.get(step).copied().unwrap_or_default();
            if step + 1 == PINNED_RETRIES.len() {
                base.saturating_sub(PINNED_RETRY_JITTER) + self.draw.jitter(PINNED_RETRY_JITTER * 2)
            } else {
                base
            }
        } else {
            EXHAUSTED_PAUSE
        };
        self.set_state(now, key, State::Waiting { until: now + pause, soon: false });
        self.unsettle();
    }

    /// The claim's own time has come.
    pub(super) fn on_claim_due(&mut self, now: Time, key: &ClaimKey) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        match &mut claim.state {
            State::Waiting { until, soon } => {
                let soon = *soon;
                let asked = claim.asked_at.is_some_and(|asked_at| asked_at + HANDOUT_LIFETIME > *until);
                // P1: a refused claimant asks again while its clients ask; so does one that never asked yet.
                let again = !key.pinned || asked || claim.refusals == 0;
                if self.loans.is_asked(key) {
                    self.counters.add("loan", "unanswered", 1);
                    self.on_loan_refused(now, key, false);
                } else if soon {
                    self.try_again(now, key);
                } else if again {
                    self.begin_clearing(now, key, Schedule::Background);
                }
            }
            State::Clearing { clearing, .. } | State::Rechecking { clearing, .. } => {
                match clearing.poll(now) {
                    Due::Clear => self.on_clear(now, key),
                    Due::Query => self.ask_peers(now, key),
                    Due::Nothing => self.rearm(key),
                }
            }
            State::Recording { .. } => self.announce_if_due(now, key),
            State::Configuring { commitment, retry_at } => {
                let commitment = *commitment;
                if *retry_at <= now {
                    // What the store has stays as it is.
                    *retry_at = now + CLAIM_ACK_MAX;
                    self.renew(now, key, commitment);
                }
                self.announce_if_due(now, key);
            }
            State::Held { commitment, renew_at, .. } => {
                let (commitment, due) = (*commitment, *renew_at <= now);
                if due {
                    self.renew(now, key, commitment);
                }
                self.announce_if_due(now, key);
            }
            State::Draining { commitment, .. } => {
                let group = commitment.at.group;
                self.delete_reference(now, key, group);
            }
        }
    }

    /// The window is over and nobody objected, or everybody has said that there is nothing to wait for.
    pub(super) fn on_clear(&mut self, now: Time, key: &ClaimKey) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        match &claim.state {
            State::Clearing { at, .. } => {
                let at = *at;
                if !self.may_commit(now, key, at.group) {
                    return self.begin_again(now, key, at.group);
                }
                // Nobody objected whom we hear; but the domain knows who has it, and may only be cut off from us (G5).
                match self.knows_holder(now, at.group, &key.content) {
                    Some(by) => self.on_refused(now, key, by, true),
                    None => self.commit(now, key, at),
                }
            }
            State::Rechecking { commitment, .. } => {
                let commitment = *commitment;
                if self.is_contested(key) {
                    // Not a clean round: somebody has echoed, and it is open who keeps the address.
                    return self.recheck(now, key, commitment);
                }
                if let Some(claim) = self.claims.get_mut(key) {
                    claim.cleared = true;
                }
                self.configure(now, key, commitment);
            }
            State::Waiting { .. }
            | State::Recording { .. }
            | State::Configuring { .. }
            | State::Held { .. }
            | State::Draining { .. } => {}
        }
    }

    pub(super) fn recheck(&mut self, now: Time, key: &ClaimKey, commitment: Commitment) {
        let clearing = Clearing::new(self.plan(now, Schedule::Background), now + QUERY_INTERVAL);
        self.set_state(now, key, State::Rechecking { commitment, clearing });
    }

    fn rearm(&mut self, key: &ClaimKey) {
        if let Some(claim) = self.claims.get(key) {
            let (at, why) = claim.state.due_at();
            self.timers.arm(Timer::Claim(key.clone()), at, why);
        }
    }

    fn ask_peers(&mut self, now: Time, key: &ClaimKey) {
        self.counters.add("query", "sent", 1);
        self.send_query(key);
        self.rearm(key);
        self.ask_early(now, key);
    }

    /// The query of a claim: asked while clearing, repeated as an announcement afterwards.
    pub(super) fn query_of(&self, claim: &Claim) -> Option<Query> {
        let at = claim.state.placement()?;
        Some(Query {
            content: claim.key.content.clone(),
            server_type: claim.boot_item.server_type,
            layer: claim.boot_item.layer,
            group: at.group,
            client_port: at.ports.client,
        })
    }

    fn send_query(&mut self, key: &ClaimKey) {
        let query = self.claims.get(key).and_then(|claim| self.query_of(claim));
        if let Some(query) = query {
            self.send(Role::Query, self.config.query, query.encode(Opcode::Query));
        }
    }

    fn announce_if_due(&mut self, now: Time, key: &ClaimKey) {
        let late = self.draw.jitter(ANNOUNCE_JITTER);
        let Some(commitment) = self.claims.get_mut(key).and_then(|claim| claim.state.commitment_mut()) else {
            return;
        };
        if commitment.announce_at <= now {
            let step = ANNOUNCE_FIRST.windows(2).map(|pair| pair.last().zip(pair.first()));
            let next = step.flatten().nth(commitment.announced).map(|(later, earlier)| *later - *earlier);
            commitment.announced += 1;
            commitment.announce_at = now + next.unwrap_or(ANNOUNCE_INTERVAL + late);
            self.counters.add("announcement", "sent", 1);
            self.send_query(key);
            if key.pinned {
                self.say_turn(now, key);
            }
        }
        self.rearm(key);
    }

    /// Nobody objected: the claim is committed from now on, and goes to the store before anybody hears of it.
    pub(super) fn commit(&mut self, now: Time, key: &ClaimKey, at: Placement) {
        let wall = self.wall_at(now);
        self.stamp_millis = wall.0.max(self.stamp_millis.saturating_add(1));
        let stamp = Stamp { millis: self.stamp_millis, sender: self.identity.server };
        let [first, ..] = ANNOUNCE_FIRST;
        let commitment = Commitment { at, stamp, announced: 0, announce_at: now + first };
        let ticket = self.draw_ticket();
        if let Some(claim) = self.claims.get_mut(key) {
            claim.cleared = true;
        }
        self.set_state(now, key, State::Recording { commitment, ticket });
        if let Some(record) = self.record_of(key) {
            self.out.push(Action::Persist(ticket, vec![Change::PutClaim(record)]));
        }
        if self.claims.rest(at.group).is_some() {
            // The same content again, or it would not have been picked.
            self.on_rest_over(at.group);
            self.timers.disarm(&Timer::Rest(at.group));
        }
        self.counters.add("claim", "committed", 1);
        self.tell(Event::Committed { group: at.group, content: key.content.clone() });
    }

    /// Writes the claim as it is now.
    pub(super) fn record(&mut self, key: &ClaimKey) {
        if let Some(record) = self.record_of(key) {
            self.persist(vec![Change::PutClaim(record)]);
        }
    }

    fn record_of(&self, key: &ClaimKey) -> Option<ClaimRecord> {
        let claim = self.claims.get(key)?;
        let commitment = claim.state.commitment()?;
        Some(ClaimRecord {
            key: key.clone(),
            at: commitment.at,
            boot_item: claim.boot_item,
            item: claim.item.clone(),
            state: claim.state.name(),
            stamp: commitment.stamp,
            since: claim.since,
        })
    }

    /// The store answered; if it was asked to record a claim, that claim goes on.
    pub(super) fn on_recorded(&mut self, now: Time, ticket: Ticket, stored: bool) {
        let waits =
            |claim: &&Claim| matches!(claim.state, State::Recording { ticket: own, .. } if own == ticket);
        let recorded = self.claims.iter().find(waits).map(|claim| claim.key.clone());
        let Some(key) = recorded else { return };
        let Some(commitment) = self.claims.get(&key).and_then(|claim| claim.state.commitment().copied())
        else {
            return;
        };
        if stored {
            self.configure(now, &key, commitment);
        } else {
            // Nothing was said to anybody: the address is free again, and the next attempt may find the disk mended.
            self.wait(now, &key);
        }
    }

    /// Somebody else has the address. `confirmed` if a statement said so and not an echo alone.
    pub(super) fn on_refused(&mut self, now: Time, key: &ClaimKey, by: std::net::Ipv4Addr, confirmed: bool) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        let Some(at) = claim.state.placement() else { return };
        // With a reference the record stays until that is deleted.
        let recorded = claim.state.commitment().is_some() && claim.referenced != Some(at.group);
        claim.refusals += 1;
        let refusals = claim.refusals;
        self.counters.add("clearing", "contested", 1);
        self.say_wait_again(key);
        self.tell(Event::Contested { group: at.group, content: key.content.clone(), by });
        self.end_request(&Subject::Configure(key.clone()));
        self.forget_contests(key);
        if recorded {
            self.persist(vec![Change::DropClaim(at.group)]);
        }
        self.abandon_reference(now, key);
        if key.pinned {
            return self.wait(now, key);
        }
        self.mark(now, at.group, confirmed);
        let pause = self.backoff.on_conflict(now);
        let tried_all = refusals >= usize::try_from(CANDIDATES_MAX).unwrap_or(usize::MAX);
        if tried_all || matches!(pause, Pause::Alarm(_)) {
            return self.on_exhausted(now, key);
        }
        if let Pause::Slow(span) = pause {
            self.counters.add("clearing", "slowed", 1);
            self.tell(Event::ManyConflicts { content: key.content.clone() });
            self.set_state(now, key, State::Waiting { until: now + span, soon: false });
            return self.unsettle();
        }
        self.try_again(now, key);
    }

    pub(super) fn mark(&mut self, now: Time, group: GroupAddr, confirmed: bool) {
        self.marks.expire(now);
        let until = self.marks.refuse(now, group, confirmed);
        let wall = Wall(self.wall_at(now).0 + u64::try_from(until.since(now).as_millis()).unwrap_or(0));
        let why = if confirmed { "held by another server" } else { "echoed by another server" };
        self.persist(vec![Change::PutMark(group, wall, why)]);
    }

    /// Another server has the content on another address: the one that comes first in the content's order stays, and
    /// the other drains into it (Y6). Two streams of one file would only cost twice.
    pub(super) fn share(&mut self, now: Time, query: &Query) {
        let key = ClaimKey { content: query.content.clone(), pinned: false };
        let Some(claim) = self.claims.get_mut(&key) else { return };
        let Some(at) = claim.state.placement() else { return };
        let pool = &self.config.pool;
        if at.group == query.group || !pool.holds(query.group) {
            return;
        }
        let (ours, theirs) = (pool.rank(&key.content, at.group), pool.rank(&key.content, query.group));
        if ours <= theirs {
            return self.announce_soon(now, &key);
        }
        if matches!(claim.state, State::Clearing { .. }) {
            if self.marks.is_marked(now, query.group) {
                return;
            }
            self.abandon_reference(now, &key);
            if self.is_in_our_slice(query.group) {
                if let Some(claim) = self.claims.get_mut(&key) {
                    claim.candidate = theirs;
                }
                return self.begin_clearing(now, &key, Schedule::Background);
            }
            // It will be told where the content is, or that one has lost it.
            let until = now + SHARE_WAIT;
            return self.set_state(now, &key, State::Waiting { until, soon: true });
        }
        // A question is no holder: only who repeats it after any clearing is over has the address.
        match claim.elsewhere {
            Some((group, since)) if group == query.group => {
                if now.since(since) >= SHARE_AFTER {
                    claim.leaves = true;
                    self.counters.add("claim", "drained_into_another", 1);
                    self.drain(now, &key);
                }
            }
            Some(_) | None => claim.elsewhere = Some((query.group, now)),
        }
    }

    /// Takes over what the store had (Y7, G24). Of an address that was left to somebody else only the reference is
    /// deleted; of two addresses of one content the one that drained goes the same way.
    pub(super) fn restore(&mut self, now: Time, journal: Journal) {
        let wall = self.wall_at(now);
        let recent = wall.0.saturating_sub(journal.last_alive.0) < ALIVE_RECENT_MS;
        let mut records = journal.claims;
        records.sort_by_key(|record| record.state == StateName::Draining);
        for record in records {
            self.stamp_millis = self.stamp_millis.max(record.stamp.millis);
            let is_left = record.state == StateName::Draining && record.stamp.millis == 0;
            if is_left || self.claims.get(&record.key).is_some() {
                self.delete_reference(now, &record.key, record.at.group);
                continue;
            }
            let [first, ..] = ANNOUNCE_FIRST;
            let commitment =
                Commitment { at: record.at, stamp: record.stamp, announced: 0, announce_at: now + first };
            let start_at = now + self.draw.jitter(START_JITTER);
            let clearing = Clearing::new(self.plan(now, Schedule::Background), start_at);
            let state = if recent {
                State::Rechecking { commitment, clearing }
            } else {
                State::Clearing { at: record.at, clearing }
            };
            let key = record.key.clone();
            self.claims.insert(Claim {
                key: record.key,
                boot_item: record.boot_item,
                item: record.item,
                state: State::Waiting { until: now, soon: false },
                since: record.since,
                basis: None,
                candidate: 0,
                refusals: 0,
                // However long ago the clock says that we died: it may have been set since.
                told_at: Some(now),
                asked_at: None,
                elsewhere: None,
                cleared: false,
                leaves: false,
                referenced: Some(record.at.group),
            });
            self.set_state(now, &key, state);
        }
        for (group, until) in journal.marks {
            let left = Duration::from_millis(until.0.saturating_sub(wall.0));
            self.marks.restore(now, group, now + left);
        }
        for (group, content, stamp) in journal.rests {
            let until = now + if group == self.config.pinned.group { REST_PINNED } else { REST };
            self.claims.put_rest(group, Rest { content, stamp, until });
            self.publish_rest(group);
            self.timers.arm(Timer::Rest(group), until, "rest is over");
        }
    }
}
