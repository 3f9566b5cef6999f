//! Delete on behalf, by the word of a living BINLD (G12). And what the domain is told of our references, so that a living
//! BINLD can know.

use wire::Content;
use wire::record::{HOLDERS_MAX, Holder, Reference as ReferenceBody};

use super::*;
use crate::engine::ReferencePolicy;

impl References {
    /// Deletes the reference of a dead BINLD as its own delete would: on disk first, the last one ends the session and
    /// frees the address. That the sender is a living BINLD and the other one dead, the caller has looked at.
    ///
    /// It must be the very reference that the sender read of. What is stale is not in the grace after a restart, so no
    /// more is asked about that. And 300 s without a renewal are safe by themselves, whoever is cut off from whom: a BINLD
    /// hands an address out for 180 s after its last ACK, and a client may come for 120 s more.
    pub(crate) fn on_delete_for_dead(
        &mut self,
        now: Time,
        sender: Sender,
        message: &DeleteForDead,
        in_session: bool,
        context: &mut Context,
    ) {
        let key = (message.group, message.dead);
        if let Err(why) = self.is_lawful(key, message) {
            return context.count("drop_behalf", why);
        }
        let (epoch, serial) = self.fence(key, (message.boot_epoch, message.serial));
        let by = By::Member(sender.binld);
        context.count("references", "deleted_on_behalf");
        self.take_out(now, key, Removal { epoch, serial, at: sender.wall, by }, in_session, context);
    }

    fn is_lawful(&self, key: Key, message: &DeleteForDead) -> Result<(), &'static str> {
        if self.config.references == ReferencePolicy::Forever {
            return Err("forever");
        }
        let there = match self.places.get(&key.0) {
            Some(Place::Claimed(claim)) if claim.file == message.file => claim.references.get(&key.1),
            Some(Place::Claimed(_) | Place::Resting(_)) | None => None,
        };
        let Some(reference) = there else { return Err("no_such_reference") };
        if self.steps.contains_key(&key) {
            return Err("in_flight");
        }
        if (reference.epoch, reference.serial) != (message.boot_epoch, message.serial) {
            return Err("another_number");
        }
        if reference.stale { Ok(()) } else { Err("not_stale") }
    }

    /// What the domain is told of an address, in as many records as its holders need: those that the store has.
    pub(crate) fn told(&self, group: GroupAddr) -> Vec<ReferenceBody> {
        let Some(Place::Claimed(claim)) = self.places.get(&group) else { return Vec::new() };
        let stored = claim.references.iter().filter(|(_, reference)| reference.stored);
        let holders: Vec<Holder> = stored
            .map(|(binld, reference)| Holder {
                binld: *binld,
                boot_epoch: reference.epoch,
                serial: reference.serial,
                stale: reference.stale,
            })
            .collect();
        let content = Content { server: self.identity.address, file: claim.file.clone() };
        let record = |holders: &[Holder]| ReferenceBody {
            group,
            content: content.clone(),
            ports: claim.ports,
            holders: holders.to_vec(),
        };
        holders.chunks(HOLDERS_MAX).map(record).collect()
    }
}
