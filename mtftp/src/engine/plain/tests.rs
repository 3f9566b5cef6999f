use std::time::Duration;

use proptest::prelude::*;
use wire::tftp::{ErrorCode, Mode, Options, Packet, Request, Rollover};

use super::super::bench::*;
use super::super::*;
use crate::limits::*;

mod ahead;
mod hostile;
mod load;
mod windows;

fn ask(bench: &mut Bench, n: u8, file: &str, options: Options) {
    bench.datagram(Role::Tftp, client(n), &Bench::request(file, options));
}

fn ack(bench: &mut Bench, n: u8, block: u16) {
    bench.ack(Role::Transfer, client(n), block);
}

fn outcomes(bench: &Bench) -> Vec<Outcome> {
    let ended = |event: &Event| {
        let Event::TransferEnded { outcome, .. } = event else { return None };
        Some(*outcome)
    };
    bench.events.iter().filter_map(ended).collect()
}

fn error_code(bench: &mut Bench) -> Option<u16> {
    let sent = std::mem::take(&mut bench.sent);
    assert!(sent.iter().all(|sent| sent.role == Role::Transfer));
    match Packet::decode(&sent.first()?.bytes) {
        Ok(Packet::Error { code, .. }) => Some(code.0),
        other => panic!("no ERROR: {other:?}"),
    }
}

/// RFC 1350: block after block, from a port of the server's own, an empty block after a full last one.
#[test]
fn a_transfer_without_options() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "b", Options::default());
    assert!(bench.blocks.iter().all(|blocks| blocks.role == Role::Transfer && blocks.block_size == 512));
    assert_eq!(bench.take_blocks(), [(1, client(1))]);
    ack(&mut bench, 1, 1);
    assert_eq!(bench.take_blocks(), [(2, client(1))]);
    ack(&mut bench, 1, 2);
    assert_eq!(outcomes(&bench), [Outcome::Complete]);
    assert!(bench.open.is_empty() && bench.sent.is_empty());
}

/// RFC 2347–2349, 7440: only what was asked for is answered, and the size always.
#[test]
fn options_are_answered() {
    let all = Options {
        block_size: Some(65464),
        transfer_size: Some(0),
        timeout_seconds: Some(3),
        window_size: Some(8),
        rollover: Some(Rollover::One),
        multicast: Some(String::new()),
    };
    let answer = Options {
        block_size: Some(1468),
        transfer_size: Some(5127),
        timeout_seconds: Some(3),
        window_size: Some(8),
        rollover: Some(Rollover::One),
        multicast: None,
    };
    let small = Options { block_size: Some(100), ..Options::default() };
    for (asked, answered, block_size) in [(all, answer, 1468), (small.clone(), small, 100)] {
        let mut bench = Bench::new();
        ask(&mut bench, 1, "a", asked);
        assert_eq!(Packet::decode(&bench.sent[0].bytes), Ok(Packet::OptionAck(answered)));
        assert!(bench.blocks.is_empty());
        ack(&mut bench, 1, 0);
        assert_eq!(bench.blocks[0].block_size, block_size);
    }
}

/// No sorcerer's apprentice: only the timer sends a block twice.
#[test]
fn duplicate_acks_start_nothing() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options::default());
    ack(&mut bench, 1, 1);
    bench.take_blocks();
    for _ in 0..20 {
        ack(&mut bench, 1, 1);
        ack(&mut bench, 1, 0);
    }
    assert_eq!(bench.take_blocks(), []);
    bench.ms(2_000);
    assert!(bench.take_blocks().iter().all(|sent| *sent == (2, client(1))));
}

/// The timer follows the round trip, doubles, and gives up.
#[test]
fn the_timer_is_adaptive_and_bounded() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options::default());
    for block in 1..=8 {
        bench.ms(1);
        ack(&mut bench, 1, block);
    }
    bench.take_blocks();
    bench.ms(4);
    assert_eq!(bench.take_blocks().len(), 0);
    bench.ms(1);
    assert_eq!(bench.take_blocks().len(), 1, "5 ms after a round trip of 1 ms");
    bench.ms(9);
    assert_eq!(bench.take_blocks().len(), 0);
    bench.ms(1);
    assert_eq!(bench.take_blocks().len(), 1, "10 ms after that");
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.take_blocks().len(), usize::try_from(BLOCK_SENDS_MAX).unwrap() - 3);
    assert_eq!(outcomes(&bench), [Outcome::Silent]);
}

