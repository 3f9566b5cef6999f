//! Rules of one host by itself.
//!
//! * **L4** one datagram never causes more than [`DATAGRAMS_CAUSED_MAX`] others at the host that hears it. Answers to
//!   clients are not counted: each was caused by its own request. A list of records is answered by all that the sender
//!   lacks, of a domain that may be large: such answers have a limit of their own.
//! * **L5** after a restart the committed claims are those that the store has.
//! * **L6** no table outgrows its limit.
//! * **L7** nothing happens that a daemon would log as an ERROR, unless the scenario asks for it.

use std::collections::BTreeSet;

use binld::engine::status::Status;
use binld::limits::{ALIVE_RECENT_MS, CLIENTS_WAITING_MAX, MARKS_MAX};
use db::{ClaimRow, ClaimState};
use driver::{Time, Wall};
use mtftp::limits::{REFERENCES_MAX, REFERENCES_PER_SENDER_MAX, SESSIONS_MAX, TRANSFERS_MAX};
use peers::limits::{LISTS_MAX, PUSHES_MAX};
use wire::{GroupAddr, Stamp};

use super::Checks;
use crate::program::Alarm;

/// A query for an address that is held, of an owner who is at the same time asked by somebody else: echo, statement,
/// and the statements and announcements of one other claim that moves by it. What the engine sends without being
/// asked, at a deadline, is not counted.
pub const DATAGRAMS_CAUSED_MAX: usize = 8;

/// What a sound fleet may run into in this scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expected {
    /// The store fails just now.
    pub store_fails: bool,
}

impl Checks {
    /// A host died.
    pub fn on_crash(&mut self, node: usize) {
        self.forget_claims(node);
    }

    /// A host has dealt with one datagram, and sent so many to servers, and so many records and lists of them (L4).
    pub fn on_caused(&mut self, now: Time, name: &str, caused: usize, exchanged: usize) {
        if caused > DATAGRAMS_CAUSED_MAX || exchanged > LISTS_MAX + PUSHES_MAX {
            let text = format!("{name} sent {caused} datagrams and {exchanged} of records because of one");
            self.fail(now, "L4", text);
        }
    }

    /// A daemon logs an ERROR (L7).
    pub fn on_alarm(&mut self, now: Time, name: &str, alarm: &Alarm) {
        let expected = match alarm {
            Alarm::Store => {
                self.failed_writes.insert(name.to_owned());
                self.expected.store_fails
            }
            Alarm::Other(_) => false,
        };
        if !expected {
            self.fail(now, "L7", format!("{name} logs an error: {alarm:?}"));
        }
    }

    /// A boot server has started with these claims in its store, last known alive then (L5). One that was dead for
    /// long asks again before it calls anything its own (Y7).
    pub fn on_recovered(
        &mut self,
        now: Time,
        name: &str,
        stored: &[ClaimRow],
        (last_alive, wall): (Wall, Wall),
        status: &Status,
    ) {
        let recent = wall.0.saturating_sub(last_alive.0) < ALIVE_RECENT_MS;
        // Of an address that was left to somebody else, and of the second one of a content, only the reference is deleted.
        let mut rows: Vec<&ClaimRow> = stored.iter().filter(|row| row.state.is_committed()).collect();
        rows.sort_by_key(|row| (row.state == ClaimState::Draining, row.group));
        let mut known = BTreeSet::new();
        let is_left = |row: &ClaimRow| row.state == ClaimState::Draining && row.stamp.millis == 0;
        rows.retain(|row| !is_left(row) && known.insert((row.content.clone(), row.pinned)));
        let committed = rows.into_iter().filter(|_| recent);
        let mut expected: Vec<(GroupAddr, Stamp)> = committed.map(|row| (row.group, row.stamp)).collect();
        let claims = status.claims.iter().filter_map(|claim| Some((claim.group?, claim.stamp?)));
        let mut found: Vec<(GroupAddr, Stamp)> = claims.collect();
        expected.sort_unstable();
        found.sort_unstable();
        // What could not be removed from the store is there again.
        let failed = self.failed_writes.contains(name);
        if expected != found && !(failed && found.iter().all(|claim| expected.contains(claim))) {
            let text = format!("{name} has {found:?} after a restart, and {expected:?} in its store");
            self.fail(now, "L5", text);
        }
    }

    /// The tables of a boot server (L6).
    pub fn on_tables(&mut self, now: Time, name: &str, (marks, clients_waiting): (usize, usize)) {
        if marks > MARKS_MAX || clients_waiting > CLIENTS_WAITING_MAX {
            self.fail(now, "L6", format!("a table of {name} outgrew its limit"));
        }
    }

    /// The tables of an MTFTP server (L6).
    pub fn on_mtftp_tables(&mut self, now: Time, name: &str, status: &mtftp::engine::Status) {
        let references = status.claims.iter().flat_map(|claim| &claim.references);
        let mut owners: Vec<_> = references.map(|reference| reference.binld).collect();
        owners.sort_unstable();
        let most = owners.chunk_by(|one, two| one == two).map(<[_]>::len).max().unwrap_or(0);
        let sessions: usize = status.claims.iter().map(|claim| claim.sessions.len()).sum();
        if owners.len() > REFERENCES_MAX
            || most > REFERENCES_PER_SENDER_MAX
            || sessions > SESSIONS_MAX
            || status.transfers > TRANSFERS_MAX
        {
            self.fail(now, "L6", format!("a table of {name} outgrew its limit"));
        }
    }
}
