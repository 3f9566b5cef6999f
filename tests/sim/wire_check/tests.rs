//! The judge on packets made by hand: what is right passes, and each wrong turn is found.

use std::net::SocketAddrV4;

use wire::configure::{Ack, Ports};
use wire::policy::Policy;
use wire::{Content, FileName, GroupAddr, Layer, ServerType, Stamp};

use super::*;

const BINLD: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 11), Ipv4Addr::new(10, 77, 0, 12)];
const MTFTPD: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 21), Ipv4Addr::new(10, 77, 0, 22)];
const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);
const PORT: u16 = 1759;

/// Packets, 10 ms apart.
#[derive(Default)]
struct Tape {
    packets: Vec<Packet>,
    at: Duration,
    epoch: u32,
}

impl Tape {
    fn new() -> Self {
        Self { epoch: 1, ..Self::default() }
    }

    fn say(&mut self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), bytes: Vec<u8>) {
        self.at += Duration::from_millis(10);
        let (from, to) = (SocketAddrV4::new(from.0, from.1), SocketAddrV4::new(to.0, to.1));
        self.packets.push(Packet { at: self.at, from, to, bytes });
    }

    fn envelope(&mut self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), epoch: u32, message: Message) {
        let [.., last] = from.0.octets();
        let envelope =
            Envelope { sender: ServerId([last; 16]), boot_epoch: BootEpoch(epoch), sequence: 1, message };
        self.say(from, to, envelope.encode());
    }

    fn queries(&mut self, who: usize, content: (usize, &str), count: usize) {
        for _ in 0..count {
            let content = Content { server: MTFTPD[content.0], file: file(content.1) };
            let query = Query {
                content,
                server_type: ServerType(0x8001),
                layer: Layer(0),
                group: GroupAddr::new(PINNED).unwrap(),
                client_port: 3001,
            };
            self.say(
                (BINLD[who], 4015),
                (Ipv4Addr::new(239, 255, 255, 15), 4015),
                query.encode(Opcode::Query),
            );
        }
    }

    fn configure(&mut self, who: usize, content: (usize, &str), serial: u32) {
        let group = GroupAddr::new(PINNED).unwrap();
        let stamp = Stamp { millis: 1, sender: ServerId([0; 16]) };
        let target = Target::Group {
            group,
            ports: Ports { client: 3001, server: PORT },
            stamp,
            policy: Policy::default(),
        };
        let message = Message::Configure(Configure { serial: Serial(serial), target, file: file(content.1) });
        self.envelope((BINLD[who], 4016), (MTFTPD[content.0], 4017), self.epoch, message);
    }

    fn delete(&mut self, who: usize, content: (usize, &str), serial: u32) {
        let group = GroupAddr::new(PINNED).unwrap();
        let message = Message::Delete(Delete { serial: Serial(serial), group, file: file(content.1) });
        self.envelope((BINLD[who], 4016), (MTFTPD[content.0], 4017), self.epoch, message);
    }

    fn ack(&mut self, who: usize, content: (usize, &str), serial: u32, port: u16) {
        let group = Some(GroupAddr::new(PINNED).unwrap());
        let request = RequestRef { boot_epoch: BootEpoch(self.epoch), serial: Serial(serial), group };
        let ports = Ports { client: 3001, server: port };
        let message = Message::Ack(Ack { request, ports, file_size: 9, file: file(content.1) });
        self.envelope((MTFTPD[content.0], 4017), (BINLD[who], 4016), 77, message);
    }

    /// A claim as it should come about.
    fn claim(&mut self, who: usize, content: (usize, &str), serial: u32) {
        self.queries(who, content, 4);
        self.configure(who, content, serial);
        self.ack(who, content, serial, PORT);
    }

    fn answer(&mut self, who: usize, content: (usize, &str)) {
        let uri = format!("mtftp://{}:{PORT}/{}", MTFTPD[content.0], content.1);
        let mut bytes = vec![0; 236];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[20..24].copy_from_slice(&MTFTPD[content.0].octets());
        bytes.extend([99, 130, 83, 99, 53, 1, 5, 60, 9]);
        bytes.extend(b"PXEClient");
        bytes.extend([224, u8::try_from(uri.len()).unwrap()]);
        bytes.extend(uri.as_bytes());
        bytes.push(255);
        self.say((BINLD[who], DISCOVERY_PORT), (MACHINE, 68), bytes);
    }

    fn broken(&self) -> Vec<Rule> {
        judge(&self.packets).findings.iter().map(|finding| finding.rule).collect()
    }
}

