//! Who yields (`decisions.md`): every state of ours against everything that others can say about its address.

use super::*;
use crate::limits::{DISPUTE_MAX, LEGACY_ECHO_GAP, STATE_INTERVAL};
use wire::hello::{Hello, Loss};

/// Ours, where somebody meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    Pending,
    Recording,
    Configuring,
    Held,
    /// Held before a restart (Y7).
    Rechecking,
    Draining,
    Resting,
}

const ALL: [Ours; 7] = [
    Ours::Pending,
    Ours::Recording,
    Ours::Configuring,
    Ours::Held,
    Ours::Rechecking,
    Ours::Draining,
    Ours::Resting,
];
const COMMITTED: [Ours; 4] = [Ours::Recording, Ours::Configuring, Ours::Held, Ours::Rechecking];

/// Where the peer's statements come from and go to.
const PEER_CONTROL: SocketAddrV4 = SocketAddrV4::new(PEER, 4016);
const PEER_QUERY: SocketAddrV4 = SocketAddrV4::new(PEER, 4015);
/// Older than any stamp of ours.
const OLD: u64 = 1;
/// Younger.
const YOUNG: u64 = u64::MAX;

/// Another file on a server whose key is greater or less than ours, 10.77.0.21.
fn theirs(greater: bool) -> Content {
    content(if greater { 22 } else { 20 }, "initrd.img")
}

/// Of a member of our domain that knows what we know.
fn hello(loss: Loss, deaf: bool) -> Hello {
    let (role, domain, lowest) = (ServerRole::Binld, DomainId([5; 16]), ServerId([1; 16]));
    Hello { count: 1, loss, deaf, role, domain, lowest, digest: 0 }
}

struct Meeting {
    host: Host,
    group: GroupAddr,
    /// Things said before the peer spoke.
    said: usize,
}

impl Meeting {
    fn new(ours: Ours, pinned: bool) -> Self {
        let items = vec![item(ipxe_boot(pinned, &[21]))];
        let script = everywhere(&[21]);
        let mut host = if ours == Ours::Rechecking {
            let at = Self::new(Ours::Held, pinned);
            let claim = at.host.engine.status(at.host.now).claims.remove(0);
            let record = ClaimRecord {
                key: ClaimKey { content: claim.content, pinned },
                at: Placement { group: at.group, ports: claim.ports.unwrap() },
                boot_item: BootItem { server_type: TYPE, layer: Layer(0) },
                item: claim.item,
                state: StateName::Held,
                stamp: claim.stamp.unwrap(),
                since: claim.since,
            };
            let journal =
                Journal { claims: vec![record], last_alive: Wall(1_000_000_000_000), ..Journal::default() };
            Host::restart(items, script, journal)
        } else {
            Host::start(items, script)
        };
        match ours {
            Ours::Pending | Ours::Rechecking => host.run_for(Duration::from_millis(150)),
            Ours::Recording => {
                host.script.store_silent = true;
                host.run_for(SETTLED);
            }
            Ours::Configuring => {
                host.script.ignores_claims = true;
                host.run_for(SETTLED);
            }
            Ours::Held => host.run_for(SETTLED),
            Ours::Draining | Ours::Resting => {
                host.run_for(SETTLED);
                if ours == Ours::Draining {
                    // Its MTFTP server does not answer the delete.
                    host.script.silent.insert(server(21));
                }
                let nothing = Catalog { items: Vec::new(), ..(*host.engine.config.catalog).clone() };
                host.engine.on_reload(host.now, nothing);
                host.drain();
                host.run_for(Duration::from_millis(100));
            }
        }
        let status = host.engine.status(host.now);
        let group = if ours == Ours::Resting { status.rests[0].0 } else { status.claims[0].group.unwrap() };
        let said = host.sent.len();
        Self { host, group, said }
    }

    fn state(&self) -> Option<StateName> {
        self.host.engine.status(self.host.now).claims.first().map(|claim| claim.state)
    }

