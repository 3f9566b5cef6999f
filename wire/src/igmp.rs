//! IGMP queries, as far as they tell that there is a querier: a switch that snoops then passes a group on only to the
//! ports from which somebody joined it (RFC 4541 § 2.1).
//!
//! ```text
//! IPv4  0 version 4, header length in 32-bit words, 5-15 | 2-3 total length | 6-7 flags and fragment offset
//!       9 protocol, 2 | 12-15 source | 16-19 destination | .. to the header length: options
//! IGMP  0 type, 0x11 query | 1 maximum response | 2-3 checksum | 4-7 group, 0.0.0.0 = general | v3: more
//! ```
//! Network byte order. A query of any version begins like that (RFC 2236 § 2, RFC 3376 § 4.1).

use std::net::Ipv4Addr;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::octets::Reader;

/// Type of a query.
pub const TYPE_QUERY: u8 = 0x11;
/// Number of IGMP among the protocols of IPv4.
pub const PROTOCOL: u8 = 2;

/// Shortest IPv4 header, in bytes.
const HEADER_LEN_MIN: usize = 20;
/// Shortest message of IGMP, in bytes.
const MESSAGE_LEN_MIN: usize = 8;

/// A query that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// The querier; 0.0.0.0 for a bridge or switch without an address (RFC 4541 § 2.1.1).
    pub from: Ipv4Addr,
}

impl Query {
    /// Reads an IPv4 packet as a raw socket for IGMP gives it. `None` for other messages of IGMP.
    ///
    /// # Errors
    /// Anything but a whole IPv4 packet with a message of IGMP whose checksum is right; a query from or to addresses
    /// that cannot be. Bytes behind the total length are padding of the link.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8("version")?;
        let header_len = usize::from(first & 0x0f).saturating_mul(4);
        if first >> 4 != 4 || header_len < HEADER_LEN_MIN {
            return Err(DecodeError { what: "version", offset: 0, kind: DecodeErrorKind::Code });
        }
        reader.u8("type of service")?;
        let total_len = usize::from(reader.u16("total length")?);
        reader.u16("identification")?;
        // Neither "more fragments" nor an offset: queries are short.
        if reader.u16("fragment")? & 0x3fff != 0 {
            return Err(DecodeError { what: "fragment", offset: 6, kind: DecodeErrorKind::Value });
        }
        reader.u8("time to live")?;
        if reader.u8("protocol")? != PROTOCOL {
            return Err(DecodeError { what: "protocol", offset: 9, kind: DecodeErrorKind::Code });
        }
        reader.u16("header checksum")?;
        let from = reader.ipv4("source")?;
        let to = reader.ipv4("destination")?;
        let whole = bytes.get(..total_len).and_then(|packet| packet.get(header_len..));
        let message =
            whole.ok_or(DecodeError { what: "total length", offset: 2, kind: DecodeErrorKind::Length })?;
        if message.len() < MESSAGE_LEN_MIN {
            return Err(reader.error("message", DecodeErrorKind::Truncated));
        }
        if sum(message) != 0xffff {
            return Err(DecodeError { what: "checksum", offset: header_len, kind: DecodeErrorKind::Value });
        }
        if message.first() != Some(&TYPE_QUERY) {
            return Ok(None);
        }
        if from.is_multicast() || from.is_broadcast() {
            return Err(DecodeError { what: "source", offset: 12, kind: DecodeErrorKind::Address });
        }
        if !to.is_multicast() {
            return Err(DecodeError { what: "destination", offset: 16, kind: DecodeErrorKind::Address });
        }
        Ok(Some(Self { from }))
    }
}

/// The sum that a checksum makes all ones (RFC 1071): 0xffff for a message that came as it was sent.
fn sum(message: &[u8]) -> u32 {
    let mut sum = 0_u32;
    for pair in message.chunks(2) {
        let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
        sum = sum.saturating_add(u32::from(u16::from_be_bytes([high, low])));
        sum = (sum & 0xffff).saturating_add(sum >> 16);
    }
    sum
}
