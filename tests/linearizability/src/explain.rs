//! Says what is wrong with a history that has no order: where it begins, and which calls to look at.

use crate::check::judge;
use crate::component::Component;
use crate::history::{CallId, History, Key, Operation, Outcome, Record, ValueId};
use crate::search::Budget;
use crate::violation::{Reason, Violation};
use pinion_types::map::HashSet;

/// Calls that an explanation shows of the last ones, and of those that wrote what the last one saw.
const CALLS_SHOWN_MAX: usize = 24;

/// Finds the smallest prefix that is wrong, of what is wrong up to `cut`, and what can be said about it.
pub(crate) fn explain(
    history: &History,
    component: &Component<'_>,
    reason: Reason,
    cut: u64,
    budget: &mut Budget,
) -> Violation {
    let mut returns: Vec<u64> =
        component.calls.iter().filter_map(|record| returned(record)).filter(|tick| *tick <= cut).collect();
    returns.sort_unstable();
    returns.dedup();

    // What is wrong once stays wrong, so the bounds enclose the first return that is.
    let (mut reason, mut prefix_end, mut is_smallest) = (reason, cut, true);
    let (mut low, mut high) = (0, returns.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        match judge(component, returns[middle], budget) {
            Err(found) => {
                (reason, prefix_end) = (found, returns[middle]);
                high = middle;
            }
            Ok(is_decided) => {
                is_smallest &= is_decided;
                low = middle + 1;
            }
        }
    }
    if let Reason::NeverWritten { key, value, attempt, .. } = &mut reason {
        let would_write = |record: &&Record| writes(&record.operation).any(|write| write == (key, *value));
        *attempt = history.records().iter().find(would_write).map(|record| record.id);
    }
    let keys = match reason.key() {
        Some(key) => vec![key.clone()],
        None => component.keys.iter().map(|key| (*key).clone()).collect(),
    };
    let operations = shown(history, component, prefix_end, &reason);
    Violation { keys, reason: Box::new(reason), prefix_end, is_smallest, operations }
}

/// What a call would write if it took effect.
pub(crate) fn writes(operation: &Operation) -> impl Iterator<Item = (&Key, ValueId)> {
    let (one, many): (_, &[_]) = match operation {
        Operation::Put { key, value } | Operation::CompareAndSwap { key, new: value, .. } => {
            (Some((key, *value)), &[])
        }
        Operation::BatchPut { writes } => (None, writes),
        Operation::Get { .. } | Operation::Delete { .. } | Operation::BatchGet { .. } => (None, &[]),
    };
    one.into_iter().chain(many.iter().map(|(key, value)| (key, *value)))
}

/// The last calls of the prefix on these keys, those that the reason names, and those that wrote what the last one saw.
fn shown(history: &History, component: &Component<'_>, prefix_end: u64, reason: &Reason) -> Vec<Record> {
    let concerned: Vec<&Record> = component
        .calls
        .iter()
        .copied()
        .filter(|record| record.invoked <= prefix_end)
        .filter(|record| reason.key().is_none_or(|wrong| record.operation.keys().any(|key| key == wrong)))
        .collect();
    let (early, late) = concerned.split_at(concerned.len().saturating_sub(CALLS_SHOWN_MAX));
    let last = || concerned.iter().copied().filter(|record| returned(record) == Some(prefix_end));
    let seen: HashSet<(&Key, ValueId)> = last().flat_map(sees).collect();
    let wrote_seen = |record: &&&Record| writes(&record.operation).any(|write| seen.contains(&write));
    let mut shown: Vec<&Record> =
        early.iter().rev().filter(wrote_seen).take(CALLS_SHOWN_MAX).copied().collect();
    shown.extend(late.iter().copied().chain(last()));
    shown.extend(reason.calls().iter().map(|CallId(place)| &history.records()[*place]));
    shown.sort_by_key(|record| (record.invoked, record.id));
    shown.dedup_by_key(|record| record.id);
    shown.into_iter().cloned().collect()
}

fn returned(record: &Record) -> Option<u64> {
    record.answer.as_ref().map(|(tick, _)| *tick)
}

/// The values that a call has seen.
fn sees(record: &Record) -> Vec<(&Key, ValueId)> {
    let outcome = record.answer.as_ref().map(|(_, outcome)| outcome);
    match (&record.operation, outcome) {
        (Operation::Get { key }, Some(Outcome::Read(Some(value))))
        | (Operation::CompareAndSwap { key, .. }, Some(Outcome::Compared { previous: Some(value), .. })) => {
            vec![(key, *value)]
        }
        (Operation::BatchGet { keys }, Some(Outcome::BatchRead(values))) => {
            keys.iter().zip(values).filter_map(|(key, value)| Some((key, (*value)?))).collect()
        }
        _ => Vec::new(),
    }
}
