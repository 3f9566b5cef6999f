//! The responder election: kinds 22 to 24, and the record that tells which shards a boot server answers.

use proptest::prelude::*;
use wire::control::{Envelope, HEADER_LEN, Message, PACKET_LEN_MAX, TAG_LEN_MAX};
use wire::elect::{
    DECLARED_MAX, Declare, HEARD_MAX, HeardOf, Inquiry, REVOKED_MAX, Responder, Revoke, Revoked, SHARDS,
    Shard, TYPES_MAX, Term, WEIGHT_MAX,
};
use wire::flood::FLOOD_LEN_MAX;
use wire::record::{Age, BODY_LEN_MAX, Body, RECORD_HEADER_LEN, Record, RecordKind};
use wire::{DecodeErrorKind, ServerId, ServerType};

use crate::any;
use crate::control::{BINLD, BINLD_EPOCH, any_envelope, from_binld, header_and, refusal};
use crate::domain::{BODY, THIRD, any_flood, flood, said, sealed_refusal, snum, uid, with_body};
use crate::golden::golden;

const FOURTH: ServerId = ServerId([
    0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f,
]);
const HEARD: [HeardOf; 2] = [
    HeardOf { server: THIRD, count: 1204, ago_ms: 57, delay_ms: 2 },
    HeardOf { server: FOURTH, count: 9, ago_ms: u16::MAX, delay_ms: 0 },
];
const FIRST: Term = Term { epoch: 4, index: 123_456_789 };
/// Odd: for the time being.
const SECOND: Term = Term { epoch: 7, index: 2_000_000_001 };

fn shard(number: u8) -> Shard {
    Shard::new(number).unwrap()
}

fn shards() -> Vec<(Shard, Term)> {
    vec![(shard(0), FIRST), (shard(127), SECOND)]
}

fn revoked() -> Vec<Revoked> {
    vec![
        Revoked {
            shard: shard(0),
            term: Term { epoch: 6, ..FIRST },
            revoked: Term { epoch: 4, index: 3_333_333_333 },
        },
        Revoked {
            shard: shard(127),
            term: Term { epoch: 8, ..SECOND },
            revoked: Term { epoch: 5, index: 7 },
        },
    ]
}

fn responder_record() -> Record {
    let types = vec![ServerType(0x8007), ServerType(15)];
    Record {
        uid: uid(BINLD, RecordKind::Responder, 0),
        snum: snum(BINLD_EPOCH, 9),
        age: Age(1),
        lives: 15,
        body: Body::Responder(Responder { weight: 4, types, shards: shards() }),
    }
}

/// The values of a byte up to `last`.
fn up_to(last: u8) -> &'static [u8] {
    (0..=last).collect::<Vec<_>>().leak()
}

fn any_inquiry() -> impl Strategy<Value = Envelope> {
    let heard = prop::collection::vec(any::heard_of(), 0..=HEARD_MAX);
    any_envelope(
        (any::<bool>(), any::<u32>(), heard)
            .prop_map(|(urgent, count, heard)| Message::Inquiry(Inquiry { urgent, count, heard })),
    )
}

fn any_declare() -> impl Strategy<Value = Envelope> {
    any_envelope(any::terms().prop_map(|shards| Message::Declare(Declare { shards })))
}

fn any_revoke() -> impl Strategy<Value = Envelope> {
    let shards = prop::collection::vec(any::revoked(), 0..=REVOKED_MAX);
    any_envelope(
        (any::server_id(), shards).prop_map(|(revoked, shards)| Message::Revoke(Revoke { revoked, shards })),
    )
}

five_tests!(
    inquiry,
    from_binld(18, Message::Inquiry(Inquiry { urgent: true, count: 517, heard: HEARD.to_vec() })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (42, "flags of an inquiry", &[0, 1], Some(DecodeErrorKind::Value)),
        (47, "servers heard", up_to(32), Some(DecodeErrorKind::Value)),
    ]),
    any: any_inquiry(),
);

