//! The same race again and again: how often does nobody notice?
//!
//! `races.md` § 2.1 and its tables T1, T4, T5 and T6b come from a model of the protocol; here the real core runs the
//! same races. What the model does not have is taken out of the way: datagrams are lost on the query port only, evenly;
//! statements (`hold`), announcements, and the echoes of MTFTP servers are dropped unless the table has them, and each
//! boot server is alone in its domain, so that no replicated claim helps. The
//! foreground schedule has four queries; a race of k queries drops the first 4 − k of each boot server, which is deaf
//! until then, as if it had begun so much later. The address is the pinned one, which all want at once; its schedule is
//! that of any other.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use driver::{Draw, Time};
use wire::control::Message;
use wire::query::Opcode;
use wire::{Content, GroupAddr};

use crate::binld_host::BinldHost;
use crate::check::Rules;
use crate::client::{Client, ClientKind};
use crate::clock::Clock;
use crate::legacy::{Legacy, LegacyPlan};
use crate::link::LinkFaults;
use crate::scenario::{PINNED, QUERY, Scenario, Wants, group, host, name};
use crate::seed::stream;
use crate::world::{Fault, Passing, QUERY_PORT};

/// Between queries, and after the last.
const INTERVAL: Duration = Duration::from_millis(100);
/// Queries of the foreground schedule.
const FOREGROUND_QUERIES: u32 = 4;
/// From the start of the boot servers to the middle of the span in which their clients ask: they know by then that they
/// are alone (G24), and have not yet a list of boot servers, which would begin the clearing anew.
const ASKED_AFTER: Duration = Duration::from_millis(2500);
/// Start jitter, twice, and a little: the span of the clients' questions is longer by that.
const SLACK: Duration = Duration::from_millis(50);

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Races that count.
    pub races: u64,
    /// Those at whose end two have the address.
    pub duplicates: u64,
    /// Of these, those in which the later one had heard no query of the other before it began to ask itself.
    pub unheard: u64,
}

impl Count {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            races: self.races + other.races,
            duplicates: self.duplicates + other.duplicates,
            unheard: self.unheard + other.unheard,
        }
    }
}

/// Somebody holds the address, `defenders` of them (1, or 2 with its MTFTP server), and one that does not know asks
/// `queries` times (T1). Passing knowledge has no part in it: the claimant is a legacy peer, which learns nothing.
#[must_use]
pub fn held(seed: u64, races: u64, loss_ppm: u32, queries: u32, defenders: u32) -> Count {
    let mut world = Scenario::new(seed, LinkFaults::NONE, Rules::Ours);
    let clock = Clock::new(0, 0);
    let mtftp = world.mtftp(host(3), &["f"], clock, Time::ZERO);
    let binld = world.binld(host(1), &[Wants::dynamic(1, "f", &[host(3)])], clock, Time::ZERO);
    world.run_ms(10_000);
    let mut plan = LegacyPlan::literal(QUERY, content(99), vec![group(1)]);
    plan.queries = queries;
    plan.wait = INTERVAL;
    let span = INTERVAL * queries + Duration::from_millis(10);
    let legacy = world.legacy(host(99), plan, world.world.now());
    let mut draw = stream(seed, "loss");
    world.drop_if(move |_, passing| {
        let asks = passing.from == legacy && is_query(passing);
        let defends = passing.to == legacy && is_echo(passing) && (passing.from == binld || defenders > 1);
        debug_assert!(passing.from == mtftp || passing.from == binld || passing.from == legacy);
        // Whatever else the claimant might say or hear is not in the model.
        (passing.from == legacy || passing.to == legacy) && !((asks || defends) && !draw.chance(loss_ppm))
    });
    let mut count = Count::default();
    for _ in 0..races {
        world.run_ms(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        count.races += 1;
        count.duplicates += u64::from(has(&world, legacy));
        again(&mut world, &[legacy]);
    }
    count
}

/// Boot servers as the source has them, `servers` of them, start within 50 ms, each with a content of its own, and ask
/// `queries` times (T5, the seed's rule). Each takes the lowest free address of `pool`, or any.
#[must_use]
pub fn seed_rule(seed: u64, races: u64, loss_ppm: u32, servers: u8, queries: u32, pool: Pick) -> Count {
    let mut world = Scenario::new(seed, LinkFaults::loss(loss_ppm), Rules::SeedLiteral);
    let mut draw = stream(seed, "picks");
    let mut count = Count::default();
    for _ in 0..races {
        world.world = crate::World::new(draw.bits(), LinkFaults::loss(loss_ppm), Rules::SeedLiteral);
        let nodes: Vec<usize> = (1..=servers)
            .map(|number| {
                let candidates = match pool {
                    Pick::Lowest => (1..=200).map(group).collect(),
                    Pick::Random => shuffled(&mut draw),
                };
                let mut plan = LegacyPlan::literal(QUERY, content(number), candidates);
                plan.queries = queries;
                plan.wait = INTERVAL;
                let start_at = Time::ZERO + draw.jitter(Duration::from_millis(50));
                world.legacy(host(number), plan, start_at)
            })
            .collect();
        let span = (INTERVAL * queries + INTERVAL) * u32::from(servers + 1);
        assert_eq!(world.world.run_for(span), Ok(()));
        let mut taken: Vec<_> = nodes.iter().filter_map(|node| legacy(&world, *node)?.has()).collect();
        taken.sort_unstable();
        count.races += 1;
        count.duplicates += u64::from(taken.windows(2).any(|pair| pair.first() == pair.last()));
    }
    count
}

/// How a seed-exact server picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The lowest that its database does not know as used.
    Lowest,
    /// Any of 256.
    Random,
}

