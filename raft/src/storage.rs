//! What the core reads back of what it asked to be written.

use pinion_types::{LogIndex, Term};

use crate::{ConfState, Entry, HardState, Snapshot, StorageError};

/// The stable part of one node's log. It is read by the core and written by the driver, with what a [`crate::Ready`]
/// says; nothing here blocks.
///
/// The contract: between [`Storage::first_index`] and [`Storage::last_index`] every entry is there, the term of the
/// entry before the first is known too, and no entry above the applied index is ever compacted.
pub trait Storage {
    /// What was last persisted of the hard state, and the configuration as of the applied index. Asked once, at the
    /// start.
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError>;

    /// The entries in `[low, high)`, as many from the front as fit into `bytes_max`, but always at least one. Sizes are
    /// [`Entry::size_bytes`].
    ///
    /// [`StorageError::Compacted`] when `low` is no longer there, [`StorageError::Unavailable`] when `high` is beyond
    /// the end, [`StorageError::TemporarilyUnavailable`] when they have to be fetched.
    fn entries(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, StorageError>;

    /// As [`Storage::entries`], appended to `into`, which is left as it was on an error. A storage that implements it
    /// directly saves the core an allocation for each read.
    fn entries_into(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        into: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        into.append(&mut self.entries(low, high, bytes_max)?);
        Ok(())
    }

    /// The term of the entry at `index`, which lies in `[first_index - 1, last_index]`.
    ///
    /// Best always at hand: with [`StorageError::TemporarilyUnavailable`] messages are dropped that need it.
    fn term(&self, index: LogIndex) -> Result<Term, StorageError>;

    /// The position of the first entry that is there; one above the last index when there is none.
    fn first_index(&self) -> LogIndex;

    /// The position of the last entry; that of the snapshot below the log when there is none.
    fn last_index(&self) -> LogIndex;

    /// The latest snapshot, to be sent to a follower, or [`StorageError::SnapshotTemporarilyUnavailable`] while one is
    /// being made. Its index must be at least that of the entry before the first.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;
}

/// Keeps of `entries[from..]` the longest front that fits into `bytes_max`, but at least one entry.
pub(crate) fn limit_size(entries: &mut Vec<Entry>, from: usize, bytes_max: u64) {
    let mut size = 0;
    for (position, entry) in entries.iter().enumerate().skip(from) {
        size += entry.size_bytes();
        if size > bytes_max && position > from {
            entries.truncate(position);
            return;
        }
    }
}
