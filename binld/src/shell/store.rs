//! Who writes the store.
//!
//! A claim that could not be written is given up by the engine, and nobody has heard of it. Everything else that could not
//! be written has happened all the same: an address was left, marked, released. Such changes are *owed*: they stay here,
//! the last one about each subject, and go first into the next transaction. Otherwise the next process would stand on an
//! address that this one has left to another server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use db::{Boot, Kind, Store, StoreError};
use driver::Wall;
use peers::saved::SavedChange;
use wire::{GroupAddr, ServerId};

use crate::engine::claims::StateName;
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

/// What a change is about. Of two changes about the same the later one counts, so there is a bound on what can be owed:
/// a few records for each address, and what there is of other members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Claim(GroupAddr),
    Mark(GroupAddr),
    Rest(GroupAddr),
    Roll,
    Loan(GroupAddr),
    Alive,
    Legacy(Ipv4Addr),
    Listened,
    Replica(ServerId, u64),
    Member(ServerId),
}

impl Subject {
    fn of(change: &Change) -> Self {
        match change {
            Change::PutClaim(record) => Self::Claim(record.at.group),
            Change::DropClaim(group) => Self::Claim(*group),
            Change::PutMark(group, ..) => Self::Mark(*group),
            Change::PutRest(group, ..) | Change::DropRest(group) => Self::Rest(*group),
            Change::SetRoll(_) => Self::Roll,
            Change::PutLoan(loan) => Self::Loan(loan.group),
            Change::DropLoan(group) => Self::Loan(*group),
            Change::Alive(_) => Self::Alive,
            Change::PutLegacy(address, _) | Change::DropLegacy(address) => Self::Legacy(*address),
            Change::Listened(_) => Self::Listened,
            Change::Saved(SavedChange::PutClaim(entry)) => Self::Replica(entry.owner, entry.number),
            Change::Saved(SavedChange::DropClaim(owner, number)) => Self::Replica(*owner, *number),
            Change::Saved(SavedChange::PutMember(entry)) => Self::Member(entry.server),
            Change::Saved(SavedChange::DropMember(server)) => Self::Member(*server),
        }
    }
}

