//! What the log and the manifests say after a start.
//!
//! Two phases, because of a region that two cores' logs hold the higher generation counts: [`Opening::open`] recovers the core's log and tells
//! what it holds; when all cores have told each other, [`Opening::finish`] opens the trees of the regions that are this core's.

use super::edits::{KIND_EDIT, KIND_META, KIND_STATE};
use super::maintenance::Maintenance;
use super::manifest_file::ManifestFile;
use super::statistics::{Counters, count};
use super::{Engine, EngineOptions, Inner};
use crate::Error;
use crate::cache::BlockCache;
use crate::log::{Durability, Log, Record, Recovered, RecoveredStream};
use crate::manifest::{ManifestEdit, TreeState};
use crate::tree::{CompactionFilter, Tree, TreeEnv};
use bytes::Bytes;
use pinion_runtime::fs;
use pinion_types::{LogIndex, RegionId, Term};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A region as a start, or a structural step, found or made it.
pub struct RecoveredRegion {
    /// The region's id.
    pub id: RegionId,
    /// How often it changed cores.
    pub generation: u64,
    /// Its tree.
    pub tree: Tree,
    /// The owner's description of it.
    pub meta: Bytes,
    /// Raft's hard state: term, vote (0 for none), commit index.
    pub hard_state: (Term, u64, LogIndex),
}

/// A core whose log is open and whose trees are not.
pub struct Opening {
    options: EngineOptions,
    filter: Option<Rc<dyn CompactionFilter>>,
    log: Log,
    recovered: Recovered,
}

impl Opening {
    /// Opens the core's log, or makes it.
    pub async fn open(options: EngineOptions) -> Result<Self, Error> {
        let directory = options.log_directory();
        let within = directory.strip_prefix(&options.data_dir).expect("a log is within the data directory");
        let made = fs::create_dir_durably(&options.data_dir, within).await;
        made.map_err(|source| Error::io(&directory, source))?;
        let (log, recovered) = Log::open(&directory, options.log.clone()).await?;
        Ok(Self { options, filter: None, log, recovered })
    }

    /// Keeps a record of the store's own for ever. Durable when this returns.
    pub async fn write_structure(&self, payload: &[u8]) -> Result<(), Error> {
        self.log.append(&[Record::Structure { payload }], Durability::Sync).await
    }

    /// The same with a filter that drops in compaction what is not worth keeping.
    #[must_use]
    pub fn with_filter(self, filter: Rc<dyn CompactionFilter>) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// The regions that the log holds, with their generations.
    pub fn streams(&self) -> Vec<(RegionId, u64)> {
        self.recovered.streams.iter().map(|(id, stream)| (*id, stream.generation)).collect()
    }

    /// The structure records that the log holds, oldest first.
    pub fn structures(&self) -> &[Bytes] {
        &self.recovered.structures
    }

    /// Opens the trees of the regions that this core owns; forgets the others.
    pub async fn finish(
        self,
        owns: impl Fn(RegionId) -> bool,
    ) -> Result<(Engine, Vec<RecoveredRegion>), Error> {
        let Self { options, filter, log, recovered } = self;
        let cache = BlockCache::new(options.cache_bytes);
        let tree_env = TreeEnv { filter, ..TreeEnv::new(options.tree.clone(), cache.clone()) };
        let engine = Engine(Rc::new(Inner {
            options,
            log,
            cache,
            tree_env: Rc::new(tree_env),
            regions: RefCell::default(),
            maintenance: Maintenance::default(),
            counters: Counters::default(),
            snapshot_number: Cell::new(0),
            receiving: RefCell::default(),
            closing: Cell::new(false),
        }));
        let mut found = Vec::new();
        for (id, stream) in recovered.streams {
            if owns(id) {
                found.push(engine.recover_region(id, stream).await?);
            } else {
                engine.0.log.remove_stream(id);
            }
        }
        engine.remove_outdated_incoming().await?;
        engine.start_maintenance();
        Ok((engine, found))
    }
}

impl Engine {
    async fn recover_region(&self, id: RegionId, stream: RecoveredStream) -> Result<RecoveredRegion, Error> {
        let directory = self.region_directory(id);
        let file = ManifestFile::read(&directory).await?.unwrap_or_default();
        if file.generation == stream.generation {
            // The records that had them may be gone from the log, and others with lower sequences be there: what comes now must not look like
            // what the file has.
            self.0.log.skip_sequences(id, file.edits_through);
        }
        let (state, meta) = replay_edits(file, &stream)?;
        let recovered = self.open_region(id, stream.generation, state, meta, stream.compacted).await?;
        let region = self.region(id).expect("the region was just opened");
        // A start is the moment to shorten the next one: edits that pile up are checkpointed.
        if stream.edits.len() > self.0.options.edits_max {
            region.manifest.checkpoint(|| region.tree.state()).await?;
            count(&self.0.counters.checkpoints);
        }
        self.release(&region);
        Ok(recovered)
    }
}

/// The state and the meta that the manifest file and the edits after it make.
pub(super) fn replay_edits(
    file: ManifestFile,
    stream: &RecoveredStream,
) -> Result<(TreeState, Bytes), Error> {
    let ManifestFile { generation, edits_through, mut meta, mut state } = file;
    let damaged = |what| Error::ManifestDamaged { what };
    // Sequences are those of one core's stream. A file of an earlier generation is older than all of this one's.
    let through = if generation == stream.generation { edits_through } else { 0 };
    for (_, edit) in stream.edits.iter().filter(|(sequence, _)| *sequence > through) {
        let (&kind, body) = edit.split_first().ok_or(damaged("an edit record is empty"))?;
        match kind {
            KIND_EDIT => {
                state.apply(&ManifestEdit::from_bytes(body)?)?;
            }
            KIND_STATE => {
                let whole = TreeState::from_bytes(body)?;
                // The file may be newer than the record: it then holds all that the record says.
                if whole.edit >= state.edit {
                    state = whole;
                }
            }
            KIND_META => meta = Bytes::copy_from_slice(body),
            _ => return Err(damaged("an edit record is of an unknown kind")),
        }
    }
    Ok((state, meta))
}

#[cfg(test)]
mod tests {
    use super::super::edits::payload;
    use super::*;

    fn stream(generation: u64, edits: &[(u64, &'static [u8])]) -> RecoveredStream {
        let edits = edits.iter().map(|(sequence, meta)| (*sequence, payload(KIND_META, meta).into()));
        RecoveredStream { generation, edits: edits.collect(), ..RecoveredStream::default() }
    }

    #[test]
    fn a_record_that_outlived_a_later_one_does_not_take_its_place() {
        let meta = Bytes::from_static(b"after the split");
        let file = ManifestFile { generation: 1, edits_through: 20, meta, ..ManifestFile::default() };
        let meta_of = |stream| replay_edits(file.clone(), &stream).unwrap().1;
        // The file has both; the later one's segment was used again, and the older one was written again before.
        assert_eq!(meta_of(stream(1, &[(10, b"before the split")])), "after the split");
        assert_eq!(meta_of(stream(1, &[(10, b"before the split"), (21, b"a later split")])), "a later split");
        // Another core's stream counts from anew.
        assert_eq!(meta_of(stream(2, &[(3, b"on another core")])), "on another core");
    }
}
