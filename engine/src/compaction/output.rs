//! The tables that a flush or a compaction writes.
//!
//! A table ends where it is long enough, and always between two keys: all versions of a key are in one table. Range tombstones are cut where
//! tables end, so that the tables of a level do not overlap. Tables that were begun and are not wanted are removed.

use crate::Error;
use crate::manifest::TableRef;
use crate::table::{EntryRef, RangeTombstone, Table, TableId, TableOptions, TableWriter};
use crate::tree::{TableHandle, Tables, Tree};
use std::rc::Rc;

/// A table ends when it overlaps with so many times its own limit of the level below: moving it down would cost as much.
const OVERLAP_MAX: u64 = 10;

/// Writes the tables of one family to one level.
pub(super) struct Output {
    tree: Tree,
    level: u8,
    options: TableOptions,
    /// Bytes at which a table ends.
    limit: u64,
    /// The level below the output's.
    below: Tables,
    below_next: usize,
    overlap: u64,
    tombstones: Vec<RangeTombstone>,
    writer: Option<TableWriter>,
    /// The first key that the current table may have; empty for the first table.
    lower: Vec<u8>,
    /// Files that were begun.
    files: Vec<u64>,
    done: Vec<TableRef>,
}

impl Output {
    pub(super) fn new(
        tree: Tree,
        level: usize,
        limit: u64,
        below: Tables,
        tombstones: Vec<RangeTombstone>,
        is_last_level: bool,
    ) -> Self {
        let options = tree.0.env.options.table_options(is_last_level);
        Self {
            tree,
            level: u8::try_from(level).expect("levels are few"),
            options,
            limit,
            below,
            below_next: 0,
            overlap: 0,
            tombstones,
            writer: None,
            lower: Vec::new(),
            files: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Adds an entry when that needs no waiting; `None` asks for [`prepare`](Self::prepare) before, `Some(true)` for
    /// [`drain`](Self::drain) afterwards. `begins_key`: no version of its key was added.
    #[inline]
    pub(super) fn push(&mut self, entry: EntryRef<'_>, begins_key: bool) -> Option<bool> {
        if begins_key && self.should_end(entry.key) {
            return None;
        }
        self.writer.as_mut().map(|writer| writer.push(entry))
    }

    /// Ends the current table when it is long enough, and begins the next one.
    pub(super) async fn prepare(&mut self, key: &[u8], begins_key: bool) -> Result<(), Error> {
        if begins_key && self.should_end(key) {
            self.end_table(Some(key)).await?;
        }
        if self.writer.is_none() {
            self.begin_table().await?;
        }
        Ok(())
    }

    pub(super) async fn drain(&mut self) -> Result<(), Error> {
        match &mut self.writer {
            Some(writer) => writer.drain().await,
            None => Ok(()),
        }
    }

    /// Ends the last table, makes all of them durable with their names, and opens them.
    pub(super) async fn finish(&mut self) -> Result<Vec<Rc<TableHandle>>, Error> {
        self.end_table(None).await?;
        let inner = &self.tree.0;
        let mut tables = Vec::new();
        for reference in &self.done {
            let path = inner.files.path(reference.file);
            let table = Table::open(&path, TableId(reference.file), &inner.env.cache).await?;
            tables.push(TableHandle::new(reference.clone(), table, &inner.files));
        }
        if !tables.is_empty() {
            inner.files.sync().await?;
        }
        Ok(tables)
    }

    /// Gives up: what was written is removed with the next purge.
    pub(super) fn discard(&mut self) {
        self.writer = None;
        for file in self.files.drain(..) {
            self.tree.0.files.add_obsolete(file);
        }
    }

    /// The tables are the tree's now.
    pub(super) fn keep(&mut self) {
        self.files.clear();
    }

    /// Whether the current table ends before `key`.
    #[inline]
    fn should_end(&mut self, key: &[u8]) -> bool {
        if self.below_next < self.below.len() {
            self.count_overlap(key);
        }
        self.writer.as_ref().is_some_and(|writer| {
            writer.entries() > 0
                && (writer.estimated_len() >= self.limit
                    || self.overlap >= self.limit.saturating_mul(OVERLAP_MAX))
        })
    }

    fn count_overlap(&mut self, key: &[u8]) {
        while let Some(table) = self.below.get(self.below_next).filter(|table| table.end.as_slice() <= key) {
            self.overlap += table.bytes;
            self.below_next += 1;
        }
    }

    async fn begin_table(&mut self) -> Result<(), Error> {
        let file = self.tree.0.files.allocate();
        self.files.push(file);
        self.writer = Some(TableWriter::create(self.tree.0.files.path(file), self.options).await?);
        self.overlap = 0;
        Ok(())
    }

    /// Ends the current table before `border`, the first key of the next one.
    async fn end_table(&mut self, border: Option<&[u8]>) -> Result<(), Error> {
        let tombstones = clip(&self.tombstones, &self.lower, border);
        if self.writer.is_none() && !tombstones.is_empty() {
            self.begin_table().await?;
        }
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        for tombstone in tombstones {
            writer.add_range_tombstone(tombstone);
        }
        let meta = writer.finish().await?;
        let file = *self.files.last().expect("a table that was begun has a file");
        self.done.push(TableRef { file, level: self.level, meta, ..TableRef::default() });
        self.lower = border.map(<[u8]>::to_vec).unwrap_or_default();
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.discard();
    }
}

/// What of the tombstones lies in `[lower, upper)`.
fn clip(tombstones: &[RangeTombstone], lower: &[u8], upper: Option<&[u8]>) -> Vec<RangeTombstone> {
    let clipped = tombstones.iter().map(|tombstone| {
        let end = tombstone.end.as_slice();
        RangeTombstone {
            start: tombstone.start.as_slice().max(lower).to_vec(),
            end: upper.map_or(end, |upper| end.min(upper)).to_vec(),
            sequence: tombstone.sequence,
        }
    });
    clipped.filter(|tombstone| tombstone.start < tombstone.end).collect()
}
