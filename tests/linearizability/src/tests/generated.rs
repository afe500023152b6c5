//! Histories of a store that is atomic by construction are right; with one answer that is provably stale they are wrong.

use super::generator::{Load, Random, generate, with_outcome};
use crate::{History, Limits, Operation, Outcome, Record, Verdict, check};

const HISTORIES: u64 = 400;

/// Loads of all kinds.
fn load(random: &mut Random) -> Load {
    let keys = 1 + random.below(12);
    Load {
        calls: 20 + random.index(200),
        clients: 1 + u32::try_from(random.below(16)).unwrap(),
        keys,
        hot_keys: 1 + random.below(keys),
        unknown_percent: random.below(20),
        batch_percent: [0, 10, 40][random.index(3)],
        batch_keys: 1 + random.below(4),
        delay_max: 1 + random.below(30),
    }
}

fn write_of(record: &Record) -> Option<(&Operation, u64)> {
    match (&record.operation, &record.answer) {
        (Operation::Put { .. }, Some((returned, Outcome::Written))) => Some((&record.operation, *returned)),
        _ => None,
    }
}

/// One read changed to what was overwritten before it was invoked.
fn stale(history: &History, random: &mut Random) -> Option<History> {
    let mut stale = Vec::new();
    for read in history.records() {
        let (Operation::Get { key }, Some((_, Outcome::Read(_)))) = (&read.operation, &read.answer) else {
            continue;
        };
        let writes =
            || history.records().iter().filter_map(|record| Some((record.invoked, write_of(record)?)));
        for (_, (old, old_returned)) in writes() {
            let is_overwritten = writes().any(|(invoked, (new, returned))| {
                new.keys().eq([key]) && old_returned < invoked && returned < read.invoked
            });
            if let Operation::Put { key: written, value } = old
                && written == key
                && is_overwritten
            {
                stale.push((read.id, Outcome::Read(Some(*value))));
            }
        }
    }
    let (call, outcome) = stale.get(random.index(stale.len().max(1)))?;
    Some(with_outcome(history, *call, outcome))
}

#[test]
fn what_an_atomic_store_answers_is_right_and_a_stale_read_is_not() {
    let mut stale_count = 0;
    for seed in 0..HISTORIES {
        let mut random = Random(seed);
        let history = generate(&load(&mut random), &mut random);
        match check(&history, &Limits::default()) {
            Ok(Verdict::Linearizable { .. }) => {}
            Ok(verdict) => panic!("seed {seed}: {verdict:?}"),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
        if let Some(stale) = stale(&history, &mut random) {
            stale_count += 1;
            let violation =
                check(&stale, &Limits::default()).expect_err(&format!("seed {seed}: a stale read"));
            assert!(violation.is_smallest && !violation.operations.is_empty(), "seed {seed}: {violation}");
        }
    }
    assert!(stale_count > HISTORIES / 4, "most histories have something to be stale: {stale_count}");
}

#[test]
fn a_verdict_is_the_same_every_time() {
    let mut random = Random(1);
    let history = generate(&load(&mut random), &mut random);
    assert_eq!(check(&history, &Limits::default()), check(&history, &Limits::default()));
}
