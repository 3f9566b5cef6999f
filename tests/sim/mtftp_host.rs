//! An MTFTP server on a host: the core, its store, its boot directory.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use db::{Kind, Rows, Store};
use driver::{Arrival, Deadline, Draw, Role, Time, Transmit, Wall};
use mtftp::engine::{
    Action, Blocks, Change, Engine, EngineConfig, FileError, FileFacts, FileId, FileTicket, Forgotten,
    Identity, Order, Status, Ticket,
};
use mtftp::rows::{journal, row};
use peers::domain::Domain;
use wire::tftp::data_header;
use wire::{Content, DomainId, FileName, GroupAddr, ServerId};

use crate::program::{Alarm, Door, Effect, Program, Standing};

#[derive(Debug)]
struct Writing {
    ticket: Ticket,
    changes: Vec<Change>,
}

/// The MTFTP server.
#[derive(Debug)]
pub struct MtftpHost {
    address: Ipv4Addr,
    server: ServerId,
    config: EngineConfig,
    /// The boot directory.
    pub files: BTreeMap<FileName, Vec<u8>>,
    engine: Option<Engine>,
    store: Store,
    writing: VecDeque<Writing>,
    opening: VecDeque<(FileTicket, FileName)>,
    open: BTreeMap<FileId, FileName>,
    last_file: u64,
    wall: Wall,
    /// Of the last input.
    now: Time,
    /// What operators were told.
    pub forgotten: Vec<Forgotten>,
}

impl MtftpHost {
    /// One that has not started yet and whose store is empty.
    ///
    /// # Panics
    /// If the store cannot be made.
    #[must_use]
    pub fn new(
        address: Ipv4Addr,
        server: ServerId,
        config: EngineConfig,
        files: BTreeMap<FileName, Vec<u8>>,
    ) -> Self {
        Self {
            address,
            server,
            config,
            files,
            engine: None,
            store: Store::in_memory(Kind::Mtftpd).expect("a store in memory"),
            writing: VecDeque::new(),
            opening: VecDeque::new(),
            open: BTreeMap::new(),
            last_file: 0,
            wall: Wall(0),
            now: Time::ZERO,
            forgotten: Vec::new(),
        }
    }

    /// The core; `None` while the process is dead.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// The core's picture of itself.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.engine.as_ref().map(Engine::status)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// An operator's order.
    pub fn forget(&mut self, now: Time, what: (GroupAddr, ServerId), force: bool) {
        if let Some(engine) = &mut self.engine {
            engine.on_forget(now, self.wall, Order(0), what, force);
        }
    }

    /// What survives.
    ///
    /// # Panics
    /// If the store cannot be read.
    #[must_use]
    pub fn rows(&self) -> Rows {
        self.store.load().expect("the store is read")
    }

    /// Whether the store has that BINLD's reference.
    ///
    /// # Panics
    /// If the store cannot be read.
    #[must_use]
    pub fn has_reference(&self, group: GroupAddr, binld: ServerId, file: &FileName) -> bool {
        let rows = self.rows();
        rows.references.iter().any(|row| (row.group, row.binld) == (group, binld) && row.file == *file)
    }

    fn write(&mut self, writing: Writing) {
        let changes: Vec<db::Change> = writing.changes.into_iter().map(row).collect();
        self.store.apply(&changes).expect("a store in memory takes what the core gives it");
    }

    /// Files that are open; none is leaked if this is as many as there are sessions and transfers.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.open.len()
    }

    fn packets(&self, blocks: &Blocks) -> Vec<Effect> {
        let Some(bytes) = self.open.get(&blocks.file).and_then(|name| self.files.get(name)) else {
            return Vec::new();
        };
        let size = usize::from(blocks.block_size);
        (blocks.first_block..blocks.first_block + u64::from(blocks.count))
            .map(|block| {
                let at = usize::try_from(block.saturating_sub(1)).unwrap_or(usize::MAX).saturating_mul(size);
                let mut packet = data_header(blocks.rollover.number(block)).to_vec();
                packet.extend(bytes.iter().skip(at).take(size));
                Effect::Send(Transmit { role: blocks.role, to: blocks.to, bytes: packet })
            })
            .collect()
    }
}

impl Program for MtftpHost {
    fn start(&mut self, now: Time, wall: Wall, draw: Draw) {
        (self.wall, self.now) = (wall, now);
        let boot = self.store.boot(wall.0, self.server).expect("the store begins a boot epoch");
        let identity =
            Identity { server: boot.server, epoch: boot.epoch, address: self.address, prefix_len: 16 };
        let journal = journal(self.store.load().expect("the store is read"));
        self.engine = Some(Engine::recover(self.config.clone(), identity, draw, journal, now, wall));
    }

    fn crash(&mut self, draw: &mut Draw) {
        self.engine = None;
        for _ in 0..draw.below(self.writing.len() as u64 + 1) {
            if let Some(writing) = self.writing.pop_front() {
                self.write(writing);
            }
        }
        self.writing.clear();
        self.opening.clear();
        self.open.clear();
    }

