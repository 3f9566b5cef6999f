//! A load of TFTP clients on real sockets: many clients in one thread that compare every byte, cheap beside any server.
//!
//! Round trip and loss are made here, as a kernel may lack netem: an ACK leaves later by the round trip, and datagrams are
//! lost, drawn from a seed, DATA when it is read and ACKs when they would leave. A client is strict: it takes only the next
//! block, and what else comes it answers with its place. What a server sends ahead of the ACK waits in the client's socket,
//! and is read next.
#![expect(clippy::disallowed_methods, reason = "clients on real sockets repeat their requests in real time")]

mod client;
mod socket;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::inlet::Trains;
use crate::lab::Host;
use crate::transfer_client::read_request;
use client::{Client, Stage};

/// Bytes of a DATA packet before the block.
const DATA_HEADER: usize = 4;
/// Clients' timers are looked at this often.
const SWEEP: Duration = Duration::from_millis(5);
/// The kernel wakes us too late by about as much: the rest of a wait is spent looking.
const SPIN: Duration = Duration::from_micros(100);
/// Reads of one socket before the others have their turn.
const READS_MAX: usize = 4;
/// Sockets looked at in one turn.
const EVENTS_MAX: usize = 256;

/// How a windowed client answers blocks out of order. A lock-step client answers each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfOrder {
    /// Each with its place, as EDK2.
    Each,
    /// The first after each gap, as U-Boot.
    Once,
}

/// What the clients do.
#[derive(Debug, Clone)]
pub struct Load<'a> {
    /// The file `f`, as it must arrive.
    pub file: &'a [u8],
    /// How many fetch it.
    pub clients: usize,
    /// Bytes of a block.
    pub block: usize,
    /// Blocks for one ACK; with 1 the option is not sent.
    pub window: u16,
    /// Asks for the file's size, too: without windows it then looks like no firmware that a server may run ahead of.
    pub asks_size: bool,
    /// Put before each ACK leaves.
    pub round_trip: Duration,
    /// Datagrams lost of a million, in each direction.
    pub loss_ppm: u32,
    /// Of the losses.
    pub seed: u64,
    /// A client repeats what it said last after so long without anything new.
    pub timeout: Duration,
    /// After this the rest counts as unfinished.
    pub deadline: Duration,
    /// The clients begin evenly over this time.
    pub spread: Duration,
    /// What is said about a gap.
    pub out_of_order: OutOfOrder,
    /// Whether packets that a server sent at once are read at once (`UDP_GRO`), as if the network card cut them.
    pub coalesced: bool,
    /// The core that the clients run on.
    pub core: usize,
    /// Whether they look for packets all the time instead of sleeping. Waking them across cores costs the server more than
    /// a packet does; clients on machines of their own would cost it nothing.
    pub awake: bool,
}

