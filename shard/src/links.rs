//! A core's links to other stores: one for each core of theirs that it writes to.

use pinion_capnp::link::RegionMessage;
use pinion_types::{CoreId, StoreId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The links, and where the stores listen.
#[derive(Default)]
pub(crate) struct Links {
    book: RefCell<BTreeMap<StoreId, Vec<SocketAddr>>>,
}

impl Links {
    /// Sends a message to a core of its receiver's store.
    pub(crate) fn send(&self, _core: CoreId, _message: RegionMessage) {
        let _ = &self.book;
    }

    /// Asks another store for ids.
    pub(crate) async fn allocate_ids(
        &self,
        _store: StoreId,
        _count: u64,
    ) -> Result<u64, pinion_capnp::WireError> {
        Err(pinion_capnp::WireError::ShuttingDown)
    }

    /// Every other store that is known.
    pub(crate) fn stores(&self) -> Vec<StoreId> {
        self.book.borrow().keys().copied().collect()
    }
}
