//! The loads of `tests/bench line` that machines bring at a boot server, and what is expected of each (performance.md § 5).

use std::time::Duration;

use sim::boot_load::Pace;

/// One load for all servers.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) machines: usize,
    pub(crate) pace: Pace,
    pub(crate) rounds: usize,
}

/// All of them, in the order they are printed.
pub(crate) fn rows() -> Vec<Row> {
    let storm = Pace::Over(Duration::from_secs(2));
    vec![
        Row {
            name: "replies",
            what: "200,000 machines, 128 of which wait at any time",
            machines: 200_000,
            pace: Pace::Window(128),
            rounds: 5,
        },
        Row {
            name: "storm-60k",
            what: "60,000 machines within 2 s",
            machines: 60_000,
            pace: storm,
            rounds: 5,
        },
        Row {
            name: "storm-200k",
            what: "200,000 machines within 2 s",
            machines: 200_000,
            pace: storm,
            rounds: 3,
        },
    ]
}
