//! The engine among sockets, files, store, clock, log and operators: what makes a daemon of it.

mod chunks;
mod data;
pub mod files;
mod news;
mod orders;
mod status;
mod store;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use driver::cli::{STATUS, STATUS_JSON};
use driver::clock::Clock;
use driver::control::{Listener, Operator};
use driver::quiet::Quiet;
use driver::run::Service;
use driver::udp::{Doors, Interface};
use driver::worker::Worker;
use driver::{Arrival, Deadline, Draw, Time, Wall, host};
use wire::ServerId;

use crate::config::{self, Config, Loaded};
use crate::engine::{Action, Engine, FileError, FileFacts, FileId, FileTicket, Identity, Order};
use data::Packets;
use files::Files;
pub use orders::{Forget, Start};
use store::{Job, Stored};

/// How often the log says what was suppressed.
const TICK: Duration = Duration::from_secs(1);

/// Serves with the configuration that was read from `file`, until SIGTERM or SIGINT.
///
/// # Errors
/// If a socket, the boot directory or the store cannot be had, or fails for good. References stay as they are in the
/// store.
pub fn run(file: &Path, loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, interface } = loaded;
    host::make_dir(&config.state_dir)?;
    host::make_dir(&config.run_dir)?;
    let clock = Clock::start();
    // The sockets first: a second mtftpd with our address must not get as far as the store.
    let (doors, igmp) =
        Doors::open_with_igmp(&interface, &config.doors(&interface), config.mtftp.ttl.into())?;
    let control = Listener::bind(&config.socket())?;
    let files = Files::new(&config.boot_dir)
        .with_context(|| format!("cannot open the boot directory {}", config.boot_dir.display()))?;
    let path = config.store();
    let using = || format!("cannot use the store {}", path.display());
    let wall = clock.wall();
    let mut kept = db::Store::open(&path, db::Kind::Mtftpd).with_context(using)?;
    let boot = kept.boot(wall.0, ServerId(host::random()?)).with_context(using)?;
    let journal = crate::rows::journal(kept.load().with_context(using)?);
    let identity = Identity {
        server: boot.server,
        epoch: boot.epoch,
        address: interface.address,
        prefix_len: interface.prefix_len,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), server = %identity.server, boot_epoch = identity.epoch.0,
        interface = %interface.name, address = %interface.address, boot_dir = %config.boot_dir.display(),
        references = journal.references.len(), rests = journal.rests.len(), "mtftpd serves"
    );
    let draw = Draw::from_seed(u64::from_ne_bytes(host::random()?));
    let mut engine = Engine::recover(config.engine(), identity, draw, journal, clock.now(), wall);
    match igmp {
        Ok(()) => engine.on_igmp_open(),
        Err(error) => tracing::info!(
            %error,
            "not known whether a querier is on the segment: mtftpd may not listen for IGMP (CAP_NET_RAW)"
        ),
    }
    let (worker, done) = store::start(kept);
    let mut shell = Shell {
        engine,
        identity,
        clock,
        doors: doors.clone(),
        worker,
        files,
        packets: Packets::new(),
        quiet: Quiet::default(),
        operators: BTreeMap::new(),
        orders: 0,
        file: file.to_owned(),
        config,
        interface,
        started: wall,
        tick_at: Time::ZERO,
    };
    driver::run::run(&mut shell, &clock, doors, control, done)
}

struct Shell {
    engine: Engine,
    identity: Identity,
    clock: Clock,
    doors: Doors,
    worker: Worker<Job>,
    files: Files,
    packets: Packets,
    quiet: Quiet<Ipv4Addr>,
    /// Who waits for what.
    operators: BTreeMap<Order, (Forget, Operator)>,
    /// Orders so far.
    orders: u64,
    /// The configuration file.
    file: PathBuf,
    config: Config,
    interface: Interface,
    started: Wall,
    /// When the log was last told what was suppressed.
    tick_at: Time,
}

