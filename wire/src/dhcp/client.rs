//! The client's half: the request that `mtftp-get` sends, and what it reads of a boot server's message.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::Message as View;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};

use super::{BootRequest, OPTION_VENDOR, RequestKind, check_header, each_option, finish, uuid_option};
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::ids::{FileName, Mac};
use crate::octets::Reader;
use crate::pxe::VendorOptions;

/// The longest answer we take, as option 57 tells (pxe.md A.1).
const ANSWER_LEN_MAX: u16 = 1472;

impl BootRequest {
    /// Writes the request.
    ///
    /// # Errors
    /// The whole is too long.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(self.xid, self.ciaddr, none, none, self.giaddr, &self.mac.0);
        message.set_opcode(Opcode::BootRequest).set_flags(Flags::from(self.flags));
        let options = message.opts_mut();
        let kind = match self.kind {
            RequestKind::Request => MessageType::Request,
            RequestKind::Inform => MessageType::Inform,
        };
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::MaxMessageSize(ANSWER_LEN_MAX));
        let architecture = self.architectures.first().copied().unwrap_or(0);
        let class = format!("PXEClient:Arch:{architecture:05}:UNDI:003000");
        options.insert(DhcpOption::ClassIdentifier(class.into_bytes()));
        let architectures: Vec<u8> = self.architectures.iter().flat_map(|one| one.to_be_bytes()).collect();
        let mut put = |code: u8, value: Vec<u8>| {
            let code = OptionCode::from(code);
            options.insert(DhcpOption::Unknown(UnknownOption::new(code, value)));
        };
        put(93, architectures);
        // UNDI 3.0, as UEFI firmware says.
        put(94, vec![1, 3, 0]);
        if !self.user_class.is_empty() {
            put(77, self.user_class.clone());
        }
        if let Some(uuid) = self.uuid {
            put(97, uuid_option(uuid).to_vec());
        }
        if let Some(vendor) = &self.vendor {
            put(OPTION_VENDOR, vendor.encode());
        }
        finish(&message)
    }
}

/// What a boot server says to a client, as far as a client looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootAnswer {
    /// Transaction id: that of the request.
    pub xid: u32,
    /// The client's Ethernet address.
    pub mac: Mac,
    /// The file server (header field siaddr), if it is told.
    pub file_server: Option<Ipv4Addr>,
    /// The boot server (option 54), if it is told.
    pub boot_server: Option<Ipv4Addr>,
    /// The boot file: option 67, else the header's field; `None` in a wait packet.
    pub file: Option<FileName>,
    /// Option 43.
    pub vendor: VendorOptions,
}

impl BootAnswer {
    /// Reads a DHCPACK for a PXE client.
    ///
    /// # Errors
    /// Anything but a DHCPACK to an Ethernet client whose option 60 begins with `PXEClient`; options that are cut short
    /// or have no end option; a malformed option 43.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (view, mac) = check_header(bytes, Opcode::BootReply)?;
        let mut vendor_offset = 0;
        let mut options = Options::default();
        each_option(bytes, |code, data, offset| {
            if code == OPTION_VENDOR && vendor_offset == 0 {
                vendor_offset = offset;
            }
            options.take(code, &data);
        })?;
        let wrong = |what, offset, kind| Err(DecodeError { what, offset, kind });
        if !options.is_ack {
            return wrong("DHCP message type", vendor_offset, DecodeErrorKind::Code);
        }
        if !options.pxe_client {
            return wrong("vendor class", vendor_offset, DecodeErrorKind::Value);
        }
        let vendor = VendorOptions::read(Reader::new_at(&options.vendor, vendor_offset))?;
        let file = options.file.or_else(|| header_file(&view));
        let known = |address: Ipv4Addr| Some(address).filter(|address| !address.is_unspecified());
        Ok(Self {
            xid: view.xid(),
            mac,
            file_server: known(view.siaddr()),
            boot_server: options.boot_server,
            file,
            vendor,
        })
    }
}

/// The field `file`, up to its NUL.
fn header_file(view: &View<'_>) -> Option<FileName> {
    FileName::new(view.fname().split(|&byte| byte == 0).next()?)
}

#[derive(Default)]
struct Options {
    is_ack: bool,
    pxe_client: bool,
    boot_server: Option<Ipv4Addr>,
    file: Option<FileName>,
    vendor: Vec<u8>,
}

impl Options {
    fn take(&mut self, code: u8, data: &[u8]) {
        match code {
            OPTION_VENDOR => self.vendor.extend_from_slice(data),
            53 => self.is_ack = data == [5],
            54 => self.boot_server = <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from),
            60 => self.pxe_client = data.starts_with(b"PXEClient"),
            67 => self.file = FileName::new(data.split(|&byte| byte == 0).next().unwrap_or_default()),
            _ => {}
        }
    }
}
