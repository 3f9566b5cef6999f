//! Plain TFTP: RFC 1350 with options (RFC 2347), block size (2348), time-out and size (2349), windows (7440), roll-over.
//!
//! ```text
//! request (port 69) ─► Looking ─ file there ─► with options: Offered ─ ACK 0 ─┐
//!                        │ not there           └─ without ────────────────────┴─► Sending ─ ACK of the last ─► done
//!                        ▼                                                          │
//!                     ERROR 1                    the timer sends again, doubling, a bounded number of times
//! ```
//!
//! The transfer goes on from one door, [`Role::Transfer`]; a client's address and port name it. What an ACK starts, and
//! what it does not, stands in [`outstanding`].

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Deadlines, Role, RoundTrip, Time};
use wire::FileName;
use wire::tftp::{BLOCK_SIZE_DEFAULT, ErrorCode, Mode, Options, Packet, Request, Rollover, block_count};

use super::EngineConfig;
use super::action::{Blocks, Event, FileError, FileFacts, FileId, FileTicket, Outcome};
use super::context::Context;
use crate::limits::{
    BLOCK_SENDS_MAX, FIRST_BLOCK_SENDS_MAX, OACK_SENDS_MAX, TRANSFER_RESEND_FIRST, TRANSFER_RESEND_MAX,
    TRANSFER_RESEND_MIN, TRANSFERS_MAX, TRANSFERS_PER_SOURCE_MAX, WINDOW_RESEND_MIN, WINDOW_SIZE_MAX,
};

mod ahead;
mod kinds;
mod out;
mod outstanding;
#[cfg(test)]
mod tests;

use ahead::Ahead;
use kinds::{Kind, Kinds};
use out::Out;
use outstanding::{Outstanding, Span, Verdict};

/// Why there is a deadline.
const AWAITS_ACK: &str = "a transfer waits for an ACK";

/// The shell looks the file up.
#[derive(Debug)]
struct Looking {
    ticket: FileTicket,
    name: FileName,
    options: Options,
}

/// The OACK is out.
#[derive(Debug)]
struct Offered {
    answer: Options,
    flow: Flow,
}

/// Blocks are out.
#[derive(Debug)]
struct Sending {
    out: Out,
    /// An ACK came: the client is real.
    heard: bool,
    flow: Flow,
}

/// What offering and sending share.
#[derive(Debug)]
struct Flow {
    name: FileName,
    file: FileId,
    size: u64,
    block_size: u16,
    /// Blocks for one ACK.
    window: u16,
    kind: Kind,
    rollover: Rollover,
    round_trip: RoundTrip,
    sent_at: Time,
    /// How often what is out was sent, by the timer.
    sends: u32,
    /// Doublings of the timer, until a round trip is measured again (Karn).
    doublings: u32,
}

#[derive(Debug)]
enum Transfer {
    Looking(Looking),
    Offered(Offered),
    Sending(Sending),
}

/// All plain transfers.
#[derive(Debug)]
pub(crate) struct Plain {
    block_size_max: u16,
    window_size_max: u16,
    rollover: Rollover,
    kinds: Kinds,
    transfers: BTreeMap<SocketAddrV4, Transfer>,
    /// Whose file is being looked up.
    tickets: BTreeMap<FileTicket, SocketAddrV4>,
    /// Whose file it is: each transfer has opened its own.
    files: BTreeMap<FileId, SocketAddrV4>,
    deadlines: Deadlines<SocketAddrV4>,
}

impl Flow {
    fn last_block(&self) -> u64 {
        block_count(self.size, self.block_size)
    }

    fn resend_at(&self) -> Time {
        let least = if self.window > 1 { WINDOW_RESEND_MIN } else { TRANSFER_RESEND_MIN };
        let first = self.round_trip.resend_after(TRANSFER_RESEND_FIRST, least, TRANSFER_RESEND_MAX);
        let doubled = first.saturating_mul(1_u32 << self.doublings.min(16));
        self.sent_at + doubled.min(TRANSFER_RESEND_MAX)
    }

    fn sent(&mut self, now: Time) {
        self.sent_at = now;
        self.sends += 1;
    }

    fn sent_again(&mut self, now: Time) {
        self.sent(now);
        self.doublings += 1;
    }

    /// Something new was ACKed.
    fn acked(&mut self, round_trip: Option<Duration>) {
        if let Some(span) = round_trip {
            self.round_trip.measured(span);
            self.doublings = 0;
        }
        self.sends = 0;
    }

