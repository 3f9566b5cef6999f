//! Clients that boot servers told a group address, and what was seen of them since: who fetches that file by plain TFTP
//! after all *falls back*, and is reported with the likely cause.
//!
//! ```text
//!  BINLD: told ──► Told ── open ──► Opened ── ACK of the last block ──► Done (by multicast)
//!                   │                 │
//!                   └────────┬────────┘ it begins to fetch the file by plain TFTP
//!                            ▼
//!                    Done (it fell back): one report for an answer; told again, it begins anew
//! ```
//! Nothing that a client gets depends on any of this. What is not known, since a datagram was lost or the table is full, is
//! not reported.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use driver::{Deadline, Deadlines, Role, Time};
use wire::told::Told as Message;
use wire::{FileName, GroupAddr, Mac};

use super::action::Blocks;
use super::cause::{Cause, Declined, FallBack};
use crate::limits::{
    BLOCKS_BEFORE_ACK, FALL_BACKS_SHOWN, TOLD_AGAIN, TOLD_KEEP, TOLD_MAX, TOLD_PER_CLIENT_MAX,
};

/// A client may have been told several files, each on an address of its own.
type Key = (Ipv4Addr, GroupAddr);

/// What was seen of a client that opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    /// Blocks that had gone to the group when it opened.
    sent_before: u64,
    /// DATA that went to it alone.
    unicast: u64,
    /// Its highest ACK.
    acked: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Told,
    Opened(Open),
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Client {
    mac: Mac,
    file: FileName,
    told_at: Time,
    /// Why its last open came to nothing, if so.
    declined: Option<Declined>,
    state: State,
}

/// What is kept of an address while it has clients in the table.
#[derive(Debug, Default)]
struct Group {
    clients: usize,
    /// Those that are not done.
    expected: usize,
    /// Blocks that went to it.
    sent: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Told {
    clients: BTreeMap<Key, Client>,
    groups: BTreeMap<GroupAddr, Group>,
    deadlines: Deadlines<Key>,
    /// The newest first.
    recent: VecDeque<FallBack>,
    total: u64,
}

/// The first and the last group address. What is not class D does not compile.
const CLASS_D: (GroupAddr, GroupAddr) = (
    GroupAddr::new(Ipv4Addr::new(224, 0, 0, 0)).expect("class D"),
    GroupAddr::new(Ipv4Addr::new(239, 255, 255, 255)).expect("class D"),
);

/// All addresses that one client was told.
fn of(client: Ipv4Addr) -> RangeInclusive<Key> {
    (client, CLASS_D.0)..=(client, CLASS_D.1)
}

impl Told {
    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        self.deadlines.next()
    }

    pub(crate) fn on_timeout(&mut self, now: Time) {
        while let Some(key) = self.deadlines.pop_due(now) {
            self.forget(key);
        }
    }

    /// Fall-backs so far, and the last of them, the newest first.
    pub(crate) fn fall_backs(&self) -> (u64, impl Iterator<Item = &FallBack>) {
        (self.total, self.recent.iter())
    }

    /// Clients that were told that address, and have neither the file nor fallen back.
    pub(crate) fn expected(&self, group: GroupAddr) -> usize {
        self.groups.get(&group).map_or(0, |group| group.expected)
    }

