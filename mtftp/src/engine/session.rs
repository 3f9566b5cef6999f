//! One file over one group address: PXE-MTFTP as iPXE does it (PXE 2.1 § 2.4.10; `pxe.md` B and H), and RFC 2090, with the
//! differences that [`Protocol`] lists. The picture is that of PXE-MTFTP.
//!
//! ```text
//!            open                     ACK of the master: next block it lacks, to the group
//!  (none) ──────────► Master ◄──────────────────────────────────────────────┐
//!                       │ it has all but the last block, is done, or silent │
//!                       ▼                                                   │
//!            somebody lacks a block ── one block by unicast makes it master ┘
//!                       │ nobody is known to
//!                       ▼
//!            Answers: openers not heard of yet are asked by a unicast block; the last block is held back
//!                       │ all heard of, or silent
//!                       ▼
//!            the last block, to the group ── ACK of it, or silence ──► opener gone; the last one ends the session
//! ```
//!
//! Whoever gets one DATA by unicast ACKs every DATA from then on, and an ACK names the block before its first gap.
//! All others only listen. So for each opener the session keeps which blocks it *may lack*: at its open all of them;
//! a block sent to the group is taken off everybody's list, until an ACK says otherwise. A block that is on no list
//! is not sent, but as a question to somebody not heard of. Blocks run ahead of the ACKs of the master: see [`ahead`]. In
//! RFC 2090 those who may lack what was sent are asked all together at the end: see [`repair`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Deadline, Role, RoundTrip, Time};
use wire::policy::Policy;
use wire::tftp::{Options, block_count};

use super::RunAhead;
use super::action::{AwaitedStart, FileFacts, Tally};
use super::context::Context;
use super::master::{Clock, OpenerRole};
use super::pace::Pace;
use super::protocol::Protocol;
use super::trace::Trace;
use super::window::BlockSet;
use crate::limits::{
    ANSWER_FIRST, BLOCKS_BEFORE_ACK, GAP_REPEATS, GROUP_AHEAD_MAX, OPENERS_MAX, OPENERS_PER_SOURCE_MAX,
    RESEND_MIN, SILENCE_MAX, TRANSFER_RESEND_MAX,
};

mod ahead;
mod lanes;
mod last_block;
mod pacing;
#[cfg(test)]
mod policy_tests;
mod repair;
#[cfg(test)]
mod rfc2090_tests;
mod roles;
mod slow;
mod start;
mod step;
#[cfg(test)]
mod tests;

use ahead::Ahead;
use lanes::Lane;
use repair::{Repair, Said};
use slow::Tenure;

/// Blocks whose time of sending is remembered: more than can be on the way to all who ACK.
const RECENT_MAX: usize = 128;
/// For so long at least a block counts as on its way.
const RECENT_LEAST: Duration = Duration::from_millis(1);

/// A client that opened the session and is not known to have the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opener {
    opened_at: Time,
    /// The lowest is served first; being passed over moves an opener to the end.
    turn: u64,
    lacks: BlockSet,
    /// The highest ACK; `None` while it only listens.
    acked: Option<u16>,
    /// How often it repeated that in a row.
    repeats: u8,
    /// When it last ACKed.
    heard_at: Option<Time>,
    /// When it was last sent something it should ACK, if it has not.
    asked_at: Option<Time>,
    /// When it was sent the last block by unicast, as others kept it waiting.
    alone_at: Option<Time>,
    /// Unicast blocks it left unanswered since its last ACK.
    questions: u8,
    /// Turns as master that it left unanswered.
    strikes: u8,
    /// RFC 2090: the options it was granted, but for `multicast`.
    granted: Options,
    /// RFC 2090: when it was last told that it is not the master.
    told_off_at: Option<Time>,
    /// How fast it went as master.
    pace: Pace,
    /// It was too slow, and has its turn when nobody else wants one.
    slow: bool,
    /// RFC 2090: what it is sent on its own account.
    repair: Repair,
    /// Since when it is sent what it lacks on its own account.
    repaired_since: Option<Time>,
    /// It takes nothing behind a gap.
    strict: bool,
    /// How long it takes to ACK.
    round_trip: RoundTrip,
}

impl Opener {
    /// It ACKs this block, which went out so long ago. True if it repeats itself: not once or twice, which copies for others
    /// cause, too.
    fn say(&mut self, block: u16, progress: bool, lag: Option<Duration>) -> bool {
        self.acked = Some(block);
        self.repeats = if progress { 0 } else { self.repeats.saturating_add(1) };
        if let Some(lag) = lag.filter(|_| progress) {
            self.round_trip.measured(lag);
        }
        self.repeats >= GAP_REPEATS
    }

