//! What to compact next.

use super::levels::Shape;
use crate::tree::{LAST_LEVEL, Levels, TableHandle, TreeOptions, Version};
use pinion_types::ColumnFamily;
use std::cmp::Ordering;
use std::rc::Rc;

/// Inputs of one compaction are widened up to so many times a table's size.
const WIDEN_TABLES_MAX: u64 = 16;
/// A tombstone-laden table is compacted when that frees at least one byte for so many that it costs.
const COST_OF_FREEING_MAX: u64 = 4;

/// A compaction that is to be done.
pub(super) struct Plan {
    pub(super) family: ColumnFamily,
    /// The tables of the upper level. Of level 0 the newest come first.
    pub(super) upper: Vec<Rc<TableHandle>>,
    /// The tables of the output's level that they overlap.
    pub(super) lower: Vec<Rc<TableHandle>>,
    /// The level of `upper`.
    pub(super) level: usize,
    pub(super) output_level: usize,
    /// Whether the tables only change levels.
    pub(super) is_move: bool,
}

/// The most urgent compaction, if one is due.
pub(super) fn pick(version: &Version, options: &TreeOptions, snapshots: &[u64]) -> Option<Plan> {
    let of_family = |family| most_urgent(family, version.family(family), options, snapshots);
    let plans = ColumnFamily::ALL.into_iter().filter_map(of_family);
    plans.max_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal)).map(|(_, plan)| plan)
}

/// A compaction that frees space although none is due: level 0 and whatever is above the last level, when that is a quarter of it.
pub(super) fn pick_tidying(version: &Version, options: &TreeOptions) -> Option<Plan> {
    ColumnFamily::ALL.into_iter().find_map(|family| {
        let levels = version.family(family);
        let shape = Shape::of(levels, options);
        let is_due = !levels.level(0).is_empty() && levels.bytes(0) > levels.bytes(LAST_LEVEL) / 8;
        is_due.then(|| plan_level0(family, levels, shape.base))
    })
}

/// Bytes that compaction has to write until nothing is due.
pub(super) fn debt(version: &Version, options: &TreeOptions, snapshots: &[u64]) -> u64 {
    let of_family = |family| {
        let levels = version.family(family);
        Shape::of(levels, options).debt(levels, options)
    };
    let debt: u64 = ColumnFamily::ALL.into_iter().map(of_family).sum();
    match pick(version, options, snapshots) {
        Some(plan) => debt.max(plan.input_bytes()).max(1),
        None => 0,
    }
}

impl Plan {
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Rc<TableHandle>> {
        self.upper.iter().chain(&self.lower)
    }

    fn input_bytes(&self) -> u64 {
        self.inputs().map(|table| table.bytes).sum()
    }
}

fn most_urgent(
    family: ColumnFamily,
    levels: &Levels,
    options: &TreeOptions,
    snapshots: &[u64],
) -> Option<(f64, Plan)> {
    levels.tables().next()?;
    let shape = Shape::of(levels, options);
    let newest = Shape::level0_score(levels, options);
    let below = (1..LAST_LEVEL).map(|level| (shape.score(levels, level), level));
    let scores = std::iter::once((newest, 0)).chain(below);
    let (score, level) = scores.max_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal))?;
    if score >= 1.0 {
        let plan = if level == 0 {
            plan_level0(family, levels, shape.base)
        } else {
            plan_level(family, levels, level, options)?
        };
        return Some((score, plan));
    }
    plan_deletion(family, levels, shape.base, options, snapshots).map(|plan| (1.0, plan))
}

fn plan_level0(family: ColumnFamily, levels: &Levels, base: usize) -> Plan {
    let upper: Vec<_> = levels.level(0).to_vec();
    // Levels between level 0 and the base may still hold what a larger tree left there: then its first one is the output's.
    let output_level = (1..base).find(|level| !levels.level(*level).is_empty()).unwrap_or(base);
    let first = upper.iter().map(|table| &table.first).min().expect("level 0 has tables");
    let end = upper.iter().map(|table| &table.end).max().expect("level 0 has tables");
    let lower: Vec<_> = overlapping(levels, output_level, first, end);
    let mut by_key: Vec<_> = upper.iter().collect();
    by_key.sort_by(|a, b| a.first.cmp(&b.first));
    let is_move = upper.iter().all(|table| may_move(table, levels, output_level))
        && by_key.windows(2).all(|pair| pair[0].end <= pair[1].first);
    Plan { family, lower: if is_move { Vec::new() } else { lower }, upper, level: 0, output_level, is_move }
}

/// The table of a level whose way down costs least for its size.
fn plan_level(family: ColumnFamily, levels: &Levels, level: usize, options: &TreeOptions) -> Option<Plan> {
    let cheapest = levels.level(level).iter().min_by(|a, b| {
        let cost = |table: &TableHandle| overlapping_bytes(levels, level + 1, &table.first, &table.end);
        // Compares overlap / bytes without a division.
        let (left, right) =
            (u128::from(cost(a)) * u128::from(b.bytes), u128::from(cost(b)) * u128::from(a.bytes));
        left.cmp(&right)
    })?;
    Some(plan_table(family, levels, cheapest, options))
}

