//! Boot server discovery as its client sees it (PXE 2.1 § 2.2.1 step 5; pxe.md A.4, A.8): asks the boot servers for a boot
//! item, and waits for as long as one of them says to wait.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Deadline, Time};
use wire::dhcp::{BootAnswer, BootRequest, RequestKind};
use wire::pxe::{BootItem, MulticastTags, Ours, VendorOptions};
use wire::{FileName, Mac, Uuid};

/// How long each repeat waits for an answer.
const WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(4)];
/// How long one is told to wait at most, all in all.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Who asks, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked for.
    pub boot_item: BootItem,
    /// Whom to ask, in this order: the next one only if the one before says nothing.
    pub servers: Vec<SocketAddrV4>,
    /// Our address.
    pub address: Ipv4Addr,
    /// Our Ethernet address.
    pub mac: Mac,
    /// Our machine identifier.
    pub uuid: Option<Uuid>,
    /// Our architecture (option 93).
    pub architecture: u16,
    /// Transaction id.
    pub xid: u32,
    /// Whether we say that we understand the wait packet; else we pass for a PXE ROM.
    pub understands_wait: bool,
}

/// What a boot server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who answered.
    pub boot_server: Ipv4Addr,
    /// Where the file is.
    pub file_server: Ipv4Addr,
    /// The file.
    pub file: FileName,
    /// Where it is multicast by PXE-MTFTP.
    pub multicast: Option<MulticastTags>,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Send the request there.
    Send(SocketAddrV4, Vec<u8>),
    /// Nobody answers.
    Silence,
    /// Somebody has.
    Found(Found),
}

/// The machine.
#[derive(Debug)]
pub struct Discovery {
    question: Question,
    /// Whom we ask.
    server: usize,
    /// How often it was asked.
    sent: usize,
    due_at: Time,
    began_at: Time,
    waits: u32,
    is_over: bool,
}

impl Discovery {
    /// Begins with [`Discovery::on_timeout`] at once.
    #[must_use]
    pub fn new(question: Question, now: Time) -> Self {
        Self { question, server: 0, sent: 0, due_at: now, began_at: now, waits: 0, is_over: false }
    }

    /// Wait packets heard.
    #[must_use]
    pub fn waits(&self) -> u32 {
        self.waits
    }

    /// When [`Discovery::on_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        (!self.is_over).then_some(Deadline { at: self.due_at, why: "no boot server answers" })
    }

    /// Time has passed. Calling it early, late or twice is harmless.
    pub fn on_timeout(&mut self, now: Time) -> Option<Asked> {
        if self.is_over || now < self.due_at {
            return None;
        }
        if self.sent >= WAITS.len() {
            self.server += 1;
            self.sent = 0;
        }
        let Some(server) = self.question.servers.get(self.server).copied() else {
            self.is_over = true;
            return Some(Asked::Silence);
        };
        self.due_at = now + WAITS.get(self.sent).copied().unwrap_or(Duration::ZERO);
        self.sent += 1;
        // A question of ours always fits.
        Some(Asked::Send(server, self.request().encode().unwrap_or_default()))
    }

    fn request(&self) -> BootRequest {
        let Question { boot_item, address, mac, uuid, architecture, xid, .. } = &self.question;
        let ours = self.question.understands_wait.then_some(Ours::UnderstandsWait);
        BootRequest {
            kind: RequestKind::Request,
            xid: *xid,
            flags: 0,
            ciaddr: *address,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: *mac,
            architectures: vec![*architecture],
            uuid: *uuid,
            user_class: Vec::new(),
            vendor: Some(VendorOptions { boot_item: Some(*boot_item), ours, ..VendorOptions::default() }),
        }
    }

    /// A datagram came. Answers to somebody else, or for another boot server type, are ignored, and so is what asks
    /// beyond reason to wait.
    pub fn on_datagram(&mut self, now: Time, from: SocketAddrV4, bytes: &[u8]) -> Option<Asked> {
        let answer = BootAnswer::decode(bytes).ok()?;
        let Question { boot_item, mac, xid, .. } = &self.question;
        let item = answer.vendor.boot_item.unwrap_or(*boot_item);
        let is_ours = (answer.xid, answer.mac, item.server_type) == (*xid, *mac, boot_item.server_type);
        if self.is_over || !is_ours {
            return None;
        }
        if let Some(Ours::Wait(seconds)) = answer.vendor.ours
            && self.question.understands_wait
        {
            self.waits += 1;
            if now.since(self.began_at) < WAIT_MAX {
                // Asked again it is the same question, not a try more.
                self.due_at = now + Duration::from_secs(seconds.into());
                self.sent = self.sent.min(1);
            }
            return None;
        }
        let file = answer.file?;
        self.is_over = true;
        let boot_server = answer.boot_server.unwrap_or(*from.ip());
        let strict = !self.question.understands_wait;
        // Intel's client takes the sender for its file server, ours what the answer says.
        let file_server = if strict { *from.ip() } else { answer.file_server.unwrap_or(boot_server) };
        Some(Asked::Found(Found { boot_server, file_server, file, multicast: answer.vendor.multicast }))
    }
}

