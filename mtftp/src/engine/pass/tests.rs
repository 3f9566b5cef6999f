//! PXE-MTFTP on a dynamic address, packet by packet.

use wire::policy::{Policy, SlowClients};
use wire::tftp::{ErrorCode, Packet};

use super::super::bench::*;
use super::super::*;
use super::*;

const ROLE: Role = Role::Mtftp(PORT);

/// A server with the dynamic claim of `a`: 11 blocks.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a").unwrap();
    bench.sent.clear();
    bench
}

fn to_group() -> SocketAddrV4 {
    SocketAddrV4::new(group(1).ip(), 3001)
}

/// Intel's client opens from the port on which it listens.
fn rom(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(*client(n).ip(), 3001)
}

fn multicast(blocks: impl IntoIterator<Item = u64>) -> Vec<(u64, SocketAddrV4)> {
    blocks.into_iter().map(|block| (block, to_group())).collect()
}

fn tally(bench: &Bench) -> Option<Tally> {
    bench.events.iter().rev().find_map(|event| {
        let Event::SessionEnded { tally, protocol: Protocol::PxeMtftp, .. } = event else { return None };
        Some(*tally)
    })
}

/// ACKs of these blocks, one after the other.
fn acks(bench: &mut Bench, n: u8, blocks: std::ops::RangeInclusive<u16>) {
    for block in blocks {
        bench.ms(1);
        bench.ack(ROLE, rom(n), block);
    }
}

#[test]
fn a_pass_is_every_block_once_at_the_masters_pace() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    assert_eq!(bench.take_blocks(), [(1, rom(1)), (1, to_group())]);
    for block in 1..=10 {
        acks(&mut bench, 1, block..=block);
        assert_eq!(bench.take_blocks(), multicast([u64::from(block) + 1]));
        bench.ack(ROLE, rom(1), block);
        bench.ack(ROLE, rom(1), block.saturating_sub(1));
        assert_eq!(bench.take_blocks(), [], "a repeated ACK starts nothing");
    }
    acks(&mut bench, 1, 11..=11);
    let tally = tally(&bench).expect("the pass is over");
    assert_eq!((tally.multicast, tally.unicast, tally.complete, tally.lost), (11, 1, 1, 0));
    assert!(bench.open.is_empty());
}

#[test]
fn a_forged_open_draws_three_blocks() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    bench.ms(5_000);
    assert_eq!(bench.take_blocks(), [(1, rom(1)), (1, to_group()), (1, rom(1))]);
    assert!(bench.open.is_empty() && tally(&bench).is_some());
}

/// Intel's client gives up on the third copy of a block, and on a lower number.
#[test]
fn a_lost_block_is_sent_again_a_few_times_ever_later() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    acks(&mut bench, 1, 1..=4);
    bench.take_blocks();
    bench.ms(45);
    assert_eq!(bench.take_blocks(), []);
    bench.ms(850);
    assert_eq!(bench.take_blocks(), multicast([5, 5, 5]));
    bench.ack(ROLE, rom(1), 5);
    assert_eq!(bench.take_blocks(), multicast([6]));
    // Silent for a second, with nobody else there: over.
    bench.ms(1_100);
    let tally = tally(&bench).expect("the pass is over");
    assert_eq!((tally.complete, tally.lost), (0, 1));
}

#[test]
fn who_opens_in_the_middle_hears_the_rest_and_opens_again() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    acks(&mut bench, 1, 1..=4);
    bench.take_blocks();
    bench.open(PORT, rom(2), "a");
    bench.open(PORT, rom(2), "a");
    bench.ms(2);
    assert_eq!(bench.take_blocks(), [], "it hears that a pass runs");
    acks(&mut bench, 1, 5..=11);
    assert_eq!(bench.take_blocks(), multicast(6..=11), "in order to the end");
    assert!(tally(&bench).is_some());
    bench.open(PORT, rom(2), "a");
    assert_eq!(bench.take_blocks(), [(1, rom(2)), (1, to_group())], "the next pass, at once");
}

