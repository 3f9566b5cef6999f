//! The sockets of a load: opened on the clients' host, read many packets at once where the sender made them at once.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Load;

/// Transfers of one address that `mtftpd` allows (mtftp/src/limits.rs).
const PER_ADDRESS: usize = 8;
/// Receive buffer of a lone client, and what many share, with the least for each: a window of 64 fits.
const BUFFER_ALONE: usize = 4 << 20;
const BUFFER_LEAST: usize = 256 << 10;
const BUFFERS_ALL: usize = 64 << 20;
/// No datagram is longer.
const DATAGRAM_MAX: usize = 1 << 16;

/// What came at once: packets of `segment` bytes each, the last one shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) from: Option<SocketAddrV4>,
    pub(super) len: usize,
    pub(super) segment: usize,
}

/// Room for what comes.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) bytes: Box<[u8]>,
    control: Vec<u8>,
}

impl Inlet {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; DATAGRAM_MAX].into_boxed_slice(), control: nix::cmsg_space!(i32) }
    }

    /// Reads once; `None` if there is nothing.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<Option<Arrived>> {
        let mut parts = [IoSliceMut::new(&mut self.bytes)];
        let control = Some(self.control.as_mut_slice());
        match recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, control, MsgFlags::empty()) {
            Ok(message) => {
                let from = message.address.map(|from| SocketAddrV4::new(from.ip(), from.port()));
                let size = message.cmsgs().ok().and_then(|mut all| all.find_map(|one| segment_size(&one)));
                let len = message.bytes;
                Ok(Some(Arrived { from, len, segment: size.unwrap_or(len).max(1) }))
            }
            // Refused: the server's socket of before is gone. The clients' timers see to it.
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "one kind of many that are not ours")]
fn segment_size(message: &ControlMessageOwned) -> Option<usize> {
    match message {
        ControlMessageOwned::UdpGroSegments(size) => usize::try_from(*size).ok(),
        _ => None,
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
