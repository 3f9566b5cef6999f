//! A small net of members: loss, delay, crashes, partitions, slow and failing stores, records that are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use driver::{Draw, Time};
use wire::record::{RecordKind, Roll as Part, Uid};
use wire::{GroupAddr, ServerId};

use crate::limits::{DIFFERS_FOR, HELLO_INTERVAL, JOIN_PATIENCE, PEER_SILENT};
use crate::roll::{Digest, List, News, Output, Roll, Slice, Stored};

/// Addresses that are looked at.
pub(super) const SAMPLE: usize = 200;

pub(super) fn sample() -> impl Iterator<Item = GroupAddr> {
    (0..SAMPLE).map(|number| {
        let [high, low] = u16::try_from(number * 311).unwrap().to_be_bytes();
        GroupAddr::new([239, 255, high, low].into()).unwrap()
    })
}

type Copies = BTreeMap<Uid, (u64, Option<Part>)>;

struct Peer {
    heard_at: Time,
    digest: u64,
    differs_since: Option<Time>,
}

pub(super) struct Node {
    pub(super) id: ServerId,
    /// `None`: it does not run.
    pub(super) roll: Option<Roll>,
    pub(super) disk: Stored,
    /// On its way to the disk.
    writing: Option<Stored>,
    life: u64,
    seq: u64,
    began_at: Time,
    copies: Copies,
    peers: BTreeMap<usize, Peer>,
    pub(super) side: usize,
    current: Option<List>,
    /// What was ours, under which map.
    ours: (u64, Vec<bool>),
    pub(super) news: Vec<News>,
}

enum Event {
    Hello { from: usize, to: usize, digest: u64 },
    Record { to: usize, uid: Uid, seq: u64, said: Option<Part> },
    Stored { node: usize, life: u64 },
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    events: BTreeMap<(Time, u64), Event>,
    count: u64,
    pub(super) draw: Draw,
    pub(super) loss_ppm: u32,
    pub(super) store_fails_ppm: u32,
    hello_at: Time,
    /// Which lists of servers that had none each list comes from.
    origins: BTreeMap<Digest, BTreeSet<Digest>>,
    /// How often two said *ours* of one address whose lists in force come from lists that were begun apart.
    pub(super) exceptions: usize,
    pub(super) counted: BTreeMap<(&'static str, &'static str), usize>,
}

