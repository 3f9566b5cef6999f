//! The simulator's own parts: faults do what they say, legacy peers play by the source, and each check can fail.

use std::net::SocketAddrV4;
use std::time::Duration;

use binld::engine::claims::StateName;
use driver::{Time, Wall};
use mtftp::engine::{ClaimStatus, FallBacksStatus, Querier, ReferenceStatus, Status};
use peers::limits::{LISTS_MAX, PUSHES_MAX};
use sim::check::convergence::Convergence;
use sim::check::local::DATAGRAMS_CAUSED_MAX;
use sim::check::references::Ledger;
use sim::check::{Checks, Done, Heard};
use sim::clock::Clock;
use sim::legacy::Legacy;
use sim::link::Copy;
use sim::program::{Alarm, Claimed, Stage, Standing};
use sim::scenario::{Scenario, Wants, group, host, name};
use sim::{Fault, LinkFaults, Rules};
use wire::configure::{Ack, Configure, Delete, DeleteForDead, Ports, RequestRef, Target};
use wire::control::{Envelope, Message};
use wire::policy::Policy;
use wire::query::{Opcode, Query};
use wire::{BootEpoch, Content, Layer, Serial, ServerId, ServerType, Stamp};

// A boot server tells a file server of as many clients at once as that remembers.
const _: () = assert!(binld::limits::TOLD_BURST as usize == mtftp::limits::TOLD_MAX);

const NOW: Time = Time::ZERO;
const TRUE_CLOCK: Clock = Clock::new(0, 0);
/// Longer than a background clearing, a record and a configure.
const LONG: u64 = 10_000;
const BINLD: ServerId = ServerId([1; 16]);
const PORTS: Ports = Ports { client: 3001, server: 1760 };

fn at_ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// One boot server and its MTFTP server; it holds the first address of the pool.
fn holder(seed: u64) -> (Scenario, usize, usize) {
    let mut world = Scenario::new(seed, LinkFaults::NONE, Rules::Ours);
    let mtftp = world.mtftp(host(3), &["f"], TRUE_CLOCK, NOW);
    let binld = world.binld(host(1), &[Wants::dynamic(1, "f", &[host(3)])], TRUE_CLOCK, NOW);
    world.run_until_state(binld, StateName::Held, LONG);
    (world, binld, mtftp)
}

fn has(world: &Scenario, legacy: usize) -> Option<wire::GroupAddr> {
    world.world.nodes[legacy].program::<Legacy>().and_then(Legacy::has)
}

// --- legacy peers ---------------------------------------------------------------------------------------------

#[test]
fn a_legacy_peer_leaves_what_is_held_and_takes_the_next() {
    let (mut world, _, _) = holder(1);
    let legacy = world.literal(host(99), &[1, 2], world.world.now());
    world.run_ms(3000);
    assert_eq!(has(&world, legacy), Some(group(2)));
    // What it has it defends: the next one of its kind goes on.
    let other = world.literal(host(98), &[1, 2, 3], world.world.now());
    world.run_ms(5000);
    assert_eq!(has(&world, other), Some(group(3)));
    assert_eq!(world.world.checks.explained, 0);
}

#[test]
fn two_legacy_peers_that_ask_at_the_same_time_both_take_the_lowest() {
    let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
    let both = [98, 99].map(|number| world.literal(host(number), &[1, 2], NOW));
    world.run_ms(3000);
    assert_eq!(both.map(|legacy| has(&world, legacy)), [Some(group(1)); 2]);
    assert_eq!((world.world.checks.explained, world.world.checks.explained_by_legacy), (1, 1));
}

#[test]
fn a_legacy_peer_keeps_its_database_over_a_restart() {
    let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
    let legacy = world.literal(host(99), &[1], NOW);
    world.run_ms(3000);
    world.world.at(at_ms(3000), Fault::Crash(legacy));
    world.world.at(at_ms(4000), Fault::Start(legacy));
    let other = world.literal(host(98), &[1], at_ms(5000));
    world.run_ms(7000);
    assert_eq!([legacy, other].map(|legacy| has(&world, legacy)), [Some(group(1)), None]);
}

// --- faults ---------------------------------------------------------------------------------------------------

