//! The world: one clock, one queue of events, one step at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use binld::engine::catalog::Catalog;
use driver::{Draw, Role, Time, Transmit};
use wire::control::Envelope;
use wire::query::{Opcode, Query};

use crate::binld_host::BinldHost;
use crate::check::convergence::Convergence;
use crate::check::references::Ledger;
use crate::check::{Checks, Done, Heard, Rules, Violation};
use crate::client::Client;
use crate::client::DISCOVERY_PORT;
use crate::clock::Clock;
use crate::legacy::Legacy;
use crate::link::{Copy, Link, LinkFaults};
use crate::mtftp_host::MtftpHost;
use crate::node::Node;
use crate::program::{Effect, Program, Standing};
use crate::replies::Replies;
use crate::seed::stream;
use crate::trace::{describe, is_exchange, is_hello};

mod send;
mod watch;

/// Steps without time going on after which the world says that somebody is in a loop.
const STEPS_AT_ONE_INSTANT_MAX: u32 = 10_000;
/// The port of queries and echoes.
pub const QUERY_PORT: u16 = 4015;

/// Something that happens to the world from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A process dies.
    Crash(usize),
    /// A dead process starts again.
    Start(usize),
    /// A process does nothing for so long, and then everything.
    Pause(usize, Duration),
    /// The kernel of a host has no room for queries and echoes for so long (G26).
    Deaf(usize, Duration),
    /// Nothing of the first reaches the second.
    Cut(usize, usize),
    /// All ways are open.
    Heal,
    /// The link changes.
    Link(LinkFaults),
    /// Somebody sets a host's wall clock.
    WallStep(usize, i64),
    /// A boot server reads a new configuration.
    Reload(usize, Catalog),
    /// Writes fail with this chance, in parts per million.
    StoreFails(u32),
    /// A dead process's store is replaced by an empty one.
    LoseStore(usize),
    /// No group reaches that host for so long (G20).
    Prune(usize, Duration),
}

/// What the checks look at a host for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Binld,
    Mtftp,
    Other,
}

/// What a host has just been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Hello,
    Datagram,
    Timeout,
    Other,
}

#[derive(Debug)]
enum Event {
    Arrive {
        node: usize,
        datagram: u64,
        from: SocketAddrV4,
        to: SocketAddrV4,
        copy: Copy,
    },
    Wake {
        node: usize,
        wake: u64,
    },
    Stored {
        node: usize,
        boot: u64,
    },
    Opened {
        node: usize,
        boot: u64,
    },
    Happen(Fault),
    /// The members of domains are looked at.
    Compare,
}

/// A datagram on its way, as a test may look at it.
#[derive(Debug)]
pub struct Passing<'a> {
    /// Number of the sending host.
    pub from: usize,
    /// Number of the receiving host.
    pub to: usize,
    /// The address it is sent to.
    pub destination: SocketAddrV4,
    /// What it says.
    pub bytes: &'a [u8],
}

impl Passing<'_> {
    /// The query or echo in it.
    #[must_use]
    pub fn query(&self) -> Option<(Opcode, Query)> {
        Query::decode(self.bytes).ok()
    }

    /// The control message in it.
    #[must_use]
    pub fn control(&self) -> Option<Envelope> {
        Envelope::decode(self.bytes).ok()
    }
}

