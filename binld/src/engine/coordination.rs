//! What other servers say: queries, echoes and control messages (Y1–Y3, R003.7–R003.13).

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Arrival, Role, Time};
use wire::control::{Envelope, Message};
use wire::query::{Opcode, Query};
use wire::{Content, Stamp};

use super::claims::ClaimKey;
use super::event::Event;
use super::predicate::{Standing, Verdict, judge};
use super::responding::Election;
use super::{Engine, Timer};
use crate::limits::ANNOUNCE_AFTER_QUERY;

impl Engine {
    /// A datagram on the query port. Own ones come back by multicast loop and from switches (G8).
    pub(super) fn on_query_port(&mut self, now: Time, arrival: &Arrival<'_>) {
        // From our address but another port: the MTFTP server on our host, which defends like any other.
        if arrival.from == SocketAddrV4::new(self.config.address, self.config.query.port()) {
            return self.counters.add("query", "own", 1);
        }
        let source = *arrival.from.ip();
        if arrival.from.port() == 0
            || source.is_unspecified()
            || source.is_multicast()
            || source.is_broadcast()
        {
            return self.counters.add("dropped.query", "source", 1);
        }
        match Query::decode(arrival.bytes) {
            Err(error) => self.counters.add("dropped.query", error.kind.name(), 1),
            Ok((Opcode::Query, query)) => self.on_query(now, arrival, &query),
            Ok((Opcode::Echo, query)) => self.on_echo(now, arrival.from, &query),
        }
    }

    /// Only what is answered costs: a server that clears thousands of addresses at once is heard in full.
    fn may_answer(&mut self, now: Time, arrival: &Arrival<'_>) -> bool {
        let allowed = self.answers.allows(now, *arrival.from.ip());
        if !allowed {
            self.over_rate("dropped.query", *arrival.from.ip());
        }
        allowed
    }

    /// A source has said too much.
    pub(super) fn over_rate(&mut self, place: &'static str, source: Ipv4Addr) {
        if self.counters.add_and_tell(place, "rate") {
            self.tell(Event::OverRate { source, place });
        }
    }

    fn on_query(&mut self, now: Time, arrival: &Arrival<'_>, query: &Query) {
        self.counters.add("query", "heard", 1);
        self.hear_query(now, *arrival.from.ip());
        self.overheard.hear(now, query.group, &query.content);
        if query.group == self.config.pinned.group {
            self.turns.hear(now, &query.content);
        }
        self.share(now, query);
        if let Some(rest) = self.claims.rest(query.group)
            && judge(Standing::Leaving, &rest.content, &query.content) == Verdict::Defend
            && self.may_answer(now, arrival)
        {
            self.echo(arrival, query);
        }
        let Some(claim) = self.claims.on(query.group) else {
            return self.defend_for_another(now, arrival, query);
        };
        let (key, Some(standing)) = (claim.key.clone(), claim.state.standing()) else { return };
        match judge(standing, &key.content, &query.content) {
            Verdict::Silent => {}
            Verdict::Defend | Verdict::DefendLoudly if !self.may_answer(now, arrival) => {}
            Verdict::Defend => {
                self.echo(arrival, query);
                self.tell_defended(&key.content, arrival, query);
            }
            Verdict::DefendLoudly => {
                if key.pinned {
                    self.turns.refuse(now, &query.content);
                }
                self.echo(arrival, query);
                self.say_hold(now, &key, arrival.from);
                self.announce_soon(now, &key);
                self.tell_defended(&key.content, arrival, query);
            }
            Verdict::Yield => {
                self.counters.add("clearing", "yielded", 1);
                self.on_refused(now, &key, *arrival.from.ip(), false);
            }
        }
    }

    /// Nothing of ours is there, but perhaps somebody's who cannot hear the query, or lives no more (G13, G25).
    fn defend_for_another(&mut self, now: Time, arrival: &Arrival<'_>, query: &Query) {
        let Some(content) = self.defends_for_another(now, query.group, &query.content) else { return };
        if self.may_answer(now, arrival) {
            self.counters.add("echo", "for_another", 1);
            self.echo(arrival, query);
            self.tell_defended(&content, arrival, query);
        }
    }

    fn tell_defended(&mut self, content: &Content, arrival: &Arrival<'_>, query: &Query) {
        let against = *arrival.from.ip();
        self.tell(Event::Defended { group: query.group, content: content.clone(), against });
    }

    /// The same bytes with opcode 1, to where the query came from (R003.10).
    fn echo(&mut self, arrival: &Arrival<'_>, query: &Query) {
        self.counters.add("echo", "sent", 1);
        self.send(Role::Query, arrival.from, query.encode(Opcode::Echo));
    }

