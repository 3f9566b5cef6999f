//! What a store keeps of the other members, so that whoever reads it sees the whole domain: their claims, who they are,
//! and since when one is missing. For people only: nothing is answered from it.
//!
//! ```text
//!           the domain tells it            it changed             it ended
//! (none) ─────────────────────► saved ───────────────────► saved ──────────► (none)
//!   a former process saved it ──► former ── not told anew for SAVED_FORMER ──► (none)
//! ```
//! A mere refresh writes nothing. Changes are gathered for [`SAVE_GATHER`] and go to the store [`SAVED_AT_ONCE`] at a time,
//! so that a claim of ours never waits long behind them. There are never more entries than records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use driver::{Time, Wall};
use wire::ServerId;
use wire::record::{Age, Body, Checksum, Claim, Record, RecordKind, ServerRole, Snum, Uid};

use crate::domain::{Domain, News};
use crate::limits::{SAVE_GATHER, SAVED_AT_ONCE, SAVED_FORMER, SAVED_MEMBERS_MAX};

/// A claim of another member. Key: `owner` and `number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedClaim {
    /// Whose it is.
    pub owner: ServerId,
    /// Which of its records.
    pub number: u64,
    /// What it says.
    pub claim: Claim,
    /// Since when we know of it.
    pub first: Wall,
    /// When it last changed, as far as we heard.
    pub changed: Wall,
}

/// Another member. Key: `server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedMember {
    /// Its name.
    pub server: ServerId,
    /// What it does; `None` if that is not known any more.
    pub role: Option<ServerRole>,
    /// Where its control messages come from.
    pub control: SocketAddrV4,
    /// Its last sign of life, if it has vanished without leaving.
    pub unreachable_since: Option<Wall>,
}

/// What the store shall write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavedChange {
    /// Writes a claim in place of what has its key.
    PutClaim(Box<SavedClaim>),
    /// Forgets a claim.
    DropClaim(ServerId, u64),
    /// Writes a member in place of what has its key.
    PutMember(SavedMember),
    /// Forgets a member.
    DropMember(ServerId),
}

/// What a former process left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Former {
    /// Claims.
    pub claims: Vec<SavedClaim>,
    /// Members.
    pub members: Vec<SavedMember>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    digest: Checksum,
    first: Wall,
    /// The domain has told it in this life of ours.
    told: bool,
}

/// What was saved, and what is to be looked at.
#[derive(Debug)]
pub struct Saved {
    claims: BTreeMap<Uid, Entry>,
    members: BTreeMap<ServerId, SavedMember>,
    dirty: BTreeSet<Uid>,
    members_dirty: bool,
    due_at: Option<Time>,
    /// When what a former process saved ends; `None` when it has.
    former_at: Option<Time>,
}

impl Saved {
    /// Begins with what the store has.
    #[must_use]
    pub fn new(former: Former, now: Time) -> Self {
        let claims = former.claims.into_iter().map(|entry| {
            let uid = Uid { owner: entry.owner, kind: RecordKind::Claim, number: entry.number };
            let saved = Entry { digest: digest(uid, &entry.claim), first: entry.first, told: false };
            (uid, saved)
        });
        Self {
            claims: claims.collect(),
            members: former.members.into_iter().map(|entry| (entry.server, entry)).collect(),
            dirty: BTreeSet::new(),
            members_dirty: true,
            due_at: None,
            former_at: Some(now + SAVED_FORMER),
        }
    }

    /// The domain has news.
    pub fn on_news(&mut self, now: Time, news: &News) {
        match news {
            News::Changed(uid) => match uid.kind {
                RecordKind::Claim => {
                    self.dirty.insert(*uid);
                }
                RecordKind::Member => self.members_dirty = true,
                RecordKind::Reference
                | RecordKind::Domain
                | RecordKind::Lowest
                | RecordKind::Responder
                | RecordKind::Neighbours
                | RecordKind::Note
                | RecordKind::Contact => {
                    return;
                }
            },
            News::Left(_) | News::Unreachable(_) | News::Healed(_) => self.members_dirty = true,
            News::Appeared(_) | News::Deaf(_) | News::Twin(_) | News::Linked(_) | News::Unlinked(_) => return,
        }
        self.due_at.get_or_insert(now + SAVE_GATHER);
    }

