//! File clients on real sockets: plain TFTP with options, and PXE-MTFTP as iPXE does it (pxe.md B.2), which keeps a
//! record of every packet. Packets are written and read without our own codec.
#![expect(clippy::disallowed_methods, reason = "clients on real sockets repeat their requests in real time")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::{Host, PATIENCE};
use crate::pxe_client::receive;

/// How long a client of plain TFTP waits before it repeats its last packet.
const TFTP_WAIT: Duration = Duration::from_secs(1);
/// Silence after which iPXE opens again, and after which the real one falls back to plain TFTP.
const OPEN_AGAIN: Duration = Duration::from_millis(250);
const BLOCK_BYTES: usize = 512;

/// How a plain transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The whole file.
    File(Vec<u8>),
    /// The server's ERROR: code and text.
    Error(u16, String),
    /// Nobody answered.
    Silence,
}

/// A plain transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its end.
    pub outcome: Outcome,
    /// The options the server took.
    pub options: BTreeMap<String, String>,
}

fn packet(opcode: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![0, opcode, high, low]
}

/// A read request; `options` in the order they are sent.
#[must_use]
pub fn read_request(name: &[u8], options: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(name);
    bytes.extend(b"\0octet\0");
    for (option, value) in options {
        bytes.extend(format!("{option}\0{value}\0").as_bytes());
    }
    bytes
}

/// Fetches a file by plain TFTP from port 69 of `server`. Block numbers roll over from 65535 to 0, or to what the server
/// says in its option `rollover`; with the option `windowsize` as many blocks are acknowledged at once as it says, and a
/// block out of order is answered with the client's place.
///
/// # Panics
/// If the server breaks the protocol.
#[must_use]
#[track_caller]
pub fn tftp(socket: &UdpSocket, server: Ipv4Addr, name: &[u8], options: &[(&str, &str)]) -> Fetched {
    let mut file = Vec::new();
    let mut taken = BTreeMap::new();
    let mut block_bytes = BLOCK_BYTES;
    let mut last = read_request(name, options);
    let mut to = SocketAddrV4::new(server, 69);
    let (mut has, mut next, mut after_all): (u16, u16, u16) = (0, 1, 0);
    let (mut window, mut unacked) = (1, 0);
    let mut tries = 0;
    let mut is_due = true;
    let outcome = loop {
        if tries > 5 {
            break Outcome::Silence;
        }
        if is_due {
            socket.send_to(&last, to).expect("a packet can be sent");
        }
        is_due = true;
        tries += 1;
        let Some((bytes, from)) = receive_until(socket, TFTP_WAIT, |bytes, from| {
            let ours = *from.ip() == server && (to.port() == 69 || from == to);
            ours && (window > 1 && is_data(bytes) || !is_old(bytes, next))
        }) else {
            continue;
        };
        to = from;
        tries = 0;
        let number = u16::from_be_bytes([bytes[2], bytes[3]]);
        match bytes[1] {
            3 if number != next => {
                last = packet(4, has);
                unacked = 0;
            }
            3 => {
                assert!(bytes.len() <= block_bytes + 4, "a block of {} bytes", bytes.len() - 4);
                file.extend(&bytes[4..]);
                last = packet(4, number);
                (has, next) = (number, number.checked_add(1).unwrap_or(after_all));
                unacked = (unacked + 1) % window;
                is_due = unacked == 0;
                if bytes.len() < block_bytes + 4 {
                    socket.send_to(&last, to).expect("a packet can be sent");
                    break Outcome::File(file);
                }
            }
            5 => break Outcome::Error(number, String::from_utf8_lossy(&bytes[4..]).into_owned()),
            6 => {
                let words: Vec<String> = bytes[2..]
                    .split(|&byte| byte == 0)
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect();
                taken = words.chunks_exact(2).map(|two| (two[0].clone(), two[1].clone())).collect();
                let number = |option: &str| -> Option<u16> {
                    taken.get(option).map(|value: &String| value.parse().expect("a number"))
                };
                block_bytes = number("blksize").map_or(BLOCK_BYTES, usize::from);
                window = number("windowsize").unwrap_or(1);
                after_all = number("rollover").unwrap_or(0);
                last = packet(4, 0);
            }
            opcode => unreachable!("opcode {opcode} from a server"),
        }
    };
    Fetched { outcome, options: taken }
}

