//! A PXE client as far as boot server discovery goes, with iPXE's timing (pxe.md A.4): asks one boot server at 0 and
//! 1.04 s, gives up at 3.05 s and tries the next. Requests are written, and replies read, without our own codec.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Arrival, Deadline, Role, Time, Transmit, Wall};

use crate::program::{Door, Effect, Program};

/// When a request is repeated.
const REPEAT: Duration = Duration::from_millis(1040);
/// When a server is given up.
const GIVE_UP: Duration = Duration::from_millis(3050);
/// The discovery port of boot servers.
pub(crate) const DISCOVERY_PORT: u16 = 4011;
/// Where boot servers are asked all at once: as a server of a client, its question goes to all.
pub const DISCOVERY_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 2);

/// What kind of client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// iPXE: option 77.
    Ipxe,
    /// A BIOS boot ROM: architecture 0 and no user class.
    Rom,
    /// UEFI firmware: architecture 7.
    Uefi,
}

/// A reply as the client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// From whom.
    pub from: SocketAddrV4,
    /// Header field siaddr.
    pub file_server: Ipv4Addr,
    /// Header field file, up to its NUL.
    pub file: Vec<u8>,
    /// Tag 1 of option 43: a group address; with tags 2 and 3, the ports.
    pub multicast: Option<(Ipv4Addr, u16, u16)>,
    /// Option 224.
    pub uri: Option<String>,
}

/// How one boot went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// When it began.
    pub began_at: Time,
    /// When it was answered and with what; `None` if every server was given up.
    pub answered: Option<(Time, Reply)>,
}

#[derive(Debug)]
struct Asking {
    began_at: Time,
    server: usize,
    asked_at: Time,
    repeated: bool,
}

/// The client.
#[derive(Debug)]
pub struct Client {
    address: Ipv4Addr,
    number: u16,
    kind: ClientKind,
    server_type: u16,
    servers: Vec<Ipv4Addr>,
    starts: VecDeque<Time>,
    asking: Option<Asking>,
    out: VecDeque<Transmit>,
    /// Every boot that is over.
    pub boots: Vec<Boot>,
}

impl Client {
    /// A client that asks these servers, or [all at once](DISCOVERY_GROUP), in turn for that server type, layer 0, each time it starts; the times count
    /// from when it is added to the world.
    #[must_use]
    pub fn new(
        address: Ipv4Addr,
        kind: ClientKind,
        server_type: u16,
        servers: Vec<Ipv4Addr>,
        starts: Vec<Time>,
    ) -> Self {
        let [_, _, high, low] = address.octets();
        let number = u16::from_be_bytes([high, low]);
        let starts = VecDeque::from(starts);
        Self {
            address,
            number,
            kind,
            server_type,
            servers,
            starts,
            asking: None,
            out: VecDeque::new(),
            boots: Vec::new(),
        }
    }

    /// Forgets what it was about, and starts at that time of its own; [`World::poke`](crate::World::poke) it.
    pub fn start_at(&mut self, at: Time) {
        self.asking = None;
        self.starts = VecDeque::from([at]);
    }

    fn ask(&mut self) {
        let Some(server) = self.asking.as_ref().and_then(|asking| self.servers.get(asking.server)) else {
            return;
        };
        let to = SocketAddrV4::new(*server, DISCOVERY_PORT);
        self.out.push_back(Transmit { role: Role::Discovery, to, bytes: self.request() });
    }

    /// Its question: Ethernet address, machine identifier and all, as iPXE writes it.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let [high, low] = self.number.to_be_bytes();
        let [type_high, type_low] = self.server_type.to_be_bytes();
        let mut bytes = vec![1, 1, 6, 0, 0, 0, 0, 0, 0, 4, 0x80, 0];
        bytes.extend(self.address.octets());
        bytes.extend([0; 12]);
        bytes.extend([0x52, 0x54, 0, 0x12, high, low]);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, 3, 57, 2, 5, 0xc0]);
        bytes.extend([93, 2, 0, if self.kind == ClientKind::Uefi { 7 } else { 0 }]);
        bytes.extend([60, 9]);
        bytes.extend(*b"PXEClient");
        if self.kind == ClientKind::Ipxe {
            bytes.extend([77, 4]);
            bytes.extend(*b"iPXE");
        }
        bytes.extend([97, 17, 0, 0x4c, 0x4c, 0x45, 0x44, 0, 0x35, 0x10, 0x50, 0x80, 0x33]);
        bytes.extend([0xb4, 0xc0, 0x4f, 0x4d, high, low]);
        bytes.extend([43, 7, 71, 4, type_high, type_low, 0, 0, 255, 255]);
        bytes
    }

    fn end(&mut self, answered: Option<(Time, Reply)>) {
        if let Some(asking) = self.asking.take() {
            self.boots.push(Boot { began_at: asking.began_at, answered });
        }
    }
}

