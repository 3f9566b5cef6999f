//! Contradictions in a configuration, found before anything starts.

mod items;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use driver::config::{ConfigError, Document, Text};
use driver::host;
use peers::limits::FURTHER_MAX;
use wire::GroupAddr;
use wire::contact::DomainName;

use super::{Config, PINNED_GROUP, Pinned, Pool, Query};
use crate::engine::choose::is_forbidden;

pub(super) use items::warn_of_files_elsewhere;

/// RFC 2090 streams use this port on the address of a claim (decisions.md, Names on the network).
const RFC2090_PORT: u16 = 1758;
/// Where DHCP clients broadcast to.
const BROADCAST_PORT: u16 = 67;

type Checked = Result<(), ConfigError>;

/// Looks for what cannot work; gives back what can but is hardly meant.
pub(super) fn check(config: &Config, document: &Document) -> Result<Vec<ConfigError>, ConfigError> {
    let mut warnings = Vec::new();
    ports(config, document)?;
    pool(config, document, &mut warnings)?;
    groups(config, document)?;
    domains(config, document)?;
    legacy(&config.query, document)?;
    pinned(&config.pinned, document, &mut warnings);
    log(config, document)?;
    servers(config, document)?;
    items::check(config, document, &mut warnings)?;
    Ok(warnings)
}

fn ports(config: &Config, document: &Document) -> Checked {
    let ours = [
        ("discovery.port", config.discovery.port),
        ("query.port", config.query.port),
        ("control.port", config.control.port),
    ];
    let clients =
        [("pool.client_port", config.pool.client_port), ("pinned.client_port", config.pinned.client_port)];
    let servers =
        [("pool.server_port", config.pool.server_port), ("pinned.server_port", config.pinned.server_port)];
    for (key, port) in ours.into_iter().chain(clients).chain(servers) {
        if port == 0 {
            return Err(document.error(key, format!("`{key}` is 0"), "write a port of 1–65535"));
        }
    }
    for (index, (key, port)) in ours.into_iter().enumerate() {
        if let Some((other, _)) = ours.iter().take(index).find(|(_, taken)| *taken == port) {
            let what = format!("`{key}` is {port}, as `{other}` is");
            return Err(document.error(written(document, [key, other]), what, "give each a port of its own"));
        }
        if config.discovery.broadcast && port == BROADCAST_PORT {
            let what = format!("`{key}` is {port}, which `discovery.broadcast` takes");
            return Err(document.error(key, what, "give each a port of its own"));
        }
    }
    for (key, port) in clients {
        if port == RFC2090_PORT {
            let what = format!("`{key}` is {port}, which streams of RFC 2090 use");
            return Err(document.error(key, what, "choose another port, such as 3001"));
        }
    }
    if config.pool.server_port == config.pinned.server_port {
        let what = "`pool.server_port` and `pinned.server_port` are the same";
        let right = "an open finds its claim by port and file: give each a port of its own";
        let key = written(document, ["pool.server_port", "pinned.server_port"]);
        return Err(document.error(key, what, right));
    }
    Ok(())
}

/// Of two keys that contradict each other, the one that was written, not left at its default.
fn written<'a>(document: &Document, keys: [&'a str; 2]) -> &'a str {
    let [first, second] = keys;
    if document.line_of(first).is_some() { first } else { second }
}

/// The id of a domain that others can find is the hash of a name that they can write.
fn domains(config: &Config, document: &Document) -> Checked {
    let domain = &config.domain;
    let most = FURTHER_MAX - usize::from(domain.list.is_some());
    if domain.also.len() > most {
        let what = format!("`domain.also` names {} domains", domain.also.len());
        return Err(document.error("domain.also", what, format!("name {most} at most")));
    }
    let Some(Text(list)) = &domain.list else { return Ok(()) };
    if domain.name == super::Domain::default().name {
        let what = format!("`domain.name` is `{}`, as it is wherever nobody has given one", domain.name);
        let todo = "give this boot network's domain a name that no other one of the site has: those of one name become one";
        return Err(document.error("domain.list", what, todo));
    }
    if let Err(error) = DomainName::new(&domain.name) {
        let what = format!("`domain.name` cannot be told to the list of domains: {error}");
        return Err(document.error(
            "domain.name",
            what,
            "give the domain another name, or take out `domain.list`",
        ));
    }
    if list.to_string() == domain.name {
        let what = "`domain.list` is `domain.name`";
        return Err(document.error(
            "domain.list",
            what,
            "give the list of domains a name of its own, the same on every server of the site",
        ));
    }
    Ok(())
}

