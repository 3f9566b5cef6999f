//! Slow clients and the start, as boot items have them, packet by packet.

use std::collections::{BTreeMap, BTreeSet};

use wire::policy::{Policy, SlowClients};
use wire::tftp::{ErrorCode, MULTICAST_PORT, MulticastAnswer, Options, Packet};

use super::super::bench::*;
use super::super::*;
use crate::limits::*;

const STREAM: Role = Role::Stream(0);
const BLOCKS: u16 = 400;

/// A server with a file of 400 blocks of 512 bytes on a dynamic address.
fn bench(policy: Policy) -> Bench {
    let mut bench = Bench::new();
    bench.policy = policy;
    bench.files.insert("file".to_owned(), u64::from(BLOCKS) * 512 - 1);
    bench.configure(1, 1, group(1), "file").unwrap();
    bench.sent.clear();
    bench
}

fn slow(slow: SlowClients) -> Policy {
    Policy { slow, silences: 4, rate_min: 100_000, ..Policy::default() }
}

fn start(clients: u16, within_s: u16) -> Policy {
    Policy { start_clients: clients, start_within_s: within_s, ..Policy::default() }
}

fn to_group() -> SocketAddrV4 {
    SocketAddrV4::new(group(1).ip(), MULTICAST_PORT)
}

/// Clients of RFC 2090 that hear everything, and ACK while they are master.
#[derive(Default)]
struct Room {
    heard: BTreeMap<u8, BTreeSet<u16>>,
    masters: BTreeSet<u8>,
    /// What each ACKed last since it became master: blocks queue up in front of it, and it takes one at a time.
    said: BTreeMap<u8, u16>,
}

impl Room {
    fn ask(&mut self, bench: &mut Bench, n: u8) {
        let options = Options { multicast: Some(String::new()), ..Options::default() };
        bench.datagram(Role::Tftp, client(n), &Bench::request("file", options));
        self.heard.entry(n).or_default();
        self.listen(bench, &[]);
    }

    /// Takes what went out; the deaf do not hear the group.
    fn listen(&mut self, bench: &mut Bench, deaf: &[u8]) {
        for (block, to) in bench.take_blocks() {
            let block = u16::try_from(block).unwrap();
            for (n, heard) in &mut self.heard {
                if to == client(*n) || (to == to_group() && !deaf.contains(n)) {
                    heard.insert(block);
                }
            }
        }
        for transmit in std::mem::take(&mut bench.sent) {
            let Packet::OptionAck(options) = Packet::decode(&transmit.bytes).unwrap() else { continue };
            let Some(answer) = options.multicast.as_deref().and_then(MulticastAnswer::parse) else {
                continue;
            };
            let Some(n) = self.heard.keys().find(|n| client(**n) == transmit.to) else { continue };
            if answer.is_master {
                self.said.remove(n);
                self.masters.insert(*n);
            } else {
                self.masters.remove(n);
            }
        }
    }

    fn before_gap(&self, n: u8) -> u16 {
        (1..=BLOCKS)
            .find(|block| !self.heard.get(&n).is_some_and(|heard| heard.contains(block)))
            .map_or(BLOCKS, |gap| gap - 1)
    }

    fn ack(&mut self, bench: &mut Bench, n: u8, deaf: &[u8]) {
        let gap = self.before_gap(n);
        let says = self.said.get(&n).map_or(gap, |said| gap.min(said + 1));
        self.said.insert(n, says);
        bench.ack(STREAM, client(n), says);
        self.listen(bench, deaf);
    }

    /// Client `n` ACKs every so often, as long as it is a master, until `end` says so. Gives how long that took.
    fn go(
        &mut self,
        bench: &mut Bench,
        (n, every): (u8, u64),
        deaf: &[u8],
        end: impl Fn(&Self) -> bool,
    ) -> Duration {
        let began = bench.now;
        while !end(self) {
            assert!(bench.now.since(began) < Duration::from_secs(60), "it ends");
            bench.ms(every);
            self.listen(bench, deaf);
            if self.masters.contains(&n) {
                self.ack(bench, n, deaf);
            }
        }
        // Who has it all says so.
        while self.before_gap(n) == BLOCKS && self.said.get(&n) != Some(&BLOCKS) {
            bench.ms(every);
            self.ack(bench, n, deaf);
        }
        bench.now.since(began)
    }
}

