//! `cargo xtask bench restart`: how soon a store serves again that was killed under load.

use crate::server::{fresh, median};
use crate::{shell, stores, workspace};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is run, and where.
#[derive(Args)]
pub(crate) struct RestartArguments {
    /// How often the store is killed; the median and the longest start are shown
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// What is loaded first, MiB
    #[arg(long, default_value_t = 1024)]
    load: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 1024)]
    value_size: u64,
    /// Seconds of puts before each kill, so that the log has as much to play again as it may
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Folder on a real disk for the data
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// Two stores, one of which is killed with SIGKILL under puts and started again; fails when a start takes two seconds.
pub(crate) fn run(arguments: &RestartArguments) -> Result<()> {
    let pinion = workspace::build_release("pinion", "pinion", &[])?;
    let directory = arguments.directory.clone().unwrap_or_else(|| workspace::target().join("bench-restart"));
    fresh(&directory)?;
    let mut cluster = stores::start(&pinion, &directory, 2)?;
    let records = (arguments.load << 20) / arguments.value_size.max(1);
    let bench = |address: &str, row: &[&str]| {
        let mut command = Command::new(&pinion);
        command.args(["bench", "raw", "--connect", address, "--records", &records.to_string()]);
        command.args(["--value-size", &arguments.value_size.to_string(), "--batch", "32"]).args(row);
        command.stdout(Stdio::null());
        command
    };
    shell::run(&mut bench(&cluster[0].1, &["--workload", "load"]))?;
    let mut seconds = Vec::new();
    for run in 1..=arguments.runs {
        let mut puts = bench(&cluster[0].1, &["--workload", "put", "--no-load", "--duration", "1h"]);
        let mut puts = puts.stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_secs(arguments.seconds));
        ensure!(puts.try_wait()?.is_none(), "the puts ended before the store was killed");
        // Dropping a server kills it and waits for its end.
        drop(cluster.remove(0));
        puts.kill()?;
        puts.wait()?;
        let begun = Instant::now();
        let again = stores::start_one(&pinion, &directory.join("0"), None, &[])?;
        let took = begun.elapsed().as_secs_f64();
        eprintln!("run {run} of {}: ready after {took:.2} s", arguments.runs);
        seconds.push(took);
        cluster.insert(0, again);
        let address = cluster[0].1.clone();
        stores::wait("every region has a leader", || {
            let led =
                |regions: Vec<serde_json::Value>| regions.iter().all(|region| stores::has_voters(region, 2));
            stores::regions(&pinion, &address).is_ok_and(led)
        })?;
    }
    drop(cluster);
    std::fs::remove_dir_all(&directory)?;
    let (median, most) = (median(&seconds).unwrap_or(0.0), seconds.iter().copied().fold(0.0, f64::max));
    println!("ready {median:.2} s after a kill under puts, {most:.2} s at most, with {} MiB", arguments.load);
    ensure!(most < 2.0, "that is not under two seconds");
    Ok(())
}
