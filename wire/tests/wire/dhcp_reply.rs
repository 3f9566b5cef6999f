//! Boot server ACKs, checked with three views: offsets by hand, `dhcproto`'s decoder, and what `mtftp-get` reads of them. A truncated or foreign reply is the client's business.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder};
use proptest::prelude::*;
use wire::dhcp::{
    BootAnswer, BootReply, BootRequest, BootWait, OPTION_MULTICAST_URI, REPLY_LEN_MAX, RequestKind,
};
use wire::pxe::{BootItem, DISCOVERY_DOWNLOAD, MulticastTags, Ours, VendorOptions};
use wire::{DecodeErrorKind, EncodeError, FileName, GroupAddr, Layer, Mac, ServerType, Uuid};

use crate::any;
use crate::golden::golden;
use crate::pxe::any_vendor;

const ITEM: BootItem = BootItem { server_type: ServerType(0x8001), layer: Layer(0) };
const FILE_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

fn ipxe() -> BootReply {
    BootReply {
        xid: 0,
        flags: 0x8000,
        yiaddr: Ipv4Addr::new(10, 0, 0, 100),
        giaddr: Ipv4Addr::UNSPECIFIED,
        file_server: FILE_SERVER,
        mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        file: FileName::new(b"boot/demo.ipxe").unwrap(),
        boot_server: Ipv4Addr::new(10, 0, 0, 2),
        uuid: Some(Uuid(*b"\x4c\x4c\x45\x44\x00\x35\x10\x50\x80\x33\xb4\xc0\x4f\x4d\x52\x31")),
        vendor: VendorOptions {
            boot_item: Some(ITEM),
            discovery_control: Some(DISCOVERY_DOWNLOAD),
            boot_server: Some((ServerType(0x8001), FILE_SERVER)),
            multicast: None,
            ours: None,
        },
        multicast_uri: Some("mtftp://10.0.0.9:1759/boot/initrd.img".to_owned()),
    }
}

fn rom() -> BootReply {
    let group = GroupAddr::new(Ipv4Addr::new(239, 255, 7, 42)).unwrap();
    BootReply {
        xid: 0x1f2e_3d4c,
        flags: 0,
        file: FileName::new(b"boot/pxelinux.0").unwrap(),
        uuid: None,
        vendor: VendorOptions {
            boot_item: Some(ITEM),
            discovery_control: Some(0),
            boot_server: None,
            multicast: Some(MulticastTags { group, client_port: 3001, server_port: 1760, delay_seconds: 2 }),
            ours: None,
        },
        multicast_uri: None,
        ..ipxe()
    }
}

/// The options by code, by hand; nothing but zeros may follow the end option.
fn options(bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options = BTreeMap::new();
    let mut rest = &bytes[240..];
    while rest[0] != 255 {
        let (value, tail) = rest[2..].split_at(usize::from(rest[1]));
        assert_eq!(options.insert(rest[0], value.to_vec()), None, "option {} stands twice", rest[0]);
        rest = tail;
    }
    assert!(rest[1..].iter().all(|&byte| byte == 0), "padding");
    options
}

