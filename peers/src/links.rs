//! Neighbours beyond our own link: contacts that were asked to connect, and who asked us (R004.5–R004.7, R004.30).
//!
//! ```text
//!              connect               welcome
//! (contact) ───────────► asked ───────────────► up ── a record unacknowledged five times, or a disconnect ──► (contact)
//!    ▲                     │ refuse: try the neighbours it names, then
//!    └── 30 s, or longer ──┘ six times silence
//! ```
//! What goes over a neighbour link is acknowledged; what is heard on our own link is not.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Time};
use wire::ServerId;
use wire::flood::Acked;
use wire::membership::Neighbour;
use wire::record::{Snum, Uid};

use crate::limits::{
    CONNECT_AGAIN, CONNECT_TRIES, CONNECT_WAIT, LINKS_MAX, RESEND_AFTER, RESENDS_MAX, TRIED_MAX,
};

/// A record on its way over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    snum: Snum,
    sent: u32,
    again_at: Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It was asked so many times.
    Asked { tries: u32, again_at: Time },
    /// It is to be asked again then.
    Resting { until: Time },
    /// It is a neighbour.
    Up { server: ServerId, pending: BTreeMap<Uid, Pending>, useful: u64, needless: u64 },
}

/// What a link wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Ask for a connection.
    Connect(SocketAddrV4),
    /// Send these records again.
    Resend(SocketAddrV4, Vec<Uid>),
    /// It is no neighbour any more.
    Lost(SocketAddrV4, ServerId),
}

/// Every neighbour beyond our link, and every contact that may become one.
#[derive(Debug, Clone, Default)]
pub struct Links {
    all: BTreeMap<SocketAddrV4, State>,
    /// Configured: asked again for ever.
    contacts: Vec<SocketAddrV4>,
}

impl Links {
    /// These are asked at once.
    #[must_use]
    pub fn new(now: Time, contacts: &[SocketAddrV4]) -> Self {
        let asked = |contact: &SocketAddrV4| (*contact, State::Asked { tries: 0, again_at: now });
        Self { all: contacts.iter().map(asked).collect(), contacts: contacts.to_vec() }
    }

    /// Whether it is a neighbour.
    #[must_use]
    pub fn is_up(&self, address: SocketAddrV4) -> bool {
        matches!(self.all.get(&address), Some(State::Up { .. }))
    }

    /// Whether it was asked and has not answered.
    #[must_use]
    pub fn is_asked(&self, address: SocketAddrV4) -> bool {
        matches!(self.all.get(&address), Some(State::Asked { .. }))
    }

