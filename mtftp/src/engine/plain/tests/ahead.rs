//! Running ahead of clients without windows: what it gains where they take it, and that it costs nothing where they do not.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// Blocks of the file.
const BLOCKS: u64 = 3000;
/// iPXE's request.
const IPXE: Options = Options {
    block_size: Some(1432),
    transfer_size: Some(0),
    timeout_seconds: None,
    window_size: None,
    rollover: None,
    multicast: None,
};

/// What a client does with a block that comes before its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Throws it away and ACKs its place (EDK2).
    Strict,
    /// Keeps it, and ACKs all that it has in a row (iPXE).
    Keeps,
}

/// A client at the end of a link.
struct Client {
    manner: Manner,
    /// Blocks that its buffers hold until it reads them, once in a round trip.
    ring: usize,
    /// Blocks that are lost, by their number among all that came.
    lost: BTreeSet<u64>,
    has: BTreeSet<u64>,
    place: u64,
}

/// What came of a transfer.
#[derive(Debug)]
struct Played {
    /// Until the client had all, in milliseconds; a round trip is one.
    millis: u64,
    /// Blocks that went out.
    sent: u64,
    outcome: Vec<Outcome>,
}

impl Client {
    fn new(manner: Manner, ring: usize) -> Self {
        Self { manner, ring, lost: BTreeSet::new(), has: BTreeSet::new(), place: 0 }
    }

    fn take(&mut self, block: u64) -> u64 {
        if block == self.place + 1 || self.manner == Manner::Keeps {
            self.has.insert(block);
        }
        while self.has.contains(&(self.place + 1)) {
            self.place += 1;
        }
        self.place
    }

    /// Fetches the file; the round trip is a millisecond, in which all that is under way arrives, and the ACKs come back.
    fn fetch(mut self, bench: &mut Bench) -> Played {
        bench.files.insert("f".to_owned(), BLOCKS * 1432 - 1);
        ask(bench, 1, "f", IPXE);
        bench.blocks.clear();
        ack(bench, 1, 0);
        let (mut millis, mut sent) = (0, 0);
        while self.place < BLOCKS && millis < 100_000 {
            let mut ring: VecDeque<u64> = VecDeque::new();
            let spans = bench.take_spans(client(1)).into_iter();
            for block in spans.flat_map(|(first, count)| (first..).take(count.into())) {
                sent += 1;
                if ring.len() < self.ring && !self.lost.contains(&sent) {
                    ring.push_back(block);
                }
            }
            bench.ms(1);
            millis += 1;
            for block in ring {
                let place = self.take(block);
                ack(bench, 1, u16::try_from(place).unwrap());
            }
        }
        Played { millis, sent, outcome: outcomes(bench) }
    }
}

fn server(run_ahead: RunAhead) -> Bench {
    let config = EngineConfig { run_ahead, ..EngineConfig::default() };
    Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO))
}

#[test]
fn each_block_goes_out_once_and_many_at_a_time_where_the_client_takes_them() {
    for manner in [Manner::Strict, Manner::Keeps] {
        let slow = Client::new(manner, 1000).fetch(&mut server(RunAhead::Off));
        assert_eq!((slow.millis, slow.sent), (BLOCKS, BLOCKS));
        let mut bench = server(RunAhead::Proven);
        let fast = Client::new(manner, 1000).fetch(&mut bench);
        assert_eq!((fast.sent, &fast.outcome), (BLOCKS, &vec![Outcome::Complete]));
        // All but the first, and what went out when nothing was.
        let ahead = bench.engine.counters().get("transfer", "ahead");
        assert!(ahead >= BLOCKS - fast.millis && ahead < BLOCKS, "{ahead}");
        assert!(slow.millis >= 25 * fast.millis, "{manner:?}: {} ms", fast.millis);
    }
}

#[test]
fn only_to_those_for_whom_it_is_on() {
    let twice = |bench: &mut Bench, options: Options| {
        ask(bench, 1, "a", options);
        ack(bench, 1, 0);
        ack(bench, 1, 1);
        bench.take_spans(client(1))
    };
    let other = Options { block_size: Some(100), ..Options::default() };
    let known = Options { block_size: Some(100), ..IPXE };
    assert_eq!(twice(&mut server(RunAhead::All), other.clone()), [(1, 1), (2, 2)]);
    assert_eq!(twice(&mut server(RunAhead::Proven), other), [(1, 1), (2, 1)]);
    assert_eq!(
        twice(&mut server(RunAhead::Proven), known),
        [(1, 1), (2, 1)],
        "iPXE's blocks are of 1432 bytes"
    );
    assert_eq!(twice(&mut server(RunAhead::Off), IPXE), [(1, 1), (2, 1)]);
    assert_eq!(twice(&mut server(RunAhead::Proven), IPXE), [(1, 1), (2, 2)]);
}

/// Never slower than block by block, whatever the client has room for, and little for nothing; and what was learnt of one
/// serves the next of its kind.
#[test]
fn a_client_with_small_buffers_loses_nothing_by_it() {
    for manner in [Manner::Strict, Manner::Keeps] {
        for ring in [1, 2, 3, 4, 8, 16] {
            let mut bench = server(RunAhead::Proven);
            let first = Client::new(manner, ring).fetch(&mut bench);
            assert_eq!(first.outcome, [Outcome::Complete]);
            assert!(first.millis * 100 <= BLOCKS * 101, "{manner:?} {ring}: {first:?}");
            assert!(first.sent * 100 <= BLOCKS * 120, "{manner:?} {ring}: {first:?}");
            let second = Client::new(manner, ring).fetch(&mut bench);
            let (sent, millis) = (second.sent <= first.sent, second.millis * 100 <= first.millis * 102);
            assert!(sent && millis, "{first:?}, {second:?}");
        }
    }
}

proptest! {
    /// Whatever is lost: every client has its file, and not much goes out twice.
    #[test]
    fn loss_is_repaired(
        losses in prop::collection::btree_set(1_u64..4000, 0..60), keeps in any::<bool>(), ring in 1_usize..64,
    ) {
        let manner = if keeps { Manner::Keeps } else { Manner::Strict };
        let mut bench = server(RunAhead::All);
        let count = losses.len() as u64;
        let played = Client { lost: losses, ..Client::new(manner, ring) }.fetch(&mut bench);
        prop_assert_eq!(&played.outcome, &vec![Outcome::Complete]);
        prop_assert!(played.sent <= BLOCKS * 13 / 10 + count * 2 * u64::from(RUN_AHEAD_MAX), "{played:?}");
    }

    /// The sorcerer's apprentice: as many ACKs of one block as there may be draw no more than one repetition.
    #[test]
    fn repeated_acks_draw_little(repeats in 1_u16..200, at in 1_u16..100) {
        let mut bench = server(RunAhead::All);
        bench.files.insert("f".to_owned(), BLOCKS * 1432);
        ask(&mut bench, 1, "f", IPXE);
        (0..=at).for_each(|block| ack(&mut bench, 1, block));
        bench.take_blocks();
        (0..repeats).for_each(|_| ack(&mut bench, 1, at));
        let sent: u16 = bench.take_spans(client(1)).iter().map(|(_, count)| count).sum();
        prop_assert!(sent <= RUN_AHEAD_MAX / 2, "{sent}");
    }
}
