//! The algorithm: what a node does with a message, a tick, a proposal.
//!
//! The state is here, and what changes it from one role to another; `step` says what a message's term means and hands it
//! to the role; `election`, `leader`, `follower` are the roles; `replication`, `membership` and `reads` are what the
//! leader does for its group.
//!
//! Cost of a steady-state append: one entry into the unstable log, one message a follower with one vector of entries.

mod election;
mod follower;
mod leader;
mod membership;
mod reads;
mod replication;
mod step;

use pinion_types::{LogIndex, PeerId, Term};

pub(crate) use election::Campaign;

use crate::lease::Lease;
use crate::log::{EntryId, RaftLog};
use crate::logger::{LogSink, say};
use crate::raw_node::{ReadState, Role, SoftState};
use crate::read_only::{ReadOnly, ReadRequest};
use crate::tracker::{Progress, Tracker};
use crate::{
    ConfState, Config, HardState, Message, MessageKind, NO_PEER, RaftError, ReadOnlyOption, Storage,
    StorageError, TimeoutSource, confchange,
};

pub(crate) struct Raft<S> {
    pub(crate) id: PeerId,
    pub(crate) term: Term,
    pub(crate) vote: PeerId,
    pub(crate) role: Role,
    pub(crate) leader: PeerId,
    pub(crate) is_learner: bool,
    pub(crate) log: RaftLog<S>,
    pub(crate) tracker: Tracker,
    /// To be sent to others at once.
    pub(crate) messages: Vec<Message>,
    /// To be sent, also to this node itself, when all that is unstable now is durable: votes and acknowledgements.
    pub(crate) messages_after_append: Vec<Message>,
    /// This leader's acknowledgement to itself, which is one of these, where appends travel in batches.
    pub(crate) own_acknowledgement: Option<EntryId>,
    pub(crate) read_states: Vec<ReadState>,
    /// The followers are to hear of new entries or of a new commit index with the next work that is taken.
    pub(crate) appends_due: bool,
    /// To whom leadership is being handed over.
    pub(crate) transferee: PeerId,
    /// At least the index of the latest change of the configuration in the log; another may be proposed only when this
    /// is applied.
    pub(crate) pending_conf_index: LogIndex,
    /// The empty entry with which this leader's term began.
    term_start: LogIndex,
    /// Bytes that this leader has taken and not yet seen applied.
    pub(crate) uncommitted_bytes: u64,
    /// None without [`Config::lease`].
    pub(crate) lease: Option<Lease>,
    read_only: ReadOnly,
    /// Reads that wait for the first commit of this leader's term.
    reads_before_commit: Vec<ReadRequest>,
    election_elapsed: usize,
    heartbeat_elapsed: usize,
    pub(crate) randomized_election_timeout: usize,
    settings: Settings,
    timeout_source: TimeoutSource,
    pub(crate) logger: LogSink,
}

/// What the storage has made durable.
pub(crate) struct Appended {
    /// The node's term when it was to be written.
    pub(crate) term: Term,
    /// The log's last entry then; none when its index is 0.
    pub(crate) last: EntryId,
    /// The index of the snapshot that was written.
    pub(crate) snapshot: Option<LogIndex>,
}

impl Appended {
    fn of(message: &Message) -> Self {
        Self {
            term: message.term,
            last: EntryId { term: message.log_term, index: message.index },
            snapshot: message.snapshot.as_ref().map(|snapshot| snapshot.metadata.index),
        }
    }
}

/// What does not change while the node runs.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct Settings {
    election_timeout: usize,
    heartbeat_timeout: usize,
    batch_append: bool,
    message_bytes_max: u64,
    uncommitted_bytes_max: u64,
    check_quorum: bool,
    pre_vote: bool,
    read_only_option: ReadOnlyOption,
    disable_proposal_forwarding: bool,
    disable_conf_change_validation: bool,
    step_down_on_removal: bool,
    priority: i64,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            election_timeout: config.election_tick,
            heartbeat_timeout: config.heartbeat_tick,
            batch_append: config.batch_append,
            message_bytes_max: config.max_size_per_message,
            uncommitted_bytes_max: config.max_uncommitted_entries_size,
            check_quorum: config.check_quorum,
            pre_vote: config.pre_vote,
            read_only_option: config.read_only_option,
            disable_proposal_forwarding: config.disable_proposal_forwarding,
            disable_conf_change_validation: config.disable_conf_change_validation,
            step_down_on_removal: config.step_down_on_removal,
            priority: config.priority,
        }
    }
}

