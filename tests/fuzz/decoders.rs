//! One property per decoder. Each function gives whether the bytes decoded: a decoder that never takes anything is not
//! tested.

use std::net::Ipv4Addr;

use wire::FileName;
use wire::configure::Target;
use wire::control::{self, Envelope, Message};
use wire::dhcp::{BootAnswer, BootReply, BootRequest, REPLY_LEN_MAX};
use wire::flood::FLOOD_LEN_MAX;
use wire::pxe::VendorOptions;
use wire::query::{self, Opcode, Query};
use wire::record::RECORD_HEADER_LEN;
use wire::tftp::{Mode, Packet, REQUEST_LEN_MAX};

/// The frozen packet has one form: what decodes, encodes to the very same bytes; an echo differs in the first only.
pub fn query(bytes: &[u8]) -> bool {
    let Ok((opcode, asked)) = Query::decode(bytes) else { return false };
    assert!(bytes.len() <= query::PACKET_LEN_MAX);
    assert_eq!(asked.encode(opcode), bytes);
    assert_eq!(asked.key(), [&bytes[3..7], &bytes[17..]].concat());
    let echo = asked.encode(Opcode::Echo);
    assert_eq!((echo[0], &echo[1..]), (1, &bytes[1..]));
    true
}

/// An envelope as it is, and a flood also with right checksums, which nobody comes upon by trying.
pub fn control(bytes: &[u8]) -> bool {
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    let taken = envelope(bytes);
    envelope(&sealed) || taken
}

/// Makes the checksums of all whole records of a flood right; other bytes stay as they are. Gives whether it is a flood.
pub fn seal(packet: &mut [u8]) -> bool {
    let Some((header, mut rest)) = packet.split_at_mut_checked(control::HEADER_LEN + 2) else { return false };
    if header[5] != 15 {
        return false;
    }
    while rest.len() >= RECORD_HEADER_LEN {
        let count = RECORD_HEADER_LEN + usize::from(u16::from_be_bytes([rest[53], rest[54]]));
        let Some((record, behind)) = rest.split_at_mut_checked(count) else { break };
        let hash = blake3::hash(&[&record[..33], &record[35..37], &record[53..]].concat());
        record[37..53].copy_from_slice(&hash.as_bytes()[..16]);
        rest = behind;
    }
    true
}

/// An envelope has one form too, but for a question about plain TFTP: its ports and stamp are not looked at, and are
/// written as zero.
fn envelope(bytes: &[u8]) -> bool {
    let Ok(envelope) = Envelope::decode(bytes) else { return false };
    let encoded = envelope.encode();
    assert!(encoded.len() == bytes.len() && bytes.len() <= control::PACKET_LEN_MAX);
    assert_eq!(Envelope::decode(&encoded), Ok(envelope.clone()));
    let loose = matches!(&envelope.message, Message::Configure(asked) if asked.target == Target::PlainTftp);
    assert!(loose || encoded == bytes, "{envelope:?} has two forms");
    if let Message::Flood(flood) = &envelope.message {
        let mut room = FLOOD_LEN_MAX;
        for record in &flood.records {
            assert_eq!(record.check(), Ok(()), "{record:?}");
            room = room.checked_sub(record.encoded_len()).expect("a flood of lawful length");
        }
    }
    true
}

/// A request says what its header says, padding behind it says nothing, and it can be answered within a datagram.
pub fn dhcp(bytes: &[u8]) -> bool {
    let Ok(request) = BootRequest::decode(bytes) else { return false };
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    assert_eq!(request.xid.to_be_bytes(), bytes[4..8]);
    assert_eq!((request.ciaddr, request.giaddr), (address(12), address(24)));
    assert_eq!(request.mac.0, bytes[28..34]);
    assert!(request.has_user_class(&request.user_class));
    assert_eq!(BootRequest::decode(&[bytes, &[43, 255, 0]].concat()), Ok(request.clone()));
    reply(&request, &bytes[bytes.len().saturating_sub(40)..]);
    true
}

/// The answer to `request`, with the boot file and the URI made of `text`.
fn reply(request: &BootRequest, text: &[u8]) {
    let vendor = request.vendor.clone().unwrap_or_default();
    let Some(file) = FileName::new(text) else { return };
    let reply = BootReply {
        xid: request.xid,
        flags: request.flags,
        yiaddr: request.ciaddr,
        giaddr: request.giaddr,
        file_server: Ipv4Addr::new(10, 0, 0, 9),
        mac: request.mac,
        multicast_uri: Some(format!("tftp://10.0.0.9/{}", file.percent_encoded())),
        file,
        boot_server: Ipv4Addr::new(10, 0, 0, 1),
        uuid: request.uuid,
        vendor: vendor.clone(),
    };
    let encoded = reply.encode().expect("a short name fits");
    assert!((300..=REPLY_LEN_MAX).contains(&encoded.len()), "{} bytes", encoded.len());
    let read = read_reply(&encoded).expect("an answer can be read");
    assert_eq!((read.file_server, &read.file), (reply.file_server, &reply.file.as_bytes().to_vec()));
    assert_eq!((&read.vendor, &read.uri), (&vendor, &reply.multicast_uri));
}

