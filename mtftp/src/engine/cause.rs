//! Why a client that was told a group address fetched by plain TFTP: as far as a server can tell, and what to look at.

use std::fmt;
use std::net::Ipv4Addr;

use driver::Time;
use wire::{FileName, GroupAddr, Mac};

/// Why we did not take an open, or ended what it had opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declined {
    /// All streams of RFC 2090 are taken ([`EngineConfig::streams`](super::EngineConfig::streams)).
    NoStream,
    /// There are [`SESSIONS_MAX`](crate::limits::SESSIONS_MAX) sessions.
    NoSession,
    /// The session has all the openers that it may have, in all or of one address.
    NoRoom,
    /// RFC 2090: it takes only smaller blocks than the stream of this file has.
    BlockSize,
    /// Others waited for it, and the policy of its boot item sends such a client to plain TFTP.
    Slow,
    /// The file cannot be multicast with blocks of that size.
    TooLarge,
    /// The file was not there, or not readable, when it was opened.
    NoFile,
    /// The last boot server that relied on the address gave it up.
    Closing,
    /// The file has no address here any more.
    Gone,
    /// Another file is being sent on the pinned address.
    OtherFile,
    /// Its address asked for more than is taken from one.
    OverRate,
    /// Its session was ended before it was done: the address was given up.
    Cut,
    /// The file was replaced under the transfer.
    FileChanged,
}

/// The likely cause of a fall-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// We declined: no guess.
    Declined(Declined),
    /// Its address is not on the link of our interface.
    OffLink,
    /// No open of it came.
    NeverOpened,
    /// It opened, and asked for plain TFTP before anything was multicast.
    Unanswered,
    /// It opened, the data was multicast, and it ACKed nothing of it. No querier was heard.
    NotHeard,
    /// The same; whether there is a querier we cannot know.
    NotHeardQuerierUnknown,
    /// The same, and a querier was heard lately.
    Pruned {
        /// Which.
        querier: Ipv4Addr,
    },
    /// It heard the group, and gave up in the middle.
    GaveUp {
        /// The highest block that it ACKed.
        blocks: u16,
    },
}

/// A client that was told a group address and fetched by plain TFTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallBack {
    /// When it began to.
    pub at: Time,
    /// Its Ethernet address, as it told its boot server.
    pub mac: Mac,
    /// Its address.
    pub client: Ipv4Addr,
    /// What it was told.
    pub group: GroupAddr,
    /// The file.
    pub file: FileName,
    /// Why, as far as can be told.
    pub cause: Cause,
}

impl Declined {
    const fn name(self) -> &'static str {
        match self {
            Self::NoStream => "no_stream",
            Self::NoSession => "no_session",
            Self::NoRoom => "no_room",
            Self::BlockSize => "block_size",
            Self::Slow => "slow",
            Self::TooLarge => "too_large",
            Self::NoFile => "no_file",
            Self::Closing => "closing",
            Self::Gone => "gone",
            Self::OtherFile => "other_file",
            Self::OverRate => "over_rate",
            Self::Cut => "cut",
            Self::FileChanged => "file_changed",
        }
    }

    const fn says(self) -> &'static str {
        match self {
            Self::NoStream => "no stream of RFC 2090 was free: raise tftp.streams",
            Self::NoSession => "as many sessions ran as there may be",
            Self::NoRoom => "the session had all the openers that it may have",
            Self::BlockSize => "it takes only smaller blocks than the stream of this file has",
            Self::Slow => "others waited for it, and its boot item drops slow clients to unicast",
            Self::TooLarge => "the file is too large for multicast with blocks of that size",
            Self::NoFile => "the file was not there, or not readable, when it opened the transfer",
            Self::Closing => "its boot server had given the address up",
            Self::Gone => "the file had no address here any more",
            Self::OtherFile => "another file was being sent on the pinned address",
            Self::OverRate => "its address sent more requests than are taken from one",
            Self::Cut => "its session was ended: the address had been given up",
            Self::FileChanged => "the file was replaced under the transfer",
        }
    }
}

impl Cause {
    /// For counters and JSON: a word that does not change.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Declined(why) => why.name(),
            Self::OffLink => "off_link",
            Self::NeverOpened => "never_opened",
            Self::Unanswered => "unanswered",
            Self::NotHeard => "not_heard",
            Self::NotHeardQuerierUnknown => "not_heard_querier_unknown",
            Self::Pruned { .. } => "querier",
            Self::GaveUp { .. } => "gave_up",
        }
    }
}

/// A sentence for people, with what to look at.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(why) => f.write_str(why.says()),
            Self::OffLink => f.write_str(
                "its address is not on the link of our interface, and multicast does not leave the link (TTL 1): \
                 wrong interface, or a client behind a router",
            ),
            Self::NeverOpened => f.write_str(
                "it never opened the transfer: firmware that does no multicast, or a filter between it and our port",
            ),
            Self::Unanswered => f.write_str(
                "it opened the transfer and asked for plain TFTP before anything was multicast: it did not take our \
                 answer, or did not wait for it",
            ),
            Self::NotHeard => f.write_str(
                "no group traffic heard by it, and no querier on the segment: look for a filter of multicast between \
                 us, in the switch, the access point or the hypervisor",
            ),
            Self::NotHeardQuerierUnknown => f.write_str(
                "no group traffic heard by it; whether a querier is on the segment is not known (mtftpd may not \
                 listen: CAP_NET_RAW)",
            ),
            Self::Pruned { querier } => write!(
                f,
                "no group traffic heard by it, and a querier on the segment ({querier}): a switch that snoops passes a \
                 group on only to ports that joined it, and iPXE does not join; forward the group statically, or do \
                 without the querier"
            ),
            Self::GaveUp { blocks } => write!(
                f,
                "it heard the group, ACKed {blocks} blocks and gave up in the middle: loss, or a pause longer than it \
                 bears"
            ),
        }
    }
}
