//! The control envelope, the messages between BINLD and MTFTP server, and the hello.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use wire::clear::{ClearAnswer, ClearAsk, ClearVerdict};
use wire::configure::{
    Ack, Configure, Delete, DeleteForDead, Nak, NakReason, Ports, RequestRef, Superseded, Target,
};
use wire::control::{Envelope, HEADER_LEN, Message, PACKET_LEN_MAX};
use wire::hello::{Hello, Loss};
use wire::hold::{Hold, HoldState};
use wire::loan::{LoanAnswer, LoanAsk, LoanVerdict};
use wire::policy::{Policy, SlowClients};
use wire::record::ServerRole;
use wire::tftp::MTFTP_FILE_SIZE_MAX;
use wire::told::Told;
use wire::{
    BootEpoch, Content, DecodeErrorKind, DomainId, FileName, GroupAddr, Mac, Serial, ServerId, Stamp,
};

use crate::any;
use crate::golden::golden;

pub(crate) const BINLD: ServerId = ServerId([
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
]);
pub(crate) const MTFTPD: ServerId = ServerId([
    0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
]);
pub(crate) const BINLD_EPOCH: BootEpoch = BootEpoch(1_700_000_001);
pub(crate) const MTFTPD_EPOCH: BootEpoch = BootEpoch(1_700_000_900);
pub(crate) const PORTS: Ports = Ports { client: 3001, server: 1760 };
const NO_PORTS: Ports = Ports { client: 0, server: 0 };
pub(crate) const STAMP: Stamp = Stamp { millis: 1_700_000_123_456, sender: BINLD };

pub(crate) fn group() -> GroupAddr {
    GroupAddr::new(Ipv4Addr::new(239, 255, 7, 42)).unwrap()
}

pub(crate) fn file() -> FileName {
    FileName::new(b"boot/initrd.img").unwrap()
}

pub(crate) fn from_binld(sequence: u64, message: Message) -> Envelope {
    Envelope { sender: BINLD, boot_epoch: BINLD_EPOCH, sequence, message }
}

pub(crate) fn from_mtftpd(sequence: u64, message: Message) -> Envelope {
    Envelope { sender: MTFTPD, boot_epoch: MTFTPD_EPOCH, sequence, message }
}

fn request(serial: u32, group: Option<GroupAddr>) -> RequestRef {
    RequestRef { boot_epoch: BINLD_EPOCH, serial: Serial(serial), group }
}

fn ack(sequence: u64, request: RequestRef, ports: Ports, file_size: u64) -> Envelope {
    from_mtftpd(sequence, Message::Ack(Ack { request, ports, file_size, file: file() }))
}

fn nak(sequence: u64, reason: NakReason) -> Envelope {
    from_mtftpd(sequence, Message::Nak(Nak { request: request(41, Some(group())), file: file(), reason }))
}

pub(crate) fn any_envelope(message: impl Strategy<Value = Message>) -> impl Strategy<Value = Envelope> {
    (any::server_id(), any::<u32>(), any::<u64>(), message).prop_map(
        |(sender, boot_epoch, sequence, message)| Envelope {
            sender,
            boot_epoch: BootEpoch(boot_epoch),
            sequence,
            message,
        },
    )
}

fn any_configure(target: impl Strategy<Value = Target>) -> impl Strategy<Value = Envelope> {
    any_envelope((any::<u32>(), target, any::file()).prop_map(|(serial, target, file)| {
        Message::Configure(Configure { serial: Serial(serial), target, file })
    }))
}

fn any_group_target() -> impl Strategy<Value = Target> {
    (any::group(), 1..=u16::MAX, 1..=u16::MAX, any::stamp(), any::policy()).prop_map(
        |(group, client, server, stamp, policy)| Target::Group {
            group,
            ports: Ports { client, server },
            stamp,
            policy,
        },
    )
}

fn any_ack() -> impl Strategy<Value = Envelope> {
    any_envelope(
        (any::request_ref(), any::ports(), any::<u64>(), any::file()).prop_map(
            |(request, ports, file_size, file)| Message::Ack(Ack { request, ports, file_size, file }),
        ),
    )
}

