//! Who is there: the boot server, its peers, MTFTP servers and clients; and what they have to say.

use std::net::{Ipv4Addr, SocketAddrV4};

use binld::engine::EngineConfig;
use binld::engine::catalog::{Boot, Catalog, Item, Profile};
use binld::engine::choose::Pool;
use binld::engine::claims::Placement;
use driver::Role;
use wire::configure::{Ports, RequestRef};
use wire::control::{Envelope, Message};
use wire::note::Author;
use wire::policy::Policy;
use wire::pxe::{BootItem, VendorOptions};
use wire::{Content, DomainId, FileName, GroupAddr, Layer, Serial, ServerType};

use crate::script::Script;

/// The boot server, and an MTFTP server on the same host.
pub(super) const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
/// The MTFTP servers.
pub(super) const SERVERS: [Ipv4Addr; 3] = [Ipv4Addr::new(10, 77, 0, 21), Ipv4Addr::new(10, 77, 0, 22), US];
/// The port of MTFTP servers, on which they take what we say.
const CONTROL: u16 = 4017;
/// How many catalogs [`catalog`] knows.
pub(super) const CATALOGS: usize = 5;
/// The pinned one, two of the pool, one that shares an Ethernet address with the pinned one, the group of queries.
pub(super) const GROUPS: [&str; 5] =
    ["239.255.1.1", "239.255.0.7", "239.255.3.3", "239.127.1.1", "239.255.255.15"];
/// Ports that servers may say.
pub(super) const PORTS: [Ports; 4] = [
    Ports { client: 3001, server: 1760 },
    Ports { client: 3001, server: 1759 },
    Ports { client: 0, server: 1760 },
    Ports { client: 4000, server: 5000 },
];
const TYPES: [ServerType; 4] = [ServerType(0x8001), ServerType(0x8002), ServerType(0x8003), ServerType(1)];

pub(super) fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).expect("a short name")
}

pub(super) fn config(number: usize) -> EngineConfig {
    let group = |text: &str| text.parse::<GroupAddr>().expect("a multicast address");
    EngineConfig {
        address: US,
        prefix_len: 24,
        query: SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4015),
        control_port: 4016,
        // Small, so that addresses run out and are met again.
        pool: Pool {
            first: group("239.255.0.250"),
            last: group("239.255.3.10"),
            exclude: vec![group("239.255.1.1").ip()],
        },
        dynamic_ports: Ports { client: 3001, server: 1760 },
        pinned: Placement { group: group("239.255.1.1"), ports: Ports { client: 3001, server: 1759 } },
        legacy: binld::engine::Legacy::default(),
        domain: DomainId::of("lab"),
        contacts: Vec::new(),
        lowest: binld::engine::LowestConstants::LAN,
        author: Author::cut("test"),
        tells: false,
        domains: peers::further::Named::default(),
        catalog: catalog(number).into(),
        weight: 4,
    }
}

/// Nothing; one pinned file; two that compete for the pinned tuple; dynamic ones too; and names at their longest.
pub(super) fn catalog(number: usize) -> Catalog {
    let [first, second, own] = SERVERS;
    let item = |kind: usize, preclear: bool, boot: Boot| Item {
        name: format!("item{kind}").into(),
        boot_item: BootItem { server_type: TYPES[kind], layer: Layer(0) },
        user_class: None,
        clients: Vec::new(),
        preclear,
        boots: vec![boot],
    };
    let boot = |profile, file: &str, multicast: &str, pinned, servers: &[Ipv4Addr]| Boot {
        profile,
        architectures: Vec::new(),
        file: name(file),
        multicast: Some(name(multicast)),
        pinned,
        also: Vec::new(),
        policy: Policy::default(),
        servers: servers.to_vec(),
    };
    let ipxe = item(0, true, boot(Profile::Ipxe, "boot.ipxe", "initrd.img", true, &[first, second]));
    let rival = item(2, true, boot(Profile::Ipxe, "boot.ipxe", "other.img", true, &[second]));
    let rom = item(1, false, boot(Profile::PxeRom, "rom.0", "rom.0", false, &[own]));
    let rom_too = item(3, true, boot(Profile::PxeRom, "rom.1", "rom.1", false, &[own, first]));
    let long = "é".repeat(127);
    let items = match number {
        0 => vec![ipxe, rom],
        1 => vec![ipxe, rival, rom, rom_too],
        2 => vec![rom_too, rival],
        3 => vec![item(0, true, boot(Profile::Ipxe, &long, &long, true, &[first])), rom],
        _ => Vec::new(),
    };
    Catalog { items, servers: SERVERS.map(|server| SocketAddrV4::new(server, CONTROL)).to_vec() }
}

