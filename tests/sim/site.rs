//! A site: member machines on segments that routers join, and nothing else of the daemons.
//!
//! Multicast stays on its segment; unicast goes everywhere, more slowly, and can be lost. Segments are cut off from each other,
//! members end with a word or without one, and start anew. What is looked at: who is connected with whom, in truth and not
//! as records tell it, how soon everybody knows the same, and how many copies of a record arrive where it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use driver::{Counters, Draw, Time, Wall};
use peers::domain::{Domain, DomainConfig, News, Output};
use peers::graph::Graph;
use peers::lowest::Constants;
use wire::control::{Envelope, Message, PACKET_LEN_MAX};
use wire::note::{Author, Words};
use wire::record::{Body, Claim, Neighbours, RecordKind, ServerRole, Uid};
use wire::{
    BootEpoch, Content, DomainId, FileName, GroupAddr, Layer, ServerId, ServerType, Stamp, configure::Ports,
    hold::HoldState, pxe::BootItem,
};

pub mod churn;
pub mod faults;

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), PORT);
const PORT: u16 = 4016;
/// Everybody's boot epoch lies before it.
const WALL: Wall = Wall(1_000_000_000);
const PREFIX_LEN: u8 = 24;
/// Life of a claim's record, in seconds.
const CLAIM_LIVES: u16 = 120;
/// Life of a note, in seconds.
const NOTE_LIVES: u16 = 120;

/// What ways are like.
#[derive(Debug, Clone, Copy)]
pub struct Ways {
    /// Within a segment.
    pub link: Duration,
    /// Between segments; each way is up to half as long again.
    pub routed: Duration,
    /// Loss of each copy, in parts per million.
    pub loss_ppm: u32,
}

impl Ways {
    /// One building.
    pub const LAN: Self =
        Self { link: Duration::from_micros(150), routed: Duration::from_millis(1), loss_ppm: 1_000 };
    /// Offices.
    pub const WAN: Self =
        Self { link: Duration::from_micros(150), routed: Duration::from_millis(40), loss_ppm: 5_000 };
}

/// A member, dead or alive.
#[derive(Debug)]
struct Host {
    domain: Option<Domain>,
    id: ServerId,
    segment: u8,
    control: SocketAddrV4,
    contacts: Vec<SocketAddrV4>,
    epoch: u32,
    sequence: u64,
    sent_bytes: u64,
}

#[derive(Debug)]
struct Arrival {
    to: usize,
    from: SocketAddrV4,
    envelope: Rc<Envelope>,
}

/// Copies of records that went over neighbour links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copies {
    /// They were news.
    pub useful: u64,
    /// They were not.
    pub useless: u64,
}

/// The site.
#[derive(Debug)]
pub struct Site {
    /// What happened, by place and kind.
    pub counters: Counters,
    /// The lines of the story so far, if it is to be kept.
    pub story: Option<Vec<String>>,
    now: Time,
    draw: Draw,
    ways: Ways,
    constants: Constants,
    hosts: Vec<Host>,
    by_address: BTreeMap<SocketAddrV4, usize>,
    on_segment: BTreeMap<u8, Vec<usize>>,
    queue: BTreeMap<(Time, u64), Arrival>,
    order: u64,
    alarms: BTreeSet<(Time, usize)>,
    alarm_of: Vec<Option<Time>>,
    /// Which side of a cut a segment is on.
    sides: BTreeMap<u8, u8>,
    copies: Copies,
    numbers: u64,
    /// Whether members write notes of their own.
    tells: bool,
}

/// The control address of member `number` of a segment.
#[must_use]
pub fn address(segment: u8, number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, segment, number + 1), PORT)
}

impl Site {
    /// No member yet.
    #[must_use]
    pub fn new(seed: u64, ways: Ways, constants: Constants) -> Self {
        Self {
            counters: Counters::default(),
            story: None,
            now: Time::ZERO,
            draw: Draw::from_seed(seed),
            ways,
            constants,
            hosts: Vec::new(),
            by_address: BTreeMap::new(),
            on_segment: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            alarms: BTreeSet::new(),
            alarm_of: Vec::new(),
            sides: BTreeMap::new(),
            copies: Copies::default(),
            numbers: 0,
            tells: false,
        }
    }

    /// So many segments of so many members, who start within five seconds. Each knows a contact on another segment, and one
    /// that is not there.
    #[must_use]
    pub fn grown(seed: u64, shape: (u8, u8), ways: Ways, constants: Constants) -> Self {
        Self::new(seed, ways, constants).grow(shape)
    }

    /// The same, of members that write notes of who comes, goes and vanishes.
    #[must_use]
    pub fn grown_telling(seed: u64, shape: (u8, u8), ways: Ways, constants: Constants) -> Self {
        Self { tells: true, ..Self::new(seed, ways, constants) }.grow(shape)
    }

