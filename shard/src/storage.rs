//! What Raft reads of a region's log: the engine's log, seen as `pinion_raft::Storage`.

use pinion_engine::log::Log;
use pinion_raft::{ConfState, Entry, EntryKind, HardState, Snapshot, Storage, StorageError};
use pinion_types::{LogIndex, RegionId, Term};
use std::cell::Cell;
use std::rc::Rc;

/// Entries `[low, high)` that Raft asked for and that are not in memory.
#[derive(Clone, Default)]
pub(crate) struct Wanted(Rc<Cell<Option<(LogIndex, LogIndex)>>>);

impl Wanted {
    /// What was asked for since the last call, if anything.
    pub(crate) fn take(&self) -> Option<(LogIndex, LogIndex)> {
        self.0.take()
    }
}

/// One region's part of the core's log. What is not in memory is noted in [`Wanted`]: somebody loads it and tells Raft.
pub(crate) struct PeerStorage {
    log: Log,
    region: RegionId,
    initial: (HardState, ConfState),
    wanted: Wanted,
}

impl PeerStorage {
    /// The storage of a region that starts with this state.
    pub(crate) fn new(log: Log, region: RegionId, hard_state: HardState, conf_state: ConfState) -> Self {
        Self { log, region, initial: (hard_state, conf_state), wanted: Wanted::default() }
    }

    /// Where this storage notes what it lacks.
    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }
}

impl Storage for PeerStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        Ok(self.initial.clone())
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
        if low < self.first_index() {
            return Err(StorageError::Compacted);
        }
        if high > self.last_index().next() {
            return Err(StorageError::Unavailable);
        }
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let cached = self.log.entries_cached(self.region, low, high, bytes_max);
        let Some(entries) = cached else {
            let there = self.wanted.0.get();
            let low = there.map_or(low, |(first, _)| first.min(low));
            self.wanted.0.set(Some((low, there.map_or(high, |(_, last)| last.max(high)))));
            return Err(StorageError::TemporarilyUnavailable);
        };
        into.extend(entries.into_iter().map(|entry| Entry {
            term: entry.term,
            index: entry.index,
            kind: EntryKind::Normal,
            data: entry.payload,
        }));
        Ok(())
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        match self.log.term(self.region, index) {
            Some(term) => Ok(term),
            None if index < self.first_index() => Err(StorageError::Compacted),
            None => Err(StorageError::Unavailable),
        }
    }

    fn first_index(&self) -> LogIndex {
        self.log.first_index(self.region)
    }

    fn last_index(&self) -> LogIndex {
        self.log.last_index(self.region)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Err(StorageError::SnapshotTemporarilyUnavailable)
    }
}
