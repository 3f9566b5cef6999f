//! Plain TFTP: RFC 1350 with options (RFC 2347), block size (2348), time-out and size (2349).
//!
//! ```text
//! request (port 69) ─► Looking ─ file there ─► with options: Offered ─ ACK 0 ─┐
//!                        │ not there           └─ without ────────────────────┴─► Sending ─ ACK of the last ─► done
//!                        ▼                                                          │
//!                     ERROR 1                    the timer sends again, doubling, a bounded number of times
//! ```
//!
//! The transfer goes on from one door, [`Role::Transfer`]; a client's address and port name it. An ACK that is not
//! the awaited one starts nothing, ever: only the timer sends a block twice. Block numbers roll over to 0.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Deadlines, Role, Time};
use wire::FileName;
use wire::tftp::{BLOCK_SIZE_DEFAULT, ErrorCode, Mode, Options, Packet, Request};

use super::action::{Blocks, Event, FileError, FileFacts, FileId, FileTicket, Outcome};
use super::context::Context;
use super::rtt::RoundTrip;
use crate::limits::{
    BLOCK_SENDS_MAX, FIRST_BLOCK_SENDS_MAX, OACK_SENDS_MAX, TRANSFER_RESEND_FIRST, TRANSFER_RESEND_MAX,
    TRANSFER_RESEND_MIN, TRANSFERS_MAX, TRANSFERS_PER_SOURCE_MAX,
};

#[cfg(test)]
mod tests;

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

/// Block `block` is out.
#[derive(Debug)]
struct Sending {
    block: u64,
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
    round_trip: RoundTrip,
    sent_at: Time,
    /// How often what is out was sent.
    sends: u32,
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
    transfers: BTreeMap<SocketAddrV4, Transfer>,
    deadlines: Deadlines<SocketAddrV4>,
}

impl Flow {
    fn last_block(&self) -> u64 {
        self.size / u64::from(self.block_size) + 1
    }

    fn resend_at(&self) -> Time {
        let first =
            self.round_trip.resend_after(TRANSFER_RESEND_FIRST, TRANSFER_RESEND_MIN, TRANSFER_RESEND_MAX);
        let doubled = first.saturating_mul(1_u32 << self.sends.saturating_sub(1).min(16));
        self.sent_at + doubled.min(TRANSFER_RESEND_MAX)
    }

    fn sent(&mut self, now: Time) {
        self.sent_at = now;
        self.sends += 1;
    }

    /// What is out was ACKed: measured unless it was sent more than once (Karn).
    fn acked(&mut self, now: Time) {
        if self.sends == 1 {
            self.round_trip.measured(now.since(self.sent_at));
        }
        self.sends = 0;
    }

    fn put_block(&mut self, now: Time, client: SocketAddrV4, block: u64, context: &mut Context) {
        self.sent(now);
        let (file, block_size) = (self.file, self.block_size);
        let to = client;
        context.blocks(Blocks { file, first_block: block, count: 1, block_size, role: Role::Transfer, to });
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
    pub(crate) fn new(block_size_max: u16) -> Self {
        Self { block_size_max, transfers: BTreeMap::new(), deadlines: Deadlines::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.transfers.len()
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
        let found = self.transfers.iter().find_map(|(client, transfer)| match transfer {
            Transfer::Looking(looking) if looking.ticket == ticket => Some(*client),
            Transfer::Looking(_) | Transfer::Offered(_) | Transfer::Sending(_) => None,
        });
        let Some(client) = found else { return false };
        let Some(Transfer::Looking(looking)) = self.transfers.remove(&client) else { return false };
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
        let asked = looking.options;
        let answer = Options {
            block_size: asked.block_size.map(|size| size.min(self.block_size_max)),
            transfer_size: asked.transfer_size.map(|_| facts.size),
            timeout_seconds: asked.timeout_seconds,
            // Not negotiated: a sender without windows is right for every client.
            window_size: None,
            multicast: None,
        };
        let mut flow = Flow {
            name: looking.name,
            file: facts.id,
            size: facts.size,
            block_size: answer.block_size.unwrap_or(BLOCK_SIZE_DEFAULT),
            round_trip: RoundTrip::default(),
            sent_at: now,
            sends: 0,
        };
        let transfer = if answer.is_empty() {
            flow.put_block(now, client, 1, context);
            Transfer::Sending(Sending { block: 1, heard: false, flow })
        } else {
            context.send(Role::Transfer, client, Packet::OptionAck(answer.clone()).encode());
            flow.sent(now);
            Transfer::Offered(Offered { answer, flow })
        };
        self.put(client, transfer);
    }

    fn put(&mut self, client: SocketAddrV4, transfer: Transfer) {
        if let Transfer::Offered(Offered { flow, .. }) | Transfer::Sending(Sending { flow, .. }) = &transfer {
            self.deadlines.arm(client, flow.resend_at(), "a transfer waits for an ACK");
        }
        self.transfers.insert(client, transfer);
    }

    fn end(&mut self, client: SocketAddrV4, outcome: Outcome, context: &mut Context) {
        self.deadlines.disarm(&client);
        let (name, file) = match self.transfers.remove(&client) {
            None => return,
            Some(Transfer::Looking(looking)) => (looking.name, None),
            Some(Transfer::Offered(Offered { flow, .. }) | Transfer::Sending(Sending { flow, .. })) => {
                (flow.name, Some(flow.file))
            }
        };
        if let Some(file) = file {
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

    /// An ACK on the transfer port.
    pub(crate) fn on_ack(&mut self, now: Time, client: SocketAddrV4, acked: u16, context: &mut Context) {
        match self.transfers.remove(&client) {
            None => context.count("transfer", "ack_from_nobody"),
            Some(Transfer::Offered(Offered { mut flow, .. })) if acked == 0 => {
                flow.acked(now);
                flow.put_block(now, client, 1, context);
                self.put(client, Transfer::Sending(Sending { block: 1, heard: true, flow }));
            }
            Some(Transfer::Sending(Sending { block, mut flow, .. })) if wire_number(block) == acked => {
                flow.acked(now);
                let done = block >= flow.last_block();
                if !done {
                    flow.put_block(now, client, block + 1, context);
                }
                self.put(client, Transfer::Sending(Sending { block: block + 1, heard: true, flow }));
                if done {
                    self.end(client, Outcome::Complete, context);
                }
            }
            Some(other) => {
                context.count("transfer", "ack_again");
                self.transfers.insert(client, other);
            }
        }
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
        let found: Vec<SocketAddrV4> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| match transfer {
                Transfer::Looking(_) => false,
                Transfer::Offered(Offered { flow, .. }) | Transfer::Sending(Sending { flow, .. }) => {
                    flow.file == file
                }
            })
            .map(|(client, _)| *client)
            .collect();
        for client in found {
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
                        flow.sent(now);
                    }
                    again
                }
                Transfer::Sending(Sending { block, heard, flow }) => {
                    let most = if *heard { BLOCK_SENDS_MAX } else { FIRST_BLOCK_SENDS_MAX };
                    let again = flow.sends < most;
                    if again {
                        flow.put_block(now, client, *block, context);
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

/// Block numbers have 16 bits on the wire and roll over to 0.
fn wire_number(block: u64) -> u16 {
    u16::try_from(block & 0xffff).unwrap_or(0)
}

const _: () = assert!(TRANSFER_RESEND_MAX.as_nanos() >= Duration::from_secs(1).as_nanos());
