//! What a session sends next, and to whom.

use std::cmp::Reverse;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::Time;
use wire::tftp::Rollover;

use super::repair::Repair;
use super::{Opener, RECENT_MAX, Session};
use crate::engine::action::Blocks;
use crate::engine::context::Context;
use crate::engine::master::{Clock, MasterClient};
use crate::engine::protocol::Protocol;
use crate::limits::{
    FEW_BLOCKS, HEARD_LATELY, MASTER_SILENCE, PACERS_MAX, QUESTIONS_MAX, SILENCE_MAX, STRIKES_MAX,
    TURN_BLOCKS, TURN_REACH,
};

impl Session {
    /// The block an opener shall get next.
    pub(super) fn want(&self, opener: &Opener, hold: bool) -> Option<u16> {
        opener.lacks.first().filter(|&block| block < self.last || !hold)
    }

    /// The block that it would begin with as a new master, if it lacks enough for that.
    pub(super) fn leads_with(&self, opener: &Opener, hold: bool) -> Option<u16> {
        let block = self.want(opener, hold)?;
        let is_deaf = opener.acked.is_none();
        // By RFC 2090 who lacks little of what was sent gets it when all are asked, and nobody waits for anybody's answer; so
        // does who hears OACKs but no block.
        let few = opener.lacks.len() <= FEW_BLOCKS && opener.lacks.len() * 4 < u32::from(self.last);
        let waits = self.is_rfc2090()
            && (opener.strikes >= STRIKES_MAX || few || !is_deaf && opener.lacks.len() == 1);
        (!waits && (block < self.last || is_deaf)).then_some(block)
    }

    /// Sends what is next. Called when the clock says so: the master ACKed, all who were asked answered, or the
    /// timer.
    pub(super) fn step(&mut self, now: Time, context: &mut Context) {
        if self.openers.is_empty() || !self.may_send(now) || self.start.is_some() {
            self.clock = Clock::Idle;
            return;
        }
        // Whoever waited since then is gone.
        self.held_since =
            self.held_since.filter(|since| self.openers.values().any(|o| o.opened_at <= *since));
        let hold = self.holds_back(now);
        if hold
            && self.held_since.is_none()
            && self.openers.values().any(|o| o.lacks.first() == Some(self.last))
        {
            self.held_since = Some(now);
        }
        if !self.is_rfc2090() && self.release_last(now, hold, context) {
            return;
        }
        if let Some(client) = self.master().filter(|client| !self.yields(now, *client, hold))
            && let Some(opener) = self.openers.get(&client)
            && let Some(block) = self.want(opener, hold)
        {
            return self.run_ahead(now, client, (block, hold), context);
        }
        if self.master().is_some_and(|client| !self.yields(now, client, hold)) && !self.ahead.is_empty() {
            // All is out, and its ACKs are to come.
            return;
        }
        // A new master: who lacks something before the last block; then who never ACKed and lacks the last.
        let next = self
            .openers
            .iter()
            .filter_map(|(client, opener)| Some((client, opener, self.leads_with(opener, hold)?)))
            .min_by_key(|(_, opener, block)| {
                // By RFC 2090 only one ACKs: what is sent for who lacks most serves the others as well.
                let lacks = if self.is_rfc2090() { opener.lacks.len() } else { 0 };
                (opener.slow, *block == self.last, opener.asked_at, Reverse(lacks), opener.turn)
            })
            .map(|(client, _, block)| (*client, block));
        if self.is_rfc2090() {
            // Those who are not slow get all that they lack before.
            let is_slow = |client: &SocketAddrV4| self.openers.get(client).is_some_and(|opener| opener.slow);
            if let Some((client, _)) =
                next.filter(|(client, _)| !(is_slow(client) && self.is_anybody_quick(now)))
            {
                return self.name(now, client, 0, context);
            }
            self.clock = Clock::Answers;
            return self.ask_all(now, context);
        }
        if let Some((client, block)) = next {
            self.ask_before_the_end(now, block, client, context);
            self.name(now, client, block, context);
            if self.openers.values().any(|opener| opener.lacks.contains(block)) {
                self.multicast(now, block, context);
            }
            return;
        }
        self.clock = Clock::Answers;
        self.finish(now, hold, context);
    }

