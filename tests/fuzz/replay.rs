//! What the fuzzers kept, through the same checks, with the stable compiler; and every golden packet.

#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "shown when a test fails: the script that did it")]
#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else there is fails the check")]

pub mod boot_server;
pub mod decoders;
pub mod domain;
pub mod file_server;
pub mod script;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Reached = BTreeMap<String, u64>;

/// Every kept input of a target, with its name.
fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut kept: Vec<_> = entries
        .map(|entry| entry.expect("an entry of a directory").path())
        .map(|path| {
            (path.clone(), fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        })
        .collect();
    kept.sort();
    kept
}

/// Golden packets: hexadecimal digits, and comments from `#` to the end of the line.
fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/golden");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| fs::read_to_string(entry.expect("an entry of a directory").path()).expect("a text"))
        .map(|text| {
            let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
            let bytes = code.flat_map(str::split_whitespace);
            bytes.map(|byte| u8::from_str_radix(byte, 16).expect("two digits")).collect()
        })
        .collect()
}

/// Gives the kept inputs of `target`, and the golden packets, to its check; some must decode.
fn decode(target: &str, check: fn(&[u8]) -> bool) {
    let (kept, golden) = (kept(target), golden());
    assert!(kept.len() > 3 && golden.len() > 20, "{target}: {} inputs, {} packets", kept.len(), golden.len());
    let all = kept.iter().map(|(_, bytes)| bytes).chain(&golden);
    let taken = all.filter(|bytes| check(bytes)).count();
    assert!(taken > 2, "{target}: only {taken} inputs decode");
}

#[test]
fn kept_queries() {
    decode("query", decoders::query);
}

#[test]
fn kept_envelopes() {
    decode("control", decoders::control);
}

#[test]
fn kept_boot_requests() {
    decode("dhcp", decoders::dhcp);
}

#[test]
fn kept_boot_answers() {
    decode("answer", decoders::answer);
}

#[test]
fn kept_vendor_options() {
    decode("pxe", decoders::pxe);
}

#[test]
fn kept_tftp_packets() {
    decode("tftp", decoders::tftp);
}

#[test]
fn kept_names() {
    decode("name", decoders::name);
}

/// Plays every kept script, and sees that together they reach what is worth reaching.
fn play(target: &str, play: fn(&[u8]) -> Reached, worth: &[&str]) {
    let mut reached = Reached::new();
    for (path, bytes) in kept(target) {
        println!("{}", path.display());
        for (counter, value) in play(&bytes) {
            *reached.entry(counter).or_default() += value;
        }
    }
    let missing: Vec<_> = worth.iter().filter(|counter| !reached.contains_key(**counter)).collect();
    assert!(missing.is_empty(), "no kept script reaches {missing:?}, of {reached:#?}");
}

#[test]
fn kept_scripts_of_the_file_server() {
    play("mtftp", file_server::play, &FILE_SERVER);
}

#[test]
fn kept_scripts_of_the_boot_server() {
    play("binld", boot_server::play, &BOOT_SERVER);
}

/// Counters of the core: what the scripts of the MTFTP server must come to.
const FILE_SERVER: [&str; 25] = [
    "control.ack",
    "control.file_busy",
    "control.forbidden_address",
    "control.in_flight",
    "control.nak",
    "control.no_server_port_left",
    "control.repeated",
    "control.superseded",
    "drop.source",
    "drop_behalf.not_stale",
    "query.defended",
    "references.deleted_on_behalf",
    "session.ack_beyond_end",
    "session.began",
    "session.ended",
    "session.file_changed",
    "session.master_passed_over",
    "session.open_of_other_file",
    "session.open_while_closing",
    "store.failed",
    "tftp.complete",
    "tftp.file_changed",
    "tftp.silent",
    "transfer.resend",
    "transfer.window_again",
];
/// The same of the boot server. Only counters that clearing and discovery always had, for rules of coordination change; and
/// that the election is reached.
const BOOT_SERVER: [&str; 19] = [
    "announcement.sent",
    "claim.committed",
    "claim.held",
    "clearing.contested",
    "clearing.started",
    "declare.heard",
    "discovery.answered.multicast",
    "discovery.answered.plain",
    "discovery.repeated",
    "discovery.unanswered",
    "dropped.election.index",
    "dropped.election.stranger",
    "echo.sent",
    "hold.heard",
    "inquiry.answered",
    "inquiry.heard",
    "request.given_up",
    "revoke.heard",
    "revoke.sent",
];
