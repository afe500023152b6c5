//! Range tombstones, cut into fragments that do not overlap.
//!
//! Each fragment has the sequences of all tombstones over it, the newest first, so that the newest that a reader may see is found
//! by one search for the fragment and one for the sequence. Adding a tombstone cuts the fragments at its ends; in the worst case
//! (all nested) there are twice as many fragments as tombstones, each with the sequences of all.

use std::collections::BTreeMap;
use std::ops::Bound;

/// What a map's entry costs beside its own bytes, about.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Fragments of range tombstones by their start.
#[derive(Clone, Debug, Default)]
pub(crate) struct TombstoneSet {
    fragments: BTreeMap<Vec<u8>, Fragment>,
    allocated: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fragment {
    end: Vec<u8>,
    /// The newest first.
    sequences: Vec<u64>,
}

impl TombstoneSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// Bytes taken from the allocator, about: the map's own nodes are estimated.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.allocated
    }

    /// Adds a tombstone; one without keys is nothing.
    pub(crate) fn add(&mut self, start: &[u8], end: &[u8], sequence: u64) {
        if start >= end {
            return;
        }
        self.cut(start);
        self.cut(end);
        let mut gaps = Vec::new();
        let mut at = start.to_vec();
        for (fragment_start, fragment) in
            self.fragments.range_mut::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
        {
            if at < *fragment_start {
                gaps.push((std::mem::take(&mut at), fragment_start.clone()));
            }
            let place = fragment.sequences.partition_point(|other| *other > sequence);
            if fragment.sequences.get(place) != Some(&sequence) {
                let capacity = fragment.sequences.capacity();
                fragment.sequences.insert(place, sequence);
                self.allocated += (fragment.sequences.capacity() - capacity) * size_of::<u64>();
            }
            at.clone_from(&fragment.end);
        }
        if at.as_slice() < end {
            gaps.push((at, end.to_vec()));
        }
        for (start, end) in gaps {
            self.insert(start, Fragment { end, sequences: vec![sequence] });
        }
    }

    /// Makes `key` a border between fragments when it lies within one.
    fn cut(&mut self, key: &[u8]) {
        let Some((_, fragment)) =
            self.fragments.range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(key))).next_back()
        else {
            return;
        };
        if fragment.end.as_slice() > key {
            let right = Fragment { end: fragment.end.clone(), sequences: fragment.sequences.clone() };
            fragment.end = key.to_vec();
            self.insert(key.to_vec(), right);
        }
    }

    fn insert(&mut self, start: Vec<u8>, fragment: Fragment) {
        self.allocated += size_of::<(Vec<u8>, Fragment)>()
            + ENTRY_OVERHEAD_BYTES
            + start.capacity()
            + fragment.end.capacity()
            + fragment.sequences.capacity() * size_of::<u64>();
        let replaced = self.fragments.insert(start, fragment);
        assert!(replaced.is_none(), "fragments do not overlap");
    }

    /// The newest tombstone over `key` that is visible at `at`; 0 for none.
    pub(crate) fn newest_over(&self, key: &[u8], at: u64) -> u64 {
        self.covering(key, at).0
    }

    /// The same, and how far that holds: `(sequence, start, end)`, `start` and `end` being borders of a fragment or of a gap between
    /// fragments, `None` where there is none.
    pub(crate) fn covering(&self, key: &[u8], at: u64) -> (u64, Option<&[u8]>, Option<&[u8]>) {
        let mut before = self.fragments.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        match before.next_back() {
            Some((start, fragment)) if key < fragment.end.as_slice() => {
                let visible = fragment.sequences.partition_point(|sequence| *sequence > at);
                let sequence = fragment.sequences.get(visible).copied().unwrap_or(0);
                (sequence, Some(start), Some(&fragment.end))
            }
            before => {
                let start = before.map(|(_, fragment)| fragment.end.as_slice());
                let mut after = self.fragments.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
                (0, start, after.next().map(|(start, _)| start.as_slice()))
            }
        }
    }

    /// Adds to `into` what overlaps `[start, end)` and is visible at `at`, clipped to that range.
    pub(crate) fn collect(&self, start: &[u8], end: &[u8], at: u64, into: &mut Self) {
        for (fragment_start, fragment) in self.overlapping(start, end) {
            let (start, end) = (fragment_start.max(start), fragment.end.as_slice().min(end));
            for sequence in fragment.sequences.iter().filter(|sequence| **sequence <= at) {
                into.add(start, end, *sequence);
            }
        }
    }

    fn overlapping<'a>(
        &'a self,
        start: &'a [u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a Fragment)> {
        let first = self
            .fragments
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(start)))
            .next_back()
            .filter(|(_, fragment)| fragment.end.as_slice() > start)
            .map_or(start, |(start, _)| start.as_slice());
        let end = if start < end { end } else { first };
        self.fragments
            .range::<[u8], _>((Bound::Included(first), Bound::Excluded(end)))
            .map(|(start, fragment)| (start.as_slice(), fragment))
    }

    /// Fragments with their sequences, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], &[u64])> {
        self.fragments.iter().map(|(start, fragment)| {
            (start.as_slice(), fragment.end.as_slice(), fragment.sequences.as_slice())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each key of `a..=z` and each moment, what a list of tombstones says.
    fn check(tombstones: &[(&[u8], &[u8], u64)]) {
        let mut set = TombstoneSet::default();
        for (start, end, sequence) in tombstones {
            set.add(start, end, *sequence);
        }
        for key in (b'a'..=b'z').map(|byte| [byte]) {
            for at in 0..=10 {
                let expected = tombstones
                    .iter()
                    .filter(|(start, end, sequence)| *start <= &key[..] && &key[..] < *end && *sequence <= at)
                    .map(|(_, _, sequence)| *sequence)
                    .max();
                let (got, start, end) = set.covering(&key, at);
                assert_eq!(got, expected.unwrap_or(0), "key {key:?} at {at}");
                assert!(start.is_none_or(|start| start <= &key[..]) && end.is_none_or(|end| &key[..] < end));
            }
        }
        let fragments: Vec<_> = set.iter().collect();
        assert!(fragments.iter().all(|(start, end, _)| start < end));
        assert!(fragments.windows(2).all(|pair| pair[0].1 <= pair[1].0), "fragments do not overlap");
    }

    #[test]
    fn the_newest_visible_tombstone_is_found_whatever_the_nesting() {
        check(&[]);
        check(&[(b"c", b"f", 3)]);
        check(&[(b"c", b"f", 3), (b"f", b"h", 4), (b"a", b"z", 5), (b"d", b"e", 6)]);
        check(&[(b"a", b"z", 1), (b"b", b"y", 2), (b"c", b"x", 3), (b"b", b"y", 4)]);
        check(&[(b"d", b"e", 6), (b"a", b"z", 5), (b"f", b"h", 4), (b"c", b"f", 3)]);
        check(&[(b"m", b"m", 1), (b"n", b"a", 2)]);
    }

    #[test]
    fn collecting_clips_to_the_range_and_the_moment() {
        let mut set = TombstoneSet::default();
        set.add(b"b", b"m", 1);
        set.add(b"d", b"f", 5);
        let mut into = TombstoneSet::default();
        set.collect(b"c", b"e", 4, &mut into);
        let fragments: Vec<_> = into.iter().collect();
        assert_eq!(fragments, [(&b"c"[..], &b"d"[..], &[1][..]), (&b"d"[..], &b"e"[..], &[1][..])]);
        for (start, end) in [(b"m", b"z"), (b"a", b"b"), (b"z", b"a"), (b"d", b"d")] {
            let mut into = TombstoneSet::default();
            set.collect(start, end, 9, &mut into);
            assert!(into.is_empty(), "nothing overlaps {start:?}..{end:?}");
        }
    }
}