/// A content of the catalogs, of a peer, or any.
pub(super) fn pick_content(script: &mut Script<'_>) -> Content {
    let server = script.pick(&[
        Ipv4Addr::new(10, 77, 0, 1),
        SERVERS[0],
        SERVERS[1],
        SERVERS[2],
        Ipv4Addr::new(10, 77, 0, 90),
    ]);
    let text = script.pick(&["initrd.img", "other.img", "rom.0", "rom.1", "boot.ipxe", "a", "zz"]);
    let made_up = (script.below(16) == 15).then(|| FileName::new(script.piece())).flatten();
    Content { server, file: made_up.unwrap_or_else(|| name(text)) }
}

/// A peer, a server, a client, a stranger, or ourselves.
pub(super) fn pick_source(script: &mut Script<'_>) -> SocketAddrV4 {
    script.pick(&[
        SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 12), 4015),
        SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 13), 4015),
        SocketAddrV4::new(SERVERS[0], CONTROL),
        SocketAddrV4::new(SERVERS[1], 4015),
        SocketAddrV4::new(US, CONTROL),
        SocketAddrV4::new(US, 4015),
        SocketAddrV4::new(US, 4016),
        SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 100), 68),
        SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 100), 4011),
    ])
}

/// A request of a client, as iPXE, UEFI firmware or a PXE ROM writes it.
pub(super) fn request(script: &mut Script<'_>) -> (Role, SocketAddrV4, Vec<u8>) {
    let client = script.below(5);
    let how = script.byte();
    let host = 100 + u8::try_from(client).unwrap_or(0);
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    let address = if how & 1 == 0 { [10, 77, 0, host] } else { [10, 99, 0, host] };
    if how & 2 == 0 {
        bytes[12..16].copy_from_slice(&address);
    }
    if how & 4 != 0 {
        bytes[24..28].copy_from_slice(&[10, 77, 0, 1]);
    }
    bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, host]);
    bytes.extend([99, 130, 83, 99, 53, 1, if how & 8 == 0 { 3 } else { 8 }]);
    bytes.extend(b"\x3c\x09PXEClient");
    match script.below(4) {
        0 => bytes.extend(b"\x4d\x04iPXE\x5d\x02\x00\x00"),
        1 => bytes.extend(b"\x5d\x02\x00\x07"),
        2 => bytes.extend([93, 2, 0, 0]),
        _ => {
            bytes.extend([97, 17, 0]);
            bytes.extend([host; 16]);
        }
    }
    let server_type = script.pick(&TYPES);
    let layer = Layer(script.pick(&[0, 0, 0, 1, 0x8000]));
    let vendor =
        VendorOptions { boot_item: Some(BootItem { server_type, layer }), ..VendorOptions::default() };
    let vendor = vendor.encode();
    bytes.extend([43, u8::try_from(vendor.len()).unwrap_or(0)]);
    bytes.extend(vendor);
    bytes.push(255);
    let role = if how & 16 == 0 { Role::Discovery } else { Role::Broadcast };
    let port = if how & 32 == 0 { 68 } else { 4011 };
    (role, SocketAddrV4::new(Ipv4Addr::from(address), port), bytes)
}

/// What an answer to one of our requests repeats, and the ports that were asked for.
pub(super) fn asked(envelope: &Envelope) -> (RequestRef, FileName, Ports) {
    let none = Ports { client: 0, server: 0 };
    let (serial, group, file, ports) = match &envelope.message {
        Message::Configure(asked) => {
            let ports = match asked.target {
                wire::configure::Target::Group { ports, .. } => ports,
                wire::configure::Target::PlainTftp => none,
            };
            (asked.serial, asked.group(), asked.file.clone(), ports)
        }
        Message::Delete(asked) => (asked.serial, Some(asked.group), asked.file.clone(), none),
        _ => (Serial(0), None, name("nothing"), none),
    };
    (RequestRef { boot_epoch: envelope.boot_epoch, serial, group }, file, ports)
}
