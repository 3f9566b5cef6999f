//! Many seeds on all cores, and what came of them.
#![expect(
    clippy::disallowed_methods,
    reason = "how long it takes is measured, and printed, and decides nothing else"
)]

use std::cell::Cell;
use std::fmt;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::answers::Doubles;
use crate::check::Rules;
use crate::mix::{Outcome, play};

/// Failing seeds that are remembered in words.
const FAILURES_SHOWN: usize = 12;

/// When a swarm is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So many seeds are played.
    Seeds(u64),
    /// So much time has passed; a seed that was begun is played to its end.
    Passed(Duration),
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Seeds played.
    pub seeds: u64,
    /// Seeds that broke a rule.
    pub violations: u64,
    /// The first of them, with the command that plays one again.
    pub failures: Vec<String>,
    /// Simulated time.
    pub simulated: Duration,
    /// Time it took, on each of so many threads.
    pub took: Duration,
    /// Threads.
    pub threads: u32,
    /// Steps made.
    pub steps: u64,
    /// Duplicates that losses, or the rules of a legacy peer, explain.
    pub explained: u64,
    /// Seeds with a legacy peer.
    pub legacies: u64,
    /// Comparisons of MTFTP servers with the reference model.
    pub compared: u64,
    /// Answers to clients.
    pub answers: u64,
    /// Those of them that named a group address.
    pub multicast: u64,
    /// Answers of two servers to one question.
    pub doubles: Doubles,
    /// How long members took at most to know the same, while nothing was wrong.
    pub converged_within: Duration,
    /// Members of the largest world.
    pub members_most: usize,
}

thread_local! {
    static PLAYING: Cell<u64> = const { Cell::new(0) };
}

/// The command that plays a seed again and prints every event.
#[must_use]
pub fn replay_command(seed: u64) -> String {
    format!("PXEMC_SEED={seed} cargo test --release -p tests --test swarm replay -- --nocapture")
}

/// A panic in a core is a failing seed as well, and with `panic = "abort"` it is the last thing that is heard.
#[expect(clippy::print_stderr, reason = "a panic is told where panics are told")]
fn tell_seed_of_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            eprintln!("if this was in a swarm: {}", replay_command(PLAYING.get()));
        }));
    });
}

/// Plays seeds from `first` on, on all cores.
#[must_use]
pub fn run(first: u64, until: Until) -> Tally {
    tell_seed_of_panics();
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let began_at = Instant::now();
    let next = AtomicU64::new(0);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let goes_on = match until {
                Until::Seeds(count) => number < count,
                Until::Passed(span) => began_at.elapsed() < span,
            };
            if !goes_on {
                return tally;
            }
            let seed = first.wrapping_add(number);
            PLAYING.set(seed);
            tally.add(seed, &play(seed, Rules::Ours, false));
        }
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            tally.merge(worker.join().expect("a seed panicked; its number stands above"));
        }
    });
    tally.took = began_at.elapsed();
    tally.threads = u32::try_from(threads).unwrap_or(1);
    tally
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.steps += outcome.steps;
        self.explained += outcome.explained;
        self.legacies += u64::from(outcome.legacy);
        self.compared += outcome.compared;
        self.answers += outcome.answers.0;
        self.multicast += outcome.answers.1;
        self.doubles += outcome.doubles;
        self.converged_within = self.converged_within.max(outcome.converged_within);
        self.members_most = self.members_most.max(outcome.members);
        if let Some(violation) = &outcome.violation {
            self.violations += 1;
            let (rule, at, text) = (violation.rule, violation.at, &violation.text);
            let command = replay_command(seed);
            self.failures.push(format!("seed {seed}: {rule} at {at:?}: {text}\n    {command}"));
        }
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.violations += other.violations;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_SHOWN);
        self.simulated += other.simulated;
        self.steps += other.steps;
        self.explained += other.explained;
        self.legacies += other.legacies;
        self.compared += other.compared;
        self.answers += other.answers;
        self.multicast += other.multicast;
        self.doubles += other.doubles;
        self.converged_within = self.converged_within.max(other.converged_within);
        self.members_most = self.members_most.max(other.members_most);
    }

    /// Simulated seconds in one second of one core.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / (self.took.as_secs_f64() * f64::from(self.threads))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "swarm: {} seeds ({} with a legacy peer), {:.1} simulated hours, {:.0} simulated seconds per second and \
             core ({} cores, {:.0} s), {} answers ({} multicast; {} twice and the same, {} twice and once by plain TFTP, \
             {} differently by servers cut off from each other or from a file server), {} duplicates explained, up to {} members knew the \
             same after {:.1} s at most, {} violations",
            self.seeds,
            self.legacies,
            self.simulated.as_secs_f64() / 3600.0,
            self.speed(),
            self.threads,
            self.took.as_secs_f64(),
            self.answers,
            self.multicast,
            self.doubles.same,
            self.doubles.degraded,
            self.doubles.apart,
            self.explained,
            self.members_most,
            self.converged_within.as_secs_f64(),
            self.violations,
        )
    }
}
