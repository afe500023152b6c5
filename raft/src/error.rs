//! Errors that a caller has to tell apart.

use pinion_types::{LogIndex, PeerId, Term};

use crate::{ConfChangeError, MessageKind};

/// Why the core did not take what it was given. Nothing but the term may have changed: a message of a
/// higher term ends this node's own even when its content is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RaftError {
    /// The proposal was not appended and not forwarded.
    #[error("raft proposal dropped: {0}")]
    ProposalDropped(DropReason),
    /// The read was not begun: ask again.
    #[error("raft read dropped: {0}")]
    ReadDropped(DropReason),
    /// A message that never travels over the network came by [`crate::RawNode::step`].
    #[error("raft: cannot step raft local message {kind} of {from}; give it to step_local")]
    StepLocalMessage {
        /// What it was.
        kind: MessageKind,
        /// Its alleged sender.
        from: PeerId,
    },
    /// A response of a peer that is not in the configuration: usually one that was removed.
    #[error("raft: cannot step as peer {from} not found")]
    StepPeerNotFound {
        /// The sender.
        from: PeerId,
    },
    /// A message that contradicts itself, or what this node knows to be true. It was dropped; a peer that sends such
    /// messages is broken or hostile.
    #[error("raft: refused {kind} of {from} at term {term}: {reason}")]
    InvalidMessage {
        /// What it was.
        kind: MessageKind,
        /// Its sender.
        from: PeerId,
        /// Its term.
        term: Term,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A change of the configuration that can't be read or must not be made.
    #[error(transparent)]
    ConfChange(#[from] ConfChangeError),
    /// A change of the configuration was to be applied while a snapshot that covers it waits to be written: applying ends
    /// here, and what was handed out before is dropped, because the snapshot takes the place of all of it.
    #[error("raft: a snapshot that covers this change is being restored; drop what was handed out before it")]
    Superseded,
    /// The configuration given to [`crate::RawNode::new`] makes no sense.
    #[error("raft: bad configuration: {0}")]
    Config(&'static str),
    /// The storage can't tell what is needed to take the message, now or ever: it was dropped, and its sender sends it
    /// again. From [`crate::RawNode::new`]: the node can't start.
    #[error("raft: storage failed: {0}")]
    Storage(#[from] StorageError),
    /// What the storage holds contradicts itself: the node must not start from it.
    #[error(
        "raft: the stored {what} {got} is outside of [{low}, {high}]; restore this replica from its peers"
    )]
    Inconsistent {
        /// Which position.
        what: &'static str,
        /// Its value.
        got: LogIndex,
        /// The least possible.
        low: LogIndex,
        /// The greatest possible.
        high: LogIndex,
    },
}

/// Why a proposal was dropped, and what the proposer can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// No leader is known: try again when there is one.
    #[error("no leader is known, try again later")]
    NoLeader,
    /// This node follows, and forwarding is off: go to the leader.
    #[error("not the leader and forwarding is disabled, go to {0}")]
    NotLeader(PeerId),
    /// The leader was removed from the group.
    #[error("this leader is no longer a member, go to its successor")]
    Removed,
    /// Leadership is being handed over: try again at the named peer.
    #[error("leadership is being transferred, try {0}")]
    Transferring(PeerId),
    /// Too many bytes are proposed and not committed: wait for some of them.
    #[error("uncommitted entries reach {limit} bytes, wait until some are committed")]
    Uncommitted {
        /// The limit, see [`crate::Config::max_uncommitted_entries_size`].
        limit: u64,
    },
    /// Too many reads wait for a quorum.
    #[error("{limit} reads wait for a quorum, wait for some of them")]
    Reads {
        /// The limit.
        limit: usize,
    },
    /// The proposal holds no entry.
    #[error("it holds no entry")]
    Empty,
    /// The log has reached [`crate::INDEX_MAX`].
    #[error("the log is full")]
    LogFull,
}

/// What a [`crate::Storage`] may answer instead of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The entries were compacted; a snapshot covers them.
    #[error("requested index is unavailable due to compaction")]
    Compacted,
    /// The log does not reach that far.
    #[error("requested entry at index is unavailable")]
    Unavailable,
    /// The entries exist and have to be fetched first: call [`crate::RawNode::entries_available`] when they can be read.
    #[error("requested entries are being fetched")]
    TemporarilyUnavailable,
    /// The snapshot given is older than the one already there.
    #[error("requested index is older than the existing snapshot")]
    SnapshotOutOfDate,
    /// A snapshot is being made; ask again later.
    #[error("snapshot is temporarily unavailable")]
    SnapshotTemporarilyUnavailable,
    /// The medium failed. What it said was logged where it happened.
    #[error("the storage failed")]
    Failed,
}