type Filter = Box<dyn FnMut(Time, &Passing<'_>) -> bool>;

/// The world.
pub struct World {
    /// From which everything is drawn.
    pub seed: u64,
    /// The hosts, by number.
    pub nodes: Vec<Node>,
    /// The checks.
    pub checks: Checks,
    /// What clients were told.
    pub replies: Replies,
    /// What MTFTP servers must remember.
    pub ledger: Ledger,
    /// Steps made.
    pub steps: u64,
    /// Whether the checks look at every step. A world of a thousand hosts is measured, not checked.
    pub is_checked: bool,
    /// Whether each event is printed.
    pub tracing: bool,
    /// The lines of the story so far, if it is to be kept.
    pub transcript: Option<RefCell<Vec<String>>>,
    kinds: Vec<Kind>,
    by_address: BTreeMap<Ipv4Addr, Vec<usize>>,
    /// Hosts that may hear groups.
    hear_groups: Vec<usize>,
    now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    link: Link,
    filters: Vec<Filter>,
    draw: Draw,
    store_fails_ppm: u32,
    steps_here: u32,
    rules: Rules,
    convergence: Convergence,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now", &self.now).finish_non_exhaustive()
    }
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, faults: LinkFaults, rules: Rules) -> Self {
        Self {
            seed,
            nodes: Vec::new(),
            checks: Checks::new(rules),
            replies: Replies::default(),
            ledger: Ledger::default(),
            steps: 0,
            is_checked: true,
            tracing: false,
            transcript: None,
            kinds: Vec::new(),
            by_address: BTreeMap::new(),
            hear_groups: Vec::new(),
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            link: Link::new(seed, faults),
            filters: Vec::new(),
            draw: stream(seed, "world"),
            store_fails_ppm: 0,
            steps_here: 0,
            rules,
            convergence: Convergence::default(),
        }
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Adds a host, which starts at `start_at`; gives its number.
    pub fn add(
        &mut self,
        name: &str,
        address: Ipv4Addr,
        clock: Clock,
        program: Box<dyn Program>,
        start_at: Time,
    ) -> usize {
        self.nodes.push(Node::new(self.seed, name, address, clock, program));
        let number = self.nodes.len() - 1;
        let node = &self.nodes[number];
        self.kinds.push(if node.program::<BinldHost>().is_some() {
            Kind::Binld
        } else if node.program::<MtftpHost>().is_some() {
            Kind::Mtftp
        } else {
            Kind::Other
        });
        if node.program::<Client>().is_none() {
            self.hear_groups.push(number);
        }
        self.by_address.entry(address).or_default().push(number);
        if node.program::<Legacy>().is_some() {
            self.checks.on_legacy(number);
        }
        self.at(start_at, Fault::Start(number));
        number
    }

    /// Something will happen.
    pub fn at(&mut self, at: Time, fault: Fault) {
        self.push(at, Event::Happen(fault));
    }

    /// That host sends this, whatever its program thinks.
    pub fn say(&mut self, from: usize, transmit: &Transmit) {
        self.send(from, transmit);
    }

    /// A test has changed that host's program: it is asked what it wants done now.
    pub fn poke(&mut self, node: usize) {
        self.settle(node);
    }

    /// All ways from one host share one stream of randomness: a thousand hosts have a million ways.
    pub fn make_light(&mut self) {
        self.is_checked = false;
        self.link.make_light();
    }

    /// Every datagram for which this is true is lost; local ones are not asked about.
    pub fn drop_if(&mut self, filter: impl FnMut(Time, &Passing<'_>) -> bool + 'static) {
        self.filters.push(Box::new(filter));
    }

    /// No more of them.
    pub fn drop_nothing(&mut self) {
        self.filters.clear();
    }

    fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Goes on for so long, or until a check fails.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Violation> {
        let until = self.now + span;
        self.run_until(until, |_| false)?;
        self.now = until;
        Ok(())
    }

    /// Goes on until `done`, at most for so long. Gives whether it was done.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn run_while(
        &mut self,
        span: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Violation> {
        let until = self.now + span;
        self.run_until(until, |world| done(world))
    }

    fn run_until(&mut self, until: Time, mut done: impl FnMut(&Self) -> bool) -> Result<bool, Violation> {
        if done(self) {
            return Ok(true);
        }
        while let Some(entry) = self.queue.first_entry() {
            let (at, _) = *entry.key();
            if at > until {
                break;
            }
            let event = entry.remove();
            self.steps_here = if at == self.now { self.steps_here + 1 } else { 0 };
            self.now = at;
            self.step(event);
            if let Some(violation) = self.checks.violations.first() {
                return Err(violation.clone());
            }
            if done(self) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn step(&mut self, event: Event) {
        self.steps += 1;
        let node = match &event {
            Event::Arrive { node, .. } | Event::Wake { node, .. } => Some(*node),
            Event::Stored { node, boot } | Event::Opened { node, boot } => {
                if self.nodes[*node].boots != *boot || !self.nodes[*node].is_up() {
                    return;
                }
                Some(*node)
            }
            Event::Happen(_) | Event::Compare => None,
        };
        // A paused host hears everything later, in the order in which it came.
        if let Some(until) = node.map(|node| self.nodes[node].paused_until).filter(|until| *until > self.now)
        {
            return self.push(until, event);
        }
        match event {
            Event::Arrive { node, datagram, from, to, copy } => {
                self.arrive(node, datagram, (from, to), &copy);
            }
            Event::Wake { node, wake } => {
                if self.nodes[node].wake == wake {
                    self.nodes[node].wakes_at = None;
                    if self.nodes[node].is_up() {
                        self.nodes[node].on_timeout(self.now);
                        self.carry_out(node, Input::Timeout, None);
                    }
                }
            }
            Event::Stored { node, .. } => {
                let works = !self.draw.chance(self.store_fails_ppm);
                self.nodes[node].on_stored(self.now, works);
                self.settle(node);
                if self.kinds[node] == Kind::Mtftp && self.is_checked {
                    self.compare(node);
                }
            }
            Event::Opened { node, .. } => {
                self.nodes[node].on_opened(self.now);
                self.settle(node);
            }
            Event::Happen(fault) => self.happen(fault),
            Event::Compare => self.compare_members(),
        }
    }

    fn happen(&mut self, fault: Fault) {
        self.trace(|| format!("*** {fault:?}"));
        match fault {
            Fault::Crash(node) => {
                if self.nodes[node].is_up() {
                    self.nodes[node].crash(&mut self.draw);
                    self.checks.on_crash(node);
                    self.replies.on_crash(node);
                }
            }
            Fault::Start(node) => {
                if !self.nodes[node].is_up() {
                    self.start(node);
                }
            }
            Fault::LoseStore(node) => {
                if !self.nodes[node].is_up() {
                    self.nodes[node].lose_store();
                    self.ledger.on_store_lost(node);
                    self.checks.on_store_lost(node);
                    self.replies.on_store_lost(self.now, node, self.nodes[node].address);
                }
            }
            Fault::Prune(node, span) => self.link.prune(self.now + span, node),
            Fault::Pause(node, span) => self.nodes[node].paused_until = self.now + span,
            Fault::Deaf(node, span) => self.nodes[node].deaf_until = self.now + span,
            Fault::Cut(from, to) => self.link.cut(from, to),
            Fault::Heal => self.link.heal(self.now),
            Fault::Link(faults) => self.link.set_faults(faults),
            Fault::StoreFails(ppm) => {
                self.store_fails_ppm = ppm;
                self.checks.expected.store_fails = ppm > 0;
            }
            Fault::Reload(node, catalog) => {
                let local = self.nodes[node].local(self.now);
                if let Some(binld) = self.nodes[node].program_mut::<BinldHost>() {
                    binld.reload(local, catalog);
                }
                self.settle(node);
            }
            Fault::WallStep(node, by_ms) => {
                self.nodes[node].on_wall_step(self.now, by_ms);
                self.settle(node);
            }
        }
    }

    fn arrive(&mut self, node: usize, datagram: u64, (from, to): (SocketAddrV4, SocketAddrV4), copy: &Copy) {
        let now = self.now;
        if !self.nodes[node].is_up() {
            return;
        }
        self.nodes[node].traffic.on_heard(copy.bytes.len());
        if to.port() == QUERY_PORT && now < self.nodes[node].deaf_until {
            return self.nodes[node].on_dropped();
        }
        if !self.is_checked {
            self.nodes[node].on_datagram(now, from, to, &copy.bytes);
            self.settle(node);
            return;
        }
        if !is_hello(&copy.bytes) {
            self.trace(|| format!("{} <- {from} {}", self.nodes[node].name, describe(&copy.bytes)));
        }
        let query = (to.port() == QUERY_PORT).then(|| Query::decode(&copy.bytes).ok()).flatten();
        let Some((opcode, query)) = query.filter(|_| copy.intact) else {
            return self.arrive_unchecked(node, (from, to), copy);
        };
        let standings = self.nodes[node].standings(now, query.group);
        let is_binld = self.kinds[node] == Kind::Binld;
        let own = is_binld && *from.ip() == self.nodes[node].address;
        let name = self.nodes[node].name.clone();
        let foreign_query = opcode == Opcode::Query && !own;
        let heard = Heard { name: &name, query: &query, foreign_query, standings: &standings };
        self.checks.on_heard(now, datagram, node, &heard);
        // To the letter of the source a server that asks looks up its database, and its own question is not in it.
        let asks = standings.iter().any(|(_, standing)| *standing == Standing::Pending);
        if self.rules == Rules::SeedLiteral && is_binld && asks && opcode == Opcode::Query {
            return;
        }
        let refusals = self.refusals(node);
        self.nodes[node].on_datagram(now, from, to, &copy.bytes);
        let echoed = self.settle_and_look(node, &query);
        if opcode == Opcode::Query {
            let standings = self.nodes[node].standings(now, query.group);
            let done = Done { echoed, refused: self.refusals(node) > refusals, standings };
            self.checks.after_query(now, datagram, node, &heard, &done);
        }
    }

    /// Anything but an unaltered query or echo.
    fn arrive_unchecked(&mut self, node: usize, (from, to): (SocketAddrV4, SocketAddrV4), copy: &Copy) {
        let now = self.now;
        let hello = is_hello(&copy.bytes);
        match self.kinds[node] {
            Kind::Binld if !hello => self.replies.on_control(now, node, from, copy),
            Kind::Mtftp if self.nodes[node].door(to) == Some(Role::Control) => {
                if !copy.intact {
                    self.replies.on_altered(*from.ip(), *to.ip());
                }
                self.ledger.on_heard(now, node, from, copy);
            }
            Kind::Other if copy.intact && from.port() == DISCOVERY_PORT => {
                let at_it = self.by_address.get(from.ip()).into_iter().flatten();
                if let Some(binld) = at_it.copied().find(|node| self.kinds[*node] == Kind::Binld) {
                    let world = (self.nodes.as_slice(), &self.link);
                    self.replies.on_arrival(now, binld, world, &copy.bytes, &mut self.checks);
                }
            }
            Kind::Binld | Kind::Mtftp | Kind::Other => {}
        }
        self.nodes[node].on_datagram(now, from, to, &copy.bytes);
        let input = if hello { Input::Hello } else { Input::Datagram };
        self.carry_out(node, input, None);
        if self.kinds[node] == Kind::Mtftp && !hello {
            self.compare(node);
        }
    }

    fn settle(&mut self, node: usize) {
        self.carry_out(node, Input::Other, None);
    }

    /// Carries everything out, and says whether an echo of that query was in it.
    fn settle_and_look(&mut self, node: usize, query: &Query) -> bool {
        self.carry_out(node, Input::Datagram, Some(&query.encode(Opcode::Echo)))
    }

    fn carry_out(&mut self, node: usize, input: Input, echo: Option<&[u8]>) -> bool {
        let mut echoed = false;
        let (mut caused, mut exchanged) = (0, 0);
        // A hello that changes nothing is heard thousands of times in a run.
        let mut quiet = matches!(input, Input::Hello | Input::Timeout);
        let tells = self.tracing();
        let effects = self.nodes[node].drain(tells);
        quiet &= input == Input::Hello || !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Send(transmit) => {
                    echoed |= Some(transmit.bytes.as_slice()) == echo;
                    let counted = if is_exchange(&transmit.bytes) { &mut exchanged } else { &mut caused };
                    *counted += usize::from(matches!(transmit.role, Role::Query | Role::Control));
                    quiet &= is_hello(&transmit.bytes);
                    self.send(node, &transmit);
                }
                Effect::Persist => {
                    quiet = false;
                    let boot = self.nodes[node].boots;
                    self.work(node, 20_000, Event::Stored { node, boot });
                }
                Effect::Open => {
                    let boot = self.nodes[node].boots;
                    self.work(node, 1_000, Event::Opened { node, boot });
                }
                Effect::Tell(text) => self.trace(|| format!("{}: {text}", self.nodes[node].name)),
                Effect::Alarm(alarm) => self.checks.on_alarm(self.now, &self.nodes[node].name, &alarm),
            }
        }
        if matches!(input, Input::Hello | Input::Datagram) && self.is_checked {
            self.checks.on_caused(self.now, &self.nodes[node].name, caused, exchanged);
        }
        if !quiet && self.is_checked {
            self.look(node);
        }
        self.wake(node);
        echoed
    }

    /// A disk is asked one thing after the other and takes up to so many µs for each.
    fn work(&mut self, node: usize, micros_max: u64, event: Event) {
        let span = Duration::from_micros(100 + self.draw.below(micros_max));
        let at = self.nodes[node].busy_until.max(self.now) + span;
        self.nodes[node].busy_until = at;
        self.push(at, event);
    }

    fn wake(&mut self, node: usize) {
        let deadline = self.nodes[node].next_deadline();
        let at = deadline.as_ref().map(|deadline| deadline.at.max(self.now));
        if at == self.nodes[node].wakes_at {
            return;
        }
        self.nodes[node].wake += 1;
        self.nodes[node].wakes_at = at;
        let Some(deadline) = deadline else { return };
        if self.steps_here > STEPS_AT_ONE_INSTANT_MAX {
            let text = format!("{} never gets on: {}", self.nodes[node].name, deadline.why);
            self.checks.fail(self.now, "livelock", text);
        }
        let wake = self.nodes[node].wake;
        self.push(deadline.at, Event::Wake { node, wake });
    }

    fn tracing(&self) -> bool {
        self.tracing || self.transcript.is_some()
    }

    #[expect(clippy::print_stdout, reason = "a replay is read by people")]
    fn trace(&self, line: impl FnOnce() -> String) {
        if !self.tracing() {
            return;
        }
        let line = format!("{:>12} {}", format!("{:?}", self.now), line());
        match &self.transcript {
            Some(lines) => lines.borrow_mut().push(line),
            None => println!("{line}"),
        }
    }
}
