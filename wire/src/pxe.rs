//! The sub-options of DHCP option 43 that boot server discovery uses (PXE 2.1 table 2-1).
//!
//! ```text
//! tag | length | value …  repeated; tag 0 is padding, tag 255 ends
//!  1 group address, 4 | 2 client port, 2 LE | 3 server port, 2 LE | 4, 5 delays in seconds, 1
//!  6 discovery control, 1 | 8 boot servers: type 2, count 1, addresses 4·count
//! 71 boot item: type 2, layer 2 (old clients: layer 1)
//! 200 ours: "pxmc" 4, word 1; of the word 1 (wait): seconds 1
//! ```
//! Ports of tags 2 and 3 are little-endian ("Intel order"), everything else is in network order.

use std::net::Ipv4Addr;

use bytes::BufMut;

use crate::error::DecodeError;
use crate::ids::{GroupAddr, Layer, ServerType};
use crate::octets::Reader;

const TAG_PAD: u8 = 0;
const TAG_MTFTP_IP: u8 = 1;
const TAG_MTFTP_CPORT: u8 = 2;
const TAG_MTFTP_SPORT: u8 = 3;
const TAG_MTFTP_TMOUT: u8 = 4;
const TAG_MTFTP_DELAY: u8 = 5;
const TAG_DISCOVERY_CONTROL: u8 = 6;
const TAG_BOOT_SERVERS: u8 = 8;
const TAG_BOOT_ITEM: u8 = 71;
/// Among the tags that are free for boot programs (PXE 2.1 table 2-1); firmware skips it.
const TAG_OURS: u8 = 200;
const TAG_END: u8 = 255;

/// How a tag 200 of ours begins: others may use the number for something else.
const OURS: &[u8; 4] = b"pxmc";
const WORD_WAITS: u8 = 0;
const WORD_WAIT: u8 = 1;

/// Tag 6 bit 3: download the boot file straight away. Together with [`VendorOptions::boot_server`] it sends EDK2 to
/// another file server, and iPXE accepts it (pxe.md H).
pub const DISCOVERY_DOWNLOAD: u8 = 8;

/// What a client asks for: boot server type and layer (tag 71).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootItem {
    /// Which kind of boot server.
    pub server_type: ServerType,
    /// Which file of that type; 0 is the first.
    pub layer: Layer,
}

/// Tags 1–5: where a PXE ROM hears the boot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MulticastTags {
    /// Tag 1.
    pub group: GroupAddr,
    /// Tag 2: UDP port on which the client listens.
    pub client_port: u16,
    /// Tag 3: UDP port to which the open goes.
    pub server_port: u16,
    /// Tags 4 and 5, in seconds. The specification contradicts itself about which is which, so both are the same.
    pub delay_seconds: u8,
}

/// What our own servers and clients say to each other in tag 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// The client understands the wait packet: it is `mtftp-get`.
    UnderstandsWait,
    /// The wait packet (R003.14): there is no answer yet. The client asks again if it has heard nothing more after this
    /// many seconds, at least 1.
    Wait(u8),
}

impl Ours {
    /// `None` if it is somebody else's tag, or a word that we do not know.
    fn read(value: &[u8]) -> Option<Self> {
        match value.strip_prefix(OURS)? {
            [WORD_WAITS] => Some(Self::UnderstandsWait),
            [WORD_WAIT, seconds] if *seconds > 0 => Some(Self::Wait(*seconds)),
            _ => None,
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        let words: &[u8] = match self {
            Self::UnderstandsWait => &[WORD_WAITS],
            Self::Wait(seconds) => &[WORD_WAIT, seconds.max(1)],
        };
        let len = OURS.len() + words.len();
        out.put_slice(&[TAG_OURS, u8::try_from(len).unwrap_or(u8::MAX)]);
        out.put_slice(OURS);
        out.put_slice(words);
    }
}

/// The part of option 43 that we read and write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VendorOptions {
    /// Tag 71.
    pub boot_item: Option<BootItem>,
    /// Tag 6.
    pub discovery_control: Option<u8>,
    /// Tag 8 with one server: type and address.
    pub boot_server: Option<(ServerType, Ipv4Addr)>,
    /// Tags 1–5, all or none.
    pub multicast: Option<MulticastTags>,
    /// Tag 200, if it is ours.
    pub ours: Option<Ours>,
}

