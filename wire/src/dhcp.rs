//! The part of DHCP that boot server discovery uses: the request a client sends to port 4011 (PXE 2.1 § 2.2.1 step 5)
//! and the ACK a boot server gives (table 2-5), over `dhcproto`.
//!
//! Requests are read through `dhcproto`'s borrowed view, because its owned decoder trusts `hlen` and the lengths of
//! typed options. What a server reads and writes for every machine, options of requests and answers, is done by hand, for
//! speed; tests read it with `dhcproto`.

mod client;

use std::borrow::Cow;
use std::net::Ipv4Addr;

use bytes::BufMut;
use dhcproto::v4::borrowed::Message as View;
use dhcproto::v4::{Message, Opcode};
use dhcproto::{Encodable, Encoder};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::ids::{FileName, Mac, Uuid};
use crate::octets::Reader;
use crate::pxe::{BootItem, Ours, VendorOptions};

pub use client::BootAnswer;

/// Longest datagram a PXE client takes, in bytes: iPXE and EDK2 announce 1472 in option 57.
pub const REPLY_LEN_MAX: usize = 1472;
/// Shortest message old BOOTP code takes, in bytes (RFC 1542 § 2.1).
const REPLY_LEN_MIN: usize = 300;
/// The option in which the URI of the multicast file reaches an iPXE script, as `${pxebs/224:string}`.
pub const OPTION_MULTICAST_URI: u8 = 224;
/// Longest value of one DHCP option, in bytes.
const OPTION_LEN_MAX: usize = 255;
/// Longest boot file name in the header's `file` field, in bytes; longer ones go into option 67.
const FILE_FIELD_LEN_MAX: usize = 127;

/// Room that most answers need, in bytes.
const REPLY_ROOM: usize = 512;

const HEADER_LEN: usize = 236;
/// Where the header has the boot file.
const FILE_OFFSET: usize = 108;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTION_PAD: u8 = 0;
const OPTION_VENDOR: u8 = 43;
const OPTION_END: u8 = 255;

/// Which of the two requests it is (PXE 2.1 § 2.2.1: a server must take both).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// DHCPREQUEST.
    Request,
    /// DHCPINFORM.
    Inform,
}

/// A client asks a boot server what to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRequest {
    /// Message type, option 53.
    pub kind: RequestKind,
    /// Transaction id: must be repeated in the answer, and identifies nobody (iPXE's is always 0).
    pub xid: u32,
    /// Flags; repeated in the answer.
    pub flags: u16,
    /// The client's address.
    pub ciaddr: Ipv4Addr,
    /// The relay's address, or 0.0.0.0.
    pub giaddr: Ipv4Addr,
    /// The client's Ethernet address.
    pub mac: Mac,
    /// Architectures, option 93; the first is the one that counts.
    pub architectures: Vec<u16>,
    /// Machine identifier, option 97.
    pub uuid: Option<Uuid>,
    /// User class, option 77, raw.
    pub user_class: Vec<u8>,
    /// Option 43; `None` when absent, and then it is no boot server request.
    pub vendor: Option<VendorOptions>,
}

impl BootRequest {
    /// Reads a request of a PXE client.
    ///
    /// # Errors
    /// Anything but a DHCPREQUEST or DHCPINFORM of an Ethernet client whose option 60 begins with `PXEClient`; options
    /// that are cut short or have no end option; a malformed option 43.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wrong = |what, offset, kind| Err(DecodeError { what, offset, kind });
        let (view, mac) = check_header(bytes, Opcode::BootRequest)?;
        let options = Options::read(bytes)?;
        let Some(kind) = options.kind else {
            return wrong("DHCP message type", HEADER_LEN, DecodeErrorKind::Code);
        };
        if !options.pxe_client {
            return wrong("vendor class", HEADER_LEN, DecodeErrorKind::Value);
        }
        Ok(Self {
            kind,
            xid: view.xid(),
            flags: view.flags().into(),
            ciaddr: view.ciaddr(),
            giaddr: view.giaddr(),
            mac,
            architectures: options.architectures,
            uuid: options.uuid,
            user_class: options.user_class,
            vendor: options.vendor,
        })
    }

    /// Whether option 77 names `class`, as RFC 3004 writes it or raw, as iPXE does.
    #[must_use]
    pub fn has_user_class(&self, class: &[u8]) -> bool {
        if self.user_class == class {
            return true;
        }
        let mut rest = self.user_class.as_slice();
        while let Some((&count, tail)) = rest.split_first() {
            let Some((instance, tail)) = tail.split_at_checked(usize::from(count)) else { return false };
            if instance == class {
                return true;
            }
            rest = tail;
        }
        false
    }
}

