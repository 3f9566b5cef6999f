//! One machine against hostile records; small nets in which much goes wrong ([`nets`]).

mod net;
mod nets;

use std::time::Duration;

use wire::record::{ROLL_MAX, RecordKind};

use super::*;
use crate::limits::{
    ROLL_FIRST_MAX, ROLL_GATHERINGS_MAX, ROLL_GONE_MAX, ROLL_JUMP_MAX, ROLL_LIST_LIVES, ROLL_ORIGINS_MAX,
    ROLL_PARTS_MAX, ROLL_PENDING_MAX, ROLL_SETTLE, ROLL_TOLD_MAX, ROLL_VERSION_MAX, ROLL_WORD_LIVES,
};
use net::sample;

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn id(number: u16) -> ServerId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ServerId(bytes)
}

fn list(version: u32, members: &[u16]) -> List {
    List::new(version, members.iter().map(|number| id(*number)).collect()).unwrap()
}

const ME: u16 = 100;

/// Joined, with these living, since long ago.
fn machine(stored: Stored, living: &[u16]) -> Roll {
    let mut roll = Roll::recover(id(ME), stored);
    know(&mut roll, at(0), living);
    know(&mut roll, at(2000), living);
    drop(outputs(&mut roll));
    roll
}

fn know(roll: &mut Roll, now: Time, living: &[u16]) {
    let living = living.iter().map(|number| id(*number)).collect();
    roll.on_knowledge(now, true, &living);
}

fn outputs(roll: &mut Roll) -> Vec<Output> {
    std::iter::from_fn(|| roll.next_output()).collect()
}

fn counts(roll: &mut Roll) -> Vec<&'static str> {
    let count = |output| match output {
        Output::Count("dropped.roll", what) => Some(what),
        Output::Count(..)
        | Output::Store(_)
        | Output::Publish(..)
        | Output::Withdraw(_)
        | Output::Tell(_) => None,
    };
    outputs(roll).into_iter().filter_map(count).collect()
}

fn uid(owner: u16, number: u64) -> Uid {
    Uid { owner: id(owner), kind: RecordKind::Domain, number }
}

fn hear(roll: &mut Roll, owner: u16, list: &List) {
    for (number, part) in list.parts() {
        roll.on_record(at(10), uid(owner, number), Some(&part));
    }
}

/// Of which all lists here come.
const ORIGIN: Digest = Digest([0x0f; 16]);

fn origins(own: &[Digest]) -> Origins {
    Origins { own: own.iter().copied().collect(), all: own.iter().copied().collect() }
}

fn in_force(list: &List) -> Stored {
    Stored { current: Some(list.clone()), origins: origins(&[ORIGIN]), ..Stored::default() }
}

fn many(count: u16) -> Vec<u16> {
    (1..=count).collect()
}

/// Golden: all members must reckon alike, whatever version of the program they run.
#[test]
fn owners_and_digests_never_change() {
    let group: GroupAddr = "239.255.220.102".parse().unwrap();
    let server = ServerId(std::array::from_fn(|byte| u8::try_from(byte * 16 + 1).unwrap()));
    assert_eq!(crate::rendezvous::rendezvous(group, &server), 17_728_334_709_184_234_751);
    assert_eq!(list(7, &many(5)).owner(group), Some(id(4)));
    assert_eq!(
        list(7, &many(5)).digest().0,
        [151, 240, 80, 117, 59, 83, 221, 107, 4, 29, 180, 250, 193, 214, 126, 240]
    );
    let long = list(7, &many(1000));
    assert_eq!(long.digest().0, [1, 98, 208, 90, 72, 175, 62, 72, 154, 148, 21, 199, 186, 84, 231, 145]);
    // Each has about a fifth of the pool, and who is added takes only what becomes its own.
    let (five, six) = (list(7, &many(5)), list(8, &many(6)));
    let shares = (1..=5).map(|one| sample().filter(|group| five.owner(*group) == Some(id(one))).count());
    assert!(shares.clone().all(|share| (20..=60).contains(&share)), "{:?}", shares.collect::<Vec<_>>());
    assert!(sample().all(|group| six.owner(group) == five.owner(group) || six.owner(group) == Some(id(6))));
}