fn is_data(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes[..2] == [0, 3]
}

/// A DATA packet that was taken already, which a client ignores.
fn is_old(bytes: &[u8], next: u16) -> bool {
    bytes.len() < 4 || bytes[0] != 0 || (bytes[1] == 3 && bytes[2..4] != next.to_be_bytes())
}

fn receive_until(
    socket: &UdpSocket,
    wait: Duration,
    is_wanted: impl Fn(&[u8], SocketAddrV4) -> bool,
) -> Option<(Vec<u8>, SocketAddrV4)> {
    let end = Instant::now() + wait;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let (bytes, from) = receive(socket, left.max(Duration::from_millis(1)))?;
        if is_wanted(&bytes, from) {
            return Some((bytes, from));
        }
    }
}

/// What a client of PXE-MTFTP needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Where the opens go.
    pub server: SocketAddrV4,
    /// Whether all data must come from there, as Intel's client wants it; else any port of that address will do, as
    /// for iPXE, but one for the whole stream.
    pub same_port: bool,
    /// The group address and the client port.
    pub group: SocketAddrV4,
    /// The file.
    pub file: String,
}

/// One DATA packet as a client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Its number.
    pub block: u16,
    /// To the client alone, not to the group.
    pub unicast: bool,
    /// Whether the client had opened by then.
    pub opened: bool,
    /// Whether the client had that block already.
    pub had: bool,
}

/// How a multicast transfer went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The file.
    pub bytes: Vec<u8>,
    /// Every DATA packet, in order; those before the open too.
    pub heard: Vec<Heard>,
    /// Opens sent.
    pub opens: u32,
    /// ACKs sent.
    pub acks: u32,
}

/// A client that listens and may open.
#[derive(Debug)]
pub struct MtftpClient {
    stream: Stream,
    unicast: UdpSocket,
    group: UdpSocket,
    blocks: BTreeMap<u16, Vec<u8>>,
    last: Option<u16>,
    /// The first block it lacks.
    missing: u16,
    source: Option<SocketAddrV4>,
    is_master: bool,
    is_open: bool,
    received: Received,
}

impl MtftpClient {
    /// A client on `host` that listens from now on and has not opened.
    #[must_use]
    pub fn new(host: &Host, stream: Stream) -> Self {
        let group = host.join(*stream.group.ip(), stream.group.port());
        let unicast = host.bind(0);
        for socket in [&group, &unicast] {
            socket.set_nonblocking(true).expect("a socket can be non-blocking");
        }
        Self {
            stream,
            unicast,
            group,
            blocks: BTreeMap::new(),
            last: None,
            missing: 1,
            source: None,
            is_master: false,
            is_open: false,
            received: Received { bytes: Vec::new(), heard: Vec::new(), opens: 0, acks: 0 },
        }
    }

    /// Listens until `count` packets of the stream came by: a client that is going to be late.
    ///
    /// # Panics
    /// If they do not come.
    #[track_caller]
    pub fn listen(&mut self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.received.heard.len() < count {
            assert!(Instant::now() < end, "only {} packets of the stream", self.received.heard.len());
            self.wait(OPEN_AGAIN);
            self.take_group();
        }
    }

    /// Opens and receives the whole file. What it heard before the open it throws away, as iPXE, which did not listen.
    ///
    /// # Panics
    /// As [`Self::receive`].
    #[must_use]
    #[track_caller]
    pub fn fetch(mut self) -> Received {
        self.take_group();
        self.blocks.clear();
        self.last = None;
        self.missing = 1;
        self.open();
        self.receive()
    }

    /// Receives the whole file; opens when it has heard nothing for a while, as a PXE ROM does.
    ///
    /// # Panics
    /// If the file is not whole in time, or the server breaks the protocol.
    #[must_use]
    #[track_caller]
    pub fn receive(mut self) -> Received {
        self.is_open = true;
        let end = Instant::now() + PATIENCE;
        while !self.is_whole() {
            assert!(
                Instant::now() < end,
                "{} blocks of {:?}, missing from {}",
                self.blocks.len(),
                self.last,
                self.missing
            );
            let before = self.received.heard.len();
            self.wait(OPEN_AGAIN);
            self.take_unicast();
            self.take_group();
            if self.received.heard.len() == before {
                self.open();
            }
        }
        self.received.bytes = self.blocks.into_values().flatten().collect();
        self.received
    }