#[test]
fn a_pruned_group_is_a_loss_that_explains_a_duplicate() {
    let (mut world, binld, mtftp) = holder(1);
    for node in [binld, mtftp] {
        world.world.at(world.world.now(), Fault::Prune(node, Duration::from_secs(3)));
    }
    let legacy = world.literal(host(99), &[1], world.world.now());
    world.run_ms(2000);
    assert_eq!(has(&world, legacy), Some(group(1)));
    assert_eq!((world.world.checks.explained, world.world.checks.explained_by_legacy), (1, 0));
    // When the switch passes the group on again, the next one is refused.
    world.run_ms(2000);
    let late = world.literal(host(98), &[1], world.world.now());
    world.run_ms(2000);
    assert_eq!(has(&world, late), None);
}

#[test]
fn a_host_hears_groups_only_when_its_join_has_taken_effect() {
    let faults = LinkFaults { join_max: Duration::from_secs(3600), ..LinkFaults::NONE };
    let mut world = Scenario::new(1, faults, Rules::Ours);
    let [first, second] =
        [98, 99].map(|number| world.literal(host(number), &[1], at_ms(2000 * number as u64)));
    world.run_ms(500_000);
    assert_eq!([first, second].map(|legacy| has(&world, legacy)), [Some(group(1)); 2]);
}

#[test]
fn a_boot_server_whose_store_is_lost_is_somebody_else_and_shares_what_it_had() {
    let (mut world, binld, mtftp) = holder(1);
    let before = world.world.nodes[binld].program::<sim::binld_host::BinldHost>().map(|host| host.server());
    for fault in [Fault::Crash(binld), Fault::LoseStore(binld), Fault::Start(binld)] {
        world.world.at(world.world.now(), fault);
    }
    world.run_ms(10);
    world.run_until_state(binld, StateName::Held, LONG);
    let after = world.world.nodes[binld].program::<sim::binld_host::BinldHost>().map(|host| host.server());
    assert_ne!(before, after);
    let host = world.world.nodes[mtftp].program::<sim::mtftp_host::MtftpHost>();
    let status = host.and_then(sim::mtftp_host::MtftpHost::status).expect("it lives");
    // Of the same content there is no conflict; the reference of who it was stays.
    assert_eq!((world.claim(binld).group, status.claims[0].references.len()), (Some(group(1)), 2));
}

#[test]
fn an_mtftp_server_whose_store_is_lost_is_configured_again() {
    let (mut world, binld, mtftp) = holder(1);
    for fault in [Fault::Crash(mtftp), Fault::LoseStore(mtftp), Fault::Start(mtftp)] {
        world.world.at(world.world.now(), fault);
    }
    world.run_ms(100_000);
    assert_eq!(world.claim(binld).state, StateName::Held);
    world.world.expect_quiet();
    assert_eq!(world.world.checks.violations, []);
}

// --- every check can fail -------------------------------------------------------------------------------------

fn content(number: u8) -> Content {
    Content { server: host(number), file: name("f") }
}

fn rules_broken(checks: &Checks) -> Vec<&'static str> {
    checks.violations.iter().map(|violation| violation.rule).collect()
}

fn request(serial: u32, delete: bool) -> Vec<u8> {
    let (serial, file, group) = (Serial(serial), name("f"), group(1));
    let stamp = Stamp { millis: 1, sender: BINLD };
    let message = if delete {
        Message::Delete(Delete { serial, group, file })
    } else {
        Message::Configure(Configure {
            serial,
            target: Target::Group { group, ports: PORTS, stamp, policy: Policy::default() },
            file,
        })
    };
    Envelope { sender: BINLD, boot_epoch: BootEpoch(1), sequence: 1, message }.encode()
}

fn ack(serial: u32) -> Vec<u8> {
    let request = RequestRef { boot_epoch: BootEpoch(1), serial: Serial(serial), group: Some(group(1)) };
    let ack = Ack { request, ports: PORTS, file_size: 1, file: name("f") };
    let message = Message::Ack(ack);
    Envelope { sender: ServerId([2; 16]), boot_epoch: BootEpoch(1), sequence: 1, message }.encode()
}

const NOTHING: Status = Status {
    claims: Vec::new(),
    rests: Vec::new(),
    transfers: 0,
    plain: Vec::new(),
    fall_backs: FallBacksStatus { total: 0, recent: Vec::new() },
    querier: Querier::NotKnown,
};

