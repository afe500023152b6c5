//! `cargo xtask bench redis`: the server beside Debian's Redis with `appendfsync always`.
//!
//! One processor belongs to the server under test, another to the client. The two servers run in turn, several times, and the medians
//! count, so that a slow minute of the machine falls on both.

use crate::server::{Server, figure, free_port, fresh, median, operations_per_second, pinned};
use crate::{setup, shell, workspace};
use anyhow::{Context, Result};
use clap::Args;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const START_MAX: Duration = Duration::from_secs(30);
/// How many times more commands a row gets that sends them in batches.
const BATCHED_TIMES: u64 = 8;

/// What is run, and where.
#[derive(Args)]
pub(crate) struct RedisArguments {
    /// Alternating runs; the medians count
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Commands of each Redis row; eight times as many where they go in batches
    #[arg(long, default_value_t = 300_000)]
    requests: u64,
    /// Different keys
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Seconds of each of our rows
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The server's processor
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The client's processor
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Folder on a real disk for the data of both
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// One row of the table: the same work for both servers.
struct Row {
    name: &'static str,
    /// Arguments of redis-benchmark; empty where Redis has no such row.
    redis: &'static [&'static str],
    /// Arguments of `pinion bench raw`.
    pinion: &'static [&'static str],
    /// What the ratio must at least be.
    wanted: f64,
}

const ROWS: [Row; 6] = [
    Row {
        name: "put, 50 connections, one call each",
        redis: &["-t", "set", "-c", "50"],
        pinion: &["--workload", "put", "--no-load", "--connections", "50", "--depth", "1"],
        wanted: 1.0,
    },
    Row {
        name: "get, 50 connections, one call each",
        redis: &["-t", "get", "-c", "50"],
        pinion: &["--workload", "get", "--connections", "50", "--depth", "1"],
        wanted: 0.8,
    },
    Row {
        name: "put, 50 connections, batches of 32",
        redis: &["-t", "set", "-c", "50", "-P", "32"],
        pinion: &["--workload", "put", "--no-load", "--connections", "50", "--depth", "1", "--batch", "32"],
        wanted: 1.0,
    },
    Row {
        name: "get, 50 connections, batches of 32",
        redis: &["-t", "get", "-c", "50", "-P", "32"],
        pinion: &["--workload", "get", "--connections", "50", "--depth", "1", "--batch", "32"],
        wanted: 1.0,
    },
    Row {
        name: "put, 4 connections, 64 calls in flight",
        redis: &[],
        pinion: &["--workload", "put", "--no-load", "--connections", "4", "--depth", "16"],
        wanted: 0.0,
    },
    Row {
        name: "get, 4 connections, 64 calls in flight",
        redis: &[],
        pinion: &["--workload", "get", "--connections", "4", "--depth", "16"],
        wanted: 0.0,
    },
];

/// A server of one core; the folder of its data comes last.
const SERVER: [&str; 6] = ["server", "--cores", "1", "--cpus", "none", "--data-dir"];
/// Calls that may be in flight on each connection at half load: so many that a pause delays no later call on the client's side.
const HALF_LOAD_DEPTH: &str = "8";
/// The latencies that are shown of single puts at half of the rate that they reach.
const HALF_LOAD: [&str; 4] = ["p50", "p99", "p99.9", "max"];