#[test]
fn lists_are_told_apart_and_checked() {
    assert_ne!(list(7, &[1, 2]).digest(), list(8, &[1, 2]).digest());
    assert_ne!(list(7, &[1, 2]).digest(), list(7, &[1, 3]).digest());
    for (version, members) in
        [(0, vec![1]), (u32::MAX, vec![1]), (1, vec![]), (1, vec![2, 1]), (1, vec![1, 1])]
    {
        let members = members.into_iter().map(id).collect();
        assert_eq!(List::new(version, members), None);
    }
    assert_eq!(List::new(1, many(1001).into_iter().map(id).collect()), None);
}

#[test]
fn what_hundreds_say_at_once_is_looked_at_once() {
    let (one, two) = (list(7, &many(300)), list(8, &many(299)));
    let mut roll = machine(in_force(&one), &[1]);
    for (number, part) in two.parts() {
        roll.on_record(at(2001), uid(1, number), Some(&part));
    }
    assert_eq!(roll.held().pending, []);
    assert_eq!(roll.next_deadline().map(|due| due.at), Some(at(2003)));
    roll.on_timeout(at(2003));
    assert_eq!(roll.held().pending, [two]);
}

#[test]
fn a_thousand_members_travel_in_parts_in_any_order() {
    let (one, two) = (list(7, &many(1000)), list(8, &many(999)));
    let mut roll = machine(Stored::default(), &[1]);
    let mut parts: Vec<_> = one.parts().into_iter().chain(two.parts()).collect();
    assert_eq!(parts.len(), 28);
    parts.reverse();
    for (number, part) in &parts {
        assert!(part.members.len() <= ROLL_MAX);
        roll.on_record(at(10), uid(1, *number), Some(part));
    }
    assert_eq!(roll.held().pending.last(), Some(&two));
    let kept: Vec<&List> = roll.gatherings.lists().map(|(_, list)| list).collect();
    assert!(kept.contains(&&one) && kept.contains(&&two) && roll.gatherings.len() == 2);
    // One part is missing for ever.
    let mut roll = machine(Stored::default(), &[1]);
    parts.pop();
    parts.retain(|(number, _)| number >> 8 == one.tag());
    parts.iter().for_each(|(number, part)| roll.on_record(at(10), uid(1, *number), Some(part)));
    assert_eq!(roll.held(), &Stored::default());
}

#[test]
fn hostile_parts_are_dropped_and_counted() {
    let good = list(7, &[1, 2]);
    let (number, part) = good.parts().into_iter().next().unwrap();
    let base = number & !0xff;
    let parts = u8::try_from(ROLL_PARTS_MAX + 1).unwrap();
    let part = &part;
    let hostile: [(u64, Part, &str); 6] = [
        (base, Part { parts, ..part.clone() }, "parts"),
        (base, Part { part: 1, parts: 2, ..part.clone() }, "parts"),
        (base, Part { part: 1, ..part.clone() }, "parts"),
        (base, Part { version: 8, ..part.clone() }, "list"),
        (base, Part { members: vec![id(2), id(1)], ..part.clone() }, "list"),
        (base, Part { members: Vec::new(), ..part.clone() }, "list"),
    ];
    let mut roll = machine(Stored::default(), &[1]);
    for (number, part, why) in hostile {
        roll.on_record(at(10), uid(1, number), Some(&part));
        assert_eq!(counts(&mut roll), [why], "{part:?}");
        assert_eq!((roll.gatherings.len(), roll.held()), (0, &Stored::default()));
    }
    // Parts that do not fit each other.
    let first = Part { parts: 3, ..part.clone() };
    let other = Part { part: 1, parts: 2, ..part.clone() };
    roll.on_record(at(10), uid(1, base), Some(&first));
    roll.on_record(at(10), uid(1, base + 1), Some(&other));
    assert_eq!((counts(&mut roll), roll.gatherings.len()), (vec!["parts"], 0));
    // Our own records are not taken from others.
    hear(&mut roll, ME, &good);
    roll.on_record(at(10), uid(1, 0), None);
    assert_eq!((roll.gatherings.len(), outputs(&mut roll)), (0, vec![]));
    hear(&mut roll, 1, &good);
    assert_eq!(roll.held().pending, [good]);
}

