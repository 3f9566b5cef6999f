//! The core of `mtftpd`: routes each input to the part it concerns, and owns what they want done.
//!
//! ```text
//!  Role::Control ── configure, delete ──► references ──┐            Persist, Open ──► shell ──► on_stored, on_file
//!  Role::Control, Domain ── hello, flood ► members ────┤
//!  Role::Query ──── query ──────────────► defend       ├─► Context ─► Send, Blocks ──► sockets
//!  Role::Mtftp ──── open, ACK, ERROR ───► sessions ────┤
//!  Role::Tftp, Transfer ────────────────► plain ───────┤
//!  Role::Tftp, Stream ── RFC 2090 ──────► sessions ────┘
//! ```
//!
//! Routing an input cannot fail: what does not belong is dropped and counted by kind.

mod action;
#[cfg(test)]
mod bench;
mod cause;
mod clients;
mod context;
mod defend;
mod fall_backs;
#[cfg(test)]
mod hostile_tests;
mod master;
mod members;
mod pace;
mod pass;
mod plain;
mod protocol;
mod references;
mod running;
mod saved;
mod session;
mod sessions;
mod speed;
mod status;
#[cfg(test)]
mod tests;
mod told;
mod trace;
pub(crate) mod window;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Arrival, Counters, Deadline, Draw, Rate, Role, Time, Wall};
use peers::domain::Domain;
use peers::lowest::Constants as LowestConstants;
use peers::saved::Former;
use wire::clear::{ClearAnswer, ClearAsk, ClearVerdict};
use wire::control::{Envelope, Message};
use wire::hold::Hold;
use wire::note::Author;
use wire::query::{Opcode, Query};
use wire::tftp::{BLOCK_SIZE_UNFRAGMENTED, Rollover};
use wire::{BootEpoch, DomainId, GroupAddr, ServerId};

pub use action::{
    Action, AwaitedStart, Blocks, Change, DeletedBy, Event, FileError, FileFacts, FileId, FileTicket,
    Forgotten, Journal, Order, Outcome, ReferenceRecord, RestRecord, SerialRecord, Started, Tally, Ticket,
};
pub use cause::{Cause, Declined, FallBack};
pub use fall_backs::{FallBacksStatus, Querier};
pub use master::OpenerRole;
pub use protocol::Protocol;
pub use speed::Speed;
pub use status::{
    ClaimStatus, DomainStatus, OpenerStatus, ReferenceStatus, RestStatus, SessionStatus, Status,
    TransferStatus,
};

use context::Context;
use members::Published;
use plain::Plain;
use references::{Place, References, Sender};
use saved::Saver;
use sessions::Sessions;

use crate::limits;

/// How long a reference lasts whose BINLD does not renew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReferencePolicy {
    /// After [`LEASE`](limits::LEASE) it is *stale*: shown, told, and deleted on behalf of a BINLD that is dead, by the word
    /// of a living one or of an operator.
    #[default]
    Lease,
    /// For ever, and never shown as stale: the source to the letter (R003.20).
    Forever,
}

/// Whether blocks go out to clients without windows before the ACK of those before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunAhead {
    /// Never: one block at a time (RFC 1350).
    Off,
    /// To those whose requests look like those of firmware that was seen to take it.
    #[default]
    Proven,
    /// To all.
    All,
}

