//! The sockets of a daemon: the only place that opens, reads or writes one for UDP.
//!
//! Each address that datagrams are sent to has a socket of its own, bound to just that address, so the socket
//! itself tells where a datagram was sent to:
//!
//! | socket | bound to | shared | receives |
//! |---|---|---|---|
//! | host | (own address, port) | no: a second daemon fails at start | unicast; and sends all that the role sends |
//! | group | (group, port), joined on the interface | with `SO_REUSEADDR`: both daemons of a host hear the group | that group, from that interface |
//! | broadcast | (255.255.255.255, port), bound to the interface | with `SO_REUSEADDR` | broadcasts |
//! | IGMP | raw, bound to the interface | with everybody | IGMP: whole IPv4 packets |
//!
//! A role without a host socket (`mtftpd` hears the query group, `binld` owns the port) sends from its group socket,
//! with our own address put in as the source: same port, right address.

mod counters;
mod interface;
mod open;
mod outgoing;
mod receive;
mod send;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub use interface::Interface;
pub use outgoing::Outgoing;
#[cfg(test)]
pub(crate) use receive::BATCH_DATAGRAMS_MAX;
pub(crate) use receive::{Batch, Received};
pub use send::train_len_max;

use crate::Role;
use counters::Counts;

/// Longest datagram taken, in bytes: the wire formats end far below. Longer ones are counted and dropped.
pub const DATAGRAM_BYTES_MAX: usize = 2048;

/// Receive buffer asked for, in bytes: 4 MiB, some thousand datagrams that come while the machine is busy.
pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Receive buffer asked for where boot servers are asked, in bytes: 16 MiB, what 100,000 machines a second say in a sixth of a
/// second in which the machine is busy. What is lost there is asked for again after a second.
pub const DISCOVERY_BUFFER_BYTES: usize = 16 << 20;

/// Send buffer asked for, in bytes: what a thousand clients are sent at once waits in one socket for the link.
pub const SEND_BUFFER_BYTES: usize = 4 << 20;

/// What a role needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorSpec {
    /// Which role.
    pub role: Role,
    /// Our own address: of the host socket, and the source of what is sent.
    pub address: Ipv4Addr,
    /// The port of all its sockets; 0 lets the kernel choose one, which needs `own`.
    pub port: u16,
    /// Multicast addresses to hear.
    pub groups: Vec<Ipv4Addr>,
    /// Whether to hear broadcasts to 255.255.255.255.
    pub broadcast: bool,
    /// Whether to open a host socket, exclusively.
    pub own: bool,
}

/// One open socket.
#[derive(Debug)]
pub(crate) struct Door {
    /// Whose it is.
    pub(crate) role: Role,
    /// What it is bound to: the destination of all that comes through it.
    pub(crate) bound: SocketAddrV4,
    /// Our address, whatever the socket is bound to.
    own: Ipv4Addr,
    pub(crate) socket: UdpSocket,
    counts: Arc<Counts>,
}

/// All sockets of a daemon. They do not block. A clone is the same sockets: they close with the last of them.
#[derive(Debug, Clone)]
pub struct Doors {
    doors: Arc<[Door]>,
}

impl Doors {
    /// Opens every socket of `specs` on `interface`. What is sent to groups leaves by that interface with `ttl`
    /// (1 does not leave the link) and is heard on this host too.
    ///
    /// # Errors
    /// If one cannot be had; the text names role, address and port and what to do. None stays open then.
    pub fn open(interface: &Interface, specs: &[DoorSpec], ttl: u32) -> anyhow::Result<Self> {
        Ok(Self { doors: open::all(interface, specs, ttl)?.into() })
    }

    /// The same, and one more socket if it can be had, which hears the IGMP of the link: queries go to 224.0.0.1, which
    /// every host hears. A raw socket needs `CAP_NET_RAW`; the second value says what was refused.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_igmp(
        interface: &Interface,
        specs: &[DoorSpec],
        ttl: u32,
    ) -> anyhow::Result<(Self, io::Result<()>)> {
        let mut doors = open::all(interface, specs, ttl)?;
        let igmp = open::igmp(interface).map(|door| doors.push(door));
        Ok((Self { doors: doors.into() }, igmp))
    }

    /// Address and port of the role's host socket, if it has one.
    #[must_use]
    pub fn local(&self, role: Role) -> Option<SocketAddrV4> {
        self.of(role).find(|door| door.is_host()).map(|door| door.bound)
    }

    /// Every count of every role, by name: `udp.<role>.<what>`, and `raw.igmp.<what>`. `kernel_dropped` are datagrams that came while a
    /// socket's buffer was full (of the sockets now open): our silence about them was no evidence.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, u64)> {
        let drops = counters::kernel_drops(&std::fs::read_to_string("/proc/net/udp").unwrap_or_default());
        let mut list = Vec::new();
        let mut roles: Vec<&Door> = self.doors.iter().collect();
        roles.sort_by_key(|door| door.role);
        roles.dedup_by_key(|door| door.role);
        for first in roles {
            first.counts.list(first.role, &mut list);
            let dropped = self.dropped_in(&drops, first.role);
            list.push((format!("{}.kernel_dropped", counters::counter_name(first.role)), dropped));
        }
        // Roles of one name count together; the order of the list is that of the first.
        let mut sums: Vec<(String, u64)> = Vec::new();
        for (name, count) in list {
            match sums.iter_mut().find(|(other, _)| *other == name) {
                Some((_, sum)) => *sum += count,
                None => sums.push((name, count)),
            }
        }
        sums
    }

    /// How many datagrams the kernel has dropped at the sockets of that role, for want of room in their buffers.
    #[must_use]
    pub fn kernel_dropped(&self, role: Role) -> u64 {
        let drops = counters::kernel_drops(&std::fs::read_to_string("/proc/net/udp").unwrap_or_default());
        self.dropped_in(&drops, role)
    }

    fn dropped_in(&self, drops: &BTreeMap<u64, u64>, role: Role) -> u64 {
        let inodes = self.of(role).filter_map(|door| rustix::fs::fstat(&door.socket).ok());
        inodes.filter_map(|stat| drops.get(&stat.st_ino)).sum()
    }

    /// Takes a datagram that is there, of any socket: its role, who sent it, and how many bytes of `buffer` it fills.
    /// `None` if there is none now. For a program that polls; daemons have [`crate::run`].
    pub fn receive(&self, buffer: &mut [u8; DATAGRAM_BYTES_MAX + 1]) -> Option<(Role, SocketAddrV4, usize)> {
        self.doors.iter().find_map(|door| {
            loop {
                match door.receive(buffer) {
                    Received::Datagram(len, from) => return Some((door.role, from, len)),
                    Received::Dropped => {}
                    Received::Empty => return None,
                }
            }
        })
    }

    /// Every socket, to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.doors.iter().map(|door| door.socket.as_fd())
    }

    /// Every socket, for the loop.
    pub(crate) fn all(&self) -> &[Door] {
        &self.doors
    }

    /// The sockets of a role, the one that sends first.
    fn of(&self, role: Role) -> impl Iterator<Item = &Door> {
        self.doors.iter().filter(move |door| door.role == role)
    }
}

impl Door {
    fn is_host(&self) -> bool {
        *self.bound.ip() == self.own
    }
}

#[cfg(test)]
mod tests;
