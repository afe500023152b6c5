//! One node's log: the stable part in a [`Storage`], the part on its way there, and how far it is committed and applied.
//!
//! Invariants: `applied <= applying <= committed <= last`; the unstable part begins where the stable one is certain; no
//! entry at or below `committed` is ever replaced.

#[cfg(test)]
mod tests;
mod unstable;

use std::collections::VecDeque;

use bytes::Bytes;
use pinion_types::{LogIndex, Term};
use unstable::Unstable;

use crate::logger::{LogSink, say};
use crate::message::{charged_bytes, size_bytes};
use crate::{Entry, RaftError, Snapshot, Storage, StorageError};

/// A position with its term: two logs that share it share all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryId {
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
}

impl EntryId {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self { term: entry.term, index: entry.index }
    }

    /// As the context of a message: term and index, 8 bytes each, little-endian. Before the first entry there is nothing
    /// to say.
    pub(crate) fn to_context(self) -> Bytes {
        if self == Self::default() {
            return Bytes::new();
        }
        Bytes::from([self.term.0.to_le_bytes(), self.index.0.to_le_bytes()].concat())
    }

    /// From the context of a message; nothing if it holds something else.
    pub(crate) fn from_context(context: &[u8]) -> Option<Self> {
        if context.is_empty() {
            return Some(Self::default());
        }
        let (term, index) = context.split_first_chunk()?;
        let index = u64::from_le_bytes(index.try_into().ok()?);
        Some(Self { term: Term(u64::from_le_bytes(*term)), index: LogIndex(index) })
    }
}

/// A batch of entries that was handed out and not yet reported as applied.
#[derive(Debug)]
struct Batch {
    last: LogIndex,
    size_bytes: u64,
    charged_bytes: u64,
}

pub(crate) struct RaftLog<S> {
    storage: S,
    unstable: Unstable,
    /// The last entry, kept here so that asking costs nothing.
    last: EntryId,
    pub(crate) committed: LogIndex,
    /// Handed out for applying.
    pub(crate) applying: LogIndex,
    pub(crate) applied: LogIndex,
    batches: VecDeque<Batch>,
    /// The leader was charged for entries from here on.
    charged_from: LogIndex,
    applying_bytes: u64,
    applying_bytes_max: u64,
    /// Nothing more is handed out until something is applied.
    applying_paused: bool,
    /// What the storage said instead of committed entries.
    blocked: Option<StorageError>,
    logger: LogSink,
}

impl<S: Storage> RaftLog<S> {
    pub(crate) fn new(storage: S, applying_bytes_max: u64, logger: LogSink) -> Result<Self, RaftError> {
        let (first, last) = (storage.first_index(), storage.last_index());
        if last.next() < first || first == LogIndex(0) || last.0 > crate::INDEX_MAX {
            return Err(RaftError::Inconsistent {
                what: "last index",
                got: last,
                low: first.previous(),
                high: LogIndex(crate::INDEX_MAX),
            });
        }
        let term = storage.term(last)?;
        Ok(Self {
            storage,
            unstable: Unstable::new(last.next()),
            last: EntryId { term, index: last },
            committed: first.previous(),
            applying: first.previous(),
            applied: first.previous(),
            batches: VecDeque::new(),
            charged_from: LogIndex(0),
            applying_bytes: 0,
            applying_bytes_max,
            applying_paused: false,
            blocked: None,
            logger,
        })
    }

    pub(crate) fn storage(&self) -> &S {
        &self.storage
    }

    pub(crate) fn unstable(&self) -> &Unstable {
        &self.unstable
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.last.index
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        match self.unstable.snapshot() {
            Some(snapshot) => snapshot.metadata.index.next(),
            None => self.storage.first_index(),
        }
    }

