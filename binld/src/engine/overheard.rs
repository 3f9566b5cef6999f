//! Addresses that others were heard to ask for or to announce: tried last (passive learning, races.md T3).

use std::collections::BTreeMap;

use driver::{Deadlines, Time};
use wire::{Content, GroupAddr};

use crate::limits::{OVERHEARD_KEEP, OVERHEARD_MAX};

/// What was overheard lately.
#[derive(Debug, Clone, Default)]
pub struct Overheard {
    contents: BTreeMap<GroupAddr, Content>,
    ends: Deadlines<GroupAddr>,
}

impl Overheard {
    /// Somebody asked for the address, or announced it.
    pub fn hear(&mut self, now: Time, group: GroupAddr, content: &Content) {
        self.expire(now);
        if !self.contents.contains_key(&group)
            && self.contents.len() >= OVERHEARD_MAX
            && let Some(oldest) = self.ends.pop_due(now + OVERHEARD_KEEP)
        {
            self.contents.remove(&oldest);
        }
        self.contents.insert(group, content.clone());
        self.ends.arm(group, now + OVERHEARD_KEEP, "overheard address is forgotten");
    }

    /// Whether the address was heard of for another content than this.
    #[must_use]
    pub fn is_anothers(&self, now: Time, group: GroupAddr, content: &Content) -> bool {
        let live = self.ends.of(&group).is_some_and(|ends_at| now < ends_at);
        live && self.contents.get(&group).is_some_and(|other| other != content)
    }

    fn expire(&mut self, now: Time) {
        while let Some(group) = self.ends.pop_due(now) {
            self.contents.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;
    use wire::FileName;

    fn group(number: usize) -> GroupAddr {
        let bits = u32::from(Ipv4Addr::new(239, 255, 0, 0)) + u32::try_from(number).unwrap();
        GroupAddr::new(Ipv4Addr::from(bits)).unwrap()
    }

    fn content(server: u8) -> Content {
        Content { server: Ipv4Addr::new(10, 0, 0, server), file: FileName::new(b"f").unwrap() }
    }

    #[test]
    fn what_was_overheard_is_another_ones_for_three_announcements() {
        let mut overheard = Overheard::default();
        overheard.hear(Time::ZERO, group(1), &content(1));
        let last = Time::ZERO + (OVERHEARD_KEEP - Duration::from_nanos(1));
        assert!(overheard.is_anothers(last, group(1), &content(2)));
        assert!(
            !overheard.is_anothers(last, group(1), &content(1)),
            "the same content is shared, not avoided"
        );
        assert!(!overheard.is_anothers(last, group(2), &content(2)));
        assert!(!overheard.is_anothers(Time::ZERO + OVERHEARD_KEEP, group(1), &content(2)));
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes_first() {
        let mut overheard = Overheard::default();
        for number in 0..=OVERHEARD_MAX {
            let now = Time::from_nanos(u64::try_from(number).unwrap());
            overheard.hear(now, group(number), &content(1));
        }
        assert_eq!(overheard.contents.len(), OVERHEARD_MAX);
        let now = Time::from_nanos(9999);
        assert!(!overheard.is_anothers(now, group(0), &content(2)));
        assert!(overheard.is_anothers(now, group(1), &content(2)));
        overheard.hear(now + OVERHEARD_KEEP, group(0), &content(1));
        assert_eq!(overheard.contents.len(), 1);
    }
}
