//! The sockets of a load, opened on the clients' host.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Load;

/// Transfers of one address that `mtftpd` allows (mtftp/src/limits.rs).
const PER_ADDRESS: usize = 8;
/// Receive buffer of a lone client, and what many share, with the least for each: a window of 64 fits.
const BUFFER_ALONE: usize = 4 << 20;
const BUFFER_LEAST: usize = 256 << 10;
const BUFFERS_ALL: usize = 64 << 20;
/// A socket for each client, on as many addresses of 10.78.0.0/16 as the limit of one address asks for. To be called on the
/// clients' host.
pub(super) fn open(load: &Load<'_>) -> io::Result<Vec<UdpSocket>> {
    let buffer =
        if load.clients == 1 { BUFFER_ALONE } else { (BUFFERS_ALL / load.clients).max(BUFFER_LEAST) };
    let one = |number: usize| {
        let source = number / PER_ADDRESS;
        let address = Ipv4Addr::new(10, 78, (source / 250) as u8, (source % 250 + 1) as u8);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, buffer)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(address, 0)))?;
        if load.coalesced {
            setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        }
        Ok(UdpSocket::from(socket))
    };
    (0..load.clients).map(one).collect()
}
