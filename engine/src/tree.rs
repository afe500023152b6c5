//! The LSM tree of a region.
//!
//! Writes go to the active memtable, without waiting and without a log: the core's log holds them already. A full memtable is rotated, and
//! flushed to a table of level 0; compaction merges tables down the levels. All three column families share the memtable's arena, its
//! sequences and one applied position, so that flushing is atomic across them; below that each family has its own tables.
//!
//! Invariants:
//! - every operation has a sequence, one more than the one before; a reader sees what is at or below its own;
//! - for each key, what a reader asks earlier (active memtable, older memtables, level 0, level 1 …) is newer than what it asks later;
//! - what readers see is one immutable [`View`]; rotating, flushing and compacting put another in its place;
//! - `flushed` moves only when tables, their names and the manifest's edit are durable.
//!
//! Cost: a lookup that ends in the memtable waits for nothing and copies the value; one that ends in a cached block copies nothing.
//!
//! Paper: O'Neil et al., "The Log-Structured Merge-Tree", 1996.

mod files;
mod flush;
mod iterator;
mod merging;
mod options;
mod snapshot;
mod source;
mod space;
mod turn;
mod version;

pub use self::iterator::{IterOptions, TreeIterator};
pub use self::options::TreeOptions;
pub use self::snapshot::TreeSnapshot;
pub use self::space::TreeSize;

pub(crate) use self::files::Files;
use self::flush::Flushed;
pub(crate) use self::merging::Merging;
pub(crate) use self::source::{Source, TablesSource};
pub(crate) use self::turn::Turn;
pub(crate) use self::version::{LAST_LEVEL, Levels, TableHandle, Tables, Version};

use crate::Error;
use crate::batch::BatchView;
use crate::cache::BlockCache;
use crate::compaction::Compactor;
use crate::manifest::{ManifestEdit, TableRef, TreeState};
use crate::memtable::{MEMTABLE_BYTES_MAX, Memtable};
use crate::table::{EntryKind, Found, Lookup, Value, hash_key};
use futures_util::future::LocalBoxFuture;
use pinion_types::{ColumnFamily, LogIndex, Term};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

/// How a tree makes a step of its manifest durable.
pub trait EditSink {
    /// Makes the edit durable. Edits come one at a time, in the order of their numbers.
    ///
    /// # Errors
    /// When that failed, or when it is not known whether it did. The tree then takes no more edits.
    fn commit(&self, edit: ManifestEdit) -> LocalBoxFuture<'_, Result<(), Error>>;
}

/// Decides during compaction what is not worth keeping, for instance because it has expired.
pub trait CompactionFilter {
    /// Whether the newest version of a stored key is still wanted. What is not becomes a tombstone. Versions that a snapshot sees are not
    /// asked about. Replicas must come to agree, and entries behind what is flushed are applied again after a crash and must find what
    /// they found: so the answer may depend on nothing but the mark that the tree had when it was last flushed ([`Tree::set_mark`]).
    fn keep(&self, family: ColumnFamily, key: &[u8], value: &[u8], mark: u64) -> bool;
}

/// What the trees of a core share.
pub struct TreeEnv {
    /// Settings.
    pub options: TreeOptions,
    /// The core's cache.
    pub cache: Rc<BlockCache>,
    /// Drops expired data in compaction.
    pub filter: Option<Rc<dyn CompactionFilter>>,
}

impl TreeEnv {
    /// An environment without a compaction filter.
    pub fn new(options: TreeOptions, cache: Rc<BlockCache>) -> Self {
        Self { options, cache, filter: None }
    }

    /// The same with a compaction filter.
    #[must_use]
    pub fn with_filter(self, filter: Rc<dyn CompactionFilter>) -> Self {
        Self { filter: Some(filter), ..self }
    }
}

