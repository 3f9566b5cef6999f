//! A boot server that knows the source document and nothing else: it asks once, takes silence for consent, and echoes
//! queries for what its database says is in use (R003.4–R003.13). What it asks for itself is not in its database: it
//! neither defends that nor gives it up to another one's query. It tells nobody what it has, nor ever lets go of it.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Arrival, Deadline, Draw, Role, Time, Transmit, Wall};
use wire::query::{Opcode, Query};
use wire::{Content, GroupAddr, Layer, ServerId, ServerType};

use crate::program::{Claimed, Door, Effect, Program, Stage, Standing};

/// What it wants, and how it goes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyPlan {
    /// Where queries go.
    pub query: SocketAddrV4,
    /// The one content it wants an address for.
    pub content: Content,
    /// Addresses it tries, in this order.
    pub candidates: Vec<GroupAddr>,
    /// When a client asks it, counted from its start.
    pub asked_after: Duration,
    /// Queries for one address; the source has one.
    pub queries: u32,
    /// From one of them to the next.
    pub interval: Duration,
    /// From the last one until silence is consent.
    pub wait: Duration,
    /// It repeats the query of what it has that often. The source knows no such thing.
    pub announces: Option<Duration>,
}

impl LegacyPlan {
    /// To the letter: one query, a second of silence, no announcements.
    #[must_use]
    pub fn literal(query: SocketAddrV4, content: Content, candidates: Vec<GroupAddr>) -> Self {
        Self {
            query,
            content,
            candidates,
            asked_after: Duration::ZERO,
            queries: 1,
            interval: Duration::from_millis(100),
            wait: Duration::from_secs(1),
            announces: None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Asking {
    group: GroupAddr,
    sent: u32,
    next_at: Time,
}

/// The server.
#[derive(Debug)]
pub struct Legacy {
    plan: LegacyPlan,
    /// Its database, which survives: what others use, and what it has.
    used: BTreeSet<GroupAddr>,
    has: Option<GroupAddr>,
    asking: Option<Asking>,
    begin_at: Option<Time>,
    announce_at: Option<Time>,
    out: VecDeque<Transmit>,
}

impl Legacy {
    /// One that has not started yet.
    #[must_use]
    pub fn new(plan: LegacyPlan) -> Self {
        Self {
            plan,
            used: BTreeSet::new(),
            has: None,
            asking: None,
            begin_at: None,
            announce_at: None,
            out: VecDeque::new(),
        }
    }

    /// The address it has.
    #[must_use]
    pub fn has(&self) -> Option<GroupAddr> {
        self.has
    }

    /// A client asks it then, by its own time; [`World::poke`](crate::World::poke) it.
    pub fn asked_at(&mut self, at: Time) {
        self.begin_at = Some(at);
    }

    /// Whether it has done all it ever will: it has an address, or none was left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.asking.is_none() && self.begin_at.is_none()
    }

    fn query_for(&self, group: GroupAddr) -> Query {
        Query {
            content: self.plan.content.clone(),
            server_type: ServerType(1),
            layer: Layer(0),
            group,
            client_port: 3001,
        }
    }

    fn send(&mut self, to: SocketAddrV4, bytes: Vec<u8>) {
        self.out.push_back(Transmit { role: Role::Query, to, bytes });
    }

    /// The first address that its database does not know as used.
    fn try_next(&mut self, now: Time) {
        let mut candidates = self.plan.candidates.iter().copied();
        let free = candidates.find(|group| !self.used.contains(group));
        self.asking = free.map(|group| Asking { group, sent: 0, next_at: now });
        self.go_on(now);
    }

    fn go_on(&mut self, now: Time) {
        let Some(asking) = &mut self.asking else { return };
        if now < asking.next_at {
            return;
        }
        let group = asking.group;
        if asking.sent >= self.plan.queries {
            self.asking = None;
            self.has = Some(group);
            self.announce_at = self.plan.announces.map(|interval| now + interval);
            return;
        }
        asking.sent += 1;
        let last = asking.sent == self.plan.queries;
        asking.next_at = now + if last { self.plan.wait } else { self.plan.interval };
        let query = self.query_for(group);
        self.send(self.plan.query, query.encode(Opcode::Query));
    }

    fn on_query(&mut self, from: SocketAddrV4, query: &Query) {
        if self.has == Some(query.group) && self.plan.content != query.content {
            self.send(from, query.encode(Opcode::Echo));
        }
    }

    fn on_echo(&mut self, now: Time, echoed: &Query) {
        if let Some(Asking { group, sent: 1.., .. }) = self.asking
            && self.query_for(group) == *echoed
        {
            self.used.insert(group);
            self.try_next(now);
        }
    }
}

impl Program for Legacy {
    fn start(&mut self, now: Time, _wall: Wall, _draw: Draw) {
        self.begin_at = self.has.is_none().then_some(now + self.plan.asked_after);
        self.announce_at = self.has.and(self.plan.announces).map(|interval| now + interval);
    }

    fn crash(&mut self, _draw: &mut Draw) {
        self.asking = None;
        self.begin_at = None;
        self.announce_at = None;
    }

    fn lose_store(&mut self, _fresh: ServerId) {
        self.has = None;
        self.used.clear();
    }

    fn doors(&self) -> Vec<Door> {
        vec![Door::unicast(Role::Query, self.plan.query.port()).and_group(*self.plan.query.ip())]
    }

    fn doors_stay(&self) -> bool {
        true
    }

    fn on_datagram(&mut self, now: Time, _wall: Wall, arrival: &Arrival<'_>) {
        match Query::decode(arrival.bytes) {
            Ok((Opcode::Query, query)) => self.on_query(arrival.from, &query),
            Ok((Opcode::Echo, query)) => self.on_echo(now, &query),
            Err(_) => {}
        }
    }

    fn on_timeout(&mut self, now: Time) {
        if self.begin_at.is_some_and(|at| at <= now) {
            self.begin_at = None;
            self.try_next(now);
        }
        self.go_on(now);
        if let (Some(at), Some(group), Some(interval)) = (self.announce_at, self.has, self.plan.announces)
            && at <= now
        {
            self.announce_at = Some(now + interval);
            self.send(self.plan.query, self.query_for(group).encode(Opcode::Query));
        }
    }

    fn drain(&mut self, _tells: bool) -> Vec<Effect> {
        self.out.drain(..).map(Effect::Send).collect()
    }

    fn next_deadline(&self) -> Option<Deadline> {
        let begin = self.begin_at.map(|at| Deadline { at, why: "a client asks a legacy server" });
        let asking = self.asking.map(|it| Deadline { at: it.next_at, why: "a legacy server's query" });
        let announce = self.announce_at.map(|at| Deadline { at, why: "a legacy server's announcement" });
        [begin, asking, announce].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }

    fn claims(&self, _now: Time) -> Option<Vec<Claimed>> {
        let claim = |group, stage| Claimed {
            content: self.plan.content.clone(),
            pinned: false,
            group: Some(group),
            stage,
        };
        let asks = self.asking.map(|asking| claim(asking.group, Stage::Asks));
        let has = self.has.map(|group| claim(group, Stage::Held));
        Some(asks.into_iter().chain(has).collect())
    }

    /// What it only asks for it does not stand on: nobody may expect an objection.
    fn standings(&self, _now: Time, group: GroupAddr) -> Vec<(Content, Standing)> {
        let has = self.has.filter(|there| *there == group);
        has.map(|_| (self.plan.content.clone(), Standing::Firm)).into_iter().collect()
    }
}
