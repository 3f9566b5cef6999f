//! One engine against scripted neighbours: what it says, when, and to whom.

use std::collections::BTreeSet;
use std::time::Duration;

use super::catalog::{Boot, Item, Profile};
use super::choose::Pool;
use super::event::{Offer, WhyPlain};
use super::*;
use dhcproto::v4::borrowed::Message as DhcpView;
use peers::further::Named;
use peers::limits::JOIN_PATIENCE;
use wire::configure::Ports;
use wire::configure::{Ack, Nak, NakReason, RequestRef, Target};
use wire::hold::{Hold, HoldState};
use wire::note::Author;
use wire::policy::Policy;
use wire::query::{Opcode, Query};
use wire::record::ServerRole;
use wire::{BootEpoch, DomainId, ServerId};
use wire::{FileName, Layer, Serial, ServerType};

mod behalf;
mod conflicts;
mod sizes;
mod told;
mod waiting;
mod yields;

const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 12);
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 100), 68);
const TYPE: ServerType = ServerType(0x8001);

fn server(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

fn group(text: &str) -> GroupAddr {
    text.parse().unwrap()
}

fn content(last: u8, file: &str) -> Content {
    Content { server: server(last), file: name(file) }
}

/// An iPXE item: a script, and an initramfs by multicast.
fn ipxe_boot(pinned: bool, servers: &[u8]) -> Boot {
    Boot {
        profile: Profile::Ipxe,
        architectures: vec![0],
        file: name("boot.ipxe"),
        multicast: Some(name("initrd.img")),
        pinned,
        also: vec![name("vmlinuz")],
        policy: Policy::default(),
        servers: servers.iter().map(|last| server(*last)).collect(),
    }
}

fn item(boot: Boot) -> Item {
    Item {
        name: "debian".into(),
        boot_item: BootItem { server_type: TYPE, layer: Layer(0) },
        user_class: None,
        clients: Vec::new(),
        preclear: true,
        boots: vec![boot],
    }
}

fn config(items: Vec<Item>) -> EngineConfig {
    EngineConfig {
        address: US,
        prefix_len: 24,
        query: "239.255.255.15:4015".parse().unwrap(),
        control_port: 4016,
        pool: Pool {
            first: group("239.255.0.0"),
            last: group("239.255.254.255"),
            exclude: vec![Ipv4Addr::new(239, 255, 1, 1)],
        },
        dynamic_ports: Ports { client: 3001, server: 1760 },
        pinned: Placement { group: group("239.255.1.1"), ports: Ports { client: 3001, server: 1759 } },
        legacy: Legacy::default(),
        domain: DomainId([5; 16]),
        contacts: Vec::new(),
        lowest: peers::lowest::Constants::LAN,
        author: Author::cut("test"),
        tells: false,
        domains: Named::default(),
        catalog: Arc::new(Catalog {
            items,
            servers: [21, 22].map(|last| SocketAddrV4::new(server(last), 4017)).to_vec(),
        }),
        weight: 4,
    }
}

/// In bytes.
#[derive(Clone, Copy)]
struct Sizes {
    file: u64,
    multicast_max: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { file: 5, multicast_max: u64::MAX }
    }
}

/// What the scripted MTFTP servers do.
#[derive(Default)]
struct Script {
    /// (server, file) pairs that exist.
    files: BTreeSet<Content>,
    /// The size of every file, and the largest that can be multicast.
    sizes: Sizes,
    /// Servers that say nothing.
    silent: BTreeSet<Ipv4Addr>,
    /// Addresses that are in use there for another file.
    in_use: BTreeSet<GroupAddr>,
    /// Renewals and new claims stay without an answer; only files are answered for.
    ignores_claims: bool,
    /// The store fails.
    store_fails: bool,
    /// The store does not answer.
    store_silent: bool,
}

/// The engine, its clock, and all it said.
struct Host {
    engine: Engine,
    now: Time,
    script: Script,
    sent: Vec<(Time, Transmit)>,
    events: Vec<Event>,
    changes: Vec<Change>,
}

impl Host {
    fn start(items: Vec<Item>, script: Script) -> Self {
        Self::restart(items, script, Journal::default())
    }