/// Both views of `bytes` show `reply`.
fn assert_shows(bytes: &[u8], reply: &BootReply) {
    assert!((300..=REPLY_LEN_MAX).contains(&bytes.len()), "{} bytes", bytes.len());
    assert_eq!(bytes[..4], [2, 1, 6, 0], "BOOTREPLY, Ethernet, 6, no hops");
    assert_eq!(bytes[4..8], reply.xid.to_be_bytes());
    assert_eq!(bytes[8..10], [0, 0], "secs");
    assert_eq!(bytes[10..12], reply.flags.to_be_bytes());
    assert_eq!(bytes[12..16], [0; 4], "ciaddr");
    assert_eq!(bytes[16..20], reply.yiaddr.octets());
    assert_eq!(bytes[20..24], reply.file_server.octets());
    assert_eq!(bytes[24..28], reply.giaddr.octets());
    assert_eq!(bytes[28..34], reply.mac.0);
    assert_eq!(bytes[34..108], [0; 74], "rest of chaddr, sname");
    let options = options(bytes);
    let file = reply.file.as_bytes();
    if file.len() <= 127 {
        assert_eq!(&bytes[108..108 + file.len()], file);
        assert!(bytes[108 + file.len()..236].iter().all(|&byte| byte == 0), "the file field ends in NUL");
        assert_eq!(options.get(&67), None);
    } else {
        assert_eq!(bytes[108..236], [0; 128]);
        assert_eq!(options[&67], file);
    }
    assert_eq!(bytes[236..240], [99, 130, 83, 99]);
    assert_eq!(options[&53], [5]);
    assert_eq!(options[&54], reply.boot_server.octets());
    assert_eq!(options[&60], b"PXEClient");
    let uuid = reply.uuid.map(|uuid| [&[0], uuid.0.as_slice()].concat());
    assert_eq!(options.get(&97), uuid.as_ref());
    assert_eq!(VendorOptions::decode(&options[&43]), Ok(reply.vendor.clone()));
    let uri = reply.multicast_uri.as_ref().map(|uri| uri.as_bytes().to_vec());
    assert_eq!(options.get(&224), uri.as_ref());

    let message = Message::decode(&mut Decoder::new(bytes)).unwrap();
    assert_eq!((message.opcode(), message.xid()), (Opcode::BootReply, reply.xid));
    assert_eq!((message.yiaddr(), message.siaddr()), (reply.yiaddr, reply.file_server));
    assert_eq!(message.chaddr(), reply.mac.0);
    let seen = message.opts();
    assert_eq!(seen.msg_type(), Some(MessageType::Ack));
    let boot_server = DhcpOption::ServerIdentifier(reply.boot_server);
    assert_eq!(seen.get(OptionCode::ServerIdentifier), Some(&boot_server));
    let class = DhcpOption::ClassIdentifier(b"PXEClient".to_vec());
    assert_eq!(seen.get(OptionCode::ClassIdentifier), Some(&class));
    let vendor = DhcpOption::VendorExtensions(reply.vendor.encode());
    assert_eq!(seen.get(OptionCode::VendorExtensions), Some(&vendor));
    assert_eq!(seen.get(OptionCode::ClientMachineIdentifier).is_some(), reply.uuid.is_some());
}

fn any_reply() -> impl Strategy<Value = BootReply> {
    let header = (any::<u32>(), any::<u16>(), any::<u32>(), any::<u32>(), any::<u32>(), any::mac());
    let uri = prop::option::of(prop::collection::vec(b'!'..=b'~', 1..=255));
    let rest = (any::file(), any::<u32>(), prop::option::of(any::uuid()), any_vendor(), uri);
    (header, rest).prop_map(
        |((xid, flags, yiaddr, giaddr, file_server, mac), (file, boot_server, uuid, vendor, uri))| {
            BootReply {
                xid,
                flags,
                yiaddr: yiaddr.into(),
                giaddr: giaddr.into(),
                file_server: file_server.into(),
                mac,
                file,
                boot_server: boot_server.into(),
                uuid,
                vendor,
                multicast_uri: uri.map(|uri| String::from_utf8(uri).unwrap()),
            }
        },
    )
}

#[test]
fn golden_bytes_both_ways() {
    for (name, reply) in [("boot_reply_ipxe", ipxe()), ("boot_reply_rom", rom())] {
        let bytes = golden(name);
        assert_eq!(reply.encode().unwrap(), bytes, "{name}");
        assert_shows(&bytes, &reply);
    }
}

#[test]
fn every_truncation_errs() {
    // For us every part of a reply is a packet of the wrong kind or one that is cut short.
    for name in ["boot_reply_ipxe", "boot_reply_rom"] {
        let bytes = golden(name);
        for len in 0..=bytes.len() {
            let kind = BootRequest::decode(&bytes[..len]).unwrap_err().kind;
            let wrong = if len < 240 { DecodeErrorKind::Truncated } else { DecodeErrorKind::Code };
            assert_eq!(kind, wrong, "{name} cut to {len} bytes");
        }
    }
}

#[test]
fn trailing_bytes_are_zeros_up_to_300() {
    let short = rom().encode().unwrap();
    assert_eq!(short.len(), 300);
    let end = 240 + short[240..].iter().position(|&byte| byte == 255).unwrap();
    assert!(end < 299, "the example is too long to need padding");
    // A longer one ends with its end option.
    assert_eq!(ipxe().encode().unwrap().last(), Some(&255));
}

