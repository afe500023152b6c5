//! Raw calls and their answers as plain types: owned and `Send`, because another core may answer.
//!
//! Keys are the caller's keys, without zone byte. What reaches a [`RawService`] has been checked: no key is empty or over its limit, no
//! value is over its limit, a list has entries, a range does not end before it starts.

mod operations;
mod pairs;
mod results;

pub(crate) use operations::ttl_ms;
pub use operations::{Operation, OperationKind, Operations};
pub use pairs::Pairs;
pub use results::{OperationResult, Results, VALUES_BYTES_MAX};

use crate::WireError;
use bytes::Bytes;
use pinion_runtime::Instant;
use pinion_types::{ColumnFamily, Epoch, Peer, RegionId, Term};
use std::future::Future;
use std::time::Duration;

/// Which region the caller means, and what it knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The region.
    pub region: RegionId,
    /// Its epoch; not checked when `None`.
    pub epoch: Option<Epoch>,
    /// The peer that is addressed; not checked when `None`.
    pub peer: Option<Peer>,
    /// The term in which the leader was seen; 0 is not checked.
    pub term: Term,
    /// Who may answer a read.
    pub read_from: ReadFrom,
}

/// Who may answer a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// The leader alone.
    #[default]
    Leader,
    /// Any peer, which asks the leader what is the newest state.
    Replica,
    /// Any peer, with a state that was the newest at some time since so long before the call.
    Stale(Duration),
}

/// A call with what belongs to every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRequest {
    /// The region that the caller means; without one the store routes.
    pub context: Option<Box<Context>>,
    /// When the caller stops waiting. The connection answers `TimedOut` by itself; a long call should stop by then.
    pub deadline: Option<Instant>,
    /// What to do.
    pub call: RawCall,
}

impl RawRequest {
    /// A request without context and deadline.
    pub fn new(call: RawCall) -> Self {
        Self { context: None, deadline: None, call }
    }
}

/// What to do with raw keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawCall {
    /// The value of a key. Answer: `Value`.
    Get {
        /// The namespace.
        family: ColumnFamily,
        /// The key.
        key: Vec<u8>,
    },
    /// Writes a key. Answer: `Done`.
    Put {
        /// The namespace.
        family: ColumnFamily,
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// How long the key lives; `None` is for ever.
        ttl: Option<Duration>,
    },
    /// Removes a key. Answer: `Done`.
    Delete {
        /// The namespace.
        family: ColumnFamily,
        /// The key.
        key: Vec<u8>,
    },
    /// A list of operations. Answer: `Results`, one for each operation.
    ///
    /// All reads of a region see one state, from before the batch's writes. A region's writes take effect together, in the
    /// order of the list.
    Batch {
        /// What to do; at least one.
        operations: Operations,
        /// What to do about keys of several regions.
        atomicity: Atomicity,
    },
    /// Removes every key of `[start, end)`; an empty end is no end. Answer: `Done`.
    DeleteRange {
        /// The namespace.
        family: ColumnFamily,
        /// First key to go.
        start: Vec<u8>,
        /// First key to stay; empty for no end.
        end: Vec<u8>,
    },
    /// Keys and values of a range. Answer: `Page`.
    Scan(Scan),
    /// Writes a key if its value is the expected one. Answer: `Swap`.
    CompareAndSwap {
        /// The namespace.
        family: ColumnFamily,
        /// The key.
        key: Vec<u8>,
        /// The value that must be there; `None` when the key must not be.
        expected: Option<Vec<u8>>,
        /// The new value.
        value: Vec<u8>,
        /// How long the new value lives; `None` is for ever.
        ttl: Option<Duration>,
    },
    /// How long a key has still to live. Answer: `TimeToLive`.
    TimeToLive {
        /// The namespace.
        family: ColumnFamily,
        /// The key.
        key: Vec<u8>,
    },
}

impl RawCall {
    /// Whether the call may write.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Get { .. } | Self::Scan(_) | Self::TimeToLive { .. } => false,
            Self::Put { .. }
            | Self::Delete { .. }
            | Self::DeleteRange { .. }
            | Self::CompareAndSwap { .. } => true,
            Self::Batch { operations, .. } => {
                operations.iter().any(|operation| operation.kind != OperationKind::Get)
            }
        }
    }
}

/// What a batch wants when its keys are of several regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atomicity {
    /// To be refused, whole, with `BatchSpansRegions`.
    #[default]
    Whole,
    /// Each region's part by itself; a part that fails has the error in its operations' results.
    PerRegion,
}

/// A range to read, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The namespace.
    pub family: ColumnFamily,
    /// First key of the range; empty is the first of all.
    pub start: Vec<u8>,
    /// First key after the range, backwards too; empty for no end.
    pub end: Vec<u8>,
    /// Pairs at most; at 0 there is nothing to read.
    pub limit: usize,
    /// Bytes of keys and values at most, except that one pair always fits. Never 0 when it reaches a service.
    pub bytes_max: usize,
    /// From the last key backwards.
    pub reverse: bool,
    /// Leaves the values empty.
    pub keys_only: bool,
}

/// What a call answers: what it was asked for, or why not.
pub type RawAnswer = Result<RawReply, WireError>;

/// What a call was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawReply {
    /// Of `Get`: the value, or `None` when the key is not there.
    Value(Option<Bytes>),
    /// The write is durable.
    Done,
    /// Of `Batch`: one for each operation.
    Results(Results),
    /// Of `Scan`.
    Page(Page),
    /// Of `CompareAndSwap`.
    Swap {
        /// Whether the new value was written.
        swapped: bool,
        /// The value before the call.
        previous: Option<Bytes>,
    },
    /// Of `TimeToLive`.
    TimeToLive(Remaining),
}

/// Part of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In order of their keys, descending for a reverse scan.
    pub pairs: Pairs,
    /// `None` when the range was read to its end; else the next `start`, or the next `end` of a reverse scan.
    pub resume: Option<Vec<u8>>,
}

/// How long a key has still to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// The key is not there.
    NotFound,
    /// It does not expire.
    Forever,
    /// So long.
    For(Duration),
}

/// What serves the `Raw` interface: the shard of the connection's core.
///
/// Dropping the future gives up the answer and never undoes a write. The first poll should do all that can be done without
/// waiting: a connection polls calls in the order of their arrival, and answers in one send all that are ready.
pub trait RawService: 'static {
    /// Does the call and answers it with the reply that belongs to it.
    fn call(&self, request: RawRequest) -> impl Future<Output = RawAnswer> + 'static;
}
