//! Forget: delete on behalf, by an operator's word (G12): the reference of a BINLD that will not delete it itself.

use super::*;

impl References {
    /// Deletes a reference as its BINLD would: the last one ends the session first, then the address rests. The answer
    /// is an [`Action::Answer`](crate::engine::Action::Answer), after the store has it.
    ///
    /// Only a stale reference goes without `force`. In the grace after a restart none is stale, so the grace is kept
    /// unless the operator knows better.
    pub(crate) fn forget(
        &mut self,
        now: Time,
        wall: Wall,
        order: Order,
        (key, force): (Key, bool),
        in_session: bool,
        context: &mut Context,
    ) {
        let reference = match self.forgettable(now, key, force) {
            Ok(reference) => reference,
            Err(refusal) => return context.answer(order, refusal),
        };
        let (epoch, serial) = self.fence(key, (reference.epoch, reference.serial));
        let mut removal = Removal { epoch, serial, at: wall, by: By::Operator(Some(order)) };
        context.count("references", "forgotten");
        if self.others(key) == 0 && in_session {
            context.answer(order, Forgotten::Closing);
            removal.by = By::Operator(None);
        }
        self.take_out(now, key, removal, in_session, context);
    }

    /// What is below this number is older than a removal on behalf. It is one above the BINLD's highest number: what it
    /// sent before its death brings nothing back, while one that lives after all hears *superseded*, configures again
    /// with a higher number and has its reference back.
    pub(super) fn fence(&self, key: Key, number: (BootEpoch, Serial)) -> (BootEpoch, Serial) {
        let known = self.known.get(&key).map(|known| (known.epoch, known.serial));
        let (epoch, serial) = known.unwrap_or_default().max(number);
        (epoch, Serial(serial.0.saturating_add(1)))
    }

    fn forgettable(&self, now: Time, key: Key, force: bool) -> Result<&Reference, Forgotten> {
        let (group, binld) = key;
        let Some(Place::Claimed(claim)) = self.places.get(&group) else {
            let claimed = self.places().filter(|(_, place)| matches!(place, Place::Claimed(_)));
            return Err(Forgotten::NoSuchAddress(claimed.map(|(group, _)| group).collect()));
        };
        let Some(reference) = claim.references.get(&binld) else {
            return Err(Forgotten::NoSuchReference(claim.references.keys().copied().collect()));
        };
        if self.steps.contains_key(&key) {
            return Err(Forgotten::Busy);
        }
        if !reference.stale && !force {
            // Since the given instant: the end of its lease is still to come.
            return Err(Forgotten::NotStale(reference.stale_at.map(|at| at.since(now))));
        }
        Ok(reference)
    }
}
