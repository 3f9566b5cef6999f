//! Which members are within reach, and which have vanished without leaving.
//!
//! ```text
//!           its member record              no sign of life for long enough             an hour
//! (unknown) ────────────────► within reach ─────────────────────────────► unreachable ─────────► (unknown)
//!     ▲                         │      ▲         hello, or a newer record      │
//!     └───────── it left ───────┘      └───────────────────────────────────────┘
//! ```
//!
//! *Sign of life*: a hello, or a record that only it can have written; the latter reaches us by others, too, when the
//! way from it to us alone is cut. *Long enough*, R being the life of a lowest-id record (15 s on a LAN):
//!
//! | what we had of it | unreachable |
//! |---|---|
//! | hellos | R after the last one, or when it does not count as living, among many; if the next refresh of its member record is overdue as well |
//! | then only records, which others handed on; or never anything else | a member record's life after the last one |
//!
//! So a way that is cut in one direction only shows as nothing, and a member that starts anew within R neither. One that
//! crashed looks the same as one that is cut off: nobody can tell the two apart from here.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Time};
use wire::ServerId;

use crate::limits::{MEMBER_LIVES, MEMBER_OVERDUE, PEER_SILENT, PEERS_MAX, UNREACHABLE_KEEP};

/// A member that has vanished without leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// Its name.
    pub server: ServerId,
    /// Where its control messages came from.
    pub control: SocketAddrV4,
    /// Its last sign of life.
    pub since: Time,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    control: SocketAddrV4,
    heard_at: Option<Time>,
    /// After how long without a hello it does not count as living.
    silence: Duration,
    /// When the latest record was written that only it can have written.
    written_at: Time,
    is_missing: bool,
}

impl Known {
    fn since(&self) -> Time {
        self.heard_at.map_or(self.written_at, |at| at.max(self.written_at))
    }

    fn due(&self, silence: Duration) -> Time {
        let silence = silence.max(self.silence);
        let by_record = self.written_at + Duration::from_secs(u64::from(MEMBER_LIVES));
        match self.heard_at {
            _ if self.is_missing => self.since() + UNREACHABLE_KEEP,
            None => by_record,
            // Others have handed it on.
            Some(heard_at) if self.written_at > heard_at + self.silence => by_record.max(heard_at + silence),
            Some(heard_at) => (heard_at + silence).max(self.written_at + MEMBER_OVERDUE),
        }
    }
}

/// Whether a member is one that was unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Change {
    None,
    /// This one was unreachable, and is not any more.
    Back(SocketAddrV4),
    /// There are too many members: not watched.
    TooMany,
}

/// Every member that we know of, but for ourselves.
#[derive(Debug)]
pub(super) struct Reach {
    silence: Duration,
    known: BTreeMap<ServerId, Known>,
    /// Not later than anything is due.
    next_at: Option<Time>,
}

impl Reach {
    /// Nobody yet. `silence`: the life of a lowest-id record.
    pub(super) fn new(silence: Duration) -> Self {
        Self { silence, known: BTreeMap::new(), next_at: None }
    }

    /// A hello of that member came, which counts as living until it was silent for so long.
    pub(super) fn on_hello(&mut self, now: Time, server: ServerId, silence: Duration) -> Change {
        let Some(known) = self.known.get_mut(&server) else { return Change::None };
        (known.heard_at, known.silence) = (Some(now), silence);
        // Who is heard is missed sooner than who is only known of.
        let due = known.due(self.silence);
        self.wake(due);
        self.look_again(server)
    }

    /// Its member record is news, written then; `heard_at`: when its last hello came, if one did.
    pub(super) fn on_member(
        &mut self,
        written_at: Time,
        server: ServerId,
        control: SocketAddrV4,
        heard_at: Option<Time>,
    ) -> Change {
        if let Some(known) = self.known.get_mut(&server) {
            known.control = control;
            return self.on_written(written_at, server);
        }
        if self.known.len() >= PEERS_MAX {
            // Who has been missing for longest makes room.
            let missing = self.known.iter().filter(|(_, known)| known.is_missing);
            let oldest = missing.min_by_key(|(_, known)| known.since()).map(|(server, _)| *server);
            let Some(oldest) = oldest else { return Change::TooMany };
            self.known.remove(&oldest);
        }
        let known = Known { control, heard_at, silence: PEER_SILENT, written_at, is_missing: false };
        self.known.insert(server, known);
        self.wake(known.due(self.silence));
        Change::None
    }

