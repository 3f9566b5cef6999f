//! Members on links that lose, delay and part: what they know in the end, and what it cost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use wire::control::PACKET_LEN_MAX;
use wire::flood::{Flood, SyncList};
use wire::hold::HoldState;
use wire::membership::{Connect, Neighbour, Refuse, RefuseReason, Welcome};
use wire::record::Claim;
use wire::text::Text;
use wire::{Content, FileName, GroupAddr, Layer, ServerType, Stamp, configure::Ports, pxe::BootItem};

use super::*;
use crate::limits::{LINKS_IDEAL, LINKS_MAX, LINKS_MIN, OWNED_MAX};
use crate::lowest::Constants;

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4016);
/// Everybody's boot epoch lies before it.
const WALL: Wall = Wall(1_000_000);
/// One way, at most half as long again.
const DELAY: Duration = Duration::from_micros(200);

/// Member `number` of segment `segment`.
fn control(segment: u8, number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, segment, number + 1), 4016)
}

struct Node {
    domain: Option<Domain>,
    control: SocketAddrV4,
    sequence: u64,
    sent_bytes: usize,
    news: Vec<(Time, News)>,
}

/// (when, in which order, to, from, bytes), the earliest first.
type Flight = Reverse<(Time, u64, usize, SocketAddrV4, Vec<u8>)>;

/// Members on segments; multicast stays on its segment, unicast goes everywhere.
struct Net {
    now: Time,
    draw: Draw,
    nodes: Vec<Node>,
    flights: BinaryHeap<Flight>,
    order: u64,
    loss_ppm: u32,
    /// Members of different sides do not hear each other.
    sides: Vec<u8>,
    /// Nothing of the first reaches the second.
    cuts: BTreeSet<(usize, usize)>,
    counters: driver::Counters,
    /// Whether members write notes of their own.
    tells: bool,
}

