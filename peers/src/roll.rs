//! The agreed list of boot servers, the *roll*: who may pick which addresses of the pool (G5, races.md § 2.4.4).
//!
//! An address is in the slice of the member with the greatest [`rendezvous`](crate::rendezvous::rendezvous) number for it. While all have the same
//! list, no two pick the same address, whatever is lost, and in whichever parts the domain is cut. So the list is not
//! who lives, but what all members have agreed upon, and a change of it is agreed upon by all, the dead ones too: they
//! stay in it until they leave by their own wish, or an operator strikes them off.
//!
//! ```text
//!            a greater list is heard            all members of all that is held
//!            from a living server               have taken it up, and say so
//!  nothing ───────────────────────► pending ───────────────────────────────────► in force
//!                store, then tell      │  ▲              tell                        │
//!                                      └──┴──── a still greater one: held as well ◄──┘
//! ```
//!
//! A member *holds* the list that is in force here and all greater ones that it has taken up since. An address is ours
//! only if it is under all of them ([`Roll::slice`]). Each member publishes, as records of kind *domain*:
//!
//! | number | what | version | part | members |
//! |---|---|---|---|---|
//! | 0 | its *word*: which list it has taken up last | of that list | flags | digest of that list, its origins |
//! | 1 and up | servers that an operator struck off | of the last list held then | 0 | its digest, their ids |
//! | first bit set | a part of a list | of the list | part | members |
//!
//! The flags are 1: a list is in force here; 2: *ready*, all members of all lists held here have taken the last one up;
//! 4: *settled*, that one is in force here; 8: it has left for good; above them stands how
//! many origins follow that are its own, before all others. A list comes into force at a member when all members of all that it holds
//! are ready, or when a member of that list, and of the same origin, says that it is settled; never before it is stored.
//!
//! Lists that were begun apart have different *origins*: the first lists that servers agreed upon that had none. When two
//! such parts meet, the next list is the union of both, and comes from both. A server that has a list in force takes up
//! one without it only if somebody of the same origin has: else it would give up what it agreed upon with others that
//! do not hear of it. When all members of a list have left, those that come after them begin anew: their own origin is
//! another one, but the old one is known to whoever returns.
//!
//! The living server with the lowest id proposes: the members of all that it holds, without those that are gone, and
//! with those that have lived for [`ROLL_SETTLE`](crate::limits::ROLL_SETTLE). It waits until the last list is in force,
//! but for [`ROLL_PATIENCE`](crate::limits::ROLL_PATIENCE) at most, and not if that one has somebody who is gone. The list
//! is published by the lowest living one that has taken it up.
//!
//! # Where this differs from a plain "the next list replaces the pending one"
//! - A pending list that is overtaken is *kept*: somebody who took it up may have brought it into force before it heard
//!   of the greater one. Nothing that was told is ever taken back, so a partition in mid-change is harmless.
//! - A version does not name a list, for both halves of a cut domain count on from the same one. What is taken up is
//!   told with its digest, in a record of its own: `Member::roll` has room for a version only. It may show
//!   [`Roll::version`], for people.
//! - *Ready* is a second round. A newcomer has no list in force: it does not know whom else the others have promised
//!   anything. Without that round two newcomers of two halves could both come to own something (the seeds of
//!   `tests/nets.rs` find it).
//! - Struck ids are told by name. That a list leaves somebody out may just mean that its proposer did not know of it.
//!
//! # Invariants
//! 1. Two members that answer [`Slice::Ours`] for anything hold a list in common, so never both for one address. Two
//!    exceptions: lists in force that have no origin in common, until all members of both have taken up the union (begun
//!    by servers that had none, or when all members of the one before had left); and a
//!    server struck off by an operator although it runs, or that is started again where it hears none of the others.
//! 2. What a member tells is stored. Of what it holds the last one only grows in rank.
//! 3. A list is at most [`ROLL_JUMP_MAX`](crate::limits::ROLL_JUMP_MAX) versions beyond ours. At most
//!    [`ROLL_PENDING_MAX`](crate::limits::ROLL_PENDING_MAX) are pending.
//! 4. What was stored counts only after what the others know was heard: we may have been struck off meanwhile.
//! 5. A dead member keeps the next list from coming into force, and nobody from using what is its own under both.
//!
//! Of the claims of an old owner the records tell: a list comes into force only while all records are known here.

mod changing;
mod list;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use driver::{Deadline, Time};
use wire::record::{Roll as Part, Uid};
use wire::{GroupAddr, ServerId};

use crate::limits::{ROLL_GONE_MAX, ROLL_STORE_AGAIN, ROLL_TOLD_MAX};
use list::{Gatherings, Rank, is_part};

