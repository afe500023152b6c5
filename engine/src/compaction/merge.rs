//! One pass of a flush or a compaction: sources in order, through the survivors' judge, to tables.

use super::output::Output;
use super::survivors::{Survivors, Verdict};
use crate::Error;
use crate::table::{EntryKind, EntryRef};
use crate::tree::{Merging, TableHandle};
use pinion_runtime::{should_yield, yield_now};
use std::rc::Rc;

/// Entries between two looks at the clock.
const ENTRIES_PER_LOOK: u32 = 64;

/// A pass that is under way.
pub(super) struct Merge {
    merging: Merging,
    survivors: Survivors,
    output: Output,
    started: bool,
    /// Bytes of keys and values that were read.
    read_bytes: u64,
}

/// Why the loop that does not wait has stopped.
enum Stop {
    /// All is done.
    End,
    /// Enough was done for now.
    Budget,
    /// The output wants to end a table or begin one before it takes the current entry.
    Prepare(Verdict),
    /// The output wants to write before the next entry; the current one is done.
    Drain,
    /// The current entry is done, and to step over it something must be read.
    Read,
    /// Others should run.
    Yield,
}

impl Merge {
    pub(super) fn new(merging: Merging, survivors: Survivors, output: Output) -> Self {
        Self { merging, survivors, output, started: false, read_bytes: 0 }
    }

    /// Goes on for `budget` bytes of input; `true` when all is done.
    pub(super) async fn run(&mut self, budget: u64) -> Result<bool, Error> {
        if !self.started {
            self.merging.seek(&[], u64::MAX).await?;
            self.started = true;
        }
        let end = self.read_bytes.saturating_add(budget);
        loop {
            match self.run_without_waiting(end) {
                Stop::End => return Ok(true),
                Stop::Budget => return Ok(false),
                Stop::Prepare(verdict) => {
                    self.prepare_and_push(verdict).await?;
                    self.merging.step().await?;
                }
                Stop::Drain => {
                    self.output.drain().await?;
                    self.merging.step().await?;
                }
                Stop::Read => self.merging.step().await?,
                Stop::Yield => yield_now().await,
            }
        }
    }

    fn run_without_waiting(&mut self, end: u64) -> Stop {
        let mut looked = 0;
        loop {
            let Some(entry) = self.merging.entry() else { return Stop::End };
            if self.read_bytes >= end {
                return Stop::Budget;
            }
            looked += 1;
            if looked == ENTRIES_PER_LOOK {
                looked = 0;
                if should_yield() {
                    return Stop::Yield;
                }
            }
            self.read_bytes += (entry.key.len() + entry.value.len()) as u64;
            let verdict = self.survivors.judge(&entry);
            if verdict != Verdict::Drop {
                match self.output.push(survivor(entry, verdict), self.survivors.begins_key()) {
                    None => return Stop::Prepare(verdict),
                    Some(true) => return Stop::Drain,
                    Some(false) => {}
                }
            }
            if !self.merging.try_step() {
                return Stop::Read;
            }
        }
    }

    async fn prepare_and_push(&mut self, verdict: Verdict) -> Result<(), Error> {
        let entry = self.merging.entry().expect("there is an entry to prepare for");
        let begins_key = self.survivors.begins_key();
        self.output.prepare(entry.key, begins_key).await?;
        let is_behind = self.output.push(survivor(entry, verdict), begins_key).expect("a table was begun");
        if is_behind { self.output.drain().await } else { Ok(()) }
    }

    /// Ends the output's tables and opens them.
    pub(super) async fn finish(&mut self) -> Result<Vec<Rc<TableHandle>>, Error> {
        self.output.finish().await
    }

    /// The output's tables are the tree's now.
    pub(super) fn keep(&mut self) {
        self.output.keep();
    }

    /// Bytes of keys and values that were read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }
}

/// The entry as it goes into the output.
fn survivor(entry: EntryRef<'_>, verdict: Verdict) -> EntryRef<'_> {
    match verdict {
        Verdict::Delete => EntryRef { kind: EntryKind::Delete, value: &[], ..entry },
        _ => entry,
    }
}
