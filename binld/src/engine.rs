//! The boot server without I/O: datagrams and time in, datagrams, store changes and news out.
//!
//! One input, then [`Engine::poll_action`] until it is empty, then [`Engine::next_deadline`]: the contract of the
//! `driver` crate. The parts, each in its file:
//!
//! * [`discovery`] clients ask, wait and are answered, by us or by another one (`responding`); [`answer`] what exactly they
//!   are told;
//! * [`claims`] the table of our addresses; `life` moves each through its states, `draining` out of them; [`clearing`],
//!   [`choose`], `picking` and [`predicate`] are its rules, [`slices`] and [`loans`] which addresses it may ask for; `early` ends a clearing that all consent to; [`marks`] what others use;
//! * `coordination` what other servers say to us: queries, echoes, statements; [`contest`] who keeps an address that two
//!   hold, and `repair` sees to it; [`turns`] whose turn it is on the pinned tuple; `members` what the domain tells,
//!   [`replicas`] the claims of others, and [`behalf`] the references of the dead; [`overheard`] and [`backoff`] keep out of the way of others;
//! * `configuring` what we say to MTFTP servers; [`requests`] until they answer; [`files`] what they have.

pub mod answer;
pub mod backoff;
pub mod behalf;
pub mod catalog;
pub mod choose;
pub mod claims;
pub mod clearing;
mod configuring;
pub mod contest;
mod coordination;
pub mod discovery;
mod draining;
mod early;
pub mod event;
pub mod files;
mod joining;
mod life;
mod listening;
pub mod loans;
pub mod marks;
mod members;
pub mod overheard;
mod picking;
mod pinned;
pub mod predicate;
mod repair;
pub mod replicas;
pub mod requests;
pub mod responding;
mod saved;
mod setting;
pub mod slices;
pub mod status;
mod talking;
pub mod turns;
mod wants;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use driver::{Arrival, Counters, Deadline, Deadlines, Draw, Outbox, Rate, Role, Time, Transmit, Wall};
use wire::control::{Envelope, Message};
use wire::note::About;
use wire::pxe::BootItem;
use wire::{Content, GroupAddr, Stamp};

use peers::domain::Domain;
use peers::further::Furthers;
pub use peers::lowest::Constants as LowestConstants;
use peers::responder::Responders;
pub use peers::roll::Stored as StoredRoll;
use peers::saved::Saved;
pub use peers::saved::{Former, SavedChange, SavedClaim, SavedMember};

pub use setting::{EngineConfig, Identity, Legacy};

use backoff::Backoff;
use behalf::Behalf;
use catalog::Catalog;
use claims::{ClaimKey, ClaimTable, Placement, StateName};
use contest::{Contest, ContestKey};
use discovery::{ClientKey, Clients};
use early::Early;
use event::Event;
use files::Files;
use joining::Joining;
use listening::Listening;
use loans::{LoanRecord, Loans};
use marks::Marks;
use overheard::Overheard;
use replicas::Replicas;
use requests::{Requests, Subject};
use slices::Slices;
use turns::Turns;

use crate::limits::{
    ALIVE_INTERVAL, ANSWER_RATE, CLIENTS_AT_ONCE, FILE_RETRY, FILE_SPACING, RECONCILE_INTERVAL, SOURCES_MAX,
    STATEMENT_RATE, TOLD_BURST, TOLD_RATE,
};

/// Names one [`Action::Persist`]; the store's answer repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A claim as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRecord {
    /// Content, and whether pinned.
    pub key: ClaimKey,
    /// Address and ports.
    pub at: Placement,
    /// The boot item in queries.
    pub boot_item: BootItem,
    /// The boot item's name.
    pub item: String,
    /// The state; from recording on.
    pub state: StateName,
    /// When it was committed.
    pub stamp: Stamp,
    /// Since when it is in that state.
    pub since: Wall,
}

/// One durable fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a claim in place of what was on its address.
    PutClaim(ClaimRecord),
    /// Forgets our claim on that address.
    DropClaim(GroupAddr),
    /// Notes that an address is in use by somebody.
    PutMark(GroupAddr, Wall, &'static str),
    /// Notes that an address rests.
    PutRest(GroupAddr, Content, Stamp, Wall),
    /// The address may be used again.
    DropRest(GroupAddr),
    /// Writes the lists of boot servers in place of those that were there.
    SetRoll(StoredRoll),
    /// Writes a loan in place of the one of that address.
    PutLoan(LoanRecord),
    /// The address is lent to nobody.
    DropLoan(GroupAddr),
    /// We are alive at this time (Y7).
    Alive(Wall),
    /// What another member tells, for whoever reads the store.
    Saved(SavedChange),
    /// A server was heard then that speaks only the frozen packet.
    PutLegacy(Ipv4Addr, Wall),
    /// It is not reckoned with any more.
    DropLegacy(Ipv4Addr),
    /// For how long such servers were listened for, up to the sign of life that comes with it.
    Listened(Listened),
}

