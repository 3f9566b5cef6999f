//! The first moments of a life: no client is told an address, and none is cleared for one, before we know what the domain
//! knows (G24), or have waited for it long enough ([`JOIN_PATIENCE`]). What is cleared at start for no client goes on.

use std::net::SocketAddrV4;

use driver::Time;
use peers::domain::Standing as DomainStanding;
use peers::limits::JOIN_PATIENCE;
use wire::GroupAddr;

use super::claims::{ClaimKey, State};
use super::contest::{Contest, Stage};
use super::event::Event;
use super::predicate::Standing;
use super::{Engine, Timer};
use crate::limits::CONTESTS_MAX;

/// How far that is.
#[derive(Debug)]
pub(super) struct Joining {
    /// Later than this nothing is waited for.
    until: Time,
    /// Clients may wait for its end.
    waits: bool,
}

impl Joining {
    pub(super) fn begin(now: Time) -> Self {
        Self { until: now + JOIN_PATIENCE, waits: true }
    }
}

impl Engine {
    pub(super) fn is_joining(&self, now: Time) -> bool {
        now < self.joining.until && self.domain.standing(now) == DomainStanding::Joining
    }

    pub(super) fn await_join(&mut self) {
        self.timers.arm(Timer::Joined, self.joining.until, "joined, or alone");
    }

    /// Looks whether we know by now what the domain knows. Called at the end of each input.
    pub(super) fn notice_joined(&mut self, now: Time) {
        if self.joining.waits && !self.is_joining(now) {
            self.joining.waits = false;
            self.dispute_known(now);
            self.responders.on_joined(now);
            self.unsettle();
        }
    }

    /// Whether a claim from before a restart is being asked for: that may go on while we join.
    pub(super) fn is_rechecked(&self, key: &ClaimKey) -> bool {
        self.claims.get(key).is_some_and(|claim| matches!(claim.state, State::Rechecking { .. }))
    }

    /// A record of another member about an address that we hold is a statement like any other: who keeps it is settled
    /// before anybody is told (Y4).
    fn dispute_known(&mut self, now: Time) {
        let held = self.claims.iter().filter(|it| it.state.standing() == Some(Standing::Committed));
        let held: Vec<(ClaimKey, GroupAddr)> =
            held.filter_map(|it| Some((it.key.clone(), it.state.placement()?.group))).collect();
        for (key, group) in held {
            let holder = self.knows_holder(now, group, &key.content).filter(|by| !by.is_unspecified());
            let Some(by) = holder.filter(|_| self.contests.len() < CONTESTS_MAX) else { continue };
            self.counters.add("conflict", "known", 1);
            self.tell(Event::LateConflict { group, content: key.content.clone(), by });
            let at = (key, SocketAddrV4::new(by, self.config.control_port));
            let stage = Stage::Disputed { since: now };
            self.contests.entry(at.clone()).or_insert_with(|| Contest::new(now, stage));
            self.arm_contest(&at);
        }
    }
}
