//! The configuration: `/etc/pxemc/binld.toml`, read, checked, filled in, and printed so that it parses back.
//!
//! Three steps, each refused with file, line, what is wrong and what would be right: [`parse`] reads the text and
//! looks for contradictions in it (`check`); [`load`] also looks at the host; `build` makes of it what the engine
//! needs.

mod build;
mod check;
mod names;
mod responder;
mod transfer;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use driver::config::{ConfigError, Document, Preset, Text};
use driver::host;
use driver::udp::Interface;
use peers::further::Named;
use serde::{Deserialize, Serialize};
use wire::contact::DomainName;
use wire::note::Author;
use wire::{FileName, GroupAddr};

pub use responder::{Responder, Weight};
pub use transfer::Transfer;

use crate::engine::catalog::{ClientName, Profile};

/// Where the configuration lies unless the command line names another file.
pub const FILE: &str = "/etc/pxemc/binld.toml";
const SOCKET: &str = "binld.sock";

/// The configuration, as it stands in the file, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network interface that is served.
    pub interface: String,
    /// Our address on it: ours alone, one binld per address. Default: the only IPv4 address of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Text<Ipv4Addr>>,
    /// Where the store lies.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Where the control socket lies.
    #[serde(default = "run_dir")]
    pub run_dir: PathBuf,
    /// How clients find us.
    #[serde(default)]
    pub discovery: Discovery,
    /// How other servers ask who has an address: the same on every server of the domain.
    #[serde(default)]
    pub query: Query,
    /// How servers speak to each other otherwise.
    #[serde(default)]
    pub control: Control,
    /// The servers that share what they know.
    #[serde(default)]
    pub domain: Domain,
    /// Which share of the clients we answer.
    #[serde(default)]
    pub responder: Responder,
    /// Where dynamic addresses come from.
    #[serde(default)]
    pub pool: Pool,
    /// The one tuple that iPXE hears.
    #[serde(default)]
    pub pinned: Pinned,
    /// What is written to standard error.
    #[serde(default)]
    pub log: Log,
    /// The MTFTP servers, in order of preference.
    #[serde(default)]
    pub mtftp: Vec<Mtftp>,
    /// The boot items.
    #[serde(default)]
    pub item: Vec<Item>,
}

/// `[discovery]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Discovery {
    /// UDP port, by unicast and on `groups`.
    pub port: u16,
    /// Multicast addresses on which clients look for boot servers.
    pub groups: Vec<Text<GroupAddr>>,
    /// Whether broadcasts to port 67 are heard too; never beside dnsmasq.
    pub broadcast: bool,
}

/// `[query]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Multicast address, outside the pool.
    pub group: Text<GroupAddr>,
    /// UDP port.
    pub port: u16,
    /// Boot servers that speak only the query and the echo, and to which a claim yields that they defend (Y5). Others of
    /// their kind are noticed, and given time to ask, but never yielded to.
    pub legacy_peers: Vec<Text<Ipv4Addr>>,
    /// How long such a server waits for an echo before it takes an address, 1–60,000 ms.
    pub legacy_wait_ms: u32,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// UDP port, by unicast and on the query group.
    pub port: u16,
}

/// `[domain]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Domain {
    /// The domain's name: servers of one name on one link, or connected by contacts, share their claims.
    pub name: String,
    /// Servers of the domain beyond our link, with their control ports. Those on the link are found by themselves.
    pub contacts: Vec<Text<SocketAddrV4>>,
    /// How fast a cut is noticed: within 17 s on one link or a few, or within minutes over a wide area. The same on every
    /// server of the domain.
    pub preset: Text<Preset>,
    /// The list of domains of the site, by its name: who is a member of it tells it of this domain. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<Text<DomainName>>,
    /// Domains of operators of which this server is a member from its start on.
    pub also: Vec<Text<DomainName>>,
    /// What this server is called in notes. Default: the name of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Text<Author>>,
    /// Whether this server writes notes of its own: who comes, goes and vanishes, and what goes wrong.
    pub notes: bool,
}

/// `[pool]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// First address.
    pub first: Text<GroupAddr>,
    /// Last address.
    pub last: Text<GroupAddr>,
    /// Addresses between them that are somebody else's. The pinned one is always left out.
    pub exclude: Vec<Text<GroupAddr>>,
    /// UDP port on which clients listen.
    pub client_port: u16,
    /// UDP port of the MTFTP servers for these addresses; not the pinned one.
    pub server_port: u16,
    /// Time to live of our multicast, 1–255 hops; 1 stays on the link.
    pub ttl: u8,
}

