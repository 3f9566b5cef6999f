//! Which MTFTP server has acknowledged which file, and when: no answer names a server that has not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use driver::Time;
use wire::{Content, FileName};

use super::catalog::Boot;
use super::claims::ClaimKey;
use crate::limits::FILE_ACK_MAX;

/// What is known of a file on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// Not asked, or not answered, yet.
    Unknown,
    /// The server has it.
    Acknowledged {
        /// When it last said so.
        at: Time,
        /// Its size in bytes.
        size: u64,
    },
    /// The server does not have it.
    Refused,
}

/// A file that cannot be multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Its size in bytes.
    pub size: u64,
    /// The largest that the server can multicast there.
    pub size_max: u64,
}

/// The files that boot items need, and the servers that did not answer lately.
#[derive(Debug, Default)]
pub struct Files {
    known: BTreeMap<Content, Knowledge>,
    too_large: BTreeMap<ClaimKey, TooLarge>,
    /// Of these the last request stayed without an answer, though they are there.
    unanswered: BTreeSet<Ipv4Addr>,
    silent: BTreeSet<Ipv4Addr>,
}

impl Files {
    /// Keeps only these files; new ones are unknown.
    pub fn keep(&mut self, files: &BTreeSet<Content>) {
        self.known.retain(|content, _| files.contains(content));
        // The server may be another one by now; it says so again.
        self.too_large.clear();
        for content in files {
            self.known.entry(content.clone()).or_insert(Knowledge::Unknown);
        }
    }

    /// What is known of the file.
    #[must_use]
    pub fn of(&self, content: &Content) -> Option<Knowledge> {
        self.known.get(content).copied()
    }

    /// The server answered: with the file's size, or `None` for *no such file*.
    pub fn on_answer(&mut self, now: Time, content: &Content, size: Option<u64>) {
        self.unanswered.remove(&content.server);
        self.silent.remove(&content.server);
        // It is not what it was.
        self.too_large.retain(|key, facts| key.content != *content || Some(facts.size) == size);
        if let Some(known) = self.known.get_mut(content) {
            *known = size.map_or(Knowledge::Refused, |size| Knowledge::Acknowledged { at: now, size });
        }
    }

    /// The server has the file, for plain TFTP only. True if that is new.
    pub fn on_too_large(&mut self, now: Time, key: &ClaimKey, facts: TooLarge) -> bool {
        self.on_answer(now, &key.content, Some(facts.size));
        self.too_large.insert(key.clone(), facts) != Some(facts)
    }

    /// Whether the server said so of the file as it is now.
    #[must_use]
    pub fn too_large(&self, key: &ClaimKey) -> Option<TooLarge> {
        self.too_large.get(key).copied()
    }

    /// The largest file that the server can multicast, in bytes, if this one is larger.
    #[must_use]
    pub fn multicast_max(&self, content: &Content) -> Option<u64> {
        let keys = [false, true].map(|pinned| ClaimKey { content: content.clone(), pinned });
        keys.iter().filter_map(|key| self.too_large(key)).map(|facts| facts.size_max).max()
    }

    /// The size of a file that the server acknowledged, in bytes.
    #[must_use]
    pub fn size(&self, content: &Content) -> Option<u64> {
        match self.known.get(content)? {
            Knowledge::Acknowledged { size, .. } => Some(*size),
            Knowledge::Unknown | Knowledge::Refused => None,
        }
    }

    /// The server did not answer a request, sendings and all. If it `lives`, for all that is heard of it otherwise, it takes
    /// two of them: on a link with loss servers would differ in whom they send a client to.
    pub fn on_silence(&mut self, server: Ipv4Addr, lives: bool) {
        if !self.unanswered.insert(server) || !lives {
            self.silent.insert(server);
        }
    }

    /// Whether requests to the server stay without an answer.
    #[must_use]
    pub fn is_silent(&self, server: Ipv4Addr) -> bool {
        self.silent.contains(&server)
    }

    /// Whether an answer may name the server for the file.
    #[must_use]
    pub fn is_fresh(&self, now: Time, content: &Content) -> bool {
        match self.known.get(content) {
            Some(Knowledge::Acknowledged { at, .. }) => now.since(*at) < FILE_ACK_MAX,
            Some(Knowledge::Unknown | Knowledge::Refused) | None => false,
        }
    }

    fn has(&self, now: Time, server: Ipv4Addr, file: &FileName) -> bool {
        self.is_fresh(now, &Content { server, file: file.clone() })
    }

    /// The server a client is sent to: it has every file the client is told; one that answers before one that is
    /// silent, one that has the multicast file before one that has not, one that multicasts it already before one that
    /// would begin, then by the order of the configuration.
    #[must_use]
    pub fn choose_server(
        &self,
        now: Time,
        boot: &Boot,
        multicasts: impl Fn(Ipv4Addr, &FileName) -> bool,
    ) -> Option<Ipv4Addr> {
        let able =
            boot.servers.iter().filter(|server| boot.files().all(|file| self.has(now, **server, file)));
        able.min_by_key(|server| {
            let multicast = boot.multicast.as_ref();
            let lacks = multicast.is_some_and(|file| !self.has(now, **server, file));
            let begins = multicast.is_some_and(|file| !multicasts(**server, file));
            (self.is_silent(**server), lacks, begins)
        })
        .copied()
    }

    /// In order of server and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Content, Knowledge)> {
        self.known.iter().map(|(content, known)| (content, *known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that stays without an answer on a link with loss makes no difference; a second one does, and so does the
    /// first to a server of which nothing else is heard.
    #[test]
    fn who_is_heard_otherwise_is_silent_the_second_time() {
        let content = Content { server: Ipv4Addr::new(10, 77, 0, 21), file: FileName::new(b"f").unwrap() };
        for (lives, is_silent) in
            [(&[true][..], false), (&[true, true], true), (&[false], true), (&[true, false], true)]
        {
            let mut files = Files::default();
            for lives in lives {
                files.on_silence(content.server, *lives);
            }
            assert_eq!(files.is_silent(content.server), is_silent, "{lives:?}");
            files.on_answer(Time::ZERO, &content, None);
            files.on_silence(content.server, true);
            assert!(!files.is_silent(content.server), "an answer begins anew");
        }
    }
}