/// The store, and who writes it.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Store,
    server: ServerId,
    /// Batches in a row that were not written as a whole.
    failures: u64,
    /// What happened and is not written.
    owed: BTreeMap<Subject, Change>,
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
        let keeper = Self { store, server: boot.server, failures: 0, owed: BTreeMap::new() };
        Ok((keeper, boot, journal(rows, &boot)))
    }

    /// For the worker's thread.
    pub(super) fn work(mut self) -> impl FnMut(Vec<Job>) -> Vec<Done> + Send + 'static {
        move |jobs| self.write(&jobs)
    }

    /// All in one transaction: one wait for the disk, however many. If that fails, each job on its own: one that cannot
    /// be written must not take the others with it.
    fn write(&mut self, jobs: &[Job]) -> Vec<Done> {
        let Err(error) = self.apply(jobs) else {
            if self.failures > 0 {
                tracing::info!(failures = self.failures, "the store is written again");
            }
            self.failures = 0;
            return jobs.iter().map(|job| Done { ticket: job.ticket, stored: true }).collect();
        };
        self.failures += 1;
        if self.failures.is_power_of_two() {
            tracing::error!(
                failures = self.failures,
                "not stored: {error}; until it is, no new address is handed out and clients get plain TFTP"
            );
        }
        // Who waits for another process has waited long enough; the others would wait as long each.
        let locked = matches!(error, StoreError::Locked { .. });
        let one = |job: &Job| {
            let stored = !locked && self.apply(std::slice::from_ref(job)).is_ok();
            if !stored {
                self.owe(job);
            }
            Done { ticket: job.ticket, stored }
        };
        jobs.iter().map(one).collect()
    }

    /// Writes what is owed, then the jobs, all or nothing.
    fn apply(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        let changes = self.owed.values().chain(jobs.iter().flat_map(|job| &job.changes));
        let changes: Vec<db::Change> = changes.map(|change| row_of(change, self.server)).collect();
        self.store.apply(&changes)?;
        self.owed.clear();
        Ok(())
    }

    fn owe(&mut self, job: &Job) {
        for change in &job.changes {
            // The engine gives up a claim that it could not record.
            if !matches!(change, Change::PutClaim(record) if record.state == StateName::Recording) {
                self.owed.insert(Subject::of(change), change.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV4;
    use std::time::Duration;

    use crate::engine::claims::{ClaimKey, Placement, StateName};
    use crate::engine::{ClaimRecord, Listened};
    use peers::saved::{Former, SavedClaim, SavedMember};
    use wire::configure::Ports;
    use wire::hold::HoldState;
    use wire::pxe::BootItem;
    use wire::record::{Claim, ServerRole};
    use wire::{Content, FileName, GroupAddr, Layer, ServerType, Stamp};

    const US: ServerId = ServerId([7; 16]);
    const START: Wall = Wall(1_800_000_000_000);

    fn group(last: u8) -> GroupAddr {
        GroupAddr::new(Ipv4Addr::new(239, 255, 0, last)).unwrap()
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
        let listened = Listened { span: Duration::from_millis(123_456), host_boot: [3; 16] };
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
            job(
                6,
                vec![
                    Change::Saved(SavedChange::PutClaim(Box::new(entry(1)))),
                    Change::Saved(SavedChange::PutClaim(Box::new(entry(2)))),
                    Change::Saved(SavedChange::DropClaim(entry(2).owner, 2)),
                    Change::Saved(SavedChange::PutMember(member(1))),
                    Change::Saved(SavedChange::PutMember(member(2))),
                    Change::Saved(SavedChange::DropMember(member(2).server)),
                ],
            ),
            job(
                7,
                vec![
                    Change::PutLegacy(Ipv4Addr::new(10, 0, 0, 66), later),
                    Change::PutLegacy(Ipv4Addr::new(10, 0, 0, 67), START),
                    Change::DropLegacy(Ipv4Addr::new(10, 0, 0, 67)),
                    Change::Listened(listened),
                ],
            ),
        ];
        let done = keeper.write(&jobs);
        assert!(done.iter().map(|done| (done.ticket.0, done.stored)).eq((1..=7).map(|n| (n, true))));
        drop(keeper);

        let (_, again, journal) = Keeper::open(&path, Wall(START.0 + 1000), ServerId([1; 16])).unwrap();
        assert_eq!(again.server, US);
        assert!(again.epoch > boot.epoch);
        assert_eq!(journal.claims, claims);
        assert_eq!(journal.marks, [(group(21), later)]);
        assert_eq!(journal.rests, [(group(30), content(), stamp)]);
        assert_eq!(journal.last_alive, Wall(START.0 + 77));
        assert_eq!(journal.former, Former { claims: vec![entry(1)], members: vec![member(1)] });
        assert_eq!(journal.legacy, [(Ipv4Addr::new(10, 0, 0, 66), later)]);
        assert_eq!(journal.listened, Some(listened));
    }

    fn entry(number: u64) -> SavedClaim {
        let owner = ServerId([8; 16]);
        let claim = Claim {
            group: group(40),
            content: content(),
            ports: Ports { client: 5, server: 6 },
            boot_item: BootItem { server_type: ServerType(7), layer: Layer(8) },
            stamp: Stamp { millis: 9, sender: owner },
            state: HoldState::Draining,
            pinned: true,
            configured: false,
        };
        SavedClaim { owner, number, claim, first: Wall(10), changed: Wall(11) }
    }

    fn member(number: u8) -> SavedMember {
        let control = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4016);
        let (server, role) = (ServerId([number; 16]), Some(ServerRole::Mtftpd));
        SavedMember { server, role, control, unreachable_since: Some(Wall(12)) }
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

    /// A keeper of a new file, and a second connection to it that can spoil it.
    fn keeper(path: &Path) -> (Keeper, rusqlite::Connection) {
        let (keeper, _, _) = Keeper::open(path, START, US).unwrap();
        (keeper, rusqlite::Connection::open(path).unwrap())
    }

    fn tickets(done: &[Done]) -> Vec<(u64, bool)> {
        done.iter().map(|done| (done.ticket.0, done.stored)).collect()
    }

    const REFUSE: &str = "CREATE TRIGGER no BEFORE INSERT ON claim WHEN new.address = '239.255.0.5'
                          BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    /// As a full disk does: nothing can be written any more.
    const REFUSE_ALL: &str = "CREATE TRIGGER no_claim BEFORE INSERT ON claim BEGIN SELECT RAISE(ABORT, 'no'); END;
                              CREATE TRIGGER no_drop BEFORE DELETE ON claim BEGIN SELECT RAISE(ABORT, 'no'); END;
                              CREATE TRIGGER no_mark BEFORE INSERT ON mark BEGIN SELECT RAISE(ABORT, 'no'); END;
                              CREATE TRIGGER no_rest BEFORE INSERT ON rest BEGIN SELECT RAISE(ABORT, 'no'); END;
                              CREATE TRIGGER no_note BEFORE UPDATE ON server BEGIN SELECT RAISE(ABORT, 'no'); END";
    const ALLOW_ALL: &str =
        "DROP TRIGGER no_claim; DROP TRIGGER no_drop; DROP TRIGGER no_mark; DROP TRIGGER no_rest;
                             DROP TRIGGER no_note";

    #[test]
    fn one_job_that_cannot_be_written_does_not_take_the_others_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let (mut keeper, other) = keeper(&temp.path().join("binld.db"));
        other.execute_batch(REFUSE).unwrap();
        let claim = |last| vec![Change::PutClaim(record(last, StateName::Recording))];
        let done = keeper.write(&[job(1, claim(4)), job(2, claim(5)), job(3, claim(6))]);
        assert_eq!(tickets(&done), [(1, true), (2, false), (3, true)]);
        let groups: Vec<GroupAddr> =
            keeper.store.load().unwrap().claims.iter().map(|row| row.group).collect();
        assert_eq!(groups, [group(4), group(6)]);
        assert!(keeper.owed.is_empty(), "a claim that was given up is not written later: {:?}", keeper.owed);
    }

    /// What has happened although the store did not take it is written as soon as it does.
    #[test]
    fn what_happened_while_the_store_failed_is_written_later() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("binld.db");
        let (mut keeper, other) = keeper(&path);
        let held = |last| Change::PutClaim(record(last, StateName::Held));
        assert_eq!(tickets(&keeper.write(&[job(1, vec![held(1), held(2), held(3)])])), [(1, true)]);
        other.execute_batch(REFUSE_ALL).unwrap();
        let stamp = Stamp { millis: 9, sender: US };
        let later = Wall(START.0 + 60_000);
        let jobs = [
            // Left to another server; released; drains; would have been new.
            job(2, vec![Change::DropClaim(group(1)), Change::PutMark(group(1), later, "held")]),
            job(3, vec![Change::DropClaim(group(2)), Change::PutRest(group(2), content(), stamp, START)]),
            job(4, vec![Change::PutClaim(record(3, StateName::Draining))]),
            job(5, vec![Change::PutClaim(record(4, StateName::Recording))]),
            job(6, vec![Change::Alive(later)]),
        ];
        let failed: Vec<(u64, bool)> = (2..=6).map(|ticket| (ticket, false)).collect();
        assert_eq!(tickets(&keeper.write(&jobs)), failed);
        assert_eq!(keeper.failures, 1);
        // A later word about the same counts.
        assert_eq!(tickets(&keeper.write(&[job(7, vec![Change::DropRest(group(2))])])), [(7, false)]);
        other.execute_batch(ALLOW_ALL).unwrap();
        assert_eq!(tickets(&keeper.write(&[job(8, vec![held(9)])])), [(8, true)]);
        assert_eq!(keeper.failures, 0);
        drop(keeper);
        let (_, _, journal) = Keeper::open(&path, START, US).unwrap();
        assert_eq!(journal.claims, [record(3, StateName::Draining), record(9, StateName::Held)]);
        assert_eq!((journal.marks, journal.rests), (vec![(group(1), later)], Vec::new()));
        assert_eq!(journal.last_alive, later);
    }

    #[test]
    fn a_store_that_fails_says_so_to_every_ticket() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("binld.db");
        drop(Keeper::open(&path, START, US).unwrap());
        let store = Store::open_read_only(&path).unwrap();
        let mut keeper = Keeper { store, server: US, failures: 0, owed: BTreeMap::new() };
        let jobs = [job(1, vec![Change::Alive(START)]), job(2, vec![Change::DropRest(group(1))])];
        assert_eq!(tickets(&keeper.write(&jobs)), [(1, false), (2, false)]);
        assert_eq!(keeper.failures, 1);
    }
}
