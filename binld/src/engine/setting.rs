//! What the engine is told at its start: of its host, its site, and who it is.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use peers::domain::DomainConfig;
use peers::further::Named;
use peers::limits::LEGACY_KEEP;
use wire::configure::Ports;
use wire::note::Author;
use wire::record::ServerRole;
use wire::{BootEpoch, DomainId, ServerId};

use super::LowestConstants;
use super::catalog::Catalog;
use super::choose::Pool;
use super::claims::Placement;

/// What the engine must know of its host and its site.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Our address: where clients and servers find us.
    pub address: Ipv4Addr,
    /// Length of the interface's network prefix: clients outside it are off the link.
    pub prefix_len: u8,
    /// Group and port of the query.
    pub query: SocketAddrV4,
    /// Control port of boot servers.
    pub control_port: u16,
    /// Where dynamic addresses come from.
    pub pool: Pool,
    /// Ports of dynamic claims.
    pub dynamic_ports: Ports,
    /// The one tuple that iPXE hears.
    pub pinned: Placement,
    /// Servers that speak only the frozen packet.
    pub legacy: Legacy,
    /// The domain whose members share claims.
    pub domain: DomainId,
    /// Servers of the domain beyond our link, to be asked.
    pub contacts: Vec<SocketAddrV4>,
    /// Spans of the domain's lowest-id record.
    pub lowest: LowestConstants,
    /// What we are called in notes.
    pub author: Author,
    /// Whether we write notes of our own.
    pub tells: bool,
    /// How our domain is called, and of which others we are a member.
    pub domains: Named,
    /// What clients may ask for.
    pub catalog: Arc<Catalog>,
    /// How large a share of the clients we want, 1 to [`WEIGHT_MAX`](wire::elect::WEIGHT_MAX).
    pub weight: u8,
}

impl EngineConfig {
    /// Where all servers of the link hear control messages.
    pub(crate) fn group(&self) -> SocketAddrV4 {
        SocketAddrV4::new(*self.query.ip(), self.control_port)
    }

    /// Who we are in our domain.
    pub(super) fn member(&self, identity: Identity) -> DomainConfig {
        DomainConfig {
            domain: self.domain,
            me: identity.server,
            boot_epoch: identity.boot_epoch,
            role: ServerRole::Binld,
            control: SocketAddrV4::new(self.address, self.control_port),
            prefix_len: self.prefix_len,
            group: self.group(),
            contacts: self.contacts.clone(),
            constants: self.lowest,
            author: self.author.clone(),
            tells: self.tells,
            began: 0,
        }
    }

    /// Whether who has that address hears our multicast, which has a TTL of 1.
    pub(crate) fn is_on_link(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_len.min(32))).unwrap_or(0);
        (address.to_bits() ^ self.address.to_bits()) & mask == 0
    }
}

/// Servers that speak only the query and the echo (Y5, races.md T6b).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// Those known to be there: a committed claim may have to yield to one of them.
    pub peers: BTreeSet<Ipv4Addr>,
    /// How long such a server waits for an echo before it takes an address.
    pub wait: Duration,
    /// Silence is waited for until none was heard for so long: of what was before its start a process knows nothing.
    pub unheard: Duration,
}

impl Default for Legacy {
    /// None is known; one that is heard is taken to wait for a second.
    fn default() -> Self {
        Self { peers: BTreeSet::new(), wait: Duration::from_secs(1), unheard: LEGACY_KEEP }
    }
}

/// Who we are, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Our name, from the store.
    pub server: ServerId,
    /// Our boot epoch.
    pub boot_epoch: BootEpoch,
}
