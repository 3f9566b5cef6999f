//! Which blocks of a plain transfer are out, and what an ACK makes of that (RFC 7440; without its option the window is
//! one block).
//!
//! ```text
//!    acked │ out ────────────────────────── top │      ACK of
//!          │ 1 … a window at most           │   │
//!          ├─────────────────────────────────►──┤ top       the next window
//!          ├──────────► n                       │ n         a gap: the window starts again behind n
//!          ► (again)                            │ acked     block 1 of the window is missing: the window again, once
//! ```
//!
//! A receiver drops what comes after a gap, and may ACK its place for every block that it drops, or for every copy of
//! one that it has. So an ACK is taken at its word only where a copy under way cannot have caused it:
//! - a repeated one only if its block went out once and more than one block is out, and once for a window;
//! - one in the middle of a window that was sent again unasked moves the window on but repeats nothing of it.
//!
//! And ACKs have only so many blocks repeated for each that they acknowledge; beyond that, all is left to the timer. The
//! first answer to a block that the timer sent alone is always heeded: no copies are under way then.

use std::time::Duration;

use driver::Time;
use wire::tftp::Rollover;

use crate::limits::{ACK_REPEATS_FOR_EACH, WINDOW_SENDS_MAX};

/// Blocks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) count: u16,
}

/// What follows from an ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Stale,
    /// The client lacks the first block that is out: these go out again.
    Again(Span),
    /// It has more than before.
    Onward {
        /// How long that took, if nothing of it went out twice (Karn).
        round_trip: Option<Duration>,
        /// What goes out now; none if all that is left is out.
        next: Option<Span>,
    },
    /// It has all.
    Complete,
}

/// The blocks that are out.
#[derive(Debug)]
pub(super) struct Outstanding {
    window: u16,
    /// The last of the file.
    last: u64,
    rollover: Rollover,
    /// The client has all up to this one.
    acked: u64,
    /// The last that went out; always after `acked`.
    top: u64,
    /// ACKs from this one on are about what went out once, and last.
    once_from: u64,
    /// Up to this one all was sent again without the client saying that it lacks it: it may have it.
    guessed_to: u64,
    /// The timer sent no more than one block last: no copies are under way.
    probed: bool,
    /// Blocks repeated because of ACKs, so far.
    repeated: u64,
}

impl Outstanding {
    /// The first window of a file of so many blocks. `once`: nothing that an ACK of block 0 could answer went out twice.
    pub(super) fn new(last: u64, window: u16, rollover: Rollover, once: bool) -> Self {
        Self {
            window,
            last,
            rollover,
            acked: 0,
            top: u64::from(window).min(last),
            once_from: u64::from(!once),
            guessed_to: 0,
            probed: false,
            repeated: 0,
        }
    }

    /// The client has all up to this block, of so many.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.acked, self.last)
    }

    /// All that is out.
    pub(super) fn span(&self) -> Span {
        self.from(self.acked + 1)
    }

    fn from(&self, first: u64) -> Span {
        // No more than a window is out.
        Span { first, count: u16::try_from(self.top + 1 - first).unwrap_or(self.window) }
    }

    /// An ACK with this number on the wire; `sent_at`: when blocks went out last.
    pub(super) fn on_ack(&mut self, now: Time, sent_at: Time, number: u16) -> Verdict {
        // A window is far shorter than what the numbers go round in: at most one block has this one.
        let found = (self.acked..=self.top).rev().find(|&block| self.rollover.number(block) == number);
        let Some(block) = found else { return Verdict::Stale };
        if block == self.last {
            return Verdict::Complete;
        }
        if block == self.acked {
            return self.repeated_ack();
        }
        let round_trip = (block >= self.once_from).then(|| now.since(sent_at));
        let out = self.top;
        let restarts = self.probed || (block > self.guessed_to && self.may_repeat(block));
        self.acked = block;
        self.top = (block + u64::from(self.window)).min(self.last);
        self.probed = false;
        let first = if block == out || !restarts { out + 1 } else { block + 1 };
        if block < out {
            self.once_from = out + 1;
            self.repeated += out + 1 - first;
        }
        Verdict::Onward { round_trip, next: (first <= self.top).then(|| self.from(first)) }
    }

    fn repeated_ack(&mut self) -> Verdict {
        if self.top - self.acked < 2 {
            return Verdict::Stale;
        }
        if !self.probed {
            if self.acked < self.once_from || !self.may_repeat(self.acked) {
                return Verdict::Stale;
            }
            self.guessed_to = self.top;
        }
        self.repeated += self.top - self.acked;
        self.once_from = self.top + 1;
        self.probed = false;
        Verdict::Again(self.span())
    }

    /// The timer: what is out for the `sends`th time goes out once more. The whole window some times; then only its last
    /// block, to which whoever lacks one before it says so.
    pub(super) fn again(&mut self, sends: u32) -> Span {
        self.once_from = self.top + 1;
        self.guessed_to = self.top;
        self.probed = sends >= WINDOW_SENDS_MAX;
        if self.probed { self.from(self.top) } else { self.span() }
    }

    /// Whether what is out behind `block` may be repeated at the word of an ACK.
    fn may_repeat(&self, block: u64) -> bool {
        self.repeated + (self.top - block) <= ACK_REPEATS_FOR_EACH * (block + u64::from(self.window))
    }
}
