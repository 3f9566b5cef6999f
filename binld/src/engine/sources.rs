//! How much one source may say: the rest is dropped before it is looked at.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use driver::Time;

use crate::limits::{PEER_RATE, SOURCES_MAX};

const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Window {
    began_at: Time,
    count: u32,
}

/// Datagrams per source in its current second.
#[derive(Debug, Default)]
pub(super) struct Sources {
    windows: BTreeMap<Ipv4Addr, Window>,
    /// A full table is swept once a window: a flood from forged sources must not buy a sweep per datagram.
    swept_at: Time,
}

impl Sources {
    /// Whether a datagram of `source` may be looked at.
    pub(super) fn allow(&mut self, now: Time, source: Ipv4Addr) -> bool {
        if self.windows.len() >= SOURCES_MAX && !self.windows.contains_key(&source) {
            if now.since(self.swept_at) >= WINDOW {
                self.swept_at = now;
                self.windows.retain(|_, window| now.since(window.began_at) < WINDOW);
            }
            if self.windows.len() >= SOURCES_MAX {
                return false;
            }
        }
        let window = self.windows.entry(source).or_insert(Window { began_at: now, count: 0 });
        if now.since(window.began_at) >= WINDOW {
            *window = Window { began_at: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= PEER_RATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_heard_again_a_second_later_and_the_table_is_bounded() {
        let mut sources = Sources::default();
        let source = Ipv4Addr::new(10, 0, 0, 1);
        for _ in 0..PEER_RATE {
            assert!(sources.allow(Time::ZERO, source));
        }
        assert!(!sources.allow(Time::ZERO, source));
        assert!(sources.allow(Time::ZERO + WINDOW, source));
        for number in 0..100_000_u32 {
            sources.allow(Time::ZERO + WINDOW, Ipv4Addr::from(number));
        }
        assert!(sources.windows.len() <= SOURCES_MAX);
    }
}