impl Net {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut net = Self {
            now: Time::ZERO + Duration::from_secs(1),
            nodes: Vec::new(),
            events: BTreeMap::new(),
            count: 0,
            draw: Draw::from_seed(seed),
            loss_ppm: 0,
            store_fails_ppm: 0,
            hello_at: Time::ZERO,
            origins: BTreeMap::new(),
            exceptions: 0,
            counted: BTreeMap::new(),
        };
        (0..count).for_each(|_| _ = net.join(0));
        net
    }

    pub(super) fn join(&mut self, side: usize) -> usize {
        let id = ServerId(self.draw.bytes16());
        let index = self.nodes.len();
        self.nodes.push(Node {
            id,
            roll: None,
            disk: Stored::default(),
            writing: None,
            life: 0,
            seq: 0,
            began_at: self.now,
            copies: Copies::new(),
            peers: BTreeMap::new(),
            side,
            current: None,
            ours: (u64::MAX, Vec::new()),
            news: Vec::new(),
        });
        self.start(index);
        index
    }

    pub(super) fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.life += 1;
        node.seq = node.life << 32;
        node.began_at = self.now;
        node.copies.clear();
        node.peers.clear();
        node.ours = (u64::MAX, Vec::new());
        node.news.clear();
        node.roll = Some(Roll::recover(node.id, node.disk.clone()));
        self.drain(index);
    }

    /// What was on its way to the disk got there, or not.
    pub(super) fn crash(&mut self, index: usize) {
        let arrived = self.draw.chance(500_000);
        let node = &mut self.nodes[index];
        if let Some(stored) = node.writing.take().filter(|_| arrived) {
            node.disk = stored;
        }
        node.roll = None;
    }

    pub(super) fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].roll.is_some()).collect()
    }

    /// For people: who runs, and what it holds.
    pub(super) fn show(&self) -> String {
        let short = |id: &ServerId| format!("{:02x}", id.0[0]);
        let all = |ids: &[ServerId]| ids.iter().map(short).collect::<Vec<_>>().join(" ");
        let show = |node: &Node| {
            let held = node.roll.as_ref().map_or(&node.disk, Roll::held);
            let lists: Vec<String> =
                held.lists().map(|list| format!("{}: {}", list.version(), all(list.members()))).collect();
            let current = if held.current.is_some() { "" } else { "none, " };
            let known = node.roll.as_ref().map(|roll| {
                let words = roll
                    .words
                    .iter()
                    .map(|(id, word)| format!("{} {:02x} {}", short(id), word.top.0[0], word.flags));
                let gone =
                    roll.gone.iter().map(|(id, (as_of, why))| format!("{} {} {why:?}", short(id), as_of.0));
                format!(
                    "{:?} words {:?} gone {:?}",
                    roll.informed,
                    words.collect::<Vec<_>>(),
                    gone.collect::<Vec<_>>()
                )
            });
            format!(
                "{} {} side {} left {} lists {current}{lists:?} {known:?}",
                short(&node.id),
                if node.roll.is_some() { "up" } else { "down" },
                node.side,
                held.left
            )
        };
        let nodes: Vec<String> = self.nodes.iter().map(show).collect();
        format!("{:?}\n{}", self.now, nodes.join("\n"))
    }

    pub(super) fn roll(&self, index: usize) -> &Roll {
        self.nodes[index].roll.as_ref().unwrap()
    }

    pub(super) fn act<T>(&mut self, index: usize, act: impl FnOnce(&mut Roll, Time) -> T) -> T {
        let done = act(self.nodes[index].roll.as_mut().unwrap(), self.now);
        self.drain(index);
        done
    }

    fn push(&mut self, delay: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(1) + self.draw.jitter(Duration::from_millis(60))
    }

    /// Datagrams reach who is on the same side when they are sent.
    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let (a, b) = (&self.nodes[from], &self.nodes[to]);
        from == to || a.side != b.side || b.roll.is_none() || self.draw.chance(self.loss_ppm)
    }

    fn send(&mut self, from: usize, to: usize, uid: Uid) {
        if !self.is_lost(from, to) {
            let (seq, said) = self.nodes[from].copies[&uid].clone();
            let delay = self.delay();
            self.push(delay, Event::Record { to, uid, seq, said });
        }
    }

    fn say(&mut self, index: usize, number: u64, said: Option<Part>) {
        let node = &mut self.nodes[index];
        node.seq += 1;
        let uid = Uid { owner: node.id, kind: RecordKind::Domain, number };
        node.copies.insert(uid, (node.seq, said));
        (0..self.nodes.len()).for_each(|to| self.send(index, to, uid));
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].roll.as_mut().and_then(Roll::next_output) {
            match output {
                Output::Store(stored) => {
                    let node = &mut self.nodes[index];
                    assert!(node.writing.is_none(), "one at a time");
                    node.writing = Some(stored);
                    let life = node.life;
                    let delay = self.delay();
                    self.push(delay, Event::Stored { node: index, life });
                }
                Output::Publish(number, _, part) => {
                    self.check_told(index, number, &part);
                    self.say(index, number, Some(part));
                }
                Output::Withdraw(number) => self.say(index, number, None),
                Output::Count(place, what) => *self.counted.entry((place, what)).or_default() += 1,
                Output::Tell(news) => self.nodes[index].news.push(news),
            }
        }
        self.check(index);
    }

    /// What is told is stored.
    fn check_told(&self, index: usize, number: u64, part: &Part) {
        let node = &self.nodes[index];
        if number == 0 {
            let digest = Digest(part.members[0].0);
            assert!(node.disk.lists().any(|list| list.digest() == digest), "told before it was stored");
        }
    }

    /// Never do two say *ours* of one address.
    fn check(&mut self, index: usize) {
        self.note_origins(index);
        let node = &mut self.nodes[index];
        let Some(roll) = &node.roll else { return };
        let known = node.ours.0 == roll.map_version();
        if known && self.draw.chance(980_000) {
            return;
        }
        let ours: Vec<bool> = sample().map(|group| roll.slice(group) == Slice::Ours).collect();
        assert!(!known || node.ours.1 == ours, "another slice under the same map");
        node.ours = (roll.map_version(), ours);
        for other in self.up().into_iter().filter(|other| *other != index) {
            let (one, two) = (&self.nodes[index], &self.nodes[other]);
            if one.ours.1.iter().zip(&two.ours.1).any(|(one, two)| *one && *two) {
                let (ours, theirs) = (self.origins_of(index), self.origins_of(other));
                assert!(
                    ours.is_disjoint(&theirs),
                    "both {:?} and {:?} own an address\n{}",
                    one.id,
                    two.id,
                    self.show()
                );
                self.exceptions += 1;
            }
        }
    }

    /// Whoever holds a list that nobody held before has proposed it. It comes from those held with it, and that in
    /// force before it, with which it has a member in common.
    fn note_origins(&mut self, index: usize) {
        let Some(roll) = &self.nodes[index].roll else { return };
        let lists: Vec<List> = roll.held().lists().cloned().collect();
        let current = roll.held().current.clone();
        let shares = |one: &List, two: &List| one.members().iter().any(|member| two.holds(member));
        for list in &lists {
            if !self.origins.contains_key(&list.digest()) {
                let before = lists.iter().filter(|other| shares(other, list));
                let held = before.filter_map(|other| self.origins.get(&other.digest())).flatten().copied();
                let mut origins: BTreeSet<Digest> = held.collect();
                if origins.is_empty() {
                    origins.insert(list.digest());
                }
                self.origins.insert(list.digest(), origins);
            }
        }
        let before = std::mem::replace(&mut self.nodes[index].current, current.clone());
        if let (Some(current), Some(before)) = (current, before)
            && shares(&current, &before)
        {
            let origins = self.origins[&before.digest()].clone();
            self.origins.get_mut(&current.digest()).unwrap().extend(origins);
        }
    }

    fn origins_of(&self, index: usize) -> BTreeSet<Digest> {
        let current = self.roll(index).held().current.as_ref();
        current.map(|list| self.origins[&list.digest()].clone()).unwrap_or_default()
    }

    fn digest(&self, index: usize) -> u64 {
        let mix = |hash: u64, value: u64| (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
        self.nodes[index].copies.iter().fold(7, |hash, (uid, (seq, _))| {
            let owner = u64::from_be_bytes(uid.owner.0[..8].try_into().unwrap());
            mix(mix(mix(hash, owner), uid.number), *seq)
        })
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            if self.hello_at <= self.now {
                self.tick();
                self.hello_at = self.now + HELLO_INTERVAL;
            }
            let next = self.events.first_key_value().map(|((at, _), _)| *at).filter(|at| *at < self.hello_at);
            let Some(at) = next else {
                self.now = self.hello_at.min(end).max(self.now);
                if self.hello_at > end {
                    break;
                }
                continue;
            };
            if at >= end {
                self.now = end;
                break;
            }
            self.now = at;
            let (_, event) = self.events.pop_first().unwrap();
            self.take(event);
        }
        self.now = end;
    }

    fn tick(&mut self) {
        for from in self.up() {
            let digest = self.digest(from);
            for to in 0..self.nodes.len() {
                if !self.is_lost(from, to) {
                    let delay = self.delay();
                    self.push(delay, Event::Hello { from, to, digest });
                }
            }
            self.know(from);
            self.act(from, Roll::on_timeout);
            self.compare(from);
        }
    }

    /// As `Domain::standing` and `Domain::living` tell it.
    fn know(&mut self, index: usize) {
        let digest = self.digest(index);
        let (now, node) = (self.now, &mut self.nodes[index]);
        node.peers.retain(|_, peer| now.since(peer.heard_at) < PEER_SILENT);
        for peer in node.peers.values_mut() {
            peer.differs_since =
                (peer.digest != digest).then_some(peer.differs_since.unwrap_or(peer.heard_at));
        }
        let differing = |span: Duration| {
            node.peers.values().any(|peer| peer.differs_since.is_some_and(|since| now.since(since) >= span))
        };
        let joins =
            now.since(node.began_at) < JOIN_PATIENCE && (node.peers.is_empty() || differing(Duration::ZERO));
        let informed = !joins && !differing(DIFFERS_FOR);
        let peers: Vec<usize> = node.peers.keys().copied().collect();
        let living: BTreeSet<ServerId> = peers.into_iter().map(|peer| self.nodes[peer].id).collect();
        self.act(index, |roll, now| roll.on_knowledge(now, informed, &living));
    }

    /// Sends one that it hears what that one lacks.
    fn compare(&mut self, from: usize) {
        let peers: Vec<usize> = self.nodes[from].peers.keys().copied().collect();
        if peers.is_empty() {
            return;
        }
        let to = peers[usize::try_from(self.draw.below(peers.len() as u64)).unwrap()];
        let theirs = &self.nodes[to].copies;
        let is_newer = |(uid, (seq, _)): &(&Uid, &(u64, Option<Part>))| {
            theirs.get(uid).is_none_or(|(known, _)| known < seq)
        };
        let lacks: Vec<Uid> = self.nodes[from].copies.iter().filter(is_newer).map(|(uid, _)| *uid).collect();
        lacks.into_iter().for_each(|uid| self.send(from, to, uid));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Hello { from, to, digest } => {
                let now = self.now;
                if self.nodes[to].roll.is_some() {
                    let peer = self.nodes[to].peers.entry(from).or_insert(Peer {
                        heard_at: now,
                        digest,
                        differs_since: None,
                    });
                    (peer.heard_at, peer.digest) = (now, digest);
                    self.know(to);
                }
            }
            Event::Record { to, uid, seq, said } => self.hear(to, uid, seq, said.as_ref()),
            Event::Stored { node, life } => {
                let fails = self.draw.chance(self.store_fails_ppm);
                if self.nodes[node].life == life && self.nodes[node].roll.is_some() {
                    let stored = self.nodes[node].writing.take().unwrap();
                    if !fails {
                        self.nodes[node].disk = stored;
                    }
                    self.act(node, |roll, now| roll.on_stored(now, !fails));
                }
            }
        }
    }

    fn hear(&mut self, to: usize, uid: Uid, seq: u64, said: Option<&Part>) {
        let node = &mut self.nodes[to];
        if node.roll.is_none() || node.copies.get(&uid).is_some_and(|(known, _)| *known >= seq) {
            return;
        }
        if uid.owner == node.id {
            // Of a former life.
            if said.is_some() {
                self.say(to, uid.number, None);
            } else {
                node.copies.insert(uid, (seq, None));
            }
            return;
        }
        node.copies.insert(uid, (seq, said.cloned()));
        self.act(to, |roll, now| roll.on_record(now, uid, said));
    }
}
