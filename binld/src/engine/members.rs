//! The other members of our domain: what they tell us, and what it means for clearing (G26, T3, T6b).

use driver::Time;
use peers::domain::{News, Output};
use wire::control::{Envelope, Message};
use wire::record::{RecordKind, Uid};

use super::Engine;
use super::clearing::{Plan, Schedule, query_count};
use super::event::Event;

impl Engine {
    /// How an address is asked for now.
    pub(super) fn plan(&self, now: Time, schedule: Schedule) -> Plan {
        let legacy_wait = self.has_legacy_peers(now).then_some(self.config.legacy.wait);
        Plan { schedule, queries: query_count(self.domain.hellos().loss(now)), legacy_wait }
    }

    /// Whether somebody speaks only the frozen packet, as configured or heard in the last 24 h.
    #[must_use]
    pub fn has_legacy_peers(&self, now: Time) -> bool {
        !self.config.legacy.peers.is_empty() || self.domain.hellos().legacy(now).next().is_some()
    }

    /// Whether some claim asks right now: then a dropped datagram matters.
    #[must_use]
    pub fn is_clearing(&self) -> bool {
        self.claims.iter().any(|claim| claim.state.clearing().is_some())
    }

    /// The kernel dropped datagrams that were for the query port: what was said meanwhile, we did not hear.
    pub fn on_deaf(&mut self, now: Time) {
        self.counters.add("hello", "deaf", 1);
        self.domain.on_deaf(now);
        self.claims.doubt(now);
    }

    /// What another member says to us as a member; `false` if it is something else.
    pub(super) fn on_member(&mut self, now: Time, from: std::net::SocketAddrV4, envelope: &Envelope) -> bool {
        let wall = self.wall_at(now);
        if matches!(envelope.message, Message::Hello(_)) && self.is_candidate(now, from, envelope.sender) {
            self.responders.on_life(now, envelope.sender);
        }
        self.domain.on_message(now, wall, from, envelope)
    }

    /// Does what the member machine wants done.
    pub(super) fn serve_domain(&mut self, now: Time) {
        let wall = self.wall_at(now);
        self.domain.on_wall(now, wall);
        for (about, words) in self.for_people.drain(..) {
            self.domain.tell_people(now, about, &words);
        }
        while let Some(output) = self.domain.poll_output(now) {
            match output {
                Output::Send(to, message) => self.send_control(to, message),
                Output::Count(place, what) => self.counters.add(place, what, 1),
                Output::Tell(news) => {
                    self.save_news(now, &news);
                    self.on_news(now, news);
                }
            }
        }
    }

    fn on_record(&mut self, now: Time, uid: Uid) {
        match uid.kind {
            RecordKind::Domain => self.on_roll_record(now, uid),
            RecordKind::Claim | RecordKind::Reference => {
                self.replicas.on_changed(uid, self.domain.records(), now);
                self.wake_sharer(now, uid);
            }
            // Who lives is looked at every hello interval, and most such records are refreshes.
            RecordKind::Member
            | RecordKind::Lowest
            | RecordKind::Neighbours
            | RecordKind::Note
            | RecordKind::Contact => {}
            RecordKind::Responder => self.on_responder_record(now, uid),
        }
    }

    fn on_news(&mut self, now: Time, news: News) {
        self.slices.stale |= !matches!(news, News::Changed(_));
        match news {
            News::Appeared(control) => self.tell(Event::PeerAppeared { address: *control.ip() }),
            News::Left(control) => {
                self.responders.on_left_from(now, control);
                self.tell(Event::PeerLeft { address: *control.ip() });
            }
            News::Deaf(who) => {
                self.tell(Event::Deaf { who });
                if who != self.config.address {
                    self.claims.doubt(now);
                }
            }
            News::Twin(control) => {
                let place = "domain";
                if self.counters.add_and_tell(place, "twin_told") {
                    self.tell(Event::Twin { address: *control.ip() });
                }
            }
            News::Changed(uid) => self.on_record(now, uid),
            News::Linked(control) => self.tell(Event::Linked { address: *control.ip() }),
            News::Unreachable(control) => self.tell(Event::Unreachable { address: *control.ip() }),
            News::Healed(control) => self.tell(Event::Healed { last: *control.ip() }),
            News::Unlinked(control) => self.tell(Event::Unlinked { address: *control.ip() }),
        }
    }
}
