//! `mtftp-get`: fetches a boot file as a PXE client does, by multicast or by plain TFTP.
//!
//! The machines are in [`crate::client`]; here are their sockets, clock, file and terminal.

mod cli;
mod common;
mod load;
mod machine;
mod net;
mod progress;
mod report;
mod sink;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use driver::clock::Clock;
use driver::udp::Interface;
use driver::{Time, host};

use crate::client::Failure;
use crate::client::discovery::{Discovery, Found};
use cli::Arguments;
use net::Running;
use progress::Progress;
use report::Outcome;
use sink::Sink;

/// What went wrong, by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// The file is there.
    Done = 0,
    /// This host: a socket, the disk.
    Host = 1,
    /// The command line.
    Usage = 2,
    /// Nobody answered, or the time was over.
    Silence = 3,
    /// The server said ERROR.
    Refused = 4,
    /// The server broke the protocol.
    Protocol = 5,
    /// No multicast, and plain TFTP was not allowed.
    NoMulticast = 6,
    /// Of many clients not all have the right file.
    NotAll = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Silence(_) | Failure::TimeOver(_) => Self::Silence,
            Failure::Error(..) => Self::Refused,
            Failure::Protocol(_) => Self::Protocol,
            Failure::NoMulticast(_) => Self::NoMulticast,
        }
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            // To standard error, or to standard output if it is the help; if that fails there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match run(&arguments) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mtftp-get: {error:#}");
            Exit::Host.into()
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let interface = match &arguments.interface {
        Some(name) if arguments.load().is_some_and(|load| load.from.is_some()) => {
            Interface::find(name, arguments.own_address()).context(load::ADVICE)?
        }
        Some(name) => Interface::find(name, arguments.own_address())?,
        None => Interface::only().context("which network interface? say it with --interface")?,
    };
    let clock = Clock::start();
    let end = clock.now() + Duration::from_secs(arguments.timeout_s);
    let Some((found, waits)) = find(arguments, &interface, &clock, end)? else {
        let _ = writeln!(std::io::stderr(), "mtftp-get: no boot server answers");
        return Ok(Exit::Silence);
    };
    if let Some(load) = arguments.load() {
        return load::run(arguments, load, &interface, &clock, end, (&found, waits));
    }
    let sink = Sink::new(arguments.output(&found.file))?;
    let mut progress = Progress::new(arguments.quiet);
    let mut running = Running::start(&interface, arguments.wanted(&found), sink, clock.now())?;
    let result = loop {
        if let Some(result) = running.take_result() {
            break result;
        }
        let now = clock.now();
        if now >= end {
            running.stop(now)?;
            continue;
        }
        net::wait(std::slice::from_ref(&running), now, end)?;
        running.turn(&clock)?;
        progress.show(clock.now(), running.counts());
    };
    progress.end();
    let time = clock.now().since(Time::ZERO);
    let counts = running.counts();
    let outcome = match result {
        Ok(source) => {
            let hash = running.into_sink().finish().context("the file is there, but cannot be kept")?;
            Ok((source, hash))
        }
        Err(failure) => {
            running.into_sink().discard();
            Err(failure)
        }
    };
    let outcome = Outcome { arguments, found: &found, waits, time, counts, outcome };
    outcome.tell()?;
    Ok(outcome.exit())
}

/// Where the file is: from the command line, or from a boot server; and how many wait packets that said before. `None` if
/// none answers.
fn find(
    arguments: &Arguments,
    interface: &Interface,
    clock: &Clock,
    end: Time,
) -> anyhow::Result<Option<(Found, u32)>> {
    if let Some(found) = arguments.place() {
        return Ok(Some((found, 0)));
    }
    let xid = u32::from_ne_bytes(host::random()?);
    let us = (interface.address, machine::mac(&interface.name)?, machine::uuid());
    let Some(question) = arguments.question(us, xid) else { return Ok(None) };
    net::discover(interface, Discovery::new(question, clock.now()), clock, end)
}
