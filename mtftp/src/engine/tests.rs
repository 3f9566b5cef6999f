//! Defence, the rules that join several parts, and bad input.

use std::time::Duration;

use driver::Wall;
use proptest::prelude::*;
use wire::clear::{ClearAsk, ClearVerdict};
use wire::hold::{Hold, HoldState};
use wire::query::{Opcode, Query};
use wire::tftp::{ErrorCode, Options, Packet};
use wire::{Content, Layer, ServerType, Stamp};

use super::bench::*;
use super::*;

fn query(server: Ipv4Addr, file: &str, group: GroupAddr) -> Query {
    let content = Content { server, file: name(file) };
    Query { content, server_type: ServerType(0x8000), layer: Layer(0), group, client_port: 3001 }
}

fn echoed(bench: &mut Bench, query: &Query) -> bool {
    bench.sent.clear();
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5555);
    bench.datagram(Role::Query, from, &query.encode(Opcode::Query));
    let sent = std::mem::take(&mut bench.sent);
    for echo in &sent {
        assert_eq!((echo.role, echo.to), (Role::Control, from));
        assert_eq!(echo.bytes, query.encode(Opcode::Echo));
    }
    !sent.is_empty()
}

/// The same question by word: it is answered whatever there is to say.
fn verdict(bench: &mut Bench, query: &Query) -> ClearVerdict {
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4016);
    let ask = ClearAsk { group: query.group, content: query.content.clone(), nonce: 77 };
    let message = Message::ClearAsk(ask);
    let envelope = Envelope { sender: ServerId([5; 16]), boot_epoch: BootEpoch(1), sequence: 0, message };
    bench.sent.clear();
    bench.datagram(Role::Domain, from, &envelope.encode());
    let Some(Message::ClearAnswer(answer)) = bench.answer_to(from) else { panic!("no answer") };
    assert_eq!((answer.group, answer.nonce), (query.group, 77));
    answer.verdict
}

/// R003.8–R003.13, G13: echoes for what is in use or at rest here, by address and content only.
#[test]
fn g13_defends_references_and_rests() {
    let other = Ipv4Addr::new(10, 0, 0, 8);
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    // (server, file, address, echo?)
    let table = [
        (OWN, "a", group(1), false),
        (OWN, "b", group(1), true),
        (other, "a", group(1), true),
        (other, "b", group(1), true),
        (OWN, "a", group(2), false),
        (other, "b", group(2), false),
    ];
    for (server, file, group, expected) in table {
        let query = query(server, file, group);
        assert_eq!(echoed(&mut bench, &query), expected, "{server} {file} {group}");
        let said = if expected { ClearVerdict::Taken } else { ClearVerdict::Clear };
        assert_eq!(verdict(&mut bench, &query), said, "{server} {file} {group}");
    }
    bench.delete(1, 2, group(1), "a");
    assert!(echoed(&mut bench, &query(other, "b", group(1))), "resting");
    assert_eq!(verdict(&mut bench, &query(other, "b", group(1))), ClearVerdict::Taken);
    bench.pass(limits::REST);
    assert!(!echoed(&mut bench, &query(other, "b", group(1))), "free");
}

fn hold_about(content: (Ipv4Addr, &str), group: GroupAddr, is_answer: bool) -> Hold {
    Hold {
        group,
        content: Content { server: content.0, file: name(content.1) },
        stamp: Stamp { millis: 1, sender: ServerId([1; 16]) },
        state: HoldState::Committed,
        in_use: true,
        is_answer,
        nonce: 0xfeed,
    }
}

/// What a statement is answered with, to the very endpoint that it came from.
fn stated(bench: &mut Bench, statement: Hold) -> Option<Hold> {
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 4444);
    let message = Message::Hold(statement);
    let envelope = Envelope { sender: ServerId([5; 16]), boot_epoch: BootEpoch(1), sequence: 0, message };
    bench.sent.clear();
    bench.datagram(Role::Control, from, &envelope.encode());
    bench.answer_to(from).map(|message| {
        let Message::Hold(hold) = message else { panic!("{message:?}") };
        hold
    })
}

