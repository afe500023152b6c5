//! Three real stores: joining, what is refused, and a leader that is killed under writes.

use super::process::{Server, assert_refused, run, scratch, server, text};
use pinion_client::{Client, ColumnFamily, Options};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FAMILY: ColumnFamily = ColumnFamily::Default;

/// Three stores; every region has a voter on each.
pub(crate) fn three(home: &Path) -> Vec<Server> {
    three_with(home, &[])
}

/// The same with more options for each.
pub(crate) fn three_with(home: &Path, more: &[&str]) -> Vec<Server> {
    let mut servers = vec![Server::start(&home.join("1"), more)];
    for number in 2..=3 {
        let joins = ["--join", &servers[0].address.clone()];
        servers.push(Server::start(&home.join(number.to_string()), &[&joins, more].concat()));
    }
    wait_until(&servers[0].address, |status| {
        status["stores"] == 3 && status["regions_with_few_voters"].as_array().is_some_and(Vec::is_empty)
    });
    servers
}

pub(crate) fn wait_until(address: &str, holds: impl Fn(&serde_json::Value) -> bool) {
    let mut said = String::new();
    for _ in 0..200 {
        let output = run(&["cluster", "--connect", address, "--output", "json", "status"]);
        said = text(&output.stdout) + &text(&output.stderr);
        if serde_json::from_slice(&output.stdout).is_ok_and(|status| holds(&status)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it does not come to that: {said}");
}

pub(crate) fn cluster(server: &Server, command: &str) -> std::process::Output {
    let words: Vec<&str> = command.split(' ').collect();
    run(&[&["cluster", "--connect", &server.address], &words[..]].concat())
}

/// The region of a key, as JSON.
pub(crate) fn region(server: &Server, key: &str) -> serde_json::Value {
    let output = cluster(server, &format!("region {key} --output json"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

#[test]
fn what_is_put_through_one_store_is_got_through_another() {
    let home = scratch();
    let servers = three(home.path());
    assert!(servers[1].raw(&["put", "greeting", "hello"]).status.success());
    for server in &servers {
        assert_eq!(text(&server.raw(&["get", "greeting"]).stdout), "hello\n");
    }
    let split = cluster(&servers[2], "split m");
    assert_eq!(text(&split.stdout).lines().count(), 3, "{}", text(&split.stderr));
    let id = region(&servers[1], "zebra")["id"].as_u64().unwrap();
    assert!(cluster(&servers[1], &format!("transfer-leader {id} 3")).status.success());
    wait_until(&servers[0].address, |status| {
        status["regions_without_leader"].as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(region(&servers[0], "zebra")["leader_store"], 3);
    assert!(servers[0].raw(&["put", "zebra", "stripes"]).status.success());
    assert_eq!(text(&servers[1].raw(&["scan", "--keys-only"]).stdout), "greeting\nzebra\n");
    let batch = home.path().join("pairs");
    std::fs::write(&batch, "a\t1\nz\t2\n").unwrap();
    let batch = batch.to_str().unwrap();
    assert_refused(&servers[0].raw(&["batch-put", batch]), 3, &["several regions", "nothing was written"]);
    assert!(servers[0].raw(&["batch-put", "--per-region", batch]).status.success());
    assert_eq!(text(&servers[2].raw(&["scan"]).stdout), "a\t1\ngreeting\thello\nz\t2\nzebra\tstripes\n");

    let regions = text(&cluster(&servers[1], "regions").stdout);
    assert_eq!(regions.lines().filter(|line| line.contains("1,2,3")).count(), 4, "{regions}");
    let stores = text(&cluster(&servers[1], "stores").stdout);
    assert_eq!(stores.lines().filter(|line| line.contains(" up ")).count(), 3, "{stores}");
    // Nobody else could take the peer that moves away: the region gets it back from those who see to its three.
    assert!(cluster(&servers[0], &format!("remove-peer {id} 1")).status.success());
    wait_until(&servers[0].address, |status| {
        status["regions_with_few_voters"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn status_misses_the_voters_that_the_stores_are_to_give() {
    let home = scratch();
    for (replicas, is_missed) in [("3", true), ("1", false), ("0", false)] {
        let settings = home.path().join(format!("{replicas}.toml"));
        std::fs::write(&settings, format!("replicas = {replicas}\n")).unwrap();
        let server = Server::start(&home.path().join(replicas), &["--config", settings.to_str().unwrap()]);
        let output = cluster(&server, "status --output json");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let few = status["regions_with_few_voters"].as_array().unwrap();
        assert_eq!((!few.is_empty(), status["replicas"].to_string().as_str()), (is_missed, replicas));
        let told = text(&cluster(&server, "status").stdout);
        assert_eq!(told.contains("with fewer than 3 voters"), is_missed, "{told}");
    }
}

#[test]
fn a_change_that_makes_no_sense_is_refused_and_nothing_is_changed() {
    let home = scratch();
    let servers = three(home.path());
    let server = &servers[0];
    let before = region(server, "a");
    let id = before["id"].as_u64().unwrap();
    let refused = |command: String, said: &[&str]| assert_refused(&cluster(server, &command), 3, said);
    refused(format!("add-peer {id} 9"), &["no store 9"]);
    refused(format!("remove-peer {id} 9"), &["no peer on store 9"]);
    refused(format!("transfer-leader {id} 9"), &["no peer on store 9"]);
    refused("transfer-leader 999 1".to_owned(), &["no region 999"]);
    assert!(cluster(server, "split m").status.success());
    refused("split m".to_owned(), &["begins at this key already"]);
    assert_refused(&cluster(server, &format!("move-peer {id} 2 2")), 2, &["the same store"]);
    assert_refused(&cluster(server, "add-peer one 2"), 2, &["one"]);
    assert_refused(&cluster(server, "split"), 2, &["KEYS"]);
    let lonely = run(&["cluster", "--connect", "127.0.0.1:1", "status"]);
    assert_refused(&lonely, 3, &["cannot reach a store at 127.0.0.1:1"]);
    assert_eq!(region(server, "a")["peers"], before["peers"]);
}

#[test]
fn a_join_that_cannot_be_is_refused_and_leaves_the_directory_as_it_was() {
    let home = scratch();
    let founder = Server::start(&home.path().join("1"), &[]);
    let second = Server::start(&home.path().join("2"), &["--join", &founder.address]);

    let fresh = home.path().join("fresh");
    let nobody = server(&fresh, "127.0.0.1:0", &["--join", "127.0.0.1:1"]).output().unwrap();
    assert_refused(&nobody, 3, &["can't join", "127.0.0.1:1", "no store can be reached there"]);
    let own = server(&fresh, "127.0.0.1:29753", &["--join", "127.0.0.1:29753"]).output().unwrap();
    assert_refused(&own, 3, &["this store's own address"]);
    let nonsense = server(&fresh, "127.0.0.1:0", &["--join", "nonsense"]).output().unwrap();
    assert_refused(&nonsense, 2, &["--join", "nonsense"]);
    // Nothing of that sticks to the directory.
    let alone = Server::start(&fresh, &[]);
    assert!(alone.raw(&["put", "k", "v"]).status.success());
    drop(alone);
    let member = server(&fresh, "127.0.0.1:0", &["--join", &founder.address]).output().unwrap();
    assert_refused(&member, 3, &["store 1 of cluster", "start it without --join"]);
    assert_eq!(text(&founder.raw(&["get", "k"]).stdout), "");

    // The store is known under its address, and a copy of its directory is not that store.
    wait_until(&founder.address, |status| status["stores"] == 2);
    let copy = home.path().join("copy");
    assert!(
        std::process::Command::new("cp")
            .arg("-r")
            .args([home.path().join("2"), copy.clone()])
            .status()
            .unwrap()
            .success()
    );
    let twin = server(&copy, "127.0.0.1:0", &[]).output().unwrap();
    assert_refused(&twin, 3, &["store 2 of this cluster runs already", &second.address]);
}

#[test]
fn writes_go_on_when_the_leader_is_killed_and_none_is_lost() {
    let home = scratch();
    let mut servers = three(home.path());
    let stores: Vec<_> = servers.iter().map(|server| server.address.parse().unwrap()).collect();
    let client = Client::connect_blocking(&stores, Options::default()).unwrap();
    let stop = AtomicBool::new(false);
    let leader = usize::try_from(region(&servers[0], "k")["leader_store"].as_u64().unwrap()).unwrap();
    let (shared, stopping) = (&client, &stop);
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..4).map(|writer| scope.spawn(move || write(shared, writer, stopping))).collect();
        std::thread::sleep(Duration::from_secs(1));
        drop(servers.remove(leader - 1));
        std::thread::sleep(Duration::from_secs(4));
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let mut times: Vec<Instant> = written.iter().map(|(_, time)| *time).collect();
    times.sort();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    println!("{} writes; the longest time without one was {longest:?}", written.len());
    assert!(longest < Duration::from_secs(2), "no write for {longest:?}");
    let keys: Vec<_> = written.into_iter().map(|(key, _)| key).collect();
    for some in keys.chunks(1000) {
        let found = client.blocking().batch_get(FAMILY, some).unwrap();
        for (key, value) in some.iter().zip(found.iter()) {
            assert_eq!(value, pinion_client::OperationResult::Value(key), "{key:?} is lost");
        }
    }
    wait_until(&servers[0].address, |status| status["stores_down"] == serde_json::json!([leader]));
}

/// Writes one key after the other until it is told to stop: those that were acknowledged, and when.
fn write(client: &Client, writer: u32, stop: &AtomicBool) -> Vec<(Vec<u8>, Instant)> {
    let mut written = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("k{writer}-{number:06}").into_bytes();
        match client.blocking().put(FAMILY, &key, &key, None) {
            Ok(()) => written.push((key, Instant::now())),
            Err(error) => assert!(error.is_undetermined(), "{error}"),
        }
    }
    written
}
