//! The responder election: which boot server answers which clients (R001.7–R001.23).
//!
//! Payloads of the control envelope, network byte order:
//!
//! ```text
//! inquiry  0 flags: 1 answer at once | 1-4 count | 5 n | 6.. heard, n times:
//!          +0-15 server | +16-19 its count | +20-21 ago, ms | +22 delay, ms
//! declare  0 n | 1.. n times: +0 shard | +1-4 epoch | +5-8 index
//! revoke   0-15 server that is revoked | 16 n | 17.. n times:
//!          +0 shard | +1-4 epoch | +5-8 index | +9-12 revoked epoch | +13-16 revoked index
//! ```
//! Body of a [record](crate::record):
//!
//! ```text
//! responder  0 weight | 1 m | 2.. server types, m times 2 bytes | +0 n | +1.. n times: +0 shard | +1-4 epoch | +5-8 index
//! ```

use std::fmt;

use bytes::BufMut;

use crate::control::PAYLOAD_LEN_MAX;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{ServerId, ServerType};
use crate::octets::{Reader, put_list};
use crate::record::BODY_LEN_MAX;

/// Shares of the clients. A power of two; with eight boot servers the busiest has 1.4 times its share, in the middle.
pub const SHARDS: u8 = 128;
/// Servers that one inquiry tells of.
pub const HEARD_MAX: usize = 32;
/// The greatest weight of a server.
pub const WEIGHT_MAX: u8 = 16;
/// Shards of one declare: all of them.
pub const DECLARED_MAX: usize = SHARDS as usize;
/// Shards of one revoke.
pub const REVOKED_MAX: usize = 64;
/// Server types that one [`Responder`] tells of.
pub const TYPES_MAX: usize = 20;
/// Bytes of a shard with a term.
const TERM_LEN: usize = 9;

const _: () = assert!(3 + TYPES_MAX * 2 + DECLARED_MAX * TERM_LEN <= BODY_LEN_MAX, "a responder is a body");
const _: () = assert!(6 + HEARD_MAX * 23 <= PAYLOAD_LEN_MAX, "an inquiry fits an envelope");
const _: () = assert!(17 + REVOKED_MAX * (TERM_LEN + 8) <= PAYLOAD_LEN_MAX, "a revoke fits an envelope");

/// A share of the clients: those that one responder answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// `None` from [`SHARDS`] on.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < SHARDS { Some(Self(number)) } else { None }
    }

    /// The one of that hash of a client.
    #[must_use]
    pub const fn of_hash(hash: u64) -> Self {
        let [.., last] = hash.to_be_bytes();
        Self(last % SHARDS)
    }

    /// 0–127.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        Self::new(reader.u8("shard")?).ok_or(DecodeError {
            what: "shard",
            offset,
            kind: DecodeErrorKind::Value,
        })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// By what right a server answers a shard. The greater epoch wins; of one epoch the lesser index (R001.18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Term {
    /// Rises with every change of the responder.
    pub epoch: u32,
    /// The server's place among those that could answer the shard: the lesser, the better.
    pub index: u32,
}

/// What an inquiry tells of another server: that its inquiry was heard, which is the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardOf {
    /// The server.
    pub server: ServerId,
    /// The count of its latest inquiry that was heard.
    pub count: u32,
    /// How long ago that was, in milliseconds; 65,535 for longer.
    pub ago_ms: u16,
    /// How long a message to it and its answer take, as measured by the sender, in milliseconds.
    pub delay_ms: u8,
}

/// 22: do you work? Multicast by every boot server to all others of its link, and at once the answer to theirs (R001.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Who gets this answers at once, by unicast: it was not heard for too long.
    pub urgent: bool,
    /// Rises by one with every inquiry of this sender in this boot epoch.
    pub count: u32,
    /// Whom the sender has heard, at most [`HEARD_MAX`].
    pub heard: Vec<HeardOf>,
}

