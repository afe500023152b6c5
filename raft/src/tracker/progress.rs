//! What the leader knows of one follower, and what it may send to it.

use std::fmt;

use pinion_types::{LogIndex, PeerId};

use super::Inflights;

/// How the leader sends to a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressState {
    /// Where the logs agree is not known: one append a heartbeat, to find out.
    #[default]
    Probe,
    /// The logs agree: appends are sent ahead of the answers.
    Replicate,
    /// The follower needs entries that are compacted: nothing is sent until it has a snapshot.
    Snapshot,
}

impl fmt::Display for ProgressState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "StateProbe",
            Self::Replicate => "StateReplicate",
            Self::Snapshot => "StateSnapshot",
        })
    }
}

/// A follower as the leader sees it. Entries in `(matched, next)` are on their way.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Up to here the follower's log is known to be the leader's.
    pub matched: LogIndex,
    /// The next entry to send; always above `matched`.
    pub next: LogIndex,
    /// The greatest commit index that was sent; sending a greater one early helps only while this is below `next - 1`.
    pub(crate) sent_commit: LogIndex,
    /// How to send.
    pub state: ProgressState,
    /// In [`ProgressState::Snapshot`], the index of the snapshot that was sent, otherwise 0. Replication goes on as soon
    /// as the follower acknowledges anything that connects to the leader's log, be it another snapshot.
    pub pending_snapshot: LogIndex,
    /// Whether anything was heard from it since the last check of the quorum. Always true on the leader itself.
    pub recently_active: bool,
    /// The latest stamp of a heartbeat that it has answered with a promise: see [`crate::LeaseConfig`].
    pub(crate) promised: u64,
    /// Nothing more is sent until the follower answers: a probe is out, or the window is full.
    pub(crate) append_paused: bool,
    /// What is on its way.
    pub(crate) inflights: Inflights,
    /// Whether it learns without a vote.
    pub is_learner: bool,
}

impl Progress {
    pub(crate) fn new(next: LogIndex, inflights: Inflights, is_learner: bool) -> Self {
        Self { next, inflights, is_learner, ..Self::default() }
    }

    fn reset_state(&mut self, state: ProgressState) {
        self.append_paused = false;
        self.pending_snapshot = LogIndex(0);
        self.state = state;
        self.inflights.reset();
    }

    /// Goes to probing, from after `matched` or after the snapshot that was sent.
    pub(crate) fn become_probe(&mut self) {
        let after_snapshot = match self.state {
            ProgressState::Snapshot => self.pending_snapshot.next(),
            ProgressState::Probe | ProgressState::Replicate => LogIndex(0),
        };
        self.reset_state(ProgressState::Probe);
        self.next = self.matched.next().max(after_snapshot);
        self.sent_commit = self.sent_commit.min(self.next.previous());
    }

    /// Goes to replicating, from after `matched`.
    pub(crate) fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next = self.matched.next();
    }

    /// Waits for a snapshot at `index`.
    pub(crate) fn become_snapshot(&mut self, index: LogIndex) {
        self.reset_state(ProgressState::Snapshot);
        self.pending_snapshot = index;
        self.next = index.next();
        self.sent_commit = index;
    }

    /// Notes an append message with this many entries from `next` on.
    pub(crate) fn sent_entries(&mut self, count: usize, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if count > 0 {
                    // A count of entries in memory fits into 64 bits.
                    self.next.0 += u64::try_from(count).unwrap_or(0);
                    self.inflights.add(self.next.previous(), bytes);
                }
                // Into a full window an empty append still goes, as a probe: all that filled it may be lost.
                self.append_paused = self.inflights.is_full();
            }
            ProgressState::Probe => self.append_paused |= count > 0,
            ProgressState::Snapshot => {}
        }
    }

    /// Whether sending this commit index early could let the follower commit more.
    pub(crate) fn can_bump_commit(&self, commit: LogIndex) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next.previous()
    }

    /// Takes an acknowledgement up to `index`; false when it says nothing new. What is new makes room.
    pub(crate) fn maybe_update(&mut self, index: LogIndex) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index.next());
        self.append_paused = false;
        true
    }

    /// Takes a rejection of an append after `rejected`, with the follower's hint where to try; false when it is stale.
    pub(crate) fn maybe_decrease(&mut self, rejected: LogIndex, hint: LogIndex) -> bool {
        if self.state == ProgressState::Replicate {
            if rejected <= self.matched {
                return false;
            }
            self.next = self.matched.next();
            self.sent_commit = self.sent_commit.min(self.next.previous());
            return true;
        }
        // Outside of replication there is one message at a time: a rejection of any other is old.
        if self.next.previous() != rejected {
            return false;
        }
        self.next = rejected.min(hint.next()).max(self.matched.next());
        self.sent_commit = self.sent_commit.min(self.next.previous());
        self.append_paused = false;
        true
    }

    /// Whether nothing may be sent to it for now.
    pub fn is_paused(&self) -> bool {
        self.append_paused || self.state == ProgressState::Snapshot
    }

    /// Messages on their way to it.
    pub fn inflight_messages(&self) -> usize {
        self.inflights.len()
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} match={} next={}", self.state, self.matched, self.next)?;
        if self.is_learner {
            f.write_str(" learner")?;
        }
        if self.is_paused() {
            f.write_str(" paused")?;
        }
        if self.pending_snapshot > LogIndex(0) {
            write!(f, " pendingSnap={}", self.pending_snapshot)?;
        }
        if !self.recently_active {
            f.write_str(" inactive")?;
        }
        if !self.inflights.is_empty() {
            write!(f, " inflight={}", self.inflights.len())?;
            if self.inflights.is_full() {
                f.write_str("[full]")?;
            }
        }
        Ok(())
    }
}

/// The progress of every member, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct ProgressMap {
    members: Vec<(PeerId, Progress)>,
}

impl ProgressMap {
    fn place(&self, id: PeerId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// The progress of a member.
    pub fn get(&self, id: PeerId) -> Option<&Progress> {
        self.place(id).ok().map(|place| &self.members[place].1)
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Progress> {
        self.place(id).ok().map(|place| &mut self.members[place].1)
    }

    /// Whether it is a member.
    pub fn contains(&self, id: PeerId) -> bool {
        self.place(id).is_ok()
    }

    pub(crate) fn insert(&mut self, id: PeerId, progress: Progress) {
        match self.place(id) {
            Ok(place) => self.members[place].1 = progress,
            Err(place) => self.members.insert(place, (id, progress)),
        }
    }

    pub(crate) fn remove(&mut self, id: PeerId) {
        if let Ok(place) = self.place(id) {
            self.members.remove(place);
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member at a place, for loops that change the node as they go.
    pub(crate) fn id_at(&self, place: usize) -> Option<PeerId> {
        self.members.get(place).map(|(id, _)| *id)
    }

    /// All members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Progress)> {
        self.members.iter().map(|(id, progress)| (*id, progress))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Progress)> {
        self.members.iter_mut().map(|(id, progress)| (*id, progress))
    }
}

impl fmt::Display for ProgressMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, progress) in self.iter() {
            writeln!(f, "{id}: {progress}")?;
        }
        Ok(())
    }
}
