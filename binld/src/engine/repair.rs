//! A late conflict really repaired: two holders of one address settle who keeps it (Y4, Y5). The rule and its picture
//! are in [`contest`](super::contest).

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::Time;
use wire::control::Message;
use wire::hold::{Hold, HoldState};
use wire::{Content, GroupAddr};

use super::claims::{Claim, ClaimKey, State};
use super::contest::{Contest, ContestKey, Stage, Statement};
use super::event::Event;
use super::predicate::Standing;
use super::{Engine, Timer};
use crate::limits::{
    CONTESTS_MAX, DISPUTE_MAX, IN_USE, LEGACY_ECHO_GAP, LEGACY_ECHOES, MARK_SHORT, MUTE_KEEP, STATE_INTERVAL,
    STATEMENTS_MAX,
};

impl Engine {
    /// Whether somebody states that it has the claim's address, too: it is not handed out.
    pub(super) fn is_disputed(&self, key: &ClaimKey) -> bool {
        !self.contests.is_empty() && self.contests_of(key).any(|(_, contest)| contest.blocks())
    }

    /// Whether it is still open who keeps the claim's address.
    pub(super) fn is_contested(&self, key: &ClaimKey) -> bool {
        self.contests_of(key).any(|(_, contest)| !matches!(contest.stage, Stage::Mute { .. }))
    }

    /// With whom it is open who keeps the claim's address, and whether that keeps it from being handed out.
    pub(super) fn opponents(&self, key: &ClaimKey) -> impl Iterator<Item = (Ipv4Addr, bool)> {
        self.contests_of(key).map(|((_, opponent), contest)| (*opponent.ip(), contest.blocks()))
    }

