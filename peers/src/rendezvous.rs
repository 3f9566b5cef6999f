//! Who is the one for something, found by everybody alone and with the same result: highest random weight, or rendezvous,
//! hashing (Thaler and Ravishankar 1998). When a server comes or goes, only what is its own moves.
//!
//! The hash is part of the protocol: every member must get the same.

use wire::elect::Shard;
use wire::{GroupAddr, Mac, ServerId};

/// How much a server is the one for that address: of several the one with the greatest number.
#[must_use]
pub fn rendezvous(group: GroupAddr, server: &ServerId) -> u64 {
    mix(group.ip().octets().into_iter().chain(server.0))
}

/// The shard of a client.
#[must_use]
pub fn shard_of(client: Mac) -> Shard {
    Shard::of_hash(mix(client.0.into_iter()))
}

/// The server's index in the responder election of that shard: the lesser, the better (R001.18). A server of weight *w*
/// has the best of *w* draws, and so the least index in a share of the shards that is in proportion to *w* (R001.19,
/// R001.20). Weight 0 is a server that is drained: last of all.
#[must_use]
pub fn index(shard: Shard, server: &ServerId, weight: u8) -> u32 {
    let draw = |draw: u8| {
        let hash = mix([b's', shard.number(), draw].into_iter().chain(server.0));
        u32::try_from(hash >> 32).unwrap_or(u32::MAX).min(u32::MAX - 1)
    };
    (0..weight).map(draw).min().unwrap_or(u32::MAX)
}

/// FNV-1a, then a finalizer: the low bits alone would show the last byte.
#[must_use]
pub fn mix(bytes: impl Iterator<Item = u8>) -> u64 {
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn server(number: u8) -> ServerId {
        ServerId([number; 16])
    }

    /// How many shards each server is the one for.
    fn shares(weights: &[(u8, u8)]) -> BTreeMap<u8, usize> {
        let mut shares = BTreeMap::new();
        for shard in Shard::all() {
            let best = weights.iter().min_by_key(|(number, weight)| index(shard, &server(*number), *weight));
            *shares.entry(best.unwrap().0).or_default() += 1;
        }
        shares
    }

    /// Golden: another order in another version would have two servers answer one client.
    #[test]
    fn the_numbers_are_part_of_the_protocol() {
        let shard = shard_of(Mac([0x52, 0x54, 0, 0x77, 0, 1]));
        assert_eq!(shard.number(), 66);
        assert_eq!(index(shard, &server(1), 1), 2_001_825_030);
        assert_eq!(index(shard, &server(1), 16), 311_226_097);
        assert_eq!(index(shard, &server(1), 0), u32::MAX);
    }

    #[test]
    fn shards_are_shared_by_weight_and_only_those_of_who_goes_move() {
        let even = shares(&[(1, 4), (2, 4), (3, 4), (4, 4)]);
        assert!(even.values().all(|share| (20..=44).contains(share)), "{even:?}");
        let uneven = shares(&[(1, 12), (2, 4)]);
        assert!((84..=108).contains(&uneven[&1]), "{uneven:?}");
        assert_eq!(shares(&[(1, 4), (2, 0)]).get(&2), None);
        let best = |servers: &[u8], shard| {
            servers.iter().copied().min_by_key(|number| index(shard, &server(*number), 4)).unwrap()
        };
        for shard in Shard::all() {
            let before = best(&[1, 2, 3, 4], shard);
            assert!(before == 3 || best(&[1, 2, 4], shard) == before);
        }
    }

    #[test]
    fn clients_spread_over_the_shards() {
        let mut counts = [0_u32; 128];
        for number in 0..12_800_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            counts[usize::from(shard_of(Mac([0x52, 0x54, 0, a, b, c])).number())] += 1;
        }
        assert!(counts.iter().all(|count| (60..=140).contains(count)), "{counts:?}");
    }
}
