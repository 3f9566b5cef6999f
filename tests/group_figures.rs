//! Multicast, side by side with atftpd; part of `tests/bench line`. Server after server has the same receivers in the same
//! network, round after round; a server that does not finish is cut off, and said to have not.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sim::boot_net::{Place as Claimed, binld_config, pattern, start, until_held};
use sim::daemon::{Daemon, Kind};
use sim::group_load::{GroupLoad, Outcome, Place, Trouble, Way, give_addresses, run};
use sim::lab::{Host, Lab, eventually, eventually_in};
use sim::meter::Family;

use crate::group_rows::{Expected, Row, Wrong, rows};
use crate::line_figures::{SERVER_CORE, ip, peer, spread};
use crate::{Killed, line};

const RECEIVERS_MAX: usize = 64;
/// Where atftpd multicasts.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 7, 1), 1758);
/// A session that was left is forgotten within so long.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// One item on the pinned address, one on an address of the pool.
const ITEMS: &str = r#"
[[item]]
name = "pinned"
type = 0x8001
[[item.boot]]
profile = "ipxe"
arch = [0]
file = "boot.ipxe"
multicast = "p"
pinned = true

[[item]]
name = "dynamic"
type = 0x8002
[[item.boot]]
profile = "pxe-rom"
arch = [0]
file = "f"
multicast = "f"
"#;

/// Our daemons, which run all the time.
struct Ours {
    mtftpd: Daemon,
    pinned: Claimed,
    dynamic: Claimed,
    _binld: Daemon,
    _family: Family,
}

impl Ours {
    fn start(lab: &mut Lab) -> Self {
        let host = lab.host("mtftpd-mc", 41);
        let mtftpd = start(lab, &host, Kind::Mtftpd, "mtftpd-mc", "[log]\nlevel = \"error\"\n");
        let family = Family::new(mtftpd.pid());
        family.pin(SERVER_CORE);
        let binld = lab.host("binld-mc", 42);
        let config = binld_config(&[host.address()], ITEMS);
        let binld = start(lab, &binld, Kind::Binld, "binld-mc", &config);
        let (pinned, dynamic) = (until_held(&binld, "p"), until_held(&binld, "f"));
        Self { mtftpd, pinned, dynamic, _binld: binld, _family: family }
    }

    fn place(&self, way: Way) -> Place {
        let address = self.mtftpd.host().address();
        match way {
            Way::Rfc2090 => Place {
                server: SocketAddrV4::new(address, 69),
                group: SocketAddrV4::new(self.dynamic.group, GROUP.port()),
            },
            Way::MtftpOne | Way::MtftpAll => Place {
                server: SocketAddrV4::new(address, self.pinned.server_port),
                group: SocketAddrV4::new(self.pinned.group, self.pinned.client_port),
            },
        }
    }

    /// Of transfers alone: servers also talk to each other.
    fn work(&self) -> Work {
        let status = self.mtftpd.status();
        let counters = status["counters"].as_object().cloned().unwrap_or_default();
        let sum = |end: &str| {
            let is_transfer =
                |name: &str| ["udp.tftp.", "udp.stream.", "udp.mtftp-"].iter().any(|it| name.starts_with(it));
            let counted = counters.iter().filter(|(name, _)| is_transfer(name) && name.ends_with(end));
            counted.filter_map(|(_, count)| count.as_u64()).sum()
        };
        Work { sent: sum(".sent"), calls: sum("_calls") }
    }

    /// Nobody is served any more.
    fn rest(&self) {
        eventually_in(FORGOTTEN, "sessions that have ended", || {
            let status = self.mtftpd.status();
            let claims = status["claims"].as_array().cloned().unwrap_or_default();
            claims.iter().all(|claim| claim["sessions"].as_array().is_none_or(Vec::is_empty)).then_some(())
        });
    }
}

/// Who is measured.
enum Server {
    Ours(Box<Ours>),
    Atftpd(PathBuf, Host),
}

