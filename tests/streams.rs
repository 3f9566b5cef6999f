//! Multicast transfers of our own client on a dynamic address, by RFC 2090 and by PXE-MTFTP, through loss, deaths and late
//! joins.
#![allow(clippy::indexing_slicing, reason = "a wrong host number is a wrong test, and shall stop it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use driver::{Arrival, Deadline, Draw, Role, Time, Transmit, Wall};
use mtftp::client::{Cause, Method, Source, Wanted};
use mtftp::engine::EngineConfig;
use sim::clock::Clock;
use sim::getter::Getter;
use sim::mtftp_host::MtftpHost;
use sim::program::{Door, Effect, Program};
use sim::{Fault, LinkFaults, Rules, World};
use wire::configure::{Configure, Ports, Target};
use wire::control::{Envelope, Message};
use wire::policy::{Policy, SlowClients};
use wire::pxe::MulticastTags;
use wire::{BootEpoch, FileName, GroupAddr, Serial, ServerId, Stamp};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 7, 7);
const PORTS: Ports = Ports { client: 3001, server: 1760 };
const FILE: &str = "payload";

/// Asks the server for the address.
#[derive(Debug, Default)]
struct Configurer {
    has_asked: bool,
    policy: Policy,
}

impl Program for Configurer {
    fn doors(&self) -> Vec<Door> {
        vec![Door::unicast(Role::Control, 4016)]
    }

    fn on_datagram(&mut self, _now: Time, _wall: Wall, _arrival: &Arrival<'_>) {}

    fn on_timeout(&mut self, _now: Time) {}

    fn drain(&mut self, _tells: bool) -> Vec<Effect> {
        if std::mem::replace(&mut self.has_asked, true) {
            return Vec::new();
        }
        let sender = ServerId([1; 16]);
        let group = GroupAddr::new(GROUP).unwrap();
        let target =
            Target::Group { group, ports: PORTS, stamp: Stamp { millis: 1, sender }, policy: self.policy };
        let file = FileName::new(FILE.as_bytes()).unwrap();
        let message = Message::Configure(Configure { serial: Serial(1), target, file });
        let bytes = Envelope { sender, boot_epoch: BootEpoch(1), sequence: 1, message }.encode();
        vec![Effect::Send(Transmit { role: Role::Control, to: SocketAddrV4::new(SERVER, 4017), bytes })]
    }

    fn next_deadline(&self) -> Option<Deadline> {
        None
    }
}

fn ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

struct Run {
    world: World,
    clients: Vec<usize>,
    image: Vec<u8>,
    /// DATA packets to the group, as the first client's cable saw them.
    multicast: Rc<Cell<u64>>,
    blocks: u64,
}

impl Run {
    /// Clients that begin at these milliseconds, and a file of `size` bytes.
    fn new(
        seed: u64,
        faults: LinkFaults,
        size: usize,
        begins: &[u64],
        change: impl Fn(usize, &mut Wanted),
    ) -> Self {
        Self::with(
            seed,
            faults,
            size,
            begins,
            (Policy::default(), &|index, wanted| {
                let mut wanted = wanted;
                change(index, &mut wanted);
                Getter::new(wanted)
            }),
        )
    }

    /// The same with that policy, and clients made by hand.
    fn with(
        seed: u64,
        faults: LinkFaults,
        size: usize,
        begins: &[u64],
        (policy, make): (Policy, &dyn Fn(usize, Wanted) -> Getter),
    ) -> Self {
        let mut draw = Draw::from_seed(seed);
        let image: Vec<u8> = (0..size).map(|_| draw.bits().to_le_bytes()[0]).collect();
        let mut world = World::new(seed, LinkFaults::NONE, Rules::Ours);
        let file = FileName::new(FILE.as_bytes()).unwrap();
        let files = BTreeMap::from([(file.clone(), image.clone())]);
        let host = MtftpHost::new(SERVER, ServerId([9; 16]), EngineConfig::default(), files);
        world.add("mtftp", SERVER, Clock::new(0, 0), Box::new(host), Time::ZERO);
        let binld = Ipv4Addr::new(10, 0, 0, 1);
        world.add("binld", binld, Clock::new(0, 0), Box::new(Configurer { has_asked: false, policy }), ms(1));
        let mut clients = Vec::new();
        for (index, (number, begin)) in (100_u8..).zip(begins).enumerate() {
            let getter = make(index, Wanted::new(SERVER, file.clone(), Method::Rfc2090));
            let address = Ipv4Addr::new(10, 0, 0, number);
            let name = format!("client{number}");
            clients.push(world.add(&name, address, Clock::new(0, 0), Box::new(getter), ms(*begin)));
        }
        let multicast = Rc::new(Cell::new(0));
        let (seen, first) = (Rc::clone(&multicast), clients[0]);
        world.drop_if(move |_, passing| {
            let is_data = passing.bytes.starts_with(&[0, 3]) && passing.destination.ip().is_multicast();
            seen.set(seen.get() + u64::from(is_data && passing.to == first));
            false
        });
        world.at(ms(50), Fault::Link(faults));
        let blocks = u64::try_from(size).unwrap() / 1468 + 1;
        Self { world, clients, image, multicast, blocks }
    }