    fn restart(items: Vec<Item>, script: Script, journal: Journal) -> Self {
        let identity = Identity { server: ServerId([1; 16]), boot_epoch: BootEpoch(7) };
        let now = Time::ZERO;
        let wall = Wall(1_000_000_000_000);
        let engine = Engine::recover(config(items), identity, Draw::from_seed(1), journal, now, wall);
        let (sent, events, changes) = Default::default();
        let mut host = Self { engine, now, script, sent, events, changes };
        host.drain();
        host
    }

    fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Tell(event) => self.events.push(event),
                Action::Persist(ticket, changes) => {
                    self.changes.extend(changes);
                    if self.script.store_silent {
                        continue;
                    }
                    let stored = !self.script.store_fails;
                    // The store answers after the actions of this input are taken.
                    let mut rest = Vec::new();
                    while let Some(action) = self.engine.poll_action() {
                        rest.push(action);
                    }
                    self.engine.on_stored(self.now, ticket, stored);
                    for action in rest {
                        self.carry_out(action);
                    }
                }
                Action::Send(_) => self.carry_out(action),
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Tell(event) => self.events.push(event),
            Action::Persist(_, changes) => self.changes.extend(changes),
            Action::Send(transmit) => {
                self.sent.push((self.now, transmit.clone()));
                if transmit.role == Role::Control {
                    self.answer_as_mtftp_server(&transmit);
                }
            }
        }
    }

    fn answer_as_mtftp_server(&mut self, transmit: &Transmit) {
        let server = *transmit.to.ip();
        let envelope = Envelope::decode(&transmit.bytes).unwrap();
        if self.script.silent.contains(&server) || transmit.to.port() != 4017 {
            return;
        }
        let message = match envelope.message.clone() {
            Message::Configure(configure) => {
                let request = RequestRef {
                    boot_epoch: envelope.boot_epoch,
                    serial: configure.serial,
                    group: configure.group(),
                };
                if self.script.ignores_claims && request.group.is_some() {
                    return;
                }
                let content = Content { server, file: configure.file.clone() };
                let ports = match configure.target {
                    Target::Group { ports, .. } => ports,
                    Target::PlainTftp => Ports { client: 0, server: 0 },
                };
                let nak = |reason| Message::Nak(Nak { request, file: configure.file.clone(), reason });
                if !self.script.files.contains(&content) {
                    nak(NakReason::NoSuchFile)
                } else if request.group.is_some_and(|group| self.script.in_use.contains(&group)) {
                    nak(NakReason::InUse { ports, file: name("other") })
                } else if let Sizes { file: size, multicast_max: size_max } = self.script.sizes
                    && request.group.is_some()
                    && size > size_max
                {
                    nak(NakReason::TooLarge { size, size_max })
                } else {
                    let file_size = self.script.sizes.file;
                    Message::Ack(Ack { request, ports, file_size, file: configure.file.clone() })
                }
            }
            Message::Delete(delete) => {
                let group = Some(delete.group);
                let request = RequestRef { boot_epoch: envelope.boot_epoch, serial: delete.serial, group };
                let ports = Ports { client: 0, server: 0 };
                Message::Ack(Ack { request, ports, file_size: 0, file: delete.file })
            }
            // One that echoed is asked who it is; another has a record for an answer, and the last none.
            Message::Hold(_) | Message::DeleteForDead(_) | Message::Told(_) => return,
            Message::Ack(_)
            | Message::Nak(_)
            | Message::Superseded(_)
            | Message::Hello(_)
            | Message::Connect(_)
            | Message::Welcome(_)
            | Message::Refuse(_)
            | Message::Disconnect(_)
            | Message::SyncList(_)
            | Message::Flood(_)
            | Message::FloodAck(_)
            | Message::ClearAsk(_)
            | Message::ClearAnswer(_)
            | Message::LoanAsk(_)
            | Message::LoanAnswer(_)
            | Message::Inquiry(_)
            | Message::Declare(_)
            | Message::Revoke(_)
            | Message::Further(_) => {
                panic!("a boot server does not say {:?} to an MTFTP server", envelope.message)
            }
        };
        self.hear_control(transmit.to, message);
    }

    fn hear_control(&mut self, from: SocketAddrV4, message: Message) {
        let envelope = Envelope { sender: ServerId([9; 16]), boot_epoch: BootEpoch(1), sequence: 1, message };
        self.hear(Role::Control, from, &envelope.encode());
    }

    fn hear(&mut self, role: Role, from: SocketAddrV4, bytes: &[u8]) {
        let mut rest = Vec::new();
        while let Some(action) = self.engine.poll_action() {
            rest.push(action);
        }
        self.engine.on_datagram(self.now, &Arrival { role, from, to: US, bytes });
        for action in rest {
            self.carry_out(action);
        }
        self.drain();
    }

    /// Lets time pass, deadline by deadline.
    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.engine.on_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn ask(&mut self, xid: u32) {
        self.hear(Role::Discovery, CLIENT, &request(xid, *CLIENT.ip(), Ipv4Addr::UNSPECIFIED, b"iPXE"));
    }

    /// Answers to clients so far: xid and option 224.
    fn replies(&self) -> Vec<(u32, String)> {
        let replies = self.sent.iter().filter(|(_, transmit)| transmit.role == Role::Discovery);
        replies
            .map(|(_, transmit)| {
                let view = DhcpView::new(&transmit.bytes).unwrap();
                let uri = view.opts().find(|option| u8::from(option.code()) == 224);
                (
                    view.xid(),
                    uri.map(|option| String::from_utf8(option.data().to_vec()).unwrap()).unwrap_or_default(),
                )
            })
            .collect()
    }

    fn queries(&self) -> Vec<(Time, Query)> {
        let on_group = self.sent.iter().filter(|(_, transmit)| transmit.role == Role::Query);
        let decoded = on_group.map(|(at, transmit)| (*at, Query::decode(&transmit.bytes).unwrap()));
        decoded
            .filter(|(_, (opcode, _))| *opcode == Opcode::Query)
            .map(|(at, (_, query))| (at, query))
            .collect()
    }

    fn echoes(&self) -> usize {
        let on_port = self.sent.iter().filter(|(_, transmit)| transmit.role == Role::Query);
        on_port.filter(|(_, transmit)| transmit.bytes.first() == Some(&1)).count()
    }

    fn states(&self) -> Vec<(String, StateName)> {
        let claims = self.engine.status(self.now).claims;
        claims.into_iter().map(|claim| (claim.content.to_string(), claim.state)).collect()
    }
}

