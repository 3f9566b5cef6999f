//! Boot items that contradict themselves or each other.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use driver::config::{ConfigError, Document, Text, Written};

use wire::policy::SlowClients;

use super::super::transfer::{START_WITHIN_MAX, Transfer};
use super::super::{Boot, Config, Item};
use super::Checked;
use crate::engine::catalog::{ClientName, Profile};

/// Server types for sites to use as they like; lower ones are assigned (PXE 2.1 table 2-1).
const SITE_TYPES: std::ops::RangeInclusive<u16> = 0x8001..=0xfffe;

pub(super) fn check(config: &Config, document: &Document, warnings: &mut Vec<ConfigError>) -> Checked {
    if config.item.is_empty() {
        let right = "add [[item]] with `name` and `type`, and [[item.boot]] with `file`";
        return Err(document.error("item", "there is no boot item", right));
    }
    for (index, item) in config.item.iter().enumerate() {
        let at = Place { document, path: format!("item.{index}") };
        if config.item.iter().take(index).any(|other| other.name == item.name) {
            return at.error(
                "name",
                format!("two items are called {:?}", item.name),
                "name each differently",
            );
        }
        of_item(item, &at, warnings)?;
        for (number, boot) in item.boot.iter().enumerate() {
            let at = Place { document, path: format!("item.{index}.boot.{number}") };
            of_boot(item, boot, &at, warnings)?;
            of_transfer(boot, &at)?;
            of_servers(config, item, boot, &at)?;
            unreachable(config, (index, number), &at)?;
        }
    }
    Ok(())
}

/// Where in the text something stands.
struct Place<'a> {
    document: &'a Document,
    path: String,
}

impl Place<'_> {
    fn at(&self, key: &str, what: impl Into<String>, right: &str) -> ConfigError {
        self.document.error(&format!("{}.{key}", self.path), what, right)
    }

    fn error(&self, key: &str, what: impl Into<String>, right: &str) -> Checked {
        Err(self.at(key, what, right))
    }
}

fn of_item(item: &Item, at: &Place<'_>, warnings: &mut Vec<ConfigError>) -> Checked {
    let name = &item.name;
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        return at.error("name", format!("{name:?} is no name"), "write 1–64 printable characters");
    }
    if !SITE_TYPES.contains(&item.server_type) {
        let what = format!("type {:#06x} is not free for sites", item.server_type);
        warnings.push(at.at("type", what, "choose one of 0x8001–0xfffe, unless clients ask for it"));
    }
    if item.layer >= wire::Layer::CREDENTIALS {
        let what = format!("layer {:#06x} asks for credentials", item.layer);
        return at.error("layer", what, "write a layer of 0–0x7fff");
    }
    if let Some(class) = &item.user_class
        && !(1..=255).contains(&class.len())
    {
        let what = format!("a user class of {} bytes fits no client", class.len());
        return at.error("user_class", what, "write 1–255 bytes, or leave it out");
    }
    let mut seen = BTreeSet::new();
    for (index, Text(client)) in item.clients.iter().enumerate() {
        let key = format!("clients.{index}");
        if !seen.insert(client) {
            return at.error(&key, "this client stands there twice", "write it once");
        }
        if matches!(client, ClientName::Uuid(uuid) if uuid.identifies_nobody()) {
            let what = "all zeros or all ones identify no machine";
            return at.error(&key, what, "name the client by its Ethernet address");
        }
    }
    if item.boot.is_empty() {
        let what = format!("nobody can get item {name:?}: it has nothing to load");
        return at.error("name", what, "add [[item.boot]] with `file` after it");
    }
    Ok(())
}

fn of_boot(item: &Item, boot: &Boot, at: &Place<'_>, warnings: &mut Vec<ConfigError>) -> Checked {
    let Text(profile) = boot.profile;
    if boot.pinned && boot.multicast.is_none() {
        let right = "name the file with `multicast`, or leave `pinned` out";
        return at.error("pinned", "`pinned` without a file to multicast", right);
    }
    match profile {
        Profile::Tftp if boot.multicast.is_some() => {
            let right = "write profile \"ipxe\", \"pxe-rom\" or \"mtftp-get\", or leave `multicast` out";
            return at.error("multicast", "profile \"tftp\" loads nothing by multicast", right);
        }
        Profile::PxeRom | Profile::MtftpGet if boot.pinned => {
            let what = format!("profile \"{}\" does not need the pinned tuple", profile.write());
            return at.error(
                "pinned",
                what,
                "these clients take any address of the pool: leave `pinned` out",
            );
        }
        Profile::PxeRom | Profile::MtftpGet
            if boot.multicast.as_ref().is_some_and(|file| *file != boot.file) =>
        {
            let what = format!("a client of profile \"{}\" loads one file, the boot file", profile.write());
            return at.error("multicast", what, "name the same file in `file` and `multicast`");
        }
        Profile::PxeRom if !boot.arch.is_empty() && !boot.arch.contains(&0) => {
            let what = format!("nobody can get this of item {:?}: PXE ROMs have architecture 0", item.name);
            return at.error("arch", what, "write arch = [0], or profile \"tftp\"");
        }
        Profile::Ipxe if boot.multicast.is_some() && !boot.pinned => {
            let what = "iPXE cannot hear this multicast, and gets the file by plain TFTP";
            warnings.push(at.at("multicast", what, "iPXE hears only the pinned tuple: set pinned = true"));
        }
        Profile::Tftp | Profile::PxeRom | Profile::MtftpGet | Profile::Ipxe => {}
    }
    for (index, file) in boot.also.iter().enumerate() {
        if *file == boot.file || boot.also.iter().take(index).any(|other| other == file) {
            let what = format!("file \"{:?}\" stands there twice", file);
            return at.error(&format!("also.{index}"), what, "write it once");
        }
    }
    Ok(())
}

