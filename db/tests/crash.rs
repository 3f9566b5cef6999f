//! What is found after a crash: all that was promised, and never half a transaction.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is found")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use db::{Change, Kind, MarkRow, Store};
use wire::{GroupAddr, ServerId};

const US: ServerId = ServerId([0xaa; 16]);
const VICTIM: &str = "PXEMC_TEST_VICTIM";

/// Transaction `number`: two records that belong together.
fn pair(number: u16) -> [Change; 2] {
    let [third, last] = number.to_be_bytes();
    [254, 255].map(|second| {
        let group = GroupAddr::new([239, second, third, last].into()).unwrap();
        Change::PutMark(MarkRow { group, until_ms: number.into(), why: "half of a pair".to_owned() })
    })
}

/// How many transactions are there; asserts that they are the first ones, and whole.
fn whole_pairs(path: &Path) -> u64 {
    let store = Store::open(path, Kind::Binld).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let marks = store.load().unwrap().marks;
    assert_eq!(marks.len() % 2, 0, "half a transaction");
    let (first, second) = marks.split_at(marks.len() / 2);
    for (number, (one, other)) in (0..).zip(first.iter().zip(second)) {
        assert_eq!((one.until_ms, other.until_ms), (number, number));
    }
    first.len() as u64
}

/// What a crash leaves: the files as they are while the writer is still open, none of its last words spoken.
fn crash_copy(from: &Path, to: &Path, log_bytes: impl Fn(usize) -> usize) {
    let log = |path: &Path| path.with_extension("db-wal");
    fs::copy(from, to).unwrap();
    let bytes = fs::read(log(from)).unwrap();
    fs::write(log(to), &bytes[..log_bytes(bytes.len())]).unwrap();
    let _ = fs::remove_file(to.with_extension("db-shm"));
}

#[test]
fn what_was_applied_is_found_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live.db"), dir.path().join("copy.db"));
    let mut store = Store::open(&live, Kind::Binld).unwrap();
    let boot = store.boot(1_000, US).unwrap();
    for number in 0..20 {
        store.apply(&pair(number)).unwrap();
        crash_copy(&live, &copy, |len| len);
        assert_eq!(whole_pairs(&copy), u64::from(number) + 1);
    }
    crash_copy(&live, &copy, |len| len);
    let again = Store::open(&copy, Kind::Binld).unwrap().boot(1_000, ServerId([1; 16])).unwrap();
    assert_eq!((again.server, again.epoch.0), (US, boot.epoch.0 + 1));
}

#[test]
fn a_torn_log_ends_between_two_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live.db"), dir.path().join("copy.db"));
    let mut store = Store::open(&live, Kind::Binld).unwrap();
    store.boot(1_000, US).unwrap();
    // Into the file with what there is: from here on the log starts anew.
    drop(store);
    let mut store = Store::open(&live, Kind::Binld).unwrap();
    (0..6).for_each(|number| store.apply(&pair(number)).unwrap());
    let len = fs::metadata(live.with_extension("db-wal")).unwrap().len();
    let mut found = Vec::new();
    for cut in (0..=usize::try_from(len).unwrap()).step_by(977) {
        crash_copy(&live, &copy, |_| cut);
        found.push(whole_pairs(&copy));
    }
    crash_copy(&live, &copy, |len| len);
    found.push(whole_pairs(&copy));
    assert!(found.is_sorted(), "{found:?}");
    assert_eq!((found.first(), found.last()), (Some(&0), Some(&6)));
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn victim() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let mut store = Store::open(Path::new(&path), Kind::Binld).unwrap();
    store.boot(1_000, US).unwrap();
    let mut out = std::io::stdout().lock();
    for number in 0..u16::MAX {
        store.apply(&pair(number)).unwrap();
        writeln!(out, "safe {number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_daemon_loses_nothing_that_it_was_told_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("killed.db");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut promised = lines.map_while(Result::ok).filter_map(|line| {
        let (_, number) = line.split_once("safe ")?;
        number.parse::<u64>().ok()
    });
    let early = promised.by_ref().take(30).last().unwrap();
    victim.kill().unwrap();
    let late = promised.last().unwrap_or(early);
    victim.wait().unwrap();
    // Between its last commit and its last word it may have been killed.
    let found = whole_pairs(&path);
    assert!(found == late + 1 || found == late + 2, "promised {late}, found {found}");
}
