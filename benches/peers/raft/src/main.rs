//! The consensus core beside the `raft` crate: three nodes, one thread, no network, each library's own storage in memory.
//!
//! Both are driven by the same loop: a batch of proposals at the leader, then each node in turn hands out what it wants written, sent
//! and applied, until nobody wants anything. A proposal counts when it is applied on all three. Time is the thread's processor time,
//! which neighbours on the machine disturb least; allocations are counted by the global allocator.

mod allocations;
mod ours;
mod theirs;

use anyhow::{Result, ensure};
use clap::Parser;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Applied entries between two compactions of the storages, which bound the memory of a run.
pub(crate) const COMPACT_EVERY: u64 = 4096;
/// Bytes of a proposal.
pub(crate) const PROPOSAL_BYTES: usize = 128;

/// Three nodes of one library, the first of which leads.
pub(crate) trait Group {
    const NAME: &str;

    /// Starts the nodes and elects the first.
    fn start() -> Self;

    /// Proposes this many entries, one by one or in one call, and plays until all nodes have applied them.
    fn commit(&mut self, count: u64, at_once: bool);

    /// Proposals that every node has applied.
    fn applied(&self) -> u64;

    /// Forgets what is applied.
    fn compact(&mut self);
}

#[derive(Parser)]
#[command(about = "The consensus core beside the raft crate")]
struct Arguments {
    /// Proposals between two rounds of messages
    #[arg(long, value_delimiter = ',', default_value = "1,16,256")]
    batches: Vec<u64>,
    /// Rounds, in each of which all have their turn; figures are medians over the turns, ratios medians over the rounds
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Processor seconds of a turn
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Propose a batch by one call, instead of a call for each proposal
    #[arg(long)]
    at_once: bool,
    /// Only this library, for a profiler, by its name in the table
    #[arg(long)]
    only: Option<String>,
}

/// What one turn gave.
#[derive(Clone, Copy, Default)]
struct Figures {
    proposals_a_second: f64,
    allocations_a_proposal: f64,
    bytes_a_proposal: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0 && arguments.seconds > 0.0, "a run has rounds, and a round has time");
    ensure!(arguments.batches.iter().all(|batch| *batch > 0), "a batch has proposals");
    println!(
        "{:>6} {:>18} {:>14} {:>8} {:>22} {:>16}",
        "batch", "library", "proposals/s", "ratio", "allocations/proposal", "bytes/proposal"
    );
    for batch in &arguments.batches {
        let mut turns = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..arguments.rounds {
            for (library, turns) in
                turns.iter_mut().enumerate().filter(|(library, _)| arguments.wants(*library))
            {
                turns.push(LIBRARIES[library].1(*batch, arguments.at_once, arguments.seconds));
            }
        }
        for ((name, _), theirs) in LIBRARIES.iter().zip(&turns) {
            print(*batch, name, &turns[0], theirs);
        }
    }
    Ok(())
}

/// Takes the batch, whether it is proposed at once, and the seconds.
type Turn = fn(u64, bool, f64) -> Figures;

/// The libraries, ours first, with what measures a turn.
const LIBRARIES: [(&str, Turn); 3] = [
    (ours::Group::NAME, turn::<ours::Group>),
    (theirs::Group::<false>::NAME, turn::<theirs::Group<false>>),
    (theirs::Group::<true>::NAME, turn::<theirs::Group<true>>),
];

impl Arguments {
    fn wants(&self, library: usize) -> bool {
        self.only.as_ref().is_none_or(|name| LIBRARIES[library].0 == name)
    }
}

/// A line of the table. The ratio is that of our turn to this library's in the same round: what slows the machine slows both.
fn print(batch: u64, name: &str, ours: &[Figures], theirs: &[Figures]) {
    let speed = |figures: &Figures| figures.proposals_a_second;
    let ratio = median(ours.iter().zip(theirs).map(|(ours, theirs)| speed(ours) / speed(theirs)));
    let Some(proposals) = median(theirs.iter().map(speed)) else { return };
    let allocations = median(theirs.iter().map(|figures| figures.allocations_a_proposal)).unwrap_or(0.0);
    let bytes = median(theirs.iter().map(|figures| figures.bytes_a_proposal)).unwrap_or(0.0);
    let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    println!("{batch:>6} {name:>18} {proposals:>14.0} {ratio:>8} {allocations:>22.2} {bytes:>16.0}");
}

/// A library's turn: a group of its own, warmed up, then measured.
fn turn<G: Group>(batch: u64, at_once: bool, seconds: f64) -> Figures {
    let mut group = G::start();
    let mut since_compaction = 0;
    let mut run = |group: &mut G, seconds: f64| {
        let begin = thread_time();
        let limit = Duration::from_secs_f64(seconds);
        loop {
            // Asking for the time costs a system call.
            for _ in 0..64 {
                group.commit(batch, at_once);
                since_compaction += batch;
                if since_compaction >= COMPACT_EVERY {
                    since_compaction = 0;
                    group.compact();
                }
            }
            let elapsed = thread_time().saturating_sub(begin);
            if elapsed >= limit {
                return elapsed;
            }
        }
    };
    run(&mut group, seconds / 5.0);
    let (applied, allocated) = (group.applied(), allocations::count());
    let elapsed = run(&mut group, seconds);
    let proposals = (group.applied() - applied) as f64;
    let after = allocations::count();
    Figures {
        proposals_a_second: proposals / elapsed.as_secs_f64(),
        allocations_a_proposal: (after.number - allocated.number) as f64 / proposals,
        bytes_a_proposal: (after.bytes - allocated.bytes) as f64 / proposals,
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of this frame.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "every Linux has this clock");
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}