/// 23, the first message: the sender answers these shards from now on (R001.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declare {
    /// The shards, each with the sender's term; at most [`DECLARED_MAX`].
    pub shards: Vec<(Shard, Term)>,
}

/// What a boot server tells the whole domain of its part in that, as the body of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responder {
    /// How large a share of the clients it wants: 1 to [`WEIGHT_MAX`], or 0 while it is drained.
    pub weight: u8,
    /// What it can answer at all; at most [`TYPES_MAX`]. For what is over others answer, too.
    pub types: Vec<ServerType>,
    /// The shards that it answers, each with its term; at most [`DECLARED_MAX`].
    pub shards: Vec<(Shard, Term)>,
}

/// 24, the second message: what another server declared does not hold; the sender answers these shards (R001.22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoke {
    /// Who declared itself.
    pub revoked: ServerId,
    /// The shards, at most [`REVOKED_MAX`].
    pub shards: Vec<Revoked>,
}

/// A shard of a [`Revoke`], with both indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// The shard.
    pub shard: Shard,
    /// The sender's term, which holds.
    pub term: Term,
    /// The term that was declared, and does not.
    pub revoked: Term,
}

impl Term {
    fn put(self, out: &mut Vec<u8>) {
        out.put_u32(self.epoch);
        out.put_u32(self.index);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = reader.u32("epoch of a term")?;
        Ok(Self { epoch, index: reader.u32("index of a term")? })
    }
}

impl HeardOf {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.server.0);
        out.put_u32(self.count);
        out.put_u16(self.ago_ms);
        out.put_u8(self.delay_ms);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            server: ServerId(reader.array("server heard")?),
            count: reader.u32("count heard")?,
            ago_ms: reader.u16("time since it was heard")?,
            delay_ms: reader.u8("delay")?,
        })
    }
}

impl Inquiry {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.urgent));
        out.put_u32(self.count);
        put_list(out, &self.heard, HEARD_MAX, HeardOf::put);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let urgent = reader.flags("flags of an inquiry", 1)? != 0;
        let count = reader.u32("count")?;
        Ok(Self { urgent, count, heard: reader.list("servers heard", HEARD_MAX, HeardOf::read)? })
    }
}

fn put_terms(out: &mut Vec<u8>, shards: &[(Shard, Term)]) {
    put_list(out, shards, DECLARED_MAX, |(shard, term), out| {
        out.put_u8(shard.number());
        term.put(out);
    });
}

fn read_terms(reader: &mut Reader<'_>) -> Result<Vec<(Shard, Term)>, DecodeError> {
    reader.list("shards", DECLARED_MAX, |reader| Ok((Shard::read(reader)?, Term::read(reader)?)))
}

impl Declare {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_terms(out, &self.shards);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { shards: read_terms(reader)? })
    }
}

impl Responder {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.weight.min(WEIGHT_MAX));
        put_list(out, &self.types, TYPES_MAX, |server_type, out| out.put_u16(server_type.0));
        put_terms(out, &self.shards);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let weight = reader.u8("weight")?;
        if weight > WEIGHT_MAX {
            return Err(DecodeError { what: "weight", offset, kind: DecodeErrorKind::Value });
        }
        let types = reader.list("server types", TYPES_MAX, |it| it.u16("server type").map(ServerType))?;
        Ok(Self { weight, types, shards: read_terms(reader)? })
    }
}

impl Revoke {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.revoked.0);
        put_list(out, &self.shards, REVOKED_MAX, |one, out| {
            out.put_u8(one.shard.number());
            one.term.put(out);
            one.revoked.put(out);
        });
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let revoked = ServerId(reader.array("server that is revoked")?);
        let one = |reader: &mut Reader<'_>| {
            let (shard, term) = (Shard::read(reader)?, Term::read(reader)?);
            Ok(Revoked { shard, term, revoked: Term::read(reader)? })
        };
        Ok(Self { revoked, shards: reader.list("shards", REVOKED_MAX, one)? })
    }
}