/// Y4: who has the address for another content answers, as *draining* or *resting*, once.
#[test]
fn y4_a_holders_statement_is_answered_by_who_has_the_address_for_something_else() {
    let other = Ipv4Addr::new(10, 0, 0, 8);
    let second = Duration::from_secs(1);
    // References of two, an open so long ago, and both deleted.
    let fresh = |after: Option<Duration>, delete: bool| {
        let mut bench = Bench::new();
        bench.configure(2, 1, group(1), "a");
        bench.configure(1, 1, group(1), "a");
        if let Some(after) = after {
            bench.open(PORT, client(1), "a");
            bench.pass(after);
        }
        if delete {
            bench.delete(2, 2, group(1), "a");
            bench.delete(1, 2, group(1), "a");
        }
        bench
    };
    let used = limits::IN_USE;
    let answer = |state, in_use| Some((state, in_use));
    // (bench, statement about, address, is an answer, state and use that are answered)
    let draining = |in_use| answer(HoldState::Draining, in_use);
    let table = [
        (fresh(None, false), (other, "a"), group(1), false, draining(false)),
        (fresh(None, false), (OWN, "b"), group(1), false, draining(false)),
        (fresh(Some(second), false), (other, "b"), group(1), false, draining(true)),
        (fresh(Some(used - second), false), (other, "b"), group(1), false, draining(true)),
        (fresh(Some(used), false), (other, "b"), group(1), false, draining(false)),
        (fresh(Some(10 * second), true), (other, "b"), group(1), false, answer(HoldState::Resting, false)),
        (fresh(None, false), (OWN, "a"), group(1), false, None),
        (fresh(None, false), (other, "b"), group(2), false, None),
        (fresh(None, false), (other, "b"), group(1), true, None),
    ];
    for (row, (mut bench, content, group, is_answer, expected)) in table.into_iter().enumerate() {
        let heard = stated(&mut bench, hold_about(content, group, is_answer));
        let seen = heard.as_ref().map(|hold| (hold.state, hold.in_use));
        assert_eq!(seen, expected, "row {row}");
        if let Some(hold) = heard {
            assert_eq!(hold.content, Content { server: OWN, file: name("a") }, "row {row}");
            // The oldest: its references have the same time, and the lesser name.
            assert_eq!(hold.stamp, Stamp { millis: 5, sender: binld(1).0 }, "row {row}");
            assert_eq!((hold.group, hold.nonce, hold.is_answer), (group, 0xfeed, true), "row {row}");
        }
    }
}

#[test]
fn statements_are_answered_at_the_rate_of_control_messages() {
    let mut bench = Bench::new();
    bench.configure(2, 1, group(1), "a");
    let statement = hold_about((Ipv4Addr::new(10, 0, 0, 8), "b"), group(1), false);
    let said = 0..limits::CONTROLS_BURST + 1000;
    let count = said.filter(|_| stated(&mut bench, statement.clone()).is_some()).count();
    assert_eq!(u32::try_from(count), Ok(limits::CONTROLS_BURST));
}

#[test]
fn an_echo_is_never_answered() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.sent.clear();
    let echo = query(OWN, "b", group(1)).encode(Opcode::Echo);
    bench.datagram(Role::Query, client(1), &echo);
    assert!(bench.sent.is_empty());
    assert_eq!(bench.counter("query", "echo"), 1);
}

fn is_error(transmit: &driver::Transmit) -> bool {
    matches!(Packet::decode(&transmit.bytes), Ok(Packet::Error { .. }))
}

fn pin(bench: &mut Bench, file: &str) {
    bench.configure(1, 1, pinned(), file).unwrap();
    bench.sent.clear();
}

