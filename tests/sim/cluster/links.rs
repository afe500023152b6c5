//! Stories about links that are whole in one direction only, or at one end only.

use super::stores::Store;
use super::stories::{FAMILY, STORES, Story, WITHIN, tell_of};
use pinion_capnp::WireError;
use pinion_capnp::client::ClientError;
use pinion_shard::testing;
use pinion_types::LogIndex;

const SEEDS: std::ops::Range<u64> = 1..4;

fn tell(story: impl AsyncFn(Story<'_>) + Send + Sync) {
    tell_of(SEEDS, 0, story);
}

impl Story<'_> {
    /// What a store's peer has applied of the region.
    pub(super) fn applied_on(&self, place: usize) -> LogIndex {
        let shards = self.cluster.stores[place].shards();
        let mut peers = shards.iter().flat_map(testing::peers);
        peers.find(|peer| peer.region.id == self.region).expect("it is a member").applied
    }

    /// Waits until a follower has what was written, by a leader that stays the leader.
    async fn demand_followed(&self, (leader, follower): (usize, usize), value: &[u8]) {
        self.put(b"k1", value).await;
        let through = self.applied_on(self.leader().await);
        self.wait_for("the follower gets what was written since", || {
            (self.applied_on(follower) >= through).then_some(())
        })
        .await;
        assert!(self.leads(leader), "the leader is the same");
    }

    /// Whether a store's peer takes itself for the leader.
    fn leads(&self, place: usize) -> bool {
        let shards = self.cluster.stores[place].shards();
        let mut peers = shards.iter().flat_map(testing::peers);
        peers.any(|peer| peer.region.id == self.region && peer.is_leader)
    }
}

#[test]
fn a_leader_that_hears_nobody_leads_no_more() {
    tell(async |story| {
        story.put(b"k1", b"v1").await;
        let old = story.leader().await;
        let hosts = || story.cluster.stores.iter().map(|store| &store.host).enumerate();
        // What it says is heard; what is said to it is not.
        for (_, host) in hosts().filter(|(place, _)| *place != old) {
            story.cluster.simulation.block(host, &story.cluster.stores[old].host);
        }
        story.wait_for("it knows that it leads no more", || (!story.leads(old)).then_some(())).await;
        let new =
            story.wait_for("another leader", || story.leader_among(story.region, |place| place != old)).await;
        story.cluster.client(new).await.put(FAMILY, b"k1", b"v2", None).await.unwrap();
        story.cluster.simulation.heal_all();
        story.transfer(Store::id(old)).await;
        assert_eq!(story.get(b"k1").await.as_deref(), Some(&b"v2"[..]));
    });
}

#[test]
fn links_that_one_end_has_forgotten_are_replaced() {
    tell(async |story| {
        story.put(b"k1", b"v1").await;
        let leader = story.leader().await;
        let follower = (leader + 1) % STORES;
        let host = |place: usize| &story.cluster.stores[place].host;
        for (gone, other) in [(follower, leader), (leader, follower)] {
            story.cluster.simulation.half_open_connections(host(gone), host(other));
            story.demand_followed((leader, follower), b"v2").await;
        }
        pinion_runtime::sleep(WITHIN / 2).await;
        assert!(story.leads(leader), "and stays it");
    });
}

#[test]
fn links_on_which_nothing_arrives_any_more_are_replaced() {
    tell(async |story| {
        story.put(b"k1", b"v1").await;
        let leader = story.leader().await;
        let follower = (leader + 1) % STORES;
        let host = |place: usize| &story.cluster.stores[place].host;
        // Neither end is told: nothing but the silence says so.
        story.cluster.simulation.silence_connections(host(follower), host(leader));
        story.demand_followed((leader, follower), b"v2").await;
        pinion_runtime::sleep(WITHIN / 2).await;
        story.demand_followed((leader, follower), b"v3").await;
    });
}

#[test]
fn a_write_that_the_others_have_committed_is_not_said_to_be_undone() {
    tell(async |story| {
        story.put(b"k1", b"v1").await;
        let (old, cluster) = (story.leader().await, story.cluster);
        let host = |place: usize| &cluster.stores[place].host;
        // Its entry gets to the others, and what they say of it does not come back.
        (0..STORES)
            .filter(|place| *place != old)
            .for_each(|place| cluster.simulation.block(host(place), host(old)));
        let asked = cluster.client(old).await.with_timeout(4 * WITHIN);
        let meanwhile = async {
            let new = story
                .wait_for("another leader", || story.leader_among(story.region, |place| place != old))
                .await;
            let client = cluster.client(new).await;
            for number in 0..300 {
                client.put(FAMILY, format!("k{number}").as_bytes(), &[b'v'; 1000], None).await.unwrap();
            }
            cluster.simulation.heal_all();
        };
        let (answer, ()) = futures_util::join!(asked.put(FAMILY, b"once", b"done", None), meanwhile);
        assert_eq!(story.get(b"once").await.as_deref(), Some(&b"done"[..]));
        assert!(
            matches!(answer, Ok(()) | Err(ClientError::Refused(WireError::Undetermined))),
            "it was done: {answer:?}"
        );
    });
}