    fn put_blocks(&self, client: SocketAddrV4, span: Span, context: &mut Context) {
        let (file, block_size, rollover) = (self.file, self.block_size, self.rollover);
        let Span { first: first_block, count } = span;
        let (role, to) = (Role::Transfer, client);
        context.blocks(Blocks { file, first_block, count, block_size, rollover, role, to });
    }

    /// The first blocks. `once`: nothing that the client could ACK with 0 went out twice.
    fn start(
        mut self,
        now: Time,
        client: SocketAddrV4,
        once: bool,
        kinds: &Kinds,
        context: &mut Context,
    ) -> Sending {
        let (last, rollover) = (self.last_block(), self.rollover);
        let room = (self.window == 1).then(|| kinds.room(self.kind)).flatten();
        let out = match room {
            Some(room) => Out::Ahead(Ahead::new(now, last, room, rollover, once)),
            None => Out::Windows(Outstanding::new(last, self.window, rollover, once)),
        };
        self.put_blocks(client, out.first(), context);
        self.sent(now);
        Sending { out, heard: false, flow: self }
    }
}

/// What an ACK came to.
enum Heard {
    /// Nothing.
    Nothing,
    /// Blocks went out, or all are: the timer runs anew.
    Sent,
    /// The client has all.
    Complete,
}

impl Sending {
    fn on_ack(&mut self, now: Time, client: SocketAddrV4, acked: u16, context: &mut Context) -> Heard {
        let flow = &mut self.flow;
        match self.out.on_ack(now, flow.sent_at, acked) {
            Verdict::Stale => {
                context.count("transfer", "ack_again");
                Heard::Nothing
            }
            Verdict::Again(span) => {
                context.count("transfer", "window_again");
                flow.put_blocks(client, span, context);
                flow.sent_at = now;
                Heard::Sent
            }
            Verdict::Onward { round_trip, next } => {
                flow.acked(round_trip);
                if let Some(span) = next {
                    flow.put_blocks(client, span, context);
                    context.counters.add("transfer", "ahead", self.out.ahead_in(span));
                }
                flow.sent(now);
                self.heard = true;
                Heard::Sent
            }
            Verdict::Complete => Heard::Complete,
        }
    }
}

/// Sends an ERROR; a courtesy that is not repeated.
pub(crate) fn refuse(role: Role, client: SocketAddrV4, code: ErrorCode, text: &str, context: &mut Context) {
    context.send(role, client, Packet::Error { code, message: text.as_bytes() }.encode());
}

/// The name asked for, without the slashes that some clients put first.
pub(crate) fn name_of(request: &Request) -> Option<FileName> {
    let slashes = request.name.iter().take_while(|&&byte| byte == b'/').count();
    FileName::new(request.name.get(slashes..)?)
}

impl Plain {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        Self {
            block_size_max: config.block_size_max,
            window_size_max: config.window_size_max.min(WINDOW_SIZE_MAX),
            rollover: config.rollover,
            kinds: Kinds::new(config.run_ahead),
            transfers: BTreeMap::new(),
            tickets: BTreeMap::new(),
            files: BTreeMap::new(),
            deadlines: Deadlines::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.transfers.len()
    }