/// P5: an ERROR only while somebody is known to send on the tuple, else silence.
#[test]
fn p5_an_open_of_another_file_while_one_is_sent() {
    let mut bench = Bench::new();
    pin(&mut bench, "a");
    bench.open(PINNED_PORT, client(2), "b");
    assert!(bench.sent.is_empty(), "nobody sends");
    bench.open(PINNED_PORT, client(1), "a");
    bench.open(PINNED_PORT, client(2), "b");
    assert!(matches!(bench.sent.as_slice(), [sent] if is_error(sent) && sent.to == client(2)
        && sent.role == Role::Mtftp(PINNED_PORT)));
    bench.sent.clear();
    bench.open(PORT, client(2), "b");
    assert!(bench.sent.is_empty(), "on the other port nobody can know which address the client listens on");
}

#[test]
fn p5_a_foreign_sender_counts_for_a_while() {
    let mut bench = Bench::new();
    let foreign = query(Ipv4Addr::new(10, 0, 0, 8), "x", pinned());
    assert!(!echoed(&mut bench, &foreign));
    bench.open(PINNED_PORT, client(1), "b");
    assert_eq!(bench.sent.len(), 1);
    bench.sent.clear();
    bench.pass(limits::FOREIGN_KEEP);
    bench.open(PINNED_PORT, client(1), "b");
    assert!(bench.sent.is_empty());
}

fn fall_back(bench: &mut Bench, from: SocketAddrV4, windows: bool) -> bool {
    let options = Options {
        block_size: Some(1432),
        transfer_size: Some(0),
        window_size: windows.then_some(4),
        ..Options::default()
    };
    bench.sent.clear();
    bench.datagram(Role::Tftp, from, &Bench::request("a", options));
    let error = bench.sent.iter().any(is_error);
    assert_eq!(bench.sent.len(), 1);
    error
}

/// The rule of port 69: a client that would mix two transfers gets one ERROR, everybody else the file.
#[test]
fn port_69_refuses_who_would_boot_an_image_with_holes() {
    let mut bench = Bench::new();
    pin(&mut bench, "a");
    let role = Role::Mtftp(PINNED_PORT);
    let from = |n: u8, port| SocketAddrV4::new(*client(n).ip(), port);
    bench.open(PINNED_PORT, client(1), "a");
    bench.open(PINNED_PORT, client(2), "a");
    assert!(!fall_back(&mut bench, from(2, 1), false), "the last block has not gone out");
    // Client 1 is master to the end; client 2 never answers, so the last block goes out without it: to client 1 alone at first.
    for block in 1..=10 {
        bench.ack(role, client(1), block);
    }
    while bench.engine.status().claims[0].sessions[0].openers[0].lacks > 0 {
        bench.ms(20);
    }
    assert!(!fall_back(&mut bench, from(2, 7), false), "client 2 has not heard the last block");
    while bench.engine.status().claims[0].sessions[0].openers[1].lacks > 0 {
        bench.ms(20);
    }
    assert!(!fall_back(&mut bench, from(2, 2), true), "EDK2 asks with windowsize");
    assert!(!fall_back(&mut bench, from(3, 3), false), "who opened nothing gets the file");
    assert!(fall_back(&mut bench, from(2, 4), false));
    assert!(fall_back(&mut bench, from(2, 4), false), "a repeat gets the same");
    assert!(!fall_back(&mut bench, from(2, 5), false), "one ERROR per open");
    bench.ack(role, client(1), 11);
    assert!(!fall_back(&mut bench, from(1, 6), false), "client 1 ACKed the last block");
    bench.ms(3_000);
    assert!(!fall_back(&mut bench, from(2, 4), false), "3 s later it gets the file");
}

