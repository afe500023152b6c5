//! What cores of a store say to each other.

use crate::relocate::Luggage;
use crate::router::Route;
use bytes::Bytes;
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
    /// Core 0: give so many ids that were never given before.
    AllocateIds { count: u64, answer: oneshot::Sender<u64> },
    /// Give this region to another core.
    MoveOut { region: RegionId, to: CoreId, answer: oneshot::Sender<Result<(), WireError>> },
    /// Take this region over.
    MoveIn { luggage: Box<Luggage>, answer: oneshot::Sender<Result<(), String>> },
    /// Start-up: what a core has opened: regions, their generations, and whose log has them.
    Opened(CoreId, Vec<(RegionId, u64, CoreId)>),
    /// Start-up: the store's identity, from core 0.
    Identity(Bytes),
}

/// The region is not on that core any more: look for it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved;
