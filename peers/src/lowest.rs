//! The lowest-id record: one flooded record that names the lowest id of all members that are connected. Parts that
//! are cut off from each other come to name different ids, and so notice it (R004.18–R004.27).
//!
//! ```text
//!               a lower id is told
//!            ┌─────────────────────────────────────────┐
//!            │                                         ▼
//! start ─► waiting ◄──────────────────────────── following
//!            │  ▲   the record expired, or a newer     ▲
//!            │  │   one names a higher id: wait t(x)   │
//!  t(x) is   │  │                                      │ a lower id is told
//!  over:     │  │ it has written less than r ago       │
//!  write,    │  └──────────────────────────────── owning ──┐ refresh is due, or a newer record
//!  flood     └───────────────────────────────────►  ▲      │ names a higher id: write, flood
//!                                                   └──────┘
//! ```
//!
//! *Write* makes a record with our id and the last version plus one. The timer is a function of our id x and of the
//! last lowest id s, ids taken as fractions of their space: t(x) = a (x − s) / s. About N = ln 2 / s members share the
//! space, so the next lowest waits about ln 2 · a, and two seldom write within one round trip r. Above the cap, or
//! with no s known, t is drawn between once and twice the cap:
//!
//! ```text
//!   0   s       x₁     x₂          x₃                x₄    x₅ …                             1   ids
//!   ├───┼───────┼──────┼───────────┼─────────────────┼─────┼────────────────────────────────┤
//!       gone    │      │           └──── drawn in cap … 2 cap, most never write ────────────┘
//!   time ──────►t(x₁)  t(x₂): not any more, x₁ was heard
//! ```
//!
//! # Which of two records stays
//! The greater version; with the same version the greater checksum (R004.23); an expired copy yields to any living
//! one. That may be the wrong id: it stays only until its rightful owner hears it, and that one writes at once.
//!
//! # Where we part from the source
//! - Only the owner answers a higher id at once (R004.19). Who follows the owner leaves it that for t(x). Who waits
//!   when a higher id y is told waits a·x/y at most from then on, so that the lowest of them is first: were all at
//!   once, a wrong record would make half the domain write, twice (200 that start beside one that stands: 440 records,
//!   so about 10).
//! - Nobody writes twice within a round trip, whatever is heard: no stranger makes us flood faster.
//! - A record older than ours that was multicast is answered by one of us, not by all: each waits a random time and
//!   is silent when another has answered.
//! - Versions count and are no dates: a clock that jumped ahead would make the record unchangeable (R004.14).
//! - A copy's age is rounded up when it is handed on, so that two that keep handing it to each other let it die.
//!
//! # Invariants
//! 1. A member that owns names itself; one that follows names a lower id than its own.
//! 2. In one machine the version of a living copy never falls.
//! 3. A version beyond [`LOWEST_VERSION_MAX`] is neither written nor taken; nor one that is more than
//!    [`LOWEST_JUMP_MAX`] beyond a living copy, unless such ones are told for the life of a record.
//! 4. No copy is kept longer than `lives` after it was taken, whatever it says of itself.
//! 5. Two records that one machine writes are a round trip apart, the farewell excepted.
//! 6. Every state but *left* has a deadline.

mod perceptions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use driver::{Deadline, Draw, Time};
use wire::record::{Age, Body, Record, RecordKind, Snum, Uid};
use wire::{BootEpoch, DomainId, ServerId};

use crate::limits::{
    LOOK_LAN, LOOK_WAN, LOWEST_CAP, LOWEST_JUMP_MAX, LOWEST_LIVES, LOWEST_REFRESH, LOWEST_ROUND_TRIP_LAN,
    LOWEST_ROUND_TRIP_WAN, LOWEST_SLOPE, LOWEST_VERSION_MAX,
};

pub use perceptions::Perceptions;

/// The id that an owner leaves behind (R004.21, the source's −1): higher than any member's.
pub const NOBODY: ServerId = ServerId([0xff; 16]);

/// Spans; the same in all members of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constants {
    /// How long a record takes to everybody and the answer back: r.
    pub round_trip: Duration,
    /// Slope of the timer: a.
    pub slope: Duration,
    /// Above it the timer is drawn, between once and twice this.
    pub cap: Duration,
    /// Between two records of an undisputed owner.
    pub refresh: Duration,
    /// How long a record lives, in seconds.
    pub lives: u16,
    /// Between two looks at the neighbours beyond the link: so long, and up to as much again.
    pub look: Duration,
    /// How long a contact beyond the link rests that did not answer.
    pub rest: Duration,
}

