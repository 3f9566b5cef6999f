//! A boot server that says what a test tells it to say, word for word.

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Arrival, Deadline, Role, Time, Transmit, Wall};
use wire::configure::{Configure, Delete, Ports, Target};
use wire::control::{Envelope, Message};
use wire::policy::Policy;
use wire::query::{Opcode, Query};
use wire::{BootEpoch, Content, FileName, GroupAddr, Layer, Serial, ServerId, ServerType, Stamp};

use crate::program::{Door, Effect, Program};
use crate::scenario::QUERY;

/// The boot server. It does nothing by itself.
#[derive(Debug)]
pub struct Script {
    binld: ServerId,
    outbox: Vec<Transmit>,
    /// Control messages that came.
    pub answers: Vec<Message>,
    /// Queries and echoes that came.
    pub queries: Vec<(Opcode, Query)>,
}

impl Script {
    /// One with this name.
    #[must_use]
    pub fn new(binld: ServerId) -> Self {
        Self { binld, outbox: Vec::new(), answers: Vec::new(), queries: Vec::new() }
    }

    /// Its name.
    #[must_use]
    pub fn binld(&self) -> ServerId {
        self.binld
    }

    /// Says something to an MTFTP server, in boot epoch 1, the next time it is looked at.
    pub fn tell(&mut self, server: Ipv4Addr, message: Message) {
        let envelope = Envelope { sender: self.binld, boot_epoch: BootEpoch(1), sequence: 1, message };
        let to = SocketAddrV4::new(server, 4017);
        self.outbox.push(Transmit { role: Role::Control, to, bytes: envelope.encode() });
    }

    /// Asks everybody for an address, the next time it is looked at.
    pub fn query(&mut self, content: Content, group: GroupAddr) {
        let query = Query { content, server_type: ServerType(1), layer: Layer(0), group, client_port: 3001 };
        let bytes = query.encode(Opcode::Query);
        self.outbox.push(Transmit { role: Role::Query, to: QUERY, bytes });
    }

    /// A configure for it to [`tell`](Self::tell).
    #[must_use]
    pub fn configure(&self, serial: u32, group: GroupAddr, ports: Ports, file: &FileName) -> Message {
        let target = Target::Group {
            group,
            ports,
            stamp: Stamp { millis: 1, sender: self.binld },
            policy: Policy::default(),
        };
        Message::Configure(Configure { serial: Serial(serial), target, file: file.clone() })
    }

    /// A delete for it to [`tell`](Self::tell).
    #[must_use]
    pub fn delete(serial: u32, group: GroupAddr, file: &FileName) -> Message {
        Message::Delete(Delete { serial: Serial(serial), group, file: file.clone() })
    }
}

impl Program for Script {
    fn doors(&self) -> Vec<Door> {
        vec![Door::unicast(Role::Control, 4016), Door::unicast(Role::Query, 4015)]
    }

    fn on_datagram(&mut self, _now: Time, _wall: Wall, arrival: &Arrival<'_>) {
        if let Ok(heard) = Query::decode(arrival.bytes) {
            self.queries.push(heard);
        } else if let Ok(envelope) = Envelope::decode(arrival.bytes) {
            self.answers.push(envelope.message);
        }
    }

    fn on_timeout(&mut self, _now: Time) {}

    fn drain(&mut self, _tells: bool) -> Vec<Effect> {
        std::mem::take(&mut self.outbox).into_iter().map(Effect::Send).collect()
    }

    fn next_deadline(&self) -> Option<Deadline> {
        None
    }
}
