//! Many worlds, each drawn from a seed. `PXEMC_SEEDS` says how many, `PXEMC_SEED` which one to replay; `tests/swarm`
//! plays them for as long as you like.

use sim::Rules;
use sim::mix::play;
use sim::swarm::{Until, run};

/// Seeds of one run, unless `PXEMC_SEEDS` says otherwise.
const SEEDS: u64 = 100;
/// Seeds that are played with and without the tie-break.
const SEEDS_OF_EACH_RULE: u64 = 40;

#[expect(clippy::disallowed_methods, reason = "a test has no configuration but its environment")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_seed_breaks_a_rule() {
    let tally = run(0, Until::Seeds(number("PXEMC_SEEDS").unwrap_or(SEEDS)));
    println!("{tally}");
    // Worlds in which nothing happens would prove nothing.
    assert!(tally.answers > tally.seeds && tally.multicast > 0);
    assert!(tally.members_most > 16, "the largest domain has {} members", tally.members_most);
    assert!(tally.compared > tally.seeds && tally.legacies > tally.seeds / 3);
    assert!(
        tally.violations == 0,
        "{} of {} seeds:\n{}",
        tally.violations,
        tally.seeds,
        tally.failures.join("\n")
    );
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
