//! A core's storage: the log, the trees, their caches.

pub mod batch;
pub mod cache;
mod compaction;
mod engine;
pub mod error;
pub mod log;
pub mod manifest;
mod memtable;
pub mod table;
pub mod tree;

pub use compaction::CompactionStep;
pub use engine::{
    Engine, EngineOptions, ExaminedRegion, ExaminedStore, IncomingSnapshot, NewTree, Opening, PackedRegion,
    RecoveredRegion, RegionSnapshot, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotDescription, SnapshotFile, Statistics,
    core_directory, cores_directory, examine, regions_directory, remove_strays,
};
pub use error::{Error, Result};