impl Program for Client {
    fn doors(&self) -> Vec<Door> {
        vec![Door::unicast(Role::Discovery, 68)]
    }

    fn doors_stay(&self) -> bool {
        true
    }

    fn on_datagram(&mut self, now: Time, _wall: Wall, arrival: &Arrival<'_>) {
        let Some(asking) = &self.asking else { return };
        let Some(reply) = read_reply(arrival.from, arrival.bytes) else { return };
        let asked = self.servers.get(asking.server);
        if asked.is_some_and(|asked| asked == arrival.from.ip() || asked.is_multicast()) {
            self.end(Some((now, reply)));
        }
    }

    fn on_timeout(&mut self, now: Time) {
        if let Some(asking) = &mut self.asking {
            if now >= asking.asked_at + GIVE_UP {
                asking.server += 1;
                asking.asked_at = now;
                asking.repeated = false;
                if asking.server >= self.servers.len() {
                    return self.end(None);
                }
                self.ask();
            } else if now >= asking.asked_at + REPEAT && !asking.repeated {
                asking.repeated = true;
                self.ask();
            }
        } else if self.starts.front().is_some_and(|start| *start <= now) {
            self.starts.pop_front();
            self.asking = Some(Asking { began_at: now, server: 0, asked_at: now, repeated: false });
            self.ask();
        }
    }

    fn drain(&mut self, _tells: bool) -> Vec<Effect> {
        self.out.drain(..).map(Effect::Send).collect()
    }

    fn next_deadline(&self) -> Option<Deadline> {
        match &self.asking {
            Some(asking) if asking.repeated => {
                Some(Deadline { at: asking.asked_at + GIVE_UP, why: "a boot server given up" })
            }
            Some(asking) => Some(Deadline { at: asking.asked_at + REPEAT, why: "a request repeated" }),
            None => self.starts.front().map(|at| Deadline { at: *at, why: "a client starts" }),
        }
    }
}

/// Reads a DHCPACK; `None` if it is none.
#[must_use]
pub fn read_reply(from: SocketAddrV4, bytes: &[u8]) -> Option<Reply> {
    let address = |at: usize, bytes: &[u8]| -> Option<Ipv4Addr> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(four))
    };
    if bytes.first() != Some(&2) || bytes.get(236..240) != Some([99, 130, 83, 99].as_slice()) {
        return None;
    }
    let file = bytes.get(108..236)?.split(|&byte| byte == 0).next()?.to_vec();
    let options = read_options(bytes.get(240..)?);
    let of = |code| options.iter().find(|(there, _)| *there == code).map(|(_, value)| value.as_slice());
    if of(53) != Some([5].as_slice()) || of(60) != Some(b"PXEClient".as_slice()) {
        return None;
    }
    let tags = read_options(of(43)?);
    let tag = |code| tags.iter().find(|(there, _)| *there == code).map(|(_, value)| value.as_slice());
    let port = |code| tag(code).and_then(|value| value.try_into().ok()).map(u16::from_le_bytes);
    let group = tag(1).and_then(|value| address(0, value));
    let multicast = group.and_then(|group| Some((group, port(2)?, port(3)?)));
    let uri = of(224).and_then(|value| String::from_utf8(value.to_vec()).ok());
    let file = of(67).map_or(file, <[u8]>::to_vec);
    Some(Reply { from, file_server: address(20, bytes)?, file, multicast, uri })
}

/// Code, length, value; 0 pads and 255 ends.
fn read_options(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut options = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [] | [255, ..] => return options,
            [0, tail @ ..] => rest = tail,
            [code, count, tail @ ..] => {
                let Some((value, after)) = tail.split_at_checked(usize::from(*count)) else { return options };
                options.push((*code, value.to_vec()));
                rest = after;
            }
            [_] => return options,
        }
    }
}
