//! How often two servers have one address and neither has noticed, right after clearing: counted with the real core,
//! beside what `races.md` § 2.1 and its tables predict. How the races are made like the model's is said in `duels`.
//!
//! `PXEMC_RACES=200000` plays that many for each row; `tests/duplicates` does it in release, and shows the tables.

use std::thread;
use std::time::Duration;

use sim::duels::{Count, Pick, held, mixed, seed_rule, tie};

/// Races of one row, unless `PXEMC_RACES` says otherwise.
const RACES: u64 = 1200;
/// Distance to a prediction that is still called agreement, in standard deviations.
const SIGMAS: f64 = 4.0;
const INTERVAL: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_methods, reason = "a test has no configuration but its environment")]
fn races() -> u64 {
    std::env::var("PXEMC_RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(RACES)
}

/// The races of one row, on all cores, each part with a seed of its own.
fn played(races: u64, part: impl Fn(u64, u64) -> Count + Sync) -> Count {
    let parts = thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let part = &part;
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..parts).map(|seed| scope.spawn(move || part(seed + 1, races.div_ceil(parts)))).collect();
        let counts = workers.into_iter().map(|worker| worker.join().expect("a part ends"));
        counts.fold(Count::default(), Count::and)
    })
}

/// Prints a row, and gives it back if it is further from the prediction than chance explains.
fn row(what: &str, hits: u64, races: u64, predicted: f64) -> Option<String> {
    let races = races as f64;
    let expected = races * predicted;
    // Of a handful of hits the normal distribution says little: never call less than four of them a deviation.
    let sigma = (expected * (1.0 - predicted)).sqrt().max(1.0);
    let off = (hits as f64 - expected) / sigma;
    let line = format!(
        "{what:<58} measured {:.2e} ({hits}/{races}), predicted {predicted:.2e}, {off:+.1} sigma",
        hits as f64 / races
    );
    #[expect(clippy::print_stdout, reason = "the table is what a longer run is for")]
    {
        println!("{line}");
    }
    (off.abs() > SIGMAS || races < 1.0).then_some(line)
}

fn assert_agree(rows: impl IntoIterator<Item = Option<String>>) {
    let off: Vec<String> = rows.into_iter().flatten().collect();
    assert!(off.is_empty(), "not within {SIGMAS} sigma:\n{}", off.join("\n"));
}

/// Chance that a query or its echo is lost.
fn exchange_lost(loss: f64) -> f64 {
    1.0 - (1.0 - loss).powi(2)
}

/// Loss in percent, as the link has it, and as formulas have it.
fn loss_of(percent: u32) -> (u32, f64) {
    (percent * 10_000, f64::from(percent) / 100.0)
}

#[test]
fn t1_of_a_held_address_queries_and_echoes_are_missed_as_often_as_the_formula_says() {
    println!("T1, an address that is held: P = q^(k R)");
    // (loss, k, R, what races.md T1 has)
    let cells = [
        (1, 1, 1, Some(1.99e-2)),
        (10, 1, 1, None),
        (10, 3, 1, Some(6.86e-3)),
        (20, 3, 1, None),
        (20, 1, 2, None),
        (20, 2, 2, None),
    ];
    assert_agree(cells.map(|(percent, queries, defenders, table): (u32, u32, u32, Option<f64>)| {
        let (ppm, loss) = loss_of(percent);
        let predicted = exchange_lost(loss).powi((queries * defenders).cast_signed());
        assert!(table.is_none_or(|table| (table / predicted - 1.0).abs() < 0.01), "T1 has {table:?}");
        let count = played(4 * races(), |seed, races| held(seed, races, ppm, queries, defenders));
        row(
            &format!("loss {percent} %, k {queries}, R {defenders}"),
            count.duplicates,
            count.races,
            predicted,
        )
    }));
}

/// T4 as a formula: k exchanges lost if the later one yields to what it hears, one more query and one echo less if it
/// objects; and of the earlier one's queries the later one overheard none before it began.
fn t4(loss: f64, queries: i32) -> f64 {
    let (p, q) = (loss, exchange_lost(loss));
    0.5 * (p.powi(queries) * q.powi(queries) + p.powi(queries + 1) * q.powi(queries - 1))
}

