//! Versions: which tables a tree has, in which order they are read.
//!
//! A version never changes; flush and compaction put a new one in its place. Who reads pins the version that it began with, and a
//! table that is no longer the tree's is removed when the last version that names it is gone.
//!
//! Invariants, for each family: the tables of level 0 are ordered by their sequences, the newest first, and their sequences do not
//! overlap; the tables of each other level are ordered by key and do not overlap; for each key, what is in a level is newer than what is
//! in those below.

use super::files::Files;
use crate::Error;
use crate::cache::BlockCache;
use crate::manifest::{LEVELS_MAX, TableRef, TreeState};
use crate::memtable::TombstoneSet;
use crate::table::{Table, TableId};
use pinion_types::ColumnFamily;
use pinion_types::map::HashMap;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// The last level.
pub(crate) const LAST_LEVEL: usize = LEVELS_MAX as usize - 1;

/// A table as a tree uses it: an open file, and the range within it that counts.
pub(crate) struct TableHandle {
    pub(crate) reference: TableRef,
    pub(crate) table: Table,
    /// The tree keys that count, `[first, end)`.
    pub(crate) first: Vec<u8>,
    pub(crate) end: Vec<u8>,
    /// Whether the file holds keys outside of that.
    pub(crate) is_clipped: bool,
    /// Its range tombstones, clipped.
    pub(crate) tombstones: TombstoneSet,
    /// Bytes of the file that count.
    pub(crate) bytes: u64,
    obsolete: Cell<bool>,
    files: Rc<Files>,
}

impl TableHandle {
    pub(crate) async fn open(
        reference: TableRef,
        directory: &Path,
        cache: &Rc<BlockCache>,
        files: &Rc<Files>,
    ) -> Result<Rc<Self>, Error> {
        let path = directory.join(reference.file_name());
        let table = Table::open(&path, TableId(reference.file), cache).await?;
        if *table.meta() != reference.meta {
            return Err(Error::Corrupt {
                file: path,
                offset: 0,
                what: "the table is not the one that the manifest means",
            });
        }
        Ok(Self::new(reference, table, files))
    }

    pub(crate) fn new(reference: TableRef, table: Table, files: &Rc<Files>) -> Rc<Self> {
        let (first, end) = reference.clipped();
        let unclipped = TableRef { bound_start: Vec::new(), bound_end: Vec::new(), ..reference.clone() };
        let is_clipped = unclipped.clipped() != (first.clone(), end.clone());
        let mut tombstones = TombstoneSet::default();
        for tombstone in table.range_tombstones() {
            let start = tombstone.start.as_slice().max(&first);
            tombstones.add(start, tombstone.end.as_slice().min(&end), tombstone.sequence);
        }
        let bytes = match is_clipped {
            true => table.approximate_size(&first, Some(&end)).max(1),
            false => reference.meta.file_len,
        };
        Rc::new(Self {
            reference,
            table,
            first,
            end,
            is_clipped,
            tombstones,
            bytes,
            obsolete: Cell::new(false),
            files: files.clone(),
        })
    }

    pub(crate) fn file(&self) -> u64 {
        self.reference.file
    }

    pub(crate) fn level(&self) -> usize {
        usize::from(self.reference.level)
    }

    /// About how many keys count: entries less the deleted ones, in proportion to the bytes that count.
    pub(crate) fn keys(&self) -> u64 {
        let meta = &self.reference.meta;
        let keys = meta.entries.saturating_sub(2 * meta.tombstones);
        match self.is_clipped {
            true => {
                u64::try_from(u128::from(keys) * u128::from(self.bytes) / u128::from(meta.file_len.max(1)))
                    .unwrap_or(keys)
            }
            false => keys,
        }
    }

    /// Whether a key may be in the table.
    #[inline]
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.first.as_slice() <= key && key < self.end.as_slice()
    }

    /// Whether the table has keys in `[start, end)`.
    pub(crate) fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        self.first.as_slice() < end && start < self.end.as_slice()
    }

    /// The tree no longer has the table: its file goes with the last reader.
    pub(crate) fn set_obsolete(&self) {
        self.obsolete.set(true);
    }
}

impl Drop for TableHandle {
    fn drop(&mut self) {
        if self.obsolete.get() {
            self.files.add_obsolete(self.reference.file);
        }
    }
}

/// The tables of one level, shared by who reads them.
pub(crate) type Tables = Rc<[Rc<TableHandle>]>;

/// One family's tables.
pub(crate) struct Levels(Vec<Tables>);

impl Levels {
    /// The tables of a level.
    pub(crate) fn level(&self, level: usize) -> &Tables {
        &self.0[level]
    }

