//! A datagram in, with the door it came through; a datagram out, with the door it leaves by.

use std::net::{Ipv4Addr, SocketAddrV4};

/// A door: which of a daemon's ports a datagram belongs to. Several sockets may serve one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The frozen query and echo.
    Query,
    /// The control envelope.
    Control,
    /// The control envelope, as the members of a domain multicast it: of a daemon whose own control port is another.
    Domain,
    /// Boot server discovery on 4011.
    Discovery,
    /// Boot server discovery by broadcast on 67.
    Broadcast,
    /// TFTP requests on 69.
    Tftp,
    /// The port that plain TFTP transfers use after the request: the server's transfer identifier (RFC 1350 § 4).
    Transfer,
    /// An MTFTP server port: opens, ACKs and data.
    Mtftp(u16),
    /// The port of a stream of RFC 2090, by its number among them: each transfer has one of its own.
    Stream(u16),
    /// Queries of IGMP: whole IPv4 packets, without ports. Nothing is sent by it.
    Igmp,
}

/// A datagram that came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Through which door.
    pub role: Role,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// The address it was sent to: ours, or a group we joined.
    pub to: Ipv4Addr,
    /// What it says.
    pub bytes: &'a [u8],
}

/// A datagram that shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// By which door: its unicast socket sends it.
    pub role: Role,
    /// To whom: a host or a group.
    pub to: SocketAddrV4,
    /// What it says.
    pub bytes: Vec<u8>,
}
