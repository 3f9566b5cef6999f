//! The datagrams of pxemc: bytes to types and back, nothing else.
//!
//! No I/O, no time, no state. `PROTOCOL.md` beside this crate draws every packet.
//!
//! | module | format |
//! |---|---|
//! | [`query`] | the frozen query and echo of the clearing protocol (R003.9, R003.10) |
//! | [`control`] | the control envelope that carries everything else between servers |
//! | [`configure`] | configure, ACK, NAK, delete (R003.15–R003.20) |
//! | [`told`] | a client was told a group address |
//! | [`hold`] | what a holder says about an address it defends |
//! | [`hello`] | a server's sign of life |
//! | [`membership`] | how a server joins a domain and leaves it |
//! | [`record`] | what servers of a domain tell all others |
//! | [`note`] | words for people, as a record |
//! | [`contact`] | where to ask for another domain, as a record |
//! | [`text`] | words that come from elsewhere |
//! | [`flood`] | how records travel |
//! | [`further`] | messages of domains beside our own |
//! | [`elect`] | which boot server answers which clients |
//! | [`dhcp`] | the part of DHCP that boot server discovery uses |
//! | [`pxe`] | the sub-options of DHCP option 43 |
//! | [`tftp`] | TFTP and PXE-MTFTP packets and options |
//! | [`igmp`] | whether there is a querier; only read |
//!
//! # Panics
//! Decoding never panics, whatever the bytes. Encoding never panics: what would not fit is an
//! [`EncodeError`], cannot be built in the first place, or is left out of a list, as the list's documentation says.
#![warn(clippy::indexing_slicing)]

pub mod clear;
pub mod configure;
pub mod contact;
pub mod control;
pub mod dhcp;
pub mod elect;
mod error;
pub mod flood;
pub mod further;
pub mod hello;
pub mod hold;
pub mod ids;
pub mod igmp;
pub mod loan;
pub mod membership;
pub mod note;
mod octets;
pub mod policy;
pub mod pxe;
pub mod query;
pub mod record;
pub mod text;
pub mod tftp;
pub mod told;

pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use ids::{
    BootEpoch, Content, DomainId, FileName, GroupAddr, Layer, Mac, Serial, ServerId, ServerType, Stamp, Uuid,
};
