//! Figures of a site of several segments, in simulated time; part of `tests/bench`. The same on every machine.

use std::time::Duration;

use peers::lowest::Constants;
use sim::site::churn::{Churn, Seen};
use sim::site::faults::face_many;
use sim::site::{Site, Ways};

use crate::line;

/// Seeds, unless the command line says otherwise: what issue 8 asks for.
pub(crate) const SEEDS: u32 = 2000;
/// The larger site.
const SHAPE: (u8, u8) = (8, 8);

fn faced(name: &str, seeds: u64, ways: Ways, constants: Constants, most: Duration) {
    let (all, wrong) = face_many(seeds, ways, constants, most);
    println!("\nA site of 2 to 6 segments, {name}: {} departures and {} cuts", all.departures, all.cuts);
    let held = seeds - wrong.len() as u64;
    line("connected after each of them", &format!("{held} of {seeds} seeds"), "all");
    line(
        "connected after a departure, at most",
        &format!("{:.2} s", all.connected_within.as_secs_f64()),
        "-",
    );
    let rejoined = format!("{:.2} s", all.rejoined_within.as_secs_f64());
    line("one again after a cut, at most", &rejoined, &format!("<= {} s", most.as_secs()));
    line("widest, in hops", &all.diameter.to_string(), "<= 4 after a while");
    wrong.iter().take(5).for_each(|what| println!("  {what}"));
}

fn copies(name: &str, ways: Ways, constants: Constants) {
    let mut site = Site::grown(1, SHAPE, ways, constants);
    let before = site.share_of_useless(Duration::from_secs(10));
    site.run_for(constants.look * 300);
    let after = site.share_of_useless(Duration::from_secs(60));
    site.take_sent();
    let span = 60;
    site.run_for(Duration::from_secs(span));
    let sent = site.take_sent();
    let members = sent.len().max(1) as u64;
    println!("\n{members} members on {} segments, {name}", SHAPE.0);
    let each = |share: f64| format!("{share:.1} for each useful one");
    line("useless copies over neighbour links, at first", &each(before), "-");
    line("the same when they are judged", &each(after), "fewer");
    let mean = sent.iter().sum::<u64>() / members / span;
    let most = sent.iter().max().copied().unwrap_or(0) / span;
    line("sent by a member, with headers", &format!("{mean} B/s"), "<= 5000 B/s");
    line("sent by the busiest", &format!("{most} B/s"), "-");
    let (least, many) = site.neighbours();
    line("neighbours, fewest and most", &format!("{least}, {many}"), "2 to 8");
    line("diameter, in hops", &site.graph().diameter().to_string(), "<= 4");
}

fn churned(name: &str, seeds: u64, ways: Ways, constants: Constants, most: Duration) {
    let churn = Churn { shape: SHAPE, rounds: 40, known: most, rejoined: most };
    let (mut all, mut wrong) = (Seen::default(), Vec::new());
    for seed in 0..seeds {
        match churn.play(seed, ways, constants) {
            Ok(seen) => all.add(&seen),
            Err(what) => wrong.push(what),
        }
    }
    println!("\n64 members that come and go, {name}: {} changes and {} cuts", all.changes, all.cuts);
    let bound = format!("<= {} s", most.as_secs());
    line(
        "all known to all and connected",
        &format!("{} of {seeds} seeds", seeds - wrong.len() as u64),
        "all",
    );
    line(
        "a claim and a note known to all, at most",
        &format!("{:.2} s", all.known_within.as_secs_f64()),
        &bound,
    );
    let rejoined = format!("{:.2} s", all.rejoined_within.as_secs_f64());
    line("the same after a cut of what was said on both sides", &rejoined, &bound);
    line("widest after a round, in hops", &all.diameter.to_string(), "<= 4 after a while");
    wrong.iter().take(5).for_each(|what| println!("  {what}"));
}

/// All of them.
pub(crate) fn print(seeds: u64) {
    println!("Neighbours beyond the link, in simulated time");
    copies("one building", Ways::LAN, Constants::LAN);
    copies("wide area", Ways::WAN, Constants::WAN);
    churned("one building", seeds / 50, Ways::LAN, Constants::LAN, Duration::from_secs(5));
    churned("wide area", seeds / 100, Ways::WAN, Constants::WAN, Duration::from_secs(20));
    faced("one building", seeds, Ways::LAN, Constants::LAN, Duration::from_secs(5));
    faced("wide area", seeds / 4, Ways::WAN, Constants::WAN, Duration::from_secs(20));
}