/// A boot server discovery request as iPXE sends it.
fn request(xid: u32, ciaddr: Ipv4Addr, giaddr: Ipv4Addr, class: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    bytes.extend([0, 0, 0x80, 0]);
    bytes.extend(ciaddr.octets());
    bytes.extend([0; 8]);
    bytes.extend(giaddr.octets());
    bytes.extend([0x52, 0x54, 0, 0, 0, 1]);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, 3, 60, 9]);
    bytes.extend(b"PXEClient");
    bytes.extend([93, 2, 0, 0, 97, 17, 0]);
    bytes.extend([7; 16]);
    bytes.extend([77, u8::try_from(class.len()).unwrap()]);
    bytes.extend(class);
    bytes.extend([43, 7, 71, 4, 0x80, 0x01, 0, 0, 255, 255]);
    bytes
}

/// Files on the servers of these last octets.
fn everywhere(servers: &[u8]) -> Script {
    let files = ["boot.ipxe", "vmlinuz", "initrd.img"];
    let pairs = servers.iter().flat_map(|last| files.map(|file| content(*last, file)));
    Script { files: pairs.collect(), ..Script::default() }
}

const SETTLED: Duration = Duration::from_secs(10);

fn settled(pinned: bool) -> Host {
    let mut host = Host::start(vec![item(ipxe_boot(pinned, &[21]))], everywhere(&[21]));
    host.run_for(SETTLED);
    host
}

#[test]
fn a_configured_item_is_cleared_in_the_background_and_a_client_waits_for_nothing() {
    let mut host = settled(true);
    assert_eq!(host.states(), [("10.77.0.21:initrd.img".to_owned(), StateName::Held)]);
    let before = host.queries().len();
    host.ask(42);
    assert_eq!(host.replies(), [(42, "mtftp://10.77.0.21:1759/initrd.img".to_owned())]);
    assert_eq!(host.queries().len(), before, "no query on the client's path");
    let (at, reply) = host.sent.iter().find(|(_, transmit)| transmit.role == Role::Discovery).unwrap();
    assert_eq!((*at, reply.to), (host.now, CLIENT));
}

