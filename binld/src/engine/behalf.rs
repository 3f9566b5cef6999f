//! Delete on behalf: the reference of a BINLD that is dead would keep its address for ever (G12).
//!
//! ```text
//!                 stale, and dead                still so 10 s later
//! (not our matter) ─────────────► seen ────────────────────────────► asked ──┐ still so: again after 20, 40, … 600 s
//!        ▲                          │                                  │ ▲───┘
//!        └──────────────────────────┴──────────────────────────────────┘ renewed, deleted, alive, or another's turn
//! ```
//! Everybody in the domain has the records of the MTFTP servers: who relies on which address, and whose reference was not
//! renewed for 300 s there. If such a one is dead, then of those that live exactly one asks the MTFTP server: the first by
//! rank, which everybody reckons alike. If it dies, too, the next one is the first.
//!
//! **Why that is safe.** Nothing rests on our belief that somebody is dead. An MTFTP server deletes only what was not
//! renewed for 300 s by its own clock, and a BINLD hands an address out for 180 s after its last ACK, to clients that come
//! within 120 s. Whoever is cut off from whom: by then nobody may be told that address, and nobody who was told it comes.
//! So a BINLD that lives, cut off from us and from that server, loses a reference that is of no use to it; when it is back
//! it hears *superseded*, configures again and has its reference back: nobody else gets the address for 300 s more.
//!
//! **Why nothing is asked while we are cut off.** Who is cut off from *us* may renew all the time, and then the server
//! does not say that it is stale; but what we last heard of the server may be old. So we ask only when we are joined: a
//! BINLD that hears nobody, or is not done comparing records, does not know what the others know. It leaves nothing
//! undone by that. The server that would have to do it is a member as well: a BINLD that hears none is not heard by it, and
//! the last BINLD of a domain, which hears the server, is not alone.

use std::collections::BTreeMap;
use std::time::Duration;

use driver::Time;
use peers::domain::Standing;
use wire::ServerId;
use wire::configure::DeleteForDead;
use wire::control::Message;
use wire::record::{Body, Holder, RecordKind, Reference, ServerRole};
use wire::{Content, GroupAddr};

use super::choose::rendezvous_of;
use super::event::Event;
use super::{Engine, Timer};
use crate::limits::{BEHALF_AT_ONCE, BEHALF_INTERVAL, BEHALF_MAX, BEHALF_WAIT_MAX};

/// One reference: the server that keeps it, the address, whose.
type Key = (ServerId, GroupAddr, ServerId);

/// What we do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pursuit {
    /// How often the server was asked.
    asked: u32,
    /// Nothing is done before.
    next_at: Time,
}

/// The references of dead BINLDs that are our matter.
#[derive(Debug, Default)]
pub struct Behalf {
    pursued: BTreeMap<Key, Pursuit>,
}

/// How long after the last request the next one goes out.
fn wait(asked: u32) -> Duration {
    BEHALF_INTERVAL.saturating_mul(1_u32.checked_shl(asked).unwrap_or(u32::MAX)).min(BEHALF_WAIT_MAX)
}

impl Engine {
    /// Looks through the records; the next look is in [`BEHALF_INTERVAL`].
    pub(super) fn on_behalf_due(&mut self, now: Time) {
        self.timers.arm(Timer::Behalf, now + BEHALF_INTERVAL, "references of the dead to be looked for");
        // The dead are unreachable, too: that alone is what a partition looks like from here.
        let hears_others =
            matches!(self.domain.standing(now), Standing::Joined | Standing::Partitioned { .. });
        if !hears_others {
            return;
        }
        let found = self.of_the_dead(now);
        let mut before = std::mem::take(&mut self.behalf.pursued);
        let mut room = BEHALF_AT_ONCE;
        for (key, message) in found {
            let fresh = Pursuit { asked: 0, next_at: now + BEHALF_INTERVAL };
            let mut pursuit = before.remove(&key).unwrap_or(fresh);
            if pursuit.next_at <= now && room > 0 {
                room -= 1;
                pursuit.asked = pursuit.asked.saturating_add(1);
                pursuit.next_at = now + wait(pursuit.asked);
                self.ask_for_the_dead(now, key, pursuit, message);
            }
            self.behalf.pursued.insert(key, pursuit);
        }
        for _ in before.values().filter(|pursuit| pursuit.asked > 0) {
            self.counters.add("behalf", "settled", 1);
        }
    }