pub use list::{Digest, List, Origins};

const ROOTED: u8 = 1;
const READY: u8 = 2;
const SETTLED: u8 = 4;
const LEFT: u8 = 8;
/// Above the flags stands how many origins are its own.
const FLAGS: u8 = u8::MAX;
/// The number of a member's word.
const WORD: u64 = 0;

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// Nothing has ever been agreed upon: it may be picked, if nobody minds.
    Unlisted,
    /// Ours, and nobody else's.
    Ours,
    /// In that server's slice: ask it.
    Of(ServerId),
    /// In nobody's slice until a change is agreed upon, so nobody can consent.
    Moving,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Store this in place of what was stored before, then call [`Roll::on_stored`].
    Store(Stored),
    /// Publish this record of ours of kind *domain*, with this number and life, and keep it refreshed.
    Publish(u64, u16, Part),
    /// Delete that record of ours.
    Withdraw(u64),
    /// Something to count: a place, and what happened there.
    Count(&'static str, &'static str),
    /// News for the log.
    Tell(News),
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The list of this version is pending: begin no clearing under another map.
    Pending(u32),
    /// The list of this version is in force.
    InForce(u32),
    /// A list leaves us out. We are put in again by the next one, if we live on.
    LeftOut,
    /// What [`Roll::leave`] asked for is stored, told and followed, or nobody follows: the server may end.
    MayEnd,
    /// A list that was on its way took that server in again that was struck off here: strike it off again.
    NotStruck(ServerId),
}

/// What is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// The list in force.
    pub current: Option<List>,
    /// Greater ones that have been taken up, in order.
    pub pending: Vec<List>,
    /// Whether we have left for good: nothing is ours until a list without us was heard.
    pub left: bool,
    /// Where the list in force comes from.
    pub origins: Origins,
}

impl Stored {
    fn lists(&self) -> impl Iterator<Item = &List> {
        self.current.iter().chain(&self.pending)
    }

    fn top(&self) -> Option<&List> {
        self.pending.last().or(self.current.as_ref())
    }

    fn top_rank(&self) -> Rank {
        self.top().map_or((0, Digest::default()), List::rank)
    }

    /// Of all lists.
    #[must_use]
    pub fn members(&self) -> BTreeSet<ServerId> {
        self.lists().flat_map(List::members).copied().collect()
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    top: Digest,
    flags: u8,
    /// Of its list in force.
    origins: Origins,
}

/// Why somebody is no member any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// It left, and picks nothing any more even if it lives.
    Left,
    /// An operator says so.
    Struck,
}

/// What the store has, as far as others are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Saved {
    top: Option<Rank>,
    flags: u8,
    left: bool,
    origins: Origins,
}

/// What is told follows from this.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    word: Option<Part>,
    struck: BTreeMap<ServerId, Rank>,
    /// The last list held, if it is stored and for us to publish.
    list: Option<Rank>,
    /// The last list held is still to be stored.
    waits: bool,
}

/// The roll, as one member has it.
#[derive(Debug)]
pub struct Roll {
    me: ServerId,
    held: Stored,
    /// The members of all that is held.
    members: BTreeSet<ServerId>,
    /// The member that was last found not to say what all have to: asked first the next time.
    holdout: Option<ServerId>,
    /// `held` is newer than what was given to the store.
    changed: bool,
    writing: Option<Saved>,
    saved: Saved,
    /// When the store is tried again.
    store_at: Option<Time>,
    /// Since when we leave in this life: no list takes us in again.
    leaves_since: Option<Time>,
    may_end: bool,
    /// Counts changes of `held`, and of whether it counts.
    map_version: u64,
    /// Whether what the others know is known here.
    informed: bool,
    began_at: Option<Time>,
    /// Since when we know what the others know. What was stored does not count before: we may have been struck off.
    sure_since: Option<Time>,
    /// Strangers have a greater list, without us. The union is to come, and then one of both is not overruled by it.
    overruled: bool,
    /// Other BINLDs that live, and since when.
    living: BTreeMap<ServerId, Time>,
    words: BTreeMap<ServerId, Word>,
    /// Who is gone, as of which list: a greater one with them in it takes them up again.
    gone: BTreeMap<ServerId, (Rank, Gone)>,
    /// Those that were struck off here.
    struck: BTreeMap<ServerId, Rank>,
    gatherings: Gatherings,
    /// Since when the last list held is the last one.
    top_since: Option<(Digest, Time)>,
    progressed_at: Time,
    proposed_at: Option<Time>,
    /// What is published.
    published: BTreeMap<u64, Part>,
    /// Of what that was made.
    told: Option<Told>,
    due: Option<Deadline>,
    out: VecDeque<Output>,
}

