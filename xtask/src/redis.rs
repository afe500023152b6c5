//! `cargo xtask bench redis`: the server beside Debian's Redis with `appendfsync always`.
//!
//! One processor belongs to the server under test, another to the client. The two servers run in turn, several times, and the medians
//! count, so that a slow minute of the machine falls on both.

use crate::{setup, shell, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

pub(crate) fn run(arguments: &RedisArguments) -> Result<()> {
    setup::debian(&["redis-server", "redis-tools", "util-linux"])?;
    let pinion = workspace::build_release("pinion", "pinion", &[])?;
    let directory = arguments.directory.clone().unwrap_or_else(|| workspace::target().join("bench-redis"));
    let mut figures: Vec<(Vec<f64>, Vec<f64>)> = ROWS.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for run in 1..=arguments.runs {
        eprintln!("run {run} of {}", arguments.runs);
        measure_redis(arguments, &directory.join("redis"), &mut figures)?;
        measure_pinion(arguments, &pinion, &directory.join("pinion"), &mut figures)?;
    }
    std::fs::remove_dir_all(&directory)?;
    print_table(&figures);
    Ok(())
}

fn measure_redis(
    arguments: &RedisArguments,
    directory: &Path,
    figures: &mut [(Vec<f64>, Vec<f64>)],
) -> Result<()> {
    fresh(directory)?;
    let port = free_port()?;
    let mut server = pinned(arguments.server_cpu, Path::new("redis-server"));
    server.args(["--port", &port, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always"]);
    server.args(["--save", "", "--auto-aof-rewrite-percentage", "0", "--dir"]).arg(directory);
    let _server = Server(server.stdout(Stdio::null()).spawn().context("redis-server")?);
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        anyhow::ensure!(Instant::now() < deadline, "redis-server does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    for (row, (redis, _)) in ROWS.iter().zip(figures).filter(|(row, _)| !row.redis.is_empty()) {
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
    figures: &mut [(Vec<f64>, Vec<f64>)],
) -> Result<()> {
    fresh(directory)?;
    let mut server = pinned(arguments.server_cpu, pinion);
    server.args(["server", "--cores", "1", "--cpus", "none", "--listen", "127.0.0.1:0", "--data-dir"]);
    let mut server = Server(server.arg(directory).stdout(Stdio::piped()).spawn().context("pinion server")?);
    let address = ready_address(&mut server.0)?;
    for (row, (_, ours)) in ROWS.iter().zip(figures) {
        let mut client = pinned(arguments.client_cpu, pinion);
        client.args(["bench", "raw", "--connect", &address, "--value-size", "100", "--output", "json"]);
        client.args(["--distribution", "uniform", "--records", &arguments.keys.to_string()]);
        client.args(["--duration", &format!("{}s", arguments.seconds)]);
        let printed = shell::output(client.args(row.pinion))?;
        let rate = pinion_rate(&printed).with_context(|| format!("pinion bench raw printed: {printed}"))?;
        eprintln!("  pinion  {:40} {rate:10.0} a second", row.name);
        ours.push(rate);
    }
    Ok(())
}

fn print_table(figures: &[(Vec<f64>, Vec<f64>)]) {
    println!("| row | Redis, a second | Pinion, a second | ratio | wanted |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (row, (redis, ours)) in ROWS.iter().zip(figures) {
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
}

/// A server process that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `program` on one processor.
fn pinned(cpu: usize, program: &Path) -> Command {
    let mut command = shell::command("taskset", ["--cpu-list", &cpu.to_string()]);
    command.arg(program);
    command
}

fn fresh(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

/// A port that was free a moment ago.
fn free_port() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port().to_string())
}

/// The first address of the line `ready store=1 listen=A,B`.
fn ready_address(server: &mut Child) -> Result<String> {
    let stdout = server.stdout.take().context("the server's output was asked for")?;
    for line in BufReader::new(stdout).lines() {
        if let Some(address) = listen_of(&line?) {
            return Ok(address);
        }
    }
    bail!("pinion server ended before it was ready")
}

fn listen_of(line: &str) -> Option<String> {
    let fields = line.strip_prefix("ready ")?;
    let listen = fields.split(' ').find_map(|field| field.strip_prefix("listen="))?;
    listen.split(',').next().map(str::to_owned)
}

/// The rate in redis-benchmark's CSV: the second field of the line that is not the header.
fn redis_rate(printed: &str) -> Option<f64> {
    let line = printed.lines().find(|line| line.starts_with("\"SET\"") || line.starts_with("\"GET\""))?;
    line.split(',').nth(1)?.trim_matches('"').parse().ok()
}

/// Operations a second in the JSON line of `pinion bench raw`.
fn pinion_rate(printed: &str) -> Option<f64> {
    let line = printed.lines().rev().find(|line| line.starts_with('{'))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["operations_per_second"].as_f64()
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_found_in_what_the_clients_print() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"62500.00\",\"0.5\"\n";
        assert_eq!(redis_rate(csv), Some(62500.0));
        assert_eq!(redis_rate("nothing"), None);
        assert_eq!(pinion_rate("text\n{\"operations_per_second\":123.5}\n"), Some(123.5));
        assert_eq!(pinion_rate("{}"), None);
    }

    #[test]
    fn the_ready_line_names_the_first_address() {
        let line = "ready store=1 listen=127.0.0.1:20160,127.0.0.1:20161";
        assert_eq!(listen_of(line).as_deref(), Some("127.0.0.1:20160"));
        assert_eq!(listen_of("listening"), None);
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    }
}
