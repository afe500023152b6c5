//! RocksDB: Debian's librocksdb.

use crate::engine::{Durability, Engine, Logging, Options, on_threads, poll_ready};
use anyhow::Result;
use rocksdb::{BlockBasedOptions, Cache, DB, WriteBatch, WriteOptions};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Flushes and compactions at a time: this kind of machine has two processors.
const BACKGROUND_JOBS: i32 = 2;
/// Looks at the engine that must find it idle before it counts as settled, and the time between two.
const QUIET_LOOKS: u32 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) struct RocksDb {
    db: DB,
    logged: WriteOptions,
    synced: WriteOptions,
}

impl Engine for RocksDb {
    fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T> {
        poll_ready(future)
    }

    async fn open(options: &Options) -> Result<Self> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(options.cache_bytes)?);
        table.set_bloom_filter(10.0, false);
        table.set_format_version(5);
        let mut settings = rocksdb::Options::default();
        settings.create_if_missing(true);
        settings.set_block_based_table_factory(&table);
        settings.set_write_buffer_size(options.memtable_bytes);
        settings.set_max_write_buffer_number(4);
        settings.set_max_background_jobs(BACKGROUND_JOBS);
        settings.set_level_compaction_dynamic_level_bytes(true);
        settings.set_max_open_files(-1);
        settings.set_bytes_per_sync(1 << 20);
        settings.set_compression_type(rocksdb::DBCompressionType::None);
        if options.logging == Logging::Buffered {
            settings.set_manual_wal_flush(true);
            settings.set_writable_file_max_buffer_size(u64::try_from(options.log_buffer_bytes)?);
        }
        let db = DB::open(&settings, &options.path)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self { db, logged: WriteOptions::default(), synced })
    }

    fn logged_means(options: &Options) -> String {
        match options.logging {
            Logging::Buffered => format!("its own memory, up to {} KiB", options.log_buffer_bytes >> 10),
            Logging::Os => "the operating system".to_owned(),
        }
    }

    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        Ok(self.db.put_opt(key, value, self.write_options(durability))?)
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<()> {
        Ok(self.db.delete_opt(key, self.write_options(durability))?)
    }

    async fn put_batch(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in pairs {
            batch.put(key, value);
        }
        Ok(self.db.write(batch)?)
    }

    async fn get(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.db.get_pinned(key)?;
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    async fn scan(&self, from: &[u8], limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize> {
        // The raw iterator shows the engine's own memory; the other kind copies.
        let mut iterator = self.db.raw_iterator();
        iterator.seek(from);
        let mut count = 0;
        while count < limit {
            let Some((key, value)) = iterator.item() else { break };
            visit(key, value);
            count += 1;
            iterator.next();
        }
        iterator.status()?;
        Ok(count)
    }

    async fn settle(&self) -> Result<()> {
        self.db.flush()?;
        let count = |name: &str| anyhow::Ok(self.db.property_int_value(name)?.unwrap_or(0));
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            let busy = count("rocksdb.num-running-compactions")?
                + count("rocksdb.compaction-pending")?
                + count("rocksdb.num-running-flushes")?;
            quiet = if busy == 0 { quiet + 1 } else { 0 };
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

impl RocksDb {
    /// A synced write flushes what was buffered before it, too.
    fn write_options(&self, durability: Durability) -> &WriteOptions {
        match durability {
            Durability::Logged => &self.logged,
            Durability::Synced => &self.synced,
        }
    }
}
