//! What must hold after every step. The oracle knows the rules from `decisions.md`, not from the cores.
//!
//! | rules | where |
//! |---|---|
//! | I1, I6, L1, L2, L3: who has an address | [`uniqueness`] |
//! | I2, I3, I4: what MTFTP servers remember | [`references`] |
//! | I6: what members know | [`convergence`] |
//! | L4–L7: one host by itself | [`local`] |
//! | I5: what clients are told | [`replies`](crate::replies) |

use std::collections::BTreeSet;

use driver::Time;

pub mod convergence;
pub mod local;
pub mod references;
pub mod uniqueness;

pub use uniqueness::{Done, Heard};

/// Which rules the boot servers play by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Ours.
    Ours,
    /// The source document to the letter: the database is looked up, pending claims are not defended and do not yield.
    SeedLiteral,
}

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// Which: I1, I5, L2…
    pub rule: &'static str,
    /// In words.
    pub text: String,
}

/// The checks, and what they remember.
#[derive(Debug)]
pub struct Checks {
    rules: Rules,
    uniqueness: uniqueness::Uniqueness,
    /// Duplicates that losses, or the rules of a legacy peer, explain.
    pub explained: u64,
    /// Those of them in which nothing was lost.
    pub explained_by_legacy: u64,
    /// What a sound fleet may run into here.
    pub expected: local::Expected,
    /// Hosts whose store failed at least once.
    pub failed_writes: BTreeSet<String>,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

impl Checks {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            uniqueness: uniqueness::Uniqueness::default(),
            explained: 0,
            explained_by_legacy: 0,
            expected: local::Expected::default(),
            failed_writes: BTreeSet::new(),
            violations: Vec::new(),
        }
    }

    /// Notes a rule that did not hold.
    pub fn fail(&mut self, at: Time, rule: &'static str, text: String) {
        self.violations.push(Violation { at, rule, text });
    }
}
