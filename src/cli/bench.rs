//! Options of `pinion bench`.

use super::raw::ConnectArguments;
use super::{duration, size};
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// Options of `pinion bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArguments {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) target: BenchTarget,
}

/// What `pinion bench` can measure.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchTarget {
    /// Raw keys.
    Raw(BenchRaw),
}

/// Options of `pinion bench raw`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchRaw {
    /// How to reach the store.
    #[command(flatten)]
    pub(crate) connection: ConnectArguments,
    /// The mix of operations.
    #[arg(long, value_enum, default_value = "a")]
    pub(crate) workload: Workload,
    /// How many records there are, or `load` writes.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub(crate) records: u64,
    /// Bytes of a value.
    #[arg(long, default_value = "100", value_parser = size, value_name = "BYTES")]
    pub(crate) value_size: u64,
    /// How long to measure. `load` ends with its last record.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Duration,
    /// How long to run before measuring.
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pub(crate) warmup: Duration,
    /// How many connections.
    #[arg(long, default_value_t = 50, value_name = "C")]
    pub(crate) connections: usize,
    /// How many calls each connection has outstanding.
    #[arg(long, default_value_t = 1, value_name = "D")]
    pub(crate) depth: usize,
    /// How many operations go in one call; 1 uses single calls.
    #[arg(long, default_value_t = 1, value_name = "B")]
    pub(crate) batch: usize,
    /// Operations a second to send, whether or not earlier ones were answered; latency then counts from the moment that each was
    /// planned for. Without it, each answer is followed by the next call.
    #[arg(long, value_name = "R")]
    pub(crate) rate: Option<u64>,
    /// Which records are chosen.
    #[arg(long, value_enum, default_value = "zipfian")]
    pub(crate) distribution: Distribution,
    /// Seed of all random choices.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
    /// Does not write the records first; they are there already.
    #[arg(long)]
    pub(crate) no_load: bool,
    /// The processor that the client runs on; unpinned without it.
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<usize>,
}

/// A mix of operations. The letters are YCSB's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads.
    C,
    /// 95 % reads of what is new, 5 % inserts.
    D,
    /// 95 % short scans, 5 % inserts.
    E,
    /// Half reads, half read-modify-writes.
    F,
    /// Writes every record once, in random order.
    Load,
    /// Updates.
    Put,
    /// Reads: as `c`.
    Get,
}

/// Which records are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// A few often, most seldom: zipfian with constant 0.99, scattered over the keyspace.
    Zipfian,
    /// All alike.
    Uniform,
}
