//! When nobody lacks more than a few blocks: whoever has not said that it has all of the file is asked, many at once, and
//! gets what it names, each at its own pace.
//!
//! By RFC 2090 an OACK makes a client ACK the block before its first gap, and from then on every block that it takes. EDK2 does not
//! answer a second OACK, but a block that it does not expect: who was heard before is sent its gap as well. What one is sent
//! goes to the group, so that a gap that several name within a round trip is filled once.
//!
//! ```text
//!   silent ── OACK ──► asked ── ACK n ──► block n + 1 to the group ── ACK n + 1: the next two, four …; ACK beyond: one ──► …
//!                        │ no answer, three times: lost                │ silence: again, ever later
//! ```

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, Time};

use super::step::patience;
use super::{Opener, Session};
use crate::engine::context::Context;
use crate::limits::{
    ANSWER_FIRST, GAP_REPEATS, GROUP_TRAIN_MAX, MASTER_SILENCE, MASTER_TRIES, QUESTIONS_AT_ONCE,
    QUESTIONS_MAX, REPAIR_RESEND_MIN, RESEND_MIN, SILENCE_MAX, TRANSFER_RESEND_MAX,
};

/// What an opener is sent on its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Repair {
    /// The first block that it named.
    gap: u16,
    /// So many from there on: more and more while it lacks each of them; none while it catches up.
    reach: u16,
    /// The last that went out for it.
    sent_to: u16,
    /// When that went out, or it last caught up; and how often in vain. `None` while it is not waited for.
    out: Option<(Time, u32)>,
}

/// What an ACK is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Its first.
    First,
    /// It has more than before.
    Further,
    /// It has no more than before, and was asked.
    Asked,
    /// It has no more than before.
    Again,
}

impl Said {
    pub(super) fn of(opener: &Opener, block: u16) -> Self {
        match opener.acked {
            None => Self::First,
            Some(acked) if block > acked => Self::Further,
            Some(_) if opener.asked_at.is_some() => Self::Asked,
            Some(_) => Self::Again,
        }
    }
}

impl Repair {
    /// Whether its client is waited for.
    pub(super) fn is_under_way(&self) -> bool {
        self.out.is_some()
    }

    /// The client ACKs what it had queued up: it lacks none of that, and is sent nothing yet.
    fn catches_up(block: u16, now: Time) -> Self {
        Self { gap: block + 1, reach: 0, sent_to: block, out: Some((now, 0)) }
    }

    fn is_out(&self) -> bool {
        self.out.is_some() && self.reach > 0
    }
}

