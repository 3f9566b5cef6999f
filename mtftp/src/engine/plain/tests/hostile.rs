//! What strangers send: nothing of it costs more than its place in the tables and a few packets.

use super::*;

/// A request for `a` with these bytes behind the mode.
fn raw(options: &[u8]) -> Vec<u8> {
    [b"\0\x01a\0octet\0", options].concat()
}

fn spans(bench: &mut Bench) -> Vec<(u64, u16)> {
    bench.take_spans(client(1))
}

/// A transfer of `long`, 10,000 blocks of 8 bytes in windows of 64, with the first window out.
fn windows() -> Bench {
    let mut bench = Bench::new();
    bench.files.insert("long".to_owned(), 79_999);
    let options = Options { block_size: Some(8), window_size: Some(64), ..Options::default() };
    ask(&mut bench, 1, "long", options);
    ack(&mut bench, 1, 0);
    bench.sent.clear();
    assert_eq!(spans(&mut bench), [(1, 64)]);
    bench
}

/// What is out of range, twice there or no text is taken as the protocol says, and answered with no more than was asked.
#[test]
fn options_of_any_kind_are_answered_in_range_or_not_at_all() {
    let size = |block_size| Some(Options { block_size: Some(block_size), ..Options::default() });
    let window = |window_size| Some(Options { window_size: Some(window_size), ..Options::default() });
    let tsize = Some(Options { transfer_size: Some(5127), ..Options::default() });
    let second =
        |timeout_seconds| Some(Options { timeout_seconds: Some(timeout_seconds), ..Options::default() });
    let table: Vec<(&[u8], Option<Options>)> = vec![
        (b"blksize\x007\0", None),
        (b"blksize\x008\0", size(8)),
        (b"blksize\x0065464\0", size(1468)),
        (b"blksize\x0065465\0", None),
        (b"blksize\x00-8\0", None),
        (b"blksize\x000x200\0", None),
        (b"blksize\x00512\xff\0", None),
        (b"blksize\x00\0", None),
        (b"blksize\x0099999999999999999999999999999999999999999999\0", None),
        (b"blksize\x0000000000000000000000000000000000000000000512\0", size(512)),
        (b"windowsize\x000\0", None),
        (b"windowsize\x001\0", window(1)),
        (b"windowsize\x0065535\0", window(64)),
        (b"windowsize\x0065536\0", None),
        (b"windowsize\x0018446744073709551617\0", None),
        (b"tsize\x0018446744073709551615\0", tsize.clone()),
        (b"tsize\x0018446744073709551616\0", None),
        (b"timeout\x000\0", None),
        (b"timeout\x00255\0", second(255)),
        (b"timeout\x00256\0", None),
        (b"rollover\x002\0", None),
        (b"multicast\0\xff\xfe\0", None),
        (b"multicast\0\0", None),
        (b"blksize\x008\0blksize\x009\0BLKSIZE\x0010\0", size(10)),
        (b"blksize\x00512\0blksize\0\0", None),
        (b"windowsize\x008\0windowsize\x000\0", None),
        (b"\xff\xfe\0\xc0\xaf\0tsize\x000\0", tsize),
        (b"%s%n\0%s%n\0blksize;rm\x00512\0", None),
    ];
    for (options, answer) in table {
        let shown = String::from_utf8_lossy(options).into_owned();
        let mut bench = Bench::new();
        let request = raw(options);
        bench.datagram(Role::Tftp, client(1), &request);
        let Some(answer) = answer else {
            assert!(bench.sent.is_empty(), "{shown:?} is answered");
            assert_eq!(spans(&mut bench), [(1, 1)], "{shown:?}: without options");
            continue;
        };
        let sent = bench.sent.pop().unwrap_or_else(|| panic!("{shown:?} is not answered"));
        assert_eq!(Packet::decode(&sent.bytes), Ok(Packet::OptionAck(answer)), "{shown:?}");
        assert!(bench.sent.is_empty() && bench.blocks.is_empty());
        assert!(sent.bytes.len() * 2 <= request.len() * 3, "{shown:?}: {} bytes", sent.bytes.len());
    }
}

#[test]
fn requests_that_are_none_are_dropped_and_counted() {
    let name = [b"\0\x01".as_slice(), &b"n".repeat(10_000), b"\0octet\0"].concat();
    let many = raw(&b"tsize\x000\0".repeat(500));
    let long = raw(&[b"blksize\0".as_slice(), &b"9".repeat(600), b"\0"].concat());
    let table: [(&[u8], &'static str); 9] = [
        (&name, "length"),
        (&many, "length"),
        (&long, "length"),
        (&raw(b"blksize"), "text"),
        (&raw(b"blksize\0"), "text"),
        (&raw(b"\0tsize\x000\0"), "text"),
        (b"\0\x01a\0octet", "text"),
        (b"\0\x01", "text"),
        (b"\0\x07a\0octet\0", "code"),
    ];
    for (bytes, kind) in table {
        let mut bench = Bench::new();
        bench.datagram(Role::Tftp, client(1), bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(30)]).into_owned();
        assert_eq!(bench.counter("drop_tftp", kind), 1, "{shown:?}");
        assert!(
            bench.sent.is_empty() && bench.blocks.is_empty() && bench.engine.plain.len() == 0,
            "{shown:?}"
        );
    }
}

