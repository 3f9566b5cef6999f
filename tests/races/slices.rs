//! Whose addresses are: slices of the agreed list of boot servers, and loans (G5).

use std::collections::BTreeSet;

use binld::engine::Engine;
use binld::engine::slices::NotStruck;
use sim::binld_host::BinldHost;
use wire::ServerId;

use super::*;

/// A list is agreed upon within this from the start of the last one.
const AGREED: u64 = 15_000;
/// What one that is dead is known to be.
const DEAD: u64 = 20_000;

pub(super) fn id(binld: usize) -> ServerId {
    ServerId([0xa0 + u8::try_from(binld).expect("few hosts"); 16])
}

/// Boot servers 1 to `count` that have agreed upon who they are, each with an MTFTP server that has these files.
fn agreed(seed: u64, count: u8, files: &[&str]) -> (Scenario, Vec<usize>, Vec<usize>) {
    let mut world = quiet(seed);
    world.pool = (1, 20);
    let binlds: Vec<usize> =
        (1..=count).map(|number| world.binld(host(number), &[], TRUE_CLOCK, NOW)).collect();
    let mtftps = (1..=count).map(|number| world.mtftp(host(100 + number), files, TRUE_CLOCK, NOW)).collect();
    world.run_ms(AGREED);
    for binld in &binlds {
        assert_eq!(world.status(*binld).roll.members.len(), binlds.len());
    }
    (world, binlds, mtftps)
}

fn wants(world: &mut Scenario, binld: usize, wants: &[Wants]) {
    world.world.at(world.world.now(), Fault::Reload(binld, sim::scenario::catalog(wants)));
}

fn happen(world: &mut Scenario, fault: Fault) {
    world.world.at(world.world.now(), fault);
    world.run_ms(1);
}

fn part(world: &mut Scenario, these: &[usize], those: &[usize]) {
    for (a, b) in these.iter().flat_map(|a| those.iter().map(move |b| (*a, *b))) {
        happen(world, Fault::Cut(a, b));
        happen(world, Fault::Cut(b, a));
    }
}

/// The addresses that it holds for files of its own MTFTP server.
fn addresses(world: &Scenario, binld: usize) -> BTreeSet<GroupAddr> {
    let claims = world.status(binld).claims;
    claims.iter().filter(|claim| claim.state == StateName::Held).filter_map(|claim| claim.group).collect()
}

/// The one in whose slice the pinned tuple is, and another one.
fn owner_and_other(world: &mut Scenario, binlds: &[usize]) -> (usize, usize) {
    let group = GroupAddr::new(PINNED).expect("a multicast address");
    let rank = |binld: &usize| (binld::engine::choose::rendezvous(group, &id(*binld)), id(*binld));
    let owner = *binlds.iter().max_by_key(|binld| rank(binld)).expect("some");
    let other = *binlds.iter().find(|binld| **binld != owner).expect("another");
    assert!(world.status(owner).roll.members.contains(&id(other)));
    (owner, other)
}

/// The pinned file of that boot server's own MTFTP server.
fn own_pinned(world: &mut Scenario, binld: usize, file: &str) {
    let number = world.world.nodes[binld].address.octets()[3];
    wants(world, binld, &[Wants::pinned(u16::from(number), file, &[host(100 + number)])]);
}

/// What an operator orders there.
pub(super) fn order<T>(world: &mut Scenario, binld: usize, order: impl FnOnce(&mut Engine, Time) -> T) -> T {
    let now = world.world.now();
    let node = &mut world.world.nodes[binld];
    let now = node.local(now);
    let engine = node.program_mut::<BinldHost>().and_then(BinldHost::engine_mut).expect("it lives");
    let outcome = order(engine, now);
    world.world.poke(binld);
    outcome
}

#[test]
fn g05_halves_of_a_cut_domain_never_pick_the_same_address() {
    const FILES: [&str; 5] = ["a", "b", "c", "d", "e"];
    for seed in 0..10 {
        let (mut world, binlds, mtftps) = agreed(seed, 4, &FILES);
        part(&mut world, &[&binlds[..2], &mtftps[..2]].concat(), &[&binlds[2..], &mtftps[2..]].concat());
        for (number, binld) in (1..).zip(&binlds) {
            let all: Vec<Wants> =
                FILES.iter().map(|file| Wants::dynamic(number.into(), file, &[host(100 + number)])).collect();
            wants(&mut world, *binld, &all);
        }
        world.run_ms(60_000);
        let held: Vec<BTreeSet<GroupAddr>> = binlds.iter().map(|binld| addresses(&world, *binld)).collect();
        // Of twenty addresses two members together own about ten, and these want as many.
        let sides = [&held[0] | &held[1], &held[2] | &held[3]];
        assert!(sides.iter().all(|side| side.len() >= 5), "seed {seed}: {held:?}");
        assert!(sides[0].is_disjoint(&sides[1]), "seed {seed}: {held:?}");
        world.world.at(world.world.now(), Fault::Heal);
        world.run_ms(30_000);
        let yielded: u64 = binlds.iter().map(|binld| world.counter(*binld, "conflict.yielded")).sum();
        assert_eq!((yielded, world.world.checks.explained), (0, 0), "seed {seed}");
    }
}

