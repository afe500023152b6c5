//! The workloads.
//!
//! | name | what | clients |
//! | --- | --- | --- |
//! | fill-seq | a fresh store, all keys ascending, logged | 1 |
//! | fill-random | a fresh store, all keys once in permuted order, logged | 1 |
//! | fill-sync-1 | a fresh store, each put synced before the next, for a time | 1 |
//! | fill-sync-32 | the same by 32 clients at once: group commit | 32 |
//! | load | before those below: permuted order, batches of 1000, settled, one scan over all | 1 |
//! | get-hit | gets of present keys, a fifth of the time as warm-up | 1 |
//! | get-miss | gets of absent keys between present ones | 1 |
//! | scan-100 | 100 pairs from a present key on | 1 |
//! | read-while-writing | one client gets, another overwrites in open loop at a rate; a write's latency counts from when it was due | 2 |
//! | overwrite | overwrites of random keys, flat out | 1 |
//! | delete | deletes of random keys; uses up the data | 1 |
//!
//! Fills and overwrites end with the engine settled: the CPU time of a fill counts everything until then, flushes and
//! compactions included, so that an engine cannot win by leaving work behind.

use crate::data::{KEY_LEN, Permutation, Random, Values, absent_key, key};
use crate::engine::{Durability, Engine, Options};
use crate::measure::{Record, Usage, disk_bytes};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Workloads that begin with an empty store.
pub(crate) const FRESH: [&str; 4] = ["fill-seq", "fill-random", "fill-sync-1", "fill-sync-32"];
/// Workloads on a loaded store, in the order in which they may follow each other.
pub(crate) const LOADED: [&str; 6] =
    ["get-hit", "get-miss", "scan-100", "read-while-writing", "overwrite", "delete"];

const LOAD_BATCH: usize = 1000;
const SCAN_LEN: usize = 100;
/// A fill of all keys ends here at the latest.
const FILL_MAX: Duration = Duration::from_mins(5);

/// What is measured.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) options: Options,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) seconds: f64,
    pub(crate) overwrite_seconds: f64,
    /// Overwrites a second beside the reads.
    pub(crate) write_rate: u64,
    pub(crate) seed: u64,
}

/// What the clients of a phase share.
struct Shared {
    values: Values,
    order: Permutation,
    keys: u64,
    next: AtomicU64,
    stop: AtomicBool,
    seed: u64,
    begin: Instant,
    limit: Duration,
}

/// One engine under measurement.
pub(crate) struct Bench<E: Engine> {
    name: String,
    config: Config,
    engine: Option<Arc<E>>,
    loaded: bool,
}

impl<E: Engine> Bench<E> {
    pub(crate) fn new(name: String, config: Config) -> Self {
        Self { name, config, engine: None, loaded: false }
    }

    pub(crate) async fn run(&mut self, workload: &str) -> Result<()> {
        if FRESH.contains(&workload) {
            self.fresh().await?;
            self.fill(workload).await?;
            // The next one starts clean.
            return self.close().await;
        }
        if !self.loaded {
            self.fresh().await?;
            self.load().await?;
        }
        match workload {
            "get-hit" | "get-miss" | "scan-100" => self.read(workload).await,
            "read-while-writing" => self.read_while_writing().await,
            "overwrite" => self.overwrite().await,
            "delete" => self.delete().await,
            _ => bail!("there is no workload {workload}"),
        }
    }

    async fn close(&mut self) -> Result<()> {
        match self.engine.take() {
            Some(engine) => engine.close().await,
            None => Ok(()),
        }
    }

    async fn fresh(&mut self) -> Result<()> {
        self.close().await?;
        self.loaded = false;
        let path = &self.config.options.path;
        if path.exists() {
            std::fs::remove_dir_all(path)?;
        }
        std::fs::create_dir_all(path)?;
        self.engine = Some(Arc::new(E::open(&self.config.options).await?));
        Ok(())
    }

    fn engine(&self) -> &Arc<E> {
        self.engine.as_ref().expect("a workload opens the engine first")
    }

