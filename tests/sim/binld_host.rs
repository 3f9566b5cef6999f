//! A boot server on a host: the core, and its store.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use binld::engine::catalog::Catalog;
use binld::engine::claims::StateName;
use binld::engine::event::Event;
use binld::engine::status::Status;
use binld::engine::{Action, Change, Engine, EngineConfig, Identity, Ticket};
use binld::rows::{journal, row_of};
use db::{ClaimRow, Kind, Store};
use driver::{Arrival, Deadline, Draw, Role, Time, Wall};
use peers::domain::Domain;
use wire::{Content, DomainId, GroupAddr, ServerId};

use crate::client::DISCOVERY_GROUP;
use crate::program::{Alarm, Claimed, Door, Effect, Program, Stage, Standing};

#[derive(Debug)]
struct Writing {
    ticket: Ticket,
    changes: Vec<Change>,
}

/// The boot server.
#[derive(Debug)]
pub struct BinldHost {
    config: EngineConfig,
    server: ServerId,
    engine: Option<Engine>,
    store: Store,
    writing: VecDeque<Writing>,
}

impl BinldHost {
    /// One that has not started yet and whose store is empty.
    ///
    /// # Panics
    /// If the store cannot be made.
    #[must_use]
    pub fn new(config: EngineConfig, server: ServerId) -> Self {
        let store = Store::in_memory(Kind::Binld).expect("a store in memory");
        Self { config, server, engine: None, store, writing: VecDeque::new() }
    }

    fn write(&mut self, writing: &Writing) {
        let changes: Vec<db::Change> =
            writing.changes.iter().map(|change| row_of(change, self.server)).collect();
        self.store.apply(&changes).expect("a store in memory takes what the engine gives it");
    }

    /// The core; `None` while the process is dead.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// The same, to give it an operator's order; then the world is [poked](crate::world::World::poke).
    pub fn engine_mut(&mut self) -> Option<&mut Engine> {
        self.engine.as_mut()
    }

    /// The core's picture of itself; empty while the process is dead.
    #[must_use]
    pub fn status(&self, now: Time) -> Option<Status> {
        self.engine.as_ref().map(|engine| engine.status(now))
    }

    /// Its name.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.config.address
    }

    /// What it was told to do.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// A new configuration; a dead process reads it when it starts.
    pub fn reload(&mut self, now: Time, catalog: Catalog) {
        self.config.catalog = catalog.clone().into();
        if let Some(engine) = &mut self.engine {
            engine.on_reload(now, catalog);
        }
    }

    /// What survives: claims, and when it was last known alive.
    ///
    /// # Panics
    /// If the store cannot be read.
    #[must_use]
    pub fn stored(&self) -> (Vec<ClaimRow>, Wall) {
        let rows = self.store.load().expect("the store is read");
        let header = self.store.header().expect("the store is read");
        (rows.claims, Wall(header.last_alive_ms))
    }
}

fn is_saved(change: &Change) -> bool {
    matches!(change, Change::Saved(_) | Change::PutLegacy(..) | Change::DropLegacy(_))
}

fn alarm(event: &Event) -> Alarm {
    if *event == Event::StoreFailed { Alarm::Store } else { Alarm::Other(format!("{event:?}")) }
}

impl Program for BinldHost {
    fn start(&mut self, now: Time, wall: Wall, draw: Draw) {
        let boot = self.store.boot(wall.0, self.server).expect("the store begins a boot epoch");
        let identity = Identity { server: boot.server, boot_epoch: boot.epoch };
        let journal = journal(self.store.load().expect("the store is read"), &boot);
        self.engine = Some(Engine::recover(self.config.clone(), identity, draw, journal, now, wall));
    }

    fn crash(&mut self, draw: &mut Draw) {
        self.engine = None;
        for _ in 0..draw.below(self.writing.len() as u64 + 1) {
            if let Some(writing) = self.writing.pop_front() {
                self.write(&writing);
            }
        }
        self.writing.clear();
    }

    fn doors(&self) -> Vec<Door> {
        let group = *self.config.query.ip();
        vec![
            Door::unicast(Role::Discovery, 4011).and_group(DISCOVERY_GROUP),
            Door::unicast(Role::Query, self.config.query.port()).and_group(group),
            Door::unicast(Role::Control, self.config.control_port).and_group(group),
        ]
    }

