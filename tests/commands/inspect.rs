//! `pinion inspect` on what a real server left when it was killed.

use super::cluster::{cluster, region, three, wait_until};
use super::process::{Server, run, scratch, text};
use std::os::unix::fs::FileExt as _;

#[test]
fn a_killed_store_shows_its_keys_and_a_flipped_byte_is_named() {
    let home = scratch();
    let directory = home.path().join("store");
    let shown = directory.to_str().unwrap();
    let server = Server::start(&directory, &[]);
    let address = server.address.clone();
    for value in ["first", "second"] {
        assert!(run(&["raw", "--connect", &address, "put", "name", value]).status.success());
    }
    let busy = run(&["inspect", shown]);
    assert_eq!(busy.status.code(), Some(3));
    assert!(text(&busy.stderr).contains("in use by another process"), "{}", text(&busy.stderr));
    drop(server);

    let overview = text(&run(&["inspect", shown]).stdout);
    assert!(overview.contains("start=raw:") && overview.contains("core\tid=0"), "{overview}");
    // An entry of its leader's own, and two writes.
    let is_whole = |line: &String| line.contains("\tfirst=6\t") && line.contains("\tlast=8");
    assert!(fields(&overview, "region").iter().any(is_whole), "{overview}");
    let versions = text(&run(&["inspect", shown, "key", "name"]).stdout);
    let values: Vec<_> = versions.lines().filter_map(|line| line.split('\t').nth(3)).collect();
    assert_eq!(values, ["first", "second"]);
    assert_eq!(run(&["inspect", shown, "key", "nothing"]).status.code(), Some(1));
    assert!(run(&["inspect", shown, "verify"]).status.success());
    assert!(text(&run(&["inspect", shown, "log"]).stdout).contains(", writes, "));

    // Within the first group, which later ones say was durable.
    let file = directory.join("cores/0/log/0000000000000001.log");
    let log = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let mut byte = [0];
    log.read_exact_at(&mut byte, 4096 + 100).unwrap();
    log.write_all_at(&[byte[0] ^ 1], 4096 + 100).unwrap();
    let damaged = run(&["inspect", shown, "verify"]);
    assert_eq!(damaged.status.code(), Some(3));
    let said = text(&damaged.stdout);
    assert!(said.contains(file.to_str().unwrap()) && said.contains("byte 4096"), "{said}");
}

/// The fields `name=value` of the lines that begin with this word.
fn fields(shown: &str, word: &str) -> Vec<String> {
    shown.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix('\t')).map(str::to_owned).collect()
}

#[test]
fn a_store_that_joined_and_lost_a_peer_shows_who_it_is_and_what_must_not_come_back() {
    let home = scratch();
    let servers = three(home.path());
    let id = region(&servers[0], "k")["id"].to_string();
    let removed = cluster(&servers[0], &format!("remove-peer {id} 1"));
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    let of = |store: u64| move |peer: &serde_json::Value| peer["store"].as_u64() == Some(store);
    wait_until(&servers[1].address, |_| {
        let shown = region(&servers[1], "k");
        shown["peers"].as_array().is_some_and(|peers| peers.iter().any(of(1)))
    });
    drop(servers);
    let inspected = |number: u64, more: &[&str]| {
        let directory = home.path().join(number.to_string());
        let output = run(&[&["inspect", directory.to_str().unwrap()], more].concat());
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    let first = inspected(1, &[]);
    let identity = fields(&first, "store");
    let cluster = identity[0].strip_prefix("id=1\tcluster=").unwrap();
    let tombstones = fields(&first, "tombstone");
    assert!(tombstones.iter().any(|fields| fields.starts_with(&format!("region={id}\tpeer="))), "{first}");
    assert_eq!(identity.len(), 1, "{first}");
    for number in [2, 3] {
        assert_eq!(fields(&inspected(number, &[]), "store"), [format!("id={number}\tcluster={cluster}")]);
    }
    let log = inspected(1, &["log"]);
    assert!(log.contains(", change of members, ") && log.contains(", empty, 0 bytes"), "{log}");
}

#[test]
fn what_is_no_store_is_refused() {
    let home = scratch();
    for directory in [home.path().to_owned(), home.path().join("missing")] {
        let refused = run(&["inspect", directory.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(3));
        assert!(text(&refused.stderr).contains("not a data directory of Pinion"));
    }
}
