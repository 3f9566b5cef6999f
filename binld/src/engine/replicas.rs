//! Claims of others, as the domain tells them: shared before an address is cleared (G9), kept out of the way of, and
//! defended when their owner cannot (G13, G25). And ours, told to the domain.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use driver::Time;
use peers::records::Records;
use wire::hold::HoldState;
use wire::pxe::BootItem;
use wire::record::{Body, Claim as ClaimBody, RecordKind, Reference, ServerRole, Uid};
use wire::{Content, GroupAddr, Layer, ServerId, ServerType};

use super::choose::rendezvous;
use super::claims::{Claim, ClaimKey, Placement, Rest, State};
use super::event::Event;
use super::predicate::Standing;
use super::status::ReplicaStatus;
use super::{Engine, Timer};
use crate::limits::{CLAIM_LIVES, PUBLISHED_MAX, REPLICA_FRESH};

/// Where the claims of others are among the records.
#[derive(Debug, Clone, Default)]
pub struct Replicas {
    by_group: BTreeMap<GroupAddr, BTreeSet<Uid>>,
    by_content: BTreeMap<(Content, bool), BTreeSet<Uid>>,
    places: BTreeMap<Uid, (GroupAddr, (Content, bool))>,
    /// References that MTFTP servers tell of.
    references: BTreeMap<GroupAddr, BTreeSet<Uid>>,
    referenced: BTreeMap<Uid, GroupAddr>,
}

impl Replicas {
    /// A record appeared, changed or ended.
    pub fn on_changed(&mut self, uid: Uid, records: &Records, now: Time) {
        if uid.kind == RecordKind::Reference {
            return self.on_reference(uid, records, now);
        }
        if uid.kind != RecordKind::Claim {
            return;
        }
        if let Some((group, content)) = self.places.remove(&uid) {
            remove(&mut self.by_group, &group, &uid);
            remove(&mut self.by_content, &content, &uid);
        }
        let Some(claim) = claim_of(records, &uid, now).map(|(claim, _)| claim) else { return };
        let place = (claim.group, (claim.content.clone(), claim.pinned));
        self.by_group.entry(place.0).or_default().insert(uid);
        self.by_content.entry(place.1.clone()).or_default().insert(uid);
        self.places.insert(uid, place);
    }

    fn on_reference(&mut self, uid: Uid, records: &Records, now: Time) {
        if let Some(group) = self.referenced.remove(&uid) {
            remove(&mut self.references, &group, &uid);
        }
        if let Some(told) = reference_of(records, &uid, now) {
            self.references.entry(told.group).or_default().insert(uid);
            self.referenced.insert(uid, told.group);
        }
    }

    fn on(&self, group: GroupAddr) -> impl Iterator<Item = &Uid> {
        self.by_group.get(&group).into_iter().flatten()
    }

    /// The addresses that others claim.
    pub fn groups(&self) -> impl Iterator<Item = GroupAddr> {
        self.by_group.keys().copied()
    }
}

fn remove<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Uid>>, key: &K, uid: &Uid) {
    if let Some(uids) = index.get_mut(key) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(key);
        }
    }
}

fn claim_of<'a>(records: &'a Records, uid: &Uid, now: Time) -> Option<(&'a ClaimBody, Duration)> {
    let (record, age) = records.get(uid, now)?;
    let Body::Claim(claim) = &record.body else { return None };
    Some((claim, Duration::from_secs(u64::from(age.0))))
}

fn reference_of<'a>(records: &'a Records, uid: &Uid, now: Time) -> Option<&'a Reference> {
    let Body::Reference(told) = &records.get(uid, now)?.0.body else { return None };
    Some(told)
}

impl Engine {
    // --- ours -----------------------------------------------------------------------------------------------

