//! A node's storage in a transcript: in memory, with a snapshot of every state that was ever applied.

use std::cell::RefCell;
use std::rc::Rc;

use pinion_raft::{ConfState, Entry, HardState, MemoryStorage, Snapshot, Storage, StorageError};
use pinion_types::{LogIndex, Term};

#[derive(Clone)]
pub(crate) struct NodeStorage {
    pub(crate) memory: MemoryStorage,
    /// The states of the state machine; the last is what [`Storage::snapshot`] gives.
    pub(crate) history: Rc<RefCell<Vec<Snapshot>>>,
}

impl Storage for NodeStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.memory.initial_state()
    }

    fn entries(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        self.memory.entries(low, high, bytes_max)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        self.memory.term(index)
    }

    fn first_index(&self) -> LogIndex {
        self.memory.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.memory.last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.history.borrow().last().cloned().unwrap_or_default())
    }
}
