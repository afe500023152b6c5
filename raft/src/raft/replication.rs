//! The leader's log on its way to its followers, and to being committed. Thesis §3.5 and §3.6.

use pinion_types::{LogIndex, PeerId};

use super::Raft;
use crate::log::EntryId;
use crate::logger::say;
use crate::message::{charged_bytes, payload_bytes};
use crate::raw_node::Role;
use crate::tracker::ProgressState;
use crate::{
    DropReason, Entry, EntryKind, INDEX_MAX, Message, MessageKind, NO_PEER, RaftError, Storage, StorageError,
};

impl<S: Storage> Raft<S> {
    /// The empty entry that begins a leader's term: only with an entry of its own does it commit earlier ones.
    pub(super) fn append_empty(&mut self) {
        // It is within every limit but that of the log itself, at which a leader can do nothing anyway.
        let _ = self.append_charged(Entry::default(), 0);
        self.log.charge_from(self.log.last_index().next());
    }

    /// Appends an entry to the leader's log.
    pub(super) fn append_one(&mut self, entry: Entry) -> Result<(), RaftError> {
        let bytes = entry.charged_bytes();
        self.append_charged(entry, bytes)
    }

    fn append_charged(&mut self, mut entry: Entry, bytes: u64) -> Result<(), RaftError> {
        self.take_room(bytes, 1)?;
        let last = EntryId { term: self.term, index: self.log.last_index().next() };
        (entry.term, entry.index) = (last.term, last.index);
        self.log.append_one(entry);
        self.acknowledge_own(last.index);
        Ok(())
    }

    pub(super) fn append_entries(&mut self, mut entries: Vec<Entry>) -> Result<(), RaftError> {
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        self.take_room(charged_bytes(&entries), count)?;
        let mut last = EntryId { term: self.term, index: self.log.last_index() };
        for entry in &mut entries {
            last.index = last.index.next();
            (entry.term, entry.index) = (last.term, last.index);
        }
        self.log.append(entries, last);
        self.acknowledge_own(last.index);
        Ok(())
    }

    /// Counts bytes against the limit. With nothing uncommitted any size passes, and what is free always.
    fn take_room(&mut self, bytes: u64, count: u64) -> Result<(), RaftError> {
        let limit = self.settings.uncommitted_bytes_max;
        if self.uncommitted_bytes > 0 && bytes > 0 && self.uncommitted_bytes.saturating_add(bytes) > limit {
            say!(
                self.logger,
                Warn,
                "{:x} appending new entries to log would exceed uncommitted entry size limit; dropping proposal",
                self.id
            );
            return Err(RaftError::ProposalDropped(DropReason::Uncommitted { limit }));
        }
        if count > INDEX_MAX - self.log.last_index().0 {
            return Err(RaftError::ProposalDropped(DropReason::LogFull));
        }
        self.uncommitted_bytes += bytes;
        Ok(())
    }

    /// The leader's own acknowledgement comes when its entries are durable, like anybody's.
    fn acknowledge_own(&mut self, index: LogIndex) {
        if self.settings.batch_append {
            // It waits for the same write as the one before, and says more.
            self.own_acknowledgement = Some(EntryId { term: self.term, index });
            return;
        }
        let to = self.id;
        self.send(Message { kind: MessageKind::AppendResponse, to, index, ..Message::default() });
    }

    /// Sends an append, if only an empty one that tells the commit index.
    pub(super) fn send_append(&mut self, to: PeerId) {
        self.maybe_send_append(to, true);
    }

    /// Sends what the follower may be sent, a snapshot if the entries are gone. False when nothing was sent.
    pub(super) fn maybe_send_append(&mut self, to: PeerId, if_empty: bool) -> bool {
        let Some(progress) = self.tracker.progress.get(to) else { return false };
        if progress.is_paused() {
            return false;
        }
        let (next, previous) = (progress.next, progress.next.previous());
        // Into a full window goes an empty append only: all that filled it may be lost, and its answer tells.
        let may_fill = progress.state != ProgressState::Replicate || !progress.inflights.is_full();
        let log_term = match self.log.term(previous) {
            Ok(term) => term,
            Err(StorageError::TemporarilyUnavailable) => return false,
            Err(_) => return self.maybe_send_snapshot(to),
        };
        let mut entries = Vec::new();
        if may_fill {
            match self.log.entries_into(next, self.settings.message_bytes_max, &mut entries) {
                Ok(()) => {}
                Err(StorageError::TemporarilyUnavailable) => return false,
                Err(_) if !if_empty => return false,
                Err(_) => return self.maybe_send_snapshot(to),
            }
        }
        if entries.is_empty() && !if_empty {
            return false;
        }
        let (count, bytes) = (entries.len(), payload_bytes(&entries));
        let commit = self.log.committed;
        self.send(Message {
            kind: MessageKind::Append,
            to,
            index: previous,
            log_term,
            entries,
            commit,
            ..Message::default()
        });
        if let Some(progress) = self.tracker.progress.get_mut(to) {
            progress.sent_entries(count, bytes);
            progress.sent_commit = commit;
        }
        true
    }

