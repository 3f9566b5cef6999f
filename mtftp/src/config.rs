//! The configuration: `/etc/pxemc/mtftpd.toml`, read, checked, filled in, and printed so that it parses back.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driver::Role;
use driver::config::{ConfigError, Document, Preset, Text};
use driver::host;
use driver::udp::{DoorSpec, Interface};
use peers::lowest::Constants as LowestConstants;
use serde::{Deserialize, Serialize};
use wire::note::Author;
use wire::tftp::{BLOCK_SIZE_DEFAULT, BLOCK_SIZE_UNFRAGMENTED, Rollover};
use wire::{DomainId, GroupAddr};

use crate::engine::{self, EngineConfig, ReferencePolicy};
use crate::limits::{GRACE, GRACE_MAX, STREAMS, STREAMS_MAX, WINDOW_SIZE_MAX};

#[cfg(test)]
mod tests;

/// Where the configuration lies unless the command line names another file.
pub const FILE: &str = "/etc/pxemc/mtftpd.toml";

/// The configuration, as it stands in the file, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network interface that is served.
    pub interface: String,
    /// Our address on it: ours alone, one mtftpd per address. Default: the only IPv4 address of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Text<Ipv4Addr>>,
    /// The files; never written, never left.
    #[serde(default = "boot_dir")]
    pub boot_dir: PathBuf,
    /// Where the store lies.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Where the control socket lies.
    #[serde(default = "run_dir")]
    pub run_dir: PathBuf,
    /// After a restart with references nothing is released for this many seconds, 0–3600 (G11).
    #[serde(default = "grace_s")]
    pub grace_s: u16,
    /// How long the reference of a BINLD lasts that does not renew it.
    #[serde(default)]
    pub references: References,
    /// Plain TFTP.
    #[serde(default)]
    pub tftp: Tftp,
    /// Multicast.
    #[serde(default)]
    pub mtftp: Mtftp,
    /// How servers ask who has an address: the same on every server of the domain.
    #[serde(default)]
    pub query: Query,
    /// How BINLDs speak to us.
    #[serde(default)]
    pub control: Control,
    /// Which servers tell each other what they do.
    #[serde(default)]
    pub domain: Domain,
    /// What is written to standard error.
    #[serde(default)]
    pub log: Log,
}

/// `references`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum References {
    /// After 300 s it is stale, and is deleted on behalf of the BINLD if that is dead: by a living one, or an operator.
    #[default]
    Lease,
    /// For ever: the source to the letter.
    Forever,
}

/// Whether blocks go out to clients without windows before the ACK of those before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunAhead {
    /// Never.
    Off,
    /// To firmware that was seen to take it.
    #[default]
    Proven,
    /// To all.
    All,
}

/// `[tftp]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tftp {
    /// UDP port of requests. Clients know no other than 69.
    pub port: u16,
    /// UDP port that transfers use after the request; 0 lets the kernel choose one at each start.
    pub transfer_port: u16,
    /// Largest block, in bytes, 512–1468: larger ones would be fragmented on Ethernet.
    pub block_size_max: u16,
    /// Multicast transfers of RFC 2090 at once, 0–256; each has a UDP port of its own, which the kernel chooses.
    pub streams: u16,
    /// Most blocks for one ACK, 1–64, if the client asks for windows; 1: none are granted.
    pub window_size_max: u16,
    /// Whether blocks go out to clients without windows before the ACK of those before them.
    pub run_ahead: RunAhead,
    /// What follows block number 65,535 where the client does not say: 0 or 1.
    pub rollover: u8,
}

/// `[mtftp]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mtftp {
    /// The only address that iPXE's `mtftp://` hears.
    pub pinned_group: Text<GroupAddr>,
    /// And the UDP port it hears it on.
    pub pinned_client_port: u16,
    /// UDP port of opens and data for the pinned address.
    pub pinned_port: u16,
    /// UDP ports of opens and data for all other addresses. A file that has two dynamic addresses needs two.
    pub ports: Vec<u16>,
    /// Time to live of our multicast, 1–255 hops; 1 stays on the link.
    pub ttl: u8,
}

/// `[query]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Multicast address.
    pub group: Text<GroupAddr>,
    /// UDP port.
    pub port: u16,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// UDP port.
    pub port: u16,
}

