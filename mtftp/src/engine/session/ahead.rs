//! How many blocks are out to who sets the pace, and how many may be.
//!
//! Listeners take blocks in any order, and nothing keeps the next block from waiting in the master's buffers until it has
//! ACKed the one before. How many fit is found out: one at first, one more with each ACK, half as many when they are lost often,
//! and from then on one more for each that many.
//!
//! ```text
//!    acked │ out: sent, in order of their numbers │ lacked by the master: not sent
//!          └── at most `most`                     └── a train goes out when half of them are ACKed
//! ```
//!
//! Two repeated ACKs say that the first block that is out was lost, once its round trip is over. It goes out again, alone. The ACK of it tells of all that
//! was out by then: if it names a gap among that, that goes out again at once, or, if the gap is the very next block, all of
//! it, as this master took nothing behind a gap (EDK2).
//!
//! Copies cause repeated ACKs as well. So none counts until something is ACKed that went out after the last copy of what was out;
//! but of what a master dropped, as it says, there is one copy: then as many do not count as it still owes for what it dropped.
//! What went out for others meanwhile, and the master had, is ACKed once more in its place: that one does not count.
//! A master that ACKs each block of a second copy once more when it has all of them had dropped nothing, whatever it seemed to
//! say. That is looked for at one hand-back in [`LOOKED_AT`]: of one that drops indeed, it hides the loss of the very next block.

use std::collections::VecDeque;
use std::time::Duration;

use driver::Time;

use crate::limits::{GROUP_TRAIN_MAX, LOSS_APART};

/// Repeated ACKs that tell a loss.
const REPEATS: u16 = 2;
/// One in so many, the first among them.
const LOOKED_AT: u8 = 8;
/// Blocks for others that are remembered: more than are on the way.
const STRAYS_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Out {
    block: u16,
    at: Time,
    /// It went out more than once.
    again: bool,
}

/// What an ACK that went on says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Blocks that it took off.
    pub(super) blocks: u16,
    /// How long the last of them was out, if it went out once.
    pub(super) round_trip: Option<Duration>,
    /// What was out when the lost block went out again: the block behind this ACK did not come.
    pub(super) is_gap: bool,
    /// Whether it took none of that; if anything is known.
    pub(super) is_strict: Option<bool>,
}

/// The blocks that are out.
#[derive(Debug)]
pub(super) struct Ahead {
    limit: u16,
    most: u16,
    /// It grows with each ACK.
    clean: bool,
    has_lost: bool,
    /// Blocks ACKed since `most` changed, and since something was lost.
    acks: u16,
    since_loss: u16,
    out: VecDeque<Out>,
    /// The highest that ever went out.
    top: u16,
    /// The highest that was ACKed.
    acked: u16,
    /// What went out again for a repeated ACK, and when.
    repaired: Option<(u16, Time)>,
    /// Repeated ACKs of one block.
    repeats: u16,
    /// They count from this ACK on.
    once_from: u16,
    /// Up to here it took nothing of what went out before.
    taken_back: u16,
    /// The same, but only if its ACKs said so: silence may be a pause, and then each copy draws an ACK more.
    dropped_to: u16,
    is_silent: bool,
    /// How often that was.
    takes: u8,
    /// How many went out again then, if it is looked at, and how many ACKs more came of it when all of them were ACKed.
    taken: u16,
    echoes: u16,
    /// Repeated ACKs that are still to come of what was out when a loss was told.
    stale: u16,
    /// What went out for others: after which block each.
    strays: VecDeque<u16>,
    /// The quickest ACK.
    quickest: Option<Duration>,
}

impl Ahead {
    /// `limit`: how many may be out at all.
    pub(super) fn new(limit: u16) -> Self {
        Self {
            limit,
            most: 1,
            clean: true,
            has_lost: false,
            acks: 0,
            since_loss: 0,
            out: VecDeque::new(),
            top: 0,
            acked: 0,
            repaired: None,
            repeats: 0,
            once_from: 0,
            taken_back: 0,
            dropped_to: 0,
            is_silent: false,
            takes: 0,
            taken: 0,
            echoes: 0,
            stale: 0,
            strays: VecDeque::new(),
            quickest: None,
        }
    }

    /// Somebody else's ACKs count from now on, who may have heard nothing of what is out.
    pub(super) fn restart(&mut self) {
        self.out.clear();
        self.strays.clear();
        self.quickest = None;
        (self.top, self.repaired, self.repeats, self.stale) = (0, None, 0, 0);
        (self.acked, self.once_from, self.taken_back, self.dropped_to) = (0, 0, 0, 0);
        (self.takes, self.taken, self.echoes) = (0, 0, 0);
    }

