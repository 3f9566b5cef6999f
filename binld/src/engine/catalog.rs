//! What clients may ask for: boot items, and who gets which of them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use wire::dhcp::BootRequest;
use wire::policy::Policy;
use wire::pxe::{BootItem, Ours};
use wire::{Content, FileName, Layer, Mac, Uuid};

/// Which way of loading a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// A BIOS boot ROM: tags 1–5 with a dynamic address.
    PxeRom,
    /// iPXE: a URI, and the pinned tuple.
    Ipxe,
    /// Our own client: tags 1–5 with a dynamic address, also of another host, and RFC 2090 on it; it understands the wait
    /// packet.
    MtftpGet,
    /// Plain TFTP: what every client knows, and all that UEFI firmware knows.
    Tftp,
}

impl Profile {
    /// Who is who (decisions.md, Clients): our own tag is `mtftp-get`, option 77 `iPXE` is iPXE, an architecture that is not
    /// 0 is UEFI.
    #[must_use]
    pub fn of(request: &BootRequest) -> Self {
        if understands_wait(request) {
            Self::MtftpGet
        } else if request.has_user_class(b"iPXE") {
            Self::Ipxe
        } else if request.architectures.first().is_some_and(|&architecture| architecture != 0) {
            Self::Tftp
        } else {
            Self::PxeRom
        }
    }
}

/// Whether the client says that it understands the wait packet (R003.14).
#[must_use]
pub fn understands_wait(request: &BootRequest) -> bool {
    request.vendor.as_ref().is_some_and(|vendor| vendor.ours == Some(Ours::UnderstandsWait))
}

/// A single client, by one of its two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientName {
    /// By Ethernet address.
    Mac(Mac),
    /// By machine identifier.
    Uuid(Uuid),
}

/// What clients of one architecture and profile load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// For whom; [`Profile::Tftp`] also serves every client for which there is nothing better.
    pub profile: Profile,
    /// For which architectures (option 93); empty for all.
    pub architectures: Vec<u16>,
    /// The boot file that the client is told.
    pub file: FileName,
    /// The file that is multicast; for a PXE ROM and for `mtftp-get` it is the boot file.
    pub multicast: Option<FileName>,
    /// Whether the multicast file competes for the pinned tuple, the only one iPXE can hear.
    pub pinned: bool,
    /// Further files that the boot file will fetch by plain TFTP: a server must have them too.
    pub also: Vec<FileName>,
    /// How the server treats the clients of the multicast file.
    pub policy: Policy,
    /// MTFTP servers that have the files, in order of preference.
    pub servers: Vec<Ipv4Addr>,
}

impl Boot {
    /// The files a server must have before a client is sent to it.
    pub fn files(&self) -> impl Iterator<Item = &FileName> {
        std::iter::once(&self.file).chain(&self.also)
    }

    fn suits(&self, profile: Profile, architecture: u16) -> bool {
        let profile_fits = self.profile == profile || self.profile == Profile::Tftp;
        profile_fits && (self.architectures.is_empty() || self.architectures.contains(&architecture))
    }
}

/// A boot item: server type and layer, and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name, for people.
    pub name: Arc<str>,
    /// What the client asks for.
    pub boot_item: BootItem,
    /// Only for this user class (option 77).
    pub user_class: Option<Vec<u8>>,
    /// Only for these clients; empty for all.
    pub clients: Vec<ClientName>,
    /// Whether its addresses are cleared at start, so that a client waits for nothing.
    pub preclear: bool,
    /// What is loaded.
    pub boots: Vec<Boot>,
}

impl Item {
    fn is_for(&self, request: &BootRequest) -> bool {
        let class = self.user_class.as_ref().is_none_or(|class| request.has_user_class(class));
        let client = self.clients.is_empty()
            || self.clients.iter().any(|name| match name {
                ClientName::Mac(mac) => *mac == request.mac,
                ClientName::Uuid(uuid) => request.uuid == Some(*uuid),
            });
        class && client
    }

    /// Inner containers override outer ones (AIX binld): single clients before user classes before everybody.
    fn rank(&self) -> u8 {
        match (self.clients.is_empty(), self.user_class.is_some()) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => 2,
        }
    }
}

/// What was found for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The item.
    pub item: &'a Item,
    /// What this client loads of it.
    pub boot: &'a Boot,
    /// How the client can load it.
    pub profile: Profile,
}

/// All boot items, and the MTFTP servers they lie on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// In the order of the configuration.
    pub items: Vec<Item>,
    /// Where each MTFTP server takes control messages.
    pub servers: Vec<SocketAddrV4>,
}

impl Catalog {
    /// How the clients of a multicast file are treated: the first boot item that has it decides.
    #[must_use]
    pub fn policy(&self, content: &Content, pinned: bool) -> Policy {
        let mut boots = self.items.iter().flat_map(|item| &item.boots);
        let has = |boot: &&Boot| {
            boot.multicast.as_ref() == Some(&content.file)
                && boot.pinned == pinned
                && boot.servers.contains(&content.server)
        };
        boots.find(has).map(|boot| boot.policy).unwrap_or_default()
    }

    /// What the client gets; `None` is silence. A layer that is not there falls to the next one above it that is
    /// (AIX binld, pxe.md F).
    #[must_use]
    pub fn find(&self, request: &BootRequest, wanted: BootItem) -> Option<Found<'_>> {
        if wanted.layer.wants_credentials() {
            return None;
        }
        let profile = Profile::of(request);
        let architecture = request.architectures.first().copied().unwrap_or(0);
        let mut best: Option<((Layer, u8, bool), Found<'_>)> = None;
        for item in &self.items {
            let there = item.boot_item;
            if there.server_type != wanted.server_type || there.layer < wanted.layer || !item.is_for(request)
            {
                continue;
            }
            for boot in item.boots.iter().filter(|boot| boot.suits(profile, architecture)) {
                let rank = (there.layer, item.rank(), boot.profile != profile);
                if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                    best = Some((rank, Found { item, boot, profile }));
                }
            }
        }
        best.map(|(_, found)| found)
    }

    /// The control port of the MTFTP server at `address`.
    #[must_use]
    pub fn control_of(&self, address: Ipv4Addr) -> Option<SocketAddrV4> {
        self.servers.iter().copied().find(|server| *server.ip() == address)
    }

    /// Every (server, file) that some boot item needs by plain TFTP.
    #[must_use]
    pub fn plain_files(&self) -> BTreeSet<Content> {
        let boots = self.items.iter().flat_map(|item| &item.boots);
        boots
            .flat_map(|boot| boot.servers.iter().map(move |server| (boot, *server)))
            .flat_map(|(boot, server)| {
                boot.files().chain(&boot.multicast).map(move |file| Content { server, file: file.clone() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
