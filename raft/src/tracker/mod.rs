//! What a node knows of the group: the configuration in force, each member's progress, the votes of an election.

mod inflights;
mod progress;

use std::fmt;

use pinion_types::{LogIndex, PeerId};

pub use inflights::Inflights;
pub use progress::{Progress, ProgressMap, ProgressState};

use crate::ConfState;
use crate::quorum::{JointConfig, MajorityConfig, VoteResult};

/// Who votes and who learns.
///
/// Invariants: voters and learners are disjoint; who is in `learners_next` votes in the outgoing half; without an
/// outgoing half `learners_next` is empty and `auto_leave` is false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The voters, in two halves while a change is under way.
    pub voters: JointConfig,
    /// Who receives the log without a vote.
    pub learners: MajorityConfig,
    /// Who becomes a learner when the joint configuration is left.
    pub learners_next: MajorityConfig,
    /// Whether the leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

impl Configuration {
    /// The form in which it is stored.
    pub fn to_conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.incoming.ids().to_vec(),
            learners: self.learners.ids().to_vec(),
            voters_outgoing: self.voters.outgoing.ids().to_vec(),
            learners_next: self.learners_next.ids().to_vec(),
            auto_leave: self.auto_leave,
        }
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={}", self.voters)?;
        if !self.learners.is_empty() {
            write!(f, " learners={}", self.learners)?;
        }
        if !self.learners_next.is_empty() {
            write!(f, " learners_next={}", self.learners_next)?;
        }
        if self.auto_leave { f.write_str(" autoleave") } else { Ok(()) }
    }
}

/// The configuration with the progress of its members, and the votes of the election under way.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    /// Who is in the group.
    pub configuration: Configuration,
    /// How far they are.
    pub progress: ProgressMap,
    votes: Vec<(PeerId, bool)>,
    inflight_messages_max: usize,
    inflight_bytes_max: u64,
}

impl Tracker {
    /// One without members; each member's window will be bounded by this many messages and bytes.
    pub fn new(inflight_messages_max: usize, inflight_bytes_max: u64) -> Self {
        Self { inflight_messages_max, inflight_bytes_max, ..Self::default() }
    }

    /// One without members, with the same bounds.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.inflight_messages_max, self.inflight_bytes_max)
    }

    pub(crate) fn new_inflights(&self) -> Inflights {
        Inflights::new(self.inflight_messages_max, self.inflight_bytes_max)
    }

    /// The greatest index that a quorum is known to hold durably.
    pub(crate) fn committed(&self) -> LogIndex {
        self.configuration.voters.committed_index(|id| self.progress.get(id).map(|progress| progress.matched))
    }

    /// Whether a quorum was heard since the marks were last cleared.
    pub(crate) fn quorum_recently_active(&self) -> bool {
        let active = |id| self.progress.get(id).filter(|progress| !progress.is_learner);
        let result =
            self.configuration.voters.vote_result(|id| active(id).map(|progress| progress.recently_active));
        result == VoteResult::Won
    }

    pub(crate) fn reset_votes(&mut self) {
        self.votes.clear();
    }

    /// Keeps the first vote that each peer gives.
    pub(crate) fn record_vote(&mut self, id: PeerId, granted: bool) {
        if !self.votes.iter().any(|(voter, _)| *voter == id) {
            self.votes.push((id, granted));
        }
    }

    fn vote(&self, id: PeerId) -> Option<bool> {
        self.votes.iter().find(|(voter, _)| *voter == id).map(|(_, granted)| *granted)
    }

    /// Votes granted and refused by members that vote, and how the election stands.
    pub(crate) fn tally_votes(&self) -> (usize, usize, VoteResult) {
        let voters = self.progress.iter().filter(|(_, progress)| !progress.is_learner);
        let (mut granted, mut refused) = (0, 0);
        for vote in voters.filter_map(|(id, _)| self.vote(id)) {
            if vote { granted += 1 } else { refused += 1 }
        }
        (granted, refused, self.configuration.voters.vote_result(|id| self.vote(id)))
    }
}
