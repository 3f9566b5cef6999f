//! The wait packet (R003.14), and what `mtftp-get` is answered.

use wire::dhcp::{BootAnswer, BootRequest, RequestKind};
use wire::pxe::{MulticastTags, Ours, VendorOptions};
use wire::{Mac, ServerType};

use super::*;
use crate::limits::{CLIENTS_AT_ONCE, RECONCILE_INTERVAL};

/// An item for `mtftp-get`, whose file lies on another host and has no address before it is asked for.
fn host() -> Host {
    let mut host = just_started();
    host.run_for(SETTLED);
    host
}

fn just_started() -> Host {
    Host::start(vec![on_demand()], everywhere(&[21]))
}

fn on_demand() -> Item {
    let mut boot = ipxe_boot(false, &[21]);
    boot.profile = Profile::MtftpGet;
    boot.file = name("initrd.img");
    boot.also.clear();
    Item { preclear: false, ..item(boot) }
}

fn ask(host: &mut Host, xid: u32, ours: Option<Ours>) {
    ask_at(host, Role::Discovery, xid, ours);
}

fn ask_at(host: &mut Host, role: Role, xid: u32, ours: Option<Ours>) {
    ask_as(host, role, xid, Mac([2; 6]), TYPE, ours);
}

fn ask_as(host: &mut Host, role: Role, xid: u32, mac: Mac, server_type: ServerType, ours: Option<Ours>) {
    let boot_item = Some(BootItem { server_type, layer: Layer(0) });
    let request = BootRequest {
        kind: RequestKind::Request,
        xid,
        flags: 0,
        ciaddr: *CLIENT.ip(),
        giaddr: Ipv4Addr::UNSPECIFIED,
        mac,
        architectures: vec![0],
        uuid: None,
        user_class: Vec::new(),
        vendor: Some(VendorOptions { boot_item, ours, ..VendorOptions::default() }),
    };
    host.hear(role, CLIENT, &request.encode().unwrap());
}

/// What clients heard, and when.
fn heard(host: &Host) -> Vec<(Time, BootAnswer)> {
    let is_reply = |role| matches!(role, Role::Discovery | Role::Broadcast);
    let replies = host.sent.iter().filter(|(_, transmit)| is_reply(transmit.role));
    replies.map(|(at, transmit)| (*at, BootAnswer::decode(&transmit.bytes).unwrap())).collect()
}

fn is_wait(answer: &BootAnswer) -> bool {
    answer.vendor.ours == Some(Ours::Wait(2)) && answer.file.is_none() && answer.file_server.is_none()
}

#[test]
fn who_understands_it_is_told_to_wait_at_the_start_at_each_conflict_and_repeat() {
    let mut host = host();
    let start = host.now;
    ask(&mut host, 1, Some(Ours::UnderstandsWait));
    assert!(
        matches!(heard(&host).as_slice(), [(at, wait)] if *at == start && is_wait(wait) && wait.xid == 1)
    );
    host.run_for(Duration::from_millis(150));
    assert_eq!(heard(&host).len(), 1, "no more while all goes well");
    let (_, query) = host.queries().last().unwrap().clone();
    host.hear(Role::Query, "10.77.0.12:4015".parse().unwrap(), &query.encode(Opcode::Echo));
    let conflict = host.now;
    assert!(matches!(heard(&host).as_slice(), [_, (at, wait)] if *at == conflict && is_wait(wait)));
    ask(&mut host, 2, Some(Ours::UnderstandsWait));
    assert!(matches!(heard(&host).as_slice(), [_, _, (_, wait)] if is_wait(wait) && wait.xid == 2));
    host.run_for(Duration::from_secs(1));
    // The answer, to the newest request: an address of the pool, and a file server that is not the boot server.
    let heard = heard(&host);
    let [_, _, _, (at, answer)] = heard.as_slice() else { unreachable!("{heard:?}") };
    let group = host.engine.status(host.now).claims[0].group.unwrap();
    assert_ne!(group, query.group);
    let tags = MulticastTags { group, client_port: 3001, server_port: 1760, delay_seconds: 2 };
    assert_eq!((answer.xid, answer.vendor.multicast, answer.vendor.ours), (2, Some(tags), None));
    assert_eq!((answer.file_server, answer.file.clone()), (Some(server(21)), Some(name("initrd.img"))));
    assert!(at.since(conflict) < Duration::from_millis(600), "{:?}", at.since(conflict));
    assert_eq!(host.engine.counters().get("discovery", "wait"), 3);
}

