//! What can go wrong on a core, beyond what a caller is told.

use crate::command::MalformedEntry;
use crate::meta::MalformedMeta;
use pinion_types::{LogIndex, RegionId};
use thiserror::Error;

/// A core's error. A caller gets a `WireError` instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The engine failed or found damage.
    #[error(transparent)]
    Engine(#[from] pinion_engine::Error),
    /// A committed entry does not say what an entry may say.
    #[error("region {region}, entry {index}: {source}")]
    MalformedEntry {
        /// The region.
        region: RegionId,
        /// The entry's position.
        index: LogIndex,
        /// What is wrong.
        source: MalformedEntry,
    },
    /// An entry of the log is of a kind that this version does not know.
    #[error(
        "region {region}, entry {index} is of kind {got}, which this program does not know; use the version that wrote it"
    )]
    UnknownEntryKind {
        /// The region.
        region: RegionId,
        /// The entry's position.
        index: LogIndex,
        /// The kind.
        got: u8,
    },
    /// A stored value has no envelope.
    #[error(
        "a stored value is not in an envelope of this format: it was written by another version, or it is damaged"
    )]
    MalformedValue,
    /// The description of a region is damaged.
    #[error("region {region}: {source}")]
    MalformedMeta {
        /// The region.
        region: RegionId,
        /// What is wrong.
        source: MalformedMeta,
    },
    /// Raft refused what it must not refuse.
    #[error("region {region}: {what}")]
    Raft {
        /// The region.
        region: RegionId,
        /// What it said.
        what: String,
    },
    /// The store's identity is missing, damaged, or another store's.
    #[error("the store's identity: {0}")]
    Identity(String),
    /// The store was not taken into a cluster.
    #[error("the store can't join the cluster of {member}: {what}")]
    Join {
        /// The member that was asked.
        member: std::net::SocketAddr,
        /// Why not.
        what: String,
    },
    /// Another core has stopped.
    #[error("core {0} has stopped")]
    CoreStopped(pinion_types::CoreId),
}
