//! What is taken from nobody, or not from everybody.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as the test does")]

use bytes::Bytes;
use pinion_raft::{
    ConfChange, ConfChangeKind, ConfState, Config, DropReason, Entry, MemoryStorage, Message, MessageKind,
    RaftError, RawNode, Role, Snapshot, SnapshotMetadata,
};
use pinion_types::{LogIndex, PeerId, Term};

type Node = RawNode<MemoryStorage>;

fn node(voters: u64, change: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config { pre_vote: false, ..Config::new(PeerId(1)) };
    change(&mut config);
    RawNode::new(config, MemoryStorage::with_voters(1..=voters)).unwrap()
}

fn message(kind: MessageKind, from: u64, term: u64) -> Message {
    Message { kind, from: PeerId(from), to: PeerId(1), term: Term(term), ..Message::default() }
}

/// Does all the work that there is; gives the contexts of the reads that were answered.
fn handle(node: &mut Node) -> Vec<Bytes> {
    let mut answered = Vec::new();
    while node.has_ready() {
        let ready = node.ready();
        node.storage().append(&ready.entries).unwrap();
        for entry in ready.committed_entries.iter().filter(|entry| entry.kind.is_conf_change()) {
            node.apply_conf_change(&ConfChange::decode(entry.kind, &entry.data).unwrap()).unwrap();
        }
        answered.extend(ready.read_states.iter().map(|state| state.context.clone()));
        node.advance(ready);
    }
    answered
}

/// A leader of two whose first entry is committed.
fn leader(change: impl FnOnce(&mut Config)) -> Node {
    let mut node = node(2, change);
    node.campaign();
    handle(&mut node);
    node.step(message(MessageKind::VoteResponse, 2, 1)).unwrap();
    handle(&mut node);
    node.step(Message { index: LogIndex(1), ..message(MessageKind::AppendResponse, 2, 1) }).unwrap();
    handle(&mut node);
    node
}

fn snapshot(from: u64, term: u64, voters: u64) -> Message {
    let conf_state = ConfState { voters: (1..=voters).map(PeerId).collect(), ..ConfState::default() };
    let metadata = SnapshotMetadata { index: LogIndex(5), term: Term(1), conf_state };
    let snapshot = Snapshot { metadata, data: Bytes::new() };
    Message { snapshot: Some(Box::new(snapshot)), ..message(MessageKind::Snapshot, from, term) }
}

fn is_refused(result: &Result<(), RaftError>) -> bool {
    matches!(result, Err(RaftError::InvalidMessage { .. }))
}

#[test]
fn only_the_leader_may_ask_for_an_election() {
    let mut node = node(3, |_| ());
    assert!(is_refused(&node.step(message(MessageKind::TimeoutNow, 3, 1))), "nobody leads yet");
    node.step(message(MessageKind::Heartbeat, 2, 1)).unwrap();
    assert!(is_refused(&node.step(message(MessageKind::TimeoutNow, 3, 1))));
    assert!(is_refused(&node.step(message(MessageKind::TimeoutNow, 77, 1))));
    assert_eq!(node.soft_state().role, Role::Follower);
    node.step(message(MessageKind::TimeoutNow, 2, 1)).unwrap();
    assert_eq!(node.soft_state().role, Role::Candidate);
}

#[test]
fn what_the_leader_asked_before_it_was_elected_does_not_come_back_to_it() {
    let mut node = node(3, |_| ());
    node.step(message(MessageKind::Heartbeat, 2, 1)).unwrap();
    let mut passed_on = |kind, from| {
        node.step(message(kind, from, 0)).unwrap();
        let mut sent = Vec::new();
        while node.has_ready() {
            let mut ready = node.ready();
            sent.append(&mut ready.messages);
            node.advance(ready);
        }
        sent.retain(|message| message.kind == kind);
        sent.iter().map(|message| (message.from.0, message.to.0)).collect::<Vec<_>>()
    };
    for kind in [MessageKind::ReadIndex, MessageKind::TransferLeader] {
        assert_eq!(passed_on(kind, 3), [(3, 2)], "{kind:?}");
        assert_eq!(passed_on(kind, 2), [], "{kind:?}");
    }
}

#[test]
fn only_the_leader_may_send_a_snapshot() {
    let mut node = node(3, |_| ());
    node.step(message(MessageKind::Heartbeat, 2, 1)).unwrap();
    assert!(is_refused(&node.step(snapshot(3, 1, 3))));
    assert_eq!((node.last_index(), node.soft_state().leader), (LogIndex(0), PeerId(2)));
    node.step(snapshot(2, 1, 3)).unwrap();
    assert_eq!(node.last_index(), LogIndex(5));
}

#[test]
fn a_snapshot_of_too_many_members_is_refused_before_it_costs_anything() {
    let mut node = node(2, |_| ());
    assert!(is_refused(&node.step(snapshot(2, 1, 1025))));
    node.step(snapshot(2, 1, 1024)).unwrap();
    assert_eq!(node.last_index(), LogIndex(5));
}

#[test]
fn a_read_is_answered_when_nobody_is_left_to_confirm_it() {
    let mut node = leader(|_| ());
    node.propose_conf_change(&ConfChange::simple(ConfChangeKind::Remove, PeerId(2))).unwrap();
    handle(&mut node);
    node.read_index(Bytes::from_static(b"read")).unwrap();
    assert!(handle(&mut node).is_empty(), "its heartbeat was lost");
    node.step(Message { index: LogIndex(2), ..message(MessageKind::AppendResponse, 2, 1) }).unwrap();
    assert_eq!(handle(&mut node), [&b"read"[..]]);
}

#[test]
fn empty_proposals_have_a_limit() {
    let mut node = leader(|config| config.max_uncommitted_entries_size = 1000);
    let propose = |node: &mut Node| {
        let entries = vec![Entry::default(); 50];
        node.step(Message { entries, ..message(MessageKind::Propose, 77, 0) })
    };
    propose(&mut node).unwrap();
    let over = Err(RaftError::ProposalDropped(DropReason::Uncommitted { limit: 1000 }));
    assert_eq!(propose(&mut node), over);
    assert_eq!(node.last_index(), LogIndex(51));
    handle(&mut node);
    node.step(Message { index: LogIndex(51), ..message(MessageKind::AppendResponse, 2, 1) }).unwrap();
    handle(&mut node);
    assert_eq!(node.status().uncommitted_bytes, 0);
    propose(&mut node).unwrap();
}
