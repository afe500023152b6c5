//! Tables against a model in memory.

mod damage;
mod model;

use super::{
    EntryKind, EntryRef, Lookup, RangeTombstone, ReadOptions, Table, TableId, TableMeta, TableOptions,
    TableWriter, hash_key,
};
use crate::cache::BlockCache;
use crate::error::Result;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// An entry with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Vec<u8>,
    sequence: u64,
    kind: EntryKind,
    value: Vec<u8>,
}

impl Entry {
    fn put(key: impl AsRef<[u8]>, sequence: u64, value: impl AsRef<[u8]>) -> Self {
        let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
        Self { key, sequence, kind: EntryKind::Put, value }
    }

    fn borrowed(&self) -> EntryRef<'_> {
        EntryRef { key: &self.key, sequence: self.sequence, kind: self.kind, value: &self.value }
    }
}

/// Runs a test on an executor of its own, with a directory.
fn on_core<F: Future<Output = ()> + 'static>(test: impl FnOnce(PathBuf) -> F) {
    let directory = tempfile::tempdir().unwrap();
    pinion_runtime::machine::block_on(test(directory.path().to_owned())).unwrap();
}

async fn write(
    path: &Path,
    options: TableOptions,
    entries: &[Entry],
    ranges: &[RangeTombstone],
) -> TableMeta {
    let mut writer = TableWriter::create(path, options).await.unwrap();
    for entry in entries {
        writer.add(entry.borrowed()).await.unwrap();
    }
    for range in ranges {
        writer.add_range_tombstone(range.clone());
    }
    writer.finish().await.unwrap()
}

async fn open(path: &Path, cache: &Rc<BlockCache>) -> Result<Table> {
    Table::open(path, TableId(1), cache).await
}

fn owned(entry: EntryRef<'_>) -> Entry {
    Entry { key: entry.key.to_vec(), sequence: entry.sequence, kind: entry.kind, value: entry.value.to_vec() }
}

async fn collect(table: &Table, options: ReadOptions) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut iterator = table.iter(options);
    iterator.seek_to_first().await?;
    while iterator.valid() {
        entries.push(owned(iterator.entry()));
        iterator.next().await?;
    }
    Ok(entries)
}

async fn collect_backward(table: &Table) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut iterator = table.iter(ReadOptions::Scan);
    iterator.seek_to_last().await?;
    while iterator.valid() {
        entries.push(owned(iterator.entry()));
        iterator.prev().await?;
    }
    entries.reverse();
    Ok(entries)
}

#[test]
fn a_second_lookup_waits_for_nothing() {
    on_core(|directory| async move {
        let entries: Vec<_> = (0..1000).map(|key| Entry::put(format!("key{key:06}"), 7, "value")).collect();
        let path = directory.join("1.sst");
        let meta = write(&path, TableOptions::default(), &entries, &[]).await;
        assert_eq!(
            (meta.entries, &*meta.smallest, &*meta.largest),
            (1000, &b"key000000"[..], &b"key000999"[..])
        );
        let cache = BlockCache::new(1 << 20);
        let table = open(&path, &cache).await.unwrap();
        assert_eq!(*table.meta(), meta);
        let (key, hash) = (b"key000500", hash_key(b"key000500"));
        assert!(matches!(table.get_cached(key, hash, 9), Lookup::NeedsRead));
        let found = table.get(key, hash, 9).await.unwrap().unwrap();
        assert_eq!((found.sequence, &*found.value), (7, &b"value"[..]));
        assert!(matches!(table.get_cached(key, hash, 9), Lookup::Found(again) if again.value == found.value));
        assert!(matches!(table.get_cached(key, hash, 6), Lookup::Absent));
        assert!(matches!(table.get_cached(b"key000500+", hash, 9), Lookup::Absent));
        assert_eq!(table.verify().await.unwrap().entries, 1000);
    });
}

#[test]
fn a_table_of_range_tombstones_alone_has_a_range_and_no_entry() {
    on_core(|directory| async move {
        let path = directory.join("1.sst");
        let ranges = [
            RangeTombstone { start: b"m".to_vec(), end: b"p".to_vec(), sequence: 4 },
            RangeTombstone { start: b"a".to_vec(), end: b"z".to_vec(), sequence: 3 },
        ];
        let meta = write(&path, TableOptions::default(), &[], &ranges).await;
        assert_eq!((&*meta.smallest, &*meta.largest), (&b"a"[..], &b"z"[..]));
        assert_eq!((meta.smallest_sequence, meta.largest_sequence, meta.range_tombstones), (3, 4, 2));
        let table = open(&path, &BlockCache::new(1 << 20)).await.unwrap();
        assert_eq!(table.range_tombstones(), [ranges[1].clone(), ranges[0].clone()]);
        assert_eq!(table.get(b"n", hash_key(b"n"), 9).await.unwrap().map(|found| found.sequence), None);
        assert_eq!(collect(&table, ReadOptions::Bulk).await.unwrap(), []);
        let mut iterator = table.iter(ReadOptions::Scan);
        iterator.seek_for_prev(b"n", 0).await.unwrap();
        assert!(!iterator.valid());
    });
}

#[test]
fn large_index_and_filter_give_way_when_the_cache_is_small() {
    on_core(|directory| async move {
        let entries: Vec<_> =
            (0..60_000).map(|key| Entry::put(format!("key{key:09}"), 1, [7; 100])).collect();
        let path = directory.join("1.sst");
        write(&path, TableOptions::default(), &entries, &[]).await;
        let cache = BlockCache::new(crate::cache::BUDGET_MIN);
        let tables = [open(&path, &cache).await.unwrap(), open(&path, &cache).await.unwrap()];
        assert!(tables.iter().any(|table| table.may_contain(0)), "one table goes without its filter");
        for table in &tables {
            for entry in entries.iter().step_by(997) {
                let found = table.get(&entry.key, hash_key(&entry.key), 9).await.unwrap().unwrap();
                assert_eq!(&*found.value, &entry.value);
            }
            assert_eq!(collect(table, ReadOptions::Scan).await.unwrap().len(), entries.len());
            assert_eq!(collect_backward(table).await.unwrap().len(), entries.len());
        }
        let stats = cache.stats();
        assert!(stats.used_bytes <= stats.budget_bytes, "{stats:?}");
    });
}
