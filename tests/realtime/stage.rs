//! What every row stands on: a thread and a directory of its own, its stores' settings, and what their logs and files tell.

use pinion_campaign::cluster::Stop;
use pinion_campaign::store::Store;
use std::path::Path;
use std::process::Command;

/// Stores of every row.
pub(crate) const STORES: u8 = 5;

/// The program pinion.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pinion"))
}

/// Nobody interrupts a row but with the whole test.
pub(crate) fn never() -> Stop {
    Box::pin(std::future::pending())
}

/// Settings of a store of a row: one core, a small log and small memtables, so many voters for each region by itself.
pub(crate) fn settings(replicas: usize, more: &str) -> String {
    format!(
        "memory = \"128M\"\ncores = 1\ncpus = \"none\"\nreplicas = {replicas}\n[log]\nsegment_size = \"2M\"\nreplay_max = \"8M\"\n\
         [tree]\nmemtable_size = \"256K\"\n[limits]\nvalue_max = \"64K\"\n{more}"
    )
}

/// Plays a row on a thread of its own, for it enters a network of its own, with its files below `work`.
pub(crate) fn stage(name: &str, row: impl FnOnce(&Path) + Send) {
    let home = env!("CARGO_TARGET_TMPDIR");
    let work = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(home).unwrap();
    let path = work.path();
    let played = std::thread::scope(|scope| scope.spawn(move || row(path)).join());
    if let Err(panic) = played {
        eprintln!("kept: {}", work.keep().display());
        std::panic::resume_unwind(panic);
    }
}

/// How often a store has gone on from a snapshot, over all its lives; of one region where `which` names it (`region 7 `).
pub(crate) fn snapshots(store: &Store, which: &str) -> usize {
    let log = std::fs::read_to_string(store.log()).unwrap();
    log.lines().filter(|line| line.contains("goes on from a snapshot at") && line.contains(which)).count()
}

/// Demands of a store that was stopped that no region's log has more entries than twice the bound.
pub(crate) fn demand_short_logs(store: &Store, entries_max: u64) {
    let inspect =
        Command::new(program()).arg("inspect").arg(store.data()).args(["--output", "json"]).output();
    let output = inspect.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut regions = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["kind"] == "region" {
            let (first, last) = (line["first"].as_u64().unwrap(), line["last"].as_u64().unwrap());
            assert!(last + 1 - first <= 2 * entries_max, "store {} keeps {line}", store.number);
            regions += 1;
        }
    }
    assert!(regions >= 2, "a store has the system's region and another");
}