five_tests!(
    declare, from_binld(19, Message::Declare(Declare { shards: shards() })), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (42, "shards", up_to(128), Some(DecodeErrorKind::Value)),
        (43, "shard", up_to(127), Some(DecodeErrorKind::Value)),
        (52, "shard", up_to(127), Some(DecodeErrorKind::Value)),
    ]),
    any: any_declare(),
);

five_tests!(
    revoke,
    from_binld(20, Message::Revoke(Revoke { revoked: THIRD, shards: revoked() })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (58, "shards", up_to(64), Some(DecodeErrorKind::Value)),
        (59, "shard", up_to(127), Some(DecodeErrorKind::Value)),
        (76, "shard", up_to(127), Some(DecodeErrorKind::Value)),
    ]),
    any: any_revoke(),
);

// What its body may not say is refused behind the checksum: below.
five_tests!(
    flood_responder, from_binld(21, flood(true, vec![responder_record()])), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_flood(any::responder()),
);

#[test]
fn there_are_128_shards() {
    assert_eq!(Shard::all().map(Shard::number).collect::<Vec<_>>(), up_to(127));
    for number in 0..=255 {
        let expected = (number < SHARDS).then_some(number);
        assert_eq!(Shard::new(number).map(Shard::number), expected);
        // The last bits of a hash.
        assert_eq!(Shard::of_hash(0x0123_4567_89ab_cd00 | u64::from(number)).number(), number & 127);
    }
    assert_eq!(shard(127).to_string(), "127");
}

#[test]
fn no_message_tells_of_other_shards_or_too_many() {
    use DecodeErrorKind::{Trailing, Truncated, Value};
    assert_eq!(refusal("inquiry", 42, &[2]), ("flags of an inquiry", 42, Value));
    assert_eq!(refusal("inquiry", 47, &[33]), ("servers heard", 47, Value));
    assert_eq!(refusal("inquiry", 47, &[32]), ("server heard", 94, Truncated));
    assert_eq!(refusal("inquiry", 47, &[1]), ("payload", 71, Trailing));
    assert_eq!(refusal("declare", 42, &[129]), ("shards", 42, Value));
    assert_eq!(refusal("declare", 42, &[128]), ("shard", 61, Truncated));
    assert_eq!(refusal("declare", 42, &[1]), ("payload", 52, Trailing));
    assert_eq!(refusal("declare", 52, &[128]), ("shard", 52, Value));
    assert_eq!(refusal("revoke", 58, &[65]), ("shards", 58, Value));
    assert_eq!(refusal("revoke", 58, &[64]), ("shard", 93, Truncated));
    assert_eq!(refusal("revoke", 58, &[1]), ("payload", 76, Trailing));
    assert_eq!(refusal("revoke", 76, &[128]), ("shard", 76, Value));
}

#[test]
fn no_record_tells_of_other_shards_or_too_many_or_of_too_much_weight() {
    use DecodeErrorKind::{Trailing, Truncated, Value};
    let wrong = |at: usize, bytes: &[u8]| {
        let (what, offset, kind) = sealed_refusal("flood_responder", BODY + at, bytes);
        (what, offset - BODY, kind)
    };
    assert_eq!(wrong(0, &[17]), ("weight", 0, Value));
    assert_eq!(wrong(1, &[21]), ("server types", 1, Value));
    assert_eq!(wrong(1, &[20]), ("server type", 24, Truncated));
    assert_eq!(wrong(1, &[11]), ("shard", 25, Truncated));
    assert_eq!(wrong(6, &[129]), ("shards", 6, Value));
    assert_eq!(wrong(6, &[128]), ("shard", 25, Truncated));
    assert_eq!(wrong(6, &[1]), ("body of a record", 16, Trailing));
    assert_eq!(wrong(7, &[128]), ("shard", 7, Value));
    assert_eq!(wrong(16, &[255]), ("shard", 16, Value));
}

#[test]
fn the_greatest_weight_is_taken_and_none_too() {
    for weight in [0, WEIGHT_MAX] {
        let record = with_body(Body::Responder(Responder { weight, types: vec![], shards: vec![] }));
        assert_eq!(record.check(), Ok(()));
        let message = flood(false, vec![record]);
        assert_eq!(said(message.clone()), message);
    }
}

