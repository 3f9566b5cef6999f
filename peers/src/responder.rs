//! The responder election (seed 001): which boot server of a link answers which clients.
//!
//! Clients are divided into [`SHARDS`](wire::elect::SHARDS); each is an [`Office`] of its own. Every boot server works out
//! the answer to every request that it hears, the responder of the client's shard sends it, and the others stand by with it
//! (R001.3, R001.4). The index of a server in a shard follows from its name and its weight
//! ([`index`]), so that the shards are spread over the servers, and those of a dead one over all
//! others.
//!
//! * *Detection* (R001.7, R001.24): every server multicasts an inquiry every 300 ms, which tells whom it has heard and is so
//!   the answer to theirs. Of a server that is not heard for two of them, by us or by anybody who tells us, an answer is
//!   demanded four times; then it does not work. From its last sign of life that takes 890 ms.
//! * *Election*: our own timer runs for the election delay (R001.12), over the delays that all have measured and told.
//!   When it runs out, and no message of another server has come, we declare ourselves.
//! * *Registration* (R001.25): each server's record tells which shards it answers. It repairs what lost messages leave
//!   behind: whoever is heard to answer a shard that its record does not confirm answers it no more.
//! * *Hold-down*: who has a better index than the responder takes over only when it has worked for 30 s.
//! * Who has slept for longer than it takes to be replaced stands by, for it knows nothing; and so does who has just begun.
//! * A server of weight 0 is drained: it goes on until somebody has declared itself in its place.
//!
//! Promises: any number of messages changes nothing but terms, of which each costs one epoch; at most one second message
//! goes to each server every 300 ms, and one inquiry back for each urgent one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Deadline, Time};
use wire::control::Message;
use wire::elect::{HEARD_MAX, HeardOf, Inquiry, Responder, Shard, TYPES_MAX, Term as ToldTerm};
use wire::{Mac, ServerId, ServerType};

use crate::elect::{Office, State};
use crate::limits::{
    CANDIDATE_KEEP, CONFIRM_WITHIN, HELLO_SHARE, HOLD_DOWN, INQUIRIES_MISSED, INQUIRIES_REMEMBERED,
    INQUIRY_INTERVAL, INQUIRY_SLACK, RESPONDER_LIVES, URGENT_MAX, URGENT_WAIT,
};
use crate::rendezvous::{index, shard_of};

use candidate::Candidate;

mod candidate;
mod delay;
mod messages;
mod offices;

type Term = crate::elect::Term<u32>;

/// To whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// All boot servers of the link.
    Link,
    /// One.
    One(SocketAddrV4),
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(To, Message),
    /// Tell the whole domain this from now on, in a record that lives for so many seconds.
    Publish(u16, Responder),
    /// Something to count: a place, and what happened there.
    Count(&'static str, &'static str),
    /// News for the log, and for whoever goes by it.
    Tell(News),
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// We answer so many shards more.
    TookOver {
        /// How many.
        shards: usize,
        /// Who answered them before, if it was one.
        from: Option<ServerId>,
    },
    /// Another one answers so many shards of ours.
    GaveWay {
        /// How many.
        shards: usize,
        /// Who.
        to: ServerId,
    },
    /// That boot server does not work.
    Failed(ServerId),
    /// It works again.
    Works(ServerId),
    /// We slept, and stand by.
    Slept,
    /// That server says what cannot be: nothing changed.
    Strange(ServerId, &'static str),
}

/// What a client wants, as far as it matters who answers it. Not all servers have the same boot items, nor can all say the
/// same about each: of those that can the first answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants<'a> {
    /// What it asks for.
    pub server_type: ServerType,
    /// If there is a boot server at one of these addresses, it has the better answer.
    pub at: &'a [Ipv4Addr],
}

/// Our place for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// We answer it.
    Responder,
    /// We stand by; so many others that work would answer before us, the responder left out.
    Standby(usize),
}

/// A boot server of the link, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateStatus {
    /// Who.
    pub server: ServerId,
    /// Where its control messages come from; `None` for us.
    pub control: Option<SocketAddrV4>,
    /// Its weight, 0 if it is drained; `None` before its record has come.
    pub weight: Option<u8>,
    /// Whether it works.
    pub works: bool,
    /// How many shards it answers, as far as we know.
    pub shards: usize,
    /// How long a message to it and its answer take; `None` for us, and before it is measured.
    pub delay: Option<Duration>,
}

