//! The core of `mtftpd`, driven by a script in bytes: datagrams of BINLDs, peers and clients, raw ones, repeated ones
//! with damage; time; a store and a boot directory that answer late, or with a failure; crashes.
//!
//! After each input: every action is taken and looked at, answers are no more than were asked for, blocks without an
//! ACK no more than opens pay for, nothing is said that the store does not have, and no table outgrows its limit. At
//! the end, when all is quiet, nothing is left but references.

mod checks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Arrival, Draw, Role, Time, Wall};
use mtftp::engine::{
    Action, Change, Engine, EngineConfig, FileError, FileFacts, FileId, FileTicket, Identity, Journal,
    ReferenceRecord, RestRecord, SerialRecord, Ticket,
};
use mtftp::limits::{BLOCK_SENDS_MAX, BLOCKS_BEFORE_ACK, OACK_SENDS_MAX, QUESTIONS_MAX, SESSION_SILENCE};
use wire::configure::{Configure, Delete, DeleteForDead, Ports, Target};
use wire::control::{Envelope, Message};
use wire::policy::{Policy, SlowClients};
use wire::query::{Opcode, Query};
use wire::tftp::{ErrorCode, Mode, Options, Packet, Request, Rollover};
use wire::told::Told;
use wire::{
    BootEpoch, Content, DomainId, FileName, GroupAddr, Layer, Mac, Serial, ServerId, ServerType, Stamp,
};

use crate::boot_server::Saved;
use crate::script::{Heard, Script};
use crate::{decoders, domain};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PORTS: [u16; 2] = [1759, 1760];
/// The boot directory: names and sizes. The sizes stand at the edges of blocks and of what MTFTP carries.
const FILES: [(&str, u64); 7] = [
    ("a", 10 * 512 + 7),
    ("b", 512),
    ("empty", 0),
    ("one", 3),
    ("long", 600 * 512),
    ("most", 33_553_919),
    ("huge", 33_553_920),
];
/// Inputs of one script; a longer one says nothing new.
const INPUTS_MAX: usize = 600;
/// Calls of `on_timeout` at one instant before something is due later.
const TIMEOUTS_AT_ONCE_MAX: usize = 64;
/// When nothing happens: longer than a closing session, a rest, and the memory of a serial behind each other.
const QUIET: Duration = Duration::from_secs(1200);
/// What every claim on a test's address may be called with.
const SPANS_MS: [u64; 12] = [0, 1, 19, 25, 60, 100, 101, 999, 2_001, 11_000, 95_000, 301_000];

/// What the store has.
#[derive(Debug, Default)]
struct Rows {
    references: BTreeMap<(GroupAddr, ServerId), ReferenceRecord>,
    serials: BTreeMap<(GroupAddr, ServerId), SerialRecord>,
    rests: BTreeMap<GroupAddr, RestRecord>,
    saved: Saved,
}

impl Rows {
    fn apply(&mut self, change: Change) {
        match change {
            Change::PutReference(record) => {
                self.references.insert((record.group, record.binld), record);
            }
            Change::DeleteReference { group, binld } => {
                self.references.remove(&(group, binld));
            }
            Change::PutSerial(record) => {
                self.serials.insert((record.group, record.binld), record);
            }
            Change::DeleteSerial { group, binld } => {
                self.serials.remove(&(group, binld));
            }
            Change::PutRest(record) => {
                self.rests.insert(record.group, record);
            }
            Change::DeleteRest(group) => {
                self.rests.remove(&group);
            }
            Change::Saved(change) => self.saved.apply(change),
            Change::Alive(_) => {}
        }
    }

    fn journal(&self) -> Journal {
        Journal {
            references: self.references.values().cloned().collect(),
            serials: self.serials.values().copied().collect(),
            rests: self.rests.values().cloned().collect(),
            former: self.saved.former(),
        }
    }
}

/// A request that was given to the core: who may be answered, and for whom the answer is.
type Asked = (SocketAddrV4, BootEpoch, Serial, Option<GroupAddr>);

