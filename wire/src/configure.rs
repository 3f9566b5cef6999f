//! Configure, ACK, NAK and delete between a BINLD and an MTFTP server (R003.15–R003.20).
//!
//! Payloads of the control envelope, network byte order:
//!
//! ```text
//! configure  0-3 serial | 4-7 group address, 0.0.0.0 = plain TFTP only | 8-9 client port | 10-11 server port
//!            12-19 stamp, ms | 20-35 stamp, committer | 36-45 policy | 46 n | 47.. file, n bytes
//! ACK        0-3 boot epoch | 4-7 serial | 8-11 group address | 12-13 client port | 14-15 server port
//!            16-23 file size, bytes | 24 n | 25.. file
//! NAK        0-3 boot epoch | 4-7 serial | 8-11 group address | 12 reason (1 in use, 2 no such file, 3 too large)
//!            13 n | 14.. file
//!            and for *in use*, what is there: +0-1 client port | +2-3 server port | +4 m | +5.. file, m bytes
//!            and for *too large*: +0-7 its size, bytes | +8-15 the largest that can be multicast there, bytes
//! delete     0-3 serial | 4-7 group address | 8 n | 9.. file
//! superseded 0-3 boot epoch | 4-7 serial | 8-11 group address | 12-15 known boot epoch | 16-19 known serial
//! delete for a dead BINLD
//!            0-3 group address | 4-19 BINLD | 20-23 boot epoch | 24-27 serial | 28 n | 29.. file
//! ```
//! For plain TFTP, ports, stamp and policy of a configure are sent as zero and not looked at; no NAK says *in use* or *too large*
//! of it.
//! Answers repeat boot epoch, serial, group address and file of the request they answer.

use std::net::Ipv4Addr;

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{BootEpoch, FileName, GroupAddr, Serial, ServerId, Stamp};
use crate::octets::{Reader, put_name};
use crate::policy::Policy;

/// The two UDP ports of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// Where the clients listen.
    pub client: u16,
    /// Where opens go, and where the data comes from.
    pub server: u16,
}

/// What a configure asks the MTFTP server to be ready for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Multicast the file on this address and hold it for the sender; a reference is kept.
    Group {
        /// The cleared address.
        group: GroupAddr,
        /// The ports the BINLD picked.
        ports: Ports,
        /// When the claim was committed.
        stamp: Stamp,
        /// How the clients are treated. Of several BINLDs the one decides whose claim is the oldest.
        policy: Policy,
    },
    /// Only say whether the file can be had by plain TFTP; no reference is kept.
    PlainTftp,
}

/// A BINLD asks an MTFTP server to be ready for clients; repeating it renews the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configure {
    /// The request's number; a retry has the same.
    pub serial: Serial,
    /// For what.
    pub target: Target,
    /// The file.
    pub file: FileName,
}

/// The request an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestRef {
    /// Boot epoch of the request's envelope.
    pub boot_epoch: BootEpoch,
    /// Its serial.
    pub serial: Serial,
    /// Its group address; `None` for plain TFTP.
    pub group: Option<GroupAddr>,
}

/// The MTFTP server is ready (to a configure), or the reference is gone (to a delete).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// What is answered.
    pub request: RequestRef,
    /// The ports in force for (address, file): the BINLD adopts them. Zero for plain TFTP and for deletes.
    pub ports: Ports,
    /// Size of the file in bytes; 0 for deletes.
    pub file_size: u64,
    /// The file.
    pub file: FileName,
}

/// Why an MTFTP server refuses: these reasons and no other. R003.17 knows *in use* and *no such file*; *too large* is the
/// second with what an operator must know, for such a file is there, but not for multicast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NakReason {
    /// The address is in use for something else (or for the same file on other ports).
    InUse {
        /// The ports of what is there.
        ports: Ports,
        /// The file that is there.
        file: FileName,
    },
    /// The file does not exist, or is not a regular readable file.
    NoSuchFile,
    /// The file can be had by plain TFTP only: multicast has no number for its last block.
    TooLarge {
        /// Its size, bytes.
        size: u64,
        /// What that address can carry, bytes; less than `size`.
        size_max: u64,
    },
}

