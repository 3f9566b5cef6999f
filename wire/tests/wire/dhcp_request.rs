//! Boot server requests. We never write one, so the way back is `dhcproto`'s: an independent view of the same bytes.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use proptest::prelude::*;
use wire::dhcp::{BootRequest, RequestKind};
use wire::pxe::{BootItem, VendorOptions};
use wire::{DecodeErrorKind, Layer, Mac, ServerType, Uuid};

use crate::any;
use crate::golden::golden;
use crate::pxe::any_vendor;

/// Where the options begin.
const OPTIONS: usize = 240;

fn ipxe() -> BootRequest {
    let item = BootItem { server_type: ServerType(0x8001), layer: Layer(0) };
    BootRequest {
        kind: RequestKind::Request,
        xid: 0,
        flags: 0x8000,
        ciaddr: Ipv4Addr::new(10, 0, 0, 100),
        giaddr: Ipv4Addr::UNSPECIFIED,
        mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        architectures: vec![0],
        uuid: Some(Uuid(*b"\x4c\x4c\x45\x44\x00\x35\x10\x50\x80\x33\xb4\xc0\x4f\x4d\x52\x31")),
        user_class: b"iPXE".to_vec(),
        vendor: Some(VendorOptions { boot_item: Some(item), ..VendorOptions::default() }),
    }
}

fn edk2() -> BootRequest {
    BootRequest {
        xid: 0x1f2e_3d4c,
        flags: 0,
        ciaddr: Ipv4Addr::new(10, 0, 0, 101),
        architectures: vec![7],
        user_class: Vec::new(),
        ..ipxe()
    }
}

/// The golden header with these options.
fn with_options(options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = golden("boot_request_ipxe");
    bytes.truncate(OPTIONS);
    bytes.extend(options.concat());
    bytes
}

fn refusal(bytes: &[u8]) -> (&'static str, usize, DecodeErrorKind) {
    let error = BootRequest::decode(bytes).unwrap_err();
    (error.what, error.offset, error.kind)
}

const REQUEST: &[u8] = &[53, 1, 3];
const PXE_CLIENT: &[u8] = b"\x3c\x09PXEClient";
const END: &[u8] = &[255];

/// A request as `dhcproto` writes it.
fn encode(request: &BootRequest) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message =
        Message::new_with_id(request.xid, request.ciaddr, none, none, request.giaddr, &request.mac.0);
    message.set_opcode(Opcode::BootRequest).set_flags(Flags::from(request.flags));
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(match request.kind {
        RequestKind::Request => MessageType::Request,
        RequestKind::Inform => MessageType::Inform,
    }));
    options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00000:UNDI:002001".to_vec()));
    let mut raw = |code: u8, value: Vec<u8>| {
        if !value.is_empty() {
            options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value)));
        }
    };
    raw(93, request.architectures.iter().flat_map(|arch| arch.to_be_bytes()).collect());
    raw(77, request.user_class.clone());
    raw(97, request.uuid.map(|uuid| [&[0], uuid.0.as_slice()].concat()).unwrap_or_default());
    raw(43, request.vendor.as_ref().map(VendorOptions::encode).unwrap_or_default());
    let mut out = Vec::new();
    message.encode(&mut Encoder::new(&mut out)).unwrap();
    out
}

fn any_request() -> impl Strategy<Value = BootRequest> {
    let kind = prop::sample::select(vec![RequestKind::Request, RequestKind::Inform]);
    let header = (kind, any::<u32>(), any::<u16>(), any::<u32>(), any::<u32>(), any::mac());
    let classes = (prop::collection::vec(any::<u16>(), 0..5), prop::collection::vec(any::<u8>(), 0..300));
    (header, classes, prop::option::of(any::uuid()), prop::option::of(any_vendor())).prop_map(
        |((kind, xid, flags, ciaddr, giaddr, mac), (architectures, user_class), uuid, vendor)| BootRequest {
            kind,
            xid,
            flags,
            ciaddr: ciaddr.into(),
            giaddr: giaddr.into(),
            mac,
            architectures,
            uuid,
            user_class,
            vendor,
        },
    )
}

#[test]
fn golden_bytes_both_ways() {
    for (name, request) in [("boot_request_ipxe", ipxe()), ("boot_request_edk2", edk2())] {
        let bytes = golden(name);
        assert_eq!(BootRequest::decode(&bytes), Ok(request.clone()), "{name}");

        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((message.xid(), message.ciaddr()), (request.xid, request.ciaddr));
        assert_eq!(message.opts().msg_type(), Some(MessageType::Request));
        let mut again = Vec::new();
        message.encode(&mut Encoder::new(&mut again)).unwrap();
        assert_eq!(BootRequest::decode(&again), Ok(request), "{name} through dhcproto");
    }
}

