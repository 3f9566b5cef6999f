//! Boot server replies, side by side with a packaged server; part of `tests/bench line`. As in `line_figures`, server after
//! server has the same load in the same network, and only ratios within a run count.
//!
//! Ours tells a group address that is held, as machines of a room are told, and says so to the file server beside it, of as
//! many machines as that one remembers; and, asked for another item, a file by plain TFTP, as the packaged server does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sim::boot_load::{Failure, Load, Outcome, Pace, run};
use sim::boot_net::{binld_config, pattern, start, until_held};
use sim::daemon::{Daemon, Kind};
use sim::lab::{Host, Lab, eventually};
use sim::meter::Family;

use crate::boot_rows::{Row, rows};
use crate::line_figures::{BUSY, OTHER_CORE, SERVER_CORE, ip, middle, peer, spread};
use crate::{Killed, line};

/// What dnsmasq calls its first boot item with a file.
const TYPE: u16 = 0x8000;
/// Ours without a group address.
const PLAIN_TYPE: u16 = 0x8001;
const FILE: &str = "rom.img";
const ITEMS: &str = r#"
[[item]]
name = "room"
type = 0x8000

[[item.boot]]
profile = "pxe-rom"
arch = [0]
file = "rom.img"
multicast = "rom.img"

[[item]]
name = "plain"
type = 0x8001

[[item.boot]]
profile = "pxe-rom"
arch = [0]
file = "rom.img"

[log]
level = "error"
"#;
/// What the packaged one is told.
const DNSMASQ: &str = "-k --conf-file=/dev/null --port=0 --user=root --pid-file= --log-facility=/dev/null \
     --quiet-dhcp --interface=eth0 --dhcp-range=10.77.0.0,proxy,255.255.255.0 --pxe-prompt=boot,0 \
     --pxe-service=x86PC,Install,rom.img";
/// Machines that ask before it counts: then each host knows where the others are.
const FIRST: usize = 1024;

/// Those that run, as long as the value lives.
struct Servers {
    ours: Host,
    binld: Daemon,
    mtftpd: Daemon,
    peer: Option<(Host, Killed)>,
}

/// How one of them is asked.
struct Asked<'a> {
    name: &'static str,
    is_ours: bool,
    host: &'a Host,
    server_type: u16,
    multicast: bool,
    family: &'a Family,
    /// Of the file server that is told of each reply.
    beside: Option<&'a Family>,
}

struct Round {
    /// Of the boot server.
    cpu: Duration,
    /// Of the file server beside it.
    beside: Duration,
    is_exact: bool,
    outcome: Outcome,
}

impl Round {
    fn replies_a_second(&self) -> f64 {
        self.outcome.answered as f64 / self.outcome.elapsed.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.outcome.answered.max(1) as f64
    }

    fn beside_micros(&self) -> f64 {
        self.beside.as_secs_f64() * 1e6 / self.outcome.answered.max(1) as f64
    }

    fn retried(&self) -> f64 {
        self.outcome.retried as f64
    }

    fn p99_millis(&self) -> f64 {
        self.outcome.waits[1].as_secs_f64() * 1e3
    }

    fn last_seconds(&self) -> f64 {
        self.outcome.elapsed.as_secs_f64()
    }
}

/// Prints the rows of these names.
pub(crate) fn print(wanted: impl Fn(&str) -> bool, rounds: Option<usize>) {
    let rows: Vec<Row> = rows().into_iter().filter(|row| wanted(row.name)).collect();
    if rows.is_empty() {
        return;
    }
    let mut lab = Lab::new();
    lab.boot_file(FILE, &pattern(30_000));
    let machines = lab.host("machines", 31);
    // The upper half of the link is this host.
    ip(&machines, &["route", "add", "local", "10.77.0.128/25", "dev", "lo"]);
    let servers = Servers::start(&mut lab);
    let families = servers.families();
    println!("\nBoot server replies, each server on core {SERVER_CORE}; only ratios within a run count");
    let result = rows.iter().try_for_each(|row| {
        show(&machines, &servers.asked(&families), row, rounds.unwrap_or(row.rounds))
            .map_err(|failure| format!("{}: {failure}", row.name))
    });
    // What fails here ends the process at once, and would leave the network behind.
    drop(servers);
    drop(families);
    drop(lab);
    result.expect("every machine is told what it must be told");
}

/// Of the two daemons, and of the packaged server.
struct Families {
    binld: Family,
    mtftpd: Family,
    peer: Option<Family>,
}

impl Servers {
    fn start(lab: &mut Lab) -> Self {
        let ours = lab.host("ours", 21);
        let mtftpd = start(lab, &ours, Kind::Mtftpd, "mtftpd", "[log]\nlevel = \"error\"\n");
        let binld = start(lab, &ours, Kind::Binld, "binld", &binld_config(&[ours.address()], ITEMS));
        until_held(&binld, FILE);
        let peer = peer("dnsmasq-base").map(|program| {
            let host = lab.host("dnsmasq", 22);
            let child = dnsmasq(&host, &program);
            (host, child)
        });
        Self { ours, binld, mtftpd, peer }
    }

    fn families(&self) -> Families {
        let family = |pid| {
            let family = Family::new(pid);
            family.pin(SERVER_CORE);
            family
        };
        Families {
            binld: family(self.binld.pid()),
            mtftpd: family(self.mtftpd.pid()),
            peer: self.peer.as_ref().map(|(_, child)| family(child.0.id())),
        }
    }

