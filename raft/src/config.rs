//! How a node is set up.

use std::ops::Range;
use std::rc::Rc;

use pinion_types::{LogIndex, PeerId};

use crate::lease::LeaseConfig;
use crate::logger::{LogSink, Logger};
use crate::{APPEND_THREAD, APPLY_THREAD, NO_PEER, RaftError};

/// Draws a number of ticks from a range. A result outside of the range is brought into it.
pub type TimeoutSource = Box<dyn FnMut(Range<usize>) -> usize>;

/// How a linearizable read finds out that this leader is still the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnlyOption {
    /// Each batch of reads asks a quorum. Safe whatever the clocks do.
    #[default]
    Safe,
    /// The leader trusts the quorum that it heard within the last election timeout, counted in ticks. Needs
    /// [`Config::check_quorum`], and is only as good as the ticks are even.
    LeaseBased,
}

/// Whether committed entries are handed out for applying before this node's own log holds them durably.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApplyAhead {
    /// Only what is durable here, when storage writes are asynchronous. Without them each [`crate::Ready`] is persisted
    /// before it is applied, and the question does not arise.
    #[default]
    No,
    /// All that is committed. The state machine may then be ahead of the own log, so it must not make an entry durable
    /// before the log has; after a crash such entries come again from the leader.
    Yes,
}

/// The set-up of a node. [`Config::new`] gives the defaults; ticks are the driver's, by [`crate::RawNode::tick`].
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Config {
    /// The node's own id, neither 0 nor one of the two greatest numbers. etcd: `ID`.
    pub id: PeerId,
    /// Ticks without a leader until a follower campaigns; the timeout is drawn from `[election_tick, 2 · election_tick)`.
    /// Default 10. Too small: a busy disk or network deposes good leaders. Too large: a dead leader is missed late. Must
    /// exceed `heartbeat_tick`. etcd: `ElectionTick`.
    pub election_tick: usize,
    /// Ticks between two heartbeats of a leader. Default 1. Too small: idle groups cost messages. Too large: a single
    /// lost heartbeat brings an election near. etcd: `HeartbeatTick`.
    pub heartbeat_tick: usize,
    /// The index up to which the state machine has applied when the node starts; default 0, which is taken as the
    /// beginning of the log. Too small: entries are applied twice. Greater than the stored commit index: it takes that
    /// one's place, since a crash may lose a commit index that was not synced. Greater than the last index: refused.
    /// etcd: `Applied`, which must not exceed the commit index.
    pub applied: LogIndex,
    /// Appends are made when work is taken by [`crate::RawNode::ready`], and not with each proposal and each acknowledgement: what
    /// came in between travels in one message. Default true. Off, a burst of proposals is a burst of messages. etcd sends at
    /// once; TiKV's raft: `batch_append` (default off).
    pub batch_append: bool,
    /// Bytes of entries in one append message, [`crate::Entry::size_bytes`] summed; at least one entry always goes.
    /// Default 1 MiB. Too small: catching up takes many messages. Too large: one message delays the heartbeats behind
    /// it. etcd: `MaxSizePerMsg`.
    pub max_size_per_message: u64,
    /// Bytes of committed entries that are handed out and not yet reported as applied; at least one entry always goes.
    /// Default 4 MiB. Too small: applying waits for round trips. Too large: memory, and long pauses of the applier. 0
    /// stands for `max_size_per_message`. etcd: `MaxCommittedSizePerReady`.
    pub max_committed_size_per_ready: u64,
    /// Bytes of payload that a leader takes without having them committed; above it proposals are dropped. An empty entry
    /// counts [`crate::Entry::OVERHEAD_BYTES`], but for that with which a term begins. Default 64 MiB. Too small: throughput
    /// is bounded by it per round trip. Too large: memory when the quorum is gone. 0 is no limit. etcd:
    /// `MaxUncommittedEntriesSize`, for which empty entries are free.
    pub max_uncommitted_entries_size: u64,
    /// Append messages on their way to one follower. Default 256. Too small: a long line runs empty. Too large: a slow
    /// follower's buffer is flooded. Must not be 0. etcd: `MaxInflightMsgs`.
    pub max_inflight_messages: usize,
    /// Bytes of payload on their way to one follower. Default 0: no limit but that on messages. Too small: throughput to
    /// distant followers is at most this per round trip; smaller than `max_size_per_message` is refused. etcd:
    /// `MaxInflightBytes`.
    pub max_inflight_bytes: u64,
    /// A leader that hears from no quorum for an election timeout steps down, and nobody votes while it hears from a
    /// leader. Default true. Off, a leader that was cut off keeps answering reads. etcd: `CheckQuorum` (default off).
    pub check_quorum: bool,
    /// A node asks whether it would be elected before it raises the term. Default true. Off, a node that comes back from
    /// a partition deposes a good leader. etcd: `PreVote` (default off).
    pub pre_vote: bool,
    /// How reads by index are made safe. Default [`ReadOnlyOption::Safe`]. etcd: `ReadOnlyOption`.
    pub read_only_option: ReadOnlyOption,
    /// Proposals on a follower are dropped instead of forwarded to the leader. Default false. etcd:
    /// `DisableProposalForwarding`.
    pub disable_proposal_forwarding: bool,
    /// The leader does not check a change of the configuration against the one in force. Default false. On, whoever
    /// proposes must serialise changes himself; one that does not fit is refused when it is applied; and the commit index
    /// must not be lost in a crash, see [`crate::HardState::commit`]. etcd:
    /// `DisableConfChangeValidation`.
    pub disable_conf_change_validation: bool,
    /// A leader that is removed or becomes a learner steps down when it applies that. Default true. Off, it goes on to
    /// lead, without a vote, until somebody else is elected. etcd: `StepDownOnRemoval` (default off).
    pub step_down_on_removal: bool,
    /// Storage is written by messages to an append and an apply thread that may lag behind; [`crate::RawNode::advance`]
    /// is not called. Default false. etcd: `AsyncStorageWrites`.
    pub async_storage_writes: bool,
    /// With asynchronous storage writes, whether to apply what this node has not persisted. Default [`ApplyAhead::No`].
    pub apply_unpersisted: ApplyAhead,
    /// A voter that could lead itself refuses a candidate of lower priority whose log is just as good as its own. Default
    /// 0, for all alike. Unequal priorities keep leaders on preferred stores, at the price of slower elections when these are
    /// gone. TiKV's raft: `priority`, which refuses a shorter log of a later term, too; two such voters never elect anybody.
    pub priority: i64,
    /// Leases by the clock, with which a leader answers reads by itself: [`crate::RawNode::lease_read_index`], and reads
    /// by index as long as the lease lasts. Default none. etcd has none that hold whatever the ticks do.
    pub lease: Option<LeaseConfig>,
    /// Draws the election timeout, in ticks. Default: always the least, which is only good for a single voter; a group
    /// needs real randomness or elections split. etcd: its global random source.
    pub timeout_source: TimeoutSource,
    /// Who hears what the node does. Default nobody. etcd: `Logger`.
    pub logger: Option<Rc<dyn Logger>>,
}

