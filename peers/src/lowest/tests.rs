//! Many machines on one simulated link; one machine against hostile records.

use std::collections::BTreeMap;

use driver::Deadlines;

use super::*;
use crate::limits::HELLO_INTERVAL;

const DOMAIN: DomainId = DomainId([7; 16]);
const LAN: Constants = Constants::LAN;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// An id whose place in the space is `byte` of 256.
fn id(byte: u8) -> ServerId {
    ServerId([byte; 16])
}

fn record(version: u32, lowest: ServerId) -> Record {
    let uid = Uid { owner: ServerId(DOMAIN.0), kind: RecordKind::Lowest, number: 0 };
    let snum = Snum { boot_epoch: BootEpoch(0), counter: version };
    Record { uid, snum, age: Age(0), lives: LAN.lives, body: Body::Lowest(lowest) }
}

fn told(record: &Record) -> ServerId {
    let Body::Lowest(lowest) = record.body else { panic!("{record:?}") };
    lowest
}

struct Node {
    id: ServerId,
    lowest: Lowest,
    perceptions: Perceptions,
    draw: Draw,
    alive: bool,
    /// Who is on the same side hears each other.
    side: usize,
}

#[derive(Clone)]
enum Event {
    Record {
        from: usize,
        to: usize,
        cast: Cast,
        record: Record,
    },
    Hello {
        from: usize,
    },
    /// Wakes the loop up.
    Nothing,
}

/// Machines on one link. A datagram takes 1–20 ms to each receiver, and is lost on the way to each of its own accord.
struct World {
    constants: Constants,
    now: Time,
    nodes: Vec<Node>,
    events: BTreeMap<(Time, u64), Event>,
    event_count: u64,
    timers: Deadlines<usize>,
    draw: Draw,
    loss_ppm: u32,
    hellos: bool,
    /// Records that machines flooded.
    sent: usize,
    /// Records that went to one neighbour, or were passed on from one.
    synced: usize,
}

impl World {
    fn new(constants: Constants, count: usize, loss_ppm: u32, seed: u64) -> Self {
        let mut world = Self {
            constants,
            now: at(1),
            nodes: Vec::new(),
            events: BTreeMap::new(),
            event_count: 0,
            timers: Deadlines::default(),
            draw: Draw::from_seed(seed),
            loss_ppm,
            hellos: loss_ppm > 0,
            sent: 0,
            synced: 0,
        };
        for _ in 0..count {
            let id = ServerId(world.draw.bytes16());
            world.join(id);
        }
        world
    }

    fn join(&mut self, id: ServerId) -> usize {
        let mut draw = self.draw.fork();
        let lowest = Lowest::new(DOMAIN, id, self.constants, self.now, &mut draw);
        let perceptions = Perceptions::new(self.constants);
        self.nodes.push(Node { id, lowest, perceptions, draw, alive: true, side: 0 });
        let index = self.nodes.len() - 1;
        self.arm(index);
        let first = self.draw.jitter(HELLO_INTERVAL);
        self.push(first, Event::Hello { from: index });
        index
    }

