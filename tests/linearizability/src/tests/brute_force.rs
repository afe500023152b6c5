//! The checker against one that tries all orders of a few calls.

use super::generator::{Load, Random, generate, with_outcome};
use crate::component;
use crate::explain::writes;
use crate::problem::Problem;
use crate::search::{Budget, Found, search};
use crate::{History, Key, Limits, Operation, Outcome, Record, ValueId, Verdict, check};
use std::collections::BTreeMap;

const HISTORIES: u64 = 20_000;

type State = BTreeMap<Key, ValueId>;

/// Whether the calls up to `cut` have an order.
fn has_order(history: &History, cut: u64) -> bool {
    let calls: Vec<(&Record, Option<(u64, &Outcome)>)> = history
        .records()
        .iter()
        .filter(|record| record.invoked <= cut && !matches!(record.answer, Some((_, Outcome::Refused))))
        .map(|record| match &record.answer {
            Some((tick, outcome)) if *tick <= cut && *outcome != Outcome::Unknown => {
                (record, Some((*tick, outcome)))
            }
            _ => (record, None),
        })
        .collect();
    can_continue(&calls, 0, &State::new())
}

fn can_continue(calls: &[(&Record, Option<(u64, &Outcome)>)], placed: u32, state: &State) -> bool {
    let left = || (0..calls.len()).filter(|place| placed & 1 << place == 0);
    if left().all(|place| calls[place].1.is_none()) {
        return true;
    }
    let first_return = left().filter_map(|place| calls[place].1).map(|(tick, _)| tick).min();
    left().filter(|&place| first_return.is_none_or(|tick| calls[place].0.invoked <= tick)).any(|place| {
        let mut after = state.clone();
        let (record, answer) = calls[place];
        let outcome = apply(&mut after, &record.operation);
        answer.is_none_or(|(_, answer)| *answer == outcome)
            && can_continue(calls, placed | 1 << place, &after)
    })
}

fn apply(state: &mut State, operation: &Operation) -> Outcome {
    match operation {
        Operation::Get { key } => Outcome::Read(state.get(key).copied()),
        Operation::Put { key, value } => {
            state.insert(key.clone(), *value);
            Outcome::Written
        }
        Operation::Delete { key } => {
            state.remove(key);
            Outcome::Written
        }
        Operation::CompareAndSwap { key, expected, new } => {
            let previous = state.get(key).copied();
            let swapped = previous == *expected;
            if swapped {
                state.insert(key.clone(), *new);
            }
            Outcome::Compared { swapped, previous }
        }
        Operation::BatchPut { writes } => {
            state.extend(writes.iter().cloned());
            Outcome::Written
        }
        Operation::BatchGet { keys } => {
            Outcome::BatchRead(keys.iter().map(|key| state.get(key).copied()).collect())
        }
    }
}

/// A call that returned, with an answer that is perhaps wrong: mostly another value that was written to the same key at some time.
fn doubtful(history: &History, random: &mut Random) -> History {
    let record = &history.records()[random.index(history.len())];
    let Some((_, outcome)) = &record.answer else { return history.clone() };
    let key = record.operation.keys().next().expect("every call has a key");
    let mut others = vec![None];
    for other in history.records() {
        others.extend(writes(&other.operation).filter(|write| write.0 == key).map(|(_, value)| Some(value)));
    }
    // The value that nobody wrote is easily found, so it is seldom tried.
    let other = match random.percent(5) {
        true => Some(ValueId(u64::MAX)),
        false => others[random.index(others.len())],
    };
    let outcome = match outcome {
        Outcome::Read(_) => Outcome::Read(other),
        Outcome::Compared { .. } => {
            let Operation::CompareAndSwap { expected, .. } = &record.operation else { unreachable!() };
            Outcome::Compared { swapped: random.percent(10) != (other == *expected), previous: other }
        }
        Outcome::BatchRead(values) => {
            let mut values = values.clone();
            values[0] = other;
            Outcome::BatchRead(values)
        }
        Outcome::Written if random.percent(20) => Outcome::Refused,
        Outcome::Written | Outcome::Refused | Outcome::Unknown => return history.clone(),
    };
    with_outcome(history, record.id, &outcome)
}

/// The search's verdict without the conditions that come before it and would hide its mistakes.
fn search_finds_order(history: &History) -> bool {
    let mut budget = Budget { configurations_left: u64::MAX, cache_bytes_max: usize::MAX, visited: 0 };
    component::split(history).iter().all(|component| {
        Problem::new(component, u64::MAX).is_ok_and(|problem| search(&problem, &mut budget) == Found::Order)
    })
}

#[test]
fn verdicts_are_those_of_all_orders() {
    let mut verdicts = [0_u64; 2];
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..HISTORIES {
        let mut random = Random(seed);
        let keys = 1 + random.below(3);
        let load = Load {
            calls: 3 + random.index(5),
            clients: 2 + u32::try_from(random.below(4)).unwrap(),
            keys,
            hot_keys: 1,
            unknown_percent: random.below(50),
            batch_percent: if random.percent(50) { 50 } else { 0 },
            batch_keys: keys,
            delay_max: 1 + random.below(8),
        };
        let mut history = generate(&load, &mut random);
        for _ in 0..random.below(4) {
            history = doubtful(&history, &mut random);
        }
        let expected = has_order(&history, u64::MAX);
        verdicts[usize::from(expected)] += 1;
        assert_eq!(search_finds_order(&history), expected, "seed {seed}: {:#?}", history.records());
        match check(&history, &Limits::default()) {
            Ok(Verdict::Linearizable { .. }) => assert!(expected, "seed {seed}: {:#?}", history.records()),
            Ok(verdict) => panic!("seed {seed}: {verdict:?}"),
            Err(violation) => {
                assert!(!expected, "seed {seed}: {violation}");
                assert!(violation.is_smallest, "seed {seed}: {violation}");
                assert!(
                    !has_order(&history, violation.prefix_end),
                    "seed {seed}: a wrong prefix\n{violation}"
                );
                let before = violation.prefix_end.checked_sub(1);
                let is_smallest = before.is_none_or(|before| has_order(&history, before));
                assert!(is_smallest, "seed {seed}: a smaller prefix is wrong, too\n{violation}");
                let reason = format!("{:?}", violation.reason);
                let name = reason.split([' ', '{']).next().unwrap_or_default();
                *reasons.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    assert!(verdicts.iter().all(|count| *count > HISTORIES / 10), "both verdicts occur: {verdicts:?}");
    assert_eq!(reasons.len(), 5, "all reasons occur: {reasons:?}");
}
