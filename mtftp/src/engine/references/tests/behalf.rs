//! What the domain is told, and what a living BINLD may have deleted (G12).

use std::collections::BTreeSet;

use wire::Serial;
use wire::configure::DeleteForDead;
use wire::record::{HOLDERS_MAX, ServerRole};

use super::*;

const ABOUT: (u8, u32) = (1, 7);

/// The reference of BINLD 1 on group 1, as it is configured in these tests.
fn of_the_dead() -> DeleteForDead {
    let ((n, serial), boot_epoch) = (ABOUT, BootEpoch(1));
    let (group, file, dead) = (group(1), name("a"), binld(n).0);
    DeleteForDead { group, file, dead, boot_epoch, serial: Serial(serial) }
}

/// BINLD 1 has a reference and is silent from then on; 2 says hello.
fn stale_bench(config: EngineConfig) -> Bench {
    let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
    assert!(is_ack(&bench.configure(ABOUT.0, ABOUT.1, group(1), "a")));
    bench.pass(LEASE + Duration::from_secs(1));
    bench.hello(2, ServerRole::Binld);
    bench.events.clear();
    bench
}

fn references(bench: &Bench) -> usize {
    bench.engine.status().claims.iter().map(|claim| claim.references.len()).sum()
}

#[test]
fn g12_a_living_binld_has_the_stale_reference_of_a_dead_one_deleted() {
    for crash in [false, true] {
        let mut bench = stale_bench(EngineConfig::default());
        bench.slow_store = true;
        assert_eq!(bench.delete_for_dead(2, of_the_dead()), None);
        assert_eq!(references(&bench), 1, "not before the store has it");
        // A repeat changes nothing.
        assert_eq!(bench.delete_for_dead(2, of_the_dead()), None);
        assert_eq!(bench.counter("drop_behalf", "in_flight"), 1);
        bench.told.clear();
        bench.stored(Ok(()));
        assert!(bench.sent.is_empty(), "the record is the answer: {:?}", bench.sent);
        assert_eq!(bench.told_of_references(), [(group(1), None)]);
        let by = DeletedBy::Member(binld(2).0);
        assert!(
            matches!(&bench.events[..], [Event::Deleted { released: true, by: it, .. }] if *it == by),
            "{:?}",
            bench.events
        );
        assert_eq!((references(&bench), bench.engine.status().rests.len()), (0, 1));
        bench.slow_store = false;
        bench.delete_for_dead(2, of_the_dead());
        assert_eq!(bench.counter("drop_behalf", "no_such_reference"), 1);
        if crash {
            bench = restart(journal_of(&bench), Time::ZERO);
        }
        // It lives after all (G14).
        assert!(matches!(bench.configure(1, 7, group(1), "a"), Some(Message::Superseded(_))));
        assert!(is_ack(&bench.configure(1, 9, group(1), "a")));
    }
}

/// Everything that is refused: counted, never answered, and nothing changes.
#[test]
fn g12_what_is_not_deleted_on_behalf() {
    type Spoil = fn(&mut Bench, &mut DeleteForDead);
    let table: [(&str, u8, Spoil); 10] = [
        ("stranger", 3, |_, _| {}),
        ("stranger", 3, |bench, _| bench.hello(3, ServerRole::Mtftpd)),
        ("stranger", 2, |bench, _| bench.pass(Duration::from_secs(3))),
        ("living", 2, |bench, _| bench.hello(1, ServerRole::Binld)),
        ("no_such_reference", 2, |_, what| what.file = name("b")),
        ("no_such_reference", 2, |_, what| what.group = group(2)),
        ("no_such_reference", 2, |_, what| what.dead = binld(8).0),
        ("another_number", 2, |_, what| what.serial = Serial(6)),
        ("another_number", 2, |_, what| what.boot_epoch = BootEpoch(2)),
        ("not_stale", 2, |bench, what| {
            what.serial = Serial(8);
            assert!(is_ack(&bench.configure(1, 8, group(1), "a")));
        }),
    ];
    for (expected, sender, spoil) in table {
        let mut bench = stale_bench(EngineConfig::default());
        let mut what = of_the_dead();
        spoil(&mut bench, &mut what);
        let before = bench.engine.status();
        assert_eq!(bench.delete_for_dead(sender, what), None, "{expected}");
        assert_eq!(bench.counter("drop_behalf", expected), 1, "{:?}", bench.engine.counters());
        assert_eq!(bench.engine.status(), before, "{expected}");
    }
}

/// A living BINLD's name, and another's address.
#[test]
fn g12_a_borrowed_name_deletes_nothing() {
    let mut bench = stale_bench(EngineConfig::default());
    let message = Message::DeleteForDead(of_the_dead());
    let envelope = Envelope { sender: binld(2).0, boot_epoch: BootEpoch(1), sequence: 0, message };
    bench.datagram(Role::Control, binld(3).1, &envelope.encode());
    // Nor may it come by the group, where everybody hears it.
    bench.datagram(Role::Domain, binld(2).1, &envelope.encode());
    assert_eq!(references(&bench), 1);
    let counted = [("drop_behalf", "stranger"), ("drop_control", "not_for_us")];
    assert_eq!(counted.map(|(place, what)| bench.counter(place, what)), [1, 1]);
}

#[test]
fn g12_forever_is_never_told_as_stale_and_never_deleted_on_behalf() {
    let config = EngineConfig { references: ReferencePolicy::Forever, ..EngineConfig::default() };
    let mut bench = stale_bench(config);
    let told = bench.told_of_references();
    assert!(told.iter().all(|(_, holders)| *holders == Some(vec![(1, 7, false)])), "{told:?}");
    assert_eq!(bench.delete_for_dead(2, of_the_dead()), None);
    assert_eq!((references(&bench), bench.counter("drop_behalf", "forever")), (1, 1));
}

