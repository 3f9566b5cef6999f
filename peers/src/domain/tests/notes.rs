//! Notes among members: who reads them, how long, and who writes them of itself.

use wire::note::About;
use wire::record::{Age, Snum};

use super::*;
use crate::limits::{NOTES_MAX, NOTES_OWNED_MAX, RECORDS_MAX};
use crate::notes::NotWritten;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Net {
    fn say(&mut self, node: usize, words: &str, lives: u16) -> Result<(), NotWritten> {
        let mut said = Ok(());
        self.input(node, |domain, now| said = domain.say(now, WALL, Text::cut(words), lives));
        said
    }

    /// What is read there, with what it is about.
    fn read(&self, node: usize) -> Vec<(About, String)> {
        let notes = self.domain(node).notes(self.now);
        notes.into_iter().map(|it| (it.note.about, it.note.words.to_string())).collect()
    }

    fn about(&self, node: usize, about: About) -> Vec<String> {
        self.read(node).into_iter().filter(|it| it.0 == about).map(|it| it.1).collect()
    }
}

#[test]
fn what_an_operator_says_is_read_by_all_until_it_ends() {
    let mut net = Net::with(1, 4);
    let far = net.add(1, 0, &[control(0, 0)]);
    net.run_for(secs(3));
    assert_eq!(net.say(2, "rack 7 is off until noon", 60), Ok(()));
    net.until_agreed(secs(1));
    net.run_for(secs(20));
    let late = net.add(0, 9, &[]);
    net.run_for(secs(5));
    let note = (About::Operator, "rack 7 is off until noon".to_owned());
    for node in 0..=late {
        assert_eq!(net.read(node), std::slice::from_ref(&note), "{node}");
    }
    let told = net.domain(far).notes(net.now).remove(0);
    assert_eq!(
        (told.owner, told.note.written, told.note.author.to_string()),
        (ServerId([3; 16]), WALL.0, "test".into())
    );
    assert!((33..=35).contains(&told.left), "{}", told.left);
    net.run_for(secs(36));
    assert!((0..=late).all(|node| net.read(node).is_empty()));
    net.until_agreed(secs(1));
}

#[test]
fn another_name_is_told_and_used_from_then_on() {
    let mut net = Net::new(1);
    net.tells = true;
    (0..2).for_each(|number| _ = net.add(0, number, &[]));
    net.run_for(secs(3));
    net.input(0, |domain, now| domain.rename(now, Text::cut("east")));
    net.input(0, |domain, now| domain.rename(now, Text::cut("east")));
    net.say(0, "hello", 60).unwrap();
    net.run_for(secs(1));
    assert_eq!(net.about(1, About::Renamed), ["was called test until now"]);
    let notes = net.domain(1).notes(net.now);
    let note = notes.iter().find(|it| it.note.about == About::Operator).unwrap();
    assert_eq!((note.note.author.to_string().as_str(), net.about(1, About::Operator).len()), ("east", 1));
}

#[test]
fn who_comes_goes_and_vanishes_is_told_once() {
    let mut net = Net::new(1);
    net.tells = true;
    (0..6).for_each(|number| _ = net.add(0, number, &[]));
    net.run_for(secs(10));
    assert_eq!(net.about(0, About::Joined).len(), 6);
    assert!(net.about(0, About::Joined).contains(&"boot server at 10.0.0.3 has joined".to_owned()));
    net.input(5, |domain, now| domain.on_stop(now));
    net.nodes[5].domain = None;
    net.run_for(secs(1));
    for node in 0..5 {
        assert_eq!(net.about(node, About::Left), ["boot server at 10.0.0.6 leaves"]);
    }
    net.sides = vec![0, 0, 0, 1, 1, 0];
    net.run_for(secs(25));
    for node in [0, 1, 2] {
        assert_eq!(net.about(node, About::Partition), ["10.0.0.4, 10.0.0.5: cut off, or dead"]);
    }
    for node in [3, 4] {
        assert_eq!(net.about(node, About::Partition), ["10.0.0.1, 10.0.0.2, 10.0.0.3: cut off, or dead"]);
    }
    net.sides = vec![0; 6];
    net.run_for(secs(10));
    for node in 0..5 {
        assert_eq!(net.about(node, About::Partition).len(), 2, "each part's");
        let healed = net.about(node, About::Healed).len();
        assert!((1..=2).contains(&healed), "{healed}: of each part at most");
    }
    net.until_agreed(secs(1));
}

#[test]
fn a_note_of_a_former_life_is_read_to_its_end() {
    let mut net = Net::with(1, 2);
    net.run_for(secs(3));
    net.say(0, "back in a minute", 120).unwrap();
    net.run_for(secs(1));
    net.nodes[0].domain = None;
    net.start(0, ServerId([1; 16]), 101, &[]);
    net.run_for(secs(5));
    assert_eq!((net.read(0).len(), net.read(1).len()), (1, 1));
    net.until_agreed(secs(1));
    assert_eq!(net.counters.get("record", "disowned"), 0);
}

