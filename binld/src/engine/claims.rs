//! The claim table: every address of ours through its whole life, and the indexes over it.
//!
//! ```text
//! Waiting ──► Clearing ──► Recording ──► Configuring ──► Held ──► Draining ──► gone, the address rests
//!    ▲           │ refused     │ store failed  │ in use      │           ▲
//!    └───────────┴─────────────┴───────────────┘             └───────────┘ not wanted any more
//! ```

use std::collections::BTreeMap;

use driver::{Time, Wall};
use wire::configure::Ports;
use wire::pxe::BootItem;
use wire::{Content, GroupAddr, ServerId, Stamp};

use super::clearing::Clearing;
use super::predicate::Standing;

/// A content may have two claims: a dynamic one and one on the pinned tuple.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimKey {
    /// What the address carries.
    pub content: Content,
    /// Whether it is the claim on the pinned tuple.
    pub pinned: bool,
}

/// An address with its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The address.
    pub group: GroupAddr,
    /// The ports.
    pub ports: Ports,
}

/// What every committed claim has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment {
    /// Where.
    pub at: Placement,
    /// Since when, for Y4.
    pub stamp: Stamp,
    /// Announcements made.
    pub announced: usize,
    /// When the next is due.
    pub announce_at: Time,
}

/// By what right an address is asked for (G5). It ends when the map of slices changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// It is in our slice, or there are no slices yet.
    Slice {
        /// The version of the map.
        map: u64,
    },
    /// The owner of its slice has lent it.
    Loan {
        /// Who.
        owner: ServerId,
        /// The version of the map.
        map: u64,
        /// When the claim must be committed.
        until: Time,
    },
}

/// Where a claim stands in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Has no address and asks for none before `until`.
    Waiting {
        /// When it may ask again.
        until: Time,
        /// Whether an address may come any moment: a client may wait for it.
        soon: bool,
    },
    /// Asks whether the address is free.
    Clearing {
        /// Where.
        at: Placement,
        /// The attempt.
        clearing: Clearing,
    },
    /// Held before a restart, and defended; asks again before it is handed out (Y7).
    Rechecking {
        /// Since before the restart.
        commitment: Commitment,
        /// The attempt.
        clearing: Clearing,
    },
    /// Cleared; the store has it and has not answered.
    Recording {
        /// The claim.
        commitment: Commitment,
        /// What the store will answer.
        ticket: super::Ticket,
    },
    /// On disk; the MTFTP server has been asked.
    Configuring {
        /// The claim.
        commitment: Commitment,
        /// When to ask again if the server stays silent.
        retry_at: Time,
    },
    /// The MTFTP server is ready: clients are told.
    Held {
        /// The claim.
        commitment: Commitment,
        /// The server's last ACK.
        acked_at: Time,
        /// When to configure again.
        renew_at: Time,
    },
    /// No client is told any more; the reference is deleted after `delete_at`.
    Draining {
        /// The claim.
        commitment: Commitment,
        /// When the last client that was told has had its time.
        delete_at: Time,
    },
}

/// The states by name, for the store, the status and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateName {
    /// See [`State::Waiting`].
    Waiting,
    /// See [`State::Clearing`] and [`State::Rechecking`].
    Clearing,
    /// See [`State::Recording`].
    Recording,
    /// See [`State::Configuring`].
    Configuring,
    /// See [`State::Held`].
    Held,
    /// See [`State::Draining`].
    Draining,
}

impl State {
    /// The name of the state.
    #[must_use]
    pub fn name(&self) -> StateName {
        match self {
            Self::Waiting { .. } => StateName::Waiting,
            Self::Clearing { .. } | Self::Rechecking { .. } => StateName::Clearing,
            Self::Recording { .. } => StateName::Recording,
            Self::Configuring { .. } => StateName::Configuring,
            Self::Held { .. } => StateName::Held,
            Self::Draining { .. } => StateName::Draining,
        }
    }

