//! Clients that are told an address and fetch by plain TFTP: each likely cause, and who does not count.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Draw, Role, Time};
use wire::control::{Envelope, Message};
use wire::tftp::{ErrorCode, Options, Packet};
use wire::told::Told;
use wire::{BootEpoch, Mac};

use crate::engine::bench::*;
use crate::engine::{Cause, Declined, Engine, EngineConfig, Event, FallBack, Querier};
use crate::limits::{
    CLOSING_MAX, FALL_BACKS_SHOWN, QUERIER_KEEP, REQUESTS_BURST, TOLD_AGAIN, TOLD_KEEP, TOLD_MAX,
    TOLD_PER_CLIENT_MAX,
};

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const STREAM: Role = Role::Stream(0);

fn say(bench: &mut Bench, binld_number: u8, told: Told) {
    let (sender, from) = binld(binld_number);
    let envelope = Envelope { sender, boot_epoch: BootEpoch(1), sequence: 0, message: Message::Told(told) };
    let before = bench.sent.len();
    bench.datagram(Role::Control, from, &envelope.encode());
    assert_eq!(bench.sent.len(), before, "nobody is answered");
}

fn told(client: SocketAddrV4) -> Told {
    Told { group: group(1), client: *client.ip(), mac: MAC, file: name("a") }
}

/// File `a` of 11 blocks on a dynamic address, IGMP can be heard, and client 1 is told.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.engine.on_igmp_open();
    bench.configure(1, 1, group(1), "a").unwrap();
    say(&mut bench, 1, told(client(1)));
    bench
}

fn asked(bench: &mut Bench, from: SocketAddrV4, options: Options) {
    bench.datagram(Role::Tftp, from, &Bench::request("a", options));
}

/// From a new port, as a client does that gave multicast up: with options, and the first blocks.
fn plain(bench: &mut Bench, from: SocketAddrV4) -> SocketAddrV4 {
    let from = SocketAddrV4::new(*from.ip(), 30_000);
    asked(bench, from, Options { block_size: Some(1456), ..Options::default() });
    bench.ack(Role::Transfer, from, 0);
    bench.ack(Role::Transfer, from, 1);
    from
}

fn fallen(bench: &Bench) -> Vec<FallBack> {
    let events = bench.events.iter().filter_map(|event| {
        let Event::FellBack(fall_back) = event else { return None };
        Some(fall_back.clone())
    });
    events.collect()
}

/// The only fall-back is told, counted and shown alike.
fn the_one(bench: &Bench) -> Cause {
    let fallen = fallen(bench);
    let [fall_back] = fallen.as_slice() else { panic!("{fallen:?}") };
    let status = bench.engine.status().fall_backs;
    assert_eq!((status.total, status.recent), (1, vec![fall_back.clone()]));
    assert_eq!(bench.counter("fall_back", fall_back.cause.name()), 1);
    assert_eq!((fall_back.mac, fall_back.client), (MAC, *client(1).ip()));
    assert_eq!((fall_back.group, &fall_back.file), (group(1), &name("a")));
    assert!(fall_back.cause.to_string().len() > 20);
    fall_back.cause
}

/// A general query of a bridge.
fn query(bench: &mut Bench) {
    let packet = [
        0x46, 0xc0, 0, 32, 0, 0, 0x40, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 1, 0x94, 4, 0, 0, 0x11, 100,
        0xee, 0x9b, 0, 0, 0, 0,
    ];
    bench.datagram(Role::Igmp, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), &packet);
    assert_eq!(bench.counter("igmp", "query"), 1);
}

#[test]
fn who_never_opens() {
    let mut bench = bench();
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NeverOpened);
}

#[test]
fn who_is_not_on_our_link() {
    let mut bench = bench();
    let far = SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 101), 5);
    say(&mut bench, 1, told(far));
    bench.open(PORT, far, "a");
    plain(&mut bench, far);
    assert_eq!(fallen(&bench)[0].cause, Cause::OffLink);
}

/// It is asked by unicast and ACKs that, as firmware behind a switch that prunes does.
#[test]
fn who_hears_nothing_of_the_group_with_and_without_a_querier() {
    let bridge = Ipv4Addr::UNSPECIFIED;
    for (heard, wait, cause) in [
        (false, Duration::ZERO, Cause::NotHeard),
        (true, Duration::ZERO, Cause::Pruned { querier: bridge }),
        (true, QUERIER_KEEP, Cause::NotHeard),
    ] {
        let mut bench = bench();
        if heard {
            query(&mut bench);
        }
        bench.pass(wait);
        bench.open(PORT, client(1), "a");
        bench.ack(Role::Mtftp(PORT), client(1), 1);
        bench.ms(300);
        bench.ack(Role::Mtftp(PORT), client(1), 1);
        plain(&mut bench, client(1));
        assert_eq!(the_one(&bench), cause);
        let shown = bench.engine.status().querier;
        assert_eq!(matches!(shown, Querier::Heard { from, .. } if from == bridge), heard, "{shown:?}");
    }
}