/// How clients are treated, where that can be chosen at all.
fn of_transfer(boot: &Boot, at: &Place<'_>) -> Checked {
    let transfer = &boot.transfer;
    let (is_kept, starts_at_once) = (transfer.slow.0 == SlowClients::Keep, transfer.start_clients <= 1);
    if boot.multicast.is_none() && *transfer != Transfer::default() {
        let right = "name the file with `multicast`, or leave `transfer` out";
        return at.error("transfer", "`transfer` without a file to multicast", right);
    }
    if boot.pinned && !(is_kept && starts_at_once) {
        let what =
            "on the pinned tuple iPXE must be kept, and be sent to at once: it would boot a file with holes";
        return at.error("transfer", what, "leave `slow` and `start_clients` out");
    }
    if boot.profile.0 == Profile::PxeRom && !starts_at_once {
        let what = "a PXE ROM waits for nobody: it falls back to plain TFTP";
        return at.error("transfer.start_clients", what, "leave it out, or write profile \"mtftp-get\"");
    }
    if !is_kept && transfer.slow_below == 0 && transfer.slow_silences == 0 {
        let what = "with `slow_below` and `slow_silences` 0 nobody is ever slow";
        return at.error("transfer.slow", what, "give one of them a value, or leave `slow` out");
    }
    if !starts_at_once && !(1..=START_WITHIN_MAX).contains(&transfer.start_within_s) {
        let what = format!("clients wait for each other for {} s", transfer.start_within_s);
        return at.error("transfer.start_within_s", what, "write 1–3600 seconds");
    }
    Ok(())
}

fn of_servers(config: &Config, item: &Item, boot: &Boot, at: &Place<'_>) -> Checked {
    if config.mtftp.is_empty() {
        let what = format!("nobody can get item {:?}: there is no MTFTP server", item.name);
        return at.error("servers", what, "add [[mtftp]] with its `address`");
    }
    for (index, server) in boot.servers.iter().enumerate() {
        let key = format!("servers.{index}");
        if config.mtftp.iter().all(|known| known.address != *server) {
            let known: Vec<String> = config.mtftp.iter().map(|known| known.address.0.to_string()).collect();
            let what = format!("{} is not among the MTFTP servers", server.0);
            let right = format!("add [[mtftp]] with this address; there are: {}", known.join(", "));
            return at.error(&key, what, &right);
        }
        if boot.servers.iter().take(index).any(|other| other == server) {
            return at.error(&key, format!("{} stands there twice", server.0), "write it once");
        }
    }
    Ok(())
}

/// An earlier one that every client of this one gets instead.
fn unreachable(config: &Config, (index, number): (usize, usize), at: &Place<'_>) -> Checked {
    let Some(item) = config.item.get(index) else { return Ok(()) };
    let Some(boot) = item.boot.get(number) else { return Ok(()) };
    let earlier = config.item.iter().enumerate().take(index + 1).flat_map(|(other, item)| {
        let before = if other == index { number } else { item.boot.len() };
        item.boot.iter().take(before).map(move |boot| (item, boot))
    });
    for (other, first) in earlier {
        if same_clients(other, item) && first.profile == boot.profile && overlap(&first.arch, &boot.arch) {
            let whose = if other.name == item.name { "an earlier one" } else { "an earlier item" };
            let what = format!("nobody can get this of item {:?}: {whose} answers instead", item.name);
            let right = format!("see item {:?}: type, layer, clients, profile and `arch` agree", other.name);
            return at.error("file", what, &right);
        }
    }
    Ok(())
}

fn same_clients(one: &Item, other: &Item) -> bool {
    let whom = |item: &Item| item.clients.iter().map(|Text(name)| *name).collect::<BTreeSet<_>>();
    let clients = whom(one) == whom(other) || !whom(one).is_disjoint(&whom(other));
    let asked = (one.server_type, one.layer) == (other.server_type, other.layer);
    asked && clients && one.user_class == other.user_class
}

/// Whether the first takes an architecture from the second; a second for all others is what a rest is for.
fn overlap(first: &[u16], second: &[u16]) -> bool {
    first.is_empty() || second.iter().any(|arch| first.contains(arch))
}

/// PXE ROMs that cannot have multicast because of where the files lie.
pub(in super::super) fn warn_of_files_elsewhere(
    config: &Config,
    document: &Document,
    own: Ipv4Addr,
) -> Vec<ConfigError> {
    let mut warnings = Vec::new();
    for (index, item) in config.item.iter().enumerate() {
        for (number, boot) in item.boot.iter().enumerate() {
            let multicast = boot.profile.0 == Profile::PxeRom && boot.multicast.is_some();
            if multicast && !boot.servers.contains(&Text(own)) {
                let what = format!(
                    "profile \"pxe-rom\" of item {:?} cannot use multicast: binld ({own}) and mtftpd do not share \
                     an address, and a PXE ROM loads from whoever answered it",
                    item.name
                );
                let right = format!("run mtftpd on {own}; until then these clients get plain TFTP");
                let path = format!("item.{index}.boot.{number}.multicast");
                warnings.push(document.error(&path, what, right));
            }
        }
    }
    warnings
}
