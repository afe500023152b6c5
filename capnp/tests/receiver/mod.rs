//! A store that takes links and keeps what it hears: for tests of the link.

use pinion_capnp::server::Services;
use pinion_capnp::{
    LinkHello, LinkService, RegionMessage, SnapshotChunk, SnapshotKey, SnapshotOffer, WireError,
};
use pinion_types::StoreId;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// The cluster of every receiver.
pub(crate) const CLUSTER: u64 = 7;
/// The receiver's store.
pub(crate) const RECEIVER: StoreId = StoreId(2);

/// The store. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Receiver(Rc<Inner>);

#[derive(Default)]
struct Inner {
    hellos: RefCell<Vec<LinkHello>>,
    batches: RefCell<Vec<Vec<RegionMessage>>>,
    offers: RefCell<Vec<SnapshotOffer>>,
    chunks: RefCell<Vec<SnapshotChunk>>,
    aborted: RefCell<Vec<SnapshotKey>>,
    last_id: Cell<u64>,
    /// How long the calls of a snapshot take.
    delay: Cell<Duration>,
}

#[allow(dead_code, reason = "not every user of this module does all of it")]
impl Receiver {
    /// What stores said of themselves.
    pub(crate) fn hellos(&self) -> Vec<LinkHello> {
        self.0.hellos.borrow().clone()
    }

    /// The batches that came since the last look.
    pub(crate) fn take_batches(&self) -> Vec<Vec<RegionMessage>> {
        self.0.batches.take()
    }

    /// The messages that came since the last look.
    pub(crate) fn take_messages(&self) -> Vec<RegionMessage> {
        self.take_batches().concat()
    }

    pub(crate) fn chunks(&self) -> Vec<SnapshotChunk> {
        self.0.chunks.borrow().clone()
    }

    pub(crate) fn aborted(&self) -> Vec<SnapshotKey> {
        self.0.aborted.borrow().clone()
    }

    /// Lets each call of a snapshot take so long.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.0.delay.set(delay);
    }

    /// What a connection to this store is served with.
    pub(crate) fn services<R, A>(&self, raw: R, admin: A) -> Rc<Services<R, A, Self>> {
        Rc::new(Services { raw, admin, link: self.clone() })
    }

    fn after_delay<T>(&self, answer: T) -> impl Future<Output = T> + use<T> {
        let delay = self.0.delay.get();
        async move {
            if !delay.is_zero() {
                pinion_runtime::sleep(delay).await;
            }
            answer
        }
    }
}

impl LinkService for Receiver {
    fn hello(&self, hello: &LinkHello) -> Result<(), WireError> {
        self.0.hellos.borrow_mut().push(hello.clone());
        hello.check(CLUSTER, RECEIVER)
    }

    fn messages(&self, messages: Vec<RegionMessage>) {
        self.0.batches.borrow_mut().push(messages);
    }

    fn snapshot_offer(
        &self,
        offer: SnapshotOffer,
    ) -> impl Future<Output = Result<Vec<(u64, u64)>, WireError>> + 'static {
        let there = offer.files.iter().map(|&(number, bytes)| (number, bytes / 2)).collect();
        self.0.offers.borrow_mut().push(offer);
        self.after_delay(Ok(there))
    }

    fn snapshot_chunk(&self, chunk: SnapshotChunk) -> impl Future<Output = Result<(), WireError>> + 'static {
        self.0.chunks.borrow_mut().push(chunk);
        self.after_delay(Ok(()))
    }

    fn snapshot_done(&self, key: SnapshotKey) -> impl Future<Output = Result<(), WireError>> + 'static {
        let is_known = self.0.offers.borrow().iter().any(|offer| offer.key() == Some(key));
        self.after_delay(is_known.then_some(()).ok_or_else(|| WireError::invalid("no such offer")))
    }

    fn snapshot_abort(&self, key: SnapshotKey) {
        self.0.aborted.borrow_mut().push(key);
    }

    fn allocate_ids(&self, count: u64) -> impl Future<Output = Result<u64, WireError>> + 'static {
        let first = self.0.last_id.get() + 1;
        self.0.last_id.set(self.0.last_id.get() + count);
        self.after_delay(Ok(first))
    }
}