    fn grow(mut self, (segments, members): (u8, u8)) -> Self {
        let site = &mut self;
        for segment in 0..segments {
            for number in 0..members {
                // Over contacts alone everybody can be found.
                let other = u8::try_from(site.draw.below(u64::from(segment))).unwrap_or(0);
                let other = if segment == 0 { 1 } else { other };
                site.add(segment, number, &[address(other, 0), address(200, 0)]);
            }
        }
        let mut starts: Vec<(Duration, usize)> =
            (0..site.hosts.len()).map(|host| (site.draw.jitter(Duration::from_secs(5)), host)).collect();
        starts.sort_unstable();
        for (at, host) in starts {
            site.run_until(Time::ZERO + at);
            site.start(host);
        }
        self
    }

    // --- members ----------------------------------------------------------------------------------------------

    /// A member that has not started yet; gives its number.
    pub fn add(&mut self, segment: u8, number: u8, contacts: &[SocketAddrV4]) -> usize {
        let id = ServerId(self.draw.bytes16());
        self.add_as(id, segment, number, contacts)
    }

    /// The same, with a name.
    pub fn add_as(&mut self, id: ServerId, segment: u8, number: u8, contacts: &[SocketAddrV4]) -> usize {
        let control = address(segment, number);
        let host = self.hosts.len();
        self.hosts.push(Host {
            domain: None,
            id,
            segment,
            control,
            contacts: contacts.to_vec(),
            epoch: 100,
            sequence: 0,
            sent_bytes: 0,
        });
        self.by_address.insert(control, host);
        self.on_segment.entry(segment).or_default().push(host);
        self.alarm_of.push(None);
        host
    }

    /// It starts, or starts anew.
    pub fn start(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        it.epoch += 1;
        let config = DomainConfig {
            domain: DomainId([7; 16]),
            me: it.id,
            boot_epoch: BootEpoch(it.epoch),
            role: ServerRole::Binld,
            control: it.control,
            prefix_len: PREFIX_LEN,
            group: GROUP,
            contacts: it.contacts.clone(),
            constants: self.constants,
            author: Author::cut("test"),
            tells: self.tells,
            began: 0,
        };
        let draw = self.draw.fork();
        self.hosts[host].domain = Some(Domain::new(config, draw, self.now));
        self.tell(host, "starts");
        self.drain(host);
    }

    /// It has another name when it starts next: its store was lost.
    pub fn rename(&mut self, host: usize) {
        self.hosts[host].id = ServerId(self.draw.bytes16());
    }

    /// It dies without a word.
    pub fn crash(&mut self, host: usize) {
        self.tell(host, "dies");
        self.hosts[host].domain = None;
        self.set_alarm(host);
    }

    /// It ends with a word.
    pub fn stop(&mut self, host: usize) {
        self.tell(host, "leaves");
        let now = self.now;
        if let Some(domain) = &mut self.hosts[host].domain {
            domain.on_stop(now);
        }
        self.drain(host);
        self.hosts[host].domain = None;
        self.set_alarm(host);
    }

    /// A member says something new, which everybody shall know.
    pub fn claim(&mut self, host: usize) -> Option<Uid> {
        self.numbers += 1;
        let number = self.numbers;
        let now = self.now;
        let domain = self.hosts[host].domain.as_mut()?;
        domain.put(now, RecordKind::Claim, number, CLAIM_LIVES, claim(number));
        self.drain(host);
        Some(Uid { owner: self.hosts[host].id, kind: RecordKind::Claim, number })
    }

    /// An operator says something there; gives the note.
    pub fn say(&mut self, host: usize) -> Option<Uid> {
        self.numbers += 1;
        let (now, words) = (self.now, Words::cut(&format!("note {}", self.numbers)));
        let domain = self.hosts[host].domain.as_mut()?;
        domain.say(now, WALL, words.clone(), NOTE_LIVES).ok()?;
        let told = domain.notes(now).into_iter().find(|it| it.note.words == words)?;
        self.drain(host);
        Some(Uid { owner: told.owner, kind: RecordKind::Note, number: told.number })
    }

    /// Whether its owner lives and has it.
    #[must_use]
    pub fn is_there(&self, uid: &Uid) -> bool {
        let owner = self.hosts.iter().find(|it| it.id == uid.owner).and_then(|it| it.domain.as_ref());
        owner.is_some_and(|it| it.records().get(uid, self.now).is_some())
    }

    /// Whether all that live know a record, or its owner is gone.
    #[must_use]
    pub fn is_known(&self, uid: &Uid) -> bool {
        let mut domains = self.hosts.iter().filter_map(|it| it.domain.as_ref());
        !self.is_there(uid) || domains.all(|it| it.records().get(uid, self.now).is_some())
    }

