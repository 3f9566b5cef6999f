//! Real daemons on real sockets: hosts in network namespaces of their own, round one bridge.
//!
//! ```text
//!   host a      host b      host c        each a namespace with eth0, 10.77.0.x/24
//!     └───────────┴─ bridge ──┘           a namespace too; nothing touches the machine's own network
//! ```
//! There may be more segments, 10.77.1.x/24 and so on, each a bridge of its own; a router joins them ([`Lab::router`]).
//! A lab cleans up after itself, also when its test panics; what a killed test run left behind is removed by the next.
//! It ends only processes that it started, by their id.
#![expect(
    clippy::disallowed_methods,
    reason = "other processes and their sockets live in real time, and are waited for in one place, `eventually`"
)]

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::capture::Capture;

/// What all namespaces of labs are called before their process id.
const PREFIX: &str = "pxl";
/// Receive buffer of a test's sockets, in bytes: a test that is scheduled late must not lose datagrams by that.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// How long a test waits for something that takes a healthy daemon far less. Only a failing test ever waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `probe` until it gives something, for [`PATIENCE`] at most.
///
/// The one place where tests of processes wait: nothing tells us when a daemon has come so far, so we look again after
/// 20 ms. No test may depend on how often or how fast that is.
///
/// # Panics
/// If it gives nothing in that time; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_in(PATIENCE, what, probe)
}

/// The same for what takes a healthy daemon longer, such as the next announcement.
///
/// # Panics
/// If it gives nothing in that time.
#[track_caller]
pub fn eventually_in<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", patience.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A network of namespaces and a folder, gone with the value.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    id: String,
    namespaces: Vec<String>,
    /// How many segments a router joins.
    joined: u8,
}

/// A host of a lab; a clone is the same host.
#[derive(Debug, Clone)]
pub struct Host {
    namespace: String,
    address: Ipv4Addr,
}