/// A region's tree. Clones share it.
#[derive(Clone)]
pub struct Tree(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub(crate) env: Rc<TreeEnv>,
    sink: Rc<dyn EditSink>,
    pub(crate) files: Rc<Files>,
    view: RefCell<Rc<View>>,
    /// What the manifest says.
    state: RefCell<TreeState>,
    /// How many snapshots there are at each sequence.
    snapshots: RefCell<BTreeMap<u64, usize>>,
    committing: Rc<Turn>,
    flushing: Rc<Turn>,
    pub(crate) compactor: Compactor,
    /// The owner's mark now, and when what is flushed was applied.
    mark: Cell<u64>,
    pub(crate) flushed_mark: Cell<u64>,
    /// Whether it is unknown what the manifest says.
    uncertain: Cell<bool>,
    /// The region has another tree now, or none.
    retired: Cell<bool>,
    /// The tree key of the lookup at hand.
    key: RefCell<Vec<u8>>,
}

/// What readers see.
pub(crate) struct View {
    active: Rc<Memtable>,
    /// Rotated and not flushed yet, the newest first.
    rotated: Vec<Rc<Memtable>>,
    pub(crate) version: Rc<Version>,
}

impl View {
    /// All memtables, the newest first.
    fn memtables(&self) -> impl Iterator<Item = &Rc<Memtable>> {
        std::iter::once(&self.active).chain(&self.rotated)
    }
}

impl Tree {
    /// Opens the tree in `directory` as `state` says. Tables there that the state does not name are removed.
    ///
    /// # Errors
    /// When a table is missing, damaged, or not the one that the state means.
    pub async fn open(
        env: Rc<TreeEnv>,
        sink: Rc<dyn EditSink>,
        directory: PathBuf,
        state: TreeState,
    ) -> Result<Self, Error> {
        let files = Rc::new(Files::new(directory, state.next_file));
        files.remove_strays(&state).await?;
        Self::open_with(env, sink, files, state).await
    }

    /// The same in a directory that has tables of another tree too, which stay.
    pub(crate) async fn open_beside(
        env: Rc<TreeEnv>,
        sink: Rc<dyn EditSink>,
        directory: PathBuf,
        state: TreeState,
    ) -> Result<Self, Error> {
        let files = Rc::new(Files::new(directory, state.next_file));
        Self::open_with(env, sink, files, state).await
    }

    async fn open_with(
        env: Rc<TreeEnv>,
        sink: Rc<dyn EditSink>,
        files: Rc<Files>,
        state: TreeState,
    ) -> Result<Self, Error> {
        let version = Version::open(&state, &files.directory(), &env.cache, &files).await?;
        let active = Rc::new(Memtable::new(state.applied(), state.last_sequence));
        let view = View { active, rotated: Vec::new(), version: Rc::new(version) };
        Ok(Self(Rc::new(Inner {
            env,
            sink,
            files,
            view: RefCell::new(Rc::new(view)),
            state: RefCell::new(state),
            snapshots: RefCell::default(),
            committing: Rc::default(),
            flushing: Rc::default(),
            compactor: Compactor::default(),
            mark: Cell::new(0),
            flushed_mark: Cell::new(0),
            uncertain: Cell::new(false),
            retired: Cell::new(false),
            key: RefCell::default(),
        })))
    }

