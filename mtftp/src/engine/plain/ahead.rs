//! Running ahead of the ACK: a client without windows ACKs each block that it takes, and the next ones are under way
//! meanwhile.
//!
//! Nothing in RFC 1350 keeps a server from that: block N + 1 that comes early waits in the client's buffers until it has
//! ACKed N. How many its buffers hold is found out: one at first, one more with each ACK, and half as many once it lacks
//! one. From then on the number at which that happened is a *ceiling*, tried again only after many ACKs, and more of them
//! each time it turns out to be one.
//!
//! ```text
//!    acked │ next ─► … acked + most │        ACK of n: acked = n; once half of the room is free, it is filled
//!          ├── out ──┤                       ACK of acked again, more than one out: it lacks the first;
//!          │ 1 … top                         all behind it goes out again as its ACKs come, once
//! ```
//!
//! As with windows, a repeated ACK counts only if what is out went out once: copies cause repeated ACKs.

use driver::Time;
use wire::tftp::Rollover;

use super::outstanding::{Span, Verdict};
use crate::limits::{RUN_AHEAD_HOLD, RUN_AHEAD_HOLD_MAX, RUN_AHEAD_MAX};

/// How many blocks a client's buffers hold, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// So many may be out.
    most: u16,
    /// With so many out the client lacked one; above [`RUN_AHEAD_MAX`] if it never did.
    ceiling: u16,
    /// Whether it never lacked one in this transfer.
    clean: bool,
    /// ACKs since `most` changed.
    acks: u16,
    /// ACKs until the ceiling is tried.
    hold: u16,
}

/// The blocks that are out.
#[derive(Debug)]
pub(super) struct Ahead {
    last: u64,
    rollover: Rollover,
    /// The client has all up to this one.
    acked: u64,
    /// What goes out next; not behind `top` after a loss.
    next: u64,
    /// The last that ever went out.
    top: u64,
    room: Room,
    /// ACKs from this one on are about what went out once.
    once_from: u64,
    /// A block that went out once, and when: its ACK tells the round trip.
    timed: Option<(u64, Time)>,
}

impl Room {
    /// Before anything is out to a client whose kind lacked a block with so many out, [`Self::UNKNOWN`] if none did.
    pub(super) fn new(ceiling: u16) -> Self {
        Self { most: 1, ceiling, clean: true, acks: 0, hold: RUN_AHEAD_HOLD }
    }

    /// No ceiling.
    pub(super) const UNKNOWN: u16 = RUN_AHEAD_MAX + 1;

    fn grow(&mut self) {
        self.acks += 1;
        if self.most >= RUN_AHEAD_MAX {
            return;
        }
        let wanted = if self.most + 1 >= self.ceiling {
            self.hold
        } else if self.clean {
            1
        } else {
            self.most
        };
        if self.acks >= wanted {
            self.most += 1;
            self.acks = 0;
        }
        if self.most > self.ceiling {
            *self = Self { ceiling: Self::UNKNOWN, hold: RUN_AHEAD_HOLD, ..*self };
        }
    }

    fn halve(&mut self) {
        let again = self.ceiling <= self.most;
        let hold = if again { self.hold.saturating_mul(2).min(RUN_AHEAD_HOLD_MAX) } else { RUN_AHEAD_HOLD };
        *self = Self { most: (self.most / 2).max(1), ceiling: self.most.max(2), clean: false, acks: 0, hold };
    }

    /// It said nothing: that tells of the link, or that it was busy, not of its buffers.
    fn pause(&mut self, again: bool) {
        let most = if again { 1 } else { (self.most / 2).max(1) };
        *self = Self { most, clean: false, acks: 0, ..*self };
    }
}

impl Ahead {
    /// The first block of a file of so many goes out. `once`: nothing that an ACK of block 0 could answer went out twice.
    pub(super) fn new(now: Time, last: u64, room: Room, rollover: Rollover, once: bool) -> Self {
        Self {
            last,
            rollover,
            acked: 0,
            next: 2,
            top: 1,
            room,
            once_from: u64::from(!once),
            timed: Some((1, now)),
        }
    }

    /// The client has all up to this block, of so many.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.acked, self.last)
    }

    /// With how many blocks out the client lacked one; [`Room::UNKNOWN`] if it did not.
    pub(super) fn ceiling(&self) -> u16 {
        self.room.ceiling
    }

    /// An ACK with this number on the wire.
    pub(super) fn on_ack(&mut self, now: Time, number: u16) -> Verdict {
        // What is out is far less than what the numbers go round in: at most one block has this one.
        let found = (self.acked..=self.top).rev().find(|&block| self.rollover.number(block) == number);
        let Some(block) = found else { return Verdict::Stale };
        if block == self.last {
            return Verdict::Complete;
        }
        if block == self.acked {
            return self.repeated_ack();
        }
        let timed = self.timed.take_if(|(timed, _)| *timed <= block);
        let round_trip = timed.map(|(_, sent_at)| now.since(sent_at));
        if block >= self.once_from {
            self.room.grow();
        }
        self.acked = block;
        self.next = self.next.max(block + 1);
        if self.timed.is_none() && self.next > self.top {
            self.timed = Some((self.next, now));
        }
        Verdict::Onward { round_trip, next: self.go_on() }
    }

    /// What there is room for, once that is half of the room: many blocks in one send cost little more than one.
    fn go_on(&mut self) -> Option<Span> {
        let most = u64::from(self.room.most);
        let end = (self.acked + most).min(self.last);
        let first = self.next;
        let count = u16::try_from((end + 1).checked_sub(first)?).ok().filter(|count| *count > 0)?;
        if u64::from(count) * 2 < most && end < self.last {
            return None;
        }
        self.next = end + 1;
        self.top = self.top.max(end);
        Some(Span { first, count })
    }

    fn repeated_ack(&mut self) -> Verdict {
        if self.top - self.acked < 2 || self.acked < self.once_from {
            return Verdict::Stale;
        }
        self.room.halve();
        self.start_again().map_or(Verdict::Stale, Verdict::Again)
    }

    fn start_again(&mut self) -> Option<Span> {
        self.once_from = self.top + 1;
        self.timed = None;
        self.next = self.acked + 1;
        self.go_on()
    }

    /// The timer: what is out for the `sends`th time goes out once more; from the second time on only its first block.
    pub(super) fn again(&mut self, sends: u32) -> Span {
        self.room.pause(sends > 1);
        let first = self.acked + 1;
        self.start_again().unwrap_or(Span { first, count: 1 })
    }
}
