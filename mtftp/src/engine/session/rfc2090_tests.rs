//! RFC 2090 on a dynamic address, packet by packet.

use std::collections::BTreeSet;
use std::time::Duration;

use driver::Transmit;
use wire::configure::Ports;
use wire::tftp::{ErrorCode, MULTICAST_PORT, MulticastAnswer, Options, Packet};

use super::super::bench::*;
use super::super::*;
use crate::limits::*;

const STREAM: Role = Role::Stream(0);

/// A server with the dynamic claim of `a` (10 blocks of 512 bytes and 7 bytes more), `b`, and `most`.
fn bench() -> Bench {
    let mut bench = Bench::new();
    for (serial, file) in ["a", "b", "most", "one"].iter().enumerate() {
        let n = u8::try_from(serial).unwrap();
        bench.configure(1, u32::from(n), group(n + 1), file).unwrap();
    }
    bench.sent.clear();
    bench
}

fn to_group(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(group(n).ip(), MULTICAST_PORT)
}

fn asked(block_size: Option<u16>) -> Options {
    Options { block_size, transfer_size: Some(0), multicast: Some(String::new()), ..Options::default() }
}

impl Bench {
    fn ask(&mut self, from: SocketAddrV4, file: &str) {
        self.datagram(Role::Tftp, from, &Self::request(file, asked(None)));
    }

    /// OACKs since last asked: by which door, to whom, the option `multicast`.
    fn oacks(&mut self) -> Vec<(Role, SocketAddrV4, String)> {
        let sent = std::mem::take(&mut self.sent).into_iter();
        let oack = |transmit: Transmit| {
            let Packet::OptionAck(options) = Packet::decode(&transmit.bytes).unwrap() else {
                unreachable!("only OACKs are expected: {transmit:?}")
            };
            (transmit.role, transmit.to, options.multicast.unwrap_or_default())
        };
        sent.map(oack).collect()
    }
}

fn oack(to: u8, text: &str) -> Vec<(Role, SocketAddrV4, String)> {
    vec![(STREAM, client(to), text.to_owned())]
}

fn tally(bench: &Bench) -> Tally {
    let ended = bench.events.iter().rev().find_map(|event| {
        let Event::SessionEnded { tally, protocol: Protocol::Rfc2090, .. } = event else { return None };
        Some(*tally)
    });
    ended.expect("the stream ended")
}

#[test]
fn the_first_is_master_and_gets_nothing_but_an_oack_before_its_ack() {
    let mut bench = bench();
    let options = Options { timeout_seconds: Some(3), window_size: Some(4), ..asked(Some(1432)) };
    bench.datagram(Role::Tftp, client(1), &Bench::request("a", options));
    let sent = std::mem::take(&mut bench.sent);
    let answer = MulticastAnswer { group: Some(to_group(1)), is_master: true };
    let granted = Options {
        block_size: Some(1432),
        transfer_size: Some(5127),
        timeout_seconds: Some(3),
        window_size: None,
        rollover: None,
        multicast: Some(answer.to_string()),
    };
    assert_eq!(sent, [Transmit { role: STREAM, to: client(1), bytes: Packet::OptionAck(granted).encode() }]);
    assert_eq!(bench.take_blocks(), []);
    // Who never says a word gets a few more OACKs, and no block; then the stream is over.
    bench.ms(20_000);
    assert_eq!(bench.oacks().len(), usize::from(QUESTIONS_MAX) - 1);
    assert_eq!((bench.take_blocks(), bench.open.len()), (vec![], 0));
}

