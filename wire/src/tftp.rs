//! TFTP (RFC 1350) with options (RFC 2347–2349, 7440, 2090, and `rollover`, which no RFC knows), and PXE-MTFTP, which uses the same packets (PXE 2.1
//! § 2.4.10).
//!
//! ```text
//! 0-1 opcode | 1 RRQ, 2 WRQ: name NUL mode NUL { option NUL value NUL }…   | 3 DATA: 2-3 block, 4.. bytes
//!            | 4 ACK: 2-3 block | 5 ERROR: 2-3 code, 4.. text NUL          | 6 OACK: { option NUL value NUL }…
//! ```

mod multicast;

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::octets::Reader;

pub use multicast::MulticastAnswer;

/// Bytes before the data of a DATA packet.
pub const DATA_HEADER_LEN: usize = 4;
/// Block size without the option, and of PXE-MTFTP always, in bytes.
pub const BLOCK_SIZE_DEFAULT: u16 = 512;
/// Largest block that is not fragmented at an MTU of 1500, in bytes.
pub const BLOCK_SIZE_UNFRAGMENTED: u16 = 1468;
/// Longest request, in bytes (RFC 2347).
pub const REQUEST_LEN_MAX: usize = 512;
/// Largest file that PXE-MTFTP carries, in bytes: 65,535 blocks of 512, the last one short.
pub const MTFTP_FILE_SIZE_MAX: u64 = 33_553_919;
/// Blocks of a multicast transfer, whose numbers do not roll over: nobody who joins late could tell them apart.
pub const MULTICAST_BLOCKS_MAX: u64 = 65_535;
/// UDP port on which clients of RFC 2090 listen, *tftp-mcast*.
pub const MULTICAST_PORT: u16 = 1758;

/// How many blocks a file has: the last one is short, and may be empty (RFC 1350).
#[must_use]
pub const fn block_count(size: u64, block_size: u16) -> u64 {
    size / block_size as u64 + 1
}

/// The largest file of a multicast transfer with such blocks, in bytes: the last block must be short.
#[must_use]
pub const fn multicast_file_size_max(block_size: u16) -> u64 {
    MULTICAST_BLOCKS_MAX * block_size as u64 - 1
}

const _: () = assert!(multicast_file_size_max(BLOCK_SIZE_DEFAULT) == MTFTP_FILE_SIZE_MAX);

/// Mode of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes as they are.
    Octet,
    /// Anything else: netascii, mail. We serve octet only.
    Other,
}

/// What follows block number 65,535: no RFC says it. Most clients count on to 0; some, and `tftpd` of tftp-hpa when asked
/// to, to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rollover {
    /// 0.
    #[default]
    Zero,
    /// 1: no block but an ACK before the first has number 0.
    One,
}

impl Rollover {
    /// The block number that follows 65,535.
    #[must_use]
    pub const fn value(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
        }
    }

    /// The same from its value, if we know it.
    #[must_use]
    pub const fn from_value(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Zero),
            1 => Some(Self::One),
            _ => None,
        }
    }

    /// The number on the wire of a block of the file, counted from 1; 0 for the ACK before the first.
    #[must_use]
    pub fn number(self, block: u64) -> u16 {
        let number = match self {
            Self::Zero => block & 0xffff,
            Self::One => block.checked_sub(1).map_or(0, |before| before % 0xffff + 1),
        };
        u16::try_from(number).unwrap_or(0)
    }
}

/// The options we know; unknown ones, and known ones with a value outside its range, are as if absent (RFC 2347).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `blksize`, 8–65464 (RFC 2348).
    pub block_size: Option<u16>,
    /// `tsize`, bytes (RFC 2349).
    pub transfer_size: Option<u64>,
    /// `timeout`, 1–255 s (RFC 2349).
    pub timeout_seconds: Option<u8>,
    /// `windowsize`, 1–65535 (RFC 7440).
    pub window_size: Option<u16>,
    /// `rollover`, 0 or 1 (tftp-hpa).
    pub rollover: Option<Rollover>,
    /// `multicast`: empty in a request, [`MulticastAnswer`] in an answer (RFC 2090).
    pub multicast: Option<String>,
}

/// RRQ or WRQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The file name as sent, without its NUL; never empty.
    pub name: Vec<u8>,
    /// The mode.
    pub mode: Mode,
    /// The options.
    pub options: Options,
}

/// Error codes of RFC 1350 and 2347.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// See the message.
    pub const NOT_DEFINED: Self = Self(0);
    /// File not found.
    pub const NOT_FOUND: Self = Self(1);
    /// Access violation.
    pub const ACCESS: Self = Self(2);
    /// Illegal operation.
    pub const ILLEGAL: Self = Self(4);
    /// Unknown transfer.
    pub const UNKNOWN_TRANSFER: Self = Self(5);
    /// Option negotiation ended the transfer; clients end a size probe with it.
    pub const OPTIONS: Self = Self(8);
}

