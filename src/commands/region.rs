//! `pinion region`: shows and splits the regions of a running cluster.

use super::connection::{block_on, connect};
use super::text::Notation;
use crate::cli::exit;
use crate::cli::raw::{Output, RegionArguments, RegionCommand};
use pinion_client::RegionInfo;
use pinion_types::PeerRole;
use pinion_types::key::{Escaped, Zone};
use serde_json::json;
use std::process::ExitCode;

/// Runs the mode.
pub(crate) fn run(arguments: &RegionArguments) -> anyhow::Result<ExitCode> {
    let keys = match &arguments.command {
        RegionCommand::List => Ok(None),
        RegionCommand::Split { keys, hex } => {
            let keys = keys.iter().map(|key| Notation::new(*hex).argument(key));
            keys.collect::<Result<Vec<_>, _>>().map(Some)
        }
    };
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("pinion: {error:#}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let arguments = arguments.clone();
    block_on(async move {
        let client = connect(&arguments.connection.connect, arguments.connection.timeout).await?;
        let regions = match keys {
            Some(keys) => client.split(&keys).await?,
            None => client.regions().await?,
        };
        print(&regions, arguments.connection.output);
        Ok(ExitCode::SUCCESS)
    })
}

fn print(regions: &[RegionInfo], output: Output) {
    if output == Output::Plain {
        println!("id\tstart\tend\tepoch\tcore\tleader\tbytes\tkeys");
    }
    for info in regions {
        match output {
            Output::Plain => print_plain(info),
            Output::Json => println!("{}", json(info)),
        }
    }
}

fn print_plain(info: &RegionInfo) {
    let RegionInfo { region, core, approximate_size_bytes, approximate_keys, .. } = info;
    let leader = info.leader.map_or_else(|| "-".into(), |leader| leader.store.to_string());
    println!(
        "{}\t{}\t{}\t{}.{}\t{core}\t{leader}\t{approximate_size_bytes}\t{approximate_keys}",
        region.id,
        bound(&region.start, "-"),
        bound(&region.end, "+"),
        region.epoch.conf_ver,
        region.epoch.version,
    );
}

/// A bound for people: the zone's letter, a colon, the caller's key. `open` stands for a bound that is none.
pub(crate) fn bound(stored: &[u8], open: &str) -> String {
    for (zone, name) in [(Zone::System, "system"), (Zone::Raw, "raw"), (Zone::Transactional, "txn")] {
        if let Some(key) = zone.caller_key(stored) {
            return format!("{name}:{}", Escaped(key));
        }
    }
    if stored.is_empty() { open.into() } else { Escaped(stored).to_string() }
}

/// A region as JSON.
pub(crate) fn json(info: &RegionInfo) -> serde_json::Value {
    let region = &info.region;
    let peers = region
        .peers
        .iter()
        .map(|peer| json!({"id": peer.id.0, "store": peer.store.0, "role": role(peer.role)}));
    json!({
        "id": region.id.0,
        "start": Notation::Hex.show(&region.start),
        "end": Notation::Hex.show(&region.end),
        "conf_ver": region.epoch.conf_ver,
        "version": region.epoch.version,
        "peers": peers.collect::<Vec<_>>(),
        "leader_store": info.leader.map(|leader| leader.store.0),
        "core": info.core.0,
        "term": info.term.0,
        "applied_index": info.applied.0,
        "approximate_size_bytes": info.approximate_size_bytes,
        "approximate_keys": info.approximate_keys,
    })
}

/// What a peer's role is called.
pub(crate) fn role(role: PeerRole) -> &'static str {
    match role {
        PeerRole::Voter => "voter",
        PeerRole::Learner => "learner",
        PeerRole::IncomingVoter => "incoming",
        PeerRole::DemotingVoter => "demoting",
        PeerRole::LeavingVoter => "leaving",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_show_the_zone_and_the_callers_key() {
        assert_eq!(bound(b"", "+"), "+");
        assert_eq!(bound(b"ruser\x00", "+"), "raw:user\\x00");
        assert_eq!(bound(b"s", "+"), "s");
        assert_eq!(bound(b"x", "+"), "txn:");
    }

    #[test]
    fn what_programs_read_names_the_role_of_each_peer() {
        let mut info = RegionInfo::default();
        for role in [PeerRole::Voter, PeerRole::Learner, PeerRole::LeavingVoter] {
            info.region.peers.push(pinion_types::Peer { role, ..Default::default() });
        }
        let shown = json(&info);
        let roles: Vec<_> = shown["peers"].as_array().unwrap().iter().map(|peer| &peer["role"]).collect();
        assert_eq!(roles, ["voter", "learner", "leaving"]);
    }
}