    fn doors(&self) -> Vec<Door> {
        let mut doors = vec![
            Door::unicast(Role::Control, 4017),
            Door::unicast(Role::Query, 4015).and_group(self.config.query_group.ip()).groups_only(),
            Door::unicast(Role::Domain, self.config.domain_group.port())
                .and_group(*self.config.domain_group.ip())
                .groups_only(),
            Door::unicast(Role::Tftp, 69),
            Door::unicast(Role::Transfer, 6969),
        ];
        let ports = [&[self.config.pinned_server_port], self.config.server_ports.as_slice()].concat();
        doors.extend(ports.into_iter().map(|port| Door::unicast(Role::Mtftp(port), port)));
        doors.extend(
            (0..self.config.streams).map(|number| Door::unicast(Role::Stream(number), 7000 + number)),
        );
        doors
    }

    fn doors_stay(&self) -> bool {
        true
    }

    fn lose_store(&mut self, fresh: ServerId) {
        self.store = Store::in_memory(Kind::Mtftpd).expect("a store in memory");
        self.server = fresh;
    }

    fn on_datagram(&mut self, now: Time, wall: Wall, arrival: &Arrival<'_>) {
        (self.wall, self.now) = (wall, now);
        if let Some(engine) = &mut self.engine {
            engine.on_datagram(now, wall, arrival);
        }
    }

    fn on_timeout(&mut self, now: Time) {
        self.now = now;
        if let Some(engine) = &mut self.engine {
            engine.on_timeout(now);
        }
    }

    fn on_stored(&mut self, now: Time, works: bool) {
        self.now = now;
        let Some(writing) = self.writing.pop_front() else { return };
        let ticket = writing.ticket;
        if works {
            self.write(writing);
        }
        if let Some(engine) = &mut self.engine {
            engine.on_stored(now, ticket, if works { Ok(()) } else { Err(()) });
        }
    }

    fn on_opened(&mut self, now: Time) {
        let (Some((ticket, name)), Some(engine)) = (self.opening.pop_front(), &mut self.engine) else {
            return;
        };
        let result = match self.files.get(&name) {
            Some(bytes) => {
                self.last_file += 1;
                let id = FileId(self.last_file);
                self.open.insert(id, name);
                Ok(FileFacts { id, size: bytes.len() as u64 })
            }
            None => Err(FileError::NotFound),
        };
        engine.on_file(now, ticket, result);
    }

    fn drain(&mut self, tells: bool) -> Vec<Effect> {
        let (mut effects, mut noted) = (Vec::new(), None);
        while let Some(action) = self.engine.as_mut().and_then(Engine::poll_action) {
            match action {
                Action::Send(transmit) => effects.push(Effect::Send(transmit)),
                // Nobody waits for it, and nothing is answered from it.
                Action::Persist(ticket, changes)
                    if changes.iter().all(|it| matches!(it, Change::Saved(_) | Change::Alive(_))) =>
                {
                    self.write(Writing { ticket, changes });
                    noted = Some(ticket);
                }
                Action::Persist(ticket, changes) => {
                    self.writing.push_back(Writing { ticket, changes });
                    effects.push(Effect::Persist);
                }
                Action::Open(ticket, name) => {
                    self.opening.push_back((ticket, name));
                    effects.push(Effect::Open);
                }
                Action::Close(file) => {
                    self.open.remove(&file);
                }
                Action::Blocks(blocks) => effects.extend(self.packets(&blocks)),
                Action::Tell(event) => {
                    if tells {
                        effects.push(Effect::Tell(format!("{event:?}")));
                    }
                    if event.is_error() {
                        effects.push(Effect::Alarm(Alarm::Store));
                    }
                }
                Action::Answer(_, outcome) => self.forgotten.push(outcome),
            }
        }
        if let (Some(ticket), Some(engine)) = (noted, &mut self.engine) {
            // It says nothing to that.
            engine.on_stored(self.now, ticket, Ok(()));
        }
        effects
    }

    fn next_deadline(&self) -> Option<Deadline> {
        self.engine.as_ref().and_then(Engine::next_deadline)
    }

    fn member(&self) -> Option<(DomainId, ServerId, &Domain)> {
        Some((self.config.domain, self.server, self.engine()?.domain()))
    }

    fn standings(&self, _now: Time, group: GroupAddr) -> Vec<(Content, Standing)> {
        let Some(status) = self.status() else { return Vec::new() };
        let claims = status.claims.into_iter().filter(|claim| claim.group == group).map(|claim| claim.file);
        let rests = status.rests.into_iter().filter(|rest| rest.group == group).map(|rest| rest.file);
        claims.chain(rests).map(|file| (Content { server: self.address, file }, Standing::Firm)).collect()
    }
}
