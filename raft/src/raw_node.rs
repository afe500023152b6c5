//! The node as its driver sees it: messages and ticks in, work out.
//!
//! A [`Ready`] is handled in this order: `messages` may be sent at once; `snapshot`, then `entries` and `hard_state` are
//! written, and synced when `must_sync` says so or a snapshot is among them; `messages_after_persist` are sent only then;
//! `committed_entries` are applied; then [`RawNode::advance`] gives the `Ready` back.
//!
//! With [`Config::async_storage_writes`] the storage's part travels in messages instead: see
//! [`MessageKind::StorageAppend`] and [`MessageKind::StorageApply`]. Each of the two threads handles its messages in
//! order, none may be lost, and their responses go to [`RawNode::step_local`] or, when they are for others, to the network.

use bytes::Bytes;
use pinion_types::{LogIndex, PeerId};

use crate::log::EntryId;
use crate::raft::{Appended, Raft};
use crate::tracker::Tracker;
use crate::{
    APPEND_THREAD, APPLY_THREAD, ApplyAhead, ConfChange, ConfState, Config, Entry, HardState, Message,
    MessageKind, RaftError, Snapshot, Status, Storage, StorageError,
};

/// Elements that a vector may have room for when it is kept for the next [`Ready`].
const KEPT_CAPACITY_MAX: usize = 1024;

/// What a node does in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It takes the leader's log.
    #[default]
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It asks whether it would get votes.
    PreCandidate,
}

/// What need not survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Whom the node follows, itself when it leads, [`crate::NO_PEER`] when it does not know.
    pub leader: PeerId,
    /// What it does.
    pub role: Role,
}

/// A read that may be served as soon as `index` is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadState {
    /// What must be applied.
    pub index: LogIndex,
    /// What [`RawNode::read_index`] was given.
    pub context: Bytes,
}

/// Work for the driver. See the module's documentation for the order.
#[derive(Debug, Default)]
pub struct Ready {
    /// Set when it has changed.
    pub soft_state: Option<SoftState>,
    /// Set when it has changed.
    pub hard_state: Option<HardState>,
    /// To be appended to the log, in place of what it holds from the first of them on. Empty with asynchronous writes.
    pub entries: Vec<Entry>,
    /// To take the place of the log and the state machine. None with asynchronous writes.
    pub snapshot: Option<Snapshot>,
    /// To be applied, after `snapshot`. Empty with asynchronous writes.
    pub committed_entries: Vec<Entry>,
    /// To be sent at once; with asynchronous writes also those to the two storage threads.
    pub messages: Vec<Message>,
    /// To be sent when everything above that is to be persisted is durable. Empty with asynchronous writes.
    pub messages_after_persist: Vec<Message>,
    /// Reads whose index is known now.
    pub read_states: Vec<ReadState>,
    /// Whether entries, term or vote changed, so that the write must be synced. A commit index alone need not be: see
    /// [`HardState::commit`].
    pub must_sync: bool,
}

/// A member of a group, driven from outside.
pub struct RawNode<S: Storage> {
    raft: Raft<S>,
    async_storage_writes: bool,
    /// Whether committed entries may be applied that are not known to be durable here.
    apply_unstable: bool,
    previous_soft: SoftState,
    previous_hard: HardState,
    /// The node's own votes and acknowledgements, which count when the outstanding `Ready` is done.
    steps_on_advance: Vec<Message>,
    /// The leader's own acknowledgement, where it is not among them.
    acknowledged_on_advance: Option<EntryId>,
    /// What is durable, and what applied, when the outstanding `Ready` is done.
    appended_on_advance: Option<Appended>,
    applied_on_advance: Option<LogIndex>,
    /// Whether a `Ready` is outstanding.
    awaits_advance: bool,
    /// A handled `Ready`, kept for its vectors.
    spare: Option<Box<Ready>>,
}

impl<S: Storage> RawNode<S> {
    /// Starts a node from what its storage holds. All entries above the commit index are read once, in pages.
    ///
    /// [`RaftError::Config`] when the set-up makes no sense, [`RaftError::Inconsistent`], [`RaftError::ConfChange`] or
    /// [`RaftError::Storage`] when what is stored does not.
    pub fn new(config: Config, storage: S) -> Result<Self, RaftError> {
        let async_storage_writes = config.async_storage_writes;
        let apply_unstable = !async_storage_writes || config.apply_unpersisted == ApplyAhead::Yes;
        let raft = Raft::new(config, storage)?;
        Ok(Self {
            previous_soft: raft.soft_state(),
            previous_hard: raft.hard_state(),
            raft,
            async_storage_writes,
            apply_unstable,
            steps_on_advance: Vec::new(),
            acknowledged_on_advance: None,
            appended_on_advance: None,
            applied_on_advance: None,
            awaits_advance: false,
            spare: None,
        })
    }