fn table(file: &str, serial: u32) -> Status {
    let reference = ReferenceStatus {
        binld: BINLD,
        address: host(1),
        epoch: BootEpoch(1),
        serial: Serial(serial),
        stamp: Stamp { millis: 1, sender: BINLD },
        since: Wall(1),
        renewed: Wall(1),
        stored: true,
        stale: false,
    };
    let claim = ClaimStatus {
        group: group(1),
        file: name(file),
        ports: PORTS,
        closing: false,
        references: vec![reference],
        expected: 0,
        sessions: Vec::new(),
    };
    Status { claims: vec![claim], ..NOTHING }
}

/// A server that hears and ACKs these requests, and then shows that table.
fn played(requests: &[(u32, bool)], shows: &Status) -> Vec<&'static str> {
    let (mut ledger, mut checks) = (Ledger::default(), Checks::new(Rules::Ours));
    let binld = SocketAddrV4::new(host(1), 4016);
    for (serial, delete) in requests {
        let copy = Copy { at: NOW, bytes: request(*serial, *delete), intact: true };
        ledger.on_heard(NOW, 0, binld, &copy);
        ledger.on_sent(NOW, 0, binld, &ack(*serial), &mut checks);
    }
    ledger.compare(NOW, 0, shows, &mut checks);
    rules_broken(&checks)
}

#[test]
fn i2_a_reference_that_vanishes_is_seen() {
    assert_eq!(played(&[(1, false)], &table("f", 1)), [] as [&str; 0]);
    assert_eq!(played(&[(1, false)], &NOTHING), ["I2"]);
    // An older delete that comes late takes nothing.
    assert_eq!(played(&[(2, false), (1, true)], &NOTHING), ["I2"]);
    // In the store too.
    let (mut ledger, mut checks) = (Ledger::default(), Checks::new(Rules::Ours));
    let binld = SocketAddrV4::new(host(1), 4016);
    ledger.on_heard(NOW, 0, binld, &Copy { at: NOW, bytes: request(1, false), intact: true });
    ledger.on_sent(NOW, 0, binld, &ack(1), &mut checks);
    ledger.expect_stored(NOW, 0, &db::Rows::default(), &mut checks);
    ledger.on_start(NOW, 0, &db::Rows::default(), &mut checks);
    assert_eq!(rules_broken(&checks), ["I2", "I2", "I4"]);
}

/// G12: another one may have it deleted, by its number, when it can be stale, and not before.
#[test]
fn i2_a_reference_that_goes_on_behalf_goes_when_it_is_stale() {
    let seconds = |seconds| NOW + Duration::from_secs(seconds);
    // (the number that is named, by whom, when, whether it may go)
    let table = [(1, 2, 300, true), (1, 2, 298, false), (2, 2, 300, false), (1, 1, 300, false)];
    for (serial, sender, after, may_go) in table {
        let (mut ledger, mut checks) = (Ledger::default(), Checks::new(Rules::Ours));
        let binld = SocketAddrV4::new(host(1), 4016);
        ledger.on_heard(NOW, 0, binld, &Copy { at: NOW, bytes: request(1, false), intact: true });
        ledger.on_sent(NOW, 0, binld, &ack(1), &mut checks);
        let (group, file, dead, boot_epoch) = (group(1), name("f"), BINLD, BootEpoch(1));
        let what = DeleteForDead { group, file, dead, boot_epoch, serial: Serial(serial) };
        let message = Message::DeleteForDead(what);
        let sender = if sender == 1 { BINLD } else { ServerId([0xbb; 16]) };
        let bytes = Envelope { sender, boot_epoch: BootEpoch(1), sequence: 1, message }.encode();
        let now = seconds(after);
        ledger.on_heard(now, 0, SocketAddrV4::new(host(2), 4016), &Copy { at: now, bytes, intact: true });
        ledger.compare(now, 0, &NOTHING, &mut checks);
        let broken = rules_broken(&checks);
        assert_eq!(!broken.contains(&"I2"), may_go, "#{serial} after {after} s: {broken:?}");
    }
}

#[test]
fn model_a_reference_out_of_nothing_is_seen() {
    assert_eq!(played(&[], &table("f", 1)), ["model"]);
    assert_eq!(played(&[(1, false)], &table("f", 2)), ["model"]);
    let mut twice = played(&[(1, false), (2, true)], &table("f", 1));
    twice.dedup();
    assert_eq!(twice, ["model"]);
}

