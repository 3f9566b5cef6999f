//! A client's sockets, and what its machine wants done with them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::BorrowedFd;

use anyhow::Context;
use driver::clock::Clock;
use driver::udp::{DATAGRAM_BYTES_MAX, DoorSpec, Doors, Interface};
use driver::{Role, Time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::sink::Store;
use crate::client::discovery::{Asked, Discovery, Found};
use crate::client::{Action, Counts, Door, Failure, Fetch, Source, Wanted};

/// Datagrams taken before the deadlines have their turn.
const BATCH_MAX: usize = 256;

/// A client that runs.
pub(super) struct Running<S> {
    interface: Interface,
    began_at: Time,
    fetch: Fetch,
    own: Option<Doors>,
    group: Option<Doors>,
    sink: S,
    result: Option<Result<Source, Failure>>,
    buffer: Box<[u8; DATAGRAM_BYTES_MAX + 1]>,
}

impl<S: Store> Running<S> {
    /// # Errors
    /// If a socket cannot be had.
    pub(super) fn start(interface: &Interface, wanted: Wanted, sink: S, now: Time) -> anyhow::Result<Self> {
        let mut running = Self {
            interface: interface.clone(),
            began_at: now,
            fetch: Fetch::new(wanted, now),
            own: None,
            group: None,
            sink,
            result: None,
            buffer: Box::new([0; DATAGRAM_BYTES_MAX + 1]),
        };
        running.carry_out()?;
        Ok(running)
    }

    pub(super) fn counts(&self) -> Counts {
        self.fetch.counts()
    }

    pub(super) fn take_result(&mut self) -> Option<Result<Source, Failure>> {
        self.result.take()
    }

    pub(super) fn into_sink(self) -> S {
        self.sink
    }

    pub(super) fn began_at(&self) -> Time {
        self.began_at
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.fetch.next_deadline().is_some_and(|due| due.at <= now)
    }

    /// The time is over: it fails, unless it has ended already.
    ///
    /// # Errors
    /// None that ending could have; those of [`Self::turn`].
    pub(super) fn stop(&mut self, now: Time) -> anyhow::Result<()> {
        self.fetch.stop(now);
        self.carry_out()
    }

    /// Takes what came, and lets time pass.
    ///
    /// # Errors
    /// If a socket cannot be had, or the file cannot be written.
    pub(super) fn turn(&mut self, clock: &Clock) -> anyhow::Result<()> {
        for _ in 0..BATCH_MAX {
            let Some((door, from, len)) = self.receive() else { break };
            let bytes = self.buffer.get(..len).unwrap_or_default();
            self.fetch.on_datagram(clock.now(), door, from, bytes);
            self.carry_out()?;
        }
        self.fetch.on_timeout(clock.now());
        self.carry_out()
    }

    /// The group first: it carries the file.
    fn receive(&mut self) -> Option<(Door, SocketAddrV4, usize)> {
        for (door, doors) in [(Door::Group, &self.group), (Door::Own, &self.own)] {
            if let Some((_, from, len)) = doors.as_ref().and_then(|doors| doors.receive(&mut self.buffer)) {
                return Some((door, from, len));
            }
        }
        None
    }

    fn carry_out(&mut self) -> anyhow::Result<()> {
        while let Some(action) = self.fetch.poll_action() {
            match action {
                Action::Bind(port) => self.own = Some(self.open(Role::Transfer, port, None)?),
                Action::Join(group) => {
                    let doors = self.open(Role::Mtftp(group.port()), group.port(), Some(*group.ip()))?;
                    self.group = Some(doors);
                }
                Action::Leave => self.group = None,
                Action::Send(to, bytes) => {
                    if let Some(own) = &self.own {
                        own.send_to(Role::Transfer, to, &bytes);
                    }
                }
                Action::Store(offset, bytes) => self.sink.store(offset, &bytes)?,
                Action::Restart => self.sink.restart()?,
                Action::End(result) => self.result = Some(result),
            }
        }
        Ok(())
    }

    fn open(&self, role: Role, port: u16, group: Option<Ipv4Addr>) -> anyhow::Result<Doors> {
        open(&self.interface, role, port, group)
    }
}

fn open(interface: &Interface, role: Role, port: u16, group: Option<Ipv4Addr>) -> anyhow::Result<Doors> {
    let spec = DoorSpec {
        role,
        address: interface.address,
        port,
        own: group.is_none(),
        groups: group.into_iter().collect(),
        broadcast: false,
    };
    Doors::open(interface, &[spec], 1)
}

/// Asks boot servers until `end`; gives what one answered, and how many wait packets came before.
///
/// # Errors
/// If a socket cannot be had.
pub(super) fn discover(
    interface: &Interface,
    mut discovery: Discovery,
    clock: &Clock,
    end: Time,
) -> anyhow::Result<Option<(Found, u32)>> {
    let doors = open(interface, Role::Discovery, 0, None)?;
    let mut buffer = Box::new([0; DATAGRAM_BYTES_MAX + 1]);
    while clock.now() < end {
        let now = clock.now();
        let asked = match doors.receive(&mut buffer) {
            Some((_, from, len)) => discovery.on_datagram(now, from, buffer.get(..len).unwrap_or_default()),
            None => discovery.on_timeout(now),
        };
        match asked {
            Some(Asked::Send(to, bytes)) => {
                doors.send_to(Role::Discovery, to, &bytes);
            }
            Some(Asked::Silence) => return Ok(None),
            Some(Asked::Found(found)) => return Ok(Some((found, discovery.waits()))),
            None => {
                let due = discovery.next_deadline().map_or(end, |deadline| deadline.at.min(end));
                wait_for(&mut doors.sockets().map(for_input).collect::<Vec<_>>(), clock.now(), due)?;
            }
        }
    }
    Ok(None)
}

/// Waits until something came for one of them, one of them is due, or `end`. Gives, for each, whether something came.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn wait<S>(clients: &[Running<S>], now: Time, end: Time) -> anyhow::Result<Vec<bool>> {
    let due = clients.iter().filter_map(|client| client.fetch.next_deadline()).map(|deadline| deadline.at);
    let until = due.min().map_or(end, |due| due.min(end));
    let mut sockets = Vec::new();
    let mut owners = Vec::new();
    for (place, client) in clients.iter().enumerate() {
        sockets.extend(client.own.iter().chain(&client.group).flat_map(Doors::sockets).map(for_input));
        owners.resize(sockets.len(), place);
    }
    wait_for(&mut sockets, now, until)?;
    let mut heard = vec![false; clients.len()];
    for (place, _) in owners.into_iter().zip(&sockets).filter(|(_, socket)| !socket.revents().is_empty()) {
        if let Some(heard) = heard.get_mut(place) {
            *heard = true;
        }
    }
    Ok(heard)
}

fn for_input(socket: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(socket, PollFlags::IN)
}

fn wait_for(sockets: &mut [PollFd<'_>], now: Time, until: Time) -> anyhow::Result<()> {
    let span = Timespec::try_from(until.since(now)).context("a time-out")?;
    match poll(sockets, Some(&span)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for datagrams"),
    }
}
