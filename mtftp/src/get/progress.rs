//! How far it is: a bar on a terminal, a line now and then elsewhere. To standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use driver::Time;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::Counts;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) enum Progress {
    Quiet,
    Bar(ProgressBar),
    Lines { next_at: Time },
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { next_at: Time::ZERO + LINE_EVERY };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("{bytes}/{total_bytes} {wide_bar} {bytes_per_sec} {eta}");
        Self::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    pub(super) fn show(&mut self, now: Time, counts: Counts) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                if let Some(size) = counts.size {
                    bar.set_length(size);
                }
                bar.set_position(counts.bytes);
            }
            Self::Lines { next_at } => {
                if now < *next_at {
                    return;
                }
                *next_at = now + LINE_EVERY;
                let of = counts.size.map_or(String::new(), |size| format!(" of {size}"));
                // If nobody hears it, the transfer goes on all the same.
                let _ = writeln!(std::io::stderr(), "{}{of} bytes", counts.bytes);
            }
        }
    }

    pub(super) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