impl<'a> Load<'a> {
    /// One lock-step client without a round trip or loss.
    #[must_use]
    pub fn new(file: &'a [u8]) -> Self {
        Self {
            file,
            clients: 1,
            block: 1468,
            window: 1,
            asks_size: false,
            round_trip: Duration::ZERO,
            loss_ppm: 0,
            seed: 1,
            timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(8),
            spread: Duration::ZERO,
            out_of_order: OutOfOrder::Each,
            coalesced: true,
            core: 1,
            awake: false,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Compared with the file and found the same.
    pub bytes: u64,
    /// From the first request to the last client's end, or the deadline.
    pub elapsed: Duration,
    /// How often a client's own timer ran out.
    pub timeouts: u64,
    /// Clients without the whole file.
    pub unfinished: usize,
    /// Of them, those that got an ERROR.
    pub refused: usize,
    /// The longest time that a client waited for the next new block.
    pub gap_max: Duration,
    /// Bytes a second of the slowest and the fastest client.
    pub rates: (f64, f64),
    /// How long the clients had nothing to do; next to nothing means that they set the pace, not the server.
    pub idle: Duration,
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A block that differs from the file.
    WrongBytes {
        /// Its number, from 1, without roll-over.
        block: u64,
    },
    /// The server did not grant an option as asked.
    Lacks(&'static str),
    /// A datagram of so many bytes that no server may send.
    NotTftp(usize),
    /// A socket failed.
    Io(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongBytes { block } => write!(to, "block {block} has other bytes than the file"),
            Self::Lacks(option) => write!(to, "the server does not grant {option}"),
            Self::NotTftp(len) => write!(to, "{len} bytes that are no TFTP"),
            Self::Io(error) => to.write_str(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.to_string())
    }
}

/// Clients on `host` fetch the file `f` from `server`, until all have it or time is up. `host` must answer for all of
/// 10.78.0.0/16, and the server know the way there.
///
/// # Errors
/// If a server sends what it must not, foremost wrong bytes.
///
/// # Panics
/// If a thread cannot be had.
pub fn run(load: &Load<'_>, host: &Host, server: SocketAddrV4) -> Result<Outcome, Failure> {
    let sockets = host.enter(|| socket::open(load))?;
    let work = || {
        let mut core = CpuSet::new();
        core.set(load.core);
        sched_setaffinity(None, &core)?;
        Swarm::new(load, server, sockets)?.run()
    };
    thread::scope(|scope| scope.spawn(work).join()).expect("the clients' thread ends well")
}

/// splitmix64: a draw per packet must cost nothing.
#[derive(Debug)]
pub(crate) struct Loss {
    state: u64,
    per_million: u32,
}

impl Loss {
    /// So many of a million are lost.
    pub(crate) fn new(seed: u64, per_million: u32) -> Self {
        Self { state: seed, per_million }
    }

    pub(crate) fn strikes(&mut self) -> bool {
        if self.per_million == 0 {
            return false;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % 1_000_000 < u64::from(self.per_million)
    }
}

/// An ACK that is under way.
#[derive(Debug, Clone, Copy)]
struct Departure {
    at: Instant,
    client: usize,
    number: u16,
}

/// What leaves.
#[derive(Debug)]
struct Outlet {
    round_trip: Duration,
    loss: Loss,
    /// In order of time: all wait equally long.
    departures: VecDeque<Departure>,
}

impl Outlet {
    /// Sends the place of a client, at once or when the round trip is over.
    fn ack(&mut self, now: Instant, sockets: &[UdpSocket], client: usize, has: u64) {
        let number = has as u16;
        if self.round_trip.is_zero() {
            self.send(sockets, client, number);
        } else {
            self.departures.push_back(Departure { at: now + self.round_trip, client, number });
        }
    }

    fn depart(&mut self, now: Instant, sockets: &[UdpSocket]) {
        while let Some(next) = self.departures.front().copied().filter(|next| next.at <= now) {
            self.departures.pop_front();
            self.send(sockets, next.client, next.number);
        }
    }

    fn send(&mut self, sockets: &[UdpSocket], client: usize, number: u16) {
        if !self.loss.strikes() {
            let [high, low] = number.to_be_bytes();
            // What the kernel has no room for is as good as lost.
            let _ = sockets[client].send(&[0, 4, high, low]);
        }
    }
}

#[derive(Debug)]
struct Swarm<'a> {
    load: &'a Load<'a>,
    server: SocketAddrV4,
    request: Vec<u8>,
    sockets: Vec<UdpSocket>,
    clients: Vec<Client>,
    epoll: OwnedFd,
    inlet: Trains,
    outlet: Outlet,
    began: Instant,
    asked: usize,
    sweep_at: Instant,
    /// Clients that have neither the file nor an ERROR.
    left: usize,
    idle: Duration,
}

impl<'a> Swarm<'a> {
    fn new(load: &'a Load<'a>, server: SocketAddrV4, sockets: Vec<UdpSocket>) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, socket) in (0..).zip(&sockets) {
            epoll::add(&epoll, socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        }
        let (size, window) = (load.block.to_string(), load.window.to_string());
        let mut options = vec![("blksize", size.as_str())];
        options.extend(load.asks_size.then_some(("tsize", "0")));
        options.extend((load.window > 1).then_some(("windowsize", window.as_str())));
        let began = Instant::now();
        Ok(Self {
            load,
            server,
            request: read_request(b"f", &options),
            clients: sockets.iter().map(|_| Client::new(began)).collect(),
            left: sockets.len(),
            sockets,
            epoll,
            inlet: Trains::new(),
            outlet: Outlet {
                round_trip: load.round_trip,
                loss: Loss::new(load.seed, load.loss_ppm),
                departures: VecDeque::with_capacity(4096),
            },
            began,
            asked: 0,
            sweep_at: began,
            idle: Duration::ZERO,
        })
    }

    fn run(mut self) -> Result<Outcome, Failure> {
        self.began = Instant::now();
        let end = self.began + self.load.deadline;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            self.begin_more(now);
            self.outlet.depart(now, &self.sockets);
            self.sweep(now);
            if self.left == 0 || now >= end {
                break;
            }
            self.wait(now, end, &mut events)?;
            if !self.load.awake || events.is_empty() {
                self.idle += now.elapsed();
            }
            for event in &events {
                self.read(event.data.u64() as usize)?;
            }
        }
        Ok(self.outcome())
    }

    /// When the next client begins.
    fn begins_at(&self) -> Option<Instant> {
        let share = self.asked as f64 / self.load.clients as f64;
        (self.asked < self.load.clients).then(|| self.began + self.load.spread.mul_f64(share))
    }

    fn begin_more(&mut self, now: Instant) {
        while self.begins_at().is_some_and(|at| at <= now) {
            self.clients[self.asked].ask(now, self.load);
            self.ask(self.asked);
            self.asked += 1;
        }
    }

    fn ask(&self, client: usize) {
        // What the kernel has no room for is as good as lost.
        let _ = self.sockets[client].send_to(&self.request, self.server);
    }

    /// Clients whose timer ran out say again what they said last.
    fn sweep(&mut self, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP;
        for number in 0..self.asked {
            if self.clients[number].is_due(now, self.load) {
                if self.clients[number].stage == Stage::Asking {
                    self.ask(number);
                } else {
                    self.outlet.ack(now, &self.sockets, number, self.clients[number].has);
                }
            }
        }
    }

    /// Waits for packets, the next departure, the next beginning or the next sweep.
    fn wait(&self, now: Instant, end: Instant, events: &mut Vec<epoll::Event>) -> Result<(), Failure> {
        let soon = [self.outlet.departures.front().map(|next| next.at), self.begins_at()];
        let exact = soon.into_iter().flatten().min();
        let mut wait = self.sweep_at.min(end).saturating_duration_since(now);
        if self.load.awake {
            wait = Duration::ZERO;
        } else if let Some(at) = exact {
            // epoll counts in milliseconds, `poll` in nanoseconds.
            let short = at.saturating_duration_since(now).saturating_sub(SPIN).min(wait);
            if !short.is_zero() {
                let mut readable = [PollFd::new(&self.epoll, PollFlags::IN)];
                poll(&mut readable, Some(&timespec(short)))?;
            }
            wait = Duration::ZERO;
        }
        events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&timespec(wait)))?;
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<(), Failure> {
        for _ in 0..READS_MAX {
            let count = self.inlet.receive(&self.sockets[number], Trains::MOST)?;
            let now = Instant::now();
            for datagram in 0..count {
                self.hear(now, number, datagram)?;
            }
            if count < Trains::MOST {
                break;
            }
        }
        Ok(())
    }

