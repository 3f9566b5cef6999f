//! A boot network of real daemons: configurations, and what tests ask the daemons.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::Value;

use crate::daemon::{Daemon, Kind};
use crate::lab::{Host, Lab, eventually};
use crate::transfer_client::Stream;

/// The server type of the boot items of tests.
pub const TYPE: u16 = 0x8001;

/// The item for iPXE on the pinned tuple, and by plain TFTP for UEFI.
pub const PINNED_ITEM: &str = r#"
[[item]]
name = "debian"
type = 0x8001

[[item.boot]]
profile = "ipxe"
arch = [0]
file = "boot.ipxe"
multicast = "initrd.img"
pinned = true
also = ["vmlinuz"]

[[item.boot]]
profile = "tftp"
arch = [7]
file = "ipxe.efi"
"#;

/// An item whose file gets an address of the pool, cleared at start.
pub const DYNAMIC_ITEM: &str = r#"
[[item]]
name = "rom"
type = 0x8002

[[item.boot]]
profile = "pxe-rom"
arch = [0]
file = "rom.img"
multicast = "rom.img"
"#;

/// An item for `mtftp-get`, with the file of the dynamic item; what stands behind it is of its transfer.
pub const ROOM_ITEM: &str = r#"
[[item]]
name = "room"
type = 0x8002

[[item.boot]]
profile = "mtftp-get"
file = "rom.img"
multicast = "rom.img"

[item.boot.transfer]
"#;

/// The boot files of the two items.
pub fn boot_files(lab: &Lab) {
    lab.boot_file("boot.ipxe", b"#!ipxe\n");
    lab.boot_file("vmlinuz", &pattern(20_000));
    lab.boot_file("initrd.img", &pattern(100_000));
    lab.boot_file("ipxe.efi", &pattern(3_000));
    lab.boot_file("rom.img", &pattern(30_000));
}

/// Bytes of which no two blocks of 512 are alike.
#[must_use]
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15 ^ u64::try_from(len).unwrap_or(0);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // splitmix64: good enough to tell blocks apart, and the same everywhere.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The configuration of a BINLD: these MTFTP servers, then `rest`.
#[must_use]
pub fn binld_config(servers: &[Ipv4Addr], rest: &str) -> String {
    let servers: String =
        servers.iter().map(|server| format!("[[mtftp]]\naddress = \"{server}\"\n\n")).collect();
    servers + rest
}

/// The host 10.77.0.21 with a running `mtftpd`.
#[must_use]
#[track_caller]
pub fn start_mtftpd(lab: &mut Lab) -> Daemon {
    let host = lab.host("mtftp1", 21);
    start(lab, &host, Kind::Mtftpd, "mtftpd", "")
}

/// The host 10.77.0.`10 + number` with a running `binld` that has the MTFTP server 10.77.0.21.
#[must_use]
#[track_caller]
pub fn start_binld(lab: &mut Lab, number: u8, rest: &str) -> Daemon {
    let host = lab.host(&format!("binld{number}"), 10 + number);
    let config = binld_config(&[Ipv4Addr::new(10, 77, 0, 21)], rest);
    start(lab, &host, Kind::Binld, &format!("binld{number}"), &config)
}

/// A running daemon.
#[must_use]
#[track_caller]
pub fn start(lab: &Lab, host: &Host, kind: Kind, name: &str, config: &str) -> Daemon {
    let mut daemon = Daemon::new(lab, host, kind, name, config);
    daemon.start();
    daemon
}

/// Where a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its address.
    pub group: Ipv4Addr,
    /// Where clients listen.
    pub client_port: u16,
    /// Where opens go.
    pub server_port: u16,
}

impl Place {
    /// The stream of `file` that `mtftpd` sends there.
    #[must_use]
    pub fn stream(&self, mtftpd: &Daemon, file: &str) -> Stream {
        Stream {
            server: SocketAddrV4::new(mtftpd.host().address(), self.server_port),
            same_port: true,
            group: SocketAddrV4::new(self.group, self.client_port),
            file: file.to_owned(),
        }
    }
}

/// The claims of a BINLD for `file`, or the one claim of an MTFTP server.
#[must_use]
#[track_caller]
pub fn claim(daemon: &Daemon, file: &str) -> Option<Value> {
    let status = daemon.status();
    let claims = status["claims"].as_array().expect("claims are a list");
    claims.iter().find(|claim| claim["file"] == file).cloned()
}

fn place(claim: &Value) -> Place {
    let port = |key| claim[key].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let group = claim["group"].as_str().and_then(|group| group.parse().ok()).expect("a group address");
    Place { group, client_port: port("client_port"), server_port: port("server_port") }
}

/// Where a BINLD holds `file`, if it does.
#[must_use]
#[track_caller]
pub fn held(binld: &Daemon, file: &str) -> Option<Place> {
    claim(binld, file).filter(|claim| claim["state"] == "held").map(|claim| place(&claim))
}

/// Waits until a BINLD holds `file`.
#[track_caller]
pub fn until_held(binld: &Daemon, file: &str) -> Place {
    eventually(&format!("{file} held"), || held(binld, file))
}

/// The addresses of the BINLDs that have a reference for `file` at an MTFTP server, in order.
#[must_use]
#[track_caller]
pub fn references(mtftpd: &Daemon, file: &str) -> Vec<String> {
    let claim = claim(mtftpd, file).unwrap_or_default();
    let list = claim["references"].as_array().cloned().unwrap_or_default();
    let mut addresses: Vec<String> =
        list.iter().filter_map(|reference| reference["address"].as_str().map(str::to_owned)).collect();
    addresses.sort();
    addresses
}

/// A counter; 0 if it never counted.
#[must_use]
#[track_caller]
pub fn counter(daemon: &Daemon, name: &str) -> u64 {
    daemon.status()["counters"][name].as_u64().unwrap_or(0)
}

/// The sum of all counters whose name contains `part`.
#[must_use]
#[track_caller]
pub fn counters_with(daemon: &Daemon, part: &str) -> u64 {
    let status = daemon.status();
    let all = status["counters"].as_object().expect("counters are an object");
    all.iter().filter(|(name, _)| name.contains(part)).filter_map(|(_, count)| count.as_u64()).sum()
}

/// Whether all clients of the link have a responder that works, as that BINLD tells, and so many BINLDs work.
#[must_use]
#[track_caller]
pub fn is_shared_out(binld: &Daemon, binlds: usize) -> bool {
    let status = binld.status();
    let responders = &status["responders"];
    let all = responders["servers"].as_array().cloned().unwrap_or_default();
    let works = all.iter().filter(|server| server["works"] == true && server["weight"].is_u64());
    responders["answered"] == responders["shards"] && works.count() == binlds
}

/// How many shares of the clients a BINLD answers, as it tells.
#[must_use]
#[track_caller]
pub fn shares(binld: &Daemon) -> u64 {
    let status = binld.status();
    let all = status["responders"]["servers"].as_array().cloned().unwrap_or_default();
    let ours = all.iter().find(|server| server["server"] == status["server"]);
    ours.and_then(|server| server["shards"].as_u64()).unwrap_or(0)
}
