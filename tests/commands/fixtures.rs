//! Data directories that earlier versions wrote, and this one: every one is opened, and everything in it is found. `cargo xtask fixture` made them.

mod unpack;

use super::process::{PINION, Server, run, scratch, text};
use pinion_client::{Client, ColumnFamily, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Starts one of the two stores on what was unpacked, where the other one expects it.
fn start(directory: &Path, number: u32) -> Server {
    let mut command = Command::new(PINION);
    command.arg("server").arg("--data-dir").arg(directory.join(number.to_string()));
    command.arg("--config").arg(folder().join("config.toml"));
    command.args(["--listen", &format!("127.61.7.{number}:26107")]);
    command.args(["--cores", if number == 1 { "2" } else { "1" }]);
    Server::begin(command)
}

/// Family and key; a region's start and end count as a key and its value, in a family `region`.
type Pairs = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// What must be found.
fn listed(path: &Path) -> Pairs {
    let lines = fs::read_to_string(path).unwrap();
    let pair = |line: &str| {
        let [family, key, value] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        let value = match value.strip_prefix("zeros ") {
            Some(count) => vec![0; count.parse().unwrap()],
            None => value.as_bytes().to_vec(),
        };
        ((family.to_owned(), key.as_bytes().to_vec()), value)
    };
    lines.lines().map(pair).collect()
}

/// What is found, once most stores are there.
fn found(servers: &[Server]) -> Pairs {
    let stores: Vec<_> = servers.iter().map(|server| server.address.parse().unwrap()).collect();
    let client = Client::connect_blocking(&stores, Options::default()).unwrap();
    let mut found = Pairs::new();
    for family in ColumnFamily::ALL {
        let scan = ["raw", "--connect", &servers[0].address, "--timeout", "30s", "--cf", family.name()];
        let keys = run(&[&scan[..], &["scan", "--keys-only", "--limit", "100000"]].concat());
        assert!(keys.status.success(), "{}", text(&keys.stderr));
        for key in text(&keys.stdout).lines() {
            let value = client.blocking().get(family, key.as_bytes()).unwrap().unwrap();
            found.insert((family.name().to_owned(), key.as_bytes().to_vec()), value.to_vec());
        }
    }
    let shown = run(&["cluster", "--connect", &servers[1].address, "regions", "--output", "json"]);
    for line in text(&shown.stdout).lines() {
        let region: serde_json::Value = serde_json::from_str(line).unwrap();
        let bound = |which: &str| region[which].as_str().unwrap().as_bytes().to_vec();
        found.insert(("region".to_owned(), bound("start")), bound("end"));
    }
    found
}

/// What `pinion inspect` prints of a stopped store.
fn inspected(directory: &Path, more: &[&str]) -> String {
    let output = run(&[&["inspect", directory.to_str().unwrap()], more].concat());
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Whether regions of a store have a table in common.
fn shares_tables(directory: &Path) -> bool {
    let mut files = BTreeSet::new();
    let regions = fs::read_dir(directory.join("regions")).unwrap();
    let mut tables = regions.flat_map(|region| fs::read_dir(region.unwrap().path()).unwrap());
    tables.any(|table| !files.insert(table.unwrap().metadata().unwrap().ino()))
}

/// Sees that there is in a fixture what it is for.
fn demand_variety(home: &Path) {
    let stores = ["1", "2"].map(|number| home.join(number));
    let mut logs = String::new();
    for directory in &stores {
        inspected(directory, &["verify"]);
        assert!(directory.join("stores").exists() && shares_tables(directory), "{}", directory.display());
        let overview = inspected(directory, &[]);
        let number = |line: &str, name: &str| {
            let field = line.split('\t').find_map(|field| field.strip_prefix(name)).unwrap();
            field.parse::<u64>().unwrap()
        };
        let is_unflushed = |line: &str| number(line, "flushed=") + 3 < number(line, "last=");
        let mut regions = overview.lines().filter(|line| line.starts_with("region\t"));
        assert!(regions.any(is_unflushed), "all is in tables: {overview}");
        assert!(overview.contains("tombstone\t"), "{overview}");
        logs += &inspected(directory, &["log"]);
    }
    let [first, second] = stores.map(|directory| inspected(&directory, &[]));
    let cluster = first.lines().find_map(|line| line.strip_prefix("store\tid=1\t")).expect(&first);
    assert!(second.contains(&format!("store\tid=2\t{cluster}\n")), "{second}");
    let of_entries =
        [", writes, ", ", swaps, ", ", split, ", ", compaction, ", ", change of members, ", ", empty, "];
    let of_records = ["compacted through", "edit, ", "structure, ", "adopted as", "removed", ", vote "];
    for kind in of_entries.iter().chain(&of_records) {
        assert!(logs.contains(kind), "no record of {kind:?}");
    }
}

fn open(fixture: &Path) {
    let home = scratch();
    let mut packed = BufReader::new(File::open(fixture).unwrap());
    unpack::unpack(&mut packed, home.path()).unwrap();
    demand_variety(home.path());
    let expected = listed(&fixture.with_extension("txt"));
    assert!(expected.len() > 300, "{} keys", expected.len());
    for life in 0..2 {
        let servers = [start(home.path(), 1), start(home.path(), 2)];
        let found = found(&servers);
        let differs = expected.iter().find(|(key, value)| found.get(*key) != Some(*value));
        assert!(differs.is_none(), "life {life}: {differs:?} is not what is found");
        assert_eq!(found.len(), expected.len(), "life {life}: there is more than should be");
        // It is not only read.
        assert!(servers[1].raw(&["put", "fresh", "new"]).status.success());
        assert_eq!(text(&servers[0].raw(&["get", "fresh"]).stdout), "new\n");
        assert!(servers[0].raw(&["delete", "fresh"]).status.success());
    }
}

#[test]
fn every_fixture_is_opened_and_holds_what_it_held() {
    let mut fixtures: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    fixtures.retain(|path| path.extension().is_some_and(|extension| extension == "fixture"));
    fixtures.sort();
    assert!(!fixtures.is_empty());
    // The stores' addresses are in what they hold: one run at a time on a machine, whatever folder it is of.
    let alone = File::open(std::env::temp_dir()).unwrap();
    alone.lock().unwrap();
    for fixture in fixtures {
        println!("{}", fixture.display());
        open(&fixture);
    }
}