    /// What a committed or draining claim has.
    #[must_use]
    pub fn commitment(&self) -> Option<&Commitment> {
        match self {
            Self::Waiting { .. } | Self::Clearing { .. } => None,
            Self::Rechecking { commitment, .. }
            | Self::Recording { commitment, .. }
            | Self::Configuring { commitment, .. }
            | Self::Held { commitment, .. }
            | Self::Draining { commitment, .. } => Some(commitment),
        }
    }

    /// The same, to change it.
    pub fn commitment_mut(&mut self) -> Option<&mut Commitment> {
        match self {
            Self::Waiting { .. } | Self::Clearing { .. } => None,
            Self::Rechecking { commitment, .. }
            | Self::Recording { commitment, .. }
            | Self::Configuring { commitment, .. }
            | Self::Held { commitment, .. }
            | Self::Draining { commitment, .. } => Some(commitment),
        }
    }

    /// The address, if it has one.
    #[must_use]
    pub fn placement(&self) -> Option<Placement> {
        match self {
            Self::Clearing { at, .. } => Some(*at),
            Self::Waiting { .. } => None,
            Self::Rechecking { commitment, .. }
            | Self::Recording { commitment, .. }
            | Self::Configuring { commitment, .. }
            | Self::Held { commitment, .. }
            | Self::Draining { commitment, .. } => Some(commitment.at),
        }
    }

    /// The attempt under way.
    #[must_use]
    pub fn clearing(&self) -> Option<&Clearing> {
        if let Self::Clearing { clearing, .. } | Self::Rechecking { clearing, .. } = self {
            Some(clearing)
        } else {
            None
        }
    }

    /// When the MTFTP server last acknowledged a held claim.
    #[must_use]
    pub fn acked_at(&self) -> Option<Time> {
        if let Self::Held { acked_at, .. } = self { Some(*acked_at) } else { None }
    }

    /// How firmly the address is ours.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        match self {
            Self::Waiting { .. } => None,
            Self::Clearing { .. } => Some(Standing::Pending),
            Self::Rechecking { .. }
            | Self::Recording { .. }
            | Self::Configuring { .. }
            | Self::Held { .. } => Some(Standing::Committed),
            Self::Draining { .. } => Some(Standing::Leaving),
        }
    }

    /// When the claim itself wants to be called.
    #[must_use]
    pub fn due_at(&self) -> (Time, &'static str) {
        match self {
            Self::Waiting { until, .. } => (*until, "claim may ask again"),
            Self::Clearing { clearing, .. } => (clearing.next_at(), "query due"),
            Self::Rechecking { clearing, .. } => (clearing.next_at(), "query after restart due"),
            Self::Recording { commitment, .. } => (commitment.announce_at, "announcement due"),
            Self::Configuring { commitment, retry_at } => {
                (commitment.announce_at.min(*retry_at), "configure or announcement due")
            }
            Self::Held { commitment, renew_at, .. } => {
                (commitment.announce_at.min(*renew_at), "renewal or announcement due")
            }
            Self::Draining { delete_at, .. } => (*delete_at, "delete due"),
        }
    }
}

/// A claim of ours.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which.
    pub key: ClaimKey,
    /// The boot item that wants it; only named in queries.
    pub boot_item: BootItem,
    /// The boot item's name.
    pub item: String,
    /// Where it stands.
    pub state: State,
    /// Since when it stands there.
    pub since: Wall,
    /// Why it may be committed where it is asked for; nothing for one that was asked for before a restart.
    pub basis: Option<Basis>,
    /// Number of the next address to try.
    pub candidate: u32,
    /// Refusals in a row.
    pub refusals: usize,
    /// When a client was last told the address.
    pub told_at: Option<Time>,
    /// When a client last asked for the content.
    pub asked_at: Option<Time>,
    /// Another address on which somebody asks for the same content, and since when.
    pub elsewhere: Option<(GroupAddr, Time)>,
    /// Went through a clean round in this life of the process: before that it is not handed out (Y7).
    pub cleared: bool,
    /// Drains into another address of the same content, and is not to be taken back (Y6).
    pub leaves: bool,
    /// The address for which the MTFTP server may keep our reference.
    pub referenced: Option<GroupAddr>,
}

