//! One receiver of a load: packets in, what it says out; no I/O.
//!
//! By RFC 2090 it is as EDK2: until it is told that it is master it takes any block and says nothing, but ACKs the last one
//! once it has all. As master it takes only the next block, answers everything else with its place, and cannot be told
//! otherwise any more. By PXE-MTFTP it is as iPXE: it takes any block from who it heard first, and ACKs the one before its
//! first gap for every packet once one came to it alone. Who has all is gone.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::{Failure, GroupLoad, Place, Way};
use crate::transfer_client::read_request;

/// Ethernet, IP and UDP.
const HEADERS: u64 = 14 + 20 + 8;
/// Silence after which iPXE does something else.
const SILENCE: Duration = Duration::from_millis(250);
/// Listeners of RFC 2090 ask again after so many times the patience of others.
const LISTENERS: u32 = 5;

/// What a receiver says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    Request,
    Ack(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Listening,
    Asking,
    Receiving,
    Done(Instant),
    Refused,
    Dead,
}

/// Packets of blocks that came to a receiver.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire {
    pub(super) group: u64,
    pub(super) own: u64,
    pub(super) group_bytes: u64,
    pub(super) own_bytes: u64,
    pub(super) bytes: u64,
}

impl Wire {
    pub(super) fn note(&mut self, packet: &[u8], is_group: bool) {
        let bytes = packet.len() as u64 + HEADERS;
        let block = u64::from(packet.starts_with(&[0, 3]));
        let (packets, sum) = if is_group {
            (&mut self.group, &mut self.group_bytes)
        } else {
            (&mut self.own, &mut self.own_bytes)
        };
        *packets += block;
        *sum += bytes;
        self.bytes += packet.len() as u64;
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Receiver {
    way: Way,
    block: usize,
    last: usize,
    stage: Stage,
    /// Which blocks it has, from 1.
    blocks: Vec<bool>,
    count: usize,
    /// The first it lacks.
    gap: usize,
    is_master: bool,
    source: Option<SocketAddrV4>,
    timeout: Duration,
    /// When the newest block came.
    newest: Instant,
    gap_max: Duration,
    due_at: Instant,
    timeouts: u64,
    naks: u64,
}

impl Receiver {
    pub(super) fn new(load: &GroupLoad<'_>, now: Instant) -> Self {
        let block = load.way.block();
        let last = load.file.len() / block + 1;
        Self {
            way: load.way,
            block,
            last,
            stage: Stage::Listening,
            blocks: vec![false; last + 2],
            count: 0,
            gap: 1,
            is_master: false,
            source: None,
            timeout: load.timeout,
            newest: now,
            gap_max: Duration::ZERO,
            due_at: now,
            timeouts: 0,
            naks: 0,
        }
    }

    pub(super) fn begin(&mut self, now: Instant, opens: bool) -> Option<Say> {
        self.newest = now;
        self.rest(now);
        if opens {
            self.stage = Stage::Asking;
            return Some(Say::Request);
        }
        None
    }

    pub(super) fn request(&self) -> Vec<u8> {
        match self.way {
            Way::Rfc2090 => read_request(b"f", &[("blksize", "1468"), ("tsize", "0"), ("multicast", "")]),
            Way::MtftpOne | Way::MtftpAll => read_request(b"p", &[]),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Listening | Stage::Asking | Stage::Receiving)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.stage == Stage::Refused
    }

    pub(super) fn is_master(&self) -> bool {
        self.is_master && self.is_waiting()
    }

    pub(super) fn has(&self) -> usize {
        self.count
    }

    pub(super) fn source(&self) -> Option<SocketAddrV4> {
        self.source
    }

    pub(super) fn ended(&self) -> Option<Instant> {
        if let Stage::Done(at) = self.stage { Some(at) } else { None }
    }

    pub(super) fn timeouts(&self) -> u64 {
        self.timeouts
    }

    pub(super) fn naks(&self) -> u64 {
        self.naks
    }

    pub(super) fn gap_max(&self) -> Duration {
        self.gap_max
    }

    pub(super) fn die(&mut self) {
        self.stage = Stage::Dead;
    }

    pub(super) fn count_gaps_from(&mut self, now: Instant) {
        (self.gap_max, self.newest) = (Duration::ZERO, now);
    }

    pub(super) fn close(&mut self, now: Instant) {
        if self.is_waiting() {
            self.gap_max = self.gap_max.max(now - self.newest);
        }
    }

    /// Its timer starts anew.
    fn rest(&mut self, now: Instant) {
        let span = match self.way {
            Way::Rfc2090 if self.stage == Stage::Receiving && !self.is_master => self.timeout * LISTENERS,
            Way::Rfc2090 => self.timeout,
            Way::MtftpOne | Way::MtftpAll => SILENCE,
        };
        self.due_at = now + span;
    }

    fn place(&self) -> Say {
        Say::Ack((self.gap - 1) as u16)
    }

    pub(super) fn on_time(&mut self, now: Instant) -> Option<Say> {
        if !self.is_waiting() || now < self.due_at {
            return None;
        }
        // Who only listened begins now; all else is a time-out.
        let begins = self.stage == Stage::Listening && self.count == 0;
        self.timeouts += u64::from(!begins);
        self.rest(now);
        if self.stage == Stage::Listening {
            self.stage = Stage::Asking;
        }
        Some(if self.is_master { self.place() } else { Say::Request })
    }

    /// Takes a packet.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        packet: &[u8],
        from: SocketAddrV4,
        is_group: bool,
        load: &GroupLoad<'_>,
        place: Place,
    ) -> Result<Option<Say>, Failure> {
        if !self.is_waiting() {
            return Ok(None);
        }
        match packet {
            [0, 3, high, low, data @ ..] => {
                let waits = self.source.is_none() && self.way != Way::Rfc2090;
                if !waits && self.source != Some(from) {
                    return Ok(None);
                }
                self.source = Some(from);
                let number = usize::from(u16::from_be_bytes([*high, *low]));
                self.take(now, number, data, is_group, load)
            }
            [0, 6, options @ ..] if self.way == Way::Rfc2090 && !is_group => {
                self.agree(now, options, from, place)
            }
            [0, 5, ..] if !is_group => {
                self.stage = Stage::Refused;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn agree(
        &mut self,
        now: Instant,
        options: &[u8],
        from: SocketAddrV4,
        place: Place,
    ) -> Result<Option<Say>, Failure> {
        let words: Vec<&[u8]> = options.split(|&byte| byte == 0).collect();
        let answer = words.chunks_exact(2).find(|two| two[0].eq_ignore_ascii_case(b"multicast"));
        let Some([_, answer]) = answer else { return Err(Failure::NotMulticast) };
        let answer = String::from_utf8_lossy(answer);
        let parts: Vec<&str> = answer.split(',').collect();
        let [address, port, role] = parts[..] else { return Err(Failure::NotMulticast) };
        let is_same = address.is_empty() && port.is_empty();
        let is_there = address == place.group.ip().to_string() && port == place.group.port().to_string();
        if !is_there && !is_same {
            return Err(Failure::NotMulticast);
        }
        if self.source.is_some_and(|source| source != from) || self.is_master && self.gap != 1 {
            return Ok(None);
        }
        (self.source, self.stage, self.is_master) = (Some(from), Stage::Receiving, role == "1");
        self.rest(now);
        Ok(self.is_master.then(|| self.place()))
    }

    fn take(
        &mut self,
        now: Instant,
        number: usize,
        data: &[u8],
        is_group: bool,
        load: &GroupLoad<'_>,
    ) -> Result<Option<Say>, Failure> {
        let at = number.wrapping_sub(1) * self.block;
        if load.file.get(at..(at + self.block).min(load.file.len())) != Some(data) {
            return Err(Failure::WrongBytes(number as u16));
        }
        let is_rfc2090 = self.way == Way::Rfc2090;
        self.is_master |= !is_rfc2090 && !is_group;
        if self.stage == Stage::Asking && !is_rfc2090 && !is_group {
            self.stage = Stage::Receiving;
        }
        let is_strict = is_rfc2090 && self.is_master;
        if is_strict && number != self.gap {
            self.naks += u64::from(number > self.gap);
            return Ok(Some(self.place()));
        }
        self.rest(now);
        if !self.blocks[number] {
            self.blocks[number] = true;
            self.count += 1;
            self.gap_max = self.gap_max.max(now - self.newest);
            self.newest = now;
        }
        while self.blocks[self.gap] {
            self.gap += 1;
        }
        if self.is_master && self.gap <= number {
            self.naks += 1;
        }
        if self.count == self.last {
            self.stage = Stage::Done(now);
            return Ok((self.is_master || is_rfc2090).then(|| self.place()));
        }
        Ok(self.is_master.then(|| self.place()))
    }
}
