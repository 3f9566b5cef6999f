//! iPXE's `mtftp://` client (pxe.md B.2 and H), with its faults: it opens at 0 and 0.25 s, locks on to the first source
//! it hears, ACKs every DATA once one came by unicast, falls back to plain TFTP after 0.25 s of silence, and boots an
//! image with holes if it has heard the last block by then. Packets are written and read without our own codec.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Arrival, Deadline, Draw, Role, Time, Transmit, Wall};

use crate::program::{Door, Effect, Program};

/// The address it hears; it knows no other.
pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 1, 1), 3001);
/// The shortest wait for an answer, and the longest silence it bears.
const GAP: Duration = Duration::from_millis(250);
/// When an open that nobody answered is given up.
const OPEN_FOR: Duration = Duration::from_millis(800);
/// Plain TFTP gives up after this silence.
const TFTP_PATIENCE: Duration = Duration::from_secs(10);
const BLOCK: usize = 512;

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By multicast, complete as it thinks: these bytes.
    Multicast(Vec<u8>),
    /// By plain TFTP from the start: these bytes.
    Plain(Vec<u8>),
    /// It takes an image with holes for complete: the blocks it lacks.
    Holes(Vec<u16>),
    /// The server said ERROR: loud.
    Error,
    /// Nobody answered.
    Silence,
}

#[derive(Debug)]
enum State {
    /// Not begun.
    Off,
    /// Multicast.
    Multicast { opens: u32, heard_at: Time, peer: Option<SocketAddrV4>, master: bool },
    /// Plain TFTP after it.
    Plain { block_size: usize, heard_at: Time, peer: Option<SocketAddrV4>, image: Vec<u8>, next: u16 },
    /// Over.
    Done,
}

/// The client.
#[derive(Debug)]
pub struct Ipxe {
    port: u16,
    server: SocketAddrV4,
    file: String,
    state: State,
    blocks: BTreeMap<u16, Vec<u8>>,
    /// The first block it lacks.
    gap: u16,
    last: Option<u16>,
    out: VecDeque<Transmit>,
    /// The longest time between two packets heard while it waited.
    pub longest_silence: Duration,
    /// When and how it ended.
    pub ended: Option<(Time, Ended)>,
}

impl Ipxe {
    /// A client that downloads `mtftp://server/file` as soon as its host starts, from its port `port`.
    #[must_use]
    pub fn new(port: u16, server: SocketAddrV4, file: &str) -> Self {
        Self {
            port,
            server,
            file: file.to_owned(),
            state: State::Off,
            blocks: BTreeMap::new(),
            gap: 1,
            last: None,
            out: VecDeque::new(),
            longest_silence: Duration::ZERO,
            ended: None,
        }
    }

    fn send(&mut self, to: SocketAddrV4, bytes: Vec<u8>) {
        self.out.push_back(Transmit { role: Role::Transfer, to, bytes });
    }

    fn open(&mut self, port: u16, options: &[u8]) {
        let mut bytes = vec![0, 1];
        bytes.extend(self.file.as_bytes());
        bytes.extend(*b"\0octet\0");
        bytes.extend(options);
        self.send(SocketAddrV4::new(*self.server.ip(), port), bytes);
    }

    fn ack(&mut self, to: SocketAddrV4, block: u16) {
        let [high, low] = block.to_be_bytes();
        self.send(to, vec![0, 4, high, low]);
    }

    fn end(&mut self, now: Time, how: Ended) {
        self.state = State::Done;
        self.ended = Some((now, how));
    }

    fn on_block(&mut self, now: Time, number: u16, data: &[u8]) {
        self.blocks.entry(number).or_insert_with(|| data.to_vec());
        while self.blocks.contains_key(&self.gap) {
            self.gap += 1;
        }
        if data.len() < BLOCK {
            self.last = Some(number);
        }
        let State::Multicast { peer: Some(peer), master, .. } = self.state else { return };
        if master {
            self.ack(peer, self.gap - 1);
        }
        if self.last.is_some_and(|last| self.gap > last) {
            let image = self.blocks.values().flatten().copied().collect();
            self.end(now, Ended::Multicast(image));
        }
    }

    fn fall_back(&mut self, now: Time) {
        self.state =
            State::Plain { block_size: BLOCK, heard_at: now, peer: None, image: Vec::new(), next: 1 };
        self.open(69, b"blksize\x001432\0tsize\x000\0");
    }

    fn on_multicast(&mut self, now: Time, arrival: &Arrival<'_>) {
        let State::Multicast { heard_at, peer, master, .. } = &mut self.state else { return };
        if peer.is_some_and(|peer| peer != arrival.from) {
            return;
        }
        match arrival.bytes {
            [0, 3, high, low, data @ ..] if data.len() <= BLOCK => {
                *peer = Some(arrival.from);
                *master |= !arrival.to.is_multicast();
                self.longest_silence = self.longest_silence.max(now.since(*heard_at));
                *heard_at = now;
                let number = u16::from_be_bytes([*high, *low]);
                self.on_block(now, number, data);
            }
            [0, 5, ..] => self.end(now, Ended::Error),
            _ => {}
        }
    }

