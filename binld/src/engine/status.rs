//! What an operator may want to know of a running engine.

use std::net::Ipv4Addr;
use std::time::Duration;

use driver::{Time, Wall};
use peers::domain::Domain;
pub use peers::domain::{Shape, Standing, Unreachable};
use peers::hello::PeerStatus;
use peers::lowest::Heard;
use wire::configure::Ports;
use wire::hold::HoldState;
use wire::{Content, GroupAddr, ServerId, Stamp};

use super::Engine;
use super::claims::StateName;
use super::clearing::Schedule;
use super::files::Knowledge;
use super::loans::LoanRecord;
use super::slices::RollStatus;

/// A claim, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimStatus {
    /// What it carries.
    pub content: Content,
    /// Whether it is the claim on the pinned tuple.
    pub pinned: bool,
    /// The boot item that wants it.
    pub item: String,
    /// Its address, if it has one.
    pub group: Option<GroupAddr>,
    /// Its ports.
    pub ports: Option<Ports>,
    /// Its state.
    pub state: StateName,
    /// Since when it is in that state.
    pub since: Wall,
    /// When it was committed.
    pub stamp: Option<Stamp>,
    /// Age of the MTFTP server's last ACK.
    pub acked_ago: Option<Duration>,
    /// How long ago a client was last told the address.
    pub told_ago: Option<Duration>,
    /// Refusals in a row.
    pub refusals: usize,
    /// Who says that it has the address, too; with whether that keeps it from being handed out.
    pub contested_by: Vec<(Ipv4Addr, bool)>,
}

/// A file on an MTFTP server, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// Which.
    pub content: Content,
    /// Whether an answer may name the server for it now.
    pub usable: bool,
    /// What is known of it.
    pub known: Knowledge,
    /// If it is too large to be multicast: the largest that could be, in bytes.
    pub multicast_max: Option<u64>,
    /// Whether the server left the last request without an answer.
    pub server_silent: bool,
}

/// A claim of another member, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Whose it is.
    pub owner: ServerId,
    /// The address.
    pub group: GroupAddr,
    /// What it carries.
    pub content: Content,
    /// In which state its owner has it.
    pub state: HoldState,
    /// Whether clients are told it.
    pub configured: bool,
    /// How long ago its owner last said so.
    pub refreshed_ago: Duration,
}

/// Everything, at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Claims in order of content.
    pub claims: Vec<ClaimStatus>,
    /// Files in order of server and name.
    pub files: Vec<FileStatus>,
    /// Addresses others use, with how long they are marked.
    pub marks: Vec<(GroupAddr, Duration)>,
    /// Addresses that rest, with what they carried and for how long.
    pub rests: Vec<(GroupAddr, Content, Duration)>,
    /// Other servers that say hello, MTFTP servers among them, in order of name.
    pub peers: Vec<PeerStatus>,
    /// How much of the domain we know.
    pub standing: Standing,
    /// Members that have vanished without leaving, in order of name.
    pub unreachable: Vec<Unreachable>,
    /// The lowest id of all members that are connected with us.
    pub lowest: Heard,
    /// How the domain is connected beyond the link.
    pub shape: Shape,
    /// How many members there are, guessed from the lowest id.
    pub size_estimate: f64,
    /// Records that the members tell each other, ours among them.
    pub records: usize,
    /// Claims of other members, in order of address.
    pub replicas: Vec<ReplicaStatus>,
    /// The list of boot servers.
    pub roll: RollStatus,
    /// Addresses of our slice that others use, in order.
    pub loans: Vec<LoanRecord>,
    /// Boot servers that speak only the query and the echo, as configured or heard, in order.
    pub legacy_peers: Vec<Ipv4Addr>,
    /// Queries of a clearing that would begin now for a waiting client.
    pub queries: u8,
    /// Clients that wait for an answer.
    pub clients_waiting: usize,
}

impl Engine {
    /// What we are among the members of our domain, and what they tell each other.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Our claims in order of content.
    pub fn claims_status(&self, now: Time) -> impl Iterator<Item = ClaimStatus> {
        self.claims.iter().map(move |claim| ClaimStatus {
            content: claim.key.content.clone(),
            pinned: claim.key.pinned,
            item: claim.item.clone(),
            group: claim.state.placement().map(|at| at.group),
            ports: claim.state.placement().map(|at| at.ports),
            state: claim.state.name(),
            since: claim.since,
            stamp: claim.state.commitment().map(|commitment| commitment.stamp),
            acked_ago: claim.state.acked_at().map(|acked_at| now.since(acked_at)),
            told_ago: claim.told_at.map(|told_at| now.since(told_at)),
            refusals: claim.refusals,
            contested_by: self.opponents(&claim.key).collect(),
        })
    }

    /// Addresses that rest, with what they carried and for how long.
    pub fn rests_status(&self, now: Time) -> impl Iterator<Item = (GroupAddr, Content, Duration)> {
        let rests = self.claims.rests();
        rests.map(move |(group, rest)| (group, rest.content.clone(), rest.until.since(now)))
    }

    /// How long the tables are that grow with what comes from the network: marks, and clients that wait.
    #[must_use]
    pub fn lengths(&self, now: Time) -> (usize, usize) {
        (self.marks.iter(now).count(), self.clients.len())
    }

    /// Takes a picture, but for the counters; changes nothing.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let files = self.files.iter().map(|(content, known)| FileStatus {
            content: content.clone(),
            usable: self.files.is_fresh(now, content),
            known,
            multicast_max: self.files.multicast_max(content),
            server_silent: self.files.is_silent(content.server),
        });
        let mut legacy_peers = self.config.legacy.peers.clone();
        legacy_peers.extend(self.domain.hellos().legacy(now));
        Status {
            claims: self.claims_status(now).collect(),
            files: files.collect(),
            marks: self.marks.iter(now).map(|(group, mark)| (group, mark.until.since(now))).collect(),
            rests: self.rests_status(now).collect(),
            peers: self.domain.hellos().status(now).collect(),
            standing: self.domain.standing(now),
            unreachable: self.domain.unreachable().collect(),
            lowest: self.domain.lowest(),
            shape: self.domain.shape(now),
            size_estimate: self.domain.size_estimate(),
            records: self.domain.records().len(),
            replicas: self.replicas_status(now),
            roll: self.roll_status(now),
            loans: self.loans.given().cloned().collect(),
            legacy_peers: legacy_peers.into_iter().collect(),
            queries: self.plan(now, Schedule::Foreground).queries,
            clients_waiting: self.clients.len(),
        }
    }
}
