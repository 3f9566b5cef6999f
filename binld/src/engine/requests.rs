//! Requests to MTFTP servers that wait for an answer: sent again until answered or given up (R003.15, G17).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use driver::Time;
use wire::configure::RequestRef;
use wire::control::Message;
use wire::{BootEpoch, Content, FileName, GroupAddr, Serial};

use super::claims::ClaimKey;
use crate::limits::CONFIGURE_WAITS;

/// What a request is about; one request per subject is under way at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Configure (or renew) the claim.
    Configure(ClaimKey),
    /// Delete the reference for the claim on that address.
    Delete(ClaimKey, GroupAddr),
    /// Ask whether a file can be had by plain TFTP.
    File(Content),
}

impl Subject {
    fn content(&self) -> &Content {
        match self {
            Self::Configure(key) | Self::Delete(key, _) => &key.content,
            Self::File(content) => content,
        }
    }
}

#[derive(Debug, Clone)]
struct Outstanding {
    to: SocketAddrV4,
    serial: Serial,
    group: Option<GroupAddr>,
    message: Message,
    sent: usize,
}

/// What to do about a request whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Send this to there, and call again at that time.
    Send(SocketAddrV4, Message, Time),
    /// Every wait is over: the server is silent. The request is forgotten.
    GiveUp(SocketAddrV4),
}

/// The requests under way.
#[derive(Debug, Default)]
pub struct Requests {
    by_subject: BTreeMap<Subject, Outstanding>,
    by_serial: BTreeMap<Serial, Subject>,
    last_serial: u32,
}

impl Requests {
    /// Begins a request in place of one on the same subject; it is due at once.
    pub fn begin(
        &mut self,
        subject: Subject,
        to: SocketAddrV4,
        group: Option<GroupAddr>,
        message: impl FnOnce(Serial) -> Message,
    ) {
        self.forget(&subject);
        self.last_serial = self.last_serial.saturating_add(1);
        let serial = Serial(self.last_serial);
        self.by_serial.insert(serial, subject.clone());
        self.by_subject.insert(subject, Outstanding { to, serial, group, message: message(serial), sent: 0 });
    }

    /// Whether a request on that subject is under way.
    #[must_use]
    pub fn is_under_way(&self, subject: &Subject) -> bool {
        self.by_subject.contains_key(subject)
    }

    /// Ends a request without an answer.
    pub fn forget(&mut self, subject: &Subject) {
        if let Some(old) = self.by_subject.remove(subject) {
            self.by_serial.remove(&old.serial);
        }
    }

    /// What is due about the request; `None` if there is none.
    pub fn poll(&mut self, now: Time, subject: &Subject) -> Option<Due> {
        let request = self.by_subject.get_mut(subject)?;
        let Some(wait) = CONFIGURE_WAITS.get(request.sent) else {
            let to = request.to;
            self.forget(subject);
            return Some(Due::GiveUp(to));
        };
        request.sent += 1;
        Some(Due::Send(request.to, request.message.clone(), now + *wait))
    }

    /// The subject of an answer that came from `from`; it is no longer under way. `None` for answers to nothing we
    /// asked: late, repeated, damaged or forged. An answer repeats what it answers, the file too if it names one.
    pub fn on_answer(
        &mut self,
        from: SocketAddrV4,
        epoch: BootEpoch,
        answered: &RequestRef,
        file: Option<&FileName>,
    ) -> Option<Subject> {
        let subject = self.by_serial.get(&answered.serial)?.clone();
        let request = self.by_subject.get(&subject)?;
        let fits = request.to == from
            && answered.boot_epoch == epoch
            && answered.group == request.group
            && file.is_none_or(|file| *file == subject.content().file);
        if !fits {
            return None;
        }
        self.forget(&subject);
        Some(subject)
    }

    /// Goes above a serial that the server knows of us (decisions.md, BINLD ↔ MTFTP).
    pub fn raise_serial(&mut self, known: Serial) {
        self.last_serial = self.last_serial.max(known.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use wire::configure::{Configure, Target};

    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 4017);
    const EPOCH: BootEpoch = BootEpoch(7);

    fn subject() -> Subject {
        let file = FileName::new(b"f").unwrap();
        Subject::File(Content { server: *SERVER.ip(), file })
    }

    fn begin(requests: &mut Requests) {
        requests.begin(subject(), SERVER, None, |serial| {
            let file = FileName::new(b"f").unwrap();
            Message::Configure(Configure { serial, target: Target::PlainTftp, file })
        });
    }

    fn answer(serial: u32) -> RequestRef {
        RequestRef { boot_epoch: EPOCH, serial: Serial(serial), group: None }
    }

    #[test]
    fn a_silent_server_is_asked_four_times_with_one_serial_and_given_up_after_750_ms() {
        let mut requests = Requests::default();
        begin(&mut requests);
        let (mut now, mut sent) = (Time::ZERO, Vec::new());
        loop {
            match requests.poll(now, &subject()) {
                Some(Due::Send(to, message, next_at)) => {
                    assert_eq!(to, SERVER);
                    sent.push((now.as_nanos() / 1_000_000, message));
                    now = next_at;
                }
                other => {
                    assert_eq!(other, Some(Due::GiveUp(SERVER)));
                    break;
                }
            }
        }
        assert_eq!(sent.iter().map(|(millis, _)| *millis).collect::<Vec<_>>(), [0, 50, 150, 350]);
        assert!(sent.windows(2).all(|pair| pair[0].1 == pair[1].1));
        assert_eq!(now.as_nanos(), 750_000_000);
        assert_eq!(requests.poll(now, &subject()), None);
    }

    #[test]
    fn only_the_answer_to_what_was_asked_counts_and_only_once() {
        let mut requests = Requests::default();
        begin(&mut requests);
        let stranger = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 8), 4017);
        let group = "239.255.0.1".parse().ok();
        assert_eq!(requests.on_answer(stranger, EPOCH, &answer(1), None), None);
        assert_eq!(requests.on_answer(SERVER, BootEpoch(6), &answer(1), None), None);
        assert_eq!(requests.on_answer(SERVER, EPOCH, &answer(2), None), None);
        assert_eq!(requests.on_answer(SERVER, EPOCH, &RequestRef { group, ..answer(1) }, None), None);
        let other = FileName::new(b"g").unwrap();
        assert_eq!(requests.on_answer(SERVER, EPOCH, &answer(1), Some(&other)), None);
        assert_eq!(requests.on_answer(SERVER, EPOCH, &answer(1), None), Some(subject()));
        assert_eq!(requests.on_answer(SERVER, EPOCH, &answer(1), None), None);
    }

    #[test]
    fn a_new_request_supersedes_and_goes_above_known_serials() {
        let mut requests = Requests::default();
        begin(&mut requests);
        requests.raise_serial(Serial(40));
        begin(&mut requests);
        assert_eq!(requests.on_answer(SERVER, EPOCH, &answer(1), None), None);
        assert_eq!(requests.on_answer(SERVER, EPOCH, &answer(41), None), Some(subject()));
    }
}
