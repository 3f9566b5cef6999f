//! Words of people, as they came: whoever shows them sees nothing but words.

use std::fmt;
use std::sync::Arc;

use bytes::BufMut;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::octets::Reader;

/// At most `MAX` bytes of text. What a network sends need not be text: it is kept as it is, so that its checksum holds,
/// and cleaned where it is shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize>(Arc<[u8]>);

/// Why words are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// There are none.
    Empty,
    /// They are longer than the most, both in bytes.
    Long(usize, usize),
    /// There is a character that is none to read.
    Character(char),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there are no words in it"),
            Self::Long(len, max) => write!(f, "it is {len} bytes long, and {max} is the most"),
            Self::Character(it) => {
                write!(f, "U+{:04X} is a control character: leave it out", u32::from(*it))
            }
        }
    }
}

impl<const MAX: usize> Text<MAX> {
    /// Words of our own, without the white space around them.
    ///
    /// # Errors
    /// No words, too many, or a character that would be none to read: see [`TextError`].
    pub fn new(words: &str) -> Result<Self, TextError> {
        let words = words.trim();
        if words.is_empty() {
            return Err(TextError::Empty);
        }
        if words.len() > MAX {
            return Err(TextError::Long(words.len(), MAX));
        }
        match words.chars().find(|it| is_hidden(*it)) {
            Some(it) => Err(TextError::Character(it)),
            None => Ok(Self(words.as_bytes().into())),
        }
    }

    /// Words of our own, cleaned, and cut where there are too many.
    #[must_use]
    pub fn cut(words: &str) -> Self {
        let words = clean(words.trim());
        let mut len = words.len().min(MAX);
        while !words.is_char_boundary(len) {
            len -= 1;
        }
        Self(words.as_bytes().get(..len).unwrap_or_default().into())
    }

    /// As they come from elsewhere, whatever they are; `None` if there are more than `MAX`.
    #[must_use]
    pub fn received(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= MAX).then(|| Self(bytes.into()))
    }

    /// The bytes, as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u16(u16::try_from(self.0.len()).unwrap_or(u16::MAX));
        out.put_slice(&self.0);
    }

    pub(crate) fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let len = usize::from(reader.u16(what)?);
        if len > MAX {
            return Err(DecodeError { what, offset, kind: DecodeErrorKind::Length });
        }
        Ok(Self(reader.take(what, len)?.into()))
    }
}

/// Whether a terminal would do something else than show it: control characters, those that turn the direction of writing
/// (Unicode UAX 9 § 2), those that break lines, and those that are not seen at all.
fn is_hidden(it: char) -> bool {
    it.is_control()
        || matches!(
            it,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

fn clean(words: &str) -> String {
    words.chars().map(|it| if is_hidden(it) { char::REPLACEMENT_CHARACTER } else { it }).collect()
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    /// Cleaned: what is no text, and what a terminal would not just show, is U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&clean(&String::from_utf8_lossy(&self.0)))
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
