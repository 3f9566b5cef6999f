//! A scenario and its faults, drawn from a seed: which faults there are at all is drawn too, so that runs with nothing
//! but duplicates, or nothing but crashes, occur.

use std::net::Ipv4Addr;
use std::time::Duration;

use binld::engine::Legacy as LegacyPeers;
use driver::{Draw, Time};
use wire::{Content, GroupAddr};

use crate::answers::Doubles;
use crate::check::{Rules, Violation};
use crate::client::{Client, ClientKind, DISCOVERY_GROUP};
use crate::clock::Clock;
use crate::legacy::LegacyPlan;
use crate::link::{Bursts, LinkFaults};
use crate::scenario::{PINNED, QUERY, Scenario, Wants, catalog, group, host, name};
use crate::seed::stream;
use crate::world::Fault;

/// Faults happen in this span.
const TROUBLE: Duration = Duration::from_secs(400);
/// Then everything is mended, and this is how long the servers have to get over it.
const MENDING: Duration = Duration::from_secs(60);
/// Then one client for each boot item asks, and is answered before it gives up.
const PROBING: Duration = Duration::from_secs(5);
/// Then it becomes quiet: a restarted MTFTP server releases nothing for 90 s, and deletes are repeated every 10 s.
const SETTLING: Duration = Duration::from_secs(135);
/// Before that, in half of the seeds, the domain is cut in two for up to so long, on a link without faults.
const PARTING: Duration = Duration::from_secs(120);

/// One world of so many has more than eight boot servers, up to 32.
const LARGE_SHARE: u64 = 16;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The first rule that did not hold.
    pub violation: Option<Violation>,
    /// Steps made.
    pub steps: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Duplicates that losses, or the rules of a legacy peer, explain.
    pub explained: u64,
    /// Whether a legacy peer takes part.
    pub legacy: bool,
    /// Comparisons of MTFTP servers with the reference model.
    pub compared: u64,
    /// Answers to clients, and those of them that named a group address.
    pub answers: (u64, u64),
    /// Answers of two servers to one question.
    pub doubles: Doubles,
    /// How long the members took at most to know the same, while nothing was wrong.
    pub converged_within: Duration,
    /// Boot servers and MTFTP servers.
    pub members: usize,
}

struct Draft {
    scenario: Scenario,
    mix: Draw,
    discovery: Draw,
    binlds: Vec<(usize, Ipv4Addr, Vec<Wants>)>,
    daemons: Vec<usize>,
    clients: u8,
    legacy: Option<usize>,
    /// Nothing at all goes wrong.
    faultless: bool,
}

/// Plays the scenario of that seed; `tracing` prints every event.
#[must_use]
pub fn play(seed: u64, rules: Rules, tracing: bool) -> Outcome {
    let mut draft = furnish(seed, rules);
    draft.scenario.world.tracing = tracing;
    draft.plan_clients();
    draft.plan_faults();
    draft.plan_rare_faults();
    draft.plan_partitions();
    draft.plan_legacy();
    let violation = draft.run().err();
    let world = &draft.scenario.world;
    Outcome {
        violation,
        steps: world.steps,
        simulated: Duration::from_nanos(world.now().as_nanos()),
        explained: world.checks.explained,
        legacy: draft.legacy.is_some(),
        compared: world.ledger.compared,
        answers: (world.replies.count, world.replies.multicast),
        doubles: world.replies.answers.doubles,
        converged_within: world.converged_within(),
        members: draft.daemons.len(),
    }
}

fn faults(mix: &mut Draw) -> LinkFaults {
    let mut pick = |most: u64| if mix.below(2) == 0 { 0 } else { mix.below(most) as u32 };
    let mut faults = LinkFaults {
        loss_ppm: pick(200_000),
        duplicate_ppm: pick(50_000),
        corrupt_ppm: pick(10_000),
        truncate_ppm: pick(5_000),
        tail_ppm: pick(10_000),
        tail_max: Duration::from_secs(1),
        ..LinkFaults::NONE
    };
    let (begin_ppm, longest) = (pick(20_000), Duration::from_secs(1));
    if begin_ppm > 0 {
        faults.bursts = Some(Bursts { begin_ppm, longest, loss_ppm: 900_000 });
    }
    faults
}

fn clock(mix: &mut Draw) -> Clock {
    Clock::new(mix.below(601) as i32 - 300, mix.below(120_001).cast_signed() - 60_000)
}