fn any_nak_in_use() -> impl Strategy<Value = Envelope> {
    any_envelope((any::request_ref(), any::group(), any::file(), any::ports(), any::file()).prop_map(
        |(request, group, file, ports, there)| {
            let request = RequestRef { group: Some(group), ..request };
            Message::Nak(Nak { request, file, reason: NakReason::InUse { ports, file: there } })
        },
    ))
}

fn any_nak_no_such_file() -> impl Strategy<Value = Envelope> {
    any_envelope(
        (any::request_ref(), any::file())
            .prop_map(|(request, file)| Message::Nak(Nak { request, file, reason: NakReason::NoSuchFile })),
    )
}

fn any_nak_too_large() -> impl Strategy<Value = Envelope> {
    any_envelope((any::request_ref(), any::group(), any::file(), 0..u64::MAX, 1..u64::MAX).prop_map(
        |(request, group, file, size_max, more)| {
            let request = RequestRef { group: Some(group), ..request };
            let size = size_max.saturating_add(more);
            Message::Nak(Nak { request, file, reason: NakReason::TooLarge { size, size_max } })
        },
    ))
}

fn any_delete() -> impl Strategy<Value = Envelope> {
    any_envelope(
        (any::<u32>(), any::group(), any::file()).prop_map(|(serial, group, file)| {
            Message::Delete(Delete { serial: Serial(serial), group, file })
        }),
    )
}

fn any_delete_for_dead() -> impl Strategy<Value = Envelope> {
    let number = (any::<u32>(), any::<u32>());
    any_envelope((any::group(), any::file(), any::server_id(), number).prop_map(
        |(group, file, dead, (epoch, serial))| {
            let (boot_epoch, serial) = (BootEpoch(epoch), Serial(serial));
            Message::DeleteForDead(DeleteForDead { group, file, dead, boot_epoch, serial })
        },
    ))
}

fn any_told() -> impl Strategy<Value = Envelope> {
    any_envelope(
        (any::group(), any::unicast(), any::mac(), any::file())
            .prop_map(|(group, client, mac, file)| Message::Told(Told { group, client, mac, file })),
    )
}

fn any_superseded() -> impl Strategy<Value = Envelope> {
    any_envelope((any::request_ref(), any::<u32>(), any::<u32>()).prop_map(|(request, epoch, serial)| {
        Message::Superseded(Superseded {
            request,
            known_epoch: BootEpoch(epoch),
            known_serial: Serial(serial),
        })
    }))
}

fn any_hold() -> impl Strategy<Value = Envelope> {
    let flags = any::<(bool, bool)>();
    any_envelope(
        (any::group(), any::content(), any::stamp(), any::hold_state(), flags, any::<u64>()).prop_map(
            |(group, content, stamp, state, (in_use, is_answer), nonce)| {
                Message::Hold(Hold { group, content, stamp, state, in_use, is_answer, nonce })
            },
        ),
    )
}

fn any_hello() -> impl Strategy<Value = Envelope> {
    let seen = (any::<u32>(), 0..=1000_u16, any::<bool>(), any::<u64>());
    any_envelope((seen, any::role(), any::domain_id(), any::server_id()).prop_map(
        |((count, loss, deaf, digest), role, domain, lowest)| {
            let loss = Loss::new(loss).unwrap();
            Message::Hello(Hello { count, loss, deaf, role, domain, lowest, digest })
        },
    ))
}

/// The header's codes, the same in every message. Known kinds with a payload of another kind may fail later.
const MAGIC: [crate::golden::Code; 4] = [
    (0, "magic", b"P", Some(DecodeErrorKind::Code)),
    (3, "magic", b"C", Some(DecodeErrorKind::Code)),
    (4, "version", &[1], Some(DecodeErrorKind::Code)),
    (
        5,
        "message kind",
        &[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 32],
        Some(DecodeErrorKind::Code),
    ),
];
/// Flags and key epoch are zero until servers that know them speak.
const ZERO: [crate::golden::Code; 4] = [
    (6, "flags", &[0], Some(DecodeErrorKind::Value)),
    (7, "flags", &[0], Some(DecodeErrorKind::Value)),
    (28, "key epoch", &[0], Some(DecodeErrorKind::Value)),
    (31, "key epoch", &[0], Some(DecodeErrorKind::Value)),
];
const REASON: crate::golden::Code = (54, "reason", &[1, 2, 3], Some(DecodeErrorKind::Code));

