//! Who gets an address that several want.

use super::*;

#[test]
fn g01_two_servers_ask_for_the_same_address_at_the_same_time() {
    for seed in 0..50 {
        let (mut world, binlds, _) = two(seed, Rules::Ours, dynamic);
        world.run_ms(LONG);
        // The greater key wins: the content on the greater server.
        assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Held], "seed {seed}");
        assert_eq!(world.claim(binlds[1]).group, Some(group(1)));
        assert_eq!(world.world.checks.explained, 0);
    }
}

#[test]
fn g01_with_room_in_the_pool_the_loser_moves_on() {
    for seed in 0..50 {
        let mut world = quiet(seed);
        world.pool = (1, 2);
        let (binlds, _) = furnish(&mut world, [NOW, NOW], dynamic);
        world.run_ms(LONG);
        assert_eq!(states(&world, binlds), [StateName::Held, StateName::Held], "seed {seed}");
        assert_ne!(world.claim(binlds[0]).group, world.claim(binlds[1]).group);
    }
}

#[test]
fn g01_without_the_tie_break_the_simulator_reports_the_duplicate() {
    let broken = (0..50).filter(|seed| {
        let (mut world, _, _) = two(*seed, Rules::SeedLiteral, dynamic);
        let result = world.world.run_for(Duration::from_millis(LONG));
        result.is_err_and(|violation| violation.rule == "I1")
    });
    // Both start within 20 ms of each other: whoever is ahead is still asking when the other one asks.
    assert_eq!(broken.count(), 50);
}

#[test]
fn g02_all_queries_lost_is_a_duplicate_that_is_explained_and_repaired() {
    let (mut world, binlds, _) = two(1, Rules::Ours, dynamic);
    world.drop_if(|now, passing| now < at_ms(5000) && is_query(passing));
    world.run_until_state(binlds[0], StateName::Held, LONG);
    world.run_ms(50);
    assert_eq!(states(&world, binlds), [StateName::Held, StateName::Held]);
    assert_eq!(world.world.checks.explained, 1);
    // The first announcement that arrives is echoed; the younger claim goes.
    world.run_ms(8000);
    let held = binlds.map(|binld| world.claim(binld).state == StateName::Held);
    assert_eq!(held.iter().filter(|held| **held).count(), 1, "{held:?}");
}

#[test]
fn g03_one_echo_of_twelve_prevents_the_duplicate() {
    for spared in 0..6 {
        let mut world = quiet(spared);
        // The lesser one starts late, and asks six times for what the other one holds.
        let (binlds, _) = furnish(&mut world, [at_ms(LONG), NOW], dynamic);
        let mut count = 0;
        world.drop_if(move |_, passing| {
            let echo = is_echo(passing);
            count += u64::from(echo);
            let statement =
                passing.control().is_some_and(|envelope| matches!(envelope.message, Message::Hold(_)));
            // Both the holder and its MTFTP server echo each query.
            statement || (echo && count != 2 * spared + 1)
        });
        world.run_ms(2 * LONG);
        assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Held], "echo {spared} spared");
    }
}

#[test]
fn g08_echoes_of_nothing_take_nothing() {
    let (mut world, binlds, _) = two(3, Rules::Ours, dynamic);
    world.run_until_state(binlds[1], StateName::Held, LONG);
    world.run_ms(120_000);
    assert_eq!(world.claim(binlds[1]).state, StateName::Held);
    // Every announcement of its own came back by multicast loop.
    assert!(world.counter(binlds[1], "query.own") > 6);
}

#[test]
fn g09_the_same_content_is_no_conflict() {
    let mut world = quiet(1);
    let mtftp = world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binlds = [1, 2].map(|number| world.binld(host(number), &[dynamic(1, host(3))], TRUE_CLOCK, NOW));
    world.run_ms(LONG);
    assert_eq!(states(&world, binlds), [StateName::Held, StateName::Held]);
    assert_eq!(binlds.map(|binld| world.claim(binld).group), [Some(group(1)); 2]);
    let host = world.world.nodes[mtftp].program::<sim::mtftp_host::MtftpHost>();
    let status = host.and_then(sim::mtftp_host::MtftpHost::status).expect("it lives");
    assert_eq!(status.claims[0].references.len(), 2, "each boot server has its own reference");
}

