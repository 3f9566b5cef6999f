//! Which address a claim asks for: of its content's order the first one in our slice that nobody has; if there is none,
//! one that its slice's owner lends us.

use driver::Time;
use peers::roll::Slice;
use wire::{Content, GroupAddr, ServerId};

use super::Engine;
use super::claims::{ClaimKey, Placement};

/// Candidates looked at for one pick. All but a crowded pool give one at once; one of a thousand boot servers owns one
/// address in a thousand.
const PICK_DRAWS_MAX: u32 = 8192;

/// What a claim is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// Ask whether it is free.
    Free(Placement),
    /// Ask that boot server for it first.
    Lendable(Placement, ServerId),
    /// Wait: nobody can allow any address until a change of the list of boot servers is agreed upon.
    Later,
    /// Everything is in use, marked, or lent.
    Nothing,
}

impl Engine {
    pub(super) fn pick(&mut self, now: Time, key: &ClaimKey) -> Pick {
        if key.pinned {
            let at = self.config.pinned;
            let rests = self.claims.rest(at.group).is_some_and(|rest| rest.content != key.content);
            if self.claims.on(at.group).is_some() || rests {
                return Pick::Nothing;
            }
            return match self.slice(at.group) {
                Slice::Unlisted | Slice::Ours if self.is_lent(at.group) => Pick::Nothing,
                Slice::Unlisted | Slice::Ours => Pick::Free(at),
                Slice::Of(owner) => Pick::Lendable(at, owner),
                Slice::Moving => Pick::Later,
            };
        }
        let Some(first) = self.claims.get(key).map(|claim| claim.candidate) else { return Pick::Nothing };
        let ports = self.config.dynamic_ports;
        let (found, pick) = self.pick_dynamic(now, first, &key.content);
        if let (Some(number), Some(claim)) = (found, self.claims.get_mut(key)) {
            claim.candidate = number.saturating_add(1);
        }
        match pick {
            Dynamic::Free(group) => Pick::Free(Placement { group, ports }),
            Dynamic::Lendable(group, owner) => Pick::Lendable(Placement { group, ports }, owner),
            Dynamic::Later => Pick::Later,
            Dynamic::Nothing => Pick::Nothing,
        }
    }

    /// The number of the candidate, and what is to be done with it.
    fn pick_dynamic(&self, now: Time, first: u32, content: &Content) -> (Option<u32>, Dynamic) {
        let candidates = (first..first.saturating_add(PICK_DRAWS_MAX))
            .filter_map(|number| Some((number, self.config.pool.candidate(content, number)?)));
        let is_free = |(_, group): &(u32, GroupAddr)| !self.is_taken(now, *group, content);
        let ours = || candidates.clone().filter(|(_, group)| self.is_in_our_slice(*group)).filter(&is_free);
        // What others were heard to ask for is tried last.
        let unheard = ours().find(|(_, group)| !self.overheard.is_anothers(now, *group, content));
        if let Some((number, group)) = unheard.or_else(|| ours().next()) {
            return (Some(number), Dynamic::Free(group));
        }
        let mut later = false;
        for (number, group) in candidates.filter(is_free) {
            match self.slice(group) {
                Slice::Of(owner) if self.domain.control_of(now, owner).is_some() => {
                    return (Some(number), Dynamic::Lendable(group, owner));
                }
                Slice::Moving => later = true,
                Slice::Of(_) | Slice::Ours | Slice::Unlisted => {}
            }
        }
        (None, if later { Dynamic::Later } else { Dynamic::Nothing })
    }

    /// Whether somebody uses the address, as far as we know, or it is lent.
    fn is_taken(&self, now: Time, group: GroupAddr, content: &Content) -> bool {
        self.marks.is_marked(now, group)
            || self.is_lent(group)
            || self.claims.is_near(group, content)
            || self.is_anothers(now, group, content)
            || self.is_referenced(now, group, content)
    }
}

#[derive(Debug, Clone, Copy)]
enum Dynamic {
    Free(GroupAddr),
    Lendable(GroupAddr, ServerId),
    Later,
    Nothing,
}
