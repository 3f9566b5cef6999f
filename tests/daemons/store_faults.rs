//! Stores that cannot be written, or are not what they should be (R004): at a start the daemon says what, where and what to
//! do, and leaves the file as it is; while it runs no client is told what is not on disk, nothing acknowledged is lost, and
//! it goes on by itself when the fault is gone.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use rustix::process::Signal;
use serde_json::Value;
use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, TYPE, binld_config, boot_files, claim, counter, references, until_held,
};
use sim::capture::Capture;
use sim::daemon::{Daemon, Kind};
use sim::lab::{Lab, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, ask};
use sim::wire_check;

const FILE: &str = "initrd.img";
const BINLD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const MTFTPD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 21);
/// Enough for the store, its log and the log's index, and soon full.
const DISK_KIB: u32 = 1024;
/// Exit code (driver::host).
const FAILURE: i32 = 1;
/// What an answer names when the address cannot be had.
const PLAIN: &str = "tftp://10.77.0.21/initrd.img";
const MULTICAST: &str = "mtftp://10.77.0.21:1759/initrd.img";

struct Net {
    binld: Daemon,
    mtftpd: Daemon,
    machine: UdpSocket,
    capture: Capture,
    _lab: Lab,
}

impl Net {
    /// Both daemons, not started, each with a disk of its own.
    fn new() -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let capture = lab.capture(&[]);
        let machine = lab.host("machine", 101).bind(68);
        let (first, second) = (lab.host("binld1", 11), lab.host("mtftp1", 21));
        let mut binld =
            Daemon::new(&lab, &first, Kind::Binld, "binld", &binld_config(&[MTFTPD], PINNED_ITEM));
        let mut mtftpd = Daemon::new(&lab, &second, Kind::Mtftpd, "mtftpd", "grace_s = 0\n");
        binld.give_disk(DISK_KIB);
        mtftpd.give_disk(DISK_KIB);
        Self { binld, mtftpd, machine, capture, _lab: lab }
    }

    fn reload(&self, items: &str) {
        self.binld.write_config(&binld_config(&[MTFTPD], items));
        self.binld.signal(Signal::HUP);
    }

    /// A machine asks until it is told this.
    #[track_caller]
    fn until_told(&self, uri: &str) {
        let question =
            Machine::new(Firmware::Ipxe, Ipv4Addr::new(10, 77, 0, 101)).question(Form::Request, TYPE, 0);
        eventually(&format!("an answer with {uri}"), || {
            let answer = ask(&self.machine, SocketAddrV4::new(BINLD, DISCOVERY_PORT), &question)?;
            (answer.uri()? == uri).then_some(())
        });
    }

    #[track_caller]
    fn assert_no_wrong_answer(&self) {
        let verdict = eventually("answers on the wire", || {
            Some(wire_check::judge(&self.capture.packets())).filter(|verdict| verdict.answers > 0)
        });
        assert_eq!(verdict.findings, []);
    }
}

fn records(daemon: &Daemon, kind: &str) -> Vec<Value> {
    daemon.dump().into_iter().filter(|record| record["record"] == kind).collect()
}

/// Starts in vain; the log must name the store and say all of `words`.
#[track_caller]
fn refused(daemon: &mut Daemon, words: &[&str]) {
    let ended = daemon.start_in_vain();
    assert_eq!(ended.code, Some(FAILURE), "{}", ended.log);
    let store = daemon.store().display().to_string();
    for word in words.iter().chain(&[store.as_str()]) {
        assert!(ended.log.contains(word), "`{word}` is not in: {}", ended.log);
    }
}

#[test]
fn a_full_disk_at_the_start_is_named() {
    let mut net = Net::new();
    for daemon in [&mut net.mtftpd, &mut net.binld] {
        daemon.disk().fill();
        refused(daemon, &["no space is left", "make some"]);
        daemon.disk().free();
        daemon.start();
        daemon.stop();
        // With a store that is there already.
        daemon.disk().fill();
        refused(daemon, &["no space is left", "make some"]);
        daemon.disk().free();
        daemon.start();
    }
    net.until_told(MULTICAST);
    net.assert_no_wrong_answer();
}

#[test]
fn a_disk_that_may_only_be_read_is_named() {
    let mut net = Net::new();
    for daemon in [&mut net.mtftpd, &mut net.binld] {
        daemon.start();
        daemon.stop();
        daemon.disk().make_read_only();
        let ended = daemon.start_in_vain();
        assert_ne!(ended.code, Some(0), "{}", ended.log);
        let folder = daemon.state_dir().display().to_string();
        assert!(ended.log.contains(&folder) && ended.log.contains("writable"), "{}", ended.log);
        daemon.disk().make_writable();
        daemon.start();
    }
    net.until_told(MULTICAST);
}