fn furnish(seed: u64, rules: Rules) -> Draft {
    let mut mix = stream(seed, "mix");
    let mut faults = faults(&mut mix);
    let mut joins = stream(seed, "joins");
    if joins.below(4) == 0 {
        faults.join_max = Duration::from_secs(2);
    }
    // One seed in sixteen has a good network and sound hosts.
    let faultless = stream(seed, "faultless").below(16) == 0;
    if faultless {
        faults = LinkFaults::NONE;
    }
    let mut scenario = Scenario::new(seed, faults, rules);
    scenario.world.expect_convergence();
    // Who has just begun cannot know of a legacy peer that is there.
    if has_legacy(&mut stream(seed, "legacy")) {
        scenario.legacy_peers = LegacyPeers::default();
    }
    // Crowded, so that servers meet; or with room, so that nobody may ever run out of addresses.
    let crowded = mix.below(2) == 0;
    scenario.pool = (1, if crowded { 1 + mix.below(4) as u8 } else { 64 });
    let (few, mtftps) = (2 + mix.below(7) as u8, 1 + mix.below(3) as u8);
    let binlds = many(seed).unwrap_or(few);
    // On a machine of their own, or each next to a boot server.
    let first = if mix.below(2) == 0 { 1 } else { 101 };
    let servers: Vec<Ipv4Addr> = (0..mtftps).map(|number| host(first + number)).collect();
    let mut daemons = Vec::new();
    for server in &servers {
        let start_at = Time::ZERO + mix.jitter(Duration::from_millis(50));
        daemons.push(scenario.mtftp(*server, &["f", "g", "h"], clock(&mut mix), start_at));
    }
    let mut placed: Vec<(usize, Ipv4Addr, Vec<Wants>)> = Vec::new();
    // Where all want the same there is nothing for the source's rules to break.
    let alike = rules == Rules::Ours && stream(seed, "alike").below(2) == 0;
    for number in 1..=binlds {
        let mut wants: Vec<Wants> = (0..=mix.below(2)).map(|item| wants(&mut mix, item, &servers)).collect();
        // One site, one configuration; or each its own.
        if let Some((_, _, first)) = placed.first().filter(|_| alike) {
            wants = Vec::clone(first);
        }
        // All at once, as after a power cut, or one after the other.
        let spread = Duration::from_millis(if mix.below(2) == 0 { 20 } else { 5000 });
        let start_at = Time::ZERO + mix.jitter(spread);
        let node = scenario.binld(host(number), &wants, clock(&mut mix), start_at);
        daemons.push(node);
        placed.push((node, host(number), wants));
    }
    let discovery = stream(seed, "discovery");
    Draft { scenario, mix, discovery, binlds: placed, daemons, clients: 0, legacy: None, faultless }
}

/// How many boot servers a large world has. Few worlds are large: what members say to each other grows with the square
/// of their number, and with it the time that a seed takes.
fn many(seed: u64) -> Option<u8> {
    let mut draw = stream(seed, "members");
    (draw.below(LARGE_SHARE) == 0).then(|| 9 + draw.below(24) as u8)
}

/// The first draw of the legacy peer's stream: whether there is one.
fn has_legacy(draw: &mut Draw) -> bool {
    draw.below(2) != 0
}

fn wants(mix: &mut Draw, item: u64, servers: &[Ipv4Addr]) -> Wants {
    let file = ["f", "g", "h"][mix.below(3) as usize];
    let first = mix.below(servers.len() as u64) as usize;
    let mut chosen: Vec<Ipv4Addr> = servers.to_vec();
    chosen.rotate_left(first);
    chosen.truncate(1 + mix.below(2) as usize);
    let server_type = 1 + item as u16;
    let wants = if mix.below(2) == 0 {
        Wants::pinned(server_type, file, &chosen)
    } else {
        Wants::dynamic(server_type, file, &chosen)
    };
    Wants { preclear: mix.below(3) > 0, ..wants }
}

impl Draft {
    fn client(
        &mut self,
        kind: ClientKind,
        server_type: u16,
        servers: &[Ipv4Addr],
        starts: Vec<Time>,
    ) -> usize {
        self.clients += 1;
        let address = Ipv4Addr::new(10, 0, 1, self.clients);
        self.scenario.client(address, kind, server_type, servers, starts)
    }