    /// Y3: a holder that was asked announces again after 200 ms.
    pub(super) fn announce_soon(&mut self, now: Time, key: &ClaimKey) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        if let Some(commitment) = claim.state.commitment_mut() {
            commitment.announce_at = commitment.announce_at.min(now + ANNOUNCE_AFTER_QUERY);
        }
        let (at, why) = claim.state.due_at();
        self.timers.arm(Timer::Claim(key.clone()), at, why);
    }

    /// An echo takes a pending claim's address away if it is the pending query, byte for byte (Y2, Y3, G8).
    fn on_echo(&mut self, now: Time, from: SocketAddrV4, echoed: &Query) {
        self.counters.add("echo", "heard", 1);
        let Some(claim) = self.claims.on(echoed.group) else {
            return self.counters.add("dropped.echo", "nothing_asked", 1);
        };
        let (key, standing) = (claim.key.clone(), claim.state.standing());
        if self.query_of(claim).as_ref() != Some(echoed) {
            return self.counters.add("dropped.echo", "not_ours", 1);
        }
        let asked = claim.state.clearing().is_none_or(|clearing| clearing.sent() > 0);
        match standing {
            _ if !asked => self.counters.add("dropped.echo", "nothing_asked", 1),
            Some(Standing::Pending) => self.on_refused(now, &key, *from.ip(), false),
            // From the end of the window on an echo alone takes nothing from a holder (Y3); Y4 settles it.
            Some(Standing::Committed) => self.on_late_echo(now, &key, echoed.group, from),
            Some(Standing::Leaving) | None => self.counters.add("dropped.echo", "leaving", 1),
        }
    }

    /// A datagram on the control port.
    pub(super) fn on_control_port(&mut self, now: Time, arrival: &Arrival<'_>) {
        if *arrival.from.ip() == self.config.address && arrival.from.port() == self.config.control_port {
            return self.counters.add("control", "own", 1);
        }
        let envelope = match Envelope::decode(arrival.bytes) {
            Ok(envelope) => envelope,
            Err(error) => return self.counters.add("dropped.control", error.kind.name(), 1),
        };
        match &envelope.message {
            Message::Ack(ack) => self.on_ack(now, arrival.from, ack),
            Message::Nak(nak) => self.on_nak(now, arrival.from, nak),
            Message::Superseded(answer) => self.on_superseded(now, arrival.from, answer),
            // What anybody may say. An MTFTP server's answers are taken only if they were asked for.
            Message::Hold(_) if !self.statements.allows(now, *arrival.from.ip()) => {
                self.over_rate("dropped.control", *arrival.from.ip());
            }
            Message::Hold(hold) => self.on_hold(now, arrival.from, hold),
            Message::ClearAsk(ask) => self.on_clear_ask(now, arrival.from, ask),
            Message::ClearAnswer(answer) => {
                self.on_clear_answer(now, arrival.from, envelope.sender, answer);
            }
            Message::LoanAsk(ask) => self.on_loan_ask(now, arrival.from, envelope.sender, ask),
            Message::LoanAnswer(answer) => self.on_loan_answer(now, envelope.sender, answer),
            Message::Configure(_) | Message::Delete(_) | Message::DeleteForDead(_) | Message::Told(_) => {
                self.counters.add("dropped.control", "not_an_mtftp_server", 1);
            }
            Message::Inquiry(it) => {
                self.on_election(now, arrival.from, envelope.sender, Election::Inquiry(it));
            }
            Message::Declare(it) => {
                self.on_election(now, arrival.from, envelope.sender, Election::Declare(it));
            }
            Message::Revoke(it) => self.on_election(now, arrival.from, envelope.sender, Election::Revoke(it)),
            Message::Further(_) if !self.statements.allows(now, *arrival.from.ip()) => {
                self.over_rate("dropped.control", *arrival.from.ip());
            }
            Message::Further(further) => self.on_further(now, arrival.from, &envelope, further),
            Message::Hello(_)
            | Message::Connect(_)
            | Message::Welcome(_)
            | Message::Refuse(_)
            | Message::Disconnect(_)
            | Message::SyncList(_)
            | Message::Flood(_)
            | Message::FloodAck(_) => {
                if self.statements.allows(now, *arrival.from.ip()) {
                    self.on_member(now, arrival.from, &envelope);
                } else {
                    self.over_rate("dropped.control", *arrival.from.ip());
                }
            }
        }
    }

    /// Stamps rise above every stamp heard; a clock far in the future must not drag ours along for ever.
    pub(super) fn hear_stamp(&mut self, stamp: Stamp) {
        const AHEAD_MAX_MS: u64 = 60_000;
        let (_, wall) = self.wall;
        if stamp.millis <= wall.0.saturating_add(AHEAD_MAX_MS) {
            self.stamp_millis = self.stamp_millis.max(stamp.millis);
        }
    }
}
