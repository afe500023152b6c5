//! Regions: a key range with an id, an epoch and the peers that keep it.

use crate::{LogIndex, PeerId, RegionId, StoreId, Term};

/// Raft index and term at which a new region's log begins, as in the course (`RAFT_INIT_LOG_INDEX`).
pub const INITIAL_POSITION: (LogIndex, Term) = (LogIndex(5), Term(5));

/// How often a region's membership and its range changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Grows by one with every change of peers.
    pub conf_ver: u64,
    /// Grows with every split and merge.
    pub version: u64,
}

impl Epoch {
    /// The epoch of a region that was just bootstrapped.
    pub const INITIAL: Self = Self { conf_ver: 1, version: 1 };

    /// Whether this epoch is behind `other` in either count.
    pub fn is_stale(self, other: Self) -> bool {
        self.version < other.version || self.conf_ver < other.conf_ver
    }
}

/// What a peer may do in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PeerRole {
    /// Votes and counts in quorums.
    #[default]
    Voter,
    /// Receives the log and neither votes nor counts.
    Learner,
    /// Votes in the incoming half of a joint configuration only; a voter when that is left.
    IncomingVoter,
    /// Votes in the outgoing half of a joint configuration only; a learner when that is left.
    DemotingVoter,
    /// Votes in the outgoing half of a joint configuration only; removed when that is left.
    LeavingVoter,
}

impl PeerRole {
    /// Whether the peer votes in the incoming half of its configuration: the one half of a configuration that is not joint.
    pub fn is_voter_incoming(self) -> bool {
        matches!(self, Self::Voter | Self::IncomingVoter)
    }

    /// Whether the peer votes in the outgoing half of its configuration, if that is joint.
    pub fn is_voter_outgoing(self) -> bool {
        matches!(self, Self::Voter | Self::DemotingVoter | Self::LeavingVoter)
    }
}

/// A region's replica on a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The replica's id.
    pub id: PeerId,
    /// The store that keeps it.
    pub store: StoreId,
    /// What it may do in its group.
    pub role: PeerRole,
}

/// A key range `[start, end)` of stored keys; an empty `end` means no end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Region {
    /// The region's id.
    pub id: RegionId,
    /// First stored key of the region.
    pub start: Vec<u8>,
    /// First stored key after the region; empty for no end.
    pub end: Vec<u8>,
    /// Membership and range version.
    pub epoch: Epoch,
    /// The replicas.
    pub peers: Vec<Peer>,
}

impl Region {
    /// Whether a stored key lies in `[start, end)`.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.is_before_end(key)
    }

    /// Whether a stored key lies in `[start, end]`: the bound of a range may stand at the region's end.
    pub fn contains_inclusive(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && (self.is_before_end(key) || key == self.end.as_slice())
    }

    /// Whether a stored key lies in `(start, end)`: where a region may be split.
    pub fn contains_exclusive(&self, key: &[u8]) -> bool {
        key > self.start.as_slice() && self.is_before_end(key)
    }

    fn is_before_end(&self, key: &[u8]) -> bool {
        self.end.is_empty() || key < self.end.as_slice()
    }

    /// The peer on `store`, if there is one.
    pub fn peer_on(&self, store: StoreId) -> Option<Peer> {
        self.peers.iter().copied().find(|peer| peer.store == store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: &[u8], end: &[u8]) -> Region {
        Region { start: start.to_vec(), end: end.to_vec(), ..Region::default() }
    }

    #[test]
    fn an_empty_end_means_no_end() {
        assert!(region(b"b", b"").contains(b"zzz"));
        assert!(!region(b"b", b"").contains(b"a"));
        assert!(region(b"b", b"").contains_exclusive(b"c"));
    }

    #[test]
    fn a_joint_role_votes_in_one_half_and_a_voter_in_both() {
        let halves = [
            (PeerRole::Voter, (true, true)),
            (PeerRole::Learner, (false, false)),
            (PeerRole::IncomingVoter, (true, false)),
            (PeerRole::DemotingVoter, (false, true)),
            (PeerRole::LeavingVoter, (false, true)),
        ];
        for (role, votes) in halves {
            assert_eq!((role.is_voter_incoming(), role.is_voter_outgoing()), votes, "{role:?}");
        }
    }

    #[test]
    fn bounds_are_half_open() {
        let region = region(b"b", b"d");
        assert!(region.contains(b"b") && !region.contains(b"d"));
        assert!(region.contains_inclusive(b"d") && !region.contains_inclusive(b"da"));
        assert!(!region.contains_exclusive(b"b") && region.contains_exclusive(b"c"));
    }
}
