//! What a session sends next, and to whom.

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::Time;
use wire::tftp::Rollover;

use super::{Opener, RECENT_MAX, Session};
use crate::engine::action::Blocks;
use crate::engine::context::Context;
use crate::engine::master::{Clock, MasterClient};
use crate::engine::protocol::Protocol;
use crate::limits::{
    HEARD_LATELY, MASTER_SILENCE, PACERS_MAX, QUESTIONS_MAX, QUESTIONS_PER_STEP, SILENCE_MAX, TURN_BLOCKS,
    TURN_REACH,
};

impl Session {
    /// Whether an opener could lack a block before the last without our knowing.
    pub(super) fn unsure(&self, opener: &Opener) -> bool {
        opener.acked.is_none_or(|acked| acked + 1 < self.last) && opener.questions < QUESTIONS_MAX
    }

    /// Whether the last block must wait: iPXE that has it and then leaves may boot an image with holes.
    pub(super) fn holds_back(&self, now: Time) -> bool {
        let since = self.held_since.unwrap_or(now);
        self.last > 1
            && !self.is_rfc2090()
            && self.openers.values().any(|opener| {
                opener.opened_at <= since && (opener.lacks.any_below(self.last) || self.unsure(opener))
            })
    }

    /// The block an opener shall get next.
    pub(super) fn want(&self, opener: &Opener, hold: bool) -> Option<u16> {
        opener.lacks.first().filter(|&block| block < self.last || !hold)
    }

