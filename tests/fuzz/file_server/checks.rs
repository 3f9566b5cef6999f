//! What must hold of the MTFTP server.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Role, Transmit};
use mtftp::engine::Blocks;
use mtftp::limits::{
    FALL_BACKS_SHOWN, OPENERS_MAX, OPENERS_PER_SOURCE_MAX, QUESTIONS_PER_STEP, REFERENCES_MAX,
    REFERENCES_PER_SENDER_MAX, SESSION_SILENCE, SESSIONS_MAX, STREAM_SILENCE, TOLD_MAX, TRANSFERS_MAX,
    WINDOW_SIZE_MAX,
};
use wire::clear::ClearVerdict;
use wire::configure::{Ack, RequestRef};
use wire::control::{Envelope, Message, PACKET_LEN_MAX};
use wire::query::{Opcode, Query};
use wire::tftp::{MULTICAST_PORT, MulticastAnswer, Packet};
use wire::{FileName, GroupAddr, ServerId};

use super::{FILES, Lab};
use crate::script::is_host;

/// An ACK moves a session by one step, which may ask so many openers, tell a new master, and tell the group; an ACK of a
/// client that leaves moves it once more. An ACK of a plain transfer brings a window.
pub(super) const DATAGRAMS_PER_DATAGRAM_MAX: usize = {
    let (step, window) = (2 * (QUESTIONS_PER_STEP + 4), WINDOW_SIZE_MAX as usize);
    if step > window { step } else { window }
};
/// Longest TFTP packet but DATA: an OACK with every option, an ERROR with our longest text.
const TFTP_LEN_MAX: usize = 100;

impl Lab {
    pub(super) fn on_send(&mut self, transmit: &Transmit) {
        let Transmit { role, to, bytes } = transmit;
        self.went_out += 1;
        let group = Self::config().domain_group;
        assert!(is_host(*to) || (*to == group && *role == Role::Control), "{transmit:?}");
        match role {
            Role::Control if is_of_domain(bytes) => assert!(bytes.len() <= PACKET_LEN_MAX),
            Role::Control => match Query::decode(bytes) {
                Ok((opcode, query)) => {
                    assert_eq!(opcode, Opcode::Echo);
                    self.owed.echoes = spend(self.owed.echoes, "echo");
                    let there = self.on_address(query.group);
                    let differs = there
                        .is_some_and(|file| file != query.content.file || query.content.server != super::OWN);
                    assert!(differs, "{query:?} was echoed");
                }
                Err(_) => self.on_answer(*to, bytes),
            },
            Role::Transfer => {
                let owed = self.owed.transfers.entry(*to).or_default();
                *owed = u32::try_from(spend(u64::from(*owed), "datagram of a transfer")).unwrap_or(0);
                assert!(bytes.len() <= TFTP_LEN_MAX);
                match Packet::decode(bytes).expect("our own packet") {
                    Packet::Error { .. } => {}
                    Packet::OptionAck(options) => {
                        self.sent.insert(*to, 0);
                        self.streams.remove(to);
                        assert!(options.block_size.is_none_or(|size| (8..=1468).contains(&size)));
                        assert!(!options.is_empty() && options.window_size.is_none_or(|size| size <= 4));
                        assert!(options.multicast.is_none());
                    }
                    other => assert!(matches!(other, Packet::Error { .. }), "{other:?}"),
                }
            }
            Role::Stream(_) => {
                self.owed.oacks = spend(self.owed.oacks, "datagram of a stream");
                assert!(bytes.len() <= TFTP_LEN_MAX);
                match Packet::decode(bytes).expect("our own packet") {
                    Packet::Error { .. } => {}
                    Packet::OptionAck(options) => {
                        self.streams.insert(*to, *role);
                        let answer = options.multicast.as_deref().and_then(MulticastAnswer::parse);
                        let group = answer.expect("an answer to `multicast`").group;
                        assert!(group.is_none_or(|group| group.port() == MULTICAST_PORT));
                    }
                    other => assert!(matches!(other, Packet::Error { .. }), "{other:?}"),
                }
            }
            Role::Mtftp(_) => {
                self.owed.errors = spend(self.owed.errors, "ERROR");
                assert!(bytes.len() <= TFTP_LEN_MAX);
                assert!(matches!(Packet::decode(bytes), Ok(Packet::Error { .. })), "{bytes:?}");
            }
            other => assert!(matches!(other, Role::Control), "nothing goes out by {other:?}"),
        }
    }

