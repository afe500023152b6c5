//! Project 3A: members come and go.

use bytes::Bytes;
use pinion_raft::{
    ConfChange, ConfChangeError, ConfChangeKind, EntryKind, Message, MessageKind, RaftError, testing,
};
use pinion_types::PeerId;

use crate::support::*;

fn add(id: u64) -> ConfChange {
    ConfChange::simple(ConfChangeKind::AddVoter, PeerId(id))
}

fn remove(id: u64) -> ConfChange {
    ConfChange::simple(ConfChangeKind::Remove, PeerId(id))
}

#[test]
fn test_add_node_3a() {
    let mut node = fresh(1, &[1]);
    node.apply_conf_change(&add(2)).unwrap();
    assert_eq!(members(&node), [1, 2]);
}

/// The course lets the last voter go. The core refuses that, since nobody would be left to agree to anything; to remove
/// the last member is to destroy the group, which is the store's business.
#[test]
fn test_remove_node_3a() {
    let mut node = fresh(1, &[1, 2]);
    node.apply_conf_change(&remove(2)).unwrap();
    assert_eq!(members(&node), [1]);
    let left = node.apply_conf_change(&remove(1));
    let refused = ConfChangeError::Refused("removed all voters");
    assert_eq!(left, Err(RaftError::ConfChange(refused)));
    assert_eq!(members(&node), [1]);
}

#[test]
fn test_commit_after_remove_node_3a() {
    let mut node = fresh(1, &[1, 2]);
    become_leader(&mut node);
    node.propose_conf_change(&remove(2)).unwrap();
    assert!(handle_all(&mut node).0.is_empty());
    let change = node.last_index();
    node.propose(Bytes::from_static(b"hello")).unwrap();
    let acknowledged = Message { index: change, ..message(MessageKind::AppendResponse, 2, 1, 1) };
    testing::step(&mut node, acknowledged).unwrap();
    let applied = handle_all(&mut node).0;
    let kinds: Vec<EntryKind> = applied.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Normal, EntryKind::ConfChange]);
    assert!(applied[0].data.is_empty());
    node.apply_conf_change(&remove(2)).unwrap();
    let applied = handle_all(&mut node).0;
    assert_eq!(applied.iter().map(|entry| &entry.data[..]).collect::<Vec<_>>(), [b"hello"]);
}

#[test]
fn test_raw_node_propose_and_conf_change_3a() {
    let mut node = fresh(1, &[1]);
    node.campaign();
    handle_all(&mut node);
    let before = node.last_index();
    node.propose(Bytes::from_static(b"somedata")).unwrap();
    node.propose_conf_change(&add(2)).unwrap();
    let entries = node.ready().entries;
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[0].data[..], entries[0].index), (&b"somedata"[..], before.next()));
    assert_eq!(entries[1].kind, EntryKind::ConfChange);
    assert_eq!(entries[1].data, add(2).encode().unwrap());
    assert_eq!(ConfChange::decode(entries[1].kind, &entries[1].data).unwrap(), add(2));
}

#[test]
fn test_raw_node_propose_add_duplicate_node_3a() {
    let mut node = fresh(1, &[1]);
    node.campaign();
    handle_all(&mut node);
    for change in [add(1), add(1), add(2)] {
        node.propose_conf_change(&change).unwrap();
        let applied = handle_all(&mut node).0;
        assert_eq!(applied.len(), 1);
        let change = ConfChange::decode(applied[0].kind, &applied[0].data).unwrap();
        node.apply_conf_change(&change).unwrap();
    }
    let entries = testing::all_entries(&node);
    let last: Vec<Bytes> = entries[entries.len() - 3..].iter().map(|entry| entry.data.clone()).collect();
    assert_eq!(last, [add(1), add(1), add(2)].map(|change| change.encode().unwrap()));
    assert_eq!(members(&node), [1, 2]);
}