    /// One tick of the driver's clock passes.
    pub fn tick(&mut self) {
        self.raft.tick();
    }

    /// Campaigns, if the node may: it votes, does not lead, and has applied all changes of the configuration.
    pub fn campaign(&mut self) {
        self.raft.start_election();
    }

    /// Proposes a command. A follower passes it to the leader, unless that is disabled; it may be lost on the way.
    ///
    /// [`RaftError::ProposalDropped`] says why it was not taken.
    pub fn propose(&mut self, data: Bytes) -> Result<(), RaftError> {
        if self.raft.role == Role::Leader {
            return self.raft.propose_one(data);
        }
        self.propose_entries(vec![Entry { data, ..Entry::default() }])
    }

    /// Proposes several entries, which take consecutive places or none.
    pub fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), RaftError> {
        if self.raft.role == Role::Leader {
            return self.raft.take_proposals(entries);
        }
        let from = self.raft.id;
        self.raft.step(&mut Message { kind: MessageKind::Propose, from, entries, ..Message::default() })
    }

    /// Proposes a change of the configuration. One that does not fit that in force is appended as an empty entry.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), RaftError> {
        let entry = Entry { kind: change.entry_kind, data: change.encode()?, ..Entry::default() };
        self.propose_entries(vec![entry])
    }

    /// Puts a committed change into force; the driver calls it when it applies the entry, and may leave it out to
    /// refuse the change, if all members do.
    ///
    /// [`RaftError::ConfChange`] when the change does not fit; nothing has changed then, on any member.
    /// [`RaftError::Superseded`] when a snapshot has come in between: the node is configured as that says already.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> Result<ConfState, RaftError> {
        self.raft.apply_conf_change(change)
    }

    /// Takes a message of another peer.
    ///
    /// An error means that the message was dropped; none of them is this node's fault, and none must end it.
    pub fn step(&mut self, mut message: Message) -> Result<(), RaftError> {
        self.raft.step_remote(&mut message)
    }

    /// Takes a response of the own storage: one that came with a [`MessageKind::StorageAppend`] or
    /// [`MessageKind::StorageApply`] and is addressed to this node. It never comes from the network.
    pub fn step_local(&mut self, mut message: Message) -> Result<(), RaftError> {
        self.raft.step(&mut message)
    }

    /// Whether there is work.
    pub fn has_ready(&self) -> bool {
        let raft = &self.raft;
        let hard_state = raft.hard_state();
        raft.appends_due
            || !raft.messages.is_empty()
            || !raft.messages_after_append.is_empty()
            || raft.own_acknowledgement.is_some()
            || raft.log.unstable().has_next_entries()
            || raft.log.has_next_committed(self.apply_unstable)
            || hard_state != self.previous_hard
            || raft.soft_state() != self.previous_soft
            || !raft.read_states.is_empty()
            || raft.log.unstable().next_snapshot().is_some()
    }

    /// Takes the work that there is. Without asynchronous writes, [`RawNode::advance`] must follow before the next.
    ///
    /// It comes in a box, which [`RawNode::advance`] takes back for the next: it is large, and there are many.
    pub fn ready(&mut self) -> Box<Ready> {
        assert!(!self.awaits_advance, "a Ready was taken before the last one was given back");
        let mut ready = self.spare.take().unwrap_or_default();
        let raft = &mut self.raft;
        raft.send_due_appends();
        ready.soft_state = changed(raft.soft_state(), &mut self.previous_soft);
        let previous_hard = self.previous_hard;
        ready.hard_state = changed(raft.hard_state(), &mut self.previous_hard);
        raft.log.unstable().next_entries_into(&mut ready.entries);
        ready.snapshot = raft.log.unstable().next_snapshot().cloned();
        raft.log.next_committed_into(self.apply_unstable, &mut ready.committed_entries);
        std::mem::swap(&mut ready.messages, &mut raft.messages);
        std::mem::swap(&mut ready.read_states, &mut raft.read_states);
        ready.must_sync =
            !ready.entries.is_empty() || raft.term != previous_hard.term || raft.vote != previous_hard.vote;
        if self.async_storage_writes {
            self.address_storage(&mut ready);
        } else {
            self.prepare_advance(&mut ready);
        }
        self.raft.log.accept_unstable();
        ready
    }

    /// Turns what is to be written and applied into messages to the two storage threads.
    fn address_storage(&mut self, ready: &mut Ready) {
        let from = self.raft.id;
        let after_append =
            !self.raft.messages_after_append.is_empty() || self.raft.own_acknowledgement.is_some();
        let writes = !ready.entries.is_empty() || ready.hard_state.is_some() || ready.snapshot.is_some();
        if writes || after_append {
            let mut responses = std::mem::take(&mut self.raft.messages_after_append);
            responses.extend(self.raft.own_acknowledgement.take().map(|id| Message {
                kind: MessageKind::AppendResponse,
                to: from,
                from,
                term: id.term,
                index: id.index,
                ..Message::default()
            }));
            // It comes after the own acknowledgements, which then still find the entries in memory.
            responses.extend(self.appended(ready.snapshot.as_ref()).map(|appended| Message {
                kind: MessageKind::StorageAppendResponse,
                to: from,
                from: APPEND_THREAD,
                term: appended.term,
                log_term: appended.last.term,
                index: appended.last.index,
                snapshot: ready.snapshot.clone().map(Box::new),
                ..Message::default()
            }));
            let HardState { term, vote, commit } = ready.hard_state.unwrap_or_default();
            ready.messages.push(Message {
                kind: MessageKind::StorageAppend,
                to: APPEND_THREAD,
                from,
                term,
                vote,
                commit,
                entries: std::mem::take(&mut ready.entries),
                snapshot: ready.snapshot.take().map(Box::new),
                responses,
                ..Message::default()
            });
        }
        if let Some(last) = ready.committed_entries.last() {
            let response = Message {
                kind: MessageKind::StorageApplyResponse,
                to: from,
                from: APPLY_THREAD,
                index: last.index,
                ..Message::default()
            };
            ready.messages.push(Message {
                kind: MessageKind::StorageApply,
                to: APPLY_THREAD,
                from,
                entries: std::mem::take(&mut ready.committed_entries),
                responses: vec![response],
                ..Message::default()
            });
        }
    }

    /// Keeps what the node has to tell itself once the `Ready` is done.
    fn prepare_advance(&mut self, ready: &mut Ready) {
        let id = self.raft.id;
        let waiting = &mut self.raft.messages_after_append;
        // Almost always all are for one side: the leader acknowledges to itself, a follower to the leader.
        if waiting.iter().all(|message| message.to == id) {
            std::mem::swap(waiting, &mut self.steps_on_advance);
        } else if waiting.iter().all(|message| message.to != id) {
            std::mem::swap(waiting, &mut ready.messages_after_persist);
        } else {
            let own = waiting.extract_if(.., |message| message.to == id);
            self.steps_on_advance.extend(own);
            ready.messages_after_persist.append(waiting);
        }
        self.acknowledged_on_advance = self.raft.own_acknowledgement.take();
        self.appended_on_advance = self.appended(ready.snapshot.as_ref());
        self.applied_on_advance = ready.committed_entries.last().map(|entry| entry.index);
        self.awaits_advance = true;
    }

    /// What is durable once all that is unstable now is.
    ///
    /// It speaks of the last unstable entry, not of the last one in this `Ready`, and of this term: an acknowledgement
    /// of an earlier term is ignored, since entries may have been replaced in between, by others and back again. Each
    /// change of the term makes another write, so some acknowledgement always counts.
    fn appended(&self, snapshot: Option<&Snapshot>) -> Option<Appended> {
        let log = &self.raft.log;
        let unstable = log.unstable().len() > 0;
        if !unstable && snapshot.is_none() {
            return None;
        }
        Some(Appended {
            term: self.raft.term,
            last: if unstable { log.last() } else { EntryId::default() },
            snapshot: snapshot.map(|snapshot| snapshot.metadata.index),
        })
    }

    /// The work is done: everything is durable, sent and applied. Not with asynchronous writes.
    pub fn advance(&mut self, ready: Box<Ready>) {
        assert!(
            !self.async_storage_writes,
            "with asynchronous writes the storage's responses take advance's place"
        );
        assert!(self.awaits_advance, "a Ready was given back twice");
        self.awaits_advance = false;
        let mut steps = std::mem::take(&mut self.steps_on_advance);
        for message in &mut steps {
            // These are the node's own; what it no longer needs, because of a new term, it ignores.
            let _ = self.raft.step(message);
        }
        steps.clear();
        self.steps_on_advance = steps;
        if let Some(id) = self.acknowledged_on_advance.take() {
            self.raft.acknowledged_own(id);
        }
        // After the own acknowledgements, which then still find the entries in memory.
        if let Some(appended) = self.appended_on_advance.take() {
            self.raft.append_done(&appended);
        }
        if let Some(index) = self.applied_on_advance.take() {
            self.raft.applied_to(index);
        }
        self.recycle(ready);
    }

    /// Gives a handled `Ready` back for its memory. Only needed with asynchronous writes, and there optional.
    pub fn recycle(&mut self, mut ready: Box<Ready>) {
        fn empty<T>(vector: &mut Vec<T>) {
            vector.clear();
            if vector.capacity() > KEPT_CAPACITY_MAX {
                vector.shrink_to(KEPT_CAPACITY_MAX);
            }
        }
        empty(&mut ready.entries);
        empty(&mut ready.committed_entries);
        empty(&mut ready.messages);
        empty(&mut ready.messages_after_persist);
        empty(&mut ready.read_states);
        ready.snapshot = None;
        self.spare = Some(ready);
    }

    /// Asks which index must be applied before a read sees everything acknowledged until now. The answer comes in
    /// [`Ready::read_states`] with this context, or never, when leadership changes: ask again after a while.
    pub fn read_index(&mut self, context: Bytes) -> Result<(), RaftError> {
        let from = self.raft.id;
        self.raft.step(&mut Message { kind: MessageKind::ReadIndex, from, context, ..Message::default() })
    }

    /// What must be applied before a read may be served that is begun now, by the lease alone and at once. Nothing when
    /// this node does not lead, has not committed in its term, or can't rule out that somebody else was elected: then
    /// [`RawNode::read_index`] finds out. Asks the clock.
    pub fn lease_read_index(&self) -> Option<LogIndex> {
        self.raft.lease_read_index()
    }

    /// Hands leadership to a voter; on a follower, asks the leader to. Given up after an election timeout.
    pub fn transfer_leader(&mut self, transferee: PeerId) {
        // No role refuses it with an error.
        let _ = self.raft.step(&mut Message {
            kind: MessageKind::TransferLeader,
            from: transferee,
            ..Message::default()
        });
    }

    /// Forgets the leader without a new term, so that this follower votes as soon as it is asked.
    pub fn forget_leader(&mut self) {
        self.raft.forget_leader();
    }

    /// The last message to this peer was probably lost.
    pub fn report_unreachable(&mut self, id: PeerId) {
        self.raft.report_unreachable(id);
    }

    /// The snapshot for this peer has arrived, or has not.
    pub fn report_snapshot(&mut self, id: PeerId, succeeded: bool) {
        self.raft.report_snapshot(id, succeeded);
    }

    /// What [`StorageError::TemporarilyUnavailable`] was answered for can be read now, entries or terms.
    pub fn entries_available(&mut self) {
        self.raft.entries_available();
    }

    /// Why no committed entries are handed out: they are being fetched, or the storage has failed.
    pub fn storage_error(&self) -> Option<StorageError> {
        self.raft.log.blocked()
    }

    /// A copy of the node's state.
    pub fn status(&self) -> Status {
        Status::of(&self.raft)
    }

    /// The node's id.
    pub fn id(&self) -> PeerId {
        self.raft.id
    }

    /// What the node does, and whom it follows.
    pub fn soft_state(&self) -> SoftState {
        self.raft.soft_state()
    }

    /// Term, vote and commit index, persisted or not.
    pub fn hard_state(&self) -> HardState {
        self.raft.hard_state()
    }

    /// The last entry's index, persisted or not. After a successful [`RawNode::propose`] on the leader, the entry's own.
    pub fn last_index(&self) -> LogIndex {
        self.raft.log.last_index()
    }

    /// The position of the snapshot that the node has taken and that is not known to be durable.
    pub fn pending_snapshot(&self) -> Option<LogIndex> {
        self.raft.log.unstable().snapshot().map(|snapshot| snapshot.metadata.index)
    }

    /// Up to where the log was reported as applied.
    pub fn applied(&self) -> LogIndex {
        self.raft.log.applied
    }

    /// The configuration and, on a leader, how far its members are.
    pub fn tracker(&self) -> &Tracker {
        &self.raft.tracker
    }

    /// The storage that the node reads.
    pub fn storage(&self) -> &S {
        self.raft.log.storage()
    }

    pub(crate) fn raft_mut(&mut self) -> &mut Raft<S> {
        &mut self.raft
    }

    pub(crate) fn raft(&self) -> &Raft<S> {
        &self.raft
    }
}

/// The new value, if it is one.
fn changed<T: Copy + PartialEq>(now: T, before: &mut T) -> Option<T> {
    (now != *before).then(|| {
        *before = now;
        now
    })
}
