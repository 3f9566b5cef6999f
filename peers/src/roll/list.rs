//! A list of members, who owns which address under it, and how it travels in parts.

use std::collections::{BTreeMap, BTreeSet};

use wire::record::{Age, Body, ROLL_MAX, Record, RecordKind, Roll as Part, Snum, Uid};
use wire::{GroupAddr, ServerId};

use crate::limits::{
    ROLL_GATHERINGS_MAX, ROLL_MEMBERS_MAX, ROLL_ORIGINS_MAX, ROLL_PARTS_MAX, ROLL_VERSION_MAX,
};
use crate::rendezvous::rendezvous;

/// Tells lists apart, also two of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 16]);

/// Of two lists the one with the greater rank stays: that of the greater version, or of the greater digest.
pub(super) type Rank = (u32, Digest);

/// A version of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    version: u32,
    members: Vec<ServerId>,
    digest: Digest,
}

impl List {
    /// `None` if there are no members, too many, or they are not in order and each once; or if the version is absurd.
    #[must_use]
    pub fn new(version: u32, members: Vec<ServerId>) -> Option<Self> {
        let ordered = members.iter().zip(members.iter().skip(1)).all(|(one, next)| one < next);
        let fits = (1..=ROLL_MEMBERS_MAX).contains(&members.len());
        if !ordered || !fits || !(1..=ROLL_VERSION_MAX).contains(&version) {
            return None;
        }
        let digest = digest(version, &members);
        Some(Self { version, members, digest })
    }

    /// Rises with every change; two that are proposed at once may have the same.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// In order, each once.
    #[must_use]
    pub fn members(&self) -> &[ServerId] {
        &self.members
    }

    /// Over version and members.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn rank(&self) -> Rank {
        (self.version, self.digest)
    }

    /// Whether that server is in it.
    #[must_use]
    pub fn holds(&self, server: &ServerId) -> bool {
        self.members.binary_search(server).is_ok()
    }

    /// Whose slice the address is in.
    #[must_use]
    pub fn owner(&self, group: GroupAddr) -> Option<ServerId> {
        self.members.iter().copied().max_by_key(|server| (rendezvous(group, server), *server))
    }

    /// Whether that is this member: mostly a few others tell.
    pub(super) fn is_owner(&self, group: GroupAddr, member: &ServerId) -> bool {
        let ours = (rendezvous(group, member), *member);
        self.holds(member) && self.members.iter().all(|other| (rendezvous(group, other), *other) <= ours)
    }

    /// As records, by their numbers.
    pub(super) fn parts(&self) -> BTreeMap<u64, Part> {
        let chunks = self.members.chunks(ROLL_MAX);
        let parts = u8::try_from(chunks.len()).unwrap_or(u8::MAX);
        let part = |(part, members): (u8, &[ServerId])| {
            let body = Part { version: self.version, part, parts, members: members.to_vec() };
            (self.tag() << 8 | u64::from(part), body)
        };
        (0..parts).zip(chunks).map(part).collect()
    }

    /// What the numbers of its records begin with; the first bit tells them from other records.
    pub(super) fn tag(&self) -> u64 {
        let start = self.digest.0.iter().take(7).fold(0, |tag, byte| tag << 8 | u64::from(*byte));
        start | 1 << 55
    }
}

/// The checksum of a chain of records, one for each part: each names the one before as its owner.
fn digest(version: u32, members: &[ServerId]) -> Digest {
    let link = |before: ServerId, members: &[ServerId]| {
        let body = Part { version, part: 0, parts: 1, members: members.to_vec() };
        let uid = Uid { owner: before, kind: RecordKind::Domain, number: 0 };
        let record = Record { uid, snum: Snum::default(), age: Age(0), lives: 0, body: Body::Domain(body) };
        ServerId(record.checksum().0)
    };
    Digest(members.chunks(ROLL_MAX).fold(ServerId([0; 16]), link).0)
}

/// The first lists, begun by servers that had none, that a list comes from: mostly one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// Those upon which members of the list agreed that are in it still.
    pub own: BTreeSet<Digest>,
    /// All, those too whose members have all left.
    pub all: BTreeSet<Digest>,
}

impl Origins {
    /// The greatest of both stay.
    pub(super) fn bound(&mut self) {
        self.all.extend(&self.own);
        for origins in [&mut self.own, &mut self.all] {
            while origins.len() > ROLL_ORIGINS_MAX {
                origins.pop_first();
            }
        }
    }
}

/// Whether records with this number are parts of a list.
pub(super) fn is_part(number: u64) -> bool {
    number >> 63 == 1
}

/// A list on its way.
#[derive(Debug)]
struct Gathering {
    parts: BTreeMap<u8, Part>,
    list: Option<List>,
}

/// Lists that others publish, as far as their parts have come.
#[derive(Debug, Default)]
pub(super) struct Gatherings(BTreeMap<(ServerId, u64), Gathering>);

impl Gatherings {
    /// A part came, or is not said any more (`None`). Says why it is dropped, if it is.
    pub(super) fn on_part(
        &mut self,
        owner: ServerId,
        number: u64,
        said: Option<&Part>,
        is_living: impl Fn(&ServerId) -> bool,
    ) -> Result<(), &'static str> {
        let key = (owner, number >> 8);
        let Some(part) = said else {
            self.0.remove(&key);
            return Ok(());
        };
        let is_named = number & 0xff == u64::from(part.part);
        if usize::from(part.parts) > ROLL_PARTS_MAX || part.part >= part.parts || !is_named {
            return Err("parts");
        }
        if !self.0.contains_key(&key) && self.0.len() >= ROLL_GATHERINGS_MAX {
            let dead = self.0.keys().find(|(owner, _)| !is_living(owner)).copied();
            self.0.remove(&dead.ok_or("too_many")?);
        }
        let new = Gathering { parts: BTreeMap::new(), list: None };
        let gathering = self.0.entry(key).or_insert(new);
        if gathering.list.is_some() {
            return Ok(());
        }
        gathering.parts.insert(part.part, part.clone());
        let count = gathering.parts.len();
        if gathering.parts.values().any(|other| (other.version, other.parts) != (part.version, part.parts)) {
            self.0.remove(&key);
            return Err("parts");
        }
        if count < usize::from(part.parts) {
            return Ok(());
        }
        let members = std::mem::take(&mut gathering.parts).into_values().flat_map(|part| part.members);
        match List::new(part.version, members.collect()).filter(|list| list.tag() == key.1) {
            Some(list) => {
                gathering.list = Some(list);
                Ok(())
            }
            None => {
                self.0.remove(&key);
                Err("list")
            }
        }
    }

    /// Lists of which all parts have come, and who publishes them.
    pub(super) fn lists(&self) -> impl Iterator<Item = (&ServerId, &List)> {
        self.0.iter().filter_map(|((owner, _), gathering)| Some((owner, gathering.list.as_ref()?)))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
