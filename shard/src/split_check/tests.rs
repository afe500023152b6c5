//! Where a region may be split, by what its tree holds.

use super::*;
use futures_util::future::LocalBoxFuture;
use pinion_engine::batch::WriteBatch;
use pinion_engine::cache::BlockCache;
use pinion_engine::manifest::{ManifestEdit, TreeState};
use pinion_engine::tree::{EditSink, TreeEnv, TreeOptions};
use pinion_runtime::{fs, sim};
use pinion_types::{ColumnFamily, LogIndex, Term, memcomparable};

/// A manifest that nobody reads again.
struct Forgetful;

impl EditSink for Forgetful {
    fn commit(&self, _: ManifestEdit) -> LocalBoxFuture<'_, Result<(), pinion_engine::Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// A flushed tree with these stored keys, whose values have so many bytes.
async fn tree_of(pairs: impl IntoIterator<Item = (ColumnFamily, Vec<u8>, usize)>) -> Tree {
    let directory = std::path::PathBuf::from("/tree");
    fs::create_dir_all(&directory).await.unwrap();
    let env = Rc::new(TreeEnv::new(TreeOptions::default(), BlockCache::new(1 << 20)));
    let tree = Tree::open(env, Rc::new(Forgetful), directory, TreeState::default()).await.unwrap();
    let mut batch = WriteBatch::default();
    for (family, key, bytes) in pairs {
        batch.put(family, &key, &vec![b'v'; bytes]);
    }
    tree.write(batch.view(), (LogIndex(1), Term(1)));
    tree.flush().await.unwrap();
    tree
}

/// Where a region of the zone may be split whose tree holds these pairs.
fn found(zone: Zone, pairs: Vec<(ColumnFamily, Vec<u8>, usize)>) -> Option<Vec<u8>> {
    sim::run(sim::Config::new(1), |simulation| {
        simulation.block_on(async {
            let region = Region { start: vec![zone.prefix()], end: zone.end().to_vec(), ..Region::default() };
            split_key(&tree_of(pairs).await, &region).await.unwrap()
        })
    })
}

/// The stored key of a version of a transactional key.
fn version(key: &[u8], time: u64) -> Vec<u8> {
    let mut stored = unversioned(key);
    stored.extend_from_slice(&(!time).to_be_bytes());
    stored
}

/// What all versions of a transactional key begin with.
fn unversioned(key: &[u8]) -> Vec<u8> {
    Zone::Transactional.stored(&memcomparable::encode(key))
}

fn raw(number: usize) -> Vec<u8> {
    Zone::Raw.stored(format!("key{number:04}").as_bytes())
}

const DEFAULT: ColumnFamily = ColumnFamily::Default;

#[test]
fn test_split_check() {
    // Raw keys: one of them, near the middle of the bytes.
    let split = found(Zone::Raw, (0..1000).map(|number| (DEFAULT, raw(number), 100)).collect()).unwrap();
    assert!(raw(450) < split && split < raw(550), "{}", Escaped(&split));
    let sizes = (0..1000).map(|number| (DEFAULT, raw(number), if number < 100 { 2000 } else { 20 }));
    let split = found(Zone::Raw, sizes.collect()).unwrap();
    assert!(split < raw(100), "half of the bytes are with the first keys: {}", Escaped(&split));

    // Transactional keys of many versions each: between keys, whichever family has them.
    let name = |number: usize| format!("key{number:04}").into_bytes();
    for family in [DEFAULT, ColumnFamily::Write] {
        let versions = (0..100).flat_map(|key| (1..=50).map(move |time| (key, time)));
        let pairs = versions.map(|(key, time)| (family, version(&name(key), time), 100)).collect();
        let split = found(Zone::Transactional, pairs).unwrap();
        assert!((45..55).any(|key| split == unversioned(&name(key))), "{}", Escaped(&split));
    }
    // One key has the middle, and all before it: it ends there.
    let mut pairs: Vec<_> = (0..1000).map(|time| (DEFAULT, version(b"giant", time), 100)).collect();
    pairs.extend((0..500).map(|number| (DEFAULT, version(&[b"z", &name(number)[..]].concat(), 7), 100)));
    assert_eq!(found(Zone::Transactional, pairs.clone()).unwrap(), unversioned(b"zkey0000"));
    // The same with little behind it, and with nothing.
    assert_eq!(found(Zone::Transactional, pairs[..1010].to_vec()), None);
    assert_eq!(found(Zone::Transactional, pairs[..1000].to_vec()), None);
}

#[test]
fn what_cannot_be_parted_is_not() {
    assert_eq!(found(Zone::Raw, vec![]), None);
    assert_eq!(found(Zone::Raw, vec![(DEFAULT, raw(1), 1 << 20)]), None, "one giant key");
    let giant_and_small = vec![(DEFAULT, raw(1), 10), (DEFAULT, raw(2), 1 << 20), (DEFAULT, raw(3), 10)];
    assert_eq!(found(Zone::Raw, giant_and_small), None, "either half would be nothing");
    let two = vec![(DEFAULT, raw(1), 1 << 20), (DEFAULT, raw(2), 1 << 20)];
    assert_eq!(found(Zone::Raw, two), Some(raw(2)));
    let mut small_and_giant: Vec<_> = (0..1000).map(|number| (DEFAULT, raw(number), 100)).collect();
    small_and_giant.push((DEFAULT, raw(1000), 500_000));
    assert_eq!(found(Zone::Raw, small_and_giant), Some(raw(1000)));
    // Nobody knows which of these belong together.
    let strange = (0..1000).map(|number| (DEFAULT, format!("xkey{number:04}").into_bytes(), 100)).collect();
    assert_eq!(found(Zone::Transactional, strange), None);
}

#[test]
fn the_systems_region_stays_whole() {
    let region = |start: &[u8]| Region { start: start.to_vec(), ..Region::default() };
    assert!(!may_be_split(&region(b"")) && !may_be_split(&region(b"\0stores")));
    assert!(may_be_split(&region(b"r")) && may_be_split(&region(b"rkey")) && may_be_split(&region(b"x")));
}
