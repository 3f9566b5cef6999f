//! `kill -9` at every step of a claim's life (R004.1, Y7): what was held is defended at once, asked for anew before it is
//! handed out, and no acknowledged reference is lost. Each step is held open by something that happens to servers: a store
//! that another program writes, a cable that loses the answers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, TYPE, binld_config, boot_files, claim, counter, pattern, references, start,
    start_binld, until_held,
};
use sim::capture::{Capture, Packet};
use sim::daemon::{Daemon, Kind};
use sim::lab::{Host, Lab, eventually};
use sim::pxe_client::{Answer, DISCOVERY_PORT, Firmware, Form, Machine, ask, receive};
use sim::transfer_client::{MtftpClient, read_request};
use sim::wire_check::{self, Told};
use wire::control::{Envelope, Message};
use wire::query::{Opcode, Query};
use wire::{Content, FileName, GroupAddr, Layer, ServerType};

const FILE: &str = "initrd.img";
const PINNED: Ipv4Addr = Ipv4Addr::new(239, 255, 1, 1);
const BINLD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const MTFTPD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 21);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 66);
const QUERY_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4015);
/// Ports of the control envelope.
const BINLD_PORT: u16 = 4016;
const MTFTPD_PORT: u16 = 4017;

/// One boot server, one file server, one machine, somebody else, and every datagram between them.
struct Net {
    binld: Daemon,
    mtftpd: Daemon,
    machine: UdpSocket,
    stranger: UdpSocket,
    capture: Capture,
    _hosts: [Host; 2],
    lab: Lab,
}

impl Net {
    /// The file server runs, the boot server with these items too.
    fn new(items: &str) -> Self {
        Self::with_mtftpd(items, "")
    }

    fn with_mtftpd(items: &str, mtftpd_config: &str) -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let capture = lab.capture(&[]);
        let (machine, stranger) = (lab.host("machine", 101), lab.host("stranger", 66));
        let host = lab.host("mtftp1", 21);
        let mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", mtftpd_config);
        let binld = start_binld(&mut lab, 1, items);
        let sockets = (machine.bind(68), stranger.bind(4015));
        let hosts = [machine, stranger];
        Self { binld, mtftpd, machine: sockets.0, stranger: sockets.1, capture, _hosts: hosts, lab }
    }

    /// Waits until the boot server's claim for the pinned file is so far.
    #[track_caller]
    fn until_state(&self, state: &str) {
        eventually(&format!("{FILE} {state}"), || {
            claim(&self.binld, FILE).filter(|claim| claim["state"] == state).map(drop)
        });
    }

    #[track_caller]
    fn until_referenced(&self) {
        eventually("a reference", || (references(&self.mtftpd, FILE) == [BINLD.to_string()]).then_some(()));
    }

    /// The items are these from now on.
    fn reload(&self, items: &str) {
        self.binld.write_config(&binld_config(&[MTFTPD], items));
        self.binld.signal(Signal::HUP);
    }

    /// A machine asks until it is told an address, and no other than the pinned one for its file.
    #[track_caller]
    fn until_told(&self) {
        let question =
            Machine::new(Firmware::Ipxe, Ipv4Addr::new(10, 77, 0, 101)).question(Form::Request, TYPE, 0);
        let told = eventually("an answer that names the address", || {
            let answer = ask(&self.machine, SocketAddrV4::new(BINLD, DISCOVERY_PORT), &question)?;
            Told::of(&answer)
        });
        let right = Told { group: PINNED, server: MTFTPD, port: 1759, file: FILE.into() };
        assert_eq!(told, right);
    }

    /// Somebody else asks for the address, with a key that only a committed claim echoes, until `defender` has answered as
    /// many of the queries as there were since it first spoke after `since`.
    #[track_caller]
    fn until_defended(&self, group: Ipv4Addr, defender: Ipv4Addr, since: usize) {
        let query = foreign_query(group);
        eventually(&format!("{group} defended by {defender}"), || {
            self.stranger.send_to(&query.encode(Opcode::Query), QUERY_GROUP).unwrap();
            while receive(&self.stranger, Duration::from_millis(200)).is_some() {}
            let packets = self.capture.packets();
            let spoke = since + packets[since..].iter().position(|packet| *packet.from.ip() == defender)?;
            let asked = packets[spoke..].iter().filter(|packet| packet.bytes == query.encode(Opcode::Query));
            let echo = query.encode(Opcode::Echo);
            let echoed = packets[spoke..]
                .iter()
                .filter(|packet| *packet.from.ip() == defender && packet.bytes == echo);
            let (asked, echoed) = (asked.count(), echoed.count());
            (echoed > 0 && echoed >= asked).then_some(())
        });
    }

    /// What must hold after a boot server was killed and came back, whatever it was doing: `was_committed` if its store
    /// knew the claim.
    #[track_caller]
    fn assert_binld_comes_back(&mut self, was_committed: bool) {
        let killed = self.capture.len();
        let before = self.claims_on_disk();
        assert_eq!(before.len(), usize::from(was_committed), "{before:?}");
        self.binld.start();
        if was_committed {
            self.until_defended(PINNED, BINLD, killed);
        }
        self.until_told();
        self.capture.until("an answer on the wire", killed, told);
        let packets = self.capture.packets();
        let told = packets[killed..].iter().position(|packet| told(packet).is_some()).unwrap();
        let queries =
            packets[killed..killed + told].iter().filter(|packet| is_query_of(packet, BINLD)).count();
        assert!(queries >= 4, "told after {queries} queries");
        self.assert_consistent();
        let after = self.claims_on_disk();
        assert_eq!(after.len(), 1, "{after:?}");
        if was_committed {
            assert_eq!(
                (&after[0]["address"], &after[0]["stamp"]),
                (&before[0]["address"], &before[0]["stamp"])
            );
        }
        assert_eq!(references(&self.mtftpd, FILE), [BINLD.to_string()]);
    }

    fn claims_on_disk(&self) -> Vec<Value> {
        records(&self.binld, "claim").into_iter().filter(|claim| claim["file"] == FILE).collect()
    }

    /// No address has two files, and nothing that was said on the wire breaks a rule.
    #[track_caller]
    fn assert_consistent(&self) {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for reference in records(&self.mtftpd, "reference") {
            let (group, file) = (reference["address"].to_string(), reference["file"].to_string());
            assert_eq!(files.entry(group).or_insert(file.clone()), &file, "one address, two files");
        }
        let verdict = wire_check::judge(&self.capture.packets());
        assert_eq!(verdict.findings, []);
        assert!(verdict.queries > 0);
    }
}

