//! Stories that a person can read: whole traces of small worlds, kept as expected text in `transcripts/`. What changes
//! in the cores shows here as a difference between two texts. `PXEMC_TRANSCRIPTS=write` writes them anew.
//!
//! Hellos are left out: they say the same all the time.

#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use binld::engine::claims::StateName;
use driver::{Role, Time, Transmit};
use peers::lowest::Constants;
use sim::clock::Clock;
use sim::scenario::{QUERY, Scenario, Wants, host};
use sim::site::{Site, Ways, address};
use sim::world::Passing;
use sim::{Fault, LinkFaults, Rules};
use wire::control::Message;
use wire::query::{Opcode, Query};
use wire::{Layer, ServerId, ServerType};

const TRUE_CLOCK: Clock = Clock::new(0, 0);
/// Longer than a background clearing, a record and a configure.
const LONG: u64 = 10_000;

fn at_ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// Boot servers 1 and 2 with MTFTP servers 3 and 4, one address for all; the second wins by its key. Each is alone in
/// its domain: the stories are about query and echo.
fn two(starts_ms: [u64; 2]) -> (Scenario, [usize; 2]) {
    let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
    world.one_domain = false;
    world.world.transcript = Some(RefCell::default());
    for number in [3, 4] {
        world.mtftp(host(number), &["f"], TRUE_CLOCK, Time::ZERO);
    }
    let binlds = [(1, starts_ms[0]), (2, starts_ms[1])].map(|(number, start)| {
        let wants = Wants::dynamic(1, "f", &[host(number + 2)]);
        world.binld(host(number), &[wants], TRUE_CLOCK, at_ms(start))
    });
    (world, binlds)
}

/// The same without the first boot server and its MTFTP server.
fn one() -> (Scenario, usize, usize) {
    let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
    world.world.transcript = Some(RefCell::default());
    let mtftp = world.mtftp(host(4), &["f"], TRUE_CLOCK, Time::ZERO);
    let wants = Wants::dynamic(1, "f", &[host(4)]);
    let binld = world.binld(host(2), &[wants], TRUE_CLOCK, Time::ZERO);
    (world, binld, mtftp)
}

fn is_echo(passing: &Passing<'_>) -> bool {
    passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Echo)
}

