//! What `mtftpd status` shows: tables for people, or JSON.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use driver::table::{ago, section};
use driver::udp::Interface;
use driver::{Time, Wall};
use peers::hello::PeerStatus;
use serde_json::{Value, json};
use wire::record::ServerRole;

use crate::engine::{ClaimStatus, DomainStatus, Identity, ReferenceStatus, SessionStatus, Status};

/// Everything an operator may see, at one instant.
pub(super) struct Report<'a> {
    pub(super) identity: Identity,
    pub(super) interface: &'a Interface,
    pub(super) boot_dir: &'a Path,
    pub(super) started: Wall,
    pub(super) wall: Wall,
    pub(super) uptime: Duration,
    pub(super) status: Status,
    pub(super) domain: DomainStatus,
    pub(super) files_open: usize,
    pub(super) counters: Vec<(String, u64)>,
}

impl Report<'_> {
    /// Tables, each under its name.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "mtftpd {}  server {}  boot epoch {}\ninterface {}  address {}/{}  boot directory {}  up {}\n\
             plain transfers {}  open files {}\ndomain {}, {} records",
            env!("CARGO_PKG_VERSION"),
            self.identity.server,
            self.identity.epoch.0,
            self.interface.name,
            self.interface.address,
            self.interface.prefix_len,
            self.boot_dir.display(),
            ago(self.uptime),
            self.status.transfers,
            self.files_open,
            self.domain.standing.name(),
            self.domain.records,
        );
        let claims = self.status.claims.iter().map(claim_row).collect();
        section(&mut out, "claims", &["address", "ports", "file", "references", "state"], claims);
        let references = self
            .status
            .claims
            .iter()
            .flat_map(|claim| claim.references.iter().map(|reference| self.reference_row(claim, reference)))
            .collect();
        let head = ["address", "binld", "from", "boot epoch", "serial", "for", "renewed", "lease"];
        section(&mut out, "references", &head, references);
        let running = || {
            let claims = self.status.claims.iter();
            claims.flat_map(|claim| claim.sessions.iter().map(move |session| (claim, session)))
        };
        let head = ["address", "blocks", "multicast", "unicast", "spare", "openers", "complete", "lost"];
        section(&mut out, "sessions", &head, running().map(session_row).collect());
        let openers = running().flat_map(opener_rows).collect();
        section(&mut out, "openers", &["address", "client", "lacks", "acked", "role"], openers);
        let rests = self.status.rests.iter();
        let rests =
            rests.map(|rest| vec![rest.group.to_string(), rest.file.to_string(), self.since(rest.since)]);
        section(&mut out, "rests", &["address", "file", "for"], rests.collect());
        let members = self.domain.members.iter().map(|member| self.member_row(member)).collect();
        section(&mut out, "members", &["address", "does", "server", "heard", "loss heard"], members);
        let counters = self.counters.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
        section(&mut out, "counters", &["counter", "count"], counters.collect());
        out
    }

    fn since(&self, then: Wall) -> String {
        ago(Duration::from_millis(self.wall.0.saturating_sub(then.0)))
    }

    fn reference_row(&self, claim: &ClaimStatus, reference: &ReferenceStatus) -> Vec<String> {
        vec![
            claim.group.to_string(),
            reference.binld.to_string(),
            reference.address.to_string(),
            reference.epoch.0.to_string(),
            reference.serial.0.to_string(),
            self.since(reference.since),
            format!("{} ago", self.since(reference.renewed)),
            if reference.stale { "stale" } else { "-" }.to_owned(),
        ]
    }

    fn heard_ago(&self, member: &PeerStatus) -> Duration {
        self.uptime.saturating_sub(member.heard_at.since(Time::ZERO))
    }

    fn member_row(&self, member: &PeerStatus) -> Vec<String> {
        let silent = if member.living { "" } else { ", silent" };
        let loss = member.loss.per_mille();
        vec![
            member.control.ip().to_string(),
            role_name(member.about.role).to_owned(),
            member.server.to_string(),
            format!("{}{silent}", ago(self.heard_ago(member))),
            format!("{}.{}%", loss / 10, loss % 10),
        ]
    }

    fn member_json(&self, member: &PeerStatus) -> Value {
        json!({
            "address": member.control.ip(),
            "role": role_name(member.about.role),
            "server": member.server.to_string(),
            "heard_ago_ms": u64::try_from(self.heard_ago(member).as_millis()).unwrap_or(u64::MAX),
            "living": member.living,
            "loss_heard_per_mille": member.loss.per_mille(),
        })
    }

    /// One JSON object on one line. Instants are in milliseconds since 1970, spans in milliseconds.
    pub(super) fn json(&self) -> String {
        let rests = self.status.rests.iter().map(|rest| {
            json!({ "group": rest.group.to_string(), "file": rest.file.to_string(), "since_ms": rest.since.0 })
        });
        let counters = self.counters.iter().map(|(name, count)| (name.clone(), Value::from(*count)));
        let report = json!({
            "program": "mtftpd",
            "version": env!("CARGO_PKG_VERSION"),
            "server": self.identity.server.to_string(),
            "boot_epoch": self.identity.epoch.0,
            "interface": self.interface.name,
            "address": self.interface.address,
            "boot_dir": self.boot_dir.display().to_string(),
            "started_ms": self.started.0,
            "now_ms": self.wall.0,
            "uptime_ms": u64::try_from(self.uptime.as_millis()).unwrap_or(u64::MAX),
            "transfers": self.status.transfers,
            "files_open": self.files_open,
            "claims": self.status.claims.iter().map(|claim| self.claim_json(claim)).collect::<Vec<_>>(),
            "rests": rests.collect::<Vec<_>>(),
            "domain": self.domain.standing.name(),
            "records": self.domain.records,
            "members": self.domain.members.iter().map(|member| self.member_json(member)).collect::<Vec<_>>(),
            "counters": counters.collect::<serde_json::Map<_, _>>(),
        });
        format!("{report}\n")
    }
}

