//! The program `mtftp-get`, and Debian's `atftp`, against the real file server.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use sim::boot_net::{
    DYNAMIC_ITEM, Place, ROOM_ITEM, boot_files, counter, pattern, start_binld, start_mtftpd, until_held,
};
use sim::daemon::{Daemon, program};
use sim::lab::{Host, Lab};

const SERVER: &str = "10.77.0.21";
/// The file of the dynamic item.
const FILE: &str = "rom.img";
/// Some thousand blocks.
const LEN: usize = 3_000_000;

struct Net {
    lab: Lab,
    mtftpd: Daemon,
    _binld: Daemon,
    /// Where the file is multicast.
    place: Place,
    file: Vec<u8>,
}

impl Net {
    fn new(len: usize) -> Self {
        Self::with(len, DYNAMIC_ITEM)
    }

    /// The transfer begins when so many are there.
    fn for_all(clients: u16) -> Self {
        let item = format!("{ROOM_ITEM}start_clients = {clients}\nstart_within_s = 3600\n");
        Self::with(LEN, &item)
    }

    fn with(len: usize, item: &str) -> Self {
        let mut lab = Lab::new();
        boot_files(&lab);
        let file = pattern(len);
        lab.boot_file(FILE, &file);
        let mtftpd = start_mtftpd(&mut lab);
        let binld = start_binld(&mut lab, 1, item);
        let place = until_held(&binld, FILE);
        Self { lab, mtftpd, _binld: binld, place, file }
    }

    fn machines(&mut self, count: u8) -> Vec<Host> {
        (0..count).map(|number| self.lab.host(&format!("machine{number}"), 101 + number)).collect()
    }

    fn received(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.lab.folder().join(name)).unwrap()
    }
}

fn get(lab: &Lab, host: &Host, place: &str, more: &[&str]) -> Child {
    let mut command = host.command(&program("mtftp-get"));
    command.current_dir(lab.folder()).args(["--server", SERVER, "--json", "--quiet", "-o", place]).args(more);
    command.arg(FILE).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn told(output: &Output) -> Value {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        panic!("{error}: {:?} {}", output.status.code(), String::from_utf8_lossy(&text))
    })
}

/// The session that ended: packets to the group.
fn multicast_blocks(mtftpd: &Daemon) -> u64 {
    counter(mtftpd, "session.multicast_blocks")
}

#[test]
fn three_machines_share_one_stream_of_rfc_2090() {
    let mut net = Net::for_all(3);
    let machines = net.machines(3);
    let places = ["one", "two", "three"];
    let running: Vec<Child> =
        machines.iter().zip(places).map(|(host, place)| get(&net.lab, host, place, &[])).collect();
    for (child, place) in running.into_iter().zip(places) {
        let output = child.wait_with_output().unwrap();
        let told = told(&output);
        assert_eq!((output.status.code(), told["source"].as_str()), (Some(0), Some("rfc2090")), "{told}");
        assert_eq!(told["bytes"].as_u64(), Some(LEN as u64));
        assert!(net.received(place) == net.file, "{place}");
    }
    let blocks = LEN as u64 / 1468 + 1;
    assert!(multicast_blocks(&net.mtftpd) < 3 * blocks, "{} packets", multicast_blocks(&net.mtftpd));
    assert_eq!(counter(&net.mtftpd, "session.began"), 1, "{}", net.mtftpd.log());
}

/// Gives a host so many addresses for clients in one process; the option that names them.
fn addresses(host: &Host, count: u8) -> String {
    const FIRST: u8 = 150;
    for number in FIRST..FIRST + count {
        host.add_address(Ipv4Addr::new(10, 77, 0, number));
    }
    format!("--from=10.77.0.{FIRST}-10.77.0.{}", FIRST + count - 1)
}

/// Runs many clients in one process: the exit code, and what it tells.
#[track_caller]
fn load(host: &Host, clients: u16, more: &[&str]) -> (i32, Value) {
    let mut command = host.command(&program("mtftp-get"));
    command.args(["--server", SERVER, "--json", "--quiet", "--interface", "eth0"]);
    command.args(["--clients", &clients.to_string()]).args(more).arg(FILE);
    let output = command.output().unwrap();
    (output.status.code().unwrap(), told(&output))
}

