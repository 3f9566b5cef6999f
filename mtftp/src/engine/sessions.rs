//! The sessions of all addresses, and what is remembered of those that ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Deadline, Deadlines, Role, Time};
use wire::configure::Ports;
use wire::policy::{Policy, SlowClients};
use wire::tftp::{BLOCK_SIZE_DEFAULT, ErrorCode, MULTICAST_PORT, Options, Request, multicast_file_size_max};
use wire::{FileName, GroupAddr};

use super::RunAhead;
use super::action::{Event, FileError, FileFacts, FileId, FileTicket};
use super::cause::Declined;
use super::context::Context;
use super::plain::refuse;
use super::protocol::Protocol;
use super::running::Running;
use super::session::{Channel, Opened};
use super::speed::Speed;
use super::trace::Trace;
use crate::limits::{OPENERS_MAX, SESSION_SILENCE, SESSIONS_MAX, SLOW_KEEP, TRACE_KEEP};

/// What runs on an address: at most one session of each protocol.
type Key = (GroupAddr, Protocol);

/// Who opened before the file was found: the client, and its request if it is one of RFC 2090.
type Waiting = (SocketAddrV4, Option<Request>);

/// The shell looks the file up; who opened meanwhile waits.
#[derive(Debug)]
struct Looking {
    ticket: FileTicket,
    channel: Channel,
    waiting: Vec<Waiting>,
}

impl Looking {
    /// Once each.
    fn add(&mut self, waiting: Waiting) {
        let is_listed = self.waiting.iter().any(|(client, _)| *client == waiting.0);
        if !is_listed && self.waiting.len() < OPENERS_MAX {
            self.waiting.push(waiting);
        }
    }
}

#[derive(Debug)]
enum State {
    Looking(Looking),
    Running(Running),
}

#[derive(Debug)]
struct Entry {
    file: FileName,
    state: State,
}

/// A session that ended: who opened it is known a little longer.
#[derive(Debug)]
struct Ended {
    file: FileName,
    at: Time,
    traces: BTreeMap<Ipv4Addr, Trace>,
    /// Who was too slow for it.
    slow: BTreeSet<SocketAddrV4>,
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    entries: BTreeMap<Key, Entry>,
    ended: BTreeMap<GroupAddr, Ended>,
    deadlines: Deadlines<Key>,
    /// How fast those that run multicast.
    speeds: BTreeMap<Key, Speed>,
    /// Doors for streams of RFC 2090 that are free, the one that was left longest ago first: each transfer has a port of
    /// its own, by which its clients know it.
    streams: VecDeque<u16>,
    run_ahead: RunAhead,
    /// Requests of RFC 2090 that must be served by plain TFTP after all.
    declined: Vec<(SocketAddrV4, Request)>,
}

impl Sessions {
    /// No sessions, and so many doors for streams.
    pub(crate) fn new(streams: u16, run_ahead: RunAhead) -> Self {
        Self { streams: (0..streams).collect(), run_ahead, ..Self::default() }
    }

    /// Whether data of ours goes to this address.
    pub(crate) fn is_running(&self, group: GroupAddr) -> bool {
        self.keys(group).next().is_some()
    }

