//! PXE-MTFTP as PXE 2.1 § 2.4.10 has it, in the manner of Intel's client (pxe.md B.1, B.2).
//!
//! ```text
//!  Probe ──► Listen ── nothing heard ──► Open ── unicast and multicast ──► Receive: ACKs every block
//!  (strict)   ▲ │ pass over, or silence   │ only multicast                    │ last block, or silence
//!             │ └── some missing ─────────┼───────────────────────────────────┘
//!             └───── listen again ────────┘        all there ──► whole
//! ```
//! The delay before the next open is the listen delay less one second for each block that was missed: who lacks much
//! opens first.
//!
//! Strictly, blocks that do not follow each other in a pass are an error, a master takes nothing but the next block, and
//! what it heard before a gap is worth nothing; else blocks count in any order, and a unicast block alone makes a master.

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Time};
use wire::FileName;
use wire::pxe::MulticastTags;
use wire::tftp::{BLOCK_SIZE_DEFAULT, ErrorCode, Options, Packet};

use super::image::{Image, Taken};
use super::{Action, Cause, Context, Door, Source, Step, Wanted, request};

/// Opens without an answer before multicast is given up, of Intel's client.
const OPENS_MAX: u32 = 3;
/// What Intel's client adds to each wait.
const WAIT_EXTRA: Duration = Duration::from_millis(100);
/// Times that a master hears nothing, or an old block, before it gives up, of Intel's client.
const SILENCES_MAX: u32 = 3;
/// Its wait for an answer on port 69.
const PROBE_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The size is asked for by plain TFTP.
    Probe { tries: u32 },
    /// Hears what others are sent.
    Listen,
    /// The open is out; which copies of block 1 have come.
    Open { tries: u32, unicast: bool, multicast: bool },
    /// Master: the last block that was taken, and how often it has waited for the next one.
    Receive { block: u16, silences: u32 },
}

/// What one pass brought while listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Pass {
    /// The block before the first that is waited for.
    before: u16,
    /// The latest block.
    block: u16,
    /// From here on nothing is missing.
    start: u16,
    /// Blocks that did not come, after the first that did.
    missed: u32,
    /// Whether any came.
    heard: bool,
}

/// The attempt.
#[derive(Debug)]
pub(super) struct Mtftp {
    tags: MulticastTags,
    server: SocketAddrV4,
    tftp: SocketAddrV4,
    file: FileName,
    strict: bool,
    image: Image,
    state: State,
    pass: Pass,
    /// The last block that is missing, when a pass was heard to its end.
    last_missing: Option<u16>,
    due_at: Time,
}

impl Mtftp {
    pub(super) fn new(wanted: &Wanted, tags: MulticastTags, now: Time, context: &mut Context) -> Self {
        let mut mtftp = Self {
            tags,
            server: SocketAddrV4::new(wanted.server, tags.server_port),
            tftp: SocketAddrV4::new(wanted.server, wanted.port),
            file: wanted.file.clone(),
            strict: wanted.strict,
            image: Image::new(BLOCK_SIZE_DEFAULT),
            state: State::Listen,
            pass: Pass::default(),
            last_missing: None,
            due_at: now,
        };
        context.block_size = Some(BLOCK_SIZE_DEFAULT);
        if wanted.strict {
            context.actions.push(Action::Bind(0));
            mtftp.probe(now, 0, context);
        } else {
            mtftp.begin(now, context);
        }
        mtftp
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        Deadline { at: self.due_at, why: "no block comes" }
    }

    fn delay(&self) -> Duration {
        Duration::from_secs(self.tags.delay_seconds.into())
    }

    fn wait(&mut self, now: Time, span: Duration) {
        self.due_at = now + span + WAIT_EXTRA;
    }

    fn probe(&mut self, now: Time, tries: u32, context: &mut Context) {
        let options = Options { block_size: Some(1456), transfer_size: Some(0), ..Options::default() };
        context.send(self.tftp, &Packet::Read(request(&self.file, options)));
        self.state = State::Probe { tries };
        self.wait(now, PROBE_WAIT);
    }

    /// From here on the client's port is that of the tags.
    fn begin(&mut self, now: Time, context: &mut Context) {
        context.actions.push(Action::Bind(self.tags.client_port));
        context.actions.push(Action::Join(SocketAddrV4::new(self.tags.group.ip(), self.tags.client_port)));
        self.listen(now, 0, self.delay());
    }

    fn listen(&mut self, now: Time, before: u16, span: Duration) {
        self.state = State::Listen;
        self.pass = Pass { before, block: before, start: before, ..Pass::default() };
        self.wait(now, span);
    }

