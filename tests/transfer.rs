//! Multicast transfers with iPXE's client as it is: who ends with which bytes, and at what price on the wire.
#![allow(clippy::indexing_slicing, reason = "a wrong host number is a wrong test, and shall stop it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use driver::{Arrival, Deadline, Draw, Role, Time, Transmit, Wall};
use mtftp::engine::EngineConfig;
use sim::clock::Clock;
use sim::ipxe::{Ended, GROUP, Ipxe};
use sim::mtftp_host::MtftpHost;
use sim::program::{Door, Effect, Program};
use sim::{Fault, LinkFaults, Rules, World};
use wire::configure::{Configure, Ports, Target};
use wire::control::{Envelope, Message};
use wire::policy::Policy;
use wire::{BootEpoch, FileName, GroupAddr, Serial, ServerId, Stamp};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const SERVER_PORT: u16 = 1759;
const FILE: &str = "initrd";

/// Asks the server for the pinned address until it says something.
#[derive(Debug, Default)]
struct Configurer {
    asked: u32,
    answered: bool,
}

impl Program for Configurer {
    fn doors(&self) -> Vec<Door> {
        vec![Door::unicast(Role::Control, 4016)]
    }

    fn on_datagram(&mut self, _now: Time, _wall: Wall, _arrival: &Arrival<'_>) {
        self.answered = true;
    }

    fn on_timeout(&mut self, _now: Time) {}

    fn drain(&mut self, _tells: bool) -> Vec<Effect> {
        if self.answered || self.asked > 0 {
            return Vec::new();
        }
        self.asked += 1;
        let sender = ServerId([1; 16]);
        let target = Target::Group {
            group: GroupAddr::new(*GROUP.ip()).unwrap(),
            ports: Ports { client: GROUP.port(), server: SERVER_PORT },
            stamp: Stamp { millis: 1, sender },
            policy: Policy::default(),
        };
        let file = FileName::new(FILE.as_bytes()).unwrap();
        let message = Message::Configure(Configure { serial: Serial(1), target, file });
        let bytes = Envelope { sender, boot_epoch: BootEpoch(1), sequence: 1, message }.encode();
        let to = SocketAddrV4::new(SERVER, 4017);
        vec![Effect::Send(Transmit { role: Role::Control, to, bytes })]
    }

    fn next_deadline(&self) -> Option<Deadline> {
        None
    }
}

/// What went over the wire, seen from outside.
#[derive(Debug, Default)]
struct Wire {
    /// DATA to the group address, in order.
    multicast: Vec<u16>,
    /// DATA by MTFTP to single clients.
    unicast: u64,
    /// Multicast blocks of which every client that had opened and was not done had got a copy.
    unneeded: Vec<u16>,
    openers: BTreeMap<SocketAddrV4, BTreeSet<u16>>,
    /// Clients that the server sent a block of their own: it knows that they opened.
    known: BTreeSet<SocketAddrV4>,
}

impl Wire {
    /// Sees every datagram on its way to every receiver; `clients` are the hosts by number. `lost` tells whether the
    /// link is good: only then what passes arrives.
    fn see(
        &mut self,
        clients: &BTreeMap<usize, SocketAddrV4>,
        passing: &sim::world::Passing<'_>,
        blocks: u16,
    ) {
        let Some((opcode, number)) = passing
            .bytes
            .first_chunk::<4>()
            .map(|head| (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]])))
        else {
            return;
        };
        let opening = opcode == 1 && passing.destination == SocketAddrV4::new(SERVER, SERVER_PORT);
        if opening && let Some(client) = clients.get(&passing.from) {
            self.openers.entry(*client).or_default();
        }
        let Some(client) = clients.get(&passing.to).filter(|_| opcode == 3) else { return };
        if passing.destination == GROUP {
            let first = clients.keys().next() == Some(&passing.to);
            if first {
                self.multicast.push(number);
                // Block 1 goes out by unicast and multicast at once, that is how a master is made.
                let needed = number == 1
                    || self
                        .openers
                        .values()
                        .any(|got| got.len() < usize::from(blocks) && !got.contains(&number));
                if !needed {
                    self.unneeded.push(number);
                }
            }
        } else {
            self.unicast += u64::from(number > 0);
            self.known.insert(*client);
        }
        if let Some(got) = self.openers.get_mut(client) {
            got.insert(number);
        }
    }
}

struct Run {
    world: World,
    clients: Vec<usize>,
    wire: Rc<RefCell<Wire>>,
    image: Vec<u8>,
}

fn ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

