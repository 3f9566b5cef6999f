//! The multicast loads of `tests/bench line`, and what is expected of each (performance.md § 5).

use std::time::Duration;

use sim::group_load::{GroupLoad, Trouble, Way};

const MIB: usize = 1 << 20;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Datagrams lost of a million: one in a hundred.
const ONE_PERCENT: u32 = 10_000;

/// What is wrong in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wrong {
    /// What the load says.
    AsSaid,
    /// The receiver of that number takes a tenth of what all took when nothing was wrong.
    TenthOfTheRate(usize),
}

/// What is expected of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Expected {
    /// Our time to the last receiver is so many times shorter than the peer's.
    Faster(f64),
    /// It is so many times as long as when nothing is wrong, at most.
    AsClean(f64),
    /// The same of those that are not slow.
    OthersAsClean(f64),
    /// Nobody waits longer for a new block.
    Stall(Duration),
    /// What the server sends, and how often it calls the kernel, is the same but for such a part for 1, 8 and 64.
    SameFor(f64),
}

/// One load for all servers.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called on the command line; several rows may share a name.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) load: GroupLoad<'static>,
    /// Of the file: not a multiple of a block.
    pub(crate) bytes: usize,
    pub(crate) rounds: usize,
    pub(crate) wrong: Wrong,
    pub(crate) expected: Expected,
    /// Wire bytes for a byte of the file, at most.
    pub(crate) wire: Option<f64>,
}

fn load(way: Way, receivers: usize) -> GroupLoad<'static> {
    GroupLoad {
        file: &[],
        way,
        receivers,
        round_trip: Duration::ZERO,
        trouble: Trouble::None,
        seed: 1,
        timeout: SECOND,
        deadline: 10 * SECOND,
        coalesced: true,
        core: 1,
    }
}

fn bytes(way: Way) -> usize {
    if way == Way::Rfc2090 { 16 * MIB + 1000 } else { 8 * MIB + 100 }
}

/// All of them, in the order they are printed.
pub(crate) fn rows() -> Vec<Row> {
    [clean(), lossy(), members()].into_iter().flatten().collect()
}

fn row(name: &'static str, what: &'static str, load: GroupLoad<'static>, expected: Expected) -> Row {
    let bytes = bytes(load.way);
    Row { name, what, load, bytes, rounds: 5, wrong: Wrong::AsSaid, expected, wire: None }
}

fn clean() -> Vec<Row> {
    let (rfc2090, mtftp) = (load(Way::Rfc2090, 64), load(Way::MtftpOne, 64));
    let far = |load: &GroupLoad<'static>| GroupLoad { round_trip: MILLISECOND, receivers: 8, ..load.clone() };
    let singly = GroupLoad { coalesced: false, ..rfc2090.clone() };
    vec![
        Row {
            wire: Some(1.035),
            ..row("multicast", "RFC 2090, 64 receivers", rfc2090.clone(), Expected::Faster(2.2))
        },
        row(
            "multicast",
            "the same, but receivers read each packet singly (no UDP_GRO)",
            singly,
            Expected::Faster(2.2),
        ),
        Row {
            wire: Some(1.092),
            ..row(
                "multicast-mtftp",
                "PXE-MTFTP, one opens, 63 listen (iPXE)",
                mtftp.clone(),
                Expected::Faster(2.0),
            )
        },
        Row {
            bytes: 4 * MIB + 1000,
            wire: Some(1.035),
            ..row(
                "multicast-rtt",
                "RFC 2090, 8 receivers, round trip 1 ms",
                far(&rfc2090),
                Expected::Faster(20.0),
            )
        },
        Row {
            bytes: MIB + 100,
            wire: Some(1.092),
            ..row(
                "multicast-rtt",
                "PXE-MTFTP, 8 receivers, round trip 1 ms",
                far(&mtftp),
                Expected::Faster(20.0),
            )
        },
    ]
}

fn lossy() -> Vec<Row> {
    let lossy = |name, what, way, trouble| {
        let load = GroupLoad { trouble, deadline: 4 * SECOND, ..load(way, 8) };
        Row { rounds: 5, ..row(name, what, load, Expected::AsClean(1.3)) }
    };
    let (first, all) = (Trouble::FirstLoses(ONE_PERCENT), Trouble::AllLose(ONE_PERCENT));
    vec![
        lossy("multicast-loss-master", "RFC 2090, 8 receivers, the first loses 1 %", Way::Rfc2090, first),
        lossy("multicast-loss-master", "PXE-MTFTP, 8 open, the first loses 1 %", Way::MtftpAll, first),
        lossy("multicast-loss-all", "RFC 2090, 8 receivers, each loses 1 %", Way::Rfc2090, all),
        lossy("multicast-loss-all", "PXE-MTFTP, 8 open, each loses 1 %", Way::MtftpAll, all),
    ]
}

fn members() -> Vec<Row> {
    let stall = Expected::Stall(100 * MILLISECOND);
    let dies = |what, way| {
        let load = GroupLoad { trouble: Trouble::MasterDies, deadline: 8 * SECOND, ..load(way, 8) };
        Row { rounds: 3, ..row("multicast-dead-master", what, load, stall) }
    };
    let slow = |what, way, receiver| {
        let load = GroupLoad { deadline: 8 * SECOND, ..load(way, 8) };
        let wrong = Wrong::TenthOfTheRate(receiver);
        Row { rounds: 3, wrong, ..row("multicast-slow", what, load, Expected::OthersAsClean(1.1)) }
    };
    let same = |what, way| row("multicast-listeners", what, load(way, 64), Expected::SameFor(0.02));
    vec![
        dies("RFC 2090, 8 receivers, the master dies in the middle", Way::Rfc2090),
        dies("PXE-MTFTP, 8 open, the master dies in the middle", Way::MtftpAll),
        slow("RFC 2090, 8 receivers, the first takes a tenth of the rate", Way::Rfc2090, 0),
        slow("RFC 2090, 8 receivers, the fifth takes a tenth of the rate", Way::Rfc2090, 4),
        slow("PXE-MTFTP, 8 open, the first takes a tenth of the rate", Way::MtftpAll, 0),
        same("RFC 2090, 1, 8 and 64 receivers", Way::Rfc2090),
        same("PXE-MTFTP, 1, 8 and 64 receivers, one opens", Way::MtftpOne),
    ]
}
