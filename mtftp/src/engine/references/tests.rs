use std::time::Duration;

use wire::configure::{Nak, NakReason, Ports};
use wire::control::Message;

use super::super::bench::*;
use super::super::*;
use crate::limits::*;

mod behalf;
mod faults;
mod leases;

fn ports_of(answer: Option<Message>) -> Option<Ports> {
    match answer {
        Some(Message::Ack(ack)) => Some(ack.ports),
        _ => None,
    }
}

fn is_ack(answer: &Option<Message>) -> bool {
    matches!(answer, Some(Message::Ack(_)))
}

fn in_use(answer: Option<Message>) -> Option<String> {
    match answer {
        Some(Message::Nak(Nak { reason: NakReason::InUse { file, .. }, .. })) => Some(file.to_string()),
        _ => None,
    }
}

fn no_such_file(answer: &Option<Message>) -> bool {
    matches!(answer, Some(Message::Nak(Nak { reason: NakReason::NoSuchFile, .. })))
}

/// R003.15, R003.16: the reference is on disk before the ACK, which repeats the request.
#[test]
fn acks_only_what_is_stored() {
    let mut bench = Bench::new();
    bench.slow_store = true;
    assert_eq!(bench.configure(1, 7, group(1), "a"), None);
    let key = (group(1), binld(1).0);
    assert!(
        matches!(bench.changes.as_slice(), [Change::PutReference(made), Change::PutSerial(highest), Change::DeleteRest(_)]
        if (made.group, made.binld) == key && (highest.group, highest.binld) == key)
    );
    bench.stored(Ok(()));
    let Some(Message::Ack(ack)) = bench.answer_to(binld(1).1) else { panic!("no ACK") };
    assert_eq!((ack.request.serial.0, ack.request.boot_epoch.0, ack.request.group), (7, 1, Some(group(1))));
    assert_eq!((ack.ports, ack.file_size, ack.file), (Ports { client: 3001, server: PORT }, 5127, name("a")));
    assert!(bench.open.is_empty(), "a reference holds no file open");
}

#[test]
fn a_failed_store_is_silence_and_leaves_nothing() {
    let mut bench = Bench::new();
    bench.slow_store = true;
    bench.configure(1, 7, group(1), "a");
    bench.stored(Err(()));
    assert_eq!(bench.answer_to(binld(1).1), None);
    assert!(bench.engine.status().claims.is_empty());
    bench.slow_store = false;
    assert!(is_ack(&bench.configure(1, 7, group(1), "a")), "the retry has the same serial");
}

/// R003.16: ACK even if another BINLD has configured the same address and file; it adopts the ports (G19).
#[test]
fn another_binld_shares_and_adopts_the_ports() {
    let mut bench = Bench::new();
    let other = Ports { client: 4000, server: 9 };
    assert_eq!(ports_of(bench.configure(1, 1, group(1), "a")), Some(Ports { client: 3001, server: PORT }));
    assert_eq!(
        ports_of(bench.configure_on(2, (1, 1), group(1), "a", other)),
        Some(Ports { client: 3001, server: PORT })
    );
    assert_eq!(bench.engine.status().claims[0].references.len(), 2);
}

/// R003.17, G16: the table is the linearisation point of two BINLDs that want one address for two files.
#[test]
fn naks_another_file_and_a_missing_one_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    let before = bench.engine.status();
    assert_eq!(in_use(bench.configure(2, 1, group(1), "b")), Some("a".to_owned()));
    assert!(no_such_file(&bench.configure(2, 2, group(2), "absent")));
    assert_eq!(bench.engine.status(), before);
    assert!(is_ack(&bench.configure(2, 4, group(2), "most")));
}

/// An address that is being stored for one file is in use for any other.
#[test]
fn a_reference_that_is_being_stored_counts() {
    let mut bench = Bench::new();
    bench.slow_store = true;
    bench.configure(1, 1, group(1), "a");
    assert_eq!(in_use(bench.configure(2, 1, group(1), "b")), Some("a".to_owned()));
}

/// G14: equal → the same answer, lower → what is known, higher → processed. Also across a new boot epoch.
#[test]
fn g14_serials_order_requests() {
    let mut bench = Bench::new();
    let first = bench.configure(1, 5, group(1), "a");
    let changes = bench.changes.len();
    assert_eq!(bench.configure(1, 5, group(1), "a"), first);
    assert_eq!(bench.changes.len(), changes, "a repeat writes nothing");
    let Some(Message::Superseded(known)) = bench.configure(1, 4, group(1), "a") else { panic!() };
    assert_eq!((known.known_epoch.0, known.known_serial.0, known.request.serial.0), (1, 5, 4));
    assert!(is_ack(&bench.configure_on(1, (2, 1), group(1), "a", Ports { client: 1, server: 1 })));
    assert!(matches!(bench.configure(1, 9, group(1), "a"), Some(Message::Superseded(_))));
}

