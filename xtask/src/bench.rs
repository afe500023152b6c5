//! `cargo xtask bench`: measurements, each by one command. docs/performance.md says how to read them.

use crate::{etcd, memory, redis, restart, setup, shell, snapshot, workspace};
use anyhow::Result;
use clap::Subcommand;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The engine beside RocksDB and fjall, one run, every workload
    Peers {
        /// Passed on to the program in benches/peers; `--help` lists its flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The consensus core beside the raft crate, one run
    Raft {
        /// Passed on to the program in benches/peers/raft; `--help` lists its flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The server beside Redis, each in turn on one processor, with durable writes
    Redis(redis::RedisArguments),
    /// Three stores beside a cluster of three etcd members, in turn, with durable writes and linearizable reads
    Etcd(etcd::EtcdArguments),
    /// How soon a store serves again that was killed under load
    Restart(restart::RestartArguments),
    /// How fast a new peer gets a region's data, and what callers notice of it
    Snapshot(snapshot::SnapshotArguments),
    /// What a server keeps resident while three times its budget is loaded
    Memory(memory::MemoryArguments),
    /// The micro-benchmarks of the workspace
    Criterion {
        /// Passed on to cargo bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Peers { arguments } => peers(arguments),
        Bench::Raft { arguments } => in_peers("pinion-bench-raft", arguments),
        Bench::Redis(arguments) => redis::run(arguments),
        Bench::Etcd(arguments) => etcd::run(arguments),
        Bench::Restart(arguments) => restart::run(arguments),
        Bench::Snapshot(arguments) => snapshot::run(arguments),
        Bench::Memory(arguments) => memory::run(arguments),
        Bench::Criterion { arguments } => shell::run(shell::cargo(["bench", "--workspace"]).args(arguments)),
    }
}

fn peers(arguments: &[String]) -> Result<()> {
    setup::debian(&["librocksdb-dev", "libclang-14-dev"])?;
    in_peers("pinion-bench-peers", arguments)
}

/// Runs a program of benches/peers, a workspace of its own: RocksDB is most of what there is to build there.
fn in_peers(package: &str, arguments: &[String]) -> Result<()> {
    let mut cargo =
        shell::command("cargo", ["run", "--release", "--quiet", "--locked", "--package", package, "--"]);
    cargo.current_dir(workspace::root().join("benches/peers")).args(arguments);
    shell::run(&mut cargo)
}
