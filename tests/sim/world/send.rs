//! What becomes of a datagram that leaves a host.

use std::time::Duration;

use driver::{Role, Transmit};

use super::{Event, Kind, Passing, World};
use crate::link::{Copy, Verdict};
use crate::trace::{describe, is_hello};

/// From one program of a machine to another.
const LOOPBACK: Duration = Duration::from_micros(20);

impl World {
    pub(super) fn send(&mut self, from: usize, transmit: &Transmit) {
        let now = self.now;
        self.nodes[from].traffic.on_sent(transmit.bytes.len());
        if self.is_checked {
            self.show(from, transmit);
        }
        self.sequence += 1;
        let datagram = self.sequence;
        let source = self.nodes[from].source(transmit.role);
        let candidates = if transmit.to.ip().is_multicast() {
            Some(&self.hear_groups)
        } else {
            self.by_address.get(transmit.to.ip())
        };
        let candidates = candidates.map_or(&[][..], Vec::as_slice).iter().copied();
        let receivers: Vec<usize> =
            candidates.filter(|to| self.nodes[*to].door(transmit.to).is_some()).collect();
        let told = !is_hello(&transmit.bytes);
        if told {
            let bytes = &transmit.bytes;
            self.trace(|| format!("{} -> {} {}", self.nodes[from].name, transmit.to, describe(bytes)));
        }
        for to in receivers {
            if self.is_checked {
                self.checks.on_sent(now, datagram, from, to, &transmit.bytes);
            }
            match self.carry(from, to, transmit) {
                Verdict::Arrives(copies) => {
                    for copy in copies {
                        let (at, to_there) = (copy.at, transmit.to);
                        self.push(at, Event::Arrive { node: to, datagram, from: source, to: to_there, copy });
                    }
                }
                verdict @ (Verdict::Lost | Verdict::Cut | Verdict::Pruned | Verdict::Dropped) if told => {
                    self.trace(|| format!("    {verdict:?} on the way to {}", self.nodes[to].name));
                }
                Verdict::Lost | Verdict::Cut | Verdict::Pruned | Verdict::Dropped => {}
            }
        }
    }

    /// Shows the checks what leaves a host.
    fn show(&mut self, from: usize, transmit: &Transmit) {
        let now = self.now;
        if transmit.role == Role::Discovery && self.kinds[from] == Kind::Binld {
            self.replies.on_reply(now, from, &self.nodes, &transmit.bytes, &mut self.checks);
        }
        match self.kinds[from] {
            Kind::Binld if transmit.role == Role::Control && !is_hello(&transmit.bytes) => {
                let host = &self.nodes[from];
                self.replies.on_control_sent(now, from, host, &transmit.bytes, &mut self.checks);
            }
            Kind::Mtftp if transmit.role == Role::Control && !is_hello(&transmit.bytes) => {
                self.ledger.on_sent(now, from, transmit.to, &transmit.bytes, &mut self.checks);
            }
            Kind::Binld | Kind::Mtftp | Kind::Other => {}
        }
    }

    fn carry(&mut self, from: usize, to: usize, transmit: &Transmit) -> Verdict {
        if self.nodes[from].address == self.nodes[to].address {
            let copy = Copy { at: self.now + LOOPBACK, bytes: transmit.bytes.clone(), intact: true };
            return Verdict::Arrives(vec![copy]);
        }
        let passing = Passing { from, to, destination: transmit.to, bytes: &transmit.bytes };
        let now = self.now;
        if self.filters.iter_mut().any(|filter| filter(now, &passing)) {
            return Verdict::Dropped;
        }
        self.link.carry(now, (from, to), transmit.to.ip().is_multicast(), &transmit.bytes)
    }
}
