//! Kills `mtftpd` between configure and delete, again and again, and looks whether it forgets what it has acknowledged
//! (R003.18). Run it with `tests/kills [COUNT]`; it is no test of every day, because it takes minutes.
//!
//! A scripted boot server configures one address after the other and now and then deletes one. The server is killed at a
//! moment drawn from a seed: while the request is on its way, being stored or being answered, or after its ACK. After each
//! restart every acknowledged reference must be there, and none whose deletion was acknowledged.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the figures are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it shows how long it took")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use driver::Draw;
use serde_json::Value;
use sim::boot_net::start;
use sim::daemon::{Daemon, Kind};
use sim::lab::{Lab, eventually};
use sim::pxe_client::receive;
use wire::configure::{Configure, Delete, Ports, Target};
use wire::control::{Envelope, Message};
use wire::policy::Policy;
use wire::{BootEpoch, FileName, GroupAddr, Serial, ServerId, Stamp};

/// Kills, unless the command line says otherwise.
const KILLS: u32 = 1000;
/// The grace after a restart, in seconds: as short as it can be and still be one.
const GRACE_S: u64 = 1;
/// Every so manieth request deletes: it has to wait for the end of the grace.
const DELETE_EVERY: u32 = 10;
/// References at most: below what one boot server may have.
const REFERENCES_MAX: usize = 900;
/// The latest moment of a kill after the request was sent; a request takes some 2 ms.
const KILL_AFTER_MAX_US: u64 = 4000;
/// Waits for an answer before a request is repeated.
const PATIENCE: Duration = Duration::from_millis(100);
const SENDER: ServerId = ServerId(*b"scripted BINLD..");

/// What the server must have, as far as it told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// A configure was acknowledged.
    There,
    /// A delete was acknowledged.
    Gone,
    /// Something was asked, and the server died before it answered.
    Either,
}

struct Script {
    socket: UdpSocket,
    server: SocketAddrV4,
    serial: u32,
    sequence: u64,
    known: BTreeMap<GroupAddr, Known>,
}

fn group(number: u32) -> GroupAddr {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(239, 255, 4, 0)) + number);
    GroupAddr::new(address).expect("the pool is multicast")
}

/// A file of its own for each address: one server port carries one address for each file.
fn file(group: GroupAddr) -> FileName {
    FileName::new(group.to_string().as_bytes()).expect("an address is a name")
}

impl Script {
    fn configure(&mut self, group: GroupAddr) -> u32 {
        let ports = Ports { client: 3001, server: 1760 };
        let target = Target::Group {
            group,
            ports,
            stamp: Stamp { millis: 1, sender: SENDER },
            policy: Policy::default(),
        };
        let serial = Serial(self.serial + 1);
        self.send(Message::Configure(Configure { serial, target, file: file(group) }))
    }

    fn delete(&mut self, group: GroupAddr) -> u32 {
        let serial = Serial(self.serial + 1);
        self.send(Message::Delete(Delete { serial, group, file: file(group) }))
    }

    fn send(&mut self, message: Message) -> u32 {
        self.serial += 1;
        self.sequence += 1;
        let envelope =
            Envelope { sender: SENDER, boot_epoch: BootEpoch(1), sequence: self.sequence, message };
        self.socket.send_to(&envelope.encode(), self.server).expect("a request can be sent");
        self.serial
    }

    /// Whether the request was acknowledged in that time.
    fn is_acked(&self, serial: u32, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            // A time-out of 0 would be none.
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
            let Some((bytes, _)) = receive(&self.socket, left) else { return false };
            let Ok(envelope) = Envelope::decode(&bytes) else { continue };
            if matches!(&envelope.message, Message::Ack(ack) if ack.request.serial == Serial(serial)) {
                return true;
            }
        }
    }

    /// Asks until it is acknowledged.
    fn insist(&mut self, group: GroupAddr, known: Known) {
        eventually("an ACK", || {
            let serial = if known == Known::Gone { self.delete(group) } else { self.configure(group) };
            self.is_acked(serial, PATIENCE).then_some(())
        });
        self.known.insert(group, known);
    }

    /// How many acknowledged references are missing in what was found, and how many deleted ones are in it.
    fn compare(&mut self, kill: u32, found: &BTreeSet<String>) -> (usize, usize) {
        let is_found = |group: &GroupAddr| found.contains(&group.to_string());
        let missing: Vec<GroupAddr> =
            self.with(Known::There).into_iter().filter(|group| !is_found(group)).collect();
        let risen: Vec<GroupAddr> = self.with(Known::Gone).into_iter().filter(is_found).collect();
        for group in &missing {
            println!("kill {kill}: the acknowledged reference for {group} is lost");
        }
        for group in &risen {
            println!("kill {kill}: the deleted reference for {group} came back");
        }
        let counts = (missing.len(), risen.len());
        self.known.extend(missing.into_iter().map(|group| (group, Known::Gone)));
        counts
    }

    fn with(&self, known: Known) -> Vec<GroupAddr> {
        self.known.iter().filter(|(_, there)| **there == known).map(|(group, _)| *group).collect()
    }
}

