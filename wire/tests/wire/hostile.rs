//! Bytes nobody should send: no decoder panics, and what a decoder takes it can write and take again.

use std::collections::BTreeMap;

use wire::configure::Target;
use wire::control::{Envelope, Message};
use wire::dhcp::BootRequest;
use wire::pxe::VendorOptions;
use wire::query::Query;
use wire::record::Body;
use wire::tftp::{Packet, REQUEST_LEN_MAX};

use crate::domain::seal;
use crate::golden;

/// What the decoders can take; of floods by their first record.
const EVERYTHING: [&str; 15] = [
    "query",
    "envelope",
    "membership",
    "sync list",
    "member",
    "claim",
    "reference",
    "domain",
    "lowest",
    "responder",
    "flood ack",
    "election",
    "request",
    "vendor",
    "tftp",
];

/// How often each decoder took the bytes: a decoder that never does is not tested.
type Taken = BTreeMap<&'static str, u32>;

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Connect(_) | Message::Welcome(_) | Message::Refuse(_) | Message::Disconnect(_) => {
            "membership"
        }
        Message::SyncList(_) => "sync list",
        Message::Flood(flood) if flood.records.is_empty() => "empty flood",
        Message::Flood(flood) => match flood.records[0].body {
            Body::Member(_) => "member",
            Body::Claim(_) => "claim",
            Body::Reference(_) => "reference",
            Body::Domain(_) => "domain",
            Body::Lowest(_) => "lowest",
            Body::Responder(_) => "responder",
            Body::Neighbours(_) => "neighbours",
            Body::Note(_) => "note",
            Body::Contact(_) => "contact",
        },
        Message::FloodAck(_) => "flood ack",
        Message::Further(_) => "further",
        Message::Inquiry(_) | Message::Declare(_) | Message::Revoke(_) => "election",
        Message::Configure(_)
        | Message::Ack(_)
        | Message::Nak(_)
        | Message::Delete(_)
        | Message::DeleteForDead(_)
        | Message::Superseded(_)
        | Message::Hold(_)
        | Message::Hello(_)
        | Message::ClearAsk(_)
        | Message::ClearAnswer(_)
        | Message::LoanAsk(_)
        | Message::LoanAnswer(_)
        | Message::Told(_) => "envelope",
    }
}

/// Gives `bytes` to every decoder; of a flood also with right checksums, or no damage ever came behind them.
fn decode_all(bytes: &[u8], taken: &mut Taken) {
    decode(bytes, taken);
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    if sealed != bytes {
        decode(&sealed, taken);
    }
}

fn decode(bytes: &[u8], taken: &mut Taken) {
    let mut count = |name| *taken.entry(name).or_insert(0) += 1;
    if let Ok((opcode, query)) = Query::decode(bytes) {
        count("query");
        assert_eq!(query.encode(opcode), bytes, "the frozen packet has one form");
    }
    if let Ok(envelope) = Envelope::decode(bytes) {
        count(kind(&envelope.message));
        let encoded = envelope.encode();
        // Ports and stamp of a question about plain TFTP are not looked at.
        let loose =
            matches!(&envelope.message, Message::Configure(asked) if asked.target == Target::PlainTftp);
        assert!(loose || encoded == bytes, "{envelope:?} has two forms");
        assert_eq!(Envelope::decode(&encoded), Ok(envelope));
    }
    if let Ok(request) = BootRequest::decode(bytes) {
        count("request");
        assert!(!request.has_user_class(b"\0no class of this name\0"));
    }
    if let Ok(options) = VendorOptions::decode(bytes) {
        count("vendor");
        assert_eq!(VendorOptions::decode(&options.encode()), Ok(options));
    }
    if let Ok(packet) = Packet::decode(bytes) {
        count("tftp");
        let encoded = packet.encode();
        if encoded.len() <= REQUEST_LEN_MAX {
            assert_eq!(Packet::decode(&encoded), Ok(packet));
        }
    }
}

/// SplitMix64: seeded, portable, no dependency.
struct Dice(u64);

impl Dice {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // Codes and lengths live at the edges.
        match self.below(4) {
            0 => [0, 1, 2, 4, 6, 43, 71, 127, 128, 254, 255][self.below(11)],
            _ => self.bits().to_le_bytes()[0],
        }
    }

    fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        let len = self.below(len_max + 1);
        (0..len).map(|_| self.byte()).collect()
    }

    /// One small damage.
    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        match self.below(8) {
            0..=2 => {
                let byte = self.byte();
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            3 => {
                let bit = self.below(8);
                if let Some(place) = bytes.get_mut(at) {
                    *place ^= 1 << bit;
                }
            }
            4 => bytes.truncate(at),
            5 => {
                let inserted = self.bytes(8);
                bytes.splice(at..at, inserted);
            }
            6 => {
                let end = (at + self.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

#[test]
fn two_hundred_thousand_strange_datagrams_are_survived() {
    let goldens = golden::all();
    let mut dice = Dice(0x7078_656d_6300);
    let mut taken = Taken::new();
    for round in 0..200_000 {
        let bytes = if round % 4 == 0 {
            dice.bytes(600)
        } else {
            let (_, packet) = &goldens[dice.below(goldens.len())];
            let (_, other) = &goldens[dice.below(goldens.len())];
            let mut bytes = packet.clone();
            for _ in 0..=dice.below(4) {
                dice.damage(&mut bytes, other);
            }
            bytes
        };
        decode_all(&bytes, &mut taken);
    }
    for name in EVERYTHING {
        assert!(taken.get(name).is_some_and(|&count| count > 400), "{name} is hardly reached: {taken:?}");
    }
}

#[test]
fn every_byte_of_every_golden_packet_may_have_every_value() {
    let mut taken = Taken::new();
    for (_, packet) in golden::all() {
        for at in 0..packet.len() {
            let mut bytes = packet.clone();
            for value in 0..=255 {
                bytes[at] = value;
                decode_all(&bytes, &mut taken);
            }
        }
    }
    assert!(EVERYTHING.iter().all(|name| taken.contains_key(name)), "{taken:?}");
}

/// The largest datagrams, made to keep a decoder busy: done at once, or the test takes minutes.
#[test]
fn large_datagrams_are_cheap() {
    let mut taken = Taken::new();
    for opcode in 0..=7 {
        for filling in [0, 1, 43, 71, 255, b'a'] {
            let mut bytes = vec![filling; 65_507];
            bytes[..2].copy_from_slice(&[0, opcode]);
            decode_all(&bytes, &mut taken);
        }
    }
    let mut request = golden::golden("boot_request_ipxe");
    request.pop();
    for option in [[43, 2, 0, 0], [93, 2, 0, 7], [77, 2, 1, 1], [0, 43, 1, 0]] {
        let bytes = [request.clone(), option.repeat(16_000), vec![255]].concat();
        decode_all(&bytes, &mut taken);
    }
    assert_eq!(taken["request"], 4, "{taken:?}");
}

#[test]
fn every_golden_packet_is_tested_by_name() {
    // A file nobody names is a packet nobody checks.
    let sources = [
        include_str!("control.rs"),
        include_str!("dhcp_reply.rs"),
        include_str!("dhcp_request.rs"),
        include_str!("domain.rs"),
        include_str!("elect.rs"),
        include_str!("pxe.rs"),
        include_str!("query.rs"),
        include_str!("tftp.rs"),
    ]
    .concat();
    for (name, _) in golden::all() {
        let named = sources.contains(&format!("\n    {name},")) || sources.contains(&format!("\"{name}\""));
        assert!(named, "wire/golden/{name}.hex");
    }
}
