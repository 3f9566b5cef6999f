//! Who does not renew, and who is forgotten (G12).

use super::*;

fn told(bench: &mut Bench) -> Vec<&'static str> {
    let name = |event: Event| {
        if let Event::Deleted { by, .. } = event {
            return (by != DeletedBy::Itself).then_some("deleted on behalf");
        }
        let stale = matches!(event, Event::Stale { .. }).then_some("stale");
        stale.or(matches!(event, Event::Renewed { .. }).then_some("renewed"))
    };
    std::mem::take(&mut bench.events).into_iter().filter_map(name).collect()
}

fn stale(bench: &Bench) -> Vec<bool> {
    bench.engine.status().claims[0].references.iter().map(|reference| reference.stale).collect()
}

#[test]
fn g12_a_reference_is_stale_after_300_s_and_told_once_and_keeps_its_address() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.configure(2, 1, group(1), "a");
    for serial in 2..5 {
        bench.pass(LEASE / 2);
        bench.configure(2, serial, group(1), "a");
    }
    assert_eq!(stale(&bench), [true, false]);
    assert_eq!(told(&mut bench), ["stale"]);
    bench.pass(LEASE * 10);
    assert_eq!((stale(&bench), told(&mut bench)), (vec![true, true], vec!["stale"]));
    assert_eq!(in_use(bench.configure(3, 1, group(1), "b")), Some("a".to_owned()), "nothing is freed");
    assert!(is_ack(&bench.configure(1, 2, group(1), "a")));
    assert_eq!((stale(&bench), told(&mut bench)), (vec![false, true], vec!["renewed"]));
    bench.pass(LEASE - Duration::from_millis(1));
    assert_eq!(stale(&bench), [false, true]);
    bench.ms(1);
    assert_eq!((stale(&bench), told(&mut bench)), (vec![true, true], vec!["stale"]));
}

#[test]
fn a_renewal_that_the_store_did_not_take_is_none() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    let before = bench.engine.status();
    bench.pass(LEASE / 2);
    bench.slow_store = true;
    assert_eq!(bench.configure(1, 2, group(1), "a"), None);
    bench.stored(Err(()));
    assert_eq!(bench.engine.status(), before, "what is shown is what the store has");
    bench.pass(LEASE / 2 - Duration::from_secs(1));
    bench.configure(1, 3, group(1), "a");
    bench.pass(Duration::from_secs(1));
    bench.stored(Err(()));
    assert_eq!(stale(&bench), [true], "its lease ended while the store was busy");
}

/// G15: a rest that nobody ended goes on.
#[test]
fn configures_of_a_resting_address_that_all_fail_leave_it_resting() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.delete(1, 2, group(1), "a");
    bench.slow_store = true;
    bench.configure(1, 3, group(1), "a");
    bench.configure(2, 1, group(1), "a");
    bench.stored(Err(()));
    assert_eq!(bench.engine.status().rests.len(), 1);
    assert_eq!(in_use(bench.configure(3, 1, group(1), "b")), Some("a".to_owned()));
}

/// What is left of the lease goes on over a restart, but nobody is stale before the grace is over.
#[test]
fn g12_a_lease_survives_a_restart_and_leaves_time_to_renew() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    let renewed = bench.engine.status().claims[0].references[0].renewed.0;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap();
    // (age at the restart, how long it is fresh from then on)
    let table = [
        (Duration::ZERO, LEASE),
        (Duration::from_secs(100), Duration::from_secs(200)),
        (Duration::from_secs(250), GRACE),
        (Duration::from_secs(100_000), GRACE),
    ];
    for (age, left) in table {
        let mut bench = restart_at(journal_of(&bench), Time::ZERO, Wall(renewed + millis(age)));
        // A bench begins one second after its engine.
        bench.pass(left - Duration::from_millis(1_001));
        assert_eq!(stale(&bench), [false], "{age:?}");
        bench.ms(1);
        assert_eq!((stale(&bench), told(&mut bench)), (vec![true], vec!["stale"]), "{age:?}");
    }
    // A wall clock that was set back.
    let mut bench = restart_at(journal_of(&bench), Time::ZERO, Wall(0));
    bench.pass(LEASE - Duration::from_secs(2));
    assert_eq!(stale(&bench), [false]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(stale(&bench), [true]);
}

#[test]
fn g12_forever_is_never_stale() {
    let config = EngineConfig { references: ReferencePolicy::Forever, ..EngineConfig::default() };
    let mut bench = Bench::with(Engine::new(config.clone(), identity(), Draw::from_seed(1), Time::ZERO));
    bench.configure(1, 1, group(1), "a");
    bench.pass(LEASE * 10);
    assert_eq!((stale(&bench), told(&mut bench)), (vec![false], vec![]));
    assert_eq!(bench.forget(1, group(1), false), Some(Forgotten::NotStale(None)));
    let journal = journal_of(&bench);
    let engine = Engine::recover(config, identity(), Draw::from_seed(2), journal, Time::ZERO, Wall(u64::MAX));
    let mut bench = Bench::with(engine);
    bench.pass(LEASE * 10);
    assert_eq!((stale(&bench), told(&mut bench)), (vec![false], vec![]));
}

