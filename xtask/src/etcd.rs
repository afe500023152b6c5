//! `cargo xtask bench etcd`: three stores beside Debian's etcd with three members, all on this machine.
//!
//! The two clusters run in turn, several times, each in a fresh folder on the same disk, and the medians count. Nothing is bound to a
//! processor. etcd is called twice, through all members and through its leader alone; the ratio is to whichever of the two was faster.

use crate::server::{Server, figure, free_port, fresh, median, operations_per_second};
use crate::{setup, shell, stores, workspace};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const MEMBERS: usize = 3;

/// What is run, and where.
#[derive(Args)]
pub(crate) struct EtcdArguments {
    /// Alternating runs; the medians count
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of each row
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Different keys
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    value_size: u64,
    /// Folder on a real disk for the data of both
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// One row of the table: the same work for both clusters, by 64 clients with one call each.
struct Row {
    name: &'static str,
    /// The workload of pinion-bench-etcd.
    etcd: &'static str,
    /// Arguments of `pinion bench raw`.
    pinion: &'static [&'static str],
    /// Under which name both print its latency.
    kind: &'static str,
    /// What the ratio must at least be.
    wanted: f64,
}

const ROWS: [Row; 4] = [
    Row {
        name: "put, 64 clients",
        etcd: "put",
        pinion: &["--workload", "put", "--connections", "4", "--depth", "16"],
        kind: "update",
        wanted: 4.0,
    },
    Row {
        name: "put, 64 clients, a connection each",
        etcd: "put",
        pinion: &["--workload", "put", "--connections", "64", "--depth", "1"],
        kind: "update",
        wanted: 4.0,
    },
    Row {
        name: "put, 64 clients, 32 in a batch or transaction",
        etcd: "txn",
        pinion: &["--workload", "put", "--connections", "4", "--depth", "16", "--batch", "32"],
        kind: "batch",
        wanted: 4.0,
    },
    Row {
        name: "linearizable get, 64 clients",
        etcd: "get",
        pinion: &["--workload", "get", "--connections", "4", "--depth", "16"],
        kind: "read",
        wanted: 5.0,
    },
];
/// etcd shares one connection among 16 clients, as its own clients do, except where each has its own.
const CLIENTS_PER_CONNECTION: [&str; ROWS.len()] = ["16", "1", "16", "16"];

/// One measurement.
#[derive(Clone, Copy)]
struct Figure {
    operations_a_second: f64,
    p99_us: f64,
}

/// What was measured of one row, a figure for each run.
#[derive(Default)]
struct Figures {
    etcd_all: Vec<Figure>,
    etcd_leader: Vec<Figure>,
    pinion: Vec<Figure>,
}

pub(crate) fn run(arguments: &EtcdArguments) -> Result<()> {
    setup::debian(&["etcd-server", "protobuf-compiler"])?;
    let pinion = workspace::build_release("pinion", "pinion", &[])?;
    let client = build_client()?;
    let directory = arguments.directory.clone().unwrap_or_else(|| workspace::target().join("bench-etcd"));
    let mut figures: [Figures; ROWS.len()] = Default::default();
    for run in 1..=arguments.runs {
        eprintln!("run {run} of {}", arguments.runs);
        measure_etcd(arguments, &client, &directory.join("etcd"), &mut figures)?;
        measure_pinion(arguments, &pinion, &directory.join("pinion"), &mut figures)?;
    }
    std::fs::remove_dir_all(&directory)?;
    print_table(&figures);
    Ok(())
}

/// The program in benches/peers/etcd.
fn build_client() -> Result<PathBuf> {
    let peers = workspace::root().join("benches/peers");
    let mut cargo = shell::command("cargo", ["build", "--release", "--quiet", "--locked", "--package"]);
    shell::run(cargo.arg("pinion-bench-etcd").current_dir(&peers))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| peers.join("target"), PathBuf::from);
    Ok(target.join("release/pinion-bench-etcd"))
}

fn measure_etcd(
    arguments: &EtcdArguments,
    client: &Path,
    directory: &Path,
    figures: &mut [Figures; ROWS.len()],
) -> Result<()> {
    fresh(directory)?;
    let (_members, endpoints) = start_etcd(directory)?;
    let call = |workload: &str, more: &[&str]| {
        let mut command = Command::new(client);
        command.args(["--endpoints", &endpoints, "--workload", workload]).args(more);
        command.args(["--records", &arguments.keys.to_string()]);
        command.args(["--value-size", &arguments.value_size.to_string()]);
        shell::output(command.args(["--seconds", &arguments.seconds.to_string()]))
    };
    call("load", &[])?;
    for ((row, sharing), figures) in ROWS.iter().zip(CLIENTS_PER_CONNECTION).zip(figures) {
        let sharing = ["--clients-per-connection", sharing];
        figures.etcd_all.push(parse("etcd", row, &call(row.etcd, &sharing)?)?);
        let leader = [&sharing[..], &["--leader-only"]].concat();
        figures.etcd_leader.push(parse("etcd, leader", row, &call(row.etcd, &leader)?)?);
    }
    Ok(())
}