/// What may still go out on account of what came in.
#[derive(Debug, Default)]
struct Owed {
    answers: u64,
    echoes: u64,
    errors: u64,
    /// Blocks of multicast sessions before anybody ACKs.
    blocks: u64,
    /// Datagrams of plain transfers.
    transfers: BTreeMap<SocketAddrV4, u32>,
    /// OACKs and ERRORs of streams.
    oacks: u64,
}

#[derive(Debug)]
struct Lab {
    engine: Engine,
    epoch: u32,
    now: Time,
    rows: Rows,
    writing: VecDeque<(Ticket, Vec<Change>)>,
    opening: VecDeque<(FileTicket, FileName)>,
    open: BTreeMap<FileId, FileName>,
    last_file: u64,
    /// Store and directory answer at once.
    prompt: bool,
    owed: Owed,
    asked: BTreeMap<Asked, BTreeSet<ServerId>>,
    /// The last ACK, or the last open in a chain of them that began with one.
    heard_at: Option<Time>,
    stream_acked_at: Option<Time>,
    /// By which stream each client was answered last.
    streams: BTreeMap<SocketAddrV4, Role>,
    /// The block each client was sent last, or its group.
    sent: BTreeMap<SocketAddrV4, u64>,
    /// Datagrams and blocks of this input.
    went_out: usize,
    heard: Vec<Heard>,
    reached: Reached,
}

/// How far a script got, by counter of the core, restarts included.
pub type Reached = BTreeMap<String, u64>;

/// Plays a script.
pub fn play(bytes: &[u8]) -> Reached {
    let mut script = Script::new(bytes);
    let mut lab = Lab::new();
    for _ in 0..INPUTS_MAX {
        if script.is_over() {
            break;
        }
        lab.input(&mut script);
    }
    lab.end()
}

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).expect("a short name")
}

fn pick_file(script: &mut Script<'_>) -> FileName {
    let (there, _) = script.pick(&FILES);
    match script.below(16) {
        0 => name("absent"),
        1 => FileName::new(script.piece()).unwrap_or_else(|| name("x")),
        _ => name(there),
    }
}

/// The pinned address, two more, one that shares an Ethernet address with them, and two that carry nothing.
fn pick_group(script: &mut Script<'_>) -> GroupAddr {
    let text = script.pick(&[
        "239.255.7.1",
        "239.255.1.1",
        "239.255.7.2",
        "239.127.7.1",
        "224.0.0.5",
        "239.255.255.15",
    ]);
    text.parse().expect("a multicast address")
}

fn pick_binld(script: &mut Script<'_>) -> (ServerId, SocketAddrV4) {
    let number = script.pick(&[1_u8, 2, 3, 4]);
    (ServerId([number; 16]), SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, number), 4016))
}

/// A client: few hosts, few ports; now and then an address that nobody has.
fn pick_client(script: &mut Script<'_>) -> SocketAddrV4 {
    let byte = script.byte();
    match byte {
        0xfe => SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 7),
        0xff => SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), 0),
        _ => SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100 + byte % 4), 2000 + u16::from(byte / 4 % 16)),
    }
}

impl Lab {
    fn new() -> Self {
        let engine = Engine::new(Self::config(), Self::identity(1), Draw::from_seed(1), Time::ZERO);
        Self {
            engine,
            epoch: 1,
            now: Time::ZERO + Duration::from_secs(1),
            rows: Rows::default(),
            writing: VecDeque::new(),
            opening: VecDeque::new(),
            open: BTreeMap::new(),
            last_file: 0,
            prompt: true,
            owed: Owed::default(),
            asked: BTreeMap::new(),
            heard_at: None,
            stream_acked_at: None,
            streams: BTreeMap::new(),
            sent: BTreeMap::new(),
            went_out: 0,
            heard: Vec::new(),
            reached: Reached::new(),
        }
    }

    fn config() -> EngineConfig {
        EngineConfig { domain: DomainId::of("lab"), ..EngineConfig::default() }
    }

