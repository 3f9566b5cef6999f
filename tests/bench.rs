//! How fast it is, as ratios where there is something to compare with. Run it with `tests/bench`.
//!
//! Everything happens in network namespaces on this machine; nothing here fails because something is slow.
#![allow(clippy::print_stdout, reason = "the numbers are what it is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use sim::boot_net::{PINNED_ITEM, TYPE, boot_files, pattern, start_binld, start_mtftpd, until_held};
use sim::lab::{Host, Lab, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, receive};
use sim::transfer_client::{MtftpClient, Received, Stream, Traffic, traffic};

#[path = "boot_figures.rs"]
mod boot_figures;
#[path = "boot_rows.rs"]
mod boot_rows;
#[path = "demand_figures.rs"]
mod demand_figures;
#[path = "domain_figures.rs"]
mod domain_figures;
#[path = "failover_figures.rs"]
mod failover_figures;
#[path = "figures.rs"]
mod figures;
#[path = "group_figures.rs"]
mod group_figures;
#[path = "group_rows.rs"]
mod group_rows;
#[path = "line_figures.rs"]
mod line_figures;
#[path = "line_rows.rs"]
mod line_rows;
#[path = "scale_figures.rs"]
mod scale_figures;
mod site_figures;
#[path = "transfer_figures.rs"]
mod transfer_figures;

/// Requests measured, after as many again to warm up.
const REQUESTS: usize = 500;
/// Transfers of each kind.
const TRANSFERS: usize = 5;
/// Bytes of the file that is multicast: 8,001 blocks.
const FILE_BYTES: usize = 8_000 * 512 + 100;
const FILE: &str = "initrd.img";

/// How a machine comes to a stream.
#[derive(Debug, Clone, Copy)]
enum Join {
    /// It opens when so many packets went by, which it throws away.
    After(usize),
    /// It takes what it hears from the start, and opens only in silence.
    Listen,
}

const OPEN: Join = Join::After(0);

/// Claims that memory is measured with unless the command line says otherwise: the time until all are held grows with the
/// square of their number.
const CLAIMS: u32 = 1000;
/// Datagrams of junk on each port.
const JUNK: u32 = 1_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize, default| arguments.get(index).map_or(default, |text| text.parse().expect("a number"));
    match arguments.first().map(String::as_str) {
        Some("cleared") => cleared(),
        Some("on-demand") => demand_figures::on_demand(),
        Some("domain") => domain_figures::print(),
        Some("failover") => {
            failover_figures::print(
                number(1, failover_figures::KILLS),
                number(2, failover_figures::SIMULATED),
            );
        }
        Some("line") => line_figures::print(arguments.get(1..).unwrap_or_default()),
        Some("scale") => {
            scale_figures::print(number(1, scale_figures::MEMBERS), number(2, scale_figures::ASKED));
        }
        Some("site") => site_figures::print(number(1, site_figures::SEEDS).into()),
        Some("store") => figures::group_commit(),
        Some("transfers") => transfer_figures::transfers(number(1, transfer_figures::TRANSFERS)),
        Some("amplification") => transfer_figures::amplification(),
        Some("memory") => figures::memory(number(1, CLAIMS), number(2, JUNK)),
        atftpd => {
            cleared();
            demand_figures::on_demand();
            multicast(atftpd.map(Path::new));
            figures::group_commit();
            figures::memory(CLAIMS, JUNK);
            transfer_figures::transfers(transfer_figures::TRANSFERS);
            transfer_figures::amplification();
            domain_figures::print();
        }
    }
}

/// A result beside what was expected of it.
fn line(what: &str, measured: &str, expected: &str) {
    println!("  {what:<58} {measured:<34} expected {expected}");
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied().unwrap_or_default()
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// From request to answer where the address was cleared at start, against an echo of the same bytes.
fn cleared() {
    println!("From request to answer, item cleared at start (median of {REQUESTS})");
    let mut lab = Lab::new();
    boot_files(&lab);
    let _mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, PINNED_ITEM);
    until_held(&binld, FILE);
    let client = lab.host("machine", 101);
    let socket = client.bind(68);
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    let machines =
        (0..=255).map(|number| Machine { number, ..Machine::new(Firmware::Ipxe, client.address()) });
    let questions: Vec<Vec<u8>> = machines.map(|machine| machine.question(Form::Request, TYPE, 0)).collect();
    let round = |to: SocketAddrV4| {
        let mut spans = Vec::new();
        for question in questions.iter().cycle().take(2 * REQUESTS) {
            let asked = Instant::now();
            socket.send_to(question, to).expect("a question can be sent");
            let (_, from) = receive(&socket, Duration::from_secs(3)).expect("an answer");
            spans.push(asked.elapsed());
            assert_eq!(from, to);
        }
        median(spans.split_off(REQUESTS))
    };
    let answer = round(server);
    let echo_socket = binld.host().bind(7);
    let echo_at = SocketAddrV4::new(binld.host().address(), 7);
    let echo = thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 * REQUESTS {
                let (bytes, from) =
                    receive(&echo_socket, Duration::from_secs(10)).expect("something to echo");
                echo_socket.send_to(&bytes, from).expect("an echo can be sent");
            }
        });
        round(echo_at)
    });
    line("boot server's answer", &format!("{:.0} us", micros(answer)), "no clearing on the path: < 1 ms");
    line("plain UDP echo between the same hosts", &format!("{:.0} us", micros(echo)), "-");
    line("ratio", &format!("{:.2}", micros(answer) / micros(echo)), "< 3");
}