    /// Every level's tables, from level 0.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tables> {
        self.0.iter()
    }

    /// All tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Rc<TableHandle>> {
        self.0.iter().flat_map(|tables| tables.iter())
    }

    /// The tables that may hold `key`, the newest first.
    #[inline]
    pub(crate) fn candidates<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Rc<TableHandle>> {
        let (level0, others) = self.0.split_first().expect("there is a level 0");
        let level0 = level0.iter().filter(move |table| table.contains(key));
        level0.chain(others.iter().filter_map(move |tables| table_of(tables, key)))
    }

    /// Bytes of a level.
    pub(crate) fn bytes(&self, level: usize) -> u64 {
        self.0[level].iter().map(|table| table.bytes).sum()
    }
}

/// The table of a level below 0 that may hold `key`.
#[inline]
fn table_of<'a>(tables: &'a Tables, key: &[u8]) -> Option<&'a Rc<TableHandle>> {
    let after = tables.partition_point(|table| table.first.as_slice() <= key);
    tables[..after].last().filter(|table| key < table.end.as_slice())
}

/// All tables of a tree.
pub(crate) struct Version {
    families: [Levels; ColumnFamily::ALL.len()],
    /// What compaction is behind, once it was asked for.
    pub(crate) debt: Cell<Option<u64>>,
    /// What would be left after compaction, once it was asked for.
    lasting: Cell<Option<Lasting>>,
}

/// About what is left of tables when compaction has done all it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lasting {
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
}

impl Version {
    /// Opens the tables of a state.
    pub(crate) async fn open(
        state: &TreeState,
        directory: &Path,
        cache: &Rc<BlockCache>,
        files: &Rc<Files>,
    ) -> Result<Self, Error> {
        let mut handles = Vec::new();
        for reference in &state.tables {
            handles.push(TableHandle::open(reference.clone(), directory, cache, files).await?);
        }
        Ok(Self::of(handles))
    }

    fn of(mut handles: Vec<Rc<TableHandle>>) -> Self {
        handles.sort_by(|a, b| {
            let newest_first = || b.reference.meta.largest_sequence.cmp(&a.reference.meta.largest_sequence);
            a.level().cmp(&b.level()).then_with(|| match a.level() {
                0 => newest_first().then_with(|| b.file().cmp(&a.file())),
                _ => a.first.cmp(&b.first).then_with(|| a.end.cmp(&b.end)),
            })
        });
        let mut parts: HashMap<(Option<ColumnFamily>, usize), Vec<Rc<TableHandle>>> = HashMap::default();
        for handle in handles {
            parts.entry((handle.reference.family(), handle.level())).or_default().push(handle);
        }
        let families = ColumnFamily::ALL.map(|family| {
            let level = |level| parts.remove(&(Some(family), level)).unwrap_or_default().into();
            Levels((0..=LAST_LEVEL).map(level).collect())
        });
        Self { families, debt: Cell::new(None), lasting: Cell::new(None) }
    }

    /// One family's tables.
    #[inline]
    pub(crate) fn family(&self, family: ColumnFamily) -> &Levels {
        &self.families[usize::from(family.as_byte())]
    }

    /// All tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Rc<TableHandle>> {
        self.families.iter().flat_map(Levels::tables)
    }

    /// About what would be left after compaction: what is in a range that a lower level has tables for counts as newer versions of what is there.
    /// Too little where much is new and compaction is behind, and never what is written over and over.
    pub(crate) fn lasting(&self) -> Lasting {
        if let Some(known) = self.lasting.get() {
            return known;
        }
        let mut lasting = Lasting::default();
        for levels in &self.families {
            // The counted tables' ranges, which do not overlap: ends by starts.
            let mut counted: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
            for table in levels.0.iter().rev().flat_map(|tables| tables.iter()) {
                let before = counted.range(..table.end.as_slice()).next_back();
                if before.is_none_or(|(_, end)| *end <= table.first.as_slice()) {
                    counted.insert(&table.first, &table.end);
                    lasting.bytes += table.bytes;
                    lasting.keys += table.keys();
                }
            }
        }
        self.lasting.set(Some(lasting));
        lasting
    }

    /// The version without the files `removed` and with the tables `added`.
    pub(crate) fn with(&self, removed: &[u64], added: &[Rc<TableHandle>]) -> Self {
        let kept = self.tables().filter(|table| !removed.contains(&table.file())).cloned();
        Self::of(kept.chain(added.iter().cloned()).collect())
    }

    /// The version that a state with the same files means, bounds and levels aside.
    pub(crate) fn rebound(&self, state: &TreeState, files: &Rc<Files>) -> Result<Self, Error> {
        let open: HashMap<u64, &Rc<TableHandle>> = self.tables().map(|table| (table.file(), table)).collect();
        let mut handles = Vec::new();
        for reference in &state.tables {
            let handle = open
                .get(&reference.file)
                .ok_or(Error::ManifestDamaged { what: "a state names an unknown table" })?;
            handles.push(TableHandle::new(reference.clone(), handle.table.clone(), files));
        }
        Ok(Self::of(handles))
    }
}
