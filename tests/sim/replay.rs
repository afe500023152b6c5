//! The same seed gives the same run, event by event, in another process too: connections that break with calls outstanding, power cuts and
//! recoveries included.

use crate::cluster::campaign;
use crate::power;
use crate::seeds::from_environment;
use std::process::Command;

/// Names the seed for the other process, and what it plays.
const SEED: &str = "PINION_SIM_TRACE_SEED";
const PLAY: &str = "PINION_SIM_TRACE_PLAY";
const POWER_SEEDS: u64 = 3;
const CLUSTER_SEEDS: u64 = 1;

/// A campaign's name and how it plays a seed: the hash of all that happened.
type Play = (&'static str, fn(u64) -> u64);
const POWER: Play = ("power", |seed| power::play(seed, |_| {}).1);
const CLUSTER: Play = ("cluster", |seed| campaign::play(seed).1);

/// Not a test of its own: the other process plays one seed here and prints its hash.
#[test]
fn prints_the_hash_of_a_seed_when_asked() {
    let Some(seed) = from_environment(SEED) else { return };
    let name = std::env::var(PLAY).unwrap();
    let (_, play) = [POWER, CLUSTER].into_iter().find(|(there, _)| *there == name).unwrap();
    println!("trace {:016x}", play(seed));
}

fn agree((name, play): Play, seeds: u64) {
    let from = from_environment("PINION_SIM_FROM").unwrap_or(1);
    for seed in from..from + seeds {
        let here = format!("trace {:016x}", play(seed));
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args(["--exact", "replay::prints_the_hash_of_a_seed_when_asked", "--nocapture"]);
        let output = other.env(SEED, seed.to_string()).env(PLAY, name).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            printed.lines().any(|line| line.ends_with(&here)),
            "{name}, seed {seed}: {here} here, there: {printed}"
        );
    }
}

#[test]
fn two_processes_agree_on_every_event() {
    agree(POWER, POWER_SEEDS);
}

#[test]
fn two_processes_agree_on_every_event_of_a_cluster() {
    agree(CLUSTER, CLUSTER_SEEDS);
}