/// G14: a configure that a later delete has overtaken makes no reference, even after a restart.
#[test]
fn g14_a_delayed_configure_does_not_undo_a_delete() {
    let mut bench = Bench::new();
    bench.configure(1, 5, group(1), "a");
    assert!(is_ack(&bench.delete(1, 6, group(1), "a")));
    assert!(matches!(bench.configure(1, 5, group(1), "a"), Some(Message::Superseded(_))));
    let delete_unknown = bench.delete(3, 6, group(3), "a");
    assert!(is_ack(&delete_unknown), "a delete of something unknown is done already");
    assert!(matches!(bench.configure(3, 5, group(3), "a"), Some(Message::Superseded(_))));
    let journal = journal_of(&bench);
    let mut bench = restart(journal, Time::ZERO);
    assert!(matches!(bench.configure(1, 5, group(1), "a"), Some(Message::Superseded(_))));
}

/// What a store would hold after these changes.
fn journal_of(bench: &Bench) -> Journal {
    let mut journal = Journal::default();
    write(&mut journal, &bench.changes);
    journal
}

fn write(journal: &mut Journal, changes: &[Change]) {
    for change in changes {
        match change.clone() {
            Change::PutReference(new) => {
                journal.references.retain(|old| (old.group, old.binld) != (new.group, new.binld));
                journal.references.push(new);
            }
            Change::DeleteReference { group, binld } => {
                journal.references.retain(|old| (old.group, old.binld) != (group, binld));
            }
            Change::PutSerial(new) => {
                journal.serials.retain(|old| (old.group, old.binld) != (new.group, new.binld));
                journal.serials.push(new);
            }
            Change::DeleteSerial { group, binld } => {
                journal.serials.retain(|old| (old.group, old.binld) != (group, binld));
            }
            Change::PutRest(new) => {
                journal.rests.retain(|old| old.group != new.group);
                journal.rests.push(new);
            }
            Change::DeleteRest(group) => journal.rests.retain(|old| old.group != group),
            // Nothing is answered from it.
            Change::Saved(_) | Change::Alive(_) => {}
        }
    }
}

fn restart(journal: Journal, now: Time) -> Bench {
    restart_at(journal, now, Wall(0))
}

fn restart_at(journal: Journal, now: Time, wall: Wall) -> Bench {
    let config = EngineConfig::default();
    Bench::with(Engine::recover(config, identity(), Draw::from_seed(2), journal, now, wall))
}

/// R003.18–R003.20: the address is released with the last reference and not before; then it rests (G15).
#[test]
fn released_with_the_last_reference_then_rests() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.configure(2, 1, group(1), "a");
    assert!(is_ack(&bench.delete(1, 2, group(1), "a")));
    assert_eq!(bench.engine.status().claims[0].references.len(), 1);
    assert_eq!(in_use(bench.configure(1, 3, group(1), "b")), Some("a".to_owned()));
    assert!(is_ack(&bench.delete(2, 2, group(1), "a")));
    assert!(bench.engine.status().claims.is_empty());
    assert_eq!(bench.engine.status().rests.len(), 1);
    assert_eq!(in_use(bench.configure(1, 4, group(1), "b")), Some("a".to_owned()), "resting");
    bench.pass(REST - Duration::from_secs(1));
    assert_eq!(in_use(bench.configure(1, 5, group(1), "b")), Some("a".to_owned()), "still resting");
    bench.pass(Duration::from_secs(1));
    assert!(is_ack(&bench.configure(1, 6, group(1), "b")));
    let journal = journal_of(&bench);
    assert_eq!((journal.references.len(), journal.rests.len()), (1, 0));
}

#[test]
fn the_same_content_may_have_its_resting_address_back() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.delete(1, 2, group(1), "a");
    assert!(is_ack(&bench.configure(2, 1, group(1), "a")));
    bench.pass(REST * 2);
    assert_eq!(bench.engine.status().claims.len(), 1);
    assert!(journal_of(&bench).rests.is_empty());
}

