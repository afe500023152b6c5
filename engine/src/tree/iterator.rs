//! Iterating over a family of a tree, forward and backward.
//!
//! An iterator sees the tree as it was when it was made: it pins memtables and tables, and steps over what is newer. Of each key it gives
//! the newest version that it may see, unless that is a tombstone or a range tombstone hides it.
//!
//! Forward, the merge stands at the entry that is given, and key and value are borrowed from their source. Backward, a key's
//! versions come oldest first, so that the newest visible one is kept in a buffer until the key changes; the merge then stands at
//! the key before.
//!
//! Cost: a step is one step of the merge; nothing is allocated. Many hidden versions of one key, or many entries in a deleted range,
//! are passed by a search instead of step by step.

use super::View;
use super::merging::Merging;
use super::source::{Direction, MemtableSource, Source, TablesSource};
use crate::Error;
use crate::memtable::TombstoneSet;
use crate::table::{EntryKind, ReadOptions};
use pinion_types::ColumnFamily;
use std::rc::Rc;

/// Hidden entries in a row after which a search is cheaper than going on by steps.
const HIDDEN_STEPS_MAX: u32 = 24;

/// How an iterator reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IterOptions {
    /// What the blocks that it reads do to the cache.
    pub read: ReadOptions,
}

/// A cursor over a family's keys within bounds. It stands at a key, or nowhere: before the first seek, and behind either end.
pub struct TreeIterator {
    merging: Merging,
    /// The tree's own state of then; keeps tables from being removed.
    #[expect(dead_code, reason = "held for what it pins")]
    view: Rc<View>,
    at: u64,
    /// Tree keys: the bounds `[lower, upper)`.
    lower: Vec<u8>,
    upper: Vec<u8>,
    tombstones: Option<Cover>,
    state: State,
    /// Forward: the last key that was looked at, whose other versions are passed. Backward: the key that is given.
    key: Vec<u8>,
    /// Backward: the value that is given.
    value: Vec<u8>,
    /// Whether `key` is what is said of it.
    key_is_known: bool,
    /// Backward: the newest visible version of `key` so far.
    newest: Option<(EntryKind, u64)>,
    /// Hidden entries since the last that was given, or since the last search.
    hidden: u32,
    todo: Todo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nowhere.
    Nowhere,
    /// At a key; the direction in which it was found.
    At(Direction),
    /// On the way to a key.
    Seeking(Direction),
}

/// What must be done before the next entry is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Todo {
    Nothing,
    /// The merge's entry is done with.
    Step,
    /// All versions of `key` with a sequence above this are done with; with 0 all of them.
    PassVersions(u64),
    /// All entries of sources with nothing newer than this, up to the end of the deleted range at hand, are done with.
    PassDeleted(u64),
}

/// Range tombstones, and what they say around the last key that was asked for.
struct Cover {
    set: TombstoneSet,
    sequence: u64,
    start: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    known: bool,
}

impl Cover {
    /// The newest visible tombstone over `key`; 0 for none.
    fn newest_over(&mut self, key: &[u8]) -> u64 {
        let holds = self.known
            && self.start.as_deref().is_none_or(|start| start <= key)
            && self.end.as_deref().is_none_or(|end| key < end);
        if !holds {
            // Only what is visible was collected.
            let (sequence, start, end) = self.set.covering(key, u64::MAX);
            (self.sequence, self.start, self.end) =
                (sequence, start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec));
            self.known = true;
        }
        self.sequence
    }
}