    fn push(&mut self, delay: Duration, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now + delay, self.event_count), event);
    }

    fn arm(&mut self, index: usize) {
        let node = &self.nodes[index];
        let deadline = Deadline::earliest(node.lowest.next_deadline(), node.perceptions.next_deadline());
        match deadline {
            Some(deadline) if node.alive => self.timers.arm(index, deadline.at, deadline.why),
            _ => self.timers.disarm(&index),
        }
    }

    fn reaches(&mut self, from: usize, to: usize) -> bool {
        let (a, b) = (&self.nodes[from], &self.nodes[to]);
        from != to && a.side == b.side && b.alive && (self.loss_ppm == 0 || !self.draw.chance(self.loss_ppm))
    }

    fn send(&mut self, from: usize, to: usize, cast: Cast, record: &Record) {
        if self.reaches(from, to) {
            let delay = Duration::from_millis(1) + self.draw.jitter(Duration::from_millis(19));
            self.push(delay, Event::Record { from, to, cast, record: record.clone() });
        }
    }

    fn flood(&mut self, from: usize, record: &Record) {
        self.sent += 1;
        self.multicast(from, record);
    }

    fn multicast(&mut self, from: usize, record: &Record) {
        (0..self.nodes.len()).for_each(|to| self.send(from, to, Cast::Multicast, record));
    }

    fn unicast(&mut self, from: usize, to: usize, record: &Record) {
        self.synced += 1;
        self.send(from, to, Cast::Unicast, record);
    }

    fn deliver(&mut self, from: usize, to: usize, cast: Cast, record: &Record) {
        let node = &mut self.nodes[to];
        if !node.alive {
            return;
        }
        let verdict = node.lowest.on_record(self.now, record, cast, &mut node.draw);
        match verdict {
            Verdict::New if cast == Cast::Unicast => {
                self.synced += 1;
                self.multicast(to, record);
            }
            Verdict::New | Verdict::Same | Verdict::Old => {}
            Verdict::Back(ours) => self.unicast(to, from, &ours),
            Verdict::Flood(ours) => self.flood(to, &ours),
            Verdict::Refused(Refusal::Expired) => {}
            Verdict::Refused(refusal) => panic!("{refusal:?}: {record:?}"),
        }
        self.arm(to);
    }

    fn hello(&mut self, from: usize) {
        self.push(HELLO_INTERVAL, Event::Hello { from });
        let (peer, tells) = (self.nodes[from].id, self.nodes[from].lowest.heard().lowest);
        if !self.hellos || !self.nodes[from].alive {
            return;
        }
        for to in 0..self.nodes.len() {
            if self.reaches(from, to) {
                let node = &mut self.nodes[to];
                let ours = node.lowest.heard();
                node.perceptions.on_hello(self.now, peer, tells, ours, &mut node.draw);
                if tells != ours.lowest {
                    self.arm(to);
                }
            }
        }
    }

    fn timeout(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let record = node.lowest.on_timeout(self.now, &mut node.draw);
        let ours = node.lowest.heard();
        let mismatch = node.perceptions.next_mismatch(self.now, ours, &mut node.draw);
        let copy = node.lowest.record(self.now);
        if let Some(record) = record {
            self.flood(index, &record);
        }
        if let (Some(peer), Some(copy)) = (mismatch, copy) {
            let to = self.nodes.iter().position(|node| node.id == peer).unwrap();
            self.unicast(index, to, &copy);
        }
        self.arm(index);
    }

    fn step(&mut self) {
        let event = self.events.first_key_value().map(|(key, _)| *key);
        let timer = self.timers.next().map(|deadline| deadline.at);
        if let Some(key) = event.filter(|(at, _)| timer.is_none_or(|timer| *at <= timer)) {
            self.now = key.0;
            match self.events.remove(&key).unwrap() {
                Event::Record { from, to, cast, record } => self.deliver(from, to, cast, &record),
                Event::Hello { from } => self.hello(from),
                Event::Nothing => {}
            }
        } else if let Some(timer) = timer {
            assert!(timer >= self.now || self.now == at(1), "a deadline in the past");
            self.now = self.now.max(timer);
            let index = self.timers.pop_due(self.now).unwrap();
            self.timeout(index);
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.push(span, Event::Nothing);
        while self.now < end {
            self.step();
        }
    }

    /// The living of a side, the lowest first.
    fn members(&self, side: usize) -> Vec<usize> {
        let mut members: Vec<_> = (0..self.nodes.len()).collect();
        members.retain(|index| self.nodes[*index].alive && self.nodes[*index].side == side);
        members.sort_by_key(|index| self.nodes[*index].id);
        members
    }

    fn is_agreed(&self, members: &[usize]) -> bool {
        let lowest = members.first().map(|index| self.nodes[*index].id);
        members.iter().all(|index| Some(self.nodes[*index].lowest.heard().lowest) == lowest)
    }

    /// How long it takes until each side agrees on its lowest id.
    fn agree(&mut self, within: Duration) -> Duration {
        let (began, sides) = (self.now, [self.members(0), self.members(1)]);
        while !sides.iter().all(|members| self.is_agreed(members)) {
            self.step();
            assert!(self.now.since(began) <= within, "no agreement after {:?}", self.now.since(began));
        }
        self.now.since(began)
    }

    /// A domain that has been at rest for a while.
    fn settled(constants: Constants, count: usize, loss_ppm: u32, seed: u64) -> Self {
        let mut world = Self::new(constants, count, loss_ppm, seed);
        world.hellos = false;
        world.run(constants.refresh + constants.cap * 2);
        world.hellos = loss_ppm > 0;
        world.agree(constants.refresh * 2);
        (world.sent, world.synced) = (0, 0);
        world
    }
}

/// Tells people how long each of many runs took, and how many records; they must be few.
fn judge(what: &str, count: usize, loss_ppm: u32, runs: &[(Duration, World)]) {
    let middle = runs.len() / 2;
    let mut spans: Vec<_> = runs.iter().map(|(span, _)| *span).collect();
    let mut sent: Vec<_> = runs.iter().map(|(_, world)| world.sent).collect();
    let mut synced: Vec<_> = runs.iter().map(|(_, world)| world.synced).collect();
    spans.sort();
    sent.sort();
    synced.sort();
    let (slowest, most) = (spans[spans.len() - 1], sent[sent.len() - 1]);
    println!(
        "{what}: {count} members, {} % loss: {:.2?}, at most {slowest:.2?}; {} records flooded, at most {most}; \
         {} to or from neighbours",
        loss_ppm / 10_000,
        spans[middle],
        sent[middle],
        synced[middle]
    );
    let lost = if loss_ppm > 0 { 8 } else { 0 };
    assert!(sent[middle] <= 4 + count / 10 + lost && most <= 8 + count / 4 + lost, "{sent:?}");
}