fn file(name: &str) -> FileName {
    FileName::new(name.as_bytes()).unwrap()
}

const ONE: (usize, &str) = (0, "one");
const OTHER: (usize, &str) = (1, "other");

#[test]
fn a_claim_that_was_cleared_and_configured_may_be_told() {
    let mut tape = Tape::new();
    tape.claim(0, ONE, 1);
    tape.answer(0, ONE);
    // Another boot server shares it.
    tape.claim(1, ONE, 1);
    tape.answer(1, ONE);
    let verdict = judge(&tape.packets);
    assert_eq!(verdict.findings, []);
    assert_eq!((verdict.answers, verdict.multicast, verdict.queries, verdict.echoes), (2, 2, 8, 0));
}

#[test]
fn an_answer_before_the_ack_is_found() {
    let mut tape = Tape::new();
    tape.queries(0, ONE, 4);
    tape.configure(0, ONE, 1);
    tape.answer(0, ONE);
    tape.ack(0, ONE, 1, PORT);
    tape.answer(0, ONE);
    assert_eq!(tape.broken(), [Rule::Configured]);
}

#[test]
fn an_ack_counts_only_for_whom_what_and_where_it_was_given() {
    let wrong: [fn(&mut Tape); 5] = [
        // To another boot server; for another file; for another port; of nothing that was asked; too long ago.
        |tape| tape.claim(1, ONE, 1),
        |tape| tape.claim(0, (0, "two"), 1),
        |tape| {
            tape.configure(0, ONE, 1);
            tape.ack(0, ONE, 1, 1760);
        },
        |tape| tape.ack(0, ONE, 1, PORT),
        |tape| {
            tape.claim(0, ONE, 1);
            tape.at += ACK_AGE_MAX;
        },
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let mut tape = Tape::new();
        tape.queries(0, ONE, 4);
        wrong(&mut tape);
        tape.answer(0, ONE);
        assert_eq!(tape.broken(), [Rule::Configured], "{number}");
    }
}

#[test]
fn a_new_process_has_to_begin_anew() {
    let mut tape = Tape::new();
    tape.claim(0, ONE, 1);
    tape.at += Duration::from_secs(1);
    tape.epoch = 2;
    tape.configure(0, ONE, 1);
    tape.answer(0, ONE);
    assert_eq!(tape.broken(), [Rule::Cleared, Rule::Configured]);
    tape.claim(0, ONE, 1);
    tape.answer(0, ONE);
    assert_eq!(tape.broken().len(), 2);
}

#[test]
fn an_address_that_nobody_asked_for_is_found() {
    let mut tape = Tape::new();
    tape.queries(0, ONE, 3);
    tape.configure(0, ONE, 1);
    tape.ack(0, ONE, 1, PORT);
    tape.answer(0, ONE);
    assert_eq!(tape.broken(), [Rule::Cleared]);
}

#[test]
fn one_address_told_for_two_contents_is_found() {
    let mut tape = Tape::new();
    tape.claim(0, ONE, 1);
    tape.answer(0, ONE);
    tape.claim(1, OTHER, 1);
    tape.answer(1, OTHER);
    assert_eq!(tape.broken(), [Rule::OneContent]);
    // And it is found again when the first one goes on.
    tape.answer(0, ONE);
    assert_eq!(tape.broken().len(), 2);
}

#[test]
fn a_release_explains_another_content_but_nothing_less_does() {
    for (deleted, waited, right) in [(true, true, true), (false, true, false), (true, false, false)] {
        let mut tape = Tape::new();
        tape.claim(0, ONE, 1);
        tape.answer(0, ONE);
        if waited {
            tape.at += HANDOUT;
        }
        if deleted {
            tape.delete(0, ONE, 2);
            tape.ack(0, ONE, 2, 0);
        }
        tape.claim(1, OTHER, 1);
        tape.answer(1, OTHER);
        assert_eq!(tape.broken().is_empty(), right, "deleted {deleted}, waited {waited}");
    }
}

#[test]
fn an_answer_after_the_delete_is_found() {
    let mut tape = Tape::new();
    tape.claim(0, ONE, 1);
    tape.delete(0, ONE, 2);
    tape.ack(0, ONE, 2, 0);
    tape.answer(0, ONE);
    assert_eq!(tape.broken(), [Rule::Configured]);
}

#[test]
fn an_answer_that_no_client_takes_is_found() {
    let mut tape = Tape::new();
    tape.say((BINLD[0], DISCOVERY_PORT), (MACHINE, 68), vec![2, 1, 6, 0]);
    assert_eq!(tape.broken(), [Rule::Answer]);
}
