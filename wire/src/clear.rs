//! An address is asked for by word, beside the query: whoever has nothing against it says so, and nobody has to wait for
//! silence (races.md T11).
//!
//! ```text
//! ask:    0-3 group address | 4-7 MTFTP server | 8-15 nonce | 16 n | 17.. file, n bytes
//! answer: 0-3 group address | 4-11 nonce | 12 verdict
//! ```

use bytes::BufMut;

use crate::configure::read_multicast;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::{Content, GroupAddr};
use crate::octets::{Reader, put_name};

/// 17: may we have the address for this content?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearAsk {
    /// The address.
    pub group: GroupAddr,
    /// What it shall carry.
    pub content: Content,
    /// Drawn anew for each attempt; an answer repeats it.
    pub nonce: u64,
}

/// What somebody has against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearVerdict {
    /// 1: nothing, and what it asked for itself it has given up.
    Clear,
    /// 2: the address is its own, or it asks for it with the better right (Y1).
    Taken,
}

/// 18: the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClearAnswer {
    /// The address that was asked for.
    pub group: GroupAddr,
    /// The nonce of the question.
    pub nonce: u64,
    /// What it has against it.
    pub verdict: ClearVerdict,
}

impl ClearAsk {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_ask(out, self.group, &self.content, self.nonce);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (group, content, nonce) = read_ask(reader)?;
        Ok(Self { group, content, nonce })
    }
}

/// An address, what for, and the nonce: every question by word is that.
pub(crate) fn put_ask(out: &mut Vec<u8>, group: GroupAddr, content: &Content, nonce: u64) {
    out.put_u32(group.ip().to_bits());
    out.put_u32(content.server.to_bits());
    out.put_u64(nonce);
    put_name(out, &content.file);
}

pub(crate) fn read_ask(reader: &mut Reader<'_>) -> Result<(GroupAddr, Content, u64), DecodeError> {
    let group = read_multicast(reader)?;
    let server = reader.unicast("MTFTP server")?;
    let nonce = reader.u64("nonce")?;
    let file = reader.name("file")?;
    Ok((group, Content { server, file }, nonce))
}

/// And every answer the address, the nonce, and yes or no.
pub(crate) fn put_answer(out: &mut Vec<u8>, group: GroupAddr, nonce: u64, yes: bool) {
    out.put_u32(group.ip().to_bits());
    out.put_u64(nonce);
    out.put_u8(if yes { 1 } else { 2 });
}

pub(crate) fn read_answer(reader: &mut Reader<'_>) -> Result<(GroupAddr, u64, bool), DecodeError> {
    let group = read_multicast(reader)?;
    let nonce = reader.u64("nonce")?;
    let offset = reader.offset();
    match reader.u8("verdict")? {
        1 => Ok((group, nonce, true)),
        2 => Ok((group, nonce, false)),
        _ => Err(DecodeError { what: "verdict", offset, kind: DecodeErrorKind::Code }),
    }
}

impl ClearAnswer {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_answer(out, self.group, self.nonce, self.verdict == ClearVerdict::Clear);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (group, nonce, clear) = read_answer(reader)?;
        let verdict = if clear { ClearVerdict::Clear } else { ClearVerdict::Taken };
        Ok(Self { group, nonce, verdict })
    }
}
