//! Who is told a multicast address, of that the file server hears.

use wire::Mac;
use wire::dhcp::{BootRequest, RequestKind};
use wire::pxe::{Ours, VendorOptions};
use wire::told::Told;

use super::*;
use crate::limits::TOLD_BURST;

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

/// What file servers were told since the start, and whether an answer to a client went out right after it.
fn told(host: &Host) -> Vec<(SocketAddrV4, Told, bool)> {
    let mut found = Vec::new();
    for (number, (_, transmit)) in host.sent.iter().enumerate() {
        if transmit.role != Role::Control {
            continue;
        }
        if let Message::Told(told) = Envelope::decode(&transmit.bytes).unwrap().message {
            let next = host.sent.get(number + 1);
            let answered = next.is_some_and(|(_, it)| it.role == Role::Discovery && it.to == CLIENT);
            found.push((transmit.to, told, answered));
        }
    }
    found
}

fn to(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(server(last), 4017)
}

/// A request as a boot ROM sends it, or `mtftp-get`.
fn rom_request(ours: Option<Ours>) -> Vec<u8> {
    let boot_item = Some(BootItem { server_type: TYPE, layer: Layer(0) });
    let request = BootRequest {
        kind: RequestKind::Request,
        xid: 1,
        flags: 0,
        ciaddr: *CLIENT.ip(),
        giaddr: Ipv4Addr::UNSPECIFIED,
        mac: MAC,
        architectures: vec![0],
        uuid: None,
        user_class: Vec::new(),
        vendor: Some(VendorOptions { boot_item, ours, ..VendorOptions::default() }),
    };
    request.encode().unwrap()
}

#[test]
fn with_each_multicast_answer_the_server_of_the_content_hears_of_it_first() {
    // Two servers have the files; one is chosen, and the other hears nothing.
    let mut host = Host::start(vec![item(ipxe_boot(true, &[22, 21]))], everywhere(&[21, 22]));
    host.run_for(SETTLED);
    assert_eq!(told(&host), []);
    host.ask(1);
    host.ask(2);
    assert_eq!(host.replies()[0].1, "mtftp://10.77.0.22:1759/initrd.img");
    let expected =
        Told { group: group("239.255.1.1"), client: *CLIENT.ip(), mac: MAC, file: name("initrd.img") };
    assert_eq!(told(&host), vec![(to(22), expected, true); 2]);
}

#[test]
fn a_rom_and_mtftp_get_that_are_told_tags_count_too() {
    for (profile, last, ours) in
        [(Profile::PxeRom, 11, None), (Profile::MtftpGet, 21, Some(Ours::UnderstandsWait))]
    {
        let mut boot = ipxe_boot(false, &[last]);
        (boot.profile, boot.file) = (profile, name("initrd.img"));
        boot.also.clear();
        let mut host = Host::start(vec![item(boot)], everywhere(&[last]));
        Arc::make_mut(&mut host.engine.config.catalog).servers.push(to(11));
        host.run_for(SETTLED);
        host.hear(Role::Discovery, CLIENT, &rom_request(ours));
        host.run_for(Duration::from_secs(1));
        let group = host.engine.status(host.now).claims[0].group.unwrap();
        let expected = Told { group, client: *CLIENT.ip(), mac: MAC, file: name("initrd.img") };
        assert_eq!(told(&host), [(to(last), expected, true)], "{profile:?}");
    }
}

#[test]
fn answers_without_an_address_are_nobodys_business() {
    // Off the link, refused the pinned tuple, and by profile.
    let mut host = settled(true);
    host.hear(
        Role::Discovery,
        CLIENT,
        &request(3, Ipv4Addr::new(10, 9, 0, 7), Ipv4Addr::UNSPECIFIED, b"iPXE"),
    );
    assert_eq!((host.replies().len(), told(&host)), (1, vec![]));
    let mut boot = ipxe_boot(false, &[21]);
    boot.multicast = None;
    let mut host = Host::start(vec![item(boot)], everywhere(&[21]));
    host.run_for(SETTLED);
    host.ask(1);
    assert_eq!((host.replies().len(), told(&host)), (1, vec![]));
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21]))], everywhere(&[21]));
    host.run_for(Duration::from_millis(200));
    let (_, query) = host.queries()[0].clone();
    host.hear(Role::Query, SocketAddrV4::new(PEER, 4015), &query.encode(Opcode::Echo));
    host.run_for(JOIN_PATIENCE);
    host.ask(1);
    assert_eq!((host.replies().len(), told(&host)), (1, vec![]));
}

#[test]
fn after_a_restart_an_address_is_kept_for_clients_told_before_whatever_the_clock_says() {
    let wall = Wall(1_000_000_000_000);
    // Died now; a minute ago; the clock was set back since, or ahead, but by less than makes the claim forgotten.
    for last_alive in [wall, Wall(wall.0 - 60_000), Wall(wall.0 + 3_600_000), Wall(wall.0 - 290_000)] {
        let mut before = settled(true);
        before.ask(1);
        let record = before
            .changes
            .drain(..)
            .rev()
            .find_map(|change| if let Change::PutClaim(record) = change { Some(record) } else { None });
        let journal = Journal { claims: vec![record.unwrap()], last_alive, ..Journal::default() };
        let mut host = Host::restart(vec![item(ipxe_boot(true, &[21]))], everywhere(&[21]), journal);
        host.engine.on_reload(host.now, Catalog::default());
        host.drain();
        host.run_for(Duration::from_secs(119));
        assert_eq!(host.states()[0].1, StateName::Draining, "{last_alive:?}: the client may still open it");
        host.run_for(Duration::from_secs(2));
        assert_eq!(host.states(), []);
    }
}

/// Another boot server may have an address for the other one: what a ROM is told must not depend on it (seed 2224).
#[test]
fn a_rom_that_cannot_have_the_address_is_not_sent_where_it_is() {
    let mut boot = ipxe_boot(false, &[21, 22]);
    (boot.profile, boot.file) = (Profile::PxeRom, name("initrd.img"));
    boot.also.clear();
    let mut host = Host::start(vec![item(boot)], everywhere(&[21, 22]));
    host.script.silent.insert(server(21));
    host.run_for(SETTLED);
    assert_eq!(host.states(), [(content(22, "initrd.img").to_string(), StateName::Held)]);
    host.script.silent.clear();
    host.run_for(Duration::from_secs(60));
    host.hear(Role::Discovery, CLIENT, &rom_request(None));
    let (_, answer) = host.sent.last().unwrap();
    assert_eq!(answer.bytes.get(20..24), Some(server(21).octets().as_slice()), "first in the configuration");
}

/// In a boot storm a file server hears of as many clients as it remembers, and no client waits for that.
#[test]
fn of_more_clients_than_a_server_remembers_it_hears_no_more() {
    let mut host = settled(true);
    let clients = TOLD_BURST + 3;
    for xid in 0..clients {
        host.ask(xid);
    }
    assert_eq!(host.replies().len(), clients as usize);
    assert_eq!(told(&host).len(), TOLD_BURST as usize);
    assert_eq!(host.engine.counters().get("told", "held_back"), 3);
    host.run_for(Duration::from_secs(1));
    host.ask(1);
    assert_eq!(told(&host).len(), TOLD_BURST as usize + 1);
}
