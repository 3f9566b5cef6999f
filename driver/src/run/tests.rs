use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;
use crate::Role;
use crate::udp::{BATCH_DATAGRAMS_MAX, DoorSpec, Interface};

/// Signals go to the whole process: one loop at a time.
static SIGNALS: Mutex<()> = Mutex::new(());

/// What the loop called, in order. Every call puts its name into `pending`, and only `flush` takes it out.
#[derive(Default)]
struct Probe {
    pending: Vec<String>,
    log: Vec<String>,
    deadlines: Vec<Deadline>,
    /// Raises SIGTERM as soon as the log holds this.
    until: &'static str,
    /// Flushes since the last dispatch, and how many there were before each.
    kept: usize,
    dispatched: Vec<usize>,
    /// Given to the worker's end when a datagram says `job`.
    jobs: Option<UnboundedSender<u32>>,
}

impl Probe {
    fn note(&mut self, what: String) {
        assert!(self.pending.is_empty(), "{what} came before {:?} was flushed", self.pending);
        self.pending.push(what);
    }
}

impl Service for Probe {
    type Done = u32;

    fn on_datagram(&mut self, _: Time, arrival: &Arrival<'_>) {
        let text = String::from_utf8_lossy(arrival.bytes).into_owned();
        if let Some(jobs) = self.jobs.as_ref().filter(|_| text == "job") {
            jobs.send(7).unwrap();
        }
        if text == "hup" {
            raise(Signal::SIGHUP).unwrap();
        }
        self.note(format!("{:?} {text}", arrival.role));
    }

    fn on_timeout(&mut self, now: Time) {
        let due = self.deadlines.remove(0);
        assert!(due.at <= now, "{due:?} came early, at {now:?}");
        self.note(format!("timeout {}", due.why));
    }

    fn on_done(&mut self, _: Time, done: u32) {
        self.note(format!("done {done}"));
    }

    fn on_request(&mut self, _: Time, request: &str) -> String {
        self.note(format!("request {request}"));
        format!("answer to {request}")
    }

    fn on_reload(&mut self, _: Time) {
        self.note("reload".to_owned());
    }

    fn on_stop(&mut self, _: Time) {
        self.note("stop".to_owned());
    }

    fn flush(&mut self, _: Time, _: &Doors) {
        if self.pending.iter().any(|what| what == self.until) {
            raise(Signal::SIGTERM).unwrap();
        }
        self.log.append(&mut self.pending);
        self.kept += 1;
    }

    fn dispatch(&mut self, _: &Doors) {
        self.dispatched.extend(Some(std::mem::take(&mut self.kept)).filter(|kept| *kept > 0));
    }

    fn next_deadline(&self) -> Option<Deadline> {
        assert_eq!(self.kept, 0, "the loop goes on to wait, and something was not sent");
        self.deadlines.first().copied()
    }
}

struct Rig {
    doors: Doors,
    control: control::Listener,
    dir: tempfile::TempDir,
    clock: Clock,
}

fn rig(roles: &[Role]) -> Rig {
    let interface = Interface::find("lo", None).unwrap();
    let address = Ipv4Addr::LOCALHOST;
    let spec = |&role| DoorSpec { role, address, port: 0, groups: vec![], broadcast: false, own: true };
    let dir = tempfile::tempdir().unwrap();
    let control = control::Listener::bind(&dir.path().join("sock")).unwrap();
    let doors = Doors::open(&interface, &roles.iter().map(spec).collect::<Vec<_>>(), 1).unwrap();
    Rig { doors, control, dir, clock: Clock::start() }
}

impl Rig {
    fn send(&self, role: Role, text: &str) {
        let to = self.doors.local(role).unwrap();
        assert!(self.doors.send_to(role, to, text.as_bytes()));
    }
}