    fn identity(epoch: u32) -> Identity {
        Identity { server: ServerId([9; 16]), epoch: BootEpoch(epoch), address: OWN, prefix_len: 24 }
    }

    fn input(&mut self, script: &mut Script<'_>) {
        match script.below(20) {
            0 => self.raw(script),
            1 | 2 => self.configure(script),
            3 => self.delete(script),
            4 => self.query(script),
            5 | 6 => self.request(script, true),
            7 | 8 => self.ack_block(script),
            9 => self.request(script, false),
            10 | 11 => self.ack_transfer(script),
            12 => self.client_error(script),
            13 => self.again(script),
            14 => self.answer_store(script.below(4) != 3),
            15 => self.answer_open(script),
            16 => {
                let next = self.engine.next_deadline().map_or(self.now, |deadline| deadline.at);
                self.pass_to(next.max(self.now));
            }
            17 => {
                let span = Duration::from_millis(script.pick(&SPANS_MS));
                if script.coin() {
                    self.pass_to(self.now + span);
                } else {
                    // The host was suspended: one call, late.
                    self.now = self.now + span;
                    self.timeout();
                }
            }
            18 => self.prompt = script.coin(),
            // The greater bytes: scripts that were kept say little with them.
            _ => match script.byte() {
                byte if byte % 8 == 0 => self.crash(script),
                byte if byte % 8 == 1 => self.change_file(script),
                240..=255 => {
                    let hello = domain::hello(script);
                    self.control(script, hello);
                }
                180..=189 => self.told(script),
                190..=199 => self.delete_for_dead(script),
                200..=239 => {
                    let message = domain::message(script);
                    self.control(script, message);
                }
                _ => self.timeout(),
            },
        }
        self.after_input();
    }

    // --- datagrams ------------------------------------------------------------------------------------------

    fn datagram(&mut self, role: Role, from: SocketAddrV4, bytes: Vec<u8>) {
        self.expect(role, from, &bytes);
        let wall = Wall(self.now.as_nanos() / 1_000_000);
        let arrival = Arrival { role, from, to: OWN, bytes: &bytes };
        self.engine.on_datagram(self.now, wall, &arrival);
        self.heard.push(Heard { role, from, bytes });
        self.drain();
        assert!(self.went_out <= checks::DATAGRAMS_PER_DATAGRAM_MAX, "{} for one", self.went_out);
    }

    /// What this datagram entitles its sender to.
    fn expect(&mut self, role: Role, from: SocketAddrV4, bytes: &[u8]) {
        match role {
            Role::Query => self.owed.echoes += 1,
            Role::Control => {
                self.owed.answers += 1;
                let Ok(envelope) = Envelope::decode(bytes) else { return };
                let (serial, group) = match &envelope.message {
                    Message::Configure(asked) => (asked.serial, asked.group()),
                    Message::Delete(asked) => (asked.serial, Some(asked.group)),
                    _ => return,
                };
                let asked = (from, envelope.boot_epoch, serial, group);
                self.asked.entry(asked).or_default().insert(envelope.sender);
            }
            Role::Mtftp(_) => match Packet::decode(bytes) {
                Ok(Packet::Read(_)) => {
                    self.owed.blocks += u64::from(BLOCKS_BEFORE_ACK);
                    // A pass that runs away from a slow master goes on while anybody opens.
                    let lately = |at: &Time| self.now.since(*at) < SESSION_SILENCE;
                    self.heard_at = self.heard_at.filter(lately).map(|_| self.now);
                    self.owed.errors += 1;
                }
                Ok(Packet::Ack(_)) => self.heard_at = Some(self.now),
                _ => {}
            },
            Role::Tftp => {
                *self.owed.transfers.entry(from).or_default() += OACK_SENDS_MAX;
                self.owed.oacks += u64::from(QUESTIONS_MAX) + 2;
            }
            Role::Stream(_) => {
                if let Ok(Packet::Ack(_)) = Packet::decode(bytes) {
                    self.stream_acked_at = Some(self.now);
                    self.owed.oacks += u64::from(QUESTIONS_MAX) + 1;
                }
            }
            Role::Transfer => {
                if let Ok(Packet::Ack(_)) = Packet::decode(bytes) {
                    *self.owed.transfers.entry(from).or_default() += BLOCK_SENDS_MAX;
                }
            }
            Role::Domain | Role::Discovery | Role::Broadcast | Role::Igmp => {}
        }
    }