impl Constants {
    /// Boot servers on one link or a few: a partition is seen within 17 s, and healed 2 s after it ended.
    pub const LAN: Self = Self::scaled(LOWEST_ROUND_TRIP_LAN, 15, LOOK_LAN);
    /// The source's own timer (a = 7 s, cap 15 s). It names no refresh: in proportion to the LAN's.
    pub const WAN: Self = Self::scaled(LOWEST_ROUND_TRIP_WAN, 300, LOOK_WAN);

    /// All in proportion to r; `lives` says [`LOWEST_LIVES`] round trips in seconds.
    const fn scaled(round_trip: Duration, lives: u16, look: Duration) -> Self {
        assert!(
            round_trip.saturating_mul(LOWEST_LIVES).as_secs() == lives as u64,
            "lives is not in proportion"
        );
        Self {
            round_trip,
            slope: round_trip.saturating_mul(LOWEST_SLOPE),
            cap: round_trip.saturating_mul(LOWEST_CAP),
            refresh: round_trip.saturating_mul(LOWEST_REFRESH),
            lives,
            look,
            rest: look.saturating_mul(2),
        }
    }

    /// How long member `me` waits when `last`, the last known lowest id, is gone (R004.25).
    fn timer(&self, me: ServerId, last: Option<ServerId>, draw: &mut Draw) -> Duration {
        let fit = last.and_then(|last| {
            // 64 bits of an id tell members apart well enough, and leave room to multiply.
            let (x, s) = (u128::from_be_bytes(me.0) >> 64, u128::from_be_bytes(last.0) >> 64);
            let nanos = self.slope.as_nanos() * x.saturating_sub(s) / s.max(1);
            let span = Duration::from_nanos(u64::try_from(nanos).ok()?);
            (span <= self.cap).then_some(span)
        });
        fit.unwrap_or_else(|| self.cap + draw.jitter(self.cap))
    }

    /// How long member `me` waits when a higher id is told than its own: the lowest of those below it is first.
    fn objection(&self, me: ServerId, told: ServerId) -> Duration {
        let (x, y) = (u128::from_be_bytes(me.0) >> 64, u128::from_be_bytes(told.0) >> 64);
        let nanos = self.slope.as_nanos() * x / y.max(1);
        u64::try_from(nanos).map_or(self.slope, Duration::from_nanos).min(self.slope)
    }
}

/// How a record came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// From a neighbour to us alone.
    Unicast,
    /// To everybody on the link: what we could say to it, all others could say as well.
    Multicast,
}

/// What to do with a record that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Newer: send it on, as it came, to all neighbours that have not got it, and to the link unless it came from there.
    New,
    /// We have it: acknowledge.
    Same,
    /// Older than ours, and nothing is to be said now.
    Old,
    /// Older than ours: send this back to the sender alone.
    Back(Record),
    /// It does not stand: flood this one, to the sender as well, instead of it (R004.19).
    Flood(Record),
    /// Dropped, nothing changed: count it.
    Refused(Refusal),
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not this domain's lowest-id record.
    Foreign,
    /// It outlived itself, or is marked as deleted: nobody deletes this record.
    Expired,
    /// Its version is absurd.
    Version,
}

/// What we go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The lowest id: of hellos, of the status.
    pub lowest: ServerId,
    /// The version of the record that stands, 0 before there was one. While an election runs its id may be another.
    pub version: u32,
    /// Since when we go by this id.
    pub since: Time,
}

/// A copy of the record.
#[derive(Debug, Clone)]
struct Copy {
    /// As it came.
    record: Record,
    heard_at: Time,
    expires_at: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No id stands that is lower than ours; ours will, then. `fixed`: no record of a higher id brings that forward.
    Waiting { until: Time, fixed: bool },
    /// The copy names a lower id.
    Following,
    /// The copy names ours.
    Owning { refresh_at: Time },
    /// We are silent.
    Left,
}

