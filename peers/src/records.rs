//! The records of a domain, and which of two copies is the newer one (R004.8, R004.10–R004.15).
//!
//! ```text
//!            put                       put, or a quarter of its life           delete
//! (none) ─────────► own, counter n ─────────────────────────────► counter n+1 ────────► deleted ── its life ──► (none)
//!
//!            newer copy                     newer copy            not heard for its life
//! (none) ────────────► another's ─────────────────────────► same ────────────────────────► (none)
//! ```
//! *Newer*: the greater SNUM; with the same SNUM the deleted one, then the greater checksum. Only the owner makes a new
//! SNUM, so there is nothing to merge. A copy carries its age wherever it goes and ends with its life: a server that was
//! away for long brings nothing back. A deleted record is kept for as long as a forgotten copy of it may live.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use driver::{Deadline, Deadlines, Time, Wall};
use wire::flood::SyncEntry;
use wire::record::{Age, Body, Checksum, Record, RecordKind, Snum, Uid};
use wire::{BootEpoch, ServerId};

use crate::limits::{
    CHANGE_MIN, CHANGE_MIN_HEARD, EPOCH_AHEAD_MAX, FORMER_DIGESTS_MAX, LIVES_MAX, NOTES_MAX, NOTES_OWNED_MAX,
    OWNED_MAX, RECORDS_MAX, REFRESHES, TOMBSTONE_EXTRA,
};

/// A record that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    /// Its age is the one at `at`.
    record: Record,
    checksum: Checksum,
    at: Time,
}

impl Kept {
    fn age(&self, now: Time) -> Age {
        if self.is_deleted() {
            return Age::DELETED;
        }
        // Rounded up: else two members could hand a record that nobody refreshes to and fro for ever.
        let passed = u16::try_from(now.since(self.at).as_millis().div_ceil(1000)).unwrap_or(u16::MAX);
        Age(self.record.age.0.saturating_add(passed).min(Age::DELETED.0 - 1))
    }

    fn is_deleted(&self) -> bool {
        self.record.age == Age::DELETED
    }

    fn copy(&self, now: Time) -> Record {
        Record { age: self.age(now), ..self.record.clone() }
    }

    /// Its part of the digest: deleted records have none, for they are forgotten at different times.
    fn digest(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.checksum.0;
        if self.is_deleted() { 0 } else { u64::from_be_bytes([a, b, c, d, e, f, g, h]) }
    }
}

/// What became of a record that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is news: kept, and to be passed on.
    News,
    /// It was known; nothing changed.
    Known,
    /// The sender's copy is older than this one, which it shall have; nothing changed.
    Older(Record),
    /// It speaks for us and is not ours: this one, newer, shall go to everybody.
    Disowned(Record),
    /// It speaks for us from a later life than this: another server has our id. Nothing changed.
    Twin,
    /// It breaks a rule, which is named; nothing changed.
    Refused(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The record has lived.
    End(Uid),
    /// A record of ours is written anew.
    Refresh(Uid),
}

/// What we want to say in a record of ours; `None` deletes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    lives: u16,
    body: Option<Body>,
    written_at: Time,
}

/// When a note was written, and which it is.
type NoteKey = (u64, Snum, Uid);

fn note_key(record: &Record) -> Option<NoteKey> {
    let Body::Note(note) = &record.body else { return None };
    Some((note.written, record.snum, record.uid))
}

/// How many records each owner has, and all together.
#[derive(Debug, Default)]
struct Owned {
    of: BTreeMap<ServerId, usize>,
    all: usize,
}

impl Owned {
    fn add(&mut self, owner: ServerId) {
        *self.of.entry(owner).or_default() += 1;
        self.all += 1;
    }

    fn remove(&mut self, owner: ServerId) {
        let Some(count) = self.of.get_mut(&owner) else { return };
        *count -= 1;
        self.all -= 1;
        if *count == 0 {
            self.of.remove(&owner);
        }
    }

