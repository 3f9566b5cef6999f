//! What exactly a client is told: the one form that every known client accepts (pxe.md, consequences 4–8).

use std::net::Ipv4Addr;

use wire::FileName;
use wire::dhcp::{BootReply, BootRequest};
use wire::pxe::{BootItem, DISCOVERY_DOWNLOAD, MulticastTags, VendorOptions};

use super::catalog::Profile;
use super::claims::Placement;

/// Tags 4 and 5, in seconds: the specification contradicts itself about which is which, so both are the same.
const DELAY_SECONDS: u8 = 2;

/// The multicast file of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MulticastOffer {
    /// It is multicast on a held address.
    Held {
        /// The file.
        file: FileName,
        /// Where.
        at: Placement,
    },
    /// It can only be had by plain TFTP now.
    Plain {
        /// The file.
        file: FileName,
    },
}

/// An answer before it is bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Us.
    pub boot_server: Ipv4Addr,
    /// Where the files are.
    pub file_server: Ipv4Addr,
    /// Type as asked for, layer as found.
    pub boot_item: BootItem,
    /// The boot file.
    pub file: FileName,
    /// How the client loads.
    pub profile: Profile,
    /// The file that is multicast, if the boot item has one and the server too.
    pub multicast: Option<MulticastOffer>,
}

impl Answer {
    /// The reply to `request` of the client at `client`.
    #[must_use]
    pub fn to_reply(&self, request: &BootRequest, client: Ipv4Addr) -> BootReply {
        // Nobody else reads one.
        let uri = if self.profile == Profile::Ipxe { self.multicast_uri() } else { None };
        // iPXE takes a URI for a file name; where the boot file is the multicast file, the URI is the file name.
        let whole = match &self.multicast {
            Some(MulticastOffer::Held { file, .. }) if *file == self.file => uri.as_deref(),
            _ => None,
        };
        let file = whole.and_then(|uri| FileName::new(uri.as_bytes())).unwrap_or_else(|| self.file.clone());
        BootReply {
            xid: request.xid,
            flags: request.flags,
            yiaddr: client,
            giaddr: request.giaddr,
            file_server: self.file_server,
            mac: request.mac,
            file,
            boot_server: self.boot_server,
            uuid: request.uuid,
            vendor: self.vendor_options(),
            multicast_uri: uri,
        }
    }

    /// Tag 6 always: EDK2 rejects tags 1–5 without it. With the file on another host, 6 = 8 and 8 = that host: it
    /// redirects EDK2 after unicast discovery, and iPXE accepts it (pxe.md H).
    fn vendor_options(&self) -> VendorOptions {
        let elsewhere = self.file_server != self.boot_server;
        let multicast = match &self.multicast {
            Some(MulticastOffer::Held { at, .. })
                if matches!(self.profile, Profile::PxeRom | Profile::MtftpGet) =>
            {
                Some(MulticastTags {
                    group: at.group,
                    client_port: at.ports.client,
                    server_port: at.ports.server,
                    delay_seconds: DELAY_SECONDS,
                })
            }
            _ => None,
        };
        VendorOptions {
            boot_item: Some(self.boot_item),
            discovery_control: Some(if elsewhere { DISCOVERY_DOWNLOAD } else { 0 }),
            boot_server: elsewhere.then_some((self.boot_item.server_type, self.file_server)),
            multicast,
            ours: None,
        }
    }

    fn multicast_uri(&self) -> Option<String> {
        let server = self.file_server;
        Some(match self.multicast.as_ref()? {
            MulticastOffer::Held { file, at } => {
                format!("mtftp://{server}:{}/{}", at.ports.server, file.percent_encoded())
            }
            MulticastOffer::Plain { file } => format!("tftp://{server}/{}", file.percent_encoded()),
        })
    }
}
