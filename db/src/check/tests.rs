use std::net::{Ipv4Addr, SocketAddrV4};

use wire::configure::Ports;
use wire::hold::HoldState;
use wire::pxe::BootItem;
use wire::record::Claim;
use wire::{BootEpoch, Content, FileName, Layer, Serial, ServerId, ServerType, Stamp};

use crate::{
    Change, ClaimRow, ClaimState, Kind, LegacyRow, ListenedRow, LoanRow, MemberRow, ReferenceRow, ReplicaRow,
    RollRow, RollState, SerialRow, Store,
};

const US: ServerId = ServerId([1; 16]);
const PEER: ServerId = ServerId([2; 16]);

fn claim(second: u8, last: u8, name: &str) -> ClaimRow {
    ClaimRow {
        group: format!("239.{second}.0.{last}").parse().unwrap(),
        content: Content {
            server: Ipv4Addr::new(10, 0, 0, 3),
            file: FileName::new(name.as_bytes()).unwrap(),
        },
        client_port: 3001,
        server_port: 1760,
        server_type: ServerType(0x8001),
        layer: Layer(0),
        item: "item".to_owned(),
        pinned: false,
        state: ClaimState::Held,
        stamp: Stamp { millis: 1, sender: US },
        owner: US,
        since_ms: 1,
    }
}

fn reference(last: u8, binld: ServerId, name: &str) -> ReferenceRow {
    ReferenceRow {
        group: format!("239.255.0.{last}").parse().unwrap(),
        file: FileName::new(name.as_bytes()).unwrap(),
        client_port: 3001,
        server_port: 1760,
        binld,
        address: Ipv4Addr::new(10, 0, 0, 1),
        epoch: BootEpoch(5),
        serial: Serial(6),
        stamp: Stamp { millis: 1, sender: binld },
        since_ms: 1,
        renewed_ms: 1,
    }
}

fn kept(row: &ReferenceRow) -> SerialRow {
    SerialRow { group: row.group, binld: row.binld, epoch: row.epoch, serial: row.serial }
}

fn found(kind: Kind, changes: &[Change]) -> Vec<String> {
    let mut store = Store::in_memory(kind).unwrap();
    store.boot(0, US).unwrap();
    store.apply(changes).unwrap();
    store.check().unwrap()
}

fn of_claims(rows: &[ClaimRow]) -> Vec<String> {
    found(Kind::Binld, &rows.iter().cloned().map(Change::PutClaim).collect::<Vec<_>>())
}

/// With the highest serial of each.
fn of_references(rows: &[ReferenceRow]) -> Vec<String> {
    let put = |row: &ReferenceRow| [Change::PutReference(row.clone()), Change::PutSerial(kept(row))];
    found(Kind::Mtftpd, &rows.iter().flat_map(put).collect::<Vec<_>>())
}

/// That one thing is wrong, and that the sentence names these.
fn one(found: &[String], parts: &[&str]) {
    assert_eq!(found.len(), 1, "{found:?}");
    for part in parts {
        assert!(found[0].contains(part), "{part} in {found:?}");
    }
}

#[test]
fn what_may_be_is_not_reported() {
    let pinned = ClaimRow { pinned: true, ..claim(255, 2, "a") };
    let peers = ClaimRow { owner: PEER, ..claim(255, 1, "a") };
    let moving = ClaimRow { state: ClaimState::Draining, ..claim(255, 3, "a") };
    let asking = ClaimRow { state: ClaimState::Clearing, owner: PEER, ..claim(255, 2, "b") };
    let none: [String; 0] = [];
    assert_eq!(of_claims(&[claim(255, 1, "a"), pinned, peers, moving, asking]), none);
    assert_eq!(of_references(&[reference(1, US, "a"), reference(1, PEER, "a"), reference(2, US, "b")]), none);
    assert_eq!(found(Kind::Binld, &[]), none);
}

#[test]
fn one_address_with_two_contents_is_reported() {
    let theirs = ClaimRow { owner: PEER, ..claim(255, 1, "b") };
    one(&of_claims(&[claim(255, 1, "a"), theirs]), &["239.255.0.1", "10.0.0.3:a", "10.0.0.3:b"]);
    one(&of_references(&[reference(1, US, "a"), reference(1, PEER, "b")]), &["239.255.0.1", "a, b"]);
}

#[test]
fn one_content_with_two_addresses_of_a_kind_is_reported() {
    one(&of_claims(&[claim(255, 1, "a"), claim(255, 2, "a")]), &["dynamic", "239.255.0.1, 239.255.0.2"]);
    one(&of_references(&[reference(1, US, "a"), reference(2, US, "a")]), &["port 1760 and a", "239.255.0.2"]);
}

#[test]
fn addresses_that_ethernet_cannot_tell_apart_are_reported() {
    one(&of_claims(&[claim(255, 1, "a"), claim(127, 1, "b")]), &["239.127.0.1, 239.255.0.1", "7f0001"]);
}

#[test]
fn ports_of_zero_and_differing_ports_are_reported() {
    one(&of_claims(&[ClaimRow { client_port: 0, ..claim(255, 1, "a") }]), &["239.255.0.1", "port"]);
    let other = ReferenceRow { client_port: 3002, ..reference(1, PEER, "a") };
    one(&of_references(&[reference(1, US, "a"), other]), &["3001←1760, 3002←1760"]);
}

#[test]
fn a_reference_without_its_highest_serial_is_reported() {
    let row = reference(1, US, "a");
    let alone = [Change::PutReference(row.clone())];
    one(&found(Kind::Mtftpd, &alone), &["no highest serial"]);
    let lower = SerialRow { epoch: BootEpoch(4), serial: Serial(99), ..kept(&row) };
    one(&found(Kind::Mtftpd, &[Change::PutReference(row.clone()), Change::PutSerial(lower)]), &["above"]);
    one(&of_references(&[ReferenceRow { since_ms: 2, ..row }]), &["renewed before"]);
}

