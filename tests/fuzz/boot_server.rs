//! The core of `binld`, driven by a script in bytes: clients, peers that query, echo, state and stand for election, MTFTP
//! servers that acknowledge, refuse, supersede or say nothing, raw datagrams, repeated ones with damage; time, both
//! clocks; a store that answers late or fails; reloads and crashes.
//!
//! After each input: every action is taken and looked at, answers to clients are no more than their requests, none names
//! an address or a server without an ACK (I5), nothing is held that the store does not have, and no table outgrows its
//! limit. At the end, when all is quiet, nobody waits.

mod checks;
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use binld::engine::loans::LoanRecord;
use binld::engine::{
    Action, Change, ClaimRecord, Engine, Former, Identity, Journal, Listened, SavedChange, SavedClaim,
    SavedMember, StoredRoll, Ticket,
};
use driver::{Arrival, Draw, Role, Time, Wall};
use wire::configure::{Ack, Nak, NakReason, Superseded};
use wire::control::{Envelope, Message};
use wire::hold::{Hold, HoldState};
use wire::query::{Opcode, Query};
use wire::{BootEpoch, Content, GroupAddr, Layer, Serial, ServerId, ServerType, Stamp};

use crate::script::{Heard, Script};
use crate::{decoders, domain};
use world::{catalog, config, pick_content, pick_source, request};

/// Inputs of one script; a longer one says nothing new.
const INPUTS_MAX: usize = 600;
/// Calls of `on_timeout` at one instant before something is due later.
const TIMEOUTS_AT_ONCE_MAX: usize = 256;
/// Store and servers answer at once so often behind one input; more is a dialogue without end.
const PROMPT_ANSWERS_MAX: usize = 1000;
/// When nothing happens: longer than a client's patience and any retry.
const QUIET: Duration = Duration::from_secs(130);
const SPANS_MS: [u64; 12] = [0, 1, 21, 101, 200, 501, 1_001, 2_501, 5_001, 31_000, 61_000, 301_000];
/// The wall clock at the first start, in ms since 1970.
const WALL: u64 = 1_700_000_000_000;

/// What others tell: as many claims as records are kept, and as many sources; what ends is forgotten a moment later.
const SAVED_MAX: usize = 65_536;
const LEGACY_MAX: usize = 256;

/// What the store has.
#[derive(Debug, Default)]
struct Rows {
    claims: BTreeMap<GroupAddr, ClaimRecord>,
    marks: BTreeMap<GroupAddr, Wall>,
    rests: BTreeMap<GroupAddr, (Content, Stamp)>,
    roll: StoredRoll,
    loans: BTreeMap<GroupAddr, LoanRecord>,
    alive: Wall,
    saved: Saved,
    legacy: BTreeMap<Ipv4Addr, Wall>,
    listened: Option<Listened>,
}

/// What other members told, as a store keeps it.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    claims: BTreeMap<(ServerId, u64), SavedClaim>,
    members: BTreeMap<ServerId, SavedMember>,
}

impl Saved {
    pub(crate) fn apply(&mut self, change: SavedChange) {
        match change {
            SavedChange::PutClaim(entry) => {
                self.claims.insert((entry.owner, entry.number), *entry);
            }
            SavedChange::DropClaim(owner, number) => {
                let was_there = self.claims.remove(&(owner, number)).is_some();
                assert!(was_there, "only what was saved is forgotten");
            }
            SavedChange::PutMember(entry) => {
                self.members.insert(entry.server, entry);
            }
            SavedChange::DropMember(server) => {
                self.members.remove(&server);
            }
        }
        assert!(self.claims.len() <= 2 * SAVED_MAX, "entries are bounded as records are");
    }

    pub(crate) fn former(&self) -> Former {
        Former {
            claims: self.claims.values().cloned().collect(),
            members: self.members.values().copied().collect(),
        }
    }
}

impl Rows {
    fn apply(&mut self, change: Change) {
        match change {
            Change::PutClaim(record) => {
                self.claims.insert(record.at.group, record);
            }
            Change::DropClaim(group) => {
                self.claims.remove(&group);
            }
            Change::PutMark(group, until, _) => {
                self.marks.insert(group, until);
            }
            Change::PutRest(group, content, stamp, _) => {
                self.rests.insert(group, (content, stamp));
            }
            Change::DropRest(group) => {
                self.rests.remove(&group);
            }
            Change::SetRoll(stored) => self.roll = stored,
            Change::PutLoan(loan) => {
                self.loans.insert(loan.group, loan);
            }
            Change::DropLoan(group) => {
                self.loans.remove(&group);
            }
            Change::Alive(wall) => self.alive = wall,
            Change::Saved(change) => self.saved.apply(change),
            Change::PutLegacy(source, heard) => {
                self.legacy.insert(source, heard);
                assert!(self.legacy.len() <= 2 * LEGACY_MAX, "sources are bounded");
            }
            Change::DropLegacy(source) => {
                self.legacy.remove(&source);
            }
            Change::Listened(listened) => self.listened = Some(listened),
        }
    }

