//! Hosts, boot items and addresses, in few words.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use binld::engine::catalog::{Boot, Catalog, Item, Profile};
use binld::engine::choose::Pool;
use binld::engine::claims::{Placement, StateName};
use binld::engine::status::{ClaimStatus, Status};
use binld::engine::{EngineConfig, Legacy as LegacyPeers};
use driver::Time;
use mtftp::engine::ReferencePolicy;
use wire::configure::Ports;
use wire::note::Author;
use wire::policy::Policy;
use wire::pxe::BootItem;
use wire::{Content, DomainId, FileName, GroupAddr, Layer, ServerId, ServerType};

use crate::binld_host::BinldHost;
use crate::check::{Rules, Violation};
use crate::client::{Boot as ClientBoot, Client, ClientKind};
use crate::clock::Clock;
use crate::legacy::{Legacy, LegacyPlan};
use crate::link::LinkFaults;
use crate::mtftp_host::MtftpHost;
use crate::seed::stream;
use crate::world::{Passing, World};

/// Group and port of queries.
pub const QUERY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4015);
/// The only address iPXE hears.
pub const PINNED: Ipv4Addr = Ipv4Addr::new(239, 255, 1, 1);
/// The boot file of every boot item; plain TFTP.
pub const LOADER: &str = "loader";

/// What a boot item multicasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    /// The server type clients ask for.
    pub server_type: u16,
    /// The multicast file.
    pub file: String,
    /// For iPXE, on the pinned tuple; else for boot ROMs, on an address of the pool.
    pub pinned: bool,
    /// Cleared at start, or when a client asks.
    pub preclear: bool,
    /// The MTFTP servers that have it, by their address.
    pub servers: Vec<Ipv4Addr>,
}

impl Wants {
    /// A file for boot ROMs, on a dynamic address.
    #[must_use]
    pub fn dynamic(server_type: u16, file: &str, servers: &[Ipv4Addr]) -> Self {
        Self { server_type, file: file.to_owned(), pinned: false, preclear: true, servers: servers.to_vec() }
    }

    /// A file for iPXE, on the pinned tuple.
    #[must_use]
    pub fn pinned(server_type: u16, file: &str, servers: &[Ipv4Addr]) -> Self {
        Self { pinned: true, ..Self::dynamic(server_type, file, servers) }
    }

    fn item(&self) -> Item {
        let boot = Boot {
            profile: if self.pinned { Profile::Ipxe } else { Profile::PxeRom },
            architectures: Vec::new(),
            file: if self.pinned { name(LOADER) } else { name(&self.file) },
            multicast: Some(name(&self.file)),
            pinned: self.pinned,
            also: Vec::new(),
            policy: Policy::default(),
            servers: self.servers.clone(),
        };
        // For everybody else the same loader by plain TFTP.
        let plain = Boot {
            profile: Profile::Tftp,
            file: name(LOADER),
            multicast: None,
            pinned: false,
            ..boot.clone()
        };
        Item {
            name: format!("{} {}", self.server_type, self.file).into(),
            boot_item: BootItem { server_type: ServerType(self.server_type), layer: Layer(0) },
            user_class: None,
            clients: Vec::new(),
            preclear: self.preclear,
            boots: vec![boot, plain],
        }
    }
}

/// The address of the host with that number.
#[must_use]
pub const fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// The group address 239.255.0.`last`.
#[must_use]
pub fn group(last: u8) -> GroupAddr {
    GroupAddr::new(Ipv4Addr::new(239, 255, 0, last)).expect("239.255.0.0/24 is multicast")
}

/// The pool 239.255.0.`first` to 239.255.0.`last`.
#[must_use]
pub fn pool(first: u8, last: u8) -> Pool {
    Pool { first: group(first), last: group(last), exclude: Vec::new() }
}

/// A file name.
#[must_use]
pub fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).expect("file names in tests are short")
}

