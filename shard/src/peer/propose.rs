//! Proposals: commands wait for the core's turn, and a turn makes one entry of them.

use super::Peer;
use crate::command::{self, CommandsBuilder, CompareAndSwap, Header, NewRegion};
use crate::storage::PeerStorage;
use bytes::Bytes;
use pinion_capnp::WireError;
use pinion_engine::log::Log;
use pinion_raft::{ConfChange, RaftError, RawNode};
use pinion_runtime::mailbox::oneshot;
use pinion_types::{Epoch, LogIndex, PeerId, StoreId, Term};
use std::collections::VecDeque;

/// Bytes of commands in one entry before the next entry begins, where a segment of the log is not smaller still.
const SHARED_ENTRY_BYTES_MAX: usize = 1 << 20;
/// What an entry and its record have besides a call's bytes, at most.
const ENTRY_OVERHEAD_BYTES: usize = 1024;

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
    /// A change of members, and where the peers sit that it names.
    Change(ConfChange, Vec<(PeerId, StoreId)>),
}

impl Proposal {
    /// Bytes of what callers gave.
    fn byte_len(&self) -> usize {
        match self {
            Self::Write(batch) => batch.len(),
            Self::CompareAndSwap(command) => {
                let values = command.expected.iter().chain(&command.new);
                command.key.len() + values.map(Bytes::len).sum::<usize>()
            }
            Self::Split(new) => {
                new.iter().map(|region| region.start.len() + 8 * (region.peers.len() + 4)).sum()
            }
            Self::Compact(..) | Self::Change(..) => 0,
        }
    }
}

/// Bytes of a call at most, so that its entry fits the log.
pub(super) fn entry_bytes_max(log: &Log) -> usize {
    log.append_bytes_max().saturating_sub(ENTRY_OVERHEAD_BYTES)
}

/// Whoever waits for a command.
pub(super) type Waiter = oneshot::Sender<Outcome>;

/// An entry in the making, and the region's epoch when its commands were checked: if the region is another by the time it is applied, it is
/// refused, because its keys may be another region's by then.
struct Dated {
    epoch: Epoch,
    making: Making,
}

/// An entry in the making, with those who wait for its commands.
enum Making {
    Commands { builder: CommandsBuilder, waiters: Vec<Waiter> },
    Split { new: Vec<NewRegion>, waiter: Waiter },
    Compact { index: LogIndex, term: Term },
    Change { change: ConfChange, seats: Vec<(PeerId, StoreId)>, waiter: Waiter },
}

/// Commands that wait for the core's turn, in the order in which they came.
#[derive(Default)]
pub(super) struct Pending(VecDeque<Dated>);

/// Entries that wait to be applied, in the order of their indexes. One index may be there several times: a leader that was deposed, and leads
/// again, may propose anew at an index at which it has proposed before. Which of them it was is not known before the index is applied: the
/// earlier one may be found again on another member.
#[derive(Default)]
pub(super) struct Awaited(VecDeque<Proposed>);

impl Awaited {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, proposed: Proposed) {
        let place = match self.0.back() {
            Some(last) if last.index > proposed.index => {
                self.0.partition_point(|there| there.index <= proposed.index)
            }
            _ => self.0.len(),
        };
        self.0.insert(place, proposed);
    }

    /// Takes those who wait for the entry that is applied at `index`. Others that were proposed at this place are told that they were not done.
    pub(super) fn take(&mut self, index: LogIndex, term: Term) -> Vec<Waiter> {
        let mut found = Vec::new();
        while let Some(first) = self.0.pop_front_if(|first| first.index <= index) {
            if (first.index, first.term) == (index, term) {
                found = first.waiters;
                continue;
            }
            for waiter in first.waiters {
                let _ = waiter.send(Outcome::Refused(WireError::StaleCommand));
            }
        }
        found
    }

    /// Takes those who wait for entries up to `index`.
    fn take_through(&mut self, index: LogIndex) -> Vec<Waiter> {
        let count = self.0.partition_point(|there| there.index <= index);
        self.0.drain(..count).flat_map(|proposed| proposed.waiters).collect()
    }
}