impl Run {
    /// Clients that begin at these milliseconds, and a file of so many blocks.
    fn new(seed: u64, faults: LinkFaults, blocks: u16, begins: &[u64]) -> Self {
        let size = usize::from(blocks) * 512 - 100;
        let mut draw = Draw::from_seed(seed);
        let image: Vec<u8> = (0..size).map(|_| draw.bits().to_le_bytes()[0]).collect();
        let mut world = World::new(seed, LinkFaults::NONE, Rules::Ours);
        let files = BTreeMap::from([(FileName::new(FILE.as_bytes()).unwrap(), image.clone())]);
        let host = MtftpHost::new(SERVER, ServerId([9; 16]), EngineConfig::default(), files);
        world.add("mtftp", SERVER, Clock::new(0, 0), Box::new(host), Time::ZERO);
        let binld = Ipv4Addr::new(10, 0, 0, 1);
        world.add("binld", binld, Clock::new(0, 0), Box::new(Configurer::default()), ms(1));
        let server = SocketAddrV4::new(SERVER, SERVER_PORT);
        let mut clients = Vec::new();
        let mut sockets = BTreeMap::new();
        for (number, begin) in (100_u8..).zip(begins) {
            let address = Ipv4Addr::new(10, 0, 0, number);
            // Two identical machines draw equal ports (pxe.md D).
            let client = Ipxe::new(16_370, server, FILE);
            let name = format!("ipxe{number}");
            let node = world.add(&name, address, Clock::new(0, 0), Box::new(client), ms(*begin));
            clients.push(node);
            sockets.insert(node, SocketAddrV4::new(address, 16_370));
        }
        let wire = Rc::new(RefCell::new(Wire::default()));
        let seen = Rc::clone(&wire);
        world.drop_if(move |_, passing| {
            seen.borrow_mut().see(&sockets, passing, blocks);
            false
        });
        world.at(ms(50), Fault::Link(faults));
        Self { world, clients, wire, image }
    }

    fn client(&self, index: usize) -> &Ipxe {
        self.world.nodes[self.clients[index]].program().unwrap()
    }

    fn ended(&self, index: usize) -> &Ended {
        let client = self.client(index);
        let ended = client.ended.as_ref().map(|(_, how)| how);
        ended.unwrap_or_else(|| panic!("seed {}: client {index} did not end", self.world.seed))
    }

    fn run(&mut self, seconds: u64) {
        self.world.run_for(Duration::from_secs(seconds)).unwrap();
    }

    /// The server never heard this one's opens: then it cannot know that it listens, nor that it must not be served
    /// by plain TFTP in the middle.
    fn never_heard(&self, index: usize) -> bool {
        let ip = self.world.nodes[self.clients[index]].address;
        !self.wire.borrow().known.iter().any(|client| *client.ip() == ip)
    }

    #[track_caller]
    fn all_by_multicast(&self) {
        for index in 0..self.clients.len() {
            self.by_multicast(index);
        }
    }

    #[track_caller]
    fn by_multicast(&self, index: usize) {
        let Ended::Multicast(image) = self.ended(index) else {
            panic!(
                "seed {}: client {index} ended otherwise: {:.200}",
                self.world.seed,
                format!("{:?}", self.ended(index))
            );
        };
        assert!(*image == self.image, "seed {}: client {index} has wrong bytes", self.world.seed);
    }

    /// Nothing is left over in the server.
    fn nothing_left(&self) {
        let host: &MtftpHost = self.world.nodes[0].program().unwrap();
        assert_eq!(host.open_files(), 0);
        assert!(host.status().unwrap().claims.iter().all(|claim| claim.sessions.is_empty()));
    }
}

/// A switch, as those are: nothing overtakes what was sent before it.
const IN_ORDER: LinkFaults = LinkFaults { delay_max: Duration::from_micros(50), ..LinkFaults::NONE };

/// Where what somebody lacks ends is not known before the ACK: one block in 200, no more.
#[track_caller]
fn assert_few(wire: &Wire) {
    let (most, few) = (wire.multicast.len() / 200, wire.unneeded.len());
    assert!(few <= most, "{few} sent though nobody lacked them, {most} at most: {:?}", wire.unneeded);
}

#[test]
fn machines_that_start_together_share_one_pass() {
    let mut run = Run::new(1, IN_ORDER, 586, &[100, 100, 100]);
    run.run(5);
    run.all_by_multicast();
    run.nothing_left();
    let wire = run.wire.borrow();
    assert!(wire.unneeded.is_empty(), "sent though nobody lacked them: {:?}", wire.unneeded);
    assert!(wire.multicast.len() <= 590, "{} multicast packets for 586 blocks", wire.multicast.len());
    assert!(wire.unicast <= 6, "{} unicast packets", wire.unicast);
}

