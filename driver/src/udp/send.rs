//! How datagrams leave: each by itself, or a train of equal ones that the kernel cuts apart (`UDP_SEGMENT`, udp(7)).

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};

use super::{Door, Doors};
use crate::{Role, Transmit};

/// The most datagrams that Linux cuts one send into (`UDP_MAX_SEGMENTS`; later versions: 128).
const TRAIN_DATAGRAMS_MAX: usize = 64;
/// The most bytes of one send: the largest payload of UDP over IPv4.
const TRAIN_BYTES_MAX: usize = 65_507;

/// How many datagrams of so many bytes one send can carry; at least one.
#[must_use]
pub fn train_len_max(datagram_bytes: usize) -> usize {
    (TRAIN_BYTES_MAX / datagram_bytes.max(1)).clamp(1, TRAIN_DATAGRAMS_MAX)
}

impl Doors {
    /// Sends; see [`Self::send_to`].
    pub fn send(&self, transmit: &Transmit) -> bool {
        self.send_to(transmit.role, transmit.to, &transmit.bytes)
    }

    /// Sends a datagram from the role's socket, never blocks. True if the kernel took it. Else it is lost, as
    /// datagrams may be: counted, and logged at the 1st, 2nd, 4th, 8th … time.
    pub fn send_to(&self, role: Role, to: SocketAddrV4, bytes: &[u8]) -> bool {
        let Some(door) = self.sender(role, to) else { return false };
        door.note(to, 1, door.send(to, bytes, None))
    }

    /// Sends `bytes` as datagrams of `datagram_bytes` each, the last of which may be shorter, in order; otherwise as
    /// [`Self::send_to`]. They are no more than [`train_len_max`] says. Where the kernel does not cut them apart (no
    /// checksums by the device, a path with a smaller MTU) they go one by one.
    pub fn send_train(&self, role: Role, to: SocketAddrV4, bytes: &[u8], datagram_bytes: usize) -> bool {
        let each = datagram_bytes.max(1);
        if bytes.len() <= each {
            return self.send_to(role, to, bytes);
        }
        let Some(door) = self.sender(role, to) else { return false };
        let outcome = match u16::try_from(each) {
            Ok(each) => door.send(to, bytes, Some(each)),
            Err(_) => Err(Errno::EMSGSIZE.into()),
        };
        if !outcome.as_ref().is_err_and(is_refusal) {
            return door.note(to, bytes.len().div_ceil(each), outcome);
        }
        door.counts.train_refused.add_many(1);
        let mut all = true;
        for one in bytes.chunks(each) {
            all &= door.note(to, 1, door.send(to, one, None));
        }
        all
    }

    pub(super) fn sender(&self, role: Role, to: SocketAddrV4) -> Option<&Door> {
        let door = self.of(role).next();
        if door.is_none() {
            tracing::error!(?role, %to, "nothing can be sent for a role without a socket");
        }
        door
    }
}

/// Whether the kernel says that it cannot cut this train apart (`udp_send_skb`, Linux 4.18 to 6.12).
fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::EINVAL, Errno::EIO, Errno::EMSGSIZE, Errno::EOPNOTSUPP];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(*refusal as i32))
}

impl Door {
    /// Counts what became of so many datagrams; whether they were sent.
    pub(super) fn note(&self, to: SocketAddrV4, datagrams: usize, outcome: io::Result<usize>) -> bool {
        let (counts, role) = (&self.counts, self.role);
        let Err(error) = outcome else {
            counts.sent.add_many(datagrams);
            return true;
        };
        let is_full = error.kind() == ErrorKind::WouldBlock;
        let count = if is_full { &counts.send_full } else { &counts.send_failed };
        count.add_many(datagrams - 1);
        if count.add() && is_full {
            tracing::debug!(?role, %to, count = count.get(), "the send buffer is full");
        } else if !is_full && count.get().is_power_of_two() {
            tracing::debug!(?role, %to, %error, count = count.get(), "cannot send");
        }
        false
    }

    /// `cut`: as datagrams of so many bytes.
    pub(super) fn send(&self, to: SocketAddrV4, bytes: &[u8], cut: Option<u16>) -> io::Result<usize> {
        self.counts.send_calls.add();
        if self.is_host() && cut.is_none() {
            return self.socket.send_to(bytes, to);
        }
        // A socket bound to a group would leave the choice of the source address to the routing table.
        let source = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(self.own.octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let source = (!self.is_host()).then_some(ControlMessage::Ipv4PacketInfo(&source));
        let cut = cut.as_ref().map(ControlMessage::UdpGsoSegments);
        let mut said = [ControlMessage::UdpGsoSegments(&0); 2];
        let mut count = 0;
        for (place, message) in said.iter_mut().zip(source.into_iter().chain(cut)) {
            *place = message;
            count += 1;
        }
        let (fd, bytes) = (self.socket.as_raw_fd(), [IoSlice::new(bytes)]);
        let said = said.get(..count).unwrap_or_default();
        Ok(sendmsg(fd, &bytes, said, MsgFlags::empty(), Some(&SockaddrIn::from(to)))?)
    }
}
