//! The sockets of receivers: one of its own and one on the group for each.

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{GroupLoad, Trouble, address};

/// Receive buffers; the slow one has what Linux gives by default.
const BUFFER: usize = 4 << 20;
const BUFFER_SLOW: usize = 212_992;
/// Datagrams of one read.
const READ: usize = 16;
/// Room for one: the longest there is, and so much more that the beginnings do not share their places in the cache.
const ROOM: usize = (1 << 16) + 1600;

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

/// What one read gave.
#[derive(Debug)]
pub(super) struct Inlet {
    bytes: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
    arrived: [(usize, Option<SocketAddrV4>); READ],
}

impl Inlet {
    /// Datagrams of one read at most.
    pub(super) const MOST: usize = READ;

    pub(super) fn new() -> Self {
        let headers = MultiHeaders::preallocate(READ, None);
        Self { bytes: vec![0; ROOM * READ], headers, arrived: [(0, None); READ] }
    }

    /// Reads once, so many at most, and tells how many datagrams came.
    pub(super) fn receive(&mut self, socket: &UdpSocket, most: usize) -> io::Result<usize> {
        let mut rooms = self.bytes.chunks_exact_mut(ROOM);
        let mut parts: [[IoSliceMut<'_>; 1]; READ] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, parts[..most].iter_mut(), flags, None) {
            Ok(messages) => {
                let mut count = 0;
                for (message, arrived) in messages.zip(&mut self.arrived) {
                    let from = message.address.map(|from| SocketAddrV4::new(from.ip(), from.port()));
                    *arrived = (message.bytes, from);
                    count += 1;
                }
                Ok(count)
            }
            // Refused: the server's socket of before is gone. The receivers' timers see to it.
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One of those that came last, and its sender.
    pub(super) fn datagram(&self, number: usize) -> (&[u8], Option<SocketAddrV4>) {
        let (len, from) = self.arrived[number];
        (&self.bytes[number * ROOM..][..len], from)
    }
}
