//! Where the parts of the core leave what they want done.

use std::net::{Ipv4Addr, SocketAddrV4};

use driver::{Counters, Outbox, Role, Transmit};
use wire::FileName;
use wire::note::About;

use super::action::{Action, Blocks, Change, Event, FileId, FileTicket, Forgotten, Order, Ticket};
use super::told::Told;

/// Actions, counters and ticket numbers, shared by all parts.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(crate) actions: Outbox<Action>,
    pub(crate) counters: Counters,
    /// What is seen of clients that were told an address: every part sees some of it.
    pub(crate) told: Told,
    /// To be said in notes.
    pub(crate) for_people: Vec<(About, String)>,
    tickets: u64,
}

impl Context {
    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    pub(crate) fn send(&mut self, role: Role, to: SocketAddrV4, bytes: Vec<u8>) {
        self.actions.push(Action::Send(Transmit { role, to, bytes }));
    }

    pub(crate) fn persist(&mut self, changes: Vec<Change>) -> Ticket {
        let ticket = Ticket(self.ticket());
        self.actions.push(Action::Persist(ticket, changes));
        ticket
    }

    pub(crate) fn open(&mut self, name: FileName) -> FileTicket {
        let ticket = FileTicket(self.ticket());
        self.actions.push(Action::Open(ticket, name));
        ticket
    }

    pub(crate) fn close(&mut self, file: FileId) {
        self.actions.push(Action::Close(file));
    }

    pub(crate) fn blocks(&mut self, blocks: Blocks) {
        self.told.on_blocks(&blocks);
        self.actions.push(Action::Blocks(blocks));
    }

    pub(crate) fn answer(&mut self, order: Order, outcome: Forgotten) {
        self.actions.push(Action::Answer(order, outcome));
    }

    pub(crate) fn tell(&mut self, event: Event) {
        if let Event::FellBack(it) = &event {
            // Of a room of machines one note.
            let words = format!(
                "{}: machines that were told {} fetch it by plain TFTP: {}",
                it.file,
                it.group,
                it.cause.name()
            );
            self.for_people.push((About::FallBack, words));
        }
        self.actions.push(Action::Tell(event));
    }

    /// A source has said too much: dropped and counted.
    pub(crate) fn over_rate(&mut self, place: &'static str, source: Ipv4Addr) {
        if self.counters.add_and_tell(place, "rate") {
            self.tell(Event::OverRate { source, place });
        }
    }

    pub(crate) fn count(&mut self, place: &'static str, what: &'static str) {
        self.counters.add(place, what, 1);
    }
}
