//! Plays seeds for so many seconds: what `tests/swarm` runs.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::process::ExitCode;
use std::time::Duration;

use sim::swarm::{Until, run};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(seconds)), Ok(first)) = (arguments.next(), arguments.next().unwrap_or(Ok(0))) else {
        println!("usage: swarm-for SECONDS [SEED]");
        return ExitCode::from(2);
    };
    let tally = run(first, Until::Passed(Duration::from_secs(seconds)));
    for failure in &tally.failures {
        println!("{failure}");
    }
    println!("{tally}");
    if tally.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
