//! Kinds of clients without windows, by what their requests look like, and how far the server may run ahead of each.

use std::collections::BTreeMap;

use wire::tftp::Options;

use super::ahead::Room;
use crate::engine::RunAhead;
use crate::limits::KINDS_MAX;

/// What the options of a request tell of the program that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    block_size: Option<u16>,
    transfer_size: bool,
    timeout: bool,
    window: bool,
    rollover: bool,
}

impl Kind {
    pub(super) fn of(asked: &Options) -> Self {
        Self {
            block_size: asked.block_size,
            transfer_size: asked.transfer_size.is_some(),
            timeout: asked.timeout_seconds.is_some(),
            window: asked.window_size.is_some(),
            rollover: asked.rollover.is_some(),
        }
    }

    /// Whether real ones were seen to take blocks ahead of their ACKs: iPXE and EDK2 (`qemu/matrix`).
    fn is_proven(self) -> bool {
        let ask = |block_size, transfer_size, window| Self {
            block_size: Some(block_size),
            transfer_size,
            timeout: false,
            window,
            rollover: false,
        };
        // iPXE; EDK2 before and since it asks for windows, where none are granted.
        [ask(1432, true, false), ask(1468, false, false), ask(1468, false, true)].contains(&self)
    }
}

/// What is known of them.
#[derive(Debug)]
pub(super) struct Kinds {
    rule: RunAhead,
    /// With how many blocks out some lacked one.
    ceilings: BTreeMap<Kind, u16>,
}

impl Kinds {
    pub(super) fn new(rule: RunAhead) -> Self {
        Self { rule, ceilings: BTreeMap::new() }
    }

    /// What one of that kind is begun with; `None` if the server does not run ahead of it.
    pub(super) fn room(&self, kind: Kind) -> Option<Room> {
        let runs_ahead = match self.rule {
            RunAhead::Off => false,
            RunAhead::Proven => kind.is_proven(),
            RunAhead::All => true,
        };
        let ceiling = self.ceilings.get(&kind).copied().unwrap_or(Room::UNKNOWN);
        runs_ahead.then(|| Room::new(ceiling))
    }

    /// A client of that kind has its file, and its ceiling was this.
    pub(super) fn learn(&mut self, kind: Kind, ceiling: u16) {
        if ceiling >= Room::UNKNOWN {
            self.ceilings.remove(&kind);
        } else if self.ceilings.len() < KINDS_MAX || self.ceilings.contains_key(&kind) {
            self.ceilings.insert(kind, ceiling);
        }
    }
}
