//! Which blocks somebody lacks.

use std::collections::BTreeMap;

/// A set of blocks of an MTFTP transfer (1–65,535), kept as ranges: transfers run in order, so they are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BlockSet(BTreeMap<u16, u16>);

impl BlockSet {
    /// The blocks from 1 to `last`.
    pub(crate) fn whole(last: u16) -> Self {
        let mut set = Self::default();
        if last > 0 {
            set.0.insert(1, last);
        }
        set
    }

    /// The lowest.
    pub(crate) fn first(&self) -> Option<u16> {
        self.0.keys().next().copied()
    }

    /// Whether it holds a block below this one.
    pub(crate) fn any_below(&self, block: u16) -> bool {
        self.first().is_some_and(|first| first < block)
    }

    pub(crate) fn contains(&self, block: u16) -> bool {
        self.0.range(..=block).next_back().is_some_and(|(_, &end)| end >= block)
    }

    /// The lowest, and the last of those that follow it without a gap, of `most` blocks at most.
    pub(crate) fn run(&self, most: u16) -> Option<(u16, u16)> {
        let (&start, &end) = self.0.first_key_value()?;
        Some((start, end.min(start.saturating_add(most.max(1) - 1))))
    }

    /// How many.
    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|(&start, &end)| u32::from(end - start) + 1).sum()
    }

    /// Adds a block.
    pub(crate) fn insert(&mut self, block: u16) {
        if self.contains(block) {
            return;
        }
        let mut start = block;
        let mut end = block;
        if let Some((&before, &before_end)) = self.0.range(..block).next_back()
            && before_end.checked_add(1) == Some(block)
        {
            start = before;
        }
        if let Some(after) = block.checked_add(1)
            && let Some(after_end) = self.0.remove(&after)
        {
            end = after_end;
        }
        self.0.insert(start, end);
    }

    /// Takes a block out.
    pub(crate) fn remove(&mut self, block: u16) {
        let Some((&start, &end)) = self.0.range(..=block).next_back() else { return };
        if end < block {
            return;
        }
        self.0.remove(&start);
        if start < block {
            self.0.insert(start, block - 1);
        }
        if block < end {
            self.0.insert(block + 1, end);
        }
    }

    /// Takes out all blocks up to and including this one.
    pub(crate) fn remove_to(&mut self, block: u16) {
        while let Some((&start, &end)) = self.0.first_key_value() {
            if start > block {
                return;
            }
            self.0.remove(&start);
            if end > block {
                self.0.insert(block + 1, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn blocks(set: &BlockSet) -> BTreeSet<u16> {
        set.0.iter().flat_map(|(&start, &end)| start..=end).collect()
    }

    proptest! {
        /// The ranges behave as a set of numbers, and stay apart from each other.
        #[test]
        fn behaves_as_a_set(last in 0_u16..40, steps in proptest::collection::vec((0_u8..3, 1_u16..40), 0..60)) {
            let mut set = BlockSet::whole(last);
            let mut model: BTreeSet<u16> = (1..=last).collect();
            for (step, block) in steps {
                match step {
                    0 => { set.insert(block); model.insert(block); }
                    1 => { set.remove(block); model.remove(&block); }
                    _ => { set.remove_to(block); model.retain(|&b| b > block); }
                }
                prop_assert_eq!(blocks(&set), model.clone());
                prop_assert_eq!(set.first(), model.first().copied());
                let run = set.run(3).into_iter().flat_map(|(start, end)| start..=end).collect::<Vec<_>>();
                prop_assert!(run.iter().all(|b| model.contains(b)) && run.first() == model.first());
                prop_assert!(run.len() == 3 || !run.last().is_some_and(|b| model.contains(&(b + 1))));
                prop_assert_eq!(set.len() as usize, model.len());
                prop_assert_eq!(set.contains(block), model.contains(&block));
                prop_assert!(set.0.iter().zip(set.0.iter().skip(1)).all(|(a, b)| a.1 + 1 < *b.0));
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers() {
        let mut set = BlockSet::whole(u16::MAX);
        assert_eq!(set.len(), 65_535);
        set.remove(u16::MAX);
        set.insert(u16::MAX);
        assert_eq!(set, BlockSet::whole(u16::MAX));
        set.remove_to(u16::MAX);
        assert_eq!(set.first(), None);
        assert!(!set.any_below(5));
    }
}
