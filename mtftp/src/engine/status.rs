//! What the core shows of itself.

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Time, Wall};
use peers::domain::{Domain, Standing};
use peers::hello::PeerStatus;
use wire::configure::Ports;
use wire::{BootEpoch, FileName, GroupAddr, Serial, ServerId, Stamp};

use super::Engine;
use super::action::{AwaitedStart, Tally};
use super::fall_backs::{FallBacksStatus, Querier};
use super::master::OpenerRole;
use super::protocol::Protocol;
use super::references::Place;
use super::running::Running;
use super::speed::Speed;
use crate::limits::TRANSFERS_SHOWN;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Addresses with references, in order.
    pub claims: Vec<ClaimStatus>,
    /// Released addresses that rest, in order.
    pub rests: Vec<RestStatus>,
    /// Plain transfers under way.
    pub transfers: usize,
    /// Some of them, in order of client: at most [`TRANSFERS_SHOWN`].
    pub plain: Vec<TransferStatus>,
    /// Who was told a group address and fetched by plain TFTP.
    pub fall_backs: FallBacksStatus,
    /// Whether a querier is on the segment.
    pub querier: Querier,
}

/// A plain transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferStatus {
    /// The client.
    pub client: SocketAddrV4,
    /// The file.
    pub file: FileName,
    /// The block up to which it has the file; 0 before the first.
    pub block: u64,
    /// Blocks in the file, of the size that the client takes.
    pub blocks: u64,
}

/// What we are among the servers of our domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainStatus {
    /// How much of the domain we know.
    pub standing: Standing,
    /// Records that the members tell each other, ours among them.
    pub records: usize,
    /// Other servers that say hello, in order of name.
    pub members: Vec<PeerStatus>,
}

/// An address with references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimStatus {
    /// The address.
    pub group: GroupAddr,
    /// What it carries.
    pub file: FileName,
    /// The ports in force.
    pub ports: Ports,
    /// The last reference is being deleted.
    pub closing: bool,
    /// Who relies on it, in order.
    pub references: Vec<ReferenceStatus>,
    /// Clients that were told the address, and have neither the file nor fallen back: it is unknown of those that listen
    /// and say nothing, for [`TOLD_KEEP`](crate::limits::TOLD_KEEP).
    pub expected: usize,
    /// The sessions that run: at most one of each protocol.
    pub sessions: Vec<SessionStatus>,
}

/// One BINLD's reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceStatus {
    /// Whose.
    pub binld: ServerId,
    /// Where it was last heard.
    pub address: Ipv4Addr,
    /// Boot epoch of its last configure.
    pub epoch: BootEpoch,
    /// Serial of its last configure.
    pub serial: Serial,
    /// When it committed the claim.
    pub stamp: Stamp,
    /// When the reference was made.
    pub since: Wall,
    /// When it was last renewed.
    pub renewed: Wall,
    /// Whether the store has it: not yet ACKed otherwise.
    pub stored: bool,
    /// Whether it was not renewed in time (G12).
    pub stale: bool,
}

/// A released address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestStatus {
    /// The address.
    pub group: GroupAddr,
    /// What it carried.
    pub file: FileName,
    /// When it was released.
    pub since: Wall,
}

/// A multicast session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// How it speaks with its clients.
    pub protocol: Protocol,
    /// Bytes in a block.
    pub block_size: u16,
    /// Which pass over the file it is, from 1; sessions that repair within one pass have no other.
    pub pass: u64,
    /// The block that went out last, from 1; 0 before the first.
    pub block: u16,
    /// How fast it multicasts.
    pub speed: Speed,
    /// What it sent so far.
    pub tally: Tally,
    /// Whose ACKs pace it.
    pub master: Option<SocketAddrV4>,
    /// What it waits for before it begins.
    pub start: Option<AwaitedStart>,
    /// Who waits, in order of address.
    pub openers: Vec<OpenerStatus>,
}

/// A client of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenerStatus {
    /// Its address and port.
    pub client: SocketAddrV4,
    /// Blocks it may lack, as far as is known.
    pub lacks: u32,
    /// Its highest ACK; `None` while it only listens.
    pub acked: Option<u16>,
    /// What it does.
    pub role: OpenerRole,
}

fn transfer_status((client, file, block, blocks): (SocketAddrV4, &FileName, u64, u64)) -> TransferStatus {
    TransferStatus { client, file: file.clone(), block, blocks }
}

impl Engine {
    /// What we are among the members of our domain, and what they tell each other.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What we are in the domain now.
    #[must_use]
    pub fn domain_status(&self, now: Time) -> DomainStatus {
        DomainStatus {
            standing: self.domain.standing(now),
            records: self.domain.records().len(),
            members: self.domain.hellos().status(now).collect(),
        }
    }

    /// What there is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let (total, recent) = self.context.told.fall_backs();
        let mut status = Status {
            claims: Vec::new(),
            rests: Vec::new(),
            transfers: self.plain.len(),
            plain: self.plain.under_way().take(TRANSFERS_SHOWN).map(transfer_status).collect(),
            fall_backs: FallBacksStatus { total, recent: recent.cloned().collect() },
            querier: self.querier,
        };
        for (group, place) in self.references.places() {
            match place {
                Place::Resting(rest) => {
                    status.rests.push(RestStatus { group, file: rest.file.clone(), since: rest.since });
                }
                Place::Claimed(claim) => status.claims.push(ClaimStatus {
                    group,
                    file: claim.file.clone(),
                    ports: claim.ports,
                    closing: claim.closing,
                    references: claim
                        .references
                        .iter()
                        .map(|(binld, reference)| ReferenceStatus {
                            binld: *binld,
                            address: reference.address,
                            epoch: reference.epoch,
                            serial: reference.serial,
                            stamp: reference.stamp,
                            since: reference.since,
                            renewed: reference.renewed,
                            stored: reference.stored,
                            stale: reference.stale,
                        })
                        .collect(),
                    expected: self.context.told.expected(group),
                    sessions: self
                        .sessions
                        .running(group)
                        .map(|session| self.session_status(group, session))
                        .collect(),
                }),
            }
        }
        status
    }

    fn session_status(&self, group: GroupAddr, session: &Running) -> SessionStatus {
        let channel = session.channel();
        SessionStatus {
            protocol: channel.protocol,
            block_size: channel.block_size,
            pass: session.pass(),
            block: session.block(),
            speed: self.sessions.speed(group, channel.protocol).cloned().unwrap_or(Speed::new(Time::ZERO)),
            tally: session.tally(),
            master: session.master(),
            start: session.awaited_start(),
            openers: session
                .lacking()
                .into_iter()
                .map(|(client, lacks, acked)| OpenerStatus {
                    client,
                    lacks,
                    acked,
                    role: session.role(client),
                })
                .collect(),
        }
    }
}
