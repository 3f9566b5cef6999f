//! One attempt to clear one address: ask, listen, and take silence for consent (R003.4–R003.6).

use std::time::Duration;

use driver::Time;

use crate::limits::{BACKGROUND_QUERIES_MS, BACKGROUND_WAIT, QUERY_COUNT, QUERY_INTERVAL};

/// How patiently to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// A client waits: [`QUERY_COUNT`] queries, [`QUERY_INTERVAL`] apart and after the last.
    Foreground,
    /// Nobody waits: [`BACKGROUND_QUERIES_MS`], then [`BACKGROUND_WAIT`].
    Background,
}

impl Schedule {
    fn query_count(self) -> usize {
        match self {
            Self::Foreground => usize::from(QUERY_COUNT),
            Self::Background => BACKGROUND_QUERIES_MS.len(),
        }
    }

    /// From the query before the `sent`-th query to that query; from the last one to the end.
    fn gap_after(self, sent: usize) -> Duration {
        let offset = |index: usize| BACKGROUND_QUERIES_MS.get(index).copied();
        match self {
            Self::Foreground => QUERY_INTERVAL,
            Self::Background => match (sent.checked_sub(1).and_then(offset), offset(sent)) {
                (Some(last), Some(next)) => Duration::from_millis(next.saturating_sub(last)),
                (_, None) => BACKGROUND_WAIT,
                (None, Some(_)) => Duration::ZERO,
            },
        }
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send a query (and call again).
    Query,
    /// The window is over and nobody objected.
    Clear,
}

/// The attempt.
///
/// ```text
/// Asking ── query due, sent < count ──► Asking        an echo, or a query of a greater key, ends the attempt
///   │ sent = count                                     from outside, in either state
///   ▼
/// Listening ── window over ──► clear
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clearing {
    schedule: Schedule,
    sent: usize,
    sent_at: Time,
    next_at: Time,
}

impl Clearing {
    /// The first query is due at `start_at`.
    #[must_use]
    pub fn new(schedule: Schedule, start_at: Time) -> Self {
        Self { schedule, sent: 0, sent_at: start_at, next_at: start_at }
    }

    /// When [`Self::poll`] next has something to say.
    #[must_use]
    pub fn next_at(&self) -> Time {
        self.next_at
    }

    /// Queries sent so far.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Says what is due at `now` and takes it as done. Early calls change nothing; however late the call, each query
    /// is followed by its full wait.
    pub fn poll(&mut self, now: Time) -> Due {
        if now < self.next_at {
            return Due::Nothing;
        }
        if self.sent >= self.schedule.query_count() {
            return Due::Clear;
        }
        self.sent += 1;
        self.sent_at = now;
        self.next_at = now + self.schedule.gap_after(self.sent);
        Due::Query
    }

    /// A client waits now: go on in the foreground. Queries that went out count.
    pub fn hurry(&mut self) {
        if self.schedule == Schedule::Background {
            self.schedule = Schedule::Foreground;
            if self.sent > 0 {
                self.next_at = self.next_at.min(self.sent_at + QUERY_INTERVAL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Every instant at which something was due, until clear.
    fn play(clearing: &mut Clearing) -> Vec<(u64, Due)> {
        let mut seen = Vec::new();
        loop {
            let now = clearing.next_at();
            let due = clearing.poll(now);
            seen.push((now.as_nanos() / 1_000_000, due));
            if due == Due::Clear {
                return seen;
            }
        }
    }

    #[test]
    fn the_foreground_is_clear_after_400_ms() {
        let mut clearing = Clearing::new(Schedule::Foreground, at(0));
        let q = Due::Query;
        assert_eq!(play(&mut clearing), [(0, q), (100, q), (200, q), (300, q), (400, Due::Clear)]);
    }

    #[test]
    fn the_background_spreads_its_queries() {
        let mut clearing = Clearing::new(Schedule::Background, at(0));
        let q = Due::Query;
        let expected = [(0, q), (100, q), (300, q), (700, q), (1500, q), (3100, q), (3600, Due::Clear)];
        assert_eq!(play(&mut clearing), expected);
    }

    #[test]
    fn a_client_turns_the_background_into_the_foreground_and_queries_sent_count() {
        let mut clearing = Clearing::new(Schedule::Background, at(0));
        for millis in [0, 100, 300, 700] {
            assert_eq!(clearing.poll(at(millis)), Due::Query);
        }
        clearing.hurry();
        assert_eq!(clearing.next_at(), at(800));
        assert_eq!(clearing.poll(at(900)), Due::Clear);

        let mut early = Clearing::new(Schedule::Background, at(0));
        assert_eq!(early.poll(at(0)), Due::Query);
        assert_eq!(early.poll(at(100)), Due::Query);
        early.hurry();
        assert_eq!(early.next_at(), at(200));
    }

    #[test]
    fn early_and_repeated_calls_change_nothing() {
        let mut clearing = Clearing::new(Schedule::Foreground, at(10));
        let before = clearing.clone();
        assert_eq!(clearing.poll(at(9)), Due::Nothing);
        assert_eq!(clearing, before);
        assert_eq!(clearing.poll(at(10)), Due::Query);
        assert_eq!(clearing.poll(at(10)), Due::Nothing);
    }

    #[test]
    fn a_late_call_does_not_shorten_the_silence() {
        let mut clearing = Clearing::new(Schedule::Foreground, at(0));
        assert_eq!(clearing.poll(at(5000)), Due::Query);
        assert_eq!(clearing.poll(at(5000)), Due::Nothing);
        assert_eq!(clearing.poll(at(5099)), Due::Nothing);
        assert_eq!(clearing.poll(at(5100)), Due::Query);
    }
}
