//! Rows of the course that tell one story each, step by step, where [`super::course`] has those that are trouble at random. Those about members
//! are in [`super::members`].

use super::reads::FAR;
use super::stores::{Cluster, Store};
use crate::store::{REPLICAS, limits};
use futures_util::future::join_all;
use pinion_capnp::client::{Client, ClientError};
use pinion_capnp::{Context, PeerChange, PeerChangeKind, RawCall, RawReply, RawRequest, WireError};
use pinion_runtime::sim::{Config, run};
use pinion_shard::{ShardLimits, testing};
use pinion_types::key::Zone;
use pinion_types::{ColumnFamily, Epoch, Region, RegionId, StoreId};
use std::time::Duration;

pub(super) const FAMILY: ColumnFamily = ColumnFamily::Default;
pub(super) const STORES: usize = 5;
const SEEDS: std::ops::Range<u64> = 1..3;
/// How long anything may take that is asked for.
pub(super) const WITHIN: Duration = Duration::from_secs(5);
/// Entries that a log keeps, where it is to be short.
const SHORT_LOG_ENTRIES: u64 = 20;
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A cluster whose raw region has a voter on each of five stores.
pub(super) struct Story<'a> {
    pub(super) cluster: &'a Cluster<'a>,
    pub(super) region: RegionId,
}

