//! A boot server has told a client a multicast address: the file server may expect it there.
//!
//! Payload of the control envelope, network byte order:
//!
//! ```text
//! told  0-3 group address | 4-7 client, IPv4 | 8-13 client, MAC | 14 n | 15.. file, n bytes
//! ```
//! Nobody acknowledges it: a loss costs a line in a report, and no client a block.

use std::net::Ipv4Addr;

use bytes::BufMut;

use crate::configure::{put_group, read_multicast};
use crate::error::DecodeError;
use crate::ids::{FileName, GroupAddr, Mac};
use crate::octets::{Reader, put_name};

/// 21: this client was told to have the file on that address. Sent beside the answer, each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The address.
    pub group: GroupAddr,
    /// Where the client asks from: a host's address.
    pub client: Ipv4Addr,
    /// Its Ethernet address: other clients ask no boot server of ours.
    pub mac: Mac,
    /// The file.
    pub file: FileName,
}

impl Told {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_group(out, Some(self.group));
        out.put_u32(self.client.to_bits());
        out.put_slice(&self.mac.0);
        put_name(out, &self.file);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: read_multicast(reader)?,
            client: reader.unicast("client")?,
            mac: Mac(reader.array("client's MAC")?),
            file: reader.name("file")?,
        })
    }
}
