//! The sockets of a load: opened on the clients' host, and read many packets at once.

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Load;

/// Transfers of one address that `mtftpd` allows (mtftp/src/limits.rs).
const PER_ADDRESS: usize = 8;
/// Receive buffer of a lone client, and what many share, with the least for each: a window of 64 fits.
const BUFFER_ALONE: usize = 4 << 20;
const BUFFER_LEAST: usize = 256 << 10;
const BUFFERS_ALL: usize = 64 << 20;
/// Datagrams of one read.
const READ: usize = 16;
/// Room for one: the longest there is, and so much more that the beginnings do not share their places in the cache.
const ROOM: usize = (1 << 16) + 1600;

/// What one read gave.
#[derive(Debug)]
pub(super) struct Inlet {
    bytes: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
    arrived: [(usize, Option<SocketAddrV4>); READ],
}

impl Inlet {
    pub(super) fn new() -> Self {
        let headers = MultiHeaders::preallocate(READ, None);
        Self { bytes: vec![0; ROOM * READ], headers, arrived: [(0, None); READ] }
    }

    /// Reads once, and tells how many datagrams came; with fewer than [`Self::MOST`] there are no more.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut rooms = self.bytes.chunks_exact_mut(ROOM);
        let mut parts: [[IoSliceMut<'_>; 1]; READ] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, parts.iter_mut(), flags, None) {
            Ok(messages) => {
                let mut count = 0;
                for (message, arrived) in messages.zip(&mut self.arrived) {
                    let from = message.address.map(|from| SocketAddrV4::new(from.ip(), from.port()));
                    *arrived = (message.bytes, from);
                    count += 1;
                }
                Ok(count)
            }
            // Refused: the server's socket of before is gone. The clients' timers see to it.
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Datagrams of one read at most.
    pub(super) const MOST: usize = READ;

    /// One of those that came last, and its sender.
    pub(super) fn datagram(&self, number: usize) -> (&[u8], Option<SocketAddrV4>) {
        let (len, from) = self.arrived[number];
        (&self.bytes[number * ROOM..][..len], from)
    }
}

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
