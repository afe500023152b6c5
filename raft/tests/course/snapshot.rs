//! Project 2C, the part of the core.

use bytes::Bytes;
use pinion_raft::{Message, MessageKind, Snapshot, SnapshotMetadata, testing};
use pinion_types::{LogIndex, PeerId, Term};

use crate::support::*;

fn snapshot_message(from: u64, to: u64, term: u64, index: u64, voters: &[u64]) -> Message {
    let metadata = SnapshotMetadata {
        conf_state: conf_state(voters),
        index: LogIndex(index),
        term: Term(11.min(index)),
    };
    Message {
        snapshot: Some(Box::new(Snapshot { metadata, data: Bytes::new() })),
        ..message(MessageKind::Snapshot, from, to, term)
    }
}

#[test]
fn test_restore_snapshot_2c() {
    let mut node = fresh(1, &[1, 2]);
    testing::step(&mut node, snapshot_message(2, 1, 0, 11, &[1, 2, 3])).unwrap();
    assert_eq!(node.last_index(), LogIndex(11));
    assert_eq!(testing::term_at(&node, LogIndex(11)), Term(11));
    assert_eq!(members(&node), [1, 2, 3]);
}

#[test]
fn test_restore_ignore_snapshot_2c() {
    let storage = storage_of(&[1, 2], &[(1, 1), (2, 1), (3, 1)]);
    storage.set_hard_state(hard_state(1, 3));
    let mut node = node(1, &storage);
    testing::step(&mut node, snapshot_message(2, 1, 0, 1, &[1, 2])).unwrap();
    assert_eq!((committed(&node), log(&node).len()), (3, 3));
}

#[test]
fn test_provide_snap_2c() {
    let mut node = fresh(1, &[1]);
    testing::step(&mut node, snapshot_message(2, 1, 0, 11, &[1, 2])).unwrap();
    become_leader(&mut node);
    read_messages(&mut node);
    testing::set_progress(&mut node, PeerId(2), LogIndex(10));
    node.propose(Bytes::from_static(b"somedata")).unwrap();
    let sent = read_messages(&mut node);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].kind, sent[0].to), (MessageKind::Snapshot, PeerId(2)));
}

#[test]
fn test_restore_from_snap_msg_2c() {
    let mut node = fresh(2, &[1, 2]);
    testing::step(&mut node, snapshot_message(1, 2, 2, 11, &[1, 2])).unwrap();
    assert_eq!(node.soft_state().leader, PeerId(1));
}

#[test]
fn test_restore_from_snap_with_overlaping_peers_msg_2c() {
    let mut node = fresh(3, &[1, 2, 3]);
    testing::step(&mut node, snapshot_message(1, 3, 2, 11, &[2, 3, 4])).unwrap();
    assert_eq!(node.soft_state().leader, PeerId(1));
    assert_eq!(members(&node), [2, 3, 4]);
}

#[test]
fn test_slow_node_restore_2c() {
    let mut network = Network::of(&[true; 3]);
    network.hup(1);
    network.isolate(3);
    for _ in 0..=100 {
        network.propose(1, "");
    }
    network.compact(1);
    network.recover();
    network.beat(1);
    network.propose(1, "");
    network.propose(1, "");
    let want = committed(network.node(1));
    assert_eq!(want, 104);
    assert_eq!(committed(network.node(3)), want);
}
