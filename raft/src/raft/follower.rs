//! What a follower does: take the leader's log, and pass on what only the leader can do.

use super::step::invalid;
use super::{Campaign, Raft};
use crate::describe::ProtoText;
use crate::log::EntryId;
use crate::logger::say;
use crate::raw_node::{ReadState, Role};
use crate::tracker::Tracker;
use crate::{
    DropReason, Message, MessageKind, NO_PEER, RaftError, ReadOnlyOption, Snapshot, Storage, confchange,
};

impl<S: Storage> Raft<S> {
    pub(super) fn step_follower(&mut self, message: &mut Message) -> Result<(), RaftError> {
        match message.kind {
            MessageKind::Append | MessageKind::Heartbeat | MessageKind::Snapshot => {
                self.election_elapsed = 0;
                self.leader = message.from;
                match message.kind {
                    MessageKind::Append => self.take_append(message),
                    MessageKind::Heartbeat => self.take_heartbeat(message),
                    _ => self.take_snapshot(message),
                }
            }
            MessageKind::Propose => self.forward_proposal(message),
            MessageKind::TransferLeader => {
                if self.leader == NO_PEER {
                    say!(
                        self.logger,
                        Info,
                        "{:x} no leader at term {}; dropping leader transfer msg",
                        self.id,
                        self.term
                    );
                    return Ok(());
                }
                self.forward(message);
                Ok(())
            }
            MessageKind::TimeoutNow => {
                say!(
                    self.logger,
                    Info,
                    "{:x} [term {}] received MsgTimeoutNow from {:x} and starts an election to get leadership.",
                    self.id,
                    self.term,
                    message.from
                );
                self.campaign_if_allowed(Campaign::Transfer(message.lease));
                Ok(())
            }
            MessageKind::ReadIndex => {
                if self.leader == NO_PEER {
                    say!(
                        self.logger,
                        Info,
                        "{:x} no leader at term {}; dropping index reading msg",
                        self.id,
                        self.term
                    );
                    return Err(RaftError::ReadDropped(DropReason::NoLeader));
                }
                self.forward(message);
                Ok(())
            }
            MessageKind::ReadIndexResponse => {
                self.read_states
                    .push(ReadState { index: message.index, context: std::mem::take(&mut message.context) });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Passes a message on to the leader, in the name of its sender.
    fn forward(&mut self, message: &mut Message) {
        if message.from == self.leader {
            // It was sent here before its sender was elected, and a node is sent nothing in its own name. Who leads needs nobody to ask.
            say!(
                self.logger,
                Info,
                "{:x} drops what it would pass on to its sender {:x}",
                self.id,
                self.leader
            );
            return;
        }
        message.to = self.leader;
        self.send(std::mem::take(message));
    }

    fn forward_proposal(&mut self, message: &mut Message) -> Result<(), RaftError> {
        if self.leader == NO_PEER {
            say!(self.logger, Info, "{:x} no leader at term {}; dropping proposal", self.id, self.term);
            return Err(RaftError::ProposalDropped(DropReason::NoLeader));
        }
        if self.settings.disable_proposal_forwarding {
            say!(
                self.logger,
                Info,
                "{:x} not forwarding to leader {:x} at term {}; dropping proposal",
                self.id,
                self.leader,
                self.term
            );
            return Err(RaftError::ProposalDropped(DropReason::NotLeader(self.leader)));
        }
        if message.entries.is_empty() {
            return Err(RaftError::ProposalDropped(DropReason::Empty));
        }
        self.forward(message);
        Ok(())
    }

    /// Takes entries, or says where the logs may agree. When the storage can't tell whether they do, the message is
    /// dropped: the leader sends it again.
    fn take_append(&mut self, message: &mut Message) -> Result<(), RaftError> {
        let to = message.from;
        let answer = |index| Message { kind: MessageKind::AppendResponse, to, index, ..Message::default() };
        if message.index < self.log.committed {
            // Old news: what it is about is committed here.
            self.send(answer(self.log.committed));
            return Ok(());
        }
        let previous = EntryId { term: message.log_term, index: message.index };
        if let Some(index) = self.log.maybe_append(previous, &mut message.entries, message.commit)? {
            self.send(answer(index));
            return Ok(());
        }
        say!(
            self.logger,
            Debug,
            "{:x} [logterm: {}, index: {}] rejected MsgApp [logterm: {}, index: {}] from {:x}",
            self.id,
            self.log.term_or_zero(message.index),
            message.index,
            message.log_term,
            message.index,
            message.from
        );
        // The leader's log has no term above `log_term` up to there, so the whole of our later terms can be skipped.
        let hint = self.log.find_conflict_by_term(message.index.min(self.log.last_index()), message.log_term);
        let (reject, reject_hint, log_term) = (true, hint.index, hint.term);
        self.send(Message { reject, log_term, reject_hint, ..answer(message.index) });
        Ok(())
    }

    /// A leader sends no commit index above what this node has acknowledged. One that is beyond the log is therefore a
    /// lie, or this node has lost what it promised to keep: either way it must not commit.
    fn take_heartbeat(&mut self, message: &mut Message) -> Result<(), RaftError> {
        if message.commit > self.log.last_index() {
            return Err(invalid(message, "its commit index is beyond the log: was the log lost?"));
        }
        self.log.commit_to(message.commit);
        let lease = match &mut self.lease {
            Some(lease) if message.lease != 0 => {
                lease.promise(message.term, message.lease);
                message.lease
            }
            _ => 0,
        };
        self.send(Message {
            kind: MessageKind::HeartbeatResponse,
            to: message.from,
            context: std::mem::take(&mut message.context),
            lease,
            ..Message::default()
        });
        Ok(())
    }

    fn take_snapshot(&mut self, message: &mut Message) -> Result<(), RaftError> {
        let from = message.from;
        let Some(snapshot) = message.snapshot.take() else {
            return Err(invalid(message, "it carries no snapshot"));
        };
        let (index, term) = (snapshot.metadata.index, snapshot.metadata.term);
        let restored = self.restore(snapshot)?;
        let what = if restored { "restored" } else { "ignored" };
        say!(
            self.logger,
            Info,
            "{:x} [commit: {}] {what} snapshot [index: {index}, term: {term}]",
            self.id,
            self.log.committed
        );
        let index = if restored { self.log.last_index() } else { self.log.committed };
        self.send(Message { kind: MessageKind::AppendResponse, to: from, index, ..Message::default() });
        Ok(())
    }

    /// Puts a snapshot in the place of the log. False when that is not needed, or not for this node.
    fn restore(&mut self, snapshot: Box<Snapshot>) -> Result<bool, RaftError> {
        let metadata = &snapshot.metadata;
        let id = EntryId { term: metadata.term, index: metadata.index };
        if id.index <= self.log.committed || self.role != Role::Follower {
            return Ok(false);
        }
        let state = &metadata.conf_state;
        if ![&state.voters, &state.learners, &state.voters_outgoing].iter().any(|set| set.contains(&self.id))
        {
            say!(
                self.logger,
                Warn,
                "{:x} attempted to restore snapshot but it is not in the ConfState {}; should never happen",
                self.id,
                ProtoText(state)
            );
            return Ok(false);
        }
        let last = self.log.last();
        if self.log.matches(id)? {
            say!(
                self.logger,
                Info,
                "{:x} [commit: {}, lastindex: {}, lastterm: {}] fast-forwarded commit to snapshot [index: {}, term: {}]",
                self.id,
                self.log.committed,
                last.index,
                last.term,
                id.index,
                id.term
            );
            self.log.commit_to(id.index);
            return Ok(false);
        }
        // Everything that can be wrong with the configuration is found before anything changes.
        let tracker: Tracker = self.tracker.emptied();
        let (configuration, progress) = confchange::restore(&tracker, id.index, state)?;
        self.log.restore(snapshot);
        self.tracker = tracker;
        self.switch_to_configuration(configuration, progress);
        say!(
            self.logger,
            Info,
            "{:x} [commit: {}, lastindex: {}, lastterm: {}] restored snapshot [index: {}, term: {}]",
            self.id,
            self.log.committed,
            id.index,
            id.term,
            id.index,
            id.term
        );
        Ok(true)
    }

    /// Forgets who leads, so that this node votes and no longer vouches for the leader's lease. Harmless but to leases,
    /// with which it is refused.
    pub(crate) fn forget_leader(&mut self) {
        if self.role != Role::Follower {
            return;
        }
        if self.settings.read_only_option == ReadOnlyOption::LeaseBased || self.lease.is_some() {
            say!(self.logger, Error, "ignoring MsgForgetLeader due to ReadOnlyLeaseBased");
            return;
        }
        if self.leader != NO_PEER {
            say!(
                self.logger,
                Info,
                "{:x} forgetting leader {:x} at term {}",
                self.id,
                self.leader,
                self.term
            );
            self.leader = NO_PEER;
        }
    }
}