    /// Sends what is next. Called when the clock says so: the master ACKed, all who were asked answered, or the
    /// timer.
    pub(super) fn step(&mut self, now: Time, context: &mut Context) {
        if self.openers.is_empty() || !self.may_send(now) || self.start.is_some() {
            self.clock = Clock::Idle;
            return;
        }
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
        if let Some(client) = self.master().filter(|client| !self.yields(*client))
            && let Some(opener) = self.openers.get(&client)
            && let Some(block) = self.want(opener, hold)
        {
            if !self.is_rfc2090() {
                self.listen_around(now, block, client, context);
                let client = self.take_turns(now, block, client);
                self.ask_before_the_end(now, block, client, context);
            }
            self.put_block(block);
            return self.multicast(now, block, context);
        }
        // A new master: who lacks something before the last block; then who never ACKed and lacks the last.
        let next = self
            .openers
            .iter()
            .filter_map(|(client, opener)| Some((client, opener, self.want(opener, hold)?)))
            .filter(|(_, opener, block)| *block < self.last || opener.acked.is_none())
            .min_by_key(|(_, opener, block)| (opener.slow, *block == self.last, opener.turn))
            .map(|(client, _, block)| (*client, block));
        if let Some((client, _)) = next
            && self.is_rfc2090()
        {
            return self.name(now, client, 0, context);
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
        if self.is_rfc2090() {
            return self.name_silent(now, context);
        }
        self.finish(now, hold, context);
    }

    /// RFC 2090, and nobody is known to lack anything but what goes out now: the last block, if it was not sent since; then
    /// who has not said that it has it all is made master, one after the other, and says what it lacks.
    fn name_silent(&mut self, now: Time, context: &mut Context) {
        if self.openers.values().any(|opener| opener.lacks.contains(self.last)) {
            return self.multicast(now, self.last, context);
        }
        let waited =
            |opener: &Opener| opener.asked_at.is_none_or(|at| now.since(at) >= patience(opener.questions));
        let gone = |opener: &Opener| opener.questions >= QUESTIONS_MAX && waited(opener);
        let gone: Vec<_> = self.openers.iter().filter(|(_, o)| gone(o)).map(|(client, _)| *client).collect();
        for client in gone {
            self.lose(client);
        }
        let due = self.openers.iter().filter(|(_, o)| o.questions < QUESTIONS_MAX && waited(o));
        match due.min_by_key(|(_, opener)| (opener.slow, opener.turn)).map(|(client, _)| *client) {
            Some(client) => self.name(now, client, 0, context),
            // The timer runs from here.
            None => self.sent_at = now,
        }
    }

    fn put_block(&mut self, block: u16) {
        if let Clock::Master(master) = &mut self.clock {
            master.block = block;
            master.paced = master.paced.saturating_add(1);
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
        let next = self.next_pacer(now, block, master).unwrap_or(master);
        self.hand_over(now, master, next);
        next
    }

    /// Which opener, other than the master, shall pace the blocks about this one.
    pub(super) fn next_pacer(&self, now: Time, block: u16, master: SocketAddrV4) -> Option<SocketAddrV4> {
        let hold = self.holds_back(now);
        let able = self.openers.iter().filter(|(client, opener)| {
            // Who lacks what went out long ago cannot follow this part of the file by its ACKs: it hears it now and has
            // its turn later. Else each newcomer would slow the first down once more.
            let follows = |want: u16| want.abs_diff(block) <= TURN_REACH;
            // Who was heard once ACKs whatever it hears: one that fell silent would only cost the others time.
            let is_heard = opener.heard_at.is_some_and(|at| now.since(at) < HEARD_LATELY);
            **client != master && is_heard && self.want(opener, hold).is_some_and(follows)
        });
        able.min_by_key(|(_, opener)| opener.turn).map(|(client, _)| *client)
    }

    /// Who had the pace goes to the end of the queue.
    pub(super) fn hand_over(&mut self, now: Time, from: SocketAddrV4, to: SocketAddrV4) {
        if let Some(opener) = self.openers.get_mut(&from) {
            self.turns += 1;
            opener.turn = self.turns;
        }
        self.clock = Clock::Master(MasterClient { client: to, block: 0, heard_at: now, tries: 0, paced: 0 });
    }

    /// As soon as nothing holds the last block back, those who lack nothing else get it, before newcomers get theirs:
    /// else a stream of newcomers would keep the first from ever booting. True if it went out.
    fn release_last(&mut self, now: Time, hold: bool, context: &mut Context) -> bool {
        let waits = |opener: &Opener| opener.acked.is_some() && opener.lacks.first() == Some(self.last);
        let waiting = self.openers.iter().filter(|(_, opener)| !hold && self.last > 1 && waits(opener));
        let Some((client, _)) = waiting.min_by_key(|(_, opener)| opener.turn) else { return false };
        let (client, block) = (*client, self.last);
        self.clock = Clock::Master(MasterClient { client, block, heard_at: now, tries: 0, paced: 0 });
        self.multicast(now, block, context);
        true
    }

    /// Nobody is known to lack anything before the last block: asks who was not heard of, then sends the last one,
    /// then waits for its ACKs.
    fn finish(&mut self, now: Time, hold: bool, context: &mut Context) {
        if hold {
            let block = self.last.saturating_sub(1).max(1);
            return self.ask_silent(now, block, context);
        }
        if self.openers.values().any(|opener| !opener.lacks.contains(self.last)) {
            let exhausted = |o: &Opener| o.questions >= QUESTIONS_MAX && !o.lacks.contains(self.last);
            let gone: Vec<_> = self.openers.iter().filter(|(_, o)| exhausted(o)).map(|(c, _)| *c).collect();
            for client in gone {
                self.lose(client);
            }
        }
        if self.openers.values().any(|opener| opener.lacks.contains(self.last)) {
            self.multicast(now, self.last, context);
            for opener in self.openers.values_mut() {
                opener.asked_at = Some(now);
            }
            return;
        }
        self.ask_silent(now, self.last, context);
    }

    /// Asks, by a unicast block, openers whose state is not known and who were not asked just now.
    fn ask_silent(&mut self, now: Time, block: u16, context: &mut Context) {
        let due = |opener: &Opener| {
            opener.questions < QUESTIONS_MAX
                && (block == self.last || self.unsure(opener))
                && opener.asked_at.is_none_or(|at| now.since(at) >= patience(opener.questions))
        };
        let clients: Vec<_> =
            self.openers.iter().filter(|(_, o)| due(o)).map(|(client, _)| *client).collect();
        for client in clients.into_iter().take(QUESTIONS_PER_STEP) {
            self.ask(now, client, block, context);
        }
        // The timer runs from here even if nobody was due.
        self.sent_at = now;
    }

    /// The last block but one is the last chance to hear of silent openers without a copy too many: they get it by
    /// unicast first, while they still lack it.
    fn ask_before_the_end(&mut self, now: Time, block: u16, master: SocketAddrV4, context: &mut Context) {
        if u32::from(block) + 1 != u32::from(self.last) {
            return;
        }
        let clients: Vec<_> = self
            .openers
            .iter()
            .filter(|(client, opener)| {
                **client != master && opener.lacks.first() == Some(block) && self.unsure(opener)
            })
            .filter(|(_, opener)| opener.acked.is_none_or(|acked| acked + 1 < block))
            .map(|(client, _)| *client)
            .collect();
        for client in clients.into_iter().take(QUESTIONS_PER_STEP) {
            self.ask(now, client, block, context);
        }
    }

    /// Makes an opener the master: by one unicast block, or by an OACK and block 0, as it says itself what comes next.
    pub(super) fn name(&mut self, now: Time, client: SocketAddrV4, block: u16, context: &mut Context) {
        context.count("session", "master_named");
        self.clock = Clock::Master(MasterClient { client, block, heard_at: now, tries: 0, paced: 0 });
        self.ask(now, client, block, context);
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
        if self.put(now, block, client, lacked, context) {
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
        let lacked =
            self.openers.values().any(|opener| opener.lacks.contains(block)) || self.tally.multicast == 0;
        if !self.put(now, block, self.channel.group, lacked, context) {
            return;
        }
        for opener in self.openers.values_mut() {
            opener.lacks.remove(block);
        }
        self.tally.multicast += 1;
        self.multicast_at = now;
        if block == self.last {
            self.held_since = None;
            // Their ACKs are on the way: asking them now would be a copy too many.
            for opener in self.openers.values_mut().filter(|opener| opener.lacks.first().is_none()) {
                opener.asked_at = Some(now);
            }
            for trace in self.traces.values_mut() {
                trace.last_sent = true;
            }
        }
    }

    /// False if nothing may be sent on anybody's account.
    fn put(&mut self, now: Time, block: u16, to: SocketAddrV4, lacked: bool, context: &mut Context) -> bool {
        self.sent_at = now;
        if !self.acked_lately(now) {
            // RFC 2090 has no credit.
            if self.credit == 0 {
                return false;
            }
            self.credit -= 1;
        }
        if !lacked {
            self.tally.spare += 1;
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((block, now));
        let (file, first_block) = (self.file.id, u64::from(block));
        let (role, block_size) = (self.channel.role, self.channel.block_size);
        // A session has no block over 65,535.
        let rollover = Rollover::Zero;
        context.blocks(Blocks { file, first_block, count: 1, block_size, rollover, role, to });
        true
    }
}

/// How long a question may stay unanswered: twice as long each time, for an opener that has packets queued up.
fn patience(questions: u8) -> Duration {
    SILENCE_MAX.saturating_mul(1 << questions.saturating_sub(1).min(3))
}
