//! Queries of IGMP: what a raw socket hears.

use std::net::Ipv4Addr;

use wire::DecodeErrorKind;
use wire::igmp::Query;

/// A general query of version 2 by a Linux bridge with an address: with the router alert option, as all of IGMP.
const GENERAL: [u8; 32] = [
    0x46, 0xc0, 0, 32, 0, 0, 0x40, 0, 1, 2, 0, 0, 10, 0, 0, 1, 224, 0, 0, 1, 0x94, 4, 0, 0, 0x11, 100, 0xee,
    0x9b, 0, 0, 0, 0,
];

fn sealed(mut packet: Vec<u8>) -> Vec<u8> {
    let start = usize::from(packet[0] & 15) * 4;
    packet[start + 2..start + 4].fill(0);
    let mut sum: u32 = packet[start..]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[start + 2..start + 4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    packet
}

fn refusal(at: usize, value: u8) -> (&'static str, DecodeErrorKind) {
    let mut packet = GENERAL;
    packet[at] = value;
    let error = Query::decode(&packet).unwrap_err();
    (error.what, error.kind)
}

#[test]
fn queries_of_all_versions_are_heard() {
    let from = Ipv4Addr::new(10, 0, 0, 1);
    assert_eq!(Query::decode(&GENERAL), Ok(Some(Query { from })));
    // Version 1 has no time to answer in; version 3 is longer.
    let mut first = GENERAL.to_vec();
    first[25] = 0;
    assert_eq!(Query::decode(&sealed(first)), Ok(Some(Query { from })));
    let mut third = [&GENERAL[..], &[2, 125, 0, 0]].concat();
    third[3] = 36;
    assert_eq!(Query::decode(&sealed(third)), Ok(Some(Query { from })));
    // A bridge without an address, and padding of the link.
    let mut bridge = [&GENERAL[..], &[0; 14]].concat();
    bridge[12..16].fill(0);
    assert_eq!(Query::decode(&bridge), Ok(Some(Query { from: Ipv4Addr::UNSPECIFIED })));
}

#[test]
fn a_report_is_no_query() {
    for kind in [0x12, 0x16, 0x17, 0x22] {
        let mut report = GENERAL.to_vec();
        report[24] = kind;
        assert_eq!(Query::decode(&sealed(report)), Ok(None));
    }
}

#[test]
fn what_is_no_query_is_refused_with_its_reason() {
    // (byte, value, field, kind)
    let table = [
        (0, 0x66, "version", DecodeErrorKind::Code),
        (0, 0x44, "version", DecodeErrorKind::Code),
        (3, 33, "total length", DecodeErrorKind::Length),
        (3, 23, "total length", DecodeErrorKind::Length),
        (3, 31, "message", DecodeErrorKind::Truncated),
        (6, 0x20, "fragment", DecodeErrorKind::Value),
        (7, 1, "fragment", DecodeErrorKind::Value),
        (9, 17, "protocol", DecodeErrorKind::Code),
        (12, 239, "source", DecodeErrorKind::Address),
        (16, 10, "destination", DecodeErrorKind::Address),
        (25, 99, "checksum", DecodeErrorKind::Value),
    ];
    for (at, value, what, kind) in table {
        assert_eq!(refusal(at, value), (what, kind), "byte {at} is {value}");
    }
}

#[test]
fn every_truncation_and_every_byte_is_survived() {
    for len in 0..GENERAL.len() {
        assert!(Query::decode(&GENERAL[..len]).is_err(), "{len} bytes");
    }
    let mut taken = 0;
    for at in 0..GENERAL.len() {
        for value in 0..=255 {
            let mut packet = GENERAL;
            packet[at] = value;
            for len in at..=packet.len() {
                taken += u32::from(Query::decode(&packet[..len]).is_ok());
            }
        }
    }
    assert!(taken > 1000, "{taken}");
}
