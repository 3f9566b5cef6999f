//! Two committed claims on one address: who keeps it (Y4, Y5). Pure; `repair` acts on it.
//!
//! ```text
//!  an echo of our announcement ──► Asking ── a statement of somebody committed ──► Disputed ── it yields, no session ──► over
//!                                    │                                   ▲          │ │
//!  a statement ──────────────────────┼───────────────────────────────────┘          │ └─ its statement beats ours ──► we yield
//!                                    │ four statements, no answer                   │ four statements, no answer; 120 s
//!                                    ▼                                              ▼
//!                                   Mute ── listed as legacy, echoes again ──► we yield (Y5); 300 s ──► over
//! ```
//! While *Disputed* the address is not handed out. *Asking* takes nothing from anybody: an echo is said by newcomers and
//! forgers too.

use std::cmp::Reverse;
use std::net::SocketAddrV4;

use driver::Time;
use wire::hold::{Hold, HoldState};
use wire::query::content_key;
use wire::{Content, Stamp};

use super::claims::ClaimKey;

/// What a holder says of its claim: the part of a `hold` that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// In which state it has the address.
    pub state: HoldState,
    /// Whether a session runs or an answer went out in the last 300 s.
    pub in_use: bool,
    /// When it was committed.
    pub stamp: Stamp,
    /// What it carries.
    pub content: Content,
}

impl Statement {
    /// What that message says.
    #[must_use]
    pub fn of(hold: &Hold) -> Self {
        Self { state: hold.state, in_use: hold.in_use, stamp: hold.stamp, content: hold.content.clone() }
    }

    /// Whether this claim keeps the address and `other` yields: committed before leaving, in use before idle, the older
    /// stamp, the greater key. Of two statements about different contents exactly one beats the other.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        let rank = |it: &Self| (it.state == HoldState::Committed, it.in_use, Reverse(it.stamp));
        (rank(self), content_key(&self.content)) > (rank(other), content_key(&other.content))
    }
}

/// How far a contest has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Somebody echoed: asked who it is.
    Asking,
    /// Somebody stated that it has the address: nobody hands it out.
    Disputed {
        /// Since when.
        since: Time,
    },
    /// It left four statements without an answer.
    Mute {
        /// When that is forgotten.
        until: Time,
    },
}

/// A contest with one opponent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// How far it has come.
    pub stage: Stage,
    /// Statements sent since the opponent was last heard.
    pub unanswered: u8,
    /// When the next one is due.
    pub next_at: Time,
    /// The last one's nonce.
    pub nonce: u64,
    /// Announcements of ours that it echoed, at least 1 s apart (Y5).
    pub echoes: u8,
    /// When it last echoed one that counted.
    pub echoed_at: Time,
}

impl Contest {
    /// Begins; a statement is due at once.
    #[must_use]
    pub fn new(now: Time, stage: Stage) -> Self {
        Self { stage, unanswered: 0, next_at: now, nonce: 0, echoes: 0, echoed_at: Time::ZERO }
    }

    /// Whether the address must not be handed out.
    #[must_use]
    pub fn blocks(&self) -> bool {
        matches!(self.stage, Stage::Disputed { .. })
    }
}

/// A claim of ours, and where the other side hears statements.
pub type ContestKey = (ClaimKey, SocketAddrV4);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use wire::{FileName, ServerId};

    fn statement((committed, in_use, millis, file): (bool, bool, u64, u8), sender: u8) -> Statement {
        Statement {
            state: if committed { HoldState::Committed } else { HoldState::Draining },
            in_use,
            stamp: Stamp { millis, sender: ServerId([sender; 16]) },
            content: Content {
                server: Ipv4Addr::new(10, 0, 0, 1),
                file: FileName::new(&[b'a' + file]).unwrap(),
            },
        }
    }

    #[test]
    fn committed_then_in_use_then_older_then_the_greater_key() {
        // (committed, in use, stamp, key): every winner differs from its loser where it counts, and is worse behind it.
        let table = [
            ((true, false, 9, 0), (false, true, 1, 1)),
            ((true, true, 9, 0), (true, false, 1, 1)),
            ((true, true, 1, 0), (true, true, 9, 1)),
            ((true, false, 5, 1), (true, false, 5, 0)),
        ];
        for (winner, loser) in table {
            // The same sender: stamps that are equal to the last bit leave the decision to the key.
            let (winner, loser) = (statement(winner, 1), statement(loser, 1));
            assert!(winner.beats(&loser) && !loser.beats(&winner), "{winner:?} {loser:?}");
        }
    }

    proptest! {
        #[test]
        fn exactly_one_of_two_wins(
            a in (any::<bool>(), any::<bool>(), 0u64..3, 0u8..3), sender_a in 0u8..2,
            b in (any::<bool>(), any::<bool>(), 0u64..3, 0u8..3), sender_b in 0u8..2,
        ) {
            let (a, b) = (statement(a, sender_a), statement(b, sender_b));
            if a.content != b.content {
                prop_assert_ne!(a.beats(&b), b.beats(&a));
            }
        }
    }
}