fn groups(config: &Config, document: &Document) -> Checked {
    let pool = &config.pool;
    let inside = |group: GroupAddr| (pool.first.0..=pool.last.0).contains(&group);
    let query = config.query.group.0;
    if inside(query) {
        let key = written(document, ["query.group", "pool"]);
        let what = format!("the query group {query} lies in the pool");
        return Err(document.error(key, what, "claims must never use it: choose one outside the pool"));
    }
    if config.pinned.group.0 == query {
        let what = format!("the pinned address {query} is the query group");
        return Err(document.error("pinned.group", what, "give each an address of its own"));
    }
    let mut seen = BTreeSet::new();
    for (index, Text(group)) in config.discovery.groups.iter().enumerate() {
        let error = |what: String, right: &str| {
            Err(document.error(&format!("discovery.groups.{index}"), what, right))
        };
        if !seen.insert(group) {
            return error(format!("{group} stands there twice"), "write it once");
        }
        if inside(*group) || *group == config.pinned.group.0 {
            return error(format!("the discovery group {group} is one that claims use"), "choose another");
        }
    }
    Ok(())
}

fn legacy(query: &Query, document: &Document) -> Checked {
    if !LEGACY_WAIT_MS.contains(&query.legacy_wait_ms) {
        let what = format!("`query.legacy_wait_ms` is {}", query.legacy_wait_ms);
        return Err(document.error("query.legacy_wait_ms", what, "write 1–60,000 ms"));
    }
    for (index, Text(peer)) in query.legacy_peers.iter().enumerate() {
        if peer.is_multicast() || peer.is_unspecified() || peer.is_broadcast() {
            let what = format!("the legacy peer {peer} is no host");
            let right = "write the address that its queries come from";
            return Err(document.error(&format!("query.legacy_peers.{index}"), what, right));
        }
    }
    Ok(())
}

/// What is never used for transfers (pxe.md G), and why.
const NEVER: [(Ipv4Addr, Ipv4Addr, &str); 13] = [
    never([224, 0, 0, 0], [224, 0, 0, 255], "link control, RFC 5771 § 4"),
    never([224, 0, 1, 0], [224, 0, 1, 255], "internetwork control, RFC 5771 § 5"),
    never([224, 0, 2, 0], [224, 0, 255, 255], "assigned by IANA, RFC 5771 § 6"),
    never([224, 2, 0, 0], [224, 2, 255, 255], "session announcements, RFC 5771 § 7"),
    never([224, 3, 0, 0], [224, 4, 255, 255], "assigned by IANA, RFC 5771 § 6"),
    never([232, 0, 0, 0], [232, 255, 255, 255], "source-specific multicast, RFC 5771 § 8"),
    never([233, 0, 0, 0], [233, 255, 255, 255], "assigned by AS number, RFC 5771 § 9"),
    never([239, 63, 255, 0], [239, 63, 255, 255], RELATIVE),
    never([239, 127, 255, 0], [239, 127, 255, 255], RELATIVE),
    never([239, 191, 255, 0], [239, 191, 255, 255], RELATIVE),
    never([239, 195, 255, 0], [239, 195, 255, 255], RELATIVE),
    never([239, 253, 255, 0], [239, 254, 255, 255], RELATIVE),
    never([239, 255, 255, 0], [239, 255, 255, 255], RELATIVE),
];
/// What a legacy peer may be said to wait; no client waits nearly so long.
const LEGACY_WAIT_MS: std::ops::RangeInclusive<u32> = 1..=60_000;
const RELATIVE: &str = "relative assignments of a scope, RFC 2365 § 9";

const fn never(first: [u8; 4], last: [u8; 4], why: &'static str) -> (Ipv4Addr, Ipv4Addr, &'static str) {
    let ([a, b, c, d], [e, f, g, h]) = (first, last);
    (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h), why)
}

