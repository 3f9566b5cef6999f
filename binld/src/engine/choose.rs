//! Which address to try: a stable pseudo-random order per content, never "the lowest free" (races.md T5).

use std::net::Ipv4Addr;

use peers::rendezvous::mix;
pub use peers::rendezvous::rendezvous;
use wire::{Content, GroupAddr};

/// The addresses a boot server may pick from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The first.
    pub first: GroupAddr,
    /// The last.
    pub last: GroupAddr,
    /// Addresses inside it that are somebody else's.
    pub exclude: Vec<Ipv4Addr>,
}

impl Pool {
    fn size(&self) -> u64 {
        u64::from(self.last.ip().to_bits().saturating_sub(self.first.ip().to_bits())) + 1
    }

    /// Whether `group` may be picked at all.
    #[must_use]
    pub fn holds(&self, group: GroupAddr) -> bool {
        (self.first..=self.last).contains(&group)
            && !self.exclude.contains(&group.ip())
            && !is_forbidden(group)
    }

    /// The `number`-th address to try for `content`; `None` if that one may not be picked. The same content has the
    /// same order on every server and after every restart; different contents have independent ones.
    #[must_use]
    pub fn candidate(&self, content: &Content, number: u32) -> Option<GroupAddr> {
        let index = hash(content, number) % self.size();
        let bits = self.first.ip().to_bits().checked_add(u32::try_from(index).ok()?)?;
        GroupAddr::new(Ipv4Addr::from(bits)).filter(|&group| self.holds(group))
    }

    /// The place of `group` in the order of `content`: of two addresses of one content the lower stays (Y6).
    #[must_use]
    pub fn rank(&self, content: &Content, group: GroupAddr) -> u32 {
        (0..RANKS_MAX).find(|&number| self.candidate(content, number) == Some(group)).unwrap_or(RANKS_MAX)
    }
}

/// Addresses of one content whose place in the order is known; a claim further on counts as last.
const RANKS_MAX: u32 = 256;

/// Shares its Ethernet address with 224.0.0.x, which switches never filter (RFC 4541 § 2.1.2, G21).
#[must_use]
pub fn is_forbidden(group: GroupAddr) -> bool {
    group.ethernet_bits() < 0x100
}

/// How much a server is the one to do something for another one at that address: as [`rendezvous`].
#[must_use]
pub fn rendezvous_of(group: GroupAddr, servers: &[&[u8; 16]]) -> u64 {
    let bytes = servers.iter().flat_map(|server| server.iter().copied());
    mix(group.ip().octets().into_iter().chain(bytes))
}

fn hash(content: &Content, number: u32) -> u64 {
    let bytes = content.server.octets().into_iter().chain(content.file.as_bytes().iter().copied());
    mix(bytes.chain(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use wire::FileName;

    fn group(text: &str) -> GroupAddr {
        text.parse().unwrap()
    }

    fn pool() -> Pool {
        let exclude = vec![Ipv4Addr::new(239, 255, 1, 1)];
        Pool { first: group("239.255.0.0"), last: group("239.255.254.255"), exclude }
    }

    fn content(number: u32) -> Content {
        let file = FileName::new(format!("file{number}").as_bytes()).unwrap();
        Content { server: Ipv4Addr::new(10, 0, 0, 1), file }
    }

    #[test]
    fn the_order_is_stable_and_stays_in_the_pool() {
        let pool = pool();
        for number in 0..10_000 {
            let candidate = pool.candidate(&content(1), number);
            assert_eq!(candidate, pool.candidate(&content(1), number));
            assert!(candidate.is_none_or(|group| pool.holds(group)));
        }
        // Golden: the order must not change between versions, or a restart would move every claim.
        let file = FileName::new(b"second.img").unwrap();
        let second = Content { server: Ipv4Addr::new(10, 77, 0, 21), file };
        assert_eq!(pool.candidate(&second, 0), Some(group("239.255.220.102")));
        assert_eq!(pool.rank(&second, group("239.255.220.102")), 0);
    }

    #[test]
    fn excluded_and_forbidden_addresses_are_never_picked() {
        let tiny = Pool {
            first: group("239.128.0.254"),
            last: group("239.128.1.1"),
            exclude: vec![Ipv4Addr::new(239, 128, 1, 0)],
        };
        let picked: BTreeSet<_> =
            (0..1000).filter_map(|number| tiny.candidate(&content(1), number)).collect();
        assert_eq!(picked.into_iter().collect::<Vec<_>>(), [group("239.128.1.1")]);
    }

    #[test]
    fn contents_spread_over_the_pool() {
        let pool = pool();
        let firsts: BTreeSet<_> = (0..1000).filter_map(|file| pool.candidate(&content(file), 0)).collect();
        // A thousand draws from 65,024 collide about 8 times.
        assert!(firsts.len() > 970, "{}", firsts.len());
    }
}
