//! What cores of a store say to each other.

use crate::cluster::{ClusterAnswer, ClusterCall};
use crate::relocate::Luggage;
use crate::router::Route;
use crate::structures::Tombstone;
use bytes::Bytes;
use pinion_capnp::link::{RegionMessage, SnapshotChunk, SnapshotKey, SnapshotOffer};
use pinion_capnp::{PeerChange, RawAnswer, RawRequest, RegionInfo, StoreRecord, WireError};
use pinion_runtime::mailbox::oneshot;
use pinion_types::{CoreId, RegionId, StoreId};

/// A message between two cores.
pub(crate) enum Message {
    /// Do this call; every key of it belongs to one region, which was on this core when it was sent.
    Call { request: RawRequest, region: RegionId, answer: oneshot::Sender<Result<RawAnswer, Moved>> },
    /// A region is here now.
    Route(Route),
    /// A region that has no route is on this core.
    Home(RegionId, CoreId),
    /// This core has taken in what the start has found, which are these.
    Recovered(Vec<Route>),
    /// Give a region that has nothing yet to another core; the answer is whether it had nothing.
    FetchBlank { region: RegionId, to: CoreId, answer: oneshot::Sender<Result<bool, String>> },
    /// Describe your regions.
    Describe(oneshot::Sender<Vec<RegionInfo>>),
    /// Split this region at these stored keys; the ids are for the new regions and their peers.
    Split {
        region: RegionId,
        keys: Vec<Vec<u8>>,
        answer: oneshot::Sender<Result<Vec<RegionInfo>, WireError>>,
    },
    /// Do a call that concerns the cluster: the system region is on that core.
    Cluster { call: ClusterCall, answer: oneshot::Sender<ClusterAnswer> },
    /// Give this region to another core.
    MoveOut { region: RegionId, to: CoreId, answer: oneshot::Sender<Result<(), WireError>> },
    /// Take this region over.
    MoveIn { luggage: Box<Luggage>, answer: oneshot::Sender<Result<(), String>> },
    /// Messages of other stores for regions of that core.
    Raft(Vec<RegionMessage>),
    /// About a snapshot for a region of that core.
    Snapshot(SnapshotCall),
    /// Where stores listen.
    Stores(Vec<StoreRecord>),
    /// Where a store itself says that it listens.
    Heard(StoreId, Vec<String>),
    /// Change the members of a region that is on that core.
    ChangeMembers {
        region: RegionId,
        changes: Vec<PeerChange>,
        answer: oneshot::Sender<Result<RegionInfo, WireError>>,
    },
    /// Hand leadership of a region that is on that core to a store's peer.
    Transfer { region: RegionId, to: StoreId, answer: oneshot::Sender<Result<(), WireError>> },
    /// This store's peer of a region was removed, and does not come back.
    Buried(Tombstone),
    /// Start-up: what a core has opened.
    Opened(Opened),
    /// Start-up: the store's identity, from core 0.
    Identity(Bytes),
}

/// What the sender of a snapshot asks.
pub(crate) enum SnapshotCall {
    /// It is about to send one.
    Offer(Box<SnapshotOffer>, oneshot::Sender<Result<Vec<(u64, u64)>, WireError>>),
    /// Part of a file.
    Chunk(SnapshotChunk, oneshot::Sender<Result<(), WireError>>),
    /// All is there.
    Done(SnapshotKey, oneshot::Sender<Result<(), WireError>>),
    /// It gives up.
    Abort(SnapshotKey, oneshot::Sender<Result<(), WireError>>),
}

/// What a core has opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// The core.
    pub(crate) core: CoreId,
    /// Regions, their generations, and whose log has them.
    pub(crate) streams: Vec<(RegionId, u64, CoreId)>,
    /// Peers that do not come back.
    pub(crate) tombstones: Vec<Tombstone>,
}

/// The region is not on that core any more: look for it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved;
