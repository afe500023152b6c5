//! Reading a block: where its parts are, and searching them.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use super::{
    HEAD_LEN, HEADER_LEN, Head, RESTART_INTERVAL, SLOT_LEN, TOUCHED_RECORD_LINES, WIDE_SLOT_LEN, head_of,
    touch_lines, varint,
};
use crate::table::{EntryKind, KEY_LEN_MAX};
use std::cmp::Ordering;
use std::ops::Range;

/// Up to so many heads are compared without a branch, all of them.
const LINEAR_MAX: usize = 64;

/// A place among a table's entries: key ascending, then sequence descending.
#[derive(Clone, Copy)]
pub(in crate::table) struct Target<'a> {
    /// The tree key.
    pub(in crate::table) key: &'a [u8],
    /// Versions with a higher sequence stand before the place.
    pub(in crate::table) sequence: u64,
}

/// Where a block's parts are. Cheap to make from the header; made once by iterators.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::table) struct Layout {
    entries: usize,
    heads_at: usize,
    slots_at: usize,
    records_at: usize,
    wide: bool,
    width: usize,
    mask: u64,
    base: u64,
}

/// One record, taken apart.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::table) struct Record<'a> {
    suffix_len: usize,
    shared: usize,
    packed: u64,
    tail: &'a [u8],
    /// The value.
    pub(in crate::table) value: &'a [u8],
}

impl Record<'_> {
    /// Value or tombstone.
    #[inline]
    pub(in crate::table) fn kind(&self) -> EntryKind {
        if self.packed & 1 == 0 { EntryKind::Put } else { EntryKind::Delete }
    }
}

impl Layout {
    /// Where the parts are by the header of a block; `None` when they don't fit in it.
    #[inline]
    pub(in crate::table) fn read(bytes: &[u8]) -> Option<Self> {
        let header = u128::from_le_bytes(*bytes.first_chunk::<HEADER_LEN>()?);
        let low = low_half(header);
        let entries = usize::from(low_quarter(low));
        let prefix_len = usize::from(low_quarter(low >> 16));
        let width = usize::from(low_quarter(low >> 32) & 0xff);
        let slot_len = usize::from(low_quarter(low >> 40));
        let heads_at = HEADER_LEN + prefix_len;
        let slots_at = heads_at + HEAD_LEN * entries;
        let records_at = slots_at + slot_len * entries;
        let wide = slot_len == WIDE_SLOT_LEN;
        if entries == 0 || width > 8 || !(wide || slot_len == SLOT_LEN) || records_at > bytes.len() {
            return None;
        }
        let mask = u64::MAX.checked_shr(64 - 8 * u32::try_from(width).ok()?).unwrap_or(0);
        let base = low_half(header >> 64);
        Some(Self { entries, heads_at, slots_at, records_at, wide, width, mask, base })
    }