fn tell(story: impl AsyncFn(Story<'_>) + Send + Sync) {
    tell_of(SEEDS, REPLICAS, story);
}

/// Tells a story once for each seed, of stores that give their regions so many voters; 0 leaves them as they are.
pub(super) fn tell_of(
    seeds: std::ops::Range<u64>,
    replicas: usize,
    story: impl AsyncFn(Story<'_>) + Send + Sync,
) {
    tell_with(seeds, ShardLimits { replicas, ..limits() }, story);
}

/// The same of stores that accept something else.
pub(super) fn tell_with(
    seeds: std::ops::Range<u64>,
    limits: ShardLimits,
    story: impl AsyncFn(Story<'_>) + Send + Sync,
) {
    for seed in seeds {
        run(Config::new(seed), |simulation| {
            let cluster = Cluster::start_with(simulation, &[1; STORES], limits);
            cluster.wait_for_voters(limits.replicas.max(1));
            simulation.block_on(async {
                let region = region_of(&cluster, b"k1").expect("a region has the key");
                let told = Story { cluster: &cluster, region };
                for place in 0..STORES {
                    told.change(place, PeerChangeKind::AddVoter).await;
                }
                story(told).await;
            });
        });
    }
}

/// The region that a leader has a key in.
pub(super) fn region_of(cluster: &Cluster<'_>, key: &[u8]) -> Option<RegionId> {
    let stored = Zone::Raw.stored(key);
    let mut peers = cluster.stores.iter().flat_map(Store::shards).flat_map(|shard| testing::peers(&shard));
    peers.find(|peer| peer.serves && peer.region.contains(&stored)).map(|peer| peer.region.id)
}

impl Story<'_> {
    /// The place of the store that leads a region, of those for which `counts`.
    pub(super) fn leader_among(&self, region: RegionId, counts: impl Fn(usize) -> bool) -> Option<usize> {
        let leads = |store: &Store| {
            let mut peers = store.shards().into_iter().flat_map(|shard| testing::peers(&shard));
            peers.any(|peer| peer.region.id == region && peer.serves)
        };
        (0..STORES).filter(|place| counts(*place)).find(|place| leads(&self.cluster.stores[*place]))
    }

    pub(super) async fn wait_for<T>(&self, what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
        let begun = pinion_runtime::now();
        loop {
            if let Some(found) = is_so() {
                return found;
            }
            assert!(begun.elapsed() < WITHIN, "{what} in time");
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn leader(&self) -> usize {
        self.wait_for("a leader", || self.leader_among(self.region, |_| true)).await
    }

    /// Asks the leader until it does it.
    pub(super) async fn ask<T>(&self, what: &str, ask: impl AsyncFn(&Client) -> Result<T, ClientError>) -> T {
        let begun = pinion_runtime::now();
        loop {
            let client = self.cluster.client(self.leader().await).await.with_timeout(WITHIN);
            match ask(&client).await {
                Ok(done) => return done,
                Err(error) => assert!(begun.elapsed() < 4 * WITHIN, "{what}: {error}"),
            }
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn change(&self, place: usize, kind: PeerChangeKind) {
        let changes = [PeerChange { store: Store::id(place), kind }];
        self.ask("a change of peers", async |client| client.change_peers(self.region, &changes).await).await;
    }

    pub(super) async fn transfer(&self, to: StoreId) {
        self.ask("a transfer", async |client| client.transfer_leader(self.region, to).await).await;
    }

    /// The same story of the region that has a key by now.
    pub(super) async fn half_with(&self, key: &[u8]) -> Self {
        let region = self.wait_for("a leader of the key's region", || region_of(self.cluster, key)).await;
        Self { region, cluster: self.cluster }
    }

    /// A region as its leader knows it.
    async fn region_at(&self, id: RegionId) -> Region {
        let place = self.wait_for("its leader", || self.leader_among(id, |_| true)).await;
        let page = self.cluster.client(place).await.regions(b"", 0).await.unwrap();
        page.regions.into_iter().find(|info| info.region.id == id).expect("its leader has it").region
    }

    /// Does a call on a region's leader, as one who knows the region in an epoch.
    async fn call_region(
        &self,
        id: RegionId,
        epoch: Option<Epoch>,
        call: RawCall,
    ) -> Result<RawReply, ClientError> {
        let place = self.wait_for("its leader", || self.leader_among(id, |_| true)).await;
        let context = Some(Box::new(Context { region: id, epoch, ..Context::default() }));
        self.cluster.client(place).await.call(&RawRequest { context, ..RawRequest::new(call) }).await
    }

    pub(super) async fn put(&self, key: &[u8], value: &[u8]) {
        self.ask("a put", async |client| client.put(FAMILY, key, value, None).await).await;
    }

    pub(super) async fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.ask("a get", async |client| client.get(FAMILY, key).await).await.map(|value| value.to_vec())
    }

    /// Parts some stores from the others.
    pub(super) fn part(&self, side: impl Fn(usize) -> bool) {
        for (place, store) in self.cluster.stores.iter().enumerate() {
            for (other, there) in self.cluster.stores.iter().enumerate() {
                if side(place) != side(other) {
                    self.cluster.simulation.block(&store.host, &there.host);
                }
            }
        }
    }
}

#[test]
fn test_transfer_leader_3b() {
    tell(async |story| {
        for place in 0..STORES {
            story.transfer(Store::id(place)).await;
            story
                .wait_for("the new leader", || story.leader_among(story.region, |there| there == place))
                .await;
        }
    });
}

#[test]
fn test_one_partition_2b() {
    tell(async |story| {
        story.put(b"k1", b"v1").await;
        // The leader is with the majority: the minority hears of nothing.
        let leader = story.leader().await;
        let few = [(leader + 1) % STORES, (leader + 2) % STORES];
        story.part(|place| few.contains(&place));
        story.put(b"k1", b"changed").await;
        assert_eq!(story.get(b"k1").await.as_deref(), Some(&b"changed"[..]));
        story.cluster.simulation.heal_all();
        // The leader is with the minority: the others have another, and what it says does not count.
        let old = story.leader().await;
        let few = [old, (old + 1) % STORES];
        let alone = story.cluster.client(old).await;
        story.part(|place| few.contains(&place));
        let new = story
            .wait_for("another leader", || story.leader_among(story.region, |place| !few.contains(&place)))
            .await;
        story.cluster.client(new).await.put(FAMILY, b"k1", b"again", None).await.unwrap();
        // At once: soon it knows itself that it leads no more.
        assert!(alone.get(FAMILY, b"k1").await.is_err(), "a minority answered a read");
        assert!(alone.put(FAMILY, b"k1", b"never", None).await.is_err(), "a minority took a write");
        story.cluster.simulation.heal_all();
        story.transfer(Store::id(old)).await;
        assert_eq!(story.get(b"k1").await.as_deref(), Some(&b"again"[..]), "the old leader has caught up");
    });
}

#[test]
fn test_one_split_3b() {
    tell(async |story| {
        let lone = (story.leader().await + 1) % STORES;
        story.part(|place| place == lone);
        for number in 0..100 {
            story.put(format!("k{number:02}").as_bytes(), &[b'v'; 100]).await;
        }
        let whole = story.region_at(story.region).await;
        story.ask("a split", async |client| client.split(&[b"k50".to_vec()]).await).await;
        let left = story.wait_for("the left half", || region_of(story.cluster, b"k10")).await;
        let right = story.wait_for("the right half", || region_of(story.cluster, b"k60")).await;
        assert_ne!(left, right);
        let halves = [story.region_at(left).await, story.region_at(right).await];
        assert_eq!(halves[0].end, halves[1].start);
        assert_eq!(halves[0].end, Zone::Raw.stored(b"k50"));
        let next = Epoch { version: whole.epoch.version + 1, ..whole.epoch };
        assert_eq!(halves.each_ref().map(|half| half.epoch), [next; 2], "both are of the next version");
        // A key of the right half, asked of the left one.
        let get = |key: &[u8]| RawCall::Get { family: FAMILY, key: key.to_vec() };
        let asked = story.call_region(left, None, get(b"k60")).await;
        assert!(matches!(asked, Err(ClientError::Refused(WireError::KeyNotInRegion { .. }))), "{asked:?}");
        // Who knows the region as it was learns what it is, though its key is still there.
        let put = RawCall::Put { family: FAMILY, key: b"k10".to_vec(), value: b"v".to_vec(), ttl: None };
        for call in [get(b"k10"), put] {
            let asked = story.call_region(left, Some(whole.epoch), call.clone()).await;
            match asked {
                Err(ClientError::Refused(WireError::EpochNotMatch { current })) => {
                    assert_eq!(current, [halves[0].clone()]);
                }
                other => panic!("an old epoch was answered with {other:?}"),
            }
            story.call_region(left, Some(next), call).await.unwrap();
        }
        story.cluster.simulation.heal_all();
        story
            .wait_for("the store that was alone catches up", || {
                let shards = story.cluster.stores[lone].shards();
                let mut peers = shards.iter().flat_map(testing::peers);
                peers.any(|peer| peer.region.id == right && !peer.is_blank).then_some(())
            })
            .await;
    });
}

#[test]
fn test_one_snapshot_2c() {
    tell(async |story| {
        let lone = (story.leader().await + 1) % STORES;
        let installed = || {
            let shards = story.cluster.stores[lone].shards();
            shards.iter().map(|shard| shard.engine().statistics().snapshots_installed).sum::<u64>()
        };
        story.put(b"k1", b"v1").await;
        story.put(b"k2", b"v2").await;
        let before = installed();
        story.part(|place| place == lone);
        // The log is kept for those who can be reached.
        pinion_runtime::sleep(WITHIN).await;
        for number in 0..300 {
            story.put(format!("k{number}").as_bytes(), &[b'v'; 1000]).await;
        }
        story.ask("a delete", async |client| client.delete(FAMILY, b"k2").await).await;
        story.cluster.simulation.heal_all();
        story.wait_for("a snapshot", || (installed() > before).then_some(())).await;
        // What the snapshot brought is there after a power cut, too.
        story.cluster.cut_power(lone);
        story.cluster.restart(lone, 1).await;
        story.transfer(Store::id(lone)).await;
        assert_eq!(story.get(b"k2").await, None);
        assert_eq!(story.get(b"k1").await.as_deref(), Some(&[b'v'; 1000][..]));
    });
}

#[test]
fn a_learner_and_a_stranger_are_not_given_leadership() {
    tell(async |story| {
        story.put(b"k1", b"v1").await;
        let leader = story.leader().await;
        let learner = (leader + 1) % STORES;
        story.change(learner, PeerChangeKind::AddLearner).await;
        for (to, said) in [(Store::id(learner), "no voter"), (StoreId(99), "no peer on store 99")] {
            let leader = story.leader().await;
            let asked = story.cluster.client(leader).await.transfer_leader(story.region, to).await;
            let refused = asked.unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
            assert_eq!(story.leader().await, leader);
        }
        story.put(b"k1", b"v2").await;
    });
}

#[test]
fn a_log_is_compacted_again_after_a_transfer_that_came_to_nothing() {
    let entries_max = SHORT_LOG_ENTRIES;
    let limits = ShardLimits { replicas: 0, log_entries_max: entries_max, ..limits() };
    tell_with(SEEDS, limits, async |story| {
        let (leader, paused, cluster) = (1, 2, story.cluster);
        story.lead_from(leader).await;
        let client = cluster.client(leader).await.with_timeout(WITHIN);
        let host = |place: usize| &cluster.stores[place].host;
        host(paused).pause();
        for place in (0..STORES).filter(|place| *place != leader) {
            cluster.simulation.set_network_delay(host(leader), host(place), FAR..FAR + FAR / 10);
        }
        // Each is an entry of its own, and so many are committed while leadership is about to be handed over that the log is due to be compacted,
        // and no longer kept for the one that is paused.
        let swap = async |number| {
            let key = format!("k{number}");
            client.compare_and_swap(FAMILY, key.as_bytes(), None, b"v", None).await
        };
        let transfer = async {
            pinion_runtime::sleep(FAR / 2).await;
            assert!(client.transfer_leader(story.region, Store::id(paused)).await.is_err());
        };
        let (swapped, ()) = futures_util::join!(join_all((0..entries_max * 6).map(swap)), transfer);
        assert!(swapped.iter().any(Result::is_ok), "entries are committed meanwhile: {swapped:?}");
        host(paused).resume();
        cluster.simulation.heal_all();
        let log = cluster.stores[leader].shards().remove(0).engine().log().clone();
        for number in 0..entries_max * 6 {
            story.put(format!("k{number}").as_bytes(), b"v").await;
        }
        let entries = log.last_index(story.region).0 - log.first_index(story.region).0;
        assert!(entries < 5 * entries_max, "the log holds {entries} entries");
    });
}