#[test]
fn every_truncation_errs() {
    for name in ["boot_request_ipxe", "boot_request_edk2"] {
        let bytes = golden(name);
        for len in 0..bytes.len() {
            let error = BootRequest::decode(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind, DecodeErrorKind::Truncated, "{name} cut to {len} bytes");
        }
    }
}

#[test]
fn trailing_bytes_are_decided_on() {
    // Behind the end option stands padding: clients fill up to 300 bytes and more. It is not looked at.
    let bytes = [golden("boot_request_ipxe"), vec![0; 300], vec![53, 1, 5, 43, 200]].concat();
    assert_eq!(BootRequest::decode(&bytes), Ok(ipxe()));
}

#[test]
fn unknown_codes_are_decided_on() {
    let whole = golden("boot_request_ipxe");
    let field = |offset: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[offset] = value;
        BootRequest::decode(&bytes).map_err(|error| (error.what, error.kind))
    };
    for value in 0..=255 {
        let value_error = ("hardware type", DecodeErrorKind::Value);
        assert_eq!(field(0, value).err(), (value != 1).then_some(("BOOTP opcode", DecodeErrorKind::Code)));
        assert_eq!(field(1, value).err(), (value != 1).then_some(value_error), "htype {value}");
        assert_eq!(field(2, value).err(), (value != 6).then_some(value_error), "hostile hlen {value}");
        assert_eq!(field(236, value).err(), (value != 99).then_some(("magic cookie", DecodeErrorKind::Code)));
        let kind = match value {
            3 => Ok(RequestKind::Request),
            8 => Ok(RequestKind::Inform),
            _ => Err(("DHCP message type", DecodeErrorKind::Code)),
        };
        assert_eq!(field(242, value).map(|request| request.kind), kind, "message type {value}");
    }
    // Options we do not know are skipped.
    for code in (1..=254).filter(|code| !matches!(code, 43 | 53 | 60 | 77 | 93 | 97)) {
        let bytes = with_options(&[REQUEST, &[code, 2, 0xff, 0], PXE_CLIENT, END]);
        assert!(BootRequest::decode(&bytes).is_ok(), "option {code}");
    }
}

proptest! {
    #[test]
    fn random_round_trip(request in any_request()) {
        prop_assert_eq!(BootRequest::decode(&encode(&request)), Ok(request));
    }
}

#[test]
fn every_option_length_is_survived() {
    let whole = golden("boot_request_ipxe");
    let mut offset = OPTIONS;
    while whole[offset] != 255 {
        for count in 0..=255 {
            let mut bytes = whole.clone();
            bytes[offset + 1] = count;
            let changed = count != whole[offset + 1];
            // It may still be a request, but not the same one with another user class or identifier.
            if let Ok(request) = BootRequest::decode(&bytes) {
                let looked_at = matches!(whole[offset], 77 | 97);
                assert!(!(changed && looked_at && request == ipxe()), "option {} of {count}", whole[offset]);
            }
        }
        offset += 2 + usize::from(whole[offset + 1]);
    }
}

#[test]
fn an_option_cut_short_or_without_end_is_refused() {
    let cut = with_options(&[REQUEST, PXE_CLIENT, &[43, 8, 71, 4, 0x80, 1, 0, 0, 255]]);
    assert_eq!(refusal(&cut), ("DHCP option value", 256, DecodeErrorKind::Truncated));
    let lengthless = with_options(&[REQUEST, PXE_CLIENT, &[43]]);
    assert_eq!(refusal(&lengthless), ("DHCP option length", 255, DecodeErrorKind::Truncated));
    let endless = with_options(&[REQUEST, PXE_CLIENT, &[0, 0]]);
    assert_eq!(refusal(&endless), ("DHCP option", 256, DecodeErrorKind::Truncated));
}

#[test]
fn a_tag_cut_short_is_named_by_its_place_in_the_datagram() {
    let bytes = with_options(&[REQUEST, PXE_CLIENT, &[43, 4, 71, 9, 0x80, 1], END]);
    assert_eq!(refusal(&bytes), ("tag value", 258, DecodeErrorKind::Truncated));
    let bytes = with_options(&[REQUEST, PXE_CLIENT, &[43, 4, 71, 2, 0x80, 1], END]);
    assert_eq!(refusal(&bytes), ("layer", 260, DecodeErrorKind::Truncated));
}

