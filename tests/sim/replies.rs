//! **I5**: no client is told what is not true yet. An answer names a group address only if the MTFTP server's ACK has
//! reached the boot server and the server's store has the reference; it names a server for a file only if that server
//! acknowledged the file to this process in the last 60 s. And no address is told twice, with two contents, within the
//! time a client has to use it (I1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use binld::engine::claims::StateName;
use driver::Time;
use wire::control::{Envelope, Message};
use wire::{Content, FileName, GroupAddr};

use crate::answers::Answers;
use crate::binld_host::BinldHost;
use crate::check::Checks;
use crate::client::{DISCOVERY_PORT, Reply, read_reply};
use crate::link::{Copy, Link};
use crate::mtftp_host::MtftpHost;
use crate::node::Node;

/// An ACK counts for this long, with a little for clocks that run slow.
const ACK_LIFETIME: Duration = Duration::from_millis(60_050);
/// A client that was told an address may use it for this long.
const TOLD_LIFETIME: Duration = Duration::from_secs(119);

#[derive(Debug)]
struct Told {
    at: Time,
    node: usize,
    content: Content,
    explainable: bool,
}

/// An ACK for a file on an address.
#[derive(Debug)]
struct Acked {
    at: Time,
    port: u16,
    /// A flipped bit can say anything; no more is asked of a server that believes it.
    intact: bool,
}

/// What the boot servers know, and what they have told.
#[derive(Debug, Default)]
pub struct Replies {
    /// When a server's ACK for a file last reached a boot server, in its present life.
    files: BTreeMap<(usize, Content), Time>,
    /// The same for a file on an address.
    groups: BTreeMap<(usize, Content, GroupAddr), Acked>,
    told: BTreeMap<GroupAddr, Vec<Told>>,
    /// Ways, from boot server to MTFTP server, on which a control message was altered and yet arrived.
    altered: BTreeSet<(Ipv4Addr, Ipv4Addr)>,
    /// When a server last lost its store: what it ACKed before counts for nothing.
    lost: BTreeMap<Ipv4Addr, Time>,
    /// Answers beside others to the same question.
    pub answers: Answers,
    /// Answers that were looked at.
    pub count: u64,
    /// Those that named a group address.
    pub multicast: u64,
}

impl Replies {
    /// A control message reaches a boot server.
    pub fn on_control(&mut self, now: Time, node: usize, from: SocketAddrV4, copy: &Copy) {
        let Ok(Envelope { message: Message::Ack(ack), .. }) = Envelope::decode(&copy.bytes) else { return };
        let content = Content { server: *from.ip(), file: ack.file };
        if let Some(group) = ack.request.group {
            let acked = Acked { at: now, port: ack.ports.server, intact: copy.intact };
            self.groups.insert((node, content.clone(), group), acked);
        }
        self.files.insert((node, content), now);
    }

    /// A control message reaches an MTFTP server with a bit flipped, in its sender's name perhaps: what that server
    /// believes of that sender proves nothing any more.
    pub fn on_altered(&mut self, from: Ipv4Addr, to: Ipv4Addr) {
        self.altered.insert((from, to));
    }

    /// A boot server sends a control message. A draining address is deleted only when its last client has had its
    /// time (P3), unless it was lost to somebody with the better right (Y4, Y5).
    pub fn on_control_sent(
        &mut self,
        now: Time,
        node: usize,
        host: &Node,
        bytes: &[u8],
        checks: &mut Checks,
    ) {
        let Ok(Envelope { message: Message::Delete(delete), .. }) = Envelope::decode(bytes) else { return };
        let Some(engine) = host.program::<BinldHost>().and_then(BinldHost::engine) else { return };
        let mut claims =
            engine.claims_status(host.local(now)).filter(|claim| claim.group == Some(delete.group));
        let draining = claims.any(|it| it.state == StateName::Draining && it.content.file == delete.file);
        let yielded = engine.counters().get("conflict", "yielded") > 0;
        let told = self.told.get(&delete.group).into_iter().flatten();
        let mut recently = told.filter(|told| told.node == node && now.since(told.at) < TOLD_LIFETIME);
        if let Some(told) = recently.find(|told| draining && !yielded && told.content.file == delete.file) {
            let text = format!("{} deletes {}, told a client at {:?}", host.name, delete.group, told.at);
            checks.fail(now, "P3", text);
        }
    }

    /// A boot server died: what it was told is forgotten.
    pub fn on_crash(&mut self, node: usize) {
        self.files.retain(|(owner, _), _| *owner != node);
        self.groups.retain(|(owner, _, _), _| *owner != node);
    }

    /// A server's store is gone, and with it what it promised.
    pub fn on_store_lost(&mut self, now: Time, node: usize, address: Ipv4Addr) {
        self.lost.insert(address, now);
        for told in self.told.values_mut() {
            told.retain(|told| told.node != node && told.content.server != address);
        }
    }

    /// The answer of a boot server reaches a client (A1).
    pub fn on_arrival(
        &mut self,
        now: Time,
        node: usize,
        (nodes, link): (&[Node], &Link),
        bytes: &[u8],
        checks: &mut Checks,
    ) {
        let Some(host) = nodes.get(node) else { return };
        let Some(reply) = read_reply(SocketAddrV4::new(host.address, DISCOVERY_PORT), bytes) else { return };
        // Servers that offer other things answer otherwise.
        let catalog = |node: usize| {
            let binld = nodes.get(node).and_then(|node| node.program::<BinldHost>());
            binld.map(|binld| &binld.config().catalog)
        };
        let alike = |other: usize| catalog(other) == catalog(node);
        let at = |address: Ipv4Addr| nodes.iter().position(|host| host.address == address);
        let apart = |other: usize, named: [Ipv4Addr; 2]| {
            let of = |binld| {
                named.into_iter().filter_map(at).any(|server| link.is_cut_between(now, binld, server))
            };
            link.is_cut_between(now, node, other) || of(node) || of(other)
        };
        if let Some(differs) = self.answers.on_arrival(now, node, bytes, &reply, alike, apart) {
            checks.fail(now, "A1", format!("{} answers {differs}", host.name));
        }
    }