#[test]
fn the_answer_has_the_form_every_client_accepts() {
    let mut host = settled(true);
    host.ask(42);
    let (_, reply) = host.sent.last().unwrap();
    let view = DhcpView::new(&reply.bytes).unwrap();
    let option =
        |code: u8| view.opts().find(|option| u8::from(option.code()) == code).unwrap().data().to_vec();
    assert_eq!(
        (view.yiaddr(), view.siaddr(), view.ciaddr()),
        (*CLIENT.ip(), server(21), Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(view.fname(), b"boot.ipxe");
    assert_eq!(option(53), [5]);
    assert_eq!(option(54), US.octets());
    assert_eq!(option(60), b"PXEClient");
    assert_eq!(option(97), [[0].as_slice(), &[7; 16]].concat());
    assert_eq!(option(43), [6, 1, 8, 8, 7, 0x80, 1, 1, 10, 77, 0, 21, 71, 4, 0x80, 1, 0, 0, 255]);
    assert!((300..=1472).contains(&reply.bytes.len()));
}

#[test]
fn nobody_is_answered_before_the_ack() {
    let mut script = everywhere(&[21]);
    script.silent.insert(server(21));
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21]))], script);
    host.ask(1);
    host.run_for(Duration::from_secs(2));
    assert_eq!(host.replies(), []);
    // The server comes to life.
    host.script.silent.clear();
    host.run_for(SETTLED);
    host.ask(2);
    assert_eq!(host.replies().last().unwrap().1, "mtftp://10.77.0.21:1759/initrd.img");
}

#[test]
fn without_any_server_a_client_hears_nothing() {
    let mut script = everywhere(&[21]);
    script.silent.insert(server(21));
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21]))], script);
    host.ask(1);
    host.run_for(Duration::from_secs(5));
    assert_eq!(host.replies(), []);
    assert!(host.events.iter().any(|it| matches!(it, Event::Unanswered { .. })), "{:?}", host.events);
    assert!(host.events.contains(&Event::ServerSilent { server: server(21) }));
}

#[test]
fn an_uncleared_pinned_item_is_hurried_and_the_newest_request_is_answered() {
    let mut host = Host::start(vec![], everywhere(&[21]));
    // Nobody is answered before the domain is known (G24).
    host.run_for(JOIN_PATIENCE);
    host.engine.on_reload(host.now, config(vec![item(ipxe_boot(true, &[21]))]).catalog);
    host.drain();
    host.run_for(Duration::from_millis(50));
    host.ask(1);
    host.run_for(Duration::from_millis(100));
    host.ask(2);
    assert_eq!(host.replies(), []);
    host.run_for(Duration::from_millis(400));
    assert_eq!(host.replies(), [(2, "mtftp://10.77.0.21:1759/initrd.img".to_owned())]);
    assert_eq!(host.queries().len(), 4);
}

#[test]
fn a_dynamic_address_on_demand_takes_the_clearing_window_and_the_configure() {
    let mut rom = ipxe_boot(false, &[11]);
    rom.profile = Profile::PxeRom;
    rom.file = name("initrd.img");
    rom.also.clear();
    let mut item = item(rom);
    item.preclear = false;
    let mut engine_config = everywhere(&[11]);
    engine_config.silent.clear();
    let mut host = Host::start(vec![item], engine_config);
    host.run_for(SETTLED);
    assert_eq!(host.queries().len(), 0, "nothing is cleared ahead of demand");
    let asked_at = host.now;
    host.hear(Role::Discovery, CLIENT, &request(1, *CLIENT.ip(), Ipv4Addr::UNSPECIFIED, b""));
    host.run_for(Duration::from_secs(1));
    let (at, reply) = host.sent.iter().find(|(_, transmit)| transmit.role == Role::Discovery).unwrap();
    let waited = at.since(asked_at);
    assert!(waited >= Duration::from_millis(400) && waited <= Duration::from_millis(420), "{waited:?}");
    let view = DhcpView::new(&reply.bytes).unwrap();
    let vendor = view.opts().find(|option| u8::from(option.code()) == 43).unwrap().data().to_vec();
    let tags = wire::pxe::VendorOptions::decode(&vendor).unwrap();
    let claim = &host.engine.status(host.now).claims[0];
    let multicast = tags.multicast.unwrap();
    assert_eq!(
        (Some(multicast.group), multicast.client_port, multicast.server_port),
        (claim.group, 3001, 1760)
    );
    assert_eq!((multicast.delay_seconds, tags.discovery_control), (2, Some(0)));
}

