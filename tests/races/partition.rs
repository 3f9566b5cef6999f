//! Boot servers that are cut off from each other, and meet again.

use std::collections::BTreeSet;

use binld::engine::status::Standing;
use wire::ServerId;

use super::*;

/// Promised on a LAN: how soon a partition is noticed, and its end.
const NOTICED: u64 = 17_000;
const HEALED: u64 = 5_000;

/// Four boot servers, each with an MTFTP server, that have known each other for a while.
fn four(seed: u64) -> (Scenario, [usize; 4], [usize; 4]) {
    let mut world = quiet(seed);
    world.pool = (1, 20);
    let mtftps = [11, 12, 13, 14].map(|number| world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW));
    let binlds = [1, 2, 3, 4]
        .map(|number| world.binld(host(number), &[dynamic(number, host(number + 10))], TRUE_CLOCK, NOW));
    world.run_ms(30_000 + 3_700 * seed);
    assert!(binlds.iter().all(|binld| world.status(*binld).standing == Standing::Joined));
    (world, binlds, mtftps)
}

/// Nothing of these reaches those, nor the other way.
fn part(world: &mut Scenario, these: &[usize], those: &[usize]) {
    let now = world.world.now();
    for (a, b) in these.iter().flat_map(|a| those.iter().map(move |b| (*a, *b))) {
        world.world.at(now, Fault::Cut(a, b));
        world.world.at(now, Fault::Cut(b, a));
    }
}

fn addresses(world: &Scenario, binld: usize) -> Vec<Ipv4Addr> {
    world.status(binld).unreachable.iter().map(|gone| *gone.control.ip()).collect()
}

fn lowest(world: &Scenario, binlds: &[usize]) -> BTreeSet<ServerId> {
    binlds.iter().map(|binld| world.status(*binld).lowest.lowest).collect()
}

#[test]
fn g05_a_partition_is_noticed_and_healed() {
    for seed in 0..5 {
        let (mut world, binlds, mtftps) = four(seed);
        let before = lowest(&world, &binlds);
        assert_eq!(before.len(), 1, "seed {seed}");
        let cut_at = world.world.now();
        part(&mut world, &[&binlds[..2], &mtftps[..2]].concat(), &[&binlds[2..], &mtftps[2..]].concat());
        world.run_ms(NOTICED);
        for (index, binld) in binlds.into_iter().enumerate() {
            let others = if index < 2 { [13, 14, 3, 4] } else { [11, 12, 1, 2] }.map(host);
            assert_eq!(addresses(&world, binld), others, "seed {seed}, host {index}");
            let standing = world.status(binld).standing;
            let Standing::Partitioned { members: 4, since } = standing else {
                panic!("seed {seed}, host {index}: {standing:?}");
            };
            let apart = since.since(cut_at).max(cut_at.since(since));
            assert!(apart < Duration::from_secs(1), "seed {seed}: {since:?}, cut at {cut_at:?}");
            assert_eq!(world.counter(binld, "domain.unreachable"), 4);
        }
        let sides = [lowest(&world, &binlds[..2]), lowest(&world, &binlds[2..])];
        assert!(sides.iter().all(|side| side.len() == 1) && sides[0] != sides[1], "seed {seed}: {sides:?}");
        world.run_ms(60_000);
        assert!(binlds.iter().all(|binld| world.status(*binld).unreachable.len() == 4));
        world.world.at(world.world.now(), Fault::Heal);
        world.run_ms(HEALED);
        for binld in binlds {
            let status = world.status(binld);
            assert_eq!((status.standing, status.unreachable.len()), (Standing::Joined, 0), "seed {seed}");
        }
        assert_eq!(lowest(&world, &binlds), before, "seed {seed}");
    }
}

#[test]
fn g05_a_way_cut_in_one_direction_is_no_partition() {
    let (mut world, binlds, mtftps) = four(1);
    let now = world.world.now();
    // Of the lowest id, of another one, and between boot servers and MTFTP servers.
    let between = [(binlds[2], mtftps[2]), (mtftps[3], binlds[3])];
    for (from, to) in [(binlds[0], binlds[1]), (binlds[2], binlds[3])].into_iter().chain(between) {
        world.world.at(now, Fault::Cut(from, to));
    }
    for _ in 0..120 {
        world.run_ms(1000);
        for binld in binlds {
            assert_eq!(addresses(&world, binld), [Ipv4Addr::UNSPECIFIED; 0]);
        }
    }
}

#[test]
fn g05_a_boot_server_that_dies_is_missed_until_it_starts_again() {
    let (mut world, binlds, _) = four(2);
    world.world.at(world.world.now(), Fault::Crash(binlds[0]));
    world.run_ms(NOTICED);
    for binld in &binlds[1..] {
        assert_eq!(addresses(&world, *binld), [host(1)]);
        assert!(matches!(world.status(*binld).standing, Standing::Partitioned { members: 1, .. }));
    }
    world.world.at(world.world.now(), Fault::Start(binlds[0]));
    world.run_ms(HEALED);
    for binld in binlds {
        assert_eq!(world.status(binld).standing, Standing::Joined);
    }
}

/// Its half does not hear the holder and nobody in it objects, but all know who has the tuple.
#[test]
fn g05_who_is_cut_off_does_not_take_what_it_knows_to_be_held() {
    for seed in 0..5 {
        let mut world = quiet(seed);
        let mtftps = [3, 4].map(|number| world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW));
        let holder = world.binld(host(1), &[pinned(1, host(3))], TRUE_CLOCK, NOW);
        let other = world.binld(host(2), &[], TRUE_CLOCK, NOW);
        world.run_until_state(holder, StateName::Held, LONG);
        world.run_ms(5000);
        part(&mut world, &[holder, mtftps[0]], &[other, mtftps[1]]);
        // Its MTFTP server knows it, too, and would say so: nothing is left but to listen.
        world.drop_if(|_, passing| {
            passing.control().is_some_and(|it| matches!(it.message, Message::ClearAnswer(_)))
        });
        let wants = sim::scenario::catalog(&[pinned(2, host(4))]);
        world.world.at(world.world.now() + Duration::from_secs(4), Fault::Reload(other, wants));
        world.run_ms(60_000);
        // It asked, to the end, and nobody objected.
        assert!(world.counter(other, "query.sent") > 3, "seed {seed}");
        assert_eq!(world.counter(other, "claim.committed"), 0, "seed {seed}");
        assert_eq!(world.world.checks.explained, 0, "seed {seed}");
        world.world.at(world.world.now(), Fault::Heal);
        world.run_ms(HEALED);
        assert_eq!(world.claim(holder).state, StateName::Held, "seed {seed}");
        assert_eq!(world.counter(other, "claim.committed"), 0, "seed {seed}");
    }
}
