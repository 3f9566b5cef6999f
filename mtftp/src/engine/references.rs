//! Which BINLDs rely on which address (R003.15–R003.20).
//!
//! One request, per (address, BINLD) at most one at a time:
//!
//! ```text
//! configure ─► Looking (file?) ─► Storing (reference) ─► ACK          no file, in use ─► NAK, nothing changed
//! delete    ─► last reference and a session runs: Closing (no new opens; 120 s at most) ─► Storing (removal) ─► ACK
//!           └► otherwise: Storing (removal) ─► ACK
//! forget    ─► as delete, on behalf of a BINLD that does not renew (G12): by an operator's word, or a living BINLD's
//! ```
//!
//! One address:
//!
//! ```text
//! free ──first reference──► Claimed ──last reference deleted──► Resting ──300 s, pinned 10 s──► free
//!                              ▲                                   │
//!                              └──────configure, same file─────────┘
//! ```
//!
//! Of every (BINLD, address) the highest (boot epoch, serial) is kept, beyond the reference's end: equal → the same
//! answer, lower → *superseded* (G14). Nothing is answered before the store has it (I2). Everything but *in use* and
//! *no such file* that goes wrong is silence and a counter: the BINLD asks again. A BINLD that does not configure again
//! for 300 s has a *stale* reference: that is shown and told, and takes nothing from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Deadline, Deadlines, Role, Time, Wall};
use wire::configure::{
    Ack, Configure, Delete, DeleteForDead, Nak, NakReason, Ports, RequestRef, Superseded, Target,
};
use wire::control::{Envelope, Message};
use wire::policy::Policy;
use wire::tftp::{MTFTP_FILE_SIZE_MAX, MULTICAST_PORT, multicast_file_size_max};
use wire::{BootEpoch, FileName, GroupAddr, Serial, ServerId, Stamp};

use super::action::{
    Change, DeletedBy, Event, FileError, FileFacts, FileTicket, Forgotten, Journal, Order, ReferenceRecord,
    RestRecord, SerialRecord, Ticket,
};
use super::context::Context;
use super::{EngineConfig, Identity};
use crate::limits::{
    CLOSING_MAX, IN_USE, KNOWN_KEEP, KNOWN_MAX, LEASE, PROBES_MAX, REFERENCES_MAX, REFERENCES_PER_SENDER_MAX,
    REST, REST_PINNED,
};

mod behalf;
mod configure;
mod delete;
mod forget;
mod lease;
#[cfg(test)]
mod tests;

/// One BINLD's entry in the list of an address (R003.18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) address: Ipv4Addr,
    pub(crate) epoch: BootEpoch,
    pub(crate) serial: Serial,
    pub(crate) stamp: Stamp,
    pub(crate) since: Wall,
    pub(crate) renewed: Wall,
    /// False until the store has it for the first time.
    pub(crate) stored: bool,
    /// Until when it must be renewed (G12); `None` if it need not be.
    pub(crate) stale_at: Option<Time>,
    /// It was not.
    pub(crate) stale: bool,
    /// How its boot item wants the clients treated; the default after a restart, until it is renewed.
    pub(crate) policy: Policy,
}

/// An address with at least one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) file: FileName,
    pub(crate) ports: Ports,
    pub(crate) references: BTreeMap<ServerId, Reference>,
    /// The last reference is being deleted: no new opens.
    pub(crate) closing: bool,
    /// When somebody last opened a session here.
    pub(crate) opened_at: Option<Time>,
    /// The rest that it was taken out of, until the store has a reference: without one it goes on.
    before: Option<Rest>,
}

impl Claim {
    fn is_stored(&self) -> bool {
        self.references.values().any(|reference| reference.stored)
    }
}

/// An address that may not be used for something else yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) file: FileName,
    /// The ports that were in force; zero after a restart, which does not matter to anybody.
    pub(crate) ports: Ports,
    pub(crate) stamp: Stamp,
    pub(crate) since: Wall,
}

/// What an address is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Claimed(Claim),
    Resting(Rest),
}

