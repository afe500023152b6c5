//! What a leader does with proposals and with its followers' answers.

use pinion_types::{LogIndex, PeerId};

use super::Raft;
use super::step::invalid;
use crate::lease::Lease;
use crate::log::EntryId;
use crate::logger::say;
use crate::raw_node::Role;
use crate::tracker::ProgressState;
use crate::{ConfChange, DropReason, Entry, Message, MessageKind, NO_PEER, RaftError, Storage};

impl<S: Storage> Raft<S> {
    pub(super) fn step_leader(&mut self, message: &mut Message) -> Result<(), RaftError> {
        match message.kind {
            MessageKind::Propose => return self.take_proposals(std::mem::take(&mut message.entries)),
            MessageKind::ReadIndex => {
                return self.take_read(message.from, std::mem::take(&mut message.context));
            }
            _ => {}
        }
        if !self.tracker.progress.contains(message.from) {
            say!(self.logger, Debug, "{:x} no progress available for {:x}", self.id, message.from);
            return Ok(());
        }
        match message.kind {
            MessageKind::AppendResponse if message.reject => self.take_rejection(message),
            MessageKind::AppendResponse => return self.take_acknowledgement(message),
            MessageKind::HeartbeatResponse => return self.take_heartbeat_response(message),
            MessageKind::TransferLeader => self.take_transfer(message.from),
            _ => {}
        }
        Ok(())
    }

    /// Steps down when no quorum was heard since the last check.
    pub(super) fn check_quorum(&mut self) {
        if !self.tracker.quorum_recently_active() {
            say!(self.logger, Warn, "{:x} stepped down to follower since quorum is not active", self.id);
            self.become_follower(self.term, NO_PEER);
        }
        let id = self.id;
        for (member, progress) in self.tracker.progress.iter_mut() {
            if member != id {
                progress.recently_active = false;
            }
        }
    }

    /// Whether a proposal can be taken at all.
    pub(crate) fn check_can_propose(&self) -> Result<(), RaftError> {
        if !self.tracker.progress.contains(self.id) {
            return Err(RaftError::ProposalDropped(DropReason::Removed));
        }
        if self.transferee != NO_PEER {
            say!(
                self.logger,
                Debug,
                "{:x} [term {}] transfer leadership to {:x} is in progress; dropping proposal",
                self.id,
                self.term,
                self.transferee
            );
            return Err(RaftError::ProposalDropped(DropReason::Transferring(self.transferee)));
        }
        Ok(())
    }

    pub(crate) fn take_proposals(&mut self, mut entries: Vec<Entry>) -> Result<(), RaftError> {
        if entries.is_empty() {
            return Err(RaftError::ProposalDropped(DropReason::Empty));
        }
        self.check_can_propose()?;
        let pending_before = self.pending_conf_index;
        let mut index = self.log.last_index();
        for entry in &mut entries {
            index = index.next();
            if entry.kind.is_conf_change()
                && let Err(error) = self.check_conf_change(entry, index)
            {
                self.pending_conf_index = pending_before;
                return Err(error);
            }
        }
        self.append_entries(entries).inspect_err(|_| self.pending_conf_index = pending_before)?;
        self.announce();
        Ok(())
    }

    /// A change that does not fit the configuration in force becomes an empty entry, so that whoever proposed it learns
    /// by its position in the log what became of it.
    fn check_conf_change(&mut self, entry: &mut Entry, index: LogIndex) -> Result<(), RaftError> {
        let change = ConfChange::decode(entry.kind, &entry.data)?;
        let is_joint = self.tracker.configuration.voters.is_joint();
        let leaves = change.changes.is_empty();
        let failed = if self.pending_conf_index > self.log.applied {
            format!(
                "possible unapplied conf change at index {} (applied to {})",
                self.pending_conf_index, self.log.applied
            )
        } else if is_joint && !leaves {
            "must transition out of joint config first".to_owned()
        } else if !is_joint && leaves {
            "not in joint state; refusing empty conf change".to_owned()
        } else {
            String::new()
        };
        if failed.is_empty() || self.settings.disable_conf_change_validation {
            self.pending_conf_index = index;
        } else {
            say!(
                self.logger,
                Info,
                "{:x} ignoring conf change {} at config {}: {failed}",
                self.id,
                change.in_words(),
                self.tracker.configuration
            );
            *entry = Entry::default();
        }
        Ok(())
    }

