use std::time::Duration;

use super::*;

const ME: ServerId = ServerId([5; 16]);
const BETTER: ServerId = ServerId([1; 16]);
const WORSE: ServerId = ServerId([9; 16]);

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// Our index is 50, that of BETTER 10, that of WORSE 90.
fn term(server: ServerId, epoch: u32) -> Term<u32> {
    let index = if server == ME { 50 } else { u32::from(server.0[0]) * 10 };
    Term { epoch, index, server }
}

/// The states of the source, and those that it does not tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Standing by, nobody holds the office.
    Vacant,
    /// Standing by, that one holds it in epoch 8.
    Under(ServerId),
    /// The same, and our own timer runs until 1000 ms.
    Waiting(ServerId),
    /// Nobody holds it, and our own timer runs.
    WaitingVacant,
    /// We hold it in epoch 8.
    Holding,
}

#[derive(Debug, Clone, Copy)]
enum Input {
    First(ServerId, u32),
    Second(ServerId, u32),
    /// The time is that, in ms.
    Time(u64),
    /// The holder does not work.
    Fails,
    /// It works after all.
    Works,
    Leaves,
    /// We take over, as who has waited for long enough.
    Preempts,
}

fn office(from: Stands) -> Office<u32> {
    let mut office = Office::new(ME, 50, at(0));
    match from {
        Stands::Vacant | Stands::WaitingVacant => {}
        Stands::Under(server) | Stands::Waiting(server) => {
            assert_eq!(office.on_first(at(0), term(server, 8)), Verdict::Accepted { deposed: false });
        }
        Stands::Holding => {
            office.hear_of(6);
            assert_eq!(office.declare(at(0), false), Some(term(ME, 8)));
        }
    }
    if matches!(from, Stands::Waiting(_) | Stands::WaitingVacant) {
        office.wait(at(0), Duration::from_millis(1000));
    }
    office
}

/// What an input came to: a verdict, a declaration, or nothing to speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Verdict(Verdict<u32>),
    Declared(Term<u32>),
    Nothing,
}

fn give(office: &mut Office<u32>, input: Input) -> Outcome {
    let declared = |term: Option<Term<u32>>| term.map_or(Outcome::Nothing, Outcome::Declared);
    match input {
        Input::First(server, epoch) => Outcome::Verdict(office.on_first(at(10), term(server, epoch))),
        Input::Second(server, epoch) => Outcome::Verdict(office.on_second(at(10), term(server, epoch))),
        Input::Time(millis) => declared(office.on_timeout(at(millis), false)),
        Input::Fails => {
            office.wait(at(10), Duration::from_millis(100));
            Outcome::Nothing
        }
        Input::Works => {
            office.stand_by();
            Outcome::Nothing
        }
        Input::Leaves => {
            office.vacate(at(10));
            Outcome::Nothing
        }
        Input::Preempts => declared(office.declare(at(10), false)),
    }
}

/// The state afterwards, in the words of [`Stands`], and the epoch of the holder.
fn now(office: &Office<u32>) -> (Stands, u32) {
    let holder = office.holder().copied();
    let epoch = holder.map_or(0, |term| term.epoch);
    let from = match (office.state(), holder) {
        (State::Holding, Some(Term { server: ME, .. })) => Stands::Holding,
        (State::StandingBy, None) => Stands::Vacant,
        (State::StandingBy, Some(term)) => Stands::Under(term.server),
        (State::Waiting { .. }, None) => Stands::WaitingVacant,
        (State::Waiting { .. }, Some(term)) => Stands::Waiting(term.server),
        (State::Holding, _) => unreachable!("we hold it under another's term"),
    };
    (from, epoch)
}

const ACCEPTED: Outcome = Outcome::Verdict(Verdict::Accepted { deposed: false });
const DEPOSED: Outcome = Outcome::Verdict(Verdict::Accepted { deposed: true });
const KNOWN: Outcome = Outcome::Verdict(Verdict::Known);
const STALE: Outcome = Outcome::Verdict(Verdict::Stale);
const ABSURD: Outcome = Outcome::Verdict(Verdict::Absurd);
const NOTHING: Outcome = Outcome::Nothing;

