//! **A1**: one client, one answer. Two boot servers whose answers to its question both reach a client say the same: the same
//! boot file, the same file server, the same address. Not the same, and no wrong answer either, is an answer by plain TFTP
//! beside one by multicast: it is counted. Answers that differ are a violation, unless nothing else was possible: two that are
//! cut off from each other, or one of them from a file server that was named, answer what they can; that is counted, too.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::AddAssign;
use std::time::Duration;

use driver::Time;

use crate::client::Reply;

/// So long after the first answer another one may be to the same question: as long as a client waits for one server.
const SAME_QUESTION: Duration = Duration::from_millis(3050);
/// The Ethernet address of a client in an answer.
const MAC: std::ops::Range<usize> = 28..34;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    at: Time,
    node: usize,
    file_server: Ipv4Addr,
    file: Vec<u8>,
    multicast: Option<(Ipv4Addr, u16, u16)>,
    uri: Option<String>,
}

impl Given {
    fn is_plain(&self) -> bool {
        let by_uri = self.uri.as_ref().is_some_and(|uri| uri.starts_with("mtftp://"));
        self.multicast.is_none() && !by_uri && !self.file.starts_with(b"mtftp://")
    }

    fn what(&self) -> What<'_> {
        (self.file_server, &self.file, self.multicast, self.uri.as_deref())
    }
}

/// A file server, a boot file, and where the multicast file is.
type What<'a> = (Ipv4Addr, &'a [u8], Option<(Ipv4Addr, u16, u16)>, Option<&'a str>);

/// What clients were told lately.
#[derive(Debug, Default)]
pub struct Answers {
    given: BTreeMap<Vec<u8>, Vec<Given>>,
    /// Answers beside that of another server to the same question.
    pub doubles: Doubles,
}

/// Answers of two servers to one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubles {
    /// That were the same.
    pub same: u64,
    /// One by plain TFTP, the other by multicast.
    pub degraded: u64,
    /// That were not the same in another way, of servers that could not hear each other, or a file server.
    pub apart: u64,
}

impl AddAssign for Doubles {
    fn add_assign(&mut self, other: Self) {
        self.same += other.same;
        self.degraded += other.degraded;
        self.apart += other.apart;
    }
}

impl Answers {
    /// The answer of a boot server arrives, beside those of others that are `alike`, or `apart` from it or from one of the
    /// file servers that they name; gives in words how it differs from one of these.
    pub fn on_arrival(
        &mut self,
        now: Time,
        node: usize,
        bytes: &[u8],
        reply: &Reply,
        alike: impl Fn(usize) -> bool,
        apart: impl Fn(usize, [Ipv4Addr; 2]) -> bool,
    ) -> Option<String> {
        let mac = bytes.get(MAC)?.to_vec();
        let ours = Given {
            at: now,
            node,
            file_server: reply.file_server,
            file: reply.file.clone(),
            multicast: reply.multicast,
            uri: reply.uri.clone(),
        };
        let earlier = self.given.entry(mac).or_default();
        earlier.retain(|given| now.since(given.at) < SAME_QUESTION);
        let mut differs = None;
        if let Some(other) = earlier.iter().find(|given| given.node != node && alike(given.node)) {
            if other.what() == ours.what() {
                self.doubles.same += 1;
            } else if other.is_plain() != ours.is_plain() {
                self.doubles.degraded += 1;
            } else if apart(other.node, [ours.file_server, other.file_server]) {
                self.doubles.apart += 1;
            } else {
                differs = Some(format!(
                    "{:?}, and host {} at {:?} {:?}",
                    ours.what(),
                    other.node,
                    other.at,
                    other.what()
                ));
            }
        }
        earlier.push(ours);
        differs
    }
}
