//! Named races: one test per row of `races.md`, in few lines each.

use std::net::Ipv4Addr;
use std::time::Duration;

use binld::engine::claims::StateName;
use driver::Time;
use sim::clock::Clock;
use sim::scenario::{PINNED, Scenario, Wants, group, host};
use sim::world::Passing;
use sim::{ClientKind, Fault, LinkFaults, Rules};
use wire::GroupAddr;
use wire::control::Message;
use wire::query::Opcode;

const NOW: Time = Time::ZERO;
const TRUE_CLOCK: Clock = Clock::new(0, 0);
/// Longer than a background clearing, a record and a configure.
const LONG: u64 = 10_000;

fn at_ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn quiet(seed: u64) -> Scenario {
    Scenario::new(seed, LinkFaults::NONE, Rules::Ours)
}

/// Two boot servers whose contents differ, each with an MTFTP server of its own.
fn furnish(
    world: &mut Scenario,
    starts: [Time; 2],
    wants: fn(u8, Ipv4Addr) -> Wants,
) -> ([usize; 2], [usize; 2]) {
    let mtftps = [3, 4].map(|number| world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW));
    let binlds = [(1, starts[0]), (2, starts[1])].map(|(number, start_at)| {
        world.binld(host(number), &[wants(number, host(number + 2))], TRUE_CLOCK, start_at)
    });
    (binlds, mtftps)
}

/// The same, both starting at once.
fn two(seed: u64, rules: Rules, wants: fn(u8, Ipv4Addr) -> Wants) -> (Scenario, [usize; 2], [usize; 2]) {
    let mut world = Scenario::new(seed, LinkFaults::NONE, rules);
    let (binlds, mtftps) = furnish(&mut world, [NOW, NOW], wants);
    (world, binlds, mtftps)
}

fn dynamic(number: u8, server: Ipv4Addr) -> Wants {
    Wants::dynamic(u16::from(number), "f", &[server])
}

fn pinned(number: u8, server: Ipv4Addr) -> Wants {
    Wants::pinned(u16::from(number), "f", &[server])
}

fn states(world: &Scenario, binlds: [usize; 2]) -> [StateName; 2] {
    binlds.map(|binld| world.claim(binld).state)
}

fn is_echo(passing: &Passing<'_>) -> bool {
    passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Echo)
}

fn is_query(passing: &Passing<'_>) -> bool {
    passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Query)
}

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

#[test]
fn g13_the_address_of_a_dead_boot_server_is_defended_by_its_mtftp_server() {
    for colocated in [false, true] {
        let mut world = quiet(1);
        // The newcomer may share its machine with the very MTFTP server that must object.
        let newcomer = if colocated { host(4) } else { host(1) };
        for number in [3, 4] {
            world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW);
        }
        let dead = world.binld(host(2), &[dynamic(2, host(4))], TRUE_CLOCK, NOW);
        world.run_until_state(dead, StateName::Held, LONG);
        world.world.at(world.world.now(), Fault::Crash(dead));
        let newcomer = world.binld(newcomer, &[dynamic(1, host(3))], TRUE_CLOCK, at_ms(LONG));
        world.run_ms(2 * LONG);
        assert_eq!(world.claim(newcomer).state, StateName::Waiting, "colocated {colocated}");
    }
}