impl Claim {
    /// When it was first committed, as far as those who rely on it say.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.references.values().map(|reference| reference.stamp).min()
    }

    /// How its clients are treated: as the oldest claim has it, so that all sessions agree whoever configures last.
    pub(crate) fn policy(&self) -> Policy {
        let oldest = self.references.values().min_by_key(|reference| reference.stamp);
        oldest.map(|reference| reference.policy).unwrap_or_default()
    }

    /// Whether somebody opened a session here lately (Y4).
    pub(crate) fn was_opened(&self, now: Time) -> bool {
        self.opened_at.is_some_and(|at| now.since(at) < IN_USE)
    }
}

impl Place {
    pub(crate) fn file(&self) -> &FileName {
        match self {
            Self::Claimed(claim) => &claim.file,
            Self::Resting(rest) => &rest.file,
        }
    }

    fn ports(&self) -> Ports {
        match self {
            Self::Claimed(claim) => claim.ports,
            Self::Resting(rest) => rest.ports,
        }
    }
}

/// The highest request of a BINLD for an address, and what it was answered; `None` after a restart.
#[derive(Debug)]
struct Known {
    epoch: BootEpoch,
    serial: Serial,
    answer: Option<Message>,
}

/// Who sent a request, and when by the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) from: SocketAddrV4,
    pub(crate) binld: ServerId,
    pub(crate) epoch: BootEpoch,
    pub(crate) wall: Wall,
}

/// A request that is being dealt with.
#[derive(Debug, Clone)]
struct Asked<M> {
    sender: Sender,
    message: M,
}

#[derive(Debug)]
enum Step {
    /// The shell looks the file up.
    Looking { file: FileTicket, group: GroupAddr, ports: Ports, stamp: Stamp, asked: Asked<Configure> },
    /// The store writes the reference. `old` is what it has of it until then.
    Storing { ticket: Ticket, size: u64, old: Option<Reference>, asked: Asked<Configure> },
    /// The session of an address whose last reference goes is ending.
    Closing { removal: Removal },
    /// The store removes the reference (`reference` false: there was none, only the serial is written), and begins
    /// the rest if it was the last one (`rests`).
    Removing { ticket: Ticket, reference: bool, rests: bool, removal: Removal },
}

/// A reference that shall go.
#[derive(Debug, Clone)]
struct Removal {
    /// Requests below this number are older than the removal.
    epoch: BootEpoch,
    serial: Serial,
    at: Wall,
    by: By,
}

/// Who wants it gone, and where the answer goes.
#[derive(Debug, Clone)]
enum By {
    Binld {
        to: SocketAddrV4,
        file: FileName,
    },
    /// `None`: has been answered already.
    Operator(Option<Order>),
    /// A living BINLD, of a dead one. It sees the record change.
    Member(ServerId),
}

/// Keys of one request in flight: address and BINLD.
type Key = (GroupAddr, ServerId);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Rested(GroupAddr),
    Forget(Key),
    Cut(GroupAddr),
    Stale(Key),
}

/// All references, and the requests about them.
#[derive(Debug)]
pub(crate) struct References {
    config: EngineConfig,
    identity: Identity,
    places: BTreeMap<GroupAddr, Place>,
    known: BTreeMap<Key, Known>,
    steps: BTreeMap<Key, Step>,
    probes: BTreeMap<FileTicket, Asked<Configure>>,
    deadlines: Deadlines<Due>,
    /// Nothing is released before.
    grace_until: Time,
    /// Addresses of which the domain is to be told something else.
    changed: BTreeSet<GroupAddr>,
    sequence: u64,
}

fn request_ref(epoch: BootEpoch, serial: Serial, group: Option<GroupAddr>) -> RequestRef {
    RequestRef { boot_epoch: epoch, serial, group }
}

impl References {
    pub(crate) fn new(config: EngineConfig, identity: Identity) -> Self {
        Self {
            config,
            identity,
            places: BTreeMap::new(),
            known: BTreeMap::new(),
            steps: BTreeMap::new(),
            probes: BTreeMap::new(),
            deadlines: Deadlines::default(),
            grace_until: Time::ZERO,
            changed: BTreeSet::new(),
            sequence: 0,
        }
    }

