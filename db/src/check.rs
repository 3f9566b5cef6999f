//! What must hold in every store, whatever its daemon did.

use std::collections::BTreeMap;
use std::fmt::Display;

use rusqlite::Connection;
use wire::GroupAddr;

use crate::row::{ClaimRow, ClaimState, ReferenceRow, RollRow, RollState, Rows};
use crate::{Header, Kind, columns};

/// A sentence about each thing that is wrong; the damage of the file first, then the records.
pub(crate) fn check(header: &Header, connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut wrong: Vec<String> = connection
        .prepare("PRAGMA integrity_check")?
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<rusqlite::Result<_>>()?;
    wrong.retain(|line| line != "ok");
    let (rows, nonsense) = columns::read(connection)?;
    wrong.extend(nonsense);
    wrong.extend(strangers(header.kind, &rows));
    wrong.extend(claims(&rows));
    wrong.extend(replicas(header, &rows));
    wrong.extend(references(&rows));
    wrong.extend(roll(&rows.roll));
    wrong.extend(loans(header, &rows));
    wrong.extend(shared_ethernet(&rows));
    if header.server.is_none() && rows != Rows::default() {
        wrong.push("there are records, but no server id: the daemon never started".to_owned());
    }
    Ok(wrong)
}

/// Kinds of records that only the other daemon keeps.
fn strangers(kind: Kind, rows: &Rows) -> Vec<String> {
    let counts = match kind {
        Kind::Binld => vec![("references", rows.references.len()), ("serials", rows.serials.len())],
        Kind::Mtftpd => vec![
            ("claims", rows.claims.len()),
            ("marks", rows.marks.len()),
            ("lists of boot servers", rows.roll.len()),
            ("loans", rows.loans.len()),
            ("legacy servers", rows.legacy.len()),
            ("spans of listening", usize::from(rows.listened.is_some())),
        ],
    };
    let there = counts.into_iter().filter(|(_, count)| *count > 0);
    there.map(|(what, count)| format!("the store of {kind} has {count} {what}")).collect()
}

fn claims(rows: &Rows) -> Vec<String> {
    let mut wrong = Vec::new();
    for claim in &rows.claims {
        if claim.client_port == 0 || claim.server_port == 0 {
            wrong.push(format!("claim of {}: a port is 0", claim.group));
        }
    }
    let live = || rows.claims.iter().filter(|claim| claim.state.is_committed());
    let carried = |claim: &ClaimRow| claim.content.clone();
    differing(live(), |claim| claim.group, carried, "claims of", &mut wrong);
    // A dynamic and a pinned claim of one content may stand side by side; two of a kind only while one drains.
    let handed_out = live().filter(|claim| claim.state != ClaimState::Draining);
    let kind = |claim: &ClaimRow| {
        let how = if claim.pinned { "pinned" } else { "dynamic" };
        format!("{how} claims of {} by {}", claim.content, claim.owner)
    };
    differing(handed_out, kind, |claim| claim.group, "the", &mut wrong);
    wrong
}

fn references(rows: &Rows) -> Vec<String> {
    let mut wrong = Vec::new();
    let highest: BTreeMap<_, _> =
        rows.serials.iter().map(|row| ((row.group, row.binld), (row.epoch, row.serial))).collect();
    for row in &rows.references {
        let who = format!("reference of {} by {}", row.group, row.binld);
        if row.client_port == 0 || row.server_port == 0 {
            wrong.push(format!("{who}: a port is 0"));
        }
        if row.renewed_ms < row.since_ms {
            wrong.push(format!("{who}: renewed before it was made"));
        }
        match highest.get(&(row.group, row.binld)) {
            None => wrong.push(format!("{who}: no highest serial is kept for it")),
            Some(highest) if *highest < (row.epoch, row.serial) => {
                wrong.push(format!("{who}: its serial is above the highest one kept"));
            }
            Some(_) => {}
        }
    }
    let all = || rows.references.iter();
    let file = |row: &ReferenceRow| row.file.clone();
    differing(all(), |row| row.group, file, "references of", &mut wrong);
    let ports = |row: &ReferenceRow| format!("{}←{}", row.client_port, row.server_port);
    differing(all(), |row| row.group, ports, "references of", &mut wrong);
    // An open finds its claim by server port and file.
    let open = |row: &ReferenceRow| format!("port {} and {}", row.server_port, row.file);
    differing(all(), open, |row| row.group, "references with", &mut wrong);
    wrong
}

