//! Who goes by another lowest id than we do: on the other side of a partition that has ended, or about to learn
//! (R004.26, R004.27).
//!
//! ```text
//!  hello: another lowest id        still another, and still heard
//! ────────────────────────► noted ───── back-off, cap … 2 cap ─────► connect to it ──► noted again
//!                             │
//!                             └─ the same id, or silent for 3 s ──► forgotten
//! ```
//!
//! The back-off is as long as the longest timer of an election, so that an election is not taken for a partition; and
//! it is random, so that one member of each side finds the other and the record tells all the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use driver::{Deadline, Draw, Time};
use wire::ServerId;

use crate::limits::{PEER_SILENT, PEERS_MAX};
use crate::lowest::{Constants, Heard};

/// A peer that goes by another lowest id.
#[derive(Debug, Clone, Copy)]
struct Other {
    tells: ServerId,
    heard_at: Time,
    check_at: Time,
}

/// The peers that go by another lowest id than we do.
#[derive(Debug, Clone)]
pub struct Perceptions {
    cap: Duration,
    others: BTreeMap<ServerId, Other>,
}

impl Perceptions {
    /// None yet.
    #[must_use]
    pub fn new(constants: Constants) -> Self {
        Self { cap: constants.cap, others: BTreeMap::new() }
    }

    /// The hello of `peer` tells a lowest id; `ours` is the one that we go by. One too many is not noted: the others
    /// lead to the same place.
    pub fn on_hello(&mut self, now: Time, peer: ServerId, tells: ServerId, ours: Heard, draw: &mut Draw) {
        if tells == ours.lowest {
            self.others.remove(&peer);
            return;
        }
        if ours.version == 0 {
            // We have only just started and are no measure.
            return;
        }
        if !self.others.contains_key(&peer) && self.others.len() >= PEERS_MAX {
            self.others.retain(|_, other| now.since(other.heard_at) < PEER_SILENT);
            if self.others.len() >= PEERS_MAX {
                return;
            }
        }
        // One back-off for all that tell the same id, or the least of many would be no back-off.
        let noted =
            self.others.get(&peer).or_else(|| self.others.values().find(|other| other.tells == tells));
        let check_at = match noted {
            Some(other) => other.check_at,
            None => now + self.cap + draw.jitter(self.cap),
        };
        let other = self.others.entry(peer).or_insert(Other { tells, heard_at: now, check_at });
        (other.tells, other.heard_at) = (tells, now);
    }

    /// A peer to connect to, or to sync with, now; call until there is none. Of several the one that tells the lowest
    /// id (R004.27), and one for all that tell the same. If that does not help it comes again after another back-off.
    pub fn next_mismatch(&mut self, now: Time, ours: Heard, draw: &mut Draw) -> Option<ServerId> {
        self.others.retain(|_, other| now.since(other.heard_at) < PEER_SILENT && other.tells != ours.lowest);
        let due = self.others.iter().filter(|(_, other)| other.check_at <= now);
        let (tells, peer) = due.map(|(peer, other)| (other.tells, *peer)).min()?;
        let check_at = now + self.cap + draw.jitter(self.cap);
        self.others
            .values_mut()
            .filter(|other| other.tells == tells)
            .for_each(|other| other.check_at = check_at);
        Some(peer)
    }

    /// When to call [`Self::next_mismatch`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let at = self.others.values().map(|other| other.check_at).min()?;
        Some(Deadline { at, why: "a peer goes by another lowest id" })
    }

    /// How many go by another lowest id than we did when they were last heard.
    #[must_use]
    pub fn len(&self) -> usize {
        self.others.len()
    }

    /// Whether all agree with us.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.others.is_empty()
    }
}
