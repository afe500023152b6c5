//! What a node makes of a storage that has lost a commit index, or can't tell a term.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as the test does")]

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use pinion_raft::{
    ConfChange, ConfChangeKind, ConfState, Config, Entry, EntryKind, HardState, MemoryStorage, Message,
    MessageKind, RaftError, RawNode, Snapshot, SnapshotMetadata, Storage, StorageError,
};
use pinion_types::{LogIndex, PeerId, Term};

fn config(id: u64) -> Config {
    Config { pre_vote: false, ..Config::new(PeerId(id)) }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index: LogIndex(index), term: Term(term), data: Bytes::from_static(b"x"), ..Entry::default() }
}

fn adds(index: u64, term: u64, peer: u64) -> Entry {
    let data = ConfChange::simple(ConfChangeKind::AddVoter, PeerId(peer)).encode().unwrap();
    Entry { kind: EntryKind::ConfChange, data, ..entry(index, term) }
}

/// A follower of 2 that has written all this and has persisted no more of the commit index than 1.
fn stored(entries: &[Entry]) -> MemoryStorage {
    let storage = MemoryStorage::with_voters([1, 2, 3]);
    storage.append(entries).unwrap();
    storage.set_hard_state(HardState { term: Term(1), vote: PeerId(2), commit: LogIndex(1) });
    storage
}

#[test]
fn all_changes_in_the_log_but_the_last_are_committed_when_the_commit_index_is_lost() {
    let commit = |entries: &[Entry], disable_conf_change_validation| {
        let config = Config { disable_conf_change_validation, applied: LogIndex(1), ..config(1) };
        RawNode::new(config, stored(entries)).unwrap().hard_state().commit.0
    };
    let log = [entry(1, 1), adds(2, 1, 4), entry(3, 1), adds(4, 1, 5), adds(5, 1, 6), entry(6, 1)];
    assert_eq!(commit(&log, false), 4);
    assert_eq!(commit(&log[..4], false), 2);
    assert_eq!(commit(&log[..3], false), 1, "the only one may not be");
    assert_eq!(commit(&log, true), 1, "they may overlap");
}

#[test]
fn who_lost_the_commit_index_does_not_campaign_by_a_configuration_two_changes_old() {
    let storage = stored(&[entry(1, 1), adds(2, 1, 4), adds(3, 1, 5), entry(4, 1)]);
    let mut node = RawNode::new(Config { applied: LogIndex(1), ..config(1) }, storage).unwrap();
    node.campaign();
    assert_eq!(node.hard_state().term, Term(1), "a change is to be applied first");
}

/// A storage that can't tell the term at one index, when told so.
struct Forgetful {
    inner: MemoryStorage,
    index: LogIndex,
    forgets: Rc<Cell<bool>>,
}

impl Storage for Forgetful {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.inner.initial_state()
    }

    fn entries(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        self.inner.entries(low, high, bytes_max)
    }

    fn term(&self, index: LogIndex) -> Result<Term, StorageError> {
        if self.forgets.get() && index == self.index {
            return Err(StorageError::TemporarilyUnavailable);
        }
        self.inner.term(index)
    }

    fn first_index(&self) -> LogIndex {
        self.inner.first_index()
    }

    fn last_index(&self) -> LogIndex {
        self.inner.last_index()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.inner.snapshot()
    }
}

#[test]
fn a_term_that_can_not_be_read_is_not_a_conflict() {
    let forgets = Rc::new(Cell::new(false));
    let storage = Forgetful {
        inner: stored(&[entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1)]),
        index: LogIndex(2),
        forgets: Rc::clone(&forgets),
    };
    let mut node = RawNode::new(config(1), storage).unwrap();
    forgets.set(true);
    let from_leader =
        |kind| Message { kind, from: PeerId(2), to: PeerId(1), term: Term(1), ..Message::default() };
    let late = Message {
        index: LogIndex(1),
        log_term: Term(1),
        entries: vec![entry(2, 1)],
        commit: LogIndex(1),
        ..from_leader(MessageKind::Append)
    };
    let snapshot = Snapshot {
        metadata: SnapshotMetadata {
            index: LogIndex(2),
            term: Term(1),
            conf_state: ConfState { voters: vec![PeerId(1), PeerId(2)], ..ConfState::default() },
        },
        ..Snapshot::default()
    };
    let snapshot = Message { snapshot: Some(Box::new(snapshot)), ..from_leader(MessageKind::Snapshot) };
    let dropped = Err(RaftError::Storage(StorageError::TemporarilyUnavailable));
    for message in [late.clone(), snapshot] {
        assert_eq!(node.step(message), dropped);
        assert_eq!(node.last_index(), LogIndex(4), "what was acknowledged is gone");
    }
    forgets.set(false);
    node.step(late).unwrap();
    assert_eq!(node.last_index(), LogIndex(4));
}
