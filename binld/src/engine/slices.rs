//! Which addresses are ours to ask for: our slice of the pool by the agreed list of boot servers (G5, races.md § 2.4.4).
//! What the list is and how it changes is in [`peers::roll`]; this file feeds that machine and does what it wants done.
//!
//! An address is asked for only by the owner of its slice, or by whom the owner has lent it to (`loans`). So the two
//! halves of a cut domain never pick the same one. Whoever is dead stays in the list, and nobody asks for what is in its
//! slice, until it leaves by its own wish ([`Engine::on_leave`]) or an operator strikes it off ([`Engine::strike_off`]).

use std::collections::BTreeSet;

use driver::{Deadline, Time};
use peers::roll::{News, Output, Roll, Slice, Stored};
use wire::record::{Body, RecordKind, ServerRole, Uid};
use wire::{GroupAddr, ServerId};

use super::claims::{Basis, ClaimKey, State};
use super::event::Event;
use super::{Action, Change, Engine, Ticket, Timer};
use crate::limits::LIVING_INTERVAL;

/// The list of boot servers, and how far it is in step with the rest.
#[derive(Debug)]
pub(super) struct Slices {
    pub(super) roll: Roll,
    /// The version of the map for which the claims have been looked at.
    seen: u64,
    /// Who lives may have changed: by what was heard, or, every hello interval, by what was not.
    pub(super) stale: bool,
    /// Not looked at before: when a thousand appear at once, it is not done for each of them.
    look_at: Time,
    /// What the list was told last: whether we know what the others know.
    informed: bool,
    /// What the store will answer when it has the list.
    writing: Option<Ticket>,
    /// We leave for good: no client is answered.
    pub(super) leaves: bool,
    may_end: bool,
}

/// The list of boot servers, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollStatus {
    /// Version of the list in force; 0 for none.
    pub version: u32,
    /// Its members, in order.
    pub members: Vec<ServerId>,
    /// Versions that are taken up and not yet agreed upon by all members.
    pub pending: Vec<u32>,
    /// Members, of any of these lists, that are not heard: the list changes without them only by an operator's word.
    pub silent: Vec<ServerId>,
    /// Whether we leave for good.
    pub leaves: bool,
}

/// Why a server cannot be struck off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStruck {
    /// It is us: we can leave.
    Us,
    /// It is in no list.
    NoMember,
    /// It lives.
    Lives,
}

impl Slices {
    pub(super) fn new(me: ServerId, stored: Stored) -> Self {
        let roll = Roll::recover(me, stored);
        Self {
            seen: roll.map_version(),
            roll,
            stale: true,
            look_at: Time::ZERO,
            informed: false,
            writing: None,
            leaves: false,
            may_end: false,
        }
    }
}

impl Engine {
    /// Feeds the list of boot servers, and does what it wants done; `true` if it has something to tell the domain.
    pub(super) fn serve_roll(&mut self, now: Time) -> bool {
        let informed = self.domain.is_informed(now);
        let is_due = self.slices.stale && now >= self.slices.look_at;
        if is_due || informed != self.slices.informed {
            self.slices.informed = informed;
            (self.slices.stale, self.slices.look_at) = (false, now + LIVING_INTERVAL);
            let living = self.other_boot_servers(now);
            self.slices.roll.on_knowledge(now, informed, &living);
        }
        if self.slices.roll.next_deadline().is_some_and(|due| due.at <= now) {
            self.slices.roll.on_timeout(now);
        }
        let mut tells = false;
        while let Some(output) = self.slices.roll.next_output() {
            match output {
                Output::Store(stored) => {
                    let ticket = self.draw_ticket();
                    self.slices.writing = Some(ticket);
                    self.out.push(Action::Persist(ticket, vec![Change::SetRoll(stored)]));
                }
                Output::Publish(number, lives, part) => {
                    self.domain.put(now, RecordKind::Domain, number, lives, Body::Domain(part));
                    tells = true;
                }
                Output::Withdraw(number) => {
                    self.domain.delete(now, RecordKind::Domain, number);
                    tells = true;
                }
                Output::Count(place, what) => self.counters.add(place, what, 1),
                Output::Tell(news) => self.on_roll_news(now, news),
            }
        }
        if self.slices.seen != self.slices.roll.map_version() {
            self.slices.seen = self.slices.roll.map_version();
            self.on_map_changed(now);
        }
        tells
    }

    /// When [`Engine::on_timeout`] is wanted next for that.
    pub(super) fn slices_deadline(&self) -> Option<Deadline> {
        let at = self.slices.look_at;
        let look = self.slices.stale.then_some(Deadline { at, why: "who lives has changed" });
        Deadline::earliest(look, self.slices.roll.next_deadline())
    }

    /// Who is heard on our link, and who is told of beyond it.
    fn other_boot_servers(&self, now: Time) -> BTreeSet<ServerId> {
        let mut servers = self.domain.living_as(now, ServerRole::Binld);
        servers.remove(&self.identity.server);
        servers.retain(|server| {
            let is_heard = self.domain.hellos().peer(*server, now).is_some_and(|peer| peer.living);
            let control = || self.domain.control_of(now, *server);
            is_heard || control().is_some_and(|control| !self.config.is_on_link(*control.ip()))
        });
        servers
    }

