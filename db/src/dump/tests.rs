use std::net::{Ipv4Addr, SocketAddrV4};

use db::{ClaimState, Kind, ListenedRow, MemberRow, ReplicaRow, RollState};
use wire::configure::Ports;
use wire::hold::HoldState;
use wire::pxe::BootItem;
use wire::record::Claim;
use wire::{BootEpoch, Content, FileName, Layer, Serial, ServerId, ServerType};

use super::*;

const US: ServerId = ServerId([0xaa; 16]);
const PEER: ServerId = ServerId([0xbb; 16]);
const T: u64 = 1_795_931_111_000;

fn header(kind: Kind) -> Header {
    Header { kind, server: Some(US), epoch: BootEpoch(1_795_931_000), last_alive_ms: T + 5, schema: 2 }
}

fn claim(address: &str, file: &[u8], item: &str) -> ClaimRow {
    ClaimRow {
        group: address.parse().unwrap(),
        content: Content { server: Ipv4Addr::new(10, 0, 0, 3), file: FileName::new(file).unwrap() },
        client_port: 3001,
        server_port: 1759,
        server_type: ServerType(32769),
        layer: Layer(0),
        item: item.to_owned(),
        pinned: true,
        state: ClaimState::Held,
        stamp: Stamp { millis: T, sender: US },
        owner: US,
        since_ms: T + 500,
    }
}

fn reference(address: &str, binld: ServerId, from: u8) -> ReferenceRow {
    ReferenceRow {
        group: address.parse().unwrap(),
        file: FileName::new(b"debian/initrd.img").unwrap(),
        client_port: 3001,
        server_port: 1759,
        binld,
        address: Ipv4Addr::new(10, 0, 0, from),
        epoch: BootEpoch(8),
        serial: Serial(4),
        stamp: Stamp { millis: T, sender: PEER },
        since_ms: T,
        renewed_ms: T + 60_000,
    }
}

fn lists() -> Vec<RollRow> {
    let list = |version, state, members: &[ServerId]| RollRow {
        version,
        digest: [0xd1; 16],
        state,
        members: members.to_vec(),
        origins: if state == RollState::Current { vec![[0x01; 16], [0x02; 16]] } else { Vec::new() },
        former: if state == RollState::Current { vec![[0x03; 16]] } else { Vec::new() },
    };
    vec![list(4, RollState::Current, &[US, PEER]), list(5, RollState::Pending, &[PEER])]
}

fn loan() -> LoanRow {
    let ClaimRow { group, content, .. } = claim("239.255.8.8", b"lent", "");
    LoanRow { group, borrower: PEER, content, since_ms: T }
}

fn legacy() -> LegacyRow {
    LegacyRow { address: Ipv4Addr::new(10, 0, 0, 77), heard_ms: T }
}

const DEAD: ServerId = ServerId([0xcc; 16]);
const GONE: ServerId = ServerId([0xdd; 16]);

fn replica(address: &str, owner: ServerId, state: HoldState, configured: bool) -> ReplicaRow {
    let ClaimRow { group, content, client_port, server_port, server_type, layer, .. } =
        claim(address, b"shared \x1b", "");
    let claim = Claim {
        group,
        content,
        ports: Ports { client: client_port, server: server_port },
        boot_item: BootItem { server_type, layer },
        stamp: Stamp { millis: T, sender: PEER },
        state,
        pinned: false,
        configured,
    };
    ReplicaRow { owner, number: 7, claim, first_ms: T + 1, changed_ms: T + 2 }
}

/// Of one that lives, one that is missing, one that nobody tells of any more.
fn replicas() -> Vec<ReplicaRow> {
    vec![
        replica("239.255.2.1", PEER, HoldState::Committed, true),
        replica("239.255.2.2", PEER, HoldState::Committed, false),
        replica("239.255.2.3", DEAD, HoldState::Draining, true),
        replica("239.255.2.4", GONE, HoldState::Resting, false),
    ]
}

fn members() -> Vec<MemberRow> {
    let member = |server, last, kind, unreachable_ms| {
        let control = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 4016);
        MemberRow { server, kind, control, unreachable_ms }
    };
    vec![
        member(PEER, 2, Some(Kind::Binld), None),
        member(DEAD, 4, None, Some(T - 1000)),
        member(ServerId([0xee; 16]), 3, Some(Kind::Mtftpd), None),
    ]
}

