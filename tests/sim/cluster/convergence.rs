//! What must hold soon after all trouble has ended: every key has a region, every region one leader, every member of it is there and has applied
//! the same, nobody else has anything of it, and replicas hold the same.

use super::observer::Seen;
use super::stores::{Cluster, Store};
use pinion_shard::Shard;
use pinion_shard::testing::{self, PeerState};
use pinion_types::{CoreId, RegionId, StoreId};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the cluster may take.
const CONVERGES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The number of the core that a checker runs on, beside the store's own.
pub(super) const CHECKER: CoreId = CoreId(100);

type Held = BTreeMap<RegionId, Vec<(StoreId, Shard, PeerState)>>;

/// Waits until the cluster has come to rest, and compares its replicas.
pub(super) async fn demand(cluster: &Cluster<'_>, seen: &mut Seen) {
    let begun = pinion_runtime::now();
    loop {
        seen.look(cluster);
        let wrong = match check(cluster, seen) {
            Err(wrong) => wrong,
            Ok(held) => match compare(cluster, &held).await {
                Err(wrong) => panic!("replicas differ: {wrong}"),
                Ok(true) => return log::debug!("-- converged after {:?}", begun.elapsed()),
                Ok(false) => "regions do not rest".to_owned(),
            },
        };
        assert!(
            begun.elapsed() < CONVERGES_WITHIN,
            "the cluster does not converge: {wrong}\n{}",
            describe(cluster)
        );
        pinion_runtime::sleep(LOOK_EVERY).await;
    }
}

fn held(cluster: &Cluster<'_>) -> Held {
    let mut held = Held::new();
    for (place, store) in cluster.stores.iter().enumerate() {
        for shard in store.shards() {
            for peer in testing::peers(&shard) {
                held.entry(peer.region.id).or_default().push((Store::id(place), shard.clone(), peer));
            }
        }
    }
    held
}

fn describe(cluster: &Cluster<'_>) -> String {
    let mut lines = Vec::new();
    for (id, peers) in held(cluster) {
        for (store, shard, peer) in peers {
            lines.push(format!(
                "region {id} on store {store}, core {}: peer {}, {:?} {:?}: {}",
                shard.core(),
                peer.own,
                peer.region.epoch,
                peer.region.peers,
                peer.text
            ));
        }
    }
    lines.join("\n")
}

fn check(cluster: &Cluster<'_>, seen: &Seen) -> Result<Held, String> {
    for (place, store) in cluster.stores.iter().enumerate() {
        let shards = store.shards();
        if shards.is_empty() {
            return Err(format!("store {} is not up", Store::id(place)));
        }
        for shard in shards {
            let calls = testing::calls(&shard);
            if calls > 0 {
                return Err(format!("{calls} calls are under way on store {}", Store::id(place)));
            }
        }
    }
    let held = held(cluster);
    let mut ranges = Vec::new();
    for (id, peers) in &held {
        let mut leaders = peers.iter().filter(|(_, _, peer)| peer.serves);
        let (Some((_, _, leader)), None) = (leaders.next(), leaders.next()) else {
            return Err(format!("region {id} has not one leader"));
        };
        let region = &leader.region;
        if leader.is_joint || region.peers.len() != peers.len() {
            return Err(format!("region {id} has {} peers: {:?}", peers.len(), region.peers));
        }
        for (store, _, peer) in peers {
            seen.judge(peer)?;
            if region.peer_on(*store).is_none_or(|member| member.id != peer.own) {
                return Err(format!("peer {} of region {id} on store {store} is no member", peer.own));
            }
            if peer.region != *region || peer.applied != leader.applied || !peer.is_quiet {
                return Err(format!("peer {} of region {id} on store {store} is behind", peer.own));
            }
        }
        ranges.push((region.start.clone(), region.end.clone()));
    }
    ranges.sort();
    let mut next = Vec::new();
    let count = ranges.len();
    for (place, (start, end)) in ranges.into_iter().enumerate() {
        if start != next || (end.is_empty() && place + 1 < count) {
            return Err(format!("there is a gap or an overlap at {next:?}"));
        }
        next = end;
    }
    match next.is_empty() {
        true => Ok(held),
        false => Err(format!("there is nothing after {next:?}")),
    }
}

/// Whether all regions rested meanwhile; then their replicas held the same.
async fn compare(cluster: &Cluster<'_>, held: &Held) -> Result<bool, String> {
    for (id, peers) in held {
        let mut contents = Vec::new();
        for (store, shard, _) in peers {
            let place = usize::try_from(store.0 - 1).expect("a cluster has few stores");
            let (shard, region) = (shard.clone(), *id);
            let reading = cluster.stores[place]
                .host
                .spawn_core(CHECKER, async move { testing::content(&shard, region).await });
            match reading.await.expect("all stores are up") {
                Ok(Some(content)) => contents.push(content),
                Ok(None) => return Ok(false),
                Err(error) => return Err(format!("region {id} on store {store} can't be read: {error}")),
            }
        }
        let rested = peers.iter().all(|(_, shard, before)| {
            testing::peers(shard).iter().any(|now| now.own == before.own && now.applied == before.applied)
        });
        if !rested {
            return Ok(false);
        }
        if contents.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("region {id} at {}: {contents:?}", peers[0].2.applied));
        }
    }
    Ok(true)
}
