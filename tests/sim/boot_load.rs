//! A load of boot ROMs on real sockets: as many machines as wanted in one thread, each of which asks a boot server once by
//! unicast, and compares the whole answer. Cheap beside any server.
//!
//! The first answer is read as strictly as a strict client reads it, and every other one must have the same bytes but for
//! what tells one machine from another.
#![expect(clippy::disallowed_methods, reason = "clients on real sockets repeat their requests in real time")]

mod machines;
mod socket;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::inlet::Inlet;
use crate::lab::Host;
use crate::pxe_client::DISCOVERY_PORT;
use machines::Machines;
use socket::Outlet;

/// How long a machine waits for an answer before it asks again, and at last gives up (PXE 2.1 § 2.4.5; EDK2).
const WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(4)];
/// Addresses of the machines, each with one socket.
const ADDRESSES: usize = 32;
/// Machines of one address that ask together.
const TOGETHER: usize = 32;

/// What the machines ask for, and when.
#[derive(Debug, Clone)]
pub struct Load {
    /// How many there are; each asks once.
    pub machines: usize,
    /// When they ask.
    pub pace: Pace,
    /// The type of the boot item.
    pub server_type: u16,
    /// The boot file that they must be told.
    pub file: &'static str,
    /// Whether they must be told a group address, too.
    pub multicast: bool,
    /// The core that they run on.
    pub core: usize,
}

/// When machines ask.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many wait for an answer at any time.
    Window(usize),
    /// Evenly over this time, answered or not.
    Over(Duration),
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Machines with an answer.
    pub answered: usize,
    /// Machines that gave up.
    pub unanswered: usize,
    /// Machines that had to ask again.
    pub retried: usize,
    /// From the first question to the last answer.
    pub elapsed: Duration,
    /// From a machine's first question to its answer: the middle, 99 of 100, and the greatest.
    pub waits: [Duration; 3],
    /// How far a machine asked behind its time, at most: what is late here, the server is not to blame for.
    pub late: Duration,
    /// For which share of the time the machines had something to do; nearly all of it means that they set the pace, not the
    /// server.
    pub busy: f64,
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// An answer that the machine must not get.
    Wrong(String),
    /// A socket failed.
    Io(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(what) => write!(to, "a wrong answer: {what}"),
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

/// The address of some of the machines: one of the upper half of 10.77.0.0/24.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 128 + number as u8)
}

/// Machines on `host` ask the boot server at `server`, until all have an answer or gave up. `host` must answer for all of
/// 10.77.0.128/25.
///
/// # Errors
/// If a machine is told what it must not be told.
///
/// # Panics
/// If a thread cannot be had.
pub fn run(load: &Load, host: &Host, server: Ipv4Addr) -> Result<Outcome, Failure> {
    let server = SocketAddrV4::new(server, DISCOVERY_PORT);
    let open = || (0..ADDRESSES).map(|number| socket::open(address(number), server)).collect();
    let sockets: Vec<UdpSocket> = host.enter(|| -> io::Result<_> { open() })?;
    let work = || {
        let mut core = CpuSet::new();
        core.set(load.core);
        sched_setaffinity(None, &core)?;
        Crowd::new(load, server, sockets)?.run()
    };
    thread::scope(|scope| scope.spawn(work).join()).expect("the machines' thread ends well")
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// When it asked first.
    asked_at: Duration,
    /// How often it has asked.
    asked: u8,
    /// It has an answer, or gave up.
    is_done: bool,
}

#[derive(Debug)]
struct Crowd<'a> {
    load: &'a Load,
    machines: Machines,
    sockets: Vec<UdpSocket>,
    epoll: OwnedFd,
    /// No answer of a boot server is longer.
    inlet: Inlet<64, 2048>,
    outlet: Outlet,
    began: Instant,
    progress: Vec<Progress>,
    /// Machines that have asked.
    begun: usize,
    /// Those that wait after each of their questions, in order of time.
    waiting: [VecDeque<(Duration, usize)>; WAITS.len()],
    waits: Vec<Duration>,
    unanswered: usize,
    last_answer: Duration,
    late: Duration,
    idle: Duration,
}

impl<'a> Crowd<'a> {
    fn new(load: &'a Load, server: SocketAddrV4, sockets: Vec<UdpSocket>) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, socket) in (0..).zip(&sockets) {
            epoll::add(&epoll, socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        }
        Ok(Self {
            load,
            machines: Machines::new(load, *server.ip()),
            sockets,
            epoll,
            inlet: Inlet::new(),
            outlet: Outlet::new(),
            began: Instant::now(),
            progress: vec![Progress::default(); load.machines],
            begun: 0,
            waiting: Default::default(),
            waits: Vec::with_capacity(load.machines),
            unanswered: 0,
            last_answer: Duration::ZERO,
            late: Duration::ZERO,
            idle: Duration::ZERO,
        })
    }