    /// Checks a block from disk, every record of it, and says what is wrong with it.
    pub(in crate::table) fn of(bytes: &[u8]) -> Result<Self, &'static str> {
        let layout = Self::read(bytes).ok_or("a block's header does not fit its length")?;
        let mut previous = 0;
        for index in 0..layout.entries {
            let start = layout.slot(bytes, index);
            if (index == 0) != (start == 0) || start < previous {
                return Err("a block's records do not follow each other");
            }
            previous = start;
            let record = layout.try_record(bytes, index).ok_or("a block's record does not fit its length")?;
            let restart = layout.record(bytes, restart_of(index));
            let key_len = layout.prefix_len() + record.suffix_len;
            let shares_too_much = record.shared > restart.tail.len()
                || (record.shared > 0 && layout.head(bytes, index) != layout.head(bytes, restart_of(index)));
            if key_len > KEY_LEN_MAX || shares_too_much || (restart_of(index) == index && record.shared > 0) {
                return Err("a block's record has a key that cannot be");
            }
            if index > 0 && layout.head(bytes, index) < layout.head(bytes, index - 1) {
                return Err("a block's keys are out of order");
            }
        }
        Ok(layout)
    }

    /// How many entries there are.
    #[inline]
    pub(in crate::table) fn len(&self) -> usize {
        self.entries
    }

    fn prefix_len(&self) -> usize {
        self.heads_at - HEADER_LEN
    }

    /// What all keys begin with.
    #[inline]
    pub(in crate::table) fn prefix<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(HEADER_LEN..self.heads_at).unwrap_or_default()
    }

    /// The keys' first bytes after the prefix, in order.
    #[inline]
    pub(in crate::table) fn heads<'a>(&self, bytes: &'a [u8]) -> &'a [Head] {
        bytes.get(self.heads_at..self.slots_at).unwrap_or_default().as_chunks().0
    }

    #[inline]
    fn head(&self, bytes: &[u8], index: usize) -> u64 {
        self.heads(bytes).get(index).map_or(0, |head| u64::from_le_bytes(*head))
    }

    #[inline]
    fn slot(&self, bytes: &[u8], index: usize) -> usize {
        let slots = bytes.get(self.slots_at..self.records_at).unwrap_or_default();
        let start = if self.wide {
            slots.as_chunks().0.get(index).map(|slot| u32::from_le_bytes(*slot) as usize)
        } else {
            slots.as_chunks().0.get(index).map(|slot| usize::from(u16::from_le_bytes(*slot)))
        };
        start.unwrap_or(bytes.len() - self.records_at)
    }

    /// Where a record is in the block.
    #[inline]
    fn record_range(&self, bytes: &[u8], index: usize) -> Range<usize> {
        self.records_at + self.slot(bytes, index)..self.records_at + self.slot(bytes, index + 1)
    }

    #[inline]
    fn try_record<'a>(&self, bytes: &'a [u8], index: usize) -> Option<Record<'a>> {
        let record = bytes.get(self.record_range(bytes, index))?;
        let (lens, rest) = varint::read(record)?;
        let (shared, rest) = if lens & 1 == 0 { (0, rest) } else { varint::read(rest)? };
        let suffix_len = lens >> 1;
        let own = suffix_len.saturating_sub(HEAD_LEN).checked_sub(shared)?;
        let packed = match rest.first_chunk::<8>() {
            Some(wide) => u64::from_le_bytes(*wide) & self.mask,
            None => little_endian(rest.get(..self.width)?),
        };
        let (tail, value) = rest.get(self.width..)?.split_at_checked(own)?;
        Some(Record { suffix_len, shared, packed, tail, value })
    }

    /// The record at `index`, which is below `len()`.
    #[inline]
    pub(in crate::table) fn record<'a>(&self, bytes: &'a [u8], index: usize) -> Record<'a> {
        self.try_record(bytes, index).unwrap_or_default()
    }

    /// A record's sequence.
    #[inline]
    pub(in crate::table) fn sequence(&self, record: &Record<'_>) -> u64 {
        self.base.wrapping_add(record.packed >> 1)
    }

    /// Where the value of the record at `index` is in the block.
    #[inline]
    pub(in crate::table) fn value_range(
        &self,
        bytes: &[u8],
        index: usize,
        record: &Record<'_>,
    ) -> Range<usize> {
        let end = self.record_range(bytes, index).end;
        end - record.value.len()..end
    }

    /// Makes `key` the key at `index`. `within` says that `key` holds another key of this block.
    #[inline]
    pub(in crate::table) fn key_into(
        &self,
        bytes: &[u8],
        index: usize,
        record: &Record<'_>,
        within: bool,
        key: &mut Vec<u8>,
    ) {
        if within {
            key.truncate(self.prefix_len());
        } else {
            key.clear();
            key.extend_from_slice(self.prefix(bytes));
        }
        key.extend_from_slice(&self.head(bytes, index).to_be_bytes());
        if record.suffix_len <= HEAD_LEN {
            key.truncate(self.prefix_len() + record.suffix_len);
            return;
        }
        if record.shared > 0 {
            let restart = self.record(bytes, restart_of(index));
            key.extend_from_slice(restart.tail.get(..record.shared).unwrap_or_default());
        }
        key.extend_from_slice(record.tail);
    }

    /// The index of the first entry at or after `target`; `len()` when all stand before it. `true` when the key is the same.
    #[inline]
    pub(in crate::table) fn search(&self, bytes: &[u8], target: Target<'_>) -> (usize, bool) {
        let prefix = self.prefix(bytes);
        let Some(suffix) = target.key.strip_prefix(prefix) else {
            return (if target.key < prefix { 0 } else { self.entries }, false);
        };
        let head = head_of(suffix);
        let heads = self.heads(bytes);
        let first = count_less(heads, head);
        touch_lines::<TOUCHED_RECORD_LINES>(bytes, self.records_at + self.slot(bytes, first));
        if self.head(bytes, first) != head || first == self.entries {
            return (first, false);
        }
        self.search_tails(bytes, first, head, suffix, target.sequence)
    }

    /// The rest of the search among the entries that have the head in common, the first of which is `first`.
    pub(in crate::table) fn search_tails(
        &self,
        bytes: &[u8],
        first: usize,
        head: u64,
        suffix: &[u8],
        sequence: u64,
    ) -> (usize, bool) {
        let same = self.heads(bytes).get(first..).unwrap_or_default();
        let (mut low, mut high) =
            (first, first + same.partition_point(|other| u64::from_le_bytes(*other) == head));
        let mut found = false;
        while low < high {
            let middle = low.midpoint(high);
            let record = self.record(bytes, middle);
            let by_key = self.compare_suffix(bytes, middle, &record, suffix);
            let order = by_key.then_with(|| sequence.cmp(&self.sequence(&record)));
            if order == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
                found = by_key == Ordering::Equal;
            }
        }
        (low, found)
    }

    /// Compares the key of a record with one that has its prefix and head.
    #[inline]
    fn compare_suffix(&self, bytes: &[u8], index: usize, record: &Record<'_>, suffix: &[u8]) -> Ordering {
        if record.suffix_len <= HEAD_LEN || suffix.len() <= HEAD_LEN {
            // The heads are the same, so the shorter key is the other one's beginning: what follows there are zeros.
            return record.suffix_len.cmp(&suffix.len());
        }
        let mut rest = suffix.get(HEAD_LEN..).unwrap_or_default();
        if record.shared > 0 {
            let restart = self.record(bytes, restart_of(index));
            let shared = restart.tail.get(..record.shared).unwrap_or_default();
            let (start, end) = rest.split_at_checked(record.shared).unwrap_or((rest, &[]));
            match shared.cmp(start) {
                Ordering::Equal => rest = end,
                unequal => return unequal,
            }
        }
        record.tail.cmp(rest)
    }
}

fn restart_of(index: usize) -> usize {
    index - index % RESTART_INTERVAL
}

/// How many of the ascending heads are less than `head`. No branch depends on what a head is.
#[inline]
pub(in crate::table) fn count_less(heads: &[Head], head: u64) -> usize {
    let less = |other: &Head| u64::from_le_bytes(*other) < head;
    let mut rest = heads;
    let mut before = 0;
    while rest.len() > LINEAR_MAX {
        let half = rest.len() / 2;
        let Some((low, high)) = rest.split_at_checked(half) else { break };
        let skip = low.last().is_some_and(less);
        before += if skip { half } else { 0 };
        rest = if skip { high } else { low };
    }
    before + rest.iter().map(|other| usize::from(less(other))).sum::<usize>()
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
#[inline]
fn low_half(wide: u128) -> u64 {
    wide as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the low quarter is what is wanted")]
#[inline]
fn low_quarter(wide: u64) -> u16 {
    wide as u16
}
