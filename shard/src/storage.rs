//! What Raft reads of a region's log: the engine's log, seen as `pinion_raft::Storage`.

use crate::error::ShardError;
use pinion_engine::RegionSnapshot;
use pinion_engine::log::{Log, LogEntry};
use pinion_raft::{ConfState, Entry, EntryKind, HardState, Snapshot, Storage, StorageError};
use pinion_runtime::Instant;
use pinion_types::{LogIndex, PeerId, RegionId, Term};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Entries that Raft asked for and that are not in memory: where each piece begins, and up to where it goes. Each follower that is behind is at a
/// place of its own.
#[derive(Clone, Default)]
pub(crate) struct Wanted(Rc<RefCell<BTreeMap<LogIndex, LogIndex>>>);

impl Wanted {
    /// The piece behind the one that began at `after`, and behind the last the first again: nobody is kept waiting by who asks more often.
    pub(crate) fn next(&self, after: LogIndex) -> Option<(LogIndex, LogIndex)> {
        let wanted = self.0.borrow();
        let behind = wanted.range(after.next()..).next();
        behind.or_else(|| wanted.iter().next()).map(|(low, high)| (*low, *high))
    }

    /// Forgets what was asked for.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    fn note(&self, low: LogIndex, high: LogIndex) {
        let mut wanted = self.0.borrow_mut();
        let there = wanted.entry(low).or_insert(high);
        *there = high.max(*there);
    }
}

/// A peer that is filled with a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Receiver {
    pub(crate) peer: PeerId,
    has_all: bool,
}

/// A snapshot that was made, and the files that go with it.
pub(crate) struct Made {
    pub(crate) snapshot: Snapshot,
    pub(crate) files: Rc<RegionSnapshot>,
    /// When somebody last needed it.
    pub(crate) used: Instant,
    /// Who is sent it, or has it and has not caught up yet; nothing before it was sent to anybody.
    pub(crate) receivers: Option<Vec<Receiver>>,
}

/// A region's latest snapshot, and whether Raft waits for one.
#[derive(Clone, Default)]
pub(crate) struct Snapshots(Rc<SnapshotsInner>);

#[derive(Default)]
struct SnapshotsInner {
    made: RefCell<Option<Made>>,
    wanted: Cell<bool>,
    making: Cell<bool>,
    /// One from before this position does not know the region's members, of whom its receiver is one.
    from: Cell<LogIndex>,
}

impl Snapshots {
    /// Whether one is to be made now.
    pub(crate) fn begin(&self) -> bool {
        self.0.wanted.take() && !self.0.making.replace(true)
    }

    /// Puts a new one in the place of the old one.
    pub(crate) fn set(&self, made: Option<Made>) {
        self.0.making.set(false);
        self.0.wanted.set(false);
        *self.0.made.borrow_mut() = made;
    }

    /// The region's members have changed: a snapshot from before is of no use to the new ones.
    pub(crate) fn members_changed(&self, at: LogIndex) {
        self.0.from.set(at);
    }

    /// The files of the snapshot at `index`, if it is the latest, for one more receiver.
    pub(crate) fn files(&self, index: Option<LogIndex>, peer: PeerId) -> Option<Rc<RegionSnapshot>> {
        self.receiver_is(index, Receiver { peer, has_all: false })
    }

    /// A peer was sent the snapshot at `index`, or part of it.
    pub(crate) fn sent(&self, index: Option<LogIndex>, peer: PeerId, has_all: bool) {
        drop(self.receiver_is(index, Receiver { peer, has_all }));
    }

    fn receiver_is(&self, index: Option<LogIndex>, receiver: Receiver) -> Option<Rc<RegionSnapshot>> {
        let mut made = self.0.made.borrow_mut();
        let made = made.as_mut().filter(|made| Some(made.snapshot.metadata.index) == index)?;
        made.used = pinion_runtime::now();
        let receivers = made.receivers.get_or_insert_default();
        receivers.retain(|there| there.peer != receiver.peer);
        receivers.push(receiver);
        Some(made.files.clone())
    }

    /// Forgets receivers that have the snapshot and are not behind any more.
    pub(crate) fn forget_filled(&self, is_behind: impl Fn(PeerId) -> bool) {
        if let Some(receivers) = self.0.made.borrow_mut().as_mut().and_then(|made| made.receivers.as_mut()) {
            receivers.retain(|receiver| !receiver.has_all || is_behind(receiver.peer));
        }
    }

