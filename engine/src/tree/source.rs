//! What a merge reads from: a memtable, or tables that follow each other.
//!
//! Every movement has a form that does not wait: it gives `false` when something must be read, and the waiting form then goes on where it
//! stopped.

use super::version::Tables;
use crate::Error;
use crate::memtable::{Memtable, MemtableIterator};
use crate::table::{EntryRef, ReadOptions, TableIterator};
use pinion_types::ColumnFamily;
use std::ops::Range;
use std::rc::Rc;

/// A cursor over the entries of one source.
pub(crate) enum Source {
    /// A memtable's entries up to a sequence.
    Memtable(MemtableSource),
    /// Tables' entries.
    Tables(Box<TablesSource>),
}

/// Where a cursor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

impl Source {
    /// All entries of one family of a memtable that is written to no more.
    pub(crate) fn memtable(memtable: Rc<Memtable>, family: ColumnFamily) -> Self {
        Self::Memtable(MemtableSource::new(memtable, family, u64::MAX))
    }

    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Memtable(source) => source.iterator.is_valid(),
            Self::Tables(source) => source.valid,
        }
    }

    /// The current entry.
    #[inline]
    pub(crate) fn entry(&self) -> EntryRef<'_> {
        match self {
            Self::Memtable(source) => source.iterator.entry(),
            Self::Tables(source) => source.entry(),
        }
    }

    /// The highest sequence that the source may hold.
    pub(crate) fn largest_sequence(&self) -> u64 {
        match self {
            Self::Memtable(source) => source.at,
            Self::Tables(source) => source.largest_sequence,
        }
    }

    /// Goes on by one entry; `false` when something must be read.
    #[inline]
    pub(crate) fn try_step(&mut self, direction: Direction) -> bool {
        match self {
            Self::Memtable(source) => {
                source.step(direction);
                true
            }
            Self::Tables(source) => source.try_step(direction),
        }
    }

    /// Goes on by one entry, or ends the step that [`try_step`](Self::try_step) could not.
    pub(crate) async fn step(&mut self, direction: Direction) -> Result<(), Error> {
        match self {
            Self::Memtable(source) => {
                source.step(direction);
                Ok(())
            }
            Self::Tables(source) => source.step(direction).await,
        }
    }

    /// Goes to the first entry that does not come before (`key`, `sequence`).
    pub(crate) async fn seek(&mut self, key: &[u8], sequence: u64) -> Result<(), Error> {
        match self {
            Self::Memtable(source) => {
                source.iterator.seek(key, sequence);
                source.skip_invisible(Direction::Forward);
                Ok(())
            }
            Self::Tables(source) => source.seek(key, sequence).await,
        }
    }

    /// Goes to the last entry of a key before `key`.
    pub(crate) async fn seek_before(&mut self, key: &[u8]) -> Result<(), Error> {
        match self {
            Self::Memtable(source) => {
                source.iterator.seek_before(key, u64::MAX);
                source.skip_invisible(Direction::Backward);
                Ok(())
            }
            Self::Tables(source) => source.seek_before(key).await,
        }
    }
}

/// A memtable's entries that were there at a moment; later ones are stepped over, so that they never come before the first or
/// behind the last key that the memtable had then.
pub(crate) struct MemtableSource {
    iterator: MemtableIterator,
    at: u64,
}

impl MemtableSource {
    pub(crate) fn new(memtable: Rc<Memtable>, family: ColumnFamily, at: u64) -> Self {
        Self { iterator: MemtableIterator::new(memtable, family), at }
    }

    #[inline]
    fn step(&mut self, direction: Direction) {
        match direction {
            Direction::Forward => self.iterator.next(),
            Direction::Backward => self.iterator.previous(),
        }
        self.skip_invisible(direction);
    }

    #[inline]
    fn skip_invisible(&mut self, direction: Direction) {
        while self.iterator.is_valid() && self.iterator.entry().sequence > self.at {
            match direction {
                Direction::Forward => self.iterator.next(),
                Direction::Backward => self.iterator.previous(),
            }
        }
    }
}

/// Tables of a level, one after the other; of level 0 a single one.
pub(crate) struct TablesSource {
    tables: Tables,
    range: Range<usize>,
    options: ReadOptions,
    current: usize,
    iterator: Option<TableIterator>,
    /// The current table is to be entered at this end.
    entering: Option<Direction>,
    valid: bool,
    largest_sequence: u64,
}

impl TablesSource {
    /// A cursor over the tables of `range`.
    pub(crate) fn new(tables: Tables, range: Range<usize>, options: ReadOptions) -> Self {
        let sequences = tables[range.clone()].iter().map(|table| table.reference.meta.largest_sequence);
        Self {
            largest_sequence: sequences.max().unwrap_or(0),
            current: range.start,
            tables,
            range,
            options,
            iterator: None,
            entering: None,
            valid: false,
        }
    }

