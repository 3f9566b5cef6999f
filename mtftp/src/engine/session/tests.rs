use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::tftp::{ErrorCode, Packet};

use super::super::bench::*;
use super::super::window::BlockSet;
use super::super::*;
use crate::limits::*;

const ROLE: Role = Role::Mtftp(PORT);

const FILES: [&str; 4] = ["a", "b", "one", "most"];

/// A session for iPXE of file `a` (11 blocks) may begin on this bench.
fn bench() -> Bench {
    bench_for("a")
}

/// Of this file, whose address is the pinned one.
fn bench_for(pinned: &str) -> Bench {
    bench_with(pinned, RunAhead::default())
}

fn bench_with(pinned: &str, run_ahead: RunAhead) -> Bench {
    let place = FILES.iter().position(|file| *file == pinned).unwrap();
    let pinned_group = group(u8::try_from(place).unwrap() + 1);
    let (pinned_server_port, server_ports) = (PORT, vec![PINNED_PORT]);
    let config =
        EngineConfig { pinned_group, pinned_server_port, server_ports, run_ahead, ..EngineConfig::default() };
    let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
    for (serial, file) in FILES.iter().enumerate() {
        let n = u8::try_from(serial).unwrap();
        bench.configure(1, u32::from(n), group(n + 1), file).unwrap();
    }
    bench.sent.clear();
    bench
}

fn to_group(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(group(n).ip(), 3001)
}

fn tally(bench: &Bench) -> Tally {
    let ended = bench.events.iter().rev().find_map(|event| {
        let Event::SessionEnded { tally, .. } = event else { return None };
        Some(*tally)
    });
    ended.expect("the session ended")
}

#[test]
fn the_first_block_goes_to_the_opener_and_to_the_group_from_the_server_port() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    assert!(
        bench
            .blocks
            .iter()
            .all(|blocks| blocks.role == ROLE && blocks.block_size == 512 && blocks.count == 1)
    );
    assert_eq!(bench.take_blocks(), [(1, client(1)), (1, to_group(1))]);
}

/// Whoever was held up has the rest queued up in front of it.
#[test]
fn who_catches_up_at_the_end_gets_nothing_before_it_is_through() {
    for names_gap in [false, true] {
        let mut bench = bench();
        (1..=2).for_each(|n| bench.open(PORT, client(n), "a"));
        (1..=2).for_each(|n| bench.ack(ROLE, client(n), 1));
        for block in 2..=10 {
            bench.ack(ROLE, client(1), block);
        }
        let to_all = |bench: &mut Bench| -> Vec<u64> {
            bench
                .take_blocks()
                .into_iter()
                .filter(|(_, to)| *to == to_group(1))
                .map(|(block, _)| block)
                .collect()
        };
        to_all(&mut bench);
        for block in 2..=4 {
            bench.ms(1);
            bench.ack(ROLE, client(2), block);
            assert!(to_all(&mut bench).is_empty(), "it may have {}", block + 1);
        }
        if names_gap {
            (0..3).for_each(|_| bench.ack(ROLE, client(2), 4));
        } else {
            bench.pass(2 * RESEND_MIN);
        }
        assert_eq!(to_all(&mut bench), [5]);
    }
}

/// Nobody waits for the last block until others have all that they lack: it comes alone, and again if it is lost.
#[test]
fn who_has_all_but_the_last_block_waits_for_nobody() {
    for dead in [false, true] {
        let mut bench = bench();
        (1..=2).for_each(|n| bench.open(PORT, client(n), "a"));
        (1..=2).for_each(|n| bench.ack(ROLE, client(n), 1));
        (2..=10).for_each(|block| bench.ack(ROLE, client(1), block));
        assert!(bench.take_blocks().iter().all(|(block, _)| *block < 11), "one packet may serve both");
        let mut alone = 0;
        for block in 2..=8 {
            bench.pass(RESEND_MIN);
            alone += bench.take_blocks().iter().filter(|sent| **sent == (11, client(1))).count();
            if !dead {
                bench.ack(ROLE, client(2), block);
            }
        }
        assert!((2..=usize::from(QUESTIONS_MAX)).contains(&alone), "{alone} copies");
        bench.ack(ROLE, client(1), 11);
        bench.take_blocks();
        bench.pass(2 * SILENCE_MAX);
        let sent = bench.take_blocks();
        assert!(!sent.is_empty() && sent.iter().all(|(_, to)| *to != client(1)), "it is gone: {sent:?}");
    }
}