/// What a run took of our server: datagrams, and calls of the kernel for them and for what came.
#[derive(Debug, Clone, Copy)]
struct Work {
    sent: u64,
    calls: u64,
}

type Value = fn(&Work) -> u64;

#[derive(Debug)]
struct Round {
    /// When nothing was wrong.
    clean: Option<Outcome>,
    outcome: Outcome,
}

impl Server {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "mtftpd",
            Self::Atftpd(..) => "atftpd",
        }
    }

    fn measure(
        &self,
        lab: &Lab,
        machines: &Host,
        load: &GroupLoad<'_>,
    ) -> Result<(Outcome, Option<Work>), String> {
        let told = |failure| format!("{}: {failure}", self.name());
        match self {
            Self::Ours(ours) => {
                let before = ours.work();
                let outcome = run(load, machines, ours.place(load.way)).map_err(told)?;
                ours.rest();
                let after = ours.work();
                let work = Work { sent: after.sent - before.sent, calls: after.calls - before.calls };
                Ok((outcome, Some(work)))
            }
            Self::Atftpd(program, host) => {
                let port = if load.way == Way::Rfc2090 { 69 } else { 1759 };
                let (_killed, _family) = start_atftpd(lab, program, host, port);
                let place = Place { server: SocketAddrV4::new(host.address(), port), group: GROUP };
                Ok((run(load, machines, place).map_err(told)?, None))
            }
        }
    }

    fn round(&self, lab: &Lab, machines: &Host, row: &Row, load: &GroupLoad<'_>) -> Result<Round, String> {
        let compares = matches!(row.expected, Expected::AsClean(_) | Expected::OthersAsClean(_));
        let mut load = load.clone();
        let mut clean = None;
        if compares {
            // The way in which atftpd can do it at all.
            let way = match (self, load.way) {
                (Self::Atftpd(..), Way::MtftpAll) => Way::MtftpOne,
                (_, way) => way,
            };
            let load = GroupLoad { trouble: Trouble::None, way, ..load.clone() };
            clean = Some(self.measure(lab, machines, &load)?.0);
        }
        if let (Wrong::TenthOfTheRate(receiver), Some(last)) =
            (row.wrong, clean.as_ref().and_then(Outcome::last))
        {
            load.trouble = Trouble::Slow(receiver, row.bytes as f64 / last.as_secs_f64() / 10.0);
        }
        Ok(Round { clean, outcome: self.measure(lab, machines, &load)?.0 })
    }
}

fn start_atftpd(lab: &Lab, program: &Path, host: &Host, port: u16) -> (Killed, Family) {
    let table = lab.folder().join("mtftp.conf");
    std::fs::write(&table, format!("p {} {}\n", GROUP.ip(), GROUP.port())).expect("a table can be written");
    let mut command = host.command(program);
    command.args(
        "--daemon --no-fork --user root.root --maxthread 4000 --verbose=0 --logfile /dev/null".split(' '),
    );
    if port == 69 {
        let (group, to) = (GROUP.ip().to_string(), GROUP.port().to_string());
        command.args(["--port", "69", "--mcast-addr", &group, "--mcast-port", &to]);
    } else {
        command.args(["--mtftp-port", &port.to_string(), "--mtftp"]).arg(&table);
    }
    command.arg(lab.boot_dir()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("atftpd can be started");
    let family = Family::new(child.id());
    let killed = Killed(child);
    eventually("atftpd that listens", || {
        let sockets = host.run(Path::new("ss"), &["-Hlun", &format!("sport = :{port}")]);
        (!sockets.stdout.is_empty()).then_some(())
    });
    family.pin(SERVER_CORE);
    (killed, family)
}

/// What the rows are called.
pub(crate) fn names() -> BTreeSet<&'static str> {
    rows().iter().map(|row| row.name).collect()
}