/// An entry that waits to be applied, with those who wait for it.
pub(super) struct Proposed {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) waiters: Vec<Waiter>,
}

impl Making {
    /// Those who wait for it.
    fn into_waiters(self) -> Vec<Waiter> {
        match self {
            Self::Commands { waiters, .. } => waiters,
            Self::Split { waiter, .. } | Self::Change { waiter, .. } => vec![waiter],
            Self::Compact { .. } => Vec::new(),
        }
    }

    fn empty() -> Self {
        Self::Commands { builder: CommandsBuilder::default(), waiters: Vec::new() }
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, proposal: Proposal, epoch: Epoch, waiter: Waiter, shared_bytes_max: usize) {
        match proposal {
            Proposal::Write(batch) => {
                let (builder, waiters) = self.shared_entry(batch.len(), epoch, shared_bytes_max);
                builder.write(&batch);
                waiters.push(waiter);
            }
            // Alone in its entry: applying a part of an entry again after a crash must come to the same end, and of conditions that
            // build on each other it would not.
            Proposal::CompareAndSwap(command) => {
                let mut builder = CommandsBuilder::default();
                builder.compare_and_swap(&command);
                self.make(epoch, Making::Commands { builder, waiters: vec![waiter] });
                self.make(epoch, Making::empty());
            }
            Proposal::Split(new) => self.make(epoch, Making::Split { new, waiter }),
            Proposal::Change(change, seats) => self.make(epoch, Making::Change { change, seats, waiter }),
            Proposal::Compact(index, term) => {
                self.make(epoch, Making::Compact { index, term });
                let _ = waiter.send(Outcome::Done);
            }
        }
    }

    fn make(&mut self, epoch: Epoch, making: Making) {
        self.0.push_back(Dated { epoch, making });
    }

    /// The entry that unconditional writes go to.
    fn shared_entry(
        &mut self,
        bytes: usize,
        epoch: Epoch,
        bytes_max: usize,
    ) -> (&mut CommandsBuilder, &mut Vec<Waiter>) {
        let fits = match self.0.back() {
            Some(Dated { epoch: there, making: Making::Commands { builder, .. } }) => {
                *there == epoch && (builder.count() == 0 || builder.byte_len() + bytes <= bytes_max)
            }
            _ => false,
        };
        if !fits {
            self.make(epoch, Making::empty());
        }
        match self.0.back_mut() {
            Some(Dated { making: Making::Commands { builder, waiters }, .. }) => (builder, waiters),
            _ => unreachable!("an entry for commands was just put there"),
        }
    }
}

impl Peer {
    /// Takes a proposal for the core's next turn. The receiver gets the outcome; dropping it undoes nothing.
    /// It is refused if the region's epoch is another than now by the time it is applied, or if it is larger than the log takes.
    pub(crate) fn propose(&self, proposal: Proposal) -> oneshot::Receiver<Outcome> {
        let (waiter, outcome) = oneshot::channel();
        let (got, limit) = (proposal.byte_len(), self.entry_bytes_max);
        if got > limit {
            let what = format!("the bytes of what is written at once to region {}", self.id);
            let refused = WireError::TooLarge { what, limit: limit as u64, got: got as u64 };
            let _ = waiter.send(Outcome::Refused(refused));
            return outcome;
        }
        let epoch = self.region.borrow().epoch;
        self.pending.borrow_mut().push(proposal, epoch, waiter, SHARED_ENTRY_BYTES_MAX.min(limit));
        outcome
    }

