//! Addresses outside the own slice: asked for from the slice's owner, and lent to others (G5; the pinned tuple is in the
//! slice of one boot server, and all want it).
//!
//! A loan stands in the owner's store before it is granted, and the owner neither uses nor lends the address meanwhile.
//! Who has an address of our slice by another right, because it was there before the list, or shares it, and is not heard
//! any more, has it as a loan from then on: its claim is forgotten after two minutes, and may go on beyond a cut.
//! The borrower must commit a claim within [`LOAN_USE`] of its question. The loan is over when the borrower has been
//! heard, for longer than an address rests, without that it or anybody else told a claim or a reference there; a borrower
//! that is dead keeps it until it is struck off the list of boot servers.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Time, Wall};
use peers::roll::Slice;
use wire::control::Message;
use wire::hold::HoldState;
use wire::loan::{LoanAnswer, LoanAsk, LoanVerdict};
use wire::record::ServerRole;
use wire::{Content, GroupAddr, ServerId};

use super::claims::{Basis, ClaimKey, Placement, State};
use super::{Action, Change, Engine, Ticket, Timer};
use crate::limits::{
    CANDIDATES_MAX, LOAN_ASK_MAX, LOAN_CHECK, LOAN_MARGIN, LOAN_PATIENCE, LOAN_RETRY_FIRST, LOAN_USE,
    LOANS_MAX, REST, REST_PINNED,
};

/// A loan as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoanRecord {
    /// The address.
    pub group: GroupAddr,
    /// Who uses it.
    pub borrower: ServerId,
    /// What for.
    pub content: Content,
    /// Since when.
    pub since: Wall,
}

/// An address of our slice that another one uses.
#[derive(Debug, Clone)]
struct Given {
    record: LoanRecord,
    /// When it was last granted.
    granted_at: Time,
    /// Since when nobody has told anything there.
    idle_since: Option<Time>,
}

/// A question of ours.
#[derive(Debug, Clone)]
struct Asked {
    at: Placement,
    owner: ServerId,
    nonce: u64,
    asked_at: Time,
    gap: Duration,
}

/// What is lent and borrowed.
#[derive(Debug, Default)]
pub(super) struct Loans {
    given: BTreeMap<GroupAddr, Given>,
    asked: BTreeMap<ClaimKey, Asked>,
    /// Answers that wait for the store.
    owed: BTreeMap<Ticket, Owed>,
}

#[derive(Debug, Clone)]
struct Owed {
    to: SocketAddrV4,
    answer: LoanAnswer,
    /// What was lent there before, to the same borrower for something else.
    before: Option<LoanRecord>,
}

impl Loans {
    pub(super) fn forget_question(&mut self, key: &ClaimKey) -> bool {
        self.asked.remove(key).is_some()
    }

    pub(super) fn is_asked(&self, key: &ClaimKey) -> bool {
        self.asked.contains_key(key)
    }

    pub(super) fn given(&self) -> impl Iterator<Item = &LoanRecord> {
        self.given.values().map(|given| &given.record)
    }
}

impl Engine {
    // --- borrowed -------------------------------------------------------------------------------------------

    /// Asks the owner of the slice; the claim waits for the answer.
    pub(super) fn ask_loan(&mut self, now: Time, key: &ClaimKey, at: Placement, owner: ServerId) {
        let asked = Asked { at, owner, nonce: self.draw.bits(), asked_at: now, gap: LOAN_RETRY_FIRST };
        self.loans.asked.insert(key.clone(), asked);
        self.set_state(now, key, State::Waiting { until: now + LOAN_PATIENCE, soon: true });
        self.on_loan_due(now, key);
    }

    /// The question goes out, for the first time or again.
    pub(super) fn on_loan_due(&mut self, now: Time, key: &ClaimKey) {
        let waits = self.claims.get(key).is_some_and(|it| matches!(it.state, State::Waiting { .. }));
        if !waits {
            self.loans.asked.remove(key);
        }
        let Some(asked) = self.loans.asked.get_mut(key) else { return };
        let ask = LoanAsk { group: asked.at.group, content: key.content.clone(), nonce: asked.nonce };
        let (owner, again_at) = (asked.owner, now + asked.gap);
        asked.gap = (asked.gap * 2).min(LOAN_ASK_MAX);
        self.timers.arm(Timer::Loan(key.clone()), again_at, "loan to be asked for again");
        let control = self.domain.control_of(now, owner);
        self.counters.add("loan", "asked", 1);
        if key.pinned {
            // Whoever has the tuple shall know that somebody waits for it (P2).
            self.send_control(self.config.group(), Message::LoanAsk(ask.clone()));
        }
        let hears = |control: &SocketAddrV4| key.pinned && self.config.is_on_link(*control.ip());
        if let Some(control) = control.filter(|control| !hears(control)) {
            self.send_control(control, Message::LoanAsk(ask));
        }
    }

