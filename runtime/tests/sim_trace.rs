//! The same seed gives the same run: in one process, in two, and down to the order of std's hash maps.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use pinion_runtime::fs::{ALIGNMENT, Buffer, OpenOptions};
use pinion_runtime::net::{TcpListener, TcpStream};
use pinion_runtime::sim::{self, Config, Simulation};
use pinion_runtime::{random_u64, sleep, spawn};
use pinion_types::CoreId;
use std::process::Command;
use std::time::Duration;

/// Where a child process of this test finds the seeds that it is to run.
const SEEDS: &str = "PINION_TEST_TRACE_SEEDS";

/// Calls between two hosts, one of which dies with calls outstanding.
fn talk(simulation: &Simulation) {
    let (server, client) = (simulation.add_host("server"), simulation.add_host("client"));
    let address = server.address(1);
    server.spawn_core::<()>(CoreId(0), async move {
        let listener = TcpListener::bind(address).unwrap();
        loop {
            let (mut reader, mut writer) = listener.accept().await.unwrap().split();
            spawn(async move { futures_util::io::copy(&mut reader, &mut writer).await });
        }
    });
    for core in 0..4 {
        client.spawn_core::<()>(CoreId(core), async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    let mut answer = [0; 1000];
                    while stream.write_all(&[7; 1000]).await.is_ok() && stream.read(&mut answer).await.is_ok()
                    {
                    }
                }
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    simulation.run_for(Duration::from_millis(5));
    simulation.cut_connections(&server, &client);
    simulation.run_for(Duration::from_millis(5));
    server.crash();
}

/// Tasks, files, connections, crashes and random numbers; what comes back is the trace's hash.
fn busy_world(seed: u64) -> u64 {
    sim::run(Config::new(seed), |simulation| {
        talk(simulation);
        let host = simulation.add_host("a");
        for _ in 0..3 {
            host.spawn_core(CoreId(0), async {
                let tasks: Vec<_> = (0..8)
                    .map(|number| {
                        spawn(async move {
                            let path = format!("/{number}");
                            let file = OpenOptions::write().create().open(path).await.unwrap();
                            for block in 0..8 {
                                let mut buffer = Buffer::new(ALIGNMENT);
                                buffer[0] = random_u64().to_le_bytes()[0];
                                file.write_at(buffer, block * ALIGNMENT as u64).await.unwrap();
                                sleep(Duration::from_micros(random_u64() % 100)).await;
                            }
                            file.sync_data().await.unwrap();
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await;
                }
            });
            simulation.run_for(Duration::from_millis(2));
            host.crash();
            host.start();
        }
        simulation.trace_hash()
    })
}

/// The order of a map of std's, with its own random state.
#[expect(clippy::disallowed_types, reason = "it is std's map that is tested")]
fn map_order(seed: u64) -> Vec<u32> {
    sim::run(Config::new(seed), |_| {
        let map: std::collections::HashMap<u32, u32> = (0..50).map(|key| (key, key)).collect();
        map.into_keys().collect()
    })
}

fn report(seeds: impl Iterator<Item = u64>) -> String {
    let lines: Vec<_> =
        seeds.map(|seed| format!("{seed} {:016x} {:?}", busy_world(seed), map_order(seed))).collect();
    lines.join("\n")
}

#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes() {
    if std::env::var_os(SEEDS).is_some() {
        println!("\n<<<{}>>>", report(0..10));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_same_seed_gives_the_same_trace_in_two_processes", "--nocapture"])
        .env(SEEDS, "1")
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = output.split_once("<<<").unwrap();
    let (theirs, _) = rest.split_once(">>>").unwrap();
    assert_eq!(report(0..10), theirs);
}

#[test]
fn different_seeds_give_different_traces_and_orders() {
    assert_ne!(busy_world(1), busy_world(2));
    assert_ne!(map_order(1), map_order(2));
}

#[test]
fn a_real_threads_hash_maps_stay_random() {
    use std::hash::{BuildHasher, RandomState};
    let hash = || std::thread::spawn(|| RandomState::new().hash_one(1)).join().unwrap();
    assert_ne!(hash(), hash());
}
