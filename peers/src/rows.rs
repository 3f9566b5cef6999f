//! What is saved as rows of the store, and back; both daemons go through here.

use db::{Kind, MemberRow, ReplicaRow};
use driver::Wall;
use wire::record::ServerRole;

use crate::saved::{Former, SavedChange, SavedClaim, SavedMember};

/// One of them as a change of the store.
#[must_use]
pub fn row_of(change: SavedChange) -> db::Change {
    match change {
        SavedChange::PutClaim(entry) => db::Change::PutReplica(Box::new(ReplicaRow {
            owner: entry.owner,
            number: entry.number,
            claim: entry.claim,
            first_ms: entry.first.0,
            changed_ms: entry.changed.0,
        })),
        SavedChange::DropClaim(owner, number) => db::Change::DeleteReplica { owner, number },
        SavedChange::PutMember(entry) => db::Change::PutMember(MemberRow {
            server: entry.server,
            kind: entry.role.map(|role| match role {
                ServerRole::Binld => Kind::Binld,
                ServerRole::Mtftpd => Kind::Mtftpd,
            }),
            control: entry.control,
            unreachable_ms: entry.unreachable_since.map(|wall| wall.0),
        }),
        SavedChange::DropMember(server) => db::Change::DeleteMember(server),
    }
}

/// What the store has of a former process.
#[must_use]
pub fn former(replicas: Vec<ReplicaRow>, members: Vec<MemberRow>) -> Former {
    let claims = replicas.into_iter().map(|row| SavedClaim {
        owner: row.owner,
        number: row.number,
        claim: row.claim,
        first: Wall(row.first_ms),
        changed: Wall(row.changed_ms),
    });
    let members = members.into_iter().map(|row| SavedMember {
        server: row.server,
        role: row.kind.map(|kind| match kind {
            Kind::Binld => ServerRole::Binld,
            Kind::Mtftpd => ServerRole::Mtftpd,
        }),
        control: row.control,
        unreachable_since: row.unreachable_ms.map(Wall),
    });
    Former { claims: claims.collect(), members: members.collect() }
}