    fn is_on_it(&self) -> bool {
        let status = self.host.engine.status(self.host.now);
        status.claims.iter().any(|claim| claim.group == Some(self.group))
            || status.rests.iter().any(|(group, ..)| *group == self.group)
    }

    fn hear_query(&mut self, content: Content) {
        let query = self.query(content);
        self.host.hear(Role::Query, PEER_QUERY, &query.encode(Opcode::Query));
    }

    fn query(&self, content: Content) -> Query {
        let boot_item = BootItem { server_type: TYPE, layer: Layer(0) };
        Query {
            content,
            server_type: boot_item.server_type,
            layer: boot_item.layer,
            group: self.group,
            client_port: 3001,
        }
    }

    /// Somebody echoes our own query or announcement.
    fn hear_echo(&mut self, from: SocketAddrV4) {
        let query = self.query(content(21, "initrd.img"));
        self.host.hear(Role::Query, from, &query.encode(Opcode::Echo));
    }

    fn hear_hold(&mut self, state: HoldState, in_use: bool, millis: u64, answers: Option<u64>) {
        let stamp = Stamp { millis, sender: ServerId([2; 16]) };
        let hold = Hold {
            group: self.group,
            content: theirs(true),
            stamp,
            state,
            in_use,
            is_answer: answers.is_some(),
            nonce: answers.unwrap_or(4711),
        };
        self.host.hear_control(PEER_CONTROL, Message::Hold(hold));
    }

    /// Echoes and statements since the meeting began.
    fn echoes(&self) -> usize {
        let said = self.host.sent.iter().skip(self.said);
        said.filter(|(_, it)| it.role == Role::Query && it.bytes.first() == Some(&1)).count()
    }

    fn holds(&self) -> Vec<(SocketAddrV4, Hold)> {
        let said = self.host.sent.iter().skip(self.said).filter(|(_, it)| it.role == Role::Control);
        said.filter_map(|(_, it)| {
            let message = Envelope::decode(&it.bytes).unwrap().message;
            if let Message::Hold(hold) = message { Some((it.to, hold)) } else { None }
        })
        .collect()
    }

    fn counter(&self, name: &str) -> u64 {
        let mut counters = self.host.engine.counters().iter();
        counters.find(|(other, _)| other == name).map_or(0, |(_, count)| count)
    }

    /// Whether a client is told the address now.
    fn is_told(&mut self) -> bool {
        self.host.ask(77);
        self.host.replies().last().is_some_and(|(_, uri)| uri.starts_with("mtftp://"))
    }
}

/// Y1, Y2, Y3: what a query, which may be a newcomer's question or a holder's announcement, does.
#[test]
fn a_query_takes_nothing_but_a_lesser_pending_claim() {
    for (ours, pinned, greater) in ALL.into_iter().flat_map(|ours| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(p, g)| (ours, p, g))
    }) {
        let mut it = Meeting::new(ours, pinned);
        let before = it.state();
        it.hear_query(theirs(greater));
        let cell = format!("{ours:?}, pinned {pinned}, their key greater {greater}");
        let yields = ours == Ours::Pending && greater;
        assert_eq!(it.echoes(), usize::from(!yields), "{cell}");
        assert_eq!(it.is_on_it(), !yields, "{cell}");
        if yields {
            let expected = if pinned { StateName::Waiting } else { StateName::Clearing };
            assert_eq!(it.state(), Some(expected), "{cell}");
        } else {
            assert_eq!(it.state(), before, "{cell}");
        }
        // Committed ones also say what a query cannot: unasked, and to the control port.
        let holds = it.holds();
        let loud = COMMITTED.contains(&ours);
        assert_eq!(holds.len(), usize::from(loud), "{cell}");
        assert!(holds.iter().all(|(to, hold)| {
            *to == PEER_CONTROL && !hold.is_answer && hold.state == HoldState::Committed
        }));
        if loud {
            let queries = it.host.queries().len();
            it.host.run_for(Duration::from_millis(200));
            assert!(it.host.queries().len() > queries, "{cell}: announced again after 200 ms");
        }
    }
}