#[test]
fn i3_a_reference_that_no_claim_wants_is_seen() {
    let wanted = |held| {
        let claims = vec![sim::check::references::Wanted { held, content: content(3), group: group(1) }];
        [(BINLD, claims)].into()
    };
    let broken = |status: &Status, wanted| {
        let mut checks = Checks::new(Rules::Ours);
        Ledger::default().expect_no_leak(NOW, (0, host(3)), status, &wanted, &mut checks);
        rules_broken(&checks)
    };
    assert_eq!(broken(&table("f", 1), wanted(true)), [] as [&str; 0]);
    assert_eq!(broken(&table("f", 1), [(BINLD, Vec::new())].into()), ["I3"]);
    assert_eq!(broken(&NOTHING, wanted(true)), ["I3"]);
    assert_eq!(broken(&NOTHING, wanted(false)), [] as [&str; 0]);
    // Nobody knows who that was.
    assert_eq!(broken(&table("f", 1), [].into()), [] as [&str; 0]);
}

#[test]
fn i4_an_address_that_is_used_again_too_early_is_seen() {
    // The rest is forgotten; and the address carries something else.
    assert_eq!(played(&[(1, false), (2, true)], &NOTHING), ["I4"]);
    assert!(played(&[(1, false), (2, true)], &table("g", 3)).contains(&"I4"));
}

#[test]
fn i6_what_stays_handed_out_twice_is_seen_unless_a_legacy_peer_has_a_part_in_it() {
    for legacy in [false, true] {
        let mut checks = Checks::new(Rules::Ours);
        if legacy {
            checks.on_legacy(2);
        }
        for (node, server) in [(1, 3), (2, 4)] {
            let claim =
                |stage| Claimed { content: content(server), pinned: false, group: Some(group(1)), stage };
            checks.after_step(NOW, node, &[claim(Stage::Asks)]);
            checks.after_step(NOW, node, &[claim(Stage::Held)]);
        }
        checks.violations.clear();
        checks.expect_one_content_each(NOW);
        assert_eq!(rules_broken(&checks), if legacy { vec![] } else { vec!["I6"] });
    }
}

#[test]
fn i6_members_that_go_on_knowing_different_things_are_seen() {
    let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
    let [one, two] = [1, 2].map(|number| world.binld(host(number), &[], Clock::new(0, 0), NOW));
    world.world.expect_convergence();
    world.run_ms(5000);
    for (from, to) in [(one, two), (two, one)] {
        world.world.at(at_ms(5000), Fault::Cut(from, to));
    }
    // Cut off from each other nothing is expected of them. Each refreshes a record that the other does not get.
    world.run_ms(20_000);
    let looked = |world: &Scenario, after_ms: &[(u64, bool)]| {
        let (mut convergence, mut checks) = (Convergence::default(), Checks::new(Rules::Ours));
        let daemons: Vec<_> = world.world.nodes.iter().collect();
        let began = Time::from_nanos(world.world.now().as_nanos() - 5_050_000_000);
        for (millis, calm) in after_ms {
            convergence.look(began + Duration::from_millis(*millis), *calm, &daemons, &mut checks);
        }
        rules_broken(&checks)
    };
    assert_eq!(looked(&world, &[(0, true), (5000, true)]), [] as [&str; 0]);
    assert_eq!(looked(&world, &[(0, true), (5000, false), (5050, true)]), [] as [&str; 0]);
    assert_eq!(looked(&world, &[(0, true), (5050, true)]), ["I6"]);
    world.world.at(world.world.now(), Fault::Heal);
    world.run_ms(5000);
    assert_eq!(looked(&world, &[(0, true), (5050, true)]), [] as [&str; 0]);
    assert!(world.world.converged_within() > Duration::from_millis(100));
}

#[test]
fn i1_a_legacy_peer_explains_nothing_if_it_came_later() {
    let mut checks = Checks::new(Rules::Ours);
    checks.on_legacy(2);
    for (node, server, at) in [(1, 3, 0), (2, 4, LONG)] {
        let claim = |stage| Claimed { content: content(server), pinned: false, group: Some(group(1)), stage };
        checks.after_step(at_ms(at), node, &[claim(Stage::Asks)]);
        checks.after_step(at_ms(at + 1000), node, &[claim(Stage::Held)]);
    }
    assert_eq!(rules_broken(&checks), ["I1"]);
}

