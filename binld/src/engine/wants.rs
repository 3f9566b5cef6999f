//! Which claims the catalog needs, and which of those there are need not stay.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use driver::Time;
use wire::Content;

use super::Engine;
use super::catalog::{Boot, Item, Profile};
use super::claims::{ClaimKey, State};
use super::files::Knowledge;

/// A claim that some boot item needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) key: ClaimKey,
    pub(super) boot_item: wire::pxe::BootItem,
    pub(super) item: Arc<str>,
}

impl Engine {
    /// Compares the claims there are with those the catalog wants: missing ones begin, others drain.
    pub(super) fn reconcile(&mut self, now: Time) {
        let wanted = if self.slices.leaves { BTreeMap::new() } else { self.wanted(now) };
        for want in wanted.values() {
            let known = self.claims.get(&want.key);
            let begins = known.is_none_or(|claim| matches!(claim.state, State::Draining { .. }));
            if begins {
                self.want(now, want, false);
            }
        }
        let keys = self.claims.iter().map(|claim| &claim.key);
        let unwanted: Vec<ClaimKey> = keys.filter(|key| !wanted.contains_key(key)).cloned().collect();
        if !unwanted.is_empty() {
            let may_stay = self.may_stay(now);
            for key in unwanted.iter().filter(|key| !may_stay.contains(key)) {
                self.drain(now, key);
            }
        }
        self.wake_pinned(now);
    }

    /// The claims that are the catalog's even if nothing asks for them right now: of an item that is cleared on demand,
    /// or of one whose files nobody has acknowledged lately.
    fn may_stay(&self, now: Time) -> BTreeSet<ClaimKey> {
        let mut stays = BTreeSet::new();
        if self.slices.leaves {
            return stays;
        }
        for boot in self.config.catalog.items.iter().flat_map(|item| &item.boots) {
            let Some(file) = &boot.multicast else { continue };
            let chosen = self.choose(now, boot);
            for server in boot.servers.iter().filter(|server| chosen.is_none_or(|chosen| chosen == **server))
            {
                let content = Content { server: *server, file: file.clone() };
                let refused = self.files.of(&content) == Some(Knowledge::Refused);
                let key = ClaimKey { content, pinned: boot.pinned };
                if !refused && self.files.too_large(&key).is_none() {
                    stays.insert(key);
                }
            }
        }
        stays
    }

    /// The claims that the catalog needs now, the first boot item of each.
    fn wanted(&self, now: Time) -> BTreeMap<ClaimKey, Wanted> {
        let mut wanted = BTreeMap::new();
        for item in self.config.catalog.items.iter().filter(|item| item.preclear) {
            for boot in &item.boots {
                let want = self.choose(now, boot).and_then(|server| self.wanted_of(now, item, boot, server));
                if let Some(want) = want {
                    wanted.entry(want.key.clone()).or_insert(want);
                }
            }
        }
        wanted
    }

    /// The claim that the boot needs on that server, if the server has the file and can multicast it.
    pub(super) fn wanted_of(&self, now: Time, item: &Item, boot: &Boot, server: Ipv4Addr) -> Option<Wanted> {
        let content = Content { server, file: boot.multicast.clone()? };
        let has = self.files.is_fresh(now, &content);
        let key = ClaimKey { content, pinned: boot.pinned };
        (has && self.files.too_large(&key).is_none()).then(|| Wanted {
            key,
            boot_item: item.boot_item,
            item: item.name.clone(),
        })
    }

    pub(super) fn choose(&self, now: Time, boot: &Boot) -> Option<Ipv4Addr> {
        self.files.choose_server(now, boot, |server, file| {
            let key = ClaimKey { content: Content { server, file: file.clone() }, pinned: boot.pinned };
            let is_ours =
                self.claims.get(&key).is_some_and(|claim| matches!(claim.state, State::Held { .. }));
            // So that all say the same. But a boot ROM must be sent to us ourselves, or has its file by plain TFTP: an
            // address of another file server is none of its business.
            match boot.profile {
                Profile::PxeRom => is_ours && server == self.config.address,
                Profile::Ipxe | Profile::MtftpGet | Profile::Tftp => {
                    is_ours || self.shareable(now, &key).is_some()
                }
            }
        })
    }
}
