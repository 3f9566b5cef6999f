use std::net::{Ipv4Addr, SocketAddrV4};

use wire::configure::Ports;
use wire::hold::HoldState;
use wire::pxe::BootItem;
use wire::record::Claim;
use wire::{Content, FileName, GroupAddr, Layer, Serial, ServerType, Stamp};

use super::*;
use crate::row::{
    ClaimRow, ClaimState, LegacyRow, ListenedRow, LoanRow, MarkRow, MemberRow, ReferenceRow, ReplicaRow,
    RestRow, RollRow, RollState, SerialRow,
};

const US: ServerId = ServerId([0xaa; 16]);
const PEER: ServerId = ServerId([0xbb; 16]);

fn group(third: u8, last: u8) -> GroupAddr {
    GroupAddr::new(Ipv4Addr::new(239, 255, third, last)).unwrap()
}

fn stamp(millis: u64) -> Stamp {
    Stamp { millis, sender: PEER }
}

fn file(name: &[u8]) -> FileName {
    FileName::new(name).unwrap()
}

fn claim(address: GroupAddr, state: ClaimState) -> ClaimRow {
    ClaimRow {
        group: address,
        content: Content { server: Ipv4Addr::new(10, 0, 0, 3), file: file(b"deb\\ian/\xffinitrd\n") },
        client_port: 3001,
        server_port: 1759,
        server_type: ServerType(0x8001),
        layer: Layer(7),
        item: "Debian, \"stable\"".to_owned(),
        pinned: true,
        state,
        stamp: stamp(u64::MAX),
        owner: US,
        since_ms: 1_795_931_111_123,
    }
}

fn reference(address: GroupAddr, binld: ServerId) -> ReferenceRow {
    ReferenceRow {
        group: address,
        file: file(b"payload"),
        client_port: 3001,
        server_port: 1760,
        binld,
        address: Ipv4Addr::new(10, 0, 0, 1),
        epoch: BootEpoch(u32::MAX),
        serial: Serial(u32::MAX),
        stamp: stamp(1 << 63),
        since_ms: 5,
        renewed_ms: 6,
    }
}

fn mark(address: GroupAddr) -> MarkRow {
    MarkRow { group: address, until_ms: 9, why: "echo from 10.0.0.2".to_owned() }
}

fn serial(address: GroupAddr, binld: ServerId) -> SerialRow {
    SerialRow { group: address, binld, epoch: BootEpoch(3), serial: Serial(4) }
}

fn rest(address: GroupAddr) -> RestRow {
    // One of a BINLD and one of an MTFTP server.
    let server = (address == group(1, 2)).then_some(Ipv4Addr::new(10, 0, 0, 9));
    RestRow { group: address, server, file: file(b"old"), stamp: stamp(0), since_ms: 11 }
}

fn list(version: u32, digest: u8, state: RollState) -> RollRow {
    RollRow {
        version,
        digest: [digest; 16],
        state,
        members: vec![US, PEER],
        origins: vec![[7; 16], [8; 16]],
        former: vec![[9; 16]],
    }
}

fn loan(address: GroupAddr) -> LoanRow {
    let content = Content { server: Ipv4Addr::new(10, 0, 0, 3), file: file(b"lent \xff") };
    LoanRow { group: address, borrower: PEER, content, since_ms: u64::MAX }
}

fn legacy(last: u8) -> LegacyRow {
    LegacyRow { address: Ipv4Addr::new(10, 0, 0, last), heard_ms: u64::MAX }
}

fn replica(address: GroupAddr, owner: ServerId, number: u64, state: HoldState) -> ReplicaRow {
    let claim = Claim {
        group: address,
        content: Content { server: Ipv4Addr::new(10, 0, 0, 3), file: file(b"told \xff") },
        ports: Ports { client: 3001, server: 1760 },
        boot_item: BootItem { server_type: ServerType(0x8002), layer: Layer(3) },
        stamp: stamp(u64::MAX),
        state,
        pinned: number == 1,
        configured: number != 1,
    };
    ReplicaRow { owner, number, claim, first_ms: 12, changed_ms: u64::MAX }
}

fn member(server: ServerId, kind: Option<Kind>, unreachable_ms: Option<u64>) -> MemberRow {
    let control = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 8), 4016);
    MemberRow { server, kind, control, unreachable_ms }
}

