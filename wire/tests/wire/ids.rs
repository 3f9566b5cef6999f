//! The nouns: what cannot be built, how they are read and shown.

use proptest::prelude::*;
use wire::{DecodeError, DecodeErrorKind, FileName, GroupAddr, Layer, Mac, ServerId, Stamp, Uuid};

use crate::any;

#[test]
fn a_group_address_is_class_d() {
    for (text, known) in [
        ("223.255.255.255", false),
        ("224.0.0.0", true),
        ("239.255.255.255", true),
        ("240.0.0.0", false),
        ("0.0.0.0", false),
    ] {
        assert_eq!(GroupAddr::new(text.parse().unwrap()).is_some(), known, "{text}");
        assert_eq!(text.parse::<GroupAddr>().is_ok(), known, "{text}");
    }
    assert_eq!("10.0.0.1".parse::<GroupAddr>().unwrap_err().matches("10.0.0.1").count(), 1);
    assert!("239.255".parse::<GroupAddr>().unwrap_err().contains("not an IPv4 address"));
}

#[test]
fn addresses_that_share_a_mac_agree_in_23_bits() {
    let bits = |text: &str| text.parse::<GroupAddr>().unwrap().ethernet_bits();
    assert_eq!(bits("224.0.0.1"), 1);
    assert_eq!(bits("239.128.0.1"), bits("224.0.0.1"));
    assert_ne!(bits("239.1.0.1"), bits("224.0.0.1"));
}

#[test]
fn file_names_have_1_to_255_bytes_and_no_nul() {
    assert_eq!(FileName::new(b""), None);
    assert_eq!(FileName::new(b"a\0b"), None);
    assert!(FileName::new(&[b'x'; 255]).is_some());
    assert_eq!(FileName::new(&[b'x'; 256]), None);
}

#[test]
fn file_names_are_shown_harmlessly() {
    let name = FileName::new(b"boot/\x1b[2Jx\\y \xff").unwrap();
    assert_eq!(name.to_string(), "boot/\\x1b[2Jx\\\\y \\xff");
    assert_eq!(format!("{name:?}"), name.to_string());
    assert_eq!(name.percent_encoded(), "boot/%1B%5B2Jx%5Cy%20%FF");
}

proptest! {
    #[test]
    fn percent_escapes_can_be_undone(file in any::file()) {
        let escaped = file.percent_encoded();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte);
        prop_assert!(escaped.bytes().all(allowed));
        let mut bytes = Vec::new();
        let mut rest = escaped.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            let taken = if first == b'%' { 2 } else { 0 };
            let digits = std::str::from_utf8(&tail[..taken]).unwrap();
            bytes.push(if taken == 2 { u8::from_str_radix(digits, 16).unwrap() } else { first });
            rest = &tail[taken..];
        }
        prop_assert_eq!(bytes, file.as_bytes());
    }

    #[test]
    fn what_is_shown_can_be_read(mac in any::mac(), uuid in any::uuid(), group in any::group()) {
        prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
        prop_assert_eq!(uuid.to_string().parse::<Uuid>(), Ok(uuid));
        prop_assert_eq!(group.to_string().parse::<GroupAddr>(), Ok(group));
    }
}

#[test]
fn ethernet_addresses_are_six_pairs_of_hexadecimal_digits() {
    let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0xab]);
    for text in ["52:54:00:12:34:ab", "52-54-00-12-34-AB"] {
        assert_eq!(text.parse(), Ok(mac));
    }
    for text in [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:ab:cd",
        "52:54:00:12:34:+b",
        "5:54:00:12:34:ab",
        "525:4:00:12:34:ab",
        "52:54:00:12:34:é",
        "52540012 34ab",
    ] {
        assert!(text.parse::<Mac>().is_err(), "{text}");
    }
}

#[test]
fn machine_identifiers_are_32_hexadecimal_digits() {
    let text = "4c4c4544-0035-1050-8033-b4c04f4d5231";
    let uuid: Uuid = text.parse().unwrap();
    assert_eq!(uuid.to_string(), text);
    assert_eq!(text.replace('-', "").to_uppercase().parse(), Ok(uuid));
    for wrong in [text.get(1..).unwrap(), &text.replace("4c4c", "+c4c"), &text.replace("4c4c", "é4c"), ""] {
        assert!(wrong.parse::<Uuid>().is_err(), "{wrong}");
    }
    assert!(!uuid.identifies_nobody());
    assert!(Uuid([0; 16]).identifies_nobody());
    assert!(Uuid([0xff; 16]).identifies_nobody());
}

#[test]
fn bit_15_of_a_layer_asks_for_credentials() {
    assert!(Layer(0x8000).wants_credentials());
    assert!(!Layer(0x7fff).wants_credentials());
}

#[test]
fn the_older_stamp_is_the_lesser_and_the_committer_breaks_ties() {
    let stamp = |millis, id| Stamp { millis, sender: ServerId([id; 16]) };
    assert!(stamp(1, 9) < stamp(2, 0));
    assert!(stamp(1, 0) < stamp(1, 1));
}

#[test]
fn an_error_says_what_and_where() {
    let error = DecodeError { what: "group address", offset: 11, kind: DecodeErrorKind::Address };
    assert_eq!(error.to_string(), "group address at byte 11: address of the wrong class");
    assert_eq!(error.kind.name(), "address");
}

#[test]
fn a_server_id_reads_back_as_it_is_shown() {
    let id = ServerId([0, 1, 0x9f, 0xff, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xab]);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    for wrong in ["", "00", &"a".repeat(31), &format!("{id}0"), &format!("{id}00"), &"+f".repeat(16)] {
        assert!(wrong.parse::<ServerId>().is_err(), "{wrong}");
    }
}
