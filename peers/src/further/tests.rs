//! Servers of several boot networks with a list of domains: who finds which domain, and what joins the parts of one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::time::Duration;

use wire::BootEpoch;
use wire::note::Author;
use wire::record::ServerRole;

use super::*;
use crate::lowest::Constants;

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 15), 4016);
const WALL: Wall = Wall(1_000_000);
const DELAY: Duration = Duration::from_micros(300);

fn name(text: &str) -> DomainName {
    DomainName::new(text).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn control(segment: u8, number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, segment, number + 1), 4016)
}

struct Server {
    own: Domain,
    furthers: Furthers,
    control: SocketAddrV4,
    me: ServerId,
    counters: driver::Counters,
}

/// (when, in which order, to, from, bytes), the earliest first.
type Flight = Reverse<(Time, u64, usize, SocketAddrV4, Vec<u8>)>;

/// Servers on segments; unicast goes everywhere but across a cut.
struct Site {
    now: Time,
    order: u64,
    servers: Vec<Server>,
    flights: BinaryHeap<Flight>,
    /// Segments that are cut off from all others.
    cut: BTreeSet<u8>,
}

impl Site {
    fn new() -> Self {
        let (servers, flights) = (Vec::new(), BinaryHeap::new());
        Self { now: Time::ZERO, order: 0, servers, flights, cut: BTreeSet::new() }
    }

    /// A server of the domain `own`, with the list `campus` if it is told so.
    fn add(&mut self, segment: u8, number: u8, own: &str, lists: bool, contacts: &[SocketAddrV4]) -> usize {
        let at = control(segment, number);
        let me = ServerId([segment * 16 + number + 1; 16]);
        let config = DomainConfig {
            domain: id_of(&name(own)),
            me,
            boot_epoch: BootEpoch(100),
            role: ServerRole::Binld,
            control: at,
            prefix_len: 24,
            group: GROUP,
            contacts: contacts.to_vec(),
            constants: Constants::LAN,
            author: Author::new("test").unwrap(),
            tells: true,
            began: 0,
        };
        let draw = |salt| Draw::from_seed(u64::from(segment) * 100 + u64::from(number) * 10 + salt);
        let list = lists.then(|| name("campus"));
        let named = Named { own: name(own), list, also: Vec::new() };
        let furthers = Furthers::new(config.clone(), named, draw(1), self.now);
        let own = Domain::new(config, draw(2), self.now);
        self.servers.push(Server { own, furthers, control: at, me, counters: driver::Counters::default() });
        let server = self.servers.len() - 1;
        self.drain(server);
        server
    }

    fn drain(&mut self, server: usize) {
        let now = self.now;
        loop {
            let it = &mut self.servers[server];
            let (domain, output) = match it.own.poll_output(now) {
                Some(output) => (None, output),
                None => match it.furthers.poll_output(now) {
                    Some((domain, output)) => (Some(domain), output),
                    None => return,
                },
            };
            match output {
                Output::Send(to, message) => {
                    let message = match domain {
                        None => message,
                        Some(domain) => Message::Further(Further { domain, message: Box::new(message) }),
                    };
                    self.send(server, to, message);
                }
                Output::Count(place, what) => it.counters.add(place, what, 1),
                Output::Tell(_) => {}
            }
        }
    }

