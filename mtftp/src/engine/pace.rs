//! How fast a client goes while it sets the pace, and whether that is too slow for the others.

use std::time::Duration;

use wire::policy::{Policy, SlowClients};

use crate::limits::PACE_SPAN;

/// What a client did while the others waited for its ACKs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    blocks: u32,
    waited: Duration,
    /// Blocks in a row that it left without an ACK in time.
    silences: u8,
}

impl Pace {
    /// It ACKed so many blocks; what went out last, or what it ACKed last, was so long ago.
    pub(crate) fn acked(&mut self, blocks: u16, waited: Duration) {
        self.blocks = self.blocks.saturating_add(blocks.into());
        self.waited += waited;
        self.silences = 0;
    }

    /// It did not, in so long a time.
    pub(crate) fn silent(&mut self, waited: Duration) {
        self.waited += waited;
        self.silences = self.silences.saturating_add(1);
    }

    /// Whether it is slow by that policy. Its rate is taken over spans of [`PACE_SPAN`]: a pause is no rate.
    pub(crate) fn is_slow(&mut self, policy: Policy, block_size: u16) -> bool {
        if policy.slow == SlowClients::Keep {
            return false;
        }
        if policy.silences > 0 && self.silences >= policy.silences {
            return true;
        }
        if self.waited < PACE_SPAN {
            return false;
        }
        let bytes = u128::from(self.blocks) * u128::from(block_size);
        let is_slow = bytes * 1000 < u128::from(policy.rate_min) * self.waited.as_millis();
        *self = Self { silences: self.silences, ..Self::default() };
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        slow: SlowClients::DropToUnicast,
        silences: 3,
        rate_min: 100_000,
        start_clients: 0,
        start_within_s: 0,
    };

    /// Whether somebody is slow who takes so long for each of a hundred blocks of 1,000 bytes.
    fn is_slow(policy: Policy, each: Duration) -> bool {
        let mut pace = Pace::default();
        (0..100).any(|_| {
            pace.acked(1, each);
            pace.is_slow(policy, 1000)
        })
    }

    #[test]
    fn the_rate_is_that_of_the_time_that_others_waited() {
        assert!(!is_slow(POLICY, Duration::from_millis(10)));
        assert!(is_slow(POLICY, Duration::from_millis(11)));
        for policy in [Policy { rate_min: 0, ..POLICY }, Policy { slow: SlowClients::Keep, ..POLICY }] {
            assert!(!is_slow(policy, Duration::from_secs(1)));
        }
    }

    #[test]
    fn silences_count_in_a_row() {
        let (mut pace, silence) = (Pace::default(), Duration::from_millis(1));
        for _ in 0..10 {
            pace.silent(silence);
            pace.silent(silence);
            assert!(!pace.is_slow(POLICY, 1000));
            pace.acked(1, silence);
        }
        for slow in [false, false, true] {
            pace.silent(silence);
            assert_eq!(pace.is_slow(POLICY, 1000), slow);
        }
        assert!(!pace.is_slow(Policy { silences: 0, ..POLICY }, 1000), "never for that");
    }
}