fn revoked(epoch: u32) -> Outcome {
    Outcome::Verdict(Verdict::Revoked(term(ME, epoch)))
}

fn declared(epoch: u32) -> Outcome {
    Outcome::Declared(term(ME, epoch))
}

type Row = (Stands, Input, Outcome, Stands, u32);

fn check(rows: &[Row]) {
    for (from, input, outcome, to, epoch) in rows {
        let mut office = office(*from);
        assert_eq!(give(&mut office, *input), *outcome, "{from:?} {input:?}");
        assert_eq!(now(&office), (*to, *epoch), "{from:?} {input:?}");
    }
}

/// Time, and what is known of the holder: R001.5–R001.11.
#[test]
fn every_transition_by_time() {
    use Input::{Fails, Leaves, Preempts, Time, Works};
    use Stands::{Holding, Under, Vacant, Waiting, WaitingVacant};
    check(&[
        // The holder fails: waiting; it works: standing by again.
        (Under(BETTER), Fails, NOTHING, Waiting(BETTER), 8),
        (Waiting(BETTER), Works, NOTHING, Under(BETTER), 8),
        (Waiting(BETTER), Fails, NOTHING, Waiting(BETTER), 8),
        (Under(BETTER), Works, NOTHING, Under(BETTER), 8),
        (Vacant, Fails, NOTHING, WaitingVacant, 0),
        (WaitingVacant, Works, NOTHING, Vacant, 0),
        // Our own timer, too early and in time.
        (Waiting(BETTER), Time(999), NOTHING, Waiting(BETTER), 8),
        (Waiting(BETTER), Time(1000), declared(10), Holding, 10),
        (Waiting(WORSE), Time(5000), declared(10), Holding, 10),
        (WaitingVacant, Time(1000), declared(2), Holding, 2),
        (Under(BETTER), Time(5000), NOTHING, Under(BETTER), 8),
        (Vacant, Time(5000), NOTHING, Vacant, 0),
        (Holding, Time(5000), NOTHING, Holding, 8),
        // Who holds the office waits for nothing.
        (Holding, Fails, NOTHING, Holding, 8),
        (Holding, Works, NOTHING, Holding, 8),
        // The holder leaves, or we know nothing any more.
        (Under(BETTER), Leaves, NOTHING, Vacant, 0),
        (Waiting(BETTER), Leaves, NOTHING, Vacant, 0),
        (Holding, Leaves, NOTHING, Vacant, 0),
        // Taken over from one that works.
        (Under(WORSE), Preempts, declared(10), Holding, 10),
        (Waiting(WORSE), Preempts, declared(10), Holding, 10),
        (Vacant, Preempts, declared(2), Holding, 2),
        (Holding, Preempts, declared(10), Holding, 10),
    ]);
}