/// However they come, all keep the newest: else two members would compare their records for as long as notes live.
#[test]
fn of_too_many_notes_all_keep_the_same() {
    let mut net = Net::with(1, 3);
    net.run_for(secs(3));
    let owner = ServerId([9; 16]);
    let said = |number: u32| {
        let (kind, snum) = (RecordKind::Note, Snum { boot_epoch: BootEpoch(1), counter: number });
        let (author, words) = (Text::cut("nobody"), Text::cut(&format!("note {number}")));
        let note = wire::note::Note { written: u64::from(number), about: About::Operator, author, words };
        let uid = Uid { owner, kind, number: u64::from(number) };
        Record { uid, snum, age: Age(0), lives: 600, body: Body::Note(note) }
    };
    let most = u32::try_from(NOTES_OWNED_MAX).unwrap();
    let all: Vec<u32> = (0..2 * most).collect();
    for (node, from) in [(0, 1), (1, 0), (2, 0)] {
        let mut order = all.clone();
        order.rotate_left(node * 40);
        let records: Vec<Record> = order.into_iter().map(said).collect();
        let (sender, from) = (net.domain(from).config.me, control(0, u8::try_from(from).unwrap()));
        net.input(node, |domain, now| {
            let message = Message::Flood(Flood { wants_ack: false, records });
            let envelope = Envelope { sender, boot_epoch: BootEpoch(100), sequence: 1, message };
            assert!(domain.on_message(now, WALL, from, &envelope));
        });
        net.flights.clear();
    }
    net.until_agreed(secs(5));
    let newest: Vec<String> = (most..2 * most).map(|number| format!("note {number}")).collect();
    for node in 0..3 {
        assert_eq!(net.about(node, About::Operator), newest, "{node}");
    }
}

/// Members of another link are missed up to a refresh apart, the speaker among them.
#[test]
fn everybody_beyond_a_cut_is_named_though_the_speaker_is_behind_it() {
    for seed in 1..6 {
        let mut net = Net::new(seed);
        net.tells = true;
        for number in 0..4 {
            net.add(0, number, &[]);
            net.add(1, number, &[control(0, 0)]);
            net.run_for(Duration::from_millis(1700 * seed));
        }
        net.run_for(secs(20));
        net.sides = (0..8).map(|node| node % 2).collect();
        net.run_for(secs(100));
        for (node, beyond) in [(0, 1), (1, 0)] {
            let told = net.about(node, About::Partition).join(" ");
            for number in 1..=4 {
                assert!(told.contains(&format!("10.0.{beyond}.{number}")), "seed {seed}, {number}: {told}");
            }
        }
    }
}

/// A member of whom nobody may be sure says a million things under a thousand names.
#[test]
fn a_million_notes_are_bounded_and_leave_all_other_records_their_room() {
    let mut net = Net::with(1, 2);
    net.run_for(secs(3));
    let from = control(0, 1);
    let said = |owner: u32, number: u64| {
        let mut id = [9; 16];
        id[..4].copy_from_slice(&owner.to_be_bytes());
        let (kind, snum) = (RecordKind::Note, Snum { boot_epoch: BootEpoch(1), counter: 1 });
        let words = Text::received(b"\x1b[2J").unwrap();
        let note =
            wire::note::Note { written: 0, about: About::Operator, author: Text::cut("nobody"), words };
        Record {
            uid: Uid { owner: ServerId(id), kind, number },
            snum,
            age: Age(0),
            lives: 3600,
            body: Body::Note(note),
        }
    };
    for owner in 0..1000 {
        let records: Vec<Record> = (0..1000).map(|number| said(owner, number)).collect();
        net.input(0, |domain, now| {
            let flood = Message::Flood(Flood { wants_ack: false, records });
            let envelope = Envelope {
                sender: ServerId([2; 16]),
                boot_epoch: BootEpoch(100),
                sequence: 1,
                message: flood,
            };
            assert!(domain.on_message(now, WALL, from, &envelope));
        });
        net.flights.clear();
    }
    assert_eq!(net.read(0).len(), NOTES_MAX);
    let last = 999_u32.to_be_bytes();
    let of_one = net.domain(0).notes(net.now).iter().filter(|it| it.owner.0[..4] == last).count();
    assert_eq!(of_one, NOTES_OWNED_MAX);
    assert!(net.read(0).iter().all(|(_, words)| words == "\u{fffd}[2J"), "clean for a terminal");
    assert!(net.domain(0).records().len() < RECORDS_MAX / 8);
    net.put(1, 7);
    net.run_for(secs(5));
    assert_eq!(net.claims(0), 1);
    assert_eq!(net.say(0, "who is nobody?", 60), Ok(()), "our own are no more than we write");
}
