//! How a server becomes a member of a domain, and leaves it (R004.5–R004.7, R004.33).
//!
//! ```text
//! connect:    0-15 domain | 16 flags: 1 a list is wanted
//! welcome:    0-15 domain
//! refuse:     0-15 domain of the refuser | 16 reason | 17 n | 18.. neighbours, n times 22 bytes
//! disconnect: 0 flags: 1 it stays a member | 1 n, 0 or 1 | 2.. the neighbour to go to, n times 22 bytes
//! neighbour:  0-15 id | 16-19 address | 20-21 control port
//! ```

use std::net::SocketAddrV4;

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{DomainId, ServerId};
use crate::octets::{Reader, put_host, put_list};

/// Most neighbours that a message names.
pub const NEIGHBOURS_MAX: usize = 32;

/// Who else is in the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Its name.
    pub server: ServerId,
    /// Where its control messages go: a host, and a port other than 0.
    pub control: SocketAddrV4,
}

/// 10: a server wants to be a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect {
    /// Of which domain.
    pub domain: DomainId,
    /// Whether a refusal shall name neighbours (R004.6).
    pub wants_list: bool,
}

/// 11: it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Of this domain.
    pub domain: DomainId,
}

/// Why a server is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefuseReason {
    /// 1: it wants another domain.
    OtherDomain,
    /// 2: there are neighbours enough.
    Full,
}

/// 12: it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    /// The domain of the refuser.
    pub domain: DomainId,
    /// Why.
    pub reason: RefuseReason,
    /// Where else to try, [`NEIGHBOURS_MAX`] at most: the others are left out.
    pub neighbours: Vec<Neighbour>,
}

/// 13: a neighbour is none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// Whether the sender stays a member of the domain, and only has better neighbours.
    pub stays: bool,
    /// Whom to connect to, so that leaving makes no hole.
    pub neighbour: Option<Neighbour>,
}

impl Neighbour {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.server.0);
        put_host(out, self.control);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { server: ServerId(reader.array("neighbour")?), control: reader.host()? })
    }
}

impl Connect {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.domain.0);
        out.put_u8(u8::from(self.wants_list));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            domain: DomainId(reader.array("domain")?),
            wants_list: reader.flags("flags of a connect", 1)? != 0,
        })
    }
}

impl Welcome {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.domain.0);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { domain: DomainId(reader.array("domain")?) })
    }
}

impl Refuse {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.domain.0);
        out.put_u8(match self.reason {
            RefuseReason::OtherDomain => 1,
            RefuseReason::Full => 2,
        });
        put_list(out, &self.neighbours, NEIGHBOURS_MAX, Neighbour::put);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let domain = DomainId(reader.array("domain")?);
        let offset = reader.offset();
        let reason = match reader.u8("reason of a refusal")? {
            1 => RefuseReason::OtherDomain,
            2 => RefuseReason::Full,
            _ => {
                return Err(DecodeError { what: "reason of a refusal", offset, kind: DecodeErrorKind::Code });
            }
        };
        Ok(Self { domain, reason, neighbours: reader.list("neighbours", NEIGHBOURS_MAX, Neighbour::read)? })
    }
}

impl Disconnect {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.stays));
        put_list(out, self.neighbour.as_slice(), 1, Neighbour::put);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let stays = reader.flags("flags of a disconnect", 1)? != 0;
        Ok(Self { stays, neighbour: reader.list("neighbours", 1, Neighbour::read)?.pop() })
    }
}
