//! Notes as rows of the store, and back; both daemons go through here.

use db::{Kind, MemberRow, ReplicaRow};
use driver::Wall;
use wire::record::ServerRole;

use crate::notes::{ClaimNote, Former, MemberNote, NoteChange};

/// A note as a change of the store.
#[must_use]
pub fn row_of(change: NoteChange) -> db::Change {
    match change {
        NoteChange::PutClaim(note) => db::Change::PutReplica(Box::new(ReplicaRow {
            owner: note.owner,
            number: note.number,
            claim: note.claim,
            first_ms: note.first.0,
            changed_ms: note.changed.0,
        })),
        NoteChange::DropClaim(owner, number) => db::Change::DeleteReplica { owner, number },
        NoteChange::PutMember(note) => db::Change::PutMember(MemberRow {
            server: note.server,
            kind: note.role.map(|role| match role {
                ServerRole::Binld => Kind::Binld,
                ServerRole::Mtftpd => Kind::Mtftpd,
            }),
            control: note.control,
            unreachable_ms: note.unreachable_since.map(|wall| wall.0),
        }),
        NoteChange::DropMember(server) => db::Change::DeleteMember(server),
    }
}

/// What the store has of a former process.
#[must_use]
pub fn former(replicas: Vec<ReplicaRow>, members: Vec<MemberRow>) -> Former {
    let claims = replicas.into_iter().map(|row| ClaimNote {
        owner: row.owner,
        number: row.number,
        claim: row.claim,
        first: Wall(row.first_ms),
        changed: Wall(row.changed_ms),
    });
    let members = members.into_iter().map(|row| MemberNote {
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