    fn open(&mut self) {
        let request = read_request(self.stream.file.as_bytes(), &[]);
        self.unicast.send_to(&request, self.stream.server).expect("a packet can be sent");
        self.received.opens += 1;
    }

    fn wait(&self, patience: Duration) {
        let readable = PollFlags::IN;
        let mut sockets = [
            PollFd::from_borrowed_fd(self.unicast.as_fd(), readable),
            PollFd::from_borrowed_fd(self.group.as_fd(), readable),
        ];
        let patience = Timespec::try_from(patience).expect("a short time");
        poll(&mut sockets, Some(&patience)).expect("sockets can be polled");
    }

    fn take_unicast(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = self.unicast.recv_from(&mut buffer) {
            self.take(&buffer[..len], from, true);
        }
    }

    fn take_group(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = self.group.recv_from(&mut buffer) {
            self.take(&buffer[..len], from, false);
        }
    }

    fn take(&mut self, bytes: &[u8], from: std::net::SocketAddr, unicast: bool) {
        let std::net::SocketAddr::V4(from) = from else { return };
        let source = *self.source.get_or_insert(from);
        let right = from.ip() == self.stream.server.ip()
            && from == source
            && (from == self.stream.server || !self.stream.same_port);
        assert!(right, "a packet of {from} in the stream of {source}");
        assert!(
            bytes.len() >= 4 && bytes[..2] == [0, 3],
            "not a block: {:?}",
            String::from_utf8_lossy(bytes)
        );
        let block = u16::from_be_bytes([bytes[2], bytes[3]]);
        let had = self.blocks.contains_key(&block);
        self.received.heard.push(Heard { block, unicast, opened: self.is_open, had });
        if bytes.len() < BLOCK_BYTES + 4 {
            self.last = Some(block);
        }
        if !had {
            self.blocks.insert(block, bytes[4..].to_vec());
            while self.blocks.contains_key(&self.missing) {
                self.missing += 1;
            }
        }
        if self.is_open {
            self.is_master |= unicast;
            if self.is_master {
                let ack = packet(4, self.missing - 1);
                self.unicast.send_to(&ack, source).expect("a packet can be sent");
                self.received.acks += 1;
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.last.is_some_and(|last| self.blocks.len() == usize::from(last))
    }
}

/// What went over the wire in a multicast transfer that several clients took part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Blocks of the file.
    pub blocks: usize,
    /// DATA packets to the group.
    pub multicast: usize,
    /// Of these, second and later copies that an opener lacked: repair for late joiners and for loss.
    pub repair: usize,
    /// Of these, second and later copies that no opener lacked.
    pub needless: usize,
    /// DATA packets to one client.
    pub unicast: usize,
}

/// Sorts every packet of a transfer.
///
/// # Panics
/// If the clients did not hear the same packets on the group: all must have listened from the start, without loss.
#[must_use]
#[track_caller]
pub fn traffic(clients: &[Received]) -> Traffic {
    let streams: Vec<Vec<Heard>> = clients
        .iter()
        .map(|client| client.heard.iter().copied().filter(|heard| !heard.unicast).collect())
        .collect();
    let unicast = clients.iter().flat_map(|client| &client.heard).filter(|heard| heard.unicast).count();
    let longest = streams.iter().map(Vec::len).max().unwrap_or(0);
    let mut traffic = Traffic { unicast, multicast: longest, ..Traffic::default() };
    let mut sent = std::collections::BTreeSet::new();
    for place in 0..longest {
        // A client that has the whole file is gone, and lacks nothing.
        let copies: Vec<&Heard> = streams.iter().filter_map(|stream| stream.get(place)).collect();
        let block = copies[0].block;
        assert!(copies.iter().all(|copy| copy.block == block), "packet {place} differs between the clients");
        if sent.insert(block) {
            continue;
        }
        if copies.iter().any(|copy| copy.opened && !copy.had) {
            traffic.repair += 1;
        } else {
            traffic.needless += 1;
        }
    }
    traffic.blocks = sent.len();
    traffic
}