#[test]
fn a_client_off_the_link_gets_plain_tftp() {
    let mut host = settled(true);
    let relay = Ipv4Addr::new(10, 9, 0, 1);
    for (ciaddr, giaddr) in [(Ipv4Addr::new(10, 9, 0, 7), Ipv4Addr::UNSPECIFIED), (*CLIENT.ip(), relay)] {
        host.hear(Role::Discovery, CLIENT, &request(3, ciaddr, giaddr, b"iPXE"));
        assert_eq!(host.replies().last().unwrap().1, "tftp://10.77.0.21/initrd.img");
        let plain = Offer::PlainTftp(WhyPlain::OffLink);
        assert!(matches!(host.events.last(), Some(Event::Answered { offer, .. }) if *offer == plain));
    }
}

#[test]
fn a_refused_pinned_tuple_means_plain_tftp_and_no_mark() {
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21]))], everywhere(&[21]));
    host.run_for(Duration::from_millis(200));
    let (_, query) = host.queries()[0].clone();
    host.hear(Role::Query, SocketAddrV4::new(PEER, 4015), &query.encode(Opcode::Echo));
    assert_eq!(host.states()[0].1, StateName::Waiting);
    assert!(host.engine.status(host.now).marks.is_empty());
    host.run_for(JOIN_PATIENCE);
    host.ask(1);
    assert_eq!(host.replies(), [(1, "tftp://10.77.0.21/initrd.img".to_owned())]);
    // P1: it asks again after 5 s, because a client asked; the other is gone by then.
    host.run_for(SETTLED);
    assert_eq!(host.states()[0].1, StateName::Held);
}

#[test]
fn a_refused_dynamic_address_is_marked_and_the_next_is_tried_at_once() {
    let mut host = Host::start(vec![item(ipxe_boot(false, &[21]))], everywhere(&[21]));
    host.run_for(Duration::from_millis(200));
    let (_, first) = host.queries()[0].clone();
    host.hear(Role::Query, SocketAddrV4::new(PEER, 4015), &first.encode(Opcode::Echo));
    let marks = host.engine.status(host.now).marks;
    assert_eq!(marks, [(first.group, Duration::from_secs(5))]);
    assert!(
        host.changes
            .iter()
            .any(|change| matches!(change, Change::PutMark(group, ..) if *group == first.group))
    );
    let hold = Hold {
        group: first.group,
        content: content(22, "theirs"),
        stamp: Stamp { millis: 1, sender: ServerId([2; 16]) },
        state: HoldState::Committed,
        in_use: false,
        is_answer: false,
        nonce: 1,
    };
    host.hear_control(SocketAddrV4::new(PEER, 4016), Message::Hold(hold));
    assert_eq!(host.engine.status(host.now).marks, [(first.group, Duration::from_secs(300))]);
    host.run_for(SETTLED);
    let claim = &host.engine.status(host.now).claims[0];
    assert_eq!(claim.state, StateName::Held);
    assert_ne!(claim.group, Some(first.group));
}

