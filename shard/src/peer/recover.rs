//! From what the engine found of a region to a peer at work.

use super::Peer;
use super::barrier::Reads;
use super::members::conf_state;
use super::propose::{Pending, entry_bytes_max};
use crate::command;
use crate::core::{RaftTiming, Shard};
use crate::error::ShardError;
use crate::meta::Meta;
use crate::stamp::Stamp;
use crate::storage::{PeerStorage, raft_entry};
use pinion_capnp::WireError;
use pinion_engine::RecoveredRegion;
use pinion_raft::{ApplyAhead, Config, DropReason, HardState, History, LeaseConfig, RaftError, RawNode};
use pinion_types::{Epoch, LogIndex, PeerId, Region};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// When a caller should come back whose region waits for its followers.
const UNCOMMITTED_WAIT: Duration = Duration::from_millis(20);
/// Bytes of entries on their way to one follower, and those that wait for a quorum: what one region may take of a core's memory. Less holds a
/// distant follower back.
const INFLIGHT_BYTES_MAX: u64 = 8 << 20;
const UNCOMMITTED_BYTES_MAX: u64 = 32 << 20;
/// Bytes of entries that are read from the log at a time.
const REPLAY_BYTES_MAX: usize = 4 << 20;

impl Peer {
    /// The peer of a region that the engine found or made: applies again what was committed and is not in the tree, and starts Raft.
    ///
    /// `is_new`: it was just made, and has never promised or voted for anything.
    pub(crate) async fn recover(
        shard: &Shard,
        found: RecoveredRegion,
        is_new: bool,
    ) -> Result<Rc<Self>, ShardError> {
        let id = found.id;
        let meta =
            Meta::decode(found.meta).map_err(|source| ShardError::MalformedMeta { region: id, source })?;
        let own = pinion_types::Peer { id: meta.own, store: shard.0.store, ..Default::default() };
        let log = shard.0.engine.log().clone();
        let (term, vote, commit) = found.hard_state;
        let hard_state = HardState { term, vote: PeerId(vote), commit };
        let storage = PeerStorage::new(log.clone(), id, hard_state, conf_state(&meta.region));
        let (wanted, snapshots) = (storage.wanted(), storage.snapshots());
        let history = if is_new { History::New } else { history(&meta.region) };
        let mut config = raft_config(own.id, &shard.0.limits.raft, history);
        config.applied = commit.max(found.tree.applied().0);
        log::debug!(
            "core {}: region {id} [{:?}, {:?}) generation {}, flushed {}, commit {commit}, log {} to {}, term {term}",
            shard.0.core,
            String::from_utf8_lossy(&meta.region.start),
            String::from_utf8_lossy(&meta.region.end),
            found.generation,
            found.tree.flushed().0,
            log.first_index(id),
            log.last_index(id),
        );
        log.applied(id, found.tree.applied().0);
        // Raft looks for changes of members in what it does not know to be committed.
        let (mut next, last) = (commit.next(), log.last_index(id));
        while next <= last {
            next = log.load(id, next, last.next(), REPLAY_BYTES_MAX).await?.next();
        }
        let node = RawNode::new(config, storage).map_err(|error| raft_error(id, &error))?;
        let peer = Rc::new(Self {
            id,
            replica: own,
            region: RefCell::new(meta.region),
            generation: found.generation,
            node: RefCell::new(node),
            wanted,
            loading: Cell::new(false),
            snapshots,
            installing: Cell::new(false),
            applied: Cell::new(found.tree.applied()),
            tree: RefCell::new(found.tree),
            changed_at: Cell::new(meta.changed_at),
            seats: RefCell::default(),
            silence_max: shard.0.limits.raft.promise(),
            silent_ticks: Cell::new(0),
            orphaned_ticks: Cell::new(0),
            reads: RefCell::new(Reads::new()),
            gone: Cell::new(false),
            deaf: Cell::new(false),
            stamp: Stamp::new(meta.stamp_ms),
            entry_bytes_max: entry_bytes_max(&log),
            pending: RefCell::new(Pending::default()),
            proposed: RefCell::default(),
            to_apply: RefCell::new(VecDeque::new()),
            compacting: Cell::new(false),
            compaction_refused: Cell::new(false),
            applying: Cell::new(false),
            waits_for_room: Cell::new(false),
            writing: Cell::new(0),
            to_acknowledge: RefCell::default(),
            queued: Cell::new(false),
            frozen: Cell::new(false),
        });
        peer.replay(shard, commit).await?;
        Ok(peer)
    }