#[test]
fn the_pinned_address_rests_ten_seconds_and_has_its_own_ports() {
    let mut bench = Bench::new();
    let pinned_ports = Ports { client: 3001, server: PINNED_PORT };
    let wrong = Ports { client: 5, server: 6 };
    assert_eq!(ports_of(bench.configure_on(1, (1, 1), pinned(), "a", wrong)), Some(pinned_ports));
    // One content may have a dynamic and a pinned claim: its opens are told apart by the server port.
    assert_eq!(ports_of(bench.configure(1, 1, group(1), "a")).unwrap().server, PORT);
    bench.delete(1, 2, pinned(), "a");
    bench.ms(9_900);
    assert!(in_use(bench.configure(2, 1, pinned(), "b")).is_some());
    bench.ms(200);
    assert!(is_ack(&bench.configure(2, 2, pinned(), "b")));
}

/// An open finds its claim by (server port, file): a second address of one content needs another port.
#[test]
fn pairs_of_server_port_and_file_are_unique() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    assert_eq!(bench.configure(2, 1, group(2), "a"), None);
    assert_eq!(bench.counter("control", "no_server_port_left"), 1);
    assert!(is_ack(&bench.configure(2, 1, group(2), "b")));
}

/// G11: after a restart with references they are in force at once, and nothing is released for 90 s.
#[test]
fn g11_restart_keeps_references_and_releases_nothing_for_a_while() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    let mut bench = restart(journal_of(&bench), Time::ZERO);
    assert_eq!(in_use(bench.configure(2, 1, group(1), "b")), Some("a".to_owned()));
    assert!(is_ack(&bench.configure(2, 2, group(2), "b")), "new configures are accepted");
    assert_eq!(bench.delete(1, 2, group(1), "a"), None, "silence: the BINLD asks again");
    assert_eq!(bench.counter("control", "delete_in_grace"), 1);
    bench.pass(GRACE);
    assert!(is_ack(&bench.delete(1, 2, group(1), "a")));
    // The equal configure is answered again although the answer itself is not kept.
    let mut bench = restart(journal_of(&bench), bench.now);
    assert!(is_ack(&bench.delete(1, 2, group(1), "a")));
}

#[test]
fn rests_start_over_in_full_after_a_restart() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.delete(1, 2, group(1), "a");
    bench.pass(REST / 2);
    let mut bench = restart(journal_of(&bench), Time::ZERO);
    bench.pass(REST - Duration::from_secs(2));
    assert!(in_use(bench.configure(2, 1, group(1), "b")).is_some());
    bench.ms(2_000);
    assert!(is_ack(&bench.configure(2, 2, group(1), "b")));
}

/// The last delete takes no new opens, ends the pass, frees, then says so.
#[test]
fn the_last_delete_waits_for_the_session() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "a");
    bench.open(PORT, client(1), "a");
    assert_eq!(bench.delete(1, 2, group(1), "a"), None);
    bench.open(PORT, client(2), "a");
    assert_eq!(bench.counter("session", "open_while_closing"), 1);
    assert_eq!(bench.delete(1, 2, group(1), "a"), None, "a repeat changes nothing");
    for block in 1..=11 {
        bench.ack(Role::Mtftp(PORT), client(1), block);
    }
    assert!(is_ack(&bench.answer_to(binld(1).1)));
    assert_eq!(bench.engine.status().rests.len(), 1);
}

#[test]
fn a_closing_session_is_cut_in_the_end() {
    let mut bench = Bench::new();
    bench.configure(1, 1, group(1), "most");
    bench.open(PORT, client(1), "most");
    assert_eq!(bench.delete(1, 2, group(1), "most"), None);
    let mut block = 0;
    let mut acked = Vec::new();
    while acked.is_empty() {
        block += 1;
        bench.ack(Role::Mtftp(PORT), client(1), block);
        bench.ms(100);
        acked.extend(bench.answer_to(binld(1).1));
        assert!(block < 1_300, "the session was not cut");
    }
    assert!(block >= 1_190, "cut too early: {block}");
}