#[test]
fn tables_are_bounded() {
    let base = list(7, &[1, 2, ME]);
    let mut roll = machine(in_force(&base), &[1]);
    let half = |number: u16| list(9, &many(200 + number)).parts().into_iter().next().unwrap();
    for number in 0..100 {
        let (number, part) = half(number);
        roll.on_record(at(10), uid(1, number), Some(&part));
    }
    assert_eq!(roll.gatherings.len(), ROLL_GATHERINGS_MAX);
    assert_eq!(counts(&mut roll), vec!["too_many"; 100 - ROLL_GATHERINGS_MAX]);
    // The dead make room for the living.
    know(&mut roll, at(20), &[2]);
    let next = list(8, &[1, 2, 3, ME]);
    hear(&mut roll, 2, &next);
    assert_eq!(roll.held().pending, [next]);

    let say = |roll: &mut Roll, owner, version, members: Vec<ServerId>, number| {
        let said = Part { version, part: 0, parts: FLAGS, members };
        roll.on_record(at(30), uid(owner, number), Some(&said));
    };
    let leave = |roll: &mut Roll, owner, version| {
        let said = Part { version, part: LEFT, parts: FLAGS, members: vec![id(0)] };
        roll.on_record(at(30), uid(owner, WORD), Some(&said));
    };
    for owner in 1000..3000 {
        say(&mut roll, owner, 1, vec![id(owner)], WORD);
        leave(&mut roll, owner, 1);
    }
    for owner in 5000..7000 {
        say(&mut roll, owner, 1, vec![id(owner)], WORD);
    }
    assert_eq!((roll.words.len(), roll.gone.len()), (ROLL_TOLD_MAX, ROLL_GONE_MAX));
    // Members are not pushed out.
    leave(&mut roll, 1, 7);
    say(&mut roll, 2, 7, vec![id(9)], WORD);
    for owner in 8000..10_000 {
        say(&mut roll, owner, 1, vec![id(owner)], WORD);
        say(&mut roll, 2, 1, vec![id(0), id(owner)], 2);
    }
    assert!(roll.words.contains_key(&id(2)) && roll.gone.contains_key(&id(1)));
    assert_eq!((roll.words.len(), roll.gone.len()), (ROLL_TOLD_MAX, ROLL_GONE_MAX));
    let crowd: Vec<u16> = (1..5000).collect();
    know(&mut roll, at(40), &crowd);
    assert_eq!(roll.living.len(), ROLL_TOLD_MAX);
}

#[test]
fn an_absurd_version_ends_nothing() {
    let base = list(7, &[1, 2, ME]);
    let mut roll = machine(in_force(&base), &[1]);
    for version in [ROLL_VERSION_MAX, 7 + ROLL_JUMP_MAX + 1, 7, 6] {
        hear(&mut roll, 1, &list(version, &[1, 2, ME]));
        let held = if version == 7 { roll.held().pending.len() } else { 0 };
        assert_eq!(roll.held().pending.len(), held, "{version}");
    }
    let mut roll = machine(in_force(&base), &[1]);
    // Who is said to be gone as of such a version is not.
    roll.on_record(
        at(10),
        uid(1, 1 << 33),
        Some(&Part { version: u32::MAX, part: 0, parts: 1, members: vec![id(0), id(2)] }),
    );
    assert_eq!((roll.gone(&id(2)), counts(&mut roll)), (None, vec!["version"]));
    hear(&mut roll, 1, &list(7 + ROLL_JUMP_MAX, &[1, 2, 3, ME]));
    assert_eq!(roll.held().pending.len(), 1);
    let mut new = machine(Stored::default(), &[1]);
    hear(&mut new, 1, &list(ROLL_FIRST_MAX + 1, &[1, 2]));
    assert_eq!(new.held().pending, []);
    hear(&mut new, 1, &list(ROLL_FIRST_MAX, &[1, 2]));
    assert_eq!(new.held().pending.len(), 1);
    // At the end of all versions nothing is proposed any more, and nothing breaks.
    let mut last = machine(in_force(&list(ROLL_VERSION_MAX, &[ME])), &[200]);
    know(&mut last, at(60_000), &[200]);
    assert!(outputs(&mut last).contains(&Output::Count("roll", "no_list_possible")));
    assert_eq!(last.held().pending, []);
}

