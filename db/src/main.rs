//! `pxemc-db`: shows and verifies the store of a daemon, whether it runs or not. It never writes one.
//!
//! Exit codes: 0 all is well; 1 the store cannot be read, or `check` found something wrong; 2 wrong usage.

mod dump;
mod iso;

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use db::{Kind, Store};

/// Shows and verifies the store of a pxemc daemon, whether the daemon runs or not.
#[derive(Debug, Parser)]
#[command(name = "pxemc-db", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every record of a store, sorted.
    Dump {
        /// One JSON object a line instead of tables.
        #[arg(long)]
        json: bool,
        /// The store, such as /var/lib/pxemc/binld.db.
        file: PathBuf,
    },
    /// Verify the file and every record in it; exit code 1 if something is wrong.
    Check {
        /// The store, such as /var/lib/pxemc/mtftpd.db.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match &arguments.verb {
        Verb::Dump { json, file } => dump(&mut out, file, *json),
        Verb::Check { file } => check(&mut out, file),
    };
    let flushed = out.flush();
    match done.and_then(|code| flushed.map(|()| code).map_err(Into::into)) {
        Ok(code) => code,
        // Whoever read us has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if this fails too.
            let _ = writeln!(io::stderr(), "pxemc-db: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dump(out: &mut impl Write, file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open_read_only(file)?;
    let (header, rows) = (store.header()?, store.load()?);
    if json {
        dump::json(out, &header, &rows, wall_ms())?;
    } else {
        dump::text(out, &header, &rows, wall_ms())?;
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "a program of its own, run by people, that drives no machine")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn check(out: &mut impl Write, file: &Path) -> anyhow::Result<ExitCode> {
    let store = Store::open_read_only(file)?;
    let wrong = store.check()?;
    for line in &wrong {
        writeln!(out, "{}: {line}", file.display())?;
    }
    if !wrong.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let rows = store.load()?;
    let counts = match store.header()?.kind {
        Kind::Binld => format!("{} claims, {} marks", rows.claims.len(), rows.marks.len()),
        Kind::Mtftpd => format!("{} references, {} serials", rows.references.len(), rows.serials.len()),
    };
    writeln!(out, "{}: ok: {counts}, {} rests", file.display(), rows.rests.len())?;
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
