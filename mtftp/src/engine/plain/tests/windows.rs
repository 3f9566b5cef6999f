//! Windows (RFC 7440), and block numbers that roll over.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::outstanding::{Outstanding, Span, Verdict};
use super::*;

const BLOCK: u16 = 8;

/// A server with a file `f` of so many blocks of eight bytes, and what client 1 was answered.
fn with_window(blocks: u64, config: EngineConfig, asked: u16) -> (Bench, Option<Options>) {
    let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
    bench.files.insert("f".to_owned(), (blocks - 1) * u64::from(BLOCK) + 3);
    let options =
        Options { window_size: Some(asked), block_size: Some(BLOCK), rollover: None, ..Options::default() };
    ask(&mut bench, 1, "f", options);
    let answer = bench.sent.pop().map(|sent| match Packet::decode(&sent.bytes) {
        Ok(Packet::OptionAck(options)) => options,
        other => panic!("no OACK: {other:?}"),
    });
    (bench, answer)
}

/// A transfer of so many blocks with this window, the first of it out.
fn started(blocks: u64, window: u16) -> Bench {
    let (mut bench, answer) = with_window(blocks, EngineConfig::default(), window);
    assert_eq!(answer.unwrap().window_size, Some(window));
    assert!(bench.blocks.is_empty());
    ack(&mut bench, 1, 0);
    bench
}

fn spans(bench: &mut Bench) -> Vec<(u64, u16)> {
    bench.take_spans(client(1))
}

#[test]
fn no_more_is_granted_than_was_asked_for_and_is_configured() {
    for (most, asked, granted) in [
        (64, 4, Some(4)),
        (64, 64, Some(64)),
        (64, 65_535, Some(64)),
        (8, 16, Some(8)),
        (64, 1, Some(1)),
        (1, 16, None),
    ] {
        let config = EngineConfig { window_size_max: most, ..EngineConfig::default() };
        let (mut bench, answer) = with_window(1000, config, asked);
        assert_eq!(answer.unwrap().window_size, granted, "{asked} of {most}");
        ack(&mut bench, 1, 0);
        assert_eq!(spans(&mut bench), [(1, granted.unwrap_or(1))]);
    }
}

/// Turned off, and with no other option, the transfer begins as if there were no options at all.
#[test]
fn windowsize_alone_is_as_if_absent_where_there_are_none() {
    let config = EngineConfig { window_size_max: 1, ..EngineConfig::default() };
    let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
    ask(&mut bench, 1, "a", Options { window_size: Some(8), ..Options::default() });
    assert_eq!(spans(&mut bench), [(1, 1)]);
    assert!(bench.sent.is_empty());
}

/// A window goes out at once, in one action, so that one send can carry it.
#[test]
fn one_ack_for_a_window() {
    let mut bench = started(10, 4);
    assert_eq!(spans(&mut bench), [(1, 4)]);
    ack(&mut bench, 1, 4);
    assert_eq!(spans(&mut bench), [(5, 4)]);
    ack(&mut bench, 1, 8);
    assert_eq!(spans(&mut bench), [(9, 2)]);
    ack(&mut bench, 1, 10);
    assert_eq!((outcomes(&bench), spans(&mut bench)), (vec![Outcome::Complete], vec![]));
    assert!(bench.open.is_empty());
}

/// RFC 7440 § 4: after an ACK in the middle the window starts behind it; EDK2 sends that ACK for every block it drops.
#[test]
fn a_gap_starts_the_window_again_once() {
    let mut bench = started(100, 8);
    spans(&mut bench);
    for _ in 0..6 {
        ack(&mut bench, 1, 2);
    }
    assert_eq!(spans(&mut bench), [(3, 8)]);
    // In the window that was repeated another block is lost: that is news.
    ack(&mut bench, 1, 4);
    assert_eq!(spans(&mut bench), [(5, 8)]);
    ack(&mut bench, 1, 12);
    assert_eq!(spans(&mut bench), [(13, 8)]);
}

/// The first block of a window is lost: the ACK of the window before comes once more for each of the others.
#[test]
fn a_repeated_ack_repeats_a_window_once() {
    let mut bench = started(100, 8);
    spans(&mut bench);
    ack(&mut bench, 1, 8);
    assert_eq!(spans(&mut bench), [(9, 8)]);
    for _ in 0..1000 {
        ack(&mut bench, 1, 8);
    }
    assert_eq!(spans(&mut bench), [(9, 8)]);
    // Copies of that window make the client repeat this ACK too: it may not start another round of copies.
    ack(&mut bench, 1, 16);
    for _ in 0..1000 {
        ack(&mut bench, 1, 16);
    }
    assert_eq!(spans(&mut bench), [(17, 8)]);
    bench.ms(2_000);
    assert!(spans(&mut bench).contains(&(17, 8)), "the timer does the rest");
}