    /// A boot server answers a client.
    pub fn on_reply(&mut self, now: Time, node: usize, nodes: &[Node], bytes: &[u8], checks: &mut Checks) {
        let Some(host) = nodes.get(node) else { return };
        let Some(binld) = host.program::<BinldHost>() else { return };
        let from = SocketAddrV4::new(host.address, DISCOVERY_PORT);
        let Some(reply) = read_reply(from, bytes) else {
            return checks.fail(now, "I5", format!("{} sent an answer that no client can read", host.name));
        };
        self.count += 1;
        let mut plain: Vec<(Ipv4Addr, Vec<u8>)> = Vec::new();
        let mut offer = self.offer(binld, &reply, &mut plain);
        if reply.multicast.is_none() && !is_uri(&reply.file) {
            plain.push((reply.file_server, reply.file.clone()));
        }
        for (server, file) in plain {
            let known =
                FileName::new(&file).and_then(|file| self.files.get(&(node, Content { server, file })));
            if known.is_none_or(|at| now.since(*at) > ACK_LIFETIME) {
                let file = String::from_utf8_lossy(&file).into_owned();
                let text = format!("{} names {server} for {file}: last ACK {known:?}", host.name);
                checks.fail(now, "I5", text);
            }
        }
        if let Some((content, group, port)) = offer.take() {
            self.multicast += 1;
            self.check_offer(now, node, nodes, (&content, group, port), checks);
            self.tell(now, node, group, content, checks);
        }
    }

    /// The multicast file of an answer; a plain URI goes to `plain`.
    fn offer(
        &self,
        binld: &BinldHost,
        reply: &Reply,
        plain: &mut Vec<(Ipv4Addr, Vec<u8>)>,
    ) -> Option<(Content, GroupAddr, u16)> {
        let file = String::from_utf8_lossy(&reply.file).into_owned();
        let uri = reply.uri.clone().or(is_uri(&reply.file).then_some(file));
        if let Some((group, _, port)) = reply.multicast {
            let content = Content { server: reply.file_server, file: FileName::new(&reply.file)? };
            return Some((content, GroupAddr::new(group)?, port));
        }
        let uri = uri?;
        if let Some(rest) = uri.strip_prefix("mtftp://") {
            let (authority, file) = rest.split_once('/')?;
            let (server, port) = authority.split_once(':')?;
            let content = Content { server: server.parse().ok()?, file: FileName::new(file.as_bytes())? };
            return Some((content, binld.config().pinned.group, port.parse().ok()?));
        }
        let (server, file) = uri.strip_prefix("tftp://")?.split_once('/')?;
        plain.push((server.parse().ok()?, file.as_bytes().to_vec()));
        None
    }

    fn check_offer(
        &self,
        now: Time,
        node: usize,
        nodes: &[Node],
        (content, group, port): (&Content, GroupAddr, u16),
        checks: &mut Checks,
    ) {
        let Some(host) = nodes.get(node) else { return };
        let Some(binld) = host.program::<BinldHost>() else { return };
        if self.altered.contains(&(host.address, content.server)) {
            return;
        }
        let acked = self.groups.get(&(node, content.clone(), group));
        let lost = self.lost.get(&content.server);
        match acked {
            Some(acked) if !acked.intact || lost.is_some_and(|lost| acked.at <= *lost) => return,
            Some(acked) if now.since(acked.at) <= ACK_LIFETIME && acked.port == port => {}
            Some(_) | None => {
                let text =
                    format!("{} tells {content} on {group} port {port}: last ACK {acked:?}", host.name);
                checks.fail(now, "I5", text);
            }
        }
        let servers = nodes.iter().filter_map(|node| node.program::<MtftpHost>());
        for server in servers.filter(|server| server.address() == content.server) {
            if !server.has_reference(group, binld.server(), &content.file) {
                let text = format!("{} tells {content} on {group}: the server has no reference", host.name);
                checks.fail(now, "I5", text);
            }
            let served = server.status().is_none_or(|status| {
                let mut claims = status.claims.iter();
                claims.any(|it| it.group == group && it.file == content.file && it.ports.server == port)
            });
            if !served {
                let text = format!("{} tells {content} on {group} port {port}: it is not served", host.name);
                checks.fail(now, "I5", text);
            }
        }
    }

    fn tell(&mut self, now: Time, node: usize, group: GroupAddr, content: Content, checks: &mut Checks) {
        let told = self.told.entry(group).or_default();
        told.retain(|earlier| now.since(earlier.at) < TOLD_LIFETIME);
        let explainable = checks.had_losses(node, group);
        for earlier in told.iter().filter(|earlier| earlier.content != content) {
            if (earlier.node == node) || !(earlier.explainable || explainable) {
                let text = format!(
                    "{group} is told for {content} by host {node}, and was for {} by host {} at {:?}",
                    earlier.content, earlier.node, earlier.at
                );
                checks.fail(now, "I1", text);
            }
        }
        told.push(Told { at: now, node, content, explainable });
    }
}

fn is_uri(file: &[u8]) -> bool {
    file.starts_with(b"mtftp://") || file.starts_with(b"tftp://")
}
