//! Memtables: a tree's newest writes, in memory, in order.
//!
//! A memtable is written to until it is rotated, and read until it is flushed and its last reader is gone. Each column family has an
//! order of its own ([`index`]), over one arena. Range tombstones stand apart, fragmented ([`TombstoneSet`]); lookups consult them
//! only when there are any.
//!
//! Invariants:
//! - sequences only grow: an entry that is written is newer than all that are there;
//! - entries are never removed and never move, so that an iterator's place survives writes: it remembers its entry, and finds its
//!   place in the order again when the leaf has changed;
//! - `allocated_bytes` is what was taken from the allocator.
//!
//! Cost with 500,000 entries of 120 bytes in random order: see docs/performance.md; an insert touches no other entry unless key
//! prefixes tie, a lookup one.

mod arena;
mod index;
mod iterator;
mod tombstones;

pub(crate) use self::iterator::MemtableIterator;
pub(crate) use self::tombstones::TombstoneSet;

use self::arena::Arena;
use self::index::Index;
use crate::batch::{BatchView, Operation};
use crate::table::{EntryKind, EntryRef, Found, Value};
use pinion_types::{ColumnFamily, LogIndex, Term};
use std::cell::{Cell, RefCell};

/// Bytes of a memtable at most, whatever the options say.
pub(crate) const MEMTABLE_BYTES_MAX: usize = arena::ARENA_BYTES_MAX / 2;

/// A tree's newest writes.
pub(crate) struct Memtable {
    content: RefCell<Content>,
    /// The last Raft entry whose writes are here, and the sequence of its last write.
    applied: Cell<(LogIndex, Term)>,
    last_sequence: Cell<u64>,
}

#[derive(Default)]
struct Content {
    arena: Arena,
    families: [Family; ColumnFamily::ALL.len()],
    /// The tree key of the operation at hand.
    key: Vec<u8>,
    end: Vec<u8>,
}

#[derive(Default)]
struct Family {
    index: Index,
    tombstones: TombstoneSet,
}

impl Memtable {
    /// A memtable without entries. `applied` and `last_sequence` are those of the tree so far.
    pub(crate) fn new(applied: (LogIndex, Term), last_sequence: u64) -> Self {
        Self {
            content: RefCell::default(),
            applied: Cell::new(applied),
            last_sequence: Cell::new(last_sequence),
        }
    }

    /// Takes in a batch; its operations get the sequences after the last one.
    pub(crate) fn write(&self, batch: BatchView<'_>, applied: (LogIndex, Term)) {
        let mut content = self.content.borrow_mut();
        let mut sequence = self.last_sequence.get();
        for operation in &batch {
            sequence += 1;
            content.apply(operation, sequence);
        }
        self.last_sequence.set(sequence);
        self.applied.set(applied);
    }

    /// The last Raft entry whose writes are here.
    pub(crate) fn applied(&self) -> (LogIndex, Term) {
        self.applied.get()
    }

    /// The sequence of the last write, here or before.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence.get()
    }

    /// Whether nothing was written, an applied entry without writes aside.
    pub(crate) fn is_empty(&self) -> bool {
        let content = self.content.borrow();
        content.families.iter().all(|family| family.index.is_empty() && family.tombstones.is_empty())
    }

    /// Bytes taken from the allocator.
    pub(crate) fn allocated_bytes(&self) -> usize {
        let content = self.content.borrow();
        let families = content.families.iter();
        content.arena.allocated_bytes()
            + families
                .map(|family| family.index.allocated_bytes() + family.tombstones.allocated_bytes())
                .sum::<usize>()
    }

    /// The newest version of a tree key at `at`, and the newest range tombstone over it at `at` (0 for none).
    pub(crate) fn get(&self, family: ColumnFamily, key: &[u8], at: u64) -> (Option<Found>, u64) {
        let content = self.content.borrow();
        let family = &content.families[place_of(family)];
        let covered = if family.tombstones.is_empty() { 0 } else { family.tombstones.newest_over(key, at) };
        let found = family.index.seek(&content.arena, key, at).and_then(|place| {
            let entry = content.arena.entry(family.index.entry(place));
            (entry.key == key).then(|| Found {
                sequence: entry.sequence,
                kind: entry.kind,
                value: if entry.kind == EntryKind::Put {
                    Value::copied(entry.value)
                } else {
                    Value::default()
                },
            })
        });
        (found, covered)
    }

    /// Asks the memory for what [`get`](Self::get) of these keys looks at, stored keys, all at once.
    pub(crate) fn touch(&self, family: ColumnFamily, keys: &[&[u8]]) {
        let content = self.content.borrow();
        content.families[place_of(family)].index.touch(&content.arena, family.as_byte(), keys);
    }

    /// The first and the last key of a family's entries.
    pub(crate) fn key_range(&self, family: ColumnFamily) -> Option<(Vec<u8>, Vec<u8>)> {
        let content = self.content.borrow();
        let index = &content.families[place_of(family)].index;
        let key_at = |place| content.arena.key(index.entry(place)).0.to_vec();
        Some((key_at(index.first()?), key_at(index.last()?)))
    }

    /// Copies the family's range tombstones that overlap `[start, end)` and are visible at `at` to `into`.
    pub(crate) fn collect_tombstones(
        &self,
        family: ColumnFamily,
        start: &[u8],
        end: &[u8],
        at: u64,
        into: &mut TombstoneSet,
    ) {
        let content = self.content.borrow();
        content.families[place_of(family)].tombstones.collect(start, end, at, into);
    }
}

impl Content {
    fn apply(&mut self, operation: Operation<'_>, sequence: u64) {
        match operation {
            Operation::Put { family, key, value } => {
                self.insert(family, key, sequence, EntryKind::Put, value);
            }
            Operation::Delete { family, key } => self.insert(family, key, sequence, EntryKind::Delete, &[]),
            Operation::DeleteRange { family, start, end } => {
                set_tree_key(&mut self.key, family, start);
                if end.is_empty() {
                    self.end.clear();
                    self.end.push(family.as_byte() + 1);
                } else {
                    set_tree_key(&mut self.end, family, end);
                }
                self.families[place_of(family)].tombstones.add(&self.key, &self.end, sequence);
            }
        }
    }

    fn insert(&mut self, family: ColumnFamily, key: &[u8], sequence: u64, kind: EntryKind, value: &[u8]) {
        set_tree_key(&mut self.key, family, key);
        let position = self.arena.push(EntryRef { key: &self.key, sequence, kind, value });
        let family = &mut self.families[place_of(family)];
        family.index.insert(&self.arena, position);
    }
}

fn set_tree_key(buffer: &mut Vec<u8>, family: ColumnFamily, key: &[u8]) {
    buffer.clear();
    buffer.push(family.as_byte());
    buffer.extend_from_slice(key);
}

fn place_of(family: ColumnFamily) -> usize {
    usize::from(family.as_byte())
}

/// Eight bytes of `key` from `skip` on as a number; zeros stand behind the end. Among keys that share their first `skip` bytes a
/// lower number means a lower key; equal numbers mean nothing.
#[inline]
pub(crate) fn prefix_at(key: &[u8], skip: usize) -> u64 {
    let rest = key.get(skip..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(rest) {
        *to = *from;
    }
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests;
