//! The only reader of the clock.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::{Time, Wall};

/// A daemon's clock: `CLOCK_BOOTTIME`, which never goes back and counts the time the machine was suspended.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// `CLOCK_BOOTTIME` at [`Time::ZERO`].
    origin: Duration,
}

impl Clock {
    /// Starts at [`Time::ZERO`].
    #[must_use]
    pub fn start() -> Self {
        Self { origin: read(ClockId::Boottime) }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::ZERO + read(ClockId::Boottime).saturating_sub(self.origin)
    }

    /// Milliseconds since 1970. It may jump, in both directions: for stamps and the store only. 0 before 1970.
    #[must_use]
    pub fn wall(&self) -> Wall {
        Wall(u64::try_from(read(ClockId::Realtime).as_millis()).unwrap_or(u64::MAX))
    }

    /// `at` as the kernel counts it, for a timer.
    pub(crate) fn absolute(&self, at: Time) -> Timespec {
        let since_boot = self.origin.saturating_add(Duration::from_nanos(at.as_nanos()));
        Timespec {
            tv_sec: i64::try_from(since_boot.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: since_boot.subsec_nanos().into(),
        }
    }
}

fn read(id: ClockId) -> Duration {
    let now = clock_gettime(id);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_starts_at_zero_and_never_goes_back() {
        let clock = Clock::start();
        let readings: Vec<Time> = (0..1000).map(|_| clock.now()).collect();
        assert!(readings.is_sorted());
        assert!(readings.first().unwrap().as_nanos() < 60_000_000_000, "{readings:?} starts at the boot");
    }

    #[test]
    fn the_wall_clock_counts_milliseconds() {
        let year_2020_ms = 1_577_836_800_000;
        let year_2200_ms = 7_258_118_400_000;
        assert!((year_2020_ms..year_2200_ms).contains(&Clock::start().wall().0));
    }

    #[test]
    fn a_timer_is_told_the_kernels_time() {
        let clock = Clock { origin: Duration::new(7, 900_000_000) };
        let absolute = clock.absolute(Time::from_nanos(1_200_000_000));
        assert_eq!((absolute.tv_sec, absolute.tv_nsec), (9, 100_000_000));
        assert!(clock.absolute(Time::from_nanos(u64::MAX)).tv_sec > 0);
    }
}