#[test]
fn without_a_socket_for_igmp_a_querier_is_not_denied() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a").unwrap();
    say(&mut bench, 1, told(client(1)));
    assert_eq!(bench.engine.status().querier, Querier::NotKnown);
    bench.open(PORT, client(1), "a");
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NotHeardQuerierUnknown);
}

#[test]
fn who_gives_up_in_the_middle() {
    let mut bench = bench();
    query(&mut bench);
    bench.open(PORT, client(1), "a");
    for block in 1..=5 {
        bench.ack(Role::Mtftp(PORT), client(1), block);
    }
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::GaveUp { blocks: 5 });
}

/// iPXE, on the pinned address: each of these blocks went to it alone.
#[test]
fn acks_of_what_came_by_unicast_are_no_sign_of_the_group() {
    let mut bench = Bench::new();
    bench.engine.on_igmp_open();
    bench.configure(1, 1, pinned(), "a").unwrap();
    say(&mut bench, 1, Told { group: pinned(), ..told(client(1)) });
    bench.open(PINNED_PORT, client(1), "a");
    bench.open(PINNED_PORT, client(2), "a");
    let role = Role::Mtftp(PINNED_PORT);
    let mut heard = 0;
    for _ in 0..40 {
        // The next block, if it came by unicast.
        let blocks = bench.take_blocks();
        heard += u16::from(blocks.contains(&(u64::from(heard) + 1, client(1))));
        bench.ack(role, client(1), heard);
        bench.ms(50);
    }
    assert!(heard >= 1, "asked by unicast at all");
    bench.datagram(Role::Tftp, client(1), &Bench::request("a", Options::default()));
    bench.ack(Role::Transfer, client(1), 1);
    assert_eq!(fallen(&bench)[0].cause, Cause::NotHeard);
}

#[test]
fn who_asked_for_rfc_2090_and_never_took_the_answer() {
    let mut bench = bench();
    asked(&mut bench, client(1), Options { multicast: Some(String::new()), ..Options::default() });
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::Unanswered);
}

#[test]
fn who_was_declined_hears_why() {
    let multicast = |block_size| Options { multicast: Some(String::new()), block_size, ..Options::default() };
    // No stream is free.
    let config = EngineConfig { streams: 0, ..EngineConfig::default() };
    let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
    bench.configure(1, 1, group(1), "a").unwrap();
    say(&mut bench, 1, told(client(1)));
    asked(&mut bench, client(1), multicast(None));
    bench.ack(Role::Transfer, client(1), 1);
    assert_eq!(the_one(&bench), Cause::Declined(Declined::NoStream));
    // Its blocks are smaller than those of the stream.
    let mut bench = self::bench();
    asked(&mut bench, client(2), multicast(Some(1456)));
    asked(&mut bench, client(1), multicast(None));
    bench.ack(Role::Transfer, client(1), 1);
    assert_eq!(the_one(&bench), Cause::Declined(Declined::BlockSize));
    // The address was given up.
    let mut bench = self::bench();
    bench.open(PORT, client(1), "a");
    bench.delete(1, 2, group(1), "a");
    for _ in 0..200 {
        bench.ack(Role::Mtftp(PORT), client(1), 1);
        bench.ack(Role::Mtftp(PORT), client(1), 2);
        bench.pass(CLOSING_MAX / 150);
        bench.open(PORT, client(1), "a");
    }
    plain(&mut bench, client(1));
    assert!(matches!(the_one(&bench), Cause::Declined(Declined::Cut | Declined::Gone | Declined::Closing)));
    // It asked too often.
    let mut bench = self::bench();
    for _ in 0..=REQUESTS_BURST {
        bench.open(PORT, client(1), "absent");
    }
    bench.open(PORT, client(1), "a");
    bench.ms(2_000);
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::Declined(Declined::OverRate));
}

/// A later open that is taken makes up for it.
#[test]
fn what_was_declined_once_is_no_cause_for_ever() {
    let mut bench = bench();
    for _ in 0..=REQUESTS_BURST {
        bench.open(PORT, client(1), "absent");
    }
    bench.open(PORT, client(1), "a");
    bench.ms(2_000);
    bench.open(PORT, client(1), "a");
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NotHeard);
}

