//! A group of one voter through its whole life, driven as a store drives it.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as the test does")]

use bytes::Bytes;
use pinion_raft::{
    ApplyAhead, Config, DropReason, HardState, MemoryStorage, Message, MessageKind, RaftError, RawNode,
    ReadState, Role,
};
use pinion_types::{LogIndex, PeerId};

type Node = RawNode<MemoryStorage>;

fn start(storage: &MemoryStorage, change: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config::new(PeerId(1));
    change(&mut config);
    RawNode::new(config, storage.clone()).unwrap()
}

/// Handles one `Ready` and gives the commands that it applies.
fn handle(node: &mut Node, storage: &MemoryStorage) -> Vec<Bytes> {
    let ready = node.ready();
    assert!(ready.messages.is_empty() && ready.messages_after_persist.is_empty());
    storage.append(&ready.entries).unwrap();
    if let Some(state) = ready.hard_state {
        storage.set_hard_state(state);
    }
    let applied = ready.committed_entries.iter().map(|entry| entry.data.clone()).collect();
    node.advance(ready);
    applied
}

fn handle_all(node: &mut Node, storage: &MemoryStorage) -> Vec<Bytes> {
    let mut applied = Vec::new();
    while node.has_ready() {
        applied.extend(handle(node, storage));
    }
    applied
}

fn lead(storage: &MemoryStorage, change: impl FnOnce(&mut Config)) -> Node {
    let mut node = start(storage, change);
    node.campaign();
    handle_all(&mut node, storage);
    assert_eq!(node.soft_state().role, Role::Leader);
    node
}

#[test]
fn it_elects_itself_by_time_alone() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = start(&storage, |_| ());
    for _ in 0..10 {
        assert_eq!(node.soft_state().role, Role::Follower);
        node.tick();
    }
    handle_all(&mut node, &storage);
    assert_eq!(node.soft_state().role, Role::Leader);
    assert_eq!(storage.hard_state().vote, PeerId(1));
    for _ in 0..100 {
        node.tick();
    }
    assert_eq!(node.soft_state().role, Role::Leader, "its own activity is a quorum");
}

#[test]
fn a_proposal_is_committed_only_after_it_was_persisted() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = lead(&storage, |_| ());
    node.propose(Bytes::from_static(b"a")).unwrap();
    let index = node.last_index();
    let ready = node.ready();
    assert_eq!((ready.entries.len(), ready.committed_entries.len(), ready.must_sync), (1, 0, true));
    assert!(node.hard_state().commit < index);
    storage.append(&ready.entries).unwrap();
    node.advance(ready);
    assert_eq!(node.hard_state().commit, index);
    assert_eq!(handle_all(&mut node, &storage), [&b"a"[..]]);
    assert_eq!(node.applied(), index);
}

#[test]
fn it_restarts_and_applies_from_where_it_was() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = lead(&storage, |_| ());
    for command in ["a", "b", "c"] {
        node.propose(Bytes::from_static(command.as_bytes())).unwrap();
    }
    handle_all(&mut node, &storage);
    let state = storage.hard_state();
    drop(node);

    let mut node = start(&storage, |config| config.applied = LogIndex(3));
    assert_eq!(handle_all(&mut node, &storage), [&b"c"[..]]);
    node.campaign();
    assert_eq!(handle_all(&mut node, &storage), [&b""[..]]);
    assert_eq!(node.hard_state().term.0, state.term.0 + 1);

    // What was applied was committed, even if the commit index was lost.
    storage.set_hard_state(HardState { commit: LogIndex(1), ..storage.hard_state() });
    let mut node = start(&storage, |config| config.applied = LogIndex(4));
    assert_eq!(node.hard_state().commit, LogIndex(4));
    assert!(handle_all(&mut node, &storage).is_empty());

    // The commit index may be lost: then the new leader commits its whole log again.
    storage.set_hard_state(HardState { commit: LogIndex(0), ..storage.hard_state() });
    let mut node = start(&storage, |_| ());
    node.campaign();
    assert_eq!(handle_all(&mut node, &storage).len(), 6);
}

#[test]
fn what_is_stored_and_contradicts_itself_is_refused() {
    let storage = MemoryStorage::with_voters([1]);
    storage.set_hard_state(HardState { commit: LogIndex(5), ..HardState::default() });
    let refused = RawNode::new(Config::new(PeerId(1)), storage.clone()).err();
    assert!(matches!(refused, Some(RaftError::Inconsistent { what: "commit index", .. })), "{refused:?}");
    storage.set_hard_state(HardState::default());
    let config = Config { applied: LogIndex(1), ..Config::new(PeerId(1)) };
    let refused = RawNode::new(config, storage).err();
    assert!(matches!(refused, Some(RaftError::Inconsistent { what: "applied index", .. })), "{refused:?}");
}