    fn journal(&self) -> Journal {
        Journal {
            claims: self.claims.values().cloned().collect(),
            marks: self.marks.iter().map(|(group, until)| (*group, *until)).collect(),
            rests: self
                .rests
                .iter()
                .map(|(group, (content, stamp))| (*group, content.clone(), *stamp))
                .collect(),
            roll: self.roll.clone(),
            loans: self.loans.values().cloned().collect(),
            last_alive: self.alive,
            former: self.saved.former(),
            legacy: self.legacy.iter().map(|(source, heard)| (*source, *heard)).collect(),
            listened: self.listened,
            host_boot: [0; 16],
        }
    }
}

#[derive(Debug)]
struct Lab {
    engine: Engine,
    epoch: u32,
    catalog: usize,
    now: Time,
    /// The wall clock less the time.
    wall: u64,
    rows: Rows,
    writing: VecDeque<(Ticket, Vec<Change>)>,
    /// Requests to MTFTP servers, as they went out.
    requests: Vec<(SocketAddrV4, Envelope)>,
    /// Those that a prompt server has not answered yet.
    unanswered: VecDeque<(SocketAddrV4, Envelope)>,
    /// Queries of ours, to be echoed.
    queries: Vec<Query>,
    prompt_store: bool,
    prompt_servers: bool,
    /// Answers that clients may get.
    replies_owed: u64,
    echoes_owed: u64,
    /// When a server's ACK for a file last came, in this life.
    files: BTreeMap<Content, Time>,
    /// The same for a file on an address.
    groups: BTreeMap<(Content, GroupAddr), Time>,
    /// Datagrams of this input to one host.
    went_to: BTreeMap<Ipv4Addr, usize>,
    heard: Vec<Heard>,
    reached: Reached,
}

/// How far a script got, by counter of the core, restarts included.
pub type Reached = BTreeMap<String, u64>;

/// Plays a script.
pub fn play(bytes: &[u8]) -> Reached {
    let mut script = Script::new(bytes);
    let mut lab = Lab::new(script.below(world::CATALOGS));
    lab.drain();
    lab.after_input();
    for _ in 0..INPUTS_MAX {
        if script.is_over() {
            break;
        }
        lab.input(&mut script);
    }
    lab.end()
}

impl Lab {
    fn new(catalog: usize) -> Self {
        let now = Time::ZERO + Duration::from_secs(1);
        let engine = Engine::recover(
            config(catalog),
            Self::identity(1),
            Draw::from_seed(1),
            Journal::default(),
            now,
            Wall(WALL),
        );
        Self {
            engine,
            epoch: 1,
            catalog,
            now,
            wall: WALL,
            rows: Rows::default(),
            writing: VecDeque::new(),
            requests: Vec::new(),
            unanswered: VecDeque::new(),
            queries: Vec::new(),
            prompt_store: true,
            prompt_servers: true,
            replies_owed: 0,
            echoes_owed: 0,
            files: BTreeMap::new(),
            groups: BTreeMap::new(),
            went_to: BTreeMap::new(),
            heard: Vec::new(),
            reached: Reached::new(),
        }
    }

    fn identity(epoch: u32) -> Identity {
        Identity { server: ServerId([1; 16]), boot_epoch: BootEpoch(epoch) }
    }

    fn wall(&self) -> Wall {
        Wall(self.wall.saturating_add(self.now.as_nanos() / 1_000_000))
    }

    fn input(&mut self, script: &mut Script<'_>) {
        match script.below(20) {
            0 => self.raw(script),
            1 | 2 => {
                let (role, from, bytes) = request(script);
                self.datagram(role, from, bytes);
            }
            3 | 4 => self.query(script),
            5 | 6 => self.echo(script),
            7 => self.hold(script),
            8..=10 => self.answer(script),
            11 => self.again(script),
            12 => self.answer_store(script.below(4) != 3),
            13 => {
                let next = self.engine.next_deadline().map_or(self.now, |deadline| deadline.at);
                self.pass_to(next.max(self.now));
            }
            14 | 15 => {
                let span = Duration::from_millis(script.pick(&SPANS_MS));
                if script.below(4) != 3 {
                    self.pass_to(self.now + span);
                } else {
                    // The host was suspended: one call, late.
                    self.now = self.now + span;
                    self.timeout();
                }
            }
            16 => self.prompt_store = script.coin(),
            17 => self.prompt_servers = script.coin(),
            18 => {
                self.catalog = script.below(world::CATALOGS);
                self.went_to.clear();
                self.engine.on_reload(self.now, catalog(self.catalog));
                self.drain();
            }
            _ => match script.below(16) {
                0 | 8 => self.crash(script),
                1 | 9 => {
                    self.wall = script.pick(&[WALL, WALL + 400_000, WALL - 400_000, 0, WALL * 2]);
                    self.engine.on_wall(self.now, self.wall());
                }
                2 | 10 => {
                    let hello = domain::hello(script);
                    let from = pick_source(script);
                    self.control(script, from, hello);
                }
                3 | 11 => {
                    let message = domain::message(script);
                    let from = pick_source(script);
                    self.control(script, from, message);
                }
                // No script that was kept before there was an election has this.
                4 => {
                    let message = domain::election(script);
                    let from = pick_source(script);
                    self.control(script, from, message);
                }
                _ => self.timeout(),
            },
        }
        self.after_input();
    }