    fn hear(&mut self, now: Instant, number: usize, datagram: usize) -> Result<(), Failure> {
        let (bytes, from) = self.inlet.datagram(datagram);
        let client = &mut self.clients[number];
        if client.stage == Stage::Asking {
            let Some(from) = from.filter(|from| from.ip() == self.server.ip()) else { return Ok(()) };
            // From now on the kernel takes no other's packets for this client.
            self.sockets[number].connect(from)?;
        }
        let was_waiting = client.is_waiting();
        // What is longer than a DATA packet is several, sent at once.
        for packet in bytes.chunks(DATA_HEADER + self.load.block) {
            if !self.outlet.loss.strikes() && client.hear(now, packet, self.load)? {
                self.outlet.ack(now, &self.sockets, number, client.has);
            }
        }
        self.left -= usize::from(was_waiting && !client.is_waiting());
        Ok(())
    }

    fn outcome(mut self) -> Outcome {
        let now = Instant::now();
        let mut rates = (f64::INFINITY, 0.0_f64);
        for client in &mut self.clients {
            client.close(now);
            let span = client.ended.unwrap_or(now) - client.began;
            let rate = client.bytes(self.load) as f64 / span.as_secs_f64().max(1e-9);
            rates = (rates.0.min(rate), rates.1.max(rate));
        }
        let count = |stage| self.clients.iter().filter(|client| client.stage == stage).count();
        Outcome {
            bytes: self.clients.iter().map(|client| client.bytes(self.load)).sum(),
            elapsed: now - self.began,
            timeouts: self.clients.iter().map(|client| client.timeouts).sum(),
            unfinished: self.clients.len() - count(Stage::Done),
            refused: count(Stage::Refused),
            gap_max: self.clients.iter().map(|client| client.gap_max).max().unwrap_or_default(),
            rates,
            idle: self.idle,
        }
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec::try_from(span).expect("a short time")
}
