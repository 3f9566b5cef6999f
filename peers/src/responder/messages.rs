//! What other boot servers say: inquiries, first and second messages, records, and that they leave.

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::Time;
use wire::ServerId;
use wire::control::Message;
use wire::elect::{
    Declare, HeardOf, Inquiry, REVOKED_MAX, Responder, Revoke, Revoked, Shard, Term as ToldTerm,
};

use super::candidate::Candidate;
use super::{News, Output, Responders, Term, To};
use crate::elect::{Office, Verdict};
use crate::limits::{CANDIDATES_MAX, REVOKE_EVERY};
use crate::rendezvous::index;

impl Responders {
    /// A boot server of our link has said anything: a sign of life.
    pub fn on_life(&mut self, now: Time, server: ServerId) {
        let Some(candidate) = self.candidates.get_mut(&server) else { return };
        if candidate.live(now) {
            self.on_works(server);
            self.settle(now);
        }
    }

    fn on_works(&mut self, server: ServerId) {
        self.out.push_back(Output::Tell(News::Works(server)));
        self.unsettled = true;
    }

    /// An inquiry of a boot server of our link.
    pub fn on_inquiry(&mut self, now: Time, from: SocketAddrV4, sender: ServerId, inquiry: &Inquiry) {
        self.count("inquiry", "heard");
        if sender == self.me {
            return;
        }
        if !self.candidates.contains_key(&sender) {
            if self.candidates.len() >= CANDIDATES_MAX {
                return self.count("dropped.inquiry", "too_many");
            }
            self.candidates.insert(sender, Candidate::new(from, now));
            self.unsettled = true;
        }
        let rtt = inquiry.heard.iter().find(|heard| heard.server == self.me).and_then(|heard| {
            let (_, sent_at) = self.sent.iter().find(|(count, _)| *count == heard.count)?;
            Some(now.since(*sent_at).saturating_sub(Duration::from_millis(heard.ago_ms.into())))
        });
        let mut lives = false;
        if let Some(candidate) = self.candidates.get_mut(&sender) {
            lives = candidate.live(now);
            candidate.on_inquiry(now, from, inquiry, rtt);
        }
        if lives {
            self.on_works(sender);
        }
        // Whom the sender has heard lately works, though we may not hear it.
        let patience = self.patience();
        let is_fresh = |heard: &&HeardOf| Duration::from_millis(heard.ago_ms.into()) < patience;
        for heard in inquiry.heard.iter().filter(is_fresh) {
            let heard_at = now.as_nanos().saturating_sub(u64::from(heard.ago_ms) * 1_000_000);
            if let Some(candidate) = self.candidates.get_mut(&heard.server)
                && candidate.live_by_word(Time::from_nanos(heard_at))
            {
                self.on_works(heard.server);
            }
        }
        if inquiry.urgent {
            self.count("inquiry", "answered");
            let answer = Inquiry { urgent: false, ..self.inquiry(now, true) };
            self.out.push_back(Output::Send(To::One(from), Message::Inquiry(answer)));
        }
        self.settle(now);
    }

    /// What a boot server's record tells: its weight and its shards. `None`: it has ended, or is deleted.
    pub fn on_record(&mut self, now: Time, owner: ServerId, told: Option<&Responder>) {
        if owner == self.me {
            return;
        }
        let Some(candidate) = self.candidates.get_mut(&owner) else {
            // It is beyond our link, or dead, or will be heard in a moment.
            for (shard, term) in told.map_or(&[][..], |told| &told.shards) {
                if let Some(office) = self.office_mut(*shard) {
                    office.hear_of(term.epoch);
                }
            }
            return;
        };
        let is_strange = !candidate.tell(owner, told);
        if is_strange {
            self.strange(owner, "index");
        }
        self.unsettled = true;
        // What is to be objected to is so at the next audit: many records come at once.
        let _ = self.take_up(now, owner);
        self.settle(now);
    }

    /// Another server's record is believed like a second message. Gives the shards for which that server is to be told that
    /// it does not hold them.
    fn take_up(&mut self, now: Time, owner: ServerId) -> Vec<Revoked> {
        let Some(candidate) = self.candidates.get_mut(&owner) else { return Vec::new() };
        let told = std::mem::take(&mut candidate.shards);
        let revoked = self.weigh(now, owner, &told, |office, term| office.on_record(now, term));
        if let Some(candidate) = self.candidates.get_mut(&owner) {
            candidate.shards = told;
        }
        revoked
    }

    /// The records of those that work once more: of two that both say that they answer a shard one is told.
    pub(super) fn take_up_all(&mut self, now: Time) {
        let working = self.candidates.iter().filter(|(_, candidate)| candidate.works);
        for server in working.map(|(server, _)| *server).collect::<Vec<_>>() {
            let revoked = self.take_up(now, server);
            self.revoke(now, server, &revoked);
        }
    }