/// The header of a message to or from an Ethernet client, and whose it is.
fn check_header(bytes: &[u8], opcode: Opcode) -> Result<(View<'_>, Mac), DecodeError> {
    let wrong = |what, offset, kind| Err(DecodeError { what, offset, kind });
    let Ok(view) = View::new(bytes) else {
        return wrong("DHCP header", bytes.len(), DecodeErrorKind::Truncated);
    };
    if view.opcode() != opcode {
        return wrong("BOOTP opcode", 0, DecodeErrorKind::Code);
    }
    if (u8::from(view.htype()), view.hlen()) != (1, 6) {
        return wrong("hardware type", 1, DecodeErrorKind::Value);
    }
    if bytes.get(HEADER_LEN..HEADER_LEN + 4) != Some(COOKIE.as_slice()) {
        return wrong("magic cookie", HEADER_LEN, DecodeErrorKind::Code);
    }
    let Ok(mac) = <[u8; 6]>::try_from(view.chaddr()) else {
        return wrong("hardware address", 28, DecodeErrorKind::Length);
    };
    Ok((view, Mac(mac)))
}

/// Gives each option's code, value, and the value's offset, in order; those of one code that stand side by side are one
/// (RFC 3396). Every option fits into the datagram and the end option is there (RFC 2131 § 4.1): `dhcproto`'s iterator
/// would take the whole options of a cut datagram for all there are. What follows the end option is padding and ignored.
fn each_option<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(u8, Cow<'a, [u8]>, usize),
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.take("DHCP header", HEADER_LEN + COOKIE.len())?;
    let mut last: Option<(u8, Cow<'a, [u8]>, usize)> = None;
    loop {
        let code = reader.u8("DHCP option")?;
        let next = if code == OPTION_END || code == OPTION_PAD {
            None
        } else {
            let count = usize::from(reader.u8("DHCP option length")?);
            let offset = reader.offset();
            let value = reader.take("DHCP option value", count)?;
            if let Some((before, whole, _)) = &mut last
                && *before == code
            {
                whole.to_mut().extend_from_slice(value);
                continue;
            }
            Some((code, Cow::Borrowed(value), offset))
        };
        if let Some((code, value, offset)) = std::mem::replace(&mut last, next) {
            take(code, value, offset);
        }
        if code == OPTION_END {
            return Ok(());
        }
    }
}

/// The options of a request that we look at. Those in `sname` and `file` (option 52) are not: no PXE client has so
/// many that it needs the room.
#[derive(Default)]
struct Options {
    kind: Option<RequestKind>,
    pxe_client: bool,
    architectures: Vec<u16>,
    uuid: Option<Uuid>,
    user_class: Vec<u8>,
    vendor: Option<VendorOptions>,
}

impl Options {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut options = Self::default();
        // Parts of one option 43, which need not stand side by side (RFC 3396 § 5), and where the first is.
        let mut vendor: Option<(Cow<'_, [u8]>, usize)> = None;
        each_option(bytes, |code, data, offset| match code {
            OPTION_VENDOR => match &mut vendor {
                Some((parts, _)) => parts.to_mut().extend_from_slice(&data),
                None => vendor = Some((data, offset)),
            },
            _ => options.take(code, &data),
        })?;
        let read =
            |(value, offset): (Cow<'_, [u8]>, usize)| VendorOptions::read(Reader::new_at(&value, offset));
        options.vendor = vendor.map(read).transpose()?;
        Ok(options)
    }

    fn take(&mut self, code: u8, data: &[u8]) {
        match code {
            53 => {
                self.kind = match data {
                    [3] => Some(RequestKind::Request),
                    [8] => Some(RequestKind::Inform),
                    _ => None,
                }
            }
            60 => self.pxe_client = data.starts_with(b"PXEClient"),
            77 => self.user_class = data.to_vec(),
            93 => {
                self.architectures = data
                    .chunks_exact(2)
                    .map(|pair| pair.iter().fold(0, |value, &byte| value << 8 | u16::from(byte)))
                    .collect();
            }
            97 => {
                // Type 0 and 16 bytes (RFC 4578 § 2.3); any other form identifies nobody.
                self.uuid = match data.split_first() {
                    Some((0, uuid)) => uuid.try_into().ok().map(Uuid),
                    Some(_) | None => None,
                }
            }
            _ => {}
        }
    }
}

/// A boot server's answer: DHCPACK in the form every known client accepts (pxe.md, consequences 4–8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootReply {
    /// Transaction id of the request.
    pub xid: u32,
    /// Flags of the request.
    pub flags: u16,
    /// The client's address.
    pub yiaddr: Ipv4Addr,
    /// The relay's address of the request.
    pub giaddr: Ipv4Addr,
    /// The file server (header field siaddr).
    pub file_server: Ipv4Addr,
    /// The client's Ethernet address.
    pub mac: Mac,
    /// The boot file.
    pub file: FileName,
    /// This boot server (option 54).
    pub boot_server: Ipv4Addr,
    /// Machine identifier of the request, repeated.
    pub uuid: Option<Uuid>,
    /// Option 43.
    pub vendor: VendorOptions,
    /// Option 224: where an iPXE script finds its multicast file.
    pub multicast_uri: Option<String>,
}

impl BootReply {
    /// Writes the datagram, 300 to [`REPLY_LEN_MAX`] bytes.
    ///
    /// # Errors
    /// The URI, or the whole, is too long.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let file = self.file.as_bytes();
        let (header_file, option_file) =
            if file.len() <= FILE_FIELD_LEN_MAX { (file, None) } else { (&[][..], Some(file)) };
        let uri = self.multicast_uri.as_deref().unwrap_or_default().as_bytes();
        if uri.len() > OPTION_LEN_MAX {
            return Err(too_long("multicast URI", uri.len(), OPTION_LEN_MAX));
        }
        let Self { xid, flags, yiaddr, file_server, giaddr, mac, .. } = *self;
        let header = Header { xid, flags, yiaddr, siaddr: file_server, giaddr, mac, file: header_file };
        let mut out = header.put();
        put_answer_options(&mut out, &self.vendor, self.boot_server, option_file, self.uuid);
        if self.multicast_uri.is_some() {
            put_option(&mut out, OPTION_MULTICAST_URI, uri);
        }
        finish_answer(out)
    }
}