    /// The owner answers.
    pub(super) fn on_loan_answer(&mut self, now: Time, sender: ServerId, answer: &LoanAnswer) {
        let asked = self.loans.asked.iter().find(|(_, asked)| {
            asked.nonce == answer.nonce && asked.at.group == answer.group && asked.owner == sender
        });
        let Some((key, asked)) = asked.map(|(key, asked)| (key.clone(), asked.clone())) else {
            return self.counters.add("dropped.loan", "nothing_asked", 1);
        };
        match answer.verdict {
            LoanVerdict::Refused => {
                self.counters.add("loan", "refused_us", 1);
                self.on_loan_refused(now, &key, true);
            }
            LoanVerdict::Lent => {
                self.loans.asked.remove(&key);
                // Another claim of ours may have come there meanwhile, or the address has been found in use.
                let free = self.claims.on(asked.at.group).is_none()
                    && self.slice(asked.at.group) == Slice::Of(sender);
                if !free {
                    return self.try_again(now, &key);
                }
                self.counters.add("loan", "borrowed", 1);
                let map = self.slices.roll.map_version();
                let basis = Basis::Loan { owner: sender, map, until: asked.asked_at + LOAN_USE };
                let schedule = self.schedule_of(now, &key);
                self.start_clearing(now, &key, asked.at, basis, schedule);
            }
        }
    }

    /// The owner does not lend it, or does not answer.
    pub(super) fn on_loan_refused(&mut self, now: Time, key: &ClaimKey, answered: bool) {
        if self.loans.asked.remove(key).is_none() {
            return;
        }
        let Some(claim) = self.claims.get_mut(key) else { return };
        // Who is not answered asks again, also without clients (P1 is about who is refused).
        claim.refusals += usize::from(answered || !key.pinned);
        let refusals = claim.refusals;
        if key.pinned {
            return self.wait(now, key);
        }
        if refusals >= usize::try_from(CANDIDATES_MAX).unwrap_or(usize::MAX) {
            return self.on_exhausted(now, key);
        }
        self.try_again(now, key);
    }

    // --- lent -----------------------------------------------------------------------------------------------

    /// Whether somebody else may use that address of our slice.
    pub(super) fn is_lent(&self, group: GroupAddr) -> bool {
        self.loans.given.contains_key(&group)
    }

    /// Another boot server asks for an address of our slice, or for the pinned tuple, whosesoever it is.
    pub(super) fn on_loan_ask(&mut self, now: Time, from: SocketAddrV4, sender: ServerId, ask: &LoanAsk) {
        if !self.answers.allows(now, *from.ip()) {
            return self.over_rate("dropped.loan", *from.ip());
        }
        if ask.group == self.config.pinned.group {
            self.turns.hear(now, &ask.content);
            if self.claims.on(ask.group).is_some_and(|claim| claim.key.pinned) {
                self.turns.refuse(now, &ask.content);
            }
        }
        // Not ours, or not yet: who has the right list will ask the right one.
        if self.slice(ask.group) != Slice::Ours {
            return self.counters.add("loan", "not_ours", 1);
        }
        let nonce = ask.nonce;
        if !self.may_lend(now, sender, ask) {
            self.counters.add("loan", "refused", 1);
            return self
                .answer_loan(from, LoanAnswer { group: ask.group, nonce, verdict: LoanVerdict::Refused });
        }
        let answer = LoanAnswer { group: ask.group, nonce, verdict: LoanVerdict::Lent };
        let known = self.loans.given.get(&ask.group).map(|given| given.record.clone());
        let since = known.as_ref().map_or(self.wall_at(now), |record| record.since);
        let record = LoanRecord { group: ask.group, borrower: sender, content: ask.content.clone(), since };
        let is_owed = self.loans.owed.values().any(|owed| owed.answer.group == ask.group);
        // What is on its way to the store is answered when it is there, and a repetition with it; what differs comes again.
        if is_owed {
            return;
        }
        let given = Given { record: record.clone(), granted_at: now, idle_since: None };
        self.loans.given.insert(ask.group, given);
        if known.as_ref() == Some(&record) {
            return self.answer_loan(from, answer);
        }
        let ticket = self.draw_ticket();
        self.loans.owed.insert(ticket, Owed { to: from, answer, before: known });
        self.out.push(Action::Persist(ticket, vec![Change::PutLoan(record)]));
    }

    fn may_lend(&self, now: Time, sender: ServerId, ask: &LoanAsk) -> bool {
        let group = ask.group;
        let lent_to = self.loans.given.get(&group).map(|given| given.record.borrower);
        let is_member = self.domain.role_of(now, sender) == Some(ServerRole::Binld);
        let rests = self.claims.rest(group).is_some();
        let used = self.claims.on(group).is_some() || rests || self.marks.is_marked(now, group);
        let of_another =
            self.is_anothers(now, group, &ask.content) || self.is_referenced(now, group, &ask.content);
        is_member
            && !used
            && !of_another
            && lent_to.is_none_or(|borrower| borrower == sender)
            && (lent_to.is_some() || self.loans.given.len() < LOANS_MAX)
    }

