//! What a stranger's datagram draws from the file server before anybody answers: bytes out per byte in, of the server's
//! core with its own packets. The source may be forged, so this is what a victim would get.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Arrival, Draw, Role, Time, Transmit, Wall};
use mtftp::engine::EngineConfig;
use wire::configure::{Configure, Ports, Target};
use wire::control::{Envelope, Message};
use wire::policy::Policy;
use wire::{BootEpoch, FileName, Serial, ServerId, Stamp};

use crate::mtftp_host::MtftpHost;
use crate::program::{Effect, Program};
use crate::transfer_client::read_request;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const VICTIM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 66), 20_000);
/// Longer than any transfer lives whose client is silent.
const QUIET: Duration = Duration::from_secs(120);
/// The file that is there: 1 MB, and many blocks.
const FILE: &str = "f";
/// A block of 512 bytes with its header.
const BLOCK_LEN: usize = 516;
/// The longest ERROR that any request may draw.
const ERROR_LEN_MAX: usize = 60;

/// What one datagram drew. Lengths are of UDP payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// Which datagram.
    pub what: &'static str,
    /// Its bytes.
    pub asked: usize,
    /// Datagrams to its source.
    pub packets: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The longest of them.
    pub longest: usize,
    /// Bytes to the group, which no forger chooses.
    pub multicast: usize,
    /// Most bytes of both, by `reliability.md`.
    pub most: usize,
}

/// The server with [`FILE`] on the pinned address.
fn server() -> MtftpHost {
    let file = FileName::new(FILE.as_bytes()).expect("a name");
    let config = EngineConfig::default();
    let (group, client, server) = (config.pinned_group, config.pinned_client_port, config.pinned_server_port);
    let files = BTreeMap::from([(file.clone(), vec![7; 1_000_000])]);
    let mut host = MtftpHost::new(SERVER, ServerId([9; 16]), config, files);
    host.start(Time::ZERO, Wall(0), Draw::from_seed(1));
    let sender = ServerId([1; 16]);
    let target = Target::Group {
        group,
        ports: Ports { client, server },
        stamp: Stamp { millis: 1, sender },
        policy: Policy::default(),
    };
    let message = Message::Configure(Configure { serial: Serial(1), target, file });
    let bytes = Envelope { sender, boot_epoch: BootEpoch(1), sequence: 1, message }.encode();
    let binld = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4016);
    let drawn = give(&mut host, Role::Control, binld, &bytes);
    assert!(drawn.iter().any(|sent| sent.to == binld), "the address is configured");
    host
}

/// Gives it a datagram and lets it answer as long as it likes; what went out.
fn give(host: &mut MtftpHost, role: Role, from: SocketAddrV4, bytes: &[u8]) -> Vec<Transmit> {
    let mut now = Time::ZERO + Duration::from_secs(1);
    let end = now + QUIET;
    host.on_datagram(now, Wall(1000), &Arrival { role, from, to: SERVER, bytes });
    let mut sent = Vec::new();
    loop {
        let effects = host.drain(false);
        if effects.is_empty() {
            let due = host.next_deadline().map(|deadline| deadline.at).filter(|at| *at <= end);
            let Some(at) = due else { return sent };
            now = now.max(at);
            host.on_timeout(now);
            continue;
        }
        for effect in effects {
            match effect {
                Effect::Send(transmit) => sent.push(transmit),
                Effect::Persist => host.on_stored(now, true),
                Effect::Open => host.on_opened(now),
                Effect::Tell(_) | Effect::Alarm(_) => {}
            }
        }
    }
}

fn drawn(what: &'static str, role: Role, bytes: &[u8], most: usize) -> Drawn {
    let mut host = server();
    // What the domain is told goes out anyway.
    let sent = give(&mut host, role, VICTIM, bytes).into_iter().filter(|sent| sent.role != Role::Control);
    let (back, others): (Vec<Transmit>, Vec<Transmit>) = sent.partition(|sent| sent.to == VICTIM);
    assert!(others.iter().all(|sent| sent.to.ip().is_multicast()), "{what}: {others:?}");
    let lens = || back.iter().map(|sent| sent.bytes.len());
    Drawn {
        what,
        asked: bytes.len(),
        packets: back.len(),
        bytes: lens().sum(),
        longest: lens().max().unwrap_or(0),
        multicast: others.iter().map(|sent| sent.bytes.len()).sum(),
        most,
    }
}

/// One of each kind, with the limits of `reliability.md`: with options an OACK of 1.5 times the request at most, five
/// times; without, three blocks; whatever is refused, one ERROR; junk, nothing.
#[must_use]
pub fn all() -> Vec<Drawn> {
    let request = |options: &[(&str, &str)]| read_request(FILE.as_bytes(), options);
    let edk2 = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    let every = [
        ("blksize", "65464"),
        ("tsize", "0"),
        ("timeout", "1"),
        ("windowsize", "65535"),
        ("rollover", "1"),
        ("multicast", ""),
    ];
    let five_tries = |bytes: &[u8]| bytes.len() * 3 / 2 * 5;
    let mut all = vec![drawn("read request", Role::Tftp, &request(&[]), 3 * BLOCK_LEN)];
    for (what, options) in [
        ("read request, tsize", &edk2[..1]),
        ("read request, tsize, blksize: iPXE", &edk2[..2]),
        ("read request, windowsize", &edk2[2..]),
        ("read request, tsize, blksize, windowsize: EDK2", &edk2[..]),
        ("read request, every option there is", &every[..]),
    ] {
        let bytes = request(options);
        all.push(drawn(what, Role::Tftp, &bytes, five_tries(&bytes)));
    }
    let unknown = request(&[("windowsize", "0"), ("x", "y")]);
    all.push(drawn("read request, options that do not count", Role::Tftp, &unknown, 3 * BLOCK_LEN));
    let pinned = Role::Mtftp(EngineConfig::default().pinned_server_port);
    all.push(drawn("PXE-MTFTP open", pinned, &request(&[]), 3 * BLOCK_LEN));
    let refused = [
        ("PXE-MTFTP open of another file", pinned, read_request(b"x", &[])),
        ("read request, no such file", Role::Tftp, read_request(b"x", &[])),
        ("read request, mode netascii", Role::Tftp, b"\0\x01f\0netascii\0".to_vec()),
        ("write request", Role::Tftp, b"\0\x02f\0octet\0".to_vec()),
    ];
    all.extend(refused.map(|(what, role, bytes)| drawn(what, role, &bytes, ERROR_LEN_MAX)));
    let junk: [(&'static str, &[u8]); 5] = [
        ("junk: ACK", b"\0\x04\0\x01"),
        ("junk: DATA", b"\0\x03\0\x01data"),
        ("junk: ERROR", b"\0\x05\0\x00no\0"),
        ("junk: OACK", b"\0\x06blksize\x00512\0"),
        ("junk: noise", &[0x5a; 600]),
    ];
    for (what, bytes) in junk {
        for role in [Role::Tftp, Role::Transfer, pinned] {
            all.push(drawn(what, role, bytes, 0));
        }
    }
    all
}
