//! Tables with all blocks cached: lookups, iteration, writing. Keys and values as in the engines' comparison: 16 bytes of key
//! behind family and zone, 100 bytes of value. Times are the thread's processor time, so that other users of the machine disturb little.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod shared;

use criterion::measurement::Measurement as _;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinion_engine::cache::BlockCache;
use pinion_engine::table::{
    Compression, EntryKind, EntryRef, Lookup, ReadOptions, Table, TableId, TableOptions, TableWriter,
    hash_key,
};
use pinion_runtime::machine;
use shared::{ProcessorTime, key, scattered, value};
use std::hint::black_box;
use std::path::{Path, PathBuf};

const KEYS: u64 = 2_000_000;
const WRITTEN: u64 = 200_000;
const PROBES: u64 = 1 << 16;

async fn write(path: &Path, keys: u64, options: TableOptions) {
    let mut writer = TableWriter::create(path, options).await.unwrap();
    for number in 0..keys {
        let sequence = scattered(number) % KEYS;
        let entry = EntryRef { key: &key(2 * number), sequence, kind: EntryKind::Put, value: &value(number) };
        writer.add(entry).await.unwrap();
    }
    writer.finish().await.unwrap();
}

async fn scratch() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-table");
    pinion_runtime::fs::create_dir_all(&directory).await.unwrap();
    directory
}

/// A table all of whose blocks are in the cache. It outlives the executor that it was made on, so it is never dropped.
fn cached_table(keys: u64) -> Table {
    machine::block_on(async move {
        let path = scratch().await.join("cached.table");
        let _ = pinion_runtime::fs::remove_file(&path).await;
        write(&path, keys, TableOptions::default()).await;
        let cache = BlockCache::new(1 << 30);
        let table = Table::open(&path, TableId(1), &cache).await.unwrap();
        let mut iterator = table.iter(ReadOptions::Scan);
        iterator.seek_to_first().await.unwrap();
        while iterator.valid() {
            iterator.next().await.unwrap();
        }
        std::mem::forget(table.clone());
        println!("{:?} {:?}", cache.stats(), table.meta());
        table
    })
    .unwrap()
}

fn lookups(criterion: &mut Criterion<ProcessorTime>) {
    let table = cached_table(KEYS);
    let mut group = criterion.benchmark_group("table");
    for (name, odd) in [("get-hit", 0), ("get-miss", 1)] {
        let probes: Vec<_> = (0..PROBES).map(|number| key(scattered(number) % KEYS * 2 + odd)).collect();
        let mut next = probes.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let key = next.next().unwrap();
                let lookup = table.get_cached(key, hash_key(key), u64::MAX);
                assert!(!matches!(lookup, Lookup::NeedsRead));
                black_box(matches!(lookup, Lookup::Found(found) if found.value[1] == 0))
            });
        });
    }
    let probes: Vec<_> = (0..PROBES).map(|number| key(scattered(number) % (KEYS - 100) * 2)).collect();
    let mut next = probes.iter().cycle();
    let mut iterator = table.iter(ReadOptions::Scan);
    for (name, count) in [("seek", 1), ("scan-100", 100)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                assert!(iterator.try_seek(next.next().unwrap(), u64::MAX));
                let mut bytes = 0;
                for _ in 0..count {
                    let entry = iterator.entry();
                    bytes += entry.key.len() + entry.value.len() + usize::from(entry.value[50]);
                    assert!(iterator.try_next());
                }
                black_box(bytes)
            });
        });
    }
    group.bench_function("scan-back-100", |bencher| {
        bencher.iter(|| {
            assert!(iterator.try_seek(next.next().unwrap(), u64::MAX));
            let mut bytes = 0;
            for _ in 0..100 {
                bytes += iterator.entry().value.len();
                if !iterator.try_prev() || !iterator.valid() {
                    break;
                }
            }
            black_box(bytes)
        });
    });
    std::mem::forget(iterator);
    std::mem::forget(table);
}

fn whole_tables(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("whole-table");
    group.sample_size(10).throughput(Throughput::Elements(WRITTEN));
    for (name, compression) in [("none", Compression::None), ("lz4", Compression::Lz4)] {
        let options = TableOptions { compression, ..TableOptions::default() };
        group.bench_function(BenchmarkId::new("write", name), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, async move |path| {
                    let _ = pinion_runtime::fs::remove_file(&path).await;
                    let start = ProcessorTime.start();
                    write(&path, WRITTEN, options).await;
                    start
                })
            });
        });
        group.bench_function(BenchmarkId::new("bulk-read", name), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, async move |path| {
                    let table = Table::open(&path, TableId(1), &BlockCache::new(64 << 20)).await.unwrap();
                    let start = ProcessorTime.start();
                    let mut iterator = table.iter(ReadOptions::Bulk);
                    iterator.seek_to_first().await.unwrap();
                    let mut entries = 0;
                    while iterator.valid() {
                        entries += 1;
                        if !iterator.try_next() {
                            iterator.next().await.unwrap();
                        }
                    }
                    assert_eq!(entries, WRITTEN);
                    start
                })
            });
        });
    }
}

/// Nanoseconds of `rounds` rounds, each from the moment that it gives to its end.
fn timed(rounds: u64, round: impl AsyncFn(PathBuf) -> u64 + 'static) -> u64 {
    machine::block_on(async move {
        let path = scratch().await.join("written.table");
        let mut sum = 0;
        for _ in 0..rounds {
            let start = round(path.clone()).await;
            sum += ProcessorTime.end(start);
        }
        sum
    })
    .unwrap()
}

criterion_group!(name = benches; config = Criterion::default().with_measurement(ProcessorTime); targets = lookups, whole_tables);
criterion_main!(benches);