#[test]
fn repeats_over_the_rate_are_not_held_against_who_was_listed() {
    let mut bench = bench();
    for _ in 0..=REQUESTS_BURST {
        bench.open(PORT, client(1), "a");
    }
    assert!(bench.counter("session", "rate") > 0);
    bench.ms(2_000);
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NotHeard);
}

/// Intel's client, EDK2 and others ask for the size first, and end that by an ERROR.
#[test]
fn a_size_probe_is_no_fall_back() {
    let mut bench = bench();
    for port in [1, 2] {
        let from = SocketAddrV4::new(*client(1).ip(), port);
        asked(&mut bench, from, Options { transfer_size: Some(0), ..Options::default() });
        bench.datagram(
            Role::Transfer,
            from,
            &Packet::Error { code: ErrorCode::OPTIONS, message: b"x" }.encode(),
        );
    }
    asked(&mut bench, client(1), Options::default());
    bench.pass(Duration::from_secs(20));
    assert_eq!((fallen(&bench), bench.counter("tftp", "probe")), (vec![], 2), "nor is one that ACKs nothing");
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NeverOpened);
}

#[test]
fn who_has_the_file_or_was_told_nothing_may_fetch_by_plain_tftp() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    for block in 1..=11 {
        bench.ack(Role::Mtftp(PORT), client(1), block);
    }
    plain(&mut bench, client(1));
    plain(&mut bench, client(2));
    // Another file than it was told.
    say(&mut bench, 1, told(client(3)));
    bench.datagram(Role::Tftp, client(3), &Bench::request("b", Options::default()));
    bench.ack(Role::Transfer, client(3), 1);
    assert_eq!(fallen(&bench), []);
}

#[test]
fn rfc_2090_to_the_end_is_no_fall_back() {
    let mut bench = bench();
    asked(&mut bench, client(1), Options { multicast: Some(String::new()), ..Options::default() });
    for block in 0..=11 {
        bench.ack(STREAM, client(1), block);
    }
    assert_eq!(bench.engine.status().claims[0].expected, 0);
    plain(&mut bench, client(1));
    assert_eq!(fallen(&bench), []);
}

#[test]
fn a_client_is_reported_once_for_an_answer() {
    let mut bench = bench();
    for _ in 0..3 {
        let from = plain(&mut bench, client(1));
        bench.datagram(
            Role::Transfer,
            from,
            &Packet::Error { code: ErrorCode::OPTIONS, message: b"x" }.encode(),
        );
    }
    assert_eq!(fallen(&bench).len(), 1);
    say(&mut bench, 1, told(client(1)));
    plain(&mut bench, client(1));
    assert_eq!(fallen(&bench).len(), 2, "told again, and fallen back again");
}

/// EDK2 asks several boot servers, and each answers.
#[test]
fn a_repeated_answer_does_not_make_an_open_forgotten() {
    let mut bench = bench();
    bench.open(PORT, client(1), "a");
    bench.pass(TOLD_AGAIN - Duration::from_secs(1));
    say(&mut bench, 1, told(client(1)));
    assert_eq!(bench.counter("control", "told_again"), 1);
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NotHeard);
    let mut bench = self::bench();
    bench.open(PORT, client(1), "a");
    bench.pass(TOLD_AGAIN);
    say(&mut bench, 1, told(client(1)));
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NeverOpened, "it has started anew");
}

/// On a busy host the open may be read before the word of the boot server.
#[test]
fn an_open_that_overtakes_the_boot_servers_word_counts() {
    let mut bench = Bench::new();
    bench.engine.on_igmp_open();
    bench.configure(1, 1, group(1), "a").unwrap();
    bench.open(PORT, client(1), "a");
    say(&mut bench, 1, told(client(1)));
    bench.ack(Role::Mtftp(PORT), client(1), 1);
    plain(&mut bench, client(1));
    assert_eq!(the_one(&bench), Cause::NotHeard);
}

#[test]
fn only_who_relies_on_the_address_is_believed() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a").unwrap();
    say(&mut bench, 2, told(client(1)));
    assert_eq!(bench.counter("drop_told", "stranger"), 1);
    say(&mut bench, 1, Told { file: name("b"), ..told(client(1)) });
    say(&mut bench, 1, Told { group: group(2), ..told(client(1)) });
    assert_eq!(bench.counter("drop_told", "no_such_claim"), 2);
    plain(&mut bench, client(1));
    assert_eq!((fallen(&bench), bench.engine.status().claims[0].expected), (vec![], 0));
}

