//! Membership, records and how they travel: kinds 10 to 16.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use wire::contact::{Contact, Relation};
use wire::control::{Envelope, HEADER_LEN, Message, PACKET_LEN_MAX, PAYLOAD_LEN_MAX, TAG_LEN_MAX};
use wire::flood::{
    Acked, FLOOD_ACKS_MAX, FLOOD_LEN_MAX, Flood, FloodAck, SYNC_ENTRIES_MAX, SyncEntry, SyncList,
};
use wire::further::{FURTHER_HEADER_LEN, Further};
use wire::hold::HoldState;
use wire::membership::{Connect, Disconnect, NEIGHBOURS_MAX, Neighbour, Refuse, RefuseReason, Welcome};
use wire::note::{About, Note};
use wire::pxe::BootItem;
use wire::record::{
    Age, BODY_LEN_MAX, Body, Claim, HOLDERS_MAX, Holder, Member, Neighbours, RECORD_HEADER_LEN, ROLL_MAX,
    Record, RecordKind, Reference, Roll, ServerRole, Snum, Uid,
};
use wire::text::Text;
use wire::{
    BootEpoch, Content, DecodeErrorKind, DomainId, EncodeError, FileName, Layer, Serial, ServerId, ServerType,
};

use crate::any;
use crate::control::{
    BINLD, BINLD_EPOCH, MTFTPD, MTFTPD_EPOCH, PORTS, STAMP, any_envelope, file, from_binld, from_mtftpd,
    group, header_and, refusal,
};
use crate::golden::golden;

pub(crate) const THIRD: ServerId = ServerId([
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
]);
const THIRD_EPOCH: BootEpoch = BootEpoch(1_699_999_000);
/// Where the only record of a golden flood begins, where its body does.
const RECORD: usize = 44;
pub(crate) const BODY: usize = RECORD + RECORD_HEADER_LEN;

fn lab() -> DomainId {
    DomainId::of("lab")
}

fn host(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port)
}

fn first() -> Neighbour {
    Neighbour { server: BINLD, control: host(1, 4016) }
}

fn third() -> Neighbour {
    Neighbour { server: THIRD, control: host(3, 4016) }
}

pub(crate) const fn uid(owner: ServerId, kind: RecordKind, number: u64) -> Uid {
    Uid { owner, kind, number }
}

pub(crate) const fn snum(boot_epoch: BootEpoch, counter: u32) -> Snum {
    Snum { boot_epoch, counter }
}

const MEMBER: Uid = uid(BINLD, RecordKind::Member, 1);
const CLAIM: Uid = uid(BINLD, RecordKind::Claim, 0x5eed);
const EVERYTHING: (Uid, Uid) = (Uid::MIN, Uid::MAX);
/// The codes of the kinds of record.
const KINDS: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

fn content() -> Content {
    Content { server: Ipv4Addr::new(10, 0, 0, 9), file: file() }
}

fn member_record() -> Record {
    Record {
        uid: MEMBER,
        snum: snum(BINLD_EPOCH, 3),
        age: Age(0),
        lives: 15,
        body: Body::Member(Member { role: ServerRole::Binld, control: host(1, 4016), roll: 2 }),
    }
}

fn claim_record() -> Record {
    Record {
        uid: CLAIM,
        snum: snum(BINLD_EPOCH, 1),
        age: Age(4),
        lives: 120,
        body: Body::Claim(Claim {
            group: group(),
            content: content(),
            ports: PORTS,
            boot_item: BootItem { server_type: ServerType(0x8007), layer: Layer(1) },
            stamp: STAMP,
            state: HoldState::Committed,
            pinned: false,
            configured: true,
        }),
    }
}

fn reference_record() -> Record {
    let holders = vec![
        Holder { binld: BINLD, boot_epoch: BINLD_EPOCH, serial: Serial(41), stale: false },
        Holder { binld: THIRD, boot_epoch: THIRD_EPOCH, serial: Serial(7), stale: true },
    ];
    Record {
        uid: uid(MTFTPD, RecordKind::Reference, 0x2a),
        snum: snum(MTFTPD_EPOCH, 5),
        age: Age(0),
        lives: 900,
        body: Body::Reference(Reference { group: group(), content: content(), ports: PORTS, holders }),
    }
}

fn domain_record() -> Record {
    Record {
        uid: uid(BINLD, RecordKind::Domain, 0),
        snum: snum(BINLD_EPOCH, 6),
        age: Age(1),
        lives: 600,
        body: Body::Domain(Roll { version: 2, part: 0, parts: 1, members: vec![BINLD, THIRD] }),
    }
}

