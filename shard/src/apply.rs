//! Applying what is committed: at once where it can be, in a task of its own where an entry needs the disk, and later where the memtables have
//! no room.
//!
//! Where this store leads, writers wait for room before they propose. Where it follows, others propose, and a slow disk would fill the memory: what is
//! committed then waits in the log, and of a region that has something waiting no more is taken while the log's entries in memory are
//! [`ENTRIES_FACTOR`] times their budget. Its leader sends them again, or a snapshot. What waits needs nothing but this store's disk to be
//! applied, so that it goes on.

use crate::core::Shard;
use crate::error::ShardError;
use crate::peer::{Peer, Slow};
use std::rc::Rc;

/// Bytes of entries that are applied before it is looked again whether the memtables have room.
const APPLY_BYTES_MAX: usize = 64 << 10;
/// How many times their budget the log's entries in memory may be while a region has more to apply.
const ENTRIES_FACTOR: usize = 2;

impl Shard {
    /// Applies a peer's committed entries. An entry that must wait for the disk goes on in a task of its own.
    pub(crate) fn apply(&self, peer: &Rc<Peer>) {
        // What the log was not given must not be in a tree either.
        if peer.is_gone() || peer.is_installing() || self.has_failed() {
            return;
        }
        let mut applied = Ok(None);
        while matches!(applied, Ok(None)) && peer.can_apply() {
            if !self.0.engine.has_room(!peer.is_leader()) {
                self.apply_later(peer);
                break;
            }
            applied = peer.apply_queued(APPLY_BYTES_MAX);
        }
        match applied {
            Ok(None) => self.after_applying(peer),
            Ok(Some(slow)) => {
                let (shard, peer) = (self.clone(), peer.clone());
                pinion_runtime::spawn(async move {
                    match shard.apply_slow(&peer, slow).await {
                        Ok(()) => shard.apply(&peer),
                        Err(error) => shard.fail(&error),
                    }
                });
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Goes on with a peer's entries when the memtables have room again.
    fn apply_later(&self, peer: &Rc<Peer>) {
        if peer.wait_for_room() {
            self.0.held_back.set(self.0.held_back.get() + 1);
            let (shard, peer) = (self.clone(), peer.clone());
            pinion_runtime::spawn(async move {
                shard.0.engine.wait_for_room(!peer.is_leader()).await;
                peer.stop_waiting_for_room();
                // A start finds it in the log.
                if !shard.0.stopping.get() {
                    shard.apply(&peer);
                }
            });
        }
    }

    /// How often entries were not applied at once because the memtables were full.
    pub fn times_held_back(&self) -> u64 {
        self.0.held_back.get()
    }

    /// Whether no more of a region is taken for now: it has something to apply, and the log has too much in memory.
    pub(crate) fn is_behind(&self, peer: &Peer) -> bool {
        let log = self.0.engine.log();
        log.cached_bytes() > ENTRIES_FACTOR * self.0.engine.options().log.cache_bytes && peer.has_unapplied()
    }

    /// Lets Raft, the log and the engine know how far a peer is. Raft may have more for it now.
    fn after_applying(&self, peer: &Rc<Peer>) {
        peer.acknowledge_applied();
        let engine = &self.0.engine;
        engine.log().applied(peer.id(), peer.tree().applied().0);
        engine.after_writes();
        if peer.has_work() && peer.takes_turns() {
            self.enqueue(peer);
        }
        if !peer.is_leader() || peer.is_frozen() {
            return;
        }
        let limits = &self.0.limits;
        let due = peer.compaction_due(engine.log(), limits.log_entries_max, limits.log_bytes_max);
        self.compact_log_through(peer, due);
    }

    pub(crate) async fn apply_slow(&self, peer: &Rc<Peer>, slow: Slow) -> Result<(), ShardError> {
        match slow {
            Slow::CompareAndSwap(applying, command) => peer.apply_condition_slowly(applying, command).await,
            Slow::Split(applying, new) => self.apply_split(peer, applying, new).await,
            Slow::Change(applying, change) => self.apply_change(peer, applying, &change),
            Slow::Compact(applying, index, term) => {
                self.apply_compaction(peer, applying, index, term);
                Ok(())
            }
        }
    }
}