    fn run(mut self) -> Result<Outcome, Failure> {
        let mut events = Vec::with_capacity(ADDRESSES);
        self.began = Instant::now();
        while self.waits.len() + self.unanswered < self.load.machines {
            let now = self.began.elapsed();
            self.repeat(now)?;
            let asked = self.begin_more(now)?;
            events.clear();
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&none))?;
            for event in &events {
                self.read(event.data.u64() as usize)?;
            }
            if events.is_empty() && asked == 0 {
                self.idle += self.began.elapsed().saturating_sub(now);
            }
        }
        Ok(self.outcome())
    }

    /// How many machines have begun by then.
    fn due(&self, now: Duration) -> usize {
        let due = match self.load.pace {
            Pace::Window(window) => self.waits.len() + self.unanswered + window,
            Pace::Over(span) => {
                (self.load.machines as u128 * now.as_nanos() / span.as_nanos().max(1)) as usize + 1
            }
        };
        due.min(self.load.machines)
    }

    /// Has those ask whose time it is, some at a time, and tells how many did.
    fn begin_more(&mut self, now: Duration) -> Result<usize, Failure> {
        let due = self.due(now);
        let count = due.saturating_sub(self.begun);
        // Together they cost less, and who waits for others' answers can wait for some more.
        let few =
            matches!(self.load.pace, Pace::Window(_)) && due < self.load.machines && count < TOGETHER / 2;
        if count == 0 || few {
            return Ok(0);
        }
        // No further than the next socket's machines.
        let end = due.min((self.begun / TOGETHER + 1) * TOGETHER);
        for number in self.begun..end {
            self.outlet.put(self.machines.question(number));
        }
        let now = self.began.elapsed();
        let sent = self.outlet.send(&self.sockets[self.machines.socket(self.begun)])?;
        for number in self.begun..self.begun + sent {
            self.progress[number] = Progress { asked_at: now, asked: 1, is_done: false };
            self.waiting[0].push_back((now + WAITS[0], number));
        }
        if let Pace::Over(span) = self.load.pace {
            let at = span.mul_f64(self.begun as f64 / self.load.machines as f64);
            self.late = self.late.max(now.saturating_sub(at));
        }
        self.begun += sent;
        Ok(sent)
    }

    /// Has those ask again whose patience is over, or give up.
    fn repeat(&mut self, now: Duration) -> Result<(), Failure> {
        for step in 0..WAITS.len() {
            while let Some((_, number)) = self.waiting[step].front().copied().filter(|(at, _)| *at <= now) {
                self.waiting[step].pop_front();
                if self.progress[number].is_done {
                    continue;
                }
                let Some(wait) = WAITS.get(step + 1) else {
                    self.progress[number].is_done = true;
                    self.unanswered += 1;
                    continue;
                };
                self.outlet.put(self.machines.question(number));
                // What the kernel has no room for is as good as lost.
                self.outlet.send(&self.sockets[self.machines.socket(number)])?;
                self.progress[number].asked += 1;
                self.waiting[step + 1].push_back((now + *wait, number));
            }
        }
        Ok(())
    }

    fn read(&mut self, socket: usize) -> Result<(), Failure> {
        let count = self.inlet.receive(&self.sockets[socket], usize::MAX)?;
        let now = self.began.elapsed();
        for datagram in 0..count {
            let number = self.machines.hear(self.inlet.datagram(datagram).0).map_err(Failure::Wrong)?;
            let progress = self.progress.get_mut(number).filter(|it| it.asked > 0);
            let progress =
                progress.ok_or_else(|| Failure::Wrong(format!("machine {number} has not asked")))?;
            // Who asked twice may be answered twice, and who gave up hears nothing.
            if !std::mem::replace(&mut progress.is_done, true) {
                self.waits.push(now.saturating_sub(progress.asked_at));
                self.last_answer = now;
            }
        }
        Ok(())
    }

    fn outcome(mut self) -> Outcome {
        self.waits.sort_unstable();
        let at = |percent: usize| {
            let index = self.waits.len().saturating_sub(1) * percent / 100;
            self.waits.get(index).copied().unwrap_or_default()
        };
        Outcome {
            answered: self.waits.len(),
            unanswered: self.unanswered,
            retried: self.progress.iter().filter(|machine| machine.asked > 1).count(),
            elapsed: self.last_answer,
            waits: [at(50), at(99), at(100)],
            late: self.late,
            busy: 1.0 - self.idle.as_secs_f64() / self.began.elapsed().as_secs_f64(),
        }
    }
}