#[test]
fn who_is_expected_and_for_how_long() {
    let expected = |bench: &Bench| bench.engine.status().claims[0].expected;
    let mut bench = bench();
    (2..=4).for_each(|n| say(&mut bench, 1, told(client(n))));
    assert_eq!(expected(&bench), 4);
    bench.open(PORT, client(2), "a");
    (1..=11).for_each(|block| bench.ack(Role::Mtftp(PORT), client(2), block));
    assert_eq!(expected(&bench), 3, "one has it");
    plain(&mut bench, client(3));
    assert_eq!(expected(&bench), 2, "one fell back");
    bench.pass(TOLD_KEEP);
    assert_eq!(expected(&bench), 0);
    plain(&mut bench, client(1));
    assert_eq!(fallen(&bench).len(), 1, "what is too old is nobody's fault");
}

#[test]
fn every_table_is_bounded() {
    let mut table = super::Told::default();
    let message = |number: u32, last: u8| Told {
        group: group(last),
        client: Ipv4Addr::from_bits(0x0a00_0000 + number),
        mac: MAC,
        file: name("a"),
    };
    // Of one client, the oldest goes.
    for last in 0..20 {
        table.on_told(Time::ZERO + Duration::from_secs(u64::from(last)), message(1, last), false);
    }
    assert_eq!(table.clients.len(), TOLD_PER_CLIENT_MAX);
    assert_eq!(table.groups.keys().copied().collect::<Vec<_>>(), (12..20).map(group).collect::<Vec<_>>());
    let most = u32::try_from(TOLD_MAX).unwrap();
    let counted = (2..most + 10).map(|number| table.on_told(Time::ZERO, message(number, 1), false));
    assert_eq!(counted.filter(|counted| *counted == "told_too_many").count(), 8 + TOLD_PER_CLIENT_MAX);
    assert_eq!(table.clients.len(), TOLD_MAX);
    for number in 2..200 {
        let client = message(number, 1).client;
        assert!(table.on_plain(Time::ZERO, (client, &name("a")), true, None).is_some());
    }
    let (total, recent) = table.fall_backs();
    assert_eq!((total, recent.count()), (198, FALL_BACKS_SHOWN));
    let clients = table.clients.len();
    assert_eq!(table.groups.values().map(|group| group.clients).sum::<usize>(), clients);
    assert_eq!(table.groups.values().map(|group| group.expected).sum::<usize>(), clients - 198);
    table.on_timeout(Time::ZERO + TOLD_KEEP * 2);
    assert!(table.clients.is_empty() && table.groups.is_empty() && table.next_deadline().is_none());
}

#[test]
fn the_status_shows_plain_transfers() {
    let mut bench = bench();
    let from = plain(&mut bench, client(1));
    asked(&mut bench, client(2), Options { block_size: Some(512), ..Options::default() });
    let status = bench.engine.status();
    let shown: Vec<_> = status.plain.iter().map(|it| (it.client, &it.file, it.block, it.blocks)).collect();
    assert_eq!(shown, [(from, &name("a"), 1, 4), (client(2), &name("a"), 0, 11)]);
    assert_eq!(status.transfers, 2);
}

/// Which pass, which block, how fast.
#[test]
fn the_status_shows_a_session_as_it_runs() {
    let mut bench = bench();
    bench.files.insert("a".to_owned(), 512 * 1_000);
    bench.open(PORT, client(1), "a");
    for block in 1..=300 {
        bench.ms(10);
        bench.ack(Role::Mtftp(PORT), client(1), block);
    }
    bench.open(PORT, client(2), "a");
    let status = bench.engine.status();
    let [session] = status.claims[0].sessions.as_slice() else { panic!("{status:?}") };
    assert_eq!((session.pass, session.block, session.tally.blocks), (1, 301, 1_001));
    let rate = session.speed.bytes_per_second(bench.now);
    assert!((46_000..=56_000).contains(&rate), "100 blocks of 512 a second: {rate}");
    let known = (session.openers.len(), session.tally.openers, session.master);
    assert_eq!(known, (2, 2, Some(client(1))));
    assert_eq!(status.claims[0].expected, 1, "nobody told the other one");
    // It heard the end of the pass only: the next one is its own.
    for block in 301..=1_001 {
        bench.ack(Role::Mtftp(PORT), client(1), block);
    }
    bench.open(PORT, client(2), "a");
    assert_eq!(bench.engine.status().claims[0].sessions[0].block, 1);
    assert_eq!(bench.engine.status().claims[0].expected, 0);
}
