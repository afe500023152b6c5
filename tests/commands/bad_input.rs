//! What makes no sense for a cluster is refused, and nothing is changed by it. More of that stands in `cluster`: joins, copies, strangers.

use super::cluster::{cluster, region, three, wait_until};
use super::process::{Server, assert_refused, run, scratch, text};
use pinion_capnp::Client;
use serde_json::Value;
use std::time::Duration;

/// Every region of the cluster as JSON, in the order of their keys.
fn regions(server: &Server) -> Vec<Value> {
    let output = cluster(server, "regions --output json");
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What must not change: who is in which region, and of what range and epoch it is.
fn shape(server: &Server) -> Vec<[Value; 6]> {
    let mut shape: Vec<_> = regions(server)
        .into_iter()
        .map(|info| ["id", "start", "end", "conf_ver", "version", "peers"].map(|what| info[what].clone()))
        .collect();
    shape.sort_by_key(|region| region[0].as_u64());
    shape
}

/// How many regions have a peer on the store itself.
fn held(server: &Server) -> usize {
    let address = server.address.parse().unwrap();
    let asked = async move { Client::connect(address).await.unwrap().regions(b"", 0).await.unwrap() };
    pinion_runtime::machine::block_on(asked).unwrap().regions.len()
}

fn wait_for(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it does not come to that: {what}");
}

#[test]
fn a_store_of_another_cluster_is_not_taken_for_one_of_ours() {
    let home = scratch();
    let two = |name: &str| {
        let first = Server::start(&home.path().join(name).join("1"), &[]);
        let second = Server::start(&home.path().join(name).join("2"), &["--join", &first.address]);
        wait_for("a voter on each store", || {
            let regions = regions(&first);
            // The founder alone, a learner more, and that is a voter.
            let is_done = |info: &Value| info["conf_ver"].as_u64() >= Some(3);
            !regions.is_empty() && regions.iter().all(is_done)
        });
        (first, second)
    };
    for name in ["ours", "other"] {
        std::fs::create_dir(home.path().join(name)).unwrap();
    }
    let ((first, second), (other, stranger)) = (two("ours"), two("other"));
    assert!(first.raw(&["put", "k", "ours"]).status.success());
    assert!(other.raw(&["put", "k", "other"]).status.success());
    let (before, of_other) = (shape(&first), shape(&other));
    // The stranger has the same id, and comes where ours was.
    let address = second.address.clone();
    drop((second, stranger));
    let stranger = Server::start_at(&home.path().join("other/2"), &address, &[]);
    wait_for("the stranger is back with its own", || {
        text(&other.raw(&["get", "k"]).stdout) == "other\n"
            && text(&stranger.raw(&["get", "k"]).stdout) == "other\n"
    });
    let put = run(&["raw", "--connect", &first.address, "--timeout", "3s", "put", "k", "never"]);
    assert!(!put.status.success(), "one of two stores acknowledged a write");
    assert_eq!(text(&stranger.raw(&["get", "k"]).stdout), "other\n");
    assert_eq!(shape(&other), of_other);
    drop(stranger);
    let _second = Server::start_at(&home.path().join("ours/2"), &address, &[]);
    wait_for("ours is back", || first.raw(&["put", "l", "new"]).status.success());
    assert_eq!(shape(&first), before);
}

#[test]
fn a_store_whose_peers_were_moved_away_comes_back_with_none() {
    let home = scratch();
    let mut servers = three(home.path());
    servers.push(Server::start(&home.path().join("4"), &["--join", &servers[0].address.clone()]));
    let first = servers[0].address.clone();
    wait_until(&first, |status| status["stores"] == 4);
    assert!(servers[0].raw(&["put", "k", "v"]).status.success());
    drop(servers.remove(2));
    for info in regions(&servers[0]) {
        let moving = format!("move-peer {} 3 4", info["id"]);
        wait_for("the move", || cluster(&servers[0], &moving).status.success());
    }
    let before = shape(&servers[0]);
    // It knows nothing of all that, and believes to be a member.
    let back = Server::start(&home.path().join("3"), &[]);
    wait_for("its peers go", || held(&back) == 0);
    assert_eq!(text(&back.raw(&["get", "k"]).stdout), "v\n", "the others have it");
    assert!(back.raw(&["put", "k", "new"]).status.success());
    assert_eq!(shape(&servers[0]), before);
    drop(back);
    let directory = home.path().join("3");
    let inspected = text(&run(&["inspect", directory.to_str().unwrap()]).stdout);
    assert!(inspected.lines().all(|line| !line.starts_with("region\t")), "{inspected}");
    // And what was removed stays so.
    let again = Server::start(&directory, &[]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(held(&again), 0);
    assert_eq!(shape(&servers[0]), before);
}

#[test]
fn a_change_that_would_lose_the_quorum_is_refused() {
    let home = scratch();
    let mut servers = three(home.path());
    let id = region(&servers[0], "k")["id"].as_u64().unwrap();
    let lost = 3;
    let to_first = format!("transfer-leader {id} 1");
    wait_for("a leader that stays", || {
        let _ = cluster(&servers[0], &to_first);
        region(&servers[0], "k")["leader_store"] == 1
    });
    drop(servers.remove(lost - 1));
    // For the leader to notice.
    std::thread::sleep(Duration::from_secs(3));
    let before = shape(&servers[0]);
    let refused =
        |command: &str| assert_refused(&cluster(&servers[0], command), 3, &["would lose its quorum"]);
    refused(&format!("remove-peer {id} 2"));
    assert!(servers[0].raw(&["put", "k", "v"]).status.success());
    assert_eq!(shape(&servers[0]), before);
    // The last voter of a cluster of one.
    let alone = Server::start(&home.path().join("alone"), &[]);
    let id = region(&alone, "k")["id"].as_u64().unwrap();
    assert_refused(&cluster(&alone, &format!("remove-peer {id} 1")), 3, &["no voter left"]);
    assert_eq!(region(&alone, "k")["peers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_split_that_cannot_be_is_refused_with_all_others_of_its_region() {
    let home = scratch();
    let server = Server::start(&home.path().join("1"), &[]);
    assert!(cluster(&server, "split m").status.success());
    let before = shape(&server);
    let split = |keys: &[&str]| run(&[&["cluster", "--connect", &server.address, "split"], keys].concat());
    assert_refused(&split(&["m"]), 3, &["begins at this key already"]);
    assert_refused(&split(&[""]), 3, &["the key is empty"]);
    let long = "n".repeat(5000);
    assert_refused(&split(&[&long]), 3, &["a key's bytes", "4096", "5000"]);
    assert_refused(&split(&["n", &long]), 3, &["a key's bytes"]);
    assert_refused(&split(&["m", "x"]), 3, &["begins at this key already"]);
    assert_refused(&split(&["--hex", "no"]), 2, &["no"]);
    assert_eq!(shape(&server), before);
}

#[test]
fn the_longest_key_that_may_be_allowed_is_kept_in_tables() {
    let home = scratch();
    let config = home.path().join("config.toml");
    std::fs::write(&config, "[limits]\nkey_max = \"16K\"\n").unwrap();
    let more = ["--config", config.to_str().unwrap()];
    let directory = home.path().join("1");
    let server = Server::start(&directory, &more);
    let (longest, longer) = ("k".repeat(16 << 10), "k".repeat((16 << 10) + 1));
    assert!(server.raw(&["put", &longest, "v"]).status.success());
    assert_refused(&server.raw(&["put", &longer, "v"]), 3, &["a key's bytes", "16384", "16385"]);
    // It is written to a table, and is a bound from then on.
    assert!(cluster(&server, &format!("split {longest}")).status.success());
    assert!(cluster(&server, "regions").status.success());
    drop(server);
    let again = Server::start(&directory, &more);
    assert_eq!(text(&again.raw(&["get", &longest]).stdout), "v\n");
    drop(again);
    let inspected = text(&run(&["inspect", directory.to_str().unwrap(), "tables"]).stdout);
    assert!(inspected.lines().any(|line| line.contains(&longest)), "it is in no table");
}