/// Where one block is out no later one can tell the client of a gap: an ACK that comes again is a copy.
#[test]
fn a_single_block_is_repeated_by_the_timer_only() {
    for (blocks, window, acks) in [(100, 1, vec![1]), (9, 8, vec![8])] {
        let mut bench = started(blocks, window);
        for block in acks {
            ack(&mut bench, 1, block);
            spans(&mut bench);
            for _ in 0..100 {
                ack(&mut bench, 1, block);
            }
            assert_eq!(spans(&mut bench), []);
        }
    }
}

/// A client that ACKs every block of a window, as none should: each ACK could start the window again.
#[test]
fn acks_of_every_block_have_little_repeated() {
    for window in [4, 64] {
        let mut bench = started(5_000, window);
        let mut sent: u64 = 0;
        for block in 1..=5_000 {
            sent += spans(&mut bench).iter().map(|span| u64::from(span.1)).sum::<u64>();
            ack(&mut bench, 1, block);
        }
        assert_eq!(outcomes(&bench), [Outcome::Complete]);
        assert!(sent <= (5_000 + u64::from(window)) * (1 + ACK_REPEATS_FOR_EACH), "{sent} blocks for 5000");
    }
}

/// Each window goes out three times, then only its last block, and the transfer ends as without windows.
#[test]
fn a_silent_client_gets_little() {
    let mut bench = started(1000, 64);
    bench.pass(Duration::from_secs(60));
    let spans = spans(&mut bench);
    assert_eq!(spans[..3], [(1, 64); 3]);
    assert_eq!(spans[3..], [(64, 1); BLOCK_SENDS_MAX as usize - 3]);
    assert_eq!((spans.len(), outcomes(&bench)), (BLOCK_SENDS_MAX as usize, vec![Outcome::Silent]));
}

/// After an outage the last block of the window makes the client say what it lacks, whatever that is.
#[test]
fn after_an_outage_the_window_is_repeated_from_the_gap() {
    for (has, expected) in
        [(0, vec![(1, 64)]), (1, vec![(2, 64)]), (63, vec![(64, 64)]), (64, vec![(65, 64)])]
    {
        let mut bench = started(1000, 64);
        bench.ms(2_600);
        assert_eq!(spans(&mut bench).last(), Some(&(64, 1)), "only the last block by now");
        ack(&mut bench, 1, has);
        ack(&mut bench, 1, has);
        assert_eq!(spans(&mut bench), expected, "the client has {has}");
    }
}

/// Karn: what was sent twice measures nothing, and the timer stays doubled until something does.
#[test]
fn a_window_that_was_repeated_measures_nothing() {
    let mut bench = started(10_000, 8);
    for block in 1..=100 {
        bench.ms(200);
        ack(&mut bench, 1, block * 8);
    }
    spans(&mut bench);
    let due = |bench: &Bench| bench.engine.plain.next_deadline().unwrap().at.since(bench.now);
    let near = |span: Duration| (200..230).contains(&span.as_millis());
    let once = due(&bench);
    assert!(near(once), "{once:?} after round trips of 200 ms");
    bench.pass(once);
    assert_eq!(spans(&mut bench), [(801, 8)]);
    // Of which copy is this the ACK? If of the second, the round trip was nothing.
    ack(&mut bench, 1, 808);
    assert_eq!(due(&bench), 2 * once);
    bench.ms(200);
    ack(&mut bench, 1, 816);
    assert!(near(due(&bench)), "{:?}", due(&bench));
}

// --- block numbers ------------------------------------------------------------------------------------------

/// The ACK number of a block, counted as the client counts.
fn numbers(rollover: Rollover) -> impl Iterator<Item = u16> {
    let first = match rollover {
        Rollover::Zero => 0,
        Rollover::One => 1,
    };
    std::iter::successors(Some(0_u16), move |number| Some(number.checked_add(1).unwrap_or(first)))
}