/// The SHA-256 of the file as somebody else computes it.
fn sha256(lab: &Lab) -> String {
    let output = Command::new("sha256sum").arg(lab.boot_dir().join(FILE)).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn sixty_four_clients_in_one_process_share_one_stream() {
    let mut net = Net::for_all(64);
    let machine = net.machines(1).remove(0);
    let (from, hash) = (addresses(&machine, 16), sha256(&net.lab));
    let (code, told) = load(&machine, 64, &[&from, "--no-fall-back", "--sha256", &hash]);
    assert_eq!((code, told["by"]["rfc2090"].as_u64()), (0, Some(64)), "{told}");
    assert_eq!((told["completed"].as_u64(), told["failed"].as_u64()), (Some(64), Some(0)));
    assert_eq!((told["bytes"].as_u64(), told["sha256"].as_str()), (Some(64 * LEN as u64), Some(&*hash)));
    assert_eq!((told["addresses"].as_u64(), &told["hint"]), (Some(16), &Value::Null));
    let blocks = LEN as u64 / 1468 + 1;
    assert!(multicast_blocks(&net.mtftpd) < 2 * blocks, "{} packets", multicast_blocks(&net.mtftpd));
    assert_eq!(counter(&net.mtftpd, "session.began"), 1, "{}", net.mtftpd.log());
    assert_eq!(counter(&net.mtftpd, "tftp.complete"), 0, "nobody got it by plain TFTP");
}

#[test]
fn many_clients_by_plain_tftp_and_in_passes() {
    let mut net = Net::new(100_000);
    let machine = net.machines(1).remove(0);
    let (from, hash) = (addresses(&machine, 4), sha256(&net.lab));
    let (code, told) = load(&machine, 12, &[&from, "--method", "tftp", "--over", "1"]);
    assert_eq!((code, told["by"]["tftp"].as_u64()), (0, Some(12)), "{told}");
    assert_eq!((told["unicast_blocks"].as_u64(), told["sha256"].as_str()), (Some(12 * 69), Some(&*hash)));
    let group = format!("{}:{}", net.place.group, net.place.client_port);
    let passes = [&from, "--method", "mtftp", "--delay-s", "0", "--group", &group];
    let (code, told) = load(&machine, 4, &passes);
    assert_eq!((code, told["by"]["pxe-mtftp"].as_u64()), (0, Some(4)), "{told}");
    // One port of an address is for one client.
    let mut command = machine.command(&program("mtftp-get"));
    command.args(["--server", SERVER, "--interface", "eth0", "--clients", "5"]).args(passes);
    assert_eq!(command.arg(FILE).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_load_says_what_went_wrong() {
    let mut net = Net::new(100_000);
    let machine = net.machines(1).remove(0);
    let zeros = "0".repeat(64);
    let (code, told) = load(&machine, 2, &["--sha256", &zeros]);
    assert_eq!((code, told["failed"].as_u64()), (7, Some(2)), "{told}");
    assert_eq!(told["errors"]["the file is not that of --sha256"].as_u64(), Some(2), "{told}");
    // The server's limit for one address.
    let (code, told) = load(&machine, 20, &["--tries", "1", "--method", "tftp", "--windowsize", "1"]);
    assert_eq!((code, told["clients"].as_u64()), (7, Some(20)), "{told}");
    assert!(told["hint"].as_str().is_some_and(|hint| hint.contains("--from")), "{told}");
    assert!(told["errors"]["nobody answers"].as_u64() > Some(0), "{told}");
    let mut command = machine.command(&program("mtftp-get"));
    command.args(["--server", SERVER, "--interface", "eth0", "--clients", "2", "--from", "10.77.0.99", FILE]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("10.77.0.99") && said.contains("`ip address add"),
        "{said}"
    );
}

/// `atftp` says nothing when it has all of the file, until it is made master.
#[test]
fn debians_atftp_takes_part() {
    let mut net = Net::for_all(3);
    let machines = net.machines(3);
    let atftp = Path::new("/usr/bin/atftp");
    assert!(atftp.exists(), "`apt-get install atftp`, as tests/run does");
    let fetch = |host: &Host, place: &str| {
        // It lets the routing table choose the interface on which it joins.
        let routed = host.run(Path::new("ip"), &["route", "add", "224.0.0.0/4", "dev", "eth0"]);
        assert!(routed.status.success());
        let mut command = host.command(atftp);
        command.current_dir(net.lab.folder());
        command.args(["--option", "multicast", "--option", "blksize 1432", "--option", "tsize 0"]);
        command.args(["-g", "-r", FILE, "-l", place, SERVER]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let places = ["one", "two", "three"];
    let running: Vec<Child> = machines.iter().zip(places).map(|(host, place)| fetch(host, place)).collect();
    for (child, place) in running.into_iter().zip(places) {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("timeout"), "{place}: {said}");
        assert!(net.received(place) == net.file, "{place}");
    }
    assert_eq!(counter(&net.mtftpd, "tftp.complete"), 0, "nobody got it by plain TFTP");
    assert_eq!(counter(&net.mtftpd, "session.began"), 1, "{}", net.mtftpd.log());
}

#[test]
fn plain_tftp_with_every_option_and_without() {
    let mut net = Net::new(300_000);
    let machines = net.machines(1);
    let ways: [&[&str]; 5] = [
        &[],
        &["--windowsize", "1"],
        &["--blksize", "512", "--windowsize", "1"],
        &["--windowsize", "64", "--rollover", "1", "--blksize", "1024"],
        &["--blksize", "8", "--windowsize", "64"],
    ];
    for more in ways {
        let more = [&["--method", "tftp"], more].concat();
        let output = get(&net.lab, &machines[0], "file", &more).wait_with_output().unwrap();
        let told = told(&output);
        assert_eq!(
            (output.status.code(), told["source"].as_str()),
            (Some(0), Some("tftp")),
            "{more:?} {told}"
        );
        assert!(net.received("file") == net.file, "{more:?}");
    }
}

/// Scripts can tell what happened by the exit code.
#[test]
fn exit_codes_say_what_went_wrong() {
    let mut net = Net::new(10_000);
    let machine = net.machines(1).remove(0);
    let run = |more: &[&str], file: &str| {
        let mut command = machine.command(&program("mtftp-get"));
        let output = command
            .current_dir(net.lab.folder())
            .args(["--quiet", "--json"])
            .args(more)
            .arg(file)
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (server, nobody) = (["--server", SERVER], ["--server", "10.77.0.99", "--tries", "1"]);
    assert_eq!(run(&[], FILE).0, 2);
    assert_eq!(run(&server, "absent").0, 4);
    assert_eq!(run(&nobody, FILE).0, 3);
    assert_eq!(run(&["--server", SERVER, "--interface", "eth9"], FILE).0, 1);
    assert_eq!(run(&["--server", SERVER, "-o", "no/such/dir"], FILE).0, 1);
    let mtftp = ["--method", "mtftp", "--group", "239.255.7.9:3001", "--no-fall-back", "--delay-s", "0"];
    assert_eq!(run(&[&server[..], &mtftp].concat(), FILE).0, 6);
    assert!(!net.lab.folder().join("absent").exists() && !net.lab.folder().join("absent.part").exists());
    // To standard output goes the file, and nothing else.
    let mut command = machine.command(&program("mtftp-get"));
    let output = command.args(server).args(["--json", "-o", "-", FILE]).output().unwrap();
    assert!(output.stdout == net.file);
    assert_eq!(told(&Output { stdout: Vec::new(), ..output })["bytes"].as_u64(), Some(10_000));
}

/// An item for `mtftp-get` whose address is cleared when the first one asks.
const GET_ITEM: &str = r#"
[[item]]
name = "payload"
type = 0x8003
preclear = false

[[item.boot]]
profile = "mtftp-get"
file = "rom.img"
multicast = "rom.img"
"#;

/// Boot server discovery by multicast and by unicast; the first one waits, and is told so, while the address is cleared.
#[test]
fn a_boot_server_says_what_to_load_and_that_it_takes_a_moment() {
    let mut lab = Lab::new();
    boot_files(&lab);
    let file = pattern(200_000);
    lab.boot_file(FILE, &file);
    let mtftpd = start_mtftpd(&mut lab);
    let binld = start_binld(&mut lab, 1, GET_ITEM);
    let machine = lab.host("machine", 101);
    let ask = |more: &[&str]| {
        let mut command = machine.command(&program("mtftp-get"));
        command.current_dir(lab.folder()).args(["--type", "0x8003", "--json", "--quiet", "-o", "file"]);
        let output = command.args(more).output().unwrap();
        let told = told(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(std::fs::read(lab.folder().join("file")).unwrap() == file, "{told}");
        told
    };
    let first = ask(&[]);
    assert_eq!(
        (first["source"].as_str(), first["boot_server"].as_str()),
        (Some("rfc2090"), Some("10.77.0.11"))
    );
    assert!(first["wait_packets"].as_u64() >= Some(1), "{first}");
    assert!(counter(&binld, "discovery.wait") >= 1);
    let second = ask(&["--boot-server", "10.77.0.11", "--method", "mtftp", "--delay-s", "0"]);
    assert_eq!(
        (second["source"].as_str(), second["wait_packets"].as_u64()),
        (Some("pxe-mtftp"), Some(0)),
        "{second}"
    );
    // One that nobody serves is answered with silence.
    let mut command = machine.command(&program("mtftp-get"));
    let silent = command
        .args(["--type", "0x9999", "--boot-server", "10.77.0.11", "--timeout-s", "3"])
        .output()
        .unwrap();
    assert_eq!(silent.status.code(), Some(3));
    drop(mtftpd);
}
