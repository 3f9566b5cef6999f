//! What goes into the core and what comes out of it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Role, Time, Transmit, Wall};
use peers::saved::{Former, SavedChange};
use wire::configure::Ports;
use wire::policy::SlowClients;
use wire::tftp::Rollover;
use wire::{BootEpoch, FileName, GroupAddr, Serial, ServerId, Stamp};

use super::cause::FallBack;
use super::protocol::Protocol;

/// Number of a [`Action::Persist`]; the store's answer repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Number of an [`Action::Open`]; the answer repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTicket(pub u64);

/// An open file of the shell's. Each successful open gives a new one, which the core closes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// What the core needs to know of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Which.
    pub id: FileId,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a file cannot be served. Nothing was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileError {
    /// There is no such file.
    NotFound,
    /// It is outside the boot directory, not a regular file, or not readable.
    Denied,
    /// Not now: too many open files, or a read error. Counted, and answered with silence where the protocol
    /// has no word for it.
    Busy,
}

/// Blocks of a file that shall go out as DATA packets, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Of which file.
    pub file: FileId,
    /// The first, from 1.
    pub first_block: u64,
    /// How many; at least 1.
    pub count: u16,
    /// Bytes in a block, 8–1468; the file's last is shorter, and empty if the size is a multiple.
    pub block_size: u16,
    /// Makes block numbers for the wire.
    pub rollover: Rollover,
    /// By which door.
    pub role: Role,
    /// To whom: a client, or the group address.
    pub to: SocketAddrV4,
}

/// A durable fact about one BINLD's reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceRecord {
    /// The address.
    pub group: GroupAddr,
    /// What it carries.
    pub file: FileName,
    /// The ports in force.
    pub ports: Ports,
    /// Whose reference.
    pub binld: ServerId,
    /// Where its last configure came from.
    pub address: Ipv4Addr,
    /// Boot epoch of its last configure.
    pub epoch: BootEpoch,
    /// Serial of its last configure.
    pub serial: Serial,
    /// When it committed the claim.
    pub stamp: Stamp,
    /// When the reference was made.
    pub since: Wall,
    /// When it was last renewed.
    pub renewed: Wall,
}

/// The highest request seen of a BINLD for an address; outlives the reference (G14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialRecord {
    /// The address.
    pub group: GroupAddr,
    /// Whose.
    pub binld: ServerId,
    /// Its boot epoch.
    pub epoch: BootEpoch,
    /// The serial in it.
    pub serial: Serial,
}

/// An address that was released and may not be used for something else yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRecord {
    /// The address.
    pub group: GroupAddr,
    /// What it carried.
    pub file: FileName,
    /// Of the claim that it was.
    pub stamp: Stamp,
    /// When it was released.
    pub since: Wall,
}

/// One durable fact for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes or renews a reference.
    PutReference(ReferenceRecord),
    /// Removes a reference, if it is there.
    DeleteReference {
        /// The address.
        group: GroupAddr,
        /// Whose.
        binld: ServerId,
    },
    /// Remembers a serial.
    PutSerial(SerialRecord),
    /// Forgets a serial.
    DeleteSerial {
        /// The address.
        group: GroupAddr,
        /// Whose.
        binld: ServerId,
    },
    /// Begins a rest.
    PutRest(RestRecord),
    /// Ends a rest, if there is one.
    DeleteRest(GroupAddr),
    /// What another member tells, for whoever reads the store.
    Saved(SavedChange),
    /// We live at this time.
    Alive(Wall),
}

/// What the store knew when the program started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// References.
    pub references: Vec<ReferenceRecord>,
    /// Serials.
    pub serials: Vec<SerialRecord>,
    /// Rests.
    pub rests: Vec<RestRecord>,
    /// What other members told.
    pub former: Former,
}

/// How a plain transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The last block was ACKed.
    Complete,
    /// The client ended it after the options: a size probe.
    Probe,
    /// The client sent an ERROR in mid-file.
    Aborted,
    /// The client fell silent.
    Silent,
    /// The file was replaced or changed.
    FileChanged,
    /// The same client asked for something else from the same port.
    Superseded,
}

impl Event {
    /// Whether something is wrong on this host: nothing that a sound server ever sees.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::StoreFailed)
    }
}

