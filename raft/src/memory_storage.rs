//! A storage in memory, for tests, benchmarks and examples.

use std::cell::RefCell;
use std::rc::Rc;

use pinion_types::{LogIndex, Term};

use crate::storage::{Storage, limit_size};
use crate::{ConfState, Entry, HardState, Snapshot, StorageError};

/// A [`Storage`] that keeps everything in memory. Clones share the same contents, so that a test can write through one
/// handle while a node reads through the other.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    hard_state: HardState,
    snapshot: Snapshot,
    /// The position and term before `entries[0]`.
    base: (LogIndex, Term),
    entries: Vec<Entry>,
}

impl Inner {
    fn first(&self) -> LogIndex {
        self.base.0.next()
    }

    fn last(&self) -> LogIndex {
        self.entries.last().map_or(self.base.0, |entry| entry.index)
    }

    /// The place in `entries` of an index that is at least the first.
    fn place(&self, index: LogIndex) -> usize {
        usize::try_from(index.0 - self.first().0).unwrap_or(usize::MAX)
    }

    /// Removes what these entries replace. Gives how many of them are compacted, and not to be appended.
    fn make_place(&mut self, entries: &[Entry]) -> Result<usize, StorageError> {
        let first = self.first();
        let skipped = entries.partition_point(|entry| entry.index < first);
        if let Some(from) = entries.get(skipped) {
            if from.index > self.last().next() {
                return Err(StorageError::Unavailable);
            }
            let keep = self.place(from.index);
            self.entries.truncate(keep);
        }
        Ok(skipped)
    }
}

impl MemoryStorage {
    /// An empty storage: no entries, no voters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A storage for the first start of a group with these voters: index 0, term 0, configured.
    #[must_use]
    pub fn with_voters(voters: impl IntoIterator<Item = u64>) -> Self {
        let storage = Self::new();
        storage.set_conf_state(ConfState {
            voters: voters.into_iter().map(pinion_types::PeerId).collect(),
            ..ConfState::default()
        });
        storage
    }

    /// Replaces the hard state.
    pub fn set_hard_state(&self, state: HardState) {
        self.inner.borrow_mut().hard_state = state;
    }

    /// Replaces the configuration that a restart begins with.
    pub fn set_conf_state(&self, state: ConfState) {
        self.inner.borrow_mut().snapshot.metadata.conf_state = state;
    }

    /// The hard state as last set.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.inner.borrow().hard_state
    }

    /// Appends entries, replacing what is there from the first of them on. Those that are compacted are left out.
    ///
    /// [`StorageError::Unavailable`] when they would leave a gap.
    pub fn append(&self, entries: &[Entry]) -> Result<(), StorageError> {
        let mut inner = self.inner.borrow_mut();
        let skipped = inner.make_place(entries)?;
        inner.entries.extend_from_slice(&entries[skipped..]);
        Ok(())
    }

    /// The same, with the entries moved: `entries` is empty afterwards, but for an error, which changes nothing.
    pub fn append_from(&self, entries: &mut Vec<Entry>) -> Result<(), StorageError> {
        let mut inner = self.inner.borrow_mut();
        let skipped = inner.make_place(entries)?;
        entries.drain(..skipped);
        inner.entries.append(entries);
        Ok(())
    }

    /// Replaces the whole log by a snapshot.
    pub fn apply_snapshot(&self, snapshot: Snapshot) -> Result<(), StorageError> {
        let mut inner = self.inner.borrow_mut();
        if inner.snapshot.metadata.index >= snapshot.metadata.index {
            return Err(StorageError::SnapshotOutOfDate);
        }
        inner.base = (snapshot.metadata.index, snapshot.metadata.term);
        inner.entries.clear();
        inner.snapshot = snapshot;
        Ok(())
    }

    /// Makes the snapshot that [`Storage::snapshot`] gives, at an index that is in the log.
    pub fn create_snapshot(
        &self,
        index: LogIndex,
        conf_state: Option<ConfState>,
        data: bytes::Bytes,
    ) -> Result<Snapshot, StorageError> {
        let term = self.term(index)?;
        let mut inner = self.inner.borrow_mut();
        if index <= inner.snapshot.metadata.index {
            return Err(StorageError::SnapshotOutOfDate);
        }
        inner.snapshot.metadata.index = index;
        inner.snapshot.metadata.term = term;
        if let Some(conf_state) = conf_state {
            inner.snapshot.metadata.conf_state = conf_state;
        }
        inner.snapshot.data = data;
        Ok(inner.snapshot.clone())
    }

    /// Forgets the entries up to and including `index`.
    pub fn compact(&self, index: LogIndex) -> Result<(), StorageError> {
        let term = self.term(index)?;
        let mut inner = self.inner.borrow_mut();
        if index <= inner.base.0 {
            return Err(StorageError::Compacted);
        }
        let keep_from = inner.place(index) + 1;
        inner.entries.drain(..keep_from);
        inner.base = (index, term);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        let inner = self.inner.borrow();
        Ok((inner.hard_state, inner.snapshot.metadata.conf_state.clone()))
    }

    fn entries(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        let mut entries = Vec::new();
        self.entries_into(low, high, bytes_max, &mut entries)?;
        Ok(entries)
    }

    fn entries_into(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        into: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let inner = self.inner.borrow();
        if low < inner.first() {
            return Err(StorageError::Compacted);
        }
        if high > inner.last().next() || low > high {
            return Err(StorageError::Unavailable);
        }
        let from = into.len();
        into.extend_from_slice(&inner.entries[inner.place(low)..inner.place(high)]);
        limit_size(into, from, bytes_max);
        Ok(())
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        let inner = self.inner.borrow();
        if index == inner.base.0 {
            return Ok(inner.base.1);
        }
        if index < inner.base.0 {
            return Err(StorageError::Compacted);
        }
        inner.entries.get(inner.place(index)).map(|entry| entry.term).ok_or(StorageError::Unavailable)
    }

    fn first_index(&self) -> LogIndex {
        self.inner.borrow().first()
    }

    fn last_index(&self) -> LogIndex {
        self.inner.borrow().last()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.inner.borrow().snapshot.clone())
    }
}
