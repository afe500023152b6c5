//! Stories about who keeps a region, of stores that leave that to the operator: rows of the course, and what went wrong once.
//!
//! A peer is looked for where it would be: among those of its store's cores, and in the store's directory. What a peer has is read from it
//! alone.

use super::stores::Store;
use super::stories::{FAMILY, LOOK_EVERY, STORES, Story, WITHIN, region_of, tell_of};
use pinion_capnp::client::ClientError;
use pinion_capnp::{
    Context, PeerChange, PeerChangeKind, RawCall, RawReply, RawRequest, ReadFrom, RegionInfo,
};
use pinion_shard::testing::{self, PeerState};
use pinion_types::{Peer, PeerRole, Region, StoreId};
use std::collections::BTreeSet;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..6;
/// What an operation of a disk takes that is so slow that a snapshot's installation can be met.
pub(super) const SLOW_DISK: std::ops::Range<Duration> = Duration::from_millis(40)..Duration::from_millis(60);
pub(super) const USUAL_DISK: std::ops::Range<Duration> =
    Duration::from_micros(20)..Duration::from_micros(200);

fn tell(story: impl AsyncFn(Story<'_>) + Send + Sync) {
    tell_of(SEEDS, 0, story);
}

impl Story<'_> {
    async fn add(&self, place: usize) {
        self.change(place, PeerChangeKind::AddVoter).await;
    }

    pub(super) async fn remove(&self, place: usize) {
        self.change(place, PeerChangeKind::Remove).await;
    }

    pub(super) async fn lead_from(&self, place: usize) {
        self.transfer(Store::id(place)).await;
        self.wait_for("the new leader", || self.leader_among(self.region, |there| there == place)).await;
    }

    /// The region as its leader knows it.
    async fn region(&self) -> Region {
        let page = self.ask("the regions", async |client| client.regions(b"", 0).await).await;
        let is_asked_for = |info: &RegionInfo| info.region.id == self.region;
        page.regions.into_iter().find(is_asked_for).expect("its leader has it").region
    }

    /// Demands that the region's voters are on these stores, and nobody else is a member.
    pub(super) async fn demand_voters(&self, places: &[usize]) {
        let region = self.region().await;
        let stores: BTreeSet<StoreId> = region.peers.iter().map(|peer| peer.store).collect();
        assert_eq!(stores, places.iter().map(|place| Store::id(*place)).collect());
        assert!(region.peers.iter().all(|peer| peer.role == PeerRole::Voter), "{:?}", region.peers);
    }

    /// The member on a store.
    async fn member(&self, place: usize) -> Peer {
        self.region().await.peer_on(Store::id(place)).expect("it is a member")
    }

    /// What a store's own peer says of a key, once it can say what is newest.
    pub(super) async fn get_on(&self, place: usize, key: &[u8]) -> Option<Vec<u8>> {
        let client = self.cluster.client(place).await;
        let context = Context { region: self.region, read_from: ReadFrom::Replica, ..Context::default() };
        let call = RawCall::Get { family: FAMILY, key: key.to_vec() };
        let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) };
        let begun = pinion_runtime::now();
        loop {
            match client.call(&request).await {
                Ok(RawReply::Value(value)) => return value.map(|value| value.to_vec()),
                Ok(other) => panic!("a read was answered with {other:?}"),
                Err(error) => assert!(begun.elapsed() < WITHIN, "store {place} answers: {error}"),
            }
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn demand_on(&self, place: usize, pairs: &[(&[u8], &[u8])]) {
        for (key, value) in pairs {
            assert_eq!(
                self.get_on(place, key).await.as_deref(),
                Some(*value),
                "on store {}",
                Store::id(place)
            );
        }
    }

    /// Waits until a store has nothing of the region: no peer, no file.
    pub(super) async fn demand_nothing_on(&self, place: usize) {
        let store = &self.cluster.stores[place];
        let directory = format!("/store/regions/{}", self.region);
        let is_of_region = |path: &str| {
            path.strip_prefix(&directory).is_some_and(|rest| rest.starts_with('/') || rest.starts_with('.'))
        };
        self.wait_for("the removed store lets go of everything", || {
            let mut peers = store.shards().into_iter().flat_map(|shard| testing::peers(&shard));
            let has_peer = peers.any(|peer| peer.region.id == self.region);
            let has_files = store.host.files().iter().any(|(path, _)| is_of_region(path));
            (!has_peer && !has_files).then_some(())
        })
        .await;
    }

    /// Waits until a store's peer is in a state that passes soon.
    pub(super) async fn meet(&self, place: usize, is_so: impl Fn(&PeerState) -> bool) {
        let begun = pinion_runtime::now();
        loop {
            let shards = self.cluster.stores[place].shards();
            let mut peers = shards.iter().flat_map(testing::peers);
            if peers.any(|peer| peer.region.id == self.region && is_so(&peer)) {
                return;
            }
            assert!(begun.elapsed() < 4 * WITHIN, "the peer comes to that state in time");
            pinion_runtime::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Snapshots that a store's regions have begun with, or gone on from.
    fn installed(&self, place: usize) -> u64 {
        let shards = self.cluster.stores[place].shards();
        shards.iter().map(|shard| shard.engine().statistics().snapshots_installed).sum()
    }
}

#[test]
fn test_basic_conf_change_3b() {
    tell(async |story| {
        story.lead_from(0).await;
        for place in 1..STORES {
            story.remove(place).await;
        }
        story.demand_voters(&[0]).await;
        story.put(b"k1", b"v1").await;
        assert_eq!(story.get(b"k1").await.as_deref(), Some(&b"v1"[..]));
        story.demand_nothing_on(1).await;

        // A new peer gets what there was by a snapshot, and what comes after.
        let before = story.installed(1);
        story.add(1).await;
        story.put(b"k2", b"v2").await;
        story.demand_on(1, &[(b"k1", b"v1"), (b"k2", b"v2")]).await;
        assert!(story.installed(1) > before, "it came by a snapshot");
        assert!(story.region().await.epoch.conf_ver > 1);
        let first = story.member(1).await;

        // Another, and the one before goes with all that it had.
        story.add(2).await;
        story.remove(1).await;
        story.put(b"k3", b"v3").await;
        story.demand_voters(&[0, 2]).await;
        story.demand_on(2, &[(b"k1", b"v1"), (b"k2", b"v2"), (b"k3", b"v3")]).await;
        story.demand_nothing_on(1).await;

        // It comes back as a new peer.
        let before = story.installed(1);
        story.add(1).await;
        assert!(story.member(1).await.id > first.id, "a peer that was removed never comes back");
        story.demand_on(1, &[(b"k1", b"v1"), (b"k2", b"v2"), (b"k3", b"v3")]).await;
        assert!(story.installed(1) > before, "it came by a snapshot");

        story.remove(2).await;
        story.put(b"k4", b"v4").await;
        story.demand_voters(&[0, 1]).await;
        story.demand_on(1, &[(b"k1", b"v1"), (b"k4", b"v4")]).await;
        story.demand_nothing_on(2).await;
    });
}

#[test]
fn test_conf_change_remove_leader_3b() {
    tell(async |story| {
        story.lead_from(0).await;
        story.put(b"k0", b"v0").await;
        story.remove(0).await;
        story.put(b"k1", b"v1").await;
        story.demand_voters(&[1, 2, 3, 4]).await;
        assert_ne!(story.leader().await, 0);
        story.demand_nothing_on(0).await;

        story.add(0).await;
        story.demand_on(0, &[(b"k0", b"v0"), (b"k1", b"v1")]).await;
        story.lead_from(0).await;
        story.put(b"k2", b"v2").await;

        // Down to two; the one that leads goes, and the last goes on alone.
        for place in [1, 2, 3] {
            story.remove(place).await;
        }
        story.demand_voters(&[0, 4]).await;
        story.put(b"k3", b"v3").await;
        assert_eq!(story.leader().await, 0);
        story.remove(0).await;
        story.put(b"k4", b"v4").await;
        story.demand_voters(&[4]).await;
        assert_eq!(story.get(b"k3").await.as_deref(), Some(&b"v3"[..]));
        for place in 0..4 {
            story.demand_nothing_on(place).await;
        }

        story.add(0).await;
        story.put(b"k5", b"v5").await;
        story.demand_voters(&[0, 4]).await;
        let pairs: [(&[u8], &[u8]); 3] = [(b"k0", b"v0"), (b"k4", b"v4"), (b"k5", b"v5")];
        story.demand_on(0, &pairs).await;
    });
}

#[test]
fn two_who_add_a_peer_on_one_store_at_the_same_time_add_one() {
    tell(async |story| {
        story.lead_from(1).await;
        story.remove(4).await;
        let client = story.cluster.client(story.leader().await).await.with_timeout(WITHIN);
        let changes = [PeerChange { store: Store::id(4), kind: PeerChangeKind::AddLearner }];
        let add = || client.change_peers(story.region, &changes);
        let answers: [Result<_, ClientError>; 2] = futures_util::join!(add(), add()).into();
        assert!(answers.iter().any(Result::is_ok), "{answers:?}");
        let peers = story.region().await.peers;
        assert_eq!(peers.iter().filter(|peer| peer.store == Store::id(4)).count(), 1, "{peers:?}");
    });
}

#[test]
fn a_peer_that_is_removed_while_it_installs_a_snapshot_goes() {
    tell(async |story| {
        let lone = (story.leader().await + 1) % STORES;
        story.put(b"k1", b"v1").await;
        story.part(|place| place == lone);
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        story.cluster.stores[lone].host.set_io_latency(SLOW_DISK);
        story.cluster.simulation.heal_all();
        story.meet(lone, |peer| peer.is_installing).await;
        story.remove(lone).await;
        story.cluster.stores[lone].host.set_io_latency(USUAL_DISK);
        story.demand_nothing_on(lone).await;
        assert_eq!(story.cluster.stores[lone].failure(), None);
        story.add(lone).await;
        story.demand_on(lone, &[(b"k1", &[b'v'; 1000])]).await;
    });
}

#[test]
fn a_peer_that_is_removed_while_it_splits_leaves_the_other_half_behind() {
    tell(async |story| {
        story.lead_from(1).await;
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        let slow = 0;
        let store = &story.cluster.stores[slow];
        store.host.set_io_latency(SLOW_DISK);
        story.ask("a split", async |client| client.split(&[b"k2".to_vec()]).await).await;
        story.meet(slow, |peer| peer.is_applying).await;
        story.remove(slow).await;
        // Meanwhile the new region's leader writes to all its members.
        let right = story.wait_for("the right half", || region_of(story.cluster, b"k299")).await;
        assert_ne!(right, story.region);
        story
            .wait_for("the right half stays on the store", || {
                assert_eq!(store.failure(), None);
                let shards = store.shards();
                let mut peers = shards.iter().flat_map(testing::peers);
                peers.any(|peer| peer.region.id == right && !peer.is_blank).then_some(())
            })
            .await;
        store.host.set_io_latency(USUAL_DISK);
        story.demand_nothing_on(slow).await;
        assert_eq!(store.failure(), None);
        let half = Story { region: right, ..story };
        half.demand_on(slow, &[(b"k299", &[b'v'; 1000])]).await;
    });
}

#[test]
fn a_core_whose_log_had_no_room_takes_nothing_more_when_there_is_room_again() {
    tell(async |story| {
        story.lead_from(1).await;
        let full = 0;
        let store = &story.cluster.stores[full];
        store.is_sick.set(true);
        store.host.set_disk_size(Some(store.host.disk_used()));
        let value = [b'v'; 4000];
        let mut number = 0;
        while !store.has_failed() {
            story.put(format!("k{number}").as_bytes(), &value).await;
            number += 1;
            assert!(number < 3000, "a log without room stops its core");
        }
        store.host.set_disk_size(None);
        for number in number..number + 50 {
            story.put(format!("k{number}").as_bytes(), &value).await;
        }
        // It has what it acknowledged, and gets what it missed.
        story.cluster.cut_power(full);
        store.is_sick.set(false);
        story.cluster.restart(full, 1).await;
        let last = format!("k{}", number + 49);
        story.demand_on(full, &[(b"k0", &value), (last.as_bytes(), &value)]).await;
    });
}