/// For how long servers that speak only the frozen packet were listened for, without a gap that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listened {
    /// How long.
    pub span: Duration,
    /// In which boot of the host.
    pub host_boot: [u8; 16],
}

/// What a store gives back at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Our claims.
    pub claims: Vec<ClaimRecord>,
    /// Marks with their end.
    pub marks: Vec<(GroupAddr, Wall)>,
    /// Addresses that rest; they start over in full.
    pub rests: Vec<(GroupAddr, Content, Stamp)>,
    /// The lists of boot servers.
    pub roll: StoredRoll,
    /// Addresses of our slice that are lent.
    pub loans: Vec<LoanRecord>,
    /// When the former process was last known to be alive; 0 for never.
    pub last_alive: Wall,
    /// What other members told it.
    pub former: Former,
    /// Servers that speak only the frozen packet, with when each was last heard.
    pub legacy: Vec<(Ipv4Addr, Wall)>,
    /// For how long it had listened for them when it was last known to be alive.
    pub listened: Option<Listened>,
    /// The boot of the host that we run in now.
    pub host_boot: [u8; 16],
}

/// What the engine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send(Transmit),
    /// Write these changes in one transaction, then call [`Engine::on_stored`].
    Persist(Ticket, Vec<Change>),
    /// News for the log.
    Tell(Event),
}

/// Why the engine wants to be called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Claim(ClaimKey),
    Early(ClaimKey),
    Loan(ClaimKey),
    Loans,
    Request(Subject),
    File(Content),
    Client(ClientKey),
    Rest(GroupAddr),
    Delete(ClaimKey, GroupAddr),
    Contest(ContestKey),
    Turn,
    Reconcile,
    Alive,
    Behalf,
    Save,
    Legacy,
    Joined,
}

/// The boot server.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    identity: Identity,
    draw: Draw,
    /// What the wall clock showed at which instant.
    wall: (Time, Wall),
    /// The greatest stamp heard or given.
    stamp_millis: u64,
    sequence: u64,
    last_ticket: u64,
    claims: ClaimTable,
    marks: Marks,
    overheard: Overheard,
    backoff: Backoff,
    contests: BTreeMap<ContestKey, Contest>,
    turns: Turns,
    /// Addresses that are asked for by word.
    early: BTreeMap<ClaimKey, Early>,
    domain: Domain,
    /// Those beside it.
    furthers: Furthers,
    slices: Slices,
    responders: Responders,
    loans: Loans,
    replicas: Replicas,
    behalf: Behalf,
    saved: Saved,
    listening: Listening,
    joining: Joining,
    /// Claims that moved in this input: the domain is to be told.
    unpublished: BTreeSet<ClaimKey>,
    /// What the domain was told: the number of each claim's record.
    published: BTreeMap<ClaimKey, u64>,
    requests: Requests,
    files: Files,
    clients: Clients,
    /// Queries that are answered.
    answers: Rate,
    /// Statements and hellos.
    statements: Rate,
    /// What file servers are told of clients.
    tells: Rate,
    timers: Deadlines<Timer>,
    /// To be said in notes.
    for_people: Vec<(About, String)>,
    unsettled: bool,
    /// What has got an address that is held, since clients were last looked at.
    held: Vec<BootItem>,
    /// When the claims may next be compared with the catalog.
    reconcile_at: Time,
    counters: Counters,
    out: Outbox<Action>,
}

