//! Opening a table: what is read and checked before the first lookup.
#![deny(clippy::indexing_slicing, clippy::expect_used)]

use super::Inner;
use crate::cache::{BlockCache, Reservation};
use crate::error::{Error, Result};
use crate::table::filter::Filter;
use crate::table::footer::{FOOTER_LEN, Footer, HEADER_LEN, Properties, Section};
use crate::table::frame::{FRAME_LEN_MAX, Salt, TRAILER_LEN, unseal};
use crate::table::index::Node;
use crate::table::{Block, RangeTombstone, TableId, tombstones};
use pinion_runtime::fs::{File, OpenOptions, ReadBuffer};
use pinion_runtime::{should_yield, yield_now};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

/// Bytes at the file's end that are read at once: in most tables, all that an opening needs but the filter.
const TAIL_LEN: u64 = 32 << 10;
/// In memory a partition takes about so many times what it takes on disk.
const PARTITION_GROWTH: usize = 3;
/// Bytes of partitions that are read at once.
const SPAN_MAX: usize = 256 << 10;

/// The file while it is being opened.
struct Source<'a> {
    path: &'a Path,
    file: File,
    salt: Salt,
    tail_at: u64,
    tail: ReadBuffer,
}

pub(super) async fn open(path: &Path, id: TableId, cache: &Rc<BlockCache>) -> Result<Inner> {
    let file = OpenOptions::read().open(path).await.map_err(|source| Error::io(path, source))?;
    let (source, footer) = read_footer(path, file).await?;
    let properties = source.properties(&footer).await?;
    let mut reservations = Vec::new();
    let filter = source.filter(properties.filter, cache, &mut reservations).await?;
    let tombstones = source.tombstones(properties.tombstones).await?;
    let partitions_end = properties.partitions.offset.saturating_add(u64::from(properties.partitions.len));
    let top = source.node(properties.top, &(properties.partitions.offset..partitions_end)).await?;
    let held =
        properties.tombstones.len as usize * 2 + top.as_ref().map_or(0, Node::byte_len) + size_of::<Inner>();
    reservations.push(cache.reserve_always(held));
    let partitions = match &top {
        Some(top) => source.partitions(top, &properties, cache, &mut reservations).await?,
        None => None,
    };
    let consistent = top.is_some() == (properties.meta.entries > 0)
        && tombstones.len() as u64 == properties.meta.range_tombstones
        && properties.data_end <= properties.partitions.offset;
    if !consistent {
        return Err(source.corrupt(footer.properties.offset, "the table's properties contradict its parts"));
    }
    let Source { file, salt, .. } = source;
    Ok(Inner {
        id,
        path: path.to_owned(),
        file,
        salt,
        cache: cache.clone(),
        cache_id: cache.add_table(),
        properties,
        filter,
        top,
        partitions,
        tombstones,
        reservations,
    })
}

async fn read_footer(path: &Path, file: File) -> Result<(Source<'_>, Footer)> {
    let file_len = file.len().await.map_err(|source| Error::io(path, source))?;
    if file_len < (HEADER_LEN + FOOTER_LEN) as u64 {
        let what = "the file is too short for a table";
        return Err(Error::Corrupt { file: path.to_owned(), offset: file_len, what });
    }
    let tail_at = file_len.saturating_sub(TAIL_LEN);
    let len = u32::try_from(file_len - tail_at).unwrap_or(0);
    let tail = read(&file, path, Section { offset: tail_at, len }).await?;
    let (_, last) = tail.split_at_checked(tail.len().saturating_sub(FOOTER_LEN)).unwrap_or_default();
    let footer = Footer::decode(last, file_len, path)?;
    Ok((Source { path, file, salt: footer.salt, tail_at, tail }, footer))
}

/// Reads a section whole.
pub(super) async fn read(file: &File, path: &Path, section: Section) -> Result<ReadBuffer> {
    let Section { offset, len } = section;
    let bytes = file.read_at(offset, len as usize).await.map_err(|source| Error::io(path, source))?;
    if bytes.len() == len as usize {
        return Ok(bytes);
    }
    Err(Error::Corrupt { file: path.to_owned(), offset, what: "the file ends within a block" })
}

