//! Addresses that somebody else uses, for a while (R003.6, G18).

use std::collections::BTreeMap;

use driver::Time;
use wire::GroupAddr;

use crate::limits::{MARK_LONG, MARK_MEMORY, MARK_SHORT, MARKS_MAX};

/// A note that an address is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// When the address may be tried again.
    pub until: Time,
    /// When it was refused first; remembered for [`MARK_MEMORY`], because a second refusal counts more.
    refused_at: Time,
}

/// All marks.
#[derive(Debug, Default)]
pub struct Marks(BTreeMap<GroupAddr, Mark>);

impl Marks {
    /// Notes a refusal and returns until when the address is marked: [`MARK_SHORT`], or [`MARK_LONG`] if `confirmed`
    /// or refused before.
    pub fn refuse(&mut self, now: Time, group: GroupAddr, confirmed: bool) -> Time {
        let before = self.0.get(&group).copied();
        let span = if confirmed || before.is_some() { MARK_LONG } else { MARK_SHORT };
        let until = before.map_or(now, |mark| mark.until).max(now + span);
        if before.is_none() && self.0.len() >= MARKS_MAX {
            let first = self.0.iter().min_by_key(|(_, mark)| mark.until).map(|(group, _)| *group);
            if let Some(group) = first {
                self.0.remove(&group);
            }
        }
        self.0.insert(group, Mark { until, refused_at: before.map_or(now, |mark| mark.refused_at) });
        until
    }

    /// Whether the address is marked now.
    #[must_use]
    pub fn is_marked(&self, now: Time, group: GroupAddr) -> bool {
        self.0.get(&group).is_some_and(|mark| now < mark.until)
    }

    /// Forgets what is over, and what no second refusal can refer to any more.
    pub fn expire(&mut self, now: Time) {
        self.0.retain(|_, mark| now < mark.until || now < mark.refused_at + MARK_MEMORY);
    }

    /// Those in force, in order of address.
    pub fn iter(&self, now: Time) -> impl Iterator<Item = (GroupAddr, Mark)> + '_ {
        self.0.iter().filter(move |(_, mark)| now < mark.until).map(|(group, mark)| (*group, *mark))
    }

    /// Takes over a mark from the store.
    pub fn restore(&mut self, now: Time, group: GroupAddr, until: Time) {
        self.0.insert(group, Mark { until, refused_at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn group(last: u8) -> GroupAddr {
        GroupAddr::new(Ipv4Addr::new(239, 255, 0, last)).unwrap()
    }

    #[test]
    fn a_second_refusal_or_a_statement_confirms() {
        let (mut marks, start) = (Marks::default(), Time::ZERO);
        assert_eq!(marks.refuse(start, group(1), false), start + MARK_SHORT);
        assert_eq!(marks.refuse(start, group(2), true), start + MARK_LONG);
        let later = start + Duration::from_secs(60);
        assert!(!marks.is_marked(later, group(1)));
        marks.expire(later);
        assert_eq!(marks.refuse(later, group(1), false), later + MARK_LONG);
        assert!(marks.is_marked(later + MARK_SHORT, group(1)));
    }

    #[test]
    fn marks_end_and_are_bounded() {
        let mut marks = Marks::default();
        for number in 0..=u32::try_from(MARKS_MAX).unwrap() {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(239, 255, 0, 0)) + number);
            marks.refuse(Time::ZERO, GroupAddr::new(address).unwrap(), true);
        }
        assert_eq!(marks.0.len(), MARKS_MAX);
        marks.expire(Time::ZERO + MARK_LONG);
        assert!(marks.0.is_empty());
    }
}
