//! Applying committed entries: the tree changes, then whoever waits is answered.
//!
//! An entry's effect is a function of the entry and the state before it, alike on every replica. All writes of an entry but the last carry the
//! position before it, so that a flush in between leaves a tree that replays the whole entry; that is harmless, because an entry
//! holds either unconditional writes or one condition.

use super::propose::{Outcome, Waiter};
use super::{Change, Peer, ReadValue};
use crate::command::{self, Body, Command, CompareAndSwap, Header, NewRegion};
use crate::error::ShardError;
use bytes::Bytes;
use pinion_capnp::WireError;
use pinion_engine::batch::WriteBatch;
use pinion_raft::Entry;
use pinion_types::{LogIndex, Region, Term};
use std::rc::Rc;
use std::time::Duration;

/// When whoever wanted to change members while others changed should come back.
const CHANGE_WAIT: Duration = Duration::from_millis(100);

/// What must be done for an entry beyond the memtable, by a task that may wait.
pub(crate) enum Slow {
    /// The key's present value must be read from disk first.
    CompareAndSwap(Applying, CompareAndSwap),
    /// The region is to be split.
    Split(Applying, Vec<NewRegion>),
    /// The log is to be compacted through a position.
    Compact(Applying, LogIndex, Term),
    /// The region's members are to change.
    Change(Applying, Change),
}

/// An entry on its way into the tree.
pub(crate) struct Applying {
    /// Where it stands in the log.
    pub(crate) position: (LogIndex, Term),
    header: Header,
    waiters: Vec<Waiter>,
}

impl Applying {
    pub(super) fn new(position: (LogIndex, Term), header: Header, waiters: Vec<Waiter>) -> Self {
        Self { position, header, waiters }
    }

    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// Whether the region had these members when it was proposed.
    pub(crate) fn is_of_members(&self, region: &Region) -> bool {
        self.header.epoch.conf_ver == region.epoch.conf_ver
    }
}

impl Peer {
    /// Queues committed entries.
    pub(super) fn queue_committed(&self, entries: impl IntoIterator<Item = Entry>) {
        self.to_apply.borrow_mut().extend(entries);
    }

    /// Whether an entry is queued that may be applied now.
    pub(crate) fn can_apply(&self) -> bool {
        !self.applying.get() && !self.to_apply.borrow().is_empty()
    }

    /// Applies what is queued, until it was `bytes_max` or an entry needs a task that may wait; that entry is handed out, and the caller ends
    /// it with [`Peer::finish_slow`] and calls again.
    pub(crate) fn apply_queued(&self, bytes_max: usize) -> Result<Option<Slow>, ShardError> {
        let mut bytes = 0;
        while bytes < bytes_max && !self.applying.get() {
            let Some(entry) = self.to_apply.borrow_mut().pop_front() else { break };
            bytes += entry.data.len();
            if let Some(slow) = self.apply(&entry)? {
                self.applying.set(true);
                return Ok(Some(slow));
            }
        }
        Ok(None)
    }

    fn apply(&self, entry: &Entry) -> Result<Option<Slow>, ShardError> {
        let position = (entry.index, entry.term);
        assert!(entry.index == self.applied.get().0.next(), "entries are applied one after the other");
        let waiters = self.waiters_of(entry);
        if entry.kind.is_conf_change() {
            return self.begin_change(entry, waiters);
        }
        if entry.data.is_empty() {
            self.wrote(position);
            // Raft puts it where a change of members would have stood upon another.
            for waiter in waiters {
                let _ = waiter.send(Outcome::Refused(WireError::ServerBusy { retry_after: CHANGE_WAIT }));
            }
            return Ok(None);
        }
        let (header, body) = command::decode(&entry.data).map_err(|source| ShardError::MalformedEntry {
            region: self.id,
            index: entry.index,
            source,
        })?;
        self.stamp.raise(header.stamp_ms);
        self.tree.borrow().set_mark(header.stamp_ms);
        let applying = Applying { position, header, waiters };
        if header.epoch.version != self.region.borrow().epoch.version && !matches!(body, Body::Compact(..)) {
            self.refuse(applying);
            return Ok(None);
        }
        match body {
            Body::Commands(commands) => self.apply_commands(applying, commands),
            Body::Split(new) => Ok(Some(Slow::Split(applying, new))),
            Body::Compact(index, term) => Ok(Some(Slow::Compact(applying, index, term))),
        }
    }

