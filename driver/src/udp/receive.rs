//! How datagrams come: one, or all that wait in a socket, in one call (`recvmmsg`).

use std::array;
use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};

use super::{DATAGRAM_BYTES_MAX, Door};

/// Most datagrams taken from one socket before the others have their turn.
pub(crate) const BATCH_DATAGRAMS_MAX: usize = 64;

/// Room for the longest datagram, and one byte more, which tells a longer one.
const ROOM: usize = DATAGRAM_BYTES_MAX + 1;

/// What a read of a door gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A datagram of this many bytes, from there.
    Datagram(usize, SocketAddrV4),
    /// Something that was counted and dropped; there may be more.
    Dropped,
    /// Nothing more for now.
    Empty,
}

/// Datagrams that were taken from a socket together, in the order they came.
pub(crate) struct Batch {
    headers: MultiHeaders<SockaddrIn>,
    buffer: Box<[u8]>,
    /// How long each is, and who sent it; `None`: nobody can have.
    taken: Vec<(usize, Option<SocketAddrV4>)>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH_DATAGRAMS_MAX, None),
            buffer: vec![0; BATCH_DATAGRAMS_MAX * ROOM].into_boxed_slice(),
            taken: Vec::with_capacity(BATCH_DATAGRAMS_MAX),
        }
    }

    /// Those that are not too long.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddrV4, &[u8])> {
        self.taken.iter().zip(self.buffer.chunks_exact(ROOM)).filter_map(|((len, from), bytes)| {
            Some((*from.as_ref().filter(|_| *len <= DATAGRAM_BYTES_MAX)?, bytes.get(..*len)?))
        })
    }
}

impl Door {
    /// Reads one datagram into `buffer`, which has room for one byte more than [`DATAGRAM_BYTES_MAX`].
    pub(crate) fn receive(&self, buffer: &mut [u8; ROOM]) -> Received {
        self.counts.receive_calls.add();
        match self.socket.recv_from(buffer) {
            Ok((len, SocketAddr::V4(from))) if len <= DATAGRAM_BYTES_MAX => {
                self.counts.received.add();
                Received::Datagram(len, from)
            }
            Ok((_, from)) => {
                self.overlong(Some(from));
                Received::Dropped
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Empty,
            Err(error) => {
                self.unreadable(&error);
                Received::Dropped
            }
        }
    }

    /// Takes what waits, as much as `batch` has room for, instead of what is in it. False if nothing more waits.
    pub(crate) fn receive_batch(&self, batch: &mut Batch) -> bool {
        let Batch { headers, buffer, taken } = batch;
        taken.clear();
        let mut rooms = buffer.chunks_exact_mut(ROOM);
        let mut parts: [[IoSliceMut<'_>; 1]; BATCH_DATAGRAMS_MAX] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        self.counts.receive_calls.add();
        match recvmmsg(self.socket.as_raw_fd(), headers, &mut parts, MsgFlags::MSG_DONTWAIT, None) {
            Ok(datagrams) => taken.extend(datagrams.map(|it| (it.bytes, it.address.map(SocketAddrV4::from)))),
            Err(nix::errno::Errno::EAGAIN) => return false,
            Err(error) => {
                self.unreadable(&error.into());
                return true;
            }
        }
        for (len, from) in taken.iter() {
            if *len <= DATAGRAM_BYTES_MAX {
                self.counts.received.add();
            } else {
                self.overlong(from.map(SocketAddr::V4));
            }
        }
        taken.len() == BATCH_DATAGRAMS_MAX
    }

    fn overlong(&self, from: Option<SocketAddr>) {
        if self.counts.oversize.add() {
            tracing::debug!(role = ?self.role, ?from, "a datagram longer than any of ours was dropped");
        }
    }

    fn unreadable(&self, error: &io::Error) {
        if self.counts.receive_failed.add() {
            tracing::debug!(role = ?self.role, %error, "cannot read a datagram");
        }
    }
}