    /// Tells the domain what became of a claim of ours. Called after each input for those that moved.
    pub(super) fn publish(&mut self, now: Time) {
        for key in std::mem::take(&mut self.unpublished) {
            let body = self.claims.get(&key).and_then(|claim| {
                let commitment = claim.state.commitment()?;
                let state = match claim.state.standing()? {
                    Standing::Leaving => HoldState::Draining,
                    Standing::Committed | Standing::Pending => HoldState::Committed,
                };
                Some(ClaimBody {
                    group: commitment.at.group,
                    content: key.content.clone(),
                    ports: commitment.at.ports,
                    boot_item: claim.boot_item,
                    stamp: commitment.stamp,
                    state,
                    pinned: key.pinned,
                    configured: matches!(claim.state, State::Held { .. }),
                })
            });
            let body = body.or_else(|| self.resting(&key));
            let number = body.as_ref().map(|body| u64::from(body.group.ip().to_bits()));
            let told = self.published.get(&key).copied();
            if let Some(old) = told.filter(|old| Some(*old) != number) {
                self.published.remove(&key);
                // Another claim of ours may be there by now.
                if !self.published.values().any(|other| *other == old) {
                    self.domain.delete(now, RecordKind::Claim, old);
                }
            }
            if let Some((body, number)) = body.zip(number)
                && (told.is_some() || self.published.len() < PUBLISHED_MAX)
            {
                self.domain.put(now, RecordKind::Claim, number, CLAIM_LIVES, Body::Claim(body));
                self.published.insert(key, number);
            }
        }
    }

    /// A content that has no address any more may have one that rests: others shall leave it alone for as long (G15).
    fn resting(&self, key: &ClaimKey) -> Option<ClaimBody> {
        let pinned = self.config.pinned;
        let is_it = |group: GroupAddr, rest: &Rest| {
            rest.content == key.content && (group == pinned.group) == key.pinned
        };
        let (group, rest) = self.claims.rests().find(|(group, rest)| is_it(*group, rest))?;
        Some(ClaimBody {
            group,
            content: key.content.clone(),
            ports: if key.pinned { pinned.ports } else { self.config.dynamic_ports },
            boot_item: BootItem { server_type: ServerType(0), layer: Layer(0) },
            stamp: rest.stamp,
            state: HoldState::Resting,
            pinned: key.pinned,
            configured: false,
        })
    }

    /// A rest began before a restart, or is over.
    pub(super) fn publish_rest(&mut self, group: GroupAddr) {
        let Some(content) = self.claims.rest(group).map(|rest| rest.content.clone()) else { return };
        let pinned = group == self.config.pinned.group;
        self.unpublished.insert(ClaimKey { content, pinned });
    }

    // --- those of others ------------------------------------------------------------------------------------

    /// The claims of others on that address, with their owner and how long ago they were refreshed.
    pub(super) fn replicas_on(
        &self,
        now: Time,
        group: GroupAddr,
    ) -> impl Iterator<Item = (ServerId, &ClaimBody, Duration)> {
        self.replicas.on(group).filter_map(move |uid| {
            let (claim, age) = claim_of(self.domain.records(), uid, now)?;
            (uid.owner != self.identity.server).then_some((uid.owner, claim, age))
        })
    }

    /// Claims of other members, in order of address.
    #[must_use]
    pub fn replicas_status(&self, now: Time) -> Vec<ReplicaStatus> {
        let of = |group: GroupAddr| {
            self.replicas_on(now, group).map(move |(owner, claim, age)| ReplicaStatus {
                owner,
                group,
                content: claim.content.clone(),
                state: claim.state,
                configured: claim.configured,
                refreshed_ago: age,
            })
        };
        self.replicas.by_group.keys().flat_map(|group| of(*group)).collect()
    }

    /// Whether another member has that address for something else.
    pub(super) fn is_anothers(&self, now: Time, group: GroupAddr, content: &Content) -> bool {
        self.replicas_on(now, group).any(|(_, claim, _)| claim.content != *content)
    }

    /// Whether an MTFTP server says that somebody relies on that address for something else.
    pub(super) fn is_referenced(&self, now: Time, group: GroupAddr, content: &Content) -> bool {
        self.references_on(now, group).any(|told| told.content != *content)
    }

    fn references_on(&self, now: Time, group: GroupAddr) -> impl Iterator<Item = &Reference> {
        let uids = self.replicas.references.get(&group).into_iter().flatten();
        uids.filter_map(move |uid| reference_of(self.domain.records(), uid, now))
    }

