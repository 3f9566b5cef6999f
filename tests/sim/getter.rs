//! `mtftp-get`'s machine on a host of the simulator.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

use driver::{Arrival, Deadline, Draw, Role, Time, Transmit, Wall};
use mtftp::client::{self, Action, Failure, Fetch, Source, Wanted};

use crate::program::{Door, Effect, Program};

/// The first port that it gets when it asks for any.
const FIRST_PORT: u16 = 40_000;

/// Datagrams that wait for a slow client; its kernel drops the rest.
const BACKLOG_MAX: usize = 64;

/// What a datagram that waits is: by which door, from whom, and its bytes.
type Waiting = (client::Door, SocketAddrV4, Vec<u8>);

/// A client that fetches one file as soon as its host starts.
#[derive(Debug)]
pub struct Getter {
    wanted: Wanted,
    fetch: Option<Fetch>,
    /// The ports it was given, the newest last. What it sent from an older one stays sent from there.
    ports: Vec<u16>,
    group: Option<SocketAddrV4>,
    out: VecDeque<Transmit>,
    /// How long it works at each datagram.
    works: Duration,
    backlog: VecDeque<Waiting>,
    /// When it has done with the datagram before.
    free_at: Time,
    /// The file so far.
    pub image: Vec<u8>,
    /// When and how it ended.
    pub ended: Option<(Time, Result<Source, Failure>)>,
}

impl Getter {
    /// A client that wants this.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            fetch: None,
            ports: Vec::new(),
            group: None,
            out: VecDeque::new(),
            works: Duration::ZERO,
            backlog: VecDeque::new(),
            free_at: Time::ZERO,
            image: Vec::new(),
            ended: None,
        }
    }

    /// The same on a machine that works so long at each datagram.
    #[must_use]
    pub fn slow(self, works: Duration) -> Self {
        Self { works, ..self }
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> client::Counts {
        self.fetch.as_ref().map(Fetch::counts).unwrap_or_default()
    }

    /// Takes what waits, each in its time.
    fn work(&mut self, now: Time) {
        while self.free_at + self.works <= now
            && let Some((door, from, bytes)) = self.backlog.pop_front()
        {
            self.free_at = self.free_at + self.works;
            if let Some(fetch) = &mut self.fetch {
                fetch.on_datagram(now, door, from, &bytes);
            }
            self.carry_out(now);
        }
    }

    fn own(&self) -> Role {
        Role::Stream(u16::try_from(self.ports.len()).unwrap_or(u16::MAX))
    }

    fn carry_out(&mut self, now: Time) {
        while let Some(action) = self.fetch.as_mut().and_then(Fetch::poll_action) {
            match action {
                Action::Bind(0) => {
                    let count = u16::try_from(self.ports.len()).unwrap_or(0);
                    self.ports.push(FIRST_PORT + count);
                }
                Action::Bind(port) => self.ports.push(port),
                Action::Join(group) => self.group = Some(group),
                Action::Leave => self.group = None,
                Action::Send(to, bytes) => self.out.push_back(Transmit { role: self.own(), to, bytes }),
                Action::Store(offset, bytes) => {
                    let start = usize::try_from(offset).expect("a small file");
                    let end = start + bytes.len();
                    if self.image.len() < end {
                        self.image.resize(end, 0);
                    }
                    self.image.splice(start..end, bytes);
                }
                Action::Restart => self.image.clear(),
                Action::End(result) => self.ended = Some((now, result)),
            }
        }
    }
}

impl Program for Getter {
    fn start(&mut self, now: Time, _wall: Wall, _draw: Draw) {
        self.fetch = Some(Fetch::new(self.wanted.clone(), now));
        self.carry_out(now);
    }

    fn crash(&mut self, _draw: &mut Draw) {
        self.fetch = None;
    }

    fn doors(&self) -> Vec<Door> {
        let ports = (1..).zip(&self.ports).map(|(number, port)| Door::unicast(Role::Stream(number), *port));
        let group = self.group.map(|group| Door {
            role: Role::Mtftp(group.port()),
            port: group.port(),
            own: false,
            groups: vec![*group.ip()],
        });
        ports.chain(group).collect()
    }

    fn on_datagram(&mut self, now: Time, _wall: Wall, arrival: &Arrival<'_>) {
        let door = if arrival.to.is_multicast() { client::Door::Group } else { client::Door::Own };
        if door == client::Door::Own && arrival.role != self.own() {
            return;
        }
        if self.backlog.len() < BACKLOG_MAX {
            self.free_at = self.free_at.max(now);
            self.backlog.push_back((door, arrival.from, arrival.bytes.to_vec()));
        }
        self.work(now);
    }

    fn on_timeout(&mut self, now: Time) {
        self.work(now);
        if let Some(fetch) = &mut self.fetch {
            fetch.on_timeout(now);
        }
        self.carry_out(now);
    }

    fn drain(&mut self, tells: bool) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.out.drain(..).map(Effect::Send).collect();
        if let (true, Some((_, how))) = (tells, &self.ended) {
            effects.push(Effect::Tell(format!("{how:?}, {} bytes", self.image.len())));
        }
        effects
    }

    fn next_deadline(&self) -> Option<Deadline> {
        let work = Deadline { at: self.free_at + self.works, why: "a slow client has done with a datagram" };
        let work = (!self.backlog.is_empty()).then_some(work);
        Deadline::earliest(self.fetch.as_ref().and_then(Fetch::next_deadline), work)
    }
}
