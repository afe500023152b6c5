//! Structural steps in the simulator: each is done whole or not at all, whatever operation of the disk the power is cut at.

mod course;
mod incoming;
mod regions;
mod snapshots;

use super::{Engine, EngineOptions, NewTree, Opening, RecoveredRegion, regions_directory, remove_strays};
use crate::batch::WriteBatch;
use crate::log::{Durability, LogConfig, Record, Ticket};
use crate::tree::{IterOptions, Tree, TreeIterator, TreeOptions};
use bytes::Bytes;
use pinion_runtime::{fs, sim};
use pinion_types::ColumnFamily::Default as Values;
use pinion_types::{CoreId, LogIndex, RegionId, Term};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

const TERM: Term = Term(7);
const FIRST: RegionId = RegionId(1);

/// Sizes so small that some hundred writes fill several tables.
fn options() -> EngineOptions {
    EngineOptions {
        data_dir: "/store".into(),
        core: CoreId(0),
        log: LogConfig { segment_bytes: 128 << 10, cache_bytes: 16 << 10, ..LogConfig::default() },
        tree: TreeOptions {
            memtable_bytes: 8 << 10,
            table_bytes: 8 << 10,
            level0_tables: 2,
            level_ratio: 4,
            ..TreeOptions::default()
        },
        cache_bytes: 256 << 10,
        memtables_bytes_max: 64 << 10,
        replay_bytes_max: 1 << 20,
        edits_max: 4,
    }
}

/// A core's storage after a start.
struct Started {
    engine: Engine,
    regions: Vec<RecoveredRegion>,
    structures: Vec<Bytes>,
}

impl Started {
    fn region(&self, id: RegionId) -> Option<&RecoveredRegion> {
        self.regions.iter().find(|region| region.id == id)
    }
}

/// Starts as a store does, and applies again what the log holds and the trees do not.
async fn start() -> Started {
    fs::create_dir_durably("/", "store").await.unwrap();
    let opening = Opening::open(options()).await.unwrap();
    let structures = opening.structures().to_vec();
    let owned = opening.streams();
    let is_owned = |id| owned.iter().any(|(owned, _)| *owned == id);
    remove_strays("/store".as_ref(), is_owned).await.unwrap();
    let (engine, regions) = opening.finish(|_| true).await.unwrap();
    for region in &regions {
        replay(&engine, region).await;
    }
    Started { engine, regions, structures }
}

async fn replay(engine: &Engine, region: &RecoveredRegion) {
    let (from, last) = (region.tree.applied().0.next(), engine.log().last_index(region.id));
    if from <= last {
        for entry in engine.log().entries(region.id, from, last.next(), usize::MAX).await.unwrap() {
            let batch = WriteBatch::decode(&entry.payload).unwrap();
            region.tree.write(batch, (entry.index, entry.term));
        }
    }
}

fn new_tree(id: RegionId) -> NewTree {
    let meta = Bytes::from(format!("meta of {id}"));
    NewTree { id, start: b"r".to_vec(), end: b"s".to_vec(), meta, generation: 0 }
}

/// Starts a store that has one region, with a few writes in it.
async fn start_with_first() -> Started {
    let mut started = start().await;
    if started.regions.is_empty() {
        let made = started.engine.bootstrap(Bytes::from_static(b"identity"), vec![new_tree(FIRST)]).await;
        started.regions = made.unwrap();
        fill(&started.engine, FIRST, 0..20, b"first").await;
    }
    started
}

fn key(number: u64) -> Vec<u8> {
    format!("rk{number:06}").into_bytes()
}

/// One entry a key, all appended in one group and applied.
async fn fill(engine: &Engine, id: RegionId, keys: std::ops::Range<u64>, value: &[u8]) {
    let tree = engine.tree(id).unwrap();
    for number in keys {
        let mut batch = WriteBatch::new();
        batch.put(Values, &key(number), value);
        drop(append(engine, id, &tree, batch, Durability::Buffered));
    }
    engine.log().sync().await.unwrap();
    engine.after_writes();
}

