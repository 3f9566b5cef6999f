//! One address, one content: what boot servers and file servers say to each other (R003.4–R003.20).

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use sim::boot_net::{
    DYNAMIC_ITEM, PINNED_ITEM, TYPE, binld_config, boot_files, claim, counter, held, references, start,
    start_binld, start_mtftpd, until_held,
};
use sim::daemon::{Daemon, Kind};
use sim::lab::{Lab, PATIENCE, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, ask, receive};
use wire::query::{Opcode, Query};
use wire::{Content, FileName, GroupAddr, Layer, ServerType};

const QUERY_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4015);

#[test]
fn two_boot_servers_share_one_address_and_keep_a_reference_each() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let items = format!("{PINNED_ITEM}{DYNAMIC_ITEM}");
    let binlds = [1, 2].map(|number| start_binld(&mut lab, number, &items));
    let pinned = binlds.each_ref().map(|binld| until_held(binld, "initrd.img"));
    let dynamic = binlds.each_ref().map(|binld| until_held(binld, "rom.img"));
    assert_eq!(pinned[0], pinned[1]);
    assert_eq!((pinned[0].group, pinned[0].client_port), (Ipv4Addr::new(239, 255, 1, 1), 3001));
    // Both try addresses in one order per content, so nobody has to yield.
    assert_eq!(dynamic[0], dynamic[1]);
    let third = dynamic[0].group.octets();
    assert!(third[..2] == [239, 255] && third[2] != 255 && dynamic[0].group != pinned[0].group, "{third:?}");
    for file in ["initrd.img", "rom.img"] {
        eventually("two references", || {
            (references(&mtftpd, file) == ["10.77.0.11", "10.77.0.12"]).then_some(())
        });
    }

    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let socket = host.bind(68);
    let answers = binlds.each_ref().map(|binld| {
        let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
        ask(&socket, server, &machine.question(Form::Request, TYPE, 0)).expect("an answer")
    });
    assert_eq!(answers[0].uri().as_deref(), Some("mtftp://10.77.0.21:1759/initrd.img"));
    assert_eq!(answers[0].uri(), answers[1].uri());
    assert_eq!((&answers[0].file, answers[0].siaddr), (&answers[1].file, answers[1].siaddr));
}

/// A host that is not ours, but knows the frozen packet.
struct Stranger {
    group: UdpSocket,
    own: UdpSocket,
}

impl Stranger {
    fn new(lab: &mut Lab) -> Self {
        let host = lab.host("stranger", 66);
        Self { group: host.join(*QUERY_GROUP.ip(), QUERY_GROUP.port()), own: host.bind(QUERY_GROUP.port()) }
    }

    /// The next query of somebody else for `file`.
    fn next_query(&self, file: &str) -> (Query, SocketAddrV4) {
        loop {
            let (bytes, from) = receive(&self.group, PATIENCE).expect("a query");
            let (opcode, query) = Query::decode(&bytes).expect("only frozen packets come on this port");
            assert_eq!(opcode, Opcode::Query, "echoes go by unicast");
            if query.content.file.as_bytes() == file.as_bytes() {
                return (query, from);
            }
        }
    }

    /// Asks for an address, for a content of its own, until `defender` echoes it.
    fn ask_until_echoed(&self, group: Ipv4Addr, defender: Ipv4Addr) {
        let content =
            Content { server: Ipv4Addr::new(10, 77, 0, 66), file: FileName::new(b"other.img").unwrap() };
        let group = GroupAddr::new(group).unwrap();
        let query = Query { content, server_type: ServerType(1), layer: Layer(2), group, client_port: 3001 };
        eventually(&format!("an echo of {defender}"), || {
            self.own.send_to(&query.encode(Opcode::Query), QUERY_GROUP).unwrap();
            // Whoever relies on the address defends it, so several may answer, also to what was asked before.
            while let Some((bytes, from)) = receive(&self.own, Duration::from_millis(200)) {
                assert_eq!(bytes[0], 1, "nothing but an echo comes to the port a query came from: {bytes:?}");
                if *from.ip() == defender && bytes == query.encode(Opcode::Echo) {
                    return Some(());
                }
            }
            None
        });
    }
}

#[test]
fn an_address_that_somebody_uses_is_left_alone() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let stranger = Stranger::new(&mut lab);
    let binld = start_binld(&mut lab, 1, DYNAMIC_ITEM);
    let (used, from) = stranger.next_query("rom.img");
    assert_eq!(from, SocketAddrV4::new(binld.host().address(), 4015));
    assert_eq!((used.server_type, used.layer), (ServerType(0x8002), Layer(0)));
    stranger.own.send_to(&used.encode(Opcode::Echo), from).unwrap();
    let other = loop {
        let (query, _) = stranger.next_query("rom.img");
        if query.group != used.group {
            break query.group;
        }
    };
    assert_eq!(until_held(&binld, "rom.img").group, other.ip());
    assert_eq!(counter(&binld, "echo.heard"), 1);
}

