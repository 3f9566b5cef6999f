//! Fall-back is not silent, and a status that is watched.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use sim::boot_net::{
    PINNED_ITEM, Place, TYPE, boot_files, claim, counter, pattern, start_binld, start_mtftpd, until_held,
};
use sim::daemon::{Daemon, program};
use sim::lab::{Host, Lab, PATIENCE, eventually};
use sim::pxe_client::{DISCOVERY_PORT, Firmware, Form, Machine, ask, receive};
use sim::transfer_client::{MtftpClient, Outcome, read_request, tftp};

const FILE: &str = "initrd.img";

struct Net {
    lab: Lab,
    mtftpd: Daemon,
    binld: Daemon,
    place: Place,
}

impl Net {
    fn new() -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let mtftpd = start_mtftpd(&mut lab);
        let binld = start_binld(&mut lab, 1, PINNED_ITEM);
        let place = until_held(&binld, FILE);
        Self { lab, mtftpd, binld, place }
    }

    /// A machine that asked its boot server, and was told the pinned address.
    fn told(&mut self, number: u8) -> Host {
        let host = self.lab.host(&format!("machine{number}"), 100 + number);
        let machine = Machine::new(Firmware::Ipxe, host.address());
        let server = SocketAddrV4::new(self.binld.host().address(), DISCOVERY_PORT);
        let socket = host.bind(machine.firmware.source_port());
        let uri =
            ask(&socket, server, &machine.question(Form::Request, TYPE, 0)).and_then(|answer| answer.uri());
        assert_eq!(uri.as_deref(), Some("mtftp://10.77.0.21:1759/initrd.img"));
        host
    }

    fn expected(&self) -> Option<u64> {
        claim(&self.mtftpd, FILE)?["expected"].as_u64()
    }

    fn fetch_plain(&self, host: &Host) {
        let fetched =
            tftp(&host.bind(0), self.mtftpd.host().address(), FILE.as_bytes(), &[("blksize", "1432")]);
        assert!(fetched.outcome == Outcome::File(pattern(100_000)), "other bytes");
    }

    /// The newest fall-back, once there are so many.
    fn fall_back(&self, total: u64) -> Value {
        eventually("a fall-back in the status", || {
            let fall_backs = self.mtftpd.status()["fall_backs"].clone();
            (fall_backs["total"] == total).then(|| fall_backs["recent"][0].clone())
        })
    }
}

/// A general query, as a switch sends it.
fn query(host: &Host) {
    let message = [0x11, 100, 0xee, 0x9b, 0, 0, 0, 0];
    host.enter(|| {
        use socket2::{Domain, Protocol, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(2))).unwrap();
        socket.set_multicast_if_v4(&host.address()).unwrap();
        socket.send_to(&message, &SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 0).into()).unwrap();
    });
}

#[test]
fn a_client_that_was_told_an_address_and_fetches_by_plain_tftp_is_reported_once_with_its_mac() {
    let mut net = Net::new();
    let host = net.told(1);
    assert_eq!((net.expected(), net.mtftpd.status()["fall_backs"]["total"].as_u64()), (Some(1), Some(0)));
    // It asks for the size first, as firmware does.
    let probe = host.bind(0);
    let request = read_request(FILE.as_bytes(), &[("tsize", "0")]);
    probe.send_to(&request, SocketAddrV4::new(net.mtftpd.host().address(), 69)).unwrap();
    let (_, from) = receive(&probe, PATIENCE).expect("an OACK");
    probe.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).unwrap();
    eventually("the probe is over", || (counter(&net.mtftpd, "tftp.probe") == 1).then_some(()));
    assert_eq!((net.expected(), net.mtftpd.status()["fall_backs"]["total"].as_u64()), (Some(1), Some(0)));
    net.fetch_plain(&host);
    net.fetch_plain(&host);
    let one = net.fall_back(1);
    let told = ["mac", "client", "group", "file", "cause"].map(|key| one[key].as_str().unwrap_or_default());
    assert_eq!(told, ["52:54:00:77:00:65", "10.77.0.101", "239.255.1.1", FILE, "never_opened"]);
    assert_eq!((net.expected(), counter(&net.mtftpd, "fall_back.never_opened")), (Some(0), 1));
    let log = net.mtftpd.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("fall-back")).collect();
    assert!(
        matches!(lines.as_slice(), [line] if line.contains("WARN") && line.contains("52:54:00:77:00:65")
            && line.contains("10.77.0.101") && line.contains("never opened the transfer")),
        "{lines:?}"
    );
    let text = String::from_utf8(net.mtftpd.ask(&["status"]).stdout).unwrap();
    assert!(text.contains("fall-backs 1 ") && text.contains("52:54:00:77:00:65"), "{text}");
    // Who takes the stream is not reported.
    let good = net.told(2);
    let received = MtftpClient::new(&good, net.place.stream(&net.mtftpd, FILE)).fetch();
    assert!(received.bytes == pattern(100_000));
    net.fetch_plain(&good);
    assert_eq!(net.fall_back(1)["client"], "10.77.0.101");
}

