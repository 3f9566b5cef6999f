//! Option 43 and its tags.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use wire::pxe::{BootItem, DISCOVERY_DOWNLOAD, MulticastTags, Ours, VendorOptions};
use wire::{DecodeErrorKind, GroupAddr, Layer, ServerType};

use crate::any;
use crate::golden::golden;

const ITEM: BootItem = BootItem { server_type: ServerType(0x8001), layer: Layer(0) };

fn multicast() -> MulticastTags {
    let group = GroupAddr::new(Ipv4Addr::new(239, 255, 7, 42)).unwrap();
    MulticastTags { group, client_port: 3001, server_port: 1760, delay_seconds: 2 }
}

pub(crate) fn any_vendor() -> impl Strategy<Value = VendorOptions> {
    let item =
        (any::server_type(), any::layer()).prop_map(|(server_type, layer)| BootItem { server_type, layer });
    let server = (any::server_type(), any::<u32>().prop_map(Ipv4Addr::from_bits));
    let multicast = (any::group(), any::<u16>(), any::<u16>(), any::<u8>()).prop_map(
        |(group, client_port, server_port, delay_seconds)| MulticastTags {
            group,
            client_port,
            server_port,
            delay_seconds,
        },
    );
    let ours = prop_oneof![Just(Ours::UnderstandsWait), (1..=u8::MAX).prop_map(Ours::Wait)];
    let all = (
        prop::option::of(item),
        any::<Option<u8>>(),
        prop::option::of(server),
        prop::option::of(multicast),
        prop::option::of(ours),
    );
    all.prop_map(|(boot_item, discovery_control, boot_server, multicast, ours)| VendorOptions {
        boot_item,
        discovery_control,
        boot_server,
        multicast,
        ours,
    })
}

// Cut between two tags, or without its end tag, the value is another valid one: firmware sends such.
five_tests!(
    vendor_request, VendorOptions { boot_item: Some(ITEM), ..VendorOptions::default() },
    VendorOptions::decode, VendorOptions::encode,
    valid_cuts: [0, 6], trailing: Trailing::Ignored,
    codes: [(2, "boot server type", &[0x80], None), (5, "layer", &[0], None)],
    any: any_vendor(),
);

five_tests!(
    vendor_reply_rom,
    VendorOptions {
        boot_item: Some(ITEM),
        discovery_control: Some(0),
        boot_server: None,
        multicast: Some(multicast()),
        ours: None,
    },
    VendorOptions::decode, VendorOptions::encode,
    valid_cuts: [0, 3, 9, 13, 17, 20, 23, 29], trailing: Trailing::Ignored,
    codes: [(2, "discovery control", &[0], None)],
    any: any_vendor(),
);

five_tests!(
    vendor_reply_redirect,
    VendorOptions {
        boot_item: Some(ITEM),
        discovery_control: Some(DISCOVERY_DOWNLOAD),
        boot_server: Some((ServerType(0x8001), Ipv4Addr::new(10, 0, 0, 9))),
        multicast: None,
        ours: None,
    },
    VendorOptions::decode, VendorOptions::encode,
    valid_cuts: [0, 3, 12, 18], trailing: Trailing::Ignored,
    codes: [(2, "discovery control", &[8], None)],
    any: any_vendor(),
);

/// The number is free for everybody's boot programs: what does not begin as ours does is somebody else's.
#[test]
fn tag_200_is_ours_only_if_it_says_so() {
    let read = |value: &[u8]| {
        let len = u8::try_from(value.len()).unwrap();
        VendorOptions::decode(&[[200, len].as_slice(), value].concat()).unwrap().ours
    };
    assert_eq!(read(b"pxmc\0"), Some(Ours::UnderstandsWait));
    assert_eq!(read(b"pxmc\x01\x05"), Some(Ours::Wait(5)));
    for value in [
        &b""[..],
        b"pxmc",
        b"pxmd\0",
        b"pxmc\x02",
        b"pxmc\0\0",
        b"pxmc\x01",
        b"pxmc\x01\0",
        b"pxmc\x01\x05\0",
    ] {
        assert_eq!(read(value), None, "{value:?}");
    }
    let ours = Some(Ours::Wait(0));
    assert_eq!(VendorOptions { ours, ..VendorOptions::default() }.encode(), b"\xc8\x06pxmc\x01\x01\xff");
}

