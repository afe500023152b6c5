//! One core's storage: the log, the trees of the core's regions, and what keeps them in shape.
//!
//! - [`open`]: what the log and the manifests say after a start;
//! - [`edits`]: manifest edits as records of the log, and manifest files as their checkpoints;
//! - [`maintenance`]: which tree to flush or compact next;
//! - [`examine()`]: a stopped store as a start would find it;
//! - [`region`]: a region that is open, and who has it;
//! - [`removal`]: removing regions, and what nobody owns;
//! - [`snapshot`]: region snapshots, made to be sent; [`incoming`]: on their way in; [`install`]: in place of a region's tree;
//! - [`Statistics`], counters of all that;
//! - [`structure`]: steps that touch several trees or streams: making regions, splitting, moving between cores.
//!
//! Directories: `cores/<n>/log/` is the log of core n; `regions/<id>/` holds a region's tables and its manifest file.
//!
//! Invariants: a tree flushes only what the log holds durably. A structural step has one commit point, one group of the log. What a
//! start finds without a record is removed; what it finds with a record is kept.

mod edits;
mod examine;
mod incoming;
mod install;
mod maintenance;
mod manifest_file;
mod open;
mod options;
mod region;
mod removal;
mod snapshot;
mod statistics;
mod structure;

pub use examine::{ExaminedRegion, ExaminedStore, examine};
pub use incoming::IncomingSnapshot;
pub use open::{Opening, RecoveredRegion};
pub use options::{EngineOptions, core_directory, cores_directory, regions_directory};
pub use removal::remove_strays;
pub use snapshot::{RegionSnapshot, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotDescription, SnapshotFile};
pub use statistics::Statistics;
pub use structure::{NewTree, PackedRegion};

use crate::Error;
use crate::cache::BlockCache;
use crate::log::Log;
use crate::tree::{Tree, TreeEnv};
use bytes::Bytes;
use maintenance::Maintenance;
use pinion_types::{LogIndex, RegionId, Term};
use region::OpenRegion;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

/// One core's storage. Clones share it.
#[derive(Clone)]
pub struct Engine(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: EngineOptions,
    pub(crate) log: Log,
    pub(crate) cache: Rc<BlockCache>,
    pub(crate) tree_env: Rc<TreeEnv>,
    pub(crate) regions: RefCell<BTreeMap<RegionId, Rc<OpenRegion>>>,
    pub(crate) maintenance: Maintenance,
    pub(crate) counters: statistics::Counters,
    /// The number of the next region snapshot.
    pub(crate) snapshot_number: Cell<u64>,
    /// Regions of which a snapshot is on its way in.
    pub(crate) receiving: RefCell<BTreeSet<RegionId>>,
    pub(crate) closing: Cell<bool>,
}

impl Engine {
    /// The core's log.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The core's settings.
    pub fn options(&self) -> &EngineOptions {
        &self.0.options
    }

    /// The core's block cache.
    pub fn cache(&self) -> &Rc<BlockCache> {
        &self.0.cache
    }

    /// A region's tree, if it is open on this core.
    pub fn tree(&self, id: RegionId) -> Option<Tree> {
        self.region(id).map(|region| region.tree.clone())
    }

    pub(crate) fn region(&self, id: RegionId) -> Option<Rc<OpenRegion>> {
        self.0.regions.borrow().get(&id).cloned()
    }

    /// Where a region's files are.
    pub(crate) fn region_directory(&self, id: RegionId) -> PathBuf {
        self.0.options.region_directory(id)
    }

    /// Whether writes may be proposed: the log has a segment ready, and flushes get room on the disk.
    pub fn accepts_writes(&self) -> bool {
        self.0.log.space_available() && !self.0.maintenance.is_disk_full()
    }

    /// Bytes in the memtables of all trees.
    pub fn memtable_bytes(&self) -> usize {
        self.0.regions.borrow().values().map(|region| region.tree.memtable_bytes()).sum()
    }

    /// Compacts a region's log through `(index, term)`, which is applied, and keeps the owner's description of the region with it.
    pub fn compact_log(&self, id: RegionId, index: LogIndex, term: Term, meta: Bytes) {
        let Some(region) = self.region(id) else { return };
        if index <= region.compacted.get().0 {
            return;
        }
        region.compacted.set((index, term));
        let compact = crate::log::Record::Compact { stream: id, index, term };
        region.manifest.append_meta(meta, &[compact]);
        self.release(&region);
    }

    /// Notes a region's new description; durable with the next group that is.
    pub fn set_meta(&self, id: RegionId, meta: Bytes) {
        if let Some(region) = self.region(id) {
            region.manifest.append_meta(meta, &[]);
        }
    }

    /// Tells the log what of a region it need not keep any more.
    pub(crate) fn release(&self, region: &OpenRegion) {
        let flushed = region.tree.flushed().0;
        let entries_through = flushed.min(region.compacted.get().0);
        let edits_through = region.manifest.checkpointed_through();
        self.0.log.release(region.id, crate::log::Released { entries_through, edits_through });
    }

    /// Stops flushing and compacting, and makes what was appended to the log durable. From then on the directory may be another's.
    pub async fn close(&self) -> Result<(), Error> {
        self.stop_maintenance().await;
        self.0.log.close().await
    }
}

#[cfg(test)]
mod tests;
