//! Early clear: nobody has to wait for silence where everybody says *clear* (races.md T11).
//!
//! A claimant asks every living server by word, beside its query. Who has nothing against it says so; who asks for the
//! same address with the lesser key gives it up first (Y2), so of two claimants that hear each other one at the most is
//! told *clear* by the other. When all have said it, silence has nothing to add, and clearing ends.
//!
//! * That rests on knowing who lives. So it is done only by a member that has joined and hears the others, and when nobody
//!   who speaks only the frozen packet has been heard for 24 h: by a process that listened for so long, or that followed
//!   one which had, with hardly a gap ([`listening`](super::listening)).
//! * An answer is worth nothing once those who gave it may take us for dead: a process that was stopped between two
//!   answers starts over ([`EARLY_LIVES`] is far less than they need to think so).
//! * What is lost is asked again after [`EARLY_RETRY_FIRST`], then twice as long each time, of each that has not answered. Who never answers costs us what it
//!   always was: the full schedule, which goes on beside this.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::Time;
use peers::domain::Standing as DomainStanding;
use wire::clear::{ClearAnswer, ClearAsk, ClearVerdict};
use wire::control::Message;
use wire::{Content, GroupAddr, ServerId};

use super::claims::ClaimKey;
use super::predicate::{Standing, Verdict, judge};
use super::{Engine, Timer};
use crate::limits::{EARLY_LIVES, EARLY_RETRY_FIRST, EARLY_RETRY_MAX};

/// One attempt to be told *clear* by all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Early {
    group: GroupAddr,
    nonce: u64,
    began_at: Time,
    said: BTreeSet<ServerId>,
    /// From the last question to the next.
    gap: Duration,
}

impl Engine {
    /// Whether all who might object can be asked by word now.
    pub(super) fn may_clear_early(&self, now: Time) -> bool {
        // Whose records lack something answers for itself all the same.
        matches!(self.domain.standing(now), DomainStanding::Joined | DomainStanding::Comparing)
            && self.domain.is_settled(now)
            && !self.domain.is_deaf(now)
            && self.listening.covers(now, self.config.legacy.unheard)
            && self.config.legacy.peers.is_empty()
            && !self.domain.hellos().has_strangers(now)
    }

    /// A query went out: the same question by word, unless the last one is still open.
    pub(super) fn ask_early(&mut self, now: Time, key: &ClaimKey) {
        let at = self.claims.get(key).and_then(|claim| claim.state.placement());
        let Some(group) = at.map(|at| at.group).filter(|_| self.may_clear_early(now)) else { return };
        let open = self.early.get(key);
        if open.is_some_and(|early| early.group == group && now.since(early.began_at) < EARLY_LIVES) {
            return;
        }
        let early = Early {
            group,
            nonce: self.draw.bits(),
            began_at: now,
            said: BTreeSet::new(),
            gap: EARLY_RETRY_FIRST,
        };
        let ask = ClearAsk { group, content: key.content.clone(), nonce: early.nonce };
        self.early.insert(key.clone(), early);
        self.counters.add("clear", "asked", 1);
        self.send_control(self.config.group(), Message::ClearAsk(ask.clone()));
        // Those beyond the link do not hear that.
        let beyond: Vec<SocketAddrV4> = self
            .living_servers(now)
            .filter(|(_, control)| !self.config.is_on_link(*control.ip()))
            .map(|(_, control)| control)
            .collect();
        for to in beyond {
            self.send_control(to, Message::ClearAsk(ask.clone()));
        }
        self.timers.arm(Timer::Early(key.clone()), now + EARLY_RETRY_FIRST, "clear to be asked for again");
    }

    /// Who has not answered is asked again, alone.
    pub(super) fn on_early_due(&mut self, now: Time, key: &ClaimKey) {
        let clears = self
            .claims
            .get(key)
            .and_then(|claim| claim.state.clearing().and(claim.state.placement()).map(|at| at.group));
        let Some(early) = self.early.get(key) else { return };
        if clears != Some(early.group) || now.since(early.began_at) >= EARLY_LIVES {
            self.early.remove(key);
            return;
        }
        let ask = ClearAsk { group: early.group, content: key.content.clone(), nonce: early.nonce };
        let silent: Vec<SocketAddrV4> = self.unanswered(now, early).map(|(_, control)| control).collect();
        self.counters.add("clear", "asked_again", silent.len() as u64);
        for to in silent {
            self.send_control(to, Message::ClearAsk(ask.clone()));
        }
        if let Some(early) = self.early.get_mut(key) {
            early.gap = (early.gap * 2).min(EARLY_RETRY_MAX);
            let at = now + early.gap;
            self.timers.arm(Timer::Early(key.clone()), at, "clear to be asked for again");
        }
    }