impl VendorOptions {
    /// Reads the value of option 43. Unknown tags are skipped; a missing end tag is accepted, as firmware does; what
    /// follows the end tag is ignored; of a tag that stands twice the last counts. Tags 1–5 with one missing, or with
    /// a tag 1 that is not class D, are as if absent.
    ///
    /// # Errors
    /// A tag that is cut short, or one of ours with the wrong length. Offsets count from the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(Reader::new(bytes))
    }

    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let mut options = Self::default();
        let mut multicast = PartialMulticast::default();
        while reader.rest_len() > 0 {
            let tag = reader.u8("tag")?;
            match tag {
                TAG_PAD => continue,
                TAG_END => break,
                _ => {}
            }
            let count = usize::from(reader.u8("tag length")?);
            let mut value = reader.part("tag value", count)?;
            match tag {
                TAG_MTFTP_IP => multicast.group = GroupAddr::new(value.ipv4("MTFTP_IP")?),
                TAG_MTFTP_CPORT => multicast.client_port = Some(value.u16("MTFTP_CPORT")?.swap_bytes()),
                TAG_MTFTP_SPORT => multicast.server_port = Some(value.u16("MTFTP_SPORT")?.swap_bytes()),
                TAG_MTFTP_TMOUT => multicast.timeout = Some(value.u8("MTFTP_TMOUT")?),
                TAG_MTFTP_DELAY => multicast.delay = Some(value.u8("MTFTP_DELAY")?),
                TAG_DISCOVERY_CONTROL => {
                    options.discovery_control = Some(value.u8("PXE_DISCOVERY_CONTROL")?);
                }
                TAG_BOOT_SERVERS => options.boot_server = first_boot_server(&mut value)?,
                TAG_BOOT_ITEM => options.boot_item = Some(boot_item(&mut value)?),
                TAG_OURS => options.ours = Ours::read(value.remainder()),
                _ => {
                    value.remainder();
                }
            }
            value.finish("tag value")?;
        }
        options.multicast = multicast.complete();
        Ok(options)
    }

    /// Writes the value of option 43, with the end tag.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        self.put(&mut out);
        out
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if let Some(control) = self.discovery_control {
            out.put_slice(&[TAG_DISCOVERY_CONTROL, 1, control]);
        }
        if let Some(tags) = self.multicast {
            out.put_slice(&[TAG_MTFTP_IP, 4]);
            out.put_u32(tags.group.ip().to_bits());
            out.put_slice(&[TAG_MTFTP_CPORT, 2]);
            out.put_u16_le(tags.client_port);
            out.put_slice(&[TAG_MTFTP_SPORT, 2]);
            out.put_u16_le(tags.server_port);
            out.put_slice(&[TAG_MTFTP_TMOUT, 1, tags.delay_seconds]);
            out.put_slice(&[TAG_MTFTP_DELAY, 1, tags.delay_seconds]);
        }
        if let Some((server_type, server)) = self.boot_server {
            out.put_slice(&[TAG_BOOT_SERVERS, 7]);
            out.put_u16(server_type.0);
            out.put_u8(1);
            out.put_u32(server.to_bits());
        }
        if let Some(item) = self.boot_item {
            out.put_slice(&[TAG_BOOT_ITEM, 4]);
            out.put_u16(item.server_type.0);
            out.put_u16(item.layer.0);
        }
        if let Some(ours) = self.ours {
            ours.put(out);
        }
        out.put_u8(TAG_END);
    }
}

/// Tag 71 in its four-byte form, or the three-byte form of old clients (PXE 2.1 table 2-1 note 6).
fn boot_item(value: &mut Reader<'_>) -> Result<BootItem, DecodeError> {
    let server_type = ServerType(value.u16("boot server type")?);
    let layer = if value.rest_len() == 1 { u16::from(value.u8("layer")?) } else { value.u16("layer")? };
    Ok(BootItem { server_type, layer: Layer(layer) })
}

/// Tag 8 may list many types; the first server of the first type is all we ever need.
fn first_boot_server(value: &mut Reader<'_>) -> Result<Option<(ServerType, Ipv4Addr)>, DecodeError> {
    let server_type = ServerType(value.u16("boot server type")?);
    let count = value.u8("boot server count")?;
    let server = if count == 0 { None } else { Some((server_type, value.ipv4("boot server")?)) };
    value.remainder();
    Ok(server)
}

#[derive(Default)]
struct PartialMulticast {
    group: Option<GroupAddr>,
    client_port: Option<u16>,
    server_port: Option<u16>,
    timeout: Option<u8>,
    delay: Option<u8>,
}

impl PartialMulticast {
    /// A client uses multicast only if all five tags are there (pxe.md B.2).
    fn complete(self) -> Option<MulticastTags> {
        let (timeout, delay) = (self.timeout?, self.delay?);
        Some(MulticastTags {
            group: self.group?,
            client_port: self.client_port?,
            server_port: self.server_port?,
            delay_seconds: timeout.min(delay),
        })
    }
}
