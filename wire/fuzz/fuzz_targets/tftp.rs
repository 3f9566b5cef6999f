//! TFTP: what decodes can be written and read again, unless a longer spelling of its mode makes it too long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::tftp::{Packet, REQUEST_LEN_MAX};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = Packet::decode(bytes) {
        let encoded = packet.encode();
        if encoded.len() <= REQUEST_LEN_MAX {
            assert_eq!(Packet::decode(&encoded), Ok(packet));
        }
    }
});
