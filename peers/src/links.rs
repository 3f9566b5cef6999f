//! Neighbours beyond our own link: who was asked to connect, who asked us, and how useful each is (R004.5–R004.7,
//! R004.28–R004.30).
//!
//! ```text
//!             connect               welcome
//! (known) ───────────► asked ───────────────► up ── silent; a record unacknowledged five times; a disconnect ──► (known)
//!    ▲                   │ refuse: one of those it names is asked, then
//!    └── a contact rests ┘ six times silence
//! ```
//! What goes over a neighbour link is acknowledged; what is heard on our own link is not. The utility index of a neighbour
//! follows the source: U ← 31/32 U for each record that went over the link in either direction, and 128 more if it was news
//! where it arrived; both ends reckon the same.
//!
//! # Where we part from the source
//! A neighbour whose records are seldom news is not only let go when there are too many: it becomes *lazy*. It gets no
//! records, only hellos; what it lacks, the digest in them shows, and the lists that are then compared bring it. A few records
//! that were news, and it is none any more. So links that are there in case another one dies cost no copies.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Draw, Time};
use wire::ServerId;
use wire::flood::Acked;
use wire::membership::Neighbour;
use wire::record::{Snum, Uid};

use crate::limits::{
    ASKED_MAX, CONNECT_TRIES, CONNECT_WAIT, JUDGED_MIN, LINKS_MAX, LINKS_MIN, NAMED_MAX, OTHERS_TRIES,
    REFUSALS_MAX, RESEND_AFTER, RESENDS_MAX, TRIED_MAX, UTILITY_DECAY, UTILITY_LAZY, UTILITY_NEWS,
    UTILITY_STEP,
};

/// A record on its way over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    snum: Snum,
    sent: u32,
    again_at: Time,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Up {
    server: ServerId,
    since: Time,
    pending: BTreeMap<Uid, Pending>,
    worth: Worth,
}

/// What a neighbour is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worth {
    /// The utility index (R004.29): 0–4096.
    pub utility: u32,
    /// Records that went over the link and were news where they arrived.
    pub useful: u64,
    /// Those that were not.
    pub useless: u64,
    /// Whether records are only sent to it when lists have shown that it lacks them.
    pub is_lazy: bool,
    /// Records by which it is judged; of a lazy one, those that were news since it is lazy.
    pub judged: u32,
}

impl Worth {
    /// A record went over the link.
    fn judge(&mut self, useful: bool) {
        self.utility = self.utility * (UTILITY_DECAY - 1) / UTILITY_DECAY;
        self.judged = self.judged.saturating_add(u32::from(useful || !self.is_lazy));
        if useful {
            self.utility += UTILITY_STEP;
            self.useful += 1;
        } else {
            self.useless += 1;
        }
        if self.is_lazy && self.judged >= UTILITY_NEWS {
            (self.is_lazy, self.judged) = (false, 0);
        }
    }

    const fn make_lazy(&mut self) {
        if !self.is_lazy {
            (self.is_lazy, self.judged) = (true, 0);
        }
    }

    /// Whether enough records went over the link to tell.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.is_lazy || self.judged >= JUDGED_MIN
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It was asked so many times.
    Asked { tries: u32, again_at: Time },
    /// It is to be asked again then.
    Resting { until: Time },
    /// It is a neighbour.
    Up(Up),
}

/// What a link wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Ask for a connection.
    Connect(SocketAddrV4),
    /// A contact has rested: ask it with [`Links::ask`], if it is of any use.
    Rested(SocketAddrV4),
    /// Send these records again.
    Resend(SocketAddrV4, Vec<Uid>),
    /// It is no neighbour any more.
    Lost(SocketAddrV4, ServerId),
}

/// Every neighbour beyond our link, and every contact that may become one.
#[derive(Debug, Clone)]
pub struct Links {
    all: BTreeMap<SocketAddrV4, State>,
    /// Configured: asked again for ever.
    contacts: Vec<SocketAddrV4>,
    /// How long a contact rests.
    rest: Duration,
    /// Named by refusals, and not asked yet.
    named: Vec<SocketAddrV4>,
    /// Since somebody was let in, or we looked.
    refusals: u32,
}

