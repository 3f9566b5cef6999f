//! A boot ROM on real sockets: boot server discovery as iPXE, EDK2 and a PXE ROM ask (pxe.md A.4, A.8). Requests are
//! written, and answers read, without our own codec, so that one mistake cannot hide in both.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

/// The port on which boot servers are asked.
pub const DISCOVERY_PORT: u16 = 4011;

/// How a client waits for one answer before it asks again, and how often it asks: as EDK2, whose patience is longer
/// than any healthy answer takes.
const WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(4)];

/// Which firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// iPXE in BIOS mode: source port 68, transaction id 0, option 77.
    Ipxe,
    /// UEFI: source port 4011, architecture 7.
    Edk2,
    /// A BIOS boot ROM: source port 4011, architecture 0, no user class.
    Rom,
}

impl Firmware {
    /// The UDP port it asks from.
    #[must_use]
    pub fn source_port(self) -> u16 {
        match self {
            Self::Ipxe => 68,
            Self::Edk2 | Self::Rom => DISCOVERY_PORT,
        }
    }
}

/// Which message carries the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// DHCPREQUEST.
    Request,
    /// DHCPINFORM.
    Inform,
}

/// One machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Its firmware.
    pub firmware: Firmware,
    /// Its address.
    pub address: Ipv4Addr,
    /// Tells it from other machines: the last byte of its Ethernet address and of its machine identifier.
    pub number: u8,
    /// Transaction id; iPXE sends 0 whatever this is.
    pub xid: u32,
}

impl Machine {
    /// A machine at `address`, whose number is the address's last byte.
    #[must_use]
    pub fn new(firmware: Firmware, address: Ipv4Addr) -> Self {
        let [.., number] = address.octets();
        Self { firmware, address, number, xid: 0x5eed_0000 | u32::from(number) }
    }

    /// Its Ethernet address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        [0x52, 0x54, 0, 0x77, 0, self.number]
    }

    /// Its machine identifier, as it stands in option 97.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        let mut uuid = *b"pxemc-test-uuid\0";
        uuid[15] = self.number;
        uuid
    }

    /// Asks for a boot item.
    #[must_use]
    pub fn question(&self, form: Form, server_type: u16, layer: u16) -> Vec<u8> {
        let ipxe = self.firmware == Firmware::Ipxe;
        let architecture = if self.firmware == Firmware::Edk2 { 7 } else { 0 };
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(if ipxe { 0 } else { self.xid }.to_be_bytes());
        // secs, and flags: iPXE sets the broadcast bit although it hears no broadcast.
        bytes.extend([0, 4, if ipxe { 0x80 } else { 0 }, 0]);
        bytes.extend(self.address.octets());
        bytes.extend([0; 12]);
        bytes.extend(self.mac());
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99]);
        bytes.extend([53, 1, if form == Form::Request { 3 } else { 8 }]);
        bytes.extend([57, 2, 5, 0xc0]);
        bytes.extend([93, 2, 0, architecture]);
        bytes.extend([94, 3, 1, 2, 1]);
        let class: &[u8] = match self.firmware {
            // What the DHCP server put there: no architecture in it.
            Firmware::Ipxe => b"PXEClient",
            Firmware::Edk2 => b"PXEClient:Arch:00007:UNDI:003000",
            Firmware::Rom => b"PXEClient:Arch:00000:UNDI:002001",
        };
        put_option(&mut bytes, 60, class);
        if ipxe {
            put_option(&mut bytes, 77, b"iPXE");
        }
        bytes.extend([55, 6, 1, 3, 43, 60, 128, 129]);
        bytes.extend([97, 17, 0]);
        bytes.extend(self.uuid());
        let [type_high, type_low] = server_type.to_be_bytes();
        let [layer_high, layer_low] = layer.to_be_bytes();
        put_option(&mut bytes, 43, &[71, 4, type_high, type_low, layer_high, layer_low, 255]);
        bytes.push(255);
        bytes
    }
}

fn put_option(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    bytes.extend([code, u8::try_from(value.len()).expect("options of a test are short")]);
    bytes.extend(value);
}

