//! Three real stores in network namespaces: killed, paused and parted under load, with every answer checked.
//!
//! `cargo xtask campaign` builds and runs this. Clients read and write at a pace ([`caller`]), round after round ([`session`]); meanwhile stores
//! are troubled and mended ([`trouble`]), leaders and voters moved, regions split ([`administrator`]). Of each round it is judged whether it could
//! have happened in one order ([`judge`]). At the end all replicas must hold the same, and nothing that was acknowledged may be lost
//! ([`convergence`]).

mod administrator;
mod caller;
mod clients;
mod cluster;
mod convergence;
mod judge;
mod keys;
mod network;
mod routes;
mod session;
mod shared;
mod store;
mod trouble;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use clients::Load;
use cluster::{Cluster, STORES, Stop};
use judge::Ledger;
use pinion_workload::Random;
use shared::Shared;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use trouble::Trouble;

/// From so many seconds on a campaign in which some trouble never came has failed, and one in which the administrator was never granted a wish.
const TROUBLES_WITHIN: u64 = 60;
const WISHES_WITHIN: u64 = 300;
/// How often a line tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How long clients go on when all is mended.
const CALM: Duration = Duration::from_secs(2);
/// How long the cluster may take until all is as it should be.
const CONVERGES_WITHIN: Duration = Duration::from_mins(1);

#[derive(Parser)]
struct Arguments {
    /// How long trouble goes on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Operations a second, of all clients together
    #[arg(long, default_value_t = 600)]
    rate: u64,
    /// How many clients there are, each with one call at a time
    #[arg(long, default_value_t = 16)]
    clients: u32,
    /// Seconds that a trouble lasts at most
    #[arg(long, default_value_t = 8)]
    trouble_max: u64,
    /// Chooses keys, values and troubles
    #[arg(long)]
    seed: Option<u64>,
    /// The program pinion
    #[arg(long)]
    server: PathBuf,
    /// Folder on a real disk for data and logs
    #[arg(long, default_value = "target/campaign")]
    directory: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread starts.
    let stop: Stop = Box::pin(pinion_runtime::signal::stop_requested());
    match start(&arguments, stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments, stop: Stop) -> Result<()> {
    std::fs::create_dir_all(&arguments.directory)?;
    let work = tempfile::Builder::new().prefix("run-").tempdir_in(arguments.directory.canonicalize()?)?;
    let seed = arguments.seed.map_or_else(clock_seed, Ok)?;
    let repeat = format!(
        "cargo xtask campaign --seconds {} --rate {} --clients {} --trouble-max {} --seed {seed}",
        arguments.seconds, arguments.rate, arguments.clients, arguments.trouble_max
    );
    println!("again: {repeat}");
    let shared = Arc::new(Shared::default());
    let result = run(arguments, work.path(), &shared, stop, Random::new(seed));
    if result.is_err() && !shared.is_interrupted.load(Relaxed) {
        // Data, logs and histories are what there is to look at.
        eprintln!("kept: {}", work.keep().display());
        eprintln!("again: {repeat}");
    }
    result
}

fn run(
    arguments: &Arguments,
    work: &Path,
    shared: &Arc<Shared>,
    stop: Stop,
    mut random: Random,
) -> Result<()> {
    let program = &arguments.server.canonicalize().context("the program pinion")?;
    let (cluster, client) = Cluster::start(program, work, shared.clone(), stop)?;
    let (rounds, judge) = judge::start(shared.clone(), work.to_owned());
    let lasts_max = Duration::from_secs(arguments.trouble_max);
    let load =
        Load { stores: STORES, clients: arguments.clients, rate: arguments.rate, rests_max: lasts_max };
    let clients = clients::start(load, shared.clone(), rounds, random.fork());
    let mut trouble = Trouble::new(cluster, client.clone(), random, lasts_max)?;
    let begun = Instant::now();
    let mut troubled = make_trouble(&mut trouble, Duration::from_secs(arguments.seconds));
    shared.is_calm.store(true, Relaxed);
    if troubled.is_ok() {
        troubled = trouble.cluster.wait(CALM);
    }
    shared.ends.store(true, Relaxed);
    let seconds = begun.elapsed().as_secs();
    clients.join().map_err(|_| anyhow!("the clients' thread panicked"))??;
    let ledger = judge.join().map_err(|_| anyhow!("the checker's thread panicked"))?;
    report(&trouble, seconds);
    troubled?;
    trouble.cluster.check()?;
    end(&mut trouble, &client, program, &ledger)?;
    demand(arguments, &trouble)
}

fn make_trouble(trouble: &mut Trouble, time: Duration) -> Result<()> {
    let (begun, mut told) = (Instant::now(), Instant::now());
    trouble.run(time, |trouble| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let (shared, works) = (&trouble.cluster.shared, &trouble.cluster.shared.works);
            println!(
                "{:5} s: {} operations, {} rounds checked (slowest {} ms), {} troubles, {}",
                begun.elapsed().as_secs(),
                shared.operations(),
                works.rounds_checked.load(Relaxed),
                works.check_ms_max.load(Relaxed),
                trouble.counts().map(|(_, count)| count).sum::<u64>(),
                trouble.recoveries()
            );
        }
    })
}