    /// Applies a batch. It never waits; who writes looks at [`write_pressure`](Self::write_pressure) before. `applied` is the position of
    /// the Raft entry that the batch comes from; entries without writes have an empty batch.
    pub fn write<'a>(&self, batch: impl Into<BatchView<'a>>, applied: (LogIndex, Term)) {
        let full = {
            let view = self.0.view.borrow();
            view.active.write(batch.into(), applied);
            view.active.allocated_bytes() >= MEMTABLE_BYTES_MAX
        };
        if full {
            self.rotate();
        }
    }

    /// Notes up to where the owner has come with the entry that is about to be applied; what that means is between it and the compaction
    /// filter. A mark never goes back.
    pub fn set_mark(&self, mark: u64) {
        self.0.mark.set(self.0.mark.get().max(mark));
    }

    /// The value of a stored key, when nothing must be read for it; `None` asks for [`get`](Self::get).
    #[inline]
    pub fn get_cached(&self, family: ColumnFamily, key: &[u8]) -> Option<Option<Value>> {
        self.get_cached_at(family, key, self.last_sequence())
    }

    /// Asks the memory for what [`get_cached`](Self::get_cached) of these stored keys looks at in memtables. For the keys of a batch that are
    /// read next: together they wait about as long as one.
    pub fn touch(&self, family: ColumnFamily, keys: &[&[u8]]) {
        self.0.view.borrow().memtables().for_each(|memtable| memtable.touch(family, keys));
    }

    /// The value of a stored key.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged.
    pub async fn get(&self, family: ColumnFamily, key: &[u8]) -> Result<Option<Value>, Error> {
        self.get_at(family, key, self.last_sequence()).await
    }

    #[expect(
        clippy::option_option,
        reason = "what is not known yet is something else than what is not there"
    )]
    fn get_cached_at(&self, family: ColumnFamily, key: &[u8], at: u64) -> Option<Option<Value>> {
        let view = self.0.view.borrow();
        let mut tree_key = self.0.key.borrow_mut();
        tree_key.clear();
        tree_key.push(family.as_byte());
        tree_key.extend_from_slice(key);
        let key = tree_key.as_slice();
        if let Some(found) = view.get_in_memtables(family, key, at) {
            return Some(found);
        }
        let hash = hash_key(key);
        for table in view.version.family(family).candidates(key) {
            let deleted = table.tombstones.newest_over(key, at);
            match table.table.get_cached(key, hash, at) {
                Lookup::NeedsRead => return None,
                Lookup::Found(found) => return Some(visible(found, deleted)),
                Lookup::Absent if deleted > 0 => return Some(None),
                Lookup::Absent => {}
            }
        }
        Some(None)
    }

    async fn get_at(&self, family: ColumnFamily, key: &[u8], at: u64) -> Result<Option<Value>, Error> {
        if let Some(found) = self.get_cached_at(family, key, at) {
            return Ok(found);
        }
        let view = self.view();
        let tree_key = [&[family.as_byte()], key].concat();
        let key = tree_key.as_slice();
        if let Some(found) = view.get_in_memtables(family, key, at) {
            return Ok(found);
        }
        let hash = hash_key(key);
        for table in view.version.family(family).candidates(key) {
            let deleted = table.tombstones.newest_over(key, at);
            match table.table.get(key, hash, at).await? {
                Some(found) => return Ok(visible(found, deleted)),
                None if deleted > 0 => return Ok(None),
                None => {}
            }
        }
        Ok(None)
    }

    /// An iterator over the keys of a family in `[start, end)`, stored keys, as they are now. An empty `end` is the family's end.
    #[expect(clippy::iter_not_returning_iterator, reason = "its steps may wait")]
    pub fn iter(&self, family: ColumnFamily, start: &[u8], end: &[u8], options: IterOptions) -> TreeIterator {
        TreeIterator::new(self.view(), family, start, end, self.last_sequence(), options)
    }

    /// The tree as it is now, for as long as the snapshot is kept. It keeps old versions from being dropped.
    pub fn snapshot(&self) -> TreeSnapshot {
        TreeSnapshot::new(self.clone(), self.last_sequence())
    }

    /// The last Raft entry that was applied.
    pub fn applied(&self) -> (LogIndex, Term) {
        self.0.view.borrow().active.applied()
    }

    /// The last Raft entry whose writes, and those of all before it, are in tables.
    pub fn flushed(&self) -> (LogIndex, Term) {
        self.0.state.borrow().applied()
    }

    /// The sequence of the last write.
    pub fn last_sequence(&self) -> u64 {
        self.0.view.borrow().active.last_sequence()
    }

    /// Bytes of all memtables, those that wait to be flushed among them.
    pub fn memtable_bytes(&self) -> usize {
        self.0.view.borrow().memtables().map(|memtable| memtable.allocated_bytes()).sum()
    }

    /// Whether a memtable is full or waits to be flushed.
    pub fn wants_flush(&self) -> bool {
        let view = self.0.view.borrow();
        !view.rotated.is_empty() || view.active.allocated_bytes() >= self.0.env.options.memtable_bytes
    }

    /// How far flushing and compacting are behind: at 1 writers should be slowed, the more the higher it is.
    pub fn write_pressure(&self) -> f64 {
        let options = &self.0.env.options;
        let view = self.0.view.borrow();
        let level0 = ColumnFamily::ALL.map(|family| view.version.family(family).level(0).len());
        let memtables = ratio(view.rotated.len() as u64, options.memtables_waiting_max as u64);
        let tables = ratio(level0.into_iter().max().unwrap_or(0) as u64, options.level0_tables_max as u64);
        drop(view);
        memtables.max(tables).max(ratio(self.compaction_debt(), options.debt_bytes_max))
    }

    /// What the manifest says.
    pub fn state(&self) -> TreeState {
        self.0.state.borrow().clone()
    }

    /// Puts the state that a structural step made durable in place: the same files with narrower bounds, or fewer of them.
    ///
    /// # Panics
    /// When the memtable is not empty: what is not flushed has no place in a state.
    ///
    /// # Errors
    /// When the state names a file that the tree does not have.
    pub async fn install(&self, state: TreeState) -> Result<(), Error> {
        self.0.compactor.abandon().await;
        let view = self.view();
        assert!(view.memtables().all(|memtable| memtable.is_empty()), "a structural step follows a flush");
        let version = Rc::new(view.version.rebound(&state, &self.0.files)?);
        for table in view.version.tables() {
            if state.tables.iter().all(|kept| kept.file != table.file()) {
                table.set_obsolete();
            }
        }
        let sequence = self.last_sequence().max(state.last_sequence);
        let active = Rc::new(Memtable::new(state.applied(), sequence));
        *self.0.view.borrow_mut() = Rc::new(View { active, rotated: Vec::new(), version });
        *self.0.state.borrow_mut() = state;
        Ok(())
    }

    /// Ends the tree's part: the region has another, or none. Nothing of it becomes durable any more, neither tables nor edits; who has it reads
    /// on, and writes to memory that goes with it. Its tables become obsolete, each with its last reader. Gives its files, which are gone
    /// when nobody else has them.
    pub(crate) async fn retire(&self) -> Rc<Files> {
        self.0.retired.set(true);
        self.0.compactor.abandon().await;
        for table in self.version().tables() {
            table.set_obsolete();
        }
        self.0.files.clone()
    }

    /// Removes tables in its directory that are not its own, where nobody else makes any.
    pub(crate) async fn remove_strays(&self) -> Result<(), Error> {
        self.0.files.remove_strays(&self.state()).await
    }

    /// The number that the tree's next file would have.
    pub(crate) fn next_file(&self) -> u64 {
        self.0.files.next()
    }

    /// Files below `next` have numbers that the tree does not give any more.
    pub(crate) fn skip_files(&self, next: u64) {
        self.0.files.skip_to(next);
    }

    /// Files with skipped numbers that nobody uses are removed with the next that are.
    pub(crate) fn give_back_files(&self, files: &[u64]) {
        for file in files {
            self.0.files.add_obsolete(*file);
        }
    }

    /// What a retired tree answers who would change its manifest or its files.
    pub(crate) fn check_not_retired(&self) -> Result<(), Error> {
        if self.0.retired.get() { Err(Error::TreeRetired) } else { Ok(()) }
    }

    /// Gives up the compaction that is under way, if one is.
    pub(crate) async fn give_compaction_up(&self) {
        self.0.compactor.abandon().await;
    }

    /// Removes files that nobody reads any more. Flushing and compacting do so too.
    ///
    /// # Errors
    /// When a file could not be removed; it is tried again the next time.
    pub async fn purge_obsolete(&self) -> Result<(), Error> {
        self.0.files.purge().await
    }

    /// Whether there are files for [`purge_obsolete`](Self::purge_obsolete).
    pub fn has_obsolete(&self) -> bool {
        self.0.files.has_obsolete()
    }

    pub(crate) fn view(&self) -> Rc<View> {
        self.0.view.borrow().clone()
    }

    pub(crate) fn version(&self) -> Rc<Version> {
        self.0.view.borrow().version.clone()
    }

    /// The sequences of all snapshots, ascending.
    pub(crate) fn snapshot_sequences(&self) -> Vec<u64> {
        self.0.snapshots.borrow().keys().copied().collect()
    }

    /// Makes a step of the manifest durable, then lets readers see it.
    pub(crate) async fn commit(
        &self,
        removed: &[u64],
        added: &[Rc<TableHandle>],
        flushed: Option<&Flushed>,
    ) -> Result<(), Error> {
        let turn = self.0.committing.take().await;
        self.check_not_retired()?;
        if self.0.uncertain.get() {
            return Err(Error::ManifestUncertain);
        }
        let (edit, next) = self.edit(removed, added, flushed)?;
        if let Err(error) = self.0.sink.commit(edit).await {
            self.0.uncertain.set(true);
            return Err(error);
        }
        *self.0.state.borrow_mut() = next;
        let view = self.view();
        let version = view.version.with(removed, added);
        for table in view.version.tables() {
            if removed.contains(&table.file()) && added.iter().all(|moved| moved.file() != table.file()) {
                table.set_obsolete();
            }
        }
        let memtables = flushed.map(|flushed| flushed.memtables.as_slice()).unwrap_or_default();
        let is_flushed =
            |memtable: &&Rc<Memtable>| memtables.iter().any(|flushed| Rc::ptr_eq(flushed, memtable));
        *self.0.view.borrow_mut() = Rc::new(View {
            active: view.active.clone(),
            rotated: view.rotated.iter().filter(|memtable| !is_flushed(memtable)).cloned().collect(),
            version: Rc::new(version),
        });
        drop(turn);
        Ok(())
    }

    /// The next edit, and the state after it.
    fn edit(
        &self,
        removed: &[u64],
        added: &[Rc<TableHandle>],
        flushed: Option<&Flushed>,
    ) -> Result<(ManifestEdit, TreeState), Error> {
        let mut state = self.state();
        let (index, term) = flushed.map_or(state.applied(), |flushed| flushed.applied);
        let edit = ManifestEdit {
            number: state.edit + 1,
            removed: removed.to_vec(),
            added: added.iter().map(|table| table.reference.clone()).collect::<Vec<TableRef>>(),
            last_sequence: flushed.map_or(state.last_sequence, |flushed| flushed.last_sequence),
            applied_index: index.0,
            applied_term: term.0,
            next_file: self.0.files.next(),
        };
        state.apply(&edit)?;
        Ok((edit, state))
    }
}

impl View {
    /// What the memtables say of a tree key: its value or that it has none; `None` when they say nothing.
    #[inline]
    #[expect(
        clippy::option_option,
        reason = "what is not known yet is something else than what is not there"
    )]
    fn get_in_memtables(&self, family: ColumnFamily, key: &[u8], at: u64) -> Option<Option<Value>> {
        for memtable in self.memtables() {
            match memtable.get(family, key, at) {
                (Some(found), deleted) => return Some(visible(found, deleted)),
                (None, 0) => {}
                // All that is older is deleted.
                (None, _) => return Some(None),
            }
        }
        None
    }
}

fn visible(found: Found, deleted: u64) -> Option<Value> {
    (found.kind == EntryKind::Put && found.sequence > deleted).then_some(found.value)
}

#[expect(clippy::cast_precision_loss, reason = "a pressure needs three digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests;
