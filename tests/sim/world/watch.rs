//! Where the world shows its checks what they look at.

use std::collections::BTreeMap;
use std::time::Duration;

use binld::engine::claims::StateName;
use binld::engine::status::Status;

use super::{Event, Kind, World};
use crate::binld_host::BinldHost;
use crate::check::convergence::COMPARED_EVERY;
use crate::check::references::Wanted;
use crate::mtftp_host::MtftpHost;
use crate::node::Node;

impl World {
    /// All is mended, and time enough has passed: what MTFTP servers have is what is wanted of them (I2, I3).
    pub fn expect_quiet(&mut self) {
        let now = self.now;
        let mut allowed = BTreeMap::new();
        for node in 0..self.nodes.len() {
            let Some(status) = self.binld_status(node) else { continue };
            let Some(binld) = self.nodes[node].program::<BinldHost>() else { continue };
            let wanted =
                status.claims.into_iter().filter(|claim| claim.stamp.is_some()).filter_map(|claim| {
                    Some(Wanted {
                        held: claim.state == StateName::Held,
                        content: claim.content,
                        group: claim.group?,
                    })
                });
            allowed.insert(binld.server(), wanted.collect::<Vec<_>>());
        }
        for node in 0..self.nodes.len() {
            let Some(mtftp) = self.nodes[node].program::<MtftpHost>() else { continue };
            let Some(status) = mtftp.status() else { continue };
            let rows = mtftp.rows();
            let at = (node, mtftp.address());
            self.ledger.expect_no_leak(now, at, &status, &allowed, &mut self.checks);
            self.ledger.expect_stored(now, node, &rows, &mut self.checks);
        }
    }

    /// Nothing went wrong: then no duplicate may need an explanation (L1).
    pub fn expect_no_duplicates(&mut self) {
        if self.checks.explained > 0 {
            self.checks.fail(self.now, "L1", "a duplicate, though nothing went wrong".to_owned());
        }
    }

    /// The members of domains are compared from now on, every 50 ms: costs little, and is asked for where it is promised.
    pub fn expect_convergence(&mut self) {
        self.push(self.now, Event::Compare);
    }

    /// How long the members took at most to know the same, after something had gone wrong or changed.
    #[must_use]
    pub fn converged_within(&self) -> Duration {
        self.convergence.longest
    }

    pub(super) fn compare_members(&mut self) {
        let now = self.now;
        let daemons = self.nodes.iter().zip(&self.kinds).filter(|(_, kind)| **kind != Kind::Other);
        let daemons: Vec<&Node> = daemons.map(|(node, _)| node).collect();
        let calm = self.filters.is_empty()
            && self.link.is_good(now)
            && daemons.iter().all(|node| node.is_up() && node.paused_until <= now);
        if self.convergence.look(now, calm, &daemons, &mut self.checks) {
            self.trace(|| "all members know the same".to_owned());
        }
        self.push(now + COMPARED_EVERY, Event::Compare);
    }

    pub(super) fn look(&mut self, node: usize) {
        let watched = &self.nodes[node];
        if let Some(engine) = watched.program::<BinldHost>().and_then(BinldHost::engine) {
            let lengths = engine.lengths(watched.local(self.now));
            self.checks.on_tables(self.now, &watched.name, lengths);
        }
        if let Some(claims) = self.nodes[node].claims(self.now) {
            self.checks.after_step(self.now, node, &claims);
        }
    }

    /// The reference model against the MTFTP server's own picture.
    pub(super) fn compare(&mut self, node: usize) {
        let Some(status) = self.nodes[node].program::<MtftpHost>().and_then(MtftpHost::status) else {
            return;
        };
        self.ledger.compare(self.now, node, &status, &mut self.checks);
        self.checks.on_mtftp_tables(self.now, &self.nodes[node].name, &status);
    }

    /// Datagrams on the query port that a host dropped because of their number.
    pub(super) fn refusals(&self, node: usize) -> u64 {
        let node = &self.nodes[node];
        let binld = node.program::<BinldHost>().and_then(BinldHost::engine);
        let mtftp = node.program::<MtftpHost>().and_then(MtftpHost::engine);
        binld.map_or(0, |engine| engine.counters().get("dropped.query", "rate"))
            + mtftp.map_or(0, |engine| engine.counters().get("query", "rate"))
    }

    pub(super) fn start(&mut self, node: usize) {
        let now = self.now;
        if let Some(mtftp) = self.nodes[node].program::<MtftpHost>() {
            self.ledger.on_start(now, node, &mtftp.rows(), &mut self.checks);
        }
        let stored = self.nodes[node].program::<BinldHost>().map(BinldHost::stored);
        self.link.join(now, node);
        self.nodes[node].start(now);
        if let Some((claims, last_alive)) = stored
            && let Some(status) = self.binld_status(node)
        {
            let walls = (last_alive, self.nodes[node].wall(now));
            self.checks.on_recovered(now, &self.nodes[node].name, &claims, walls, &status);
        }
        self.settle(node);
    }

    pub(super) fn binld_status(&self, node: usize) -> Option<Status> {
        let node = &self.nodes[node];
        node.program::<BinldHost>()?.status(node.local(self.now))
    }
}