/// `[domain]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Domain {
    /// The domain's name, as the BINLDs have it.
    pub name: String,
    /// UDP port, on the query group, that all its members listen on: the control port of the BINLDs.
    pub port: u16,
    /// Servers of the domain beyond our link, with their control ports. Those on the link are found by themselves.
    pub contacts: Vec<Text<SocketAddrV4>>,
    /// How soon a cut in the domain is noticed: the same on every server of the domain.
    pub preset: Text<Preset>,
    /// What this server is called in notes. Default: the name of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Text<Author>>,
    /// Whether this server writes notes of its own: who comes, goes and vanishes, and what goes wrong.
    pub notes: bool,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list like `info,mtftp::engine=debug`.
    pub level: String,
    /// JSON objects, one a line, instead of lines for people.
    pub json: bool,
}

fn boot_dir() -> PathBuf {
    "/srv/pxemc".into()
}

fn state_dir() -> PathBuf {
    "/var/lib/pxemc".into()
}

fn grace_s() -> u16 {
    u16::try_from(GRACE.as_secs()).unwrap_or(u16::MAX)
}

fn run_dir() -> PathBuf {
    "/run/pxemc".into()
}

impl Default for Tftp {
    fn default() -> Self {
        Self {
            port: 69,
            transfer_port: 0,
            block_size_max: BLOCK_SIZE_UNFRAGMENTED,
            window_size_max: WINDOW_SIZE_MAX,
            run_ahead: RunAhead::default(),
            rollover: Rollover::default().value(),
            streams: STREAMS,
        }
    }
}

impl Default for Mtftp {
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self {
            pinned_group: Text(engine.pinned_group),
            pinned_client_port: engine.pinned_client_port,
            pinned_port: engine.pinned_server_port,
            ports: engine.server_ports,
            ttl: 1,
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self { group: Text(EngineConfig::default().query_group), port: 4015 }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { port: 4017 }
    }
}

impl Domain {
    fn author(&self) -> Author {
        self.author.clone().map_or_else(|| Author::cut(&host::name()), |Text(author)| author)
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self {
            name: "pxe".to_owned(),
            port: 4016,
            contacts: Vec::new(),
            preset: Text(Preset::Lan),
            author: None,
            notes: true,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), json: false }
    }
}

/// The name of the control socket in `run_dir`.
const SOCKET: &str = "mtftpd.sock";

/// Where the control socket of the daemon with this configuration lies. Reads only `run_dir`: a daemon that runs can
/// be asked although somebody is in the middle of editing its file.
///
/// # Errors
/// If the file cannot be read or is not TOML.
pub fn socket_of(file: &Path) -> Result<PathBuf, ConfigError> {
    #[derive(Deserialize)]
    struct Place {
        #[serde(default = "run_dir")]
        run_dir: PathBuf,
    }
    let Place { run_dir } = driver::config::read(file)?;
    Ok(run_dir.join(SOCKET))
}

/// A configuration that fits this host.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration, with the address filled in.
    pub config: Config,
    /// The interface it names.
    pub interface: Interface,
}

/// Reads `text`, which came from `file`, and looks for contradictions in it.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(file: &Path, text: &str) -> Result<(Config, Document), ConfigError> {
    let (config, document) = driver::config::parse(file, text)?;
    check(&config, &document)?;
    Ok((config, document))
}

/// [`parse`] of what stands in `file`.
///
/// # Errors
/// As [`parse`], or if the file cannot be read.
pub fn read(file: &Path) -> Result<(Config, Document), ConfigError> {
    let (config, document) = driver::config::read_document(file)?;
    check(&config, &document)?;
    Ok((config, document))
}

/// [`read`], and looks whether this host has what the configuration names.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
    let (mut config, document) = read(file)?;
    let address = config.address.map(|Text(address)| address);
    let interface = Interface::find(&config.interface, address).map_err(|error| {
        let wrong_address = address.is_some() && Interface::find(&config.interface, None).is_ok();
        document.error(if wrong_address { "address" } else { "interface" }, format!("{error:#}"), "")
    })?;
    check_boot_dir(&config.boot_dir, &document)?;
    for (key, dir) in [("state_dir", &config.state_dir), ("run_dir", &config.run_dir)] {
        host::check_writable(dir).map_err(|error| document.error(key, format!("{error:#}"), ""))?;
    }
    config.address = Some(Text(interface.address));
    Ok(Loaded { config, interface })
}

