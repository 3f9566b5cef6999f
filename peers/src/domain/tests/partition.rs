//! Members that are cut off, leave, die and come back: who notices, when, and what it is called.

use std::collections::BTreeSet;

use wire::record::{Age, Snum};

use super::*;
use crate::limits::{LOWEST_VERSION_MAX, UNREACHABLE_KEEP};
use crate::lowest::NOBODY;

/// Promised on a LAN (requirements.md, section 5).
const NOTICED: Duration = Duration::from_secs(17);
const HEALED: Duration = Duration::from_secs(5);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Members of one segment that have known each other for a while.
fn settled(seed: u64, count: u8) -> Net {
    let mut net = Net::with(seed, count);
    // Anywhere between two refreshes of a member record.
    net.run_for(secs(20) + Duration::from_millis(3700 * seed));
    assert!((0..usize::from(count)).all(|node| net.standing(node) == Standing::Joined));
    net
}

impl Net {
    fn standing(&self, node: usize) -> Standing {
        self.domain(node).standing(self.now)
    }

    fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].domain.is_some())
    }

    fn id(&self, node: usize) -> ServerId {
        self.domain(node).config.me
    }

    /// Who is unreachable as that one sees it.
    fn missing(&self, node: usize) -> BTreeSet<ServerId> {
        self.domain(node).unreachable().map(|it| it.server).collect()
    }

    /// Whether everybody goes by the lowest id of its side.
    fn goes_by_the_lowest(&self) -> bool {
        self.living().all(|node| {
            let side = self.living().filter(|other| self.sides[*other] == self.sides[node]);
            Some(self.domain(node).lowest().lowest) == side.map(|other| self.id(other)).min()
        })
    }

    /// Whether everybody misses all members of the other sides, and nobody else.
    fn misses_the_others(&self) -> bool {
        self.living().all(|node| {
            let others = self.living().filter(|other| self.sides[*other] != self.sides[node]);
            self.missing(node) == others.map(|other| self.id(other)).collect()
        })
    }

    fn is_whole(&self) -> bool {
        let joined = |node| self.standing(node) == Standing::Joined && self.missing(node).is_empty();
        self.living().all(joined) && self.goes_by_the_lowest()
    }

    fn until(&mut self, what: &str, most: Duration, is_so: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !is_so(self) {
            assert!(self.now.since(began) < most, "{what}: not within {most:?}");
            self.run_for(Duration::from_millis(10));
        }
        self.now.since(began)
    }

    fn told(&self, node: usize, is_it: impl Fn(&News) -> bool) -> usize {
        self.nodes[node].news.iter().filter(|(_, news)| is_it(news)).count()
    }
}

fn is_unreachable(news: &News) -> bool {
    matches!(news, News::Unreachable(_))
}

fn is_healed(news: &News) -> bool {
    matches!(news, News::Healed(_))
}

#[test]
fn every_member_of_both_sides_notices_a_partition_and_its_end() {
    for (count, loss_ppm, seeds) in [(8_u8, 0, 4), (8, 100_000, 4), (32, 0, 2), (32, 100_000, 3)] {
        let (mut noticed, mut healed) = (Duration::ZERO, Duration::ZERO);
        for seed in 0..seeds {
            let mut net = settled(seed, count);
            // Halves, or every other one.
            for node in 0..usize::from(count) {
                net.sides[node] =
                    u8::from(if seed % 2 == 0 { node * 2 >= count.into() } else { node % 2 == 1 });
            }
            let both = |net: &Net| net.goes_by_the_lowest() && net.misses_the_others();
            let cut_at = net.now;
            noticed = noticed.max(net.until("noticed", NOTICED, both));
            for node in 0..usize::from(count) {
                let Standing::Partitioned { members, since } = net.standing(node) else {
                    panic!("{:?}", net.standing(node));
                };
                assert_eq!(members, usize::from(count / 2));
                assert!(since < cut_at + DELAY * 2 && cut_at.since(since) < secs(1), "the last sign of life");
            }
            net.run_for(secs(7));
            net.sides.fill(0);
            net.loss_ppm = loss_ppm;
            healed = healed.max(net.until("healed", HEALED, Net::is_whole));
            for node in 0..usize::from(count) {
                assert_eq!(net.told(node, is_unreachable), usize::from(count / 2));
                assert_eq!(net.told(node, is_healed), 1);
            }
        }
        println!("{count} members, {} % lost: noticed {noticed:?}, healed {healed:?}", loss_ppm / 10_000);
    }
}

