//! A peer among the others of its region: ticks, messages in and out, and who sits where.

use super::Peer;
use pinion_capnp::WireError;
use pinion_capnp::link::RegionMessage;
use pinion_raft::{Message, MessageKind, NO_PEER, Role};
use pinion_runtime::Instant;
use pinion_types::map::HashMap;
use pinion_types::{CoreId, LogIndex, PeerId, StoreId};

/// Peers whose places are remembered beside those of the region's own: whoever writes first to a peer that knows no region yet.
const STRANGERS_MAX: usize = 16;

/// Ticks for which those wait on who was leader when it took their proposals and is not any more. Whether they were done it may never learn: its
/// log may end before them now, and nothing new come.
const PROPOSALS_OUTLIVE_TICKS: u32 = 40;

/// Where a peer sits: its store, the core of it that wrote last, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    store: StoreId,
    core: CoreId,
    heard: Instant,
}

/// The seats of those who wrote to a peer.
pub(super) type Seats = HashMap<PeerId, Seat>;

/// Whether a message may make its receiver's peer: a candidate's, or the heartbeat of a leader that knows nothing of the receiver's log. Any
/// other is the business of a peer that is there.
pub(crate) fn is_initial(message: &Message) -> bool {
    match message.kind {
        MessageKind::Vote | MessageKind::PreVote => true,
        MessageKind::Heartbeat => message.commit == LogIndex(0),
        _ => false,
    }
}

