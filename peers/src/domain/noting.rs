//! Notes: what operators say to the whole domain, and what the members say of themselves.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use driver::{Deadline, Time, Wall};
use wire::ServerId;
use wire::note::{About, Author, Note, Words};
use wire::record::{Age, Body, Record, RecordKind, ServerRole};

use super::{Domain, News, Output};
use crate::limits::{LIVES_MAX, MEMBER_LIVES, NOTE_GATHER, NOTE_LIVES_MIN, NOTE_NAMES_MAX, NOTE_TOLD_LIVES};
use crate::notes::NotWritten;

/// A note that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whose it is.
    pub owner: ServerId,
    /// Which of its owner's.
    pub number: u64,
    /// What it says.
    pub note: Note,
    /// How long it is still to be read, in seconds.
    pub left: u16,
}

impl Domain {
    /// The notes of the domain, the oldest first.
    #[must_use]
    pub fn notes(&self, now: Time) -> Vec<Told> {
        let told = self.records.of_kind(RecordKind::Note, now).filter_map(|(record, age)| {
            let Body::Note(note) = &record.body else { return None };
            let left = record.lives.saturating_sub(age.0);
            Some(Told { owner: record.uid.owner, number: record.uid.number, note: note.clone(), left })
        });
        let mut told: Vec<Told> = told.collect();
        told.sort_by_key(|it| (it.note.written, it.owner, it.number));
        told
    }

    /// The name that we go by in notes.
    #[must_use]
    pub fn author(&self) -> &Author {
        self.notes.author()
    }

    /// We go by another name from now on, and say so.
    pub fn rename(&mut self, now: Time, author: Author) {
        if author == *self.notes.author() {
            return;
        }
        let former = self.notes.rename(author);
        let words = format!("was called {former} until now");
        self.tell_people(now, About::Renamed, &words);
    }

    /// An operator says this to everybody, for `lives` seconds: [`NOTE_LIVES_MIN`] at least, [`LIVES_MAX`] at most.
    ///
    /// # Errors
    /// There are notes of ours enough. Nothing was said then.
    pub fn say(&mut self, now: Time, wall: Wall, words: Words, lives: u16) -> Result<(), NotWritten> {
        self.wall = (now, wall);
        let lives = lives.clamp(NOTE_LIVES_MIN, LIVES_MAX);
        self.write(now, About::Operator, words, lives).map(|record| self.fresh.push(record))
    }

    /// We say this of ourselves, cleaned and cut; what is too much, or was said a moment ago, is counted and dropped.
    pub fn tell_people(&mut self, now: Time, about: About, words: &str) {
        if let Some(record) = self.told(now, about, words) {
            self.fresh.push(record);
        }
    }

    fn told(&mut self, now: Time, about: About, words: &str) -> Option<Record> {
        if !self.config.tells {
            return None;
        }
        let written = self.write(now, about, Words::cut(words), NOTE_TOLD_LIVES);
        if matches!(written, Err(NotWritten::Full(_))) {
            self.count("dropped.note", "full");
        }
        written.ok()
    }

    fn write(&mut self, now: Time, about: About, words: Words, lives: u16) -> Result<Record, NotWritten> {
        let ends = now + Duration::from_secs(lives.into());
        let count = self.notes.write(now, ends, about, &words)?;
        self.count("domain", "note");
        let (then, wall) = self.wall;
        let passed = u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX);
        let written = wall.0.saturating_add(passed);
        let note = Note { written, about, author: self.notes.author().clone(), words };
        let number = u64::from(self.config.boot_epoch.0) << 32 | u64::from(count);
        Ok(self.records.put_once(now, RecordKind::Note, number, lives, Body::Note(note)))
    }

    // --- what we say of ourselves, and of others --------------------------------------------------------------

    fn role_name(&self) -> &'static str {
        match self.config.role {
            ServerRole::Binld => "boot server",
            ServerRole::Mtftpd => "MTFTP server",
        }
    }

    /// Once in our life, when there is somebody to read it.
    pub(super) fn tell_of_coming(&mut self, now: Time) {
        if !self.has_come && self.is_settled(now) && !self.is_alone(now) {
            self.has_come = true;
            let words = format!("{} at {} has joined", self.role_name(), self.config.control.ip());
            self.tell_people(now, About::Joined, &words);
        }
    }

    /// Our last word, to be flooded at once.
    pub(super) fn told_of_going(&mut self, now: Time) -> Option<Record> {
        if !self.has_come {
            return None;
        }
        let words = format!("{} at {} leaves", self.role_name(), self.config.control.ip());
        self.told(now, About::Left, &words)
    }

    pub(super) fn vanished_deadline(&self) -> Option<Deadline> {
        self.vanished.first().map(|(at, _)| Deadline { at: *at + NOTE_GATHER, why: "vanished members" })
    }

    /// One member of each part says who has vanished, all of them together.
    pub(super) fn tell_of_vanished(&mut self, now: Time) {
        if self.vanished_deadline().is_none_or(|due| now < due.at) {
            return;
        }
        self.unsaid.append(&mut self.vanished);
        let keep = Duration::from_secs(MEMBER_LIVES.into());
        self.unsaid.retain(|(at, _)| now.since(*at) <= keep);
        if !self.is_speaker(now) {
            return;
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        let vanished: BTreeSet<Ipv4Addr> = unsaid.into_iter().map(|(_, it)| it).collect();
        let named: Vec<String> = vanished.iter().take(NOTE_NAMES_MAX).map(Ipv4Addr::to_string).collect();
        let more = match vanished.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let words = format!("{}{more}: cut off, or dead", named.join(", "));
        self.tell_people(now, About::Partition, &words);
    }

    /// What is news for the log is news for people, too.
    pub(super) fn tell(&mut self, now: Time, news: News) {
        if let News::Unreachable(control) = news {
            self.vanished.push((now, *control.ip()));
        } else if matches!(news, News::Healed(_)) {
            self.unsaid.clear();
            if self.is_speaker(now) {
                self.tell_people(now, About::Healed, "every member is there again");
            }
        }
        self.out.push_back(Output::Tell(news));
    }

    /// Of members that all see the same, one speaks: the one with the lowest id of those that are there.
    fn is_speaker(&self, now: Time) -> bool {
        let members = self.records.of_kind(RecordKind::Member, now).filter(|(_, age)| *age != Age::DELETED);
        let is_there = |server: ServerId| self.unreachable().all(|gone| gone.server != server);
        members.map(|(record, _)| record.uid.owner).filter(|it| is_there(*it)).min() == Some(self.config.me)
    }
}