/// Whoever of these machines dies, the others wait a few hundredths of a second at most.
#[test]
fn a_machine_that_dies_holds_nobody_up() {
    for dead in 1..=4 {
        let mut bench = bench_for("most");
        (1..=4).for_each(|n| bench.open(PORT, client(n), "most"));
        let (mut next, mut heard_at, mut longest) = (1, bench.now, Duration::ZERO);
        for _ in 0..2_000 {
            for (block, _) in bench.take_blocks() {
                if block == next {
                    longest = longest.max(bench.now.since(heard_at));
                    (next, heard_at) = (next + 1, bench.now);
                }
                let acked = u16::try_from(next - 1).unwrap();
                for n in (1..=4).filter(|n| *n != dead || next < 1_000) {
                    bench.ack(ROLE, client(n), acked);
                }
            }
            bench.ms(1);
        }
        assert!(next > 20_000, "{next}");
        assert!(longest <= SILENCE_MAX / 2, "{longest:?} without {dead}");
    }
}

#[test]
fn the_master_paces_the_pass_and_duplicates_start_nothing() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.take_blocks();
    bench.ack(ROLE, client(1), 1);
    assert_eq!(bench.take_blocks(), [2, 3].map(|block| (block, to_group(1))), "one more with each ACK");
    // iPXE ACKs both copies of block 1.
    bench.ack(ROLE, client(1), 1);
    assert_eq!(bench.take_blocks(), []);
    let mut sent = Vec::new();
    for block in 2..=10 {
        bench.ack(ROLE, client(1), block);
        sent.extend(bench.take_blocks());
        bench.ack(ROLE, client(1), block - 1);
        assert_eq!(bench.take_blocks(), [], "an old ACK");
        assert_eq!(sent.iter().any(|(block, _)| *block == 11), block == 10, "the last one waits");
    }
    assert_eq!(sent, (4..=11).map(|block| (block, to_group(1))).collect::<Vec<_>>());
    bench.ack(ROLE, client(1), 11);
    let tally = tally(&bench);
    assert_eq!((tally.multicast, tally.unicast, tally.spare, tally.complete), (11, 1, 0, 1));
    assert!(bench.open.is_empty(), "the file is closed");
}

#[test]
fn by_the_off_switch_each_block_waits_for_the_ack_of_the_one_before() {
    let mut bench = bench_with("a", RunAhead::Off);
    bench.open(PORT, client(1), "a");
    bench.take_blocks();
    for block in 1..=10 {
        bench.ack(ROLE, client(1), block);
        assert_eq!(bench.take_blocks(), [(u64::from(block) + 1, to_group(1))]);
    }
}

/// Duplicate ACKs do not put off the resend: the mistake that stalls atftpd for good.
#[test]
fn a_duplicate_ack_does_not_postpone_the_resend() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.ack(ROLE, client(1), 1);
    bench.take_blocks();
    for _ in 0..12 {
        bench.ms(10);
        bench.ack(ROLE, client(1), 1);
    }
    assert!(bench.take_blocks().contains(&(2, to_group(1))));
}

#[test]
fn at_most_three_blocks_before_the_first_ack_and_two_seconds_of_patience() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.ms(250);
    bench.open(PORT, client(1), "a");
    assert_eq!(bench.counter("session", "open_repeated"), 1);
    bench.ms(1_749);
    assert_eq!(bench.take_blocks(), [(1, client(1)), (1, to_group(1)), (1, client(1))]);
    assert_eq!(bench.counter("session", "ended"), 0);
    bench.ms(1);
    assert_eq!(bench.counter("session", "ended"), 1);
    assert!(bench.open.is_empty());
}

#[test]
fn a_session_that_hears_nobody_stops_after_two_seconds() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.ack(ROLE, client(1), 1);
    bench.take_blocks();
    bench.ms(1_999);
    let sent = bench.take_blocks().len();
    assert!((19..=30).contains(&sent), "at most 100 ms of silence, and no flood: {sent}");
    bench.ms(1);
    assert_eq!(bench.counter("session", "ended"), 1);
    bench.ms(5_000);
    assert_eq!(bench.take_blocks(), []);
}

