//! One pass of a file over one group address, as PXE 2.1 § 2.4.10 and Intel's client want it (pxe.md B.1, B.2).
//!
//! ```text
//!            open: block 1 to the opener and to the group       ACK n of the master: block n + 1 to the group
//!  (none) ──────────────────────────────────────► master ◄────────────────────────────────────────┐
//!                                                   │ silent for a second: the next opener is asked by a copy ┘
//!                                                   ▼ ACK of the last block, or nobody is left
//!                                                  over ── who still lacks something opens again
//! ```
//!
//! Blocks go out in order, once, from the first to the last: Intel's client takes a lower number for an error, and gives
//! multicast up. So nothing is repaired within the pass but what the master did not get. Who opens meanwhile is not
//! answered: it hears that a pass runs, listens to its end, and opens again if it lacks something, the sooner the more it
//! lacks. That open begins the next pass at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, RoundTrip, Time};
use wire::policy::SlowClients;
use wire::tftp::{Rollover, block_count};

use super::action::{Blocks, Event, FileFacts, Tally};
use super::context::Context;
use super::master::OpenerRole;
use super::pace::Pace;
use super::session::{Channel, Opened};
use crate::limits::{
    BLOCKS_BEFORE_ACK, MASTER_SILENCE, OPENERS_MAX, OPENERS_PER_SOURCE_MAX, OUTRUN_RATE, PASS_RESEND_FIRST,
    PASS_RESEND_MIN, PASS_RESENDS_MAX, SESSION_SILENCE, SILENCE_MAX,
};

#[cfg(test)]
mod tests;

/// Who paces the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Master {
    client: SocketAddrV4,
    /// When it ACKed last, or was asked.
    heard_at: Time,
    /// Whether it ever ACKed.
    has_acked: bool,
    /// Whether it was asked in the middle of the pass.
    asked: bool,
}

impl Master {
    /// How long it may be silent. The others hear nothing while one is asked.
    fn patience(&self) -> Duration {
        if self.asked && !self.has_acked { SILENCE_MAX * 3 } else { MASTER_SILENCE }
    }

    /// How often a block is sent again to it; before its first ACK hardly ever, as it may be forged.
    fn resends_max(&self) -> u32 {
        match (self.has_acked, self.asked) {
            (true, _) => PASS_RESENDS_MAX,
            (false, false) => BLOCKS_BEFORE_ACK - 2,
            (false, true) => 0,
        }
    }
}

/// A client that opened while the pass ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    opened_at: Time,
    /// It was asked to pace the pass, and did not answer.
    asked: bool,
}

/// A pass. It has ended when [`Pass::is_over`].
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) file: FileFacts,
    pub(crate) channel: Channel,
    last: u16,
    master: Option<Master>,
    /// How fast the master goes.
    pace: Pace,
    /// The master is too slow for the others: blocks go out by the clock, whatever it ACKs.
    outrun: bool,
    /// Who was too slow.
    slow: BTreeSet<SocketAddrV4>,
    listeners: BTreeMap<SocketAddrV4, Listener>,
    /// How often it began at block 1, for the status.
    pub(crate) number: u64,
    /// The block that is out.
    block: u16,
    sent_at: Time,
    /// How often it was sent again.
    resends: u32,
    /// When anybody was heard.
    heard_at: Time,
    round_trip: RoundTrip,
    pub(crate) tally: Tally,
}

impl Pass {
    /// A pass of a file that fits: at most 65,535 blocks.
    pub(crate) fn new(now: Time, facts: FileFacts, channel: Channel) -> Self {
        let blocks = block_count(facts.size, channel.block_size);
        Self {
            file: facts,
            channel,
            last: u16::try_from(blocks).unwrap_or(u16::MAX),
            master: None,
            pace: Pace::default(),
            outrun: false,
            slow: BTreeSet::new(),
            listeners: BTreeMap::new(),
            number: 0,
            block: 1,
            sent_at: now,
            resends: 0,
            heard_at: now,
            round_trip: RoundTrip::default(),
            tally: Tally { blocks, ..Tally::default() },
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.master.is_none()
    }

    pub(crate) fn has(&self, client: SocketAddrV4) -> bool {
        self.master() == Some(client) || self.listeners.contains_key(&client)
    }

    pub(crate) fn master(&self) -> Option<SocketAddrV4> {
        self.master.map(|master| master.client)
    }

    pub(crate) fn role(&self, client: SocketAddrV4) -> OpenerRole {
        if self.slow.contains(&client) {
            OpenerRole::Slow
        } else if self.master() == Some(client) {
            OpenerRole::Master
        } else {
            OpenerRole::Listener
        }
    }

    pub(crate) fn openers(&self) -> impl Iterator<Item = SocketAddrV4> + '_ {
        self.master().into_iter().chain(self.listeners.keys().copied())
    }

