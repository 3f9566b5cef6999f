//! The nouns of the protocol, as types in which nonsense cannot be written.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

/// IPv4 multicast address (class D, 224.0.0.0–239.255.255.255) that carries one transfer (R003.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupAddr(Ipv4Addr);

impl GroupAddr {
    /// `None` unless `address` is class D.
    #[must_use]
    pub const fn new(address: Ipv4Addr) -> Option<Self> {
        if address.is_multicast() { Some(Self(address)) } else { None }
    }

    /// The address.
    #[must_use]
    pub const fn ip(self) -> Ipv4Addr {
        self.0
    }

    /// The low 23 bits: addresses that agree in them share one Ethernet group (RFC 1112 § 6.4, G21).
    #[must_use]
    pub const fn ethernet_bits(self) -> u32 {
        self.0.to_bits() & 0x007f_ffff
    }
}

impl fmt::Display for GroupAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GroupAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GroupAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address: Ipv4Addr = text.parse().map_err(|_| format!("`{text}` is not an IPv4 address"))?;
        Self::new(address)
            .ok_or_else(|| format!("`{text}` is not a multicast address (224.0.0.0–239.255.255.255)"))
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Two hexadecimal digits, nothing else (`from_str_radix` would take `+f`).
fn hex_octet(digits: &[u8]) -> Option<u8> {
    let &[high, low] = digits else { return None };
    let value = char::from(high).to_digit(16)? << 4 | char::from(low).to_digit(16)?;
    u8::try_from(value).ok()
}

/// A server's random 128-bit name, drawn once and kept in its store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub [u8; 16]);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// As ids are displayed: 32 hexadecimal digits.
fn read_id(text: &str, what: &str) -> Result<[u8; 16], String> {
    let mut octets = [0; 16];
    let mut digits = text.as_bytes().chunks(2);
    for octet in &mut octets {
        let read = digits.next().and_then(hex_octet);
        *octet = read.ok_or_else(|| format!("`{text}` is not a {what} of 32 hexadecimal digits"))?;
    }
    match digits.next() {
        None => Ok(octets),
        Some(_) => Err(format!("`{text}` is longer than a {what} of 32 hexadecimal digits")),
    }
}

impl FromStr for ServerId {
    type Err = String;

    /// As it is displayed: 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read_id(text, "server id").map(Self)
    }
}

/// Name of a domain: the servers that share claims. See [`DomainId::of`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(pub [u8; 16]);

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl FromStr for DomainId {
    type Err = String;

    /// As it is displayed: 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read_id(text, "domain id").map(Self)
    }
}

/// Number that grows at each start of a server: max(stored + 1, seconds of the wall clock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootEpoch(pub u32);

/// Rising number of a BINLD's requests to MTFTP servers within one boot epoch; a retry repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Serial(pub u32);

/// Boot server type of PXE (option 43 tag 71, first half); 0x8000–0xfffe are free for sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServerType(pub u16);

/// Boot item layer of PXE (option 43 tag 71, second half).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Layer(pub u16);

impl Layer {
    /// Bit 15 asks for that layer's credentials (PXE 2.1 table 2-1 note 5).
    pub const CREDENTIALS: u16 = 0x8000;

    /// Whether the client asks for the credentials of the layer rather than for the layer.
    #[must_use]
    pub const fn wants_credentials(self) -> bool {
        self.0 & Self::CREDENTIALS != 0
    }
}

/// When a claim was committed: who is older keeps it (Y4). Wall clock in milliseconds, then the committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds: max(wall clock, greatest heard + 1).
    pub millis: u64,
    /// Who committed.
    pub sender: ServerId,
}

/// Ethernet address of a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not an Ethernet address like 52:54:00:12:34:56");
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(wrong)?;
            *octet = hex_octet(part.as_bytes()).ok_or_else(wrong)?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(octets)) }
    }
}

/// Machine identifier of option 97 (RFC 4578 § 2.3). All zeros identifies nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zeros, or all ones: firmware that was never given one.
    #[must_use]
    pub fn identifies_nobody(&self) -> bool {
        self.0 == [0; 16] || self.0 == [0xff; 16]
    }
}

impl fmt::Display for Uuid {
    /// The 16 bytes as they are on the wire, in the grouping people know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a machine identifier of 32 hexadecimal digits");
        let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
        let mut octets = [0; 16];
        if digits.len() != 32 {
            return Err(wrong());
        }
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            *octet = hex_octet(pair).ok_or_else(wrong)?;
        }
        Ok(Self(octets))
    }
}

/// Name of a boot file as it stands on the wire: 1–255 bytes, no NUL. Compared byte for byte (G23).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<[u8]>);

impl FileName {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 255;

    /// `None` if `bytes` is empty, longer than [`Self::LEN_MAX`] or holds a NUL.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = (1..=Self::LEN_MAX).contains(&bytes.len()) && !bytes.contains(&0);
        fits.then(|| Self(bytes.into()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The length, which one byte holds.
    pub(crate) fn len_octet(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }

    /// As the path of a URI (RFC 3986 § 2.1): everything but unreserved characters and `/` in percent escapes.
    #[must_use]
    pub fn percent_encoded(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for &byte in self.0.iter() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }
}

impl fmt::Display for FileName {
    /// Printable ASCII as it is, everything else (and `\`) escaped: a hostile name cannot write on a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a group address carries: a file of one MTFTP server. The same file on two servers is two contents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    /// The MTFTP server.
    pub server: Ipv4Addr,
    /// The file on it.
    pub file: FileName,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server, self.file)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
