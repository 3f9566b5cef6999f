//! The sockets of a load: many datagrams in one call.

use std::array;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::TOGETHER;
use crate::pxe_client::DISCOVERY_PORT;

/// What the machines of an address have not read yet, in bytes: what they lose here, no server would lose.
const BUFFER: usize = 32 << 20;
/// Datagrams of one read.
const READ: usize = 64;
/// Room for one: no answer of a boot server is longer.
const ROOM: usize = 2048;

/// What one read gave.
pub(super) struct Inlet {
    bytes: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
    lens: [usize; READ],
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").finish_non_exhaustive()
    }
}

impl Inlet {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; ROOM * READ], headers: MultiHeaders::preallocate(READ, None), lens: [0; READ] }
    }

    /// Reads once, and tells how many datagrams came.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut rooms = self.bytes.chunks_exact_mut(ROOM);
        let mut parts: [[IoSliceMut<'_>; 1]; READ] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, parts.iter_mut(), MsgFlags::MSG_DONTWAIT, None)
        {
            Ok(messages) => {
                let mut count = 0;
                for (message, len) in messages.zip(&mut self.lens) {
                    *len = message.bytes;
                    count += 1;
                }
                Ok(count)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One of those that came last.
    pub(super) fn datagram(&self, number: usize) -> &[u8] {
        &self.bytes[number * ROOM..][..self.lens[number]]
    }
}

/// What leaves together.
pub(super) struct Outlet {
    datagrams: [Vec<u8>; TOGETHER],
    count: usize,
    headers: MultiHeaders<SockaddrIn>,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Outlet {
    pub(super) fn new() -> Self {
        Self {
            datagrams: array::from_fn(|_| Vec::new()),
            count: 0,
            headers: MultiHeaders::preallocate(TOGETHER, None),
        }
    }

    /// Adds a datagram; no more than [`TOGETHER`].
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let place = &mut self.datagrams[self.count];
        place.clear();
        place.extend_from_slice(bytes);
        self.count += 1;
    }

    /// Sends them, and tells how many the kernel had room for; the others are gone from here.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let count = std::mem::take(&mut self.count);
        let parts: Vec<[IoSlice<'_>; 1]> =
            self.datagrams[..count].iter().map(|bytes| [IoSlice::new(bytes)]).collect();
        // To whom the socket is connected.
        let to = vec![None; count];
        match sendmmsg(socket.as_raw_fd(), &mut self.headers, &parts, to, [], MsgFlags::MSG_DONTWAIT) {
            Ok(sent) => Ok(sent.count()),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// The socket of the machines with that address, which hears that server alone. To be called on the machines' host.
pub(super) fn open(address: Ipv4Addr, server: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, BUFFER)?;
    socket.set_nonblocking(true)?;
    // Firmware asks from there, but for iPXE.
    socket.bind(&SockAddr::from(SocketAddrV4::new(address, DISCOVERY_PORT)))?;
    socket.connect(&SockAddr::from(server))?;
    Ok(UdpSocket::from(socket))
}
