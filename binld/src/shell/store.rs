//! Who writes the store.

use std::path::Path;

use db::{Boot, Kind, Store, StoreError};
use driver::Wall;
use wire::ServerId;

use crate::engine::{Change, Journal, Ticket};
use crate::rows::{journal, row_of};

/// Changes to be written together.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) changes: Vec<Change>,
}

/// What became of a [`Job`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) ticket: Ticket,
    pub(super) stored: bool,
}

/// The store, and who writes it.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Store,
    server: ServerId,
    /// Batches in a row that were not written.
    failures: u64,
}

impl Keeper {
    /// Opens the store and begins a boot epoch; also gives what a former process left.
    pub(super) fn open(
        path: &Path,
        wall: Wall,
        fresh: ServerId,
    ) -> Result<(Self, Boot, Journal), StoreError> {
        Self::begin(Store::open(path, Kind::Binld)?, wall, fresh)
    }

    fn begin(mut store: Store, wall: Wall, fresh: ServerId) -> Result<(Self, Boot, Journal), StoreError> {
        let boot = store.boot(wall.0, fresh)?;
        let mut rows = store.load()?;
        // Nothing else forgets marks: they end by themselves.
        let over: Vec<_> = rows.marks.iter().filter(|mark| mark.until_ms <= wall.0).collect();
        let forget: Vec<_> = over.iter().map(|mark| db::Change::DeleteMark(mark.group)).collect();
        store.apply(&forget)?;
        rows.marks.retain(|mark| mark.until_ms > wall.0);
        Ok((Self { store, server: boot.server, failures: 0 }, boot, journal(rows, &boot)))
    }

    /// For the worker's thread.
    pub(super) fn work(mut self) -> impl FnMut(Vec<Job>) -> Vec<Done> + Send + 'static {
        move |jobs| self.write(&jobs)
    }

    /// All in one transaction: one wait for the disk, however many.
    fn write(&mut self, jobs: &[Job]) -> Vec<Done> {
        let changes = jobs.iter().flat_map(|job| &job.changes);
        let changes: Vec<db::Change> = changes.map(|change| row_of(change, self.server)).collect();
        let stored = match self.store.apply(&changes) {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(failures = self.failures, "the store is written again");
                }
                self.failures = 0;
                true
            }
            Err(error) => {
                self.failures += 1;
                if self.failures.is_power_of_two() {
                    tracing::error!(
                        failures = self.failures,
                        "not stored: {error}; until it is, no new address is handed out and clients get plain TFTP"
                    );
                }
                false
            }
        };
        jobs.iter().map(|job| Done { ticket: job.ticket, stored }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ClaimRecord;
    use crate::engine::claims::{ClaimKey, Placement, StateName};
    use wire::configure::Ports;
    use wire::pxe::BootItem;
    use wire::{Content, FileName, GroupAddr, Layer, ServerType, Stamp};

    const US: ServerId = ServerId([7; 16]);
    const START: Wall = Wall(1_800_000_000_000);

    fn group(last: u8) -> GroupAddr {
        GroupAddr::new(std::net::Ipv4Addr::new(239, 255, 0, last)).unwrap()
    }

    fn content() -> Content {
        Content { server: [10, 0, 0, 9].into(), file: FileName::new(b"f").unwrap() }
    }

    fn record(last: u8, state: StateName) -> ClaimRecord {
        ClaimRecord {
            key: ClaimKey { content: content(), pinned: last == 1 },
            at: Placement { group: group(last), ports: Ports { client: 3001, server: 1760 } },
            boot_item: BootItem { server_type: ServerType(0x8001), layer: Layer(2) },
            item: "debian".to_owned(),
            state,
            stamp: Stamp { millis: 5, sender: US },
            since: Wall(6),
        }
    }

    fn job(ticket: u64, changes: Vec<Change>) -> Job {
        Job { ticket: Ticket(ticket), changes }
    }

    #[test]
    fn what_was_stored_comes_back_after_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("binld.db");
        let (mut keeper, boot, journal) = Keeper::open(&path, START, US).unwrap();
        assert_eq!((boot.server, journal), (US, Journal::default()));
        let states = [StateName::Recording, StateName::Configuring, StateName::Held, StateName::Draining];
        let claims: Vec<ClaimRecord> = (1..).zip(states).map(|(last, state)| record(last, state)).collect();
        let stamp = Stamp { millis: 9, sender: ServerId([8; 16]) };
        let later = Wall(START.0 + 5000);
        let jobs = [
            job(1, claims.iter().cloned().map(Change::PutClaim).collect()),
            job(2, vec![Change::PutClaim(record(9, StateName::Held)), Change::DropClaim(group(9))]),
            job(
                3,
                vec![Change::PutMark(group(20), START, "over"), Change::PutMark(group(21), later, "held")],
            ),
            job(
                4,
                vec![Change::PutRest(group(30), content(), stamp, START), Change::Alive(Wall(START.0 + 77))],
            ),
            job(5, vec![Change::PutRest(group(31), content(), stamp, START), Change::DropRest(group(31))]),
        ];
        let done = keeper.write(&jobs);
        assert!(done.iter().map(|done| (done.ticket.0, done.stored)).eq((1..=5).map(|n| (n, true))));
        drop(keeper);

        let (_, again, journal) = Keeper::open(&path, Wall(START.0 + 1000), ServerId([1; 16])).unwrap();
        assert_eq!(again.server, US);
        assert!(again.epoch > boot.epoch);
        assert_eq!(journal.claims, claims);
        assert_eq!(journal.marks, [(group(21), later)]);
        assert_eq!(journal.rests, [(group(30), content(), stamp)]);
        assert_eq!(journal.last_alive, Wall(START.0 + 77));
    }

    #[test]
    fn claims_of_others_are_not_taken_over() {
        let mut store = Store::in_memory(Kind::Binld).unwrap();
        let other = ServerId([9; 16]);
        let mine = row_of(&Change::PutClaim(record(1, StateName::Held)), US);
        let theirs = row_of(&Change::PutClaim(record(2, StateName::Held)), other);
        store.apply(&[mine, theirs]).unwrap();
        let (_, _, journal) = Keeper::begin(store, START, US).unwrap();
        assert_eq!(journal.claims, [record(1, StateName::Held)]);
    }

    #[test]
    fn a_store_that_fails_says_so_to_every_ticket() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("binld.db");
        drop(Keeper::open(&path, START, US).unwrap());
        let store = Store::open_read_only(&path).unwrap();
        let mut keeper = Keeper { store, server: US, failures: 0 };
        let jobs = [job(1, vec![Change::Alive(START)]), job(2, vec![Change::DropRest(group(1))])];
        let done = keeper.write(&jobs);
        assert!(done.iter().map(|done| (done.ticket.0, done.stored)).eq([(1, false), (2, false)]));
        assert_eq!(keeper.failures, 1);
    }
}