/// A late joiner hears the rest of the pass, then its missing prefix, in the same session; the last block is held
/// back meanwhile, and no block goes out twice that nobody lacks.
#[test]
fn a_late_joiner_is_made_whole_in_the_same_session() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    for block in 1..=4 {
        bench.ack(ROLE, client(1), block);
    }
    bench.open(PORT, client(2), "a");
    let before = bench.take_blocks().iter().map(|(block, _)| *block).max().unwrap();
    assert_eq!(before, 7, "they run ahead");
    for block in 5..=9 {
        bench.ack(ROLE, client(1), block);
    }
    assert_eq!(bench.take_blocks(), [8, 9, 10].map(|block| (block, to_group(1))));
    bench.ack(ROLE, client(1), 10);
    assert_eq!(bench.take_blocks(), [(1, client(2))], "held back: the other lacks 1 to 7 and becomes master");
    let mut sent = Vec::new();
    for block in 1..=6 {
        bench.ack(ROLE, client(2), block);
        sent.extend(bench.take_blocks());
    }
    assert_eq!(sent, (2..=before).map(|block| (block, to_group(1))).collect::<Vec<_>>(), "nothing it heard");
    bench.ack(ROLE, client(2), 10);
    assert_eq!(bench.take_blocks(), [(11, to_group(1))]);
    bench.ack(ROLE, client(1), 11);
    bench.ack(ROLE, client(2), 11);
    let tally = tally(&bench);
    assert_eq!((tally.complete, tally.lost, tally.spare), (2, 0, 0));
    assert_eq!((tally.multicast, tally.unicast), (11 + 6, 2));
}

/// Who joined at the start and was never heard is asked before the last block, by a block it still lacks.
#[test]
fn a_silent_listener_is_asked_before_the_end() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.open(PORT, client(2), "a");
    bench.take_blocks();
    for block in 1..=9 {
        bench.ack(ROLE, client(1), block);
    }
    // It lacks block 1, which went out before its open, so it is no listener without gaps.
    assert_eq!(bench.take_blocks().last(), Some(&(10, to_group(1))));
    bench.ack(ROLE, client(1), 10);
    assert_eq!(bench.take_blocks(), [(1, client(2))]);
    bench.ack(ROLE, client(2), 10);
    assert_eq!(bench.take_blocks(), [(11, to_group(1))]);
}

/// What an ACK says beats what was presumed.
#[test]
fn a_loss_that_an_ack_reveals_is_repaired() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    for block in 1..=3 {
        bench.ack(ROLE, client(1), block);
    }
    bench.open(PORT, client(2), "a");
    for block in 4..=10 {
        bench.ack(ROLE, client(1), block);
    }
    bench.ms(50);
    bench.take_blocks();
    // Client 2 lacks 1 to 5, which went out before its open, and missed block 8 of the pass.
    let mut sent = Vec::new();
    for acked in [1, 2, 3, 4] {
        bench.ack(ROLE, client(2), acked);
        sent.extend(bench.take_blocks());
    }
    assert_eq!(sent, (2..=7).map(|block| (block, to_group(1))).collect::<Vec<_>>());
    for (acked, next) in [(7, 8), (10, 11)] {
        bench.ack(ROLE, client(2), acked);
        assert_eq!(bench.take_blocks(), [(next, to_group(1))], "after ACK {acked}");
    }
}

#[test]
fn a_dead_master_is_passed_over_after_a_second_and_nobody_hears_silence() {
    let mut bench = bench_for("most");
    bench.open(PORT, client(1), "most");
    bench.ack(ROLE, client(1), 1);
    bench.open(PORT, client(2), "most");
    bench.take_blocks();
    let mut heard_at = bench.now;
    let begin = bench.now;
    loop {
        bench.ms(10);
        let sent = bench.take_blocks();
        if sent.iter().any(|(_, to)| *to == to_group(4)) {
            heard_at = bench.now;
        }
        assert!(bench.now.since(heard_at) <= Duration::from_millis(110));
        if sent.iter().any(|(_, to)| *to == client(2)) {
            break;
        }
    }
    let waited = bench.now.since(begin);
    assert!((900..1_110).contains(&waited.as_millis()), "{waited:?}");
    // It heard block 2 and some more meanwhile; now it paces the session.
    bench.ack(ROLE, client(2), 11);
    assert_eq!(bench.take_blocks(), [12, 13].map(|block| (block, to_group(4))));
}

/// Two repeated ACKs repair a loss at once, and start nothing else; a gap behind it that the next ACK names, too.
#[test]
fn a_block_lost_on_the_way_goes_out_again_at_once_and_alone() {
    let mut bench = bench_for("most");
    bench.open(PORT, client(1), "most");
    for block in 1..=100 {
        bench.ack(ROLE, client(1), block);
    }
    let out = bench.take_blocks().iter().map(|(block, _)| *block).max().unwrap();
    assert!(out > 110 && out <= 100 + u64::from(GROUP_AHEAD_MAX), "{out}");
    bench.ms(1);
    bench.ack(ROLE, client(1), 100);
    assert_eq!(bench.take_blocks(), [], "one may be a copy's");
    for _ in 0..10 {
        bench.ack(ROLE, client(1), 100);
    }
    assert_eq!(bench.take_blocks(), [(101, to_group(4))]);
    bench.ack(ROLE, client(1), 105);
    assert_eq!(bench.take_blocks()[0], (106, to_group(4)));
    bench.ack(ROLE, client(1), u16::try_from(out).unwrap());
    let sent = bench.take_blocks();
    assert!(sent.iter().all(|(block, _)| *block > out) && !sent.is_empty(), "{sent:?}");
}