#[test]
fn of_two_addresses_of_one_content_the_later_drains_into_the_earlier() {
    let mut host = Host::start(vec![item(ipxe_boot(false, &[21]))], everywhere(&[21]));
    host.run_for(Duration::from_millis(200));
    let (_, first) = host.queries()[0].clone();
    let from = SocketAddrV4::new(PEER, 4015);
    host.hear(Role::Query, from, &first.encode(Opcode::Echo));
    host.run_for(SETTLED);
    let second = host.engine.status(host.now).claims[0].group;
    assert_ne!(second, Some(first.group));
    // Somebody has the same content on the address that comes first: ours drains, and follows. A question alone, or
    // four of them, say only that somebody clears it.
    for _ in 0..4 {
        host.hear(Role::Query, from, &first.encode(Opcode::Query));
        host.run_for(Duration::from_millis(500));
        assert_eq!(host.states()[0].1, StateName::Held);
    }
    host.run_for(Duration::from_secs(3));
    host.hear(Role::Query, from, &first.encode(Opcode::Query));
    assert_eq!(host.states()[0].1, StateName::Draining);
    host.run_for(SETTLED);
    let claim = &host.engine.status(host.now).claims[0];
    assert_eq!((claim.group, claim.state), (Some(first.group), StateName::Held));
    // The other way round we only say where we are.
    let before = host.queries().len();
    let later = Query { group: second.unwrap(), ..first };
    host.hear(Role::Query, from, &later.encode(Opcode::Query));
    host.run_for(Duration::from_millis(200));
    assert_eq!(host.queries().len(), before + 1);
    assert_eq!(host.states()[0].1, StateName::Held);
}

#[test]
fn an_address_in_use_at_the_mtftp_server_is_like_an_echo() {
    let mut host = Host::start(vec![item(ipxe_boot(false, &[21]))], everywhere(&[21]));
    host.run_for(Duration::from_millis(200));
    let (_, first) = host.queries()[0].clone();
    host.script.in_use.insert(first.group);
    // Also when it is agreed meanwhile whose the addresses are.
    host.run_for(SETTLED * 2);
    let claim = &host.engine.status(host.now).claims[0];
    assert_eq!(claim.state, StateName::Held);
    assert_ne!(claim.group, Some(first.group));
    assert_eq!(host.engine.status(host.now).marks[0].0, first.group);
}

#[test]
fn a_server_without_the_file_or_without_an_answer_means_the_next_server() {
    for silent in [false, true] {
        let mut script = everywhere(&[21, 22]);
        if silent {
            script.silent.insert(server(21));
        } else {
            script.files.remove(&content(21, "vmlinuz"));
        }
        let mut host = Host::start(vec![item(ipxe_boot(true, &[21, 22]))], script);
        host.run_for(SETTLED);
        host.ask(1);
        assert_eq!(
            host.replies(),
            [(1, "mtftp://10.77.0.22:1759/initrd.img".to_owned())],
            "silent: {silent}"
        );
    }
}

#[test]
fn a_server_that_falls_silent_under_a_held_claim_is_left_for_another() {
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21, 22]))], everywhere(&[21, 22]));
    host.run_for(SETTLED);
    host.script.silent.insert(server(21));
    host.run_for(Duration::from_secs(70));
    host.ask(1);
    let first = host.replies()[0].1.clone();
    assert!(first.contains("10.77.0.22"), "{first}");
    // The silent server's claim blocks the pinned tuple only for a while.
    host.run_for(Duration::from_secs(300));
    host.ask(2);
    host.run_for(SETTLED);
    host.ask(3);
    assert_eq!(host.replies().last().unwrap().1, "mtftp://10.77.0.22:1759/initrd.img");
}

#[test]
fn a_server_that_just_fell_silent_comes_after_one_that_answers_and_does_not_win_back() {
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21, 22]))], everywhere(&[21, 22]));
    host.run_for(SETTLED);
    host.script.silent.insert(server(21));
    // Its files were acknowledged less than 60 s ago, but the last question stayed without an answer.
    host.run_for(Duration::from_secs(35));
    host.ask(1);
    assert_eq!(host.replies().last().unwrap().1, "tftp://10.77.0.22/initrd.img");
    host.run_for(Duration::from_secs(300));
    host.ask(2);
    host.run_for(SETTLED);
    host.script.silent.clear();
    host.run_for(SETTLED);
    host.ask(3);
    assert_eq!(host.replies().last().unwrap().1, "mtftp://10.77.0.22:1759/initrd.img");
}

#[test]
fn a_server_that_has_the_multicast_file_is_preferred() {
    let mut script = everywhere(&[21, 22]);
    script.files.remove(&content(21, "initrd.img"));
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21, 22]))], script);
    host.run_for(SETTLED);
    host.ask(1);
    assert_eq!(host.replies(), [(1, "mtftp://10.77.0.22:1759/initrd.img".to_owned())]);
}

