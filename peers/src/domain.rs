//! The member machine: one server among those of its domain. Messages and time in, messages, news and knowledge out.
//!
//! * A member multicasts a hello; who hears it, and sees that it knows less, asks to be let in and compares records
//!   ([`exchange`](crate::exchange)). A new record, own or heard, goes once to everybody on the link by multicast, and to
//!   each neighbour beyond it ([`links`](crate::links)).
//! * What is heard from somebody who is no living member is dropped and counted: it has to say hello or connect first.
//! * The lowest-id record ([`lowest`](crate::lowest)) shows which members are connected; who vanished without leaving is
//!   named, whatever it says.
//! * Every table is bounded, and one message makes at most [`LISTS_MAX`] + 6 others.
//!
//! Invariant: in a domain whose members hear each other all have the same records [`Records::digest`] within seconds of
//! the last change, whatever was lost; a record that nobody refreshes ends everywhere within its life.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Deadline, Draw, Time, Wall};
use wire::control::{Envelope, Message};
use wire::hello::Hello;
use wire::membership::Disconnect;
use wire::note::Author;
use wire::record::{Body, Member, Record, RecordKind, ServerRole, Uid};
use wire::{BootEpoch, DomainId, ServerId};

use crate::exchange::Exchanges;
use crate::hello::{About, Hellos, News as HelloNews, PeerStatus};
use crate::limits::{DEAF_FOR, DIFFERS_FOR, JOIN_PATIENCE, LISTS_MAX, MEMBER_LIVES, PARTING, PEER_SILENT};
use crate::links::{Due as LinkDue, Links};
use crate::lowest::{Constants, Lowest, Perceptions};
use crate::notes::Notes;
use crate::records::Records;

pub use noting::Told;
use reach::Reach;
pub use reach::Unreachable;
pub use upkeep::Shape;

/// Who we are, and among whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainConfig {
    /// The domain.
    pub domain: DomainId,
    /// Our name.
    pub me: ServerId,
    /// This life of ours.
    pub boot_epoch: BootEpoch,
    /// What we do.
    pub role: ServerRole,
    /// Where our control messages come from.
    pub control: SocketAddrV4,
    /// Length of the link's prefix: who is inside it hears our multicast.
    pub prefix_len: u8,
    /// Where all members of the link listen.
    pub group: SocketAddrV4,
    /// Servers to ask beyond the link.
    pub contacts: Vec<SocketAddrV4>,
    /// Spans of the lowest-id record, the same in all members.
    pub constants: Constants,
    /// What we are called, for people.
    pub author: Author,
    /// Whether we write notes of our own, of who comes, goes and vanishes.
    pub tells: bool,
    /// From where we count our records and notes: greater than any count that was made in this boot epoch before. 0 but for
    /// who joins a domain again.
    pub began: u32,
}

/// What the member wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message from our control port.
    Send(SocketAddrV4, Message),
    /// Something to count: a place, and what happened there.
    Count(&'static str, &'static str),
    /// News for the log, and for whoever goes by what is known.
    Tell(News),
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A server that was not living before.
    Appeared(SocketAddrV4),
    /// A server says that it is deaf: what was asked in the last second was perhaps not heard.
    Deaf(Ipv4Addr),
    /// A server left the domain of its own will.
    Left(SocketAddrV4),
    /// Somebody at that address has our id: one of the two has a copied store.
    Twin(SocketAddrV4),
    /// A record changed, appeared, was deleted, or has ended unrefreshed.
    Changed(Uid),
    /// A neighbour beyond our link was found.
    Linked(SocketAddrV4),
    /// A neighbour beyond our link is silent.
    Unlinked(SocketAddrV4),
    /// A member has vanished without leaving: it is cut off, or dead.
    Unreachable(SocketAddrV4),
    /// No member is unreachable any more; the last one is back, or has left.
    Healed(SocketAddrV4),
}

