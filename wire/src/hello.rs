//! The sign of life of a server that speaks more than the frozen packet (`decisions.md`, Clearing).
//!
//! Payload of the control envelope, network byte order:
//!
//! ```text
//! 0-3 count | 4-5 loss heard, per mille | 6 flags: 1 deaf | 7 role | 8-23 domain | 24-39 lowest id heard
//! 40-47 digest of the records
//! ```

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{DomainId, ServerId};
use crate::octets::Reader;
use crate::record::ServerRole;

/// A share of datagrams that were lost, 0–1000 per mille.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Loss(u16);

impl Loss {
    /// Nothing was lost.
    pub const NONE: Self = Self(0);

    /// `None` above 1000.
    #[must_use]
    pub const fn new(per_mille: u16) -> Option<Self> {
        if per_mille <= 1000 { Some(Self(per_mille)) } else { None }
    }

    /// 0–1000.
    #[must_use]
    pub const fn per_mille(self) -> u16 {
        self.0
    }
}

/// A hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Rises by one with every hello of this sender in this boot epoch: a gap is a loss.
    pub count: u32,
    /// The greatest loss of hellos that the sender hears from any other server.
    pub loss: Loss,
    /// The sender's kernel dropped datagrams in the last second: its silence means nothing (G26).
    pub deaf: bool,
    /// What the sender does.
    pub role: ServerRole,
    /// To which domain it belongs.
    pub domain: DomainId,
    /// The lowest id that it hears (R004.26).
    pub lowest: ServerId,
    /// A sum over the records that it has: two members with the same digest have the same records.
    pub digest: u64,
}

impl Hello {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.count);
        out.put_u16(self.loss.per_mille());
        out.put_u8(u8::from(self.deaf));
        out.put_u8(self.role.code());
        out.put_slice(&self.domain.0);
        out.put_slice(&self.lowest.0);
        out.put_u64(self.digest);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.u32("count")?;
        let offset = reader.offset();
        let loss = Loss::new(reader.u16("loss")?).ok_or(DecodeError {
            what: "loss",
            offset,
            kind: DecodeErrorKind::Value,
        })?;
        let deaf = reader.flags("flags of a hello", 1)? != 0;
        let role = ServerRole::read(reader)?;
        let domain = DomainId(reader.array("domain")?);
        let lowest = ServerId(reader.array("lowest id")?);
        Ok(Self { count, loss, deaf, role, domain, lowest, digest: reader.u64("digest")? })
    }
}
