//! The entries and the snapshot that are not known to be durable here, and the latest of those that are.
//!
//! The queue holds the log from `first` on without a gap. What is below `offset` is durable and stays only until it was
//! handed out for applying, so that a steady flow never reads back from storage what it has just written; it is bounded
//! by [`KEPT_BYTES_MAX`]. Everything from `offset` on is logically unstable, and from `offset_in_progress` on its write
//! has not begun.
//!
//! Invariants: `first <= offset <= offset_in_progress <= first + entries.len()`; the entry at place `i` has the index
//! `first + i`; nothing below `first` that is in the queue can have been compacted, since it is not applied.

use std::collections::VecDeque;

use pinion_types::{LogIndex, Term};

use super::EntryId;
use crate::logger::{LogSink, say};
use crate::{Entry, Snapshot};

/// Bytes of durable entries that are kept for applying.
const KEPT_BYTES_MAX: u64 = 1 << 20;
/// Room for entries that an empty queue keeps.
const CAPACITY_KEPT: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Unstable {
    entries: VecDeque<Entry>,
    first: LogIndex,
    offset: LogIndex,
    offset_in_progress: LogIndex,
    /// Bytes of the entries below `offset`.
    kept_bytes: u64,
    snapshot: Option<Box<Snapshot>>,
    snapshot_in_progress: bool,
}

/// The distance between two indexes of entries in memory.
fn distance(from: LogIndex, to: LogIndex) -> usize {
    usize::try_from(to.0 - from.0).unwrap_or(usize::MAX)
}

/// How many of the entries fit, and the bytes with them, when there are `size` bytes before; the first of a batch always fits.
fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>, mut size: u64, bytes_max: u64) -> (usize, u64) {
    let mut count = 0;
    for entry in entries {
        if size > 0 && size + entry.size_bytes() > bytes_max {
            break;
        }
        size += entry.size_bytes();
        count += 1;
    }
    (count, size)
}

impl Unstable {
    /// Nothing is unstable, and the log goes on at `offset`.
    pub(crate) fn new(offset: LogIndex) -> Self {
        Self { first: offset, offset, offset_in_progress: offset, ..Self::default() }
    }

    /// The index after the last entry.
    fn end(&self) -> LogIndex {
        LogIndex(self.first.0 + u64::try_from(self.entries.len()).unwrap_or(0))
    }

    /// From here on entries are in memory.
    pub(crate) fn first(&self) -> LogIndex {
        self.first
    }

    /// From here on entries are not known to be durable.
    pub(crate) fn offset(&self) -> LogIndex {
        self.offset
    }

    pub(crate) fn offset_in_progress(&self) -> LogIndex {
        self.offset_in_progress
    }

