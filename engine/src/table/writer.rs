//! Writing a table, front to back, in one pass.
//!
//! Entries are pushed without waiting; whole chunks of the file go to the device while the next ones are filled. Memory: two
//! chunks in flight and one being filled, 8 bytes for each key until the filter is made, and the index, which is about one part
//! in a hundred of the data.

mod output;

use self::output::Output;
use super::block::BlockBuilder;
use super::filter::Filter;
use super::footer::{FOOTER_LEN, Footer, HEADER_LEN, Properties, Section, header};
use super::frame::{Compression, Salt, TRAILER_LEN, seal};
use super::index::{encode_pointer, separate};
use super::{
    EntryKind, EntryRef, KEY_LEN_MAX, RangeTombstone, SEQUENCE_MAX, TableMeta, VALUE_LEN_MAX, hash_key,
    tombstones,
};
use crate::error::Result;
use pinion_runtime::fs::ALIGNMENT;
use pinion_runtime::{should_yield, yield_now};
use std::cmp::Ordering;
use std::path::Path;

/// An index partition ends at so many bytes.
const PARTITION_LEN: usize = 8 << 10;
/// A block is full when less than one part in so many of it is unused; so much may be left unused to end at a page.
const WASTE_SHARE: usize = 8;
/// Keys that go into the filter between two looks at the clock.
const KEYS_PER_LOOK: usize = 1024;

/// How a table is written.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// Length in bytes that data blocks are filled to. Default 4096. Multiples of 4096 make uncompressed blocks keep to the file's
    /// pages, so that a lookup reads no more than it needs. Smaller: more index; larger: more bytes read for a lookup, fewer for a
    /// scan. RocksDB: `block_size`, 4096 (16384 advised).
    pub block_size_bytes: usize,
    /// How data blocks are compressed. Default none. RocksDB: `compression`.
    pub compression: Compression,
    /// Bits of the filter for each key. Default 10: one absent key in a hundred costs a block. Each bit less doubles that in about
    /// one and a half steps; 0 makes no filter. RocksDB: `NewBloomFilterPolicy(10)`.
    pub filter_bits_per_key: usize,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self { block_size_bytes: ALIGNMENT, compression: Compression::None, filter_bits_per_key: 10 }
    }
}

/// Writes one table.
pub struct TableWriter {
    options: TableOptions,
    salt: Salt,
    output: Output,
    block: BlockBuilder,
    /// The length that the block is filled to, and how far that may grow.
    limit: usize,
    limit_max: usize,
    frame: Vec<u8>,
    index: IndexBuilder,
    hashes: Vec<u64>,
    tombstones: Vec<RangeTombstone>,
    meta: TableMeta,
}

