//! What travels between peers, between a node and its storage, and what is kept on disk.
//!
//! The types are plain data; how they look on the wire and on disk is decided by the crates that own these.

use bytes::Bytes;
use pinion_types::{LogIndex, PeerId, Term};

/// No peer: no leader known, no vote given.
pub const NO_PEER: PeerId = PeerId(0);
/// The receiver of [`MessageKind::StorageAppend`]: whoever makes the log durable.
pub const APPEND_THREAD: PeerId = PeerId(u64::MAX);
/// The receiver of [`MessageKind::StorageApply`]: whoever applies committed entries.
pub const APPLY_THREAD: PeerId = PeerId(u64::MAX - 1);
/// The greatest index and term that a message may carry. A message with a greater one is refused, so that no sum in
/// the algorithm can overflow.
pub const INDEX_MAX: u64 = u64::MAX / 4;

/// What an entry's data means to the log's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A command of the application; empty for the entry that a new leader begins its term with.
    #[default]
    Normal,
    /// One change of the configuration, in the simple form of [`crate::ConfChange`].
    ConfChange,
    /// Any change of the configuration, joint ones included.
    ConfChangeV2,
}

impl EntryKind {
    /// Whether the entry changes the configuration.
    pub fn is_conf_change(self) -> bool {
        self != Self::Normal
    }
}

/// One entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The term in which a leader appended it.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
    /// What the data means.
    pub kind: EntryKind,
    /// The command. Shared, not copied, when an entry is cloned.
    pub data: Bytes,
}

impl Entry {
    /// Bytes that an entry is taken to need beside its data, wherever a limit counts bytes.
    pub const OVERHEAD_BYTES: u64 = 12;

    /// The size that limits on messages and on batches to apply count.
    pub fn size_bytes(&self) -> u64 {
        self.payload_bytes() + Self::OVERHEAD_BYTES
    }

    /// The size that the limit on bytes on their way counts: an empty entry is free.
    pub fn payload_bytes(&self) -> u64 {
        // A length always fits: usize is at most 64 bits wide on every target.
        u64::try_from(self.data.len()).unwrap_or(u64::MAX)
    }

    /// The size that the limit on uncommitted bytes counts: that of the payload, but an empty entry takes memory, too.
    pub(crate) fn charged_bytes(&self) -> u64 {
        if self.data.is_empty() { Self::OVERHEAD_BYTES } else { self.payload_bytes() }
    }
}

/// The sum of the entries' payloads.
pub(crate) fn payload_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::payload_bytes).sum()
}

/// The sum of what the entries are charged with.
pub(crate) fn charged_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::charged_bytes).sum()
}

/// The sum of the entries' sizes.
pub(crate) fn size_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::size_bytes).sum()
}

/// What a node must remember of itself through a crash, beside its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term that the node knows.
    pub term: Term,
    /// Whom it voted for in that term; [`NO_PEER`] for nobody.
    pub vote: PeerId,
    /// The commit index. A crash may take it back to an earlier value, or to 0: what was applied, and all changes of the
    /// configuration in the log but the last, are known to be committed all the same, and the rest is committed again.
    /// Where [`crate::Config::disable_conf_change_validation`] lets changes overlap, that does not hold, and it must be
    /// synced. Term and vote must not be lost.
    pub commit: LogIndex,
}

impl HardState {
    /// Whether nothing is set, as before the first start.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A configuration as it is stored: who votes, who learns, and which change is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// The voters, in a joint configuration those of the incoming half.
    pub voters: Vec<PeerId>,
    /// Peers that receive the log and do not vote.
    pub learners: Vec<PeerId>,
    /// The voters of the outgoing half; empty when the configuration is not joint.
    pub voters_outgoing: Vec<PeerId>,
    /// Voters of the outgoing half that become learners when the joint configuration is left.
    pub learners_next: Vec<PeerId>,
    /// Whether the leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

impl ConfState {
    /// Whether both say the same, whatever the order of their lists.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        fn sorted(list: &[PeerId]) -> Vec<PeerId> {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        }
        self.auto_leave == other.auto_leave
            && sorted(&self.voters) == sorted(&other.voters)
            && sorted(&self.learners) == sorted(&other.learners)
            && sorted(&self.voters_outgoing) == sorted(&other.voters_outgoing)
            && sorted(&self.learners_next) == sorted(&other.learners_next)
    }
}

/// Where a snapshot stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// The configuration at `index`.
    pub conf_state: ConfState,
    /// The last entry that the snapshot covers.
    pub index: LogIndex,
    /// That entry's term.
    pub term: Term,
}

/// The state machine's state at a position, or a description of where to get it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it stands.
    pub metadata: SnapshotMetadata,
    /// The application's, opaque to consensus.
    pub data: Bytes,
}

impl Snapshot {
    /// Whether it stands nowhere.
    pub fn is_empty(&self) -> bool {
        self.metadata.index == LogIndex(0)
    }
}

