//! A load of multicast receivers on real sockets: many in one thread, each compares every byte that it hears.
//!
//! Round trip and loss are made here, as in [`super::tftp_load`]: what a receiver says leaves later by the round trip, and
//! datagrams of the lossy ones are lost in both directions, drawn from a seed. Receivers are as strict as firmware: see
//! `receiver`.
#![expect(
    clippy::disallowed_methods,
    reason = "receivers on real sockets repeat their requests in real time"
)]

mod receiver;
mod socket;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::inlet::Trains;
use crate::lab::Host;
use crate::tftp_load::Loss;
use receiver::{Receiver, Say, Wire};
use socket::Sockets;

/// Sockets looked at in one turn.
const EVENTS_MAX: usize = 256;
/// Receivers' timers are looked at this often.
const SWEEP: Duration = Duration::from_millis(2);
/// Reads of one socket before the others have their turn.
const READS_MAX: usize = 2;

/// How receivers ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All at once, by RFC 2090, with blocks of 1468 bytes.
    Rfc2090,
    /// One opens by PXE-MTFTP; the others listen, and open in silence.
    MtftpOne,
    /// All open by PXE-MTFTP, as iPXE does.
    MtftpAll,
}

impl Way {
    /// Bytes of its blocks.
    #[must_use]
    pub fn block(self) -> usize {
        match self {
            Self::Rfc2090 => 1468,
            Self::MtftpOne | Self::MtftpAll => 512,
        }
    }
}

/// What is wrong with the network or with one of the receivers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// The receiver that asked first loses so many datagrams of a million, in each direction.
    FirstLoses(u32),
    /// All do, each its own.
    AllLose(u32),
    /// Who sets the pace falls silent in the middle of the file.
    MasterDies,
    /// This one takes so many bytes a second, and no more.
    Slow(usize, f64),
}

/// What the receivers do.
#[derive(Debug, Clone)]
pub struct GroupLoad<'a> {
    /// The file, `f` by RFC 2090 and `p` by PXE-MTFTP, as it must arrive.
    pub file: &'a [u8],
    /// How they ask.
    pub way: Way,
    /// How many there are.
    pub receivers: usize,
    /// Put before whatever a receiver says.
    pub round_trip: Duration,
    /// What is wrong.
    pub trouble: Trouble,
    /// Of the losses.
    pub seed: u64,
    /// A receiver that has a say repeats it after so long without anything new.
    pub timeout: Duration,
    /// After this the rest counts as unfinished.
    pub deadline: Duration,
    /// Whether packets that a server sent at once are read at once (`UDP_GRO`), as if each receiver were a machine of its own.
    pub coalesced: bool,
    /// The core that they run on.
    pub core: usize,
}

/// Where the file is to be had.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Where requests go.
    pub server: SocketAddrV4,
    /// Where its data goes.
    pub group: SocketAddrV4,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the first request until a receiver had the whole file: those that did, in the order in which they asked.
    pub times: Vec<Option<Duration>>,
    /// How often a receiver's own timer ran out.
    pub timeouts: u64,
    /// How often a receiver said that it lacks a block.
    pub naks: u64,
    /// Receivers that got an ERROR.
    pub refused: usize,
    /// The longest time that a receiver waited for a new block, of those that still live; after the death, if one died.
    pub gap_max: Duration,
    /// Packets of blocks that were on the wire to the group, and to one receiver.
    pub packets: (u64, u64),
    /// Bytes of both with all headers down to Ethernet's.
    pub wire_bytes: u64,
}