#[test]
fn lists_are_taken_up_from_the_living_only_and_so_many_at_most() {
    let base = list(7, &[1, 2, ME]);
    let mut roll = machine(in_force(&base), &[]);
    let greater = |number: u16| list(u32::from(8 + number), &[1, 2, 3 + number, ME]);
    hear(&mut roll, 1, &greater(0));
    assert_eq!(roll.held(), &in_force(&base));
    know(&mut roll, at(20), &[1]);
    assert_eq!(roll.held().pending, [greater(0)]);
    let maps: BTreeSet<u64> = (1..30)
        .map(|number| {
            hear(&mut roll, 1, &greater(number));
            roll.map_version()
        })
        .collect();
    assert_eq!((roll.held().pending.len(), maps.len()), (ROLL_PENDING_MAX, ROLL_PENDING_MAX - 1));
    assert!(counts(&mut roll).contains(&"too_many_pending"));
    // One that is in force elsewhere makes room.
    let last = greater(29);
    let said = Part {
        version: 37,
        part: 7 | 1 << 4,
        parts: FLAGS,
        members: vec![ServerId(last.digest().0), ServerId(ORIGIN.0)],
    };
    roll.on_record(at(30), uid(1, WORD), Some(&said));
    roll.on_stored(at(30), true);
    roll.on_stored(at(40), true);
    assert_eq!(roll.held(), &in_force(&last));
}

/// The order of a change: store, tell, and again.
#[test]
fn nothing_is_told_before_it_is_stored() {
    let base = list(7, &[ME, 200]);
    let next = list(8, &[ME, 200, 201]);
    let mut roll = machine(in_force(&base), &[200, 201]);
    know(&mut roll, at(5000), &[200, 201]);
    let pending = Stored { pending: vec![next.clone()], ..in_force(&base) };
    assert_eq!(
        outputs(&mut roll),
        [Output::Tell(News::Pending(8)), Output::Store(pending.clone())],
        "proposed when it has lived for {ROLL_SETTLE:?}"
    );
    // The store fails: it is tried again, and nothing is told.
    roll.on_stored(at(5100), false);
    assert_eq!((outputs(&mut roll), roll.next_deadline().map(|it| it.at)), (vec![], Some(at(6100))));
    roll.on_timeout(at(6100));
    assert_eq!(outputs(&mut roll), [Output::Store(pending)]);
    roll.on_stored(at(6200), true);
    let digest = ServerId(next.digest().0);
    let word = |part| Part {
        version: 8,
        part: part | 1 << 4,
        parts: FLAGS,
        members: vec![digest, ServerId(ORIGIN.0)],
    };
    let told = outputs(&mut roll);
    assert!(told.contains(&Output::Publish(WORD, ROLL_WORD_LIVES, word(ROOTED))), "{told:?}");
    let whole = Part { version: 8, part: 0, parts: 1, members: next.members().to_vec() };
    assert!(told.contains(&Output::Publish(next.tag() << 8, ROLL_LIST_LIVES, whole)), "{told:?}");
    // All have it; all know that all have it; it is in force, stored, and told.
    for (owner, flags) in [(200, ROOTED), (201, 0)] {
        roll.on_record(at(6300), uid(owner, WORD), Some(&word(flags)));
    }
    assert_eq!(outputs(&mut roll), [Output::Publish(WORD, ROLL_WORD_LIVES, word(ROOTED | READY))]);
    for (owner, flags) in [(200, ROOTED | READY), (201, READY)] {
        assert_eq!(roll.version(), 7);
        roll.on_record(at(6400), uid(owner, WORD), Some(&word(flags)));
    }
    assert_eq!(outputs(&mut roll), [Output::Tell(News::InForce(8)), Output::Store(in_force(&next))]);
    assert_eq!(roll.version(), 8);
    roll.on_stored(at(6500), true);
    assert_eq!(outputs(&mut roll), [Output::Publish(WORD, ROLL_WORD_LIVES, word(ROOTED | READY | SETTLED))]);
}

