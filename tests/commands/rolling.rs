//! A rolling restart: the stores of a cluster stop and start, one after the other, under callers who must not notice.

use super::cluster::{cluster, region, three_with, wait_until};
use super::process::{Server, run, scratch, text};
use pinion_client::{Client, ColumnFamily, OperationResult, Options};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const FAMILY: ColumnFamily = ColumnFamily::Default;
const CALLERS: u32 = 16;
/// Rounds of calls that there must have been: else nobody could have noticed anything.
const ROUNDS_MIN: usize = 300;

/// Tells the callers to end, whichever way the test does.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_caller_gets_an_error_while_each_store_is_restarted() {
    restart_each(&[]);
}

#[test]
fn no_caller_gets_an_error_while_each_store_of_several_cores_is_restarted() {
    restart_each(&["--cores", "3"]);
}

/// Restarts each of three stores with these options.
fn restart_each(options: &[&str]) {
    let home = scratch();
    let mut servers = three_with(home.path(), options);
    // Regions for several cores, so that calls come to cores that do not have theirs.
    let split = run(&["region", "--connect", &servers[0].address, "split", "k3", "k6", "k9"]);
    assert!(split.status.success(), "{}", text(&split.stderr));
    let stores: Vec<_> = servers.iter().map(|server| server.address.parse().unwrap()).collect();
    let client = Client::connect_blocking(&stores, Options::default()).unwrap();
    let stop = AtomicBool::new(false);
    let (shared, stopping) = (&client, &stop);
    let written: Vec<_> = std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|caller| scope.spawn(move || call(shared, caller, stopping))).collect();
        let end = Ends(stopping);
        for number in 1..=3 {
            let server = servers.remove(0);
            // What stops has something to hand over.
            let id = region(&server, "k")["id"].to_string();
            let transferred = cluster(&server, &format!("transfer-leader {id} {number}"));
            assert!(transferred.status.success(), "{}", text(&transferred.stderr));
            let address = server.address.clone();
            assert!(server.stop().success(), "store {number} does not end well");
            // Some come back on other ports, which the others must learn. With several cores all do: the next ports may be another's.
            let listen = if number == 2 || !options.is_empty() { "127.0.0.1:0" } else { &address };
            servers.push(Server::start_at(&home.path().join(number.to_string()), listen, options));
            wait_until(&servers[0].address, |status| {
                let is_empty = |what: &str| status[what].as_array().is_some_and(Vec::is_empty);
                is_empty("stores_down")
                    && is_empty("regions_with_few_voters")
                    && is_empty("regions_without_leader")
            });
        }
        std::thread::sleep(Duration::from_secs(1));
        drop(end);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    assert!(written.len() >= ROUNDS_MIN, "{} rounds of calls are too few", written.len());
    for some in written.chunks(1000) {
        let found = client.blocking().batch_get(FAMILY, some).unwrap();
        for (key, value) in some.iter().zip(found.iter()) {
            assert_eq!(value, OperationResult::Value(key), "{key:?} is lost");
        }
    }
}

/// Writes one key after the other and reads it back, until it is told to stop; gives the keys. Every call must do what it is asked for.
fn call(client: &Client, caller: u32, stop: &AtomicBool) -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("k{caller}-{number:06}").into_bytes();
        let put = client.blocking().put(FAMILY, &key, &key, None);
        assert!(put.is_ok(), "put {number} of caller {caller}: {put:?}");
        let got = client.blocking().get(FAMILY, &key);
        let value = got.unwrap_or_else(|error| panic!("get {number} of caller {caller}: {error}"));
        assert_eq!(value.as_deref(), Some(&key[..]), "get {number} of caller {caller}");
        written.push(key);
    }
    written
}
