//! A peer's part of the core's turn: what Raft wants written, and what follows when it is.

use super::Peer;
use pinion_engine::log::Record;
use pinion_raft::Ready;
use pinion_types::RegionId;

/// What one turn gives to the log for one peer.
pub(crate) struct Persist {
    ready: Box<Ready>,
}

impl Persist {
    /// Whether the log must sync before the peer goes on.
    pub(crate) fn must_sync(&self) -> bool {
        self.ready.must_sync
    }

    /// The log's records of it.
    pub(crate) fn records<'a>(&'a self, stream: RegionId, to: &mut Vec<Record<'a>>) {
        if let Some(state) = &self.ready.hard_state {
            to.push(Record::HardState { stream, term: state.term, vote: state.vote.0, commit: state.commit });
        }
        to.extend(self.ready.entries.iter().map(|entry| Record::Entry {
            stream,
            index: entry.index,
            term: entry.term,
            payload: &entry.data,
        }));
    }
}

impl Peer {
    /// The peer's part of a turn: proposes what is pending, and takes from Raft what is to be written, unless the part of an earlier turn
    /// is not written yet.
    pub(crate) fn collect(&self) -> Option<Persist> {
        self.queued.set(false);
        if !self.persisting.get() {
            self.propose_pending();
        }
        self.take_ready()
    }

    /// What Raft has to be written and to be applied, and nothing new; unless the part of an earlier turn is not written yet.
    pub(crate) fn take_ready(&self) -> Option<Persist> {
        if self.persisting.get() {
            return None;
        }
        let mut node = self.node.borrow_mut();
        if !node.has_ready() {
            return None;
        }
        let mut ready = node.ready();
        drop(node);
        self.queue_committed(ready.committed_entries.drain(..));
        self.persisting.set(true);
        Some(Persist { ready })
    }

    /// A turn's part is written: Raft goes on, and commits what a quorum now holds.
    pub(crate) fn persisted(&self, persist: Persist) {
        self.persisting.set(false);
        self.node.borrow_mut().advance(persist.ready);
    }

    /// Whether another turn would have something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.persisting.get() && (!self.pending.borrow().is_empty() || self.node.borrow().has_ready())
    }

    /// Marks the peer as being in the loop's list; whether it was not.
    pub(crate) fn enqueue(&self) -> bool {
        !self.queued.replace(true)
    }
}
