//! Who is connected with whom: the lowest-id record and the members that vanished (R004.18–R004.27).
//!
//! On the link the record always goes by multicast: once tells everybody, and an answer to an older one is given by one
//! of us. Beyond it, it goes to one neighbour at a time and is acknowledged like any other.

use std::net::SocketAddrV4;

use driver::Time;
use wire::ServerId;
use wire::flood::{SyncEntry, SyncList};
use wire::record::{Age, Body, Record, RecordKind, Uid};

use super::reach::{Change, Unreachable};
use super::{Domain, News};
use crate::lowest::{Cast, Heard, NOBODY, Refusal, Verdict};

impl Domain {
    // --- what is known --------------------------------------------------------------------------------------

    /// The lowest id that we go by. Parts of a domain that are cut off from each other go by different ones.
    #[must_use]
    pub fn lowest(&self) -> Heard {
        self.lowest.heard()
    }

    /// How many members there are, guessed from the lowest id alone: right within a factor of 4 in 78 of 100 domains
    /// (R004.24).
    #[must_use]
    pub fn size_estimate(&self) -> f64 {
        self.lowest.size_estimate()
    }

    /// Members that have vanished without leaving, in order of name: cut off, or dead.
    pub fn unreachable(&self) -> impl Iterator<Item = Unreachable> + '_ {
        self.reach.unreachable()
    }

    // --- the lowest-id record -------------------------------------------------------------------------------

    /// A copy of it came; gives whether it was news, and then it is to be passed on.
    pub(super) fn on_lowest(&mut self, now: Time, from: SocketAddrV4, record: &Record) -> bool {
        let verdict = self.lowest.on_record(now, record, self.cast(from), &mut self.draw);
        match verdict {
            Verdict::New => {
                self.on_named(now, record);
                true
            }
            Verdict::Same | Verdict::Old => {
                self.count("lowest", "known");
                false
            }
            Verdict::Back(ours) => {
                self.push(now, from, &[ours]);
                false
            }
            Verdict::Flood(ours) => {
                self.count("lowest", "objected");
                self.on_named(now, record);
                self.pass_on(now, &[ours], None);
                false
            }
            Verdict::Refused(refusal) => {
                self.count("dropped.lowest", refusal_name(refusal));
                false
            }
        }
    }

    /// Whoever is named wrote it: a sign of life.
    fn on_named(&mut self, now: Time, record: &Record) {
        let Body::Lowest(told) = record.body else { return };
        if told != NOBODY && told != self.config.me {
            let change = self.reach.on_written(written_at(now, record), told);
            self.on_change(now, change);
        }
    }

    fn cast(&self, from: SocketAddrV4) -> Cast {
        if self.links.is_up(from) { Cast::Unicast } else { Cast::Multicast }
    }

    /// The list entries of a stretch, with the lowest-id record in its place.
    pub(super) fn with_lowest(
        &self,
        now: Time,
        first: Uid,
        last: Uid,
        entries: &mut Vec<SyncEntry>,
        most: usize,
    ) {
        let Some(record) = self.lowest.record(now).filter(|it| (first..=last).contains(&it.uid)) else {
            return;
        };
        let place = entries.partition_point(|entry| entry.uid < record.uid);
        if place < most {
            entries.insert(place, SyncEntry { uid: record.uid, snum: record.snum, age: record.age });
            entries.truncate(most);
        }
    }

    /// Somebody shows what it has in a stretch; gives whether we want its lowest-id record.
    pub(super) fn on_lowest_listed(&mut self, now: Time, from: SocketAddrV4, list: &SyncList) -> bool {
        let uid = self.lowest.uid();
        if !(list.first..=list.last).contains(&uid) {
            return false;
        }
        let theirs = list.entries.iter().find(|entry| entry.uid == uid).map(|entry| entry.snum);
        let cast = self.cast(from);
        if let Verdict::Back(ours) = self.lowest.on_listed(now, theirs, cast, &mut self.draw) {
            self.push(now, from, &[ours]);
        }
        theirs.is_some_and(|theirs| self.lowest.wants(now, theirs))
    }

    /// A member goes by another lowest id, and that has lasted: it learns ours, and we whichever is newer (R004.26).
    pub(super) fn heal(&mut self, now: Time) {
        let mut differs = false;
        while let Some(peer) = self.perceptions.next_mismatch(now, self.lowest.heard(), &mut self.draw) {
            differs = true;
            let control = self.member(now, peer).map(|peer| peer.control);
            if let Some(control) = control.filter(|it| !self.is_on_link(*it) && !self.links.is_up(*it)) {
                self.links.ask(now, control);
            }
        }
        // However many tell however many others.
        if differs && self.told_at.is_none_or(|at| now.since(at) >= self.config.constants.cap) {
            self.told_at = Some(now);
            self.count("lowest", "mismatch");
            let copy = self.lowest.record(now);
            self.pass_on(now, copy.as_slice(), None);
            self.push_to_lazy(now, copy.as_slice());
        }
    }

    // --- who vanished ---------------------------------------------------------------------------------------

    /// A member record is news.
    pub(super) fn on_member_record(&mut self, now: Time, record: &Record) {
        let server = record.uid.owner;
        if record.uid.kind != RecordKind::Member || server == self.config.me {
            return;
        }
        let Body::Member(member) = &record.body else { return };
        let control = member.control;
        let change = if record.age == Age::DELETED {
            self.reach.on_left(server)
        } else {
            let heard_at = self.hellos.peer(server, now).map(|peer| peer.heard_at);
            self.reach.on_member(written_at(now, record), server, control, heard_at)
        };
        self.on_change(now, change);
    }

    pub(super) fn on_sign_of_life(&mut self, now: Time, server: ServerId) {
        let change = self.reach.on_hello(now, server, self.hellos.silence_of(server));
        self.on_change(now, change);
    }

    pub(super) fn on_left(&mut self, now: Time, server: ServerId) {
        let change = self.reach.on_left(server);
        self.on_change(now, change);
    }

    fn on_change(&mut self, now: Time, change: Change) {
        match change {
            Change::None => {}
            Change::TooMany => self.count("dropped.domain", "too_many_members"),
            Change::Back(control) => {
                if self.reach.unreachable().next().is_none() {
                    self.tell(now, News::Healed(control));
                }
            }
        }
    }

    pub(super) fn look_for_missing(&mut self, now: Time) {
        for gone in self.reach.on_timeout(now) {
            self.count("domain", "unreachable");
            self.tell(now, News::Unreachable(gone.control));
        }
    }
}

/// When the owner wrote it: its age tells.
fn written_at(now: Time, record: &Record) -> Time {
    let age = u64::from(record.age.0) * 1_000_000_000;
    Time::from_nanos(now.as_nanos().saturating_sub(age))
}

fn refusal_name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Foreign => "foreign",
        Refusal::Expired => "expired",
        Refusal::Version => "version",
    }
}
