//! `cargo xtask bench memory`: what a server keeps resident while more than its budget is loaded.

use crate::server::{Server, fresh, operations_per_second};
use crate::{shell, workspace};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::Command;

/// What is run, and where.
#[derive(Args)]
pub(crate) struct MemoryArguments {
    /// The server's budget, MiB
    #[arg(long, default_value_t = 512)]
    memory: u64,
    /// What is loaded, MiB
    #[arg(long, default_value_t = 1536)]
    load: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 1024)]
    value_size: u64,
    /// Folder on a real disk for the data
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// Loads, prints the most that was resident, and fails when that is more than 1.1 times the budget.
pub(crate) fn run(arguments: &MemoryArguments) -> Result<()> {
    let pinion = workspace::build_release("pinion", "pinion", &[])?;
    let directory = arguments.directory.clone().unwrap_or_else(|| workspace::target().join("bench-memory"));
    fresh(&directory)?;
    let mut command = Command::new(&pinion);
    command.args(["server", "--cpus", "none", "--memory", &format!("{}M", arguments.memory), "--data-dir"]);
    let (server, address) = Server::start(command.arg(&directory))?;
    let records = (arguments.load << 20) / arguments.value_size.max(1);
    let mut client = Command::new(&pinion);
    client.args(["bench", "raw", "--connect", &address, "--workload", "load", "--output", "json"]);
    client.args(["--records", &records.to_string(), "--value-size", &arguments.value_size.to_string()]);
    let rate = operations_per_second(&shell::output(&mut client)?)?;
    let (most, budget) = (peak_kib(server.id())?, arguments.memory << 10);
    drop(server);
    std::fs::remove_dir_all(&directory)?;
    println!(
        "{records} records of {} bytes at {rate:.0} a second: {} MiB resident at most, of a budget of {} MiB",
        arguments.value_size,
        most >> 10,
        arguments.memory
    );
    ensure!(most * 10 <= budget * 11, "that is more than 1.1 times the budget");
    Ok(())
}

/// The most that a process has had resident, in KiB, from proc(5).
fn peak_kib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.context("the kernel does not say how much was resident")
}
