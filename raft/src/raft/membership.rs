//! A change of the configuration takes effect.

use pinion_types::LogIndex;

use super::Raft;
use crate::confchange::Changer;
use crate::logger::say;
use crate::raw_node::Role;
use crate::tracker::{Configuration, ProgressMap};
use crate::{ConfChange, ConfState, Entry, NO_PEER, RaftError, Storage, StorageError};

impl<S: Storage> Raft<S> {
    /// Applies a committed change. A change that does not fit is refused alike by every member, and nothing changes.
    pub(crate) fn apply_conf_change(&mut self, change: &ConfChange) -> Result<ConfState, RaftError> {
        if self.log.unstable().snapshot().is_some() {
            return Err(RaftError::Superseded);
        }
        let (configuration, progress) = Changer::new(&self.tracker, self.log.last_index()).change(change)?;
        self.switch_to_configuration(configuration, progress);
        Ok(self.tracker.configuration.to_conf_state())
    }

    /// The first entry in `(after, through]` for which this holds.
    pub(super) fn find_entry(
        &self,
        after: LogIndex,
        through: LogIndex,
        holds: impl Fn(&Entry) -> bool,
    ) -> Result<Option<LogIndex>, StorageError> {
        /// Bytes of entries that are looked at in one go.
        const PAGE_BYTES: u64 = 1 << 20;

        let mut page = Vec::new();
        let mut next = after.next();
        while next <= through {
            page.clear();
            self.log.slice_into(next, through.next(), PAGE_BYTES, &mut page)?;
            if let Some(entry) = page.iter().find(|entry| holds(entry)) {
                return Ok(Some(entry.index));
            }
            next = page.last().map_or(through, |entry| entry.index).next();
        }
        Ok(None)
    }

    /// Puts a configuration into force, and draws the consequences for the own role, the commit index and the followers.
    pub(super) fn switch_to_configuration(&mut self, configuration: Configuration, progress: ProgressMap) {
        self.tracker.configuration = configuration;
        self.tracker.progress = progress;
        say!(self.logger, Info, "{:x} switched to configuration {}", self.id, self.tracker.configuration);
        let own = self.tracker.progress.get(self.id);
        self.is_learner = own.is_some_and(|progress| progress.is_learner);
        if self.role != Role::Leader {
            return;
        }
        let leads_as_voter = own.is_some() && !self.is_learner;
        self.refresh_lease();
        if !leads_as_voter {
            if self.settings.step_down_on_removal {
                self.become_follower(self.term, NO_PEER);
            }
            return;
        }
        if self.tracker.configuration.voters.incoming.is_empty() {
            return;
        }
        // A smaller quorum may have been reached already, and there may be nobody left whose answer could show that.
        self.answer_confirmed_reads();
        if self.maybe_commit() {
            self.release_reads();
            self.broadcast_append();
        } else {
            // New members need not wait for a heartbeat.
            self.broadcast_missing();
        }
        if self.transferee != NO_PEER && !self.tracker.configuration.voters.contains(self.transferee) {
            self.transferee = NO_PEER;
        }
    }
}