const LOSSES: [u32; 2] = [0, 100_000];
const COUNTS: [usize; 3] = [2, 32, 200];

/// What losses may cost: hellos that tell of them, and a back-off or two.
fn repair(loss_ppm: u32) -> Duration {
    if loss_ppm > 0 { LAN.refresh } else { Duration::ZERO }
}

fn runs(count: usize) -> u64 {
    if count == 200 { 10 } else { 40 }
}

#[test]
fn who_starts_together_agrees() {
    for (count, loss) in COUNTS.into_iter().flat_map(|count| LOSSES.map(|loss| (count, loss))) {
        let within = LAN.cap * 2 + LAN.round_trip + repair(loss);
        let run = |seed| {
            let mut world = World::new(LAN, count, loss, seed);
            (world.agree(within), world)
        };
        judge("start", count, loss, &(0..runs(count)).map(run).collect::<Vec<_>>());
    }
}

#[test]
fn an_undisturbed_domain_says_nothing_but_refreshes() {
    let mut world = World::settled(LAN, 32, 0, 1);
    let since = world.nodes[5].lowest.heard().since;
    world.run(secs(60));
    assert_eq!(world.sent, 12);
    assert!(world.is_agreed(&world.members(0)));
    assert_eq!(world.nodes[5].lowest.heard().since, since);
    let copies: Vec<_> = world.nodes.iter().map(|node| node.lowest.record(world.now).unwrap()).collect();
    assert!(copies.windows(2).all(|pair| pair[0].checksum() == pair[1].checksum()));
}

#[test]
fn the_lowest_dies_and_the_next_one_is_found_with_few_words() {
    for (count, loss) in COUNTS.into_iter().flat_map(|count| LOSSES.map(|loss| (count, loss))) {
        let lives = secs(u64::from(LAN.lives));
        let within = lives + LAN.cap * 2 + LAN.round_trip + repair(loss);
        let run = |seed| {
            let mut world = World::settled(LAN, count, loss, seed);
            let lowest = world.members(0)[0];
            world.nodes[lowest].alive = false;
            world.arm(lowest);
            (world.agree(within), world)
        };
        judge("death", count, loss, &(0..runs(count)).map(run).collect::<Vec<_>>());
    }
}

#[test]
fn a_leaving_lowest_is_followed_at_once() {
    for (count, loss) in COUNTS.into_iter().flat_map(|count| LOSSES.map(|loss| (count, loss))) {
        // A farewell may be lost for everybody, if they are few.
        let lives = if loss > 0 { secs(u64::from(LAN.lives)) } else { Duration::ZERO };
        let within = lives + LAN.cap * 2 + LAN.round_trip * 2;
        let run = |seed| {
            let mut world = World::settled(LAN, count, loss, seed);
            let (lowest, now) = (world.members(0)[0], world.now);
            let farewell = world.nodes[lowest].lowest.leave(now).unwrap();
            assert_eq!(told(&farewell), NOBODY);
            world.flood(lowest, &farewell);
            world.nodes[lowest].alive = false;
            world.arm(lowest);
            (world.agree(within), world)
        };
        judge("leave", count, loss, &(0..runs(count)).map(run).collect::<Vec<_>>());
    }
}

#[test]
fn halves_that_are_cut_off_settle_and_heal() {
    for (count, loss, hellos) in
        [(2, 0, true), (32, 0, true), (32, 0, false), (32, 100_000, true), (200, 0, true)]
    {
        let run = |seed| {
            let mut world = World::settled(LAN, count, loss, seed);
            (0..count / 2).for_each(|index| world.nodes[index].side = 1);
            world.agree(secs(17) + repair(loss));
            // The versions of the halves part.
            world.run(world.draw.clone().jitter(secs(20)));
            world.agree(LAN.refresh * 2);
            world.nodes.iter_mut().for_each(|node| node.side = 0);
            (world.hellos, world.sent, world.synced) = (hellos, 0, 0);
            let within = if hellos && loss == 0 { secs(2) } else { secs(2) + LAN.refresh };
            let healed = world.agree(within);
            world.run(secs(2));
            assert!(loss > 0 || world.is_agreed(&world.members(0)), "and it lasts");
            assert!(loss > 0 || world.nodes.iter().all(|node| node.perceptions.is_empty()));
            (healed, world)
        };
        let what = if hellos { "heal" } else { "heal without hellos" };
        judge(what, count, loss, &(0..runs(count)).map(run).collect::<Vec<_>>());
    }
}

