use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use driver::Draw;
use wire::elect::{Declare, Revoke, Revoked, SHARDS, WEIGHT_MAX};

use super::*;
use crate::limits::CANDIDATES_MAX;

const WEIGHT: u8 = 4;
const TYPE: ServerType = ServerType(0x8001);
const PLAIN: Wants<'_> = Wants { server_type: TYPE, at: &[] };
/// What a message takes from one server to another, at least.
const WAY: Duration = Duration::from_millis(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Time {
    Time::ZERO + ms(millis)
}

fn id(node: usize) -> ServerId {
    ServerId([u8::try_from(node).unwrap() + 1; 16])
}

fn control(node: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap() + 1), 4016)
}

#[derive(Debug, Clone)]
enum What {
    Message(Message),
    Record(Option<Responder>),
    Left,
}

#[derive(Debug)]
struct Passing {
    from: usize,
    to: usize,
    what: What,
}

/// Some servers on a link.
#[derive(Debug)]
struct Net {
    now: Time,
    draw: Draw,
    machines: Vec<Responders>,
    /// Dead, or doing nothing for now: what comes is kept for it.
    up: Vec<bool>,
    records: Vec<Option<Responder>>,
    passing: BTreeMap<(Time, u64), Passing>,
    held: Vec<Passing>,
    sent: u64,
    loss_ppm: u32,
    cuts: BTreeSet<(usize, usize)>,
    news: Vec<(Time, usize, News)>,
    bytes: Vec<usize>,
}

impl Net {
    fn new(servers: usize) -> Self {
        Self::weighing(&vec![WEIGHT; servers])
    }

    fn weighing(weights: &[u8]) -> Self {
        let now = at(1000);
        let machine =
            |(node, weight): (usize, &u8)| Responders::new(id(node), *control(node).ip(), *weight, now);
        let mut net = Self {
            now,
            draw: Draw::from_seed(1),
            machines: weights.iter().enumerate().map(machine).collect(),
            up: vec![true; weights.len()],
            records: vec![None; weights.len()],
            passing: BTreeMap::new(),
            held: Vec::new(),
            sent: 0,
            loss_ppm: 0,
            cuts: BTreeSet::new(),
            news: Vec::new(),
            bytes: vec![0; weights.len()],
        };
        for node in 0..weights.len() {
            net.machines[node].set_types(now, &BTreeSet::from([TYPE]));
            net.machines[node].on_joined(now);
            net.take(node);
        }
        net
    }

    fn post(&mut self, from: usize, to: usize, what: What) {
        // Records are told again and again until they arrive.
        let is_lost = matches!(what, What::Message(_)) && self.draw.chance(self.loss_ppm);
        if is_lost || self.cuts.contains(&(from, to)) {
            return;
        }
        self.sent += 1;
        let at = self.now + WAY + self.draw.jitter(WAY);
        self.passing.insert((at, self.sent), Passing { from, to, what });
    }

    fn others(&self, node: usize) -> Vec<usize> {
        (0..self.machines.len()).filter(|other| *other != node).collect()
    }

    fn take(&mut self, node: usize) {
        while let Some(output) = self.machines[node].next_output() {
            match output {
                Output::Send(to, message) => {
                    self.bytes[node] += frame(&message);
                    let to = match to {
                        To::Link => self.others(node),
                        To::One(host) => {
                            self.others(node).into_iter().filter(|it| control(*it) == host).collect()
                        }
                    };
                    for to in to {
                        self.post(node, to, What::Message(message.clone()));
                    }
                }
                Output::Publish(_, record) => {
                    self.records[node] = Some(record.clone());
                    for to in self.others(node) {
                        self.post(node, to, What::Record(Some(record.clone())));
                    }
                }
                Output::Count(..) => {}
                Output::Tell(news) => self.news.push((self.now, node, news)),
            }
        }
    }

