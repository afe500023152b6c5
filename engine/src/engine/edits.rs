//! Manifest edits as records of the core's log, and the manifest file as their checkpoint.
//!
//! The payload of an edit record begins with its kind:
//!
//! | byte | then | what |
//! | --- | --- | --- |
//! | 1 | `ManifestEdit` | a step of the tree's state |
//! | 2 | `TreeState` | the tree's whole state: after a split, a move, at the beginning |
//! | 3 | bytes | the owner's description of the region, the *meta* |
//!
//! The manifest file says which of them it has: those are passed over when the log is replayed.

use super::manifest_file::ManifestFile;
use crate::Error;
use crate::log::{Durability, Log, Record};
use crate::manifest::{ManifestEdit, TreeState};
use crate::tree::{EditSink, Turn};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pinion_types::RegionId;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

pub(crate) const KIND_EDIT: u8 = 1;
pub(crate) const KIND_STATE: u8 = 2;
pub(crate) const KIND_META: u8 = 3;

/// The payload of an edit record.
pub(crate) fn payload(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + body.len());
    payload.push(kind);
    payload.extend_from_slice(body);
    payload
}

/// One tree's edits in the log.
pub(crate) struct ManifestLog {
    log: Log,
    stream: RegionId,
    directory: PathBuf,
    edits_max: usize,
    meta: RefCell<Bytes>,
    checkpointing: Rc<Turn>,
    /// Edit records in the log since the manifest file was written.
    since_checkpoint: Cell<usize>,
    /// The log's sequence of the last record whose edit the tree's state has. Those behind it may be on their way: the log has them, and
    /// the state does not.
    installed: Cell<u64>,
    /// The log's sequence of the last edit record that the manifest file makes superfluous.
    checkpointed: Cell<u64>,
}

impl ManifestLog {
    pub(crate) fn new(log: Log, stream: RegionId, directory: PathBuf, edits_max: usize, meta: Bytes) -> Self {
        Self {
            // The state that a tree opens with has every edit so far.
            installed: Cell::new(log.last_sequence(stream)),
            log,
            stream,
            directory,
            edits_max,
            meta: RefCell::new(meta),
            checkpointing: Rc::default(),
            since_checkpoint: Cell::new(0),
            checkpointed: Cell::new(0),
        }
    }

    /// The owner's description of the region.
    pub(crate) fn meta(&self) -> Bytes {
        self.meta.borrow().clone()
    }

    /// Edit records up to this sequence of the stream need not be kept.
    pub(crate) fn checkpointed_through(&self) -> u64 {
        self.checkpointed.get()
    }

    /// Notes a new description, and appends it to the log beside `with`; durable with the next group that is.
    pub(crate) fn append_meta(&self, meta: Bytes, with: &[Record<'_>]) {
        let record = payload(KIND_META, &meta);
        let mut records = with.to_vec();
        records.push(Record::Edit { stream: self.stream, payload: &record });
        drop(self.log.append(&records, Durability::Buffered));
        self.set_meta(meta);
    }

    /// Notes a description that is in the log already.
    pub(crate) fn set_meta(&self, meta: Bytes) {
        self.since_checkpoint.set(self.since_checkpoint.get() + 1);
        *self.meta.borrow_mut() = meta;
    }

    /// The tree's state has the edits up to this record now.
    pub(crate) fn installed(&self, sequence: u64) {
        self.installed.set(sequence.max(self.installed.get()));
    }

    /// Writes the manifest file anew, with what `state` says is the tree's present state; the edit records that it has are then superfluous.
    pub(crate) async fn checkpoint(&self, state: impl FnOnce() -> TreeState) -> Result<(), Error> {
        // One at a time: they write the same file, and an older one must not come last.
        let _turn = self.checkpointing.take().await;
        let through = self.installed.get();
        let generation = self.log.generation(self.stream);
        let file = ManifestFile { generation, edits_through: through, meta: self.meta(), state: state() };
        file.write(&self.directory).await?;
        self.since_checkpoint.set(0);
        self.checkpointed.set(through);
        Ok(())
    }

    async fn commit(&self, edit: ManifestEdit) -> Result<(), Error> {
        let record = payload(KIND_EDIT, &edit.to_bytes());
        let append =
            self.log.append(&[Record::Edit { stream: self.stream, payload: &record }], Durability::Sync);
        let sequence = self.log.last_sequence(self.stream);
        append.await?;
        // The tree takes the edit in before anything else runs.
        self.installed(sequence);
        self.since_checkpoint.set(self.since_checkpoint.get() + 1);
        Ok(())
    }

    /// Whether it is time to write the manifest file anew.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.since_checkpoint.get() >= self.edits_max
    }
}

/// How a tree makes its edits durable: in the log.
pub(crate) struct LogSink(pub(crate) Rc<ManifestLog>);

impl EditSink for LogSink {
    fn commit(&self, edit: ManifestEdit) -> LocalBoxFuture<'_, Result<(), Error>> {
        Box::pin(self.0.commit(edit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogConfig;
    use pinion_runtime::{fs, sim};
    use pinion_types::CoreId;

    #[test]
    fn an_edit_on_its_way_is_not_made_superfluous() {
        sim::run(sim::Config::new(1), |simulation| {
            simulation.block_on(async {
                let directory = PathBuf::from("/log");
                fs::create_dir_all(&directory).await.unwrap();
                let config = LogConfig { core: CoreId(0), segment_bytes: 128 << 10, ..LogConfig::default() };
                let (log, _) = Log::open(&directory, config).await.unwrap();
                let stream = RegionId(1);
                let manifest =
                    Rc::new(ManifestLog::new(log.clone(), stream, directory.clone(), 4, Bytes::new()));
                let state = TreeState::default();
                let mut next = state.clone();
                let edit = ManifestEdit { number: 1, ..ManifestEdit::default() };
                next.apply(&edit).unwrap();
                let committing = {
                    let manifest = manifest.clone();
                    pinion_runtime::spawn(async move { manifest.commit(edit).await })
                };
                // The edit is in the log and the tree's state does not have it: the file must not claim it.
                while log.last_sequence(stream) == 0 {
                    pinion_runtime::yield_now().await;
                }
                manifest.checkpoint(|| state).await.unwrap();
                assert_eq!(manifest.checkpointed_through(), 0);
                committing.await.unwrap();
                manifest.checkpoint(|| next.clone()).await.unwrap();
                assert_eq!(manifest.checkpointed_through(), 1);
                // Two at once do not get into each other's way.
                let two = (manifest.checkpoint(|| next.clone()), manifest.checkpoint(|| next.clone()));
                let (first, second) = futures_util::future::join(two.0, two.1).await;
                first.and(second).unwrap();
            });
        });
    }
}