    /// How many may be out at all.
    pub(super) fn limit(&self) -> u16 {
        self.limit
    }

    /// Whether nothing was lost so far.
    pub(super) fn is_clean(&self) -> bool {
        !self.has_lost
    }

    /// The highest that is out to anybody.
    pub(super) fn top(&self) -> u16 {
        self.top
    }

    pub(super) fn lowest(&self) -> Option<u16> {
        self.out.front().map(|out| out.block)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub(super) fn holds(&self, block: u16) -> bool {
        self.out.iter().any(|out| out.block == block)
    }

    /// So many may be out while there is room for more.
    pub(super) fn half(&self) -> u16 {
        self.most / 2
    }

    /// How many may go out now: none until there is room for a train.
    pub(super) fn room(&self) -> u16 {
        let out = u16::try_from(self.out.len()).unwrap_or(u16::MAX);
        if out > self.half() { 0 } else { self.most.saturating_sub(out) }
    }

    /// The most of one train.
    pub(super) fn train(&self) -> u16 {
        self.room().min(GROUP_TRAIN_MAX)
    }

    /// A block goes out.
    pub(super) fn sent(&mut self, now: Time, block: u16) {
        let again = block <= self.top;
        if again && block > self.taken_back {
            self.once_from = self.top.saturating_add(1);
        }
        self.top = self.top.max(block);
        let place = self.out.partition_point(|out| out.block < block);
        match self.out.get_mut(place) {
            Some(out) if out.block == block => *out = Out { block, at: now, again },
            Some(_) | None => self.out.insert(place, Out { block, at: now, again }),
        }
    }

    /// A block goes to the group. If the master had it, it ACKs it all the same.
    pub(super) fn goes_to_all(&mut self, block: u16) {
        let is_back = block > self.acked && block <= self.dropped_to;
        if block > self.top || self.holds(block) || is_back {
            return;
        }
        if self.strays.len() == STRAYS_MAX {
            self.strays.pop_front();
        }
        self.strays.push_back(self.top);
    }

    /// An ACK of this block, later than any before.
    pub(super) fn acked(&mut self, now: Time, block: u16) -> Progress {
        let (mut blocks, mut round_trip) = (0, None);
        (self.acked, self.is_silent) = (self.acked.max(block), false);
        while let Some(out) = self.out.front().copied().filter(|out| out.block <= block) {
            self.out.pop_front();
            blocks += 1;
            round_trip = (out.block == block && !out.again).then(|| now.since(out.at));
        }
        (self.repeats, self.stale) = (0, 0);
        while self.strays.front().is_some_and(|after| *after < block) {
            self.strays.pop_front();
        }
        if let Some(span) = round_trip {
            self.quickest = Some(self.quickest.map_or(span, |quickest| quickest.min(span)));
        }
        let repaired = self.repaired.take_if(|(repaired, _)| block >= *repaired);
        let mut told = Progress { blocks, round_trip, is_gap: false, is_strict: None };
        if let Some((repaired, at)) = repaired {
            let next = block.checked_add(1);
            // Sooner it is the ACK of the first copy, which was only late.
            if self.quickest.is_some_and(|quickest| now.since(at) < quickest) {
                self.grow(blocks);
                return told;
            }
            told.is_gap = self.out.front().is_some_and(|out| Some(out.block) == next && out.at < at);
            if block > repaired || told.is_gap {
                told.is_strict = Some(block == repaired);
            }
        }
        self.grow(blocks);
        told
    }

    /// Who has the pace from now on ACKed this block before. What went out since then is out to it, too, but for what it
    /// lacks.
    pub(super) fn taken_over(&mut self, now: Time, block: u16, lacks: impl Fn(u16) -> bool) {
        while self.out.front().is_some_and(|out| out.block <= block) {
            self.out.pop_front();
        }
        (self.repaired, self.repeats, self.stale) = (None, 0, 0);
        let upto = block.saturating_add(self.limit).min(self.top);
        for block in block.saturating_add(1)..=upto {
            let place = self.out.partition_point(|out| out.block < block);
            if !lacks(block) && self.out.get(place).is_none_or(|out| out.block != block) {
                self.out.insert(place, Out { block, at: now, again: true });
            }
        }
    }

    fn grow(&mut self, blocks: u16) {
        self.acks = self.acks.saturating_add(blocks);
        self.since_loss = self.since_loss.saturating_add(blocks);
        while self.most < self.limit {
            let wanted = if self.clean { 1 } else { self.most };
            if self.acks < wanted {
                return;
            }
            self.acks -= wanted;
            self.most += 1;
        }
        self.acks = 0;
    }

    /// An ACK that was there before. True if the block behind it shall go out again: it was out for so long.
    pub(super) fn repeated(&mut self, now: Time, block: u16, round_trip: Duration) -> bool {
        if self.strays.front().is_some_and(|after| *after <= block) {
            self.strays.pop_front();
            return false;
        }
        let next = block.saturating_add(1);
        let is_out = self.out.len() > 2 && self.out.front().is_some_and(|out| out.block == next);
        if self.repaired.is_some() || block < self.once_from || !is_out {
            return false;
        }
        if block == self.taken_back && self.echoes < self.taken {
            self.echoes += 1;
            return false;
        }
        if self.stale > 0 {
            self.stale -= 1;
            return false;
        }
        self.repeats = self.repeats.saturating_add(1);
        self.suspects(round_trip).is_some_and(|at| at <= now)
    }

    /// Whether it has ACKed all that it seemed to have dropped, and each copy of it once more: it takes blocks in any order.
    pub(super) fn had_all(&self) -> bool {
        self.taken > REPEATS && self.echoes == self.taken
    }

    /// When what repeated ACKs told of counts as lost: until then it may come behind what was sent after it.
    pub(super) fn suspects(&self, round_trip: Duration) -> Option<Time> {
        let front = self.out.front().filter(|_| self.repeats >= REPEATS && self.repaired.is_none())?;
        Some(front.at + round_trip)
    }

    /// The first block that is out was lost: repeated ACKs told so.
    pub(super) fn lost(&mut self) {
        // Each block behind it draws one.
        let out = u16::try_from(self.out.len()).unwrap_or(u16::MAX);
        (self.stale, self.repeats) = (out.saturating_sub(1 + self.repeats), 0);
        self.halve();
    }

    /// The block goes out again because an ACK said that it did not come.
    pub(super) fn repair(&mut self, now: Time, block: u16) {
        self.repaired = Some((block, now));
        self.sent(now, block);
    }

    fn halve(&mut self) {
        self.has_lost = true;
        if std::mem::take(&mut self.since_loss) >= LOSS_APART {
            return;
        }
        (self.most, self.clean, self.acks) = ((self.most / 2).max(1), false, 0);
    }

    /// The master was silent for too long, for the `tries`th time.
    pub(super) fn silent(&mut self, tries: u32) {
        (self.stale, self.is_silent) = (0, true);
        if tries == 1 {
            self.halve();
        } else {
            self.most = 1;
        }
    }

    /// Takes back all that is out: it must go out again.
    pub(super) fn take_back(&mut self) -> impl Iterator<Item = u16> + '_ {
        (self.repaired, self.repeats, self.once_from, self.taken_back) = (None, 0, 0, self.top);
        self.dropped_to = if self.is_silent { 0 } else { self.top };
        let looks = self.takes.is_multiple_of(LOOKED_AT);
        self.takes = self.takes.wrapping_add(1);
        let count = u16::try_from(self.out.len()).unwrap_or(u16::MAX);
        (self.taken, self.echoes) = (if looks { count } else { 0 }, 0);
        self.out.drain(..).map(|out| out.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::GROUP_AHEAD_MAX;

    const SPAN: Duration = Duration::from_millis(1);

    fn ms(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Lets out what there is room for; the last block that went out.
    fn fill(ahead: &mut Ahead, now: Time, mut last: u16) -> u16 {
        for _ in 0..ahead.room() {
            last += 1;
            ahead.sent(now, last);
        }
        last
    }

    #[test]
    fn grows_with_each_ack_and_sends_in_trains() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        let mut last = fill(&mut ahead, ms(0), 0);
        assert_eq!(last, 1);
        for block in 1..100 {
            let progress = ahead.acked(ms(u64::from(block)), block);
            assert_eq!((progress.blocks, progress.is_strict), (1, None));
            assert!(progress.round_trip.is_some());
            last = fill(&mut ahead, ms(u64::from(block)), last);
            assert!(last > block && last - block <= GROUP_AHEAD_MAX);
        }
        assert_eq!(ahead.room(), 0, "half of it must be free");
        assert!(!ahead.is_empty() && ahead.holds(last) && !ahead.holds(99));
    }

    #[test]
    fn one_repair_for_any_number_of_repeated_acks_and_who_takes_nothing_behind_a_gap_is_known() {
        for strict in [false, true] {
            let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
            let mut last = fill(&mut ahead, ms(0), 0);
            for block in 1..=20 {
                ahead.acked(ms(1), block);
                last = fill(&mut ahead, ms(1), last);
            }
            let before = ahead.most;
            assert!(!ahead.repeated(ms(2), 20, SPAN) && ahead.repeated(ms(2), 20, SPAN));
            assert_eq!(ahead.suspects(2 * SPAN), Some(ms(3)), "it may only be late");
            ahead.lost();
            assert_eq!(ahead.most, before / 2);
            ahead.repair(ms(2), 21);
            for _ in 0..3 {
                assert!(!ahead.repeated(ms(3), 20, SPAN), "it is on its way");
            }
            let told = ahead.acked(ms(4), if strict { 21 } else { last });
            assert_eq!((told.is_strict, told.round_trip.is_some()), (Some(strict), !strict));
            let back: Vec<u16> = ahead.take_back().collect();
            assert_eq!(back, if strict { (22..=last).collect() } else { vec![] });
            assert!(ahead.is_empty());
        }
    }

    #[test]
    fn a_copy_causes_repeated_acks_that_start_nothing() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        let mut last = 0;
        for block in 0..10 {
            last = fill(&mut ahead, ms(1), last);
            ahead.acked(ms(1), block);
        }
        last = fill(&mut ahead, ms(1), last);
        ahead.sent(ms(2), 10);
        for block in 9..=last {
            ahead.acked(ms(3), block);
            let top = ahead.top;
            fill(&mut ahead, ms(3), top);
            assert!((0..3).all(|_| !ahead.repeated(ms(3), block, SPAN)), "{block}");
        }
        ahead.acked(ms(4), last + 1);
        assert!(!ahead.repeated(ms(4), last + 1, SPAN) && ahead.repeated(ms(4), last + 1, SPAN));
    }

    #[test]
    fn what_went_out_for_others_is_acked_once_more_in_its_place_and_tells_no_loss() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        (1..=6).for_each(|block| ahead.sent(ms(0), block));
        ahead.acked(ms(1), 6);
        (1..=5).for_each(|block| ahead.goes_to_all(block));
        (7..=20).for_each(|block| ahead.sent(ms(1), block));
        assert!((0..5).all(|_| !ahead.repeated(ms(2), 6, SPAN)), "their ACKs");
        assert!(!ahead.repeated(ms(2), 6, SPAN) && ahead.repeated(ms(2), 6, SPAN), "block 7 is lost");
    }