    fn ask_for_the_dead(
        &mut self,
        now: Time,
        (server, group, dead): Key,
        pursuit: Pursuit,
        (content, message): (Content, DeleteForDead),
    ) {
        let Some(to) = self.domain.control_of(now, server) else { return };
        self.counters.add("behalf", "asked", 1);
        if pursuit.asked == 1 {
            self.tell(Event::ForDead { group, content, dead });
        }
        self.send_control(to, Message::DeleteForDead(message));
    }

    /// The references that are stale, of BINLDs that are dead, with servers that live, and ours by rank.
    fn of_the_dead(&self, now: Time) -> Vec<(Key, (Content, DeleteForDead))> {
        let living = self.domain.living_as(now, ServerRole::Binld);
        let records = self.domain.records().of_kind(RecordKind::Reference, now);
        let references = records.filter_map(|(record, _)| {
            let Body::Reference(reference) = &record.body else { return None };
            Some((record.uid.owner, reference))
        });
        let served =
            references.filter(|(server, _)| self.domain.role_of(now, *server) == Some(ServerRole::Mtftpd));
        let holders = served.flat_map(|(server, reference)| {
            reference.holders.iter().map(move |holder| (server, reference, holder))
        });
        let ours = |(_, reference, holder): &(ServerId, &Reference, &Holder)| {
            holder.stale
                && self.domain.is_dead(now, holder.binld)
                && first_by_rank(reference.group, holder.binld, living.iter().copied())
                    == Some(self.identity.server)
        };
        let entry = |(server, reference, holder): (ServerId, &Reference, &Holder)| {
            let (group, dead) = (reference.group, holder.binld);
            let Holder { boot_epoch, serial, .. } = *holder;
            let file = reference.content.file.clone();
            let message = DeleteForDead { group, file, dead, boot_epoch, serial };
            ((server, group, dead), (reference.content.clone(), message))
        };
        holders.filter(ours).take(BEHALF_MAX).map(entry).collect()
    }
}

/// Which of the living speaks for a dead one at that address: the one with the greatest number, the same for everybody.
pub(super) fn first_by_rank(
    group: GroupAddr,
    dead: ServerId,
    living: impl Iterator<Item = ServerId>,
) -> Option<ServerId> {
    living.max_by_key(|server| (rendezvous_of(group, &[&dead.0, &server.0]), *server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let seconds: Vec<u64> = [0, 1, 2, 3, 6, 31, 32, u32::MAX].map(|asked| wait(asked).as_secs()).to_vec();
        assert_eq!(seconds, [10, 20, 40, 80, 600, 600, 600, 600]);
    }

    /// One of the living for each address and dead one, whoever reckons; different ones for different addresses; and if
    /// that one is gone, another.
    #[test]
    fn one_of_the_living_is_first() {
        let living: Vec<ServerId> = (1..=5).map(|byte| ServerId([byte; 16])).collect();
        let dead = ServerId([9; 16]);
        let mut firsts = std::collections::BTreeSet::new();
        for last in 0..100 {
            let group = GroupAddr::new(std::net::Ipv4Addr::new(239, 255, 0, last)).unwrap();
            let first = first_by_rank(group, dead, living.iter().copied()).unwrap();
            assert_eq!(Some(first), first_by_rank(group, dead, living.iter().rev().copied()));
            let second = first_by_rank(group, dead, living.iter().copied().filter(|it| *it != first));
            assert!(second.is_some_and(|second| second != first));
            firsts.insert(first);
        }
        assert_eq!(firsts.len(), living.len());
        let group = GroupAddr::new(std::net::Ipv4Addr::new(239, 255, 0, 1)).unwrap();
        assert_eq!(first_by_rank(group, dead, std::iter::empty()), None);
    }
}
