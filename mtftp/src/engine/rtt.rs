//! How long an answer takes (RFC 6298, with our bounds).

use std::time::Duration;

/// Smoothed round trip time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RoundTrip(Option<(Duration, Duration)>);

impl RoundTrip {
    /// Adds a measurement. The caller leaves out answers to what was sent more than once (Karn).
    pub(crate) fn measured(&mut self, span: Duration) {
        self.0 = Some(match self.0 {
            None => (span, span / 2),
            Some((mean, deviation)) => ((mean * 7 + span) / 8, (deviation * 3 + mean.abs_diff(span)) / 4),
        });
    }

    /// When to send again, before any doubling: mean + 4 deviations, within bounds; `first` before any measurement.
    pub(crate) fn resend_after(self, first: Duration, least: Duration, most: Duration) -> Duration {
        self.0.map_or(first, |(mean, deviation)| mean + deviation * 4).clamp(least, most)
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
        rtt.measured(Duration::from_secs(100));
        assert_eq!(after(rtt), ms(2000));
    }
}
