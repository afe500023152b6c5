//! How much of its log a leader keeps, and for whom.
//!
//! A log that is cut behind the position of a snapshot which is on its way makes that snapshot useless: as soon as it has arrived, another is
//! needed. So the log that follows on the region's latest snapshot is kept until those who are sent it have caught up, and no longer than the
//! snapshot itself, which is until nobody has needed it for half a minute. That has bounds of its own: a member that is filled more
//! slowly than the region is written must not fill the disk.

use super::Peer;
use pinion_engine::log::Log;
use pinion_raft::Storage;
use pinion_types::{LogIndex, PeerId, Term};

/// How many times longer than it should be a log may grow for the sake of a slow follower.
const SLOW_FACTOR: u64 = 4;
/// One in so many of the log's entries goes with a compaction, at least: each is an entry itself, and a follower that is a little behind
/// would cost one for every few.
const LEAST_PART: u64 = 8;
/// How many times longer than it should be a log may grow, counted in entries, for the sake of those who are sent a snapshot. Less: a region
/// of many small entries is sent again and again. More: memory for the log's index, 80 bytes an entry.
const FILL_ENTRIES_FACTOR: u64 = 16;
/// Bytes by which a log may be longer for their sake than for a slow follower's, as a multiple of the snapshot's own: so many times faster than
/// snapshots are sent may the region be written. Less: a region that is written fast is sent again and again. More: disk.
const FILL_BYTES_FACTOR: u64 = 2;

impl Peer {
    /// The position that the log should be compacted through now, if this peer leads and the entries below its applied index are more than
    /// `entries_max`, or their bytes more than `bytes_max`. Followers that can be reached are waited for, until there is
    /// [`SLOW_FACTOR`] times as much: then they get a snapshot. Those who are sent one are waited for until there is [`FILL_ENTRIES_FACTOR`]
    /// times as much, or [`FILL_BYTES_FACTOR`] times the snapshot's bytes more. Says so once, until the compaction is applied.
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
        self.snapshots.forget_filled(|peer| {
            let matched = self.matched(peer);
            matched.0.saturating_add(entries_max) < applied.0
                || log.entry_bytes(self.id, matched.next(), applied.next()) > bytes_max
        });
        if !is_over(1) || !self.is_leader() {
            return None;
        }
        let slowest = if is_over(SLOW_FACTOR) { applied } else { self.slowest_match() };
        let filled = self.filled_through(first, |snapshot_bytes| {
            let bytes_max = bytes_max.saturating_mul(SLOW_FACTOR);
            entries <= entries_max.saturating_mul(FILL_ENTRIES_FACTOR)
                && bytes <= bytes_max.saturating_add(snapshot_bytes.saturating_mul(FILL_BYTES_FACTOR))
        });
        let through = applied.min(slowest).min(filled);
        if through.0 < first.0 + entries / LEAST_PART {
            return None;
        }
        self.compaction_through(first, through)
    }

    /// The position that the log should be compacted through because the core's log is past its bound by so many bytes: all that is
    /// applied, but for what those need who are sent a snapshot, until the log is past its bound by [`FILL_BYTES_FACTOR`] times the
    /// snapshot's bytes. Says so once, until the compaction is applied.
    pub(crate) fn compaction_past_bound(&self, log: &Log, bytes_past: u64) -> Option<(LogIndex, Term)> {
        let first = log.first_index(self.id);
        let filled = match self.is_leader() {
            true => self.filled_through(first, |bytes| bytes_past <= bytes.saturating_mul(FILL_BYTES_FACTOR)),
            false => LogIndex(u64::MAX),
        };
        self.compaction_through(first, self.applied.get().0.min(filled))
    }

    /// Up to where those have the log who are filled, or will have it once the region's latest snapshot has arrived, where the log follows
    /// on that and `may_wait` for one of so many bytes.
    fn filled_through(&self, first_index: LogIndex, may_wait: impl Fn(u64) -> bool) -> LogIndex {
        let everything = LogIndex(u64::MAX);
        match self.snapshots.latest() {
            Some((index, bytes, receivers)) if index.next() >= first_index && may_wait(bytes) => {
                let filled = |peer| self.matched(peer).max(index);
                match receivers {
                    Some(receivers) => receivers.iter().map(|receiver| filled(receiver.peer)).min(),
                    // Nobody was sent it yet: it is for one of those who are behind it.
                    None => self.region.borrow().peers.iter().map(|member| filled(member.id)).min(),
                }
                .unwrap_or(everything)
            }
            _ => everything,
        }
    }

    /// Up to where a member has the log; everything, for one that is none.
    fn matched(&self, peer: PeerId) -> LogIndex {
        let node = self.node.borrow();
        node.tracker().progress.get(peer).map_or(LogIndex(u64::MAX - 1), |progress| progress.matched)
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