    fn deliver(&mut self, passing: Passing) {
        let Passing { from, to, what } = passing;
        if !self.up[to] {
            return self.held.push(Passing { from, to, what });
        }
        let (now, machine) = (self.now, &mut self.machines[to]);
        machine.on_input(now);
        match what {
            What::Message(Message::Inquiry(inquiry)) => {
                machine.on_inquiry(now, control(from), id(from), &inquiry);
                // What the domain knows of a server comes as soon as it is heard.
                let record = self.records[from].clone();
                self.machines[to].on_record(now, id(from), record.as_ref());
            }
            What::Message(Message::Declare(declare)) => machine.on_declare(now, id(from), &declare),
            What::Message(Message::Revoke(revoke)) => machine.on_revoke(now, id(from), &revoke),
            What::Message(other) => panic!("{other:?}"),
            What::Record(record) => machine.on_record(now, id(from), record.as_ref()),
            What::Left => machine.on_left(now, id(from)),
        }
        self.take(to);
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let wake = |(node, machine): (usize, &Responders)| (machine.next_deadline().at, node);
            let wakes = self.machines.iter().enumerate().filter(|(node, _)| self.up[*node]).map(wake).min();
            let arrival = self.passing.keys().next().map(|(at, _)| *at);
            let next = wakes.map(|(at, _)| at).into_iter().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, passing) = self.passing.pop_first().unwrap();
                self.deliver(passing);
            } else if let Some((_, node)) = wakes {
                self.machines[node].on_timeout(self.now);
                self.take(node);
            }
        }
        self.now = until;
    }

    fn kill(&mut self, node: usize) {
        self.up[node] = false;
    }

    /// It goes on, and hears everything that has come meanwhile.
    fn wake(&mut self, node: usize) {
        self.up[node] = true;
        let (ours, others) = self.held.drain(..).partition(|passing| passing.to == node);
        self.held = others;
        for passing in ours {
            self.deliver(passing);
        }
    }

    /// It starts anew, and has forgotten everything.
    fn restart(&mut self, node: usize) {
        self.held.retain(|passing| passing.to != node);
        self.passing.retain(|_, passing| passing.to != node);
        self.up[node] = true;
        self.machines[node] = Responders::new(id(node), *control(node).ip(), WEIGHT, self.now);
        self.machines[node].set_types(self.now, &BTreeSet::from([TYPE]));
        self.machines[node].on_joined(self.now);
        self.take(node);
        for other in self.others(node) {
            let record = self.records[other].clone();
            self.post(other, node, What::Record(record));
        }
    }

    /// Who holds the office, of those that are up, by shard.
    fn holders(&self) -> Vec<Vec<usize>> {
        let holds = |node: &usize, shard| self.machines[*node].responder(shard) == Some(id(*node));
        let up = || (0..self.machines.len()).filter(|node| self.up[*node]);
        Shard::all().map(|shard| up().filter(|node| holds(node, shard)).collect()).collect()
    }

    /// Each shard has one responder, and all know who.
    #[track_caller]
    fn assert_agreed(&self) {
        for (shard, holders) in Shard::all().zip(self.holders()) {
            assert_eq!(holders.len(), 1, "shard {shard}: {holders:?}");
            for node in (0..self.machines.len()).filter(|node| self.up[*node]) {
                assert_eq!(
                    self.machines[node].responder(shard),
                    Some(id(holders[0])),
                    "shard {shard} at {node}"
                );
            }
        }
    }

    fn shares(&self) -> Vec<usize> {
        let holders = self.holders();
        (0..self.machines.len())
            .map(|node| holders.iter().filter(|holders| holders.contains(&node)).count())
            .collect()
    }

    fn told(&self, after: Time, mut is_it: impl FnMut(usize, &News) -> bool) -> usize {
        self.news.iter().filter(|(at, node, news)| *at > after && is_it(*node, news)).count()
    }
}

/// Bytes on the wire: Ethernet, IP, UDP.
fn frame(message: &Message) -> usize {
    let envelope = wire::control::Envelope {
        sender: id(0),
        boot_epoch: wire::BootEpoch(1),
        sequence: 1,
        message: message.clone(),
    };
    14 + 28 + envelope.encode().len()
}

fn settled(servers: usize) -> Net {
    let mut net = Net::new(servers);
    net.run(ms(5000));
    net.assert_agreed();
    net
}

#[test]
fn all_shards_are_shared_by_weight_within_a_second() {
    let mut net = Net::weighing(&[2, 2, 4, 8]);
    net.run(ms(1000));
    net.assert_agreed();
    let shares = net.shares();
    assert_eq!(shares.iter().sum::<usize>(), usize::from(SHARDS));
    assert!(shares[3] > shares[2] && shares[2] > shares[0].max(shares[1]), "{shares:?}");
    for shard in Shard::all() {
        let best = (0..4).min_by_key(|node| index(shard, &id(*node), [2, 2, 4, 8][*node])).unwrap();
        assert_eq!(net.machines[0].responder(shard), Some(id(best)));
    }
}

