//! One boot server dies, another answers (seed 001). That every client gets its answer, and always the same, is tested here;
//! how soon, by `tests/bench failover`.

use std::net::{Ipv4Addr, SocketAddrV4};

use rustix::process::Signal;
use sim::boot_net::{
    PINNED_ITEM, TYPE, boot_files, is_shared_out, shares, start_binld, start_mtftpd, until_held,
};
use sim::daemon::Daemon;
use sim::lab::{Host, Lab, eventually, eventually_in};
use sim::pxe_client::{Answer, DISCOVERY_PORT, Firmware, Form, Machine, ask};

const ALL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 1, 2), DISCOVERY_PORT);
/// Three boot servers with one configuration, of equal weight whatever this machine is.
const SITE: &str = "[responder]\nweight = 2\n";

fn site(lab: &mut Lab) -> Vec<Daemon> {
    boot_files(lab);
    let rest = format!("{SITE}{PINNED_ITEM}");
    let binlds: Vec<Daemon> = (1..=3).map(|number| start_binld(lab, number, &rest)).collect();
    settle(&binlds);
    binlds
}

#[track_caller]
fn settle(binlds: &[Daemon]) {
    for binld in binlds {
        until_held(binld, "initrd.img");
        eventually("every client has a responder", || is_shared_out(binld, binlds.len()).then_some(()));
    }
}

/// A machine asks all boot servers at once; each question from a socket of its own.
#[track_caller]
fn ask_all(host: &Host, number: u8) -> Answer {
    let socket = host.bind(Firmware::Ipxe.source_port());
    let machine = Machine { number, ..Machine::new(Firmware::Ipxe, host.address()) };
    let answer = ask(&socket, ALL, &machine.question(Form::Request, TYPE, 0)).expect("an answer");
    assert_eq!(answer.uri().as_deref(), Some("mtftp://10.77.0.21:1759/initrd.img"));
    assert_eq!((answer.file.as_str(), answer.siaddr), ("boot.ipxe", Ipv4Addr::new(10, 77, 0, 21)));
    answer
}

fn find(binlds: &[Daemon], address: Ipv4Addr) -> usize {
    binlds.iter().position(|binld| binld.host().address() == address).expect("a boot server of ours")
}

#[test]
fn a_killed_boot_server_s_clients_are_answered_by_another_one() {
    let mut lab = Lab::new();
    let _mtftpd = start_mtftpd(&mut lab);
    let mut binlds = site(&mut lab);
    let host = lab.host("machine", 101);
    for number in 1..=6 {
        let by = *ask_all(&host, number).from.ip();
        let responder = find(&binlds, by);
        binlds[responder].kill();
        let next = ask_all(&host, number);
        assert_ne!(*next.from.ip(), by);
        binlds[responder].start();
        settle(&binlds);
    }
}

#[test]
fn a_boot_server_that_was_stopped_and_goes_on_leaves_the_clients_to_who_took_over() {
    let mut lab = Lab::new();
    let _mtftpd = start_mtftpd(&mut lab);
    let binlds = site(&mut lab);
    let host = lab.host("machine", 101);
    let by = *ask_all(&host, 7).from.ip();
    let paused = &binlds[find(&binlds, by)];
    let other = binlds.iter().find(|binld| binld.host().address() != by).expect("another one");
    let uptime = || other.status()["uptime_ms"].as_u64().unwrap_or(0);
    let stopped_at = uptime();
    paused.signal(Signal::STOP);
    assert_ne!(*ask_all(&host, 7).from.ip(), by);
    // Long enough for it to know, too, that it has been replaced.
    eventually("two seconds have passed", || (uptime() >= stopped_at + 2000).then_some(()));
    paused.signal(Signal::CONT);
    eventually("it stands by", || paused.log().contains("stands by").then_some(()));
    assert_ne!(*ask_all(&host, 7).from.ip(), by);
    settle(&binlds);
}

#[test]
fn a_drained_boot_server_can_be_stopped_without_anybody_noticing() {
    let mut lab = Lab::new();
    let _mtftpd = start_mtftpd(&mut lab);
    boot_files(&lab);
    let zone = lab.folder().join("pxe.zone");
    let rest = format!("{SITE}zone_file = \"{}\"\nzone = \"pxe.example\"\n{PINNED_ITEM}", zone.display());
    let mut binlds = vec![start_binld(&mut lab, 1, &rest), start_binld(&mut lab, 2, PINNED_ITEM)];
    settle(&binlds);
    let host = lab.host("machine", 101);
    // The one that has run for longer may answer all; so it is drained.
    let said = binlds[0].ask(&["drain"]);
    assert!(said.status.success(), "{said:?}");
    eventually("the other one has taken over", || (shares(&binlds[0]) == 0).then_some(()));
    assert_eq!(*ask_all(&host, 1).from.ip(), binlds[1].host().address());
    let text = String::from_utf8(binlds[0].ask(&["status"]).stdout).unwrap();
    assert!(
        text.contains("answers 0 of 128 shares of the clients, drained; 128 have a responder that works"),
        "{text}"
    );
    // The name server's records say so too.
    eventually("the records are written", || {
        let records = std::fs::read_to_string(&zone).unwrap_or_default();
        let first = "_pxe-boot._udp.pxe.example. 30 IN SRV 1 0 4011 binld-10-77-0-11.pxe.example.";
        let second = "_pxe-boot._udp.pxe.example. 30 IN SRV 0 128 4011 binld-10-77-0-12.pxe.example.";
        (records.contains(first) && records.contains(second)).then_some(())
    });
    // Who asks it alone is answered.
    let socket = host.bind(Firmware::Ipxe.source_port());
    let machine = Machine::new(Firmware::Ipxe, host.address());
    let alone = SocketAddrV4::new(binlds[0].host().address(), DISCOVERY_PORT);
    assert!(ask(&socket, alone, &machine.question(Form::Request, TYPE, 0)).is_some());
    drop(socket);
    assert_eq!(binlds[0].stop().code, Some(0));
    assert_eq!(*ask_all(&host, 2).from.ip(), binlds[1].host().address());
    binlds[0].start();
    // Drained once more, and back: it has its share when it has worked for half a minute.
    assert!(binlds[0].ask(&["drain"]).status.success());
    let said = binlds[0].ask(&["undrain"]);
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("30 s"), "{said:?}");
    eventually_in(std::time::Duration::from_secs(60), "it has its share", || {
        (shares(&binlds[0]) > 0).then_some(())
    });
    let _ = ask_all(&host, 3);
}
