//! Which BINLDs still renew (G12). A lease that is over takes nothing: an address is freed by a delete and by nothing else
//! (R003.20).

use std::time::Duration;

use super::*;
use crate::engine::ReferencePolicy;

impl References {
    /// A reference was made or renewed: from now on it has its whole lease.
    pub(super) fn renew(&mut self, now: Time, key: Key, context: &mut Context) {
        self.lease(now, key, LEASE);
        let (group, binld) = key;
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&group)
            && let Some(reference) = claim.references.get_mut(&binld)
            && std::mem::take(&mut reference.stale)
        {
            self.changed.insert(group);
            context.count("references", "renewed_late");
            let (file, address) = (claim.file.clone(), reference.address);
            context.tell(Event::Renewed { group, file, binld, address });
        }
    }

    /// What is left of the lease by the wall clock, so that a server that restarts again and again does not keep a dead
    /// BINLD fresh; but at least the grace, in which every living one renews twice: nobody could renew while we were
    /// away. A wall clock that was set back gives a whole lease.
    pub(super) fn lease_after_restart(&mut self, key: Key, now: Time, wall: Wall) {
        let Some(reference) = self.reference(key) else { return };
        let age = Duration::from_millis(wall.0.saturating_sub(reference.renewed.0));
        self.lease(now, key, LEASE.saturating_sub(age).max(self.config.grace));
    }

    fn lease(&mut self, now: Time, key: Key, span: Duration) {
        if self.config.references == ReferencePolicy::Forever {
            return;
        }
        let (group, binld) = key;
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&group)
            && let Some(reference) = claim.references.get_mut(&binld)
        {
            reference.stale_at = Some(now + span);
            self.deadlines.arm(Due::Stale(key), now + span, "a reference becomes stale");
        }
    }

    /// It was not renewed in time.
    pub(super) fn on_stale(&mut self, key: Key, context: &mut Context) {
        let (group, binld) = key;
        if let Some(Place::Claimed(claim)) = self.places.get_mut(&group)
            && let Some(reference) = claim.references.get_mut(&binld)
        {
            reference.stale = true;
            self.changed.insert(group);
            context.count("references", "stale");
            let (file, address, renewed) = (claim.file.clone(), reference.address, reference.renewed);
            context.tell(Event::Stale { group, file, binld, address, renewed });
        }
    }
}