/// How much of the domain we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// We have just begun.
    Joining,
    /// Every member that we hear has the same records.
    Joined,
    /// Records are being compared.
    Comparing,
    /// Nobody else of the domain is heard. Who was heard before is named by [`Domain::unreachable`].
    Alone,
    /// Members have vanished without leaving: cut off, or dead, which nobody can tell apart from here. Others are heard.
    /// It lasts until all of them are heard again or leave, and an hour at most after the last sign of life
    /// ([`UNREACHABLE_KEEP`](crate::limits::UNREACHABLE_KEEP)).
    Partitioned {
        /// How many have vanished; [`Domain::unreachable`] names them.
        members: usize,
        /// The last sign of life of the one that vanished first.
        since: Time,
    },
}

impl Standing {
    /// In one word, as operators are shown it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Comparing => "comparing",
            Self::Alone => "alone",
            Self::Partitioned { .. } => "partitioned",
        }
    }
}

/// One member.
#[derive(Debug)]
pub struct Domain {
    config: DomainConfig,
    draw: Draw,
    began_at: Time,
    /// When a server was last heard that was not living before.
    appeared_at: Time,
    hellos: Hellos,
    /// Until when our own silence is no evidence.
    deaf_until: Time,
    records: Records,
    exchanges: Exchanges,
    links: Links,
    /// When the neighbours beyond the link are looked at next.
    look_at: Time,
    lowest: Lowest,
    perceptions: Perceptions,
    /// When our copy of the lowest-id record was last told because somebody went by another id.
    told_at: Option<Time>,
    reach: Reach,
    notes: Notes,
    /// What the wall clock showed when we were last told.
    wall: (Time, Wall),
    /// We have said that we are there.
    has_come: bool,
    /// Members that have vanished and are to be named, and when.
    vanished: Vec<(Time, Ipv4Addr)>,
    /// Those that another one had to name: it may have vanished itself.
    unsaid: Vec<(Time, Ipv4Addr)>,
    /// Who left last, and when: its last records may come after the word.
    left: Option<(SocketAddrV4, Time)>,
    /// Members of the link that were asked to let us in; emptied when one has.
    asked: BTreeSet<ServerId>,
    welcome: bool,
    hello_at: Time,
    /// To be flooded when the input is dealt with: so that many travel together.
    fresh: Vec<Record>,
    out: VecDeque<Output>,
}

impl Domain {
    /// Begins: says hello and asks the contacts.
    #[must_use]
    pub fn new(config: DomainConfig, mut draw: Draw, now: Time) -> Self {
        let constants = config.constants;
        let mut domain = Self {
            lowest: Lowest::new(config.domain, config.me, constants, now, &mut draw),
            perceptions: Perceptions::new(constants),
            told_at: None,
            left: None,
            notes: Notes::new(config.author.clone(), config.began),
            wall: (now, Wall::default()),
            has_come: false,
            vanished: Vec::new(),
            unsaid: Vec::new(),
            reach: Reach::new(Duration::from_secs(u64::from(constants.lives))),
            draw,
            began_at: now,
            appeared_at: now,
            hellos: Hellos::default(),
            deaf_until: Time::ZERO,
            records: Records::new(config.me, config.boot_epoch, config.began),
            exchanges: Exchanges::default(),
            links: Links::new(now, &config.contacts, constants.rest),
            look_at: now + constants.look,
            asked: BTreeSet::new(),
            welcome: false,
            hello_at: now,
            fresh: Vec::new(),
            out: VecDeque::new(),
            config,
        };
        let member = Member { role: domain.config.role, control: domain.config.control, roll: 0 };
        domain.put(now, RecordKind::Member, 0, MEMBER_LIVES, Body::Member(member));
        domain.on_timeout(now);
        domain
    }

    // --- what is known --------------------------------------------------------------------------------------

    /// Who lives, and how much is lost.
    #[must_use]
    pub fn hellos(&self) -> &Hellos {
        &self.hellos
    }

    /// The same, to tell it who asks with the frozen packet.
    pub fn hellos_mut(&mut self) -> &mut Hellos {
        &mut self.hellos
    }

