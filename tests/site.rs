//! Neighbours beyond the link, in the simulator: a site of segments, its faults, and what holds after them (R004.17,
//! R004.28–R004.33).

use std::time::Duration;

use peers::limits::{DIAMETER_MAX, LINKS_MAX};
use peers::lowest::Constants;
use sim::site::churn::Churn;
use sim::site::faults::{Faced, face_many};
use sim::site::{Site, Ways, address};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn sixty_four_members_on_eight_segments_find_each_other() {
    for seed in 0..2 {
        let mut site = Site::grown(seed, (8, 8), Ways::LAN, Constants::LAN);
        let took = site.until(secs(30), |site| site.graph().is_connected() && site.agrees());
        println!(
            "seed {seed}: connected and of one mind after {took:?}; diameter {}",
            site.graph().diameter()
        );
        assert!(took.is_some());
        site.run_for(secs(60));
        let graph = site.graph();
        let (least, most) = site.neighbours();
        println!("  a minute later: diameter {}, {least} to {most} neighbours", graph.diameter());
        println!("  {:?}", site.counters);
        assert!(graph.is_connected() && graph.diameter() <= DIAMETER_MAX && most <= LINKS_MAX);
    }
}

/// The source's index (R004.29) finds the links over which news seldom comes first, and those then cost no copies.
#[test]
fn useless_copies_become_few_as_neighbours_are_judged() {
    let mut site = Site::grown(1, (8, 8), Ways::LAN, Constants::LAN);
    let before = site.share_of_useless(secs(10));
    site.run_for(secs(120));
    let after = site.share_of_useless(secs(60));
    println!("useless copies for each useful one: {before:.1}, then {after:.1}");
    assert!(before > 4.0 && after < before / 2.0);
    let is_good = |site: &Site| site.agrees() && site.graph().diameter() <= DIAMETER_MAX;
    assert!(site.until(secs(10), is_good).is_some(), "{}", site.graph().diameter());
}

#[track_caller]
fn faced(seeds: u64, ways: Ways, constants: Constants, most: Duration) -> Faced {
    let (all, wrong) = face_many(seeds, ways, constants, most);
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(all.departures > 0 && all.cuts > 0);
    all
}

#[test]
fn a_site_stays_one_whoever_leaves_and_is_one_again_after_a_cut() {
    println!("{:?}", faced(20, Ways::LAN, Constants::LAN, secs(5)));
}

#[test]
fn so_does_one_that_is_spread_over_a_wide_area() {
    println!("{:?}", faced(10, Ways::WAN, Constants::WAN, secs(20)));
}

/// There is not room for two neighbours each: nobody makes and drops links all the time for that.
#[test]
fn a_large_segment_beside_a_small_one_is_at_rest() {
    for (large, small) in [(5, 1), (12, 2), (40, 1)] {
        let mut site = Site::new(1, Ways::LAN, Constants::LAN);
        for number in 0..large {
            site.add(0, number, &[]);
        }
        for number in 0..small {
            site.add(1, number, &[address(0, 0)]);
        }
        (0..usize::from(large + small)).for_each(|host| site.start(host));
        let whole = |site: &Site| site.graph().is_connected() && site.agrees();
        assert!(site.until(secs(20), whole).is_some(), "{large} and {small}");
        site.run_for(secs(60));
        let churn = |site: &Site| {
            ["let_go", "refused", "connect"].map(|what| site.counters.get("domain", what)).iter().sum::<u64>()
        };
        let before = churn(&site);
        site.run_for(secs(600));
        let made = churn(&site) - before;
        println!("{large} and {small}: {made} in 10 min, {:?} neighbours", site.neighbours());
        assert!(made <= 20, "{large} and {small}: {made}");
        assert!(site.until(secs(5), whole).is_some());
    }
}

/// It had a neighbour, forgets everything, and comes back under another name at the same address.
#[test]
fn a_member_that_was_set_up_anew_is_left_alone() {
    let mut site = Site::new(1, Ways::LAN, Constants::LAN);
    for number in 0..12 {
        site.add(0, number, &[]);
        site.add(1, number, &[address(0, 0)]);
    }
    (0..24).for_each(|host| site.start(host));
    site.run_for(secs(30));
    let hub = (0..24).step_by(2).find(|host| site.neighbours_of(*host) > 0);
    let hub = hub.expect("somebody of the first segment has a neighbour");
    site.crash(hub);
    site.rename(hub);
    site.start(hub);
    // Its old name has vanished by now, and is remembered for an hour.
    site.run_for(secs(120));
    let before = site.counters.get("domain", "connect");
    site.run_for(secs(300));
    let asked = site.counters.get("domain", "connect") - before;
    assert!(asked <= 20, "{asked}");
    assert!(site.until(secs(5), |site| site.graph().is_connected() && site.agrees()).is_some());
}

/// Members come and go all the time, ways are cut, one copy in a thousand is lost (wide area: five).
#[test]
fn what_is_said_is_soon_known_to_all_while_members_come_and_go() {
    let churn = Churn { shape: (8, 8), rounds: 40, known: secs(5), rejoined: secs(5) };
    for seed in 0..2 {
        let seen = churn.play(seed, Ways::LAN, Constants::LAN);
        println!("{seen:?}");
        assert!(seen.is_ok_and(|it| it.cuts == 4 && it.changes > 20 && it.known > 60));
    }
}

#[test]
fn the_same_over_a_wide_area() {
    let churn = Churn { shape: (8, 8), rounds: 20, known: secs(20), rejoined: secs(20) };
    let seen = churn.play(0, Ways::WAN, Constants::WAN);
    println!("{seen:?}");
    assert!(seen.is_ok_and(|it| it.cuts == 2 && it.changes > 10 && it.known > 30));
}