/// The same where nobody learns from what it overhears before it asks: of the earlier one's queries only those count
/// that come after the later one has begun, `gaps` intervals later at most.
fn t4_unlearned(loss: f64, queries: i32, gaps: i32) -> f64 {
    let (p, q) = (loss, exchange_lost(loss));
    let one =
        |gap: i32| p.powi(queries - gap - 1) * q.powi(queries) + p.powi(queries - gap) * q.powi(queries - 1);
    (0..gaps).map(one).sum::<f64>() / (2.0 * f64::from(gaps))
}

#[test]
fn t4_two_that_pick_the_same_go_unnoticed_as_often_as_the_model_says() {
    println!("T4, two claimants, tie-break, the later one less than a window behind");
    // Every cell of T4 above 1e-4, with what the table has.
    let cells =
        [(1, 1, 1.5e-4), (10, 1, 1.5e-2), (20, 1, 5.6e-2), (10, 2, 2.8e-4), (20, 2, 4.0e-3), (20, 3, 2.9e-4)];
    assert_agree(cells.into_iter().flat_map(|(percent, queries, table): (u32, u32, f64)| {
        let (ppm, loss) = loss_of(percent);
        let k = queries.cast_signed();
        let predicted = t4(loss, k);
        assert!((table / predicted - 1.0).abs() < 0.04, "T4 has {table}, the formula {predicted}");
        let count = played(races(), |seed, races| tie(seed, races, ppm, queries, INTERVAL * queries));
        let what = format!("loss {percent} %, k {queries}");
        [
            row(&format!("{what}, what is overheard counts"), count.unheard, count.races, predicted),
            row(
                &format!("{what}, nothing is overheard"),
                count.duplicates,
                count.races,
                t4_unlearned(loss, k, k),
            ),
        ]
    }));
}

#[test]
fn t5_the_seed_rule_fails_as_often_as_the_model_says_and_the_tie_break_does_not() {
    println!("T5, all start within 50 ms");
    let batches = races() / 12;
    let certain = [(2, 1), (2, 3), (10, 3)].map(|(servers, queries)| {
        let count =
            played(batches, |seed, races| seed_rule(seed, races, 10_000, servers, queries, Pick::Lowest));
        row(&format!("seed rule, {servers} servers, lowest, k {queries}"), count.duplicates, count.races, 1.0)
    });
    // Ten of 256: the birthday of it. The table has 336 of 2000.
    let birthday = 1.0 - (0..10).map(|taken| 1.0 - f64::from(taken) / 256.0).product::<f64>();
    let random = played(batches, |seed, races| seed_rule(seed, races, 10_000, 10, 3, Pick::Random));
    let random = row("seed rule, 10 servers, random of 256, k 3", random.duplicates, random.races, birthday);
    let apart = INTERVAL / 2;
    let ties = [1, 10, 20].map(|percent| {
        let (ppm, loss) = loss_of(percent);
        let count = played(races(), |seed, races| tie(seed, races, ppm, 3, apart));
        let what = format!("tie-break, 2 servers, same pick, k 3, loss {percent} %");
        row(&what, count.duplicates, count.races, t4_unlearned(loss, 3, 1))
    });
    assert_agree(certain.into_iter().chain([random]).chain(ties));
}

#[test]
fn t6b_a_legacy_peer_that_waits_longer_than_we_do_is_missed_as_often_as_its_one_query() {
    println!("T6b, one of ours asks (k 4), a legacy peer asks once meanwhile");
    let cells = [(1, 500), (10, 500), (10, 1000)];
    assert_agree(cells.into_iter().flat_map(|(percent, wait): (u32, u64)| {
        let (ppm, loss) = loss_of(percent);
        let wait_for = Duration::from_millis(wait);
        [(false, loss), (true, exchange_lost(loss))].map(|(greater, predicted)| {
            let count = played(races(), |seed, races| mixed(seed, races, ppm, wait_for, greater));
            let key = if greater { "greater, objects" } else { "lesser, yields" };
            let what = format!("loss {percent} %, it waits {wait} ms, our key is {key}");
            row(&what, count.duplicates, count.races, predicted)
        })
    }));
}
