//! With whom to compare records, and when (R004.9).
//!
//! On a link a record is flooded once, by multicast, and nobody acknowledges it. That every member has it shows in the
//! digest of its hellos: two that differ twice in a row compare their lists, and each sends what the other lacks.
//!
//! ```text
//!          a hello with another digest        again, and the back-off is over
//! equal ──────────────────────────────► differs ──────────────────────────────► lists sent ── patience ──► (equal?)
//!   ▲ the same digest, or ours comes to it │
//!   └──────────────────────────────────────┘
//! ```
//! A hello that crossed a record on its way is none with another digest: it tells of what we had a moment before. Where
//! hellos are rare, and records are not, most that differ do so for that reason. When hundreds of records come at once
//! nobody can tell: that is why a second hello has to say so.
//!
//! Who differs from most others missed something and begins at once; most others wait: it will come to one of them.

use std::collections::BTreeMap;
use std::time::Duration;

use driver::{Draw, Time};
use wire::ServerId;

use crate::limits::{
    DIFFERS_FOR, EXCHANGE_BACKOFF_MAX, EXCHANGE_JITTER, EXCHANGE_PATIENCE, MAJORITY_WAIT, PEERS_MAX,
};

/// A member whose records are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Differs {
    since: Time,
    /// When it last told its digest.
    told_at: Time,
    /// Our digest, and its, then.
    digests: (u64, u64),
    /// Lists were sent that changed nothing: so many times in a row.
    fruitless: u32,
    again_at: Time,
    /// Another hello said so.
    confirmed: bool,
}

impl Differs {
    /// From when on lists may go to it.
    fn ripe_at(&self) -> Option<Time> {
        self.confirmed.then(|| (self.since + DIFFERS_FOR).max(self.again_at))
    }
}

/// Who differs from us.
#[derive(Debug, Clone, Default)]
pub struct Exchanges {
    differs: BTreeMap<ServerId, Differs>,
    /// Not later than anybody is ripe.
    ripe_at: Option<Time>,
    running: Option<(ServerId, Time)>,
    /// When the next one may begin, drawn when the first difference was seen.
    begin_at: Option<Time>,
}

impl Exchanges {
    /// A member tells its digest.
    pub fn on_digest(&mut self, now: Time, peer: ServerId, ours: u64, theirs: u64) {
        if ours == theirs {
            self.differs.remove(&peer);
            return self.on_removed();
        }
        if self.differs.len() >= PEERS_MAX && !self.differs.contains_key(&peer) {
            return;
        }
        let digests = (ours, theirs);
        let fresh =
            Differs { since: now, told_at: now, digests, fruitless: 0, again_at: now, confirmed: false };
        let differs = self.differs.entry(peer).or_insert(fresh);
        differs.confirmed |= differs.told_at < now;
        differs.told_at = now;
        if differs.digests != digests {
            differs.digests = digests;
            differs.fruitless = 0;
        }
        self.ripe_at = self.ripe_at.into_iter().chain(differs.ripe_at()).min();
    }

    fn on_removed(&mut self) {
        if self.differs.is_empty() {
            (self.begin_at, self.ripe_at) = (None, None);
        }
    }

    /// A member is gone.
    pub fn forget(&mut self, peer: ServerId) {
        self.differs.remove(&peer);
        if self.running.is_some_and(|(other, _)| other == peer) {
            self.running = None;
        }
    }

    /// Who is not heard any more is forgotten.
    pub fn keep(&mut self, is_heard: impl Fn(ServerId) -> bool) {
        self.differs.retain(|peer, _| is_heard(*peer));
        self.on_removed();
    }

    /// What we have has changed: `had` says whether a digest that was heard then is ours, or has been since it was told.
    pub fn on_change(&mut self, had: impl Fn(Time, u64) -> bool) {
        self.differs.retain(|_, it| !had(it.told_at, it.digests.1));
        self.on_removed();
    }

    /// With whom to begin now, if with anybody. `agree` members have our digest; call again within the hello interval.
    pub fn begin(&mut self, now: Time, agree: usize, draw: &mut Draw) -> Option<ServerId> {
        if self.running.is_some_and(|(_, until)| now < until) {
            return None;
        }
        self.running = None;
        self.ripe_at = self.differs.values().filter_map(Differs::ripe_at).min();
        let ripe = self.differs.iter().filter(|(_, it)| it.ripe_at().is_some_and(|at| at <= now));
        let ready: Vec<ServerId> = ripe.map(|(id, _)| *id).collect();
        if ready.is_empty() {
            return None;
        }
        let begin_at = *self.begin_at.get_or_insert_with(|| {
            let wait = if agree >= self.differs.len() { MAJORITY_WAIT } else { Duration::ZERO };
            now + wait + draw.jitter(EXCHANGE_JITTER)
        });
        if now < begin_at {
            return None;
        }
        let count = u64::try_from(ready.len()).unwrap_or(1);
        let peer = *ready.get(usize::try_from(draw.below(count)).unwrap_or(0))?;
        self.begin_with(now, peer);
        Some(peer)
    }

    /// Lists go to this member now, whatever its digest.
    pub fn begin_with(&mut self, now: Time, peer: ServerId) {
        self.running = Some((peer, now + EXCHANGE_PATIENCE));
        if let Some(differs) = self.differs.get_mut(&peer) {
            let wait = EXCHANGE_PATIENCE.saturating_mul(1 << differs.fruitless.min(16));
            differs.fruitless += 1;
            differs.again_at = now + wait.min(EXCHANGE_BACKOFF_MAX);
            // What came of it, its next hello tells.
            differs.confirmed = false;
        }
    }

