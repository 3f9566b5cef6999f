//! Two servers hold the same address: seen, and repaired.

use super::*;

/// Longer than from one announcement to the next: a duplicate is repaired in this time (`reliability.md`, I1).
const REPAIR: u64 = 35_000;

/// Two boot servers that cannot hear each other while they clear the same address; each has its MTFTP server.
fn apart(seed: u64) -> (Scenario, [usize; 2]) {
    let mut world = quiet(seed);
    let (binlds, mtftps) = furnish(&mut world, [NOW, at_ms(5000)], dynamic);
    cut(&mut world, binlds, mtftps);
    (world, binlds)
}

fn cut(world: &mut Scenario, binlds: [usize; 2], mtftps: [usize; 2]) {
    for (a, b) in [(0, 1), (1, 0)] {
        for from in [binlds[a], mtftps[a]] {
            for to in [binlds[b], mtftps[b]] {
                world.world.at(NOW, Fault::Cut(from, to));
            }
        }
    }
}

fn held(world: &Scenario, binlds: [usize; 2]) -> [bool; 2] {
    binlds.map(|binld| world.status(binld).claims.iter().any(|claim| claim.state == StateName::Held))
}

/// One that hands the address out: held, and nobody disputes it.
fn hands_out(world: &Scenario, binlds: [usize; 2]) -> [bool; 2] {
    binlds.map(|binld| {
        let claims = world.status(binld).claims;
        claims.iter().any(|claim| {
            claim.state == StateName::Held && claim.contested_by.iter().all(|(_, blocks)| !blocks)
        })
    })
}

#[test]
fn y4_two_that_committed_apart_settle_it_when_they_meet() {
    for seed in 0..20 {
        let (mut world, binlds) = apart(seed);
        world.run_ms(60_000);
        assert_eq!(held(&world, binlds), [true, true], "seed {seed}: both took it");
        world.world.at(world.world.now(), Fault::Heal);
        world.run_ms(REPAIR);
        // Both idle: the older stamp stays.
        assert_eq!(hands_out(&world, binlds), [true, false], "seed {seed}");
        assert_eq!(held(&world, binlds), [true, false], "seed {seed}");
        assert_eq!(world.counter(binlds[1], "conflict.yielded"), 1);
    }
}

#[test]
fn y4_the_loser_moves_to_the_next_address() {
    let mut world = quiet(1);
    let mtftps = [3, 4].map(|number| world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW));
    // The younger one has two addresses to choose from, the older one only that which the younger one tries first.
    let content = wire::Content { server: host(4), file: sim::scenario::name("f") };
    let first = sim::scenario::pool(1, 2).candidate(&content, 0).expect("an address");
    let last = first.ip().octets()[3];
    world.pool = (last, last);
    let older = world.binld(host(1), &[dynamic(1, host(3))], TRUE_CLOCK, NOW);
    world.pool = (1, 2);
    let binlds = [older, world.binld(host(2), &[dynamic(2, host(4))], TRUE_CLOCK, at_ms(5000))];
    cut(&mut world, binlds, mtftps);
    world.run_ms(60_000);
    assert_eq!(binlds.map(|binld| world.claim(binld).group), [Some(first); 2]);
    world.world.at(world.world.now(), Fault::Heal);
    world.run_ms(2 * REPAIR);
    assert_eq!(hands_out(&world, binlds), [true, true]);
    assert_ne!(world.claim(binlds[0]).group, world.claim(binlds[1]).group);
}

#[test]
fn y4_in_use_beats_the_older_stamp() {
    let mut world = quiet(1);
    // Each on the machine of its MTFTP server: a boot ROM is told an address only then.
    let nodes = [1, 2].map(|number| {
        let mtftp = world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW);
        let start_at = at_ms(500 * u64::from(number));
        (world.binld(host(number), &[dynamic(1, host(number))], TRUE_CLOCK, start_at), mtftp)
    });
    cut(&mut world, nodes.map(|(binld, _)| binld), nodes.map(|(_, mtftp)| mtftp));
    let client =
        world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Rom, 1, &[host(2)], vec![at_ms(20_000)]);
    world.run_ms(30_000);
    let (_, reply) = world.boots(client)[0].answered.clone().expect("an answer");
    assert!(reply.multicast.is_some());
    world.world.at(world.world.now(), Fault::Heal);
    world.run_ms(2 * REPAIR);
    assert_eq!(hands_out(&world, [nodes[0].0, nodes[1].0]), [false, true], "the younger one is in use");
}

#[test]
fn y4_of_three_that_meet_one_stays() {
    for seed in 0..10 {
        let mut world = quiet(seed);
        let binlds = [1, 2, 3].map(|number| {
            let mtftp = world.mtftp(host(10 + number), &["f"], TRUE_CLOCK, NOW);
            (world.binld(host(number), &[dynamic(1, host(10 + number))], TRUE_CLOCK, NOW), mtftp)
        });
        for (index, (binld, mtftp)) in binlds.iter().enumerate() {
            for (other, (their_binld, their_mtftp)) in binlds.iter().enumerate() {
                if index != other {
                    for from in [*binld, *mtftp] {
                        world.world.at(NOW, Fault::Cut(from, *their_binld));
                        world.world.at(NOW, Fault::Cut(from, *their_mtftp));
                    }
                }
            }
        }
        world.run_ms(60_000);
        world.world.at(world.world.now(), Fault::Heal);
        world.run_ms(2 * REPAIR);
        let handing = binlds.map(|(binld, _)| hands_out(&world, [binld, binld])[0]);
        assert_eq!(handing.iter().filter(|it| **it).count(), 1, "seed {seed}: {handing:?}");
    }
}

