//! What `binld status` shows: tables for people, or JSON.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use driver::table::{ago, section};
use driver::udp::Interface;
use driver::{Time, Wall};
use peers::domain::{Standing, Unreachable};
use peers::hello::PeerStatus;
use peers::links::Worth;
use serde_json::{Value, json};
use wire::ServerId;
use wire::hello::Loss;
use wire::hold::HoldState;
use wire::membership::Neighbour;
use wire::record::ServerRole;

use super::responding;
use crate::engine::Identity;
use crate::engine::claims::StateName;
use crate::engine::files::Knowledge;
use crate::engine::loans::LoanRecord;
use crate::engine::responding::RespondingStatus;
use crate::engine::status::{ClaimStatus, FileStatus, ReplicaStatus, Status};

/// Everything an operator may see, at one instant.
pub(super) struct Report<'a> {
    pub(super) identity: Identity,
    pub(super) interface: &'a Interface,
    pub(super) started: Wall,
    pub(super) wall: Wall,
    pub(super) uptime: Duration,
    pub(super) status: Status,
    pub(super) responding: RespondingStatus,
    pub(super) counters: Vec<(String, u64)>,
}

impl Report<'_> {
    /// Tables, each under its name.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "binld {}  server {}  boot epoch {}\ninterface {}  address {}/{}  up {}  clients waiting {}  queries {}\ndomain {}, {} records, lowest id {}, about {:.0} members\n{}\nlist of boot servers {}",
            env!("CARGO_PKG_VERSION"),
            self.identity.server,
            self.identity.boot_epoch.0,
            self.interface.name,
            self.interface.address,
            self.interface.prefix_len,
            ago(self.uptime),
            self.status.clients_waiting,
            self.status.queries,
            self.standing(),
            self.status.records,
            self.status.lowest.lowest,
            self.size(),
            responding::line(&self.responding, self.interface.address),
            self.roll(),
        );
        let claims = self.status.claims.iter().map(|claim| self.claim_row(claim)).collect();
        let head = [
            "address",
            "ports",
            "state",
            "for",
            "content",
            "item",
            "pool",
            "acked",
            "told",
            "refusals",
            "contested by",
        ];
        section(&mut out, "claims", &head, claims);
        let files = self.status.files.iter().map(file_row).collect();
        section(&mut out, "files", &["server", "file", "known", "usable", "server answers"], files);
        let marks =
            self.status.marks.iter().map(|(group, left)| vec![group.to_string(), ago(*left)]).collect();
        section(&mut out, "marks", &["address", "ends in"], marks);
        let rests = self.status.rests.iter();
        let rests =
            rests.map(|(group, content, left)| vec![group.to_string(), content.to_string(), ago(*left)]);
        section(&mut out, "rests", &["address", "content", "ends in"], rests.collect());
        let head = ["address", "server", "heard", "loss heard", "loss told", "deaf"];
        for (title, role) in [("boot servers", ServerRole::Binld), ("file servers", ServerRole::Mtftpd)] {
            let peers = self.peers_that_are(role).map(|peer| self.peer_row(peer)).collect();
            section(&mut out, title, &head, peers);
        }
        let head = ["address", "server", "shares", "weight", "works", "delay"];
        let responders = responding::rows(&self.responding, self.interface.address);
        section(&mut out, "responders of this link", &head, responders);
        let neighbours = self.status.shape.neighbours.iter().map(neighbour_row).collect();
        let head = ["address", "server", "utility", "useful", "useless", "lazy"];
        section(&mut out, &self.neighbours_title(), &head, neighbours);
        let gone = self.status.unreachable.iter().map(|it| self.unreachable_row(it)).collect();
        section(&mut out, "unreachable members", &["address", "server", "silent for"], gone);
        let members = self.roll_rows();
        section(&mut out, "list of boot servers", &["server", "heard"], members);
        let loans = self.status.loans.iter().map(|loan| self.loan_row(loan)).collect();
        section(&mut out, "loans", &["address", "borrower", "content", "for"], loans);
        let legacy = self.status.legacy_peers.iter().map(|peer| vec![peer.to_string()]).collect();
        let replicas = self.status.replicas.iter().map(replica_row).collect();
        let head = ["address", "owner", "content", "state", "handed out", "refreshed"];
        section(&mut out, "claims of others", &head, replicas);
        section(&mut out, "legacy peers", &["address"], legacy);
        let counters = self.counters.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
        section(&mut out, "counters", &["counter", "count"], counters.collect());
        out
    }

    fn claim_row(&self, claim: &ClaimStatus) -> Vec<String> {
        let since = Duration::from_millis(self.wall.0.saturating_sub(claim.since.0));
        vec![
            claim.group.map_or("-".to_owned(), |group| group.to_string()),
            claim.ports.map_or("-".to_owned(), |ports| format!("{}/{}", ports.client, ports.server)),
            state_name(claim.state).to_owned(),
            ago(since),
            claim.content.to_string(),
            claim.item.clone(),
            if claim.pinned { "pinned" } else { "dynamic" }.to_owned(),
            claim.acked_ago.map_or("-".to_owned(), ago),
            claim.told_ago.map_or("-".to_owned(), ago),
            claim.refusals.to_string(),
            contested(&claim.contested_by),
        ]
    }

    /// The servers that say hello and do that.
    fn peers_that_are(&self, role: ServerRole) -> impl Iterator<Item = &PeerStatus> {
        self.status.peers.iter().filter(move |peer| peer.about.role == role)
    }

    fn peers_json(&self, role: ServerRole) -> Vec<Value> {
        self.peers_that_are(role).map(|peer| self.peer_json(peer)).collect()
    }

    fn peer_row(&self, peer: &PeerStatus) -> Vec<String> {
        let heard = self.heard_ago(peer);
        let percent = |loss: Loss| format!("{}.{} %", loss.per_mille() / 10, loss.per_mille() % 10);
        vec![
            peer.control.ip().to_string(),
            peer.server.to_string(),
            format!("{}{}", ago(heard), if peer.living { "" } else { ", silent" }),
            percent(peer.loss),
            percent(peer.tells),
            if peer.deaf { "yes" } else { "no" }.to_owned(),
        ]
    }

    fn heard_ago(&self, peer: &PeerStatus) -> Duration {
        self.ago(peer.heard_at)
    }

    fn peer_json(&self, peer: &PeerStatus) -> Value {
        json!({
            "address": peer.control.ip(),
            "server": peer.server.to_string(),
            "heard_ago_ms": millis(self.heard_ago(peer)),
            "living": peer.living,
            "loss_heard_per_mille": peer.loss.per_mille(),
            "loss_told_per_mille": peer.tells.per_mille(),
            "deaf": peer.deaf,
        })
    }

    /// The state, and of a partition since when.
    fn standing(&self) -> String {
        let name = self.status.standing.name();
        match self.status.standing {
            Standing::Partitioned { members, since } => {
                format!("{name} ({members} unreachable, since {} ago)", ago(self.ago(since)))
            }
            Standing::Joining | Standing::Joined | Standing::Comparing | Standing::Alone => name.to_owned(),
        }
    }

    fn neighbours_title(&self) -> String {
        let shape = &self.status.shape;
        format!("neighbours beyond the link (diameter {}, {} hops from here)", shape.diameter, shape.hops)
    }

    /// What was guessed, unless somebody lies about the lowest id: no domain has more members.
    fn size(&self) -> f64 {
        self.status.size_estimate.min(1e6).round()
    }

    /// The list of boot servers, in a line.
    fn roll(&self) -> String {
        let roll = &self.status.roll;
        let version = if roll.version == 0 {
            "not agreed upon yet".to_owned()
        } else {
            format!("version {}, {} members", roll.version, roll.members.len())
        };
        let pending = match roll.pending.last() {
            Some(pending) if roll.silent.is_empty() => format!(", version {pending} pending"),
            Some(pending) => format!(", version {pending} pending: not all members are heard"),
            None => String::new(),
        };
        format!("{version}{pending}{}", if roll.leaves { ", leaving for good" } else { "" })
    }

    fn roll_rows(&self) -> Vec<Vec<String>> {
        let roll = &self.status.roll;
        let all: BTreeSet<&ServerId> = roll.members.iter().chain(&roll.silent).collect();
        let heard = |server: &ServerId| if roll.silent.contains(server) { "no" } else { "yes" }.to_owned();
        all.into_iter().map(|server| vec![server.to_string(), heard(server)]).collect()
    }

    fn roll_json(&self) -> Value {
        let roll = &self.status.roll;
        let names = |servers: &[ServerId]| servers.iter().map(ServerId::to_string).collect::<Vec<_>>();
        json!({
            "version": roll.version,
            "members": names(&roll.members),
            "pending": roll.pending,
            "silent": names(&roll.silent),
            "leaving": roll.leaves,
        })
    }

    fn loan_row(&self, loan: &LoanRecord) -> Vec<String> {
        let since = Duration::from_millis(self.wall.0.saturating_sub(loan.since.0));
        vec![loan.group.to_string(), loan.borrower.to_string(), loan.content.to_string(), ago(since)]
    }

    fn ago(&self, at: Time) -> Duration {
        self.uptime.saturating_sub(at.since(Time::ZERO))
    }

    fn unreachable_row(&self, gone: &Unreachable) -> Vec<String> {
        vec![gone.control.ip().to_string(), gone.server.to_string(), ago(self.ago(gone.since))]
    }

    fn unreachable_json(&self, gone: &Unreachable) -> Value {
        json!({
            "address": gone.control.ip(),
            "server": gone.server.to_string(),
            "since_ms": self.instant(gone.since),
        })
    }

    /// As the wall clock would have shown it.
    fn instant(&self, at: Time) -> u64 {
        self.wall.0.saturating_sub(millis(self.ago(at)))
    }

    fn replica_json(replica: &ReplicaStatus) -> Value {
        json!({
            "address": replica.group.to_string(),
            "owner": replica.owner.to_string(),
            "content": replica.content.to_string(),
            "state": hold_name(replica.state),
            "handed_out": replica.configured,
            "refreshed_ago_ms": millis(replica.refreshed_ago),
        })
    }

    /// One JSON object on one line. Spans are in milliseconds, instants in milliseconds since 1970.
    pub(super) fn json(&self) -> String {
        let rests = self.status.rests.iter().map(|(group, content, left)| {
            json!({ "group": group.to_string(), "server": content.server, "file": content.file.to_string(),
                "ends_in_ms": millis(*left) })
        });
        let marks = self
            .status
            .marks
            .iter()
            .map(|(group, left)| json!({ "group": group.to_string(), "ends_in_ms": millis(*left) }));
        let counters = self.counters.iter().map(|(name, count)| (name.clone(), Value::from(*count)));
        let report = json!({
            "program": "binld",
            "version": env!("CARGO_PKG_VERSION"),
            "server": self.identity.server.to_string(),
            "boot_epoch": self.identity.boot_epoch.0,
            "interface": self.interface.name,
            "address": self.interface.address,
            "started_ms": self.started.0,
            "now_ms": self.wall.0,
            "uptime_ms": millis(self.uptime),
            "clients_waiting": self.status.clients_waiting,
            "queries": self.status.queries,
            "boot_servers": self.peers_json(ServerRole::Binld),
            "file_servers": self.peers_json(ServerRole::Mtftpd),
            "domain": self.status.standing.name(),
            "unreachable": self.status.unreachable.iter().map(|it| self.unreachable_json(it)).collect::<Vec<_>>(),
            "unreachable_since_ms": self.status.unreachable.iter().map(|it| self.instant(it.since)).min(),
            "lowest": self.status.lowest.lowest.to_string(),
            "lowest_since_ms": self.instant(self.status.lowest.since),
            "size_estimate": self.size(),
            "neighbours": self.status.shape.neighbours.iter().map(neighbour_json).collect::<Vec<_>>(),
            "hops": self.status.shape.hops,
            "diameter": self.status.shape.diameter,
            "not_connected": self.status.shape.apart,
            "records": self.status.records,
            "claims_of_others": self.status.replicas.iter().map(Self::replica_json).collect::<Vec<_>>(),
            "responders": responding::json(&self.responding, self.interface.address),
            "boot_server_list": self.roll_json(),
            "loans": self.status.loans.iter().map(loan_json).collect::<Vec<_>>(),
            "legacy_peers": self.status.legacy_peers,
            "claims": self.status.claims.iter().map(claim_json).collect::<Vec<_>>(),
            "files": self.status.files.iter().map(file_json).collect::<Vec<_>>(),
            "marks": marks.collect::<Vec<_>>(),
            "rests": rests.collect::<Vec<_>>(),
            "counters": counters.collect::<serde_json::Map<_, _>>(),
        });
        format!("{report}\n")
    }
}

