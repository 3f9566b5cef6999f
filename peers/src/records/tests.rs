use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::Draw;
use wire::record::{Member, ServerRole};

use super::*;

const ME: ServerId = ServerId([1; 16]);
const OTHER: ServerId = ServerId([2; 16]);
const EPOCH: BootEpoch = BootEpoch(100);
/// Long enough after the epoch of everybody.
const WALL: Wall = Wall(200_000);
const LIVES: u16 = 120;

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn body(roll: u32) -> Body {
    let control = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4016);
    Body::Member(Member { role: ServerRole::Binld, control, roll })
}

fn uid(owner: ServerId, number: u64) -> Uid {
    Uid { owner, kind: RecordKind::Member, number }
}

fn snum(epoch: u32, counter: u32) -> Snum {
    Snum { boot_epoch: BootEpoch(epoch), counter }
}

fn record(owner: ServerId, number: u64, snum: Snum, roll: u32) -> Record {
    Record { uid: uid(owner, number), snum, age: Age(0), lives: LIVES, body: body(roll) }
}

fn deleted(record: &Record) -> Record {
    Record { age: Age::DELETED, ..record.clone() }
}

fn records() -> Records {
    Records::new(ME, EPOCH, 0)
}

#[test]
fn the_newer_copy_stays_whichever_comes_first() {
    let base = record(OTHER, 1, snum(5, 5), 1);
    let same_but = record(OTHER, 1, snum(5, 5), 2);
    let (lesser, greater) =
        if base.checksum() < same_but.checksum() { (base, same_but) } else { (same_but, base) };
    // Each is newer than the one before it.
    let order = [
        record(OTHER, 1, snum(4, 900), 1),
        lesser,
        greater.clone(),
        deleted(&greater),
        record(OTHER, 1, snum(5, 6), 1),
        record(OTHER, 1, snum(6, 0), 1),
    ];
    for (index, newer) in order.iter().enumerate() {
        for older in &order[..index] {
            let mut store = records();
            assert_eq!(store.on_record(at(0), WALL, older), Outcome::News);
            assert_eq!(store.on_record(at(1000), WALL, newer), Outcome::News, "{newer:?} after {older:?}");
            assert_eq!(store.on_record(at(2000), WALL, newer), Outcome::Known);
            let mut reverse = records();
            assert_eq!(reverse.on_record(at(0), WALL, newer), Outcome::News);
            assert_eq!(reverse.on_record(at(1000), WALL, older), Outcome::Older(aged(newer, 1)));
            assert_eq!(store.digest(), reverse.digest());
        }
    }
}

fn aged(record: &Record, seconds: u16) -> Record {
    if record.age == Age::DELETED { record.clone() } else { Record { age: Age(seconds), ..record.clone() } }
}