/// A master that loses one block again and again, and hears all others, keeps nobody waiting and gets it later.
#[test]
fn a_master_that_loses_one_block_again_and_again_hands_over_the_pace() {
    const LOST: u16 = 101;
    let mut bench = bench_for("most");
    let (first, second) = (client(1), client(2));
    bench.open(PORT, first, "most");
    bench.open(PORT, second, "most");
    let mut has = BTreeMap::from([first, second].map(|client| (client, (BlockSet::default(), 1))));
    let mut heard = BTreeSet::new();
    let mut copies = 0;
    for _ in 0..3_000 {
        bench.ms(1);
        for (block, to) in bench.take_blocks() {
            let block = u16::try_from(block).unwrap();
            copies += u32::from(block == LOST && to == to_group(4));
            for (client, (has, gap)) in &mut has {
                if to == *client {
                    heard.insert(*client);
                } else if to != to_group(4) || (*client == first && block == LOST) {
                    continue;
                }
                has.insert(block);
                if heard.contains(client) {
                    let next = (*gap..u16::MAX).find(|&block| !has.contains(block));
                    *gap = next.unwrap_or(u16::MAX);
                    bench.ack(ROLE, *client, *gap - 1);
                }
            }
        }
    }
    // A round trip is 1 ms here. While the first is in charge of what it loses, the others get a block in 100 ms.
    assert!(has[&second].0.len() > 400, "{}", has[&second].0.len());
    assert!(copies > 3, "it is not given up: {copies}");
}

/// A master that never ACKed at all does not cost the others a second.
#[test]
fn a_master_dead_from_the_start_costs_a_tenth_of_a_second() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.open(PORT, client(2), "a");
    bench.take_blocks();
    bench.ms(101);
    assert!(bench.take_blocks().contains(&(1, client(2))));
}

#[test]
fn a_client_error_removes_it() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    let error = Packet::Error { code: ErrorCode::NOT_DEFINED, message: b"" }.encode();
    bench.datagram(ROLE, client(1), &error);
    assert_eq!(tally(&bench).lost, 1);
}

/// Rather an error than mixed bytes.
#[test]
fn a_changed_file_ends_the_session_with_an_error() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.open(PORT, client(2), "a");
    let file = *bench.open.keys().next().unwrap();
    bench.engine.on_file_changed(bench.now, file);
    bench.drain();
    assert_eq!(bench.sent.iter().map(|sent| sent.to).collect::<Vec<_>>(), [client(1), client(2)]);
    assert!(bench.sent.iter().all(|sent| sent.role == ROLE));
    assert_eq!(tally(&bench).lost, 2);
    assert!(bench.open.is_empty());
}

#[test]
fn a_missing_file_is_silence() {
    let mut bench = bench();
    bench.files.remove("a");
    bench.open(PORT, client(1), "a");
    assert!(bench.sent.is_empty() && bench.blocks.is_empty());
    assert_eq!(bench.counter("session", "no_file"), 1);
}

#[test]
fn openers_are_bounded() {
    let mut bench = bench();
    for port in 1..=10 {
        bench.open(PORT, SocketAddrV4::new(*client(1).ip(), port), "a");
    }
    assert_eq!(bench.counter("session", "too_many_openers"), 2);
    assert_eq!(OPENERS_PER_SOURCE_MAX, 8);
}

#[test]
fn acks_from_strangers_and_beyond_the_end_are_counted() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.take_blocks();
    bench.ack(ROLE, client(2), 1);
    bench.ack(ROLE, client(1), 12);
    bench.ack(Role::Mtftp(PINNED_PORT), client(1), 1);
    assert_eq!(bench.take_blocks(), []);
    assert_eq!(bench.counter("session", "ack_from_nobody"), 2);
    assert_eq!(bench.counter("session", "ack_beyond_end"), 1);
}

/// A file of one short block, and one whose size is a multiple of the block: an empty block ends it.
#[test]
fn the_shortest_files() {
    for (n, file, blocks) in [(3, "one", 1_u16), (2, "b", 2)] {
        let mut bench = bench_for(file);
        bench.open(PORT, client(1), file);
        for block in 1..=blocks {
            bench.ack(ROLE, client(1), block);
        }
        let tally = tally(&bench);
        assert_eq!((tally.blocks, tally.complete, tally.spare), (u64::from(blocks), 1, 0));
        assert!(bench.take_blocks().contains(&(u64::from(blocks), to_group(n))));
    }
}