fn loan_json(loan: &LoanRecord) -> Value {
    json!({
        "group": loan.group.to_string(),
        "borrower": loan.borrower.to_string(),
        "server": loan.content.server,
        "file": loan.content.file.to_string(),
        "since_ms": loan.since.0,
    })
}

fn claim_json(claim: &ClaimStatus) -> Value {
    json!({
        "group": claim.group.map(|group| group.to_string()),
        "client_port": claim.ports.map(|ports| ports.client),
        "server_port": claim.ports.map(|ports| ports.server),
        "state": state_name(claim.state),
        "since_ms": claim.since.0,
        "stamp_ms": claim.stamp.map(|stamp| stamp.millis),
        "server": claim.content.server,
        "file": claim.content.file.to_string(),
        "item": claim.item,
        "pinned": claim.pinned,
        "acked_ago_ms": claim.acked_ago.map(millis),
        "told_ago_ms": claim.told_ago.map(millis),
        "refusals": claim.refusals,
        "contested_by": claim.contested_by.iter().map(|(by, _)| *by).collect::<Vec<_>>(),
        "disputed": claim.contested_by.iter().any(|(_, blocks)| *blocks),
    })
}

fn contested(by: &[(Ipv4Addr, bool)]) -> String {
    let said = |(by, blocks): &(Ipv4Addr, bool)| {
        if *blocks { format!("{by} (not handed out)") } else { by.to_string() }
    };
    if by.is_empty() { "-".to_owned() } else { by.iter().map(said).collect::<Vec<_>>().join(", ") }
}