/// Something an operator may want to read about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A source says more than is taken from one.
    OverRate {
        /// Who.
        source: Ipv4Addr,
        /// By which door, as the counters name it.
        place: &'static str,
    },
    /// A BINLD made a reference.
    Configured {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        file: FileName,
        /// The ports in force.
        ports: Ports,
        /// Whose.
        binld: ServerId,
        /// Its address.
        address: Ipv4Addr,
    },
    /// A configure was refused.
    Refused {
        /// The address; `None` for plain TFTP.
        group: Option<GroupAddr>,
        /// The file that was asked for.
        file: FileName,
        /// Why: `in use`, `no such file`.
        why: &'static str,
        /// Who asked.
        address: Ipv4Addr,
    },
    /// A reference is gone.
    Deleted {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        file: FileName,
        /// Whose.
        binld: ServerId,
        /// Whether it was the last one: the address rests now.
        released: bool,
        /// At whose word.
        by: DeletedBy,
    },
    /// A BINLD has not renewed its reference in time (G12). Nothing was taken from it.
    Stale {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        file: FileName,
        /// Whose.
        binld: ServerId,
        /// Where it was last heard.
        address: Ipv4Addr,
        /// When it was last renewed.
        renewed: Wall,
    },
    /// A stale reference was renewed.
    Renewed {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        file: FileName,
        /// Whose.
        binld: ServerId,
        /// Where it was heard.
        address: Ipv4Addr,
    },
    /// A query for an address in use here was echoed.
    Defended {
        /// The address.
        group: GroupAddr,
        /// What it carries here.
        file: FileName,
        /// Who asked.
        from: SocketAddrV4,
    },
    /// A multicast session began.
    SessionBegan {
        /// The address.
        group: GroupAddr,
        /// The file.
        file: FileName,
        /// Who opened it.
        from: SocketAddrV4,
    },
    /// A multicast session ended.
    SessionEnded {
        /// The address.
        group: GroupAddr,
        /// How it spoke with its clients.
        protocol: Protocol,
        /// The file.
        file: FileName,
        /// What it sent and to whom.
        tally: Tally,
    },
    /// A plain transfer ended.
    TransferEnded {
        /// The client.
        client: SocketAddrV4,
        /// The file.
        file: FileName,
        /// How.
        outcome: Outcome,
    },
    /// A client that was told a group address fetches by plain TFTP: once for each answer of its boot server.
    FellBack(FallBack),
    /// A file asked for by plain TFTP cannot be served.
    NoFile {
        /// Who asked.
        client: SocketAddrV4,
        /// For what.
        file: FileName,
    },
    /// A client kept the others of a session waiting.
    SlowClient {
        /// Which.
        client: SocketAddrV4,
        /// The address and the clients' port.
        group: SocketAddrV4,
        /// What becomes of it.
        what: SlowClients,
    },
    /// A server says hello, for the first time or again.
    MemberAppeared {
        /// Where.
        address: Ipv4Addr,
    },
    /// A server says that it leaves the domain.
    MemberLeft {
        /// Where.
        address: Ipv4Addr,
    },
    /// Another server says that it is us: one of the two runs with a copy of the other's store.
    Twin {
        /// Where.
        address: Ipv4Addr,
    },
    /// A server beyond our link is a neighbour now.
    Linked {
        /// Where.
        address: Ipv4Addr,
    },
    /// A neighbour beyond our link is silent.
    Unlinked {
        /// Where.
        address: Ipv4Addr,
    },
    /// A member of the domain has vanished without leaving: cut off, or dead.
    Unreachable {
        /// Where it was.
        address: Ipv4Addr,
    },
    /// No member is unreachable any more.
    Healed {
        /// The last that was.
        last: Ipv4Addr,
    },
    /// The store could not keep something; whoever asked hears nothing and will ask again.
    StoreFailed,
}

/// Who said that a reference shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletedBy {
    /// Its BINLD.
    Itself,
    /// An operator, on behalf of a BINLD that is dead.
    Operator,
    /// A living BINLD, likewise.
    Member(ServerId),
}

/// Number of an operator's order; its [`Action::Answer`] repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(pub u64);

/// What became of an order to forget a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// It is gone, in the store too.
    Done {
        /// Whether it was the last one: the address rests now.
        released: bool,
    },
    /// It was the last one, and a session runs: no new opens; gone when it ends, at most
    /// [`CLOSING_MAX`](crate::limits::CLOSING_MAX) from now.
    Closing,
    /// Nobody relies on that address; these are relied on.
    NoSuchAddress(Vec<GroupAddr>),
    /// That BINLD does not rely on it; these do.
    NoSuchReference(Vec<ServerId>),
    /// Its BINLD renewed it lately: it will be stale after this long, or never.
    NotStale(Option<Duration>),
    /// Something else is being done with it right now.
    Busy,
    /// The store failed: it is still there.
    NotStored,
}

/// What became of an order to begin what waits on an address for more clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It has begun, for so many clients.
    Begun(usize),
    /// Nothing waits on that address: nobody asked for its file yet, or it has begun.
    NothingWaits,
    /// Nobody relies on that address; these are relied on.
    NoSuchAddress(Vec<GroupAddr>),
}

/// A start that is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwaitedStart {
    /// So many clients begin it.
    pub clients: u16,
    /// When it begins without them.
    pub at: Time,
}

/// What a multicast session sent, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Blocks in the file.
    pub blocks: u64,
    /// DATA packets to the group address.
    pub multicast: u64,
    /// DATA packets to single openers.
    pub unicast: u64,
    /// Of all these, those sent again by the timer or as a question, though as far as was known nobody lacked them.
    pub spare: u64,
    /// Openers in all.
    pub openers: u64,
    /// Openers that ACKed the last block.
    pub complete: u64,
    /// Openers that left or fell silent before.
    pub lost: u64,
    /// Openers that were too slow for the others.
    pub slow: u64,
}

/// What the core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send(Transmit),
    /// Make these durable in one transaction, after all earlier ones, and say so with
    /// [`on_stored`](super::Engine::on_stored).
    Persist(Ticket, Vec<Change>),
    /// Look up and open a file and answer with [`on_file`](super::Engine::on_file).
    Open(FileTicket, FileName),
    /// Close a file.
    Close(FileId),
    /// Send blocks of a file.
    Blocks(Blocks),
    /// Tell an operator what became of the order.
    Answer(Order, Forgotten),
    /// For logs.
    Tell(Event),
}