/// Prints the rows that are wanted.
pub(crate) fn print(wanted: impl Fn(&str) -> bool, rounds: Option<usize>) {
    let rows: Vec<Row> = rows().into_iter().filter(|row| wanted(row.name)).collect();
    if rows.is_empty() {
        return;
    }
    let mut lab = Lab::new();
    let machines = lab.host("machines", 31);
    give_addresses(&machines, RECEIVERS_MAX);
    lab.boot_file("boot.ipxe", b"#!ipxe\n");
    lab.boot_file("p", &pattern(1000));
    lab.boot_file("f", &pattern(1000));
    let mut servers = vec![Server::Ours(Box::new(Ours::start(&mut lab)))];
    if let Some(program) = peer("atftpd") {
        let host = lab.host("atftpd-mc", 43);
        // It leaves the choice of the interface to the routing table.
        ip(&host, &["route", "add", "224.0.0.0/4", "dev", "eth0"]);
        servers.push(Server::Atftpd(program, host));
    }
    println!("\nMulticast, each server on core {SERVER_CORE}; only ratios within a run count");
    let result =
        rows.iter().try_for_each(|row| show(&lab, &machines, &servers, row, rounds.unwrap_or(row.rounds)));
    // What fails here ends the process at once, and would leave the network behind.
    drop(servers);
    drop(lab);
    result.expect("every server sends the file's bytes");
}

/// One row: all servers in turn, round after round.
fn show(lab: &Lab, machines: &Host, servers: &[Server], row: &Row, rounds: usize) -> Result<(), String> {
    let file = pattern(row.bytes);
    lab.boot_file(if row.load.way == Way::Rfc2090 { "f" } else { "p" }, &file);
    println!("\n{}: {} (median of {rounds})", row.name, row.what);
    let mut load = GroupLoad { file: &file, ..row.load.clone() };
    if let Expected::SameFor(part) = row.expected {
        return show_work(lab, machines, servers, &load, rounds, part);
    }
    let mut measured: Vec<(&Server, Vec<Round>)> =
        servers.iter().map(|server| (server, Vec::new())).collect();
    for round in 0..rounds {
        load.seed = 1 + round as u64;
        for (server, results) in &mut measured {
            results.push(server.round(lab, machines, row, &load)?);
        }
    }
    println!(
        "  {:<8} {:>28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11}",
        "server", "last has it after s", "pkt/blk", "wire", "gap ms", "NAKs", "time-outs", "unfinished"
    );
    for (server, results) in &measured {
        table_line(server.name(), row, results);
    }
    compare(row, &measured);
    Ok(())
}

fn middle(rounds: &[Round], value: impl Fn(&Outcome) -> f64) -> f64 {
    spread(rounds.iter().map(|round| value(&round.outcome))).0
}

/// Infinite if somebody did not finish.
fn seconds(span: Option<Duration>) -> f64 {
    span.map_or(f64::INFINITY, |span| span.as_secs_f64())
}

fn table_line(name: &str, row: &Row, rounds: &[Round]) {
    let (last, least, most) = spread(rounds.iter().map(|round| seconds(round.outcome.last())));
    let blocks = (row.bytes / row.load.way.block() + 1) as f64;
    println!(
        "  {name:<8} {:>28} {:>9.4} {:>9.4} {:>9.1} {:>9.0} {:>9.0} {:>11.0}",
        format!("{} ({}-{})", finished(last), finished(least), finished(most)),
        middle(rounds, |it| (it.packets.0 + it.packets.1) as f64) / blocks,
        middle(rounds, |it| it.wire_bytes as f64) / row.bytes as f64,
        middle(rounds, |it| it.gap_max.as_secs_f64() * 1e3),
        middle(rounds, |it| it.naks as f64),
        middle(rounds, |it| it.timeouts as f64),
        middle(rounds, |it| it.unfinished() as f64),
    );
}

fn finished(seconds: f64) -> String {
    if seconds.is_finite() { format!("{seconds:.3}") } else { "not finished".to_owned() }
}