impl Net {
    fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            draw: Draw::from_seed(seed),
            nodes: Vec::new(),
            flights: BinaryHeap::new(),
            order: 0,
            loss_ppm: 0,
            sides: Vec::new(),
            cuts: BTreeSet::new(),
            counters: driver::Counters::default(),
            tells: false,
        }
    }

    /// `count` members of one segment.
    fn with(seed: u64, count: u8) -> Self {
        let mut net = Self::new(seed);
        (0..count).for_each(|number| _ = net.add(0, number, &[]));
        net
    }

    fn add(&mut self, segment: u8, number: u8, contacts: &[SocketAddrV4]) -> usize {
        let control = control(segment, number);
        let me = ServerId([segment * 64 + number + 1; 16]);
        self.nodes.push(Node { domain: None, control, sequence: 0, sent_bytes: 0, news: Vec::new() });
        self.sides.push(0);
        let node = self.nodes.len() - 1;
        self.start(node, me, 100, contacts);
        node
    }

    fn start(&mut self, node: usize, me: ServerId, epoch: u32, contacts: &[SocketAddrV4]) {
        let config = DomainConfig {
            domain: DomainId([7; 16]),
            me,
            boot_epoch: BootEpoch(epoch),
            role: ServerRole::Binld,
            control: self.nodes[node].control,
            prefix_len: 24,
            group: GROUP,
            contacts: contacts.to_vec(),
            constants: Constants::LAN,
            author: Author::cut("test"),
            tells: self.tells,
            began: 0,
        };
        let draw = self.draw.fork();
        self.nodes[node].domain = Some(Domain::new(config, draw, self.now));
        self.drain(node);
    }

    fn domain(&self, node: usize) -> &Domain {
        self.nodes[node].domain.as_ref().unwrap()
    }

    fn input(&mut self, node: usize, input: impl FnOnce(&mut Domain, Time)) {
        let Some(domain) = &mut self.nodes[node].domain else { return };
        input(domain, self.now);
        self.drain(node);
    }

    fn drain(&mut self, node: usize) {
        let now = self.now;
        while let Some(output) = self.nodes[node].domain.as_mut().and_then(|it| it.poll_output(now)) {
            match output {
                Output::Count(place, what) => self.counters.add(place, what, 1),
                Output::Tell(news) => self.nodes[node].news.push((now, news)),
                Output::Send(to, message) => self.send(node, to, message),
            }
        }
    }

    fn send(&mut self, node: usize, to: SocketAddrV4, message: Message) {
        let from = &mut self.nodes[node];
        from.sequence += 1;
        let config = &from.domain.as_ref().unwrap().config;
        let (sender, boot_epoch) = (config.me, config.boot_epoch);
        let bytes = Envelope { sender, boot_epoch, sequence: from.sequence, message }.encode();
        assert!(bytes.len() <= PACKET_LEN_MAX, "{} bytes", bytes.len());
        // With what UDP, IP and Ethernet add.
        from.sent_bytes += bytes.len() + 46;
        let source = from.control;
        self.carry(source, to, &bytes);
    }

    fn carry(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) {
        let sender = self.nodes.iter().position(|it| it.control == from);
        for node in 0..self.nodes.len() {
            let it = self.nodes[node].control;
            let is_to = if to == GROUP {
                it != from && it.ip().octets()[..3] == from.ip().octets()[..3]
            } else {
                it == to
            };
            let is_cut = sender.is_some_and(|sender| {
                self.sides[sender] != self.sides[node] || self.cuts.contains(&(sender, node))
            });
            if is_to && !is_cut && !self.draw.chance(self.loss_ppm) {
                let when = self.now + DELAY + self.draw.jitter(DELAY / 2);
                self.order += 1;
                self.flights.push(Reverse((when, self.order, node, from, bytes.to_vec())));
            }
        }
    }

    fn run_until(&mut self, end: Time) {
        loop {
            let flight = self.flights.peek().map(|Reverse((when, ..))| *when);
            let alarm = (0..self.nodes.len())
                .filter_map(|node| Some((self.nodes[node].domain.as_ref()?.next_deadline()?.at, node)))
                .min();
            let alarm_at = alarm.map(|(when, _)| when);
            let Some(next) = [flight, alarm_at].into_iter().flatten().min().filter(|next| *next <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if flight == Some(next) {
                let Some(Reverse((_, _, node, from, bytes))) = self.flights.pop() else { break };
                let envelope = Envelope::decode(&bytes).unwrap();
                self.input(node, |domain, now| assert!(domain.on_message(now, WALL, from, &envelope)));
            } else if let Some((_, node)) = alarm {
                self.input(node, Domain::on_timeout);
            }
        }
        self.now = end;
    }

    fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    fn put(&mut self, node: usize, number: u64) {
        self.input(node, |domain, now| domain.put(now, RecordKind::Claim, number, 120, claim(number)));
    }

    fn agrees(&self) -> bool {
        let mut digests = self.nodes.iter().filter_map(|it| Some(it.domain.as_ref()?.records().digest()));
        let first = digests.next();
        digests.all(|digest| Some(digest) == first)
    }

    /// Runs until all have the same records; gives how long that took.
    fn until_agreed(&mut self, most: Duration) -> Duration {
        let began = self.now;
        while !self.agrees() {
            assert!(self.now.since(began) < most, "no agreement within {most:?}");
            self.run_for(Duration::from_millis(1));
        }
        self.now.since(began)
    }

    fn claims(&self, node: usize) -> usize {
        self.domain(node).records().of_kind(RecordKind::Claim, self.now).count()
    }
}

fn claim(number: u64) -> Body {
    let low = u32::try_from(number).unwrap();
    let group = GroupAddr::new(Ipv4Addr::from_bits(0xefff_0000 + low)).unwrap();
    Body::Claim(Claim {
        group,
        content: Content {
            server: Ipv4Addr::new(10, 0, 0, 200),
            file: FileName::new(b"images/initrd.img").unwrap(),
        },
        ports: Ports { client: 3001, server: 1760 },
        boot_item: BootItem { server_type: ServerType(1), layer: Layer(0) },
        stamp: Stamp { millis: 1, sender: ServerId([1; 16]) },
        state: HoldState::Committed,
        pinned: false,
        configured: true,
    })
}

