//! From request to answer where an address is cleared because a client asks; part of `tests/bench`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use sim::boot_net::{binld_config, pattern, start};
use sim::daemon::{Daemon, Kind};
use sim::lab::{Host, Lab, eventually};
use sim::pxe_client::{Answer, DISCOVERY_PORT, Firmware, Form, Machine, receive};

use crate::line;

/// Items that are asked for one after the other.
const ITEMS: u16 = 100;
/// Items that are asked for at once.
const AT_ONCE: u16 = 1000;
/// The type of the first item.
const FIRST_TYPE: u16 = 0x9000;
/// What the bytes of an xid are besides the number of the item.
const XID: u32 = 0x5eed_0000;

/// One after the other, and many at once.
pub(crate) fn on_demand() {
    println!("\nFrom request to answer, dynamic item cleared on demand (median of {ITEMS})");
    one_by_one();
    println!("\nThe same, {AT_ONCE} items asked for at once");
    at_once();
}

fn one_by_one() {
    let mut lab = Lab::new();
    let (binld, _mtftpd) = boot_server(&mut lab, ITEMS);
    let machine = lab.host("machine", 101);
    let first = ask_each(&machine, &binld);
    let again = ask_each(&machine, &binld);
    let [median, p99, slowest] = spread(first);
    line(
        "first request",
        &format!("{:.1} ms, p99 {:.1}, slowest {:.1}", millis(median), millis(p99), millis(slowest)),
        "400 ms + 0-20 ms jitter + configure: <= 420 ms",
    );
    let configure = median.saturating_sub(Duration::from_millis(400));
    line(
        "of it above 400 ms: jitter, record, configure",
        &format!("{:.1} ms", millis(configure)),
        "10 ms + two synchronous writes",
    );
    line("the same item again", &format!("{:.2} ms", millis(spread(again)[0])), "as cleared at start");
}

fn at_once() {
    let mut lab = Lab::new();
    let (binld, _mtftpd) = boot_server(&mut lab, AT_ONCE);
    let client = lab.host("machine", 101);
    let machine = Machine::new(Firmware::Rom, client.address());
    let socket = client.bind(machine.firmware.source_port());
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    let mut asked = BTreeMap::new();
    for number in 0..AT_ONCE {
        let machine = Machine { xid: XID | u32::from(number), ..machine };
        let question = machine.question(Form::Request, FIRST_TYPE + number, 0);
        asked.insert(machine.xid, Instant::now());
        socket.send_to(&question, server).expect("a question can be sent");
    }
    let (mut spans, mut plain) = (Vec::new(), 0);
    while let Some((bytes, from)) = receive(&socket, Duration::from_secs(5)) {
        let answer = Answer::read(from, &bytes).expect("a boot server's answer");
        let Some(at) = asked.remove(&answer.xid) else { continue };
        plain += usize::from(answer.multicast().is_none());
        spans.push(at.elapsed());
        if asked.is_empty() {
            break;
        }
    }
    line("requests without an answer", &asked.len().to_string(), "0");
    line("answered by plain TFTP for want of time", &plain.to_string(), "0");
    let [median, p99, slowest] = spread(spans);
    line(
        "request to answer",
        &format!("{:.1} ms, p99 {:.1}, slowest {:.1}", millis(median), millis(p99), millis(slowest)),
        "400 ms + 0-20 ms jitter + 1 ms, p99 + 5 ms",
    );
}

/// A boot server of so many dynamic items, none cleared yet, on the host of its file server.
fn boot_server(lab: &mut Lab, items: u16) -> (Daemon, Daemon) {
    let host = lab.host("both", 31);
    let mut config = String::new();
    for number in 0..items {
        lab.boot_file(&format!("rom{number}.img"), &pattern(10_000));
        let _ = write!(
            config,
            "[[item]]\nname = \"rom{number}\"\ntype = {}\npreclear = false\n\
             [[item.boot]]\nprofile = \"pxe-rom\"\narch = [0]\nfile = \"rom{number}.img\"\nmulticast = \"rom{number}.img\"\n",
            FIRST_TYPE + number,
        );
    }
    let mtftpd = start(lab, &host, Kind::Mtftpd, "mtftpd", "");
    let binld = start(lab, &host, Kind::Binld, "binld", &binld_config(&[host.address()], &config));
    eventually("files that are known", || {
        let status = binld.status();
        let files = status["files"].as_array()?;
        (files.len() == usize::from(items) && files.iter().all(|file| file["usable"] == true)).then_some(())
    });
    (binld, mtftpd)
}

/// One machine asks for each item, one after the other.
fn ask_each(client: &Host, binld: &Daemon) -> Vec<Duration> {
    let machine = Machine::new(Firmware::Rom, client.address());
    let socket = client.bind(machine.firmware.source_port());
    let server = SocketAddrV4::new(binld.host().address(), DISCOVERY_PORT);
    let spans = (0..ITEMS).map(|number| {
        let question = machine.question(Form::Request, FIRST_TYPE + number, 0);
        let asked = Instant::now();
        socket.send_to(&question, server).expect("a question can be sent");
        let (bytes, from) = receive(&socket, Duration::from_secs(5)).expect("an answer");
        let span = asked.elapsed();
        let answer = Answer::read(from, &bytes).expect("a boot server's answer");
        if answer.multicast().is_none() {
            let log = binld.log();
            let last: Vec<&str> = log.lines().rev().take(4).collect();
            println!("  put off with plain TFTP after {span:?}; last in the log: {last:#?}");
        }
        span
    });
    spans.collect()
}

/// The median, the 99th percentile and the longest.
fn spread(mut spans: Vec<Duration>) -> [Duration; 3] {
    spans.sort_unstable();
    let at = |place: usize| spans.get(place).copied().unwrap_or_default();
    [at(spans.len() / 2), at(spans.len() * 99 / 100), at(spans.len().saturating_sub(1))]
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
