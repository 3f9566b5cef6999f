//! The sessions of all addresses, and what is remembered of those that ended.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Deadline, Deadlines, Role, Time};
use wire::configure::Ports;
use wire::tftp::{ErrorCode, MTFTP_FILE_SIZE_MAX};
use wire::{FileName, GroupAddr};

use super::action::{Event, FileError, FileFacts, FileId, FileTicket};
use super::context::Context;
use super::plain::refuse;
use super::session::{Opened, Session};
use super::trace::Trace;
use crate::limits::{OPENERS_MAX, SESSION_SILENCE, SESSIONS_MAX, TRACE_KEEP};

/// The shell looks the file up; who opened meanwhile waits.
#[derive(Debug)]
struct Looking {
    ticket: FileTicket,
    role: Role,
    group: SocketAddrV4,
    waiting: Vec<SocketAddrV4>,
}

#[derive(Debug)]
enum State {
    Looking(Looking),
    Running(Box<Session>),
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
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    entries: BTreeMap<GroupAddr, Entry>,
    ended: BTreeMap<GroupAddr, Ended>,
    deadlines: Deadlines<GroupAddr>,
}

impl Sessions {
    pub(crate) fn is_running(&self, group: GroupAddr) -> bool {
        self.entries.contains_key(&group)
    }

    pub(crate) fn running(&self, group: GroupAddr) -> Option<&Session> {
        match self.entries.get(&group) {
            Some(Entry { state: State::Running(session), .. }) => Some(session),
            Some(_) | None => None,
        }
    }

