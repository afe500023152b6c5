//! Settings of one core's storage.

use crate::log::LogConfig;
use crate::tree::TreeOptions;
use pinion_types::{CoreId, RegionId};
use std::path::PathBuf;

/// Settings of one core's storage.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The store's data directory.
    pub data_dir: PathBuf,
    /// The core.
    pub core: CoreId,
    /// The log's settings.
    pub log: LogConfig,
    /// The trees' settings.
    pub tree: TreeOptions,
    /// Bytes of the block cache. Too small: reads go to disk. Too large: the memory budget does not hold. Counterpart: RocksDB's block cache.
    pub cache_bytes: usize,
    /// Bytes of the memtables of all trees of the core. Past it the largest is flushed; past twice of it the core is overloaded.
    /// Counterpart: RocksDB's `db_write_buffer_size`.
    pub memtables_bytes_max: usize,
    /// Bytes of log that a start may have to replay, whole segments counted. Past it the tree that holds the oldest log is flushed, and that
    /// log compacted. Counterpart: RocksDB's `max_total_wal_size`.
    pub replay_bytes_max: u64,
    /// Manifest edits of one tree in the log before its manifest file is written anew. Too small: many small files are written. Too
    /// large: starts are slower and old segments stay.
    pub edits_max: usize,
}

impl EngineOptions {
    /// Where the core's log is.
    pub fn log_directory(&self) -> PathBuf {
        core_directory(&self.data_dir, self.core).join("log")
    }

    /// Where a region's files are.
    pub fn region_directory(&self, id: RegionId) -> PathBuf {
        regions_directory(&self.data_dir).join(id.to_string())
    }
}

/// Where a core's own files are.
pub fn core_directory(data_dir: &std::path::Path, core: CoreId) -> PathBuf {
    cores_directory(data_dir).join(core.to_string())
}

/// Where the cores' directories are.
pub fn cores_directory(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("cores")
}

/// Where the regions' directories are.
pub fn regions_directory(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("regions")
}
