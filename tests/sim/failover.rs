//! A boot server dies that answers a client, and the client asks: how long until another one answers (R001.6).

use std::net::Ipv4Addr;
use std::time::Duration;

use driver::Time;
use peers::responder::Place;
use wire::dhcp::BootRequest;
use wire::pxe::BootItem;
use wire::{Layer, ServerType};

use crate::binld_host::BinldHost;
use crate::check::{Rules, Violation};
use crate::client::{Client, ClientKind, DISCOVERY_GROUP};
use crate::clock::Clock;
use crate::link::LinkFaults;
use crate::scenario::{Scenario, Wants, host};
use crate::seed::stream;
use crate::world::Fault;

/// What clients ask for.
pub const TYPE: u16 = 1;
/// Clients that ask in turn: their shards are spread over the boot servers.
const CLIENTS: u8 = 24;
/// After a start everybody knows everybody, and the file is held.
const SETTLED: Duration = Duration::from_secs(12);
/// After a death the others have settled, and the dead one is back.
const MENDED: Duration = Duration::from_secs(5);

/// Boot servers of one site, a file server, and clients that all of them hear.
#[derive(Debug)]
pub struct Site {
    /// The world.
    pub scenario: Scenario,
    /// The boot servers.
    pub binlds: Vec<usize>,
    /// The file servers, in order of preference.
    pub mtftps: Vec<usize>,
    /// The clients.
    pub clients: Vec<usize>,
}

impl Site {
    /// So many boot servers with one configuration, and two file servers with the file; all are settled.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn new(seed: u64, binlds: u8, faults: LinkFaults) -> Result<Self, Violation> {
        let mut scenario = Scenario::new(seed, faults, Rules::Ours);
        let true_clock = Clock::new(0, 0);
        let servers = [host(101), host(102)];
        let mtftps = servers.map(|server| scenario.mtftp(server, &["f"], true_clock, Time::ZERO)).to_vec();
        let wants = [Wants::pinned(TYPE, "f", &servers)];
        let start = |number: u8| scenario.binld(host(number), &wants, true_clock, Time::ZERO);
        let binlds: Vec<usize> = (1..=binlds).map(start).collect();
        let ask = |number: u8| {
            let address = Ipv4Addr::new(10, 0, 1, number);
            scenario.client(address, ClientKind::Ipxe, TYPE, &[DISCOVERY_GROUP], Vec::new())
        };
        let clients = (1..=CLIENTS).map(ask).collect();
        let mut site = Self { scenario, binlds, mtftps, clients };
        site.scenario.world.run_for(SETTLED)?;
        Ok(site)
    }

    /// The boot server that answers that client, if there is just one.
    #[must_use]
    pub fn responder_of(&self, client: usize) -> Option<usize> {
        let client = self.scenario.world.nodes[client].program::<Client>()?;
        let request = BootRequest::decode(&client.request()).ok()?;
        let wanted = BootItem { server_type: ServerType(TYPE), layer: Layer(0) };
        let answers = |node: &&usize| {
            let host = &self.scenario.world.nodes[**node];
            let engine = host.program::<BinldHost>().and_then(BinldHost::engine).filter(|_| host.is_up());
            engine.is_some_and(|engine| engine.place(&request, wanted) == Place::Responder)
        };
        let mut all = self.binlds.iter().filter(answers);
        all.next().copied().filter(|_| all.next().is_none())
    }

    /// The client asks now.
    pub fn ask(&mut self, client: usize) {
        let now = self.scenario.world.now();
        let node = &mut self.scenario.world.nodes[client];
        let local = node.local(now);
        if let Some(client) = node.program_mut::<Client>() {
            client.start_at(local);
        }
        self.scenario.world.poke(client);
    }

    /// When the client's last boot was answered, and by whom; `None` if it was not, or is not over.
    #[must_use]
    pub fn answer(&self, client: usize, after: Time) -> Option<(Time, Ipv4Addr)> {
        let boot = self.scenario.boots(client).last().filter(|boot| boot.began_at >= after)?;
        boot.answered.as_ref().map(|(at, reply)| (*at, *reply.from.ip()))
    }

    /// Something happens now.
    pub fn happen(&mut self, fault: Fault) {
        self.scenario.world.at(self.scenario.world.now(), fault);
    }

    /// Its responder dies and the client asks; gives how long until it is answered, `None` if it never is.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn kill_and_ask(&mut self, client: usize) -> Result<Option<Duration>, Violation> {
        let Some(responder) = self.responder_of(client) else { return Ok(None) };
        let began_at = self.scenario.world.now();
        self.happen(Fault::Crash(responder));
        self.ask(client);
        self.scenario.world.run_for(Duration::from_millis(3100))?;
        let answered = self.answer(client, began_at).map(|(at, _)| at.since(began_at));
        self.happen(Fault::Start(responder));
        self.scenario.world.run_for(MENDED)?;
        Ok(answered)
    }
}

/// How long the next answer took in so many deaths at one site, drawn from that seed; in order, `None` last.
///
/// # Errors
/// The first rule that did not hold.
pub fn deaths(seed: u64, count: u32) -> Result<Vec<Option<Duration>>, Violation> {
    let mut draw = stream(seed, "deaths");
    let mut site = Site::new(seed, 2 + draw.below(7) as u8, LinkFaults::NONE)?;
    let mut spans = Vec::new();
    for _ in 0..count {
        // At any moment between two inquiries.
        site.scenario.world.run_for(draw.jitter(Duration::from_millis(300)))?;
        let client = site.clients[draw.below(site.clients.len() as u64) as usize];
        spans.push(site.kill_and_ask(client)?);
    }
    Ok(spans)
}