    /// A phase that begins now.
    fn phase(&self, seconds: f64) -> Arc<Shared> {
        Arc::new(Shared {
            values: Values::new(self.config.value_bytes, self.config.seed),
            order: Permutation::new(self.config.keys, self.config.seed),
            keys: self.config.keys,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            seed: self.config.seed,
            begin: Instant::now(),
            limit: Duration::from_secs_f64(seconds),
        })
    }

    async fn clients<F>(&self, count: usize, client: F) -> Result<Vec<Record>>
    where
        F: AsyncFn(&E, usize) -> Result<Record> + Send + Sync + 'static,
    {
        E::clients(self.engine(), count, Arc::new(client)).await?.into_iter().collect()
    }

    async fn fill(&mut self, workload: &str) -> Result<()> {
        let (count, durability) = match workload {
            "fill-sync-1" => (1, Durability::Synced),
            "fill-sync-32" => (32, Durability::Synced),
            _ => (1, Durability::Logged),
        };
        let ascending = workload == "fill-seq";
        let seconds = match durability {
            Durability::Synced => self.config.seconds,
            Durability::Logged => FILL_MAX.as_secs_f64(),
        };
        let usage = Usage::begin()?;
        let shared = self.phase(seconds);
        let records = self.clients(count, async move |engine: &E, id| {
            fill_client(engine, &shared, id, ascending, durability).await
        });
        let record = Record::merge(records.await?)?;
        self.finish(workload, count, &record, &usage, durability == Durability::Logged).await
    }

    /// Prints a phase, after the engine has settled where that belongs to its price.
    async fn finish(
        &self,
        workload: &str,
        clients: usize,
        record: &Record,
        usage: &Usage,
        settle: bool,
    ) -> Result<()> {
        let results = record.json(usage.seconds());
        let mut extra = json!({});
        if settle {
            self.engine().settle().await?;
            let user = (record.operations() * self.pair_bytes()).max(1);
            let live = match workload {
                "overwrite" => self.config.keys * self.pair_bytes(),
                _ => user,
            };
            extra = json!({
                "settled_seconds": usage.seconds(),
                "write_amplification": usage.written_since()? as f64 / user as f64,
                "space_amplification": disk_bytes(&self.config.options.path)? as f64 / live as f64,
            });
        }
        self.print(workload, clients, &[results, usage.json(record.operations())?, extra]);
        Ok(())
    }

    /// All keys once in permuted order, settled, and one pass over all: it fills caches as far as they go.
    async fn load(&mut self) -> Result<()> {
        let usage = Usage::begin()?;
        let shared = self.phase(FILL_MAX.as_secs_f64());
        let mut random = Random::new(self.config.seed + 99);
        let mut batch = Vec::with_capacity(LOAD_BATCH);
        for index in 0..self.config.keys {
            let value = shared.values.pick(&mut random).to_vec();
            batch.push((key(shared.order.at(index)).to_vec(), value));
            if batch.len() == LOAD_BATCH || index + 1 == self.config.keys {
                self.engine().put_batch(&batch).await?;
                self.engine().pause().await;
                batch.clear();
            }
        }
        let per_second = (self.config.keys as f64 / usage.seconds()).round();
        self.engine().settle().await?;
        let user = (self.config.keys * self.pair_bytes()) as f64;
        let results = json!({
            "operations": self.config.keys, "operations_per_second": per_second,
            "write_amplification": usage.written_since()? as f64 / user,
            "space_amplification": disk_bytes(&self.config.options.path)? as f64 / user,
        });
        self.print("load", 1, &[results, usage.json(self.config.keys)?]);
        let seen = self.engine().scan(&key(0), usize::MAX, &mut |_, _| ()).await?;
        if u64::try_from(seen)? != self.config.keys {
            bail!("{} holds {seen} pairs after a load of {}", self.name, self.config.keys);
        }
        self.loaded = true;
        Ok(())
    }