    /// The ACK that comes before any could to the copy was that of the first, which was only late.
    #[test]
    fn a_copy_that_was_not_needed_names_no_gap() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        let mut last = fill(&mut ahead, ms(0), 0);
        for block in 1..=20 {
            ahead.acked(ms(u64::from(block) * 10), block);
            last = fill(&mut ahead, ms(u64::from(block) * 10), last);
        }
        ahead.repair(ms(211), 21);
        let told = ahead.acked(ms(212), 21);
        assert_eq!((told.is_gap, told.is_strict), (false, None));
    }

    #[test]
    fn to_who_takes_over_is_out_what_it_has_not_acked_yet() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        (1..=20).for_each(|block| ahead.sent(ms(0), block));
        ahead.acked(ms(1), 18);
        ahead.taken_over(ms(2), 12, |block| block == 15);
        let out: Vec<u16> = ahead.out.iter().map(|out| out.block).collect();
        assert_eq!(out, [13, 14, 16, 17, 18, 19, 20]);
        assert_eq!(ahead.acked(ms(3), 14).round_trip, None, "it went out who knows when");
    }

    #[test]
    fn a_second_gap_is_named_by_the_ack_of_the_first() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        let mut last = fill(&mut ahead, ms(0), 0);
        for block in 1..=20 {
            ahead.acked(ms(1), block);
            last = fill(&mut ahead, ms(1), last);
        }
        ahead.repeated(ms(2), 20, SPAN);
        ahead.repeated(ms(2), 20, SPAN);
        ahead.repair(ms(2), 21);
        let told = ahead.acked(ms(3), 24);
        assert_eq!((told.is_gap, told.is_strict), (true, Some(false)));
        ahead.repair(ms(3), 25);
        assert!(!ahead.acked(ms(4), last).is_gap);
    }

    #[test]
    fn a_lone_block_is_left_to_the_timer() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        ahead.sent(ms(0), 1);
        assert!((0..3).all(|_| !ahead.repeated(ms(1), 0, SPAN)), "nothing behind it can have caused that");
        ahead.silent(1);
        ahead.sent(ms(20), 1);
        assert_eq!(ahead.acked(ms(21), 1).round_trip, None, "which copy was it?");
    }

    /// A client that takes nothing behind a gap ACKs each block that it drops.
    #[test]
    fn what_was_on_its_way_to_who_drops_it_tells_no_second_loss() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        let mut last = 0;
        for block in 0..=20 {
            ahead.acked(ms(1), block);
            last = fill(&mut ahead, ms(1), last);
        }
        assert!(!ahead.repeated(ms(1), 20, Duration::ZERO) && ahead.repeated(ms(1), 20, Duration::ZERO));
        ahead.lost();
        let back: Vec<u16> = ahead.take_back().collect();
        for block in &back {
            ahead.goes_to_all(*block);
            ahead.sent(ms(1), *block);
        }
        for _ in 2..back.len() - 1 {
            assert!(!ahead.repeated(ms(2), 20, Duration::ZERO), "it dropped what came behind the lost one");
        }
        assert!(!ahead.repeated(ms(2), 20, Duration::ZERO) && ahead.repeated(ms(2), 20, Duration::ZERO));
        // Nor does what went out again hide that the next is lost, where it is not looked at.
        ahead.taken = 0;
        ahead.acked(ms(3), last);
        for block in last + 1..=last + 4 {
            ahead.sent(ms(3), block);
        }
        assert!(!ahead.repeated(ms(4), last, Duration::ZERO) && ahead.repeated(ms(4), last, Duration::ZERO));
    }

    /// It was busy for a moment, and what it then said of the first copies was taken for an answer to the second.
    #[test]
    fn who_seemed_to_drop_all_and_had_it_is_known_in_the_end() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        let mut last = 0;
        for block in 0..=20 {
            ahead.acked(ms(1), block);
            last = fill(&mut ahead, ms(1), last);
        }
        for round in 0..=LOOKED_AT {
            let back: Vec<u16> = ahead.take_back().collect();
            back.iter().for_each(|block| ahead.sent(ms(2), *block));
            for block in &back {
                ahead.acked(ms(3), *block);
            }
            let top = fill(&mut ahead, ms(3), last);
            let told = back.iter().filter(|_| ahead.repeated(ms(3), last, Duration::ZERO)).count();
            let is_looked_at = round % LOOKED_AT == 0;
            assert_eq!((ahead.had_all(), told == 0), (is_looked_at, is_looked_at), "round {round}");
            last = top;
        }
        // More of them tell a loss.
        let acked = ahead.acked;
        assert!(
            !ahead.repeated(ms(4), acked, Duration::ZERO) && ahead.repeated(ms(4), acked, Duration::ZERO)
        );
    }

    /// None of its ACKs could be measured, as all had gone out before at another's pace.
    #[test]
    fn who_drops_what_is_out_is_known_even_if_its_round_trip_is_not() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        (1..=20).for_each(|block| ahead.sent(ms(0), block));
        ahead.silent(1);
        ahead.repair(ms(100), 1);
        let told = ahead.acked(ms(101), 1);
        assert_eq!((told.is_gap, told.is_strict), (true, Some(true)));
    }

    /// It had all of it in front of it, and ACKs the copies as well.
    #[test]
    fn copies_for_who_only_paused_tell_no_loss() {
        let mut ahead = Ahead::new(GROUP_AHEAD_MAX);
        let mut last = 0;
        for block in 0..=100 {
            ahead.acked(ms(1), block);
            last = fill(&mut ahead, ms(1), last);
        }
        ahead.silent(1);
        let back: Vec<u16> = ahead.take_back().collect();
        for block in &back {
            ahead.goes_to_all(*block);
            ahead.sent(ms(30), *block);
        }
        for block in 101..=last {
            ahead.acked(ms(31), block);
        }
        let top = fill(&mut ahead, ms(31), last);
        assert!(top > last + 3);
        for _ in &back {
            assert!(!ahead.repeated(ms(32), last, Duration::ZERO));
        }
    }
}
