//! `pinion cluster`: shows a cluster's stores and regions, and changes who keeps and who leads them.

use super::connection::{block_on, connect};
use super::region;
use super::table::Table;
use super::text::Notation;
use crate::cli::cluster::{ClusterArguments, ClusterCommand, ClusterOutput};
use crate::cli::exit;
use futures_util::future::join_all;
use pinion_client::{
    Cluster, PeerChange, PeerChangeKind, RegionId, RegionInfo, StoreId, StoreInfo, StoreRecord,
};
use pinion_types::PeerRole;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the mode.
pub(crate) fn run(arguments: &ClusterArguments) -> anyhow::Result<ExitCode> {
    let keys = match &arguments.command {
        ClusterCommand::Region { key, hex } => Notation::new(*hex).argument(key).map(|key| vec![key]),
        ClusterCommand::Split { keys, hex } => {
            keys.iter().map(|key| Notation::new(*hex).argument(key)).collect()
        }
        _ => Ok(Vec::new()),
    };
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("pinion: {error:#}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    if let ClusterCommand::MovePeer { from, to, .. } = arguments.command
        && from == to
    {
        eprintln!("pinion: the peer is to move from store {from} to the same store");
        return Ok(ExitCode::from(exit::USAGE));
    }
    let arguments = arguments.clone();
    block_on(async move {
        let cluster = connect(&arguments.connect, arguments.timeout).await?;
        Call { cluster, output: arguments.output }.run(&arguments.command, keys).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// A cluster, and how it is shown.
struct Call {
    cluster: Cluster,
    output: ClusterOutput,
}

/// A store as the cluster's list has it, and what it says itself if it can be reached.
struct Seen {
    record: StoreRecord,
    info: Option<StoreInfo>,
}

impl Call {
    async fn run(&self, command: &ClusterCommand, keys: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let change = |store: u64, kind| PeerChange { store: StoreId(store), kind };
        match *command {
            ClusterCommand::Status => self.status().await?,
            ClusterCommand::Stores => self.stores().await?,
            ClusterCommand::Regions => self.print(&self.cluster.regions().await?)?,
            ClusterCommand::Region { .. } => {
                for key in keys {
                    self.print(&[self.cluster.region(&key).await?])?;
                }
            }
            ClusterCommand::TransferLeader { region, store } => {
                self.cluster.transfer_leader(RegionId(region), StoreId(store)).await?;
                if self.output == ClusterOutput::Json {
                    say(&json!({"done": true}))?;
                }
            }
            ClusterCommand::AddPeer { region, store } => {
                self.change(region, &[change(store, PeerChangeKind::AddVoter)]).await?;
            }
            ClusterCommand::RemovePeer { region, store } => {
                self.change(region, &[change(store, PeerChangeKind::Remove)]).await?;
            }
            ClusterCommand::MovePeer { region, from, to } => {
                let changes = [change(to, PeerChangeKind::AddVoter), change(from, PeerChangeKind::Remove)];
                self.change(region, &changes).await?;
            }
            ClusterCommand::Split { .. } => self.print(&self.cluster.split(&keys).await?)?,
        }
        Ok(())
    }

    async fn change(&self, region: u64, changes: &[PeerChange]) -> anyhow::Result<()> {
        let info = self.cluster.change_peers(RegionId(region), changes).await?;
        self.print(&[info])
    }

    /// Every store, each asked whether it is there.
    async fn seen(&self) -> anyhow::Result<Vec<Seen>> {
        let records = self.cluster.stores().await?;
        let asked = records.into_iter().map(async |record| {
            let info = self.cluster.store(record.id).await.ok();
            Seen { record, info }
        });
        Ok(join_all(asked).await)
    }

    async fn status(&self) -> anyhow::Result<()> {
        let (stores, regions) = (self.seen().await?, self.cluster.regions().await?);
        let down: Vec<u64> =
            stores.iter().filter(|seen| seen.info.is_none()).map(|seen| seen.record.id.0).collect();
        let ids = |is_so: &dyn Fn(&&RegionInfo) -> bool| -> Vec<u64> {
            regions.iter().filter(is_so).map(|info| info.region.id.0).collect()
        };
        let leaderless = ids(&|info| !info.is_leader);
        // The stores of a cluster are to agree; where they do not, the most counts.
        let wanted = stores.iter().filter_map(|seen| seen.info.as_ref()).map(|info| info.replicas).max();
        let wanted = wanted.unwrap_or_default();
        let few = ids(&|info| voters(info) < usize::from(wanted));
        let largest = regions.iter().max_by_key(|info| info.approximate_size_bytes);
        if self.output == ClusterOutput::Json {
            return say(&json!({
                "cluster": format!("{:016x}", self.cluster.id()),
                "stores": stores.len(),
                "stores_down": down,
                "replicas": wanted,
                "regions": regions.len(),
                "regions_without_leader": leaderless,
                "regions_with_few_voters": few,
                "largest_region": largest.map(region::json),
            }));
        }
        say(&format_args!("cluster  {:016x}", self.cluster.id()))?;
        say(&format_args!("stores   {}{}", stores.len(), named("down", &down)))?;
        let few = named(&format!("with fewer than {wanted} voters"), &few);
        let leaderless = named("without a leader", &leaderless);
        say(&format_args!("regions  {}{leaderless}{few}", regions.len()))?;
        let Some(RegionInfo { region, approximate_size_bytes, approximate_keys, .. }) = largest else {
            return Ok(());
        };
        let id = region.id;
        say(&format_args!("largest  {approximate_size_bytes} bytes, {approximate_keys} keys: region {id}"))
    }

    async fn stores(&self) -> anyhow::Result<()> {
        let (stores, regions) = (self.seen().await?, self.cluster.regions().await?);
        let mut table =
            Table::new(&["store", "state", "regions", "leads", "cores", "uptime", "version", "addresses"]);
        for Seen { record, info } in &stores {
            let peers = regions.iter().filter(|info| info.region.peer_on(record.id).is_some()).count();
            let is_led = |region: &&RegionInfo| {
                region.is_leader && region.leader.is_some_and(|leader| leader.store == record.id)
            };
            let leads = regions.iter().filter(is_led).count();
            if self.output == ClusterOutput::Json {
                say(&store_json(record, info.as_ref(), peers, leads))?;
                continue;
            }
            let of_info = |show: &dyn Fn(&StoreInfo) -> String| info.as_ref().map_or("-".to_owned(), show);
            table.row(vec![
                record.id.to_string(),
                if info.is_some() { "up" } else { "down" }.to_owned(),
                peers.to_string(),
                leads.to_string(),
                record.addresses.len().to_string(),
                of_info(&|info| uptime(info.uptime)),
                of_info(&|info| info.version.clone()),
                record.addresses.join(","),
            ]);
        }
        match self.output {
            ClusterOutput::Table => say(&table.text().trim_end()),
            ClusterOutput::Json => Ok(()),
        }
    }

    fn print(&self, regions: &[RegionInfo]) -> anyhow::Result<()> {
        if self.output == ClusterOutput::Json {
            for info in regions {
                let mut object = region::json(info);
                object["has_leader"] = info.is_leader.into();
                object["peers_pending"] = info.peers_pending.iter().map(|peer| peer.0).collect();
                say(&object)?;
            }
            return Ok(());
        }
        let mut table = Table::new(&["region", "start", "end", "epoch", "leader", "peers", "bytes", "keys"]);
        for info in regions {
            let RegionInfo { region, approximate_size_bytes, approximate_keys, .. } = info;
            let leader = info.leader.filter(|_| info.is_leader);
            table.row(vec![
                region.id.to_string(),
                region::bound(&region.start, "-"),
                region::bound(&region.end, "+"),
                format!("{}.{}", region.epoch.conf_ver, region.epoch.version),
                leader.map_or_else(|| "-".to_owned(), |leader| leader.store.to_string()),
                peers(info),
                approximate_size_bytes.to_string(),
                approximate_keys.to_string(),
            ]);
        }
        say(&table.text().trim_end())
    }
}

/// Prints a line; an error when nobody reads it.
fn say(line: &dyn std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

fn voters(info: &RegionInfo) -> usize {
    info.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter).count()
}

/// The stores of a region's peers, with what is special about a peer.
fn peers(info: &RegionInfo) -> String {
    let peer = |peer: &pinion_types::Peer| {
        let role = match peer.role {
            PeerRole::Voter => String::new(),
            role => format!("({})", region::role(role)),
        };
        let behind = if info.peers_pending.contains(&peer.id) { "(behind)" } else { "" };
        format!("{}{role}{behind}", peer.store)
    };
    info.region.peers.iter().map(peer).collect::<Vec<_>>().join(",")
}

/// `, 2 down: 3, 4`, or nothing when there are none.
fn named(what: &str, ids: &[u64]) -> String {
    if ids.is_empty() {
        return String::new();
    }
    let listed: Vec<_> = ids.iter().map(u64::to_string).collect();
    format!(", {} {what}: {}", ids.len(), listed.join(" "))
}

fn uptime(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn store_json(record: &StoreRecord, info: Option<&StoreInfo>, peers: usize, leads: usize) -> Value {
    json!({
        "id": record.id.0,
        "up": info.is_some(),
        "regions": peers,
        "leads": leads,
        "addresses": record.addresses,
        "version": info.map(|info| &info.version),
        "uptime_ms": info.map(|info| u64::try_from(info.uptime.as_millis()).unwrap_or(u64::MAX)),
    })
}
