//! Regions that grow too large are split by whoever leads them, and what they hold stays what it was.

use crate::harness::{Store, limits, with_store_of};
use pinion_shard::ShardLimits;
use pinion_shard::testing::regions_split;
use pinion_types::ColumnFamily;
use std::time::Duration;

const FAMILY: ColumnFamily = ColumnFamily::Default;
const SPLIT_BYTES: u64 = 32 << 10;

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:05}").into_bytes()
}

/// How often each zone has a region.
fn regions(store: &Store) -> [usize; 3] {
    let router = store.shard.router();
    [0, b'r', b'x'].map(|zone| {
        router.iter().filter(|route| route.region.start.first().copied().unwrap_or(0) == zone).count()
    })
}

async fn seconds(count: u64) {
    pinion_runtime::sleep(Duration::from_secs(count)).await;
}

#[test]
fn a_region_that_grows_too_large_is_split_and_holds_what_it_held() {
    let small = ShardLimits { region_split_bytes: SPLIT_BYTES, ..limits() };
    with_store_of(small, async |store| {
        for number in 0..2000 {
            store.put(FAMILY, &key(number), &[b'v'; 100]).await;
        }
        seconds(30).await;
        let [system, raw, transactional] = regions(&store);
        assert_eq!((system, transactional), (1, 1), "what has no keys stays whole");
        assert!((8..=20).contains(&raw), "{raw} regions of 240 KiB, split from 32 KiB on");
        assert_eq!(regions_split(&store.shard), raw as u64 - 1);
        for route in store.shard.router().iter() {
            let tree = store.shard.engine().tree(route.region.id).unwrap();
            assert!(tree.size().bytes() < SPLIT_BYTES, "{:?}: {:?}", route.region, tree.size());
        }
        let pairs = store.scan(b"", 3000).await;
        assert_eq!(pairs.len(), 2000);
        assert!((0..2000).zip(&pairs).all(|(number, (found, _))| *found == key(number)));
        seconds(300).await;
        assert_eq!(regions(&store)[1], raw, "there is an end to it");
    });
}

#[test]
fn a_region_of_too_many_keys_is_split_though_its_bytes_are_few() {
    with_store_of(ShardLimits { region_split_keys: 1000, ..limits() }, async |store| {
        for number in 0..3000 {
            store.put(FAMILY, &key(number), b"").await;
        }
        seconds(30).await;
        // Tables are shared: what counts is each region's part of them.
        let raw = regions(&store)[1];
        assert!((4..=8).contains(&raw), "{raw} regions");
        assert_eq!(store.scan(b"", 4000).await.len(), 3000);
        seconds(300).await;
        assert_eq!(regions(&store)[1], raw, "there is an end to it");
    });
}

#[test]
fn what_is_written_over_and_over_is_not_split() {
    let small = ShardLimits { region_split_bytes: SPLIT_BYTES, region_split_keys: 1000, ..limits() };
    with_store_of(small, async |store| {
        for round in 0..20 {
            for number in 0..100 {
                store.put(FAMILY, &key(number), &[round; 100]).await;
            }
            seconds(1).await;
        }
        assert_eq!(regions(&store), [1, 1, 1], "there are 12 KiB");
    });
}

#[test]
fn a_region_of_one_giant_key_is_left_alone() {
    let small = ShardLimits { region_split_bytes: SPLIT_BYTES, ..limits() };
    with_store_of(small, async |store| {
        store.put(FAMILY, b"giant", &vec![b'v'; 60 << 10]).await;
        seconds(10).await;
        let flushes = store.shard.engine().statistics().flushes;
        seconds(50).await;
        assert_eq!(regions(&store), [1, 1, 1]);
        assert!(store.shard.engine().statistics().flushes <= flushes + 1, "it is not tried over and over");
        // Others beside it, and it can be parted.
        for number in 0..2000 {
            store.put(FAMILY, &key(number), &[b'v'; 100]).await;
        }
        seconds(120).await;
        assert!(regions(&store)[1] > 4);
        assert_eq!(store.scan(b"", 3000).await.len(), 2001);
    });
}