    fn contests_of(&self, key: &ClaimKey) -> impl Iterator<Item = (&ContestKey, &Contest)> {
        let first = (key.clone(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        self.contests.range(first..).take_while(move |((other, _), _)| other == key)
    }

    /// Where statements for somebody are to go who sent from there on the query port: a boot server hears them on its
    /// control port, an MTFTP server on the port that it echoed from.
    pub(super) fn hears_statements_at(&self, from: SocketAddrV4) -> SocketAddrV4 {
        let port =
            if from.port() == self.config.query.port() { self.config.control_port } else { from.port() };
        SocketAddrV4::new(*from.ip(), port)
    }

    /// What we say of a claim of ours.
    pub(super) fn statement_of(&self, now: Time, claim: &Claim) -> Option<Statement> {
        let commitment = claim.state.commitment()?;
        let told = claim.told_at.is_some_and(|told_at| now.since(told_at) < IN_USE);
        let (state, in_use) = match claim.state.standing()? {
            // Until the MTFTP server has let go a session may run.
            Standing::Leaving => (HoldState::Draining, true),
            Standing::Pending | Standing::Committed => (HoldState::Committed, told),
        };
        Some(Statement { state, in_use, stamp: commitment.stamp, content: claim.key.content.clone() })
    }

    /// What we say of an address: of the claim on it, or of its rest.
    fn statement_on(&self, now: Time, group: GroupAddr, against: &Content) -> Option<Statement> {
        let claim = self.claims.on(group).filter(|claim| claim.key.content != *against);
        if let Some(statement) = claim.and_then(|claim| self.statement_of(now, claim)) {
            return Some(statement);
        }
        let rest = self.claims.rest(group).filter(|rest| rest.content != *against)?;
        let (state, content) = (HoldState::Resting, rest.content.clone());
        Some(Statement { state, in_use: false, stamp: rest.stamp, content })
    }

    pub(super) fn say(
        &mut self,
        to: SocketAddrV4,
        group: GroupAddr,
        it: Statement,
        answers: Option<u64>,
    ) -> u64 {
        let nonce = answers.unwrap_or_else(|| self.draw.bits());
        let Statement { state, in_use, stamp, content } = it;
        let hold = Hold { group, content, stamp, state, in_use, is_answer: answers.is_some(), nonce };
        self.counters.add("hold", "sent", 1);
        self.send_control(to, Message::Hold(hold));
        nonce
    }

    /// Says what a frozen packet cannot say to whoever asked for an address of ours (Y3).
    pub(super) fn say_hold(&mut self, now: Time, key: &ClaimKey, from: SocketAddrV4) {
        let to = self.hears_statements_at(from);
        let Some(claim) = self.claims.get(key) else { return };
        let group = claim.state.placement().map(|at| at.group);
        if let Some((group, statement)) = group.zip(self.statement_of(now, claim)) {
            self.say(to, group, statement, None);
        }
    }

    /// Somebody echoes what is committed here. That alone takes nothing from us; who it is shows when we ask.
    pub(super) fn on_late_echo(&mut self, now: Time, key: &ClaimKey, group: GroupAddr, from: SocketAddrV4) {
        self.counters.add("conflict", "late", 1);
        let by = *from.ip();
        self.tell(Event::LateConflict { group, content: key.content.clone(), by });
        let at = (key.clone(), self.hears_statements_at(from));
        if !self.contests.contains_key(&at) && self.contests.len() >= CONTESTS_MAX {
            return self.counters.add("dropped.echo", "too_many_contests", 1);
        }
        let listed = self.config.legacy.peers.contains(&by);
        let contest = self.contests.entry(at.clone()).or_insert_with(|| Contest::new(now, Stage::Asking));
        if contest.echoes == 0 || now.since(contest.echoed_at) >= LEGACY_ECHO_GAP {
            contest.echoes = contest.echoes.saturating_add(1);
            contest.echoed_at = now;
        }
        match contest.stage {
            Stage::Mute { .. } if listed && contest.echoes >= LEGACY_ECHOES => {
                return self.lose(now, key, at.1);
            }
            // Perhaps it was only away.
            Stage::Mute { .. } if !listed => {
                contest.stage = Stage::Asking;
                (contest.unanswered, contest.next_at) = (0, now);
            }
            Stage::Mute { .. } | Stage::Asking | Stage::Disputed { .. } => {}
        }
        self.arm_contest(&at);
    }

    pub(super) fn arm_contest(&mut self, at: &ContestKey) {
        let Some(contest) = self.contests.get(at) else { return };
        let next_at = match contest.stage {
            Stage::Mute { until } => until,
            Stage::Asking | Stage::Disputed { .. } => contest.next_at,
        };
        self.timers.arm(Timer::Contest(at.clone()), next_at, "statement due");
    }

    fn forget_contest(&mut self, at: &ContestKey) {
        self.contests.remove(at);
        self.timers.disarm(&Timer::Contest(at.clone()));
    }

    pub(super) fn forget_contests(&mut self, key: &ClaimKey) {
        let all: Vec<ContestKey> = self.contests_of(key).map(|(at, _)| at.clone()).collect();
        all.iter().for_each(|at| self.forget_contest(at));
    }

    /// A statement is due, or a contest is over.
    pub(super) fn on_contest_due(&mut self, now: Time, at: &ContestKey) {
        let (key, to) = at;
        let Some(claim) = self.claims.get(key).filter(|it| it.state.standing() == Some(Standing::Committed))
        else {
            return self.forget_contest(at);
        };
        let ours = self.statement_of(now, claim);
        let group = claim.state.placement().map(|placement| placement.group);
        let (Some(ours), Some(group), Some(contest)) = (ours, group, self.contests.get(at)) else { return };
        match &contest.stage {
            Stage::Mute { until } if *until <= now => return self.forget_contest(at),
            Stage::Mute { .. } => return self.arm_contest(at),
            Stage::Disputed { since, .. } if now.since(*since) >= DISPUTE_MAX => {
                self.forget_contest(at);
                return self.resume(now, key);
            }
            Stage::Asking | Stage::Disputed { .. } if contest.unanswered >= STATEMENTS_MAX => {
                return self.on_mute(now, at, group);
            }
            Stage::Asking | Stage::Disputed { .. } => {}
        }
        let nonce = self.say(*to, group, ours, None);
        if let Some(contest) = self.contests.get_mut(at) {
            contest.nonce = nonce;
            contest.unanswered += 1;
            contest.next_at = now + STATE_INTERVAL;
        }
        self.arm_contest(at);
    }

    /// Four statements and no answer: we go on, and announce (Y4). One that is listed as legacy and echoed twice has
    /// the better right (Y5).
    fn on_mute(&mut self, now: Time, at: &ContestKey, group: GroupAddr) {
        let (key, to) = at;
        let listed = self.config.legacy.peers.contains(to.ip());
        self.counters.add("conflict", if listed { "mute_legacy" } else { "mute" }, 1);
        let Some(contest) = self.contests.get_mut(at) else { return };
        contest.stage = Stage::Mute { until: now + MUTE_KEEP };
        if listed && contest.echoes >= LEGACY_ECHOES {
            return self.lose(now, key, *to);
        }
        self.arm_contest(at);
        self.tell(Event::Mute { group, content: key.content.clone(), by: *to.ip(), listed });
        self.resume(now, key);
    }

    /// Somebody states how it has an address.
    pub(super) fn on_hold(&mut self, now: Time, from: SocketAddrV4, hold: &Hold) {
        self.counters.add("hold", "heard", 1);
        self.hear_stamp(hold.stamp);
        if hold.group == self.config.pinned.group && hold.state == HoldState::Committed {
            self.turns.hear_holder(now, &hold.content);
        }
        let claim = self.claims.on(hold.group).filter(|claim| claim.key.content != hold.content);
        let found = claim.map(|claim| (claim.key.clone(), claim.state.standing()));
        match found {
            // It confirms what an echo says: the address is marked for long, not for short.
            Some((key, Some(Standing::Pending))) => self.on_refused(now, &key, *from.ip(), true),
            Some((key, Some(Standing::Committed))) => self.on_dispute(now, &key, from, hold),
            Some((_, Some(Standing::Leaving) | None)) => self.answer_hold(now, from, hold),
            None if self.claims.rest(hold.group).is_some() => self.answer_hold(now, from, hold),
            // Once: each mark is a write to the store.
            None if self.marks.is_marked(now, hold.group)
                && !self.marks.is_marked(now + MARK_SHORT, hold.group) =>
            {
                self.mark(now, hold.group, true);
            }
            None => {}
        }
    }

    fn answer_hold(&mut self, now: Time, from: SocketAddrV4, hold: &Hold) {
        if let Some(statement) = self.statement_on(now, hold.group, &hold.content)
            && !hold.is_answer
        {
            self.say(from, hold.group, statement, Some(hold.nonce));
        }
    }

    /// Two statements meet: the one that beats the other stays.
    fn on_dispute(&mut self, now: Time, key: &ClaimKey, from: SocketAddrV4, hold: &Hold) {
        let at = (key.clone(), from);
        let known = self.contests.get(&at);
        let asked = known.is_some_and(|contest| contest.unanswered > 0 && contest.nonce == hold.nonce);
        if hold.is_answer && !asked {
            return self.counters.add("dropped.hold", "stale", 1);
        }
        let was = known.map(|contest| contest.stage.clone());
        let Some(ours) = self.claims.get(key).and_then(|claim| self.statement_of(now, claim)) else { return };
        let theirs = Statement::of(hold);
        if theirs.beats(&ours) {
            self.lose(now, key, from);
            let answers = (!hold.is_answer).then_some(hold.nonce);
            let leaving = self.statement_on(now, hold.group, &hold.content);
            if let Some(statement) = leaving {
                self.say(from, hold.group, statement, answers);
            }
            return;
        }
        if !hold.is_answer {
            self.say(from, hold.group, ours, Some(hold.nonce));
        }
        if theirs.state != HoldState::Committed && !theirs.in_use {
            // It has yielded and no session is left; the address is ours alone.
            self.forget_contest(&at);
            if matches!(was, Some(Stage::Disputed { .. })) {
                self.resume(now, key);
            }
            return;
        }
        if was.is_none() && self.contests.len() >= CONTESTS_MAX {
            return self.counters.add("dropped.hold", "too_many_contests", 1);
        }
        let since = match was {
            Some(Stage::Disputed { since }) => since,
            Some(Stage::Asking | Stage::Mute { .. }) | None => {
                self.counters.add("conflict", "disputed", 1);
                let (group, content) = (hold.group, key.content.clone());
                self.tell(Event::Disputed { group, content, by: *from.ip(), theirs: hold.content.clone() });
                now
            }
        };
        let stage = Stage::Disputed { since };
        let contest = self.contests.entry(at.clone()).or_insert_with(|| Contest::new(now, stage.clone()));
        if matches!(contest.stage, Stage::Mute { .. }) {
            contest.next_at = now;
        }
        (contest.stage, contest.unanswered) = (stage, 0);
        self.arm_contest(&at);
    }

    /// We yield: the address is left at once, and the next one tried when the MTFTP server has let go of it.
    fn lose(&mut self, now: Time, key: &ClaimKey, by: SocketAddrV4) {
        self.forget_contests(key);
        let Some(claim) = self.claims.get_mut(key) else { return };
        let Some(commitment) = claim.state.commitment().copied() else { return };
        let group = commitment.at.group;
        self.counters.add("conflict", "yielded", 1);
        if matches!(claim.state, State::Recording { .. }) {
            return self.on_refused(now, key, *by.ip(), true);
        }
        claim.leaves = true;
        self.tell(Event::Yielded { group, content: key.content.clone(), to: *by.ip() });
        if !key.pinned {
            self.mark(now, group, true);
        }
        self.drain_from(now, key, now);
    }

    /// The address is handed out again.
    fn resume(&mut self, now: Time, key: &ClaimKey) {
        if self.is_disputed(key) {
            return;
        }
        self.announce_soon(now, key);
        self.unsettle();
    }
}
