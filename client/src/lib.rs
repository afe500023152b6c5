//! The client of a cluster.
//!
//! - [`Cluster`] runs on `pinion_runtime`: on a core, and in the simulator. It knows which region a key is in, which store leads it and on
//!   which of that store's cores it is, and sends each call straight there, over one connection for each core.
//! - [`Client`] is for everybody else: it has a thread of its own with a `Cluster` on it, and its calls are futures for any executor, or wait on
//!   the calling thread.
//!
//! What is done about failures:
//! - A call has one deadline. Until then, what was refused without having been done is tried again, at once where the refusal says who to ask,
//!   else after a pause that grows and has a random part. Reads are also tried again when no answer came.
//! - A write of which nobody can say whether it was done is **not** tried again: it is [`Error::Undetermined`], and its caller decides.
//! - A batch is parted by region, and the parts travel together. What is all or nothing is a region's part.
//!
//! Bounds: calls in flight, the queue to a `Client`'s thread, and time.

mod admin;
mod attempt;
mod batch;
mod book;
mod cache;
mod calls;
mod cluster;
mod error;
mod handle;
mod options;
mod pool;
mod range;
mod retry;
mod watch;

pub use cluster::Cluster;
pub use error::Error;
pub use handle::{Blocking, Client};
pub use options::Options;
pub use pinion_capnp::{
    Atomicity, ClientError, OperationKind, OperationResult, Operations, Page, Pairs, PeerChange,
    PeerChangeKind, RawCall, RawReply, RegionInfo, Remaining, Results, Scan, StoreInfo, StoreRecord,
    WireError,
};
pub use pinion_types::{ColumnFamily, RegionId, StoreId};