    fn answer_loan(&mut self, to: SocketAddrV4, answer: LoanAnswer) {
        if answer.verdict == LoanVerdict::Lent {
            self.counters.add("loan", "lent", 1);
        }
        self.send_control(to, Message::LoanAnswer(answer));
    }

    /// The store has the loan, or not: only then the borrower is told.
    pub(super) fn on_loan_stored(&mut self, ticket: Ticket, stored: bool) {
        let Some(Owed { to, answer, before }) = self.loans.owed.remove(&ticket) else { return };
        if stored {
            return self.answer_loan(to, answer);
        }
        self.counters.add("loan", "refused", 1);
        // It may yet be written, late: after it comes what holds.
        let change = if let (Some(before), Some(given)) = (before, self.loans.given.get_mut(&answer.group)) {
            given.record = before.clone();
            Change::PutLoan(before)
        } else {
            self.loans.given.remove(&answer.group);
            Change::DropLoan(answer.group)
        };
        self.persist(vec![change]);
        self.answer_loan(to, LoanAnswer { verdict: LoanVerdict::Refused, ..answer });
    }

    /// What was lent before a restart is lent still, and its end is waited for in full.
    pub(super) fn restore_loans(&mut self, now: Time, records: Vec<LoanRecord>) {
        for record in records {
            let given = Given { record, granted_at: now, idle_since: None };
            self.loans.given.insert(given.record.group, given);
        }
        self.timers.arm(Timer::Loans, now + LOAN_CHECK, "loans to be looked at");
    }

    /// What a boot server of the list that is not heard claimed last in our slice is lent to it. One of several, if it is
    /// several: who is heard speaks for itself.
    fn lend_to_the_unheard(&mut self, now: Time) {
        let listed = self.slices.roll.held().members();
        let unheard = |server: &ServerId| listed.contains(server) && !self.domain.is_living(now, *server);
        let mut lent = Vec::new();
        for group in self.replicas.groups().filter(|group| self.slice(*group) == Slice::Ours) {
            // Two committed claims are a dispute, and settled as such (Y4).
            let agrees =
                |content: &Content| self.claims.on(group).is_none_or(|claim| claim.key.content == *content);
            let given = self.loans.given.get(&group).map(|given| given.record.borrower);
            let mut claimed = self.replicas_on(now, group).filter(|(owner, claim, _)| {
                claim.state != HoldState::Resting && unheard(owner) && agrees(&claim.content)
            });
            if let Some((borrower, claim, _)) = claimed.next()
                && given.is_none_or(|borrower| !unheard(&borrower))
            {
                let (content, since) = (claim.content.clone(), self.wall_at(now));
                lent.push(LoanRecord { group, borrower, content, since });
            }
        }
        for record in lent {
            if self.loans.given.len() >= LOANS_MAX && !self.is_lent(record.group) {
                return self.counters.add("loan", "too_many", 1);
            }
            self.counters.add("loan", "unheard", 1);
            let given = Given { record: record.clone(), granted_at: now, idle_since: None };
            self.loans.given.insert(record.group, given);
            self.persist(vec![Change::PutLoan(record)]);
        }
    }

    /// Loans that nobody uses end.
    pub(super) fn on_loans_due(&mut self, now: Time) {
        self.timers.arm(Timer::Loans, now + LOAN_CHECK, "loans to be looked at");
        self.lend_to_the_unheard(now);
        let informed = self.domain.is_informed(now);
        let groups: Vec<GroupAddr> = self.loans.given.keys().copied().collect();
        for group in groups {
            let Some(given) = self.loans.given.get(&group) else { continue };
            let borrower = given.record.borrower;
            let is_listed = self.slices.roll.held().members().contains(&borrower);
            let is_heard = self.domain.is_living(now, borrower) || !is_listed;
            let idle = informed && is_heard && !self.is_told(now, group);
            let Some(given) = self.loans.given.get_mut(&group) else { continue };
            if !idle {
                given.idle_since = None;
                continue;
            }
            let since = (*given.idle_since.get_or_insert(now)).max(given.granted_at + LOAN_USE);
            // That it rests is told, but for the claims that a server has beyond those it tells; the pinned one is short.
            let rest = if group == self.config.pinned.group { REST_PINNED } else { REST };
            let margin = LOAN_MARGIN.max(self.domain.hellos().silence_of(borrower) * 2);
            if now.since(since) >= rest + margin {
                self.loans.given.remove(&group);
                self.counters.add("loan", "ended", 1);
                self.persist(vec![Change::DropLoan(group)]);
                self.unsettle();
            }
        }
    }
}