/// The machine.
#[derive(Debug)]
pub struct Responders {
    me: ServerId,
    address: Ipv4Addr,
    /// As configured or measured.
    weight: u8,
    drained: bool,
    /// What we can answer.
    types: Vec<ServerType>,
    /// By shard.
    offices: Vec<Office<u32>>,
    candidates: BTreeMap<ServerId, Candidate>,
    /// Whether we have heard what the domain knows, or waited for it long enough.
    joined: bool,
    /// Since when nothing has shaken us.
    stable_since: Time,
    count: u32,
    /// When our last inquiries went out, the latest last.
    sent: VecDeque<(u32, Time)>,
    inquire_at: Time,
    /// Whom the next inquiry tells of first.
    tell_from: Option<ServerId>,
    unsettled: bool,
    unpublished: bool,
    next_at: Time,
    out: VecDeque<Output>,
}

impl Responders {
    /// Begins at that address; knows of nobody. `weight`: how large a share of the clients we want, 1 to
    /// [`WEIGHT_MAX`](wire::elect::WEIGHT_MAX).
    #[must_use]
    pub fn new(me: ServerId, address: Ipv4Addr, weight: u8, now: Time) -> Self {
        let offices = Shard::all().map(|shard| Office::new(me, index(shard, &me, weight), now));
        Self {
            me,
            address,
            weight,
            drained: false,
            types: Vec::new(),
            offices: offices.collect(),
            candidates: BTreeMap::new(),
            joined: false,
            stable_since: now,
            count: 0,
            sent: VecDeque::new(),
            inquire_at: now,
            tell_from: None,
            unsettled: true,
            unpublished: true,
            next_at: now,
            out: VecDeque::new(),
        }
    }

    // --- what is known --------------------------------------------------------------------------------------

    /// Our place for that client; we can answer it.
    #[must_use]
    pub fn place(&self, client: Mac, wants: &Wants<'_>) -> Place {
        self.place_of(shard_of(client), wants)
    }

    fn place_of(&self, shard: Shard, wants: &Wants<'_>) -> Place {
        let Some(office) = self.office(shard) else { return Place::Standby(0) };
        let answers = |candidate: &Candidate| candidate.works && candidate.has(wants.server_type);
        let is_at = |candidate: &Candidate| wants.at.contains(candidate.control().ip());
        let anybody_at = wants.at.contains(&self.address)
            || self.candidates.values().any(|candidate| answers(candidate) && is_at(candidate));
        // Whoever has the whole answer comes first.
        let ours = (anybody_at && !wants.at.contains(&self.address), office.index(), self.me);
        let holder = office.holder().map(|term| term.server);
        let has_responder = match holder {
            Some(holder) if holder == self.me => !ours.0,
            // One that does not work will be replaced.
            Some(holder) => self
                .candidates
                .get(&holder)
                .is_none_or(|it| !it.works || (it.has(wants.server_type) && (!anybody_at || is_at(it)))),
            None => true,
        };
        if office.is_ours() && has_responder {
            return Place::Responder;
        }
        let better = |(server, candidate): &(&ServerId, &Candidate)| {
            let stands = answers(candidate) && !(has_responder && Some(**server) == holder);
            let weight = candidate.weight().filter(|_| stands);
            weight.is_some_and(|weight| {
                (anybody_at && !is_at(candidate), index(shard, server, weight), **server) < ours
            })
        };
        let before = self.candidates.iter().filter(better).count();
        if before == 0 && !has_responder { Place::Responder } else { Place::Standby(before) }
    }

    /// Who answers that shard, as far as we know.
    #[must_use]
    pub fn responder(&self, shard: Shard) -> Option<ServerId> {
        self.office(shard)?.holder().map(|term| term.server)
    }

    /// How many shards have a responder that works, as far as we know.
    #[must_use]
    pub fn answered(&self) -> usize {
        let works = |server: ServerId| server == self.me || self.works(server);
        let holders = self.offices.iter().filter_map(Office::holder);
        holders.filter(|term| works(term.server)).count()
    }

    /// Whether an operator has us stand by.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Our weight as others are told it.
    #[must_use]
    pub fn weight(&self) -> u8 {
        if self.drained { 0 } else { self.weight }
    }