    /// What the members tell each other.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Neighbours beyond our link.
    #[must_use]
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The living members of our domain that we hear, ourselves left out.
    pub fn living(&self, now: Time) -> impl Iterator<Item = PeerStatus> + '_ {
        self.hellos.status(now).filter(|peer| peer.living && peer.about.domain == self.config.domain)
    }

    fn member(&self, now: Time, server: ServerId) -> Option<PeerStatus> {
        let peer = self.hellos.peer(server, now)?;
        (peer.living && peer.about.domain == self.config.domain).then_some(peer)
    }

    /// Where that member's control messages go, as its hello or its record tells.
    #[must_use]
    pub fn control_of(&self, now: Time, server: ServerId) -> Option<SocketAddrV4> {
        let uid = Uid { owner: server, kind: RecordKind::Member, number: 0 };
        let told = || self.records.get(&uid, now).and_then(|(record, _)| member_of(record));
        self.member(now, server).map(|peer| peer.control).or_else(|| told().map(|it| it.control))
    }

    /// Whether the domain knows that server to live: we hear it, or its member record is refreshed.
    #[must_use]
    pub fn is_living(&self, now: Time, server: ServerId) -> bool {
        let uid = Uid { owner: server, kind: RecordKind::Member, number: 0 };
        server == self.config.me
            || self.member(now, server).is_some()
            || self.records.get(&uid, now).is_some()
    }

    /// Whether that server is dead as far as anybody here can tell: no living member ([`Self::is_living`]), and its hello
    /// is not heard from another domain either.
    #[must_use]
    pub fn is_dead(&self, now: Time, server: ServerId) -> bool {
        !self.is_living(now, server) && !self.hellos.peer(server, now).is_some_and(|peer| peer.living)
    }

    /// What that server does, if it is a living member.
    #[must_use]
    pub fn role_of(&self, now: Time, server: ServerId) -> Option<ServerRole> {
        if server == self.config.me {
            return Some(self.config.role);
        }
        let uid = Uid { owner: server, kind: RecordKind::Member, number: 0 };
        let told = || self.records.get(&uid, now).and_then(|(record, _)| member_of(record));
        self.member(now, server).map(|peer| peer.about.role).or_else(|| told().map(|it| it.role))
    }

    /// The living members that do that, ourselves among them, on our link and beyond.
    #[must_use]
    pub fn living_as(&self, now: Time, role: ServerRole) -> BTreeSet<ServerId> {
        let told = self.records.of_kind(RecordKind::Member, now);
        let told = told.filter_map(|(record, _)| Some((record.uid.owner, member_of(record)?.role)));
        // What a hello says counts more.
        let mut roles: BTreeMap<ServerId, ServerRole> = told.collect();
        roles.extend(self.living(now).map(|peer| (peer.server, peer.about.role)));
        roles.insert(self.config.me, self.config.role);
        roles.into_iter().filter(|(_, other)| *other == role).map(|(server, _)| server).collect()
    }

    /// Whether nobody is left of those who can be heard: long enough after a start, a pause, or the end of a partition
    /// for everybody to have said hello several times.
    #[must_use]
    pub fn is_settled(&self, now: Time) -> bool {
        let last = self.appeared_at.max(self.began_at);
        now.since(last) >= JOIN_PATIENCE.max(self.hellos.interval() * 6)
    }

    /// Whether we have what all members have that we hear: a member that has vanished may know more.
    #[must_use]
    pub fn is_informed(&self, now: Time) -> bool {
        let alone = self.is_alone(now);
        !self.is_joining(now, alone) && (alone || !self.anybody_differs(now, DIFFERS_FOR))
    }

    fn anybody_differs(&self, now: Time, span: Duration) -> bool {
        let way = self.config.constants.round_trip;
        self.exchanges.anybody_differs(now, span, |then, digest| self.records.had_digest(then, way, digest))
    }

    fn is_alone(&self, now: Time) -> bool {
        self.living(now).next().is_none()
    }

    fn is_joining(&self, now: Time, alone: bool) -> bool {
        let begins = now.since(self.began_at) < JOIN_PATIENCE;
        begins && (alone || self.anybody_differs(now, Duration::ZERO))
    }

    /// How much of the domain we know.
    #[must_use]
    pub fn standing(&self, now: Time) -> Standing {
        let alone = self.is_alone(now);
        if self.is_joining(now, alone) {
            Standing::Joining
        } else if alone {
            Standing::Alone
        } else if let Some(since) = self.unreachable().map(|it| it.since).min() {
            Standing::Partitioned { members: self.unreachable().count(), since }
        } else if self.anybody_differs(now, DIFFERS_FOR) {
            Standing::Comparing
        } else {
            Standing::Joined
        }
    }

    // --- what we tell ---------------------------------------------------------------------------------------

    /// We say this from now on; see [`Records::put`].
    pub fn put(&mut self, now: Time, kind: RecordKind, number: u64, lives: u16, body: Body) {
        let record = self.records.put(now, kind, number, lives, body);
        self.fresh.extend(record);
    }

    /// We do not say that any more.
    pub fn delete(&mut self, now: Time, kind: RecordKind, number: u64) {
        let record = self.records.delete(now, kind, number);
        self.fresh.extend(record);
    }

    /// What the wall clock shows: notes are dated by it. A message tells it, too.
    pub fn on_wall(&mut self, now: Time, wall: Wall) {
        self.wall = (now, wall);
    }

    /// Our own kernel dropped datagrams (G26): the next hellos say so.
    pub fn on_deaf(&mut self, now: Time) {
        self.deaf_until = now + DEAF_FOR;
    }

    /// Whether our silence is no evidence now.
    #[must_use]
    pub fn is_deaf(&self, now: Time) -> bool {
        now < self.deaf_until
    }

    /// We end: the lowest id is left to others (R004.21), our member record is deleted, so that who misses the word is
    /// told by others, and the neighbours are told where to go, so that leaving makes no hole (R004.33).
    pub fn on_stop(&mut self, now: Time) {
        let deleted = self.records.delete_at_once(now, RecordKind::Member, 0);
        let others = [RecordKind::Responder, RecordKind::Neighbours];
        let others = others.map(|kind| self.records.delete_at_once(now, kind, 0));
        let contacts = self.records.delete_kind_at_once(now, RecordKind::Contact);
        let others = others.into_iter().flatten().chain(contacts);
        let last = deleted.into_iter().chain(others).chain(self.lowest.leave(now));
        let mut last: Vec<Record> = last.collect();
        last.extend(self.told_of_going(now));
        self.pass_on(now, &last, None);
        self.push_to_lazy(now, &last);
        let up: Vec<SocketAddrV4> = self.links.up().map(|(it, _)| it.control).collect();
        for control in up {
            let neighbour = self.best_but(now, control);
            self.send(control, Message::Disconnect(Disconnect { stays: false, neighbour }));
        }
        self.send(self.config.group, Message::Disconnect(Disconnect { stays: false, neighbour: None }));
    }

    /// Which list of boot servers is in force here: the member record tells it, for people.
    pub fn on_roll(&mut self, now: Time, version: u32) {
        let member = Member { role: self.config.role, control: self.config.control, roll: version };
        self.put(now, RecordKind::Member, 0, MEMBER_LIVES, Body::Member(member));
    }

    // --- time -----------------------------------------------------------------------------------------------

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let exchange = self.exchanges.next_at().map(|at| Deadline { at, why: "records to be compared" });
        let hello = Some(Deadline { at: self.hello_at, why: "hello due" });
        let first = Deadline::earliest(hello, self.records.next_deadline());
        let last = Deadline::earliest(self.links.next_deadline(), exchange);
        let lowest = Deadline::earliest(self.lowest.next_deadline(), self.perceptions.next_deadline());
        let look = Some(Deadline { at: self.look_at, why: "neighbours to be looked at" });
        let missing = Deadline::earliest(self.vanished_deadline(), self.reach.next_deadline());
        let missing = Deadline::earliest(Deadline::earliest(lowest, look), missing);
        Deadline::earliest(Deadline::earliest(first, last), missing)
    }

    /// Time has passed. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Time) {
        if now.since(self.hello_at) >= PEER_SILENT {
            // What came meanwhile is not read yet.
            self.reach.on_slept(now);
        } else if now >= self.hello_at {
            self.look_for_silent(now);
        }
        if now >= self.hello_at {
            self.say_hello(now);
        }
        let fresh = self.records.on_timeout(now);
        self.fresh.extend(fresh);
        for uid in self.records.take_ended() {
            self.out.push_back(Output::Tell(News::Changed(uid)));
        }
        for due in self.links.on_timeout(now) {
            match due {
                LinkDue::Connect(to) => self.connect(to),
                LinkDue::Resend(to, uids) => self.resend(now, to, &uids),
                LinkDue::Rested(contact) => self.ask_rested(now, contact),
                LinkDue::Lost(to, server) => self.on_lost(now, to, server),
            }
        }
        if self.look_at <= now {
            self.look_at_links(now);
        }
        if self.exchanges.next_at().is_some_and(|at| at <= now) {
            self.compare(now);
        }
        if self.lowest.next_deadline().is_some_and(|due| due.at <= now) {
            let record = self.lowest.on_timeout(now, &mut self.draw);
            self.pass_on(now, record.as_slice(), None);
        }
        if self.perceptions.next_deadline().is_some_and(|due| due.at <= now) {
            self.heal(now);
        }
        self.look_for_missing(now);
        self.tell_of_vanished(now);
    }

    fn compare(&mut self, now: Time) {
        let way = self.config.constants.round_trip;
        self.exchanges.on_change(|then, digest| self.records.had_digest(then, way, digest));
        let digest = self.records.digest();
        let agree = self.living(now).filter(|peer| peer.about.digest == digest).count();
        let Some(peer) = self.exchanges.begin(now, agree, &mut self.draw) else { return };
        match self.member(now, peer).map(|it| it.control) {
            Some(to) => self.begin_exchange(now, to),
            None => self.exchanges.forget(peer),
        }
    }

    fn say_hello(&mut self, now: Time) {
        // Nobody else says that a member is silent, and what it told last stands until then.
        let (hellos, domain) = (&self.hellos, self.config.domain);
        let is_member = |it: PeerStatus| it.living && it.about.domain == domain;
        self.exchanges.keep(|server| hellos.peer(server, now).is_some_and(is_member));
        let about = About {
            role: self.config.role,
            domain: self.config.domain,
            lowest: self.lowest.heard().lowest,
            digest: self.records.digest(),
        };
        let deaf = self.is_deaf(now);
        if deaf {
            self.out.push_back(Output::Tell(News::Deaf(*self.config.control.ip())));
        }
        let hello = self.hellos.next_hello(now, deaf, about);
        self.send(self.config.group, Message::Hello(hello));
        let links: Vec<SocketAddrV4> = self.links.up().map(|(it, _)| it.control).collect();
        for to in links {
            self.send(to, Message::Hello(hello));
        }
        self.hello_at = now + self.hellos.interval();
        self.tell_of_coming(now);
    }

    // --- messages -------------------------------------------------------------------------------------------

    /// Takes a message, if it is one of membership, flooding or hello; `false` if it is for somebody else here.
    pub fn on_message(&mut self, now: Time, wall: Wall, from: SocketAddrV4, envelope: &Envelope) -> bool {
        let sender = envelope.sender;
        self.wall = (now, wall);
        if sender == self.config.me {
            if from == self.config.control {
                self.count("domain", "own");
            } else {
                self.count("domain", "twin");
                self.out.push_back(Output::Tell(News::Twin(from)));
            }
            return true;
        }
        match &envelope.message {
            Message::Hello(hello) => self.on_hello(now, from, envelope, hello),
            Message::Connect(connect) => self.on_connect(now, from, sender, connect),
            Message::Welcome(welcome) => self.on_welcome(now, from, sender, welcome),
            Message::Refuse(refuse) => self.on_refuse(now, from, sender, refuse),
            Message::Flood(flood) if self.has_just_left(now, from) => self.on_flood(now, wall, from, flood),
            Message::Disconnect(_) | Message::SyncList(_) | Message::Flood(_) | Message::FloodAck(_)
                if !self.is_member(now, from, sender) =>
            {
                self.count("dropped.domain", "stranger");
            }
            Message::Disconnect(disconnect) => self.on_disconnect(now, from, sender, disconnect),
            Message::SyncList(list) => self.on_list(now, from, list),
            Message::Flood(flood) => self.on_flood(now, wall, from, flood),
            Message::FloodAck(ack) => self.on_acks(from, ack),
            Message::Configure(_)
            | Message::Ack(_)
            | Message::Nak(_)
            | Message::Delete(_)
            | Message::DeleteForDead(_)
            | Message::Superseded(_)
            | Message::Hold(_)
            | Message::ClearAsk(_)
            | Message::ClearAnswer(_)
            | Message::LoanAsk(_)
            | Message::LoanAnswer(_)
            | Message::Told(_)
            | Message::Inquiry(_)
            | Message::Declare(_)
            | Message::Revoke(_)
            | Message::Further(_) => return false,
        }
        true
    }

    fn is_member(&self, now: Time, from: SocketAddrV4, sender: ServerId) -> bool {
        self.links.is_up(from) || self.member(now, sender).is_some_and(|peer| peer.control == from)
    }

    fn has_just_left(&self, now: Time, from: SocketAddrV4) -> bool {
        self.left.is_some_and(|(left, at)| left == from && now.since(at) < PARTING)
    }

    fn is_on_link(&self, address: SocketAddrV4) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.config.prefix_len.min(32))).unwrap_or(0);
        address.ip().to_bits() & mask == self.config.control.ip().to_bits() & mask
    }

    fn on_hello(&mut self, now: Time, from: SocketAddrV4, envelope: &Envelope, hello: &Hello) {
        self.count("hello", "heard");
        let sender = envelope.sender;
        let is_new_link = self.links.is_up(from) && self.is_living(now, sender);
        match self.hellos.on_hello(now, from, sender, envelope.boot_epoch, hello) {
            HelloNews::Nothing => {}
            // A member that was known by its records is no news.
            HelloNews::Appeared if is_new_link => {}
            HelloNews::Appeared => {
                self.appeared_at = now;
                self.out.push_back(Output::Tell(News::Appeared(from)));
            }
            HelloNews::Deaf => {
                self.count("hello", "peer_deaf");
                self.out.push_back(Output::Tell(News::Deaf(*from.ip())));
            }
            HelloNews::TooMany => return self.count("dropped.hello", "too_many"),
        }
        if hello.domain != self.config.domain {
            return self.count("hello", "other_domain");
        }
        self.on_sign_of_life(now, sender);
        let heard = self.lowest.heard();
        self.perceptions.on_hello(now, sender, hello.lowest, heard, &mut self.draw);
        let ours = self.records.digest();
        self.exchanges.on_digest(now, sender, ours, hello.digest);
        // A newcomer does not wait for the back-off of those who are in.
        if !self.welcome && ours != hello.digest && self.is_on_link(from) && self.asked.len() < LISTS_MAX {
            let first = self.asked.insert(sender);
            if first {
                self.connect(from);
            }
        }
    }

    // --- out ------------------------------------------------------------------------------------------------

    /// Takes the oldest output.
    pub fn poll_output(&mut self, now: Time) -> Option<Output> {
        if self.out.is_empty() && !self.fresh.is_empty() {
            let fresh = std::mem::take(&mut self.fresh);
            for record in &fresh {
                self.out.push_back(Output::Tell(News::Changed(record.uid)));
            }
            self.pass_on(now, &fresh, None);
        }
        self.out.pop_front()
    }

    fn send(&mut self, to: SocketAddrV4, message: Message) {
        self.out.push_back(Output::Send(to, message));
    }

    fn count(&mut self, place: &'static str, what: &'static str) {
        self.out.push_back(Output::Count(place, what));
    }
}

fn member_of(record: &Record) -> Option<&Member> {
    if let Body::Member(member) = &record.body { Some(member) } else { None }
}

mod connected;
mod flooding;
mod joining;
mod noting;
mod reach;
#[cfg(test)]
mod tests;
mod upkeep;
