//! The segment: what happens to a datagram on its way to one receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use driver::{Draw, Time};

use crate::seed::stream;

/// Two that were cut off from each other may answer otherwise than each other for so long: that the other one lives is known
/// within a second, and which of the file servers do after their next answers.
const APART: Duration = Duration::from_secs(5);

/// Two-state loss: good, and bursts in which most is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bursts {
    /// Chance that a datagram begins a burst, in parts per million.
    pub begin_ppm: u32,
    /// How long a burst lasts at most.
    pub longest: Duration,
    /// Loss within it, in parts per million.
    pub loss_ppm: u32,
}

/// What the link does, to every receiver on its own. Chances are in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkFaults {
    /// Loss, the same at all times.
    pub loss_ppm: u32,
    /// Loss in bursts.
    pub bursts: Option<Bursts>,
    /// A second copy arrives.
    pub duplicate_ppm: u32,
    /// One bit is flipped (and the checksum is not there, or wrong too).
    pub corrupt_ppm: u32,
    /// The end is missing.
    pub truncate_ppm: u32,
    /// Shortest way.
    pub delay_min: Duration,
    /// Longest ordinary way; delays are drawn one by one, so datagrams overtake each other.
    pub delay_max: Duration,
    /// A datagram that takes up to `tail_max` longer.
    pub tail_ppm: u32,
    /// See `tail_ppm`.
    pub tail_max: Duration,
    /// A host hears groups only some time up to this after it has started: switches take it in slowly.
    pub join_max: Duration,
}

impl LinkFaults {
    /// A good switch: 50 to 200 µs, nothing is lost.
    pub const NONE: Self = Self {
        loss_ppm: 0,
        bursts: None,
        duplicate_ppm: 0,
        corrupt_ppm: 0,
        truncate_ppm: 0,
        delay_min: Duration::from_micros(50),
        delay_max: Duration::from_micros(200),
        tail_ppm: 0,
        tail_max: Duration::ZERO,
        join_max: Duration::ZERO,
    };

    /// Even loss and nothing else.
    #[must_use]
    pub const fn loss(loss_ppm: u32) -> Self {
        Self { loss_ppm, ..Self::NONE }
    }
}

/// One copy that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// When.
    pub at: Time,
    /// What arrives.
    pub bytes: Vec<u8>,
    /// Whether it is what was sent.
    pub intact: bool,
}

/// What became of a datagram on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing arrives: lost.
    Lost,
    /// Nothing arrives: the way was cut.
    Cut,
    /// Nothing arrives: the switch does not pass the group on to that host.
    Pruned,
    /// Nothing arrives: a test took this one out.
    Dropped,
    /// These arrive.
    Arrives(Vec<Copy>),
}

#[derive(Debug)]
struct Way {
    draw: Draw,
    burst_until: Time,
}

/// The link between all hosts, by number of sender and receiver.
#[derive(Debug)]
pub struct Link {
    seed: u64,
    faults: LinkFaults,
    ways: BTreeMap<(usize, usize), Way>,
    cuts: BTreeSet<(usize, usize)>,
    /// Ways that were cut, and until when.
    mended: BTreeMap<(usize, usize), Time>,
    is_light: bool,
    /// Until when a host hears no group.
    deaf_until: BTreeMap<usize, Time>,
}

impl Link {
    /// A link with its own streams of randomness, one per way.
    #[must_use]
    pub fn new(seed: u64, faults: LinkFaults) -> Self {
        Self {
            seed,
            faults,
            ways: BTreeMap::new(),
            cuts: BTreeSet::new(),
            mended: BTreeMap::new(),
            is_light: false,
            deaf_until: BTreeMap::new(),
        }
    }

    /// All ways from one host share one stream of randomness.
    pub fn make_light(&mut self) {
        self.is_light = true;
    }

    /// Other faults from now on.
    pub fn set_faults(&mut self, faults: LinkFaults) {
        self.faults = faults;
    }

