//! The client of whoever does not run on `pinion_runtime`: a thread of its own with a [`Cluster`] on it, and a bounded queue to it.

use crate::{
    Cluster, ColumnFamily, Error, Operations, Options, Page, PeerChange, RegionId, RegionInfo, Remaining,
    Results, Scan, StoreId, StoreInfo, StoreRecord,
};
use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::lock::Mutex;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use pinion_capnp::{Atomicity, ClientError};
use pinion_runtime::{machine, spawn};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Calls that wait for the client's thread at most; who makes one more waits.
const QUEUE_MAX: usize = 1024;

/// A call on its way to the client's thread.
type Job = Box<dyn FnOnce(Cluster) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A client of a cluster, to be used from any thread and any executor. Clones share it; the last one that is dropped ends its thread.
///
/// A call goes on when its future is dropped: a write is not undone by that.
#[derive(Clone)]
pub struct Client {
    queue: Arc<Mutex<mpsc::Sender<Job>>>,
    id: u64,
}

impl Client {
    /// Connects to the cluster of the first of these stores that can be reached.
    ///
    /// # Errors
    /// When no store can be reached, or the client's thread cannot have io_uring.
    pub async fn connect(addresses: &[SocketAddr], options: Options) -> Result<Self, Error> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let (ready, connected) = oneshot::channel();
        let addresses = addresses.to_vec();
        let failed = |error: std::io::Error| Error::Machine(error.to_string());
        std::thread::Builder::new()
            .name(options.name.clone())
            .spawn(move || run(addresses, options, jobs, ready))
            .map_err(failed)?;
        let id = connected.await.map_err(|_| Error::Ended)??;
        Ok(Self { queue: Arc::new(Mutex::new(queue)), id })
    }

    /// The same on a thread that may wait.
    pub fn connect_blocking(addresses: &[SocketAddr], options: Options) -> Result<Self, Error> {
        block_on(Self::connect(addresses, options))
    }

    /// The same client for a thread that waits.
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking(self)
    }

    /// The cluster's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Has the client's thread do something with its [`Cluster`]: whatever that can do, and several calls in one go.
    pub async fn run<T, F, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
        W: FnOnce(Cluster) -> F + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |cluster| {
            async move {
                // Nobody may wait for it any more.
                let _ = answer.send(work(cluster).await);
            }
            .boxed_local()
        });
        self.queue.lock().await.send(job).await.map_err(|_| Error::Ended)?;
        let gone =
            || ClientError::Closed("the client's thread ended while the call was under way".to_owned());
        answered.await.unwrap_or_else(|_| Err(Error::Undetermined(gone())))
    }
}

/// Declares a call of [`Cluster`] on both handles.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $given:ty => $owned:expr, $lent:expr),*) -> $answer:ty;)*) => {
        impl Client {
            $($(#[$doc])*
            pub async fn $name(&self, $($argument: $given),*) -> Result<$answer, Error> {
                let ($($argument,)*) = ($($owned,)*);
                self.run(move |cluster| async move { cluster.$name($($lent),*).await }).await
            })*
        }

        impl Blocking<'_> {
            $($(#[$doc])*
            pub fn $name(&self, $($argument: $given),*) -> Result<$answer, Error> {
                block_on(self.0.$name($($argument),*))
            })*
        }
    };
}

