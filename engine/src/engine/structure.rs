//! Steps that touch several trees or streams. Each has one commit point: one append to the log, which is durable as a whole or not at all.
//!
//! The order is always the same: what the step needs on disk is made and synced under names that nothing refers to yet; then the one append;
//! then memory follows. A crash before the append leaves files without a record, which the next start removes; a crash after it leaves a
//! record, from which the next start comes to the same end.

use super::edits::{KIND_META, KIND_STATE, LogSink, ManifestLog, payload};
use super::region::{Held, OpenRegion};
use super::statistics::count;
use super::{Engine, RecoveredRegion};
use crate::Error;
use crate::log::{Durability, LogEntry, Record};
use crate::manifest::TreeState;
use crate::tree::Tree;
use bytes::Bytes;
use pinion_runtime::fs;
use pinion_types::region::INITIAL_POSITION;
use pinion_types::{LogIndex, Region, RegionId, Term};
use std::rc::Rc;

/// Bytes of log entries that are copied at a time when a region changes cores.
const COPY_BYTES_MAX: usize = 4 << 20;

/// A region that is to be made.
#[derive(Clone, Debug)]
pub struct NewTree {
    /// Its id.
    pub id: RegionId,
    /// Its range.
    pub start: Vec<u8>,
    /// First stored key after it; empty for no end.
    pub end: Vec<u8>,
    /// The owner's description of it.
    pub meta: Bytes,
    /// How often the region has changed cores on this store; 0 for one that was never here. Of two logs that hold a region the higher counts:
    /// one that is made anew after it was removed gets a higher generation than it had, or a log that had not heard of the removal when the
    /// power went would count as much.
    pub generation: u64,
}

impl NewTree {
    /// The tree of a region that a bootstrap or a split makes.
    pub fn of_split(region: &Region, meta: Bytes) -> Self {
        Self { id: region.id, start: region.start.clone(), end: region.end.clone(), meta, generation: 0 }
    }
}

/// What a core needs to take a region over from another.
#[derive(Clone, Debug)]
pub struct PackedRegion {
    id: RegionId,
    generation: u64,
    meta: Bytes,
    state: Vec<u8>,
    hard_state: (Term, u64, LogIndex),
    compacted: (LogIndex, Term),
    entries: Vec<LogEntry>,
}

impl PackedRegion {
    /// The region's id.
    pub fn id(&self) -> RegionId {
        self.id
    }
}

/// The hard state with which a new region begins: everything up to the initial position counts as committed.
const INITIAL_HARD_STATE: (Term, u64, LogIndex) = (INITIAL_POSITION.1, 0, INITIAL_POSITION.0);

impl Engine {
    /// Makes a new store: its identity and its first regions, in one append.
    pub async fn bootstrap(
        &self,
        identity: Bytes,
        regions: Vec<NewTree>,
    ) -> Result<Vec<RecoveredRegion>, Error> {
        let mut made = Vec::new();
        for region in regions {
            made.push(self.make_empty(region, INITIAL_POSITION, INITIAL_HARD_STATE).await?);
        }
        let mut records = vec![Record::Structure { payload: &identity }];
        for region in &made {
            region.records(&mut records);
        }
        self.0.log.append(&records, Durability::Sync).await?;
        self.open_made(made).await
    }

    /// Makes one region, which has nothing, in one append. Its log begins behind `position`, which counts as applied; (0, 0) makes a peer
    /// that has yet to hear of anything. `hard_state` is Raft's: term, vote (0 for none), commit index. A region that this log held before
    /// under the same id leaves no trace.
    ///
    /// # Errors
    /// When the region is open on this core; when its directory or the append fails, and there is then no region.
    pub async fn create_region(
        &self,
        new: NewTree,
        position: (LogIndex, Term),
        hard_state: (Term, u64, LogIndex),
    ) -> Result<RecoveredRegion, Error> {
        let made = self.make_empty(new, position, hard_state).await?;
        let mut records = Vec::new();
        made.records(&mut records);
        self.0.log.append(&records, Durability::Sync).await?;
        count(&self.0.counters.regions_created);
        self.open_one(made).await
    }

