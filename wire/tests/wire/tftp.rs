//! TFTP and PXE-MTFTP packets.

use proptest::prelude::*;
use wire::DecodeErrorKind;
use wire::tftp::{
    BLOCK_SIZE_DEFAULT, ErrorCode, MTFTP_FILE_SIZE_MAX, Mode, Options, Packet, REQUEST_LEN_MAX, Request,
    Rollover, data_header,
};

use crate::golden::Code;

fn request(name: &str, options: Options) -> Request {
    Request { name: name.as_bytes().to_vec(), mode: Mode::Octet, options }
}

fn edk2() -> Request {
    request(
        "boot/ipxe.efi",
        Options {
            transfer_size: Some(0),
            block_size: Some(1468),
            window_size: Some(4),
            ..Options::default()
        },
    )
}

fn every_option() -> Options {
    Options {
        block_size: Some(1432),
        transfer_size: Some(30_000_000),
        timeout_seconds: Some(2),
        window_size: Some(1),
        rollover: None,
        multicast: Some("239.255.7.42,1758,1".to_owned()),
    }
}

fn any_options() -> impl Strategy<Value = Options> {
    let multicast = prop::option::of(prop::sample::select(vec!["", "239.255.7.42,1758,1", ",,1", ",,0"]));
    let block_size = prop::option::of(8..=65464_u16);
    let seconds = prop::option::of(1..=255_u8);
    let rollover = prop::option::of(prop::sample::select(vec![Rollover::Zero, Rollover::One]));
    (block_size, any::<Option<u64>>(), seconds, prop::option::of(1..=u16::MAX), rollover, multicast).prop_map(
        |(block_size, transfer_size, timeout_seconds, window_size, rollover, multicast)| Options {
            block_size,
            transfer_size,
            timeout_seconds,
            window_size,
            rollover,
            multicast: multicast.map(str::to_owned),
        },
    )
}

fn any_request() -> impl Strategy<Value = Request> {
    let mode = prop::sample::select(vec![Mode::Octet, Mode::Other]);
    (prop::collection::vec(1..=255_u8, 1..=255), mode, any_options())
        .prop_map(|(name, mode, options)| Request { name, mode, options })
}

/// The packets borrow; tests need not care who owns the bytes.
fn any_bytes(len: std::ops::Range<usize>, least: u8) -> impl Strategy<Value = &'static [u8]> {
    prop::collection::vec(least..=255, len).prop_map(|bytes| &*bytes.leak())
}

/// The upper byte is always 0; of the lower one only 1–6 are known.
const OPCODE: [Code; 2] = [
    (0, "opcode", &[0], Some(DecodeErrorKind::Code)),
    (1, "opcode", &[1, 2, 3, 4, 5, 6], Some(DecodeErrorKind::Code)),
];

/// EDK2 writes its options in another order than we do, so its packet is not ours to the byte.
fn encode_like_edk2(packet: &Packet<'_>) -> Vec<u8> {
    let ours = packet.encode();
    let (tsize, blksize) = (b"tsize\x000\0".as_slice(), b"blksize\x001468\0".as_slice());
    let from = [blksize, tsize].concat();
    // Random requests may be shorter than the golden one.
    let Some((start, options)) = ours.split_at_checked(22) else { return ours };
    match options.strip_prefix(from.as_slice()) {
        Some(rest) => [start, tsize, blksize, rest].concat(),
        None => ours,
    }
}

// Cut behind the mode or behind an option, a request is one with fewer options.
five_tests!(
    tftp_read, Packet::Read(edk2()), Packet::decode, encode_like_edk2,
    valid_cuts: [22, 30, 43], trailing: Trailing::Padding(DecodeErrorKind::Text),
    codes: OPCODE, any: any_request().prop_map(Packet::Read),
);

five_tests!(
    tftp_open, Packet::Read(request("boot/initrd.img", Options::default())), Packet::decode, Packet::encode,
    valid_cuts: [], trailing: Trailing::Padding(DecodeErrorKind::Text),
    codes: OPCODE, any: any_request().prop_map(Packet::Read),
);

five_tests!(
    tftp_multicast,
    Packet::Read(request("boot/initrd.img", Options {
        multicast: Some(String::new()),
        ..Options::default()
    })),
    Packet::decode, Packet::encode,
    valid_cuts: [24], trailing: Trailing::Padding(DecodeErrorKind::Text),
    codes: OPCODE, any: any_request().prop_map(Packet::Read),
);