    fn plan_clients(&mut self) {
        for _ in 0..2 + self.mix.below(4) {
            let kinds = [ClientKind::Ipxe, ClientKind::Ipxe, ClientKind::Rom, ClientKind::Uefi];
            let kind = kinds[self.mix.below(4) as usize];
            let first = self.mix.below(self.binlds.len() as u64) as usize;
            let mut servers: Vec<Ipv4Addr> = self.binlds.iter().map(|(_, address, _)| *address).collect();
            servers.rotate_left(first);
            let server_type = 1 + self.mix.below(2) as u16;
            // Half of them ask all at once, three times.
            if self.discovery.below(2) == 0 {
                servers = vec![DISCOVERY_GROUP; 3];
            }
            let mut starts: Vec<Time> =
                (0..3 + self.mix.below(8)).map(|_| Time::ZERO + self.mix.jitter(TROUBLE)).collect();
            starts.sort();
            self.client(kind, server_type, &servers, starts);
        }
    }

    /// What goes wrong besides the link.
    fn plan_faults(&mut self) {
        let mut draw = stream(self.scenario.world.seed, "faults");
        if self.faultless {
            return;
        }
        let kinds: Vec<bool> = (0..6).map(|_| draw.below(2) == 0).collect();
        let daemons = self.daemons.clone();
        let pick = |draw: &mut Draw| daemons[draw.below(daemons.len() as u64) as usize];
        for _ in 0..draw.below(16) {
            let at = Time::ZERO + draw.jitter(TROUBLE);
            let world = &mut self.scenario.world;
            let kind = draw.below(6) as usize;
            if !kinds[kind] {
                continue;
            }
            match kind {
                0 => {
                    let node = pick(&mut draw);
                    world.at(at, Fault::Crash(node));
                    world.at(at + draw.jitter(Duration::from_secs(60)), Fault::Start(node));
                }
                1 => world.at(at, Fault::Pause(pick(&mut draw), draw.jitter(Duration::from_secs(3)))),
                2 => {
                    for _ in 0..=draw.below(3) {
                        world.at(at, Fault::Cut(pick(&mut draw), pick(&mut draw)));
                    }
                    world.at(at + draw.jitter(Duration::from_secs(60)), Fault::Heal);
                }
                3 => {
                    let by_ms = draw.below(1_200_001).cast_signed() - 600_000;
                    world.at(at, Fault::WallStep(pick(&mut draw), by_ms));
                }
                4 => {
                    let which = draw.below(self.binlds.len() as u64) as usize;
                    let (node, _, wants) = &self.binlds[which];
                    // One item leaves, for a moment or for minutes; at the end all are there again.
                    let fewer: Vec<Wants> = wants.iter().skip(1).cloned().collect();
                    let longest = if draw.below(2) == 0 { TROUBLE } else { Duration::from_secs(5) };
                    let back_at = at + draw.jitter(longest);
                    world.at(at, Fault::Reload(*node, catalog(&fewer)));
                    world.at(back_at.min(Time::ZERO + TROUBLE), Fault::Reload(*node, catalog(wants)));
                }
                _ => {
                    world.at(at, Fault::StoreFails(draw.below(1_000_001) as u32));
                    world.at(at + draw.jitter(Duration::from_secs(30)), Fault::StoreFails(0));
                }
            }
        }
    }

    /// Switches that forget groups, disks that are replaced, kernels without room for what comes in.
    fn plan_rare_faults(&mut self) {
        let mut draw = stream(self.scenario.world.seed, "rare faults");
        if self.faultless {
            return;
        }
        let daemons = self.daemons.clone();
        let world = &mut self.scenario.world;
        if draw.below(4) == 0 {
            for _ in 0..=draw.below(3) {
                let node = daemons[draw.below(daemons.len() as u64) as usize];
                let at = Time::ZERO + draw.jitter(TROUBLE);
                world.at(at, Fault::Prune(node, draw.jitter(Duration::from_secs(60))));
            }
        }
        if draw.below(8) == 0 {
            let node = daemons[draw.below(daemons.len() as u64) as usize];
            let at = Time::ZERO + draw.jitter(TROUBLE);
            world.at(at, Fault::Crash(node));
            world.at(at, Fault::LoseStore(node));
            world.at(at + draw.jitter(Duration::from_secs(30)), Fault::Start(node));
        }
        if draw.below(4) == 0 {
            for _ in 0..=draw.below(4) {
                let node = daemons[draw.below(daemons.len() as u64) as usize];
                let at = Time::ZERO + draw.jitter(TROUBLE);
                world.at(at, Fault::Deaf(node, draw.jitter(Duration::from_secs(3))));
            }
        }
    }