#[test]
fn a_querier_on_the_segment_is_known_and_named_as_the_cause() {
    let mut net = Net::new();
    assert_eq!(net.mtftpd.status()["querier"]["state"], "none_heard");
    let switch = net.lab.host("switch", 254);
    let querier = eventually("a querier in the status", || {
        query(&switch);
        let querier = net.mtftpd.status()["querier"].clone();
        (querier["state"] == "heard").then_some(querier)
    });
    assert_eq!(querier["address"], "10.77.0.254");
    // What iPXE does behind a switch that prunes: it opens, ACKs what comes to it alone, hears no group, and falls back.
    let host = net.told(1);
    let socket = host.bind(0);
    socket.send_to(&read_request(FILE.as_bytes(), &[]), net.place.stream(&net.mtftpd, FILE).server).unwrap();
    let (block, from) = receive(&socket, PATIENCE).expect("block 1, by unicast");
    assert_eq!(block[..4], [0, 3, 0, 1]);
    socket.send_to(&[0, 4, 0, 1], from).unwrap();
    eventually("more for the group", || {
        let session = claim(&net.mtftpd, FILE)?["sessions"][0].clone();
        (session["multicast"].as_u64()? >= 2).then_some(())
    });
    net.fetch_plain(&host);
    let one = net.fall_back(1);
    assert_eq!((one["cause"].as_str(), one["mac"].as_str()), (Some("querier"), Some("52:54:00:77:00:65")));
    assert!(one["likely"].as_str().unwrap().contains("(10.77.0.254): a switch that snoops"), "{one}");
}

/// `status --watch` on the daemon's host.
fn watch(daemon: &Daemon, name: &str, options: &[&str]) -> Child {
    let mut command = daemon.host().command(&program(name));
    command.args(["status", "--watch"]).args(options).arg("--config").arg(daemon.config_file());
    command.stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_status_is_watched_until_it_is_interrupted_or_nobody_reads() {
    let net = Net::new();
    for (daemon, name) in [(&net.mtftpd, "mtftpd"), (&net.binld, "binld")] {
        let mut child = watch(daemon, name, &["--json"]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reports: Vec<Value> =
            lines.by_ref().take(2).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert_eq!((&reports[0]["program"], &reports[1]["program"]), (&name.into(), &name.into()));
        assert!(reports[0]["uptime_ms"].as_u64() < reports[1]["uptime_ms"].as_u64());
        drop(lines);
        assert_eq!(child.wait().unwrap().code(), Some(0), "nobody reads any more");
    }
    let mut child = watch(&net.mtftpd, "mtftpd", &[]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    // A report holds blank lines of its own, but begins with the name.
    while text.matches("mtftpd 0").count() < 2 {
        assert!(out.read_line(&mut text).unwrap() > 0, "it ended: {text}");
    }
    assert!(text.contains("\n\nmtftpd 0") && !text.contains('\x1b'), "{text}");
    let id = child.id().to_string();
    let interrupted = net.mtftpd.host().run(Path::new("kill"), &["-INT", &id]);
    assert!(interrupted.status.success());
    out.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "interrupted");
}

/// What a session is doing, while it does it.
#[test]
fn a_running_session_is_shown_with_its_pace_and_its_listeners() {
    let mut net = Net::new();
    let hosts = [net.told(1), net.told(2)];
    // The first opens and is slow; the second was told and has not opened yet.
    let socket = hosts[0].bind(0);
    socket.send_to(&read_request(FILE.as_bytes(), &[]), net.place.stream(&net.mtftpd, FILE).server).unwrap();
    let (_, from) = receive(&socket, PATIENCE).expect("block 1, by unicast");
    let mut acked = 0_u8;
    let session = eventually("a rate", || {
        acked = (acked + 1).min(190);
        socket.send_to(&[0, 4, 0, acked], from).unwrap();
        let session = claim(&net.mtftpd, FILE)?["sessions"][0].clone();
        let runs = session["bytes_per_second"].as_u64()? > 0 && session["block"].as_u64()? > 3;
        runs.then_some(session)
    });
    let of = |key: &str| session[key].as_u64();
    assert_eq!((of("known"), of("joined"), of("expected"), of("pass")), (Some(1), Some(1), Some(2), Some(1)));
    assert_eq!((of("blocks"), session["file"].as_str()), (Some(196), Some(FILE)));
    assert!(session["master"].as_str().unwrap().starts_with("10.77.0.101:"), "{session}");
}
