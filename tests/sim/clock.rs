//! A host's clocks: none shows the true time.

use std::time::Duration;

use driver::{Time, Wall};

/// The wall time at the beginning of every world: 2026-01-01, in ms since 1970.
const WALL_START_MS: u64 = 1_767_225_600_000;

/// The clocks of one host. The monotonic one starts with the program and runs a little fast or slow; the wall clock is
/// off by whatever it is off.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// True time at which the program started.
    booted_at: Time,
    /// How much faster than true time it runs, in parts per million.
    rate_ppm: i32,
    /// The wall clock minus the true wall time, in ms.
    wall_skew_ms: i64,
}

impl Clock {
    /// A clock that is off by this much.
    #[must_use]
    pub const fn new(rate_ppm: i32, wall_skew_ms: i64) -> Self {
        Self { booted_at: Time::ZERO, rate_ppm, wall_skew_ms }
    }

    /// The program starts: its time is zero.
    pub fn start(&mut self, true_time: Time) {
        self.booted_at = true_time;
    }

    /// Somebody sets the wall clock.
    pub fn step_wall(&mut self, by_ms: i64) {
        self.wall_skew_ms = self.wall_skew_ms.saturating_add(by_ms);
    }

    /// What the program is told when the true time is this.
    #[must_use]
    pub fn local(&self, true_time: Time) -> Time {
        let elapsed = i128::from(true_time.as_nanos().saturating_sub(self.booted_at.as_nanos()));
        let local = elapsed + elapsed * i128::from(self.rate_ppm) / 1_000_000;
        Time::from_nanos(u64::try_from(local).unwrap_or(0))
    }

    /// The first true time at which [`Self::local`] is not before `local`.
    #[must_use]
    pub fn when(&self, local: Time) -> Time {
        let scaled = i128::from(local.as_nanos()) * 1_000_000 / (1_000_000 + i128::from(self.rate_ppm));
        let span = Duration::from_nanos(u64::try_from(scaled).unwrap_or(0));
        let mut at = self.booted_at + span;
        while self.local(at) < local {
            at = at + Duration::from_nanos(1);
        }
        at
    }

    /// What the host's wall clock shows.
    #[must_use]
    pub fn wall(&self, true_time: Time) -> Wall {
        let millis = WALL_START_MS + true_time.as_nanos() / 1_000_000;
        Wall(millis.saturating_add_signed(self.wall_skew_ms))
    }
}
