//! How long an answer takes (RFC 6298, with our bounds).

use std::time::Duration;

/// Smoothed round trip time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundTrip {
    /// Mean and deviation.
    measured: Option<(Duration, Duration)>,
    /// How often the time to a resend was doubled since.
    doubled: u32,
}

impl RoundTrip {
    /// Adds a measurement. The caller leaves out answers to what was sent more than once (Karn).
    pub fn measured(&mut self, span: Duration) {
        self.doubled = 0;
        self.measured = Some(match self.measured {
            None => (span, span / 2),
            Some((mean, deviation)) => ((mean * 7 + span) / 8, (deviation * 3 + mean.abs_diff(span)) / 4),
        });
    }

    /// What was answered had been sent again. Nothing is measured of it, so that the time to a resend stays doubled until
    /// something is (Karn): else who became slower would get everything twice from then on.
    pub fn resent(&mut self) {
        self.doubled = self.doubled.saturating_add(1).min(8);
    }

    /// When to send again: mean + 4 deviations, within bounds; `first` before any measurement.
    #[must_use]
    pub fn resend_after(self, first: Duration, least: Duration, most: Duration) -> Duration {
        let after = self.measured.map_or(first, |(mean, deviation)| (mean + deviation * 4).max(least));
        after.saturating_mul(1 << self.doubled).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_measurements_within_bounds() {
        let ms = Duration::from_millis;
        let after = |rtt: RoundTrip| rtt.resend_after(ms(500), ms(50), ms(2000));
        let mut rtt = RoundTrip::default();
        assert_eq!(after(rtt), ms(500));
        rtt.measured(ms(100));
        assert_eq!(after(rtt), ms(300));
        for _ in 0..100 {
            rtt.measured(ms(1));
        }
        assert_eq!(after(rtt), ms(50));
        for (_, doubled) in (0..3).zip([100, 200, 400]) {
            rtt.resent();
            assert_eq!(after(rtt), ms(doubled));
        }
        rtt.measured(ms(1));
        assert_eq!(after(rtt), ms(50), "a measurement tells more");
        rtt.measured(Duration::from_secs(100));
        assert_eq!(after(rtt), ms(2000));
    }
}