    /// A record is news that only it can have written, then.
    pub(super) fn on_written(&mut self, written_at: Time, server: ServerId) -> Change {
        let Some(known) = self.known.get_mut(&server) else { return Change::None };
        let is_life = written_at > known.since();
        known.written_at = known.written_at.max(written_at);
        if is_life { self.look_again(server) } else { Change::None }
    }

    /// It gave a sign of life.
    fn look_again(&mut self, server: ServerId) -> Change {
        let Some(known) = self.known.get_mut(&server).filter(|known| known.is_missing) else {
            return Change::None;
        };
        known.is_missing = false;
        let (control, due) = (known.control, known.due(self.silence));
        self.wake(due);
        Change::Back(control)
    }

    /// It left of its own will.
    pub(super) fn on_left(&mut self, server: ServerId) -> Change {
        let missing = self.known.remove(&server).filter(|known| known.is_missing);
        missing.map_or(Change::None, |known| Change::Back(known.control))
    }

    /// We did nothing for a while and could hear nothing: whoever was within reach has its time once more.
    pub(super) fn on_slept(&mut self, now: Time) {
        for known in self.known.values_mut().filter(|known| !known.is_missing) {
            known.heard_at = known.heard_at.map(|_| now);
            known.written_at = now;
        }
    }

    /// Gives those that are unreachable from now on.
    pub(super) fn on_timeout(&mut self, now: Time) -> Vec<Unreachable> {
        if self.next_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let silence = self.silence;
        self.known.retain(|_, known| !known.is_missing || now < known.due(silence));
        let mut gone = Vec::new();
        for (server, known) in &mut self.known {
            if known.due(silence) <= now {
                known.is_missing = true;
                gone.push(Unreachable { server: *server, control: known.control, since: known.since() });
            }
        }
        self.next_at = self.known.values().map(|known| known.due(silence)).min();
        gone
    }