    /// Proposes one normal entry, without a message in between.
    pub(crate) fn propose_one(&mut self, data: bytes::Bytes) -> Result<(), RaftError> {
        self.check_can_propose()?;
        self.append_one(Entry { data, ..Entry::default() })?;
        self.announce();
        Ok(())
    }

    /// The follower's log does not agree where it was probed: probe further back.
    ///
    /// The follower's hint is the greatest position at which it could agree; of that, the leader skips the positions
    /// where its own term is higher than the hint's, because they can't agree either. So at most one probe is made for
    /// each term in the shorter of the two tails, and not for each entry.
    fn take_rejection(&mut self, message: &Message) {
        let (from, hint) = (message.from, message.reject_hint);
        say!(
            self.logger,
            Debug,
            "{:x} received MsgAppResp(rejected, hint: (index {hint}, term {})) from {from:x} for index {}",
            self.id,
            message.log_term,
            message.index
        );
        let next_probe = if message.log_term.0 > 0 {
            self.log.find_conflict_by_term(hint, message.log_term).index
        } else {
            hint
        };
        let Some(progress) = self.tracker.progress.get_mut(from) else { return };
        progress.recently_active = true;
        if progress.maybe_decrease(message.index, next_probe) {
            say!(self.logger, Debug, "{:x} decreased progress of {from:x} to [{progress}]", self.id);
            if progress.state == ProgressState::Replicate {
                progress.become_probe();
            }
            self.send_append(from);
        }
    }

    fn take_acknowledgement(&mut self, message: &Message) -> Result<(), RaftError> {
        if message.index > self.log.last_index() {
            return Err(invalid(message, "it acknowledges entries that were never sent"));
        }
        self.acknowledged(message.from, message.index);
        Ok(())
    }

    /// This node's log is durable up to `id`, as far as it was written by the leader that it still is.
    pub(crate) fn acknowledged_own(&mut self, id: EntryId) {
        if self.role == Role::Leader && self.term == id.term {
            self.acknowledged(self.id, id.index);
        }
    }

    /// The follower, or this node itself, holds everything up to `index` durably.
    fn acknowledged(&mut self, from: PeerId, index: LogIndex) {
        let first = self.log.first_index();
        let Some(progress) = self.tracker.progress.get_mut(from) else { return };
        progress.recently_active = true;
        let probed = progress.matched == index && progress.state == ProgressState::Probe;
        if !progress.maybe_update(index) && !probed {
            return;
        }
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            // Whatever snapshot the follower has, replication goes on as soon as it connects to the log.
            ProgressState::Snapshot if progress.matched.next() >= first => {
                say!(
                    self.logger,
                    Debug,
                    "{:x} recovered from needing snapshot, resumed sending replication messages to {from:x} [{progress}]",
                    self.id
                );
                progress.become_probe();
                progress.become_replicate();
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => progress.inflights.free_through(index),
        }
        let (matched, next) = (progress.matched, progress.next);
        let behind = progress.can_bump_commit(self.log.committed);
        // What is committed already commits nothing more.
        if matched > self.log.committed && self.maybe_commit() {
            self.release_reads();
            self.announce();
        } else if from != self.id && behind {
            // The next heartbeat would tell the commit index as well, but later.
            self.announce_to(from);
        }
        if from != self.id && next <= self.log.last_index() {
            // There is room in the window.
            self.announce_rest_to(from);
        }
        if from == self.transferee && matched == self.log.last_index() {
            say!(self.logger, Info, "{:x} sent MsgTimeoutNow to {from:x} after received MsgAppResp", self.id);
            self.send_timeout_now(from);
        }
    }

