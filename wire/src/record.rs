//! Flooded records: what a server tells the whole domain (R004.8, R004.11–R004.16).
//!
//! ```text
//!  0-15 owner | 16 kind | 17-24 number | 25-28 boot epoch | 29-32 counter | 33-34 age, s | 35-36 lives, s
//! 37-52 checksum | 53-54 length m | 55.. body, m bytes
//! ```
//! Owner, kind and number are the record's UID; boot epoch and counter its SNUM. The checksum is the first half of
//! BLAKE3 over bytes 0–32, 35–36 and 53 to the end: over all but the age, which grows on the way.
//!
//! ```text
//! 1 member    0 role | 1-4 address | 5-6 control port | 7-10 version of the roll
//! 2 claim     0-3 group address | 4-7 MTFTP server | 8-9 client port | 10-11 server port | 12-13 boot server type
//!             14-15 layer | 16-39 stamp | 40 state | 41 flags: 1 pinned, 2 configured | 42 n | 43.. file, n bytes
//! 3 reference 0-3 group address | 4-7 MTFTP server | 8-9 client port | 10-11 server port | 12 n | 13.. file, n bytes
//!             +0 m | +1.. holders, m times: 0-15 id | 16-19 boot epoch | 20-23 serial | 24 flags: 1 stale
//! 4 domain    0-3 version | 4 part | 5 parts | 6 m | 7.. ids, m times 16 bytes
//! 5 lowest    0-15 id
//! 6 responder 0 weight | 1 m | 2.. server types, m times 2 bytes
//!             +0 n | +1.. n times: +0 shard | +1-4 epoch | +5-8 index
//! 7 neighbours 0 length of the link's prefix | 1 m | 2.. ids, m times 16 bytes
//! 8 note      0-7 written, ms | 8 about | 9-10 n | 11.. author, n bytes | +0-1 m | +2.. words, m bytes
//! 9 contact   0-15 domain | 16 relation | 17 flags: 1 coordinates | 18-21 address | 22-23 control port | 24-39 lowest id |
//!             40-41 n | 42.. name, n bytes
//! ```

use std::net::SocketAddrV4;

use bytes::BufMut;

use crate::configure::{Ports, put_ports, put_stamp, read_multicast, read_ports, read_stamp};
use crate::contact::Contact;
use crate::elect::{DECLARED_MAX, Responder, TYPES_MAX};
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::flood::FLOOD_LEN_MAX;
use crate::hold::HoldState;
use crate::ids::{
    BootEpoch, Content, DomainId, FileName, GroupAddr, Layer, Serial, ServerId, ServerType, Stamp,
};
use crate::note::Note;
use crate::octets::{Reader, put_host, put_list, put_name};
use crate::pxe::BootItem;

/// Bytes of a record before its body.
pub const RECORD_HEADER_LEN: usize = 55;
/// Longest body, in bytes: a record fits one datagram with its envelope. No body can be built that is longer.
pub const BODY_LEN_MAX: usize = 1200;
/// Most holders in one [`Reference`].
pub const HOLDERS_MAX: usize = 28;
/// Most members in one [`Roll`].
pub const ROLL_MAX: usize = 72;
/// Most neighbours in one [`Neighbours`].
pub const RECORD_NEIGHBOURS_MAX: usize = 16;
/// Bytes of a [`Reference`] with the longest name, before its holders.
const REFERENCE_HEADER_LEN: usize = 14 + FileName::LEN_MAX;
/// Bytes of a [`Holder`].
const HOLDER_LEN: usize = 25;
/// Bytes of a [`Roll`] before its members.
const ROLL_HEADER_LEN: usize = 7;
/// Bytes of a [`ServerId`].
const SERVER_ID_LEN: usize = 16;

const _: () =
    assert!(REFERENCE_HEADER_LEN + HOLDERS_MAX * HOLDER_LEN <= BODY_LEN_MAX, "a reference is a body");