/// One list is in force at most, or was when we left; those that are pending follow it. Each is in order.
fn roll(rows: &[RollRow]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let list = format!("list {} of boot servers", row.version);
        if row.members.iter().zip(row.members.iter().skip(1)).any(|(one, next)| one >= next) {
            wrong.push(format!("{list}: its members are not in order, each once"));
        }
        if row.origins.is_empty() != (row.state == RollState::Pending) {
            wrong.push(format!("{list}: it is {}, and has {} origins", row.state, row.origins.len()));
        }
        if row.state != RollState::Pending && number > 0 {
            wrong.push(format!("{list}: it is {}, and an older one is there", row.state));
        }
    }
    wrong
}

/// What the others tell must be theirs and make sense. That two servers have one address is no damage of this store: it
/// shows what they said.
fn replicas(header: &Header, rows: &Rows) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in &rows.replicas {
        let what = format!("claim of {} by {}", row.claim.group, row.owner);
        if header.server == Some(row.owner) {
            wrong.push(format!("{what}: it is noted as another server's, and that is this one"));
        }
        if row.claim.ports.client == 0 || row.claim.ports.server == 0 {
            wrong.push(format!("{what}: a port is 0"));
        }
    }
    let ourselves = rows.members.iter().filter(|row| header.server == Some(row.server));
    wrong.extend(ourselves.map(|row| format!("member {}: that is this server", row.server)));
    wrong
}

/// Nobody lends to itself, nor what it uses for something else.
fn loans(header: &Header, rows: &Rows) -> Vec<String> {
    let mut wrong = Vec::new();
    for loan in &rows.loans {
        if header.server == Some(loan.borrower) {
            wrong.push(format!("loan of {}: to this server itself", loan.group));
        }
        let ours = rows.claims.iter().filter(|claim| Some(claim.owner) == header.server);
        let mut claimed = ours.filter(|claim| claim.group == loan.group && claim.state.is_committed());
        if claimed.any(|claim| claim.content != loan.content) {
            wrong.push(format!("loan of {}: we have a claim to it for something else", loan.group));
        }
    }
    wrong
}

/// Addresses whose low 23 bits agree share one Ethernet group: a client would get both streams (G21).
fn shared_ethernet(rows: &Rows) -> Vec<String> {
    let mut wrong = Vec::new();
    let claimed = rows.claims.iter().filter(|claim| claim.state.is_committed()).map(|claim| claim.group);
    let groups: Vec<_> = claimed.chain(rows.references.iter().map(|row| row.group)).collect();
    let ethernet = |group: &GroupAddr| format!("group {:06x}", group.ethernet_bits());
    differing(groups.iter(), ethernet, |group| *group, "the addresses on Ethernet", &mut wrong);
    wrong
}

/// Notes every key for which `value` differs between rows.
fn differing<'a, T: 'a, K: Ord + Display, V: Ord + Display>(
    rows: impl Iterator<Item = &'a T>,
    key: impl Fn(&'a T) -> K,
    value: impl Fn(&'a T) -> V,
    what: &str,
    wrong: &mut Vec<String>,
) {
    let mut found: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for row in rows {
        found.entry(key(row)).or_default().push(value(row));
    }
    for (key, mut values) in found {
        values.sort();
        values.dedup();
        if values.len() > 1 {
            let list: Vec<String> = values.iter().map(ToString::to_string).collect();
            wrong.push(format!("{what} {key} differ: {}", list.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests;