impl<S: Storage> Raft<S> {
    /// Starts from what the storage holds.
    pub(crate) fn new(mut config: Config, storage: S) -> Result<Self, RaftError> {
        config.validate()?;
        let logger = config.log_sink();
        let (hard_state, conf_state) = storage.initial_state()?;
        let log = RaftLog::new(storage, config.max_committed_size_per_ready, logger.clone())?;
        let mut raft = Self {
            id: config.id,
            term: Term(0),
            vote: NO_PEER,
            role: Role::Follower,
            leader: NO_PEER,
            is_learner: false,
            log,
            tracker: Tracker::new(config.max_inflight_messages, config.max_inflight_bytes),
            messages: Vec::new(),
            messages_after_append: Vec::new(),
            own_acknowledgement: None,
            read_states: Vec::new(),
            appends_due: false,
            transferee: NO_PEER,
            pending_conf_index: LogIndex(0),
            term_start: LogIndex(0),
            uncommitted_bytes: 0,
            lease: None,
            read_only: ReadOnly::default(),
            reads_before_commit: Vec::new(),
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            randomized_election_timeout: 0,
            settings: Settings::of(&config),
            timeout_source: config.timeout_source,
            logger,
        };
        raft.restore_configuration(&conf_state)?;
        raft.load_state(hard_state, config.applied)?;
        raft.commit_earlier_changes()?;
        let decides_alone = raft.decides_alone();
        raft.lease = config.lease.map(|lease| Lease::new(lease, decides_alone));
        raft.become_follower(raft.term, NO_PEER);
        raft.say_started();
        Ok(raft)
    }

    fn restore_configuration(&mut self, state: &ConfState) -> Result<(), RaftError> {
        let (configuration, progress) = confchange::restore(&self.tracker, self.log.last_index(), state)?;
        self.switch_to_configuration(configuration, progress);
        Ok(())
    }

    fn load_state(&mut self, state: HardState, applied: LogIndex) -> Result<(), RaftError> {
        let log = &mut self.log;
        if !state.is_empty() {
            let (low, high) = (log.committed, log.last_index());
            // What was compacted was applied, and so committed, even if a crash has lost the commit index.
            let compacted = state.commit < low && applied >= low;
            if (state.commit < low && !compacted) || state.commit > high {
                return Err(RaftError::Inconsistent { what: "commit index", got: state.commit, low, high });
            }
            log.commit_to(state.commit);
            self.term = state.term;
            self.vote = state.vote;
        }
        if applied > LogIndex(0) {
            let (low, high) = (log.applied, log.last_index());
            if applied < low || applied > high {
                return Err(RaftError::Inconsistent { what: "applied index", got: applied, low, high });
            }
            // What was applied was committed, even if a crash has lost the commit index.
            log.commit_to(applied);
            log.applied_to(applied);
        }
        Ok(())
    }

    /// A crash may have lost the commit index, but a node must not campaign by a configuration that is older than the one
    /// before that in force: quorums of the two may miss each other. A change is proposed only when the one before is
    /// applied, so that all changes in the log but the last are committed.
    fn commit_earlier_changes(&mut self) -> Result<(), StorageError> {
        if self.settings.disable_conf_change_validation {
            return Ok(());
        }
        let (mut after, through) = (self.log.committed, self.log.last_index());
        let mut latest = None;
        while let Some(index) = self.find_entry(after, through, |entry| entry.kind.is_conf_change())? {
            if let Some(earlier) = latest.replace(index) {
                self.log.commit_to(earlier);
            }
            after = index;
        }
        Ok(())
    }