    fn raw(&mut self, script: &mut Script<'_>) {
        let roles = [
            Role::Control,
            Role::Query,
            Role::Tftp,
            Role::Transfer,
            Role::Mtftp(PORTS[0]),
            Role::Mtftp(PORTS[1]),
            Role::Discovery,
            // As long as the list that kept scripts were made with.
            Role::Domain,
        ];
        let role = script.pick(&roles);
        let from = pick_client(script);
        let bytes = script.piece().to_vec();
        self.datagram(role, from, bytes);
    }

    /// A datagram that came before comes again, perhaps from elsewhere, perhaps damaged.
    fn again(&mut self, script: &mut Script<'_>) {
        let back = script.below(8) + 1;
        let Some(heard) = self.heard.len().checked_sub(back).and_then(|at| self.heard.get(at)) else {
            return;
        };
        let Heard { role, mut from, mut bytes } = heard.clone();
        match script.below(4) {
            0 => {}
            1 => from = pick_client(script),
            _ => {
                script.damage(&mut bytes);
                let mut sealed = bytes.clone();
                if decoders::seal(&mut sealed) && script.coin() {
                    bytes = sealed;
                }
            }
        }
        self.datagram(role, from, bytes);
    }

    fn control(&mut self, script: &mut Script<'_>, message: Message) {
        let (sender, from) = pick_binld(script);
        let boot_epoch = BootEpoch(u32::from(script.byte() / 64) + 1);
        let bytes = Envelope { sender, boot_epoch, sequence: 0, message }.encode();
        self.datagram(Role::Control, from, bytes);
    }

    fn serial(script: &mut Script<'_>) -> Serial {
        match script.byte() {
            255 => Serial(u32::MAX),
            byte => Serial(u32::from(byte)),
        }
    }

    /// One in four has one; of the stamp's byte, so that kept scripts read on as they did.
    fn policy(byte: u8) -> Policy {
        if byte < 192 {
            return Policy::default();
        }
        Policy {
            slow: SlowClients::ALL[usize::from(byte % 3)],
            silences: byte / 3 % 4,
            rate_min: u32::from(byte % 8) << 16,
            start_clients: u16::from(byte % 5),
            start_within_s: u16::from(byte % 7),
        }
    }

    fn configure(&mut self, script: &mut Script<'_>) {
        let serial = Self::serial(script);
        let file = pick_file(script);
        let target = if script.below(8) == 7 {
            Target::PlainTftp
        } else {
            let group = pick_group(script);
            let ports = Ports { client: 3001, server: script.pick(&[1760, 1759, 5]) };
            let byte = script.byte();
            let stamp = Stamp { millis: u64::from(byte), sender: ServerId([1; 16]) };
            Target::Group { group, ports, stamp, policy: Self::policy(byte) }
        };
        self.control(script, Message::Configure(Configure { serial, target, file }));
    }

    fn delete(&mut self, script: &mut Script<'_>) {
        let (serial, file, group) = (Self::serial(script), pick_file(script), pick_group(script));
        self.control(script, Message::Delete(Delete { serial, group, file }));
    }

    fn delete_for_dead(&mut self, script: &mut Script<'_>) {
        let (serial, file, group) = (Self::serial(script), pick_file(script), pick_group(script));
        let (dead, _) = pick_binld(script);
        let boot_epoch = BootEpoch(u32::from(script.byte() / 64) + 1);
        self.control(script, Message::DeleteForDead(DeleteForDead { group, file, dead, boot_epoch, serial }));
    }

