//! Project 2A "2AC", and the restart from a snapshot of 2C.

use bytes::Bytes;
use pinion_raft::{ConfState, HardState, MemoryStorage, NO_PEER, Snapshot, SnapshotMetadata, testing};
use pinion_types::{LogIndex, PeerId, Term};

use crate::support::{entry, node};

#[test]
fn test_raw_node_start_2ac() {
    let storage = MemoryStorage::with_voters([1]);
    let mut node = node(1, &storage);
    node.campaign();
    testing::settle(&mut node);
    let ready = node.ready();
    storage.append(&ready.entries).unwrap();
    node.advance(ready);

    node.propose(Bytes::from_static(b"foo")).unwrap();
    testing::settle(&mut node);
    let ready = node.ready();
    assert_eq!((ready.entries.len(), ready.committed_entries.len()), (1, 1));
    assert_eq!(ready.entries, ready.committed_entries);
    assert_eq!(&ready.entries[0].data[..], b"foo");
    storage.append(&ready.entries).unwrap();
    node.advance(ready);
    assert!(!node.has_ready());
}

#[test]
fn test_raw_node_restart_2ac() {
    let storage = MemoryStorage::with_voters([1]);
    let entries = [entry(1, 1, ""), entry(2, 1, "foo")];
    storage.append(&entries).unwrap();
    storage.set_hard_state(HardState { term: Term(1), vote: NO_PEER, commit: LogIndex(1) });
    let mut node = node(1, &storage);
    let ready = node.ready();
    assert_eq!(ready.committed_entries, entries[..1]);
    assert!(ready.entries.is_empty() && ready.messages.is_empty() && ready.messages_after_persist.is_empty());
    assert_eq!((ready.soft_state, ready.hard_state, &ready.snapshot), (None, None, &None));
    assert!(!ready.must_sync);
    node.advance(ready);
    assert!(!node.has_ready());
}

#[test]
fn test_raw_node_restart_from_snapshot_2c() {
    let storage = MemoryStorage::new();
    let conf_state = ConfState { voters: vec![PeerId(1), PeerId(2)], ..ConfState::default() };
    let metadata = SnapshotMetadata { conf_state, index: LogIndex(2), term: Term(1) };
    storage.apply_snapshot(Snapshot { metadata, data: Bytes::new() }).unwrap();
    storage.append(&[entry(3, 1, "foo")]).unwrap();
    storage.set_hard_state(HardState { term: Term(1), vote: NO_PEER, commit: LogIndex(3) });
    let mut node = node(1, &storage);
    let ready = node.ready();
    assert_eq!(ready.committed_entries, [entry(3, 1, "foo")]);
    assert!(ready.entries.is_empty() && ready.messages.is_empty() && ready.snapshot.is_none());
    assert_eq!((ready.soft_state, ready.hard_state), (None, None));
    node.advance(ready);
    assert!(!node.has_ready());
}