#[test]
fn it_goes_on_after_a_compaction_and_starts_from_a_snapshot() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = lead(&storage, |_| ());
    for _ in 0..10 {
        node.propose(Bytes::from_static(b"x")).unwrap();
    }
    handle_all(&mut node, &storage);
    let applied = node.applied();
    storage.create_snapshot(applied, None, Bytes::from_static(b"state")).unwrap();
    storage.compact(applied).unwrap();
    node.propose(Bytes::from_static(b"y")).unwrap();
    assert_eq!(handle_all(&mut node, &storage), [&b"y"[..]]);
    drop(node);

    let mut node = start(&storage, |config| config.applied = applied);
    node.campaign();
    assert_eq!(handle_all(&mut node, &storage), [&b"y"[..], b""]);
    assert_eq!(node.applied(), LogIndex(applied.0 + 2));
}

#[test]
fn proposals_are_dropped_without_a_leader_and_above_the_limit() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = start(&storage, |config| config.max_uncommitted_entries_size = 10);
    let no_leader = RaftError::ProposalDropped(DropReason::NoLeader);
    assert_eq!(node.propose(Bytes::from_static(b"a")), Err(no_leader));
    node.campaign();
    handle_all(&mut node, &storage);
    node.propose(Bytes::from_static(b"a command of any size passes first")).unwrap();
    let over = RaftError::ProposalDropped(DropReason::Uncommitted { limit: 10 });
    assert_eq!(node.propose(Bytes::from_static(b"a")), Err(over.clone()));
    assert_eq!(node.propose(Bytes::new()), Err(over), "an empty command takes memory, too");
    handle_all(&mut node, &storage);
    node.propose(Bytes::from_static(b"a")).unwrap();
}

#[test]
fn a_read_waits_for_the_first_commit_of_the_term() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = start(&storage, |_| ());
    node.campaign();
    while node.soft_state().role != Role::Leader {
        handle(&mut node, &storage);
    }
    node.read_index(Bytes::from_static(b"r1")).unwrap();
    let ready = node.ready();
    assert!(ready.read_states.is_empty());
    storage.append(&ready.entries).unwrap();
    node.advance(ready);
    let ready = node.ready();
    let want = ReadState { index: LogIndex(1), context: Bytes::from_static(b"r1") };
    assert_eq!(ready.read_states, [want]);
    node.advance(ready);
    node.read_index(Bytes::from_static(b"r2")).unwrap();
    assert_eq!(node.ready().read_states.len(), 1);
}

/// Delivers the responses of the storage message of this kind, if there is one.
fn respond(node: &mut Node, messages: &[Message], kind: MessageKind) {
    for message in messages.iter().filter(|message| message.kind == kind) {
        for response in &message.responses {
            node.step_local(response.clone()).unwrap();
        }
    }
}

#[test]
fn with_asynchronous_writes_nothing_counts_before_the_response() {
    for ahead in [ApplyAhead::No, ApplyAhead::Yes] {
        let storage = MemoryStorage::with_voters([1]);
        let mut node = start(&storage, |config| {
            config.async_storage_writes = true;
            config.apply_unpersisted = ahead;
        });
        node.campaign();
        let mut applied = Vec::new();
        let mut proposed = false;
        while node.has_ready() {
            let ready = node.ready();
            assert!(ready.entries.is_empty() && ready.committed_entries.is_empty());
            let before = node.hard_state().commit;
            for message in &ready.messages {
                storage
                    .append(if message.kind == MessageKind::StorageAppend { &message.entries } else { &[] })
                    .unwrap();
                if message.kind == MessageKind::StorageApply {
                    applied.extend(message.entries.iter().map(|entry| entry.data.clone()));
                }
            }
            assert_eq!(node.hard_state().commit, before);
            respond(&mut node, &ready.messages, MessageKind::StorageAppend);
            respond(&mut node, &ready.messages, MessageKind::StorageApply);
            node.recycle(ready);
            if node.soft_state().role == Role::Leader && !proposed {
                node.propose(Bytes::from_static(b"a")).unwrap();
                proposed = true;
            }
        }
        assert_eq!(applied, [&b""[..], b"a"]);
    }
}

#[test]
fn a_steady_flow_reads_nothing_back_from_storage() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = lead(&storage, |_| ());
    for _ in 0..3 {
        node.propose(Bytes::from_static(b"a")).unwrap();
        let ready = node.ready();
        // The storage never sees the entry: were it asked for it, applying would fail.
        node.advance(ready);
        let ready = node.ready();
        assert_eq!(ready.committed_entries.len(), 1);
        node.advance(ready);
        assert_eq!(node.storage_error(), None);
    }
}
