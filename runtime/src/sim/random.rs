//! Seeded random numbers (SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random numbers. Each purpose has its own, so that a fault more on the disk does not deal the network other cards.
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        Self(Cell::new(mix(seed ^ mix(purpose.wrapping_mul(GOLDEN)))))
    }

    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(GOLDEN);
        self.0.set(state);
        mix(state)
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).expect("less than the bound")
    }

    /// An index into something of `len` elements, which is not empty.
    pub(super) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("less than a length")
    }

    pub(super) fn percent(&self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// Nanoseconds within `range`; its start when it is empty.
    pub(super) fn nanos(&self, range: &Range<Duration>) -> u64 {
        let (start, end) = (nanos(range.start), nanos(range.end));
        if start >= end { start } else { start + self.below(end - start) }
    }
}

/// A duration in nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Scatters a number over 64 bits.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
