//! Named races: at least one test per row of `races.md`, in few lines each, named by the row.
//!
//! | file | rows |
//! |---|---|
//! | `behalf` | who cleans up behind a dead boot server: G12 |
//! | `clearing` | who gets an address that several want: G1–G4, G6, G8, G9, G16, G18, G21–G23, G26, fairness |
//! | `early` | all say that they have nothing against it: T11 |
//! | `repair` | two that hold the same one: G4, Y4, Y5, Y7 |
//! | `pinned` | the pool of one: P1–P4 |
//! | `partition` | members cut off from each other: G5 |
//! | `slices` | who may ask for an address at all: G5 |
//! | `lives` | crashes, restarts, silence: G13, G17, G24, I5 |

mod behalf;
mod clearing;
mod early;
mod lives;
mod partition;
mod pinned;
mod repair;
mod slices;

use std::net::Ipv4Addr;
use std::time::Duration;

use binld::engine::claims::StateName;
use driver::Time;
use sim::clock::Clock;
use sim::legacy::Legacy;
use sim::scenario::{PINNED, Scenario, Wants, group, host};
use sim::world::Passing;
use sim::{ClientKind, Fault, LinkFaults, Rules};
use wire::GroupAddr;
use wire::control::Message;
use wire::query::Opcode;

const NOW: Time = Time::ZERO;
const TRUE_CLOCK: Clock = Clock::new(0, 0);
/// Longer than a background clearing, a record and a configure.
const LONG: u64 = 10_000;

fn at_ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn quiet(seed: u64) -> Scenario {
    Scenario::new(seed, LinkFaults::NONE, Rules::Ours)
}

/// Two boot servers whose contents differ, each with an MTFTP server of its own.
fn furnish(
    world: &mut Scenario,
    starts: [Time; 2],
    wants: fn(u8, Ipv4Addr) -> Wants,
) -> ([usize; 2], [usize; 2]) {
    let mtftps = [3, 4].map(|number| world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW));
    let binlds = [(1, starts[0]), (2, starts[1])].map(|(number, start_at)| {
        world.binld(host(number), &[wants(number, host(number + 2))], TRUE_CLOCK, start_at)
    });
    (binlds, mtftps)
}

/// The same, both starting at once, and each alone in its domain: what is told of is query and echo.
fn two(seed: u64, rules: Rules, wants: fn(u8, Ipv4Addr) -> Wants) -> (Scenario, [usize; 2], [usize; 2]) {
    let mut world = Scenario::new(seed, LinkFaults::NONE, rules);
    world.one_domain = false;
    let (binlds, mtftps) = furnish(&mut world, [NOW, NOW], wants);
    (world, binlds, mtftps)
}

fn dynamic(number: u8, server: Ipv4Addr) -> Wants {
    Wants::dynamic(u16::from(number), "f", &[server])
}

fn pinned(number: u8, server: Ipv4Addr) -> Wants {
    Wants::pinned(u16::from(number), "f", &[server])
}

fn states(world: &Scenario, binlds: [usize; 2]) -> [StateName; 2] {
    binlds.map(|binld| world.claim(binld).state)
}

fn is_echo(passing: &Passing<'_>) -> bool {
    passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Echo)
}

fn is_query(passing: &Passing<'_>) -> bool {
    passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Query)
}
