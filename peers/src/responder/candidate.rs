//! Another boot server of our link: whether it works, and how long the way to it is.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{RoundTrip, Time};
use wire::elect::{HeardOf, Inquiry, Responder, Shard, Term};
use wire::{ServerId, ServerType};

use crate::limits::{DELAY_MAX, DELAY_MIN, DELAY_UNKNOWN, INQUIRY_SLACK, URGENT_MAX, URGENT_WAIT};
use crate::rendezvous::index;

/// One that stands for election.
#[derive(Debug)]
pub(super) struct Candidate {
    control: SocketAddrV4,
    pub(super) works: bool,
    /// Its last sign of life, or our last reason not to expect one.
    alive_at: Time,
    /// How often it was asked in particular since, and when last.
    asked: (u8, Time),
    /// The latest inquiry that we heard ourselves.
    heard: Option<(u32, Time)>,
    round_trip: RoundTrip,
    is_measured: bool,
    /// The delays that it tells of.
    delays: BTreeMap<ServerId, Duration>,
    /// Of its record: the weight.
    weight: Option<u8>,
    /// Of its record: what it can answer.
    types: Vec<ServerType>,
    /// Of its record: the shards that it answers, with its terms.
    pub(super) shards: Vec<(Shard, Term)>,
    /// When it was last sent a second message.
    pub(super) revoked_at: Option<Time>,
}

impl Candidate {
    pub(super) fn new(control: SocketAddrV4, now: Time) -> Self {
        Self {
            control,
            works: true,
            alive_at: now,
            asked: (0, now),
            heard: None,
            round_trip: RoundTrip::default(),
            is_measured: false,
            delays: BTreeMap::new(),
            weight: None,
            types: Vec::new(),
            shards: Vec::new(),
            revoked_at: None,
        }
    }

    pub(super) fn control(&self) -> SocketAddrV4 {
        self.control
    }

    pub(super) fn alive_at(&self) -> Time {
        self.alive_at
    }

    /// Its weight, once its record has come.
    pub(super) fn weight(&self) -> Option<u8> {
        self.weight
    }

    /// What its record tells; nothing any more if it has ended. Shards with an index that is not this server's are left out:
    /// `false` if there were any.
    pub(super) fn tell(&mut self, server: ServerId, told: Option<&Responder>) -> bool {
        self.weight = told.map(|told| told.weight);
        self.types = told.map(|told| told.types.clone()).unwrap_or_default();
        let all = told.map(|told| told.shards.as_slice()).unwrap_or_default();
        let is_right = |(shard, term): &&(Shard, Term)| {
            Some(term.index) == self.weight.map(|weight| index(*shard, &server, weight))
        };
        self.shards = all.iter().filter(is_right).copied().collect();
        self.shards.len() == all.len()
    }

    /// Whether it can answer that at all, as its record tells.
    pub(super) fn has(&self, server_type: ServerType) -> bool {
        self.weight.is_none() || self.types.contains(&server_type)
    }

    /// It lived then. Gives whether it did not work before.
    pub(super) fn live(&mut self, at: Time) -> bool {
        if at <= self.alive_at {
            return false;
        }
        (self.alive_at, self.asked.0) = (at, 0);
        !std::mem::replace(&mut self.works, true)
    }

    /// Another server has heard it then. What we have heard ourselves counts more: those that stand by shall miss the same
    /// sign of life at the same time.
    pub(super) fn live_by_word(&mut self, at: Time) -> bool {
        at > self.alive_at + INQUIRY_SLACK && self.live(at)
    }

    /// We did not listen ourselves: it is not missed before it was asked once more.
    pub(super) fn spare(&mut self, now: Time, patience: Duration) {
        let just_due = Time::from_nanos(now.as_nanos().saturating_sub(nanos(patience)));
        if self.works {
            (self.alive_at, self.asked) = (self.alive_at.max(just_due), (0, now));
        }
    }

    pub(super) fn on_inquiry(
        &mut self,
        now: Time,
        from: SocketAddrV4,
        inquiry: &Inquiry,
        rtt: Option<Duration>,
    ) {
        (self.control, self.heard) = (from, Some((inquiry.count, now)));
        if let Some(rtt) = rtt {
            self.round_trip.measured(rtt);
            self.is_measured = true;
        }
        for heard in &inquiry.heard {
            self.delays.insert(heard.server, Duration::from_millis(heard.delay_ms.into()));
        }
        // More than one inquiry can tell are told in turn; of many more the first are forgotten.
        while self.delays.len() > crate::limits::DELAYS_MAX {
            self.delays.pop_first();
        }
    }

    /// What our inquiry tells of it, if we have heard it ourselves.
    pub(super) fn heard_of(&self, server: ServerId, now: Time) -> Option<HeardOf> {
        let (count, at) = self.heard?;
        let ago_ms = u16::try_from(now.since(at).as_millis()).unwrap_or(u16::MAX);
        let delay_ms = u8::try_from(self.delay().as_millis()).unwrap_or(u8::MAX);
        Some(HeardOf { server, count, ago_ms, delay_ms })
    }

    /// When it is to be asked in particular, or given up.
    pub(super) fn due_at(&self, patience: Duration) -> Option<Time> {
        let (count, asked_at) = self.asked;
        let at = if count == 0 { self.alive_at + patience } else { asked_at + URGENT_WAIT };
        self.works.then_some(at)
    }

    /// It is asked in particular; `false` if that was done often enough, and it does not work.
    pub(super) fn ask(&mut self, now: Time) -> bool {
        let (count, _) = self.asked;
        self.works = count < URGENT_MAX;
        self.asked = (count + u8::from(self.works), now);
        self.works
    }

    /// How long a message to it and its answer take, with four deviations, within bounds.
    pub(super) fn delay(&self) -> Duration {
        self.round_trip.resend_after(DELAY_UNKNOWN, DELAY_MIN, DELAY_MAX)
    }

    pub(super) fn measured(&self) -> Option<Duration> {
        self.is_measured.then(|| self.delay())
    }

    /// The delay between it and that server, as it tells.
    pub(super) fn delay_to(&self, server: ServerId) -> Option<Duration> {
        self.delays.get(&server).map(|delay| (*delay).clamp(DELAY_MIN, DELAY_MAX))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