#[test]
fn a_lower_one_joins_a_domain_that_stands() {
    for seed in 0..50 {
        let mut world = World::settled(LAN, 32, 0, seed);
        world.run(LAN.refresh / 2);
        let index = world.join(ServerId([0; 16]));
        // A neighbour hands its copy to the new one (R004.9).
        let copy = world.nodes[0].lowest.record(world.now).unwrap();
        world.unicast(0, index, &copy);
        world.agree(LAN.round_trip);
        assert!(world.sent <= 2, "{}", world.sent);
    }
}

#[test]
fn two_hundred_join_a_domain_of_one() {
    let run = |seed| {
        let mut world = World::new(LAN, 1, 0, seed);
        world.run(secs(8));
        (0..200).for_each(|_| {
            let id = ServerId(world.draw.bytes16());
            world.join(id);
        });
        let copy = world.nodes[0].lowest.record(world.now).unwrap();
        world.multicast(0, &copy);
        world.sent = 0;
        (world.agree(LAN.cap * 2 + LAN.round_trip), world)
    };
    judge("join", 201, 0, &(0..5).map(run).collect::<Vec<_>>());
}

#[test]
fn wide_area_constants_keep_the_sources_promise() {
    for seed in 0..20 {
        let mut world = World::settled(Constants::WAN, 32, 0, seed);
        let lowest = world.members(0)[0];
        world.nodes[lowest].alive = false;
        world.arm(lowest);
        world.agree(secs(300 + 30 + 1));
        assert!(world.sent <= 6, "{}", world.sent);
    }
}

/// One machine, and what it draws.
struct One(Lowest, Draw);

impl One {
    /// It follows `id(1)` in version 100 since 0 s.
    fn following() -> Self {
        let mut one = Self::new();
        assert_eq!(one.hear(at(0), &record(100, id(1))), Verdict::New);
        one
    }

    /// It wrote version 1 at 2 s, having heard nobody.
    fn owning() -> Self {
        let mut one = Self::new();
        let first = one.0.on_timeout(at(2000), &mut one.1).unwrap();
        assert_eq!((first.snum.counter, told(&first)), (1, id(0x10)));
        one
    }

    fn new() -> Self {
        let mut draw = Draw::from_seed(3);
        Self(Lowest::new(DOMAIN, id(0x10), LAN, at(0), &mut draw), draw)
    }

    fn hear(&mut self, now: Time, record: &Record) -> Verdict {
        self.0.on_record(now, record, Cast::Unicast, &mut self.1)
    }

    fn overhear(&mut self, now: Time, record: &Record) -> Verdict {
        self.0.on_record(now, record, Cast::Multicast, &mut self.1)
    }

    /// The next record that it floods of its own accord, and when.
    fn next(&mut self) -> (Time, Record) {
        (0..10).find_map(|_| self.due()).unwrap()
    }

    fn due(&mut self) -> Option<(Time, Record)> {
        let at = self.0.next_deadline().unwrap().at;
        Some((at, self.0.on_timeout(at, &mut self.1)?))
    }
}

#[test]
fn an_owner_answers_a_higher_id_at_once_but_not_twice_in_a_round_trip() {
    let mut one = One::owning();
    let Verdict::Flood(answer) = one.hear(at(3000), &record(5, id(0x20))) else { panic!() };
    assert_eq!((answer.snum.counter, told(&answer)), (6, id(0x10)));
    assert_eq!(one.hear(at(3010), &record(7, id(0x20))), Verdict::New);
    assert_eq!(one.next(), (at(3050), record(8, id(0x10))));
    assert_eq!(one.next(), (at(8050), record(9, id(0x10))), "refreshed");
}

#[test]
fn who_waits_objects_the_sooner_the_lower_it_is() {
    let mut one = One::new();
    let first = one.0.next_deadline().unwrap().at;
    assert!((at(0) + LAN.cap..at(0) + LAN.cap * 2).contains(&first));
    assert_eq!(one.hear(at(10), &record(5, id(0x20))), Verdict::New);
    let mut other = One(one.0.clone(), one.1.clone());
    assert_eq!(one.next(), (at(10 + 175), record(6, id(0x10))), "half of a");
    assert_eq!(other.hear(at(20), &record(6, id(0x02))), Verdict::New);
    assert_eq!(other.0.next_deadline().unwrap().at, at(15_020), "it goes by the lower one");
    let mut one = One::new();
    assert_eq!(one.hear(at(600), &record(5, id(0x11))), Verdict::New);
    assert!(one.next().0 <= first.max(at(600 + 350)), "never later than it would have been");
}

#[test]
fn before_anything_is_known_we_go_by_ourselves() {
    let mut one = One::new();
    assert_eq!(one.0.heard(), Heard { lowest: id(0x10), version: 0, since: at(0) });
    assert_eq!(one.0.record(at(0)), None);
    assert_eq!(one.hear(at(10), &record(5, id(1))), Verdict::New);
    assert_eq!(one.0.heard(), Heard { lowest: id(1), version: 5, since: at(10) });
    assert_eq!(one.hear(at(5000), &record(6, id(1))), Verdict::New);
    assert_eq!(one.0.heard(), Heard { lowest: id(1), version: 6, since: at(10) });
}

