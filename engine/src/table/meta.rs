//! What goes into a table and what comes out.

use super::Value;
use std::fmt;

/// Names a table in messages: its file's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// The key has this value.
    Put,
    /// The key has no value.
    Delete,
}

/// One version of one key, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The tree key: a family byte, then the stored key.
    pub key: &'a [u8],
    /// The write's number in its tree, at most [`SEQUENCE_MAX`](super::SEQUENCE_MAX).
    pub sequence: u64,
    /// Value or tombstone.
    pub kind: EntryKind,
    /// The value; empty for a tombstone.
    pub value: &'a [u8],
}

/// Deletes all keys in `[start, end)` as they were at `sequence`.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct RangeTombstone {
    /// First tree key that is deleted.
    pub start: Vec<u8>,
    /// First tree key after the range.
    pub end: Vec<u8>,
    /// The write's number: older entries are deleted.
    pub sequence: u64,
}

/// What is known of a table without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TableMeta {
    /// Length of the file in bytes.
    pub file_len: u64,
    /// Point entries, tombstones among them.
    pub entries: u64,
    /// Point tombstones.
    pub tombstones: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// The smallest tree key that an entry has or a range tombstone starts with.
    pub smallest: Vec<u8>,
    /// The largest tree key that an entry has or a range tombstone ends with (that end itself is not deleted).
    pub largest: Vec<u8>,
    /// The lowest sequence of entries and range tombstones.
    pub smallest_sequence: u64,
    /// The highest sequence of entries and range tombstones.
    pub largest_sequence: u64,
    /// Bytes of all keys of point entries, as they were before compression.
    pub raw_key_bytes: u64,
    /// Bytes of all values.
    pub raw_value_bytes: u64,
}

impl TableMeta {
    /// Whether a table that is so may have an entry of this key and sequence.
    pub(crate) fn spans(&self, key: &[u8], sequence: u64) -> bool {
        (self.smallest.as_slice()..=self.largest.as_slice()).contains(&key)
            && (self.smallest_sequence..=self.largest_sequence).contains(&sequence)
    }
}

/// The newest visible version of a key.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its sequence.
    pub sequence: u64,
    /// Value or tombstone.
    pub kind: EntryKind,
    /// The value; empty for a tombstone.
    pub value: Value,
}

/// What a lookup that may not wait brought.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The table has no such version.
    Absent,
    /// The version.
    Found(Found),
    /// A block that decides is not in the cache.
    NeedsRead,
}
