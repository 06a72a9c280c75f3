//! Ranges that were deleted and whose space is not given back yet.

use std::collections::BTreeMap;

use crate::keys::{BATCH, Key};

/// Most ranges remembered. Trims of one log join to one range, so this many logs can be trimmed
/// between two reclaims; what is beyond waits for RocksDB's own compactions.
const MAX_RANGES: usize = 1024;

/// Deleted ranges, disjoint: from (inclusive) to (exclusive).
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<Key, Key>);

impl Ranges {
    /// Remembers a deleted range, joined with those it touches. Only batches: the rest is small.
    pub(super) fn add(&mut self, from: &Key, to: &Key) {
        if from.first() != Some(&BATCH) || from >= to {
            return;
        }
        let (mut from, mut to) = (from.clone(), to.clone());
        while let Some((start, end)) =
            self.0.range(..=to.clone()).next_back().filter(|(_, end)| **end >= from)
        {
            let start = start.clone();
            to = to.max(end.clone());
            self.0.remove(&start);
            from = from.min(start);
        }
        if self.0.len() < MAX_RANGES {
            self.0.insert(from, to);
        }
    }

    /// Takes all ranges.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Key, Key)> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys,
        types::{Incarnation, Offset},
    };

    fn key(offset: u64) -> Key {
        keys::batches_from(Incarnation(1), Offset(offset))
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let mut ranges = Ranges::default();
        for (from, to) in [(0, 10), (20, 30), (40, 50), (10, 15), (60, 70), (25, 45), (5, 5)] {
            ranges.add(&key(from), &key(to));
        }
        // Not a table of batches, so not worth a compaction.
        ranges.add(&keys::mark(crate::types::LogIndex(0)), &keys::mark(crate::types::LogIndex(9)));
        let all: Vec<_> = ranges.take().collect();
        assert_eq!(all, [(key(0), key(15)), (key(20), key(50)), (key(60), key(70))]);
        assert_eq!(ranges.take().count(), 0);
    }

    #[test]
    fn their_number_is_bounded() {
        let mut ranges = Ranges::default();
        for i in 0..2 * MAX_RANGES as u64 {
            ranges.add(&key(3 * i), &key(3 * i + 1));
        }
        assert_eq!(ranges.take().count(), MAX_RANGES);
    }
}