/// What has been told so far is not part of the story.
fn forget(world: &Scenario) {
    if let Some(lines) = &world.world.transcript {
        lines.borrow_mut().clear();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration but its environment")]
fn writes() -> bool {
    std::env::var("PXEMC_TRANSCRIPTS").is_ok_and(|value| value == "write")
}

/// Compares with the file of that name, which begins with the story.
#[track_caller]
fn assert_told(name: &str, story: &str, world: &Scenario) {
    let lines = world.world.transcript.as_ref().map(|lines| lines.borrow().join("\n")).unwrap_or_default();
    assert_lines(name, story, &lines);
}

#[track_caller]
fn assert_lines(name: &str, story: &str, lines: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts").join(format!("{name}.txt"));
    let mut text: String = story.trim().lines().map(|line| format!("# {}\n", line.trim())).collect();
    text.push('\n');
    text.push_str(lines);
    text.push('\n');
    if writes() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        return fs::write(&path, text).expect("the transcript is written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if text != expected {
        let differs = text.lines().zip(expected.lines().chain(std::iter::repeat(""))).enumerate();
        let first = differs.into_iter().find(|(_, (now, before))| now != before);
        let (number, (now, before)) = first.unwrap_or((0, ("(it is longer)", "")));
        let again = "PXEMC_TRANSCRIPTS=write cargo test -p tests --test transcripts";
        panic!("{name} line {}:\n  was {before}\n  is  {now}\nif that is right: {again}", number + 1);
    }
}

#[test]
fn g01_simultaneous_queries() {
    let (mut world, binlds) = two([0, 0]);
    world.run_until_state(binlds[1], StateName::Held, LONG);
    world.run_ms(300);
    assert_eq!(world.claim(binlds[0]).state, StateName::Waiting);
    assert_told(
        "g01",
        "Two servers start at the same time, want the only address for different files, and ask for it.
        The first asks first; the second, whose key is greater, asks for it too and objects, and the first
        gives it up (Y1, Y2). The second asks on, hears nothing, records, configures its MTFTP server, and
        holds the address after the ACK.",
        &world,
    );
}

#[test]
fn lost_configures_are_retried() {
    let (mut world, binld, _) = one();
    let mut lost = 0;
    world.drop_if(move |_, passing| {
        let configures = passing.control().is_some_and(
            |envelope| matches!(envelope.message, Message::Configure(configure) if configure.group().is_some()),
        );
        lost += u32::from(configures);
        configures && lost <= 2
    });
    world.run_until_state(binld, StateName::Configuring, LONG);
    forget(&world);
    world.run_until_state(binld, StateName::Held, LONG);
    assert_told(
        "g17",
        "A claim is recorded, and its configure is lost, twice. It is repeated after 50 and again after
        100 ms with the same serial; the MTFTP server stores the reference before it ACKs, and only then
        is the address held.",
        &world,
    );
}

#[test]
fn a_restart_asks_again_before_it_hands_out() {
    let (mut world, binld, _) = one();
    world.run_until_state(binld, StateName::Held, LONG);
    world.run_ms(100);
    forget(&world);
    let now = world.world.now();
    world.world.at(now, Fault::Crash(binld));
    world.world.at(now + Duration::from_secs(2), Fault::Start(binld));
    world.run_ms(2010);
    world.run_until_state(binld, StateName::Held, LONG);
    assert_told(
        "g24",
        "A holder dies and starts again two seconds later. Its claim is still committed and has its stamp:
        it is defended at once, but nobody is told of it before a clean round and a new ACK (Y7).",
        &world,
    );
}

#[test]
fn an_echo_after_the_window_and_before_the_record() {
    let (mut world, binlds) = two([0, 4000]);
    world.run_until_state(binlds[0], StateName::Held, LONG);
    forget(&world);
    // The holder and its MTFTP server are slow: what they say arrives when the window is just over.
    world.drop_if(|_, passing| {
        is_echo(passing) || passing.control().is_some_and(|it| matches!(it.message, Message::Hold(_)))
    });
    world.run_until_state(binlds[1], StateName::Recording, LONG);
    world.world.drop_nothing();
    let claim = world.claim(binlds[1]);
    let query = Query {
        content: claim.content,
        server_type: ServerType(1),
        layer: Layer(0),
        group: claim.group.expect("it has one"),
        client_port: 3001,
    };
    let to = SocketAddrV4::new(host(2), QUERY.port());
    let echo = Transmit { role: Role::Query, to, bytes: query.encode(Opcode::Echo) };
    world.world.say(binlds[0], &echo);
    world.run_ms(100);
    assert_told(
        "late_echo",
        "The only address is held; a newcomer asks for it, and no echo reaches it in its window: it
        commits. One arrives while its record is on its way to the disk. An echo alone takes nothing from a
        committed claim (Y3): it is noted as a late conflict, and the claim goes on to be configured.",
        &world,
    );
}

#[test]
fn lost_echoes_are_made_up_for_by_an_announcement() {
    let (mut world, binlds) = two([0, 4000]);
    world.run_until_state(binlds[0], StateName::Held, LONG);
    let says = |passing: &Passing<'_>| {
        passing.control().is_some_and(|it| matches!(it.message, Message::Hold(_))) || is_echo(passing)
    };
    let is_query = |passing: &Passing<'_>| passing.query().is_some_and(|(opcode, _)| opcode == Opcode::Query);
    // Nothing that is said about the address gets through while the newcomer asks.
    world.drop_if(move |_, passing| says(passing) || is_query(passing));
    world.run_until_state(binlds[1], StateName::Held, LONG);
    assert_eq!(world.world.checks.explained, 1);
    world.world.drop_nothing();
    forget(&world);
    world.run_ms(2000);
    let states = binlds.map(|binld| world.claim(binld).state);
    assert_eq!(states[0], StateName::Held);
    assert_ne!(states[1], StateName::Held);
    assert_told(
        "g04",
        "A newcomer took the only address, because all that was said about it was lost. Its first
        announcement is heard: the holder and its MTFTP server echo it, and the two state what they hold, by
        unicast. The newcomer's stamp is the younger one: it yields, says so, and deletes its reference (Y4);
        from then on it and its MTFTP server echo for the rest, and the holder keeps what it has.",
        &world,
    );
}

/// So many boot servers, with nothing to offer yet, and an MTFTP server, that have known each other for a while; the
/// comparison of what they know is part of the story.
fn members(count: u8) -> (Scenario, Vec<usize>) {
    let mut world = Scenario::new(1, LinkFaults::NONE, Rules::Ours);
    let binlds = (1..=count).map(|number| world.binld(host(number), &[], TRUE_CLOCK, Time::ZERO)).collect();
    world.mtftp(host(9), &["f"], TRUE_CLOCK, Time::ZERO);
    world.world.expect_convergence();
    world.run_ms(LONG);
    world.world.transcript = Some(RefCell::default());
    (world, binlds)
}

fn wants(world: &mut Scenario, binld: usize) {
    let catalog = sim::scenario::catalog(&[Wants::dynamic(1, "f", &[host(9)])]);
    world.world.at(world.world.now(), Fault::Reload(binld, catalog));
}

fn is_flood(passing: &Passing<'_>) -> bool {
    passing.control().is_some_and(|it| matches!(it.message, Message::Flood(_)))
}

#[test]
fn a_record_is_flooded_and_made_up_for_where_it_is_lost() {
    let (mut world, binlds) = members(3);
    wants(&mut world, binlds[0]);
    world.run_until_state(binlds[0], StateName::Recording, LONG);
    forget(&world);
    let unlucky = binlds[2];
    world.drop_if(move |_, passing| is_flood(passing) && passing.to == unlucky);
    world.run_until_state(binlds[0], StateName::Held, LONG);
    world.run_ms(300);
    world.world.drop_nothing();
    world.run_ms(1200);
    let known = |binld: usize| world.status(binld).replicas.iter().filter(|it| it.configured).count();
    assert_eq!((known(binlds[1]), known(binlds[2])), (1, 1));
    assert_told(
        "flood",
        "A claim is committed: its record goes once to everybody by multicast, and nobody acknowledges it
        (R004.10). It is held: the next version, which says that clients are told of it, does not reach the
        third server, nor what the MTFTP server says of its references. Hellos show it another digest than
        its own: it compares lists with one of the others and is sent what it lacks (R004.9).",
        &world,
    );
}

#[test]
fn who_starts_is_let_in_and_told_what_there_is() {
    let (mut world, binlds) = members(2);
    wants(&mut world, binlds[0]);
    world.run_until_state(binlds[0], StateName::Held, LONG);
    world.run_ms(1000);
    forget(&world);
    let late = world.binld(host(3), &[], TRUE_CLOCK, world.world.now());
    world.run_ms(2500);
    assert_eq!(world.status(late).replicas.len(), 1);
    assert_told(
        "join",
        "A third boot server starts and says hello. The hellos that it hears show that it knows less: it asks
        to be let in, is welcome, and says once more what it has to say, for at first it was a stranger. It
        compares lists with the one that welcomed it first, and is told what it lacks, the claim of the
        first server among it (R004.5, R004.9).",
        &world,
    );
}

#[test]
fn a_domain_in_two_parts_and_whole_again() {
    let (mut world, binlds) = members(3);
    let mtftp = binlds.len();
    let now = world.world.now();
    for from in [binlds[0], binlds[1], mtftp] {
        world.world.at(now, Fault::Cut(from, binlds[2]));
        world.world.at(now, Fault::Cut(binlds[2], from));
    }
    world.run_ms(5000);
    wants(&mut world, binlds[0]);
    world.run_until_state(binlds[0], StateName::Held, LONG);
    // What is lost at the border is not told: it is the same all the time.
    world.run_ms(15_000);
    forget(&world);
    world.world.at(world.world.now(), Fault::Heal);
    world.run_ms(3000);
    assert_eq!(world.status(binlds[2]).replicas.len(), 1);
    assert_told(
        "partition",
        "The third boot server was cut off from the others for half a minute. Each side took the other for
        unreachable, and went by a lowest id of its own; on one side a claim was made. The way is open
        again: the hellos show another lowest id and another digest. The lowest id of all is told once more
        and wins (R004.26), lists are compared, and all know the same and miss nobody.",
        &world,
    );
}

// --- the source's pictures of graphs (seed 004, figures 10 to 17) -----------------------------------------------

/// Members that are each alone on a segment, of these names, with their contacts by number; all start at once.
fn site(names: &[u8], contacts: &[(usize, usize)]) -> Site {
    let mut site = Site::new(1, Ways::LAN, Constants::LAN);
    site.story = Some(Vec::new());
    for (host, name) in names.iter().enumerate() {
        let theirs = contacts.iter().filter(|(from, _)| *from == host);
        let theirs: Vec<SocketAddrV4> = theirs.map(|(_, to)| alone(*to)).collect();
        site.add_as(ServerId([*name; 16]), segment(host), 0, &theirs);
    }
    (0..names.len()).for_each(|host| site.start(host));
    site
}

fn segment(host: usize) -> u8 {
    u8::try_from(host).expect("few hosts")
}

fn alone(host: usize) -> SocketAddrV4 {
    address(segment(host), 0)
}

/// Says how the site is connected, and by which lowest id the members go.
fn look(site: &mut Site, members: &[usize]) {
    let graph = site.graph();
    let parts = if graph.is_connected() { "one graph" } else { "several parts" };
    let seen: Vec<String> = members
        .iter()
        .filter_map(|host| {
            let lowest = site.domain(*host)?.lowest().lowest.0[0];
            Some(format!("{} goes by lowest id {lowest}", alone(*host).ip()))
        })
        .collect();
    site.note(&format!("-- {parts}, {} hops wide; {}", graph.diameter(), seen.join(", ")));
}

#[track_caller]
fn assert_site(name: &str, story: &str, site: &Site) {
    let lines = site.story.as_ref().map(|lines| lines.join("\n")).unwrap_or_default();
    assert_lines(name, story, &lines);
}

/// Figures 10 to 12.
#[test]
fn a_graph_breaks_where_its_hub_dies_and_is_one_again() {
    let (hub, left, right) = (2, 1, 4);
    let mut site = site(
        &[10, 3, 12, 7, 15, 9],
        &[(0, 1), (1, hub), (0, hub), (hub, 3), (hub, 4), (3, 4), (3, 5), (4, 5)],
    );
    site.run_for(Duration::from_millis(500));
    look(&mut site, &[left, right]);
    site.cut(&[3, 4, 5]);
    site.crash(hub);
    site.run_for(Duration::from_secs(60));
    look(&mut site, &[left, right]);
    site.heal();
    site.run_for(Duration::from_secs(20));
    look(&mut site, &[left, right]);
    assert!(site.graph().is_connected() && site.agrees());
    assert_site(
        "site_partition",
        "Figures 10 to 12 of the source. The member that joins the two halves dies, and the way between them is cut: each half goes
        by a lowest id of its own. When the way is open again those who are not connected are asked, and all go by one id.",
        &site,
    );
}

/// Figures 13 and 14.
#[test]
fn a_graph_of_six_hops_becomes_one_of_four() {
    let names: Vec<u8> = (1..=12).collect();
    let ring: Vec<(usize, usize)> = (0..12).map(|host| (host, (host + 1) % 12)).collect();
    let mut site = site(&names, &ring);
    site.run_for(Duration::from_millis(900));
    look(&mut site, &[0]);
    assert_eq!(site.graph().diameter(), 6);
    site.run_for(Duration::from_secs(20));
    look(&mut site, &[0]);
    assert!(site.graph().diameter() <= 4);
    assert_site(
        "site_diameter",
        "Figures 13 and 14 of the source. In a ring of twelve the farthest is six hops away. Whoever sees that asks one of the farthest,
        until nobody is more than four hops from anybody.",
        &site,
    );
}

/// Figures 16 and 17.
#[test]
fn a_hub_that_leaves_makes_no_hole() {
    let (hub, spokes) = (3, [4, 5]);
    let mut site = site(&[1, 2, 3, 4, 5, 6], &[(0, 1), (1, 2), (0, hub), (2, hub), (4, hub), (5, hub)]);
    site.run_for(Duration::from_millis(900));
    look(&mut site, &spokes);
    site.stop(hub);
    site.run_for(Duration::from_millis(20));
    look(&mut site, &spokes);
    assert!(site.graph().is_connected(), "they were told where to go");
    assert_site(
        "site_departure",
        "Figures 16 and 17 of the source. Two members are connected by a third one only. It leaves, and names its most useful neighbour to
        each: within milliseconds they are connected with that one.",
        &site,
    );
}