#[test]
fn the_masters_acks_pace_the_blocks_and_its_last_one_ends_the_stream() {
    let mut bench = bench();
    bench.ask(client(1), "a");
    let mut sent = Vec::new();
    for block in 0..=10 {
        bench.ack(STREAM, client(1), block);
        assert!(bench.blocks.iter().all(|blocks| blocks.role == STREAM));
        sent.extend(bench.take_blocks());
        assert!(sent.len() > usize::from(block), "what it asks for is out");
        // A repeated ACK starts nothing.
        bench.ack(STREAM, client(1), block);
        assert_eq!(bench.take_blocks(), []);
    }
    assert_eq!(sent, (1..=11).map(|block| (block, to_group(1))).collect::<Vec<_>>());
    bench.ack(STREAM, client(1), 11);
    let tally = tally(&bench);
    assert_eq!((tally.multicast, tally.unicast, tally.complete, tally.lost), (11, 0, 1, 0));
    assert!(bench.open.is_empty());
    // The next transfer has another port: nobody takes late packets of this one for its own.
    bench.sent.clear();
    bench.ask(client(1), "a");
    assert_eq!(bench.oacks()[0].0, Role::Stream(1));
}

/// Late joiners listen, and become master after the first, with address and port, as their first OACK may be lost; who
/// was heard before is told `,,1`. An ACK names the block before the first gap, and may jump.
#[test]
fn a_late_joiner_listens_and_is_master_after_the_first() {
    let mut bench = bench();
    bench.ask(client(1), "a");
    for block in 0..4 {
        bench.ack(STREAM, client(1), block);
    }
    bench.oacks();
    bench.ask(client(2), "a");
    assert_eq!(bench.oacks(), oack(2, "239.255.7.1,1758,0"));
    for block in 4..=10 {
        bench.ack(STREAM, client(1), block);
    }
    bench.take_blocks();
    bench.ack(STREAM, client(1), 11);
    assert_eq!(bench.oacks(), oack(2, "239.255.7.1,1758,1"), "it lacks 1 to 4, as far as is known");
    assert_eq!(bench.take_blocks(), []);
    for block in 0..6 {
        bench.ack(STREAM, client(2), block);
    }
    // Seven were out when it came.
    assert_eq!(bench.take_blocks(), [1, 2, 3, 4, 5, 6, 7].map(|block| (block, to_group(1))));
    // It heard the rest, but lost block 9.
    bench.ack(STREAM, client(2), 8);
    assert_eq!(bench.take_blocks(), [(9, to_group(1))]);
    bench.ack(STREAM, client(2), 11);
    assert_eq!((tally(&bench).complete, tally(&bench).multicast), (2, 11 + 8));
}

/// atftp that has all of the file says nothing of its own accord; EDK2 ACKs the last block.
#[test]
fn who_listened_to_the_end_is_asked_whether_it_has_it_all() {
    let mut bench = bench();
    for n in 1..=4 {
        bench.ask(client(n), "a");
    }
    bench.oacks();
    for block in 0..=10 {
        bench.ack(STREAM, client(1), block);
    }
    bench.ack(STREAM, client(4), 11);
    bench.ack(STREAM, client(1), 11);
    assert_eq!(bench.oacks(), [], "their ACKs may be on the way");
    // As long as the others take to answer, at least.
    bench.pass(RESEND_MIN);
    let both = [oack(2, "239.255.7.1,1758,1"), oack(3, "239.255.7.1,1758,1")].concat();
    assert_eq!(bench.oacks(), both, "side by side");
    bench.take_blocks();
    bench.ack(STREAM, client(2), 11);
    bench.ack(STREAM, client(3), 8);
    assert_eq!(bench.take_blocks(), [(9, to_group(1))]);
    bench.ack(STREAM, client(3), 9);
    assert_eq!(bench.take_blocks(), [10, 11].map(|block| (block, to_group(1))), "it seems to lack all");
    bench.ack(STREAM, client(3), 11);
    assert_eq!((tally(&bench).complete, tally(&bench).multicast), (4, 14));
}