    fn on_roll_news(&mut self, now: Time, news: News) {
        match news {
            News::Pending(_) => {}
            News::InForce(version) => {
                let members = self.slices.roll.held().current.as_ref().map_or(0, |list| list.members().len());
                self.domain.on_roll(now, version);
                self.tell(Event::RollInForce { version, members });
            }
            News::LeftOut => self.tell(Event::LeftOut),
            News::MayEnd => self.slices.may_end = true,
            News::NotStruck(server) => self.tell(Event::NotStruck { server }),
        }
    }

    /// A record of the list changed.
    pub(super) fn on_roll_record(&mut self, now: Time, uid: Uid) {
        let said = self.domain.records().get(&uid, now);
        let said = said.and_then(
            |(record, _)| {
                if let Body::Domain(part) = &record.body { Some(part) } else { None }
            },
        );
        self.slices.roll.on_record(now, uid, said);
    }

    /// The store answered; `true` if that was about the list.
    pub(super) fn on_roll_stored(&mut self, now: Time, ticket: Ticket, stored: bool) {
        if self.slices.writing == Some(ticket) {
            self.slices.writing = None;
            self.slices.roll.on_stored(now, stored);
        }
    }

    /// What was asked for under another map is given up, and who waited for this one goes on.
    fn on_map_changed(&mut self, now: Time) {
        let keys: Vec<ClaimKey> = self.claims.iter().map(|claim| claim.key.clone()).collect();
        for key in keys {
            let Some(claim) = self.claims.get(&key) else { continue };
            match &claim.state {
                State::Clearing { at, .. } => {
                    let group = at.group;
                    if !self.may_commit(now, &key, group) {
                        self.begin_again(now, &key, group);
                    }
                }
                State::Waiting { soon, .. } if *soon || key.pinned => {
                    self.loans.forget_question(&key);
                    if let Some(claim) = self.claims.get_mut(&key) {
                        claim.refusals = 0;
                    }
                    self.timers.arm(Timer::Claim(key.clone()), now, "the slices have changed");
                }
                State::Waiting { .. }
                | State::Rechecking { .. }
                | State::Recording { .. }
                | State::Configuring { .. }
                | State::Held { .. }
                | State::Draining { .. } => {}
            }
        }
    }

    /// Whose the address is.
    pub(super) fn slice(&self, group: GroupAddr) -> Slice {
        self.slices.roll.slice(group)
    }

    /// Whether nobody need be asked for it.
    pub(super) fn is_in_our_slice(&self, group: GroupAddr) -> bool {
        self.slices.roll.may_pick(group)
    }

    /// The right by which an address of our slice is asked for now.
    pub(super) fn basis(&self) -> Basis {
        Basis::Slice { map: self.slices.roll.map_version() }
    }

    /// Whether the claim may be committed there now: nothing has changed since it was first asked for.
    pub(super) fn may_commit(&self, now: Time, key: &ClaimKey, group: GroupAddr) -> bool {
        let map_now = self.slices.roll.map_version();
        match self.claims.get(key).and_then(|claim| claim.basis) {
            Some(Basis::Slice { map }) => map == map_now && self.is_in_our_slice(group),
            Some(Basis::Loan { owner, map, until }) => {
                map == map_now && now < until && self.slice(group) == Slice::Of(owner)
            }
            None => false,
        }
    }

    /// We leave for good: no client is answered, all claims drain, and when the others have a list without us
    /// [`Engine::has_left`] says that the process may end.
    pub fn on_leave(&mut self, now: Time) {
        self.slices.leaves = true;
        self.slices.roll.leave(now);
        self.responders.drain(now, true);
        self.unsettle();
        self.settle(now);
    }

    /// Whether nothing keeps us any more after [`Engine::on_leave`]: no claim, no address that rests, and all others
    /// have a list without us, or nobody answers.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.slices.may_end && self.claims.iter().next().is_none() && self.claims.rests().next().is_none()
    }

    /// An operator says that this boot server is gone for good: its slice goes to the others when all of them have
    /// agreed. It must not be started again before that.
    ///
    /// # Errors
    /// Why not; nothing was changed.
    pub fn strike_off(&mut self, now: Time, server: ServerId) -> Result<(), NotStruck> {
        let outcome = if server == self.identity.server {
            Err(NotStruck::Us)
        } else if self.other_boot_servers(now).contains(&server) {
            Err(NotStruck::Lives)
        } else if self.slices.roll.strike_off(now, server) {
            Ok(())
        } else {
            Err(NotStruck::NoMember)
        };
        self.settle(now);
        outcome
    }

    pub(super) fn roll_status(&self, now: Time) -> RollStatus {
        let held = self.slices.roll.held();
        let heard = self.other_boot_servers(now);
        let all: BTreeSet<ServerId> = held.members();
        let is_silent = |server: &ServerId| *server != self.identity.server && !heard.contains(server);
        RollStatus {
            version: self.slices.roll.version(),
            members: held.current.as_ref().map_or(Vec::new(), |list| list.members().to_vec()),
            pending: held.pending.iter().map(peers::roll::List::version).collect(),
            silent: all.into_iter().filter(is_silent).collect(),
            leaves: self.slices.leaves,
        }
    }
}
