//! A tree whose data is all in the memtable: writes and lookups, with one version of each key and with several.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod shared;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::LocalBoxFuture;
use pinion_engine::Error;
use pinion_engine::batch::WriteBatch;
use pinion_engine::cache::BlockCache;
use pinion_engine::manifest::{ManifestEdit, TreeState};
use pinion_engine::tree::{EditSink, IterOptions, Tree, TreeEnv, TreeOptions};
use pinion_runtime::machine;
use pinion_types::{ColumnFamily, LogIndex, Term};
use shared::{ProcessorTime, key, scattered, value};
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;

const PROBES: u64 = 1 << 16;

/// Nothing is flushed here.
struct NoManifest;

impl EditSink for NoManifest {
    fn commit(&self, _: ManifestEdit) -> LocalBoxFuture<'_, Result<(), Error>> {
        unreachable!("nothing is flushed")
    }
}

/// A tree of `keys` keys, each written `versions` times in scattered order. It outlives its executor, so it is never dropped.
fn tree(keys: u64, versions: u64) -> Tree {
    let tree = machine::block_on(async {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-memtable");
        pinion_runtime::fs::create_dir_all(&directory).await.unwrap();
        let options = TreeOptions { memtable_bytes: 1 << 30, ..TreeOptions::default() };
        let env = Rc::new(TreeEnv::new(options, BlockCache::new(1 << 20)));
        Tree::open(env, Rc::new(NoManifest), directory, TreeState::default()).await.unwrap()
    })
    .unwrap();
    std::mem::forget(tree.clone());
    fill(&tree, keys, versions);
    tree
}

fn fill(tree: &Tree, keys: u64, versions: u64) {
    let mut batch = WriteBatch::new();
    for number in 0..keys * versions {
        batch.clear();
        batch.put(ColumnFamily::Default, &name(scattered(number) % keys), &value(number));
        tree.write(&batch, (LogIndex(number + 1), Term(1)));
    }
}

/// A stored raw key.
fn name(number: u64) -> [u8; 20] {
    let mut name = *b"r0000000000000000000";
    // Digits in an order of their own, so that neighbours in number are nowhere near.
    name[2..].copy_from_slice(&key(scattered(number) % 1_000_000_000_000_000)[..18]);
    name
}

fn lookups(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("memtable");
    for (keys, versions) in [(100_000, 1), (100_000, 5), (500_000, 1)] {
        let tree = tree(keys, versions);
        let probes: Vec<_> = (0..PROBES).map(|number| name(scattered(number) % keys)).collect();
        let mut next = probes.iter().cycle();
        let id = format!("{keys}x{versions}");
        group.bench_function(BenchmarkId::new("get", &id), |bencher| {
            bencher.iter(|| {
                let found = tree.get_cached(ColumnFamily::Default, next.next().unwrap()).unwrap();
                black_box(found.is_some_and(|value| value[1] == 0))
            });
        });
        let mut next = probes.iter().cycle();
        group.bench_function(BenchmarkId::new("scan-100", &id), |bencher| {
            bencher.iter(|| {
                let mut iterator =
                    tree.iter(ColumnFamily::Default, next.next().unwrap(), &[], IterOptions::default());
                let mut bytes = 0;
                let mut there =
                    futures_util::FutureExt::now_or_never(iterator.seek_to_first()).unwrap().unwrap();
                for _ in 0..100 {
                    if !there {
                        break;
                    }
                    bytes += iterator.value().len();
                    there = iterator.try_next().unwrap();
                }
                black_box(bytes)
            });
        });
        std::mem::forget(tree);
    }
}

fn writes(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("memtable");
    group.sample_size(10).throughput(Throughput::Elements(500_000));
    for (keys, versions) in [(100_000, 5), (500_000, 1)] {
        group.bench_function(BenchmarkId::new("write", format!("{keys}x{versions}")), |bencher| {
            bencher.iter_with_large_drop(|| std::mem::forget(tree(keys, versions)));
        });
    }
}

criterion_group!(name = benches; config = Criterion::default().with_measurement(ProcessorTime); targets = lookups, writes);
criterion_main!(benches);
