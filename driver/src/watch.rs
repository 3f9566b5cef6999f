//! `status --watch`: the same question again and again, until the operator has seen enough.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::host;

/// To the upper left corner, and nothing is left below.
const CLEAR: &str = "\x1b[H\x1b[J";
/// To the end of the line, nothing is left of what stood there.
const CLEAR_LINE: &str = "\x1b[K";

/// How reports follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each takes the place of the one before, as far as the screen reaches: so many lines.
    Screen(usize),
    /// A blank line between two.
    Apart,
    /// One after the other: each is one line.
    Lines,
}

/// Prints what `ask` gives every so often; as it is, if `is_json`. Ends without an error when it is interrupted (SIGINT) or nobody reads any
/// more.
///
/// # Errors
/// What `ask` said, or that the output cannot be written for another reason.
pub fn watch(
    every: Duration,
    is_json: bool,
    mut ask: impl FnMut() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot set up the event loop")?.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut is_first = true;
        loop {
            let report = ask()?;
            if !host::print_if_read(&laid_out(&report, form(is_json), is_first))? {
                return Ok(());
            }
            is_first = false;
            if again(every, &mut interrupted).await {
                return Ok(());
            }
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "driver is where waiting is done")]
/// Waits; true if it is the end.
async fn again(every: Duration, interrupted: &mut tokio::signal::unix::Signal) -> bool {
    tokio::select! {
        _ = interrupted.recv() => true,
        () = tokio::time::sleep(every) => false,
    }
}

/// Looked at anew each time: a window may change its size.
fn form(is_json: bool) -> Form {
    let out = std::io::stdout();
    if is_json {
        Form::Lines
    } else if out.is_terminal() {
        let size = rustix::termios::tcgetwinsize(&out);
        // Some terminals do not know how large they are.
        let lines = size.map_or(0, |size| usize::from(size.ws_row));
        Form::Screen(if lines == 0 { usize::MAX } else { lines })
    } else {
        Form::Apart
    }
}

fn laid_out(report: &str, form: Form, is_first: bool) -> String {
    match form {
        Form::Screen(lines) => {
            let shown: Vec<&str> = report.lines().take(lines.saturating_sub(1)).collect();
            format!("{CLEAR}{}{CLEAR_LINE}\n", shown.join(&format!("{CLEAR_LINE}\n")))
        }
        Form::Apart if !is_first => format!("\n{report}"),
        Form::Apart | Form::Lines => report.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_holds_the_beginning_and_nothing_of_the_report_before() {
        assert_eq!(laid_out("a\nb\nc\n", Form::Screen(3), true), "\x1b[H\x1b[Ja\x1b[K\nb\x1b[K\n");
        assert_eq!(laid_out("a\nb\n", Form::Screen(usize::MAX), false), "\x1b[H\x1b[Ja\x1b[K\nb\x1b[K\n");
        assert_eq!(laid_out("a\n", Form::Screen(0), false), "\x1b[H\x1b[J\x1b[K\n");
    }

    #[test]
    fn elsewhere_reports_stand_apart_and_json_is_one_line_each() {
        assert_eq!(laid_out("a\n", Form::Apart, true), "a\n");
        assert_eq!(laid_out("a\n", Form::Apart, false), "\na\n");
        assert_eq!(laid_out("{}\n", Form::Lines, false), "{}\n");
    }

    #[test]
    fn a_daemon_that_is_gone_ends_it() {
        let error = watch(Duration::from_secs(1), true, || anyhow::bail!("no daemon answers"));
        assert_eq!(error.unwrap_err().to_string(), "no daemon answers");
    }
}