#[test]
fn ports_are_little_endian() {
    let bytes = golden("vendor_reply_rom");
    assert_eq!(bytes[9..13], [2, 2, 0xb9, 0x0b], "3001 is 0x0bb9");
    assert_eq!(bytes[13..17], [3, 2, 0xe0, 0x06], "1760 is 0x06e0");
    let encoded = VendorOptions { multicast: Some(multicast()), ..VendorOptions::default() }.encode();
    assert_eq!(encoded[6..14], bytes[9..17]);
}

#[test]
fn unknown_tags_are_skipped() {
    for tag in (1..=254).filter(|tag| !matches!(tag, 1..=6 | 8 | 71)) {
        let bytes = [[tag, 3, 1, 2, 3].as_slice(), &golden("vendor_request")].concat();
        assert_eq!(VendorOptions::decode(&bytes).unwrap().boot_item, Some(ITEM), "tag {tag}");
    }
}

#[test]
fn padding_is_skipped_and_the_last_of_two_counts() {
    let bytes = [0, 71, 4, 0, 1, 0, 1, 0, 0, 71, 4, 0x80, 1, 0, 0, 0];
    assert_eq!(VendorOptions::decode(&bytes).unwrap().boot_item, Some(ITEM));
}

#[test]
fn old_clients_send_a_layer_of_one_byte() {
    let item = VendorOptions::decode(&[71, 3, 0x80, 1, 7, 255]).unwrap().boot_item.unwrap();
    assert_eq!(item, BootItem { server_type: ServerType(0x8001), layer: Layer(7) });
}

#[test]
fn known_tags_have_their_length() {
    for (tag, count) in [(1, 4), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1), (71, 4)] {
        for len in (0..=6_u8).filter(|&len| len != count && (tag, len) != (71, 3)) {
            let bytes = [[tag, len].as_slice(), &vec![0xe0; usize::from(len)], &[255]].concat();
            let error = VendorOptions::decode(&bytes).unwrap_err();
            let kind = if len < count { DecodeErrorKind::Truncated } else { DecodeErrorKind::Trailing };
            assert_eq!(error.kind, kind, "tag {tag} with {len} bytes: {error}");
        }
    }
}

#[test]
fn the_first_server_of_a_list_is_read() {
    let list = [8, 14, 0x80, 1, 2, 10, 0, 0, 9, 10, 0, 0, 8, 0x80, 2, 0];
    let server = VendorOptions::decode(&list).unwrap().boot_server;
    assert_eq!(server, Some((ServerType(0x8001), Ipv4Addr::new(10, 0, 0, 9))));
    // A count of 0 means any server of the type.
    assert_eq!(VendorOptions::decode(&[8, 3, 0x80, 1, 0]).unwrap().boot_server, None);
    // A count that the list does not hold.
    assert_eq!(
        VendorOptions::decode(&[8, 5, 0x80, 1, 1, 10, 0]).unwrap_err().kind,
        DecodeErrorKind::Truncated
    );
}

#[test]
fn multicast_takes_all_five_tags() {
    let whole = golden("vendor_reply_rom");
    for tag in [3..9, 9..13, 13..17, 17..20, 20..23] {
        let mut bytes = whole.clone();
        bytes.drain(tag.clone());
        let decoded = VendorOptions::decode(&bytes).unwrap();
        assert_eq!((decoded.multicast, decoded.boot_item), (None, Some(ITEM)), "without {tag:?}");
    }
    let mut unicast = whole.clone();
    unicast[5..9].copy_from_slice(&[10, 0, 0, 1]);
    assert_eq!(VendorOptions::decode(&unicast).unwrap().multicast, None);
    // Of two delays the shorter.
    let mut delays = whole;
    (delays[19], delays[22]) = (5, 3);
    assert_eq!(VendorOptions::decode(&delays).unwrap().multicast.unwrap().delay_seconds, 3);
}