/// Y6: the same content on the same address is no conflict, whoever asks.
#[test]
fn the_same_content_is_met_with_silence() {
    for ours in ALL {
        for pinned in [false, true] {
            let mut it = Meeting::new(ours, pinned);
            let before = it.state();
            it.hear_query(content(21, "initrd.img"));
            assert_eq!((it.echoes(), it.holds().len(), it.state()), (0, 0, before), "{ours:?} {pinned}");
            assert!(it.is_on_it());
        }
    }
}

/// Y2, Y3, Y7: an echo ends a pending claim at once and nothing else.
#[test]
fn an_echo_takes_a_pending_claim_and_makes_a_committed_one_ask() {
    for ours in ALL {
        for pinned in [false, true] {
            let mut it = Meeting::new(ours, pinned);
            let before = it.state();
            it.hear_echo(PEER_QUERY);
            let cell = format!("{ours:?}, pinned {pinned}");
            if ours == Ours::Pending {
                assert!(!it.is_on_it(), "{cell}");
                continue;
            }
            assert_eq!(it.state(), before, "{cell}");
            it.host.run_for(Duration::ZERO);
            let asks = COMMITTED.contains(&ours);
            let holds = it.holds();
            assert_eq!(holds.len(), usize::from(asks), "{cell}");
            assert!(holds.iter().all(|(to, hold)| *to == PEER_CONTROL && !hold.is_answer), "{cell}");
            assert_eq!(it.counter("conflict.late"), u64::from(asks), "{cell}");
        }
    }
}

/// An echo of anything but the outstanding query is no echo (G8).
#[test]
fn an_echo_of_something_else_does_nothing_at_all() {
    for ours in ALL {
        let mut it = Meeting::new(ours, false);
        let before = it.state();
        for other in [theirs(true), theirs(false), content(21, "other")] {
            let query = it.query(other);
            it.host.hear(Role::Query, PEER_QUERY, &query.encode(Opcode::Echo));
        }
        let boot_item = it.query(content(21, "initrd.img"));
        let layer = Query { layer: Layer(1), ..boot_item.clone() };
        let port = Query { client_port: 3002, ..boot_item };
        for query in [layer, port] {
            it.host.hear(Role::Query, PEER_QUERY, &query.encode(Opcode::Echo));
        }
        it.host.run_for(Duration::ZERO);
        assert_eq!((it.state(), it.holds().len(), it.is_on_it()), (before, 0, true), "{ours:?}");
    }
}

/// Y3, Y4: what a statement does. Ours is idle; the peer's key is the greater.
#[test]
fn a_statement_that_beats_ours_moves_us_and_any_other_is_answered() {
    use HoldState::{Committed, Draining, Resting};
    // (state, in use, stamp) of theirs, and whether it beats a committed claim of ours that is idle.
    let statements = [
        (Committed, false, OLD, true),
        (Committed, false, YOUNG, false),
        (Committed, true, YOUNG, true),
        (Draining, true, OLD, false),
        (Draining, false, OLD, false),
        (Resting, false, OLD, false),
    ];
    for ours in ALL {
        for (state, in_use, millis, beats) in statements {
            let mut it = Meeting::new(ours, false);
            let before = it.state();
            it.hear_hold(state, in_use, millis, None);
            let cell = format!("{ours:?} hears {state:?}, in use {in_use}, stamp {millis}");
            let answers: Vec<Hold> = it.holds().into_iter().map(|(_, hold)| hold).collect();
            match ours {
                // Whatever a holder says, the address is not free.
                Ours::Pending => assert!(!it.is_on_it() && answers.is_empty(), "{cell}"),
                // After a restart a client may have been told just before: in use.
                Ours::Rechecking if millis == YOUNG => assert_eq!(it.state(), before, "{cell}"),
                Ours::Rechecking | Ours::Configuring | Ours::Held if beats => {
                    let left = it.state() == Some(StateName::Draining)
                        || !it.host.engine.status(it.host.now).rests.is_empty();
                    // An old stamp does not beat use; our restarted claim counts as used.
                    let stays = ours == Ours::Rechecking && !in_use;
                    assert_eq!(left, !stays, "{cell}");
                }
                // Nothing was configured yet: the next address is tried at once.
                Ours::Recording if beats => {
                    assert_eq!((it.state(), it.is_on_it()), (Some(StateName::Clearing), false), "{cell}");
                }
                Ours::Recording | Ours::Configuring | Ours::Held | Ours::Rechecking => {
                    assert_eq!(it.state(), before, "{cell}");
                    let mine = answers.first().unwrap();
                    assert_eq!((mine.is_answer, mine.nonce, mine.state), (true, 4711, Committed), "{cell}");
                }
                Ours::Draining | Ours::Resting => {
                    assert_eq!(it.state(), before, "{cell}");
                    let mine = answers.first().unwrap();
                    let expected = if ours == Ours::Draining { (Draining, true) } else { (Resting, false) };
                    assert_eq!((mine.state, mine.in_use), expected, "{cell}");
                    assert!(mine.is_answer && mine.nonce == 4711, "{cell}");
                }
            }
        }
    }
}

