//! Compaction: merging tables down the levels, so that reads ask few of them and what is deleted or overwritten goes.
//!
//! One compaction of a tree at a time, beside flushes. It is a pass over its inputs that stops after any entry: the caller gives it a
//! budget of bytes a step and so decides the pace. Inputs are pinned, outputs are unknown to the tree until the whole pass is done and one edit of
//! the manifest exchanges them, so that a pass can be given up at any time.
//!
//! - [`levels`]: how large levels should be;
//! - [`pick`]: what to compact next;
//! - [`merge`]: the pass, for flushes too;
//! - [`survivors`]: what is dropped on the way;
//! - [`output`]: the tables that come out.

mod levels;
mod merge;
mod output;
mod pick;
mod survivors;

use self::merge::Merge;
use self::output::Output;
use self::pick::Plan;
use self::survivors::{Filter, Older, Survivors};
use crate::Error;
use crate::manifest::TableRef;
use crate::memtable::{Memtable, TombstoneSet};
use crate::table::ReadOptions;
use crate::tree::{LAST_LEVEL, Merging, Source, TableHandle, Tables, TablesSource, Tree, Turn, Version};
use pinion_types::ColumnFamily;
use std::cell::RefCell;
use std::rc::Rc;

/// What a step of compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionStep {
    /// There is nothing to compact.
    Idle,
    /// A part of a compaction was done: so many bytes of keys and values were read.
    Progress(u64),
    /// A compaction was ended: its last part read so many bytes.
    Done(u64),
}

/// A tree's compaction that is under way, if one is.
#[derive(Default)]
pub(crate) struct Compactor {
    turn: Rc<Turn>,
    job: RefCell<Option<Box<Job>>>,
}

impl Compactor {
    /// Gives up the compaction that is under way; the tree is as if it had not begun.
    pub(crate) async fn abandon(&self) {
        let _turn = self.turn.take().await;
        self.job.take();
    }
}

/// A compaction that is under way.
struct Job {
    plan: Plan,
    merge: Merge,
}

impl Tree {
    /// Bytes that compaction has to read and write until every level has its size; 0 when nothing is due.
    pub fn compaction_debt(&self) -> u64 {
        let version = self.version();
        let debt = version
            .debt
            .get()
            .unwrap_or_else(|| pick::debt(&version, &self.0.env.options, &self.snapshot_sequences()));
        version.debt.set(Some(debt));
        debt
    }

    /// Does one compaction, the most urgent; `false` when none is due.
    ///
    /// # Errors
    /// When a table cannot be read or written. The tree is then as it was, and the compaction can be tried again.
    pub async fn compact_once(&self) -> Result<bool, Error> {
        loop {
            match self.compact_step(u64::MAX).await? {
                CompactionStep::Idle => return Ok(false),
                CompactionStep::Done(_) => return Ok(true),
                CompactionStep::Progress(_) => {}
            }
        }
    }

    /// Goes on with the compaction that is under way, or begins the most urgent one, until about `budget` bytes of keys and values were read.
    ///
    /// # Errors
    /// As [`compact_once`](Self::compact_once).
    pub async fn compact_step(&self, budget: u64) -> Result<CompactionStep, Error> {
        let turn = self.0.compactor.turn.take().await;
        self.check_not_retired()?;
        let job = self.0.compactor.job.take();
        let (version, options) = (self.version(), &self.0.env.options);
        let step = match job {
            Some(job) => self.go_on(job, budget).await,
            None => match pick::pick(&version, options, &self.snapshot_sequences()) {
                Some(plan) => self.begin(plan, &version, budget).await,
                None => Ok(CompactionStep::Idle),
            },
        };
        drop(version);
        drop(turn);
        self.0.files.purge_leniently().await;
        step
    }

    /// Compacts until nothing is due and little space is taken by what is deleted or overwritten.
    ///
    /// # Errors
    /// As [`compact_once`](Self::compact_once).
    pub async fn settle(&self) -> Result<(), Error> {
        while self.compact_once().await? {}
        let turn = self.0.compactor.turn.take().await;
        let version = self.version();
        if let Some(plan) = pick::pick_tidying(&version, &self.0.env.options) {
            self.begin(plan, &version, u64::MAX).await?;
        }
        drop(version);
        drop(turn);
        while self.compact_once().await? {}
        Ok(())
    }

    async fn begin(&self, plan: Plan, version: &Version, budget: u64) -> Result<CompactionStep, Error> {
        if plan.is_move {
            self.move_tables(&plan).await?;
            return Ok(CompactionStep::Done(0));
        }
        let merge = self.merge_of(&plan, version);
        self.go_on(Box::new(Job { plan, merge }), budget).await
    }

    async fn go_on(&self, mut job: Box<Job>, budget: u64) -> Result<CompactionStep, Error> {
        let before = job.merge.read_bytes();
        let is_done = job.merge.run(budget).await?;
        let read = job.merge.read_bytes() - before;
        if !is_done {
            *self.0.compactor.job.borrow_mut() = Some(job);
            return Ok(CompactionStep::Progress(read));
        }
        let added = job.merge.finish().await?;
        let removed: Vec<u64> = job.plan.inputs().map(|table| table.file()).collect();
        let committed = self.commit(&removed, &added, None).await;
        self.keep_unless_refused(&mut job.merge, &committed);
        committed.map(|()| CompactionStep::Done(read))
    }

    /// Files stay when the tree has them now, and when it may have them after the next start.
    fn keep_unless_refused(&self, merge: &mut Merge, committed: &Result<(), Error>) {
        if committed.is_ok() || self.is_uncertain() {
            merge.keep();
        }
    }

