//! What a member says in notes, and how much of it: words for people, flooded as records that live for minutes (source 004,
//! 0102 to 0106).
//!
//! A note is never changed and never refreshed. Those that we write of ourselves have a room of their own, so that an
//! operator can always say something, and the other way round.

use std::collections::VecDeque;

use driver::Time;
use wire::note::{About, Author, Words};

use crate::limits::{NOTE_AGAIN, NOTES_REPEATED_MAX, NOTES_SAID_MAX, NOTES_TOLD_MAX};

/// A note that is not written. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotWritten {
    /// There are as many of ours as there may be; the first of them ends at that time.
    Full(Time),
    /// It was said a moment ago.
    Again,
}

#[derive(Debug)]
struct Written {
    at: Time,
    ends: Time,
    about: About,
    words: Words,
}

/// Our own notes that are still to be read.
#[derive(Debug)]
pub struct Notes {
    author: Author,
    written: VecDeque<Written>,
    /// Numbers given in this life.
    count: u32,
}

impl Notes {
    /// None yet. `began` is greater than any number that was given in this boot epoch before.
    #[must_use]
    pub const fn new(author: Author, began: u32) -> Self {
        Self { author, written: VecDeque::new(), count: began }
    }

    /// The name that we go by.
    #[must_use]
    pub const fn author(&self) -> &Author {
        &self.author
    }

    /// We go by another name from now on; gives the former one.
    pub fn rename(&mut self, author: Author) -> Author {
        std::mem::replace(&mut self.author, author)
    }

    /// Whether this may be said now, until `ends`; gives the number of the note, which is written then.
    ///
    /// # Errors
    /// There are notes enough, or (of those that we write of ourselves) it was said a moment ago.
    pub fn write(&mut self, now: Time, ends: Time, about: About, words: &Words) -> Result<u32, NotWritten> {
        self.written.retain(|it| it.ends > now);
        let is_said = about == About::Operator;
        let same_kind = || self.written.iter().filter(|it| (it.about == About::Operator) == is_said);
        let most = if is_said { NOTES_SAID_MAX } else { NOTES_TOLD_MAX };
        let is_again =
            |it: &Written| it.about == about && it.words == *words && now.since(it.at) < NOTE_AGAIN;
        if !is_said && same_kind().any(is_again) {
            return Err(NotWritten::Again);
        }
        // What repeats itself leaves room for what happens once.
        let repeats = matches!(about, About::Conflict | About::FallBack | About::Takeover);
        let is_full =
            repeats && self.written.iter().filter(|it| it.about == about).count() >= NOTES_REPEATED_MAX;
        if is_full || same_kind().count() >= most {
            return Err(NotWritten::Full(same_kind().map(|it| it.ends).min().unwrap_or(now)));
        }
        self.written.push_back(Written { at: now, ends, about, words: words.clone() });
        self.count = self.count.wrapping_add(1);
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn words(text: &str) -> Words {
        Words::new(text).unwrap()
    }

    #[test]
    fn an_operator_may_repeat_himself_but_not_for_ever() {
        let mut notes = Notes::new(Author::new("east").unwrap(), 0);
        for number in 1..=16 {
            let ends = at(u64::from(number) + 100);
            assert_eq!(notes.write(at(0), ends, About::Operator, &words("again")), Ok(number));
        }
        let full = Err(NotWritten::Full(at(101)));
        assert_eq!(notes.write(at(100), at(200), About::Operator, &words("more")), full);
        assert_eq!(notes.write(at(101), at(200), About::Operator, &words("more")), Ok(17));
        assert_eq!(notes.write(at(101), at(200), About::Joined, &words("here")), Ok(18), "a room of its own");
    }

    #[test]
    fn what_we_say_of_ourselves_is_not_said_again_at_once() {
        let mut notes = Notes::new(Author::new("east").unwrap(), 0);
        let write = |notes: &mut Notes, when: u64, text: &str| {
            let ends = at(when) + Duration::from_secs(300);
            notes.write(at(when), ends, About::Left, &words(text))
        };
        assert_eq!(write(&mut notes, 0, "no address"), Ok(1));
        assert_eq!(write(&mut notes, 59, "no address"), Err(NotWritten::Again));
        assert_eq!(write(&mut notes, 60, "no address"), Ok(2));
        for number in 3..=16 {
            assert_eq!(write(&mut notes, 60, &format!("another {number}")), Ok(number));
        }
        assert_eq!(write(&mut notes, 60, "one more"), Err(NotWritten::Full(at(300))));
        assert_eq!(write(&mut notes, 300, "one more"), Ok(17));
    }

    #[test]
    fn what_repeats_itself_leaves_room_for_what_happens_once() {
        let mut notes = Notes::new(Author::new("east").unwrap(), 0);
        let mut write = |about: About, text: &str| notes.write(at(0), at(300), about, &words(text));
        for number in 1..=4 {
            assert_eq!(write(About::FallBack, &format!("no address {number}")), Ok(number));
        }
        assert_eq!(write(About::FallBack, "no address 5"), Err(NotWritten::Full(at(300))));
        assert_eq!(write(About::Partition, "10.0.0.1"), Ok(5));
    }
}