five_tests!(
    tftp_write,
    Packet::Write(Request { name: b"core.dump".to_vec(), mode: Mode::Other, options: Options::default() }),
    Packet::decode, Packet::encode,
    valid_cuts: [], trailing: Trailing::Padding(DecodeErrorKind::Text),
    codes: OPCODE, any: any_request().prop_map(Packet::Write),
);

// A DATA packet ends where the datagram ends: cut, it is a shorter block; longer, a longer one.
five_tests!(
    tftp_data, Packet::Data { block: 258, bytes: b"hello" }, Packet::decode, Packet::encode,
    valid_cuts: [4, 5, 6, 7, 8], trailing: Trailing::Kept,
    codes: OPCODE,
    any: (any::<u16>(), any_bytes(0..1469, 0)).prop_map(|(block, bytes)| Packet::Data { block, bytes }),
);

five_tests!(
    tftp_ack, Packet::Ack(258), Packet::decode, Packet::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Trailing),
    codes: OPCODE, any: any::<u16>().prop_map(Packet::Ack),
);

// Clients in the field leave out the NUL of an ERROR, or the text. Unknown error codes survive.
five_tests!(
    tftp_error, Packet::Error { code: ErrorCode::NOT_FOUND, message: b"no such file" },
    Packet::decode, Packet::encode,
    valid_cuts: [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], trailing: Trailing::Ignored,
    codes: [OPCODE[0], OPCODE[1], (2, "error code", &[0], None), (3, "error code", &[1], None)],
    any: (any::<u16>(), any_bytes(0..200, 1))
        .prop_map(|(code, message)| Packet::Error { code: ErrorCode(code), message }),
);

// Cut behind an option, or behind the opcode, it takes fewer options.
five_tests!(
    tftp_oack, Packet::OptionAck(every_option()), Packet::decode, Packet::encode,
    valid_cuts: [2, 15, 30, 40, 53], trailing: Trailing::Padding(DecodeErrorKind::Text),
    codes: OPCODE, any: any_options().prop_map(Packet::OptionAck),
);

/// The options of an RRQ with these bytes behind its mode.
fn options(bytes: &[u8]) -> Options {
    let packet = [b"\0\x01f\0octet\0", bytes].concat();
    let Packet::Read(request) = Packet::decode(&packet).unwrap() else { panic!("no RRQ") };
    request.options
}

#[test]
fn options_are_known_in_any_case_and_the_last_of_two_counts() {
    assert_eq!(options(b"BlkSize\x00512\0blksize\x001024\0").block_size, Some(1024));
    assert_eq!(
        options(b"TSIZE\x000\0WINDOWSIZE\x004\0Timeout\x003\0"),
        Options {
            transfer_size: Some(0),
            window_size: Some(4),
            timeout_seconds: Some(3),
            ..Options::default()
        }
    );
}

#[test]
fn unknown_options_are_as_if_absent() {
    assert!(options(b"rolloverr\x000\0saveto\0x\0blksize2\x00512\0").is_empty());
}

#[test]
fn values_outside_their_range_are_as_if_absent() {
    for value in
        ["0", "7", "65465", "65536", "-8", "+512", "512 ", " 512", "0x200", "", "99999999999999999999999"]
    {
        assert_eq!(options(format!("blksize\0{value}\0").as_bytes()).block_size, None, "{value:?}");
    }
    for (value, size) in [("8", 8), ("65464", 65464), ("00512", 512)] {
        assert_eq!(options(format!("blksize\0{value}\0").as_bytes()).block_size, Some(size));
    }
    assert_eq!(options(b"timeout\x000\0windowsize\x000\0"), Options::default());
    assert_eq!(options(b"timeout\x00256\0windowsize\x0065536\0"), Options::default());
    assert_eq!(options(b"timeout\x00255\0").timeout_seconds, Some(255));
    assert_eq!(options(b"windowsize\x0065535\0").window_size, Some(65535));
    assert_eq!(options(b"tsize\x0018446744073709551615\0").transfer_size, Some(u64::MAX));
    assert_eq!(options(b"tsize\x0018446744073709551616\0").transfer_size, None);
    for (value, rollover) in
        [("0", Some(Rollover::Zero)), ("1", Some(Rollover::One)), ("2", None), ("65535", None), ("", None)]
    {
        assert_eq!(options(format!("rollover\0{value}\0").as_bytes()).rollover, rollover, "{value:?}");
    }
    assert_eq!(options(b"multicast\0\xff\0").multicast, None);
}

