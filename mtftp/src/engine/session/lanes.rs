//! Clients of RFC 2090 that were too slow for the others: each gets the rest of the file by unicast, at its own pace.
//!
//! It is told that it is the master, so that it ACKs; to it the protocol is the same. What it hears on the group address
//! meanwhile it takes as well, and need not be sent.

use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Deadline, RoundTrip, Time};
use wire::tftp::{Options, Rollover};

use super::Session;
use crate::engine::action::Blocks;
use crate::engine::context::Context;
use crate::limits::{BLOCK_SENDS_MAX, TRANSFER_RESEND_FIRST, TRANSFER_RESEND_MAX, TRANSFER_RESEND_MIN};

/// A client that goes at its own pace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    /// The options it was granted, but for `multicast`.
    granted: Options,
    /// Its highest ACK; `None` while it has not said what it lacks.
    acked: Option<u16>,
    /// The block that is out; 0 for the OACK.
    block: u16,
    sent_at: Time,
    sends: u32,
    round_trip: RoundTrip,
}

impl Lane {
    fn due_at(&self) -> Time {
        let wait =
            self.round_trip.resend_after(TRANSFER_RESEND_FIRST, TRANSFER_RESEND_MIN, TRANSFER_RESEND_MAX);
        let doubled: Duration = wait.saturating_mul(1 << self.sends.saturating_sub(1).min(8));
        self.sent_at + doubled.min(TRANSFER_RESEND_MAX)
    }
}

impl Session {
    /// The opener leaves the others behind.
    pub(super) fn begin_lane(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        let Some(opener) = self.openers.remove(&client) else { return };
        let (granted, acked, round_trip) = (opener.granted, opener.acked, self.round_trip);
        self.lanes.insert(client, Lane { granted, acked, block: 0, sent_at: now, sends: 0, round_trip });
        self.send_to_lane(now, client, context);
    }

    fn send_to_lane(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        let Some(lane) = self.lanes.get_mut(&client) else { return };
        lane.sent_at = now;
        lane.sends += 1;
        if lane.block == 0 {
            return self.tell_role(client, true, context);
        }
        let (file, role, block_size) = (self.file.id, self.channel.role, self.channel.block_size);
        let first_block = u64::from(lane.block);
        // A session has no block over 65,535.
        let rollover = Rollover::Zero;
        self.tally.unicast += 1;
        context.blocks(Blocks { file, first_block, count: 1, block_size, rollover, role, to: client });
    }

    /// It asks for the block after this one. False if it is not in a lane.
    pub(super) fn on_lane_ack(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        block: u16,
        context: &mut Context,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(&client) else { return false };
        self.heard_at = now;
        if block == self.last {
            self.lanes.remove(&client);
            self.tally.complete += 1;
            return true;
        }
        lane.acked = Some(lane.acked.map_or(block, |acked| acked.max(block)));
        if lane.block > 0 && block < lane.block {
            // It starts nothing: else two copies beget two copies for ever.
            context.count("session", "ack_again");
            return true;
        }
        if lane.block > 0 && lane.sends == 1 {
            lane.round_trip.measured(now.since(lane.sent_at));
        } else if lane.block > 0 {
            lane.round_trip.resent();
        }
        lane.block = block + 1;
        lane.sends = 0;
        self.send_to_lane(now, client, context);
        true
    }

    /// It asked for the file once more: its OACK was lost, or it has begun anew. False if it is not in a lane.
    pub(super) fn reopen_lane(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) -> bool {
        let Some(lane) = self.lanes.get_mut(&client) else { return false };
        (lane.acked, lane.block, lane.sends) = (None, 0, 0);
        self.send_to_lane(now, client, context);
        true
    }

    /// What an OACK to it must repeat, and its highest ACK.
    pub(super) fn lane_options(&self, client: SocketAddrV4) -> Option<(&Options, Option<u16>)> {
        self.lanes.get(&client).map(|lane| (&lane.granted, lane.acked))
    }

    pub(super) fn lanes_deadline(&self) -> Option<Deadline> {
        let at = self.lanes.values().map(Lane::due_at).min()?;
        Some(Deadline { at, why: "a slow client is silent" })
    }

    pub(super) fn on_lanes_timeout(&mut self, now: Time, context: &mut Context) {
        let due = self.lanes.iter().filter(|(_, lane)| lane.due_at() <= now);
        for client in due.map(|(client, _)| *client).collect::<Vec<_>>() {
            if self.lanes.get(&client).is_some_and(|lane| lane.sends >= BLOCK_SENDS_MAX) {
                self.lanes.remove(&client);
                self.tally.lost += 1;
                continue;
            }
            context.count("session", "resend");
            self.send_to_lane(now, client, context);
        }
    }

    /// For the status: blocks it may lack, and its highest ACK.
    pub(super) fn lanes_lacking(&self) -> impl Iterator<Item = (SocketAddrV4, u32, Option<u16>)> + '_ {
        self.lanes.iter().map(|(client, lane)| {
            let left = u32::from(self.last.saturating_sub(lane.acked.unwrap_or(0)));
            (*client, left, lane.acked)
        })
    }
}
