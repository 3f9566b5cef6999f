//! Many transfers at once, wanted and forged.

use std::net::Ipv4Addr;

use super::*;

/// Client `n` of many: as many from one address as it may have.
fn one_of(n: usize) -> SocketAddrV4 {
    let (source, port) = (n / TRANSFERS_PER_SOURCE_MAX, n % TRANSFERS_PER_SOURCE_MAX);
    let address = Ipv4Addr::from(0x0a40_0000 + u32::try_from(source).unwrap());
    SocketAddrV4::new(address, 2000 + u16::try_from(port).unwrap())
}

/// The tables of the core agree on how many transfers there are.
fn count(bench: &Bench) -> usize {
    let plain = &bench.engine.plain;
    assert_eq!(plain.tickets.len() + plain.files.len(), plain.transfers.len());
    assert!(plain.deadlines.len() <= plain.transfers.len());
    assert_eq!(plain.files.len(), bench.open.len());
    plain.len()
}

/// All open together, each gets its file, and nothing is left.
#[test]
fn ten_thousand_transfers_at_once() {
    const CLIENTS: usize = 10_000;
    let mut bench = Bench::new();
    let options = Options { window_size: Some(4), ..Options::default() };
    for n in 0..CLIENTS {
        bench.datagram(Role::Tftp, one_of(n), &Bench::request("a", options.clone()));
    }
    assert_eq!((count(&bench), bench.sent.len()), (CLIENTS, CLIENTS));
    // The file has 11 blocks: three windows.
    for (acked, goes_out) in [(0, 4), (4, 4), (8, 3), (11, 0)] {
        bench.ms(1);
        for n in 0..CLIENTS {
            bench.ack(Role::Transfer, one_of(n), acked);
        }
        let blocks = std::mem::take(&mut bench.blocks);
        let sent: usize = blocks.iter().map(|blocks| usize::from(blocks.count)).sum();
        assert_eq!(sent, goes_out * CLIENTS);
    }
    assert_eq!((bench.counter("tftp", "complete"), bench.counter("transfer", "resend")), (10_000, 0));
    assert_eq!((count(&bench), bench.open.len()), (0, 0));
}

/// At the limit newcomers hear nothing and are counted; when the others are done there is room again.
#[test]
fn transfers_in_all_are_bounded() {
    let mut bench = Bench::new();
    for n in 0..TRANSFERS_MAX + 100 {
        bench.datagram(Role::Tftp, one_of(n), &Bench::request("a", Options::default()));
    }
    assert_eq!(count(&bench), TRANSFERS_MAX);
    assert_eq!(bench.counter("tftp", "too_many_transfers"), 100);
    assert_eq!(bench.blocks.len(), TRANSFERS_MAX, "who is refused hears nothing");
    bench.pass(Duration::from_secs(60));
    assert_eq!((count(&bench), bench.counter("tftp", "silent")), (0, u64::try_from(TRANSFERS_MAX).unwrap()));
    bench.blocks.clear();
    ask(&mut bench, 1, "a", Options::default());
    assert_eq!(bench.take_blocks(), [(1, client(1))]);
}

/// A million requests from sources that never asked, in a minute: tables stay within their limits, each request is
/// served or counted as refused, and what goes out is bounded by the transfers there may be.
#[test]
fn a_million_forged_requests() {
    const REQUESTS: u32 = 1_000_000;
    let mut bench = Bench::new();
    let mut draw = Draw::from_seed(7);
    let requests = [
        Bench::request("a", Options::default()),
        Bench::request("a", Options { block_size: Some(1468), window_size: Some(64), ..Options::default() }),
        Bench::request("absent", Options::default()),
    ];
    let (mut blocks, mut packets, mut most) = (0, 0, 0);
    for n in 0..REQUESTS {
        let address = Ipv4Addr::from(0x0a00_0000 + u32::try_from(draw.below(1 << 24)).unwrap());
        let from = SocketAddrV4::new(address, 1024 + u16::try_from(draw.below(60_000)).unwrap());
        bench.datagram(Role::Tftp, from, &requests[usize::try_from(draw.below(3)).unwrap()]);
        if n % 1000 == 999 {
            bench.ms(60);
            bench.events.clear();
            assert!(bench.blocks.iter().all(|blocks| blocks.count == 1), "no window before an ACK");
            blocks += std::mem::take(&mut bench.blocks).len();
            packets += std::mem::take(&mut bench.sent).len();
            most = most.max(count(&bench));
        }
    }
    assert_eq!(most, TRANSFERS_MAX, "the flood does reach the limit");
    let counted = |what| bench.counter("tftp", what);
    let refused = counted("too_many_transfers") + counted("rate") + counted("repeated");
    assert_eq!(counted("request") + refused, u64::from(REQUESTS));
    assert!(counted("too_many_transfers") > 100_000);
    // Each transfer that began sent 3 blocks or 5 OACKs at most, or one ERROR.
    assert!(u64::try_from(blocks + packets).unwrap() <= counted("request") * u64::from(OACK_SENDS_MAX));
    bench.pass(Duration::from_secs(60));
    assert_eq!(count(&bench), 0);
}
