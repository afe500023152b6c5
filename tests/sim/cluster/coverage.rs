//! What a campaign of clusters has reached: a campaign that left something out has shown nothing about it.

use super::administrator::Done;
use super::clients::Session;
use super::observer::Seen;
use super::trouble::{Counts, Fault};
use pinion_engine::Statistics;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// The count of simulated seconds, from the first call to the verdict.
pub(super) const SIMULATED: &str = "simulated seconds";

/// The count of snapshots that peers went on from, those not counted that the cluster's first peers were made by.
pub(super) const SNAPSHOTS: &str = "snapshots installed meanwhile";

/// Counts by what they are of, and what they cost, summed over seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    counts: BTreeMap<String, u64>,
    /// What the processor spent on it: no part of what a seed determines.
    processor: Duration,
}

impl Coverage {
    /// Adds to a count, which is listed from now on even if it is 0.
    pub(super) fn add(&mut self, what: impl Into<String>, count: u64) {
        *self.counts.entry(what.into()).or_default() += count;
    }

    pub(super) fn add_faults(&mut self, counts: &Counts) {
        for (fault, count) in Fault::ALL.iter().zip(&counts.came) {
            self.add(format!("fault: {fault:?}"), count.get());
        }
        for fault in Fault::TO_MEET {
            self.add(format!("fault: {fault:?}, met"), counts.met[fault as usize].get());
        }
    }

    pub(super) fn add_clients(&mut self, session: &Session) {
        let what = ["operations done", "operations refused", "operations of unknown outcome"];
        for (what, count) in what.iter().zip(&session.counts) {
            self.add(*what, count.get());
        }
        self.add("reads answered by any peer", session.replica_reads.get());
        self.add("reads of a state of bounded age", session.stale_reads.get());
    }

    pub(super) fn add_administrator(&mut self, done: &Done) {
        self.add("asked: splits", done.splits.get());
        self.add("asked: transfers of leadership", done.transfers.get());
        self.add("asked: peers added", done.added.get());
        self.add("asked: peers removed", done.removed.get());
        self.add("asked: peers moved", done.moved.get());
        self.add("asked: several peers replaced at once", done.replaced.get());
    }

    pub(super) fn add_seen(&mut self, seen: &Seen) {
        self.add("elections", seen.elections());
        self.add("joint configurations", seen.joint());
    }

    pub(super) fn add_engine(&mut self, done: &Statistics) {
        self.add("engine: flushes", done.flushes);
        self.add("engine: compactions", done.compactions);
        self.add("engine: splits", done.splits);
        self.add("engine: regions moved between cores", done.moves);
        self.add("engine: regions removed", done.regions_removed);
        self.add("engine: snapshots made", done.snapshots_made);
        self.add("engine: snapshots installed", done.snapshots_installed);
        self.add("engine: segments reused", done.segments_reused);
    }

    /// Adds what the processor spent.
    pub(super) fn add_processor(&mut self, spent: Duration) {
        self.processor += spent;
    }

    /// How many times faster than the clock the world went, on one processor.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(super) fn speed(&self) -> f64 {
        self.get(SIMULATED) as f64 / self.processor.as_secs_f64()
    }

    /// How much was simulated, and what it cost.
    #[expect(clippy::cast_precision_loss, reason = "for people; counts are far below 2^53")]
    pub(super) fn cost(&self) -> String {
        let simulated = self.get(SIMULATED) as f64;
        let spent = self.processor.as_secs_f64();
        format!(
            "{} seeds, {:.2} simulated hours in {:.3} processor hours: {:.0} times; {:.0} client operations a processor second",
            self.get("seeds"),
            simulated / 3600.0,
            spent / 3600.0,
            self.speed(),
            self.get("operations done") as f64 / spent
        )
    }

    /// A count.
    pub(super) fn get(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Fails when something never happened.
    pub(crate) fn demand_all(&self) {
        for (what, count) in &self.counts {
            assert!(*count > 0, "this campaign had no \"{what}\": it shows nothing about it");
        }
    }
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        for (what, count) in other.counts {
            self.add(what, count);
        }
        self.processor += other.processor;
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.iter().try_for_each(|(what, count)| writeln!(f, "{count:>12} {what}"))
    }
}