#[test]
fn a_change_reaches_32_members_by_one_datagram() {
    let mut net = Net::with(1, 32);
    net.run_for(Duration::from_secs(3));
    assert!(net.agrees());
    let floods = |net: &Net| net.nodes.iter().map(|it| it.sequence).sum::<u64>();
    let (began, before) = (net.now, floods(&net));
    net.put(0, 1);
    let took = net.until_agreed(Duration::from_millis(50));
    println!("a change reaches 32 members in {took:?}");
    assert_eq!(net.claims(31), 1);
    net.run_until(began + Duration::from_millis(2));
    let hellos = 32;
    assert!(floods(&net) - before <= 1 + hellos, "nobody passes on what all on the link have heard");
    assert_eq!(net.domain(5).standing(net.now), Standing::Joined);
}

#[test]
fn what_is_lost_is_made_good_by_lists() {
    for seed in 0..5 {
        let mut net = Net::with(seed, 16);
        net.run_for(Duration::from_secs(3));
        net.loss_ppm = 200_000;
        for round in 0..20 {
            net.put(usize::try_from(round % 16).unwrap(), round);
            net.run_for(Duration::from_millis(50));
        }
        net.input(3, |domain, now| domain.delete(now, RecordKind::Claim, 3));
        let took = net.until_agreed(Duration::from_secs(20));
        println!("seed {seed}: agreed {took:?} after the last change, at a fifth lost");
        assert!((0..16).all(|node| net.claims(node) == 19));
    }
}

#[test]
fn a_hello_that_crossed_a_record_is_no_reason_to_compare_lists() {
    let mut net = Net::with(1, 60);
    net.run_for(Duration::from_secs(10));
    let compared = |net: &Net| net.counters.get("domain", "exchange");
    let before = compared(&net);
    for number in 0..600 {
        net.put(usize::try_from(number % 60).unwrap(), number);
        net.run_for(Duration::from_micros(9_700));
    }
    assert!(net.agrees());
    assert_eq!(compared(&net), before);
    // What is truly lost shows.
    net.loss_ppm = 1_000_000;
    net.put(0, 1000);
    net.run_for(DELAY * 2);
    net.loss_ppm = 0;
    net.until_agreed(Duration::from_secs(3));
    assert!(compared(&net) > before);
}

#[test]
fn what_a_member_lacked_that_died_keeps_nobody_comparing() {
    let mut net = Net::with(1, 3);
    net.run_for(Duration::from_secs(3));
    // A record that nobody else hears, one hello, and no second one.
    net.loss_ppm = 1_000_000;
    net.put(2, 1);
    net.run_for(DELAY * 2);
    net.loss_ppm = 0;
    while !net.domain(0).anybody_differs(net.now, Duration::ZERO) {
        net.run_for(Duration::from_millis(1));
    }
    net.nodes[2].domain = None;
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.domain(0).standing(net.now), Standing::Comparing);
    net.run_for(Duration::from_secs(4));
    assert_eq!(net.domain(0).standing(net.now), Standing::Joined);
}

#[test]
fn a_newcomer_is_let_in_and_knows_all() {
    let mut net = Net::with(1, 4);
    net.run_for(Duration::from_secs(3));
    for number in 0..500 {
        net.put(usize::try_from(number % 4).unwrap(), number);
    }
    net.run_for(Duration::from_secs(1));
    let began = net.now;
    let node = net.add(0, 9, &[]);
    assert_eq!(net.domain(node).standing(net.now), Standing::Joining);
    net.until_agreed(JOIN_PATIENCE);
    println!("a newcomer has 500 records after {:?}", net.now.since(began));
    assert_eq!(net.claims(node), 500);
    assert!(net.counters.get("domain", "connect") > 0);
    // One that dies without a word is known to be dead after three seconds, and its claims live on for a while.
    net.nodes[0].domain = None;
    net.run_for(Duration::from_secs(4));
    assert!(!net.domain(1).living(net.now).any(|it| it.server == ServerId([1; 16])));
    assert_eq!(net.claims(1), 500);
    net.run_for(Duration::from_secs(120));
    assert_eq!(net.claims(1), 375);
    assert!(!net.domain(1).is_living(net.now, ServerId([1; 16])));
}