const _: () = assert!(ROLL_HEADER_LEN + ROLL_MAX * SERVER_ID_LEN <= BODY_LEN_MAX, "a roll is a body");
const _: () = assert!(RECORD_HEADER_LEN + BODY_LEN_MAX <= FLOOD_LEN_MAX, "a record fits a flood");

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// 1: a server.
    Member,
    /// 2: a claim of a BINLD.
    Claim,
    /// 3: the references an MTFTP server keeps for an address.
    Reference,
    /// 4: the members among whom the pool is divided.
    Domain,
    /// 5: the lowest id that is heard (R004.18). It belongs to the domain, not to a server.
    Lowest,
    /// 6: which clients a BINLD answers.
    Responder,
    /// 7: the neighbours of a server beyond its link.
    Neighbours,
    /// 8: words for people.
    Note,
    /// 9: where to ask for another domain.
    Contact,
}

impl RecordKind {
    /// In order.
    const ALL: [Self; 9] = [
        Self::Member,
        Self::Claim,
        Self::Reference,
        Self::Domain,
        Self::Lowest,
        Self::Responder,
        Self::Neighbours,
        Self::Note,
        Self::Contact,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Member => 1,
            Self::Claim => 2,
            Self::Reference => 3,
            Self::Domain => 4,
            Self::Lowest => 5,
            Self::Responder => 6,
            Self::Neighbours => 7,
            Self::Note => 8,
            Self::Contact => 9,
        }
    }
}

/// Names a record: nobody but the owner changes it (R004.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid {
    /// The server whose record it is; of [`RecordKind::Lowest`] the domain's id.
    pub owner: ServerId,
    /// What it is about.
    pub kind: RecordKind,
    /// Drawn by the owner: which of its records of that kind.
    pub number: u64,
}

/// Which of two copies of a record is newer: the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Snum {
    /// The owner's boot epoch; 0 in [`RecordKind::Lowest`].
    pub boot_epoch: BootEpoch,
    /// Rises with every change in that epoch.
    pub counter: u32,
}

/// Seconds since the owner last wrote the record, as far as the clocks on its way tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Age(pub u16);

impl Age {
    /// The record is deleted (R004.12).
    pub const DELETED: Self = Self(u16::MAX);
}

/// A copy of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub uid: Uid,
    /// Its version.
    pub snum: Snum,
    /// How old the copy is.
    pub age: Age,
    /// At which age it destroys itself, in seconds (R004.13).
    pub lives: u16,
    /// What it says; of the kind that `uid` names, or others refuse it.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Of a server.
    Member(Member),
    /// Of a claim.
    Claim(Claim),
    /// Of references.
    Reference(Reference),
    /// Of the members that share the pool.
    Domain(Roll),
    /// The lowest id that is heard.
    Lowest(ServerId),
    /// Which clients a BINLD answers.
    Responder(Responder),
    /// The neighbours of a server beyond its link.
    Neighbours(Neighbours),
    /// Words for people.
    Note(Note),
    /// Where to ask for another domain.
    Contact(Contact),
}

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerRole {
    /// 1: it answers clients.
    Binld,
    /// 2: it serves files.
    Mtftpd,
}

impl ServerRole {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Binld => 1,
            Self::Mtftpd => 2,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        match reader.u8("role")? {
            1 => Ok(Self::Binld),
            2 => Ok(Self::Mtftpd),
            _ => Err(DecodeError { what: "role", offset, kind: DecodeErrorKind::Code }),
        }
    }
}

/// A server of the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it does.
    pub role: ServerRole,
    /// Where its control messages come from and go to: a host, and a port other than 0.
    pub control: SocketAddrV4,
    /// The version of the roll that it goes by; 0 for none.
    pub roll: u32,
}

/// A claim, as its owner tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub group: GroupAddr,
    /// What it carries.
    pub content: Content,
    /// Its ports.
    pub ports: Ports,
    /// The boot item it was made for.
    pub boot_item: BootItem,
    /// When it was committed.
    pub stamp: Stamp,
    /// In which state it is.
    pub state: HoldState,
    /// Whether it is the pinned tuple.
    pub pinned: bool,
    /// Whether the MTFTP server has acknowledged it: clients are told the address.
    pub configured: bool,
}

/// One BINLD's reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub binld: ServerId,
    /// The boot epoch and …
    pub boot_epoch: BootEpoch,
    /// … the serial of its last configure; of one that is not stale perhaps those of an earlier one.
    pub serial: Serial,
    /// Whether it has not been renewed for a lease.
    pub stale: bool,
}

