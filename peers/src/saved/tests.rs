use std::net::Ipv4Addr;
use std::time::Duration;

use driver::Draw;
use wire::configure::Ports;
use wire::control::Envelope;
use wire::hold::HoldState;
use wire::note::Author;
use wire::pxe::BootItem;
use wire::{BootEpoch, Content, DomainId, FileName, GroupAddr, Layer, ServerType, Stamp};

use super::*;
use crate::domain::{DomainConfig, Output};
use crate::limits::OWNED_MAX;
use crate::lowest::Constants;

const US: ServerId = ServerId([1; 16]);
const PEER: ServerId = ServerId([2; 16]);
const WALL: u64 = 1_000_000_000;
const LIVES: u16 = 120;

fn control(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, number), 4016)
}

fn claim(number: u64, state: HoldState) -> Claim {
    let address = Ipv4Addr::from_bits(0xefff_0000 + u32::try_from(number).unwrap());
    Claim {
        group: GroupAddr::new(address).unwrap(),
        content: Content { server: [10, 0, 0, 9].into(), file: FileName::new(b"f").unwrap() },
        ports: Ports { client: 3001, server: 1760 },
        boot_item: BootItem { server_type: ServerType(1), layer: Layer(0) },
        stamp: Stamp { millis: 5, sender: PEER },
        state,
        pinned: false,
        configured: true,
    }
}

/// We and one other member, without loss, and what the store has.
struct Pair {
    now: Time,
    domains: [Domain; 2],
    sequence: u64,
    /// Whether the other one is heard.
    heard: bool,
    saved: Saved,
    store: Former,
    /// How many changes were written.
    written: usize,
    at_once: usize,
}

impl Pair {
    fn new(former: Former) -> Self {
        let domain = |number: u8, me| {
            let config = DomainConfig {
                domain: DomainId([7; 16]),
                me,
                boot_epoch: BootEpoch(100),
                role: ServerRole::Binld,
                control: control(number),
                prefix_len: 24,
                group: SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4016),
                contacts: Vec::new(),
                constants: Constants::LAN,
                author: Author::cut("test"),
                tells: false,
                began: 0,
            };
            Domain::new(config, Draw::from_seed(u64::from(number)), Time::ZERO)
        };
        Self {
            now: Time::ZERO,
            domains: [domain(1, US), domain(2, PEER)],
            sequence: 0,
            heard: true,
            saved: Saved::new(former.clone(), Time::ZERO),
            store: former,
            written: 0,
            at_once: 0,
        }
    }

    fn wall(&self) -> Wall {
        Wall(WALL + u64::try_from(self.now.since(Time::ZERO).as_millis()).unwrap())
    }

    /// What the other one says.
    fn says(&mut self, number: u64, claim: Option<Claim>) {
        let [_, peer] = &mut self.domains;
        match claim {
            Some(claim) => peer.put(self.now, RecordKind::Claim, number, LIVES, Body::Claim(claim)),
            None => peer.delete(self.now, RecordKind::Claim, number),
        }
    }

    fn carry(&mut self) {
        for from in [0, 1, 0, 1] {
            while let Some(output) = self.domains[from].poll_output(self.now) {
                match output {
                    Output::Count(..) => {}
                    Output::Tell(news) if from == 0 => self.saved.on_news(self.now, &news),
                    Output::Tell(_) => {}
                    Output::Send(_, message) => {
                        self.sequence += 1;
                        let (sender, at) = if from == 0 { (US, control(1)) } else { (PEER, control(2)) };
                        let sequence = self.sequence;
                        let envelope = Envelope { sender, boot_epoch: BootEpoch(100), sequence, message };
                        if self.heard {
                            let wall = self.wall();
                            self.domains[1 - from].on_message(self.now, wall, at, &envelope);
                        }
                    }
                }
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now = self.now + Duration::from_millis(100);
            for from in 0..2 {
                self.domains[from].on_timeout(self.now);
                self.carry();
            }
            if self.saved.next_at().is_some_and(|at| at <= self.now) {
                let wall = self.wall();
                let changes = self.saved.take(self.now, wall, US, &self.domains[0]);
                self.at_once = self.at_once.max(changes.len());
                changes.into_iter().for_each(|change| self.write(change));
            }
        }
    }

    fn write(&mut self, change: SavedChange) {
        self.written += 1;
        let Former { claims, members } = &mut self.store;
        match change {
            SavedChange::PutClaim(note) => {
                claims.retain(|it| (it.owner, it.number) != (note.owner, note.number));
                claims.push(*note);
            }
            SavedChange::DropClaim(owner, number) => {
                claims.retain(|it| (it.owner, it.number) != (owner, number));
            }
            SavedChange::PutMember(note) => {
                members.retain(|it| it.server != note.server);
                members.push(note);
            }
            SavedChange::DropMember(server) => members.retain(|it| it.server != server),
        }
    }
}

