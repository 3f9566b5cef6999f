//! What boot servers and queriers tell us about clients that fall back, and when one does.

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::Time;
use wire::FileName;
use wire::igmp::Query;
use wire::told::Told;

use super::Engine;
use super::action::Event;
use super::cause::FallBack;
use super::references::{Place, Sender};
use crate::limits::QUERIER_KEEP;

/// What is known of a querier on the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Querier {
    /// Nothing: we may not listen.
    #[default]
    NotKnown,
    /// None was heard.
    NotHeard,
    /// One was heard.
    Heard {
        /// Its address; 0.0.0.0 for a bridge or switch without one.
        from: Ipv4Addr,
        /// When it was last heard.
        at: Time,
    },
}

impl Querier {
    /// Who was heard lately; `None` where that cannot be known.
    #[must_use]
    pub fn lately(self, now: Time) -> Option<Option<Ipv4Addr>> {
        match self {
            Self::NotKnown => None,
            Self::NotHeard => Some(None),
            Self::Heard { from, at } => Some((now.since(at) < QUERIER_KEEP).then_some(from)),
        }
    }
}

/// Clients that were told a group address and fetched by plain TFTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallBacksStatus {
    /// Since the start.
    pub total: u64,
    /// The last of them, the newest first: at most [`FALL_BACKS_SHOWN`](crate::limits::FALL_BACKS_SHOWN).
    pub recent: Vec<FallBack>,
}

impl Engine {
    /// The host lets us hear IGMP: from now on no query means no querier.
    pub fn on_igmp_open(&mut self) {
        if self.querier == Querier::NotKnown {
            self.querier = Querier::NotHeard;
        }
    }

    /// A packet of IGMP came: whole, as IPv4.
    pub(super) fn on_igmp(&mut self, now: Time, packet: &[u8]) {
        match Query::decode(packet) {
            Ok(Some(Query { from })) => {
                self.context.count("igmp", "query");
                self.querier = Querier::Heard { from, at: now };
            }
            Ok(None) => {}
            Err(error) => self.context.count("drop_igmp", error.kind.name()),
        }
    }

    /// A boot server has told a client an address: it counts if that one relies on the address for that file.
    pub(super) fn on_told(&mut self, now: Time, sender: &Sender, told: Told) {
        let claim = match self.references.place(told.group) {
            Some(Place::Claimed(claim)) if claim.file == told.file => claim,
            Some(Place::Claimed(_) | Place::Resting(_)) | None => {
                return self.context.count("drop_told", "no_such_claim");
            }
        };
        if !claim.references.contains_key(&sender.binld) {
            return self.context.count("drop_told", "stranger");
        }
        let is_open = self.sessions.has_opener(told.group, told.client);
        let counted = self.context.told.on_told(now, told, is_open);
        self.context.count("control", counted);
    }

    /// A client has ACKed something of a plain transfer for the first time: it does fetch the file, and does not only ask
    /// for its size.
    pub(super) fn on_plain_began(&mut self, now: Time, client: SocketAddrV4, file: &FileName) {
        let client = *client.ip();
        let near = self.identity.has_on_link(client);
        let querier = self.querier.lately(now);
        let Some(fall_back) = self.context.told.on_plain(now, (client, file), near, querier) else { return };
        self.context.count("fall_back", fall_back.cause.name());
        self.context.tell(Event::FellBack(fall_back));
    }
}
