//! The engine among sockets, store, clock, log and operators: what makes a daemon of it.

mod news;
mod orders;
mod responding;
mod status;
mod store;
mod talk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use driver::cli::{STATUS, STATUS_JSON};
use driver::clock::Clock;
use driver::control::Listener;
use driver::quiet::Quiet;
use driver::run::Service;
use driver::udp::{Doors, Interface, Outgoing};
use driver::worker::{self, Worker};
use driver::{Arrival, Deadline, Draw, Role, Time, Wall, host};
use wire::ServerId;

use crate::config::{self, Config, Loaded};
use crate::engine::{Action, Engine, Identity};
pub(crate) use orders::Order;
use responding::ZoneFile;
use store::{Done, Job, Keeper};
pub(crate) use talk::Talk;

/// How often the engine is told what the wall clock shows, and the log of what was suppressed.
const TICK: Duration = Duration::from_secs(1);
/// While an address is being cleared the kernel's drops are looked at before the engine takes silence for consent, but
/// not more often than this: the look costs as much as some datagrams.
const DEAF_CHECK: Duration = Duration::from_millis(20);

/// Serves with the configuration that was read from `file`, until SIGTERM or SIGINT.
///
/// # Errors
/// If a socket or the store cannot be had, or fails for good. Claims and references stay as they are in the store.
pub fn run(file: &Path, loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, interface, warnings } = loaded;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    host::make_dir(&config.state_dir)?;
    host::make_dir(&config.run_dir)?;
    let clock = Clock::start();
    // All sockets before the store: a second binld with our address or our directory must not get that far.
    let control = Listener::bind(&config.socket())?;
    let doors = Doors::open(&interface, &config.doors(&interface), config.pool.ttl.into())?;
    let wall = clock.wall();
    let fresh = ServerId(host::random()?);
    let (keeper, boot, mut journal) = Keeper::open(&config.store(), wall, fresh)
        .with_context(|| format!("cannot use the store {}", config.store().display()))?;
    journal.host_boot = host::boot_id()?;
    let identity = Identity { server: boot.server, boot_epoch: boot.epoch };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), server = %identity.server, boot_epoch = identity.boot_epoch.0,
        interface = %interface.name, address = %interface.address, items = config.item.len(),
        claims = journal.claims.len(), "binld serves"
    );
    let draw = Draw::from_seed(u64::from_ne_bytes(host::random()?));
    let engine = Engine::recover(config.engine(&interface), identity, draw, journal, clock.now(), wall);
    let (worker, done) = worker::spawn("binld-store", keeper.work());
    let Config { responder, discovery, .. } = &config;
    let zone = responder.zone_file.clone();
    let zone = zone.map(|path| ZoneFile::new(path, responder.zone.clone(), discovery.port));
    let mut shell = Shell {
        zone,
        engine,
        identity,
        clock,
        doors: doors.clone(),
        outgoing: Outgoing::default(),
        worker,
        quiet: Quiet::default(),
        file: file.to_owned(),
        config,
        interface,
        started: wall,
        tick_at: Time::ZERO,
        deaf_check_at: Time::ZERO,
        dropped: 0,
    };
    driver::run::run(&mut shell, &clock, doors, control, done)
}

struct Shell {
    zone: Option<ZoneFile>,
    engine: Engine,
    identity: Identity,
    clock: Clock,
    doors: Doors,
    outgoing: Outgoing,
    worker: Worker<Job>,
    quiet: Quiet<news::Source>,
    file: PathBuf,
    config: Config,
    interface: Interface,
    started: Wall,
    tick_at: Time,
    deaf_check_at: Time,
    /// Queries and echoes that the kernel has dropped so far.
    dropped: u64,
}

impl Service for Shell {
    type Done = Done;

    fn on_datagram(&mut self, now: Time, arrival: &Arrival<'_>) {
        let Arrival { role, from, to, bytes } = arrival;
        tracing::trace!(?role, %from, %to, len = bytes.len(), "heard");
        self.engine.on_datagram(now, arrival);
    }

