//! What the engine needs, of a checked configuration.

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::Role;
use driver::config::{Preset, Text};
use driver::udp::{DoorSpec, Interface};
use wire::configure::Ports;
use wire::pxe::BootItem;
use wire::{DomainId, Layer, ServerType};

use super::{Boot, Config, Item};
use crate::engine::catalog::{self, Catalog};
use crate::engine::choose;
use crate::engine::claims::Placement;
use crate::engine::{EngineConfig, Legacy, LowestConstants};

/// Where DHCP clients broadcast to.
const BROADCAST_PORT: u16 = 67;

/// Processors that we may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Config {
    /// What the engine is started with.
    #[must_use]
    pub fn engine(&self, interface: &Interface) -> EngineConfig {
        let Text(pinned) = self.pinned.group;
        let exclude = self.pool.exclude.iter().map(|Text(group)| group).chain([&pinned]);
        EngineConfig {
            address: interface.address,
            prefix_len: interface.prefix_len,
            query: SocketAddrV4::new(self.query.group.0.ip(), self.query.port),
            control_port: self.control.port,
            pool: choose::Pool {
                first: self.pool.first.0,
                last: self.pool.last.0,
                exclude: exclude.map(|group| group.ip()).collect(),
            },
            dynamic_ports: Ports { client: self.pool.client_port, server: self.pool.server_port },
            pinned: Placement {
                group: pinned,
                ports: Ports { client: self.pinned.client_port, server: self.pinned.server_port },
            },
            legacy: Legacy {
                peers: self.query.legacy_peers.iter().map(|Text(peer)| *peer).collect(),
                wait: Duration::from_millis(u64::from(self.query.legacy_wait_ms)),
                ..Legacy::default()
            },
            domain: DomainId::of(&self.domain.name),
            contacts: self.domain.contacts.iter().map(|Text(contact)| *contact).collect(),
            lowest: match self.domain.preset {
                Text(Preset::Lan) => LowestConstants::LAN,
                Text(Preset::Wan) => LowestConstants::WAN,
            },
            author: self.domain.author(),
            tells: self.domain.notes,
            domains: self.domain.named(),
            catalog: self.catalog().into(),
            weight: self.responder.weight.of(processors(), interface.megabits()),
        }
    }

    /// What clients may ask for.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        let servers = self.mtftp.iter();
        Catalog {
            items: self.item.iter().map(Item::build).collect(),
            servers: servers.map(|one| SocketAddrV4::new(one.address.0, one.control_port)).collect(),
        }
    }

    /// The sockets.
    #[must_use]
    pub fn doors(&self, interface: &Interface) -> Vec<DoorSpec> {
        let door = |role, port, groups| DoorSpec {
            role,
            address: interface.address,
            port,
            groups,
            broadcast: false,
            own: true,
        };
        let query = vec![self.query.group.0.ip()];
        let discovery = self.discovery.groups.iter().map(|group| group.0.ip()).collect();
        let mut doors = vec![
            // First the port that a second binld with our address must fail on.
            door(Role::Query, self.query.port, query.clone()),
            door(Role::Control, self.control.port, query),
            door(Role::Discovery, self.discovery.port, discovery),
        ];
        if self.discovery.broadcast {
            // Not (own address, 67): a DHCP server of this host may have it.
            let broadcast = door(Role::Broadcast, BROADCAST_PORT, Vec::new());
            doors.push(DoorSpec { broadcast: true, own: false, ..broadcast });
        }
        doors
    }
}

impl Item {
    fn build(&self) -> catalog::Item {
        catalog::Item {
            name: self.name.as_str().into(),
            boot_item: BootItem { server_type: ServerType(self.server_type), layer: Layer(self.layer) },
            user_class: self.user_class.as_ref().map(|class| class.as_bytes().to_vec()),
            clients: self.clients.iter().map(|Text(name)| *name).collect(),
            preclear: self.preclear,
            boots: self.boot.iter().map(Boot::build).collect(),
        }
    }
}

impl Boot {
    fn build(&self) -> catalog::Boot {
        catalog::Boot {
            profile: self.profile.0,
            architectures: self.arch.clone(),
            file: self.file.0.clone(),
            multicast: self.multicast.as_ref().map(|Text(file)| file.clone()),
            pinned: self.pinned,
            also: self.also.iter().map(|Text(file)| file.clone()).collect(),
            policy: self.transfer.policy(),
            servers: self.servers.iter().map(|Text(server)| *server).collect(),
        }
    }
}
