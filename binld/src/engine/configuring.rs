//! What we say to MTFTP servers, and what their answers mean for claims and files (R003.15–R003.20).

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::Time;
use wire::configure::{Ack, Configure, Delete, Nak, NakReason, Ports, Superseded, Target};
use wire::control::Message;
use wire::{BootEpoch, Content, GroupAddr};

use super::claims::{ClaimKey, Commitment, State};
use super::event::Event;
use super::files::{Knowledge, TooLarge};
use super::requests::{Due, Subject};
use super::{Engine, Timer};
use crate::limits::{
    CLAIM_ACK_MAX, DELETE_PATIENCE, DELETE_RETRY, FILE_JITTER, FILE_REFRESH, FILE_RETRY, RENEW_INTERVAL,
};

impl Engine {
    fn begin_request(&mut self, now: Time, subject: &Subject, message: impl FnOnce(wire::Serial) -> Message) {
        let (server, group) = match subject {
            Subject::Configure(key) => {
                let at = self.claims.get(key).and_then(|claim| claim.state.placement());
                (key.content.server, at.map(|at| at.group))
            }
            Subject::Delete(key, group) => (key.content.server, Some(*group)),
            Subject::File(content) => (content.server, None),
        };
        // A server that left the configuration still gets its deletes, on the port of the others.
        let port = self.config.catalog.servers.first().map_or(4017, SocketAddrV4::port);
        let to = self.config.catalog.control_of(server).unwrap_or(SocketAddrV4::new(server, port));
        self.requests.begin(subject.clone(), to, group, message);
        self.on_request_due(now, subject);
    }

    /// Asks the server to be ready for the claim; the claim is not held before the ACK (I5).
    pub(super) fn configure(&mut self, now: Time, key: &ClaimKey, commitment: Commitment) {
        self.set_state(now, key, State::Configuring { commitment, retry_at: now + CLAIM_ACK_MAX });
        self.record(key);
        self.renew(now, key, commitment);
    }

    /// Repeats the configure; the claim stays what it is.
    pub(super) fn renew(&mut self, now: Time, key: &ClaimKey, commitment: Commitment) {
        if let Some(State::Held { renew_at, .. }) = self.claims.get_mut(key).map(|claim| &mut claim.state) {
            *renew_at = now + RENEW_INTERVAL;
        }
        let Commitment { at, stamp, .. } = commitment;
        self.end_request(&Subject::Delete(key.clone(), at.group));
        self.timers.disarm(&Timer::Delete(key.clone(), at.group));
        if let Some(claim) = self.claims.get_mut(key) {
            claim.referenced = Some(at.group);
        }
        let file = key.content.file.clone();
        let policy = self.config.catalog.policy(&key.content, key.pinned);
        self.begin_request(now, &Subject::Configure(key.clone()), |serial| {
            let target = Target::Group { group: at.group, ports: at.ports, stamp, policy };
            Message::Configure(Configure { serial, target, file })
        });
    }

    /// Asks the server to forget our reference; asked until it says so.
    pub(super) fn delete_reference(&mut self, now: Time, key: &ClaimKey, group: GroupAddr) {
        let file = key.content.file.clone();
        self.begin_request(now, &Subject::Delete(key.clone(), group), |serial| {
            Message::Delete(Delete { serial, group, file })
        });
    }

    fn retry_delete(&mut self, now: Time, key: &ClaimKey, group: GroupAddr) {
        self.timers.arm(Timer::Delete(key.clone(), group), now + DELETE_RETRY, "delete to be repeated");
    }

    /// Asks whether the server has the file.
    pub(super) fn ask_file(&mut self, now: Time, content: &Content) {
        let subject = Subject::File(content.clone());
        if self.files.of(content).is_none() || self.requests.is_under_way(&subject) {
            return;
        }
        let file = content.file.clone();
        self.begin_request(now, &subject, |serial| {
            Message::Configure(Configure { serial, target: Target::PlainTftp, file })
        });
    }

    /// A request waits for its answer, or has waited long enough.
    pub(super) fn on_request_due(&mut self, now: Time, subject: &Subject) {
        match self.requests.poll(now, subject) {
            None => {}
            Some(Due::Send(to, message, next_at)) => {
                self.counters.add("request", "sent", 1);
                self.send_control(to, message);
                self.timers.arm(
                    Timer::Request(subject.clone()),
                    next_at,
                    "answer of an MTFTP server overdue",
                );
            }
            Some(Due::GiveUp(to)) => self.on_given_up(now, subject, to),
        }
    }

