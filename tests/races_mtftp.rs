//! Named races that the MTFTP server has to win: rows of `races.md`, and I2 of the decisions.
#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use binld::engine::claims::StateName;
use driver::Time;
use mtftp::engine::{EngineConfig, Forgotten, ReferencePolicy, ReferenceStatus, Status};
use sim::binld_host::BinldHost;
use sim::clock::Clock;
use sim::mtftp_host::MtftpHost;
use sim::scenario::{PINNED, Scenario, Wants, group, host, name};
use sim::script::Script;
use sim::{ClientKind, Fault, LinkFaults, Rules};
use wire::configure::{Ack, Nak, NakReason, Ports};
use wire::control::Message;
use wire::query::Opcode;
use wire::{Content, GroupAddr, ServerId};

const NOW: Time = Time::ZERO;
const TRUE_CLOCK: Clock = Clock::new(0, 0);
/// Longer than a background clearing, a record and a configure.
const LONG: u64 = 10_000;
/// Longer than a file takes to be looked up, a store to write and a datagram to go there and back.
const SOON: u64 = 100;
const PORTS: Ports = Ports { client: 3001, server: 1760 };
const SECOND: u64 = 1000;

/// One MTFTP server at host 3 with the files f and g, and whoever is added.
struct Site {
    world: Scenario,
    mtftp: usize,
}

impl Site {
    fn new(references: ReferencePolicy) -> Self {
        let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
        let files = ["f", "g", "loader"].map(|file| (name(file), file.repeat(3000).into_bytes()));
        let config = EngineConfig { references, ..EngineConfig::default() };
        let program = MtftpHost::new(host(3), ServerId([3; 16]), config, BTreeMap::from(files));
        let mtftp = world.world.add("mtftp3", host(3), TRUE_CLOCK, Box::new(program), NOW);
        Self { world, mtftp }
    }

    /// A boot server that wants a file on a dynamic address, from now on.
    fn binld(&mut self, number: u8, file: &str, servers: &[Ipv4Addr]) -> usize {
        let now = self.world.world.now();
        let wants = Wants::dynamic(u16::from(number), file, servers);
        self.world.binld(host(number), &[wants], TRUE_CLOCK, now)
    }

    /// A boot server that only says what it is told to say.
    fn script(&mut self, number: u8) -> usize {
        let now = self.world.world.now();
        let program = Box::new(Script::new(ServerId([number; 16])));
        let node = self.world.world.add(&format!("script{number}"), host(number), TRUE_CLOCK, program, now);
        self.world.run_ms(1);
        node
    }

    /// Lets a host do what it was given to do.
    fn look_at(&mut self, node: usize) {
        let now = self.world.world.now();
        self.world.world.at(now, Fault::WallStep(node, 0));
        self.world.run_ms(SOON);
    }

    /// What the MTFTP server answers.
    fn tell(&mut self, script: usize, message: Message) -> Option<Message> {
        let program = self.program(script);
        program.answers.clear();
        program.tell(host(3), message);
        self.look_at(script);
        self.program(script).answers.pop()
    }

    fn program(&mut self, script: usize) -> &mut Script {
        self.world.world.nodes[script].program_mut().expect("a script")
    }

    fn configure(&mut self, script: usize, serial: u32, at: GroupAddr, file: &str) -> Option<Message> {
        let message = self.program(script).configure(serial, at, PORTS, &name(file));
        self.tell(script, message)
    }

    fn delete(&mut self, script: usize, serial: u32, at: GroupAddr, file: &str) -> Option<Message> {
        self.tell(script, Script::delete(serial, at, &name(file)))
    }

    /// Whether anybody echoes a query for that address for a content of somebody else.
    fn is_defended(&mut self, script: usize, at: GroupAddr) -> bool {
        let program = self.program(script);
        program.queries.clear();
        program.query(Content { server: host(99), file: name("x") }, at);
        self.look_at(script);
        self.program(script).queries.iter().any(|(opcode, _)| *opcode == Opcode::Echo)
    }

    fn host(&self) -> &MtftpHost {
        self.world.world.nodes[self.mtftp].program().expect("an MTFTP server")
    }

    fn status(&self) -> Status {
        self.host().status().expect("the MTFTP server lives")
    }

    fn references(&self) -> Vec<ReferenceStatus> {
        self.status().claims.into_iter().flat_map(|claim| claim.references).collect()
    }

    fn stored(&self) -> usize {
        self.host().rows().references.len()
    }

    fn restart_mtftp(&mut self) {
        let now = self.world.world.now();
        self.world.world.at(now, Fault::Crash(self.mtftp));
        self.world.world.at(now, Fault::Start(self.mtftp));
        self.world.run_ms(1);
    }

