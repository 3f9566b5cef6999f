//! What other members tell goes to the store, for whoever reads it ([`peers::saved`]).

use driver::Time;
use peers::domain::News;

use super::{Change, Engine, Timer};

impl Engine {
    pub(super) fn save_news(&mut self, now: Time, news: &News) {
        self.saved.on_news(now, news);
        self.arm_saving();
    }

    /// Writes what there is to be written.
    pub(super) fn save(&mut self, now: Time) {
        let wall = self.wall_at(now);
        let changes = self.saved.take(now, wall, self.identity.server, &self.domain);
        if !changes.is_empty() {
            self.persist(changes.into_iter().map(Change::Saved).collect());
        }
        self.arm_saving();
    }

    fn arm_saving(&mut self) {
        if let Some(at) = self.saved.next_at() {
            self.timers.arm(Timer::Save, at, "what others tell is to be written");
        }
    }
}