/// The references that an MTFTP server keeps for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The address.
    pub group: GroupAddr,
    /// What it carries.
    pub content: Content,
    /// Its ports.
    pub ports: Ports,
    /// Whose references, [`HOLDERS_MAX`] at most; the others stand in a further record of the same address.
    pub holders: Vec<Holder>,
}

/// A version of the list of members among whom the pool is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// Rises with every change.
    pub version: u32,
    /// Which part of the list this is, from 0 and less than `parts`; the parts are records of their own.
    pub part: u8,
    /// How many parts there are.
    pub parts: u8,
    /// The BINLDs of this part, in order; [`ROLL_MAX`] at most.
    pub members: Vec<ServerId>,
}

/// The neighbours of a server beyond its link: from these records every member knows the shape of the domain (R004.31).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// Length of the prefix of its link, 0–32: members within it hear it by multicast.
    pub prefix_len: u8,
    /// Who they are, [`RECORD_NEIGHBOURS_MAX`] at most.
    pub servers: Vec<ServerId>,
}

impl Body {
    /// The kind of record that says this.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Member(_) => RecordKind::Member,
            Self::Claim(_) => RecordKind::Claim,
            Self::Reference(_) => RecordKind::Reference,
            Self::Domain(_) => RecordKind::Domain,
            Self::Lowest(_) => RecordKind::Lowest,
            Self::Responder(_) => RecordKind::Responder,
            Self::Neighbours(_) => RecordKind::Neighbours,
            Self::Note(_) => RecordKind::Note,
            Self::Contact(_) => RecordKind::Contact,
        }
    }

    /// Whether all items of its list are written.
    const fn check(&self) -> Result<(), EncodeError> {
        let (what, size, size_max) = match self {
            Self::Reference(Reference { holders, .. }) => {
                ("holders", holders.len() * HOLDER_LEN, HOLDERS_MAX * HOLDER_LEN)
            }
            Self::Domain(Roll { members, .. }) => {
                ("members of a roll", members.len() * SERVER_ID_LEN, ROLL_MAX * SERVER_ID_LEN)
            }
            Self::Responder(Responder { types, shards, .. }) => {
                let size = types.len().saturating_sub(TYPES_MAX) + shards.len();
                ("shards and types of a responder", size, DECLARED_MAX)
            }
            Self::Neighbours(Neighbours { servers, .. }) => {
                ("neighbours of a server", servers.len(), RECORD_NEIGHBOURS_MAX)
            }
            Self::Member(_) | Self::Claim(_) | Self::Lowest(_) | Self::Note(_) | Self::Contact(_) => {
                return Ok(());
            }
        };
        if size > size_max { Err(EncodeError::Size { what, size, size_max }) } else { Ok(()) }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Member(member) => member.put(out),
            Self::Claim(claim) => claim.put(out),
            Self::Reference(reference) => reference.put(out),
            Self::Domain(roll) => roll.put(out),
            Self::Lowest(lowest) => out.put_slice(&lowest.0),
            Self::Responder(responder) => responder.put(out),
            Self::Neighbours(neighbours) => neighbours.put(out),
            Self::Note(note) => note.put(out),
            Self::Contact(contact) => contact.put(out),
        }
    }

    fn read(kind: RecordKind, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            RecordKind::Member => Self::Member(Member::read(reader)?),
            RecordKind::Claim => Self::Claim(Claim::read(reader)?),
            RecordKind::Reference => Self::Reference(Reference::read(reader)?),
            RecordKind::Domain => Self::Domain(Roll::read(reader)?),
            RecordKind::Lowest => Self::Lowest(ServerId(reader.array("lowest id")?)),
            RecordKind::Responder => Self::Responder(Responder::read(reader)?),
            RecordKind::Neighbours => Self::Neighbours(Neighbours::read(reader)?),
            RecordKind::Note => Self::Note(Note::read(reader)?),
            RecordKind::Contact => Self::Contact(Contact::read(reader)?),
        })
    }
}

impl Member {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.role.code());
        put_host(out, self.control);
        out.put_u32(self.roll);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let role = ServerRole::read(reader)?;
        let control = reader.host()?;
        Ok(Self { role, control, roll: reader.u32("roll")? })
    }
}