    /// The neighbours.
    pub fn up(&self) -> impl Iterator<Item = Neighbour> + '_ {
        self.all.iter().filter_map(|(control, state)| match state {
            State::Up { server, .. } => Some(Neighbour { server: *server, control: *control }),
            State::Asked { .. } | State::Resting { .. } => None,
        })
    }

    /// Makes it a neighbour; `false` if there are enough, and nothing changed then.
    pub fn open(&mut self, address: SocketAddrV4, server: ServerId) -> bool {
        if self.is_up(address) {
            return true;
        }
        if self.up().count() >= LINKS_MAX {
            return false;
        }
        self.all.insert(address, State::Up { server, pending: BTreeMap::new(), useful: 0, needless: 0 });
        true
    }

    /// It refused, and named others: those not tried yet are asked.
    pub fn on_refuse(&mut self, now: Time, address: SocketAddrV4, others: &[Neighbour], me: ServerId) {
        if !self.is_asked(address) {
            return;
        }
        self.rest(now, address);
        let room = TRIED_MAX.saturating_sub(self.all.len());
        let fresh =
            others.iter().filter(|other| other.server != me && !self.all.contains_key(&other.control));
        let fresh: Vec<SocketAddrV4> = fresh.take(room).map(|other| other.control).collect();
        for control in fresh {
            self.all.insert(control, State::Asked { tries: 0, again_at: now });
        }
    }

    /// It is no neighbour any more; a contact is asked again later.
    pub fn close(&mut self, now: Time, address: SocketAddrV4) {
        if self.is_up(address) {
            self.rest(now, address);
        }
    }

    /// Asks another one, whom a neighbour that leaves has named.
    pub fn ask(&mut self, now: Time, address: SocketAddrV4) {
        if self.all.len() < TRIED_MAX {
            self.all.entry(address).or_insert(State::Asked { tries: 0, again_at: now });
        }
    }

    fn rest(&mut self, now: Time, address: SocketAddrV4) {
        if self.contacts.contains(&address) {
            self.all.insert(address, State::Resting { until: now + CONNECT_AGAIN });
        } else {
            self.all.remove(&address);
        }
    }

    /// A record goes over that link now, for the first time in this version.
    pub fn sent(&mut self, now: Time, address: SocketAddrV4, uid: Uid, snum: Snum) {
        if let Some(State::Up { pending, .. }) = self.all.get_mut(&address) {
            pending.insert(uid, Pending { snum, sent: 1, again_at: now + RESEND_AFTER });
        }
    }

    /// The neighbour has it; `false` if it is no neighbour.
    pub fn on_ack(&mut self, address: SocketAddrV4, acked: &Acked) -> bool {
        let Some(State::Up { pending, useful, needless, .. }) = self.all.get_mut(&address) else {
            return false;
        };
        if pending.get(&acked.uid).is_some_and(|it| it.snum <= acked.snum) {
            pending.remove(&acked.uid);
        }
        *(if acked.useful { useful } else { needless }) += 1;
        true
    }

    /// Of the records sent to it: how many were news there, and how many not (R004.30).
    #[must_use]
    pub fn usefulness(&self, address: SocketAddrV4) -> Option<(u64, u64)> {
        match self.all.get(&address)? {
            State::Up { useful, needless, .. } => Some((*useful, *needless)),
            State::Asked { .. } | State::Resting { .. } => None,
        }
    }

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let due = self.all.values().filter_map(|state| match state {
            State::Asked { again_at, .. } => Some(*again_at),
            State::Resting { until } => Some(*until),
            State::Up { pending, .. } => pending.values().map(|it| it.again_at).min(),
        });
        due.min().map(|at| Deadline { at, why: "neighbour silent" })
    }

    /// What is due.
    pub fn on_timeout(&mut self, now: Time) -> Vec<Due> {
        let addresses: Vec<SocketAddrV4> = self.all.keys().copied().collect();
        addresses.into_iter().filter_map(|address| self.poll(now, address)).collect()
    }

    fn poll(&mut self, now: Time, address: SocketAddrV4) -> Option<Due> {
        let state = self.all.get_mut(&address)?;
        match state {
            State::Resting { until } if *until <= now => {
                *state = State::Asked { tries: 1, again_at: now + CONNECT_WAIT };
                Some(Due::Connect(address))
            }
            State::Asked { tries, again_at } if *again_at <= now => {
                if *tries >= CONNECT_TRIES {
                    self.rest(now, address);
                    return None;
                }
                *again_at = now + CONNECT_WAIT.saturating_mul(1 << (*tries).min(8));
                *tries += 1;
                Some(Due::Connect(address))
            }
            State::Up { server, pending, .. } => {
                let server = *server;
                if pending.values().any(|it| it.again_at <= now && it.sent > RESENDS_MAX) {
                    self.rest(now, address);
                    return Some(Due::Lost(address, server));
                }
                let mut again = Vec::new();
                for (uid, it) in pending.iter_mut().filter(|(_, it)| it.again_at <= now) {
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

/// How long a contact that never answers is asked before it rests.
#[must_use]
pub fn connect_span() -> Duration {
    (0..CONNECT_TRIES).map(|tries| CONNECT_WAIT.saturating_mul(1 << tries.min(8))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use wire::BootEpoch;
    use wire::record::RecordKind;

    const ME: ServerId = ServerId([0; 16]);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn host(number: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, number), 4016)
    }

    fn neighbour(number: u8) -> Neighbour {
        Neighbour { server: ServerId([number; 16]), control: host(number) }
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
    fn a_contact_that_never_answers_is_asked_six_times_and_then_now_and_then() {
        let mut links = Links::new(at(0), &[host(1)]);
        let span = Time::ZERO + connect_span();
        let seen = run(&mut links, span);
        assert_eq!(seen.len(), usize::try_from(CONNECT_TRIES).unwrap());
        assert!(seen.iter().all(|(_, due)| *due == Due::Connect(host(1))));
        assert_eq!(run(&mut links, span + CONNECT_AGAIN).len(), 1, "and a rest between");
    }

    #[test]
    fn a_refusal_leads_to_those_it_names_and_junk_is_bounded() {
        let mut links = Links::new(at(0), &[host(1)]);
        run(&mut links, at(0));
        let junk: Vec<Neighbour> = (0..=255).map(neighbour).collect();
        links.on_refuse(at(1), host(1), &junk, ME);
        let asked = run(&mut links, at(1));
        assert_eq!(asked.len(), TRIED_MAX - 1);
        assert!(
            asked.iter().all(|(_, due)| matches!(due, Due::Connect(it) if *it != host(1) && *it != host(0)))
        );
        // Who was not asked refuses nothing.
        let before = links.clone().all;
        links.on_refuse(at(2), host(200), &junk, ME);
        assert_eq!(links.all, before);
    }

    #[test]
    fn records_go_again_until_they_are_acknowledged_and_a_silent_neighbour_is_none() {
        let mut links = Links::new(at(0), &[host(1)]);
        assert!(links.open(host(1), ServerId([1; 16])));
        let uid = |number| Uid { owner: ME, kind: RecordKind::Claim, number };
        let snum = |counter| Snum { boot_epoch: BootEpoch(1), counter };
        for number in [1, 2] {
            links.sent(at(0), host(1), uid(number), snum(5));
        }
        assert!(links.on_ack(host(1), &Acked { uid: uid(1), snum: snum(5), useful: true }));
        links.on_ack(host(1), &Acked { uid: uid(2), snum: snum(4), useful: false });
        assert_eq!(links.usefulness(host(1)), Some((1, 1)));
        let seen = run(&mut links, at(60_000));
        let resends = seen.iter().filter(|(_, due)| *due == Due::Resend(host(1), vec![uid(2)])).count();
        assert_eq!(resends, usize::try_from(RESENDS_MAX).unwrap());
        assert!(seen.iter().any(|(_, due)| *due == Due::Lost(host(1), ServerId([1; 16]))));
        assert!(!links.is_up(host(1)));
        assert!(matches!(seen.last(), Some((_, Due::Connect(_)))), "and is asked again");
    }

    #[test]
    fn neighbours_are_bounded() {
        let mut links = Links::default();
        for number in 0..20 {
            assert_eq!(links.open(host(number), ServerId([number; 16])), usize::from(number) < LINKS_MAX);
        }
        assert!(links.open(host(3), ServerId([3; 16])), "that one is a neighbour already");
        links.close(at(0), host(3));
        assert!(links.open(host(19), ServerId([19; 16])));
        assert_eq!(links.all.len(), LINKS_MAX, "who was no contact is forgotten");
    }
}
