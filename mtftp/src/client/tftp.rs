//! A request on port 69, and what the server makes of it: plain TFTP (RFC 1350, 2347–2349, 7440) or a stream of RFC 2090.

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Time};
use wire::tftp::{BLOCK_SIZE_DEFAULT, ErrorCode, Mode, MulticastAnswer, Options, Packet, Request};

use super::stream::Stream;
use super::{Action, Cause, Context, Door, Failure, Source, Step, Wanted};

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
    /// The next block.
    next: u64,
    /// Blocks since the last ACK.
    unacked: u16,
    /// A gap was reported and not filled since.
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
        let request = Request { name: wanted.file.as_bytes().to_vec(), mode: Mode::Octet, options };
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
                let step = plain.on_block(*block, bytes, self.rollover, context);
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
                let mut plain = Plain::new(from, BLOCK_SIZE_DEFAULT, 1);
                let step = plain.on_block(*block, bytes, self.rollover, context);
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
        let Some(value) = &options.multicast else {
            self.state = State::Plain(Plain::new(from, block_size, window_size));
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

    pub(super) fn on_timeout(&mut self, now: Time, context: &mut Context) -> Step {
        if now < self.next_deadline().at {
            return Step::Going;
        }
        if self.tries >= self.tries_max {
            return match &self.state {
                State::Asking | State::Plain(_) => Step::Failed(Failure::Silence),
                State::Stream(stream) => {
                    stream.give_up(context);
                    Step::NoMulticast(if stream.has_heard() { Cause::Silence } else { Cause::NotHeard })
                }
            };
        }
        self.heard_at = now;
        self.tries += 1;
        context.counts.asked_again += 1;
        match &mut self.state {
            State::Asking => context.send(self.port, &Packet::Read(self.request.clone())),
            State::Plain(plain) => plain.ack(self.rollover, context),
            State::Stream(stream) if stream.is_master() => stream.ack(context),
            // As atftp does: the server may have forgotten us, or its OACK was lost.
            State::Stream(_) => context.send(self.port, &Packet::Read(self.request.clone())),
        }
        Step::Going
    }
}

impl Plain {
    fn new(server: SocketAddrV4, block_size: u16, window_size: u16) -> Self {
        Self { server, block_size, window_size, next: 1, unacked: 0, told_gap: false }
    }

    /// ACKs what came in order.
    fn ack(&mut self, rollover: u16, context: &mut Context) {
        self.unacked = 0;
        context.ack(self.server, wire_number(self.next - 1, rollover));
    }

    fn on_block(&mut self, block: u16, bytes: &[u8], rollover: u16, context: &mut Context) -> Step {
        context.heard(Door::Own);
        if bytes.len() > usize::from(self.block_size) {
            return Step::Failed(Failure::Protocol("a block is too long"));
        }
        if block != wire_number(self.next, rollover) {
            context.counts.needless_blocks += 1;
            // Once for each gap: the server goes back to it (RFC 7440 § 4). The last block again means that it has not
            // heard our ACK.
            let is_repeat = block == wire_number(self.next - 1, rollover) && self.unacked == 0;
            if is_repeat || (!self.told_gap && self.window_size > 1) {
                self.told_gap = true;
                self.ack(rollover, context);
            }
            return Step::Going;
        }
        context.store((self.next - 1) * u64::from(self.block_size), bytes);
        self.told_gap = false;
        self.next += 1;
        self.unacked += 1;
        let is_last = bytes.len() < usize::from(self.block_size);
        if is_last || self.unacked >= self.window_size {
            self.ack(rollover, context);
        }
        if is_last { Step::Whole(Source::Plain) } else { Step::Going }
    }
}

/// Block numbers have 16 bits, and after 65,535 begin again at 0 or at 1.
fn wire_number(block: u64, rollover: u16) -> u16 {
    let number = match rollover {
        1 if block > 0 => (block - 1) % 65_535 + 1,
        _ => block % 65_536,
    };
    u16::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_roll_over_to_0_or_1() {
        let table = [
            (0, 0, 0),
            (1, 1, 1),
            (65_535, 65_535, 65_535),
            (65_536, 0, 1),
            (131_071, 65_535, 1),
            (131_072, 0, 2),
        ];
        for (block, zero, one) in table {
            assert_eq!((wire_number(block, 0), wire_number(block, 1)), (zero, one), "{block}");
        }
    }
}
