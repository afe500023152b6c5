//! `cargo xtask bench snapshot`: how fast a new peer gets a region's data, and what callers notice of it.

use crate::server::{figure, fresh, median};
use crate::stores::{self, Store};
use crate::{shell, workspace};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a new peer must get a second when no bound is set, in MB.
const RATE_WANTED: f64 = 200.0;
/// How many times higher the callers' p99 may be while a snapshot is sent at the default bound.
const RATIO_MAX: f64 = 2.0;
/// What a store sends of a snapshot at the default bound, `raft.snapshot_rate`, in MiB a second: calls are measured for about as long.
const RATE_DEFAULT: u64 = 100;
/// Seconds in which a third store joins, before it is sent anything, and in which it is sent what was written since the snapshot was made.
const JOIN_SECONDS: u64 = 2;
const CATCH_UP_SECONDS: u64 = 3;
/// Part of the measured time in which a snapshot must be on its way, and how often that is looked at, which costs a little time itself.
const SENT_PART_MIN: f64 = 0.5;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is run, and where.
#[derive(Args)]
pub(crate) struct SnapshotArguments {
    /// Runs of each part; the medians count
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Bytes of the region, MiB
    #[arg(long, default_value_t = 1024)]
    load: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 1024)]
    value_size: u64,
    /// Calls a second, half gets and half puts, whose latency is measured
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Folder on a real disk for the data
    #[arg(long)]
    directory: Option<PathBuf>,
}

fn peers(region: &serde_json::Value) -> usize {
    region["peers"].as_array().map_or(0, Vec::len)
}

/// Whether a region has a third peer that lacks its data.
fn is_sent(region: &serde_json::Value) -> bool {
    peers(region) == 3 && region["peers_pending"].as_array().is_some_and(|pending| !pending.is_empty())
}

struct Run<'a> {
    arguments: &'a SnapshotArguments,
    pinion: &'a Path,
    directory: &'a Path,
}

/// Two stores with the region; a third joins them.
pub(crate) fn run(arguments: &SnapshotArguments) -> Result<()> {
    let pinion = workspace::build_release("pinion", "pinion", &[])?;
    let directory = arguments.directory.clone().unwrap_or_else(|| workspace::target().join("bench-snapshot"));
    let run = Run { arguments, pinion: &pinion, directory: &directory };
    let (mut rates, mut before, mut during) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=arguments.runs {
        eprintln!("run {number} of {}", arguments.runs);
        rates.push(run.unbounded()?);
        let (quiet, busy) = run.beside_calls()?;
        before.push(quiet);
        during.push(busy);
    }
    std::fs::remove_dir_all(&directory)?;
    let ratios: Vec<f64> = before.iter().zip(&during).map(|(quiet, busy)| busy / quiet).collect();
    let show = |values: &[f64]| median(values).unwrap_or(0.0);
    let (rate, ratio) = (show(&rates), show(&ratios));
    println!("a new peer without a bound: {rate:.0} MB a second");
    println!(
        "calls at {} a second: p99 {:.1} ms, and {:.1} ms while a snapshot is sent at the default bound: {ratio:.2} times",
        arguments.rate,
        show(&before) / 1000.0,
        show(&during) / 1000.0,
    );
    ensure!(rate >= RATE_WANTED, "that is less than {RATE_WANTED} MB a second");
    ensure!(ratio <= RATIO_MAX, "that is more than {RATIO_MAX} times");
    Ok(())
}

