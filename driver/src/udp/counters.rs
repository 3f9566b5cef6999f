//! What happened at the doors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Role;

/// One number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds one and says whether the new value is worth a line in the log: 1, 2, 4, 8 … needs no clock and
    /// cannot flood.
    pub(super) fn add(&self) -> bool {
        (self.0.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two()
    }

    /// Adds so many, which are not worth a line.
    pub(super) fn add_many(&self, count: usize) {
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one role.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Datagrams handed to the machine.
    pub(super) received: Count,
    /// Datagrams dropped because they were longer than the most we take.
    pub(super) oversize: Count,
    /// Reads that failed otherwise.
    pub(super) receive_failed: Count,
    /// Reads, whatever they gave.
    pub(super) receive_calls: Count,
    /// Datagrams the kernel took.
    pub(super) sent: Count,
    /// Datagrams lost because the socket's buffer was full.
    pub(super) send_full: Count,
    /// Datagrams lost for another reason: no route, no such address, link down.
    pub(super) send_failed: Count,
    /// Sends, of one datagram or many.
    pub(super) send_calls: Count,
    /// Trains that the kernel would not cut apart, and whose datagrams were sent one by one.
    pub(super) train_refused: Count,
}

impl Counts {
    pub(super) fn list(&self, role: Role, into: &mut Vec<(String, u64)>) {
        let name = counter_name(role);
        for (what, count) in [
            ("received", &self.received),
            ("oversize", &self.oversize),
            ("receive_failed", &self.receive_failed),
            ("receive_calls", &self.receive_calls),
            ("sent", &self.sent),
            ("send_full", &self.send_full),
            ("send_failed", &self.send_failed),
            ("send_calls", &self.send_calls),
            ("train_refused", &self.train_refused),
        ] {
            into.push((format!("{name}.{what}"), count.get()));
        }
    }
}

/// A role as counters and messages call it.
pub(super) fn role_name(role: Role) -> String {
    match role {
        Role::Query => "query".to_owned(),
        Role::Control => "control".to_owned(),
        Role::Domain => "domain".to_owned(),
        Role::Discovery => "discovery".to_owned(),
        Role::Broadcast => "broadcast".to_owned(),
        Role::Tftp => "tftp".to_owned(),
        Role::Transfer => "transfer".to_owned(),
        Role::Mtftp(port) => format!("mtftp-{port}"),
        // All of them under one name: which of them carried a transfer tells nothing.
        Role::Stream(_) => "stream".to_owned(),
        Role::Igmp => "igmp".to_owned(),
    }
}

/// How the counters of a role begin.
pub(super) fn counter_name(role: Role) -> String {
    let protocol = if role == Role::Igmp { "raw" } else { "udp" };
    format!("{protocol}.{}", role_name(role))
}

/// Datagrams the kernel dropped for want of room, by the inode of the socket: the last column of `/proc/net/udp`.
pub(super) fn kernel_drops(table: &str) -> BTreeMap<u64, u64> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        Some((columns.get(9)?.parse().ok()?, columns.get(12)?.parse().ok()?))
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  103: 0100007F:0FAF 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17
  104: 0100007F:0FB0 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
  odd line
";
        assert_eq!(kernel_drops(table), BTreeMap::from([(4711, 17), (4712, 0)]));
        assert_eq!(kernel_drops(""), BTreeMap::new());
    }

    #[test]
    fn powers_of_two_are_logged() {
        let count = Count::default();
        let logged: Vec<u64> = (1..=20).filter(|_| count.add()).collect();
        assert_eq!(logged, [1, 2, 4, 8, 16]);
        assert_eq!(count.get(), 20);
    }
}
