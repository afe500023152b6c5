//! The rows of the course that this project grew from, each a test of the row's name.
//!
//! The course looks at a node right after a step, before anything could have been persisted, and lets the node's own
//! vote and acknowledgement count at once. `support` makes up that difference, and the core stays as it is. Pre-vote and
//! check-quorum, which the course does not have, are off.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as the test does")]

mod election;
mod membership;
mod raw_node;
mod replication;
mod snapshot;
mod support;
mod transfer;