pub(crate) fn header_and(codes: &[crate::golden::Code]) -> Vec<crate::golden::Code> {
    [&MAGIC, &ZERO, codes].concat()
}

const SLOW_CLIENTS: crate::golden::Code = (78, "slow clients", &[0, 1, 2], Some(DecodeErrorKind::Code));
const POLICY: Policy = Policy {
    slow: SlowClients::SecondStream,
    silences: 5,
    rate_min: 1_000_000,
    start_clients: 12,
    start_within_s: 30,
};

five_tests!(
    configure_group,
    from_binld(7, Message::Configure(Configure {
        serial: Serial(41),
        target: Target::Group { group: group(), ports: PORTS, stamp: STAMP, policy: POLICY },
        file: file(),
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[SLOW_CLIENTS]), any: any_configure(any_group_target()),
);

five_tests!(
    configure_plain,
    from_binld(8, Message::Configure(Configure { serial: Serial(42), target: Target::PlainTftp, file: file() })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_configure(Just(Target::PlainTftp)),
);

five_tests!(
    ack_configure, ack(100, request(41, Some(group())), PORTS, 30_000_000), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_ack(),
);

five_tests!(
    ack_plain, ack(101, request(42, None), NO_PORTS, 30_000_000), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_ack(),
);

five_tests!(
    ack_delete, ack(102, request(43, Some(group())), NO_PORTS, 0), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_ack(),
);

five_tests!(
    nak_in_use,
    nak(103, NakReason::InUse {
        ports: Ports { client: 3002, server: 1761 },
        file: FileName::new(b"boot/other.img").unwrap(),
    }),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[REASON]), any: any_nak_in_use(),
);

five_tests!(
    nak_no_such_file, nak(104, NakReason::NoSuchFile), Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[REASON]), any: any_nak_no_such_file(),
);

five_tests!(
    nak_too_large, nak(130, NakReason::TooLarge { size: 33_554_432, size_max: MTFTP_FILE_SIZE_MAX }),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[REASON]), any: any_nak_too_large(),
);

