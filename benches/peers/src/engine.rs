//! What an engine does to be measured.
//!
//! Everything is `async`, so that the same workloads drive both kinds of engine:
//! - blocking ones with threads of their own (RocksDB, fjall): each future is ready at once, and a client is a thread;
//! - one of a single thread a core (ours): a client is a task on that core.
//!
//! Calls are dispatched statically; a future that is ready at once costs nothing that can be measured here.

use anyhow::Result;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What must be true of a write when the call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    /// In the log, as [`Logging`] says.
    Logged,
    /// On stable storage: a power cut spares it.
    Synced,
}

/// Where the log of a write that was not synced is when the call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Logging {
    /// In memory of the engine, up to a bound: kill -9 loses it
    Buffered,
    /// With the operating system: survives kill -9
    Os,
}

/// Settings that every engine takes as closely as it can.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    /// Bytes of the block cache.
    pub(crate) cache_bytes: usize,
    /// Bytes of one memtable.
    pub(crate) memtable_bytes: usize,
    pub(crate) logging: Logging,
    /// Bound of the log in memory, with [`Logging::Buffered`].
    pub(crate) log_buffer_bytes: usize,
}

/// One engine, open.
pub(crate) trait Engine: Sized + 'static {
    /// Runs a whole measurement, where the engine's futures can run.
    fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T>;

    async fn open(options: &Options) -> Result<Self>;

    /// What `Durability::Logged` means with these options, in words for the report.
    fn logged_means(options: &Options) -> String;

    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()>;
    async fn delete(&self, key: &[u8], durability: Durability) -> Result<()>;
    /// One atomic batch: data sets are loaded so.
    async fn put_batch(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// Shows the value, in the engine's own memory where it can; whether there is one.
    async fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Visits up to `limit` pairs from `from` on, ascending; how many there were.
    async fn scan(&self, from: &[u8], limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;

    /// Writes memtables out and waits until background work is done, so that reads measured next see a stable shape. It forces no
    /// major compaction.
    async fn settle(&self) -> Result<()>;

    /// Ends what goes on in the background; the files are removed next.
    async fn close(&self) -> Result<()> {
        Ok(())
    }

    /// Lets an engine of one thread do other work between two calls.
    async fn pause(&self) {}

    /// Waits until `at`.
    async fn sleep_until(&self, at: Instant) {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
    }

    /// Runs `count` clients at once, to their ends; each gets its number.
    async fn clients<R, F>(engine: &Arc<Self>, count: usize, client: Arc<F>) -> Result<Vec<R>>
    where
        R: Send + 'static,
        F: AsyncFn(&Self, usize) -> R + Send + Sync + 'static;
}

/// [`Engine::clients`] of engines that many threads call.
pub(crate) fn on_threads<E, R, F>(engine: &Arc<E>, count: usize, client: &Arc<F>) -> Result<Vec<R>>
where
    E: Engine + Send + Sync,
    R: Send + 'static,
    F: AsyncFn(&E, usize) -> R + Send + Sync + 'static,
{
    let threads: Vec<_> = (0..count)
        .map(|id| {
            let (engine, client) = (engine.clone(), client.clone());
            std::thread::spawn(move || poll_ready(client(&engine, id)))
        })
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
        .collect()
}

/// Drives a future that never waits.
pub(crate) fn poll_ready<T>(future: impl Future<Output = T>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => anyhow::bail!("a blocking engine returned a future that is not ready"),
    }
}