impl TableWriter {
    /// Begins a table in a new file.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub async fn create(path: impl AsRef<Path>, options: TableOptions) -> Result<Self> {
        let [a, b, c, d, ..] = pinion_runtime::random_u64().to_le_bytes();
        let salt = Salt(u32::from_le_bytes([a, b, c, d]));
        let mut output = Output::create(path.as_ref()).await?;
        output.append(&header(salt));
        let mut writer = Self {
            options,
            salt,
            output,
            block: BlockBuilder::default(),
            limit: 0,
            limit_max: 0,
            frame: Vec::new(),
            index: IndexBuilder::default(),
            hashes: Vec::new(),
            tombstones: Vec::new(),
            meta: TableMeta { smallest_sequence: u64::MAX, ..TableMeta::default() },
        };
        writer.begin_block();
        Ok(writer)
    }

    /// Adds the next entry. Waits only when chunks are full and the device is behind.
    ///
    /// # Panics
    /// When the entry does not stand behind the one before it, or is longer than a table takes.
    pub async fn add(&mut self, entry: EntryRef<'_>) -> Result<()> {
        if self.push(entry) { self.drain().await } else { Ok(()) }
    }

    /// Adds the next entry without waiting; `true` asks for [`drain`](Self::drain) before the next one.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    pub fn push(&mut self, entry: EntryRef<'_>) -> bool {
        assert!(entry.key.len() <= KEY_LEN_MAX, "a key of {} bytes is too long for a table", entry.key.len());
        assert!(
            entry.value.len() <= VALUE_LEN_MAX,
            "a value of {} bytes is too long for a table",
            entry.value.len()
        );
        assert!(entry.sequence <= SEQUENCE_MAX, "sequence {} is too high for a table", entry.sequence);
        let same_key = !self.block.is_empty() && self.check_order(&entry);
        let mut shape = self.block.shape_with(&entry);
        if !self.block.is_empty() && shape.is_none_or(|shape| self.is_too_long(shape.byte_len())) {
            self.close_block(Some(&entry));
            shape = self.block.shape_with(&entry);
        }
        self.block.push(&entry, shape.expect("an empty block takes any entry"));
        if !same_key {
            self.hashes.push(hash_key(entry.key));
        }
        self.count(&entry);
        self.output.is_behind()
    }

    /// Sends full chunks to the device; waits while too many are on their way.
    pub async fn drain(&mut self) -> Result<()> {
        self.output.drain().await?;
        if should_yield() {
            yield_now().await;
        }
        Ok(())
    }

    /// Adds a range tombstone, in any order.
    ///
    /// # Panics
    /// When the range is empty or its keys are too long.
    pub fn add_range_tombstone(&mut self, tombstone: RangeTombstone) {
        assert!(tombstone.start < tombstone.end, "a range tombstone deletes something");
        assert!(
            tombstone.end.len().max(tombstone.start.len()) <= KEY_LEN_MAX,
            "a range's keys fit in a table"
        );
        self.tombstones.push(tombstone);
    }

    /// About how long the file would be if it were finished now.
    pub fn estimated_len(&self) -> u64 {
        let filter = self.hashes.len() * self.options.filter_bits_per_key / 8;
        self.output.position() + (self.block.byte_len() + self.index.byte_len() + filter) as u64
    }

    /// Point entries added so far.
    pub fn entries(&self) -> u64 {
        self.meta.entries
    }

    /// Writes what is left, makes the file durable, and says what is in it. The file's name is durable once its directory is synced.
    ///
    /// # Panics
    /// When nothing was added.
    pub async fn finish(mut self) -> Result<TableMeta> {
        assert!(
            self.meta.entries > 0 || !self.tombstones.is_empty(),
            "a table has an entry or a range tombstone"
        );
        if !self.block.is_empty() {
            self.close_block(None);
        }
        let data_end = self.output.position();
        self.drain().await?;
        let (partitions, top) = self.write_index().await?;
        let filter = self.write_filter().await?;
        self.cover_tombstones();
        let mut ranges = std::mem::take(&mut self.tombstones);
        let part = tombstones::encode(&mut ranges);
        let tombstones = self.write_part(part, Compression::None);
        let meta = std::mem::take(&mut self.meta);
        let properties = Properties { meta, data_end, partitions, top, filter, tombstones };
        let section = self.write_part(properties.encode()?, Compression::None);
        let file_len = self.output.position() + FOOTER_LEN as u64;
        self.output.append(&Footer { salt: self.salt, file_len, properties: section }.encode());
        self.output.finish().await?;
        Ok(TableMeta { file_len, ..properties.meta })
    }

    /// Whether the entry has the key of the one before it, after which it must stand.
    fn check_order(&self, entry: &EntryRef<'_>) -> bool {
        let order = self.block.last_key().cmp(entry.key);
        let ordered = order == Ordering::Less
            || (order == Ordering::Equal && self.block.last_sequence() > entry.sequence);
        assert!(ordered, "entries come by key ascending, then by sequence descending");
        order == Ordering::Equal
    }

    fn count(&mut self, entry: &EntryRef<'_>) {
        let meta = &mut self.meta;
        if meta.entries == 0 {
            meta.smallest = entry.key.to_vec();
        }
        meta.entries += 1;
        meta.tombstones += u64::from(entry.kind == EntryKind::Delete);
        meta.smallest_sequence = meta.smallest_sequence.min(entry.sequence);
        meta.largest_sequence = meta.largest_sequence.max(entry.sequence);
        meta.raw_key_bytes += entry.key.len() as u64;
        meta.raw_value_bytes += entry.value.len() as u64;
    }

    /// Whether uncompressed blocks end at the file's pages, where that wastes little.
    fn keeps_to_pages(&self) -> bool {
        self.options.compression == Compression::None
            && self.options.block_size_bytes.is_multiple_of(ALIGNMENT)
    }

    /// Decides how long the next block gets: up to a page's end when three quarters of a block lie before it.
    fn begin_block(&mut self) {
        let size = self.options.block_size_bytes;
        self.limit = size;
        self.limit_max = size;
        if self.keeps_to_pages() {
            let start = to_usize(self.output.position() % ALIGNMENT as u64);
            self.limit = (start + size / 4 * 3).next_multiple_of(ALIGNMENT) - start;
            self.limit_max = self.limit + size;
        }
    }

    /// Whether a block of that length is too long; lets it grow by a page when the block without the new entry is far from full.
    fn is_too_long(&mut self, byte_len: usize) -> bool {
        let stored = byte_len + TRAILER_LEN;
        let full_from = self.limit - self.limit / WASTE_SHARE;
        while stored > self.limit
            && self.limit < self.limit_max
            && self.block.byte_len() + TRAILER_LEN < full_from
        {
            self.limit += ALIGNMENT;
        }
        stored > self.limit
    }

    /// Writes the block that is being filled; `next` is the entry that goes into the next one.
    fn close_block(&mut self, next: Option<&EntryRef<'_>>) {
        let last_key = self.block.last_key();
        let separator = match next {
            Some(next) if next.key == last_key => {
                self.index.separator.clear();
                self.index.separator.extend_from_slice(last_key);
                self.block.last_sequence()
            }
            Some(next) => {
                separate(last_key, next.key, &mut self.index.separator);
                0
            }
            None => {
                self.meta.largest = last_key.to_vec();
                self.index.separator.clear();
                self.index.separator.extend_from_slice(last_key);
                0
            }
        };
        self.frame.clear();
        self.block.finish(&mut self.frame);
        let section = self.write_frame(self.options.compression);
        self.index.add(separator, section);
        if self.keeps_to_pages() {
            let padding =
                to_usize(self.output.position().next_multiple_of(ALIGNMENT as u64) - self.output.position());
            if padding <= section.len as usize / WASTE_SHARE {
                self.output.pad(padding);
            }
        }
        self.begin_block();
    }

    /// Seals what stands in `frame` and appends it.
    fn write_frame(&mut self, compression: Compression) -> Section {
        let offset = self.output.position();
        seal(&mut self.frame, compression, self.salt, offset);
        self.output.append(&self.frame);
        Section { offset, len: u32::try_from(self.frame.len()).expect("a frame's length is bounded") }
    }

    /// Writes a part; one without bytes gets no frame.
    fn write_part(&mut self, part: Vec<u8>, compression: Compression) -> Section {
        if part.is_empty() {
            return Section::default();
        }
        self.frame = part;
        self.write_frame(compression)
    }

    async fn write_index(&mut self) -> Result<(Section, Section)> {
        self.index.end_partition();
        let mut top = IndexBuilder::default();
        let offset = self.output.position();
        for Partition { last_key, last_sequence, block } in std::mem::take(&mut self.index.partitions) {
            let section = self.write_part(block, Compression::None);
            top.separator = last_key;
            top.add_to_node(last_sequence, section);
            self.drain().await?;
        }
        let len = u32::try_from(self.output.position() - offset).expect("an index is shorter than 4 GiB");
        let mut part = Vec::new();
        if !top.node.is_empty() {
            top.node.finish(&mut part);
        }
        Ok((Section { offset, len }, self.write_part(part, Compression::None)))
    }

    async fn write_filter(&mut self) -> Result<Section> {
        let bits = self.options.filter_bits_per_key;
        let hashes = std::mem::take(&mut self.hashes);
        if bits == 0 || hashes.is_empty() {
            return Ok(Section::default());
        }
        let mut filter = Filter::with_capacity(hashes.len(), bits);
        for some in hashes.chunks(KEYS_PER_LOOK) {
            for &hash in some {
                filter.insert(hash);
            }
            if should_yield() {
                yield_now().await;
            }
        }
        let mut part = Vec::with_capacity(filter.byte_len() + TRAILER_LEN);
        filter.encode(&mut part);
        let section = self.write_part(part, Compression::None);
        self.drain().await?;
        Ok(section)
    }

    /// Widens the table's range of keys and sequences to its range tombstones.
    fn cover_tombstones(&mut self) {
        let meta = &mut self.meta;
        meta.range_tombstones = self.tombstones.len() as u64;
        for (index, tombstone) in self.tombstones.iter().enumerate() {
            let first = meta.entries == 0 && index == 0;
            if first || tombstone.start < meta.smallest {
                meta.smallest.clone_from(&tombstone.start);
            }
            if first || tombstone.end > meta.largest {
                meta.largest.clone_from(&tombstone.end);
            }
            meta.smallest_sequence = meta.smallest_sequence.min(tombstone.sequence);
            meta.largest_sequence = meta.largest_sequence.max(tombstone.sequence);
        }
    }
}

