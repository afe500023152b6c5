//! What tests outside of this crate need of its inside. Not part of the interface.

use pinion_types::{LogIndex, PeerId, Term};

use crate::{Entry, Message, RaftError, RawNode, Storage};

/// The election timeout in force, in ticks.
pub fn randomized_election_timeout<S: Storage>(node: &RawNode<S>) -> usize {
    node.raft().randomized_election_timeout
}

/// Replaces the election timeout until the node's next change of role.
pub fn set_randomized_election_timeout<S: Storage>(node: &mut RawNode<S>, ticks: usize) {
    node.raft_mut().randomized_election_timeout = ticks;
}

/// Steps a message without the checks of what comes over the network.
pub fn step<S: Storage>(node: &mut RawNode<S>, mut message: Message) -> Result<(), RaftError> {
    node.raft_mut().step(&mut message)
}

/// Sends heartbeats, if the node leads.
pub fn beat<S: Storage>(node: &mut RawNode<S>) {
    if node.raft().role == crate::Role::Leader {
        node.raft_mut().broadcast_heartbeat();
    }
}

/// Sends appends, if the node leads.
pub fn broadcast_append<S: Storage>(node: &mut RawNode<S>) {
    if node.raft().role == crate::Role::Leader {
        node.raft_mut().broadcast_append();
    }
}

/// Lets the leader think that a member was heard of and needs the log from `next` on.
pub fn set_progress<S: Storage>(node: &mut RawNode<S>, id: PeerId, next: LogIndex) {
    if let Some(progress) = node.raft_mut().tracker.progress.get_mut(id) {
        progress.next = next;
        progress.recently_active = true;
    }
}

/// Makes the node a follower.
pub fn become_follower<S: Storage>(node: &mut RawNode<S>, term: Term, leader: PeerId) {
    node.raft_mut().become_follower(term, leader);
}

/// Makes the node a candidate.
pub fn become_candidate<S: Storage>(node: &mut RawNode<S>) {
    node.raft_mut().become_candidate();
}

/// Makes the node a pre-candidate.
pub fn become_pre_candidate<S: Storage>(node: &mut RawNode<S>) {
    node.raft_mut().become_pre_candidate();
}

/// Makes the node a leader.
pub fn become_leader<S: Storage>(node: &mut RawNode<S>) {
    node.raft_mut().become_leader();
}

/// Replaces term and vote.
pub fn set_term_and_vote<S: Storage>(node: &mut RawNode<S>, term: Term, vote: PeerId) {
    let raft = node.raft_mut();
    (raft.term, raft.vote) = (term, vote);
}

/// Takes the messages that wait to be sent, those that wait for persistence at the end.
pub fn take_messages<S: Storage>(node: &mut RawNode<S>) -> (Vec<Message>, Vec<Message>) {
    let raft = node.raft_mut();
    (std::mem::take(&mut raft.messages), std::mem::take(&mut raft.messages_after_append))
}

/// Lets the node's own votes and acknowledgements count before anything is persisted, until there are none. What is for
/// others stays.
pub fn settle<S: Storage>(node: &mut RawNode<S>) {
    let id = node.raft().id;
    loop {
        let waiting = std::mem::take(&mut node.raft_mut().messages_after_append);
        let (own, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|message| message.to == id);
        let done = own.is_empty();
        for mut message in own {
            // An acknowledgement of an earlier term is refused, and nothing else can go wrong.
            let _ = node.raft_mut().step(&mut message);
        }
        let raft = node.raft_mut();
        let newer = std::mem::replace(&mut raft.messages_after_append, others);
        raft.messages_after_append.extend(newer);
        if done {
            return;
        }
    }
}

/// All entries of the log, stable or not.
pub fn all_entries<S: Storage>(node: &RawNode<S>) -> Vec<Entry> {
    let log = &node.raft().log;
    let mut entries = Vec::new();
    // A test's storage holds what it says.
    let _ = log.entries_into(log.first_index(), u64::MAX, &mut entries);
    entries
}

/// The entries that are not known to be durable.
pub fn unstable_entries<S: Storage>(node: &RawNode<S>) -> Vec<Entry> {
    let log = &node.raft().log;
    log.unstable().range(log.unstable().offset(), log.last_index().next()).cloned().collect()
}

/// The term at an index, 0 when it is not known.
pub fn term_at<S: Storage>(node: &RawNode<S>, index: LogIndex) -> Term {
    node.raft().log.term_or_zero(index)
}

/// The leader's transferee, 0 for none.
pub fn transferee<S: Storage>(node: &RawNode<S>) -> PeerId {
    node.raft().transferee
}