five_tests!(
    delete,
    from_binld(9, Message::Delete(Delete { serial: Serial(43), group: group(), file: file() })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_delete(),
);

fn any_clear_ask() -> impl Strategy<Value = Envelope> {
    any_envelope(
        (any::group(), any::content(), any::<u64>())
            .prop_map(|(group, content, nonce)| Message::ClearAsk(ClearAsk { group, content, nonce })),
    )
}

fn any_clear_answer() -> impl Strategy<Value = Envelope> {
    let verdict = prop_oneof![Just(ClearVerdict::Clear), Just(ClearVerdict::Taken)];
    any_envelope(
        (any::group(), any::<u64>(), verdict)
            .prop_map(|(group, nonce, verdict)| Message::ClearAnswer(ClearAnswer { group, nonce, verdict })),
    )
}

fn any_loan_ask() -> impl Strategy<Value = Envelope> {
    any_envelope(
        (any::group(), any::content(), any::<u64>())
            .prop_map(|(group, content, nonce)| Message::LoanAsk(LoanAsk { group, content, nonce })),
    )
}

fn any_loan_answer() -> impl Strategy<Value = Envelope> {
    let verdict = prop_oneof![Just(LoanVerdict::Lent), Just(LoanVerdict::Refused)];
    any_envelope(
        (any::group(), any::<u64>(), verdict)
            .prop_map(|(group, nonce, verdict)| Message::LoanAnswer(LoanAnswer { group, nonce, verdict })),
    )
}

five_tests!(
    delete_for_dead,
    from_binld(10, Message::DeleteForDead(DeleteForDead {
        group: group(),
        file: file(),
        dead: ServerId(std::array::from_fn(|at| 0x20 + u8::try_from(at).unwrap())),
        boot_epoch: BootEpoch(1_699_999_744),
        serial: Serial(43),
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_delete_for_dead(),
);

five_tests!(
    told,
    from_binld(11, Message::Told(Told {
        group: group(),
        client: Ipv4Addr::new(10, 0, 0, 101),
        mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        file: file(),
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_told(),
);

five_tests!(
    superseded,
    from_mtftpd(105, Message::Superseded(Superseded {
        request: request(41, Some(group())),
        known_epoch: BootEpoch(1_700_000_006),
        known_serial: Serial(90),
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_superseded(),
);

five_tests!(
    hold,
    from_binld(10, Message::Hold(Hold {
        group: group(),
        content: Content { server: Ipv4Addr::new(10, 0, 0, 9), file: file() },
        stamp: STAMP,
        state: HoldState::Draining,
        in_use: true,
        is_answer: true,
        nonce: 0x0123_4567_89ab_cdef,
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (74, "state", &[1, 2, 3], Some(DecodeErrorKind::Code)),
        (75, "flags of a hold", &[0, 1, 2, 3], Some(DecodeErrorKind::Value)),
    ]),
    any: any_hold(),
);

five_tests!(
    clear_ask,
    from_binld(12, Message::ClearAsk(ClearAsk {
        group: group(),
        content: Content { server: Ipv4Addr::new(10, 0, 0, 9), file: file() },
        nonce: 0x0123_4567_89ab_cdef,
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_clear_ask(),
);

five_tests!(
    clear_answer,
    from_binld(13, Message::ClearAnswer(ClearAnswer {
        group: group(),
        nonce: 0x0123_4567_89ab_cdef,
        verdict: ClearVerdict::Taken,
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[(54, "verdict", &[1, 2], Some(DecodeErrorKind::Code))]),
    any: any_clear_answer(),
);

five_tests!(
    loan_ask,
    from_binld(14, Message::LoanAsk(LoanAsk {
        group: group(),
        content: Content { server: Ipv4Addr::new(10, 0, 0, 9), file: file() },
        nonce: 0x0123_4567_89ab_cdef,
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[]), any: any_loan_ask(),
);

five_tests!(
    loan_answer,
    from_binld(15, Message::LoanAnswer(LoanAnswer {
        group: group(),
        nonce: 0x0123_4567_89ab_cdef,
        verdict: LoanVerdict::Lent,
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[(54, "verdict", &[1, 2], Some(DecodeErrorKind::Code))]),
    any: any_loan_answer(),
);

five_tests!(
    hello,
    from_binld(11, Message::Hello(Hello {
        count: 517,
        loss: Loss::new(23).unwrap(),
        deaf: true,
        role: ServerRole::Binld,
        domain: DomainId::of("lab"),
        lowest: BINLD,
        digest: 0x0123_4567_89ab_cdef,
    })),
    Envelope::decode, Envelope::encode,
    valid_cuts: [], trailing: Trailing::Refused(DecodeErrorKind::Length),
    codes: header_and(&[
        (48, "flags of a hello", &[0, 1], Some(DecodeErrorKind::Value)),
        (49, "role", &[1, 2], Some(DecodeErrorKind::Code)),
    ]),
    any: any_hello(),
);

#[test]
fn a_loss_is_a_share() {
    assert_eq!(refusal("hello", 46, &[0x03, 0xe9]), ("loss", 46, DecodeErrorKind::Value));
}

/// A golden envelope with the bytes at `offset` replaced, decoded: field, offset and kind of the error.
pub(crate) fn refusal(name: &str, offset: usize, bytes: &[u8]) -> (&'static str, usize, DecodeErrorKind) {
    let mut packet = golden(name);
    packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    let error = Envelope::decode(&packet).unwrap_err();
    (error.what, error.offset, error.kind)
}

#[test]
fn a_payload_fills_its_length() {
    // One byte too many inside the payload, with the length field adjusted: the message itself notices.
    for (name, what) in [("configure_group", "payload"), ("superseded", "payload"), ("hold", "payload")] {
        let mut packet = golden(name);
        let end = packet.len();
        packet.push(0);
        packet[41] += 1;
        let error = Envelope::decode(&packet).unwrap_err();
        assert_eq!((error.what, error.offset, error.kind), (what, end, DecodeErrorKind::Trailing));
    }
    // One byte too few, likewise.
    for name in [
        "configure_plain",
        "ack_configure",
        "nak_in_use",
        "nak_no_such_file",
        "delete",
        "superseded",
        "hold",
        "delete_for_dead",
        "told",
    ] {
        let mut packet = golden(name);
        packet.pop();
        packet[41] -= 1;
        assert_eq!(Envelope::decode(&packet).unwrap_err().kind, DecodeErrorKind::Truncated, "{name}");
    }
}

#[test]
fn a_group_address_is_class_d() {
    let unicast = [10, 0, 0, 1];
    assert_eq!(refusal("configure_group", 46, &unicast), ("group address", 46, DecodeErrorKind::Address));
    assert_eq!(refusal("ack_configure", 50, &unicast), ("group address", 50, DecodeErrorKind::Address));
    assert_eq!(refusal("delete", 46, &unicast), ("group address", 46, DecodeErrorKind::Address));
    // Only a configure and its answers know 0.0.0.0.
    assert_eq!(refusal("delete", 46, &[0; 4]), ("group address", 46, DecodeErrorKind::Address));
    assert_eq!(refusal("delete_for_dead", 42, &[0; 4]), ("group address", 42, DecodeErrorKind::Address));
    assert_eq!(refusal("hold", 42, &[0; 4]), ("group address", 42, DecodeErrorKind::Address));
}

#[test]
fn a_holder_names_a_host() {
    for server in [[0, 0, 0, 0], [239, 255, 7, 42], [255, 255, 255, 255]] {
        assert_eq!(refusal("hold", 46, &server), ("MTFTP server", 46, DecodeErrorKind::Address));
    }
}

#[test]
fn who_was_told_is_a_host() {
    assert_eq!(refusal("told", 42, &[0; 4]), ("group address", 42, DecodeErrorKind::Address));
    for client in [[0, 0, 0, 0], [239, 255, 7, 42], [255, 255, 255, 255]] {
        assert_eq!(refusal("told", 46, &client), ("client", 46, DecodeErrorKind::Address));
    }
}

#[test]
fn a_group_is_configured_with_both_ports() {
    assert_eq!(refusal("configure_group", 50, &[0, 0]), ("ports", 50, DecodeErrorKind::Value));
    assert_eq!(refusal("configure_group", 52, &[0, 0]), ("ports", 50, DecodeErrorKind::Value));
}

#[test]
fn ports_and_stamp_of_a_plain_configure_are_not_looked_at() {
    let mut packet = golden("configure_plain");
    packet[50..78].fill(0xff);
    assert_eq!(Envelope::decode(&packet), Envelope::decode(&golden("configure_plain")));
}

#[test]
fn in_use_is_said_of_an_address() {
    assert_eq!(refusal("nak_in_use", 50, &[0; 4]), ("reason", 54, DecodeErrorKind::Value));
}

#[test]
fn names_are_neither_empty_nor_hold_a_nul() {
    assert_eq!(refusal("delete", 51, &[0]), ("file", 51, DecodeErrorKind::Text));
    let mut packet = golden("delete");
    packet.truncate(51);
    packet[50] = 0;
    packet[41] = 9;
    assert_eq!(Envelope::decode(&packet).unwrap_err().kind, DecodeErrorKind::Text);
}

#[test]
fn two_long_names_leave_room_for_a_signature() {
    let longest = FileName::new(&[b'x'; 255]).unwrap();
    let envelope = from_mtftpd(
        u64::MAX,
        Message::Nak(Nak {
            request: request(u32::MAX, Some(group())),
            file: longest.clone(),
            reason: NakReason::InUse { ports: PORTS, file: longest },
        }),
    );
    let bytes = envelope.encode();
    assert_eq!(bytes.len(), HEADER_LEN + 529);
    assert!(bytes.len() + 64 <= PACKET_LEN_MAX);
    assert_eq!(Envelope::decode(&bytes), Ok(envelope));
}

#[test]
fn an_overlong_datagram_is_refused() {
    let mut packet = golden("hold");
    packet.resize(PACKET_LEN_MAX + 1, 0);
    let error = Envelope::decode(&packet).unwrap_err();
    assert_eq!((error.what, error.kind), ("envelope", DecodeErrorKind::Length));
}