    /// Applies the entries that were committed before the start and are not in the tree.
    async fn replay(self: &Rc<Self>, shard: &Shard, commit: LogIndex) -> Result<(), ShardError> {
        let log = shard.0.engine.log();
        let last_applied = self.applied.get().0;
        log.applied(self.id, last_applied);
        // The stamp of what is in the tree already: it never goes back.
        if last_applied >= log.first_index(self.id) && last_applied <= log.last_index(self.id) {
            for entry in log.entries(self.id, last_applied, last_applied.next(), REPLAY_BYTES_MAX).await? {
                if let Ok((header, _)) = command::decode(&entry.payload) {
                    self.stamp.raise(header.stamp_ms);
                }
            }
        }
        while self.applied.get().0 < commit {
            let low = self.applied.get().0.next();
            let entries = log.entries_for_replay(self.id, low, commit.next(), REPLAY_BYTES_MAX).await?;
            assert!(!entries.is_empty(), "the log holds what is committed and not in the tree");
            let entries = entries.into_iter().map(|entry| raft_entry(self.id, entry));
            self.queue_committed(entries.collect::<Result<Vec<_>, _>>()?);
            while let Some(slow) = self.apply_queued(usize::MAX)? {
                Box::pin(shard.apply_slow(self, slow)).await?;
            }
            log.applied(self.id, self.applied.get().0);
            shard.0.engine.make_room().await?;
        }
        Ok(())
    }

    /// Campaigns, unless it leads: where it is the only voter it then leads.
    pub(crate) fn lead(&self) {
        if !self.is_leader() {
            self.node.borrow_mut().campaign();
        }
    }

    /// The region's stamp, raised to the clock.
    pub(crate) fn stamp_ms(&self) -> u64 {
        self.stamp.tick()
    }

    /// The description of a region with this peer's stamp.
    pub(crate) fn meta_of(&self, region: &Region) -> Meta {
        Meta {
            region: region.clone(),
            stamp_ms: self.stamp.get(),
            changed_at: self.changed_at.get(),
            own: self.replica.id,
        }
    }

    /// What a caller with another epoch learns.
    pub(crate) fn epoch_not_match(&self) -> WireError {
        WireError::EpochNotMatch { current: vec![self.region.borrow().clone()] }
    }

    /// What a caller is told whose proposal Raft refused.
    pub(super) fn refusal(&self, error: &RaftError) -> WireError {
        match error {
            RaftError::ProposalDropped(DropReason::Uncommitted { .. }) => {
                WireError::ServerBusy { retry_after: UNCOMMITTED_WAIT }
            }
            RaftError::ProposalDropped(_) => self.not_leader(),
            other => WireError::Internal(other.to_string()),
        }
    }
}

fn raft_error(region: pinion_types::RegionId, error: &RaftError) -> ShardError {
    ShardError::Raft { region, what: error.to_string() }
}

/// What a peer that has run may have promised: a region whose members never changed and that has one had nobody else.
fn history(region: &Region) -> History {
    let is_alone = region.peers.len() == 1 && region.epoch.conf_ver == Epoch::INITIAL.conf_ver;
    if is_alone { History::Alone } else { History::Member }
}

/// How every peer's Raft is set up.
fn raft_config(own: PeerId, timing: &RaftTiming, history: History) -> Config {
    Config {
        election_tick: timing.election_ticks,
        heartbeat_tick: timing.heartbeat_ticks,
        async_storage_writes: true,
        apply_unpersisted: ApplyAhead::Yes,
        // A command carries the stamp and the epoch of the leader that it was given to.
        disable_proposal_forwarding: true,
        max_inflight_bytes: INFLIGHT_BYTES_MAX,
        max_uncommitted_entries_size: UNCOMMITTED_BYTES_MAX,
        lease: Some(LeaseConfig {
            promise: timing.promise(),
            drift_max: timing.drift_max(),
            history,
            clock: Rc::new(|| Duration::from_nanos(pinion_runtime::now().as_nanos())),
        }),
        timeout_source: Box::new(|range| {
            let width = u64::try_from(range.len().max(1)).unwrap_or(1);
            range.start + usize::try_from(pinion_runtime::random_u64() % width).unwrap_or(0)
        }),
        ..Config::new(own)
    }
}