    fn keys(&self, group: GroupAddr) -> impl Iterator<Item = Key> + '_ {
        self.entries.range((group, Protocol::FIRST)..=(group, Protocol::LAST)).map(|(key, _)| *key)
    }

    /// The sessions on this address.
    pub(crate) fn running(&self, group: GroupAddr) -> impl Iterator<Item = &Running> {
        let entries = self.entries.range((group, Protocol::FIRST)..=(group, Protocol::LAST));
        entries.filter_map(|(_, entry)| match &entry.state {
            State::Running(session) => Some(session),
            State::Looking(_) => None,
        })
    }

    /// How fast the session of that protocol on this address multicasts, if it runs.
    pub(crate) fn speed(&self, group: GroupAddr, protocol: Protocol) -> Option<&Speed> {
        self.speeds.get(&(group, protocol))
    }

    /// Whether a client of that address waits on this group address.
    pub(crate) fn has_opener(&self, group: GroupAddr, client: Ipv4Addr) -> bool {
        self.running(group).any(|session| session.openers().iter().any(|opener| *opener.ip() == client))
    }

    /// The same, or it went until just now.
    pub(crate) fn sends_on(&self, now: Time, group: GroupAddr) -> bool {
        self.is_running(group)
            || self.ended.get(&group).is_some_and(|ended| now.since(ended.at) < SESSION_SILENCE)
    }

    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        self.deadlines.next()
    }

    /// An open for a claim that takes opens.
    pub(crate) fn on_open(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        (group, file, ports): (GroupAddr, FileName, Ports),
        (protocol, policy): (Protocol, Policy),
        context: &mut Context,
    ) {
        let channel = Channel {
            protocol,
            role: Role::Mtftp(ports.server),
            group: SocketAddrV4::new(group.ip(), ports.client),
            block_size: BLOCK_SIZE_DEFAULT,
            run_ahead: self.run_ahead,
            policy,
        };
        let key = (group, protocol);
        let was_slow = self.ended.get(&group).is_some_and(|ended| ended.slow.contains(&client));
        if self.entries.contains_key(&key) {
            self.join(now, key, (client, None), context);
        } else if was_slow && policy.slow == SlowClients::DropToUnicast {
            context.told.declined(*client.ip(), group, Declined::Slow);
            context.count("session", "dropped_to_unicast");
        } else if self.entries.len() >= SESSIONS_MAX {
            context.told.declined(*client.ip(), group, Declined::NoSession);
            context.count("session", "too_many_sessions");
        } else {
            self.look_up(group, file, channel, (client, None), context);
        }
    }

    /// A request of RFC 2090 for a file that has a dynamic claim. False if it must be served by plain TFTP.
    pub(crate) fn on_multicast_request(
        &mut self,
        now: Time,
        client: SocketAddrV4,
        (group, file, policy): (GroupAddr, FileName, Policy),
        (request, block_size_max): (&Request, u16),
        context: &mut Context,
    ) -> bool {
        let key = (group, Protocol::Rfc2090);
        let block_size = block_size_of(request).min(block_size_max);
        match self.entries.get(&key) {
            Some(Entry { state: State::Running(session), .. })
                if session.channel().block_size > block_size =>
            {
                context.told.declined(*client.ip(), group, Declined::BlockSize);
                context.count("session", "block_size");
                return false;
            }
            Some(_) => self.join(now, key, (client, Some(request.clone())), context),
            None if self.entries.len() >= SESSIONS_MAX => {
                context.told.declined(*client.ip(), group, Declined::NoSession);
                context.count("session", "too_many_sessions");
                return false;
            }
            None => {
                let Some(stream) = self.streams.pop_front() else {
                    context.told.declined(*client.ip(), group, Declined::NoStream);
                    context.count("session", "too_many_streams");
                    return false;
                };
                let channel = Channel {
                    protocol: Protocol::Rfc2090,
                    role: Role::Stream(stream),
                    group: SocketAddrV4::new(group.ip(), MULTICAST_PORT),
                    block_size,
                    run_ahead: self.run_ahead,
                    policy,
                };
                self.look_up(group, file, channel, (client, Some(request.clone())), context);
            }
        }
        true
    }

    fn look_up(
        &mut self,
        group: GroupAddr,
        file: FileName,
        channel: Channel,
        first: Waiting,
        context: &mut Context,
    ) {
        let ticket = context.open(file.clone());
        let looking = Looking { ticket, channel, waiting: vec![first] };
        self.entries.insert((group, channel.protocol), Entry { file, state: State::Looking(looking) });
    }

    fn join(&mut self, now: Time, key: Key, waiting: Waiting, context: &mut Context) {
        match self.entries.get_mut(&key) {
            None => {}
            Some(Entry { state: State::Looking(looking), .. }) => looking.add(waiting),
            Some(Entry { state: State::Running(session), .. }) => {
                open(session, now, &waiting, context);
                self.after(now, key, context);
            }
        }
    }

    /// The answer to one of our questions about a file. False if the ticket is not ours; else, the address whose
    /// session did not come to be, if so.
    pub(crate) fn on_file(
        &mut self,
        now: Time,
        ticket: FileTicket,
        result: Result<FileFacts, FileError>,
        context: &mut Context,
    ) -> Option<GroupAddr> {
        let key = self.entries.iter().find_map(|(key, entry)| match &entry.state {
            State::Looking(looking) if looking.ticket == ticket => Some(*key),
            State::Looking(_) | State::Running(_) => None,
        })?;
        let Some(Entry { file, state: State::Looking(looking) }) = self.entries.remove(&key) else {
            return Some(key.0);
        };
        let block_size = looking.channel.block_size;
        let why = match result {
            Ok(facts) if facts.size <= multicast_file_size_max(block_size) => {
                let slow = match looking.channel.protocol {
                    Protocol::PxeMtftp => {
                        self.ended.remove(&key.0).map(|ended| ended.slow).unwrap_or_default()
                    }
                    Protocol::Ipxe | Protocol::Rfc2090 => BTreeSet::new(),
                };
                let mut session = Running::new(now, facts, looking.channel, slow);
                let fits = |(_, request): &Waiting| {
                    request.as_ref().is_none_or(|request| block_size_of(request) >= block_size)
                };
                let (waiting, declined): (Vec<Waiting>, Vec<Waiting>) =
                    looking.waiting.into_iter().partition(fits);
                self.decline(key.0, declined, Declined::BlockSize, context);
                if let Some((client, _)) = waiting.first() {
                    context.tell(Event::SessionBegan { group: key.0, file: file.clone(), from: *client });
                    context.count("session", "began");
                }
                for client in waiting {
                    open(&mut session, now, &client, context);
                }
                self.entries.insert(key, Entry { file, state: State::Running(session) });
                self.speeds.insert(key, Speed::new(now));
                self.after(now, key, context);
                return Some(key.0);
            }
            // Silence: a client of PXE-MTFTP falls back to plain TFTP and hears the reason there.
            Ok(facts) => {
                context.close(facts.id);
                context.count("session", "file_too_large");
                Declined::TooLarge
            }
            Err(_) => {
                context.count("session", "no_file");
                Declined::NoFile
            }
        };
        self.release(looking.channel);
        self.decline(key.0, looking.waiting, why, context);
        Some(key.0)
    }

    fn decline(&mut self, group: GroupAddr, waiting: Vec<Waiting>, why: Declined, context: &mut Context) {
        for (client, _) in &waiting {
            context.told.declined(*client.ip(), group, why);
        }
        let declined = waiting.into_iter().filter_map(|(client, request)| Some((client, request?)));
        self.declined.extend(declined);
    }

    /// Requests of RFC 2090 that must be served by plain TFTP after all, since the last call.
    pub(crate) fn take_declined(&mut self) -> Vec<(SocketAddrV4, Request)> {
        std::mem::take(&mut self.declined)
    }

    fn release(&mut self, channel: Channel) {
        if let Role::Stream(stream) = channel.role {
            self.streams.push_back(stream);
        }
    }

    /// The session of which `client` is an opener, on this server port.
    fn of(&mut self, role: Role, client: SocketAddrV4) -> Option<(Key, &mut Running)> {
        self.entries.iter_mut().find_map(|(key, entry)| match &mut entry.state {
            State::Running(session) if session.channel().role == role && session.has(client) => {
                Some((*key, session))
            }
            State::Running(_) | State::Looking(_) => None,
        })
    }

    pub(crate) fn on_ack(
        &mut self,
        now: Time,
        role: Role,
        client: SocketAddrV4,
        block: u16,
        context: &mut Context,
    ) -> Option<GroupAddr> {
        let Some((key, session)) = self.of(role, client) else {
            context.count("session", "ack_from_nobody");
            return None;
        };
        context.told.on_ack(*client.ip(), key.0, block, session.tally().blocks);
        session.on_ack(now, client, block, context);
        self.after(now, key, context)
    }

    pub(crate) fn on_error(
        &mut self,
        now: Time,
        role: Role,
        client: SocketAddrV4,
        context: &mut Context,
    ) -> Option<GroupAddr> {
        let Some((key, session)) = self.of(role, client) else {
            context.count("session", "error_from_nobody");
            return None;
        };
        session.on_error(now, client, context);
        self.after(now, key, context)
    }

    /// Begins what waits on an address for more clients. Gives how many clients there were, `None` if nothing waited.
    pub(crate) fn begin(&mut self, now: Time, group: GroupAddr, context: &mut Context) -> Option<usize> {
        let mut began = None;
        for key in self.keys(group).collect::<Vec<_>>() {
            if let Some(Entry { state: State::Running(session), .. }) = self.entries.get_mut(&key)
                && session.begin(now, context)
            {
                began = Some(session.openers().len());
                self.after(now, key, context);
            }
        }
        began
    }

    /// Ends the sessions on an address before their openers are done. Gives it if none is left.
    pub(crate) fn cut(&mut self, now: Time, group: GroupAddr, context: &mut Context) -> Option<GroupAddr> {
        let mut over = None;
        for key in self.keys(group).collect::<Vec<_>>() {
            if let Some(Entry { state: State::Running(session), .. }) = self.entries.get_mut(&key) {
                context.count("session", "cut");
                for client in session.openers() {
                    context.told.declined(*client.ip(), group, Declined::Cut);
                }
                session.cut();
                over = self.after(now, key, context);
            }
        }
        over
    }

    /// The file is not what it was: the session ends, and its openers hear an ERROR rather than mixed bytes.
    pub(crate) fn on_file_changed(
        &mut self,
        now: Time,
        file: FileId,
        context: &mut Context,
    ) -> Option<GroupAddr> {
        let (key, session) = self.entries.iter_mut().find_map(|(key, entry)| match &mut entry.state {
            State::Running(session) if session.file().id == file => Some((*key, session)),
            State::Running(_) | State::Looking(_) => None,
        })?;
        context.count("session", "file_changed");
        let role = session.channel().role;
        let clients = session.openers();
        session.cut();
        for client in clients {
            context.told.declined(*client.ip(), key.0, Declined::FileChanged);
            refuse(role, client, ErrorCode::NOT_DEFINED, "the file changed", context);
        }
        self.after(now, key, context)
    }

    /// Whether a request on port 69 gets the ERROR instead of the file.
    pub(crate) fn refuses(
        &mut self,
        now: Time,
        group: GroupAddr,
        file: &FileName,
        client: SocketAddrV4,
    ) -> bool {
        let key = (group, Protocol::Ipxe);
        if let Some(Entry { file: sent, state: State::Running(session) }) = self.entries.get_mut(&key)
            && sent == file
            && let Some(trace) = session.trace(*client.ip())
        {
            return trace.refuses(now, client);
        }
        match self.ended.get_mut(&group) {
            Some(ended) if ended.file == *file && now.since(ended.at) < TRACE_KEEP => {
                ended.traces.get_mut(client.ip()).is_some_and(|trace| trace.refuses(now, client))
            }
            Some(_) | None => false,
        }
    }

    /// Gives the addresses whose sessions ended.
    pub(crate) fn on_timeout(&mut self, now: Time, context: &mut Context) -> Vec<GroupAddr> {
        let mut over = Vec::new();
        // Each once, more or less: one that stayed due for ever must not keep the others, and the daemon, from going on.
        for _ in 0..self.deadlines.len() {
            let Some(key) = self.deadlines.pop_due(now) else { break };
            match self.entries.get_mut(&key) {
                Some(Entry { state: State::Running(session), .. }) => {
                    session.on_timeout(now, context);
                    over.extend(self.after(now, key, context));
                }
                Some(_) => {}
                None => {
                    self.ended.remove(&key.0);
                }
            }
        }
        over
    }

    /// Arms the session's deadline, or ends it. Gives the address if nothing runs on it any more.
    fn after(&mut self, now: Time, key: Key, context: &mut Context) -> Option<GroupAddr> {
        let Some(Entry { state: State::Running(session), .. }) = self.entries.get(&key) else {
            return None;
        };
        if !session.is_over() {
            if let Some(speed) = self.speeds.get_mut(&key) {
                let block_size = u64::from(session.channel().block_size);
                speed.note(now, session.tally().multicast.saturating_mul(block_size));
            }
            let next = session.next_deadline();
            self.deadlines.arm(key, next.at, next.why);
            return None;
        }
        let Some(Entry { file, state: State::Running(session) }) = self.entries.remove(&key) else {
            return None;
        };
        let (group, protocol) = key;
        self.release(*session.channel());
        self.speeds.remove(&key);
        let tally = session.tally();
        context.close(session.file().id);
        context.count("session", "ended");
        context.counters.add("session", "multicast_blocks", tally.multicast);
        context.counters.add("session", "unicast_blocks", tally.unicast);
        context.counters.add("session", "spare_blocks", tally.spare);
        context.tell(Event::SessionEnded { group, protocol, file: file.clone(), tally });
        match protocol {
            Protocol::Ipxe | Protocol::PxeMtftp => {
                let (traces, slow) = session.into_memory();
                let keep = if slow.is_empty() { TRACE_KEEP } else { SLOW_KEEP };
                self.ended.insert(group, Ended { file, at: now, traces, slow });
                self.deadlines.arm(key, now + keep, "a session is forgotten");
            }
            Protocol::Rfc2090 => self.deadlines.disarm(&key),
        }
        (!self.is_running(group)).then_some(group)
    }
}

