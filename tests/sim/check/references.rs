//! What MTFTP servers must remember: a model of their table, made of nothing but what they hear and say.
//!
//! * **I2** an ACKed reference is there until its BINLD deleted it, over every crash and restart.
//! * **I3** no leak: when all is quiet the references of living BINLDs are those that their claims want.
//! * **I4** a released address carries nothing else until its rest is over, and none is released that is referenced.
//!
//! A reference may also go on behalf of a BINLD that is dead (G12): by an operator's word, or by a living BINLD's, which
//! names the number that was last ACKed, 300 s after that ACK and not before.
//!
//! The model has of each address the BINLDs whose configure was ACKed, with the highest (boot epoch, serial) of each.
//! A message that was altered on its way counts for what it said: the server cannot know. Only what an altered message
//! made is excused from I3.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use db::{ReferenceRow, Rows};
use driver::Time;
use mtftp::engine::Status;
use mtftp::limits::{GRACE, LEASE, REST, REST_PINNED};
use wire::configure::{Ack, DeleteForDead, RequestRef};
use wire::control::{Envelope, Message};
use wire::{BootEpoch, Content, FileName, GroupAddr, Serial, ServerId};

use super::Checks;
use crate::link::Copy;
use crate::scenario::PINNED;

/// Clocks run slow by up to this share of a rest.
const CLOCK_TOLERANCE: u32 = 1000;

/// Number of a request: compared as a whole.
type Number = (BootEpoch, Serial);

/// What an ACK repeats of its request; two BINLDs differ in it unless a bit was flipped.
type Asked = (SocketAddrV4, RequestRef, FileName);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    binld: ServerId,
    delete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    file: FileName,
    /// Of the last configure that was ACKed.
    number: Number,
    /// Its BINLD has asked to delete it, above that number.
    may_go: bool,
    /// When it may be stale, at the earliest.
    stale_at: Time,
}

/// The table of one server.
#[derive(Debug, Default)]
struct Table {
    /// References that somebody lawfully wants deleted on behalf of their BINLD.
    ordered: BTreeSet<(GroupAddr, ServerId)>,
    asked: BTreeMap<Asked, Vec<Request>>,
    /// Highest number heard.
    highest: BTreeMap<(GroupAddr, ServerId), Number>,
    references: BTreeMap<(GroupAddr, ServerId), Reference>,
    rests: BTreeMap<GroupAddr, (FileName, Time)>,
    /// What altered messages were about: a delete in a wrong name is ACKed, and its sender believes it.
    altered: BTreeSet<(GroupAddr, Ipv4Addr)>,
    /// Pairs of which an ACK does not say which one it is about.
    unsure: BTreeSet<ServerId>,
}

/// A committed claim of a living BINLD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Handed out, so that there must be a reference; else there may be one.
    pub held: bool,
    /// What.
    pub content: Content,
    /// Where.
    pub group: GroupAddr,
}

/// The tables of all MTFTP servers, by number of their host.
#[derive(Debug, Default)]
pub struct Ledger {
    tables: BTreeMap<usize, Table>,
    /// Comparisons made.
    pub compared: u64,
}

fn span_of(group: GroupAddr) -> Duration {
    let span = if group.ip() == PINNED { REST_PINNED } else { REST };
    span - span / CLOCK_TOLERANCE
}

impl Ledger {
    /// A control message reaches an MTFTP server that lives.
    pub fn on_heard(&mut self, now: Time, node: usize, from: SocketAddrV4, copy: &Copy) {
        let Ok(envelope) = Envelope::decode(&copy.bytes) else { return };
        let (serial, group, file, delete) = match envelope.message {
            Message::Configure(configure) => {
                let Some(group) = configure.group() else { return };
                (configure.serial, group, configure.file, false)
            }
            Message::Delete(delete) => (delete.serial, delete.group, delete.file, true),
            Message::DeleteForDead(delete) => {
                return self.tables.entry(node).or_default().on_behalf(now, envelope.sender, &delete);
            }
            Message::Ack(_)
            | Message::Nak(_)
            | Message::Superseded(_)
            | Message::Hold(_)
            | Message::Hello(_)
            | Message::Connect(_)
            | Message::Welcome(_)
            | Message::Refuse(_)
            | Message::Disconnect(_)
            | Message::SyncList(_)
            | Message::Flood(_)
            | Message::FloodAck(_)
            | Message::ClearAsk(_)
            | Message::ClearAnswer(_)
            | Message::LoanAsk(_)
            | Message::LoanAnswer(_)
            | Message::Told(_)
            | Message::Inquiry(_)
            | Message::Declare(_)
            | Message::Revoke(_)
            | Message::Further(_) => return,
        };
        let table = self.tables.entry(node).or_default();
        let binld = envelope.sender;
        let number = (envelope.boot_epoch, serial);
        let highest = table.highest.entry((group, binld)).or_insert(number);
        *highest = number.max(*highest);
        if !copy.intact {
            table.altered.insert((group, *from.ip()));
        }
        if let Some(reference) = table.references.get_mut(&(group, binld)) {
            reference.may_go |= delete && number > reference.number && reference.file == file;
        }
        let request = RequestRef { boot_epoch: number.0, serial, group: Some(group) };
        let of_request = table.asked.entry((from, request, file)).or_default();
        let request = Request { binld, delete };
        if !of_request.contains(&request) {
            of_request.push(request);
        }
        if of_request.len() > 1 {
            table.unsure.extend(of_request.iter().map(|request| request.binld));
        }
    }

