//! Claims of others, as the domain tells them: shared before an address is cleared (G9), kept out of the way of, and
//! defended when their owner cannot (G13, G25). And ours, told to the domain.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use driver::Time;
use peers::records::Records;
use wire::hold::HoldState;
use wire::pxe::BootItem;
use wire::record::{Body, Claim as ClaimBody, RecordKind, ServerRole, Uid};
use wire::{Content, GroupAddr, Layer, ServerId, ServerType};

use super::Engine;
use super::choose::rendezvous;
use super::claims::{ClaimKey, Placement, Rest, State};
use super::event::Event;
use super::predicate::Standing;
use super::status::ReplicaStatus;
use crate::limits::{CLAIM_LIVES, PUBLISHED_MAX, REPLICA_FRESH};

/// Where the claims of others are among the records.
#[derive(Debug, Clone, Default)]
pub struct Replicas {
    by_group: BTreeMap<GroupAddr, BTreeSet<Uid>>,
    by_content: BTreeMap<(Content, bool), BTreeSet<Uid>>,
    places: BTreeMap<Uid, (GroupAddr, (Content, bool))>,
}

impl Replicas {
    /// A record appeared, changed or ended.
    pub fn on_changed(&mut self, uid: Uid, records: &Records, now: Time) {
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

    fn on(&self, group: GroupAddr) -> impl Iterator<Item = &Uid> {
        self.by_group.get(&group).into_iter().flatten()
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

    pub(super) fn replicas_status(&self, now: Time) -> Vec<ReplicaStatus> {
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

    /// Where the member is that has that address for something else, or lets it rest, and said so lately.
    pub(super) fn knows_holder(&self, now: Time, group: GroupAddr, content: &Content) -> Option<Ipv4Addr> {
        let (owner, ..) = self.holders_on(now, group, content).next()?;
        let control = self.domain.control_of(now, owner).map(|control| *control.ip());
        Some(control.unwrap_or(Ipv4Addr::UNSPECIFIED))
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
                && self.claims.on(group).is_none()
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
        let rank = |server: ServerId| rendezvous(group, &server.0);
        let ours = rank(self.identity.server);
        others.map(rank).all(|theirs| theirs < ours).then(|| claim.content.clone())
    }
}
