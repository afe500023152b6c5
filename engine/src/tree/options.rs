//! Settings of a tree.

use crate::table::{Compression, TableOptions};

/// Settings of a tree. The defaults suit regions of some hundred megabytes to some gigabytes.
#[derive(Clone, Debug)]
pub struct TreeOptions {
    /// Bytes of a memtable at which [`Tree::wants_flush`](super::Tree::wants_flush) says so. Default 64 MiB. Too small: many small
    /// tables, more compaction; too large: memory, and a long replay after a crash. RocksDB: `write_buffer_size`, 64 MiB.
    pub memtable_bytes: usize,
    /// Memtables that wait to be flushed at which writers are slowed. Default 3. Too small: a flush that takes long slows writers;
    /// too large: memory. RocksDB: `max_write_buffer_number`, 2.
    pub memtables_waiting_max: usize,
    /// Tables of level 0 at which they are compacted. Default 4. Too small: data is rewritten often; too large: lookups ask many
    /// tables. RocksDB: `level0_file_num_compaction_trigger`, 4.
    pub level0_tables: usize,
    /// Tables of level 0 at which writers are slowed. Default 20. Too small: writers wait for nothing; too large: lookups and scans
    /// suffer. RocksDB: `level0_slowdown_writes_trigger`, 20.
    pub level0_tables_max: usize,
    /// How many times larger each level is than the one above it. Default 10. Too small: more levels, each lookup asks more tables;
    /// too large: each byte is rewritten more often. RocksDB: `max_bytes_for_level_multiplier`, 10.
    pub level_ratio: u64,
    /// Bytes at which an output of compaction is ended and the next one begun. Default 64 MiB. Too small: many files; too large: a
    /// compaction moves much at once. RocksDB: `target_file_size_base`, 64 MiB.
    pub table_bytes: u64,
    /// Bytes of work that compaction is behind at which writers are slowed. Default 4 GiB. Too small: writers wait for nothing; too
    /// large: reads and space suffer. RocksDB: `soft_pending_compaction_bytes_limit`, 64 GiB.
    pub debt_bytes_max: u64,
    /// The part of a table's entries that may be tombstones, in percent; what has more is compacted even when its level is not too
    /// large. Default 50. Too small: data is rewritten for little; too large: deleted data stays, and scans step over it. 100 turns
    /// it off. RocksDB: `CompactOnDeletionCollector`.
    pub tombstones_percent_max: u8,
    /// Length of data blocks in bytes. Default 4096. Smaller: a larger index; larger: more bytes read for one key. RocksDB:
    /// `block_size`, 4096.
    pub block_size_bytes: usize,
    /// Bits of filter for a key. Default 10, one absent key in a hundred costs a block. RocksDB: `NewBloomFilterPolicy(10)`.
    pub filter_bits_per_key: usize,
    /// Compression of all levels but the last. Default none: these tables live a short time. RocksDB: `compression_per_level`.
    pub compression: Compression,
    /// Compression of the last level, where most of the data is. Default none. RocksDB: `bottommost_compression`.
    pub compression_bottom: Compression,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            memtables_waiting_max: 3,
            level0_tables: 4,
            level0_tables_max: 20,
            level_ratio: 10,
            table_bytes: 64 << 20,
            debt_bytes_max: 4 << 30,
            tombstones_percent_max: 50,
            block_size_bytes: 4096,
            filter_bits_per_key: 10,
            compression: Compression::None,
            compression_bottom: Compression::None,
        }
    }
}

impl TreeOptions {
    /// How the tables of a level are written.
    pub(crate) fn table_options(&self, is_last_level: bool) -> TableOptions {
        TableOptions {
            block_size_bytes: self.block_size_bytes,
            compression: if is_last_level { self.compression_bottom } else { self.compression },
            filter_bits_per_key: self.filter_bits_per_key,
        }
    }

    /// Bytes that the first level below level 0 takes at most.
    pub(crate) fn base_bytes(&self) -> u64 {
        self.memtable_bytes as u64 * self.level0_tables.max(1) as u64
    }
}
