//! An open table.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

mod open;
mod verify;

pub use self::verify::Verified;

use super::block::{Layout, Target};
use super::filter::Filter;
use super::footer::{HEADER_LEN, Properties, Section};
use super::frame::{Salt, unseal};
use super::index::{self, Node};
use super::iterator::{ReadOptions, TableIterator};
use super::{Block, EntryKind, Found, Lookup, RangeTombstone, TableId, TableMeta, Value};
use crate::cache::{BlockCache, BlockKey, Home, Reservation};
use crate::error::{Error, Result};
use pinion_runtime::fs::{File, ReadBuffer};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// An open table. Clones share it; with the last of them its blocks leave the cache.
#[derive(Clone)]
pub struct Table(Rc<Inner>);

struct Inner {
    id: TableId,
    path: PathBuf,
    file: File,
    salt: Salt,
    cache: Rc<BlockCache>,
    /// The table's number in the cache.
    cache_id: u64,
    properties: Properties,
    filter: Option<Filter>,
    top: Option<Node>,
    /// The index partitions, when all of them are in memory.
    partitions: Option<Box<[Node]>>,
    tombstones: Vec<RangeTombstone>,
    #[expect(dead_code, reason = "held for what it takes from the cache's budget")]
    reservations: Vec<Reservation>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cache.remove_table(self.cache_id);
    }
}

/// A partition of the index, wherever it is.
pub(super) enum Partition<'a> {
    /// One that stays in memory.
    Pinned(&'a Node),
    /// One that was read through the cache.
    Read(Block, Layout),
}

impl Partition<'_> {
    /// Which block may hold `target`.
    #[inline]
    pub(super) fn search(&self, target: Target<'_>) -> Option<usize> {
        match self {
            Self::Pinned(node) => node.search(target),
            Self::Read(block, layout) => {
                let (index, _) = layout.search(block.bytes(), target);
                (index < layout.len()).then_some(index)
            }
        }
    }

    /// Where a block is.
    pub(super) fn section(&self, index: usize) -> Option<Section> {
        match self {
            Self::Pinned(node) => node.section(index),
            Self::Read(block, layout) => index::pointer(block.bytes(), layout, index),
        }
    }

    /// The frame of a block.
    #[inline]
    pub(super) fn home(&self, index: usize) -> Option<Home<'_>> {
        match self {
            Self::Pinned(node) => Some(node.home(index)),
            Self::Read(..) => None,
        }
    }

    /// How many blocks it points to.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Pinned(node) => node.len(),
            Self::Read(_, layout) => layout.len(),
        }
    }
}

impl Table {
    /// Opens the table at `path`: reads footer, properties, top index and range tombstones, and the partitions of the index and the
    /// filter as far as the cache has room to keep them. `id` is for messages; several tables may have the same.
    ///
    /// # Errors
    /// When the file is not a whole table of a known version.
    pub async fn open(path: impl AsRef<Path>, id: TableId, cache: &Rc<BlockCache>) -> Result<Self> {
        open::open(path.as_ref(), id, cache).await.map(|inner| Self(Rc::new(inner)))
    }

    /// The table's number.
    pub fn id(&self) -> TableId {
        self.0.id
    }

    /// The table's file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What is in the table.
    pub fn meta(&self) -> &TableMeta {
        &self.0.properties.meta
    }

    /// The range tombstones, ordered by start, then by sequence descending.
    pub fn range_tombstones(&self) -> &[RangeTombstone] {
        &self.0.tombstones
    }

