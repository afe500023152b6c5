//! Kills real servers, or cuts their power, and looks for every acknowledged write.
//!
//! `cargo xtask torture` builds and runs this. Several connections write, overwrite, delete and batch; others read all the while. At a
//! random moment the medium fails or the process is killed, a fifth of the times during its start. After the restart every key is
//! compared with what the clients know ([`pinion_workload::model`]).

mod campaign;
mod device_check;
mod medium;
mod server;

use anyhow::{Context, Result};
use campaign::Plan;
use clap::{Args, Parser, Subcommand};
use medium::device::Device;
use medium::filesystem::Filesystem;
use medium::{Folder, Medium};
use pinion_workload::Random;
use server::Launch;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Folder on a real disk for data and logs
    #[arg(long, global = true, default_value = "target/torture")]
    directory: PathBuf,
    /// Chooses keys, values, and the moments of failure
    #[arg(long, global = true)]
    seed: Option<u64>,
}

#[derive(Subcommand)]
enum Task {
    /// Kill the server with -9
    Kill(CampaignArguments),
    /// Shut XFS down by force
    Shutdown(CampaignArguments),
    /// Cut the power of a block device
    Cut {
        /// The compiled device/powercut.c
        #[arg(long)]
        plugin: PathBuf,
        #[command(flatten)]
        campaign: CampaignArguments,
    },
    /// Prove that the block device keeps what was synced and loses what was not
    DeviceCheck {
        /// The compiled device/powercut.c
        #[arg(long)]
        plugin: PathBuf,
    },
}

#[derive(Args)]
struct CampaignArguments {
    /// Failures of a server that serves
    #[arg(long)]
    rounds: u64,
    /// Acknowledged writes before each, at least
    #[arg(long, default_value_t = 1000)]
    writes: u64,
    /// The program pinion
    #[arg(long)]
    server: PathBuf,
    /// A fault was planted: succeed when it is found
    #[arg(long)]
    expect_loss: bool,
    /// Passed on to pinion server
    #[arg(last = true)]
    server_arguments: Vec<String>,
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.directory)?;
    let work = tempfile::Builder::new().prefix("run-").tempdir_in(arguments.directory.canonicalize()?)?;
    let seed = arguments.seed.map_or_else(clock_seed, Ok)?;
    println!("seed {seed}");
    let result = run(&arguments.task, work.path(), Random::new(seed));
    if result.is_err() {
        // The data and the servers' log are what there is to look at.
        eprintln!("kept: {}", work.keep().display());
    }
    result
}

fn run(task: &Task, work: &Path, mut random: Random) -> Result<()> {
    match task {
        Task::Kill(arguments) => campaign(arguments, work, Box::new(Folder::new(work)), random),
        Task::Shutdown(arguments) => campaign(arguments, work, Box::new(Filesystem::new(work)?), random),
        Task::Cut { plugin, campaign: arguments } => {
            campaign(arguments, work, Box::new(Device::new(work, &absolute(plugin)?)?), random)
        }
        Task::DeviceCheck { plugin } => {
            device_check::run(&mut Device::new(work, &absolute(plugin)?)?, &mut random)
        }
    }
}

fn campaign(
    arguments: &CampaignArguments,
    work: &Path,
    medium: Box<dyn Medium + Send>,
    random: Random,
) -> Result<()> {
    let plan = Plan {
        rounds: arguments.rounds,
        writes: arguments.writes,
        launch: Launch {
            program: absolute(&arguments.server)?,
            arguments: arguments.server_arguments.clone(),
            log: work.join("servers.log"),
        },
        expect_loss: arguments.expect_loss,
    };
    campaign::campaign(&plan, medium, random)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| path.display().to_string())
}

/// A seed nobody chose.
fn clock_seed() -> Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::from(since.subsec_nanos()) << 16 ^ since.as_secs())
}