#[test]
fn l2_an_echo_that_is_missing_is_seen() {
    let query = Query {
        content: content(4),
        server_type: ServerType(1),
        layer: Layer(0),
        group: group(1),
        client_port: 3001,
    };
    let mut checks = Checks::new(Rules::Ours);
    let bytes = query.encode(Opcode::Query);
    checks.on_sent(NOW, 1, 1, 2, &bytes);
    let standings = [(content(3), Standing::Firm)];
    let heard = Heard { name: "it", query: &query, foreign_query: true, standings: &standings };
    checks.on_heard(NOW, 1, 2, &heard);
    let done = Done { echoed: false, refused: false, standings: standings.to_vec() };
    checks.after_query(NOW, 1, 2, &heard, &done);
    assert_eq!(rules_broken(&checks), ["L2"]);
}

#[test]
fn l4_l7_what_floods_and_what_alarms_is_seen() {
    let mut checks = Checks::new(Rules::Ours);
    checks.on_caused(NOW, "it", DATAGRAMS_CAUSED_MAX, LISTS_MAX + PUSHES_MAX);
    assert_eq!(rules_broken(&checks), [] as [&str; 0]);
    checks.on_caused(NOW, "it", DATAGRAMS_CAUSED_MAX + 1, 0);
    checks.on_caused(NOW, "it", 0, LISTS_MAX + PUSHES_MAX + 1);
    checks.on_alarm(NOW, "it", &Alarm::Store);
    checks.on_alarm(NOW, "it", &Alarm::Other("anything".to_owned()));
    assert_eq!(rules_broken(&checks), ["L4", "L4", "L7", "L7"]);
    checks.expected.store_fails = true;
    checks.on_alarm(NOW, "it", &Alarm::Store);
    assert_eq!(checks.violations.len(), 4);
}

#[test]
fn l5_a_claim_that_a_restart_forgets_is_seen() {
    let (world, binld, _) = holder(1);
    let node = &world.world.nodes[binld];
    let (rows, alive) = node.program::<sim::binld_host::BinldHost>().expect("a boot server").stored();
    let status = world.status(binld);
    let recovered = |rows: &[db::ClaimRow], wall| {
        let mut checks = Checks::new(Rules::Ours);
        checks.on_recovered(NOW, "it", rows, (alive, wall), &status);
        rules_broken(&checks)
    };
    assert_eq!(rows.len(), 1);
    assert_eq!(recovered(&rows, alive), [] as [&str; 0]);
    assert_eq!(recovered(&[], alive), ["L5"]);
    // Dead for long: nothing may be its own at once.
    assert_eq!(recovered(&rows, Wall(alive.0 + 300_000)), ["L5"]);
}

#[test]
fn l1_a_duplicate_though_nothing_went_wrong_is_seen() {
    let (mut world, _, _) = holder(1);
    world.world.expect_no_duplicates();
    assert_eq!(rules_broken(&world.world.checks), [] as [&str; 0]);
    world.world.checks.explained = 1;
    world.world.expect_no_duplicates();
    assert_eq!(rules_broken(&world.world.checks), ["L1"]);
}

#[test]
fn l6_a_table_that_outgrew_its_limit_is_seen() {
    let mut checks = Checks::new(Rules::Ours);
    let (marks, clients_waiting) = (binld::limits::MARKS_MAX, binld::limits::CLIENTS_WAITING_MAX);
    checks.on_tables(NOW, "it", (marks, clients_waiting));
    let mut mtftp = Status { transfers: mtftp::limits::TRANSFERS_MAX, ..table("f", 1) };
    checks.on_mtftp_tables(NOW, "it", &mtftp);
    assert_eq!(rules_broken(&checks), [] as [&str; 0]);
    mtftp.transfers += 1;
    checks.on_tables(NOW, "it", (marks, clients_waiting + 1));
    checks.on_mtftp_tables(NOW, "it", &mtftp);
    checks.on_tables(NOW, "it", (marks + 1, clients_waiting));
    let references =
        vec![mtftp.claims[0].references[0].clone(); mtftp::limits::REFERENCES_PER_SENDER_MAX + 1];
    let claims = vec![ClaimStatus { references, ..mtftp.claims[0].clone() }];
    checks.on_mtftp_tables(NOW, "it", &Status { claims, ..NOTHING });
    assert_eq!(rules_broken(&checks), ["L6"; 4]);
}
