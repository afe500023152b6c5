//! Iterating over a table's point entries, forward and backward.
//!
//! Every movement is one function that either completes or says what it needs; the waiting form reads that and asks again. So both forms
//! do the same, and within cached blocks neither waits.
//!
//! Cost: a step within a block puts the key together (about 10 ns) and copies no value.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

mod ahead;

pub(super) use self::ahead::Ahead;
use super::block::{Layout, Target};
use super::footer::Section;
use super::reader::{Partition, Table};
use super::{Block, EntryKind, EntryRef};
use crate::error::Result;
use std::ops::Range;

/// How an iterator reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOptions {
    /// For a caller's scan: blocks that are read stay in the cache as far as its policy wants them, and from the second block on more
    /// and more is read ahead.
    #[default]
    Scan,
    /// For compaction and other passes over a whole table: large reads from the start, and what is read does not enter the cache.
    Bulk,
}

/// Walks over a table's point entries. It stands at one, or nowhere: before the first movement, and behind either end.
///
/// What an iterator holds (its block, what is read ahead) is at most 512 KiB and one block beside the cache's budget.
pub struct TableIterator {
    table: Table,
    options: ReadOptions,
    /// The partition that was last read through the cache.
    partition: Option<(usize, Block, Layout)>,
    /// The block that was last read.
    fetched: Option<(u64, Block)>,
    ahead: Ahead,
    at: At,
    block: Option<Block>,
    layout: Layout,
    entry: usize,
    valid: bool,
    key: Vec<u8>,
    /// Whether `key` is one of this block's.
    key_within: bool,
    sequence: u64,
    kind: EntryKind,
    value: Range<usize>,
}

/// A block's place in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct At {
    child: usize,
    index: usize,
}

