//! `pinion bench`: measures a running store.
//!
//! One core makes all the calls, each by the cluster's client; a connection is a client with connections of its own to every core that it calls. In a closed loop each of `connections` × `depth` workers sends its next call when the last one is
//! answered. In an open loop (`--rate`) calls have planned times, and latency counts from the planned time, so that a store that
//! stalls pays for every call that the stall held up.

mod report;
mod worker;
mod workload;

use crate::cli::bench::{BenchArguments, BenchRaw, BenchTarget, Workload};
use crate::cli::exit;
use crate::commands::connection::connect;
use anyhow::Context as _;
use pinion_client::Cluster;
use pinion_runtime::machine::{MachineConfig, run as run_machine};
use pinion_runtime::{now, spawn};
use report::{Outcome, Report};
use std::process::ExitCode;
use std::rc::Rc;
use worker::{Run, Window, work};
use workload::Generator;

/// Puts in one call while records are loaded before a measurement.
const LOAD_BATCH: usize = 128;
/// Connections that load them.
const LOAD_CONNECTIONS: usize = 8;
/// Connections at most.
const CONNECTIONS_MAX: usize = 4096;

/// Runs the mode.
pub(crate) fn run(arguments: &BenchArguments) -> anyhow::Result<ExitCode> {
    let BenchTarget::Raw(arguments) = &arguments.target;
    if let Some(wrong) = wrong_usage(arguments) {
        eprintln!("pinion: {wrong}");
        return Ok(ExitCode::from(exit::USAGE));
    }
    let arguments = arguments.clone();
    let config = MachineConfig { cpus: vec![arguments.cpu], ..MachineConfig::unpinned(1) };
    let mut results = run_machine(&config, move |_| async move { bench(&arguments).await })
        .context("cannot start io_uring; is it allowed here?")?;
    results.pop().context("the client's core gave no result")?
}

fn wrong_usage(arguments: &BenchRaw) -> Option<&'static str> {
    if arguments.records == 0 || arguments.connections == 0 || arguments.depth == 0 || arguments.batch == 0 {
        return Some("records, connections, depth and batch are at least 1");
    }
    if arguments.connections > CONNECTIONS_MAX {
        return Some("there are 4096 connections at most");
    }
    if arguments.batch > 1 && matches!(arguments.workload, Workload::E | Workload::F) {
        return Some("scans and read-modify-writes do not go in batches");
    }
    if arguments.rate == Some(0) {
        return Some("the rate is at least 1");
    }
    None
}

async fn bench(arguments: &BenchRaw) -> anyhow::Result<ExitCode> {
    let cluster = connect(&arguments.connection.connect, arguments.connection.timeout).await?;
    let needs_records = !arguments.no_load && arguments.workload != Workload::Load;
    if needs_records {
        let load = BenchRaw {
            workload: Workload::Load,
            connections: LOAD_CONNECTIONS,
            depth: 1,
            batch: LOAD_BATCH,
            rate: None,
            warmup: std::time::Duration::ZERO,
            ..arguments.clone()
        };
        let outcome = measure(&load, &cluster).await?;
        if let Some(error) = &outcome.first_error {
            anyhow::bail!("cannot load the records: {error}");
        }
        eprintln!("loaded {} records of {} B in {:.2?}", load.records, load.value_size, outcome.elapsed);
    }
    let outcome = measure(arguments, &cluster).await?;
    Report { arguments, outcome: &outcome }.print(arguments.connection.output)?;
    Ok(if outcome.errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::ERROR) })
}

async fn measure(arguments: &BenchRaw, cluster: &Cluster) -> anyhow::Result<Outcome> {
    let clients: Vec<_> = (0..arguments.connections).map(|_| cluster.with_own_connections()).collect();
    let busy = cluster.busy_count();
    let start = now();
    let begin = start + arguments.warmup;
    let window = Window { start, begin, end: begin + arguments.duration };
    let run = Rc::new(Run::new(Generator::new(arguments), window, arguments));
    let workers: Vec<_> = (0..arguments.depth)
        .flat_map(|_| &clients)
        .map(|client| spawn(work(client.clone(), run.clone())))
        .collect();
    for worker in workers {
        worker.await;
    }
    let run = Rc::into_inner(run).context("a worker still runs")?;
    Ok(run.into_outcome(begin.elapsed(), cluster.busy_count() - busy))
}