    async fn read(&mut self, workload: &str) -> Result<()> {
        // What warms up is not counted.
        self.readers(workload, self.config.seconds / 5.0).await?;
        let usage = Usage::begin()?;
        let record = self.readers(workload, self.config.seconds).await?;
        let expected = if workload == "get-miss" { 0 } else { record.operations() };
        if record.found < expected || (workload == "get-miss" && record.found > 0) {
            bail!("{}: {workload} found {} in {} operations", self.name, record.found, record.operations());
        }
        self.finish(workload, 1, &record, &usage, false).await
    }

    async fn readers(&self, workload: &str, seconds: f64) -> Result<Record> {
        let shared = self.phase(seconds);
        let records = if workload == "scan-100" {
            self.clients(1, async move |engine: &E, id| scan_client(engine, &shared, id).await).await?
        } else {
            let absent = workload == "get-miss";
            self.clients(1, async move |engine: &E, id| get_client(engine, &shared, id, absent).await).await?
        };
        Record::merge(records)
    }

    async fn read_while_writing(&mut self) -> Result<()> {
        let usage = Usage::begin()?;
        let shared = self.phase(self.config.seconds);
        let rate = self.config.write_rate;
        let records = self.clients(2, async move |engine: &E, id| match id {
            0 => get_client(engine, &shared, id, false).await,
            _ => put_client(engine, &shared, id, rate).await,
        });
        let mut records = records.await?;
        let seconds = usage.seconds();
        let writer = records.pop().expect("two clients");
        let reader = records.pop().expect("two clients");
        let operations = reader.operations() + writer.operations();
        let extra = json!({ "writer": writer.json(seconds), "write_rate": rate });
        self.print("read-while-writing", 2, &[reader.json(seconds), usage.json(operations)?, extra]);
        Ok(())
    }

    async fn overwrite(&mut self) -> Result<()> {
        let usage = Usage::begin()?;
        let shared = self.phase(self.config.overwrite_seconds);
        let records =
            self.clients(1, async move |engine: &E, id| put_client(engine, &shared, id + 7, 0).await);
        let record = Record::merge(records.await?)?;
        self.finish("overwrite", 1, &record, &usage, true).await
    }

    async fn delete(&mut self) -> Result<()> {
        let usage = Usage::begin()?;
        let shared = self.phase(self.config.seconds);
        let records = self.clients(1, async move |engine: &E, id| delete_client(engine, &shared, id).await);
        let record = Record::merge(records.await?)?;
        self.loaded = false;
        self.finish("delete", 1, &record, &usage, true).await
    }

    fn pair_bytes(&self) -> u64 {
        u64::try_from(KEY_LEN + self.config.value_bytes).expect("64-bit machine")
    }

    /// One line of JSON on standard output.
    fn print(&self, workload: &str, clients: usize, parts: &[Value]) {
        let mut line = json!({
            "engine": self.name, "workload": workload, "clients": clients, "keys": self.config.keys,
            "value_bytes": self.config.value_bytes, "logged_means": E::logged_means(&self.config.options),
        });
        for (name, value) in parts.iter().filter_map(Value::as_object).flatten() {
            line[name] = match value.as_f64() {
                Some(number) if value.is_f64() => json!(crate::measure::round(number, 3)),
                _ => value.clone(),
            };
        }
        println!("{line}");
    }
}

impl Shared {
    fn over(&self, now: Instant) -> bool {
        now - self.begin >= self.limit || self.stop.load(Ordering::Relaxed)
    }

    /// The index of a random key.
    fn choose(&self, random: &mut Random) -> u64 {
        random.below(self.keys)
    }

    /// Tells the other clients to stop when this one has failed.
    fn check<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        result
    }

    fn random(&self, client: usize, purpose: u64) -> Random {
        Random::new(self.seed + purpose + u64::try_from(client).expect("64-bit machine"))
    }
}

/// Looks at bytes as an application at least would.
fn touch(sum: &mut u64, bytes: &[u8]) {
    if let (Some(first), Some(last)) = (bytes.first(), bytes.last()) {
        *sum = sum.wrapping_add(u64::from(*first) + u64::from(*last));
    }
}