/// An answer says what its header says, padding behind it says nothing, and where [`read_reply`] takes it, both find the
/// same in an option that is there once.
pub fn answer(bytes: &[u8]) -> bool {
    let Ok(answer) = BootAnswer::decode(bytes) else { return false };
    assert_eq!((bytes[0], answer.xid.to_be_bytes()), (2, [bytes[4], bytes[5], bytes[6], bytes[7]]));
    assert_eq!(answer.mac.0, bytes[28..34]);
    let siaddr = Ipv4Addr::new(bytes[20], bytes[21], bytes[22], bytes[23]);
    assert_eq!(answer.file_server.unwrap_or(Ipv4Addr::UNSPECIFIED), siaddr);
    assert_eq!(BootAnswer::decode(&[bytes, &[43, 255, 0]].concat()), Ok(answer.clone()));
    let Some(reply) = read_reply(bytes) else { return true };
    let codes: Vec<u8> =
        read_options(&bytes[240..]).unwrap_or_default().iter().map(|(code, _)| *code).collect();
    let is_once = |code: u8| codes.iter().filter(|&&there| there == code).count() == 1;
    if is_once(43) {
        assert_eq!(answer.vendor, reply.vendor);
    }
    if is_once(67) {
        let file = reply.file.split(|&byte| byte == 0).next().and_then(FileName::new);
        assert!(answer.file == file || file.is_none(), "{:?} and not {file:?}", answer.file);
    }
    true
}

/// What a client reads in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Header field siaddr.
    pub file_server: Ipv4Addr,
    /// The boot file.
    pub file: Vec<u8>,
    /// Option 43.
    pub vendor: VendorOptions,
    /// Option 224.
    pub uri: Option<String>,
}

/// Reads a DHCPACK of a boot server; `None` if it is none.
#[must_use]
pub fn read_reply(bytes: &[u8]) -> Option<Reply> {
    if bytes.first() != Some(&2) || bytes.get(236..240) != Some([99, 130, 83, 99].as_slice()) {
        return None;
    }
    let file_server: [u8; 4] = bytes.get(20..24)?.try_into().ok()?;
    let field = bytes.get(108..236)?.split(|&byte| byte == 0).next()?;
    let options = read_options(bytes.get(240..)?)?;
    let of = |code| options.iter().find(|(there, _)| *there == code).map(|(_, value)| *value);
    if of(53) != Some([5].as_slice()) || of(60) != Some(b"PXEClient".as_slice()) {
        return None;
    }
    Some(Reply {
        file_server: file_server.into(),
        file: of(67).unwrap_or(field).to_vec(),
        vendor: VendorOptions::decode(of(43)?).ok()?,
        uri: of(224).and_then(|value| String::from_utf8(value.to_vec()).ok()),
    })
}

/// Code and value of each; `None` without an end option, or if one is cut short.
fn read_options(mut rest: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut options = Vec::new();
    loop {
        match rest {
            [255, ..] => return Some(options),
            [0, tail @ ..] => rest = tail,
            [code, count, tail @ ..] => {
                let (value, after) = tail.split_at_checked(usize::from(*count))?;
                options.push((*code, value));
                rest = after;
            }
            [] | [_] => return None,
        }
    }
}

/// Option 43: what decodes can be written and read again, and is written in one form.
pub fn pxe(bytes: &[u8]) -> bool {
    let Ok(options) = VendorOptions::decode(bytes) else { return false };
    let encoded = options.encode();
    assert!(encoded.len() <= 48, "{} bytes", encoded.len());
    assert_eq!(VendorOptions::decode(&encoded), Ok(options));
    true
}

/// TFTP: what decodes can be written and read again, unless a longer spelling of its mode makes it too long. DATA and
/// ACK have one form.
pub fn tftp(bytes: &[u8]) -> bool {
    let Ok(packet) = Packet::decode(bytes) else { return false };
    let encoded = packet.encode();
    match &packet {
        Packet::Data { .. } | Packet::Ack(_) => assert_eq!(encoded, bytes),
        Packet::Read(request) | Packet::Write(request) => {
            assert!(bytes.len() <= REQUEST_LEN_MAX && !request.name.is_empty());
            // A mode of one letter is written as `netascii`; a number may lose zeros, never gain digits.
            let longer = if request.mode == Mode::Other { "netascii".len() } else { 0 };
            assert!(encoded.len() <= bytes.len() + longer, "{request:?} grows");
        }
        Packet::Error { .. } | Packet::OptionAck(_) => assert!(encoded.len() <= bytes.len() + 1),
    }
    let request = matches!(packet, Packet::Read(_) | Packet::Write(_));
    if !request || encoded.len() <= REQUEST_LEN_MAX {
        assert_eq!(Packet::decode(&encoded), Ok(packet));
    }
    true
}

/// A file name is what it was made of; it cannot write on a terminal, and its URI spells the same bytes.
pub fn name(bytes: &[u8]) -> bool {
    let Some(name) = FileName::new(bytes) else {
        assert!(bytes.is_empty() || bytes.len() > FileName::LEN_MAX || bytes.contains(&0));
        return false;
    };
    assert_eq!(name.as_bytes(), bytes);
    let shown = name.to_string();
    assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown}");
    let uri = name.percent_encoded();
    assert!(uri.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte)), "{uri}");
    assert_eq!(unescape(uri.as_bytes()), bytes);
    true
}

fn unescape(uri: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::new();
    let mut rest = uri;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let both = digit(*high).zip(digit(*low)).expect("two digits follow a percent sign");
                out.push(both.0 << 4 | both.1);
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}