/// It has heard nothing of this pass, and waits for an answer to its open.
#[test]
fn who_opens_behind_the_last_block_gets_the_next_pass_without_a_pause() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    bench.open(PORT, rom(3), "a");
    acks(&mut bench, 1, 1..=10);
    bench.ms(1);
    bench.open(PORT, rom(2), "a");
    bench.take_blocks();
    acks(&mut bench, 1, 11..=11);
    assert_eq!(bench.take_blocks(), [(1, rom(2)), (1, to_group())]);
    acks(&mut bench, 2, 1..=11);
    assert_eq!((tally(&bench).unwrap().complete, tally(&bench).unwrap().openers), (2, 3));
}

#[test]
fn two_opens_at_once_make_one_master() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    bench.open(PORT, rom(2), "a");
    assert_eq!(bench.take_blocks(), [(1, rom(1)), (1, to_group())]);
    // The master's copy was lost: it opens again.
    bench.open(PORT, rom(1), "a");
    assert_eq!(bench.take_blocks(), [(1, rom(1))]);
    acks(&mut bench, 1, 1..=1);
    bench.open(PORT, rom(1), "a");
    assert_eq!(bench.take_blocks(), multicast([2]), "a late copy of the open starts nothing");
    // It has been switched off and on.
    bench.ms(600);
    bench.take_blocks();
    bench.open(PORT, rom(1), "a");
    assert_eq!(bench.take_blocks(), [(1, rom(1)), (1, to_group())]);
}

/// A listener in the manner of Intel's does not hear the copy; ours does, and goes on from there.
#[test]
fn a_dead_masters_pass_is_offered_to_those_who_opened() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    acks(&mut bench, 1, 1..=3);
    bench.open(PORT, rom(2), "a");
    bench.open(PORT, rom(3), "a");
    bench.take_blocks();
    bench.pass(MASTER_SILENCE);
    let blocks = bench.take_blocks();
    assert_eq!(blocks.last(), Some(&(4, rom(2))), "{blocks:?}");
    bench.pass(SILENCE_MAX * 3);
    assert_eq!(bench.take_blocks(), [(4, rom(3))]);
    // The one that was asked first is slow, but there.
    bench.ack(ROLE, rom(2), 4);
    assert_eq!(bench.take_blocks(), multicast([5]));
    acks(&mut bench, 2, 5..=11);
    let tally = tally(&bench).expect("the pass is over");
    assert_eq!((tally.complete, tally.lost), (1, 1));
    assert!(bench.counter("session", "master_passed_over") == 2);
}

#[test]
fn strangers_and_errors_move_nothing() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    bench.open(PORT, rom(2), "a");
    acks(&mut bench, 1, 1..=2);
    bench.take_blocks();
    bench.ack(ROLE, rom(2), 5);
    bench.ack(ROLE, rom(9), 5);
    bench.ack(ROLE, rom(1), 12);
    assert_eq!(bench.take_blocks(), []);
    let error = Packet::Error { code: ErrorCode::NOT_DEFINED, message: b"" }.encode();
    bench.datagram(ROLE, rom(2), &error);
    assert_eq!(bench.take_blocks(), []);
    bench.datagram(ROLE, rom(1), &error);
    assert_eq!(tally(&bench).map(|tally| tally.lost), Some(1), "nobody is left");
}

#[test]
fn openers_are_bounded() {
    let mut bench = bench();
    bench.open(PORT, rom(1), "a");
    for port in 0..30 {
        bench.ms(60);
        acks(&mut bench, 1, 1..=1);
        bench.open(PORT, SocketAddrV4::new(*rom(2).ip(), 4_000 + port), "a");
    }
    let status = bench.engine.status();
    assert_eq!(status.claims[0].sessions[0].openers.len(), 1 + OPENERS_PER_SOURCE_MAX);
    assert_eq!(bench.counter("session", "too_many_openers"), 30 - OPENERS_PER_SOURCE_MAX as u64);
}

/// A server with a file of a hundred blocks, and that policy.
fn slow_bench(slow: SlowClients) -> Bench {
    let mut bench = Bench::new();
    bench.policy = Policy { slow, silences: 0, rate_min: 100_000, ..Policy::default() };
    bench.files.insert("file".to_owned(), 100 * 512 - 1);
    bench.configure(1, 1, group(1), "file").unwrap();
    bench.sent.clear();
    bench
}

