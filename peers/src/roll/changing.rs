//! What follows from what was heard: a list is taken up, comes into force, is proposed, is stored.

use std::collections::BTreeSet;

use driver::{Deadline, Time};
use wire::ServerId;

use super::list::{List, Origins};
use super::{News, Output, READY, ROOTED, Roll, SETTLED, Saved, Stored, Word};
use crate::limits::{
    JOIN_PATIENCE, ROLL_FIRST_MAX, ROLL_JUMP_MAX, ROLL_LEAVE_PATIENCE, ROLL_MEMBERS_MAX, ROLL_PACE,
    ROLL_PATIENCE, ROLL_PENDING_MAX, ROLL_PROPOSALS_MAX, ROLL_PROPOSE_MIN, ROLL_SETTLE,
};

impl Roll {
    pub(super) fn change(&mut self) {
        self.changed = true;
        self.map_version += 1;
        self.members = self.held.members();
    }

    /// After what was heard: among hundreds of members, all of whom speak at once, not for each of them.
    pub(super) fn progress_soon(&mut self, now: Time) {
        let pace = ROLL_PACE * u32::try_from(self.members.len() / 100).unwrap_or(u32::MAX);
        if now.since(self.progressed_at) < pace {
            self.wait_until(Some(self.progressed_at + pace), "others have spoken of the list");
        } else {
            self.progress(now);
        }
    }

    pub(super) fn progress(&mut self, now: Time) {
        self.progressed_at = now;
        self.due = None;
        self.adopt();
        // The first that is heard may have been started with us.
        let patience = self.began_at.map(|at| at + JOIN_PATIENCE);
        if patience.is_some_and(|at| now < at) {
            self.wait_until(patience, "what was stored counts");
        } else if self.informed && self.sure_since.is_none() {
            self.sure_since = Some(now);
            if self.held.top().is_some() {
                self.map_version += 1;
            }
        }
        self.complete();
        let top = self.held.top().map(List::digest);
        if self.top_since.map(|(top, _)| top) != top {
            self.top_since = top.map(|top| (top, now));
        }
        self.propose(now);
        let struck = std::mem::take(&mut self.struck);
        for (server, as_of) in struck {
            let back = self.held.lists().find(|list| list.rank() > as_of && list.holds(&server));
            if back.is_some() {
                self.out.push_back(Output::Tell(News::NotStruck(server)));
            } else if self.held.lists().any(|list| list.holds(&server)) {
                self.struck.insert(server, as_of);
            }
        }
        self.save(now);
        self.publish();
        self.end(now);
    }

    /// Who leaves may end when a list without it was taken up, or when nobody is there to propose one.
    fn end(&mut self, now: Time) {
        let Some(since) = self.leaves_since.filter(|_| self.saved.left && !self.may_end) else { return };
        let is_listed = self.held.top().is_some_and(|top| top.holds(&self.me));
        let patience = since + ROLL_LEAVE_PATIENCE;
        if is_listed && !self.living.is_empty() && now < patience {
            self.wait_until(Some(patience), "nobody proposes a list without us");
            return;
        }
        self.may_end = true;
        self.out.push_back(Output::Tell(News::MayEnd));
    }

    /// The greatest version that is believed.
    pub(super) fn version_max(&self) -> u32 {
        match self.held.top_rank().0 {
            0 => ROLL_FIRST_MAX,
            version => version.saturating_add(ROLL_JUMP_MAX),
        }
    }

    /// Takes up the greatest list that a living server publishes.
    fn adopt(&mut self) {
        let ours = self.held.top().map(List::rank);
        let believed = self.version_max();
        let is_living = |owner: &ServerId| self.living.contains_key(owner);
        let heard = self.gatherings.lists().filter(|(owner, _)| is_living(owner)).map(|(_, list)| list);
        let greater = heard.filter(|list| Some(list.rank()) > ours && list.version() <= believed);
        // Who is about to agree with strangers follows them; more is at stake for who is not.
        let follows = self.held.left || !self.held.pending.is_empty();
        let (for_us, strange): (Vec<&List>, Vec<&List>) =
            greater.partition(|list| follows || list.holds(&self.me) || self.is_of_our_origin(list));
        let list = for_us.into_iter().max_by_key(|list| list.rank()).cloned();
        let rank = list.as_ref().map(List::rank);
        let is_overruled = strange.iter().any(|strange| Some(strange.rank()) > rank);
        if self.overruled != is_overruled {
            self.overruled = is_overruled;
            self.map_version += 1;
        }
        let Some(list) = list else { return };
        // One that is in force elsewhere will make room.
        if self.held.pending.len() >= ROLL_PENDING_MAX && self.settled_elsewhere(&list).is_none() {
            self.out.push_back(Output::Count("dropped.roll", "too_many_pending"));
            return;
        }
        self.take_up(list);
    }