    fn say_started(&self) {
        let (log, last) = (&self.log, self.log.last());
        let peers: Vec<String> =
            self.tracker.configuration.voters.ids().ids().iter().map(|id| format!("{id:x}")).collect();
        say!(
            self.logger,
            Info,
            "newRaft {:x} [peers: [{}], term: {}, commit: {}, applied: {}, lastindex: {}, lastterm: {}]",
            self.id,
            peers.join(","),
            self.term,
            log.committed,
            log.applied,
            last.index,
            last.term
        );
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed }
    }

    /// Queues a message. Its sender and, but for votes, its term are set here.
    #[expect(
        clippy::inline_always,
        reason = "a message is large: it is made where it is queued, not copied there (an eighth of an append)"
    )]
    #[inline(always)]
    fn send(&mut self, mut message: Message) {
        if message.from == NO_PEER {
            message.from = self.id;
        }
        match message.kind {
            // Votes carry the term of their election, which in a pre-vote has not begun.
            MessageKind::Vote
            | MessageKind::VoteResponse
            | MessageKind::PreVote
            | MessageKind::PreVoteResponse => assert!(message.term != Term(0), "a vote without a term"),
            // These are passed on in the name of the sender and belong to no term.
            MessageKind::Propose | MessageKind::ReadIndex => {}
            _ => message.term = self.term,
        }
        match message.kind {
            // A vote must not be told before it is durable, nor an acknowledgement before the entries are (thesis §3.8).
            // Rejections wait too: they are rare, and what they are founded on may be unstable itself.
            MessageKind::AppendResponse | MessageKind::VoteResponse | MessageKind::PreVoteResponse => {
                self.messages_after_append.push(message);
            }
            kind => {
                assert!(message.to != self.id, "a {kind} to the node itself");
                self.messages.push(message);
            }
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self) {
        self.election_elapsed += 1;
        if self.role == Role::Leader {
            self.tick_leader();
        } else if self.promotable() && self.election_elapsed >= self.randomized_election_timeout {
            self.election_elapsed = 0;
            self.start_election();
        }
    }

    fn tick_leader(&mut self) {
        self.heartbeat_elapsed += 1;
        if self.election_elapsed >= self.settings.election_timeout {
            self.election_elapsed = 0;
            if self.settings.check_quorum {
                self.check_quorum();
            }
            // Who could not take over within an election timeout does not take over.
            self.transferee = NO_PEER;
        }
        if self.role == Role::Leader && self.heartbeat_elapsed >= self.settings.heartbeat_timeout {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// Begins a term, or a role in the same term.
    fn reset(&mut self, term: Term) {
        if self.term != term {
            self.term = term;
            self.vote = NO_PEER;
        }
        self.leader = NO_PEER;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.reset_randomized_election_timeout();
        self.transferee = NO_PEER;
        self.appends_due = false;
        self.tracker.reset_votes();
        let (id, last) = (self.id, self.log.last_index());
        let inflights = self.tracker.new_inflights();
        for (member, progress) in self.tracker.progress.iter_mut() {
            *progress = Progress::new(last.next(), inflights.clone(), progress.is_learner);
            if member == id {
                progress.matched = last;
            }
        }
        self.pending_conf_index = LogIndex(0);
        self.uncommitted_bytes = 0;
        self.read_only = ReadOnly::default();
        self.reads_before_commit.clear();
        if let Some(lease) = &mut self.lease {
            lease.reset();
        }
    }

    fn reset_randomized_election_timeout(&mut self) {
        let least = self.settings.election_timeout;
        let range = least..2 * least;
        self.randomized_election_timeout =
            (self.timeout_source)(range.clone()).clamp(range.start, range.end - 1);
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: PeerId) {
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
        say!(self.logger, Info, "{:x} became follower at term {}", self.id, self.term);
    }

    pub(crate) fn become_candidate(&mut self) {
        assert!(self.role != Role::Leader, "a leader can't become a candidate");
        self.reset(Term(self.term.0 + 1));
        self.vote = self.id;
        self.role = Role::Candidate;
        say!(self.logger, Info, "{:x} became candidate at term {}", self.id, self.term);
    }

    /// Neither the term nor the vote change before a pre-vote is won.
    pub(crate) fn become_pre_candidate(&mut self) {
        assert!(self.role != Role::Leader, "a leader can't become a pre-candidate");
        self.tracker.reset_votes();
        self.leader = NO_PEER;
        self.role = Role::PreCandidate;
        say!(self.logger, Info, "{:x} became pre-candidate at term {}", self.id, self.term);
    }

    pub(crate) fn become_leader(&mut self) {
        assert!(self.role != Role::Follower, "a follower can't become a leader");
        self.reset(self.term);
        self.leader = self.id;
        self.role = Role::Leader;
        if let Some(progress) = self.tracker.progress.get_mut(self.id) {
            progress.become_replicate();
            progress.recently_active = true;
        }
        // There may be a change of the configuration in the tail of the log. To wait until all of it is applied is
        // safe, and cheaper than to look.
        self.pending_conf_index = self.log.last_index();
        self.term_start = self.log.last_index().next();
        self.refresh_lease();
        self.append_empty();
        say!(self.logger, Info, "{:x} became leader at term {}", self.id, self.term);
    }

    /// Whether this node could be elected: it votes, and has no snapshot under way.
    pub(crate) fn promotable(&self) -> bool {
        self.tracker.progress.get(self.id).is_some_and(|progress| !progress.is_learner)
            && self.log.unstable().snapshot().is_none()
    }

    /// Whether a leader was heard of within the least election timeout.
    fn hears_from_leader(&self) -> bool {
        self.settings.check_quorum
            && self.leader != NO_PEER
            && self.election_elapsed < self.settings.election_timeout
    }
}
