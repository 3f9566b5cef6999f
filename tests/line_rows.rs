//! The loads of `tests/bench line`, and what is expected of each (performance.md § 5).

use std::time::Duration;

use sim::tftp_load::{Load, OutOfOrder};

const MIB: usize = 1 << 20;

/// What else is expected of our server alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Also {
    /// The longest time without a new block, in milliseconds at most.
    Gap(f64),
    /// No client's timer runs out.
    NoTimeouts,
    /// Memory, in KiB at most.
    Memory(f64),
    /// The fastest client : the slowest at most.
    Evenness(f64),
}

/// One load for all servers.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called on the command line; several rows may share a name.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) load: Load<'static>,
    /// Of the file: not a multiple of a block.
    pub(crate) bytes: usize,
    pub(crate) rounds: usize,
    /// Server and clients share a core.
    pub(crate) one_core: bool,
    /// Our MB/s : the best peer's.
    pub(crate) speed: &'static str,
    /// Our CPU time for a byte : the cheapest peer's.
    pub(crate) cost: &'static str,
    pub(crate) also: &'static [Also],
}

impl Row {
    fn new(name: &'static str, what: &'static str) -> Self {
        let load = Load::new(&[]);
        let floor = ">= 0.95";
        Self {
            name,
            what,
            load,
            bytes: 16 * MIB,
            rounds: 5,
            one_core: false,
            speed: floor,
            cost: "<= 1.05",
            also: &[],
        }
    }
}

/// 16 MiB, and 8 KiB for each of 1,024 clients.
const MANY_KIB: f64 = 16.0 * 1024.0 + 8.0 * 1024.0;
const MILLISECOND: Duration = Duration::from_millis(1);
const QUARTER: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);

/// All of them, in the order they are printed.
pub(crate) fn rows() -> Vec<Row> {
    [lock_step(), windows(), many()].into_iter().flatten().collect()
}

/// One lock-step client. Where the round trip rules, the file is such as we should take a second for, and the others are
/// cut off: what is slow by the round trip is as slow all the time.
fn lock_step() -> Vec<Row> {
    let one = Load::new(&[]);
    let cut = Load { deadline: 5 * SECOND / 2, ..one.clone() };
    let lossy = Load {
        round_trip: MILLISECOND,
        loss_ppm: 10_000,
        timeout: QUARTER,
        deadline: 6 * SECOND,
        ..one.clone()
    };
    let lost = |asks_size, speed, what| Row {
        load: Load { asks_size, ..lossy.clone() },
        bytes: 6 * MIB,
        rounds: 3,
        speed,
        also: &[Also::Gap(30.0)],
        ..Row::new("lockstep-loss", what)
    };
    vec![
        Row { bytes: 64 * MIB, speed: ">= 7", ..Row::new("lockstep", "one client, run ahead of") },
        Row {
            load: Load { asks_size: true, ..one.clone() },
            bytes: 32 * MIB,
            speed: ">= 1",
            ..Row::new("lockstep", "one client, not run ahead of")
        },
        Row {
            load: Load { round_trip: MILLISECOND, ..cut.clone() },
            speed: ">= 25",
            ..Row::new("lockstep-rtt", "one client, round trip 1 ms, cut off after 2.5 s")
        },
        Row {
            load: Load { round_trip: 5 * MILLISECOND, ..cut },
            bytes: 8 * MIB,
            speed: ">= 25",
            ..Row::new("lockstep-rtt", "one client, round trip 5 ms, cut off after 2.5 s")
        },
        lost(
            false,
            ">= 10",
            "one client, run ahead of, round trip 1 ms, 1 % lost, client's timer 250 ms, cut off after 6 s",
        ),
        lost(true, ">= 3", "the same, not run ahead of"),
    ]
}

/// One client with windows of 64 blocks.
fn windows() -> Vec<Row> {
    let window = Load { window: 64, awake: true, ..Load::new(&[]) };
    let lossy = Load { loss_ppm: 1000, timeout: QUARTER, ..window.clone() };
    let loss =
        |load, what| Row { load, bytes: 64 * MIB, rounds: 3, speed: ">= 8", ..Row::new("window-loss", what) };
    let clean = |one_core: bool, speed, what| Row {
        load: Load { awake: !one_core, ..window.clone() },
        bytes: 256 * MIB,
        one_core,
        speed,
        cost: "<= 0.30",
        ..Row::new("window", what)
    };
    vec![
        clean(false, ">= 2.3", "one client, windows of 64, two cores"),
        clean(true, ">= 4", "one client, windows of 64, one core for both"),
        Row {
            load: Load { coalesced: false, ..window.clone() },
            bytes: 256 * MIB,
            speed: "-",
            cost: "-",
            ..Row::new(
                "window",
                "the same on two cores, but the client reads each packet singly (no UDP_GRO)",
            )
        },
        loss(lossy.clone(), "0.1 % lost, client's timer 250 ms, each block out of order answered (EDK2)"),
        loss(
            Load { out_of_order: OutOfOrder::Once, ..lossy.clone() },
            "0.1 % lost, client's timer 250 ms, the first out of order answered (U-Boot)",
        ),
        loss(Load { timeout: 30 * SECOND, ..lossy }, "0.1 % lost, client's timer 30 s, each answered"),
    ]
}

/// Many clients at once.
fn many() -> Vec<Row> {
    let crowd = Load { clients: 128, awake: true, ..Load::new(&[]) };
    let thousand = Load { clients: 1024, window: 16, spread: 50 * MILLISECOND, ..crowd.clone() };
    vec![
        Row {
            load: Load { window: 16, ..crowd.clone() },
            bytes: 4 * MIB,
            speed: ">= 3.5",
            cost: "<= 0.25",
            ..Row::new("clients-128", "128 clients, windows of 16")
        },
        Row {
            load: crowd.clone(),
            bytes: 2 * MIB,
            cost: "<= 0.35",
            ..Row::new("clients-128", "128 lock-step clients, run ahead of")
        },
        Row {
            load: Load { asks_size: true, ..crowd.clone() },
            bytes: 2 * MIB,
            cost: "<= 0.9",
            ..Row::new("clients-128", "128 lock-step clients, not run ahead of")
        },
        Row {
            load: thousand.clone(),
            bytes: MIB / 2,
            rounds: 3,
            speed: ">= 3.3",
            also: &[Also::NoTimeouts, Also::Memory(MANY_KIB)],
            ..Row::new("clients-1024", "1024 clients within 50 ms, windows of 16")
        },
        Row {
            load: Load { deadline: 3 * SECOND, ..thousand },
            rounds: 3,
            speed: ">= 3.3",
            also: &[Also::NoTimeouts, Also::Memory(MANY_KIB), Also::Evenness(1.5)],
            ..Row::new(
                "clients-1024",
                "the same with a file that nobody gets in the 3 s: who has how much by then",
            )
        },
    ]
}