    fn take_up(&mut self, list: List) {
        let version = list.version();
        if !list.holds(&self.me) {
            if self.held.lists().any(|held| held.holds(&self.me)) {
                self.out.push_back(Output::Tell(News::LeftOut));
            }
            self.held.left = self.leaves_since.is_some();
        }
        self.held.pending.push(list);
        self.change();
        self.out.push_back(Output::Tell(News::Pending(version)));
    }

    /// Whether we are a member of the list in force: who is not has agreed upon nothing that it could give up.
    fn is_bound(&self) -> bool {
        self.held.current.as_ref().is_some_and(|current| current.holds(&self.me))
    }

    fn shares_origin(&self, word: &Word) -> bool {
        !self.is_bound() || !word.origins.own.is_disjoint(&self.held.origins.own)
    }

    /// Whether somebody has taken it up who agreed with us upon what is in force here.
    fn is_of_our_origin(&self, list: &List) -> bool {
        let ours = &self.held.origins.own;
        let takes = |word: &Word| word.top == list.digest() && !word.origins.all.is_disjoint(ours);
        !self.is_bound() || self.words.values().any(takes)
    }

    /// The word of a member that has it in force.
    fn settled_elsewhere(&self, list: &List) -> Option<&Word> {
        let others = list.members().iter().filter(|member| **member != self.me);
        let mut words = others.filter_map(|member| self.words.get(member));
        words.find(|word| word.top == list.digest() && word.flags & SETTLED != 0 && self.shares_origin(word))
    }

    /// Whether all others say that of the last list, those excused left out. Ours must be stored.
    pub(super) fn all_say(&mut self, flags: u8) -> bool {
        let Some(top) = self.held.top().filter(|top| self.saved.top == Some(top.rank())) else {
            return false;
        };
        let lacks = |member: &ServerId| {
            *member != self.me && !self.is_excused(member) && !self.says(member, top.digest(), flags)
        };
        let holdout = self.holdout.filter(|it| self.members.contains(it) && lacks(it));
        self.holdout = holdout.or_else(|| self.members.iter().copied().find(lacks));
        self.holdout.is_none()
    }

    /// The last list comes into force if all have taken it up and know that all have.
    fn complete(&mut self) {
        let all_say = !self.held.pending.is_empty() && self.all_say(READY);
        let Some(top) = self.held.pending.last().filter(|_| self.informed) else { return };
        if self.saved.top != Some(top.rank()) {
            return;
        }
        let mut origins = if let Some(word) = self.settled_elsewhere(top) {
            word.origins.clone()
        } else if all_say {
            let words = || top.members().iter().filter_map(|member| self.words.get(member));
            let own = words().flat_map(|word| &word.origins.own).copied().collect();
            Origins { own, all: words().flat_map(|word| &word.origins.all).copied().collect() }
        } else {
            return;
        };
        if self.is_bound() && top.holds(&self.me) {
            origins.own.extend(&self.held.origins.own);
        }
        if origins.own.is_empty() {
            origins.own.insert(top.digest());
        }
        origins.all.extend(&self.held.origins.all);
        origins.bound();
        let version = top.version();
        self.held.current = self.held.pending.pop();
        self.held.pending.clear();
        self.held.origins = origins;
        self.change();
        self.out.push_back(Output::Tell(News::InForce(version)));
    }

    /// Proposes a list, if that is for us to do and there is a difference.
    fn propose(&mut self, now: Time) {
        let lowest = self.living.keys().find(|server| self.gone(server).is_none());
        let is_ours = lowest.is_none_or(|lowest| self.me < *lowest) && self.informed;
        let Some(sure_since) = self.sure_since.filter(|_| is_ours) else { return };
        let members = self.members.clone();
        let (gone, wanted): (BTreeSet<ServerId>, BTreeSet<ServerId>) =
            members.iter().partition(|server| self.gone(server).is_some());
        if self.held.left {
            let is_last = wanted.iter().all(|server| *server == self.me);
            if is_last && self.living.is_empty() && !members.is_empty() {
                // Nothing is left to be remembered, by nobody.
                self.held = Stored { left: true, ..Stored::default() };
                self.change();
            }
            return;
        }
        let wanted = self.wanted(now, sure_since, &members, wanted);
        let is_other = self.held.top().is_none_or(|top| !top.members().iter().eq(&wanted));
        if is_other && now.since(sure_since) >= ROLL_SETTLE && self.has_room(now, &gone) {
            self.put_forward(now, wanted);
        }
    }

