//! Whole stores in the simulator: what they lose when power, disks and connections fail. Nothing, is the claim.
//!
//! - [`power`]: power cuts at any moment, during starts too;
//! - [`io_failures`]: every operation of the disk failed once, and from then on;
//! - [`cluster`]: clusters in all kinds of trouble, whose clients must have seen what one store could have shown them;
//! - [`replay`]: the same seed gives the same run in another process.
//!
//! `cargo xtask sim` runs them over many seeds, which it names in the environment (`PINION_SIM_FROM`, `PINION_SIM_SEEDS`); as plain tests they
//! run over a few. Each prints what it has reached, and fails when that leaves something out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod cluster;
mod coverage;
mod io_failures;
mod power;
mod replay;
mod replica_reads;
mod seeds;
mod store;