fn check_boot_dir(dir: &Path, document: &Document) -> Result<(), ConfigError> {
    let shown = dir.display();
    let right = "name the directory that holds the boot files, readable for the daemon's user";
    match std::fs::read_dir(dir) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(document.error("boot_dir", format!("cannot read directory {shown}: {error}"), right))
        }
    }
}

fn check_tftp(tftp: &Tftp, document: &Document) -> Result<(), ConfigError> {
    if !(BLOCK_SIZE_DEFAULT..=BLOCK_SIZE_UNFRAGMENTED).contains(&tftp.block_size_max) {
        let what = format!("`tftp.block_size_max` is {}", tftp.block_size_max);
        return Err(document.error("tftp.block_size_max", what, "write 512–1468 bytes"));
    }
    if !(1..=WINDOW_SIZE_MAX).contains(&tftp.window_size_max) {
        let what = format!("`tftp.window_size_max` is {}", tftp.window_size_max);
        let right = "write 2–64 blocks, or 1 to grant no windows";
        return Err(document.error("tftp.window_size_max", what, right));
    }
    if Rollover::from_value(tftp.rollover).is_none() {
        let what = format!("`tftp.rollover` is {}", tftp.rollover);
        return Err(document.error("tftp.rollover", what, "write 0 or 1, the number after 65535"));
    }
    if tftp.streams > STREAMS_MAX {
        let what = format!("`tftp.streams` is {}", tftp.streams);
        let right = format!("write 0–{STREAMS_MAX}; 0 serves no RFC 2090");
        return Err(document.error("tftp.streams", what, &right));
    }
    Ok(())
}

fn check(config: &Config, document: &Document) -> Result<(), ConfigError> {
    let mtftp = &config.mtftp;
    let listed = mtftp.ports.iter().enumerate().map(|(index, port)| (format!("mtftp.ports.{index}"), *port));
    let ours: Vec<(String, u16)> = [
        ("tftp.port", config.tftp.port),
        ("control.port", config.control.port),
        ("query.port", config.query.port),
        ("domain.port", config.domain.port),
        ("mtftp.pinned_port", mtftp.pinned_port),
    ]
    .map(|(key, port)| (key.to_owned(), port))
    .into_iter()
    .chain(listed)
    .collect();
    for (index, (key, port)) in ours.iter().enumerate() {
        if *port == 0 {
            return Err(document.error(key, format!("`{key}` is 0"), "write a port of 1–65535"));
        }
        let transfer = (config.tftp.transfer_port == *port).then_some("tftp.transfer_port");
        let taken = ours.iter().take(index).find(|(_, other)| other == port).map(|(key, _)| key.as_str());
        if let Some(other) = taken.or(transfer) {
            let key = if document.is_written(key) { key } else { other };
            let what =
                format!("`{}` and `{other}` are both {port}", ours.get(index).map_or("", |(key, _)| key));
            return Err(document.error(key, what, "give each a port of its own"));
        }
    }
    if mtftp.pinned_client_port == 0 {
        let what = "`mtftp.pinned_client_port` is 0";
        return Err(document.error("mtftp.pinned_client_port", what, "iPXE listens on 3001"));
    }
    if mtftp.ports.is_empty() {
        let right = "name at least one port, such as 1760";
        return Err(document.error("mtftp.ports", "`mtftp.ports` is empty", right));
    }
    if mtftp.ttl == 0 {
        let right = "write 1 to stay on the link, or more";
        return Err(document.error("mtftp.ttl", "`mtftp.ttl` is 0: nothing would leave this host", right));
    }
    check_tftp(&config.tftp, document)?;
    if u64::from(config.grace_s) > GRACE_MAX.as_secs() {
        let what = format!("`grace_s` is {}", config.grace_s);
        return Err(document.error(
            "grace_s",
            what,
            "write 0–3600 seconds; 90 gives boot servers time to come back",
        ));
    }
    check_groups(config, document)?;
    host::check_log_level(&config.log.level)
        .map_err(|error| document.error("log.level", format!("{error:#}"), ""))
}