    /// A first message (R001.11).
    pub fn on_declare(&mut self, now: Time, sender: ServerId, declare: &Declare) {
        self.count("declare", "heard");
        let shards = self.known_right(sender, declare.shards.iter().copied());
        let revoked = self.weigh(now, sender, &shards, |office, term| office.on_first(now, term));
        self.revoke(now, sender, &revoked);
        self.settle(now);
    }

    /// A second message (R001.22).
    pub fn on_revoke(&mut self, now: Time, sender: ServerId, revoke: &Revoke) {
        self.count("revoke", "heard");
        let shards = self.known_right(sender, revoke.shards.iter().map(|one| (one.shard, one.term)));
        let revoked = self.weigh(now, sender, &shards, |office, term| office.on_second(now, term));
        self.revoke(now, sender, &revoked);
        self.settle(now);
    }

    /// Those of the shards with the sender's index. Everybody's index is known: a forged one has nobody believe anything.
    fn known_right(
        &mut self,
        sender: ServerId,
        shards: impl Iterator<Item = (Shard, ToldTerm)>,
    ) -> Vec<(Shard, ToldTerm)> {
        let Some(weight) = self.candidates.get(&sender).and_then(Candidate::weight) else {
            self.count("dropped.election", "stranger");
            return Vec::new();
        };
        let (right, wrong): (Vec<_>, Vec<_>) =
            shards.partition(|(shard, term)| term.index == index(*shard, &sender, weight));
        if !wrong.is_empty() {
            self.strange(sender, "index");
        }
        right
    }

    /// What becomes of the offices by what a server says; gives the terms that do not hold.
    fn weigh(
        &mut self,
        now: Time,
        sender: ServerId,
        shards: &[(Shard, ToldTerm)],
        mut decide: impl FnMut(&mut Office<u32>, Term) -> Verdict<u32>,
    ) -> Vec<Revoked> {
        let (mut lost, mut revoked) = (0, Vec::new());
        for (shard, told) in shards {
            let theirs = Term { epoch: told.epoch, index: told.index, server: sender };
            let Some(office) = self.office_mut(*shard) else { continue };
            let before = office.holder().copied().filter(|_| office.is_ours());
            match decide(office, theirs) {
                Verdict::Accepted { deposed } => {
                    lost += usize::from(deposed);
                    self.unsettled = true;
                }
                Verdict::Known => {}
                Verdict::Revoked(ours) => {
                    self.unpublished |= before != Some(ours);
                    let term = ToldTerm { epoch: ours.epoch, index: ours.index };
                    revoked.push(Revoked { shard: *shard, term, revoked: *told });
                }
                Verdict::Stale => self.count("dropped.election", "stale"),
                Verdict::Absurd => self.strange(sender, "epoch"),
            }
        }
        if lost > 0 {
            (self.stable_since, self.unpublished) = (now, true);
            self.out.push_back(Output::Tell(News::GaveWay { shards: lost, to: sender }));
        }
        revoked
    }

    /// The second message, to all and to who declared itself. What is not said for the pace our record says.
    fn revoke(&mut self, now: Time, server: ServerId, shards: &[Revoked]) {
        let Some(candidate) = self.candidates.get_mut(&server).filter(|_| !shards.is_empty()) else { return };
        if candidate.revoked_at.is_some_and(|at| now.since(at) < REVOKE_EVERY) {
            return self.count("revoke", "held_back");
        }
        candidate.revoked_at = Some(now);
        let control = candidate.control();
        for part in shards.chunks(REVOKED_MAX) {
            let message = Message::Revoke(Revoke { revoked: server, shards: part.to_vec() });
            self.count("revoke", "sent");
            self.out.push_back(Output::Send(To::Link, message.clone()));
            self.out.push_back(Output::Send(To::One(control), message));
        }
    }

    /// Whether that boot server stands for election, and its record has not come yet.
    #[must_use]
    pub fn lacks_record(&self, server: ServerId) -> bool {
        self.candidates.get(&server).is_some_and(|candidate| candidate.weight().is_none())
    }

    /// The boot server there has left: nobody waits until it is missed.
    pub fn on_left_from(&mut self, now: Time, control: SocketAddrV4) {
        let gone = self.candidates.iter().find(|(_, it)| it.control() == control).map(|(server, _)| *server);
        if let Some(server) = gone {
            self.on_left(now, server);
        }
    }

    pub(super) fn on_left(&mut self, now: Time, server: ServerId) {
        // What it held is waited for as if it had fallen silent.
        if self.candidates.remove(&server).is_none() {
            return;
        }
        self.unsettled = true;
        self.settle(now);
    }
}
