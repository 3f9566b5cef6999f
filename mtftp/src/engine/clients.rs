//! Which part of the core a client's datagram concerns, and whether a request may be served at all.

use std::net::SocketAddrV4;

use driver::{Arrival, Role, Time};
use wire::policy::Policy;
use wire::tftp::{ErrorCode, Mode, Packet, Request};

use super::cause::Declined;
use super::{Engine, Protocol, plain};
use crate::limits;

impl Engine {
    pub(super) fn on_mtftp(&mut self, now: Time, from: SocketAddrV4, port: u16, arrival: &Arrival<'_>) {
        let packet = match Packet::decode(arrival.bytes) {
            Ok(packet) => packet,
            Err(error) => return self.context.count("drop_mtftp", error.kind.name()),
        };
        let over = match packet {
            Packet::Read(request) => {
                self.on_open(now, from, port, &request);
                None
            }
            Packet::Ack(block) => self.sessions.on_ack(now, arrival.role, from, block, &mut self.context),
            Packet::Error { .. } => self.sessions.on_error(now, arrival.role, from, &mut self.context),
            Packet::Write(_) | Packet::Data { .. } | Packet::OptionAck(_) => {
                self.context.count("drop_mtftp", "opcode");
                None
            }
        };
        self.session_ended(over);
    }

    fn on_open(&mut self, now: Time, from: SocketAddrV4, port: u16, request: &Request) {
        let Some(file) = plain::name_of(request) else { return self.context.count("session", "name") };
        let client = *from.ip();
        if !self.requests.allows(now, client) {
            self.context.told.declined_file(client, &file, Declined::OverRate);
            return self.context.over_rate("session", client);
        }
        match self.references.find_stored(port, &file) {
            Some((group, claim)) if claim.closing => {
                self.context.told.declined(client, group, Declined::Closing);
                self.context.count("session", "open_while_closing");
            }
            Some((group, claim)) => {
                let (ports, policy) = (claim.ports, claim.policy());
                self.references.note_open(now, group);
                let is_pinned = group == self.config.pinned_group;
                // An iPXE machine that is left behind may boot an image with holes.
                let how = if is_pinned {
                    (Protocol::Ipxe, Policy::default())
                } else {
                    (Protocol::PxeMtftp, policy)
                };
                self.sessions.on_open(now, from, (group, file, ports), how, &mut self.context);
            }
            None if port == self.config.pinned_server_port && self.pinned_is_sent(now) => {
                // iPXE would lock on to the other file's stream and boot it (P5).
                self.context.told.declined_file(client, &file, Declined::OtherFile);
                self.context.count("session", "open_of_other_file");
                let text = "another file is being sent on this address";
                plain::refuse(Role::Mtftp(port), from, ErrorCode::NOT_DEFINED, text, &mut self.context);
            }
            None => {
                self.context.told.declined_file(client, &file, Declined::Gone);
                self.context.count("session", "open_of_nothing");
            }
        }
    }

    /// Whether anybody is known to send on the pinned address: we, or who asked for it lately.
    fn pinned_is_sent(&self, now: Time) -> bool {
        let group = self.config.pinned_group;
        let foreign = self.foreign.is_some_and(|foreign| now.since(foreign.heard_at) < limits::FOREIGN_KEEP);
        self.sessions.sends_on(now, group) || (foreign && self.references.place(group).is_none())
    }

