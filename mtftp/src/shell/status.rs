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

use crate::engine::{
    ClaimStatus, DomainStatus, FallBack, Identity, Querier, ReferenceStatus, SessionStatus, Status,
    TransferStatus,
};

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
             plain transfers {}  open files {}  fall-backs {}  querier {}\ndomain {}, {} records",
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
            self.status.fall_backs.total,
            self.querier(),
            self.domain.standing.name(),
            self.domain.records,
        );
        self.live(&mut out);
        let references = self
            .status
            .claims
            .iter()
            .flat_map(|claim| claim.references.iter().map(|reference| self.reference_row(claim, reference)))
            .collect();
        let head = ["address", "binld", "from", "boot epoch", "serial", "for", "renewed", "lease"];
        section(&mut out, "references", &head, references);
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

    /// What changes while clients load: first, so that a screen that is watched holds it.
    fn live(&self, out: &mut String) {
        let claims = self.status.claims.iter().map(claim_row).collect();
        let head = ["address", "ports", "file", "references", "expected", "state"];
        section(out, "claims", &head, claims);
        let running = || {
            let claims = self.status.claims.iter();
            claims.flat_map(|claim| claim.sessions.iter().map(move |session| (claim, session)))
        };
        let head =
            ["address", "file", "protocol", "pass", "block", "rate", "master", "known", "joined", "expected"];
        section(out, "sessions", &head, running().map(|both| self.session_row(both)).collect());
        let head = ["address", "protocol", "multicast", "unicast", "spare", "complete", "lost", "slow"];
        section(out, "packets", &head, running().map(packets_row).collect());
        let fall_backs = self.status.fall_backs.recent.iter().map(|one| self.fall_back_row(one)).collect();
        let head = ["client", "MAC", "address", "file", "ago", "likely cause"];
        section(out, "fall-backs", &head, fall_backs);
        let transfers = self.status.plain.iter().map(transfer_row).collect();
        section(out, "plain transfers", &["client", "file", "block"], transfers);
        let openers = running().flat_map(opener_rows).collect();
        section(out, "openers", &["address", "client", "lacks", "acked", "role"], openers);
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

    fn now(&self) -> Time {
        Time::ZERO + self.uptime
    }

    fn querier(&self) -> String {
        match self.status.querier {
            Querier::NotKnown => "not known: mtftpd may not listen (CAP_NET_RAW)".to_owned(),
            Querier::NotHeard => "none heard".to_owned(),
            Querier::Heard { from, at } => format!("{from}, heard {} ago", ago(self.now().since(at))),
        }
    }

    fn querier_json(&self) -> Value {
        let (state, from, at) = match self.status.querier {
            Querier::NotKnown => ("not_known", None, None),
            Querier::NotHeard => ("none_heard", None, None),
            Querier::Heard { from, at } => ("heard", Some(from), Some(millis(self.now().since(at)))),
        };
        json!({ "state": state, "address": from, "heard_ago_ms": at })
    }

    fn fall_back_row(&self, one: &FallBack) -> Vec<String> {
        vec![
            one.client.to_string(),
            one.mac.to_string(),
            one.group.to_string(),
            one.file.to_string(),
            ago(self.now().since(one.at)),
            one.cause.to_string(),
        ]
    }

    fn fall_back_json(&self, one: &FallBack) -> Value {
        json!({
            "ago_ms": millis(self.now().since(one.at)),
            "client": one.client,
            "mac": one.mac.to_string(),
            "group": one.group.to_string(),
            "file": one.file.to_string(),
            "cause": one.cause.name(),
            "likely": one.cause.to_string(),
        })
    }

    /// The block that went out last, or what is waited for before the first.
    fn block(&self, session: &SessionStatus) -> String {
        match session.start {
            Some(start) => {
                let left = start.at.since(self.now());
                format!(
                    "0/{}, waits for {} clients, {} at most",
                    session.tally.blocks,
                    start.clients,
                    ago(left)
                )
            }
            None => format!("{}/{}", session.block, session.tally.blocks),
        }
    }

    fn session_row(&self, (claim, session): (&ClaimStatus, &SessionStatus)) -> Vec<String> {
        vec![
            claim.group.to_string(),
            claim.file.to_string(),
            session.protocol.name().to_owned(),
            session.pass.to_string(),
            self.block(session),
            rate(session.speed.bytes_per_second(self.now())),
            session.master.map_or("-".to_owned(), |master| master.to_string()),
            session.openers.len().to_string(),
            session.tally.openers.to_string(),
            claim.expected.to_string(),
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
            "heard_ago_ms": millis(self.heard_ago(member)),
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
            "uptime_ms": millis(self.uptime),
            "transfers": self.status.transfers,
            "plain": self.status.plain.iter().map(transfer_json).collect::<Vec<_>>(),
            "fall_backs": {
                "total": self.status.fall_backs.total,
                "recent": self.status.fall_backs.recent.iter().map(|one| self.fall_back_json(one)).collect::<Vec<_>>(),
            },
            "querier": self.querier_json(),
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
            "expected": claim.expected,
            "sessions": claim.sessions.iter().map(|session| self.session_json(claim, session)).collect::<Vec<_>>(),
        })
    }

    fn session_json(&self, claim: &ClaimStatus, session: &SessionStatus) -> Value {
        let tally = session.tally;
        let openers = session.openers.iter().map(|opener| {
            json!({
                "client": opener.client.to_string(),
                "lacks": opener.lacks,
                "acked": opener.acked,
                "role": opener.role.name(),
            })
        });
        json!({
            "protocol": session.protocol.name(),
            "file": claim.file.to_string(),
            "block_size": session.block_size,
            "pass": session.pass,
            "block": session.block,
            "blocks": tally.blocks,
            "bytes_per_second": session.speed.bytes_per_second(self.now()),
            "multicast": tally.multicast,
            "unicast": tally.unicast,
            "spare": tally.spare,
            "awaits": session.start.map(|start| start.clients),
            "starts_in_ms": session.start.map(|start| millis(start.at.since(self.now()))),
            "known": session.openers.len(),
            "joined": tally.openers,
            "expected": claim.expected,
            "openers": tally.openers,
            "complete": tally.complete,
            "lost": tally.lost,
            "slow": tally.slow,
            "master": session.master.map(|master| master.to_string()),
            "waiting": openers.collect::<Vec<_>>(),
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
        claim.expected.to_string(),
        if claim.closing { "closing" } else { "held" }.to_owned(),
    ]
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// For people: in the unit that leaves few digits.
fn rate(bytes_per_second: u64) -> String {
    match bytes_per_second {
        0..10_000 => format!("{bytes_per_second} B/s"),
        10_000..10_000_000 => format!("{} kB/s", bytes_per_second / 1_000),
        _ => format!("{} MB/s", bytes_per_second / 1_000_000),
    }
}

fn transfer_row(transfer: &TransferStatus) -> Vec<String> {
    let block = format!("{}/{}", transfer.block, transfer.blocks);
    vec![transfer.client.to_string(), transfer.file.to_string(), block]
}

fn transfer_json(transfer: &TransferStatus) -> Value {
    json!({
        "client": transfer.client.to_string(),
        "file": transfer.file.to_string(),
        "block": transfer.block,
        "blocks": transfer.blocks,
    })
}

fn packets_row((claim, session): (&ClaimStatus, &SessionStatus)) -> Vec<String> {
    let tally = session.tally;
    let counts = [tally.multicast, tally.unicast, tally.spare, tally.complete, tally.lost, tally.slow];
    let names = [claim.group.to_string(), session.protocol.name().to_owned()];
    names.into_iter().chain(counts.map(|count| count.to_string())).collect()
}

fn opener_rows<'a>(
    (claim, session): (&'a ClaimStatus, &'a SessionStatus),
) -> impl Iterator<Item = Vec<String>> + 'a {
    session.openers.iter().map(|opener| {
        vec![
            claim.group.to_string(),
            opener.client.to_string(),
            opener.lacks.to_string(),
            opener.acked.map_or("-".to_owned(), |acked| acked.to_string()),
            opener.role.name().to_owned(),
        ]
    })
}