/// A configure while the last delete waits keeps the address: by another BINLD, or by the same one.
#[test]
fn a_configure_keeps_a_closing_address() {
    for n in [1, 2] {
        let mut bench = Bench::new();
        bench.configure(1, 1, group(1), "a");
        bench.open(PORT, client(1), "a");
        bench.delete(1, 2, group(1), "a");
        let (_, from) = binld(n);
        let stamp = wire::Stamp { millis: 5, sender: binld(n).0 };
        let target = wire::configure::Target::Group {
            group: group(1),
            ports: Ports { client: 3001, server: PORT },
            stamp,
            policy: wire::policy::Policy::default(),
        };
        let message = Message::Configure(wire::configure::Configure {
            serial: wire::Serial(3),
            target,
            file: name("a"),
        });
        let envelope = Envelope { sender: binld(n).0, boot_epoch: BootEpoch(1), sequence: 0, message };
        bench.datagram(Role::Control, from, &envelope.encode());
        assert!(
            bench
                .sent
                .iter()
                .all(|sent| matches!(Envelope::decode(&sent.bytes).unwrap().message, Message::Ack(_)))
        );
        // The other one's delete is done at once; the reference of the one who configured stays.
        assert_eq!(bench.sent.len(), usize::from(n));
        let claims = bench.engine.status().claims;
        assert_eq!(claims[0].references.iter().map(|r| r.binld).collect::<Vec<_>>(), [binld(n).0]);
        bench.open(PORT, client(2), "a");
        assert_eq!(bench.counter("session", "open_while_closing"), 0);
    }
}

#[test]
fn a_probe_keeps_nothing() {
    let mut bench = Bench::new();
    let Some(Message::Ack(ack)) = bench.probe(1, "huge") else { panic!("no ACK") };
    assert_eq!((ack.request.group, ack.file_size), (None, 33_553_920));
    assert!(no_such_file(&bench.probe(1, "absent")));
    assert!(bench.changes.is_empty() && bench.open.is_empty());
}

#[test]
fn a_file_that_is_too_large_to_be_multicast_is_refused_with_its_size_and_the_limit() {
    let mut bench = Bench::new();
    let reason = |answer: Option<Message>| match answer {
        Some(Message::Nak(nak)) => nak.reason,
        other => panic!("no NAK: {other:?}"),
    };
    // PXE-MTFTP is all there is on the pinned address.
    let refused = reason(bench.configure(1, 1, pinned(), "huge"));
    assert_eq!(refused, NakReason::TooLarge { size: 33_553_920, size_max: 33_553_919 });
    assert!(bench.changes.is_empty() && bench.open.is_empty());
    // On others there is RFC 2090 as well.
    assert!(is_ack(&bench.configure(1, 2, group(2), "huge")));
    bench.files.insert("huger".to_owned(), 96_205_380);
    let refused = reason(bench.configure(1, 3, group(3), "huger"));
    assert_eq!(refused, NakReason::TooLarge { size: 96_205_380, size_max: 96_205_379 });
    bench.files.insert("huger".to_owned(), 96_205_379);
    assert!(is_ack(&bench.configure(1, 4, group(3), "huger")));
}

#[test]
fn tables_are_bounded_and_overflow_is_silence() {
    let mut bench = Bench::new();
    let mut answered = 0;
    for n in 0..REFERENCES_PER_SENDER_MAX + 3 {
        let n = u32::try_from(n).unwrap();
        let group = GroupAddr::new(Ipv4Addr::from(0xefff_2000 + n)).unwrap();
        let file = format!("f{n}");
        bench.files.insert(file.clone(), 1);
        bench.ms(10);
        answered += usize::from(is_ack(&bench.configure(1, 1, group, &file)));
    }
    assert_eq!(answered, REFERENCES_PER_SENDER_MAX);
    assert_eq!(bench.counter("control", "too_many_references"), 3);
    assert!(is_ack(&bench.configure(2, 1, group(1), "a")), "another BINLD still has room");
}

#[test]
fn addresses_that_must_never_carry_a_transfer_are_silence() {
    let mut bench = Bench::new();
    for address in [[224, 0, 0, 5], [239, 0, 0, 1], [239, 128, 0, 1], [239, 255, 255, 15]] {
        let group = GroupAddr::new(Ipv4Addr::from(address)).unwrap();
        assert_eq!(bench.configure(1, 1, group, "a"), None);
    }
    assert_eq!(bench.counter("control", "forbidden_address"), 4);
}

/// Serials without a reference are forgotten after a while, in the store too.
#[test]
fn serials_are_forgotten() {
    let mut bench = Bench::new();
    bench.delete(1, 6, group(1), "a");
    assert_eq!(journal_of(&bench).serials.len(), 1);
    bench.pass(KNOWN_KEEP);
    assert!(journal_of(&bench).serials.is_empty());
    assert!(is_ack(&bench.configure(1, 1, group(1), "a")));
    bench.pass(KNOWN_KEEP * 2);
    assert!(matches!(bench.configure(1, 0, group(1), "a"), Some(Message::Superseded(_))));
}