#[test]
fn no_answer_rests_on_an_ack_older_than_a_minute() {
    // The whole server is silent: nobody may be sent there.
    let mut host = settled(true);
    host.script.silent.insert(server(21));
    host.run_for(Duration::from_secs(70));
    host.ask(1);
    host.run_for(Duration::from_secs(5));
    assert_eq!(host.replies(), []);
    // Only the claim is not renewed: its address is not handed out, the files are.
    let mut host = settled(true);
    host.script.ignores_claims = true;
    host.run_for(Duration::from_secs(70));
    host.ask(1);
    assert_eq!(host.replies(), [(1, "tftp://10.77.0.21/initrd.img".to_owned())]);
}

#[test]
fn an_echo_must_be_the_outstanding_query_byte_for_byte() {
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21]))], everywhere(&[21]));
    host.run_for(Duration::from_millis(200));
    let (_, query) = host.queries()[0].clone();
    for wrong in [
        Query { layer: Layer(1), ..query.clone() },
        Query { client_port: 1, ..query.clone() },
        Query { content: content(21, "other"), ..query },
    ] {
        host.hear(Role::Query, SocketAddrV4::new(PEER, 4015), &wrong.encode(Opcode::Echo));
    }
    assert_eq!(host.states()[0].1, StateName::Clearing);
    assert_eq!(host.engine.counters().get("dropped.echo", "not_ours"), 3);
}

#[test]
fn a_failing_store_commits_nothing_and_clients_get_plain_tftp() {
    let mut script = everywhere(&[21]);
    script.store_fails = true;
    let mut host = Host::start(vec![item(ipxe_boot(true, &[21]))], script);
    host.run_for(Duration::from_secs(4));
    host.ask(1);
    host.run_for(Duration::from_secs(3));
    assert_eq!(host.replies(), [(1, "tftp://10.77.0.21/initrd.img".to_owned())]);
    assert!(host.events.contains(&Event::StoreFailed));
    assert!(!host.states().iter().any(|(_, state)| *state == StateName::Held));
}

#[test]
fn a_held_address_is_defended_with_echo_statement_and_announcement() {
    let mut host = settled(true);
    let before = (host.echoes(), host.queries().len());
    let theirs = Query {
        content: content(22, "zzz"),
        server_type: TYPE,
        layer: Layer(0),
        group: group("239.255.1.1"),
        client_port: 3001,
    };
    let from = SocketAddrV4::new(PEER, 4015);
    host.hear(Role::Query, from, &theirs.encode(Opcode::Query));
    assert_eq!(host.echoes(), before.0 + 1);
    let (_, echo) = host.sent.iter().rev().find(|(_, transmit)| transmit.role == Role::Query).unwrap();
    assert_eq!((echo.to, &echo.bytes), (from, &theirs.encode(Opcode::Echo)));
    let (_, hold) = host.sent.iter().rev().find(|(_, transmit)| transmit.role == Role::Control).unwrap();
    assert_eq!(hold.to, SocketAddrV4::new(PEER, 4016));
    assert!(matches!(Envelope::decode(&hold.bytes).unwrap().message, Message::Hold(_)));
    host.run_for(Duration::from_millis(200));
    assert_eq!(host.queries().len(), before.1 + 1, "announced again after 200 ms");
    // The same content from another boot server is no conflict, and an echo takes nothing from a holder.
    let ours = host.queries()[0].1.clone();
    host.hear(Role::Query, from, &ours.encode(Opcode::Query));
    assert_eq!(host.echoes(), before.0 + 1);
    host.hear(Role::Query, from, &ours.encode(Opcode::Echo));
    assert_eq!(host.states()[0].1, StateName::Held);
    assert_eq!(host.engine.counters().get("conflict", "late"), 1);
}

#[test]
fn an_item_that_is_gone_drains_and_its_address_rests() {
    let mut host = settled(true);
    host.ask(1);
    host.engine.on_reload(host.now, Catalog::default());
    host.drain();
    assert_eq!(host.states()[0].1, StateName::Draining);
    host.run_for(Duration::from_secs(119));
    assert_eq!(host.states()[0].1, StateName::Draining, "the client may still open it");
    host.run_for(Duration::from_secs(2));
    assert_eq!(host.states(), []);
    assert_eq!(host.engine.status(host.now).rests.len(), 1);
    host.run_for(Duration::from_secs(10));
    assert!(host.engine.status(host.now).rests.is_empty());
}

