//! Judges a capture. Knows nothing but the packets: no daemon is asked, and no state of theirs is looked at.
//!
//! - **I1**: no two answers to clients name one group address for different contents (MTFTP server, file). The one thing
//!   that explains such a pair is a release in between: the MTFTP server has acknowledged the deletion of the last
//!   reference, and no client that was told can still come.
//! - **I5**: each answer that names a group address comes after the MTFTP server's ACK of a configure of that very boot
//!   server, in its present life, for that address, that file and that port, and the reference was not deleted since.
//! - **Cleared**: before it, that boot server has asked its peers, in its present life.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use wire::configure::{Configure, Delete, DeleteForDead, RequestRef, Target};
use wire::control::{Envelope, Message};
use wire::query::{Opcode, Query};
use wire::record::{Age, Body, Record};
use wire::{BootEpoch, Serial, ServerId};

use crate::capture::Packet;
use crate::pxe_client::{Answer, DISCOVERY_PORT};

/// What a `mtftp://` URI means: iPXE listens nowhere else.
const PINNED: Ipv4Addr = Ipv4Addr::new(239, 255, 1, 1);
/// How long a client that was told an address may come (P3).
const HANDOUT: Duration = Duration::from_secs(120);
/// How old the ACK behind an answer may be (decisions.md, BINLD ↔ MTFTP).
const ACK_AGE_MAX: Duration = Duration::from_secs(180);
/// Queries of the shortest clearing.
const QUERIES_MIN: usize = 4;
/// A new process may ask its peers this long before it first names its boot epoch to anybody.
const FIRST_WORDS: Duration = Duration::from_millis(100);
/// Ports of the boot server and of the MTFTP server.
const QUERY_PORT: u16 = 4015;
const BINLD_PORT: u16 = 4016;
const MTFTPD_PORT: u16 = 4017;

/// A rule of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// I1.
    OneContent,
    /// I5.
    Configured,
    /// Asked before it was told.
    Cleared,
    /// An answer that a strict client does not take.
    Answer,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// When, since the capture began.
    pub at: Duration,
    /// By what.
    pub what: String,
}

/// What a capture comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Everything that is wrong, in order.
    pub findings: Vec<Finding>,
    /// Answers to clients.
    pub answers: usize,
    /// Those that name a group address.
    pub multicast: usize,
    /// Queries and announcements.
    pub queries: usize,
    /// Echoes.
    pub echoes: usize,
}

impl Verdict {
    /// How often a rule was broken.
    #[must_use]
    pub fn count(&self, rule: Rule) -> usize {
        self.findings.iter().filter(|finding| finding.rule == rule).count()
    }
}

/// Judges a capture that began before the first daemon did.
#[must_use]
pub fn judge(packets: &[Packet]) -> Verdict {
    let mut judge = Judge::default();
    for packet in packets {
        judge.see(packet);
    }
    judge.verdict
}

/// What a client is told about a group address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The address.
    pub group: Ipv4Addr,
    /// Who serves it.
    pub server: Ipv4Addr,
    /// Where opens go.
    pub port: u16,
    /// The file.
    pub file: Vec<u8>,
}

impl Told {
    /// What an answer says; `None` if it sends the client to plain TFTP.
    #[must_use]
    pub fn of(answer: &Answer) -> Option<Self> {
        if let Some((group, _, port)) = answer.multicast() {
            return Some(Self { group, server: answer.siaddr, port, file: answer.file.clone().into_bytes() });
        }
        let uri = answer.uri()?;
        let (place, file) = uri.strip_prefix("mtftp://")?.split_once('/')?;
        let (server, port) = place.split_once(':')?;
        Some(Self {
            group: PINNED,
            server: server.parse().ok()?,
            port: port.parse().ok()?,
            file: file.as_bytes().to_vec(),
        })
    }

    fn content(&self) -> (Ipv4Addr, Vec<u8>) {
        (self.server, self.file.clone())
    }
}

/// A boot server's request as its answer repeats it.
type Request = (Ipv4Addr, BootEpoch, Serial, Ipv4Addr);

/// One life of a boot server.
#[derive(Debug, Default)]
struct Life {
    epoch: Option<BootEpoch>,
    /// When it asked for what.
    asked: BTreeMap<(Ipv4Addr, Ipv4Addr, Vec<u8>), Vec<Duration>>,
    /// When the MTFTP server last acknowledged the address with that content and port.
    acked: BTreeMap<(Ipv4Addr, Ipv4Addr, Vec<u8>, u16), Duration>,
}

#[derive(Debug, Default)]
struct Judge {
    verdict: Verdict,
    lives: BTreeMap<Ipv4Addr, Life>,
    configures: BTreeMap<Request, ServerId>,
    deletes: BTreeMap<Request, ServerId>,
    /// References by address and MTFTP server.
    references: BTreeMap<(Ipv4Addr, Ipv4Addr), Vec<ServerId>>,
    /// References whose deletion somebody else asked for, by address, MTFTP server and BINLD.
    for_dead: BTreeSet<(Ipv4Addr, Ipv4Addr, ServerId)>,
    /// What each address was last told for, and when.
    told: BTreeMap<Ipv4Addr, (Told, Duration)>,
}

impl Judge {
    fn see(&mut self, packet: &Packet) {
        let (from, to) = (packet.from, packet.to);
        if from.port() == DISCOVERY_PORT && packet.bytes.first() == Some(&2) {
            self.see_answer(packet);
        } else if to.port() == QUERY_PORT || from.port() == QUERY_PORT {
            self.see_query(packet);
        } else if from.port() == BINLD_PORT || from.port() == MTFTPD_PORT {
            self.see_envelope(packet);
        }
    }