/// A question for another content on `group`. Its key is greater than that of all contents of the lab: a claim that is
/// still being cleared does not echo it.
fn foreign_query(group: Ipv4Addr) -> Query {
    let content = Content { server: STRANGER, file: FileName::new(b"other.img").unwrap() };
    let group = GroupAddr::new(group).unwrap();
    Query { content, server_type: ServerType(1), layer: Layer(2), group, client_port: 3001 }
}

fn records(daemon: &Daemon, kind: &str) -> Vec<Value> {
    daemon.dump().into_iter().filter(|record| record["record"] == kind).collect()
}

fn told(packet: &Packet) -> Option<Told> {
    let is_answer = packet.from.port() == DISCOVERY_PORT;
    let answer = is_answer.then(|| Answer::read(packet.from, &packet.bytes).ok()).flatten()?;
    Told::of(&answer)
}

fn is_query_of(packet: &Packet, binld: Ipv4Addr) -> bool {
    let query = Query::decode(&packet.bytes).ok().filter(|(opcode, _)| *opcode == Opcode::Query);
    packet.from == SocketAddrV4::new(binld, 4015)
        && query.is_some_and(|(_, query)| query.group.ip() == PINNED)
}

fn delete_on_the_wire(packet: &Packet) -> Option<()> {
    let envelope = Envelope::decode(&packet.bytes).ok().filter(|_| packet.to.port() == MTFTPD_PORT)?;
    matches!(envelope.message, Message::Delete(_)).then_some(())
}

// --- the boot server ------------------------------------------------------------------------------------------------

#[test]
fn binld_killed_while_it_asks() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_state("clearing");
    net.binld.kill();
    assert_eq!(references(&net.mtftpd, FILE), Vec::<String>::new());
    net.assert_binld_comes_back(false);
}

#[test]
fn binld_killed_while_it_records() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_state("clearing");
    let held = net.binld.hold_store();
    net.until_state("recording");
    net.binld.kill();
    drop(held);
    net.assert_binld_comes_back(false);
}

