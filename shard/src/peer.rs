//! A region's replica on this store: its Raft node, its tree, and who waits for what.
//!
//! - [`propose`]: commands wait for the core's turn and then become entries, many to an entry;
//! - [`apply`]: committed entries change the tree, in order, and answer those who wait;
//! - [`read`]: the tree answers; `barrier` says from when on it may;
//! - `group` and `members`: the region's other peers;
//! - `compaction`: how much of the log is kept for them.
//!
//! Invariants: nobody is answered before their entry was applied, and nothing is applied before a quorum holds it durably. The tree carries
//! the applied index; the two change together.

mod apply;
mod barrier;
mod compaction;
mod group;
mod members;
mod propose;
mod read;
mod ready;
mod recover;

pub(crate) use apply::{Applying, Slow};
pub(crate) use group::is_initial;
pub(crate) use members::Change;
pub(crate) use propose::{Outcome, Proposal};
pub(crate) use read::{ReadValue, ScanLimits};
pub(crate) use ready::{Persist, Turn};

use crate::meta::Meta;
use crate::stamp::Stamp;
use crate::storage::{PeerStorage, Snapshots, Wanted};
use barrier::Reads;
use group::Seats;
use pinion_engine::tree::Tree;
use pinion_raft::{Entry, Message, RawNode};
use pinion_types::{LogIndex, Region, RegionId, Term};
use propose::{Awaited, Pending};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

/// One region at work on this core.
pub(crate) struct Peer {
    id: RegionId,
    replica: pinion_types::Peer,
    region: RefCell<Region>,
    /// How often the region changed cores.
    generation: u64,
    node: RefCell<RawNode<PeerStorage>>,
    wanted: Wanted,
    /// A task brings entries into memory.
    loading: Cell<bool>,
    snapshots: Snapshots,
    /// A snapshot is taking the place of the tree: no turn is taken meanwhile.
    installing: Cell<bool>,
    /// Another one after a snapshot.
    tree: RefCell<Tree>,
    stamp: Stamp,
    /// The last entry whose change of members or range is in `region`.
    changed_at: Cell<LogIndex>,
    seats: RefCell<Seats>,
    /// How long a member may say nothing and still count as reached.
    silence_max: Duration,
    /// Ticks since somebody began to wait for entries of a leader that is none any more.
    orphaned_ticks: Cell<u32>,
    /// Ticks since a leader was last heard of.
    silent_ticks: Cell<u32>,
    reads: RefCell<Reads>,
    /// Bytes of what is proposed at once, at most.
    entry_bytes_max: usize,
    pending: RefCell<Pending>,
    proposed: RefCell<Awaited>,
    to_apply: RefCell<VecDeque<Entry>>,
    /// The last entry that was applied.
    applied: Cell<(LogIndex, Term)>,
    /// A compaction of the log was proposed and is not applied yet.
    compacting: Cell<bool>,
    /// Raft did not take it: it may be proposed again after the next tick.
    compaction_refused: Cell<bool>,
    /// A task is in the middle of applying an entry.
    applying: Cell<bool>,
    /// A task waits for room in the memtables, to go on with what is queued.
    waits_for_room: Cell<bool>,
    /// Parts of turns that are on their way to the log.
    writing: Cell<usize>,
    /// What Raft is to hear when the entries that it handed out are applied, in their order.
    to_acknowledge: RefCell<Vec<Message>>,
    /// The peer is in the loop's list of those that have work.
    queued: Cell<bool>,
    /// The peer is deleted, or about to be.
    gone: Cell<bool>,
    /// No messages are taken either.
    deaf: Cell<bool>,
    /// No new calls are taken: the region is about to change cores.
    frozen: Cell<bool>,
}

impl Peer {
    /// The region's id.
    pub(crate) fn id(&self) -> RegionId {
        self.id
    }