/// A list came into force at others that leaves out a member which nobody calls gone.
#[test]
fn who_is_in_no_list_any_more_keeps_none_from_coming_into_force() {
    let (base, next, last) = (list(7, &[50, ME, 200]), list(8, &[ME, 200]), list(9, &[ME, 200, 201]));
    let mut roll = machine(in_force(&base), &[200, 201]);
    let word = |list: &List, part| Part {
        version: list.version(),
        part: part | 1 << 4,
        parts: FLAGS,
        members: vec![ServerId(list.digest().0), ServerId(ORIGIN.0)],
    };
    let says = |roll: &mut Roll, owner, list: &List, flags| {
        roll.on_record(at(3000), uid(owner, WORD), Some(&word(list, flags)));
    };
    hear(&mut roll, 200, &next);
    roll.on_stored(at(2100), true);
    says(&mut roll, 200, &next, ROOTED);
    assert_eq!(roll.version(), 7, "the first one has not spoken");
    says(&mut roll, 200, &next, ROOTED | READY | SETTLED);
    assert_eq!(roll.version(), 8);
    roll.on_stored(at(2200), true);
    hear(&mut roll, 200, &last);
    roll.on_stored(at(2300), true);
    drop(outputs(&mut roll));
    says(&mut roll, 200, &last, ROOTED);
    says(&mut roll, 201, &last, 0);
    let ready = Output::Publish(WORD, ROLL_WORD_LIVES, word(&last, ROOTED | READY));
    assert_eq!(outputs(&mut roll), [ready]);
}

/// Who is struck off has to agree while it lives; who left has not.
#[test]
fn the_gone_are_excused() {
    let base = list(7, &[ME, 200]);
    let mut roll = machine(in_force(&base), &[200]);
    know(&mut roll, at(5000), &[200]);
    assert!(roll.strike_off(at(5000), id(200)));
    let told = outputs(&mut roll);
    let word = Part { version: 7, part: 0, parts: 1, members: vec![ServerId(base.digest().0), id(200)] };
    let number = told.iter().find_map(|output| match output {
        Output::Publish(number, ..) if *number != WORD && !is_part(*number) => Some(*number),
        Output::Publish(..)
        | Output::Store(_)
        | Output::Withdraw(_)
        | Output::Count(..)
        | Output::Tell(_) => None,
    });
    let number = number.unwrap();
    assert!(told.contains(&Output::Publish(number, ROLL_WORD_LIVES, word)), "{told:?}");
    roll.on_stored(at(5100), true);
    know(&mut roll, at(5200), &[200]);
    assert_eq!((roll.version(), roll.held().pending.len()), (7, 1));
    know(&mut roll, at(5300), &[]);
    assert_eq!((roll.version(), roll.held().pending.len()), (8, 0));
    assert!(outputs(&mut roll).contains(&Output::Withdraw(number)), "no more to be said");

    let mut roll = machine(in_force(&base), &[200]);
    know(&mut roll, at(5000), &[200]);
    let left = Part { version: 7, part: LEFT, parts: 1, members: vec![ServerId(base.digest().0)] };
    roll.on_record(at(5000), uid(200, WORD), Some(&left));
    roll.on_stored(at(5100), true);
    assert_eq!((roll.version(), roll.held().pending.len()), (8, 0));
    // It is silent only in a while, and is not taken in meanwhile.
    know(&mut roll, at(9000), &[200]);
    assert_eq!(roll.held().pending, []);
    let said = Part { version: 8, part: 0, parts: FLAGS, members: vec![ServerId([1; 16])] };
    roll.on_record(at(9000), uid(200, WORD), Some(&said));
    assert_eq!(roll.held().pending, [list(9, &[ME, 200])]);
}