/// A configuration with these boot items.
#[must_use]
pub fn catalog(wants: &[Wants]) -> Catalog {
    let mut servers: Vec<Ipv4Addr> = wants.iter().flat_map(|wants| wants.servers.clone()).collect();
    servers.sort();
    servers.dedup();
    Catalog {
        items: wants.iter().map(Wants::item).collect(),
        servers: servers.into_iter().map(|server| SocketAddrV4::new(server, 4017)).collect(),
    }
}

/// A world that is being furnished.
#[derive(Debug)]
pub struct Scenario {
    /// The world.
    pub world: World,
    /// First and last address of the pool.
    pub pool: (u8, u8),
    /// What boot servers know of peers that speak only the frozen packet.
    pub legacy_peers: LegacyPeers,
    /// Whether boot servers and MTFTP servers are members of one domain. Else each is alone in its own: they know of each other's claims
    /// by query and echo only.
    pub one_domain: bool,
    /// How long the references of MTFTP servers last.
    pub references: ReferencePolicy,
}

impl Scenario {
    /// An empty one with a pool of one address: all dynamic claims meet there.
    #[must_use]
    pub fn new(seed: u64, faults: LinkFaults, rules: Rules) -> Self {
        Self {
            world: World::new(seed, faults, rules),
            pool: (1, 1),
            // As if all had been listening for a day.
            legacy_peers: LegacyPeers { unheard: Duration::ZERO, ..LegacyPeers::default() },
            one_domain: true,
            references: ReferencePolicy::default(),
        }
    }

    fn server_id(&self) -> ServerId {
        let number = self.world.nodes.len();
        match u8::try_from(number) {
            Ok(few) if few < 0x60 => ServerId([0xa0 + few; 16]),
            // As far apart as drawn ones.
            _ => ServerId(stream(self.world.seed, &format!("server {number}")).bytes16()),
        }
    }

    fn domain_of(&self, address: Ipv4Addr) -> DomainId {
        if self.one_domain { DomainId::of("pxe") } else { DomainId::of(&address.to_string()) }
    }

    /// A boot server; gives its number.
    pub fn binld(&mut self, address: Ipv4Addr, wants: &[Wants], clock: Clock, start_at: Time) -> usize {
        let catalog = catalog(wants);
        let pinned = GroupAddr::new(PINNED).expect("a multicast address");
        let config = EngineConfig {
            address,
            prefix_len: 16,
            query: QUERY,
            control_port: 4016,
            pool: pool(self.pool.0, self.pool.1),
            dynamic_ports: Ports { client: 3001, server: 1760 },
            pinned: Placement { group: pinned, ports: Ports { client: 3001, server: 1759 } },
            legacy: self.legacy_peers.clone(),
            domain: self.domain_of(address),
            contacts: Vec::new(),
            lowest: binld::engine::LowestConstants::LAN,
            author: Author::cut("test"),
            tells: false,
            domains: peers::further::Named::default(),
            catalog: catalog.into(),
            weight: 4,
        };
        let host = BinldHost::new(config, self.server_id());
        let name = format!("binld{}", address.octets()[3]);
        self.world.add(&name, address, clock, Box::new(host), start_at)
    }

    /// An MTFTP server with these files, and the loader; gives its number.
    pub fn mtftp(&mut self, address: Ipv4Addr, files: &[&str], clock: Clock, start_at: Time) -> usize {
        let files: BTreeMap<FileName, Vec<u8>> = files
            .iter()
            .chain(&[LOADER])
            .map(|file| (name(file), file.bytes().cycle().take(5000).collect()))
            .collect();
        let config = mtftp::engine::EngineConfig {
            domain: self.domain_of(address),
            references: self.references,
            ..mtftp::engine::EngineConfig::default()
        };
        let host = MtftpHost::new(address, self.server_id(), config, files);
        let name = format!("mtftp{}", address.octets()[3]);
        self.world.add(&name, address, clock, Box::new(host), start_at)
    }

    /// A boot server that knows nothing but the source document; gives its number.
    pub fn legacy(&mut self, address: Ipv4Addr, plan: LegacyPlan, start_at: Time) -> usize {
        let name = format!("legacy{}", address.octets()[3]);
        self.world.add(&name, address, Clock::new(0, 0), Box::new(Legacy::new(plan)), start_at)
    }