#[test]
fn the_timer_is_the_sources_formula() {
    let mut draw = Draw::from_seed(1);
    let t = |constants: Constants, me, last, draw: &mut Draw| constants.timer(id(me), Some(id(last)), draw);
    assert_eq!(t(LAN, 0x20, 0x10, &mut draw), Duration::from_millis(350));
    assert_eq!(t(LAN, 0x30, 0x10, &mut draw), Duration::from_millis(700));
    assert_eq!(t(Constants::WAN, 0x20, 0x10, &mut draw), secs(7));
    assert_eq!(t(LAN, 0x10, 0x10, &mut draw), Duration::ZERO);
    assert_eq!(t(LAN, 0x10, 0x20, &mut draw), Duration::ZERO);
    for (me, last) in [(0x40, 0x10), (0xff, 0), (0xff, 1)] {
        let spans: Vec<_> = (0..100).map(|_| t(LAN, me, last, &mut draw)).collect();
        assert!(spans.iter().all(|span| (LAN.cap..LAN.cap * 2).contains(span)), "{spans:?}");
        assert!(spans.iter().any(|span| *span != spans[0]));
    }
}

#[test]
fn a_record_expires_and_the_timer_starts() {
    let mut one = One::following();
    // x = 16 s: far above the cap.
    let (at_written, written) = one.next();
    assert_eq!(written, record(101, id(0x10)));
    assert!((at(15_750)..at(16_500)).contains(&at_written), "{at_written:?}");
    // A copy that is old already lives shorter, and no copy longer than ours.
    for (age, lives, expires_at) in [(10, 15, 5000), (0, 65_535, 15_000), (0, 3, 3000)] {
        let mut one = One::new();
        assert_eq!(one.hear(at(0), &Record { age: Age(age), lives, ..record(9, id(1)) }), Verdict::New);
        assert_eq!(one.0.next_deadline().unwrap().at, at(expires_at));
    }
}

#[test]
fn a_follower_waits_for_the_owner_it_knows_when_a_higher_id_is_told() {
    let mut one = One::following();
    assert_eq!(one.hear(at(1000), &record(101, id(0x20))), Verdict::New);
    assert_eq!(one.0.heard().lowest, id(1), "until it is clear");
    let due = one.0.next_deadline();
    assert_eq!(one.hear(at(1005), &record(102, id(0x20))), Verdict::New);
    assert_eq!(one.0.next_deadline(), due, "a second higher one does not bring it forward");
    let mut other = One(one.0.clone(), one.1.clone());
    assert_eq!(one.hear(at(1010), &record(103, id(1))), Verdict::New);
    assert_eq!(one.0.next_deadline().unwrap().at, at(16_010));
    let (written_at, written) = other.next();
    assert_eq!(written, record(103, id(0x10)));
    assert!(written_at >= at(1750));
}

#[test]
fn of_one_version_the_greater_checksum_stays() {
    let (mut a, mut b) = (record(100, id(1)), record(100, id(2)));
    if a.checksum() > b.checksum() {
        std::mem::swap(&mut a, &mut b);
    }
    let mut one = One::new();
    assert_eq!(one.hear(at(0), &a), Verdict::New);
    assert_eq!(one.hear(at(0), &a), Verdict::Same);
    assert_eq!(one.hear(at(0), &b), Verdict::New);
    assert_eq!(one.hear(at(0), &a), Verdict::Back(b.clone()));
    // The owner of the lesser one writes anew; of the greater one tells it again.
    for other in (0x11..=0xfe).map(|byte| record(1, id(byte))) {
        let mut one = One::owning();
        let greater = other.checksum() > record(1, id(0x10)).checksum();
        let verdict = one.hear(at(3000), &other);
        let expected = if greater {
            Verdict::Flood(record(2, id(0x10)))
        } else {
            Verdict::Back(Record { age: Age(1), ..record(1, id(0x10)) })
        };
        assert_eq!(verdict, expected);
    }
}

#[test]
fn an_older_record_gets_our_copy_back_once() {
    let mut one = One::following();
    let old = record(99, id(1));
    let copy = |age| Record { age: Age(age), ..record(100, id(1)) };
    assert_eq!(one.hear(at(1200), &old), Verdict::Back(copy(2)), "the age is rounded up");
    assert_eq!(one.overhear(at(2000), &old), Verdict::Old);
    let mut other = One(one.0.clone(), one.1.clone());
    assert_eq!(one.overhear(at(2001), &old), Verdict::Old);
    let (told_at, told) = one.next();
    assert_eq!(told, copy(3));
    assert!((at(2050)..=at(2800)).contains(&told_at), "{told_at:?}");
    assert_eq!(one.0.next_deadline().unwrap().at, at(15_000), "and no second time");
    // Another one was faster.
    assert_eq!(other.overhear(at(2010), &copy(3)), Verdict::Same);
    assert_eq!(other.0.next_deadline().unwrap().at, at(15_000));
}

