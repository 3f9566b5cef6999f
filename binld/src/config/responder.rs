//! Which share of the clients this boot server answers, and where it says so.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wire::elect::WEIGHT_MAX;

/// `[responder]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Responder {
    /// How large a share of the clients it answers, beside the others of its link: 1 to 16, or as measured.
    pub weight: Weight,
    /// Where the responders are written as DNS records, for the name server of the site; nowhere by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_file: Option<PathBuf>,
    /// The domain name that they are written below.
    pub zone: String,
}

impl Default for Responder {
    fn default() -> Self {
        Self { weight: Weight::Auto, zone_file: None, zone: "pxe.internal.".to_owned() }
    }
}

/// A share, in relation to those of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum Weight {
    /// By computational power and bandwidth (R001.19, R001.20).
    Auto,
    /// As configured.
    Fixed(u8),
}

impl Weight {
    /// The weight of a host with so many processors and a link of so many Mbit/s. The geometric mean of both, as either may
    /// be what it lacks; a link that does not tell counts as 1 Gbit/s.
    #[must_use]
    pub fn of(self, processors: usize, megabits: Option<u32>) -> u8 {
        if let Self::Fixed(weight) = self {
            return weight;
        }
        let gigabits = f64::from(megabits.unwrap_or(1000)) / 1000.0;
        let processors = f64::from(u32::try_from(processors).unwrap_or(u32::MAX));
        let mean = (processors * gigabits).sqrt();
        (1..WEIGHT_MAX).find(|weight| mean < f64::from(*weight) + 0.5).unwrap_or(WEIGHT_MAX)
    }
}

/// As it may stand in the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Raw {
    Number(i64),
    Text(String),
}

impl TryFrom<Raw> for Weight {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let (read, written) = match raw {
            Raw::Text(text) if text == "auto" => return Ok(Self::Auto),
            Raw::Text(text) => (None, format!("{text:?}")),
            Raw::Number(number) => (u8::try_from(number).ok(), number.to_string()),
        };
        let weight = read.filter(|weight| (1..=WEIGHT_MAX).contains(weight));
        weight.map(Self::Fixed).ok_or_else(|| {
            format!("{written} is no weight; write \"auto\", or 1 to {WEIGHT_MAX}; `binld drain` is for none")
        })
    }
}

impl From<Weight> for Raw {
    fn from(weight: Weight) -> Self {
        match weight {
            Weight::Auto => Self::Text("auto".to_owned()),
            Weight::Fixed(weight) => Self::Number(weight.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_follows_from_power_and_bandwidth() {
        assert_eq!(Weight::Fixed(7).of(64, Some(100_000)), 7);
        for (processors, megabits, weight) in [
            (1, Some(100), 1),
            (1, Some(1000), 1),
            (2, None, 1),
            (4, Some(1000), 2),
            (8, Some(1000), 3),
            (8, Some(10_000), 9),
            (2, Some(10_000), 4),
            (64, Some(100_000), 16),
        ] {
            assert_eq!(Weight::Auto.of(processors, megabits), weight, "{processors} × {megabits:?}");
        }
    }
}