/// `[pinned]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pinned {
    /// Address; iPXE knows no other than 239.255.1.1.
    pub group: Text<GroupAddr>,
    /// UDP port on which clients listen; iPXE knows no other than 3001.
    pub client_port: u16,
    /// UDP port of the MTFTP servers for it.
    pub server_port: u16,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list like `info,binld::engine=debug`.
    pub level: String,
    /// JSON objects, one a line, instead of lines for people.
    pub json: bool,
}

/// `[[mtftp]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mtftp {
    /// Its address.
    pub address: Text<Ipv4Addr>,
    /// UDP port on which it takes what we say.
    #[serde(default = "mtftp_control_port")]
    pub control_port: u16,
}

/// `[[item]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its name, for people; unique.
    pub name: String,
    /// Server type, the first half of what a client asks for.
    #[serde(rename = "type")]
    pub server_type: u16,
    /// Layer, the second half, 0–0x7fff.
    #[serde(default)]
    pub layer: u16,
    /// Only for clients of this user class (option 77).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_class: Option<String>,
    /// Only for these clients, by Ethernet address or machine identifier; empty for all.
    #[serde(default)]
    pub clients: Vec<Text<ClientName>>,
    /// Whether its addresses are cleared at start, so that no client waits.
    #[serde(default = "yes")]
    pub preclear: bool,
    /// What is loaded, by profile and architecture.
    #[serde(default)]
    pub boot: Vec<Boot>,
}

/// `[[item.boot]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// For which way of loading.
    #[serde(default = "by_tftp")]
    pub profile: Text<Profile>,
    /// For which architectures (option 93); empty for all.
    #[serde(default)]
    pub arch: Vec<u16>,
    /// The boot file that the client is told.
    pub file: Text<FileName>,
    /// The file that is multicast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multicast: Option<Text<FileName>>,
    /// Whether it competes for the pinned tuple.
    #[serde(default)]
    pub pinned: bool,
    /// Files that the boot file fetches by plain TFTP: a server must have them too.
    #[serde(default)]
    pub also: Vec<Text<FileName>>,
    /// MTFTP servers that have the files, in order of preference; empty for all.
    #[serde(default)]
    pub servers: Vec<Text<Ipv4Addr>>,
    /// How the clients of the multicast file are treated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transfer: Transfer,
}

/// Most boot items say nothing of it.
fn is_default(transfer: &Transfer) -> bool {
    *transfer == Transfer::default()
}

fn state_dir() -> PathBuf {
    "/var/lib/pxemc".into()
}

fn run_dir() -> PathBuf {
    "/run/pxemc".into()
}

fn mtftp_control_port() -> u16 {
    4017
}

fn by_tftp() -> Text<Profile> {
    Text(Profile::Tftp)
}

fn yes() -> bool {
    true
}

const fn group(a: u8, b: u8, c: u8, d: u8) -> Text<GroupAddr> {
    // A constant that is not class D does not compile.
    Text(GroupAddr::new(Ipv4Addr::new(a, b, c, d)).expect("class D"))
}

const DISCOVERY_GROUP: Text<GroupAddr> = group(224, 0, 1, 2);
const QUERY_GROUP: Text<GroupAddr> = group(239, 255, 255, 15);
const POOL_FIRST: Text<GroupAddr> = group(239, 255, 0, 0);
const POOL_LAST: Text<GroupAddr> = group(239, 255, 254, 255);
const PINNED_GROUP: Text<GroupAddr> = group(239, 255, 1, 1);

impl Default for Discovery {
    fn default() -> Self {
        Self { port: 4011, groups: vec![DISCOVERY_GROUP], broadcast: false }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self { group: QUERY_GROUP, port: 4015, legacy_peers: Vec::new(), legacy_wait_ms: 1000 }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { port: 4016 }
    }
}

impl Domain {
    fn named(&self) -> Named {
        Named {
            own: DomainName::cut(&self.name),
            list: self.list.clone().map(|Text(list)| list),
            also: self.also.iter().map(|Text(name)| name.clone()).collect(),
        }
    }