/// Amplification before the first ACK: 3 blocks, or 5 option ACKs, for one request.
#[test]
fn little_goes_out_before_the_first_ack() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options::default());
    ask(&mut bench, 1, "a", Options::default());
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.take_blocks().len(), 3);
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options { transfer_size: Some(0), ..Options::default() });
    bench.pass(Duration::from_secs(60));
    assert_eq!((bench.sent.len(), bench.blocks.len()), (5, 0));
    // A window is a block that is multiplied: none of it before the client has ACKed the OACK.
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options { window_size: Some(64), ..Options::default() });
    bench.pass(Duration::from_secs(60));
    assert_eq!((bench.sent.len(), bench.blocks.len()), (5, 0));
}

/// EDK2 and Intel's ROM ask for the size, then end it with ERROR 8.
#[test]
fn a_size_probe_is_a_normal_end() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options { transfer_size: Some(0), ..Options::default() });
    bench.sent.clear();
    let error = Packet::Error { code: ErrorCode::OPTIONS, message: b"aborted" }.encode();
    bench.datagram(Role::Transfer, client(1), &error);
    assert_eq!(outcomes(&bench), [Outcome::Probe]);
    assert!(bench.sent.is_empty(), "an ERROR is not answered");
}

#[test]
fn what_is_refused_and_how() {
    let request =
        |name: &str, mode| Request { name: name.as_bytes().to_vec(), mode, options: Options::default() };
    let table = [
        (Packet::Write(request("a", Mode::Octet)), Some(2)),
        (Packet::Read(request("a", Mode::Other)), Some(4)),
        (Packet::Read(request("absent", Mode::Octet)), Some(1)),
        (Packet::Read(request("///", Mode::Octet)), Some(1)),
        (Packet::Ack(1), None),
    ];
    for (packet, code) in table {
        let mut bench = Bench::new();
        bench.datagram(Role::Tftp, client(1), &packet.encode());
        assert_eq!(error_code(&mut bench), code, "{packet:?}");
        assert!(bench.blocks.is_empty() && bench.open.is_empty());
    }
}

/// iPXE puts a slash before the name in `tftp://` URIs.
#[test]
fn leading_slashes_do_not_count() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "//a", Options::default());
    assert_eq!(bench.take_blocks(), [(1, client(1))]);
}

#[test]
fn a_new_request_from_the_same_port_takes_the_place_of_the_old() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options::default());
    ack(&mut bench, 1, 1);
    ask(&mut bench, 1, "a", Options::default());
    assert_eq!(outcomes(&bench), [Outcome::Superseded]);
    assert_eq!(bench.take_blocks(), [(1, client(1)), (2, client(1)), (1, client(1))]);
    assert_eq!(bench.open.len(), 1);
}

#[test]
fn transfers_of_one_source_are_bounded() {
    let mut bench = Bench::new();
    for port in 1..=10 {
        let from = SocketAddrV4::new(*client(1).ip(), port);
        bench.datagram(Role::Tftp, from, &Bench::request("a", Options::default()));
    }
    assert_eq!(bench.engine.status().transfers, TRANSFERS_PER_SOURCE_MAX);
    assert_eq!(bench.counter("tftp", "too_many_transfers"), 2);
}

#[test]
fn a_changed_file_ends_its_transfers() {
    let mut bench = Bench::new();
    ask(&mut bench, 1, "a", Options::default());
    let file = *bench.open.keys().next().unwrap();
    bench.engine.on_file_changed(bench.now, file);
    bench.drain();
    assert_eq!(error_code(&mut bench), Some(0));
    assert_eq!(outcomes(&bench), [Outcome::FileChanged]);
    assert!(bench.open.is_empty());
}

proptest! {
    /// Whatever is lost, a client that repeats its ACKs gets every block, and each is sent only when due.
    #[test]
    fn loss_is_repaired(losses in prop::collection::vec(any::<bool>(), 60)) {
        let mut bench = Bench::new();
        ask(&mut bench, 1, "a", Options { transfer_size: Some(0), ..Options::default() });
        let mut lost = losses.iter().copied().chain(std::iter::repeat(false));
        // Two in a row get through: more bad luck than the bounded tries allow is not this test's business.
        let mut streak = 0;
        let mut got = 0_u64;
        // Long enough for the longest time to a resend: where so much is lost, nothing is measured, and it stays long (Karn).
        for _ in 0..4_000 {
            let option_ack = !std::mem::take(&mut bench.sent).is_empty();
            let blocks = bench.take_blocks();
            if option_ack || !blocks.is_empty() {
                let drop = streak < 2 && lost.next().unwrap_or(false);
                streak = if drop { streak + 1 } else { 0 };
                if !drop {
                    if let Some((block, _)) = blocks.last() {
                        prop_assert!(*block <= got + 1);
                        got = got.max(*block);
                    }
                    ack(&mut bench, 1, u16::try_from(got).unwrap());
                    continue;
                }
            }
            bench.ms(50);
        }
        prop_assert_eq!(outcomes(&bench), [Outcome::Complete]);
        prop_assert_eq!(got, 11);
    }
}