#[test]
fn two_halves_know_the_same_soon_after_they_are_one_again() {
    let mut worst = Duration::ZERO;
    for seed in 0..2 {
        let mut net = Net::with(seed, 32);
        net.loss_ppm = 10_000;
        net.run_for(Duration::from_secs(3));
        for node in 16..32 {
            net.sides[node] = 1;
        }
        for number in 0..50 {
            net.put(usize::try_from(number % 32).unwrap(), number);
            net.run_for(Duration::from_millis(20));
        }
        net.run_for(Duration::from_secs(9));
        assert!(!net.agrees());
        assert!(net.domain(0).living(net.now).count() == 15 && net.domain(31).living(net.now).count() == 15);
        net.sides.fill(0);
        worst = worst.max(net.until_agreed(Duration::from_secs(5)));
        assert!((0..32).all(|node| net.claims(node) == 50));
    }
    println!("32 members agree at the latest {worst:?} after a partition ends");
}

#[test]
fn a_server_that_comes_back_does_not_bring_back_what_was_deleted() {
    let mut net = Net::with(3, 6);
    net.run_for(Duration::from_secs(3));
    net.put(0, 1);
    net.run_for(Duration::from_secs(1));
    net.sides[5] = 1;
    net.run_for(Duration::from_secs(10));
    net.input(0, |domain, now| domain.delete(now, RecordKind::Claim, 1));
    net.run_for(Duration::from_secs(60));
    assert_eq!(net.claims(5), 1, "it cannot know");
    net.sides[5] = 0;
    net.until_agreed(Duration::from_secs(5));
    net.run_for(Duration::from_secs(5));
    assert!((0..6).all(|node| net.claims(node) == 0));
}

#[test]
fn after_a_restart_what_the_former_life_said_is_withdrawn() {
    let mut net = Net::with(3, 3);
    net.run_for(Duration::from_secs(3));
    (0..5).for_each(|number| net.put(0, number));
    net.run_for(Duration::from_secs(1));
    net.start(0, ServerId([1; 16]), 101, &[]);
    net.put(0, 2);
    net.run_for(Duration::from_secs(3));
    assert!(net.agrees());
    assert_eq!(net.claims(2), 1, "only what it says in this life");
}

#[test]
fn records_cross_from_link_to_link_and_back() {
    let mut net = Net::new(5);
    net.loss_ppm = 50_000;
    for number in 0..3 {
        net.add(0, number, &[]);
    }
    for number in 0..3 {
        let contacts = if number == 0 { &[control(0, 1)][..] } else { &[] };
        net.add(1, number, contacts);
    }
    net.run_for(Duration::from_secs(5));
    net.put(0, 1);
    net.put(5, 2);
    net.until_agreed(Duration::from_secs(10));
    assert!((0..6).all(|node| net.claims(node) == 2));
    assert!(net.domain(3).links().worth(control(0, 1)).unwrap().useful > 0);
    assert!(net.domain(5).is_living(net.now, ServerId([1; 16])), "by its member record");
    // Who knew of no contact has found neighbours by the records of the others: the first bridge may end.
    assert!((0..6).all(|node| net.domain(node).links().len() >= LINKS_MIN));
    net.input(3, |domain, now| domain.on_stop(now));
    net.nodes[3].domain = None;
    net.run_for(Duration::from_secs(1));
    assert!(!net.domain(1).links().is_up(control(1, 0)));
    net.run_for(Duration::from_secs(121));
    net.until_agreed(Duration::from_secs(1));
    assert_eq!((net.claims(0), net.claims(5)), (2, 2));
}

/// Who lives as what, on the link and beyond, and who is dead: nobody of another domain that we hear.
#[test]
fn who_leaves_names_its_neighbours_to_each_other() {
    let mut net = Net::new(1);
    let hub = net.add(0, 0, &[]);
    let spokes = [1, 2].map(|segment| net.add(segment, 0, &[control(0, 0)]));
    net.run_for(Duration::from_secs(5));
    net.put(spokes[0], 1);
    net.until_agreed(Duration::from_secs(1));
    net.input(hub, |domain, now| domain.on_stop(now));
    net.nodes[hub].domain = None;
    net.run_for(Duration::from_secs(5));
    net.put(spokes[1], 2);
    net.until_agreed(Duration::from_secs(1));
    assert_eq!(spokes.map(|spoke| net.claims(spoke)), [2, 2]);
    assert_eq!(net.domain(spokes[0]).links().up().count(), 1);
}

