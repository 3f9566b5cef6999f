//! The control envelope: everything servers say to each other beside the frozen query and echo.
//!
//! ```text
//!  0-3 "PXMC" | 4 version, 1 | 5 kind | 6-7 flags, 0 | 8-23 sender id | 24-27 boot epoch | 28-31 key epoch, 0
//! 32-39 sequence | 40-41 payload length m | 42.. payload, m bytes
//! ```
//! All fields in network byte order. Key epoch 0 means *unsigned*; a signed envelope has its tag after the
//! payload and is refused by servers that do not know it.

use bytes::BufMut;

use crate::clear::{ClearAnswer, ClearAsk};
use crate::configure::{Ack, Configure, Delete, DeleteForDead, Nak, Superseded};
use crate::elect::{Declare, Inquiry, Revoke};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::flood::{Flood, FloodAck, SyncList};
use crate::further::{FURTHER_HEADER_LEN, Further};
use crate::hello::Hello;
use crate::hold::Hold;
use crate::ids::{BootEpoch, ServerId};
use crate::loan::{LoanAnswer, LoanAsk};
use crate::membership::{Connect, Disconnect, Refuse, Welcome};
use crate::octets::Reader;
use crate::told::Told;

/// First bytes of every envelope.
pub const MAGIC: [u8; 4] = *b"PXMC";
/// The only version there is.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 42;
/// Room that most messages need, in bytes.
const ROOM: usize = 128;
/// Longest envelope we send or accept, in bytes: one Ethernet frame.
pub const PACKET_LEN_MAX: usize = 1400;
/// Longest tag that a signature will put behind the payload, in bytes.
pub const TAG_LEN_MAX: usize = 64;
/// Longest payload we send, in bytes: there is room for a signature, and for the name of a further domain.
pub const PAYLOAD_LEN_MAX: usize = PACKET_LEN_MAX - HEADER_LEN - TAG_LEN_MAX - FURTHER_HEADER_LEN;

/// One message between servers, with who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent it: references are keyed by this, never by address.
    pub sender: ServerId,
    /// The sender's boot epoch.
    pub boot_epoch: BootEpoch,
    /// Rises by one with every envelope of this sender in this boot epoch.
    pub sequence: u64,
    /// What it says.
    pub message: Message,
}

/// The kinds of message, with their code on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// 1: BINLD → MTFTP server.
    Configure(Configure),
    /// 2: MTFTP server → BINLD.
    Ack(Ack),
    /// 3: MTFTP server → BINLD.
    Nak(Nak),
    /// 4: BINLD → MTFTP server.
    Delete(Delete),
    /// 5: MTFTP server → BINLD.
    Superseded(Superseded),
    /// 6: any holder → whoever asks for or claims the same address.
    Hold(Hold),
    /// 7: every server → the group, again and again.
    Hello(Hello),
    /// 9: living BINLD → MTFTP server.
    DeleteForDead(DeleteForDead),
    /// 10: any server → another.
    Connect(Connect),
    /// 11: its answer.
    Welcome(Welcome),
    /// 12: its answer.
    Refuse(Refuse),
    /// 13: a neighbour that leaves → another.
    Disconnect(Disconnect),
    /// 14: neighbour → neighbour.
    SyncList(SyncList),
    /// 15: neighbour → neighbour, or the group.
    Flood(Flood),
    /// 16: its answer.
    FloodAck(FloodAck),
    /// 17: a BINLD that clears an address → every server, or one.
    ClearAsk(ClearAsk),
    /// 18: its answer.
    ClearAnswer(ClearAnswer),
    /// 19: BINLD → the one whose slice an address is in.
    LoanAsk(LoanAsk),
    /// 20: its answer.
    LoanAnswer(LoanAnswer),
    /// 21: BINLD → MTFTP server.
    Told(Told),
    /// 22, between boot servers of one link.
    Inquiry(Inquiry),
    /// 23, likewise.
    Declare(Declare),
    /// 24, likewise.
    Revoke(Revoke),
    /// 32: one of membership or records, of a further domain.
    Further(Further),
}