/// The last reference lets the session end first, as a delete of its own would.
#[test]
fn g12_the_last_reference_that_is_deleted_on_behalf_waits_for_the_session() {
    let mut bench = stale_bench(EngineConfig::default());
    bench.open(PORT, client(1), "a");
    bench.delete_for_dead(2, of_the_dead());
    bench.open(PORT, client(2), "a");
    assert_eq!(bench.counter("session", "open_while_closing"), 1);
    assert_eq!(references(&bench), 1);
    for block in 1..=11 {
        bench.ack(Role::Mtftp(PORT), client(1), block);
    }
    assert_eq!((references(&bench), bench.engine.status().rests.len()), (0, 1));
}

#[test]
fn the_domain_is_told_who_relies_on_an_address_and_who_no_longer_renews() {
    let mut bench = Bench::new();
    bench.slow_store = true;
    bench.configure(1, 7, group(1), "a");
    assert_eq!(bench.told_of_references(), [], "not before the store has it");
    bench.stored(Ok(()));
    assert_eq!(bench.told_of_references(), [(group(1), Some(vec![(1, 7, false)]))]);
    bench.slow_store = false;
    bench.ms(200);
    bench.configure(2, 1, group(1), "a");
    assert_eq!(bench.told_of_references(), [(group(1), Some(vec![(1, 7, false), (2, 1, false)]))]);
    // Renewals are not told; a refresh comes every 30 s.
    bench.configure(1, 8, group(1), "a");
    bench.ms(29_000);
    assert_eq!(bench.told_of_references(), []);
    bench.ms(1_001);
    assert_eq!(bench.told_of_references(), [(group(1), Some(vec![(1, 7, false), (2, 1, false)]))]);
    bench.pass(LEASE / 2);
    bench.configure(2, 2, group(1), "a");
    bench.pass(LEASE / 2);
    let last = bench.told_of_references().pop();
    assert_eq!(
        last,
        Some((group(1), Some(vec![(1, 8, true), (2, 2, false)]))),
        "the number of its last configure"
    );
    bench.configure(1, 9, group(1), "a");
    assert_eq!(bench.told_of_references(), [(group(1), Some(vec![(1, 9, false), (2, 2, false)]))]);
    bench.ms(200);
    bench.delete(2, 3, group(1), "a");
    assert_eq!(bench.told_of_references(), [(group(1), Some(vec![(1, 9, false)]))]);
    let mut restarted = restart(journal_of(&bench), Time::ZERO);
    assert_eq!(restarted.told_of_references(), [(group(1), Some(vec![(1, 9, false)]))]);
    bench.ms(200);
    bench.delete(1, 10, group(1), "a");
    assert_eq!(bench.told_of_references(), [(group(1), None)]);
}

/// A renewal that the store does not take while its lease ends: the number told is the one that is there.
#[test]
fn the_domain_is_told_the_number_that_the_store_has() {
    let mut bench = Bench::new();
    bench.configure(1, 7, group(1), "a");
    bench.pass(LEASE - Duration::from_secs(1));
    bench.slow_store = true;
    bench.configure(1, 8, group(1), "a");
    bench.pass(Duration::from_secs(2));
    bench.stored(Err(()));
    bench.ms(200);
    let last = bench.told_of_references().pop();
    assert_eq!(last, Some((group(1), Some(vec![(1, 7, true)]))));
}

#[test]
fn many_holders_stand_in_several_records_and_those_go_when_they_are_not_needed() {
    let mut bench = Bench::new();
    let most = u8::try_from(HOLDERS_MAX).unwrap() + 1;
    for n in 1..=most {
        assert!(is_ack(&bench.configure(n, 1, group(1), "a")));
    }
    bench.ms(200);
    let mut counts: Vec<_> = bench.told_of_references();
    let last = counts.split_off(counts.len() - 2);
    let counts: Vec<_> = last.iter().map(|(_, holders)| holders.as_ref().map_or(0, Vec::len)).collect();
    assert!(counts.contains(&HOLDERS_MAX) && counts.contains(&1), "{counts:?}");
    bench.delete(most, 2, group(1), "a");
    bench.ms(200);
    assert!(bench.told_of_references().contains(&(group(1), None)), "the second record is gone");
    assert_eq!(references(&bench), HOLDERS_MAX);
}

/// What others keep of one owner is what is told, and what had no room is told when there is some.
#[test]
fn no_more_is_told_than_others_keep() {
    let mut bench = Bench::new();
    let there = |number: usize| {
        let [_, _, high, low] = u32::try_from(number + 256).unwrap().to_be_bytes();
        GroupAddr::new(Ipv4Addr::new(239, 200, high, low)).unwrap()
    };
    // A server port has one address of a file; other files are needed for more.
    for number in 0..=PUBLISHED_MAX {
        let file = format!("f{number}");
        bench.files.insert(file.clone(), 512);
        let n = u8::try_from(number % 3 + 1).unwrap();
        assert!(is_ack(&bench.configure(n, 1 + u32::try_from(number).unwrap(), there(number), &file)));
        bench.ms(2);
    }
    let told: BTreeSet<GroupAddr> = bench.told_of_references().into_iter().map(|(group, _)| group).collect();
    assert_eq!(told.len(), PUBLISHED_MAX);
    assert_eq!(bench.counter("domain", "no_room_for_reference"), 1);
    assert!(is_ack(&bench.delete(1, 9000, there(0), "f0")));
    let told = bench.told_of_references();
    assert!(told.contains(&(there(0), None)), "{told:?}");
    assert!(told.iter().any(|(group, holders)| *group == there(PUBLISHED_MAX) && holders.is_some()));
}
