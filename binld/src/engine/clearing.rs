//! One attempt to clear one address: ask, listen, and take silence for consent (R003.4–R003.6).

use std::time::Duration;

use driver::Time;
use wire::hello::Loss;

use crate::limits::{
    BACKGROUND_QUERIES_MS, BACKGROUND_WAIT, LEGACY_PROBES, LOSS_LITTLE, LOSS_MUCH, QUERY_COUNT,
    QUERY_COUNT_BAD, QUERY_COUNT_LOSSY, QUERY_INTERVAL,
};

/// How patiently to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// A client waits: [`QUERY_INTERVAL`] apart and after the last, as many as the loss demands.
    Foreground,
    /// Nobody waits: [`BACKGROUND_QUERIES_MS`], then [`BACKGROUND_WAIT`].
    Background,
}

/// What an attempt has to reckon with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How patiently to ask.
    pub schedule: Schedule,
    /// Queries of the foreground schedule, see [`query_count`].
    pub queries: u8,
    /// With a peer about that asks once, waits this long, and only defends what it then has: the background schedule,
    /// whoever waits, and [`LEGACY_PROBES`] queries after that (races.md T6b).
    pub legacy_wait: Option<Duration>,
}

/// How many queries that loss demands (races.md § 2.5).
#[must_use]
pub fn query_count(loss: Loss) -> u8 {
    match loss.per_mille() {
        0..=LOSS_LITTLE => QUERY_COUNT,
        loss if loss <= LOSS_MUCH => QUERY_COUNT_LOSSY,
        _ => QUERY_COUNT_BAD,
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
/// Listening ── window over ──► clear                   somebody was deaf: from the beginning (G26)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clearing {
    plan: Plan,
    began_at: Time,
    sent: usize,
    /// Queries sent after every legacy peer must have made up its mind.
    sent_late: usize,
    sent_at: Time,
    next_at: Time,
}

impl Clearing {
    /// The first query is due at `start_at`.
    #[must_use]
    pub fn new(plan: Plan, start_at: Time) -> Self {
        let schedule = if plan.legacy_wait.is_some() { Schedule::Background } else { plan.schedule };
        let plan = Plan { schedule, ..plan };
        Self { plan, began_at: start_at, sent: 0, sent_late: 0, sent_at: start_at, next_at: start_at }
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
        if self.sent >= self.count() && self.outlasts_legacy() {
            return Due::Clear;
        }
        self.sent += 1;
        if self.plan.legacy_wait.is_some_and(|wait| now >= self.began_at + wait) {
            self.sent_late += 1;
        }
        self.sent_at = now;
        self.next_at = now + self.gap();
        Due::Query
    }

    /// A client waits now: go on in the foreground. Queries that went out count.
    pub fn hurry(&mut self) {
        if self.plan.schedule == Schedule::Background && self.plan.legacy_wait.is_none() {
            self.plan.schedule = Schedule::Foreground;
            if self.sent > 0 {
                self.next_at = self.next_at.min(self.sent_at + QUERY_INTERVAL);
            }
        }
    }

    /// Somebody did not hear what was sent in the last second, or nobody knows: silence means nothing, ask from the
    /// beginning. Before the first query that changes nothing.
    pub fn doubt(&mut self, now: Time) {
        if self.sent > 0 {
            let next_at = now + QUERY_INTERVAL;
            (self.began_at, self.sent, self.sent_late, self.next_at) = (next_at, 0, 0, next_at);
        }
    }

    fn count(&self) -> usize {
        match self.plan.schedule {
            Schedule::Foreground => usize::from(self.plan.queries),
            Schedule::Background => BACKGROUND_QUERIES_MS.len(),
        }
    }

    fn outlasts_legacy(&self) -> bool {
        self.plan.legacy_wait.is_none() || self.sent_late >= LEGACY_PROBES
    }

    /// From the last query to the next one, or from the last one to the end.
    fn gap(&self) -> Duration {
        let offset = |index: usize| BACKGROUND_QUERIES_MS.get(index).copied();
        match self.plan.schedule {
            Schedule::Foreground => QUERY_INTERVAL,
            Schedule::Background => match (self.sent.checked_sub(1).and_then(offset), offset(self.sent)) {
                (Some(last), Some(next)) => Duration::from_millis(next.saturating_sub(last)),
                (_, None) => BACKGROUND_WAIT,
                (None, Some(_)) => Duration::ZERO,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn plan(schedule: Schedule) -> Plan {
        Plan { schedule, queries: QUERY_COUNT, legacy_wait: None }
    }

    fn mixed(wait_ms: u64) -> Clearing {
        let legacy_wait = Some(Duration::from_millis(wait_ms));
        Clearing::new(Plan { legacy_wait, ..plan(Schedule::Foreground) }, at(0))
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
        let mut clearing = Clearing::new(plan(Schedule::Foreground), at(0));
        let q = Due::Query;
        assert_eq!(play(&mut clearing), [(0, q), (100, q), (200, q), (300, q), (400, Due::Clear)]);
    }

    #[test]
    fn the_background_spreads_its_queries() {
        let mut clearing = Clearing::new(plan(Schedule::Background), at(0));
        let q = Due::Query;
        let expected = [(0, q), (100, q), (300, q), (700, q), (1500, q), (3100, q), (3600, Due::Clear)];
        assert_eq!(play(&mut clearing), expected);
    }

    #[test]
    fn a_client_turns_the_background_into_the_foreground_and_queries_sent_count() {
        let mut clearing = Clearing::new(plan(Schedule::Background), at(0));
        for millis in [0, 100, 300, 700] {
            assert_eq!(clearing.poll(at(millis)), Due::Query);
        }
        clearing.hurry();
        assert_eq!(clearing.next_at(), at(800));
        assert_eq!(clearing.poll(at(900)), Due::Clear);

        let mut early = Clearing::new(plan(Schedule::Background), at(0));
        assert_eq!(early.poll(at(0)), Due::Query);
        assert_eq!(early.poll(at(100)), Due::Query);
        early.hurry();
        assert_eq!(early.next_at(), at(200));
    }

    #[test]
    fn early_and_repeated_calls_change_nothing() {
        let mut clearing = Clearing::new(plan(Schedule::Foreground), at(10));
        let before = clearing.clone();
        assert_eq!(clearing.poll(at(9)), Due::Nothing);
        assert_eq!(clearing, before);
        assert_eq!(clearing.poll(at(10)), Due::Query);
        assert_eq!(clearing.poll(at(10)), Due::Nothing);
    }

    #[test]
    fn a_late_call_does_not_shorten_the_silence() {
        let mut clearing = Clearing::new(plan(Schedule::Foreground), at(0));
        assert_eq!(clearing.poll(at(5000)), Due::Query);
        assert_eq!(clearing.poll(at(5000)), Due::Nothing);
        assert_eq!(clearing.poll(at(5099)), Due::Nothing);
        assert_eq!(clearing.poll(at(5100)), Due::Query);
    }

    #[test]
    fn more_is_asked_where_more_is_lost() {
        let count = |per_mille| query_count(Loss::new(per_mille).unwrap());
        assert_eq!([0, 20, 21, 100, 101, 1000].map(count), [4, 4, 6, 6, 8, 8]);
        for (queries, clear_at) in [(6, 600), (8, 800)] {
            let mut clearing = Clearing::new(Plan { queries, ..plan(Schedule::Foreground) }, at(0));
            assert_eq!(play(&mut clearing).last(), Some(&(clear_at, Due::Clear)));
        }
    }

    #[test]
    fn with_a_legacy_peer_two_queries_follow_its_wait_whoever_hurries() {
        let q = Due::Query;
        let mut clearing = mixed(1000);
        clearing.hurry();
        let background = [(0, q), (100, q), (300, q), (700, q), (1500, q), (3100, q), (3600, Due::Clear)];
        assert_eq!(play(&mut clearing), background);
        let slow = [(0, q), (100, q), (300, q), (700, q), (1500, q), (3100, q), (3600, q), (4100, q)];
        let seen = play(&mut mixed(3500));
        assert_eq!(seen[..8], slow);
        assert_eq!(seen[8..], [(4600, Due::Clear)]);
    }

    #[test]
    fn doubt_asks_from_the_beginning() {
        let mut clearing = Clearing::new(plan(Schedule::Foreground), at(0));
        let before = clearing.clone();
        clearing.doubt(at(0));
        assert_eq!(clearing, before, "nothing was asked yet");
        (0..4).for_each(|query| assert_eq!(clearing.poll(at(query * 100)), Due::Query));
        clearing.doubt(at(399));
        assert_eq!(clearing.poll(at(400)), Due::Nothing);
        let q = Due::Query;
        assert_eq!(play(&mut clearing), [(499, q), (599, q), (699, q), (799, q), (899, Due::Clear)]);
    }
}