/// Something of every kind.
fn everything() -> (Vec<Change>, Rows) {
    let (a, b) = (group(1, 2), group(1, 10));
    let rows = Rows {
        claims: vec![claim(a, ClaimState::Held), ClaimRow { owner: PEER, ..claim(a, ClaimState::Clearing) }],
        // By number, not by text.
        marks: vec![mark(a), mark(b)],
        references: vec![reference(a, US), reference(a, PEER), reference(b, US)],
        serials: vec![serial(a, US), serial(b, PEER)],
        rests: vec![rest(a), rest(b)],
        // Two of one version; the greatest one last.
        roll: vec![
            list(9, 0xff, RollState::Current),
            list(10, 1, RollState::Pending),
            list(10, 2, RollState::Pending),
            list(u32::MAX, 0, RollState::Pending),
        ],
        loans: vec![loan(a), loan(b)],
        replicas: vec![
            replica(a, US, 1, HoldState::Committed),
            replica(a, PEER, u64::MAX, HoldState::Draining),
            replica(b, US, 2, HoldState::Resting),
        ],
        members: vec![member(US, Some(Kind::Binld), Some(u64::MAX)), member(PEER, Some(Kind::Mtftpd), None)],
        legacy: vec![legacy(9), legacy(10)],
        listened: Some(ListenedRow { millis: u64::MAX, host_boot: [5; 16] }),
    };
    let mut changes: Vec<Change> = rows.claims.iter().cloned().map(Change::PutClaim).collect();
    changes.extend(rows.marks.iter().cloned().map(Change::PutMark));
    changes.extend(rows.references.iter().cloned().map(Change::PutReference));
    changes.extend(rows.serials.iter().cloned().map(Change::PutSerial));
    changes.extend(rows.rests.iter().cloned().map(Change::PutRest));
    changes.extend(rows.loans.iter().cloned().map(Change::PutLoan));
    changes.extend(rows.replicas.iter().cloned().map(|row| Change::PutReplica(Box::new(row))));
    changes.extend(rows.members.iter().copied().map(Change::PutMember));
    changes.extend(rows.listened.map(Change::SetListened));
    changes.extend(rows.legacy.iter().cloned().map(Change::PutLegacy));
    changes.push(Change::SetRoll(rows.roll.iter().rev().cloned().collect()));
    changes.reverse();
    (changes, rows)
}

#[test]
fn every_field_of_every_kind_comes_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("binld.db");
    let (changes, rows) = everything();
    let mut store = Store::open(&path, Kind::Binld).unwrap();
    assert_eq!(store.load().unwrap(), Rows::default());
    store.apply(&changes).unwrap();
    store.apply(&[]).unwrap();
    assert_eq!(store.load().unwrap(), rows);
    drop(store);
    assert_eq!(Store::open(&path, Kind::Binld).unwrap().load().unwrap(), rows);
}

#[test]
fn puts_replace_by_key_and_deletes_take_just_their_key() {
    let mut store = Store::in_memory(Kind::Mtftpd).unwrap();
    let (changes, mut rows) = everything();
    store.apply(&changes).unwrap();
    let (a, b) = (group(1, 2), group(1, 10));
    let drained = ClaimRow { since_ms: 99, ..claim(a, ClaimState::Draining) };
    store
        .apply(&[
            Change::PutClaim(drained.clone()),
            Change::DeleteClaim { group: a, owner: PEER },
            Change::DeleteMark(b),
            Change::DeleteReference { group: a, binld: US },
            Change::DeleteSerial { group: b, binld: PEER },
            Change::DeleteRest(a),
            Change::DeleteLoan(a),
            Change::DeleteReplica { owner: US, number: 1 },
            Change::DeleteReplica { owner: PEER, number: u64::MAX },
            Change::DeleteMember(US),
            Change::PutMember(member(PEER, None, None)),
            Change::SetListened(ListenedRow { millis: 6, host_boot: [7; 16] }),
            Change::DeleteLegacy(Ipv4Addr::new(10, 0, 0, 10)),
            Change::SetRoll(vec![list(11, 1, RollState::Left)]),
            // What is not there.
            Change::DeleteReplica { owner: PEER, number: 2 },
            Change::DeleteLoan(group(7, 7)),
            Change::DeleteLegacy(Ipv4Addr::new(10, 0, 0, 11)),
            Change::DeleteRest(group(7, 7)),
            Change::DeleteSerial { group: b, binld: US },
        ])
        .unwrap();
    rows.claims = vec![drained];
    rows.marks = vec![mark(a)];
    rows.references = vec![reference(a, PEER), reference(b, US)];
    rows.serials = vec![serial(a, US)];
    rows.rests = vec![rest(b)];
    rows.loans = vec![loan(b)];
    rows.replicas = vec![replica(b, US, 2, HoldState::Resting)];
    rows.members = vec![member(PEER, None, None)];
    rows.listened = Some(ListenedRow { millis: 6, host_boot: [7; 16] });
    rows.legacy = vec![legacy(9)];
    rows.roll = vec![list(11, 1, RollState::Left)];
    assert_eq!(store.load().unwrap(), rows);
    // In order: the last word counts.
    store.apply(&[Change::PutMark(mark(b)), Change::DeleteMark(b)]).unwrap();
    store.apply(&[Change::DeleteMark(a), Change::PutMark(mark(a))]).unwrap();
    assert_eq!(store.load().unwrap(), rows);
}