/// DATA packets on the wire for three machines.
fn multicast(atftpd: Option<&Path>) {
    let blocks = FILE_BYTES / 512 + 1;
    println!("\nOne file of {blocks} blocks to three machines (median of {TRANSFERS})");
    let mut lab = Lab::new();
    boot_files(&lab);
    lab.boot_file(FILE, &pattern(FILE_BYTES));
    let mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, PINNED_ITEM);
    let stream = until_held(&binld, FILE).stream(&mtftpd, FILE);
    let machines: Vec<Host> =
        (1..=3).map(|number| lab.host(&format!("machine{number}"), 100 + number)).collect();
    let ours = measure(&machines, &stream, [OPEN; 3]);
    report("all at once", &ours, "0");
    let late = measure(&machines, &stream, [OPEN, Join::After(blocks / 4), Join::After(blocks / 2)]);
    report("second late by a quarter, third by half of the file", &late, "0");
    let Some(program) = atftpd else {
        println!("  (no atftpd given: nothing to compare with)");
        return;
    };
    let theirs = packaged(&mut lab, program, &machines);
    report("one opens, two listen: atftpd --mtftp", &theirs, "every block twice");
    let per_block = |traffic: &Traffic| ratio(traffic.multicast, traffic.blocks);
    line(
        "packets to the group per block, ours : atftpd",
        &format!(
            "{:.3} : {:.3} = {:.2}",
            per_block(&ours.0),
            per_block(&theirs.0),
            per_block(&ours.0) / per_block(&theirs.0)
        ),
        "1 : 2 = 0.50",
    );
}

fn ratio(one: usize, other: usize) -> f64 {
    let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    float(one) / float(other)
}

fn report(what: &str, (traffic, span): &(Traffic, Duration), needless: &str) {
    println!(" {what}:");
    let Traffic { blocks, multicast, repair, needless: copies, unicast } = *traffic;
    line("copies that no opener lacked", &copies.to_string(), needless);
    line("copies for late joiners and loss", &repair.to_string(), "what they missed");
    line(
        "packets to the group per block",
        &format!("{:.3}", ratio(multicast, blocks)),
        "1 + what late joiners missed",
    );
    line(
        "packets to one machine per block",
        &format!("{:.4} ({unicast})", ratio(unicast, blocks)),
        "a few in all",
    );
    let megabytes = f64::from(u32::try_from(FILE_BYTES).unwrap_or(u32::MAX)) / 1e6;
    line("time", &format!("{:.2} s, {:.1} MB/s", span.as_secs_f64(), megabytes / span.as_secs_f64()), "-");
}

/// The transfer with the median count of packets.
fn measure(machines: &[Host], stream: &Stream, joins: [Join; 3]) -> (Traffic, Duration) {
    let mut runs: Vec<(Traffic, Duration)> = (0..TRANSFERS)
        .map(|_| {
            let began = Instant::now();
            let received = receive_all(machines, stream, joins);
            let span = began.elapsed();
            let file = pattern(FILE_BYTES);
            assert!(received.iter().all(|one| one.bytes == file), "a machine has other bytes");
            (traffic(&received), span)
        })
        .collect();
    runs.sort_unstable_by_key(|(traffic, _)| traffic.multicast);
    runs.swap_remove(TRANSFERS / 2)
}

fn receive_all(machines: &[Host], stream: &Stream, joins: [Join; 3]) -> Vec<Received> {
    let barrier = &Barrier::new(machines.len());
    thread::scope(|scope| {
        let started: Vec<_> = machines
            .iter()
            .zip(joins)
            .map(|(machine, join)| {
                let mut client = MtftpClient::new(machine, stream.clone());
                scope.spawn(move || {
                    barrier.wait();
                    if let Join::After(count) = join {
                        client.listen(count);
                        client.fetch()
                    } else {
                        client.receive()
                    }
                })
            })
            .collect();
        started.into_iter().map(|thread| thread.join().expect("a client that ends well")).collect()
    })
}

/// The packaged peer on a host of its own, with the same file for the same machines.
fn packaged(lab: &mut Lab, program: &Path, machines: &[Host]) -> (Traffic, Duration) {
    let host = lab.host("atftpd", 22);
    // It leaves the choice of the interface to the routing table.
    let routed = host.run(Path::new("ip"), &["route", "add", "224.0.0.0/4", "dev", "eth0"]);
    assert!(routed.status.success(), "no route for multicast");
    let group = Ipv4Addr::new(239, 255, 1, 9);
    let table = lab.folder().join("mtftp.conf");
    std::fs::write(&table, format!("{FILE} {group} 3001\n")).expect("a table can be written");
    let mut command = host.command(program);
    command.args(["--daemon", "--no-fork", "--user", "root.root", "--logfile", "/dev/null"]);
    command.args(["--bind-address", &host.address().to_string(), "--mtftp-port", "75", "--mtftp"]);
    command.arg(&table).arg(lab.boot_dir()).stdout(Stdio::null()).stderr(Stdio::null());
    let _atftpd = Killed(command.spawn().expect("atftpd can be started"));
    eventually("atftpd that listens", || {
        let sockets = host.run(Path::new("ss"), &["-Hlun", "sport = :75"]);
        (!sockets.stdout.is_empty()).then_some(())
    });
    let stream = Stream {
        server: SocketAddrV4::new(host.address(), 75),
        same_port: false,
        group: SocketAddrV4::new(group, 3001),
        file: FILE.to_owned(),
    };
    // Of three opens at once it may serve two, over each other: one machine opens, the others hear it from the start.
    measure(machines, &stream, [OPEN, Join::Listen, Join::Listen])
}

/// A process that ends with the value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