impl Peer {
    /// Whether the region has no other peer: it needs no ticks and nobody's word.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.region.borrow().peers.as_slice(), [only] if only.id == self.replica.id)
    }

    /// Whether the peer knows nothing of its region yet: it waits for a snapshot.
    pub(crate) fn is_blank(&self) -> bool {
        self.region.borrow().peers.is_empty()
    }

    /// Time passes.
    pub(crate) fn tick(&self) {
        self.node.borrow_mut().tick();
        self.reads.borrow_mut().tick();
        if self.compaction_refused.take() {
            self.forget_compaction();
        }
        let silent = if self.is_leader() { 0 } else { self.silent_ticks.get() + 1 };
        self.silent_ticks.set(silent);
        let is_waited_for = !self.is_leader() && !self.has_answered_all();
        self.orphaned_ticks.set(if is_waited_for { self.orphaned_ticks.get() + 1 } else { 0 });
        if self.orphaned_ticks.get() > PROPOSALS_OUTLIVE_TICKS {
            self.abandon_through(LogIndex(u64::MAX));
        }
    }

    /// Whether the peer has heard of no leader for so many ticks, or a multiple of them.
    pub(crate) fn is_forgotten(&self, ticks: u32) -> bool {
        let silent = self.silent_ticks.get();
        silent > 0 && silent.is_multiple_of(ticks)
    }

    /// Takes a message of another peer, which is for this one.
    pub(crate) fn step(&self, message: RegionMessage) {
        self.remember(&message);
        let is_of_leader = matches!(
            message.message.kind,
            MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot
        );
        if is_of_leader {
            self.silent_ticks.set(0);
        }
        if let Err(error) = self.node.borrow_mut().step(message.message) {
            log::debug!("region {}: a message of peer {} is dropped: {error}", self.id, message.from.id);
        }
    }

    fn remember(&self, message: &RegionMessage) {
        let mut seats = self.seats.borrow_mut();
        let is_known = seats.contains_key(&message.from.id) || self.has_member(message.from.id);
        if is_known || seats.len() < STRANGERS_MAX {
            let seat =
                Seat { store: message.from.store, core: message.from_core, heard: pinion_runtime::now() };
            seats.insert(message.from.id, seat);
        }
    }

    /// Whether the region, as this peer knows it, has such a peer.
    pub(crate) fn has_member(&self, id: PeerId) -> bool {
        self.region.borrow().peers.iter().any(|member| member.id == id)
    }

    /// Forgets the seats of peers that the region no longer has.
    pub(super) fn forget_strangers(&self) {
        self.seats.borrow_mut().retain(|id, _| self.has_member(*id));
    }

    /// A peer of the region by its id, as far as it is known where it sits.
    pub(crate) fn member(&self, id: PeerId) -> Option<pinion_types::Peer> {
        let region = self.region.borrow();
        region.peers.iter().find(|member| member.id == id).copied().or_else(|| {
            let seat = *self.seats.borrow().get(&id)?;
            Some(pinion_types::Peer { id, store: seat.store, ..Default::default() })
        })
    }

    /// Who leads the region, as far as this peer knows.
    pub(crate) fn leader(&self) -> Option<pinion_types::Peer> {
        let leader = self.node.borrow().soft_state().leader;
        if leader == NO_PEER { None } else { self.member(leader) }
    }

    /// What a caller is told who must go to the leader.
    pub(crate) fn not_leader(&self) -> WireError {
        WireError::NotLeader { region: self.id, leader: self.leader() }
    }

    /// Puts the address on a message of this peer's. `None` when nobody knows where its receiver sits.
    pub(crate) fn addressed(&self, message: Message, from_core: CoreId) -> Option<(CoreId, RegionMessage)> {
        let to = self.member(message.to)?;
        let core = self.seats.borrow().get(&message.to).map_or(CoreId(0), |seat| seat.core);
        let region = self.region.borrow();
        let (start, end) = match is_initial(&message) || message.kind == MessageKind::Snapshot {
            true => (region.start.clone(), region.end.clone()),
            false => (Vec::new(), Vec::new()),
        };
        let message = RegionMessage {
            region: self.id,
            epoch: region.epoch,
            from: self.replica,
            to,
            start,
            end,
            from_core,
            gone: false,
            message,
        };
        Some((core, message))
    }

    /// Hears that a message to this peer was lost.
    pub(crate) fn report_unreachable(&self, id: PeerId) {
        if self.is_leader() {
            self.node.borrow_mut().report_unreachable(id);
        }
    }

    /// The configuration that the region's peers make.
    pub(crate) fn conf_state(&self) -> pinion_raft::ConfState {
        super::members::conf_state(&self.region.borrow())
    }

    /// The snapshot that Raft waited for can be had, or can't: it asks again with the next answer of the peer.
    pub(crate) fn snapshot_made(&self) {
        self.node.borrow_mut().entries_available();
    }

    /// Hears what became of a snapshot for this peer.
    pub(crate) fn report_snapshot(&self, id: PeerId, arrived: bool) {
        self.node.borrow_mut().report_snapshot(id, arrived);
    }

    /// Whether a change of members is half done.
    pub(crate) fn is_joint(&self) -> bool {
        !super::members::conf_state(&self.region.borrow()).voters_outgoing.is_empty()
    }

    /// Whether a member has written within the least election timeout: a leader hears from each several times in it.
    pub(super) fn is_reached(&self, id: PeerId) -> bool {
        let seats = self.seats.borrow();
        seats.get(&id).is_some_and(|seat| seat.heard.elapsed() <= self.silence_max)
    }

    /// Members that this leader does not hear from.
    pub(crate) fn unreachable(&self) -> Vec<PeerId> {
        let region = self.region.borrow();
        let ids = region.peers.iter().map(|member| member.id);
        ids.filter(|id| *id != self.replica.id && !self.is_reached(*id)).collect()
    }

    /// Up to where every member that can be reached has the log.
    pub(crate) fn slowest_match(&self) -> LogIndex {
        let node = self.node.borrow();
        let members = node.tracker().progress.iter();
        let reached = members.filter(|(id, _)| *id != self.replica.id && self.is_reached(*id));
        reached.map(|(_, progress)| progress.matched).min().unwrap_or(LogIndex(u64::MAX))
    }

    /// The voter that is the best successor of this leader: it can be reached, and has the most of the log.
    pub(crate) fn successor(&self) -> Option<PeerId> {
        let region = self.region.borrow();
        let node = self.node.borrow();
        let progress = &node.tracker().progress;
        let rank = |member: &pinion_types::Peer| {
            let progress = progress.get(member.id)?;
            let may_lead = member.role == pinion_types::PeerRole::Voter
                && member.id != self.replica.id
                && self.is_reached(member.id);
            may_lead.then_some((progress.matched, member.id))
        };
        region.peers.iter().filter_map(rank).max().map(|(_, id)| id)
    }

    /// Asks a voter to take over leadership.
    pub(crate) fn transfer_to(&self, id: PeerId) {
        self.node.borrow_mut().transfer_leader(id);
    }

    /// Members that the leader has to bring up to date: those that have nothing, lag by more than `lag_max` entries, or wait for a snapshot.
    pub(crate) fn lagging(&self, lag_max: u64) -> Vec<PeerId> {
        let node = self.node.borrow();
        if node.soft_state().role != Role::Leader {
            return Vec::new();
        }
        let committed = node.hard_state().commit.0;
        let progress = &node.tracker().progress;
        let mut behind: Vec<PeerId> = progress
            .iter()
            .filter(|(id, progress)| {
                *id != self.replica.id
                    && (progress.matched == LogIndex(0)
                        || progress.matched.0 + lag_max < committed
                        || progress.pending_snapshot != LogIndex(0))
            })
            .map(|(id, _)| id)
            .collect();
        behind.sort_unstable();
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_is_initial_msg() {
        let message = |kind, commit| Message { kind, commit: LogIndex(commit), ..Message::default() };
        for (kind, commit, expected) in [
            (MessageKind::Vote, 0, true),
            (MessageKind::PreVote, 9, true),
            (MessageKind::Heartbeat, 0, true),
            (MessageKind::Heartbeat, 1, false),
            (MessageKind::Append, 0, false),
            (MessageKind::Snapshot, 0, false),
        ] {
            assert_eq!(is_initial(&message(kind, commit)), expected, "{kind:?} {commit}");
        }
    }
}
