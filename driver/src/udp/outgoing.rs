//! Datagrams that leave together: what a batch of datagrams that came causes.

use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};

use super::{Door, Doors};
use crate::{Role, Transmit};

/// Datagrams of one `sendmmsg`.
const TOGETHER_MAX: usize = 64;

/// Datagrams to be sent with as few system calls as can be. What one receiver gets through one door keeps its order; among
/// receivers there is none, but that control messages go first: a server that is told of a client hears of it before the
/// client is there.
pub struct Outgoing {
    control: Vec<Transmit>,
    others: Vec<Transmit>,
    headers: MultiHeaders<SockaddrIn>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { control, others, .. } = self;
        f.debug_struct("Outgoing").field("control", control).field("others", others).finish_non_exhaustive()
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            control: Vec::new(),
            others: Vec::new(),
            headers: MultiHeaders::preallocate(TOGETHER_MAX, None),
        }
    }
}

impl Outgoing {
    /// Adds a datagram, which leaves with [`Self::send`].
    pub fn put(&mut self, transmit: Transmit) {
        if transmit.role == Role::Control { &mut self.control } else { &mut self.others }.push(transmit);
    }

    /// Sends all of them; as [`Doors::send_to`] never blocks, and counts what is lost.
    pub fn send(&mut self, doors: &Doors) {
        let Self { control, others, headers } = self;
        for list in [control, others] {
            for run in list.chunk_by(|one, other| one.role == other.role) {
                let Some(Transmit { role, to, .. }) = run.first() else { continue };
                match doors.sender(*role, *to) {
                    Some(door) if door.is_host() => {
                        run.chunks(TOGETHER_MAX).for_each(|some| door.send_together(some, headers));
                    }
                    Some(_) | None => run.iter().for_each(|one| _ = doors.send(one)),
                }
            }
            list.clear();
        }
    }
}

impl Door {
    /// Sends no more than [`TOGETHER_MAX`] from a host socket.
    fn send_together(&self, transmits: &[Transmit], headers: &mut MultiHeaders<SockaddrIn>) {
        let mut rest = transmits;
        while let [first, others @ ..] = rest {
            if others.is_empty() {
                self.note(first.to, 1, self.send(first.to, &first.bytes, None));
                return;
            }
            let parts: Vec<[IoSlice<'_>; 1]> = rest.iter().map(|one| [IoSlice::new(&one.bytes)]).collect();
            let to: Vec<Option<SockaddrIn>> = rest.iter().map(|one| Some(one.to.into())).collect();
            self.counts.send_calls.add();
            let sent = sendmmsg(self.socket.as_raw_fd(), headers, &parts, to, [], MsgFlags::empty());
            // The first that cannot be sent ends the call, and fails by itself in the next one.
            let (count, outcome) = match sent.map(Iterator::count) {
                Ok(count) if count > 0 => (count, Ok(count)),
                // Never seen; counted as lost all the same.
                Ok(_) => (1, Err(ErrorKind::WouldBlock.into())),
                Err(error) => (1, Err(error.into())),
            };
            self.note(first.to, count, outcome);
            rest = rest.get(count..).unwrap_or_default();
        }
    }
}