impl TreeIterator {
    /// `start` and `end` are stored keys; an empty `end` is the family's end.
    pub(super) fn new(
        view: Rc<View>,
        family: ColumnFamily,
        start: &[u8],
        end: &[u8],
        at: u64,
        options: IterOptions,
    ) -> Self {
        let byte = family.as_byte();
        let lower = [&[byte], start].concat();
        let upper = if end.is_empty() { vec![byte + 1] } else { [&[byte], end].concat() };
        let mut collected = TombstoneSet::default();
        let mut parts = Parts::default();
        for memtable in view.memtables() {
            memtable.collect_tombstones(family, &lower, &upper, at, &mut collected);
            if let Some((first, last)) = memtable.key_range(family) {
                parts.add(Source::Memtable(MemtableSource::new(memtable.clone(), family, at)), &first, &last);
            }
        }
        for (level, tables) in view.version.family(family).iter().enumerate() {
            let overlapping = match level {
                0 => 0..tables.len(),
                _ => {
                    let start = tables.partition_point(|table| table.end.as_slice() <= lower.as_slice());
                    let end = tables.partition_point(|table| table.first.as_slice() < upper.as_slice());
                    start..end.max(start)
                }
            };
            for table in tables[overlapping.clone()].iter().filter(|table| !table.tombstones.is_empty()) {
                table.tombstones.collect(&lower, &upper, at, &mut collected);
            }
            let sources: Vec<_> = match level {
                0 => overlapping
                    .filter(|index| tables[*index].overlaps(&lower, &upper))
                    .map(|index| index..index + 1)
                    .collect(),
                _ => vec![overlapping],
            };
            for range in sources.into_iter().filter(|range| !range.is_empty()) {
                let (first, last) = (&tables[range.start].first, &tables[range.end - 1].end);
                let source = TablesSource::new(tables.clone(), range.clone(), options.read);
                parts.add(Source::Tables(Box::new(source)), first, last);
            }
        }
        let tombstones = (!collected.is_empty()).then_some(Cover {
            set: collected,
            sequence: 0,
            start: None,
            end: None,
            known: false,
        });
        Self {
            merging: Merging::new(parts.sources, &parts.smallest, &parts.largest),
            view,
            at,
            lower,
            upper,
            tombstones,
            state: State::Nowhere,
            key: Vec::new(),
            value: Vec::new(),
            key_is_known: false,
            newest: None,
            hidden: 0,
            todo: Todo::Nothing,
        }
    }

    /// Whether the iterator stands at a key.
    #[inline]
    pub fn is_valid(&self) -> bool {
        matches!(self.state, State::At(_))
    }