/// The MTFTP server refuses a configure. Its state did not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nak {
    /// What is answered.
    pub request: RequestRef,
    /// The file that was asked for.
    pub file: FileName,
    /// Why.
    pub reason: NakReason,
}

/// A BINLD no longer relies on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The request's number; a retry has the same.
    pub serial: Serial,
    /// The address.
    pub group: GroupAddr,
    /// The file it carried for us.
    pub file: FileName,
}

/// A living BINLD has the reference of a dead one deleted (G12): the one that had this number when the MTFTP server told
/// that it is stale, and no newer one.
///
/// There is no answer of its own. The server tells the whole domain of each change of its references, so that every
/// survivor hears of it, also the next one if the sender dies; a lost datagram and a refusal look alike, and both are
/// right when the sender looks at the record again before it repeats itself. And a stranger who sends this gets nothing
/// back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteForDead {
    /// The address.
    pub group: GroupAddr,
    /// The file it carries.
    pub file: FileName,
    /// Whose reference.
    pub dead: ServerId,
    /// The boot epoch and …
    pub boot_epoch: BootEpoch,
    /// … the serial of its last configure.
    pub serial: Serial,
}

/// The request is older than one the MTFTP server has seen; the sender must go above the known one.
/// The MTFTP server's state did not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// What is answered.
    pub request: RequestRef,
    /// The highest boot epoch known of this BINLD for this address.
    pub known_epoch: BootEpoch,
    /// The highest serial in it.
    pub known_serial: Serial,
}

pub(crate) fn put_ports(out: &mut Vec<u8>, ports: Ports) {
    out.put_u16(ports.client);
    out.put_u16(ports.server);
}

pub(crate) fn read_ports(reader: &mut Reader<'_>) -> Result<Ports, DecodeError> {
    Ok(Ports { client: reader.u16("client port")?, server: reader.u16("server port")? })
}

pub(crate) fn put_group(out: &mut Vec<u8>, group: Option<GroupAddr>) {
    out.put_u32(group.map_or(Ipv4Addr::UNSPECIFIED, GroupAddr::ip).to_bits());
}

/// A class-D address, or 0.0.0.0 for none.
fn read_group(reader: &mut Reader<'_>) -> Result<Option<GroupAddr>, DecodeError> {
    let offset = reader.offset();
    let address = reader.ipv4("group address")?;
    match GroupAddr::new(address) {
        Some(group) => Ok(Some(group)),
        None if address.is_unspecified() => Ok(None),
        None => Err(DecodeError { what: "group address", offset, kind: DecodeErrorKind::Address }),
    }
}

pub(crate) fn read_multicast(reader: &mut Reader<'_>) -> Result<GroupAddr, DecodeError> {
    let offset = reader.offset();
    read_group(reader)?.ok_or(DecodeError { what: "group address", offset, kind: DecodeErrorKind::Address })
}

pub(crate) fn put_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    out.put_u64(stamp.millis);
    out.put_slice(&stamp.sender.0);
}

pub(crate) fn read_stamp(reader: &mut Reader<'_>) -> Result<Stamp, DecodeError> {
    Ok(Stamp { millis: reader.u64("stamp")?, sender: ServerId(reader.array("stamp's committer")?) })
}

impl RequestRef {
    fn put(self, out: &mut Vec<u8>) {
        out.put_u32(self.boot_epoch.0);
        out.put_u32(self.serial.0);
        put_group(out, self.group);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            boot_epoch: BootEpoch(reader.u32("boot epoch")?),
            serial: Serial(reader.u32("serial")?),
            group: read_group(reader)?,
        })
    }
}