    fn doors_stay(&self) -> bool {
        true
    }

    fn lose_store(&mut self, fresh: ServerId) {
        self.store = Store::in_memory(Kind::Binld).expect("a store in memory");
        self.server = fresh;
    }

    fn on_datagram(&mut self, now: Time, _wall: Wall, arrival: &Arrival<'_>) {
        if let Some(engine) = &mut self.engine {
            engine.on_datagram(now, arrival);
        }
    }

    fn on_timeout(&mut self, now: Time) {
        if let Some(engine) = &mut self.engine {
            engine.on_timeout(now);
        }
    }

    fn on_stored(&mut self, now: Time, works: bool) {
        let Some(writing) = self.writing.pop_front() else { return };
        if works {
            self.write(&writing);
        }
        if let Some(engine) = &mut self.engine {
            engine.on_stored(now, writing.ticket, works);
        }
    }

    fn on_deaf(&mut self, now: Time) {
        if let Some(engine) = &mut self.engine {
            engine.on_deaf(now);
        }
    }

    fn on_wall(&mut self, now: Time, wall: Wall) {
        if let Some(engine) = &mut self.engine {
            engine.on_wall(now, wall);
        }
    }

    fn drain(&mut self, tells: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(action) = self.engine.as_mut().and_then(Engine::poll_action) {
            match action {
                Action::Send(transmit) => effects.push(Effect::Send(transmit)),
                // Nobody waits for it, and nothing is answered from it.
                Action::Persist(ticket, changes) if changes.iter().all(is_saved) => {
                    self.write(&Writing { ticket, changes });
                }
                Action::Persist(ticket, changes) => {
                    self.writing.push_back(Writing { ticket, changes });
                    effects.push(Effect::Persist);
                }
                Action::Tell(event) => {
                    if tells {
                        effects.push(Effect::Tell(format!("{event:?}")));
                    }
                    if event.is_error() {
                        effects.push(Effect::Alarm(alarm(&event)));
                    }
                }
            }
        }
        effects
    }

    fn next_deadline(&self) -> Option<Deadline> {
        self.engine.as_ref().and_then(Engine::next_deadline)
    }

    fn claims(&self, now: Time) -> Option<Vec<Claimed>> {
        let claims = self.engine()?.claims_status(now).map(|claim| Claimed {
            content: claim.content,
            pinned: claim.pinned,
            group: claim.group,
            stage: match claim.state {
                StateName::Clearing if claim.stamp.is_some() => Stage::AsksAgain,
                StateName::Waiting | StateName::Clearing => Stage::Asks,
                StateName::Recording | StateName::Configuring | StateName::Draining => Stage::Committed,
                // While somebody states that it has the address, too, nobody is told it (Y4).
                StateName::Held if claim.contested_by.iter().any(|(_, blocks)| *blocks) => Stage::Committed,
                StateName::Held => Stage::Held,
            },
        });
        Some(claims.collect())
    }

    fn member(&self) -> Option<(DomainId, ServerId, &Domain)> {
        Some((self.config.domain, self.server, self.engine()?.domain()))
    }

    fn standings(&self, now: Time, group: GroupAddr) -> Vec<(Content, Standing)> {
        let Some(engine) = self.engine() else { return Vec::new() };
        let claims = engine.claims_status(now).filter(|claim| claim.group == Some(group));
        let mut standings: Vec<(Content, Standing)> = claims
            .map(|claim| {
                // A claim from before a restart clears again, but it has its stamp and is defended (Y7).
                let asks = claim.state == StateName::Clearing && claim.stamp.is_none();
                (claim.content, if asks { Standing::Pending } else { Standing::Firm })
            })
            .collect();
        let rests = engine.rests_status(now).filter(|(there, _, _)| *there == group);
        standings.extend(rests.map(|(_, content, _)| (content, Standing::Firm)));
        let others = engine.replicas_status(now).into_iter().filter(|replica| replica.group == group);
        standings.extend(others.map(|replica| (replica.content, Standing::ForAnother)));
        standings
    }
}
