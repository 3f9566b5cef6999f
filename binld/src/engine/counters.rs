//! Counters by name: what was dropped, and why; what was done, and how often.

use std::collections::BTreeMap;

/// Numbers that only grow while the process lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Adds one.
    pub fn add(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(name.to_owned(), 1);
            }
        }
    }

    /// Adds one under a kind of a name: `name.kind`.
    pub fn add_kind(&mut self, name: &str, kind: &str) {
        self.add(&format!("{name}.{kind}"));
    }

    /// One of them; 0 if nothing was counted.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }
}