impl Roll {
    /// A server that has never heard of a list.
    #[must_use]
    pub fn new(me: ServerId) -> Self {
        Self::recover(me, Stored::default())
    }

    /// A server that is started again, with what it stored last.
    #[must_use]
    pub fn recover(me: ServerId, stored: Stored) -> Self {
        let mut roll = Self {
            me,
            members: stored.members(),
            held: stored,
            holdout: None,
            changed: false,
            writing: None,
            saved: Saved::default(),
            store_at: None,
            leaves_since: None,
            may_end: false,
            map_version: 0,
            informed: false,
            began_at: None,
            sure_since: None,
            overruled: false,
            living: BTreeMap::new(),
            words: BTreeMap::new(),
            gone: BTreeMap::new(),
            struck: BTreeMap::new(),
            gatherings: Gatherings::default(),
            top_since: None,
            progressed_at: Time::ZERO,
            proposed_at: None,
            published: BTreeMap::new(),
            told: None,
            due: None,
            out: VecDeque::new(),
        };
        roll.held.pending.sort_by_key(List::rank);
        // Who left, and heard of the list without it, is a newcomer.
        roll.held.left &= roll.held.top().is_some_and(|top| top.holds(&me));
        roll.saved = roll.to_save();
        roll.publish();
        roll
    }

    // --- what is known --------------------------------------------------------------------------------------

    /// Whose `group` is.
    #[must_use]
    pub fn slice(&self, group: GroupAddr) -> Slice {
        let mut owners = self.held.lists().map(|list| list.owner(group));
        let Some(first) = owners.next() else {
            return if self.is_founded() { Slice::Moving } else { Slice::Unlisted };
        };
        match first.filter(|_| owners.all(|owner| owner == first)) {
            Some(owner) if owner != self.me => Slice::Of(owner),
            Some(_) if self.held.left || self.overruled || self.sure_since.is_none() => Slice::Moving,
            Some(_) if self.held.current.is_some() => Slice::Ours,
            // The first list of all has still to come into force, or the first one for us.
            Some(_) => {
                if self.is_founded() {
                    Slice::Moving
                } else {
                    Slice::Unlisted
                }
            }
            None => Slice::Moving,
        }
    }

    /// Whether nobody need be asked for `group`: [`Slice::Ours`] or [`Slice::Unlisted`], found faster.
    #[must_use]
    pub fn may_pick(&self, group: GroupAddr) -> bool {
        self.held.lists().all(|list| list.is_owner(group, &self.me))
            && matches!(self.slice(group), Slice::Ours | Slice::Unlisted)
    }

    /// Another number whenever [`Self::slice`] may give other answers: a clearing begun under another one is abandoned
    /// at commit.
    #[must_use]
    pub fn map_version(&self) -> u64 {
        self.map_version
    }