fn check_groups(config: &Config, document: &Document) -> Result<(), ConfigError> {
    let pinned = config.mtftp.pinned_group.0;
    let engine = config.engine();
    if pinned == config.query.group.0 {
        let what = format!("`mtftp.pinned_group` and `query.group` are both {pinned}");
        let key =
            if document.is_written("mtftp.pinned_group") { "mtftp.pinned_group" } else { "query.group" };
        return Err(document.error(key, what, "queries need an address that never carries a transfer"));
    }
    if !engine.may_carry(pinned) {
        let what = format!("{pinned} shares its Ethernet address with 224.0.0.x, which switches never prune");
        return Err(document.error("mtftp.pinned_group", what, "iPXE knows no other than 239.255.1.1"));
    }
    Ok(())
}

impl Config {
    /// What the core needs.
    #[must_use]
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            pinned_group: self.mtftp.pinned_group.0,
            pinned_client_port: self.mtftp.pinned_client_port,
            pinned_server_port: self.mtftp.pinned_port,
            server_ports: self.mtftp.ports.clone(),
            block_size_max: self.tftp.block_size_max,
            streams: self.tftp.streams,
            window_size_max: self.tftp.window_size_max,
            run_ahead: match self.tftp.run_ahead {
                RunAhead::Off => engine::RunAhead::Off,
                RunAhead::Proven => engine::RunAhead::Proven,
                RunAhead::All => engine::RunAhead::All,
            },
            rollover: Rollover::from_value(self.tftp.rollover).unwrap_or_default(),
            query_group: self.query.group.0,
            grace: Duration::from_secs(self.grace_s.into()),
            references: match self.references {
                References::Lease => ReferencePolicy::Lease,
                References::Forever => ReferencePolicy::Forever,
            },
            control_port: self.control.port,
            domain: DomainId::of(&self.domain.name),
            domain_group: SocketAddrV4::new(self.query.group.0.ip(), self.domain.port),
            contacts: self.domain.contacts.iter().map(|Text(contact)| *contact).collect(),
            lowest: match self.domain.preset {
                Text(Preset::Lan) => LowestConstants::LAN,
                Text(Preset::Wan) => LowestConstants::WAN,
            },
            author: self.domain.author(),
            tells: self.domain.notes,
        }
    }

    /// The sockets.
    #[must_use]
    pub fn doors(&self, interface: &Interface) -> Vec<DoorSpec> {
        let door = |role, port| DoorSpec {
            role,
            address: interface.address,
            port,
            groups: Vec::new(),
            broadcast: false,
            own: true,
        };
        // First the port that a second mtftpd with our address must fail on.
        let mut doors = vec![door(Role::Control, self.control.port)];
        // The ports themselves belong to the binld that may share our address.
        for (role, port) in [(Role::Query, self.query.port), (Role::Domain, self.domain.port)] {
            let groups = vec![self.query.group.0.ip()];
            doors.push(DoorSpec { groups, own: false, ..door(role, port) });
        }
        doors.push(door(Role::Tftp, self.tftp.port));
        doors.push(door(Role::Transfer, self.tftp.transfer_port));
        for port in [self.mtftp.pinned_port].iter().chain(&self.mtftp.ports) {
            doors.push(door(Role::Mtftp(*port), *port));
        }
        doors.extend((0..self.tftp.streams).map(|number| door(Role::Stream(number), 0)));
        doors
    }

    /// The control socket of the daemon.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.state_dir.join("mtftpd.db")
    }

    /// The keys in which `new` differs and that take effect only at a start.
    #[must_use]
    pub fn fixed_changes(&self, new: &Self) -> Vec<&'static str> {
        let changed = [
            ("interface", self.interface != new.interface),
            ("address", self.address != new.address),
            ("state_dir", self.state_dir != new.state_dir),
            ("run_dir", self.run_dir != new.run_dir),
            ("grace_s", self.grace_s != new.grace_s),
            ("references", self.references != new.references),
            ("tftp", self.tftp != new.tftp),
            ("mtftp", self.mtftp != new.mtftp),
            ("query", self.query != new.query),
            ("control", self.control != new.control),
            ("domain", self.domain != new.domain),
        ];
        changed.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect()
    }
}

impl fmt::Display for Config {
    /// TOML that [`parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}
