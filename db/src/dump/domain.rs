//! The claims of the whole domain, and who is responsible for each: ours as they are, the others' as they were told last.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use db::{ClaimRow, Header, Kind, MemberRow, ReplicaRow, Rows};
use serde_json::{Value, json};
use wire::hold::HoldState;
use wire::{Content, GroupAddr, ServerId, Stamp};

use super::{Tabular, committed, ports, server, stamp_json};
use crate::iso::iso;

/// A claim, whoever's.
pub(super) struct Entry<'a> {
    group: GroupAddr,
    content: &'a Content,
    server_port: u16,
    client_port: u16,
    pinned: bool,
    state: &'static str,
    owner: ServerId,
    stamp: Stamp,
    since_ms: u64,
    /// Of another server's.
    told: Option<&'a ReplicaRow>,
    responsible: Responsible,
    address: Option<Ipv4Addr>,
}

/// Whether the owner of a claim is there to answer for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Responsible {
    ThisServer,
    Owner,
    /// It has vanished without leaving: cut off, or dead.
    Unreachable(u64),
    /// It left, or nobody tells of it any more; its claim ends with its record, unless it comes back.
    Gone,
}

impl Responsible {
    fn of(member: Option<&MemberRow>) -> Self {
        match member.map(|member| member.unreachable_ms) {
            Some(None) => Self::Owner,
            Some(Some(since_ms)) => Self::Unreachable(since_ms),
            None => Self::Gone,
        }
    }

    fn text(self) -> String {
        match self {
            Self::ThisServer => "this server".to_owned(),
            Self::Owner => "owner".to_owned(),
            Self::Unreachable(since_ms) => format!("owner, unreachable since {}", iso(since_ms)),
            Self::Gone => "owner, gone".to_owned(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::ThisServer | Self::Owner => "owner",
            Self::Unreachable(_) => "unreachable owner",
            Self::Gone => "gone owner",
        }
    }

    const fn since_ms(self) -> Option<u64> {
        match self {
            Self::Unreachable(since_ms) => Some(since_ms),
            Self::ThisServer | Self::Owner | Self::Gone => None,
        }
    }
}

impl Entry<'_> {
    pub(super) fn is_anothers(&self) -> bool {
        self.told.is_some()
    }
}

/// All claims that somebody has promised to others, in order of address and owner.
pub(super) fn entries<'a>(header: &Header, rows: &'a Rows) -> impl Iterator<Item = Entry<'a>> {
    let members: BTreeMap<ServerId, &MemberRow> = rows.members.iter().map(|row| (row.server, row)).collect();
    let own = rows.claims.iter().filter(|row| header.server == Some(row.owner) && row.state.is_committed());
    let mut all: Vec<Entry<'a>> = own.map(own_entry).collect();
    all.extend(rows.replicas.iter().map(|row| told_entry(row, members.get(&row.owner).copied())));
    all.sort_by_key(|entry| (entry.group, entry.owner, entry.told.map(|row| row.number)));
    all.into_iter()
}

fn own_entry(row: &ClaimRow) -> Entry<'_> {
    Entry {
        group: row.group,
        content: &row.content,
        server_port: row.server_port,
        client_port: row.client_port,
        pinned: row.pinned,
        state: row.state.name(),
        owner: row.owner,
        stamp: row.stamp,
        since_ms: row.since_ms,
        told: None,
        responsible: Responsible::ThisServer,
        address: None,
    }
}

fn told_entry<'a>(row: &'a ReplicaRow, owner: Option<&MemberRow>) -> Entry<'a> {
    let claim = &row.claim;
    Entry {
        group: claim.group,
        content: &claim.content,
        server_port: claim.ports.server,
        client_port: claim.ports.client,
        pinned: claim.pinned,
        state: match claim.state {
            HoldState::Committed if claim.configured => "held",
            HoldState::Committed => "committed",
            HoldState::Draining => "draining",
            HoldState::Resting => "resting",
        },
        owner: row.owner,
        stamp: claim.stamp,
        since_ms: row.changed_ms,
        told: Some(row),
        responsible: Responsible::of(owner),
        address: owner.map(|owner| *owner.control.ip()),
    }
}

