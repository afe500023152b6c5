//! The course's rows about clusters (its projects 2B, 2C and 3B), each once with real time: five stores, each a process in a network namespace of
//! its own, with real files and TCP, `kill -9`, and packets that nftables drops. The simulator plays the same rows by the same names over many
//! seeds (tests/sim/cluster).
//!
//! They need root, iproute2 and nftables. With `--nocapture` a row says what it came to, and the seed by which it is played again
//! (`PINION_REALTIME_SEED`), as far as real time allows. A row that failed keeps its stores' files and logs and says where. Rows mostly wait:
//! more of them fit at the same time (`--test-threads`) than there are processors.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the processes, files and times are real")]

mod course;
mod members;
mod stage;
mod stories;
mod story;