    fn happen(&mut self, fault: Fault) {
        let now = self.world.world.now();
        self.world.world.at(now, fault);
        self.world.run_ms(1);
    }

    fn binld_id(&self, binld: usize) -> ServerId {
        self.world.world.nodes[binld].program::<BinldHost>().map(BinldHost::server).expect("a boot server")
    }

    /// An operator's order.
    fn forget(&mut self, at: GroupAddr, binld: ServerId, force: bool) -> Option<Forgotten> {
        let now = self.world.world.now();
        self.world.world.ledger.on_forget(self.mtftp, (at, binld));
        let node = &mut self.world.world.nodes[self.mtftp];
        let local = node.local(now);
        let program = node.program_mut::<MtftpHost>().expect("an MTFTP server");
        program.forget(local, (at, binld), force);
        self.look_at(self.mtftp);
        let node = &mut self.world.world.nodes[self.mtftp];
        node.program_mut::<MtftpHost>().and_then(|program| program.forgotten.pop())
    }
}

fn is_ack(answer: &Option<Message>) -> bool {
    matches!(answer, Some(Message::Ack(_)))
}

fn in_use_for(answer: Option<Message>) -> Option<String> {
    match answer {
        Some(Message::Nak(Nak { reason: NakReason::InUse { file, .. }, .. })) => Some(file.to_string()),
        _ => None,
    }
}

fn superseded(answer: &Option<Message>) -> bool {
    matches!(answer, Some(Message::Superseded(_)))
}

#[test]
fn g07_a_crash_after_the_configure_and_before_the_reply_leaves_a_reference_that_is_shown_and_taken_up() {
    for (away, stale) in [(60 * SECOND, false), (400 * SECOND, true)] {
        let mut site = Site::new(ReferencePolicy::Lease);
        let binld = site.binld(1, "f", &[host(3)]);
        // It never hears that it is configured, so no client hears of the address.
        site.world.drop_if(|_, passing| {
            let message = passing.control().map(|envelope| envelope.message);
            matches!(message, Some(Message::Ack(Ack { request, .. })) if request.group.is_some())
        });
        let mut patience = LONG;
        while site.stored() == 0 {
            site.world.run_ms(1);
            patience -= 1;
            assert!(patience > 0, "nothing was configured");
        }
        site.happen(Fault::Crash(binld));
        site.world.world.drop_nothing();
        site.world.run_ms(away);
        let of_dead: Vec<(ServerId, bool)> =
            site.references().iter().map(|reference| (reference.binld, reference.stale)).collect();
        assert_eq!(of_dead, [(site.binld_id(binld), stale)]);
        site.happen(Fault::Start(binld));
        site.world.run_until_state(binld, StateName::Held, LONG);
        let references = site.references();
        assert_eq!(references.len(), 1, "its own, taken up again");
        assert!(!references[0].stale && references[0].stored);
        assert_eq!(site.world.claim(binld).group, Some(group(1)));
    }
}

#[test]
fn g11_a_restarted_mtftp_server_keeps_its_references_and_releases_nothing_for_90_s() {
    let mut site = Site::new(ReferencePolicy::Lease);
    let [one, two] = [11, 12].map(|number| site.script(number));
    assert!(is_ack(&site.configure(one, 1, group(1), "f")));
    assert!(is_ack(&site.configure(two, 1, group(1), "f")));
    let before = site.status();
    site.restart_mtftp();
    assert_eq!(site.status(), before);
    assert!(site.is_defended(one, group(1)), "defended at once");
    assert_eq!(in_use_for(site.configure(one, 2, group(1), "g")), Some("f".to_owned()));
    assert!(is_ack(&site.configure(one, 3, group(2), "g")), "new addresses are taken");
    // One of two may leave; the last may not.
    assert!(is_ack(&site.delete(one, 4, group(1), "f")));
    for _ in 0..8 {
        assert_eq!(site.delete(two, 5, group(1), "f"), None, "silence: it asks again");
        assert_eq!(site.forget(group(1), ServerId([12; 16]), false).map(|it| is_not_stale(&it)), Some(true));
        site.world.run_ms(10 * SECOND);
    }
    assert_eq!(site.status().rests, []);
    site.world.run_ms(10 * SECOND);
    assert!(is_ack(&site.delete(two, 5, group(1), "f")));
    assert_eq!(site.status().rests.len(), 1);
}

fn is_not_stale(outcome: &Forgotten) -> bool {
    matches!(outcome, Forgotten::NotStale(_))
}