/// What a message is about. The fields that each kind uses are named with it; the others are zero or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Entries proposed on a follower, on their way to the leader: `entries`. Carries no term.
    #[default]
    Propose,
    /// The leader's log from `index` (of term `log_term`, the entry before the first) on: `entries`, `commit`.
    Append,
    /// Everything up to `index` is durable; or, with `reject`, the log does not match at `index`, and `reject_hint` and
    /// `log_term` say where to try next. Of a higher term and otherwise empty: the receiver's term is over.
    AppendResponse,
    /// A candidate, whose log ends at `index` of `log_term`, asks for a vote. `context` begins with `CampaignTransfer` if the
    /// leader sent it, when `lease` is what that leader has given up, and names the last entry that the candidate knows to
    /// be committed, as in [`MessageKind::VoteResponse`]: a voter that can't be elected may not have heard that it can.
    Vote,
    /// A vote for the candidate with the log whose last entry `context` names; one for another log does not count. Or,
    /// with `reject`, none: who refuses and can't lead itself names the last entry that it knows to be committed, since the
    /// candidate may wait for its vote without knowing of the change that took it. `context` is term and index, 8 bytes
    /// each, little-endian, or empty for none.
    VoteResponse,
    /// Asks who would vote in `term`, which has not begun.
    PreVote,
    /// A promise to vote, or with `reject` none, both as in [`MessageKind::VoteResponse`].
    PreVoteResponse,
    /// A snapshot in place of entries that the leader no longer has: `snapshot`.
    Snapshot,
    /// The leader is alive, and the receiver may commit up to `commit`. `context` belongs to a read, `lease` asks for a
    /// promise.
    Heartbeat,
    /// Answers a heartbeat with its `context`, and with its `lease` if the promise is given.
    HeartbeatResponse,
    /// Asks the leader to hand leadership to `from`.
    TransferLeader,
    /// The leader asks the receiver to campaign at once; it has given up what it was promised up to `lease`.
    TimeoutNow,
    /// Asks the leader for a read index; `context` names the read. Carries no term.
    ReadIndex,
    /// The read named by `context` may be served once `index` is applied.
    ReadIndexResponse,
    /// To [`APPEND_THREAD`]: make `entries`, the hard state (`term`, `vote`, `commit`; all zero for unchanged) and
    /// `snapshot` durable, then deliver `responses`. A message without responses need not be durable.
    StorageAppend,
    /// From [`APPEND_THREAD`]: all up to `index` of `log_term`, and `snapshot`, is durable.
    StorageAppendResponse,
    /// To [`APPLY_THREAD`]: apply `entries`, then deliver `responses`.
    StorageApply,
    /// From [`APPLY_THREAD`]: all up to `index` is applied.
    StorageApplyResponse,
}

impl MessageKind {
    /// Whether it answers an earlier message of the receiver.
    pub fn is_response(self) -> bool {
        matches!(
            self,
            Self::AppendResponse
                | Self::VoteResponse
                | Self::PreVoteResponse
                | Self::HeartbeatResponse
                | Self::ReadIndexResponse
        )
    }

    /// Whether it passes between a node and its own storage, and never over the network.
    pub fn is_storage(self) -> bool {
        matches!(
            self,
            Self::StorageAppend
                | Self::StorageAppendResponse
                | Self::StorageApply
                | Self::StorageApplyResponse
        )
    }

    /// Whether it says something about the sender's log, term or lease, so that it must carry the sender's term.
    pub(crate) fn needs_term(self) -> bool {
        !self.is_storage() && !matches!(self, Self::Propose | Self::ReadIndex | Self::TransferLeader)
    }
}

/// A message between two peers, or between a node and its storage. See [`MessageKind`] for the fields in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub kind: MessageKind,
    /// Whether the answer is no.
    pub reject: bool,
    /// The receiver.
    pub to: PeerId,
    /// The sender.
    pub from: PeerId,
    /// The sender's term; that of the election for votes; 0 for a message that belongs to no term.
    pub term: Term,
    /// The term of the entry at `index`.
    pub log_term: Term,
    /// A position in the log.
    pub index: LogIndex,
    /// The sender's commit index, as far as the receiver may use it.
    pub commit: LogIndex,
    /// The vote within a hard state to be written.
    pub vote: PeerId,
    /// Where a rejected append should be tried next.
    pub reject_hint: LogIndex,
    /// The candidate's priority, see [`crate::Config::priority`].
    pub priority: i64,
    /// When a heartbeat was sent, by its leader's clock, in nanoseconds; 0 where leases have no part in it. See
    /// [`crate::LeaseConfig`].
    pub lease: u64,
    /// Entries to append, to propose or to apply, in order and without gaps.
    pub entries: Vec<Entry>,
    /// A snapshot, boxed because it is rare.
    pub snapshot: Option<Box<Snapshot>>,
    /// Names a read, the kind of an election, or in its answer an entry.
    pub context: Bytes,
    /// What the storage delivers when it is done.
    pub responses: Vec<Message>,
}

impl Message {
    /// The hard state that a [`MessageKind::StorageAppend`] asks to be written, if any.
    pub fn hard_state(&self) -> Option<HardState> {
        let state = HardState { term: self.term, vote: self.vote, commit: self.commit };
        (self.kind == MessageKind::StorageAppend && !state.is_empty()).then_some(state)
    }

    /// Whether it is for, or from, the node's own storage, and must neither be sent nor lost.
    pub fn is_local(&self) -> bool {
        self.kind.is_storage() || self.to == self.from
    }
}
