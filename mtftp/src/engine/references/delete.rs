//! Delete: wait for the session of a last reference, store the removal, rest, ACK.

use super::*;

impl References {
    /// A delete. `in_session` says whether a session of that address runs.
    pub(crate) fn on_delete(
        &mut self,
        now: Time,
        sender: Sender,
        message: Delete,
        in_session: bool,
        context: &mut Context,
    ) {
        let Sender { from, binld, epoch, wall } = sender;
        let key = (message.group, binld);
        if !self.is_new(key, sender, message.serial, context) {
            return;
        }
        if self.steps.contains_key(&key) {
            return context.count("control", "in_flight");
        }
        let listed = match self.places.get(&key.0) {
            Some(Place::Claimed(claim)) if claim.file == message.file => {
                claim.references.contains_key(&binld)
            }
            Some(Place::Claimed(_) | Place::Resting(_)) | None => false,
        };
        if !listed && !self.known.contains_key(&key) && self.known.len() >= KNOWN_MAX {
            return context.count("control", "too_many_references");
        }
        let by = By::Binld { to: from, file: message.file };
        let removal = Removal { epoch, serial: message.serial, at: wall, by };
        if !listed {
            return self.remove(key, false, removal, context);
        }
        if self.others(key) == 0 && now < self.grace_until {
            // Silence: the BINLD repeats its delete until it is ACKed.
            return context.count("control", "delete_in_grace");
        }
        self.take_out(now, key, removal, in_session, context);
    }

    /// A reference that is there goes; the last one takes no new opens and waits for the session.
    pub(super) fn take_out(
        &mut self,
        now: Time,
        key: Key,
        removal: Removal,
        in_session: bool,
        context: &mut Context,
    ) {
        let group = key.0;
        if self.others(key) == 0 && in_session {
            if let Some(Place::Claimed(claim)) = self.places.get_mut(&group) {
                claim.closing = true;
            }
            self.deadlines.arm(Due::Cut(group), now + CLOSING_MAX, "a closing session is cut");
            self.steps.insert(key, Step::Closing { removal });
        } else {
            self.remove(key, true, removal, context);
        }
    }

    fn remove(&mut self, key: Key, reference: bool, removal: Removal, context: &mut Context) {
        let (group, binld) = key;
        let serial = SerialRecord { group, binld, epoch: removal.epoch, serial: removal.serial };
        let mut changes = vec![Change::PutSerial(serial)];
        if reference {
            changes.push(Change::DeleteReference { group, binld });
        }
        let rests = reference && self.others(key) == 0;
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&group).filter(|_| rests)
            && let Some(reference) = claim.references.get(&binld)
        {
            claim.closing = true;
            let (file, stamp) = (claim.file.clone(), reference.stamp);
            changes.push(Change::PutRest(RestRecord { group, file, stamp, since: removal.at }));
        }
        let ticket = context.persist(changes);
        self.steps.insert(key, Step::Removing { ticket, reference, rests, removal });
    }

    pub(super) fn on_removed(
        &mut self,
        now: Time,
        key: Key,
        (reference, rests): (bool, bool),
        removal: Removal,
        context: &mut Context,
    ) {
        let (group, binld) = key;
        let mut released = false;
        if reference && let Some(Place::Claimed(claim)) = self.places.get_mut(&group) {
            self.deadlines.disarm(&Due::Stale(key));
            let gone = claim.references.remove(&binld);
            released = claim.references.is_empty();
            let file = claim.file.clone();
            let ports = claim.ports;
            let by = match removal.by {
                By::Binld { .. } => DeletedBy::Itself,
                By::Operator(_) => DeletedBy::Operator,
                By::Member(member) => DeletedBy::Member(member),
            };
            self.changed.insert(group);
            context.tell(Event::Deleted { group, file: file.clone(), binld, released, by });
            if let Some(reference) = gone
                && released
            {
                self.rest(now, group, Rest { file, ports, stamp: reference.stamp, since: removal.at });
            } else {
                self.stays(group, rests, context);
            }
        }
        match removal.by {
            By::Binld { to, file } => {
                let request = request_ref(removal.epoch, removal.serial, Some(group));
                let ports = Ports { client: 0, server: 0 };
                let answer = Message::Ack(Ack { request, ports, file_size: 0, file });
                self.remember(key, removal.epoch, removal.serial, Some(answer.clone()), now);
                context.count("control", "ack");
                self.say(to, answer, context);
            }
            By::Operator(order) => {
                self.remember(key, removal.epoch, removal.serial, None, now);
                if let Some(order) = order {
                    context.answer(order, Forgotten::Done { released });
                }
            }
            By::Member(_) => self.remember(key, removal.epoch, removal.serial, None, now),
        }
    }

    /// The store did not remove it: the reference stays, and who wanted it gone asks again.
    pub(super) fn on_not_removed(
        &mut self,
        group: GroupAddr,
        rests: bool,
        removal: &Removal,
        context: &mut Context,
    ) {
        self.stays(group, rests, context);
        if let By::Operator(Some(order)) = removal.by {
            context.answer(order, Forgotten::NotStored);
        }
    }

    /// A removal did not release the address, though it may have been meant to (`rests`): it was not stored, or somebody
    /// else relies on it.
    fn stays(&mut self, group: GroupAddr, rests: bool, context: &mut Context) {
        let releasing =
            |(key, step): (&Key, &Step)| key.0 == group && matches!(step, Step::Removing { rests: true, .. });
        // The rest of one that is under way is to stay in the store: that one comes to an end of its own.
        if rests && !self.steps.iter().any(releasing) {
            context.persist(vec![Change::DeleteRest(group)]);
        }
        self.reopen(group);
    }

    /// Opens are taken again, unless every reference that is left is on its way out, or not in the store yet: if it never
    /// gets there, the address is free as soon as the others are gone.
    pub(super) fn reopen(&mut self, group: GroupAddr) {
        let going = |(binld, reference): (&ServerId, &Reference)| {
            if !reference.stored {
                return true;
            }
            let step = self.steps.get(&(group, *binld));
            matches!(step, Some(Step::Closing { .. } | Step::Removing { reference: true, .. }))
        };
        let closing = match self.places.get(&group) {
            Some(Place::Claimed(claim)) => claim.references.iter().all(going),
            Some(Place::Resting(_)) | None => return,
        };
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&group) {
            claim.closing = closing;
        }
    }

    /// The session of an address ended: a delete that waited for it goes on.
    pub(crate) fn on_session_ended(&mut self, group: GroupAddr, context: &mut Context) {
        self.deadlines.disarm(&Due::Cut(group));
        let waiting: Vec<Key> = self
            .steps
            .iter()
            .filter(|(key, step)| key.0 == group && matches!(step, Step::Closing { .. }))
            .map(|(key, _)| *key)
            .collect();
        for key in waiting {
            if let Some(Step::Closing { removal }) = self.steps.remove(&key) {
                self.remove(key, true, removal, context);
            }
        }
    }
}
