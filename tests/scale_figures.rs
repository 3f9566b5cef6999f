//! A domain of a thousand members under a boot storm, by simulation; part of `tests/bench`, beside the predictions of
//! `races.md` T9 and T13. Nothing is lost and nothing is checked but that no address carries two things.
//!
//! All members know everything, and each boot server that is asked for a file has a claim of its own to it: a thousand
//! that are all asked for fifty files make fifty million copies of records, more than one machine holds. So the clients
//! of the storm ask only some of the boot servers, and the rest are members like any other. A boot ROM takes the sender
//! of the answer for its file server (pxe.md A.8), and the files are elsewhere: it is told to load by plain TFTP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use binld::engine::claims::StateName;
use driver::Time;
use peers::limits::HELLO_SHARE;
use sim::binld_host::BinldHost;
use sim::clock::Clock;
use sim::node::Traffic;
use sim::program::{Program, Stage};
use sim::scenario::{Scenario, Wants, catalog};
use sim::seed::stream;
use sim::{ClientKind, Fault, LinkFaults, Rules};
use wire::record::{RecordKind, Uid};
use wire::{Content, GroupAddr};

use crate::line;

/// Members, unless the command line says otherwise.
pub(crate) const MEMBERS: u32 = 1000;
/// Boot servers that the clients ask.
pub(crate) const ASKED: u32 = 20;
/// MTFTP servers among the members: each takes 4096 references.
const FILE_SERVERS: u32 = 16;
const FILES: u16 = 50;
const CLIENTS: u32 = 100_000;
/// In which time they are told what to offer: so that the first ones clear, and the others share.
const TELLING: Duration = Duration::from_secs(10);
const STORM: Duration = Duration::from_secs(60);
/// Queries of a foreground clearing, and of one that all consent to.
const QUERIES: f64 = 4.0;
/// And the announcements after it.
const RECEPTIONS: f64 = 6.0;
const PATIENCE_MS: u64 = 120_000;
const TRUE_CLOCK: Clock = Clock::new(0, 0);

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + 256 * (number / 250) + 1 + number % 250)
}

fn file(number: u16) -> String {
    format!("f{number}")
}

fn wants(number: u16) -> Wants {
    let server = address(u32::from(number) % FILE_SERVERS);
    Wants::dynamic(1 + number, &file(number), &[server])
}

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() * 1024.0
}

struct Fleet {
    world: Scenario,
    /// Hosts of boot servers.
    binlds: Vec<usize>,
    /// All members.
    members: Vec<usize>,
    began: Instant,
}

impl Fleet {
    fn new(members: u32) -> Self {
        let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
        world.pool = (1, 254);
        world.world.make_light();
        let mut draw = stream(1, "starts");
        let names: Vec<String> = (0..FILES).map(file).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut fleet = Self { world, binlds: Vec::new(), members: Vec::new(), began: Instant::now() };
        for number in 0..members {
            let start_at = Time::ZERO + draw.jitter(Duration::from_secs(1));
            let node = if number < FILE_SERVERS {
                fleet.world.mtftp(address(number), &names, TRUE_CLOCK, start_at)
            } else {
                let node = fleet.world.binld(address(number), &[], TRUE_CLOCK, start_at);
                fleet.binlds.push(node);
                node
            };
            fleet.members.push(node);
        }
        fleet
    }

    /// Goes on until that is so; gives how long it took, if it came to that.
    fn until(&mut self, step_us: u64, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let began = self.world.world.now();
        while self.world.world.now().since(began) < Duration::from_millis(PATIENCE_MS) {
            if done(self) {
                return Some(self.world.world.now().since(began));
            }
            self.world.run_us(step_us);
        }
        None
    }

    fn all_know_the_same(&self) -> bool {
        let members = || self.members.iter().filter_map(|node| self.world.world.nodes.get(*node)?.member());
        let first = members().next().map(|(_, _, member)| member.records().digest());
        members().all(|(_, _, member)| Some(member.records().digest()) == first)
    }