impl Shell {
    /// Carries out all actions there are; keeps what the engine must be told afterwards.
    fn carry_out(&mut self, now: Time, doors: &Doors, told: &mut Told) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send(transmit) => {
                    doors.send(&transmit);
                }
                Action::Persist(ticket, changes) => {
                    let changes = changes.into_iter().map(crate::rows::row).collect();
                    self.worker.submit(Job { ticket, changes });
                }
                Action::Open(ticket, name) => told.opened.push((ticket, self.files.open(now, &name))),
                Action::Close(file) => self.files.close(file),
                Action::Blocks(blocks) => {
                    let there = self.files.is_still_there(now, blocks.file);
                    if !(there && self.packets.send(now, &mut self.files, doors, &blocks)) {
                        told.changed.push(blocks.file);
                    }
                }
                Action::Tell(event) => news::tell(&mut self.quiet, now, &event),
                Action::Answer(order, outcome) => {
                    if let Some((forget, operator)) = self.operators.remove(&order) {
                        let pinned = forget.group == self.config.mtftp.pinned_group.0;
                        operator.answer(forget.answer(pinned, &outcome));
                    }
                }
            }
        }
    }

    fn report(&self, now: Time) -> status::Report<'_> {
        status::Report {
            identity: self.identity,
            interface: &self.interface,
            boot_dir: &self.config.boot_dir,
            started: self.started,
            wall: self.clock.wall(),
            uptime: now.since(Time::ZERO),
            status: self.engine.status(),
            domain: self.engine.domain_status(now),
            files_open: self.files.len(),
            counters: self.engine.counters().iter().chain(self.doors.counters()).collect(),
        }
    }

    /// All or nothing: what takes effect only at a start must not differ.
    fn reload(&mut self) -> anyhow::Result<()> {
        let new = config::load(&self.file)?.config;
        let fixed = self.config.fixed_changes(&new);
        anyhow::ensure!(fixed.is_empty(), "restart to change {}", fixed.join(", "));
        if new.boot_dir != self.config.boot_dir {
            self.files
                .change_dir(&new.boot_dir)
                .with_context(|| format!("cannot open the boot directory {}", new.boot_dir.display()))?;
        }
        host::change_log(new.log.json, &new.log.level)?;
        self.config = new;
        Ok(())
    }
}

/// What the engine must be told after its actions are carried out.
#[derive(Default)]
struct Told {
    opened: Vec<(FileTicket, Result<FileFacts, FileError>)>,
    changed: Vec<FileId>,
}

impl Service for Shell {
    type Done = Stored;

    fn on_datagram(&mut self, now: Time, arrival: &Arrival<'_>) {
        self.engine.on_datagram(now, self.clock.wall(), arrival);
    }

    fn on_timeout(&mut self, now: Time) {
        self.engine.on_timeout(now);
        if now.since(self.tick_at) >= TICK {
            self.tick_at = now;
            self.quiet.tell_suppressed(now);
        }
    }

    fn on_done(&mut self, now: Time, done: Stored) {
        if let Err(error) = &done.result {
            tracing::warn!(%error, "the store did not keep a change");
        }
        self.engine.on_stored(now, done.ticket, done.result.map_err(|_| ()));
    }

    fn on_request(&mut self, now: Time, request: &str) -> String {
        match request {
            STATUS => self.report(now).text(),
            STATUS_JSON => self.report(now).json(),
            _ => format!(
                "unknown request; known: {STATUS}, {STATUS_JSON}, {}, {}\n",
                Forget::NAME,
                Start::NAME
            ),
        }
    }

    fn on_asked(&mut self, now: Time, request: &str, operator: Operator) {
        if let Some(start) = Start::parse(request) {
            let answer = start.map(|start| start.answer(&self.engine.on_start(now, start.group)));
            return operator.answer(answer.unwrap_or_else(|wrong| format!("{wrong}\n")));
        }
        match Forget::parse(request) {
            None => operator.answer(self.on_request(now, request)),
            Some(Err(wrong)) => operator.answer(format!("{wrong}\n")),
            Some(Ok(forget)) => {
                self.orders += 1;
                let order = Order(self.orders);
                self.operators.insert(order, (forget, operator));
                let (wall, what) = (self.clock.wall(), (forget.group, forget.binld));
                self.engine.on_forget(now, wall, order, what, forget.force);
            }
        }
    }

    fn on_reload(&mut self, _now: Time) {
        match self.reload() {
            Ok(()) => tracing::info!("the configuration was read again"),
            Err(error) => {
                tracing::warn!("the configuration stays as it was: {error:#}");
            }
        }
    }

    fn on_stop(&mut self, now: Time) {
        self.engine.on_stop(now);
        tracing::info!("mtftpd ends; its references stay");
    }

    fn flush(&mut self, now: Time, doors: &Doors) {
        loop {
            let mut told = Told::default();
            self.carry_out(now, doors, &mut told);
            if told.opened.is_empty() && told.changed.is_empty() {
                return;
            }
            // Looked up at once, but told one after the other, each with its own actions: the contract of machines.
            for (ticket, result) in told.opened {
                self.engine.on_file(now, ticket, result);
            }
            for file in told.changed {
                self.engine.on_file_changed(now, file);
            }
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        let tick = Deadline { at: self.tick_at + TICK, why: "the log says what was suppressed" };
        Deadline::earliest(self.engine.next_deadline(), self.quiet.is_waiting().then_some(tick))
    }
}
