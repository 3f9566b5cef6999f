//! A store as an operator reads it: tables, or one JSON object a line. The order of the records is that of their
//! keys, so two dumps can be compared line by line. The wall clock only says which references are stale by now.

use std::collections::BTreeMap;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table};
use db::{
    ClaimRow, Header, LEASE_MS, LegacyRow, LoanRow, MarkRow, ReferenceRow, RestRow, RollRow, Rows, SerialRow,
};
use domain::Entry;
use serde_json::{Value, json};
use wire::{GroupAddr, ServerId, Stamp};

use crate::iso::iso;

mod domain;

/// Tables for people. Times are UTC; file names show odd bytes escaped.
pub(crate) fn text(out: &mut impl Write, header: &Header, rows: &Rows, now_ms: u64) -> io::Result<()> {
    let server = header.server.map_or_else(|| "none yet".to_owned(), |server| server.to_string());
    writeln!(out, "store of {}, schema {}", header.kind, header.schema)?;
    writeln!(out, "server id   {server}")?;
    writeln!(out, "boot epoch  {}", header.epoch.0)?;
    writeln!(out, "last alive  {}", time_or(header.last_alive_ms, "never"))?;
    domain::text(out, header, rows)?;
    match header.kind {
        db::Kind::Binld => {
            claims(out, header, &rows.claims)?;
            marks(out, &rows.marks)?;
            roll(out, header, &rows.roll)?;
            loans(out, &rows.loans)?;
            legacy(out, &rows.legacy)?;
            if let Some(listened) = rows.listened {
                writeln!(out, "listened for them up to the last sign of life for {}", span(listened.millis))?;
            }
        }
        db::Kind::Mtftpd => {
            references(out, &rows.references, now_ms)?;
            serials(out, &rows.serials)?;
        }
    }
    rests(out, &rows.rests)?;
    // What does not belong here is shown too: hiding it would help nobody.
    match header.kind {
        db::Kind::Binld if !rows.references.is_empty() => references(out, &rows.references, now_ms),
        db::Kind::Mtftpd => {
            if !rows.claims.is_empty() {
                claims(out, header, &rows.claims)?;
            }
            if !rows.roll.is_empty() {
                roll(out, header, &rows.roll)?;
            }
            if !rows.loans.is_empty() {
                loans(out, &rows.loans)?;
            }
            if rows.legacy.is_empty() { Ok(()) } else { legacy(out, &rows.legacy) }
        }
        db::Kind::Binld => Ok(()),
    }
}

fn claims(out: &mut impl Write, header: &Header, rows: &[ClaimRow]) -> io::Result<()> {
    let mut table = Tabular::new(&[
        "ADDRESS",
        "FILE",
        "MTFTP SERVER",
        "BOOT ITEM",
        "TYPE",
        "LAYER",
        "STATE",
        "SINCE",
        "OWNER",
        "SERVER→CLIENT PORT",
        "KIND",
        "COMMITTED",
    ]);
    for row in rows {
        table.row(vec![
            row.group.to_string(),
            row.content.file.to_string(),
            row.content.server.to_string(),
            printable(&row.item),
            row.server_type.0.to_string(),
            row.layer.0.to_string(),
            row.state.to_string(),
            iso(row.since_ms),
            server(header, row.owner),
            ports(row.server_port, row.client_port),
            if row.pinned { "pinned" } else { "dynamic" }.to_owned(),
            committed(row.stamp, Some(row.owner)),
        ]);
    }
    table.print(out, &format!("claims: {}", rows.len()))
}

fn marks(out: &mut impl Write, rows: &[MarkRow]) -> io::Result<()> {
    let mut table = Tabular::new(&["ADDRESS", "NOT TRIED UNTIL", "WHY"]);
    for row in rows {
        table.row(vec![row.group.to_string(), iso(row.until_ms), printable(&row.why)]);
    }
    table.print(out, &format!("marks: {}", rows.len()))
}

/// Per address the list of BINLDs: what they agree on stands in the first line only.
fn references(out: &mut impl Write, rows: &[ReferenceRow], now_ms: u64) -> io::Result<()> {
    let mut table = Tabular::new(&[
        "ADDRESS",
        "FILE",
        "SERVER→CLIENT PORT",
        "BINLDS",
        "BINLD ID",
        "BINLD ADDRESS",
        "SINCE",
        "RENEWED",
        "LEASE",
        "EPOCH",
        "SERIAL",
        "COMMITTED",
    ]);
    let mut by_address: BTreeMap<GroupAddr, Vec<&ReferenceRow>> = BTreeMap::new();
    for row in rows {
        by_address.entry(row.group).or_default().push(row);
    }
    for (group, list) in &by_address {
        let mut above = [String::new(), String::new(), String::new()];
        for (number, row) in list.iter().enumerate() {
            let shared = [group.to_string(), row.file.to_string(), ports(row.server_port, row.client_port)];
            let mut cells: Vec<String> =
                if shared == above { vec![String::new(); 3] } else { shared.to_vec() };
            cells.extend([
                format!("{} of {}", number + 1, list.len()),
                row.binld.to_string(),
                row.address.to_string(),
                iso(row.since_ms),
                iso(row.renewed_ms),
                stale_for(row, now_ms).map_or("-".to_owned(), |age| format!("stale, {}", span(age))),
                row.epoch.0.to_string(),
                row.serial.0.to_string(),
                committed(row.stamp, Some(row.binld)),
            ]);
            table.row(cells);
            above = shared;
        }
    }
    table.print(out, &format!("references: {}, addresses: {}", rows.len(), by_address.len()))
}

