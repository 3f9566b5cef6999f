//! Clients that say anything, at any time, or nothing any more.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::policy::{Policy, SlowClients};
use wire::tftp::{ErrorCode, Options, Packet};

use super::bench::*;
use super::*;

const CLIENTS: u8 = 40;
const BLOCKS: u16 = 11;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Rfc2090,
    Ipxe,
    Pass,
}

impl Kind {
    fn door(self) -> Role {
        match self {
            Self::Rfc2090 => Role::Stream(0),
            Self::Ipxe | Self::Pass => Role::Mtftp(PORT),
        }
    }

    /// A server with file `a` on an address for such clients.
    fn bench(self, policy: Policy) -> Bench {
        let mut config = EngineConfig::default();
        if let Self::Ipxe = self {
            (config.pinned_group, config.pinned_server_port) = (group(1), PORT);
            config.server_ports = vec![PINNED_PORT];
        }
        let mut bench = Bench::with(Engine::new(config, identity(), Draw::from_seed(1), Time::ZERO));
        bench.policy = policy;
        bench.configure(1, 1, group(1), "a").unwrap();
        bench
    }
}

#[derive(Debug, Clone)]
enum Did {
    Asked(u8),
    Acked(u8, u16),
    Left(u8),
    Waited(u64),
}

fn did() -> impl Strategy<Value = Did> {
    let waited = prop_oneof![0..30_u64, 90..110_u64, 900..4_000_u64];
    prop_oneof![
        6 => (1..=CLIENTS).prop_map(Did::Asked),
        12 => (1..=CLIENTS, 0..=BLOCKS).prop_map(|(n, block)| Did::Acked(n, block)),
        1 => (1..=CLIENTS).prop_map(Did::Left),
        4 => waited.prop_map(Did::Waited),
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Rfc2090), Just(Kind::Ipxe), Just(Kind::Pass)]
}

fn policies() -> impl Strategy<Value = Policy> {
    let slow = prop_oneof![
        Just(SlowClients::Keep),
        Just(SlowClients::DropToUnicast),
        Just(SlowClients::SecondStream)
    ];
    slow.prop_map(|slow| Policy { slow, silences: 4, rate_min: 100_000, ..Policy::default() })
}

impl Bench {
    fn does(&mut self, kind: Kind, did: &Did) {
        match (kind, did) {
            (Kind::Rfc2090, Did::Asked(n)) => {
                let options =
                    Options { transfer_size: Some(0), multicast: Some(String::new()), ..Options::default() };
                self.datagram(Role::Tftp, client(*n), &Self::request("a", options));
            }
            (Kind::Ipxe | Kind::Pass, Did::Asked(n)) => self.open(PORT, client(*n), "a"),
            (_, Did::Acked(n, block)) => self.ack(kind.door(), client(*n), *block),
            (_, Did::Left(n)) => {
                let error = Packet::Error { code: ErrorCode::NOT_DEFINED, message: b"enough" };
                self.datagram(kind.door(), client(*n), &error.encode());
            }
            (_, Did::Waited(millis)) => self.ms(*millis),
        }
    }
}

proptest! {
    /// Nothing stays due for ever (the bench says so), all that was begun ends, and each that came leaves once.
    #[test]
    fn a_session_ends_whatever_its_clients_say(
        kind in kinds(), policy in policies(), script in vec(did(), 1..120)
    ) {
        let mut bench = kind.bench(policy);
        for did in &script {
            bench.does(kind, did);
        }
        bench.ms(60_000);
        let began = bench.events.iter().filter(|event| matches!(event, Event::SessionBegan { .. })).count();
        let ended = bench.events.iter().filter_map(|event| {
            let Event::SessionEnded { tally, .. } = event else { return None };
            Some(tally)
        });
        prop_assert_eq!(ended.clone().count(), began);
        for tally in ended {
            // Of most that hear a pass nobody knows what became of them.
            let is_known = !matches!(kind, Kind::Pass);
            prop_assert!(!is_known || tally.openers == tally.complete + tally.lost, "{:?}", tally);
        }
    }
}