    /// Makes entries of what is pending and gives them to Raft.
    pub(crate) fn propose_pending(&self) {
        let mut making = std::mem::take(&mut *self.pending.borrow_mut()).0;
        for Dated { epoch, making } in making.drain(..) {
            let header = Header { stamp_ms: self.stamp.tick(), epoch };
            let (data, waiters) = match making {
                Making::Commands { builder, .. } if builder.count() == 0 => continue,
                Making::Commands { mut builder, waiters } => (builder.finish(header), waiters),
                Making::Split { new, waiter } => (command::encode_split(header, &new), vec![waiter]),
                Making::Compact { index, term } => {
                    let data = command::encode_compact(header, index, term);
                    if !self.propose_by(Vec::new(), |node| node.propose(data)) {
                        // It is due still, but would be refused again at once.
                        self.compaction_refused.set(true);
                    }
                    continue;
                }
                Making::Change { mut change, seats, waiter } => {
                    change.context = command::encode_members(header, &seats);
                    self.propose_by(vec![waiter], |node| node.propose_conf_change(&change));
                    continue;
                }
            };
            self.propose_by(waiters, |node| node.propose(data));
        }
    }

    /// Lets go of everybody who waits: nobody can say whether what was proposed is found again. What was not proposed was not done: who
    /// asked for it is sent elsewhere, if there is an elsewhere.
    pub(crate) fn abandon(&self, sends_elsewhere: bool) {
        let pending = self.pending.take().0;
        for waiter in pending.into_iter().flat_map(|dated| dated.making.into_waiters()) {
            if sends_elsewhere {
                let _ = waiter.send(Outcome::Refused(WireError::RegionNotFound(self.id)));
            }
        }
        for waiter in self.proposed.take().take_through(LogIndex(u64::MAX)) {
            if sends_elsewhere {
                let _ = waiter.send(Outcome::Refused(WireError::Undetermined));
            }
        }
        self.drop_all_reads();
    }

    /// Lets go of those who wait for entries up to `index`, which a snapshot covers: nobody can say any more whether theirs are among them.
    pub(super) fn abandon_through(&self, index: LogIndex) {
        for waiter in self.proposed.borrow_mut().take_through(index) {
            let _ = waiter.send(Outcome::Refused(WireError::Undetermined));
        }
    }

    /// Gives an entry to Raft, and notes who waits for it. Says whether Raft took it.
    fn propose_by(
        &self,
        waiters: Vec<Waiter>,
        propose: impl FnOnce(&mut RawNode<PeerStorage>) -> Result<(), RaftError>,
    ) -> bool {
        let mut node = self.node.borrow_mut();
        match propose(&mut node) {
            Ok(()) => {
                let (index, term) = (node.last_index(), node.hard_state().term);
                self.proposed.borrow_mut().push(Proposed { index, term, waiters });
                true
            }
            Err(refused) => {
                drop(node);
                for waiter in waiters {
                    let _ = waiter.send(Outcome::Refused(self.refusal(&refused)));
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(index: u64, term: u64) -> (Proposed, oneshot::Receiver<Outcome>) {
        let (waiter, outcome) = oneshot::channel();
        (Proposed { index: LogIndex(index), term: Term(term), waiters: vec![waiter] }, outcome)
    }

    #[test]
    fn who_proposed_again_at_an_index_is_told_what_became_of_its_own_entry() {
        pinion_runtime::sim::run(pinion_runtime::sim::Config::new(1), |simulation| {
            simulation.block_on(async {
                let mut awaited = Awaited::default();
                let mut outcomes = Vec::new();
                // Deposed after two entries of term 2, it leads again in term 4 and proposes at the same places.
                for (index, term) in [(7, 2), (8, 2), (7, 4), (8, 4)] {
                    let (proposed, outcome) = proposed(index, term);
                    awaited.push(proposed);
                    outcomes.push(outcome);
                }
                for index in [7, 8] {
                    let found = awaited.take(LogIndex(index), Term(4));
                    assert_eq!(found.len(), 1);
                    for waiter in found {
                        drop(waiter.send(Outcome::Done));
                    }
                }
                assert!(awaited.is_empty());
                let mut done = Vec::new();
                for outcome in outcomes {
                    done.push(matches!(outcome.await, Ok(Outcome::Done)));
                }
                assert_eq!(done, [false, false, true, true]);
            });
        });
    }
}