fn serials(out: &mut impl Write, rows: &[SerialRow]) -> io::Result<()> {
    let mut table = Tabular::new(&["ADDRESS", "BINLD ID", "EPOCH", "SERIAL"]);
    for row in rows {
        let (epoch, serial) = (row.epoch.0.to_string(), row.serial.0.to_string());
        table.row(vec![row.group.to_string(), row.binld.to_string(), epoch, serial]);
    }
    table.print(out, &format!("highest serials: {}", rows.len()))
}

fn rests(out: &mut impl Write, rows: &[RestRow]) -> io::Result<()> {
    let mut table = Tabular::new(&["ADDRESS", "FILE", "MTFTP SERVER", "RELEASED", "COMMITTED"]);
    for row in rows {
        table.row(vec![
            row.group.to_string(),
            row.file.to_string(),
            row.server.map_or_else(|| "this server".to_owned(), |server| server.to_string()),
            iso(row.since_ms),
            committed(row.stamp, None),
        ]);
    }
    table.print(out, &format!("rests: {}", rows.len()))
}

/// The members of a list below each other: what they share stands in the first line only.
fn roll(out: &mut impl Write, header: &Header, rows: &[RollRow]) -> io::Result<()> {
    let mut table =
        Tabular::new(&["VERSION", "STATE", "DIGEST", "ORIGINS", "FORMER ORIGINS", "MEMBERS", "MEMBER ID"]);
    for row in rows {
        for (number, member) in row.members.iter().enumerate() {
            let digest = ServerId(row.digest).to_string();
            let (origins, former) = (digests(&row.origins).join(", "), digests(&row.former).join(", "));
            let shared = [row.version.to_string(), row.state.to_string(), digest, origins, former];
            let mut cells = if number == 0 { shared.to_vec() } else { vec![String::new(); 5] };
            cells.push(format!("{} of {}", number + 1, row.members.len()));
            cells.push(server(header, *member));
            table.row(cells);
        }
    }
    table.print(out, &format!("lists of boot servers: {}", rows.len()))
}

fn loans(out: &mut impl Write, rows: &[LoanRow]) -> io::Result<()> {
    let mut table = Tabular::new(&["ADDRESS", "FILE", "MTFTP SERVER", "LENT TO", "SINCE"]);
    for row in rows {
        table.row(vec![
            row.group.to_string(),
            row.content.file.to_string(),
            row.content.server.to_string(),
            row.borrower.to_string(),
            iso(row.since_ms),
        ]);
    }
    table.print(out, &format!("loans: {}", rows.len()))
}

fn legacy(out: &mut impl Write, rows: &[LegacyRow]) -> io::Result<()> {
    let mut table = Tabular::new(&["SERVER ADDRESS", "LAST HEARD"]);
    for row in rows {
        table.row(vec![row.address.to_string(), iso(row.heard_ms)]);
    }
    table.print(out, &format!("legacy servers: {}", rows.len()))
}

/// One JSON object a line: the store first, then its records. `…_at` are texts in UTC, `…_ms` the same instants as
/// numbers.
pub(crate) fn json(out: &mut impl Write, header: &Header, rows: &Rows, now_ms: u64) -> io::Result<()> {
    let store = json!({
        "record": "store",
        "kind": header.kind.name(),
        "schema": header.schema,
        "server": header.server.map(|server| server.to_string()),
        "boot_epoch": header.epoch.0,
        "last_alive_ms": header.last_alive_ms,
        "last_alive_at": time_or(header.last_alive_ms, "never"),
    });
    let records = std::iter::once(store)
        .chain(rows.claims.iter().map(claim_json))
        .chain(domain::entries(header, rows).filter(Entry::is_anothers).map(|entry| domain::json(&entry)))
        .chain(rows.members.iter().map(domain::member_json))
        .chain(rows.marks.iter().map(mark_json))
        .chain(rows.references.iter().map(|row| reference_json(row, now_ms)))
        .chain(rows.serials.iter().map(serial_json))
        .chain(rows.rests.iter().map(rest_json))
        .chain(rows.roll.iter().map(roll_json))
        .chain(rows.loans.iter().map(loan_json))
        .chain(rows.legacy.iter().map(legacy_json))
        .chain(rows.listened.iter().map(|row| json!({ "record": "listened", "listened_ms": row.millis })));
    for record in records {
        writeln!(out, "{record}")?;
    }
    Ok(())
}

