//! Kills real servers, or cuts their power, and looks for every acknowledged write.
//!
//! `cargo xtask torture` builds and runs this. Several connections write, overwrite, delete and batch; others read all the while. At a
//! random moment the medium fails or the process is killed, a fifth of the times during its start. After the restart every key is
//! compared with what the clients know ([`model`]).

#![expect(dead_code, reason = "the writers and readers come with the client")]

mod device_check;
mod medium;
mod model;
mod random;
mod server;
mod store;
mod value;
mod workload;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use medium::device::Device;
use random::Random;
use std::path::PathBuf;

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
    /// Prove that the block device keeps what was synced and loses what was not
    DeviceCheck {
        /// The compiled device/powercut.c
        #[arg(long)]
        plugin: PathBuf,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.directory)?;
    let work = tempfile::Builder::new().prefix("run-").tempdir_in(arguments.directory.canonicalize()?)?;
    let seed = arguments.seed.map_or_else(clock_seed, Ok)?;
    let mut random = Random::new(seed);
    println!("seed {seed}");
    match arguments.task {
        Task::DeviceCheck { plugin } => {
            let plugin = plugin.canonicalize().with_context(|| plugin.display().to_string())?;
            let mut device = Device::new(work.path(), &plugin)?;
            device_check::run(&mut device, &mut random)
        }
    }
}

/// A seed nobody chose.
fn clock_seed() -> Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::from(since.subsec_nanos()) << 16 ^ since.as_secs())
}