    /// Whether the slow wait for it. Not for long: who lacks much can hear what they get, and who does not answer may be gone.
    fn is_quick(&self, now: Time) -> bool {
        !self.slow
            && self.questions < 2
            && self.repaired_since.is_none_or(|since| now.since(since) < SILENCE_MAX)
    }

    fn resend_after(&self) -> Duration {
        self.round_trip.resend_after(ANSWER_FIRST, RESEND_MIN, SILENCE_MAX)
    }
}

/// What became of an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is listed now.
    Listed,
    /// It was listed already: a repeat, which starts nothing.
    Repeated,
    /// There is no room.
    Refused,
    /// It was too slow: it gets no answer, and goes on by plain TFTP.
    Dropped,
}

/// Where and how a session sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) protocol: Protocol,
    /// By which door.
    pub(crate) role: Role,
    /// The address it multicasts to, and the clients' port.
    pub(crate) group: SocketAddrV4,
    /// Bytes.
    pub(crate) block_size: u16,
    /// Firmware that shares an address takes blocks in any order, or has them sent again: *proven* and *all* are the same.
    pub(crate) run_ahead: RunAhead,
    /// How the boot item wants the clients treated.
    pub(crate) policy: Policy,
}

/// A running session. It has ended when [`Session::is_over`].
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) file: FileFacts,
    pub(crate) channel: Channel,
    /// The number of the last block: the count of blocks.
    last: u16,
    /// Until then only opens are taken.
    pub(crate) start: Option<AwaitedStart>,
    openers: BTreeMap<SocketAddrV4, Opener>,
    /// Who was too slow, and goes at its own pace.
    lanes: BTreeMap<SocketAddrV4, Lane>,
    turns: u64,
    clock: Clock,
    ahead: Ahead,
    tenure: Tenure,
    round_trip: RoundTrip,
    recent: VecDeque<(u16, Time)>,
    /// When the last block began to be held back; openers that came later do not prolong that.
    held_since: Option<Time>,
    sent_at: Time,
    multicast_at: Time,
    heard_at: Time,
    acked_at: Option<Time>,
    /// Blocks that may go out without any ACK.
    credit: u32,
    /// Per address: what the rule of port 69 asks.
    pub(crate) traces: BTreeMap<Ipv4Addr, Trace>,
    pub(crate) tally: Tally,
}

impl Session {
    /// A session of a file that fits: at most 65,535 blocks.
    pub(crate) fn new(now: Time, facts: FileFacts, channel: Channel) -> Self {
        let blocks = block_count(facts.size, channel.block_size);
        let ahead_max = if channel.run_ahead == RunAhead::Off { 1 } else { GROUP_AHEAD_MAX };
        let mut session = Self {
            file: facts,
            channel,
            last: u16::try_from(blocks).unwrap_or(u16::MAX),
            start: None,
            openers: BTreeMap::new(),
            lanes: BTreeMap::new(),
            turns: 0,
            clock: Clock::Idle,
            ahead: Ahead::new(ahead_max),
            tenure: Tenure::default(),
            round_trip: RoundTrip::default(),
            recent: VecDeque::new(),
            held_since: None,
            sent_at: now,
            multicast_at: now,
            heard_at: now,
            acked_at: None,
            credit: 0,
            traces: BTreeMap::new(),
            tally: Tally { blocks, ..Tally::default() },
        };
        session.start = session.awaited_start(now);
        session
    }

    pub(crate) fn is_over(&self) -> bool {
        self.openers.is_empty() && self.lanes.is_empty()
    }

    fn is_rfc2090(&self) -> bool {
        self.channel.protocol == Protocol::Rfc2090
    }

    pub(crate) fn has(&self, client: SocketAddrV4) -> bool {
        self.openers.contains_key(&client) || self.lanes.contains_key(&client)
    }

    pub(crate) fn role(&self, client: SocketAddrV4) -> OpenerRole {
        match self.openers.get(&client) {
            None => OpenerRole::Unicast,
            Some(_) if self.master() == Some(client) => OpenerRole::Master,
            Some(opener) if opener.slow => OpenerRole::Slow,
            Some(_) => OpenerRole::Listener,
        }
    }