#[test]
fn a_member_that_was_restarted_knows_its_record_again() {
    let mut one = One::new();
    let own = Record { age: Age(3), ..record(57, id(0x10)) };
    assert_eq!(one.hear(at(10), &own), Verdict::New);
    assert_eq!(one.next(), (at(2010), record(58, id(0x10))));
}

#[test]
fn who_leaves_says_so_only_if_it_is_the_lowest_and_is_silent_then() {
    let mut one = One::following();
    assert_eq!(one.0.leave(at(10)), None);
    let mut one = One::owning();
    assert_eq!(one.0.leave(at(2500)), Some(record(2, NOBODY)));
    assert_eq!(one.0.next_deadline(), None);
    assert_eq!(one.0.on_timeout(at(60_000), &mut one.1), None);
    assert_eq!(one.hear(at(2600), &record(7, id(0x20))), Verdict::New);
    assert_eq!(one.hear(at(2600), &record(6, id(0x20))), Verdict::Old);
}

#[test]
fn absurd_records_change_nothing() {
    let before = One::following();
    let hostile = [
        (record(u32::MAX, id(0)), Refusal::Version),
        (record(0, id(0)), Refusal::Version),
        (Record { lives: 0, ..record(101, id(0)) }, Refusal::Expired),
        (Record { age: Age(15), ..record(101, id(0)) }, Refusal::Expired),
        (Record { age: Age::DELETED, lives: u16::MAX, ..record(101, id(0)) }, Refusal::Expired),
        (Record { body: record_of_a_domain(), ..record(101, id(0)) }, Refusal::Foreign),
        (with_uid(|uid| uid.number = 1), Refusal::Foreign),
        (with_uid(|uid| uid.owner = id(9)), Refusal::Foreign),
        (with_uid(|uid| uid.kind = RecordKind::Domain), Refusal::Foreign),
        (
            Record { snum: Snum { boot_epoch: BootEpoch(1), counter: 101 }, ..record(101, id(0)) },
            Refusal::Foreign,
        ),
    ];
    for (record, refusal) in hostile {
        let mut one = One(before.0.clone(), before.1.clone());
        assert_eq!(one.hear(at(1), &record), Verdict::Refused(refusal), "{record:?}");
        assert_eq!(format!("{:?}", one.0), format!("{:?}", before.0));
    }
    let mut one = before;
    assert_eq!(one.hear(at(1), &record(100 + LOWEST_JUMP_MAX, id(0))), Verdict::New);
    assert_eq!(One::new().hear(at(1), &record(u32::MAX, id(0))), Verdict::Refused(Refusal::Version));
}

#[test]
fn versions_far_ahead_are_believed_if_they_last() {
    let far = 100 + 2 * LOWEST_JUMP_MAX;
    let refused = Verdict::Refused(Refusal::Version);
    let mut one = One::owning();
    // Now and then is not enough: at 3, 20 and 40 s, and then every second. It goes on with its own meanwhile.
    for second in 3..55 {
        one.0.on_timeout(at(second * 1000), &mut one.1);
        if [3, 20].contains(&second) || second >= 40 {
            assert_eq!(one.hear(at(second * 1000), &record(far, id(0x01))), refused, "{second} s");
        }
    }
    assert_eq!(one.hear(at(55_000), &record(far, id(0x01))), Verdict::New);
    assert_eq!(one.0.heard().lowest, id(0x01));
    assert_eq!(one.hear(at(55_100), &record(u32::MAX, id(0))), refused);
}

fn record_of_a_domain() -> Body {
    Body::Domain(wire::record::Roll { version: 1, part: 0, parts: 1, members: Vec::new() })
}

fn with_uid(change: impl Fn(&mut Uid)) -> Record {
    let mut record = record(101, id(0));
    change(&mut record.uid);
    record
}

#[test]
fn versions_that_were_driven_to_the_end_begin_again() {
    let mut one = One::owning();
    let (mut now, mut version) = (at(3000), 1);
    while version < LOWEST_VERSION_MAX {
        version = version.saturating_add(LOWEST_JUMP_MAX).min(LOWEST_VERSION_MAX);
        now = now + secs(1);
        let verdict = one.hear(now, &record(version, id(0x20)));
        if let Verdict::Flood(answer) = verdict {
            version = answer.snum.counter;
        } else {
            assert_eq!((verdict, version), (Verdict::New, LOWEST_VERSION_MAX));
        }
    }
    // Nothing can follow: it expires here, and at the others too.
    let (at, anew) = one.next();
    assert_eq!(anew, record(1, id(0x10)));
    assert!(at.since(now) >= secs(15), "{:?}", at.since(now));
    // And the owner does not refresh the last version.
    let mut one = One::new();
    assert_eq!(one.hear(Time::ZERO, &record(LOWEST_VERSION_MAX, id(0x10))), Verdict::New);
    assert_eq!(one.next(), (Time::ZERO + secs(15) + LAN.round_trip, record(1, id(0x10))));
    assert_eq!(one.0.clone().leave(Time::ZERO + secs(16)).map(|farewell| farewell.snum.counter), Some(2));
}

