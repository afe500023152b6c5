//! Reads by index: which index must be applied before a read sees all that was acknowledged when it was asked.

use bytes::Bytes;
use pinion_types::{LogIndex, PeerId};

use super::Raft;
use crate::lease::{Lease, NEVER};
use crate::raw_node::{ReadState, Role};
use crate::read_only::{READS_PENDING_MAX, ReadRequest};
use crate::{DropReason, Message, MessageKind, NO_PEER, RaftError, ReadOnlyOption, Storage};

impl<S: Storage> Raft<S> {
    pub(super) fn take_read(&mut self, from: PeerId, context: Bytes) -> Result<(), RaftError> {
        let request = ReadRequest { from, context };
        let voters = &self.tracker.configuration.voters;
        if voters.is_singleton() && voters.contains(self.id) && self.committed_in_own_term() {
            self.answer_read(self.log.committed, request);
            return Ok(());
        }
        if self.read_only.is_full() || self.reads_before_commit.len() >= READS_PENDING_MAX {
            return Err(RaftError::ReadDropped(DropReason::Reads { limit: READS_PENDING_MAX }));
        }
        // A new leader does not know what its predecessor has committed before it has committed something itself.
        if self.committed_in_own_term() {
            self.begin_read(request);
        } else {
            self.reads_before_commit.push(request);
        }
        Ok(())
    }

    fn begin_read(&mut self, request: ReadRequest) {
        if self.holds_lease() {
            return self.answer_read(self.log.committed, request);
        }
        match self.settings.read_only_option {
            ReadOnlyOption::Safe => {
                let context = self.read_only.add(self.id, self.log.committed, request);
                self.broadcast_heartbeat_with(&context);
                self.answer_confirmed_reads();
            }
            ReadOnlyOption::LeaseBased => self.answer_read(self.log.committed, request),
        }
    }

    fn answer_read(&mut self, index: LogIndex, request: ReadRequest) {
        let ReadRequest { from, context } = request;
        if from == NO_PEER || from == self.id {
            self.read_states.push(ReadState { index, context });
        } else {
            self.send(Message {
                kind: MessageKind::ReadIndexResponse,
                to: from,
                index,
                context,
                ..Message::default()
            });
        }
    }

    pub(super) fn take_read_answer(&mut self, from: PeerId, context: &Bytes) {
        if self.settings.read_only_option == ReadOnlyOption::Safe && !context.is_empty() {
            self.read_only.receive(from, context);
            self.answer_confirmed_reads();
        }
    }

    pub(super) fn answer_confirmed_reads(&mut self) {
        while let Some((index, request)) = self.read_only.pop_confirmed(&self.tracker.configuration.voters) {
            self.answer_read(index, request);
        }
    }

    /// Begins the reads that waited for the first commit of this term.
    pub(super) fn release_reads(&mut self) {
        if self.reads_before_commit.is_empty() || !self.committed_in_own_term() {
            return;
        }
        for request in std::mem::take(&mut self.reads_before_commit) {
            self.begin_read(request);
        }
    }

    /// What must be applied before a read may be served now; nothing when somebody else may lead.
    pub(crate) fn lease_read_index(&self) -> Option<LogIndex> {
        (self.role == Role::Leader && self.committed_in_own_term() && self.holds_lease())
            .then_some(self.log.committed)
    }

    pub(crate) fn holds_lease(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::in_force)
    }

    /// What the members have promised, or who they are, has changed.
    pub(super) fn refresh_lease(&mut self) {
        let Some(lease) = &mut self.lease else { return };
        let (id, progress) = (self.id, &self.tracker.progress);
        let stamp = self.tracker.configuration.voters.reached(|member| match progress.get(member) {
            // A leader does not vote while it leads.
            Some(_) if member == id => NEVER,
            Some(progress) => lease.counted(progress.promised),
            None => 0,
        });
        lease.extend(stamp);
    }

    /// Whether this leader knows all that was ever committed before it.
    fn committed_in_own_term(&self) -> bool {
        self.log.committed >= self.term_start
    }
}
