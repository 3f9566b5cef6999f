//! Crashes, restarts and silence.

use super::*;

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

/// G13, G25: when nobody but a member of the domain knows of the address any more, one of them defends it, and no more
/// than one.
#[test]
fn g13_g25_one_member_defends_the_address_of_a_dead_one_whose_mtftp_server_is_dead_too() {
    let mut world = quiet(1);
    let theirs = world.mtftp(host(20), &["f"], TRUE_CLOCK, NOW);
    let dead = world.binld(host(2), &[dynamic(2, host(20))], TRUE_CLOCK, NOW);
    let members = [3, 4, 5, 6].map(|number| world.binld(host(number), &[], TRUE_CLOCK, NOW));
    world.run_until_state(dead, StateName::Held, LONG);
    world.run_ms(1_000);
    let group = world.claim(dead).group.unwrap();
    for node in [dead, theirs] {
        world.world.at(world.world.now(), Fault::Crash(node));
    }
    world.run_ms(4_000);
    let [.., last] = group.ip().octets();
    let newcomer = world.literal(host(99), &[last, last + 1], world.world.now());
    world.run_ms(3_000);
    let echoes = members.map(|member| world.counter(member, "echo.for_another"));
    assert_eq!(echoes.iter().sum::<u64>(), 1, "{echoes:?}");
    let newcomer = world.world.nodes[newcomer].program::<Legacy>().and_then(Legacy::has);
    assert!(newcomer.is_some() && newcomer != Some(group));
    // What nobody refreshes ends: after its record's life nobody speaks for it.
    world.run_ms(130_000);
    assert!(members.iter().all(|member| world.status(*member).replicas.is_empty()));
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
    // What the domain remembers of the dead one would keep its address.
    world.one_domain = false;
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

/// Keeps that host from hearing of the domain until then.
fn deafen(world: &mut Scenario, node: usize, until: Time, and: fn(&Passing<'_>) -> bool) {
    world.drop_if(move |at, passing| {
        let told = passing.control().is_some_and(|it| {
            matches!(it.message, Message::Hello(_) | Message::Flood(_) | Message::SyncList(_))
        });
        (told && passing.to == node && at < until) || and(passing)
    });
}

#[test]
fn g24_for_a_client_nothing_is_cleared_before_we_know_what_the_domain_has() {
    let mut world = quiet(1);
    world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let holder = world.binld(host(2), &[pinned(1, host(3))], TRUE_CLOCK, NOW);
    world.run_until_state(holder, StateName::Held, LONG);
    world.run_ms(1_000);
    let start = world.world.now();
    let wants = Wants { preclear: false, ..pinned(1, host(3)) };
    let newcomer = world.binld(host(1), &[wants], TRUE_CLOCK, start);
    deafen(&mut world, newcomer, start + Duration::from_secs(1), |_| false);
    // By its own clock, which starts now.
    let client = world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Ipxe, 1, &[host(1)], vec![at_ms(50)]);
    world.run_ms(3_000);
    assert_eq!(
        (world.counter(newcomer, "clearing.started"), world.counter(newcomer, "claim.shared")),
        (0, 1)
    );
    let (_, reply) = world.boots(client)[0].answered.clone().expect("an answer within its patience");
    assert_eq!(reply.uri.as_deref(), Some("mtftp://10.0.0.3:1759/f"));
}

/// Whoever is alone waits no longer than that, once.
#[test]
fn g24_who_is_alone_keeps_a_client_for_two_seconds_at_its_start_and_not_later() {
    let mut world = quiet(1);
    world.one_domain = false;
    world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let wants = Wants { preclear: false, ..pinned(1, host(3)) };
    let binld = world.binld(host(1), &[wants], TRUE_CLOCK, NOW);
    let starts = vec![at_ms(50), at_ms(LONG)];
    let client = world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Ipxe, 1, &[host(1)], starts);
    world.run_ms(1_999);
    assert_eq!(world.counter(binld, "clearing.started"), 0);
    world.run_ms(2 * LONG);
    let waited = world.boots(client).iter().map(|boot| {
        let (at, reply) = boot.answered.clone().expect("an answer");
        assert_eq!(reply.uri.as_deref(), Some("mtftp://10.0.0.3:1759/f"));
        at.since(boot.began_at)
    });
    let waited: Vec<Duration> = waited.collect();
    assert!(waited[0] < Duration::from_millis(2500) && waited[1] < Duration::from_millis(50), "{waited:?}");
}

/// One that was away for minutes, and whose address another member has by now. No query and no echo gets through.
#[test]
fn g24_after_a_restart_no_client_is_told_what_the_domain_knows_to_be_anothers() {
    let mut world = quiet(1);
    let mtftps = [3, 4].map(|number| world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW));
    let first = world.binld(host(1), &[pinned(1, host(3))], TRUE_CLOCK, NOW);
    world.run_until_state(first, StateName::Held, LONG);
    for node in [first, mtftps[0]] {
        world.world.at(world.world.now(), Fault::Crash(node));
    }
    // What the domain knew of it has ended.
    world.run_ms(150_000);
    let second = world.binld(host(2), &[pinned(2, host(4))], TRUE_CLOCK, world.world.now());
    world.run_until_state(second, StateName::Held, 2 * LONG);
    world.run_ms(10_000);
    let start = world.world.now();
    for node in [first, mtftps[0]] {
        world.world.at(start, Fault::Start(node));
    }
    deafen(&mut world, first, start + Duration::from_secs(1), |passing| {
        passing.query().is_some()
            || passing.control().is_some_and(|it| matches!(it.message, Message::Hold(_)))
    });
    // By its own clock, which starts now.
    let client = world.client(Ipv4Addr::new(10, 0, 1, 1), ClientKind::Ipxe, 1, &[host(1)], vec![at_ms(50)]);
    world.run_ms(3_000);
    let (_, reply) = world.boots(client)[0].answered.clone().expect("an answer within its patience");
    assert_eq!(reply.uri.as_deref(), Some("tftp://10.0.0.3/f"));
    assert_eq!(world.counter(first, "conflict.known"), 1);
    assert_eq!(world.world.replies.multicast, 0);
    // They hear each other again, and settle it.
    world.world.drop_nothing();
    world.run_ms(60_000);
    let held = states(&world, [first, second]).iter().filter(|it| **it == StateName::Held).count();
    assert_eq!(held, 1);
}

/// G15: who had an address lets it rest, and says so; no query and no echo gets through.
#[test]
fn g15_an_address_that_rests_at_a_member_is_not_taken_by_another() {
    let mut world = quiet(1);
    for number in [3, 4] {
        world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW);
    }
    let first = world.binld(host(1), &[dynamic(1, host(3))], TRUE_CLOCK, NOW);
    world.run_until_state(first, StateName::Held, LONG);
    world.world.at(world.world.now(), Fault::Reload(first, sim::scenario::catalog(&[])));
    world.run_ms(1_000);
    assert_eq!(world.status(first).rests.len(), 1);
    world.drop_if(|_, passing| {
        let word =
            |it: &Message| matches!(it, Message::ClearAsk(_) | Message::ClearAnswer(_) | Message::Hold(_));
        is_query(passing) || is_echo(passing) || passing.control().is_some_and(|it| word(&it.message))
    });
    let second =
        world.binld(host(2), &[dynamic(2, host(4))], TRUE_CLOCK, world.world.now() + Duration::from_secs(3));
    world.run_ms(280_000);
    assert_eq!(world.claim(second).state, StateName::Waiting);
    // It is over, also for the member that was told: 300 s, and what it waits between attempts.
    world.run_until_state(second, StateName::Held, 60_000);
}
