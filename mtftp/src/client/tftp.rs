//! A request on port 69, and what the server makes of it: plain TFTP (RFC 1350, 2347–2349, 7440) or a stream of RFC 2090.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Time};
use wire::tftp::{BLOCK_SIZE_DEFAULT, ErrorCode, MulticastAnswer, Options, Packet, Request, Rollover};

use super::stream::Stream;
use super::{Action, Cause, Context, Door, Failure, Source, Step, Wanted, request};

/// So many blocks behind a gap, and it is one.
const OVERTAKERS_MAX: usize = 3;
/// Blocks farther ahead are as good as wrong: a number must not mean two blocks.
const REACH_MAX: u64 = 0x8000;

#[derive(Debug)]
enum State {
    /// The request is out.
    Asking,
    /// Blocks come in order.
    Plain(Plain),
    /// Blocks come in any order, most of them by multicast.
    Stream(Stream),
}

/// A plain transfer.
#[derive(Debug)]
struct Plain {
    server: SocketAddrV4,
    block_size: u16,
    window_size: u16,
    rollover: Rollover,
    /// The next block.
    next: u64,
    /// The block that was ACKed last.
    acked: u64,
    /// Blocks that came before their turn.
    ahead: BTreeSet<u64>,
    /// The short one, when it has come.
    last: Option<u64>,
    /// The gap before `next` was reported.
    told_gap: bool,
}

/// The attempt.
#[derive(Debug)]
pub(super) struct Tftp {
    request: Request,
    port: SocketAddrV4,
    rollover: Rollover,
    patience: Duration,
    tries_max: u32,
    state: State,
    /// When something was heard, or asked again.
    heard_at: Time,
    /// How often something was asked again since something was heard.
    tries: u32,
}

impl Tftp {
    pub(super) fn new(wanted: &Wanted, multicast: bool, now: Time, context: &mut Context) -> Self {
        let options = Options {
            block_size: Some(wanted.block_size).filter(|&size| size != BLOCK_SIZE_DEFAULT),
            transfer_size: Some(0),
            timeout_seconds: None,
            window_size: Some(wanted.window_size).filter(|&blocks| blocks > 1),
            rollover: wanted.rollover,
            multicast: multicast.then(String::new),
        };
        let request = request(&wanted.file, options);
        let port = SocketAddrV4::new(wanted.server, wanted.port);
        context.actions.push(Action::Bind(0));
        context.send(port, &Packet::Read(request.clone()));
        Self {
            request,
            port,
            rollover: wanted.rollover.unwrap_or_default(),
            patience: wanted.patience,
            tries_max: wanted.tries,
            state: State::Asking,
            heard_at: now,
            tries: 0,
        }
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        let patience = match &self.state {
            State::Stream(stream) => stream.patience(self.patience),
            State::Asking | State::Plain(_) => self.patience,
        };
        Deadline { at: self.heard_at + patience, why: "the server is silent" }
    }

    pub(super) fn on_packet(
        &mut self,
        now: Time,
        door: Door,
        from: SocketAddrV4,
        packet: &Packet<'_>,
        context: &mut Context,
    ) -> Step {
        if let Packet::Error { code, message } = packet {
            return self.on_error(door, from, *code, message);
        }
        match &mut self.state {
            State::Asking if door == Door::Own => self.on_answer(now, from, packet, context),
            State::Asking => Step::Going,
            State::Plain(plain) => {
                let Packet::Data { block, bytes } = packet else { return Step::Going };
                if from != plain.server || door != Door::Own {
                    return Step::Going;
                }
                let before = plain.next;
                let step = plain.on_block(*block, bytes, context);
                if plain.next > before {
                    (self.heard_at, self.tries) = (now, 0);
                }
                step
            }
            State::Stream(stream) => {
                if from != stream.server() {
                    return Step::Going;
                }
                let (step, is_progress) = stream.on_packet(door, packet, context);
                if is_progress {
                    (self.heard_at, self.tries) = (now, 0);
                }
                step
            }
        }
    }

    fn on_error(&mut self, door: Door, from: SocketAddrV4, code: ErrorCode, message: &[u8]) -> Step {
        let is_ours = match &self.state {
            State::Asking => true,
            State::Plain(plain) => from == plain.server,
            State::Stream(stream) => from == stream.server(),
        };
        match &self.state {
            _ if !is_ours || door != Door::Own => Step::Going,
            State::Stream(_) => Step::NoMulticast(Cause::Refused),
            State::Asking | State::Plain(_) => {
                Step::Failed(Failure::Error(code.0, String::from_utf8_lossy(message).into_owned()))
            }
        }
    }

    /// The first answer fixes the server's port (RFC 1350 § 4).
    fn on_answer(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        packet: &Packet<'_>,
        context: &mut Context,
    ) -> Step {
        (self.heard_at, self.tries) = (now, 0);
        match packet {
            Packet::OptionAck(options) => self.on_options(from, options, context),
            // A server without options.
            Packet::Data { block, bytes } => {
                context.block_size = Some(BLOCK_SIZE_DEFAULT);
                let mut plain = Plain::new(from, BLOCK_SIZE_DEFAULT, 1, self.rollover);
                let step = plain.on_block(*block, bytes, context);
                self.state = State::Plain(plain);
                step
            }
            Packet::Read(_) | Packet::Write(_) | Packet::Ack(_) | Packet::Error { .. } => Step::Going,
        }
    }