/// Files over 65,535 blocks, by configuration and by option.
#[test]
fn block_numbers_roll_over() {
    for (configured, asked) in [
        (Rollover::Zero, None),
        (Rollover::One, None),
        (Rollover::Zero, Some(Rollover::One)),
        (Rollover::One, Some(Rollover::Zero)),
    ] {
        let config = EngineConfig { rollover: configured, ..EngineConfig::default() };
        let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
        bench.files.insert("long".to_owned(), 140_000 * 8);
        ask(&mut bench, 1, "long", Options { block_size: Some(8), rollover: asked, ..Options::default() });
        let answer = bench.sent.pop().map(|sent| sent.bytes);
        let Ok(Packet::OptionAck(answer)) = Packet::decode(answer.as_ref().unwrap()) else {
            panic!("no OACK")
        };
        assert_eq!(answer.rollover, asked, "answered only where it was asked for");
        let mut last = 0;
        for number in numbers(asked.unwrap_or(configured)) {
            ack(&mut bench, 1, number);
            let Some(blocks) = bench.blocks.pop() else { break };
            assert_eq!((blocks.first_block, blocks.rollover), (last + 1, asked.unwrap_or(configured)));
            last += 1;
        }
        assert_eq!((last, outcomes(&bench)), (140_001, vec![Outcome::Complete]));
    }
}

proptest! {
    /// Wherever the number rolls over in a window, an ACK of any block of it is understood, and no other number is.
    #[test]
    fn acks_are_understood_across_the_wrap(
        window in 1_u16..=64, before in 0_u64..70, round in 1_u64..=2, one in any::<bool>(), of in 0_u64..70,
    ) {
        let rollover = if one { Rollover::One } else { Rollover::Zero };
        let all: Vec<u16> = numbers(rollover).take(200_000).collect();
        let mut out = Outstanding::new(190_000, window, rollover, true);
        // Up to a window that holds the wrap, mostly.
        let start = round * 65_536 - before;
        let mut acked = 0;
        while acked + u64::from(window) <= start {
            acked += u64::from(window);
            let verdict = out.on_ack(Time::ZERO, Time::ZERO, all[usize::try_from(acked).unwrap()]);
            let next = Some(Span { first: acked + 1, count: window });
            prop_assert_eq!(verdict, Verdict::Onward { round_trip: Some(Duration::ZERO), next });
        }
        let top = acked + u64::from(window);
        let number = |block: u64| all[usize::try_from(block).unwrap()];
        let inside: Vec<u16> = (acked..=top).map(number).collect();
        for stranger in (0..=u16::MAX).filter(|number| !inside.contains(number)) {
            prop_assert_eq!(out.on_ack(Time::ZERO, Time::ZERO, stranger), Verdict::Stale);
        }
        let block = acked + 1 + of % u64::from(window);
        let next = Some(Span { first: block + 1, count: window });
        let verdict = out.on_ack(Time::ZERO, Time::ZERO, number(block));
        prop_assert_eq!(verdict, Verdict::Onward { round_trip: Some(Duration::ZERO), next });
    }
}

// --- clients ------------------------------------------------------------------------------------------------

/// What a client does with a block that it does not expect.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// ACKs its place each time, as EDK2.
    Eager,
    /// ACKs its place once, as U-Boot.
    Once,
    /// Nothing before its own timer fires.
    Silent,
}

/// A client with a timer of 400 ms, which drops what is out of order.
#[derive(Debug)]
struct Receiver {
    kind: Kind,
    window: u16,
    last: u64,
    has: u64,
    unacked: u16,
    said_at: Option<u64>,
}

impl Receiver {
    /// What it ACKs.
    fn hear(&mut self, block: u64) -> Option<u64> {
        let acks = if block == self.has + 1 {
            self.has = block;
            self.unacked += 1;
            self.unacked == self.window || block == self.last
        } else {
            match self.kind {
                Kind::Eager => true,
                Kind::Once => self.said_at.replace(self.has) != Some(self.has),
                Kind::Silent => block == self.last && self.has == self.last,
            }
        };
        acks.then(|| self.say())
    }

