//! Random operations on a tree of tiny sizes, compared with a map.

use super::*;
use crate::compaction::CompactionStep;
use crate::tree::TreeSnapshot;
use std::collections::BTreeMap;
use std::ops::Bound;

type Model = BTreeMap<(ColumnFamily, Vec<u8>), Vec<u8>>;

/// Numbers that look random, the same for a seed.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn family(&mut self) -> ColumnFamily {
        match self.below(6) {
            0 => ColumnFamily::Lock,
            1 => ColumnFamily::Write,
            _ => Values,
        }
    }
}

/// What the campaign must have met at least once.
#[derive(Default)]
struct Seen {
    flushes: u64,
    compactions: u64,
    steps: u64,
    reopens: u64,
    range_deletes: u64,
    levels_max: usize,
}

struct Run {
    numbers: Numbers,
    seed: u64,
    keys: u64,
    fixture: Fixture,
    model: Model,
    snapshots: Vec<(TreeSnapshot, Model)>,
    iterators: Vec<OpenIterator>,
    /// Batches that no flush has put into tables yet, with their index.
    unflushed: Vec<(u64, WriteBatch)>,
    seen: Seen,
}

/// An iterator, what it must show, and where it stands.
struct OpenIterator {
    iterator: TreeIterator,
    content: Vec<(Vec<u8>, Vec<u8>)>,
    at: Option<usize>,
}

fn range_of(model: &Model, family: ColumnFamily, start: &[u8], end: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    model
        .range((Bound::Included((family, start.to_vec())), Bound::Unbounded))
        .take_while(|((other, key), _)| *other == family && (end.is_empty() || key.as_slice() < end))
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}

impl OpenIterator {
    fn check(&self, seed: u64) {
        match self.at {
            Some(at) => {
                assert!(self.iterator.is_valid(), "seed {seed}: at {at} of {}", self.content.len());
                let got = (self.iterator.key().to_vec(), self.iterator.value().to_vec());
                assert_eq!(got, self.content[at], "seed {seed}: at {at} of {}", self.content.len());
            }
            None => assert!(!self.iterator.is_valid(), "seed {seed}: at {:?}", self.iterator.key()),
        }
    }

    async fn go(&mut self, numbers: &mut Numbers, keys: u64, seed: u64) {
        let target = key(numbers.below(keys + 10));
        let movement = numbers.below(10);
        let found = match movement {
            0 => {
                self.at = self.content.iter().position(|(key, _)| *key >= target);
                self.iterator.seek(&target).await.unwrap()
            }
            1 => {
                self.at = self.content.iter().rposition(|(key, _)| *key <= target);
                self.iterator.seek_for_prev(&target).await.unwrap()
            }
            2 if numbers.below(4) == 0 => {
                self.at = (!self.content.is_empty()).then_some(0);
                self.iterator.seek_to_first().await.unwrap()
            }
            3 if numbers.below(4) == 0 => {
                self.at = self.content.len().checked_sub(1);
                self.iterator.seek_to_last().await.unwrap()
            }
            2..=6 => {
                self.at = self.at.map(|at| at + 1).filter(|at| *at < self.content.len());
                match if numbers.below(2) == 0 { self.iterator.try_next() } else { None } {
                    Some(found) => found,
                    None => self.iterator.next().await.unwrap(),
                }
            }
            _ => {
                self.at = self.at.and_then(|at| at.checked_sub(1));
                match if numbers.below(2) == 0 { self.iterator.try_prev() } else { None } {
                    Some(found) => found,
                    None => self.iterator.prev().await.unwrap(),
                }
            }
        };
        assert_eq!(
            found,
            self.at.is_some(),
            "seed {seed}: {movement} {target:?} found {:?}",
            found.then(|| self.iterator.key().to_vec())
        );
        self.check(seed);
    }
}

impl Run {
    fn write(&mut self) {
        let mut batch = WriteBatch::new();
        for _ in 0..=self.numbers.below(12) {
            let (family, key_number) = (self.numbers.family(), self.numbers.below(self.keys));
            let key = key(key_number);
            match self.numbers.below(40) {
                0 => self.delete_range(&mut batch, family, key_number),
                1..=8 => {
                    batch.delete(family, &key);
                    self.model.remove(&(family, key));
                }
                _ => {
                    let len = usize::try_from(self.numbers.below(60)).unwrap();
                    let value = [&self.fixture.index.to_le_bytes()[..], &vec![7; len]].concat();
                    batch.put(family, &key, &value);
                    self.model.insert((family, key), value);
                }
            }
        }
        self.fixture.write(&batch);
        self.unflushed.push((self.fixture.index, batch));
    }

    fn delete_range(&mut self, batch: &mut WriteBatch, family: ColumnFamily, from: u64) {
        self.seen.range_deletes += 1;
        let width = if self.numbers.below(4) == 0 { self.keys / 2 } else { 20 };
        let (start, mut end) = (key(from), key(from + self.numbers.below(width)));
        if self.numbers.below(20) == 0 {
            end.clear();
        }
        batch.delete_range(family, &start, &end);
        let doomed = range_of(&self.model, family, &start, &end);
        for (key, _) in doomed {
            self.model.remove(&(family, key));
        }
    }

    async fn check_gets(&mut self) {
        for _ in 0..5 {
            let (family, key) = (self.numbers.family(), key(self.numbers.below(self.keys)));
            let expected = self.model.get(&(family, key.clone()));
            let got = self.fixture.tree.get(family, &key).await.unwrap();
            assert_eq!(got.as_deref(), expected.map(Vec::as_slice), "seed {} key {key:?}", self.seed);
            for (snapshot, model) in &self.snapshots {
                let expected = model.get(&(family, key.clone()));
                let got = snapshot.get(family, &key).await.unwrap();
                let (seed, at) = (self.seed, snapshot.sequence());
                assert_eq!(got.as_deref(), expected.map(Vec::as_slice), "seed {seed} key {key:?} at {at}");
            }
        }
    }

