//! A peer's part of the core's turn: what Raft wants written and sent, and what follows when it is durable.
//!
//! Raft writes asynchronously: several parts may be on their way to the log at once, and what is committed is handed out for applying
//! whether or not this store's own log has it by then. A tree is none the worse for it: its flush is an edit behind the entries in the same
//! log, so that it is durable only when they are.

use super::Peer;
use crate::storage::kind_byte;
use pinion_engine::log::Record;
use pinion_raft::{APPEND_THREAD, APPLY_THREAD, Message, Role, Snapshot};
use pinion_types::{LogIndex, RegionId};

/// What one turn gives to the log for one peer.
pub(crate) struct Persist {
    /// Raft's request: entries, hard state, and what to say when they are durable.
    append: Message,
    must_sync: bool,
}

/// What one turn of a peer brought.
#[derive(Default)]
pub(crate) struct Turn {
    /// For the log.
    pub(crate) persist: Option<Persist>,
    /// For other peers, at once.
    pub(crate) messages: Vec<Message>,
}

impl Persist {
    /// Whether the log must sync before the peer goes on.
    pub(crate) fn must_sync(&self) -> bool {
        self.must_sync
    }

    /// The snapshot that is to take the place of everything first.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.append.snapshot.as_deref()
    }

    /// The log's records of it.
    pub(crate) fn records<'a>(&'a self, stream: RegionId, to: &mut Vec<Record<'a>>) {
        if let Some(state) = self.append.hard_state() {
            to.push(Record::HardState { stream, term: state.term, vote: state.vote.0, commit: state.commit });
        }
        to.extend(self.append.entries.iter().map(|entry| Record::Entry {
            stream,
            index: entry.index,
            term: entry.term,
            kind: kind_byte(entry.kind),
            payload: &entry.data,
        }));
    }
}

impl Peer {
    /// The peer's part of a turn: proposes what is pending, and takes from Raft what is to be written and sent.
    pub(crate) fn collect(&self) -> Option<Turn> {
        self.propose_pending();
        self.ask_reads();
        self.take_ready()
    }

    /// What Raft has to be written, to be sent and to be applied, and nothing new.
    pub(crate) fn take_ready(&self) -> Option<Turn> {
        let mut node = self.node.borrow_mut();
        if !node.has_ready() {
            return None;
        }
        let mut ready = node.ready();
        let mut turn = Turn::default();
        for mut message in ready.messages.drain(..) {
            match message.to {
                APPEND_THREAD => {
                    let must_sync = ready.must_sync || !message.responses.is_empty();
                    self.writing.set(self.writing.get() + 1);
                    turn.persist = Some(Persist { append: message, must_sync });
                }
                APPLY_THREAD => {
                    self.queue_committed(message.entries.drain(..));
                    self.to_acknowledge.borrow_mut().append(&mut message.responses);
                }
                _ => turn.messages.push(message),
            }
        }
        let lost_leadership = ready.soft_state.is_some_and(|state| state.role != Role::Leader);
        let read_states = std::mem::take(&mut ready.read_states);
        node.recycle(ready);
        drop(node);
        self.take_read_states(read_states.into_iter());
        if lost_leadership {
            self.drop_reads();
            self.forget_compaction();
        }
        Some(turn)
    }

    /// A turn's part is durable: Raft hears of it, and commits what a quorum now holds. What others are to hear is given back.
    pub(crate) fn persisted(&self, persist: Persist) -> Vec<Message> {
        self.writing.set(self.writing.get() - 1);
        let mut node = self.node.borrow_mut();
        let mut for_others = persist.append.responses;
        let own = for_others.extract_if(.., |response| response.to == self.replica.id);
        for response in own {
            // What the storage of an earlier term says is not wanted any more, and is no fault.
            let _ = node.step_local(response);
        }
        for_others
    }

    /// Whether Raft has taken the snapshot at `index` and it is not in force yet.
    pub(crate) fn awaits_snapshot(&self, index: LogIndex) -> bool {
        self.node.borrow().pending_snapshot() == Some(index)
    }

    /// Lets Raft know how far the entries that it handed out are applied.
    pub(crate) fn acknowledge_applied(&self) {
        let applied = self.applied.get().0;
        let mut waiting = self.to_acknowledge.borrow_mut();
        let done = waiting.partition_point(|response| response.index <= applied);
        if done > 0 {
            let mut node = self.node.borrow_mut();
            for response in waiting.drain(..done) {
                let _ = node.step_local(response);
            }
        }
    }

    /// Whether another turn would have something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.pending.borrow().is_empty() || self.has_unasked_reads() || self.node.borrow().has_ready()
    }

    /// Marks the peer as being in the loop's list; whether it was not.
    pub(crate) fn enqueue(&self) -> bool {
        !self.queued.replace(true)
    }

    /// The loop has taken its list, whether or not the peer takes a turn now.
    pub(crate) fn dequeued(&self) {
        self.queued.set(false);
    }
}