/// A movement.
#[derive(Clone, Copy)]
enum Movement<'a> {
    Seek(Target<'a>),
    SeekForPrev(Target<'a>),
    First,
    Last,
    Next,
    Prev,
}

/// What a movement needs before it can be done.
enum Need {
    Partition(usize),
    Block(At, Section),
}

type Step = std::result::Result<(), Need>;

impl TableIterator {
    pub(super) fn new(table: Table, options: ReadOptions) -> Self {
        Self {
            ahead: Ahead::new(options),
            table,
            options,
            partition: None,
            fetched: None,
            at: At::default(),
            block: None,
            layout: Layout::default(),
            entry: 0,
            valid: false,
            key: Vec::new(),
            key_within: false,
            sequence: 0,
            kind: EntryKind::Put,
            value: 0..0,
        }
    }

    /// Whether the iterator stands at an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.valid
    }

    /// The entry that the iterator stands at.
    ///
    /// # Panics
    /// When it stands nowhere.
    #[inline]
    pub fn entry(&self) -> EntryRef<'_> {
        assert!(self.valid, "the iterator stands at an entry");
        EntryRef { key: &self.key, sequence: self.sequence, kind: self.kind, value: self.value() }
    }

    /// The entry's key; that of an earlier one when the iterator stands nowhere.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> &[u8] {
        let bytes = self.block.as_ref().map_or(&[][..], Block::bytes);
        bytes.get(self.value.clone()).unwrap_or_default()
    }

    /// Goes to the first entry at or behind `key` with at most `sequence`: the newest version of the key that is visible there, or an entry
    /// of a later key.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged; the iterator then stands nowhere. So with all that follow.
    pub async fn seek(&mut self, key: &[u8], sequence: u64) -> Result<()> {
        self.run(Movement::Seek(Target { key, sequence })).await
    }

    /// Goes to the last entry that does not stand behind `key` with `sequence`. `(key, u64::MAX)` finds the last entry before all of
    /// the key's, `(key, 0)` the key's oldest version, if it has one.
    pub async fn seek_for_prev(&mut self, key: &[u8], sequence: u64) -> Result<()> {
        self.run(Movement::SeekForPrev(Target { key, sequence })).await
    }

    /// Goes to the first entry.
    pub async fn seek_to_first(&mut self) -> Result<()> {
        self.run(Movement::First).await
    }

    /// Goes to the last entry.
    pub async fn seek_to_last(&mut self) -> Result<()> {
        self.run(Movement::Last).await
    }

    /// Goes to the next entry.
    ///
    /// # Panics
    /// When the iterator stands nowhere.
    pub async fn next(&mut self) -> Result<()> {
        if self.try_next() { Ok(()) } else { self.run(Movement::Next).await }
    }

    /// Goes to the entry before.
    ///
    /// # Panics
    /// When the iterator stands nowhere.
    pub async fn prev(&mut self) -> Result<()> {
        if self.try_prev() { Ok(()) } else { self.run(Movement::Prev).await }
    }

    /// [`next`](Self::next) without waiting; `false` when something must be read, and nothing has moved.
    #[inline]
    pub fn try_next(&mut self) -> bool {
        if self.valid && self.entry + 1 < self.layout.len() {
            self.stand_at(self.entry + 1);
            return true;
        }
        self.step(Movement::Next).is_ok()
    }

    /// [`prev`](Self::prev) without waiting; `false` when something must be read, and nothing has moved.
    #[inline]
    pub fn try_prev(&mut self) -> bool {
        if self.valid && self.entry > 0 {
            self.stand_at(self.entry - 1);
            return true;
        }
        self.step(Movement::Prev).is_ok()
    }

    /// [`seek`](Self::seek) without waiting; `false` when something must be read, and the iterator then stands nowhere.
    pub fn try_seek(&mut self, key: &[u8], sequence: u64) -> bool {
        self.valid = false;
        self.step(Movement::Seek(Target { key, sequence })).is_ok()
    }

    /// [`seek_for_prev`](Self::seek_for_prev) without waiting; `false` when something must be read, and the iterator then stands nowhere.
    pub fn try_seek_for_prev(&mut self, key: &[u8], sequence: u64) -> bool {
        self.valid = false;
        self.step(Movement::SeekForPrev(Target { key, sequence })).is_ok()
    }

    async fn run(&mut self, movement: Movement<'_>) -> Result<()> {
        while let Err(need) = self.step(movement) {
            // Each turn brings what the movement asked for, so it asks for something else the next time.
            if let Err(error) = self.fetch(need, movement).await {
                self.valid = false;
                return Err(error);
            }
        }
        Ok(())
    }

    fn step(&mut self, movement: Movement<'_>) -> Step {
        match movement {
            Movement::Seek(target) => self.step_seek(target),
            Movement::SeekForPrev(target) => self.step_seek_for_prev(target),
            Movement::First => self.enter_first(0),
            Movement::Last => self.enter_last(self.table.children()),
            Movement::Next => {
                assert!(self.valid, "the iterator stands at an entry");
                self.step_next(self.entry)
            }
            Movement::Prev => {
                assert!(self.valid, "the iterator stands at an entry");
                self.step_prev(self.entry)
            }
        }
    }

    fn step_seek(&mut self, target: Target<'_>) -> Step {
        match self.enter(target)? {
            None => self.stand_nowhere(),
            Some(entry) if entry < self.layout.len() => self.stand_at(entry),
            // Between the block's last entry and its separator.
            Some(entry) => return self.step_next(entry),
        }
        Ok(())
    }

    fn step_seek_for_prev(&mut self, target: Target<'_>) -> Step {
        let Some(entry) = self.enter(target)? else { return self.enter_last(self.table.children()) };
        if entry < self.layout.len() {
            self.stand_at(entry);
            if self.key == target.key && self.sequence == target.sequence {
                return Ok(());
            }
        }
        self.step_prev(entry)
    }

    fn step_next(&mut self, entry: usize) -> Step {
        if entry + 1 < self.layout.len() {
            self.stand_at(entry + 1);
            return Ok(());
        }
        let At { child, index } = self.at;
        if index + 1 < self.blocks_in(child)? {
            self.load(At { child, index: index + 1 })?;
            self.stand_at(0);
            return Ok(());
        }
        self.enter_first(child + 1)
    }

    fn step_prev(&mut self, entry: usize) -> Step {
        if entry > 0 {
            self.stand_at(entry - 1);
            return Ok(());
        }
        let At { child, index } = self.at;
        if index > 0 {
            self.load(At { child, index: index - 1 })?;
            self.stand_at(self.layout.len() - 1);
            return Ok(());
        }
        self.enter_last(child)
    }

    /// Goes to the first entry of a partition, or nowhere when there is no such partition.
    fn enter_first(&mut self, child: usize) -> Step {
        if child >= self.table.children() {
            self.stand_nowhere();
            return Ok(());
        }
        self.load(At { child, index: 0 })?;
        self.stand_at(0);
        Ok(())
    }

    /// Goes to the last entry of the partition before `child`, or nowhere when there is none.
    fn enter_last(&mut self, child: usize) -> Step {
        let Some(child) = child.checked_sub(1) else {
            self.stand_nowhere();
            return Ok(());
        };
        let blocks = self.blocks_in(child)?;
        self.load(At { child, index: blocks - 1 })?;
        self.stand_at(self.layout.len() - 1);
        Ok(())
    }

    /// Loads the block that may hold `target`, and finds the first entry at or behind it; `None` when all entries are before it.
    fn enter(&mut self, target: Target<'_>) -> std::result::Result<Option<usize>, Need> {
        let Some(child) = self.table.child_of(target) else { return Ok(None) };
        let Some(index) = self.with_partition(child, |partition| partition.search(target))? else {
            return Ok(None);
        };
        self.load(At { child, index })?;
        let bytes = self.block.as_ref().map_or(&[][..], Block::bytes);
        Ok(Some(self.layout.search(bytes, target).0))
    }

    fn blocks_in(&mut self, child: usize) -> std::result::Result<usize, Need> {
        self.with_partition(child, |partition: &Partition<'_>| partition.len())
    }

    fn with_partition<T>(
        &mut self,
        child: usize,
        look: impl FnOnce(&Partition<'_>) -> T,
    ) -> std::result::Result<T, Need> {
        if let Some((held, block, layout)) = &self.partition
            && *held == child
        {
            return Ok(look(&Partition::Read(block.clone(), *layout)));
        }
        let partition = self.table.cached_partition(child).ok_or(Need::Partition(child))?;
        let seen = look(&partition);
        if let Partition::Read(block, layout) = partition {
            self.partition = Some((child, block, layout));
        }
        Ok(seen)
    }

    /// Makes the block at `at` the current one.
    fn load(&mut self, at: At) -> Step {
        if self.block.is_some() && self.at == at {
            return Ok(());
        }
        let section = self.with_partition(at.child, |partition| partition.section(at.index))?;
        let section = section.unwrap_or_default();
        let block = match &self.fetched {
            Some((offset, block)) if *offset == section.offset => Some(block.clone()),
            _ => self.cached(at, section),
        };
        let Some(block) = block else { return Err(Need::Block(at, section)) };
        let Some(layout) = Layout::read(block.bytes()) else { return Err(Need::Block(at, section)) };
        self.fetched = None;
        self.layout = layout;
        self.block = Some(block);
        self.at = at;
        self.key_within = false;
        Ok(())
    }

    /// A block from what was read ahead, or from the cache.
    fn cached(&mut self, at: At, section: Section) -> Option<Block> {
        // A damaged block is read again by itself, and that read tells.
        if let Ok(Some(block)) = self.block_ahead(at, section) {
            return Some(block);
        }
        match self.options {
            ReadOptions::Bulk => self.table.cache().peek(self.table.block_key(section.offset)),
            ReadOptions::Scan => {
                let home = self.table.home(at.child, at.index);
                self.table.cache().get(self.table.block_key(section.offset), home)
            }
        }
    }

    /// A block from what was read ahead; a scan's enters the cache when it is used.
    fn block_ahead(&self, at: At, section: Section) -> Result<Option<Block>> {
        let Some(frame) = self.ahead.frame(section) else { return Ok(None) };
        let block = self.table.unseal_block(frame, section.offset)?;
        if self.options == ReadOptions::Scan {
            let home = self.table.home(at.child, at.index);
            self.table.cache().insert(self.table.block_key(section.offset), &block, home);
        }
        Ok(Some(block))
    }

    fn stand_nowhere(&mut self) {
        self.valid = false;
    }

    /// Takes apart the entry at `entry` of the current block.
    #[inline]
    fn stand_at(&mut self, entry: usize) {
        let bytes = self.block.as_ref().map_or(&[][..], Block::bytes);
        let record = self.layout.record(bytes, entry);
        self.layout.key_into(bytes, entry, &record, self.key_within, &mut self.key);
        self.sequence = self.layout.sequence(&record);
        self.kind = record.kind();
        self.value = self.layout.value_range(bytes, entry, &record);
        self.key_within = true;
        self.entry = entry;
        self.valid = true;
    }

    async fn fetch(&mut self, need: Need, movement: Movement<'_>) -> Result<()> {
        let (at, section) = match need {
            Need::Partition(child) => {
                if let Partition::Read(block, layout) = self.table.partition(child).await? {
                    self.partition = Some((child, block, layout));
                }
                return Ok(());
            }
            Need::Block(at, section) => (at, section),
        };
        let backward = matches!(movement, Movement::Prev | Movement::SeekForPrev(_) | Movement::Last);
        let wanted = self.ahead.window_len(matches!(movement, Movement::Next | Movement::Prev));
        if wanted > section.len as usize {
            let window = self.window(at, section, wanted, backward);
            self.ahead.fill(&self.table, window).await?;
            if let Some(block) = self.block_ahead(at, section)? {
                self.fetched = Some((section.offset, block));
                return Ok(());
            }
        }
        let read = || self.table.read_block(section);
        let block = match self.options {
            ReadOptions::Bulk => read().await?,
            ReadOptions::Scan => {
                let key = self.table.block_key(section.offset);
                self.table.cache().get_or_read(key, self.table.home(at.child, at.index), read).await?
            }
        };
        self.fetched = Some((section.offset, block));
        Ok(())
    }

    /// The whole blocks of the partition that lie within `wanted` bytes of the block at `at`, in the direction of the movement.
    fn window(&mut self, at: At, section: Section, wanted: usize, backward: bool) -> Section {
        let (mut start, mut end) = (section.offset, section.offset + u64::from(section.len));
        let mut index = at.index;
        while let Some(next) = if backward { index.checked_sub(1) } else { Some(index + 1) } {
            let neighbour = self.with_partition(at.child, |partition| partition.section(next));
            let Ok(Some(neighbour)) = neighbour else { break };
            let neighbour_end = neighbour.offset + u64::from(neighbour.len);
            if neighbour_end.max(end) - neighbour.offset.min(start) > wanted as u64 {
                break;
            }
            (start, end) = (start.min(neighbour.offset), end.max(neighbour_end));
            index = next;
        }
        Section { offset: start, len: u32::try_from(end - start).unwrap_or(u32::MAX) }
    }
}