    fn open(&mut self, now: Time, tries: u32, context: &mut Context) {
        context.send(self.server, &Packet::Read(request(&self.file, Options::default())));
        if tries > 0 {
            context.counts.asked_again += 1;
        }
        self.state = State::Open { tries, unicast: false, multicast: false };
        self.wait(now, self.delay());
    }

    // --- inputs ---------------------------------------------------------------------------------------------

    pub(super) fn on_packet(
        &mut self,
        now: Time,
        door: Door,
        from: SocketAddrV4,
        packet: &Packet<'_>,
        context: &mut Context,
    ) -> Step {
        if let State::Probe { .. } = self.state {
            return self.on_probed(now, from, packet, context);
        }
        // Strictly, all comes from the server port; our own servers keep to it.
        if from != self.server {
            return Step::Going;
        }
        let (block, bytes) = match packet {
            Packet::Data { block, bytes } => (*block, *bytes),
            Packet::Error { .. } if door == Door::Own => {
                return Step::NoMulticast(Cause::Refused);
            }
            Packet::Read(_)
            | Packet::Write(_)
            | Packet::Ack(_)
            | Packet::Error { .. }
            | Packet::OptionAck(_) => return Step::Going,
        };
        context.heard(door);
        let step = match self.state {
            State::Probe { .. } => Step::Going,
            State::Listen if door == Door::Own && self.strict => Step::Going,
            State::Listen if door == Door::Own => self.become_master(now, block, bytes, context),
            State::Listen => self.on_heard(now, block, bytes, context),
            State::Open { .. } => self.on_opened(now, door, block, bytes, context),
            State::Receive { .. } if door == Door::Own && self.strict => Step::Going,
            State::Receive { .. } => self.on_received(now, block, bytes, context),
        };
        if self.image.is_whole() && !self.strict && step == Step::Going {
            return Step::Whole(Source::PxeMtftp);
        }
        step
    }

    /// The answer to the probe: it is ended by an ERROR, as Intel's client does it.
    fn on_probed(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        packet: &Packet<'_>,
        context: &mut Context,
    ) -> Step {
        match packet {
            Packet::OptionAck(options) => {
                context.counts.size = options.transfer_size;
                context.send(from, &Packet::Error { code: ErrorCode::OPTIONS, message: b"" });
                self.begin(now, context);
                Step::Going
            }
            Packet::Error { .. } => Step::NoMulticast(Cause::Refused),
            Packet::Read(_) | Packet::Write(_) | Packet::Data { .. } | Packet::Ack(_) => Step::Going,
        }
    }

    /// Puts the bytes away. False if this is no block of the file.
    fn take(&mut self, block: u16, bytes: &[u8], context: &mut Context) -> bool {
        match self.image.take(block, bytes.len()) {
            Taken::Wrong => return false,
            Taken::Again => context.counts.needless_blocks += 1,
            Taken::New(offset) => context.store(offset, bytes),
        }
        true
    }

    // --- listening ------------------------------------------------------------------------------------------

    fn on_heard(&mut self, now: Time, block: u16, bytes: &[u8], context: &mut Context) -> Step {
        let pass = self.pass;
        if block == pass.block && (pass.heard || block == pass.before) {
            return Step::Going;
        }
        if block < pass.block && self.strict {
            return Step::NoMulticast(Cause::Protocol);
        }
        if !self.take(block, bytes, context) {
            return if self.strict { Step::NoMulticast(Cause::Protocol) } else { Step::Going };
        }
        let skipped = block.saturating_sub(pass.block).saturating_sub(1);
        self.pass.block = block;
        if !pass.heard || skipped > 0 {
            self.pass.start = block;
        }
        if pass.heard {
            self.pass.missed += u32::from(skipped);
        }
        self.pass.heard = true;
        self.wait(now, self.delay());
        let is_end = self.image.last() == Some(block) || self.strict && self.last_missing == Some(block);
        if is_end { self.on_pass_over(now) } else { Step::Going }
    }

    /// The last block that was waited for has come.
    fn on_pass_over(&mut self, now: Time) -> Step {
        let pass = self.pass;
        let is_complete = pass.missed == 0 && pass.start == pass.before + 1;
        if self.strict && is_complete {
            let whole = self.image.is_whole();
            return if whole { Step::Whole(Source::PxeMtftp) } else { Step::NoMulticast(Cause::Protocol) };
        }
        self.last_missing = pass.start.checked_sub(1).filter(|&block| block > 0);
        self.listen_again(now);
        Step::Going
    }

