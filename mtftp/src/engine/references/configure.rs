//! Configure and renewal: look the file up, store the reference, ACK.

use super::*;

impl References {
    pub(crate) fn say(&mut self, to: SocketAddrV4, message: Message, context: &mut Context) {
        self.sequence += 1;
        let envelope = Envelope {
            sender: self.identity.server,
            boot_epoch: self.identity.epoch,
            sequence: self.sequence,
            message,
        };
        context.send(Role::Control, to, envelope.encode());
    }

    /// Deals with what a serial says: true if the request is new and nothing is in flight that it must wait for.
    pub(super) fn is_new(
        &mut self,
        key: Key,
        Sender { from, epoch, .. }: Sender,
        serial: Serial,
        context: &mut Context,
    ) -> bool {
        let Some(known) = self.known.get(&key) else { return true };
        if (epoch, serial) < (known.epoch, known.serial) {
            context.count("control", "superseded");
            let message = Message::Superseded(Superseded {
                request: request_ref(epoch, serial, Some(key.0)),
                known_epoch: known.epoch,
                known_serial: known.serial,
            });
            self.say(from, message, context);
            return false;
        }
        if (epoch, serial) == (known.epoch, known.serial)
            && let Some(message) = known.answer.clone()
        {
            context.count("control", "repeated");
            self.say(from, message, context);
            return false;
        }
        true
    }

    /// A configure, a renewal, or a question about plain TFTP.
    pub(crate) fn on_configure(&mut self, sender: Sender, message: Configure, context: &mut Context) {
        let asked = Asked { sender, message };
        let (group, ports, stamp) = match asked.message.target {
            Target::PlainTftp if self.probes.len() >= PROBES_MAX => {
                return context.count("control", "too_many_probes");
            }
            Target::PlainTftp => {
                let ticket = context.open(asked.message.file.clone());
                self.probes.insert(ticket, asked);
                return;
            }
            Target::Group { group, ports, stamp, .. } => (group, ports, stamp),
        };
        let key = (group, sender.binld);
        if !self.is_new(key, sender, asked.message.serial, context) {
            return;
        }
        match self.steps.get(&key) {
            // It was sent before the delete, and came later (G14).
            Some(Step::Closing { removal })
                if (sender.epoch, asked.message.serial) < (removal.epoch, removal.serial) =>
            {
                return context.count("control", "in_flight");
            }
            // The BINLD thought better of its delete, or lives after all.
            Some(Step::Closing { .. }) => self.keep_open(key),
            Some(Step::Looking { .. } | Step::Storing { .. } | Step::Removing { .. }) => {
                return context.count("control", "in_flight");
            }
            None => {}
        }
        if !self.config.may_carry(group) {
            return context.count("control", "forbidden_address");
        }
        if self.refuse_in_use(group, &asked, context) {
            return;
        }
        if self.reference(key).is_none() && !self.has_room(sender.binld) {
            return context.count("control", "too_many_references");
        }
        let file = context.open(asked.message.file.clone());
        self.steps.insert(key, Step::Looking { file, group, ports, stamp, asked });
    }

