//! Nodes as the course sets them up, without pre-vote and check-quorum.

use bytes::Bytes;
use pinion_raft::{Config, Entry, MemoryStorage, RawNode};
use pinion_types::{LogIndex, PeerId, Term};

/// A node of the course.
pub(crate) type Node = RawNode<MemoryStorage>;

/// The course's configuration: what its core does not have is off.
pub(crate) fn config(id: u64) -> Config {
    Config {
        pre_vote: false,
        check_quorum: false,
        max_size_per_message: u64::MAX,
        max_uncommitted_entries_size: 0,
        ..Config::new(PeerId(id))
    }
}

/// A node over a storage of its own, of which the test keeps a handle.
pub(crate) fn node(id: u64, storage: &MemoryStorage) -> Node {
    RawNode::new(config(id), storage.clone()).unwrap()
}

/// An entry with a command.
pub(crate) fn entry(index: u64, term: u64, data: &'static str) -> Entry {
    Entry {
        term: Term(term),
        index: LogIndex(index),
        data: Bytes::from_static(data.as_bytes()),
        ..Entry::default()
    }
}