#[test]
fn a_record_of_ours_is_written_refreshed_changed_and_deleted() {
    let mut store = records();
    let first = store.put(at(0), RecordKind::Member, 7, LIVES, body(1)).unwrap();
    assert_eq!((first.snum, first.age, first.uid), (snum(100, 1), Age(0), uid(ME, 7)));
    assert_eq!(store.put(at(1), RecordKind::Member, 7, LIVES, body(1)), None, "that is said already");
    // Two changes in 200 ms are one, and it waits.
    assert_eq!(store.put(at(100), RecordKind::Member, 7, LIVES, body(2)), None);
    assert_eq!(store.put(at(150), RecordKind::Member, 7, LIVES, body(3)), None);
    assert_eq!(store.next_deadline().unwrap().at, at(200));
    assert_eq!(store.on_timeout(at(200)), [record(ME, 7, snum(100, 2), 3)]);
    assert_eq!(store.on_timeout(at(30_199)), []);
    assert_eq!(store.on_timeout(at(30_200)), [record(ME, 7, snum(100, 3), 3)], "a quarter of its life");
    let gone = store.delete(at(31_000), RecordKind::Member, 7).unwrap();
    assert_eq!(gone, deleted(&record(ME, 7, snum(100, 4), 3)));
    assert_eq!(store.get(&uid(ME, 7), at(31_000)), None);
    assert_eq!(store.delete(at(32_000), RecordKind::Member, 7), None);
    // It is remembered for as long as a copy of it may live, then not at all.
    store.on_timeout(at(31_000 + 179_999));
    assert_eq!(store.len(), 1);
    assert_eq!(store.on_timeout(at(31_000 + 180_000)), []);
    assert!(store.is_empty());
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn a_deletion_that_follows_a_change_too_fast_waits_too() {
    let mut store = records();
    store.put(at(0), RecordKind::Member, 7, LIVES, body(1)).unwrap();
    assert_eq!(store.delete(at(10), RecordKind::Member, 7), None);
    assert_eq!(store.on_timeout(at(200)), [deleted(&record(ME, 7, snum(100, 2), 1))]);
    // Said again: a new version of the same record.
    let again = store.put(at(300), RecordKind::Member, 7, LIVES, body(1)).unwrap();
    assert_eq!(again, record(ME, 7, snum(100, 3), 1));
}

#[test]
fn what_is_not_refreshed_ends_itself_wherever_it_was_copied() {
    let (mut near, mut far) = (records(), Records::new(ServerId([3; 16]), EPOCH, 0));
    let it = record(OTHER, 1, snum(5, 5), 1);
    near.on_record(at(0), WALL, &it);
    // Passed on a minute later, with its age.
    let [copy] = &near.lacking(at(60_000), uid(OTHER, 0)..=uid(OTHER, 9), &[])[..] else { panic!() };
    assert_eq!(copy.age, Age(60));
    far.on_record(at(60_000), WALL, copy);
    for store in [&mut near, &mut far] {
        store.on_timeout(at(119_999));
        assert_eq!(store.len(), 1);
        store.on_timeout(at(120_000));
        assert_eq!((store.len(), store.digest()), (0, 0));
    }
    // A server that was away brings it back: too old.
    let late = Record { age: Age(120), ..it };
    assert_eq!(near.on_record(at(121_000), WALL, &late), Outcome::Refused("too_old"));
}

#[test]
fn what_speaks_for_us_is_disowned() {
    let mut store = records();
    // Of a former life.
    let former = record(ME, 3, snum(99, 8), 1);
    let outcome = store.on_record(at(0), WALL, &former);
    assert_eq!(outcome, Outcome::Disowned(deleted(&record(ME, 3, snum(100, 1), 1))));
    assert!(matches!(store.on_record(at(1), WALL, &former), Outcome::Older(_)));
    // Of this life, and not from us: we go above it.
    store.put(at(1000), RecordKind::Member, 7, LIVES, body(1)).unwrap();
    let forged = record(ME, 7, snum(100, 50), 6);
    let outcome = store.on_record(at(2000), WALL, &forged);
    assert_eq!(outcome, Outcome::Disowned(record(ME, 7, snum(100, 51), 1)));
    // Of a later life: another server with our id, or our store was put back.
    let later = record(ME, 7, snum(101, 0), 6);
    assert_eq!(store.on_record(at(3000), WALL, &later), Outcome::Twin);
    let far = record(ME, 7, snum(100, u32::MAX - 1), 6);
    assert_eq!(store.on_record(at(3000), WALL, &far), Outcome::Twin);
    assert_eq!(store.get(&uid(ME, 7), at(3000)).unwrap().0.body, body(1));
}

#[test]
fn what_no_honest_record_can_be_is_refused() {
    let good = record(OTHER, 1, snum(5, 5), 1);
    // A clock that is a minute ahead is an honest one.
    let ahead = record(OTHER, 2, snum(260, 0), 1);
    let bad = [
        (Record { lives: 0, ..good.clone() }, "lives"),
        (Record { lives: LIVES_MAX + 1, ..good.clone() }, "lives"),
        (Record { age: Age(LIVES), ..good.clone() }, "too_old"),
        (Record { age: Age(u16::MAX - 1), ..good.clone() }, "too_old"),
        (record(OTHER, 1, snum(200 + 86_401, 0), 1), "absurd_snum"),
        (record(OTHER, 1, snum(5, u32::MAX), 1), "absurd_snum"),
        (Record { body: Body::Lowest(ME), ..record(OTHER, 1, snum(5, 5), 1) }, "kind"),
    ];
    let mut store = records();
    for (record, why) in bad {
        assert_eq!(store.on_record(at(0), WALL, &record), Outcome::Refused(why), "{record:?}");
    }
    assert!(store.is_empty());
    assert_eq!(store.on_record(at(0), WALL, &good), Outcome::News);
    assert_eq!(store.on_record(at(0), WALL, &ahead), Outcome::News);
}

#[test]
fn one_owner_and_all_together_are_bounded_and_so_is_their_haste() {
    let mut store = records();
    let count = u64::try_from(OWNED_MAX).unwrap();
    for number in 0..count {
        assert_eq!(store.on_record(at(0), WALL, &record(OTHER, number, snum(5, 5), 1)), Outcome::News);
    }
    let more = record(OTHER, count, snum(5, 5), 1);
    assert_eq!(store.on_record(at(0), WALL, &more), Outcome::Refused("too_many_of_owner"));
    assert_eq!(store.on_record(at(99), WALL, &record(OTHER, 0, snum(5, 6), 1)), Outcome::Refused("too_soon"));
    // A deletion is never too soon: there is only one.
    assert_eq!(store.on_record(at(99), WALL, &deleted(&record(OTHER, 0, snum(5, 7), 1))), Outcome::News);
    assert_eq!(store.on_record(at(100), WALL, &record(OTHER, 1, snum(5, 6), 1)), Outcome::News);
    for owner in 3..200_u8 {
        for number in 0..count {
            store.on_record(at(200), WALL, &record(ServerId([owner; 16]), number, snum(5, 5), 1));
        }
    }
    assert_eq!(store.len(), RECORDS_MAX);
    assert_eq!(
        store.on_record(at(200), WALL, &record(ServerId([250; 16]), 0, snum(5, 5), 1)),
        Outcome::Refused("too_many")
    );
}

/// The join phase: each sends what the other's list lacks, and both have the same, whatever they had before.
#[test]
fn two_lists_bring_two_servers_to_the_same_records() {
    let mut draw = Draw::from_seed(4);
    let all = uid(ServerId([0; 16]), 0)..=Uid { owner: ServerId([255; 16]), ..uid(ME, u64::MAX) };
    for _ in 0..50 {
        let (mut a, mut b) =
            (Records::new(ServerId([8; 16]), EPOCH, 0), Records::new(ServerId([9; 16]), EPOCH, 0));
        let mut newest: BTreeMap<Uid, (Snum, bool)> = BTreeMap::new();
        for _ in 0..60 {
            let it = record(OTHER, draw.below(20), snum(5, u32::try_from(draw.below(6)).unwrap()), 1);
            let it = if draw.chance(200_000) { deleted(&it) } else { it };
            let to_a = draw.chance(500_000);
            let store = if to_a { &mut a } else { &mut b };
            store.on_record(at(0), WALL, &it);
        }
        for store in [&a, &b] {
            for entry in store.entries(at(1000), all.clone(), usize::MAX) {
                let version = (entry.snum, entry.age == Age::DELETED);
                let newest = newest.entry(entry.uid).or_insert(version);
                *newest = version.max(*newest);
            }
        }
        let (of_a, of_b) =
            (a.entries(at(1000), all.clone(), usize::MAX), b.entries(at(1000), all.clone(), usize::MAX));
        let (to_a, to_b) = (b.lacking(at(1000), all.clone(), &of_a), a.lacking(at(1000), all.clone(), &of_b));
        assert_eq!(a.wants_any(&of_b), !to_a.is_empty());
        assert_eq!(b.wants_any(&of_a), !to_b.is_empty());
        for (store, pushed) in [(&mut a, to_a), (&mut b, to_b)] {
            for record in pushed {
                assert_eq!(store.on_record(at(1000), WALL, &record), Outcome::News, "only what is missing");
            }
        }
        assert_eq!(a.digest(), b.digest());
        let live = |store: &Records| -> Vec<Uid> {
            store.of_kind(RecordKind::Member, at(1000)).map(|(record, _)| record.uid).collect()
        };
        assert_eq!(live(&a), live(&b));
        let expected: Vec<Uid> =
            newest.iter().filter(|(_, (_, deleted))| !deleted).map(|(uid, _)| *uid).collect();
        assert_eq!(live(&a), expected);
    }
}