    fn on_timeout(&mut self, now: Time) {
        if now >= self.deaf_check_at {
            self.deaf_check_at = now + DEAF_CHECK;
            if self.engine.is_clearing() {
                self.look_for_drops(now);
            }
        }
        self.engine.on_timeout(now);
    }

    fn on_done(&mut self, now: Time, done: Done) {
        self.engine.on_stored(now, done.ticket, done.stored);
    }

    fn on_request(&mut self, now: Time, request: &str) -> String {
        let json = match request {
            STATUS => false,
            STATUS_JSON => true,
            _ => {
                if let Some(talk) = Talk::parse(request) {
                    return talk.carry_out(&mut self.engine, now);
                }
                let Some(order) = Order::parse(request) else {
                    return format!(
                        "unknown request {request:?}; known: {STATUS}, {STATUS_JSON}, {}, {}, {}, {} SERVER-ID\n",
                        Order::DRAIN,
                        Order::UNDRAIN,
                        Order::LEAVE,
                        Order::STRIKE_OFF
                    );
                };
                return order.carry_out(&mut self.engine, now);
            }
        };
        let report = status::Report {
            identity: self.identity,
            interface: &self.interface,
            started: self.started,
            wall: self.clock.wall(),
            uptime: now.since(Time::ZERO),
            status: self.engine.status(now),
            responding: self.engine.responding_status(),
            counters: self.engine.counters().iter().chain(self.doors.counters()).collect(),
        };
        if json { report.json() } else { report.text() }
    }

    fn on_reload(&mut self, now: Time) {
        match self.reread() {
            Ok(config) => {
                self.engine.on_reload(now, config.catalog());
                tracing::info!(file = %self.file.display(), items = config.item.len(), "configuration read again");
                self.config = config;
            }
            Err(error) => tracing::warn!("configuration not read again, the old one stays: {error:#}"),
        }
    }

    fn on_stop(&mut self, now: Time) {
        self.engine.on_stop(now);
    }

    fn has_ended(&self) -> bool {
        self.engine.has_left()
    }

    fn flush(&mut self, now: Time, _doors: &Doors) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send(transmit) => {
                    tracing::trace!(role = ?transmit.role, to = %transmit.to, len = transmit.bytes.len(), "said");
                    self.outgoing.put(transmit);
                }
                Action::Persist(ticket, changes) => self.worker.submit(Job { ticket, changes }),
                Action::Tell(event) => news::tell(&mut self.quiet, now, &event),
            }
        }
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            self.engine.on_wall(now, self.clock.wall());
            self.look_for_drops(now);
            if let Some(zone) = &mut self.zone {
                zone.write(&self.engine.responding_status(), self.interface.address);
            }
            self.quiet.tell_suppressed(now);
        }
    }

    fn dispatch(&mut self, doors: &Doors) {
        self.outgoing.send(doors);
    }

    fn next_deadline(&self) -> Option<Deadline> {
        let suppressed = self.quiet.is_waiting().then_some(Deadline { at: self.tick_at, why: "log" });
        Deadline::earliest(self.engine.next_deadline(), suppressed)
    }
}

impl Shell {
    /// Datagrams that the kernel dropped were perhaps echoes (G26).
    fn look_for_drops(&mut self, now: Time) {
        let dropped = self.doors.kernel_dropped(Role::Query);
        if dropped != std::mem::replace(&mut self.dropped, dropped) {
            self.engine.on_deaf(now);
        }
    }

    /// All or nothing: a configuration that cannot come into force as a whole changes nothing.
    fn reread(&self) -> anyhow::Result<Config> {
        let Loaded { config, warnings, .. } = config::load(&self.file)?;
        let fixed = self.config.restart_keys(&config);
        if !fixed.is_empty() {
            anyhow::bail!(
                "{}: changed, and only read at a start: {}; restart binld, or change only [[mtftp]], [[item]] and [log]",
                self.file.display(),
                fixed.join(", ")
            );
        }
        if config.log != self.config.log {
            host::change_log(config.log.json, &config.log.level)?;
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}