/// To anybody else a wait packet would be the end of the boot.
#[test]
fn nobody_else_hears_a_wait_packet() {
    for ours in [None, Some(Ours::Wait(2))] {
        let mut boot = ipxe_boot(false, &[11]);
        (boot.profile, boot.file) = (Profile::PxeRom, name("initrd.img"));
        boot.also.clear();
        let item = Item { preclear: false, ..item(boot) };
        let mut host = Host::start(vec![item], everywhere(&[11]));
        Arc::make_mut(&mut host.engine.config.catalog).servers.push("10.77.0.11:4017".parse().unwrap());
        host.run_for(SETTLED);
        ask(&mut host, 1, ours);
        assert_eq!(heard(&host), [], "it waits");
        host.run_for(Duration::from_secs(3));
        assert!(matches!(heard(&host).as_slice(), [(_, answer)] if answer.vendor.multicast.is_some()));
        assert_eq!(host.engine.counters().get("discovery", "wait"), 0);
    }
}

/// It waits as long as addresses are tried, not the 2.5 s of firmware; then it gets plain TFTP.
#[test]
fn its_patience_is_longer_than_that_of_firmware() {
    let mut host = host();
    host.script.ignores_claims = true;
    ask(&mut host, 1, Some(Ours::UnderstandsWait));
    host.run_for(Duration::from_secs(20));
    assert!(heard(&host).iter().all(|(_, answer)| is_wait(answer)));
    host.run_for(Duration::from_secs(11));
    let heard = heard(&host);
    let (_, last) = heard.last().unwrap();
    assert_eq!((last.file.clone(), last.vendor.multicast), (Some(name("initrd.img")), None));
}

/// Whoever has just started stands by: another one may be the responder. If there is none, the client is told when that is
/// known.
#[test]
fn a_client_that_asks_before_there_is_a_responder_is_told_to_wait_by_who_becomes_it() {
    let mut host = just_started();
    ask_at(&mut host, Role::Broadcast, 1, Some(Ours::UnderstandsWait));
    assert_eq!(heard(&host), []);
    host.run_for(Duration::from_secs(5));
    let heard = heard(&host);
    assert!(
        matches!(heard.as_slice(), [(_, wait), (_, answer)] if is_wait(wait) && answer.file.is_some()),
        "{heard:?}"
    );
}

/// Of many not all are looked at whatever happens: those whose address is held are answered at once, and those who wait for
/// the same file by another item soon after.
#[test]
fn many_that_wait_are_answered_when_it_is_their_turn() {
    let other = ServerType(TYPE.0 + 1);
    let mut same = Item { name: "other".into(), ..on_demand() };
    same.boot_item.server_type = other;
    let mut host = Host::start(vec![on_demand(), same], everywhere(&[21]));
    host.run_for(SETTLED);
    let each = u32::try_from(CLIENTS_AT_ONCE).unwrap() + 1;
    for (first, server_type) in [(0, TYPE), (each, other)] {
        for xid in first..first + each {
            let [a, b, c, d] = xid.to_be_bytes();
            let mac = Mac([2, 0, a, b, c, d]);
            ask_as(&mut host, Role::Discovery, xid, mac, server_type, Some(Ours::UnderstandsWait));
        }
    }
    assert!(heard(&host).iter().all(|(_, answer)| is_wait(answer)));
    for _ in 0..1000 {
        host.run_for(Duration::from_millis(1));
        // Something happens all the time.
        host.engine.unsettle();
        host.engine.on_timeout(host.now);
        host.drain();
    }
    let mut heard = heard(&host);
    heard.retain(|(_, answer)| !is_wait(answer));
    assert_eq!(heard.len(), 2 * CLIENTS_AT_ONCE + 2);
    assert!(heard.iter().all(|(_, answer)| answer.vendor.multicast.is_some()));
    let when =
        |own: bool| heard.iter().filter(move |(_, answer)| (answer.xid < each) == own).map(|(at, _)| *at);
    let at = when(true).max().unwrap();
    assert_eq!(Some(at), when(true).min(), "at once");
    let soon = at + RECONCILE_INTERVAL;
    assert!(when(false).all(|then| at < then && then <= soon));
}