#[test]
fn roles_are_known_on_the_link_and_beyond_and_a_neighbour_domain_is_not_dead() {
    let mut net = Net::new(5);
    for number in 0..2 {
        net.add(0, number, &[]);
    }
    net.add(1, 0, &[control(0, 1)]);
    let stranger = net.add(0, 7, &[]);
    let anew = |node: usize| DomainConfig { boot_epoch: BootEpoch(101), ..net.domain(node).config.clone() };
    let config = DomainConfig { role: ServerRole::Mtftpd, ..anew(0) };
    let other = DomainConfig { domain: DomainId([8; 16]), ..anew(stranger) };
    for (node, config) in [(0, config), (stranger, other)] {
        let (now, draw) = (net.now, net.draw.fork());
        net.nodes[node].domain = Some(Domain::new(config, draw, now));
        net.drain(node);
    }
    // What they said in their first lives ends.
    net.run_for(Duration::from_secs(5 + u64::from(MEMBER_LIVES)));
    let [mtftpd, on_link, beyond, other] = [1, 2, 65, 8].map(|byte| ServerId([byte; 16]));
    let (domain, now) = (net.domain(1), net.now);
    let as_role = |role| domain.living_as(now, role).into_iter().collect::<Vec<_>>();
    assert_eq!(as_role(ServerRole::Binld), [on_link, beyond]);
    assert_eq!(as_role(ServerRole::Mtftpd), [mtftpd]);
    assert_eq!(domain.role_of(now, beyond), Some(ServerRole::Binld));
    assert_eq!((domain.role_of(now, other), domain.is_living(now, other)), (None, false));
    assert!(!domain.is_dead(now, other), "its hello is heard");
    assert!(domain.is_dead(now, ServerId([99; 16])) && !domain.is_dead(now, beyond));
    net.nodes[0].domain = None;
    net.run_for(Duration::from_secs(4));
    assert!(!net.domain(1).is_dead(net.now, mtftpd), "its record lives on for a while");
    net.run_for(Duration::from_secs(u64::from(MEMBER_LIVES)));
    assert!(net.domain(1).is_dead(net.now, mtftpd));
}

#[test]
fn a_full_server_names_its_neighbours_and_they_are_tried() {
    let mut net = Net::new(6);
    net.add(0, 0, &[]);
    net.add(0, 1, &[]);
    net.run_for(Duration::from_secs(2));
    let others = u8::try_from(LINKS_MAX).unwrap() + 2;
    for segment in 1..=others {
        net.nodes.reserve(1);
        let node = net.nodes.len();
        net.nodes.push(Node {
            domain: None,
            control: control(segment, 0),
            sequence: 0,
            sent_bytes: 0,
            news: Vec::new(),
        });
        net.sides.push(0);
        net.start(node, ServerId([100 + segment; 16]), 100, &[control(0, 0)]);
    }
    net.run_for(Duration::from_secs(10));
    let count = net.domain(0).links().len();
    assert!((LINKS_IDEAL..=LINKS_MAX).contains(&count), "{count}");
    assert!(net.counters.get("domain", "refused") >= 2);
    assert!(net.agrees(), "who was refused came in by one that was named");
}

#[test]
fn another_domain_on_the_link_is_left_alone() {
    let mut net = Net::with(1, 2);
    let other = net.add(0, 7, &[]);
    let config = DomainConfig { domain: DomainId([8; 16]), ..net.domain(other).config.clone() };
    let (now, draw) = (net.now, net.draw.fork());
    net.nodes[other].domain = Some(Domain::new(config, draw, now));
    net.drain(other);
    net.run_for(Duration::from_secs(1));
    net.put(0, 1);
    net.put(other, 2);
    net.run_for(Duration::from_secs(10));
    assert_eq!((net.claims(0), net.claims(1), net.claims(other)), (1, 1, 1));
    assert_eq!(net.domain(other).standing(net.now), Standing::Alone);
    assert_eq!(net.domain(0).living(net.now).count(), 1);
    // It is no legacy peer either: it says hello.
    assert_eq!(net.domain(0).hellos().status(net.now).count(), 2);
}

#[test]
fn a_second_server_with_our_id_is_named_and_harms_nothing() {
    let mut net = Net::with(1, 3);
    net.run_for(Duration::from_secs(2));
    net.put(0, 1);
    let twin = net.add(0, 9, &[]);
    net.start(twin, ServerId([1; 16]), 100, &[]);
    net.run_for(Duration::from_secs(5));
    for node in [0, twin] {
        let other = if node == 0 { control(0, 9) } else { control(0, 0) };
        assert!(net.nodes[node].news.iter().any(|(_, news)| *news == News::Twin(other)), "{node}");
    }
    assert_eq!(net.claims(0), 1);
}

