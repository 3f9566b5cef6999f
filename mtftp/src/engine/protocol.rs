//! The two protocols in which a session speaks with its clients, and where they differ.
//!
//! | | PXE-MTFTP (PXE 2.1 § 2.4.10) | RFC 2090 |
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
    /// Opens, and data from the server port itself.
    PxeMtftp,
    /// Requests with the option `multicast`, and data from a port of its own.
    Rfc2090,
}

impl Protocol {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PxeMtftp => "PXE-MTFTP",
            Self::Rfc2090 => "RFC 2090",
        }
    }

    /// How long a session goes on that hears nobody.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::PxeMtftp => SESSION_SILENCE,
            Self::Rfc2090 => STREAM_SILENCE,
        }
    }
}
