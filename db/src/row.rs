//! What a store holds, without SQL.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use wire::hold::HoldState;
use wire::record::Claim;
use wire::{BootEpoch, Content, FileName, GroupAddr, Layer, Serial, ServerId, ServerType, Stamp};

use crate::Kind;

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimState {
    /// Asking whether the address is free: no promise yet.
    Clearing,
    /// Committed, on its way to disk.
    Recording,
    /// On disk; the MTFTP server has not acknowledged it yet.
    Configuring,
    /// Handed out and defended.
    Held,
    /// Served and defended, not handed out any more.
    Draining,
}

impl ClaimState {
    /// Every state, in the order of a claim's life.
    pub const ALL: [Self; 5] =
        [Self::Clearing, Self::Recording, Self::Configuring, Self::Held, Self::Draining];

    /// As it stands in the store and in the dump.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clearing => "clearing",
            Self::Recording => "recording",
            Self::Configuring => "configuring",
            Self::Held => "held",
            Self::Draining => "draining",
        }
    }

    /// Whether the address was promised: a statement to others rests on it.
    #[must_use]
    pub const fn is_committed(self) -> bool {
        !matches!(self, Self::Clearing)
    }
}

impl fmt::Display for ClaimState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A claim of a BINLD. Key: `group` and `owner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRow {
    /// The address that is claimed.
    pub group: GroupAddr,
    /// What it carries.
    pub content: Content,
    /// Port that clients listen on.
    pub client_port: u16,
    /// Port that the MTFTP server sends from and is asked on.
    pub server_port: u16,
    /// First half of the boot item, as queries name it.
    pub server_type: ServerType,
    /// Second half of the boot item, as queries name it.
    pub layer: Layer,
    /// Name of the boot item in the configuration.
    pub item: String,
    /// Whether it is the claim to the pinned tuple.
    pub pinned: bool,
    /// How far it has come.
    pub state: ClaimState,
    /// When it was committed: the older claim stays (Y4).
    pub stamp: Stamp,
    /// Whose claim it is.
    pub owner: ServerId,
    /// Since when it is in this state: wall clock, milliseconds.
    pub since_ms: u64,
}

/// A note that somebody else uses an address. Key: `group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRow {
    /// The address.
    pub group: GroupAddr,
    /// Until when it is not tried: wall clock, milliseconds.
    pub until_ms: u64,
    /// Who said so, for people.
    pub why: String,
}

/// A reference that was not renewed for this long is stale, in milliseconds: the `LEASE` of the MTFTP server (G12).
pub const LEASE_MS: u64 = 300_000;

/// One BINLD's entry in the list of an address at an MTFTP server. Key: `group` and `binld`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceRow {
    /// The address.
    pub group: GroupAddr,
    /// The file it carries.
    pub file: FileName,
    /// Port that clients listen on.
    pub client_port: u16,
    /// Port that we send from and are asked on.
    pub server_port: u16,
    /// Who made the reference: by its id, never by its address.
    pub binld: ServerId,
    /// The address it was last heard from.
    pub address: Ipv4Addr,
    /// Its boot epoch when it last configured.
    pub epoch: BootEpoch,
    /// Its serial when it last configured.
    pub serial: Serial,
    /// Stamp of its claim.
    pub stamp: Stamp,
    /// First configure: wall clock, milliseconds.
    pub since_ms: u64,
    /// Last configure: wall clock, milliseconds.
    pub renewed_ms: u64,
}

/// The highest number of a BINLD's requests about an address; it outlives the reference. Key: `group`, `binld`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialRow {
    /// The address.
    pub group: GroupAddr,
    /// The BINLD.
    pub binld: ServerId,
    /// First half of the number.
    pub epoch: BootEpoch,
    /// Second half of the number.
    pub serial: Serial,
}

/// A released address that rests before it is used again. Key: `group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRow {
    /// The address.
    pub group: GroupAddr,
    /// The MTFTP server that it carried a file of; `None` in the store of that server itself.
    pub server: Option<Ipv4Addr>,
    /// The file it carried.
    pub file: FileName,
    /// Stamp of the claim that it was.
    pub stamp: Stamp,
    /// When it was released: wall clock, milliseconds.
    pub since_ms: u64,
}

/// What a list of boot servers is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RollState {
    /// In force here.
    Current,
    /// It was in force when we left for good.
    Left,
    /// Taken up, and not known to be agreed upon by all.
    Pending,
}

impl RollState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Current, Self::Left, Self::Pending];

    /// As it stands in the store and in the dump.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Left => "left",
            Self::Pending => "pending",
        }
    }
}

impl fmt::Display for RollState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A list of the boot servers that share the pool. Key: `version` and `digest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollRow {
    /// Rises with every change.
    pub version: u32,
    /// Tells two lists of one version apart.
    pub digest: [u8; 16],
    /// What it is to us.
    pub state: RollState,
    /// Who is in it, in order.
    pub members: Vec<ServerId>,
    /// Of the list in force: digests of the first lists it comes from, in order.
    pub origins: Vec<[u8; 16]>,
    /// And of the lists before it whose members have all left.
    pub former: Vec<[u8; 16]>,
}

/// An address of our slice that we allow another server to use. Key: `group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoanRow {
    /// The address.
    pub group: GroupAddr,
    /// Who uses it.
    pub borrower: ServerId,
    /// What for.
    pub content: Content,
    /// Since when: wall clock, milliseconds.
    pub since_ms: u64,
}