    fn open_iterator(&mut self) {
        let family = self.numbers.family();
        let (start, end) = match self.numbers.below(3) {
            0 => (Vec::new(), Vec::new()),
            _ => {
                let from = self.numbers.below(self.keys);
                (key(from), key(from + self.numbers.below(self.keys)))
            }
        };
        let options = IterOptions::default();
        let (iterator, model) = match self.snapshots.last() {
            Some((snapshot, model)) if self.numbers.below(2) == 0 => {
                (snapshot.iter(family, &start, &end, options), model)
            }
            _ => (self.fixture.tree.iter(family, &start, &end, options), &self.model),
        };
        let content = range_of(model, family, &start, &end);
        self.iterators.push(OpenIterator { iterator, content, at: None });
        if self.iterators.len() > 4 {
            self.iterators.remove(0);
        }
    }

    async fn check_all(&self) {
        for family in ColumnFamily::ALL {
            let iterator = self.fixture.tree.iter(family, b"", b"", IterOptions::default());
            let expected = range_of(&self.model, family, b"", b"");
            assert_eq!(collect(iterator).await, expected, "seed {}", self.seed);
            for (snapshot, model) in &self.snapshots {
                let iterator = snapshot.iter(family, b"", b"", IterOptions::default());
                let at = snapshot.sequence();
                assert_eq!(
                    collect(iterator).await,
                    range_of(model, family, b"", b""),
                    "seed {} at {at}",
                    self.seed
                );
            }
        }
    }

    async fn flush(&mut self) {
        self.fixture.flush().await;
        let flushed = self.fixture.tree.flushed().0.0;
        assert_eq!(flushed, self.fixture.index);
        self.unflushed.retain(|(index, _)| *index > flushed);
        self.seen.flushes += 1;
    }

    async fn reopen(mut self) -> Self {
        self.snapshots.clear();
        self.iterators.clear();
        let Self { fixture, .. } = self;
        let mut fixture = fixture.reopen().await;
        let named = fixture.tree.state().tables.len();
        assert_eq!(tables_in(&fixture.directory).await.len(), named, "strays are removed");
        for (index, batch) in &self.unflushed {
            assert_eq!(*index, fixture.index + 1);
            fixture.write(batch);
        }
        self.seen.reopens += 1;
        Self { fixture, ..self }
    }

    async fn step(mut self) -> Self {
        match self.numbers.below(100) {
            0..60 => self.write(),
            60..65 => self.check_gets().await,
            65..70 => self.open_iterator(),
            70..85 => {
                for open in &mut self.iterators {
                    for _ in 0..self.numbers.below(8) {
                        open.go(&mut self.numbers, self.keys, self.seed).await;
                    }
                }
            }
            85..88 => self.flush().await,
            88 => self.fixture.tree.rotate(),
            89..93 => {
                let step = self.fixture.tree.compact_step(2000).await.unwrap();
                self.seen.steps += u64::from(matches!(step, CompactionStep::Progress(_)));
            }
            93 => self.seen.compactions += u64::from(self.fixture.tree.compact_once().await.unwrap()),
            94 | 95 => {
                self.snapshots.push((self.fixture.tree.snapshot(), self.model.clone()));
                if self.snapshots.len() > 3 {
                    self.snapshots.remove(0);
                }
            }
            96 => self.snapshots.clear(),
            97 => self.check_all().await,
            98 if self.numbers.below(4) == 0 => return self.reopen().await,
            _ => {}
        }
        let shape = self.fixture.shape();
        self.seen.levels_max = self.seen.levels_max.max(shape.iter().filter(|tables| **tables > 0).count());
        self
    }
}

async fn run(directory: PathBuf, seed: u64, steps: u64) -> Seen {
    let fixture = Fixture::new(directory, tiny()).await;
    let mut run = Run {
        numbers: Numbers::new(seed),
        seed,
        keys: 50 + 150 * (seed % 4),
        fixture,
        model: Model::new(),
        snapshots: Vec::new(),
        iterators: Vec::new(),
        unflushed: Vec::new(),
        seen: Seen::default(),
    };
    for _ in 0..steps {
        run = run.step().await;
    }
    run.check_all().await;
    run.snapshots.clear();
    run.iterators.clear();
    run.flush().await;
    run.fixture.tree.settle().await.unwrap();
    run.check_all().await;
    let named = run.fixture.tree.state().tables.len();
    assert_eq!(
        tables_in(&run.fixture.directory).await.len(),
        named,
        "seed {seed}: what nobody reads is removed"
    );
    run.seen
}

#[test]
fn a_tree_is_what_a_map_is() {
    let mut seen = Seen::default();
    for seed in 0..24 {
        let one = simulated(seed, |directory| run(directory, seed, 600));
        seen.flushes += one.flushes;
        seen.compactions += one.compactions;
        seen.steps += one.steps;
        seen.reopens += one.reopens;
        seen.range_deletes += one.range_deletes;
        seen.levels_max = seen.levels_max.max(one.levels_max);
    }
    assert!(seen.flushes > 100 && seen.compactions > 20 && seen.steps > 20, "there was work to do");
    assert!(seen.reopens > 10 && seen.range_deletes > 100 && seen.levels_max > 3, "everything happened");
}