    // --- datagrams ------------------------------------------------------------------------------------------

    fn datagram(&mut self, role: Role, from: SocketAddrV4, bytes: Vec<u8>) {
        self.went_to.clear();
        match role {
            Role::Discovery | Role::Broadcast => self.replies_owed += 1,
            // A rest and a claim may both be defended.
            Role::Query => self.echoes_owed += 2,
            Role::Control => self.note_ack(from, &bytes),
            Role::Domain | Role::Tftp | Role::Transfer | Role::Mtftp(_) | Role::Stream(_) | Role::Igmp => {}
        }
        let to = world::US;
        self.engine.on_datagram(self.now, &Arrival { role, from, to, bytes: &bytes });
        self.heard.push(Heard { role, from, bytes });
        self.drain();
        self.check_amplification(*from.ip());
    }

    /// An ACK that reaches the core proves what it says, whether or not the core believes it.
    fn note_ack(&mut self, from: SocketAddrV4, bytes: &[u8]) {
        let Ok(Envelope { message: Message::Ack(ack), .. }) = Envelope::decode(bytes) else { return };
        let content = Content { server: *from.ip(), file: ack.file };
        if let Some(group) = ack.request.group {
            self.groups.insert((content.clone(), group), self.now);
        }
        self.files.insert(content, self.now);
    }