impl Engine {
    /// Starts with what the store had; an empty [`Journal`] is a first start.
    #[must_use]
    pub fn recover(
        config: EngineConfig,
        identity: Identity,
        draw: Draw,
        journal: Journal,
        now: Time,
        wall: Wall,
    ) -> Self {
        let (mut draw, mut journal) = (draw, journal);
        let member = config.member(identity);
        let domain = Domain::new(member.clone(), draw.fork(), now);
        let responders = Responders::new(identity.server, config.address, config.weight, now);
        let mut engine = Self {
            furthers: talking::furthers(&member, config.domains.clone(), now),
            config,
            identity,
            draw,
            wall: (now, wall),
            stamp_millis: 0,
            sequence: 0,
            last_ticket: 0,
            claims: ClaimTable::default(),
            marks: Marks::default(),
            overheard: Overheard::default(),
            backoff: Backoff::default(),
            contests: BTreeMap::new(),
            turns: Turns::default(),
            early: BTreeMap::new(),
            domain,
            slices: Slices::new(identity.server, std::mem::take(&mut journal.roll)),
            responders,
            loans: Loans::default(),
            replicas: Replicas::default(),
            behalf: Behalf::default(),
            saved: Saved::new(journal.former.clone(), now),
            listening: Listening::begin(&journal, now, wall),
            joining: Joining::begin(now),
            for_people: Vec::new(),
            unpublished: BTreeSet::new(),
            published: BTreeMap::new(),
            requests: Requests::default(),
            files: Files::default(),
            clients: Clients::default(),
            answers: Rate::new(ANSWER_RATE, ANSWER_RATE, SOURCES_MAX),
            statements: Rate::new(STATEMENT_RATE, STATEMENT_RATE, SOURCES_MAX),
            tells: Rate::new(TOLD_RATE, TOLD_BURST, SOURCES_MAX),
            timers: Deadlines::default(),
            unsettled: false,
            held: Vec::new(),
            reconcile_at: now,
            counters: Counters::default(),
            out: Outbox::default(),
        };
        engine.restore_loans(now, std::mem::take(&mut journal.loans));
        engine.restore_legacy(now, wall, &journal.legacy);
        engine.restore(now, journal);
        engine.await_join();
        engine.watch_files(now);
        engine.tell_types(now);
        engine.on_alive(now);
        engine.on_turn_due(now);
        engine.on_behalf_due(now);
        engine.reconcile(now);
        engine.share_news(now);
        engine
    }

    /// Takes a datagram. Never fails: what is not for us is dropped and counted.
    pub fn on_datagram(&mut self, now: Time, arrival: &Arrival<'_>) {
        debug_assert!(self.out.is_empty(), "the driver must take every action before the next input");
        self.responders.on_input(now);
        match arrival.role {
            Role::Discovery | Role::Broadcast => {
                self.on_discovery(now, arrival);
                if !self.has_moved() {
                    return;
                }
            }
            Role::Query => self.on_query_port(now, arrival),
            Role::Control => self.on_control_port(now, arrival),
            Role::Domain | Role::Tftp | Role::Transfer | Role::Mtftp(_) | Role::Stream(_) | Role::Igmp => {
                self.counters.add("dropped", "wrong_door", 1);
            }
        }
        self.settle(now);
    }