/// Share first: who comes later uses the address that is there, and clears nothing.
#[test]
fn g09_a_claim_of_another_member_is_shared() {
    for wants in [dynamic, pinned] {
        let mut world = quiet(1);
        let mtftp = world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
        let first = world.binld(host(1), &[wants(1, host(3))], TRUE_CLOCK, NOW);
        world.run_until_state(first, StateName::Held, LONG);
        let second = world.binld(host(2), &[], TRUE_CLOCK, world.world.now());
        world.run_ms(2_000);
        let catalog = sim::scenario::catalog(&[wants(1, host(3))]);
        world.world.at(world.world.now(), Fault::Reload(second, catalog));
        // A reading of the file's size, a write and a configure.
        world.run_until_state(second, StateName::Held, 500);
        assert_eq!(world.claim(second).group, world.claim(first).group);
        assert_eq!(
            (world.counter(second, "claim.shared"), world.counter(second, "clearing.started")),
            (1, 0)
        );
        let status =
            world.world.nodes[mtftp].program::<sim::mtftp_host::MtftpHost>().and_then(|it| it.status());
        assert_eq!(status.expect("it lives").claims[0].references.len(), 2);
        // The maker goes for good; its sharer goes on.
        world.world.at(world.world.now(), Fault::Crash(first));
        world.run_ms(200_000);
        assert_eq!(world.claim(second).state, StateName::Held);
    }
}

#[test]
fn g16_in_use_at_the_mtftp_server_counts_like_an_echo() {
    let mut world = quiet(1);
    // Nobody tells the second one.
    world.one_domain = false;
    world.mtftp(host(3), &["f", "g"], TRUE_CLOCK, NOW);
    let first = world.binld(host(1), &[Wants::dynamic(1, "f", &[host(3)])], TRUE_CLOCK, NOW);
    world.run_until_state(first, StateName::Held, LONG);
    world.drop_if(|_, passing| is_echo(passing) || is_query(passing));
    let second = world.binld(host(2), &[Wants::dynamic(2, "g", &[host(3)])], TRUE_CLOCK, world.world.now());
    world.run_ms(LONG);
    assert_eq!(states(&world, [first, second]), [StateName::Held, StateName::Waiting]);
    assert!(world.counter(second, "clearing.contested") >= 1);
}

#[test]
fn g06_what_was_left_by_a_claimant_that_died_is_free_again_after_5_s() {
    let (mut world, binlds, _) = two(1, Rules::Ours, dynamic);
    // The greater key makes the other one yield, and dies before it has committed anything.
    world.run_ms(1000);
    assert_eq!(world.status(binlds[0]).marks.len(), 1);
    world.world.at(world.world.now(), Fault::Crash(binlds[1]));
    world.run_ms(5000);
    assert_eq!(world.status(binlds[0]).marks, []);
    world.run_until_state(binlds[0], StateName::Held, 60_000);
}

#[test]
fn g18_a_mark_that_was_confirmed_ends_too() {
    let mut world = quiet(1);
    let (binlds, mtftps) = furnish(&mut world, [at_ms(LONG), NOW], dynamic);
    world.run_ms(2 * LONG);
    assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Held]);
    let (_, left) = world.status(binlds[0]).marks[0];
    assert!(left > Duration::from_secs(280), "a statement confirmed it: {left:?}");
    // The holder vanishes for good, and all that would defend the address with it.
    for node in [binlds[1], mtftps[1]] {
        world.world.at(world.world.now(), Fault::Crash(node));
    }
    world.run_ms(330_000);
    assert_eq!(world.status(binlds[0]).marks, []);
    // Nobody can tell a dead one from one that is cut off and uses it: an operator can.
    assert_eq!(world.claim(binlds[0]).state, StateName::Waiting);
    let gone = slices::id(binlds[1]);
    slices::order(&mut world, binlds[0], |engine, now| engine.strike_off(now, gone)).expect("it is dead");
    // Then it rests.
    world.run_until_state(binlds[0], StateName::Held, 400_000);
}

#[test]
fn g21_addresses_that_share_an_ethernet_address_are_not_picked_together() {
    use binld::engine::claims::{ClaimTable, Rest};
    use wire::{Content, ServerId, Stamp};
    let address = |text: &str| text.parse::<GroupAddr>().expect("a group address");
    let content = Content { server: host(3), file: sim::scenario::name("f") };
    let other = Content { server: host(4), ..content.clone() };
    let mut table = ClaimTable::default();
    let stamp = Stamp { millis: 1, sender: ServerId([1; 16]) };
    let rest = Rest { content: content.clone(), stamp, until: NOW };
    table.put_rest(address("239.1.0.5"), rest);
    // 32 group addresses share one Ethernet address (RFC 1112 § 6.4); 238.129.0.5 and 225.1.0.5 are of this one's.
    for near in ["239.1.0.5", "238.129.0.5", "225.1.0.5"] {
        assert!(table.is_near(address(near), &other), "{near}");
    }
    assert!(!table.is_near(address("239.1.0.6"), &other));
    assert!(!table.is_near(address("239.1.0.5"), &content), "the same content may come back");
}

