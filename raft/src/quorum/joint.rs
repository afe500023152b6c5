//! Two sets of voters, each of which must agree.

use std::fmt;

use pinion_types::{LogIndex, PeerId};

use super::{MajorityConfig, VoteResult};

/// The configuration between two configurations; with an empty outgoing half, simply the incoming one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JointConfig {
    /// The voters to come, or those in force when nothing is under way.
    pub incoming: MajorityConfig,
    /// The voters to go.
    pub outgoing: MajorityConfig,
}

impl JointConfig {
    /// Whether a change is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this peer votes in either half.
    pub fn contains(&self, id: PeerId) -> bool {
        self.incoming.contains(id) || self.outgoing.contains(id)
    }

    /// The voters of both halves, ascending and without repetition.
    pub fn ids(&self) -> MajorityConfig {
        self.incoming.ids().iter().chain(self.outgoing.ids()).copied().collect()
    }

    /// Whether one voter decides alone.
    pub fn is_singleton(&self) -> bool {
        self.incoming.len() == 1 && self.outgoing.is_empty()
    }

    /// What both halves have committed.
    pub fn committed_index(&self, acked: impl Fn(PeerId) -> Option<LogIndex>) -> LogIndex {
        self.incoming.committed_index(&acked).min(self.outgoing.committed_index(&acked))
    }

    /// The greatest number that a quorum of both halves has reached.
    pub(crate) fn reached(&self, by: impl Fn(PeerId) -> u64) -> u64 {
        self.incoming.reached(&by).min(self.outgoing.reached(&by))
    }

    /// Won when both halves have won, lost when either has lost.
    pub fn vote_result(&self, vote: impl Fn(PeerId) -> Option<bool>) -> VoteResult {
        match (self.incoming.vote_result(&vote), self.outgoing.vote_result(&vote)) {
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }

    /// A table of who has acknowledged what, see [`MajorityConfig::describe`].
    pub fn describe(&self, acked: impl Fn(PeerId) -> Option<LogIndex>) -> String {
        self.ids().describe(acked)
    }
}

impl fmt::Display for JointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.incoming.fmt(f)?;
        if self.is_joint() { write!(f, "&&{}", self.outgoing) } else { Ok(()) }
    }
}
