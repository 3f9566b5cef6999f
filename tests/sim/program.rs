//! What runs on a host: a daemon's core with its store, a client, a scripted peer.

use std::any::Any;
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Arrival, Deadline, Draw, Role, Time, Transmit, Wall};
use peers::domain::Domain;
use wire::{Content, DomainId, GroupAddr, ServerId};

/// Where a host hears datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// What the program is told it came through, and by which door it sends.
    pub role: Role,
    /// The port.
    pub port: u16,
    /// Whether it hears what is sent to the host's own address.
    pub own: bool,
    /// The groups it hears.
    pub groups: Vec<Ipv4Addr>,
}

impl Door {
    /// Hears its own address only.
    #[must_use]
    pub const fn unicast(role: Role, port: u16) -> Self {
        Self { role, port, own: true, groups: Vec::new() }
    }

    /// Hears that group as well.
    #[must_use]
    pub fn and_group(mut self, group: Ipv4Addr) -> Self {
        self.groups.push(group);
        self
    }

    /// Hears its groups only.
    #[must_use]
    pub fn groups_only(self) -> Self {
        Self { own: false, ..self }
    }

    /// Whether a datagram to there comes in here.
    #[must_use]
    pub fn hears(&self, own: Ipv4Addr, to: SocketAddrV4) -> bool {
        self.port == to.port() && ((self.own && *to.ip() == own) || self.groups.contains(to.ip()))
    }
}

/// How firmly a host stands on an address; the oracle of the checks, written apart from the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Asks for it.
    Pending,
    /// Has it: committed, draining, resting, or configured.
    Firm,
    /// Knows that another server has it, and may speak for that one (G25).
    ForAnother,
}

/// How far a claim to an address has come; of a boot server, whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Asks whether it is free.
    Asks,
    /// Had it before a restart, and asks again before it hands it out (Y7).
    AsksAgain,
    /// Committed, not handed out.
    Committed,
    /// Handed out.
    Held,
}

/// A claim to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// What the address shall carry.
    pub content: Content,
    /// Whether it is the claim to the pinned tuple.
    pub pinned: bool,
    /// The address; `None` while there is none to ask for.
    pub group: Option<GroupAddr>,
    /// How far it has come.
    pub stage: Stage,
}

/// What a program wants done.
#[derive(Debug)]
pub enum Effect {
    /// A datagram leaves.
    Send(Transmit),
    /// The store has work; it will say [`Program::on_stored`] once for each.
    Persist,
    /// A file is to be opened; answered by [`Program::on_opened`], once for each.
    Open,
    /// News, for the trace.
    Tell(String),
    /// News that the daemon's log has as an ERROR (L7).
    Alarm(Alarm),
}

/// What a daemon calls an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// The store did not take a change.
    Store,
    /// Anything else, in words.
    Other(String),
}

/// A program. The time it is told is its host's.
pub trait Program: Any + Debug {
    /// The process starts, with what survived.
    fn start(&mut self, now: Time, wall: Wall, draw: Draw) {
        let _ = (now, wall, draw);
    }

    /// The process dies. What is lost of the writes under way is drawn.
    fn crash(&mut self, draw: &mut Draw) {
        let _ = draw;
    }

    /// Everything it has stored is gone, and its name with it. It is dead when that happens.
    fn lose_store(&mut self, fresh: ServerId) {
        let _ = fresh;
    }

    /// Where it hears.
    fn doors(&self) -> Vec<Door>;

    /// Whether its doors never change while it runs; else they are asked for again after every input.
    fn doors_stay(&self) -> bool {
        false
    }

    /// A datagram came.
    fn on_datagram(&mut self, now: Time, wall: Wall, arrival: &Arrival<'_>);

    /// Time has passed.
    fn on_timeout(&mut self, now: Time);

    /// The kernel has dropped datagrams since the last time.
    fn on_deaf(&mut self, now: Time) {
        let _ = now;
    }

    /// The oldest write under way is done, or failed.
    fn on_stored(&mut self, now: Time, works: bool) {
        let _ = (now, works);
    }

    /// The oldest file asked for is open, or not there.
    fn on_opened(&mut self, now: Time) {
        let _ = now;
    }

    /// Somebody set the wall clock.
    fn on_wall(&mut self, now: Time, wall: Wall) {
        let _ = (now, wall);
    }

    /// Everything it wants done, in order; `tells` asks for news too.
    fn drain(&mut self, tells: bool) -> Vec<Effect>;

    /// When it wants to be called next.
    fn next_deadline(&self) -> Option<Deadline>;

    /// Its claims, if it is a boot server that lives.
    fn claims(&self, now: Time) -> Option<Vec<Claimed>> {
        let _ = now;
        None
    }

    /// The domain that it is a member of, its name there, and what it knows; while it lives.
    fn member(&self) -> Option<(DomainId, ServerId, &Domain)> {
        None
    }

    /// What the address is to it: every content it has there or asks for.
    fn standings(&self, now: Time, group: GroupAddr) -> Vec<(Content, Standing)> {
        let _ = (now, group);
        Vec::new()
    }
}
