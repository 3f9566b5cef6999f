//! The election delay (R001.12): base + Σ over those before us of the longest delay to any of those behind them who are
//! not before us, ourselves among them. So whoever comes before us has declared itself, and been heard by all, before our
//! own timer ends.

use std::time::Duration;

use wire::ServerId;
use wire::elect::Shard;

use super::Responders;
use crate::limits::{DELAY_UNKNOWN, ELECTION_BASE};
use crate::rendezvous::index;

impl Responders {
    /// How long our own timer runs for that shard, if `failed` is to be replaced.
    pub(super) fn election_delay(&self, shard: Shard, failed: Option<ServerId>) -> Duration {
        let mut row: Vec<(u32, ServerId)> = self
            .candidates
            .iter()
            .filter(|(server, candidate)| candidate.works && Some(**server) != failed)
            .filter_map(|(server, it)| Some((index(shard, server, it.weight()?), *server)))
            .collect();
        let ours = (index(shard, &self.me, self.weight()), self.me);
        row.push(ours);
        row.sort_unstable();
        let place = row.partition_point(|other| *other < ours);
        let (before, others) = row.split_at(place);
        let longest = |from: &(u32, ServerId)| others.iter().map(|to| self.delay(from.1, to.1)).max();
        ELECTION_BASE + before.iter().filter_map(longest).sum::<Duration>()
    }

    /// The delay between two servers, as measured by us, or as they tell.
    pub(super) fn delay(&self, one: ServerId, other: ServerId) -> Duration {
        let measured = |server: ServerId| self.candidates.get(&server)?.measured();
        let told = |by: ServerId, of: ServerId| self.candidates.get(&by)?.delay_to(of);
        let ours = if one == self.me { measured(other) } else { None };
        let ours = ours.or_else(|| if other == self.me { measured(one) } else { None });
        ours.or_else(|| told(one, other)).or_else(|| told(other, one)).unwrap_or(DELAY_UNKNOWN)
    }
}
