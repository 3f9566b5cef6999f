//! What is told: our word, who was struck off here, and the list, if it is for us to publish it.

use std::collections::BTreeMap;

use wire::ServerId;
use wire::record::{ROLL_MAX, Roll as Part};

use super::list::{List, is_part};
use super::{FLAGS, LEFT, Output, READY, Roll, Told, WORD};
use crate::limits::{ROLL_LIST_LIVES, ROLL_WORD_LIVES};

impl Roll {
    pub(super) fn publish(&mut self) {
        let word = self.word();
        let top = self.held.top();
        let is_stored = top.is_some_and(|top| self.saved.top == Some(top.rank()));
        let told = Told {
            word: word.clone(),
            struck: self.struck.clone(),
            list: top.filter(|top| is_stored && self.is_publisher(top)).map(List::rank),
            waits: top.is_some() && !is_stored,
        };
        if self.told.as_ref() == Some(&told) {
            return;
        }
        let mut wanted = BTreeMap::from_iter(word.map(|word| (WORD, word)));
        for (server, (version, digest)) in &self.struck {
            // As far as they can be told apart: below the parts of lists.
            let [one, two, three, ..] = digest.0;
            let bits = u32::from_be_bytes([0, one, two, three]);
            let number = 1 + (u64::from(*version) << 24 | u64::from(bits));
            let said = Part { version: *version, part: 0, parts: 1, members: vec![ServerId(digest.0)] };
            let list = wanted.entry(number).or_insert(said);
            if list.members.len() < ROLL_MAX {
                list.members.push(*server);
            }
        }
        // Who has left publishes as well: others may have nobody else to hear of the list from.
        if let Some(top) = top.filter(|_| told.list.is_some()) {
            wanted.extend(top.parts());
        } else if told.waits {
            // Until the next one is stored.
            let parts = self.published.iter().filter(|(number, _)| is_part(**number));
            wanted.extend(parts.map(|(number, part)| (*number, part.clone())));
        }
        for number in self.published.keys().filter(|number| !wanted.contains_key(number)) {
            self.out.push_back(Output::Withdraw(*number));
        }
        for (number, part) in wanted.iter().filter(|(number, part)| self.published.get(number) != Some(*part))
        {
            let lives = if is_part(*number) { ROLL_LIST_LIVES } else { ROLL_WORD_LIVES };
            self.out.push_back(Output::Publish(*number, lives, part.clone()));
        }
        (self.published, self.told) = (wanted, Some(told));
    }

    /// Which list we have taken up last.
    fn word(&mut self) -> Option<Part> {
        let (version, digest) = self.saved.top?;
        let is_ready = self.saved.flags & READY != 0 || self.all_say(0);
        let ready = if is_ready { READY } else { 0 };
        let left = if self.saved.left { LEFT } else { 0 };
        let own = &self.saved.origins.own;
        let count = u8::try_from(own.len()).unwrap_or_default() << 4;
        let others = self.saved.origins.all.difference(own);
        let members = std::iter::once(&digest).chain(own).chain(others).map(|it| ServerId(it.0)).collect();
        Some(Part { version, part: self.saved.flags | ready | left | count, parts: FLAGS, members })
    }

    /// The lowest living one that has taken it up; whoever did it before goes on until that one has begun.
    fn is_publisher(&self, top: &List) -> bool {
        let is_lower = |server: &ServerId| *server < self.me && self.living.contains_key(server);
        if self.gatherings.lists().any(|(owner, list)| is_lower(owner) && list.digest() == top.digest()) {
            return false;
        }
        let publishes = self.published.contains_key(&(top.tag() << 8));
        publishes || !self.living.keys().any(|server| is_lower(server) && self.says(server, top.digest(), 0))
    }
}