    fn unanswered<'a>(
        &'a self,
        now: Time,
        early: &'a Early,
    ) -> impl Iterator<Item = (ServerId, SocketAddrV4)> + 'a {
        self.living_servers(now).filter(|(server, _)| !early.said.contains(server))
    }

    /// Whoever says hello, of whichever domain: all of them can object.
    fn living_servers(&self, now: Time) -> impl Iterator<Item = (ServerId, SocketAddrV4)> + '_ {
        let living = self.domain.hellos().status(now).filter(|peer| peer.living);
        living.map(|peer| (peer.server, peer.control))
    }

    /// Somebody asks us.
    pub(super) fn on_clear_ask(&mut self, now: Time, from: SocketAddrV4, ask: &ClearAsk) {
        if !self.answers.allows(now, *from.ip()) {
            return self.over_rate("dropped.clear", *from.ip());
        }
        self.overheard.hear(now, ask.group, &ask.content);
        if ask.group == self.config.pinned.group {
            self.turns.hear(now, &ask.content);
        }
        let verdict = self.verdict_on(now, from, ask.group, &ask.content);
        self.counters.add("clear", if verdict == ClearVerdict::Clear { "said" } else { "refused" }, 1);
        let answer = ClearAnswer { group: ask.group, nonce: ask.nonce, verdict };
        self.send_control(from, Message::ClearAnswer(answer));
    }

    fn verdict_on(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        group: GroupAddr,
        content: &Content,
    ) -> ClearVerdict {
        let rests = self.claims.rest(group).is_some_and(|rest| rest.content != *content);
        if rests || self.knows_holder(now, group, content).is_some() {
            return ClearVerdict::Taken;
        }
        let Some(claim) = self.claims.on(group) else { return ClearVerdict::Clear };
        let (key, Some(standing)) = (claim.key.clone(), claim.state.standing()) else {
            return ClearVerdict::Clear;
        };
        match judge(standing, &key.content, content) {
            Verdict::Silent => ClearVerdict::Clear,
            Verdict::Defend => ClearVerdict::Taken,
            Verdict::DefendLoudly => {
                if key.pinned {
                    self.turns.refuse(now, content);
                }
                self.announce_soon(now, &key);
                ClearVerdict::Taken
            }
            Verdict::Yield => {
                debug_assert_eq!(standing, Standing::Pending, "a committed claim never yields to a question");
                self.counters.add("clearing", "yielded", 1);
                self.on_refused(now, &key, *from.ip(), false);
                ClearVerdict::Clear
            }
        }
    }

    /// Somebody answers us.
    pub(super) fn on_clear_answer(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        sender: ServerId,
        answer: &ClearAnswer,
    ) {
        let asked = self.early.iter().find(|(_, early)| {
            early.nonce == answer.nonce
                && early.group == answer.group
                && now.since(early.began_at) < EARLY_LIVES
        });
        let Some(key) = asked.map(|(key, _)| key.clone()) else {
            return self.counters.add("dropped.clear", "nothing_asked", 1);
        };
        let clears = self.claims.get(&key).is_some_and(|claim| {
            claim.state.clearing().is_some()
                && claim.state.placement().is_some_and(|at| at.group == answer.group)
        });
        if !clears {
            self.early.remove(&key);
            return self.counters.add("dropped.clear", "nothing_asked", 1);
        }
        match answer.verdict {
            ClearVerdict::Taken => {
                self.early.remove(&key);
                let pending = self.claims.get(&key).and_then(|claim| claim.state.standing());
                // From before a restart the claim is committed: the query and its echo settle it (Y4, Y7).
                if pending == Some(Standing::Pending) {
                    self.on_refused(now, &key, *from.ip(), false);
                }
            }
            ClearVerdict::Clear => {
                let known = self.domain.hellos().peer(sender, now).is_some_and(|peer| peer.living);
                let Some(early) = self.early.get_mut(&key).filter(|_| known) else {
                    return self.counters.add("dropped.clear", "stranger", 1);
                };
                early.said.insert(sender);
                let all =
                    self.early.get(&key).is_some_and(|early| self.unanswered(now, early).next().is_none());
                if all && self.may_clear_early(now) {
                    self.early.remove(&key);
                    self.counters.add("clear", "early", 1);
                    self.on_clear(now, &key);
                }
            }
        }
    }
}
