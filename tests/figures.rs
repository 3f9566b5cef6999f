//! Figures of the store and of memory; part of `tests/bench`.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use db::{Change, ClaimRow, ClaimState, Store};
use sim::boot_net::{binld_config, pattern, start};
use sim::daemon::{Daemon, Kind};
use sim::lab::Lab;
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine};
use wire::query::{Opcode, Query};
use wire::{Content, FileName, GroupAddr, Layer, ServerId, ServerType, Stamp};

use crate::line;

/// Claims written one by one, and in batches: as many as the boot server's store thread takes at once.
const SINGLE: u32 = 500;
const BATCH: u32 = 1024;
const BATCHES: u32 = 50;
/// Claims that one MTFTP server takes of one boot server, with room to spare (mtftp/src/limits.rs: 1024).
const CLAIMS_PER_SERVER: u32 = 1000;
/// How long all claims may take to be held.
const HELD_PATIENCE: Duration = Duration::from_secs(400);
const OWNER: ServerId = ServerId([7; 16]);

fn float(count: u32) -> f64 {
    f64::from(count)
}

fn pool_group(number: u32) -> GroupAddr {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(239, 255, 2, 0)) + number % 60_000);
    GroupAddr::new(address).expect("the pool is multicast")
}

fn claim_row(number: u32) -> ClaimRow {
    let file = FileName::new(format!("file{number}").as_bytes()).expect("a short name");
    ClaimRow {
        group: pool_group(number),
        content: Content { server: Ipv4Addr::new(10, 0, 0, 9), file },
        client_port: 3001,
        server_port: 1760,
        server_type: ServerType(0x8001),
        layer: Layer(0),
        item: "debian".to_owned(),
        pinned: false,
        state: ClaimState::Recording,
        stamp: Stamp { millis: 1, sender: OWNER },
        owner: OWNER,
        since_ms: 1,
    }
}

/// Durable claims per second: many in one transaction against one each, in one run on one disk.
pub(crate) fn group_commit() {
    println!("\nClaims on disk, synchronous (in the folder of temporary files)");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::open(&folder.path().join("binld.db"), db::Kind::Binld).expect("a store");
    let began = Instant::now();
    for number in 0..SINGLE {
        store.apply(&[Change::PutClaim(claim_row(number))]).expect("a write");
    }
    let single = float(SINGLE) / began.elapsed().as_secs_f64();
    let began = Instant::now();
    for batch in 0..BATCHES {
        let claims = (0..BATCH).map(|number| Change::PutClaim(claim_row(batch * BATCH + number)));
        store.apply(&claims.collect::<Vec<_>>()).expect("a write");
    }
    let batched = float(BATCH * BATCHES) / began.elapsed().as_secs_f64();
    line("one transaction each", &format!("{single:.0} claims/s"), "-");
    line(&format!("{BATCH} in a transaction"), &format!("{batched:.0} claims/s"), ">= 50,000/s");
    line("ratio", &format!("{:.1}", batched / single), "or >= 25");
}

/// The boot server with so many claims, then with so many datagrams of junk on each port, twice.
pub(crate) fn memory(claims: u32, junk: u32) {
    println!(
        "\nMemory of binld with {claims} claims, and {junk} datagrams of junk on each of 4011, 4015, 4016"
    );
    let mut lab = Lab::new();
    let (binld, _mtftpds) = many_claims(&mut lab, claims);
    let mut before = resident(&binld);
    line("resident", &format!("{before} KiB"), "-");
    let stranger = lab.host("stranger", 66);
    let sockets: Vec<UdpSocket> = (0..50)
        .map(|number| {
            let address = Ipv4Addr::new(10, 77, 0, 150 + number);
            stranger.add_address(address);
            stranger.bind_at(address, 4015)
        })
        .collect();
    for round in ["first", "second"] {
        let began = Instant::now();
        for port in [DISCOVERY_PORT, 4015, 4016] {
            let to = SocketAddrV4::new(binld.host().address(), port);
            for (number, socket) in (0..junk).zip(sockets.iter().cycle()) {
                // What the kernel has no room for is as good as lost.
                let _ = socket.send_to(&junk_datagram(port, number), to);
            }
        }
        let spent = began.elapsed().as_secs_f64();
        let after = resident(&binld);
        let growth = i64::try_from(after).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
        line(
            &format!("resident after the {round} {} datagrams ({spent:.0} s)", 3 * u64::from(junk)),
            &format!("{after} KiB, {growth:+} KiB"),
            "flat after the first: tables are bounded",
        );
        before = after;
    }
    let status = binld.status();
    let shed: u64 = status["counters"].as_object().map_or(0, |counters| {
        let dropped = counters.iter().filter(|(name, _)| name.starts_with("dropped"));
        dropped.filter_map(|(_, count)| count.as_u64()).sum()
    });
    line("datagrams that were dropped and counted", &shed.to_string(), "-");
}