fn file_json(file: &FileStatus) -> Value {
    let (known, size) = knowledge(file.known);
    json!({
        "server": file.content.server,
        "file": file.content.file.to_string(),
        "known": known,
        "multicast_max": file.multicast_max,
        "size": size,
        "usable": file.usable,
        "server_silent": file.server_silent,
    })
}

fn file_row(file: &FileStatus) -> Vec<String> {
    let known = match knowledge(file.known) {
        (known, Some(size)) if file.multicast_max.is_some() => {
            format!("{known}, {size} bytes, too large to be multicast")
        }
        (known, Some(size)) => format!("{known}, {size} bytes"),
        (known, None) => known.to_owned(),
    };
    let yes = |fact: bool| if fact { "yes" } else { "no" }.to_owned();
    let server = file.content.server.to_string();
    vec![server, file.content.file.to_string(), known, yes(file.usable), yes(!file.server_silent)]
}

fn knowledge(known: Knowledge) -> (&'static str, Option<u64>) {
    match known {
        Knowledge::Unknown => ("unknown", None),
        Knowledge::Acknowledged { size, .. } => ("acknowledged", Some(size)),
        Knowledge::Refused => ("no such file", None),
    }
}

fn replica_row(replica: &ReplicaStatus) -> Vec<String> {
    vec![
        replica.group.to_string(),
        replica.owner.to_string(),
        replica.content.to_string(),
        hold_name(replica.state).to_owned(),
        if replica.configured { "yes" } else { "no" }.to_owned(),
        ago(replica.refreshed_ago),
    ]
}