#[test]
fn of_two_files_for_the_pinned_tuple_the_second_waits_and_goes_by_plain_tftp() {
    let mut lab = Lab::new();
    boot_files(&lab);
    lab.boot_file("other.img", b"another file");
    let _mtftpd = start_mtftpd(&mut lab);
    let other_host = lab.host("mtftp2", 22);
    let _other = start(&lab, &other_host, Kind::Mtftpd, "mtftpd2", "");
    let first = start_binld(&mut lab, 1, PINNED_ITEM);
    until_held(&first, "initrd.img");
    let items = PINNED_ITEM.replace("initrd.img", "other.img");
    let second_host = lab.host("second", 12);
    let second =
        start(&lab, &second_host, Kind::Binld, "second", &binld_config(&[other_host.address()], &items));
    let refused = eventually("a refusal", || {
        claim(&second, "other.img").filter(|claim| claim["refusals"].as_u64() > Some(0))
    });
    assert_ne!(refused["state"], "held");
    assert!(held(&first, "initrd.img").is_some());

    let host = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let server = SocketAddrV4::new(second.host().address(), DISCOVERY_PORT);
    let answer = ask(&host.bind(68), server, &machine.question(Form::Request, TYPE, 0)).expect("an answer");
    assert_eq!(answer.uri().as_deref(), Some("tftp://10.77.0.22/other.img"));
    assert!(claim(&second, "other.img").is_none_or(|claim| claim["state"] != "held"));
}

#[test]
fn a_dead_boot_servers_address_stays_defended_and_is_its_own_again() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let mut binld = start_binld(&mut lab, 1, &format!("{PINNED_ITEM}{DYNAMIC_ITEM}"));
    let places = ["initrd.img", "rom.img"].map(|file| until_held(&binld, file));
    let stranger = Stranger::new(&mut lab);
    binld.kill();
    for place in places {
        stranger.ask_until_echoed(place.group, mtftpd.host().address());
    }
    binld.start();
    for place in places {
        stranger.ask_until_echoed(place.group, binld.host().address());
    }
    assert_eq!(["initrd.img", "rom.img"].map(|file| until_held(&binld, file)), places);
}

#[test]
fn references_survive_a_killed_file_server() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mut mtftpd = start_mtftpd(&mut lab);
    let mut binlds = [1, 2].map(|number| start_binld(&mut lab, number, DYNAMIC_ITEM));
    for binld in &binlds {
        until_held(binld, "rom.img");
    }
    eventually("two references", || (references(&mtftpd, "rom.img").len() == 2).then_some(()));
    // Nobody who could bring a reference back lives on.
    for binld in &mut binlds {
        binld.kill();
    }
    let before = mtftpd.dump();
    let listed = claim(&mtftpd, "rom.img").unwrap()["references"].clone();
    mtftpd.kill();
    assert_eq!(records(&mtftpd, "reference"), of_kind(&before, "reference"));
    mtftpd.start();
    assert_eq!(claim(&mtftpd, "rom.img").unwrap()["references"], listed);
    assert_eq!(records(&mtftpd, "reference"), of_kind(&before, "reference"));
    assert_eq!(of_kind(&before, "reference").len(), 2);
}

#[test]
fn an_address_is_free_only_after_the_last_delete() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let mtftpd = start_mtftpd(&mut lab);
    let items = format!("{PINNED_ITEM}{DYNAMIC_ITEM}");
    let binlds = [1, 2].map(|number| start_binld(&mut lab, number, &items));
    let place = binlds.each_ref().map(|binld| until_held(binld, "rom.img"))[0];
    eventually("two references", || (references(&mtftpd, "rom.img").len() == 2).then_some(()));
    let without = binld_config(&[mtftpd.host().address()], PINNED_ITEM);

    binlds[0].write_config(&without);
    binlds[0].signal(rustix::process::Signal::HUP);
    eventually("one reference", || (references(&mtftpd, "rom.img") == ["10.77.0.12"]).then_some(()));
    assert!(held(&binlds[1], "rom.img").is_some(), "the other one still holds it");
    assert_eq!(rests(&mtftpd), Vec::<Value>::new());

    binlds[1].write_config(&without);
    binlds[1].signal(rustix::process::Signal::HUP);
    eventually("no claim", || claim(&mtftpd, "rom.img").is_none().then_some(()));
    let resting: Vec<Value> = rests(&mtftpd).iter().map(|rest| rest["group"].clone()).collect();
    assert_eq!(resting, [Value::from(place.group.to_string())]);
    for binld in &binlds {
        eventually("no claim", || claim(binld, "rom.img").is_none().then_some(()));
        assert!(held(binld, "initrd.img").is_some(), "what is still configured stays");
    }
}

fn rests(mtftpd: &Daemon) -> Vec<Value> {
    mtftpd.status()["rests"].as_array().cloned().unwrap()
}

fn records(daemon: &Daemon, kind: &str) -> Vec<Value> {
    of_kind(&daemon.dump(), kind)
}

fn of_kind(dump: &[Value], kind: &str) -> Vec<Value> {
    dump.iter().filter(|record| record["record"] == kind).cloned().collect()
}
