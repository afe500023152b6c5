//! Memtables, in order and by version.

use super::*;
use crate::batch::WriteBatch;
use pinion_types::ColumnFamily::{Default, Lock};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Numbers that look random, the same in every run.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

fn memtable() -> Rc<Memtable> {
    Rc::new(Memtable::new((LogIndex(5), Term(5)), 0))
}

fn put(memtable: &Memtable, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::new();
    batch.put(Default, key, value);
    memtable.write(batch.view(), (LogIndex(6), Term(5)));
}

fn value_at(memtable: &Memtable, key: &[u8], at: u64) -> Option<Vec<u8>> {
    let key = [&[0], key].concat();
    let (found, _) = memtable.get(Default, &key, at);
    found.filter(|found| found.kind == EntryKind::Put).map(|found| found.value.to_vec())
}

type Versions = BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>>;

/// Keys of several shapes: short and long, with long common beginnings, prefixes of each other.
fn key(numbers: &mut Numbers, shape: u64) -> Vec<u8> {
    match shape {
        0 => format!("k{:015}", numbers.below(100_000)).into_bytes(),
        1 => vec![b'a'; usize::try_from(numbers.below(40)).unwrap()],
        2 => format!("a long beginning that all of these share {}", numbers.below(5000)).into_bytes(),
        3 => (0..numbers.below(12)).map(|_| u8::try_from(numbers.below(3)).unwrap()).collect(),
        _ => vec![0xff; usize::try_from(8 + numbers.below(10)).unwrap()],
    }
}

fn filled(seed: u64, count: u64, shapes: u64) -> (Rc<Memtable>, Versions) {
    let (memtable, mut model, mut numbers) = (memtable(), Versions::new(), Numbers::new(seed));
    for sequence in 1..=count {
        let shape = numbers.below(shapes);
        let key = key(&mut numbers, shape);
        let value = sequence.to_le_bytes().to_vec();
        put(&memtable, &key, &value);
        model.insert(([&[0], key.as_slice()].concat(), std::cmp::Reverse(sequence)), value);
    }
    (memtable, model)
}

#[test]
fn entries_are_in_order_in_both_directions() {
    for (seed, shapes) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5)] {
        let (memtable, model) = filled(seed, 20_000, shapes);
        let mut iterator = MemtableIterator::new(memtable, Default);
        iterator.seek(&[], u64::MAX);
        for ((key, sequence), value) in &model {
            let entry = iterator.entry();
            assert_eq!(
                (entry.key, entry.sequence, entry.value),
                (&key[..], sequence.0, &value[..]),
                "seed {seed}"
            );
            iterator.next();
        }
        assert!(!iterator.is_valid());
        iterator.seek_before(&[0xff], u64::MAX);
        for ((key, sequence), _) in model.iter().rev() {
            assert_eq!(
                (iterator.entry().key, iterator.entry().sequence),
                (&key[..], sequence.0),
                "seed {seed}"
            );
            iterator.previous();
        }
        assert!(!iterator.is_valid());
    }
}

#[test]
fn seeks_find_their_place_whatever_the_key() {
    let (memtable, model) = filled(7, 5000, 5);
    let mut iterator = MemtableIterator::new(memtable, Default);
    let mut numbers = Numbers::new(8);
    for _ in 0..20_000 {
        let shape = numbers.below(6);
        let key = [&[0], key(&mut numbers, shape).as_slice()].concat();
        let at = numbers.below(6000);
        let target = (key.clone(), std::cmp::Reverse(at));
        iterator.seek(&key, at);
        let expected =
            model.range(target.clone()..).next().map(|((key, sequence), _)| (key.clone(), sequence.0));
        let got = iterator.is_valid().then(|| (iterator.entry().key.to_vec(), iterator.entry().sequence));
        assert_eq!(got, expected, "seek {key:?} {at}");
        iterator.seek_before(&key, at);
        let expected =
            model.range(..target).next_back().map(|((key, sequence), _)| (key.clone(), sequence.0));
        let got = iterator.is_valid().then(|| (iterator.entry().key.to_vec(), iterator.entry().sequence));
        assert_eq!(got, expected, "seek before {key:?} {at}");
    }
}

#[test]
fn a_reader_sees_the_newest_version_at_its_moment() {
    let memtable = memtable();
    for value in 1..=200u8 {
        put(&memtable, b"other", &[value]);
        put(&memtable, b"key", &[value]);
    }
    assert_eq!(value_at(&memtable, b"key", 1), None);
    for value in 1..=200u8 {
        assert_eq!(value_at(&memtable, b"key", u64::from(value) * 2), Some(vec![value]));
        assert_eq!(value_at(&memtable, b"key", u64::from(value) * 2 + 1), Some(vec![value]));
    }
    assert_eq!(value_at(&memtable, b"ke", 999), None);
    assert_eq!(value_at(&memtable, b"zzz", 999), None);
}

