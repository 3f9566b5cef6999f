//! Hellos: who lives and speaks our protocol, how much is lost on the way, whose silence means nothing
//! (`decisions.md`, Clearing; G26).
//!
//! ```text
//!             hello              no hello for ten of its intervals     90 s
//! (unknown) ────────► living ─────────────────────────────► silent ──────────► forgotten
//!     │ query            ▲ hello                               │ hello
//!     ▼                  └──────────────────────────────────────┘
//! asked, no hello ── 5 s, and still none ──► legacy ── 24 h without a query, or a hello ──► (unknown)
//! ```
//!
//! *Its interval*: the more members, the rarer their hellos. All members of a link reckon it from the servers that they
//! hear, so it is ours, too; but who is beyond the link, or hears more than we do, says hello more rarely. Then it is the
//! lesser one of its last two: a single long one was a pause. Ten intervals of a member of a thousand are 100 s.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::Time;
use wire::hello::{Hello, Loss};
use wire::record::ServerRole;
use wire::{BootEpoch, DomainId, ServerId};

use crate::limits::{
    DEAF_FOR, HELLO_INTERVAL, HELLO_INTERVAL_MAX, HELLO_SHARE, HELLOS_MISSED, LEGACY_AFTER, LEGACY_KEEP,
    LEGACY_MAX, PEER_KEEP, PEER_SILENT, PEERS_MAX,
};
use crate::window::Window;

/// A server that says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    control: SocketAddrV4,
    boot_epoch: BootEpoch,
    window: Window,
    heard_at: Time,
    /// From one hello to the next, the last two times.
    gaps: [Duration; 2],
    tells: Loss,
    deaf_until: Time,
    about: About,
}

impl Peer {
    /// After how long a silence it does not count as living, if `interval` is ours.
    fn silence(&self, interval: Duration) -> Duration {
        let [last, before] = self.gaps;
        interval.max(last.min(before).min(HELLO_INTERVAL_MAX)).saturating_mul(HELLOS_MISSED)
    }

    fn is_living(&self, now: Time, interval: Duration) -> bool {
        now.since(self.heard_at) < self.silence(interval)
    }

    fn status(&self, server: ServerId, now: Time, interval: Duration) -> PeerStatus {
        PeerStatus {
            server,
            control: self.control,
            heard_at: self.heard_at,
            living: self.is_living(now, interval),
            loss: self.window.loss(),
            tells: self.tells,
            deaf: now < self.deaf_until,
            about: self.about,
        }
    }
}

/// What a hello tells beside loss and deafness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// What the server does.
    pub role: ServerRole,
    /// The domain it belongs to.
    pub domain: DomainId,
    /// The lowest id that it hears.
    pub lowest: ServerId,
    /// The digest of its records.
    pub digest: u64,
}

impl About {
    fn of(hello: &Hello) -> Self {
        Self { role: hello.role, domain: hello.domain, lowest: hello.lowest, digest: hello.digest }
    }
}

/// A source of queries from which no hello has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stranger {
    since: Time,
    /// It is reckoned with until then: [`LEGACY_KEEP`] after its last query.
    until: Time,
}

/// What a hello changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing to speak of.
    Nothing,
    /// A server that was not living before.
    Appeared,
    /// The server says that it is deaf: what was asked in the last second was perhaps not heard.
    Deaf,
    /// There are too many servers: dropped, nothing changed.
    TooMany,
}

/// A server, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name.
    pub server: ServerId,
    /// Where its control messages come from.
    pub control: SocketAddrV4,
    /// When it was last heard.
    pub heard_at: Time,
    /// Whether it counts as living.
    pub living: bool,
    /// The share of its hellos that we miss.
    pub loss: Loss,
    /// The greatest loss that it tells of.
    pub tells: Loss,
    /// Whether its silence means nothing now.
    pub deaf: bool,
    /// What else it tells.
    pub about: About,
}

