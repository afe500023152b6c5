//! Nothing that arrives from the network panics a node, or makes it take back what it has committed.
//!
//! A group works over a network that also delivers what nobody sent: real messages with a field changed, and messages of any fields
//! at all. `group` plays such a run from bytes. The bytes are random here, of fixed seeds, and those of corpus/: what
//! `cargo xtask fuzz raft-step` has found to lead somewhere new. A file that the fuzzer ends with goes there, too.

#![expect(clippy::disallowed_methods, reason = "the corpus is files of the tree, read by no core")]

mod group;

use std::path::Path;

/// Random bytes of a seed.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[1]
        })
        .collect()
}

#[test]
fn no_message_panics_a_node_or_takes_back_a_commit() {
    // Lies can end a group's work: each run begins anew, and is long enough to get somewhere.
    let furthest =
        (0..3000).map(|seed| group::play(&random(seed, 3000))).filter(|commit| *commit > 5).count();
    assert!(furthest > 1000, "the group gets nowhere, so that nothing is tested: {furthest}");
}

#[test]
fn what_the_fuzzer_has_kept_is_played_again() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/corpus");
    let (mut count, mut furthest) = (0, 0);
    for entry in std::fs::read_dir(&corpus).expect("the corpus is part of the tree") {
        let bytes = std::fs::read(entry.expect("it can be listed").path()).expect("it can be read");
        furthest = furthest.max(group::play(&bytes));
        count += 1;
    }
    assert!(count > 100, "most of the corpus is gone: {count} files");
    assert!(furthest > 10, "the corpus leads nowhere: {furthest}");
}
