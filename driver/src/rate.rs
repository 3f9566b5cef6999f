//! How much one source may say: a token bucket per address, in a bounded table.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::time::{Deadlines, Time};

/// A bound on the datagrams of each source. What goes over it is dropped before it is looked at.
#[derive(Debug, Clone)]
pub struct Rate {
    /// Tokens are counted in nanoseconds: a datagram costs the interval between datagrams.
    interval: u64,
    most: u64,
    sources_max: usize,
    sources: BTreeMap<Ipv4Addr, (u64, Time)>,
    idle: Deadlines<Ipv4Addr>,
}

impl Rate {
    /// So many a second, so many at once, and so many sources remembered.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, sources_max: usize) -> Self {
        let interval = 1_000_000_000 / u64::from(per_second.max(1));
        Self {
            interval,
            most: interval * u64::from(burst),
            sources_max,
            sources: BTreeMap::new(),
            idle: Deadlines::default(),
        }
    }

    /// Whether `source` may ask once more now. A source refused loses nothing; a stranger is refused while the
    /// table is full of sources that asked lately.
    pub fn allows(&mut self, now: Time, source: Ipv4Addr) -> bool {
        // A source whose bucket is full again is as good as a stranger.
        while let Some(idle) = self.idle.pop_due(now) {
            self.sources.remove(&idle);
        }
        let is_new = !self.sources.contains_key(&source);
        if is_new && self.sources.len() >= self.sources_max {
            return false;
        }
        let (tokens, at) = self.sources.entry(source).or_insert((self.most, now));
        let earned = u64::try_from(now.since(*at).as_nanos()).unwrap_or(u64::MAX);
        *tokens = tokens.saturating_add(earned).min(self.most);
        *at = now;
        let allowed = *tokens >= self.interval;
        if allowed {
            *tokens -= self.interval;
        }
        // A source refused is idle no later than before: a flood costs little.
        if allowed || is_new {
            self.idle.arm(source, now + Duration::from_nanos(self.most - *tokens), "a source is idle");
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES_MAX: usize = 1000;

    #[test]
    fn a_burst_then_a_rate() {
        let mut rate = Rate::new(20, 40, SOURCES_MAX);
        let (one, two) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!((0..50).filter(|_| rate.allows(Time::ZERO, one)).count(), 40);
        assert!(rate.allows(Time::ZERO, two), "one source's greed does not hurt another");
        let later = Time::ZERO + Duration::from_millis(500);
        assert_eq!((0..50).filter(|_| rate.allows(later, one)).count(), 10);
    }

    #[test]
    fn the_table_is_bounded_and_frees_itself() {
        let mut rate = Rate::new(20, 40, SOURCES_MAX);
        let source = |n: usize| Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap());
        assert!((0..SOURCES_MAX).all(|n| rate.allows(Time::ZERO, source(n))));
        assert!(!rate.allows(Time::ZERO, source(SOURCES_MAX)));
        assert!(rate.allows(Time::ZERO, source(0)), "who is in the table stays in it");
        let later = Time::ZERO + Duration::from_secs(3);
        assert!(rate.allows(later, source(SOURCES_MAX)));
        assert_eq!(rate.sources.len(), 1);
    }
}