#[cfg(test)]
mod tests {
    use wire::dhcp::{BootReply, BootWait};
    use wire::{Layer, ServerType};

    use super::*;

    const ITEM: BootItem = BootItem { server_type: ServerType(0x8002), layer: Layer(0) };
    const BINLD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);

    fn question() -> Question {
        Question {
            boot_item: ITEM,
            servers: ["224.0.1.2:4011", "10.0.0.11:4011"].map(|server| server.parse().unwrap()).to_vec(),
            address: Ipv4Addr::new(10, 0, 0, 100),
            mac: Mac([2; 6]),
            uuid: None,
            architecture: 0,
            xid: 7,
            understands_wait: true,
        }
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// When it sends, up to that time, and to whom.
    fn sends(discovery: &mut Discovery, until: Time) -> Vec<(Time, SocketAddrV4)> {
        let mut sent = Vec::new();
        while let Some(due) = discovery.next_deadline().filter(|due| due.at <= until) {
            match discovery.on_timeout(due.at) {
                Some(Asked::Send(to, bytes)) => {
                    assert_eq!(BootRequest::decode(&bytes).unwrap(), discovery.request());
                    sent.push((due.at, to));
                }
                other => assert_eq!(other, Some(Asked::Silence)),
            }
        }
        sent
    }

    fn wait(seconds: u8) -> Vec<u8> {
        let Question { address, mac, xid, .. } = question();
        let wait =
            BootWait { xid, yiaddr: address, mac, boot_server: BINLD, uuid: None, boot_item: ITEM, seconds };
        wait.encode().unwrap()
    }

    fn reply(change: impl Fn(&mut BootReply)) -> Vec<u8> {
        let mut reply = BootReply {
            xid: 7,
            flags: 0,
            yiaddr: question().address,
            giaddr: Ipv4Addr::UNSPECIFIED,
            file_server: Ipv4Addr::new(10, 0, 0, 9),
            mac: Mac([2; 6]),
            file: FileName::new(b"payload").unwrap(),
            boot_server: BINLD,
            uuid: None,
            vendor: VendorOptions { boot_item: Some(ITEM), ..VendorOptions::default() },
            multicast_uri: None,
        };
        change(&mut reply);
        reply.encode().unwrap()
    }

    #[test]
    fn asks_each_server_four_times() {
        let mut discovery = Discovery::new(question(), at(0));
        let sent = sends(&mut discovery, at(60_000));
        let times: Vec<Time> = sent.iter().map(|(time, _)| *time).collect();
        assert_eq!(times, [0, 1, 3, 6, 10, 11, 13, 16].map(|second| at(second * 1000)));
        assert!(sent.iter().take(4).all(|(_, to)| to.ip().is_multicast()));
        assert!(sent.iter().skip(4).all(|(_, to)| *to.ip() == BINLD));
        assert_eq!(discovery.next_deadline(), None);
    }

    #[test]
    fn takes_the_answer_to_its_own_question_only() {
        let mut discovery = Discovery::new(question(), at(0));
        sends(&mut discovery, at(0));
        let from = SocketAddrV4::new(BINLD, 4011);
        let other = Some(BootItem { server_type: ServerType(1), layer: Layer(0) });
        for wrong in [
            reply(|reply| reply.xid = 8),
            reply(|reply| reply.mac = Mac([3; 6])),
            reply(|reply| reply.vendor.boot_item = other),
            b"junk".to_vec(),
        ] {
            assert_eq!(discovery.on_datagram(at(1), from, &wrong), None);
        }
        let Some(Asked::Found(found)) = discovery.on_datagram(at(1), from, &reply(|_| {})) else {
            unreachable!("not taken")
        };
        assert_eq!((found.boot_server, found.file_server), (BINLD, Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(
            (discovery.next_deadline(), discovery.on_datagram(at(2), from, &reply(|_| {}))),
            (None, None)
        );
    }

    /// Told to wait it does not poll, and it does not give up either; but not for ever.
    #[test]
    fn waits_when_it_is_told_to() {
        let mut discovery = Discovery::new(question(), at(0));
        sends(&mut discovery, at(0));
        let from = SocketAddrV4::new(BINLD, 4011);
        let mut sent = 0;
        for second in 0..100 {
            assert_eq!(discovery.on_datagram(at(second * 1000 + 500), from, &wait(2)), None);
            sent += sends(&mut discovery, at(second * 1000 + 1400)).len();
        }
        assert_eq!((sent, discovery.waits()), (0, 100));
        assert!(sends(&mut discovery, at(101_500)).len() == 1, "two seconds of silence: asks again");
        // Beyond reason.
        for second in 102..400 {
            discovery.on_datagram(at(second * 1000 + 500), from, &wait(2));
            sends(&mut discovery, at(second * 1000 + 1400));
        }
        assert_eq!(discovery.next_deadline(), None);
    }
}