/// What was measured, a figure for each run.
struct Figures {
    /// Operations a second of Redis and of ours, for each of [`ROWS`].
    rows: Vec<(Vec<f64>, Vec<f64>)>,
    /// Microseconds.
    half_load: [(&'static str, Vec<f64>); HALF_LOAD.len()],
}

pub(crate) fn run(arguments: &RedisArguments) -> Result<()> {
    setup::debian(&["redis-server", "redis-tools", "util-linux"])?;
    let pinion = workspace::build_release("pinion", "pinion", &[])?;
    let directory = arguments.directory.clone().unwrap_or_else(|| workspace::target().join("bench-redis"));
    let mut figures = Figures {
        rows: ROWS.iter().map(|_| (Vec::new(), Vec::new())).collect(),
        half_load: HALF_LOAD.map(|name| (name, Vec::new())),
    };
    for run in 1..=arguments.runs {
        eprintln!("run {run} of {}", arguments.runs);
        measure_redis(arguments, &directory.join("redis"), &mut figures)?;
        measure_pinion(arguments, &pinion, &directory.join("pinion"), &mut figures)?;
    }
    std::fs::remove_dir_all(&directory)?;
    print_table(&figures);
    Ok(())
}

fn measure_redis(arguments: &RedisArguments, directory: &Path, figures: &mut Figures) -> Result<()> {
    fresh(directory)?;
    let port = free_port()?;
    let mut server = pinned(arguments.server_cpu, Path::new("redis-server"));
    server.args(["--port", &port, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always"]);
    server.args(["--save", "", "--auto-aof-rewrite-percentage", "0", "--dir"]).arg(directory);
    let _server = Server::spawn(server.stdout(Stdio::null()))?;
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        anyhow::ensure!(Instant::now() < deadline, "redis-server does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    for (row, (redis, _)) in ROWS.iter().zip(&mut figures.rows).filter(|(row, _)| !row.redis.is_empty()) {
        // It counts commands; batched rows get more of them, so that every row lasts some seconds.
        let commands = arguments.requests * if row.redis.contains(&"-P") { BATCHED_TIMES } else { 1 };
        let mut client = pinned(arguments.client_cpu, Path::new("redis-benchmark"));
        client.args(["-p", &port, "-n", &commands.to_string(), "-d", "100", "--csv"]);
        client.args(["-r", &arguments.keys.to_string()]).args(row.redis);
        let printed = shell::output(&mut client)?;
        let rate = redis_rate(&printed).with_context(|| format!("redis-benchmark printed: {printed}"))?;
        eprintln!("  redis   {:40} {rate:10.0} a second", row.name);
        redis.push(rate);
    }
    Ok(())
}

fn measure_pinion(
    arguments: &RedisArguments,
    pinion: &Path,
    directory: &Path,
    figures: &mut Figures,
) -> Result<()> {
    fresh(directory)?;
    let mut command = pinned(arguments.server_cpu, pinion);
    let (server, address) = Server::start(command.args(SERVER).arg(directory))?;
    for (row, (_, ours)) in ROWS.iter().zip(&mut figures.rows) {
        let client = pinned(arguments.client_cpu, pinion);
        let rate = operations_per_second(&bench(arguments, client, &address, row.pinion)?)?;
        eprintln!("  pinion  {:40} {rate:10.0} a second", row.name);
        ours.push(rate);
    }
    drop(server);
    measure_half_load(arguments, pinion, directory, figures)
}

/// What a user feels is what a store does that is not driven as fast as it goes. Here both run where they like: a processor that the kernel
/// keeps for some milliseconds would be most of what is measured.
fn measure_half_load(
    arguments: &RedisArguments,
    pinion: &Path,
    directory: &Path,
    figures: &mut Figures,
) -> Result<()> {
    fresh(directory)?;
    let (_server, address) = Server::start(Command::new(pinion).args(SERVER).arg(directory))?;
    let single_puts = figures.rows[0].1.last().copied().unwrap_or_default();
    let half = format!("{:.0}", single_puts / 2.0);
    let row = ["--workload", "put", "--no-load", "--connections", "50", "--depth", HALF_LOAD_DEPTH];
    let row = [&row[..], &["--warmup", "1s", "--rate", &half]].concat();
    let printed = bench(arguments, Command::new(pinion), &address, &row)?;
    let mut shown = Vec::new();
    for (name, values) in &mut figures.half_load {
        let latency = figure(&printed, &format!("/latency_us/update/{name}"))?;
        shown.push(format!("{name} {latency:.0} us"));
        values.push(latency);
    }
    eprintln!("  pinion  put at half of that, {half} a second: {}", shown.join(", "));
    Ok(())
}

/// What `pinion bench raw` prints.
fn bench(arguments: &RedisArguments, mut client: Command, address: &str, row: &[&str]) -> Result<String> {
    client.args(["bench", "raw", "--connect", address, "--value-size", "100", "--output", "json"]);
    client.args(["--distribution", "uniform", "--records", &arguments.keys.to_string()]);
    client.args(["--duration", &format!("{}s", arguments.seconds)]);
    shell::output(client.args(row))
}

fn print_table(figures: &Figures) {
    println!("| row | Redis, a second | Pinion, a second | ratio | wanted |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (row, (redis, ours)) in ROWS.iter().zip(&figures.rows) {
        let (redis, ours) = (median(redis), median(ours));
        match redis {
            Some(redis) => {
                let ours = ours.unwrap_or(0.0);
                println!(
                    "| {} | {redis:.0} | {ours:.0} | {:.2} | {:.1} |",
                    row.name,
                    ours / redis,
                    row.wanted
                );
            }
            None => println!("| {} | | {:.0} | | |", row.name, ours.unwrap_or(0.0)),
        }
    }
    let half_load = figures.half_load.iter();
    let medians: Vec<_> =
        half_load.map(|(name, values)| format!("{name} {:.0} us", median(values).unwrap_or(0.0))).collect();
    println!("\nSingle puts at half of their rate, 50 connections: {}.", medians.join(", "));
}

/// The rate in redis-benchmark's CSV: the second field of the line that is not the header.
fn redis_rate(printed: &str) -> Option<f64> {
    let line = printed.lines().find(|line| line.starts_with("\"SET\"") || line.starts_with("\"GET\""))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_found_in_what_the_clients_print() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"62500.00\",\"0.5\"\n";
        assert_eq!(redis_rate(csv), Some(62500.0));
        assert_eq!(redis_rate("nothing"), None);
    }
}
