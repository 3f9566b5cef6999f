//! A shell for tests: answers files and store at once unless told otherwise, and keeps what goes out.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Arrival, Draw, Role, Time, Transmit, Wall};
use wire::configure::{Configure, Delete, DeleteForDead, Ports, Target};
use wire::control::{Envelope, Message};
use wire::hello::{Hello, Loss};
use wire::policy::Policy;
use wire::record::{Age, Body, Holder, ServerRole};
use wire::tftp::{Mode, Options, Packet, Request};
use wire::{BootEpoch, DomainId, FileName, GroupAddr, Serial, ServerId, Stamp};

use super::*;

pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
pub(crate) const PINNED_PORT: u16 = 1759;
pub(crate) const PORT: u16 = 1760;

pub(crate) fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

pub(crate) fn group(last: u8) -> GroupAddr {
    GroupAddr::new(Ipv4Addr::new(239, 255, 7, last)).unwrap()
}

pub(crate) fn pinned() -> GroupAddr {
    EngineConfig::default().pinned_group
}

pub(crate) fn client(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100 + n), 20_000 + u16::from(n))
}

pub(crate) fn binld(n: u8) -> (ServerId, SocketAddrV4) {
    (ServerId([n; 16]), SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, n), 4016))
}

/// See [`Bench::told_of_references`].
pub(crate) type ToldReference = (GroupAddr, Option<Vec<(u8, u32, bool)>>);

pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) now: Time,
    pub(crate) files: BTreeMap<String, u64>,
    /// What went out since last asked.
    pub(crate) sent: Vec<Transmit>,
    /// What the domain was told by multicast.
    pub(crate) told: Vec<Message>,
    pub(crate) blocks: Vec<Blocks>,
    pub(crate) events: Vec<Event>,
    pub(crate) changes: Vec<Change>,
    pub(crate) open: BTreeMap<FileId, String>,
    /// What the store has not answered yet, when it is slow.
    pub(crate) unstored: VecDeque<(Ticket, Vec<Change>)>,
    /// What operators were told.
    pub(crate) answers: Vec<(Order, Forgotten)>,
    pub(crate) slow_store: bool,
    /// What configures say of slow clients and of the start.
    pub(crate) policy: Policy,
    files_opened: u64,
}