fn inquiry_of(count: usize) -> Message {
    Message::Inquiry(Inquiry { urgent: false, count: u32::MAX, heard: vec![HEARD[0]; count] })
}

fn terms(count: usize) -> Vec<(Shard, Term)> {
    (0_u64..).map(|number| (Shard::of_hash(number), SECOND)).take(count).collect()
}

fn declare_of(count: usize) -> Message {
    Message::Declare(Declare { shards: terms(count) })
}

fn revoke_of(count: usize) -> Message {
    Message::Revoke(Revoke { revoked: THIRD, shards: vec![revoked()[0]; count] })
}

fn responder_of(types: usize, shards: usize) -> Record {
    let types = vec![ServerType(u16::MAX); types];
    with_body(Body::Responder(Responder { weight: WEIGHT_MAX, types, shards: terms(shards) }))
}

#[test]
fn the_largest_messages_of_an_election_leave_room_for_a_signature() {
    assert_eq!(
        (SHARDS, HEARD_MAX, DECLARED_MAX, REVOKED_MAX, TYPES_MAX, WEIGHT_MAX),
        (128, 32, 128, 64, 20, 16)
    );
    let largest = [
        (inquiry_of(HEARD_MAX), 6 + 32 * 23),
        (declare_of(DECLARED_MAX), 1 + 128 * 9),
        (revoke_of(REVOKED_MAX), 17 + 64 * 17),
    ];
    for (message, len) in largest {
        let envelope = from_binld(u64::MAX, message);
        let bytes = envelope.encode();
        assert_eq!(bytes.len(), HEADER_LEN + len);
        assert!(bytes.len() + TAG_LEN_MAX <= PACKET_LEN_MAX);
        assert_eq!(Envelope::decode(&bytes), Ok(envelope));
    }
}

#[test]
fn the_largest_responder_fits_a_flood_of_its_own() {
    let record = responder_of(TYPES_MAX, DECLARED_MAX);
    assert_eq!(record.check(), Ok(()));
    assert_eq!(record.encoded_len(), RECORD_HEADER_LEN + 3 + 20 * 2 + 128 * 9);
    assert!(
        record.encoded_len() <= RECORD_HEADER_LEN + BODY_LEN_MAX && record.encoded_len() <= FLOOD_LEN_MAX
    );
    let message = flood(true, vec![record]);
    assert_eq!(said(message.clone()), message);
}

#[test]
fn what_is_over_a_limit_of_an_election_is_not_written() {
    for over in [1, 100, 1000] {
        assert_eq!(said(inquiry_of(HEARD_MAX + over)), inquiry_of(HEARD_MAX));
        assert_eq!(said(declare_of(DECLARED_MAX + over)), declare_of(DECLARED_MAX));
        assert_eq!(said(revoke_of(REVOKED_MAX + over)), revoke_of(REVOKED_MAX));
        let one = |types, shards| flood(false, vec![responder_of(types, shards)]);
        let most = one(TYPES_MAX, DECLARED_MAX);
        assert_eq!(said(one(TYPES_MAX + over, DECLARED_MAX)), most);
        assert_eq!(said(one(TYPES_MAX, DECLARED_MAX + over)), most);
    }
    let heavy = |weight| {
        flood(false, vec![with_body(Body::Responder(Responder { weight, types: vec![], shards: vec![] }))])
    };
    for weight in [WEIGHT_MAX + 1, u8::MAX] {
        assert_eq!(said(heavy(weight)), heavy(WEIGHT_MAX));
    }
}

#[test]
fn a_message_of_an_election_fills_its_length() {
    for name in ["inquiry", "declare", "revoke"] {
        let mut packet = golden(name);
        let end = packet.len();
        packet.push(0);
        packet[41] += 1;
        let error = Envelope::decode(&packet).unwrap_err();
        assert_eq!(
            (error.what, error.offset, error.kind),
            ("payload", end, DecodeErrorKind::Trailing),
            "{name}"
        );
        packet.truncate(end - 1);
        packet[41] -= 2;
        assert_eq!(Envelope::decode(&packet).unwrap_err().kind, DecodeErrorKind::Truncated, "{name}");
    }
}
