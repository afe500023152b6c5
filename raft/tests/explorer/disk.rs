//! What a member keeps through a crash.

use std::cell::RefCell;
use std::rc::Rc;

use pinion_raft::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata, Storage, StorageError};
use pinion_types::{LogIndex, Term};

use crate::dice::Dice;

/// The state machine as of an index: here, only which configuration is in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
    pub(crate) conf_state: ConfState,
    /// Whether there was another member in anything up to there.
    pub(crate) had_company: bool,
}

/// A member's disk: everything in it is durable, but for a hard state that was written without a sync.
#[derive(Default)]
pub(crate) struct Disk {
    hard_state: HardState,
    /// As of the last write that was synced.
    hard_state_synced: HardState,
    /// Before the first entry.
    base: (LogIndex, Term),
    entries: Vec<Entry>,
    pub(crate) checkpoint: Checkpoint,
    /// Entries have to be fetched before they can be read.
    pub(crate) is_slow: bool,
}

impl Disk {
    /// The disk of a founding member.
    pub(crate) fn founded(checkpoint: Checkpoint) -> Self {
        let hard_state =
            HardState { term: checkpoint.term, commit: checkpoint.index, ..HardState::default() };
        Self {
            hard_state,
            hard_state_synced: hard_state,
            base: (checkpoint.index, checkpoint.term),
            checkpoint,
            ..Self::default()
        }
    }

    pub(crate) fn hard_state_synced(&self) -> HardState {
        self.hard_state_synced
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    fn place(&self, index: LogIndex) -> usize {
        usize::try_from(index.0 - self.base.0.0 - 1).unwrap()
    }

    pub(crate) fn last(&self) -> LogIndex {
        self.entries.last().map_or(self.base.0, |entry| entry.index)
    }

    /// Whether the entry of this term is durable at this index, or covered by what was compacted.
    pub(crate) fn holds(&self, index: LogIndex, term: Term) -> bool {
        index <= self.base.0 || (index <= self.last() && self.entries[self.place(index)].term == term)
    }

    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        match index {
            _ if index < self.base.0 || index > self.last() => None,
            _ if index == self.base.0 => Some(self.base.1),
            _ => Some(self.entries[self.place(index)].term),
        }
    }

    /// Writes what a node asked for, at once.
    pub(crate) fn write(
        &mut self,
        snapshot: Option<&Snapshot>,
        entries: &[Entry],
        hard_state: Option<HardState>,
        is_synced: bool,
    ) {
        if let Some(Snapshot { metadata, .. }) = snapshot
            && metadata.index > self.checkpoint.index
        {
            self.base = (metadata.index, metadata.term);
            self.entries.clear();
            self.checkpoint = Checkpoint {
                index: metadata.index,
                term: metadata.term,
                conf_state: metadata.conf_state.clone(),
                // Somebody has sent it.
                had_company: true,
            };
        }
        let base = self.base.0;
        let entries = &entries[entries.partition_point(|entry| entry.index <= base)..];
        if let Some(first) = entries.first() {
            assert!(first.index <= self.last().next(), "a write leaves a gap before {}", first.index);
            let keep = self.place(first.index);
            self.entries.truncate(keep);
            self.entries.extend_from_slice(entries);
        }
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state;
        }
        if is_synced {
            self.hard_state_synced = self.hard_state;
        }
    }

    /// What was not synced is lost. A commit index alone need not be synced, and may go back as far as it likes; true when
    /// it does.
    pub(crate) fn crash(&mut self, dice: &mut Dice) -> bool {
        self.hard_state = self.hard_state_synced;
        self.is_slow = false;
        let commit = self.hard_state.commit.0;
        if commit == 0 || dice.percent(70) {
            return false;
        }
        self.hard_state.commit = LogIndex(dice.below(commit));
        true
    }

    /// Forgets entries that the checkpoint covers.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        assert!(index <= self.checkpoint.index, "the log is compacted beyond the checkpoint");
        if let Some(term) = self.term(index)
            && index > self.base.0
        {
            let kept_from = self.place(index) + 1;
            self.entries.drain(..kept_from);
            self.base = (index, term);
        }
    }

    pub(crate) fn first(&self) -> LogIndex {
        self.base.0.next()
    }
}

/// The disk as its node reads it.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Rc<RefCell<Disk>>);

impl Storage for Shared {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        let disk = self.0.borrow();
        Ok((disk.hard_state, disk.checkpoint.conf_state.clone()))
    }

    fn entries(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        let disk = self.0.borrow();
        if low < disk.first() {
            return Err(StorageError::Compacted);
        }
        if high > disk.last().next() {
            return Err(StorageError::Unavailable);
        }
        if disk.is_slow {
            return Err(StorageError::TemporarilyUnavailable);
        }
        let mut size = 0;
        let entries = disk.entries[disk.place(low)..disk.place(high)].iter().enumerate();
        Ok(entries
            .take_while(|(place, entry)| {
                size += entry.size_bytes();
                *place == 0 || size <= bytes_max
            })
            .map(|(_, entry)| entry.clone())
            .collect())
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        let disk = self.0.borrow();
        if disk.is_slow {
            return Err(StorageError::TemporarilyUnavailable);
        }
        disk.term(index).ok_or(if index > disk.last() {
            StorageError::Unavailable
        } else {
            StorageError::Compacted
        })
    }

    fn first_index(&self) -> LogIndex {
        self.0.borrow().first()
    }

    fn last_index(&self) -> LogIndex {
        self.0.borrow().last()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let disk = self.0.borrow();
        if disk.is_slow {
            return Err(StorageError::SnapshotTemporarilyUnavailable);
        }
        let Checkpoint { index, term, conf_state, .. } = disk.checkpoint.clone();
        Ok(Snapshot { metadata: SnapshotMetadata { conf_state, index, term }, ..Snapshot::default() })
    }
}