fn claim_json(row: &ClaimRow) -> Value {
    json!({
        "record": "claim",
        "address": row.group.to_string(),
        "file": row.content.file.to_string(),
        "mtftp_server": row.content.server.to_string(),
        "boot_item": row.item,
        "server_type": row.server_type.0,
        "layer": row.layer.0,
        "state": row.state.name(),
        "since_ms": row.since_ms,
        "since_at": iso(row.since_ms),
        "owner": row.owner.to_string(),
        "server_port": row.server_port,
        "client_port": row.client_port,
        "pinned": row.pinned,
        "stamp": stamp_json(row.stamp),
    })
}

fn mark_json(row: &MarkRow) -> Value {
    json!({
        "record": "mark",
        "address": row.group.to_string(),
        "until_ms": row.until_ms,
        "until_at": iso(row.until_ms),
        "why": row.why,
    })
}

fn reference_json(row: &ReferenceRow, now_ms: u64) -> Value {
    json!({
        "record": "reference",
        "address": row.group.to_string(),
        "file": row.file.to_string(),
        "server_port": row.server_port,
        "client_port": row.client_port,
        "binld": row.binld.to_string(),
        "binld_address": row.address.to_string(),
        "since_ms": row.since_ms,
        "since_at": iso(row.since_ms),
        "renewed_ms": row.renewed_ms,
        "renewed_at": iso(row.renewed_ms),
        "stale": stale_for(row, now_ms).is_some(),
        "age_ms": stale_for(row, now_ms),
        "epoch": row.epoch.0,
        "serial": row.serial.0,
        "stamp": stamp_json(row.stamp),
    })
}

fn serial_json(row: &SerialRow) -> Value {
    json!({
        "record": "serial",
        "address": row.group.to_string(),
        "binld": row.binld.to_string(),
        "epoch": row.epoch.0,
        "serial": row.serial.0,
    })
}

fn rest_json(row: &RestRow) -> Value {
    json!({
        "record": "rest",
        "address": row.group.to_string(),
        "mtftp_server": row.server.map(|server| server.to_string()),
        "file": row.file.to_string(),
        "released_ms": row.since_ms,
        "released_at": iso(row.since_ms),
        "stamp": stamp_json(row.stamp),
    })
}

fn digests(all: &[[u8; 16]]) -> Vec<String> {
    all.iter().map(|digest| ServerId(*digest).to_string()).collect()
}

fn roll_json(row: &RollRow) -> Value {
    let members: Vec<String> = row.members.iter().map(ToString::to_string).collect();
    json!({
        "record": "roll",
        "version": row.version,
        "digest": ServerId(row.digest).to_string(),
        "state": row.state.name(),
        "origins": digests(&row.origins),
        "former_origins": digests(&row.former),
        "members": members,
    })
}

fn loan_json(row: &LoanRow) -> Value {
    json!({
        "record": "loan",
        "address": row.group.to_string(),
        "file": row.content.file.to_string(),
        "mtftp_server": row.content.server.to_string(),
        "borrower": row.borrower.to_string(),
        "since_ms": row.since_ms,
        "since_at": iso(row.since_ms),
    })
}

fn legacy_json(row: &LegacyRow) -> Value {
    json!({
        "record": "legacy",
        "server_address": row.address.to_string(),
        "heard_ms": row.heard_ms,
        "heard_at": iso(row.heard_ms),
    })
}

/// Its id, if it is another one.
fn server(header: &Header, id: ServerId) -> String {
    if header.server == Some(id) { "this server".to_owned() } else { id.to_string() }
}

/// How long ago a reference was renewed, in milliseconds, if that is longer than its lease.
fn stale_for(row: &ReferenceRow, now_ms: u64) -> Option<u64> {
    Some(now_ms.saturating_sub(row.renewed_ms)).filter(|age| *age >= LEASE_MS)
}

/// Days, hours, minutes and seconds, the two largest that there are.
fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn stamp_json(stamp: Stamp) -> Value {
    json!({ "ms": stamp.millis, "at": iso(stamp.millis), "sender": stamp.sender.to_string() })
}

/// When, and by whom if not by the one whose record it is.
fn committed(stamp: Stamp, by: Option<ServerId>) -> String {
    let at = iso(stamp.millis);
    if by == Some(stamp.sender) { at } else { format!("{at} by {}", stamp.sender) }
}

/// Server port, then the client port that it sends to.
fn ports(server_port: u16, client_port: u16) -> String {
    format!("{server_port}→{client_port}")
}

fn time_or(wall_ms: u64, none: &str) -> String {
    if wall_ms == 0 { none.to_owned() } else { iso(wall_ms) }
}

/// Names and reasons come from files and from the network: none may write on a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        if one.is_control() {
            shown.extend(one.escape_default());
        } else {
            shown.push(one);
        }
    }
    shown
}

/// A table without lines, which `awk` and `sort` can take.
struct Tabular {
    table: Table,
    rows: usize,
}

impl Tabular {
    fn new(columns: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns);
        Self { table, rows: 0 }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.table.add_row(cells);
        self.rows += 1;
    }

    /// An empty line, the title, and the table unless it is empty.
    fn print(self, out: &mut impl Write, title: &str) -> io::Result<()> {
        writeln!(out, "\n{title}")?;
        if self.rows == 0 {
            return Ok(());
        }
        for line in self.table.lines() {
            // Without the padding before the first column.
            writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