/// One entry a key, each appended durably and applied.
async fn write(engine: &Engine, id: RegionId, keys: std::ops::Range<u64>, value: &[u8]) {
    let tree = engine.tree(id).unwrap();
    for number in keys {
        let mut batch = WriteBatch::new();
        batch.put(Values, &key(number), value);
        append(engine, id, &tree, batch, Durability::Sync).await.unwrap();
        engine.after_writes();
    }
}

/// Appends an entry and applies it, which may be before it is durable.
fn append(engine: &Engine, id: RegionId, tree: &Tree, batch: WriteBatch, durability: Durability) -> Ticket {
    let index = engine.log().last_index(id).next();
    let payload = Bytes::from(batch.into_bytes());
    let record = Record::Entry { stream: id, index, term: TERM, kind: 0, payload: &payload };
    let ticket = engine.log().append(&[record], durability);
    tree.write(WriteBatch::decode(&payload).unwrap(), (index, TERM));
    engine.log().applied(id, index);
    ticket
}

async fn content(tree: &Tree) -> Vec<(Vec<u8>, Vec<u8>)> {
    collect(tree.iter(Values, b"", b"", IterOptions::default())).await
}

async fn collect(mut iterator: TreeIterator) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut content = Vec::new();
    let mut found = iterator.seek_to_first().await.unwrap();
    while found {
        content.push((iterator.key().to_vec(), iterator.value().to_vec()));
        found = iterator.next().await.unwrap();
    }
    content
}

/// The content that [`write`] makes.
fn pairs(keys: std::ops::Range<u64>, value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    keys.map(|number| (key(number), value.to_vec())).collect()
}

/// What is in the directory of the regions.
async fn directories() -> Vec<String> {
    let found = fs::read_dir(regions_directory("/store".as_ref())).await.unwrap();
    found.into_iter().map(|entry| entry.name).collect()
}

/// Runs a test on a host of its own.
fn simulated(seed: u64, test: impl AsyncFnOnce() + Send) {
    sim::run(sim::Config::new(seed), |simulation| simulation.block_on(test()));
}

/// How often the power is cut at the same operation: what was under way is lost or kept, as the seed likes.
const CUTS: u64 = 4;

/// Takes `step` after `before`, with the power cut at its every operation of the disk in turn; then `look` sees what a start
/// finds. The step says by the cell when it was done.
fn cut_at_every_operation(
    before: impl AsyncFn() -> Started + Copy + Send + Sync + 'static,
    step: impl AsyncFn(Engine, Rc<Cell<bool>>) + Copy + Send + Sync + 'static,
    look: impl AsyncFn(Started, bool) + Copy + Send + Sync + 'static,
) {
    let cut_at = |at, seed| {
        sim::run(sim::Config::new(seed), |simulation| {
            let host = simulation.add_host("store");
            let done = Rc::new(Cell::new(false));
            let (node, telling) = (host.clone(), done.clone());
            let stepping = host.spawn_core(CoreId(0), async move {
                let engine = before().await.engine;
                node.crash_at_io(node.io_count() + at);
                step(engine, telling).await;
            });
            let was_cut = simulation.block_on(stepping).is_none();
            if !was_cut {
                host.crash();
            }
            host.clear_disk_faults();
            host.start();
            let was_done = done.get();
            let looking = host.spawn_core(CoreId(0), async move { look(start().await, was_done).await });
            simulation.block_on(looking).expect("the power stays on");
            (was_cut, was_done)
        })
    };
    let (mut at, mut undone) = (0, 0);
    loop {
        let cuts: Vec<_> = (0..CUTS).map(|cut| cut_at(at, at * CUTS + cut)).collect();
        undone += u64::from(cuts.iter().any(|(_, was_done)| !was_done));
        if cuts.iter().all(|(was_cut, _)| !was_cut) {
            break;
        }
        at += 1;
    }
    assert!(undone > 1, "a step has operations before its commit point");
}
