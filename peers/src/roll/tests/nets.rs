//! Small nets in which much goes wrong.

use std::time::Duration;

use wire::{GroupAddr, ServerId};

use super::net::{self, Net, sample};
use crate::roll::{List, News, Roll, Slice, Stored};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All that run have one list, of just those that run, and every address is in one slice.
fn check_agreement(net: &Net, seed: u64) {
    let up = net.up();
    let is_agreed = |index: &usize| net.roll(*index).held().pending.is_empty();
    assert!(up.iter().all(is_agreed), "seed {seed}: {}", net.show());
    let mut ids: Vec<ServerId> = up.iter().map(|index| net.nodes[*index].id).collect();
    ids.sort();
    for index in &up {
        let held = net.roll(*index).held();
        assert_eq!(held.current.as_ref().map(List::members), Some(&ids[..]), "seed {seed}: {}", net.show());
    }
    for group in sample() {
        let owners = up.iter().filter(|index| net.roll(**index).slice(group) == Slice::Ours);
        assert_eq!(owners.count(), 1, "seed {seed}: {group}");
    }
}

/// Until all agree; the time it took.
fn settle(net: &mut Net, seed: u64, span: Duration) {
    net.run(span);
    check_agreement(net, seed);
}

#[test]
fn servers_that_start_together_agree_and_share_the_pool() {
    for seed in 0..20 {
        let mut net = Net::new(5, seed);
        settle(&mut net, seed, secs(12));
        assert_eq!(net.exceptions, 0);
        net.join(0);
        settle(&mut net, seed, secs(8));
    }
}

/// Faults, one a second; the operator keeps to the contract of [`Roll::strike_off`].
fn faults(net: &mut Net, seconds: u64) -> Vec<usize> {
    let mut struck = Vec::new();
    for _ in 0..seconds {
        let fault = net.draw.below(10);
        let node = usize::try_from(net.draw.below(net.nodes.len() as u64)).unwrap();
        let is_up = net.nodes[node].roll.is_some();
        let helper = net.up().into_iter().find(|other| *other != node);
        match (fault, helper) {
            (0, _) if is_up => net.crash(node),
            (1..=3, _) if !is_up && !struck.contains(&node) => net.start(node),
            (4, _) if net.nodes.len() < 7 => {
                let side = usize::try_from(net.draw.below(2)).unwrap();
                let _ = net.join(side);
            }
            (5, _) => {
                for node in 0..net.nodes.len() {
                    net.nodes[node].side = usize::try_from(net.draw.below(2)).unwrap();
                }
            }
            (6, _) => net.nodes.iter_mut().for_each(|node| node.side = 0),
            (7, _) if is_up && net.draw.chance(300_000) => net.act(node, Roll::leave),
            (8, Some(helper)) if !is_up && net.draw.chance(300_000) => {
                let id = net.nodes[node].id;
                if net.act(helper, |roll, now| roll.strike_off(now, id)) {
                    struck.push(node);
                }
            }
            _ => {}
        }
        let millis = 300 + net.draw.below(1500);
        net.run(Duration::from_millis(millis));
        end(net);
    }
    struck
}

/// Those that left end.
fn end(net: &mut Net) -> Vec<usize> {
    let ends = |node: &usize| net.nodes[*node].news.contains(&News::MayEnd);
    let ending: Vec<usize> = net.up().into_iter().filter(ends).collect();
    ending.iter().for_each(|node| net.crash(*node));
    ending
}

/// Everything is repaired, and the operator strikes off what does not run.
fn repair(net: &mut Net, seed: u64, struck: &[usize]) {
    (net.loss_ppm, net.store_fails_ppm) = (0, 0);
    net.nodes.iter_mut().for_each(|node| node.side = 0);
    for node in 0..net.nodes.len() {
        if net.nodes[node].roll.is_none() && !struck.contains(&node) {
            net.start(node);
        }
    }
    net.run(secs(20));
    for _ in 0..2 {
        for node in net.up() {
            for dead in struck {
                let id = net.nodes[*dead].id;
                net.act(node, |roll, now| roll.strike_off(now, id));
            }
        }
        net.run(secs(20));
        let ended = end(net);
        net.run(secs(5));
        ended.into_iter().for_each(|node| net.start(node));
        net.run(secs(10));
    }
    check_agreement(net, seed);
    struck.iter().for_each(|node| net.start(*node));
    net.run(secs(20));
    check_agreement(net, seed);
}

fn swarm(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut net = Net::new(3, seed);
        net.run(secs(12));
        check_agreement(&net, seed);
        net.loss_ppm = [0, 50_000, 200_000, 400_000][usize::try_from(seed % 4).unwrap()];
        net.store_fails_ppm = [0, 100_000][usize::try_from(seed / 4 % 2).unwrap()];
        let struck = faults(&mut net, 60);
        repair(&mut net, seed, &struck);
        assert!(net.counted.is_empty(), "seed {seed}: an honest record was dropped: {:?}", net.counted);
    }
}

#[test]
fn never_do_two_own_one_address_and_in_the_end_all_agree_1() {
    swarm(0..15);
}

#[test]
fn never_do_two_own_one_address_and_in_the_end_all_agree_2() {
    swarm(100..115);
}

// --- one thing each ---------------------------------------------------------------------------------------------

fn ours(net: &Net, node: usize) -> Vec<GroupAddr> {
    sample().filter(|group| net.roll(node).slice(*group) == Slice::Ours).collect()
}