#[test]
fn an_open_iterator_keeps_its_place_while_others_write() {
    for seed in 1..=10 {
        let (memtable, mut model) = filled(seed, 300, 4);
        let mut iterator = MemtableIterator::new(memtable.clone(), Default);
        let mut numbers = Numbers::new(seed + 100);
        iterator.seek(&[], u64::MAX);
        let mut sequence = 300;
        while iterator.is_valid() {
            let here = (iterator.entry().key.to_vec(), std::cmp::Reverse(iterator.entry().sequence));
            for _ in 0..numbers.below(4) {
                sequence += 1;
                let shape = numbers.below(4);
                let key = key(&mut numbers, shape);
                put(&memtable, &key, b"later");
                model.insert(
                    ([&[0], key.as_slice()].concat(), std::cmp::Reverse(sequence)),
                    b"later".to_vec(),
                );
            }
            let forward = sequence > 2000 || numbers.below(3) > 0;
            let expected = if forward {
                iterator.next();
                model.range((std::ops::Bound::Excluded(here), std::ops::Bound::Unbounded)).next()
            } else {
                iterator.previous();
                model.range(..here).next_back()
            };
            let expected = expected.map(|((key, sequence), _)| (key.clone(), sequence.0));
            let got = iterator.is_valid().then(|| (iterator.entry().key.to_vec(), iterator.entry().sequence));
            assert_eq!(got, expected, "seed {seed}");
        }
    }
}

#[test]
fn ascending_keys_fill_nodes_whole() {
    let memtable = memtable();
    let value = [0; 8];
    for number in 0..100_000u32 {
        put(&memtable, format!("{number:08}").as_bytes(), &value);
    }
    let entry = Arena::entry_len(b"\x0012345678", &value);
    let per_entry = memtable.allocated_bytes() / 100_000;
    assert!((entry..entry + 15).contains(&per_entry), "{per_entry} bytes an entry");
}

#[test]
fn families_are_apart_and_share_sequences() {
    let memtable = memtable();
    let mut batch = WriteBatch::new();
    batch.put(Default, b"k", b"value");
    batch.put(Lock, b"k", b"lock");
    batch.delete_range(Lock, b"a", b"");
    memtable.write(batch.view(), (LogIndex(7), Term(6)));
    assert_eq!(memtable.last_sequence(), 3);
    assert_eq!(memtable.applied(), (LogIndex(7), Term(6)));
    let (found, covered) = memtable.get(Lock, b"\x01k", 9);
    assert_eq!((found.unwrap().sequence, covered), (2, 3));
    let (found, covered) = memtable.get(Default, b"\0k", 9);
    assert_eq!((&*found.unwrap().value, covered), (&b"value"[..], 0));
    let mut tombstones = TombstoneSet::default();
    memtable.collect_tombstones(Lock, &[], &[0xff], 9, &mut tombstones);
    assert_eq!(tombstones.iter().collect::<Vec<_>>(), [(&b"\x01a"[..], &[2][..], &[3][..])]);
    assert_eq!(memtable.key_range(Default), Some((b"\0k".to_vec(), b"\0k".to_vec())));
    assert_eq!(memtable.key_range(pinion_types::ColumnFamily::Write), None);
}

#[test]
fn an_empty_memtable_has_nothing() {
    let memtable = memtable();
    assert!(memtable.is_empty());
    assert_eq!(value_at(&memtable, b"k", 9), None);
    let mut iterator = MemtableIterator::new(memtable.clone(), Default);
    iterator.seek(&[], u64::MAX);
    assert!(!iterator.is_valid());
    iterator.seek_before(b"\0z", 9);
    assert!(!iterator.is_valid());
    let mut batch = WriteBatch::new();
    batch.delete_range(Default, b"a", b"b");
    memtable.write(batch.view(), (LogIndex(6), Term(5)));
    assert!(!memtable.is_empty(), "a range tombstone is something to flush");
}

#[test]
fn keys_of_any_shape_can_be_touched() {
    memtable().touch(Default, &[b"nothing", b""]);
    for shapes in 1..=5 {
        // From a tree of one leaf to one of several levels.
        for count in [1, 40, 500, 20_000] {
            let (memtable, _) = filled(shapes, count, shapes);
            let mut numbers = Numbers::new(count);
            let keys: Vec<_> = (0..100).map(|shape| key(&mut numbers, shape % 5)).collect();
            let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
            for together in [1, 16, 17, 100] {
                memtable.touch(Default, &keys[..together]);
                memtable.touch(Lock, &keys[..together]);
            }
        }
    }
}