/// The wait packet (R003.14): a DHCPACK without a boot file, for clients that say that they understand it. To any other
/// it would be the end: firmware takes it for an answer (pxe.md A.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootWait {
    /// Transaction id of the request.
    pub xid: u32,
    /// The client's address.
    pub yiaddr: Ipv4Addr,
    /// The client's Ethernet address.
    pub mac: Mac,
    /// This boot server (option 54).
    pub boot_server: Ipv4Addr,
    /// Machine identifier of the request, repeated.
    pub uuid: Option<Uuid>,
    /// What the client asked for.
    pub boot_item: BootItem,
    /// When it shall ask again, in seconds, at least 1.
    pub seconds: u8,
}

impl BootWait {
    /// Writes the datagram, 300 bytes.
    ///
    /// # Errors
    /// None that any value of the fields leads to.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let none = Ipv4Addr::UNSPECIFIED;
        let Self { xid, yiaddr, mac, .. } = *self;
        let header = Header { xid, flags: 0, yiaddr, siaddr: none, giaddr: none, mac, file: &[] };
        let vendor = VendorOptions {
            boot_item: Some(self.boot_item),
            ours: Some(Ours::Wait(self.seconds)),
            ..VendorOptions::default()
        };
        let mut out = header.put();
        put_answer_options(&mut out, &vendor, self.boot_server, None, self.uuid);
        finish_answer(out)
    }
}

