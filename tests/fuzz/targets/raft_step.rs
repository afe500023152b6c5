//! `RawNode::step` with messages that are wrong in a little or in everything: raft/tests/hostile/group.rs says how bytes become a run.

#![no_main]

#[path = "../../../raft/tests/hostile/group.rs"]
mod group;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    group::play(bytes);
});