fn printed(header: &Header, rows: &Rows) -> String {
    let mut out = Vec::new();
    text(&mut out, header, rows, T + 60_000 + LEASE_MS - 1).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_binlds_store_says_who_carries_what_since_when() {
    let draining = ClaimRow {
        state: ClaimState::Draining,
        pinned: false,
        server_port: 1760,
        owner: PEER,
        ..claim("239.255.7.200", b"odd\x1b\xff", "old\x1bitem")
    };
    let rows = Rows {
        claims: vec![claim("239.255.1.1", b"debian/initrd.img", "Debian stable"), draining],
        marks: vec![MarkRow {
            group: "239.255.3.4".parse().unwrap(),
            until_ms: T + 5_000,
            why: "echo from 10.0.0.2".to_owned(),
        }],
        roll: lists(),
        loans: vec![loan()],
        replicas: replicas(),
        members: members(),
        legacy: vec![legacy()],
        listened: Some(ListenedRow { millis: 90_000_000, host_boot: [1; 16] }),
        ..Rows::default()
    };
    assert_eq!(printed(&header(Kind::Binld), &rows), include_str!("binld.txt"));
}

#[test]
fn an_mtftp_servers_store_lists_the_binlds_of_each_address() {
    let rows = Rows {
        references: vec![
            reference("239.255.1.1", US, 1),
            reference("239.255.1.1", PEER, 2),
            ReferenceRow {
                file: FileName::new(b"memtest").unwrap(),
                server_port: 1760,
                ..reference("239.255.3.4", PEER, 2)
            },
        ],
        serials: vec![SerialRow {
            group: "239.255.1.1".parse().unwrap(),
            binld: US,
            epoch: BootEpoch(8),
            serial: Serial(4),
        }],
        rests: vec![RestRow {
            group: "239.255.9.9".parse().unwrap(),
            server: None,
            file: FileName::new(b"gone").unwrap(),
            stamp: Stamp { millis: T, sender: PEER },
            since_ms: T,
        }],
        replicas: replicas(),
        members: members(),
        ..Rows::default()
    };
    assert_eq!(printed(&header(Kind::Mtftpd), &rows), include_str!("mtftpd.txt"));
}

#[test]
fn an_empty_store_is_shown_as_such() {
    let header = Header { server: None, epoch: BootEpoch(0), last_alive_ms: 0, ..header(Kind::Binld) };
    let text = printed(&header, &Rows::default());
    for line in [
        "server id   none yet",
        "last alive  never",
        "claims of the domain: 0",
        "other members of the domain: 0",
        "claims: 0",
        "marks: 0",
        "rests: 0",
        "lists of boot servers: 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}

#[test]
fn records_of_the_other_daemon_are_not_hidden() {
    let rows = Rows { claims: vec![claim("239.255.1.1", b"a", "b")], ..Rows::default() };
    assert!(printed(&header(Kind::Mtftpd), &rows).contains("claims: 1"));
    let rows = Rows { references: vec![reference("239.255.1.1", US, 1)], ..Rows::default() };
    assert!(printed(&header(Kind::Binld), &rows).contains("references: 1"));
    let rows = Rows { roll: lists(), loans: vec![loan()], legacy: vec![legacy()], ..Rows::default() };
    let text = printed(&header(Kind::Mtftpd), &rows);
    for line in ["lists of boot servers: 2", "loans: 1", "legacy servers: 1"] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}

#[test]
fn json_lines_hold_every_record_with_numbers_and_texts() {
    let rows = Rows {
        claims: vec![claim("239.255.1.1", b"a\xff", "item \"x\"\n")],
        references: vec![reference("239.255.1.1", PEER, 2)],
        roll: lists(),
        loans: vec![loan()],
        replicas: replicas(),
        members: members(),
        legacy: vec![legacy()],
        listened: Some(ListenedRow { millis: 1, host_boot: [1; 16] }),
        ..Rows::default()
    };
    let mut out = Vec::new();
    json(&mut out, &header(Kind::Binld), &rows, T).unwrap();
    let lines: Vec<Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines.iter().map(|line| line["record"].as_str().unwrap()).collect::<Vec<_>>(),
        [
            "store",
            "claim",
            "replica",
            "replica",
            "replica",
            "replica",
            "member",
            "member",
            "member",
            "reference",
            "roll",
            "roll",
            "loan",
            "legacy",
            "listened"
        ]
    );
    let (told, lines) = (&lines[2..9], [&lines[..2], &lines[9..]].concat());
    assert_eq!((&told[0]["responsible"], &told[0]["state"]), (&json!("owner"), &json!("held")));
    assert_eq!((&told[0]["owner"], &told[0]["owner_address"]), (&json!("bb".repeat(16)), &json!("10.0.0.2")));
    assert_eq!((&told[0]["file"], &told[1]["state"]), (&json!("shared \\x1b"), &json!("committed")));
    assert_eq!(told[2]["responsible"], "unreachable owner");
    assert_eq!(told[2]["unreachable_since_ms"], T - 1000);
    assert_eq!((&told[3]["responsible"], &told[3]["owner_address"]), (&json!("gone owner"), &Value::Null));
    assert_eq!((&told[6]["record"], &told[6]["kind"]), (&json!("member"), &json!("mtftpd")));
    assert_eq!(lines[7]["listened_ms"], 1);
    assert_eq!(lines[0]["server"], "aa".repeat(16));
    assert_eq!(lines[0]["boot_epoch"], 1_795_931_000);
    assert_eq!(lines[1]["file"], "a\\xff");
    assert_eq!(lines[1]["boot_item"], "item \"x\"\n");
    assert_eq!(lines[1]["since_ms"], T + 500);
    assert_eq!(lines[1]["since_at"], "2026-11-29T05:45:11.500Z");
    assert_eq!(lines[1]["stamp"]["sender"], "aa".repeat(16));
    assert_eq!(lines[2]["binld_address"], "10.0.0.2");
    assert_eq!(lines[2]["renewed_at"], "2026-11-29T05:46:11.000Z");
    assert_eq!((&lines[3]["version"], &lines[3]["state"]), (&json!(4), &json!("current")));
    assert_eq!(lines[3]["members"], json!(["aa".repeat(16), "bb".repeat(16)]));
    assert_eq!(lines[3]["origins"], json!(["01".repeat(16), "02".repeat(16)]));
    assert_eq!(lines[3]["former_origins"], json!(["03".repeat(16)]));
    assert_eq!(lines[4]["digest"], "d1".repeat(16));
    assert_eq!((&lines[5]["file"], &lines[5]["borrower"]), (&json!("lent"), &json!("bb".repeat(16))));
    assert_eq!(lines[6]["server_address"], "10.0.0.77");
    assert_eq!(lines[6]["heard_at"], "2026-11-29T05:45:11.000Z");
}

/// G12: fresh, stale by a hair, by an hour, by days; a renewal from the future is fresh.
#[test]
fn stale_references_are_shown_with_their_age() {
    let renewed = T + 60_000;
    let rows = Rows { references: vec![reference("239.255.1.1", US, 1)], ..Rows::default() };
    let table = [
        (T, None, "  -  "),
        (renewed + LEASE_MS - 1, None, "  -  "),
        (renewed + LEASE_MS, Some(LEASE_MS), "  stale, 5m 00s  "),
        (renewed + 5_460_000, Some(5_460_000), "  stale, 1h 31m  "),
        (renewed + 180_000_000, Some(180_000_000), "  stale, 2d 02h  "),
    ];
    for (now_ms, age, shown) in table {
        let (mut lines, mut tables) = (Vec::new(), Vec::new());
        json(&mut lines, &header(Kind::Mtftpd), &rows, now_ms).unwrap();
        text(&mut tables, &header(Kind::Mtftpd), &rows, now_ms).unwrap();
        let line: Value = serde_json::from_slice(lines.split(|byte| *byte == b'\n').nth(1).unwrap()).unwrap();
        assert_eq!((line["stale"].as_bool(), line["age_ms"].as_u64()), (Some(age.is_some()), age));
        let tables = String::from_utf8(tables).unwrap();
        assert!(tables.contains(shown), "{shown} in\n{tables}");
    }
}
