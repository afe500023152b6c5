//! A tree's manifest: which tables it has, and up to where its log is in them.
//!
//! A [`TreeState`] is the whole; a [`ManifestEdit`] is a step from one state to the next. Edits are records of the core's log, states
//! are checkpoints of them. Both are rkyv, validated before use, in one frame:
//!
//! ```text
//! offset  size  name     meaning
//! 0       4     magic    "PTst" a state, "PTed" an edit
//! 4       2     version  1
//! 6       2     reserved 0
//! 8       4     length   of the payload, u32
//! 12      4     crc      of bytes 0..12 and of the payload
//! 16      …     payload  rkyv archive of the type
//! ```
//!
//! Invariants, checked whenever a state comes from disk or an edit is applied:
//! - edits are numbered from 1 without gaps; an edit that is in the state already changes nothing;
//! - file numbers are unique and below the state's next one, which never goes back;
//! - a table's keys are of one family, and below level 0 the tables of a family and level do not overlap.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::expect_used))]

use crate::Error;
use crate::table::TableMeta;
use pinion_types::{ColumnFamily, LogIndex, Term};
use rkyv::rancor;
use rkyv::util::AlignedVec;

const VERSION: u16 = 1;
const STATE_MAGIC: [u8; 4] = *b"PTst";
const EDIT_MAGIC: [u8; 4] = *b"PTed";
const HEADER_LEN: usize = 16;

/// Levels of a tree at most, level 0 among them.
pub const LEVELS_MAX: u8 = 8;

/// A table of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TableRef {
    /// The file's number in the tree's directory.
    pub file: u64,
    /// The level; 0 is the youngest.
    pub level: u8,
    /// The first stored key that counts: what the file holds before it belongs to another region.
    pub bound_start: Vec<u8>,
    /// The first stored key that no longer counts; empty for no end.
    pub bound_end: Vec<u8>,
    /// What is known of the file.
    pub meta: TableMeta,
}

impl TableRef {
    /// The name of the table's file.
    pub fn file_name(&self) -> String {
        table_file_name(self.file)
    }

    /// The family of the table's keys.
    pub fn family(&self) -> Option<ColumnFamily> {
        self.meta.smallest.first().copied().and_then(ColumnFamily::from_byte)
    }

    /// The tree keys that count, `[start, end)`: the table's own range clipped by its bound. Empty when `start >= end`.
    pub fn clipped(&self) -> (Vec<u8>, Vec<u8>) {
        let Some(family) = self.meta.smallest.first().copied() else {
            return (Vec::new(), Vec::new());
        };
        let bound_start = [&[family], self.bound_start.as_slice()].concat();
        let bound_end = match self.bound_end.as_slice() {
            [] => vec![family + 1],
            end => [&[family], end].concat(),
        };
        // The largest key counts itself when an entry has it, and its successor does not.
        let end = [self.meta.largest.as_slice(), &[0]].concat();
        (bound_start.max(self.meta.smallest.clone()), bound_end.min(end))
    }

    /// Narrows the bound to `[start, end)` as well. It is never widened.
    fn narrow(&mut self, start: &[u8], end: &[u8]) {
        if start > self.bound_start.as_slice() {
            self.bound_start = start.to_vec();
        }
        if !end.is_empty() && (self.bound_end.is_empty() || end < self.bound_end.as_slice()) {
            self.bound_end = end.to_vec();
        }
    }

    fn check(&self) -> Result<(), Error> {
        let damaged = |what| Err(Error::ManifestDamaged { what });
        if self.level >= LEVELS_MAX {
            return damaged("a table's level is above the highest");
        }
        if self.family().is_none() || self.meta.smallest.first() != self.family_of_largest() {
            return damaged("a table's keys are not of one family");
        }
        if self.meta.smallest > self.meta.largest {
            return damaged("a table's smallest key is above its largest");
        }
        if self.meta.smallest_sequence > self.meta.largest_sequence {
            return damaged("a table's lowest sequence is above its highest");
        }
        Ok(())
    }

