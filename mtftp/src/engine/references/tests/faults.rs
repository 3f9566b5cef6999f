//! I2: whatever the store does and whenever the program dies, what was acknowledged is on disk, and nothing is
//! acknowledged that is not.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// BINLD, address, file; whether with its last number again.
    Configure(u8, u8, bool, bool),
    Delete(u8, u8, bool),
    Forget(u8, u8),
    /// Opens a session of that file.
    Open(bool),
    /// The store answers the oldest write.
    Store(bool),
    /// The program dies; so many of the writes under way were done.
    Crash(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let binld = || 1_u8..4;
    let place = || 1_u8..3;
    let step = prop_oneof![
        6 => (binld(), place(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(n, place, file, again)| Step::Configure(n, place, file, again)),
        4 => (binld(), place(), any::<bool>()).prop_map(|(n, place, file)| Step::Delete(n, place, file)),
        2 => (binld(), place()).prop_map(|(n, place)| Step::Forget(n, place)),
        2 => any::<bool>().prop_map(Step::Open),
        10 => prop::bool::weighted(0.7).prop_map(Step::Store),
        1 => (0_usize..4).prop_map(Step::Crash),
        2 => prop::sample::select(vec![1, 40, 100, 310]).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..80)
}

fn file(which: bool) -> &'static str {
    if which { "a" } else { "b" }
}

type Key = (GroupAddr, ServerId);