#[test]
fn every_kind_of_input_is_given_flushed_and_the_loop_ends_on_sigterm() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = rig(&[Role::Control]);
    let (jobs, done) = unbounded_channel();
    let mut probe = Probe { jobs: Some(jobs), until: "request bye", ..Probe::default() };
    let first = Deadline { at: Time::ZERO, why: "at once" };
    probe.deadlines = vec![first, Deadline { at: rig.clock.now() + Duration::from_millis(20), why: "later" }];
    rig.send(Role::Control, "job");
    rig.send(Role::Control, "hup");
    let path = rig.dir.path().join("sock");
    let operator = thread::spawn(move || control::ask(&path, "bye", Duration::from_secs(20)));
    // The operator is heard at any time; what must have come first is checked below as a set.
    run(&mut probe, &rig.clock, rig.doors, rig.control, done).unwrap();
    let _ = operator.join().unwrap();
    assert_eq!(probe.log.first().unwrap(), "timeout at once");
    assert_eq!(probe.log.last().unwrap(), "stop");
    for wanted in ["Control job", "Control hup", "reload", "done 7", "request bye"] {
        assert_eq!(probe.log.iter().filter(|one| *one == wanted).count(), 1, "{wanted} in {:?}", probe.log);
    }
    assert!(!rig.dir.path().join("sock").exists());
}

#[test]
fn a_flood_on_one_socket_leaves_the_others_and_the_deadline_their_turn() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = rig(&[Role::Query, Role::Control]);
    let (_keep, done) = unbounded_channel();
    for number in 1..=300 {
        rig.send(Role::Query, if number == 300 { "last" } else { "flood" });
    }
    rig.send(Role::Control, "patient");
    let deadlines = vec![Deadline { at: rig.clock.now(), why: "due" }];
    let mut probe = Probe { deadlines, until: "Query last", ..Probe::default() };
    run(&mut probe, &rig.clock, rig.doors, rig.control, done).unwrap();
    let place = |what: &str| probe.log.iter().position(|one| one == what).unwrap();
    assert_eq!(place("timeout due"), 0);
    assert!(place("Control patient") <= BATCH_DATAGRAMS_MAX + 1, "{:?}", place("Control patient"));
    assert_eq!(probe.log.iter().filter(|one| *one == "Query flood").count(), 299);
    assert_eq!(probe.log.last().unwrap(), "stop");
}

#[test]
fn what_datagrams_cause_that_came_together_leaves_together() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = rig(&[Role::Query]);
    let (_keep, done) = unbounded_channel();
    ["one", "two", "three"].iter().for_each(|text| rig.send(Role::Query, text));
    let mut probe = Probe { until: "Query three", ..Probe::default() };
    run(&mut probe, &rig.clock, rig.doors, rig.control, done).unwrap();
    assert_eq!(probe.log, ["Query one", "Query two", "Query three", "stop"]);
    // Before the first input, the three of them, and at the end.
    assert_eq!(probe.dispatched, [1, 3, 1]);
}

#[test]
fn deadlines_come_in_order_and_never_early() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = rig(&[]);
    let (_keep, done) = unbounded_channel();
    let at = |millis| rig.clock.now() + Duration::from_millis(millis);
    // `on_timeout` asserts that none is early; the second is already past when it is asked for.
    let deadlines = vec![
        Deadline { at: at(5), why: "first" },
        Deadline { at: Time::ZERO, why: "past" },
        Deadline { at: at(10), why: "third" },
        Deadline { at: Time::from_nanos(u64::MAX), why: "never" },
    ];
    let mut probe = Probe { deadlines, until: "timeout third", ..Probe::default() };
    run(&mut probe, &rig.clock, rig.doors, rig.control, done).unwrap();
    assert_eq!(probe.log, ["timeout first", "timeout past", "timeout third", "stop"]);
}

#[test]
fn a_dead_worker_ends_the_daemon() {
    let _alone = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let rig = rig(&[Role::Query]);
    let (gone, done) = unbounded_channel();
    drop(gone);
    let error = run(&mut Probe::default(), &rig.clock, rig.doors, rig.control, done).unwrap_err();
    assert!(error.to_string().contains("worker thread died"), "{error}");
}

#[test]
fn a_deadline_that_stays_due_is_found_out() {
    let mut overdue = Overdue::default();
    let due = Deadline { at: Time::ZERO, why: "stuck" };
    (0..5).for_each(|_| overdue.note(due, Time::ZERO));
    assert_eq!(overdue.repeats, 4);
    overdue.note(Deadline { why: "another", ..due }, Time::ZERO);
    assert_eq!(overdue.repeats, 0);
}