    /// Members that have a record of every member.
    fn informed(&self) -> usize {
        let now = self.world.world.now();
        let knows_all = |node: &usize| {
            let known = self.world.world.nodes.get(*node).and_then(|node| {
                let (_, _, member) = node.member()?;
                Some(member.records().of_kind(RecordKind::Member, node.local(now)).count())
            });
            known == Some(self.members.len())
        };
        self.members.iter().filter(|node| knows_all(node)).count()
    }

    fn count(&self, name: &str) -> u64 {
        self.binlds.iter().map(|binld| self.world.counter(*binld, name)).sum()
    }

    fn traffic(&self) -> Vec<Traffic> {
        self.members.iter().filter_map(|node| Some(self.world.world.nodes.get(*node)?.traffic)).collect()
    }

    /// What a member sent and heard in a second since then: on average, and the busiest.
    fn print_traffic(&self, before: &[Traffic], span: Duration) {
        let now = self.traffic();
        let pairs = || now.iter().zip(before);
        let mean = |of: fn(&Traffic) -> u64| {
            let sum: u64 = pairs().map(|(now, then)| of(now) - of(then)).sum();
            sum as f64 / now.len() as f64 / span.as_secs_f64()
        };
        let most = |of: fn(&Traffic) -> u64| {
            pairs().map(|(now, then)| of(now) - of(then)).max().unwrap_or(0) as f64 / span.as_secs_f64()
        };
        for (what, datagrams, bytes) in [
            (
                "sent by a member",
                (|it| it.sent) as fn(&Traffic) -> u64,
                (|it| it.sent_bytes) as fn(&Traffic) -> u64,
            ),
            ("heard by a member", |it| it.heard, |it| it.heard_bytes),
        ] {
            let of_mean = format!("{:.1}/s, {:.1} kB/s", mean(datagrams), mean(bytes) / 1e3);
            let of_most = format!("{:.1}/s, {:.1} kB/s", most(datagrams), most(bytes) / 1e3);
            line(&format!("{what}: mean"), &of_mean, "-");
            line(&format!("{what}: busiest"), &of_most, "-");
        }
    }

    fn print_speed(&self) {
        let (steps, spent) = (self.world.world.steps, self.began.elapsed().as_secs_f64());
        line("lists compared so far", &self.count("domain.exchange").to_string(), "-");
        line("simulated so far", &format!("{:.1} million steps, {spent:.0} s", steps as f64 / 1e6), "-");
    }
}

fn of_option(span: Option<Duration>) -> String {
    span.map_or_else(|| "not at all".to_owned(), |span| format!("{:.3} s", span.as_secs_f64()))
}

fn gather(fleet: &mut Fleet, empty: f64) {
    let count = fleet.members.len();
    println!(
        "\nA domain of {count} members, {FILE_SERVERS} of them MTFTP servers, that all start within a second"
    );
    let informed = fleet.until(50_000, |fleet| fleet.informed() == count);
    line("every member knows every member after", &of_option(informed), "-");
    let same = fleet.until(1_000, Fleet::all_know_the_same);
    line("and all have the same records after another", &of_option(same), "<= 20 s");
    let per_member = (resident() - empty) / count as f64 / 1024.0;
    line("memory per member", &format!("{per_member:.0} KiB"), "-");
    fleet.print_speed();
    let before = fleet.traffic();
    // For six hello intervals after somebody appeared nobody asks by word.
    let settle = (HELLO_SHARE * 8 * u32::try_from(count).unwrap_or(0)).max(Duration::from_secs(30));
    fleet.world.run_ms(1000 * settle.as_secs());
    let listed = |binld: &&usize| fleet.world.status(**binld).roll.members.len() == fleet.binlds.len();
    let listed = fleet.binlds.iter().filter(listed).count();
    line("boot servers with the list of all in force", &listed.to_string(), &fleet.binlds.len().to_string());
    println!("  steady, without a claim, over {settle:?}:");
    fleet.print_traffic(&before, settle);
    fleet.print_speed();
}

