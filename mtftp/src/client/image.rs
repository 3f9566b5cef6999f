//! Which blocks of a multicast file are there.

use wire::tftp::block_count;

use crate::engine::window::BlockSet;

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was missing; its bytes begin here.
    New(u64),
    /// It was there.
    Again,
    /// It cannot be a block of this file.
    Wrong,
}

/// The blocks 1 to the last, which is known when a short one has come or the size was told.
#[derive(Debug)]
pub(super) struct Image {
    block_size: u16,
    lacks: BlockSet,
    last: Option<u16>,
}

impl Image {
    pub(super) fn new(block_size: u16) -> Self {
        Self { block_size, lacks: BlockSet::whole(u16::MAX), last: None }
    }

    /// The size was told, in bytes. False if such a file has no multicast.
    pub(super) fn know_size(&mut self, size: u64) -> bool {
        self.last = u16::try_from(block_count(size, self.block_size)).ok();
        self.last.is_some()
    }

    /// A block of so many bytes.
    pub(super) fn take(&mut self, block: u16, len: usize) -> Taken {
        let size = usize::from(self.block_size);
        let is_short = len < size;
        let fits = self.last.is_none_or(|last| block < last && !is_short || block == last && is_short);
        if block == 0 || len > size || !fits {
            return Taken::Wrong;
        }
        if is_short {
            self.last = Some(block);
        }
        if !self.lacks.contains(block) {
            return Taken::Again;
        }
        self.lacks.remove(block);
        Taken::New(u64::from(block - 1) * u64::from(self.block_size))
    }

    /// The first block that is missing; one more than the last if none is.
    pub(super) fn gap(&self) -> u32 {
        self.lacks.first().map_or(u32::from(u16::MAX) + 1, u32::from)
    }

    /// The block before the first that is missing: what an ACK of a master names.
    pub(super) fn before_gap(&self) -> u16 {
        u16::try_from(self.gap() - 1).unwrap_or(u16::MAX)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.last.is_some_and(|last| self.gap() > u32::from(last))
    }

    /// The number of the last block, when it is known.
    pub(super) fn last(&self) -> Option<u16> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_in_any_order_and_the_short_one_is_the_last() {
        let mut image = Image::new(8);
        assert_eq!(image.take(2, 8), Taken::New(8));
        assert_eq!((image.before_gap(), image.is_whole()), (0, false));
        assert_eq!(image.take(3, 0), Taken::New(16));
        assert_eq!(image.take(2, 8), Taken::Again);
        for (block, len) in [(0, 8), (4, 8), (3, 8), (1, 7), (1, 9)] {
            assert_eq!(image.take(block, len), Taken::Wrong, "{block} {len}");
        }
        assert_eq!((image.take(1, 8), image.before_gap(), image.is_whole()), (Taken::New(0), 3, true));
    }

    #[test]
    fn the_size_says_which_block_is_the_last() {
        let mut image = Image::new(8);
        assert!(image.know_size(16));
        assert_eq!(
            (image.take(3, 8), image.take(4, 1), image.take(2, 5)),
            (Taken::Wrong, Taken::Wrong, Taken::Wrong)
        );
        assert!(!Image::new(8).know_size(8 * 65_535));
        let mut most = Image::new(8);
        assert!(most.know_size(8 * 65_535 - 1));
        assert!((1..u16::MAX).all(|block| most.take(block, 8) != Taken::Wrong));
        assert_eq!(
            (most.take(u16::MAX, 7), most.is_whole(), most.before_gap()),
            (Taken::New(524_272), true, u16::MAX)
        );
    }
}
