//! Slower under repeated conflicts: a server in a storm of them must not feed it (races.md § 2.5).

use std::collections::VecDeque;
use std::time::Duration;

use driver::Time;

use crate::limits::{
    CONFLICTS_ALARM, CONFLICTS_ALARM_SPAN, CONFLICTS_MANY, CONFLICTS_MANY_SPAN, CONFLICTS_PAUSE,
    EXHAUSTED_PAUSE,
};

/// When conflicts happened, the newest last; at most [`CONFLICTS_ALARM`].
#[derive(Debug, Clone, Default)]
pub struct Backoff(VecDeque<Time>);

/// How long the next attempt is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Not at all.
    None,
    /// One attempt in so long.
    Slow(Duration),
    /// For so long, and the operator is told.
    Alarm(Duration),
}

impl Backoff {
    /// One more conflict: what now?
    pub fn on_conflict(&mut self, now: Time) -> Pause {
        self.0.push_back(now);
        if self.0.len() > CONFLICTS_ALARM {
            self.0.pop_front();
        }
        let within = |span: Duration| self.0.iter().filter(|at| now.since(**at) < span).count();
        if within(CONFLICTS_ALARM_SPAN) >= CONFLICTS_ALARM {
            Pause::Alarm(EXHAUSTED_PAUSE)
        } else if within(CONFLICTS_MANY_SPAN) >= CONFLICTS_MANY {
            Pause::Slow(CONFLICTS_PAUSE)
        } else {
            Pause::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn many_conflicts_in_ten_seconds_slow_down_and_fifty_in_a_minute_stop() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Pause> = (0..50).map(|number| backoff.on_conflict(at(number * 100))).collect();
        let count = |pause| pauses.iter().filter(|it| **it == pause).count();
        assert_eq!(count(Pause::None), CONFLICTS_MANY - 1);
        assert_eq!(count(Pause::Slow(CONFLICTS_PAUSE)), CONFLICTS_ALARM - CONFLICTS_MANY);
        assert_eq!(pauses.last(), Some(&Pause::Alarm(EXHAUSTED_PAUSE)));
    }

    #[test]
    fn conflicts_now_and_then_slow_nobody_down() {
        let mut backoff = Backoff::default();
        for number in 0..200 {
            assert_eq!(backoff.on_conflict(at(number * 2000)), Pause::None);
        }
    }
}