#[test]
fn a_newcomer_learns_the_lowest_id_with_the_lists() {
    for seed in 0..10 {
        let mut net = settled(seed, 6);
        let node = net.add(0, 9, &[]);
        assert_eq!(net.domain(node).lowest().lowest, net.id(node), "it knows nobody");
        // Sooner than anybody would notice that it goes by another one.
        net.until("learnt", Constants::LAN.cap, Net::goes_by_the_lowest);
    }
}

#[test]
fn one_that_hears_nobody_is_alone_and_names_whom_it_misses() {
    let mut net = settled(1, 8);
    net.sides[3] = 1;
    net.until("noticed", NOTICED, Net::misses_the_others);
    assert_eq!(net.standing(3), Standing::Alone);
    assert!(matches!(net.standing(0), Standing::Partitioned { members: 1, .. }));
    // Nobody is named for ever.
    net.run_for(UNREACHABLE_KEEP);
    assert_eq!((net.standing(0), net.missing(0).len()), (Standing::Joined, 0));
    assert_eq!(net.told(0, is_healed), 0, "it was not healed");
}

#[test]
fn who_leaves_is_never_missed_even_when_its_word_is_lost() {
    for seed in 0..30 {
        let mut net = settled(seed, 8);
        net.loss_ppm = 100_000;
        for node in 0..7 {
            if node == 6 {
                // Nobody is left who could tell the last one.
                net.loss_ppm = 0;
            }
            net.input(node, |domain, now| domain.on_stop(now));
            net.nodes[node].domain = None;
            net.run_for(secs(25));
            for other in net.living() {
                let missing = net.missing(other);
                assert!(missing.is_empty(), "seed {seed}: after {node} left, {other} misses {missing:?}");
            }
        }
        assert_eq!(net.standing(7), Standing::Alone);
        assert_eq!(net.domain(7).lowest().lowest, net.id(7));
        assert_eq!(net.told(7, is_unreachable), 0);
    }
}

#[test]
fn the_lowest_leaves_and_the_next_is_known_at_once() {
    for seed in 0..5 {
        let mut net = settled(seed, 8);
        net.input(0, |domain, now| domain.on_stop(now));
        net.nodes[0].domain = None;
        // Nobody waits for the record to expire.
        net.until("followed", Constants::LAN.cap * 2, Net::goes_by_the_lowest);
    }
}

#[test]
fn a_record_lost_between_links_goes_again() {
    let mut net = Net::new(7);
    net.add(0, 0, &[]);
    net.add(1, 0, &[control(0, 0)]);
    net.run_for(secs(20));
    assert!(net.is_whole());
    let version = |net: &Net, node| net.domain(node).lowest().version;
    let before = version(&net, 0);
    net.cuts = BTreeSet::from([(0, 1)]);
    net.until("refreshed", Constants::LAN.refresh, |net| version(net, 0) > before);
    assert_eq!(version(&net, 1), before);
    net.cuts.clear();
    net.until("sent again", secs(1), |net| version(net, 0) == version(net, 1));
}

#[test]
fn who_dies_is_missed_until_it_is_started_again() {
    let mut net = settled(2, 8);
    // Back in time, it is not missed at all.
    net.nodes[0].domain = None;
    net.run_for(secs(10));
    net.start(0, ServerId([1; 16]), 101, &[]);
    net.until("back", HEALED, Net::is_whole);
    assert!((1..8).all(|node| net.told(node, is_unreachable) == 0));
    net.nodes[0].domain = None;
    let gone = BTreeSet::from([ServerId([1; 16])]);
    net.until("noticed", NOTICED, |net| (1..8).all(|node| net.missing(node) == gone));
    net.run_for(secs(300));
    assert!(matches!(net.standing(1), Standing::Partitioned { members: 1, .. }));
    net.start(0, ServerId([1; 16]), 102, &[]);
    net.until("back", HEALED, Net::is_whole);
    assert!((1..8).all(|node| net.told(node, is_healed) == 1));
}

