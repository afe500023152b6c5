//! What a campaign has reached: a campaign that left something out has shown nothing about it.

use pinion_engine::Statistics;
use std::fmt;
use std::ops::AddAssign;

/// Counts of what happened, summed over seeds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) seeds: u64,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) settled: u64,
    pub(crate) cuts: u64,
    pub(crate) cuts_in_recovery: u64,
    pub(crate) cuts_at_io: u64,
    pub(crate) restarts: u64,
    pub(crate) core_changes: u64,
    pub(crate) broken_calls: u64,
    pub(crate) engine: Statistics,
}

impl Coverage {
    /// Adds what a core's storage did in one life.
    pub(crate) fn add_engine(&mut self, other: &Statistics) {
        let engine = &mut self.engine;
        engine.flushes += other.flushes;
        engine.compactions += other.compactions;
        engine.checkpoints += other.checkpoints;
        engine.splits += other.splits;
        engine.moves += other.moves;
        engine.regions_created += other.regions_created;
        engine.regions_removed += other.regions_removed;
        engine.snapshots_made += other.snapshots_made;
        engine.snapshots_installed += other.snapshots_installed;
        engine.segments_reused += other.segments_reused;
        engine.records_rewritten += other.records_rewritten;
    }

    fn counts(&self) -> [(&'static str, u64); 17] {
        let engine = &self.engine;
        [
            ("seeds", self.seeds),
            ("acknowledged writes", self.acknowledged),
            ("checked reads", self.reads),
            ("writes settled by a restart", self.settled),
            ("power cuts", self.cuts),
            ("power cuts during recovery", self.cuts_in_recovery),
            ("power cuts at an operation of the disk", self.cuts_at_io),
            ("restarts", self.restarts),
            ("restarts with another number of cores", self.core_changes),
            ("connections broken with calls outstanding", self.broken_calls),
            ("flushes", engine.flushes),
            ("compactions", engine.compactions),
            ("manifest checkpoints", engine.checkpoints),
            ("splits", engine.splits),
            ("regions moved between cores", engine.moves),
            ("segments reused", engine.segments_reused),
            ("log records written again", engine.records_rewritten),
        ]
    }

    /// Fails when something never happened.
    pub(crate) fn demand_all(&self) {
        for (what, count) in self.counts() {
            assert!(count > 0, "this campaign had no {what}: it shows nothing about them");
        }
    }
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.settled += other.settled;
        self.cuts += other.cuts;
        self.cuts_in_recovery += other.cuts_in_recovery;
        self.cuts_at_io += other.cuts_at_io;
        self.restarts += other.restarts;
        self.core_changes += other.core_changes;
        self.broken_calls += other.broken_calls;
        self.add_engine(&other.engine);
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().iter().try_for_each(|(what, count)| writeln!(f, "{count:>12} {what}"))
    }
}
