//! What must hold at every moment, whatever befalls the cluster: no core stops by itself, no term has two leaders, no epoch goes back, no
//! store has two peers of a region.

use super::stores::{Cluster, Store};
use pinion_shard::testing::{self, PeerState};
use pinion_types::{Epoch, PeerId, RegionId, Term};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What has been seen of the regions.
#[derive(Default)]
pub(super) struct Seen {
    leaders: BTreeMap<(RegionId, Term), PeerId>,
    /// By store, life, region and peer: what it last knew of its region.
    epochs: BTreeMap<(usize, u64, RegionId, PeerId), Epoch>,
    /// The newest that any peer knew of each region, and its members then.
    newest: BTreeMap<RegionId, (Epoch, BTreeSet<PeerId>)>,
    /// Everybody who ever was a member of a region.
    members: BTreeMap<RegionId, BTreeSet<PeerId>>,
    joint: BTreeSet<(RegionId, u64)>,
}

impl Seen {
    /// Elections that somebody won.
    pub(super) fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Joint configurations.
    pub(super) fn joint(&self) -> u64 {
        self.joint.len() as u64
    }

    /// Looks now and then, until it is told to end.
    pub(super) async fn watch(&mut self, cluster: &Cluster<'_>, ends: &Cell<bool>) {
        while !ends.get() {
            self.look(cluster);
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at every peer of every store that is up.
    pub(super) fn look(&mut self, cluster: &Cluster<'_>) {
        for (place, store) in cluster.stores.iter().enumerate() {
            assert_eq!(store.failure(), None, "a core of store {} stopped", Store::id(place));
            for shard in store.shards() {
                for peer in testing::peers(&shard) {
                    if !peer.is_blank {
                        self.take((place, store.lives()), &peer);
                    }
                }
            }
        }
    }

    fn take(&mut self, (place, life): (usize, u64), peer: &PeerState) {
        let (region, epoch) = (peer.region.id, peer.region.epoch);
        if peer.is_leader {
            let leader = *self.leaders.entry((region, peer.term)).or_insert(peer.own);
            assert_eq!(leader, peer.own, "region {region} has two leaders in term {}", peer.term);
        }
        let there = self.epochs.entry((place, life, region, peer.own)).or_insert(epoch);
        assert!(
            !epoch.is_stale(*there),
            "peer {} of region {region} goes back from {there:?} to {epoch:?}",
            peer.own
        );
        *there = epoch;
        let seats: BTreeSet<_> = peer.region.peers.iter().map(|member| member.store).collect();
        assert_eq!(
            seats.len(),
            peer.region.peers.len(),
            "region {region} has two peers on one store: {:?}",
            peer.region.peers
        );
        let members: BTreeSet<PeerId> = peer.region.peers.iter().map(|member| member.id).collect();
        self.members.entry(region).or_default().extend(&members);
        if peer.is_joint {
            self.joint.insert((region, epoch.conf_ver));
        }
        let newest = self.newest.entry(region).or_insert_with(|| (epoch, members.clone()));
        if epoch == newest.0 {
            assert_eq!(members, newest.1, "region {region} has other members in the same epoch");
        } else if newest.0.is_stale(epoch) {
            *newest = (epoch, members);
        }
    }

    /// What is wrong with a region that has come to rest, in the light of what was seen before.
    pub(super) fn judge(&self, peer: &PeerState) -> Result<(), String> {
        let region = &peer.region;
        if let Some((epoch, _)) = self.newest.get(&region.id)
            && region.epoch.is_stale(*epoch)
        {
            return Err(format!("region {} was at {epoch:?} and is at {:?}", region.id, region.epoch));
        }
        let removed = self.members.get(&region.id).is_some_and(|all| all.contains(&peer.own))
            && region.peers.iter().all(|member| member.id != peer.own);
        match removed {
            true => Err(format!("peer {} of region {} was removed and is here", peer.own, region.id)),
            false => Ok(()),
        }
    }
}