#[test]
fn port_69_remembers_a_session_that_ended_for_three_seconds() {
    for (wait, refused) in [(0, true), (2_900, true), (3_000, false)] {
        let mut bench = Bench::new();
        pin(&mut bench, "one");
        bench.files.insert("a".to_owned(), 3);
        bench.delete(1, 2, pinned(), "one");
        bench.ms(10_000);
        bench.configure(1, 3, pinned(), "a");
        bench.open(PINNED_PORT, client(1), "a");
        bench.ms(2_000);
        assert!(bench.engine.status().claims[0].sessions.is_empty(), "nobody ACKed");
        bench.ms(wait);
        assert_eq!(fall_back(&mut bench, client(1), false), refused, "after {wait} ms");
    }
}

#[test]
fn requests_of_one_source_are_limited() {
    let mut bench = Bench::new();
    for port in 1..=100 {
        let from = SocketAddrV4::new(*client(1).ip(), port);
        bench.datagram(Role::Tftp, from, &Bench::request("absent", Options::default()));
    }
    assert_eq!(bench.sent.len(), 40);
    assert_eq!(bench.counter("tftp", "rate"), 60);
}

#[test]
fn impossible_sources_are_dropped() {
    let mut bench = Bench::new();
    for ip in [[0, 0, 0, 0], [239, 1, 1, 1], [255, 255, 255, 255]] {
        let from = SocketAddrV4::new(Ipv4Addr::from(ip), 9);
        bench.datagram(Role::Tftp, from, &Bench::request("a", Options::default()));
    }
    let from = SocketAddrV4::new(*client(1).ip(), 0);
    bench.datagram(Role::Tftp, from, &Bench::request("a", Options::default()));
    assert_eq!(bench.counter("drop", "source"), 4);
    assert!(bench.sent.is_empty() && bench.blocks.is_empty());
}

fn roles() -> impl Strategy<Value = Role> {
    prop::sample::select(vec![
        Role::Query,
        Role::Control,
        Role::Mtftp(PORT),
        Role::Mtftp(PINNED_PORT),
        Role::Tftp,
        Role::Transfer,
        Role::Discovery,
    ])
}

/// Valid packets for every door, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    let options = Options { block_size: Some(1432), transfer_size: Some(0), ..Options::default() };
    vec![
        Bench::request("a", options),
        Bench::request("a", Options::default()),
        Packet::Ack(1).encode(),
        Packet::Error { code: ErrorCode::OPTIONS, message: b"x" }.encode(),
        query(OWN, "b", group(1)).encode(Opcode::Query),
    ]
}

proptest! {
    /// Whatever comes, through whatever door: no panic, no file left open, and never more than four packets for one.
    #[test]
    fn hostile_bytes_do_no_harm(
        inputs in prop::collection::vec((roles(), 0_u8..6, 0_usize..5, prop::collection::vec((0_usize..60, any::<u8>()), 0..3), 0_usize..80), 1..40)
    ) {
        let mut bench = Bench::new();
        bench.configure(1, 1, group(1), "a");
        pin(&mut bench, "b");
        for (role, from, seed, damage, cut) in inputs {
            let mut bytes = seeds()[seed].clone();
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            }
            if cut < 20 { bytes.truncate(cut); }
            let before = bench.sent.len() + bench.blocks.len();
            bench.datagram(role, client(from), &bytes);
            prop_assert!(bench.sent.len() + bench.blocks.len() - before <= 4);
            bench.ms(30);
        }
        bench.pass(Duration::from_secs(60));
        prop_assert!(bench.open.is_empty(), "open: {:?}", bench.open);
        prop_assert_eq!(bench.engine.status().transfers, 0);
    }
}

#[test]
fn timeouts_early_late_and_twice_are_harmless() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.open(PORT, client(1), "a");
    let before = bench.blocks.len();
    for _ in 0..3 {
        bench.engine.on_timeout(bench.now);
        bench.drain();
    }
    assert_eq!(bench.blocks.len(), before);
    bench.engine.on_datagram(
        bench.now,
        Wall(0),
        &Arrival { role: Role::Broadcast, from: client(1), to: OWN, bytes: &[] },
    );
    assert_eq!(bench.counter("drop", "role"), 1);
}
