//! What a server of a domain says to others, of a script: hellos, membership, records and how they travel. Few owners,
//! numbers and versions, so that copies of one record meet.

use std::net::{Ipv4Addr, SocketAddrV4};

use peers::rendezvous::index;
use wire::configure::Ports;
use wire::contact::{Contact, Relation};
use wire::control::Message;
use wire::elect::{Declare, HeardOf, Inquiry, Responder, Revoke, Revoked, Shard, Term, WEIGHT_MAX};
use wire::flood::{Acked, Flood, FloodAck, SyncEntry, SyncList};
use wire::hello::{Hello, Loss};
use wire::hold::HoldState;
use wire::membership::{Connect, Disconnect, Neighbour, Refuse, RefuseReason, Welcome};
use wire::note::{About, Note};
use wire::pxe::BootItem;
use wire::record::{
    Age, Body, Claim, Holder, Member, Neighbours, Record, RecordKind, Reference, Roll, ServerRole, Snum, Uid,
};
use wire::text::Text;
use wire::{BootEpoch, Content, DomainId, FileName, GroupAddr, Layer, Serial, ServerId, ServerType, Stamp};

use crate::script::Script;

/// One, and one that is not ours.
fn domain(script: &mut Script<'_>) -> DomainId {
    DomainId::of(script.pick(&["lab", "lab", "lab", "", "other"]))
}

/// The cores are among them: 1 is the boot server, 9 the file server.
fn server(script: &mut Script<'_>) -> ServerId {
    ServerId([script.pick(&[2_u8, 3, 1, 9, 0, 255]); 16])
}

fn role(script: &mut Script<'_>) -> ServerRole {
    if script.coin() { ServerRole::Mtftpd } else { ServerRole::Binld }
}

fn host(script: &mut Script<'_>) -> SocketAddrV4 {
    let (net, last) = script.pick(&[(77, 12), (77, 11), (77, 21), (0, 2), (0, 9)]);
    SocketAddrV4::new(Ipv4Addr::new(10, net, 0, last), 4016)
}

fn neighbour(script: &mut Script<'_>) -> Neighbour {
    Neighbour { server: server(script), control: host(script) }
}

/// Up to a number of them: few as a rule, and sometimes more than are sent.
fn list<T>(script: &mut Script<'_>, item: impl Fn(&mut Script<'_>) -> T) -> Vec<T> {
    let count = script.pick(&[1, 0, 2, 3, 40, 100]);
    (0..count).map(|_| item(script)).collect()
}

/// The sign of life.
pub fn hello(script: &mut Script<'_>) -> Message {
    let (count, deaf) = (u32::from(script.byte()), script.coin());
    let (role, domain, lowest) = (role(script), domain(script), server(script));
    let digest = u64::from(script.byte());
    Message::Hello(Hello { count, loss: Loss::NONE, deaf, role, domain, lowest, digest })
}

/// Any of the messages within a domain.
pub fn message(script: &mut Script<'_>) -> Message {
    match script.below(8) {
        0 => Message::Connect(Connect { domain: domain(script), wants_list: script.coin() }),
        1 => Message::Welcome(Welcome { domain: domain(script) }),
        2 => {
            let reason = if script.coin() { RefuseReason::Full } else { RefuseReason::OtherDomain };
            let domain = domain(script);
            Message::Refuse(Refuse { domain, reason, neighbours: list(script, neighbour) })
        }
        3 => {
            let neighbour = script.coin().then(|| neighbour(script));
            Message::Disconnect(Disconnect { stays: script.coin(), neighbour })
        }
        4 => sync_list(script),
        5 => Message::FloodAck(FloodAck {
            lazy: script.coin(),
            acked: list(script, |script| Acked {
                uid: uid(script),
                snum: snum(script),
                useful: script.coin(),
            }),
        }),
        _ => Message::Flood(Flood { wants_ack: script.coin(), records: list(script, record) }),
    }
}