#[test]
fn what_the_other_says_is_noted_once_and_ends_with_it() {
    let mut pair = Pair::new(Former::default());
    pair.says(1, Some(claim(1, HoldState::Committed)));
    pair.says(2, Some(claim(2, HoldState::Committed)));
    pair.run(3);
    assert_eq!((pair.store.claims.len(), pair.written), (2, 3), "two claims, one member");
    let [first, _] = &pair.store.claims[..] else { panic!("two") };
    let (began, note) = (first.first, first.clone());
    assert_eq!((note.owner, note.number, note.claim), (PEER, 1, claim(1, HoldState::Committed)));
    assert_eq!(pair.store.members[0].control, control(2));
    // It is refreshed every 30 s, and its member record every 15 s: nothing is written.
    pair.run(200);
    assert_eq!((pair.store.claims.len(), pair.written), (2, 3));
    pair.says(1, Some(claim(1, HoldState::Draining)));
    pair.says(2, None);
    pair.run(3);
    assert_eq!((pair.store.claims.len(), pair.written), (1, 5));
    let note = &pair.store.claims[0];
    assert_eq!((note.claim.state, note.first), (HoldState::Draining, began));
    assert!(note.changed > began);
}

#[test]
fn who_vanishes_is_named_with_its_last_sign_of_life_and_its_claims_end_with_their_records() {
    let mut pair = Pair::new(Former::default());
    pair.says(1, Some(claim(1, HoldState::Committed)));
    pair.run(40);
    let last = pair.wall();
    pair.heard = false;
    pair.run(30);
    let since = pair.store.members[0].unreachable_since.expect("it is missing").0;
    assert!(since.abs_diff(last.0) <= 1000, "{since}");
    let written = pair.written;
    pair.run(30);
    assert_eq!((pair.store.claims.len(), pair.written), (1, written));
    pair.run(120);
    assert_eq!(pair.store.claims, []);
    assert!(pair.store.members[0].role.is_some(), "still missed");
    pair.heard = true;
    pair.run(5);
    assert_eq!((pair.store.members[0].unreachable_since, pair.store.claims.len()), (None, 1));
}

/// What was noted by a former process and is told again stays as it was; the rest ends when nobody can have it any more.
#[test]
fn after_a_restart_what_nobody_tells_any_more_ends() {
    let mut before = Pair::new(Former::default());
    before.says(1, Some(claim(1, HoldState::Committed)));
    before.says(2, Some(claim(2, HoldState::Committed)));
    before.run(3);
    let mut former = before.store.clone();
    former.members.push(SavedMember { server: ServerId([9; 16]), ..former.members[0] });
    let mut pair = Pair::new(former.clone());
    pair.says(1, Some(claim(1, HoldState::Committed)));
    pair.run(119);
    assert_eq!((&pair.store, pair.written), (&former, 0));
    pair.run(2);
    assert_eq!((&pair.store.claims[..], pair.store.members.len()), (&former.claims[..1], 1));
    // Of somebody that is missing all the while, and known only from before.
    let mut pair = Pair::new(before.store.clone());
    pair.heard = false;
    pair.run(121);
    assert_eq!(pair.store, Former::default());
}

#[test]
fn many_at_once_are_written_bit_by_bit() {
    let mut pair = Pair::new(Former::default());
    for number in 0..OWNED_MAX as u64 - 1 {
        pair.says(number, Some(claim(number, HoldState::Committed)));
    }
    pair.run(20);
    assert_eq!(pair.store.claims.len(), OWNED_MAX - 1);
    assert!(pair.at_once <= SAVED_AT_ONCE + 1, "{}", pair.at_once);
}

/// Behind more claims than are written at once, records that come and go: what waits is bounded by what there is.
#[test]
fn what_came_and_went_does_not_wait() {
    let mut pair = Pair::new(Former::default());
    for number in 0..1000 {
        pair.says(number, Some(claim(number, HoldState::Committed)));
    }
    pair.run(1);
    let behind = |number: u128| ServerId((u128::MAX - number).to_be_bytes());
    for number in 0..10_000 {
        let uid = Uid { owner: behind(number), kind: RecordKind::Claim, number: 0 };
        pair.saved.on_news(pair.now, &News::Changed(uid));
    }
    pair.run(2);
    assert!((1..1000).contains(&pair.saved.dirty.len()), "{}", pair.saved.dirty.len());
    pair.run(10);
    assert_eq!((pair.saved.dirty.len(), pair.store.claims.len()), (0, 1000));
}
