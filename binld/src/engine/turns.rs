//! The pinned tuple is a pool of one: who has had it long enough, and who waits (P2, P4).

use std::collections::{BTreeMap, BTreeSet};

use driver::Time;
use wire::Content;

use crate::limits::{HANDOUT_LIFETIME, PINNED_TENURE, PINNED_TURN_MAX, WAITER_SILENT, WAITERS_MAX};

/// Another content that asks for the tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiter {
    heard_at: Time,
    /// When a holder of ours last echoed it, or one of our own clients asked for it.
    refused_at: Option<Time>,
    /// When it was last heard to have the tuple.
    had_at: Option<Time>,
}

/// A turn of a content of ours that ended for the sake of others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Past {
    ended_at: Time,
    waiters: BTreeSet<Content>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    waiters: BTreeMap<Content, Waiter>,
    past: BTreeMap<Content, Past>,
    /// Since when a content of ours has it.
    began_at: Time,
    /// Since when that one has been refusing somebody.
    contested_since: Option<Time>,
}

impl Turns {
    /// A query of another content for the tuple was heard: a question, or an announcement.
    pub fn hear(&mut self, now: Time, content: &Content) {
        let Some(waiter) = self.waiter(now, content) else { return };
        waiter.heard_at = now;
    }

    /// Its holder says that it has the tuple.
    pub fn hear_holder(&mut self, now: Time, content: &Content) {
        if let Some(waiter) = self.waiters.get_mut(content) {
            waiter.had_at = Some(now);
        }
    }

    /// A holder of ours refused it.
    pub fn refuse(&mut self, now: Time, content: &Content) {
        let Some(waiter) = self.waiter(now, content) else { return };
        (waiter.heard_at, waiter.refused_at) = (now, Some(now));
        self.contested_since.get_or_insert(now);
    }

    /// A content of ours has the tuple now.
    pub fn begin(&mut self, now: Time, content: &Content) {
        (self.began_at, self.contested_since) = (now, None);
        self.past.remove(content);
        for past in self.past.values_mut() {
            past.waiters.remove(content);
        }
        if let Some(waiter) = self.waiters.get_mut(content) {
            (waiter.had_at, waiter.refused_at) = (Some(now), None);
        }
    }

    /// Whether the holder has had its turn (P2): somebody was refused in the last 60 s, and nobody was told the address
    /// for [`HANDOUT_LIFETIME`], or it has been contested for [`PINNED_TENURE`]. `told_at` is when a client was last told
    /// it.
    pub fn is_over(&mut self, now: Time, told_at: Option<Time>) -> bool {
        let waits = |it: &Waiter| it.refused_at.is_some_and(|at| now.since(at) < WAITER_SILENT);
        if !self.waiters.values().any(waits) {
            self.contested_since = None;
        }
        let Some(since) = self.contested_since else { return false };
        let used_at = told_at.map_or(self.began_at, |told_at| told_at.max(self.began_at));
        now.since(used_at) >= HANDOUT_LIFETIME || now.since(since) >= PINNED_TENURE
    }

    /// The turn of `content` ends for those who wait.
    pub fn end(&mut self, now: Time, content: &Content) {
        let waits = |(other, it): (&Content, &Waiter)| {
            (now.since(it.heard_at) < WAITER_SILENT && other != content).then(|| other.clone())
        };
        let waiters = self.waiters.iter().filter_map(waits).collect();
        self.past.insert(content.clone(), Past { ended_at: now, waiters });
        self.contested_since = None;
    }

    /// Whether `content` had its turn and leaves the tuple to others (P4): one that waited then has neither had it nor
    /// fallen silent since. [`PINNED_TURN_MAX`] bounds that for each of them: a legacy peer never says that it has it.
    #[must_use]
    pub fn must_wait(&self, now: Time, content: &Content) -> bool {
        let Some(past) = self.past.get(content) else { return false };
        let turns = u32::try_from(past.waiters.len()).unwrap_or(u32::MAX);
        now.since(past.ended_at) < PINNED_TURN_MAX.saturating_mul(turns)
            && past.waiters.iter().any(|waiter| {
                self.waiters.get(waiter).is_some_and(|it| {
                    now.since(it.heard_at) < WAITER_SILENT && it.had_at.is_none_or(|at| at < past.ended_at)
                })
            })
    }