    fn apply_commands(&self, applying: Applying, commands: Vec<Command>) -> Result<Option<Slow>, ShardError> {
        let before = self.applied.get();
        let count = commands.len();
        for (number, command) in commands.into_iter().enumerate() {
            let at = if number + 1 == count { applying.position } else { before };
            match command {
                Command::Write(bytes) => {
                    self.tree.borrow().write(WriteBatch::decode(&bytes)?, at);
                }
                Command::CompareAndSwap(command) => {
                    assert!(count == 1, "a condition is alone in its entry");
                    return self.apply_condition(applying, command);
                }
            }
        }
        self.wrote(applying.position);
        for waiter in applying.waiters {
            let _ = waiter.send(Outcome::Done);
        }
        Ok(None)
    }

    fn apply_condition(
        &self,
        applying: Applying,
        command: CompareAndSwap,
    ) -> Result<Option<Slow>, ShardError> {
        match self.tree.borrow().get_cached(command.family, &command.key) {
            Some(stored) => {
                let present = stored.map(ReadValue::new).transpose()?;
                self.decide(applying, &command, present.as_ref());
                Ok(None)
            }
            None => Ok(Some(Slow::CompareAndSwap(applying, command))),
        }
    }

    /// Decides a compare-and-swap whose key's present value is known.
    fn decide(&self, applying: Applying, command: &CompareAndSwap, present: Option<&ReadValue>) {
        let present = present.filter(|present| !present.is_expired(applying.header.stamp_ms));
        let previous = present.map(|present| Bytes::copy_from_slice(present));
        let swapped = previous == command.expected;
        let mut batch = WriteBatch::default();
        match &command.new {
            Some(new) if swapped => batch.put(command.family, &command.key, new),
            None if swapped => batch.delete(command.family, &command.key),
            _ => {}
        }
        self.tree.borrow().write(batch.view(), applying.position);
        self.wrote(applying.position);
        for waiter in applying.waiters {
            let _ = waiter.send(Outcome::Swapped { swapped, previous: previous.clone() });
        }
    }

    /// Reads the key of a compare-and-swap from disk and decides it.
    pub(crate) async fn apply_condition_slowly(
        self: &Rc<Self>,
        applying: Applying,
        command: CompareAndSwap,
    ) -> Result<(), ShardError> {
        let stored = self.tree().get(command.family, &command.key).await?;
        let present = stored.map(ReadValue::new).transpose()?;
        self.decide(applying, &command, present.as_ref());
        self.finish_slow();
        Ok(())
    }

    /// Notes that what is queued waits for room in the memtables; whether it did not yet.
    pub(crate) fn wait_for_room(&self) -> bool {
        !self.waits_for_room.replace(true)
    }

    /// There is room.
    pub(crate) fn stop_waiting_for_room(&self) {
        self.waits_for_room.set(false);
    }

    /// Whether an entry is committed that is not applied.
    pub(crate) fn has_unapplied(&self) -> bool {
        self.applied.get().0 < self.node.borrow().hard_state().commit
    }

    /// An entry that a task applied is done with; the next may be applied.
    pub(crate) fn finish_slow(&self) {
        assert!(self.applying.replace(false), "an entry was being applied");
    }

    /// Notes that the tree holds everything up to `position`.
    pub(crate) fn wrote(&self, position: (LogIndex, Term)) {
        if self.tree.borrow().applied() < position {
            self.tree.borrow().write(WriteBatch::default().view(), position);
        }
        self.applied.set(position);
        self.release_reads();
    }

    /// An entry that another epoch's leader proposed: it changes nothing, and who waits learns the present region.
    pub(crate) fn refuse(&self, applying: Applying) {
        self.wrote(applying.position);
        for waiter in applying.waiters {
            let _ = waiter.send(Outcome::Refused(self.epoch_not_match()));
        }
    }

    /// Answers everybody who waits for this entry.
    pub(crate) fn answer(applying: Applying, outcome: impl Fn() -> Outcome) {
        for waiter in applying.waiters {
            let _ = waiter.send(outcome());
        }
    }

    /// Who waits for this entry. Proposals whose place another leader's entry took are answered `staleCommand`.
    fn waiters_of(&self, entry: &Entry) -> Vec<Waiter> {
        self.proposed.borrow_mut().take(entry.index, entry.term)
    }
}