    /// Nothing of `from` reaches `to` any more; the other way stays.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Whether one of two hosts did not hear the other just now, or in the last five seconds.
    #[must_use]
    pub fn is_cut_between(&self, now: Time, one: usize, other: usize) -> bool {
        [(one, other), (other, one)].iter().any(|way| {
            let was_cut = self.mended.get(way).is_some_and(|mended_at| now.since(*mended_at) < APART);
            was_cut || self.cuts.contains(way)
        })
    }

    /// All ways are open again.
    pub fn heal(&mut self, now: Time) {
        self.mended.extend(self.cuts.iter().map(|way| (*way, now)));
        self.cuts.clear();
        self.deaf_until.clear();
    }

    /// A host starts, and joins its groups.
    pub fn join(&mut self, now: Time, node: usize) {
        let join_max = self.faults.join_max;
        if !join_max.is_zero() {
            let mut draw = stream(self.seed ^ now.as_nanos(), &format!("join {node}"));
            self.prune(now + draw.jitter(join_max), node);
        }
    }

    /// No group reaches that host before then: snooping without a querier has forgotten it (G20).
    pub fn prune(&mut self, until: Time, node: usize) {
        self.deaf_until.insert(node, until);
    }

    /// Whether everything arrives that is sent, unaltered and soon.
    #[must_use]
    pub fn is_good(&self, now: Time) -> bool {
        let LinkFaults { loss_ppm, bursts, corrupt_ppm, truncate_ppm, tail_ppm, .. } = self.faults;
        bursts.is_none()
            && loss_ppm + corrupt_ppm + truncate_ppm + tail_ppm == 0
            && self.cuts.is_empty()
            && self.deaf_until.values().all(|until| *until <= now)
    }

    /// Decides about one datagram on one way; `group` says that it is sent to one.
    pub fn carry(&mut self, now: Time, (from, to): (usize, usize), group: bool, bytes: &[u8]) -> Verdict {
        if self.cuts.contains(&(from, to)) {
            return Verdict::Cut;
        }
        if group && self.deaf_until.get(&to).is_some_and(|until| now < *until) {
            return Verdict::Pruned;
        }
        let seed = self.seed;
        let faults = self.faults;
        let to = if self.is_light { usize::MAX } else { to };
        let way = self.ways.entry((from, to)).or_insert_with(|| Way {
            draw: stream(seed, &format!("link {from} {to}")),
            burst_until: Time::ZERO,
        });
        if way.is_lost(now, &faults) {
            return Verdict::Lost;
        }
        let count = if way.draw.chance(faults.duplicate_ppm) { 2 } else { 1 };
        Verdict::Arrives((0..count).map(|_| way.copy(now, &faults, bytes)).collect())
    }
}

impl Way {
    fn is_lost(&mut self, now: Time, faults: &LinkFaults) -> bool {
        if let Some(bursts) = faults.bursts {
            if now < self.burst_until && self.draw.chance(bursts.loss_ppm) {
                return true;
            }
            if now >= self.burst_until && self.draw.chance(bursts.begin_ppm) {
                self.burst_until = now + self.draw.jitter(bursts.longest);
                return true;
            }
        }
        self.draw.chance(faults.loss_ppm)
    }

    fn copy(&mut self, now: Time, faults: &LinkFaults, bytes: &[u8]) -> Copy {
        let mut delay =
            faults.delay_min + self.draw.jitter(faults.delay_max.saturating_sub(faults.delay_min));
        if self.draw.chance(faults.tail_ppm) {
            delay += self.draw.jitter(faults.tail_max);
        }
        let mut arriving = bytes.to_vec();
        if self.draw.chance(faults.corrupt_ppm) {
            let bit = usize::try_from(self.draw.below(arriving.len() as u64 * 8)).unwrap_or(0);
            if let Some(byte) = arriving.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        if self.draw.chance(faults.truncate_ppm) {
            arriving.truncate(usize::try_from(self.draw.below(arriving.len() as u64)).unwrap_or(0));
        }
        Copy { at: now + delay, intact: arriving == bytes, bytes: arriving }
    }
}