    fn of(&self, owner: ServerId) -> usize {
        self.of.get(&owner).copied().unwrap_or(0)
    }
}

/// Every record that we know.
#[derive(Debug)]
pub struct Records {
    me: ServerId,
    boot_epoch: BootEpoch,
    counter: u32,
    kept: BTreeMap<Uid, Kept>,
    owned: Owned,
    /// Notes, the oldest first.
    notes: BTreeSet<NoteKey>,
    /// Where we began to count: a note of ours that is no younger is of a former membership.
    began: u32,
    own: BTreeMap<Uid, Own>,
    digest: u64,
    /// What it was before, and until when.
    former: VecDeque<(Time, u64)>,
    /// Records that have lived, until somebody takes note.
    ended: Vec<Uid>,
    timers: Deadlines<Due>,
}

impl Records {
    /// None yet. `began` is greater than any count that was made in this boot epoch before.
    #[must_use]
    pub fn new(me: ServerId, boot_epoch: BootEpoch, began: u32) -> Self {
        Self {
            me,
            boot_epoch,
            counter: began,
            kept: BTreeMap::new(),
            owned: Owned::default(),
            notes: BTreeSet::new(),
            began,
            own: BTreeMap::new(),
            digest: 0,
            former: VecDeque::new(),
            ended: Vec::new(),
            timers: Deadlines::default(),
        }
    }

    /// Two members with the same digest have the same records, deleted ones apart.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether that is our digest, or was when somebody told it of whom we heard at `heard_at`, not longer than `way`
    /// after it was told, or at any time since.
    #[must_use]
    pub fn had_digest(&self, heard_at: Time, way: Duration, digest: u64) -> bool {
        let mut recent = self.former.iter().rev().take_while(|(until, _)| *until + way >= heard_at);
        self.digest == digest || recent.any(|(_, former)| *former == digest)
    }

    fn note_digest(&mut self, now: Time) {
        if self.former.len() == FORMER_DIGESTS_MAX {
            self.former.pop_front();
        }
        self.former.push_back((now, self.digest));
    }

    /// How many are kept, deleted ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The records of that kind that are not deleted, with their age.
    pub fn of_kind(&self, kind: RecordKind, now: Time) -> impl Iterator<Item = (&Record, Age)> {
        let live = self.kept.values().filter(move |kept| kept.record.uid.kind == kind && !kept.is_deleted());
        live.map(move |kept| (&kept.record, kept.age(now)))
    }

    /// One record, if it is kept and not deleted, with its age.
    #[must_use]
    pub fn get(&self, uid: &Uid, now: Time) -> Option<(&Record, Age)> {
        let kept = self.kept.get(uid).filter(|kept| !kept.is_deleted())?;
        Some((&kept.record, kept.age(now)))
    }

    // --- our own --------------------------------------------------------------------------------------------

    /// We say this from now on, for `lives` seconds at a time. Gives the record if it is to be flooded at once; a change
    /// that follows another too fast comes out of [`Self::on_timeout`]. What is said already is not said again.
    ///
    /// The number of our records is bounded by the caller: beyond [`OWNED_MAX`] others refuse them.
    pub fn put(
        &mut self,
        now: Time,
        kind: RecordKind,
        number: u64,
        lives: u16,
        body: Body,
    ) -> Option<Record> {
        self.say(now, Uid { owner: self.me, kind, number }, lives, Some(body))
    }

    /// We say this for `lives` seconds, and then no more: nothing refreshes it. Gives the record, to be flooded at once. The
    /// number must be new in all our lives.
    pub fn put_once(&mut self, now: Time, kind: RecordKind, number: u64, lives: u16, body: Body) -> Record {
        let uid = Uid { owner: self.me, kind, number };
        let lives = lives.clamp(1, LIVES_MAX);
        let record = Record { uid, snum: self.next_snum(), age: Age::default(), lives, body };
        self.keep(now, record.clone());
        self.drop_oldest_note(self.me);
        record
    }