    fn maybe_send_snapshot(&mut self, to: PeerId) -> bool {
        let first = self.log.first_index();
        let Some(progress) = self.tracker.progress.get_mut(to) else { return false };
        if !progress.recently_active {
            say!(self.logger, Debug, "ignore sending snapshot to {to:x} since it is not recently active");
            return false;
        }
        let snapshot = match self.log.snapshot() {
            Ok(snapshot) if !snapshot.is_empty() => snapshot,
            Ok(_) => {
                say!(self.logger, Error, "{:x} has compacted its log without a snapshot for {to:x}", self.id);
                return false;
            }
            Err(StorageError::SnapshotTemporarilyUnavailable) => {
                say!(
                    self.logger,
                    Debug,
                    "{:x} failed to send snapshot to {to:x} because snapshot is temporarily unavailable",
                    self.id
                );
                return false;
            }
            Err(error) => {
                say!(self.logger, Error, "{:x} failed to send snapshot to {to:x}: {error}", self.id);
                return false;
            }
        };
        let (index, term) = (snapshot.metadata.index, snapshot.metadata.term);
        say!(
            self.logger,
            Debug,
            "{:x} [firstindex: {first}, commit: {}] sent snapshot[index: {index}, term: {term}] to {to:x} [{progress}]",
            self.id,
            self.log.committed
        );
        progress.become_snapshot(index);
        say!(self.logger, Debug, "{:x} paused sending replication messages to {to:x} [{progress}]", self.id);
        self.send(Message {
            kind: MessageKind::Snapshot,
            to,
            snapshot: Some(Box::new(snapshot)),
            ..Message::default()
        });
        true
    }

    /// Lets the followers hear of new entries or of a new commit index, now or with the next work that is taken.
    pub(super) fn announce(&mut self) {
        if self.settings.batch_append {
            self.appends_due = true;
        } else {
            self.broadcast_append();
        }
    }

    /// The same for one follower.
    pub(super) fn announce_to(&mut self, id: PeerId) {
        if self.settings.batch_append {
            self.appends_due = true;
        } else {
            self.send_append(id);
        }
    }

    /// The same for what a follower's window had no room for; several messages may go.
    pub(super) fn announce_rest_to(&mut self, id: PeerId) {
        if self.settings.batch_append {
            self.appends_due = true;
        } else {
            while self.maybe_send_append(id, false) {}
        }
    }

    /// Sends what has come together since work was last taken.
    pub(crate) fn send_due_appends(&mut self) {
        if !std::mem::take(&mut self.appends_due) {
            return;
        }
        let (committed, last) = (self.log.committed, self.log.last_index());
        self.for_each_follower(|raft, id| {
            let Some(progress) = raft.tracker.progress.get(id) else { return };
            let mut is_behind = progress.next <= last || progress.can_bump_commit(committed);
            while raft.maybe_send_append(id, is_behind) {
                is_behind = false;
            }
        });
    }

    /// Sends an append to every follower, ascending.
    pub(crate) fn broadcast_append(&mut self) {
        self.for_each_follower(Self::send_append);
    }

    /// Sends what each follower does not have, and nothing to those that have it all.
    pub(super) fn broadcast_missing(&mut self) {
        self.for_each_follower(|raft, id| {
            raft.maybe_send_append(id, false);
        });
    }

    pub(super) fn for_each_follower(&mut self, mut f: impl FnMut(&mut Self, PeerId)) {
        let mut place = 0;
        while let Some(id) = self.tracker.progress.id_at(place) {
            if id != self.id {
                f(self, id);
            }
            place += 1;
        }
    }

    pub(crate) fn broadcast_heartbeat(&mut self) {
        let context = self.read_only.last_context();
        self.broadcast_heartbeat_with(&context);
    }

    pub(super) fn broadcast_heartbeat_with(&mut self, context: &bytes::Bytes) {
        // Whoever is to take over needs the votes of those that would promise.
        let lease = match &mut self.lease {
            Some(lease) if self.transferee == NO_PEER => lease.stamp(),
            _ => 0,
        };
        self.for_each_follower(|raft, to| {
            let Some(progress) = raft.tracker.progress.get_mut(to) else { return };
            // A follower must not commit what it may not have: its log may differ beyond what it has acknowledged.
            let commit = progress.matched.min(raft.log.committed);
            progress.sent_commit = commit;
            raft.send(Message {
                kind: MessageKind::Heartbeat,
                to,
                commit,
                context: context.clone(),
                lease,
                ..Message::default()
            });
        });
    }

    /// Commits what a quorum holds, if the last of it is of this leader's term (thesis §3.6.2). Whoever gets a true must
    /// tell the followers.
    pub(super) fn maybe_commit(&mut self) -> bool {
        self.log.maybe_commit(EntryId { term: self.term, index: self.tracker.committed() })
    }

    /// Everything up to `index` is applied; a joint configuration that says so is left now.
    pub(crate) fn applied_to(&mut self, index: LogIndex) {
        let charged = self.log.applied_to(index);
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(charged);
        if !self.tracker.configuration.auto_leave
            || self.log.applied < self.pending_conf_index
            || self.role != Role::Leader
        {
            return;
        }
        // It is refused while leadership is transferred; then the new leader does it, or this one with the next entry.
        let leave = Entry { kind: EntryKind::ConfChangeV2, ..Entry::default() };
        let configuration = self.tracker.configuration.clone();
        match self.take_proposals(vec![leave]) {
            Ok(()) => say!(
                self.logger,
                Info,
                "initiating automatic transition out of joint configuration {configuration}"
            ),
            Err(_) => say!(
                self.logger,
                Debug,
                "not initiating automatic transition out of joint configuration {configuration}: raft proposal dropped"
            ),
        }
    }

    /// Entries that a follower needed can be read now.
    pub(crate) fn entries_available(&mut self) {
        self.log.unblock();
        if self.role != Role::Leader {
            return;
        }
        if self.maybe_commit() {
            // The term that commits may have been among what could not be read.
            self.release_reads();
            self.broadcast_append();
        } else {
            self.broadcast_missing();
        }
    }
}