    /// Takes up what the store knew. Rests start over in full; with references, the grace begins.
    pub(crate) fn recover(&mut self, journal: Journal, now: Time, wall: Wall, context: &mut Context) {
        let rested: Vec<GroupAddr> = journal.rests.iter().map(|record| record.group).collect();
        for record in journal.rests {
            let ports = Ports { client: 0, server: 0 };
            let rest = Rest { file: record.file, ports, stamp: record.stamp, since: record.since };
            self.rest(now, record.group, rest);
        }
        let mut records = journal.references;
        // Should two rows of one address disagree about the file, the older claim is the one that was served.
        records.sort_by_key(|record| (record.group, record.stamp, record.binld));
        for record in records {
            self.grace_until = now + self.config.grace;
            self.recover_reference(&record, now, wall, context);
        }
        // A rest that the store did not forget in time.
        for group in
            rested.into_iter().filter(|group| matches!(self.places.get(group), Some(Place::Claimed(_))))
        {
            context.persist(vec![Change::DeleteRest(group)]);
        }
        for record in journal.serials {
            self.remember((record.group, record.binld), record.epoch, record.serial, None, now);
        }
    }

    fn recover_reference(&mut self, record: &ReferenceRecord, now: Time, wall: Wall, context: &mut Context) {
        if let Some(Place::Claimed(claim)) = self.places.get(&record.group)
            && claim.file != record.file
        {
            context.count("references", "journal_contradiction");
            return;
        }
        // A port that the configuration no longer has would never hear an open.
        let ports = match self.places.get(&record.group) {
            Some(Place::Claimed(claim)) => claim.ports,
            Some(Place::Resting(_)) | None => {
                self.choose_ports(record.group, record.ports, &record.file).unwrap_or(record.ports)
            }
        };
        self.deadlines.disarm(&Due::Rested(record.group));
        self.put_reference(record, ports, true);
        self.changed.insert(record.group);
        let key = (record.group, record.binld);
        self.known.insert(key, Known { epoch: record.epoch, serial: record.serial, answer: None });
        self.lease_after_restart(key, now, wall);
    }

    fn put_reference(&mut self, record: &ReferenceRecord, ports: Ports, stored: bool) {
        let old = self.reference((record.group, record.binld));
        let reference = Reference {
            address: record.address,
            epoch: record.epoch,
            serial: record.serial,
            stamp: record.stamp,
            since: record.since,
            renewed: record.renewed,
            stored,
            // The lease goes on as it was until the store has the renewal.
            stale_at: old.and_then(|old| old.stale_at),
            stale: old.is_some_and(|old| old.stale),
            policy: old.map(|old| old.policy).unwrap_or_default(),
        };
        let fresh = Claim {
            file: record.file.clone(),
            ports,
            references: BTreeMap::new(),
            closing: false,
            opened_at: None,
            before: None,
        };
        let place = self.places.entry(record.group).or_insert_with(|| Place::Claimed(fresh.clone()));
        if let Place::Resting(rest) = place {
            let before = if stored { None } else { Some(rest.clone()) };
            *place = Place::Claimed(Claim { before, ..fresh });
        }
        if let Place::Claimed(claim) = place {
            claim.references.insert(record.binld, reference);
        }
    }

    /// References of an address that will be there whatever becomes of this one's: the store has them, and nobody
    /// wants them gone.
    fn others(&self, (group, binld): Key) -> usize {
        let Some(Place::Claimed(claim)) = self.places.get(&group) else { return 0 };
        let stays = |other: &ServerId| {
            !matches!(
                self.steps.get(&(group, *other)),
                Some(Step::Closing { .. } | Step::Removing { reference: true, .. })
            )
        };
        let others =
            claim.references.iter().filter(|(other, reference)| **other != binld && reference.stored);
        others.filter(|(other, _)| stays(other)).count()
    }

    fn rest(&mut self, now: Time, group: GroupAddr, rest: Rest) {
        let span = if group == self.config.pinned_group { REST_PINNED } else { REST };
        self.places.insert(group, Place::Resting(rest));
        self.deadlines.arm(Due::Rested(group), now + span, "a rest ends");
    }

