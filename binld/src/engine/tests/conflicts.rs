//! Conflict after conflict: who keeps out of the way, slows down, and hands nothing out that is contested.

use wire::flood::Flood;
use wire::hello::{Hello, Loss};
use wire::record::{Age, Body, Claim, Member, Record, RecordKind, Snum, Uid};

use super::*;
use crate::limits::{CANDIDATES_MAX, CONFLICTS_MANY, CONFLICTS_PAUSE, EXHAUSTED_PAUSE};

const FROM: SocketAddrV4 = SocketAddrV4::new(PEER, 4015);

/// Lets time pass while a peer echoes every query; gives when each new address was first asked for.
fn all_are_echoed(host: &mut Host, span: Duration) -> Vec<Time> {
    let end = host.now + span;
    let mut seen = BTreeSet::new();
    let mut picked_at = Vec::new();
    while let Some(deadline) = host.engine.next_deadline().filter(|deadline| deadline.at <= end) {
        host.now = host.now.max(deadline.at);
        host.engine.on_timeout(host.now);
        host.drain();
        let fresh = host.queries().into_iter().filter(|(_, query)| seen.insert(query.group));
        for (at, query) in fresh.collect::<Vec<_>>() {
            picked_at.push(at);
            host.hear(Role::Query, FROM, &query.encode(Opcode::Echo));
        }
    }
    host.now = end;
    picked_at
}

/// G22: sixteen addresses at once, then a pause and an alarm.
#[test]
fn a_claim_that_is_always_refused_pauses_after_sixteen_addresses() {
    let mut host = Host::start(vec![item(ipxe_boot(false, &[21]))], everywhere(&[21]));
    let picked_at = all_are_echoed(&mut host, EXHAUSTED_PAUSE * 2);
    let tried = usize::try_from(CANDIDATES_MAX).unwrap();
    let gaps: Vec<Duration> = picked_at.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps[..tried - 1].iter().all(|gap| *gap < Duration::from_millis(100)), "{gaps:?}");
    assert!(gaps[tried - 1] >= EXHAUSTED_PAUSE, "{gaps:?}");
    assert!(host.events.iter().any(|event| matches!(event, Event::Exhausted { .. })));
    // A client is not kept waiting for all that.
    host.ask(1);
    assert_eq!(host.replies(), [(1, "tftp://10.77.0.21/initrd.img".to_owned())]);
}

/// races.md § 2.5: a server in a storm of conflicts does not feed it.
#[test]
fn a_server_that_is_refused_twenty_times_in_ten_seconds_slows_down() {
    let other = Boot { multicast: Some(name("boot.ipxe")), ..ipxe_boot(false, &[21]) };
    let mut host = Host::start(vec![item(ipxe_boot(false, &[21])), item(other)], everywhere(&[21]));
    let picked_at = all_are_echoed(&mut host, CONFLICTS_PAUSE * 2);
    let until = |end: Duration| picked_at.iter().filter(|at| at.since(Time::ZERO) < end).count();
    let begun = until(CONFLICTS_PAUSE);
    assert!((CONFLICTS_MANY..=CONFLICTS_MANY + 1).contains(&begun), "{begun}");
    assert!(until(CONFLICTS_PAUSE * 2) <= begun + 4, "{picked_at:?}");
}

#[test]
fn an_address_that_somebody_was_heard_to_ask_for_is_tried_last() {
    let picks = |heard: Option<&Query>| {
        let mut host = Host::start(Vec::new(), everywhere(&[21]));
        if let Some(query) = heard {
            host.hear(Role::Query, FROM, &query.encode(Opcode::Query));
        }
        host.engine.on_reload(host.now, config(vec![item(ipxe_boot(false, &[21]))]).catalog);
        host.drain();
        host.run_for(Duration::from_secs(2));
        host.queries()[0].1.clone()
    };
    let first = picks(None);
    let theirs = Query { content: content(22, "theirs"), ..first };
    assert_ne!(picks(Some(&theirs)).group, first.group);
    let elsewhere = Query { group: group("239.255.9.9"), ..theirs };
    assert_eq!(picks(Some(&elsewhere)).group, first.group);
}

/// G5: what a member holds is known for longer than the member itself; who reads the log is told where it was.
#[test]
fn an_address_of_a_member_that_has_vanished_is_refused_in_its_name() {
    let mut host = Host::start(Vec::new(), everywhere(&[21]));
    let (peer, from) = (ServerId([9; 16]), SocketAddrV4::new(PEER, 4016));
    let (role, domain) = (ServerRole::Binld, DomainId([5; 16]));
    let hello = Hello { count: 1, loss: Loss::NONE, deaf: false, role, domain, lowest: peer, digest: 1 };
    host.hear_control(from, Message::Hello(hello));
    let claim = Body::Claim(Claim {
        group: group("239.255.1.1"),
        content: content(22, "theirs"),
        ports: Ports { client: 3001, server: 1759 },
        boot_item: BootItem { server_type: TYPE, layer: Layer(0) },
        stamp: Stamp { millis: 1, sender: peer },
        state: HoldState::Committed,
        pinned: true,
        configured: true,
    });
    let record = |kind, lives, body| {
        let uid = Uid { owner: peer, kind, number: 0 };
        let snum = Snum { boot_epoch: BootEpoch(1), counter: 1 };
        Record { uid, snum, age: Age(0), lives, body }
    };
    let member = Body::Member(Member { role, control: from, roll: 0 });
    let records = vec![record(RecordKind::Member, 60, member), record(RecordKind::Claim, 120, claim)];
    host.hear_control(from, Message::Flood(Flood { wants_ack: false, records }));
    host.run_for(Duration::from_secs(80));
    host.engine.on_reload(host.now, config(vec![item(ipxe_boot(true, &[21]))]).catalog);
    host.drain();
    host.run_for(Duration::from_secs(5));
    let refusals = host.events.iter().filter_map(|event| {
        let Event::Contested { by, .. } = event else { return None };
        Some(*by)
    });
    assert_eq!(refusals.collect::<Vec<_>>(), [PEER]);
}

/// Y7: after a restart an address is handed out only after a round in which nobody objected.
#[test]
fn a_restarted_holder_that_is_contested_asks_again_before_it_hands_out() {
    let host = settled(false);
    let records = host.changes.iter().rev();
    let record = records.filter_map(|it| if let Change::PutClaim(record) = it { Some(record) } else { None });
    let journal = Journal {
        claims: record.take(1).cloned().collect(),
        last_alive: Wall(1_000_000_000_000 - 60_000),
        ..Journal::default()
    };
    let mut host = Host::restart(vec![item(ipxe_boot(false, &[21]))], everywhere(&[21]), journal);
    // At the very end of its round somebody echoes, and answers no statement.
    host.run_for(Duration::from_millis(3_500));
    let query = host.queries()[0].1.clone();
    host.hear(Role::Query, FROM, &query.encode(Opcode::Echo));
    host.run_for(Duration::from_millis(500));
    assert_eq!(host.states()[0].1, StateName::Clearing, "the round is over, and was not clean");
    host.run_for(SETTLED);
    assert_eq!(host.states()[0].1, StateName::Held);
}