fn tally(bench: &Bench) -> Tally {
    let ended = bench.events.iter().rev().find_map(|event| {
        let Event::SessionEnded { tally, .. } = event else { return None };
        Some(*tally)
    });
    ended.expect("the stream ended")
}

fn roles(bench: &Bench) -> Vec<(SocketAddrV4, OpenerRole)> {
    let status = bench.engine.status();
    let openers = status.claims[0].sessions.iter().flat_map(|session| &session.openers);
    openers.map(|opener| (opener.client, opener.role)).collect()
}

fn slow_clients(bench: &Bench) -> Vec<(SocketAddrV4, SlowClients)> {
    let slow = bench.events.iter().filter_map(|event| {
        let Event::SlowClient { client, what, .. } = event else { return None };
        Some((*client, *what))
    });
    slow.collect()
}

#[test]
fn who_keeps_others_waiting_gets_the_rest_by_unicast() {
    let mut bench = bench(slow(SlowClients::DropToUnicast));
    let mut room = Room::default();
    room.ask(&mut bench, 1);
    room.ask(&mut bench, 2);
    // 512 bytes in 15 ms: 34 kB/s.
    let took = room.go(&mut bench, (1, 15), &[], |room| room.masters.contains(&2));
    assert!(took >= PACE_SPAN * 9 / 10 && took < PACE_SPAN * 2, "{took:?}");
    assert_eq!(slow_clients(&bench), [(client(1), SlowClients::DropToUnicast)]);
    // The other goes on at its own pace; the slow one is deaf to it, to see what it gets by itself.
    room.go(&mut bench, (2, 1), &[1], |room| room.before_gap(2) == BLOCKS);
    // So many it was sent in half a second, and before its ACKs.
    assert!(room.before_gap(1) < 34 + GROUP_AHEAD_MAX && room.masters.contains(&1), "{}", room.before_gap(1));
    assert_eq!(roles(&bench), [(client(1), OpenerRole::Unicast)]);
    room.go(&mut bench, (1, 15), &[1], |room| room.before_gap(1) == BLOCKS);
    let tally = tally(&bench);
    assert_eq!((tally.complete, tally.lost, tally.slow), (2, 0, 1));
    assert_eq!(tally.multicast, u64::from(BLOCKS), "nothing twice to the group");
    assert!(tally.unicast > 300);
}

#[test]
fn a_client_at_its_own_pace_asks_again_is_repeated_to_and_is_given_up() {
    let mut bench = bench(slow(SlowClients::DropToUnicast));
    let mut room = Room::default();
    room.ask(&mut bench, 1);
    room.ask(&mut bench, 2);
    room.go(&mut bench, (1, 15), &[], |room| room.masters.contains(&2));
    room.ack(&mut bench, 1, &[1]);
    let next = room.before_gap(1) + 1;
    // Two copies of an ACK start one block; silence repeats it.
    bench.ack(STREAM, client(1), next - 2);
    bench.ack(STREAM, client(1), next - 2);
    assert_eq!(bench.take_blocks(), []);
    // The OACK is lost: it asks for the file once more, and hears where the data goes.
    bench.datagram(
        Role::Tftp,
        client(1),
        &Bench::request("file", Options { multicast: Some(String::new()), ..Options::default() }),
    );
    let sent = std::mem::take(&mut bench.sent);
    let Packet::OptionAck(oack) = Packet::decode(&sent[0].bytes).unwrap() else { panic!("{sent:?}") };
    assert_eq!(oack.multicast.as_deref(), Some("239.255.7.1,1758,1"));
    bench.ack(STREAM, client(1), 0);
    assert_eq!(bench.take_blocks(), [(1, client(1))]);
    // An ERROR ends it alone; the others go on.
    bench.datagram(STREAM, client(1), &Packet::Error { code: ErrorCode::NOT_DEFINED, message: b"" }.encode());
    assert_eq!(bench.engine.status().claims[0].sessions[0].openers.len(), 1);
    room.go(&mut bench, (2, 1), &[1], |room| room.before_gap(2) == BLOCKS);
    assert_eq!((tally(&bench).complete, tally(&bench).lost), (1, 1));
}

