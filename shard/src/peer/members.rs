//! Who the region's peers are: the region's list and Raft's configuration say the same, and change together.
//!
//! A change of one voter takes effect at once; one of several goes through a joint configuration, which the leader leaves by itself. Each step
//! raises `conf_ver`.

use super::Peer;
use super::apply::{Applying, Slow};
use super::propose::Waiter;
use crate::command::{self, Header};
use crate::error::ShardError;
use pinion_raft::{ConfChange, ConfState, Entry, RaftError};
use pinion_types::{LogIndex, PeerId, PeerRole, Region, StoreId, Term};

/// A change of members that is being applied.
pub(crate) struct Change {
    change: ConfChange,
    /// Where the peers sit that it names.
    seats: Vec<(PeerId, StoreId)>,
}

/// The configuration that a region's peers make.
pub(super) fn conf_state(region: &Region) -> ConfState {
    let of = |wanted: fn(PeerRole) -> bool| -> Vec<PeerId> {
        region.peers.iter().filter(|peer| wanted(peer.role)).map(|peer| peer.id).collect()
    };
    let is_joint = region.peers.iter().any(|peer| {
        matches!(peer.role, PeerRole::IncomingVoter | PeerRole::DemotingVoter | PeerRole::LeavingVoter)
    });
    ConfState {
        voters: of(PeerRole::is_voter_incoming),
        learners: of(|role| role == PeerRole::Learner),
        voters_outgoing: if is_joint { of(PeerRole::is_voter_outgoing) } else { Vec::new() },
        learners_next: of(|role| role == PeerRole::DemotingVoter),
        auto_leave: is_joint,
    }
}

/// The peers of a configuration, in the order of their ids.
fn peers_of(state: &ConfState, store_of: impl Fn(PeerId) -> Option<StoreId>) -> Vec<pinion_types::Peer> {
    let mut ids: Vec<PeerId> =
        state.voters.iter().chain(&state.learners).chain(&state.voters_outgoing).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let is_joint = !state.voters_outgoing.is_empty();
    let role = |id: &PeerId| match (state.voters.contains(id), state.voters_outgoing.contains(id)) {
        (true, false) if is_joint => PeerRole::IncomingVoter,
        (true, _) => PeerRole::Voter,
        (false, true) if state.learners_next.contains(id) => PeerRole::DemotingVoter,
        (false, true) => PeerRole::LeavingVoter,
        (false, false) => PeerRole::Learner,
    };
    let peer = |id| Some(pinion_types::Peer { id, store: store_of(id)?, role: role(&id) });
    ids.into_iter().filter_map(peer).collect()
}

impl Peer {
    /// Takes a change of members apart; the shard goes on with it.
    pub(super) fn begin_change(
        &self,
        entry: &Entry,
        waiters: Vec<Waiter>,
    ) -> Result<Option<Slow>, ShardError> {
        let malformed = |source| ShardError::MalformedEntry { region: self.id, index: entry.index, source };
        let change = ConfChange::decode(entry.kind, &entry.data).map_err(|error| ShardError::Raft {
            region: self.id,
            what: format!("entry {}: {error}", entry.index),
        })?;
        let epoch = self.region.borrow().epoch;
        // Raft's own leave of a joint configuration says nothing more.
        let (header, seats) = match change.context.is_empty() {
            true => (Header { stamp_ms: 0, epoch }, Vec::new()),
            false => command::decode_members(&change.context).map_err(malformed)?,
        };
        self.stamp.raise(header.stamp_ms);
        let applying = Applying::new((entry.index, entry.term), header, waiters);
        Ok(Some(Slow::Change(applying, Change { change, seats })))
    }

    /// Puts a change into force, unless it was proposed in another epoch or has been applied before. Whether the region's peers changed.
    pub(crate) fn change_members(&self, applying: &Applying, change: &Change) -> Result<bool, ShardError> {
        let (index, _) = applying.position;
        let region = self.region.borrow().clone();
        if index <= self.changed_at.get() || applying.header().epoch.conf_ver != region.epoch.conf_ver {
            return Ok(false);
        }
        let state = match self.node.borrow_mut().apply_conf_change(&change.change) {
            Ok(state) => state,
            // It does not fit what is in force, on any member.
            Err(RaftError::ConfChange(error)) => {
                log::warn!("region {}: a change of members at {index} is refused: {error}", self.id);
                return Ok(false);
            }
            Err(RaftError::Superseded) => return Ok(false),
            Err(error) => {
                return Err(ShardError::Raft { region: self.id, what: error.to_string() });
            }
        };
        let seat_of = |id| change.seats.iter().find(|(peer, _)| *peer == id).map(|(_, store)| *store);
        let known = |id| region.peers.iter().find(|peer| peer.id == id).map(|peer| peer.store);
        let peers = peers_of(&state, |id| known(id).or_else(|| seat_of(id)));
        let mut changed = Region { peers, ..region };
        changed.epoch.conf_ver += 1;
        log::debug!("region {}: its peers are {:?} from entry {index} on", self.id, changed.peers);
        self.change_region(changed, index);
        self.forget_strangers();
        Ok(true)
    }

    /// Takes a new description of the region, which an entry has made.
    pub(crate) fn change_region(&self, region: Region, index: LogIndex) {
        *self.region.borrow_mut() = region;
        self.changed_at.set(index);
        self.snapshots.members_changed(index);
    }

    /// The region after a split, whose entry stands at `position`.
    pub(crate) fn set_region(&self, region: Region, position: (LogIndex, Term)) {
        self.change_region(region, position.0);
        self.wrote(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::RegionId;

    #[test]
    fn a_region_and_its_configuration_say_the_same() {
        let roles = [
            PeerRole::Voter,
            PeerRole::Learner,
            PeerRole::IncomingVoter,
            PeerRole::DemotingVoter,
            PeerRole::LeavingVoter,
        ];
        let peers: Vec<_> = (1..)
            .zip(roles)
            .map(|(id, role)| pinion_types::Peer { id: PeerId(id), store: StoreId(id + 10), role })
            .collect();
        let store_of = |id: PeerId| Some(StoreId(id.0 + 10));
        for count in 1..=peers.len() {
            let region = Region { id: RegionId(1), peers: peers[..count].to_vec(), ..Region::default() };
            assert_eq!(peers_of(&conf_state(&region), store_of), region.peers);
        }
    }
}