impl Claim {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.group.ip().to_bits());
        out.put_u32(self.content.server.to_bits());
        put_ports(out, self.ports);
        out.put_u16(self.boot_item.server_type.0);
        out.put_u16(self.boot_item.layer.0);
        put_stamp(out, self.stamp);
        out.put_u8(self.state.code());
        out.put_u8(u8::from(self.pinned) | u8::from(self.configured) << 1);
        put_name(out, &self.content.file);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let group = read_multicast(reader)?;
        let server = reader.unicast("MTFTP server")?;
        let ports = read_ports(reader)?;
        let server_type = ServerType(reader.u16("server type")?);
        let boot_item = BootItem { server_type, layer: Layer(reader.u16("layer")?) };
        let stamp = read_stamp(reader)?;
        let state = HoldState::read(reader)?;
        let flags = reader.flags("flags of a claim", 3)?;
        let (pinned, configured) = (flags & 1 != 0, flags & 2 != 0);
        let content = Content { server, file: reader.name("file")? };
        Ok(Self { group, content, ports, boot_item, stamp, state, pinned, configured })
    }
}

impl Reference {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.group.ip().to_bits());
        out.put_u32(self.content.server.to_bits());
        put_ports(out, self.ports);
        put_name(out, &self.content.file);
        put_list(out, &self.holders, HOLDERS_MAX, Holder::put);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let group = read_multicast(reader)?;
        let server = reader.unicast("MTFTP server")?;
        let ports = read_ports(reader)?;
        let content = Content { server, file: reader.name("file")? };
        let holders = reader.list("holders", HOLDERS_MAX, Holder::read)?;
        Ok(Self { group, content, ports, holders })
    }
}

impl Holder {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.binld.0);
        out.put_u32(self.boot_epoch.0);
        out.put_u32(self.serial.0);
        out.put_u8(u8::from(self.stale));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            binld: ServerId(reader.array("holder")?),
            boot_epoch: BootEpoch(reader.u32("boot epoch of a holder")?),
            serial: Serial(reader.u32("serial of a holder")?),
            stale: reader.flags("flags of a holder", 1)? != 0,
        })
    }
}

impl Roll {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.version);
        out.put_u8(self.part);
        out.put_u8(self.parts);
        put_list(out, &self.members, ROLL_MAX, |member, out| out.put_slice(&member.0));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u32("version of a roll")?;
        let offset = reader.offset();
        let (part, parts) = (reader.u8("part of a roll")?, reader.u8("parts of a roll")?);
        if part >= parts {
            return Err(DecodeError { what: "part of a roll", offset, kind: DecodeErrorKind::Value });
        }
        let member = |reader: &mut Reader<'_>| reader.array("member of a roll").map(ServerId);
        Ok(Self { version, part, parts, members: reader.list("members of a roll", ROLL_MAX, member)? })
    }
}

impl Neighbours {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.prefix_len);
        put_list(out, &self.servers, RECORD_NEIGHBOURS_MAX, |server, out| out.put_slice(&server.0));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let prefix_len = reader.u8("length of a prefix")?;
        if prefix_len > 32 {
            return Err(DecodeError { what: "length of a prefix", offset, kind: DecodeErrorKind::Value });
        }
        let server = |reader: &mut Reader<'_>| reader.array("neighbour").map(ServerId);
        let servers = reader.list("neighbours of a server", RECORD_NEIGHBOURS_MAX, server)?;
        Ok(Self { prefix_len, servers })
    }
}

impl Uid {
    /// Before all others.
    pub const MIN: Self = Self { owner: ServerId([0; 16]), kind: RecordKind::Member, number: 0 };
    /// Behind all others.
    pub const MAX: Self =
        Self { owner: ServerId([u8::MAX; 16]), kind: RecordKind::Contact, number: u64::MAX };

    /// The one that follows; `None` after [`Self::MAX`].
    #[must_use]
    pub fn next(self) -> Option<Self> {
        if let Some(number) = self.number.checked_add(1) {
            return Some(Self { number, ..self });
        }
        let Some(kind) = RecordKind::ALL.into_iter().find(|it| *it > self.kind) else {
            let owner = u128::from_be_bytes(self.owner.0).checked_add(1)?;
            return Some(Self { owner: ServerId(owner.to_be_bytes()), ..Self::MIN });
        };
        Some(Self { kind, number: 0, ..self })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.owner.0);
        out.put_u8(self.kind.code());
        out.put_u64(self.number);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let owner = ServerId(reader.array("owner")?);
        let offset = reader.offset();
        let code = reader.u8("record kind")?;
        let kind = RecordKind::ALL.into_iter().find(|it| it.code() == code).ok_or(DecodeError {
            what: "record kind",
            offset,
            kind: DecodeErrorKind::Code,
        })?;
        Ok(Self { owner, kind, number: reader.u64("record number")? })
    }
}

