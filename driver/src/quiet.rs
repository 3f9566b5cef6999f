//! Bounds what one source can write into the log.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use crate::Time;

/// Lines of one source within [`SPAN`].
pub const LINES_MAX: u32 = 10;
/// See [`LINES_MAX`].
pub const SPAN: Duration = Duration::from_secs(10);
/// Sources watched at once; lines of further ones are suppressed until some are over.
pub const SOURCES_MAX: usize = 4096;

/// Who wrote how many lines lately.
#[derive(Debug, Clone)]
pub struct Quiet<K> {
    sources: BTreeMap<K, Source>,
    /// Lines of sources for which there was no room.
    crowded: u64,
    /// Whether something suppressed has not been told of yet.
    waiting: bool,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    since: Time,
    lines: u32,
    suppressed: u64,
}

impl<K> Default for Quiet<K> {
    fn default() -> Self {
        Self { sources: BTreeMap::new(), crowded: 0, waiting: false }
    }
}

impl<K: Ord + Clone + Display> Quiet<K> {
    /// Whether a line of this source may be written now; if not it is counted.
    pub fn allow(&mut self, now: Time, key: &K) -> bool {
        if let Some(source) = self.sources.get_mut(key) {
            let allowed = source.lines < LINES_MAX;
            source.lines = source.lines.saturating_add(1);
            source.suppressed += u64::from(!allowed);
            self.waiting |= !allowed;
            return allowed;
        }
        let room = self.sources.len() < SOURCES_MAX;
        if room {
            self.sources.insert(key.clone(), Source { since: now, lines: 1, suppressed: 0 });
        } else {
            self.crowded += 1;
            self.waiting = true;
        }
        room
    }

    /// Says in the log of whom lines were suppressed; to be called every second or so.
    pub fn tell_suppressed(&mut self, now: Time) {
        let suppressed = self.expire(now);
        for (source, lines) in &suppressed {
            let source = source.as_ref().map_or("others".to_owned(), K::to_string);
            tracing::warn!(source, lines, "suppressed lines of one source");
        }
        self.waiting &= suppressed.is_empty();
    }

    /// Whether something suppressed has not been told of yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Ends the spans that are over: they begin anew with the source's next line. Gives the sources of which lines
    /// were suppressed, and how many; `None` stands for those for which there was no room.
    fn expire(&mut self, now: Time) -> Vec<(Option<K>, u64)> {
        let mut suppressed = Vec::new();
        self.sources.retain(|key, source| {
            let over = now.since(source.since) >= SPAN;
            if over && source.suppressed > 0 {
                suppressed.push((Some(key.clone()), source.suppressed));
            }
            !over
        });
        if self.crowded > 0 && self.sources.len() < SOURCES_MAX {
            suppressed.push((None, std::mem::take(&mut self.crowded)));
        }
        suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loud_source_is_cut_off_and_told_of_later_and_others_are_not() {
        let mut quiet = Quiet::default();
        let allowed = (0..25).filter(|_| quiet.allow(Time::ZERO, &"loud")).count();
        assert_eq!(allowed, 10);
        assert!(quiet.allow(Time::ZERO, &"soft"));
        assert_eq!(quiet.expire(Time::ZERO + SPAN / 2), []);
        assert!(!quiet.allow(Time::ZERO + SPAN / 2, &"loud"));
        assert_eq!(quiet.expire(Time::ZERO + SPAN), [(Some("loud"), 16)]);
        assert!(quiet.allow(Time::ZERO + SPAN, &"loud"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut quiet = Quiet::default();
        assert_eq!((0..SOURCES_MAX + 7).filter(|key| quiet.allow(Time::ZERO, key)).count(), SOURCES_MAX);
        assert_eq!(quiet.sources.len(), SOURCES_MAX);
        assert_eq!(quiet.expire(Time::ZERO), []);
        assert_eq!(quiet.expire(Time::ZERO + SPAN), [(None, 7)]);
    }
}
