//! The frozen query and echo of the clearing protocol (R003.9, R003.10).
//!
//! ```text
//!  0 opcode (0 query, 1 echo) | 1-2 length of the whole packet, 18+n | 3-6 MTFTP server IPv4
//!  7-8 boot server type | 9-10 layer | 11-14 group address | 15-16 client port
//! 17 n = name length, 1-255 | 18.. boot file name, n bytes
//! ```
//! All fields in network byte order. An echo is the query with opcode 1, nothing else changed.

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{Content, GroupAddr, Layer, ServerType};
use crate::octets::{Reader, put_name};

/// Bytes before the name.
pub const HEADER_LEN: usize = 18;
/// Longest packet in bytes.
pub const PACKET_LEN_MAX: usize = HEADER_LEN + 255;

/// The first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Is this address in use for something else?
    Query,
    /// Yes, by me.
    Echo,
}

/// The body shared by query and echo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    /// What the address shall carry.
    pub content: Content,
    /// Boot server type of the boot item. Says nothing about conflict.
    pub server_type: ServerType,
    /// Layer of the boot item. Says nothing about conflict.
    pub layer: Layer,
    /// The address that is asked for.
    pub group: GroupAddr,
    /// UDP port on which the clients listen. Says nothing about conflict.
    pub client_port: u16,
}

impl Query {
    /// Writes the packet.
    #[must_use]
    pub fn encode(&self, opcode: Opcode) -> Vec<u8> {
        let name = &self.content.file;
        let mut out = Vec::with_capacity(HEADER_LEN + name.as_bytes().len());
        out.put_u8(match opcode {
            Opcode::Query => 0,
            Opcode::Echo => 1,
        });
        out.put_u16(18 + u16::from(name.len_octet()));
        out.put_u32(self.content.server.to_bits());
        out.put_u16(self.server_type.0);
        out.put_u16(self.layer.0);
        out.put_u32(self.group.ip().to_bits());
        out.put_u16(self.client_port);
        put_name(&mut out, name);
        out
    }

    /// Reads a packet; everything but opcode 0 and 1, an exact length, a class-D group, a unicast server and a
    /// name of 1–255 bytes without NUL is refused.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<(Opcode, Self), DecodeError> {
        let mut reader = Reader::new(bytes);
        let opcode = match reader.u8("opcode")? {
            0 => Opcode::Query,
            1 => Opcode::Echo,
            _ => return Err(DecodeError { what: "opcode", offset: 0, kind: DecodeErrorKind::Code }),
        };
        if usize::from(reader.u16("packet length")?) != bytes.len() {
            return Err(DecodeError { what: "packet length", offset: 1, kind: DecodeErrorKind::Length });
        }
        let server = reader.unicast("MTFTP server")?;
        let server_type = ServerType(reader.u16("boot server type")?);
        let layer = Layer(reader.u16("layer")?);
        let group = GroupAddr::new(reader.ipv4("group address")?).ok_or(DecodeError {
            what: "group address",
            offset: 11,
            kind: DecodeErrorKind::Address,
        })?;
        let client_port = reader.u16("client port")?;
        let file = reader.name("boot file name")?;
        reader.finish("boot file name")?;
        Ok((opcode, Self { content: Content { server, file }, server_type, layer, group, client_port }))
    }

    /// Bytes 3–6, then 17 to the end: what decides between two pending claims (Y1, Y2). Compared as unsigned bytes.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        content_key(&self.content)
    }
}

/// The [`Query::key`] that queries for `content` have.
#[must_use]
pub fn content_key(content: &Content) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + content.file.as_bytes().len());
    key.put_u32(content.server.to_bits());
    put_name(&mut key, &content.file);
    key
}