#[test]
fn g05_an_address_of_anothers_slice_is_borrowed() {
    let (mut world, binlds, _) = agreed(1, 3, &["f", "g"]);
    let (owner, other) = owner_and_other(&mut world, &binlds);
    own_pinned(&mut world, other, "f");
    world.run_until_state(other, StateName::Held, 2000);
    assert_eq!(world.claim(other).group.map(GroupAddr::ip), Some(PINNED));
    let loans = world.status(owner).loans;
    assert_eq!(loans.len(), 1);
    assert_eq!((loans[0].group.ip(), loans[0].borrower), (PINNED, id(other)));
    // The owner has lent it, so it does not use it itself, and lends it to nobody else.
    own_pinned(&mut world, owner, "g");
    world.run_ms(20_000);
    assert_eq!(states(&world, [owner, other]), [StateName::Waiting, StateName::Held]);
    // Given back, and after its rest it is the owner's again.
    wants(&mut world, other, &[]);
    world.run_ms(60_000);
    assert_eq!(world.status(owner).loans, []);
    assert_eq!(world.claim(owner).state, StateName::Held);
}

/// The owner itself wants the address while the borrower still clears it, and neither hears the other ask; or it dies before
/// that, and is started again.
#[test]
fn g05_an_owner_keeps_its_word_before_the_borrower_commits() {
    for kill_after in [None, Some(0), Some(1), Some(5), Some(50)] {
        let (mut world, binlds, _) = agreed(2, 3, &["f", "g"]);
        let (owner, other) = owner_and_other(&mut world, &binlds);
        world.drop_if(|_, passing| {
            let word = passing.control().is_some_and(|it| matches!(it.message, Message::ClearAsk(_)));
            word || is_query(passing) || is_echo(passing)
        });
        own_pinned(&mut world, other, "f");
        while world.counter(other, "loan.borrowed") == 0 {
            world.run_ms(1);
        }
        if let Some(kill_after) = kill_after {
            world.run_ms(kill_after);
            happen(&mut world, Fault::Crash(owner));
            world.run_ms(100);
            happen(&mut world, Fault::Start(owner));
        }
        own_pinned(&mut world, owner, "g");
        // A client makes it faster than the borrower: it asks as soon as it may be answered.
        let number = world.world.nodes[owner].address.octets()[3];
        let asks_at = world.world.now() + Duration::from_millis(2300);
        let client = Ipv4Addr::new(10, 0, 1, 1);
        world.client(client, ClientKind::Ipxe, number.into(), &[host(number)], vec![asks_at]);
        world.run_ms(3000);
        assert_eq!(states(&world, [owner, other]), [StateName::Waiting, StateName::Clearing]);
        world.run_ms(30_000);
        assert_eq!(states(&world, [owner, other]), [StateName::Waiting, StateName::Held], "{kill_after:?}");
    }
}

#[test]
fn g05_nobody_takes_the_slice_of_a_dead_boot_server_until_it_is_struck_off() {
    let (mut world, binlds, _) = agreed(3, 3, &["f", "g"]);
    let (owner, other) = owner_and_other(&mut world, &binlds);
    happen(&mut world, Fault::Crash(owner));
    own_pinned(&mut world, other, "f");
    world.run_ms(10 * DEAD);
    assert_eq!(world.claim(other).state, StateName::Waiting);
    assert_eq!(world.status(other).roll.silent, [id(owner)]);
    let strike = |world: &mut Scenario, by: usize, server: ServerId| {
        order(world, by, |engine, now| engine.strike_off(now, server))
    };
    assert_eq!(strike(&mut world, other, id(other)), Err(NotStruck::Us));
    assert_eq!(strike(&mut world, other, ServerId([9; 16])), Err(NotStruck::NoMember));
    let third = *binlds.iter().find(|binld| ![owner, other].contains(*binld)).expect("a third");
    assert_eq!(strike(&mut world, other, id(third)), Err(NotStruck::Lives));
    assert_eq!(strike(&mut world, other, id(owner)), Ok(()));
    world.run_ms(10 * AGREED);
    assert_eq!(world.status(third).roll.members.len(), 2);
    assert_eq!(world.claim(other).state, StateName::Held);
}

