//! How fast something grows: bytes per second over the last second.

use std::collections::VecDeque;
use std::time::Duration;

use driver::Time;

/// The span that is looked at.
const SPAN: Duration = Duration::from_secs(1);
/// How far marks are apart, at the least: the rate is that exact.
const STEP: Duration = Duration::from_millis(100);

/// A total and how it came about. It holds a dozen marks, however fast it grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speed {
    began_at: Time,
    last: (Time, u64),
    /// The total at some instants, the oldest first: the first is as old as the span, or the start.
    marks: VecDeque<(Time, u64)>,
}

impl Speed {
    pub(crate) fn new(now: Time) -> Self {
        Self { began_at: now, last: (now, 0), marks: VecDeque::from([(now, 0)]) }
    }

    /// The total is so many bytes now.
    pub(crate) fn note(&mut self, now: Time, total: u64) {
        if self.marks.back().is_some_and(|mark| now.since(mark.0) >= STEP) {
            self.marks.push_back(self.last);
            while self.marks.get(1).is_some_and(|second| now.since(second.0) >= SPAN) {
                self.marks.pop_front();
            }
        }
        self.last = (now, total);
    }

    /// Bytes per second over the last second, or since it began if that is less.
    #[must_use]
    pub fn bytes_per_second(&self, now: Time) -> u64 {
        let (last_at, total) = self.last;
        if now.since(last_at) >= SPAN {
            return 0;
        }
        let old = self.marks.iter().rev().find(|mark| now.since(mark.0) >= SPAN);
        let before = old.or(self.marks.front()).map_or(0, |mark| mark.1);
        let span = now.since(self.began_at).clamp(STEP, SPAN);
        let bytes = u128::from(total.saturating_sub(before));
        u64::try_from(bytes * 1_000_000_000 / span.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// So many bytes every so many milliseconds.
    fn steady(speed: &mut Speed, from: u64, to: u64, step: u64, bytes: u64) {
        for at in (from..to).step_by(usize::try_from(step).unwrap()) {
            let total = speed.last.1 + bytes;
            speed.note(ms(at), total);
        }
    }

    #[test]
    fn a_steady_stream_has_its_rate_early_and_late() {
        let mut speed = Speed::new(ms(0));
        for (from, to) in [(0, 200), (200, 500), (500, 1_000), (1_000, 10_000)] {
            steady(&mut speed, from, to, 10, 1_000);
            let rate = speed.bytes_per_second(ms(to));
            assert!((90_000..=110_000).contains(&rate), "after {to} ms: {rate}");
            assert!(speed.marks.len() <= 14, "{} marks", speed.marks.len());
        }
    }

    #[test]
    fn a_stream_that_stops_has_none_a_second_later() {
        let mut speed = Speed::new(ms(0));
        steady(&mut speed, 0, 3_000, 10, 1_000);
        let half = speed.bytes_per_second(ms(3_490));
        assert!((40_000..=60_000).contains(&half), "{half}");
        assert_eq!(speed.bytes_per_second(ms(4_000)), 0);
    }

    /// What came before a pause is not counted after it.
    #[test]
    fn a_pause_is_no_part_of_what_comes_after_it() {
        let mut speed = Speed::new(ms(0));
        steady(&mut speed, 0, 60, 10, 1_000);
        speed.note(ms(5_000), 7_000);
        assert_eq!(speed.bytes_per_second(ms(5_000)), 1_000);
        assert_eq!(Speed::new(ms(0)).bytes_per_second(ms(1)), 0);
    }
}