    /// The domain in two parts, in the midst of everything else: in a quarter of the seeds.
    fn plan_partitions(&mut self) {
        let mut draw = stream(self.scenario.world.seed, "partitions");
        if self.faultless || draw.below(4) > 0 {
            return;
        }
        for _ in 0..=draw.below(3) {
            let at = Time::ZERO + draw.jitter(TROUBLE);
            self.part(&mut draw, at);
            self.scenario.world.at(at + draw.jitter(PARTING), Fault::Heal);
        }
    }

    /// Nothing of one part reaches the other, nor the other way.
    fn part(&mut self, draw: &mut Draw, at: Time) {
        let sides: Vec<(usize, bool)> = self.daemons.iter().map(|node| (*node, draw.below(2) == 0)).collect();
        for (from, side) in &sides {
            for (to, _) in sides.iter().filter(|(_, other)| other != side) {
                self.scenario.world.at(at, Fault::Cut(*from, *to));
            }
        }
    }

    /// Nothing is wrong but that: 5 s after its end all know the same again (I6).
    fn part_and_heal(&mut self) -> Result<(), Violation> {
        let mut draw = stream(self.scenario.world.seed, "parted");
        if self.faultless || draw.below(2) == 0 {
            return Ok(());
        }
        let now = self.scenario.world.now();
        self.part(&mut draw, now);
        self.scenario.world.run_for(draw.jitter(PARTING))?;
        let now = self.scenario.world.now();
        self.scenario.world.at(now, Fault::Heal);
        self.scenario.world.run_for(MENDING)?;
        self.scenario.world.checks.expect_one_content_each(self.scenario.world.now());
        Ok(())
    }

    /// A peer that knows only the source document, in half of the seeds. It has an address of its own, takes its
    /// addresses from the front of our pool or wants the pinned one, and may be restarted.
    fn plan_legacy(&mut self) {
        let mut draw = stream(self.scenario.world.seed, "legacy");
        if !has_legacy(&mut draw) {
            return;
        }
        let pool: Vec<GroupAddr> = (1..=self.scenario.pool.1).map(group).collect();
        let pinned = GroupAddr::new(PINNED).into_iter().collect();
        let address = host(99);
        let content = Content { server: address, file: name("legacy") };
        let candidates = if draw.below(3) == 0 { pinned } else { pool };
        let mut plan = LegacyPlan::literal(QUERY, content, candidates);
        let latest = if draw.below(2) == 0 { Duration::from_secs(2) } else { TROUBLE };
        plan.asked_after = draw.jitter(latest);
        let node = self.scenario.legacy(address, plan, Time::ZERO);
        self.legacy = Some(node);
        if draw.below(4) == 0 {
            let at = Time::ZERO + draw.jitter(TROUBLE);
            self.scenario.world.at(at, Fault::Crash(node));
            self.scenario.world.at(at + draw.jitter(Duration::from_secs(60)), Fault::Start(node));
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        self.scenario.world.run_for(TROUBLE)?;
        let now = self.scenario.world.now();
        let world = &mut self.scenario.world;
        world.at(now, Fault::Heal);
        world.at(now, Fault::Link(LinkFaults::NONE));
        world.at(now, Fault::StoreFails(0));
        for node in self.daemons.iter().chain(&self.legacy) {
            world.at(now, Fault::Start(*node));
        }
        world.run_for(MENDING)?;
        world.checks.expect_one_content_each(world.now());
        self.part_and_heal()?;
        self.probe()?;
        self.scenario.world.run_for(SETTLING)?;
        self.scenario.world.expect_quiet();
        if self.faultless && self.legacy.is_none() {
            self.scenario.world.expect_no_duplicates();
        }
        self.scenario.world.checks.violations.first().cloned().map_or(Ok(()), Err)
    }

    /// Every boot item is there for its clients again.
    fn probe(&mut self) -> Result<(), Violation> {
        let now = self.scenario.world.now();
        let mut probes = Vec::new();
        for (node, address, wants) in self.binlds.clone() {
            for wants in wants {
                let kind = if wants.pinned { ClientKind::Ipxe } else { ClientKind::Rom };
                probes.push((node, self.client(kind, wants.server_type, &[address], vec![Time::ZERO])));
            }
        }
        self.scenario.world.run_for(PROBING)?;
        for (node, probe) in probes {
            let client = self.scenario.world.nodes[probe].program::<Client>();
            let answered = client.is_some_and(|it| it.boots.iter().any(|boot| boot.answered.is_some()));
            if !answered {
                let name = &self.scenario.world.nodes[node].name;
                let text = format!("{name} does not answer a client 60 s after everything was mended");
                return Err(Violation { at: now, rule: "liveness", text });
            }
        }
        Ok(())
    }
}