impl Lab {
    /// A bridge without hosts.
    ///
    /// # Panics
    /// If this process may not make network namespaces.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(geteuid().is_root(), "tests with real daemons make network namespaces: run them as root");
        remove_remains();
        let id = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("pxemc-test-").tempdir().expect("no temporary folder");
        for part in ["boot", "log", "conf"] {
            fs::create_dir(folder.path().join(part)).expect("no folder in a temporary folder");
        }
        let mut lab = Self { folder, id, namespaces: Vec::new(), joined: 0 };
        lab.namespace("bridge");
        lab.segment(0);
        lab
    }

    /// The bridge of a segment.
    fn segment(&self, number: u8) {
        let (namespace, bridge) = (format!("{}-bridge", self.id), format!("br{number}"));
        // Without spanning tree a port forwards at once. Snooping stays on, as in a switch; without a querier it
        // passes every group on to everybody.
        let kind = ["type", "bridge", "stp_state", "0", "forward_delay", "0"];
        ip(&[&["-n", &namespace, "link", "add", &bridge][..], &kind[..]].concat());
        ip(&["-n", &namespace, "link", "set", &bridge, "up"]);
    }

    /// So many segments in all, and a router that joins them: 10.77.x.254. Multicast it does not pass on.
    #[must_use]
    #[track_caller]
    pub fn router(&mut self, segments: u8) -> Router {
        let bridge = format!("{}-bridge", self.id);
        let namespace = self.namespace("router");
        for number in 0..segments {
            if number > 0 {
                self.segment(number);
            }
            let (port, address) = (format!("seg{number}"), format!("10.77.{number}.254/24"));
            let peer = ["type", "veth", "peer", "name", &port, "netns", &namespace];
            ip(&[&["-n", &bridge, "link", "add", &port][..], &peer[..]].concat());
            ip(&["-n", &bridge, "link", "set", &port, "master", &format!("br{number}"), "up"]);
            ip(&["-n", &namespace, "address", "add", &address, "dev", &port]);
            ip(&["-n", &namespace, "link", "set", &port, "up"]);
        }
        self.joined = segments;
        let router = Host { namespace, address: Ipv4Addr::new(10, 77, 0, 254) };
        let forwards = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        assert!(router.run(Path::new("sh"), &["-c", forwards]).status.success(), "the router does not route");
        Router { host: router }
    }

    fn namespace(&mut self, name: &str) -> String {
        let namespace = format!("{}-{name}", self.id);
        // Noted first: what was half made is removed too.
        self.namespaces.push(namespace.clone());
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        namespace
    }

    /// A new host with the address 10.77.0.`number`; `name` has 15 bytes at most.
    #[track_caller]
    pub fn host(&mut self, name: &str, number: u8) -> Host {
        self.host_on(0, name, number)
    }

    /// A new host with the address 10.77.`segment`.`number`.
    #[track_caller]
    pub fn host_on(&mut self, segment: u8, name: &str, number: u8) -> Host {
        let bridge = format!("{}-bridge", self.id);
        let namespace = self.namespace(name);
        let address = Ipv4Addr::new(10, 77, segment, number);
        ip(&[
            "-n", &bridge, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ]);
        ip(&["-n", &bridge, "link", "set", name, "master", &format!("br{segment}"), "up"]);
        let host = Host { namespace, address };
        host.add_address(address);
        ip(&["-n", &host.namespace, "link", "set", "eth0", "up"]);
        // The kernel brings a cable up a little later than it says.
        eventually("a cable that is up", || {
            let ours = ip(&["-n", &host.namespace, "link", "show", "eth0"]);
            let theirs = ip(&["-n", &bridge, "-d", "link", "show", name]);
            (ours.contains("state UP") && theirs.contains("state forwarding")).then_some(())
        });
        if segment < self.joined {
            let router = format!("10.77.{segment}.254");
            ip(&["-n", &host.namespace, "route", "add", "default", "via", &router]);
        }
        host
    }

    /// Records every datagram from now on. The bridge becomes a hub, so that one more host hears all of them once. What
    /// daemons on one of `hosts` say to each other does not come by the bridge, and is recorded there.
    #[must_use]
    #[track_caller]
    pub fn capture(&mut self, hosts: &[Host]) -> Capture {
        let bridge = format!("{}-bridge", self.id);
        // What is forgotten at once is never learnt: each frame goes out by every port.
        ip(&["-n", &bridge, "link", "set", "br0", "type", "bridge", "ageing_time", "0"]);
        let tap = self.host("tap", 250);
        Capture::start(&tap, hosts)
    }

    /// The folder of the lab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the boot files are.
    #[must_use]
    pub fn boot_dir(&self) -> PathBuf {
        self.folder.path().join("boot")
    }

    /// Puts a boot file there.
    pub fn boot_file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.boot_dir().join(name), bytes).expect("cannot write a boot file");
    }
}

/// Joins the segments of a lab.
#[derive(Debug)]
pub struct Router {
    host: Host,
}

impl Router {
    /// Passes nothing on from and to that segment, until [`Self::heal`].
    pub fn cut_off(&self, segment: u8) {
        let port = format!("seg{segment}");
        self.host.nft(&format!(
            "table inet cut {{ chain forward {{ type filter hook forward priority 0\niifname {port} drop\noifname {port} drop\n}}\n}}\n"
        ));
    }