impl Config {
    /// The defaults for this id.
    #[must_use]
    pub fn new(id: PeerId) -> Self {
        Self {
            id,
            election_tick: 10,
            heartbeat_tick: 1,
            applied: LogIndex(0),
            batch_append: true,
            max_size_per_message: 1 << 20,
            max_committed_size_per_ready: 4 << 20,
            max_uncommitted_entries_size: 64 << 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 0,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            disable_proposal_forwarding: false,
            disable_conf_change_validation: false,
            step_down_on_removal: true,
            async_storage_writes: false,
            apply_unpersisted: ApplyAhead::No,
            priority: 0,
            lease: None,
            timeout_source: Box::new(|range| range.start),
            logger: None,
        }
    }

    /// Fills in what 0 stands for and refuses what makes no sense.
    pub(crate) fn validate(&mut self) -> Result<(), RaftError> {
        if [NO_PEER, APPEND_THREAD, APPLY_THREAD].contains(&self.id) {
            return Err(RaftError::Config("id is reserved: choose one from 1 to 2^64 - 3"));
        }
        if self.heartbeat_tick == 0 {
            return Err(RaftError::Config("heartbeat_tick must be greater than 0"));
        }
        if self.election_tick <= self.heartbeat_tick {
            return Err(RaftError::Config("election_tick must be greater than heartbeat_tick"));
        }
        if self.election_tick > usize::MAX / 4 {
            return Err(RaftError::Config("election_tick is too large"));
        }
        if self.max_uncommitted_entries_size == 0 {
            self.max_uncommitted_entries_size = u64::MAX;
        }
        if self.max_committed_size_per_ready == 0 {
            self.max_committed_size_per_ready = self.max_size_per_message;
        }
        if self.max_inflight_messages == 0 {
            return Err(RaftError::Config("max_inflight_messages must be greater than 0"));
        }
        if self.max_inflight_bytes == 0 {
            self.max_inflight_bytes = u64::MAX;
        } else if self.max_inflight_bytes < self.max_size_per_message {
            return Err(RaftError::Config("max_inflight_bytes must be at least max_size_per_message"));
        }
        if self.read_only_option == ReadOnlyOption::LeaseBased && !self.check_quorum {
            return Err(RaftError::Config("read_only_option LeaseBased needs check_quorum"));
        }
        self.lease.as_ref().map_or(Ok(()), LeaseConfig::validate)
    }

    pub(crate) fn log_sink(&self) -> LogSink {
        LogSink(self.logger.clone())
    }
}