    /// An MTFTP server sends a control message.
    pub fn on_sent(&mut self, now: Time, node: usize, to: SocketAddrV4, bytes: &[u8], checks: &mut Checks) {
        let Ok(Envelope { message: Message::Ack(ack), .. }) = Envelope::decode(bytes) else { return };
        let Ack { request, file, .. } = ack;
        let Some(group) = request.group else { return };
        let table = self.tables.entry(node).or_default();
        let Some(asked) = table.asked.get(&(to, request, file.clone())).and_then(|all| all.first()).cloned()
        else {
            return checks.fail(now, "I2", format!("host {node} ACKs what nobody asked: {request:?}"));
        };
        let key = (group, asked.binld);
        let number = (request.boot_epoch, request.serial);
        let known = table.references.get(&key).map(|reference| reference.number);
        if asked.delete {
            let of_file = table.references.get(&key).is_some_and(|reference| reference.file == file);
            if of_file && known.is_some_and(|known| known < number) {
                table.remove(now, key);
            }
        } else if known.is_none_or(|known| known <= number) {
            let highest = table.highest.get(&key).copied();
            let may_go = table.references.get(&key).is_some_and(|reference| reference.may_go)
                && highest.is_some_and(|highest| highest > number);
            table.rests.remove(&group);
            table.ordered.remove(&key);
            let stale_at = now + (LEASE - LEASE / CLOCK_TOLERANCE);
            table.references.insert(key, Reference { file, number, may_go, stale_at });
        }
    }

    /// The table as its server has it, after it has dealt with something.
    pub fn compare(&mut self, now: Time, node: usize, status: &Status, checks: &mut Checks) {
        let table = self.tables.entry(node).or_default();
        self.compared += 1;
        let mut found = BTreeSet::new();
        for claim in &status.claims {
            if let Some((file, _)) = table.resting(now, claim.group).filter(|(file, _)| *file != claim.file) {
                let text = format!("host {node} has {} on {}, where {file} rests", claim.file, claim.group);
                checks.fail(now, "I4", text);
            }
            for reference in claim.references.iter().filter(|reference| reference.stored) {
                let key = (claim.group, reference.binld);
                found.insert(key);
                let number = (reference.epoch, reference.serial);
                let fits = table.references.get(&key).is_some_and(|ours| {
                    let highest = table.highest.get(&key).copied().unwrap_or(ours.number);
                    ours.file == claim.file && ours.number <= number && number <= highest
                });
                if !fits && !table.unsure.contains(&reference.binld) {
                    let ours = table.references.get(&key);
                    let text = format!(
                        "host {node} has {} on {}: {reference:?}, and should have {ours:?}",
                        claim.file, claim.group
                    );
                    checks.fail(now, "model", text);
                }
            }
        }
        let ordered: Vec<_> = table.ordered.iter().filter(|key| !found.contains(key)).copied().collect();
        for key in ordered {
            table.ordered.remove(&key);
            table.remove(now, key);
        }
        for (key, reference) in &table.references {
            if !found.contains(key) && !table.unsure.contains(&key.1) {
                let text = format!("host {node} lost a reference it had ACKed: {key:?} {reference:?}");
                checks.fail(now, "I2", text);
            }
        }
        for (group, (file, _)) in &table.rests {
            let there = status.rests.iter().any(|rest| rest.group == *group && rest.file == *file)
                || status.claims.iter().any(|claim| claim.group == *group && claim.file == *file);
            if !there && table.resting(now, *group).is_some() {
                checks.fail(now, "I4", format!("host {node} forgot that {file} rests on {group}"));
            }
        }
    }