/// What the core must know of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// The only address that iPXE's `mtftp://` hears.
    pub pinned_group: GroupAddr,
    /// And the port it hears it on.
    pub pinned_client_port: u16,
    /// The server port of the claim on that address.
    pub pinned_server_port: u16,
    /// Server ports of all other claims, the preferred one first; not the pinned one.
    pub server_ports: Vec<u16>,
    /// Largest block of plain TFTP, 512–1468 bytes.
    pub block_size_max: u16,
    /// Streams of RFC 2090 at once, each with a door of its own: [`Role::Stream`] 0 and up.
    pub streams: u16,
    /// Most blocks for one ACK of plain TFTP, 1–[`WINDOW_SIZE_MAX`](limits::WINDOW_SIZE_MAX); 1 is without windows.
    pub window_size_max: u16,
    /// Whether blocks go out to clients without windows before the ACK of those before them.
    pub run_ahead: RunAhead,
    /// What follows block number 65,535 of plain TFTP, where the client does not say.
    pub rollover: Rollover,
    /// The address of queries: never carries a transfer.
    pub query_group: GroupAddr,
    /// After a restart with references nothing is released for this long (G11).
    pub grace: Duration,
    /// How long references last.
    pub references: ReferencePolicy,
    /// UDP port of our control messages.
    pub control_port: u16,
    /// The domain that we are a member of.
    pub domain: DomainId,
    /// Where all its members on the link listen.
    pub domain_group: SocketAddrV4,
    /// Its servers beyond our link, to be asked.
    pub contacts: Vec<SocketAddrV4>,
    /// How soon we notice that the domain is cut in two.
    pub lowest: LowestConstants,
    /// What we are called in notes.
    pub author: Author,
    /// Whether we write notes of our own.
    pub tells: bool,
}

impl Default for EngineConfig {
    /// The table in `decisions.md`, *Names on the network*.
    fn default() -> Self {
        let group = |a, b, c, d| {
            GroupAddr::new(Ipv4Addr::new(a, b, c, d)).expect("the defaults are multicast addresses")
        };
        Self {
            pinned_group: group(239, 255, 1, 1),
            pinned_client_port: 3001,
            pinned_server_port: 1759,
            server_ports: vec![1760],
            block_size_max: BLOCK_SIZE_UNFRAGMENTED,
            streams: limits::STREAMS,
            window_size_max: limits::WINDOW_SIZE_MAX,
            run_ahead: RunAhead::default(),
            rollover: Rollover::Zero,
            query_group: group(239, 255, 255, 15),
            grace: limits::GRACE,
            references: ReferencePolicy::default(),
            control_port: 4017,
            domain: DomainId::of("pxe"),
            domain_group: SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4016),
            contacts: Vec::new(),
            lowest: LowestConstants::LAN,
            author: Author::cut("test"),
            tells: false,
        }
    }
}

impl EngineConfig {
    /// Whether an address may carry a transfer at all: not the query group, and nothing that shares an Ethernet
    /// address with 224.0.0.x, which switches never prune.
    pub(crate) fn may_carry(&self, group: GroupAddr) -> bool {
        group != self.query_group && group.ethernet_bits() > 0xff
    }
}

/// Who this server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its random name.
    pub server: ServerId,
    /// Its boot epoch.
    pub epoch: BootEpoch,
    /// The address it serves from: half of every content.
    pub address: Ipv4Addr,
    /// Length of the prefix of its link: who is inside it hears our multicast.
    pub prefix_len: u8,
}

impl Identity {
    /// Whether a host of that address is on our link.
    fn has_on_link(&self, host: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len.min(32))).unwrap_or(0);
        (self.address.to_bits() ^ host.to_bits()) & mask == 0
    }
}

/// A query for the pinned address that was not about us: somebody may be sending there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Foreign {
    heard_at: Time,
}

/// The machine.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    identity: Identity,
    context: Context,
    references: References,
    domain: Domain,
    published: Published,
    saver: Saver,
    /// What the wall clock showed at which instant.
    wall: (Time, Wall),
    sessions: Sessions,
    plain: Plain,
    requests: Rate,
    controls: Rate,
    queries: Rate,
    members: Rate,
    foreign: Option<Foreign>,
    querier: Querier,
}

impl Engine {
    /// A server that knows nothing yet.
    #[must_use]
    pub fn new(config: EngineConfig, identity: Identity, draw: Draw, now: Time) -> Self {
        let mut engine = Self::silent(config, identity, draw, now);
        engine.share_news(now);
        engine
    }

