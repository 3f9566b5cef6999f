//! Which clients we answer, and for which we stand by (seed 001). Who that is, is decided in [`peers::responder`]; this file
//! feeds that machine and does what it wants done.
//!
//! A request that was sent to us alone we answer, whoever the responder is: nobody else heard it. One that all heard all
//! work out, and the responder of the client's shard answers it; only it begins a claim for it, and the others share that
//! one, so that they have the same answer ready (R001.3). A client that asks again was not answered: with every repeat one
//! more of those that stand by answers, as they all say the same.

use std::net::SocketAddrV4;

use driver::Time;
use peers::hello::{About, PeerStatus};
use peers::responder::{CandidateStatus, News, Output, Place, To, Wants};
use wire::ServerId;
use wire::dhcp::BootRequest;
use wire::elect::{Declare, Inquiry, Revoke};
use wire::pxe::BootItem;
use wire::record::{Body, RecordKind, ServerRole, Uid};

use super::Engine;
use super::catalog::{Found, Profile};
use super::event::Event;

/// The number of the only record of that kind that a server has.
const RECORD: u64 = 0;

/// How the clients of the link are shared out, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RespondingStatus {
    /// The boot servers of the link, ourselves among them, in order of name.
    pub servers: Vec<CandidateStatus>,
    /// Shards whose responder works, as far as we know.
    pub answered: usize,
    /// Whether an operator has us stand by.
    pub drained: bool,
}

/// A message of the election.
#[derive(Debug, Clone, Copy)]
pub(super) enum Election<'a> {
    Inquiry(&'a Inquiry),
    Declare(&'a Declare),
    Revoke(&'a Revoke),
}

impl Engine {
    /// Does what the election wants done.
    pub(super) fn serve_responders(&mut self, now: Time) {
        while let Some(output) = self.responders.next_output() {
            match output {
                Output::Send(To::Link, message) => self.send_control(self.config.group(), message),
                Output::Send(To::One(to), message) => self.send_control(to, message),
                Output::Publish(lives, record) => {
                    self.domain.put(now, RecordKind::Responder, RECORD, lives, Body::Responder(record));
                }
                Output::Count(place, what) => self.counters.add(place, what, 1),
                Output::Tell(news) => {
                    self.tell(Event::Responder(news));
                    match news {
                        // Whoever was left to another one may be ours now.
                        News::TookOver { .. } | News::Failed(_) => self.unsettle(),
                        // Anybody can cause some of these as often as it likes: no waiting client is looked at for them.
                        News::GaveWay { .. } | News::Works(_) | News::Slept | News::Strange(..) => {}
                    }
                }
            }
        }
    }

    /// A message of the election. Only boot servers of our link take part.
    pub(super) fn on_election(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        sender: ServerId,
        message: Election<'_>,
    ) {
        if !self.statements.allows(now, *from.ip()) {
            return self.over_rate("dropped.control", *from.ip());
        }
        if !self.is_candidate(now, from, sender) {
            return self.counters.add("dropped.election", "stranger", 1);
        }
        match message {
            Election::Inquiry(inquiry) => {
                self.responders.on_inquiry(now, from, sender, inquiry);
                if self.responders.lacks_record(sender) {
                    let uid = Uid { owner: sender, kind: RecordKind::Responder, number: RECORD };
                    self.on_responder_record(now, uid);
                }
            }
            Election::Declare(declare) => self.responders.on_declare(now, sender, declare),
            Election::Revoke(revoke) => self.responders.on_revoke(now, sender, revoke),
        }
    }

    /// Whether that comes from a living boot server of our domain, on our link.
    pub(super) fn is_candidate(&self, now: Time, from: SocketAddrV4, sender: ServerId) -> bool {
        let is_it = |peer: PeerStatus| {
            let About { role, domain, .. } = peer.about;
            peer.living && peer.control == from && role == ServerRole::Binld && domain == self.config.domain
        };
        self.config.is_on_link(*from.ip()) && self.domain.hellos().peer(sender, now).is_some_and(is_it)
    }

    /// A record that tells which shards a server answers has changed, or ended.
    pub(super) fn on_responder_record(&mut self, now: Time, uid: Uid) {
        let told = self.domain.records().get(&uid, now);
        let told = told.and_then(
            |(record, _)| {
                if let Body::Responder(told) = &record.body { Some(told) } else { None }
            },
        );
        self.responders.on_record(now, uid.owner, told);
    }

    /// What clients may ask us for has changed.
    pub(super) fn tell_types(&mut self, now: Time) {
        let types = self.config.catalog.items.iter().map(|item| item.boot_item.server_type).collect();
        self.responders.set_types(now, &types);
    }

    /// Our place for a client that everybody has heard.
    #[must_use]
    pub fn place(&self, request: &BootRequest, wanted: BootItem) -> Place {
        let found = self.config.catalog.find(request, wanted);
        // Intel's client takes the sender of the answer for its file server (pxe.md A.8).
        let is_rom =
            |found: &Found<'_>| found.profile == Profile::PxeRom && found.boot.profile == Profile::PxeRom;
        let at = found.filter(is_rom).map(|found| found.boot.servers.as_slice()).unwrap_or_default();
        self.responders.place(request.mac, &Wants { server_type: wanted.server_type, at })
    }

    /// An operator has us stand by from now on, or not any more. Clients that all servers hear are left to others as soon as
    /// one of them has taken over; who asks us alone is answered.
    pub fn drain_clients(&mut self, now: Time, drained: bool) {
        self.responders.drain(now, drained);
        self.settle(now);
    }

    /// Takes a picture of that; changes nothing.
    #[must_use]
    pub fn responding_status(&self) -> RespondingStatus {
        RespondingStatus {
            servers: self.responders.status().collect(),
            answered: self.responders.answered(),
            drained: self.responders.is_drained(),
        }
    }
}