    /// Who missed much waits less until it opens.
    fn listen_again(&mut self, now: Time) {
        let missed = u64::from(self.pass.missed);
        let span = self.delay().saturating_sub(Duration::from_secs(missed));
        self.listen(now, 0, span);
    }

    // --- opening and receiving ------------------------------------------------------------------------------

    fn on_opened(&mut self, now: Time, door: Door, block: u16, bytes: &[u8], context: &mut Context) -> Step {
        let State::Open { tries, mut unicast, mut multicast } = self.state else { return Step::Going };
        if door == Door::Own && !self.strict {
            return self.become_master(now, block, bytes, context);
        }
        if block != 1 {
            // A pass runs: its second block after the first, or anything else.
            let follows = block == 2 && multicast;
            if !self.take(block, bytes, context) {
                return Step::Going;
            }
            self.listen(now, if follows { 2 } else { 0 }, self.delay());
            if !follows && !self.strict {
                self.pass = Pass { before: 0, block, start: block, missed: 0, heard: true };
            }
            return Step::Going;
        }
        match door {
            Door::Own => unicast = true,
            Door::Group => multicast = true,
        }
        if !self.take(block, bytes, context) {
            return Step::NoMulticast(Cause::Protocol);
        }
        self.state = State::Open { tries, unicast, multicast };
        if unicast && multicast {
            return self.become_master(now, block, bytes, context);
        }
        Step::Going
    }

    fn become_master(&mut self, now: Time, block: u16, bytes: &[u8], context: &mut Context) -> Step {
        context.counts.master += 1;
        self.state = State::Receive { block: block.wrapping_sub(1), silences: 0 };
        self.on_received(now, block, bytes, context)
    }

    fn on_received(&mut self, now: Time, block: u16, bytes: &[u8], context: &mut Context) -> Step {
        let State::Receive { block: before, .. } = self.state else { return Step::Going };
        if self.strict && block == before {
            return self.on_silence(now, context);
        }
        if self.strict && block != before.wrapping_add(1) || !self.take(block, bytes, context) {
            return if self.strict { self.leave(Cause::Protocol, context) } else { Step::Going };
        }
        self.state = State::Receive { block, silences: 0 };
        context.ack(self.server, block);
        self.wait(now, self.delay());
        if self.image.last() != Some(block) {
            return Step::Going;
        }
        if self.image.is_whole() {
            return Step::Whole(Source::PxeMtftp);
        }
        // It heard the end of the file, and lacks some of it: the next pass brings that.
        self.pass.missed = 1;
        self.listen_again(now);
        Step::Going
    }

    /// Nothing, or nothing new, came to the master: it says again what it has.
    fn on_silence(&mut self, now: Time, context: &mut Context) -> Step {
        let State::Receive { block, silences } = self.state else { return Step::Going };
        let silences = silences + 1;
        if silences >= SILENCES_MAX {
            if self.strict {
                return self.leave(Cause::Silence, context);
            }
            self.open(now, 0, context);
            return Step::Going;
        }
        self.state = State::Receive { block, silences };
        context.counts.asked_again += 1;
        context.ack(self.server, block);
        self.wait(now, self.delay());
        Step::Going
    }

    fn leave(&mut self, cause: Cause, context: &mut Context) -> Step {
        self.stop(context);
        Step::NoMulticast(cause)
    }

    /// Leaves before the end: nobody waits for one that is not master.
    pub(super) fn stop(&self, context: &mut Context) {
        match self.state {
            State::Receive { .. } => {
                context.send(self.server, &Packet::Error { code: ErrorCode::OPTIONS, message: b"" });
            }
            State::Probe { .. } | State::Listen | State::Open { .. } => {}
        }
    }

    pub(super) fn on_timeout(&mut self, now: Time, context: &mut Context) -> Step {
        if now < self.due_at {
            return Step::Going;
        }
        match self.state {
            State::Probe { tries } if tries + 1 < OPENS_MAX => {
                context.counts.asked_again += 1;
                self.probe(now, tries + 1, context);
            }
            State::Probe { .. } => return Step::NoMulticast(Cause::NotOffered),
            State::Listen if self.pass.heard => self.listen_again(now),
            State::Listen => self.open(now, 0, context),
            State::Open { tries, .. } if tries + 1 < OPENS_MAX => self.open(now, tries + 1, context),
            State::Open { unicast, .. } => {
                return Step::NoMulticast(if unicast { Cause::NotHeard } else { Cause::NotOffered });
            }
            State::Receive { .. } => return self.on_silence(now, context),
        }
        Step::Going
    }
}
