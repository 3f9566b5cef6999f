//! The sockets of a load: many datagrams in one call.

use std::array;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::TOGETHER;
use crate::pxe_client::DISCOVERY_PORT;

/// What the machines of an address have not read yet, in bytes: what they lose here, no server would lose.
const BUFFER: usize = 32 << 20;
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