#[test]
fn an_answer_that_was_not_asked_for_is_dropped() {
    for ours in COMMITTED {
        let mut it = Meeting::new(ours, false);
        let before = it.state();
        it.hear_hold(HoldState::Committed, true, OLD, Some(1));
        assert_eq!((it.state(), it.holds().len(), it.is_on_it()), (before, 0, true), "{ours:?}");
        assert_eq!(it.counter("dropped.hold.stale"), 1);
    }
}

#[test]
fn a_disputed_address_is_not_handed_out_until_the_loser_has_let_go() {
    let mut it = Meeting::new(Ours::Held, true);
    it.hear_hold(HoldState::Committed, false, YOUNG, None);
    assert!(!it.is_told(), "both hold it");
    it.host.run_for(3 * STATE_INTERVAL);
    // It yields, and still serves somebody.
    it.hear_hold(HoldState::Draining, true, YOUNG, None);
    assert!(!it.is_told());
    it.hear_hold(HoldState::Resting, false, YOUNG, None);
    assert!(it.is_told());
    assert_eq!(it.counter("conflict.disputed"), 1);
}

#[test]
fn a_dispute_that_was_won_ends_after_120_s() {
    let mut it = Meeting::new(Ours::Held, true);
    let began_at = it.host.now;
    while it.host.now.since(began_at) < DISPUTE_MAX {
        it.hear_hold(HoldState::Draining, true, YOUNG, None);
        assert!(!it.is_told());
        it.host.run_for(STATE_INTERVAL);
    }
    assert!(it.is_told());
}

#[test]
fn four_statements_without_an_answer_and_we_go_on_and_announce() {
    let mut it = Meeting::new(Ours::Held, true);
    it.hear_hold(HoldState::Committed, false, YOUNG, None);
    let queries = it.host.queries().len();
    it.host.run_for(4 * STATE_INTERVAL);
    // One answer, then one a second.
    assert_eq!(it.holds().iter().filter(|(_, hold)| !hold.is_answer).count(), 4);
    it.host.run_for(Duration::from_millis(300));
    assert!(it.is_told() && it.host.queries().len() > queries);
    it.host.run_for(Duration::from_secs(20));
    assert_eq!(it.holds().iter().filter(|(_, hold)| !hold.is_answer).count(), 4, "no more of them");
}

/// Y5: a listed legacy peer that echoes two announcements and answers nothing gets the address; an unlisted one does not.
#[test]
fn a_committed_claim_yields_to_a_listed_legacy_peer_only() {
    for ours in [Ours::Held, Ours::Configuring, Ours::Rechecking] {
        for (listed, gap, yields) in [
            (true, LEGACY_ECHO_GAP, true),
            (true, LEGACY_ECHO_GAP / 2, false),
            (false, LEGACY_ECHO_GAP, false),
        ] {
            let mut it = Meeting::new(ours, true);
            if listed {
                it.host.engine.config.legacy.peers.insert(PEER);
            }
            it.hear_echo(PEER_QUERY);
            it.host.run_for(gap);
            it.hear_echo(PEER_QUERY);
            it.host.run_for(5 * STATE_INTERVAL);
            let cell = format!("{ours:?}, listed {listed}, {gap:?} apart");
            assert_eq!(it.counter("conflict.yielded"), u64::from(yields), "{cell}");
            let mute = it.counter("conflict.mute") + it.counter("conflict.mute_legacy");
            assert_eq!(mute, 1, "{cell}: counted");
            let alarmed = it.host.events.iter().any(|event| matches!(event, Event::Mute { .. }));
            assert_eq!(alarmed, !yields, "{cell}: told");
        }
    }
}