    /// Makes the directory of a region that has nothing.
    async fn make_empty(
        &self,
        new: NewTree,
        position: (LogIndex, Term),
        hard_state: (Term, u64, LogIndex),
    ) -> Result<Made, Error> {
        self.make_directory(new.id).await?;
        let (index, term) = position;
        let state = TreeState { applied_index: index.0, applied_term: term.0, ..TreeState::default() };
        Ok(Made::new(new, state, position, hard_state))
    }

    /// Splits a region whose entry at `position` says so: it keeps what is before `parent`'s new end, and each child gets its part. Tables
    /// are shared by hard links, each with the bound of its new owner. `narrowed` is called when the parent's tree no longer has the children's
    /// keys, before anything else runs: whoever reads must know by then.
    ///
    /// A child may be on this core already as a peer that has nothing: a message of its group came before the split. It gets its part and keeps
    /// its vote. The caller has stopped appending to its stream.
    ///
    /// # Errors
    /// When the region is not on this core, a child is there and has something, or a link or the append fails.
    pub async fn split(
        &self,
        id: RegionId,
        position: (LogIndex, Term),
        parent: NewTree,
        children: Vec<NewTree>,
        narrowed: impl FnOnce(),
    ) -> Result<Vec<RecoveredRegion>, Error> {
        let region = self.region(id).ok_or(Error::NoSuchRegion { region: id })?;
        let _held = self.hold(&region).await?;
        self.split_held(&region, position, parent, children, narrowed).await
    }

    async fn split_held(
        &self,
        region: &Rc<OpenRegion>,
        position: (LogIndex, Term),
        parent: NewTree,
        children: Vec<NewTree>,
        narrowed: impl FnOnce(),
    ) -> Result<Vec<RecoveredRegion>, Error> {
        self.flush_now(region).await?;
        let whole = region.tree.state();
        let (index, term) = INITIAL_POSITION;
        let mut made = Vec::new();
        let mut awaited = Vec::new();
        for child in children {
            let mut state = whole.bounded(&child.start, &child.end);
            (state.applied_index, state.applied_term) = (index.0, term.0);
            let there = self.hold_awaited(child.id).await?;
            let hard_state = self.hard_state_of_child(child.id);
            let generation = there.as_ref().map_or(child.generation, |there| there.region().generation);
            self.link_tables(region.id, child.id, &state, there.is_some()).await?;
            made.push(Made::new(NewTree { generation, ..child }, state, INITIAL_POSITION, hard_state));
            awaited.extend(there);
        }
        let mut kept = whole.bounded(&parent.start, &parent.end);
        kept.edit += 1;
        (kept.applied_index, kept.applied_term) = (position.0.0, position.1.0);
        let kept_state = payload(KIND_STATE, &kept.to_bytes());
        let kept_meta = payload(KIND_META, &parent.meta);
        let mut records = vec![
            Record::Edit { stream: region.id, payload: &kept_state },
            Record::Edit { stream: region.id, payload: &kept_meta },
        ];
        for region in &made {
            region.records(&mut records);
        }
        let split = self.0.log.append(&records, Durability::Sync);
        let sequence = self.0.log.last_sequence(region.id);
        split.await?;
        region.manifest.set_meta(parent.meta);
        region.tree.install(kept).await?;
        narrowed();
        region.manifest.installed(sequence);
        count(&self.0.counters.splits);
        for child in awaited {
            // It has no tables.
            child.region().tree.retire().await;
        }
        self.open_made(made).await
    }

    /// Holds a child of a split that is on this core already.
    async fn hold_awaited(&self, id: RegionId) -> Result<Option<Held>, Error> {
        let Some(there) = self.region(id) else { return Ok(None) };
        let held = self.hold(&there).await?;
        let has_nothing = there.tree.applied().0 == LogIndex(0) && self.0.log.last_index(id) == LogIndex(0);
        if !has_nothing {
            return Err(Error::RegionExists { region: id });
        }
        // A split that failed may have left links.
        there.tree.remove_strays().await?;
        Ok(Some(held))
    }

