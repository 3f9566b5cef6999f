//! Many clients in one process and one thread, to try a server.
//!
//! Each is a client like any other, with sockets of its own; a group's packets come to each of them. The file is held once:
//! see [`super::common`].

mod report;

use std::cell::RefCell;
use std::io::Write;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use driver::Time;
use driver::clock::Clock;
use driver::udp::Interface;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Exit;
use super::cli::{Arguments, Load};
use super::common::{Common, Share};
use super::net::{self, Running};
use super::progress::Progress;
use crate::client::discovery::Found;
use crate::client::{Counts, Failure, Method, Source, Wanted};
use report::Report;

/// Where an address of `--from` is missing.
pub(super) const ADVICE: &str =
    "--from: all of them must be on the interface; `ip address add ADDRESS/LENGTH dev NAME` gives it one";

/// Files that the process has open besides its clients' sockets.
const OTHER_FILES: u64 = 64;

/// What became of one client.
struct Ended {
    outcome: Result<Source, Fault>,
    /// From its start to its end.
    time: Duration,
    counts: Counts,
    /// Bytes that it received.
    len: u64,
}

/// Why a client does not have the file.
enum Fault {
    Failure(Failure),
    /// It has all, and this byte is not what others received.
    Differs(usize),
    /// The time was over before its turn.
    NotStarted,
}

/// The clients, and what they share.
struct Clients<'a> {
    interface: &'a Interface,
    load: Load,
    addresses: Vec<Ipv4Addr>,
    wanted: Wanted,
    common: Rc<RefCell<Common>>,
    running: Vec<Running<Share>>,
    ended: Vec<Ended>,
    started: u16,
    began_at: Time,
}

/// Runs them all, and tells what became of them.
///
/// # Errors
/// If this host fails: sockets, memory.
pub(super) fn run(
    arguments: &Arguments,
    load: Load,
    interface: &Interface,
    clock: &Clock,
    end: Time,
    (found, waits): (&Found, u32),
) -> anyhow::Result<Exit> {
    let wanted = arguments.wanted(found);
    let addresses = addresses(&load, interface)?;
    if matches!(wanted.method, Method::PxeMtftp(_)) && addresses.len() < usize::from(load.clients) {
        let text = format!(
            "PXE-MTFTP listens on one port of an address: {} clients need as many addresses, --from has {}",
            load.clients,
            addresses.len()
        );
        let _ = writeln!(std::io::stderr(), "mtftp-get: {text}");
        return Ok(Exit::Usage);
    }
    allow_sockets(load.clients)?;
    let mut clients = Clients {
        interface,
        load,
        addresses,
        wanted,
        common: Rc::default(),
        running: Vec::new(),
        ended: Vec::new(),
        started: 0,
        began_at: clock.now(),
    };
    let mut progress = Progress::new(arguments.quiet);
    while !clients.turn(clock, end)? {
        progress.show(clock.now(), clients.counts());
    }
    progress.end();
    let time = clock.now().since(clients.began_at);
    let Clients { load, addresses, common, ended, .. } = clients;
    let report = Report::new(found, waits, &load, addresses.len(), time, &ended, &common.borrow());
    report.tell(arguments.json)?;
    Ok(if report.is_right() { Exit::Done } else { Exit::NotAll })
}

/// Those of `--from`, as many as are needed; each must be on the interface.
fn addresses(load: &Load, interface: &Interface) -> anyhow::Result<Vec<Ipv4Addr>> {
    let Some(from) = &load.from else { return Ok(vec![interface.address]) };
    let bits = from.start().to_bits()..=from.end().to_bits();
    let addresses: Vec<Ipv4Addr> = bits.take(load.clients.into()).map(Ipv4Addr::from_bits).collect();
    for address in &addresses {
        Interface::find(&interface.name, Some(*address)).context(ADVICE)?;
    }
    Ok(addresses)
}

/// Two sockets for each client.
fn allow_sockets(clients: u16) -> anyhow::Result<()> {
    let need = 2 * u64::from(clients) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= need) {
        return Ok(());
    }
    let may = limit.maximum.is_none_or(|maximum| maximum >= need);
    ensure!(
        may,
        "{clients} clients need {need} open files, and this process may have {}: see `ulimit -Hn`",
        limit.maximum.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(need), ..limit })
        .context("cannot allow more open files")
}

impl Clients<'_> {
    /// When the next one starts; `None` if all have.
    fn next_start(&self) -> Option<Time> {
        let share = self.load.over * u32::from(self.started) / u32::from(self.load.clients);
        (self.started < self.load.clients).then(|| self.began_at + share)
    }

    /// Starts who is to start, waits, and lets each have its turn. True when it is over for all.
    fn turn(&mut self, clock: &Clock, end: Time) -> anyhow::Result<bool> {
        while self.next_start().is_some_and(|at| at <= clock.now()) && clock.now() < end {
            self.start(clock.now())?;
        }
        let now = clock.now();
        if now >= end {
            self.stop(now)?;
            return Ok(true);
        }
        let until = self.next_start().map_or(end, |at| at.min(end));
        let heard = net::wait(&self.running, now, until)?;
        let now = clock.now();
        for (client, heard) in self.running.iter_mut().zip(heard) {
            if heard || client.is_due(now) {
                client.turn(clock)?;
            }
        }
        self.take_ended(clock.now());
        Ok(self.running.is_empty() && self.next_start().is_none())
    }

    fn start(&mut self, now: Time) -> anyhow::Result<()> {
        let place = usize::from(self.started) % self.addresses.len();
        let address = self.addresses.get(place).copied().unwrap_or(self.interface.address);
        let interface = Interface { address, ..self.interface.clone() };
        let share = Share::new(&self.common);
        self.running.push(Running::start(&interface, self.wanted.clone(), share, now)?);
        self.started += 1;
        Ok(())
    }

    /// The time is over.
    fn stop(&mut self, now: Time) -> anyhow::Result<()> {
        for client in &mut self.running {
            client.stop(now)?;
        }
        self.take_ended(now);
        let missing = usize::from(self.load.clients - self.started);
        let not_started = || Ended {
            outcome: Err(Fault::NotStarted),
            time: Duration::ZERO,
            counts: Counts::default(),
            len: 0,
        };
        self.ended.extend(std::iter::repeat_with(not_started).take(missing));
        Ok(())
    }

    fn take_ended(&mut self, now: Time) {
        let mut going = Vec::new();
        for mut client in self.running.drain(..) {
            let Some(result) = client.take_result() else {
                going.push(client);
                continue;
            };
            let (time, counts) = (now.since(client.began_at()), client.counts());
            let share = client.into_sink();
            let outcome = match (result, share.differs_at()) {
                (Err(failure), _) => Err(Fault::Failure(failure)),
                (Ok(_), Some(place)) => Err(Fault::Differs(place)),
                (Ok(source), None) => Ok(source),
            };
            self.ended.push(Ended { outcome, time, counts, len: share.len() });
        }
        self.running = going;
    }

    /// All together; the size is that of all their files.
    fn counts(&self) -> Counts {
        let running = self.running.iter().map(Running::counts);
        let mut all = Counts::default();
        for counts in running.chain(self.ended.iter().map(|ended| ended.counts)) {
            all.bytes += counts.bytes;
            let size = counts.size.map(|size| size * u64::from(self.load.clients));
            all.size = all.size.or(size);
        }
        all
    }
}
