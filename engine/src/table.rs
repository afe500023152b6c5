//! Sorted tables: immutable files of a tree's entries, read through the core's block cache.
//!
//! A table holds point entries ordered by key ascending, then by sequence descending, and range tombstones beside them. It is
//! written once, front to back, by a [`TableWriter`], and never changes. The file, front to back: a header, data blocks, index
//! partitions, the top index, the filter, range tombstones, properties, a footer (docs/formats.md, "Tables").
//!
//! Invariants:
//! - Every byte that is read from the file lies under a checksum that covers the file's salt and the place too, so that an old or
//!   misplaced block is never taken for the right one. A block is checked once, when it is read; what is in memory is whole.
//! - What the file says is checked before it is used: damage gives an error that names file and offset, never wrong data.
//! - All memory that stays (blocks, indexes, filters) counts in the cache's budget.
//!
//! Cost of a lookup: one cache line of the filter; when that says yes, a search of the top index and of one partition, and one
//! data block. No allocation, no hashing of the block's place, no copy of the value.
//!
//! The filter is a blocked Bloom filter (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters", 2007, §3).

mod block;
mod filter;
mod footer;
mod frame;
mod hash;
mod index;
mod iterator;
mod meta;
mod reader;
mod tombstones;
mod value;
mod writer;

#[cfg(test)]
mod tests;

pub use self::frame::Compression;
pub use self::hash::hash_key;
pub use self::iterator::{ReadOptions, TableIterator};
pub use self::meta::{EntryKind, EntryRef, Found, Lookup, RangeTombstone, TableId, TableMeta};
pub use self::reader::{Table, Verified};
pub use self::value::Value;
pub use self::writer::{TableOptions, TableWriter};

pub(crate) use self::block::Block;

/// The longest key that a table takes, in bytes: above the largest key setting, with room for what stands before it.
pub const KEY_LEN_MAX: usize = 32 << 10;
/// The longest value that a table takes, in bytes.
pub const VALUE_LEN_MAX: usize = 64 << 20;
/// The highest sequence number: one bit beside it holds the kind.
pub const SEQUENCE_MAX: u64 = u64::MAX >> 1;