/// First messages: R001.14–R001.18.
#[test]
fn every_transition_by_a_first_message() {
    use Input::First;
    use Stands::{Holding, Under, Vacant, Waiting, WaitingVacant};
    check(&[
        // Standing by or waiting: accepted, whatever the index; our own timer stops (R001.16).
        (Vacant, First(BETTER, 2), ACCEPTED, Under(BETTER), 2),
        (WaitingVacant, First(WORSE, 2), ACCEPTED, Under(WORSE), 2),
        (Under(BETTER), First(WORSE, 10), ACCEPTED, Under(WORSE), 10),
        (Under(WORSE), First(BETTER, 10), ACCEPTED, Under(BETTER), 10),
        (Waiting(BETTER), First(WORSE, 10), ACCEPTED, Under(WORSE), 10),
        (Waiting(WORSE), First(BETTER, 10), ACCEPTED, Under(BETTER), 10),
        // Two of one epoch: the lesser index.
        (Under(WORSE), First(BETTER, 8), ACCEPTED, Under(BETTER), 8),
        (Under(BETTER), First(WORSE, 8), STALE, Under(BETTER), 8),
        (Waiting(BETTER), First(WORSE, 8), ACCEPTED, Under(WORSE), 8),
        // Repeated: the one that was waited for lives.
        (Under(BETTER), First(BETTER, 8), KNOWN, Under(BETTER), 8),
        (Waiting(BETTER), First(BETTER, 8), KNOWN, Under(BETTER), 8),
        // Stands the past and the far future.
        (Under(BETTER), First(WORSE, 6), STALE, Under(BETTER), 8),
        (Waiting(WORSE), First(BETTER, 6), STALE, Waiting(WORSE), 8),
        (Under(BETTER), First(WORSE, 10 + EPOCH_JUMP_MAX), ABSURD, Under(BETTER), 8),
        (Under(BETTER), First(WORSE, u32::MAX), ABSURD, Under(BETTER), 8),
        (Holding, First(BETTER, 10 + EPOCH_JUMP_MAX), ABSURD, Holding, 8),
        // Holding: the index decides (R001.17, R001.18). The winner goes above both epochs.
        (Holding, First(WORSE, 10), revoked(12), Holding, 12),
        (Holding, First(BETTER, 10), DEPOSED, Under(BETTER), 10),
        (Holding, First(BETTER, 8), DEPOSED, Under(BETTER), 8),
        (Holding, First(WORSE, 8), revoked(8), Holding, 8),
        // One that has not heard of us, better or not, learns what the epoch is.
        (Holding, First(BETTER, 6), revoked(8), Holding, 8),
        (Holding, First(WORSE, 6), revoked(8), Holding, 8),
    ]);
}

/// Second messages, and records: R001.21–R001.23.
#[test]
fn every_transition_by_a_second_message() {
    use Input::Second;
    use Stands::{Holding, Under, Vacant, Waiting, WaitingVacant};
    check(&[
        (Vacant, Second(BETTER, 2), ACCEPTED, Under(BETTER), 2),
        (WaitingVacant, Second(WORSE, 4), ACCEPTED, Under(WORSE), 4),
        (Under(WORSE), Second(BETTER, 10), ACCEPTED, Under(BETTER), 10),
        (Under(BETTER), Second(WORSE, 10), ACCEPTED, Under(WORSE), 10),
        (Waiting(WORSE), Second(BETTER, 12), ACCEPTED, Under(BETTER), 12),
        (Under(BETTER), Second(WORSE, 8), STALE, Under(BETTER), 8),
        (Under(WORSE), Second(BETTER, 8), ACCEPTED, Under(BETTER), 8),
        (Under(BETTER), Second(WORSE, 6), STALE, Under(BETTER), 8),
        (Waiting(BETTER), Second(WORSE, 6), STALE, Waiting(BETTER), 8),
        (Waiting(BETTER), Second(BETTER, 8), KNOWN, Under(BETTER), 8),
        (Under(BETTER), Second(BETTER, 12 + EPOCH_JUMP_MAX), ABSURD, Under(BETTER), 8),
        // Ours is revoked, or we revoke again.
        (Holding, Second(WORSE, 10), DEPOSED, Under(WORSE), 10),
        (Holding, Second(BETTER, 10), DEPOSED, Under(BETTER), 10),
        (Holding, Second(BETTER, 8), DEPOSED, Under(BETTER), 8),
        (Holding, Second(WORSE, 8), revoked(8), Holding, 8),
        (Holding, Second(WORSE, 6), revoked(8), Holding, 8),
        (Holding, Second(WORSE, u32::MAX), ABSURD, Holding, 8),
    ]);
}