    /// The blocks there is room for, from this one on: what the master lacks.
    fn run_ahead(
        &mut self,
        now: Time,
        mut client: SocketAddrV4,
        (mut block, hold): (u16, bool),
        context: &mut Context,
    ) {
        if self.ahead.lowest().is_some_and(|lowest| block < lowest) {
            // Blocks behind it are out, and can fill no gap before them: it goes at once.
            self.ahead.sent(now, block);
            self.multicast(now, block, context);
            let next = self.openers.get(&client).and_then(|opener| self.want(opener, hold));
            let Some(next) = next else { return };
            block = next;
        }
        while self.ahead.train() > 0 {
            if !self.is_rfc2090() {
                self.listen_around(now, block, client, context);
                client = self.take_turns(now, block, client);
                self.ask_before_the_end(now, block, client, context);
            }
            let Some(opener) = self.openers.get(&client) else { return };
            // What is asked before the end is asked with the last block but one.
            let stop = if self.is_rfc2090() || block + 1 >= self.last { self.last } else { self.last - 2 };
            let most = self.ahead.train().min(stop.saturating_sub(block).saturating_add(1));
            let Some((first, end)) = opener.lacks.run(most).filter(|(first, _)| *first == block) else {
                return;
            };
            let end = if hold { end.min(self.last.saturating_sub(1)).max(first) } else { end };
            let count = self.multicast_some(now, (first, end - first + 1), context);
            if count == 0 {
                return;
            }
            (first..first + count).for_each(|block| self.ahead.sent(now, block));
            self.put_blocks(first + (count - 1), count);
            let next = self.openers.get(&client).and_then(|opener| self.want(opener, hold));
            let Some(next) = next else { return };
            block = next;
        }
    }

    fn put_blocks(&mut self, last: u16, count: u16) {
        if let Clock::Master(master) = &mut self.clock {
            master.block = last;
            master.paced = master.paced.saturating_add(count);
        }
    }

    /// Every so often asks one opener that was never heard, by a unicast copy of the next block: whoever was heard
    /// once ACKs from then on, and its ACKs say how far behind it is. The master goes on.
    fn listen_around(&mut self, now: Time, block: u16, master: SocketAddrV4, context: &mut Context) {
        let due = matches!(&self.clock, Clock::Master(m) if m.paced >= TURN_BLOCKS);
        let heard = self.openers.values().filter(|opener| opener.acked.is_some()).count();
        if !due || heard >= PACERS_MAX {
            return;
        }
        let silent = self.openers.iter().filter(|(client, opener)| {
            **client != master
                && opener.acked.is_none()
                && opener.questions < QUESTIONS_MAX
                && opener.asked_at.is_none_or(|at| now.since(at) >= MASTER_SILENCE)
                && opener.lacks.contains(block)
        });
        let next = silent.min_by_key(|(_, opener)| opener.turn).map(|(client, _)| *client);
        if let Some(client) = next {
            self.ask(now, client, block, context);
        }
    }

    /// After its share of blocks a master hands the pace to the next opener that was heard: a listener whose packets
    /// queue up in front of it falls behind by a few turns at the most, not until they are dropped. Gives the master
    /// from now on.
    fn take_turns(&mut self, now: Time, block: u16, master: SocketAddrV4) -> SocketAddrV4 {
        if !matches!(&self.clock, Clock::Master(m) if m.paced >= TURN_BLOCKS) {
            return master;
        }
        // Who would first have to catch up keeps the others waiting: it may be slow, or dead.
        let next = self.next_pacer(now, block, master, self.ahead.half()).unwrap_or(master);
        self.hand_over(now, master, next);
        next
    }

    /// Which opener, other than the master, shall pace the blocks about this one: it has ACKed all but so many of what went out.
    pub(super) fn next_pacer(
        &self,
        now: Time,
        block: u16,
        master: SocketAddrV4,
        behind: u16,
    ) -> Option<SocketAddrV4> {
        let hold = self.holds_back(now);
        let able = self.openers.iter().filter(|(client, opener)| {
            // Who lacks what went out long ago cannot follow this part of the file by its ACKs: it hears it now and has
            // its turn later. Else each newcomer would slow the first down once more.
            let is_near = opener.acked.is_some_and(|acked| self.ahead.top() <= acked.saturating_add(behind));
            let follows = |want: u16| is_near && want.abs_diff(block) <= TURN_REACH;
            // Who was heard once ACKs whatever it hears: one that fell silent would only cost the others time.
            let is_heard = opener.heard_at.is_some_and(|at| now.since(at) < HEARD_LATELY);
            **client != master && is_heard && self.want(opener, hold).is_some_and(follows)
        });
        able.min_by_key(|(_, opener)| opener.turn).map(|(client, _)| *client)
    }

    /// Whether the master keeps waiting who has ACKed all that is out, as have half of those that were heard lately.
    pub(super) fn leads(&self, now: Time, acked: u16) -> bool {
        let top = self.ahead.top();
        if acked < top || self.ahead.room() > 0 {
            return false;
        }
        let heard = |opener: &&Opener| opener.heard_at.is_some_and(|at| now.since(at) < HEARD_LATELY);
        let (all, there) = self.openers.values().filter(heard).fold((0, 0), |(all, there), opener| {
            (all + 1, there + u32::from(opener.acked.is_some_and(|acked| acked >= top)))
        });
        there * 2 >= all
    }

    /// Who had the pace goes to the end of the queue.
    pub(super) fn hand_over(&mut self, now: Time, from: SocketAddrV4, to: SocketAddrV4) {
        if let Some(opener) = self.openers.get_mut(&from) {
            self.turns += 1;
            opener.turn = self.turns;
        }
        self.clock = Clock::Master(MasterClient { client: to, block: 0, heard_at: now, tries: 0, paced: 0 });
        if let Some(opener) = self.openers.get(&to)
            && let Some(acked) = opener.acked
        {
            self.ahead.taken_over(now, acked, |block| opener.lacks.contains(block));
        }
    }