    #[inline]
    fn entry(&self) -> EntryRef<'_> {
        self.iterator.as_ref().expect("a valid source has an iterator").entry()
    }

    #[inline]
    fn try_step(&mut self, direction: Direction) -> bool {
        if self.entering.is_none() {
            let iterator = self.iterator.as_mut().expect("a valid source has an iterator");
            let moved = match direction {
                Direction::Forward => iterator.try_next(),
                Direction::Backward => iterator.try_prev(),
            };
            if !moved {
                return false;
            }
        }
        self.try_settle(direction)
    }

    async fn step(&mut self, direction: Direction) -> Result<(), Error> {
        if self.entering.is_none() {
            let iterator = self.iterator.as_mut().expect("a valid source has an iterator");
            let moved = match direction {
                Direction::Forward => iterator.next().await,
                Direction::Backward => iterator.prev().await,
            };
            moved.inspect_err(|_| self.valid = false)?;
        }
        self.settle(direction).await
    }

    async fn seek(&mut self, key: &[u8], sequence: u64) -> Result<(), Error> {
        let tables = &self.tables[self.range.clone()];
        // Where a range tombstone was cut, the end of one table and the first key of the next are the same: the next counts.
        let before = tables.partition_point(|table| table.first.as_slice() <= key);
        let within = before.checked_sub(1).filter(|index| key < tables[*index].end.as_slice());
        self.go_to(self.range.start + within.unwrap_or(before), Direction::Forward);
        if within.is_some() {
            let table = &self.tables[self.current];
            self.entering = None;
            let iterator = self.iterator.get_or_insert_with(|| table.table.iter(self.options));
            iterator.seek(key, sequence).await.inspect_err(|_| self.valid = false)?;
        }
        self.settle(Direction::Forward).await
    }

    async fn seek_before(&mut self, key: &[u8]) -> Result<(), Error> {
        let tables = &self.tables[self.range.clone()];
        let before = tables.partition_point(|table| table.first.as_slice() < key);
        let Some(index) =
            (self.range.start + before).checked_sub(1).filter(|index| *index >= self.range.start)
        else {
            self.valid = false;
            return Ok(());
        };
        self.go_to(index, Direction::Backward);
        let table = &self.tables[index];
        if key <= table.end.as_slice() {
            self.entering = None;
            let iterator = self.iterator.get_or_insert_with(|| table.table.iter(self.options));
            iterator.seek_for_prev(key, u64::MAX).await.inspect_err(|_| self.valid = false)?;
        }
        self.settle(Direction::Backward).await
    }

    /// Makes the table at `index` the current one, to be entered at the end that `direction` begins with.
    fn go_to(&mut self, index: usize, direction: Direction) {
        if index != self.current {
            self.iterator = None;
        }
        self.current = index;
        self.entering = Some(direction);
    }

    /// Goes on to the next table while the current one has no entry that counts; `false` when something must be read.
    fn try_settle(&mut self, direction: Direction) -> bool {
        loop {
            if !self.range.contains(&self.current) {
                self.valid = false;
                return true;
            }
            if self.entering.is_some() {
                let table = &self.tables[self.current];
                let iterator = self.iterator.get_or_insert_with(|| table.table.iter(self.options));
                let entered = match direction {
                    Direction::Forward => iterator.try_seek(&table.first, u64::MAX),
                    Direction::Backward => iterator.try_seek_for_prev(&table.end, u64::MAX),
                };
                if !entered {
                    return false;
                }
                self.entering = None;
            }
            if self.is_within(direction) {
                self.valid = true;
                return true;
            }
            self.leave(direction);
        }
    }

    async fn settle(&mut self, direction: Direction) -> Result<(), Error> {
        while !self.try_settle(direction) {
            let table = &self.tables[self.current];
            let iterator = self.iterator.as_mut().expect("a table that is entered has an iterator");
            let entered = match direction {
                Direction::Forward => iterator.seek(&table.first, u64::MAX).await,
                Direction::Backward => iterator.seek_for_prev(&table.end, u64::MAX).await,
            };
            entered.inspect_err(|_| self.valid = false)?;
            self.entering = None;
        }
        Ok(())
    }

    /// Whether the iterator stands at an entry that counts.
    #[inline]
    fn is_within(&self, direction: Direction) -> bool {
        let Some(iterator) = &self.iterator else { return false };
        let table = &self.tables[self.current];
        iterator.valid()
            && (!table.is_clipped
                || match direction {
                    Direction::Forward => iterator.key() < table.end.as_slice(),
                    Direction::Backward => iterator.key() >= table.first.as_slice(),
                })
    }

    fn leave(&mut self, direction: Direction) {
        // Before the first table there is no number: the one behind the last stands for both ends.
        let next = match direction {
            Direction::Forward => Some(self.current + 1),
            Direction::Backward => self.current.checked_sub(1),
        };
        let next = next.filter(|next| self.range.contains(next)).unwrap_or(self.range.end);
        self.iterator = None;
        self.go_to(next, direction);
    }
}