/// A boot server that holds so many dynamic addresses, and its file servers.
fn many_claims(lab: &mut Lab, claims: u32) -> (Daemon, Vec<Daemon>) {
    for number in 0..CLAIMS_PER_SERVER.min(claims) {
        lab.boot_file(&format!("f{number}"), &pattern(600));
    }
    let quiet = "[log]\nlevel = \"error\"\n";
    let servers = u8::try_from(claims.div_ceil(CLAIMS_PER_SERVER)).expect("a segment holds no more");
    let mtftpds: Vec<Daemon> = (20..20 + servers)
        .map(|last| {
            let host = lab.host(&format!("mtftp{last}"), last);
            start(lab, &host, Kind::Mtftpd, &format!("mtftpd{last}"), quiet)
        })
        .collect();
    let addresses: Vec<Ipv4Addr> = mtftpds.iter().map(|mtftpd| mtftpd.host().address()).collect();
    let mut config = quiet.to_owned();
    for (number, server) in (0..claims).zip(addresses.iter().cycle()) {
        let file = number / u32::from(servers);
        let _ = writeln!(
            config,
            "[[item]]\nname = \"i{number}\"\ntype = {}\n[[item.boot]]\nprofile = \"pxe-rom\"\narch = [0]\n\
             file = \"f{file}\"\nmulticast = \"f{file}\"\nservers = [\"{server}\"]",
            0x8001 + number,
        );
    }
    let host = lab.host("binld", 11);
    let began = Instant::now();
    let mut binld = Daemon::new(lab, &host, Kind::Binld, "binld", &binld_config(&addresses, &config));
    binld.spawn();
    let mut held = 0;
    while held < u64::from(claims) && began.elapsed() < HELD_PATIENCE {
        thread::sleep(Duration::from_secs(1));
        let asked = binld.ask(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        held = status["counters"]["claim.held"].as_u64().unwrap_or(0);
    }
    line("claims held", &format!("{held} after {:.0} s", began.elapsed().as_secs_f64()), &claims.to_string());
    (binld, mtftpds)
}

/// Every other one is random bytes; the rest are in order, from machines and about addresses that are always new.
fn junk_datagram(port: u16, number: u32) -> Vec<u8> {
    if number.is_multiple_of(2) {
        let len = usize::try_from(number % 600).unwrap_or(0);
        return pattern(len);
    }
    if port == DISCOVERY_PORT {
        let mut machine = Machine::new(Firmware::Rom, Ipv4Addr::new(10, 77, 0, 101));
        machine.xid = number;
        let item = u16::try_from(0x8001 + number % 20_000).unwrap_or(0x8001);
        let mut question = machine.question(Form::Request, item, 0);
        // A machine of its own.
        let [_, rest @ ..] = number.to_be_bytes();
        if let Some(place) = question.get_mut(31..34) {
            place.copy_from_slice(&rest);
        }
        return question;
    }
    let file = FileName::new(format!("junk{number}").as_bytes()).expect("a short name");
    let content = Content { server: Ipv4Addr::new(10, 77, 0, 66), file };
    let group = pool_group(number);
    Query { content, server_type: ServerType(1), layer: Layer(0), group, client_port: 3001 }
        .encode(Opcode::Query)
}

/// Memory of a daemon that is not on disk, in KiB.
pub(crate) fn resident(daemon: &Daemon) -> u64 {
    memory_of(daemon, "VmRSS:")
}

/// The same, at its most.
pub(crate) fn resident_at_most(daemon: &Daemon) -> u64 {
    memory_of(daemon, "VmHWM:")
}

fn memory_of(daemon: &Daemon, what: &str) -> u64 {
    let path = format!("/proc/{}/status", daemon.pid());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