    /// The server is silent: another one that has the file, then plain TFTP.
    fn on_given_up(&mut self, now: Time, subject: &Subject, to: SocketAddrV4) {
        self.counters.add("request", "given_up", 1);
        let was_silent = self.files.is_silent(*to.ip());
        let lives = self.domain.hellos().is_file_server_there(now, *to.ip());
        self.files.on_silence(*to.ip(), lives);
        if !was_silent && self.files.is_silent(*to.ip()) {
            self.tell(Event::ServerSilent { server: *to.ip() });
        }
        match subject {
            Subject::File(content) => self.retry_file(now, content.clone()),
            Subject::Delete(key, group) => {
                self.retry_delete(now, key, *group);
                self.release_if_long_silent(now, key, *group);
            }
            Subject::Configure(key) => {
                let retry = now + FILE_RETRY;
                match self.claims.get_mut(key).map(|claim| &mut claim.state) {
                    Some(State::Configuring { retry_at, .. }) => *retry_at = retry,
                    Some(State::Held { renew_at, .. }) => *renew_at = retry,
                    _ => {}
                }
                if let Some(claim) = self.claims.get(key) {
                    let (at, why) = claim.state.due_at();
                    self.timers.arm(Timer::Claim(key.clone()), at, why);
                }
            }
        }
        self.unsettle();
    }

    /// A server that stays silent must not block an address for ever, least of all the pinned one. The delete goes on;
    /// if the server lives after all, it defends the address itself when somebody clears it.
    fn release_if_long_silent(&mut self, now: Time, key: &ClaimKey, group: GroupAddr) {
        let state = self.claims.get(key).map(|claim| &claim.state);
        if let Some(State::Draining { delete_at, .. }) = state
            && now.since(*delete_at) >= DELETE_PATIENCE
        {
            self.release(now, key, group);
        }
    }

    fn on_server_heard(&mut self, content: &Content) {
        if self.files.is_silent(content.server) {
            self.tell(Event::ServerBack { server: content.server });
        }
    }

    pub(super) fn on_ack(&mut self, now: Time, from: SocketAddrV4, ack: &Ack) {
        let epoch = self.identity.boot_epoch;
        let Some(subject) = self.requests.on_answer(from, epoch, &ack.request, Some(&ack.file)) else {
            return self.counters.add("dropped", "stale_ack", 1);
        };
        self.timers.disarm(&Timer::Request(subject.clone()));
        match &subject {
            Subject::File(content) => {
                self.on_server_heard(content);
                self.files.on_answer(now, content, Some(ack.file_size));
                let again = now + FILE_REFRESH + self.draw.jitter(FILE_JITTER);
                self.timers.arm(Timer::File(content.clone()), again, "file to be asked for again");
            }
            Subject::Configure(key) => {
                self.on_server_heard(&key.content);
                self.files.on_answer(now, &key.content, Some(ack.file_size));
                self.on_configured(now, key, ack);
            }
            Subject::Delete(key, group) => self.on_deleted(now, key, *group),
        }
        self.unsettle();
    }

    fn on_configured(&mut self, now: Time, key: &ClaimKey, ack: &Ack) {
        let Some(claim) = self.claims.get(key) else { return };
        let Some(mut commitment) = claim.state.commitment().copied() else { return };
        let was_held = matches!(claim.state, State::Held { .. });
        if !was_held && !matches!(claim.state, State::Configuring { .. }) {
            return;
        }
        if ack.ports.client == 0 || ack.ports.server == 0 {
            return self.counters.add("dropped.ack", "no_ports", 1);
        }
        let moved = commitment.at.ports != ack.ports;
        commitment.at.ports = ack.ports;
        if let Some(claim) = self.claims.get_mut(key) {
            claim.refusals = 0;
        }
        self.set_state(now, key, State::Held { commitment, acked_at: now, renew_at: now + RENEW_INTERVAL });
        if !was_held || moved {
            self.record(key);
        }
        if !was_held {
            if key.pinned {
                self.turns.begin(now, &key.content);
            }
            self.counters.add("claim", "held", 1);
            self.held.extend(self.claims.get(key).map(|claim| claim.boot_item));
            self.tell(Event::Held { group: commitment.at.group, content: key.content.clone() });
        }
    }