    /// For the status: those that are offered a file or get it, in order of client, with the block that they ACKed, of
    /// how many.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = (SocketAddrV4, &FileName, u64, u64)> {
        self.transfers.iter().filter_map(|(client, transfer)| match transfer {
            Transfer::Looking(_) => None,
            Transfer::Offered(Offered { flow, .. }) => Some((*client, &flow.name, 0, flow.last_block())),
            Transfer::Sending(Sending { out, flow, .. }) => {
                let (acked, last) = out.progress();
                Some((*client, &flow.name, acked, last))
            }
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        self.deadlines.next()
    }

    /// A read request that may be served.
    pub(crate) fn on_request(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        request: &Request,
        context: &mut Context,
    ) {
        if request.mode != Mode::Octet {
            context.count("tftp", "mode");
            return refuse(Role::Transfer, client, ErrorCode::ILLEGAL, "only octet mode", context);
        }
        let Some(name) = name_of(request) else {
            context.count("tftp", "name");
            return refuse(Role::Transfer, client, ErrorCode::NOT_FOUND, "no such file", context);
        };
        match self.transfers.get(&client) {
            // The request was repeated before our answer arrived: the timer answers.
            Some(Transfer::Looking(old)) if old.name == name => return context.count("tftp", "repeated"),
            Some(
                Transfer::Offered(Offered { flow, .. })
                | Transfer::Sending(Sending { heard: false, flow, .. }),
            ) if flow.name == name => {
                return context.count("tftp", "repeated");
            }
            Some(_) => self.end(client, Outcome::Superseded, context),
            None => {}
        }
        let range = SocketAddrV4::new(*client.ip(), 0)..=SocketAddrV4::new(*client.ip(), u16::MAX);
        if self.transfers.len() >= TRANSFERS_MAX
            || self.transfers.range(range).count() >= TRANSFERS_PER_SOURCE_MAX
        {
            return context.count("tftp", "too_many_transfers");
        }
        context.count("tftp", "request");
        let ticket = context.open(name.clone());
        let options = request.options.clone();
        self.tickets.insert(ticket, client);
        self.transfers.insert(client, Transfer::Looking(Looking { ticket, name, options }));
        // The shell always answers; nothing is due before.
        let _ = now;
    }

    /// The answer to one of our questions about a file. False if the ticket is not ours.
    pub(crate) fn on_file(
        &mut self,
        now: Time,
        ticket: FileTicket,
        result: Result<FileFacts, FileError>,
        context: &mut Context,
    ) -> bool {
        let Some(client) = self.tickets.remove(&ticket) else { return false };
        let looking = match self.transfers.remove(&client) {
            Some(Transfer::Looking(looking)) => looking,
            // Its ticket goes when it does.
            other @ (None | Some(Transfer::Offered(_) | Transfer::Sending(_))) => {
                self.transfers.extend(other.map(|it| (client, it)));
                return false;
            }
        };
        match result {
            Ok(facts) => self.begin(now, client, looking, facts, context),
            Err(error) => {
                context.count("tftp", "no_file");
                context.tell(Event::NoFile { client, file: looking.name });
                let (code, text) = match error {
                    FileError::NotFound => (ErrorCode::NOT_FOUND, "no such file"),
                    // Whether it exists outside our tree is nobody's business.
                    FileError::Denied => (ErrorCode::ACCESS, "access denied"),
                    FileError::Busy => (ErrorCode::NOT_DEFINED, "try again"),
                };
                refuse(Role::Transfer, client, code, text, context);
            }
        }
        true
    }

    fn begin(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        looking: Looking,
        facts: FileFacts,
        context: &mut Context,
    ) {
        let answer = self.answer(&looking.options, facts.size);
        let flow = Flow {
            name: looking.name,
            file: facts.id,
            size: facts.size,
            block_size: answer.block_size.unwrap_or(BLOCK_SIZE_DEFAULT),
            window: answer.window_size.unwrap_or(1),
            kind: Kind::of(&looking.options),
            rollover: answer.rollover.unwrap_or(self.rollover),
            round_trip: RoundTrip::default(),
            sent_at: now,
            sends: 0,
            doublings: 0,
        };
        self.files.insert(facts.id, client);
        let transfer = if answer.is_empty() {
            Transfer::Sending(flow.start(now, client, true, &self.kinds, context))
        } else {
            context.send(Role::Transfer, client, Packet::OptionAck(answer.clone()).encode());
            let mut flow = flow;
            flow.sent(now);
            Transfer::Offered(Offered { answer, flow })
        };
        self.put(client, transfer);
    }

    /// What is taken of the options: only what was asked for, and no more of it.
    fn answer(&self, asked: &Options, size: u64) -> Options {
        let windows = self.window_size_max > 1;
        Options {
            block_size: asked.block_size.map(|size| size.min(self.block_size_max)),
            transfer_size: asked.transfer_size.map(|_| size),
            timeout_seconds: asked.timeout_seconds,
            window_size: asked.window_size.filter(|_| windows).map(|size| size.min(self.window_size_max)),
            rollover: asked.rollover,
            multicast: None,
        }
    }

    fn put(&mut self, client: SocketAddrV4, transfer: Transfer) {
        if let Transfer::Offered(Offered { flow, .. }) | Transfer::Sending(Sending { flow, .. }) = &transfer {
            self.deadlines.arm(client, flow.resend_at(), AWAITS_ACK);
        }
        self.transfers.insert(client, transfer);
    }

    fn end(&mut self, client: SocketAddrV4, outcome: Outcome, context: &mut Context) {
        self.deadlines.disarm(&client);
        let (name, file) = match self.transfers.remove(&client) {
            None => return,
            Some(Transfer::Looking(looking)) => {
                self.tickets.remove(&looking.ticket);
                (looking.name, None)
            }
            Some(Transfer::Offered(Offered { flow, .. }) | Transfer::Sending(Sending { flow, .. })) => {
                (flow.name, Some(flow.file))
            }
        };
        if let Some(file) = file {
            self.files.remove(&file);
            context.close(file);
        }
        context.count(
            "tftp",
            match outcome {
                Outcome::Complete => "complete",
                Outcome::Probe => "probe",
                Outcome::Aborted => "aborted",
                Outcome::Silent => "silent",
                Outcome::FileChanged => "file_changed",
                Outcome::Superseded => "superseded",
            },
        );
        context.tell(Event::TransferEnded { client, file: name, outcome });
    }

    /// An ACK on the transfer port. Gives the file, once, when it shows that the client really fetches it.
    pub(crate) fn on_ack(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        acked: u16,
        context: &mut Context,
    ) -> Option<FileName> {
        match self.transfers.get_mut(&client) {
            None => context.count("transfer", "ack_from_nobody"),
            Some(Transfer::Offered(_)) if acked == 0 => return self.on_accepted(now, client, context),
            Some(Transfer::Looking(_) | Transfer::Offered(_)) => context.count("transfer", "ack_again"),
            Some(Transfer::Sending(sending)) => {
                let first = (!sending.heard).then(|| sending.flow.name.clone());
                match sending.on_ack(now, client, acked, context) {
                    Heard::Nothing => return None,
                    Heard::Sent => {
                        self.deadlines.arm(client, sending.flow.resend_at(), AWAITS_ACK);
                        return first.filter(|_| sending.heard);
                    }
                    Heard::Complete => {
                        if let Out::Ahead(out) = &sending.out {
                            self.kinds.learn(sending.flow.kind, out.ceiling());
                        }
                        self.end(client, Outcome::Complete, context);
                        return first;
                    }
                }
            }
        }
        None
    }

    /// The client takes the options that it was offered.
    fn on_accepted(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) -> Option<FileName> {
        let Some(Transfer::Offered(Offered { mut flow, .. })) = self.transfers.remove(&client) else {
            return None;
        };
        let once = flow.sends == 1;
        flow.acked(once.then(|| now.since(flow.sent_at)));
        let name = flow.name.clone();
        let sending = flow.start(now, client, once, &self.kinds, context);
        self.put(client, Transfer::Sending(Sending { heard: true, ..sending }));
        Some(name)
    }

    /// An ERROR on the transfer port ends the transfer; never answered (RFC 1350 § 7).
    pub(crate) fn on_error(&mut self, client: SocketAddrV4, context: &mut Context) {
        let outcome = match self.transfers.get(&client) {
            None => return context.count("transfer", "error_from_nobody"),
            Some(Transfer::Offered(_)) => Outcome::Probe,
            Some(Transfer::Looking(_) | Transfer::Sending(_)) => Outcome::Aborted,
        };
        self.end(client, outcome, context);
    }

    /// The file is not what it was: its transfer ends with an ERROR rather than mixed bytes.
    pub(crate) fn on_file_changed(&mut self, file: FileId, context: &mut Context) {
        if let Some(client) = self.files.get(&file).copied() {
            refuse(Role::Transfer, client, ErrorCode::NOT_DEFINED, "the file changed", context);
            self.end(client, Outcome::FileChanged, context);
        }
    }

    pub(crate) fn on_timeout(&mut self, now: Time, context: &mut Context) {
        while let Some(client) = self.deadlines.pop_due(now) {
            let Some(mut transfer) = self.transfers.remove(&client) else { continue };
            let again = match &mut transfer {
                Transfer::Looking(_) => continue,
                Transfer::Offered(Offered { answer, flow }) => {
                    let again = flow.sends < OACK_SENDS_MAX;
                    if again {
                        context.send(Role::Transfer, client, Packet::OptionAck(answer.clone()).encode());
                        flow.sent_again(now);
                    }
                    again
                }
                Transfer::Sending(Sending { out, heard, flow }) => {
                    let most = if *heard { BLOCK_SENDS_MAX } else { FIRST_BLOCK_SENDS_MAX };
                    let again = flow.sends < most;
                    if again {
                        flow.put_blocks(client, out.again(flow.sends), context);
                        flow.sent_again(now);
                    }
                    again
                }
            };
            self.put(client, transfer);
            if again {
                context.count("transfer", "resend");
            } else {
                self.end(client, Outcome::Silent, context);
            }
        }
    }
}

const _: () = assert!(TRANSFER_RESEND_MAX.as_nanos() >= Duration::from_secs(1).as_nanos());
