//! Stores as files: whose they are, of which version, damaged, locked, read while written.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is found")]

use std::fs;
use std::path::{Path, PathBuf};

use db::{Change, Kind, MarkRow, RollRow, RollState, Store, StoreError};
use wire::{BootEpoch, GroupAddr, ServerId};

const US: ServerId = ServerId([0xaa; 16]);

fn group(number: u16) -> GroupAddr {
    let [third, last] = number.to_be_bytes();
    GroupAddr::new([239, 255, third, last].into()).unwrap()
}

fn mark(number: u16) -> Change {
    Change::PutMark(MarkRow { group: group(number), until_ms: number.into(), why: "x".repeat(100) })
}

/// A closed store with 500 marks.
fn made(dir: &Path, kind: Kind) -> PathBuf {
    let path = dir.join("some.db");
    let mut store = Store::open(&path, kind).unwrap();
    store.boot(7_000, US).unwrap();
    store.apply(&(0..500).map(mark).collect::<Vec<_>>()).unwrap();
    path
}

fn sql(path: &Path, statement: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap();
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), Kind::Binld);
    sql(&path, "PRAGMA user_version = 3");
    let before = fs::read(&path).unwrap();
    let error = Store::open(&path, Kind::Binld).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 3, known: 2, .. }), "{error}");
    assert!(
        error.to_string().contains("some.db") && error.to_string().contains("install the newer"),
        "{error}"
    );
    let error = Store::open_read_only(&path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// A store as a daemon of schema 1 left it.
fn old(dir: &Path) -> PathBuf {
    let path = dir.join("some.db");
    sql(&path, include_str!("../migrations/0001.sql"));
    sql(
        &path,
        "PRAGMA journal_mode = WAL; PRAGMA application_id = 0x7078656d; PRAGMA user_version = 1;
         INSERT INTO server (one, kind, id, boot_epoch) VALUES (1, 'binld', zeroblob(16), 7);
         INSERT INTO mark VALUES ('239.255.0.1', 5, 'old')",
    );
    path
}

#[test]
fn an_older_store_is_brought_up_to_date_when_it_is_opened_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = old(dir.path());
    let before = fs::read(&path).unwrap();
    let error = Store::open_read_only(&path).unwrap_err();
    assert!(matches!(error, StoreError::Older { found: 1, known: 2, .. }), "{error}");
    let error = Store::open(&path, Kind::Mtftpd).unwrap_err();
    assert!(matches!(error, StoreError::WrongKind { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before, "a refused store is left as it is");
    let list = RollRow {
        version: 1,
        digest: [2; 16],
        state: RollState::Current,
        members: vec![US],
        origins: vec![[1; 16]],
        former: Vec::new(),
    };
    for _ in 0..2 {
        let mut store = Store::open(&path, Kind::Binld).unwrap();
        assert_eq!(store.header().unwrap().schema, 2);
        assert_eq!(store.boot(0, US).unwrap().epoch, store.header().unwrap().epoch);
        assert_eq!(store.load().unwrap().marks.len(), 1, "what was there is there");
        store.apply(&[Change::SetRoll(vec![list.clone()])]).unwrap();
        assert_eq!(store.load().unwrap().roll, std::slice::from_ref(&list));
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
    assert_eq!(Store::open_read_only(&path).unwrap().load().unwrap().roll, [list]);
}

/// All steps or none: what is in the way of the second one leaves the first as it was.
#[test]
fn a_migration_that_fails_leaves_the_older_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = old(dir.path());
    sql(&path, "CREATE TABLE legacy (surprise TEXT)");
    assert!(Store::open(&path, Kind::Binld).is_err());
    let error = Store::open_read_only(&path).unwrap_err();
    assert!(matches!(error, StoreError::Older { found: 1, .. }), "{error}");
    sql(&path, "DROP TABLE legacy");
    assert_eq!(Store::open(&path, Kind::Binld).unwrap().load().unwrap().marks.len(), 1);
}

#[test]
fn the_other_daemons_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), Kind::Binld);
    let error = Store::open(&path, Kind::Mtftpd).unwrap_err();
    assert!(error.to_string().contains("store of binld, not of mtftpd"), "{error}");
    assert_eq!(Store::open_read_only(&path).unwrap().header().unwrap().kind, Kind::Binld);
    assert_eq!(Store::open(&path, Kind::Binld).unwrap().load().unwrap().marks.len(), 500);
}

#[test]
fn a_foreign_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("address book.db");
    sql(&path, "CREATE TABLE friends (name TEXT)");
    let before = fs::read(&path).unwrap();
    for error in [Store::open(&path, Kind::Binld).unwrap_err(), Store::open_read_only(&path).unwrap_err()] {
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn what_is_not_a_database_is_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.db");
    fs::write(&path, "[[item]]\nname = \"a configuration file\"\n".repeat(100)).unwrap();
    for error in [Store::open(&path, Kind::Binld).unwrap_err(), Store::open_read_only(&path).unwrap_err()] {
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn damage_inside_is_found_at_the_start_and_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), Kind::Mtftpd);
    let mut bytes = fs::read(&path).unwrap();
    // The middle of the marks' tree: the first pages hold the schema and `server`.
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let error = Store::open(&path, Kind::Mtftpd).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "a damaged store is left as it is");
    let reader = Store::open_read_only(&path).unwrap();
    assert!(reader.check().map_or(true, |wrong| !wrong.is_empty()));
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.db");
    let first = Store::open(&path, Kind::Binld).unwrap();
    let error = Store::open(&path, Kind::Binld).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(first);
    Store::open(&path, Kind::Binld).unwrap();
}

#[test]
fn a_store_cannot_be_made_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no such directory/binld.db");
    let error = Store::open(&path, Kind::Binld).unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
    assert!(error.to_string().contains("no such directory/binld.db"), "{error}");
    assert!(matches!(Store::open_read_only(&path).unwrap_err(), StoreError::Missing { .. }));
    let error = Store::open(dir.path(), Kind::Binld).unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
}

#[test]
fn a_reader_sees_what_a_running_daemon_has_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.db");
    let mut writer = Store::open(&path, Kind::Binld).unwrap();
    writer.boot(7_000, US).unwrap();
    writer.apply(&[mark(1)]).unwrap();
    let mut reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.header().unwrap().epoch, BootEpoch(7));
    assert_eq!(reader.load().unwrap().marks.len(), 1);
    // The reader neither blocks the writer nor writes.
    writer.apply(&[mark(2)]).unwrap();
    assert_eq!(reader.load().unwrap().marks.len(), 2);
    assert!(reader.apply(&[mark(3)]).is_err());
    assert!(reader.boot(9_000, US).is_err());
    drop(reader);
    writer.apply(&[mark(4)]).unwrap();
    assert_eq!(writer.load().unwrap().marks.len(), 3);
    assert_eq!(writer.header().unwrap().epoch, BootEpoch(7));
}

#[test]
fn a_reader_leaves_a_stopped_store_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), Kind::Binld);
    let before = fs::read(&path).unwrap();
    let reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.load().unwrap().marks.len(), 500);
    assert_eq!(reader.check().unwrap(), Vec::<String>::new());
    drop(reader);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn names_with_odd_bytes_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("50% off? #1");
    fs::create_dir(&odd).unwrap();
    let path = made(&odd, Kind::Binld);
    assert_eq!(Store::open_read_only(&path).unwrap().load().unwrap().marks.len(), 500);
}