/// The master ACKs every 15 ms, 34 kB/s, for so many blocks.
fn crawl(bench: &mut Bench, n: u8, blocks: std::ops::RangeInclusive<u16>) {
    for block in blocks {
        bench.ms(15);
        bench.ack(ROLE, rom(n), block);
    }
}

#[test]
fn a_slow_master_is_outrun_at_the_least_rate_while_anybody_is_heard() {
    let mut bench = slow_bench(SlowClients::SecondStream);
    bench.open(PORT, rom(1), "file");
    bench.open(PORT, rom(2), "file");
    crawl(&mut bench, 1, 1..=40);
    assert!(bench.events.iter().any(
        |it| matches!(it, Event::SlowClient { client, what: SlowClients::SecondStream, .. } if *client == rom(1))
    ));
    bench.take_blocks();
    // 512 bytes at 100,000 bytes/s: one every 5.12 ms.
    bench.ms(103);
    let blocks = bench.take_blocks();
    assert!((19..=21).contains(&blocks.len()), "{blocks:?}");
    let numbers: Vec<u64> = blocks.iter().map(|(block, _)| *block).collect();
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "in order, once: {numbers:?}");
    // It misses blocks, and opens again: that starts nothing, and keeps the pass alive to its end.
    while bench.engine.status().claims[0].sessions.len() == 1 {
        bench.open(PORT, rom(1), "file");
        bench.ms(20);
    }
    let rest = bench.take_blocks();
    assert_eq!(rest.iter().map(|(block, _)| *block).max(), Some(100));
    let tally = tally(&bench).expect("the pass is over");
    assert_eq!((tally.slow, tally.lost), (1, 1));
    assert_eq!(tally.multicast, 100);
    // What it lacks it gets in the next pass, in which nobody waits for it.
    bench.open(PORT, rom(1), "file");
    assert_eq!(bench.take_blocks(), [(1, rom(1)), (1, to_group())]);
    crawl(&mut bench, 1, 1..=99);
    assert_eq!(bench.take_blocks().len(), 99);
}

#[test]
fn a_listener_that_answers_takes_the_pace_from_a_slow_master() {
    let mut bench = slow_bench(SlowClients::DropToUnicast);
    bench.open(PORT, rom(1), "file");
    bench.open(PORT, rom(2), "file");
    crawl(&mut bench, 1, 1..=33);
    bench.take_blocks();
    while !bench.take_blocks().iter().any(|(_, to)| *to == rom(2)) {
        crawl(&mut bench, 1, 34..=34);
    }
    let out = bench.engine.status().claims[0].sessions[0].tally.multicast;
    bench.ack(ROLE, rom(2), u16::try_from(out).unwrap());
    assert_eq!(bench.engine.status().claims[0].sessions[0].master, Some(rom(2)));
    // The slow one is dropped: its opens are not answered while others wait, so that it falls back.
    bench.take_blocks();
    bench.open(PORT, rom(1), "file");
    assert_eq!(bench.counter("session", "dropped_to_unicast"), 1);
    assert_eq!(bench.take_blocks(), []);
}

#[test]
fn an_outrun_pass_that_hears_nobody_stops() {
    let mut bench = slow_bench(SlowClients::DropToUnicast);
    bench.files.insert("file".to_owned(), 10_000 * 512);
    bench.open(PORT, rom(1), "file");
    bench.open(PORT, rom(2), "file");
    crawl(&mut bench, 1, 1..=40);
    bench.take_blocks();
    bench.ms(10_000);
    let blocks = bench.take_blocks().len();
    assert!((380..=400).contains(&blocks), "two seconds' worth: {blocks}");
    assert!(tally(&bench).is_some());
}

#[test]
fn who_was_slow_is_remembered_within_bounds() {
    let facts = FileFacts { id: FileId(1), size: 5 };
    let channel = Channel {
        protocol: Protocol::PxeMtftp,
        role: ROLE,
        group: to_group(),
        block_size: 512,
        run_ahead: RunAhead::Off,
        policy: Policy::default(),
    };
    let mut pass = Pass::new(Time::ZERO, facts, channel);
    for number in 0..u32::try_from(OPENERS_MAX).unwrap() + 10 {
        pass.remember_slow(SocketAddrV4::new(Ipv4Addr::from_bits(number), 3001));
    }
    assert_eq!(pass.into_slow().len(), OPENERS_MAX);
}