#[test]
fn records_of_the_other_daemon_are_reported() {
    one(&found(Kind::Mtftpd, &[Change::PutClaim(claim(255, 1, "a"))]), &["store of mtftpd has 1 claims"]);
    let row = kept(&reference(1, US, "a"));
    one(&found(Kind::Binld, &[Change::PutSerial(row)]), &["store of binld has 1 serials"]);
}

fn list(version: u32, state: RollState, members: &[ServerId]) -> RollRow {
    let origins = if state == RollState::Pending { Vec::new() } else { vec![[1; 16]] };
    RollRow { version, digest: [3; 16], state, members: members.to_vec(), origins, former: Vec::new() }
}

#[test]
fn lists_that_no_server_can_have_are_reported() {
    let of = |rows: &[RollRow]| found(Kind::Binld, &[Change::SetRoll(rows.to_vec())]);
    let (current, left, pending) = (RollState::Current, RollState::Left, RollState::Pending);
    let none: [String; 0] = [];
    assert_eq!(of(&[list(1, current, &[US, PEER]), list(3, pending, &[US])]), none);
    assert_eq!(of(&[list(1, left, &[US]), list(2, pending, &[US]), list(3, pending, &[PEER])]), none);
    one(&of(&[list(4, current, &[PEER, US])]), &["list 4", "order"]);
    one(&of(&[list(4, current, &[US, US])]), &["list 4", "once"]);
    one(&of(&[RollRow { origins: Vec::new(), ..list(4, current, &[US]) }]), &["list 4", "0 origins"]);
    one(&of(&[RollRow { origins: vec![[1; 16]], ..list(4, pending, &[US]) }]), &["list 4", "1 origins"]);
    one(&of(&[list(4, current, &[US]), list(5, left, &[US])]), &["list 5", "left, and an older one"]);
    one(&of(&[list(4, pending, &[US]), list(5, current, &[US])]), &["list 5", "current, and an older one"]);
}

fn loan(borrower: ServerId, name: &str) -> LoanRow {
    let ClaimRow { group, content, .. } = claim(255, 1, name);
    LoanRow { group, borrower, content, since_ms: 1 }
}

#[test]
fn loans_of_what_we_use_ourselves_are_reported() {
    let of = |row: LoanRow| found(Kind::Binld, &[Change::PutClaim(claim(255, 1, "a")), Change::PutLoan(row)]);
    let none: [String; 0] = [];
    assert_eq!(of(loan(PEER, "a")), none);
    one(&of(loan(US, "a")), &["loan of 239.255.0.1", "itself"]);
    one(&of(loan(PEER, "b")), &["loan of 239.255.0.1", "something else"]);
    let theirs = ClaimRow { owner: PEER, ..claim(255, 1, "b") };
    assert_eq!(found(Kind::Binld, &[Change::PutClaim(theirs), Change::PutLoan(loan(PEER, "b"))]), none);
}

#[test]
fn an_mtftp_server_has_nothing_of_a_domain() {
    let of = |change| found(Kind::Mtftpd, &[change]);
    let lists = Change::SetRoll(vec![list(1, RollState::Current, &[US])]);
    one(&of(lists), &["store of mtftpd has 1 lists of boot servers"]);
    one(&of(Change::PutLoan(loan(PEER, "a"))), &["1 loans"]);
    let legacy = LegacyRow { address: Ipv4Addr::new(10, 0, 0, 1), heard_ms: 1 };
    one(&of(Change::PutLegacy(legacy)), &["1 legacy servers"]);
    let listened = ListenedRow { millis: 1, host_boot: [1; 16] };
    one(&of(Change::SetListened(listened)), &["1 spans of listening"]);
}

fn replica(owner: ServerId, name: &str) -> ReplicaRow {
    let ClaimRow { group, content, client_port, server_port, server_type, layer, stamp, .. } =
        claim(255, 1, name);
    let claim = Claim {
        group,
        content,
        ports: Ports { client: client_port, server: server_port },
        boot_item: BootItem { server_type, layer },
        stamp,
        state: HoldState::Committed,
        pinned: false,
        configured: true,
    };
    ReplicaRow { owner, number: 1, claim, first_ms: 2, changed_ms: 2 }
}

#[test]
fn claims_and_members_that_are_ourselves_are_reported() {
    let none: [String; 0] = [];
    for kind in Kind::ALL {
        let of = |row: ReplicaRow| found(kind, &[Change::PutReplica(Box::new(row))]);
        assert_eq!(of(replica(PEER, "a")), none);
        one(&of(replica(US, "a")), &["239.255.0.1", "is this one"]);
        let mut portless = replica(PEER, "a");
        portless.claim.ports.server = 0;
        one(&of(portless), &["239.255.0.1", "port is 0"]);
        let control = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4016);
        let member = |server| MemberRow { server, kind: None, control, unreachable_ms: None };
        assert_eq!(found(kind, &[Change::PutMember(member(PEER))]), none);
        one(&found(kind, &[Change::PutMember(member(US))]), &["that is this server"]);
    }
    // Two servers may disagree; that is theirs to settle, and shown.
    let disagree = [Change::PutClaim(claim(255, 1, "a")), Change::PutReplica(Box::new(replica(PEER, "b")))];
    assert_eq!(found(Kind::Binld, &disagree), none);
}

#[test]
fn records_without_a_start_are_reported() {
    let mut store = Store::in_memory(Kind::Binld).unwrap();
    store.apply(&[Change::PutClaim(claim(255, 1, "a"))]).unwrap();
    one(&store.check().unwrap(), &["never started"]);
}