    /// For the status: the block that is out.
    pub(crate) fn block(&self) -> u16 {
        self.block
    }

    /// For the status: who is there, how many blocks it may lack, and its highest ACK. What listeners lack they do not say.
    pub(crate) fn lacking(&self) -> impl Iterator<Item = (SocketAddrV4, u32, Option<u16>)> + '_ {
        let left = u32::from(self.last.saturating_sub(self.block)) + 1;
        let acked = self.master.filter(|master| master.has_acked).map(|_| self.block.saturating_sub(1));
        let master = self.master().map(move |client| (client, left, acked));
        master.into_iter().chain(self.listeners.keys().map(move |client| (*client, left, None)))
    }

    /// The master counts as lost; listeners say nothing in any case.
    pub(crate) fn cut(&mut self) {
        self.tally.lost += u64::from(self.master.is_some());
        self.master = None;
        self.listeners.clear();
    }

    // --- when -----------------------------------------------------------------------------------------------

    /// The first time soon, then ever later: Intel's client gives up when it hears the same block three times over.
    fn resend_after(&self) -> Duration {
        let first = self.round_trip.resend_after(PASS_RESEND_FIRST, PASS_RESEND_MIN, PASS_RESEND_FIRST);
        first.saturating_mul(3_u32.saturating_pow(self.resends))
    }

    pub(crate) fn next_deadline(&self) -> Deadline {
        let Some(master) = self.master else {
            return Deadline { at: self.sent_at, why: "a pass is over" };
        };
        if self.outrun {
            let next = Deadline { at: self.sent_at + self.outrun_after(), why: "a slow master is outrun" };
            let stop = Deadline { at: self.heard_at + SESSION_SILENCE, why: "a pass hears nobody" };
            return if stop.at < next.at { stop } else { next };
        }
        let passed_over =
            Deadline { at: master.heard_at + master.patience(), why: "the master of a pass is silent" };
        if self.resends >= master.resends_max() {
            return passed_over;
        }
        let again = Deadline { at: self.sent_at + self.resend_after(), why: "a block is sent again" };
        if again.at < passed_over.at { again } else { passed_over }
    }

    pub(crate) fn on_timeout(&mut self, now: Time, context: &mut Context) {
        let Some(master) = self.master else { return };
        if self.outrun {
            return self.run_ahead(now, context);
        }
        if now.since(master.heard_at) >= master.patience() {
            return self.pass_over(now, master, context);
        }
        if self.resends < master.resends_max() && now >= self.sent_at + self.resend_after() {
            self.pace.silent(now.since(self.sent_at));
            if self.outpace(master.client, context) {
                return self.run_ahead(now, context);
            }
            context.count("session", "resend");
            self.resends += 1;
            self.tally.spare += 1;
            if master.has_acked {
                self.multicast(now, context);
            } else {
                self.unicast(now, master.client, context);
            }
        }
    }

    /// The master is silent: an opener that is known to be there is asked, by a copy of the block, to go on; a listener in
    /// the manner of Intel's client does not hear it, and nothing is lost.
    fn pass_over(&mut self, now: Time, master: Master, context: &mut Context) {
        context.count("session", "master_passed_over");
        self.tally.lost += u64::from(master.has_acked);
        let next = self.listeners.iter().filter(|(_, listener)| !listener.asked);
        let next = next.min_by_key(|(_, listener)| listener.opened_at).map(|(client, _)| *client);
        let Some(client) = next.filter(|_| now.since(self.heard_at) < SESSION_SILENCE) else {
            self.master = None;
            return self.listeners.clear();
        };
        if let Some(listener) = self.listeners.get_mut(&client) {
            listener.asked = true;
        }
        self.pace = Pace::default();
        self.master = Some(Master { client, heard_at: now, has_acked: false, asked: true });
        self.unicast(now, client, context);
    }

    /// Passes over the same address know who was too slow in the one before.
    pub(crate) fn with_slow(self, slow: BTreeSet<SocketAddrV4>) -> Self {
        Self { slow, ..self }
    }

    pub(crate) fn into_slow(self) -> BTreeSet<SocketAddrV4> {
        self.slow
    }

    // --- slow masters ---------------------------------------------------------------------------------------

    /// Whether the master is too slow for the others by the policy. Nobody can be made to take over: Intel's client ACKs
    /// nothing that it is not master of. So the pass goes on by the clock; the master misses blocks, and opens again.
    fn outpace(&mut self, client: SocketAddrV4, context: &mut Context) -> bool {
        let is_slow = self.pace.is_slow(self.channel.policy, self.channel.block_size);
        // Most listeners never say a word. A pass that is for the slow is slow, unless it is known that others wait.
        let others = self.listeners.keys().any(|other| !self.slow.contains(other));
        // Who never ACKed may be forged, and is passed over soon.
        let has_acked = self.master.is_some_and(|master| master.has_acked);
        if !is_slow || !has_acked || (self.slow.contains(&client) && !others) {
            return false;
        }
        context.count("session", "slow_client");
        let what = self.channel.policy.slow;
        context.tell(Event::SlowClient { client, group: self.channel.group, what });
        self.tally.slow += 1;
        self.remember_slow(client);
        self.outrun = true;
        true
    }

    /// Passes that follow each other hand the set on, so that it must not grow for ever; who is not in it is judged anew.
    fn remember_slow(&mut self, client: SocketAddrV4) {
        if self.slow.len() < OPENERS_MAX {
            self.slow.insert(client);
        }
    }

    /// How long a block may be out then: as long as at the least rate that counts as not slow.
    fn outrun_after(&self) -> Duration {
        let rate = if self.channel.policy.rate_min == 0 { OUTRUN_RATE } else { self.channel.policy.rate_min };
        (Duration::from_secs(1) * u32::from(self.channel.block_size) / rate).min(MASTER_SILENCE)
    }

    /// The next block by the clock, as long as anybody is heard. One listener is asked to take over, which some do.
    fn run_ahead(&mut self, now: Time, context: &mut Context) {
        if now.since(self.heard_at) >= SESSION_SILENCE {
            return self.cut();
        }
        if now < self.sent_at + self.outrun_after() {
            return;
        }
        if self.block == self.last {
            self.tally.lost += 1;
            return self.finish(now, context);
        }
        self.block += 1;
        self.resends = 0;
        let free = self
            .listeners
            .iter_mut()
            .filter(|(client, listener)| !listener.asked && !self.slow.contains(client));
        if let Some((client, listener)) = free.min_by_key(|(_, listener)| listener.opened_at) {
            listener.asked = true;
            let client = *client;
            self.unicast(now, client, context);
        }
        self.multicast(now, context);
    }

    // --- what the clients say -------------------------------------------------------------------------------

    pub(crate) fn on_open(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) -> Opened {
        if self.outrun && self.slow.contains(&client) {
            // It is there, it hears the group, and at the end of the pass it opens again.
            self.heard_at = now;
            return Opened::Repeated;
        }
        if let Some(master) = self.master.filter(|master| master.client == client) {
            self.heard_at = now;
            if !master.has_acked {
                // It has not heard its block.
                self.unicast(now, client, context);
            } else if now.since(master.heard_at) >= PASS_RESEND_FIRST {
                // It has begun anew; who listens meanwhile cannot be helped.
                self.begin(now, client, context);
            }
            return Opened::Repeated;
        }
        if self.channel.policy.slow == SlowClients::DropToUnicast && self.slow.contains(&client) {
            // Silence: it goes on by plain TFTP.
            return Opened::Dropped;
        }
        if let Some(listener) = self.listeners.get_mut(&client) {
            listener.opened_at = now;
            return Opened::Repeated;
        }
        let of_source = self.listeners.keys().filter(|other| other.ip() == client.ip()).count();
        if self.listeners.len() >= OPENERS_MAX || of_source >= OPENERS_PER_SOURCE_MAX {
            return Opened::Refused;
        }
        self.tally.openers += 1;
        self.heard_at = now;
        if self.master.is_none() {
            self.begin(now, client, context);
        } else {
            self.listeners.insert(client, Listener { opened_at: now, asked: false });
        }
        Opened::Listed
    }

    /// The first block goes to the opener and to the group: that makes it master (pxe.md, PC98).
    fn begin(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        context.count("session", "pass");
        self.listeners.remove(&client);
        self.master = Some(Master { client, heard_at: now, has_acked: false, asked: false });
        self.number += 1;
        self.pace = Pace::default();
        self.outrun = false;
        self.block = 1;
        self.resends = 0;
        self.unicast(now, client, context);
        self.multicast(now, context);
    }

    pub(crate) fn on_ack(&mut self, now: Time, client: SocketAddrV4, block: u16, context: &mut Context) {
        if block > self.last {
            return context.count("session", "ack_beyond_end");
        }
        let Some(master) = self.master.as_mut().filter(|master| master.client == client) else {
            return self.take_over(now, client, block, context);
        };
        (master.heard_at, master.has_acked) = (now, true);
        self.heard_at = now;
        if self.outrun && block < self.last {
            return context.count("session", "ack_outrun");
        }
        if block < self.block {
            // It starts nothing: else two copies beget two copies for ever.
            return context.count("session", "ack_again");
        }
        if self.resends == 0 && block == self.block {
            self.round_trip.measured(now.since(self.sent_at));
        } else if block == self.block {
            self.round_trip.resent();
        }
        if block == self.last {
            self.tally.complete += 1;
            return self.finish(now, context);
        }
        self.pace.acked(1, now.since(self.sent_at));
        if self.outpace(client, context) {
            return self.run_ahead(now, context);
        }
        self.block = block + 1;
        self.resends = 0;
        self.multicast(now, context);
    }

    /// A listener ACKs: one that was asked to pace the pass, and was slow to answer.
    fn take_over(&mut self, now: Time, client: SocketAddrV4, block: u16, context: &mut Context) {
        let was_asked = self.listeners.get(&client).is_some_and(|listener| listener.asked);
        let is_free = self.outrun || self.master.is_some_and(|master| !master.has_acked);
        if !was_asked || !is_free {
            return context.count("session", "ack_from_nobody");
        }
        self.master = Some(Master { client, heard_at: now, has_acked: true, asked: true });
        self.pace = Pace::default();
        self.outrun = false;
        self.on_ack(now, client, block, context);
    }

    /// The last block is out, and the master has it all or counts no more. Who opened after that block had gone out has
    /// heard nothing of this pass, and waits; of those the slow ones come last.
    fn finish(&mut self, now: Time, context: &mut Context) {
        let waiting = self.listeners.iter().filter(|(_, listener)| listener.opened_at >= self.sent_at);
        let turn = |(client, listener): &(&SocketAddrV4, &Listener)| {
            (self.slow.contains(client), listener.opened_at)
        };
        let next = waiting.min_by_key(turn).map(|(client, _)| *client);
        self.master = None;
        let sent_at = self.sent_at;
        self.listeners.retain(|_, listener| listener.opened_at >= sent_at);
        match next {
            Some(client) => self.begin(now, client, context),
            None => self.listeners.clear(),
        }
    }

    /// The client gave up.
    pub(crate) fn on_error(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        context.count("session", "client_error");
        self.listeners.remove(&client);
        if let Some(master) = self.master.filter(|master| master.client == client) {
            self.pass_over(now, Master { has_acked: true, ..master }, context);
        }
    }

    // --- blocks ---------------------------------------------------------------------------------------------

    fn unicast(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        self.tally.unicast += 1;
        self.put(now, client, context);
    }

    fn multicast(&mut self, now: Time, context: &mut Context) {
        self.tally.multicast += 1;
        self.put(now, self.channel.group, context);
    }

    fn put(&mut self, now: Time, to: SocketAddrV4, context: &mut Context) {
        self.sent_at = now;
        let (file, first_block) = (self.file.id, u64::from(self.block));
        let (role, block_size) = (self.channel.role, self.channel.block_size);
        // A pass has no block over 65,535.
        let rollover = Rollover::Zero;
        context.blocks(Blocks { file, first_block, count: 1, block_size, rollover, role, to });
    }
}
