//! Opens sockets, and says clearly why one cannot be had.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use rustix::net::sockopt;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::counters::{Counts, role_name};
use super::{DISCOVERY_BUFFER_BYTES, Door, DoorSpec, Interface, RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES};
use crate::Role;

/// The sockets of all roles.
pub(super) fn all(interface: &Interface, specs: &[DoorSpec], ttl: u32) -> anyhow::Result<Vec<Door>> {
    let mut doors = Vec::new();
    for spec in specs {
        doors.extend(open(interface, spec, ttl)?);
    }
    Ok(doors)
}

/// The sockets of one role, the one that sends first.
fn open(interface: &Interface, spec: &DoorSpec, ttl: u32) -> anyhow::Result<Vec<Door>> {
    let counts = Arc::new(Counts::default());
    let mut doors: Vec<Door> = Vec::new();
    let mut port = spec.port;
    let door = |bound, socket| Door {
        role: spec.role,
        bound,
        own: spec.address,
        socket,
        counts: Arc::clone(&counts),
    };
    if spec.own {
        let wanted = SocketAddrV4::new(spec.address, port);
        let (socket, bound) =
            host(interface, spec.role, wanted, ttl).map_err(|error| explain(spec.role, wanted, &error))?;
        port = bound.port();
        doors.push(door(bound, socket));
    } else if port == 0 {
        bail!("{} needs a port: without a host socket none can be chosen", role_name(spec.role));
    }
    for &group in &spec.groups {
        let wanted = SocketAddrV4::new(group, port);
        let opened = self::group(interface, spec, wanted, ttl);
        doors.push(door(wanted, opened.map_err(|error| explain(spec.role, wanted, &error))?));
    }
    if spec.broadcast {
        let wanted = SocketAddrV4::new(Ipv4Addr::BROADCAST, port);
        let opened = broadcast(interface, spec.role, wanted);
        doors.push(door(wanted, opened.map_err(|error| explain(spec.role, wanted, &error))?));
    }
    Ok(doors)
}

fn host(
    interface: &Interface,
    role: Role,
    wanted: SocketAddrV4,
    ttl: u32,
) -> io::Result<(UdpSocket, SocketAddrV4)> {
    let socket = fresh(role)?;
    sends_to_groups(&socket, interface, *wanted.ip(), ttl)?;
    // No SO_REUSEADDR, no SO_REUSEPORT: a second daemon with this address must fail, not share.
    let (socket, bound) = bind(socket, wanted)?;
    match bound {
        SocketAddr::V4(bound) => Ok((socket, bound)),
        SocketAddr::V6(_) => Err(ErrorKind::AddrNotAvailable.into()),
    }
}

fn group(interface: &Interface, spec: &DoorSpec, wanted: SocketAddrV4, ttl: u32) -> io::Result<UdpSocket> {
    let socket = fresh(spec.role)?;
    socket.set_reuse_address(true)?;
    sends_to_groups(&socket, interface, spec.address, ttl)?;
    // Off: else the socket would hear the group from every interface on which any process has joined it.
    socket.set_multicast_all_v4(false)?;
    let (socket, _) = bind(socket, wanted)?;
    let by_index = InterfaceIndexOrAddress::Index(interface.index);
    socket2::SockRef::from(&socket).join_multicast_v4_n(wanted.ip(), &by_index)?;
    Ok(socket)
}

fn broadcast(interface: &Interface, role: Role, wanted: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = fresh(role)?;
    socket.set_reuse_address(true)?;
    // A broadcast does not say which link it came over; the device does.
    socket.bind_device(Some(interface.name.as_bytes()))?;
    Ok(bind(socket, wanted)?.0)
}

/// The door for IGMP. It only hears.
pub(super) fn igmp(interface: &Interface) -> io::Result<Door> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(wire::igmp::PROTOCOL))))?;
    socket.set_nonblocking(true)?;
    // A raw socket hears every link otherwise.
    socket.bind_device(Some(interface.name.as_bytes()))?;
    Ok(Door {
        role: Role::Igmp,
        bound: SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 0),
        own: interface.address,
        socket: UdpSocket::from(socket),
        counts: Arc::default(),
    })
}

fn fresh(role: Role) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Root may exceed net.core.rmem_max and wmem_max. Everybody else gets what there is: a smaller buffer is no reason not to
    // serve, and drops are counted.
    let receive_bytes = match role {
        Role::Discovery | Role::Broadcast => DISCOVERY_BUFFER_BYTES,
        Role::Query
        | Role::Control
        | Role::Domain
        | Role::Tftp
        | Role::Transfer
        | Role::Mtftp(_)
        | Role::Stream(_)
        | Role::Igmp => RECEIVE_BUFFER_BYTES,
    };
    if sockopt::set_socket_recv_buffer_size_force(&socket, receive_bytes).is_err() {
        let _ = socket.set_recv_buffer_size(receive_bytes);
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    }
    Ok(socket)
}

fn sends_to_groups(socket: &Socket, interface: &Interface, own: Ipv4Addr, ttl: u32) -> io::Result<()> {
    sockopt::set_ip_multicast_if_with_ifindex(socket, &Ipv4Addr::UNSPECIFIED, &own, interface.index)?;
    socket.set_multicast_ttl_v4(ttl)?;
    // On: the other daemon of this host, and the other BINLDs on it, must hear us.
    socket.set_multicast_loop_v4(true)
}

fn bind(socket: Socket, wanted: SocketAddrV4) -> io::Result<(UdpSocket, SocketAddr)> {
    socket.bind(&wanted.into())?;
    let socket = UdpSocket::from(socket);
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

fn explain(role: Role, wanted: SocketAddrV4, error: &io::Error) -> anyhow::Error {
    let what = format!("UDP {wanted} ({})", role_name(role));
    let port = wanted.port();
    let kind = error.kind();
    if kind == ErrorKind::AddrInUse {
        anyhow!(
            "{what} is in use: does another pxemc daemon run with this address (one binld and one mtftpd per \
             address), or another boot server? `ss -ulpn sport = :{port}` shows who has it"
        )
    } else if kind == ErrorKind::PermissionDenied && port < 1024 {
        anyhow!(
            "{what} is forbidden: ports below 1024 need root or CAP_NET_BIND_SERVICE (systemd: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE)"
        )
    } else if kind == ErrorKind::AddrNotAvailable {
        anyhow!("{what} cannot be had: {} is not an address of this host, now", wanted.ip())
    } else {
        anyhow!("{what} cannot be had: {error}")
    }
}