fn hold_name(state: HoldState) -> &'static str {
    match state {
        HoldState::Committed => "committed",
        HoldState::Draining => "draining",
        HoldState::Resting => "resting",
    }
}

fn state_name(state: StateName) -> &'static str {
    match state {
        StateName::Waiting => "waiting",
        StateName::Clearing => "clearing",
        StateName::Recording => "recording",
        StateName::Configuring => "configuring",
        StateName::Held => "held",
        StateName::Draining => "draining",
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn neighbour_row((it, worth): &(Neighbour, Worth)) -> Vec<String> {
    vec![
        it.control.ip().to_string(),
        it.server.to_string(),
        worth.utility.to_string(),
        worth.useful.to_string(),
        worth.useless.to_string(),
        if worth.is_lazy { "yes" } else { "no" }.to_owned(),
    ]
}

fn neighbour_json((it, worth): &(Neighbour, Worth)) -> Value {
    json!({
        "address": it.control.ip(),
        "server": it.server.to_string(),
        "utility": worth.utility,
        "useful": worth.useful,
        "useless": worth.useless,
        "lazy": worth.is_lazy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::slices::RollStatus;
    use peers::domain::Shape;
    use peers::hello::About;
    use peers::lowest::Heard;
    use std::net::SocketAddrV4;
    use wire::configure::Ports;
    use wire::{BootEpoch, Content, DomainId, FileName, GroupAddr, ServerId, Stamp};

    fn gone(since: Time) -> Unreachable {
        let control = SocketAddrV4::new([10, 0, 0, 6].into(), 4016);
        Unreachable { server: ServerId([6; 16]), control, since }
    }

    fn peers() -> Vec<PeerStatus> {
        let peer = PeerStatus {
            server: ServerId([7; 16]),
            control: SocketAddrV4::new([10, 0, 0, 7].into(), 4016),
            heard_at: Time::ZERO + Duration::from_secs(3695),
            living: false,
            loss: Loss::new(123).unwrap(),
            tells: Loss::NONE,
            deaf: true,
            about: About {
                role: ServerRole::Binld,
                domain: DomainId([5; 16]),
                lowest: ServerId([1; 16]),
                digest: 1,
            },
        };
        let file_server = PeerStatus {
            server: ServerId([9; 16]),
            about: About { role: ServerRole::Mtftpd, ..peer.about },
            ..peer
        };
        vec![peer, file_server]
    }

    fn known_file(content: &Content) -> FileStatus {
        FileStatus {
            content: content.clone(),
            usable: true,
            known: Knowledge::Acknowledged { at: Time::ZERO, size: 5 },
            multicast_max: None,
            server_silent: false,
        }
    }

    fn shape() -> Shape {
        let control = SocketAddrV4::new([10, 9, 0, 1].into(), 4016);
        let worth = Worth { utility: 512, useful: 3, useless: 40, is_lazy: true, judged: 0 };
        let neighbours = vec![(Neighbour { server: ServerId([0xc3; 16]), control }, worth)];
        Shape { neighbours, hops: 3, diameter: 4, apart: 1 }
    }

    fn report(interface: &Interface) -> Report<'_> {
        let content = Content { server: [10, 0, 0, 9].into(), file: FileName::new(b"big \x1b[2J").unwrap() };
        let group: GroupAddr = "239.255.1.1".parse().unwrap();
        let claim = ClaimStatus {
            content: content.clone(),
            pinned: true,
            item: "debian".to_owned(),
            group: Some(group),
            ports: Some(Ports { client: 3001, server: 1759 }),
            state: StateName::Held,
            since: Wall(940_000),
            stamp: Some(Stamp { millis: 77, sender: ServerId([1; 16]) }),
            acked_ago: Some(Duration::from_secs(3)),
            told_ago: None,
            refusals: 2,
            contested_by: vec![([10, 0, 0, 7].into(), true)],
        };
        let waiting = ClaimStatus { group: None, ports: None, state: StateName::Waiting, ..claim.clone() };
        let replica = ReplicaStatus {
            owner: ServerId([7; 16]),
            group,
            content: content.clone(),
            state: HoldState::Committed,
            configured: true,
            refreshed_ago: Duration::from_secs(20),
        };
        let silent_since = Time::ZERO + Duration::from_secs(3640);
        let status = Status {
            peers: peers(),
            standing: Standing::Partitioned { members: 1, since: silent_since },
            unreachable: vec![gone(silent_since)],
            lowest: Heard { lowest: ServerId([1; 16]), version: 7, since: Time::ZERO },
            size_estimate: 3.4,
            shape: shape(),
            records: 3,
            replicas: vec![replica],
            roll: RollStatus {
                version: 4,
                members: vec![ServerId([1; 16]), ServerId([7; 16])],
                pending: vec![5],
                silent: vec![ServerId([7; 16])],
                leaves: false,
            },
            loans: vec![LoanRecord {
                group,
                borrower: ServerId([7; 16]),
                content: content.clone(),
                since: Wall(970_000),
            }],
            legacy_peers: vec![[10, 0, 0, 8].into()],
            queries: 6,
            claims: vec![claim, waiting],
            files: vec![known_file(&content)],
            marks: vec![(group, Duration::from_secs(5))],
            rests: vec![(group, content, Duration::from_secs(300))],
            clients_waiting: 4,
        };
        Report {
            identity: Identity { server: ServerId([1; 16]), boot_epoch: BootEpoch(6) },
            interface,
            started: Wall(1),
            wall: Wall(1_000_000),
            uptime: Duration::from_secs(3700),
            status,
            responding: RespondingStatus { servers: Vec::new(), answered: 99, drained: true },
            counters: vec![("query.sent".to_owned(), 12), ("udp.query.sent".to_owned(), 13)],
        }
    }

    fn eth0() -> Interface {
        Interface { name: "eth0".to_owned(), index: 2, address: [10, 0, 0, 2].into(), prefix_len: 24 }
    }

    #[test]
    fn people_see_every_part_and_no_bytes_of_others() {
        let interface = eth0();
        let text = report(&interface).text();
        for part in [
            "boot epoch 6",
            "10.0.0.2/24",
            "up 1h 01m",
            "clients waiting 4",
            "queries 6",
            "10.0.0.7 (not handed out)",
            "boot servers: 1",
            "file servers: 1",
            "claims of others: 1",
            "domain partitioned (1 unreachable, since 1m 00s ago), 3 records",
            "lowest id 01010101010101010101010101010101, about 3 members",
            "unreachable members: 1",
            "list of boot servers version 4, 2 members, version 5 pending: not all members are heard",
            "list of boot servers: 2",
            "answers 0 of 128 shares of the clients, drained; 99 have a responder that works",
            "responders of this link: 0",
            "loans: 1",
            "30s",
            "10.0.0.6",
            "5s, silent",
            "12.3 %",
            "legacy peers: 1",
            "claims: 2",
            "239.255.1.1",
            "3001/1759",
            "held",
            "1m 00s",
            "debian",
            "pinned",
            "files: 1",
            "acknowledged, 5 bytes",
            "marks: 1",
            "rests: 1",
            "5m 00s",
            "query.sent",
            "12",
            "udp.query.sent",
            "13",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.contains("big \\x1b[2J") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn programs_get_one_line_of_json() {
        let interface = eth0();
        let text = report(&interface).json();
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["claims"][0]["state"], "held");
        assert_eq!(value["claims"][0]["acked_ago_ms"], 3000);
        assert_eq!(value["claims"][0]["disputed"], true);
        assert_eq!(value["boot_servers"].as_array().map(Vec::len), Some(1));
        assert_eq!(value["file_servers"][0]["server"], "09".repeat(16));
        assert_eq!(value["boot_servers"][0]["loss_heard_per_mille"], 123);
        assert_eq!(value["legacy_peers"][0], "10.0.0.8");
        assert_eq!(value["domain"], "partitioned");
        assert_eq!(value["unreachable"][0]["address"], "10.0.0.6");
        assert_eq!(value["unreachable"][0]["server"], "06".repeat(16));
        assert_eq!(value["unreachable"][0]["since_ms"], 940_000);
        assert_eq!(value["unreachable_since_ms"], 940_000);
        assert_eq!(value["lowest"], "01".repeat(16));
        assert_eq!(value["size_estimate"], 3.0);
        let neighbour = json!({ "address": "10.9.0.1", "server": "c3".repeat(16), "utility": 512, "useful": 3, "useless": 40, "lazy": true });
        assert_eq!(value["neighbours"], json!([neighbour]));
        assert_eq!([&value["hops"], &value["diameter"], &value["not_connected"]], [3, 4, 1]);
        assert_eq!(value["claims"][1]["group"], Value::Null);
        assert_eq!(value["files"][0]["size"], 5);
        assert_eq!(value["marks"][0]["ends_in_ms"], 5000);
        assert_eq!(value["counters"]["udp.query.sent"], 13);
        assert_eq!((&value["address"], &value["uptime_ms"]), (&json!("10.0.0.2"), &json!(3_700_000)));
    }

    #[test]
    fn spans_are_short() {
        let cases =
            [(0, "0s"), (59, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (3600, "1h 00m"), (90_000, "1d 01h")];
        for (seconds, text) in cases {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }
}
