//! Plain TFTP, side by side with packaged servers; part of `tests/bench`. Server after server has the same load in the same
//! network, round after round, so that what the machine does meanwhile strikes all alike; only ratios within a run count.
//! Performance.md tells where the expected ratios come from.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use sim::boot_net::{pattern, start};
use sim::daemon::{Daemon, Kind};
use sim::lab::{Host, Lab, eventually};
use sim::meter::Family;
use sim::tftp_load::{Failure, Load, Outcome, run};

use crate::boot_figures;
use crate::boot_rows;
use crate::figures::resident_at_most;
use crate::line_rows::{Also, Row, rows};
use crate::transfer_figures::open_files;
use crate::{Killed, group_figures, line};

/// The folder of packaged servers: PACKAGE/run is a program, or a script that runs it.
const PEERS: &str = "PXEMC_BENCH_PEERS";
/// Files that the clients may have open, and each server.
const FILES: u64 = 8192;
/// Servers and clients go before what else the machine does, which would tell more of the scheduler than of them.
const NICE: i32 = -15;
/// Where servers run; the clients run beside them, or on the same core.
pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const OTHER_CORE: usize = 1;
/// The clients cannot be much faster than what they did with so much of their core.
pub(crate) const BUSY: f64 = 0.9;

/// Who can be compared: name, package, and what the program is told before the boot folder.
const PACKAGED: [(&str, &str, &str); 3] = [
    (
        "atftpd",
        "atftpd",
        "--daemon --no-fork --user root.root --port 69 --maxthread 4000 --verbose=0 --logfile /dev/null",
    ),
    ("tftpd-hpa", "tftpd-hpa", "-L -a 0.0.0.0:69 -u root -s"),
    (
        "dnsmasq",
        "dnsmasq-base",
        "-k --conf-file=/dev/null --port=0 --enable-tftp --tftp-max=5000 --user=root --pid-file= \
         --log-facility=/dev/null --quiet-tftp --tftp-root",
    ),
];

/// A server on a host of its own; it runs only while it is measured.
struct Server {
    name: &'static str,
    host: Host,
    /// Program and arguments; ours has none.
    packaged: Option<(PathBuf, &'static str)>,
}

/// One that runs.
enum Running {
    Ours(Daemon),
    Packaged(Killed),
}

impl Server {
    fn start(&self, lab: &Lab) -> (Running, Family) {
        let (running, pid) = if let Some((program, arguments)) = &self.packaged {
            let mut command = self.host.command(program);
            command
                .args(arguments.split_whitespace())
                .arg(lab.boot_dir())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let child: Child = command.spawn().expect("a packaged server can be started");
            let pid = child.id();
            (Running::Packaged(Killed(child)), pid)
        } else {
            let daemon = start(lab, &self.host, Kind::Mtftpd, "mtftpd", "[log]\nlevel = \"error\"\n");
            let pid = daemon.pid();
            (Running::Ours(daemon), pid)
        };
        let family = Family::new(pid);
        eventually(&format!("{} that listens", self.name), || {
            assert!(family.is_alive(), "{} ended at its start", self.name);
            let sockets = self.host.run(Path::new("ss"), &["-Hlun", "sport = :69"]);
            (!sockets.stdout.is_empty()).then_some(())
        });
        family.pin(SERVER_CORE);
        (running, family)
    }

    /// What one round shows.
    fn measure(&self, lab: &Lab, machines: &Host, load: &Load<'_>) -> Result<Round, Failure> {
        let (running, family) = self.start(lab);
        let before = family.cpu();
        let outcome = run(load, machines, SocketAddrV4::new(self.host.address(), 69))?;
        let peak_kib = match &running {
            Running::Ours(daemon) => resident_at_most(daemon),
            Running::Packaged(_) => 0,
        };
        let round = Round {
            peak_kib,
            cpu: family.cpu().saturating_sub(before),
            is_exact: family.is_exact(),
            has_ended: !family.is_alive(),
            outcome,
        };
        match running {
            Running::Ours(mut daemon) => daemon.kill(),
            Running::Packaged(child) => drop(child),
        }
        Ok(round)
    }
}

struct Round {
    /// Of the server.
    cpu: Duration,
    /// It was counted to the microsecond.
    is_exact: bool,
    /// The server is gone.
    has_ended: bool,
    /// Memory of ours.
    peak_kib: u64,
    outcome: Outcome,
}

impl Round {
    fn megabytes_a_second(&self) -> f64 {
        self.outcome.bytes as f64 / self.outcome.elapsed.as_secs_f64() / 1e6
    }

