//! What many clients of one file received, without a copy for each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::ensure;
use sha2::{Digest, Sha256};

use super::sink::{Hash, MEMORY_MAX, Store};

/// The file as whoever was the first to have a byte of it received that byte.
#[derive(Debug, Default)]
pub(super) struct Common {
    bytes: Vec<u8>,
    /// What is there: ranges that do not touch, first byte to the one behind the last.
    there: BTreeMap<usize, usize>,
}

impl Common {
    /// Keeps what is new, and compares the rest: where the first byte is that differs.
    fn take(&mut self, start: usize, bytes: &[u8]) -> Option<usize> {
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let mut at = start;
        while at < end {
            let known = self.there.range(..=at).next_back().map_or(0, |(_, &to)| to.min(end));
            if known > at {
                let (ours, theirs) = (self.bytes.get(at..known)?, bytes.get(at - start..known - start)?);
                if ours != theirs {
                    return ours
                        .iter()
                        .zip(theirs)
                        .position(|(one, other)| one != other)
                        .map(|place| at + place);
                }
                at = known;
                continue;
            }
            let to = self.there.range(at..).next().map_or(end, |(&from, _)| from.min(end));
            self.bytes.get_mut(at..to)?.copy_from_slice(bytes.get(at - start..to - start)?);
            self.add(at, to);
            at = to;
        }
        None
    }

    fn add(&mut self, mut from: usize, mut to: usize) {
        if let Some((&before, &end)) = self.there.range(..from).next_back()
            && end == from
        {
            from = before;
        }
        if let Some(end) = self.there.remove(&to) {
            to = end;
        }
        self.there.insert(from, to);
    }

    /// The SHA-256 of so many bytes from the start; `None` if not all of them are there.
    pub(super) fn hash(&self, len: u64) -> Option<Hash> {
        let len = usize::try_from(len).ok()?;
        let is_whole = len == 0 || self.there.get(&0).is_some_and(|&end| end >= len);
        let bytes = self.bytes.get(..len).filter(|_| is_whole)?;
        Some(Sha256::digest(bytes).into())
    }
}

/// What one client received.
#[derive(Debug)]
pub(super) struct Share {
    common: Rc<RefCell<Common>>,
    len: u64,
    differs_at: Option<usize>,
}

impl Share {
    pub(super) fn new(common: &Rc<RefCell<Common>>) -> Self {
        Self { common: Rc::clone(common), len: 0, differs_at: None }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The first byte found that is not what another client received in that place.
    pub(super) fn differs_at(&self) -> Option<usize> {
        self.differs_at
    }
}

impl Store for Share {
    fn store(&mut self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let end = offset.saturating_add(u64::try_from(bytes.len())?);
        ensure!(end <= MEMORY_MAX, "more than {MEMORY_MAX} bytes: too large a file for --clients");
        self.len += u64::try_from(bytes.len())?;
        let differs_at = self.common.borrow_mut().take(usize::try_from(offset)?, bytes);
        self.differs_at = self.differs_at.or(differs_at);
        Ok(())
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        (self.len, self.differs_at) = (0, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_compared_with_the_first_that_came_for_its_place() {
        let common = Rc::new(RefCell::new(Common::default()));
        let mut clients: Vec<Share> = (0..3).map(|_| Share::new(&common)).collect();
        let [one, two, three] = clients.as_mut_slice() else { unreachable!("there are three") };
        one.store(6, b"ghi").unwrap();
        one.store(0, b"abc").unwrap();
        assert_eq!(common.borrow().hash(9), None, "there is a hole");
        // Blocks of another size: known and new bytes in turn.
        two.store(0, b"abcdefgh").unwrap();
        two.store(8, b"i").unwrap();
        assert_eq!((one.differs_at(), two.differs_at(), two.len()), (None, None, 9));
        assert_eq!(common.borrow().hash(9), Some(Sha256::digest(b"abcdefghi").into()));
        assert_eq!(common.borrow().there.len(), 1);
        three.store(2, b"cdeFgH").unwrap();
        assert_eq!(three.differs_at(), Some(5));
        three.restart().unwrap();
        assert_eq!((three.differs_at(), three.len()), (None, 0));
        assert!(three.store(MEMORY_MAX, b"x").is_err() && three.store(u64::MAX, b"x").is_err());
        assert_eq!(common.borrow().hash(10), None);
    }
}
