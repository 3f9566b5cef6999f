//! The engine's durable facts as records of the store, and back. The daemon and the simulator both go through here.

use std::time::Duration;

use db::{
    Boot, ClaimRow, ClaimState, LegacyRow, ListenedRow, LoanRow, MarkRow, RestRow, RollRow, RollState, Rows,
};
use driver::Wall;
use peers::roll::{Digest, List, Origins, Stored};
use peers::rows as saved;
use wire::configure::Ports;
use wire::pxe::BootItem;
use wire::{Content, ServerId};

use crate::engine::claims::{ClaimKey, Placement, StateName};
use crate::engine::loans::LoanRecord;
use crate::engine::{Change, ClaimRecord, Journal, Listened};

/// A fact of the engine as one of the store; `owner` is us.
#[must_use]
pub fn row_of(change: &Change, owner: ServerId) -> db::Change {
    match change {
        Change::PutClaim(record) => db::Change::PutClaim(ClaimRow {
            group: record.at.group,
            content: record.key.content.clone(),
            client_port: record.at.ports.client,
            server_port: record.at.ports.server,
            server_type: record.boot_item.server_type,
            layer: record.boot_item.layer,
            item: record.item.clone(),
            pinned: record.key.pinned,
            state: state_of(record.state),
            stamp: record.stamp,
            owner,
            since_ms: record.since.0,
        }),
        Change::DropClaim(group) => db::Change::DeleteClaim { group: *group, owner },
        Change::PutMark(group, until, why) => {
            db::Change::PutMark(MarkRow { group: *group, until_ms: until.0, why: (*why).to_owned() })
        }
        Change::PutRest(group, content, stamp, since) => db::Change::PutRest(RestRow {
            group: *group,
            server: Some(content.server),
            file: content.file.clone(),
            stamp: *stamp,
            since_ms: since.0,
        }),
        Change::DropRest(group) => db::Change::DeleteRest(*group),
        Change::SetRoll(stored) => db::Change::SetRoll(rows_of_roll(stored)),
        Change::PutLoan(loan) => db::Change::PutLoan(LoanRow {
            group: loan.group,
            borrower: loan.borrower,
            content: loan.content.clone(),
            since_ms: loan.since.0,
        }),
        Change::DropLoan(group) => db::Change::DeleteLoan(*group),
        Change::Alive(wall) => db::Change::Alive { wall_ms: wall.0 },
        Change::Saved(change) => saved::row_of(change.clone()),
        Change::PutLegacy(address, heard) => {
            db::Change::PutLegacy(LegacyRow { address: *address, heard_ms: heard.0 })
        }
        Change::DropLegacy(address) => db::Change::DeleteLegacy(*address),
        Change::Listened(listened) => db::Change::SetListened(ListenedRow {
            millis: u64::try_from(listened.span.as_millis()).unwrap_or(u64::MAX),
            host_boot: listened.host_boot,
        }),
    }
}

/// What the engine takes over at its start. Claims of other owners are not ours to defend.
#[must_use]
pub fn journal(rows: Rows, boot: &Boot) -> Journal {
    let ours = rows.claims.into_iter().filter(|row| row.owner == boot.server && row.state.is_committed());
    // One without a server is none of ours.
    let rests = rows.rests.into_iter().filter_map(|rest| {
        let content = Content { server: rest.server?, file: rest.file };
        Some((rest.group, content, rest.stamp))
    });
    Journal {
        claims: ours.map(record_of).collect(),
        marks: rows.marks.into_iter().map(|mark| (mark.group, Wall(mark.until_ms))).collect(),
        rests: rests.collect(),
        roll: roll_of(rows.roll),
        loans: rows.loans.into_iter().map(loan_of).collect(),
        last_alive: Wall(boot.last_alive_ms),
        former: saved::former(rows.replicas, rows.members),
        legacy: rows.legacy.into_iter().map(|row| (row.address, Wall(row.heard_ms))).collect(),
        listened: rows
            .listened
            .map(|row| Listened { span: Duration::from_millis(row.millis), host_boot: row.host_boot }),
        // The host says.
        host_boot: <[u8; 16]>::default(),
    }
}

fn loan_of(row: LoanRow) -> LoanRecord {
    LoanRecord { group: row.group, borrower: row.borrower, content: row.content, since: Wall(row.since_ms) }
}

fn rows_of_roll(stored: &Stored) -> Vec<RollRow> {
    let row = |list: &List, state: RollState| RollRow {
        version: list.version(),
        digest: list.digest().0,
        state,
        members: list.members().to_vec(),
        origins: Vec::new(),
        former: Vec::new(),
    };
    let digests = |of: &mut dyn Iterator<Item = &Digest>| of.map(|digest| digest.0).collect();
    let Origins { own, all } = &stored.origins;
    let in_force = if stored.left { RollState::Left } else { RollState::Current };
    let current = stored.current.iter().map(|list| RollRow {
        origins: digests(&mut own.iter()),
        former: digests(&mut all.difference(own)),
        ..row(list, in_force)
    });
    // Who leaves without a list in force has nothing to remember of that.
    current.chain(stored.pending.iter().map(|list| row(list, RollState::Pending))).collect()
}

/// The store's own checks let no list through that is none.
fn roll_of(rows: Vec<RollRow>) -> Stored {
    let mut stored = Stored::default();
    for row in rows {
        let Some(list) = List::new(row.version, row.members) else { continue };
        if row.state == RollState::Pending {
            stored.pending.push(list);
            continue;
        }
        stored.left = row.state == RollState::Left;
        stored.origins.own = row.origins.into_iter().map(Digest).collect();
        stored.origins.all =
            row.former.into_iter().map(Digest).chain(stored.origins.own.iter().copied()).collect();
        stored.current = Some(list);
    }
    stored
}

fn record_of(row: ClaimRow) -> ClaimRecord {
    ClaimRecord {
        key: ClaimKey { content: row.content, pinned: row.pinned },
        at: Placement { group: row.group, ports: Ports { client: row.client_port, server: row.server_port } },
        boot_item: BootItem { server_type: row.server_type, layer: row.layer },
        item: row.item,
        state: match row.state {
            ClaimState::Clearing => StateName::Clearing,
            ClaimState::Recording => StateName::Recording,
            ClaimState::Configuring => StateName::Configuring,
            ClaimState::Held => StateName::Held,
            ClaimState::Draining => StateName::Draining,
        },
        stamp: row.stamp,
        since: Wall(row.since_ms),
    }
}

/// A claim that is recorded has an address; one that waits for none is not recorded.
fn state_of(state: StateName) -> ClaimState {
    match state {
        StateName::Waiting | StateName::Clearing => ClaimState::Clearing,
        StateName::Recording => ClaimState::Recording,
        StateName::Configuring => ClaimState::Configuring,
        StateName::Held => ClaimState::Held,
        StateName::Draining => ClaimState::Draining,
    }
}
