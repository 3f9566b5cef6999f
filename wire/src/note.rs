//! A note: words for whoever looks after the domain, flooded as a record that lives for minutes (source 004, 0102 and
//! 0105: a short-lived object of the flooding).

use std::fmt;

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::octets::Reader;
use crate::text::Text;

/// Longest name of an author, in bytes.
pub const AUTHOR_MAX: usize = 64;
/// Longest note, in bytes.
pub const NOTE_MAX: usize = 400;

/// The name that somebody goes by.
pub type Author = Text<AUTHOR_MAX>;
/// What a note says.
pub type Words = Text<NOTE_MAX>;

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// 0: whatever an operator says.
    Operator,
    /// 1: a server has come.
    Joined,
    /// 2: a server has left of its own will.
    Left,
    /// 3: servers have vanished.
    Partition,
    /// 4: they are all there again.
    Healed,
    /// 5: another server answers clients in place of one that was silent.
    Takeover,
    /// 6: two servers wanted one address.
    Conflict,
    /// 7: clients get their files in another way than by multicast.
    FallBack,
    /// 8: an author goes by another name.
    Renamed,
    /// 9: a domain was made, or has gone.
    Domain,
}

impl About {
    /// In order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Operator,
        Self::Joined,
        Self::Left,
        Self::Partition,
        Self::Healed,
        Self::Takeover,
        Self::Conflict,
        Self::FallBack,
        Self::Renamed,
        Self::Domain,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Operator => 0,
            Self::Joined => 1,
            Self::Left => 2,
            Self::Partition => 3,
            Self::Healed => 4,
            Self::Takeover => 5,
            Self::Conflict => 6,
            Self::FallBack => 7,
            Self::Renamed => 8,
            Self::Domain => 9,
        }
    }

    /// In one word, as operators are shown it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Partition => "partition",
            Self::Healed => "healed",
            Self::Takeover => "takeover",
            Self::Conflict => "conflict",
            Self::FallBack => "fall-back",
            Self::Renamed => "renamed",
            Self::Domain => "domain",
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What somebody says to the whole domain. How long it is to be read is the life of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When it was written, by the author's clock: milliseconds since 1970.
    pub written: u64,
    /// What it is about.
    pub about: About,
    /// The name that the author went by then.
    pub author: Author,
    /// What it says.
    pub words: Words,
}

impl Note {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.written);
        out.put_u8(self.about.code());
        self.author.put(out);
        self.words.put(out);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let written = reader.u64("time of a note")?;
        let offset = reader.offset();
        let code = reader.u8("what a note is about")?;
        let about = About::ALL.into_iter().find(|it| it.code() == code).ok_or(DecodeError {
            what: "what a note is about",
            offset,
            kind: DecodeErrorKind::Code,
        })?;
        let author = Author::read(reader, "author of a note")?;
        Ok(Self { written, about, author, words: Words::read(reader, "words of a note")? })
    }
}