#[test]
fn one_alone_answers_everybody() {
    let mut net = Net::new(1);
    net.run(ms(1000));
    assert_eq!(net.shares(), [usize::from(SHARDS)]);
    assert!(matches!(net.machines[0].place(Mac([1; 6]), &PLAIN), Place::Responder));
}

#[test]
fn nobody_answers_before_it_knows_what_the_others_know() {
    let mut machine = Responders::new(id(0), *control(0).ip(), WEIGHT, at(0));
    for millis in 0..4000 {
        machine.on_timeout(at(millis));
    }
    assert_eq!(machine.answered(), 0);
    machine.on_joined(at(4000));
    machine.on_timeout(machine.next_deadline().at);
    assert_eq!(machine.answered(), usize::from(SHARDS));
}

/// R001.6, R001.10–R001.12: from the last sign of life to the last first message, in a hundred deaths.
#[test]
fn the_shards_of_a_dead_one_are_answered_by_those_that_come_next() {
    let mut slowest = Duration::ZERO;
    for death in 0..100 {
        let mut net = settled(8);
        net.run(ms(7 * death));
        let (victim, before) = (usize::try_from(death).unwrap() % 8, net.now);
        let shares = net.shares();
        net.kill(victim);
        net.run(ms(3000));
        net.assert_agreed();
        for shard in Shard::all() {
            let best =
                (0..8).filter(|node| *node != victim).min_by_key(|node| index(shard, &id(*node), WEIGHT));
            assert_eq!(net.machines[(victim + 1) % 8].responder(shard), best.map(id));
        }
        let last =
            net.news.iter().filter(|(_, _, news)| matches!(news, News::TookOver { .. })).map(|(at, ..)| *at);
        slowest = slowest.max(last.max().unwrap().since(before));
        assert_eq!(
            net.told(before, |_, news| matches!(news, News::GaveWay { .. })),
            0,
            "nobody came too soon"
        );
        assert!(shares[victim] > 0);
    }
    assert!(slowest <= ms(1000), "{slowest:?}");
}

#[test]
fn who_leaves_is_replaced_at_once() {
    let mut net = settled(4);
    let before = net.now;
    net.kill(1);
    for to in net.others(1) {
        net.post(1, to, What::Left);
    }
    net.run(ms(100));
    net.assert_agreed();
    assert!(net.told(before, |_, news| matches!(news, News::TookOver { .. })) > 0);
    assert_eq!(net.told(before, |_, news| matches!(news, News::Failed(_))), 0);
}

/// One lost message, or many, has nobody take over from one that works, or it is made good.
#[test]
fn losses_move_few_clients_and_never_for_long() {
    let mut net = settled(5);
    net.loss_ppm = 50_000;
    let before = net.now;
    net.run(ms(600_000));
    assert_eq!(net.told(before, |_, news| matches!(news, News::Failed(_))), 0, "at 5 % in 10 minutes");
    net.loss_ppm = 400_000;
    net.run(ms(60_000));
    net.loss_ppm = 0;
    net.run(ms(35_000));
    net.assert_agreed();
}

/// What one server cannot hear of another it learns from a third: a way that is cut moves nobody.
#[test]
fn a_cut_between_two_is_seen_through_by_a_third() {
    let mut net = settled(3);
    let (before, shares) = (net.now, net.shares());
    net.cuts.extend([(0, 1), (1, 0)]);
    net.run(ms(60_000));
    assert_eq!(net.told(before, |_, news| matches!(news, News::Failed(_))), 0);
    assert_eq!(net.shares(), shares);
}

/// The source's split brain (R001.17): both halves have responders for everything; on meeting, one for each shard.
#[test]
fn halves_that_meet_again_agree() {
    let mut net = settled(4);
    for one in [0, 1] {
        for other in [2, 3] {
            net.cuts.extend([(one, other), (other, one)]);
        }
    }
    net.run(ms(5000));
    for (shard, holders) in Shard::all().zip(net.holders()) {
        let halves: Vec<bool> = holders.iter().map(|node| *node < 2).collect();
        assert_eq!(halves, [true, false], "shard {shard}");
    }
    let before = net.now;
    net.cuts.clear();
    net.run(ms(2000));
    net.assert_agreed();
    // And after a while those that have the least index.
    net.run(ms(35_000));
    net.assert_agreed();
    for shard in Shard::all() {
        let best = (0..4).min_by_key(|node| index(shard, &id(*node), WEIGHT)).unwrap();
        assert_eq!(net.machines[0].responder(shard), Some(id(best)));
    }
    assert!(net.told(before, |_, news| matches!(news, News::Strange(..))) == 0);
}

