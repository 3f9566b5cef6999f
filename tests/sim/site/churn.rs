//! Members of a large site come and go all the time, ways are cut, copies are lost: how soon does everybody know what is said?

use std::time::Duration;

use driver::Draw;
use peers::limits::{DIAMETER_MAX, LINKS_MAX};
use peers::lowest::Constants;
use wire::record::Uid;

use super::{Site, Ways};

/// What a round of churn is, and what must hold in it.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    /// Segments, and members of each.
    pub shape: (u8, u8),
    /// Rounds.
    pub rounds: u32,
    /// Of a claim and a note everybody must know within this, with members coming and going.
    pub known: Duration,
    /// The same from the end of a cut, of what was said on either side of it.
    pub rejoined: Duration,
}

/// What it went through, and how long the worst took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Members that left, died, or started.
    pub changes: u32,
    /// Cuts.
    pub cuts: u32,
    /// Claims and notes that all came to know, whose owner still lived then.
    pub known: u32,
    /// Until everybody knew a claim and a note, with members coming and going.
    pub known_within: Duration,
    /// From the end of a cut until everybody knew what was said on either side of it.
    pub rejoined_within: Duration,
    /// The widest that the site was at the end of a round, in hops.
    pub diameter: u32,
}

impl Seen {
    /// Both.
    pub fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.cuts += other.cuts;
        self.known += other.known;
        self.known_within = self.known_within.max(other.known_within);
        self.rejoined_within = self.rejoined_within.max(other.rejoined_within);
        self.diameter = self.diameter.max(other.diameter);
    }
}

impl Churn {
    /// Plays the rounds: of ten the seventh is a cut.
    ///
    /// # Errors
    /// What did not hold.
    pub fn play(&self, seed: u64, ways: Ways, constants: Constants) -> Result<Seen, String> {
        let mut draw = Draw::from_seed(seed ^ 0xc4c4);
        let mut site = Site::grown_telling(seed, self.shape, ways, constants);
        let whole = |site: &Site| site.graph().is_connected() && site.agrees();
        site.until(constants.rest * 10, whole).ok_or("it never was one")?;
        site.run_for(constants.look * 20);
        let mut seen = Seen::default();
        for round in 0..self.rounds {
            let wrong = |what: &str| format!("seed {seed}, round {round}: {what}");
            if round % 10 == 6 {
                let took =
                    self.cut(&mut site, &mut draw).ok_or_else(|| wrong("a cut left something unknown"))?;
                seen.rejoined_within = seen.rejoined_within.max(took);
                seen.cuts += 1;
            } else {
                seen.changes += change(&mut site, &mut draw);
                let said = say(&mut site).ok_or_else(|| wrong("nobody lives"))?;
                // More come and go while it is on its way.
                site.run_for(ways.routed);
                seen.changes += change(&mut site, &mut draw);
                let took = site.until(self.known, |site| said.iter().all(|uid| site.is_known(uid)));
                let took = took.ok_or_else(|| wrong("a claim or a note is not known to all"))?;
                seen.known_within = seen.known_within.max(took);
                seen.known +=
                    u32::try_from(said.iter().filter(|uid| site.is_there(uid)).count()).unwrap_or(0);
            }
            site.run_for(constants.look * 3 + draw.jitter(constants.look * 3));
            let graph = site.graph();
            seen.diameter = seen.diameter.max(graph.diameter());
            let took = site.until(constants.look * 20, |site| {
                let graph = site.graph();
                graph.is_connected() && graph.diameter() <= DIAMETER_MAX
            });
            took.ok_or_else(|| wrong("it falls apart, or stays too wide"))?;
            if site.neighbours().1 > LINKS_MAX {
                return Err(wrong("too many neighbours"));
            }
        }
        Ok(seen)
    }

    /// One to three segments are cut off for up to 40 s, and something is said on both sides.
    fn cut(&self, site: &mut Site, draw: &mut Draw) -> Option<Duration> {
        let segments: Vec<u8> = (0..=u8::try_from(draw.below(3)).unwrap_or(0)).collect();
        site.cut(&segments);
        site.run_for(Duration::from_secs(5 + draw.below(35)));
        let mut said = Vec::new();
        for _ in 0..4 {
            said.extend(say(site)?);
        }
        site.heal();
        site.until(self.rejoined, |site| said.iter().all(|uid| site.is_known(uid)))
    }
}

/// A claim and a note, of one that lives.
fn say(site: &mut Site) -> Option<[Uid; 2]> {
    let host = site.any()?;
    Some([site.claim(host)?, site.say(host)?])
}

/// One leaves, dies, or comes back; gives how many did. Nine in ten live.
fn change(site: &mut Site, draw: &mut Draw) -> u32 {
    let dead = site.dead();
    let Some(host) = site.any() else { return 0 };
    let place = usize::try_from(draw.below(dead.len() as u64)).unwrap_or(0);
    match (draw.below(3), dead.get(place)) {
        (_, Some(back)) if draw.below(10) < dead.len() as u64 => site.start(*back),
        (0, _) => site.crash(host),
        (1, _) => site.stop(host),
        _ => return 0,
    }
    1
}