impl Outcome {
    /// Receivers without the whole file, not counting who died.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.times.iter().filter(|time| time.is_none()).count()
    }

    /// When the last had it; `None` if one did not, nor died.
    #[must_use]
    pub fn last(&self) -> Option<Duration> {
        self.times.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// When the last of the others had it.
    #[must_use]
    pub fn last_but(&self, one: usize) -> Option<Duration> {
        let others = self.times.iter().enumerate().filter(|(number, _)| *number != one);
        others.map(|(_, time)| *time).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A block that differs from the file.
    WrongBytes(u16),
    /// The server does not multicast.
    NotMulticast,
    /// A socket failed.
    Io(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongBytes(block) => write!(to, "block {block} has other bytes than the file"),
            Self::NotMulticast => to.write_str("the server does not multicast to the group"),
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

/// Receivers on `host`, which has an address for each ([`give_addresses`]), fetch the file, until all have it or time
/// is up.
///
/// # Errors
/// If the server sends what it must not, foremost wrong bytes.
///
/// # Panics
/// If a thread cannot be had.
pub fn run(load: &GroupLoad<'_>, host: &Host, place: Place) -> Result<Outcome, Failure> {
    let sockets = host.enter(|| socket::open(load, host.address(), place.group))?;
    let work = || {
        let mut core = CpuSet::new();
        core.set(load.core);
        sched_setaffinity(None, &core)?;
        Swarm::new(load, place, sockets)?.run()
    };
    thread::scope(|scope| scope.spawn(work).join()).expect("the receivers' thread ends well")
}

/// The address of a receiver.
#[must_use]
pub fn address(receiver: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 101 + receiver as u8)
}

/// Gives a host the addresses of so many receivers.
pub fn give_addresses(host: &Host, receivers: usize) {
    (0..receivers).for_each(|receiver| host.add_address(address(receiver)));
}

/// What a receiver says, under way.
#[derive(Debug)]
struct Departure {
    at: Instant,
    receiver: usize,
    say: Say,
}

#[derive(Debug)]
struct Swarm<'a> {
    load: &'a GroupLoad<'a>,
    place: Place,
    sockets: Vec<Sockets>,
    receivers: Vec<Receiver>,
    losses: Vec<Loss>,
    epoll: OwnedFd,
    inlet: Trains,
    departures: VecDeque<Departure>,
    wire: Vec<Wire>,
    sweep_at: Instant,
    /// Who died, and when.
    died: Option<(usize, Instant)>,
    /// Bytes that the slow one has taken.
    slow_took: f64,
    began: Instant,
}

impl<'a> Swarm<'a> {
    fn new(load: &'a GroupLoad<'a>, place: Place, sockets: Vec<Sockets>) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let slow = if let Trouble::Slow(receiver, _) = load.trouble { Some(receiver) } else { None };
        for (number, sockets) in sockets.iter().enumerate().filter(|(number, _)| Some(*number) != slow) {
            for (kind, socket) in [&sockets.own, &sockets.group].into_iter().enumerate() {
                let data = epoll::EventData::new_u64((number * 2 + kind) as u64);
                epoll::add(&epoll, socket, data, epoll::EventFlags::IN)?;
            }
        }
        let per_million = |receiver: usize| match load.trouble {
            Trouble::AllLose(per_million) => per_million,
            Trouble::FirstLoses(per_million) if receiver == 0 => per_million,
            Trouble::FirstLoses(_) | Trouble::None | Trouble::MasterDies | Trouble::Slow(..) => 0,
        };
        let loss = |receiver: usize| Loss::new(load.seed * 1000 + receiver as u64, per_million(receiver));
        let began = Instant::now();
        Ok(Self {
            load,
            place,
            receivers: (0..load.receivers).map(|_| Receiver::new(load, began)).collect(),
            losses: (0..load.receivers).map(loss).collect(),
            wire: vec![Wire::default(); load.receivers],
            sockets,
            epoll,
            inlet: Trains::new(),
            departures: VecDeque::new(),
            sweep_at: began,
            died: None,
            slow_took: 0.0,
            began,
        })
    }

    fn run(mut self) -> Result<Outcome, Failure> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        self.began = Instant::now();
        let end = self.began + self.load.deadline;
        for number in 0..self.load.receivers {
            let opens = number == 0 || self.load.way != Way::MtftpOne;
            let say = self.receivers[number].begin(self.began, opens);
            self.say(self.began, number, say);
        }
        loop {
            let now = Instant::now();
            self.depart(now);
            self.sweep(now);
            if now >= end || self.receivers.iter().all(|receiver| !receiver.is_waiting()) {
                break;
            }
            events.clear();
            let wait = Timespec::default();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                let place = event.data.u64() as usize;
                self.read(place / 2, place % 2 == 1, READS_MAX)?;
            }
            self.read_slowly(now)?;
            self.let_die(now);
        }
        Ok(self.outcome())
    }

    /// The slow one reads a packet when its time has come; what its socket has no room for meanwhile is lost.
    fn read_slowly(&mut self, now: Instant) -> Result<(), Failure> {
        let Trouble::Slow(receiver, rate) = self.load.trouble else { return Ok(()) };
        if (now - self.began).as_secs_f64() * rate < self.slow_took {
            return Ok(());
        }
        let before = self.wire[receiver].bytes;
        self.read(receiver, false, 1)?;
        self.read(receiver, true, 1)?;
        self.slow_took += (self.wire[receiver].bytes - before) as f64;
        // It does not save up time in which there was nothing to take.
        self.slow_took = self.slow_took.max(((now - self.began).as_secs_f64() - 0.01) * rate);
        Ok(())
    }

    /// The master that has half of the file falls silent.
    fn let_die(&mut self, now: Instant) {
        if self.load.trouble != Trouble::MasterDies || self.died.is_some() {
            return;
        }
        let half = self.load.file.len() / self.load.way.block() / 2;
        let dying = self.receivers.iter().position(|it| it.is_master() && it.has() > half);
        if let Some(receiver) = dying {
            self.died = Some((receiver, now));
            self.receivers[receiver].die();
            self.departures.retain(|departure| departure.receiver != receiver);
            self.receivers.iter_mut().for_each(|it| it.count_gaps_from(now));
        }
    }

    fn say(&mut self, now: Instant, receiver: usize, say: Option<Say>) {
        let Some(say) = say else { return };
        if self.load.round_trip.is_zero() {
            return self.send(receiver, &say);
        }
        self.departures.push_back(Departure { at: now + self.load.round_trip, receiver, say });
    }

    /// In order of time: all wait equally long.
    fn depart(&mut self, now: Instant) {
        while self.departures.front().is_some_and(|next| next.at <= now) {
            if let Some(Departure { receiver, say, .. }) = self.departures.pop_front() {
                self.send(receiver, &say);
            }
        }
    }

    fn send(&mut self, receiver: usize, say: &Say) {
        if self.losses[receiver].strikes() {
            return;
        }
        let to = self.receivers[receiver].source().unwrap_or(self.place.server);
        let own = &self.sockets[receiver].own;
        // What the kernel has no room for is as good as lost.
        let _ = match say {
            Say::Request => own.send_to(&self.receivers[receiver].request(), self.place.server),
            Say::Ack(number) => {
                let [high, low] = number.to_be_bytes();
                own.send_to(&[0, 4, high, low], to)
            }
        };
    }

    fn sweep(&mut self, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP;
        for number in 0..self.load.receivers {
            let say = self.receivers[number].on_time(now);
            self.say(now, number, say);
        }
    }

    fn read(&mut self, number: usize, is_group: bool, reads: usize) -> Result<(), Failure> {
        let is_slow = matches!(self.load.trouble, Trouble::Slow(receiver, _) if receiver == number);
        let most = if is_slow { 1 } else { Trains::MOST };
        for _ in 0..reads {
            let sockets = &self.sockets[number];
            let count = self.inlet.receive(if is_group { &sockets.group } else { &sockets.own }, most)?;
            for datagram in 0..count {
                self.hear(number, is_group, datagram)?;
            }
            if count < most {
                break;
            }
        }
        Ok(())
    }

    fn hear(&mut self, number: usize, is_group: bool, datagram: usize) -> Result<(), Failure> {
        let now = Instant::now();
        let (bytes, from) = self.inlet.datagram(datagram);
        let Some(from) = from.filter(|from| from.ip() == self.place.server.ip()) else { return Ok(()) };
        // What is longer than a DATA packet is several, sent at once.
        let mut said = Vec::new();
        for packet in bytes.chunks(4 + self.load.way.block()) {
            self.wire[number].note(packet, is_group);
            if !self.losses[number].strikes() {
                let heard =
                    self.receivers[number].hear(now, packet, from, is_group, self.load, self.place)?;
                said.extend(heard);
            }
        }
        said.into_iter().for_each(|say| self.say(now, number, Some(say)));
        Ok(())
    }

    fn outcome(mut self) -> Outcome {
        let now = Instant::now();
        self.receivers.iter_mut().for_each(|receiver| receiver.close(now));
        let living = || {
            let all = self.receivers.iter().enumerate();
            all.filter(|(number, _)| self.died.is_none_or(|(dead, _)| dead != *number)).map(|(_, it)| it)
        };
        // Somebody whose socket had room for all of it heard all.
        let most = |value: fn(&Wire) -> u64| self.wire.iter().map(value).max().unwrap_or(0);
        let sum = |value: fn(&Wire) -> u64| self.wire.iter().map(value).sum();
        Outcome {
            times: living().map(|it| it.ended().map(|at| at - self.began)).collect(),
            timeouts: living().map(Receiver::timeouts).sum(),
            naks: living().map(Receiver::naks).sum(),
            refused: living().filter(|it| it.is_refused()).count(),
            gap_max: living().map(Receiver::gap_max).max().unwrap_or_default(),
            packets: (most(|wire| wire.group), sum(|wire| wire.own)),
            wire_bytes: most(|wire| wire.group_bytes) + sum(|wire| wire.own_bytes),
        }
    }
}
