//! Random values of the nouns.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use wire::configure::{Ports, RequestRef};
use wire::{BootEpoch, Content, FileName, GroupAddr, Layer, Mac, Serial, ServerId, ServerType, Stamp, Uuid};

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
