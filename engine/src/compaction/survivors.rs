//! Which entries survive a flush or a compaction.
//!
//! Snapshots cut the sequences into stripes: what is seen by the same snapshots is one stripe, and all that is newer than the newest
//! snapshot is the last. Of a key, in each stripe the newest version survives, unless a range tombstone of that stripe deletes it. A
//! tombstone of the first stripe survives only where something older may lie below.

use crate::memtable::TombstoneSet;
use crate::table::{EntryKind, EntryRef, RangeTombstone};
use crate::tree::{CompactionFilter, Tables};
use pinion_types::ColumnFamily;
use std::ops::Range;
use std::rc::Rc;

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Drop,
    /// A tombstone takes its place.
    Delete,
}

/// A compaction filter, with the mark by which it judges.
pub(super) struct Filter {
    pub(super) filter: Rc<dyn CompactionFilter>,
    pub(super) mark: u64,
}

/// Judges entries in their order.
pub(super) struct Survivors {
    family: ColumnFamily,
    filter: Option<Filter>,
    /// Sequences of the snapshots, ascending.
    snapshots: Vec<u64>,
    tombstones: TombstoneSet,
    older: Older,
    key: Vec<u8>,
    /// The stripe of the last version of `key`.
    stripe: Option<usize>,
    /// Whether a version of `key` was kept, and whether one was before the version that was judged last.
    has_kept: bool,
    had_kept: bool,
}

impl Survivors {
    pub(super) fn new(
        family: ColumnFamily,
        filter: Option<Filter>,
        snapshots: Vec<u64>,
        tombstones: TombstoneSet,
        older: Older,
    ) -> Self {
        Self {
            family,
            filter,
            snapshots,
            tombstones,
            older,
            key: Vec::new(),
            stripe: None,
            has_kept: false,
            had_kept: false,
        }
    }

    /// What becomes of the next entry.
    #[inline]
    pub(super) fn judge(&mut self, entry: &EntryRef<'_>) -> Verdict {
        let stripe = self.stripe_of(entry.sequence);
        if self.stripe.is_some() && entry.key == self.key.as_slice() {
            if self.stripe == Some(stripe) {
                return Verdict::Drop;
            }
        } else {
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.has_kept = false;
        }
        self.stripe = Some(stripe);
        let verdict = self.judge_newest(entry, stripe);
        self.had_kept = self.has_kept;
        self.has_kept |= verdict != Verdict::Drop;
        verdict
    }

    /// Whether a version of the key that was judged last was kept, that one aside.
    pub(super) fn begins_key(&self) -> bool {
        !self.had_kept
    }

    /// What becomes of the newest version of a key in its stripe.
    #[inline]
    fn judge_newest(&mut self, entry: &EntryRef<'_>, stripe: usize) -> Verdict {
        if !self.tombstones.is_empty()
            && self.tombstones.newest_over(entry.key, self.end_of(stripe)) > entry.sequence
        {
            return Verdict::Drop;
        }
        let is_wanted = match (entry.kind, &self.filter) {
            (EntryKind::Put, Some(Filter { filter, mark })) if stripe == self.snapshots.len() => {
                filter.keep(self.family, &entry.key[1..], entry.value, *mark)
            }
            (kind, _) => kind == EntryKind::Put,
        };
        if is_wanted {
            return Verdict::Keep;
        }
        // Without a tombstone, what is older would come back.
        if stripe == 0 && !self.older.may_hold(entry.key) { Verdict::Drop } else { Verdict::Delete }
    }

    fn stripe_of(&self, sequence: u64) -> usize {
        match self.snapshots.as_slice() {
            [] => 0,
            snapshots => snapshots.partition_point(|snapshot| *snapshot < sequence),
        }
    }

    /// The last sequence of a stripe.
    fn end_of(&self, stripe: usize) -> u64 {
        self.snapshots.get(stripe).copied().unwrap_or(u64::MAX)
    }

    /// The range tombstones that survive: of each stripe the newest, and none of the first stripe where nothing older may lie below.
    pub(super) fn tombstones(&self) -> Vec<RangeTombstone> {
        let mut survivors: Vec<RangeTombstone> = Vec::new();
        for (start, end, sequences) in self.tombstones.iter() {
            let mut last = None;
            for sequence in sequences {
                let stripe = self.stripe_of(*sequence);
                if last.replace(stripe) == Some(stripe) || (stripe == 0 && !self.older.overlaps(start, end)) {
                    continue;
                }
                survivors.push(RangeTombstone {
                    start: start.to_vec(),
                    end: end.to_vec(),
                    sequence: *sequence,
                });
            }
        }
        survivors
    }
}

/// The tables that hold what is older than what is merged.
#[derive(Default)]
pub(super) struct Older {
    lists: Vec<List>,
}

/// Tables in order of their keys that do not overlap.
struct List {
    tables: Tables,
    range: Range<usize>,
    /// No table before this one reaches to the keys that are still to come.
    next: usize,
}

impl Older {
    pub(super) fn add(&mut self, tables: Tables, range: Range<usize>) {
        if !range.is_empty() {
            let next = range.start;
            self.lists.push(List { tables, range, next });
        }
    }

    /// Whether something older of `key` may be there. Keys must come in order.
    fn may_hold(&mut self, key: &[u8]) -> bool {
        self.lists.iter_mut().any(|list| {
            while list.next < list.range.end && list.tables[list.next].end.as_slice() <= key {
                list.next += 1;
            }
            list.next < list.range.end && list.tables[list.next].first.as_slice() <= key
        })
    }

    fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        self.lists.iter().any(|list| {
            let tables = &list.tables[list.range.clone()];
            let first = tables.partition_point(|table| table.end.as_slice() <= start);
            tables.get(first).is_some_and(|table| table.first.as_slice() < end)
        })
    }
}