impl Snum {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.boot_epoch.0);
        out.put_u32(self.counter);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let boot_epoch = BootEpoch(reader.u32("boot epoch of a record")?);
        Ok(Self { boot_epoch, counter: reader.u32("counter of a record")? })
    }
}

/// A strong checksum of a record: of two copies with one SNUM and different content the greater stays (R004.15,
/// R004.23).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(pub [u8; 16]);

impl Record {
    /// Over everything but the age.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        let mut bytes = Vec::with_capacity(RECORD_HEADER_LEN);
        self.uid.put(&mut bytes);
        self.snum.put(&mut bytes);
        bytes.put_u16(self.lives);
        put_part(&mut bytes, |out| self.body.put(out));
        checksum(&[&bytes])
    }

    /// How many bytes it takes in a datagram, [`FLOOD_LEN_MAX`] at most.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let mut bytes = Vec::new();
        self.body.put(&mut bytes);
        RECORD_HEADER_LEN + bytes.len()
    }

    /// Whether others read in it what we say. In a record that fails this, items over the limit of a list are not
    /// written, and the rest may be refused.
    ///
    /// # Errors
    /// If a list is over its limit, or others would refuse the record: its body is of another kind than its name says,
    /// an address is none of a host, …
    pub fn check(&self) -> Result<(), EncodeError> {
        self.body.check()?;
        if self.uid.kind != self.body.kind() {
            let kind = DecodeErrorKind::Value;
            return Err(EncodeError::Refused(DecodeError { what: "record kind", offset: 16, kind }));
        }
        let mut bytes = Vec::new();
        self.put(&mut bytes);
        Self::read(&mut Reader::new(&bytes)).map(|_| ()).map_err(EncodeError::Refused)
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.uid.put(out);
        self.snum.put(out);
        out.put_u16(self.age.0);
        out.put_u16(self.lives);
        out.put_slice(&self.checksum().0);
        put_part(out, |out| self.body.put(out));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.rest();
        let offset = reader.offset();
        let uid = Uid::read(reader)?;
        let snum = Snum::read(reader)?;
        let age = Age(reader.u16("age")?);
        let lives = reader.u16("lives")?;
        let told = Checksum(reader.array("checksum")?);
        let count = usize::from(reader.u16("length of a body")?);
        let mut part = reader.part("body of a record", count)?;
        // Checked before anything is made of it.
        let parts = (start.get(..33), start.get(35..37), start.get(53..RECORD_HEADER_LEN + count));
        let (Some(name), Some(lifetime), Some(body)) = parts else {
            return Err(reader.error("record", DecodeErrorKind::Truncated));
        };
        if checksum(&[name, lifetime, body]) != told {
            return Err(DecodeError { what: "checksum", offset: offset + 37, kind: DecodeErrorKind::Value });
        }
        let body = Body::read(uid.kind, &mut part)?;
        part.finish("body of a record")?;
        if uid.kind == RecordKind::Lowest && snum.boot_epoch != BootEpoch(0) {
            // Everybody writes it: no server's epoch may put it out of the others' reach.
            let (what, offset) = ("boot epoch of a record", offset + 25);
            return Err(DecodeError { what, offset, kind: DecodeErrorKind::Value });
        }
        Ok(Self { uid, snum, age, lives, body })
    }
}

fn checksum(parts: &[&[u8]]) -> Checksum {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut half = [0; 16];
    half.iter_mut().zip(hasher.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    Checksum(half)
}

impl DomainId {
    /// The id of the domain with this friendly name (R004.1: a hash of the name, seeded with "GROUP").
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(checksum(&[b"GROUP", name.as_bytes()]).0)
    }
}

/// Writes what `put` writes, behind its length in two bytes. A body is never longer than [`BODY_LEN_MAX`].
fn put_part(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let mut part = Vec::new();
    put(&mut part);
    out.put_u16(u16::try_from(part.len()).unwrap_or(u16::MAX));
    out.put_slice(&part);
}
