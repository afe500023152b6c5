//! A random explorer: groups of three to seven members over a network that loses, doubles, reorders and holds back, with
//! crashes, pauses, slow disks, changes of the configuration, transfers and compaction; after every step a judge looks.
//!
//! `cargo xtask explore` runs it for longer and plays a seed again. From the environment:
//! - `PINION_RAFT_FROM`: the first seed, 1 by default;
//! - `PINION_RAFT_SEEDS`: how many runs, 300 by default, or
//! - `PINION_RAFT_SECONDS`: for how long;
//! - `PINION_RAFT_LOG=1`: tell each step, and what the members say.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as the test does")]

mod counts;
mod dice;
mod disk;
mod judge;
mod member;
mod plan;
mod quorum;
mod world;

use std::time::{Duration, Instant};

use counts::Counts;
use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Says which seed panicked.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed; again: cargo xtask explore --seeds 1 --from {}", self.0, self.0);
        }
    }
}

fn run(seed: u64, counts: &mut Counts) {
    let _seed = Seed(seed);
    let tells = std::env::var_os("PINION_RAFT_LOG").is_some();
    let mut last_step = 0;
    let verdict = World::new(seed).play(counts, |step, what| {
        last_step = step;
        if tells {
            eprintln!("{step:6} {what}");
        }
    });
    counts.runs += 1;
    if let Err(violation) = verdict {
        panic!("step {last_step}: {violation}");
    }
}

#[test]
fn whatever_happens_the_group_stays_one() {
    let from = number("PINION_RAFT_FROM").unwrap_or(1);
    let limit = number("PINION_RAFT_SECONDS").map(Duration::from_secs);
    let seeds = number("PINION_RAFT_SEEDS").unwrap_or(if limit.is_some() { u64::MAX - from } else { 300 });
    #[expect(clippy::disallowed_methods, reason = "the explorer itself runs in real time")]
    let start = Instant::now();
    let mut counts = Counts::default();
    for seed in from..from + seeds {
        if limit.is_some_and(|limit| start.elapsed() >= limit) {
            break;
        }
        run(seed, &mut counts);
    }
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = counts.steps as f64 / seconds;
    println!("seeds from {from}: {counts}  {rate:.0} steps a second");
    assert!(counts.runs < 100 || counts.missing().is_empty(), "never happened: {:?}", counts.missing());
}
