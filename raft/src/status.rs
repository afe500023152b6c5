//! What a node knows of itself, for operators, schedulers and tests.

use pinion_types::{LogIndex, PeerId, Term};

use crate::raw_node::Role;
use crate::tracker::{Configuration, ProgressMap};
use crate::{HardState, Storage};

/// A copy of a node's state at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The node.
    pub id: PeerId,
    /// What it knows of the term, its vote and what is committed.
    pub hard_state: HardState,
    /// What it does.
    pub role: Role,
    /// Whom it follows; [`crate::NO_PEER`] when it does not know.
    pub leader: PeerId,
    /// To whom it hands over leadership, or [`crate::NO_PEER`].
    pub transferee: PeerId,
    /// Whether it learns without a vote.
    pub is_learner: bool,
    /// Up to where its state machine has applied the log.
    pub applied: LogIndex,
    /// The last entry's index.
    pub last_index: LogIndex,
    /// The last entry's term.
    pub last_term: Term,
    /// Whether it leads and holds a lease, see [`crate::LeaseConfig`].
    pub holds_lease: bool,
    /// What this leader has taken and not seen applied, in bytes as [`crate::Config::max_uncommitted_entries_size`] counts.
    pub uncommitted_bytes: u64,
    /// The configuration in force here.
    pub configuration: Configuration,
    /// The members' progress; empty when it does not lead.
    pub progress: ProgressMap,
}

impl Status {
    pub(crate) fn of<S: Storage>(raft: &crate::raft::Raft<S>) -> Self {
        let last = raft.log.last();
        let progress =
            if raft.role == Role::Leader { raft.tracker.progress.clone() } else { ProgressMap::default() };
        Self {
            id: raft.id,
            hard_state: raft.hard_state(),
            role: raft.role,
            leader: raft.leader,
            transferee: raft.transferee,
            is_learner: raft.is_learner,
            applied: raft.log.applied,
            last_index: last.index,
            last_term: last.term,
            holds_lease: raft.role == Role::Leader && raft.holds_lease(),
            uncommitted_bytes: raft.uncommitted_bytes,
            configuration: raft.tracker.configuration.clone(),
            progress,
        }
    }
}