calls! {
    /// The value of a key; `None` when it is not there.
    get(family: ColumnFamily => family, family, key: &[u8] => key.to_vec(), &key) -> Option<Bytes>;
    /// Writes a key, for ever or for a time.
    put(
        family: ColumnFamily => family, family,
        key: &[u8] => key.to_vec(), &key,
        value: &[u8] => value.to_vec(), &value,
        ttl: Option<Duration> => ttl, ttl
    ) -> ();
    /// Removes a key.
    delete(family: ColumnFamily => family, family, key: &[u8] => key.to_vec(), &key) -> ();
    /// Writes a key if its value is `expected`. Whether it did, and the value before.
    compare_and_swap(
        family: ColumnFamily => family, family,
        key: &[u8] => key.to_vec(), &key,
        expected: Option<&[u8]> => expected.map(<[u8]>::to_vec), expected.as_deref(),
        value: &[u8] => value.to_vec(), &value,
        ttl: Option<Duration> => ttl, ttl
    ) -> (bool, Option<Bytes>);
    /// How long a key has still to live.
    time_to_live(family: ColumnFamily => family, family, key: &[u8] => key.to_vec(), &key) -> Remaining;
    /// Runs a mixed list of operations; each region's part is all or nothing.
    batch(operations: Operations => operations, operations) -> Results;
    /// Runs a list of operations. Writes that are to be one whole are of one region, or refused with `BatchSpansRegions`.
    run_batch(
        operations: Operations => operations, operations,
        atomicity: Atomicity => atomicity, atomicity
    ) -> Results;
    /// The values of several keys, one result for each.
    batch_get(family: ColumnFamily => family, family, keys: &[Vec<u8>] => keys.to_vec(), &keys) -> Results;
    /// Writes several keys of one region, all or nothing. `operations` are puts of one family and one time to live.
    batch_put(operations: Operations => operations, operations) -> ();
    /// Removes several keys of one region, all or nothing.
    batch_delete(family: ColumnFamily => family, family, keys: &[Vec<u8>] => keys.to_vec(), &keys) -> ();
    /// Part of a range, across regions; each region's part is as it was at one moment.
    scan(scan: Scan => scan, scan) -> Page;
    /// Removes every key of `[start, end)`, region by region; an empty end is no end.
    delete_range(
        family: ColumnFamily => family, family,
        start: &[u8] => start.to_vec(), &start,
        end: &[u8] => end.to_vec(), &end
    ) -> ();
    /// The cluster's stores, in order of their ids, whether or not they can be reached.
    stores() -> Vec<StoreRecord>;
    /// Who a store is; an error when it cannot be reached.
    store(store: StoreId => store, store) -> StoreInfo;
    /// Every region of the cluster, in order of the keys.
    regions() -> Vec<RegionInfo>;
    /// The region that a raw key is in, as its leader has it.
    region(key: &[u8] => key.to_vec(), &key) -> RegionInfo;
    /// Splits regions at raw keys. The regions made and changed.
    split(keys: &[Vec<u8>] => keys.to_vec(), &keys) -> Vec<RegionInfo>;
    /// Changes who keeps a region: all changes or none. The region after that.
    change_peers(
        region: RegionId => region, region,
        changes: &[PeerChange] => changes.to_vec(), &changes
    ) -> RegionInfo;
    /// Makes a region's peer on a store its leader.
    transfer_leader(region: RegionId => region, region, to: StoreId => to, to) -> ();
}

/// A [`Client`] for a thread that waits for its calls.
#[derive(Clone, Copy)]
pub struct Blocking<'a>(&'a Client);

/// The client's thread: connects, then does what comes by the queue until nobody can send any more.
fn run(
    addresses: Vec<SocketAddr>,
    options: Options,
    jobs: mpsc::Receiver<Job>,
    ready: oneshot::Sender<Result<u64, Error>>,
) {
    let calls_max = options.calls_max.max(1);
    let ready = std::rc::Rc::new(std::cell::Cell::new(Some(ready)));
    let told = ready.clone();
    let ended = machine::block_on(async move {
        let connected = Cluster::connect(&addresses, options).await;
        let Some(ready) = told.take() else { return };
        match connected {
            Ok(cluster) => {
                let _ = ready.send(Ok(cluster.id()));
                serve(&cluster, jobs, calls_max).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    if let (Err(error), Some(ready)) = (ended, ready.take()) {
        let _ = ready.send(Err(Error::Machine(error.to_string())));
    }
}

/// Does what comes by the queue, so many calls at the same time at most.
async fn serve(cluster: &Cluster, mut jobs: mpsc::Receiver<Job>, calls_max: usize) {
    let mut running = futures_util::stream::FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !running.is_empty() {
        poll_fn(|context| {
            let mut progress = false;
            while is_open && running.len() < calls_max {
                match jobs.poll_next_unpin(context) {
                    Poll::Ready(Some(job)) => running.push(spawn(job(cluster.clone()))),
                    Poll::Ready(None) => is_open = false,
                    Poll::Pending => break,
                }
                progress = true;
            }
            while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {
                progress = true;
            }
            if progress { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Wakes a thread that waits.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for a future that needs no executor.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