    /// Who asked is answered, once, and hears nothing that the store does not have (I2, R003.16).
    fn on_answer(&mut self, to: SocketAddrV4, bytes: &[u8]) {
        self.owed.answers = spend(self.owed.answers, "answer");
        assert!(bytes.len() <= PACKET_LEN_MAX);
        let message = Envelope::decode(bytes).expect("our own envelope").message;
        let answered = |request: &RequestRef| -> BTreeSet<ServerId> {
            let asked = (to, request.boot_epoch, request.serial, request.group);
            self.asked.get(&asked).cloned().unwrap_or_else(|| {
                assert!(self.asked.contains_key(&asked), "{to} did not ask {asked:?}");
                BTreeSet::new()
            })
        };
        match message {
            Message::Ack(Ack { request, ports, file, .. }) => {
                let askers = answered(&request);
                let Some(group) = request.group else {
                    assert!(FILES.iter().any(|(there, _)| there.as_bytes() == file.as_bytes()));
                    return;
                };
                let mut stored = askers.iter().map(|binld| {
                    self.rows.references.get(&(group, *binld)).is_some_and(|record| record.file == file)
                });
                let configured = ports.client != 0 && ports.server != 0;
                assert!(
                    stored.any(|stored| stored == configured),
                    "ACK of what the store denies: {group} {file}"
                );
            }
            Message::Nak(nak) => {
                answered(&nak.request);
            }
            Message::Superseded(answer) => {
                answered(&answer.request);
                let known = (answer.known_epoch, answer.known_serial);
                assert!((answer.request.boot_epoch, answer.request.serial) < known);
            }
            Message::ClearAnswer(answer) => {
                let taken = answer.verdict == ClearVerdict::Taken;
                assert!(!taken || self.on_address(answer.group).is_some(), "{answer:?}");
            }
            other => assert!(matches!(other, Message::Ack(_)), "not an answer: {other:?}"),
        }
    }

    /// What an address is for, claimed or at rest.
    fn on_address(&self, group: GroupAddr) -> Option<FileName> {
        let status = self.engine.status();
        let claims = status.claims.into_iter().map(|claim| (claim.group, claim.file));
        let mut places = claims.chain(status.rests.into_iter().map(|rest| (rest.group, rest.file)));
        places.find(|(there, _)| *there == group).map(|(_, file)| file)
    }

    pub(super) fn on_blocks(&mut self, blocks: &Blocks) {
        self.went_out += usize::from(blocks.count);
        self.sent.insert(blocks.to, blocks.first_block + u64::from(blocks.count) - 1);
        let file = self.open.get(&blocks.file).expect("blocks of an open file");
        let size = FILES.iter().find(|(there, _)| there.as_bytes() == file.as_bytes()).map_or(0, |one| one.1);
        let last = size / u64::from(blocks.block_size) + 1;
        assert!(blocks.first_block >= 1 && blocks.count >= 1, "{blocks:?}");
        assert!(blocks.first_block + u64::from(blocks.count) - 1 <= last, "{blocks:?} of {last}");
        assert!((8..=1468).contains(&blocks.block_size), "{blocks:?}");
        match blocks.role {
            Role::Transfer => {
                assert!(is_host(blocks.to) && blocks.count <= 4, "more than was asked for: {blocks:?}");
                let owed = self.owed.transfers.entry(blocks.to).or_default();
                *owed = u32::try_from(spend(u64::from(*owed), "block of a transfer")).unwrap_or(0);
            }
            Role::Mtftp(port) => {
                let silent = self.heard_at.is_none_or(|at| self.now.since(at) >= SESSION_SILENCE);
                if silent {
                    self.owed.blocks = spend(self.owed.blocks, "block before any ACK");
                }
                if blocks.to.ip().is_multicast() {
                    // Nothing is multicast on an address that no BINLD relies on (R003.18).
                    let claims = self.engine.status().claims;
                    let ours = claims.iter().find(|claim| claim.group.ip() == *blocks.to.ip());
                    let ours = ours.expect("a stream has a claim");
                    assert_eq!((ours.ports.server, ours.ports.client), (port, blocks.to.port()));
                    assert_eq!(&ours.file, file);
                }
            }
            Role::Stream(_) => {
                let heard = self.stream_acked_at.is_some_and(|at| self.now.since(at) < STREAM_SILENCE);
                assert!(heard, "a block before any ACK");
                if !blocks.to.ip().is_multicast() {
                    // Who was too slow for the others has it by unicast.
                    return assert!(is_host(blocks.to), "{blocks:?}");
                }
                let claims = self.engine.status().claims;
                let ours = claims.iter().find(|claim| claim.group.ip() == *blocks.to.ip());
                let ours = ours.expect("a stream has a claim");
                assert_eq!((blocks.to.port(), &ours.file), (MULTICAST_PORT, file));
                assert_ne!(ours.group, Self::config().pinned_group);
            }
            other => assert!(matches!(other, Role::Transfer), "blocks go out by {other:?}"),
        }
    }