pub(crate) fn identity() -> Identity {
    Identity { server: ServerId([9; 16]), epoch: BootEpoch(77), address: OWN, prefix_len: 24 }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Engine::new(EngineConfig::default(), identity(), Draw::from_seed(1), Time::ZERO))
    }

    pub(crate) fn with(engine: Engine) -> Self {
        let files = [("a", 10 * 512 + 7), ("b", 512), ("one", 3), ("huge", 33_553_920), ("most", 33_553_919)];
        let mut bench = Self {
            engine,
            now: Time::ZERO + Duration::from_secs(1),
            files: files.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect(),
            sent: Vec::new(),
            told: Vec::new(),
            blocks: Vec::new(),
            events: Vec::new(),
            changes: Vec::new(),
            open: BTreeMap::new(),
            unstored: VecDeque::new(),
            answers: Vec::new(),
            slow_store: false,
            policy: Policy::default(),
            files_opened: 0,
        };
        bench.drain();
        bench
    }

    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send(transmit) if transmit.to == self.engine.config().domain_group => {
                    assert_eq!(transmit.role, Role::Control);
                    self.told.push(Envelope::decode(&transmit.bytes).unwrap().message);
                }
                Action::Send(transmit) => self.sent.push(transmit),
                Action::Blocks(blocks) => self.blocks.push(blocks),
                Action::Tell(event) => self.events.push(event),
                Action::Answer(order, outcome) => self.answers.push((order, outcome)),
                Action::Close(file) => {
                    assert!(self.open.remove(&file).is_some(), "a file is closed once");
                }
                // Nobody waits for it, and nothing is answered from it.
                Action::Persist(ticket, changes)
                    if changes.iter().all(|it| matches!(it, Change::Saved(_) | Change::Alive(_))) =>
                {
                    self.engine.on_stored(self.now, ticket, Ok(()));
                }
                Action::Persist(ticket, changes) => {
                    self.changes.extend(changes.iter().cloned());
                    if self.slow_store {
                        self.unstored.push_back((ticket, changes));
                    } else {
                        self.engine.on_stored(self.now, ticket, Ok(()));
                    }
                }
                Action::Open(ticket, file) => {
                    let text = String::from_utf8_lossy(file.as_bytes()).into_owned();
                    let result = match self.files.get(&text) {
                        Some(&size) => {
                            self.files_opened += 1;
                            let id = FileId(self.files_opened);
                            self.open.insert(id, text);
                            Ok(FileFacts { id, size })
                        }
                        None => Err(FileError::NotFound),
                    };
                    self.engine.on_file(self.now, ticket, result);
                }
            }
        }
    }

    pub(crate) fn stored(&mut self, result: Result<(), ()>) {
        for (ticket, _) in std::mem::take(&mut self.unstored) {
            self.engine.on_stored(self.now, ticket, result);
        }
        self.drain();
    }

    pub(crate) fn datagram(&mut self, role: Role, from: SocketAddrV4, bytes: &[u8]) {
        let wall = Wall(self.now.as_nanos() / 1_000_000);
        self.engine.on_datagram(self.now, wall, &Arrival { role, from, to: OWN, bytes });
        self.drain();
    }

    /// Lets time pass, with every deadline on the way.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0;
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.engine.on_timeout(self.now);
            self.drain();
            steps += 1;
            assert!(steps < 100_000, "livelock: {}", deadline.why);
        }
        self.now = end;
        self.engine.on_timeout(end);
        self.drain();
    }

    pub(crate) fn ms(&mut self, millis: u64) {
        self.pass(Duration::from_millis(millis));
    }

    pub(crate) fn take_blocks(&mut self) -> Vec<(u64, SocketAddrV4)> {
        let each = |blocks: Blocks| {
            (0..u64::from(blocks.count)).map(move |more| (blocks.first_block + more, blocks.to))
        };
        std::mem::take(&mut self.blocks).into_iter().flat_map(each).collect()
    }

    /// What of the blocks that went out since last asked went to one client: first block and count of each action.
    pub(crate) fn take_spans(&mut self, to: SocketAddrV4) -> Vec<(u64, u16)> {
        let blocks = std::mem::take(&mut self.blocks);
        assert!(blocks.iter().all(|blocks| blocks.to == to), "{blocks:?}");
        blocks.into_iter().map(|blocks| (blocks.first_block, blocks.count)).collect()
    }

    // --- control --------------------------------------------------------------------------------------------

    fn control(&mut self, n: u8, epoch: u32, message: Message) -> Option<Message> {
        let (sender, from) = binld(n);
        let envelope = Envelope { sender, boot_epoch: BootEpoch(epoch), sequence: 0, message };
        self.sent.clear();
        self.datagram(Role::Control, from, &envelope.encode());
        self.answer_to(from)
    }

    pub(crate) fn answer_to(&mut self, to: SocketAddrV4) -> Option<Message> {
        let sent = std::mem::take(&mut self.sent);
        assert!(sent.len() <= 1, "one answer at most: {sent:?}");
        let transmit = sent.into_iter().next()?;
        assert_eq!((transmit.role, transmit.to), (Role::Control, to));
        Some(Envelope::decode(&transmit.bytes).unwrap().message)
    }

    pub(crate) fn configure(&mut self, n: u8, serial: u32, group: GroupAddr, file: &str) -> Option<Message> {
        let ports = Ports { client: 3001, server: PORT };
        self.configure_on(n, (1, serial), group, file, ports)
    }

    pub(crate) fn configure_on(
        &mut self,
        n: u8,
        (epoch, serial): (u32, u32),
        group: GroupAddr,
        file: &str,
        ports: Ports,
    ) -> Option<Message> {
        let stamp = Stamp { millis: 5, sender: binld(n).0 };
        let target = Target::Group { group, ports, stamp, policy: self.policy };
        let message = Message::Configure(Configure { serial: Serial(serial), target, file: name(file) });
        self.control(n, epoch, message)
    }

    pub(crate) fn probe(&mut self, n: u8, file: &str) -> Option<Message> {
        let message = Configure {
            serial: Serial(900),
            target: Target::PlainTftp,
            file: FileName::new(file.as_bytes()).unwrap(),
        };
        self.control(n, 1, Message::Configure(message))
    }

    pub(crate) fn delete(&mut self, n: u8, serial: u32, group: GroupAddr, file: &str) -> Option<Message> {
        let message = Message::Delete(Delete { serial: Serial(serial), group, file: name(file) });
        self.control(n, 1, message)
    }

    /// Server `n` says hello.
    pub(crate) fn hello(&mut self, n: u8, role: ServerRole) {
        let (sender, from) = binld(n);
        let (loss, domain) = (Loss::NONE, DomainId::of("pxe"));
        let hello = Hello { count: 1, loss, deaf: false, role, domain, lowest: sender, digest: 0 };
        let message = Message::Hello(hello);
        let envelope = Envelope { sender, boot_epoch: BootEpoch(1), sequence: 0, message };
        self.datagram(Role::Domain, from, &envelope.encode());
        self.sent.clear();
    }

    pub(crate) fn delete_for_dead(&mut self, n: u8, what: DeleteForDead) -> Option<Message> {
        self.control(n, 1, Message::DeleteForDead(what))
    }

    /// What the domain was told of references since last asked, in order: of each record the address and its holders
    /// with serial and whether stale; `None` if it was deleted.
    pub(crate) fn told_of_references(&mut self) -> Vec<ToldReference> {
        let floods = std::mem::take(&mut self.told).into_iter().filter_map(|message| {
            let Message::Flood(flood) = message else { return None };
            Some(flood.records)
        });
        let told = floods.flatten().filter_map(|record| {
            let Body::Reference(reference) = record.body else { return None };
            assert_eq!(reference.content.server, OWN);
            let holder = |it: &Holder| (it.binld.0[0], it.serial.0, it.stale);
            let holders = reference.holders.iter().map(holder).collect();
            Some((reference.group, (record.age != Age::DELETED).then_some(holders)))
        });
        told.collect()
    }

    pub(crate) fn forget(&mut self, n: u8, group: GroupAddr, force: bool) -> Option<Forgotten> {
        let wall = Wall(self.now.as_nanos() / 1_000_000);
        self.engine.on_forget(self.now, wall, Order(7), (group, binld(n).0), force);
        self.drain();
        let mut answers = std::mem::take(&mut self.answers);
        assert!(answers.len() <= 1 && answers.iter().all(|(order, _)| *order == Order(7)), "{answers:?}");
        answers.pop().map(|(_, outcome)| outcome)
    }

    // --- clients --------------------------------------------------------------------------------------------

    pub(crate) fn request(name: &str, options: Options) -> Vec<u8> {
        Packet::Read(Request { name: name.as_bytes().to_vec(), mode: Mode::Octet, options }).encode()
    }

    pub(crate) fn open(&mut self, port: u16, from: SocketAddrV4, name: &str) {
        self.datagram(Role::Mtftp(port), from, &Self::request(name, Options::default()));
    }

    pub(crate) fn ack(&mut self, role: Role, from: SocketAddrV4, block: u16) {
        self.datagram(role, from, &Packet::Ack(block).encode());
    }

    pub(crate) fn counter(&self, place: &'static str, what: &'static str) -> u64 {
        self.engine.counters().get(place, what)
    }
}