/// The header of an answer (RFC 951), with the cookie. It is written by hand: a server under a boot storm does little else.
struct Header<'a> {
    xid: u32,
    flags: u16,
    yiaddr: Ipv4Addr,
    siaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    mac: Mac,
    /// At most [`FILE_FIELD_LEN_MAX`].
    file: &'a [u8],
}

impl Header<'_> {
    /// Begins a datagram.
    fn put(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(REPLY_ROOM);
        // BOOTREPLY, Ethernet, 6 bytes, no hops.
        out.put_slice(&[2, 1, 6, 0]);
        out.put_u32(self.xid);
        // secs
        out.put_u16(0);
        out.put_u16(self.flags);
        // ciaddr
        out.put_u32(0);
        for address in [self.yiaddr, self.siaddr, self.giaddr] {
            out.put_u32(address.to_bits());
        }
        out.put_slice(&self.mac.0);
        // The rest of chaddr, and sname.
        out.resize(FILE_OFFSET, 0);
        out.put_slice(self.file);
        out.resize(HEADER_LEN, 0);
        out.put_slice(&COOKIE);
        out
    }
}

/// In order of their codes.
fn put_answer_options(
    out: &mut Vec<u8>,
    vendor: &VendorOptions,
    boot_server: Ipv4Addr,
    file: Option<&[u8]>,
    uuid: Option<Uuid>,
) {
    out.put_slice(&[OPTION_VENDOR, 0]);
    let at = out.len();
    vendor.put(out);
    // All that a value can hold is shorter than an option may be.
    let count = u8::try_from(out.len().saturating_sub(at)).unwrap_or(u8::MAX);
    if let Some(place) = out.get_mut(at.saturating_sub(1)) {
        *place = count;
    }
    // DHCPACK
    put_option(out, 53, &[5]);
    put_option(out, 54, &boot_server.octets());
    put_option(out, 60, b"PXEClient");
    if let Some(file) = file {
        put_option(out, 67, file);
    }
    if let Some(uuid) = uuid {
        put_option(out, 97, &uuid_option(uuid));
    }
}

/// `value`: at most [`OPTION_LEN_MAX`].
fn put_option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    out.put_slice(&[code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    out.put_slice(value);
}

/// Ends an answer's options.
fn finish_answer(mut out: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
    out.put_u8(OPTION_END);
    if out.len() > REPLY_LEN_MAX {
        return Err(too_long("boot server message", out.len(), REPLY_LEN_MAX));
    }
    out.resize(out.len().max(REPLY_LEN_MIN), 0);
    Ok(out)
}

/// Type 0 and 16 bytes (RFC 4578 § 2.3).
fn uuid_option(uuid: Uuid) -> [u8; 17] {
    let mut value = [0; 17];
    let (_, identifier) = value.split_at_mut(1);
    identifier.copy_from_slice(&uuid.0);
    value
}

fn finish(message: &Message) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(REPLY_LEN_MIN);
    if message.encode(&mut Encoder::new(&mut out)).is_err() || out.len() > REPLY_LEN_MAX {
        return Err(too_long("boot server message", out.len(), REPLY_LEN_MAX));
    }
    out.resize(out.len().max(REPLY_LEN_MIN), 0);
    Ok(out)
}

fn too_long(what: &'static str, size: usize, size_max: usize) -> EncodeError {
    EncodeError::Size { what, size, size_max }
}