#[test]
fn g16_in_use_at_the_mtftp_server_counts_like_an_echo() {
    let mut world = quiet(1);
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
fn g17_lost_configures_and_acks_are_repeated() {
    for direction in ["configure", "ack"] {
        let mut world = quiet(1);
        world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
        let binld = world.binld(host(1), &[dynamic(1, host(3))], TRUE_CLOCK, NOW);
        let mut lost = 0;
        world.drop_if(move |_, passing| {
            let Some(envelope) = passing.control() else { return false };
            let group = match (&envelope.message, direction) {
                (Message::Configure(configure), "configure") => configure.group(),
                (Message::Ack(ack), "ack") => ack.request.group,
                _ => None,
            };
            lost += u32::from(group.is_some());
            group.is_some() && lost <= 3
        });
        world.run_until_state(binld, StateName::Configuring, LONG);
        // The fourth sending goes out after 350 ms.
        world.run_until_state(binld, StateName::Held, 500);
    }
}

#[test]
fn g17_a_silent_mtftp_server_is_left_for_the_next() {
    let mut world = quiet(1);
    let silent = world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    world.mtftp(host(4), &["f"], TRUE_CLOCK, NOW);
    let wants = Wants::pinned(1, "f", &[host(3), host(4)]);
    let binld = world.binld(host(1), &[wants], TRUE_CLOCK, NOW);
    world.run_until_state(binld, StateName::Held, LONG);
    assert_eq!(world.claim(binld).content.server, host(3));
    world.world.at(world.world.now(), Fault::Crash(silent));
    // Its last ACK is 60 s old at most; the rest is the client's patience.
    let client =
        world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Ipxe, 1, &[host(1)], vec![at_ms(80_000)]);
    world.run_ms(90_000);
    let (_, reply) = world.boots(client)[0].answered.clone().expect("an answer");
    assert_eq!(reply.file_server, host(4));
}

#[test]
fn g24_a_restart_keeps_a_held_claim_and_defends_it_at_once() {
    let (mut world, binlds, _) = two(1, Rules::Ours, dynamic);
    world.run_until_state(binlds[1], StateName::Held, LONG);
    let stamp = world.claim(binlds[1]).stamp;
    let now = world.world.now();
    world.world.at(now + Duration::from_secs(60), Fault::Crash(binlds[1]));
    world.world.at(now + Duration::from_secs(90), Fault::Start(binlds[1]));
    world.run_ms(90_010);
    let claim = world.claim(binlds[1]);
    assert_eq!((claim.state, claim.stamp), (StateName::Clearing, stamp), "not handed out, not forgotten");
    world.run_until_state(binlds[1], StateName::Held, LONG);
    assert_eq!(world.claim(binlds[1]).stamp, stamp);
    assert_eq!(world.claim(binlds[0]).state, StateName::Waiting);
}

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
fn i5_a_client_hears_nothing_before_the_ack() {
    let mut world = quiet(1);
    world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binld = world.binld(host(1), &[pinned(1, host(3))], TRUE_CLOCK, NOW);
    let client = world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Ipxe, 1, &[host(1)], vec![at_ms(100)]);
    world.run_until_state(binld, StateName::Configuring, LONG);
    assert!(world.boots(client).is_empty());
    world.run_until_state(binld, StateName::Held, LONG);
    world.run_ms(10);
    let boot = &world.boots(client)[0];
    let (at, reply) = boot.answered.clone().expect("an answer");
    assert_eq!(reply.uri.as_deref(), Some("mtftp://10.0.0.3:1759/f"));
    // The client turned the background clearing into a foreground one.
    assert!(at.since(boot.began_at) < Duration::from_millis(600), "{:?}", at.since(boot.began_at));
    assert_eq!(world.world.replies.multicast, 1);
}

#[test]
fn g24_of_a_restarted_holder_and_who_took_its_address_meanwhile_one_stays() {
    let mut world = quiet(1);
    // The greater key starts first, and vanishes together with the MTFTP server that would defend it.
    let (binlds, mtftps) = furnish(&mut world, [at_ms(LONG), NOW], dynamic);
    world.run_until_state(binlds[1], StateName::Held, LONG);
    let now = world.world.now();
    for node in [binlds[1], mtftps[1]] {
        world.world.at(now, Fault::Crash(node));
        world.world.at(at_ms(30_000), Fault::Start(node));
    }
    world.run_ms(29_000 - LONG);
    world.run_until_state(binlds[0], StateName::Held, LONG);
    world.run_ms(200_000);
    // It may have told clients just before it died, and nobody was told the new address: in use beats idle (Y4).
    assert_eq!(states(&world, binlds), [StateName::Waiting, StateName::Held]);
    let host = world.world.nodes[mtftps[0]].program::<sim::mtftp_host::MtftpHost>();
    let status = host.and_then(sim::mtftp_host::MtftpHost::status).expect("it lives");
    assert!(status.claims.is_empty(), "the reference of who yielded is gone: {:?}", status.claims);
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