    fn on_plain(&mut self, now: Time, arrival: &Arrival<'_>) {
        let State::Plain { block_size, heard_at, peer, image, next } = &mut self.state else { return };
        if arrival.to.is_multicast() || peer.is_some_and(|peer| peer != arrival.from) {
            return;
        }
        *peer = Some(arrival.from);
        *heard_at = now;
        match arrival.bytes {
            [0, 6, options @ ..] => {
                *block_size = block_size_of(options).unwrap_or(BLOCK);
                if let Some(last) = self.last {
                    let holes = (1..=last).filter(|block| !self.blocks.contains_key(block)).collect();
                    return self.end(now, Ended::Holes(holes));
                }
                self.ack(arrival.from, 0);
            }
            [0, 3, high, low, data @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                if number == *next {
                    image.extend(data);
                    *next = next.wrapping_add(1);
                    if data.len() < *block_size {
                        let image = std::mem::take(image);
                        self.ack(arrival.from, number);
                        return self.end(now, Ended::Plain(image));
                    }
                }
                self.ack(arrival.from, number);
            }
            [0, 5, ..] => self.end(now, Ended::Error),
            _ => {}
        }
    }
}

/// The `blksize` an OACK grants.
fn block_size_of(options: &[u8]) -> Option<usize> {
    let words: Vec<&[u8]> = options.split(|byte| *byte == 0).collect();
    let at = words.iter().position(|word| word.eq_ignore_ascii_case(b"blksize"))?;
    std::str::from_utf8(words.get(at + 1)?).ok()?.parse().ok()
}

impl Program for Ipxe {
    fn start(&mut self, now: Time, _wall: Wall, _draw: Draw) {
        self.state = State::Multicast { opens: 1, heard_at: now, peer: None, master: false };
        self.open(self.server.port(), b"");
    }

    fn doors(&self) -> Vec<Door> {
        let group = Door {
            role: Role::Mtftp(GROUP.port()),
            port: GROUP.port(),
            own: false,
            groups: vec![*GROUP.ip()],
        };
        vec![Door::unicast(Role::Transfer, self.port), group]
    }

    fn on_datagram(&mut self, now: Time, _wall: Wall, arrival: &Arrival<'_>) {
        match &self.state {
            State::Multicast { .. } => self.on_multicast(now, arrival),
            State::Plain { .. } => self.on_plain(now, arrival),
            State::Off | State::Done => {}
        }
    }

    fn on_timeout(&mut self, now: Time) {
        match &mut self.state {
            State::Multicast { peer: Some(_), heard_at, .. } if now >= *heard_at + GAP => self.fall_back(now),
            State::Multicast { peer: None, heard_at, .. } if now >= *heard_at + OPEN_FOR => {
                self.fall_back(now);
            }
            State::Multicast { opens: opens @ 1, peer: None, heard_at, .. } if now >= *heard_at + GAP => {
                *opens = 2;
                self.open(self.server.port(), b"");
            }
            State::Plain { heard_at, .. } if now >= *heard_at + TFTP_PATIENCE => {
                self.end(now, Ended::Silence);
            }
            State::Off | State::Multicast { .. } | State::Plain { .. } | State::Done => {}
        }
    }

    fn drain(&mut self, tells: bool) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.out.drain(..).map(Effect::Send).collect();
        if let (true, State::Done, Some((_, how))) = (tells, &self.state, &self.ended) {
            let how = match how {
                Ended::Multicast(image) => format!("multicast, {} bytes", image.len()),
                Ended::Plain(image) => format!("plain, {} bytes", image.len()),
                other @ (Ended::Holes(_) | Ended::Error | Ended::Silence) => format!("{other:?}"),
            };
            effects.push(Effect::Tell(how));
        }
        effects
    }

    fn next_deadline(&self) -> Option<Deadline> {
        match &self.state {
            State::Multicast { peer: Some(_), heard_at, .. } => {
                Some(Deadline { at: *heard_at + GAP, why: "iPXE hears silence" })
            }
            State::Multicast { opens: 1, heard_at, .. } => {
                Some(Deadline { at: *heard_at + GAP, why: "iPXE opens again" })
            }
            State::Multicast { heard_at, .. } => {
                Some(Deadline { at: *heard_at + OPEN_FOR, why: "iPXE gives an open up" })
            }
            State::Plain { heard_at, .. } => {
                Some(Deadline { at: *heard_at + TFTP_PATIENCE, why: "iPXE gives plain TFTP up" })
            }
            State::Off | State::Done => None,
        }
    }
}
