//! What can be wrong with a datagram.

use thiserror::Error;

/// Why bytes are not the message they should be. `Copy` and free of allocation: hostile input must be cheap.
/// Decoding has no state, so none changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{what} at byte {offset}: {kind}")]
pub struct DecodeError {
    /// The field that was being read.
    pub what: &'static str,
    /// Bytes from the start of the datagram.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

/// The kinds of [`DecodeError`]; the daemons count drops by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum DecodeErrorKind {
    /// The datagram ends inside the field.
    #[error("truncated")]
    Truncated,
    /// Bytes follow the end of the message.
    #[error("trailing bytes")]
    Trailing,
    /// A length field contradicts the datagram.
    #[error("length does not match")]
    Length,
    /// An opcode, kind, magic or version that is not ours.
    #[error("unknown code")]
    Code,
    /// A value outside its range.
    #[error("value out of range")]
    Value,
    /// An address that is not of the class the field wants.
    #[error("address of the wrong class")]
    Address,
    /// A text with a NUL, empty, or not ended.
    #[error("malformed text")]
    Text,
}

impl DecodeErrorKind {
    /// The name of the counter under which such drops are shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Trailing => "trailing",
            Self::Length => "length",
            Self::Code => "code",
            Self::Value => "value",
            Self::Address => "address",
            Self::Text => "text",
        }
    }
}

/// Why a message cannot be written. Encoding has no state, so none changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// It is too large.
    #[error("{what} does not fit: {size} bytes, at most {size_max}")]
    Size {
        /// The field or message that is too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most that fits, in bytes.
        size_max: usize,
    },
    /// Whoever gets it would drop it.
    #[error("nobody would take it: {0}")]
    Refused(DecodeError),
}