    /// When [`Self::on_timeout`] is wanted next.
    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        self.next_at.map(|at| Deadline { at, why: "a member gives no sign of life" })
    }

    fn wake(&mut self, at: Time) {
        self.next_at = Some(self.next_at.map_or(at, |next| next.min(at)));
    }

    /// Those that are unreachable, in order of name.
    pub(super) fn unreachable(&self) -> impl Iterator<Item = Unreachable> + '_ {
        let missing = self.known.iter().filter(|(_, known)| known.is_missing);
        missing.map(|(server, known)| Unreachable {
            server: *server,
            control: known.control,
            since: known.since(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SILENCE: Duration = Duration::from_secs(15);
    const HOST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4016);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn id(number: u16) -> ServerId {
        let [high, low] = number.to_be_bytes();
        ServerId([high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// A member that was heard and whose record was written at second 100.
    fn one() -> Reach {
        let mut reach = Reach::new(SILENCE);
        assert_eq!(reach.on_member(at(100), id(1), HOST, None), Change::None);
        assert_eq!(reach.on_hello(at(100), id(1), PEER_SILENT), Change::None);
        reach
    }

    /// Runs to `until`; gives when members became unreachable.
    fn run(reach: &mut Reach, until: Time) -> Vec<Time> {
        let mut gone = Vec::new();
        while let Some(due) = reach.next_deadline().filter(|due| due.at <= until) {
            gone.extend(reach.on_timeout(due.at).iter().map(|_| due.at));
        }
        gone
    }

    #[test]
    fn who_is_silent_in_every_way_is_unreachable_until_it_is_heard_or_for_an_hour() {
        let mut reach = one();
        assert_eq!(run(&mut reach, at(1000)), [at(100) + MEMBER_OVERDUE]);
        let missing: Vec<Unreachable> = reach.unreachable().collect();
        assert_eq!(missing, [Unreachable { server: id(1), control: HOST, since: at(100) }]);
        // An old record that was under way is no sign of life.
        assert_eq!(reach.on_written(at(99), id(1)), Change::None);
        assert_eq!(reach.on_hello(at(1000), id(1), PEER_SILENT), Change::Back(HOST));
        assert_eq!(
            (reach.unreachable().count(), reach.on_hello(at(1000), id(1), PEER_SILENT)),
            (0, Change::None)
        );
        assert_eq!(run(&mut reach, at(2000)), [at(1015)]);
        assert_eq!(reach.on_written(at(2001), id(1)), Change::Back(HOST));
        assert_eq!(run(&mut reach, at(4000)).len(), 1);
        run(&mut reach, at(2000) + UNREACHABLE_KEEP);
        assert_eq!(reach.unreachable().count(), 1);
        run(&mut reach, at(2001) + UNREACHABLE_KEEP);
        assert_eq!((reach.unreachable().count(), reach.next_deadline()), (0, None));
    }

    /// Among a thousand members hellos come every ten seconds.
    #[test]
    fn who_says_hello_rarely_is_missed_when_it_does_not_count_as_living() {
        let mut reach = one();
        assert_eq!(reach.on_hello(at(100), id(1), Duration::from_secs(100)), Change::None);
        // A record that is younger than the last hello was not handed on by others in its place.
        assert_eq!(reach.on_written(at(115), id(1)), Change::None);
        assert_eq!(run(&mut reach, at(9999)), [at(200)]);
    }

    #[test]
    fn who_leaves_is_not_missed() {
        let mut reach = one();
        assert_eq!(reach.on_left(id(1)), Change::None);
        // A hello that was under way does not bring it back.
        assert_eq!(reach.on_hello(at(101), id(1), PEER_SILENT), Change::None);
        assert_eq!(run(&mut reach, at(9999)), []);
        let mut reach = one();
        run(&mut reach, at(200));
        assert_eq!(reach.on_left(id(1)), Change::Back(HOST));
        assert_eq!(reach.unreachable().count(), 0);
    }

    #[test]
    fn whom_others_still_hear_is_within_reach() {
        let mut reach = one();
        // Its hellos do not arrive; its records do, a moment late.
        for refresh in 1..20 {
            let due = at(100 + 15 * refresh) + Duration::from_secs(1);
            assert_eq!(run(&mut reach, due), [], "at {due:?}");
            assert_eq!(reach.on_member(at(100 + 15 * refresh), id(1), HOST, None), Change::None);
        }
        assert_eq!(run(&mut reach, at(9999)).len(), 1);
    }

    #[test]
    fn who_was_never_heard_has_the_life_of_its_record() {
        let mut reach = Reach::new(SILENCE);
        assert_eq!(reach.on_member(at(5), id(1), HOST, None), Change::None);
        assert_eq!(run(&mut reach, at(999)), [at(5 + u64::from(MEMBER_LIVES))]);
    }

    #[test]
    fn after_a_sleep_of_ours_nobody_is_blamed() {
        let mut reach = one();
        reach.on_slept(at(500));
        assert_eq!(reach.on_timeout(at(500)), []);
        assert_eq!(run(&mut reach, at(999)), [at(500) + MEMBER_OVERDUE]);
    }

    #[test]
    fn members_are_bounded_and_the_missing_make_room() {
        let mut reach = Reach::new(SILENCE);
        let most = u16::try_from(PEERS_MAX).unwrap();
        for number in 0..most {
            assert_eq!(reach.on_member(at(1), id(number), HOST, None), Change::None);
        }
        assert_eq!(reach.on_member(at(1), id(most), HOST, None), Change::TooMany);
        run(&mut reach, at(100));
        assert_eq!(reach.on_member(at(100), id(most), HOST, None), Change::None);
        assert_eq!(reach.known.len(), PEERS_MAX);
        assert_eq!(reach.unreachable().count(), PEERS_MAX - 1);
    }
}
