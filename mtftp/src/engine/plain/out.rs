//! What is out of a transfer, by either rule.

use driver::Time;

use super::ahead::Ahead;
use super::outstanding::{Outstanding, Span, Verdict};

/// The blocks that are out.
#[derive(Debug)]
pub(super) enum Out {
    /// The client asked for windows; or one block is out at a time.
    Windows(Outstanding),
    /// It did not, and the server runs ahead of its ACKs.
    Ahead(Ahead),
}

impl Out {
    /// What goes out at first.
    pub(super) fn first(&self) -> Span {
        match self {
            Self::Windows(out) => out.span(),
            Self::Ahead(_) => Span { first: 1, count: 1 },
        }
    }

    /// The client has all up to this block, of so many.
    pub(super) fn progress(&self) -> (u64, u64) {
        match self {
            Self::Windows(out) => out.progress(),
            Self::Ahead(out) => out.progress(),
        }
    }

    /// An ACK with this number on the wire; `sent_at`: when blocks went out last.
    pub(super) fn on_ack(&mut self, now: Time, sent_at: Time, number: u16) -> Verdict {
        match self {
            Self::Windows(out) => out.on_ack(now, sent_at, number),
            Self::Ahead(out) => out.on_ack(now, number),
        }
    }

    /// How many of these go out although the client has not ACKed the block before, and asked for no windows.
    pub(super) fn ahead_in(&self, span: Span) -> u64 {
        match self {
            Self::Windows(_) => 0,
            Self::Ahead(out) => {
                (span.first + u64::from(span.count)).saturating_sub(span.first.max(out.progress().0 + 2))
            }
        }
    }

    /// The timer: what is out for the `sends`th time goes out once more, or part of it.
    pub(super) fn again(&mut self, sends: u32) -> Span {
        match self {
            Self::Windows(out) => out.again(sends),
            Self::Ahead(out) => out.again(sends),
        }
    }
}
