//! A stream of RFC 2090 as one of its clients sees it.

use std::net::SocketAddrV4;
use std::time::Duration;

use wire::tftp::{MulticastAnswer, Packet};

use super::image::{Image, Taken};
use super::{Context, Door, Source, Step};

/// A client that only listens asks after this many times its patience: others may be master for long.
const LISTENERS_PATIENCE: u32 = 5;

/// The client's part.
#[derive(Debug)]
pub(super) struct Stream {
    server: SocketAddrV4,
    image: Image,
    is_master: bool,
    has_heard: bool,
}

impl Stream {
    /// `None` if a file of that size cannot be multicast.
    pub(super) fn new(server: SocketAddrV4, block_size: u16, size: Option<u64>) -> Option<Self> {
        let mut image = Image::new(block_size);
        if let Some(size) = size
            && !image.know_size(size)
        {
            return None;
        }
        Some(Self { server, image, is_master: false, has_heard: false })
    }

    pub(super) fn server(&self) -> SocketAddrV4 {
        self.server
    }

    pub(super) fn is_master(&self) -> bool {
        self.is_master
    }

    /// Whether any block came by multicast.
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// How long to wait before asking again.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        if self.is_master { patience } else { patience * LISTENERS_PATIENCE }
    }

    /// ACKs the block before the first that is missing.
    pub(super) fn ack(&self, context: &mut Context) {
        context.ack(self.server, self.image.before_gap());
    }

    /// Who is made master says what it lacks.
    pub(super) fn set_master(&mut self, is_master: bool, context: &mut Context) {
        if is_master {
            context.counts.master += 1;
            self.ack(context);
        }
        self.is_master = is_master;
    }

    /// What it means, and whether it brings us on.
    pub(super) fn on_packet(
        &mut self,
        door: Door,
        packet: &Packet<'_>,
        context: &mut Context,
    ) -> (Step, bool) {
        match packet {
            Packet::Data { block, bytes } => self.on_block(door, *block, bytes, context),
            Packet::OptionAck(options) => {
                let answer = options.multicast.as_deref().and_then(MulticastAnswer::parse);
                if let Some(answer) = answer {
                    self.set_master(answer.is_master, context);
                }
                // The server knows us.
                (Step::Going, answer.is_some())
            }
            Packet::Read(_) | Packet::Write(_) | Packet::Ack(_) | Packet::Error { .. } => {
                (Step::Going, false)
            }
        }
    }

    fn on_block(&mut self, door: Door, block: u16, bytes: &[u8], context: &mut Context) -> (Step, bool) {
        context.heard(door);
        self.has_heard |= door == Door::Group;
        match self.image.take(block, bytes.len()) {
            // A block of something else does not spoil what is there.
            Taken::Wrong => return (Step::Going, false),
            Taken::Again => context.counts.needless_blocks += 1,
            Taken::New(offset) => context.store(offset, bytes),
        }
        let is_whole = self.image.is_whole();
        // Who has it all says so, master or not: nobody need ask.
        if self.is_master || is_whole {
            self.ack(context);
        }
        (if is_whole { Step::Whole(Source::Rfc2090) } else { Step::Going }, true)
    }
}
