//! How much of its log a leader keeps, and for whom.

use super::Peer;
use pinion_engine::log::Log;
use pinion_raft::Storage;
use pinion_types::{LogIndex, Term};

/// How many times longer than it should be a log may grow for the sake of a slow follower.
const SLOW_FACTOR: u64 = 4;
/// One in so many of the log's entries goes with a compaction, at least: each is an entry itself, and a follower that is a little behind
/// would cost one for every few.
const LEAST_PART: u64 = 8;

impl Peer {
    /// The position that the log should be compacted through now, if this peer leads and the entries below its applied index are more than
    /// `entries_max`, or their bytes more than `bytes_max`. Followers that can be reached are waited for, until there is
    /// [`SLOW_FACTOR`] times as much: then they get a snapshot. Says so once, until the compaction is applied.
    pub(crate) fn compaction_due(
        &self,
        log: &Log,
        entries_max: u64,
        bytes_max: u64,
    ) -> Option<(LogIndex, Term)> {
        let (first, applied) = (log.first_index(self.id), self.applied.get().0);
        let entries = applied.0.saturating_sub(first.0);
        let bytes = log.entry_bytes(self.id, first, applied.next());
        let is_over = |factor: u64| {
            entries > entries_max.saturating_mul(factor)
                || (bytes > bytes_max.saturating_mul(factor) && entries > 1)
        };
        if !is_over(1) || !self.is_leader() {
            return None;
        }
        let through = if is_over(SLOW_FACTOR) { applied } else { applied.min(self.slowest_match()) };
        if through.0 < first.0 + entries / LEAST_PART {
            return None;
        }
        self.compaction_through(first, through)
    }

    /// The position that the log should be compacted through to be as short as can be. Says so once, until the compaction is applied.
    pub(crate) fn compaction_through_applied(&self, first_index: LogIndex) -> Option<(LogIndex, Term)> {
        self.compaction_through(first_index, self.applied.get().0)
    }

    fn compaction_through(&self, first_index: LogIndex, through: LogIndex) -> Option<(LogIndex, Term)> {
        // What Raft has not heard to be applied it may still ask for.
        let node = self.node.borrow();
        let through = through.min(node.applied());
        if through < first_index {
            return None;
        }
        let term = node.storage().term(through).ok()?;
        (!self.compacting.replace(true)).then_some((through, term))
    }

    /// Nobody knows any more what became of a compaction that was proposed.
    pub(super) fn forget_compaction(&self) {
        self.compacting.set(false);
    }

    /// The log was compacted.
    pub(crate) fn compacted(&self) {
        self.compacting.set(false);
    }
}
