//! Random tables give what a sorted list gives.

use super::{Entry, collect, collect_backward, hash_key, on_core, open, owned, write};
use crate::cache::BlockCache;
use crate::table::{Compression, EntryKind, ReadOptions, Table, TableOptions};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Keys that share much or little, with bytes at both ends of their range.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0), Just(1), Just(b'a'), Just(b'b'), Just(0xff), any::<u8>()];
    let prefix = prop_oneof![
        Just(&b""[..]),
        Just(&b"tenant-one/table/"[..]),
        Just(&b"tenant-one/table/row-with-a-long-name/"[..]),
        Just(&b"tenant-two/"[..]),
    ];
    (prefix, prop::collection::vec(byte, 0..12)).prop_map(|(prefix, rest)| [prefix, &rest].concat())
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => 0..20_usize, 4 => 80..200_usize, 1 => 3000..9000_usize];
    (len, any::<u8>())
        .prop_map(|(len, seed)| (0..len).map(|index| seed ^ (index % 11).to_le_bytes()[0]).collect())
}

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), (EntryKind, Vec<u8>)>;

fn model() -> impl Strategy<Value = Model> {
    let sequence = prop_oneof![0..4_u64, 0..100_000_u64, Just(u64::from(u32::MAX) << 16)];
    let kind = prop_oneof![4 => Just(EntryKind::Put), 1 => Just(EntryKind::Delete)];
    let entry = (key(), sequence, kind, value()).prop_map(|(key, sequence, kind, value)| {
        let value = if kind == EntryKind::Put { value } else { Vec::new() };
        ((key, Reverse(sequence)), (kind, value))
    });
    // A key with many versions, which may fill several blocks.
    let versions = (key(), 0..120_u64, value()).prop_map(|(key, count, value)| {
        (0..count)
            .map(|version| ((key.clone(), Reverse(version * 3)), (EntryKind::Put, value.clone())))
            .collect::<Vec<_>>()
    });
    (prop::collection::vec(entry, 1..250), versions)
        .prop_map(|(some, more)| some.into_iter().chain(more).collect())
}

fn entries(model: &Model) -> Vec<Entry> {
    model
        .clone()
        .into_iter()
        .map(|((key, Reverse(sequence)), (kind, value))| Entry { key, sequence, kind, value })
        .collect()
}

fn options() -> impl Strategy<Value = TableOptions> {
    let size = prop_oneof![Just(64), Just(300), Just(4096), Just(8192)];
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Lz4)];
    (size, compression, 0..12_usize).prop_map(|(block_size_bytes, compression, filter_bits_per_key)| {
        TableOptions { block_size_bytes, compression, filter_bits_per_key }
    })
}

async fn check_lookups(table: &Table, entries: &[Entry], probes: &[(Vec<u8>, u64)]) {
    for (key, at) in probes {
        let expected = entries.iter().find(|entry| entry.key == *key && entry.sequence <= *at);
        let found = table.get(key, hash_key(key), *at).await.unwrap();
        let found = found.map(|found| (found.sequence, found.kind, found.value.to_vec()));
        assert_eq!(found, expected.map(|entry| (entry.sequence, entry.kind, entry.value.clone())));
    }
}

async fn check_seeks(table: &Table, entries: &[Entry], probes: &[(Vec<u8>, u64)]) {
    let mut iterator = table.iter(ReadOptions::Scan);
    for (key, at) in probes {
        let place = (key.clone(), Reverse(*at));
        let first = entries.partition_point(|entry| (entry.key.clone(), Reverse(entry.sequence)) < place);
        iterator.seek(key, *at).await.unwrap();
        assert_eq!(iterator.valid().then(|| owned(iterator.entry())).as_ref(), entries.get(first));
        if iterator.valid() {
            iterator.next().await.unwrap();
            assert_eq!(iterator.valid().then(|| owned(iterator.entry())).as_ref(), entries.get(first + 1));
        }
        let behind = entries.partition_point(|entry| (entry.key.clone(), Reverse(entry.sequence)) <= place);
        let last = behind.checked_sub(1);
        iterator.seek_for_prev(key, *at).await.unwrap();
        assert_eq!(
            iterator.valid().then(|| owned(iterator.entry())).as_ref(),
            last.map(|last| &entries[last])
        );
        if iterator.valid() {
            iterator.prev().await.unwrap();
            let before = last.and_then(|last| last.checked_sub(1)).map(|before| &entries[before]);
            assert_eq!(iterator.valid().then(|| owned(iterator.entry())).as_ref(), before);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_gives_what_a_sorted_list_gives(
        model in model(),
        options in options(),
        probes in prop::collection::vec((key(), 0..100_000_u64), 0..40),
        budget in prop_oneof![Just(0_usize), Just(8 << 20)],
    ) {
        on_core(|directory| async move {
            let entries = entries(&model);
            let path = directory.join("1.sst");
            let meta = write(&path, options, &entries, &[]).await;
            let cache = BlockCache::new(budget);
            let table = open(&path, &cache).await.unwrap();
            assert_eq!(*table.meta(), meta);
            assert_eq!(meta.entries, entries.len() as u64);
            assert_eq!((&meta.smallest, &meta.largest), (&entries[0].key, &entries[entries.len() - 1].key));
            let present = entries.iter().step_by(3).map(|entry| (entry.key.clone(), entry.sequence));
            let older = entries.iter().step_by(7).map(|entry| (entry.key.clone(), entry.sequence.saturating_sub(1)));
            let probes: Vec<_> = probes.into_iter().chain(present).chain(older).collect();
            check_lookups(&table, &entries, &probes).await;
            check_seeks(&table, &entries, &probes).await;
            for options in [ReadOptions::Scan, ReadOptions::Bulk] {
                assert_eq!(collect(&table, options).await.unwrap(), entries);
            }
            assert_eq!(collect_backward(&table).await.unwrap(), entries);
            assert_eq!(table.verify().await.unwrap().entries, entries.len() as u64);
            let stats = cache.stats();
            assert!(stats.used_bytes <= stats.budget_bytes, "{stats:?}");
        });
    }
}