    /// The stored key that the iterator stands at.
    ///
    /// # Panics
    /// When it stands nowhere.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.tree_key()[1..]
    }

    /// The key's value.
    ///
    /// # Panics
    /// When the iterator stands nowhere.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match self.state {
            State::At(Direction::Forward) => self.merging.entry().expect("the merge stands at the key").value,
            State::At(Direction::Backward) => &self.value,
            _ => panic!("the iterator stands at a key"),
        }
    }

    #[inline]
    fn tree_key(&self) -> &[u8] {
        match self.state {
            State::At(Direction::Forward) => self.merging.entry().expect("the merge stands at the key").key,
            State::At(Direction::Backward) => &self.key,
            _ => panic!("the iterator stands at a key"),
        }
    }

    /// Goes to the first key at or behind the stored key `key`; `false` when there is none within the bounds.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged; the iterator then stands nowhere. So with all that follow.
    pub async fn seek(&mut self, key: &[u8]) -> Result<bool, Error> {
        let target = [&self.lower[..1], key].concat().max(self.lower.clone());
        self.start(Direction::Forward);
        self.merging.seek(&target, u64::MAX).await.inspect_err(|_| self.state = State::Nowhere)?;
        self.finish().await
    }

    /// Goes to the last key at or before the stored key `key`.
    pub async fn seek_for_prev(&mut self, key: &[u8]) -> Result<bool, Error> {
        // The successor of a key is the key and a zero byte.
        let target = [&self.lower[..1], key, &[0]].concat().min(self.upper.clone());
        self.seek_before(&target).await
    }

    /// Goes to the first key.
    pub async fn seek_to_first(&mut self) -> Result<bool, Error> {
        self.start(Direction::Forward);
        let lower = self.lower.clone();
        self.merging.seek(&lower, u64::MAX).await.inspect_err(|_| self.state = State::Nowhere)?;
        self.finish().await
    }

    /// Goes to the last key.
    pub async fn seek_to_last(&mut self) -> Result<bool, Error> {
        let upper = self.upper.clone();
        self.seek_before(&upper).await
    }

    /// Goes to the next key; `false` when there is none, and the iterator then stands nowhere.
    pub async fn next(&mut self) -> Result<bool, Error> {
        match self.state {
            State::Nowhere => return Ok(false),
            State::At(Direction::Forward) => self.leave(),
            State::At(Direction::Backward) => {
                self.start(Direction::Forward);
                let key = std::mem::take(&mut self.key);
                let sought = self.merging.seek(&key, 0).await;
                self.key = key;
                sought.inspect_err(|_| self.state = State::Nowhere)?;
            }
            State::Seeking(_) => {}
        }
        self.finish().await
    }

    /// Goes to the key before; `false` when there is none, and the iterator then stands nowhere.
    pub async fn prev(&mut self) -> Result<bool, Error> {
        match self.state {
            State::Nowhere => return Ok(false),
            State::At(Direction::Backward) => self.leave(),
            State::At(Direction::Forward) => {
                let key = self.tree_key().to_vec();
                return self.seek_before(&key).await;
            }
            State::Seeking(_) => {}
        }
        self.finish().await
    }

    /// [`next`](Self::next) without waiting; `None` when something must be read: `next` then goes on from there.
    #[inline]
    pub fn try_next(&mut self) -> Option<bool> {
        match self.state {
            State::Nowhere => return Some(false),
            State::At(Direction::Forward) => self.leave(),
            State::Seeking(Direction::Forward) => {}
            State::At(Direction::Backward) | State::Seeking(Direction::Backward) => return None,
        }
        self.try_finish()
    }

    /// [`prev`](Self::prev) without waiting; `None` when something must be read: `prev` then goes on from there.
    #[inline]
    pub fn try_prev(&mut self) -> Option<bool> {
        match self.state {
            State::Nowhere => return Some(false),
            State::At(Direction::Backward) => self.leave(),
            State::Seeking(Direction::Backward) => {}
            State::At(Direction::Forward) | State::Seeking(Direction::Forward) => return None,
        }
        self.try_finish()
    }

    async fn seek_before(&mut self, target: &[u8]) -> Result<bool, Error> {
        self.start(Direction::Backward);
        self.merging.seek_before(target).await.inspect_err(|_| self.state = State::Nowhere)?;
        self.finish().await
    }

    fn start(&mut self, direction: Direction) {
        self.state = State::Seeking(direction);
        self.todo = Todo::Nothing;
        self.key_is_known = false;
        self.newest = None;
        self.hidden = 0;
    }

    /// Leaves the key that the iterator stands at.
    #[inline]
    fn leave(&mut self) {
        if let State::At(direction) = self.state {
            if direction == Direction::Forward {
                let entry = self.merging.entry().expect("the merge stands at the key");
                self.key.clear();
                self.key.extend_from_slice(entry.key);
                self.key_is_known = true;
                self.todo = Todo::Step;
            }
            self.hidden = 0;
            self.state = State::Seeking(direction);
        }
    }

    async fn finish(&mut self) -> Result<bool, Error> {
        loop {
            if let Some(found) = self.try_finish() {
                return Ok(found);
            }
            let done = match self.todo {
                Todo::Nothing => unreachable!("a search stops only where something is to be done"),
                Todo::Step => self.merging.step().await,
                Todo::PassVersions(sequence) => self.merging.seek(&self.key, sequence).await,
                Todo::PassDeleted(sequence) => self.pass_deleted(sequence).await,
            };
            done.inspect_err(|_| self.state = State::Nowhere)?;
            self.todo = Todo::Nothing;
        }
    }

    async fn pass_deleted(&mut self, sequence: u64) -> Result<(), Error> {
        let cover = self.tombstones.as_ref().expect("a deleted range has a tombstone");
        let border = match self.merging.direction() {
            Direction::Forward => &cover.end,
            Direction::Backward => &cover.start,
        };
        let border = border.as_deref().expect("a deleted range has ends");
        self.merging.skip_deleted(border, sequence).await
    }

    #[inline]
    fn try_finish(&mut self) -> Option<bool> {
        match self.merging.direction() {
            Direction::Forward => self.try_forward(),
            Direction::Backward => self.try_backward(),
        }
    }

    /// Does what is to be done, as far as nothing must be read.
    #[inline]
    fn try_todo(&mut self) -> bool {
        match self.todo {
            Todo::Nothing => true,
            Todo::Step if self.merging.try_step() => {
                self.todo = Todo::Nothing;
                true
            }
            _ => false,
        }
    }

    /// Goes on to the newest visible version of the next key that has a value.
    fn try_forward(&mut self) -> Option<bool> {
        while self.try_todo() {
            let Some(entry) = self.merging.entry().filter(|entry| *entry.key < *self.upper) else {
                self.state = State::Nowhere;
                return Some(false);
            };
            if self.key_is_known && entry.key == self.key.as_slice() {
                self.todo = hide(&mut self.hidden, Todo::PassVersions(0));
                continue;
            }
            let deleted = match &mut self.tombstones {
                Some(cover) => cover.newest_over(entry.key),
                None => 0,
            };
            if entry.sequence <= self.at && entry.kind == EntryKind::Put && entry.sequence > deleted {
                self.state = State::At(Direction::Forward);
                return Some(true);
            }
            let (is_newer, is_deleted) = (entry.sequence > self.at, entry.sequence < deleted);
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.key_is_known = !is_newer;
            self.todo = match (is_newer, is_deleted) {
                (true, _) => hide(&mut self.hidden, Todo::PassVersions(self.at)),
                (false, true) => hide(&mut self.hidden, Todo::PassDeleted(deleted)),
                (false, false) => Todo::Step,
            };
        }
        None
    }

    /// Goes back to the newest visible version of the next key that has a value; the merge then stands at the key before that.
    fn try_backward(&mut self) -> Option<bool> {
        while self.try_todo() {
            let entry = self.merging.entry().filter(|entry| *entry.key >= *self.lower);
            if self.key_is_known && entry.is_none_or(|entry| entry.key != self.key.as_slice()) {
                self.key_is_known = false;
                let newest = self.newest.take();
                let deleted = match &mut self.tombstones {
                    Some(cover) => cover.newest_over(&self.key),
                    None => 0,
                };
                match newest {
                    Some((EntryKind::Put, sequence)) if sequence > deleted => {
                        self.state = State::At(Direction::Backward);
                        return Some(true);
                    }
                    Some((_, sequence)) if sequence < deleted => {
                        if let todo @ Todo::PassDeleted(_) =
                            hide(&mut self.hidden, Todo::PassDeleted(deleted))
                        {
                            self.todo = todo;
                            continue;
                        }
                    }
                    _ => {}
                }
            }
            let Some(entry) = entry else {
                self.state = State::Nowhere;
                return Some(false);
            };
            if !self.key_is_known {
                self.key_is_known = true;
                self.key.clear();
                self.key.extend_from_slice(entry.key);
            }
            if entry.sequence <= self.at {
                // Versions come oldest first: the last that is visible counts.
                self.newest = Some((entry.kind, entry.sequence));
                self.value.clear();
                self.value.extend_from_slice(entry.value);
            }
            self.todo = Todo::Step;
        }
        None
    }
}

/// Counts a hidden entry: a step passes it, or, when there are many in a row, `search`.
fn hide(hidden: &mut u32, search: Todo) -> Todo {
    *hidden += 1;
    if *hidden < HIDDEN_STEPS_MAX {
        return Todo::Step;
    }
    *hidden = 0;
    search
}

/// The sources of an iterator, and between which keys they lie.
#[derive(Default)]
struct Parts {
    sources: Vec<Source>,
    smallest: Vec<u8>,
    largest: Vec<u8>,
}

impl Parts {
    fn add(&mut self, source: Source, smallest: &[u8], largest: &[u8]) {
        if self.sources.is_empty() || smallest < self.smallest.as_slice() {
            self.smallest = smallest.to_vec();
        }
        if self.sources.is_empty() || largest > self.largest.as_slice() {
            self.largest = largest.to_vec();
        }
        self.sources.push(source);
    }
}