/// More than can be asked at once: the rest waits for room, and nothing is due meanwhile.
#[test]
fn a_room_that_listened_is_asked_some_at_a_time_and_all_are_made_whole() {
    let mut bench = bench();
    let all = 2 * u8::try_from(QUESTIONS_AT_ONCE).unwrap() + 8;
    for n in 1..=all {
        bench.ask(client(n), "a");
    }
    bench.oacks();
    for block in 0..=11 {
        bench.ack(STREAM, client(1), block);
    }
    let mut asked = BTreeSet::new();
    while asked.len() < usize::from(all) - 1 {
        bench.pass(ANSWER_FIRST);
        let some: BTreeSet<SocketAddrV4> = bench.oacks().into_iter().map(|(_, to, _)| to).collect();
        assert!(!some.is_empty() && some.len() <= QUESTIONS_AT_ONCE, "{some:?}");
        bench.ms(1);
        assert_eq!(bench.oacks(), [], "the others wait");
        for client in &some {
            bench.ack(STREAM, *client, 11);
        }
        asked.extend(some);
    }
    assert_eq!((tally(&bench).complete, tally(&bench).lost), (u64::from(all), 0));
}

#[test]
fn a_dead_master_is_skipped_and_dead_listeners_end_nothing() {
    let mut bench = bench();
    for n in 1..=3 {
        bench.ask(client(n), "a");
    }
    for block in 0..4 {
        bench.ack(STREAM, client(1), block);
    }
    bench.oacks();
    bench.take_blocks();
    // It dies. What is out is sent again a few times; then another one is master, and before a tenth of a second is over.
    bench.pass(SILENCE_MAX / 2);
    assert_eq!(bench.oacks()[0], oack(2, "239.255.7.1,1758,1")[0]);
    bench.take_blocks();
    // What it was asked it may answer much later.
    bench.pass(MASTER_SILENCE);
    bench.take_blocks();
    for block in 4..=11 {
        bench.ack(STREAM, client(2), block);
    }
    // Client 3 was asked in between, and its ACK comes late: it is heard all the same.
    bench.ms(300);
    bench.ack(STREAM, client(3), 11);
    assert!(bench.counter("session", "master_passed_over") >= 1);
    bench.ms(15_000);
    let tally = tally(&bench);
    assert_eq!((tally.complete, tally.lost), (2, 1));
    // For a second, and when it is the last one left, the dead one gets its block again, ever more seldom.
    assert!(tally.multicast < 40, "{tally:?}");
}

/// Their requests may be forged: whoever they name gets an OACK a few times, and never a block.
#[test]
fn those_who_never_ack_get_no_block_however_many_there_are() {
    for most in [1, 3, 40] {
        let mut bench = bench();
        for n in 1..=most {
            bench.ask(client(n), "a");
            bench.ms(1_000);
        }
        bench.ms(15_000);
        assert_eq!(bench.take_blocks(), [], "{most}");
        let asked = bench.oacks().len();
        assert!(asked <= 6 * usize::from(most), "{asked} OACKs for {most}");
        let tally = tally(&bench);
        assert_eq!((tally.complete, tally.lost), (0, most.into()));
    }
}

#[test]
fn a_lost_oack_is_repeated_when_the_client_asks_again() {
    let mut bench = bench();
    bench.ask(client(1), "a");
    bench.ask(client(2), "a");
    bench.oacks();
    bench.ask(client(1), "a");
    bench.ask(client(2), "a");
    let (master, listener) = (oack(1, "239.255.7.1,1758,1"), oack(2, "239.255.7.1,1758,0"));
    assert_eq!(bench.oacks(), [master, listener].concat());
    // Who asks again from the same port after it was heard has begun anew, and lacks everything.
    for block in 0..=10 {
        bench.ack(STREAM, client(1), block);
    }
    bench.take_blocks();
    bench.ask(client(1), "a");
    assert_eq!(bench.oacks(), oack(1, "239.255.7.1,1758,1"));
    bench.ack(STREAM, client(1), 0);
    assert_eq!(bench.take_blocks()[0], (1, to_group(1)));
}

