//! How records travel (R004.8–R004.10, R004.30).
//!
//! ```text
//! flood:     0 flags: 1 an acknowledgement is wanted | 1 n | 2.. records, n of them
//! flood ack: 0 flags: 1 lazy | 1 n | 2.. n times: 0-24 UID | 25-32 SNUM | 33 flags: 1 it was useful
//! sync list: 0 flags: 1 yours is wanted | 1-25 first UID | 26-50 last UID | 51 n | 52.. n times: 0-24 UID | 25-32 SNUM |
//!            33-34 age, s
//! ```

use bytes::BufMut;

use crate::control::PAYLOAD_LEN_MAX;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::octets::{Reader, put_list};
use crate::record::{Age, RECORD_HEADER_LEN, Record, Snum, Uid};

/// Most entries of a [`SyncList`]: they fill a datagram.
pub const SYNC_ENTRIES_MAX: usize = 35;
/// Most entries of a [`FloodAck`]: more than one [`Flood`] has records.
pub const FLOOD_ACKS_MAX: usize = 36;
/// Bytes of records that one [`Flood`] carries at most.
pub const FLOOD_LEN_MAX: usize = PAYLOAD_LEN_MAX - 2;

const _: () = assert!(52 + SYNC_ENTRIES_MAX * 35 <= PAYLOAD_LEN_MAX, "a sync list fits a datagram");
const _: () = assert!(FLOOD_ACKS_MAX * 34 < PAYLOAD_LEN_MAX, "an acknowledgement fits a datagram");
const _: () = assert!(FLOOD_LEN_MAX / RECORD_HEADER_LEN <= FLOOD_ACKS_MAX, "one answers a flood");

/// 15: records, each passed on once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flood {
    /// Whether the receiver shall say what it made of them; never by multicast.
    pub wants_ack: bool,
    /// The records, [`FLOOD_LEN_MAX`] bytes together at most: from the first that is over it, they are left out.
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
    /// The link is of little use to the sender: it wants no more records than lists show that it lacks.
    pub lazy: bool,
    /// Which, [`FLOOD_ACKS_MAX`] at most: the others are left out.
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
    /// What the sender has there, in order of UID, each once. If there are more than [`SYNC_ENTRIES_MAX`] the stretch
    /// that is written ends at the last of them.
    pub entries: Vec<SyncEntry>,
}

impl Flood {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.wants_ack));
        let mut count = 0_u8;
        let mut records = Vec::new();
        for record in &self.records {
            let len = records.len();
            record.put(&mut records);
            if records.len() > FLOOD_LEN_MAX {
                records.truncate(len);
                break;
            }
            // A record has more than 55 bytes: there are not 255.
            count = count.saturating_add(1);
        }
        out.put_u8(count);
        out.put_slice(&records);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wants_ack = reader.flags("flags of a flood", 1)? != 0;
        let len = reader.rest_len().saturating_sub(1);
        if len > FLOOD_LEN_MAX {
            return Err(reader.error("records", DecodeErrorKind::Length));
        }
        Ok(Self { wants_ack, records: reader.list("records", usize::from(u8::MAX), Record::read)? })
    }
}

impl FloodAck {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.lazy));
        put_list(out, &self.acked, FLOOD_ACKS_MAX, |acked, out| {
            acked.uid.put(out);
            acked.snum.put(out);
            out.put_u8(u8::from(acked.useful));
        });
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let lazy = reader.flags("flags of a flood ack", 1)? != 0;
        let acked = |reader: &mut Reader<'_>| {
            let (uid, snum) = (Uid::read(reader)?, Snum::read(reader)?);
            Ok(Acked { uid, snum, useful: reader.flags("flags of an acknowledgement", 1)? != 0 })
        };
        Ok(Self { lazy, acked: reader.list("acknowledged records", FLOOD_ACKS_MAX, acked)? })
    }
}

impl SyncList {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.wants_list));
        self.first.put(out);
        match self.entries.get(SYNC_ENTRIES_MAX - 1..) {
            Some([last, _, ..]) => last.uid.put(out),
            _ => self.last.put(out),
        }
        put_list(out, &self.entries, SYNC_ENTRIES_MAX, |entry, out| {
            entry.uid.put(out);
            entry.snum.put(out);
            out.put_u16(entry.age.0);
        });
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wants_list = reader.flags("flags of a sync list", 1)? != 0;
        let offset = reader.offset();
        let (first, last) = (Uid::read(reader)?, Uid::read(reader)?);
        if first > last {
            return Err(DecodeError { what: "stretch of a sync list", offset, kind: DecodeErrorKind::Value });
        }
        let entry = |reader: &mut Reader<'_>| {
            let offset = reader.offset();
            let (uid, snum) = (Uid::read(reader)?, Snum::read(reader)?);
            if uid < first || uid > last {
                return Err(DecodeError {
                    what: "entry of a sync list",
                    offset,
                    kind: DecodeErrorKind::Value,
                });
            }
            Ok(SyncEntry { uid, snum, age: Age(reader.u16("age")?) })
        };
        let offset = reader.offset();
        let entries = reader.list("entries of a sync list", SYNC_ENTRIES_MAX, entry)?;
        if !entries.is_sorted_by(|before, after| before.uid < after.uid) {
            return Err(DecodeError { what: "order of a sync list", offset, kind: DecodeErrorKind::Value });
        }
        Ok(Self { wants_list, first, last, entries })
    }
}