    fn author(&self) -> Author {
        self.author.clone().map_or_else(|| Author::cut(&host::name()), |Text(author)| author)
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self {
            name: "pxe".to_owned(),
            contacts: Vec::new(),
            preset: Text(Preset::Lan),
            list: None,
            also: Vec::new(),
            author: None,
            notes: true,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            first: POOL_FIRST,
            last: POOL_LAST,
            exclude: Vec::new(),
            client_port: 3001,
            server_port: 1760,
            ttl: 1,
        }
    }
}

impl Default for Pinned {
    fn default() -> Self {
        Self { group: PINNED_GROUP, client_port: 3001, server_port: 1759 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), json: false }
    }
}

/// A configuration that was read, with what is worth a warning in it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// The text it came from.
    pub document: Document,
    /// What will do but is hardly meant.
    pub warnings: Vec<ConfigError>,
}

/// Reads `text`, which came from `file`, fills in what follows from the text alone, and looks for contradictions.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(file: &Path, text: &str) -> Result<Parsed, ConfigError> {
    checked(driver::config::parse(file, text)?)
}

/// [`parse`] of what stands in `file`.
///
/// # Errors
/// As [`parse`], or if the file cannot be read.
pub fn read(file: &Path) -> Result<Parsed, ConfigError> {
    checked(driver::config::read_document(file)?)
}

fn checked((mut config, document): (Config, Document)) -> Result<Parsed, ConfigError> {
    config.fill_in_servers();
    let warnings = check::check(&config, &document)?;
    Ok(Parsed { config, document, warnings })
}

/// Where the daemon of the configuration in `file` is asked. Whatever else is wrong in there does not matter: an operator
/// who has just broken the file must still see what the daemon does.
///
/// # Errors
/// If the file cannot be read, or is not TOML.
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
    /// What will do but is hardly meant.
    pub warnings: Vec<ConfigError>,
}

/// [`read`], and looks whether this host has what the configuration names.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
    fit(read(file)?)
}

/// Looks whether this host has what the configuration names.
///
/// # Errors
/// The first thing that is wrong.
pub fn fit(parsed: Parsed) -> Result<Loaded, ConfigError> {
    let Parsed { mut config, document, mut warnings } = parsed;
    let address = config.address.map(|Text(address)| address);
    let interface = Interface::find(&config.interface, address).map_err(|error| {
        let wrong_address = address.is_some() && Interface::find(&config.interface, None).is_ok();
        document.error(if wrong_address { "address" } else { "interface" }, format!("{error:#}"), "")
    })?;
    for (key, dir) in [("state_dir", &config.state_dir), ("run_dir", &config.run_dir)] {
        host::check_writable(dir).map_err(|error| document.error(key, format!("{error:#}"), ""))?;
    }
    config.address = Some(Text(interface.address));
    warnings.extend(check::warn_of_files_elsewhere(&config, &document, interface.address));
    Ok(Loaded { config, interface, warnings })
}

impl Config {
    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.state_dir.join("binld.db")
    }

    /// The keys that differ from `other` and only count at a start.
    #[must_use]
    pub fn restart_keys(&self, other: &Self) -> Vec<&'static str> {
        [
            ("interface", self.interface != other.interface),
            ("address", self.address != other.address),
            ("state_dir", self.state_dir != other.state_dir),
            ("run_dir", self.run_dir != other.run_dir),
            ("discovery", self.discovery != other.discovery),
            ("query", self.query != other.query),
            ("control", self.control != other.control),
            ("domain", self.domain != other.domain),
            ("responder", self.responder != other.responder),
            ("pool", self.pool != other.pool),
            ("pinned", self.pinned != other.pinned),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }

    /// An item without `servers` is on all of them.
    fn fill_in_servers(&mut self) {
        let all: Vec<_> = self.mtftp.iter().map(|server| server.address).collect();
        for boot in self.item.iter_mut().flat_map(|item| &mut item.boot) {
            if boot.servers.is_empty() {
                boot.servers.clone_from(&all);
            }
        }
    }
}

impl fmt::Display for Config {
    /// TOML that [`parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = toml::to_string(self).map_err(|_| fmt::Error)?;
        // Server types are known in hexadecimal; TOML's serializer has only decimal numbers. A string of several lines
        // might hold such a line: then they stay decimal.
        if text.contains("\"\"\"") || text.contains("'''") {
            return f.write_str(&text);
        }
        for line in text.lines() {
            match line.strip_prefix("type = ").and_then(|number| number.parse::<u16>().ok()) {
                Some(number) => writeln!(f, "type = {number:#06x}")?,
                None => writeln!(f, "{line}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
