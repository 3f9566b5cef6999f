//! A console on a terminal: what is there rolls above, and a line can be typed below it.
//!
//! The terminal stays in its usual mode: it edits the line and shows it. What is above is drawn anew every second, with the
//! cursor put back where it was (DECSC, DECRC), so that a half-typed line stays as it is.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::host;

/// How often the screen is drawn.
const EVERY: Duration = Duration::from_secs(1);
/// Of a terminal that does not know how large it is.
const SIZE_UNKNOWN: (usize, usize) = (24, 80);
/// Room below: what the last line led to, and the line to be typed.
const BELOW: usize = 2;

/// What a console shows and takes.
pub trait Console {
    /// The screen but for its two lowest lines: at most so many lines, of so many columns.
    ///
    /// # Errors
    /// The console ends with that.
    fn screen(&mut self, rows: usize, columns: usize) -> anyhow::Result<Vec<String>>;
    /// A line was typed; gives what is said to it, or `None` to end.
    fn on_line(&mut self, line: &str) -> Option<String>;
}

/// What wakes a console.
enum Wake {
    Line(String),
    Tick,
    Resized,
    End,
}

/// Runs one until the end of the input, SIGINT, or a line that ends it.
///
/// # Errors
/// If there is no terminal, or what [`Console::screen`] says.
pub fn run(console: &mut impl Console) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("a console needs a terminal: `binld notes --follow` shows notes without one");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("cannot set up the event loop")?.block_on(converse(console));
    // The screen stays as it was last, and the shell goes on below it.
    host::print("\n")?;
    outcome
}

async fn converse(console: &mut impl Console) -> anyhow::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut lines = typed();
    let mut said = String::new();
    let mut is_new = true;
    loop {
        let (rows, columns) = size();
        let shown = console.screen(rows.saturating_sub(BELOW), columns)?;
        host::print(&drawn(&shown, &said, rows, columns, is_new))?;
        is_new = match wake(&mut lines, &mut interrupted, &mut resized).await {
            Wake::End => return Ok(()),
            // What is typed already is the terminal's.
            Wake::Tick | Wake::Resized => false,
            Wake::Line(line) => {
                match console.on_line(line.trim()) {
                    None => return Ok(()),
                    Some(answer) => said = answer,
                }
                true
            }
        };
    }
}

#[expect(clippy::disallowed_methods, reason = "driver is where waiting is done")]
async fn wake(lines: &mut Receiver<String>, interrupted: &mut Signal, resized: &mut Signal) -> Wake {
    tokio::select! {
        line = lines.recv() => line.map_or(Wake::End, Wake::Line),
        _ = interrupted.recv() => Wake::End,
        _ = resized.recv() => Wake::Resized,
        () = tokio::time::sleep(EVERY) => Wake::Tick,
    }
}

/// Lines as they are typed. The thread ends with the program: a read of a terminal cannot be broken off.
fn typed() -> Receiver<String> {
    let (sender, receiver) = channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let size = size.map_or((0, 0), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
    if size.0 == 0 || size.1 == 0 { SIZE_UNKNOWN } else { size }
}

/// The whole screen; of one that is not new the lowest line is left as it is.
fn drawn(shown: &[String], said: &str, rows: usize, columns: usize, is_new: bool) -> String {
    let mut out = String::from("\x1b7");
    let above = rows.saturating_sub(BELOW);
    let blank = String::new();
    for (row, line) in shown.iter().chain(std::iter::repeat(&blank)).take(above).enumerate() {
        out += &format!("\x1b[{};1H\x1b[K{}", row + 1, cut(line, columns));
    }
    out += &format!("\x1b[{};1H\x1b[K{}", above + 1, cut(said, columns));
    out += &if is_new { format!("\x1b[{rows};1H\x1b[K> ") } else { "\x1b8".to_owned() };
    out
}

/// What fits: one character, one column. Wider ones make a line too long by themselves; the next drawing mends it.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_left_alone_while_the_rest_is_drawn() {
        let shown = ["one".to_owned(), "longer".to_owned()];
        assert_eq!(
            drawn(&shown, "done", 4, 4, false),
            "\x1b7\x1b[1;1H\x1b[Kone\x1b[2;1H\x1b[Klong\x1b[3;1H\x1b[Kdone\x1b8"
        );
        assert_eq!(drawn(&[], "", 3, 80, true), "\x1b7\x1b[1;1H\x1b[K\x1b[2;1H\x1b[K\x1b[3;1H\x1b[K> ");
        assert_eq!(drawn(&shown, "x", 1, 80, false), "\x1b7\x1b[1;1H\x1b[Kx\x1b8", "a screen of one line");
    }
}
