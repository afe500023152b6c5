//! What large histories cost, in configurations: that is what time follows, on any machine.

use super::generator::{Load, Random, generate};
use crate::{Limits, Verdict, check};

fn configurations(load: &Load, seed: u64) -> usize {
    let history = generate(load, &mut Random(seed));
    match check(&history, &Limits::default()) {
        Ok(Verdict::Linearizable { configurations }) => usize::try_from(configurations).unwrap(),
        Ok(verdict) => panic!("seed {seed}: {verdict:?}"),
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}

const HOT: Load = Load {
    calls: 1000,
    clients: 16,
    keys: 200,
    hot_keys: 10,
    unknown_percent: 5,
    batch_percent: 0,
    batch_keys: 4,
    delay_max: 100,
};

#[test]
fn hot_keys_cost_a_configuration_for_each_call() {
    for seed in 0..20 {
        let visited = configurations(&HOT, seed);
        assert!(visited < 2 * HOT.calls, "seed {seed}: {visited}");
    }
}

#[test]
fn a_single_key_costs_little_more() {
    let load = Load { keys: 1, hot_keys: 1, ..HOT };
    for seed in 0..20 {
        let visited = configurations(&load, seed);
        assert!(visited < 2 * load.calls, "seed {seed}: {visited}");
    }
}

#[test]
fn batches_that_join_all_keys_cost_little_more() {
    let load = Load { keys: 20, hot_keys: 10, batch_percent: 30, batch_keys: 20, ..HOT };
    for seed in 0..20 {
        let visited = configurations(&load, seed);
        assert!(visited < 4 * load.calls, "seed {seed}: {visited}");
    }
}

#[test]
fn many_keys_cost_a_configuration_for_each_call() {
    let load = Load { calls: 1_000_000, keys: 10_000, batch_percent: 2, ..HOT };
    let visited = configurations(&load, 1);
    assert!(visited < load.calls + load.calls / 10, "{visited}");
}
