//! The protocols in which a session speaks with its clients, and where those differ that share [`Session`]: iPXE's
//! PXE-MTFTP, and RFC 2090. PXE-MTFTP as the specification and Intel's client have it is stricter: see [`Pass`].
//!
//! [`Session`]: super::session::Session
//! [`Pass`]: super::pass::Pass
//!
//! | | iPXE's PXE-MTFTP | RFC 2090 |
//! |---|---|---|
//! | a client begins to ACK | when a DATA comes to it by unicast | when an OACK says that it is master |
//! | who ACKs | a few clients at once, in turn | one |
//! | who has it all | ACKs the last block if it ACKs at all; else leaves | ACKs the last block, or waits until it is master (atftp) |
//! | silence that clients bear | 0.25 s (iPXE) | seconds |
//! | the last block | is held back while somebody lacks another (iPXE) | goes when it is its turn |
//! | before the first ACK | a few blocks | OACKs |

use std::time::Duration;

use crate::limits::{SESSION_SILENCE, STREAM_SILENCE};

/// How a session speaks with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// PXE-MTFTP as PXE 2.1 § 2.4.10 and Intel's client have it: on dynamic addresses.
    PxeMtftp,
    /// PXE-MTFTP as iPXE has it: on the pinned address, the only one it hears.
    Ipxe,
    /// Requests with the option `multicast`, and data from a port of its own.
    Rfc2090,
}

impl Protocol {
    /// The first in order, and …
    pub(crate) const FIRST: Self = Self::PxeMtftp;
    /// … the last.
    pub(crate) const LAST: Self = Self::Rfc2090;

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PxeMtftp => "PXE-MTFTP",
            Self::Ipxe => "PXE-MTFTP for iPXE",
            Self::Rfc2090 => "RFC 2090",
        }
    }

    /// How long a session goes on that hears nobody.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::PxeMtftp | Self::Ipxe => SESSION_SILENCE,
            Self::Rfc2090 => STREAM_SILENCE,
        }
    }
}