    /// Time has passed. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Time) {
        debug_assert!(self.out.is_empty(), "the driver must take every action before the next input");
        self.listen(now);
        self.responders.on_timeout(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Claim(key) => self.on_claim_due(now, &key),
                Timer::Early(key) => self.on_early_due(now, &key),
                Timer::Loan(key) => self.on_loan_due(now, &key),
                Timer::Loans => self.on_loans_due(now),
                Timer::Request(subject) => self.on_request_due(now, &subject),
                Timer::File(content) => self.ask_file(now, &content),
                Timer::Client(key) => self.on_patience_over(now, &key),
                Timer::Rest(group) => self.on_rest_over(group),
                Timer::Delete(key, group) => self.delete_reference(now, &key, group),
                Timer::Contest(at) => self.on_contest_due(now, &at),
                Timer::Reconcile => self.unsettle(),
                Timer::Turn => self.on_turn_due(now),
                Timer::Alive => self.on_alive(now),
                Timer::Behalf => self.on_behalf_due(now),
                Timer::Save => self.save(now),
                Timer::Legacy => self.on_legacy_due(now),
                Timer::Joined => self.unsettle(),
            }
        }
        if self.domain.next_deadline().is_some_and(|due| due.at <= now) {
            self.domain.on_timeout(now);
            self.slices.stale = true;
        }
        if self.furthers.next_deadline().is_some_and(|due| due.at <= now) {
            self.furthers.on_timeout(now, &mut self.domain);
        }
        self.settle(now);
    }

    /// The store's answer to [`Action::Persist`].
    pub fn on_stored(&mut self, now: Time, ticket: Ticket, stored: bool) {
        if !stored {
            self.counters.add("store", "failed", 1);
            self.tell(Event::StoreFailed);
        }
        self.on_recorded(now, ticket, stored);
        self.on_roll_stored(now, ticket, stored);
        self.on_loan_stored(ticket, stored);
        self.settle(now);
    }

    /// What the wall clock shows; the engine goes on from there until told again.
    pub fn on_wall(&mut self, now: Time, wall: Wall) {
        self.on_clock(self.wall_at(now), wall);
        self.wall = (now, wall);
    }

    /// A new catalog: items that are gone drain, new ones are cleared.
    pub fn on_reload(&mut self, now: Time, catalog: impl Into<Arc<Catalog>>) {
        self.config.catalog = catalog.into();
        self.watch_files(now);
        self.tell_types(now);
        self.unsettle();
        self.settle(now);
    }

    /// The process ends: claims and references stay; only the time of death is noted.
    pub fn on_stop(&mut self, now: Time) {
        self.on_alive(now);
        self.save(now);
        self.furthers.on_stop(now);
        self.serve_furthers(now);
        self.domain.on_stop(now);
        self.serve_domain(now);
    }

    /// Takes the oldest action.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop()
    }

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let member = Deadline::earliest(self.domain.next_deadline(), self.slices_deadline());
        let member = Deadline::earliest(member, Some(self.responders.next_deadline()));
        let member = Deadline::earliest(member, self.furthers.next_deadline());
        Deadline::earliest(self.timers.next(), member)
    }

    /// The counters, by name.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn wall_at(&self, now: Time) -> Wall {
        let (then, wall) = self.wall;
        Wall(wall.0.saturating_add(u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)))
    }

    fn tell(&mut self, event: Event) {
        if self.config.tells {
            self.for_people.extend(event.note());
        }
        self.out.push(Action::Tell(event));
    }

    /// Whether a client's question has changed anything beyond the client: in a boot storm hardly one does.
    fn has_moved(&self) -> bool {
        self.unsettled || !self.unpublished.is_empty() || self.responders.has_output()
    }

    /// Something changed that claims or clients may wait for: looked at once, at the end of the input.
    fn unsettle(&mut self) {
        self.unsettled = true;
    }

    fn settle(&mut self, now: Time) {
        self.serve_furthers(now);
        // What was heard counts before anybody goes by what is known.
        self.serve_domain(now);
        self.serve_responders(now);
        self.notice_joined(now);
        self.settle_claims(now);
        self.share_news(now);
    }

    /// The domain hears what moved, and we what it says.
    fn share_news(&mut self, now: Time) {
        self.publish(now);
        self.serve_responders(now);
        self.serve_domain(now);
        if self.serve_roll(now) {
            self.serve_domain(now);
        }
    }

    fn settle_claims(&mut self, now: Time) {
        let held = std::mem::take(&mut self.held);
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        let is_due = now >= self.reconcile_at;
        if is_due {
            self.reconcile_at = now + RECONCILE_INTERVAL;
            self.reconcile(now);
        } else {
            self.timers.arm(Timer::Reconcile, self.reconcile_at, "claims to be compared with the catalog");
        }
        if is_due || self.clients.len() <= CLIENTS_AT_ONCE {
            self.serve_waiting_clients(now, |_| true);
        } else if !held.is_empty() {
            // Of any layer.
            let is_held = |wanted: BootItem| held.iter().any(|item| item.server_type == wanted.server_type);
            self.serve_waiting_clients(now, is_held);
        }
    }

    fn draw_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn persist(&mut self, changes: Vec<Change>) {
        let ticket = self.draw_ticket();
        self.out.push(Action::Persist(ticket, changes));
    }

    fn send(&mut self, role: Role, to: SocketAddrV4, bytes: Vec<u8>) {
        self.out.push(Action::Send(Transmit { role, to, bytes }));
    }

    fn send_control(&mut self, to: SocketAddrV4, message: Message) {
        self.sequence += 1;
        let envelope = Envelope {
            sender: self.identity.server,
            boot_epoch: self.identity.boot_epoch,
            sequence: self.sequence,
            message,
        };
        self.send(Role::Control, to, envelope.encode());
    }

    fn on_alive(&mut self, now: Time) {
        let wall = self.wall_at(now);
        let mut changes = self.listened(now);
        changes.push(Change::Alive(wall));
        self.persist(changes);
        self.timers.arm(Timer::Alive, now + ALIVE_INTERVAL, "alive note due");
    }

    /// Asks for every file that the catalog needs, and forgets those it does not.
    fn watch_files(&mut self, now: Time) {
        let wanted = self.config.catalog.plain_files();
        let gone: Vec<Content> = self
            .files
            .iter()
            .map(|(content, _)| content.clone())
            .filter(|file| !wanted.contains(file))
            .collect();
        for content in gone {
            self.timers.disarm(&Timer::File(content.clone()));
            self.end_request(&Subject::File(content));
        }
        self.files.keep(&wanted);
        let mut ask_at = now;
        for content in wanted {
            if self.files.of(&content) == Some(files::Knowledge::Unknown) {
                self.timers.arm(Timer::File(content), ask_at, "file unknown");
                ask_at = ask_at + FILE_SPACING;
            }
        }
    }

    fn end_request(&mut self, subject: &Subject) {
        self.requests.forget(subject);
        self.timers.disarm(&Timer::Request(subject.clone()));
    }

    /// Another server's file is asked for soon again.
    fn retry_file(&mut self, now: Time, content: Content) {
        self.timers.arm(Timer::File(content), now + FILE_RETRY, "file to be asked for again");
    }
}

#[cfg(test)]
mod tests;