/// A hears B, and B does not hear A: whichever of the two takes over, the other is told, and it does not go to and fro.
#[test]
fn a_one_way_cut_between_two_comes_to_rest() {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut net = settled(2);
        net.cuts.insert((from, to));
        net.run(ms(10_000));
        let before = net.now;
        net.run(ms(120_000));
        let moves = net.told(before, |_, news| matches!(news, News::TookOver { .. } | News::GaveWay { .. }));
        assert_eq!(moves, 0, "{:?}", net.news);
        for holders in net.holders() {
            assert!(!holders.is_empty());
        }
        net.cuts.clear();
        net.run(ms(35_000));
        net.assert_agreed();
    }
}

#[test]
fn who_was_paused_stands_by_when_it_goes_on_and_takes_over_after_the_hold_down() {
    let mut net = settled(3);
    let shares = net.shares();
    net.kill(0);
    net.run(ms(10_000));
    net.wake(0);
    let before = net.now;
    assert_eq!(net.shares()[0], 0, "it answers nobody from the first moment on");
    net.run(HOLD_DOWN - ms(500));
    net.assert_agreed();
    assert_eq!(net.shares()[0], 0);
    assert_eq!(net.told(before, |_, news| matches!(news, News::TookOver { .. })), 0);
    net.run(ms(1500));
    net.assert_agreed();
    assert_eq!(net.shares(), shares);
}

/// Faster than it is missed: the others still take it for the responder, and its record says otherwise.
#[test]
fn who_starts_anew_before_it_is_missed_leaves_no_shard_without_a_responder() {
    let mut net = settled(3);
    net.run(ms(5000));
    net.restart(0);
    net.run(ms(2500));
    net.assert_agreed();
    net.run(HOLD_DOWN + ms(1000));
    net.assert_agreed();
    assert!(net.shares()[0] > 0);
}

#[test]
fn a_link_that_comes_and_goes_moves_clients_once() {
    let mut net = settled(3);
    let before = net.now;
    for _ in 0..20 {
        for other in [1, 2] {
            net.cuts.extend([(0, other), (other, 0)]);
        }
        net.run(ms(3000));
        net.cuts.clear();
        net.run(ms(5000));
    }
    net.assert_agreed();
    let taken = |net: &Net, by: usize| {
        net.told(before, |node, news| node == by && matches!(news, News::TookOver { .. }))
    };
    assert!(taken(&net, 0) <= 80, "alone it answers everybody, each time, in a few steps");
    // The others take over its shards once, and are not driven out again.
    assert!(taken(&net, 1) <= 2 && taken(&net, 2) <= 2, "{} {}", taken(&net, 1), taken(&net, 2));
}

#[test]
fn a_drained_server_goes_on_until_others_have_taken_over() {
    let mut net = settled(3);
    let shares = net.shares();
    let now = net.now;
    net.machines[0].drain(now, true);
    assert_eq!(net.machines[0].status().next().unwrap().shards, shares[0]);
    net.take(0);
    for _ in 0..500 {
        net.run(ms(1));
        assert!(net.holders().iter().all(|holders| !holders.is_empty()), "no shard is ever without one");
    }
    net.assert_agreed();
    assert_eq!(net.shares()[0], 0);
    net.run(ms(60_000));
    assert_eq!(net.shares()[0], 0);
    // The only one that is left answers, drained or not.
    net.kill(1);
    net.kill(2);
    net.run(ms(3000));
    assert_eq!(net.shares()[0], usize::from(SHARDS));
    net.wake(1);
    net.wake(2);
    let now = net.now;
    net.machines[0].drain(now, false);
    net.take(0);
    net.run(HOLD_DOWN * 2 + ms(1000));
    net.assert_agreed();
    assert_eq!(net.shares(), shares);
}

/// Figure: at most 1 kB/s for each member of eight.
#[test]
fn inquiries_cost_little() {
    let mut net = settled(8);
    net.bytes.fill(0);
    net.run(ms(60_000));
    let most = net.bytes.iter().max().unwrap() / 60;
    assert!(most <= 1000, "{most} bytes/s");
}