fn shuffled(draw: &mut Draw) -> Vec<GroupAddr> {
    let mut all: Vec<GroupAddr> = (0..=255).map(group).collect();
    for at in (1..all.len()).rev() {
        all.swap(at, usize::try_from(draw.below(at as u64 + 1)).unwrap_or(0));
    }
    all
}

/// Two of our boot servers ask for the same address, the first queries less than a window apart (T4): counted are
/// races in which that came out so. What the later one overhears before it begins to ask is noted, and kept from it: so
/// both can be counted, races with that knowledge, as the model has it, and without.
#[must_use]
pub fn tie(seed: u64, races: u64, loss_ppm: u32, queries: u32, apart: Duration) -> Count {
    let mut arena = Arena::new(seed, loss_ppm, queries, None);
    let mut count = Count::default();
    for _ in 0..races {
        arena.race(apart);
        let state = arena.state.borrow();
        let [Some(first), Some(second)] = state.asked_at else { continue };
        let between = first.since(second).max(second.since(first));
        if between >= apart {
            continue;
        }
        count.races += 1;
        if arena.binlds.iter().all(|node| arena.has_committed(*node)) {
            count.duplicates += 1;
            count.unheard += u64::from(!state.overheard);
        }
    }
    count
}

/// One of ours, four queries, asks; a legacy peer asks once while ours does, and waits so long (T6b). `greater` says
/// whether ours has the greater key, and so objects instead of yielding.
#[must_use]
pub fn mixed(seed: u64, races: u64, loss_ppm: u32, wait: Duration, greater: bool) -> Count {
    let mut plan = LegacyPlan::literal(
        QUERY,
        content(if greater { 0 } else { 99 }),
        GroupAddr::new(PINNED).into_iter().collect(),
    );
    plan.wait = wait;
    // Each race says when.
    plan.asked_after = Duration::from_secs(3600);
    let mut arena = Arena::new(seed, loss_ppm, FOREGROUND_QUERIES, Some(plan));
    let mut count = Count::default();
    for _ in 0..races {
        arena.race(Duration::ZERO);
        let state = arena.state.borrow();
        let [Some(ours), Some(theirs)] = state.asked_at else { continue };
        if theirs < ours || theirs.since(ours) >= INTERVAL * FOREGROUND_QUERIES {
            continue;
        }
        count.races += 1;
        let legacy = arena.legacy.is_some_and(|node| has(&arena.world, node));
        count.duplicates += u64::from(legacy && arena.has_committed(arena.binlds[0]));
    }
    count
}

/// What the filter sees of one race.
#[derive(Debug, Default)]
struct Seen {
    /// Queries of each of the two.
    queries: [u32; 2],
    /// When the first one that counts went out.
    asked_at: [Option<Time>; 2],
    /// One that asks later has heard a query of the other.
    overheard: bool,
}

/// Two claimants, both boot servers of ours, or the second one a legacy peer.
struct Arena {
    world: Scenario,
    binlds: Vec<usize>,
    clients: Vec<usize>,
    legacy: Option<usize>,
    legacy_wait: Option<Duration>,
    state: Rc<RefCell<Seen>>,
    draw: Draw,
}

impl Arena {
    fn new(seed: u64, loss_ppm: u32, queries: u32, legacy: Option<LegacyPlan>) -> Self {
        let mut world = Scenario::new(seed, LinkFaults::NONE, Rules::Ours);
        world.one_domain = false;
        let clock = Clock::new(0, 0);
        let ours: &[u8] = if legacy.is_some() { &[1] } else { &[1, 2] };
        let (mut binlds, mut clients) = (Vec::new(), Vec::new());
        for number in ours {
            world.mtftp(host(number + 2), &["f"], clock, Time::ZERO);
            let wants = Wants { preclear: false, ..Wants::pinned(1, "f", &[host(number + 2)]) };
            binlds.push(world.binld(host(*number), &[wants], clock, Time::ZERO));
            let address = Ipv4Addr::new(10, 0, 1, *number);
            clients.push(world.client(address, ClientKind::Ipxe, 1, &[host(*number)], Vec::new()));
        }
        let legacy_wait = legacy.as_ref().map(|plan| plan.wait);
        let legacy = legacy.map(|plan| world.legacy(host(99), plan, Time::ZERO));
        world.run_ms(100);
        let state = Rc::new(RefCell::new(Seen::default()));
        let duel = [binlds[0], legacy.unwrap_or_else(|| binlds[1])];
        let mut losses = stream(seed, "loss");
        let skipped = FOREGROUND_QUERIES - queries;
        let seen = Rc::clone(&state);
        let ours = binlds.clone();
        world.drop_if(move |now, passing| {
            if passing.destination.port() != QUERY_PORT {
                // Files may be asked for; no address is configured, and nobody says what it holds.
                return passing.control().is_some_and(|envelope| says_more(&envelope.message));
            }
            let (Some(from), Some(to)) = (place(duel, passing.from), place(duel, passing.to)) else {
                return true;
            };
            let mut seen = seen.borrow_mut();
            let skipped = |side: usize| if ours.contains(&duel[side]) { skipped } else { 0 };
            if is_query(passing) {
                seen.queries[from] += 1;
                let number = seen.queries[from];
                if number <= skipped(from) || number > FOREGROUND_QUERIES {
                    return true;
                }
                seen.asked_at[from].get_or_insert(now);
            }
            let lost = losses.chance(loss_ppm);
            let deaf = seen.asked_at[to].is_none();
            seen.overheard |= deaf && !lost;
            lost || deaf
        });
        Self { world, binlds, clients, legacy, legacy_wait, state, draw: stream(seed, "offsets") }
    }

