//! What a holder says about an address it defends: what a frozen packet cannot say (Y3, Y4).
//!
//! Payload of the control envelope, network byte order:
//!
//! ```text
//! 0-3 group address | 4-7 MTFTP server | 8-15 stamp, ms | 16-31 stamp, committer | 32 state | 33 flags: 1 in use, 2 an answer
//! 34-41 nonce | 42 n | 43.. file, n bytes
//! ```

use bytes::BufMut;

use crate::configure::{put_stamp, read_multicast, read_stamp};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{Content, GroupAddr, Stamp};
use crate::octets::{Reader, put_name};

/// In which state the holder has the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// 1: committed: recording, configuring or held.
    Committed,
    /// 2: not handed out any more, but still served.
    Draining,
    /// 3: released, and not to be used again yet.
    Resting,
}

impl HoldState {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Committed => 1,
            Self::Draining => 2,
            Self::Resting => 3,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        match reader.u8("state")? {
            1 => Ok(Self::Committed),
            2 => Ok(Self::Draining),
            3 => Ok(Self::Resting),
            _ => Err(DecodeError { what: "state", offset, kind: DecodeErrorKind::Code }),
        }
    }
}

/// A holder's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The address.
    pub group: GroupAddr,
    /// What it carries.
    pub content: Content,
    /// When the claim was committed.
    pub stamp: Stamp,
    /// In which state.
    pub state: HoldState,
    /// Whether a session ran or an answer went out in the last 300 s.
    pub in_use: bool,
    /// Whether it answers a statement; an answer is not answered again.
    pub is_answer: bool,
    /// Drawn anew for each statement; an answer repeats it.
    pub nonce: u64,
}

impl Hold {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.group.ip().to_bits());
        out.put_u32(self.content.server.to_bits());
        put_stamp(out, self.stamp);
        out.put_u8(self.state.code());
        out.put_u8(u8::from(self.in_use) | u8::from(self.is_answer) << 1);
        out.put_u64(self.nonce);
        put_name(out, &self.content.file);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let group = read_multicast(reader)?;
        let server = reader.unicast("MTFTP server")?;
        let stamp = read_stamp(reader)?;
        let state = HoldState::read(reader)?;
        let offset = reader.offset();
        let flags = reader.u8("flags of a hold")?;
        if flags > 3 {
            return Err(DecodeError { what: "flags of a hold", offset, kind: DecodeErrorKind::Value });
        }
        let (in_use, is_answer) = (flags & 1 != 0, flags & 2 != 0);
        let nonce = reader.u64("nonce")?;
        let file = reader.name("file")?;
        Ok(Self { group, content: Content { server, file }, stamp, state, in_use, is_answer, nonce })
    }
}