/// What boot servers of one link say to each other of who answers which clients, and the record of it.
pub fn election(script: &mut Script<'_>) -> Message {
    match script.below(4) {
        0 => {
            let (urgent, count) = (script.coin(), u32::from(script.byte()));
            Message::Inquiry(Inquiry { urgent, count, heard: list(script, heard_of) })
        }
        1 => Message::Declare(Declare { shards: terms(script) }),
        2 => {
            let revoked = server(script);
            let (held, declared) = (terms(script), terms(script));
            let both = held.into_iter().zip(declared);
            let one = |((shard, term), (_, revoked))| Revoked { shard, term, revoked };
            Message::Revoke(Revoke { revoked, shards: both.map(one).collect() })
        }
        _ => {
            let uid = Uid { owner: server(script), kind: RecordKind::Responder, number: 0 };
            Message::Flood(Flood { wants_ack: script.coin(), records: vec![record_of(script, uid)] })
        }
    }
}

fn heard_of(script: &mut Script<'_>) -> HeardOf {
    HeardOf {
        server: server(script),
        count: u32::from(script.byte()),
        ago_ms: script.pick(&[0, 1, 299, 301, 10_000, u16::MAX]),
        delay_ms: script.byte(),
    }
}

fn sync_list(script: &mut Script<'_>) -> Message {
    let entry =
        |script: &mut Script<'_>| SyncEntry { uid: uid(script), snum: snum(script), age: age(script) };
    let mut entries = list(script, entry);
    entries.sort_by_key(|entry| entry.uid);
    entries.dedup_by_key(|entry| entry.uid);
    let (first, last) = match (script.below(4), entries.as_slice()) {
        (1, [only]) => (only.uid, only.uid),
        (1, [first, .., last]) => (first.uid, last.uid),
        // Not of a stretch: nobody takes it.
        (2, [first, .., last]) => (last.uid, first.uid),
        _ => (Uid::MIN, Uid::MAX),
    };
    Message::SyncList(SyncList { wants_list: script.coin(), first, last, entries })
}

/// Of any kind but a responder's, which comes by [`election`]: one more would give other names to the bytes that were
/// kept.
fn uid(script: &mut Script<'_>) -> Uid {
    let kind = script.pick(&[
        RecordKind::Member,
        RecordKind::Claim,
        RecordKind::Reference,
        RecordKind::Domain,
        RecordKind::Lowest,
    ]);
    let owner = if kind == RecordKind::Lowest { ServerId(domain(script).0) } else { server(script) };
    Uid { owner, kind, number: u64::from(script.byte() / 64) }
}

fn snum(script: &mut Script<'_>) -> Snum {
    let boot_epoch = BootEpoch(script.pick(&[1, 0, 2, u32::MAX]));
    Snum { boot_epoch, counter: script.pick(&[1, 2, 0, 3, u32::MAX]) }
}

fn age(script: &mut Script<'_>) -> Age {
    script.pick(&[Age(0), Age(1), Age(14), Age(119), Age(u16::MAX - 1), Age::DELETED])
}

/// A record, as a rule one that others take.
fn record(script: &mut Script<'_>) -> Record {
    let uid = uid(script);
    record_of(script, uid)
}

fn record_of(script: &mut Script<'_>, mut uid: Uid) -> Record {
    let (mut snum, age) = (snum(script), age(script));
    let lives = script.pick(&[15, 120, 0, u16::MAX]);
    if uid.kind == RecordKind::Lowest && script.below(8) != 7 {
        snum.boot_epoch = BootEpoch(0);
    }
    let body = body(script, uid.kind);
    if script.below(16) == 15 {
        uid.kind = RecordKind::Member;
    }
    Record { uid, snum, age, lives, body }
}