/// A finished partition that waits to be written.
struct Partition {
    last_key: Vec<u8>,
    last_sequence: u64,
    block: Vec<u8>,
}

/// Collects the index while the data is written.
#[derive(Default)]
struct IndexBuilder {
    node: BlockBuilder,
    separator: Vec<u8>,
    partitions: Vec<Partition>,
    partition_bytes: usize,
}

impl IndexBuilder {
    /// Adds a pointer under the separator that was set.
    fn add(&mut self, sequence: u64, section: Section) {
        self.add_to_node(sequence, section);
        if self.node.byte_len() >= PARTITION_LEN {
            self.end_partition();
        }
    }

    fn add_to_node(&mut self, sequence: u64, section: Section) {
        let value = encode_pointer(section);
        let entry = EntryRef { key: &self.separator, sequence, kind: EntryKind::Put, value: &value };
        let shape = self.node.shape_with(&entry).expect("an index node takes 65535 pointers");
        self.node.push(&entry, shape);
    }

    fn end_partition(&mut self) {
        if self.node.is_empty() {
            return;
        }
        let (last_key, last_sequence) = (self.node.last_key().to_vec(), self.node.last_sequence());
        let mut block = Vec::new();
        self.node.finish(&mut block);
        self.partition_bytes += block.len() + TRAILER_LEN;
        self.partitions.push(Partition { last_key, last_sequence, block });
    }

    fn byte_len(&self) -> usize {
        self.partition_bytes + self.node.byte_len()
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("it is less than a page")
}

/// The header stands before the first block.
const _: () = assert!(HEADER_LEN < ALIGNMENT);
