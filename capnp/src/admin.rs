//! What an administrator asks of a store.

use crate::WireError;
use pinion_types::{CoreId, LogIndex, Peer, PeerId, Region, RegionId, StoreId, Term};
use std::future::{Future, Ready, ready};
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
    /// Peers that lag behind or wait for a snapshot; filled by the leader alone.
    pub peers_pending: Vec<PeerId>,
    /// Whether the store that answers leads the region.
    pub is_leader: bool,
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
    /// Voters that it gives the regions which it leads, where there are as many stores; 0 if that is left to the operator.
    pub replicas: u16,
}

/// A store of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreRecord {
    /// The store's id.
    pub id: StoreId,
    /// Where each of its cores listens, in the order of the cores.
    pub addresses: Vec<String>,
    /// Grows with each change of the record: of two, the larger is the newer.
    pub version: u64,
}

/// A store that wants to belong to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// Drawn by the joiner at random and kept before it asks, so that asking again is safe. Never 0.
    pub token: u64,
    /// Where each core of the joiner listens, in the order of the cores.
    pub addresses: Vec<String>,
}

/// What a store that joined must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// The cluster's id.
    pub cluster: u64,
    /// The joiner's id, never used before.
    pub store: StoreId,
    /// All stores of the cluster, the joiner among them.
    pub stores: Vec<StoreRecord>,
}

/// What is to become of a region's peer on a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerChange {
    /// The store.
    pub store: StoreId,
    /// What is to become of the peer there.
    pub kind: PeerChangeKind,
}

/// How a peer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChangeKind {
    /// A new voter, or the learner there becomes one.
    AddVoter,
    /// A new learner, or the voter there becomes one.
    AddLearner,
    /// The peer goes, and its data with it.
    Remove,
}

/// What serves the `Admin` interface. Dropping a future never undoes what it began.
///
/// What only a cluster of several stores can do is refused unless the service says otherwise: it is a store that runs alone.
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

    /// The cluster's stores, in order of their ids.
    fn stores(&self) -> impl Future<Output = Result<Vec<StoreRecord>, WireError>> + 'static {
        alone(())
    }

    /// Makes the caller a store of the cluster; with a token that came before, the same one again.
    fn join(&self, request: JoinRequest) -> impl Future<Output = Result<Joined, WireError>> + 'static {
        alone(request)
    }

    /// Notes where the cores of a store listen now.
    fn announce(
        &self,
        store: StoreId,
        addresses: Vec<String>,
    ) -> impl Future<Output = Result<(), WireError>> + 'static {
        alone((store, addresses))
    }

    /// Changes who keeps a region: all changes or none. The region after that. There is at least one change, and one for a store at most.
    fn change_peers(
        &self,
        region: RegionId,
        changes: Vec<PeerChange>,
    ) -> impl Future<Output = Result<RegionInfo, WireError>> + 'static {
        alone((region, changes))
    }

    /// Makes the region's peer on store `to` its leader.
    fn transfer_leader(
        &self,
        region: RegionId,
        to: StoreId,
    ) -> impl Future<Output = Result<(), WireError>> + 'static {
        alone((region, to))
    }

    /// The region that a stored key is in.
    fn region(&self, stored_key: Vec<u8>) -> impl Future<Output = Result<RegionInfo, WireError>> + 'static {
        alone(stored_key)
    }
}

/// What a store that runs alone answers to a call that is for clusters.
fn alone<R, T>(_: R) -> Ready<Result<T, WireError>> {
    ready(Err(WireError::invalid("this store runs alone")))
}