/// A claim of another server, as the domain told it last. Key: `owner` and `number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// Whose it is.
    pub owner: ServerId,
    /// Which of its records.
    pub number: u64,
    /// What it says.
    pub claim: Claim,
    /// Since when it is known here: wall clock, milliseconds.
    pub first_ms: u64,
    /// When it last changed, likewise.
    pub changed_ms: u64,
}

/// As it stands in the store and in the dump.
pub(crate) const fn hold_name(state: HoldState) -> &'static str {
    match state {
        HoldState::Committed => "committed",
        HoldState::Draining => "draining",
        HoldState::Resting => "resting",
    }
}

/// Another server of the domain. Key: `server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRow {
    /// Its name.
    pub server: ServerId,
    /// What it is; `None` if that is not known any more.
    pub kind: Option<Kind>,
    /// Where its control messages come from.
    pub control: SocketAddrV4,
    /// Its last sign of life, if it has vanished without leaving: wall clock, milliseconds.
    pub unreachable_ms: Option<u64>,
}

/// A server that was heard speaking only the frozen packet. Key: `address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyRow {
    /// Where it spoke from.
    pub address: Ipv4Addr,
    /// When it was last heard: wall clock, milliseconds.
    pub heard_ms: u64,
}

/// For how long servers that speak only the frozen packet were listened for, up to the last sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenedRow {
    /// Milliseconds, without a gap that matters.
    pub millis: u64,
    /// The boot of the host in which that was.
    pub host_boot: [u8; 16],
}

/// All that a store holds, each kind sorted by its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// Claims.
    pub claims: Vec<ClaimRow>,
    /// Marks.
    pub marks: Vec<MarkRow>,
    /// References.
    pub references: Vec<ReferenceRow>,
    /// Highest serials.
    pub serials: Vec<SerialRow>,
    /// Rests.
    pub rests: Vec<RestRow>,
    /// The lists of boot servers that we go by.
    pub roll: Vec<RollRow>,
    /// Loans.
    pub loans: Vec<LoanRow>,
    /// Claims of other servers.
    pub replicas: Vec<ReplicaRow>,
    /// The other servers of the domain.
    pub members: Vec<MemberRow>,
    /// Servers that speak only the frozen packet.
    pub legacy: Vec<LegacyRow>,
    /// For how long those were listened for.
    pub listened: Option<ListenedRow>,
}

impl Rows {
    /// Sorts each kind by its key: addresses by number, not by text.
    pub(crate) fn sort(&mut self) {
        self.claims.sort_by_key(|row| (row.group, row.owner));
        self.marks.sort_by_key(|row| row.group);
        self.references.sort_by_key(|row| (row.group, row.binld));
        self.serials.sort_by_key(|row| (row.group, row.binld));
        self.rests.sort_by_key(|row| row.group);
        self.roll.sort_by_key(|row| (row.version, row.digest));
        self.loans.sort_by_key(|row| row.group);
        self.replicas.sort_by_key(|row| (row.claim.group, row.owner, row.number));
        self.members.sort_by_key(|row| row.server);
        self.legacy.sort_by_key(|row| row.address);
    }
}

/// One durable fact. A put replaces what has the same key; a delete of what is not there changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a claim.
    PutClaim(ClaimRow),
    /// Forgets a claim.
    DeleteClaim {
        /// Its address.
        group: GroupAddr,
        /// Its owner.
        owner: ServerId,
    },
    /// Writes a mark.
    PutMark(MarkRow),
    /// Forgets the mark of an address.
    DeleteMark(GroupAddr),
    /// Writes a reference.
    PutReference(ReferenceRow),
    /// Forgets a reference.
    DeleteReference {
        /// Its address.
        group: GroupAddr,
        /// Its BINLD.
        binld: ServerId,
    },
    /// Writes a highest serial.
    PutSerial(SerialRow),
    /// Forgets a highest serial.
    DeleteSerial {
        /// Its address.
        group: GroupAddr,
        /// Its BINLD.
        binld: ServerId,
    },
    /// Writes a rest.
    PutRest(RestRow),
    /// Forgets the rest of an address.
    DeleteRest(GroupAddr),
    /// Writes all lists of boot servers, in place of those that are there.
    SetRoll(Vec<RollRow>),
    /// Writes a loan.
    PutLoan(LoanRow),
    /// Forgets the loan of an address.
    DeleteLoan(GroupAddr),
    /// Writes a claim of another server.
    PutReplica(Box<ReplicaRow>),
    /// Forgets a claim of another server.
    DeleteReplica {
        /// Its owner.
        owner: ServerId,
        /// Which of its records.
        number: u64,
    },
    /// Writes another server of the domain.
    PutMember(MemberRow),
    /// Forgets another server of the domain.
    DeleteMember(ServerId),
    /// Writes a server that speaks only the frozen packet.
    PutLegacy(LegacyRow),
    /// Forgets such a server.
    DeleteLegacy(Ipv4Addr),
    /// Writes for how long such servers were listened for.
    SetListened(ListenedRow),
    /// Says that the daemon was alive at this time.
    Alive {
        /// Wall clock, milliseconds.
        wall_ms: u64,
    },
}