    /// When [`Self::begin`] may give somebody.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        let ripe = self.ripe_at?;
        let free = self.running.map_or(ripe, |(_, until)| until.max(ripe));
        Some(self.begin_at.map_or(free, |begin_at| begin_at.max(free)))
    }

    /// Whether a member has had other records for that long; `had` as for [`Self::on_change`].
    #[must_use]
    pub fn anybody_differs(&self, now: Time, span: Duration, had: impl Fn(Time, u64) -> bool) -> bool {
        self.differs.values().any(|it| now.since(it.since) >= span && !had(it.told_at, it.digests.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn id(number: u8) -> ServerId {
        ServerId([number; 16])
    }

    /// Two hellos with another digest.
    fn differs(exchanges: &mut Exchanges, now: Time, peer: u8) {
        exchanges.on_digest(now, id(peer), 1, 2);
        exchanges.on_digest(now + Duration::from_millis(1), id(peer), 1, 2);
    }

    /// Asks again and again until somebody is named; gives when.
    fn begins(exchanges: &mut Exchanges, from: Time, agree: usize) -> (Time, ServerId) {
        let mut draw = Draw::from_seed(1);
        let mut now = from;
        loop {
            if let Some(peer) = exchanges.begin(now, agree, &mut draw) {
                return (now, peer);
            }
            now = exchanges.next_at().unwrap().max(now + Duration::from_millis(1));
            assert!(now < from + Duration::from_secs(60), "never");
        }
    }

    #[test]
    fn who_differs_from_most_begins_at_once_and_most_wait() {
        for (agree, least, most) in [(0, 0, 100), (5, 1500, 1600)] {
            let mut exchanges = Exchanges::default();
            differs(&mut exchanges, at(0), 1);
            let (when, peer) = begins(&mut exchanges, at(0), agree);
            let waited = when.since(at(0)) - DIFFERS_FOR;
            assert_eq!(peer, id(1));
            assert!((least..=most).contains(&u64::try_from(waited.as_millis()).unwrap()), "{waited:?}");
        }
    }

    #[test]
    fn one_hello_is_not_enough_and_after_the_lists_another_one_tells() {
        let mut exchanges = Exchanges::default();
        exchanges.on_digest(at(0), id(1), 1, 2);
        assert_eq!(exchanges.next_at(), None);
        exchanges.on_digest(at(900), id(1), 1, 3);
        let (when, _) = begins(&mut exchanges, at(900), 0);
        assert_eq!(exchanges.begin(when + EXCHANGE_BACKOFF_MAX, 0, &mut Draw::from_seed(1)), None);
        exchanges.on_digest(when + EXCHANGE_BACKOFF_MAX, id(1), 1, 3);
        assert!(exchanges.begin(when + EXCHANGE_BACKOFF_MAX, 0, &mut Draw::from_seed(1)).is_some());
    }

    #[test]
    fn a_difference_that_passes_is_none() {
        let mut exchanges = Exchanges::default();
        exchanges.on_digest(at(0), id(1), 1, 2);
        exchanges.on_digest(at(200), id(1), 2, 2);
        assert_eq!(
            (exchanges.next_at(), exchanges.anybody_differs(at(9999), Duration::ZERO, |_, _| false)),
            (None, false)
        );
        assert_eq!(exchanges.begin(at(9999), 0, &mut Draw::from_seed(1)), None);
    }

    #[test]
    fn what_ours_comes_to_is_no_difference() {
        let mut exchanges = Exchanges::default();
        exchanges.on_digest(at(0), id(1), 1, 2);
        exchanges.on_digest(at(10), id(2), 1, 3);
        exchanges.on_digest(at(11), id(2), 1, 3);
        let had = |then: Time, digest: u64| then <= at(5) && digest == 2;
        assert!(exchanges.anybody_differs(at(100), Duration::ZERO, had));
        exchanges.on_change(had);
        assert_eq!(begins(&mut exchanges, at(10), 0).1, id(2));
        exchanges.on_change(|_, digest| digest == 3);
        assert!(!exchanges.anybody_differs(at(9999), Duration::ZERO, |_, _| false));
    }

    #[test]
    fn what_brings_nothing_is_tried_ever_more_rarely_until_something_changes() {
        let mut exchanges = Exchanges::default();
        exchanges.on_digest(at(0), id(1), 1, 2);
        let mut now = at(0);
        let mut gaps = Vec::new();
        for _ in 0..12 {
            exchanges.on_digest(now + Duration::from_millis(1), id(1), 1, 2);
            let (when, _) = begins(&mut exchanges, now, 0);
            gaps.push(when.since(now));
            now = when;
        }
        assert!(gaps.windows(2).skip(1).all(|pair| pair[0] <= pair[1]), "{gaps:?}");
        assert!(gaps.last().unwrap() <= &(EXCHANGE_BACKOFF_MAX + Duration::from_millis(1)), "{gaps:?}");
        exchanges.on_digest(now, id(1), 1, 3);
        exchanges.begin_with(now, id(1));
        exchanges.on_digest(now + Duration::from_millis(1), id(1), 1, 3);
        assert!(exchanges.next_at().unwrap() <= now + EXCHANGE_PATIENCE);
    }

    #[test]
    fn one_at_a_time_and_who_is_gone_is_forgotten() {
        let mut exchanges = Exchanges::default();
        for peer in 1..=3 {
            differs(&mut exchanges, at(0), peer);
        }
        let (when, first) = begins(&mut exchanges, at(0), 0);
        assert_eq!(exchanges.begin(when, 0, &mut Draw::from_seed(1)), None);
        exchanges.forget(first);
        assert!(exchanges.begin(when, 0, &mut Draw::from_seed(1)).is_some_and(|next| next != first));
    }
}