#[test]
fn the_election_delay_is_the_sum_of_the_longest_delays_of_those_before_us() {
    let net = settled(4);
    let shard = Shard::new(9).unwrap();
    let mut row: Vec<usize> = (0..4).collect();
    row.sort_by_key(|node| index(shard, &id(*node), WEIGHT));
    let least = crate::limits::DELAY_MIN;
    for (place, node) in (0_u32..).zip(&row) {
        let delay = net.machines[*node].election_delay(shard, None);
        assert_eq!(delay, crate::limits::ELECTION_BASE + least * place);
    }
    // The last but one has a slow way to the last.
    let mut machine = Responders::new(id(row[2]), *control(row[2]).ip(), WEIGHT, at(0));
    let record = Responder { weight: WEIGHT, types: vec![TYPE], shards: Vec::new() };
    let heard = |to: usize, delay_ms| HeardOf { server: id(to), count: 1, ago_ms: 0, delay_ms };
    let inquiry = |heard| Inquiry { urgent: false, count: 1, heard };
    for (node, heard) in [
        (row[0], vec![heard(row[1], 250), heard(row[2], 10), heard(row[3], 30)]),
        (row[1], vec![heard(row[0], 20), heard(row[2], 40), heard(row[3], 3)]),
        (row[3], vec![]),
    ] {
        machine.on_inquiry(at(1), control(node), id(node), &inquiry(heard));
        machine.on_record(at(1), id(node), Some(&record));
    }
    // max(200, 10, 30) is no part of it: only those that are not before us count, and the second is; 30 + 40.
    assert_eq!(machine.election_delay(shard, None), crate::limits::ELECTION_BASE + ms(70));
    assert_eq!(machine.election_delay(shard, Some(id(row[0]))), crate::limits::ELECTION_BASE + ms(40));
}

fn declare(node: usize, shard: Shard, epoch: u32, index: u32) -> (ServerId, Declare) {
    (id(node), Declare { shards: vec![(shard, ToldTerm { epoch, index })] })
}

#[test]
fn forged_messages_change_nothing_for_long() {
    let mut net = settled(3);
    let now = net.now;
    let shard = Shard::all().find(|shard| net.machines[0].responder(*shard) == Some(id(0))).unwrap();
    let own = index(shard, &id(1), WEIGHT);
    let strange = [
        declare(1, shard, 2, own ^ 1),
        declare(1, shard, 2, 0),
        declare(1, shard, u32::MAX, own),
        declare(1, shard, 2 + (1 << 21), own),
        declare(7, shard, 2, index(shard, &id(7), WEIGHT)),
        declare(0, shard, 9, index(shard, &id(0), WEIGHT)),
    ];
    for (sender, message) in &strange {
        net.machines[0].on_declare(now, *sender, message);
        let shards = vec![Revoked { shard, term: message.shards[0].1, revoked: message.shards[0].1 }];
        net.machines[0].on_revoke(now, *sender, &Revoke { revoked: id(0), shards });
        assert_eq!(net.machines[0].place_of(shard, &PLAIN), Place::Responder);
    }
    net.take(0);
    let told = |what| net.told(at(0), |_, news| matches!(news, News::Strange(_, it) if *it == what));
    assert_eq!((told("index"), told("epoch")), (4, 4));
    // One that looks right in every way, in the name of a server that knows nothing of it.
    let (sender, message) = declare(1, shard, 5, own);
    for node in [0, 2] {
        let now = net.now;
        net.machines[node].on_declare(now, sender, &message);
        net.take(node);
    }
    net.run(CONFIRM_WITHIN + ms(1500));
    net.assert_agreed();
}