    /// The hard state with which a child of a split begins: its own, when a peer of it has voted in a later term.
    fn hard_state_of_child(&self, id: RegionId) -> (Term, u64, LogIndex) {
        let (term, vote, commit) = self.0.log.hard_state(id).max(INITIAL_HARD_STATE);
        (term, vote, commit.max(INITIAL_POSITION.0))
    }

    /// Packs a region whose tree is flushed, for another core to take over. From here on this core neither flushes nor compacts it.
    pub async fn pack(&self, id: RegionId, meta: Bytes) -> Result<PackedRegion, Error> {
        let region = self.region(id).ok_or(Error::NoSuchRegion { region: id })?;
        let held = self.hold(&region).await?;
        let packed = self.pack_held(&region, meta).await?;
        held.keep();
        Ok(packed)
    }

    async fn pack_held(&self, region: &Rc<OpenRegion>, meta: Bytes) -> Result<PackedRegion, Error> {
        self.flush_now(region).await?;
        region.tree.give_compaction_up().await;
        let log = &self.0.log;
        let id = region.id;
        let last = log.last_index(id);
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut next = log.first_index(id).max(region.compacted.get().0.next());
        while next <= last {
            let part = log.entries(id, next, last.next(), COPY_BYTES_MAX).await?;
            next = part.last().map_or(last.next(), |entry| entry.index.next());
            entries.extend(part);
        }
        Ok(PackedRegion {
            id,
            generation: region.generation + 1,
            meta,
            state: region.tree.state().to_bytes(),
            hard_state: log.hard_state(id),
            compacted: region.compacted.get(),
            entries,
        })
    }

    /// The other core did not take the region: this one goes on.
    pub fn unpack_refused(&self, id: RegionId) {
        if let Some(region) = self.region(id) {
            region.let_go();
            self.0.maintenance.ring();
        }
    }

    /// Takes a packed region over: its stream in this core's log, with the next generation, then its tree.
    pub async fn unpack(&self, packed: PackedRegion) -> Result<RecoveredRegion, Error> {
        let stream = packed.id;
        let state = payload(KIND_STATE, &packed.state);
        let meta = payload(KIND_META, &packed.meta);
        let (term, vote, commit) = packed.hard_state;
        let mut records = vec![
            Record::Adopt { stream, generation: packed.generation },
            Record::Edit { stream, payload: &state },
            Record::Edit { stream, payload: &meta },
            Record::Compact { stream, index: packed.compacted.0, term: packed.compacted.1 },
            Record::HardState { stream, term, vote, commit },
        ];
        count(&self.0.counters.moves);
        records.extend(packed.entries.iter().map(|entry| Record::Entry {
            stream,
            index: entry.index,
            term: entry.term,
            kind: entry.kind,
            payload: &entry.payload,
        }));
        self.0.log.append(&records, Durability::Sync).await?;
        self.open_region(
            stream,
            packed.generation,
            TreeState::from_bytes(&packed.state)?,
            packed.meta,
            packed.compacted,
        )
        .await
    }

    /// Forgets a region that another core has taken over; its files are that core's.
    pub fn forget(&self, id: RegionId) {
        self.0.regions.borrow_mut().remove(&id);
        self.0.log.remove_stream(id);
    }

    /// Makes a region's directory, empty and durable.
    pub(super) async fn make_directory(&self, id: RegionId) -> Result<std::path::PathBuf, Error> {
        if self.region(id).is_some() {
            return Err(Error::RegionExists { region: id });
        }
        let directory = self.region_directory(id);
        let failed = |source| Error::io(&directory, source);
        if fs::exists(&directory).await.map_err(failed)? {
            // Left by a step that had no record: what is in it belongs to nobody.
            fs::remove_dir_all(&directory).await.map_err(failed)?;
        }
        let base = &self.0.options.data_dir;
        let within = directory.strip_prefix(base).expect("a region's directory is within the data directory");
        fs::create_dir_durably(base, within).await.map_err(failed)?;
        Ok(directory)
    }

