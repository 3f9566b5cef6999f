//! One host: a program, its clocks, and whether it runs.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Arrival, Deadline, Draw, Role, Time, Wall};
use peers::domain::Domain;
use wire::{Content, DomainId, GroupAddr, ServerId};

use crate::clock::Clock;
use crate::program::{Claimed, Door, Effect, Program, Standing};
use crate::seed::stream;

/// What a host sent and heard since it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Datagrams sent; one to a group counts once.
    pub sent: u64,
    /// Bytes in them, without headers.
    pub sent_bytes: u64,
    /// Datagrams heard.
    pub heard: u64,
    /// Bytes in them.
    pub heard_bytes: u64,
}

impl Traffic {
    /// It sends a datagram.
    pub fn on_sent(&mut self, bytes: usize) {
        self.sent += 1;
        self.sent_bytes += bytes as u64;
    }

    /// It hears one.
    pub fn on_heard(&mut self, bytes: usize) {
        self.heard += 1;
        self.heard_bytes += bytes as u64;
    }
}

/// A host.
#[derive(Debug)]
pub struct Node {
    /// For people.
    pub name: String,
    /// Its address; two hosts with one address are two programs on one machine.
    pub address: Ipv4Addr,
    /// How often it has started.
    pub boots: u64,
    /// Number of the wake-up that counts; earlier ones are ignored.
    pub wake: u64,
    /// When that is.
    pub wakes_at: Option<Time>,
    /// It does nothing until then, and then everything.
    pub paused_until: Time,
    /// Until then its kernel has no room for what comes in on the query port.
    pub deaf_until: Time,
    /// Whether it dropped something of which the program does not know yet.
    dropped: bool,
    /// What it sent and heard.
    pub traffic: Traffic,
    /// When its store and its directory are done with what they have.
    pub busy_until: Time,
    clock: Clock,
    up: bool,
    program: Box<dyn Program>,
    doors: Vec<Door>,
    draw: Draw,
}

impl Node {
    /// A host that has not started yet.
    #[must_use]
    pub fn new(seed: u64, name: &str, address: Ipv4Addr, clock: Clock, program: Box<dyn Program>) -> Self {
        Self {
            name: name.to_owned(),
            address,
            boots: 0,
            wake: 0,
            wakes_at: None,
            paused_until: Time::ZERO,
            deaf_until: Time::ZERO,
            dropped: false,
            traffic: Traffic::default(),
            busy_until: Time::ZERO,
            clock,
            up: false,
            doors: program.doors(),
            program,
            draw: stream(seed, &format!("node {name}")),
        }
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// What its program takes the true time for.
    #[must_use]
    pub fn local(&self, now: Time) -> Time {
        self.clock.local(now)
    }

    /// What its wall clock shows.
    #[must_use]
    pub fn wall(&self, now: Time) -> Wall {
        self.clock.wall(now)
    }

    /// The program, if it is of that type.
    #[must_use]
    pub fn program<P: Program>(&self) -> Option<&P> {
        (self.program.as_ref() as &dyn Any).downcast_ref()
    }

    /// The same, to change it between steps.
    pub fn program_mut<P: Program>(&mut self) -> Option<&mut P> {
        (self.program.as_mut() as &mut dyn Any).downcast_mut()
    }

    /// The process starts.
    pub fn start(&mut self, now: Time) {
        self.boots += 1;
        self.up = true;
        self.busy_until = now;
        self.wakes_at = None;
        self.clock.start(now);
        let draw = self.draw.fork();
        self.program.start(self.clock.local(now), self.clock.wall(now), draw);
    }

    /// The process dies.
    pub fn crash(&mut self, draw: &mut Draw) {
        self.up = false;
        self.program.crash(draw);
    }

    /// A dead process's store and name are gone.
    pub fn lose_store(&mut self) {
        self.program.lose_store(ServerId(self.draw.bytes16()));
    }

    /// Through which door a datagram to there comes in; `None` if it is not for this host.
    #[must_use]
    pub fn door(&self, to: SocketAddrV4) -> Option<Role> {
        self.doors.iter().find(|door| door.hears(self.address, to)).map(|door| door.role)
    }

    /// A datagram arrives. False if nobody is there to hear it.
    pub fn on_datagram(&mut self, now: Time, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) -> bool {
        let Some(role) = self.door(to).filter(|_| self.up) else { return false };
        let arrival = Arrival { role, from, to: *to.ip(), bytes };
        self.program.on_datagram(self.clock.local(now), self.clock.wall(now), &arrival);
        true
    }

    /// The kernel drops a datagram. The program looks for that before it takes silence for consent.
    pub fn on_dropped(&mut self) {
        self.dropped = true;
    }

    /// Its deadline has come.
    pub fn on_timeout(&mut self, now: Time) {
        if std::mem::take(&mut self.dropped) {
            self.program.on_deaf(self.clock.local(now));
        }
        self.program.on_timeout(self.clock.local(now));
    }

    /// The store answers the oldest write.
    pub fn on_stored(&mut self, now: Time, works: bool) {
        self.program.on_stored(self.clock.local(now), works);
    }

    /// The oldest file asked for is open, or not there.
    pub fn on_opened(&mut self, now: Time) {
        self.program.on_opened(self.clock.local(now));
    }

    /// Somebody sets the wall clock, and the program notices.
    pub fn on_wall_step(&mut self, now: Time, by_ms: i64) {
        self.clock.step_wall(by_ms);
        if self.up {
            self.program.on_wall(self.clock.local(now), self.clock.wall(now));
        }
    }

    /// Everything the program wants done, in order.
    pub fn drain(&mut self, tells: bool) -> Vec<Effect> {
        let effects = self.program.drain(tells);
        if !self.program.doors_stay() {
            self.doors = self.program.doors();
        }
        effects
    }

    /// The address that a datagram sent by that door comes from.
    #[must_use]
    pub fn source(&self, role: Role) -> SocketAddrV4 {
        let door = self.doors.iter().find(|door| door.role == role);
        SocketAddrV4::new(self.address, door.map_or(0, |door| door.port))
    }

    /// When the program wants to be called, in true time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let Deadline { at, why } = self.program.next_deadline().filter(|_| self.up)?;
        Some(Deadline { at: self.clock.when(at), why })
    }

    /// Its claims, if it is a boot server that runs.
    #[must_use]
    pub fn claims(&self, now: Time) -> Option<Vec<Claimed>> {
        if self.up { self.program.claims(self.clock.local(now)) } else { None }
    }

    /// The domain that it is a member of, its name there, and what it knows; while it runs.
    #[must_use]
    pub fn member(&self) -> Option<(DomainId, ServerId, &Domain)> {
        if self.up { self.program.member() } else { None }
    }

    /// What the address is to this host.
    #[must_use]
    pub fn standings(&self, now: Time, group: GroupAddr) -> Vec<(Content, Standing)> {
        if self.up { self.program.standings(self.clock.local(now), group) } else { Vec::new() }
    }
}
