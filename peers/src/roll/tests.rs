//! One machine against hostile records; small nets in which much goes wrong.

mod net;

use std::time::Duration;

use wire::record::{ROLL_MAX, RecordKind};

use super::*;
use crate::limits::{
    ROLL_FIRST_MAX, ROLL_GATHERINGS_MAX, ROLL_JUMP_MAX, ROLL_MEMBERS_MAX, ROLL_PENDING_MAX, ROLL_SETTLE,
};
use net::{Net, sample};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn id(number: u16) -> ServerId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ServerId(bytes)
}

fn list(version: u32, members: &[u16]) -> List {
    List::new(version, members.iter().map(|number| id(*number)).collect()).unwrap()
}

// --- nets -------------------------------------------------------------------------------------------------------

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
        for node in net.up() {
            if net.nodes[node].news.contains(&News::MayEnd) {
                net.crash(node);
            }
        }
    }
    struck
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
    }
    check_agreement(net, seed);
    struck.iter().for_each(|node| net.start(*node));
    net.run(secs(20));
    check_agreement(net, seed);
}

fn swarm(seeds: std::ops::Range<u64>) {
    let mut exceptions = 0;
    for seed in seeds {
        let mut net = Net::new(3, seed);
        net.run(secs(12));
        check_agreement(&net, seed);
        net.loss_ppm = [0, 50_000, 200_000, 400_000][usize::try_from(seed % 4).unwrap()];
        net.store_fails_ppm = [0, 100_000][usize::try_from(seed / 4 % 2).unwrap()];
        let struck = faults(&mut net, 60);
        repair(&mut net, seed, &struck);
        exceptions += usize::from(net.exceptions > 0);
    }
    println!("newcomers that began a list of their own: {exceptions}");
}

#[test]
fn never_do_two_own_one_address_and_in_the_end_all_agree_1() {
    swarm(0..100);
}

#[test]
fn never_do_two_own_one_address_and_in_the_end_all_agree_2() {
    swarm(100..200);
}