    fn on_options(&mut self, from: SocketAddrV4, options: &Options, context: &mut Context) -> Step {
        let asked = &self.request.options;
        let block_size = options.block_size.unwrap_or(BLOCK_SIZE_DEFAULT);
        let window_size = options.window_size.unwrap_or(1);
        let fits = block_size <= asked.block_size.unwrap_or(BLOCK_SIZE_DEFAULT)
            && window_size <= asked.window_size.unwrap_or(1);
        if !fits || (options.multicast.is_some() && asked.multicast.is_none()) {
            let message = b"more than was asked for";
            context.send(from, &Packet::Error { code: ErrorCode::OPTIONS, message });
            return Step::Failed(Failure::Protocol("the OACK grants more than was asked for"));
        }
        context.counts.size = options.transfer_size;
        context.block_size = Some(block_size);
        let Some(value) = &options.multicast else {
            self.state = State::Plain(Plain::new(from, block_size, window_size, self.rollover));
            context.ack(from, 0);
            return Step::Going;
        };
        let answer = MulticastAnswer::parse(value);
        let Some((group, is_master)) = answer.and_then(|answer| Some((answer.group?, answer.is_master)))
        else {
            return Step::Failed(Failure::Protocol("the answer to the option `multicast` cannot be read"));
        };
        let Some(mut stream) = Stream::new(from, block_size, options.transfer_size) else {
            return Step::NoMulticast(Cause::Protocol);
        };
        context.actions.push(Action::Join(group));
        stream.set_master(is_master, context);
        self.state = State::Stream(stream);
        Step::Going
    }

    /// Leaves before the end.
    pub(super) fn stop(&self, context: &mut Context) {
        match &self.state {
            // Whoever has not answered does not wait.
            State::Asking => {}
            State::Plain(Plain { server, .. }) => give_up(*server, b"out of time", context),
            State::Stream(stream) => give_up(stream.server(), b"out of time", context),
        }
    }

    pub(super) fn on_timeout(&mut self, now: Time, context: &mut Context) -> Step {
        if now < self.next_deadline().at {
            return Step::Going;
        }
        if self.tries >= self.tries_max {
            return match &self.state {
                State::Asking | State::Plain(_) => Step::Silence,
                State::Stream(stream) => {
                    give_up(stream.server(), b"nothing is heard", context);
                    Step::NoMulticast(if stream.has_heard() { Cause::Silence } else { Cause::NotHeard })
                }
            };
        }
        self.heard_at = now;
        self.tries += 1;
        context.counts.asked_again += 1;
        match &mut self.state {
            State::Asking => context.send(self.port, &Packet::Read(self.request.clone())),
            State::Plain(plain) => plain.ack(context),
            State::Stream(stream) if stream.is_master() => stream.ack(context),
            // As atftp does: the server may have forgotten us, or its OACK was lost.
            State::Stream(_) => context.send(self.port, &Packet::Read(self.request.clone())),
        }
        Step::Going
    }
}

/// Leaves before the end, so that nobody waits for us.
fn give_up(server: SocketAddrV4, message: &[u8], context: &mut Context) {
    context.send(server, &Packet::Error { code: ErrorCode::NOT_DEFINED, message });
}

impl Plain {
    fn new(server: SocketAddrV4, block_size: u16, window_size: u16, rollover: Rollover) -> Self {
        Self {
            server,
            block_size,
            window_size,
            rollover,
            next: 1,
            acked: 0,
            ahead: BTreeSet::new(),
            last: None,
            told_gap: false,
        }
    }

    /// ACKs what came in order.
    fn ack(&mut self, context: &mut Context) {
        self.acked = self.next - 1;
        context.ack(self.server, self.rollover.number(self.acked));
    }

    fn on_block(&mut self, number: u16, bytes: &[u8], context: &mut Context) -> Step {
        context.heard(Door::Own);
        if bytes.len() > usize::from(self.block_size) {
            return Step::Failed(Failure::Protocol("a block is too long"));
        }
        let Some(block) = self.within_reach(number).filter(|block| !self.ahead.contains(block)) else {
            context.counts.needless_blocks += 1;
            // The last one again means that the server has not heard our ACK.
            if number == self.rollover.number(self.acked) && self.acked + 1 == self.next {
                self.ack(context);
            }
            return Step::Going;
        };
        context.store((block - 1) * u64::from(self.block_size), bytes);
        if bytes.len() < usize::from(self.block_size) {
            self.last = Some(block);
        }
        self.ahead.insert(block);
        let before = self.next;
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
        self.told_gap &= self.next == before;
        let is_whole = self.last.is_some_and(|last| self.next > last);
        // Once for each gap the server hears of it, and goes back to it (RFC 7440 § 4); not at once, as a block may have
        // overtaken another.
        let is_gap = !self.told_gap && self.ahead.len() >= OVERTAKERS_MAX;
        if is_whole || self.next > self.acked + u64::from(self.window_size) || is_gap {
            self.told_gap |= is_gap;
            self.ack(context);
        }
        if is_whole { Step::Whole(Source::Plain) } else { Step::Going }
    }

    /// The block of that number that may come now: from the next one on, two windows at the most.
    fn within_reach(&self, number: u16) -> Option<u64> {
        let reach = u64::from(self.window_size) * 2;
        (self.next..self.next + reach.min(REACH_MAX)).find(|block| self.rollover.number(*block) == number)
    }
}
