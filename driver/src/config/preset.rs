//! How soon a domain notices that it is cut in two: the same choice in both daemons.

use super::{Written, suggest};

/// Spans of the lowest-id record (R004.25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// One link or a few.
    Lan,
    /// As the source of the algorithm has it.
    Wan,
}

impl Written for Preset {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "lan" => Ok(Self::Lan),
            "wan" => Ok(Self::Wan),
            _ => Err(format!("unknown preset `{text}`; {}", suggest(text, &["lan", "wan"]))),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
        }
        .to_owned()
    }
}
