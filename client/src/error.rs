//! Why a call was not done, or may not have been.

use pinion_capnp::{ClientError, WireError};
use pinion_types::{RegionId, StoreId};
use std::net::SocketAddr;
use std::time::Duration;

/// A call's failure. All but [`Error::Undetermined`] say that nothing was done, except where a batch or a range over several regions was done in
/// part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster refused the call, and would refuse it again.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The write may be done, or may yet be done, or not. It was not tried again.
    #[error("it is not known whether the write was done: {0}")]
    Undetermined(ClientError),
    /// Nothing was done until the call's deadline.
    #[error("not done within {after:?}; the last try ended with: {last}")]
    TimedOut {
        /// The time that the call had.
        after: Duration,
        /// What the last try came to.
        last: ClientError,
    },
    /// None of the addresses is a store's that can be reached.
    #[error("cannot reach a store at {}: {last}", listed(.addresses))]
    Unreachable {
        /// The addresses.
        addresses: Vec<SocketAddr>,
        /// What went wrong with the last one.
        last: ClientError,
    },
    /// A store failed in a way that another try does not mend.
    #[error(transparent)]
    Failed(ClientError),
    /// No store has such a region.
    #[error("there is no region {0} in this cluster")]
    NoSuchRegion(RegionId),
    /// The cluster has no such store.
    #[error("there is no store {0} in this cluster")]
    NoSuchStore(StoreId),
    /// The client's thread can't run here.
    #[error("the client cannot start: {0}")]
    Machine(String),
    /// The client's thread has ended.
    #[error("the client has ended")]
    Ended,
}

impl Error {
    /// Whether a write may have been done.
    pub fn is_undetermined(&self) -> bool {
        matches!(self, Self::Undetermined(_))
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}