/// The longest name of a request that is none of ours: an ERROR, and nothing is looked up.
#[test]
fn a_name_too_long_for_any_file_is_not_found() {
    let mut bench = Bench::new();
    let name = "n".repeat(256);
    bench.datagram(Role::Tftp, client(1), &Bench::request(&name, Options::default()));
    assert_eq!(error_code(&mut bench), Some(1));
    assert_eq!((bench.counter("tftp", "name"), bench.engine.plain.len()), (1, 0));
}

/// Every number there is, as often as one likes: old ones and ones to come start nothing, and end nothing.
#[test]
fn a_storm_of_acks_starts_no_more_than_one_window() {
    let mut bench = windows();
    ack(&mut bench, 1, 64);
    ack(&mut bench, 1, 128);
    assert_eq!(spans(&mut bench), [(65, 64), (129, 64)]);
    for _ in 0..3 {
        for number in (0..128).chain(193..=u16::MAX) {
            ack(&mut bench, 1, number);
        }
    }
    assert_eq!((spans(&mut bench), outcomes(&bench)), (vec![], vec![]));
    for _ in 0..10_000 {
        ack(&mut bench, 1, 128);
    }
    assert_eq!(spans(&mut bench), [(129, 64)]);
    assert!(bench.sent.is_empty(), "an ACK is never answered with words");
    ack(&mut bench, 1, 192);
    assert_eq!(spans(&mut bench), [(193, 64)]);
}

proptest! {
    /// Whatever a client ACKs, in no time at all: blocks go out in proportion to what it acknowledges.
    #[test]
    fn acks_of_any_kind_are_paid_for(acks in prop::collection::vec((0_u8..4, any::<u16>()), 1..400)) {
        let mut bench = windows();
        let (mut sent, mut acked, mut top) = (64_u64, 0_u64, 64_u64);
        for (kind, number) in acks {
            let number = match kind {
                0 => number,
                1 => u16::try_from(top).unwrap().wrapping_sub(number % 66),
                // Block by block, as if each were followed by a gap.
                _ => u16::try_from(acked + 1).unwrap(),
            };
            if (acked..=top).contains(&u64::from(number)) {
                acked = u64::from(number);
            }
            ack(&mut bench, 1, number);
            for (first, count) in spans(&mut bench) {
                prop_assert!(count <= 64);
                sent += u64::from(count);
                top = top.max(first + u64::from(count) - 1);
            }
        }
        prop_assert!(sent <= top + ACK_REPEATS_FOR_EACH * top, "{} blocks up to {}", sent, top);
    }
}

/// A transfer is named by address and port; what comes from elsewhere neither moves nor ends it, and draws nothing.
#[test]
fn a_wrong_source_does_not_touch_a_transfer() {
    let mut bench = windows();
    let here = client(1);
    let strangers = [
        SocketAddrV4::new(*here.ip(), here.port() + 1),
        SocketAddrV4::new(*client(2).ip(), here.port()),
        client(3),
    ];
    let error = Packet::Error { code: ErrorCode::OPTIONS, message: b"no" }.encode();
    for from in strangers {
        for number in [0, 1, 32, 64, 65, u16::MAX] {
            bench.ack(Role::Transfer, from, number);
        }
        for _ in 0..1000 {
            bench.datagram(Role::Transfer, from, &error);
        }
    }
    assert_eq!((spans(&mut bench), bench.sent.len(), outcomes(&bench)), (vec![], 0, vec![]));
    assert_eq!(bench.counter("transfer", "ack_from_nobody"), 18);
    assert_eq!(bench.counter("transfer", "error_from_nobody"), 3000);
    assert_eq!(bench.engine.plain.len(), 1);
    // Nor does what the client itself says at the wrong door.
    bench.datagram(Role::Tftp, here, &error);
    bench.ack(Role::Tftp, here, 64);
    assert_eq!((spans(&mut bench), outcomes(&bench)), (vec![], vec![]));
    ack(&mut bench, 1, 64);
    assert_eq!(spans(&mut bench), [(65, 64)]);
}

/// A transfer ends once, whatever is said about it then, and no ERROR is answered.
#[test]
fn a_flood_of_errors_ends_one_transfer() {
    let mut bench = windows();
    for code in 0..2000 {
        let error = Packet::Error { code: ErrorCode(code), message: b"" }.encode();
        bench.datagram(Role::Transfer, client(1), &error);
        bench.datagram(Role::Tftp, client(1), &error);
    }
    assert_eq!((spans(&mut bench), bench.sent.len()), (vec![], 0));
    assert_eq!(outcomes(&bench), [Outcome::Aborted]);
    assert_eq!(bench.counter("transfer", "error_from_nobody"), 1999);
    assert_eq!((bench.open.len(), bench.engine.plain.len()), (0, 0));
}