    fn blame(&mut self, rule: Rule, at: Duration, what: String) {
        self.verdict.findings.push(Finding { rule, at, what });
    }

    fn see_query(&mut self, packet: &Packet) {
        match Query::decode(&packet.bytes) {
            Ok((Opcode::Query, query)) => {
                self.verdict.queries += 1;
                let what = (query.group.ip(), query.content.server, query.content.file.as_bytes().to_vec());
                let life = self.lives.entry(*packet.from.ip()).or_default();
                life.asked.entry(what).or_default().push(packet.at);
            }
            Ok((Opcode::Echo, _)) => self.verdict.echoes += 1,
            Err(_) => {}
        }
    }

    fn see_envelope(&mut self, packet: &Packet) {
        let Ok(Envelope { sender, boot_epoch, message, .. }) = Envelope::decode(&packet.bytes) else {
            return;
        };
        let (from, to) = (*packet.from.ip(), *packet.to.ip());
        if packet.from.port() == BINLD_PORT {
            let life = self.lives.entry(from).or_default();
            if life.epoch.replace(boot_epoch).is_some_and(|before| before != boot_epoch) {
                // A new process counts only what it did itself.
                life.acked.clear();
                for times in life.asked.values_mut() {
                    times.retain(|then| packet.at.saturating_sub(*then) < FIRST_WORDS);
                }
            }
            match message {
                Message::Configure(Configure { serial, target: Target::Group { group, .. }, .. }) => {
                    self.configures.insert((from, boot_epoch, serial, group.ip()), sender);
                }
                Message::Delete(Delete { serial, group, .. }) => {
                    self.deletes.insert((from, boot_epoch, serial, group.ip()), sender);
                }
                Message::DeleteForDead(DeleteForDead { group, dead, .. }) => {
                    self.for_dead.insert((group.ip(), to, dead));
                }
                Message::Configure(_)
                | Message::Ack(_)
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
                | Message::Further(_) => {}
            }
        } else if let Message::Ack(ack) = message {
            self.see_ack(packet.at, from, to, &ack);
        } else if let Message::Flood(flood) = message {
            flood.records.iter().for_each(|record| self.see_record(from, record));
        }
    }

    /// A delete on behalf has no ACK but the record of the references, without that one.
    fn see_record(&mut self, server: Ipv4Addr, record: &Record) {
        let Body::Reference(reference) = &record.body else { return };
        let group = reference.group.ip();
        let is_there = |binld: ServerId| {
            record.age != Age::DELETED && reference.holders.iter().any(|holder| holder.binld == binld)
        };
        let asked: Vec<_> =
            self.for_dead.iter().filter(|it| (it.0, it.1) == (group, server)).copied().collect();
        for key in asked.into_iter().filter(|(.., dead)| !is_there(*dead)) {
            self.for_dead.remove(&key);
            self.references.entry((group, server)).or_default().retain(|other| *other != key.2);
        }
    }

    fn see_ack(&mut self, at: Duration, server: Ipv4Addr, binld: Ipv4Addr, ack: &wire::configure::Ack) {
        let RequestRef { boot_epoch, serial, group: Some(group) } = ack.request else { return };
        let (request, group) = ((binld, boot_epoch, serial, group.ip()), group.ip());
        let list = self.references.entry((group, server)).or_default();
        let life = self.lives.entry(binld).or_default();
        if let Some(sender) = self.configures.get(&request) {
            if !list.contains(sender) {
                list.push(*sender);
            }
            if life.epoch == Some(boot_epoch) {
                let what = (group, server, ack.file.as_bytes().to_vec(), ack.ports.server);
                life.acked.insert(what, at);
            }
        } else if let Some(sender) = self.deletes.get(&request) {
            list.retain(|other| other != sender);
            life.acked.retain(|(other, by, ..), _| (*other, *by) != (group, server));
        }
    }

    fn see_answer(&mut self, packet: &Packet) {
        let at = packet.at;
        self.verdict.answers += 1;
        let told = match Answer::read(packet.from, &packet.bytes) {
            Ok(answer) => Told::of(&answer),
            Err(error) => return self.blame(Rule::Answer, at, format!("{}: {error}", packet.from)),
        };
        let Some(told) = told else { return };
        self.verdict.multicast += 1;
        let binld = *packet.from.ip();
        let shown = format!(
            "{binld} tells {} on {} by {}:{}",
            String::from_utf8_lossy(&told.file),
            told.group,
            told.server,
            told.port
        );
        let life = self.lives.entry(binld).or_default();
        let asked = life.asked.get(&(told.group, told.server, told.file.clone())).map_or(0, Vec::len);
        let acked = life.acked.get(&(told.group, told.server, told.file.clone(), told.port)).copied();
        if asked < QUERIES_MIN {
            self.blame(Rule::Cleared, at, format!("{shown} after {asked} queries"));
        }
        match acked {
            None => self.blame(Rule::Configured, at, format!("{shown} without an ACK")),
            Some(then) if at.saturating_sub(then) > ACK_AGE_MAX => {
                self.blame(
                    Rule::Configured,
                    at,
                    format!("{shown} {:?} after the last ACK", at.saturating_sub(then)),
                );
            }
            Some(_) => {}
        }
        if let Some((before, then)) = self.told.get(&told.group)
            && before.content() != told.content()
        {
            let free = self.references.get(&(before.group, before.server)).is_none_or(Vec::is_empty);
            if !free || at.saturating_sub(*then) < HANDOUT {
                let what = format!(
                    "{shown}; {} by {} was told {:?} before",
                    String::from_utf8_lossy(&before.file),
                    before.server,
                    at.saturating_sub(*then)
                );
                self.blame(Rule::OneContent, at, what);
            }
        }
        self.told.insert(told.group, (told, at));
    }
}

#[cfg(test)]
mod tests;