    /// When [`Self::take`] is wanted next.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.due_at.into_iter().chain(self.former_at).min()
    }

    /// What is to be written now; `me` is left out. Called early it gives what there is.
    pub fn take(&mut self, now: Time, wall: Wall, me: ServerId, domain: &Domain) -> Vec<SavedChange> {
        if self.former_at.is_some_and(|at| at <= now) {
            self.former_at = None;
            let untold = self.claims.iter().filter(|(_, saved)| !saved.told).map(|(uid, _)| *uid);
            self.dirty.extend(untold);
            self.members_dirty = true;
        }
        if self.dirty.len() > SAVED_AT_ONCE {
            // What came and went is not waited for: so there are never more than records and entries.
            let live = |uid: &Uid| domain.records().get(uid, now).is_some();
            self.dirty.retain(|uid| self.claims.contains_key(uid) || live(uid));
        }
        let mut changes = Vec::new();
        while let Some(uid) = self.dirty.pop_first() {
            changes.extend(self.claim(now, wall, me, domain, uid));
            if changes.len() >= SAVED_AT_ONCE {
                break;
            }
        }
        if std::mem::take(&mut self.members_dirty) {
            self.look_at_members(now, wall, me, domain, &mut changes);
        }
        self.due_at = (!self.dirty.is_empty()).then_some(now + SAVE_GATHER);
        changes
    }

    fn claim(
        &mut self,
        now: Time,
        wall: Wall,
        me: ServerId,
        domain: &Domain,
        uid: Uid,
    ) -> Option<SavedChange> {
        if uid.owner == me {
            return None;
        }
        let Some(claim) = domain.records().get(&uid, now).and_then(|(record, _)| claim_of(record)) else {
            return self.claims.remove(&uid).map(|_| SavedChange::DropClaim(uid.owner, uid.number));
        };
        let digest = digest(uid, claim);
        let saved = self.claims.get_mut(&uid);
        if let Some(saved) = saved.filter(|saved| saved.digest == digest) {
            saved.told = true;
            return None;
        }
        let first = self.claims.get(&uid).map_or(wall, |saved| saved.first);
        self.claims.insert(uid, Entry { digest, first, told: true });
        let (owner, number, claim) = (uid.owner, uid.number, claim.clone());
        Some(SavedChange::PutClaim(Box::new(SavedClaim { owner, number, claim, first, changed: wall })))
    }

    fn look_at_members(
        &mut self,
        now: Time,
        wall: Wall,
        me: ServerId,
        domain: &Domain,
        changes: &mut Vec<SavedChange>,
    ) {
        let mut found: BTreeMap<ServerId, SavedMember> = BTreeMap::new();
        let told = domain.records().of_kind(RecordKind::Member, now).filter(|(it, _)| it.uid.owner != me);
        for (record, _) in told.take(SAVED_MEMBERS_MAX) {
            if let Body::Member(member) = &record.body {
                let (server, role, control) = (record.uid.owner, Some(member.role), member.control);
                found.insert(server, SavedMember { server, role, control, unreachable_since: None });
            }
        }
        for gone in domain.unreachable() {
            let known = self.members.get(&gone.server);
            let age = u64::try_from(now.since(gone.since).as_millis()).unwrap_or(u64::MAX);
            // Said once: reckoned again it would be another millisecond.
            let since = known.and_then(|known| known.unreachable_since);
            let entry = SavedMember {
                server: gone.server,
                role: found.get(&gone.server).or(known).and_then(|it| it.role),
                control: gone.control,
                unreachable_since: Some(since.unwrap_or(Wall(wall.0.saturating_sub(age)))),
            };
            found.insert(gone.server, entry);
        }
        let waits = self.former_at.is_some();
        let gone = self.members.keys().filter(|server| !waits && !found.contains_key(*server));
        let gone: Vec<ServerId> = gone.copied().collect();
        for server in gone {
            self.members.remove(&server);
            changes.push(SavedChange::DropMember(server));
        }
        for (server, entry) in found {
            if self.members.insert(server, entry) != Some(entry) {
                changes.push(SavedChange::PutMember(entry));
            }
        }
    }
}

fn claim_of(record: &Record) -> Option<&Claim> {
    if let Body::Claim(claim) = &record.body { Some(claim) } else { None }
}

/// Of what a claim says, whichever version of the record says it.
fn digest(uid: Uid, claim: &Claim) -> Checksum {
    let body = Body::Claim(claim.clone());
    Record { uid, snum: Snum::default(), age: Age::default(), lives: 0, body }.checksum()
}

#[cfg(test)]
mod tests;