#[test]
fn who_acks_out_of_turn_is_told_so_once_a_second() {
    let mut bench = bench();
    bench.ask(client(1), "most");
    bench.ask(client(2), "most");
    bench.ack(STREAM, client(1), 0);
    bench.oacks();
    bench.take_blocks();
    for _ in 0..5 {
        bench.ack(STREAM, client(2), 1);
    }
    assert_eq!((bench.oacks(), bench.take_blocks()), (oack(2, "239.255.7.3,1758,0"), vec![]));
    // The master goes on.
    for block in 1..100 {
        bench.ms(10);
        bench.ack(STREAM, client(1), block);
        bench.ack(STREAM, client(2), 1);
        assert_eq!(bench.oacks(), [], "{block}");
    }
    bench.ms(10);
    bench.ack(STREAM, client(2), 1);
    assert_eq!(bench.oacks(), oack(2, "239.255.7.3,1758,0"));
}

/// Loss is repaired by the server's timer, which a lone client's repeated ACKs do not put off, and not by giving up.
#[test]
fn a_lost_block_is_sent_again_to_the_group() {
    let mut bench = bench();
    bench.ask(client(1), "a");
    bench.ack(STREAM, client(1), 0);
    bench.ms(1);
    bench.ack(STREAM, client(1), 1);
    bench.take_blocks();
    bench.ms(11_000);
    let blocks = bench.take_blocks();
    assert!(blocks.iter().all(|sent| *sent == (2, to_group(1))) && blocks.len() > 5, "{blocks:?}");
    assert!(blocks.len() < 40, "the wait doubles: {}", blocks.len());
    bench.ack(STREAM, client(1), 3);
    assert_eq!(bench.take_blocks()[0], (4, to_group(1)));
}

/// The stream has one block size: that of the first client. Who takes smaller blocks only, is off our link, asks for a
/// file without a dynamic address, or comes when all streams are taken, gets the file by plain TFTP; its OACK does not
/// have the option (RFC 2347).
#[test]
fn who_cannot_take_part_gets_plain_tftp() {
    let mut bench = bench();
    bench.files.insert("large".to_owned(), wire::tftp::multicast_file_size_max(512) + 1);
    bench.configure(1, 90, group(90), "large");
    bench.files.insert("pinned".to_owned(), 600);
    let ports = Ports { client: 3001, server: PINNED_PORT };
    bench.configure_on(1, (1, 91), pinned(), "pinned", ports).unwrap();
    bench.files.insert("unclaimed".to_owned(), 600);
    bench.sent.clear();
    bench.datagram(Role::Tftp, client(1), &Bench::request("a", asked(Some(1432))));
    assert_eq!(bench.oacks(), oack(1, "239.255.7.1,1758,1"));
    let plain = |bench: &mut Bench, from, file: &str, block_size| {
        bench.datagram(Role::Tftp, from, &Bench::request(file, asked(block_size)));
        let sent = bench.oacks();
        assert_eq!(sent, [(Role::Transfer, from, String::new())], "{file}");
    };
    plain(&mut bench, client(2), "a", Some(1400));
    plain(&mut bench, client(3), "a", None);
    bench.datagram(Role::Tftp, client(4), &Bench::request("a", asked(Some(60_000))));
    assert_eq!(bench.oacks(), oack(4, "239.255.7.1,1758,0"), "larger ones are granted what there is");
    plain(&mut bench, "10.0.1.5:2000".parse().unwrap(), "a", Some(1432));
    plain(&mut bench, client(5), "pinned", Some(1432));
    plain(&mut bench, client(6), "unclaimed", Some(1432));
    assert_eq!(bench.counter("session", "block_size"), 2);
    assert_eq!(bench.counter("tftp", "multicast_off_link"), 1);
    assert_eq!(bench.counter("tftp", "multicast_of_nothing"), 2);
}