/// The stores come to rest, are compared, and are stopped.
fn end(trouble: &mut Trouble, client: &pinion_client::Client, program: &Path, ledger: &Ledger) -> Result<()> {
    let regions = convergence::wait_until_whole(client, usize::from(STORES), CONVERGES_WITHIN)?;
    let count = regions.len();
    let keys = convergence::compare(regions, ledger)?;
    println!("{count} regions with {keys} keys are the same on every store, and hold what was acknowledged");
    trouble.cluster.check()?;
    trouble.cluster.stop(program)?;
    println!("all stores stopped cleanly, and every checksum of theirs is right");
    Ok(())
}

fn report(trouble: &Trouble, seconds: u64) {
    let (shared, works) = (&trouble.cluster.shared, &trouble.cluster.shared.works);
    print!("{}", shared.table());
    println!("{} operations in {seconds} s", shared.operations());
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Relaxed);
    println!(
        "checked: {} rounds, {} keys, {} of them undecided; {} configurations, slowest round {} ms",
        load(&works.rounds_checked),
        load(&works.keys_checked),
        load(&works.keys_undecided),
        load(&works.configurations),
        load(&works.check_ms_max)
    );
    for (name, count) in trouble.counts().chain(administered(shared)) {
        println!("{name}: {count}");
    }
    println!("{}", trouble.recoveries());
}

fn administered(shared: &Shared) -> [(&'static str, u64); 4] {
    let works = &shared.works;
    [
        ("leader moved", &works.transfers),
        ("region split", &works.splits),
        ("voter removed", &works.removals),
        ("voter made a learner", &works.demotions),
    ]
    .map(|(name, count)| (name, count.load(Relaxed)))
}

/// What a campaign must have come to that found nothing.
fn demand(arguments: &Arguments, trouble: &Trouble) -> Result<()> {
    let shared = &trouble.cluster.shared;
    let undecided = shared.works.keys_undecided.load(Relaxed);
    ensure!(undecided == 0, "{undecided} keys are undecided: the checker's limits were reached");
    if arguments.seconds >= TROUBLES_WITHIN {
        ensure!(trouble.had_all(), "some kind of trouble never came");
    }
    if arguments.seconds >= WISHES_WITHIN {
        let never = administered(shared).into_iter().find(|(_, count)| *count == 0);
        ensure!(never.is_none(), "what never happened: {never:?}");
    }
    Ok(())
}

/// A seed nobody chose.
fn clock_seed() -> Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::from(since.subsec_nanos()) << 16 ^ since.as_secs())
}