impl Run<'_> {
    /// Two stores with as much data as asked for in one region.
    fn start(&self, settings: &str) -> Result<Vec<Store>> {
        fresh(self.directory)?;
        std::fs::write(self.directory.join("settings.toml"), settings)?;
        let first = self.start_one("0", None)?;
        let second = self.start_one("1", Some(&first.1))?;
        let cluster = vec![first, second];
        self.wait_for_voters(&cluster, 2)?;
        shell::run(self.bench(&cluster, "load").stdout(Stdio::null()))?;
        Ok(cluster)
    }

    fn start_one(&self, name: &str, join: Option<&str>) -> Result<Store> {
        let settings = self.directory.join("settings.toml");
        let settings = settings.to_str().context("the folder's name is UTF-8")?;
        stores::start_one(self.pinion, &self.directory.join(name), join, &["--config", settings])
    }

    fn bench(&self, cluster: &[Store], workload: &str) -> Command {
        let records = (self.arguments.load << 20) / self.arguments.value_size.max(1);
        let mut command = Command::new(self.pinion);
        command.args([
            "bench",
            "raw",
            "--connect",
            &cluster[0].1,
            "--workload",
            workload,
            "--output",
            "json",
        ]);
        command.args([
            "--records",
            &records.to_string(),
            "--value-size",
            &self.arguments.value_size.to_string(),
        ]);
        if workload == "load" {
            command.args(["--batch", "32"]);
        }
        command
    }

    fn wait_for_voters(&self, cluster: &[Store], count: usize) -> Result<()> {
        stores::wait("every region has its voters", || {
            let all = |regions: Vec<serde_json::Value>| {
                regions.iter().all(|region| stores::has_voters(region, count))
            };
            stores::regions(self.pinion, &cluster[0].1).is_ok_and(all)
        })
    }

    /// The region with the data.
    fn largest(&self, cluster: &[Store]) -> Result<serde_json::Value> {
        let size = |region: &serde_json::Value| region["approximate_size_bytes"].as_u64();
        let regions = stores::regions(self.pinion, &cluster[0].1)?;
        regions.into_iter().max_by_key(size).context("there are regions")
    }

    /// MB a second, from when the region with the data has a third peer until that votes.
    fn unbounded(&self) -> Result<f64> {
        let mut cluster = self.start("[region]\nsplit_size = \"0\"\n[raft]\nsnapshot_rate = \"0\"\n")?;
        let bytes =
            self.largest(&cluster)?["approximate_size_bytes"].as_f64().context("a region has a size")?;
        let third = self.start_one("2", Some(&cluster[0].1))?;
        cluster.push(third);
        stores::wait("the region has a third peer", || {
            self.largest(&cluster).is_ok_and(|region| peers(&region) == 3)
        })?;
        let begun = Instant::now();
        stores::wait("the third peer has the data", || {
            self.largest(&cluster).is_ok_and(|region| stores::has_voters(&region, 3))
        })?;
        let (megabytes, seconds) = (bytes / 1e6, begun.elapsed().as_secs_f64());
        eprintln!("  {megabytes:.0} MB in {seconds:.2} s");
        Ok(megabytes / seconds)
    }

    /// The p99 of calls in microseconds, while nothing else happens, and while a third peer gets its data.
    fn beside_calls(&self) -> Result<(f64, f64)> {
        let mut cluster = self.start("[region]\nsplit_size = \"0\"\n")?;
        let seconds = JOIN_SECONDS + self.arguments.load / RATE_DEFAULT + CATCH_UP_SECONDS;
        let calls = |cluster: &[Store]| {
            let mut command = self.bench(cluster, "a");
            command.args(["--no-load", "--connections", "4", "--depth", "16", "--warmup", "1s"]);
            command.args(["--rate", &self.arguments.rate.to_string(), "--duration", &format!("{seconds}s")]);
            command
        };
        let p99 = |printed: &str| -> Result<f64> {
            Ok(figure(printed, "/latency_us/read/p99")?.max(figure(printed, "/latency_us/update/p99")?))
        };
        let quiet = p99(&shell::output(&mut calls(&cluster))?)?;
        let mut measured = calls(&cluster).stdout(Stdio::piped()).spawn()?;
        let begun = Instant::now();
        let third = self.start_one("2", Some(&cluster[0].1))?;
        cluster.push(third);
        let mut sent_for = Duration::ZERO;
        while measured.try_wait()?.is_none() {
            let looked = Instant::now();
            // Where nobody answers, nothing is known to be sent.
            let is_sent = self.largest(&cluster).is_ok_and(|region| is_sent(&region));
            std::thread::sleep(LOOK_EVERY);
            sent_for += if is_sent { looked.elapsed() } else { Duration::ZERO };
        }
        let part = sent_for.as_secs_f64() / begun.elapsed().as_secs_f64();
        ensure!(part >= SENT_PART_MIN, "a snapshot was sent in {:.0} % of the time only", part * 100.0);
        let output = measured.wait_with_output()?;
        let busy = p99(&String::from_utf8_lossy(&output.stdout))?;
        self.wait_for_voters(&cluster, 3)?;
        eprintln!(
            "  p99 {quiet:.0} us, and {busy:.0} us with a snapshot on its way for {:.0} % of the time",
            part * 100.0
        );
        Ok((quiet, busy))
    }
}
