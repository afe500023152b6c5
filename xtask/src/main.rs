//! The front door for checks, tests, campaigns, measurements and code generation: `cargo xtask --help`.
//!
//! Whatever a task needs beyond Rust and gcc it installs itself, and says so. Every campaign prints its seed, and the command that
//! plays it again.

mod bench;
mod campaign;
mod check;
mod codegen;
mod etcd;
mod fixture;
mod fuzz;
mod hygiene;
mod memory;
mod planted;
mod redis;
mod restart;
mod server;
mod setup;
mod shell;
mod snapshot;
mod stores;
mod test;
mod torture;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The front door for checks, tests, campaigns and code generation")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints, documentation, dependencies and the repository's own rules
    Check,
    /// Every test of the workspace, with all the set-up that they need
    Test {
        /// Passed on to cargo test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Make the generated Rust of the Cap'n Proto schemas anew
    Codegen {
        /// Only compare: fails when the checked-in code is not what the schemas give
        #[arg(long)]
        check: bool,
    },
    /// Make data directories as this version writes them, for later versions to open
    Fixture(fixture::FixtureArguments),
    /// Run the simulator over a range of seeds
    Sim(test::SimArguments),
    /// Play random trouble to groups of the consensus core, and judge every step
    Explore(test::ExploreArguments),
    /// Fuzz what takes bytes from disk or network, guided by coverage
    Fuzz(fuzz::FuzzArguments),
    /// Kill real servers, or cut their power, and look for every acknowledged write
    Torture(torture::TortureArguments),
    /// Kill, pause and part three real stores under load, and check every answer
    Campaign(campaign::CampaignArguments),
    /// Play golden scripts against the consensus core
    RaftGoldens {
        /// Script files or folders of them, besides the own ones; PINION_RAFT_GOLDENS in the environment does the same
        paths: Vec<PathBuf>,
    },
    /// Drive a real server from Python with nothing but the schemas
    Interop,
    /// Plant each known bug in a copy of the tree, and demand that its test fails
    Planted {
        /// Names of patches under tests/planted; all of them by default
        names: Vec<String>,
    },
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Check => check::run(),
        Task::Test { arguments } => test::workspace(&arguments),
        Task::Codegen { check } => codegen::run(check),
        Task::Fixture(arguments) => fixture::make(&arguments),
        Task::Sim(arguments) => test::sim(&arguments),
        Task::Explore(arguments) => test::explore(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Torture(arguments) => torture::run(&arguments),
        Task::Campaign(arguments) => campaign::run(&arguments),
        Task::RaftGoldens { paths } => test::raft_goldens(&paths),
        Task::Interop => test::interop(),
        Task::Planted { names } => planted::run(&names),
        Task::Bench(bench) => bench::run(&bench),
    }
}
