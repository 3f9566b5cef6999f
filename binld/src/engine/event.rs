//! News for the operator's log. The engine tells what happened; the shell decides how loudly.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use peers::responder::News;
use wire::note::About;
use wire::{Content, GroupAddr, Mac, ServerId};

use super::files::TooLarge;

impl Event {
    /// Whether something is wrong on this host: nothing that a sound server ever sees.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::StoreFailed)
    }
}

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The multicast file on this address.
    Multicast(GroupAddr),
    /// Everything by plain TFTP, for this reason.
    PlainTftp(WhyPlain),
}

/// Why a client was told plain TFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyPlain {
    /// The boot item has nothing for this client's way of loading.
    ByProfile,
    /// The client is not on our link.
    OffLink,
    /// The address is not held yet, and the client cannot wait longer.
    NotHeldInTime,
    /// Somebody else has the pinned tuple, or every candidate was refused.
    Refused,
    /// Another holder states that it has the address, too (Y4).
    Disputed,
    /// No server that has the other files has acknowledged the multicast file.
    NoMulticastFile,
    /// The file is too large for what the client speaks, or for multicast at all.
    TooLarge,
    /// A boot ROM takes the sender of the answer for its file server, and the file lies elsewhere.
    FileElsewhere,
}

/// Why a client was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhySilent {
    /// No server has acknowledged the file.
    NoServer,
    /// The answer does not fit into a datagram.
    TooLong,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// News of the responder election: who answers which share of the clients.
    Responder(News),
    /// A client's request was matched to a boot item.
    Asked {
        /// Who.
        mac: Mac,
        /// Its address.
        client: Ipv4Addr,
        /// For what.
        item: Arc<str>,
    },
    /// A client was answered.
    Answered {
        /// Who.
        mac: Mac,
        /// With what.
        item: Arc<str>,
        /// Where the files are.
        file_server: Ipv4Addr,
        /// How.
        offer: Offer,
        /// From its first request to the answer.
        waited: Duration,
    },
    /// A client was not answered, and will hear nothing.
    Unanswered {
        /// Who.
        mac: Mac,
        /// What it asked for.
        item: Arc<str>,
        /// Why.
        why: WhySilent,
    },
    /// Clearing of an address began.
    Clearing {
        /// The address.
        group: GroupAddr,
        /// What it shall carry.
        content: Content,
    },
    /// The address belongs to somebody else.
    Contested {
        /// The address.
        group: GroupAddr,
        /// What it should have carried.
        content: Content,
        /// Who said so.
        by: Ipv4Addr,
    },
    /// Every candidate was refused: the alarm of G22.
    Exhausted {
        /// What got no address.
        content: Content,
    },
    /// Nobody objected: the claim is ours.
    Committed {
        /// The address.
        group: GroupAddr,
        /// What it will carry.
        content: Content,
    },
    /// The MTFTP server is ready.
    Held {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        content: Content,
    },
    /// The MTFTP server does not answer.
    ServerSilent {
        /// The server.
        server: Ipv4Addr,
    },
    /// The MTFTP server answers again.
    ServerBack {
        /// The server.
        server: Ipv4Addr,
    },
    /// The MTFTP server does not have a file.
    NoSuchFile {
        /// Which.
        content: Content,
    },
    /// The MTFTP server has a file that it cannot multicast.
    TooLarge {
        /// Which.
        content: Content,
        /// How large.
        facts: TooLarge,
    },
    /// An address of ours was defended.
    Defended {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        content: Content,
        /// Who asked.
        against: Ipv4Addr,
    },
    /// Somebody claims an address that is committed here.
    LateConflict {
        /// The address.
        group: GroupAddr,
        /// What it carries here.
        content: Content,
        /// Who said so.
        by: Ipv4Addr,
    },
    /// Another holder states that it has the address, too: it is not handed out until that is settled (Y4).
    Disputed {
        /// The address.
        group: GroupAddr,
        /// What it carries here.
        content: Content,
        /// Who states it.
        by: Ipv4Addr,
        /// What it carries there.
        theirs: Content,
    },
    /// The address is left to somebody with the better right (Y4, Y5).
    Yielded {
        /// The address.
        group: GroupAddr,
        /// What it carried here.
        content: Content,
        /// To whom.
        to: Ipv4Addr,
    },
    /// Somebody echoes an address of ours and answers no statement.
    Mute {
        /// The address.
        group: GroupAddr,
        /// What it carries here.
        content: Content,
        /// Who.
        by: Ipv4Addr,
        /// Whether it is configured as a legacy peer.
        listed: bool,
    },
    /// The kernel of that server dropped datagrams: silence means nothing now (G26).
    Deaf {
        /// Whose; our own address for us.
        who: Ipv4Addr,
    },
    /// Another server says hello, for the first time or again.
    PeerAppeared {
        /// Where.
        address: Ipv4Addr,
    },
    /// Another server says that it leaves.
    PeerLeft {
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
    /// A member of the domain has vanished without leaving: it is cut off, or dead (G5).
    Unreachable {
        /// Where it was.
        address: Ipv4Addr,
    },
    /// No member is unreachable any more.
    Healed {
        /// Who was the last one.
        last: Ipv4Addr,
    },
    /// All boot servers have agreed upon who they are: each asks for addresses of its own slice only (G5).
    RollInForce {
        /// Version of the list.
        version: u32,
        /// How many they are.
        members: usize,
    },
    /// A list of boot servers leaves us out: an operator has struck us off. The next one has us again.
    LeftOut,
    /// A boot server that was struck off was taken in again meanwhile: it is to be struck off again.
    NotStruck {
        /// Which.
        server: ServerId,
    },
    /// A claim is made where another member has the same content (G9).
    Shared {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        content: Content,
        /// Who made the other claim.
        owner: ServerId,
    },
    /// An MTFTP server is asked to delete the reference of a BINLD that is dead (G12).
    ForDead {
        /// The address.
        group: GroupAddr,
        /// What it carries.
        content: Content,
        /// Whose.
        dead: ServerId,
    },
    /// A source says more than is taken from one.
    OverRate {
        /// Who.
        source: Ipv4Addr,
        /// By which door, as the counters name it.
        place: &'static str,
    },
    /// Conflict follows conflict: fewer attempts are made.
    ManyConflicts {
        /// What is to wait.
        content: Content,
    },
    /// The pinned tuple is left to others that wait for it (P2).
    TurnOver {
        /// What had it.
        content: Content,
        /// How many wait.
        waiting: usize,
    },
    /// No client is told the address any more.
    Draining {
        /// The address.
        group: GroupAddr,
        /// What it carried.
        content: Content,
    },
    /// The reference is deleted; the address rests.
    Released {
        /// The address.
        group: GroupAddr,
        /// What it carried.
        content: Content,
    },
    /// The store did not take a change.
    StoreFailed,
}

impl Event {
    /// What people of the whole domain are told of it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "nearly all events are for the log of one server")]
    pub(super) fn note(&self) -> Option<(About, String)> {
        match self {
            Self::LateConflict { group, content, by } => {
                Some((About::Conflict, format!("{group}: {by} claims what is committed here, {content}")))
            }
            Self::Disputed { group, content, by, theirs } => Some((
                About::Conflict,
                format!(
                    "{group}: {content} here and {theirs} at {by}; no client is told it until that is settled"
                ),
            )),
            Self::Yielded { group, content, to } => Some((
                About::Conflict,
                format!("{group}: left to {to}, which has the better right; it carried {content}"),
            )),
            Self::Exhausted { content } => Some((
                About::FallBack,
                format!("no address for {content}: machines get plain TFTP; look who uses the pool"),
            )),
            Self::TooLarge { content, .. } => Some((
                About::FallBack,
                format!("{content} is too large for multicast: machines get plain TFTP"),
            )),
            Self::Responder(News::TookOver { shards, from: Some(_) }) => Some((
                About::Takeover,
                format!("answers {shards} of 128 parts of the clients that another boot server answered"),
            )),
            _ => None,
        }
    }
}