    /// How many others were heard asking for the tuple in the last 60 s.
    #[must_use]
    pub fn waiting(&self, now: Time) -> usize {
        self.waiters.values().filter(|it| now.since(it.heard_at) < WAITER_SILENT).count()
    }

    /// The entry of `content`; `None` if there are too many that still ask.
    fn waiter(&mut self, now: Time, content: &Content) -> Option<&mut Waiter> {
        if !self.waiters.contains_key(content) && self.waiters.len() >= WAITERS_MAX {
            self.waiters.retain(|_, waiter| now.since(waiter.heard_at) < WAITER_SILENT);
            if self.waiters.len() >= WAITERS_MAX {
                return None;
            }
        }
        Some(self.waiters.entry(content.clone()).or_insert(Waiter {
            heard_at: now,
            refused_at: None,
            had_at: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;
    use wire::FileName;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn content(number: u8) -> Content {
        Content { server: Ipv4Addr::new(10, 0, 0, number), file: FileName::new(b"f").unwrap() }
    }

    #[test]
    fn a_turn_that_nobody_contests_is_never_over() {
        let mut turns = Turns::default();
        turns.hear(at(1), &content(2));
        assert!(!turns.is_over(at(10_000), Some(at(0))), "heard, but not refused: it announces, say");
    }

    #[test]
    fn a_contested_turn_is_over_when_idle_or_after_its_tenure() {
        let mut turns = Turns::default();
        for second in (0..=610).step_by(30) {
            turns.refuse(at(second), &content(2));
            let busy = second.saturating_sub(10);
            assert_eq!(turns.is_over(at(second), Some(at(busy))), second >= 600, "at {second} s");
        }
        assert!(turns.is_over(at(610), Some(at(490))), "idle");
        let mut turns = Turns::default();
        turns.refuse(at(0), &content(2));
        assert!(!turns.is_over(at(61), None), "it gave up");
        turns.refuse(at(590), &content(2));
        assert!(!turns.is_over(at(601), Some(at(600))), "contested for 11 s, not for 601");
    }

    #[test]
    fn who_had_its_turn_leaves_the_tuple_to_each_that_waited() {
        let mut turns = Turns::default();
        for waiter in [2, 3] {
            turns.refuse(at(0), &content(waiter));
        }
        turns.end(at(1), &content(1));
        assert!(turns.must_wait(at(2), &content(1)));
        assert!(!turns.must_wait(at(2), &content(2)));
        turns.hear_holder(at(20), &content(2));
        turns.hear(at(50), &content(3));
        assert!(turns.must_wait(at(51), &content(1)), "3 still waits");
        turns.hear_holder(at(100), &content(3));
        assert!(!turns.must_wait(at(101), &content(1)));
    }

    #[test]
    fn a_waiter_that_falls_silent_or_that_is_ours_holds_nobody_up() {
        let mut turns = Turns::default();
        turns.refuse(at(0), &content(2));
        turns.end(at(1), &content(1));
        assert!(turns.must_wait(at(59), &content(1)));
        assert!(!turns.must_wait(at(60), &content(1)));
        turns.refuse(at(60), &content(2));
        turns.end(at(61), &content(1));
        turns.begin(at(62), &content(2));
        assert!(!turns.must_wait(at(63), &content(1)));
    }

    #[test]
    fn waiting_for_others_has_an_end() {
        let mut turns = Turns::default();
        turns.refuse(at(0), &content(2));
        turns.end(at(1), &content(1));
        // It had it and announces; it does not say so.
        let end = 1 + PINNED_TURN_MAX.as_secs();
        (1..end + 30).step_by(30).for_each(|second| turns.hear(at(second), &content(2)));
        assert!(turns.must_wait(at(end - 1), &content(1)));
        assert!(!turns.must_wait(at(end), &content(1)));
    }

    #[test]
    fn waiters_are_bounded() {
        let mut turns = Turns::default();
        for number in 0..u32::try_from(WAITERS_MAX).unwrap() + 10 {
            let server = Ipv4Addr::from_bits(0x0a00_0000 + number);
            turns.refuse(at(0), &Content { server, ..content(1) });
        }
        assert_eq!(turns.waiters.len(), WAITERS_MAX);
        turns.refuse(at(100), &Content { server: Ipv4Addr::new(11, 0, 0, 1), ..content(1) });
        assert_eq!(turns.waiters.len(), 1);
    }
}
