//! The engine beside RocksDB and fjall: the same workloads, one run, and the ratios of CPU time an operation.
//!
//! CPU time of the whole process, background work included, is what a neighbour on the machine disturbs least. Each engine runs in a
//! process of its own, so that memory and time are its own.

mod data;
mod engine;
mod engines;
mod measure;
mod report;
mod workload;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use engine::{Engine, Logging, Options};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use workload::{Bench, Config, FRESH, LOADED};

#[derive(Parser)]
#[command(about = "The engine beside RocksDB and fjall")]
struct Arguments {
    /// Engines, the one that ratios are of first
    #[arg(long, value_delimiter = ',', default_value = "pinion,rocksdb,fjall")]
    engines: Vec<String>,
    /// Workloads; all of them by default
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Lengths of values
    #[arg(long, value_delimiter = ',', default_value = "100,1024")]
    value_bytes: Vec<usize>,
    /// Keys; by default 2,000,000 with values under 512 bytes, 1,000,000 otherwise
    #[arg(long)]
    keys: Option<u64>,
    /// Seconds of each phase that is bounded by time
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Seconds of overwriting
    #[arg(long, default_value_t = 30.0)]
    overwrite_seconds: f64,
    /// Overwrites a second beside the reads
    #[arg(long, default_value_t = 20_000)]
    write_rate: u64,
    /// Where the log of a write that is not synced is when the call returns
    #[arg(long, value_enum, default_value_t = Logging::Buffered)]
    logging: Logging,
    /// Bound of the log in an engine's memory; fjall has 8 KiB and no setting
    #[arg(long, default_value_t = 1024)]
    log_buffer_kib: usize,
    #[arg(long, default_value_t = 4096)]
    cache_mib: usize,
    #[arg(long, default_value_t = 64)]
    memtable_mib: usize,
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Folder on a real disk
    #[arg(long, default_value = "target/data")]
    directory: PathBuf,
    /// Where the lines of JSON go, beside the table
    #[arg(long, default_value = "target/peers.jsonl")]
    json: PathBuf,
    /// Measure this engine in this process, and print lines of JSON
    #[arg(long, hide = true)]
    worker: Option<String>,
}

fn main() -> Result<()> {
    env_logger::Builder::new().filter_level(log::LevelFilter::Warn).init();
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.directory)?;
    match &arguments.worker {
        Some(engine) => measure(engine, &arguments),
        None => compare(&arguments),
    }
}

/// Every engine in turn, each in a process of its own, and the table.
fn compare(arguments: &Arguments) -> Result<()> {
    ensure!(!arguments.engines.is_empty(), "name an engine");
    let mut lines = Vec::new();
    for value_bytes in &arguments.value_bytes {
        for engine in &arguments.engines {
            let mut worker = Command::new(std::env::current_exe()?);
            worker.args(std::env::args_os().skip(1));
            // The last of an option's values would be added to the earlier ones, so the worker gets its own.
            worker.args(["--worker", engine]).env("PEERS_VALUE_BYTES", value_bytes.to_string());
            let mut child = worker.stdout(Stdio::piped()).spawn()?;
            let stdout = child.stdout.take().context("the worker's output was asked for")?;
            for line in BufReader::new(stdout).lines() {
                let line = line?;
                eprintln!("{line}");
                lines.push(serde_json::from_str::<Value>(&line)?);
            }
            let status = child.wait()?;
            ensure!(status.success(), "{engine} failed: {status}");
        }
    }
    let mut json = File::create(&arguments.json).with_context(|| arguments.json.display().to_string())?;
    for line in &lines {
        writeln!(json, "{line}")?;
    }
    report::print(&lines, &arguments.engines);
    Ok(())
}

fn measure(engine: &str, arguments: &Arguments) -> Result<()> {
    match engine {
        "pinion" => run::<engines::pinion::Pinion>(engine, arguments),
        "rocksdb" => run::<engines::rocksdb::RocksDb>(engine, arguments),
        "fjall" => run::<engines::fjall::Fjall>(engine, arguments),
        _ => bail!("there is no engine {engine} here"),
    }
}

fn run<E: Engine>(name: &str, arguments: &Arguments) -> Result<()> {
    let value_bytes: usize = std::env::var("PEERS_VALUE_BYTES").context("PEERS_VALUE_BYTES")?.parse()?;
    let default_keys = if value_bytes < 512 { 2_000_000 } else { 1_000_000 };
    let path = arguments.directory.join(format!("{name}-{value_bytes}"));
    let config = Config {
        options: Options {
            path: path.clone(),
            cache_bytes: arguments.cache_mib << 20,
            memtable_bytes: arguments.memtable_mib << 20,
            logging: arguments.logging,
            log_buffer_bytes: arguments.log_buffer_kib << 10,
        },
        keys: arguments.keys.unwrap_or(default_keys),
        value_bytes,
        seconds: arguments.seconds,
        overwrite_seconds: arguments.overwrite_seconds,
        write_rate: arguments.write_rate,
        seed: arguments.seed,
    };
    let workloads: Vec<String> = if arguments.workloads.is_empty() {
        FRESH.iter().chain(&LOADED).map(|name| (*name).to_owned()).collect()
    } else {
        arguments.workloads.clone()
    };
    let mut bench = Bench::<E>::new(name.to_owned(), config);
    E::block_on(async move {
        for workload in &workloads {
            bench.run(workload).await?;
        }
        anyhow::Ok(())
    })??;
    workload::remove(&path)
}