fn compare(row: &Row, measured: &[(&Server, Vec<Round>)]) {
    let Some(((_, own), others)) = measured.split_first() else { return };
    if let Some(wire) = row.wire {
        let most = spread(own.iter().map(|round| round.outcome.wire_bytes as f64 / row.bytes as f64)).2;
        line(
            "wire bytes for a byte of the file, the worst round",
            &format!("{most:.4}"),
            &format!("<= {wire}"),
        );
    }
    let ratio = |what: &str, value: &dyn Fn(&Round) -> f64, expected: &str| {
        for (server, rounds) in measured {
            let (middle, least, most) = spread(rounds.iter().map(value));
            let name = format!("{what}, {}", server.name());
            let expected = if matches!(server, Server::Ours(_)) { expected } else { "-" };
            line(&name, &format!("{middle:.2} ({least:.2}-{most:.2})"), expected);
        }
    };
    match row.expected {
        Expected::Faster(times) => {
            for (server, theirs) in others {
                let faster = |(own, theirs): (&Round, &Round)| {
                    seconds(theirs.outcome.last()) / seconds(own.outcome.last())
                };
                let (middle, worst, _) = spread(own.iter().zip(theirs).map(faster));
                let what = format!("speed to the last, ours : {}", server.name());
                line(&what, &format!("{middle:.2} (worst round {worst:.2})"), &format!(">= {times}"));
            }
        }
        Expected::AsClean(times) => {
            let value = |round: &Round| {
                seconds(round.outcome.last()) / seconds(round.clean.as_ref().and_then(Outcome::last))
            };
            ratio("time to the last : when nothing is wrong", &value, &format!("<= {times}"));
        }
        Expected::OthersAsClean(times) => {
            let Wrong::TenthOfTheRate(slow) = row.wrong else { return };
            let value = |round: &Round| {
                seconds(round.outcome.last_but(slow)) / seconds(round.clean.as_ref().and_then(Outcome::last))
            };
            ratio("time of the others : when nothing is wrong", &value, &format!("<= {times}"));
        }
        Expected::Stall(most) => {
            let value = |round: &Round| round.outcome.gap_max.as_secs_f64() * 1e3;
            ratio("longest wait for a new block, ms", &value, &format!("<= {}", most.as_millis()));
        }
        Expected::SameFor(_) => {}
    }
}

/// What our server does for 1, 8 and 64 receivers.
fn show_work(
    lab: &Lab,
    machines: &Host,
    servers: &[Server],
    load: &GroupLoad<'_>,
    rounds: usize,
    part: f64,
) -> Result<(), String> {
    let Some(ours) = servers.first() else { return Ok(()) };
    let counts = [1, 8, 64];
    let mut results: [Vec<(Work, Outcome)>; 3] = Default::default();
    for _ in 0..rounds {
        for (results, receivers) in results.iter_mut().zip(counts) {
            let load = GroupLoad { receivers, ..load.clone() };
            let (outcome, work) = ours.measure(lab, machines, &load)?;
            results.extend(work.map(|work| (work, outcome)));
        }
    }
    let of = |results: &[(Work, Outcome)], value: Value| {
        spread(results.iter().map(|(work, _)| value(work) as f64)).0
    };
    let [alone, ..] = &results;
    let values: [(&str, Value); 2] =
        [("datagrams sent", |work| work.sent), ("calls to send and receive", |work| work.calls)];
    for (what, value) in values {
        let first = of(alone, value);
        for (results, receivers) in results.iter().zip(counts) {
            let count = of(results, value);
            let measured = format!("{count:.0} = {:.3}", count / first);
            line(&format!("{what}, {receivers} receivers"), &measured, &format!("<= {}", 1.0 + part));
        }
    }
    for (results, receivers) in results.iter().zip(counts) {
        let naks = spread(results.iter().map(|(_, outcome)| outcome.naks as f64 / receivers as f64));
        let unfinished: usize = results.iter().map(|(_, outcome)| outcome.unfinished()).sum();
        line(
            &format!("NAKs of a receiver, {receivers} receivers; unfinished"),
            &format!("{:.2}; {unfinished}", naks.0),
            "<= 2; 0",
        );
    }
    Ok(())
}
