//! Three real stores, troubled for as long as one likes: `cargo xtask campaign` builds and runs this. What it is made of is in the library.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pinion_campaign::administrator::Wishes;
use pinion_campaign::clients::Load;
use pinion_campaign::cluster::{Plan, Stop};
use pinion_campaign::keys::{GROUPS, border};
use pinion_campaign::play::{Played, Setting, play};
use pinion_campaign::shared::Shared;
use pinion_campaign::trouble::{Trouble, Troubles};
use pinion_workload::Random;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How many stores there are.
const STORES: u8 = 3;
/// Small memtables and logs: so that tables are merged, logs cut, and followers caught up by snapshots within minutes.
const SETTINGS: &str = "\
memory = \"256M\"
cores = 2
cpus = \"none\"
[log]
segment_size = \"8M\"
replay_max = \"16M\"
[tree]
memtable_size = \"1M\"
[limits]
value_max = \"64K\"
";
/// From so many seconds on a campaign in which some trouble never came has failed, and one in which the administrator was never granted a wish.
const TROUBLES_WITHIN: u64 = 60;
const WISHES_WITHIN: u64 = 300;
/// From an hour on a campaign in which there was less than this has failed: so many operations, and so many kills, pauses and partitions each.
const LONG_SECONDS: u64 = 3600;
const LONG_OPERATIONS: u64 = 1_000_000;
const LONG_TROUBLES: u64 = 60;
/// How often a line tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How long clients go on when all is mended.
const CALM: Duration = Duration::from_secs(2);
#[derive(Parser)]
struct Arguments {
    /// How long trouble goes on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Operations a second, of all clients together; 600 leaves most of two processors to others
    #[arg(long, default_value_t = 600)]
    rate: u64,
    /// How many clients there are, each with one call at a time
    #[arg(long, default_value_t = 16)]
    clients: u32,
    /// Seconds that a trouble lasts at most; a quarter of that at least. 3 brings all kinds within a minute, 8 outlasts every timeout
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

fn run(arguments: &Arguments, work: &Path, shared: &Arc<Shared>, stop: Stop, random: Random) -> Result<()> {
    let program = &arguments.server.canonicalize().context("the program pinion")?;
    let lasts_max = Duration::from_secs(arguments.trouble_max);
    let setting = Setting {
        plan: Plan {
            stores: STORES,
            voters: usize::from(STORES),
            settings: SETTINGS.to_owned(),
            borders: (0..GROUPS).step_by(2).skip(1).map(border).collect(),
        },
        load: Load {
            clients: arguments.clients,
            rate: arguments.rate,
            rests_max: lasts_max,
            wishes: Wishes { transfers: true, splits: true, changes: true },
        },
        troubles: Troubles::all(lasts_max),
        loss_percent: 0,
        calm: CALM,
    };
    let (mut begun, mut told) = (None, Instant::now());
    let goes_on = |trouble: &Trouble| {
        let begun = *begun.get_or_insert_with(Instant::now);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(trouble, begun.elapsed());
        }
        begun.elapsed() < Duration::from_secs(arguments.seconds)
    };
    let mut played = play(&setting, program, work, shared, stop, random, goes_on)?;
    report(&played);
    let rest = played.end(program)?;
    println!(
        "{} regions with {} keys are the same on every store, and hold what was acknowledged",
        rest.regions, rest.keys
    );
    println!("all stores stopped cleanly, and every checksum of theirs is right");
    demand(arguments, &played.trouble)
}

fn tell(trouble: &Trouble, time: Duration) {
    let (shared, works) = (&trouble.cluster.shared, &trouble.cluster.shared.works);
    println!(
        "{:5} s: {} operations, {} rounds checked (slowest {} ms), {} troubles, {}",
        time.as_secs(),
        shared.operations(),
        works.rounds_checked.load(Relaxed),
        works.check_ms_max.load(Relaxed),
        trouble.counts().map(|(_, count)| count).sum::<u64>(),
        trouble.recoveries()
    );
}

fn report(played: &Played) {
    let trouble = &played.trouble;
    let (shared, works) = (&trouble.cluster.shared, &trouble.cluster.shared.works);
    print!("{}", shared.table());
    println!("{} operations in {} s", shared.operations(), played.time.as_secs());
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
    if arguments.seconds >= LONG_SECONDS {
        let operations = shared.operations();
        ensure!(operations >= LONG_OPERATIONS, "there were {operations} operations, not {LONG_OPERATIONS}");
        for (class, count) in trouble.classes() {
            ensure!(count >= LONG_TROUBLES, "there were {count} {class}, not {LONG_TROUBLES}");
        }
    }
    Ok(())
}

/// A seed nobody chose.
fn clock_seed() -> Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(u64::from(since.subsec_nanos()) << 16 ^ since.as_secs())
}
