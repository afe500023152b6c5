//! What cores of a store say to each other.

use crate::cluster::{ClusterAnswer, ClusterCall};
use crate::relocate::Luggage;
use crate::router::Route;
use crate::structures::Tombstone;
use bytes::Bytes;
use pinion_capnp::link::RegionMessage;
use pinion_capnp::{RawAnswer, RawRequest, RegionInfo, WireError};
use pinion_runtime::mailbox::oneshot;
use pinion_types::{CoreId, RegionId};

/// A message between two cores.
pub(crate) enum Message {
    /// Do this call; every key of it belongs to one region, which was on this core when it was sent.
    Call { request: RawRequest, region: RegionId, answer: oneshot::Sender<Result<RawAnswer, Moved>> },
    /// A region is here now.
    Route(Route),
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
    /// This store's peer of a region was removed, and does not come back.
    Buried(Tombstone),
    /// Start-up: what a core has opened.
    Opened(Opened),
    /// Start-up: the store's identity, from core 0.
    Identity(Bytes),
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