/// What an operator's order is answered, and what it leaves.
#[test]
fn g12_forget_table() {
    let old = LEASE + Duration::from_secs(60);
    let left = Duration::from_secs(240);
    // (addresses with their BINLDs, age, whom, where, force, answer)
    type Row = (&'static [(u8, u8)], Duration, u8, u8, bool, Forgotten);
    let young = Duration::from_secs(60);
    let table: [Row; 9] = [
        (&[(1, 1)], old, 1, 1, false, Forgotten::Done { released: true }),
        (&[(1, 1), (1, 2)], old, 2, 1, false, Forgotten::Done { released: false }),
        (&[(1, 1)], young, 1, 1, false, Forgotten::NotStale(Some(left))),
        (&[(1, 1)], young, 1, 1, true, Forgotten::Done { released: true }),
        (&[(1, 1)], old, 1, 2, false, Forgotten::NoSuchAddress(vec![group(1)])),
        (&[], old, 1, 2, true, Forgotten::NoSuchAddress(vec![])),
        (&[(1, 1), (1, 2)], old, 3, 1, false, Forgotten::NoSuchReference(vec![binld(1).0, binld(2).0])),
        (&[(1, 1)], old, 3, 1, true, Forgotten::NoSuchReference(vec![binld(1).0])),
        (&[(1, 1), (1, 2)], young, 2, 1, true, Forgotten::Done { released: false }),
    ];
    for (references, age, whom, place, force, expected) in table {
        let mut bench = Bench::new();
        for &(place, n) in references {
            assert!(is_ack(&bench.configure(n, 1, group(place), "a")));
        }
        bench.pass(age);
        bench.events.clear();
        assert_eq!(bench.forget(whom, group(place), force), Some(expected.clone()));
        let status = bench.engine.status();
        let gone = matches!(expected, Forgotten::Done { .. });
        let count: usize = status.claims.iter().map(|claim| claim.references.len()).sum();
        assert_eq!(count, references.len() - usize::from(gone), "{expected:?}");
        assert_eq!(status.rests.len(), usize::from(expected == Forgotten::Done { released: true }));
        assert_eq!(journal_of(&bench).references.len(), count);
        assert_eq!(told(&mut bench).len(), usize::from(gone));
    }
}

/// G14: what the dead one sent before its death brings nothing back, and is not answered as if it had; a living one
/// hears how to get its reference back. Both over a restart too.
#[test]
fn g14_a_forgotten_reference_stays_away_and_a_living_binld_gets_it_back() {
    for crash in [false, true] {
        let mut bench = Bench::new();
        bench.configure(1, 4, group(1), "a");
        bench.configure(1, 5, group(1), "a");
        bench.pass(LEASE);
        assert_eq!(bench.forget(1, group(1), false), Some(Forgotten::Done { released: true }));
        if crash {
            bench = restart(journal_of(&bench), Time::ZERO);
        }
        for late in [4, 5] {
            let Some(Message::Superseded(known)) = bench.configure(1, late, group(1), "a") else {
                panic!("{late}")
            };
            assert_eq!((known.known_epoch.0, known.known_serial.0), (1, 6));
        }
        assert!(bench.engine.status().claims.is_empty());
        assert!(is_ack(&bench.configure(1, 7, group(1), "a")));
        assert_eq!(bench.engine.status().claims[0].references.len(), 1);
    }
}

#[test]
fn a_living_binlds_very_next_number_brings_its_reference_back() {
    let mut bench = Bench::new();
    bench.configure(1, 5, group(1), "a");
    bench.forget(1, group(1), true);
    assert!(is_ack(&bench.configure(1, 6, group(1), "a")));
}

/// The last reference ends the session first, as a delete does; a configure of the living one keeps the address.
#[test]
fn g12_forgetting_the_last_reference_waits_for_the_session() {
    for lives in [false, true] {
        let mut bench = Bench::new();
        bench.configure(1, 1, group(1), "a");
        bench.open(PORT, client(1), "a");
        assert_eq!(bench.forget(1, group(1), true), Some(Forgotten::Closing));
        assert_eq!(bench.forget(1, group(1), true), Some(Forgotten::Busy));
        bench.open(PORT, client(2), "a");
        assert_eq!(bench.counter("session", "open_while_closing"), 1);
        if lives {
            assert!(is_ack(&bench.configure(1, 2, group(1), "a")));
        }
        for block in 1..=11 {
            bench.ack(Role::Mtftp(PORT), client(1), block);
        }
        let status = bench.engine.status();
        assert_eq!((status.claims.len(), status.rests.len()), if lives { (1, 0) } else { (0, 1) });
        assert!(bench.answers.is_empty(), "answered once");
    }
}

/// G14: a configure that was sent before the delete and came while the session was still ending.
#[test]
fn g14_a_late_configure_does_not_stop_a_delete_that_waits() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.open(PORT, client(1), "a");
    assert_eq!(bench.delete(1, 5, group(1), "a"), None);
    assert_eq!(bench.configure(1, 4, group(1), "a"), None);
    for block in 1..=11 {
        bench.ack(Role::Mtftp(PORT), client(1), block);
    }
    assert!(bench.engine.status().claims.is_empty());
}

#[test]
fn a_forget_that_the_store_does_not_take_leaves_everything() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    let before = bench.engine.status();
    bench.slow_store = true;
    assert_eq!(bench.forget(1, group(1), true), None, "not before the store has it");
    bench.open(PORT, client(1), "a");
    assert_eq!(bench.counter("session", "open_while_closing"), 1);
    bench.stored(Err(()));
    assert_eq!(std::mem::take(&mut bench.answers), [(Order(7), Forgotten::NotStored)]);
    assert_eq!(bench.engine.status(), before);
    bench.open(PORT, client(1), "a");
    assert_eq!(bench.counter("session", "began"), 1, "opens are taken again");
}