    fn take_heartbeat_response(&mut self, message: &Message) -> Result<(), RaftError> {
        let Some(progress) = self.tracker.progress.get_mut(message.from) else { return Ok(()) };
        if message.lease != 0 && !self.lease.as_ref().is_some_and(|lease| lease.was_sent(message.lease)) {
            return Err(invalid(message, "it answers a heartbeat that was never sent"));
        }
        progress.recently_active = true;
        progress.append_paused = false;
        let has_promised = message.lease > progress.promised;
        progress.promised = progress.promised.max(message.lease);
        // A probe that was lost is sent again now. Into a full window goes an empty append, whose answer frees it.
        if progress.matched < self.log.last_index() || progress.state == ProgressState::Probe {
            self.send_append(message.from);
        }
        if has_promised {
            self.refresh_lease();
        }
        self.take_read_answer(message.from, &message.context);
        Ok(())
    }

    fn take_transfer(&mut self, transferee: PeerId) {
        let Some(progress) = self.tracker.progress.get(transferee) else { return };
        let matched = progress.matched;
        if progress.is_learner {
            say!(self.logger, Debug, "{:x} is learner. Ignored transferring leadership", self.id);
            return;
        }
        let previous = self.transferee;
        if previous == transferee {
            say!(
                self.logger,
                Info,
                "{:x} [term {}] transfer leadership to {transferee:x} is in progress, ignores request to same node \
                 {transferee:x}",
                self.id,
                self.term
            );
            return;
        }
        if previous != NO_PEER {
            self.transferee = NO_PEER;
            say!(
                self.logger,
                Info,
                "{:x} [term {}] abort previous transferring leadership to {previous:x}",
                self.id,
                self.term
            );
        }
        if transferee == self.id {
            say!(
                self.logger,
                Debug,
                "{:x} is already leader. Ignored transferring leadership to self",
                self.id
            );
            return;
        }
        say!(
            self.logger,
            Info,
            "{:x} [term {}] starts to transfer leadership to {transferee:x}",
            self.id,
            self.term
        );
        // It has one election timeout from now.
        self.election_elapsed = 0;
        self.transferee = transferee;
        if matched == self.log.last_index() {
            self.send_timeout_now(transferee);
            say!(
                self.logger,
                Info,
                "{:x} sends MsgTimeoutNow to {transferee:x} immediately as {transferee:x} already has up-to-date log",
                self.id
            );
        } else {
            self.send_append(transferee);
        }
    }

    fn send_timeout_now(&mut self, to: PeerId) {
        // From here on somebody may be elected at any time.
        let lease = self.lease.as_mut().map_or(0, Lease::give_up);
        self.send(Message { kind: MessageKind::TimeoutNow, to, lease, ..Message::default() });
    }

    /// The last message to a peer may not have arrived.
    pub(crate) fn report_unreachable(&mut self, id: PeerId) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(id) else {
            say!(self.logger, Debug, "{:x} no progress available for {id:x}", self.id);
            return;
        };
        // What was sent ahead is probably lost.
        if progress.state == ProgressState::Replicate {
            progress.become_probe();
        }
        say!(
            self.logger,
            Debug,
            "{:x} failed to send message to {id:x} because it is unreachable [{progress}]",
            self.id
        );
    }

    /// A snapshot has reached its peer, or has not.
    pub(crate) fn report_snapshot(&mut self, id: PeerId, succeeded: bool) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.tracker.progress.get_mut(id) else {
            say!(self.logger, Debug, "{:x} no progress available for {id:x}", self.id);
            return;
        };
        if progress.state != ProgressState::Snapshot {
            return;
        }
        if !succeeded {
            // Otherwise probing would begin after a snapshot that is not there.
            progress.pending_snapshot = LogIndex(0);
        }
        progress.become_probe();
        let what = if succeeded { "succeeded" } else { "failed" };
        say!(
            self.logger,
            Debug,
            "{:x} snapshot {what}, resumed sending replication messages to {id:x} [{progress}]",
            self.id
        );
        // After success its acknowledgement comes first; after a failure a heartbeat passes before the next try.
        progress.append_paused = true;
    }
}