    /// The same before its first word.
    fn silent(config: EngineConfig, identity: Identity, draw: Draw, now: Time) -> Self {
        Self {
            references: References::new(config.clone(), identity),
            domain: members::begin(&config, identity, draw, now),
            published: Published::default(),
            saver: Saver::new(Former::default(), now),
            wall: (now, Wall::default()),
            plain: Plain::new(&config),
            sessions: Sessions::new(config.streams, config.run_ahead),
            config,
            identity,
            context: Context::default(),
            requests: Rate::new(limits::REQUESTS_PER_SECOND, limits::REQUESTS_BURST, limits::SOURCES_MAX),
            controls: Rate::new(limits::CONTROLS_PER_SECOND, limits::CONTROLS_BURST, limits::SOURCES_MAX),
            queries: Rate::new(limits::QUERIES_PER_SECOND, limits::QUERIES_BURST, limits::SOURCES_MAX),
            members: Rate::new(limits::MEMBERS_PER_SECOND, limits::MEMBERS_PER_SECOND, limits::SOURCES_MAX),
            foreign: None,
            querier: Querier::default(),
        }
    }

    /// A server that goes on where its journal ends: references are in force at once, rests start over in full,
    /// and with references in it nothing is released for [`EngineConfig::grace`]. `wall` says what is left of their leases.
    #[must_use]
    pub fn recover(
        config: EngineConfig,
        identity: Identity,
        draw: Draw,
        rows: Journal,
        now: Time,
        wall: Wall,
    ) -> Self {
        let mut engine = Self::silent(config, identity, draw, now);
        engine.wall = (now, wall);
        engine.saver = Saver::new(rows.former.clone(), now);
        engine.references.recover(rows, now, wall, &mut engine.context);
        engine.share_news(now);
        engine
    }