    pub(super) fn openers(&self) -> u64 {
        let status = self.engine.status();
        let sessions = status.claims.iter().flat_map(|claim| &claim.sessions);
        sessions.map(|session| u64::try_from(session.openers.len()).unwrap_or(u64::MAX)).sum()
    }

    /// After each input: tables, and what must be unique.
    pub(super) fn check(&self) {
        let status = self.engine.status();
        let counts = status.claims.iter().map(|claim| claim.references.len());
        let references: usize = counts.sum();
        assert!(references <= REFERENCES_MAX && status.transfers <= TRANSFERS_MAX);
        let expected = status.claims.iter().map(|claim| claim.expected).sum::<usize>();
        assert!(expected <= TOLD_MAX && status.fall_backs.recent.len() <= FALL_BACKS_SHOWN);
        let mut tuples = BTreeSet::new();
        let mut sessions = 0;
        let mut of_sender = std::collections::BTreeMap::<ServerId, usize>::new();
        for claim in &status.claims {
            assert!(!claim.references.is_empty(), "{} is claimed by nobody", claim.group);
            assert!(
                tuples.insert((claim.ports.server, &claim.file)),
                "an open of {} has two claims",
                claim.file
            );
            assert!(!status.rests.iter().any(|rest| rest.group == claim.group));
            for reference in &claim.references {
                *of_sender.entry(reference.binld).or_default() += 1;
            }
            for session in &claim.sessions {
                sessions += 1;
                assert!(!session.openers.is_empty() && session.openers.len() <= OPENERS_MAX);
                let mut of_source = std::collections::BTreeMap::<Ipv4Addr, usize>::new();
                for opener in &session.openers {
                    *of_source.entry(*opener.client.ip()).or_default() += 1;
                }
                assert!(of_source.values().all(|count| *count <= OPENERS_PER_SOURCE_MAX));
            }
        }
        assert!(sessions <= SESSIONS_MAX);
        assert!(of_sender.values().all(|count| *count <= REFERENCES_PER_SENDER_MAX));
        // A file is open for a session or a transfer, and for nothing else.
        assert!(self.open.len() <= sessions + status.transfers, "{} files are open", self.open.len());
    }

    /// After a restart the references are those of the store, and each address that rested rests (L5).
    pub(super) fn check_recovered(&self) {
        let status = self.engine.status();
        let held: BTreeSet<_> = status
            .claims
            .iter()
            .flat_map(|claim| claim.references.iter().map(|reference| (claim.group, reference.binld)))
            .collect();
        assert_eq!(held, self.rows.references.keys().copied().collect());
        assert!(status.claims.iter().flat_map(|claim| &claim.references).all(|reference| reference.stored));
        let resting: BTreeSet<_> = status.rests.iter().map(|rest| rest.group).collect();
        let claimed = |group: &&GroupAddr| !status.claims.iter().any(|claim| claim.group == **group);
        assert_eq!(resting, self.rows.rests.keys().filter(claimed).copied().collect());
    }

    /// When all is over: no session, no transfer, no rest, no open file, and nothing more is due but a hello.
    pub(super) fn check_quiet(&self) {
        let status = self.engine.status();
        assert!(status.claims.iter().all(|claim| claim.sessions.is_empty() && !claim.closing), "{status:?}");
        assert_eq!((status.transfers, self.open.len()), (0, 0), "leaked");
        assert!(status.rests.is_empty(), "{status:?}");
        assert!(status.claims.iter().all(|claim| claim.expected == 0), "{status:?}");
        let next = self.engine.next_deadline().expect("a hello");
        assert!(next.at.since(self.now) < std::time::Duration::from_secs(3), "{next:?}");
    }
}

/// What a member says to members: of its own accord, or to them as a member; nobody is answered more for it.
fn is_of_domain(bytes: &[u8]) -> bool {
    Envelope::decode(bytes).is_ok_and(|envelope| {
        matches!(
            envelope.message,
            Message::Hello(_)
                | Message::Connect(_)
                | Message::Welcome(_)
                | Message::Refuse(_)
                | Message::Disconnect(_)
                | Message::SyncList(_)
                | Message::Flood(_)
                | Message::FloodAck(_)
        )
    })
}

fn spend(owed: u64, what: &str) -> u64 {
    assert!(owed > 0, "an {what} that nothing asked for");
    owed - 1
}
