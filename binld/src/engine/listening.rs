//! For how long boot servers that speak only the frozen packet have been listened for, and when one was heard: both
//! outlive a restart, so that early clear need not wait a day after each.
//!
//! What must hold: with `unheard` listened, every query of the last so many hours was heard, but for gaps of
//! [`LISTEN_GAP_MAX`] at most. So
//!
//! * the span is written with the sign of life: what comes after the last one is a gap. A longer gap, a clock that
//!   was set back meanwhile, another boot of the host (its clock may have been anywhere): listening begins anew;
//! * a source is written within [`LEGACY_GATHER`] of being first heard, and with the next sign of life at the latest; then
//!   every [`LEGACY_NOTE`] if it was heard again, and what is read back counts as heard that much later. If the clock is set, all are written again;
//! * a gap hides who speaks in it alone. A server that announces what it holds is heard again within
//!   [`LISTEN_ANEW`]: so long a new process listens itself, whatever it knows from before.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use driver::{Time, Wall};

use super::{Change, Engine, Journal, Listened, Timer};
use crate::limits::{ALIVE_INTERVAL, CLOCK_SET, LEGACY_GATHER, LEGACY_NOTE, LISTEN_ANEW, LISTEN_GAP_MAX};

/// Who was listened for.
#[derive(Debug)]
pub(super) struct Listening {
    host_boot: [u8; 16],
    /// Listened before `since`, but for gaps.
    before: Duration,
    since: Time,
    looked_at: Time,
    /// When each source was last written.
    noted: BTreeMap<Ipv4Addr, Time>,
    /// Some are to be written soon.
    gathers: bool,
    /// The wall clock was set: what was written means something else now.
    clock_set: bool,
}

impl Listening {
    /// Goes on where a former process ended, if nothing speaks against it.
    pub(super) fn begin(journal: &Journal, now: Time, wall: Wall) -> Self {
        let gap = wall.0.checked_sub(journal.last_alive.0).map(Duration::from_millis);
        let follows = gap.is_some_and(|gap| gap <= LISTEN_GAP_MAX);
        let former = journal.listened.filter(|it| follows && it.host_boot == journal.host_boot);
        Self {
            host_boot: journal.host_boot,
            before: former.map(|it| it.span).unwrap_or_default(),
            since: now,
            looked_at: now,
            noted: BTreeMap::new(),
            gathers: false,
            clock_set: false,
        }
    }

    /// A process that was stopped heard nothing.
    fn look(&mut self, now: Time) {
        if now.since(self.looked_at) > LISTEN_GAP_MAX {
            (self.before, self.since) = (Duration::ZERO, now);
        }
        self.looked_at = now;
    }

    fn span(&self, now: Time) -> Duration {
        self.before.saturating_add(now.since(self.since))
    }

    /// Whether whoever spoke in so long a time was heard.
    pub(super) fn covers(&self, now: Time, unheard: Duration) -> bool {
        let own = now.since(self.since);
        own >= unheard || (self.span(now) >= unheard && own >= LISTEN_ANEW)
    }
}

impl Engine {
    /// Who was heard by a former process, as long as that matters.
    pub(super) fn restore_legacy(&mut self, now: Time, wall: Wall, heard: &[(Ipv4Addr, Wall)]) {
        for (source, at) in heard {
            // In the future: the clock was set back, and nobody knows when it was.
            let age = Duration::from_millis(wall.0.saturating_sub(at.0))
                .saturating_sub(LEGACY_NOTE + ALIVE_INTERVAL);
            self.domain.hellos_mut().restore_stranger(now, *source, age);
            self.listening.noted.insert(*source, now);
        }
        self.listening.clock_set = heard.iter().any(|(_, at)| at.0 > wall.0);
    }

    /// A query came from there. A source that is new goes to the store within [`LEGACY_GATHER`].
    pub(super) fn hear_query(&mut self, now: Time, source: Ipv4Addr) {
        self.domain.hellos_mut().on_query(now, source);
        if !self.listening.noted.contains_key(&source) && !self.listening.gathers {
            self.listening.gathers = true;
            self.timers.arm(Timer::Legacy, now + LEGACY_GATHER, "legacy peers to be written");
        }
    }