    /// We do not say that any more (R004.12). As [`Self::put`].
    pub fn delete(&mut self, now: Time, kind: RecordKind, number: u64) -> Option<Record> {
        let uid = Uid { owner: self.me, kind, number };
        let lives = self.own.get(&uid)?.lives;
        self.say(now, uid, lives, None)
    }

    /// As [`Self::delete`], however short the last change was ago: we end, and nothing comes out of [`Self::on_timeout`]
    /// any more.
    pub fn delete_at_once(&mut self, now: Time, kind: RecordKind, number: u64) -> Option<Record> {
        let uid = Uid { owner: self.me, kind, number };
        self.own.get_mut(&uid)?.body = None;
        self.write(now, uid)
    }

    /// As [`Self::delete_at_once`], of all that we say of that kind.
    pub fn delete_kind_at_once(&mut self, now: Time, kind: RecordKind) -> Vec<Record> {
        let numbers: Vec<u64> =
            self.own.keys().filter(|uid| uid.kind == kind).map(|uid| uid.number).collect();
        numbers.into_iter().filter_map(|number| self.delete_at_once(now, kind, number)).collect()
    }

    fn say(&mut self, now: Time, uid: Uid, lives: u16, body: Option<Body>) -> Option<Record> {
        let lives = lives.min(LIVES_MAX);
        let known = self.own.get_mut(&uid);
        if let Some(own) = known {
            if own.body == body && own.lives == lives {
                return None;
            }
            (own.lives, own.body) = (lives, body);
            let may_at = own.written_at + CHANGE_MIN;
            if now < may_at {
                self.timers.arm(Due::Refresh(uid), may_at, "record of ours to be changed");
                return None;
            }
        } else {
            body.as_ref()?;
            self.own.insert(uid, Own { lives, body, written_at: now });
        }
        self.write(now, uid)
    }

    /// Writes what we want to say as a new version.
    fn write(&mut self, now: Time, uid: Uid) -> Option<Record> {
        let own = self.own.get_mut(&uid)?;
        own.written_at = now;
        let said = self.kept.get(&uid).map(|kept| kept.record.body.clone());
        let (age, body) = match (own.body.clone(), said) {
            (Some(body), _) => (Age::default(), body),
            (None, Some(said)) => (Age::DELETED, said),
            (None, None) => return self.own.remove(&uid).and(None),
        };
        let lives = own.lives;
        if age == Age::DELETED {
            self.own.remove(&uid);
            self.timers.disarm(&Due::Refresh(uid));
        } else {
            let again = Duration::from_secs(u64::from(lives)) / REFRESHES;
            self.timers.arm(Due::Refresh(uid), now + again, "record of ours to be refreshed");
        }
        let record = Record { uid, snum: self.next_snum(), age, lives, body };
        self.keep(now, record.clone());
        Some(record)
    }

    fn next_snum(&mut self) -> Snum {
        // 2^32 changes in one life: 400 years at ten a second.
        self.counter = self.counter.saturating_add(1);
        Snum { boot_epoch: self.boot_epoch, counter: self.counter }
    }

    // --- what others say ------------------------------------------------------------------------------------