    /// The members that there should be: those that are not gone, and whoever has lived for long enough.
    fn wanted(
        &mut self,
        now: Time,
        sure_since: Time,
        members: &BTreeSet<ServerId>,
        mut wanted: BTreeSet<ServerId>,
    ) -> BTreeSet<ServerId> {
        wanted.insert(self.me);
        let mut wait = Some(sure_since).filter(|since| now.since(*since) < ROLL_SETTLE);
        let is_new = |server: &ServerId| !members.contains(server) && !self.is_away(server);
        for (server, since) in self.living.iter().filter(|(server, _)| is_new(server)) {
            if now.since(*since) < ROLL_SETTLE {
                wait = Some(wait.map_or(*since, |other| other.min(*since)));
            } else if wanted.len() < ROLL_MEMBERS_MAX {
                wanted.insert(*server);
            }
        }
        self.wait_until(
            wait.map(|since| since + ROLL_SETTLE),
            "a server has lived for long enough to be a member",
        );
        wanted
    }

    /// One change at a time, unless it has to wait for long, or the next one may let it come into force.
    fn has_room(&mut self, now: Time, gone: &BTreeSet<ServerId>) -> bool {
        let is_gone_from = |list: &List| list.members().iter().any(|server| gone.contains(server));
        if self.held.top().is_some_and(is_gone_from) {
            return self.held.pending.len() < ROLL_PENDING_MAX;
        }
        let patience = self.top_since.map(|(_, since)| since + ROLL_PATIENCE).filter(|at| now < *at);
        if let (Some(_), false) = (patience, self.held.pending.is_empty()) {
            self.wait_until(patience, "a list has been pending for long");
            return false;
        }
        self.held.pending.len() < ROLL_PROPOSALS_MAX
    }

    fn put_forward(&mut self, now: Time, wanted: BTreeSet<ServerId>) {
        if let Some(at) = self.proposed_at.map(|at| at + ROLL_PROPOSE_MIN).filter(|at| now < *at) {
            self.wait_until(Some(at), "the next list may be proposed");
            return;
        }
        let believed = self.version_max();
        let heard = self.gatherings.lists().map(|(_, list)| list.version()).filter(|it| *it <= believed);
        let version = heard.max().unwrap_or(0).max(self.held.top_rank().0).saturating_add(1);
        self.proposed_at = Some(now);
        match List::new(version, wanted.into_iter().collect()) {
            Some(list) => self.take_up(list),
            None => self.out.push_back(Output::Count("roll", "no_list_possible")),
        }
    }

    fn wait_until(&mut self, at: Option<Time>, why: &'static str) {
        self.due = Deadline::earliest(self.due, at.map(|at| Deadline { at, why }));
    }

    pub(super) fn to_save(&self) -> Saved {
        let rooted = if self.held.current.is_some() { ROOTED } else { 0 };
        let settled = if self.held.pending.is_empty() { SETTLED | READY } else { 0 };
        let flags = if rooted == 0 { 0 } else { rooted | settled };
        let mut origins = self.held.origins.clone();
        if !self.is_bound() {
            origins.own.clear();
        }
        Saved { top: self.held.top().map(List::rank), flags, left: self.held.left, origins }
    }

    fn save(&mut self, now: Time) {
        if !self.changed || self.writing.is_some() {
            return;
        }
        if let Some(at) = self.store_at.filter(|at| now < *at) {
            self.wait_until(Some(at), "the store is tried again");
            return;
        }
        (self.changed, self.store_at) = (false, None);
        self.writing = Some(self.to_save());
        // Who has left, and was the last, has forgotten everything when it comes back.
        let is_nothing = self.held.top().is_none();
        let stored = if is_nothing { Stored::default() } else { self.held.clone() };
        self.out.push_back(Output::Store(stored));
    }
}