    fn send(&mut self, server: usize, to: SocketAddrV4, message: Message) {
        let (from, sender) = (self.servers[server].control, self.servers[server].me);
        let bytes = Envelope { sender, boot_epoch: BootEpoch(100), sequence: 1, message }.encode();
        let segment = |it: SocketAddrV4| it.ip().octets()[2];
        for other in 0..self.servers.len() {
            let it = self.servers[other].control;
            let is_near = segment(it) == segment(from);
            let is_to = if to == GROUP { is_near && it != from } else { it == to };
            let is_cut = !is_near && (self.cut.contains(&segment(it)) || self.cut.contains(&segment(from)));
            if is_to && !is_cut {
                self.order += 1;
                self.flights.push(Reverse((self.now + DELAY, self.order, other, from, bytes.clone())));
            }
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let flight = self.flights.peek().map(|Reverse((when, ..))| *when);
            let due = |it: &Server| {
                Deadline::earliest(it.own.next_deadline(), it.furthers.next_deadline()).map(|due| due.at)
            };
            let alarm = (0..self.servers.len()).filter_map(|it| Some((due(&self.servers[it])?, it))).min();
            let next = flight.into_iter().chain(alarm.map(|it| it.0)).min().filter(|it| *it <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            let now = self.now;
            let server = if flight == Some(next) {
                let Some(Reverse((_, _, server, from, bytes))) = self.flights.pop() else { break };
                let envelope = Envelope::decode(&bytes).unwrap();
                let it = &mut self.servers[server];
                if let Message::Further(further) = &envelope.message {
                    let _ = it.furthers.on_message(now, WALL, from, &envelope, further);
                } else {
                    it.own.on_message(now, WALL, from, &envelope);
                }
                server
            } else {
                let Some((_, server)) = alarm else { break };
                let it = &mut self.servers[server];
                it.own.on_timeout(now);
                it.furthers.on_timeout(now, &mut it.own);
                server
            };
            self.drain(server);
        }
        self.now = end;
    }

    fn join(
        &mut self,
        server: usize,
        domain: DomainId,
        called: &str,
        is_open: bool,
    ) -> Result<(), Unchanged> {
        let it = &mut self.servers[server];
        let joined = it.furthers.join(self.now, domain, name(called), is_open, &it.own);
        self.drain(server);
        joined
    }

    fn walk(&self, server: usize) -> BTreeMap<String, Listed> {
        let it = &self.servers[server];
        let all = it.furthers.walk(self.now, &it.own);
        all.into_iter().map(|it| (it.name.to_string(), it)).collect()
    }

    fn names(&self, server: usize) -> Vec<String> {
        self.walk(server).into_keys().collect()
    }

    /// How many that one knows in a domain, itself among them.
    fn members(&self, server: usize, domain: &str) -> usize {
        self.walk(server).get(domain).map_or(0, |it| it.members)
    }

    fn until(&mut self, what: &str, most: Duration, is_so: impl Fn(&Self) -> bool) {
        let began = self.now;
        while !is_so(self) {
            assert!(self.now.since(began) < most, "{what}: not within {most:?}");
            self.run_for(Duration::from_millis(50));
        }
    }
}

/// Two boot networks, two servers each; all name the list, and know of one server of it.
fn campus() -> Site {
    let mut site = Site::new();
    for (segment, own) in [(0, "hall"), (1, "lab")] {
        for number in 0..2 {
            let contact = control(1 - segment, 0);
            site.add(segment, number, own, true, &[contact]);
        }
    }
    site
}

#[test]
fn every_domain_of_a_site_is_listed_with_its_parent_and_where_to_ask() {
    let mut site = campus();
    site.until("four in the list", secs(10), |site| (0..4).all(|it| site.members(it, "campus") == 4));
    site.run_for(secs(5));
    for server in 0..4 {
        assert_eq!(site.names(server), ["campus", "hall", "lab"], "{server}");
        let walk = site.walk(server);
        assert_eq!(walk["hall"].parents, BTreeSet::from([id_of(&name("campus"))]));
        assert_eq!(walk["lab"].parents, walk["hall"].parents);
        assert_eq!(walk["lab"].contacts, BTreeSet::from([control(1, 0), control(1, 1)]));
        let (own, other) = if server < 2 { ("hall", "lab") } else { ("lab", "hall") };
        assert_eq!((walk[own].place, walk[own].members), (Place::Own, 2));
        assert_eq!((walk[other].place, walk[other].members), (Place::Known, 0));
        assert_eq!(walk["campus"].place, Place::List);
    }
}

#[test]
fn a_server_that_names_no_list_learns_from_its_own_domain_where_the_list_is() {
    let mut site = campus();
    let plain = site.add(0, 2, "hall", false, &[]);
    site.run_for(secs(10));
    assert_eq!(site.names(plain), ["campus", "hall"], "the children of a domain are for its members");
    assert_eq!(site.walk(plain)["campus"].contacts, BTreeSet::from([control(0, 0), control(0, 1)]));
    site.join(plain, id_of(&name("campus")), "campus", true).unwrap();
    site.until("it is listed to it", secs(5), |site| site.names(plain) == ["campus", "hall", "lab"]);
    assert!(site.walk(plain)["lab"].coordinates);
    assert_eq!(site.join(plain, id_of(&name("lab")), "lab", true), Err(Unchanged::Coordinates));
}

#[test]
fn a_domain_that_is_made_is_found_by_its_name_and_its_notes_stay_in_it() {
    let mut site = campus();
    site.run_for(secs(8));
    site.join(0, id_of(&name("ops")), "ops", true).unwrap();
    let it = &mut site.servers[0];
    it.furthers.tell_of_new(site.now, &name("ops"));
    site.drain(0);
    site.until("it is listed", secs(5), |site| (0..4).all(|it| site.names(it).contains(&"ops".to_owned())));
    let list = site.servers[3].furthers.get(id_of(&name("campus"))).unwrap();
    let notes: Vec<String> = list.notes(site.now).iter().map(|it| it.note.words.to_string()).collect();
    assert!(notes.contains(&"the domain ops is new".to_owned()), "{notes:?}");
    site.join(3, id_of(&name("ops")), "ops", true).unwrap();
    site.until("two in it", secs(5), |site| site.members(3, "ops") == 2 && site.members(0, "ops") == 2);
    let words = wire::note::Words::new("only for us").unwrap();
    let ops = site.servers[3].furthers.get_mut(id_of(&name("ops"))).unwrap();
    ops.say(site.now, WALL, words, 60).unwrap();
    site.drain(3);
    site.run_for(secs(1));
    let says =
        |domain: &Domain| domain.notes(site.now).iter().any(|it| it.note.words.to_string() == "only for us");
    assert!(says(site.servers[0].furthers.get(id_of(&name("ops"))).unwrap()));
    assert!(!site.walk(1)["ops"].coordinates);
    assert!(
        !says(site.servers[0].furthers.get(id_of(&name("campus"))).unwrap()) && !says(&site.servers[3].own)
    );
}

#[test]
fn a_private_domain_is_found_by_its_id_and_listed_nowhere() {
    let mut site = campus();
    site.run_for(secs(8));
    let id = DomainId([0xab; 16]);
    site.join(0, id, "secret", false).unwrap();
    site.join(2, id, "secret", false).unwrap();
    site.until("they find each other", secs(10), |site| site.members(0, "secret") == 2);
    assert_eq!(site.walk(0)["secret"].place, Place::Private);
    assert_eq!(site.names(1), ["campus", "hall", "lab"]);
    assert_eq!(site.join(0, id, "secret", false), Err(Unchanged::Member));
    assert_eq!(site.join(0, id_of(&name("hall")), "hall", true), Err(Unchanged::Own));
    for number in 0..6 {
        site.join(0, DomainId([number; 16]), "more", false).unwrap();
    }
    assert_eq!(site.join(0, DomainId([9; 16]), "more", false), Err(Unchanged::TooMany));
}

/// R004.26, source 0085: two parts of one boot network that know of no contact find each other through the list.
#[test]
fn parts_of_a_domain_are_joined_through_the_list() {
    let mut site = Site::new();
    let hub = site.add(2, 0, "hub", true, &[]);
    let parts = [0, 1].map(|segment| [0, 1].map(|number| site.add(segment, number, "hall", true, &[])));
    // They know of no server at all; the list finds them through its hub, which asks them.
    for server in parts.into_iter().flatten() {
        let (now, hub) = (site.now, site.servers[hub].control);
        let list = site.servers[server].furthers.get_mut(id_of(&name("campus"))).unwrap();
        list.ask(now, hub);
    }
    site.until("one list", secs(10), |site| (0..5).all(|it| site.members(it, "campus") == 5));
    site.until("one hall", secs(10), |site| (1..5).all(|it| site.members(it, "hall") == 4));
}

/// R004.27, source 0086: the parts of the list are joined by what its children tell of it. Nobody names a contact.
#[test]
fn parts_of_the_list_are_joined_through_a_child() {
    let mut site = Site::new();
    for (segment, own) in [(0, "hall"), (1, "hall"), (0, "lab"), (1, "attic")] {
        let number = u8::try_from(site.servers.len()).unwrap();
        site.add(segment, number, own, true, &[]);
    }
    site.run_for(secs(10));
    assert_eq!((site.members(0, "campus"), site.members(1, "campus")), (2, 2), "a list on each segment");
    // The two parts of the hall meet, and with them the lists.
    let other = site.servers[1].control;
    site.servers[0].own.ask(site.now, other);
    site.drain(0);
    site.until("one list", secs(20), |site| (0..4).all(|it| site.members(it, "campus") == 4));
    assert_eq!(site.names(2), ["attic", "campus", "hall", "lab"]);
}

/// Its notes and its records are counted on from where they were.
#[test]
fn who_leaves_and_joins_again_says_new_things_and_the_old_ones_stay() {
    let mut site = campus();
    site.run_for(secs(8));
    let ops = id_of(&name("ops"));
    let says = |site: &mut Site, text: &str| {
        let it = site.servers[0].furthers.get_mut(ops).unwrap();
        it.say(site.now, WALL, wire::note::Words::new(text).unwrap(), 600).unwrap();
        site.drain(0);
    };
    for server in [0, 2] {
        site.join(server, ops, "ops", true).unwrap();
    }
    site.until("two in it", secs(5), |site| site.members(0, "ops") == 2 && site.members(2, "ops") == 2);
    says(&mut site, "first");
    site.run_for(secs(2));
    let it = &mut site.servers[0];
    it.furthers.leave(site.now, ops, &mut it.own).unwrap();
    site.drain(0);
    site.run_for(secs(2));
    site.join(0, ops, "ops", true).unwrap();
    says(&mut site, "second");
    site.until("two in it again", secs(20), |site| {
        site.members(0, "ops") == 2 && site.members(2, "ops") == 2
    });
    site.run_for(secs(5));
    for server in [0, 2] {
        let notes = site.servers[server].furthers.get(ops).unwrap().notes(site.now);
        let words: Vec<String> = notes.iter().map(|it| it.note.words.to_string()).collect();
        assert!(
            ["first", "second"].iter().all(|it| words.contains(&(*it).to_owned())),
            "{server}: {words:?}"
        );
    }
}

/// A server that takes another boot network's domain for one of operators disturbs nobody.
#[test]
fn a_boot_networks_domain_named_by_mistake_is_told_of_by_its_servers_only() {
    let mut site = Site::new();
    let mistaken = site.add(0, 0, "hall", true, &[control(1, 0)]);
    site.join(mistaken, id_of(&name("lab")), "lab", true).unwrap();
    let parts = [1, 2].map(|segment| site.add(segment, 0, "lab", true, &[control(0, 0)]));
    site.run_for(secs(60));
    for server in parts {
        assert_eq!(site.members(server, "lab"), 2, "the parts of the lab found each other");
        assert!(!site.walk(server)["lab"].contacts.contains(&control(0, 0)));
    }
    let asked = |site: &Site| site.servers.iter().map(|it| it.counters.get("domain", "connect")).sum::<u64>();
    let before = asked(&site);
    site.run_for(secs(60));
    println!("{} connects in a minute", asked(&site) - before);
    assert_eq!(site.members(mistaken, "lab"), 1);
}

#[test]
fn a_contact_under_a_false_name_is_not_believed() {
    let mut site = campus();
    site.run_for(secs(8));
    let lie = |number: u8, called: &[u8]| {
        let domain = DomainId([number; 16]);
        let name = DomainName::received(called).unwrap();
        let (relation, lowest) = (Relation::Child, ServerId([1; 16]));
        Body::Contact(Contact { domain, relation, coordinates: false, control: control(9, 9), lowest, name })
    };
    let now = site.now;
    for (number, called) in [(1, b"hall".as_slice()), (2, b"\x1b[31mhall"), (3, b"")] {
        let list = site.servers[0].furthers.get_mut(id_of(&name("campus"))).unwrap();
        list.put(now, RecordKind::Contact, number.into(), MEMBER_LIVES, lie(number, called));
    }
    site.drain(0);
    site.run_for(secs(3));
    let it = &site.servers[3];
    assert_eq!(it.furthers.walk(site.now, &it.own).len(), 3, "campus, hall, lab");
    assert!(!site.walk(3)["hall"].contacts.contains(&control(9, 9)));
}

#[test]
fn who_is_no_member_names_those_that_it_knows() {
    let mut site = campus();
    site.run_for(secs(8));
    let stranger = site.add(5, 0, "attic", false, &[control(0, 0)]);
    site.join(2, id_of(&name("ops")), "ops", true).unwrap();
    site.run_for(secs(3));
    // The server that it asks is no member, and names the one that is.
    site.join(stranger, id_of(&name("ops")), "ops", true).unwrap();
    site.until("it is let in", secs(5), |site| site.members(stranger, "ops") == 2);
    // Of a boot network's own domain nobody becomes a member this way, even if he does not know what it is.
    site.join(stranger, id_of(&name("hall")), "hall", true).unwrap();
    site.run_for(secs(10));
    assert_eq!((site.members(stranger, "hall"), site.members(0, "hall")), (1, 2));
}