/// The first range between `first` and `last` that is never used.
fn never_within(first: Ipv4Addr, last: Ipv4Addr) -> Option<(Ipv4Addr, Ipv4Addr, &'static str)> {
    let ethernet = (224..=239).flat_map(|high| {
        let why = "the Ethernet addresses of 224.0.0.0–224.0.0.255, RFC 1112 § 6.4";
        [never([high, 0, 0, 0], [high, 0, 0, 255], why), never([high, 128, 0, 0], [high, 128, 0, 255], why)]
    });
    NEVER.into_iter().chain(ethernet).find(|(from, to, _)| *from <= last && first <= *to)
}

fn pool(config: &Config, document: &Document, warnings: &mut Vec<ConfigError>) -> Checked {
    let Pool { first: Text(first), last: Text(last), exclude, ttl, .. } = &config.pool;
    if *ttl == 0 {
        let right = "1 stays on the link, more crosses routers";
        return Err(document.error("pool.ttl", "`pool.ttl` is 0: nobody would hear us", right));
    }
    if first > last {
        let what = format!("the pool ends at {last}, before it begins at {first}");
        return Err(document.error("pool.first", what, "swap `first` and `last`"));
    }
    if let Some((from, to, why)) = never_within(first.ip(), last.ip()) {
        let key = if first.ip() < from { "pool.last" } else { "pool.first" };
        let what = format!("the pool {first}–{last} contains {from}–{to} ({why})");
        let right = "take 239.255.0.0–239.255.254.255, 239.192.0.0–239.195.254.255, or a part of one";
        return Err(document.error(key, what, right));
    }
    for (index, Text(group)) in exclude.iter().enumerate() {
        if !(first..=last).contains(&group) {
            let what = format!("{group} is excluded but not in the pool {first}–{last}");
            let key = format!("pool.exclude.{index}");
            warnings.push(document.error(&key, what, "leave it out, or correct it"));
        }
    }
    let free = (first.ip().to_bits()..=last.ip().to_bits())
        .filter_map(|bits| GroupAddr::new(Ipv4Addr::from(bits)))
        .any(|group| !exclude.contains(&Text(group)) && group != config.pinned.group.0);
    if !free {
        let right = "make it longer, or exclude less; the pinned address is always excluded";
        return Err(document.error("pool", "the pool has no address to give", right));
    }
    let is_local = |bits: u32| bits >> 16 == 0xefff || bits >> 18 == 0xefc0 >> 2;
    if !is_local(first.ip().to_bits()) || !is_local(last.ip().to_bits()) {
        let what = format!("the pool {first}–{last} is not of the local or organization scope");
        let right = "239.255.0.0–239.255.254.255 never leaves the site, by RFC 2365 § 6.1";
        warnings.push(document.error("pool", what, right));
    }
    Ok(())
}

fn pinned(pinned: &Pinned, document: &Document, warnings: &mut Vec<ConfigError>) {
    let Text(group) = pinned.group;
    if (group, pinned.client_port) != (PINNED_GROUP.0, 3001) {
        let what = format!("the pinned tuple is {group}:{}", pinned.client_port);
        warnings.push(document.error("pinned", what, "iPXE hears nothing but 239.255.1.1:3001"));
    }
    if is_forbidden(group) || never_within(group.ip(), group.ip()).is_some() {
        let what = format!("the pinned address {group} is of a range that is never used for transfers");
        warnings.push(document.error("pinned.group", what, "leave it at 239.255.1.1"));
    }
}

fn log(config: &Config, document: &Document) -> Checked {
    host::check_log_level(&config.log.level).map_err(|_| {
        let what = format!("`{}` is no log level", config.log.level);
        document.error("log.level", what, "write one like \"info\" or \"info,binld::engine=debug\"")
    })
}

fn servers(config: &Config, document: &Document) -> Checked {
    let mut seen = BTreeSet::new();
    for (index, server) in config.mtftp.iter().enumerate() {
        let Text(address) = server.address;
        let error = |key: &str, what: String, right: &str| {
            Err(document.error(&format!("mtftp.{index}.{key}"), what, right))
        };
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            return error(
                "address",
                format!("{address} is no host's address"),
                "write one like \"10.0.0.2\"",
            );
        }
        if server.control_port == 0 {
            return error("control_port", "`control_port` is 0".to_owned(), "write a port of 1–65535");
        }
        if !seen.insert(address) {
            return error(
                "address",
                format!("the MTFTP server {address} stands there twice"),
                "write it once",
            );
        }
    }
    Ok(())
}
