//! The pinned tuple is a pool of one.

use super::*;

#[test]
fn pinned_one_holds_and_the_clients_of_the_other_get_plain_tftp() {
    let (mut world, binlds, _) = two(1, Rules::Ours, pinned);
    let clients = [1, 2].map(|number| {
        let address = Ipv4Addr::new(10, 0, 1, number);
        world.client(address, ClientKind::Ipxe, u16::from(number), &[host(number)], vec![at_ms(LONG)])
    });
    world.run_ms(2 * LONG);
    assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Held]);
    let uris = clients.map(|client| {
        let (_, reply) = world.boots(client)[0].answered.clone().expect("an answer");
        reply.uri.expect("a URI")
    });
    assert_eq!(uris, ["tftp://10.0.0.3/f", "mtftp://10.0.0.4:1759/f"]);
    assert_eq!(world.claim(binlds[1]).group, GroupAddr::new(PINNED));
}

#[test]
fn pinned_a_refused_claimant_gets_the_tuple_when_it_is_free() {
    let (mut world, binlds, mtftps) = two(1, Rules::Ours, pinned);
    world.run_until_state(binlds[1], StateName::Held, LONG);
    // Holder and MTFTP server vanish for good; the waiter's clients keep asking.
    let now = world.world.now();
    world.world.at(now, Fault::Crash(binlds[1]));
    world.world.at(now, Fault::Crash(mtftps[1]));
    let starts = (0..20).map(|turn| now + Duration::from_secs(10 * turn)).collect();
    world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Ipxe, 1, &[host(1)], starts);
    world.run_until_state(binlds[0], StateName::Held, 60_000);
}

#[test]
fn p3_a_draining_address_is_deleted_when_its_last_client_has_had_its_time() {
    let mut world = quiet(1);
    world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binld = world.binld(host(1), &[pinned(1, host(3))], TRUE_CLOCK, NOW);
    world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Ipxe, 1, &[host(1)], vec![at_ms(LONG)]);
    world.run_ms(2 * LONG);
    world.world.at(at_ms(2 * LONG), Fault::Reload(binld, sim::scenario::catalog(&[])));
    world.run_ms(LONG + 119_000 - 2 * LONG);
    assert_eq!(world.claim(binld).state, StateName::Draining);
    world.run_ms(2000);
    assert!(world.status(binld).claims.is_empty());
    assert_eq!(world.status(binld).rests.len(), 1);
}

/// Boot servers with a content each for the pinned tuple, and a client each that asks every 20 s for so long.
fn room(world: &mut Scenario, count: u8, seconds: u64) -> Vec<usize> {
    (1..=count)
        .map(|number| {
            world.mtftp(host(10 + number), &["f"], TRUE_CLOCK, NOW);
            let wants = Wants::pinned(1, "f", &[host(10 + number)]);
            let binld = world.binld(host(number), &[wants], TRUE_CLOCK, NOW);
            let starts =
                (1..seconds / 20).map(|turn| at_ms(20_000 * turn + 300 * u64::from(number))).collect();
            let address = Ipv4Addr::new(10, 0, 1, number);
            world.client(address, ClientKind::Ipxe, 1, &[host(number)], starts);
            binld
        })
        .collect()
}

fn holds(world: &Scenario, binld: usize) -> bool {
    world.status(binld).claims.first().is_some_and(|claim| claim.state == StateName::Held)
}

#[test]
fn p2_p4_of_four_contents_that_want_the_tuple_each_gets_its_turn() {
    const SECONDS: u64 = 4200;
    for seed in 0..2 {
        let mut world = quiet(seed);
        let binlds = room(&mut world, 4, SECONDS);
        let mut turns: Vec<usize> = Vec::new();
        for _ in 0..SECONDS {
            world.run_ms(1000);
            let holders: Vec<usize> = binlds.iter().copied().filter(|binld| holds(&world, *binld)).collect();
            assert!(holders.len() <= 1, "seed {seed}: {holders:?}");
            if let Some(holder) = holders.first()
                && turns.last() != Some(holder)
            {
                turns.push(*holder);
            }
        }
        let mut first = turns[..4].to_vec();
        first.sort_unstable();
        assert_eq!(first, binlds, "seed {seed}: one after the other, nobody twice before all: {turns:?}");
    }
}

#[test]
fn p2_an_idle_holder_goes_when_somebody_waits_and_a_busy_one_stays_for_its_tenure() {
    for busy in [false, true] {
        let mut world = quiet(1);
        let (binlds, _) = furnish(&mut world, [at_ms(LONG), NOW], pinned);
        let mut ask = |number: u8, from: u64| {
            let starts = (0..60).map(|turn| at_ms(from + 10_000 * turn)).collect();
            let address = Ipv4Addr::new(10, 0, 1, number);
            world.client(address, ClientKind::Ipxe, u16::from(number), &[host(number)], starts);
        };
        ask(1, 2 * LONG);
        if busy {
            ask(2, 2 * LONG);
        }
        world.run_ms(250_000);
        let now = states(&world, binlds);
        if busy {
            assert_eq!(now, [StateName::Waiting, StateName::Held]);
        } else {
            assert_eq!(now[0], StateName::Held, "the idle one left");
        }
    }
}

#[test]
fn p2_a_holder_that_nobody_waits_for_stays() {
    let (mut world, binlds, _) = two(1, Rules::Ours, pinned);
    world.run_ms(3_600_000);
    assert_eq!(states(&world, binlds)[1], StateName::Held, "refused once at start, the other asks no more");
}

#[test]
fn p2_two_contents_of_one_server_take_turns_too() {
    let mut world = quiet(1);
    world.mtftp(host(3), &["f", "g"], TRUE_CLOCK, NOW);
    let wants = [Wants::pinned(1, "f", &[host(3)]), Wants::pinned(2, "g", &[host(3)])];
    let binld = world.binld(host(1), &wants, TRUE_CLOCK, NOW);
    for number in [1, 2] {
        let starts = (1..100).map(|turn| at_ms(20_000 * turn)).collect();
        let address = Ipv4Addr::new(10, 0, 1, number);
        world.client(address, ClientKind::Ipxe, u16::from(number), &[host(1)], starts);
    }
    let mut held = [false; 2];
    for _ in 0..1600 {
        world.run_ms(1000);
        for claim in world.status(binld).claims.iter().filter(|claim| claim.state == StateName::Held) {
            held[usize::from(claim.content.file == sim::scenario::name("g"))] = true;
        }
    }
    assert_eq!(held, [true, true]);
}