    /// The region as it is now.
    pub(crate) fn region(&self) -> std::cell::Ref<'_, Region> {
        self.region.borrow()
    }

    /// How often the region changed cores.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// This store's replica.
    pub(crate) fn peer(&self) -> pinion_types::Peer {
        self.replica
    }

    /// The region's tree.
    pub(crate) fn tree(&self) -> Tree {
        self.tree.borrow().clone()
    }

    /// Whether this peer leads its group.
    pub(crate) fn is_leader(&self) -> bool {
        self.node.borrow().soft_state().role == pinion_raft::Role::Leader
    }

    /// The last entry that was applied.
    pub(crate) fn applied(&self) -> (LogIndex, Term) {
        self.applied.get()
    }

    /// The peer's term.
    pub(crate) fn term(&self) -> Term {
        self.node.borrow().hard_state().term
    }

    /// What the peer is at, for people.
    pub(crate) fn state(&self) -> String {
        let node = self.node.borrow();
        let hard_state = node.hard_state();
        format!(
            "{:?}, term {}, last index {}, commit {}, applied {} of term {}, {} to apply{}{}{}",
            node.soft_state().role,
            hard_state.term,
            node.last_index(),
            hard_state.commit,
            self.applied.get().0,
            self.applied.get().1,
            self.to_apply.borrow().len(),
            if self.writing.get() > 0 { ", writing" } else { "" },
            if self.applying.get() { ", applying" } else { "" },
            if self.queued.get() { ", queued" } else { "" },
        )
    }

    /// Whether what Raft asked for is to be loaded now, and by the caller: it was not being loaded before.
    pub(crate) fn begins_loading(&self) -> bool {
        self.wanted_entries(LogIndex(0)).is_some() && !self.loading.replace(true)
    }

    /// What Raft asked for, and lacks, was loaded as far as it could be.
    pub(crate) fn ends_loading(&self) {
        self.loading.set(false);
    }

    /// Entries that Raft asked for and that must be loaded: a piece behind the one that began at `after`, if there is one.
    pub(crate) fn wanted_entries(&self, after: LogIndex) -> Option<(LogIndex, LogIndex)> {
        self.wanted.next(after)
    }

    /// The region's snapshots.
    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// A snapshot takes the place of the tree, or has.
    pub(crate) fn set_installing(&self, installing: bool) {
        self.installing.set(installing);
    }

    /// Whether the peer has turns of the core's loop now.
    pub(crate) fn takes_turns(&self) -> bool {
        !self.gone.get() && !self.installing.get()
    }

    /// Whether a snapshot is taking the place of the tree.
    pub(crate) fn is_installing(&self) -> bool {
        self.installing.get()
    }

    /// Raft's hard state, durable or not.
    pub(crate) fn hard_state(&self) -> pinion_raft::HardState {
        self.node.borrow().hard_state()
    }

    /// The last entry whose change of members or range is in the region's description.
    pub(crate) fn changed_at(&self) -> LogIndex {
        self.changed_at.get()
    }

    /// A snapshot has taken the place of everything.
    pub(crate) fn restored(&self, tree: Tree, meta: Meta, position: (LogIndex, Term)) {
        *self.tree.borrow_mut() = tree;
        self.change_region(meta.region, meta.changed_at);
        self.forget_strangers();
        self.stamp.raise(meta.stamp_ms);
        self.to_apply.borrow_mut().clear();
        self.applied.set(position);
        self.compacting.set(false);
        self.abandon_through(position.0);
        self.release_reads();
    }

    /// Something that Raft asked for is in memory now. It asks again for what else it lacks.
    pub(crate) fn entries_loaded(&self) {
        self.wanted.clear();
        self.node.borrow_mut().entries_available();
    }

    /// Whether nothing waits to be proposed, persisted or applied.
    pub(crate) fn is_quiet(&self) -> bool {
        self.applied.get().0 == self.node.borrow().last_index()
            && self.pending.borrow().is_empty()
            && self.proposed.borrow().is_empty()
            && self.to_apply.borrow().is_empty()
            && self.writing.get() == 0
            && !self.applying.get()
    }

    /// Whether a task is in the middle of applying an entry.
    pub(crate) fn is_applying(&self) -> bool {
        self.applying.get()
    }

    /// Whether the peer takes no messages: it is gone, or its last writes are awaited so that it can change cores.
    pub(crate) fn is_deaf(&self) -> bool {
        self.gone.get() || self.deaf.get()
    }

    /// Whether the peer is deleted, or about to be.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Takes no more messages, or takes them again.
    pub(crate) fn deafen(&self, deaf: bool) {
        self.deaf.set(deaf);
    }

    /// Whether nothing is on its way to the log or to the tree, and nobody waits for anything.
    pub(crate) fn is_still(&self) -> bool {
        !self.has_work()
            && self.proposed.borrow().is_empty()
            && self.to_apply.borrow().is_empty()
            && self.writing.get() == 0
            && !self.applying.get()
            && !self.installing.get()
    }

    /// Whether nobody waits for an entry of this peer's.
    pub(crate) fn has_answered_all(&self) -> bool {
        self.pending.borrow().is_empty() && self.proposed.borrow().is_empty()
    }

    /// Marks the peer as deleted. Whether it was not.
    pub(crate) fn set_gone(&self) -> bool {
        !self.gone.replace(true)
    }

    /// Takes no more calls, or takes them again.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.set(frozen);
    }

    /// Whether the region is about to change cores.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.get()
    }

    /// Whether calls may be done here: the peer leads, has applied everything up to an entry of its own term, and stays on this core.
    /// Before that entry is applied the tree may lack what an earlier leader acknowledged.
    pub(crate) fn serves(&self) -> bool {
        !self.is_frozen() && self.is_leader() && self.applied.get().1 == self.term()
    }
}