    /// A range tombstone that reaches to the end of its family ends with the next family's byte alone.
    fn family_of_largest(&self) -> Option<&u8> {
        match (self.meta.smallest.first(), self.meta.largest.as_slice()) {
            (Some(family), [next]) if *next == family + 1 => Some(family),
            (_, largest) => largest.first(),
        }
    }
}

/// The name of the file with this number.
pub fn table_file_name(file: u64) -> String {
    format!("{file:010}.sst")
}

/// The number of the file with this name; `None` when the name is not a table's.
pub fn table_file_number(name: &str) -> Option<u64> {
    let file = name.strip_suffix(".sst")?.parse().ok()?;
    (table_file_name(file) == name).then_some(file)
}

/// All that a manifest says of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TreeState {
    /// The number of the last edit that is in here; 0 before the first.
    pub edit: u64,
    /// The tables, by level, then by file number.
    pub tables: Vec<TableRef>,
    /// The highest sequence that the tables hold.
    pub last_sequence: u64,
    /// The last Raft entry whose writes the tables hold: index.
    pub applied_index: u64,
    /// And its term.
    pub applied_term: u64,
    /// No file has this number or a higher one.
    pub next_file: u64,
}

/// A step from one state to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ManifestEdit {
    /// One more than the edit before.
    pub number: u64,
    /// Files that are no longer the tree's.
    pub removed: Vec<u64>,
    /// Tables that are now the tree's; one that is removed as well moves to another level.
    pub added: Vec<TableRef>,
    /// The state's `last_sequence` from now on.
    pub last_sequence: u64,
    /// The state's `applied_index` from now on.
    pub applied_index: u64,
    /// The state's `applied_term` from now on.
    pub applied_term: u64,
    /// The state's `next_file` from now on.
    pub next_file: u64,
}

impl TreeState {
    /// The last Raft entry whose writes the tables hold.
    pub fn applied(&self) -> (LogIndex, Term) {
        (LogIndex(self.applied_index), Term(self.applied_term))
    }

    /// Does what the edit says. An edit that was applied before changes nothing and gives `false`.
    ///
    /// # Errors
    /// When an edit before this one is missing, or the two do not fit. The state is then as it was.
    pub fn apply(&mut self, edit: &ManifestEdit) -> Result<bool, Error> {
        if edit.number <= self.edit {
            return Ok(false);
        }
        if edit.number != self.edit + 1 {
            return Err(Error::ManifestEditMissing { got: edit.number, expected: self.edit + 1 });
        }
        let mut tables: Vec<TableRef> =
            self.tables.iter().filter(|table| !edit.removed.contains(&table.file)).cloned().collect();
        if tables.len() + edit.removed.len() != self.tables.len() {
            return Err(Error::ManifestDamaged { what: "an edit removes a table that is not there" });
        }
        tables.extend(edit.added.iter().cloned());
        let next = Self {
            edit: edit.number,
            tables,
            last_sequence: edit.last_sequence,
            applied_index: edit.applied_index,
            applied_term: edit.applied_term,
            next_file: edit.next_file,
        };
        let goes_back = next.last_sequence < self.last_sequence
            || next.applied_index < self.applied_index
            || next.next_file < self.next_file;
        if goes_back {
            return Err(Error::ManifestDamaged { what: "an edit goes back behind the state" });
        }
        let next = next.sorted();
        next.check()?;
        *self = next;
        Ok(true)
    }

    /// The state of a tree that has only the keys in `[start, end)`: every table's bound is narrowed, tables without such keys are
    /// left out. An empty `end` means no end.
    #[must_use]
    pub fn bounded(&self, start: &[u8], end: &[u8]) -> Self {
        let mut state = self.clone();
        for table in &mut state.tables {
            table.narrow(start, end);
        }
        state.tables.retain(|table| {
            let (start, end) = table.clipped();
            start < end
        });
        state
    }