    /// Undoes [`Self::cut_off`].
    pub fn heal(&self) {
        self.host.heal();
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in self.namespaces.iter().rev() {
            // With the namespace go its cables. A test that panicked may have left it half made.
            let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }
}

/// Removes namespaces whose test process is gone: one that was killed could not.
fn remove_remains() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        let pid = if parts.next() == Some(PREFIX) { parts.next() } else { None };
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test may do the same at the same time.
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

#[track_caller]
fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("`ip` cannot be run: install iproute2");
    let said = String::from_utf8_lossy(&output.stderr);
    let command = arguments.join(" ");
    assert!(output.status.success(), "`ip {command}` failed (does this root have CAP_NET_ADMIN?): {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Host {
    /// Its first address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives it one more address.
    pub fn add_address(&self, address: Ipv4Addr) {
        let with_prefix = format!("{address}/24");
        ip(&["-n", &self.namespace, "address", "add", &with_prefix, "brd", "+", "dev", "eth0"]);
    }

    /// Runs `work` on this host, in a thread of its own; sockets that it opens can be used from anywhere.
    ///
    /// # Panics
    /// If the host is gone, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let handle = Path::new("/run/netns").join(&self.namespace);
        let inside = || {
            let namespace = File::open(handle).expect("the namespace is gone");
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("may not enter the namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).expect("work inside a namespace panicked")
    }

    /// A socket on the host's address; port 0 is any. What it sends to groups leaves by eth0.
    #[must_use]
    pub fn bind(&self, port: u16) -> UdpSocket {
        self.bind_at(self.address, port)
    }

    /// A socket on an address that the host was given with [`Self::add_address`].
    ///
    /// # Panics
    /// If address or port cannot be had.
    #[must_use]
    pub fn bind_at(&self, address: Ipv4Addr, port: u16) -> UdpSocket {
        let opened = self.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
            socket.set_broadcast(true)?;
            socket.set_multicast_if_v4(&address)?;
            socket.bind(&SockAddr::from(std::net::SocketAddrV4::new(address, port)))?;
            std::io::Result::Ok(UdpSocket::from(socket))
        });
        assert!(opened.is_ok(), "UDP {address}:{port}: {opened:?}");
        opened.expect("just looked at")
    }

    /// A socket that hears a group address on eth0.
    ///
    /// # Panics
    /// If it cannot be had.
    #[must_use]
    pub fn join(&self, group: Ipv4Addr, port: u16) -> UdpSocket {
        let opened = self.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(std::net::SocketAddrV4::new(group, port)))?;
            socket.join_multicast_v4(&group, &self.address)?;
            std::io::Result::Ok(UdpSocket::from(socket))
        });
        assert!(opened.is_ok(), "group {group}:{port}: {opened:?}");
        opened.expect("just looked at")
    }

    /// A command that will run on this host, and be killed if this thread ends first.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "setpriv", "--pdeathsig", "KILL"]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program on this host to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().expect("cannot run a program on a host")
    }

    /// Drops that share of the datagrams that come in for UDP port `port`, at random.
    ///
    /// # Panics
    /// If nftables are not there.
    pub fn lose_percent(&self, percent: u8, port: u16) {
        let chance = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
        self.drop_some("loss", &format!("udp dport {port} {chance}"));
    }

    /// Hears nothing any more that comes from these hosts, until [`Self::heal`].
    pub fn cut_off(&self, others: &[Ipv4Addr]) {
        let others: Vec<String> = others.iter().map(Ipv4Addr::to_string).collect();
        self.drop_some("cut", &format!("ip saddr {{ {} }}", others.join(", ")));
    }

    /// What it sends to this UDP port is lost, until [`Self::unmute`].
    pub fn mute(&self, port: u16) {
        self.nft(&format!(
            "table inet mute {{ chain output {{ type filter hook output priority 0\nudp dport {port} drop\n}}\n}}\n"
        ));
    }

    /// Undoes [`Self::mute`].
    pub fn unmute(&self) {
        self.nft("delete table inet mute\n");
    }

    /// Undoes [`Self::cut_off`].
    pub fn heal(&self) {
        self.nft("delete table inet cut\n");
    }

    /// Undoes [`Self::lose_percent`].
    pub fn lose_nothing(&self) {
        self.nft("delete table inet loss\n");
    }

    fn drop_some(&self, table: &str, which: &str) {
        self.nft(&format!(
            "table inet {table} {{ chain input {{ type filter hook input priority 0\n{which} drop\n}}\n}}\n"
        ));
    }

    fn nft(&self, rules: &str) {
        let mut command = self.command(Path::new("nft"));
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("cannot run `nft`: install nftables");
        child.stdin.take().expect("a pipe was asked for").write_all(rules.as_bytes()).expect("nft reads");
        assert!(child.wait().expect("nft ends").success(), "nft refused (is nftables installed?): {rules}");
    }
}