#[test]
fn g12_a_dead_boot_server_is_shown_as_stale_and_defended_until_somebody_forgets_it() {
    let mut site = Site::new(ReferencePolicy::Lease);
    let dead = site.binld(2, "f", &[host(3)]);
    site.world.run_until_state(dead, StateName::Held, LONG);
    site.world.run_ms(600 * SECOND);
    assert!(site.references().iter().all(|reference| !reference.stale), "a living one renews");
    site.happen(Fault::Crash(dead));
    // It renewed 45 s before at most.
    site.world.run_ms(254 * SECOND);
    assert_eq!(site.references().iter().map(|reference| reference.stale).collect::<Vec<_>>(), [false]);
    site.world.run_ms(47 * SECOND);
    assert_eq!(site.references().iter().map(|reference| reference.stale).collect::<Vec<_>>(), [true]);
    // A restart gives everybody the time to renew, and not more.
    site.restart_mtftp();
    site.world.run_ms(89 * SECOND);
    assert_eq!(site.references().iter().map(|reference| reference.stale).collect::<Vec<_>>(), [false]);
    site.world.run_ms(2 * SECOND);
    assert_eq!(site.references().iter().map(|reference| reference.stale).collect::<Vec<_>>(), [true]);
    // Nothing is freed by that: the pool's only address stays taken. The newcomer is of another domain, or it would have
    // the reference deleted.
    site.world.one_domain = false;
    let newcomer = site.binld(1, "g", &[host(3)]);
    site.world.run_ms(3600 * SECOND);
    assert_eq!(site.world.claim(newcomer).state, StateName::Waiting);
    assert_eq!((site.references().len(), site.stored()), (1, 1));
    let id = site.binld_id(dead);
    assert_eq!(site.forget(group(1), id, false), Some(Forgotten::Done { released: true }));
    assert_eq!((site.status().rests.len(), site.stored()), (1, 0));
    site.world.run_ms(290 * SECOND);
    assert_eq!(site.world.claim(newcomer).state, StateName::Waiting, "it rests");
    // It has marked the address for 300 s when it was last refused.
    site.world.run_until_state(newcomer, StateName::Held, 400 * SECOND);
}

#[test]
fn g12_a_living_boot_server_that_was_forgotten_gets_its_reference_back() {
    let mut site = Site::new(ReferencePolicy::Lease);
    let binld = site.binld(1, "f", &[host(3)]);
    site.world.run_until_state(binld, StateName::Held, LONG);
    site.world.run_ms(SECOND);
    let id = site.binld_id(binld);
    assert!(site.forget(group(1), id, false).is_some_and(|outcome| is_not_stale(&outcome)));
    assert_eq!(site.forget(group(1), id, true), Some(Forgotten::Done { released: true }));
    assert_eq!(site.references().len(), 0);
    site.world.run_ms(50 * SECOND);
    assert_eq!(site.references().len(), 1);
    assert_eq!((site.status().rests.len(), site.world.claim(binld).state), (0, StateName::Held));
}

#[test]
fn g12_to_the_letter_of_the_source_a_reference_lasts_for_ever() {
    let mut site = Site::new(ReferencePolicy::Forever);
    let one = site.script(11);
    assert!(is_ack(&site.configure(one, 1, group(1), "f")));
    site.world.run_ms(86_400 * SECOND);
    site.restart_mtftp();
    site.world.run_ms(86_400 * SECOND);
    assert!(!site.references()[0].stale);
    assert_eq!(site.forget(group(1), ServerId([11; 16]), false), Some(Forgotten::NotStale(None)));
    assert_eq!(site.forget(group(1), ServerId([11; 16]), true), Some(Forgotten::Done { released: true }));
}

#[test]
fn g14_a_late_delete_removes_nothing_and_a_late_configure_brings_nothing_back() {
    for crash in [false, true] {
        let mut site = Site::new(ReferencePolicy::Lease);
        let one = site.script(11);
        assert!(is_ack(&site.configure(one, 5, group(1), "f")));
        // Delete 6 is on its way for long: the boot server has thought better of it meanwhile.
        assert!(is_ack(&site.configure(one, 7, group(1), "f")));
        if crash {
            site.restart_mtftp();
            site.world.run_ms(100 * SECOND);
        }
        assert!(superseded(&site.delete(one, 6, group(1), "f")));
        assert_eq!((site.references().len(), site.stored()), (1, 1));
        // Configure 8 is on its way for long: the boot server has given it up and deletes.
        assert!(is_ack(&site.delete(one, 9, group(1), "f")));
        if crash {
            site.restart_mtftp();
        }
        for late in [7, 8] {
            assert!(superseded(&site.configure(one, late, group(1), "f")));
        }
        assert_eq!((site.references().len(), site.stored(), site.status().rests.len()), (0, 0, 1));
        assert!(is_ack(&site.configure(one, 10, group(1), "f")), "a new one is taken");
    }
}

