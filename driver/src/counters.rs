//! What happened, by kind: nothing is dropped without being counted.

use std::collections::BTreeMap;

/// Counters by (where, what). They start at zero with the program and never go back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<(&'static str, &'static str), u64>);

impl Counters {
    /// Counts `count` more.
    pub fn add(&mut self, place: &'static str, what: &'static str, count: u64) {
        let counter = self.0.entry((place, what)).or_default();
        *counter = counter.saturating_add(count);
    }

    /// Counts one more, and says whether to tell of it: at the 1st, 2nd, 4th, 8th … time, so that a flood does not flood
    /// the log too.
    #[must_use]
    pub fn add_and_tell(&mut self, place: &'static str, what: &'static str) -> bool {
        self.add(place, what, 1);
        self.get(place, what).is_power_of_two()
    }

    /// The value of one counter; 0 if it never moved.
    #[must_use]
    pub fn get(&self, place: &str, what: &str) -> u64 {
        self.0.get(&(place, what)).copied().unwrap_or(0)
    }

    /// All counters that ever moved, sorted: `place.what` and the value.
    pub fn iter(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.0.iter().map(|((place, what), count)| (format!("{place}.{what}"), *count))
    }
}