impl Source<'_> {
    fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::Corrupt { file: self.path.to_owned(), offset, what }
    }

    /// The part in a frame.
    async fn part(&self, section: Section) -> Result<Vec<u8>> {
        if !(TRAILER_LEN..=FRAME_LEN_MAX).contains(&(section.len as usize)) {
            return Err(self.corrupt(section.offset, "a part of the table has a length that cannot be"));
        }
        let in_tail = section.offset.checked_sub(self.tail_at).and_then(|start| {
            let start = usize::try_from(start).ok()?;
            self.tail.get(start..start + section.len as usize)
        });
        let frame = match in_tail {
            Some(frame) => Cow::Borrowed(frame),
            None => Cow::Owned(read(&self.file, self.path, section).await?.to_vec()),
        };
        Ok(unseal(&frame, self.salt, section.offset, self.path)?.into_owned())
    }

    async fn properties(&self, footer: &Footer) -> Result<Properties> {
        let part = self.part(footer.properties).await?;
        let mut properties = Properties::decode(&part)
            .ok_or_else(|| self.corrupt(footer.properties.offset, "the table's properties are not valid"))?;
        properties.meta.file_len = footer.file_len;
        Ok(properties)
    }

    /// The filter, when there is one and there is room to keep it.
    async fn filter(
        &self,
        section: Section,
        cache: &Rc<BlockCache>,
        reservations: &mut Vec<Reservation>,
    ) -> Result<Option<Filter>> {
        if section.len == 0 {
            return Ok(None);
        }
        let Some(reservation) = cache.reserve(section.len as usize) else { return Ok(None) };
        reservations.push(reservation);
        let part = self.part(section).await?;
        let filter = Filter::decode(&part);
        filter
            .map(Some)
            .ok_or_else(|| self.corrupt(section.offset, "the table's filter is no whole number of lines"))
    }

    async fn tombstones(&self, section: Section) -> Result<Vec<RangeTombstone>> {
        if section.len == 0 {
            return Ok(Vec::new());
        }
        let part = self.part(section).await?;
        tombstones::decode(&part)
            .ok_or_else(|| self.corrupt(section.offset, "the table's range tombstones are not valid"))
    }

    async fn node(&self, section: Section, within: &Range<u64>) -> Result<Option<Node>> {
        if section.len == 0 {
            return Ok(None);
        }
        let block = Block::new(self.part(section).await?.into());
        Node::new(block, within).map(Some).map_err(|what| self.corrupt(section.offset, what))
    }

    /// All partitions, when there is room to keep them.
    async fn partitions(
        &self,
        top: &Node,
        properties: &Properties,
        cache: &Rc<BlockCache>,
        reservations: &mut Vec<Reservation>,
    ) -> Result<Option<Box<[Node]>>> {
        let expected = properties.partitions.len as usize * PARTITION_GROWTH;
        let Some(reservation) = cache.reserve(expected) else { return Ok(None) };
        let within = HEADER_LEN as u64..properties.data_end;
        let mut nodes = Vec::with_capacity(top.len());
        let mut sections = top.sections();
        while let Some(first) = sections.first() {
            let count = span(sections, first.offset);
            let (now, later) = sections.split_at_checked(count).unwrap_or((sections, &[]));
            let end = now.last().map_or(first.offset, |at| at.offset + u64::from(at.len));
            let len = u32::try_from(end - first.offset).unwrap_or(u32::MAX);
            let bytes = read(&self.file, self.path, Section { offset: first.offset, len }).await?;
            for at in now {
                let start = usize::try_from(at.offset - first.offset).unwrap_or(usize::MAX);
                let frame = bytes.get(start..start.saturating_add(at.len as usize)).unwrap_or_default();
                let part = unseal(frame, self.salt, at.offset, self.path)?;
                let node = Node::new(Block::new(part.into()), &within);
                nodes.push(node.map_err(|what| self.corrupt(at.offset, what))?);
                if should_yield() {
                    yield_now().await;
                }
            }
            sections = later;
        }
        drop(reservation);
        let nodes: Box<[Node]> = nodes.into();
        let held = nodes.iter().map(Node::byte_len).sum();
        reservations.push(cache.reserve_always(held));
        Ok(Some(nodes))
    }
}

/// How many of the sections, which follow each other, are read at once.
fn span(sections: &[Section], start: u64) -> usize {
    let fits = |at: &&Section| at.offset + u64::from(at.len) - start <= SPAN_MAX as u64;
    sections.iter().take_while(fits).count().max(1)
}