#[test]
fn g22_with_the_pool_in_use_clients_get_plain_tftp_and_the_operator_an_alarm() {
    let mut world = quiet(1);
    world.pool = (1, 2);
    for number in [3, 4, 5] {
        world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW);
    }
    for number in [4, 5] {
        let holder = world.binld(host(number), &[dynamic(number, host(number))], TRUE_CLOCK, NOW);
        world.run_until_state(holder, StateName::Held, 60_000);
    }
    // A boot ROM takes the sender of the answer for its file server: both on one machine.
    let late = world.binld(host(3), &[dynamic(3, host(3))], TRUE_CLOCK, world.world.now());
    let starts = (1..=10).map(|minute| world.world.now() + Duration::from_secs(60 * minute)).collect();
    let client = world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Rom, 3, &[host(3)], starts);
    world.run_ms(700_000);
    assert_eq!(world.claim(late).state, StateName::Waiting);
    assert!(world.counter(late, "clearing.exhausted") > 0);
    assert!(world.counter(late, "query.sent") < 100, "it does not ask for ever");
    assert_eq!(world.boots(client).len(), 10);
    for boot in world.boots(client) {
        let (_, reply) = boot.answered.as_ref().expect("an answer");
        assert_eq!(reply.multicast, None);
    }
}

#[test]
fn g23_names_are_compared_byte_for_byte() {
    // `f` and `F` are two files; one spelling of each is all that a configuration takes (its own tests).
    let mut world = quiet(1);
    world.mtftp(host(3), &["f", "F"], TRUE_CLOCK, NOW);
    let binlds = [(1, "f"), (2, "F")].map(|(number, file)| {
        world.binld(host(number), &[Wants::dynamic(1, file, &[host(3)])], TRUE_CLOCK, NOW)
    });
    world.run_ms(LONG);
    assert_eq!(states(&world, binlds), [StateName::Held, StateName::Waiting]);
}

#[test]
fn g26_a_deaf_server_takes_no_silence_for_consent() {
    for seed in 0..20 {
        let mut world = quiet(seed);
        let (binlds, _) = furnish(&mut world, [at_ms(LONG), NOW], dynamic);
        world.run_ms(LONG);
        assert_eq!(world.claim(binlds[1]).state, StateName::Held);
        // Through its whole first window the newcomer hears no echo: its kernel drops them.
        world.world.at(at_ms(LONG), Fault::Deaf(binlds[0], Duration::from_secs(5)));
        // It says so too, but nobody can tell it: statements come by another port and would save it.
        world.drop_if(|_, passing| {
            passing.control().is_some_and(|envelope| matches!(envelope.message, Message::Hold(_)))
        });
        world.run_ms(30_000);
        assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Held], "seed {seed}");
        assert_eq!(world.world.checks.explained, 0);
    }
}

#[test]
fn g26_a_deaf_holder_is_asked_again() {
    for seed in 0..20 {
        let mut world = quiet(seed);
        let (binlds, mtftps) = furnish(&mut world, [at_ms(LONG), NOW], dynamic);
        world.run_ms(LONG);
        // Only the boot server is there to defend; it notices its drops when it looks.
        world.world.at(world.world.now(), Fault::Crash(mtftps[1]));
        world.world.at(at_ms(LONG), Fault::Deaf(binlds[1], Duration::from_secs(6)));
        world.run_ms(30_000);
        assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Held], "seed {seed}");
        assert_eq!(world.world.checks.explained, 0);
    }
}

#[test]
fn fairness_every_server_gets_an_address_however_its_bytes_compare() {
    for seed in 0..100 {
        let mut world = quiet(seed);
        world.pool = (1, 4);
        let binlds = [1, 2, 3, 4].map(|number| {
            world.mtftp(host(10 + number), &["f"], TRUE_CLOCK, NOW);
            world.binld(host(number), &[dynamic(1, host(10 + number))], TRUE_CLOCK, NOW)
        });
        world.run_ms(60_000);
        for binld in binlds {
            assert_eq!(world.claim(binld).state, StateName::Held, "seed {seed}");
        }
    }
}

#[test]
fn fairness_a_greater_key_that_never_gets_anywhere_keeps_nobody_out() {
    let mut world = quiet(1);
    world.pool = (1, 2);
    let (binlds, _) = furnish(&mut world, [NOW, NOW], dynamic);
    // It asks, makes the other one yield, and dies before it has cleared anything, again and again.
    for turn in 1..60 {
        world.world.at(at_ms(2000 * turn), Fault::Crash(binlds[1]));
        world.world.at(at_ms(2000 * turn + 10), Fault::Start(binlds[1]));
    }
    world.run_until_state(binlds[0], StateName::Held, 60_000);
}
