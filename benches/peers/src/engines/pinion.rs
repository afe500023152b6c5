//! Our own engine: one core, one region, every write an entry of the core's log before it is in the region's tree, as under a server.

use crate::engine::{Durability, Engine, Logging, Options};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use pinion_engine::batch::WriteBatch;
use pinion_engine::log::{Durability as LogDurability, LogConfig, Record};
use pinion_engine::tree::{IterOptions, Tree, TreeOptions};
use pinion_engine::{Engine as Core, EngineOptions, NewTree, Opening};
use pinion_types::region::INITIAL_POSITION;
use pinion_types::{ColumnFamily, CoreId, LogIndex, RegionId, Term};
use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

const REGION: RegionId = RegionId(1);
const TERM: Term = INITIAL_POSITION.1;
/// Writes between two looks whether the log can be compacted.
const COMPACT_EVERY: u64 = 4096;
/// Looks at the engine that must find it idle before it counts as settled, and the time between two.
const QUIET_LOOKS: u32 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a writer waits whom the engine takes no write from.
const BUSY_WAIT: Duration = Duration::from_millis(1);

pub(crate) struct Pinion {
    core: Core,
    tree: Tree,
    last: Cell<LogIndex>,
}

impl Engine for Pinion {
    fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T> {
        Ok(pinion_runtime::machine::block_on(future)?)
    }

    async fn open(options: &Options) -> Result<Self> {
        ensure!(options.logging == Logging::Buffered, "the log is synced or in the engine's memory");
        let settings = EngineOptions {
            data_dir: options.path.clone(),
            core: CoreId(0),
            log: LogConfig { buffer_bytes_max: options.log_buffer_bytes, ..LogConfig::default() },
            tree: TreeOptions { memtable_bytes: options.memtable_bytes, ..TreeOptions::default() },
            cache_bytes: options.cache_bytes,
            memtables_bytes_max: options.memtable_bytes * 4,
            replay_bytes_max: 1 << 30,
            edits_max: 32,
        };
        let (core, found) = Opening::open(settings).await?.finish(|_| true).await?;
        ensure!(found.is_empty(), "the directory holds a store");
        let region =
            NewTree { id: REGION, start: Vec::new(), end: Vec::new(), meta: Bytes::new(), generation: 0 };
        let made = core.bootstrap(Bytes::from_static(b"bench"), vec![region]).await?;
        let tree = made.into_iter().next().context("a region was made")?.tree;
        Ok(Self { core, tree, last: Cell::new(INITIAL_POSITION.0) })
    }

    fn logged_means(options: &Options) -> String {
        format!("its own memory, up to {} KiB", options.log_buffer_bytes >> 10)
    }

    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        let mut batch = WriteBatch::with_capacity(key.len() + value.len() + 16);
        batch.put(ColumnFamily::Default, key, value);
        self.write(batch, durability).await
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        let mut batch = WriteBatch::with_capacity(key.len() + 16);
        batch.delete(ColumnFamily::Default, key);
        self.write(batch, durability).await
    }

    async fn put_batch(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
        let mut batch = WriteBatch::with_capacity(bytes);
        for (key, value) in pairs {
            batch.put(ColumnFamily::Default, key, value);
        }
        self.write(batch, Durability::Logged).await
    }

    async fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = match self.tree.get_cached(ColumnFamily::Default, key) {
            Some(found) => found,
            None => self.tree.get(ColumnFamily::Default, key).await?,
        };
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    async fn scan(&self, from: &[u8], limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut iterator = self.tree.iter(ColumnFamily::Default, from, &[], IterOptions::default());
        let mut there = iterator.seek_to_first().await?;
        let mut count = 0;
        while there && count < limit {
            visit(iterator.key(), iterator.value());
            count += 1;
            there = match iterator.try_next() {
                Some(there) => there,
                None => iterator.next().await?,
            };
        }
        Ok(count)
    }

    async fn settle(&self) -> Result<()> {
        self.core.flush_region(REGION).await?;
        self.compact_log();
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            quiet = if self.core.is_settled() { quiet + 1 } else { 0 };
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(self.core.close().await?)
    }

    async fn pause(&self) {
        if pinion_runtime::should_yield() {
            pinion_runtime::yield_now().await;
        }
    }

    async fn sleep_until(&self, at: Instant) {
        pinion_runtime::sleep(at.saturating_duration_since(Instant::now())).await;
    }

    async fn clients<R, F>(engine: &Arc<Self>, count: usize, client: Arc<F>) -> Result<Vec<R>>
    where
        R: Send + 'static,
        F: AsyncFn(&Self, usize) -> R + Send + Sync + 'static,
    {
        let clients: Vec<_> = (0..count)
            .map(|id| {
                let (engine, client) = (engine.clone(), client.clone());
                pinion_runtime::spawn(async move { client(&engine, id).await })
            })
            .collect();
        let mut results = Vec::new();
        for client in clients {
            results.push(client.await);
        }
        Ok(results)
    }
}

impl Pinion {
    /// What the server does with a command: into the log and into the tree; the answer when the log says so.
    async fn write(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        loop {
            match self.core.write_delay() {
                Some(Duration::ZERO) => break,
                Some(delay) => {
                    pinion_runtime::sleep(delay).await;
                    break;
                }
                None => pinion_runtime::sleep(BUSY_WAIT).await,
            }
        }
        while !self.core.accepts_writes() {
            pinion_runtime::sleep(BUSY_WAIT).await;
        }
        let index = self.last.get().next();
        self.last.set(index);
        let payload = Bytes::from(batch.into_bytes());
        let record = Record::Entry { stream: REGION, index, term: TERM, kind: 0, payload: &payload };
        let logged = match durability {
            Durability::Logged => LogDurability::Buffered,
            Durability::Synced => LogDurability::Sync,
        };
        let ticket = self.core.log().append(&[record], logged);
        // Clients are woken in any order, and the tree takes entries in theirs.
        self.tree.write(WriteBatch::decode(&payload)?, (index, TERM));
        self.core.log().applied(REGION, index);
        self.core.after_writes();
        if index.0.is_multiple_of(COMPACT_EVERY) {
            self.compact_log();
        }
        Ok(ticket.await?)
    }

    /// Lets go of the log that is in tables.
    fn compact_log(&self) {
        let (index, term) = self.tree.flushed();
        self.core.compact_log(REGION, index, term, Bytes::new());
    }
}
