//! What must hold of the boot server.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use binld::engine::choose::is_forbidden;
use binld::engine::claims::StateName;
use binld::limits::{CLIENTS_WAITING_MAX, FILE_ACK_MAX, MARKS_MAX};
use driver::{Role, Transmit};
use wire::control::{Envelope, Message, PACKET_LEN_MAX};
use wire::dhcp::REPLY_LEN_MAX;
use wire::query::{Opcode, Query};
use wire::{Content, FileName, GroupAddr};

use super::{Lab, world};
use crate::decoders::read_reply;
use crate::script::is_host;

/// What one datagram may bring back to its sender: an echo each for a rest and a claim, a statement, an answer.
const DATAGRAMS_BACK_MAX: usize = 4;
/// Claims at once: those of all catalogs, each once dynamic and once pinned.
const CLAIMS_MAX: usize = 32;

impl Lab {
    pub(super) fn on_send(&mut self, transmit: &Transmit) {
        let Transmit { role, to, bytes } = transmit;
        *self.went_to.entry(*to.ip()).or_default() += 1;
        let group = world::config(0).query;
        let multicast = *to == group || *to.ip() == *group.ip() && to.port() == 4016;
        assert!(is_host(*to) || multicast, "{transmit:?}");
        match role {
            Role::Query => {
                let (opcode, query) = Query::decode(bytes).expect("our own packet");
                if opcode == Opcode::Echo {
                    assert!(self.echoes_owed > 0 && !multicast, "an echo that nothing asked for");
                    self.echoes_owed -= 1;
                } else {
                    assert!(multicast, "{query:?} to {to}");
                    self.queries.push(query);
                }
            }
            Role::Control => {
                assert!(bytes.len() <= PACKET_LEN_MAX);
                let envelope = Envelope::decode(bytes).expect("our own envelope");
                if let Message::Told(told) = &envelope.message {
                    assert!(world::SERVERS.contains(to.ip()) && self.replies_owed > 0, "{told:?} to {to}");
                }
                if let Message::Configure(_) | Message::Delete(_) = envelope.message {
                    assert!(world::SERVERS.contains(to.ip()), "{envelope:?} to {to}");
                    if self.prompt_servers {
                        self.unanswered.push_back((*to, envelope.clone()));
                    }
                    self.requests.push((*to, envelope));
                }
            }
            Role::Discovery | Role::Broadcast => self.on_reply(bytes),
            other => assert!(matches!(other, Role::Discovery), "nothing goes out by {other:?}"),
        }
    }

    /// I5: what a client is told is true.
    fn on_reply(&mut self, bytes: &[u8]) {
        assert!(self.replies_owed > 0, "an answer that nobody asked for");
        self.replies_owed -= 1;
        assert!((300..=REPLY_LEN_MAX).contains(&bytes.len()), "{} bytes", bytes.len());
        let reply = read_reply(bytes).expect("our own answer");
        let server = reply.file_server;
        let uri = reply.uri.as_deref().unwrap_or_default();
        let pinned = uri.strip_prefix("mtftp://").map(|_| world::config(0).pinned.group);
        // Only for the pinned tuple is the address not said: iPXE knows it.
        let told = reply.vendor.multicast.map(|tags| tags.group).or(pinned);
        if let Some(group) = told {
            let status = self.engine.status(self.now);
            let held = status
                .claims
                .iter()
                .find(|claim| claim.group == Some(group) && claim.content.server == server);
            let held = held.expect("the address is ours");
            assert_eq!(held.state, StateName::Held, "{group} was told");
            let acked = self.groups.get(&(held.content.clone(), group));
            let fresh = acked.is_some_and(|at| self.now.since(*at) < FILE_ACK_MAX);
            assert!(fresh, "{group} was told for {} without an ACK: {acked:?}", held.content);
            assert!(self.stored(group, &held.content), "{group} was told, and is not on disk");
        }
        // Where the boot file is the multicast file, iPXE is told its URI.
        if !reply.file.starts_with(b"mtftp://") {
            let file = FileName::new(&reply.file).expect("a name");
            let acked = self.files.get(&Content { server, file: file.clone() });
            let fresh = acked.is_some_and(|at| self.now.since(*at) < FILE_ACK_MAX);
            assert!(fresh, "{server} was told for {file} without an ACK: {acked:?}");
        }
    }

    fn stored(&self, group: GroupAddr, content: &Content) -> bool {
        self.rows.claims.get(&group).is_some_and(|record| record.key.content == *content)
    }

    /// A datagram brings its sender no more than a few (`security.md`); servers that were asked are another matter.
    pub(super) fn check_amplification(&self, source: Ipv4Addr) {
        let back = self.went_to.get(&source).copied().unwrap_or(0);
        assert!(
            back <= DATAGRAMS_BACK_MAX || world::SERVERS.contains(&source),
            "{back} datagrams to {source}"
        );
    }

    /// After each input.
    pub(super) fn check(&self) {
        let status = self.engine.status(self.now);
        assert!(status.marks.len() <= MARKS_MAX && status.clients_waiting <= CLIENTS_WAITING_MAX);
        assert!(status.claims.len() <= CLAIMS_MAX, "{} claims", status.claims.len());
        let config = world::config(0);
        let mut groups = BTreeSet::new();
        for claim in &status.claims {
            let Some(group) = claim.group else {
                assert_eq!(claim.state, StateName::Waiting);
                continue;
            };
            assert!(groups.insert(group), "{group} is ours twice");
            assert!(!is_forbidden(group));
            assert!(
                if claim.pinned { group == config.pinned.group } else { config.pool.holds(group) },
                "{group}"
            );
            if claim.state == StateName::Held {
                assert!(
                    claim.acked_ago.is_some() && self.stored(group, &claim.content),
                    "{claim:?} is not stored"
                );
            }
            let ports = claim.ports.expect("who has an address has ports");
            assert!(ports.client != 0 && ports.server != 0, "{claim:?}");
        }
    }

    /// After a restart every claim on disk is defended or asked for again.
    pub(super) fn check_recovered(&self) {
        let status = self.engine.status(self.now);
        assert!(status.claims.iter().all(|claim| claim.state != StateName::Held), "held before any ACK");
    }

    /// When nobody asks any more and everything answers: no client waits, nothing is stuck half way.
    pub(super) fn check_quiet(&self) {
        let status = self.engine.status(self.now);
        assert_eq!(status.clients_waiting, 0);
        let stuck = status.claims.iter().find(|claim| claim.state == StateName::Recording);
        assert!(stuck.is_none(), "{stuck:?}");
        let next = self.engine.next_deadline().expect("the alive note at least");
        assert!(next.at.since(self.now) < Duration::from_secs(61), "{next:?}");
    }
}