    /// The version of the list in force; 0 for none.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.held.current.as_ref().map_or(0, List::version)
    }

    /// What is in force, and what is pending.
    #[must_use]
    pub fn held(&self) -> &Stored {
        &self.held
    }

    /// Whether a list is in force anywhere.
    fn is_founded(&self) -> bool {
        self.held.current.is_some() || self.words.values().any(|word| word.flags & ROOTED != 0)
    }

    /// Whether that member of a list we hold is gone: no greater list than the one it was gone from has it.
    fn gone(&self, server: &ServerId) -> Option<Gone> {
        let (as_of, why) = self.gone.get(server).copied().filter(|_| *server != self.me)?;
        let is_back = self.held.lists().any(|list| list.rank() > as_of && list.holds(server));
        // Who left said so itself. A word about somebody else counts only for lists that are known here.
        let counts = why == Gone::Left || as_of <= self.held.top_rank();
        (counts && !is_back).then_some(why)
    }

    /// Whether that one need not agree to anything.
    fn is_excused(&self, server: &ServerId) -> bool {
        match self.gone(server) {
            Some(Gone::Left) => true,
            Some(Gone::Struck) => !self.living.contains_key(server),
            None => false,
        }
    }

    /// Whether that one has said nothing since it left.
    fn is_away(&self, server: &ServerId) -> bool {
        self.gone.get(server).is_some_and(|(_, why)| *why == Gone::Left) && !self.words.contains_key(server)
    }

    fn says(&self, server: &ServerId, top: Digest, flags: u8) -> bool {
        self.words.get(server).is_some_and(|word| word.top == top && word.flags & flags == flags)
    }

    // --- inputs ---------------------------------------------------------------------------------------------

    /// Whether what all members that are heard know is known here ([`Domain::is_informed`](crate::domain::Domain)), and
    /// which other BINLDs live. Records that are known go in first.
    pub fn on_knowledge(&mut self, now: Time, informed: bool, living: &BTreeSet<ServerId>) {
        self.informed = informed;
        self.began_at.get_or_insert(now);
        self.living.retain(|server, _| living.contains(server));
        for server in living.iter().filter(|server| **server != self.me).take(ROLL_TOLD_MAX) {
            self.living.entry(*server).or_insert(now);
        }
        self.progress(now);
    }

    /// A record of kind *domain* of another server appeared or changed, or is gone (`None`).
    pub fn on_record(&mut self, now: Time, uid: Uid, said: Option<&Part>) {
        if uid.owner == self.me {
            return;
        }
        let outcome = match said {
            said if is_part(uid.number) => {
                let living = &self.living;
                self.gatherings
                    .on_part(uid.owner, uid.number, said, |owner| living.contains_key(owner))
                    .map(|()| true)
            }
            // What was said once holds for ever.
            None => Ok(false),
            Some(said) if uid.number == WORD => self.on_word(uid.owner, said),
            Some(said) => self.on_struck(said).map(|()| true),
        };
        match outcome {
            Ok(true) => self.progress_soon(now),
            Ok(false) => {}
            Err(why) => self.out.push_back(Output::Count("dropped.roll", why)),
        }
    }

    /// Whether that is news.
    fn on_word(&mut self, owner: ServerId, said: &Part) -> Result<bool, &'static str> {
        let top = Digest(said.members.first().ok_or("word")?.0);
        if said.part & LEFT != 0 {
            return self.note_gone(owner, (said.version, top), Gone::Left).map(|()| true);
        }
        if !self.words.contains_key(&owner) && self.words.len() >= ROLL_TOLD_MAX {
            let is_idle =
                |server: &ServerId| !self.members.contains(server) && !self.living.contains_key(server);
            let idle = self.words.keys().copied().find(is_idle);
            self.words.remove(&idle.ok_or("too_many")?);
        }
        let told = || said.members.iter().skip(1).map(|origin| Digest(origin.0));
        let own = told().take(usize::from(said.part >> 4)).collect();
        let mut origins = Origins { own, all: told().collect() };
        origins.bound();
        let word = Word { top, flags: said.part & 0xf, origins };
        let is_same = self.words.get(&owner) == Some(&word);
        self.words.insert(owner, word);
        Ok(!is_same)
    }

    fn on_struck(&mut self, said: &Part) -> Result<(), &'static str> {
        let (last, servers) = said.members.split_first().ok_or("struck")?;
        servers
            .iter()
            .try_for_each(|server| self.note_gone(*server, (said.version, Digest(last.0)), Gone::Struck))
    }

    fn note_gone(&mut self, server: ServerId, as_of: Rank, why: Gone) -> Result<(), &'static str> {
        if as_of.0 > self.version_max() {
            return Err("version");
        }
        if !self.gone.contains_key(&server) && self.gone.len() >= ROLL_GONE_MAX {
            let idle = self.gone.keys().copied().find(|server| !self.members.contains(server));
            self.gone.remove(&idle.ok_or("too_many")?);
        }
        if why == Gone::Left {
            self.words.remove(&server);
        }
        let known = self.gone.entry(server).or_insert((as_of, why));
        if known.0 < as_of {
            *known = (as_of, why);
        }
        Ok(())
    }

    /// An operator says that this server is gone for good, and its claims with it. It must not run, nor be started
    /// again before the list without it is in force, unless it hears the others. `false` if it is us, or no member.
    pub fn strike_off(&mut self, now: Time, server: ServerId) -> bool {
        let as_of = self.held.top_rank();
        let is_member = server != self.me && self.members.contains(&server);
        let noted = is_member && self.note_gone(server, as_of, Gone::Struck).is_ok();
        if noted {
            self.struck.insert(server, as_of);
            self.progress(now);
        }
        noted
    }

    /// We leave for good: nothing is ours from now on. [`News::MayEnd`] follows; to end before it may leave us in the
    /// list, as one that is dead.
    pub fn leave(&mut self, now: Time) {
        self.leaves_since.get_or_insert(now);
        self.held.left = true;
        self.change();
        self.progress(now);
    }

    /// The store has what [`Output::Store`] gave it, or failed.
    pub fn on_stored(&mut self, now: Time, is_stored: bool) {
        match self.writing.take() {
            Some(saved) if is_stored => {
                self.saved = saved;
                self.progress(now);
            }
            Some(_) => {
                self.changed = true;
                self.store_at = Some(now + ROLL_STORE_AGAIN);
                self.progress(now);
            }
            None => {}
        }
    }

    /// Time has passed. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Time) {
        self.progress(now);
    }

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.due
    }

    /// What is to be done next, until there is nothing left.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
}