#[test]
fn a_restart_defends_at_once_and_hands_out_after_a_clean_round() {
    let mut host = settled(true);
    let claims: Vec<ClaimRecord> = host
        .changes
        .drain(..)
        .filter_map(|change| if let Change::PutClaim(record) = change { Some(record) } else { None })
        .collect();
    let journal = |last_alive| Journal {
        claims: claims[claims.len() - 1..].to_vec(),
        last_alive,
        ..Journal::default()
    };
    let theirs = Query {
        content: content(22, "zzz"),
        server_type: TYPE,
        layer: Layer(0),
        group: group("239.255.1.1"),
        client_port: 3001,
    };
    // Alive a minute ago: committed, defended at once, and asked for before a client is told.
    let items = || vec![item(ipxe_boot(true, &[21]))];
    let mut host = Host::restart(items(), everywhere(&[21]), journal(Wall(1_000_000_000_000 - 60_000)));
    host.hear(Role::Query, SocketAddrV4::new(PEER, 4015), &theirs.encode(Opcode::Query));
    assert_eq!(host.echoes(), 1);
    assert!(!host.queries().iter().any(|(at, _)| *at < Time::ZERO));
    host.run_for(SETTLED);
    assert_eq!(host.states()[0].1, StateName::Held);
    let stamp = host.engine.status(host.now).claims[0].stamp;
    assert_eq!(stamp, Some(claims[0].stamp), "the same claim, not a new one");
    // Dead for long: pending again; a greater key takes the address.
    let mut host = Host::restart(items(), everywhere(&[21]), journal(Wall(1_000_000_000_000 - 301_000)));
    host.hear(Role::Query, SocketAddrV4::new(PEER, 4015), &theirs.encode(Opcode::Query));
    assert_eq!((host.echoes(), host.states()[0].1), (0, StateName::Waiting));
}

#[test]
fn junk_on_every_door_is_dropped_and_counted_by_kind() {
    let mut host = settled(true);
    let before = host.sent.len();
    let stranger = SocketAddrV4::new(PEER, 999);
    let query = host.queries()[0].1.encode(Opcode::Query);
    for role in [Role::Query, Role::Control, Role::Discovery, Role::Broadcast, Role::Tftp] {
        host.hear(role, stranger, &[]);
        host.hear(role, stranger, &[0xff; 2000]);
        host.hear(role, stranger, &query[..10]);
    }
    host.hear(
        Role::Discovery,
        SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
        &request(1, *CLIENT.ip(), US, b"iPXE"),
    );
    assert_eq!(host.sent.len(), before, "nothing is answered");
    let counters = host.engine.counters();
    for counter in [
        "dropped.query.truncated",
        "dropped.query.code",
        "dropped.control.truncated",
        "dropped.control.code",
        "dropped.discovery.truncated",
        "dropped.discovery.code",
        "dropped.discovery.source",
        "dropped.wrong_door",
    ] {
        let (place, what) = counter.rsplit_once('.').unwrap();
        assert!(counters.get(place, what) > 0, "{counter}: {:?}", counters.iter().collect::<Vec<_>>());
    }
}

#[test]
fn answers_to_nothing_asked_change_nothing() {
    let mut host = settled(true);
    let before = host.states();
    let request =
        RequestRef { boot_epoch: BootEpoch(7), serial: Serial(99), group: Some(group("239.255.1.1")) };
    let nak = Nak { request, file: name("initrd.img"), reason: NakReason::NoSuchFile };
    host.hear_control(SocketAddrV4::new(server(21), 4017), Message::Nak(nak));
    assert_eq!(host.states(), before);
    assert_eq!(host.engine.counters().get("dropped", "stale_nak"), 1);
}

#[test]
fn types_that_are_not_ours_are_met_with_silence() {
    let mut host = settled(true);
    let mut bytes = request(1, *CLIENT.ip(), Ipv4Addr::UNSPECIFIED, b"iPXE");
    let tag = bytes.len() - 4;
    bytes[tag - 2] = 0x90;
    host.hear(Role::Discovery, CLIENT, &bytes);
    assert_eq!(host.replies(), []);
    assert_eq!(host.engine.counters().get("discovery", "unmatched"), 1);
}