/// The only case in which two own one address: lists begun apart, until each has heard of the other's.
#[test]
fn halves_that_begin_apart_share_nothing_until_they_meet() {
    let mut net = Net::new(4, 1);
    for node in 0..4 {
        net.nodes[node].side = node / 2;
    }
    net.run(secs(12));
    let owned = |net: &Net| (0..4).map(|node| ours(net, node).len()).sum::<usize>();
    assert_eq!(owned(&net), 2 * net::SAMPLE, "each half has the whole pool");
    assert!(net.exceptions > 0);
    net.nodes.iter_mut().for_each(|node| node.side = 0);
    net.run(Duration::from_millis(1500));
    assert_eq!(owned(&net), net::SAMPLE, "the greater list counts until there is a union");
    net.run(secs(5));
    net.exceptions = 0;
    assert!(owned(&net) <= net::SAMPLE);
    settle(&mut net, 1, secs(8));
    assert_eq!(net.exceptions, 0, "never again");
    // Cut again, they keep to what was agreed.
    for node in 0..4 {
        net.nodes[node].side = node % 2;
    }
    net.run(secs(30));
    assert_eq!((owned(&net), net.exceptions), (net::SAMPLE, 0));
}

#[test]
fn a_dead_member_keeps_its_slice_and_nobody_from_its_own() {
    let mut net = Net::new(3, 2);
    settle(&mut net, 2, secs(12));
    let before: Vec<Vec<GroupAddr>> = (0..3).map(|node| ours(&net, node)).collect();
    let dead = net.nodes[2].id;
    net.crash(2);
    let new = net.join(0);
    net.run(secs(120));
    let of_dead = &before[2];
    for node in [0, 1, new] {
        let held = net.roll(node).held();
        assert_eq!(held.pending.len(), 1, "the newcomer waits for the dead one: {held:?}");
        for group in of_dead {
            assert!([Slice::Of(dead), Slice::Moving].contains(&net.roll(node).slice(*group)));
        }
    }
    // What goes to the newcomer is nobody's; all the rest stays in use.
    let id = net.nodes[new].id;
    assert_eq!(ours(&net, new), []);
    for node in [0, 1] {
        let list = net.roll(node).held().pending[0].clone();
        let kept: Vec<GroupAddr> =
            before[node].iter().copied().filter(|group| list.owner(*group) != Some(id)).collect();
        assert!(kept.len() > net::SAMPLE / 8);
        assert_eq!(ours(&net, node), kept);
    }
    // It comes back, and all goes on.
    net.start(2);
    settle(&mut net, 2, secs(12));
}

#[test]
fn who_leaves_for_good_gives_its_slice_to_the_others_at_once() {
    for seed in 0..10 {
        let mut net = Net::new(4, seed);
        settle(&mut net, seed, secs(12));
        net.act(1, Roll::leave);
        assert_eq!(ours(&net, 1), [], "before anybody hears of it");
        net.run(secs(4));
        assert!(net.nodes[1].news.contains(&News::MayEnd));
        net.crash(1);
        settle(&mut net, seed, secs(5));
        // It comes back as a newcomer.
        net.start(1);
        net.run(secs(1));
        assert_eq!(ours(&net, 1), []);
        settle(&mut net, seed, secs(12));
    }
}

#[test]
fn the_last_one_that_leaves_forgets_all() {
    let mut net = Net::new(1, 3);
    settle(&mut net, 3, secs(12));
    net.act(0, Roll::leave);
    net.run(secs(1));
    assert_eq!(net.nodes[0].disk, Stored::default());
    assert_eq!(ours(&net, 0), []);
    net.crash(0);
    net.start(0);
    settle(&mut net, 3, secs(12));
}

#[test]
fn an_operator_strikes_off_the_dead_and_the_living() {
    for seed in 0..10 {
        let mut net = Net::new(4, seed);
        settle(&mut net, seed, secs(12));
        let (dead, lives) = (net.nodes[2].id, net.nodes[1].id);
        net.crash(2);
        net.run(secs(10));
        assert!(!net.act(0, |roll, now| roll.strike_off(now, ServerId([9; 16]))), "no member");
        let me = net.nodes[0].id;
        assert!(!net.act(0, |roll, now| roll.strike_off(now, me)), "not ourselves");
        assert!(net.act(0, |roll, now| roll.strike_off(now, dead)));
        settle(&mut net, seed, secs(6));
        // One that lives is told so, and put in again.
        assert!(net.act(0, |roll, now| roll.strike_off(now, lives)));
        net.run(secs(2));
        assert!(net.nodes[1].news.contains(&News::LeftOut), "seed {seed}: {}", net.show());
        settle(&mut net, seed, secs(10));
        // And so is the dead one when it comes back.
        net.start(2);
        settle(&mut net, seed, secs(12));
        assert!(net.nodes[2].news.contains(&News::LeftOut));
        assert_eq!(net.exceptions, 0);
    }
}

#[test]
fn after_a_power_cut_all_go_on_with_what_they_had() {
    let mut net = Net::new(4, 5);
    settle(&mut net, 5, secs(12));
    let before: Vec<Vec<GroupAddr>> = (0..4).map(|node| ours(&net, node)).collect();
    (0..4).for_each(|node| net.crash(node));
    (0..4).for_each(|node| net.start(node));
    assert_eq!(ours(&net, 0), [], "nothing is ours before we know what the others know");
    net.run(secs(4));
    for (node, before) in before.iter().enumerate() {
        assert_eq!(ours(&net, node), *before);
        assert_eq!(net.roll(node).version(), net.roll(0).version(), "nothing had to be agreed upon");
        assert_eq!(net.nodes[node].news, []);
    }
    // One that starts where it hears nobody goes on as well.
    net.crash(0);
    net.nodes[0].side = 1;
    net.start(0);
    net.run(secs(4));
    assert_eq!(ours(&net, 0), before[0]);
}