#[test]
fn the_slow_share_a_second_stream_when_the_others_are_done() {
    let mut bench = bench(slow(SlowClients::SecondStream));
    let mut room = Room::default();
    for n in 1..=3 {
        room.ask(&mut bench, n);
    }
    room.go(&mut bench, (1, 15), &[], |room| room.masters.contains(&2));
    room.go(&mut bench, (2, 15), &[], |room| room.masters.contains(&3));
    assert_eq!(slow_clients(&bench).len(), 2);
    let [slow, master] = [OpenerRole::Slow, OpenerRole::Master];
    assert_eq!(roles(&bench), [(client(1), slow), (client(2), slow), (client(3), master)]);
    room.go(&mut bench, (3, 1), &[1, 2], |room| room.before_gap(3) == BLOCKS);
    assert!(room.before_gap(1) < BLOCKS);
    let before = bench.counter("session", "master_named");
    // Slow as they are, nobody is taken the pace from now; one of them sets it, and both hear.
    let end = |room: &Room| room.before_gap(1) == BLOCKS;
    while !end(&room) {
        bench.ms(15);
        room.listen(&mut bench, &[]);
        for n in [1, 2] {
            if room.masters.contains(&n) {
                room.ack(&mut bench, n, &[]);
            }
        }
        assert!(bench.now.since(Time::ZERO) < Duration::from_secs(60));
    }
    assert_eq!(room.before_gap(2), BLOCKS, "the same blocks served both");
    for n in [1, 2] {
        while room.said.get(&n) != Some(&BLOCKS) {
            bench.ms(15);
            room.ack(&mut bench, n, &[]);
        }
    }
    let tally = tally(&bench);
    assert_eq!((tally.complete, tally.lost, tally.slow), (3, 0, 2));
    let named = bench.counter("session", "master_named") - before;
    assert!(named <= 4, "{named} {tally:?}");
    assert!(tally.multicast < 2 * u64::from(BLOCKS), "{tally:?}");
}

#[test]
fn a_newcomer_does_not_wait_for_the_slow() {
    let mut bench = bench(slow(SlowClients::SecondStream));
    let mut room = Room::default();
    room.ask(&mut bench, 1);
    room.ask(&mut bench, 2);
    room.go(&mut bench, (1, 15), &[], |room| room.masters.contains(&2));
    room.go(&mut bench, (2, 1), &[1], |room| room.before_gap(2) == BLOCKS);
    room.go(&mut bench, (1, 15), &[], |room| room.before_gap(1) > 40);
    room.ask(&mut bench, 3);
    bench.ms(1);
    room.ack(&mut bench, 1, &[]);
    assert!(room.masters.contains(&3), "the slow one gives the pace away with its next ACK");
    room.go(&mut bench, (3, 1), &[], |room| room.before_gap(3) == BLOCKS);
}

/// The first is slow and has had its turn taken, the second has all, and the third lost some blocks in the middle.
fn lacking_little_beside_a_slow_one() -> (Bench, Room) {
    let mut bench = bench(slow(SlowClients::SecondStream));
    let mut room = Room::default();
    (1..=3).for_each(|n| room.ask(&mut bench, n));
    room.go(&mut bench, (1, 15), &[], |room| room.masters.contains(&2));
    room.go(&mut bench, (2, 1), &[1], |room| room.before_gap(2) > 200);
    room.go(&mut bench, (2, 1), &[1, 3], |room| room.before_gap(2) > 240);
    room.go(&mut bench, (2, 1), &[1], |room| room.before_gap(2) == BLOCKS);
    (bench, room)
}

/// A listener that lost a block is asked, and made whole, before the slow one goes on.
#[test]
fn who_lacks_little_does_not_wait_for_the_slow() {
    let (mut bench, mut room) = lacking_little_beside_a_slow_one();
    assert!(room.before_gap(3) < BLOCKS);
    room.go(&mut bench, (3, 1), &[1], |room| room.before_gap(3) == BLOCKS);
    assert_eq!(roles(&bench), [(client(1), OpenerRole::Master)], "now it is its turn");
    room.go(&mut bench, (1, 15), &[], |room| room.before_gap(1) == BLOCKS);
    assert_eq!((tally(&bench).complete, tally(&bench).lost), (3, 0));
}