impl Links {
    /// These are asked at once, and rest for so long when they do not answer.
    #[must_use]
    pub fn new(now: Time, contacts: &[SocketAddrV4], rest: Duration) -> Self {
        let asked = |contact: &SocketAddrV4| (*contact, State::Asked { tries: 0, again_at: now });
        Self {
            all: contacts.iter().map(asked).collect(),
            contacts: contacts.to_vec(),
            rest,
            named: Vec::new(),
            refusals: 0,
        }
    }

    fn neighbour(&self, address: SocketAddrV4) -> Option<&Up> {
        match self.all.get(&address)? {
            State::Up(up) => Some(up),
            State::Asked { .. } | State::Resting { .. } => None,
        }
    }

    fn neighbour_mut(&mut self, address: SocketAddrV4) -> Option<&mut Up> {
        match self.all.get_mut(&address)? {
            State::Up(up) => Some(up),
            State::Asked { .. } | State::Resting { .. } => None,
        }
    }

    /// Whether it is a neighbour.
    #[must_use]
    pub fn is_up(&self, address: SocketAddrV4) -> bool {
        self.neighbour(address).is_some()
    }

    /// Whether it was asked and has not answered.
    #[must_use]
    pub fn is_asked(&self, address: SocketAddrV4) -> bool {
        matches!(self.all.get(&address), Some(State::Asked { .. }))
    }

    /// How many were asked and have not answered.
    #[must_use]
    pub fn asked_count(&self) -> usize {
        self.all.values().filter(|state| matches!(state, State::Asked { .. })).count()
    }