async fn fill_client<E: Engine>(
    engine: &E,
    shared: &Shared,
    id: usize,
    ascending: bool,
    durability: Durability,
) -> Result<Record> {
    let mut random = shared.random(id, 100);
    let mut record = Record::new();
    let mut last = Instant::now();
    loop {
        let place = shared.next.fetch_add(1, Ordering::Relaxed);
        if place >= shared.keys || shared.over(last) {
            return Ok(record);
        }
        let index = if ascending { place } else { shared.order.at(place) };
        let value = shared.values.pick(&mut random);
        shared.check(engine.put(&key(index), value, durability).await)?;
        engine.pause().await;
        let now = Instant::now();
        record.add(now - shared.begin, now - last);
        last = now;
    }
}

async fn get_client<E: Engine>(engine: &E, shared: &Shared, id: usize, absent: bool) -> Result<Record> {
    let mut random = shared.random(id, 1000);
    let mut record = Record::new();
    let (mut sum, mut last) = (0, Instant::now());
    while !shared.over(last) {
        let index = shared.choose(&mut random);
        let wanted = if absent { absent_key(index) } else { key(index) };
        let found = engine.get(&wanted, &mut |value| touch(&mut sum, value)).await;
        record.found += u64::from(shared.check(found)?);
        engine.pause().await;
        let now = Instant::now();
        record.add(now - shared.begin, now - last);
        last = now;
    }
    std::hint::black_box(sum);
    Ok(record)
}

async fn scan_client<E: Engine>(engine: &E, shared: &Shared, id: usize) -> Result<Record> {
    let mut random = shared.random(id, 2000);
    let mut record = Record::new();
    let (mut sum, mut last) = (0, Instant::now());
    while !shared.over(last) {
        let from = key(shared.choose(&mut random));
        let mut visit = |found: &[u8], value: &[u8]| {
            touch(&mut sum, found);
            touch(&mut sum, value);
        };
        let found = engine.scan(&from, SCAN_LEN, &mut visit).await;
        record.found += u64::try_from(shared.check(found)?)?;
        engine.pause().await;
        let now = Instant::now();
        record.add(now - shared.begin, now - last);
        last = now;
    }
    std::hint::black_box(sum);
    Ok(record)
}

/// Overwrites random keys: `rate` a second in open loop, or flat out with 0.
async fn put_client<E: Engine>(engine: &E, shared: &Shared, id: usize, rate: u64) -> Result<Record> {
    let mut random = shared.random(id, 3000);
    let mut record = Record::new();
    let (mut written, mut last) = (0u64, Instant::now());
    while !shared.over(last) {
        if let Some(nanos) = (written * 1_000_000_000).checked_div(rate) {
            let due = shared.begin + Duration::from_nanos(nanos);
            if Instant::now() < due {
                engine.sleep_until(due).await;
            }
            last = due;
        }
        let index = shared.choose(&mut random);
        let value = shared.values.pick(&mut random);
        shared.check(engine.put(&key(index), value, Durability::Logged).await)?;
        engine.pause().await;
        let now = Instant::now();
        record.add(now - shared.begin, now - last);
        last = now;
        written += 1;
    }
    Ok(record)
}

async fn delete_client<E: Engine>(engine: &E, shared: &Shared, id: usize) -> Result<Record> {
    let mut random = shared.random(id, 4000);
    let mut record = Record::new();
    let mut last = Instant::now();
    while !shared.over(last) {
        let index = shared.choose(&mut random);
        shared.check(engine.delete(&key(index), Durability::Logged).await)?;
        engine.pause().await;
        let now = Instant::now();
        record.add(now - shared.begin, now - last);
        last = now;
    }
    Ok(record)
}

/// Removes a store's files.
pub(crate) fn remove(path: &Path) -> Result<()> {
    Ok(std::fs::remove_dir_all(path)?)
}
