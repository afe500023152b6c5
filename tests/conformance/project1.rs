//! Project 1: the raw API of one store.

use crate::harness::with_store;
use pinion_engine::tree::IterOptions;
use pinion_types::ColumnFamily::{Default, Write};
use pinion_types::key::Zone;

fn pair(key: u8, value: u8) -> (Vec<u8>, Vec<u8>) {
    (vec![key], vec![value])
}

#[test]
fn test_raw_get_1() {
    with_store(async |store| {
        store.put(Default, &[99], &[42]).await;
        assert_eq!(store.get(Default, &[99]).await.unwrap(), [42][..]);
    });
}

#[test]
fn test_raw_get_not_found_1() {
    with_store(async |store| assert_eq!(store.get(Default, &[99]).await, None));
}

#[test]
fn test_raw_put_1() {
    with_store(async |store| {
        store.put(Default, &[99], &[42]).await;
        let region = store.shard.router().find(&Zone::Raw.stored(&[99])).unwrap().region.id;
        let tree = store.shard.engine().tree(region).unwrap();
        let stored = tree.get(Default, &Zone::Raw.stored(&[99])).await.unwrap().unwrap();
        assert_eq!(&stored[1..], [42], "one byte of envelope, then the value");
    });
}

#[test]
fn test_raw_get_after_raw_put_1() {
    with_store(async |store| {
        store.put(Default, &[99], &[42]).await;
        store.put(Write, &[99], &[44]).await;
        assert_eq!(store.get(Default, &[99]).await.unwrap(), [42][..]);
        assert_eq!(store.get(Write, &[99]).await.unwrap(), [44][..]);
    });
}

#[test]
fn test_raw_get_after_raw_delete_1() {
    with_store(async |store| {
        store.put(Default, &[99], &[42]).await;
        store.delete(Default, &[99]).await;
        assert_eq!(store.get(Default, &[99]).await, None);
    });
}

#[test]
fn test_raw_delete_1() {
    with_store(async |store| {
        store.put(Default, &[99], &[42]).await;
        store.delete(Default, &[99]).await;
        store.delete(Default, &[98]).await;
        let region = store.shard.router().find(&Zone::Raw.stored(&[99])).unwrap().region.id;
        let tree = store.shard.engine().tree(region).unwrap();
        assert!(tree.get(Default, &Zone::Raw.stored(&[99])).await.unwrap().is_none());
    });
}

#[test]
fn test_raw_scan_1() {
    with_store(async |store| {
        for key in 1..=5 {
            store.put(Default, &[key], &[key * 10]).await;
        }
        assert_eq!(store.scan(&[1], 3).await, [pair(1, 10), pair(2, 20), pair(3, 30)]);
        assert_eq!(store.scan(&[1], 0).await, []);
    });
}

#[test]
fn test_raw_scan_after_raw_put_1() {
    with_store(async |store| {
        for key in [1, 2, 3, 5] {
            store.put(Default, &[key], &[key]).await;
        }
        store.put(Default, &[4], &[4]).await;
        let expected: Vec<_> = (1..=5).map(|key| pair(key, key)).collect();
        assert_eq!(store.scan(&[1], 10).await, expected);
    });
}

#[test]
fn test_raw_scan_after_raw_delete_1() {
    with_store(async |store| {
        for key in 1..=4 {
            store.put(Default, &[key], &[key]).await;
        }
        store.delete(Default, &[3]).await;
        assert_eq!(store.scan(&[1], 10).await, [pair(1, 1), pair(2, 2), pair(4, 4)]);
    });
}

#[test]
fn test_iter_with_raw_delete_1() {
    with_store(async |store| {
        for key in 1..=4 {
            store.put(Default, &[key], &[key]).await;
        }
        let region = store.shard.router().find(&Zone::Raw.stored(&[1])).unwrap().region.id;
        let tree = store.shard.engine().tree(region).unwrap();
        let start = Zone::Raw.stored(&[]);
        let mut iterator = tree.iter(Default, &start, &Zone::Raw.end(), IterOptions::default());
        store.delete(Default, &[3]).await;
        let mut keys = Vec::new();
        let mut valid = iterator.seek_to_first().await.unwrap();
        while valid {
            keys.push(iterator.key()[1]);
            valid = iterator.next().await.unwrap();
        }
        assert_eq!(keys, [1, 2, 3, 4], "an iterator sees the tree as it was when it was opened");
        assert_eq!(store.scan(&[1], 10).await.len(), 3);
    });
}
