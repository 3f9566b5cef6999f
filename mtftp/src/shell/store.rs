//! The thread that writes the store.

use driver::worker::{self, Worker};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::Ticket;

/// Work for the thread that owns the store.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) changes: Vec<db::Change>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) ticket: Ticket,
    pub(crate) result: Result<(), String>,
}

/// Starts the thread that writes: many jobs in one durable transaction.
pub(crate) fn start(mut store: db::Store) -> (Worker<Job>, UnboundedReceiver<Stored>) {
    worker::spawn("mtftpd-store", move |jobs: Vec<Job>| write(&mut store, &jobs))
}

fn write(store: &mut db::Store, jobs: &[Job]) -> Vec<Stored> {
    let all: Vec<db::Change> = jobs.iter().flat_map(|job| job.changes.iter().cloned()).collect();
    match store.apply(&all) {
        Ok(()) => return jobs.iter().map(|job| Stored { ticket: job.ticket, result: Ok(()) }).collect(),
        // Who waits for another process has waited long enough; the others would wait as long each.
        Err(error @ db::StoreError::Locked { .. }) => {
            let result = Err(error.to_string());
            return jobs.iter().map(|job| Stored { ticket: job.ticket, result: result.clone() }).collect();
        }
        // Together they failed; one by one, those that can be kept are.
        Err(_) => {}
    }
    let one = |job: &Job| {
        let result = store.apply(&job.changes).map_err(|error| error.to_string());
        Stored { ticket: job.ticket, result }
    };
    jobs.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use driver::Wall;
    use peers::saved::{Former, SavedChange, SavedClaim, SavedMember};
    use wire::configure::Ports;
    use wire::hold::HoldState;
    use wire::pxe::BootItem;
    use wire::record::{Claim, ServerRole};
    use wire::{BootEpoch, Content, FileName, GroupAddr, Layer, Serial, ServerId, ServerType, Stamp};

    use super::*;
    use crate::engine::{Change, Journal, ReferenceRecord, RestRecord, SerialRecord};
    use crate::rows::row;

    fn all() -> Journal {
        let group = GroupAddr::new(Ipv4Addr::new(239, 255, 0, 1)).unwrap();
        let binld = ServerId([7; 16]);
        let stamp = Stamp { millis: 8, sender: binld };
        let file = FileName::new(b"pxelinux/\xff").unwrap();
        let claim = SavedClaim {
            owner: binld,
            number: 12,
            claim: Claim {
                group,
                content: Content { server: Ipv4Addr::new(10, 0, 0, 3), file: file.clone() },
                ports: Ports { client: 5, server: 6 },
                boot_item: BootItem { server_type: ServerType(7), layer: Layer(8) },
                stamp,
                state: HoldState::Draining,
                pinned: true,
                configured: false,
            },
            first: Wall(10),
            changed: Wall(11),
        };
        let member = SavedMember {
            server: binld,
            role: Some(ServerRole::Binld),
            control: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4016),
            unreachable_since: Some(Wall(13)),
        };
        let reference = ReferenceRecord {
            group,
            file: file.clone(),
            ports: Ports { client: 1, server: 2 },
            binld,
            address: Ipv4Addr::new(10, 0, 0, 2),
            epoch: BootEpoch(3),
            serial: Serial(4),
            stamp,
            since: Wall(5),
            renewed: Wall(6),
        };
        Journal {
            references: vec![reference],
            serials: vec![SerialRecord { group, binld, epoch: BootEpoch(3), serial: Serial(4) }],
            rests: vec![RestRecord { group, file, stamp, since: Wall(9) }],
            former: Former { claims: vec![claim], members: vec![member] },
        }
    }

    /// Every field of every record survives the store, and every deletion deletes.
    #[test]
    fn records_survive_the_store() {
        let mut store = db::Store::in_memory(db::Kind::Mtftpd).unwrap();
        let journal = all();
        let puts = journal.references.iter().cloned().map(Change::PutReference);
        let puts = puts.chain(journal.serials.iter().copied().map(Change::PutSerial));
        let puts = puts.chain(journal.rests.iter().cloned().map(Change::PutRest));
        let entries =
            journal.former.claims.iter().cloned().map(|entry| SavedChange::PutClaim(Box::new(entry)));
        let entries = entries.chain(journal.former.members.iter().copied().map(SavedChange::PutMember));
        let puts = puts.chain(entries.map(Change::Saved)).chain([Change::Alive(Wall(77))]);
        let jobs: Vec<Job> = puts
            .enumerate()
            .map(|(n, change)| Job { ticket: Ticket(n as u64), changes: vec![row(change)] })
            .collect();
        let stored = write(&mut store, &jobs);
        assert!(stored.iter().all(|stored| stored.result.is_ok()), "{stored:?}");
        assert_eq!(stored.iter().map(|stored| stored.ticket.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(crate::rows::journal(store.load().unwrap()), journal);
        assert_eq!(store.header().unwrap().last_alive_ms, 77);
        let (group, binld) = (journal.serials[0].group, journal.serials[0].binld);
        let deletes = [
            Change::DeleteReference { group, binld },
            Change::DeleteSerial { group, binld },
            Change::DeleteRest(group),
            Change::Saved(SavedChange::DropClaim(binld, 12)),
            Change::Saved(SavedChange::DropMember(binld)),
        ];
        let changes = deletes.into_iter().map(row).collect();
        write(&mut store, &[Job { ticket: Ticket(9), changes }]);
        assert_eq!(crate::rows::journal(store.load().unwrap()), Journal::default());
    }
}