fn lowest_record() -> Record {
    Record {
        uid: uid(ServerId(lab().0), RecordKind::Lowest, 0),
        snum: snum(BootEpoch(0), 77),
        age: Age(2),
        lives: 15,
        body: Body::Lowest(BINLD),
    }
}

fn further(message: Message) -> Message {
    Message::Further(Further { domain: lab(), message: Box::new(message) })
}

fn any_further() -> impl Strategy<Value = Envelope> {
    let inner = prop_oneof![any_flood_ack(), any_flood(any::note())];
    inner.prop_map(|envelope| Envelope { message: further(envelope.message), ..envelope })
}

fn neighbours_record() -> Record {
    Record {
        uid: uid(BINLD, RecordKind::Neighbours, 0),
        snum: snum(BINLD_EPOCH, 9),
        age: Age(1),
        lives: 60,
        body: Body::Neighbours(Neighbours { prefix_len: 24, servers: vec![MTFTPD, THIRD] }),
    }
}

fn note_record() -> Record {
    Record {
        uid: uid(BINLD, RecordKind::Note, u64::from(BINLD_EPOCH.0) << 32 | 1),
        snum: snum(BINLD_EPOCH, 10),
        age: Age(1),
        lives: 600,
        body: Body::Note(Note {
            written: 1_700_000_123_456,
            about: About::Operator,
            author: Text::new("east").unwrap(),
            words: Text::new("rack 7 is off until noon – Zoë").unwrap(),
        }),
    }
}

fn contact_record() -> Record {
    let [a, b, c, d, e, f, g, h, ..] = lab().0;
    Record {
        uid: uid(BINLD, RecordKind::Contact, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        snum: snum(BINLD_EPOCH, 11),
        age: Age(2),
        lives: 60,
        body: Body::Contact(Contact {
            domain: lab(),
            relation: Relation::Child,
            coordinates: true,
            control: host(1, 4016),
            lowest: THIRD,
            name: Text::new("lab").unwrap(),
        }),
    }
}

fn deleted_record() -> Record {
    Record {
        uid: uid(THIRD, RecordKind::Member, 9),
        snum: snum(THIRD_EPOCH, 12),
        age: Age::DELETED,
        lives: 15,
        body: Body::Member(Member { role: ServerRole::Mtftpd, control: host(3, 4017), roll: 0 }),
    }
}

pub(crate) fn flood(wants_ack: bool, records: Vec<Record>) -> Message {
    Message::Flood(Flood { wants_ack, records })
}

fn any_neighbours(count_max: usize) -> impl Strategy<Value = Vec<Neighbour>> {
    prop::collection::vec(any::neighbour(), 0..=count_max)
}

fn any_refuse() -> impl Strategy<Value = Envelope> {
    let reason = prop::sample::select(vec![RefuseReason::OtherDomain, RefuseReason::Full]);
    any_envelope(
        (any::domain_id(), reason, any_neighbours(NEIGHBOURS_MAX))
            .prop_map(|(domain, reason, neighbours)| Message::Refuse(Refuse { domain, reason, neighbours })),
    )
}

pub(crate) fn any_flood(body: impl Strategy<Value = Body>) -> impl Strategy<Value = Envelope> {
    any_envelope(
        (any::<bool>(), any::record_of(body)).prop_map(|(wants_ack, record)| flood(wants_ack, vec![record])),
    )
}

/// As many records as fit.
fn any_full_flood() -> impl Strategy<Value = Envelope> {
    let records = prop::collection::vec(any::record(), 0..=20).prop_map(|mut records| {
        let mut room = FLOOD_LEN_MAX;
        records.retain(|record| {
            let rest = room.checked_sub(record.encoded_len());
            room = rest.unwrap_or(room);
            rest.is_some()
        });
        records
    });
    any_envelope((any::<bool>(), records).prop_map(|(wants_ack, records)| flood(wants_ack, records)))
}

fn any_flood_ack() -> impl Strategy<Value = Envelope> {
    let acked = (any::uid(), any::snum(), any::<bool>());
    let acked = acked.prop_map(|(uid, snum, useful)| Acked { uid, snum, useful });
    any_envelope(
        prop::collection::vec(acked, 0..=FLOOD_ACKS_MAX)
            .prop_map(|acked| Message::FloodAck(FloodAck { lazy: acked.len() % 2 == 0, acked })),
    )
}

fn any_sync_list() -> impl Strategy<Value = Envelope> {
    let entry = (any::snum(), any::age());
    let entries = prop::collection::btree_map(any::uid(), entry, 2..=SYNC_ENTRIES_MAX);
    any_envelope((any::<bool>(), entries, any::<bool>()).prop_map(|(wants_list, entries, is_tight)| {
        let entry = |(uid, (snum, age))| SyncEntry { uid, snum, age };
        let entries: Vec<_> = entries.into_iter().map(entry).collect();
        let tight = (entries[0].uid, entries[entries.len() - 1].uid);
        let (first, last) = if is_tight { tight } else { EVERYTHING };
        Message::SyncList(SyncList { wants_list, first, last, entries })
    }))
}

five_tests!(
    connect,
    from_binld(12, Message::Connect(Connect { domain: lab(), wants_list: true })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[(58, "flags of a connect", &[0, 1], Some(DecodeErrorKind::Value))]),
    any: any_envelope((any::domain_id(), any::<bool>()).prop_map(|(domain, wants_list)| {
        Message::Connect(Connect { domain, wants_list })
    })),
);

five_tests!(
    welcome,
    from_mtftpd(106, Message::Welcome(Welcome { domain: lab() })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]),
    any: any_envelope(any::domain_id().prop_map(|domain| Message::Welcome(Welcome { domain }))),
);