/// A DHCPACK of a boot server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who sent it, from which port.
    pub from: SocketAddrV4,
    /// Bytes of the datagram.
    pub len: usize,
    /// Transaction id.
    pub xid: u32,
    /// Header field yiaddr.
    pub yiaddr: Ipv4Addr,
    /// Header field siaddr.
    pub siaddr: Ipv4Addr,
    /// Header field chaddr.
    pub mac: Vec<u8>,
    /// Option 67, else header field file.
    pub file: String,
    /// Every option, in order.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Every tag of option 43, in order.
    pub tags: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    /// Reads it as strictly as the strictest client.
    ///
    /// # Errors
    /// What is wrong.
    pub fn read(from: SocketAddrV4, bytes: &[u8]) -> Result<Self, String> {
        let part = |at: usize, len: usize| {
            bytes.get(at..at + len).ok_or_else(|| format!("cut short at {} bytes", bytes.len()))
        };
        let word =
            |at| part(at, 4).map(|four| four.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)));
        if part(0, 3)? != [2, 1, 6] || part(236, 4)? != [99, 130, 83, 99] {
            return Err("not a BOOTP reply".to_owned());
        }
        let options = read_options(part(240, bytes.len() - 240)?)?;
        let of = |code| options.iter().find(|(there, _)| *there == code).map(|(_, value)| value.as_slice());
        if of(53) != Some(&[5]) || of(60) != Some(b"PXEClient") {
            return Err(format!("option 53 is {:?}, option 60 is {:?}", of(53), of(60)));
        }
        let tags = of(43).map(read_options).transpose()?.unwrap_or_default();
        let header_file = part(108, 128)?.split(|&byte| byte == 0).next().unwrap_or_default();
        let file = String::from_utf8_lossy(of(67).unwrap_or(header_file)).into_owned();
        let (xid, yiaddr, siaddr) = (word(4)?, Ipv4Addr::from(word(16)?), Ipv4Addr::from(word(20)?));
        let mac = part(28, 6)?.to_vec();
        Ok(Self { from, len: bytes.len(), xid, yiaddr, siaddr, mac, file, options, tags })
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(there, _)| *there == code).map(|(_, value)| value.as_slice())
    }

    /// The value of a tag of option 43.
    #[must_use]
    pub fn tag(&self, code: u8) -> Option<&[u8]> {
        self.tags.iter().find(|(there, _)| *there == code).map(|(_, value)| value.as_slice())
    }

    /// Option 224: the URI of the multicast file.
    #[must_use]
    pub fn uri(&self) -> Option<String> {
        self.option(224).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Tags 1–3, if 1–5 are there: group, client port, server port.
    #[must_use]
    pub fn multicast(&self) -> Option<(Ipv4Addr, u16, u16)> {
        let port = |code| self.tag(code)?.try_into().ok().map(u16::from_le_bytes);
        let group: [u8; 4] = self.tag(1)?.try_into().ok()?;
        (self.tag(4)?.len() == 1 && self.tag(5)?.len() == 1).then_some((
            Ipv4Addr::from(group),
            port(2)?,
            port(3)?,
        ))
    }
}

/// Code, length, value; 0 pads and 255 must end it.
fn read_options(bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, String> {
    let mut options = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [] | [1..=254] => return Err("options without an end".to_owned()),
            [255, ..] => return Ok(options),
            [0, tail @ ..] => rest = tail,
            [code, count, tail @ ..] => {
                let (value, after) = tail
                    .split_at_checked(usize::from(*count))
                    .ok_or_else(|| format!("option {code} is cut short"))?;
                options.push((*code, value.to_vec()));
                rest = after;
            }
        }
    }
}

/// Waits for one datagram; `None` after `patience`.
///
/// # Panics
/// If the socket fails.
#[must_use]
pub fn receive(socket: &UdpSocket, patience: Duration) -> Option<(Vec<u8>, SocketAddrV4)> {
    socket.set_read_timeout(Some(patience)).expect("a time-out can be set");
    let mut buffer = vec![0; 65_536];
    match socket.recv_from(&mut buffer) {
        Ok((len, SocketAddr::V4(from))) => {
            buffer.truncate(len);
            Some((buffer, from))
        }
        Ok((_, from)) => unreachable!("{from} on an IPv4 socket"),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => {
            // A port unreachable from a daemon that is down is what UDP clients see as silence.
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            None
        }
    }
}

/// Asks `server` until it answers, at 0, 1, 3 and 6 s, and gives up at 10 s.
///
/// # Panics
/// If the answer is not one that a strict client takes.
#[must_use]
#[track_caller]
pub fn ask(socket: &UdpSocket, server: SocketAddrV4, question: &[u8]) -> Option<Answer> {
    WAITS.iter().find_map(|&wait| {
        socket.send_to(question, server).expect("a question can be sent");
        let (bytes, from) = receive(socket, wait)?;
        Some(Answer::read(from, &bytes).expect("a boot server's answer"))
    })
}