    pub(super) fn on_legacy_due(&mut self, now: Time) {
        let changes = self.legacy_changes(now);
        if !changes.is_empty() {
            self.persist(changes);
        }
    }

    /// Who was heard since it was written, and some time ago; and who said hello after all, or was not heard for long.
    fn legacy_changes(&mut self, now: Time) -> Vec<Change> {
        self.listening.gathers = false;
        let wall = self.wall_at(now);
        let noted = &mut self.listening.noted;
        let strangers: BTreeMap<Ipv4Addr, Duration> = self.domain.hellos().strangers(now).collect();
        let gone = noted.keys().filter(|source| !strangers.contains_key(source));
        let mut changes: Vec<Change> = gone.map(|source| Change::DropLegacy(*source)).collect();
        noted.retain(|source, _| strangers.contains_key(source));
        for (source, age) in strangers {
            let written = noted.get(&source).map(|at| now.since(*at));
            if written.is_none_or(|written| written >= LEGACY_NOTE && age < written) {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                noted.insert(source, now);
                changes.push(Change::PutLegacy(source, Wall(wall.0.saturating_sub(age))));
            }
        }
        changes
    }

    /// The wall clock shows something else than what is reckoned here.
    pub(super) fn on_clock(&mut self, expected: Wall, found: Wall) {
        let jump = Duration::from_millis(expected.0.abs_diff(found.0));
        self.listening.clock_set |= jump >= CLOCK_SET;
    }

    /// Often enough to notice that we slept.
    pub(super) fn listen(&mut self, now: Time) {
        self.listening.look(now);
        if !std::mem::take(&mut self.listening.clock_set) {
            return;
        }
        self.listening.noted.clear();
        self.on_legacy_due(now);
    }

    /// Goes with the sign of life, in one transaction.
    pub(super) fn listened(&mut self, now: Time) -> Vec<Change> {
        self.listening.look(now);
        let mut changes = self.legacy_changes(now);
        let (span, host_boot) = (self.listening.span(now), self.listening.host_boot);
        changes.push(Change::Listened(Listened { span, host_boot }));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const BOOT: [u8; 16] = [1; 16];
    const WALL: Wall = Wall(1_800_000_000_000);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    /// A process that starts so many ms after the last sign of life of one that had listened for a day.
    fn after(gap_ms: i64, host_boot: [u8; 16]) -> Listening {
        let last_alive = Wall(WALL.0.saturating_add_signed(-gap_ms));
        let listened = Some(Listened { span: DAY, host_boot: BOOT });
        let journal = Journal { last_alive, listened, host_boot, ..Journal::default() };
        Listening::begin(&journal, Time::ZERO, WALL)
    }

    #[test]
    fn a_day_goes_on_after_a_short_gap_in_one_boot_of_the_host() {
        let most = i64::try_from(LISTEN_GAP_MAX.as_millis()).unwrap();
        let table = [
            (0, BOOT, true),
            (most, BOOT, true),
            (most + 1, BOOT, false),
            // The clock was set back.
            (-1, BOOT, false),
            (1000, [2; 16], false),
        ];
        for (gap, host_boot, goes_on) in table {
            let listening = after(gap, host_boot);
            assert!(!listening.covers(at(31), DAY), "a gap of {gap}: not before it has listened itself");
            assert_eq!(listening.covers(at(32), DAY), goes_on, "a gap of {gap}");
            assert!(listening.covers(Time::ZERO + DAY, DAY));
        }
        let nothing = Listening::begin(&Journal::default(), Time::ZERO, WALL);
        assert!(!nothing.covers(at(32), DAY));
    }

    #[test]
    fn who_was_stopped_for_long_begins_anew() {
        let mut listening = after(1000, BOOT);
        for second in (0..600).step_by(60) {
            listening.look(at(second));
        }
        assert!(listening.covers(at(600), DAY));
        listening.look(at(540) + LISTEN_GAP_MAX);
        assert!(listening.covers(at(700), DAY));
        listening.look(at(5000));
        assert!(!listening.covers(at(5100), DAY));
        assert_eq!(listening.span(at(5100)), Duration::from_secs(100));
    }
}
