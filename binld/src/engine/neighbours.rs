//! Our hellos and those of others: how much is lost, who is deaf, who speaks only the frozen packet (G26, T3, T6b).

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::Time;
use peers::hello::News;
use peers::limits::{DEAF_FOR, HELLO_INTERVAL};
use wire::control::{Envelope, Message};
use wire::hello::Hello;

use super::clearing::{Plan, Schedule, query_count};
use super::event::Event;
use super::{Engine, Timer};

impl Engine {
    /// What an attempt that begins now has to reckon with.
    pub(super) fn plan(&self, now: Time, schedule: Schedule) -> Plan {
        let legacy_wait = self.has_legacy_peers(now).then_some(self.config.legacy.wait);
        Plan { schedule, queries: query_count(self.hellos.loss(now)), legacy_wait }
    }

    /// Whether a peer that speaks only the frozen packet is configured, or was heard in the last 24 h.
    #[must_use]
    pub fn has_legacy_peers(&self, now: Time) -> bool {
        !self.config.legacy.peers.is_empty() || self.hellos.legacy(now).next().is_some()
    }

    /// Whether the silence of others is being listened to.
    #[must_use]
    pub fn is_clearing(&self) -> bool {
        self.claims.iter().any(|claim| claim.state.clearing().is_some())
    }

    /// Our own kernel dropped datagrams in the last second: what we did not hear is no evidence (G26). Asks for nothing
    /// to be done; the next hello says so, and the log.
    pub fn on_deaf(&mut self, now: Time) {
        self.counters.add("hello", "deaf", 1);
        self.deaf_until = now + DEAF_FOR;
        self.claims.doubt(now);
    }

    pub(super) fn on_hello_due(&mut self, now: Time) {
        let deaf = now < self.deaf_until;
        if deaf {
            self.tell(Event::Deaf { who: self.config.address });
        }
        let hello = self.hellos.next_hello(now, deaf);
        let group = SocketAddrV4::new(*self.config.query.ip(), self.config.control_port);
        self.send_control(group, Message::Hello(hello));
        self.timers.arm(Timer::Hello, now + HELLO_INTERVAL, "hello due");
    }

    pub(super) fn on_hello(&mut self, now: Time, from: Ipv4Addr, envelope: &Envelope, hello: &Hello) {
        if envelope.sender == self.identity.server {
            return self.counters.add("hello", "own", 1);
        }
        self.counters.add("hello", "heard", 1);
        match self.hellos.on_hello(now, from, envelope.sender, envelope.boot_epoch, hello) {
            News::Nothing => {}
            News::Appeared => self.tell(Event::PeerAppeared { address: from }),
            News::Deaf => {
                self.counters.add("hello", "peer_deaf", 1);
                self.tell(Event::Deaf { who: from });
                self.claims.doubt(now);
            }
            News::TooMany => self.counters.add("dropped.hello", "too_many", 1),
        }
    }
}