    /// Makes an opener the master: by one unicast block, or by an OACK and block 0, as it says itself what comes next.
    pub(super) fn name(&mut self, now: Time, client: SocketAddrV4, block: u16, context: &mut Context) {
        context.count("session", "master_named");
        self.clock = Clock::Master(MasterClient { client, block, heard_at: now, tries: 0, paced: 0 });
        self.tenure.begin(now);
        self.ahead.restart();
        if block > 0 {
            self.ahead.sent(now, block);
        }
        self.ask(now, client, block, context);
        if block == 0 {
            self.prompt(now, client, context);
            // The others wait for their turn again; none is given up for what it was sent before.
            self.openers.values_mut().for_each(|opener| opener.repair = Repair::default());
        }
    }

    /// One block by unicast, or an OACK: whoever gets it, ACKs.
    pub(super) fn ask(&mut self, now: Time, client: SocketAddrV4, block: u16, context: &mut Context) {
        let Some(opener) = self.openers.get_mut(&client) else { return };
        if opener.questions >= QUESTIONS_MAX {
            self.sent_at = now;
            return;
        }
        opener.questions += 1;
        opener.asked_at = Some(now);
        if self.channel.protocol == Protocol::Rfc2090 {
            self.sent_at = now;
            return self.tell_role(client, true, context);
        }
        let lacked = opener.lacks.contains(block);
        opener.lacks.remove(block);
        if self.put(now, (block, 1), client, u16::from(!lacked), context) > 0 {
            self.tally.unicast += 1;
            if block == self.last
                && let Some(trace) = self.traces.get_mut(client.ip())
            {
                trace.last_sent = true;
            }
        }
    }

    /// One block to the group.
    pub(super) fn multicast(&mut self, now: Time, block: u16, context: &mut Context) {
        self.multicast_some(now, (block, 1), context);
    }

    /// Blocks to the group; how many went out.
    pub(super) fn multicast_some(
        &mut self,
        now: Time,
        (first, count): (u16, u16),
        context: &mut Context,
    ) -> u16 {
        let (mut spare, is_rfc2090) = (0, self.is_rfc2090());
        for block in first..=first.saturating_add(count - 1) {
            let lacks =
                self.openers.values_mut().filter_map(|opener| opener.lacks.contains(block).then_some(()));
            spare += u16::from(lacks.count() == 0 && self.tally.multicast > 0);
        }
        let count = self.put(now, (first, count), self.channel.group, spare, context);
        if count == 0 {
            return 0;
        }
        let last = first + (count - 1);
        // Who is too slow for the pace drops what goes out at it; its ACKs tell if it does not.
        let is_slow =
            self.master().and_then(|client| self.openers.get(&client)).is_none_or(|opener| opener.slow);
        let drops = |opener: &Opener| opener.slow && !is_slow && is_rfc2090;
        for opener in self.openers.values_mut().filter(|opener| !drops(opener)) {
            (first..=last).for_each(|block| opener.lacks.remove(block));
        }
        (first..=last).for_each(|block| self.ahead.goes_to_all(block));
        self.tally.multicast += u64::from(count);
        self.multicast_at = now;
        if last == self.last {
            self.held_since = None;
            // Their ACKs are on the way: asking them now would be a copy too many.
            for opener in self.openers.values_mut().filter(|opener| opener.lacks.first().is_none()) {
                opener.asked_at = Some(now);
            }
            for trace in self.traces.values_mut() {
                trace.last_sent = true;
            }
        }
        count
    }

    /// How many of the blocks went out: none if nothing may be sent on anybody's account.
    fn put(
        &mut self,
        now: Time,
        (first, mut count): (u16, u16),
        to: SocketAddrV4,
        spare: u16,
        context: &mut Context,
    ) -> u16 {
        self.sent_at = now;
        if !self.acked_lately(now) {
            // RFC 2090 has no credit.
            count = count.min(u16::try_from(self.credit).unwrap_or(u16::MAX));
            if count == 0 {
                return 0;
            }
            self.credit -= u32::from(count);
        }
        self.tally.spare += u64::from(spare.min(count));
        for block in first..=first + (count - 1) {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back((block, now));
        }
        let (file, first_block) = (self.file.id, u64::from(first));
        let (role, block_size) = (self.channel.role, self.channel.block_size);
        // A session has no block over 65,535.
        let rollover = Rollover::Zero;
        context.blocks(Blocks { file, first_block, count, block_size, rollover, role, to });
        count
    }
}

/// How long a question may stay unanswered: twice as long each time, for an opener that has packets queued up.
pub(super) fn patience(questions: u8) -> Duration {
    SILENCE_MAX.saturating_mul(1 << questions.saturating_sub(1).min(3))
}