#[test]
fn a_way_cut_in_one_direction_flaps_nothing() {
    // Of the lowest to another, and of another to the lowest; both, in two pairs.
    for cuts in [vec![(0, 3)], vec![(3, 0)], vec![(0, 3), (5, 6)]] {
        let mut net = settled(3, 8);
        net.cuts = cuts.into_iter().collect();
        net.run_for(secs(300));
        for node in 0..8 {
            assert_eq!(net.told(node, is_unreachable), 0, "{:?}", net.nodes[node].news);
        }
        net.cuts.clear();
        net.until("whole", HEALED, Net::is_whole);
    }
}

#[test]
fn who_slept_blames_nobody() {
    let mut net = settled(4, 4);
    let mut sleeper = net.nodes[2].domain.take();
    net.run_for(secs(60));
    assert!(net.living().all(|node| net.missing(node).len() == 1));
    std::mem::swap(&mut net.nodes[2].domain, &mut sleeper);
    net.until("back", HEALED, Net::is_whole);
    assert_eq!(net.told(2, is_unreachable), 0);
}

#[test]
fn a_partition_between_links_shows_and_heals_by_the_contact() {
    let mut net = Net::new(5);
    (0..3).for_each(|number| _ = net.add(0, number, &[]));
    for number in 0..3 {
        let contacts = if number == 0 { &[control(0, 1)][..] } else { &[] };
        net.add(1, number, contacts);
    }
    net.run_for(secs(30));
    assert!(net.is_whole(), "the record crosses, and who is beyond the link is no stranger");
    let side = |node: usize| u8::from(node >= 3);
    net.sides = (0..6).map(side).collect();
    // Those that were never heard have the life of their member record.
    net.until("noticed", secs(u64::from(MEMBER_LIVES) + 2), |net| {
        net.goes_by_the_lowest() && net.misses_the_others()
    });
    net.sides.fill(0);
    net.until("healed", Constants::LAN.rest + HEALED, Net::is_whole);
    assert!((0..6).all(|node| net.told(node, is_healed) == 1));
}

/// Of the last version and the number of the lie: a version, and an id.
type Lie = fn(u32, u32) -> (u32, ServerId);

/// A member that speaks as it should but for the lowest-id records it makes up, one a second.
#[test]
fn hostile_records_are_bounded_and_the_rest_agrees() {
    let made_up: [Lie; 6] = [
        |_, _| (LOWEST_VERSION_MAX, NOBODY),
        |_, _| (u32::MAX, ServerId([0; 16])),
        |last, _| (last.saturating_add(1 << 24), NOBODY),
        |last, _| (last.saturating_add(1 << 24), ServerId([0; 16])),
        |last, round| (last + 1, ServerId([if round % 2 == 0 { 0 } else { 255 }; 16])),
        |last, _| (last.saturating_sub(3), ServerId([0; 16])),
    ];
    let runs =
        (0..3).flat_map(|seed| made_up.into_iter().enumerate().map(move |(kind, it)| (seed, kind, it)));
    for (seed, kind, make) in runs {
        let mut net = settled(seed, 8);
        let liar = 7;
        for round in 0..90 {
            let (counter, lowest) = make(net.domain(0).lowest().version, round);
            let snum = Snum { boot_epoch: BootEpoch(0), counter };
            let uid = net.domain(0).lowest.uid();
            let record = Record { uid, snum, age: Age(0), lives: 15, body: Body::Lowest(lowest) };
            let flood = Message::Flood(Flood { wants_ack: false, records: vec![record] });
            let before: Vec<u64> = net.nodes.iter().map(|it| it.sequence).collect();
            net.send(liar, GROUP, flood);
            net.put(usize::try_from(round % 7).unwrap(), u64::from(round));
            net.run_for(secs(1));
            let most = net.nodes.iter().zip(before).map(|(it, before)| it.sequence - before).max();
            assert!(most.unwrap() <= 12, "seed {seed}, kind {kind}: {most:?} datagrams in a second");
        }
        // What is said meanwhile arrives, and nobody is missed.
        net.until_agreed(HEALED);
        assert!((0..8).all(|node| net.claims(node) == 90 && net.told(node, is_unreachable) == 0));
        // And soon after the lies end the truth is told again.
        net.until("agreed", NOTICED + HEALED, Net::is_whole);
        // The last version ends with its life, and they begin anew.
        net.until("begun anew", NOTICED, |net| net.domain(0).lowest().version < LOWEST_VERSION_MAX);
        net.until("agreed again", HEALED, Net::is_whole);
    }
}
