//! What an administrator asks of a store.

use crate::WireError;
use pinion_types::{CoreId, LogIndex, Peer, Region, StoreId, Term};
use std::future::Future;
use std::time::Duration;

/// A region as its store sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionInfo {
    /// Id, range, epoch, peers.
    pub region: Region,
    /// The core that it is pinned to.
    pub core: CoreId,
    /// Who leads it.
    pub leader: Option<Peer>,
    /// Its Raft term.
    pub term: Term,
    /// How far its log is applied here.
    pub applied: LogIndex,
    /// Bytes of its data on disk and in memory, roughly.
    pub approximate_size_bytes: u64,
    /// How many keys it has, roughly.
    pub approximate_keys: u64,
}

/// Part of a list of regions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionPage {
    /// The regions, in order of their keys.
    pub regions: Vec<RegionInfo>,
    /// The stored key to go on from; `None` when these are all.
    pub resume: Option<Vec<u8>>,
}

/// Who a store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreInfo {
    /// The store's id.
    pub store: StoreId,
    /// The cluster's id.
    pub cluster: u64,
    /// The program's version.
    pub version: String,
    /// How many cores serve.
    pub cores: u16,
    /// Where each core listens, in the order of the cores.
    pub addresses: Vec<String>,
    /// How long it has been serving.
    pub uptime: Duration,
}

/// What serves the `Admin` interface. Dropping a future never undoes what it began.
pub trait AdminService: 'static {
    /// The store's regions from the stored key `start` on, in order of their keys, `limit` at most.
    fn regions(
        &self,
        start: Vec<u8>,
        limit: usize,
    ) -> impl Future<Output = Result<RegionPage, WireError>> + 'static;

    /// Splits the regions that own these raw keys, at the keys; the regions made and changed.
    fn split(&self, keys: Vec<Vec<u8>>)
    -> impl Future<Output = Result<Vec<RegionInfo>, WireError>> + 'static;

    /// Who this store is.
    fn info(&self) -> StoreInfo;

    /// Counters and gauges: one `name value` a line, sorted by name.
    fn statistics(&self) -> impl Future<Output = String> + 'static;
}