/// A list that was on its way when we left, or an operator struck somebody off, takes both in again.
#[test]
fn a_list_that_crosses_a_farewell_is_followed_by_another() {
    let base = list(7, &[1, 2, ME]);
    let crossing = list(8, &[1, 2, 3, ME]);
    let mut roll = machine(in_force(&base), &[1]);
    roll.leave(at(2010));
    roll.on_stored(at(2020), true);
    let farewell = |list: &List| Part {
        version: list.version(),
        part: ROOTED | READY | SETTLED | LEFT | 1 << 4,
        parts: FLAGS,
        members: vec![ServerId(list.digest().0), ServerId(ORIGIN.0)],
    };
    assert!(outputs(&mut roll).contains(&Output::Publish(WORD, ROLL_WORD_LIVES, farewell(&base))));
    hear(&mut roll, 1, &crossing);
    roll.on_stored(at(2030), true);
    let told = outputs(&mut roll);
    assert!(
        told.iter().any(|it| matches!(it, Output::Publish(WORD, _, word) if word.version == 8)),
        "{told:?}"
    );
    assert!(!told.contains(&Output::Tell(News::MayEnd)));
    let without = list(9, &[1, 2, 3]);
    let members = vec![ServerId(without.digest().0), ServerId(ORIGIN.0)];
    roll.on_record(
        at(2030),
        uid(1, WORD),
        Some(&Part { version: 9, part: ROOTED | 1 << 4, parts: FLAGS, members }),
    );
    hear(&mut roll, 1, &without);
    assert!(outputs(&mut roll).contains(&Output::Tell(News::MayEnd)));
    assert!(roll.held().left, "until the next life");
    assert!(!Roll::recover(id(ME), roll.held().clone()).held().left);
    // Nobody cares.
    let mut roll = machine(in_force(&base), &[1]);
    roll.leave(at(2010));
    roll.on_stored(at(2020), true);
    assert!(!outputs(&mut roll).contains(&Output::Tell(News::MayEnd)));
    roll.on_timeout(roll.next_deadline().unwrap().at);
    assert!(outputs(&mut roll).contains(&Output::Tell(News::MayEnd)));

    let mut roll = machine(in_force(&base), &[1]);
    assert!(roll.strike_off(at(2010), id(2)));
    assert_eq!(roll.gone(&id(2)), Some(Gone::Struck));
    hear(&mut roll, 1, &crossing);
    assert_eq!(roll.gone(&id(2)), None);
    let told = outputs(&mut roll);
    assert!(told.contains(&Output::Tell(News::NotStruck(id(2)))), "{told:?}");
}

/// Lists that were begun apart: one without us is not for us, unless those we agreed with have taken it up.
#[test]
fn what_was_agreed_upon_is_not_given_up_for_strangers() {
    let base = list(7, &[1, 2, ME]);
    let strange = list(9, &[5, 6]);
    let word = |list: &List, part, origin: Digest| {
        let members = vec![ServerId(list.digest().0), ServerId(origin.0)];
        Part { version: list.version(), part: part | 1 << 4, parts: FLAGS, members }
    };
    let (other, all) = (Digest([0x0e; 16]), ROOTED | READY | SETTLED);
    let mut roll = machine(in_force(&base), &[1, 2, 5, 6]);
    hear(&mut roll, 5, &strange);
    roll.on_record(at(10), uid(5, WORD), Some(&word(&strange, all, other)));
    assert_eq!(roll.held(), &in_force(&base));
    let group = sample().find(|group| base.owner(*group) == Some(id(ME))).unwrap();
    assert_eq!(roll.slice(group), Slice::Moving, "until there is a union");
    // The union has us, but is not in force before those agree with whom we agreed upon the last one.
    let union = list(10, &[1, 2, 5, 6, ME]);
    hear(&mut roll, 5, &union);
    roll.on_stored(at(20), true);
    for owner in [5, 6] {
        roll.on_record(at(20), uid(owner, WORD), Some(&word(&union, all, other)));
    }
    roll.on_record(at(20), uid(1, WORD), Some(&word(&union, READY | ROOTED, ORIGIN)));
    assert_eq!((roll.version(), roll.held().pending.len()), (7, 1));
    roll.on_record(at(20), uid(2, WORD), Some(&word(&union, READY | ROOTED, ORIGIN)));
    assert_eq!((roll.version(), &roll.held().origins), (10, &origins(&[other, ORIGIN])));
    // Who is of our origin has left us out.
    let mut roll = machine(in_force(&base), &[1, 2, 5, 6]);
    hear(&mut roll, 5, &strange);
    roll.on_record(at(10), uid(1, WORD), Some(&word(&strange, ROOTED, ORIGIN)));
    assert_eq!(roll.held().pending, [strange]);
    // Origins are bounded.
    let many: Vec<Digest> = (0..100).map(|number| Digest([number; 16])).collect();
    let mut many = origins(&many);
    many.bound();
    assert_eq!((many.own.len(), many.all.len()), (ROLL_ORIGINS_MAX, ROLL_ORIGINS_MAX));
}