/// What the client takes at most, in bytes.
fn block_size_of(request: &Request) -> u16 {
    request.options.block_size.unwrap_or(BLOCK_SIZE_DEFAULT)
}

fn open(session: &mut Running, now: Time, (client, request): &Waiting, context: &mut Context) {
    let asked = request.as_ref().map(|request| &request.options);
    let granted = Options {
        block_size: asked.and_then(|asked| asked.block_size).map(|_| session.channel().block_size),
        transfer_size: asked.and_then(|asked| asked.transfer_size).map(|_| session.file().size),
        timeout_seconds: asked.and_then(|asked| asked.timeout_seconds),
        ..Options::default()
    };
    let group = GroupAddr::new(*session.channel().group.ip());
    if let Some(group) = group {
        // First: what goes out on its account counts.
        context.told.on_open(now, *client.ip(), group);
    }
    let decline = |why, context: &mut Context| {
        if let Some(group) = group {
            context.told.declined(*client.ip(), group, why);
        }
    };
    match session.on_open(now, *client, granted, context) {
        Opened::Listed => context.count("session", "open"),
        Opened::Repeated => context.count("session", "open_repeated"),
        Opened::Refused => {
            context.count("session", "too_many_openers");
            decline(Declined::NoRoom, context);
        }
        Opened::Dropped => {
            context.count("session", "dropped_to_unicast");
            decline(Declined::Slow, context);
        }
    }
}
