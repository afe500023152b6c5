//! A table read whole, and every part of it checked.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use super::Table;
use crate::error::Result;
use crate::table::block::Layout;
use crate::table::footer::{HEADER_LEN, Section, header};
use crate::table::frame::unseal;
use crate::table::index::{self, Node};
use crate::table::iterator::{Ahead, ReadOptions};
use crate::table::{Block, KEY_LEN_MAX, RangeTombstone};
use pinion_runtime::{should_yield, yield_now};

/// What a table holds, by a read of all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Data blocks.
    pub blocks: u64,
    /// Point entries.
    pub entries: u64,
}

/// The entry before, which the next must follow.
#[derive(Default)]
struct Order {
    last: Vec<u8>,
    last_sequence: u64,
    key: Vec<u8>,
}

impl Table {
    /// Reads the whole file and checks every checksum, every block's structure, the order of all entries and their number.
    ///
    /// # Errors
    /// The first damage that is found.
    pub async fn verify(&self) -> Result<Verified> {
        self.verify_frame().await?;
        let inner = &self.0;
        let mut verified = Verified::default();
        let mut order = Order::default();
        let mut ahead = Ahead::new(ReadOptions::Bulk);
        for child in 0..inner.top.as_ref().map_or(0, Node::len) {
            let section = inner.top.as_ref().and_then(|top| top.section(child)).unwrap_or_default();
            let (block, layout) = self.read_partition(section).await?;
            for index in 0..layout.len() {
                let section = index::pointer(block.bytes(), &layout, index).unwrap_or_default();
                let block = self.read_block_ahead(&mut ahead, section).await?;
                self.verify_order(&block, section.offset, &mut order, &mut verified)?;
                verified.blocks += 1;
                if should_yield() {
                    yield_now().await;
                }
            }
        }
        if verified.entries != inner.properties.meta.entries {
            return Err(self.corrupt(0, "the file does not hold as many entries as it says"));
        }
        Ok(verified)
    }

    /// What is not data: the file's beginning, the filter, the range tombstones and the top of the index.
    async fn verify_frame(&self) -> Result<()> {
        let inner = &self.0;
        let start = self.read(Section { offset: 0, len: u32::try_from(HEADER_LEN).unwrap_or(0) }).await?;
        if *start != header(inner.salt) {
            return Err(self.corrupt(0, "the file does not begin as it ends"));
        }
        for section in [inner.properties.filter, inner.properties.tombstones, inner.properties.top] {
            if section.len > 0 {
                let frame = self.read(section).await?;
                unseal(&frame, inner.salt, section.offset, &inner.path)?;
            }
        }
        let meta = self.meta();
        let is_spanned = |tombstone: &RangeTombstone| {
            meta.spans(&tombstone.start, tombstone.sequence) && tombstone.end <= meta.largest
        };
        if !inner.tombstones.iter().all(is_spanned) {
            return Err(self.corrupt(0, "a range tombstone is outside of what the table says that it holds"));
        }
        Ok(())
    }

    /// A data block out of a large piece of the file: block by block, the disk's latency would be most of the time.
    async fn read_block_ahead(&self, ahead: &mut Ahead, section: Section) -> Result<Block> {
        if ahead.frame(section).is_none() {
            let rest = self.0.properties.data_end.saturating_sub(section.offset);
            let len = u32::try_from(rest.min(ahead.window_len(true) as u64)).unwrap_or(u32::MAX);
            if len < section.len {
                return self.read_block(section).await;
            }
            ahead.fill(self, Section { offset: section.offset, len }).await?;
        }
        match ahead.frame(section) {
            Some(frame) => self.unseal_block(frame, section.offset),
            None => self.read_block(section).await,
        }
    }

    fn verify_order(
        &self,
        block: &Block,
        offset: u64,
        order: &mut Order,
        verified: &mut Verified,
    ) -> Result<()> {
        let bytes = block.bytes();
        let layout = Layout::of(bytes).map_err(|what| self.corrupt(offset, what))?;
        let meta = self.meta();
        for index in 0..layout.len() {
            let record = layout.record(bytes, index);
            let sequence = layout.sequence(&record);
            layout.key_into(bytes, index, &record, false, &mut order.key);
            if order.key.len() > KEY_LEN_MAX || !meta.spans(&order.key, sequence) {
                return Err(self.corrupt(offset, "an entry is outside of what the table says that it holds"));
            }
            let is_first = verified.entries == 0;
            let ordering = order.last.cmp(&order.key).then_with(|| sequence.cmp(&order.last_sequence));
            if !is_first && !ordering.is_lt() {
                return Err(self.corrupt(offset, "entries are out of order"));
            }
            std::mem::swap(&mut order.last, &mut order.key);
            order.last_sequence = sequence;
            verified.entries += 1;
        }
        Ok(())
    }
}
