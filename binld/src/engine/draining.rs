//! How an address is given back: drained, its reference deleted, rested, and free (P3, G15).

use driver::Time;
use wire::{GroupAddr, Stamp};

use super::claims::{ClaimKey, Placement, Rest, State, StateName};
use super::event::Event;
use super::requests::Subject;
use super::{Change, ClaimRecord, Engine, Timer};
use crate::limits::{HANDOUT_LIFETIME, REST, REST_PINNED};

impl Engine {
    /// No boot item wants the claim any more, or others do: the reference goes when the last client that was told the
    /// address has had its time (P3).
    pub(super) fn drain(&mut self, now: Time, key: &ClaimKey) {
        let told_at = self.claims.get(key).and_then(|claim| claim.told_at);
        self.drain_from(now, key, told_at.map_or(now, |told_at| (told_at + HANDOUT_LIFETIME).max(now)));
    }

    /// No client is told the address from now on, and the reference goes at `delete_at`.
    pub(super) fn drain_from(&mut self, now: Time, key: &ClaimKey, delete_at: Time) {
        let Some(claim) = self.claims.get(key) else { return };
        let commitment = claim.state.commitment().copied();
        let stored = !matches!(claim.state, State::Recording { .. });
        let Some(commitment) = commitment.filter(|_| stored) else {
            // Nobody was told of it; if the row is on its way to the disk, its removal follows.
            if let Some(commitment) = commitment {
                self.persist(vec![Change::DropClaim(commitment.at.group)]);
            }
            self.abandon_reference(now, key);
            self.forget_contests(key);
            self.claims.remove(key);
            self.unpublished.insert(key.clone());
            return self.timers.disarm(&Timer::Claim(key.clone()));
        };
        let Some(claim) = self.claims.get(key) else { return };
        if matches!(claim.state, State::Draining { .. }) {
            return;
        }
        self.forget_contests(key);
        self.end_request(&Subject::Configure(key.clone()));
        self.set_state(now, key, State::Draining { commitment, delete_at });
        self.record(key);
        self.tell(Event::Draining { group: commitment.at.group, content: key.content.clone() });
    }

    /// The claim leaves an address at which the MTFTP server may keep our reference. It stands in the store, as draining,
    /// until the server has acknowledged the delete: a reference that we forget blocks the address for everybody.
    pub(super) fn abandon_reference(&mut self, now: Time, key: &ClaimKey) {
        let since = self.wall_at(now);
        let Some(claim) = self.claims.get_mut(key) else { return };
        let Some(group) = claim.referenced.take() else { return };
        let record = ClaimRecord {
            key: key.clone(),
            at: Placement {
                group,
                ports: claim.state.placement().map_or(self.config.dynamic_ports, |at| at.ports),
            },
            boot_item: claim.boot_item,
            item: claim.item.clone(),
            state: StateName::Draining,
            // No commitment any more: nothing is defended.
            stamp: Stamp { millis: 0, sender: self.identity.server },
            since,
        };
        self.persist(vec![Change::PutClaim(record)]);
        self.delete_reference(now, key, group);
    }

    /// The MTFTP server has deleted our reference.
    pub(super) fn on_deleted(&mut self, now: Time, key: &ClaimKey, group: GroupAddr) {
        self.release(now, key, group);
        let there = self.claims.on(group).is_some_and(|claim| claim.state.commitment().is_some());
        if !there {
            self.persist(vec![Change::DropClaim(group)]);
        }
    }

    /// Wanted again before it was deleted: the reference may still be there, so it is only renewed.
    pub(super) fn undrain(&mut self, now: Time, key: &ClaimKey) {
        let Some(claim) = self.claims.get(key) else { return };
        let (Some(commitment), cleared) = (claim.state.commitment().copied(), claim.cleared) else { return };
        self.end_request(&Subject::Delete(key.clone(), commitment.at.group));
        if cleared {
            self.configure(now, key, commitment);
        } else {
            self.recheck(now, key, commitment);
        }
    }

    /// The reference is gone, or nobody answers for it: the address rests.
    pub(super) fn release(&mut self, now: Time, key: &ClaimKey, group: GroupAddr) {
        let state = self.claims.get(key).map(|claim| &claim.state);
        let Some(State::Draining { commitment, .. }) = state else { return };
        let commitment = *commitment;
        if commitment.at.group != group {
            return;
        }
        self.claims.remove(key);
        self.unpublished.insert(key.clone());
        self.timers.disarm(&Timer::Claim(key.clone()));
        let until = now + if key.pinned { REST_PINNED } else { REST };
        let wall = self.wall_at(now);
        self.persist(vec![Change::PutRest(group, key.content.clone(), commitment.stamp, wall)]);
        self.claims.put_rest(group, Rest { content: key.content.clone(), stamp: commitment.stamp, until });
        self.timers.arm(Timer::Rest(group), until, "rest is over");
        self.tell(Event::Released { group, content: key.content.clone() });
    }

    pub(super) fn on_rest_over(&mut self, group: GroupAddr) {
        self.publish_rest(group);
        self.claims.end_rest(group);
        self.persist(vec![Change::DropRest(group)]);
        self.unsettle();
    }
}
