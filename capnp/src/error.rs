//! Why a call was not done: `Error` of the schema as a plain type.

use pinion_types::key::Escaped;
use pinion_types::{Peer, Region, RegionId, StoreId};
use std::time::Duration;

/// Why a call was not done. A client acts on the variant; the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The peer does not lead the region.
    #[error("not the leader of region {region}; {}", leader_hint(.leader.as_ref()))]
    NotLeader {
        /// The region that was asked for.
        region: RegionId,
        /// Who leads it, as far as the answerer knows.
        leader: Option<Peer>,
    },
    /// The store has no such region.
    #[error("region {0} is not on this store; ask for the regions again")]
    RegionNotFound(RegionId),
    /// The key is not within the region of the context.
    #[error("key {:?} is not in region {region} [{:?}, {:?})", Escaped(.key), Escaped(.start), Escaped(.end))]
    KeyNotInRegion {
        /// The caller's key, without zone byte.
        key: Vec<u8>,
        /// The region of the context.
        region: RegionId,
        /// First stored key of the region.
        start: Vec<u8>,
        /// First stored key after the region.
        end: Vec<u8>,
    },
    /// The region changed since the caller learned of it.
    #[error("the region's epoch changed; it is now {current:?}")]
    EpochNotMatch {
        /// The region as it is now, and its right neighbour.
        current: Vec<Region>,
    },
    /// Leadership changed meanwhile; the call was not done.
    #[error("leadership changed meanwhile; call again")]
    StaleCommand,
    /// The call was meant for another store.
    #[error("meant for store {requested}, arrived at store {actual}")]
    StoreNotMatch {
        /// The store of the context.
        requested: StoreId,
        /// The store that answers.
        actual: StoreId,
    },
    /// Too much is in flight; nothing was done.
    #[error("the server is busy; come back in {} ms", .retry_after.as_millis())]
    ServerBusy {
        /// When to come back.
        retry_after: Duration,
    },
    /// Writes are refused until there is room on the disk.
    #[error("the disk is full; writes are refused until there is room")]
    DiskFull,
    /// The call makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// A key, a value or a list is over its limit.
    #[error("{what} of {got} is over the limit of {limit}")]
    TooLarge {
        /// What is too large, with its unit: `a key's bytes`.
        what: String,
        /// The limit.
        limit: u64,
        /// What came.
        got: u64,
    },
    /// Stored data failed its checksum.
    #[error("damaged data in {file} at offset {offset}: {message}")]
    Corruption {
        /// The damaged file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        message: String,
    },
    /// The batch has keys of several regions and asked to be one atomic whole.
    #[error("the batch's keys are of several regions; nothing was written; ask for atomicity per region")]
    BatchSpansRegions,
    /// The call's time was over; a write may still be done.
    #[error("the call's time was over; a write may still be done")]
    TimedOut,
    /// The store is stopping.
    #[error("the store is stopping")]
    ShuttingDown,
    /// The peer lost its region or stopped while the write was under way; it may or may not be done.
    #[error("the peer lost its region or stopped while the write was under way: it may or may not be done")]
    Undetermined,
    /// A store of another cluster.
    #[error("meant for cluster {requested:#x}, arrived at cluster {actual:#x}")]
    ClusterNotMatch {
        /// The cluster of the call.
        requested: u64,
        /// The cluster of the store that answers.
        actual: u64,
    },
    /// A defect or a failure of the store's hardware.
    #[error("internal error: {0}")]
    Internal(String),
}

impl WireError {
    /// An `InvalidArgument` with this text.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::InvalidArgument(text.into())
    }
}

fn leader_hint(leader: Option<&Peer>) -> String {
    leader.map_or_else(
        || "no leader is known, come back later".into(),
        |peer| format!("ask peer {} on store {}", peer.id, peer.store),
    )
}