#[test]
fn all_states_come_back() {
    let mut store = Store::in_memory(Kind::Binld).unwrap();
    for state in ClaimState::ALL {
        store.apply(&[Change::PutClaim(claim(group(1, 1), state))]).unwrap();
        assert_eq!(store.load().unwrap().claims, [claim(group(1, 1), state)]);
    }
}

#[test]
fn all_lists_of_boot_servers_come_back() {
    let mut store = Store::in_memory(Kind::Binld).unwrap();
    for state in RollState::ALL {
        let row = list(1, 1, state);
        // A thousand is the most.
        let members = (0..1000_u128).map(|number| ServerId(number.to_be_bytes())).collect();
        let rows = vec![row, RollRow { members, origins: Vec::new(), ..list(2, 2, RollState::Pending) }];
        store.apply(&[Change::SetRoll(rows.clone())]).unwrap();
        assert_eq!(store.load().unwrap().roll, rows);
    }
    // One that cannot be written leaves the others.
    let none = RollRow { members: Vec::new(), ..list(3, 3, RollState::Pending) };
    assert!(store.apply(&[Change::SetRoll(vec![list(3, 3, RollState::Current), none])]).is_err());
    assert_eq!(store.load().unwrap().roll.len(), 2);
    store.apply(&[Change::SetRoll(Vec::new())]).unwrap();
    assert_eq!(store.load().unwrap(), Rows::default());
}

#[test]
fn the_boot_epoch_always_grows_and_the_name_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mtftpd.db");
    let boot = |wall_ms, fresh| {
        let mut store = Store::open(&path, Kind::Mtftpd).unwrap();
        let boot = store.boot(wall_ms, fresh).unwrap();
        store.apply(&[Change::Alive { wall_ms: wall_ms + 1 }]).unwrap();
        boot
    };
    assert_eq!(boot(5_000_999, US), Boot { server: US, epoch: BootEpoch(5000), last_alive_ms: 0 });
    // The clock stands, goes back, goes on, and is out of its mind.
    assert_eq!(boot(5_000_999, PEER), Boot { server: US, epoch: BootEpoch(5001), last_alive_ms: 5_001_000 });
    assert_eq!(boot(1_000, PEER).epoch, BootEpoch(5002));
    assert_eq!(boot(9_000_000, PEER), Boot { server: US, epoch: BootEpoch(9000), last_alive_ms: 1_001 });
    assert_eq!(boot(u64::MAX - 1, PEER).epoch, BootEpoch(9001));
    assert_eq!(boot(0, PEER), Boot { server: US, epoch: BootEpoch(9002), last_alive_ms: u64::MAX });
    let header = Store::open_read_only(&path).unwrap().header().unwrap();
    assert_eq!((header.kind, header.server, header.epoch), (Kind::Mtftpd, Some(US), BootEpoch(9002)));
}

#[test]
fn a_failed_change_takes_its_whole_batch_with_it() {
    let mut store = Store::in_memory(Kind::Binld).unwrap();
    store.apply(&[Change::PutMark(mark(group(1, 1)))]).unwrap();
    // Room for a few pages more only.
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = format!("PRAGMA max_page_count = {}", pages + 3);
    store.connection.query_row(&limit, [], |_| Ok(())).unwrap();
    let flood = |last| Change::PutMark(MarkRow { why: "x".repeat(500), ..mark(group(2, last)) });
    let error = store.apply(&(0..200).map(flood).collect::<Vec<_>>()).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(store.load().unwrap().marks, [mark(group(1, 1))]);
    // And it goes on as soon as there is room.
    store.connection.query_row("PRAGMA max_page_count = 10000", [], |_| Ok(())).unwrap();
    store.apply(&[Change::PutMark(mark(group(1, 2)))]).unwrap();
    assert_eq!(store.load().unwrap().marks.len(), 2);
}

#[test]
fn commits_are_synced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("binld.db"), Kind::Binld).unwrap();
    let text = |sql: &str| store.connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let number = |sql: &str| store.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(text("PRAGMA journal_mode"), "wal");
    assert_eq!(number("PRAGMA synchronous"), 2, "2 is FULL");
}

#[test]
fn a_row_of_nonsense_is_named() {
    let store = Store::in_memory(Kind::Binld).unwrap();
    let insert = "INSERT INTO mark (address, until_ms, why) VALUES ('10.1.2.3', 1, 'by hand')";
    store.connection.execute(insert, []).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("mark of 10.1.2.3") && error.contains("not a multicast address"), "{error}");
    store.connection.execute("DELETE FROM mark", []).unwrap();
    store.connection.execute("PRAGMA ignore_check_constraints = ON", []).unwrap();
    let insert =
        "INSERT INTO roll VALUES (7, zeroblob(16), 'current', zeroblob(17), zeroblob(16), zeroblob(0))";
    store.connection.execute(insert, []).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("roll of 7") && error.contains("17 bytes"), "{error}");
}
