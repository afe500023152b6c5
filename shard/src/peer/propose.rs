//! Proposals: commands wait for the core's turn, and a turn makes one entry of them.

use super::Peer;
use crate::command::{self, CommandsBuilder, CompareAndSwap, Header, NewRegion};
use bytes::Bytes;
use pinion_capnp::WireError;
use pinion_runtime::mailbox::oneshot;
use pinion_types::{LogIndex, Term};
use std::collections::VecDeque;

/// Bytes of commands in one entry before the next entry begins.
const ENTRY_BYTES_MAX: usize = 1 << 20;

/// How a proposal ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was applied.
    Done,
    /// A compare-and-swap was applied.
    Swapped {
        /// Whether the expected value was there.
        swapped: bool,
        /// The caller's value that was there.
        previous: Option<Bytes>,
    },
    /// It was refused, and changed nothing.
    Refused(WireError),
}

/// What may be proposed.
pub(crate) enum Proposal {
    /// An encoded write batch.
    Write(Vec<u8>),
    /// A conditional change of one key.
    CompareAndSwap(CompareAndSwap),
    /// A split at the starts of these regions.
    Split(Vec<NewRegion>),
    /// Compaction of the log through a position.
    Compact(LogIndex, Term),
}

/// Whoever waits for a command.
pub(super) type Waiter = oneshot::Sender<Outcome>;

/// An entry in the making, with those who wait for its commands.
enum Making {
    Commands { builder: CommandsBuilder, waiters: Vec<Waiter> },
    Split { new: Vec<NewRegion>, waiter: Waiter },
    Compact { index: LogIndex, term: Term },
}

/// Commands that wait for the core's turn, in the order in which they came.
#[derive(Default)]
pub(super) struct Pending(VecDeque<Making>);

/// An entry that waits to be applied, with those who wait for it.
pub(super) struct Proposed {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) waiters: Vec<Waiter>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, proposal: Proposal, waiter: Waiter) {
        match proposal {
            Proposal::Write(batch) => {
                let (builder, waiters) = self.shared_entry(batch.len());
                builder.write(&batch);
                waiters.push(waiter);
            }
            // Alone in its entry: applying a part of an entry again after a crash must come to the same end, and of conditions that
            // build on each other it would not.
            Proposal::CompareAndSwap(command) => {
                let mut builder = CommandsBuilder::default();
                builder.compare_and_swap(&command);
                self.0.push_back(Making::Commands { builder, waiters: vec![waiter] });
                self.0
                    .push_back(Making::Commands { builder: CommandsBuilder::default(), waiters: Vec::new() });
            }
            Proposal::Split(new) => self.0.push_back(Making::Split { new, waiter }),
            Proposal::Compact(index, term) => {
                self.0.push_back(Making::Compact { index, term });
                let _ = waiter.send(Outcome::Done);
            }
        }
    }

    /// The entry that unconditional writes go to.
    fn shared_entry(&mut self, bytes: usize) -> (&mut CommandsBuilder, &mut Vec<Waiter>) {
        let fits = match self.0.back() {
            Some(Making::Commands { builder, .. }) => {
                builder.count() == 0 || builder.byte_len() + bytes <= ENTRY_BYTES_MAX
            }
            _ => false,
        };
        if !fits {
            self.0.push_back(Making::Commands { builder: CommandsBuilder::default(), waiters: Vec::new() });
        }
        match self.0.back_mut() {
            Some(Making::Commands { builder, waiters }) => (builder, waiters),
            _ => unreachable!("an entry for commands was just put there"),
        }
    }
}

impl Peer {
    /// Takes a proposal for the core's next turn. The receiver gets the outcome; dropping it undoes nothing.
    pub(crate) fn propose(&self, proposal: Proposal) -> oneshot::Receiver<Outcome> {
        let (waiter, outcome) = oneshot::channel();
        self.pending.borrow_mut().push(proposal, waiter);
        outcome
    }

    /// Makes entries of what is pending and gives them to Raft.
    pub(crate) fn propose_pending(&self) {
        let mut making = std::mem::take(&mut *self.pending.borrow_mut()).0;
        for entry in making.drain(..) {
            let header = Header { stamp_ms: self.stamp.tick(), epoch: self.region.borrow().epoch };
            let (data, waiters) = match entry {
                Making::Commands { builder, .. } if builder.count() == 0 => continue,
                Making::Commands { mut builder, waiters } => (builder.finish(header), waiters),
                Making::Split { new, waiter } => (command::encode_split(header, &new), vec![waiter]),
                Making::Compact { index, term } => (command::encode_compact(header, index, term), Vec::new()),
            };
            self.propose_entry(data, waiters);
        }
    }

    /// Lets go of everybody who waits: the core has failed, and nobody can say whether what they asked for will be found again.
    pub(crate) fn abandon(&self) {
        self.pending.take();
        self.proposed.take();
    }

    fn propose_entry(&self, data: Bytes, waiters: Vec<Waiter>) {
        let mut node = self.node.borrow_mut();
        match node.propose(data) {
            Ok(()) => {
                let (index, term) = (node.last_index(), node.hard_state().term);
                self.proposed.borrow_mut().push_back(Proposed { index, term, waiters });
            }
            Err(refused) => {
                drop(node);
                for waiter in waiters {
                    let _ = waiter.send(Outcome::Refused(self.refusal(&refused)));
                }
            }
        }
    }
}
