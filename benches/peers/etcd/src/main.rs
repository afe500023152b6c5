//! Load for an etcd cluster in closed loop: each client has one call under way. Prints one line of JSON, with the names that
//! `pinion bench raw --output json` gives the same figures.

mod calls;

use anyhow::{Context, Result, ensure};
use calls::{Calls, Workload};
use clap::Parser;
use etcd_client::Client;
use hdrhistogram::Histogram;
use serde_json::json;
use std::time::{Duration, Instant};

/// A call that takes longer is counted as this long.
const LATENCY_MAX: Duration = Duration::from_mins(1);
/// Puts of a transaction that loads records: etcd takes 128 at most.
const LOAD_BATCH: u64 = 100;

#[derive(Parser)]
#[command(about = "Load for an etcd cluster, as `pinion bench raw` makes it for ours")]
struct Arguments {
    /// Addresses of the members, as `http://HOST:PORT`
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    /// Connect to the leader alone; its followers hand writes on to it, and ask it before each read
    #[arg(long)]
    leader_only: bool,
    /// What is called
    #[arg(long, value_enum)]
    workload: Workload,
    /// Clients, each with one call under way
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Clients that share a connection, as etcd's own clients do
    #[arg(long, default_value_t = 16)]
    clients_per_connection: usize,
    /// How many records there are
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Puts of one transaction
    #[arg(long, default_value_t = 32)]
    batch: u64,
    /// Seconds to run before measuring
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.clients > 0 && arguments.clients_per_connection > 0 && arguments.batch > 0,
        "clients, clients per connection and puts of a transaction are at least one"
    );
    ensure!(arguments.records > 0 && arguments.seconds > 0.0, "there are records, and a time to measure");
    let mut endpoints = arguments.endpoints.clone();
    if arguments.leader_only {
        endpoints = vec![leader(&endpoints).await?];
    }
    let mut connections = Vec::new();
    for number in 0..arguments.clients.div_ceil(arguments.clients_per_connection) {
        let endpoint = endpoints[number % endpoints.len()].clone();
        connections.push(Client::connect([endpoint], None).await?);
    }
    let calls = Calls::new(arguments.records, arguments.value_size, arguments.batch);
    if arguments.workload == Workload::Load {
        calls.load(connections[0].clone(), LOAD_BATCH).await?;
        return Ok(());
    }
    let begin = Instant::now() + Duration::from_secs_f64(arguments.warmup);
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let mut clients = Vec::new();
    for number in 0..arguments.clients {
        let connection = connections[number / arguments.clients_per_connection].clone();
        let number = u64::try_from(number)?;
        clients.push(tokio::spawn(client(connection, calls.clone(), arguments.workload, number, begin, end)));
    }
    let mut latencies = histogram()?;
    for client in clients {
        latencies.add(client.await??)?;
    }
    print(&arguments, &latencies, begin.elapsed());
    Ok(())
}

/// The endpoint of the member that leads.
async fn leader(endpoints: &[String]) -> Result<String> {
    for endpoint in endpoints {
        let status = Client::connect([endpoint], None).await?.status().await?;
        if status.header().is_some_and(|header| header.member_id() == status.leader()) {
            return Ok(endpoint.clone());
        }
    }
    anyhow::bail!("no member leads")
}

/// One client: calls one after the other until `end`, of which those count that began at `begin` or later. The first that fails ends the run.
async fn client(
    mut connection: Client,
    calls: Calls,
    workload: Workload,
    number: u64,
    begin: Instant,
    end: Instant,
) -> Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    let mut made = 0;
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(latencies);
        }
        calls.call(&mut connection, workload, (number << 40) + made).await.context("a call failed")?;
        made += 1;
        if started >= begin {
            latencies.saturating_record(u64::try_from(started.elapsed().as_nanos())?);
        }
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, u64::try_from(LATENCY_MAX.as_nanos())?, 3)?)
}

fn print(arguments: &Arguments, latencies: &Histogram<u64>, elapsed: Duration) {
    let operations = latencies.len() * arguments.workload.operations(arguments.batch);
    let micros = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let line = json!({
        "operations": operations,
        "operations_per_second": operations as f64 / elapsed.as_secs_f64(),
        "latency_us": {
            arguments.workload.kind(): {
                "calls": latencies.len(),
                "p50": micros(0.5),
                "p99": micros(0.99),
                "p99.9": micros(0.999),
                "max": latencies.max() as f64 / 1000.0,
            },
        },
    });
    println!("{line}");
}