#[test]
fn three_machines_one_after_the_other_and_a_late_one_are_made_whole() {
    let blocks = 20_000;
    let mut run = Run::new(2, IN_ORDER, blocks, &[100, 115, 130, 150]);
    run.run(30);
    run.all_by_multicast();
    run.nothing_left();
    let wire = run.wire.borrow();
    assert_few(&wire);
    // The late one lacks what went out before its open, and so do the others a part of that.
    let late = wire.multicast.len() - usize::from(blocks);
    assert!(late <= usize::from(blocks), "{late} blocks of repair");
    for index in 0..4 {
        let silence = run.client(index).longest_silence;
        assert!(silence <= Duration::from_millis(110), "client {index} heard nothing for {silence:?}");
    }
}

/// Whoever comes while the last block is held back does not prolong that: else a stream of newcomers would keep the
/// first from ever booting.
#[test]
fn newcomers_do_not_starve_the_first() {
    let begins: Vec<u64> = (0..14).map(|n| 100 + n * 5).collect();
    let mut run = Run::new(6, IN_ORDER, 5_000, &begins);
    run.run(30);
    run.all_by_multicast();
    run.nothing_left();
    assert_few(&run.wire.borrow());
    // A pass takes 16 ms; the last newcomer comes after 65 ms.
    let at = run.client(0).ended.as_ref().unwrap().0.since(Time::ZERO);
    assert!(at < Duration::from_millis(40), "the first waited {at:?}");
}

#[test]
fn loss_is_repaired_in_the_session() {
    for seed in 10..16 {
        let mut run = Run::new(seed, LinkFaults::loss(20_000), 2_000, &[100, 400, 900]);
        run.run(60);
        for index in (0..3).filter(|index| !run.never_heard(*index)) {
            run.by_multicast(index);
        }
        run.nothing_left();
    }
}

#[test]
fn a_master_that_dies_does_not_stop_the_others() {
    let mut run = Run::new(3, LinkFaults::NONE, 10_000, &[100, 300, 600]);
    run.world.at(ms(900), Fault::Crash(run.clients[0]));
    run.run(30);
    run.by_multicast(1);
    run.by_multicast(2);
    run.nothing_left();
}

#[test]
fn a_listener_that_dies_does_not_stop_the_others() {
    let mut run = Run::new(4, LinkFaults::NONE, 10_000, &[100, 300, 600]);
    run.world.at(ms(900), Fault::Crash(run.clients[1]));
    run.run(30);
    run.by_multicast(0);
    run.by_multicast(2);
    run.nothing_left();
    for index in [0, 2] {
        assert!(run.client(index).longest_silence <= Duration::from_millis(110));
    }
}

#[test]
fn the_server_stops_when_all_are_gone() {
    let mut run = Run::new(5, LinkFaults::NONE, 10_000, &[100, 300]);
    for client in run.clients.clone() {
        run.world.at(ms(900), Fault::Crash(client));
    }
    run.run(2);
    let before = run.wire.borrow().multicast.len();
    run.run(2);
    run.nothing_left();
    assert!(run.wire.borrow().multicast.len() - before <= 15, "two seconds by the timer at most");
}

/// The clients of a server that dies in the middle fall back; whatever happens, none of them boots an image with
/// holes when there is a server that knows of the transfer.
#[test]
fn whatever_happens_nobody_boots_holes() {
    let mut endings = BTreeMap::<&str, u32>::new();
    for seed in 100..130 {
        let mut draw = Draw::from_seed(seed);
        let begins: Vec<u64> = (0..5).map(|_| 100 + draw.below(1_500)).collect();
        let loss = u32::try_from(draw.below(30_000)).unwrap();
        let faults = LinkFaults {
            duplicate_ppm: 5_000,
            tail_ppm: 2_000,
            tail_max: Duration::from_millis(30),
            ..LinkFaults::loss(loss)
        };
        let mut run = Run::new(seed, faults, 2_500, &begins);
        let victim = run.clients[usize::try_from(draw.below(5)).unwrap()];
        run.world.at(ms(300 + draw.below(2_000)), Fault::Crash(victim));
        run.run(120);
        for (index, node) in run.clients.iter().enumerate() {
            if *node == victim {
                continue;
            }
            let how = match run.ended(index) {
                Ended::Multicast(image) => {
                    assert!(*image == run.image, "seed {seed}: client {index} has wrong bytes");
                    "multicast"
                }
                Ended::Plain(image) => {
                    assert!(*image == run.image, "seed {seed}: client {index} has wrong bytes");
                    "plain"
                }
                Ended::Error => "error",
                Ended::Silence => "silence",
                Ended::Holes(_) if run.never_heard(index) => "holes, never heard",
                Ended::Holes(holes) => panic!("seed {seed}: client {index} booted without blocks {holes:?}"),
            };
            *endings.entry(how).or_default() += 1;
        }
        run.nothing_left();
    }
    let all: u32 = endings.values().sum();
    let multicast = endings.get("multicast").copied().unwrap_or(0);
    assert!(multicast * 100 >= all * 95, "too few by multicast: {endings:?}");
}
