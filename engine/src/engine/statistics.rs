//! What a core's storage has done since it was opened.

use std::cell::Cell;

/// Counters of the engine's own work, for statistics and for tests that must know what they have reached.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: Cell<u64>,
    pub(crate) compactions: Cell<u64>,
    pub(crate) checkpoints: Cell<u64>,
    pub(crate) splits: Cell<u64>,
    pub(crate) moves: Cell<u64>,
    pub(crate) regions_created: Cell<u64>,
    pub(crate) regions_removed: Cell<u64>,
    pub(crate) snapshots_made: Cell<u64>,
    pub(crate) snapshots_installed: Cell<u64>,
}

/// Adds one.
pub(crate) fn count(counter: &Cell<u64>) {
    counter.update(|count| count + 1);
}

/// What a core's storage has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Memtables written out as tables.
    pub flushes: u64,
    /// Compactions that were finished.
    pub compactions: u64,
    /// Manifest files written.
    pub checkpoints: u64,
    /// Regions split.
    pub splits: u64,
    /// Regions taken over from another core.
    pub moves: u64,
    /// Regions made one by one.
    pub regions_created: u64,
    /// Regions removed.
    pub regions_removed: u64,
    /// Region snapshots made.
    pub snapshots_made: u64,
    /// Region snapshots installed.
    pub snapshots_installed: u64,
    /// Log segments made of files that had been segments before.
    pub segments_reused: u64,
    /// Log records written again, so that an old segment could go.
    pub records_rewritten: u64,
}

impl super::Engine {
    /// What this core's storage has done since it was opened.
    pub fn statistics(&self) -> Statistics {
        let counters = &self.0.counters;
        let (segments_reused, records_rewritten) = self.0.log.reuse();
        Statistics {
            flushes: counters.flushes.get(),
            compactions: counters.compactions.get(),
            checkpoints: counters.checkpoints.get(),
            splits: counters.splits.get(),
            moves: counters.moves.get(),
            regions_created: counters.regions_created.get(),
            regions_removed: counters.regions_removed.get(),
            snapshots_made: counters.snapshots_made.get(),
            snapshots_installed: counters.snapshots_installed.get(),
            segments_reused,
            records_rewritten,
        }
    }
}