    pub(crate) fn openers(&self) -> impl Iterator<Item = SocketAddrV4> + '_ {
        self.openers.keys().chain(self.lanes.keys()).copied()
    }

    pub(crate) fn master(&self) -> Option<SocketAddrV4> {
        match &self.clock {
            Clock::Master(master) => Some(master.client),
            Clock::Answers | Clock::Idle => None,
        }
    }

    /// Everybody who was there and did not finish counts as lost.
    pub(crate) fn cut(&mut self) {
        self.tally.lost += u64::try_from(self.openers().count()).unwrap_or(u64::MAX);
        self.openers.clear();
        self.lanes.clear();
    }

    // --- when -----------------------------------------------------------------------------------------------

    /// The wait doubles with each resend, up to the longest silence allowed.
    fn resend_after_tries(&self, client: SocketAddrV4, tries: u32) -> Duration {
        let own = self.openers.get(&client).map_or(ANSWER_FIRST, |opener| opener.resend_after());
        own.saturating_mul(1 << tries.min(8)).min(self.silence_max())
    }

    /// The longest silence while somebody waits. A client of RFC 2090 that is alone bears more.
    fn silence_max(&self) -> Duration {
        if self.is_rfc2090() && self.openers.len() == 1 { TRANSFER_RESEND_MAX } else { SILENCE_MAX }
    }

    /// Whether somebody ACKed lately, or an open is still owed its first blocks.
    fn may_send(&self, now: Time) -> bool {
        // In RFC 2090 no block goes out before an ACK, see `put`; the session ends soon after the last one.
        self.is_rfc2090() || self.credit > 0 || self.acked_lately(now)
    }

    fn acked_lately(&self, now: Time) -> bool {
        self.acked_at.is_some_and(|at| now.since(at) < self.channel.protocol.patience())
    }

    /// How long what went out last may stay unanswered.
    fn answer_within(&self) -> Duration {
        match &self.clock {
            // Who never ACKed may be slow to begin.
            Clock::Master(master) if self.is_rfc2090() || self.has_acked(master.client) => {
                self.resend_after_tries(master.client, master.tries)
            }
            Clock::Master(_) | Clock::Answers | Clock::Idle => SILENCE_MAX,
        }
    }

    fn has_acked(&self, client: SocketAddrV4) -> bool {
        self.openers.get(&client).is_some_and(|opener| opener.acked.is_some())
    }

    pub(crate) fn next_deadline(&self) -> Deadline {
        if let Some(start) = self.start {
            return Deadline { at: start.at, why: "clients are awaited" };
        }
        let patience = self.channel.protocol.patience();
        let stop = Deadline { at: self.heard_at + patience, why: "a session hears nobody" };
        let mut next = Deadline { at: self.sent_at + self.answer_within(), why: "a client is silent" };
        if self.openers.len() > 1 && !self.is_rfc2090() {
            let quiet = Deadline { at: self.multicast_at + SILENCE_MAX, why: "listeners hear nothing" };
            next = if quiet.at < next.at { quiet } else { next };
        }
        if matches!(self.clock, Clock::Answers) {
            let repairs = self.repairs_deadline();
            next = if self.is_rfc2090() { repairs } else { Deadline::earliest(Some(next), repairs) }
                .unwrap_or(next);
        }
        next = Deadline::earliest(Some(next), self.suspects()).unwrap_or(next);
        next = Deadline::earliest(Some(next), self.alone_deadline()).unwrap_or(next);
        // With nothing left to send on anybody's account, only an ACK or an open goes on.
        let next = (self.may_send(next.at) && !self.openers.is_empty()).then_some(next);
        Deadline::earliest(Deadline::earliest(Some(stop), self.lanes_deadline()), next).unwrap_or(stop)
    }

    pub(crate) fn on_timeout(&mut self, now: Time, context: &mut Context) {
        if let Some(start) = self.start {
            if now >= start.at {
                self.begin(now, context);
            }
            return;
        }
        if now.since(self.heard_at) >= self.channel.protocol.patience() {
            self.cut();
            return;
        }
        self.on_lanes_timeout(now, context);
        if !self.may_send(now) || self.openers.is_empty() {
            return;
        }
        self.release_alone(now, context);
        if matches!(self.clock, Clock::Answers) {
            self.on_repairs_timeout(now, context);
            if self.is_rfc2090() {
                return self.step(now, context);
            }
        }
        if let Some(client) = self.master()
            && self.suspects().is_some_and(|lost| lost.at <= now)
        {
            self.on_gap(now, client, context);
        }
        if now >= self.sent_at + self.answer_within() {
            match self.clock.clone() {
                Clock::Master(master) => self.on_master_silent(now, master, context),
                Clock::Answers | Clock::Idle => self.step(now, context),
            }
        }
        self.break_silence(now, context);
    }

    /// While one opener is asked by unicast, the others must not hear silence: they get what somebody lacks, or
    /// else a copy. The timer of the one who is asked runs on.
    fn break_silence(&mut self, now: Time, context: &mut Context) {
        if self.openers.len() < 2 || self.is_rfc2090() || now < self.multicast_at + SILENCE_MAX {
            return;
        }
        let hold = self.holds_back(now);
        let wanted = self.openers.values().filter_map(|opener| self.want(opener, hold)).min();
        let sent_at = self.sent_at;
        self.multicast(now, wanted.unwrap_or(self.last.saturating_sub(1).max(1)), context);
        self.sent_at = sent_at;
        // Even if there was nothing to send on anybody's account.
        self.multicast_at = now;
    }

    fn lose(&mut self, client: SocketAddrV4) {
        if self.openers.remove(&client).is_some() {
            self.tally.lost += 1;
        }
    }

    // --- what the clients say -------------------------------------------------------------------------------

    /// An open: it starts the session or is queued in it. In RFC 2090 it is a request, and `granted` are the options that
    /// it is granted but for `multicast`.
    pub(crate) fn on_open(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        granted: Options,
        context: &mut Context,
    ) -> Opened {
        if self.reopen_lane(now, client, context) {
            return Opened::Repeated;
        }
        if let Some(opener) = self.openers.get_mut(&client) {
            if self.channel.protocol == Protocol::Rfc2090 {
                // Its OACK was lost, or it has begun anew.
                if opener.acked.take().is_some() {
                    opener.lacks = BlockSet::whole(self.last);
                    (opener.repair, opener.repaired_since) = (Repair::default(), None);
                }
                let is_master = self.master() == Some(client);
                if let Clock::Master(master) = &mut self.clock
                    && is_master
                {
                    master.block = 0;
                }
                self.tell_role(client, is_master, context);
            }
            return Opened::Repeated;
        }
        let range = SocketAddrV4::new(*client.ip(), 0)..=SocketAddrV4::new(*client.ip(), u16::MAX);
        let room = self.openers.len() < OPENERS_MAX
            && self.openers.range(range.clone()).count() + self.lanes.range(range).count()
                < OPENERS_PER_SOURCE_MAX
            && (self.traces.len() < OPENERS_MAX || self.traces.contains_key(client.ip()));
        if !room {
            return Opened::Refused;
        }
        self.turns += 1;
        let opener = Opener {
            opened_at: now,
            turn: self.turns,
            lacks: BlockSet::whole(self.last),
            acked: None,
            repeats: 0,
            heard_at: None,
            asked_at: None,
            alone_at: None,
            questions: 0,
            strikes: 0,
            granted,
            told_off_at: None,
            pace: Pace::default(),
            slow: false,
            repair: Repair::default(),
            repaired_since: None,
            strict: false,
            round_trip: RoundTrip::default(),
        };
        self.openers.insert(client, opener);
        self.traces.insert(*client.ip(), Trace::default());
        self.tally.openers += 1;
        self.heard_at = now;
        if self.is_rfc2090() {
            self.begin_or_listen(now, client, context);
            return Opened::Listed;
        }
        self.credit += BLOCKS_BEFORE_ACK;
        match self.clock {
            Clock::Idle if self.openers.len() == 1 => {
                // The first block goes to the opener and to the group: that makes it master [PC98].
                self.name(now, client, 1, context);
                // It ACKs both.
                self.ahead.sent(now, 1);
                self.multicast(now, 1, context);
            }
            Clock::Idle | Clock::Answers => self.step(now, context),
            Clock::Master(_) => {}
        }
        Opened::Listed
    }

    /// An ACK: `block` is the one before the client's first gap.
    pub(crate) fn on_ack(&mut self, now: Time, client: SocketAddrV4, block: u16, context: &mut Context) {
        if block > self.last {
            return context.count("session", "ack_beyond_end");
        }
        if self.on_lane_ack(now, client, block, context) {
            return;
        }
        let is_rfc2090 = self.is_rfc2090();
        // The only one that ACKs says what it lacks of all that went out before what it ACKs.
        let is_master = self.master() == Some(client);
        let is_only = is_rfc2090 && is_master;
        let recent = !is_only && self.is_on_its_way(now, block.saturating_add(1), client);
        let lag = if is_master { None } else { self.lag(now, block) };
        let Some(opener) = self.openers.get_mut(&client) else {
            return context.count("session", "ack_from_nobody");
        };
        let said = Said::of(opener, block);
        let progress = matches!(said, Said::First | Said::Further);
        let waited = now.since(self.sent_at);
        opener.heard_at = Some(now);
        if opener.acked.is_some_and(|acked| block < acked) {
            return context.count("session", "ack_old");
        }
        self.heard_at = now;
        self.acked_at = Some(now);
        opener.asked_at = None;
        let repeats_itself = opener.say(block, progress, lag);
        opener.questions = 0;
        if progress || !is_rfc2090 {
            opener.strikes = 0;
        }
        // What did not go out again it had all the time.
        opener.strict &= opener.lacks.first().is_none_or(|first| first > block);
        opener.lacks.remove_to(block);
        if !is_rfc2090 && block.saturating_add(1) >= self.last {
            // The last one it gets with all others.
            opener.repair = Repair::default();
        }
        // What is out, or queued up in front of it, it does not lack.
        let names_gap = match &self.clock {
            Clock::Master(master) if master.client == client => !self.ahead.holds(block.saturating_add(1)),
            Clock::Master(_) => repeats_itself,
            Clock::Answers | Clock::Idle => !is_rfc2090 && !progress,
        };
        if block < self.last && !recent && names_gap {
            opener.lacks.insert(block + 1);
        }
        if block == self.last {
            self.complete(client);
        }
        match &self.clock {
            Clock::Master(master) if master.client == client => {
                self.on_master_ack(now, client, (block, waited), progress, context);
            }
            Clock::Answers if is_rfc2090 || block.saturating_add(1) < self.last => {
                self.repair(now, client, (block, said), context);
            }
            Clock::Answers if self.openers.values().all(|opener| opener.asked_at.is_none()) => {
                self.step(now, context);
            }
            Clock::Master(_) if is_rfc2090 => self.tell_off(now, client, context),
            // It ACKs all that it hears; the others do not wait for what it lacks.
            Clock::Master(_) if repeats_itself && !recent && block.saturating_add(1) < self.last => {
                context.count("session", "gap");
                self.multicast(now, block + 1, context);
            }
            Clock::Master(_) if progress && self.leads(now, block) => {
                if let Some(master) = self.master() {
                    self.hand_over(now, master, client);
                    self.step(now, context);
                }
            }
            Clock::Master(_) | Clock::Answers | Clock::Idle => {}
        }
    }

    /// It has all.
    fn complete(&mut self, client: SocketAddrV4) {
        self.openers.remove(&client);
        self.tally.complete += 1;
        if let Some(trace) = self.traces.get_mut(client.ip()) {
            trace.last_acked = true;
        }
    }

    /// The client gave up.
    pub(crate) fn on_error(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        if !self.has(client) {
            return context.count("session", "error_from_nobody");
        }
        context.count("session", "client_error");
        if self.lanes.remove(&client).is_some() {
            self.tally.lost += 1;
            return;
        }
        self.lose(client);
        let was_master = self.master() == Some(client);
        if was_master {
            self.clock = Clock::Idle;
        }
        if was_master || matches!(self.clock, Clock::Answers) {
            self.step(now, context);
        }
    }

    /// How long ago that block went out, if that was lately and once.
    fn lag(&self, now: Time, block: u16) -> Option<Duration> {
        let mut sent = self.recent.iter().filter(|(sent, _)| *sent == block);
        let (_, at) = sent.next()?;
        sent.next().is_none().then(|| now.since(*at))
    }

    /// Whether it went out so lately that this one cannot have ACKed it yet: it may lag behind the others.
    fn is_on_its_way(&self, now: Time, block: u16, client: SocketAddrV4) -> bool {
        // The master's lag is that of the session.
        let other = self.openers.get(&client).filter(|_| self.master() != Some(client));
        let own = other.map_or(RECENT_LEAST, |opener| {
            opener.round_trip.resend_after(RECENT_LEAST, RECENT_LEAST, SILENCE_MAX)
        });
        self.went_out_within(now, block, own.max(self.recent_span()))
    }

    fn recent_span(&self) -> Duration {
        self.round_trip.resend_after(SILENCE_MAX, RECENT_LEAST, SILENCE_MAX)
    }

    fn sent_lately(&self, now: Time, block: u16) -> bool {
        self.went_out_within(now, block, self.recent_span())
    }

    fn went_out_within(&self, now: Time, block: u16, span: Duration) -> bool {
        let recent = self.recent.iter().rev().take_while(|(_, at)| now.since(*at) < span);
        recent.into_iter().any(|(sent, _)| *sent == block)
    }

    /// For the status: the block that went out last.
    pub(crate) fn block(&self) -> u16 {
        self.recent.back().map_or(0, |(block, _)| *block)
    }

    /// For the status: who is there, and how many blocks each lacks as far as is known.
    pub(crate) fn lacking(&self) -> impl Iterator<Item = (SocketAddrV4, u32, Option<u16>)> + '_ {
        let openers = self.openers.iter().map(|(client, opener)| (*client, opener.lacks.len(), opener.acked));
        openers.chain(self.lanes_lacking())
    }
}