    /// The position of the latest snapshot, the bytes of its files, and its receivers.
    pub(crate) fn latest(&self) -> Option<(LogIndex, u64, Option<Vec<Receiver>>)> {
        let made = self.0.made.borrow();
        let made = made.as_ref()?;
        let bytes = made.files.files.iter().map(|file| file.bytes).sum();
        Some((made.snapshot.metadata.index, bytes, made.receivers.clone()))
    }

    /// Forgets the snapshot if nobody has needed it for so long.
    pub(crate) fn forget_unused(&self, kept_for: Duration) {
        // Beside this one the core's list of what it has made holds the files; whoever sends them too.
        let is_unused =
            |made: &mut Made| made.used.elapsed() >= kept_for && Rc::strong_count(&made.files) <= 2;
        drop(self.0.made.borrow_mut().take_if(is_unused));
    }
}

/// The log's byte for what an entry is.
pub(crate) fn kind_byte(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    }
}

/// An entry of the log as Raft knows it.
///
/// # Errors
/// When the entry is of a kind that this version does not know.
pub(crate) fn raft_entry(region: RegionId, entry: LogEntry) -> Result<Entry, ShardError> {
    let LogEntry { index, term, kind, payload } = entry;
    let kind = match kind {
        0 => EntryKind::Normal,
        1 => EntryKind::ConfChange,
        2 => EntryKind::ConfChangeV2,
        got => return Err(ShardError::UnknownEntryKind { region, index, got }),
    };
    Ok(Entry { term, index, kind, data: payload })
}

/// One region's part of the core's log. What is not in memory is noted in [`Wanted`]: somebody loads it and tells Raft.
pub(crate) struct PeerStorage {
    log: Log,
    region: RegionId,
    initial: (HardState, ConfState),
    wanted: Wanted,
    snapshots: Snapshots,
}

impl PeerStorage {
    /// The storage of a region that starts with this state.
    pub(crate) fn new(log: Log, region: RegionId, hard_state: HardState, conf_state: ConfState) -> Self {
        Self {
            log,
            region,
            initial: (hard_state, conf_state),
            wanted: Wanted::default(),
            snapshots: Snapshots::default(),
        }
    }

    /// Where this storage notes what it lacks.
    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }
}

impl PeerStorage {
    /// The region's snapshots.
    pub(crate) fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
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
            self.wanted.note(low, high);
            return Err(StorageError::TemporarilyUnavailable);
        };
        for entry in entries {
            // Raft's error says no more than that there is one.
            into.push(raft_entry(self.region, entry).map_err(|error| {
                log::error!("{error}");
                StorageError::Failed
            })?);
        }
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
        let made = self.snapshots.0.made.borrow();
        // One that the log does not follow on would leave a gap.
        let least = self.first_index().previous().max(self.snapshots.0.from.get());
        match made.as_ref().filter(|made| made.snapshot.metadata.index >= least) {
            Some(made) => Ok(made.snapshot.clone()),
            None => {
                self.snapshots.0.wanted.set(true);
                Err(StorageError::SnapshotTemporarilyUnavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn pieces_that_are_wanted_take_turns() {
        let wanted = Wanted::default();
        assert_eq!(wanted.next(LogIndex(0)), None);
        for (low, high) in [(7, 9), (3, 20), (7, 12), (7, 8)] {
            wanted.note(LogIndex(low), LogIndex(high));
        }
        let (first, second) = ((LogIndex(3), LogIndex(20)), (LogIndex(7), LogIndex(12)));
        for (after, piece) in [(0, first), (3, second), (5, second), (7, first), (100, first)] {
            assert_eq!(wanted.next(LogIndex(after)), Some(piece), "after {after}");
        }
        wanted.clear();
        assert_eq!(wanted.next(LogIndex(0)), None);
    }

    #[test]
    fn what_an_entry_is_comes_back_from_the_log_and_is_never_guessed() {
        let entry = |kind| LogEntry { index: LogIndex(3), term: Term(2), kind, payload: Bytes::new() };
        for kind in [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2] {
            assert_eq!(raft_entry(RegionId(1), entry(kind_byte(kind))).unwrap().kind, kind);
        }
        let unknown = raft_entry(RegionId(1), entry(3));
        assert!(matches!(unknown, Err(ShardError::UnknownEntryKind { got: 3, index: LogIndex(3), .. })));
    }
}
