//! A contact: where to ask for another domain, flooded as a record in one that is related to it (R004.4, R004.26; source
//! 004 0054, 0083, 0084).

use std::fmt;
use std::net::SocketAddrV4;

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{DomainId, ServerId};
use crate::octets::{Reader, put_host};
use crate::text::Text;

/// Longest name of a domain, in bytes.
pub const DOMAIN_NAME_MAX: usize = 64;

/// The name of a domain, for people.
pub type DomainName = Text<DOMAIN_NAME_MAX>;

/// How a domain is related to the one in which it is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// 1: it is above.
    Parent,
    /// 2: it is below.
    Child,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Parent => "parent",
            Self::Child => "child",
        })
    }
}

/// The owner of the record is a member of that domain too, and takes connects for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Which domain.
    pub domain: DomainId,
    /// How it is related to this one.
    pub relation: Relation,
    /// Whether its members coordinate addresses: it is a boot network's, and no server is a member of two of those.
    pub coordinates: bool,
    /// Where the owner's control messages go.
    pub control: SocketAddrV4,
    /// The lowest id that the owner hears in that domain: who hears another one there is cut off from it.
    pub lowest: ServerId,
    /// How the domain is called.
    pub name: DomainName,
}

impl Contact {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.domain.0);
        out.put_u8(match self.relation {
            Relation::Parent => 1,
            Relation::Child => 2,
        });
        out.put_u8(u8::from(self.coordinates));
        put_host(out, self.control);
        out.put_slice(&self.lowest.0);
        self.name.put(out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let domain = DomainId(reader.array("domain of a contact")?);
        let offset = reader.offset();
        let relation = match reader.u8("relation of a domain")? {
            1 => Relation::Parent,
            2 => Relation::Child,
            _ => {
                let kind = DecodeErrorKind::Code;
                return Err(DecodeError { what: "relation of a domain", offset, kind });
            }
        };
        let coordinates = reader.flags("flags of a contact", 1)? != 0;
        let control = reader.host()?;
        let lowest = ServerId(reader.array("lowest id")?);
        Ok(Self {
            domain,
            relation,
            coordinates,
            control,
            lowest,
            name: DomainName::read(reader, "name of a domain")?,
        })
    }
}