    /// Whether an entry of a key may be there, by the key's hash ([`hash_key`](super::hash_key)). Range tombstones don't count.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        self.0.filter.as_ref().is_none_or(|filter| filter.may_contain(hash))
    }

    /// The newest entry of `key` with a sequence of at most `at`, as far as the cache knows; `hash` is the key's. Range tombstones
    /// are not looked at.
    #[inline]
    pub fn get_cached(&self, key: &[u8], hash: u64, at: u64) -> Lookup {
        if !self.may_contain(hash) {
            return Lookup::Absent;
        }
        self.search_cached(Target { key, sequence: at })
    }

    fn search_cached(&self, target: Target<'_>) -> Lookup {
        let Some(child) = self.child_of(target) else { return Lookup::Absent };
        let Some(partition) = self.cached_partition(child) else { return Lookup::NeedsRead };
        let Some(index) = partition.search(target) else { return Lookup::Absent };
        let block = match partition.home(index).and_then(|home| self.0.cache.get_at(home)) {
            Some(block) => Some(block),
            None => self.look_up(&partition, index),
        };
        match block.map(|block| find(block, target)) {
            None => Lookup::NeedsRead,
            Some(None) => Lookup::Absent,
            Some(Some(found)) => Lookup::Found(found),
        }
    }

    /// A block that is not in its frame.
    #[cold]
    fn look_up(&self, partition: &Partition<'_>, index: usize) -> Option<Block> {
        let section = partition.section(index)?;
        self.0.cache.get(self.block_key(section.offset), partition.home(index))
    }

    /// As [`get_cached`](Self::get_cached), and reads what is not in the cache.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged.
    pub async fn get(&self, key: &[u8], hash: u64, at: u64) -> Result<Option<Found>> {
        match self.get_cached(key, hash, at) {
            Lookup::Absent => return Ok(None),
            Lookup::Found(found) => return Ok(Some(found)),
            Lookup::NeedsRead => {}
        }
        let target = Target { key, sequence: at };
        let Some(child) = self.child_of(target) else { return Ok(None) };
        let partition = self.partition(child).await?;
        let Some(index) = partition.search(target) else { return Ok(None) };
        let Some(section) = partition.section(index) else { return Ok(None) };
        let key = self.block_key(section.offset);
        let block = self.0.cache.get_or_read(key, partition.home(index), || self.read_block(section)).await?;
        Ok(find(block, target))
    }

    /// An iterator over the point entries, not positioned yet.
    #[expect(clippy::iter_not_returning_iterator, reason = "its movements may wait, and go both ways")]
    pub fn iter(&self, options: ReadOptions) -> TableIterator {
        TableIterator::new(self.clone(), options)
    }

    /// About how many bytes of the file lie between two keys: the difference of where the index says that they are.
    pub fn approximate_size(&self, start: &[u8], end: Option<&[u8]>) -> u64 {
        let from = self.approximate_offset(start);
        let to = end.map_or(self.0.properties.data_end, |end| self.approximate_offset(end));
        to.saturating_sub(from)
    }

    fn approximate_offset(&self, key: &[u8]) -> u64 {
        let target = Target { key, sequence: u64::MAX };
        let data_end = self.0.properties.data_end;
        let Some((top, child)) = self.0.top.as_ref().zip(self.child_of(target)) else { return data_end };
        if let Some(partition) = self.cached_partition(child) {
            return partition
                .search(target)
                .and_then(|index| partition.section(index))
                .map_or(data_end, |at| at.offset);
        }
        // What is known of a partition that is not in memory is its part of all.
        data_end / top.len() as u64 * child as u64
    }

    /// The partition that may hold `target`.
    #[inline]
    pub(super) fn child_of(&self, target: Target<'_>) -> Option<usize> {
        self.0.top.as_ref()?.search(target)
    }

    /// How many partitions the index has.
    pub(super) fn children(&self) -> usize {
        self.0.top.as_ref().map_or(0, Node::len)
    }

    /// The partition, if it is in memory.
    #[inline]
    pub(super) fn cached_partition(&self, child: usize) -> Option<Partition<'_>> {
        if let Some(partitions) = &self.0.partitions {
            return partitions.get(child).map(Partition::Pinned);
        }
        let top = self.0.top.as_ref()?;
        let block = self.0.cache.get(self.block_key(top.section(child)?.offset), Some(top.home(child)))?;
        let layout = Layout::read(block.bytes())?;
        Some(Partition::Read(block, layout))
    }

    /// The partition, read when it is not in memory.
    pub(super) async fn partition(&self, child: usize) -> Result<Partition<'_>> {
        if let Some(partition) = self.cached_partition(child) {
            return Ok(partition);
        }
        let at = self.0.top.as_ref().and_then(|top| Some((top.section(child)?, top.home(child))));
        let Some((section, home)) = at else {
            return Err(self.corrupt(0, "the index has no such partition"));
        };
        let read = || async { self.read_partition(section).await.map(|(block, _)| block) };
        let block = self.0.cache.get_or_read(self.block_key(section.offset), Some(home), read).await?;
        let layout = Layout::read(block.bytes()).unwrap_or_default();
        Ok(Partition::Read(block, layout))
    }

    /// The frame of the data block to which entry `index` of partition `child` points.
    pub(super) fn home(&self, child: usize, index: usize) -> Option<Home<'_>> {
        let node = self.0.partitions.as_ref()?.get(child)?;
        Some(node.home(index))
    }

    pub(super) fn cache(&self) -> &BlockCache {
        &self.0.cache
    }

    pub(super) fn block_key(&self, offset: u64) -> BlockKey {
        BlockKey { table: self.0.cache_id, offset }
    }

    pub(super) async fn read_block(&self, section: Section) -> Result<Block> {
        let frame = self.read(section).await?;
        self.unseal_block(&frame, section.offset)
    }

    /// A data block from its frame.
    pub(super) fn unseal_block(&self, frame: &[u8], offset: u64) -> Result<Block> {
        let part = unseal(frame, self.0.salt, offset, &self.0.path)?;
        Layout::of(&part).map_err(|what| self.corrupt(offset, what))?;
        Ok(Block::new(part.into()))
    }

    async fn read_partition(&self, section: Section) -> Result<(Block, Layout)> {
        let frame = self.read(section).await?;
        let part = unseal(&frame, self.0.salt, section.offset, &self.0.path)?;
        let within = HEADER_LEN as u64..self.0.properties.data_end;
        let layout = index::check(&part, &within).map_err(|what| self.corrupt(section.offset, what))?;
        Ok((Block::new(part.into()), layout))
    }

    /// Bytes of the file.
    pub(super) async fn read(&self, section: Section) -> Result<ReadBuffer> {
        open::read(&self.0.file, &self.0.path, section).await
    }

    fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::Corrupt { file: self.0.path.clone(), offset, what }
    }
}

/// The newest version of the target's key in the block that may hold it.
#[inline]
fn find(block: Block, target: Target<'_>) -> Option<Found> {
    block.touch();
    let bytes = block.bytes();
    let layout = Layout::read(bytes)?;
    let (index, same_key) = layout.search(bytes, target);
    if !same_key {
        return None;
    }
    let record = layout.record(bytes, index);
    let (sequence, kind) = (layout.sequence(&record), record.kind());
    let range = layout.value_range(bytes, index, &record);
    let value = match kind {
        EntryKind::Put => Value::in_block(block, range.start, range.end),
        EntryKind::Delete => Value::default(),
    };
    Some(Found { sequence, kind, value })
}