    /// Whether anybody else tells anything of that address.
    pub(super) fn is_told(&self, now: Time, group: GroupAddr) -> bool {
        self.replicas_on(now, group).next().is_some() || self.references_on(now, group).next().is_some()
    }

    /// A claim of ours may have waited for that claim of another member.
    pub(super) fn wake_sharer(&mut self, now: Time, uid: Uid) {
        let Some((_, (content, pinned))) = self.replicas.places.get(&uid) else { return };
        let key = ClaimKey { content: content.clone(), pinned: *pinned };
        let waits = |claim: &Claim| matches!(claim.state, State::Waiting { soon: true, .. });
        if self.claims.get(&key).is_some_and(waits) && self.shareable(now, &key).is_some() {
            self.loans.forget_question(&key);
            self.timers.arm(Timer::Claim(key), now, "another member has the content");
        }
    }

    /// Where the member is that has that address for something else, or lets it rest, and said so lately.
    pub(super) fn knows_holder(&self, now: Time, group: GroupAddr, content: &Content) -> Option<Ipv4Addr> {
        let (owner, ..) = self.holders_on(now, group, content).next()?;
        // A claim is known for longer than the member that it is of.
        let vanished =
            || self.domain.unreachable().find(|gone| gone.server == owner).map(|gone| gone.control);
        let control = self.domain.control_of(now, owner).or_else(vanished);
        Some(control.map_or(Ipv4Addr::UNSPECIFIED, |control| *control.ip()))
    }

    fn holders_on<'a>(
        &'a self,
        now: Time,
        group: GroupAddr,
        against: &'a Content,
    ) -> impl Iterator<Item = (ServerId, &'a ClaimBody)> {
        let held = self
            .replicas_on(now, group)
            .filter(|(_, claim, age)| claim.content != *against && *age <= REPLICA_FRESH);
        held.map(|(owner, claim, _)| (owner, claim))
    }

    /// Share first (G9): where another member has this content, if it said so lately and clients are told it there.
    pub(super) fn shareable(&self, now: Time, key: &ClaimKey) -> Option<(ServerId, Placement)> {
        let uids = self.replicas.by_content.get(&(key.content.clone(), key.pinned))?;
        let found = uids.iter().filter_map(|uid| {
            let (claim, age) = claim_of(self.domain.records(), uid, now)?;
            let group = claim.group;
            let fits = uid.owner != self.identity.server
                && claim.configured
                && claim.state == HoldState::Committed
                && age <= REPLICA_FRESH
                && (key.pinned || self.config.pool.holds(group))
                && self.claims.on(group).is_none_or(|claim| claim.key == *key)
                && self.claims.rest(group).is_none_or(|rest| rest.content == key.content)
                && !self.marks.is_marked(now, group)
                && !self.is_anothers(now, group, &key.content);
            fits.then_some((claim.stamp, uid.owner, Placement { group, ports: claim.ports }))
        });
        found.min_by_key(|(stamp, ..)| *stamp).map(|(_, owner, at)| (owner, at))
    }

    /// The claim is made where another member has the content: nothing is cleared.
    pub(super) fn share_first(&mut self, now: Time, key: &ClaimKey) -> bool {
        let Some((owner, at)) = self.shareable(now, key) else { return false };
        self.counters.add("claim", "shared", 1);
        self.tell(Event::Shared { group: at.group, content: key.content.clone(), owner });
        self.commit(now, key, at);
        true
    }

    /// Whether we defend an address that another member holds, beside itself and its MTFTP server: one boot server does,
    /// so that a query is answered by three at the most (G25). Gives the content that is defended.
    pub(super) fn defends_for_another(
        &self,
        now: Time,
        group: GroupAddr,
        against: &Content,
    ) -> Option<Content> {
        let mut held =
            self.holders_on(now, group, against).filter(|(_, claim)| claim.state != HoldState::Resting);
        let (owner, claim) = held.next()?;
        let living = self.domain.living(now).filter(|peer| peer.about.role == ServerRole::Binld);
        let others = living.map(|peer| peer.server).filter(|server| *server != owner);
        let rank = |server: ServerId| rendezvous(group, &server);
        let ours = rank(self.identity.server);
        others.map(rank).all(|theirs| theirs < ours).then(|| claim.content.clone())
    }
}