#[test]
fn too_many_streams_and_too_large_a_file_go_by_plain_tftp() {
    let config = EngineConfig { streams: 1, ..EngineConfig::default() };
    let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
    // It can be multicast in blocks of 1468 bytes, not of 512.
    for (n, file) in ["a", "b", "most"].iter().enumerate() {
        let n = u8::try_from(n).unwrap();
        bench.configure(1, u32::from(n), group(n + 1), file).unwrap();
    }
    bench.files.insert("most".to_owned(), 33_553_920);
    bench.sent.clear();
    bench.ask(client(1), "most");
    assert_eq!(bench.oacks(), [(Role::Transfer, client(1), String::new())]);
    assert_eq!(bench.counter("session", "file_too_large"), 1);
    bench.datagram(Role::Tftp, client(2), &Bench::request("most", asked(Some(1468))));
    assert_eq!(bench.oacks(), [(STREAM, client(2), "239.255.7.3,1758,1".to_owned())]);
    bench.ask(client(3), "b");
    assert_eq!(bench.oacks(), [(Role::Transfer, client(3), String::new())]);
    assert_eq!(bench.counter("session", "too_many_streams"), 1);
    // A stream that ended, and one that did not come to be, give their door back.
    bench.datagram(STREAM, client(2), &Packet::Error { code: ErrorCode(0), message: b"" }.encode());
    bench.ask(client(3), "b");
    bench.oacks();
    bench.files.remove("a");
    bench.datagram(STREAM, client(3), &Packet::Error { code: ErrorCode(0), message: b"" }.encode());
    bench.ask(client(4), "a");
    assert!(matches!(
        Packet::decode(&bench.sent[0].bytes),
        Ok(Packet::Error { code: ErrorCode::NOT_FOUND, .. })
    ));
    bench.sent.clear();
    bench.ask(client(4), "b");
    assert_eq!(bench.oacks(), [(STREAM, client(4), "239.255.7.2,1758,1".to_owned())]);
}

#[test]
fn a_file_that_changes_ends_the_stream_with_an_error() {
    let mut bench = bench();
    bench.ask(client(1), "a");
    bench.ask(client(2), "a");
    bench.sent.clear();
    let file = *bench.open.keys().next().unwrap();
    bench.engine.on_file_changed(bench.now, file);
    bench.drain();
    let told: Vec<_> = bench.sent.iter().map(|transmit| (transmit.role, transmit.to)).collect();
    assert_eq!(told, [(STREAM, client(1)), (STREAM, client(2))]);
    assert!(bench.open.is_empty());
}

/// One address may carry both protocols at once, on ports of their own; it is released when both have ended.
#[test]
fn both_protocols_share_the_address_and_its_end() {
    let mut bench = bench();
    bench.ask(client(1), "a");
    bench.ack(STREAM, client(1), 0);
    bench.open(PORT, client(2), "a");
    bench.ack(Role::Mtftp(PORT), client(2), 1);
    let mut ports: Vec<_> = bench.blocks.iter().map(|blocks| (blocks.role, blocks.to)).collect();
    ports.dedup();
    let mtftp = SocketAddrV4::new(group(1).ip(), 3001);
    assert!(
        ports.contains(&(STREAM, to_group(1))) && ports.contains(&(Role::Mtftp(PORT), mtftp)),
        "{ports:?}"
    );
    bench.delete(1, 50, group(1), "a");
    let closing = |bench: &Bench| bench.engine.status().claims.iter().any(|claim| claim.closing);
    assert!(closing(&bench), "sessions run");
    // No new ones meanwhile.
    bench.datagram(Role::Tftp, client(3), &Bench::request("a", asked(None)));
    assert_eq!(bench.sent.last().unwrap().role, Role::Transfer);
    bench.ack(Role::Mtftp(PORT), client(2), 11);
    assert!(closing(&bench), "the stream runs on");
    bench.ack(STREAM, client(1), 11);
    assert!(!closing(&bench) && bench.engine.status().rests.len() == 1);
    // Or they are cut.
    bench.ask(client(1), "b");
    bench.open(PORT, client(2), "b");
    bench.delete(1, 51, group(2), "b");
    for _ in 0..130 {
        bench.ack(STREAM, client(1), 0);
        bench.ack(Role::Mtftp(PORT), client(2), 0);
        bench.pass(Duration::from_secs(1));
    }
    assert!(!closing(&bench));
}