struct World {
    bench: Bench,
    /// What is on disk.
    disk: Journal,
    serial: u32,
    last_serial: BTreeMap<Key, u32>,
    /// Up to which number somebody wanted the reference gone.
    unwanted: BTreeMap<Key, u32>,
    /// What was acknowledged, and nobody wanted gone since.
    acked: BTreeMap<Key, String>,
    /// Rests that were over, and that the store did not forget: they come back at a restart, which does no harm.
    remains: BTreeSet<GroupAddr>,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.slow_store = true;
        Self {
            bench,
            disk: Journal::default(),
            serial: 0,
            last_serial: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            acked: BTreeMap::new(),
            remains: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Configure(n, place, which, again) => {
                let key = (group(place), binld(n).0);
                let serial = self.last_serial.get(&key).copied().filter(|_| again).unwrap_or_else(|| {
                    self.serial += 1;
                    self.serial
                });
                self.last_serial.insert(key, serial);
                let answer = self.bench.configure(n, serial, group(place), file(which));
                self.hear(n, answer);
            }
            Step::Delete(n, place, which) => {
                self.serial += 1;
                self.unwant((group(place), binld(n).0));
                let answer = self.bench.delete(n, self.serial, group(place), file(which));
                self.hear(n, answer);
            }
            Step::Forget(n, place) => {
                self.unwant((group(place), binld(n).0));
                self.bench.forget(n, group(place), true);
            }
            Step::Open(which) => self.bench.open(PORT, client(1), file(which)),
            Step::Store(works) => self.store(works),
            Step::Crash(written) => {
                for _ in 0..written {
                    if let Some((_, changes)) = self.bench.unstored.pop_front() {
                        write(&mut self.disk, &changes);
                    }
                }
                self.bench = restart(self.disk.clone(), Time::ZERO);
                write(&mut self.disk, &self.bench.changes);
                self.bench.slow_store = true;
                self.remains.clear();
            }
            Step::Pass(seconds) => self.bench.pass(Duration::from_secs(seconds)),
        }
        self.listen();
        self.check();
    }

    fn unwant(&mut self, key: Key) {
        self.unwanted.insert(key, self.serial);
        self.acked.remove(&key);
    }

    fn store(&mut self, works: bool) {
        let Some((ticket, changes)) = self.bench.unstored.pop_front() else { return };
        if works {
            write(&mut self.disk, &changes);
        } else if let [Change::DeleteRest(group)] = changes.as_slice() {
            self.remains.insert(*group);
        }
        self.bench.engine.on_stored(self.bench.now, ticket, if works { Ok(()) } else { Err(()) });
        self.bench.drain();
    }

    /// Everything that went out to BINLDs.
    fn listen(&mut self) {
        for sent in std::mem::take(&mut self.bench.sent) {
            if sent.role == Role::Control {
                let message = Envelope::decode(&sent.bytes).unwrap().message;
                self.hear(sent.to.ip().octets()[3], Some(message));
            }
        }
        self.bench.answers.clear();
        for event in std::mem::take(&mut self.bench.events) {
            if let Event::Deleted { group, released: true, .. } = event {
                assert!(self.disk.rests.iter().any(|rest| rest.group == group), "{group} is free at once");
                assert!(!self.bench.engine.sessions.is_running(group), "{group} is free while it is sent to");
            }
        }
    }

    fn hear(&mut self, n: u8, message: Option<Message>) {
        let Some(Message::Ack(ack)) = message else { return };
        let key = (ack.request.group.unwrap(), binld(n).0);
        if ack.file_size == 0 {
            return;
        }
        let row = self.disk.references.iter().find(|row| (row.group, row.binld) == key);
        let row = row.unwrap_or_else(|| panic!("{key:?} was acknowledged and is not on disk"));
        assert_eq!((row.file.clone(), row.ports), (ack.file.clone(), ack.ports));
        assert!(row.serial >= ack.request.serial);
        if self.unwanted.get(&key).is_none_or(|unwanted| ack.request.serial.0 > *unwanted) {
            self.acked.insert(key, ack.file.to_string());
        }
    }

    fn check(&self) {
        let status = self.bench.engine.status();
        for ((group, binld), file) in &self.acked {
            let on_disk = self
                .disk
                .references
                .iter()
                .any(|row| (row.group, row.binld) == (*group, *binld) && row.file.to_string() == *file);
            assert!(on_disk, "{group} of {binld} was acknowledged and is lost on disk");
            let served = status.claims.iter().any(|claim| {
                let has = claim.references.iter().any(|reference| reference.binld == *binld);
                claim.group == *group && claim.file.to_string() == *file && has
            });
            assert!(served, "{group} of {binld} was acknowledged and is not there");
        }
        let mut files = BTreeMap::new();
        let mut opens = BTreeMap::new();
        for row in &self.disk.references {
            assert_eq!(files.entry(row.group).or_insert(&row.file), &&row.file, "two files on one address");
            let open = (row.ports.server, row.file.clone());
            assert_eq!(*opens.entry(open).or_insert(row.group), row.group, "two addresses for one open");
            let highest = self.disk.serials.iter().find(|it| (it.group, it.binld) == (row.group, row.binld));
            assert!(highest.is_some_and(|it| (it.epoch, it.serial) >= (row.epoch, row.serial)), "no serial");
        }
        for claim in status.claims.iter().filter(|claim| claim.references.iter().any(|it| it.stored)) {
            let resting = self.disk.rests.iter().find(|rest| rest.group == claim.group);
            assert!(resting.is_none_or(|rest| rest.file == claim.file), "a rest of another file");
        }
    }

    /// When everything is written, the core and the disk agree.
    fn settle(&mut self) {
        while !self.bench.unstored.is_empty() {
            self.store(true);
            self.listen();
            self.check();
        }
        self.bench.pass(CLOSING_MAX + Duration::from_secs(1));
        while !self.bench.unstored.is_empty() {
            self.store(true);
        }
        let status = self.bench.engine.status();
        let mut there: Vec<_> = status
            .claims
            .iter()
            .flat_map(|claim| {
                assert!(!claim.closing, "{} takes no opens any more", claim.group);
                claim.references.iter().map(|it| {
                    assert!(it.stored);
                    (claim.group, it.binld, it.epoch, it.serial, it.stamp, it.since, it.renewed)
                })
            })
            .collect();
        let mut written: Vec<_> = self
            .disk
            .references
            .iter()
            .map(|it| (it.group, it.binld, it.epoch, it.serial, it.stamp, it.since, it.renewed))
            .collect();
        there.sort();
        written.sort();
        assert_eq!(there, written);
        let resting: Vec<GroupAddr> = status.rests.iter().map(|rest| rest.group).collect();
        let written: Vec<GroupAddr> = self.disk.rests.iter().map(|rest| rest.group).collect();
        for group in &resting {
            assert!(written.contains(group), "{group} rests, but not on disk");
        }
        for group in written.iter().filter(|group| !self.remains.contains(group)) {
            assert!(resting.contains(group), "{group} rests on disk only");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn i2_acknowledged_is_on_disk_whatever_the_store_does(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}

/// While the last reference goes, a new one that the store does not take must not let opens in.
#[test]
fn an_address_takes_no_opens_for_a_reference_that_is_never_stored() {
    let mut world = World::new();
    for step in [
        Step::Configure(3, 1, false, false),
        Step::Configure(1, 1, false, false),
        Step::Configure(2, 1, false, false),
        Step::Store(true),
        Step::Delete(3, 1, false),
        Step::Store(false),
        Step::Open(false),
        Step::Store(false),
        Step::Store(true),
    ] {
        world.step(&step);
    }
    world.settle();
}