    pub(super) fn on_tftp(&mut self, now: Time, from: SocketAddrV4, bytes: &[u8]) {
        let packet = match Packet::decode(bytes) {
            Ok(packet) => packet,
            Err(error) => return self.context.count("drop_tftp", error.kind.name()),
        };
        let request = match packet {
            Packet::Read(request) => request,
            Packet::Write(_) => {
                if self.requests.allows(now, *from.ip()) {
                    let text = "nothing is written here";
                    plain::refuse(Role::Transfer, from, ErrorCode::ACCESS, text, &mut self.context);
                }
                return self.context.count("tftp", "write");
            }
            Packet::Data { .. } | Packet::Ack(_) | Packet::Error { .. } | Packet::OptionAck(_) => {
                return self.context.count("drop_tftp", "opcode");
            }
        };
        if !self.requests.allows(now, *from.ip()) {
            return self.context.over_rate("tftp", *from.ip());
        }
        if self.would_mix(now, from, &request) {
            self.context.count("tftp", "refused_after_multicast");
            let text = "part of this file came by multicast: start again";
            return plain::refuse(Role::Transfer, from, ErrorCode::NOT_DEFINED, text, &mut self.context);
        }
        if !self.joins_stream(now, from, &request) {
            self.plain.on_request(now, from, &request, &mut self.context);
        }
    }

    /// Whether the request is served by RFC 2090: it asks for it, and the file has a dynamic address. Else the option is
    /// as if unknown (RFC 2347), and the file goes by plain TFTP.
    fn joins_stream(&mut self, now: Time, from: SocketAddrV4, request: &Request) -> bool {
        if request.options.multicast.is_none() || request.mode != Mode::Octet {
            return false;
        }
        // Our multicast does not leave the link.
        if !self.identity.has_on_link(*from.ip()) {
            self.context.count("tftp", "multicast_off_link");
            return false;
        }
        let Some(file) = plain::name_of(request) else { return false };
        let Some((group, claim)) = self.references.find_for_stream(&file) else {
            self.context.told.declined_file(*from.ip(), &file, Declined::Gone);
            self.context.count("tftp", "multicast_of_nothing");
            return false;
        };
        let (content, wanted) = ((group, file, claim.policy()), (request, self.config.block_size_max));
        if !self.sessions.on_multicast_request(now, from, content, wanted, &mut self.context) {
            return false;
        }
        self.references.note_open(now, group);
        true
    }

    /// Whether this is iPXE falling back in the middle of the pinned transfer with the last block in hand
    /// (`decisions.md` § Clients; see `trace`).
    fn would_mix(&mut self, now: Time, from: SocketAddrV4, request: &Request) -> bool {
        let options = &request.options;
        let like_ipxe =
            options.block_size.is_some() && options.transfer_size.is_some() && options.window_size.is_none();
        let Some(file) = plain::name_of(request).filter(|_| like_ipxe) else { return false };
        self.sessions.refuses(now, self.config.pinned_group, &file, from)
    }

    pub(super) fn on_stream(&mut self, now: Time, from: SocketAddrV4, arrival: &Arrival<'_>) {
        let over = match Packet::decode(arrival.bytes) {
            Ok(Packet::Ack(block)) => self.sessions.on_ack(now, arrival.role, from, block, &mut self.context),
            Ok(Packet::Error { .. }) => self.sessions.on_error(now, arrival.role, from, &mut self.context),
            Ok(Packet::Read(_) | Packet::Write(_) | Packet::Data { .. } | Packet::OptionAck(_)) => {
                self.context.count("drop_stream", "opcode");
                None
            }
            Err(error) => {
                self.context.count("drop_stream", error.kind.name());
                None
            }
        };
        self.session_ended(over);
    }

    pub(super) fn on_transfer(&mut self, now: Time, from: SocketAddrV4, bytes: &[u8]) {
        match Packet::decode(bytes) {
            Ok(Packet::Ack(block)) => {
                if let Some(file) = self.plain.on_ack(now, from, block, &mut self.context) {
                    self.on_plain_began(now, from, &file);
                }
            }
            Ok(Packet::Error { .. }) => self.plain.on_error(from, &mut self.context),
            Ok(Packet::Read(_) | Packet::Write(_) | Packet::Data { .. } | Packet::OptionAck(_)) => {
                self.context.count("drop_transfer", "opcode");
            }
            Err(error) => self.context.count("drop_transfer", error.kind.name()),
        }
    }
}
