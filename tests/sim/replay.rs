//! The same seed gives the same run, event by event, in another process too: connections that break with calls outstanding, power cuts and
//! recoveries included. Two processes agree on a seed when the hash of all that happened and the coverage are the same in both.

use crate::cluster::campaign;
use crate::power;
use crate::seeds::from_environment;
use std::process::Command;

/// Names the seed for the other process, and what it plays.
const SEED: &str = "PINION_SIM_TRACE_SEED";
const PLAY: &str = "PINION_SIM_TRACE_PLAY";
const SEEDS: u64 = 3;

/// A campaign's name and how it plays a seed: the hash of all that happened, and what was reached.
type Play = (&'static str, fn(u64) -> String);
const POWER: Play = ("power", |seed| {
    let (reached, hash) = power::play(seed, |_| {});
    account(hash, reached)
});
const CLUSTER: Play = ("cluster", |seed| {
    let (reached, hash) = campaign::play(seed);
    account(hash, reached)
});

/// What two processes must agree on.
fn account(hash: u64, reached: impl std::fmt::Display) -> String {
    format!("trace {hash:016x}\n{reached}end of trace\n")
}

/// Not a test of its own: the other process plays one seed here and prints its account.
#[test]
fn prints_the_account_of_a_seed_when_asked() {
    let Some(seed) = from_environment(SEED) else { return };
    let name = std::env::var(PLAY).unwrap();
    let (_, play) = [POWER, CLUSTER].into_iter().find(|(there, _)| *there == name).unwrap();
    println!("\n{}", play(seed));
}

/// Demands that another process gives this account of a seed.
fn demand_elsewhere(name: &str, seed: u64, here: &str) {
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "replay::prints_the_account_of_a_seed_when_asked", "--nocapture"]);
    let output = other.env(SEED, seed.to_string()).env(PLAY, name).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        printed.contains(here),
        "{name}, seed {seed}, is not the same in two processes: here {here}, there: {printed}"
    );
}

/// Demands that another process plays a seed of the cluster's campaign as this one did.
pub(crate) fn demand_of_cluster(seed: u64, hash: u64, reached: &impl std::fmt::Display) {
    demand_elsewhere(CLUSTER.0, seed, &account(hash, reached));
}

fn agree((name, play): Play) {
    let from = from_environment("PINION_SIM_FROM").unwrap_or(1);
    for seed in from..from + SEEDS {
        demand_elsewhere(name, seed, &play(seed));
    }
}

#[test]
fn two_processes_agree_on_every_event() {
    agree(POWER);
}

#[test]
fn two_processes_agree_on_every_event_of_a_cluster() {
    agree(CLUSTER);
}