    /// The neighbours, with what each is worth.
    pub fn up(&self) -> impl Iterator<Item = (Neighbour, Worth)> + '_ {
        self.all.iter().filter_map(|(control, state)| match state {
            State::Up(up) => Some((Neighbour { server: up.server, control: *control }, up.worth)),
            State::Asked { .. } | State::Resting { .. } => None,
        })
    }

    /// Since when it is a neighbour.
    #[must_use]
    pub fn since(&self, address: SocketAddrV4) -> Option<Time> {
        self.neighbour(address).map(|up| up.since)
    }

    /// How many neighbours there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.up().count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.up().next().is_none()
    }

    /// The contacts.
    #[must_use]
    pub fn contacts(&self) -> &[SocketAddrV4] {
        &self.contacts
    }

    /// Makes it a neighbour, or one anew; `false` if there are enough, and nothing changed then.
    pub fn open(&mut self, now: Time, address: SocketAddrV4, server: ServerId) -> bool {
        if let Some(up) = self.neighbour_mut(address) {
            // It may have started anew, and knows nothing of what the link was worth.
            (up.server, up.since, up.worth) = (server, now, Worth::default());
            return true;
        }
        if self.len() >= LINKS_MAX {
            return false;
        }
        self.refusals = 0;
        self.named.retain(|named| *named != address);
        let up = Up { server, since: now, pending: BTreeMap::new(), worth: Worth::default() };
        self.all.insert(address, State::Up(up));
        true
    }

    /// It refused, and named others: of all that refusals have named one is asked if there are too few neighbours (R004.28).
    pub fn on_refuse(
        &mut self,
        now: Time,
        address: SocketAddrV4,
        others: impl IntoIterator<Item = SocketAddrV4>,
        draw: &mut Draw,
    ) {
        if !self.is_asked(address) {
            return;
        }
        self.rest(now, address);
        for other in others {
            if !self.all.contains_key(&other) && !self.named.contains(&other) {
                if self.named.len() == NAMED_MAX {
                    self.named.remove(0);
                }
                self.named.push(other);
            }
        }
        self.refusals += 1;
        if self.len() < LINKS_MIN && self.refusals <= REFUSALS_MAX {
            self.ask_named(now, draw);
        }
    }

    /// Asks one of those that refusals have named; `false` if there is none.
    pub fn ask_named(&mut self, now: Time, draw: &mut Draw) -> bool {
        if self.named.is_empty() {
            return false;
        }
        let place = draw.below(self.named.len() as u64);
        let named = self.named.swap_remove(usize::try_from(place).unwrap_or(0));
        self.ask(now, named);
        true
    }

    /// A look begins: refusals are counted anew.
    pub fn on_look(&mut self) {
        self.refusals = 0;
    }

    /// It is no neighbour any more; a contact is asked again later. Gives who it was.
    pub fn close(&mut self, now: Time, address: SocketAddrV4) -> Option<ServerId> {
        let server = self.neighbour(address)?.server;
        self.rest(now, address);
        Some(server)
    }

    /// Asks that one to connect; nothing happens if it is a neighbour, was asked, or too many were.
    pub fn ask(&mut self, now: Time, address: SocketAddrV4) {
        let others = self.asked_count();
        let is_contact = self.contacts.contains(&address);
        let is_new = !matches!(self.all.get(&address), Some(State::Up(_) | State::Asked { .. }));
        let room = self.contacts.len();
        if is_new && (is_contact || (others < ASKED_MAX + room && self.all.len() < TRIED_MAX + room)) {
            self.all.insert(address, State::Asked { tries: 0, again_at: now });
        }
    }

    /// It is not asked now; a contact later.
    pub fn rest(&mut self, now: Time, address: SocketAddrV4) {
        if self.contacts.contains(&address) {
            self.all.insert(address, State::Resting { until: now + self.rest });
        } else {
            self.all.remove(&address);
        }
    }

    /// A record goes over that link now, for the first time in this version.
    pub fn sent(&mut self, now: Time, address: SocketAddrV4, uid: Uid, snum: Snum) {
        if let Some(up) = self.neighbour_mut(address) {
            up.pending.insert(uid, Pending { snum, sent: 1, again_at: now + RESEND_AFTER });
        }
    }

    /// A record came over that link.
    pub fn on_record(&mut self, address: SocketAddrV4, useful: bool) {
        if let Some(up) = self.neighbour_mut(address) {
            up.worth.judge(useful);
        }
    }

    /// The neighbour has it; `false` if it is no neighbour.
    pub fn on_ack(&mut self, address: SocketAddrV4, acked: &Acked) -> bool {
        let Some(up) = self.neighbour_mut(address) else { return false };
        if up.pending.get(&acked.uid).is_some_and(|it| it.snum <= acked.snum) {
            up.pending.remove(&acked.uid);
            up.worth.judge(acked.useful);
        }
        true
    }

    /// The neighbour takes the link for lazy: so do we.
    pub fn on_lazy(&mut self, address: SocketAddrV4) {
        if let Some(up) = self.neighbour_mut(address) {
            up.worth.make_lazy();
        }
    }

    /// That record has ended meanwhile: it is not sent again.
    pub fn on_ended(&mut self, address: SocketAddrV4, uid: &Uid) {
        if let Some(up) = self.neighbour_mut(address) {
            up.pending.remove(uid);
        }
    }

    /// What that neighbour is worth.
    #[must_use]
    pub fn worth(&self, address: SocketAddrV4) -> Option<Worth> {
        self.neighbour(address).map(|up| up.worth)
    }

    /// The least useful of those that get every record becomes lazy, if it seldom is useful.
    pub fn make_lazy(&mut self) {
        let ups = self.all.values_mut().filter_map(|state| match state {
            State::Up(up) => Some(&mut up.worth),
            State::Asked { .. } | State::Resting { .. } => None,
        });
        let eager = ups.filter(|worth| !worth.is_lazy && worth.is_known());
        if let Some(worth) = eager.min_by_key(|worth| worth.utility).filter(|it| it.utility < UTILITY_LAZY) {
            worth.make_lazy();
        }
    }

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let due = self.all.values().filter_map(|state| match state {
            State::Asked { again_at, .. } => Some(*again_at),
            State::Resting { until } => Some(*until),
            State::Up(up) => up.pending.values().map(|it| it.again_at).min(),
        });
        due.min().map(|at| Deadline { at, why: "neighbour silent" })
    }

    /// What is due.
    pub fn on_timeout(&mut self, now: Time) -> Vec<Due> {
        let addresses: Vec<SocketAddrV4> = self.all.keys().copied().collect();
        addresses.into_iter().filter_map(|address| self.poll(now, address)).collect()
    }

    fn poll(&mut self, now: Time, address: SocketAddrV4) -> Option<Due> {
        let rest = self.rest;
        let tries_most = if self.contacts.contains(&address) { CONNECT_TRIES } else { OTHERS_TRIES };
        let state = self.all.get_mut(&address)?;
        match state {
            State::Resting { until } if *until <= now => {
                *until = now + rest;
                Some(Due::Rested(address))
            }
            State::Asked { tries, again_at } if *again_at <= now => {
                if *tries >= tries_most {
                    self.rest(now, address);
                    return None;
                }
                *again_at = now + CONNECT_WAIT.saturating_mul(1 << (*tries).min(8)).min(rest);
                *tries += 1;
                Some(Due::Connect(address))
            }
            State::Up(up) => {
                let server = up.server;
                if up.pending.values().any(|it| it.again_at <= now && it.sent > RESENDS_MAX) {
                    self.rest(now, address);
                    return Some(Due::Lost(address, server));
                }
                let mut again = Vec::new();
                for (uid, it) in up.pending.iter_mut().filter(|(_, it)| it.again_at <= now) {
                    it.again_at = now + RESEND_AFTER.saturating_mul(1 << it.sent.min(8));
                    it.sent += 1;
                    again.push(*uid);
                }
                (!again.is_empty()).then_some(Due::Resend(address, again))
            }
            State::Asked { .. } | State::Resting { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use wire::BootEpoch;
    use wire::record::RecordKind;

    const ME: ServerId = ServerId([0; 16]);
    const REST: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn host(number: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, number), 4016)
    }

    fn id(number: u8) -> ServerId {
        ServerId([number; 16])
    }

    fn with_contact() -> Links {
        Links::new(at(0), &[host(1)], REST)
    }

    /// Lets time pass to `until`; gives everything that became due.
    fn run(links: &mut Links, until: Time) -> Vec<(Time, Due)> {
        let mut seen = Vec::new();
        while let Some(next) = links.next_deadline().filter(|next| next.at <= until) {
            seen.extend(links.on_timeout(next.at).into_iter().map(|due| (next.at, due)));
        }
        seen
    }

    #[test]
    fn a_contact_that_never_answers_is_asked_six_times_and_rests() {
        let mut links = with_contact();
        let seen = run(&mut links, at(7000 + 2000));
        let asked = seen.iter().filter(|(_, due)| *due == Due::Connect(host(1)));
        assert_eq!(asked.count(), usize::try_from(CONNECT_TRIES).unwrap());
        assert_eq!(
            seen.last(),
            Some(&(at(7000 + 2000), Due::Rested(host(1)))),
            "never more than a rest apart"
        );
        links.ask(at(9000), host(1));
        assert_eq!(run(&mut links, at(9000)), [(at(9000), Due::Connect(host(1)))]);
    }

    #[test]
    fn refusals_lead_to_those_they_name_one_at_a_time_and_junk_is_bounded() {
        let mut draw = Draw::from_seed(1);
        let mut links = with_contact();
        run(&mut links, at(0));
        links.on_refuse(at(1), host(1), (2..=255).map(host), &mut draw);
        assert_eq!(links.named.len(), NAMED_MAX - 1);
        // All refuse.
        let mut now = 1;
        while let Some((_, Due::Connect(asked))) = run(&mut links, at(now)).pop() {
            assert_eq!(links.asked_count(), 1);
            links.on_refuse(at(now), asked, (2..=255).map(host), &mut draw);
            now += 1;
            assert!(now < 100, "refusals go on for ever");
        }
        assert_eq!(now, 1 + u64::from(REFUSALS_MAX));
        // The next look goes on where this ended.
        links.on_look();
        assert!(links.ask_named(at(200), &mut draw));
        // Who was not asked refuses nothing.
        let before = links.clone();
        links.on_refuse(at(200), host(7), [host(8)], &mut draw);
        assert_eq!((links.all.len(), links.named), (before.all.len(), before.named));
    }

    #[test]
    fn few_are_asked_at_once() {
        let mut links = with_contact();
        (2..=255).for_each(|number| links.ask(at(0), host(number)));
        assert_eq!(links.asked_count(), 1 + ASKED_MAX);
        // Contacts are not among those few.
        let mut links = Links::new(at(0), &[1, 2, 3, 4, 5].map(host), REST);
        (6..=255).for_each(|number| links.ask(at(0), host(number)));
        assert_eq!(links.asked_count(), 5 + ASKED_MAX);
    }

    fn uid(number: u64) -> Uid {
        Uid { owner: ME, kind: RecordKind::Claim, number }
    }

    fn snum(counter: u32) -> Snum {
        Snum { boot_epoch: BootEpoch(1), counter }
    }

    #[test]
    fn records_go_again_until_they_are_acknowledged_and_a_silent_neighbour_is_none() {
        let mut links = with_contact();
        assert!(links.open(at(0), host(1), id(1)));
        for number in [1, 2] {
            links.sent(at(0), host(1), uid(number), snum(5));
        }
        assert!(links.on_ack(host(1), &Acked { uid: uid(1), snum: snum(5), useful: true }));
        assert!(
            links.on_ack(host(1), &Acked { uid: uid(2), snum: snum(4), useful: false }),
            "of an older one"
        );
        let worth = links.worth(host(1)).unwrap();
        assert_eq!((worth.useful, worth.useless), (1, 0));
        let seen = run(&mut links, at(60_000));
        let resends = seen.iter().filter(|(_, due)| *due == Due::Resend(host(1), vec![uid(2)])).count();
        assert_eq!(resends, usize::try_from(RESENDS_MAX).unwrap());
        assert!(seen.iter().any(|(_, due)| *due == Due::Lost(host(1), id(1))));
        assert!(!links.is_up(host(1)));
        assert!(matches!(seen.last(), Some((_, Due::Rested(_)))), "and may be asked again");
    }

    #[test]
    fn neighbours_are_bounded() {
        let mut links = Links::new(at(0), &[], REST);
        for number in 0..20 {
            assert_eq!(links.open(at(0), host(number), id(number)), usize::from(number) < LINKS_MAX);
        }
        assert!(links.open(at(0), host(3), id(3)), "that one is a neighbour already");
        assert_eq!(links.close(at(0), host(3)), Some(id(3)));
        assert!(links.open(at(0), host(19), id(19)));
        assert_eq!(links.all.len(), LINKS_MAX, "who was no contact is forgotten");
    }

    /// The source's procedure ([0094]): from 0, towards 4096 where all is useful, and towards 0 where nothing is.
    #[test]
    fn the_utility_index_is_the_sources() {
        let mut worth = Worth::default();
        worth.judge(true);
        assert_eq!(worth.utility, 128);
        worth.judge(false);
        assert_eq!(worth.utility, 124);
        (0..500).for_each(|_| worth.judge(true));
        assert!((4000..=4096).contains(&worth.utility), "{}", worth.utility);
        (0..500).for_each(|_| worth.judge(false));
        assert!(worth.utility < 32, "{}", worth.utility);
    }

    #[test]
    fn the_least_useful_becomes_lazy_until_it_brings_news() {
        let mut links = Links::new(at(0), &[], REST);
        for number in 1..=3 {
            links.open(at(0), host(number), id(number));
        }
        let lazy = |links: &Links| -> Vec<ServerId> {
            links.up().filter(|(_, worth)| worth.is_lazy).map(|(it, _)| it.server).collect()
        };
        for round in 0..40 {
            links.on_record(host(1), round == 20);
            links.on_record(host(2), round == 10);
            links.on_record(host(3), true);
            links.make_lazy();
            assert!(round > 30 || lazy(&links).is_empty(), "judged by {round} records");
        }
        links.make_lazy();
        assert_eq!(lazy(&links), [id(1), id(2)], "the third is of use");
        links.on_record(host(2), false);
        assert_eq!(lazy(&links), [id(1), id(2)]);
        (1..UTILITY_NEWS).for_each(|_| links.on_record(host(2), true));
        assert_eq!(lazy(&links), [id(1), id(2)], "a record may be lost on its usual way");
        links.on_record(host(2), true);
        links.make_lazy();
        assert_eq!(lazy(&links), [id(1)], "it is judged anew");
    }
}
