//! What a campaign of clusters has reached: a campaign that left something out has shown nothing about it.

use super::administrator::Done;
use super::clients::Session;
use super::observer::Seen;
use super::trouble::{Counts, Fault};
use pinion_engine::Statistics;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// Counts by what they are of, summed over seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    /// Adds to a count, which is listed from now on even if it is 0.
    pub(super) fn add(&mut self, what: impl Into<String>, count: u64) {
        *self.0.entry(what.into()).or_default() += count;
    }

    pub(super) fn add_faults(&mut self, counts: &Counts) {
        for (fault, count) in Fault::ALL.iter().zip(&counts.0) {
            self.add(format!("fault: {fault:?}"), count.get());
        }
    }

    pub(super) fn add_clients(&mut self, session: &Session) {
        let what = ["operations done", "operations refused", "operations of unknown outcome"];
        for (what, count) in what.iter().zip(&session.counts) {
            self.add(*what, count.get());
        }
    }

    pub(super) fn add_administrator(&mut self, done: &Done) {
        self.add("asked: splits", done.splits.get());
        self.add("asked: transfers of leadership", done.transfers.get());
        self.add("asked: peers added", done.added.get());
        self.add("asked: peers removed", done.removed.get());
        self.add("asked: peers moved", done.moved.get());
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

    /// A count.
    pub(super) fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Fails when something never happened.
    pub(crate) fn demand_all(&self) {
        for (what, count) in &self.0 {
            assert!(*count > 0, "this campaign had no \"{what}\": it shows nothing about it");
        }
    }
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        for (what, count) in other.0 {
            self.add(what, count);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(f, "{count:>12} {what}"))
    }
}