/// A broken member, or one that was broken into: each time it costs one second message at most, and who answers goes on.
#[test]
fn a_member_that_declares_itself_again_and_again_is_borne() {
    let mut net = settled(3);
    net.run(ms(40_000));
    let shard = Shard::all().find(|shard| {
        let best = (0..3).min_by_key(|node| index(*shard, &id(*node), WEIGHT));
        let worst = (0..3).max_by_key(|node| index(*shard, &id(*node), WEIGHT));
        (best, worst) == (Some(0), Some(2))
    });
    let shard = shard.unwrap();
    for round in 0..100_u32 {
        let epoch = 10 + 5 * round;
        let (sender, message) = declare(2, shard, epoch, index(shard, &id(2), WEIGHT));
        for node in [0, 1] {
            let now = net.now;
            net.machines[node].on_timeout(now);
            net.machines[node].on_declare(now, sender, &message);
            assert_eq!(net.machines[0].place_of(shard, &PLAIN), Place::Responder, "round {round}");
            net.take(node);
        }
        net.run(ms(1000));
        assert_eq!(net.machines[0].place_of(shard, &PLAIN), Place::Responder, "round {round}");
        assert_eq!(net.machines[1].responder(shard), Some(id(0)), "round {round}");
    }
    // Faster than anybody may be told otherwise: the record says it.
    for round in 0..100_u32 {
        let (sender, message) = declare(2, shard, 1000 + 5 * round, index(shard, &id(2), WEIGHT));
        let now = net.now;
        net.machines[0].on_declare(now, sender, &message);
        assert_eq!(net.machines[0].place_of(shard, &PLAIN), Place::Responder);
    }
    let before = net.bytes[0];
    net.take(0);
    assert!(net.bytes[0] - before <= 4 * 200, "one second message, to all and to the one");
    net.run(ms(2000));
    net.assert_agreed();
}

#[test]
fn candidates_are_bounded_and_forgotten() {
    let mut machine = Responders::new(id(0), *control(0).ip(), WEIGHT_MAX, at(0));
    let inquiry = Inquiry { urgent: false, count: 1, heard: Vec::new() };
    for number in 0..=u16::try_from(CANDIDATES_MAX).unwrap() {
        let [high, low] = number.to_be_bytes();
        let server = ServerId([high, low, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
        machine.on_inquiry(at(1), control(1), server, &inquiry);
    }
    assert_eq!(machine.candidates.len(), CANDIDATES_MAX);
    let told = machine.inquiry(at(2), false).heard.len();
    assert_eq!(told, HEARD_MAX);
    for second in 0..200 {
        machine.on_timeout(at(1000 * second));
        while machine.next_output().is_some() {}
        machine.on_timeout(machine.next_deadline().at);
    }
    assert_eq!(machine.candidates.len(), 0);
}

/// Not all boot servers have all boot items: the first that has one answers for it.
#[test]
fn what_the_responder_does_not_have_the_next_one_answers() {
    const RARE: ServerType = ServerType(7);
    let rare = Wants { server_type: RARE, at: &[] };
    let mut net = settled(3);
    let now = net.now;
    for node in [1, 2] {
        net.machines[node].set_types(now, &BTreeSet::from([TYPE, RARE]));
        net.take(node);
    }
    net.run(ms(1000));
    for shard in Shard::all() {
        let best = (1..3).min_by_key(|node| index(shard, &id(*node), WEIGHT)).unwrap();
        let responder = (0..3).find(|node| net.machines[*node].responder(shard) == Some(id(*node))).unwrap();
        for node in [1, 2] {
            let answers = net.machines[node].place_of(shard, &rare) == Place::Responder;
            assert_eq!(answers, node == if responder == 0 { best } else { responder }, "shard {shard}");
            let answers = net.machines[node].place_of(shard, &PLAIN) == Place::Responder;
            assert_eq!(answers, node == responder, "shard {shard}");
        }
    }
}

/// A boot ROM takes the sender of the answer for its file server: those on a file server's host answer it.
#[test]
fn who_is_where_the_files_are_answers_first() {
    let mut net = settled(4);
    let at = [*control(1).ip(), *control(3).ip()];
    let wants = Wants { server_type: TYPE, at: &at };
    for shard in Shard::all() {
        let mut row: Vec<usize> = (0..4).collect();
        row.sort_by_key(|node| index(shard, &id(*node), WEIGHT));
        // All that are there, in their order, and then the others in theirs.
        row.sort_by_key(|node| !at.contains(control(*node).ip()));
        let places = row.iter().map(|node| net.machines[*node].place_of(shard, &wants));
        let first = places.clone().next();
        assert_eq!(first, Some(Place::Responder), "shard {shard}");
        assert!(places.skip(1).all(|place| place != Place::Responder), "shard {shard}");
    }
    net.kill(1);
    net.kill(3);
    net.run(ms(2000));
    for shard in Shard::all() {
        let answers = [0, 2].map(|node| net.machines[node].place_of(shard, &wants) == Place::Responder);
        assert_eq!(answers.iter().filter(|answers| **answers).count(), 1, "shard {shard}");
    }
}
