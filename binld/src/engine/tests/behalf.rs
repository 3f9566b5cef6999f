//! The reference of a dead BINLD (G12): when an MTFTP server is asked to delete it, and when not.

use wire::configure::DeleteForDead;
use wire::flood::Flood;
use wire::hello::{Hello, Loss};
use wire::record::{Age, Body, Holder, Member, Record, RecordKind, Reference, Snum, Uid};

use super::*;
use crate::engine::behalf::first_by_rank;
use crate::limits::{BEHALF_AT_ONCE, BEHALF_INTERVAL};

const MTFTPD: (ServerId, SocketAddrV4) =
    (ServerId([9; 16]), SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 21), 4017));
/// As in the configuration.
const OURS: DomainId = DomainId([5; 16]);
const DEAD: (ServerId, SocketAddrV4) = (ServerId([6; 16]), SocketAddrV4::new(PEER, 4016));

/// The engine, an MTFTP server that says hello with the records that we have, too, and what that one was asked.
struct Site {
    host: Host,
    counter: u32,
    /// Who says hello, beside the MTFTP server.
    living: Vec<(ServerId, SocketAddrV4)>,
    /// Of these.
    domain: DomainId,
    is_heard: bool,
}

impl Site {
    fn new() -> Self {
        let host = Host::start(Vec::new(), Script::default());
        let mut site = Self { host, counter: 0, living: Vec::new(), domain: OURS, is_heard: true };
        site.run(3);
        site
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            if self.is_heard {
                self.hello(MTFTPD, ServerRole::Mtftpd, OURS);
            }
            for peer in self.living.clone() {
                self.hello(peer, ServerRole::Binld, self.domain);
            }
            self.host.run_for(Duration::from_secs(1));
        }
    }

    fn hello(&mut self, (sender, from): (ServerId, SocketAddrV4), role: ServerRole, domain: DomainId) {
        self.counter += 1;
        let digest = self.host.engine.domain.records().digest();
        let loss = Loss::NONE;
        let hello = Hello { count: self.counter, loss, deaf: false, role, domain, lowest: sender, digest };
        self.say((sender, from), Message::Hello(hello));
    }

    fn say(&mut self, (sender, from): (ServerId, SocketAddrV4), message: Message) {
        let envelope = Envelope { sender, boot_epoch: BootEpoch(1), sequence: 1, message };
        self.host.hear(Role::Control, from, &envelope.encode());
    }

    /// The MTFTP server tells who relies on an address: the dead one, with that serial.
    fn tell(&mut self, last: u8, serial: u32, stale: bool) {
        let holder = Holder { binld: DEAD.0, boot_epoch: BootEpoch(3), serial: Serial(serial), stale };
        let group = group(&format!("239.255.0.{last}"));
        let body = Body::Reference(Reference {
            group,
            content: content(21, "initrd.img"),
            ports: Ports { client: 3001, server: 1760 },
            holders: vec![holder],
        });
        self.flood(RecordKind::Reference, u64::from(last), body);
    }

    /// A record of the MTFTP server.
    fn flood(&mut self, kind: RecordKind, number: u64, body: Body) {
        self.counter += 1;
        let uid = Uid { owner: MTFTPD.0, kind, number };
        let snum = Snum { boot_epoch: BootEpoch(1), counter: self.counter };
        let record = Record { uid, snum, age: Age(0), lives: 3600, body };
        self.say(MTFTPD, Message::Flood(Flood { wants_ack: false, records: vec![record] }));
    }

    /// What was asked in the dead one's place since the last time, with the second in which it was.
    fn asked(&mut self) -> Vec<(u64, DeleteForDead)> {
        let sent = std::mem::take(&mut self.host.sent).into_iter();
        let asked = sent.filter_map(|(at, transmit)| {
            let Ok(Envelope { message: Message::DeleteForDead(it), .. }) = Envelope::decode(&transmit.bytes)
            else {
                return None;
            };
            assert_eq!((transmit.role, transmit.to), (Role::Control, MTFTPD.1));
            Some((at.as_nanos() / 1_000_000_000, it))
        });
        asked.collect()
    }

    fn told(&self) -> usize {
        self.host.events.iter().filter(|event| matches!(event, Event::ForDead { .. })).count()
    }
}

