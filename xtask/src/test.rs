//! Tests: the workspace's own, the simulator's campaigns, golden scripts, and other languages.

use crate::{setup, shell, workspace};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::Command;

/// `cargo xtask test`: every test of the workspace.
pub(crate) fn workspace(arguments: &[String]) -> Result<()> {
    // The test that the generated code is fresh runs the schema compiler; the rows in real time make networks, which they need root for.
    setup::debian(&["capnproto", "iproute2", "nftables"])?;
    let mut counts = Counts::default();
    let passed =
        shell::watch(shell::cargo(["test", "--workspace"]).args(arguments), |line| counts.add(line))?;
    println!("{} passed, {} failed", counts.passed, counts.failed);
    ensure!(passed && counts.failed == 0, "tests failed");
    ensure!(counts.passed > 0, "no test ran");
    Ok(())
}

/// How many tests passed and failed, summed over the binaries of a run.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Takes a line that ends a test binary's output: `test result: ok. 3 passed; 0 failed; …`.
    fn add(&mut self, line: &str) {
        let Some((_, rest)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in rest.split("; ") {
            match part.split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Which seeds the simulator runs.
#[derive(Args)]
pub(crate) struct SimArguments {
    /// How many seeds clusters_in_trouble and power_cuts take; the course's rows take at most 20 of them, and what has no seeds runs whole
    #[arg(long, default_value_t = 50)]
    seeds: u64,
    /// The first seed; a campaign says every few seconds from where it can go on
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only campaigns whose name contains this
    #[arg(long)]
    campaign: Option<String>,
    /// Play each seed of clusters_in_trouble in two processes, which must agree on every event and on what was reached
    #[arg(long)]
    twice: bool,
    /// Fail every operation of the disk in turn, not only some of them
    #[arg(long)]
    every_io: bool,
}

/// The campaign of which there can be many seeds: it runs alone, so that it has all processors, and last.
const CLUSTERS: &str = "clusters_in_trouble";

/// `cargo xtask sim`: the campaigns of tests/sim, each over the range of seeds that the environment names.
pub(crate) fn sim(arguments: &SimArguments) -> Result<()> {
    eprintln!("with PINION_SIM_LOG=1 a seed says what its stores do");
    match &arguments.campaign {
        Some(name) => shell::run(&mut campaigns(arguments, &[name])),
        None => {
            // Whatever the others come to.
            let others = shell::run(&mut campaigns(arguments, &["--skip", CLUSTERS]));
            shell::run(&mut campaigns(arguments, &[CLUSTERS])).and(others)
        }
    }
}

/// The tests of the simulator that `filter` lets through.
fn campaigns(arguments: &SimArguments, filter: &[&str]) -> Command {
    let mut cargo = shell::cargo(["test", "--release", "--package", "pinion", "--test", "sim", "--"]);
    cargo.args(filter).args(["--nocapture", "--test-threads", "2"]);
    cargo.env("PINION_SIM_SEEDS", arguments.seeds.to_string());
    cargo.env("PINION_SIM_FROM", arguments.from.to_string());
    if arguments.twice {
        cargo.env("PINION_SIM_TWICE", "1");
    }
    if arguments.every_io {
        cargo.env("PINION_SIM_IO_STRIDE", "1");
    }
    cargo
}

/// How long the explorer of the consensus core goes on.
#[derive(Args)]
pub(crate) struct ExploreArguments {
    /// How many runs, each of a seed; 300 unless a time is given
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// For how long, in seconds
    #[arg(long)]
    seconds: Option<u64>,
}

/// `cargo xtask explore`: random trouble for groups of the consensus core, with a judge behind every step.
pub(crate) fn explore(arguments: &ExploreArguments) -> Result<()> {
    eprintln!(
        "to play one seed again: cargo xtask explore --seeds 1 --from SEED; with PINION_RAFT_LOG=1 it says what happens"
    );
    let mut cargo = shell::cargo([
        "test",
        "--release",
        "--package",
        "pinion-raft",
        "--test",
        "explorer",
        "--",
        "--nocapture",
    ]);
    cargo.env("PINION_RAFT_FROM", arguments.from.to_string());
    if let Some(seeds) = arguments.seeds {
        cargo.env("PINION_RAFT_SEEDS", seeds.to_string());
    }
    if let Some(seconds) = arguments.seconds {
        cargo.env("PINION_RAFT_SECONDS", seconds.to_string());
    }
    shell::run(&mut cargo)
}

/// `cargo xtask raft-goldens`: the tree's own scripts, and those named here or in the environment, which are not part of the tree.
pub(crate) fn raft_goldens(paths: &[PathBuf]) -> Result<()> {
    let mut cargo =
        shell::cargo(["test", "--package", "pinion-raft", "--test", "goldens", "--", "--nocapture"]);
    if !paths.is_empty() {
        // The test runs in its package's folder.
        let paths: std::io::Result<Vec<PathBuf>> = paths.iter().map(|path| path.canonicalize()).collect();
        cargo.env("PINION_RAFT_GOLDENS", std::env::join_paths(paths?)?);
    }
    shell::run(&mut cargo)
}

/// `cargo xtask interop`: tests/interop by pytest, against a server built here.
pub(crate) fn interop() -> Result<()> {
    let python = setup::python("tests/interop/requirements.txt")?;
    shell::run(&mut shell::cargo(["build", "--package", "pinion", "--bin", "pinion"]))?;
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/interop"]);
    pytest.current_dir(workspace::root());
    pytest.env("PINION_SERVER", workspace::target().join("debug/pinion"));
    pytest.env("PINION_SCHEMAS", workspace::root().join("capnp/schema"));
    pytest.env("PYTHONDONTWRITEBYTECODE", "1");
    shell::run(&mut pytest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sum_over_test_binaries() {
        let mut counts = Counts::default();
        counts.add("running 3 tests");
        counts.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        counts.add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!((counts.passed, counts.failed), (5, 4));
    }
}
