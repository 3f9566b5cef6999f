//! Many worlds, each drawn from a seed. `PXEMC_SEEDS` says how many, `PXEMC_SEED` which one to replay.

use std::time::Duration;

use sim::Rules;
use sim::mix::play;

/// Seeds of one run, unless `PXEMC_SEEDS` says otherwise.
const SEEDS: u64 = 500;
/// Failing seeds that are printed.
const FAILURES_SHOWN: usize = 12;
/// Seeds that are played with and without the tie-break.
const SEEDS_OF_EACH_RULE: u64 = 60;

#[expect(clippy::disallowed_methods, reason = "a test has no configuration but its environment")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "only to print how long it took")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn replay_command(seed: u64) -> String {
    format!("PXEMC_SEED={seed} cargo test -p tests --test swarm replay -- --nocapture")
}

#[test]
fn no_seed_breaks_a_rule() {
    let seeds = number("PXEMC_SEEDS").unwrap_or(SEEDS);
    let (mut failures, mut simulated, mut steps, mut explained) = (Vec::new(), Duration::ZERO, 0, 0);
    let (mut answers, mut multicast, mut slowest) = (0, 0, (Duration::ZERO, 0));
    let began_at = now();
    for seed in 0..seeds {
        let seed_began_at = now();
        let outcome = play(seed, Rules::Ours, false);
        slowest = slowest.max((seed_began_at.elapsed(), seed));
        simulated += outcome.simulated;
        steps += outcome.steps;
        explained += outcome.explained;
        answers += outcome.answers.0;
        multicast += outcome.answers.1;
        if let Some(violation) = outcome.violation {
            let (rule, at, text) = (violation.rule, violation.at, violation.text);
            failures.push(format!("seed {seed}: {rule} at {at:?}: {text}\n    {}", replay_command(seed)));
        }
    }
    println!(
        "{seeds} seeds, {} h simulated in {:.1} s, {steps} steps, {answers} answers ({multicast} multicast), \
         {explained} duplicates explained by losses; slowest: seed {} in {:.2} s",
        simulated.as_secs() / 3600,
        began_at.elapsed().as_secs_f64(),
        slowest.1,
        slowest.0.as_secs_f64(),
    );
    // Worlds in which nothing happens would prove nothing.
    assert!(answers > seeds && multicast > 0);
    let count = failures.len();
    failures.truncate(FAILURES_SHOWN);
    assert!(count == 0, "{count} of {seeds} seeds failed:\n{}", failures.join("\n"));
}

#[test]
fn without_the_tie_break_seeds_break_uniqueness() {
    let breaks = |rules| {
        let outcomes = (0..SEEDS_OF_EACH_RULE).filter_map(move |seed| play(seed, rules, false).violation);
        outcomes.filter(|violation| violation.rule == "I1").count()
    };
    let (without, with) = (breaks(Rules::SeedLiteral), breaks(Rules::Ours));
    println!("of {SEEDS_OF_EACH_RULE} seeds {without} break I1 without the tie-break, {with} with it");
    assert!(without > 0);
    assert_eq!(with, 0);
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 0..5 {
        assert_eq!(play(seed, Rules::Ours, false), play(seed, Rules::Ours, false), "seed {seed}");
    }
}

#[test]
fn replay() {
    let Some(seed) = number("PXEMC_SEED") else {
        return println!("nothing to replay: set PXEMC_SEED");
    };
    let outcome = play(seed, Rules::Ours, true);
    println!("{outcome:#?}");
    assert_eq!(outcome.violation, None, "seed {seed}");
}