#[test]
fn g05_who_leaves_gives_everything_back_and_its_slice_to_the_others() {
    let (mut world, binlds, _) = agreed(4, 3, &["f", "g"]);
    let (owner, other) = owner_and_other(&mut world, &binlds);
    own_pinned(&mut world, owner, "g");
    world.run_until_state(owner, StateName::Held, 10_000);
    order(&mut world, owner, Engine::on_leave);
    let has_left = |world: &Scenario| {
        let host = world.world.nodes[owner].program::<BinldHost>();
        host.and_then(BinldHost::engine).is_some_and(Engine::has_left)
    };
    world.run_ms(1000);
    assert!(!has_left(&world), "an address rests first");
    for _ in 0..600 {
        if has_left(&world) {
            break;
        }
        world.run_ms(1000);
    }
    assert!(has_left(&world));
    for binld in binlds.iter().filter(|binld| **binld != owner) {
        assert_eq!(world.status(*binld).roll.members.len(), 2);
        assert!(!world.status(*binld).roll.members.contains(&id(owner)));
    }
    happen(&mut world, Fault::Crash(owner));
    own_pinned(&mut world, other, "f");
    world.run_until_state(other, StateName::Held, 30_000);
}

#[test]
fn g05_nothing_is_asked_for_a_claim_that_is_not_wanted_any_more() {
    let (mut world, binlds, _) = agreed(5, 3, &["f", "g"]);
    let (owner, other) = owner_and_other(&mut world, &binlds);
    happen(&mut world, Fault::Crash(owner));
    own_pinned(&mut world, other, "f");
    while world.counter(other, "loan.asked") == 0 {
        world.run_ms(1);
    }
    wants(&mut world, other, &[]);
    world.run_ms(1000);
    let asked = world.counter(other, "loan.asked");
    world.run_ms(10_000);
    assert_eq!(world.counter(other, "loan.asked"), asked);
}

/// Both begin to ask for the only address before there are slices; neither hears the other ask.
#[test]
fn g05_a_clearing_that_was_begun_under_another_list_is_not_committed() {
    for seed in 0..10 {
        let mut world = quiet(seed);
        let binlds = [1, 2].map(|number| world.binld(host(number), &[], TRUE_CLOCK, NOW));
        for number in 1..=2 {
            world.mtftp(host(100 + number), &["f"], TRUE_CLOCK, NOW);
        }
        world.drop_if(|_, passing| {
            let word = passing.control().is_some_and(|it| matches!(it.message, Message::ClearAsk(_)));
            word || is_query(passing) || is_echo(passing)
        });
        world.run_ms(2500);
        for (number, binld) in (1..).zip(&binlds) {
            wants(&mut world, *binld, &[dynamic(number, host(100 + number))]);
        }
        world.run_ms(1000);
        assert_eq!(states(&world, binlds), [StateName::Clearing; 2], "seed {seed}");
        world.run_ms(30_000);
        let begun_again: u64 = binlds.iter().map(|it| world.counter(*it, "clearing.begun_again")).sum();
        assert!(begun_again > 0, "seed {seed}: the list was in force too late");
        let held = states(&world, binlds).iter().filter(|state| **state == StateName::Held).count();
        let yielded: u64 = binlds.iter().map(|it| world.counter(*it, "conflict.yielded")).sum();
        assert_eq!((held, yielded, world.world.checks.explained), (1, 0, 0), "seed {seed}");
    }
}

/// All held the tuple before there was a list, and only the owner of its slice may give it to somebody else: also when
/// who still uses it is cut off, for longer than its claim is known.
#[test]
fn g05_who_held_an_address_before_there_was_a_list_keeps_it_over_a_cut() {
    for seed in 0..3 {
        let mut world = quiet(seed);
        let mtftps = [101, 102].map(|number| world.mtftp(host(number), &["f"], TRUE_CLOCK, NOW));
        let binlds: Vec<usize> = (1..=3)
            .map(|number| world.binld(host(number), &[pinned(1, host(101))], TRUE_CLOCK, NOW))
            .collect();
        world.run_ms(2 * AGREED);
        assert!(binlds.iter().all(|binld| world.claim(*binld).state == StateName::Held), "seed {seed}");
        let (owner, user) = owner_and_other(&mut world, &binlds);
        let rest: Vec<usize> = binlds.iter().copied().filter(|binld| *binld != user).collect();
        assert!(rest.contains(&owner) && world.status(owner).roll.version > 0);
        part(&mut world, &[user, mtftps[0]], &[rest.as_slice(), &[mtftps[1]]].concat());
        for binld in &rest {
            wants(&mut world, *binld, &[pinned(1, host(102))]);
        }
        world.run_ms(400_000);
        assert_eq!(world.claim(user).state, StateName::Held, "seed {seed}");
        for binld in &rest {
            let claims = world.status(*binld).claims;
            assert!(claims.iter().all(|claim| claim.state != StateName::Held), "seed {seed}: {claims:?}");
        }
        assert_eq!(world.status(owner).loans.len(), 1, "seed {seed}");
        world.world.at(world.world.now(), Fault::Heal);
        world.run_ms(30_000);
        assert_eq!(
            (world.claim(user).state, world.world.checks.explained),
            (StateName::Held, 0),
            "seed {seed}"
        );
        // When it is given back it is the owner's again.
        wants(&mut world, user, &[]);
        world.run_ms(120_000);
        assert!(rest.iter().any(|binld| world.claim(*binld).state == StateName::Held), "seed {seed}");
    }
}