#[test]
fn parts_of_option_43_are_one() {
    let item = ipxe().vendor;
    let side_by_side =
        with_options(&[REQUEST, PXE_CLIENT, &[43, 3, 71, 4, 0x80], &[43, 4, 1, 0, 0, 255], END]);
    assert_eq!(BootRequest::decode(&side_by_side).unwrap().vendor, item);
    let apart = with_options(&[REQUEST, &[43, 3, 71, 4, 0x80], PXE_CLIENT, &[43, 4, 1, 0, 0, 255], END]);
    assert_eq!(BootRequest::decode(&apart).unwrap().vendor, item);
}

#[test]
fn an_absent_option_43_differs_from_an_empty_one() {
    let absent = with_options(&[REQUEST, PXE_CLIENT, END]);
    assert_eq!(BootRequest::decode(&absent).unwrap().vendor, None);
    let empty = with_options(&[REQUEST, PXE_CLIENT, &[43, 0], END]);
    assert_eq!(BootRequest::decode(&empty).unwrap().vendor, Some(VendorOptions::default()));
}

#[test]
fn options_in_file_and_sname_are_not_read() {
    // Option 52 says that they go on in `file`; there a server would find the message type.
    let mut bytes = with_options(&[&[52, 1, 3], PXE_CLIENT, END]);
    bytes[108..112].copy_from_slice(&[53, 1, 3, 255]);
    assert_eq!(refusal(&bytes), ("DHCP message type", 236, DecodeErrorKind::Code));
    // They do not get in the way of a request that is whole without them.
    let mut bytes = golden("boot_request_ipxe");
    bytes.pop();
    bytes.extend([52, 1, 3, 255]);
    bytes[44..236].fill(0x2b);
    assert_eq!(BootRequest::decode(&bytes), Ok(ipxe()));
}

#[test]
fn only_pxe_clients_are_heard() {
    let error = ("vendor class", 236, DecodeErrorKind::Value);
    for class in [b"PXEServer".as_slice(), b"pxeclient", b"PXEClien", b"", b"HTTPClient"] {
        let option = [&[60, u8::try_from(class.len()).unwrap()], class].concat();
        assert_eq!(refusal(&with_options(&[REQUEST, &option, END])), error);
    }
    assert_eq!(refusal(&with_options(&[REQUEST, END])), error);
}

#[test]
fn a_message_type_said_twice_is_the_last_one() {
    let apart = with_options(&[&[53, 1, 1], PXE_CLIENT, &[53, 1, 8], END]);
    assert_eq!(BootRequest::decode(&apart).unwrap().kind, RequestKind::Inform);
    // Side by side they are one option of two bytes (RFC 3396), which is no message type.
    let side_by_side = with_options(&[PXE_CLIENT, REQUEST, REQUEST, END]);
    assert_eq!(refusal(&side_by_side), ("DHCP message type", 236, DecodeErrorKind::Code));
}

#[test]
fn a_machine_identifier_of_another_form_identifies_nobody() {
    for (kind, count) in [(0, 15), (0, 17), (1, 16), (255, 16)] {
        let option = [vec![97, count + 1, kind], vec![7; usize::from(count)]].concat();
        let bytes = with_options(&[REQUEST, PXE_CLIENT, &option, END]);
        assert_eq!(BootRequest::decode(&bytes).unwrap().uuid, None);
    }
    let empty = with_options(&[REQUEST, PXE_CLIENT, &[97, 0], END]);
    assert_eq!(BootRequest::decode(&empty).unwrap().uuid, None);
}

#[test]
fn an_odd_byte_of_the_architectures_is_left_out() {
    let bytes = with_options(&[REQUEST, PXE_CLIENT, &[93, 5, 0, 7, 0, 16, 9], END]);
    assert_eq!(BootRequest::decode(&bytes).unwrap().architectures, [7, 16]);
}

#[test]
fn user_classes_are_raw_or_counted() {
    let class = |bytes: &[u8]| BootRequest { user_class: bytes.to_vec(), ..ipxe() };
    assert!(class(b"iPXE").has_user_class(b"iPXE"));
    assert!(class(b"\x04iPXE").has_user_class(b"iPXE"));
    assert!(class(b"\x02ab\x00\x04iPXE").has_user_class(b"iPXE"));
    for other in [b"".as_slice(), b"iPX", b"iPXE2", b"\x05iPXE", b"\x03iPXE", b"\xff", b"\x00\x00"] {
        assert!(!class(other).has_user_class(b"iPXE"), "{other:?}");
    }
}