#[test]
fn a_reply_is_no_request() {
    let error = BootRequest::decode(&golden("boot_reply_ipxe")).unwrap_err();
    assert_eq!((error.what, error.kind), ("BOOTP opcode", DecodeErrorKind::Code));
}

/// What a client reads of it.
fn as_read(reply: &BootReply) -> BootAnswer {
    BootAnswer {
        xid: reply.xid,
        mac: reply.mac,
        file_server: Some(reply.file_server).filter(|server| !server.is_unspecified()),
        boot_server: Some(reply.boot_server),
        file: Some(reply.file.clone()),
        vendor: reply.vendor.clone(),
    }
}

proptest! {
    #[test]
    fn random_round_trip(reply in any_reply()) {
        let bytes = reply.encode().unwrap();
        assert_shows(&bytes, &reply);
        assert_eq!(BootAnswer::decode(&bytes), Ok(as_read(&reply)));
    }

    #[test]
    fn a_client_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), reply in any_reply(), at in 0_usize..600) {
        let _ = BootAnswer::decode(&bytes);
        let mut damaged = reply.encode().unwrap();
        let at = at % damaged.len();
        damaged[at] ^= bytes.first().copied().unwrap_or(0xff);
        let _ = BootAnswer::decode(&damaged);
        let _ = BootAnswer::decode(&damaged[..at]);
    }

    #[test]
    fn a_request_of_ours_is_read_by_boot_servers(
        (xid, mac) in (any::<u32>(), any::<[u8; 6]>()),
        architectures in proptest::collection::vec(any::<u16>(), 1..4),
        uuid in any::<Option<[u8; 16]>>(),
        vendor in any_vendor(),
    ) {
        let request = BootRequest {
            kind: RequestKind::Request,
            xid,
            flags: 0,
            ciaddr: Ipv4Addr::new(10, 0, 0, 100),
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: Mac(mac),
            architectures,
            uuid: uuid.map(Uuid),
            user_class: b"iPXE".to_vec(),
            vendor: Some(vendor),
        };
        assert_eq!(BootRequest::decode(&request.encode().unwrap()), Ok(request));
    }
}

/// The wait packet, byte by byte where it differs from an answer.
#[test]
fn the_wait_packet_names_no_file() {
    let ipxe = ipxe();
    let wait = BootWait {
        xid: 7,
        yiaddr: ipxe.yiaddr,
        mac: ipxe.mac,
        boot_server: ipxe.boot_server,
        uuid: ipxe.uuid,
        boot_item: ITEM,
        seconds: 2,
    };
    let bytes = wait.encode().unwrap();
    assert_eq!((bytes.len(), &bytes[20..24]), (300, [0; 4].as_slice()), "no file server");
    assert!(bytes[44..236].iter().all(|&byte| byte == 0), "no file");
    let vendor =
        VendorOptions { boot_item: Some(ITEM), ours: Some(Ours::Wait(2)), ..VendorOptions::default() };
    let read = BootAnswer { xid: 7, file_server: None, file: None, vendor, ..as_read(&ipxe) };
    assert_eq!(BootAnswer::decode(&bytes), Ok(read));
    let tags = b"\x47\x04\x80\x01\0\0\xc8\x06pxmc\x01\x02\xff";
    assert!(bytes.windows(tags.len()).any(|part| part == tags));
}

#[test]
fn long_names_go_into_option_67() {
    for len in [1, 127, 128, 255] {
        let reply = BootReply { file: FileName::new(&vec![b'n'; len]).unwrap(), ..ipxe() };
        assert_shows(&reply.encode().unwrap(), &reply);
    }
}

#[test]
fn a_uri_has_room_for_255_bytes() {
    let longest = BootReply {
        file: FileName::new(&[b'n'; 255]).unwrap(),
        multicast_uri: Some("u".repeat(255)),
        vendor: VendorOptions { boot_server: Some((ServerType(1), FILE_SERVER)), ..rom().vendor },
        ..ipxe()
    };
    assert_shows(&longest.encode().unwrap(), &longest);
    let too_long = BootReply { multicast_uri: Some("u".repeat(256)), ..longest };
    let error = EncodeError::Size { what: "multicast URI", size: 256, size_max: 255 };
    assert_eq!(too_long.encode(), Err(error));
    assert_eq!(error.to_string(), "multicast URI does not fit: 256 bytes, at most 255");
    assert_eq!(OPTION_MULTICAST_URI, 224);
}
