//! Random values of the nouns.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use wire::configure::{Ports, RequestRef};
use wire::contact::{Contact, Relation};
use wire::elect::{DECLARED_MAX, HeardOf, Responder, Revoked, SHARDS, Shard, TYPES_MAX, Term, WEIGHT_MAX};
use wire::hold::HoldState;
use wire::membership::Neighbour;
use wire::note::{About, Note};
use wire::policy::{Policy, SlowClients};
use wire::pxe::BootItem;
use wire::record::{
    Age, Body, Claim, HOLDERS_MAX, Holder, Member, Neighbours, RECORD_NEIGHBOURS_MAX, ROLL_MAX, Record,
    RecordKind, Reference, Roll, ServerRole, Snum, Uid,
};
use wire::text::Text;
use wire::{
    BootEpoch, Content, DomainId, FileName, GroupAddr, Layer, Mac, Serial, ServerId, ServerType, Stamp, Uuid,
};

pub(crate) fn group() -> impl Strategy<Value = GroupAddr> {
    (0xe000_0000..=0xefff_ffff_u32).prop_map(|bits| GroupAddr::new(Ipv4Addr::from_bits(bits)).unwrap())
}

/// The address of a host.
pub(crate) fn unicast() -> impl Strategy<Value = Ipv4Addr> {
    (1..=0xdfff_ffff_u32).prop_map(Ipv4Addr::from_bits)
}

pub(crate) fn file() -> impl Strategy<Value = FileName> {
    file_up_to(FileName::LEN_MAX)
}

pub(crate) fn file_up_to(len_max: usize) -> impl Strategy<Value = FileName> {
    prop::collection::vec(1..=255_u8, 1..=len_max).prop_map(|bytes| FileName::new(&bytes).unwrap())
}

pub(crate) fn content() -> impl Strategy<Value = Content> {
    (unicast(), file()).prop_map(|(server, file)| Content { server, file })
}

pub(crate) fn server_id() -> impl Strategy<Value = ServerId> {
    any::<[u8; 16]>().prop_map(ServerId)
}

pub(crate) fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), server_id()).prop_map(|(millis, sender)| Stamp { millis, sender })
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let slow = prop::sample::select(SlowClients::ALL.as_slice());
    (slow, any::<u8>(), any::<u32>(), any::<u16>(), any::<u16>()).prop_map(
        |(slow, silences, rate_min, start_clients, start_within_s)| Policy {
            slow,
            silences,
            rate_min,
            start_clients,
            start_within_s,
        },
    )
}

/// Any two ports, zero among them.
pub(crate) fn ports() -> impl Strategy<Value = Ports> {
    (any::<u16>(), any::<u16>()).prop_map(|(client, server)| Ports { client, server })
}

pub(crate) fn request_ref() -> impl Strategy<Value = RequestRef> {
    (any::<u32>(), any::<u32>(), prop::option::of(group())).prop_map(|(epoch, serial, group)| RequestRef {
        boot_epoch: BootEpoch(epoch),
        serial: Serial(serial),
        group,
    })
}

pub(crate) fn server_type() -> impl Strategy<Value = ServerType> {
    any::<u16>().prop_map(ServerType)
}

pub(crate) fn layer() -> impl Strategy<Value = Layer> {
    any::<u16>().prop_map(Layer)
}

pub(crate) fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

pub(crate) fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid)
}

pub(crate) fn domain_id() -> impl Strategy<Value = DomainId> {
    any::<[u8; 16]>().prop_map(DomainId)
}

/// Where a server hears.
pub(crate) fn host() -> impl Strategy<Value = SocketAddrV4> {
    (unicast(), 1..=u16::MAX).prop_map(|(address, port)| SocketAddrV4::new(address, port))
}

pub(crate) fn neighbour() -> impl Strategy<Value = Neighbour> {
    (server_id(), host()).prop_map(|(server, control)| Neighbour { server, control })
}

pub(crate) fn role() -> impl Strategy<Value = ServerRole> {
    prop::sample::select(vec![ServerRole::Binld, ServerRole::Mtftpd])
}

pub(crate) fn hold_state() -> impl Strategy<Value = HoldState> {
    prop::sample::select(vec![HoldState::Committed, HoldState::Draining, HoldState::Resting])
}

pub(crate) fn uid() -> impl Strategy<Value = Uid> {
    let kind = prop::sample::select(vec![
        RecordKind::Member,
        RecordKind::Claim,
        RecordKind::Reference,
        RecordKind::Domain,
        RecordKind::Lowest,
        RecordKind::Responder,
        RecordKind::Neighbours,
        RecordKind::Note,
        RecordKind::Contact,
    ]);
    (server_id(), kind, any::<u64>()).prop_map(|(owner, kind, number)| Uid { owner, kind, number })
}

pub(crate) fn snum() -> impl Strategy<Value = Snum> {
    any::<(u32, u32)>().prop_map(|(epoch, counter)| Snum { boot_epoch: BootEpoch(epoch), counter })
}

/// Any age, the deleted among them.
pub(crate) fn age() -> impl Strategy<Value = Age> {
    prop_oneof![4 => any::<u16>().prop_map(Age), 1 => Just(Age::DELETED)]
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let lowest = server_id().prop_map(Body::Lowest);
    record_of(prop_oneof![
        member(),
        claim(),
        reference(),
        roll(),
        lowest,
        responder(),
        neighbours(),
        note(),
        contact()
    ])
}

