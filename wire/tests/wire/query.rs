//! Query and echo, the frozen packets.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use wire::query::{HEADER_LEN, Opcode, PACKET_LEN_MAX, Query, content_key};
use wire::{Content, DecodeErrorKind, FileName, GroupAddr, Layer, ServerType};

use crate::any;
use crate::golden::golden;

fn example() -> Query {
    Query {
        content: Content {
            server: Ipv4Addr::new(10, 0, 0, 9),
            file: FileName::new(b"boot/initrd.img").unwrap(),
        },
        server_type: ServerType(0x8001),
        layer: Layer(2),
        group: GroupAddr::new(Ipv4Addr::new(239, 255, 7, 42)).unwrap(),
        client_port: 3001,
    }
}

fn encode((opcode, query): &(Opcode, Query)) -> Vec<u8> {
    query.encode(*opcode)
}

fn any_query(opcode: Opcode) -> impl Strategy<Value = (Opcode, Query)> {
    (any::content(), any::server_type(), any::layer(), any::group(), any::<u16>()).prop_map(
        move |(content, server_type, layer, group, client_port)| {
            (opcode, Query { content, server_type, layer, group, client_port })
        },
    )
}

five_tests!(
    query, (Opcode::Query, example()), Query::decode, encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: [(0, "opcode", &[0, 1], Some(DecodeErrorKind::Code))],
    any: any_query(Opcode::Query),
);

five_tests!(
    echo, (Opcode::Echo, example()), Query::decode, encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: [(0, "opcode", &[0, 1], Some(DecodeErrorKind::Code))],
    any: any_query(Opcode::Echo),
);

/// The golden query with the bytes at `offset` replaced, decoded: field, offset and kind of the error.
fn refusal(offset: usize, bytes: &[u8]) -> (&'static str, usize, DecodeErrorKind) {
    let mut packet = golden("query");
    packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    let error = Query::decode(&packet).unwrap_err();
    (error.what, error.offset, error.kind)
}

#[test]
fn an_echo_is_the_query_with_opcode_1() {
    let (query, echo) = (golden("query"), golden("echo"));
    assert_eq!((query[0], echo[0]), (0, 1));
    assert_eq!(query[1..], echo[1..]);
}

#[test]
fn the_length_is_that_of_the_whole_packet() {
    for length in [0, 15, 32, 34, u16::MAX] {
        assert_eq!(refusal(1, &length.to_be_bytes()), ("packet length", 1, DecodeErrorKind::Length));
    }
}

#[test]
fn addresses_are_of_their_class() {
    for server in [[0, 0, 0, 0], [224, 0, 0, 1], [239, 255, 255, 255], [255, 255, 255, 255]] {
        assert_eq!(refusal(3, &server), ("MTFTP server", 3, DecodeErrorKind::Address));
    }
    for group in [[0, 0, 0, 0], [10, 0, 0, 1], [223, 255, 255, 255], [240, 0, 0, 0], [255, 255, 255, 255]] {
        assert_eq!(refusal(11, &group), ("group address", 11, DecodeErrorKind::Address));
    }
}

#[test]
fn the_name_fills_the_packet_and_holds_no_nul() {
    assert_eq!(refusal(17, &[14]), ("boot file name", 32, DecodeErrorKind::Trailing));
    assert_eq!(refusal(17, &[16]), ("boot file name", 18, DecodeErrorKind::Truncated));
    assert_eq!(refusal(20, &[0]), ("boot file name", 18, DecodeErrorKind::Text));

    let mut nameless = golden("query");
    nameless.truncate(HEADER_LEN);
    nameless[2] = 18;
    nameless[17] = 0;
    assert_eq!(Query::decode(&nameless).unwrap_err().kind, DecodeErrorKind::Text);
}

#[test]
fn the_longest_name_makes_the_longest_packet() {
    let mut query = example();
    query.content.file = FileName::new(&[b'x'; 255]).unwrap();
    let bytes = query.encode(Opcode::Query);
    assert_eq!(bytes.len(), PACKET_LEN_MAX);
    assert_eq!(bytes[1..3], [1, 17]);
    assert_eq!(Query::decode(&bytes), Ok((Opcode::Query, query)));
}

#[test]
fn the_key_is_bytes_3_to_6_and_from_17_on() {
    let bytes = golden("query");
    let key = [&bytes[3..7], &bytes[17..]].concat();
    assert_eq!(example().key(), key);
    assert_eq!(content_key(&example().content), key);
}