    fn cpu_a_gib(&self) -> f64 {
        self.cpu.as_secs_f64() * f64::from(1 << 30) / self.outcome.bytes.max(1) as f64
    }

    fn timeouts(&self) -> f64 {
        self.outcome.timeouts as f64
    }

    fn gap_millis(&self) -> f64 {
        self.outcome.gap_max.as_secs_f64() * 1e3
    }

    /// How much of their time the clients worked.
    fn busy(&self) -> f64 {
        1.0 - self.outcome.idle.as_secs_f64() / self.outcome.elapsed.as_secs_f64()
    }

    /// The fastest client : the slowest.
    fn unevenness(&self) -> f64 {
        self.outcome.rates.1 / self.outcome.rates.0
    }
}

/// The middle, the least and the greatest.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    (f64::midpoint(at(last / 2), at(values.len() / 2)), at(0), at(last))
}

/// Prints the rows of these names, or all; a number among them is how many rounds each has.
pub(crate) fn print(arguments: &[String]) {
    let (numbers, names): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| argument.parse::<usize>().is_ok());
    let rounds = numbers.first().and_then(|number| number.parse().ok()).filter(|&number| number > 0);
    let rows = rows();
    let groups = group_figures::names();
    let boots = boot_rows::rows();
    let known: BTreeSet<&str> =
        rows.iter().map(|row| row.name).chain(boots.iter().map(|row| row.name)).chain(groups).collect();
    let unknown: Vec<&&String> = names.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}: the rows are {known:?}");
    open_files(FILES);
    if rustix::process::nice(NICE).is_err() {
        println!("  (no higher priority: what else the machine does counts)");
    }
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| *wanted == name);
    if rows.iter().any(|row| is_wanted(row.name)) {
        transfers(&rows, is_wanted, rounds);
    }
    boot_figures::print(is_wanted, rounds);
    group_figures::print(is_wanted, rounds);
}

fn transfers(rows: &[Row], is_wanted: impl Fn(&str) -> bool, rounds: Option<usize>) {
    let mut lab = Lab::new();
    let machines = lab.host("machines", 31);
    // All of that prefix is this host.
    ip(&machines, &["route", "add", "local", "10.78.0.0/16", "dev", "lo"]);
    let servers = servers(&mut lab);
    println!("Plain TFTP, each server on core {SERVER_CORE}; only ratios within a run count");
    let result = rows
        .iter()
        .filter(|row| is_wanted(row.name))
        .try_for_each(|row| show(&lab, &machines, &servers, row, rounds.unwrap_or(row.rounds)));
    // What fails here ends the process at once, and would leave the network behind.
    drop(lab);
    result.expect("every server sends the file's bytes");
}

pub(crate) fn ip(host: &Host, arguments: &[&str]) {
    assert!(host.run(Path::new("ip"), arguments).status.success(), "ip {arguments:?}");
}

/// The program of that package, if it is in the folder of peers.
#[expect(clippy::disallowed_methods, reason = "`tests/bench` says where it unpacked the packages")]
pub(crate) fn peer(package: &str) -> Option<PathBuf> {
    let Ok(folder) = std::env::var(PEERS).map(PathBuf::from) else {
        println!("  (no {PEERS}: no {package} to compare with)");
        return None;
    };
    Some(folder.join(package).join("run")).filter(|path| path.is_file())
}