    fn say(&mut self) -> u64 {
        self.unacked = 0;
        self.has
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Passing {
    Block(u64),
    Ack(u64),
    Timer(u64),
}

/// What happens to a datagram: lost, repeated, and its milliseconds under way.
type Fate = (bool, bool, u64);

/// A transfer over a link on which datagrams meet these fates, then none. How many blocks were sent.
fn transfer(kind: Kind, window: u16, last: u64, fates: &[Fate]) -> (u64, Bench) {
    let mut bench = started(last, window);
    let mut fates = fates.iter().copied().chain(std::iter::repeat((false, false, 2)));
    let mut receiver = Receiver { kind, window, last, has: 0, unacked: 0, said_at: None };
    let mut way: BTreeMap<(Time, u64), Passing> = BTreeMap::new();
    let (mut sent, mut count) = (0, 0);
    let mut put = |way: &mut BTreeMap<(Time, u64), Passing>, now: Time, passing, fate: Fate| {
        let (lost, twice, ms) = fate;
        let copies = if lost { 0 } else { 1 + u64::from(twice) };
        for copy in 0..copies {
            count += 1;
            way.insert((now + Duration::from_millis(ms + 3 * copy), count), passing);
        }
    };
    let mut timer = 0;
    put(&mut way, bench.now, Passing::Timer(0), (false, false, 400));
    while outcomes(&bench).is_empty() {
        for (first, blocks) in spans(&mut bench) {
            assert!(blocks <= window && first <= last);
            for block in (first..).take(usize::from(blocks)) {
                sent += 1;
                put(&mut way, bench.now, Passing::Block(block), fates.next().unwrap());
            }
        }
        let due = way.first_key_value().map(|((at, _), _)| *at);
        let deadline = bench.engine.next_deadline().map(|deadline| deadline.at);
        let next = due.into_iter().chain(deadline).min().unwrap();
        bench.pass(next.since(bench.now));
        let Some(passing) = way.first_entry().filter(|entry| entry.key().0 <= bench.now) else { continue };
        let said = match passing.remove() {
            Passing::Block(block) => {
                timer += 1;
                put(&mut way, bench.now, Passing::Timer(timer), (false, false, 400));
                receiver.hear(block)
            }
            Passing::Ack(block) => {
                ack(&mut bench, 1, Rollover::Zero.number(block));
                None
            }
            Passing::Timer(number) if number == timer => {
                put(&mut way, bench.now, Passing::Timer(timer), (false, false, 400));
                Some(receiver.say())
            }
            Passing::Timer(_) => None,
        };
        if let Some(block) = said {
            put(&mut way, bench.now, Passing::Ack(block), fates.next().unwrap());
        }
    }
    assert_eq!((outcomes(&bench), receiver.has), (vec![Outcome::Complete], last));
    (sent, bench)
}

const KINDS: [Kind; 3] = [Kind::Eager, Kind::Once, Kind::Silent];

#[test]
fn on_a_sound_link_every_block_goes_out_once() {
    for kind in KINDS {
        for window in [1, 3, 8, 64] {
            let (sent, bench) = transfer(kind, window, 500, &[]);
            assert_eq!((sent, bench.counter("transfer", "resend")), (500, 0), "{kind:?} {window}");
        }
    }
}

/// The sorcerer's apprentice: one copy of an ACK, or a block that comes late, must not double all that follows.
#[test]
fn one_copy_does_not_double_what_follows() {
    for kind in KINDS {
        for window in [1, 4, 16, 64] {
            for place in 0..150 {
                for odd in [(false, true, 2), (false, false, 60), (true, false, 2)] {
                    let mut fates = vec![(false, false, 2); place];
                    fates.push(odd);
                    let (sent, _) = transfer(kind, window, 300, &fates);
                    // And what the timer sends until the one of the client.
                    let most = 300 + 4 * u64::from(window) + 8;
                    assert!(sent <= most, "{kind:?} {window} {place} {odd:?}: {sent} blocks for 300");
                }
            }
        }
    }
}

proptest! {
    /// Whatever is lost, repeated or overtaken, the client gets the file, at a bounded price.
    #[test]
    fn windows_survive_any_link(
        kind in prop::sample::select(KINDS.to_vec()),
        window in 1_u16..=64,
        last in 1_u64..400,
        loss in 0_u32..30,
        dice in prop::collection::vec((0_u32..100, 0_u32..100, 1_u64..8), 0..600),
    ) {
        let fates: Vec<Fate> =
            dice.iter().map(|&(lost, twice, ms)| (lost < loss, twice < 10, ms)).collect();
        let (sent, bench) = transfer(kind, window, last, &fates);
        let by_timer = bench.counter("transfer", "resend") * u64::from(window);
        let by_acks = ACK_REPEATS_FOR_EACH * (last + u64::from(window));
        prop_assert!(sent <= last + by_acks + by_timer, "{} blocks for {}", sent, last);
    }
}