fn storm(fleet: &mut Fleet, asked: u32, before_any: f64) {
    println!("\n{asked} of them are told one after the other, within {TELLING:?}, to offer {FILES} files");
    let items: Vec<Wants> = (0..FILES).map(wants).collect();
    let asked: Vec<usize> = fleet.binlds.iter().copied().take(asked as usize).collect();
    let mut draw = stream(1, "storm");
    let before = fleet.traffic();
    let counted = ["query.sent", "query.heard", "echo.sent", "claim.committed"].map(|name| fleet.count(name));
    let began_at = fleet.world.world.now();
    for binld in &asked {
        fleet.world.world.at(began_at + draw.jitter(TELLING), Fault::Reload(*binld, catalog(&items)));
    }
    let wanted = asked.len() as u64 * u64::from(FILES);
    fleet.world.run_ms(1000 * TELLING.as_secs());
    let held = fleet.until(10_000, |fleet| fleet.count("claim.held") >= wanted);
    line("all hold all, after another", &of_option(held), "-");
    if held.is_none() {
        fleet.print_states(&asked);
    }
    let span = fleet.world.world.now().since(began_at);
    fleet.print_clearings(counted);
    fleet.print_traffic(&before, span);
    println!("{CLIENTS} clients ask them in {STORM:?}");
    let queries = fleet.count("query.sent");
    let before = fleet.traffic();
    let count = u32::try_from(asked.len()).unwrap_or(u32::MAX);
    let sources = count * u32::from(FILES);
    let each = CLIENTS / sources.max(1);
    let mut clients = Vec::new();
    for (number, binld) in (0..sources).zip(asked.iter().cycle()) {
        let Some(server) = fleet.world.world.nodes.get(*binld).map(|node| node.address) else { continue };
        let server_type = 1 + u16::try_from(number / count.max(1)).unwrap_or(0);
        let mut starts: Vec<Time> = (0..each).map(|_| Time::ZERO + draw.jitter(STORM)).collect();
        starts.sort_unstable();
        let from = address(25_000 + number);
        clients.push(fleet.world.client(from, ClientKind::Rom, server_type, &[server], starts));
    }
    fleet.world.run_ms(1000 * STORM.as_secs());
    line("queries of clearings", &(fleet.count("query.sent") - queries).to_string(), "T9, cleared before: 0");
    fleet.print_traffic(&before, STORM);
    let boots = clients.iter().flat_map(|client| fleet.world.boots(*client));
    let mut waits: Vec<Duration> = Vec::new();
    let (mut all, mut multicast) = (0, 0);
    for boot in boots {
        all += 1;
        if let Some((at, reply)) = &boot.answered {
            waits.push(at.since(boot.began_at));
            multicast += u64::from(reply.multicast.is_some());
        }
    }
    waits.sort_unstable();
    let percentile = |percent: usize| {
        waits.get(waits.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
    };
    line("clients answered, with a group address", &format!("{} of {all}, {multicast}", waits.len()), "all");
    let waited = format!("{:?}, {:?}, {:?}", percentile(50), percentile(99), percentile(100));
    line("they waited: median, p99, longest", &waited, "< 2.5 s");
    let per_member = (resident() - before_any) / fleet.members.len() as f64 / 1024.0;
    let records = fleet.records();
    line("records that every member has", &records.to_string(), "-");
    line("memory per member, with records", &format!("{per_member:.0} KiB"), "-");
    let same = fleet.until(1_000, Fleet::all_know_the_same);
    line("all have the same records after another", &of_option(same), "<= 20 s");
    fleet.print_speed();
}

impl Fleet {
    /// What was asked since so many queries were sent and heard, echoes sent and claims committed, of all boot
    /// servers.
    fn print_clearings(&self, [queries, heard, echoes, committed]: [u64; 4]) {
        let queries = (self.count("query.sent") - queries) as f64;
        let others = self.binlds.len().saturating_sub(1) as f64;
        let predicted = QUERIES * f64::from(FILES);
        let of_t9 = format!("{queries:.0}, {:.2} of T9", queries / predicted);
        line("queries of clearings", &of_t9, "T9, shared first: 50 x 4 = 200");
        let (cleared, shared) = (self.count("clearing.started"), self.count("claim.shared"));
        let early = self.count("clear.early");
        let counts = format!("{cleared}, {early} of them early; {shared}");
        line("clearings; claims shared without one", &counts, "50; the rest");
        line("echoes", &(self.count("echo.sent") - echoes).to_string(), "-");
        let claims = (self.count("claim.committed") - committed) as f64;
        let each = (self.count("query.heard") - heard) as f64 / claims;
        let of_t13 = format!("{each:.0}, {:.2} of T13", each / (RECEPTIONS * others));
        line("queries and announcements heard, for a claim", &of_t13, "T13: 6 (N - 1)");
        line("announcements", &self.count("announcement.sent").to_string(), "-");
        let asked = self.count("clear.asked") + self.count("clear.asked_again");
        line("asked by word, answers to that", &format!("{asked}, {}", self.count("clear.said")), "-");
    }

    /// What became of the claims of those, when not all are held.
    fn print_states(&self, binlds: &[usize]) {
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for claim in binlds.iter().flat_map(|binld| self.world.status(*binld).claims) {
            *states.entry(format!("{:?}", claim.state)).or_default() += 1;
        }
        line("their claims by state", &format!("{states:?}"), "all Held");
        let loans = ["loan.asked", "loan.borrowed", "loan.refused_us", "loan.unanswered"];
        let loans = loans.map(|name| (name, self.count(name)));
        line("loans", &format!("{loans:?}"), "-");
    }

    fn records(&self) -> usize {
        let known = |node: &usize| Some(self.world.world.nodes.get(*node)?.member()?.2.records().len());
        self.members.iter().filter_map(known).max().unwrap_or(0)
    }

    /// Addresses that are handed out for two contents.
    fn duplicates(&self) -> usize {
        let mut held: BTreeMap<GroupAddr, BTreeSet<Content>> = BTreeMap::new();
        let now = self.world.world.now();
        for binld in &self.binlds {
            let Some(node) = self.world.world.nodes.get(*binld) else { continue };
            let claims = node.program::<BinldHost>().and_then(|binld| binld.claims(node.local(now)));
            for claim in claims.into_iter().flatten().filter(|claim| claim.stage == Stage::Held) {
                if let Some(group) = claim.group {
                    held.entry(group).or_default().insert(claim.content);
                }
            }
        }
        held.values().filter(|contents| contents.len() > 1).count()
    }
}

/// One more claim: until every member has heard of it.
fn change(fleet: &mut Fleet) {
    let Some(binld) = fleet.binlds.last().copied() else { return };
    let item = Wants { preclear: true, ..Wants::dynamic(900, &file(0), &[address(1)]) };
    fleet.world.world.at(fleet.world.world.now(), Fault::Reload(binld, catalog(&[item])));
    let committed = fleet.until(1_000, |fleet| fleet.world.counter(binld, "claim.committed") > 0);
    line("a new item is cleared after", &of_option(committed), "-");
    let claim = fleet.world.status(binld).claims.into_iter().next();
    let server = fleet.world.world.nodes.get(binld).and_then(|node| Some(node.member()?.1));
    let (Some(group), Some(owner)) = (claim.and_then(|claim| claim.group), server) else { return };
    let uid = Uid { owner, kind: RecordKind::Claim, number: u64::from(group.ip().to_bits()) };
    let all = fleet.until(50, |fleet| {
        let now = fleet.world.world.now();
        fleet.members.iter().all(|node| {
            let node = fleet.world.world.nodes.get(*node);
            node.and_then(|node| node.member()?.2.records().get(&uid, node.local(now)).map(|_| ())).is_some()
        })
    });
    line("and has reached all after another", &of_option(all), "<= 50 ms (N = 32)");
    let state = fleet.world.status(binld).claims.first().map(|claim| claim.state);
    line("its state", &format!("{:?}", state.unwrap_or(StateName::Waiting)), "-");
}

/// All of it.
pub(crate) fn print(members: u32, asked: u32) {
    let empty = resident();
    let mut fleet = Fleet::new(members);
    gather(&mut fleet, empty);
    storm(&mut fleet, asked, empty);
    change(&mut fleet);
    line("addresses handed out for two contents", &fleet.duplicates().to_string(), "0");
    fleet.print_speed();
}