pub(super) fn text(out: &mut impl Write, header: &Header, rows: &Rows) -> io::Result<()> {
    let mut table = Tabular::new(&[
        "ADDRESS",
        "FILE",
        "MTFTP SERVER",
        "STATE",
        "SINCE",
        "OWNER",
        "OWNER ADDRESS",
        "RESPONSIBLE",
        "SERVER→CLIENT PORT",
        "KIND",
        "COMMITTED",
    ]);
    let (mut count, mut told) = (0, 0);
    for entry in entries(header, rows) {
        count += 1;
        told += usize::from(entry.is_anothers());
        table.row(vec![
            entry.group.to_string(),
            entry.content.file.to_string(),
            entry.content.server.to_string(),
            entry.state.to_owned(),
            iso(entry.since_ms),
            server(header, entry.owner),
            entry.address.map_or("-".to_owned(), |address| address.to_string()),
            entry.responsible.text(),
            ports(entry.server_port, entry.client_port),
            if entry.pinned { "pinned" } else { "dynamic" }.to_owned(),
            committed(entry.stamp, Some(entry.owner)),
        ]);
    }
    let known = known_ms(header, rows);
    let known =
        if told == 0 { String::new() } else { format!(", of others {told}, as known at {}", iso(known)) };
    table.print(out, &format!("claims of the domain: {count}{known}"))?;
    members(out, &rows.members)
}

/// The last instant at which what is noted of the others was true for sure: the daemon lived, or wrote one of them. While
/// it runs they are true now.
fn known_ms(header: &Header, rows: &Rows) -> u64 {
    let written = rows.replicas.iter().map(|row| row.changed_ms).max().unwrap_or(0);
    header.last_alive_ms.max(written)
}

fn members(out: &mut impl Write, rows: &[MemberRow]) -> io::Result<()> {
    let mut table = Tabular::new(&["SERVER ID", "DAEMON", "ADDRESS", "UNREACHABLE SINCE"]);
    for row in rows {
        table.row(vec![
            row.server.to_string(),
            row.kind.map_or("-", Kind::name).to_owned(),
            row.control.ip().to_string(),
            row.unreachable_ms.map_or("-".to_owned(), iso),
        ]);
    }
    table.print(out, &format!("other members of the domain: {}", rows.len()))
}

/// A claim of another server.
pub(super) fn json(entry: &Entry<'_>) -> Value {
    json!({
        "record": "replica",
        "address": entry.group.to_string(),
        "file": entry.content.file.to_string(),
        "mtftp_server": entry.content.server.to_string(),
        "state": entry.state,
        "owner": entry.owner.to_string(),
        "owner_address": entry.address.map(|address| address.to_string()),
        "responsible": entry.responsible.name(),
        "unreachable_since_ms": entry.responsible.since_ms(),
        "unreachable_since_at": entry.responsible.since_ms().map(iso),
        "server_type": entry.told.map(|row| row.claim.boot_item.server_type.0),
        "layer": entry.told.map(|row| row.claim.boot_item.layer.0),
        "server_port": entry.server_port,
        "client_port": entry.client_port,
        "pinned": entry.pinned,
        "stamp": stamp_json(entry.stamp),
        "first_ms": entry.told.map(|row| row.first_ms),
        "first_at": entry.told.map(|row| iso(row.first_ms)),
        "changed_ms": entry.since_ms,
        "changed_at": iso(entry.since_ms),
    })
}

pub(super) fn member_json(row: &MemberRow) -> Value {
    json!({
        "record": "member",
        "server": row.server.to_string(),
        "kind": row.kind.map(Kind::name),
        "server_address": row.control.ip().to_string(),
        "control_port": row.control.port(),
        "unreachable_since_ms": row.unreachable_ms,
        "unreachable_since_at": row.unreachable_ms.map(iso),
    })
}
