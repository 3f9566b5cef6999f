//! Time as a machine sees it: it is told, and it names when it wants to be told again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// An instant: nanoseconds since the driver started, on a clock that never goes back and counts suspension.
/// There is no way to read it but to be given it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The start of the driver.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates: a deadline 584 years ahead is as good as any.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", Duration::from_nanos(self.0).as_secs_f64())
    }
}

/// Milliseconds since 1970 by the wall clock: for stamps and the store only, never to measure a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Wall(pub u64);

/// When a machine wants to be called, and why: a busy loop names its culprit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The instant.
    pub at: Time,
    /// What is due then.
    pub why: &'static str,
}

impl Deadline {
    /// The earlier of two.
    #[must_use]
    pub fn earliest(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (one, None) | (None, one) => one,
        }
    }
}

/// Many deadlines, one per key, in order of time; arming a key again moves it.
#[derive(Debug, Clone)]
pub struct Deadlines<K> {
    by_key: BTreeMap<K, Deadline>,
    by_time: BTreeSet<(Time, K)>,
}

impl<K: Ord + Clone> Default for Deadlines<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Sets the deadline of `key`, in place of an earlier one.
    pub fn arm(&mut self, key: K, at: Time, why: &'static str) {
        if let Some(old) = self.by_key.insert(key.clone(), Deadline { at, why }) {
            self.by_time.remove(&(old.at, key.clone()));
        }
        self.by_time.insert((at, key));
    }

    /// Forgets the deadline of `key`, if it has one.
    pub fn disarm(&mut self, key: &K) {
        if let Some(old) = self.by_key.remove(key) {
            self.by_time.remove(&(old.at, key.clone()));
        }
    }

    /// The earliest.
    #[must_use]
    pub fn next(&self) -> Option<Deadline> {
        let (_, key) = self.by_time.first()?;
        self.by_key.get(key).copied()
    }

    /// The deadline of `key`.
    #[must_use]
    pub fn of(&self, key: &K) -> Option<Time> {
        self.by_key.get(key).map(|deadline| deadline.at)
    }

    /// Takes out one key whose time has come; the earliest first.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let (at, _) = self.by_time.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// How many are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn arming_again_moves_a_deadline() {
        let mut deadlines = Deadlines::default();
        deadlines.arm("a", at(10), "first");
        deadlines.arm("b", at(20), "second");
        deadlines.arm("a", at(30), "later");
        assert_eq!(deadlines.next(), Some(Deadline { at: at(20), why: "second" }));
        assert_eq!(deadlines.pop_due(at(25)), Some("b"));
        assert_eq!(deadlines.pop_due(at(25)), None);
        assert_eq!(deadlines.pop_due(at(30)), Some("a"));
        assert!(deadlines.is_empty());
    }

    #[test]
    fn disarming_forgets() {
        let mut deadlines = Deadlines::default();
        deadlines.arm(1, at(10), "gone");
        deadlines.disarm(&1);
        deadlines.disarm(&2);
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.pop_due(at(100)), None);
    }

    #[test]
    fn instants_saturate_instead_of_wrapping() {
        assert_eq!(Time::from_nanos(u64::MAX) + Duration::from_secs(1), Time::from_nanos(u64::MAX));
        assert_eq!(at(1).since(at(2)), Duration::ZERO);
    }
}