    fn remember(&mut self, key: Key, epoch: BootEpoch, serial: Serial, answer: Option<Message>, now: Time) {
        let known = self.known.get(&key).map(|known| (known.epoch, known.serial));
        if known.is_none_or(|known| known <= (epoch, serial)) {
            self.known.insert(key, Known { epoch, serial, answer });
        }
        if self.reference(key).is_some() {
            self.deadlines.disarm(&Due::Forget(key));
        } else {
            self.deadlines.arm(Due::Forget(key), now + KNOWN_KEEP, "a serial is forgotten");
        }
    }

    // --- what others ask ------------------------------------------------------------------------------------

    /// Every address in use or at rest.
    pub(crate) fn places(&self) -> impl Iterator<Item = (GroupAddr, &Place)> {
        self.places.iter().map(|(group, place)| (*group, place))
    }

    /// The addresses whose references changed since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<GroupAddr> {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn place(&self, group: GroupAddr) -> Option<&Place> {
        self.places.get(&group)
    }

    /// The claim that an open for `file` at this server port belongs to: the pairs are unique.
    pub(crate) fn find(&self, server_port: u16, file: &FileName) -> Option<(GroupAddr, &Claim)> {
        self.places.iter().find_map(|(group, place)| match place {
            Place::Claimed(claim) if claim.ports.server == server_port && claim.file == *file => {
                Some((*group, claim))
            }
            Place::Claimed(_) | Place::Resting(_) => None,
        })
    }

    /// Somebody opened a session there.
    pub(crate) fn note_open(&mut self, now: Time, group: GroupAddr) {
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&group) {
            claim.opened_at = Some(now);
        }
    }

    /// The dynamic claim by which `file` is multicast in RFC 2090. The pinned address is for iPXE, which does not speak it;
    /// and where the clients of PXE-MTFTP listen on the port of RFC 2090, the two would mix.
    pub(crate) fn find_for_stream(&self, file: &FileName) -> Option<(GroupAddr, &Claim)> {
        self.places.iter().find_map(|(group, place)| match place {
            Place::Claimed(claim)
                if claim.file == *file
                    && *group != self.config.pinned_group
                    && claim.ports.client != MULTICAST_PORT
                    && !claim.closing
                    && claim.is_stored() =>
            {
                Some((*group, claim))
            }
            Place::Claimed(_) | Place::Resting(_) => None,
        })
    }

    /// The same for a client: nobody was told of a claim of which the store has no reference yet, and if the store fails
    /// there is none.
    pub(crate) fn find_stored(&self, server_port: u16, file: &FileName) -> Option<(GroupAddr, &Claim)> {
        let found = self.find(server_port, file);
        found.filter(|(_, claim)| claim.is_stored())
    }

    fn reference(&self, (group, binld): Key) -> Option<&Reference> {
        match self.places.get(&group) {
            Some(Place::Claimed(claim)) => claim.references.get(&binld),
            Some(Place::Resting(_)) | None => None,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        self.deadlines.next()
    }

    /// Lets rests end and serials be forgotten; gives the addresses whose sessions must be cut.
    pub(crate) fn on_timeout(&mut self, now: Time, context: &mut Context) -> Vec<GroupAddr> {
        let mut cut = Vec::new();
        while let Some(due) = self.deadlines.pop_due(now) {
            match due {
                Due::Rested(group) => {
                    if let Some(Place::Resting(_)) = self.places.get(&group) {
                        self.places.remove(&group);
                        context.persist(vec![Change::DeleteRest(group)]);
                    }
                }
                Due::Forget(key) => {
                    // A request in flight needs its fence a little longer.
                    if self.steps.contains_key(&key) {
                        self.deadlines.arm(Due::Forget(key), now + KNOWN_KEEP, "a serial is forgotten");
                    } else if self.reference(key).is_none() && self.known.remove(&key).is_some() {
                        context.persist(vec![Change::DeleteSerial { group: key.0, binld: key.1 }]);
                    }
                }
                Due::Cut(group) => cut.push(group),
                Due::Stale(key) => self.on_stale(key, context),
            }
        }
        cut
    }
}