    /// Whether data of ours goes to this address, or went until just now.
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
        context: &mut Context,
    ) {
        let full = self.entries.len() >= SESSIONS_MAX;
        match self.entries.get_mut(&group) {
            None if full => context.count("session", "too_many_sessions"),
            None => {
                let ticket = context.open(file.clone());
                let looking = Looking {
                    ticket,
                    role: Role::Mtftp(ports.server),
                    group: SocketAddrV4::new(group.ip(), ports.client),
                    waiting: vec![client],
                };
                self.entries.insert(group, Entry { file, state: State::Looking(looking) });
            }
            Some(Entry { state: State::Looking(looking), .. }) => {
                if looking.waiting.len() < OPENERS_MAX && !looking.waiting.contains(&client) {
                    looking.waiting.push(client);
                }
            }
            Some(Entry { state: State::Running(session), .. }) => {
                open(session, now, client, context);
                self.after(now, group, context);
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
        let found = self.entries.iter().find_map(|(group, entry)| match &entry.state {
            State::Looking(looking) if looking.ticket == ticket => Some(*group),
            State::Looking(_) | State::Running(_) => None,
        })?;
        let Some(Entry { file, state: State::Looking(looking) }) = self.entries.remove(&found) else {
            return Some(found);
        };
        match result {
            Ok(facts) if facts.size <= MTFTP_FILE_SIZE_MAX => {
                let mut session = Session::new(now, facts, looking.role, looking.group);
                let mut waiting = looking.waiting.into_iter();
                if let Some(client) = waiting.next() {
                    context.tell(Event::SessionBegan { group: found, file: file.clone(), from: client });
                    context.count("session", "began");
                    open(&mut session, now, client, context);
                }
                for client in waiting {
                    open(&mut session, now, client, context);
                }
                self.entries.insert(found, Entry { file, state: State::Running(Box::new(session)) });
                self.after(now, found, context);
            }
            // Silence: the client falls back to plain TFTP and hears the reason there.
            Ok(facts) => {
                context.close(facts.id);
                context.count("session", "file_too_large");
            }
            Err(_) => context.count("session", "no_file"),
        }
        Some(found)
    }

    /// The session of which `client` is an opener, on this server port.
    fn of(&mut self, role: Role, client: SocketAddrV4) -> Option<(GroupAddr, &mut Session)> {
        self.entries.iter_mut().find_map(|(group, entry)| match &mut entry.state {
            State::Running(session) if session.role() == role && session.has(client) => {
                Some((*group, session.as_mut()))
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
        let Some((group, session)) = self.of(role, client) else {
            context.count("session", "ack_from_nobody");
            return None;
        };
        session.on_ack(now, client, block, context);
        self.after(now, group, context)
    }

    pub(crate) fn on_error(
        &mut self,
        now: Time,
        role: Role,
        client: SocketAddrV4,
        context: &mut Context,
    ) -> Option<GroupAddr> {
        let Some((group, session)) = self.of(role, client) else {
            context.count("session", "error_from_nobody");
            return None;
        };
        session.on_error(now, client, context);
        self.after(now, group, context)
    }

    /// Ends a session before its openers are done.
    pub(crate) fn cut(&mut self, now: Time, group: GroupAddr, context: &mut Context) -> Option<GroupAddr> {
        let entry = self.entries.get_mut(&group)?;
        match &mut entry.state {
            State::Running(session) => {
                context.count("session", "cut");
                session.cut();
                self.after(now, group, context)
            }
            State::Looking(_) => None,
        }
    }

    /// The file is not what it was: the session ends, and its openers hear an ERROR rather than mixed bytes.
    pub(crate) fn on_file_changed(
        &mut self,
        now: Time,
        file: FileId,
        context: &mut Context,
    ) -> Option<GroupAddr> {
        let (group, session) = self.entries.iter_mut().find_map(|(group, entry)| match &mut entry.state {
            State::Running(session) if session.file() == file => Some((*group, session)),
            State::Running(_) | State::Looking(_) => None,
        })?;
        context.count("session", "file_changed");
        let role = session.role();
        let clients: Vec<SocketAddrV4> = session.openers().collect();
        session.cut();
        for client in clients {
            refuse(role, client, ErrorCode::NOT_DEFINED, "the file changed", context);
        }
        self.after(now, group, context)
    }

    /// Whether a request on port 69 gets the ERROR instead of the file.
    pub(crate) fn refuses(
        &mut self,
        now: Time,
        group: GroupAddr,
        file: &FileName,
        client: SocketAddrV4,
    ) -> bool {
        if let Some(Entry { file: sent, state: State::Running(session) }) = self.entries.get_mut(&group)
            && sent == file
            && let Some(trace) = session.traces.get_mut(client.ip())
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
        while let Some(group) = self.deadlines.pop_due(now) {
            match self.entries.get_mut(&group) {
                Some(Entry { state: State::Running(session), .. }) => {
                    session.on_timeout(now, context);
                    over.extend(self.after(now, group, context));
                }
                Some(_) => {}
                None => {
                    self.ended.remove(&group);
                }
            }
        }
        over
    }

    /// Arms the session's deadline, or ends it. Gives the address if it ended.
    fn after(&mut self, now: Time, group: GroupAddr, context: &mut Context) -> Option<GroupAddr> {
        let Some(Entry { state: State::Running(session), .. }) = self.entries.get(&group) else {
            return None;
        };
        if !session.is_over() {
            let next = session.next_deadline();
            self.deadlines.arm(group, next.at, next.why);
            return None;
        }
        let Some(Entry { file, state: State::Running(session) }) = self.entries.remove(&group) else {
            return None;
        };
        context.close(session.file());
        context.count("session", "ended");
        context.counters.add("session", "multicast_blocks", session.tally.multicast);
        context.counters.add("session", "unicast_blocks", session.tally.unicast);
        context.counters.add("session", "spare_blocks", session.tally.spare);
        context.tell(Event::SessionEnded { group, file: file.clone(), tally: session.tally });
        self.ended.insert(group, Ended { file, at: now, traces: session.traces });
        self.deadlines.arm(group, now + TRACE_KEEP, "a session is forgotten");
        Some(group)
    }
}

fn open(session: &mut Session, now: Time, client: SocketAddrV4, context: &mut Context) {
    match session.on_open(now, client, context) {
        Opened::Listed => context.count("session", "open"),
        Opened::Repeated => context.count("session", "open_repeated"),
        Opened::Refused => context.count("session", "too_many_openers"),
    }
}