/// Ours, and what is in the folder of peers.
fn servers(lab: &mut Lab) -> Vec<Server> {
    let mut found = vec![("mtftpd", None)];
    for (name, package, arguments) in PACKAGED {
        found.extend(peer(package).map(|program| (name, Some((program, arguments)))));
    }
    let server = |(number, (name, packaged)): (u8, (&'static str, _))| {
        let host = lab.host(name, number);
        ip(&host, &["route", "add", "10.78.0.0/16", "via", "10.77.0.31"]);
        Server { name, host, packaged }
    };
    (21..).zip(found).map(server).collect()
}

/// One row: all servers in turn, round after round.
fn show(lab: &Lab, machines: &Host, servers: &[Server], row: &Row, rounds: usize) -> Result<(), String> {
    let file = pattern(row.bytes);
    lab.boot_file("f", &file);
    let core = if row.one_core { SERVER_CORE } else { OTHER_CORE };
    let mut load = Load { file: &file, core, ..row.load.clone() };
    println!("\n{}: {} (median of {rounds}, MB/s with least and most)", row.name, row.what);
    let mut measured: Vec<(&Server, Vec<Round>)> =
        servers.iter().map(|server| (server, Vec::new())).collect();
    let mut lacking = BTreeSet::new();
    for round in 0..rounds {
        load.seed = 1 + round as u64;
        for (server, results) in &mut measured {
            if lacking.contains(server.name) {
                continue;
            }
            match server.measure(lab, machines, &load) {
                Err(Failure::Lacks(option)) => {
                    println!("  {:<10} does not grant {option}", server.name);
                    lacking.insert(server.name);
                }
                Err(failure) => return Err(format!("{}: {}: {failure}", row.name, server.name)),
                Ok(round) => results.push(round),
            }
        }
    }
    measured.retain(|(_, results)| !results.is_empty());
    println!(
        "  {:<10} {:>24} {:>10} {:>10} {:>11} {:>9} {:>10} {:>8}",
        "server", "MB/s", "CPU-s/GiB", "time-outs", "unfinished", "gap ms", "fast:slow", "busy"
    );
    for (server, results) in &measured {
        table_line(server.name, results);
    }
    compare(row, &measured);
    Ok(())
}

/// The median of a value over rounds.
pub(crate) fn middle<R>(rounds: &[R], value: fn(&R) -> f64) -> f64 {
    spread(rounds.iter().map(value)).0
}

fn table_line(name: &str, rounds: &[Round]) {
    let middle = |value: fn(&Round) -> f64| middle(rounds, value);
    let (speed, least, most) = spread(rounds.iter().map(Round::megabytes_a_second));
    println!(
        "  {name:<10} {:>24} {:>10.2} {:>10.0} {:>11.0} {:>9.1} {:>10.2} {:>7.0}%",
        format!("{speed:.2} ({least:.2}-{most:.2})"),
        middle(Round::cpu_a_gib),
        middle(Round::timeouts),
        middle(|round| round.outcome.unfinished as f64),
        middle(Round::gap_millis),
        middle(Round::unevenness),
        middle(Round::busy) * 100.0,
    );
    if rounds.iter().any(|round| !round.is_exact) {
        println!(
            "  {name:<10} CPU time is by /proc, without children that nobody waited for (no cgroup can be made): not compared"
        );
    }
    let ended = rounds.iter().filter(|round| round.has_ended).count();
    if ended > 0 {
        println!("  {name:<10} ended by itself in {ended} rounds");
    }
    let refused = middle(|round| round.outcome.refused as f64);
    if refused > 0.0 {
        println!("  {name:<10} answered {refused:.0} of the unfinished clients with an ERROR");
    }
    if middle(Round::busy) > BUSY {
        println!("  {name:<10} kept the clients busy all the time: it may be faster than they are");
    }
}

/// Ours beside the best of the others: the ratio in each round, so that what struck a round strikes both.
fn compare(row: &Row, measured: &[(&Server, Vec<Round>)]) {
    let Some(((ours, own), others)) = measured.split_first() else { return };
    if ours.packaged.is_some() {
        return;
    }
    let ratio = |what: &str, value: fn(&Round) -> f64, is_more_better: bool, expected: &str| {
        let order = |one: &&(&Server, Vec<Round>), other: &&(&Server, Vec<Round>)| {
            middle(&one.1, value).total_cmp(&middle(&other.1, value))
        };
        let best = if is_more_better { others.iter().max_by(order) } else { others.iter().min_by(order) };
        let Some((best, theirs)) = best else { return };
        let (middle, least, most) =
            spread(own.iter().zip(theirs).map(|(own, theirs)| value(own) / value(theirs)));
        let worst = if is_more_better { least } else { most };
        line(
            &format!("{what}, ours : {}", best.name),
            &format!("{middle:.2} (worst round {worst:.2})"),
            expected,
        );
    };
    ratio("MB/s", Round::megabytes_a_second, true, row.speed);
    if measured.iter().all(|(_, rounds)| rounds.iter().all(|round| round.is_exact)) {
        ratio("CPU time a byte", Round::cpu_a_gib, false, row.cost);
    }
    for also in row.also {
        let (what, measured, expected) = match *also {
            Also::Gap(most) => ("longest wait for a new block, ms", middle(own, Round::gap_millis), most),
            Also::NoTimeouts => ("clients' time-outs", middle(own, Round::timeouts), 0.0),
            Also::Memory(most) => ("memory at most, KiB", middle(own, |round| round.peak_kib as f64), most),
            Also::Evenness(most) => ("fastest client : slowest", middle(own, Round::unevenness), most),
        };
        line(what, &format!("{measured:.1}"), &format!("<= {expected}"));
    }
}