/// What one datagram of anybody makes a member send, and what strangers may say.
#[test]
fn floods_of_junk_are_bounded_and_counted() {
    let mut net = Net::with(1, 2);
    net.run_for(Duration::from_secs(2));
    for number in 0..2000 {
        net.put(0, number);
    }
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.claims(1), OWNED_MAX - 1, "one is its member record");
    let sent = |net: &Net| net.nodes[1].sequence;
    let stranger = control(0, 50);
    let say = |net: &mut Net, message: Message| {
        let before = sent(net);
        let envelope =
            Envelope { sender: ServerId([250; 16]), boot_epoch: BootEpoch(1), sequence: 1, message };
        net.input(1, |domain, now| assert!(domain.on_message(now, WALL, stranger, &envelope)));
        sent(net) - before
    };
    let strangers = net.counters.get("dropped.domain", "stranger");
    let empty = SyncList { wants_list: true, first: Uid::MIN, last: Uid::MAX, entries: Vec::new() };
    assert_eq!(say(&mut net, Message::SyncList(empty.clone())), 0);
    assert_eq!(say(&mut net, Message::Flood(Flood { wants_ack: true, records: Vec::new() })), 0);
    assert_eq!(say(&mut net, Message::Disconnect(Disconnect { stays: false, neighbour: None })), 0);
    assert_eq!(say(&mut net, Message::Welcome(Welcome { domain: DomainId([7; 16]) })), 0);
    assert_eq!(net.counters.get("dropped.domain", "stranger") - strangers, 3);
    assert_eq!(net.counters.get("dropped.domain", "needless_welcome"), 1);
    let connect = Connect { domain: DomainId([7; 16]), wants_list: true };
    assert_eq!(say(&mut net, Message::Connect(connect)), 1);
    let neighbours: Vec<Neighbour> = (0..32)
        .map(|number| Neighbour { server: ServerId([number; 16]), control: control(9, number) })
        .collect();
    let refuse = Refuse { domain: DomainId([7; 16]), reason: RefuseReason::Full, neighbours };
    assert_eq!(say(&mut net, Message::Refuse(refuse)), 0, "it was not asked");
    // One that says hello may ask for everything, and gets it piece by piece.
    let hello = Hello {
        count: 0,
        loss: wire::hello::Loss::NONE,
        deaf: false,
        role: ServerRole::Binld,
        domain: DomainId([7; 16]),
        lowest: ServerId([1; 16]),
        digest: 0,
    };
    say(&mut net, Message::Hello(hello));
    let most = u64::try_from(LISTS_MAX + 6).unwrap();
    let answers = say(&mut net, Message::SyncList(empty));
    assert!((2..=most).contains(&answers), "{answers}");
}

#[test]
fn in_steady_state_a_member_of_32_sends_little() {
    let mut net = Net::with(1, 32);
    for number in 0..64 {
        net.put(usize::try_from(number % 32).unwrap(), number);
    }
    net.run_for(Duration::from_secs(10));
    let before: Vec<usize> = net.nodes.iter().map(|it| it.sent_bytes).collect();
    let span = 30;
    net.run_for(Duration::from_secs(span));
    let sent = net.nodes.iter().zip(before).map(|(it, before)| it.sent_bytes - before);
    let rate = sent.max().unwrap() / usize::try_from(span).unwrap();
    println!("a member of 32, 64 claims: {rate} bytes/s");
    assert!(rate <= 5_000, "{rate}");
    assert!(net.agrees());
}

/// A thousand members of one link would refresh a thousand empty records for ever.
#[test]
fn on_a_link_alone_nobody_tells_of_neighbours() {
    let mut net = Net::with(1, 4);
    net.run_for(Duration::from_secs(3));
    net.input(3, |domain, now| domain.on_stop(now));
    net.nodes[3].domain = None;
    net.run_for(Duration::from_secs(3));
    for node in 0..3 {
        assert_eq!(net.domain(node).records().of_kind(RecordKind::Neighbours, net.now).count(), 0);
    }
}

mod notes;
mod partition;