    pub(super) fn keep_open(&mut self, key: Key) {
        self.steps.remove(&key);
        self.deadlines.disarm(&Due::Cut(key.0));
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&key.0) {
            claim.closing = false;
        }
    }

    fn has_room(&self, binld: ServerId) -> bool {
        let looking = self.steps.values().filter(|step| matches!(step, Step::Looking { .. })).count();
        let mut all = looking;
        let mut own = looking;
        for (_, place) in self.places() {
            if let Place::Claimed(claim) = place {
                all += claim.references.len();
                own += usize::from(claim.references.contains_key(&binld));
            }
        }
        all < REFERENCES_MAX && own < REFERENCES_PER_SENDER_MAX && self.known.len() < KNOWN_MAX
    }

    /// NAKs if the address is there for another file. True if it did.
    fn refuse_in_use(&mut self, group: GroupAddr, asked: &Asked<Configure>, context: &mut Context) -> bool {
        let Some(place) = self.places.get(&group) else { return false };
        if *place.file() == asked.message.file {
            return false;
        }
        let reason = NakReason::InUse { ports: place.ports(), file: place.file().clone() };
        self.refuse(Some(group), asked, reason, context);
        true
    }

    fn refuse(
        &mut self,
        group: Option<GroupAddr>,
        asked: &Asked<Configure>,
        reason: NakReason,
        context: &mut Context,
    ) {
        let why = match reason {
            NakReason::InUse { .. } => "in use",
            NakReason::NoSuchFile => "no such file",
            NakReason::TooLarge { .. } => "too large to be multicast",
        };
        let file = asked.message.file.clone();
        context.count("control", "nak");
        context.tell(Event::Refused { group, file: file.clone(), why, address: *asked.sender.from.ip() });
        let request = request_ref(asked.sender.epoch, asked.message.serial, group);
        self.say(asked.sender.from, Message::Nak(Nak { request, file, reason }), context);
    }

    /// The largest file that an address can carry. On a dynamic one, a file that is too large for PXE-MTFTP has RFC 2090.
    fn size_max(&self, group: GroupAddr) -> u64 {
        if group == self.config.pinned_group {
            MTFTP_FILE_SIZE_MAX
        } else {
            multicast_file_size_max(self.config.block_size_max)
        }
    }

    /// The ports an address gets: what was asked for where we have it and it is free, else the first of ours that
    /// is. `None` when this file has an address on each of our ports already.
    pub(super) fn choose_ports(&self, group: GroupAddr, wanted: Ports, file: &FileName) -> Option<Ports> {
        let free = |server: u16| self.find(server, file).is_none_or(|(other, _)| other == group);
        if group == self.config.pinned_group {
            let ports =
                Ports { client: self.config.pinned_client_port, server: self.config.pinned_server_port };
            return free(ports.server).then_some(ports);
        }
        let ours = &self.config.server_ports;
        let first = ours.iter().copied().filter(|&port| port == wanted.server);
        let server = first.chain(ours.iter().copied()).find(|&port| free(port))?;
        Some(Ports { client: wanted.client, server })
    }

    // --- answers of the shell -------------------------------------------------------------------------------

    /// The answer to one of our questions about a file. False if the ticket is not ours.
    pub(crate) fn on_file(
        &mut self,
        ticket: FileTicket,
        result: Result<FileFacts, FileError>,
        context: &mut Context,
    ) -> bool {
        if let Some(asked) = self.probes.remove(&ticket) {
            self.on_probed(&asked, result, context);
            return true;
        }
        let found = self.steps.iter().find_map(|(key, step)| match step {
            Step::Looking { file, .. } if *file == ticket => Some(*key),
            Step::Looking { .. } | Step::Storing { .. } | Step::Closing { .. } | Step::Removing { .. } => {
                None
            }
        });
        let Some(key) = found else { return false };
        let Some(Step::Looking { group, ports, stamp, asked, .. }) = self.steps.remove(&key) else {
            return false;
        };
        if let Ok(facts) = result {
            context.close(facts.id);
        }
        match result {
            Ok(FileFacts { size, .. }) if size > self.size_max(group) => {
                let reason = NakReason::TooLarge { size, size_max: self.size_max(group) };
                self.refuse(Some(group), &asked, reason, context);
            }
            Ok(facts) => self.store_reference(group, (ports, stamp), asked, facts.size, context),
            Err(FileError::NotFound | FileError::Denied) => {
                self.refuse(Some(group), &asked, NakReason::NoSuchFile, context);
            }
            Err(FileError::Busy) => context.count("control", "file_busy"),
        }
        true
    }

    fn on_probed(
        &mut self,
        asked: &Asked<Configure>,
        result: Result<FileFacts, FileError>,
        context: &mut Context,
    ) {
        match result {
            Ok(facts) => {
                context.close(facts.id);
                context.count("control", "ack");
                let request = request_ref(asked.sender.epoch, asked.message.serial, None);
                let ports = Ports { client: 0, server: 0 };
                let file = asked.message.file.clone();
                self.say(
                    asked.sender.from,
                    Message::Ack(Ack { request, ports, file_size: facts.size, file }),
                    context,
                );
            }
            Err(FileError::NotFound | FileError::Denied) => {
                self.refuse(None, asked, NakReason::NoSuchFile, context);
            }
            Err(FileError::Busy) => context.count("control", "file_busy"),
        }
    }

    fn store_reference(
        &mut self,
        group: GroupAddr,
        (ports, stamp): (Ports, Stamp),
        asked: Asked<Configure>,
        size: u64,
        context: &mut Context,
    ) {
        let key = (group, asked.sender.binld);
        // While the file was looked up, somebody else may have been faster.
        if self.refuse_in_use(group, &asked, context) {
            return;
        }
        let removing = self.steps.iter().any(|((other, _), step)| {
            *other == group && matches!(step, Step::Removing { reference: true, .. })
        });
        if removing {
            return context.count("control", "in_flight");
        }
        let in_force = match self.places.get(&group) {
            Some(Place::Claimed(claim)) => Some(claim.ports),
            Some(Place::Resting(_)) | None => self.choose_ports(group, ports, &asked.message.file),
        };
        let Some(ports) = in_force else { return context.count("control", "no_server_port_left") };
        let old = self.reference(key).cloned();
        let record = ReferenceRecord {
            group,
            file: asked.message.file.clone(),
            ports,
            binld: asked.sender.binld,
            address: *asked.sender.from.ip(),
            epoch: asked.sender.epoch,
            serial: asked.message.serial,
            stamp,
            since: old.as_ref().map_or(asked.sender.wall, |old| old.since),
            renewed: asked.sender.wall,
        };
        let ReferenceRecord { binld, epoch, serial, .. } = record;
        let mut changes = vec![
            Change::PutReference(record.clone()),
            Change::PutSerial(SerialRecord { group, binld, epoch, serial }),
        ];
        let is_kept = match self.places.get(&group) {
            Some(Place::Claimed(claim)) => claim.references.values().any(|reference| reference.stored),
            Some(Place::Resting(_)) | None => false,
        };
        // Whichever of several is stored first ends the rest; and one that is over may be in the store still.
        if !is_kept {
            changes.push(Change::DeleteRest(group));
            self.deadlines.disarm(&Due::Rested(group));
        }
        self.put_reference(&record, ports, old.as_ref().is_some_and(|old| old.stored));
        let ticket = context.persist(changes);
        self.steps.insert(key, Step::Storing { ticket, size, old, asked });
    }

    /// The store's answer. False if the ticket is not ours.
    pub(crate) fn on_stored(
        &mut self,
        now: Time,
        ticket: Ticket,
        result: Result<(), ()>,
        context: &mut Context,
    ) {
        let found = self.steps.iter().find_map(|(key, step)| match step {
            Step::Storing { ticket: ours, .. } | Step::Removing { ticket: ours, .. } if *ours == ticket => {
                Some(*key)
            }
            Step::Looking { .. } | Step::Storing { .. } | Step::Closing { .. } | Step::Removing { .. } => {
                None
            }
        });
        if result.is_err() {
            context.count("store", "failed");
            context.tell(Event::StoreFailed);
        }
        let Some(key) = found else { return };
        match self.steps.remove(&key) {
            Some(Step::Storing { size, asked, .. }) if result.is_ok() => {
                self.on_reference_stored(now, key, &asked, size, context);
            }
            Some(Step::Storing { old, .. }) => self.undo_reference(now, key, old),
            Some(Step::Removing { reference, rests, removal, .. }) if result.is_ok() => {
                self.on_removed(now, key, (reference, rests), removal, context);
            }
            Some(Step::Removing { rests, removal, .. }) => {
                self.on_not_removed(key.0, rests, &removal, context);
            }
            Some(Step::Looking { .. } | Step::Closing { .. }) | None => {}
        }
    }

    fn on_reference_stored(
        &mut self,
        now: Time,
        key: Key,
        asked: &Asked<Configure>,
        size: u64,
        context: &mut Context,
    ) {
        let (group, binld) = key;
        let Some(Place::Claimed(claim)) = self.places.get_mut(&group) else { return };
        let ports = claim.ports;
        let file = claim.file.clone();
        // Whoever's removal made itself the last one meanwhile no longer is.
        claim.closing = false;
        claim.before = None;
        if let Some(reference) = claim.references.get_mut(&binld) {
            if let Target::Group { policy, .. } = asked.message.target {
                reference.policy = policy;
            }
            if !std::mem::replace(&mut reference.stored, true) {
                let address = *asked.sender.from.ip();
                self.changed.insert(group);
                context.tell(Event::Configured { group, file: file.clone(), ports, binld, address });
            }
        }
        let request = request_ref(asked.sender.epoch, asked.message.serial, Some(group));
        let answer = Message::Ack(Ack { request, ports, file_size: size, file });
        self.remember(key, asked.sender.epoch, asked.message.serial, Some(answer.clone()), now);
        self.renew(now, key, context);
        context.count("control", "ack");
        self.say(asked.sender.from, answer, context);
        // A delete that waited for the session was of the last reference; this one is there now.
        self.on_session_ended(group, context);
    }

    /// The store did not take a reference: a new one is not there, an old one is what it was.
    fn undo_reference(&mut self, now: Time, (group, binld): Key, old: Option<Reference>) {
        // It may have been told as stale meanwhile, with the number that the store did not take.
        self.changed.insert(group);
        let Some(Place::Claimed(claim)) = self.places.get_mut(&group) else { return };
        let new = claim.references.remove(&binld);
        if let Some(old) = old {
            // Its lease may have ended meanwhile.
            let stale = new.is_some_and(|new| new.stale);
            claim.references.insert(binld, Reference { stale, ..old });
        }
        if claim.references.is_empty() {
            let before = claim.before.take();
            self.places.remove(&group);
            if let Some(rest) = before {
                self.rest(now, group, rest);
            }
        } else {
            self.reopen(group);
        }
    }
}