#[test]
fn g04_an_echo_after_the_deadline_is_a_late_conflict_and_is_repaired() {
    for seed in 0..20 {
        let mut world = quiet(seed);
        world.one_domain = false;
        let (binlds, _) = furnish(&mut world, [NOW, at_ms(LONG)], dynamic);
        // Whoever has to object answers too late: after the newcomer's window.
        world.drop_if(|now, passing| {
            let hold = passing.control().is_some_and(|envelope| matches!(envelope.message, Message::Hold(_)));
            now < at_ms(LONG + 4000) && (is_echo(passing) || hold)
        });
        world.run_ms(LONG);
        world.run_until_state(binlds[1], StateName::Held, LONG);
        assert_eq!(held(&world, binlds), [true, true], "seed {seed}");
        world.run_ms(REPAIR);
        assert_eq!(hands_out(&world, binlds), [true, false], "seed {seed}: the holder keeps it");
        assert_eq!(world.counter(binlds[0], "conflict.yielded"), 0);
    }
}

#[test]
fn y3_a_newcomer_with_the_greater_key_never_moves_a_held_claim() {
    let mut world = quiet(1);
    // The lesser key holds it.
    let (binlds, _) = furnish(&mut world, [NOW, at_ms(LONG)], dynamic);
    let client = |world: &mut Scenario| {
        let starts = (0..30).map(|turn| at_ms(LONG + 1000 * turn)).collect();
        world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Rom, 2, &[host(2)], starts)
    };
    client(&mut world);
    world.run_ms(2 * LONG);
    for _ in 0..100 {
        world.run_ms(500);
        assert_eq!(hands_out(&world, binlds), [true, false]);
    }
}

#[test]
fn y7_a_commit_gap_is_defended() {
    let mut world = quiet(1);
    // Its disk answers late: cleared, committed, not yet stored or configured. A newcomer asks meanwhile.
    let (binlds, _) = furnish(&mut world, [at_ms(3700), NOW], dynamic);
    world.run_ms(100);
    world.world.nodes[binlds[1]].busy_until = at_ms(12_000);
    world.run_until_state(binlds[1], StateName::Recording, LONG);
    world.run_ms(4000);
    assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Recording]);
    world.run_until_state(binlds[1], StateName::Held, LONG);
    assert_eq!(world.claim(binlds[0]).state, StateName::Waiting);
}

/// A legacy peer that came to an address which a boot server holds, because its one query was lost.
fn with_legacy(listed: bool) -> (Scenario, usize) {
    let mut world = quiet(1);
    if listed {
        world.legacy_peers.peers.insert(host(9));
    }
    world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binld = world.binld(host(1), &[dynamic(1, host(3))], TRUE_CLOCK, NOW);
    world.run_until_state(binld, StateName::Held, LONG);
    world.drop_if(|now, passing| now < at_ms(LONG + 2000) && is_query(passing));
    world.literal(host(9), &[1], at_ms(LONG));
    (world, binld)
}

#[test]
fn y5_a_listed_legacy_peer_that_defends_an_address_keeps_it() {
    let (mut world, binld) = with_legacy(true);
    world.run_ms(LONG + 2000 + 2 * REPAIR);
    assert_eq!(world.counter(binld, "conflict.yielded"), 1);
    assert!(world.status(binld).claims.iter().all(|claim| claim.state != StateName::Held));
}

#[test]
fn y5_one_that_is_not_listed_takes_nothing_and_is_told_of() {
    let (mut world, binld) = with_legacy(false);
    world.run_ms(LONG + 2000 + 4 * REPAIR);
    assert_eq!(world.claim(binld).state, StateName::Held);
    assert!(world.counter(binld, "conflict.mute") > 0);
    // It asks no more, so only its echoes show it.
    assert!(world.status(binld).legacy_peers.is_empty());
}

#[test]
fn y2_a_pending_claim_yields_to_a_legacy_peer_at_once() {
    let mut world = quiet(1);
    world.literal(host(9), &[1], NOW);
    world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binld = world.binld(host(1), &[dynamic(1, host(3))], TRUE_CLOCK, at_ms(LONG));
    world.run_ms(2 * LONG);
    assert_eq!(world.claim(binld).state, StateName::Waiting);
}

#[test]
fn t6b_a_clearing_outlasts_the_wait_of_a_legacy_peer() {
    for seed in 0..20 {
        let mut world = quiet(seed);
        world.legacy_peers.peers.insert(host(9));
        world.mtftp(host(1), &["f"], TRUE_CLOCK, NOW);
        let wants = Wants { preclear: false, ..dynamic(1, host(1)) };
        let binld = world.binld(host(1), &[wants], TRUE_CLOCK, NOW);
        // Its only query is lost; a moment later a client of ours asks, and it defends nothing until its second is over.
        world.drop_if(|_, passing| passing.from == 2 && is_query(passing));
        world.literal(host(9), &[1], at_ms(LONG));
        let address = Ipv4Addr::new(10, 0, 1, 1);
        world.client(address, ClientKind::Rom, 1, &[host(1)], vec![at_ms(LONG + 50)]);
        world.run_ms(2 * LONG);
        assert_eq!(world.claim(binld).state, StateName::Waiting, "seed {seed}");
        assert_eq!(world.world.checks.explained, 0);
    }
}