#[test]
fn an_epoch_that_was_heard_of_is_gone_above_and_outlives_its_holder() {
    let mut office = office(Stands::Under(BETTER));
    office.vacate(at(1));
    assert_eq!(office.on_first(at(2), term(WORSE, 6)), Verdict::Stale, "later than that somebody held it");
    office.hear_of(20);
    office.hear_of(3);
    office.hear_of(u32::MAX);
    assert_eq!(office.declare(at(3), false), Some(term(ME, 22)));
}

#[test]
fn at_the_end_of_all_epochs_nobody_new_declares_itself() {
    let mut office = office(Stands::Vacant);
    for _ in 0..4096 {
        office.hear_of(office.epoch.saturating_add(EPOCH_JUMP_MAX).min(EPOCH_MAX));
    }
    assert_eq!(office.declare(at(1), false), None);
    assert_eq!(office.on_first(at(2), term(BETTER, EPOCH_MAX)), Verdict::Accepted { deposed: false });
}

#[test]
fn another_index_changes_no_holder() {
    let mut ours = office(Stands::Holding);
    ours.set_index(99);
    assert_eq!(ours.holder(), Some(&Term { epoch: 8, index: 99, server: ME }));
    let better = Term { epoch: 8, index: 98, server: WORSE };
    assert_eq!(ours.on_second(at(1), better), Verdict::Accepted { deposed: true });
    let mut theirs = office(Stands::Under(BETTER));
    let changed = Term { index: 77, ..term(BETTER, 8) };
    assert_eq!(theirs.on_second(at(1), changed), Verdict::Known);
    assert_eq!(theirs.holder(), Some(&changed));
}

/// Of any two terms exactly one holds, and who holds against one that holds against a third holds against the third.
#[test]
fn terms_are_in_one_order() {
    let all: Vec<Term<u32>> = [1, 2]
        .into_iter()
        .flat_map(|epoch| [3, 4].map(|index| [BETTER, ME, WORSE].map(|server| Term { epoch, index, server })))
        .flatten()
        .collect();
    for one in &all {
        for other in &all {
            assert_eq!(one.beats(other), one != other && !other.beats(one));
            for third in all.iter().filter(|third| one.beats(other) && other.beats(third)) {
                assert!(one.beats(third));
            }
        }
    }
}

/// Cut off, and back: what was taken for the time being gives way to all that stands.
#[test]
fn what_is_held_for_the_time_being_gives_way() {
    let alone = || {
        let mut office = office(Stands::Waiting(BETTER));
        assert_eq!(office.on_timeout(at(1000), true), Some(term(ME, 7)));
        office
    };
    for stands in [term(BETTER, 8), term(WORSE, 8), term(WORSE, 10)] {
        assert_eq!(alone().on_first(at(1001), stands), Verdict::Accepted { deposed: true });
        assert_eq!(alone().on_record(at(1001), stands), Verdict::Accepted { deposed: true });
    }
    // Of two that are for the time being the index decides.
    assert_eq!(alone().on_first(at(1001), term(WORSE, 7)), Verdict::Revoked(term(ME, 7)));
    assert_eq!(alone().on_first(at(1001), term(BETTER, 7)), Verdict::Accepted { deposed: true });
    // Who waits as well accepts it, and goes back to whom it waited for when that one is heard.
    let mut theirs = office(Stands::Waiting(BETTER));
    assert_eq!(theirs.on_first(at(1), term(WORSE, 7)), Verdict::Accepted { deposed: false });
    assert_eq!(theirs.on_record(at(2), term(BETTER, 8)), Verdict::Accepted { deposed: false });
    // Who does not wait goes on with what stands.
    let mut theirs = office(Stands::Under(BETTER));
    assert_eq!(theirs.on_first(at(1), term(WORSE, 7)), Verdict::Stale);
    // What stands goes above both, and the next thing for the time being below the latest that stood.
    let mut ours = alone();
    assert_eq!(ours.declare(at(1001), false), Some(term(ME, 10)));
    assert_eq!(ours.declare(at(1002), true), Some(term(ME, 9)));
    assert_eq!(office(Stands::Vacant).declare(at(0), true), Some(term(ME, 1)));
}
