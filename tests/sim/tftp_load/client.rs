//! One client of a load: what it has, what it answers, and when it repeats itself. Packets in, verdicts out; no I/O.

use std::time::{Duration, Instant};

use super::{Failure, Load, OutOfOrder};

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not asked yet.
    Waiting,
    /// It asked, and waits for the OACK.
    Asking,
    /// It has its options.
    Receiving,
    /// It has the whole file; it still answers who does not know yet.
    Done,
    /// The server answered with an ERROR.
    Refused,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stage: Stage,
    /// Blocks in order, each compared with the file.
    pub(super) has: u64,
    /// Of them, since the last ACK.
    unacked: u16,
    /// The place that was told because something came out of order.
    told: Option<u64>,
    /// When it asked first.
    pub(super) began: Instant,
    /// When it had all.
    pub(super) ended: Option<Instant>,
    /// When the newest block came.
    newest: Instant,
    pub(super) gap_max: Duration,
    /// When its timer runs out.
    pub(super) repeat_at: Instant,
    pub(super) timeouts: u64,
}

impl Client {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Waiting,
            has: 0,
            unacked: 0,
            told: None,
            began: now,
            ended: None,
            newest: now,
            gap_max: Duration::ZERO,
            repeat_at: now,
            timeouts: 0,
        }
    }

    /// It asks for the file now.
    pub(super) fn ask(&mut self, now: Instant, load: &Load<'_>) {
        self.stage = Stage::Asking;
        (self.began, self.newest, self.repeat_at) = (now, now, now + load.timeout);
    }

    /// Bytes that it has compared with the file.
    pub(super) fn bytes(&self, load: &Load<'_>) -> u64 {
        (self.has * load.block as u64).min(load.file.len() as u64)
    }

    /// Whether anything is still to come.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Asking | Stage::Receiving)
    }

    /// Whether its timer ran out: then it repeats what it said last.
    pub(super) fn is_due(&mut self, now: Instant, load: &Load<'_>) -> bool {
        let is_due = self.is_waiting() && now >= self.repeat_at;
        if is_due {
            self.timeouts += 1;
            self.unacked = 0;
            self.repeat_at = now + load.timeout;
        }
        is_due
    }

    /// Ends the count of gaps for one that still waits.
    pub(super) fn close(&mut self, now: Instant) {
        if self.is_waiting() {
            self.gap_max = self.gap_max.max(now - self.newest);
        }
    }

    /// Takes a datagram; whether to ACK its place now.
    pub(super) fn hear(&mut self, now: Instant, packet: &[u8], load: &Load<'_>) -> Result<bool, Failure> {
        match packet {
            [0, 3, high, low, data @ ..] => self.take(now, u16::from_be_bytes([*high, *low]), data, load),
            [0, 6, options @ ..] => self.agree(now, options, load),
            [0, 5, ..] => {
                if self.is_waiting() {
                    self.stage = Stage::Refused;
                }
                Ok(false)
            }
            _ => Err(Failure::NotTftp(packet.len())),
        }
    }

    fn agree(&mut self, now: Instant, options: &[u8], load: &Load<'_>) -> Result<bool, Failure> {
        if self.stage == Stage::Asking {
            let has = |name: &str, value: usize| {
                let value = value.to_string();
                let words: Vec<&[u8]> = options.split(|&byte| byte == 0).collect();
                words
                    .chunks_exact(2)
                    .any(|two| two[0].eq_ignore_ascii_case(name.as_bytes()) && two[1] == value.as_bytes())
            };
            if !has("blksize", load.block) {
                return Err(Failure::Lacks("blksize"));
            }
            if load.window > 1 && !has("windowsize", load.window.into()) {
                return Err(Failure::Lacks("windowsize"));
            }
            self.stage = Stage::Receiving;
            self.newest = now;
        }
        // A second one: the ACK of the first was lost.
        let is_answered = self.stage == Stage::Receiving && self.has == 0;
        if is_answered {
            self.repeat_at = now + load.timeout;
        }
        Ok(is_answered)
    }

    fn take(&mut self, now: Instant, number: u16, data: &[u8], load: &Load<'_>) -> Result<bool, Failure> {
        match self.stage {
            Stage::Receiving | Stage::Done => {}
            Stage::Asking => return Err(Failure::Lacks("blksize")),
            Stage::Waiting | Stage::Refused => return Ok(false),
        }
        if self.stage == Stage::Done || number != (self.has + 1) as u16 {
            return Ok(self.tell_place(now, load));
        }
        let at = self.has as usize * load.block;
        if load.file.get(at..(at + load.block).min(load.file.len())) != Some(data) {
            return Err(Failure::WrongBytes { block: self.has + 1 });
        }
        self.has += 1;
        self.unacked += 1;
        self.told = None;
        self.gap_max = self.gap_max.max(now - self.newest);
        (self.newest, self.repeat_at) = (now, now + load.timeout);
        if data.len() < load.block {
            self.stage = Stage::Done;
            self.ended = Some(now);
            return Ok(true);
        }
        let is_last = self.unacked == load.window;
        if is_last {
            self.unacked = 0;
        }
        Ok(is_last)
    }

    /// Something else than the next block came; whether to say what it has.
    fn tell_place(&mut self, now: Instant, load: &Load<'_>) -> bool {
        let is_answered = self.stage == Stage::Done
            || load.window == 1
            || match load.out_of_order {
                OutOfOrder::Each => true,
                OutOfOrder::Once => self.told != Some(self.has),
            };
        if is_answered {
            self.told = Some(self.has);
            self.unacked = 0;
            self.repeat_at = now + load.timeout;
        }
        is_answered
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;
    use crate::boot_net::pattern;

    const BLOCK: usize = 8;

    fn load(file: &[u8], window: u16, out_of_order: OutOfOrder) -> Load<'_> {
        Load { block: BLOCK, window, out_of_order, ..Load::new(file) }
    }

    fn receiving(load: &Load<'_>) -> Client {
        let now = Instant::now();
        let mut client = Client::new(now);
        client.ask(now, load);
        let oack = format!("\0\x06BlkSize\08\0windowsize\0{}\0", load.window);
        assert_eq!(client.hear(now, oack.as_bytes(), load), Ok(true));
        client
    }

    fn data(file: &[u8], block: usize) -> Vec<u8> {
        let at = (block - 1) * BLOCK;
        let number = (block as u16).to_be_bytes();
        [&[0, 3], &number[..], &file[at..(at + BLOCK).min(file.len())]].concat()
    }

    #[test]
    fn lock_step_acks_each_block_beyond_the_roll_over() {
        let file = pattern(70_000 * BLOCK + 3);
        let load = load(&file, 1, OutOfOrder::Each);
        let mut client = receiving(&load);
        for block in 1..=70_001 {
            assert_eq!(client.hear(Instant::now(), &data(&file, block), &load), Ok(true));
        }
        assert_eq!((client.stage, client.bytes(&load)), (Stage::Done, file.len() as u64));
        // Its last ACK was lost.
        assert_eq!(client.hear(Instant::now(), &data(&file, 70_001), &load), Ok(true));
    }

    #[test]
    fn a_window_is_acked_at_its_end_and_a_gap_once_or_each_time() {
        for (out_of_order, again) in [(OutOfOrder::Each, true), (OutOfOrder::Once, false)] {
            let file = pattern(20 * BLOCK);
            let load = load(&file, 4, out_of_order);
            let mut client = receiving(&load);
            let mut hear = |block| client.hear(Instant::now(), &data(&file, block), &load);
            assert_eq!((hear(1), hear(2), hear(3), hear(4)), (Ok(false), Ok(false), Ok(false), Ok(true)));
            assert_eq!((hear(6), hear(7), hear(8)), (Ok(true), Ok(again), Ok(again)));
            assert_eq!((hear(5), hear(6), hear(7), hear(8)), (Ok(false), Ok(false), Ok(false), Ok(true)));
        }
    }

    #[test]
    fn other_bytes_and_options_that_were_not_granted_are_errors() {
        let file = pattern(20 * BLOCK);
        let load = load(&file, 4, OutOfOrder::Each);
        let mut client = receiving(&load);
        let mut wrong = data(&file, 1);
        wrong[5] ^= 1;
        assert_eq!(client.hear(Instant::now(), &wrong, &load), Err(Failure::WrongBytes { block: 1 }));
        let mut client = Client::new(Instant::now());
        client.ask(Instant::now(), &load);
        let oack = b"\0\x06blksize\x008\0";
        assert_eq!(client.hear(Instant::now(), oack, &load), Err(Failure::Lacks("windowsize")));
    }
}