fn body(script: &mut Script<'_>, kind: RecordKind) -> Body {
    match kind {
        RecordKind::Member => Body::Member(Member {
            role: role(script),
            control: host(script),
            roll: u32::from(script.byte() / 64),
        }),
        RecordKind::Claim => {
            let (group, content, ports) = carried(script);
            let server_type = ServerType(0x8000 + u16::from(script.byte() % 4));
            let flags = script.byte();
            Body::Claim(Claim {
                group,
                content,
                ports,
                boot_item: BootItem { server_type, layer: Layer(0) },
                stamp: Stamp { millis: u64::from(script.word()), sender: server(script) },
                state: script.pick(&[HoldState::Committed, HoldState::Draining, HoldState::Resting]),
                pinned: flags & 1 != 0,
                configured: flags & 2 != 0,
            })
        }
        RecordKind::Reference => {
            let (group, content, ports) = carried(script);
            let holder = |script: &mut Script<'_>| Holder {
                binld: server(script),
                boot_epoch: BootEpoch(1),
                serial: Serial(u32::from(script.byte())),
                stale: script.coin(),
            };
            Body::Reference(Reference { group, content, ports, holders: list(script, holder) })
        }
        RecordKind::Domain => {
            let (part, parts) = script.pick(&[(0, 1), (0, 2), (1, 2), (2, 2)]);
            let version = u32::from(script.byte() / 64);
            Body::Domain(Roll { version, part, parts, members: list(script, server) })
        }
        RecordKind::Lowest => Body::Lowest(server(script)),
        RecordKind::Responder => Body::Responder(responder(script)),
        RecordKind::Neighbours => {
            Body::Neighbours(Neighbours { prefix_len: script.byte() % 33, servers: list(script, server) })
        }
        RecordKind::Note => {
            let (about, written) = (script.pick(&About::ALL), u64::from(script.byte()));
            let words = Text::received(&[script.byte(), b'\x1b', script.byte()]).expect("short");
            Body::Note(Note { written, about, author: Text::cut("east"), words })
        }
        RecordKind::Contact => Body::Contact(Contact {
            domain: DomainId([script.byte() % 3; 16]),
            relation: script.pick(&[Relation::Parent, Relation::Child]),
            coordinates: script.coin(),
            control: host(script),
            lowest: server(script),
            name: Text::cut("hall"),
        }),
    }
}

fn responder(script: &mut Script<'_>) -> Responder {
    let weight = script.byte() % (WEIGHT_MAX + 1);
    let types = list(script, |script| ServerType(0x8000 + u16::from(script.byte() % 4)));
    Responder { weight, types, shards: list(script, |script| term(script, weight)) }
}

fn terms(script: &mut Script<'_>) -> Vec<(Shard, Term)> {
    let weight = script.byte() % (WEIGHT_MAX + 1);
    list(script, |script| term(script, weight))
}

/// A shard with a term: with the right index of some server mostly, and an epoch from anywhere.
fn term(script: &mut Script<'_>, weight: u8) -> (Shard, Term) {
    let shard = Shard::of_hash(u64::from(script.byte()));
    let (owner, low) = (server(script), u32::from(script.byte()));
    let index = script.pick(&[index(shard, &owner, weight), 0, u32::MAX]);
    let epoch = script.pick(&[2, 4, 3, 0, 1 << 20, u32::MAX, low]);
    (shard, Term { epoch, index })
}

/// An address that the cores have something to do with, and a content.
fn carried(script: &mut Script<'_>) -> (GroupAddr, Content, Ports) {
    let group = script.pick(&["239.255.1.1", "239.255.0.7", "239.255.7.1", "239.127.1.1"]);
    let group = group.parse().expect("a multicast address");
    let file = FileName::new(script.pick(&[b"initrd.img".as_slice(), b"a", b"zz", &[b'x'; 255]]));
    let content = Content { server: *host(script).ip(), file: file.expect("a name") };
    (group, content, Ports { client: script.pick(&[3001, 0]), server: 1760 })
}