    /// A server starts with this in its store. What was on its way to disk when it died may be there or not.
    pub fn on_start(&mut self, now: Time, node: usize, rows: &Rows, checks: &mut Checks) {
        let table = self.tables.entry(node).or_default();
        let stored: BTreeMap<(GroupAddr, ServerId), &ReferenceRow> =
            rows.references.iter().map(|row| ((row.group, row.binld), row)).collect();
        let gone: Vec<(GroupAddr, ServerId)> =
            table.references.keys().filter(|key| !stored.contains_key(key)).copied().collect();
        for key in gone {
            let lawful =
                table.references.get(&key).is_some_and(|it| it.may_go) || table.ordered.contains(&key);
            if !lawful && !table.unsure.contains(&key.1) {
                let text = format!("the store of host {node} lost an ACKed reference: {key:?}");
                checks.fail(now, "I2", text);
            }
            table.remove(now, key);
        }
        for (key, row) in stored {
            let number = (row.epoch, row.serial);
            let may_go = table.references.get(&key).is_some_and(|it| it.may_go);
            // Leases go on by the wall clock, which somebody may have set, but leave time to renew.
            let stale_at = now + (GRACE - GRACE / CLOCK_TOLERANCE);
            let known = table.references.get(&key).map(|reference| reference.number);
            let asked = table.highest.get(&key).is_some_and(|highest| number <= *highest);
            if !table.unsure.contains(&key.1) && (known.is_some_and(|known| number < known) || !asked) {
                let text = format!("the store of host {node} has {row:?}; ACKed was {known:?}");
                checks.fail(now, "I2", text);
            }
            table.rests.remove(&key.0);
            let file = row.file.clone();
            table.references.insert(key, Reference { file, number, may_go, stale_at });
        }
        // Rests begin again in full.
        for (group, (file, since)) in &mut table.rests {
            if rows.rests.iter().any(|row| row.group == *group && row.file == *file) {
                *since = now;
            } else if now.since(*since) < span_of(*group) {
                checks.fail(
                    now,
                    "I4",
                    format!("the store of host {node} forgot that {file} rests on {group}"),
                );
            }
        }
    }

    /// An operator wants the reference deleted; whether the server does it is up to it.
    pub fn on_forget(&mut self, node: usize, key: (GroupAddr, ServerId)) {
        self.tables.entry(node).or_default().ordered.insert(key);
    }

    /// All that the server has stored is gone.
    pub fn on_store_lost(&mut self, node: usize) {
        if let Some(table) = self.tables.get_mut(&node) {
            table.references.clear();
            table.rests.clear();
        }
    }

    /// What was ACKed is on disk (I2), whatever is under way.
    pub fn expect_stored(&self, now: Time, node: usize, rows: &Rows, checks: &mut Checks) {
        let Some(table) = self.tables.get(&node) else { return };
        for (key, reference) in
            table.references.iter().filter(|(key, it)| !it.may_go && !table.unsure.contains(&key.1))
        {
            let stored = rows.references.iter().any(|row| {
                (row.group, row.binld) == *key
                    && row.file == reference.file
                    && (row.epoch, row.serial) >= reference.number
            });
            if !stored {
                checks.fail(now, "I2", format!("the store of host {node} lacks an ACKed reference: {key:?}"));
            }
        }
    }

    /// Everything is quiet: the references of living BINLDs are those that their claims want (I3).
    pub fn expect_no_leak(
        &self,
        now: Time,
        (node, address): (usize, Ipv4Addr),
        status: &Status,
        wanted: &BTreeMap<ServerId, Vec<Wanted>>,
        checks: &mut Checks,
    ) {
        let altered = self.tables.get(&node).map(|table| &table.altered);
        let mut found = BTreeSet::new();
        for claim in &status.claims {
            for reference in &claim.references {
                found.insert((reference.binld, claim.group, &claim.file));
                let Some(wanted) = wanted.get(&reference.binld) else { continue };
                let of_claim = |it: &&Wanted| {
                    (it.group, it.content.server, &it.content.file) == (claim.group, address, &claim.file)
                };
                let excused = altered.is_some_and(|it| it.contains(&(claim.group, reference.address)));
                if wanted.iter().find(of_claim).is_none() && !excused {
                    let group = claim.group;
                    let text =
                        format!("host {node} has a reference that no claim wants: {group} {reference:?}");
                    checks.fail(now, "I3", text);
                }
            }
        }
        for (binld, wanted) in wanted {
            for Wanted { content, group, .. } in
                wanted.iter().filter(|it| it.held && it.content.server == address)
            {
                if !found.contains(&(*binld, *group, &content.file)) {
                    let text = format!(
                        "host {node} has no reference for {binld}, which holds {group} for {content}"
                    );
                    checks.fail(now, "I3", text);
                }
            }
        }
    }
}

impl Table {
    /// A BINLD wants the reference of another one deleted. Whether the other one lives the server has to know.
    fn on_behalf(&mut self, now: Time, sender: ServerId, delete: &DeleteForDead) {
        let key = (delete.group, delete.dead);
        let is_it = |it: &Reference| {
            it.file == delete.file && it.number == (delete.boot_epoch, delete.serial) && it.stale_at <= now
        };
        if sender != delete.dead && self.references.get(&key).is_some_and(is_it) {
            self.ordered.insert(key);
        }
    }

    fn remove(&mut self, now: Time, key: (GroupAddr, ServerId)) {
        let Some(Reference { file, .. }) = self.references.remove(&key) else { return };
        if !self.references.keys().any(|(group, _)| *group == key.0) {
            self.rests.insert(key.0, (file, now));
        }
    }

    fn resting(&self, now: Time, group: GroupAddr) -> Option<&(FileName, Time)> {
        self.rests.get(&group).filter(|(_, since)| now.since(*since) < span_of(group))
    }
}