    /// Gives a child's directory the tables that its state names.
    async fn link_tables(
        &self,
        from: RegionId,
        to: RegionId,
        state: &TreeState,
        is_there: bool,
    ) -> Result<(), Error> {
        let source = self.region_directory(from);
        let target = if is_there { self.region_directory(to) } else { self.make_directory(to).await? };
        for table in &state.tables {
            let (old, new) = (source.join(table.file_name()), target.join(table.file_name()));
            fs::hard_link(&old, &new).await.map_err(|error| Error::io(&new, error))?;
        }
        fs::sync_dir(&target).await.map_err(|error| Error::io(&target, error))
    }

    async fn open_made(&self, made: Vec<Made>) -> Result<Vec<RecoveredRegion>, Error> {
        let mut opened = Vec::new();
        for region in made {
            opened.push(self.open_one(region).await?);
        }
        Ok(opened)
    }

    async fn open_one(&self, made: Made) -> Result<RecoveredRegion, Error> {
        let Made { new, state, position, .. } = made;
        self.open_region(new.id, new.generation, state, new.meta, position).await
    }

    /// The edits in this core's log of a region's tree, from here on.
    pub(super) fn manifest_log(&self, id: RegionId, meta: Bytes) -> ManifestLog {
        let directory = self.region_directory(id);
        ManifestLog::new(self.0.log.clone(), id, directory, self.0.options.edits_max, meta)
    }

    /// Opens the tree of a region whose stream is in this core's log.
    pub(crate) async fn open_region(
        &self,
        id: RegionId,
        generation: u64,
        state: TreeState,
        meta: Bytes,
        compacted: (LogIndex, Term),
    ) -> Result<RecoveredRegion, Error> {
        let directory = self.region_directory(id);
        let manifest = Rc::new(self.manifest_log(id, meta.clone()));
        let sink = Rc::new(LogSink(manifest.clone()));
        let tree = Tree::open(self.0.tree_env.clone(), sink, directory, state).await?;
        let region = OpenRegion::new(id, generation, tree.clone(), manifest, compacted);
        self.0.regions.borrow_mut().insert(id, Rc::new(region));
        Ok(RecoveredRegion { id, generation, tree, meta, hard_state: self.0.log.hard_state(id) })
    }
}

/// A region that a step makes, and what of it goes to the log.
pub(super) struct Made {
    pub(super) new: NewTree,
    state: TreeState,
    /// Behind it the region's log begins.
    position: (LogIndex, Term),
    hard_state: (Term, u64, LogIndex),
    state_payload: Vec<u8>,
    meta_payload: Vec<u8>,
}

impl Made {
    pub(super) fn new(
        new: NewTree,
        state: TreeState,
        position: (LogIndex, Term),
        hard_state: (Term, u64, LogIndex),
    ) -> Self {
        let state_payload = payload(KIND_STATE, &state.to_bytes());
        let meta_payload = payload(KIND_META, &new.meta);
        Self { new, state, position, hard_state, state_payload, meta_payload }
    }

    /// The records that make the region; what the log held of the stream before is void with the first.
    pub(super) fn records<'a>(&'a self, to: &mut Vec<Record<'a>>) {
        let stream = self.new.id;
        let (index, term) = self.position;
        to.push(Record::Adopt { stream, generation: self.new.generation });
        to.push(Record::Edit { stream, payload: &self.state_payload });
        to.push(Record::Edit { stream, payload: &self.meta_payload });
        to.push(Record::Compact { stream, index, term });
        let (term, vote, commit) = self.hard_state;
        to.push(Record::HardState { stream, term, vote, commit });
    }
}