impl Message {
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Configure(_) => 1,
            Self::Ack(_) => 2,
            Self::Nak(_) => 3,
            Self::Delete(_) => 4,
            Self::Superseded(_) => 5,
            Self::Hold(_) => 6,
            Self::Hello(_) => 7,
            Self::DeleteForDead(_) => 9,
            Self::Connect(_) => 10,
            Self::Welcome(_) => 11,
            Self::Refuse(_) => 12,
            Self::Disconnect(_) => 13,
            Self::SyncList(_) => 14,
            Self::Flood(_) => 15,
            Self::FloodAck(_) => 16,
            Self::ClearAsk(_) => 17,
            Self::ClearAnswer(_) => 18,
            Self::LoanAsk(_) => 19,
            Self::LoanAnswer(_) => 20,
            Self::Told(_) => 21,
            Self::Inquiry(_) => 22,
            Self::Declare(_) => 23,
            Self::Revoke(_) => 24,
            Self::Further(_) => 32,
        }
    }

    /// Whether it is about membership or records: for every member, whatever else it does.
    #[must_use]
    pub const fn is_of_domain(&self) -> bool {
        match self {
            Self::Hello(_)
            | Self::Connect(_)
            | Self::Welcome(_)
            | Self::Refuse(_)
            | Self::Disconnect(_)
            | Self::SyncList(_)
            | Self::Flood(_)
            | Self::FloodAck(_) => true,
            Self::Configure(_)
            | Self::Ack(_)
            | Self::Nak(_)
            | Self::Delete(_)
            | Self::DeleteForDead(_)
            | Self::Superseded(_)
            | Self::Hold(_)
            | Self::ClearAsk(_)
            | Self::ClearAnswer(_)
            | Self::LoanAsk(_)
            | Self::LoanAnswer(_)
            | Self::Told(_)
            | Self::Inquiry(_)
            | Self::Declare(_)
            | Self::Revoke(_)
            | Self::Further(_) => false,
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Configure(message) => message.put(out),
            Self::Ack(message) => message.put(out),
            Self::Nak(message) => message.put(out),
            Self::Delete(message) => message.put(out),
            Self::Superseded(message) => message.put(out),
            Self::Hold(message) => message.put(out),
            Self::Hello(message) => message.put(out),
            Self::DeleteForDead(message) => message.put(out),
            Self::Connect(message) => message.put(out),
            Self::Welcome(message) => message.put(out),
            Self::Refuse(message) => message.put(out),
            Self::Disconnect(message) => message.put(out),
            Self::SyncList(message) => message.put(out),
            Self::Flood(message) => message.put(out),
            Self::FloodAck(message) => message.put(out),
            Self::ClearAsk(message) => message.put(out),
            Self::ClearAnswer(message) => message.put(out),
            Self::LoanAsk(message) => message.put(out),
            Self::LoanAnswer(message) => message.put(out),
            Self::Told(message) => message.put(out),
            Self::Inquiry(message) => message.put(out),
            Self::Declare(message) => message.put(out),
            Self::Revoke(message) => message.put(out),
            Self::Further(message) => message.put(out),
        }
    }

    /// `kind` stands at `offset`.
    pub(crate) fn read(kind: u8, offset: usize, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            1 => Self::Configure(Configure::read(reader)?),
            2 => Self::Ack(Ack::read(reader)?),
            3 => Self::Nak(Nak::read(reader)?),
            4 => Self::Delete(Delete::read(reader)?),
            5 => Self::Superseded(Superseded::read(reader)?),
            6 => Self::Hold(Hold::read(reader)?),
            7 => Self::Hello(Hello::read(reader)?),
            9 => Self::DeleteForDead(DeleteForDead::read(reader)?),
            10 => Self::Connect(Connect::read(reader)?),
            11 => Self::Welcome(Welcome::read(reader)?),
            12 => Self::Refuse(Refuse::read(reader)?),
            13 => Self::Disconnect(Disconnect::read(reader)?),
            14 => Self::SyncList(SyncList::read(reader)?),
            15 => Self::Flood(Flood::read(reader)?),
            16 => Self::FloodAck(FloodAck::read(reader)?),
            17 => Self::ClearAsk(ClearAsk::read(reader)?),
            18 => Self::ClearAnswer(ClearAnswer::read(reader)?),
            19 => Self::LoanAsk(LoanAsk::read(reader)?),
            20 => Self::LoanAnswer(LoanAnswer::read(reader)?),
            21 => Self::Told(Told::read(reader)?),
            22 => Self::Inquiry(Inquiry::read(reader)?),
            23 => Self::Declare(Declare::read(reader)?),
            24 => Self::Revoke(Revoke::read(reader)?),
            32 => Self::Further(Further::read(reader)?),
            _ => return Err(DecodeError { what: "message kind", offset, kind: DecodeErrorKind::Code }),
        })
    }
}

impl Envelope {
    /// Writes the datagram, within [`PACKET_LEN_MAX`]: of the messages with lists, each says what it leaves out when
    /// there is too much.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ROOM);
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.message.kind());
        out.put_u16(0);
        out.put_slice(&self.sender.0);
        out.put_u32(self.boot_epoch.0);
        out.put_u32(0);
        out.put_u64(self.sequence);
        // The length, once it is known.
        out.put_u16(0);
        self.message.put(&mut out);
        // No payload is longer than PAYLOAD_LEN_MAX.
        let len = u16::try_from(out.len().saturating_sub(HEADER_LEN)).unwrap_or(u16::MAX);
        if let Some(place) = out.get_mut(HEADER_LEN - 2..HEADER_LEN) {
            place.copy_from_slice(&len.to_be_bytes());
        }
        out
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// The first field that is wrong; a payload that does not fill its length exactly is wrong, and so is a datagram
    /// longer than [`PACKET_LEN_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if bytes.len() > PACKET_LEN_MAX {
            return Err(reader.error("envelope", DecodeErrorKind::Length));
        }
        if reader.array::<4>("magic")? != MAGIC {
            return Err(DecodeError { what: "magic", offset: 0, kind: DecodeErrorKind::Code });
        }
        if reader.u8("version")? != VERSION {
            return Err(DecodeError { what: "version", offset: 4, kind: DecodeErrorKind::Code });
        }
        let kind = reader.u8("message kind")?;
        if reader.u16("flags")? != 0 {
            return Err(DecodeError { what: "flags", offset: 6, kind: DecodeErrorKind::Value });
        }
        let sender = ServerId(reader.array("sender")?);
        let boot_epoch = BootEpoch(reader.u32("boot epoch")?);
        if reader.u32("key epoch")? != 0 {
            return Err(DecodeError { what: "key epoch", offset: 28, kind: DecodeErrorKind::Value });
        }
        let sequence = reader.u64("sequence")?;
        if usize::from(reader.u16("payload length")?) != reader.rest_len() {
            return Err(DecodeError { what: "payload length", offset: 40, kind: DecodeErrorKind::Length });
        }
        let message = Message::read(kind, 5, &mut reader)?;
        reader.finish("payload")?;
        Ok(Self { sender, boot_epoch, sequence, message })
    }
}