    /// How many entries are not known to be durable.
    pub(crate) fn len(&self) -> usize {
        distance(self.offset, self.end())
    }

    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
    }

    /// The snapshot, if its write has not begun.
    pub(crate) fn next_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot().filter(|_| !self.snapshot_in_progress)
    }

    /// The term at `index`, if it is in memory.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index < self.first {
            return self
                .snapshot()
                .filter(|snapshot| snapshot.metadata.index == index)
                .map(|snapshot| snapshot.metadata.term);
        }
        self.entries.get(distance(self.first, index)).map(|entry| entry.term)
    }

    /// The entries in `[low, high)`, all of which are in memory.
    pub(crate) fn range(&self, low: LogIndex, high: LogIndex) -> impl Iterator<Item = &Entry> {
        self.entries.range(distance(self.first, low)..distance(self.first, high))
    }

    /// Copies the entries from `low` through `last`, all of which are in memory, while their bytes with the `size` of those before
    /// them stay within `bytes_max`; the first of a batch always fits. Gives the bytes until here.
    pub(crate) fn copy_into(
        &self,
        low: LogIndex,
        last: LogIndex,
        size: u64,
        bytes_max: u64,
        into: &mut Vec<Entry>,
    ) -> u64 {
        let (count, size) = fitting(self.range(low, last.next()), size, bytes_max);
        if into.capacity() == 0 {
            // A message's own vector, which does not grow.
            into.reserve_exact(count);
        }
        into.extend(self.range(low, last.next()).take(count).cloned());
        size
    }

    /// Moves out the durable entries through `last`, in which the queue begins, as many as fit into `bytes_max` but at least one.
    /// They are handed out for applying, so nothing needs them here any more. Gives their bytes.
    pub(crate) fn take_durable(&mut self, last: LogIndex, bytes_max: u64, into: &mut Vec<Entry>) -> u64 {
        let most = distance(self.first, last.next().min(self.offset));
        let (count, size) = fitting(self.entries.range(..most), 0, bytes_max);
        into.reserve(count);
        for _ in 0..count {
            into.extend(self.entries.pop_front());
        }
        self.first.0 += u64::try_from(count).unwrap_or(0);
        self.kept_bytes -= size;
        self.shrink();
        size
    }

    pub(crate) fn has_next_entries(&self) -> bool {
        self.offset_in_progress < self.end()
    }

    /// Copies the entries whose write has not begun.
    pub(crate) fn next_entries_into(&self, into: &mut Vec<Entry>) {
        into.extend(self.range(self.offset_in_progress, self.end()).cloned());
    }

    /// The write of everything begins.
    pub(crate) fn accept_in_progress(&mut self) {
        self.offset_in_progress = self.end();
        self.snapshot_in_progress = self.snapshot.is_some();
    }

    /// Everything up to `id` is durable, and no write in progress can replace it.
    pub(crate) fn stable_to(&mut self, id: EntryId, applying: LogIndex, logger: &LogSink) {
        if id.index < self.offset || id.index >= self.end() {
            if self.snapshot().is_some_and(|snapshot| snapshot.metadata.index == id.index) {
                say!(logger, Info, "entry at index {} matched unstable snapshot; ignoring", id.index);
            } else {
                say!(logger, Info, "entry at index {} missing from unstable log; ignoring", id.index);
            }
            return;
        }
        let term = self.entries[distance(self.first, id.index)].term;
        if term != id.term {
            say!(
                logger,
                Info,
                "entry at (index,term)=({},{}) mismatched with entry at ({},{term}) in unstable log; ignoring",
                id.index,
                id.term,
                id.index
            );
            return;
        }
        let durable = self.range(self.offset, id.index.next()).map(Entry::size_bytes).sum::<u64>();
        self.kept_bytes += durable;
        self.offset = id.index.next();
        self.offset_in_progress = self.offset_in_progress.max(self.offset);
        self.release(applying);
    }

    /// Everything up to `applying` was handed out for applying: what of it is durable need not stay.
    pub(crate) fn release(&mut self, applying: LogIndex) {
        while self.first < self.offset && (self.first <= applying || self.kept_bytes > KEPT_BYTES_MAX) {
            let Some(entry) = self.entries.pop_front() else { break };
            self.kept_bytes -= entry.size_bytes();
            self.first = self.first.next();
        }
        self.shrink();
    }

    /// Gives back the memory of a burst.
    fn shrink(&mut self) {
        let capacity = self.entries.capacity();
        if capacity > CAPACITY_KEPT && self.entries.len() < capacity / 8 {
            self.entries.shrink_to(CAPACITY_KEPT.max(2 * self.entries.len()));
        }
    }

    /// The snapshot at `index` is durable and applied.
    pub(crate) fn stable_snapshot_to(&mut self, index: LogIndex) {
        if self.snapshot().is_some_and(|snapshot| snapshot.metadata.index == index) {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    /// Begins anew with a snapshot.
    pub(crate) fn restore(&mut self, snapshot: Box<Snapshot>) {
        let offset = snapshot.metadata.index.next();
        *self = Self { snapshot: Some(snapshot), ..Self::new(offset) };
    }

    /// Appends the entry after the last one.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert!(entry.index == self.end(), "an entry would leave a gap");
        self.entries.push_back(entry);
    }

    /// Appends entries that begin at `from`, in place of all that is there from that index on.
    pub(crate) fn truncate_and_append(
        &mut self,
        from: LogIndex,
        entries: impl IntoIterator<Item = Entry>,
        logger: &LogSink,
    ) {
        if from != self.end() {
            self.truncate(from, logger);
        }
        self.entries.extend(entries);
    }

    fn truncate(&mut self, from: LogIndex, logger: &LogSink) {
        if from <= self.offset {
            say!(logger, Info, "replace the unstable entries from index {from}");
            // Storage holds entries that these replace: they are unstable from here on.
            self.offset = from;
        } else {
            say!(logger, Info, "truncate the unstable entries before index {from}");
        }
        self.offset_in_progress = self.offset_in_progress.min(from);
        if from < self.first {
            self.entries.clear();
            self.first = from;
        } else {
            self.entries.truncate(distance(self.first, from));
        }
        self.kept_bytes = self.range(self.first, self.offset.min(from)).map(Entry::size_bytes).sum();
    }

    /// Room that is held, in entries.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }
}
