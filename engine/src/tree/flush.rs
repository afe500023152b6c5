//! Flushing: what memtables hold becomes tables of level 0.

use super::{Tree, View};
use crate::Error;
use crate::compaction::FlushedFiles;
use crate::memtable::Memtable;
use pinion_types::{ColumnFamily, LogIndex, Term};
use std::rc::Rc;

/// What a flush puts into tables.
pub(crate) struct Flushed {
    pub(crate) memtables: Vec<Rc<Memtable>>,
    /// The last Raft entry that is then in tables.
    pub(crate) applied: (LogIndex, Term),
    /// The last sequence that is then in tables.
    pub(crate) last_sequence: u64,
}

impl Tree {
    /// Makes the active memtable wait for a flush and begins a new one. Nothing happens when it holds nothing.
    pub fn rotate(&self) {
        let view = self.view();
        if view.active.is_empty() {
            return;
        }
        let active = Rc::new(Memtable::new(view.active.applied(), view.active.last_sequence()));
        let rotated = std::iter::once(&view.active).chain(&view.rotated).cloned().collect();
        *self.0.view.borrow_mut() = Rc::new(View { active, rotated, version: view.version.clone() });
    }

    /// Writes everything that was applied before the call to tables. The caller has made sure that the log holds all of it durably.
    /// Writes go on meanwhile. When it returns, [`flushed`](Self::flushed) is at least what [`applied`](Self::applied) was.
    ///
    /// # Errors
    /// When a table cannot be written, for want of room for instance, or when the manifest's edit fails. The tree is then as it was, and in
    /// the first case the flush can be tried again.
    pub async fn flush(&self) -> Result<(), Error> {
        self.check_not_retired()?;
        // What comes from here on may not be durable in the log.
        self.rotate();
        let (applied, last_sequence, mark) = (self.applied(), self.last_sequence(), self.0.mark.get());
        let turn = self.0.flushing.take().await;
        let view = self.view();
        let is_due = |memtable: &&Rc<Memtable>| memtable.last_sequence() <= last_sequence;
        let memtables: Vec<_> = view.rotated.iter().filter(is_due).cloned().collect();
        drop(view);
        if memtables.is_empty() && applied.0 <= self.flushed().0 {
            return Ok(());
        }
        let flushed = self.flush_memtables(&Flushed { memtables, applied, last_sequence }).await;
        if flushed.is_ok() {
            self.0.flushed_mark.set(mark.max(self.0.flushed_mark.get()));
        }
        drop(turn);
        // What a failed flush has begun goes now.
        self.0.files.purge_leniently().await;
        flushed
    }

    async fn flush_memtables(&self, flushed: &Flushed) -> Result<(), Error> {
        let mut added = Vec::new();
        let mut files = Vec::new();
        for family in ColumnFamily::ALL {
            let (tables, written) = self.write_level0(family, &flushed.memtables).await?;
            added.extend(tables);
            files.push(written);
        }
        let committed = self.commit(&[], &added, Some(flushed)).await;
        if committed.is_ok() || self.is_uncertain() {
            files.iter_mut().for_each(FlushedFiles::keep);
        }
        committed
    }

    /// Whether it is unknown what the manifest says.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.0.uncertain.get()
    }
}