/// Two lists of one version: only a greater one takes in again who is gone.
#[test]
fn of_two_lists_of_one_version_one_is_greater() {
    let base = list(7, &[1, 2, ME]);
    let mut lists = [list(8, &[1, 3, ME]), list(8, &[1, 2, 3, ME])];
    lists.sort_by_key(List::rank);
    for (struck_at, taken) in [(1, 0), (0, 1)] {
        let mut roll = machine(in_force(&base), &[1]);
        roll.held.pending.push(lists[struck_at].clone());
        assert!(roll.strike_off(at(2010), id(2)));
        assert_eq!(roll.gone(&id(2)), Some(Gone::Struck));
        hear(&mut roll, 1, &lists[taken]);
        let is_back = taken > struck_at && lists[taken].holds(&id(2));
        assert_eq!(roll.gone(&id(2)).is_none(), is_back);
        assert_eq!(roll.held().pending.len(), 1 + usize::from(taken > struck_at));
    }
}

#[test]
fn every_address_has_an_answer() {
    let group = sample().next().unwrap();
    let owner = |list: &List| list.owner(group).unwrap();
    // Nothing has been agreed upon, here or anywhere.
    let mut roll = machine(Stored::default(), &[1]);
    assert_eq!(roll.slice(group), Slice::Unlisted);
    let said = Part { version: 3, part: ROOTED, parts: FLAGS, members: vec![id(1)] };
    roll.on_record(at(10), uid(1, WORD), Some(&said));
    assert_eq!(roll.slice(group), Slice::Moving, "the others have a list");
    // A list without us: its owner is to be asked.
    let theirs = list(7, &[1, 2, 3]);
    let of_theirs = Slice::Of(owner(&theirs));
    hear(&mut roll, 1, &theirs);
    assert_eq!(roll.slice(group), of_theirs);
    assert_eq!(machine(in_force(&theirs), &[1]).slice(group), of_theirs);
    // Two lists, two owners.
    let other =
        (4..99).map(|number| list(8, &[1, 2, 3, number])).find(|it| owner(it) != owner(&theirs)).unwrap();
    let both = Stored { pending: vec![other], ..in_force(&theirs) };
    assert_eq!(machine(both, &[1]).slice(group), Slice::Moving);
    // Ours, when we know what the others know, and have not left.
    let mine = list(7, &[ME]);
    let mut roll = Roll::recover(id(ME), in_force(&mine));
    assert_eq!(roll.slice(group), Slice::Moving);
    let map = roll.map_version();
    roll.on_knowledge(at(0), false, &BTreeSet::from([id(1)]));
    assert_eq!((roll.slice(group), roll.map_version()), (Slice::Moving, map));
    roll.on_knowledge(at(1999), true, &BTreeSet::from([id(1)]));
    assert_eq!(
        (roll.slice(group), roll.map_version()),
        (Slice::Moving, map),
        "the first may have been started with us"
    );
    roll.on_knowledge(at(2000), true, &BTreeSet::from([id(1)]));
    assert_eq!(roll.slice(group), Slice::Ours);
    assert_ne!(roll.map_version(), map);
    roll.leave(at(10));
    assert_eq!(roll.slice(group), Slice::Moving);
    // The first list of all, which others have still to take up: what is not ours by it is left alone.
    let first = Stored { pending: vec![list(1, &[1, ME])], ..Stored::default() };
    let roll = machine(first, &[]);
    let answers: BTreeSet<bool> = sample()
        .map(|group| match roll.slice(group) {
            Slice::Unlisted => true,
            Slice::Of(owner) => owner != id(1),
            Slice::Ours | Slice::Moving => panic!("{group}"),
        })
        .collect();
    assert_eq!(answers, BTreeSet::from([true, false]));
}