    /// Those that do not live.
    #[must_use]
    pub fn dead(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].domain.is_none()).collect()
    }

    /// The members that live.
    pub fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].domain.is_some())
    }

    /// One of the living, drawn.
    pub fn any(&mut self) -> Option<usize> {
        let living: Vec<usize> = self.living().collect();
        let place = usize::try_from(self.draw.below(living.len() as u64)).unwrap_or(0);
        living.get(place).copied()
    }

    /// A generator of its own.
    pub fn fork_draw(&mut self) -> Draw {
        self.draw.fork()
    }

    /// That member's machine.
    #[must_use]
    pub fn domain(&self, host: usize) -> Option<&Domain> {
        self.hosts[host].domain.as_ref()
    }

    /// That member's name.
    #[must_use]
    pub fn id(&self, host: usize) -> ServerId {
        self.hosts[host].id
    }

    // --- ways -------------------------------------------------------------------------------------------------

    /// Those segments are cut off from all others.
    pub fn cut(&mut self, segments: &[u8]) {
        self.sides = segments.iter().map(|segment| (*segment, 1)).collect();
        self.note(&format!("segments {segments:?} are cut off"));
    }

    /// All ways are open.
    pub fn heal(&mut self) {
        self.sides.clear();
        self.note("all ways are open");
    }

    fn side(&self, host: usize) -> u8 {
        self.sides.get(&self.hosts[host].segment).copied().unwrap_or(0)
    }

    fn send(&mut self, host: usize, to: SocketAddrV4, message: Message) {
        if let Message::FloodAck(ack) = &message {
            let useful = ack.acked.iter().filter(|acked| acked.useful).count() as u64;
            self.copies.useful += useful;
            self.copies.useless += ack.acked.len() as u64 - useful;
        }
        let it = &mut self.hosts[host];
        it.sequence += 1;
        let envelope =
            Envelope { sender: it.id, boot_epoch: BootEpoch(it.epoch), sequence: it.sequence, message };
        let bytes = envelope.encode();
        assert!(bytes.len() <= PACKET_LEN_MAX, "{} bytes", bytes.len());
        // With what UDP, IP and Ethernet add.
        it.sent_bytes += bytes.len() as u64 + 46;
        let from = it.control;
        let receivers = if to == GROUP {
            let segment = self.on_segment.get(&it.segment).into_iter().flatten();
            segment.copied().filter(|other| *other != host).collect()
        } else {
            Vec::from_iter(self.by_address.get(&to).copied())
        };
        let envelope = Rc::new(Envelope::decode(&bytes).expect("what is sent can be read"));
        for receiver in receivers {
            let routed = self.hosts[receiver].segment != self.hosts[host].segment;
            let way = if routed { self.ways.routed } else { self.ways.link };
            let at = self.now + way + self.draw.jitter(way / 2);
            if self.side(host) == self.side(receiver) && !self.draw.chance(self.ways.loss_ppm) {
                self.order += 1;
                let arrival = Arrival { to: receiver, from, envelope: Rc::clone(&envelope) };
                self.queue.insert((at, self.order), arrival);
            }
        }
    }

    // --- time -------------------------------------------------------------------------------------------------

    /// What the clock says.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    fn drain(&mut self, host: usize) {
        let now = self.now;
        while let Some(output) = self.hosts[host].domain.as_mut().and_then(|it| it.poll_output(now)) {
            match output {
                Output::Count(place, what) => self.counters.add(place, what, 1),
                Output::Tell(News::Linked(other)) => self.tell(host, &format!("has the neighbour {other}")),
                Output::Tell(News::Unlinked(other)) => {
                    self.tell(host, &format!("lost the neighbour {other}"));
                }
                Output::Tell(_) => {}
                Output::Send(to, message) => self.send(host, to, message),
            }
        }
        self.set_alarm(host);
    }

    fn set_alarm(&mut self, host: usize) {
        let next = self.hosts[host].domain.as_ref().and_then(Domain::next_deadline).map(|due| due.at);
        if let Some(old) = std::mem::replace(&mut self.alarm_of[host], next) {
            self.alarms.remove(&(old, host));
        }
        if let Some(next) = next {
            self.alarms.insert((next, host));
        }
    }

    /// Lets time pass.
    pub fn run_until(&mut self, end: Time) {
        loop {
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            let alarm = self.alarms.first().copied();
            let is_alarm = alarm.is_some_and(|(at, _)| arrival.is_none_or(|arrival| at <= arrival));
            let Some(next) = (if is_alarm { alarm.map(|(at, _)| at) } else { arrival }) else { break };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            let now = self.now;
            if is_alarm {
                let Some((_, host)) = alarm else { break };
                if let Some(domain) = &mut self.hosts[host].domain {
                    domain.on_timeout(now);
                }
                self.drain(host);
            } else if let Some((_, it)) = self.queue.pop_first() {
                if let Some(domain) = &mut self.hosts[it.to].domain {
                    domain.on_message(now, WALL, it.from, &it.envelope);
                }
                self.drain(it.to);
            }
        }
        self.now = end;
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    /// Lets time pass until that is so; gives how long it took, or `None` if it never was within `most`.
    pub fn until(&mut self, most: Duration, is_so: impl Fn(&Self) -> bool) -> Option<Duration> {
        let began = self.now;
        while !is_so(self) {
            if self.now.since(began) >= most {
                return None;
            }
            self.run_for(Duration::from_millis(10));
        }
        Some(self.now.since(began))
    }

    // --- what is so -------------------------------------------------------------------------------------------

    /// Who hears whom, in truth: of those hosts that live.
    #[must_use]
    pub fn graph(&self) -> Graph {
        self.graph_of(|_| true)
    }

    /// The same of the members on one side of a cut.
    #[must_use]
    pub fn graph_of_side(&self, side: u8) -> Graph {
        self.graph_of(|host| self.side(host) == side)
    }

    fn graph_of(&self, counts: impl Fn(usize) -> bool) -> Graph {
        let hosts: Vec<usize> = self.living().filter(|host| counts(*host)).collect();
        let members = hosts.iter().map(|host| (self.hosts[*host].id, *self.hosts[*host].control.ip()));
        let told: Vec<(ServerId, Neighbours)> = hosts
            .iter()
            .filter_map(|host| {
                let domain = self.hosts[*host].domain.as_ref()?;
                let servers = domain.links().up().map(|(it, _)| it.server).collect();
                Some((self.hosts[*host].id, Neighbours { prefix_len: PREFIX_LEN, servers }))
            })
            .collect();
        Graph::new(&members.collect(), &told.iter().map(|(server, it)| (*server, it)).collect())
    }

    /// Whether all that live have the same records.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let mut digests = self.hosts.iter().filter_map(|it| Some(it.domain.as_ref()?.records().digest()));
        let first = digests.next();
        digests.all(|digest| Some(digest) == first)
    }

    /// How many neighbours the living have: the fewest and the most.
    #[must_use]
    pub fn neighbours(&self) -> (usize, usize) {
        let counts = self.hosts.iter().filter_map(|it| Some(it.domain.as_ref()?.links().len()));
        counts.fold((usize::MAX, 0), |(least, most), count| (least.min(count), most.max(count)))
    }

    /// How many neighbours that member has.
    #[must_use]
    pub fn neighbours_of(&self, host: usize) -> usize {
        self.hosts[host].domain.as_ref().map_or(0, |it| it.links().len())
    }

    /// Takes how many copies went over neighbour links.
    pub fn take_copies(&mut self) -> Copies {
        std::mem::take(&mut self.copies)
    }

    /// Lets members say something new, one a second; gives how many copies of records over neighbour links were no news, for
    /// each that was.
    pub fn share_of_useless(&mut self, span: Duration) -> f64 {
        self.take_copies();
        for _ in 0..span.as_secs() {
            if let Some(host) = self.any() {
                self.claim(host);
            }
            self.run_for(Duration::from_secs(1));
        }
        let Copies { useful, useless } = self.take_copies();
        useless as f64 / (useful as f64).max(1.0)
    }

    /// Takes how many bytes each living member sent.
    pub fn take_sent(&mut self) -> Vec<u64> {
        let living: Vec<usize> = self.living().collect();
        let sent = living.into_iter().map(|host| self.hosts[host].sent_bytes).collect();
        self.hosts.iter_mut().for_each(|it| it.sent_bytes = 0);
        sent
    }

    // --- the story ----------------------------------------------------------------------------------------------

    fn tell(&mut self, host: usize, what: &str) {
        let control = self.hosts[host].control;
        self.note(&format!("{control} {what}"));
    }

    /// Adds a line to the story.
    pub fn note(&mut self, line: &str) {
        let at = self.now.as_nanos() / 1_000_000;
        if let Some(story) = &mut self.story {
            story.push(format!("{:>6}.{:03} s  {line}", at / 1000, at % 1000));
        }
    }
}

fn claim(number: u64) -> Body {
    let low = u32::try_from(number & 0xffff).unwrap_or(0);
    Body::Claim(Claim {
        group: GroupAddr::new(Ipv4Addr::from_bits(0xefff_0000 + low)).expect("a group address"),
        content: Content {
            server: Ipv4Addr::new(10, 0, 0, 200),
            file: FileName::new(b"images/initrd.img").expect("a file name"),
        },
        ports: Ports { client: 3001, server: 1760 },
        boot_item: BootItem { server_type: ServerType(1), layer: Layer(0) },
        stamp: Stamp { millis: 1, sender: ServerId([1; 16]) },
        state: HoldState::Committed,
        pinned: false,
        configured: true,
    })
}