/// What is not on disk is not told; the claim comes by itself when there is room again.
#[test]
fn a_boot_server_whose_disk_fills_up_gives_plain_tftp_until_there_is_room() {
    let mut net = Net::new();
    net.mtftpd.start();
    net.binld.disk().fill();
    net.binld.disk().free();
    net.binld.start();
    eventually("a clearing", || claim(&net.binld, FILE).map(drop));
    net.binld.disk().fill();
    net.until_told(PLAIN);
    eventually("a failure that is counted", || (counter(&net.binld, "store.failed") > 0).then_some(()));
    let log = eventually("a line in the log", || {
        Some(net.binld.log()).filter(|log| log.contains("no space is left"))
    });
    assert!(log.contains("plain TFTP") && log.contains(&net.binld.store().display().to_string()), "{log}");
    assert_eq!(records(&net.binld, "claim"), Vec::<Value>::new());
    assert_eq!(references(&net.mtftpd, FILE), Vec::<String>::new());
    net.binld.disk().free();
    net.until_told(MULTICAST);
    eventually("a claim on disk", || {
        (records(&net.binld, "claim").first()?["state"] == "held").then_some(())
    });
    net.assert_no_wrong_answer();
}

/// What happened while nothing could be written is written afterwards.
#[test]
fn what_a_boot_server_gives_up_while_its_disk_is_full_is_not_forgotten() {
    let mut net = Net::new();
    net.mtftpd.start();
    net.binld.start();
    net.until_told(MULTICAST);
    net.reload(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    let place = until_held(&net.binld, "rom.img");
    eventually("two claims on disk", || {
        let claims = records(&net.binld, "claim");
        (claims.len() == 2 && claims.iter().all(|claim| claim["state"] == "held")).then_some(())
    });
    net.binld.disk().fill();
    net.reload(PINNED_ITEM);
    eventually("a released claim", || claim(&net.binld, "rom.img").is_none().then_some(()));
    assert_eq!(records(&net.binld, "claim").len(), 2, "the disk is full");
    net.binld.disk().free();
    // The next write, whatever it is about, takes with it what is owed.
    net.binld.stop();
    let claims: Vec<Value> = records(&net.binld, "claim").iter().map(|claim| claim["file"].clone()).collect();
    assert_eq!(claims, [FILE]);
    let rests: Vec<Value> = records(&net.binld, "rest").iter().map(|rest| rest["address"].clone()).collect();
    assert_eq!(rests, [place.group.to_string()]);
    net.assert_no_wrong_answer();
}

#[test]
fn a_boot_server_killed_with_a_full_disk_still_knows_what_it_had() {
    let mut net = Net::new();
    net.mtftpd.start();
    net.binld.start();
    net.until_told(MULTICAST);
    eventually("a claim on disk", || {
        (records(&net.binld, "claim").first()?["state"] == "held").then_some(())
    });
    net.binld.disk().fill();
    net.reload(DYNAMIC_ITEM);
    eventually("a claim that drains", || (claim(&net.binld, FILE)?["state"] == "draining").then_some(()));
    net.binld.kill();
    assert_eq!(records(&net.binld, "claim")[0]["state"], "held", "the disk was full");
    net.binld.disk().free();
    net.binld.start();
    // Not wanted any more: drains again, and has its reference until then.
    eventually("a claim that drains", || (claim(&net.binld, FILE)?["state"] == "draining").then_some(()));
    assert_eq!(references(&net.mtftpd, FILE), [BINLD.to_string()]);
    net.assert_no_wrong_answer();
}

#[test]
fn a_file_server_whose_disk_is_full_acknowledges_nothing() {
    let mut net = Net::new();
    net.mtftpd.start();
    net.mtftpd.disk().fill();
    net.binld.start();
    net.until_told(PLAIN);
    eventually("a failure that is counted", || (counter(&net.mtftpd, "store.failed") > 0).then_some(()));
    assert!(net.mtftpd.log().contains("no space is left"), "{}", net.mtftpd.log());
    assert_eq!(records(&net.mtftpd, "reference"), Vec::<Value>::new());
    assert_ne!(claim(&net.binld, FILE).unwrap()["state"], "held");
    net.mtftpd.disk().free();
    net.until_told(MULTICAST);
    assert_eq!(records(&net.mtftpd, "reference").len(), 1);

    // A delete that cannot be written is not acknowledged either: the reference is there, before and after a restart.
    net.reload(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    until_held(&net.binld, "rom.img");
    net.mtftpd.disk().fill();
    let failed = counter(&net.mtftpd, "store.failed");
    net.reload(PINNED_ITEM);
    eventually("a delete that failed", || (counter(&net.mtftpd, "store.failed") > failed).then_some(()));
    assert_eq!(references(&net.mtftpd, "rom.img"), [BINLD.to_string()]);
    net.mtftpd.kill();
    assert_eq!(records(&net.mtftpd, "reference").len(), 2);
    net.mtftpd.disk().free();
    net.mtftpd.start();
    eventually("a delete that is repeated", || claim(&net.mtftpd, "rom.img").is_none().then_some(()));
    eventually("a released claim", || claim(&net.binld, "rom.img").is_none().then_some(()));
    assert_eq!(references(&net.mtftpd, FILE), [BINLD.to_string()]);
    net.assert_no_wrong_answer();
}

#[test]
fn a_store_that_another_program_writes_holds_nobody_up_for_ever() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = sim::boot_net::start_mtftpd(&mut lab);
    let mut binld = sim::boot_net::start_binld(&mut lab, 1, PINNED_ITEM);
    let machine = lab.host("machine", 101).bind(68);
    eventually("a clearing", || claim(&binld, FILE).map(drop));
    let held = binld.hold_store();
    let question =
        Machine::new(Firmware::Ipxe, Ipv4Addr::new(10, 77, 0, 101)).question(Form::Request, TYPE, 0);
    let told = |uri: &str| {
        eventually(&format!("an answer with {uri}"), || {
            let answer = ask(&machine, SocketAddrV4::new(BINLD, DISCOVERY_PORT), &question)?;
            (answer.uri()? == uri).then_some(())
        });
    };
    told(PLAIN);
    let said = "another process has this store";
    eventually("a line in the log", || binld.log().contains(said).then_some(()));
    assert_eq!(references(&mtftpd, FILE), Vec::<String>::new());
    drop(held);
    told(MULTICAST);

    // At a start too.
    binld.kill();
    let held = binld.hold_store();
    refused(&mut binld, &[said]);
    drop(held);
    // The daemon's own lock, as a second one on the same store would hold it.
    let lock = fs::File::open(binld.state_dir().join("binld.db.lock")).unwrap();
    lock.lock().unwrap();
    refused(&mut binld, &[said]);
    drop(lock);
    binld.start();
    told(MULTICAST);
}

/// Wrong in the header, in each page, cut off, not a database, of another program, of the other daemon.
#[test]
fn a_store_that_is_damaged_or_none_is_left_alone() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = sim::boot_net::start_mtftpd(&mut lab);
    let mut binld = sim::boot_net::start_binld(&mut lab, 1, PINNED_ITEM);
    until_held(&binld, FILE);
    binld.stop();
    mtftpd.stop();
    let stores = [&binld, &mtftpd].map(|daemon| fs::read(daemon.store()).unwrap());
    let foreign = lab.folder().join("foreign.db");
    rusqlite_file(&foreign);
    let damaged = "the store is damaged";
    for (daemon, (right, other)) in [&mut binld, &mut mtftpd].into_iter().zip([(0, 1), (1, 0)]) {
        let right = &stores[right];
        let page = usize::from(u16::from_be_bytes([right[16], right[17]]));
        assert!(right.starts_with(b"SQLite format 3\0") && page >= 512 && right.len() > 4 * page);
        let mut wrong: Vec<(Vec<u8>, &str)> = vec![
            (flipped(right, 3), damaged),
            (right[..right.len() - page].to_vec(), damaged),
            (
                b"a text where a store should be, longer than any header of a database has to be\n".repeat(9),
                damaged,
            ),
            (fs::read(&foreign).unwrap(), "not a store of pxemc"),
            (stores[other].clone(), "this is the store of"),
        ];
        // The first byte of a page says of which kind it is.
        wrong.extend((1..right.len() / page).map(|number| (flipped(right, number * page), damaged)));
        for (number, (bytes, words)) in wrong.into_iter().enumerate() {
            fs::write(daemon.store(), &bytes).unwrap();
            refused(daemon, &[words]);
            assert!(fs::read(daemon.store()).unwrap() == bytes, "number {number} was changed");
        }
        fs::write(daemon.store(), right).unwrap();
        daemon.start();
    }
    assert_eq!(until_held(&binld, FILE).group, Ipv4Addr::new(239, 255, 1, 1));
}

fn flipped(bytes: &[u8], place: usize) -> Vec<u8> {
    let mut wrong = bytes.to_vec();
    wrong[place] ^= 0xff;
    wrong
}

fn rusqlite_file(path: &std::path::Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch("CREATE TABLE somebodys (thing TEXT)").unwrap();
}
