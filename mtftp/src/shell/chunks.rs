//! What was read of files lately, a chunk each, for clients that take one block at a time: many of them read the same file, and
//! two calls of the kernel for each block cost a tenth of what a block costs.

use std::collections::BTreeMap;
use std::time::Duration;

use driver::Time;

use super::files::{Changed, Pin};

/// Bytes of a chunk.
pub(super) const CHUNK: u64 = 32 * 1024;
/// Chunks at most: 4 MiB in all.
const CHUNKS_MAX: usize = 128;
/// A chunk is read anew after so long: who writes to a file need not change its time.
const FRESH: Duration = Duration::from_secs(1);

/// Of which file, as it was and when it was touched last, and which part.
type Key = (Pin, (i64, i64), u64);

#[derive(Debug)]
struct Chunk {
    key: Key,
    bytes: Vec<u8>,
    read_at: Time,
    /// Since the hand passed.
    is_used: bool,
}

/// The chunks. Which goes is found as by a clock's hand: the next that was not used since it last passed.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    places: BTreeMap<Key, usize>,
    hand: usize,
}

impl Chunks {
    /// What was read of it, if that was lately.
    pub(super) fn get(&mut self, now: Time, key: &Key) -> Option<&[u8]> {
        let chunk = self.chunks.get_mut(*self.places.get(key)?)?;
        if now.since(chunk.read_at) >= FRESH {
            return None;
        }
        chunk.is_used = true;
        Some(&chunk.bytes)
    }

    /// Has `read` fill a chunk of so many bytes.
    ///
    /// # Errors
    /// What `read` says; the chunk is not kept then.
    pub(super) fn fill(
        &mut self,
        now: Time,
        key: Key,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), Changed>,
    ) -> Result<&[u8], Changed> {
        let place = self.places.get(&key).copied().unwrap_or_else(|| self.place());
        if place == self.chunks.len() {
            self.chunks.push(Chunk { key, bytes: Vec::new(), read_at: now, is_used: false });
        }
        let chunk = self.chunks.get_mut(place).ok_or(Changed)?;
        // One that could not be read has left its place, and may have another by now.
        if self.places.get(&chunk.key) == Some(&place) {
            self.places.remove(&chunk.key);
        }
        chunk.bytes.resize(len, 0);
        (chunk.key, chunk.read_at, chunk.is_used) = (key, now, false);
        read(&mut chunk.bytes)?;
        self.places.insert(key, place);
        Ok(&chunk.bytes)
    }

    /// A new place, or that of one that goes.
    fn place(&mut self) -> usize {
        if self.chunks.len() < CHUNKS_MAX {
            return self.chunks.len();
        }
        loop {
            self.hand = (self.hand + 1) % self.chunks.len();
            match self.chunks.get_mut(self.hand) {
                Some(chunk) if chunk.is_used => chunk.is_used = false,
                Some(_) | None => return self.hand,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(part: u64) -> Key {
        (Pin { device: 1, inode: 2, size: 3, changed: (4, 5) }, (6, 7), part)
    }

    fn fill(chunks: &mut Chunks, now: Time, part: u64) {
        let byte = u8::try_from(part % 251).unwrap();
        let read = |bytes: &mut [u8]| {
            bytes.fill(byte);
            Ok(())
        };
        assert_eq!(chunks.fill(now, key(part), 3, read), Ok(&[byte; 3][..]));
    }

    #[test]
    fn keeps_what_is_used_and_no_more_than_it_may() {
        let mut chunks = Chunks::default();
        for part in 0..10 * CHUNKS_MAX as u64 {
            fill(&mut chunks, Time::ZERO, part);
            assert_eq!(chunks.get(Time::ZERO, &key(0)), Some(&[0; 3][..]), "used all the time, after {part}");
            assert!(chunks.chunks.len() <= CHUNKS_MAX && chunks.places.len() <= CHUNKS_MAX);
        }
        assert_eq!(chunks.get(Time::ZERO, &key(1)), None, "it made room");
    }

    #[test]
    fn gives_nothing_that_is_old_or_could_not_be_read() {
        let mut chunks = Chunks::default();
        fill(&mut chunks, Time::ZERO, 1);
        assert_eq!(chunks.get(Time::ZERO + FRESH, &key(1)), None);
        assert_eq!(chunks.fill(Time::ZERO + FRESH, key(1), 3, |_| Err(Changed)), Err(Changed));
        assert_eq!(chunks.get(Time::ZERO + FRESH, &key(1)), None);
        for part in (1..=CHUNKS_MAX as u64).chain([1]) {
            fill(&mut chunks, Time::ZERO + FRESH, part);
            assert!(chunks.get(Time::ZERO + FRESH, &key(part)).is_some(), "{part}");
        }
    }
}