/// Everything known from hellos, and our own count.
#[derive(Debug, Clone, Default)]
pub struct Hellos {
    count: u32,
    peers: BTreeMap<ServerId, Peer>,
    strangers: BTreeMap<Ipv4Addr, Stranger>,
}

impl Hellos {
    /// From one hello of ours to the next: a hundred a second are heard, however many members there are.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let members = u32::try_from(self.peers.len()).unwrap_or(u32::MAX).saturating_add(1);
        HELLO_INTERVAL.max(HELLO_SHARE.saturating_mul(members))
    }

    /// After how long a silence that server does not count as living.
    #[must_use]
    pub fn silence_of(&self, server: ServerId) -> Duration {
        self.peers.get(&server).map_or(PEER_SILENT, |peer| peer.silence(self.interval()))
    }

    /// Our next hello. `deaf` says whether our own kernel dropped datagrams in the last second.
    pub fn next_hello(&mut self, now: Time, deaf: bool, about: About) -> Hello {
        let interval = self.interval();
        self.peers.retain(|_, peer| {
            now.since(peer.heard_at) < PEER_KEEP + peer.silence(interval).saturating_sub(PEER_SILENT)
        });
        self.strangers.retain(|_, stranger| now < stranger.until);
        let About { role, domain, lowest, digest } = about;
        let (count, loss) = (self.count, self.loss_heard(now));
        let hello = Hello { count, loss, deaf, role, domain, lowest, digest };
        self.count = self.count.wrapping_add(1);
        hello
    }

    /// A hello of another server came from that address.
    pub fn on_hello(
        &mut self,
        now: Time,
        control: SocketAddrV4,
        server: ServerId,
        boot_epoch: BootEpoch,
        hello: &Hello,
    ) -> News {
        if !self.peers.contains_key(&server) && self.peers.len() >= PEERS_MAX {
            return News::TooMany;
        }
        // An MTFTP server asks nobody: a boot server of the source may run beside it on the same address.
        if hello.role == ServerRole::Binld {
            self.strangers.remove(control.ip());
        }
        let fresh = Peer {
            control,
            boot_epoch,
            window: Window::new(hello.count),
            heard_at: now,
            gaps: [Duration::ZERO; 2],
            tells: hello.loss,
            deaf_until: Time::ZERO,
            about: About::of(hello),
        };
        let interval = self.interval();
        let known = self.peers.entry(server).or_insert_with(|| fresh.clone());
        let appeared = !known.is_living(now, interval) || *known == fresh;
        if boot_epoch < known.boot_epoch && !appeared {
            // A datagram that took its time; the process that sent it is dead.
            return News::Nothing;
        }
        // When the later process is not heard any more, it was perhaps never there: one datagram says little.
        if boot_epoch != known.boot_epoch {
            *known = fresh;
        } else {
            if let Some(ahead) = known.window.ahead(hello.count) {
                known.gaps = [now.since(known.heard_at) / ahead, known.gaps[0]];
            }
            known.window.hear(hello.count);
            (known.control, known.heard_at, known.tells) = (control, now, hello.loss);
            known.about = About::of(hello);
        }
        if hello.deaf {
            known.deaf_until = now + DEAF_FOR;
            return News::Deaf;
        }
        if appeared { News::Appeared } else { News::Nothing }
    }

    /// A query came from that address: of somebody who says hello, or of a legacy peer.
    pub fn on_query(&mut self, now: Time, source: Ipv4Addr) {
        let asks = |peer: &Peer| peer.about.role == ServerRole::Binld && *peer.control.ip() == source;
        if self.living(now).any(|(_, peer)| asks(peer)) {
            return;
        }
        if !self.strangers.contains_key(&source) && self.strangers.len() >= LEGACY_MAX {
            let oldest = self.strangers.iter().min_by_key(|(_, it)| it.until).map(|(source, _)| *source);
            if let Some(oldest) = oldest {
                self.strangers.remove(&oldest);
            }
        }
        let until = now + LEGACY_KEEP;
        self.strangers.entry(source).or_insert(Stranger { since: now, until }).until = until;
    }

    /// A former process heard a query from that address, and no hello, so long ago.
    pub fn restore_stranger(&mut self, now: Time, source: Ipv4Addr, age: Duration) {
        let left = LEGACY_KEEP.saturating_sub(age);
        if !left.is_zero() && self.strangers.len() < LEGACY_MAX {
            self.strangers.insert(source, Stranger { since: now, until: now + left });
        }
    }

    /// Who asked in the last 24 h and has not said hello, or not yet; with how long ago that was.
    pub fn strangers(&self, now: Time) -> impl Iterator<Item = (Ipv4Addr, Duration)> + '_ {
        let heard = self.strangers.iter().filter(move |(_, it)| now < it.until);
        heard.map(move |(source, it)| (*source, LEGACY_KEEP.saturating_sub(it.until.since(now))))
    }

    /// The peers that were heard asking in the last 24 h and speak only the frozen packet, in order.
    pub fn legacy(&self, now: Time) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let legacy = self
            .strangers
            .iter()
            .filter(move |(_, it)| now.since(it.since) >= LEGACY_AFTER && now < it.until);
        legacy.map(|(source, _)| *source)
    }

    /// Whether somebody asked in the last 24 h and has not said hello, or not yet.
    #[must_use]
    pub fn has_strangers(&self, now: Time) -> bool {
        self.strangers.values().any(|it| now < it.until)
    }

    /// The loss to reckon with: the greatest that we hear from, or are told of by, a living server. MTFTP servers are
    /// among them: they defend as well, and of a dead boot server's address they are the only ones (G13).
    #[must_use]
    pub fn loss(&self, now: Time) -> Loss {
        let told = self.living(now).map(|(_, peer)| peer.tells).max().unwrap_or_default();
        told.max(self.loss_heard(now))
    }

    /// Whether a living server says that it is deaf.
    #[must_use]
    pub fn is_anybody_deaf(&self, now: Time) -> bool {
        self.living(now).any(|(_, peer)| now < peer.deaf_until)
    }

    /// How many servers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The server says that it leaves.
    pub fn forget(&mut self, server: ServerId) {
        self.peers.remove(&server);
    }

    /// Every server that is remembered, in order of name.
    pub fn status(&self, now: Time) -> impl Iterator<Item = PeerStatus> + '_ {
        let interval = self.interval();
        self.peers.iter().map(move |(server, peer)| peer.status(*server, now, interval))
    }

    /// Whether one of the last two hellos of a file server at that address was heard.
    #[must_use]
    pub fn is_file_server_there(&self, now: Time, address: Ipv4Addr) -> bool {
        let lately = self.interval() * 2;
        self.peers.values().any(|peer| {
            let is_it = peer.about.role == ServerRole::Mtftpd && *peer.control.ip() == address;
            is_it && now.since(peer.heard_at) <= lately
        })
    }

    /// One server, if it is remembered.
    #[must_use]
    pub fn peer(&self, server: ServerId, now: Time) -> Option<PeerStatus> {
        self.peers.get(&server).map(|peer| peer.status(server, now, self.interval()))
    }

    fn loss_heard(&self, now: Time) -> Loss {
        self.living(now).map(|(_, peer)| peer.window.loss()).max().unwrap_or_default()
    }

    fn living(&self, now: Time) -> impl Iterator<Item = (&ServerId, &Peer)> {
        let interval = self.interval();
        self.peers.iter().filter(move |(_, peer)| peer.is_living(now, interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HELLO_INTERVAL;

    const A: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4016);
    const B: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4016);
    const SERVER: ServerId = ServerId([1; 16]);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    const ABOUT: About =
        About { role: ServerRole::Binld, domain: DomainId([9; 16]), lowest: SERVER, digest: 7 };

    fn hello(count: u32) -> Hello {
        let About { role, domain, lowest, digest } = ABOUT;
        Hello { count, loss: Loss::NONE, deaf: false, role, domain, lowest, digest }
    }

    /// Hears hellos of [`SERVER`] for which `heard` is true; gives the time after them.
    fn hear(hellos: &mut Hellos, counts: u32, heard: impl Fn(u32) -> bool) -> Time {
        let mut now = Time::ZERO;
        for count in 0..counts {
            if heard(count) {
                hellos.on_hello(now, A, SERVER, BootEpoch(1), &hello(count));
            }
            now = now + HELLO_INTERVAL;
        }
        now
    }

    #[test]
    fn loss_is_the_greatest_heard_or_told_of() {
        let mut hellos = Hellos::default();
        let now = hear(&mut hellos, 200, |count| count % 20 != 1);
        assert_eq!(hellos.loss(now).per_mille(), 46, "6 of 128");
        assert_eq!(hellos.next_hello(now, false, ABOUT), Hello { loss: Loss::new(46).unwrap(), ..hello(0) });
        assert_eq!(hellos.next_hello(now, true, ABOUT).count, 1);
        let told = Hello { loss: Loss::new(90).unwrap(), ..hello(0) };
        hellos.on_hello(now, B, ServerId([2; 16]), BootEpoch(1), &told);
        assert_eq!(hellos.loss(now).per_mille(), 90);
        // What we are told is not told on: it would never end.
        assert_eq!(hellos.next_hello(now, false, ABOUT).loss.per_mille(), 46);
    }

    #[test]
    fn a_file_server_is_there_for_two_hellos() {
        let mut hellos = Hellos::default();
        let file_server = Hello { role: ServerRole::Mtftpd, ..hello(0) };
        hellos.on_hello(at(0), A, SERVER, BootEpoch(1), &file_server);
        hellos.on_hello(at(0), B, ServerId([2; 16]), BootEpoch(1), &hello(0));
        let is_there = |address: SocketAddrV4, now| hellos.is_file_server_there(now, *address.ip());
        let twice = HELLO_INTERVAL * 2;
        assert!(is_there(A, Time::ZERO + twice));
        assert!(!is_there(A, Time::ZERO + twice + Duration::from_millis(1)));
        assert!(!is_there(B, at(0)), "a boot server");
    }

    #[test]
    fn who_is_gone_says_nothing_about_loss() {
        let mut hellos = Hellos::default();
        let now = hear(&mut hellos, 200, |count| count % 2 == 0);
        assert_eq!(hellos.loss(now).per_mille(), 500);
        assert_eq!(hellos.loss(now + PEER_SILENT), Loss::NONE);
        assert_eq!(hellos.status(now + PEER_SILENT).next().map(|peer| peer.living), Some(false));
        hellos.next_hello(now + PEER_KEEP, false, ABOUT);
        assert_eq!(hellos.status(now).count(), 0);
    }

    #[test]
    fn a_restart_begins_anew_and_late_datagrams_of_the_dead_change_nothing() {
        let mut hellos = Hellos::default();
        let now = hear(&mut hellos, 200, |count| count % 2 == 0);
        assert_eq!(hellos.on_hello(now, A, SERVER, BootEpoch(2), &hello(0)), News::Nothing);
        assert_eq!(hellos.loss(now), Loss::NONE);
        let before = hellos.clone().peers;
        assert_eq!(hellos.on_hello(now, B, SERVER, BootEpoch(1), &hello(900)), News::Nothing);
        assert_eq!(hellos.peers, before);
    }

    #[test]
    fn one_forged_hello_of_a_later_process_silences_nobody_for_long() {
        let mut hellos = Hellos::default();
        let now = hear(&mut hellos, 20, |_| true);
        assert_eq!(hellos.on_hello(now, B, SERVER, BootEpoch(u32::MAX), &hello(0)), News::Nothing);
        assert_eq!(hellos.on_hello(now, A, SERVER, BootEpoch(1), &hello(20)), News::Nothing);
        assert_eq!(hellos.peer(SERVER, now).unwrap().control, B);
        let later = now + PEER_SILENT;
        assert_eq!(hellos.on_hello(later, A, SERVER, BootEpoch(1), &hello(30)), News::Appeared);
        assert_eq!(hellos.peer(SERVER, later).unwrap().control, A);
        assert_eq!(hellos.on_hello(later, A, SERVER, BootEpoch(1), &hello(31)), News::Nothing);
    }

    #[test]
    fn a_server_appears_once_until_it_was_silent() {
        let mut hellos = Hellos::default();
        assert_eq!(hellos.on_hello(at(0), A, SERVER, BootEpoch(1), &hello(0)), News::Appeared);
        assert_eq!(hellos.on_hello(at(300), A, SERVER, BootEpoch(1), &hello(1)), News::Nothing);
        assert_eq!(hellos.on_hello(at(9000), A, SERVER, BootEpoch(1), &hello(30)), News::Appeared);
    }

    /// Hears a hello of each of so many members in every interval of theirs, for so many seconds.
    fn crowd(hellos: &mut Hellos, members: u32, seconds: u32) -> Time {
        let wide = |number: u32| ServerId(u128::from(number).to_be_bytes());
        let interval = HELLO_INTERVAL.max(HELLO_SHARE * (members + 1));
        let rounds =
            u32::try_from(Duration::from_secs(seconds.into()).as_nanos() / interval.as_nanos()).unwrap();
        let mut now = Time::ZERO;
        for count in 0..=rounds {
            for number in 0..members {
                now = Time::ZERO + interval * count + interval / members * number;
                hellos.on_hello(now, A, wide(number), BootEpoch(1), &hello(count));
                assert!(hellos.peer(wide(0), now).unwrap().living, "{members} members, {now:?}");
            }
            let living = hellos.status(now).filter(|peer| peer.living).count();
            assert_eq!(living, members as usize, "{now:?}");
        }
        now
    }

    #[test]
    fn who_says_hello_as_rarely_as_a_thousand_do_lives_and_is_gone_after_ten() {
        for (members, silence_ms) in [(2, 3000), (29, 3000), (32, 3300), (1000, 100_100)] {
            let mut hellos = Hellos::default();
            let last = crowd(&mut hellos, members, 60);
            assert_eq!(hellos.interval() * HELLOS_MISSED, Duration::from_millis(silence_ms));
            let living = |hellos: &Hellos, now| hellos.status(now).filter(|peer| peer.living).count();
            let silence = Duration::from_millis(silence_ms);
            // Of the last round the first was heard one interval before the last.
            assert_eq!(living(&hellos, last + (silence - hellos.interval())), members as usize);
            assert_eq!(living(&hellos, last + silence), 0);
            hellos.next_hello(last + silence + Duration::from_secs(86), false, ABOUT);
            assert!(!hellos.is_empty(), "they are remembered for a while");
            hellos.next_hello(last + silence + Duration::from_secs(87), false, ABOUT);
            assert!(hellos.is_empty());
        }
    }

    /// Beyond our link there may be a thousand where we are two.
    #[test]
    fn who_says_hello_more_rarely_than_we_lives_as_its_hellos_tell() {
        let mut hellos = Hellos::default();
        let (beyond, near) = (ServerId([2; 16]), ServerId([3; 16]));
        for count in 0..3 {
            hellos.on_hello(at(10_000 * u64::from(count)), B, beyond, BootEpoch(1), &hello(count));
        }
        // One of three is lost.
        hellos.on_hello(at(40_000), B, beyond, BootEpoch(1), &hello(4));
        assert!(hellos.peer(beyond, at(139_999)).unwrap().living);
        assert!(!hellos.peer(beyond, at(140_000)).unwrap().living);
        // A pause is no interval, and what is absurd is none either.
        for (millis, count) in [(0, 0), (300, 1), (90_000, 2), (90_300, 3)] {
            hellos.on_hello(at(millis), A, near, BootEpoch(1), &hello(count));
        }
        assert!(!hellos.peer(near, at(93_300)).unwrap().living);
        for (millis, count) in [(190_000, 4), (290_000, 5)] {
            hellos.on_hello(at(millis), A, near, BootEpoch(1), &hello(count));
        }
        assert!(!hellos.peer(near, at(290_000) + HELLO_INTERVAL_MAX * HELLOS_MISSED).unwrap().living);
    }

    #[test]
    fn a_deaf_server_is_deaf_for_a_second() {
        let mut hellos = Hellos::default();
        let deaf = Hello { deaf: true, ..hello(0) };
        assert_eq!(hellos.on_hello(at(0), A, SERVER, BootEpoch(1), &deaf), News::Deaf);
        assert!(hellos.is_anybody_deaf(at(999)));
        assert!(!hellos.is_anybody_deaf(at(1000)));
    }

    #[test]
    fn who_asks_and_never_says_hello_is_a_legacy_peer() {
        let mut hellos = Hellos::default();
        hellos.on_query(at(0), *A.ip());
        assert_eq!(hellos.legacy(at(4999)).count(), 0, "its hello may be on the way");
        assert_eq!(hellos.legacy(at(5000)).collect::<Vec<_>>(), [*A.ip()]);
        let day = Time::ZERO + LEGACY_KEEP;
        assert_eq!(hellos.legacy(day).count(), 0);
        // It was upgraded.
        hellos.on_hello(at(6000), A, SERVER, BootEpoch(1), &hello(0));
        hellos.on_query(at(6001), *A.ip());
        assert_eq!(hellos.legacy(at(60_000)).count(), 0);
    }

    #[test]
    fn who_was_heard_before_a_restart_is_reckoned_with_for_what_is_left() {
        let mut hellos = Hellos::default();
        let hour = Duration::from_secs(3600);
        hellos.restore_stranger(at(0), *A.ip(), hour);
        hellos.restore_stranger(at(0), *B.ip(), LEGACY_KEEP);
        assert_eq!(hellos.strangers(at(0)).collect::<Vec<_>>(), [(*A.ip(), hour)]);
        // One that says hello soon was about to be upgraded.
        assert_eq!((hellos.has_strangers(at(0)), hellos.legacy(at(4999)).count()), (true, 0));
        assert_eq!(hellos.legacy(at(5000)).count(), 1);
        assert!(hellos.has_strangers(Time::ZERO + 22 * hour));
        assert!(!hellos.has_strangers(Time::ZERO + 23 * hour));
        hellos.on_query(at(1000), *A.ip());
        assert!(hellos.has_strangers(Time::ZERO + 23 * hour));
        hellos.on_hello(at(2000), A, SERVER, BootEpoch(1), &hello(0));
        assert!(!hellos.has_strangers(at(2000)));
    }

    /// Also where an upgraded MTFTP server and a boot server of the source share an address.
    #[test]
    fn an_mtftp_server_that_says_hello_does_not_hide_a_legacy_peer_on_its_address() {
        let mut hellos = Hellos::default();
        let of_mtftpd = Hello { role: ServerRole::Mtftpd, ..hello(0) };
        for second in 0..6 {
            hellos.on_hello(at(second * 1000), A, SERVER, BootEpoch(1), &of_mtftpd);
            hellos.on_query(at(second * 1000 + 1), *A.ip());
        }
        assert_eq!(hellos.legacy(at(5500)).collect::<Vec<_>>(), [*A.ip()]);
    }

    #[test]
    fn tables_are_bounded() {
        let mut hellos = Hellos::default();
        let wide = |number: usize| u128::try_from(number).unwrap().to_be_bytes();
        for number in 0..PEERS_MAX + 10 {
            let news = hellos.on_hello(at(0), A, ServerId(wide(number)), BootEpoch(1), &hello(0));
            assert_eq!(news == News::TooMany, number >= PEERS_MAX);
        }
        for number in 0..u32::try_from(LEGACY_MAX).unwrap() + 10 {
            hellos.on_query(at(1).max(at(u64::from(number))), Ipv4Addr::from_bits(0x0b00_0000 + number));
        }
        assert_eq!(hellos.strangers.len(), LEGACY_MAX);
        assert!(!hellos.strangers.contains_key(&Ipv4Addr::new(11, 0, 0, 0)), "the oldest is forgotten");
    }
}
