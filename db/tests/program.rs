//! `pxemc-db` as an operator runs it.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is found")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use db::{Change, Kind, MarkRow, Store};
use wire::ServerId;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pxemc-db")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn store(path: &Path, marks: u8) -> Store {
    let mut store = Store::open(path, Kind::Binld).unwrap();
    store.boot(7_000, ServerId([0xaa; 16])).unwrap();
    for number in 0..marks {
        let group = format!("239.255.9.{number}").parse().unwrap();
        let why = "x".repeat(2000);
        store.apply(&[Change::PutMark(MarkRow { group, until_ms: 0, why })]).unwrap();
    }
    store
}

#[test]
fn dump_and_check_work_while_the_daemon_runs_and_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.db");
    let name = path.to_str().unwrap();
    let running = store(&path, 2);
    let dumped = run(&["dump", name]);
    assert!(dumped.status.success(), "{dumped:?}");
    assert!(text(&dumped.stdout).contains("239.255.9.1"), "{dumped:?}");
    let checked = run(&["check", name]);
    assert_eq!(text(&checked.stdout), format!("{name}: ok: 0 claims, 2 marks, 0 rests\n"));
    drop(running);
    assert_eq!(run(&["dump", name]).stdout, dumped.stdout);
    let lines = text(&run(&["dump", "--json", name]).stdout);
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().is_object()));
}

#[test]
fn check_says_what_is_wrong_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.db");
    drop(store(&path, 1));
    let by_hand = rusqlite::Connection::open(&path).unwrap();
    by_hand.execute_batch("INSERT INTO mark VALUES ('10.9.8.7', 0, '')").unwrap();
    drop(by_hand);
    let name = path.to_str().unwrap();
    let checked = run(&["check", name]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stdout).contains("mark of 10.9.8.7"), "{checked:?}");
    let dumped = run(&["dump", name]);
    assert_eq!(dumped.status.code(), Some(1));
    assert!(text(&dumped.stderr).contains("pxemc-db check"), "{dumped:?}");
}

#[test]
fn errors_go_to_standard_error_with_a_code_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.db");
    let output = run(&["dump", missing.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(text(&output.stderr).contains("none.db: there is no such store"), "{output:?}");
    assert!(!missing.exists(), "a reader makes nothing");
    assert_eq!(run(&["erase"]).status.code(), Some(2));
    assert!(text(&run(&["--version"]).stdout).starts_with("pxemc-db "));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.db");
    // More than a pipe holds.
    drop(store(&path, 100));
    let mut dump = Command::new(env!("CARGO_BIN_EXE_pxemc-db"))
        .args(["dump", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 8];
    dump.stdout.take().unwrap().read_exact(&mut start).unwrap();
    assert_eq!(&start, b"store of");
    let output = dump.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