impl Session {
    /// Nobody is known to lack anything but what goes out now: the last block, if it was not sent since; then all who were
    /// not heard of are asked, so many at a time.
    pub(super) fn ask_all(&mut self, now: Time, context: &mut Context) {
        let is_anybody_quick = self.is_anybody_quick(now);
        // The slow have their turn when nobody else is left.
        let waits = |opener: &Opener| opener.slow && is_anybody_quick;
        if self.openers.values().any(|opener| !waits(opener) && opener.lacks.contains(self.last)) {
            self.multicast(now, self.last, context);
        }
        let gone = |opener: &Opener| opener.questions >= QUESTIONS_MAX && self.is_due(now, opener);
        let gone: Vec<_> = self.openers.iter().filter(|(_, o)| gone(o)).map(|(client, _)| *client).collect();
        for client in gone {
            self.lose(client);
        }
        let room = self.room_for_questions();
        let mut due: Vec<_> = self.openers.iter().filter(|(_, opener)| self.is_due(now, opener)).collect();
        due.retain(|(_, opener)| !waits(opener));
        due.sort_unstable_by_key(|(_, opener)| (opener.questions == 0, opener.turn));
        let first = |opener: &Opener| opener.questions == 0;
        let (new, again): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, opener)| first(opener));
        let due: Vec<_> =
            again.into_iter().chain(new.into_iter().take(room)).map(|(client, _)| *client).collect();
        for client in due {
            context.count("session", "asked");
            self.ask(now, client, 0, context);
            self.prompt(now, client, context);
        }
        self.sent_at = now;
    }

    /// So many more may be asked for the first time.
    fn room_for_questions(&self) -> usize {
        let waits = |opener: &&Opener| opener.questions > 0 || opener.repair.out.is_some();
        QUESTIONS_AT_ONCE.saturating_sub(self.openers.values().filter(waits).count())
    }

    /// Whether it is to be asked now: nothing is out to it, and what it was asked last it has had time to answer.
    fn is_due(&self, now: Time, opener: &Opener) -> bool {
        opener.repair.out.is_none() && now >= self.due_at(opener)
    }

    fn due_at(&self, opener: &Opener) -> Time {
        // The first answer, or its question, may only be lost.
        let waits = match opener.questions {
            0 | 1 => self.answers_within(opener, RESEND_MIN),
            2..QUESTIONS_MAX => patience(opener.questions),
            _ => MASTER_SILENCE,
        };
        opener.asked_at.map_or(Time::ZERO, |at| at + waits)
    }

    /// Who never ACKed is as far away as the others, as long as it does not prove otherwise.
    fn answers_within(&self, opener: &Opener, least: Duration) -> Duration {
        let as_others = self.round_trip.resend_after(ANSWER_FIRST, least, SILENCE_MAX);
        opener.round_trip.resend_after(as_others, least, SILENCE_MAX)
    }

    /// Whether anybody but this one could be master now.
    pub(super) fn is_anybody_due(&self, now: Time, but: SocketAddrV4) -> bool {
        let able = |opener: &Opener| opener.questions < QUESTIONS_MAX && now >= self.due_at(opener);
        self.openers.iter().any(|(client, opener)| *client != but && able(opener))
    }

    /// Who was heard before may answer nothing but a block.
    pub(super) fn prompt(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        let gap =
            self.openers.get(&client).and_then(|opener| opener.acked).map(|acked| acked.saturating_add(1));
        if let Some(gap) = gap.filter(|gap| *gap > 1 && *gap <= self.last && !self.sent_lately(now, *gap)) {
            self.multicast(now, gap, context);
        }
    }

    /// An opener said that it has all up to this block.
    pub(super) fn repair(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        (block, said): (u16, Said),
        context: &mut Context,
    ) {
        let is_rfc2090 = self.is_rfc2090();
        let Some(opener) = self.openers.get_mut(&client) else {
            // It has all.
            return self.step(now, context);
        };
        if !is_rfc2090 && !opener.repair.is_out() && said != Said::First && opener.repeats < GAP_REPEATS {
            // It may not be through with what it has queued up. What it lacks it names again and again, or when it is.
            if said != Said::Again {
                opener.repair = Repair::catches_up(block, now);
            }
            return context.count("session", "catches_up");
        }
        if said == Said::Again && (is_rfc2090 || opener.repair.is_out()) {
            // It hears what others get, and still lacks this one.
            let round_trip = opener.round_trip.resend_after(ANSWER_FIRST, Duration::ZERO, SILENCE_MAX);
            let was_out = opener.repair.out.is_some_and(|(at, _)| now.since(at) >= round_trip);
            if was_out && !self.sent_lately(now, block.saturating_add(1)) {
                return self.send_again(now, client, block + 1, context);
            }
            return context.count("session", "ack_again");
        }
        let repair = &mut opener.repair;
        if block < repair.sent_to && block >= repair.gap {
            // It takes them one by one, and they are out.
            if let Some((at, tries)) = &mut repair.out {
                (*at, *tries) = (now, 0);
            }
            return;
        }
        match repair.out.filter(|_| repair.is_out()) {
            Some((at, 0)) => opener.round_trip.measured(now.since(at)),
            Some(_) => opener.round_trip.resent(),
            None => {}
        }
        // It lacked every one, or some it had.
        let reach = if repair.is_out() && block == repair.sent_to {
            (repair.reach * 2).min(self.ahead.limit())
        } else {
            1
        };
        let end = if is_rfc2090 { self.last } else { self.last - 1 };
        let last = block.saturating_add(reach).min(end);
        *repair = Repair { gap: block + 1, reach, sent_to: last, out: Some((now, 0)) };
        opener.repaired_since.get_or_insert(now);
        self.send_missing(now, (block + 1, last), context);
        if is_rfc2090 && self.openers.values().any(|opener| opener.slow) && !self.is_anybody_quick(now) {
            // The slow have waited long enough.
            self.step(now, context);
        }
    }

    fn send_again(&mut self, now: Time, client: SocketAddrV4, gap: u16, context: &mut Context) {
        let Some(opener) = self.openers.get_mut(&client) else { return };
        let reach = (opener.repair.reach / 2).max(1);
        let last = gap.saturating_add(reach - 1).min(opener.repair.sent_to.max(gap));
        let tries = opener.repair.out.map_or(0, |(_, tries)| tries) + 1;
        opener.repair = Repair { gap, reach, sent_to: last, out: Some((now, tries)) };
        context.count("session", "gap");
        self.send_missing(now, (gap, last), context);
    }

    /// What of these blocks was not sent just now.
    fn send_missing(&mut self, now: Time, (first, last): (u16, u16), context: &mut Context) {
        let mut run: Option<(u16, u16)> = None;
        for block in first..=last {
            let wanted = !self.sent_lately(now, block);
            match &mut run {
                Some((_, count)) if wanted && *count < GROUP_TRAIN_MAX => *count += 1,
                _ => {
                    if let Some(run) = run.take() {
                        self.multicast_some(now, run, context);
                    }
                    run = wanted.then_some((block, 1));
                }
            }
        }
        if let Some(run) = run {
            self.multicast_some(now, run, context);
        }
    }

    /// What is out to an opener is waited for so long.
    fn repair_due(&self, opener: &Opener, (at, tries): (Time, u32)) -> Time {
        let wait = self.answers_within(opener, REPAIR_RESEND_MIN);
        let wait = wait.saturating_mul(1 << tries.min(10));
        at + wait.min(TRANSFER_RESEND_MAX)
    }

    pub(super) fn repairs_deadline(&self) -> Option<Deadline> {
        let is_rfc2090 = self.is_rfc2090();
        let has_room = is_rfc2090 && self.room_for_questions() > 0;
        let are_all_slow = self.openers.values().all(|opener| opener.slow);
        let waits = self.openers.values().filter_map(|opener| match opener.repair.out {
            Some(out) => Some(self.repair_due(opener, out)),
            None if !is_rfc2090 || opener.slow && !are_all_slow => None,
            // Who is not asked for want of room is asked when somebody else is done.
            None if opener.questions == 0 && !has_room => None,
            None if opener.questions == 0 && opener.asked_at.is_none() => Some(self.sent_at + patience(1)),
            None => Some(self.due_at(opener)),
        });
        waits.min().map(|at| Deadline { at, why: "a client is silent" })
    }

    /// Gaps go out again.
    pub(super) fn on_repairs_timeout(&mut self, now: Time, context: &mut Context) {
        let patience = self.channel.protocol.patience();
        let is_rfc2090 = self.is_rfc2090();
        let mut again = Vec::new();
        let mut gone = Vec::new();
        for (client, opener) in &self.openers {
            let Some(out) = opener.repair.out.filter(|out| self.repair_due(opener, *out) <= now) else {
                continue;
            };
            if is_rfc2090 && opener.heard_at.is_some_and(|at| now.since(at) >= patience)
                || !is_rfc2090 && out.1 > MASTER_TRIES
            {
                gone.push(*client);
            } else {
                again.push((*client, out.1));
            }
        }
        for client in gone {
            if is_rfc2090 {
                self.lose(client);
            } else if let Some(opener) = self.openers.get_mut(&client) {
                // It is asked like one that was never heard; the others wait for the last block.
                opener.repair = Repair::default();
            }
        }
        for (client, tries) in again {
            let Some(opener) = self.openers.get_mut(&client) else { continue };
            let gap = opener.acked.map_or(1, |acked| acked.saturating_add(1));
            let tries = if opener.repair.is_out() { tries + 1 } else { 0 };
            opener.repair = Repair { gap, reach: 1, sent_to: gap, out: Some((now, tries)) };
            context.count("session", "resend");
            if is_rfc2090 && tries <= QUESTIONS_MAX.into() {
                // What it said last it may have said before it was told that somebody else is master.
                self.tell_role(client, true, context);
            }
            if !self.sent_lately(now, gap) {
                self.multicast(now, gap, context);
            }
        }
    }
}
