//! Consensus: the Raft algorithm as a state machine that is fed messages and ticks and answers with work to do.
//!
//! It does no input or output, knows no clock and has no randomness of its own: messages go in through
//! [`RawNode::step`], time through [`RawNode::tick`], random election timeouts through [`Config::timeout_source`], and
//! what has to be written, sent and applied comes out in a [`Ready`]. The driver's loop is
//!
//! ```text
//! tick, step, propose → has_ready → ready → persist, send, apply → advance
//! ```
//!
//! or, with [`Config::async_storage_writes`], local messages to an append and an apply thread in place of `advance`.
//!
//! The shape is that of etcd's Raft library: the algorithm in `raft/`, and its pure parts beside it: [`quorum`] (what a
//! majority says), [`tracker`] (what the leader knows of each follower), [`confchange`] (from one configuration to the
//! next), `log` (the stable log in a [`Storage`] and the part that is not there yet), `lease` (until when a leader can't
//! have been replaced).
//!
//! What holds always:
//! - A vote and an acknowledgement leave only with, or after, the write that they depend on; a node's own count no
//!   earlier than anybody else's.
//! - An entry of an earlier term is committed only together with one of the leader's own term.
//! - Nothing that arrives from the network panics: it is refused with a [`RaftError`] or dropped as documented.
//!
//! Papers: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014); Ongaro's thesis
//! "Consensus: Bridging Theory and Practice" (2014), §3 (core), §3.10 (leader transfer), §4.3 (joint consensus), §6.4
//! (read index, leases), §9.6 (pre-vote), §10.2.1 (writing to the leader's disk in parallel).

mod conf_change;
pub mod confchange;
mod config;
mod describe;
mod error;
mod lease;
mod log;
mod logger;
mod memory_storage;
mod message;
pub mod quorum;
mod raft;
mod raw_node;
mod read_only;
mod status;
mod storage;
pub mod tracker;

#[doc(hidden)]
pub mod testing;

pub use conf_change::{ConfChange, ConfChangeError, ConfChangeKind, ConfChangeSingle, ConfChangeTransition};
pub use config::{ApplyAhead, Config, ReadOnlyOption, TimeoutSource};
pub use error::{DropReason, RaftError, StorageError};
pub use lease::{Clock, History, LeaseConfig};
pub use logger::{Level, Logger};
pub use memory_storage::MemoryStorage;
pub use message::{
    APPEND_THREAD, APPLY_THREAD, ConfState, Entry, EntryKind, HardState, INDEX_MAX, Message, MessageKind,
    NO_PEER, Snapshot, SnapshotMetadata,
};
pub use raw_node::{RawNode, ReadState, Ready, Role, SoftState};
pub use status::Status;
pub use storage::Storage;
