//! The sockets of receivers: one of its own and one on the group for each.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{GroupLoad, Trouble, address};

/// Receive buffers; the slow one has what Linux gives by default.
const BUFFER: usize = 4 << 20;
const BUFFER_SLOW: usize = 212_992;
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) own: UdpSocket,
    pub(super) group: UdpSocket,
}

/// For each receiver; to be called on their host.
pub(super) fn open(load: &GroupLoad<'_>, host: Ipv4Addr, group: SocketAddrV4) -> io::Result<Vec<Sockets>> {
    let one = |number: usize| {
        let is_slow = matches!(load.trouble, Trouble::Slow(receiver, _) if receiver == number);
        let bind = |at: SocketAddrV4| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            let buffer = if is_slow { BUFFER_SLOW } else { BUFFER };
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, buffer)?;
            socket.set_nonblocking(true)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(at))?;
            if load.coalesced && !is_slow {
                setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
            }
            io::Result::Ok(socket)
        };
        let socket = bind(group)?;
        socket.join_multicast_v4(group.ip(), &host)?;
        let own = bind(SocketAddrV4::new(address(number), 0))?;
        Ok(Sockets { own: UdpSocket::from(own), group: UdpSocket::from(socket) })
    };
    (0..load.receivers).map(one).collect()
}
