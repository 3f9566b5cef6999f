//! Many datagrams in one read.

use std::array;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};

/// What one read gave: at most `MOST` datagrams, each of at most `ROOM` bytes.
pub(crate) struct Inlet<const MOST: usize, const ROOM: usize> {
    bytes: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
    arrived: [(usize, Option<SocketAddrV4>); MOST],
}

/// For trains of datagrams that the kernel put together: the longest there is, and so much more that the beginnings do not share
/// their places in the cache.
pub(crate) type Trains = Inlet<16, { (1 << 16) + 1600 }>;

impl<const MOST: usize, const ROOM: usize> fmt::Debug for Inlet<MOST, ROOM> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").finish_non_exhaustive()
    }
}

impl<const MOST: usize, const ROOM: usize> Inlet<MOST, ROOM> {
    /// Datagrams of one read at most.
    pub(crate) const MOST: usize = MOST;

    pub(crate) fn new() -> Self {
        let headers = MultiHeaders::preallocate(MOST, None);
        Self { bytes: vec![0; ROOM * MOST], headers, arrived: [(0, None); MOST] }
    }

    /// Reads once, so many at most, and tells how many datagrams came; with fewer there are no more.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, most: usize) -> io::Result<usize> {
        let mut rooms = self.bytes.chunks_exact_mut(ROOM);
        let mut parts: [[IoSliceMut<'_>; 1]; MOST] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let (flags, parts) = (MsgFlags::MSG_DONTWAIT, parts[..most.min(MOST)].iter_mut());
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, parts, flags, None) {
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

    /// One of those that came last, and its sender.
    pub(crate) fn datagram(&self, number: usize) -> (&[u8], Option<SocketAddrV4>) {
        let (len, from) = self.arrived[number];
        (&self.bytes[number * ROOM..][..len], from)
    }
}