    pub(super) fn on_nak(&mut self, now: Time, from: SocketAddrV4, nak: &Nak) {
        let epoch = self.identity.boot_epoch;
        let Some(subject) = self.requests.on_answer(from, epoch, &nak.request, Some(&nak.file)) else {
            return self.counters.add("dropped", "stale_nak", 1);
        };
        self.timers.disarm(&Timer::Request(subject.clone()));
        match (&subject, &nak.reason) {
            (Subject::File(content), _) => {
                self.on_server_heard(content);
                self.on_no_such_file(now, content);
            }
            (Subject::Configure(key), NakReason::TooLarge { size, size_max }) => {
                self.on_server_heard(&key.content);
                self.on_too_large(now, key, TooLarge { size: *size, size_max: *size_max });
            }
            (Subject::Configure(key), NakReason::NoSuchFile) => {
                self.on_server_heard(&key.content);
                self.on_no_such_file(now, &key.content);
                self.drain(now, key);
            }
            (Subject::Configure(key), NakReason::InUse { ports, file }) if *file == key.content.file => {
                self.on_other_ports(now, key, *from.ip(), *ports);
            }
            (Subject::Configure(key), NakReason::InUse { .. }) => self.on_in_use(now, key, *from.ip()),
            (Subject::Delete(key, group), _) => self.retry_delete(now, key, *group),
        }
        self.unsettle();
    }

    /// The same file on other ports: adopt them and configure again (decisions.md, BINLD ↔ MTFTP).
    fn on_other_ports(&mut self, now: Time, key: &ClaimKey, from: Ipv4Addr, ports: Ports) {
        let commitment = self.claims.get_mut(key).and_then(|claim| claim.state.commitment_mut());
        let usable = ports.client != 0 && ports.server != 0;
        let Some(commitment) = commitment.filter(|commitment| usable && commitment.at.ports != ports) else {
            return self.on_in_use(now, key, from);
        };
        commitment.at.ports = ports;
        let commitment = *commitment;
        self.configure(now, key, commitment);
    }

    /// The MTFTP server's table is a free point of order: its *in use* is like an echo (G16). It keeps no reference.
    fn on_in_use(&mut self, now: Time, key: &ClaimKey, from: Ipv4Addr) {
        if let Some(claim) = self.claims.get_mut(key) {
            claim.referenced = None;
        }
        self.on_refused(now, key, from, true);
    }

    fn on_no_such_file(&mut self, now: Time, content: &Content) {
        if self.files.of(content) != Some(Knowledge::Refused) {
            self.tell(Event::NoSuchFile { content: content.clone() });
        }
        self.files.on_answer(now, content, None);
        self.retry_file(now, content.clone());
    }

    /// Clients get it by plain TFTP; an address would be of no use.
    fn on_too_large(&mut self, now: Time, key: &ClaimKey, facts: TooLarge) {
        if self.files.on_too_large(now, key, facts) {
            self.tell(Event::TooLarge { content: key.content.clone(), facts });
        }
        self.drain(now, key);
    }

    /// The server knows a higher number of ours: go above it.
    pub(super) fn on_superseded(&mut self, now: Time, from: SocketAddrV4, answer: &Superseded) {
        let epoch = self.identity.boot_epoch;
        let Some(subject) = self.requests.on_answer(from, epoch, &answer.request, None) else {
            return self.counters.add("dropped", "stale_superseded", 1);
        };
        self.counters.add("request", "superseded", 1);
        if answer.known_epoch > self.identity.boot_epoch {
            // Our store was put back: from now on we speak as the later one.
            self.identity.boot_epoch = BootEpoch(answer.known_epoch.0.saturating_add(1));
        }
        if answer.known_serial.0 == u32::MAX {
            // No number is above it in this epoch.
            self.identity.boot_epoch = BootEpoch(self.identity.boot_epoch.0.saturating_add(1));
        } else {
            self.requests.raise_serial(answer.known_serial);
        }
        match &subject {
            Subject::File(content) => self.ask_file(now, content),
            Subject::Delete(key, group) => self.delete_reference(now, key, *group),
            Subject::Configure(key) => {
                let commitment = self.claims.get(key).and_then(|claim| claim.state.commitment().copied());
                if let Some(commitment) = commitment {
                    self.renew(now, key, commitment);
                }
            }
        }
    }
}