impl Report<'_> {
    fn claim_json(&self, claim: &ClaimStatus) -> Value {
        let references = claim.references.iter().map(|reference| {
            json!({
                "binld": reference.binld.to_string(),
                "address": reference.address,
                "boot_epoch": reference.epoch.0,
                "serial": reference.serial.0,
                "stamp_ms": reference.stamp.millis,
                "since_ms": reference.since.0,
                "renewed_ms": reference.renewed.0,
                "stored": reference.stored,
                "stale": reference.stale,
                // Of a fresh one only the instant, so that two outputs can be compared.
                "age_ms": reference.stale.then(|| self.wall.0.saturating_sub(reference.renewed.0)),
            })
        });
        json!({
            "group": claim.group.to_string(),
            "client_port": claim.ports.client,
            "server_port": claim.ports.server,
            "file": claim.file.to_string(),
            "state": if claim.closing { "closing" } else { "held" },
            "references": references.collect::<Vec<_>>(),
            "sessions": claim.sessions.iter().map(session_json).collect::<Vec<_>>(),
        })
    }
}

fn role_name(role: ServerRole) -> &'static str {
    match role {
        ServerRole::Binld => "binld",
        ServerRole::Mtftpd => "mtftpd",
    }
}

fn claim_row(claim: &ClaimStatus) -> Vec<String> {
    vec![
        claim.group.to_string(),
        format!("{}/{}", claim.ports.client, claim.ports.server),
        claim.file.to_string(),
        claim.references.len().to_string(),
        if claim.closing { "closing" } else { "held" }.to_owned(),
    ]
}

fn session_row((claim, session): (&ClaimStatus, &SessionStatus)) -> Vec<String> {
    let tally = session.tally;
    let counts = [
        tally.blocks,
        tally.multicast,
        tally.unicast,
        tally.spare,
        tally.openers,
        tally.complete,
        tally.lost,
    ];
    std::iter::once(claim.group.to_string()).chain(counts.map(|count| count.to_string())).collect()
}

fn opener_rows<'a>(
    (claim, session): (&'a ClaimStatus, &'a SessionStatus),
) -> impl Iterator<Item = Vec<String>> + 'a {
    session.openers.iter().map(|opener| {
        let master = session.master == Some(opener.client);
        vec![
            claim.group.to_string(),
            opener.client.to_string(),
            opener.lacks.to_string(),
            opener.acked.map_or("-".to_owned(), |acked| acked.to_string()),
            if master { "master" } else { "listener" }.to_owned(),
        ]
    })
}

fn session_json(session: &SessionStatus) -> Value {
    let tally = session.tally;
    let openers = session.openers.iter().map(
        |opener| json!({ "client": opener.client.to_string(), "lacks": opener.lacks, "acked": opener.acked }),
    );
    json!({
        "protocol": session.protocol.name(),
        "block_size": session.block_size,
        "blocks": tally.blocks,
        "multicast": tally.multicast,
        "unicast": tally.unicast,
        "spare": tally.spare,
        "openers": tally.openers,
        "complete": tally.complete,
        "lost": tally.lost,
        "master": session.master.map(|master| master.to_string()),
        "waiting": openers.collect::<Vec<_>>(),
    })
}