/// The addresses with references, as the server tells, and as its store has them.
fn references(mtftpd: &Daemon) -> BTreeSet<String> {
    let status = mtftpd.status();
    let claims = status["claims"].as_array().cloned().unwrap_or_default();
    let told: BTreeSet<String> = claims.iter().filter_map(|claim| text(&claim["group"])).collect();
    let dump = mtftpd.dump();
    let stored = dump.iter().filter(|record| record["record"] == "reference");
    let stored: BTreeSet<String> = stored.filter_map(|record| text(&record["address"])).collect();
    assert_eq!(told, stored, "what the server tells is not what it has stored");
    told
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn main() -> ExitCode {
    let count = std::env::args().nth(1).map_or(Some(KILLS), |count| count.parse().ok());
    let Some(count) = count.filter(|count| *count > 0 && *count <= 30_000) else {
        eprintln!("usage: kills [COUNT], 1-30000");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let mut lab = Lab::new();
    for number in 0..count {
        lab.boot_file(&group(number).to_string(), b"a file");
    }
    let (host, client) = (lab.host("mtftp1", 21), lab.host("binld1", 11));
    let mut mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", &format!("grace_s = {GRACE_S}\n"));
    let server = SocketAddrV4::new(host.address(), 4017);
    let mut script =
        Script { socket: client.bind(4016), server, serial: 0, sequence: 0, known: BTreeMap::new() };
    let mut draw = Draw::from_seed(1);
    let (mut lost, mut came_back, mut unanswered) = (0, 0, 0);
    for kill in 0..count {
        let there = script.with(Known::There);
        let deletes =
            !there.is_empty() && (kill % DELETE_EVERY == DELETE_EVERY - 1 || there.len() >= REFERENCES_MAX);
        let (about, serial, then) = if deletes {
            eventually("the end of the grace", || (started_ago_ms(&mtftpd) > GRACE_S * 1000).then_some(()));
            let about =
                there.get(usize::try_from(kill).unwrap_or(0) % there.len()).copied().unwrap_or(group(kill));
            (about, script.delete(about), Known::Gone)
        } else {
            (group(kill), script.configure(group(kill)), Known::There)
        };
        let patience = Duration::from_micros(draw.bits() % KILL_AFTER_MAX_US);
        let mut acked = script.is_acked(serial, patience);
        mtftpd.kill();
        // An ACK that has left counts, wherever it is.
        acked = acked || script.is_acked(serial, Duration::ZERO);
        unanswered += u32::from(!acked);
        script.known.insert(about, if acked { then } else { Known::Either });
        mtftpd.start();
        let found = references(&mtftpd);
        let (missing, risen) = script.compare(kill, &found);
        (lost, came_back) = (lost + missing, came_back + risen);
        // What a boot server does that heard nothing: ask again.
        for group in script.with(Known::Either) {
            if then == Known::There {
                script.insist(group, then);
            }
        }
        if kill % 100 == 99 {
            println!(
                "  {} kills, {} references, {:.0} s",
                kill + 1,
                found.len(),
                began.elapsed().as_secs_f64()
            );
        }
    }
    for (group, known) in script.known.clone() {
        if known != Known::Gone {
            script.insist(group, Known::Gone);
        }
    }
    let left = references(&mtftpd).len();
    println!(
        "kills {count} ({unanswered} before the answer), lost {lost}, came back {came_back}, left behind {left}, {:.0} s",
        began.elapsed().as_secs_f64()
    );
    if lost + came_back + left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Milliseconds since the start of the process, as it tells.
fn started_ago_ms(mtftpd: &Daemon) -> u64 {
    mtftpd.status()["uptime_ms"].as_u64().unwrap_or(0)
}