/// A released address: defended, and not used again yet (G15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// What it carried.
    pub content: Content,
    /// The claim's stamp.
    pub stamp: Stamp,
    /// When it is free.
    pub until: Time,
}

/// The claims, found by key and by address; and the addresses that rest.
#[derive(Debug, Default)]
pub struct ClaimTable {
    claims: BTreeMap<ClaimKey, Claim>,
    by_group: BTreeMap<GroupAddr, ClaimKey>,
    rests: BTreeMap<GroupAddr, Rest>,
}

impl ClaimTable {
    /// The claim of that key.
    #[must_use]
    pub fn get(&self, key: &ClaimKey) -> Option<&Claim> {
        self.claims.get(key)
    }

    /// To change a claim without moving it: [`Self::set_state`] keeps the index.
    pub fn get_mut(&mut self, key: &ClaimKey) -> Option<&mut Claim> {
        self.claims.get_mut(key)
    }

    /// The claim on that address.
    #[must_use]
    pub fn on(&self, group: GroupAddr) -> Option<&Claim> {
        self.by_group.get(&group).and_then(|key| self.claims.get(key))
    }

    /// The rest of that address.
    #[must_use]
    pub fn rest(&self, group: GroupAddr) -> Option<&Rest> {
        self.rests.get(&group)
    }

    /// In order of key.
    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values()
    }

    /// In order of address.
    pub fn rests(&self) -> impl Iterator<Item = (GroupAddr, &Rest)> {
        self.rests.iter().map(|(group, rest)| (*group, rest))
    }

    /// Adds a claim, in place of one with the same key.
    pub fn insert(&mut self, claim: Claim) {
        let key = claim.key.clone();
        self.remove(&key);
        if let Some(at) = claim.state.placement() {
            self.by_group.insert(at.group, key.clone());
        }
        self.claims.insert(key, claim);
    }

    /// Moves a claim to another state.
    pub fn set_state(&mut self, key: &ClaimKey, state: State, since: Wall) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        let (old, new) = (claim.state.placement(), state.placement());
        if old.map(|at| at.group) != new.map(|at| at.group) {
            if let Some(at) = old {
                self.by_group.remove(&at.group);
            }
            if let Some(at) = new {
                self.by_group.insert(at.group, key.clone());
            }
        }
        if claim.state.name() != state.name() {
            claim.since = since;
        }
        claim.state = state;
    }

    /// Every clearing under way asks from the beginning; their timers are only early.
    pub fn doubt(&mut self, now: Time) {
        for claim in self.claims.values_mut() {
            if let State::Clearing { clearing, .. } | State::Rechecking { clearing, .. } = &mut claim.state {
                clearing.doubt(now);
            }
        }
    }

    /// Takes a claim out.
    pub fn remove(&mut self, key: &ClaimKey) -> Option<Claim> {
        let claim = self.claims.remove(key)?;
        if let Some(at) = claim.state.placement() {
            self.by_group.remove(&at.group);
        }
        Some(claim)
    }

    /// Lets an address rest.
    pub fn put_rest(&mut self, group: GroupAddr, rest: Rest) {
        self.rests.insert(group, rest);
    }

    /// Ends the rest of an address.
    pub fn end_rest(&mut self, group: GroupAddr) {
        self.rests.remove(&group);
    }

    /// Whether `group`, or an address that shares its Ethernet address, is ours or rests (G21). An address that rests
    /// after it carried `content` may carry it again.
    #[must_use]
    pub fn is_near(&self, group: GroupAddr, content: &Content) -> bool {
        let bits = group.ethernet_bits();
        let rests = self.rests.iter().filter(|(other, rest)| **other != group || rest.content != *content);
        let mut others = self.by_group.keys().chain(rests.map(|(other, _)| other));
        others.any(|other| other.ethernet_bits() == bits)
    }
}