    /// A copy of a record came (R004.10). `wall` bounds what a boot epoch may be.
    pub fn on_record(&mut self, now: Time, wall: Wall, record: &Record) -> Outcome {
        let known = self.kept.get(&record.uid);
        if let Err(why) = check(record, wall) {
            return Outcome::Refused(why);
        }
        let theirs = (record.snum, record.age == Age::DELETED, record.checksum());
        let ours = known.map(|kept| (kept.record.snum, kept.is_deleted(), kept.checksum));
        if ours == Some(theirs) {
            return Outcome::Known;
        }
        if let Some(kept) = known.filter(|_| ours > Some(theirs)) {
            return Outcome::Older(kept.copy(now));
        }
        // A note of a former life or membership of ours is read to its end.
        let is_former = record.uid.kind == RecordKind::Note
            && (record.snum.boot_epoch, record.snum.counter) <= (self.boot_epoch, self.began);
        if record.uid.owner == self.me && !is_former {
            return self.on_own(now, record);
        }
        let is_hasty = |kept: &Kept| {
            record.age != Age::DELETED
                && now.since(kept.at) < CHANGE_MIN_HEARD
                && kept.record.snum < record.snum
        };
        if known.is_some_and(is_hasty) {
            return Outcome::Refused("too_soon");
        }
        let is_note = record.uid.kind == RecordKind::Note;
        if known.is_none() && !is_note {
            if self.owned.all >= RECORDS_MAX {
                return Outcome::Refused("too_many");
            }
            if self.owned.of(record.uid.owner) >= OWNED_MAX {
                return Outcome::Refused("too_many_of_owner");
            }
        }
        self.keep(now, record.clone());
        if is_note && self.drop_oldest_note(record.uid.owner) == Some(record.uid) {
            return Outcome::Refused("too_many_notes");
        }
        Outcome::News
    }

    /// If there are too many notes, of this owner or in all, the oldest goes: so all members keep the same ones, in whatever
    /// order they came. They take nothing from the room of what machines go by.
    fn drop_oldest_note(&mut self, owner: ServerId) -> Option<Uid> {
        let of_owner = |it: &&NoteKey| it.2.owner == owner;
        let oldest = if self.notes.iter().filter(of_owner).count() > NOTES_OWNED_MAX {
            self.notes.iter().find(of_owner)
        } else if self.notes.len() > NOTES_MAX {
            self.notes.first()
        } else {
            None
        };
        let uid = oldest?.2;
        self.forget(&uid);
        Some(uid)
    }

    /// Somebody has a record of ours that is newer than what we say: of a former life, or not from us at all.
    fn on_own(&mut self, now: Time, record: &Record) -> Outcome {
        if record.snum.boot_epoch > self.boot_epoch {
            return Outcome::Twin;
        }
        if record.snum.boot_epoch == self.boot_epoch {
            // Nobody but us counts in this life: a twin, or a forger. Going above it ends it, unless it goes on.
            if record.snum.counter > self.counter.saturating_add(COUNTER_AHEAD_MAX) {
                return Outcome::Twin;
            }
            self.counter = self.counter.max(record.snum.counter);
        }
        let disowned = match self.own.contains_key(&record.uid) {
            true => self.write(now, record.uid),
            false => {
                let snum = self.next_snum();
                let record = Record { snum, age: Age::DELETED, ..record.clone() };
                self.keep(now, record.clone());
                Some(record)
            }
        };
        disowned.map_or(Outcome::Known, Outcome::Disowned)
    }

    /// In place of what is there.
    fn keep(&mut self, now: Time, record: Record) {
        let uid = record.uid;
        self.note_digest(now);
        self.forget(&uid);
        let mut left = Duration::from_secs(u64::from(record.lives));
        if record.age == Age::DELETED {
            left += TOMBSTONE_EXTRA;
        } else {
            left = left.saturating_sub(Duration::from_secs(u64::from(record.age.0)));
        }
        match note_key(&record) {
            Some(key) => _ = self.notes.insert(key),
            None => self.owned.add(uid.owner),
        }
        let kept = Kept { checksum: record.checksum(), record, at: now };
        self.digest ^= kept.digest();
        self.timers.arm(Due::End(uid), now + left, "record has lived");
        self.kept.insert(uid, kept);
    }

    fn forget(&mut self, uid: &Uid) {
        let Some(kept) = self.kept.remove(uid) else { return };
        self.digest ^= kept.digest();
        self.timers.disarm(&Due::End(*uid));
        match note_key(&kept.record) {
            Some(key) => _ = self.notes.remove(&key),
            None => self.owned.remove(uid.owner),
        }
    }