#[test]
fn binld_killed_before_the_ack_leaves() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_state("clearing");
    let held = net.mtftpd.hold_store();
    net.until_state("configuring");
    eventually("a reference on its way to disk", || {
        (claim(&net.mtftpd, FILE)?["references"][0]["stored"] == false).then_some(())
    });
    // Recorded before it was configured, or the address could be forgotten with a reference left behind.
    net.binld.kill();
    drop(held);
    net.assert_binld_comes_back(true);
}

#[test]
fn binld_killed_after_the_ack_left() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_state("clearing");
    net.binld.host().lose_percent(100, BINLD_PORT);
    net.until_state("configuring");
    net.until_referenced();
    net.binld.kill();
    net.binld.host().lose_nothing();
    net.assert_binld_comes_back(true);
}

#[test]
fn binld_killed_while_it_holds() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_told();
    net.binld.kill();
    net.until_defended(PINNED, MTFTPD, 0);
    net.assert_binld_comes_back(true);
    // And again, before it has asked its peers to the end.
    net.binld.kill();
    net.binld.start();
    net.binld.kill();
    net.assert_binld_comes_back(true);
}

#[test]
fn binld_killed_while_it_drains() {
    let mut net = Net::new(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    net.until_told();
    // A client was told: the address drains for two minutes.
    net.reload(DYNAMIC_ITEM);
    net.until_state("draining");
    net.binld.kill();
    let killed = net.capture.len();
    net.binld.start();
    net.until_state("draining");
    net.until_defended(PINNED, BINLD, killed);
    net.until_referenced();
    let packets = net.capture.packets();
    assert!(packets[killed..].iter().all(|packet| told(packet).is_none()), "no client is told any more");
    // Wanted again: it has still to be asked for, because the process that drains it never did.
    net.reload(PINNED_ITEM);
    net.until_told();
    net.assert_consistent();
}

#[test]
fn binld_killed_while_it_deletes() {
    let mut net = Net::new(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    until_held(&net.binld, FILE);
    // The deletes arrive, what is said about them does not.
    net.binld.host().lose_percent(100, BINLD_PORT);
    net.reload(DYNAMIC_ITEM);
    eventually("a deleted reference", || references(&net.mtftpd, FILE).is_empty().then_some(()));
    net.until_state("draining");
    net.binld.kill();
    net.binld.host().lose_nothing();
    net.binld.write_config(&binld_config(&[MTFTPD], PINNED_ITEM));
    // The store may still say held, or drains: in both cases the claim is ours, and only ours.
    net.assert_binld_comes_back(true);
}

#[test]
fn binld_killed_while_an_address_rests() {
    let mut net = Net::new(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    let place = until_held(&net.binld, "rom.img");
    net.reload(PINNED_ITEM);
    let rests = || net.binld.status()["rests"].as_array().cloned().unwrap();
    eventually("a rest", || (rests().first()?["group"] == place.group.to_string()).then_some(()));
    eventually("a rest on disk", || (records(&net.binld, "rest").len() == 1).then_some(()));
    net.binld.kill();
    let killed = net.capture.len();
    net.until_defended(place.group, MTFTPD, killed);
    net.binld.start();
    net.until_defended(place.group, BINLD, killed);
    assert_eq!(net.binld.status()["rests"][0]["group"], place.group.to_string());
    net.until_told();
    net.assert_consistent();
}

// --- the file server ------------------------------------------------------------------------------------------------

#[test]
fn mtftpd_killed_before_a_reference_is_stored() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_state("clearing");
    let held = net.mtftpd.hold_store();
    eventually("a reference on its way to disk", || {
        (claim(&net.mtftpd, FILE)?["references"][0]["stored"] == false).then_some(())
    });
    net.mtftpd.kill();
    drop(held);
    assert_eq!(records(&net.mtftpd, "reference"), Vec::<Value>::new());
    assert_ne!(claim(&net.binld, FILE).unwrap()["state"], "held", "nothing was acknowledged");
    net.mtftpd.start();
    net.until_told();
    assert_eq!(references(&net.mtftpd, FILE), [BINLD.to_string()]);
    net.assert_consistent();
}

#[test]
fn mtftpd_killed_before_the_ack_of_a_stored_reference_arrives() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_state("clearing");
    net.mtftpd.host().mute(BINLD_PORT);
    net.until_referenced();
    eventually("a stored reference", || (records(&net.mtftpd, "reference").len() == 1).then_some(()));
    net.mtftpd.kill();
    // No boot server can speak with the new process: what it knows it has from its store.
    net.mtftpd.host().cut_off(&[BINLD]);
    net.mtftpd.host().unmute();
    net.mtftpd.start();
    net.until_referenced();
    net.mtftpd.host().heal();
    net.until_told();
    net.assert_consistent();
}

#[test]
fn mtftpd_killed_in_a_session() {
    let mut net = Net::new(PINNED_ITEM);
    net.until_told();
    let stream = until_held(&net.binld, FILE).stream(&net.mtftpd, FILE);
    let machine = net.lab.host("machine2", 102);
    let opener = machine.bind(0);
    let first = eventually("a first block", || {
        opener.send_to(&read_request(FILE.as_bytes(), &[]), stream.server).unwrap();
        receive(&opener, Duration::from_millis(200))
    });
    assert_eq!(first.0[..4], [0, 3, 0, 1]);
    let before = records(&net.mtftpd, "reference");
    net.mtftpd.kill();
    assert_eq!(records(&net.mtftpd, "reference"), before);
    let killed = net.capture.len();
    net.mtftpd.start();
    net.until_defended(PINNED, MTFTPD, killed);
    net.until_referenced();
    let received = MtftpClient::new(&machine, stream).fetch();
    assert_eq!(received.bytes, pattern(100_000));
    net.until_told();
    net.assert_consistent();
}

#[test]
fn mtftpd_killed_while_it_deletes() {
    // The delete is repeated every 10 s; the default grace would hold it up for longer than a test may take.
    let mut net = Net::with_mtftpd(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"), "grace_s = 1\n");
    until_held(&net.binld, FILE);
    let before = net.capture.len();
    let held = net.mtftpd.hold_store();
    net.reload(DYNAMIC_ITEM);
    net.capture.until("a delete", before, delete_on_the_wire);
    eventually("a delete that is dealt with", || {
        (claim(&net.mtftpd, FILE)?["state"] == "closing").then_some(())
    });
    net.mtftpd.kill();
    drop(held);
    // Not acknowledged, so still there.
    let kept = records(&net.mtftpd, "reference");
    assert!(kept.iter().any(|reference| reference["file"] == FILE), "{kept:?}");
    net.mtftpd.start();
    net.until_referenced();
    eventually("a deleted reference", || claim(&net.mtftpd, FILE).is_none().then_some(()));
    eventually("a released claim", || claim(&net.binld, FILE).is_none().then_some(()));
    net.assert_consistent();
}

#[test]
fn mtftpd_killed_before_the_ack_of_a_delete_arrives() {
    let mut net = Net::with_mtftpd(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"), "grace_s = 1\n");
    until_held(&net.binld, FILE);
    net.mtftpd.host().mute(BINLD_PORT);
    net.reload(DYNAMIC_ITEM);
    eventually("a deleted reference", || {
        records(&net.mtftpd, "reference").iter().all(|reference| reference["file"] != FILE).then_some(())
    });
    net.mtftpd.kill();
    let killed = net.capture.len();
    net.mtftpd.start();
    // What the last process released rests here too.
    net.until_defended(PINNED, MTFTPD, killed);
    assert_eq!(claim(&net.mtftpd, FILE), None);
    net.mtftpd.host().unmute();
    eventually("a released claim", || claim(&net.binld, FILE).is_none().then_some(()));
    net.assert_consistent();
}

#[test]
fn mtftpd_killed_in_the_grace_releases_nothing() {
    let mut net = Net::new(&format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    until_held(&net.binld, FILE);
    for _ in 0..2 {
        net.mtftpd.kill();
        net.mtftpd.start();
        net.until_referenced();
    }
    net.reload(DYNAMIC_ITEM);
    eventually("a delete in the grace", || {
        (counter(&net.mtftpd, "control.delete_in_grace") > 0).then_some(())
    });
    net.mtftpd.kill();
    net.mtftpd.start();
    net.until_referenced();
    assert_eq!(claim(&net.binld, FILE).unwrap()["state"], "draining");
    net.assert_consistent();
}
