//! An address of another boot server's slice is asked for: nobody else may allow it (G5).
//! Written as the question for a [clear](crate::clear) and its answer.

use crate::clear::{put_answer, put_ask, read_answer, read_ask};
use crate::error::DecodeError;
use crate::ids::{Content, GroupAddr};
use crate::octets::Reader;

/// 19: will you lend us that address of your slice, for this content?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoanAsk {
    /// The address.
    pub group: GroupAddr,
    /// What it shall carry.
    pub content: Content,
    /// Drawn anew for each attempt; the answer repeats it.
    pub nonce: u64,
}

/// What the owner of the slice says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoanVerdict {
    /// 1: it is lent, and the owner has stored that.
    Lent,
    /// 2: it is in use, or rests, or is lent to somebody else, or it is not the owner's to lend.
    Refused,
}

/// 20: the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoanAnswer {
    /// The address that was asked for.
    pub group: GroupAddr,
    /// The nonce of the question.
    pub nonce: u64,
    /// What the owner says.
    pub verdict: LoanVerdict,
}

impl LoanAsk {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_ask(out, self.group, &self.content, self.nonce);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (group, content, nonce) = read_ask(reader)?;
        Ok(Self { group, content, nonce })
    }
}

impl LoanAnswer {
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_answer(out, self.group, self.nonce, self.verdict == LoanVerdict::Lent);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (group, nonce, lent) = read_answer(reader)?;
        let verdict = if lent { LoanVerdict::Lent } else { LoanVerdict::Refused };
        Ok(Self { group, nonce, verdict })
    }
}