/// A record with such a body.
pub(crate) fn record_of(body: impl Strategy<Value = Body>) -> impl Strategy<Value = Record> {
    (uid(), snum(), age(), any::<u16>(), body).prop_map(|(uid, snum, age, lives, body)| {
        let kind = body.kind();
        let epoch = if kind == RecordKind::Lowest { BootEpoch(0) } else { snum.boot_epoch };
        let (uid, snum) = (Uid { kind, ..uid }, Snum { boot_epoch: epoch, ..snum });
        Record { uid, snum, age, lives, body }
    })
}

pub(crate) fn member() -> BoxedStrategy<Body> {
    let member = |(role, control, roll)| Body::Member(Member { role, control, roll });
    (role(), host(), any::<u32>()).prop_map(member).boxed()
}

pub(crate) fn neighbours() -> BoxedStrategy<Body> {
    (0..=32_u8, prop::collection::vec(server_id(), 0..=RECORD_NEIGHBOURS_MAX))
        .prop_map(|(prefix_len, servers)| Body::Neighbours(Neighbours { prefix_len, servers }))
        .boxed()
}

fn text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    prop::collection::vec(any::<u8>(), 0..=MAX).prop_filter_map("too long", |bytes| Text::received(&bytes))
}

pub(crate) fn note() -> BoxedStrategy<Body> {
    let about = prop::sample::select(About::ALL.to_vec());
    (any::<u64>(), about, text(), text())
        .prop_map(|(written, about, author, words)| Body::Note(Note { written, about, author, words }))
        .boxed()
}

pub(crate) fn contact() -> BoxedStrategy<Body> {
    let relation = prop::sample::select(vec![Relation::Parent, Relation::Child]);
    (any::<[u8; 16]>(), relation, any::<bool>(), host(), server_id(), text())
        .prop_map(|(domain, relation, coordinates, control, lowest, name)| {
            Body::Contact(Contact { domain: DomainId(domain), relation, coordinates, control, lowest, name })
        })
        .boxed()
}

pub(crate) fn claim() -> BoxedStrategy<Body> {
    let boot_item = (server_type(), layer()).prop_map(|(server_type, layer)| BootItem { server_type, layer });
    let flags = any::<(bool, bool)>();
    (group(), content(), ports(), boot_item, stamp(), hold_state(), flags)
        .prop_map(|(group, content, ports, boot_item, stamp, state, (pinned, configured))| {
            Body::Claim(Claim { group, content, ports, boot_item, stamp, state, pinned, configured })
        })
        .boxed()
}

pub(crate) fn reference() -> BoxedStrategy<Body> {
    let holder = (server_id(), any::<(u32, u32, bool)>()).prop_map(|(binld, (epoch, serial, stale))| {
        Holder { binld, boot_epoch: BootEpoch(epoch), serial: Serial(serial), stale }
    });
    let holders = prop::collection::vec(holder, 0..=HOLDERS_MAX);
    (group(), content(), ports(), holders)
        .prop_map(|(group, content, ports, holders)| {
            Body::Reference(Reference { group, content, ports, holders })
        })
        .boxed()
}

pub(crate) fn roll() -> BoxedStrategy<Body> {
    let part = any::<(u8, u8)>().prop_map(|(one, other)| (one.min(other).min(254), one.max(other).max(1)));
    let part = part.prop_map(|(part, parts)| (part, parts.max(part + 1)));
    (any::<u32>(), part, prop::collection::vec(server_id(), 0..=ROLL_MAX))
        .prop_map(|(version, (part, parts), members)| Body::Domain(Roll { version, part, parts, members }))
        .boxed()
}

pub(crate) fn shard() -> impl Strategy<Value = Shard> {
    (0..SHARDS).prop_map(|number| Shard::new(number).unwrap())
}

pub(crate) fn term() -> impl Strategy<Value = Term> {
    any::<(u32, u32)>().prop_map(|(epoch, index)| Term { epoch, index })
}

/// Shards with their terms, in any order, some of them twice: who reads them does not mind.
pub(crate) fn terms() -> impl Strategy<Value = Vec<(Shard, Term)>> {
    prop::collection::vec((shard(), term()), 0..=DECLARED_MAX)
}

pub(crate) fn revoked() -> impl Strategy<Value = Revoked> {
    (shard(), term(), term()).prop_map(|(shard, term, revoked)| Revoked { shard, term, revoked })
}

pub(crate) fn heard_of() -> impl Strategy<Value = HeardOf> {
    let (told, ago) = (any::<(u32, u8)>(), prop_oneof![4 => any::<u16>(), 1 => Just(u16::MAX)]);
    (server_id(), told, ago).prop_map(|(server, (count, delay_ms), ago_ms)| HeardOf {
        server,
        count,
        ago_ms,
        delay_ms,
    })
}

pub(crate) fn responder() -> BoxedStrategy<Body> {
    (0..=WEIGHT_MAX, prop::collection::vec(server_type(), 0..=TYPES_MAX), terms())
        .prop_map(|(weight, types, shards)| Body::Responder(Responder { weight, types, shards }))
        .boxed()
}
