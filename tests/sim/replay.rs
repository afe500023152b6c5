//! The same seed gives the same run, event by event, in another process too: connections that break with calls outstanding, power cuts and
//! recoveries included.

use crate::power;
use crate::seeds::from_environment;
use std::process::Command;

/// Names the seed for the other process.
const SEED: &str = "PINION_SIM_TRACE_SEED";
const SEEDS: u64 = 3;

/// Not a test of its own: the other process plays one seed here and prints its hash.
#[test]
fn prints_the_hash_of_a_seed_when_asked() {
    if let Some(seed) = from_environment(SEED) {
        println!("trace {:016x}", power::play(seed, |_| {}).1);
    }
}

#[test]
fn two_processes_agree_on_every_event() {
    let from = from_environment("PINION_SIM_FROM").unwrap_or(1);
    for seed in from..from + SEEDS {
        let here = format!("trace {:016x}", power::play(seed, |_| {}).1);
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args(["--exact", "replay::prints_the_hash_of_a_seed_when_asked", "--nocapture"]);
        let output = other.env(SEED, seed.to_string()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            printed.lines().any(|line| line.ends_with(&here)),
            "seed {seed}: {here} here, there: {printed}"
        );
    }
}