    fn run(&mut self, seconds: u64) {
        self.world.run_for(Duration::from_secs(seconds)).unwrap();
    }

    fn client(&self, index: usize) -> &Getter {
        self.world.nodes[self.clients[index]].program().unwrap()
    }

    /// How it ended; the bytes are right.
    #[track_caller]
    fn source(&self, index: usize) -> Source {
        let (client, seed) = (self.client(index), self.world.seed);
        let Some((_, Ok(source))) = &client.ended else {
            panic!("seed {seed}: client {index} has no file: {:?} {:?}", client.ended, client.counts())
        };
        assert!(client.image == self.image, "seed {seed}: client {index} has wrong bytes");
        *source
    }

    #[track_caller]
    fn all_by(&self, source: Source) {
        for index in 0..self.clients.len() {
            assert_eq!(self.source(index), source, "seed {}: client {index}", self.world.seed);
        }
    }

    #[track_caller]
    fn all_by_multicast(&self) {
        self.all_by(Source::Rfc2090);
    }

    fn nothing_left(&self) {
        let host: &MtftpHost = self.world.nodes[0].program().unwrap();
        let status = host.status().unwrap();
        assert_eq!((host.open_files(), status.transfers), (0, 0));
        assert!(status.claims.iter().all(|claim| claim.sessions.is_empty()));
    }
}

#[test]
fn machines_that_start_together_share_one_stream() {
    let mut run = Run::new(1, LinkFaults::NONE, 2_000_000, &[100, 100, 100], |_, _| {});
    run.run(20);
    run.all_by_multicast();
    run.nothing_left();
    assert!(run.multicast.get() <= run.blocks + 2, "{} of {}", run.multicast.get(), run.blocks);
}

#[test]
fn a_late_joiner_gets_its_head_in_a_second_pass() {
    let mut run = Run::new(2, LinkFaults::NONE, 4_000_000, &[100, 105, 110], |_, _| {});
    run.run(30);
    run.all_by_multicast();
    run.nothing_left();
    assert!(run.multicast.get() < 2 * run.blocks, "{} of {}", run.multicast.get(), run.blocks);
}

#[test]
fn loss_is_repaired_by_who_is_master() {
    for seed in 10..16 {
        let faults = LinkFaults { duplicate_ppm: 5_000, ..LinkFaults::loss(20_000) };
        let mut run = Run::new(seed, faults, 1_000_000, &[100, 300, 500, 900], |_, _| {});
        run.run(120);
        run.all_by_multicast();
        run.run(15);
        run.nothing_left();
    }
}

#[test]
fn a_master_or_a_listener_that_dies_does_not_stop_the_others() {
    for victim in [0, 2] {
        let mut run = Run::new(20, LinkFaults::NONE, 4_000_000, &[100, 200, 300, 400], |_, _| {});
        let dead = run.clients[victim];
        run.world.at(ms(600), Fault::Crash(dead));
        run.run(40);
        for index in (0..4).filter(|index| *index != victim) {
            assert_eq!(run.source(index), Source::Rfc2090, "client {index} without {victim}");
        }
        run.nothing_left();
    }
}

/// The stream has one block size. Who cannot take it gets the file by itself.
#[test]
fn another_block_size_goes_by_plain_tftp() {
    let small = |index, wanted: &mut Wanted| {
        if index == 1 {
            wanted.block_size = 512;
        }
    };
    let mut run = Run::new(3, LinkFaults::NONE, 300_000, &[100, 102], small);
    run.run(20);
    assert_eq!((run.source(0), run.source(1)), (Source::Rfc2090, Source::Plain));
}

/// The switch passes no multicast on: each client finds out, leaves, and gets its file all the same.
#[test]
fn who_hears_nothing_falls_back() {
    let mut run = Run::new(4, LinkFaults::NONE, 100_000, &[100, 200], |_, _| {});
    run.world
        .drop_if(|_, passing| passing.destination.ip().is_multicast() && passing.bytes.starts_with(&[0, 3]));
    run.run(60);
    for index in 0..2 {
        assert_eq!(run.source(index), Source::FallBack(Cause::NotHeard));
    }
    run.nothing_left();
}

#[test]
fn empty_and_full_last_blocks() {
    for size in [0, 1, 1467, 1468, 1469, 2 * 1468] {
        let mut run = Run::new(5, LinkFaults::NONE, size, &[100, 100], |_, _| {});
        run.run(10);
        run.all_by_multicast();
        run.nothing_left();
    }
}

/// By PXE-MTFTP; `strict` as Intel's client does it.
fn by_mtftp(strict: bool) -> impl Fn(usize, &mut Wanted) {
    move |_, wanted| {
        let group = GroupAddr::new(GROUP).unwrap();
        let (client_port, server_port) = (PORTS.client, PORTS.server);
        wanted.method = Method::PxeMtftp(MulticastTags { group, client_port, server_port, delay_seconds: 2 });
        wanted.strict = strict;
    }
}

/// A wire on which nothing overtakes anything: what Intel's client needs.
const IN_ORDER: LinkFaults = LinkFaults { delay_max: Duration::from_micros(50), ..LinkFaults::NONE };

/// They listen for two seconds, open at once, and one of them is master; the others only listen, and never ACK.
#[test]
fn by_pxe_mtftp_one_pass_serves_all_that_begin_together() {
    for strict in [false, true] {
        let mut run = Run::new(30, IN_ORDER, 300_000, &[100, 100, 100], by_mtftp(strict));
        run.run(20);
        run.all_by(Source::PxeMtftp);
        let masters: u64 = (0..3).map(|index| run.client(index).counts().master).sum();
        assert_eq!((masters, run.multicast.get()), (1, 300_000 / 512 + 1), "strict: {strict}");
        run.nothing_left();
    }
}

/// Who comes in the middle hears the rest of the pass, and opens for the next one: no block comes out of order, which
/// would send Intel's client to plain TFTP.
#[test]
fn by_pxe_mtftp_late_joiners_get_a_pass_of_their_own() {
    for strict in [false, true] {
        // The first opens after 2.2 s, and its pass takes half a second.
        let mut run = Run::new(31, IN_ORDER, 2_000_000, &[100, 500, 2_500], by_mtftp(strict));
        run.run(60);
        run.all_by(Source::PxeMtftp);
        let blocks = 2_000_000 / 512 + 1;
        assert!(run.multicast.get() <= 2 * blocks, "strict: {strict}: {} of {blocks}", run.multicast.get());
        run.nothing_left();
    }
}

/// Lossy listeners ask for further passes; nobody ends with wrong bytes, and few by plain TFTP.
#[test]
fn by_pxe_mtftp_lossy_clients_get_it_in_further_passes() {
    for seed in 40..44 {
        let faults = LinkFaults { loss_ppm: 2_000, ..IN_ORDER };
        let mut run = Run::new(seed, faults, 300_000, &[100, 200, 300], by_mtftp(false));
        run.run(300);
        run.all_by(Source::PxeMtftp);
        run.nothing_left();
    }
}

/// Intel's client has less patience: whatever becomes of it, its bytes are right.
#[test]
fn intels_client_ends_with_the_right_bytes_whatever_happens() {
    let mut multicast = 0;
    for seed in 50..58 {
        let faults = LinkFaults { loss_ppm: 2_000, ..IN_ORDER };
        let mut run = Run::new(seed, faults, 150_000, &[100, 700, 2_300, 2_400], by_mtftp(true));
        run.run(300);
        for index in 0..4 {
            multicast += u32::from(run.source(index) == Source::PxeMtftp);
        }
        run.nothing_left();
    }
    assert!(multicast >= 16, "only {multicast} of 32 by multicast");
}

/// The master dies: an opener that is there takes the pass on; without one, those who listen open again.
#[test]
fn by_pxe_mtftp_a_dead_master_costs_a_pass_at_most() {
    for (strict, begins) in [(false, [100, 100, 2_350]), (false, [100, 500, 900]), (true, [100, 500, 900])] {
        let mut run = Run::new(60, IN_ORDER, 2_000_000, &begins, by_mtftp(strict));
        run.run(2);
        run.world.run_for(Duration::from_millis(500)).unwrap();
        let master = (0..3).find(|index| run.client(*index).counts().master > 0).expect("somebody is master");
        let dead = run.clients[master];
        run.world.at(ms(2_520), Fault::Crash(dead));
        run.run(60);
        for index in (0..3).filter(|index| *index != master) {
            assert_eq!(
                run.source(index),
                Source::PxeMtftp,
                "client {index} without {master}, strict: {strict}"
            );
        }
        run.nothing_left();
    }
}

#[test]
fn by_pxe_mtftp_the_largest_file_and_the_smallest() {
    for size in [0, 511, 512, 1024, 33_553_919] {
        let mut run = Run::new(32, IN_ORDER, size, &[100], by_mtftp(true));
        run.run(120);
        run.all_by(Source::PxeMtftp);
        run.nothing_left();
    }
}

// --- Slow clients ---------------------------------------------------------------------------------------------

/// The rate below which a client is slow: far below what a fast one does here, far above what a slow one does.
const RATE_MIN: u32 = 500_000;

/// When each of a room of four was done; the first two work 10 ms at each datagram, if `slow`.
fn room(seed: u64, slow: bool, policy: SlowClients, method: Method) -> (Run, Vec<Duration>) {
    let policy = Policy { slow: policy, silences: 0, rate_min: RATE_MIN, ..Policy::default() };
    let make = |index: usize, wanted: Wanted| {
        let works = if slow && index < 2 { Duration::from_millis(10) } else { Duration::ZERO };
        Getter::new(Wanted { method, ..wanted }).slow(works)
    };
    let mut run = Run::with(seed, LinkFaults::NONE, 1_000_000, &[100, 101, 102, 103], (policy, &make));
    run.run(120);
    let ended = (0..4).map(|index| {
        run.source(index);
        run.client(index).ended.as_ref().unwrap().0.since(Time::ZERO)
    });
    let ended = ended.collect();
    run.nothing_left();
    (run, ended)
}

/// Whatever the policy, everybody has the file; and under each but *keep* the fast ones do not wait for the slow.
#[test]
fn a_slow_client_does_not_drag_the_room() {
    for seed in 50..54 {
        let (_, clean) = room(seed, false, SlowClients::Keep, Method::Rfc2090);
        let (_, kept) = room(seed, true, SlowClients::Keep, Method::Rfc2090);
        assert!(kept[3] > clean[3] * 5, "they wait: {kept:?}, clean {clean:?}");
        for policy in [SlowClients::DropToUnicast, SlowClients::SecondStream] {
            let (run, ended) = room(seed, true, policy, Method::Rfc2090);
            println!("{policy:?}: clean {clean:?}, kept {kept:?}, then {ended:?}");
            // Each of the two slow ones is found out in its turn as master.
            let found_out = Duration::from_millis(1200);
            assert!(
                ended[2].max(ended[3]) < clean[3] * 3 / 2 + found_out,
                "{policy:?}: {ended:?}, clean {clean:?}"
            );
            // Nobody is slow once the fast ones are done: then the group is as good as unicast.
            let most = run.blocks * 2 + run.blocks / 20;
            assert!(run.multicast.get() <= most, "{policy:?}: {} of {most}", run.multicast.get());
            run.all_by_multicast();
        }
    }
}

/// The same for PXE-MTFTP, where a slow client may end by plain TFTP.
#[test]
fn a_slow_client_does_not_drag_a_pass() {
    let tags = MulticastTags {
        group: GroupAddr::new(GROUP).unwrap(),
        client_port: PORTS.client,
        server_port: PORTS.server,
        delay_seconds: 1,
    };
    for seed in 60..64 {
        let (_, kept) = room(seed, true, SlowClients::Keep, Method::PxeMtftp(tags));
        for policy in [SlowClients::DropToUnicast, SlowClients::SecondStream] {
            let (_, ended) = room(seed, true, policy, Method::PxeMtftp(tags));
            println!("{policy:?}: kept {kept:?}, then {ended:?}");
            assert!(
                ended[2].max(ended[3]) < kept[2].min(kept[3]) / 2,
                "{policy:?}: {ended:?}, kept {kept:?}"
            );
        }
    }
}
