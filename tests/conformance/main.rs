//! The course's rows: each test carries its row's name, so that the table can be ticked off by listing the tests.
//!
//! [`restart`] adds what the course does not ask of a store that comes back, [`split_check`] what it does not ask of one that grows. A whole store runs behind each: engine, log, Raft, shard, in the simulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod project1;
mod restart;
mod split_check;
mod store;
