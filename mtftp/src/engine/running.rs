//! What runs on an address, whatever its protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Deadline, Time};
use wire::tftp::Options;

use super::action::{AwaitedStart, FileFacts, Tally};
use super::context::Context;
use super::master::OpenerRole;
use super::pass::Pass;
use super::protocol::Protocol;
use super::session::{Channel, Opened, Session};
use super::trace::Trace;

/// A transfer to a group address.
#[derive(Debug)]
pub(crate) enum Running {
    /// With repairs within it: iPXE, RFC 2090.
    Session(Box<Session>),
    /// From the first block to the last: PXE-MTFTP.
    Pass(Box<Pass>),
}

/// The same call of either.
macro_rules! either {
    ($running:expr, $it:ident => $call:expr) => {
        match $running {
            Running::Session($it) => $call,
            Running::Pass($it) => $call,
        }
    };
}

impl Running {
    /// `slow` are clients that were too slow for the pass before.
    pub(crate) fn new(now: Time, facts: FileFacts, channel: Channel, slow: BTreeSet<SocketAddrV4>) -> Self {
        match channel.protocol {
            Protocol::PxeMtftp => Self::Pass(Box::new(Pass::new(now, facts, channel).with_slow(slow))),
            Protocol::Ipxe | Protocol::Rfc2090 => Self::Session(Box::new(Session::new(now, facts, channel))),
        }
    }

    pub(crate) fn channel(&self) -> &Channel {
        either!(self, it => &it.channel)
    }

    pub(crate) fn file(&self) -> FileFacts {
        either!(self, it => it.file)
    }

    pub(crate) fn tally(&self) -> Tally {
        either!(self, it => it.tally)
    }

    pub(crate) fn is_over(&self) -> bool {
        either!(self, it => it.is_over())
    }

    pub(crate) fn has(&self, client: SocketAddrV4) -> bool {
        either!(self, it => it.has(client))
    }

    pub(crate) fn master(&self) -> Option<SocketAddrV4> {
        either!(self, it => it.master())
    }

    /// What one of its clients does.
    pub(crate) fn role(&self, client: SocketAddrV4) -> OpenerRole {
        either!(self, it => it.role(client))
    }

    pub(crate) fn openers(&self) -> Vec<SocketAddrV4> {
        either!(self, it => it.openers().collect())
    }

    /// For the status: which pass over the file it is, from 1.
    pub(crate) fn pass(&self) -> u64 {
        match self {
            Self::Session(_) => 1,
            Self::Pass(pass) => pass.number,
        }
    }

    /// For the status: the block that went out last; 0 before the first.
    pub(crate) fn block(&self) -> u16 {
        either!(self, it => it.block())
    }

    /// For the status: who is there, how many blocks each lacks as far as is known, and its highest ACK.
    pub(crate) fn lacking(&self) -> Vec<(SocketAddrV4, u32, Option<u16>)> {
        either!(self, it => it.lacking().collect())
    }

    /// Begins what waits for more clients. False if it does not.
    pub(crate) fn begin(&mut self, now: Time, context: &mut Context) -> bool {
        match self {
            Self::Session(session) => session.begin(now, context),
            Self::Pass(_) => false,
        }
    }

    /// For what clients it waits before it begins.
    pub(crate) fn awaited_start(&self) -> Option<AwaitedStart> {
        match self {
            Self::Session(session) => session.start,
            Self::Pass(_) => None,
        }
    }

    /// What the rule of port 69 asks, of a session for iPXE.
    pub(crate) fn trace(&mut self, client: Ipv4Addr) -> Option<&mut Trace> {
        match self {
            Self::Session(session) => session.traces.get_mut(&client),
            Self::Pass(_) => None,
        }
    }

    /// What outlives it for a while: who opened it, and who was too slow for it.
    pub(crate) fn into_memory(self) -> (BTreeMap<Ipv4Addr, Trace>, BTreeSet<SocketAddrV4>) {
        match self {
            Self::Session(session) => (session.traces, BTreeSet::new()),
            Self::Pass(pass) => (BTreeMap::new(), pass.into_slow()),
        }
    }

    pub(crate) fn cut(&mut self) {
        either!(self, it => it.cut());
    }

    pub(crate) fn next_deadline(&self) -> Deadline {
        either!(self, it => it.next_deadline())
    }

    pub(crate) fn on_timeout(&mut self, now: Time, context: &mut Context) {
        either!(self, it => it.on_timeout(now, context));
    }

    pub(crate) fn on_open(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        granted: Options,
        context: &mut Context,
    ) -> Opened {
        match self {
            Self::Session(session) => session.on_open(now, client, granted, context),
            Self::Pass(pass) => pass.on_open(now, client, context),
        }
    }

    pub(crate) fn on_ack(&mut self, now: Time, client: SocketAddrV4, block: u16, context: &mut Context) {
        either!(self, it => it.on_ack(now, client, block, context));
    }

    pub(crate) fn on_error(&mut self, now: Time, client: SocketAddrV4, context: &mut Context) {
        either!(self, it => it.on_error(now, client, context));
    }
}