    /// Lets tables change levels as they are.
    async fn move_tables(&self, plan: &Plan) -> Result<(), Error> {
        let level = u8::try_from(plan.output_level).expect("levels are few");
        let moved: Vec<_> = plan
            .upper
            .iter()
            .map(|table| {
                let reference = TableRef { level, ..table.reference.clone() };
                TableHandle::new(reference, table.table.clone(), &self.0.files)
            })
            .collect();
        let files: Vec<u64> = plan.upper.iter().map(|table| table.file()).collect();
        self.commit(&files, &moved, None).await
    }

    /// The pass of a compaction.
    fn merge_of(&self, plan: &Plan, version: &Version) -> Merge {
        let levels = version.family(plan.family);
        let mut tombstones = TombstoneSet::default();
        for table in plan.inputs() {
            table.tombstones.collect(&table.first, &table.end, u64::MAX, &mut tombstones);
        }
        let snapshots = self.snapshot_sequences();
        let lower: Vec<_> = plan
            .lower
            .iter()
            .filter(|table| !is_deleted_whole(table, &tombstones, &snapshots))
            .cloned()
            .collect();
        let mut sources = Vec::new();
        if plan.level == 0 {
            for table in &plan.upper {
                sources.push(source(vec![table.clone()]));
            }
        } else {
            sources.push(source(plan.upper.clone()));
        }
        if !lower.is_empty() {
            sources.push(source(lower));
        }
        let smallest = plan.inputs().map(|table| &table.first).min().cloned().unwrap_or_default();
        let largest = plan.inputs().map(|table| &table.end).max().cloned().unwrap_or_default();
        let mut older = Older::default();
        for level in plan.output_level + 1..=LAST_LEVEL {
            let tables = levels.level(level);
            older.add(tables.clone(), 0..tables.len());
        }
        let below = if plan.output_level < LAST_LEVEL {
            levels.level(plan.output_level + 1).clone()
        } else {
            no_tables()
        };
        let survivors = Survivors::new(plan.family, self.filter(), snapshots, tombstones, older);
        let is_last = plan.output_level == LAST_LEVEL;
        let limit = self.0.env.options.table_bytes;
        let output =
            Output::new(self.clone(), plan.output_level, limit, below, survivors.tombstones(), is_last);
        Merge::new(Merging::new(sources, &smallest, &largest), survivors, output)
    }

    /// The filter, at what is flushed.
    fn filter(&self) -> Option<Filter> {
        let filter = self.0.env.filter.clone()?;
        Some(Filter { filter, mark: self.0.flushed_mark.get() })
    }

    /// Writes one family of `memtables` to level 0; the tables, and the pass that still owns their files.
    pub(crate) async fn write_level0(
        &self,
        family: ColumnFamily,
        memtables: &[Rc<Memtable>],
    ) -> Result<(Vec<Rc<TableHandle>>, FlushedFiles), Error> {
        let mut tombstones = TombstoneSet::default();
        let mut range: Option<(Vec<u8>, Vec<u8>)> = None;
        let mut sources = Vec::new();
        for memtable in memtables {
            memtable.collect_tombstones(family, &[], &[u8::MAX], u64::MAX, &mut tombstones);
            if let Some((first, last)) = memtable.key_range(family) {
                sources.push(Source::memtable(memtable.clone(), family));
                range = Some(match range {
                    None => (first, last),
                    Some((smallest, largest)) => (smallest.min(first), largest.max(last)),
                });
            }
        }
        let version = self.version();
        let levels = version.family(family);
        let mut older = Older::default();
        for (level, tables) in levels.iter().enumerate() {
            match level {
                0 => (0..tables.len()).for_each(|index| older.add(tables.clone(), index..index + 1)),
                _ => older.add(tables.clone(), 0..tables.len()),
            }
        }
        drop(version);
        let snapshots = self.snapshot_sequences();
        let survivors = Survivors::new(family, None, snapshots, tombstones, older);
        let output = Output::new(self.clone(), 0, u64::MAX, no_tables(), survivors.tombstones(), false);
        let (smallest, largest) = range.unwrap_or_default();
        let mut merge = Merge::new(Merging::new(sources, &smallest, &largest), survivors, output);
        merge.run(u64::MAX).await?;
        let tables = merge.finish().await?;
        Ok((tables, FlushedFiles(merge)))
    }
}

/// The files of a flush, which are removed unless they are kept.
pub(crate) struct FlushedFiles(Merge);

impl FlushedFiles {
    /// The files are the tree's now.
    pub(crate) fn keep(&mut self) {
        self.0.keep();
    }
}

fn source(tables: Vec<Rc<TableHandle>>) -> Source {
    let tables: Tables = tables.into();
    let all = 0..tables.len();
    Source::Tables(Box::new(TablesSource::new(tables, all, ReadOptions::Bulk)))
}

fn no_tables() -> Tables {
    Rc::from([])
}

/// Whether one range tombstone deletes all of a table for everyone, so that it need not be read.
fn is_deleted_whole(table: &TableHandle, tombstones: &TombstoneSet, snapshots: &[u64]) -> bool {
    let (sequence, start, end) = tombstones.covering(&table.first, u64::MAX);
    let meta = &table.reference.meta;
    sequence > meta.largest_sequence
        && start.is_some()
        && end.is_some_and(|end| meta.largest.as_slice() < end)
        && !snapshots.iter().any(|snapshot| (meta.smallest_sequence..sequence).contains(snapshot))
}
