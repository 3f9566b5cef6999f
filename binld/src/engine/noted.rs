//! What other members tell goes to the store, for whoever reads it ([`peers::notes`]).

use driver::Time;
use peers::domain::News;

use super::{Change, Engine, Timer};

impl Engine {
    pub(super) fn note(&mut self, now: Time, news: &News) {
        self.notes.on_news(now, news);
        self.arm_notes();
    }

    /// Writes what there is to be written.
    pub(super) fn write_notes(&mut self, now: Time) {
        let wall = self.wall_at(now);
        let changes = self.notes.take(now, wall, self.identity.server, &self.domain);
        if !changes.is_empty() {
            self.persist(changes.into_iter().map(Change::Note).collect());
        }
        self.arm_notes();
    }

    fn arm_notes(&mut self) {
        if let Some(at) = self.notes.next_at() {
            self.timers.arm(Timer::Note, at, "what others tell is to be written");
        }
    }
}
