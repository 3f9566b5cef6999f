//! A message of a further domain: a server is a member of one domain whose addresses it coordinates, and may be one of
//! others (R004.27: the list of domains).
//!
//! ```text
//! 0-15 domain | 16 kind of the message | 17.. its payload
//! ```

use bytes::BufMut;

use crate::control::Message;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::DomainId;
use crate::octets::Reader;

/// Bytes before the message's own payload.
pub const FURTHER_HEADER_LEN: usize = 17;

/// 32: what follows is said in that domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Further {
    /// Which one.
    pub domain: DomainId,
    /// What is said: of membership or records ([`Message::is_of_domain`]); anything else is refused.
    pub message: Box<Message>,
}

impl Further {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.domain.0);
        out.put_u8(self.message.kind());
        self.message.put(out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let domain = DomainId(reader.array("further domain")?);
        let offset = reader.offset();
        let (what, wrong) = ("kind of a further domain's message", DecodeErrorKind::Value);
        let kind = reader.u8(what)?;
        // Before it is read: or one in another in another would be.
        if !matches!(kind, 7 | 10..=16) {
            return Err(DecodeError { what, offset, kind: wrong });
        }
        Ok(Self { domain, message: Box::new(Message::read(kind, offset, reader)?) })
    }
}