    /// The term at `index`, which is known for the entry before the first, too.
    pub(crate) fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if index == self.last.index {
            return Ok(self.last.term);
        }
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        if index > self.last.index {
            return Err(StorageError::Unavailable);
        }
        if index < self.first_index().previous() {
            return Err(StorageError::Compacted);
        }
        self.storage.term(index)
    }

    /// The term at `index`, 0 where it is not known.
    pub(crate) fn term_or_zero(&self, index: LogIndex) -> Term {
        self.term(index).unwrap_or_default()
    }

    /// Whether the entry is here with this term. Where the storage can't tell, that is no no: who takes it for one may throw
    /// away what was acknowledged.
    pub(crate) fn matches(&self, id: EntryId) -> Result<bool, StorageError> {
        if id.index > self.last.index {
            return Ok(false);
        }
        Ok(self.term(id.index)? == id.term)
    }

    /// Whether a log that ends at `other` holds all that this one could have committed.
    pub(crate) fn is_up_to_date(&self, other: EntryId) -> bool {
        other.term > self.last.term || (other.term == self.last.term && other.index >= self.last.index)
    }

    /// The entries from `low` to the end, as many as fit, appended to `into`.
    pub(crate) fn entries_into(
        &self,
        low: LogIndex,
        bytes_max: u64,
        into: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        if low > self.last.index {
            return Ok(());
        }
        self.slice_into(low, self.last.index.next(), bytes_max, into)
    }

    /// The entries in `[low, high)`, as many as fit but at least one, appended to `into`.
    pub(crate) fn slice_into(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
        into: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let in_memory = self.unstable.first();
        let start = into.len();
        let mut size = 0;
        if low < in_memory {
            if low < self.first_index() {
                return Err(StorageError::Compacted);
            }
            let middle = high.min(in_memory);
            self.storage.entries_into(low, middle, bytes_max, into)?;
            let reached = into.last().map_or(low, |entry| entry.index.next());
            if reached < middle || middle == high {
                return Ok(());
            }
            size = size_bytes(&into[start..]);
        }
        self.unstable.copy_into(low.max(in_memory), high.previous(), size, bytes_max, into);
        Ok(())
    }

    /// Appends the leader's own entries, which follow the last one.
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = Entry>, last: EntryId) {
        self.unstable.truncate_and_append(self.last.index.next(), entries, &self.logger);
        self.last = last;
    }

    /// Appends one of the leader's own entries, which follows the last one.
    pub(crate) fn append_one(&mut self, entry: Entry) {
        self.last = EntryId::of(&entry);
        self.unstable.push(entry);
    }

    /// Takes a leader's entries that follow `previous`, of which everything that is here already is left as it is.
    /// Gives the last index that now agrees with the leader's, or nothing when `previous` is not here. When a term can't be
    /// read, nothing has changed.
    ///
    /// `previous` is not below the commit index, so that nothing committed can be replaced.
    pub(crate) fn maybe_append(
        &mut self,
        previous: EntryId,
        entries: &mut Vec<Entry>,
        commit: LogIndex,
    ) -> Result<Option<LogIndex>, StorageError> {
        if !self.matches(previous)? {
            return Ok(None);
        }
        let last_new = entries.last().map_or(previous.index, |entry| entry.index);
        if let Some(place) = self.first_difference(entries)? {
            let from = entries[place].index;
            assert!(from > self.committed, "an append would replace a committed entry");
            self.last = entries.last().map_or(self.last, EntryId::of);
            entries.drain(..place);
            self.unstable.truncate_and_append(from, std::mem::take(entries), &self.logger);
        }
        self.commit_to(commit.min(last_new));
        Ok(Some(last_new))
    }

    /// The first of the entries that is not here, or is here with another term.
    fn first_difference(&self, entries: &[Entry]) -> Result<Option<usize>, StorageError> {
        let mut place = 0;
        let entry = loop {
            let Some(entry) = entries.get(place) else { return Ok(None) };
            if !self.matches(EntryId::of(entry))? {
                break entry;
            }
            place += 1;
        };
        if entry.index <= self.last.index {
            say!(
                self.logger,
                Info,
                "found conflict at index {} [existing term: {}, conflicting term: {}]",
                entry.index,
                self.term_or_zero(entry.index),
                entry.term
            );
        }
        Ok(Some(place))
    }

    /// A guess at where this log agrees with one that has `term` at `index`: the greatest index up to that whose term
    /// is not greater, or is not known, which the term 0 says. Skips whole terms that can't agree.
    pub(crate) fn find_conflict_by_term(&self, index: LogIndex, term: Term) -> EntryId {
        let mut index = index;
        while index > LogIndex(0) {
            match self.term(index) {
                Ok(own) if own > term => index = index.previous(),
                Ok(own) => return EntryId { term: own, index },
                Err(_) => return EntryId { term: Term(0), index },
            }
        }
        EntryId::default()
    }

    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        if index > self.committed {
            assert!(index <= self.last.index, "commit {index} is beyond the last entry {}", self.last.index);
            self.committed = index;
        }
    }

    /// Commits up to `id` if that is new and of the term that it says; not now, if its term can't be read.
    pub(crate) fn maybe_commit(&mut self, id: EntryId) -> bool {
        if id.index > self.committed && id.term != Term(0) && self.matches(id).unwrap_or(false) {
            self.commit_to(id.index);
            return true;
        }
        false
    }

    /// The last entry that may be applied.
    fn appliable(&self, allow_unstable: bool) -> LogIndex {
        if allow_unstable { self.committed } else { self.committed.min(self.unstable.offset().previous()) }
    }

    pub(crate) fn has_next_committed(&self, allow_unstable: bool) -> bool {
        !self.applying_paused
            && self.blocked.is_none()
            && self.unstable.snapshot().is_none()
            && self.applying < self.appliable(allow_unstable)
    }

    /// Hands out committed entries for applying. When the storage can't give them, none are handed out until
    /// [`RaftLog::unblock`].
    pub(crate) fn next_committed_into(&mut self, allow_unstable: bool, into: &mut Vec<Entry>) {
        if !self.has_next_committed(allow_unstable) {
            return;
        }
        let appliable = self.appliable(allow_unstable);
        let room = self.applying_bytes_max.saturating_sub(self.applying_bytes);
        if let Err(error) = self.committed_into(appliable, room, into) {
            if error != StorageError::TemporarilyUnavailable {
                say!(self.logger, Error, "committed entries from {} on: {error}", self.applying.next());
            }
            self.blocked = Some(error);
            return;
        }
        let Some(last) = into.last().map(|entry| entry.index) else { return };
        let charged = into.partition_point(|entry| entry.index < self.charged_from);
        let charged_bytes = charged_bytes(&into[charged..]);
        let batch = Batch { last, size_bytes: size_bytes(into), charged_bytes };
        self.applying = last;
        self.applying_bytes += batch.size_bytes;
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max || last < appliable;
        self.batches.push_back(batch);
        self.unstable.release(last);
    }

    /// The entries after those that are being applied, through `last`, as many as fit but at least one. In a steady flow they are
    /// in memory and durable, and are moved, not copied.
    fn committed_into(
        &mut self,
        last: LogIndex,
        bytes_max: u64,
        into: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let low = self.applying.next();
        if self.unstable.first() != low {
            return self.slice_into(low, last.next(), bytes_max, into);
        }
        let size = self.unstable.take_durable(last, bytes_max, into);
        // What is not durable stays, and is reached only when all that is durable fitted.
        let reached = self.unstable.first();
        if reached == self.unstable.offset() && reached <= last {
            self.unstable.copy_into(reached, last, size, bytes_max, into);
        }
        Ok(())
    }

    /// What the storage said when committed entries were last asked for.
    pub(crate) fn blocked(&self) -> Option<StorageError> {
        self.blocked
    }

    pub(crate) fn unblock(&mut self) {
        self.blocked = None;
    }

    /// A leader is charged for entries from `index` on, none of which is there yet.
    pub(crate) fn charge_from(&mut self, index: LogIndex) {
        self.charged_from = index;
        self.batches.iter_mut().for_each(|batch| batch.charged_bytes = 0);
    }

    /// Everything up to `index` is applied. Gives what the batches that this completes were charged with. An index that goes
    /// back, or was never handed out, changes nothing.
    pub(crate) fn applied_to(&mut self, index: LogIndex) -> u64 {
        if index > self.committed {
            return 0;
        }
        self.applied = self.applied.max(index);
        self.applying = self.applying.max(index);
        let mut charged = 0;
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.last <= index) {
            charged += batch.charged_bytes;
            self.applying_bytes -= batch.size_bytes;
        }
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max;
        charged
    }

    pub(crate) fn stable_to(&mut self, id: EntryId) {
        self.unstable.stable_to(id, self.applying, &self.logger);
    }

    pub(crate) fn stable_snapshot_to(&mut self, index: LogIndex) {
        self.unstable.stable_snapshot_to(index);
    }

    pub(crate) fn accept_unstable(&mut self) {
        self.unstable.accept_in_progress();
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, StorageError> {
        match self.unstable.snapshot() {
            Some(snapshot) => Ok(snapshot.clone()),
            None => self.storage.snapshot(),
        }
    }

    /// Begins anew with a snapshot, which is not older than the commit index.
    pub(crate) fn restore(&mut self, snapshot: Box<Snapshot>) {
        let id = EntryId { term: snapshot.metadata.term, index: snapshot.metadata.index };
        say!(
            self.logger,
            Info,
            "log [{self}] starts to restore snapshot [index: {}, term: {}]",
            id.index,
            id.term
        );
        self.committed = id.index;
        self.last = id;
        self.unstable.restore(snapshot);
    }
}

impl<S> std::fmt::Display for RaftLog<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "committed={}, applied={}, applying={}, unstable.offset={}, unstable.offsetInProgress={}, \
             len(unstable.Entries)={}",
            self.committed,
            self.applied,
            self.applying,
            self.unstable.offset(),
            self.unstable.offset_in_progress(),
            self.unstable.len()
        )
    }
}