#[test]
fn g15_a_released_address_rests_and_is_refused_to_another_file_and_defended() {
    let pinned = GroupAddr::new(PINNED).expect("a multicast address");
    for (at, rest) in [(group(1), 300 * SECOND), (pinned, 10 * SECOND)] {
        let mut site = Site::new(ReferencePolicy::Lease);
        let [one, two] = [11, 12].map(|number| site.script(number));
        assert!(is_ack(&site.configure(one, 1, at, "f")));
        assert!(is_ack(&site.delete(one, 2, at, "f")));
        let released = site.world.world.now();
        let mut serial = 10;
        for part in 1..=4 {
            assert_eq!(in_use_for(site.configure(two, serial, at, "g")), Some("f".to_owned()), "{at} {part}");
            assert!(site.is_defended(two, at), "{at} {part}");
            serial += 1;
            let until = released + std::time::Duration::from_millis(rest * part / 4 - 4 * SOON);
            let left = until.since(site.world.world.now());
            site.world.run_ms(u64::try_from(left.as_millis()).expect("not long"));
        }
        site.world.run_ms(5 * SOON);
        assert!(!site.is_defended(two, at), "{at}");
        assert!(is_ack(&site.configure(two, serial, at, "g")), "{at}");
    }
}

#[test]
fn g15_whoever_had_it_last_may_have_it_again_at_once() {
    let mut site = Site::new(ReferencePolicy::Lease);
    let [one, two] = [11, 12].map(|number| site.script(number));
    assert!(is_ack(&site.configure(one, 1, group(1), "f")));
    assert!(is_ack(&site.delete(one, 2, group(1), "f")));
    assert!(is_ack(&site.configure(two, 1, group(1), "f")));
    site.world.run_ms(400 * SECOND);
    assert_eq!((site.references().len(), site.status().rests.len()), (1, 0));
}

#[test]
fn g19_the_same_file_on_other_ports_is_taken_up_on_the_ports_in_force() {
    let mut site = Site::new(ReferencePolicy::Lease);
    let one = site.script(11);
    let ports = Ports { client: 4000, server: 1760 };
    let message = site.program(one).configure(1, group(1), ports, &name("f"));
    assert!(is_ack(&site.tell(one, message)));
    // A real one wants it on client port 3001, and tells its client the port in force.
    let binld = site.binld(3, "f", &[host(3)]);
    site.world.run_until_state(binld, StateName::Held, LONG);
    let claims = site.status().claims;
    assert_eq!((claims.len(), claims[0].ports, claims[0].references.len()), (1, ports, 2));
    let rows = site.host().rows().references;
    assert_eq!(rows.iter().map(|row| row.client_port).collect::<Vec<_>>(), [4000, 4000]);
    let address = Ipv4Addr::new(10, 0, 1, 1);
    let client = site.world.client(address, ClientKind::Rom, 3, &[host(3)], vec![Time::ZERO]);
    site.world.run_ms(3 * SECOND);
    assert_eq!(site.world.claim(binld).ports, Some(ports));
    let (_, reply) = site.world.boots(client)[0].answered.clone().expect("an answer");
    assert_eq!(reply.multicast, Some((group(1).ip(), 4000, 1760)));
    // Another file is another stream.
    assert_eq!(in_use_for(site.configure(one, 2, group(1), "g")), Some("f".to_owned()));
}

#[test]
fn i2_what_is_acknowledged_is_stored_though_half_of_all_writes_fail() {
    let mut site = Site::new(ReferencePolicy::Lease);
    let scripts = [11, 12].map(|number| site.script(number));
    site.happen(Fault::StoreFails(500_000));
    let mut acked: BTreeMap<usize, u32> = BTreeMap::new();
    let (mut acks, mut failures) = (0, 0);
    for serial in 1..=300_u32 {
        let which = usize::from(serial.is_multiple_of(2));
        let script = scripts[which];
        let delete = serial % 5 < 2;
        let answer = if delete {
            acked.remove(&which);
            site.delete(script, serial, group(1), "f")
        } else {
            site.configure(script, serial, group(1), "f")
        };
        if is_ack(&answer) {
            acks += 1;
            if !delete {
                acked.insert(which, serial);
            }
        } else {
            failures += 1;
        }
        if serial.is_multiple_of(50) {
            site.restart_mtftp();
            site.world.run_ms(95 * SECOND);
        }
        for (which, serial) in &acked {
            let binld = site.program(scripts[*which]).binld();
            assert!(site.host().has_reference(group(1), binld, &name("f")), "{serial} was acknowledged");
            let there = site.references().into_iter().find(|reference| reference.binld == binld);
            assert!(
                there.is_some_and(|reference| reference.serial.0 >= *serial),
                "{serial} was acknowledged"
            );
        }
    }
    assert!(acks > 50 && failures > 50, "{acks} {failures}");
}
