//! The core of `driver` from outside: time, deadlines, draws, the outbox.

use std::collections::BTreeMap;
use std::time::Duration;

use driver::{Deadline, Deadlines, Draw, Outbox, Time};

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

#[test]
fn spans_are_exact_and_never_negative() {
    assert_eq!(at(1500).as_nanos(), 1_500_000_000);
    assert_eq!(at(1500).since(at(300)), Duration::from_millis(1200));
    assert_eq!(at(300).since(at(1500)), Duration::ZERO);
    assert_eq!(at(5) + Duration::MAX, Time::from_nanos(u64::MAX));
    assert_eq!(format!("{:?}", at(1500)), "1.500000s");
}

#[test]
fn the_earliest_of_two_deadlines_wins_and_the_first_of_two_equal_ones() {
    let deadline = |millis, why| Some(Deadline { at: at(millis), why });
    assert_eq!(Deadline::earliest(deadline(2, "b"), deadline(1, "a")), deadline(1, "a"));
    assert_eq!(Deadline::earliest(deadline(1, "a"), deadline(1, "b")), deadline(1, "a"));
    assert_eq!(Deadline::earliest(None, deadline(1, "a")), deadline(1, "a"));
    assert_eq!(Deadline::earliest(deadline(1, "a"), None), deadline(1, "a"));
    assert_eq!(Deadline::earliest(None, None), None);
}

#[test]
fn deadlines_come_in_order_of_time_then_key() {
    let mut deadlines = Deadlines::default();
    for (key, millis) in [('c', 5), ('a', 5), ('b', 1), ('d', 9)] {
        deadlines.arm(key, at(millis), "test");
    }
    let due: Vec<char> = std::iter::from_fn(|| deadlines.pop_due(at(5))).collect();
    assert_eq!(due, ['b', 'a', 'c']);
    assert_eq!(deadlines.len(), 1);
}

#[test]
fn a_deadline_is_due_at_its_instant_and_not_before() {
    let mut deadlines = Deadlines::default();
    deadlines.arm((), at(10), "test");
    assert_eq!(deadlines.pop_due(Time::from_nanos(at(10).as_nanos() - 1)), None);
    assert_eq!(deadlines.next(), Some(Deadline { at: at(10), why: "test" }));
    assert_eq!(deadlines.pop_due(at(10)), Some(()));
    assert_eq!(deadlines.pop_due(at(10)), None, "a second call is harmless");
}

/// Random arming, disarming and popping against a plain map.
#[test]
fn deadlines_agree_with_a_map() {
    let mut draw = Draw::from_seed(3);
    let mut deadlines = Deadlines::default();
    let mut model = BTreeMap::new();
    let mut popped = 0;
    for _ in 0..20_000 {
        let (key, when) = (draw.below(12), Time::from_nanos(draw.below(50)));
        match draw.below(3) {
            0 => {
                deadlines.arm(key, when, "model");
                model.insert(key, when);
            }
            1 => {
                deadlines.disarm(&key);
                model.remove(&key);
            }
            _ => {
                let first = model.iter().map(|(&key, &at)| (at, key)).min();
                let due = first.filter(|&(at, _)| at <= when).map(|(_, key)| key);
                assert_eq!(deadlines.pop_due(when), due);
                due.map(|key| model.remove(&key));
                popped += usize::from(due.is_some());
            }
        }
        assert_eq!(deadlines.next().map(|deadline| deadline.at), model.values().min().copied());
        assert_eq!((deadlines.len(), deadlines.is_empty()), (model.len(), model.is_empty()));
    }
    assert!(popped > 1000, "{popped} were due");
}

/// A seed printed by a failing run must mean the same next year and on another machine.
#[test]
fn draws_are_the_same_for_ever() {
    let mut draw = Draw::from_seed(0x7078_656d_6300);
    let bits: [u64; 3] = std::array::from_fn(|_| draw.bits());
    assert_eq!(bits, [14_899_879_878_223_648_846, 1_165_571_611_911_623_547, 1_355_488_994_816_731_452]);
    let bytes = [232, 179, 231, 26, 48, 176, 167, 3, 162, 99, 143, 176, 36, 229, 241, 40];
    assert_eq!(draw.bytes16(), bytes);
}

#[test]
fn a_fork_goes_its_own_way() {
    let (mut one, mut two) = (Draw::from_seed(5), Draw::from_seed(5));
    let (mut fork_one, mut fork_two) = (one.fork(), two.fork());
    for _ in 0..100 {
        fork_one.bits();
    }
    assert_eq!(one.bits(), two.bits(), "what a fork draws does not move its parent");
    assert_ne!(one.bits(), fork_two.bits());
}

#[test]
fn draws_reach_all_of_their_range_about_equally() {
    let mut draw = Draw::from_seed(11);
    let mut counts = [0_u32; 7];
    for _ in 0..70_000 {
        counts[usize::try_from(draw.below(7)).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");

    let hits = (0..100_000).filter(|_| draw.chance(250_000)).count();
    assert!((24_000..26_000).contains(&hits), "{hits}");

    let most = Duration::from_millis(100);
    let spans: Vec<Duration> = (0..10_000).map(|_| draw.jitter(most)).collect();
    assert!(spans.iter().all(|&span| span < most));
    assert!(spans.iter().any(|&span| span > most.mul_f64(0.99)));
    assert_eq!(draw.jitter(Duration::ZERO), Duration::ZERO);
}

#[test]
fn actions_come_out_in_the_order_they_went_in() {
    let mut outbox = Outbox::default();
    assert!(outbox.is_empty());
    for action in 1..=3 {
        outbox.push(action);
    }
    assert_eq!(outbox.pop(), Some(1));
    outbox.push(4);
    assert_eq!(outbox.len(), 3);
    assert_eq!(std::iter::from_fn(|| outbox.pop()).collect::<Vec<_>>(), [2, 3, 4]);
}