    fn asked<'a>(&'a self, families: &'a Families) -> Vec<Asked<'a>> {
        let binld = |name, server_type, multicast| Asked {
            name,
            is_ours: true,
            host: &self.ours,
            server_type,
            multicast,
            family: &families.binld,
            beside: multicast.then_some(&families.mtftpd),
        };
        let mut all = vec![binld("binld", TYPE, true), binld("binld, plain", PLAIN_TYPE, false)];
        if let (Some((host, _)), Some(family)) = (&self.peer, &families.peer) {
            all.push(Asked {
                name: "dnsmasq",
                is_ours: false,
                host,
                server_type: TYPE,
                multicast: false,
                family,
                beside: None,
            });
        }
        all
    }
}

fn dnsmasq(host: &Host, program: &Path) -> Killed {
    let mut command = host.command(program);
    command.args(DNSMASQ.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Killed(command.spawn().expect("a packaged server can be started"));
    eventually("dnsmasq that listens", || {
        let sockets = host.run(&PathBuf::from("ss"), &["-Hlun", "sport = :4011"]);
        (!sockets.stdout.is_empty()).then_some(())
    });
    child
}

impl Asked<'_> {
    fn measure(&self, machines: &Host, row: &Row) -> Result<Round, Failure> {
        let load = Load {
            machines: row.machines,
            pace: row.pace,
            server_type: self.server_type,
            file: FILE,
            multicast: self.multicast,
            core: OTHER_CORE,
        };
        let first = Load { machines: FIRST, pace: Pace::Window(32), ..load };
        run(&first, machines, self.host.address())?;
        let beside = || self.beside.map_or(Duration::ZERO, Family::cpu);
        let before = (self.family.cpu(), beside());
        let outcome = run(&load, machines, self.host.address())?;
        Ok(Round {
            cpu: self.family.cpu().saturating_sub(before.0),
            beside: beside().saturating_sub(before.1),
            is_exact: self.family.is_exact(),
            outcome,
        })
    }
}

/// One row: all servers in turn, round after round.
fn show(machines: &Host, servers: &[Asked<'_>], row: &Row, rounds: usize) -> Result<(), Failure> {
    println!("\n{}: {} (median of {rounds}, replies/s with least and most)", row.name, row.what);
    let mut measured: Vec<(&Asked<'_>, Vec<Round>)> =
        servers.iter().map(|server| (server, Vec::new())).collect();
    for _ in 0..rounds {
        for (server, results) in &mut measured {
            results.push(server.measure(machines, row)?);
        }
    }
    println!(
        "  {:<13} {:>24} {:>9} {:>12} {:>8} {:>10} {:>7} {:>7} {:>6} {:>8} {:>5}",
        "server",
        "replies/s",
        "CPU us",
        "file server",
        "retried",
        "unanswered",
        "p50 ms",
        "p99 ms",
        "last s",
        "late ms",
        "busy"
    );
    for (server, results) in &measured {
        table_line(server.name, results);
    }
    compare(row, &measured);
    Ok(())
}

fn table_line(name: &str, rounds: &[Round]) {
    let middle = |value: fn(&Round) -> f64| middle(rounds, value);
    let (speed, least, most) = spread(rounds.iter().map(Round::replies_a_second));
    let busy = middle(|round| round.outcome.busy);
    println!(
        "  {name:<13} {:>24} {:>9.2} {:>12.2} {:>8.0} {:>10.0} {:>7.2} {:>7.2} {:>6.2} {:>8.2} {:>4.0}%",
        format!("{speed:.0} ({least:.0}-{most:.0})"),
        middle(Round::cpu_micros),
        middle(Round::beside_micros),
        middle(Round::retried),
        middle(|round| round.outcome.unanswered as f64),
        middle(|round| round.outcome.waits[0].as_secs_f64() * 1e3),
        middle(Round::p99_millis),
        middle(Round::last_seconds),
        middle(|round| round.outcome.late.as_secs_f64() * 1e3),
        busy * 100.0,
    );
    if rounds.iter().any(|round| !round.is_exact) {
        println!("  {name:<13} CPU time is by /proc, in ticks (no cgroup can be made): not compared");
    }
    if busy > BUSY {
        println!("  {name:<13} kept the machines busy all the time: it may be faster than they are");
    }
}

/// Ours beside the packaged server: the ratio in each round, so that what struck a round strikes both.
fn compare(row: &Row, measured: &[(&Asked<'_>, Vec<Round>)]) {
    let theirs = measured.iter().find(|(server, _)| !server.is_ours);
    for (server, own) in measured.iter().filter(|(server, _)| server.is_ours) {
        let name = server.name;
        match (row.pace, theirs) {
            (Pace::Window(_), Some((peer, theirs))) => compare_pace(name, own, peer.name, theirs),
            (Pace::Window(_), None) => {}
            (Pace::Over(_), _) => {
                let worst = |what: &str, value: fn(&Round) -> f64, expected: &str| {
                    let (middle, _, most) = spread(own.iter().map(value));
                    let measured = format!("{middle:.2} (worst round {most:.2})");
                    line(&format!("{what}, {name}"), &measured, expected);
                };
                worst("machines that asked again", Round::retried, "0");
                worst("99 of 100 wait at most, ms", Round::p99_millis, "<= 10");
            }
        }
    }
}

fn compare_pace(name: &str, own: &[Round], peer: &str, theirs: &[Round]) {
    let ratio = |what: &str, value: fn(&Round) -> f64, is_more_better: bool, expected: &str| {
        let (middle, least, most) =
            spread(own.iter().zip(theirs).map(|(own, theirs)| value(own) / value(theirs)));
        let worst = if is_more_better { least } else { most };
        let measured = format!("{middle:.2} (worst round {worst:.2})");
        line(&format!("{what}, {name} : {peer}"), &measured, expected);
    };
    ratio("replies/s", Round::replies_a_second, true, ">= 2.5");
    if own.iter().chain(theirs).all(|round| round.is_exact) {
        ratio("CPU time a reply", Round::cpu_micros, false, "<= 0.4");
    }
}