/// The text of the last of two counts even if it says nothing: a client that takes back an option has not got it.
#[test]
fn a_second_value_that_is_none_takes_the_first_away() {
    let twice = |name: &str, first: &str| options(format!("{name}\0{first}\0{name}\0\0").as_bytes());
    for (name, first) in
        [("blksize", "512"), ("tsize", "0"), ("timeout", "1"), ("windowsize", "4"), ("rollover", "1")]
    {
        assert!(!options(format!("{name}\0{first}\0").as_bytes()).is_empty(), "{name}");
        assert!(twice(name, first).is_empty(), "{name}");
    }
}

/// As many options as fit into a request, and none of them ours, or all of them the same.
#[test]
fn a_hundred_options_are_read_and_nothing_is_kept_of_what_is_unknown() {
    let unknown: Vec<u8> = (0..120_u8).flat_map(|n| [b'a' + n % 26, 0, b'9', 0]).collect();
    assert!(options(&unknown).is_empty());
    let same: Vec<u8> = b"tsize\x001\0".repeat(60);
    assert_eq!(options(&same), Options { transfer_size: Some(1), ..Options::default() });
}

#[test]
fn block_numbers_go_on_after_65535() {
    let around = [0, 1, 65_534, 65_535, 65_536, 65_537, 131_070, 131_071, 131_072];
    let numbers = |rollover: Rollover| around.map(|block| rollover.number(block));
    assert_eq!(numbers(Rollover::Zero), [0, 1, 65_534, 65_535, 0, 1, 65_534, 65_535, 0]);
    assert_eq!(numbers(Rollover::One), [0, 1, 65_534, 65_535, 1, 2, 65_535, 1, 2]);
    for rollover in [Rollover::Zero, Rollover::One] {
        assert_eq!(Rollover::from_value(rollover.value()), Some(rollover));
    }
}

#[test]
fn an_option_without_value_or_name_is_malformed() {
    for tail in [b"blksize\0".as_slice(), b"blksize", b"blksize\x00512", b"\0x\0"] {
        let packet = [b"\0\x01f\0octet\0", tail].concat();
        assert_eq!(Packet::decode(&packet).unwrap_err().kind, DecodeErrorKind::Text, "{tail:?}");
    }
}

#[test]
fn a_request_has_a_name_and_a_mode() {
    for bytes in [
        b"\0\x01".as_slice(),
        b"\0\x01\0",
        b"\0\x01\0octet\0",
        b"\0\x01name",
        b"\0\x01name\0",
        b"\0\x02n\0oct",
    ] {
        assert_eq!(Packet::decode(bytes).unwrap_err().kind, DecodeErrorKind::Text, "{bytes:?}");
    }
}

#[test]
fn modes_are_known_in_any_case() {
    for (mode, known) in
        [("octet", Mode::Octet), ("OCTET", Mode::Octet), ("netascii", Mode::Other), ("", Mode::Other)]
    {
        let packet = format!("\0\x01f\0{mode}\0").into_bytes();
        assert!(
            matches!(Packet::decode(&packet), Ok(Packet::Read(request)) if request.mode == known),
            "{mode}"
        );
    }
}

#[test]
fn a_request_has_at_most_512_bytes() {
    let of_len = |len: usize| [b"\0\x01".as_slice(), &vec![b'n'; len - 9], b"\0octet\0"].concat();
    assert!(Packet::decode(&of_len(REQUEST_LEN_MAX)).is_ok());
    let error = Packet::decode(&of_len(REQUEST_LEN_MAX + 1)).unwrap_err();
    assert_eq!((error.what, error.kind), ("request", DecodeErrorKind::Length));
}

#[test]
fn an_error_may_lack_its_nul() {
    let error = Packet::Error { code: ErrorCode(8), message: b"aborted" };
    for bytes in [b"\0\x05\0\x08aborted".as_slice(), b"\0\x05\0\x08aborted\0", b"\0\x05\0\x08aborted\0junk"] {
        assert_eq!(Packet::decode(bytes), Ok(error.clone()));
    }
}

#[test]
fn the_header_of_data_is_what_data_begins_with() {
    for block in [0, 1, 258, u16::MAX] {
        assert_eq!(Packet::Data { block, bytes: b"" }.encode(), data_header(block));
    }
}

#[test]
fn the_largest_mtftp_file_ends_in_a_short_block_65535() {
    let block_size = u64::from(BLOCK_SIZE_DEFAULT);
    assert_eq!(MTFTP_FILE_SIZE_MAX, 65_535 * block_size - 1);
    assert_eq!(MTFTP_FILE_SIZE_MAX / block_size + 1, u64::from(u16::MAX));
}
