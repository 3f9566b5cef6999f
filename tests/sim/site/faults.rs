//! What a site goes through, drawn from a seed: members leave or die, parts are cut off, and all must be one again.

use std::time::Duration;

use driver::Draw;
use peers::limits::{DIAMETER_MAX, LINKS_MAX};
use peers::lowest::Constants;

use super::{Site, Ways};

/// What it went through, and how long the worst took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faced {
    /// Members that left or died.
    pub departures: u32,
    /// Cuts.
    pub cuts: u32,
    /// From a departure until all that live are connected.
    pub connected_within: Duration,
    /// From the end of a cut until all are connected and know the same.
    pub rejoined_within: Duration,
    /// The widest that the site was, in hops.
    pub diameter: u32,
}

impl Faced {
    /// Both.
    pub fn add(&mut self, other: &Self) {
        self.departures += other.departures;
        self.cuts += other.cuts;
        self.connected_within = self.connected_within.max(other.connected_within);
        self.rejoined_within = self.rejoined_within.max(other.rejoined_within);
        self.diameter = self.diameter.max(other.diameter);
    }
}

/// Three faults of a site of two to six segments with one to five members each. A site that was cut must be one again within
/// `most`; one that somebody left, when a neighbour's silence can be noticed and another one asked.
///
/// # Errors
/// What did not hold.
pub fn face(seed: u64, ways: Ways, constants: Constants, most: Duration) -> Result<Faced, String> {
    let mut draw = Draw::from_seed(seed ^ 0x517e);
    let mut number = |bound: u64| u8::try_from(draw.below(bound)).unwrap_or(0);
    let (segments, members) = (2 + number(5), 1 + number(5));
    let mut site = Site::grown(seed, (segments, members), ways, constants);
    let mut faced = Faced::default();
    let whole = |site: &Site| site.graph().is_connected() && site.agrees();
    let wrong = |what: &str| format!("seed {seed}, {segments} segments of {members}: {what}");
    site.until(constants.rest * 10, whole).ok_or_else(|| wrong("never was one"))?;
    site.run_for(constants.look * 20);
    for _ in 0..3 {
        let Some(host) = site.any() else { break };
        site.claim(host);
        let fault = number(3);
        if fault == 2 {
            let count = 1 + number(u64::from(segments) - 1);
            let cut_off: Vec<u8> = (0..count).collect();
            site.cut(&cut_off);
            let span = Duration::from_secs(5 + u64::from(number(90)));
            site.run_for(span);
            // Each side has noticed that its neighbours on the other one are gone, and found others.
            let is_apart = (0..2).any(|side| !site.graph_of_side(side).is_connected());
            if span >= constants.rest * 5 && is_apart {
                return Err(wrong("a side of a cut fell apart"));
            }
            site.claim(host);
            site.heal();
            faced.cuts += 1;
            let took = site.until(most, whole).ok_or_else(|| wrong("it was not rejoined"))?;
            faced.rejoined_within = faced.rejoined_within.max(took);
        } else {
            if fault == 0 {
                site.stop(host);
            } else {
                site.crash(host);
            }
            faced.departures += 1;
            let took = site.until(constants.rest * 4, |site| site.graph().is_connected());
            faced.connected_within =
                faced.connected_within.max(took.ok_or_else(|| wrong("a hole was left"))?);
        }
        site.run_for(constants.look * 10);
        if site.domain(host).is_none() {
            site.start(host);
        }
        site.until(constants.rest * 5, whole).ok_or_else(|| wrong("who left did not come back"))?;
        let (diameter, (_, neighbours)) = (site.graph().diameter(), site.neighbours());
        faced.diameter = faced.diameter.max(diameter);
        if neighbours > LINKS_MAX {
            return Err(wrong("too many neighbours"));
        }
        let took = site.until(constants.look * 20, |site| site.graph().diameter() <= DIAMETER_MAX);
        took.ok_or_else(|| wrong("it stays too wide"))?;
    }
    Ok(faced)
}

/// So many seeds; what came of those that held, and the words of those that did not.
#[must_use]
pub fn face_many(seeds: u64, ways: Ways, constants: Constants, most: Duration) -> (Faced, Vec<String>) {
    let (mut all, mut wrong) = (Faced::default(), Vec::new());
    for seed in 0..seeds {
        match face(seed, ways, constants, most) {
            Ok(faced) => all.add(&faced),
            Err(what) => wrong.push(what),
        }
    }
    (all, wrong)
}