fn pick<T: Clone>(draw: &mut Draw, from: &[T]) -> T {
    from[usize::try_from(draw.below(u64::try_from(from.len()).unwrap())).unwrap()].clone()
}

/// Invariants 1–6, against any order of records, times and calls.
#[test]
fn no_order_of_events_breaks_an_invariant() {
    for seed in 0..300 {
        let mut draw = Draw::from_seed(seed);
        let (mut one, mut now, mut wrote_at) = (One::new(), at(0), None);
        for _ in 0..200 {
            let most = pick(&mut draw, &[Duration::from_millis(30), secs(1), secs(9)]);
            now = now + draw.jitter(most);
            let version = one.0.version();
            let living = one.0.living(now).is_some();
            let wrote = if draw.chance(300_000) {
                one.0.on_timeout(now, &mut one.1)
            } else {
                let step = pick(&mut draw, &[0, 1, 2, LOWEST_JUMP_MAX, u32::MAX]);
                let lowest = pick(&mut draw, &[id(1), id(0x10), id(0x20), NOBODY]);
                let mut heard = record(version.saturating_sub(1).saturating_add(step), lowest);
                heard.age = Age(pick(&mut draw, &[0, 1, 5, 14, 15, u16::MAX]));
                heard.lives = pick(&mut draw, &[0, 1, 10, 15, 16, u16::MAX]);
                let cast = if draw.chance(500_000) { Cast::Unicast } else { Cast::Multicast };
                let verdict = one.0.on_record(now, &heard, cast, &mut one.1);
                if let Verdict::Flood(answer) = verdict { Some(answer) } else { None }
            };
            assert!(!living || one.0.version() >= version, "2");
            assert!(one.0.version() <= LOWEST_VERSION_MAX, "3");
            if let Some(wrote) = wrote.filter(|record| told(record) == id(0x10) && record.age == Age(0)) {
                let apart = wrote_at.is_none_or(|at| now.since(at) >= LAN.round_trip);
                assert!(apart || wrote.snum.counter == version, "5: {wrote:?}");
                wrote_at = Some(now);
            }
            let copy = one.0.copy.as_ref();
            let lowest = copy.map(|copy| told(&copy.record));
            match one.0.state {
                State::Owning { .. } => assert_eq!(lowest, Some(id(0x10)), "1"),
                State::Following => assert!(lowest < Some(id(0x10)) && lowest.is_some(), "1"),
                State::Waiting { .. } => {}
                State::Left => panic!(),
            }
            assert!(copy.is_none_or(|copy| copy.expires_at <= copy.heard_at + secs(15)), "4");
            let deadline = one.0.next_deadline().expect("6").at;
            assert!(deadline <= now + secs(15) + LAN.cap * 2, "6: {deadline:?} at {now:?}");
        }
        // It is woken a bounded number of times: no deadline stays in the past.
        for _ in 0..5 {
            one.0.on_timeout(now, &mut one.1);
        }
        assert!(one.0.next_deadline().expect("6").at > now);
    }
}

#[test]
fn the_size_is_guessed_from_the_lowest_id() {
    let mut draw = Draw::from_seed(24);
    let mut ratios = Vec::new();
    for _ in 0..1000 {
        let count = 1 + draw.below(300);
        let lowest = (0..count).map(|_| ServerId(draw.bytes16())).min().unwrap();
        let me = ServerId([0xff; 16]);
        let mut machine = Lowest::new(DOMAIN, me, LAN, at(0), &mut draw);
        assert_eq!(machine.on_record(at(0), &record(1, lowest), Cast::Unicast, &mut draw), Verdict::New);
        ratios.push(machine.size_estimate() / count as f64);
    }
    let within = |factor: f64| {
        let right = ratios.iter().filter(|ratio| (1.0 / factor..=factor).contains(*ratio));
        right.count()
    };
    println!("size: {} of 1000 within a factor of 4, {} of 8", within(4.0), within(8.0));
    assert!(within(4.0) >= 740 && within(8.0) >= 900);
    let above = ratios.iter().filter(|ratio| **ratio > 1.0).count();
    assert!((450..550).contains(&above), "the median: {above} guesses are too great");
    for extreme in [ServerId([0; 16]), NOBODY] {
        let machine = Lowest::new(DOMAIN, extreme, LAN, at(0), &mut draw);
        let size = machine.size_estimate();
        assert!(size.is_finite() && size >= 1.0, "{size}");
    }
}