    // --- time -----------------------------------------------------------------------------------------------

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.timers.next()
    }

    /// Ends what has lived; gives records of ours to be flooded.
    pub fn on_timeout(&mut self, now: Time) -> Vec<Record> {
        let mut fresh = Vec::new();
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Due::End(uid) => {
                    let was_deleted = self.kept.get(&uid).is_none_or(Kept::is_deleted);
                    self.note_digest(now);
                    self.forget(&uid);
                    self.ended.extend((!was_deleted).then_some(uid));
                }
                Due::Refresh(uid) => fresh.extend(self.write(now, uid)),
            }
        }
        fresh
    }

    /// Takes the records that nobody refreshed and that are gone.
    pub fn take_ended(&mut self) -> Vec<Uid> {
        std::mem::take(&mut self.ended)
    }

    // --- the join phase (R004.9) ----------------------------------------------------------------------------

    /// What we have in that stretch, in order, at most `count`.
    #[must_use]
    pub fn entries(&self, now: Time, stretch: RangeInclusive<Uid>, count: usize) -> Vec<SyncEntry> {
        let kept = self.kept.range(stretch).take(count);
        kept.map(|(uid, kept)| SyncEntry { uid: *uid, snum: kept.record.snum, age: kept.age(now) }).collect()
    }

    /// What somebody lacks, or has older, who has these entries in that stretch.
    #[must_use]
    pub fn lacking(&self, now: Time, stretch: RangeInclusive<Uid>, entries: &[SyncEntry]) -> Vec<Record> {
        let theirs: BTreeMap<Uid, (Snum, bool)> =
            entries.iter().map(|it| (it.uid, (it.snum, it.age == Age::DELETED))).collect();
        let lacks = |(uid, kept): &(&Uid, &Kept)| {
            let ours = (kept.record.snum, kept.is_deleted());
            // Who never had it need not be told that it is gone.
            theirs.get(uid).map_or(!kept.is_deleted(), |theirs| *theirs < ours)
        };
        self.kept.range(stretch).filter(lacks).map(|(_, kept)| kept.copy(now)).collect()
    }

    /// Copies of what we say.
    #[must_use]
    pub fn own(&self, now: Time) -> Vec<Record> {
        self.own.keys().filter_map(|uid| Some(self.kept.get(uid)?.copy(now))).collect()
    }

    /// Copies of those that are kept, deleted ones too.
    #[must_use]
    pub fn copies(&self, now: Time, uids: &[Uid]) -> Vec<Record> {
        uids.iter().filter_map(|uid| Some(self.kept.get(uid)?.copy(now))).collect()
    }

    /// Whether we lack one of these, or have it older.
    #[must_use]
    pub fn wants_any(&self, entries: &[SyncEntry]) -> bool {
        // The lowest-id record has a machine of its own.
        entries.iter().filter(|entry| entry.uid.kind != RecordKind::Lowest).any(|entry| {
            let theirs = (entry.snum, entry.age == Age::DELETED);
            let ours = self.kept.get(&entry.uid).map(|kept| (kept.record.snum, kept.is_deleted()));
            ours.map_or(entry.age != Age::DELETED, |ours| ours < theirs)
        })
    }
}

/// How far above our own counter somebody may have counted in our name before we take it for a twin.
const COUNTER_AHEAD_MAX: u32 = 1 << 16;

/// What no honest record can be.
fn check(record: &Record, wall: Wall) -> Result<(), &'static str> {
    let epoch_max = wall.0 / 1000 + EPOCH_AHEAD_MAX.as_secs();
    if record.uid.kind == RecordKind::Lowest || record.uid.kind != record.body.kind() {
        return Err("kind");
    }
    if record.lives == 0 || record.lives > LIVES_MAX {
        return Err("lives");
    }
    if record.age != Age::DELETED && record.age.0 >= record.lives {
        return Err("too_old");
    }
    if u64::from(record.snum.boot_epoch.0) > epoch_max || record.snum.counter == u32::MAX {
        return Err("absurd_snum");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