five_tests!(
    refuse,
    from_mtftpd(107, Message::Refuse(Refuse {
        domain: lab(),
        reason: RefuseReason::Full,
        neighbours: vec![first(), third()],
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[(58, "reason of a refusal", &[1, 2], Some(DecodeErrorKind::Code))]),
    any: any_refuse(),
);

five_tests!(
    disconnect,
    from_binld(13, Message::Disconnect(Disconnect { stays: true, neighbour: Some(third()) })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (42, "flags of a disconnect", &[0, 1], Some(DecodeErrorKind::Value)),
        (43, "neighbours", &[0, 1], Some(DecodeErrorKind::Value)),
    ]),
    any: any_envelope((any::<bool>(), prop::option::of(any::neighbour())).prop_map(|(stays, neighbour)| {
        Message::Disconnect(Disconnect { stays, neighbour })
    })),
);

five_tests!(
    sync_list,
    from_binld(14, Message::SyncList(SyncList {
        wants_list: true,
        first: EVERYTHING.0,
        last: EVERYTHING.1,
        entries: vec![
            SyncEntry { uid: MEMBER, snum: snum(BINLD_EPOCH, 3), age: Age(4) },
            SyncEntry { uid: CLAIM, snum: snum(BINLD_EPOCH, 2), age: Age::DELETED },
        ],
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (42, "flags of a sync list", &[0, 1], Some(DecodeErrorKind::Value)),
        (59, "record kind", &KINDS, Some(DecodeErrorKind::Code)),
        (84, "record kind", &KINDS, Some(DecodeErrorKind::Code)),
        (110, "record kind", &KINDS, Some(DecodeErrorKind::Code)),
    ]),
    any: any_sync_list(),
);

five_tests!(
    flood_member, from_binld(15, flood(false, vec![member_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (42, "flags of a flood", &[0, 1], Some(DecodeErrorKind::Value)),
        (60, "record kind", &KINDS, Some(DecodeErrorKind::Code)),
    ]),
    any: any_flood(any::member()),
);

five_tests!(
    flood_claim, from_binld(16, flood(true, vec![claim_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_flood(any::claim()),
);

five_tests!(
    flood_reference, from_mtftpd(108, flood(true, vec![reference_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_flood(any::reference()),
);

five_tests!(
    flood_domain, from_binld(17, flood(true, vec![domain_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_flood(any::roll()),
);

five_tests!(
    flood_neighbours, from_binld(22, flood(true, vec![neighbours_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_flood(any::neighbours()),
);

five_tests!(
    flood_note, from_binld(23, flood(true, vec![note_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_flood(any::note()),
);

five_tests!(
    flood_contact, from_binld(24, flood(true, vec![contact_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_flood(any::contact()),
);

five_tests!(
    further_connect,
    from_binld(25, further(Message::Connect(Connect { domain: lab(), wants_list: true }))),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (58, "kind of a further domain's message", &[7, 10, 11, 12, 13, 14, 15, 16], Some(DecodeErrorKind::Value)),
        (75, "flags of a connect", &[0, 1], Some(DecodeErrorKind::Value)),
    ]),
    any: any_further(),
);

five_tests!(
    flood_lowest,
    from_mtftpd(109, flood(true, vec![lowest_record(), deleted_record()])),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_full_flood(),
);

five_tests!(
    flood_ack,
    from_mtftpd(110, Message::FloodAck(FloodAck {
        lazy: true,
        acked: vec![
            Acked { uid: CLAIM, snum: snum(BINLD_EPOCH, 1), useful: true },
            Acked { uid: MEMBER, snum: snum(BINLD_EPOCH, 3), useful: false },
        ],
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (42, "flags of a flood ack", &[0, 1], Some(DecodeErrorKind::Value)),
        (60, "record kind", &KINDS, Some(DecodeErrorKind::Code)),
        (77, "flags of an acknowledgement", &[0, 1], Some(DecodeErrorKind::Value)),
        (111, "flags of an acknowledgement", &[0, 1], Some(DecodeErrorKind::Value)),
    ]),
    any: any_flood_ack(),
);

/// Makes the checksums of all whole records of a flood right, as PROTOCOL.md has it. Nothing happens to other bytes.
pub(crate) fn seal(packet: &mut [u8]) {
    let Some((header, mut rest)) = packet.split_at_mut_checked(RECORD) else { return };
    while let Some(record) = rest.get(..RECORD_HEADER_LEN).filter(|_| header[5] == 15) {
        let len = RECORD_HEADER_LEN + usize::from(u16::from_be_bytes([record[53], record[54]]));
        let Some((record, behind)) = rest.split_at_mut_checked(len) else { return };
        let hash = blake3::hash(&[&record[..33], &record[35..37], &record[53..]].concat());
        record[37..53].copy_from_slice(&hash.as_bytes()[..16]);
        rest = behind;
    }
}

/// As [`refusal`], of a golden flood whose checksums are made right again.
pub(crate) fn sealed_refusal(
    name: &str,
    offset: usize,
    bytes: &[u8],
) -> (&'static str, usize, DecodeErrorKind) {
    let mut packet = golden(name);
    packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    seal(&mut packet);
    let error = Envelope::decode(&packet).unwrap_err();
    (error.what, error.offset, error.kind)
}

#[test]
fn a_domain_is_named_by_the_hash_of_its_name() {
    // BLAKE3 of "GROUP" and the name, the first half.
    for (name, id) in [
        ("lab", "f5aa94713b1b1539343793f4427facfe"),
        ("", "4c4a044c377bb9c03a327dbaa9e54825"),
        ("Halle 2 · Prüffeld", "c884cbccbbd021a489886af816982dbd"),
    ] {
        assert_eq!(DomainId::of(name).to_string(), id, "{name}");
    }
}

#[test]
fn no_bit_of_a_record_but_its_age_may_change() {
    let names = [
        "flood_member",
        "flood_claim",
        "flood_reference",
        "flood_domain",
        "flood_responder",
        "flood_neighbours",
        "flood_note",
        "flood_contact",
    ];
    for name in names {
        let there = golden(name);
        for at in RECORD..there.len() {
            for bit in 0..8 {
                let mut packet = there.clone();
                packet[at] ^= 1 << bit;
                let read = Envelope::decode(&packet);
                match at - RECORD {
                    33..35 => assert!(read.is_ok(), "{name}: age"),
                    // The kind is known before, the length tells where the record ends.
                    16 | 53..55 => assert!(read.is_err(), "{name}: byte {at}"),
                    _ => {
                        let error = read.unwrap_err();
                        let told = (error.what, error.offset, error.kind);
                        assert_eq!(told, ("checksum", RECORD + 37, DecodeErrorKind::Value), "{name}: {at}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_age_of_a_copy_is_not_in_its_checksum() {
    let record = claim_record();
    let older = Record { age: Age(77), ..record.clone() };
    assert_eq!(record.checksum(), older.checksum());
    let shorter = Record { lives: 119, ..record.clone() };
    assert_ne!(record.checksum(), shorter.checksum());
    let packet = golden("flood_claim");
    assert_eq!(record.checksum().0, packet[RECORD + 37..RECORD + 53]);
    // By the text of PROTOCOL.md, in other words.
    for name in ["flood_member", "flood_claim", "flood_reference", "flood_domain", "flood_lowest"] {
        let mut packet = golden(name);
        packet[RECORD + 37] ^= 1;
        seal(&mut packet);
        assert_eq!(packet, golden(name), "{name}");
    }
}

#[test]
fn a_record_with_a_right_checksum_and_a_wrong_body_is_refused() {
    use DecodeErrorKind::{Address, Code, Text, Truncated, Value};
    let wrong = |name, at: usize, bytes: &[u8]| {
        let (what, offset, kind) = sealed_refusal(name, BODY + at, bytes);
        (what, offset - BODY, kind)
    };
    assert_eq!(wrong("flood_member", 0, &[3]), ("role", 0, Code));
    assert_eq!(wrong("flood_member", 1, &[0; 4]), ("address of a server", 1, Address));
    assert_eq!(wrong("flood_member", 1, &[239, 1, 2, 3]), ("address of a server", 1, Address));
    assert_eq!(wrong("flood_member", 5, &[0; 2]), ("port of a server", 5, Value));
    assert_eq!(wrong("flood_claim", 0, &[10, 0, 0, 1]), ("group address", 0, Address));
    assert_eq!(wrong("flood_claim", 4, &[255; 4]), ("MTFTP server", 4, Address));
    assert_eq!(wrong("flood_claim", 40, &[0]), ("state", 40, Code));
    assert_eq!(wrong("flood_claim", 41, &[4]), ("flags of a claim", 41, Value));
    assert_eq!(wrong("flood_claim", 43, &[0]), ("file", 43, Text));
    assert_eq!(wrong("flood_claim", 42, &[16]), ("file", 43, Truncated));
    assert_eq!(wrong("flood_reference", 0, &[240, 0, 0, 0]), ("group address", 0, Address));
    assert_eq!(wrong("flood_reference", 4, &[0; 4]), ("MTFTP server", 4, Address));
    assert_eq!(wrong("flood_reference", 28, &[29]), ("holders", 28, Value));
    assert_eq!(wrong("flood_reference", 28, &[3]), ("holder", 79, Truncated));
    assert_eq!(wrong("flood_reference", 53, &[2]), ("flags of a holder", 53, Value));
    assert_eq!(wrong("flood_domain", 4, &[1, 1]), ("part of a roll", 4, Value));
    assert_eq!(wrong("flood_domain", 4, &[0, 0]), ("part of a roll", 4, Value));
    assert_eq!(wrong("flood_domain", 6, &[73]), ("members of a roll", 6, Value));
    assert_eq!(wrong("flood_domain", 6, &[1]), ("body of a record", 23, DecodeErrorKind::Trailing));
    assert_eq!(wrong("flood_neighbours", 0, &[33]), ("length of a prefix", 0, Value));
    assert_eq!(wrong("flood_neighbours", 1, &[17]), ("neighbours of a server", 1, Value));
    assert_eq!(wrong("flood_neighbours", 1, &[3]), ("neighbour", 34, Truncated));
    assert_eq!(wrong("flood_note", 8, &[10]), ("what a note is about", 8, Code));
    assert_eq!(wrong("flood_note", 9, &[0, 65]), ("author of a note", 9, DecodeErrorKind::Length));
    assert_eq!(wrong("flood_note", 15, &[1, 145]), ("words of a note", 15, DecodeErrorKind::Length));
    assert_eq!(wrong("flood_note", 15, &[1, 144]), ("words of a note", 17, Truncated));
    assert_eq!(wrong("flood_contact", 16, &[3]), ("relation of a domain", 16, Code));
    assert_eq!(wrong("flood_contact", 17, &[2]), ("flags of a contact", 17, Value));
    assert_eq!(wrong("flood_contact", 18, &[239]), ("address of a server", 18, Address));
    assert_eq!(wrong("flood_contact", 40, &[0, 65]), ("name of a domain", 40, DecodeErrorKind::Length));
    // Records that are not what their name says.
    assert_eq!(sealed_refusal("flood_member", RECORD + 16, &[5]), ("lowest id", BODY, Truncated));
    assert_eq!(
        sealed_refusal("flood_claim", RECORD + 16, &[5]),
        ("body of a record", BODY + 16, DecodeErrorKind::Trailing)
    );
}

#[test]
fn the_lowest_id_belongs_to_no_boot_epoch() {
    let mut record = lowest_record();
    record.snum.boot_epoch = BootEpoch(1);
    let Err(EncodeError::Refused(error)) = record.check() else { panic!("{:?}", record.check()) };
    assert_eq!((error.what, error.offset), ("boot epoch of a record", 25));
    let packet = from_binld(1, flood(true, vec![record])).encode();
    let error = Envelope::decode(&packet).unwrap_err();
    assert_eq!(
        (error.what, error.offset, error.kind),
        ("boot epoch of a record", 69, DecodeErrorKind::Value)
    );
}

#[test]
fn the_body_of_a_record_fills_its_length() {
    let mut packet = golden("flood_member");
    packet.push(0);
    packet[BODY - 1] += 1;
    packet[41] += 1;
    seal(&mut packet);
    let error = Envelope::decode(&packet).unwrap_err();
    let expected = ("body of a record", BODY + 11, DecodeErrorKind::Trailing);
    assert_eq!((error.what, error.offset, error.kind), expected);
}

#[test]
fn a_flood_has_as_many_records_as_it_says() {
    assert_eq!(refusal("flood_lowest", 43, &[3]), ("owner", 181, DecodeErrorKind::Truncated));
    assert_eq!(refusal("flood_lowest", 43, &[1]), ("payload", 115, DecodeErrorKind::Trailing));
}

#[test]
fn a_list_says_no_more_than_it_may() {
    assert_eq!(refusal("refuse", 59, &[33]), ("neighbours", 59, DecodeErrorKind::Value));
    assert_eq!(refusal("refuse", 59, &[3]).2, DecodeErrorKind::Truncated);
    assert_eq!(refusal("sync_list", 93, &[36]), ("entries of a sync list", 93, DecodeErrorKind::Value));
    assert_eq!(refusal("sync_list", 93, &[3]).2, DecodeErrorKind::Truncated);
    assert_eq!(refusal("flood_ack", 43, &[37]), ("acknowledged records", 43, DecodeErrorKind::Value));
    assert_eq!(refusal("flood_ack", 43, &[1]), ("payload", 78, DecodeErrorKind::Trailing));
}

#[test]
fn a_neighbour_can_be_reached() {
    for name in ["refuse", "disconnect"] {
        let at = golden(name).len() - 6;
        let told = ("address of a server", at, DecodeErrorKind::Address);
        for address in [[0, 0, 0, 0], [239, 255, 7, 42], [255, 255, 255, 255]] {
            assert_eq!(refusal(name, at, &address), told, "{name}");
        }
        assert_eq!(refusal(name, at + 4, &[0; 2]), ("port of a server", at + 4, DecodeErrorKind::Value));
    }
}

#[test]
fn a_sync_list_is_in_order() {
    let out_of_order = ("order of a sync list", 93, DecodeErrorKind::Value);
    // The first entry becomes the second's equal, then greater.
    assert_eq!(refusal("sync_list", 110, &[2, 0, 0, 0, 0, 0, 0, 0x5e, 0xed]), out_of_order);
    assert_eq!(refusal("sync_list", 110, &[2, 0, 0, 0, 0, 0, 0, 0x5e, 0xee]), out_of_order);
    assert_eq!(refusal("sync_list", 94, &[0x11]), out_of_order);
}

#[test]
fn a_sync_list_keeps_to_its_stretch() {
    let stretch = ("stretch of a sync list", 43, DecodeErrorKind::Value);
    let mut packet = golden("sync_list");
    let (first, last) = (packet[43..68].to_vec(), packet[68..93].to_vec());
    packet[43..68].copy_from_slice(&last);
    packet[68..93].copy_from_slice(&first);
    let error = Envelope::decode(&packet).unwrap_err();
    assert_eq!((error.what, error.offset, error.kind), stretch);
    // A stretch that begins behind the first entry, one that ends before the second.
    let outside = |at| ("entry of a sync list", at, DecodeErrorKind::Value);
    let (first, second) = (packet_uid("sync_list", 94), packet_uid("sync_list", 129));
    assert_eq!(refusal("sync_list", 43, &second), outside(94));
    assert_eq!(refusal("sync_list", 68, &first), outside(129));
    // Both ends belong to it.
    let mut packet = golden("sync_list");
    packet[43..68].copy_from_slice(&first);
    packet[68..93].copy_from_slice(&second);
    assert!(Envelope::decode(&packet).is_ok());
}

/// The bytes of a UID in a golden packet.
fn packet_uid(name: &str, at: usize) -> Vec<u8> {
    golden(name)[at..at + 25].to_vec()
}

fn longest_name() -> FileName {
    FileName::new(&[b'x'; 255]).unwrap()
}

fn holders(count: usize) -> Body {
    let holder = Holder { binld: BINLD, boot_epoch: BINLD_EPOCH, serial: Serial(1), stale: true };
    let content = Content { file: longest_name(), ..content() };
    Body::Reference(Reference { group: group(), content, ports: PORTS, holders: vec![holder; count] })
}

fn roll(count: usize) -> Body {
    Body::Domain(Roll { version: 1, part: 0, parts: 1, members: vec![THIRD; count] })
}

pub(crate) fn with_body(body: Body) -> Record {
    Record { uid: Uid { kind: body.kind(), ..MEMBER }, body, ..member_record() }
}

#[test]
fn the_largest_records_fit_a_flood_of_their_own() {
    for (body, len) in [(holders(HOLDERS_MAX), 969), (roll(ROLL_MAX), 1159)] {
        let record = with_body(body);
        assert_eq!(record.check(), Ok(()));
        assert_eq!(record.encoded_len(), RECORD_HEADER_LEN + len);
        assert!(len <= BODY_LEN_MAX && record.encoded_len() <= FLOOD_LEN_MAX);
        let envelope = from_binld(1, flood(true, vec![record]));
        let bytes = envelope.encode();
        assert!(bytes.len() + TAG_LEN_MAX <= PACKET_LEN_MAX);
        assert_eq!(Envelope::decode(&bytes), Ok(envelope));
    }
}

#[test]
fn a_list_over_its_limit_is_no_record() {
    let error = EncodeError::Size { what: "holders", size: 29 * 25, size_max: 28 * 25 };
    assert_eq!(with_body(holders(HOLDERS_MAX + 1)).check(), Err(error));
    assert_eq!(error.to_string(), "holders does not fit: 725 bytes, at most 700");
    let error = EncodeError::Size { what: "members of a roll", size: 73 * 16, size_max: 72 * 16 };
    assert_eq!(with_body(roll(ROLL_MAX + 1)).check(), Err(error));
}

#[test]
fn what_others_would_refuse_is_no_record() {
    let refused = |record: &Record| match record.check() {
        Err(EncodeError::Refused(error)) => error.what,
        other => panic!("{record:?}: {other:?}"),
    };
    let other_kind = Record { uid: CLAIM, ..member_record() };
    assert_eq!(refused(&other_kind), "record kind");
    // A claim and a reference can be as long as each other.
    let other_kind = Record { uid: Uid { kind: RecordKind::Reference, ..CLAIM }, ..claim_record() };
    assert_eq!(refused(&other_kind), "record kind");
    let nowhere = Member { role: ServerRole::Binld, control: host(1, 0), roll: 0 };
    assert_eq!(refused(&with_body(Body::Member(nowhere))), "port of a server");
    let nobody = SocketAddrV4::new(group().ip(), 4016);
    let nobody = Member { role: ServerRole::Binld, control: nobody, roll: 0 };
    assert_eq!(refused(&with_body(Body::Member(nobody))), "address of a server");
    let part = Roll { version: 1, part: 2, parts: 2, members: vec![] };
    assert_eq!(refused(&with_body(Body::Domain(part))), "part of a roll");
    assert!(other_kind.check().unwrap_err().to_string().starts_with("nobody would take it: record kind"));
}

/// What is written of `message`, read again.
pub(crate) fn said(message: Message) -> Message {
    let bytes = from_binld(1, message).encode();
    assert!(bytes.len() <= HEADER_LEN + PAYLOAD_LEN_MAX, "{} bytes", bytes.len());
    Envelope::decode(&bytes).unwrap().message
}

#[test]
fn the_largest_messages_leave_room_for_a_signature() {
    let acked = vec![Acked { uid: CLAIM, snum: snum(BINLD_EPOCH, 1), useful: true }; FLOOD_ACKS_MAX];
    let acked = Message::FloodAck(FloodAck { lazy: false, acked });
    assert_eq!(said(acked.clone()), acked);
    let neighbours = vec![third(); NEIGHBOURS_MAX];
    let refuse = Message::Refuse(Refuse { domain: lab(), reason: RefuseReason::Full, neighbours });
    assert_eq!(said(refuse.clone()), refuse);
    let list = Message::SyncList(sync_list(SYNC_ENTRIES_MAX));
    assert_eq!(said(list.clone()), list);
    // A flood that is full to the last byte.
    let room = FLOOD_LEN_MAX - with_body(roll(ROLL_MAX - 16)).encoded_len();
    let name = FileName::new(&vec![b'x'; room - claim_record().encoded_len() + file().as_bytes().len()]);
    let Body::Claim(claim) = claim_record().body else { panic!("a claim") };
    let content = Content { file: name.unwrap(), ..content() };
    let claim = with_body(Body::Claim(Claim { content, ..claim }));
    let records = vec![with_body(roll(ROLL_MAX - 16)), claim];
    assert_eq!(records.iter().map(Record::encoded_len).sum::<usize>(), FLOOD_LEN_MAX);
    let full = from_binld(1, flood(true, records));
    assert_eq!(full.encode().len() + TAG_LEN_MAX + FURTHER_HEADER_LEN, PACKET_LEN_MAX);
    assert_eq!(Envelope::decode(&full.encode()), Ok(full.clone()));
    let further = from_binld(1, further(full.message));
    assert_eq!(further.encode().len() + TAG_LEN_MAX, PACKET_LEN_MAX);
    assert_eq!(Envelope::decode(&further.encode()), Ok(further));
}

fn sync_list(count: usize) -> SyncList {
    let entry = |number| {
        let uid = uid(BINLD, RecordKind::Claim, u64::try_from(number).unwrap());
        SyncEntry { uid, snum: snum(BINLD_EPOCH, 1), age: Age(1) }
    };
    let (first, last) = EVERYTHING;
    SyncList { wants_list: false, first, last, entries: (0..count).map(entry).collect() }
}

#[test]
fn what_is_over_a_limit_is_not_written() {
    for over in [1, 200, 1000] {
        let acked = Acked { uid: CLAIM, snum: snum(BINLD_EPOCH, 1), useful: true };
        let many = Message::FloodAck(FloodAck { lazy: false, acked: vec![acked; FLOOD_ACKS_MAX + over] });
        let most = Message::FloodAck(FloodAck { lazy: false, acked: vec![acked; FLOOD_ACKS_MAX] });
        assert_eq!(said(many), most);

        let refuse = |count| {
            let (domain, reason) = (lab(), RefuseReason::OtherDomain);
            Message::Refuse(Refuse { domain, reason, neighbours: vec![third(); count] })
        };
        assert_eq!(said(refuse(NEIGHBOURS_MAX + over)), refuse(NEIGHBOURS_MAX));

        let one = |body| flood(false, vec![with_body(body)]);
        assert_eq!(said(one(holders(HOLDERS_MAX + over))), one(holders(HOLDERS_MAX)));
        assert_eq!(said(one(roll(ROLL_MAX + over))), one(roll(ROLL_MAX)));

        // 19 members of 66 bytes.
        let many = flood(true, vec![member_record(); 19 + over]);
        assert_eq!(said(many), flood(true, vec![member_record(); 19]));
    }
}

#[test]
fn a_sync_list_over_its_limit_ends_sooner() {
    // What it does not name is outside its stretch: or else it said that the sender has nothing there.
    for over in [1, 300] {
        let Message::SyncList(list) = said(Message::SyncList(sync_list(SYNC_ENTRIES_MAX + over))) else {
            panic!("a sync list")
        };
        let full = sync_list(SYNC_ENTRIES_MAX);
        assert_eq!(list.last, full.entries[SYNC_ENTRIES_MAX - 1].uid);
        assert_eq!(list, SyncList { last: list.last, ..full });
    }
}

#[test]
fn an_overlong_flood_is_refused() {
    // 20 members are more than a flood may be, and less than a datagram.
    let many = from_binld(1, flood(true, vec![member_record(); 19])).encode();
    let mut packet = [many.as_slice(), &golden("flood_member")[RECORD..]].concat();
    assert!(packet.len() <= PACKET_LEN_MAX);
    packet[43] += 1;
    let len = u16::try_from(packet.len() - HEADER_LEN).unwrap();
    packet[40..42].copy_from_slice(&len.to_be_bytes());
    let error = Envelope::decode(&packet).unwrap_err();
    assert_eq!((error.what, error.offset, error.kind), ("records", 43, DecodeErrorKind::Length));
}

#[test]
fn records_are_in_the_order_of_their_bytes() {
    let uids = [
        MEMBER,
        uid(BINLD, RecordKind::Member, 256),
        CLAIM,
        uid(BINLD, RecordKind::Reference, 0),
        uid(BINLD, RecordKind::Domain, 0),
        uid(BINLD, RecordKind::Lowest, 0),
        uid(BINLD, RecordKind::Responder, 0),
        uid(BINLD, RecordKind::Neighbours, 0),
        uid(BINLD, RecordKind::Note, 0),
        uid(BINLD, RecordKind::Contact, 0),
        uid(THIRD, RecordKind::Member, 0),
    ];
    assert!(uids.is_sorted());
    let entries = uids.map(|uid| SyncEntry { uid, snum: snum(BINLD_EPOCH, 1), age: Age(1) });
    let (first, last) = EVERYTHING;
    let list = SyncList { wants_list: false, first, last, entries: entries.to_vec() };
    let packet = from_binld(1, Message::SyncList(list)).encode();
    let written: Vec<_> = packet[94..].chunks(35).map(|entry| entry[..25].to_vec()).collect();
    assert_eq!(written.len(), uids.len());
    assert!(written.is_sorted());
}

#[test]
fn the_newer_copy_is_the_greater() {
    assert!(snum(BootEpoch(2), 0) > snum(BootEpoch(1), u32::MAX));
    assert!(snum(BootEpoch(2), 1) > snum(BootEpoch(2), 0));
    assert!(Age::DELETED > Age(u16::MAX - 1));
}

proptest! {
    #[test]
    fn what_may_be_sent_arrives(record in any::record()) {
        prop_assert_eq!(record.check(), Ok(()));
        prop_assert!(record.encoded_len() <= FLOOD_LEN_MAX);
        let message = flood(true, vec![record.clone()]);
        prop_assert_eq!(said(message.clone()), message);
        // One that cannot be sent does not arrive as something else.
        for kind in [RecordKind::Member, RecordKind::Claim, RecordKind::Lowest, RecordKind::Responder] {
            let other = Record { uid: Uid { kind, ..record.uid }, ..record.clone() };
            prop_assert_eq!(other.check().is_ok(), kind == record.uid.kind);
        }
    }
}
