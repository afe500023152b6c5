//! fjall 3.

use crate::engine::{Durability, Engine, Logging, Options, on_threads, poll_ready};
use anyhow::Result;
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const WORKERS: usize = 2;
/// fjall has no signal that it is idle: it counts as settled when this many looks found nothing done.
const QUIET_LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Engine for Fjall {
    fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T> {
        poll_ready(future)
    }

    async fn open(options: &Options) -> Result<Self> {
        let manual = options.logging == Logging::Buffered;
        let database = Database::builder(&options.path)
            .cache_size(u64::try_from(options.cache_bytes)?)
            .worker_threads(WORKERS)
            .manual_journal_persist(manual)
            .open()?;
        let keyspace = database.keyspace("bench", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(u64::try_from(options.memtable_bytes).unwrap_or(u64::MAX))
                .manual_journal_persist(manual)
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        })?;
        Ok(Self { database, keyspace })
    }

    fn logged_means(options: &Options) -> String {
        match options.logging {
            // Its journal's buffer has this size and no setting.
            Logging::Buffered => "its own memory, up to 8 KiB".to_owned(),
            Logging::Os => "the operating system".to_owned(),
        }
    }

    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.keyspace.insert(key, value)?;
        self.persist(durability)
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        self.keyspace.remove(key)?;
        self.persist(durability)
    }

    async fn put_batch(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        Ok(batch.commit()?)
    }

    async fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.keyspace.get(key)?;
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    async fn scan(&self, from: &[u8], limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        let mut count = 0;
        for guard in self.keyspace.range(from..).take(limit) {
            let (key, value) = guard.into_inner()?;
            visit(&key, &value);
            count += 1;
        }
        Ok(count)
    }

    async fn settle(&self) -> Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        let (mut quiet, mut done) = (0, 0);
        while quiet < QUIET_LOOKS {
            let busy = self.database.outstanding_flushes() + self.database.active_compactions();
            let completed = self.database.compactions_completed();
            quiet = if busy == 0 && completed == done { quiet + 1 } else { 0 };
            done = completed;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    async fn clients<R, F>(engine: &Arc<Self>, count: usize, client: Arc<F>) -> Result<Vec<R>>
    where
        R: Send + 'static,
        F: AsyncFn(&Self, usize) -> R + Send + Sync + 'static,
    {
        on_threads(engine, count, &client)
    }
}

impl Fjall {
    /// There is no synchronous insert: its manual prescribes `persist` after it.
    fn persist(&self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Logged => Ok(()),
            Durability::Synced => Ok(self.database.persist(PersistMode::SyncData)?),
        }
    }
}
