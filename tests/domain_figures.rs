//! Figures of the domain, in simulated time; part of `tests/bench`. The same on every machine.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use driver::Time;
use sim::clock::Clock;
use sim::scenario::{Scenario, Wants, catalog, host};
use sim::{Fault, LinkFaults, Rules};

use crate::line;

/// Members of the larger figures, as the issue has it.
const MEMBERS: u8 = 32;
/// Clearings measured.
const CLEARINGS: u16 = 200;
/// Claims that everybody knows in the steady state.
const CLAIMS: u16 = 64;
const STEADY: Duration = Duration::from_secs(60);
const MTFTP: Ipv4Addr = host(200);

/// Boot servers that have found each other, and an MTFTP server with so many files `f0`, `f1`, …
fn members(loss_ppm: u32, count: u8, files: u16) -> (Scenario, Vec<usize>) {
    let mut world = Scenario::new(1, LinkFaults::loss(loss_ppm), Rules::Ours);
    world.pool = (1, 254);
    let names: Vec<String> = (0..files).map(|number| format!("f{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.mtftp(MTFTP, &names, Clock::new(0, 0), Time::ZERO);
    let binlds =
        (1..=count).map(|number| world.binld(host(number), &[], Clock::new(0, 0), Time::ZERO)).collect();
    world.run_ms(15_000);
    (world, binlds)
}

fn wants(world: &mut Scenario, binld: usize, files: &[u16]) {
    let items: Vec<Wants> =
        files.iter().map(|number| Wants::dynamic(*number, &format!("f{number}"), &[MTFTP])).collect();
    world.world.at(world.world.now(), Fault::Reload(binld, catalog(&items)));
}

fn until(world: &mut Scenario, done: impl Fn(&Scenario) -> bool) -> Time {
    for _ in 0..200_000 {
        if done(world) {
            break;
        }
        world.run_us(50);
    }
    world.world.now()
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn percentile(spans: &[Duration], percent: usize) -> f64 {
    let at = (spans.len() * percent / 100).min(spans.len().saturating_sub(1));
    spans.get(at).copied().map_or(0.0, millis)
}

/// From the first question to the commit, while all members answer.
fn early_clear() {
    let (mut world, binlds) = members(10_000, MEMBERS, CLEARINGS);
    let mut spans = Vec::new();
    for (number, binld) in (0..CLEARINGS).zip(binlds.iter().copied().cycle()) {
        let before = world.counter(binld, "clearing.started");
        let committed = world.counter(binld, "claim.committed");
        wants(&mut world, binld, &[number]);
        let began = until(&mut world, |world| world.counter(binld, "clearing.started") > before);
        let ended = until(&mut world, |world| world.counter(binld, "claim.committed") > committed);
        spans.push(ended.since(began));
        wants(&mut world, binld, &[]);
        world.run_ms(1000);
    }
    spans.sort_unstable();
    let early: u64 = binlds.iter().map(|binld| world.counter(*binld, "clear.early")).sum();
    println!("\nEarly clear: {MEMBERS} members, 1 % loss, {CLEARINGS} clearings, {early} of them early");
    line("p50", &format!("{:.1} ms", percentile(&spans, 50)), "<= 5 ms");
    line("p99", &format!("{:.1} ms", percentile(&spans, 99)), "<= 50 ms");
    line("worst", &format!("{:.1} ms", percentile(&spans, 100)), "-");
}

/// A change, and what it costs that everybody knows everything all the time.
fn steady() {
    let (mut world, binlds) = members(0, MEMBERS, CLAIMS);
    for (index, binld) in (0..).zip(&binlds) {
        wants(&mut world, *binld, &[2 * index, 2 * index + 1]);
    }
    world.run_ms(20_000);
    let sent = Rc::new(RefCell::new(vec![0_usize; binlds.len()]));
    let counted = Rc::clone(&sent);
    let observer = binlds.first().copied().unwrap_or(0);
    let other = binlds.get(1).copied().unwrap_or(0);
    world.drop_if(move |_, passing| {
        // A multicast passes once for each receiver; it is counted once.
        let witness = if passing.from == observer { other } else { observer };
        let counts = !passing.destination.ip().is_multicast() || passing.to == witness;
        let index = passing.from.checked_sub(observer).filter(|_| counts);
        let mut counted = counted.borrow_mut();
        if let Some(bytes) = index.and_then(|index| counted.get_mut(index)) {
            *bytes += passing.bytes.len();
        }
        false
    });
    world.run_ms(u64::try_from(STEADY.as_millis()).unwrap_or(0));
    let most = sent.borrow().iter().copied().max().unwrap_or(0);
    world.world.drop_nothing();
    let known = |world: &Scenario, count: usize| {
        binlds.iter().skip(1).filter(|binld| world.status(**binld).replicas.len() > count).count()
    };
    let before = world.status(other).replicas.len();
    let claims = 2 * usize::from(MEMBERS);
    println!("\nSteady state: {MEMBERS} members, {claims} claims");
    line(
        "sent by the busiest member, without headers",
        &format!("{:.0} B/s", most as f64 / STEADY.as_secs_f64()),
        "<= 5000 B/s",
    );
    let committed = world.counter(observer, "claim.committed");
    wants(&mut world, observer, &[0, 1, 2]);
    let told = until(&mut world, |world| world.counter(observer, "claim.committed") > committed);
    let all = until(&mut world, |world| known(world, before) == binlds.len() - 1);
    line("a change has reached all", &format!("{:.2} ms", millis(all.since(told))), "<= 50 ms");
}

/// All of them.
pub(crate) fn print() {
    early_clear();
    steady();
}