/// The machine of one member for one domain.
#[derive(Debug, Clone)]
pub struct Lowest {
    me: ServerId,
    uid: Uid,
    constants: Constants,
    state: State,
    copy: Option<Copy>,
    /// The lowest id when it was last clear, and since when; `None` before.
    settled: Option<(ServerId, Time)>,
    began_at: Time,
    written_at: Option<Time>,
    /// Since when, and when last, versions were told that are too far beyond ours.
    doubted: Option<(Time, Time)>,
    /// When to tell the link our copy: somebody there has an older one.
    owed_at: Option<Time>,
}

impl Lowest {
    /// A member that starts: it listens for a while before it says that it is the lowest.
    pub fn new(domain: DomainId, me: ServerId, constants: Constants, now: Time, draw: &mut Draw) -> Self {
        let uid = Uid { owner: ServerId(domain.0), kind: RecordKind::Lowest, number: 0 };
        let until = now + constants.timer(me, None, draw);
        Self {
            me,
            uid,
            constants,
            state: State::Waiting { until, fixed: false },
            copy: None,
            settled: None,
            began_at: now,
            written_at: None,
            doubted: None,
            owed_at: None,
        }
    }

    /// A record of kind [`RecordKind::Lowest`] came.
    pub fn on_record(&mut self, now: Time, heard: &Record, cast: Cast, draw: &mut Draw) -> Verdict {
        self.lapse(now, draw);
        let told = match self.check(now, heard) {
            Ok(told) => told,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let living = self.living(now).map(|copy| &copy.record);
        let order = living
            .map(|ours| heard.snum.cmp(&ours.snum).then_with(|| heard.checksum().cmp(&ours.checksum())));
        match order {
            None | Some(std::cmp::Ordering::Greater) => self.take(now, heard, told, draw),
            Some(std::cmp::Ordering::Equal) => {
                if cast == Cast::Multicast {
                    // Whoever has an older one heard it too.
                    self.owed_at = None;
                }
                Verdict::Same
            }
            Some(std::cmp::Ordering::Less) => self.correct(now, cast, draw),
        }
    }

    /// A list shows what its sender has: a record of that version, or none. As [`Self::on_record`], with nothing taken.
    pub fn on_listed(&mut self, now: Time, theirs: Option<Snum>, cast: Cast, draw: &mut Draw) -> Verdict {
        self.lapse(now, draw);
        match self.living(now) {
            Some(ours) if theirs.is_none_or(|theirs| theirs < ours.record.snum) => {
                if cast == Cast::Multicast && self.state != State::Left {
                    // It was shown to us alone: nobody else will answer.
                    self.owed_at.get_or_insert(now + draw.jitter(self.constants.round_trip));
                    return Verdict::Old;
                }
                self.correct(now, cast, draw)
            }
            Some(_) | None => Verdict::Same,
        }
    }

    /// Whether a record of that version, which somebody lists, would be taken.
    #[must_use]
    pub fn wants(&self, now: Time, theirs: Snum) -> bool {
        let is_newer = self.living(now).is_none_or(|ours| ours.record.snum < theirs);
        is_newer && theirs.boot_epoch == BootEpoch(0) && self.is_believed(now, theirs.counter)
    }

    /// How the record is named in lists.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Call when [`Self::next_deadline`] has come: a record to flood, if any.
    pub fn on_timeout(&mut self, now: Time, draw: &mut Draw) -> Option<Record> {
        self.lapse(now, draw);
        let due = match self.state {
            State::Waiting { until, .. } => until <= now,
            State::Owning { refresh_at } => refresh_at <= now,
            State::Following | State::Left => false,
        };
        if due && let Some(record) = self.write_soon(now) {
            return Some(record);
        }
        if self.owed_at.is_some_and(|at| at <= now) {
            self.owed_at = None;
            return self.record(now);
        }
        None
    }

    /// When it wants to be called; `None` after [`Self::leave`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let state = match self.state {
            State::Waiting { until, .. } => {
                Deadline { at: until, why: "nobody said that it has the lowest id" }
            }
            State::Owning { refresh_at } => Deadline { at: refresh_at, why: "the lowest id is refreshed" },
            State::Following => {
                let at = self.copy.as_ref().map_or(self.began_at, |copy| copy.expires_at);
                Deadline { at, why: "the lowest id expires" }
            }
            State::Left => return None,
        };
        let owed = self.owed_at.map(|at| Deadline { at, why: "somebody has an older lowest id" });
        Deadline::earliest(Some(state), owed)
    }

    /// We leave in good order: the record to flood if ours was the lowest id (R004.21).
    ///
    /// It names [`NOBODY`] in a version of its own, and is not marked as deleted: the age is not under the checksum, a
    /// deletion could cross a refresh of the same version, and every store would have to know that this record comes
    /// back. A higher id in a newer version already starts everybody's timer.
    pub fn leave(&mut self, now: Time) -> Option<Record> {
        let owning = matches!(self.state, State::Owning { .. });
        let version = self.next_version(now);
        self.state = State::Left;
        self.owed_at = None;
        let farewell = self.make(version.filter(|_| owning)?, NOBODY);
        self.keep(now, farewell.clone());
        Some(farewell)
    }

    /// The copy to hand to a neighbour now (for its sync list too); `None` if there is none that lives.
    #[must_use]
    pub fn record(&self, now: Time) -> Option<Record> {
        let copy = self.living(now)?;
        let held = now.since(copy.heard_at);
        let seconds = held.as_secs() + u64::from(held.subsec_nanos() > 0);
        let age = copy.record.age.0.saturating_add(u16::try_from(seconds).unwrap_or(u16::MAX));
        Some(Record { age: Age(age), ..copy.record.clone() })
    }

    /// The lowest id that we go by: ours before anything is known; the last one while an election runs.
    #[must_use]
    pub fn heard(&self) -> Heard {
        let (lowest, since) = self.settled.unwrap_or((self.me, self.began_at));
        Heard { lowest, version: self.version(), since }
    }

    /// How many members there are, guessed from the lowest id alone (R004.24): the median guess. It is right within a
    /// factor of 4 in 78 of 100 domains, of 8 in 91; no guess from one id does better.
    #[must_use]
    pub fn size_estimate(&self) -> f64 {
        // 2¹²⁸ of them would fill the space.
        let lowest = u128::from_be_bytes(self.heard().lowest.0).max(1) as f64 / u128::MAX as f64;
        (-std::f64::consts::LN_2 / (-lowest).ln_1p()).max(1.0)
    }

    /// The id that `heard` tells, if it may be looked at.
    fn check(&mut self, now: Time, heard: &Record) -> Result<ServerId, Refusal> {
        let Body::Lowest(told) = heard.body else { return Err(Refusal::Foreign) };
        if heard.uid != self.uid || heard.snum.boot_epoch != BootEpoch(0) {
            return Err(Refusal::Foreign);
        }
        if heard.age.0 >= heard.lives.min(self.constants.lives) {
            return Err(Refusal::Expired);
        }
        let version = heard.snum.counter;
        let believed = self.is_believed(now, version) || self.has_lasted(now, version);
        if believed { Ok(told) } else { Err(Refusal::Version) }
    }

    /// Whether versions far beyond ours have been told for the life of a record. Then we are the one that stands aside:
    /// a lie that we missed, or the other side of a partition, has driven them there.
    fn has_lasted(&mut self, now: Time, version: u32) -> bool {
        if !(1..=LOWEST_VERSION_MAX).contains(&version) {
            return false;
        }
        let lives = Duration::from_secs(u64::from(self.constants.lives));
        let lately = self.doubted.filter(|(_, last)| now.since(*last) < lives);
        let since = lately.map_or(now, |(since, _)| since);
        let has_lasted = now.since(since) >= lives;
        self.doubted = (!has_lasted).then_some((since, now));
        has_lasted
    }

    fn is_believed(&self, now: Time, version: u32) -> bool {
        let most = match self.living(now) {
            Some(_) => self.version().saturating_add(LOWEST_JUMP_MAX).min(LOWEST_VERSION_MAX),
            None => LOWEST_VERSION_MAX,
        };
        (1..=most).contains(&version)
    }

    /// A newer record came.
    fn take(&mut self, now: Time, heard: &Record, told: ServerId, draw: &mut Draw) -> Verdict {
        self.keep(now, heard.clone());
        if self.state == State::Left {
            return Verdict::New;
        }
        if told < self.me {
            self.settle(now, told);
            self.state = State::Following;
        } else if told == self.me {
            // We wrote it before we were restarted.
            self.settle(now, self.me);
            let age = Duration::from_secs(u64::from(heard.age.0));
            self.state = State::Owning { refresh_at: now + self.constants.refresh.saturating_sub(age) };
        } else {
            return self.object(now, told, draw);
        }
        Verdict::New
    }

    /// The record that stands names an id that is higher than ours.
    fn object(&mut self, now: Time, told: ServerId, draw: &mut Draw) -> Verdict {
        match self.state {
            State::Owning { .. } => return self.write_soon(now).map_or(Verdict::New, Verdict::Flood),
            State::Waiting { until, fixed: false } => {
                let until = until.min(now + self.constants.objection(self.me, told));
                self.state = State::Waiting { until, fixed: false };
            }
            // The owner that we knew left, is cut off, or will write at once.
            State::Following => self.wait(now, draw, told != NOBODY),
            State::Waiting { fixed: true, .. } | State::Left => {}
        }
        Verdict::New
    }

    /// An older record than ours came: its sender must learn of ours (R004.10), but not from each of us.
    fn correct(&mut self, now: Time, cast: Cast, draw: &mut Draw) -> Verdict {
        if self.state == State::Left {
            return Verdict::Old;
        }
        if cast == Cast::Unicast {
            return self.record(now).map_or(Verdict::Old, Verdict::Back);
        }
        let Constants { round_trip, cap, .. } = self.constants;
        let wait = match self.state {
            State::Owning { .. } => draw.jitter(round_trip),
            State::Waiting { .. } | State::Following | State::Left => round_trip + draw.jitter(cap),
        };
        self.owed_at.get_or_insert(now + wait);
        Verdict::Old
    }

    /// A copy that expired lets our timer start.
    fn lapse(&mut self, now: Time, draw: &mut Draw) {
        if self.copy.as_ref().is_none_or(|copy| now < copy.expires_at) {
            return;
        }
        self.owed_at = None;
        if self.state == State::Following {
            self.wait(now, draw, false);
        }
    }

    /// The lowest id that we knew is gone, perhaps.
    fn wait(&mut self, now: Time, draw: &mut Draw, fixed: bool) {
        let last = self.settled.map(|(lowest, _)| lowest);
        let until = now + self.constants.timer(self.me, last, draw);
        self.state = State::Waiting { until, fixed };
    }

    /// Writes a record of ours, or waits until that can be done.
    fn write_soon(&mut self, now: Time) -> Option<Record> {
        let round_trip = self.constants.round_trip;
        let wrote = self.written_at.filter(|at| now.since(*at) < round_trip);
        let next = self.next_version(now);
        let (Some(version), None) = (next, wrote) else {
            // The last version: it has to expire, here and at the others.
            let gone = self.copy.as_ref().filter(|_| next.is_none()).map(|copy| copy.expires_at + round_trip);
            let until = gone.max(wrote.map(|at| at + round_trip)).unwrap_or(now + round_trip);
            self.state = State::Waiting { until, fixed: true };
            return None;
        };
        let record = self.make(version, self.me);
        self.keep(now, record.clone());
        self.settle(now, self.me);
        self.written_at = Some(now);
        self.state = State::Owning { refresh_at: now + self.constants.refresh };
        Some(record)
    }

    fn make(&self, version: u32, lowest: ServerId) -> Record {
        Record {
            uid: self.uid,
            snum: Snum { boot_epoch: BootEpoch(0), counter: version },
            age: Age(0),
            lives: self.constants.lives,
            body: Body::Lowest(lowest),
        }
    }

    fn keep(&mut self, now: Time, record: Record) {
        let left = record.lives.min(self.constants.lives).saturating_sub(record.age.0);
        let expires_at = now + Duration::from_secs(u64::from(left));
        self.copy = Some(Copy { record, heard_at: now, expires_at });
        self.owed_at = None;
    }

    fn settle(&mut self, now: Time, lowest: ServerId) {
        if self.settled.is_none_or(|(before, _)| before != lowest) {
            self.settled = Some((lowest, now));
        }
    }

    fn living(&self, now: Time) -> Option<&Copy> {
        self.copy.as_ref().filter(|copy| now < copy.expires_at)
    }

    fn version(&self) -> u32 {
        self.copy.as_ref().map_or(0, |copy| copy.record.snum.counter)
    }

    /// `None` while a copy with the last version lives.
    fn next_version(&self, now: Time) -> Option<u32> {
        match self.version() {
            LOWEST_VERSION_MAX.. => self.living(now).is_none().then_some(1),
            version => Some(version + 1),
        }
    }
}