    /// A boot server has told a client an address that carries the file here. `is_open`: it has opened before we heard of
    /// that. Gives what is counted.
    pub(crate) fn on_told(&mut self, now: Time, message: Message, is_open: bool) -> &'static str {
        let Message { group, client, mac, file } = message;
        let key = (client, group);
        if let Some(old) = self.clients.get(&key) {
            let same = old.mac == mac && old.file == file && old.state != State::Done;
            if same && now.since(old.told_at) < TOLD_AGAIN {
                // It repeated its question, or asked two boot servers.
                return "told_again";
            }
            self.forget(key);
        }
        let oldest = self.clients.range(of(client)).min_by_key(|(_, it)| it.told_at).map(|(key, _)| *key);
        if self.clients.range(of(client)).count() >= TOLD_PER_CLIENT_MAX {
            oldest.into_iter().for_each(|oldest| self.forget(oldest));
        }
        if self.clients.len() >= TOLD_MAX {
            return "told_too_many";
        }
        let counts = self.groups.entry(group).or_default();
        counts.clients += 1;
        counts.expected += 1;
        // What it was sent is not known then: as much as goes out before an ACK.
        let unicast = u64::from(BLOCKS_BEFORE_ACK);
        let open = Open { sent_before: counts.sent, unicast, acked: 0 };
        let state = if is_open { State::Opened(open) } else { State::Told };
        self.clients.insert(key, Client { mac, file, told_at: now, declined: None, state });
        self.deadlines.arm(key, now + TOLD_KEEP, "a client that was told an address is forgotten");
        "told"
    }

    fn forget(&mut self, key: Key) {
        self.deadlines.disarm(&key);
        let Some(client) = self.clients.remove(&key) else { return };
        if let Some(group) = self.groups.get_mut(&key.1) {
            group.clients -= 1;
            group.expected -= usize::from(client.state != State::Done);
            if group.clients == 0 {
                self.groups.remove(&key.1);
            }
        }
    }

    /// It was listed in a session on that address.
    pub(crate) fn on_open(&mut self, now: Time, client: Ipv4Addr, group: GroupAddr) {
        let key = (client, group);
        let Some(it) = self.clients.get_mut(&key) else { return };
        it.declined = None;
        if it.state == State::Told {
            let sent_before = self.groups.get(&group).map_or(0, |group| group.sent);
            it.state = State::Opened(Open { sent_before, unicast: 0, acked: 0 });
            self.deadlines.arm(key, now + TOLD_KEEP, "a client that was told an address is forgotten");
        }
    }

    /// An ACK of an opener on that address. `last` is the file's last block.
    pub(crate) fn on_ack(&mut self, client: Ipv4Addr, group: GroupAddr, block: u16, last: u64) {
        let Some(it) = self.clients.get_mut(&(client, group)) else { return };
        let State::Opened(open) = &mut it.state else { return };
        if u64::from(block) < last {
            open.acked = open.acked.max(block);
        } else if u64::from(block) == last {
            self.done((client, group));
        }
    }

    fn done(&mut self, key: Key) {
        if let Some(it) = self.clients.get_mut(&key)
            && it.state != State::Done
        {
            it.state = State::Done;
            if let Some(group) = self.groups.get_mut(&key.1) {
                group.expected -= 1;
            }
        }
    }

    /// We did not take its open, or ended what it had opened.
    pub(crate) fn declined(&mut self, client: Ipv4Addr, group: GroupAddr, why: Declined) {
        let Some(it) = self.clients.get_mut(&(client, group)) else { return };
        // Who was listed loses nothing by a repeat too many.
        if why != Declined::OverRate || it.state == State::Told {
            it.declined = Some(why);
        }
    }

    /// The same, where the address is not at hand.
    pub(crate) fn declined_file(&mut self, client: Ipv4Addr, file: &FileName, why: Declined) {
        if let Some(key) = self.find(client, file) {
            self.declined(client, key.1, why);
        }
    }

    /// Under which address a client was last told that file.
    fn find(&self, client: Ipv4Addr, file: &FileName) -> Option<Key> {
        let told = self.clients.range(of(client)).filter(|(_, it)| it.file == *file);
        told.max_by_key(|(_, it)| it.told_at).map(|(key, _)| *key)
    }

    /// Blocks go out.
    pub(crate) fn on_blocks(&mut self, blocks: &Blocks) {
        match blocks.role {
            Role::Mtftp(_) | Role::Stream(_) => {}
            Role::Query
            | Role::Control
            | Role::Domain
            | Role::Discovery
            | Role::Broadcast
            | Role::Tftp
            | Role::Transfer
            | Role::Igmp => return,
        }
        let count = u64::from(blocks.count);
        if let Some(group) = GroupAddr::new(*blocks.to.ip()) {
            if let Some(group) = self.groups.get_mut(&group) {
                group.sent += count;
            }
            return;
        }
        for (_, it) in self.clients.range_mut(of(*blocks.to.ip())) {
            if let State::Opened(open) = &mut it.state {
                open.unicast += count;
            }
        }
    }

    /// A client begins to fetch a file by plain TFTP. Gives the fall-back, if it is one: the file was promised to it by
    /// multicast, and it does not have it. `near`: it is on our link; `querier`: heard lately, and known at all.
    pub(crate) fn on_plain(
        &mut self,
        now: Time,
        (client, file): (Ipv4Addr, &FileName),
        near: bool,
        querier: Option<Option<Ipv4Addr>>,
    ) -> Option<FallBack> {
        let key = self.find(client, file)?;
        let it = self.clients.get(&key)?;
        let sent = self.groups.get(&key.1).map_or(0, |group| group.sent);
        let cause = match (it.declined, it.state) {
            (_, State::Done) => return None,
            (Some(why), _) => Cause::Declined(why),
            // What it ACKed beyond what it got for itself, it had from the group.
            (None, State::Opened(open)) if u64::from(open.acked) > open.unicast => {
                Cause::GaveUp { blocks: open.acked }
            }
            (None, _) if !near => Cause::OffLink,
            (None, State::Told) => Cause::NeverOpened,
            (None, State::Opened(open)) if sent <= open.sent_before => Cause::Unanswered,
            (None, State::Opened(_)) => match querier {
                None => Cause::NotHeardQuerierUnknown,
                Some(None) => Cause::NotHeard,
                Some(Some(querier)) => Cause::Pruned { querier },
            },
        };
        let (mac, group, file) = (it.mac, key.1, it.file.clone());
        let fall_back = FallBack { at: now, mac, client, group, file, cause };
        self.done(key);
        self.total += 1;
        self.recent.truncate(FALL_BACKS_SHOWN - 1);
        self.recent.push_front(fall_back.clone());
        Some(fall_back)
    }
}

#[cfg(test)]
mod tests;
