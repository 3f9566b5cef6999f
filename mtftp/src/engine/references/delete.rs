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
        let binld = sender.binld;
        let key = (message.group, binld);
        if !self.is_new(key, sender, message.serial, context) {
            return;
        }
        if self.steps.contains_key(&key) {
            return context.count("control", "in_flight");
        }
        let asked = Asked { sender, message };
        let group = key.0;
        let (listed, last) = match self.places.get(&group) {
            Some(Place::Claimed(claim)) if claim.file == asked.message.file => {
                (claim.references.contains_key(&binld), claim.references.len() == 1)
            }
            Some(Place::Claimed(_) | Place::Resting(_)) | None => (false, false),
        };
        if !listed && !self.known.contains_key(&key) && self.known.len() >= KNOWN_MAX {
            return context.count("control", "too_many_references");
        }
        if !(listed && last) {
            return self.remove(key, listed, asked, context);
        }
        if now < self.grace_until {
            // Silence: the BINLD repeats its delete until it is ACKed.
            return context.count("control", "delete_in_grace");
        }
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&group) {
            claim.closing = true;
        }
        if in_session {
            self.deadlines.arm(Due::Cut(group), now + CLOSING_MAX, "a closing session is cut");
            self.steps.insert(key, Step::Closing { asked });
        } else {
            self.remove(key, true, asked, context);
        }
    }

    fn remove(&mut self, key: Key, listed: bool, asked: Asked<Delete>, context: &mut Context) {
        let (group, binld) = key;
        let serial = SerialRecord { group, binld, epoch: asked.sender.epoch, serial: asked.message.serial };
        let mut changes = vec![Change::PutSerial(serial)];
        if listed {
            changes.push(Change::DeleteReference { group, binld });
        }
        if let Some(Place::Claimed(claim)) = self.places.get(&group)
            && listed
            && claim.references.len() == 1
            && let Some(reference) = claim.references.get(&binld)
        {
            let record = RestRecord {
                group,
                file: claim.file.clone(),
                stamp: reference.stamp,
                since: asked.sender.wall,
            };
            changes.push(Change::PutRest(record));
        }
        let ticket = context.persist(changes);
        self.steps.insert(key, Step::Removing { ticket, reference: listed, asked });
    }

    pub(super) fn on_removed(
        &mut self,
        now: Time,
        key: Key,
        listed: bool,
        asked: &Asked<Delete>,
        context: &mut Context,
    ) {
        let (group, binld) = key;
        if listed && let Some(Place::Claimed(claim)) = self.places.get_mut(&group) {
            let gone = claim.references.remove(&binld);
            let released = claim.references.is_empty();
            let file = claim.file.clone();
            let ports = claim.ports;
            context.tell(Event::Deleted { group, file: file.clone(), binld, released });
            if let Some(reference) = gone
                && released
            {
                self.rest(now, group, Rest { file, ports, stamp: reference.stamp, since: asked.sender.wall });
            }
        }
        let request = request_ref(asked.sender.epoch, asked.message.serial, Some(group));
        let ports = Ports { client: 0, server: 0 };
        let answer = Message::Ack(Ack { request, ports, file_size: 0, file: asked.message.file.clone() });
        self.remember(key, asked.sender.epoch, asked.message.serial, Some(answer.clone()), now);
        context.count("control", "ack");
        self.answer(asked.sender.from, answer, context);
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
            if let Some(Step::Closing { asked, .. }) = self.steps.remove(&key) {
                self.remove(key, true, asked, context);
            }
        }
    }
}
