//! Clusters of real stores on this machine, each a process of one core.

use crate::server::Server;
use crate::shell;
use anyhow::{Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const WAIT_MAX: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server process and its address.
pub(crate) type Store = (Server, String);

/// Starts so many stores in folders of `directory`, and waits until every region has its leader and as many voters as there are stores, up
/// to three.
pub(crate) fn start(pinion: &Path, directory: &Path, count: usize) -> Result<Vec<Store>> {
    let mut stores: Vec<Store> = Vec::new();
    for number in 0..count {
        let first = stores.first().map(|(_, address)| address.as_str());
        stores.push(start_one(pinion, &directory.join(number.to_string()), first, &[])?);
    }
    let address = stores[0].1.clone();
    wait("the stores are a whole cluster", || is_whole(pinion, &address, count))?;
    Ok(stores)
}

/// Starts a store, which joins the cluster of another if its directory belongs to none yet.
pub(crate) fn start_one(pinion: &Path, directory: &Path, join: Option<&str>, more: &[&str]) -> Result<Store> {
    let mut command = Command::new(pinion);
    command.args(["server", "--cores", "1", "--cpus", "none", "--log-level", "warn", "--data-dir"]);
    command.arg(directory).args(more);
    if let Some(address) = join {
        command.args(["--join", address]);
    }
    Server::start(&mut command)
}

/// What `pinion cluster` prints of every region, as JSON.
pub(crate) fn regions(pinion: &Path, address: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(pinion);
    let printed =
        shell::output(command.args(["cluster", "--connect", address, "--output", "json", "regions"]))?;
    Ok(printed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn is_whole(pinion: &Path, address: &str, count: usize) -> bool {
    regions(pinion, address)
        .is_ok_and(|regions| regions.iter().all(|region| has_voters(region, count.min(3))))
}

/// Whether a region has a leader and so many peers, all of which have its data.
pub(crate) fn has_voters(region: &Value, count: usize) -> bool {
    let number = |name: &str| region[name].as_array().map(Vec::len);
    region["has_leader"] == true && number("peers") == Some(count) && number("peers_pending") == Some(0)
}

/// Waits until something holds; an error if that takes long.
pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds() {
        ensure!(Instant::now() < deadline, "it took too long until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_its_voters_when_nothing_is_missing() {
        let region = |peers: &str, pending: &str, leads: bool| {
            let text = format!(r#"{{"has_leader":{leads},"peers":{peers},"peers_pending":{pending}}}"#);
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert!(has_voters(&region("[{},{},{}]", "[]", true), 3));
        assert!(!has_voters(&region("[{},{}]", "[]", true), 3));
        assert!(!has_voters(&region("[{},{},{}]", "[7]", true), 3));
        assert!(!has_voters(&region("[{},{},{}]", "[]", false), 3));
        assert!(!has_voters(&Value::Null, 3));
    }
}
