//! How large levels should be, and how far they are from it.
//!
//! The last level holds most of the data; each level above it is meant to be `level_ratio` times smaller, up to the first that is no larger
//! than what level 0 brings at once. Levels between level 0 and that one are empty, so that a small tree has two levels and the
//! space that old versions take stays a constant part of all (RocksDB's `level_compaction_dynamic_level_bytes`; Dong et al.,
//! "Optimizing Space Amplification in RocksDB", CIDR 2017, §3.1).

use crate::tree::{LAST_LEVEL, Levels, TreeOptions};

/// A level may be so many times larger than what level 0 brings at once before another is put above it: to merge level 0 into a larger
/// level costs less than to write everything once more.
const BASE_SLACK: u64 = 3;

/// The sizes that a family's levels should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The level into which level 0 is compacted.
    pub(super) base: usize,
    /// Bytes that a level may have; 0 above the base, no bound for the last.
    pub(super) targets: [u64; LAST_LEVEL + 1],
}

impl Shape {
    pub(super) fn of(levels: &Levels, options: &TreeOptions) -> Self {
        let largest = (1..=LAST_LEVEL).map(|level| levels.bytes(level)).max().unwrap_or(0);
        Self::with_largest(largest, options)
    }

    fn with_largest(largest: u64, options: &TreeOptions) -> Self {
        let mut targets = [0; LAST_LEVEL + 1];
        targets[LAST_LEVEL] = u64::MAX;
        let mut size = largest;
        let mut base = LAST_LEVEL;
        while base > 1 && size > options.base_bytes() * BASE_SLACK {
            base -= 1;
            size /= options.level_ratio.max(2);
            targets[base] = size;
        }
        Self { base, targets }
    }

    /// How far a level below 0 is over its size; from 1 on it should be compacted.
    pub(super) fn score(&self, levels: &Levels, level: usize) -> f64 {
        let bytes = levels.bytes(level);
        match (bytes, self.targets[level]) {
            (0, _) => 0.0,
            // Above the base nothing should be; what is there goes down soon, and blocks nothing.
            (_, 0) => 1.5,
            (bytes, target) => ratio(bytes, target),
        }
    }

    /// How far level 0 is over its size.
    pub(super) fn level0_score(levels: &Levels, options: &TreeOptions) -> f64 {
        ratio(levels.level(0).len() as u64, options.level0_tables as u64)
    }

    /// Bytes that must be rewritten until every level has its size.
    pub(super) fn debt(&self, levels: &Levels, options: &TreeOptions) -> u64 {
        let mut debt = 0;
        let mut coming = 0;
        if Self::level0_score(levels, options) >= 1.0 {
            coming = levels.bytes(0);
            debt = coming + levels.bytes(self.base);
        }
        for level in 1..LAST_LEVEL {
            let bytes = levels.bytes(level) + if level == self.base { coming } else { 0 };
            let excess = bytes.saturating_sub(self.targets[level]);
            if excess > 0 && bytes > 0 {
                let below = levels.bytes(level + 1);
                debt += excess + (below / bytes.max(1)).min(options.level_ratio) * excess;
            }
        }
        debt
    }
}

#[expect(clippy::cast_precision_loss, reason = "a score needs three digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(largest: u64) -> Shape {
        let options =
            TreeOptions { memtable_bytes: 100, level0_tables: 4, level_ratio: 10, ..TreeOptions::default() };
        Shape::with_largest(largest, &options)
    }

    #[test]
    fn a_small_tree_has_two_levels() {
        assert_eq!(shape(0).base, LAST_LEVEL);
        assert_eq!(shape(1200).base, LAST_LEVEL);
    }

    #[test]
    fn levels_appear_above_as_the_last_one_grows() {
        let shape = shape(100_000);
        assert_eq!(shape.base, LAST_LEVEL - 2);
        assert_eq!(shape.targets[LAST_LEVEL - 1], 10_000);
        assert_eq!(shape.targets[LAST_LEVEL - 2], 1000);
        assert_eq!(shape.targets[LAST_LEVEL - 3], 0);
    }
}