    /// Takes the oldest action. The driver takes all of them after each input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.context.actions.pop()
    }

    /// When [`Engine::on_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let first = Deadline::earliest(self.references.next_deadline(), self.sessions.next_deadline());
        let second = Deadline::earliest(self.plain.next_deadline(), self.domain.next_deadline());
        let third = Deadline::earliest(self.saver.next_deadline(), self.context.told.next_deadline());
        Deadline::earliest(Deadline::earliest(first, second), third)
    }

    /// What happened so far, by kind.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    // --- inputs ---------------------------------------------------------------------------------------------

    /// A datagram came. `wall` is only noted in the records it leads to.
    pub fn on_datagram(&mut self, now: Time, wall: Wall, arrival: &Arrival<'_>) {
        self.wall = (now, wall);
        let from = arrival.from;
        let source = *from.ip();
        // It has no ports, and a bridge without an address asks too.
        if arrival.role == Role::Igmp {
            return self.on_igmp(now, arrival.bytes);
        }
        if from.port() == 0 || source.is_unspecified() || source.is_multicast() || source.is_broadcast() {
            return self.context.count("drop", "source");
        }
        match arrival.role {
            Role::Query => self.on_query(now, from, arrival.bytes),
            Role::Control | Role::Domain => self.on_control(now, wall, from, arrival),
            Role::Mtftp(port) => self.on_mtftp(now, from, port, arrival),
            Role::Stream(_) => self.on_stream(now, from, arrival),
            Role::Tftp => self.on_tftp(now, from, arrival.bytes),
            Role::Transfer => self.on_transfer(now, from, arrival.bytes),
            Role::Discovery | Role::Broadcast | Role::Igmp => self.context.count("drop", "role"),
        }
        self.share_news(now);
    }

    /// Time has passed. Calling it early, late or twice is harmless.
    pub fn on_timeout(&mut self, now: Time) {
        for group in self.references.on_timeout(now, &mut self.context) {
            let over = self.sessions.cut(now, group, &mut self.context);
            self.session_ended(over);
        }
        for group in self.sessions.on_timeout(now, &mut self.context) {
            self.session_ended(Some(group));
        }
        self.plain.on_timeout(now, &mut self.context);
        self.context.told.on_timeout(now);
        if self.domain.next_deadline().is_some_and(|due| due.at <= now) {
            self.domain.on_timeout(now);
        }
        self.share_news(now);
        self.save(now);
    }

    /// An operator orders the reference of a BINLD to be deleted on its behalf (G12); `force` also while it is not
    /// stale. [`Action::Answer`] says what became of it, once.
    pub fn on_forget(
        &mut self,
        now: Time,
        wall: Wall,
        order: Order,
        (group, binld): (GroupAddr, ServerId),
        force: bool,
    ) {
        let in_session = self.sessions.is_running(group);
        let what = ((group, binld), force);
        self.references.forget(now, wall, order, what, in_session, &mut self.context);
        self.share_news(now);
    }

    /// An operator orders what waits on an address for more clients to begin.
    pub fn on_start(&mut self, now: Time, group: GroupAddr) -> Started {
        if let Some(clients) = self.sessions.begin(now, group, &mut self.context) {
            return Started::Begun(clients);
        }
        match self.references.place(group) {
            Some(Place::Claimed(_)) => Started::NothingWaits,
            Some(Place::Resting(_)) | None => {
                let claimed =
                    self.references.places().filter(|(_, place)| matches!(place, Place::Claimed(_)));
                Started::NoSuchAddress(claimed.map(|(group, _)| group).collect())
            }
        }
    }

    /// The store's answer to [`Action::Persist`].
    pub fn on_stored(&mut self, now: Time, ticket: Ticket, result: Result<(), ()>) {
        self.on_saved(now, ticket, result);
        self.references.on_stored(now, ticket, result, &mut self.context);
        self.share_news(now);
    }

    /// The process ends: the domain is told. References stay.
    pub fn on_stop(&mut self, now: Time) {
        self.domain.on_stop(now);
        self.share_news(now);
        self.save_last(now);
    }

    /// The shell's answer to [`Action::Open`].
    pub fn on_file(&mut self, now: Time, ticket: FileTicket, result: Result<FileFacts, FileError>) {
        self.route_file(now, ticket, result);
        self.share_news(now);
    }

    fn route_file(&mut self, now: Time, ticket: FileTicket, result: Result<FileFacts, FileError>) {
        if self.plain.on_file(now, ticket, result, &mut self.context)
            || self.references.on_file(ticket, result, &mut self.context)
        {
            return;
        }
        match self.sessions.on_file(now, ticket, result, &mut self.context) {
            Some(group) => {
                if !self.sessions.is_running(group) {
                    self.session_ended(Some(group));
                }
                for (client, request) in self.sessions.take_declined() {
                    self.plain.on_request(now, client, &request, &mut self.context);
                }
            }
            None => {
                // Whoever asked is gone.
                if let Ok(facts) = result {
                    self.context.close(facts.id);
                }
            }
        }
    }

    /// An open file was replaced or changed: whatever carries it ends with an ERROR.
    pub fn on_file_changed(&mut self, now: Time, file: FileId) {
        self.plain.on_file_changed(file, &mut self.context);
        let over = self.sessions.on_file_changed(now, file, &mut self.context);
        self.session_ended(over);
        self.share_news(now);
    }

    fn session_ended(&mut self, group: Option<GroupAddr>) {
        if let Some(group) = group {
            self.references.on_session_ended(group, &mut self.context);
        }
    }

    // --- routing --------------------------------------------------------------------------------------------

    fn on_query(&mut self, now: Time, from: SocketAddrV4, bytes: &[u8]) {
        let (opcode, query) = match Query::decode(bytes) {
            Ok(decoded) => decoded,
            Err(error) => return self.context.count("drop_query", error.kind.name()),
        };
        // An echo is said to the one who asked; nothing of ours asks.
        if opcode == Opcode::Echo {
            return self.context.count("query", "echo");
        }
        self.context.count("query", "query");
        let Some(place) = self.references.place(query.group) else {
            if query.group == self.config.pinned_group && query.content.server != self.identity.address {
                self.foreign = Some(Foreign { heard_at: now });
            }
            return;
        };
        if !defend::conflicts(place, self.identity.address, &query.content) {
            return;
        }
        if !self.queries.allows(now, *from.ip()) {
            return self.context.over_rate("query", *from.ip());
        }
        self.context.count("query", "defended");
        let file = place.file().clone();
        self.context.tell(Event::Defended { group: query.group, file, from });
        self.context.send(Role::Control, from, query.encode(Opcode::Echo));
    }

    /// The same question by word: whoever is asked answers, whatever there is to say.
    fn on_clear_ask(&mut self, now: Time, from: SocketAddrV4, ask: &ClearAsk) {
        if !self.queries.allows(now, *from.ip()) {
            return self.context.over_rate("clear", *from.ip());
        }
        let place = self.references.place(ask.group);
        let taken = place.filter(|place| defend::conflicts(place, self.identity.address, &ask.content));
        let defended = taken.map(|place| place.file().clone());
        self.context.count("clear", if defended.is_some() { "refused" } else { "said" });
        let verdict = if defended.is_some() { ClearVerdict::Taken } else { ClearVerdict::Clear };
        if let Some(file) = defended {
            self.context.tell(Event::Defended { group: ask.group, file, from });
        }
        let answer = ClearAnswer { group: ask.group, nonce: ask.nonce, verdict };
        self.references.say(from, Message::ClearAnswer(answer), &mut self.context);
    }

    fn on_control(&mut self, now: Time, wall: Wall, from: SocketAddrV4, arrival: &Arrival<'_>) {
        let envelope = match Envelope::decode(arrival.bytes) {
            Ok(envelope) => envelope,
            Err(error) => return self.context.count("drop_control", error.kind.name()),
        };
        if envelope.message.is_of_domain() {
            return self.on_member(now, wall, from, &envelope);
        }
        if let Message::ClearAsk(ask) = &envelope.message {
            return self.on_clear_ask(now, from, ask);
        }
        // To the group goes what all members shall hear, and what boot servers say to each other.
        if arrival.role == Role::Domain {
            let is_of_boot_servers = matches!(
                envelope.message,
                Message::Inquiry(_) | Message::Declare(_) | Message::Revoke(_) | Message::Further(_)
            );
            return match is_of_boot_servers {
                true => self.context.count("control", "of_boot_servers"),
                false => self.context.count("drop_control", "not_for_us"),
            };
        }
        if !self.controls.allows(now, *from.ip()) {
            return self.context.over_rate("control", *from.ip());
        }
        let sender = Sender { from, binld: envelope.sender, epoch: envelope.boot_epoch, wall };
        match envelope.message {
            Message::Configure(message) => {
                self.context.count("control", "configure");
                self.references.on_configure(sender, message, &mut self.context);
            }
            Message::Delete(message) => {
                self.context.count("control", "delete");
                let in_session = self.sessions.is_running(message.group);
                self.references.on_delete(now, sender, message, in_session, &mut self.context);
            }
            Message::DeleteForDead(message) => self.on_delete_for_dead(now, sender, &message),
            Message::Hold(statement) => self.on_hold(now, from, &statement),
            Message::Told(told) => self.on_told(now, &sender, told),
            // Said by servers to BINLDs; we are not one.
            Message::Ack(_)
            | Message::Nak(_)
            | Message::Superseded(_)
            | Message::Hello(_)
            | Message::Connect(_)
            | Message::Welcome(_)
            | Message::Refuse(_)
            | Message::Disconnect(_)
            | Message::SyncList(_)
            | Message::Flood(_)
            | Message::FloodAck(_)
            | Message::ClearAsk(_)
            | Message::ClearAnswer(_)
            | Message::LoanAsk(_)
            | Message::LoanAnswer(_)
            | Message::Inquiry(_)
            | Message::Declare(_)
            | Message::Revoke(_)
            | Message::Further(_) => {
                self.context.count("drop_control", "not_for_us");
            }
        }
    }

    /// A holder's statement about an address: who has it for another content hears ours (Y4).
    fn on_hold(&mut self, now: Time, from: SocketAddrV4, statement: &Hold) {
        if statement.is_answer {
            return self.context.count("hold", "answer");
        }
        self.context.count("hold", "statement");
        let in_session = self.sessions.is_running(statement.group);
        let place = self.references.place(statement.group);
        let answer =
            place.and_then(|place| defend::hold(now, place, self.identity.address, statement, in_session));
        if let Some(answer) = answer {
            self.context.count("hold", "answered");
            self.references.say(from, Message::Hold(answer), &mut self.context);
        }
    }
}