    /// The state as bytes, to be read by [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let payload = rkyv::to_bytes::<rancor::Error>(self);
        framed(STATE_MAGIC, &payload.unwrap_or_default())
    }

    /// A state from its bytes.
    ///
    /// # Errors
    /// When the bytes are of an unknown version or damaged, or contradict themselves.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let payload = unframed(STATE_MAGIC, bytes)?;
        let state: Self = rkyv::from_bytes::<Self, rancor::Error>(&payload)
            .map_err(|_| Error::ManifestDamaged { what: "a state's archive is not valid" })?;
        state.check()?;
        Ok(state)
    }

    fn sorted(mut self) -> Self {
        self.tables.sort_by_key(|table| (table.level, table.file));
        self
    }

    fn check(&self) -> Result<(), Error> {
        let damaged = |what| Err(Error::ManifestDamaged { what });
        let mut files: Vec<u64> = self.tables.iter().map(|table| table.file).collect();
        files.sort_unstable();
        if files.is_sorted_by(|a, b| a < b) && files.last().is_none_or(|file| *file < self.next_file) {
            for table in &self.tables {
                table.check()?;
            }
        } else {
            return damaged("file numbers are not unique or not below the next one");
        }
        let mut ranges: Vec<_> = self.tables.iter().filter(|table| table.level > 0).collect();
        ranges.sort_by_cached_key(|table| (table.level, table.clipped().0));
        let overlap = ranges.windows(2).any(|pair| match pair {
            [left, right] => left.level == right.level && overlaps(left, right),
            _ => false,
        });
        if overlap {
            return damaged("two tables of one level overlap");
        }
        Ok(())
    }
}

/// Whether `right`, which starts no earlier than `left`, begins before `left` ends. `left` may have been cut within a range
/// tombstone, at the very key that `right` begins with.
fn overlaps(left: &TableRef, right: &TableRef) -> bool {
    let (start, _) = right.clipped();
    let (_, end) = left.clipped();
    start < end && left.meta.largest > start
}

impl ManifestEdit {
    /// The edit as bytes, to be read by [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let payload = rkyv::to_bytes::<rancor::Error>(self);
        framed(EDIT_MAGIC, &payload.unwrap_or_default())
    }

    /// An edit from its bytes.
    ///
    /// # Errors
    /// When the bytes are of an unknown version or damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let payload = unframed(EDIT_MAGIC, bytes)?;
        rkyv::from_bytes::<Self, rancor::Error>(&payload)
            .map_err(|_| Error::ManifestDamaged { what: "an edit's archive is not valid" })
    }
}

fn framed(magic: [u8; 4], payload: &[u8]) -> Vec<u8> {
    assert!(
        !payload.is_empty(),
        "an archive of plain numbers and bytes can be made as long as there is memory"
    );
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    assert!(payload.len() == len as usize, "a manifest is shorter than 4 GiB");
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&len.to_le_bytes());
    let crc = crc_of(&bytes, payload);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn crc_of(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// The payload, in memory that is aligned as an archive must be.
fn unframed(magic: [u8; 4], bytes: &[u8]) -> Result<AlignedVec, Error> {
    let damaged = |what| Error::ManifestDamaged { what };
    let (header, payload) =
        bytes.split_at_checked(HEADER_LEN).ok_or(damaged("a manifest record is cut off"))?;
    let (checked, crc) =
        header.split_at_checked(HEADER_LEN - 4).ok_or(damaged("a manifest record is cut off"))?;
    let &[m0, m1, m2, m3, v0, v1, _, _, l0, l1, l2, l3] = checked else {
        return Err(damaged("a manifest record is cut off"));
    };
    if [m0, m1, m2, m3] != magic {
        return Err(damaged("a manifest record begins with another magic"));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(Error::ManifestVersion { got: version, known: VERSION });
    }
    if u32::from_le_bytes([l0, l1, l2, l3]) as usize != payload.len() {
        return Err(damaged("a manifest record has another length than it says"));
    }
    if crc != crc_of(checked, payload).to_le_bytes() {
        return Err(damaged("a manifest record's checksum does not match"));
    }
    let mut aligned = AlignedVec::with_capacity(payload.len());
    aligned.extend_from_slice(payload);
    Ok(aligned)
}

#[cfg(test)]
mod tests;