/// Any TFTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Read request; in PXE-MTFTP the *open*.
    Read(Request),
    /// Write request: nobody here takes one.
    Write(Request),
    /// A block. Block numbers begin at 1.
    Data {
        /// Its number.
        block: u16,
        /// Its bytes; fewer than the block size end the file.
        bytes: &'a [u8],
    },
    /// Acknowledges a block (and all before it).
    Ack(u16),
    /// Ends a transfer.
    Error {
        /// Why.
        code: ErrorCode,
        /// Why, in words; no NUL.
        message: &'a [u8],
    },
    /// The options the server takes.
    OptionAck(Options),
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// The first field that is wrong. A request over 512 bytes is wrong, an ACK with bytes after it too; an ERROR
    /// whose text has no NUL is accepted, because clients in the field send such. What follows the NUL of an ERROR,
    /// and NULs behind the last option, are ignored; of an option that stands twice the last counts.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let packet = match reader.u16("opcode")? {
            1 => Self::Read(Request::read(bytes.len(), &mut reader)?),
            2 => Self::Write(Request::read(bytes.len(), &mut reader)?),
            3 => Self::Data { block: reader.u16("block")?, bytes: reader.remainder() },
            4 => Self::Ack(reader.u16("block")?),
            5 => {
                let code = ErrorCode(reader.u16("error code")?);
                let text = reader.remainder();
                Self::Error { code, message: text.split(|&byte| byte == 0).next().unwrap_or_default() }
            }
            6 => Self::OptionAck(Options::read(&mut reader)?),
            _ => return Err(DecodeError { what: "opcode", offset: 0, kind: DecodeErrorKind::Code }),
        };
        reader.finish("packet")?;
        Ok(packet)
    }

    /// Writes the packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Read(request) => request.put(1, &mut out),
            Self::Write(request) => request.put(2, &mut out),
            Self::Data { block, bytes } => {
                out.put_slice(&data_header(*block));
                out.put_slice(bytes);
            }
            Self::Ack(block) => {
                out.put_u16(4);
                out.put_u16(*block);
            }
            Self::Error { code, message } => {
                out.put_u16(5);
                out.put_u16(code.0);
                out.put_slice(message);
                out.put_u8(0);
            }
            Self::OptionAck(options) => {
                out.put_u16(6);
                options.put(&mut out);
            }
        }
        out
    }
}

/// The first bytes of a DATA packet; the shell puts the file's bytes behind them.
#[must_use]
pub const fn data_header(block: u16) -> [u8; DATA_HEADER_LEN] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

impl Request {
    fn read(packet_len: usize, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if packet_len > REQUEST_LEN_MAX {
            return Err(reader.error("request", DecodeErrorKind::Length));
        }
        let offset = reader.offset();
        let name = reader.text("file name")?.to_vec();
        if name.is_empty() {
            return Err(DecodeError { what: "file name", offset, kind: DecodeErrorKind::Text });
        }
        let mode = reader.text("mode")?;
        let mode = if mode.eq_ignore_ascii_case(b"octet") { Mode::Octet } else { Mode::Other };
        Ok(Self { name, mode, options: Options::read(reader)? })
    }

    fn put(&self, opcode: u16, out: &mut Vec<u8>) {
        out.put_u16(opcode);
        out.put_slice(&self.name);
        out.put_u8(0);
        out.put_slice(match self.mode {
            Mode::Octet => b"octet\0".as_slice(),
            Mode::Other => b"netascii\0",
        });
        self.options.put(out);
    }
}

impl Options {
    /// Whether no option is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// NULs may fill the packet up: nothing forbids it, and servers of RFC 1350 never looked there.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut options = Self::default();
        while reader.rest_len() > 0 {
            let name = reader.text("option name")?.to_ascii_lowercase();
            if name.is_empty() {
                return reader.only_nuls("padding").map(|()| options);
            }
            let value = reader.text("option value")?;
            match name.as_slice() {
                b"blksize" => options.block_size = number(value).filter(|size| (8..=65464).contains(size)),
                b"tsize" => options.transfer_size = number(value),
                b"timeout" => options.timeout_seconds = number(value).filter(|&seconds| seconds > 0),
                b"windowsize" => options.window_size = number(value).filter(|&blocks| blocks > 0),
                b"rollover" => options.rollover = number(value).and_then(Rollover::from_value),
                b"multicast" => {
                    options.multicast = std::str::from_utf8(value).ok().map(str::to_owned);
                }
                _ => {}
            }
        }
        Ok(options)
    }

    fn put(&self, out: &mut Vec<u8>) {
        let mut put = |name: &str, value: String| {
            out.put_slice(name.as_bytes());
            out.put_u8(0);
            out.put_slice(value.as_bytes());
            out.put_u8(0);
        };
        if let Some(size) = self.block_size {
            put("blksize", size.to_string());
        }
        if let Some(size) = self.transfer_size {
            put("tsize", size.to_string());
        }
        if let Some(seconds) = self.timeout_seconds {
            put("timeout", seconds.to_string());
        }
        if let Some(blocks) = self.window_size {
            put("windowsize", blocks.to_string());
        }
        if let Some(rollover) = self.rollover {
            put("rollover", rollover.value().to_string());
        }
        if let Some(value) = &self.multicast {
            put("multicast", value.clone());
        }
    }
}

/// A decimal number without sign or blanks.
fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}