#[test]
fn g12_the_last_boot_server_asks_for_a_dead_one_ever_more_seldom_until_the_record_changes() {
    let mut site = Site::new();
    site.tell(1, 77, true);
    let began = site.host.now.as_nanos() / 1_000_000_000;
    site.run(180);
    let asked = site.asked();
    let expected = DeleteForDead {
        group: group("239.255.0.1"),
        file: name("initrd.img"),
        dead: DEAD.0,
        boot_epoch: BootEpoch(3),
        serial: Serial(77),
    };
    assert!(asked.iter().all(|(_, it)| *it == expected), "{asked:?}");
    let times: Vec<u64> = asked.iter().map(|(at, _)| *at).collect();
    let first = times[0];
    assert!(first >= began + BEHALF_INTERVAL.as_secs(), "only what was so at two looks");
    assert_eq!(times, [first, first + 20, first + 60, first + 140]);
    assert_eq!(site.told(), 1, "told once");
    // What it was about is gone, and the matter with it.
    site.tell(1, 78, false);
    site.run(300);
    assert_eq!(site.asked(), []);
    assert_eq!(site.host.engine.counters().get("behalf", "settled"), 1);
}

/// (what is different, whether it is asked)
#[test]
fn g12_nothing_is_asked_for_the_living_nor_by_who_is_cut_off() {
    type Change = fn(&mut Site);
    let table: [(&str, bool, Change); 7] = [
        ("nothing", true, |_| {}),
        ("it lives", false, |site| site.living.push(DEAD)),
        ("it lives, in another domain", false, |site| {
            site.domain = DomainId([6; 16]);
            site.living.push(DEAD);
        }),
        ("it is not stale", false, |site| {
            site.run(1);
            site.tell(1, 77, false);
        }),
        // Its own record says that it lives, and may be old.
        ("we hear nobody", false, |site| {
            let member = Member { role: ServerRole::Mtftpd, control: MTFTPD.1, roll: 0 };
            site.flood(RecordKind::Member, 0, Body::Member(member));
            site.is_heard = false;
            site.run(4);
            assert!(site.host.engine.domain.is_living(site.host.now, MTFTPD.0));
        }),
        ("it was renewed before the second look", false, |site| {
            site.run(BEHALF_INTERVAL.as_secs() - 1);
            assert_eq!(site.asked(), []);
            site.tell(1, 78, false);
        }),
        ("another one is heard, whose turn it may be", true, |site| {
            let (mut other, at) = (2, SocketAddrV4::new(server(13), 4016));
            let ours = |id: u8| {
                let living = [ServerId([1; 16]), ServerId([id; 16])].into_iter();
                first_by_rank(group("239.255.0.1"), DEAD.0, living) == Some(ServerId([1; 16]))
            };
            while !ours(other) {
                other += 10;
            }
            site.living.push((ServerId([other; 16]), at));
        }),
    ];
    for (what, asks, change) in table {
        let mut site = Site::new();
        site.tell(1, 77, true);
        change(&mut site);
        site.run(100);
        assert_eq!(!site.asked().is_empty(), asks, "{what}");
    }
}

/// Another one is the first by rank; when that one dies, too, we are.
#[test]
fn g12_another_one_asks_while_it_lives() {
    let mut site = Site::new();
    let first = |id: &u8| {
        let living = [ServerId([1; 16]), ServerId([*id; 16])].into_iter();
        first_by_rank(group("239.255.0.1"), DEAD.0, living) != Some(ServerId([1; 16]))
    };
    let other = (20..200).find(first).unwrap();
    site.living.push((ServerId([other; 16]), SocketAddrV4::new(server(13), 4016)));
    site.tell(1, 77, true);
    site.run(60);
    assert_eq!(site.asked(), []);
    site.living.clear();
    site.run(30);
    assert!(!site.asked().is_empty());
}

#[test]
fn what_one_look_asks_is_bounded() {
    let mut site = Site::new();
    for last in 1..=100 {
        site.tell(last, 77, true);
    }
    site.run(40);
    let mut of_second = BTreeMap::<u64, usize>::new();
    for (at, _) in site.asked() {
        *of_second.entry(at).or_default() += 1;
    }
    assert!(of_second.values().all(|count| *count <= BEHALF_AT_ONCE), "{of_second:?}");
    assert_eq!(of_second.values().next(), Some(&BEHALF_AT_ONCE));
}