fn plan_table(family: ColumnFamily, levels: &Levels, table: &Rc<TableHandle>, options: &TreeOptions) -> Plan {
    let level = table.level();
    let output_level = level + 1;
    if may_move(table, levels, output_level) {
        return Plan {
            family,
            upper: vec![table.clone()],
            lower: Vec::new(),
            level,
            output_level,
            is_move: true,
        };
    }
    let lower = overlapping(levels, output_level, &table.first, &table.end);
    let upper = widened(levels, table, &lower, options);
    Plan { family, upper, lower, level, output_level, is_move: false }
}

/// The neighbours of `table` that lie within the range of `lower` come along at no cost but their own.
fn widened(
    levels: &Levels,
    table: &Rc<TableHandle>,
    lower: &[Rc<TableHandle>],
    options: &TreeOptions,
) -> Vec<Rc<TableHandle>> {
    let (Some(first), Some(last)) = (lower.first(), lower.last()) else { return vec![table.clone()] };
    let mut bytes: u64 = lower.iter().map(|table| table.bytes).sum();
    let within = levels.level(table.level()).iter().filter(|other| {
        if Rc::ptr_eq(other, table) {
            return true;
        }
        let overlapped = overlapping_part(levels, table.level() + 1, &other.first, &other.end);
        let is_within = overlapped.first().is_none_or(|table| table.first >= first.first)
            && overlapped.last().is_none_or(|table| table.first <= last.first)
            && !overlapped.is_empty();
        let fits = is_within && bytes < options.table_bytes * WIDEN_TABLES_MAX;
        bytes += if fits { other.bytes } else { 0 };
        fits
    });
    within.cloned().collect()
}

/// A table with so many tombstones that to compact it pays by itself.
fn plan_deletion(
    family: ColumnFamily,
    levels: &Levels,
    base: usize,
    options: &TreeOptions,
    snapshots: &[u64],
) -> Option<Plan> {
    let frees_much = |table: &&Rc<TableHandle>| {
        let meta = &table.reference.meta;
        let seen = snapshots.first().is_some_and(|oldest| *oldest <= meta.largest_sequence);
        let many = meta.tombstones * 100 > meta.entries * u64::from(options.tombstones_percent_max);
        !seen && (many || covers_much(table, levels))
    };
    if levels.level(0).iter().any(|table| !table.tombstones.is_empty() && frees_much(&table)) {
        return Some(plan_level0(family, levels, base));
    }
    let table = (1..=LAST_LEVEL).find_map(|level| levels.level(level).iter().find(frees_much))?;
    if table.level() < LAST_LEVEL {
        return Some(plan_table(family, levels, table, options));
    }
    let upper = vec![table.clone()];
    Some(Plan {
        family,
        upper,
        lower: Vec::new(),
        level: LAST_LEVEL,
        output_level: LAST_LEVEL,
        is_move: false,
    })
}

/// Whether the table's range tombstones free enough below it for what it costs to compact it; in the last level they always do.
fn covers_much(table: &TableHandle, levels: &Levels) -> bool {
    if table.tombstones.is_empty() {
        return false;
    }
    let below = (table.level() + 1..=LAST_LEVEL).find(|level| !levels.level(*level).is_empty());
    let Some(level) = below else { return true };
    let cost = table.bytes + overlapping_bytes(levels, level, &table.first, &table.end);
    let freed: u64 = table
        .tombstones
        .iter()
        .flat_map(|(start, end, _)| {
            overlapping(levels, level, start, end).into_iter().map(move |below| (below, start, end))
        })
        .map(|(below, start, end)| below.table.approximate_size(start, Some(end)))
        .sum();
    freed * COST_OF_FREEING_MAX >= cost
}

/// Whether the table may change to the output's level as it is: nothing there overlaps it, and it has no tombstones that to write
/// it anew in the last level would drop.
fn may_move(table: &TableHandle, levels: &Levels, output_level: usize) -> bool {
    let has_tombstones = table.reference.meta.tombstones > 0 || !table.tombstones.is_empty();
    !(has_tombstones && output_level == LAST_LEVEL)
        && overlapping(levels, output_level, &table.first, &table.end).is_empty()
}

fn overlapping(levels: &Levels, level: usize, first: &[u8], end: &[u8]) -> Vec<Rc<TableHandle>> {
    overlapping_part(levels, level, first, end).to_vec()
}

fn overlapping_bytes(levels: &Levels, level: usize, first: &[u8], end: &[u8]) -> u64 {
    overlapping_part(levels, level, first, end).iter().map(|table| table.bytes).sum()
}

fn overlapping_part<'a>(levels: &'a Levels, level: usize, first: &[u8], end: &[u8]) -> &'a [Rc<TableHandle>] {
    let tables = levels.level(level);
    let from = tables.partition_point(|table| table.end.as_slice() <= first);
    let to = tables.partition_point(|table| table.first.as_slice() < end);
    tables.get(from..to).unwrap_or_default()
}