    fn raw(&mut self, script: &mut Script<'_>) {
        let roles = [Role::Discovery, Role::Query, Role::Control, Role::Broadcast, Role::Tftp];
        let role = script.pick(&roles);
        let from = pick_source(script);
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
            1 => from = pick_source(script),
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

    fn control(&mut self, script: &mut Script<'_>, from: SocketAddrV4, message: Message) {
        let number = script.pick(&[2_u8, 3, 9, 1]);
        let boot_epoch = BootEpoch(u32::from(script.byte() / 64) + 1);
        let sequence = u64::from(script.byte());
        let envelope = Envelope { sender: ServerId([number; 16]), boot_epoch, sequence, message };
        self.datagram(Role::Control, SocketAddrV4::new(*from.ip(), 4016), envelope.encode());
    }

    /// An address that the core has something to do with, or another.
    fn pick_group(&self, script: &mut Script<'_>) -> GroupAddr {
        let status = self.engine.status(self.now);
        let mut groups: Vec<GroupAddr> = status.claims.iter().filter_map(|claim| claim.group).collect();
        groups.extend(status.rests.iter().map(|rest| rest.0));
        groups.extend(self.queries.iter().rev().take(2).map(|query| query.group));
        groups
            .extend(world::GROUPS.iter().map(|text| text.parse::<GroupAddr>().expect("a multicast address")));
        script.pick(&groups)
    }

    fn query(&mut self, script: &mut Script<'_>) {
        let query = Query {
            content: pick_content(script),
            server_type: ServerType(0x8001),
            layer: Layer(0),
            group: self.pick_group(script),
            client_port: 3001,
        };
        let from = pick_source(script);
        self.datagram(Role::Query, from, query.encode(Opcode::Query));
    }

    /// One of our own queries comes back.
    fn echo(&mut self, script: &mut Script<'_>) {
        let back = script.below(8) + 1;
        let Some(query) = self.queries.len().checked_sub(back).and_then(|at| self.queries.get(at)) else {
            return;
        };
        let mut query = query.clone();
        match script.below(8) {
            6 => query.content = pick_content(script),
            7 => query.client_port = script.word(),
            _ => {}
        }
        let from = pick_source(script);
        let opcode = if script.below(8) == 7 { Opcode::Query } else { Opcode::Echo };
        self.datagram(Role::Query, from, query.encode(opcode));
    }

    fn hold(&mut self, script: &mut Script<'_>) {
        let flags = script.byte();
        let hold = Hold {
            group: self.pick_group(script),
            content: pick_content(script),
            stamp: Stamp {
                millis: script.pick(&[WALL, 0, WALL + 2_000, WALL + 10_000_000, u64::MAX]),
                sender: ServerId([script.pick(&[2_u8, 0, 255]); 16]),
            },
            state: script.pick(&[HoldState::Committed, HoldState::Draining, HoldState::Resting]),
            in_use: flags & 1 != 0,
            is_answer: flags & 2 != 0,
            nonce: u64::from(flags / 4),
        };
        let from = pick_source(script);
        self.control(script, from, Message::Hold(hold));
    }

    /// A server's answer to a request of ours, or what looks like one.
    fn answer(&mut self, script: &mut Script<'_>) {
        let back = script.below(16) + 1;
        let Some(asked) = self.requests.len().checked_sub(back).and_then(|at| self.requests.get(at)) else {
            return;
        };
        let (mut from, asked) = asked.clone();
        let how = script.byte();
        let (request, file, ports) = world::asked(&asked);
        let message = match how % 8 {
            0..=3 => {
                let ports = if how & 8 == 0 { ports } else { script.pick(&world::PORTS) };
                Message::Ack(Ack { request, ports, file_size: 4096, file })
            }
            4 if how & 8 != 0 && request.group.is_some() => {
                let reason = NakReason::TooLarge { size: 4097 + u64::from(how), size_max: 4096 };
                Message::Nak(Nak { request, file, reason })
            }
            4 => Message::Nak(Nak { request, file, reason: NakReason::NoSuchFile }),
            5 if request.group.is_some() => {
                let there = if how & 8 == 0 { file.clone() } else { world::name("elsewhere") };
                let ports = script.pick(&world::PORTS);
                Message::Nak(Nak { request, file, reason: NakReason::InUse { ports, file: there } })
            }
            5 | 6 => {
                let known = script.pick(&[0_u32, 1, 7, 1000]);
                let (known_epoch, known_serial) = (BootEpoch(known / 500 + self.epoch), Serial(known));
                Message::Superseded(Superseded { request, known_epoch, known_serial })
            }
            _ => {
                from = pick_source(script);
                Message::Ack(Ack { request, ports, file_size: 1, file: pick_content(script).file })
            }
        };
        self.server_says(from, message);
    }

    fn server_says(&mut self, from: SocketAddrV4, message: Message) {
        let envelope = Envelope { sender: ServerId([9; 16]), boot_epoch: BootEpoch(5), sequence: 1, message };
        self.datagram(Role::Control, from, envelope.encode());
    }

    // --- store, time ----------------------------------------------------------------------------------------

    fn answer_store(&mut self, works: bool) {
        let Some((ticket, changes)) = self.writing.pop_front() else { return };
        if works {
            changes.into_iter().for_each(|change| self.rows.apply(change));
        }
        self.engine.on_stored(self.now, ticket, works);
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
        let mut answers = 0;
        for _ in 0..TIMEOUTS_AT_ONCE_MAX {
            loop {
                if self.prompt_store && !self.writing.is_empty() {
                    self.answer_store(true);
                } else if let Some((from, asked)) = self.unanswered.pop_front() {
                    let (request, file, ports) = world::asked(&asked);
                    self.server_says(from, Message::Ack(Ack { request, ports, file_size: 4096, file }));
                } else {
                    break;
                }
                answers += 1;
                assert!(answers < PROMPT_ANSWERS_MAX, "a dialogue without end");
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
        if script.coin() {
            self.engine.on_stop(self.now);
            self.drain();
        }
        for _ in 0..script.below(self.writing.len() + 1) {
            let (_, changes) = self.writing.pop_front().expect("one of those counted");
            changes.into_iter().for_each(|change| self.rows.apply(change));
        }
        self.writing.clear();
        self.unanswered.clear();
        self.files.clear();
        self.groups.clear();
        self.count();
        self.epoch += 1;
        self.now = self.now + Duration::from_millis(script.pick(&SPANS_MS));
        self.engine = Engine::recover(
            config(self.catalog),
            Self::identity(self.epoch),
            Draw::from_seed(u64::from(self.epoch)),
            self.rows.journal(),
            self.now,
            self.wall(),
        );
        self.drain();
        self.check_recovered();
    }

    fn count(&mut self) {
        for (counter, value) in self.engine.counters().iter() {
            *self.reached.entry(counter).or_default() += value;
        }
    }

    /// Everybody is silent, store and servers work: whoever waits is answered, or not, in time.
    fn end(mut self) -> Reached {
        (self.prompt_store, self.prompt_servers) = (true, true);
        self.after_input();
        self.pass_to(self.now + QUIET);
        self.check_quiet();
        self.count();
        self.reached
    }

    /// Takes every action.
    fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send(transmit) => self.on_send(&transmit),
                Action::Persist(ticket, changes) => self.writing.push_back((ticket, changes)),
                Action::Tell(_) => {}
            }
        }
    }
}