    /// From a fresh start of both to a time when both windows are over.
    fn race(&mut self, apart: Duration) {
        *self.state.borrow_mut() = Seen::default();
        let nodes: Vec<usize> = self.binlds.iter().copied().chain(self.legacy).collect();
        again(&mut self.world, &nodes);
        assert_eq!(self.world.world.run_for(Duration::ZERO), Ok(()));
        let world = &mut self.world.world;
        let (now, spread) = (world.now(), apart + SLACK);
        for (side, client) in self.clients.iter().enumerate() {
            // One in the middle of the span in which the other is: so they are any time apart with the same chance.
            let later = if side == 0 { spread } else { self.draw.jitter(spread * 2) };
            let asks_at = now + ASKED_AFTER + later;
            let node = &mut world.nodes[*client];
            let local = node.local(asks_at);
            if let Some(client) = node.program_mut::<Client>() {
                client.start_at(local);
            }
            world.poke(*client);
        }
        let mut lasts = ASKED_AFTER + spread * 2 + INTERVAL * (FOREGROUND_QUERIES + 1) + SLACK;
        if let Some((legacy, wait)) = self.legacy.zip(self.legacy_wait) {
            let asks_at = now + ASKED_AFTER + self.draw.jitter(INTERVAL * FOREGROUND_QUERIES + SLACK);
            let node = &mut world.nodes[legacy];
            let local = node.local(asks_at);
            if let Some(legacy) = node.program_mut::<Legacy>() {
                legacy.asked_at(local);
            }
            world.poke(legacy);
            lasts += INTERVAL * FOREGROUND_QUERIES + wait;
        }
        assert_eq!(world.run_for(lasts), Ok(()));
    }

    fn has_committed(&self, node: usize) -> bool {
        let host = &self.world.world.nodes[node];
        let status = host.program::<BinldHost>().and_then(|it| it.status(host.local(self.world.world.now())));
        status.is_some_and(|status| status.claims.iter().any(|claim| claim.stamp.is_some()))
    }
}

fn place(duel: [usize; 2], node: usize) -> Option<usize> {
    duel.iter().position(|there| *there == node)
}

fn says_more(message: &Message) -> bool {
    match message {
        Message::Configure(configure) => configure.group().is_some(),
        Message::Hold(_) | Message::Delete(_) => true,
        Message::Ack(_)
        | Message::Nak(_)
        | Message::DeleteForDead(_)
        | Message::Superseded(_)
        | Message::Hello(_)
        | Message::Connect(_)
        | Message::Welcome(_)
        | Message::Refuse(_)
        | Message::Disconnect(_)
        | Message::SyncList(_)
        | Message::Flood(_)
        | Message::FloodAck(_)
        | Message::ClearAsk(_)
        | Message::ClearAnswer(_)
        | Message::LoanAsk(_)
        | Message::LoanAnswer(_)
        | Message::Told(_)
        | Message::Inquiry(_)
        | Message::Declare(_)
        | Message::Revoke(_)
        | Message::Further(_) => false,
    }
}

/// These lose all they know and start again.
fn again(world: &mut Scenario, nodes: &[usize]) {
    let now = world.world.now();
    for node in nodes {
        for fault in [Fault::Crash(*node), Fault::LoseStore(*node), Fault::Start(*node)] {
            world.world.at(now, fault);
        }
    }
}

fn content(number: u8) -> Content {
    Content { server: host(number), file: name("legacy") }
}

fn legacy(world: &Scenario, node: usize) -> Option<&Legacy> {
    world.world.nodes[node].program::<Legacy>()
}

fn has(world: &Scenario, node: usize) -> bool {
    legacy(world, node).is_some_and(|legacy| legacy.has().is_some())
}

fn is_query(passing: &Passing<'_>) -> bool {
    passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Query)
}

fn is_echo(passing: &Passing<'_>) -> bool {
    passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Echo)
}
