//! How records travel (R004.8–R004.10, R004.30).
//!
//! ```text
//! flood:     0 flags: 1 an acknowledgement is wanted | 1 n | 2.. records, n of them
//! flood ack: 0 n | 1.. n times: 0-24 UID | 25-32 SNUM | 33 flags: 1 it was useful
//! sync list: 0 flags: 1 yours is wanted | 1-25 first UID | 26-50 last UID | 51 n | 52.. n times: 0-24 UID | 25-32 SNUM |
//!            33-34 age, s
//! ```

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::octets::Reader;
use crate::record::{Age, Record, Snum, Uid, count_octet, read_count, read_flags};

/// Most entries of a [`SyncList`]: they fill a datagram.
pub const SYNC_ENTRIES_MAX: usize = 36;
/// Most entries of a [`FloodAck`].
pub const FLOOD_ACKS_MAX: usize = 36;
/// Bytes of records that one [`Flood`] carries at most.
pub const FLOOD_LEN_MAX: usize = 1300;

/// 15: records, each passed on once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flood {
    /// Whether the receiver shall say what it made of them; never by multicast.
    pub wants_ack: bool,
    /// The records.
    pub records: Vec<Record>,
}

/// What the receiver of a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// Which record.
    pub uid: Uid,
    /// Which version.
    pub snum: Snum,
    /// Whether it was news (R004.30).
    pub useful: bool,
}

/// 16: a neighbour has these records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloodAck {
    /// Which.
    pub acked: Vec<Acked>,
}

/// One line of a [`SyncList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncEntry {
    /// Which record.
    pub uid: Uid,
    /// Which version.
    pub snum: Snum,
    /// How old.
    pub age: Age,
}

/// 14: all that the sender has from one UID to another, in order. What the receiver has besides, or newer, it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncList {
    /// Whether the receiver shall send its own list of that stretch.
    pub wants_list: bool,
    /// Where the stretch begins.
    pub first: Uid,
    /// Where it ends, itself included.
    pub last: Uid,
    /// What the sender has there.
    pub entries: Vec<SyncEntry>,
}

impl Flood {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.wants_ack));
        out.put_u8(count_octet(self.records.len()));
        self.records.iter().for_each(|record| record.put(out));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wants_ack = read_flags(reader, 1)? != 0;
        let count = read_count(reader, "records", usize::from(u8::MAX))?;
        let records = (0..count).map(|_| Record::read(reader));
        Ok(Self { wants_ack, records: records.collect::<Result<_, DecodeError>>()? })
    }
}

impl FloodAck {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(count_octet(self.acked.len()));
        for acked in &self.acked {
            acked.uid.put(out);
            acked.snum.put(out);
            out.put_u8(u8::from(acked.useful));
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = read_count(reader, "acknowledged records", FLOOD_ACKS_MAX)?;
        let acked = |reader: &mut Reader<'_>| {
            let (uid, snum) = (Uid::read(reader)?, Snum::read(reader)?);
            Ok(Acked { uid, snum, useful: read_flags(reader, 1)? != 0 })
        };
        Ok(Self { acked: (0..count).map(|_| acked(reader)).collect::<Result<_, DecodeError>>()? })
    }
}

impl SyncList {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.wants_list));
        self.first.put(out);
        self.last.put(out);
        out.put_u8(count_octet(self.entries.len()));
        for entry in &self.entries {
            entry.uid.put(out);
            entry.snum.put(out);
            out.put_u16(entry.age.0);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wants_list = read_flags(reader, 1)? != 0;
        let offset = reader.offset();
        let (first, last) = (Uid::read(reader)?, Uid::read(reader)?);
        let wrong = |what| DecodeError { what, offset, kind: DecodeErrorKind::Value };
        if first > last {
            return Err(wrong("stretch of a sync list"));
        }
        let count = read_count(reader, "entries of a sync list", SYNC_ENTRIES_MAX)?;
        let entry = |reader: &mut Reader<'_>| {
            let (uid, snum) = (Uid::read(reader)?, Snum::read(reader)?);
            Ok(SyncEntry { uid, snum, age: Age(reader.u16("age")?) })
        };
        let entries: Vec<SyncEntry> =
            (0..count).map(|_| entry(reader)).collect::<Result<_, DecodeError>>()?;
        let in_order = entries.windows(2).all(|pair| match pair {
            [before, after] => before.uid < after.uid,
            _ => true,
        });
        if !in_order || entries.iter().any(|entry| entry.uid < first || entry.uid > last) {
            return Err(wrong("order of a sync list"));
        }
        Ok(Self { wants_list, first, last, entries })
    }
}
