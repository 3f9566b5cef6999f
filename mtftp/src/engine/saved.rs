//! What other members tell goes to the store, for whoever reads it ([`peers::saved`]); and until when we lived, which says
//! how old that is.

use driver::{Deadline, Time, Wall};
use peers::domain::News;
use peers::saved::{Former, Saved};

use super::Engine;
use super::action::{Change, Ticket};
use crate::limits::ALIVE_INTERVAL;

/// What is to be written, and what is being written.
#[derive(Debug)]
pub(super) struct Saver {
    saved: Saved,
    alive_at: Time,
    /// One batch at a time, so that one that failed is not overtaken: with when it is tried again.
    writing: Option<(Ticket, Vec<Change>, Option<Time>)>,
}

impl Saver {
    pub(super) fn new(former: Former, now: Time) -> Self {
        Self { saved: Saved::new(former, now), alive_at: now, writing: None }
    }

    pub(super) fn on_news(&mut self, now: Time, news: &News) {
        self.saved.on_news(now, news);
    }

    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let at = match &self.writing {
            Some((_, _, again_at)) => *again_at,
            None => self.saved.next_at().into_iter().chain([self.alive_at]).min(),
        };
        at.map(|at| Deadline { at, why: "what others tell is to be written" })
    }
}

impl Engine {
    fn wall_at(&self, now: Time) -> Wall {
        let (then, wall) = self.wall;
        Wall(wall.0.saturating_add(u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)))
    }

    /// Writes what is due.
    pub(super) fn save(&mut self, now: Time) {
        if self.saver.next_deadline().is_none_or(|due| now < due.at) {
            return;
        }
        if let Some((ticket, changes, again_at)) = &mut self.saver.writing {
            (*ticket, *again_at) = (self.context.persist(changes.clone()), None);
            return;
        }
        self.save_more(now);
    }

    /// The process ends: what there is now, and when.
    pub(super) fn save_last(&mut self, now: Time) {
        self.saver.alive_at = now;
        self.save_more(now);
    }

    fn save_more(&mut self, now: Time) {
        let wall = self.wall_at(now);
        let changed = self.saver.saved.take(now, wall, self.identity.server, &self.domain);
        let mut changes: Vec<Change> = changed.into_iter().map(Change::Saved).collect();
        if self.saver.alive_at <= now {
            self.saver.alive_at = now + ALIVE_INTERVAL;
            changes.push(Change::Alive(wall));
        }
        if !changes.is_empty() {
            let ticket = self.context.persist(changes.clone());
            self.saver.writing = Some((ticket, changes, None));
        }
    }

    pub(super) fn on_saved(&mut self, now: Time, ticket: Ticket, result: Result<(), ()>) {
        let Some((_, _, again_at)) = self.saver.writing.as_mut().filter(|(ours, ..)| *ours == ticket) else {
            return;
        };
        match result {
            Ok(()) => self.saver.writing = None,
            Err(()) => *again_at = Some(now + ALIVE_INTERVAL),
        }
    }
}