mod perceptions {
    use super::*;
    use crate::limits::PEERS_MAX;

    const OURS: Heard = Heard { lowest: ServerId([3; 16]), version: 1, since: Time::ZERO };

    /// Hellos every 300 ms from 0 ms up to `until`, then what is due.
    fn hellos(perceptions: &mut Perceptions, draw: &mut Draw, until: u64, peers: &[(u8, u8)]) {
        for millis in (0..=until).step_by(300) {
            for (peer, tells) in peers {
                perceptions.on_hello(at(millis), id(*peer), id(*tells), OURS, draw);
            }
        }
    }

    #[test]
    fn a_peer_that_still_tells_another_id_after_the_back_off_is_told_of() {
        let mut draw = Draw::from_seed(1);
        let mut perceptions = Perceptions::new(LAN);
        perceptions.on_hello(at(0), id(9), id(5), Heard { version: 0, ..OURS }, &mut draw);
        assert!(perceptions.next_deadline().is_none(), "we have only just started");
        hellos(&mut perceptions, &mut draw, 0, &[(9, 5)]);
        let due = perceptions.next_deadline().unwrap().at;
        assert!((at(750)..at(1500)).contains(&due), "{due:?}");
        hellos(&mut perceptions, &mut draw, 600, &[(9, 5)]);
        assert_eq!(perceptions.next_deadline().unwrap().at, due, "every hello does not put it off");
        assert_eq!(perceptions.next_mismatch(at(749), OURS, &mut draw), None);
        let mut healed = perceptions.clone();
        assert_eq!(
            healed.next_mismatch(due, Heard { lowest: id(5), ..OURS }, &mut draw),
            None,
            "we go by its id meanwhile"
        );
        assert!(healed.is_empty());
        assert_eq!(perceptions.next_mismatch(due, OURS, &mut draw), Some(id(9)));
        assert_eq!(perceptions.next_mismatch(due, OURS, &mut draw), None);
        let again = perceptions.next_deadline().unwrap().at;
        assert!((due + LAN.cap..due + LAN.cap * 2).contains(&again));
    }

    #[test]
    fn there_is_one_back_off_for_all_that_tell_the_same_id() {
        let mut draw = Draw::from_seed(1);
        let mut perceptions = Perceptions::new(LAN);
        hellos(&mut perceptions, &mut draw, 0, &[(9, 5)]);
        let due = perceptions.next_deadline();
        hellos(&mut perceptions, &mut draw, 0, &(20..60).map(|peer| (peer, 5)).collect::<Vec<_>>());
        assert_eq!(perceptions.next_deadline(), due, "the least of 41 would be no back-off");
        assert_eq!(perceptions.len(), 41);
    }

    #[test]
    fn who_agrees_again_or_falls_silent_is_forgotten() {
        let mut draw = Draw::from_seed(1);
        let mut perceptions = Perceptions::new(LAN);
        hellos(&mut perceptions, &mut draw, 0, &[(8, 5), (9, 5)]);
        perceptions.on_hello(at(300), id(9), OURS.lowest, OURS, &mut draw);
        assert_eq!(perceptions.len(), 1);
        assert_eq!(perceptions.next_mismatch(at(3000), OURS, &mut draw), None, "8 was not heard for 3 s");
        assert!(perceptions.is_empty());
    }

    #[test]
    fn the_lowest_is_preferred_and_one_peer_is_enough_for_each_id() {
        let mut draw = Draw::from_seed(1);
        let mut perceptions = Perceptions::new(LAN);
        hellos(&mut perceptions, &mut draw, 1500, &[(10, 7), (11, 2), (12, 2), (13, 7)]);
        let mut due = Vec::new();
        while let Some(peer) = perceptions.next_mismatch(at(1500), OURS, &mut draw) {
            due.push(peer);
        }
        assert_eq!(due, [id(11), id(10)]);
    }

    #[test]
    fn the_table_is_bounded_and_the_silent_make_room() {
        let mut draw = Draw::from_seed(1);
        let mut perceptions = Perceptions::new(LAN);
        let peer = |number: usize| ServerId(u128::try_from(number).unwrap().to_be_bytes());
        for number in 0..PEERS_MAX + 10 {
            perceptions.on_hello(at(0), peer(number), id(5), OURS, &mut draw);
        }
        assert_eq!(perceptions.len(), PEERS_MAX);
        perceptions.on_hello(at(100), peer(0), id(6), OURS, &mut draw);
        perceptions.on_hello(at(3000), peer(PEERS_MAX), id(5), OURS, &mut draw);
        assert_eq!(perceptions.len(), 2);
    }
}