impl Configure {
    /// The address asked for; `None` for plain TFTP.
    #[must_use]
    pub fn group(&self) -> Option<GroupAddr> {
        match self.target {
            Target::Group { group, .. } => Some(group),
            Target::PlainTftp => None,
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let nobody = Stamp { millis: 0, sender: ServerId([0; 16]) };
        let (ports, stamp, policy) = match self.target {
            Target::Group { ports, stamp, policy, .. } => (ports, stamp, policy),
            Target::PlainTftp => (Ports { client: 0, server: 0 }, nobody, Policy::default()),
        };
        out.put_u32(self.serial.0);
        put_group(out, self.group());
        put_ports(out, ports);
        put_stamp(out, stamp);
        policy.put(out);
        put_name(out, &self.file);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let serial = Serial(reader.u32("serial")?);
        let group = read_group(reader)?;
        let offset = reader.offset();
        let ports = read_ports(reader)?;
        let stamp = read_stamp(reader)?;
        let target = match group {
            Some(_) if ports.client == 0 || ports.server == 0 => {
                return Err(DecodeError { what: "ports", offset, kind: DecodeErrorKind::Value });
            }
            Some(group) => Target::Group { group, ports, stamp, policy: Policy::read(reader)? },
            None => {
                reader.array::<{ Policy::LEN }>("policy")?;
                Target::PlainTftp
            }
        };
        Ok(Self { serial, target, file: reader.name("file")? })
    }
}

impl Ack {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.request.put(out);
        put_ports(out, self.ports);
        out.put_u64(self.file_size);
        put_name(out, &self.file);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: RequestRef::read(reader)?,
            ports: read_ports(reader)?,
            file_size: reader.u64("file size")?,
            file: reader.name("file")?,
        })
    }
}

impl Nak {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.request.put(out);
        match &self.reason {
            NakReason::InUse { ports, file } => {
                out.put_u8(1);
                put_name(out, &self.file);
                put_ports(out, *ports);
                put_name(out, file);
            }
            NakReason::NoSuchFile => {
                out.put_u8(2);
                put_name(out, &self.file);
            }
            NakReason::TooLarge { size, size_max } => {
                out.put_u8(3);
                put_name(out, &self.file);
                out.put_u64(*size);
                out.put_u64(*size_max);
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let request = RequestRef::read(reader)?;
        let offset = reader.offset();
        let code = reader.u8("reason")?;
        let file = reader.name("file")?;
        let reason = match code {
            1 | 3 if request.group.is_none() => {
                return Err(DecodeError { what: "reason", offset, kind: DecodeErrorKind::Value });
            }
            1 => NakReason::InUse { ports: read_ports(reader)?, file: reader.name("file that is there")? },
            2 => NakReason::NoSuchFile,
            3 => {
                let offset = reader.offset();
                let (size, size_max) = (reader.u64("file size")?, reader.u64("largest file size")?);
                if size <= size_max {
                    return Err(DecodeError { what: "file size", offset, kind: DecodeErrorKind::Value });
                }
                NakReason::TooLarge { size, size_max }
            }
            _ => return Err(DecodeError { what: "reason", offset, kind: DecodeErrorKind::Code }),
        };
        Ok(Self { request, file, reason })
    }
}

impl Delete {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.serial.0);
        put_group(out, Some(self.group));
        put_name(out, &self.file);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            serial: Serial(reader.u32("serial")?),
            group: read_multicast(reader)?,
            file: reader.name("file")?,
        })
    }
}

impl DeleteForDead {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_group(out, Some(self.group));
        out.put_slice(&self.dead.0);
        out.put_u32(self.boot_epoch.0);
        out.put_u32(self.serial.0);
        put_name(out, &self.file);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: read_multicast(reader)?,
            dead: ServerId(reader.array("dead BINLD")?),
            boot_epoch: BootEpoch(reader.u32("boot epoch of a reference")?),
            serial: Serial(reader.u32("serial of a reference")?),
            file: reader.name("file")?,
        })
    }
}

impl Superseded {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.request.put(out);
        out.put_u32(self.known_epoch.0);
        out.put_u32(self.known_serial.0);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: RequestRef::read(reader)?,
            known_epoch: BootEpoch(reader.u32("known boot epoch")?),
            known_serial: Serial(reader.u32("known serial")?),
        })
    }
}