    /// The same with a file of its own on a server of its own, to the letter, at these addresses in this order.
    pub fn literal(&mut self, address: Ipv4Addr, candidates: &[u8], start_at: Time) -> usize {
        let content = Content { server: address, file: name("legacy") };
        let candidates = candidates.iter().map(|last| group(*last)).collect();
        self.legacy(address, LegacyPlan::literal(QUERY, content, candidates), start_at)
    }

    /// A client that asks those boot servers in turn each time it starts; gives its number.
    pub fn client(
        &mut self,
        address: Ipv4Addr,
        kind: ClientKind,
        server_type: u16,
        servers: &[Ipv4Addr],
        starts: Vec<Time>,
    ) -> usize {
        let client = Client::new(address, kind, server_type, servers.to_vec(), starts);
        let [_, _, high, low] = address.octets();
        let name = format!("client{high}.{low}");
        self.world.add(&name, address, Clock::new(0, 0), Box::new(client), Time::ZERO)
    }

    /// Goes on for so long.
    ///
    /// # Panics
    /// If a check fails: with the seed and what did not hold.
    pub fn run_ms(&mut self, millis: u64) {
        let span = Duration::from_millis(millis);
        if let Err(violation) = self.world.run_for(span) {
            self.blame(&violation);
        }
    }

    /// The same, in microseconds.
    ///
    /// # Panics
    /// If a check fails: with the seed and what did not hold.
    pub fn run_us(&mut self, micros: u64) {
        if let Err(violation) = self.world.run_for(Duration::from_micros(micros)) {
            self.blame(&violation);
        }
    }

    /// Goes on until the claim of that host is in that state, for at most so long.
    ///
    /// # Panics
    /// If a check fails, or it does not come to that.
    pub fn run_until_state(&mut self, node: usize, state: StateName, millis: u64) {
        let span = Duration::from_millis(millis);
        let reached = self.world.run_while(span, |world| {
            let claims = status(world, node).map(|status| status.claims).unwrap_or_default();
            claims.iter().any(|claim| claim.state == state)
        });
        match reached {
            Ok(true) => {}
            Ok(false) => {
                let status = self.status(node);
                assert!(reached == Ok(true), "no claim of host {node} became {state:?}: {status:#?}");
            }
            Err(violation) => self.blame(&violation),
        }
    }

    fn blame(&self, violation: &Violation) {
        let Violation { at, rule, text } = violation;
        assert!(rule.is_empty(), "seed {}: {rule} broken at {at:?}: {text}", self.world.seed);
    }

    /// What that boot server says of itself.
    ///
    /// # Panics
    /// If it is none, or dead.
    #[must_use]
    pub fn status(&self, node: usize) -> Status {
        status(&self.world, node).expect("a boot server that lives")
    }

    /// The only claim of that boot server.
    ///
    /// # Panics
    /// If it has none, or several.
    #[must_use]
    pub fn claim(&self, node: usize) -> ClaimStatus {
        let mut claims = self.status(node).claims;
        assert!(claims.len() == 1, "one claim expected: {claims:#?}");
        claims.remove(0)
    }

    /// A counter of that boot server.
    #[must_use]
    pub fn counter(&self, node: usize, name: &str) -> u64 {
        let host = self.world.nodes[node].program::<BinldHost>();
        host.and_then(BinldHost::engine).map_or(0, |engine| {
            let (place, what) = name.rsplit_once('.').unwrap_or((name, ""));
            engine.counters().get(place, what)
        })
    }

    /// How the boots of that client went.
    #[must_use]
    pub fn boots(&self, node: usize) -> &[ClientBoot] {
        self.world.nodes[node].program::<Client>().map_or(&[], |client| client.boots.as_slice())
    }

    /// Loses every datagram for which this is true.
    pub fn drop_if(&mut self, filter: impl FnMut(Time, &Passing<'_>) -> bool + 'static) {
        self.world.drop_if(filter);
    }
}

fn status(world: &World, node: usize) -> Option<Status> {
    let node = &world.nodes[node];
    node.program::<BinldHost>()?.status(node.local(world.now()))
}