    /// The boot servers of the link, ourselves among them, in order of name.
    pub fn status(&self) -> impl Iterator<Item = CandidateStatus> + '_ {
        let us = CandidateStatus {
            server: self.me,
            control: None,
            weight: Some(self.weight()),
            works: true,
            shards: self.shards_of(self.me),
            delay: None,
        };
        let others = self.candidates.iter().map(|(server, candidate)| CandidateStatus {
            server: *server,
            control: Some(candidate.control()),
            weight: candidate.weight(),
            works: candidate.works,
            shards: self.shards_of(*server),
            delay: candidate.measured(),
        });
        let all: BTreeMap<ServerId, CandidateStatus> =
            others.chain([us]).map(|status| (status.server, status)).collect();
        all.into_values()
    }

    fn shards_of(&self, server: ServerId) -> usize {
        let holders = self.offices.iter().filter_map(Office::holder);
        holders.filter(|term| term.server == server).count()
    }

    fn works(&self, server: ServerId) -> bool {
        self.candidates.get(&server).is_some_and(|candidate| candidate.works)
    }

    fn office(&self, shard: Shard) -> Option<&Office<u32>> {
        self.offices.get(usize::from(shard.number()))
    }

    fn office_mut(&mut self, shard: Shard) -> Option<&mut Office<u32>> {
        self.offices.get_mut(usize::from(shard.number()))
    }

    fn interval(&self) -> Duration {
        let servers = u32::try_from(self.candidates.len()).unwrap_or(u32::MAX).saturating_add(1);
        INQUIRY_INTERVAL.max(HELLO_SHARE.saturating_mul(servers))
    }

    /// After how long a silence somebody is asked in particular.
    fn patience(&self) -> Duration {
        self.interval() * INQUIRIES_MISSED + INQUIRY_SLACK
    }

    // --- time -----------------------------------------------------------------------------------------------

    /// When [`Self::on_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        Deadline { at: self.next_at, why: "inquiry or election due" }
    }

    /// To be called before any other input: who has slept must know it before it goes by what it knew.
    pub fn on_input(&mut self, now: Time) {
        if now.since(self.inquire_at) >= self.patience() + URGENT_WAIT * u32::from(URGENT_MAX) {
            self.on_slept(now);
            self.settle(now);
        }
    }

    /// Time has passed. Early, late and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Time) {
        if now < self.next_at {
            return;
        }
        self.on_input(now);
        self.look_for_silent(now);
        if now >= self.inquire_at {
            self.inquire(now);
            self.forget_gone(now);
            self.audit(now);
            self.preempt(now);
            self.unsettled = true;
        }
        self.unsettled |= self.vacant_due().is_some_and(|at| at <= now);
        self.declare_due(now);
        self.settle(now);
    }

    /// When the first of the offices that nobody holds may be waited for: long enough after it became vacant for
    /// everybody to have been heard, and to have heard us.
    fn vacant_due(&self) -> Option<Time> {
        let vacant = |office: &&Office<u32>| office.holder().is_none() && office.state() == State::StandingBy;
        let since = self.offices.iter().filter(vacant).map(Office::since).min().filter(|_| self.joined)?;
        Some(since + self.patience())
    }

    fn on_slept(&mut self, now: Time) {
        let patience = self.patience();
        (self.stable_since, self.inquire_at) = (now, now);
        for candidate in self.candidates.values_mut() {
            candidate.spare(now, patience);
        }
        let ours =
            self.offices.iter_mut().filter(|office| office.is_ours() || office.state() != State::StandingBy);
        ours.for_each(|office| office.vacate(now));
        self.unpublished = true;
        self.out.push_back(Output::Tell(News::Slept));
    }

    fn inquire(&mut self, now: Time) {
        self.count = self.count.wrapping_add(1);
        if self.sent.len() >= INQUIRIES_REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.count, now));
        let inquiry = self.inquiry(now, false);
        self.out.push_back(Output::Send(To::Link, Message::Inquiry(inquiry)));
        self.inquire_at = now + self.interval();
    }

    /// The latest inquiry, with what it tells of others: of all in turn, if there are too many.
    fn inquiry(&mut self, now: Time, urgent: bool) -> Inquiry {
        let heard = |(server, candidate): (&ServerId, &Candidate)| candidate.heard_of(*server, now);
        let first = self.tell_from.unwrap_or(ServerId([0; 16]));
        let later = self.candidates.range(first..).filter_map(heard);
        let mut all = later.chain(self.candidates.range(..first).filter_map(heard));
        let told: Vec<HeardOf> = all.by_ref().take(HEARD_MAX).collect();
        let next = all.next().map(|heard| heard.server);
        if !urgent {
            self.tell_from = next;
        }
        Inquiry { urgent, count: self.count, heard: told }
    }

    /// Who was not heard for too long is asked in particular, and does not work if it never answers.
    fn look_for_silent(&mut self, now: Time) {
        let patience = self.patience();
        let due: Vec<ServerId> = self
            .candidates
            .iter()
            .filter(|(_, candidate)| candidate.due_at(patience).is_some_and(|at| at <= now))
            .map(|(server, _)| *server)
            .collect();
        for server in due {
            let inquiry = self.inquiry(now, true);
            let Some(candidate) = self.candidates.get_mut(&server) else { continue };
            if candidate.ask(now) {
                let to = To::One(candidate.control());
                self.out.push_back(Output::Count("inquiry", "urgent"));
                self.out.push_back(Output::Send(to, Message::Inquiry(inquiry)));
            } else {
                self.out.push_back(Output::Count("inquiry", "unanswered"));
                self.out.push_back(Output::Tell(News::Failed(server)));
                self.unsettled = true;
            }
        }
    }

    fn forget_gone(&mut self, now: Time) {
        let gone =
            |candidate: &Candidate| !candidate.works && now.since(candidate.alive_at()) >= CANDIDATE_KEEP;
        let gone: Vec<ServerId> =
            self.candidates.iter().filter(|(_, it)| gone(it)).map(|(server, _)| *server).collect();
        for server in gone {
            self.on_left(now, server);
        }
    }

    // --- what we are told to be ----------------------------------------------------------------------------

    /// What the domain knows is known here, too, or we have waited for it long enough: offices may be filled.
    pub fn on_joined(&mut self, now: Time) {
        if !self.joined {
            self.joined = true;
            self.unsettled = true;
            self.settle(now);
        }
    }

    /// An operator has us stand by, or not any more. Until somebody else has declared itself we go on.
    pub fn drain(&mut self, now: Time, drained: bool) {
        self.drained = drained;
        self.set_weight(now, self.weight);
    }

    /// How large a share of the clients we want from now on.
    pub fn set_weight(&mut self, now: Time, weight: u8) {
        self.weight = weight;
        let (me, weight) = (self.me, self.weight());
        for (shard, office) in Shard::all().zip(&mut self.offices) {
            office.set_index(index(shard, &me, weight));
        }
        (self.unsettled, self.unpublished) = (true, true);
        self.settle(now);
    }

    /// What we can answer from now on.
    pub fn set_types(&mut self, now: Time, types: &BTreeSet<ServerType>) {
        self.types = types.iter().copied().take(TYPES_MAX).collect();
        self.unpublished = true;
        self.settle(now);
    }

    // --- out ------------------------------------------------------------------------------------------------

    /// Whether there is any output.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Takes the oldest output.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn count(&mut self, place: &'static str, what: &'static str) {
        self.out.push_back(Output::Count(place, what));
    }

    fn strange(&mut self, server: ServerId, what: &'static str) {
        self.count("dropped.election", what);
        self.out.push_back(Output::Tell(News::Strange(server, what)));
    }

    fn settle(&mut self, now: Time) {
        if std::mem::take(&mut self.unsettled) {
            self.look_at_offices(now);
        }
        if std::mem::take(&mut self.unpublished) {
            let ours = Shard::all().zip(&self.offices).filter(|(_, office)| office.is_ours());
            let shards = ours.filter_map(|(shard, office)| {
                let term = office.holder()?;
                Some((shard, ToldTerm { epoch: term.epoch, index: term.index }))
            });
            let (weight, types, shards) = (self.weight(), self.types.clone(), shards.collect());
            self.out.push_back(Output::Publish(RESPONDER_LIVES, Responder { weight, types, shards }));
        }
        let patience = self.patience();
        let waiting = self.offices.iter().filter_map(|office| match office.state() {
            State::Waiting { until } => Some(until),
            State::StandingBy | State::Holding => None,
        });
        let silent = self.candidates.values().filter_map(|candidate| candidate.due_at(patience));
        self.next_at = waiting
            .chain(silent)
            .chain(self.vacant_due())
            .min()
            .unwrap_or(self.inquire_at)
            .min(self.inquire_at);
    }
}

#[cfg(test)]
mod tests;