    fn told(&mut self, script: &mut Script<'_>) {
        let (file, group, client) = (pick_file(script), pick_group(script), *pick_client(script).ip());
        let mac = Mac([2, 0, 0, 0, 0, script.byte()]);
        self.control(script, Message::Told(Told { group, client, mac, file }));
    }

    fn query(&mut self, script: &mut Script<'_>) {
        let server = script.pick(&[Ipv4Addr::new(10, 0, 0, 8), OWN]);
        let asked = Query {
            content: Content { server, file: pick_file(script) },
            server_type: ServerType(0x8001),
            layer: Layer(0),
            group: pick_group(script),
            client_port: 3001,
        };
        let opcode = if script.below(8) == 7 { Opcode::Echo } else { Opcode::Query };
        let (_, from) = pick_binld(script);
        self.datagram(Role::Query, from, asked.encode(opcode));
    }

    /// An open of a multicast file, or a request for plain TFTP.
    fn request(&mut self, script: &mut Script<'_>, open: bool) {
        let from = pick_client(script);
        let mut file = pick_file(script).as_bytes().to_vec();
        if script.below(8) == 7 {
            file.insert(0, b'/');
        }
        let has = script.byte();
        let options = Options {
            block_size: (has & 1 != 0).then(|| script.pick(&[8, 512, 1432, 1468, 65464])),
            transfer_size: (has & 2 != 0).then_some(0),
            timeout_seconds: (has & 4 != 0).then_some(1),
            window_size: (has & 8 != 0).then_some(4),
            rollover: (has & 12 == 12).then_some(Rollover::One),
            multicast: (has & 16 != 0).then(String::new),
        };
        let mode = if has & 96 == 96 { Mode::Other } else { Mode::Octet };
        let request = Request { name: file, mode, options };
        let packet = if has & 128 != 0 { Packet::Write(request) } else { Packet::Read(request) };
        let role = if open { Role::Mtftp(script.pick(&PORTS)) } else { Role::Tftp };
        self.datagram(role, from, packet.encode());
    }

    /// The ACK of what went out last, or of something else.
    fn ack_block(&mut self, script: &mut Script<'_>) {
        let from = pick_client(script);
        let role = Role::Mtftp(script.pick(&PORTS));
        let groups = self.sent.iter().filter(|(to, _)| to.ip().is_multicast()).map(|(_, block)| *block);
        let last = self.sent.get(&from).copied().into_iter().chain(groups).max().unwrap_or(0);
        let block = self.near(script, last);
        self.datagram(role, from, Packet::Ack(block).encode());
    }

    fn ack_transfer(&mut self, script: &mut Script<'_>) {
        let from = pick_client(script);
        let last = self.sent.get(&from).copied().unwrap_or(0);
        let block = self.near(script, last);
        let role = self.streams.get(&from).copied().unwrap_or(Role::Transfer);
        self.datagram(role, from, Packet::Ack(block).encode());
    }

    fn near(&self, script: &mut Script<'_>, block: u64) -> u16 {
        let block = u16::try_from(block & 0xffff).unwrap_or(0);
        match script.below(8) {
            5 => block.wrapping_sub(1),
            6 => block.wrapping_add(1),
            7 => script.word(),
            _ => block,
        }
    }

    fn client_error(&mut self, script: &mut Script<'_>) {
        let from = pick_client(script);
        let role = script.pick(&[Role::Mtftp(PORTS[0]), Role::Mtftp(PORTS[1]), Role::Transfer, Role::Tftp]);
        let packet = Packet::Error { code: ErrorCode::OPTIONS, message: b"no" };
        self.datagram(role, from, packet.encode());
    }

    // --- store, directory, time -----------------------------------------------------------------------------

    fn answer_store(&mut self, works: bool) {
        let Some((ticket, changes)) = self.writing.pop_front() else { return };
        if works {
            changes.into_iter().for_each(|change| self.rows.apply(change));
        }
        self.engine.on_stored(self.now, ticket, if works { Ok(()) } else { Err(()) });
        self.drain();
    }