/// Who is repaired so slowly that the slow have their turn first is asked again after that.
#[test]
fn who_was_being_repaired_is_not_given_up_while_the_slow_have_their_turn() {
    let (mut bench, mut room) = lacking_little_beside_a_slow_one();
    let is_its_turn = |bench: &Bench| roles(bench).contains(&(client(1), OpenerRole::Master));
    room.go(&mut bench, (3, 1), &[1], |room| room.masters.contains(&3));
    for _ in 0..20 {
        bench.ms(15);
        room.ack(&mut bench, 3, &[1]);
    }
    assert!(is_its_turn(&bench), "{:?}", roles(&bench));
    let took = room.go(&mut bench, (1, 50), &[3], |room| room.before_gap(1) == BLOCKS);
    assert!(took > STREAM_SILENCE, "{took:?}");
    room.masters.remove(&3);
    room.go(&mut bench, (3, 1), &[], |room| room.before_gap(3) == BLOCKS);
    assert_eq!((tally(&bench).complete, tally(&bench).lost), (3, 0));
}

#[test]
fn by_default_and_alone_nobody_is_slow() {
    for (policy, others) in [(slow(SlowClients::Keep), 1), (slow(SlowClients::DropToUnicast), 0)] {
        let mut bench = bench(policy);
        let mut room = Room::default();
        for n in 1..=others + 1 {
            room.ask(&mut bench, n);
        }
        room.go(&mut bench, (1, 15), &[], |room| room.before_gap(1) == BLOCKS);
        assert_eq!(slow_clients(&bench), []);
    }
}

#[test]
fn silences_in_a_row_are_slow_too() {
    let mut bench = bench(Policy { rate_min: 0, ..slow(SlowClients::DropToUnicast) });
    let mut room = Room::default();
    room.ask(&mut bench, 1);
    room.ask(&mut bench, 2);
    room.ack(&mut bench, 1, &[]);
    room.go(&mut bench, (9, 10), &[], |room| room.masters.contains(&2));
    assert_eq!(slow_clients(&bench), [(client(1), SlowClients::DropToUnicast)]);
}

#[test]
fn the_start_waits_for_clients_for_a_while_or_for_an_operator() {
    for how in ["clients", "time", "operator"] {
        let mut bench = bench(start(3, 20));
        let mut room = Room::default();
        room.ask(&mut bench, 1);
        room.ask(&mut bench, 2);
        assert_eq!(room.masters.len(), 0, "both listen");
        let awaited = bench.engine.status().claims[0].sessions[0].start.unwrap();
        assert_eq!((awaited.clients, awaited.at), (3, bench.now + Duration::from_secs(20)));
        bench.ms(19_000);
        // They ask again meanwhile, which changes nothing.
        room.ask(&mut bench, 2);
        assert_eq!((room.masters.len(), bench.take_blocks()), (0, vec![]));
        match how {
            "clients" => room.ask(&mut bench, 3),
            "time" => {
                bench.ms(1_000);
                room.listen(&mut bench, &[]);
            }
            _ => {
                assert_eq!(bench.engine.on_start(bench.now, group(1)), Started::Begun(2));
                bench.drain();
                room.listen(&mut bench, &[]);
                assert_eq!(bench.engine.on_start(bench.now, group(1)), Started::NothingWaits);
                let there = Started::NoSuchAddress(vec![group(1)]);
                assert_eq!(bench.engine.on_start(bench.now, group(2)), there);
            }
        }
        assert_eq!(room.masters, BTreeSet::from([1]), "{how}");
        assert_eq!(bench.engine.status().claims[0].sessions[0].start, None);
        room.go(&mut bench, (1, 1), &[], |room| room.before_gap(1) == BLOCKS);
        // Whoever comes later begins at once.
        assert_eq!(room.before_gap(2), BLOCKS);
    }
}

#[test]
fn the_oldest_claims_policy_counts_and_the_newest_word_of_it() {
    let mut bench = bench(start(3, 20));
    bench.policy = Policy::default();
    bench.configure(2, 1, group(1), "file").unwrap();
    bench.sent.clear();
    let mut room = Room::default();
    room.ask(&mut bench, 1);
    assert!(room.masters.is_empty(), "the other's claim is younger");
    bench.ms(40_000);
    bench.configure(1, 2, group(1), "file").unwrap();
    bench.sent.clear();
    let mut room = Room::default();
    room.ask(&mut bench, 4);
    assert_eq!(room.masters, BTreeSet::from([4]), "a renewal changes it");
}