/// A cluster of [`MEMBERS`] that serves, and its addresses for clients with commas between them.
fn start_etcd(directory: &Path) -> Result<(Vec<Server>, String)> {
    let mut ports = Vec::new();
    for _ in 0..MEMBERS {
        ports.push((free_port()?, free_port()?));
    }
    let peer = |port: &str| format!("http://127.0.0.1:{port}");
    let cluster: Vec<_> =
        ports.iter().enumerate().map(|(number, (_, port))| format!("n{number}={}", peer(port))).collect();
    let mut members = Vec::new();
    for (number, (client_port, peer_port)) in ports.iter().enumerate() {
        let mut command = shell::command("etcd", ["--name", &format!("n{number}"), "--log-level", "error"]);
        command.arg("--data-dir").arg(directory.join(number.to_string()));
        command.args(["--listen-client-urls", &peer(client_port)]);
        command.args(["--advertise-client-urls", &peer(client_port)]);
        command.args(["--listen-peer-urls", &peer(peer_port)]);
        command.args(["--initial-advertise-peer-urls", &peer(peer_port)]);
        command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"]);
        command.args(["--quota-backend-bytes", "8000000000"]);
        members.push(Server::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?);
    }
    let endpoints: Vec<_> = ports.iter().map(|(port, _)| peer(port)).collect();
    stores::wait("etcd serves", || endpoints.iter().all(|endpoint| is_healthy(endpoint)))?;
    Ok((members, endpoints.join(",")))
}

/// Whether a member of etcd says that it can write: it answers with JSON over plain HTTP.
fn is_healthy(endpoint: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let address = endpoint.trim_start_matches("http://");
    let ask = || {
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.contains("\"health\":\"true\""))
    };
    ask().unwrap_or(false)
}

fn measure_pinion(
    arguments: &EtcdArguments,
    pinion: &Path,
    directory: &Path,
    figures: &mut [Figures; ROWS.len()],
) -> Result<()> {
    fresh(directory)?;
    let stores = stores::start(pinion, directory, MEMBERS)?;
    let address = &stores[0].1;
    let bench = |row: &[&str]| {
        let mut command = Command::new(pinion);
        command.args(["bench", "raw", "--connect", address, "--output", "json"]);
        command.args(["--distribution", "uniform", "--records", &arguments.keys.to_string()]);
        command.args(["--value-size", &arguments.value_size.to_string(), "--warmup", "1s"]);
        shell::output(command.args(["--duration", &format!("{}s", arguments.seconds)]).args(row))
    };
    bench(&["--workload", "load"])?;
    for (row, figures) in ROWS.iter().zip(figures) {
        let printed = bench(&[row.pinion, &["--no-load"]].concat())?;
        figures.pinion.push(parse("pinion", row, &printed)?);
    }
    Ok(())
}

fn parse(who: &str, row: &Row, printed: &str) -> Result<Figure> {
    let figure = Figure {
        operations_a_second: operations_per_second(printed)?,
        p99_us: figure(printed, &format!("/latency_us/{}/p99", row.kind))?,
    };
    let (rate, p99) = (figure.operations_a_second, figure.p99_us / 1000.0);
    eprintln!("  {who:12} {:45} {rate:8.0} a second, p99 {p99:5.1} ms", row.name);
    Ok(figure)
}

impl Figures {
    /// What etcd does by whichever way is faster.
    fn etcd(&self) -> &[Figure] {
        let (all, leader) = (rate(&self.etcd_all), rate(&self.etcd_leader));
        if leader > all { &self.etcd_leader } else { &self.etcd_all }
    }
}

/// The median.
fn rate(figures: &[Figure]) -> f64 {
    let rates: Vec<f64> = figures.iter().map(|figure| figure.operations_a_second).collect();
    median(&rates).unwrap_or(0.0)
}

/// The median.
fn p99_ms(figures: &[Figure]) -> f64 {
    let latencies: Vec<f64> = figures.iter().map(|figure| figure.p99_us / 1000.0).collect();
    median(&latencies).unwrap_or(0.0)
}

fn print_table(figures: &[Figures; ROWS.len()]) {
    println!(
        "| row | etcd, a second | etcd, leader alone | Pinion | ratio | wanted | etcd, p99 | Pinion, p99 |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (row, figures) in ROWS.iter().zip(figures) {
        let etcd = figures.etcd();
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} | {:.1} ms | {:.1} ms |",
            row.name,
            rate(&figures.etcd_all),
            rate(&figures.etcd_leader),
            rate(&figures.pinion),
            rate(&figures.pinion) / rate(etcd),
            row.wanted,
            p99_ms(etcd),
            p99_ms(&figures.pinion),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_taken_at_its_faster_way() {
        let figure = |rate| Figure { operations_a_second: rate, p99_us: 1000.0 };
        let figures = Figures {
            etcd_all: vec![figure(1.0), figure(3.0), figure(2.0)],
            etcd_leader: vec![figure(5.0)],
            pinion: vec![figure(9.0)],
        };
        assert_eq!(rate(figures.etcd()).to_string(), "5");
    }
}