    fn answer_open(&mut self, script: &mut Script<'_>) {
        let errors = [FileError::NotFound, FileError::Denied, FileError::Busy];
        let error = (script.below(4) == 3).then(|| script.pick(&errors));
        self.opened(error);
    }

    fn opened(&mut self, error: Option<FileError>) {
        let Some((ticket, file)) = self.opening.pop_front() else { return };
        let there = FILES.iter().find(|(there, _)| there.as_bytes() == file.as_bytes());
        let result = match (there, error) {
            (_, Some(error)) => Err(error),
            (None, None) => Err(FileError::NotFound),
            (Some((_, size)), None) => {
                self.last_file += 1;
                let id = FileId(self.last_file);
                self.open.insert(id, file);
                Ok(FileFacts { id, size: *size })
            }
        };
        self.engine.on_file(self.now, ticket, result);
        self.drain();
    }

    fn change_file(&mut self, script: &mut Script<'_>) {
        let number = script.below(self.open.len().max(1));
        let Some(file) = self.open.keys().nth(number).copied() else { return };
        for owed in self.owed.transfers.values_mut() {
            *owed += 1;
        }
        self.owed.errors += self.openers();
        self.engine.on_file_changed(self.now, file);
        self.drain();
    }

    fn timeout(&mut self) {
        self.engine.on_timeout(self.now);
        self.drain();
    }

    /// Lets time pass, with every deadline on the way.
    fn pass_to(&mut self, end: Time) {
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.timeout();
            self.after_input();
        }
        self.now = end;
    }

    /// What is due now is done now, and then something later is due.
    fn after_input(&mut self) {
        for _ in 0..TIMEOUTS_AT_ONCE_MAX {
            while self.prompt && !(self.writing.is_empty() && self.opening.is_empty()) {
                self.answer_store(true);
                self.opened(None);
            }
            match self.engine.next_deadline().filter(|deadline| deadline.at <= self.now) {
                Some(_) => self.timeout(),
                None => return self.check(),
            }
        }
        let why = self.engine.next_deadline().map(|deadline| deadline.why);
        assert!(why.is_none(), "a busy loop: {why:?} at {:?}", self.now);
    }

    /// The process dies; some of what it gave to the store arrived.
    fn crash(&mut self, script: &mut Script<'_>) {
        for _ in 0..script.below(self.writing.len() + 1) {
            let (_, changes) = self.writing.pop_front().expect("one of those counted");
            changes.into_iter().for_each(|change| self.rows.apply(change));
        }
        self.writing.clear();
        self.opening.clear();
        self.open.clear();
        self.count();
        self.epoch += 1;
        self.engine = Engine::recover(
            Self::config(),
            Self::identity(self.epoch),
            Draw::from_seed(u64::from(self.epoch)),
            self.rows.journal(),
            self.now,
            Wall(self.now.as_nanos() / 1_000_000),
        );
        self.drain();
        self.check_recovered();
    }

    fn count(&mut self) {
        for (counter, value) in self.engine.counters().iter() {
            *self.reached.entry(counter).or_default() += value;
        }
    }

    /// Everybody is silent, store and directory work: sessions, transfers and rests come to their end.
    fn end(mut self) -> Reached {
        self.prompt = true;
        self.after_input();
        self.pass_to(self.now + QUIET);
        self.check_quiet();
        self.count();
        self.reached
    }

    /// Takes every action.
    fn drain(&mut self) {
        self.went_out = 0;
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send(transmit) => self.on_send(&transmit),
                Action::Blocks(blocks) => self.on_blocks(&blocks),
                Action::Persist(ticket, changes) => self.writing.push_back((ticket, changes)),
                Action::Open(ticket, file) => self.opening.push_back((ticket, file)),
                Action::Close(file) => {
                    assert!(self.open.remove(&file).is_some(), "{file:?} is closed twice");
                }
                // Nothing here gives orders.
                Action::Tell(_) | Action::Answer(..) => {}
            }
        }
    }
}
