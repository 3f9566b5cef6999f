//! How an MTFTP server treats the clients of a multicast transfer: what a boot item says of it, as part of a configure.
//!
//! ```text
//! 0 slow clients (0 keep, 1 drop to unicast, 2 second stream) | 1 silences | 2-5 least rate, bytes/s
//! 6-7 clients to wait for | 8-9 the longest wait, s
//! ```

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::octets::Reader;

/// What becomes of a client that keeps others waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowClients {
    /// 0: the others wait for it.
    #[default]
    Keep,
    /// 1: it gets the rest of the file by unicast, at its own pace.
    DropToUnicast,
    /// 2: it only listens until the others have the file; then the slow ones share what they still lack.
    SecondStream,
}

impl SlowClients {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Keep, Self::DropToUnicast, Self::SecondStream];

    /// As it is written in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::DropToUnicast => "drop-to-unicast",
            Self::SecondStream => "second-stream",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Keep => 0,
            Self::DropToUnicast => 1,
            Self::SecondStream => 2,
        }
    }
}

/// When a transfer begins, and who is slow in it. The default begins at once and finds nobody slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// What becomes of slow clients.
    pub slow: SlowClients,
    /// Slow is who left so many blocks in a row without an ACK in time; 0: nobody is for that.
    pub silences: u8,
    /// Slow is who takes fewer bytes a second while it sets the pace; 0: nobody is for that.
    pub rate_min: u32,
    /// The first block waits for so many clients; 0 and 1: for nobody.
    pub start_clients: u16,
    /// But for so many seconds at most.
    pub start_within_s: u16,
}

impl Policy {
    /// Bytes of it in a configure.
    pub const LEN: usize = 10;

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.put_u8(self.slow.code());
        out.put_u8(self.silences);
        out.put_u32(self.rate_min);
        out.put_u16(self.start_clients);
        out.put_u16(self.start_within_s);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let code = reader.u8("slow clients")?;
        let slow = SlowClients::ALL.into_iter().find(|slow| slow.code() == code);
        let refused = DecodeError { what: "slow clients", offset, kind: DecodeErrorKind::Code };
        Ok(Self {
            slow: slow.ok_or(refused)?,
            silences: reader.u8("silences")?,
            rate_min: reader.u32("least rate")?,
            start_clients: reader.u16("clients to wait for")?,
            start_within_s: reader.u16("longest wait")?,
        })
    }
}