#[test]
fn one_echo_more_is_enough_from_a_listed_peer_that_is_known_to_be_mute() {
    let mut it = Meeting::new(Ours::Held, true);
    it.host.engine.config.legacy.peers.insert(PEER);
    it.hear_echo(PEER_QUERY);
    it.host.run_for(5 * STATE_INTERVAL);
    assert_eq!(it.counter("conflict.yielded"), 0);
    it.hear_echo(PEER_QUERY);
    assert_eq!(it.counter("conflict.yielded"), 1);
}

/// An MTFTP server echoes from its own control port, and is asked there.
#[test]
fn who_echoes_from_a_port_of_its_own_is_asked_there() {
    let mut it = Meeting::new(Ours::Held, false);
    let port = SocketAddrV4::new(PEER, 4017);
    it.hear_echo(port);
    it.host.run_for(Duration::ZERO);
    assert_eq!(it.holds().first().map(|(to, _)| *to), Some(port));
}

/// G26: neither our own deafness nor that of a peer lets silence pass for consent.
#[test]
fn a_clearing_that_somebody_did_not_hear_begins_anew() {
    for own in [false, true] {
        let mut it = Meeting::new(Ours::Pending, true);
        it.host.ask(1);
        // Without that it would be clear after 400 ms in all.
        for _ in 0..10 {
            if own {
                it.host.engine.on_deaf(it.host.now);
                it.host.drain();
            } else {
                let hello = hello(Loss::NONE, true);
                it.host.hear_control(PEER_CONTROL, Message::Hello(hello));
            }
            it.host.run_for(Duration::from_millis(190));
            assert_eq!(it.state(), Some(StateName::Clearing), "own {own}");
        }
        it.host.run_for(Duration::from_millis(600));
        assert_eq!(it.state(), Some(StateName::Held), "own {own}");
    }
}

/// T3: where much is lost, more is asked.
#[test]
fn queries_grow_with_the_loss_that_is_measured() {
    for (loss, queries) in [(0, 4), (20, 4), (21, 6), (101, 8)] {
        let mut rom = item(ipxe_boot(true, &[21]));
        rom.preclear = false;
        let mut host = Host::start(vec![rom], everywhere(&[21]));
        host.run_for(SETTLED);
        let hello = hello(Loss::new(loss).unwrap(), false);
        host.hear_control(PEER_CONTROL, Message::Hello(hello));
        let before = host.queries().len();
        host.ask(1);
        host.run_for(Duration::from_millis(900));
        assert_eq!(host.queries().len() - before, queries, "at {loss} per mille");
    }
}

/// T6b: with a legacy peer about, a clearing outlasts its wait, and a client that cannot wait gets plain TFTP.
#[test]
fn with_a_legacy_peer_a_client_gets_plain_tftp_while_the_clearing_goes_on() {
    let mut dynamic = item(ipxe_boot(true, &[21]));
    dynamic.preclear = false;
    let mut host = Host::start(vec![dynamic], everywhere(&[21]));
    host.engine.config.legacy.peers.insert(PEER);
    host.run_for(SETTLED);
    host.ask(1);
    host.run_for(Duration::from_secs(3));
    assert_eq!(host.replies(), [(1, "tftp://10.77.0.21/initrd.img".to_owned())]);
    host.run_for(Duration::from_secs(1));
    host.ask(2);
    assert_eq!(host.replies().last().unwrap().1, "mtftp://10.77.0.21:1759/initrd.img");
}
