//! The core's changes as rows of the store, and back. The daemon and the simulator both go through here.

use driver::Wall;
use peers::rows as saved;
use wire::configure::Ports;

use crate::engine::{Change, Journal, ReferenceRecord, RestRecord, SerialRecord};
use crate::limits::LEASE;

// Daemon and dump mean the same by *stale*.
const _: () = assert!(LEASE.as_millis() == db::LEASE_MS as u128);

/// A change of the core as one of the store.
#[must_use]
pub fn row(change: Change) -> db::Change {
    match change {
        Change::PutReference(record) => db::Change::PutReference(db::ReferenceRow {
            group: record.group,
            file: record.file,
            client_port: record.ports.client,
            server_port: record.ports.server,
            binld: record.binld,
            address: record.address,
            epoch: record.epoch,
            serial: record.serial,
            stamp: record.stamp,
            since_ms: record.since.0,
            renewed_ms: record.renewed.0,
        }),
        Change::DeleteReference { group, binld } => db::Change::DeleteReference { group, binld },
        Change::PutSerial(SerialRecord { group, binld, epoch, serial }) => {
            db::Change::PutSerial(db::SerialRow { group, binld, epoch, serial })
        }
        Change::DeleteSerial { group, binld } => db::Change::DeleteSerial { group, binld },
        Change::PutRest(RestRecord { group, file, stamp, since }) => {
            db::Change::PutRest(db::RestRow { group, server: None, file, stamp, since_ms: since.0 })
        }
        Change::DeleteRest(group) => db::Change::DeleteRest(group),
        Change::Saved(change) => saved::row_of(change),
        Change::Alive(wall) => db::Change::Alive { wall_ms: wall.0 },
    }
}

/// What the store holds, as the core takes it up at its start.
#[must_use]
pub fn journal(rows: db::Rows) -> Journal {
    let reference = |row: db::ReferenceRow| ReferenceRecord {
        group: row.group,
        file: row.file,
        ports: Ports { client: row.client_port, server: row.server_port },
        binld: row.binld,
        address: row.address,
        epoch: row.epoch,
        serial: row.serial,
        stamp: row.stamp,
        since: Wall(row.since_ms),
        renewed: Wall(row.renewed_ms),
    };
    let serial = |row: db::SerialRow| {
        let db::SerialRow { group, binld, epoch, serial } = row;
        SerialRecord { group, binld, epoch, serial }
    };
    let rest = |row: db::RestRow| RestRecord {
        group: row.group,
        file: row.file,
        stamp: row.stamp,
        since: Wall(row.since_ms),
    };
    Journal {
        references: rows.references.into_iter().map(reference).collect(),
        serials: rows.serials.into_iter().map(serial).collect(),
        rests: rows.rests.into_iter().map(rest).collect(),
        former: saved::former(rows.replicas, rows.members),
    }
}
