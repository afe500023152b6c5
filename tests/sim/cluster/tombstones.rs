//! Stories about peers that were removed, and about those who have not heard of it.

use super::convergence::CHECKER;
use super::stories::{LOOK_EVERY, Story, WITHIN, tell_of};
use pinion_capnp::PeerChangeKind;
use pinion_shard::testing::{self, PeerState};
use std::cell::Cell;
use std::time::Duration;

const SEEDS: std::ops::Range<u64> = 1..4;
/// How often a removal is cut short, and how much later each time.
const CUTS: u32 = 8;
const CUT_STEP: Duration = Duration::from_micros(100);

impl Story<'_> {
    /// A store's peer of the region.
    fn peer_on(&self, place: usize) -> Option<PeerState> {
        let shards = self.cluster.stores[place].shards();
        shards.iter().flat_map(testing::peers).find(|peer| peer.region.id == self.region)
    }
}

/// One store, cut off, does not hear that another's peer is removed, and asks it for its vote.
fn tell(meanwhile: impl AsyncFn(&Story<'_>, usize) + Send + Sync) {
    tell_of(SEEDS, 0, async |story| {
        let (removed, behind) = (4, 3);
        story.lead_from(0).await;
        story.put(b"k1", b"v1").await;
        story.part(|place| place == behind);
        story.remove(removed).await;
        story.demand_nothing_on(removed).await;
        meanwhile(&story, removed).await;
        story.cluster.simulation.heal_all();
        story.part(|place| place == behind || place == removed);
        let begun = pinion_runtime::now();
        while begun.elapsed() < WITHIN {
            assert!(story.peer_on(removed).is_none(), "the removed peer is there again");
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
        story.cluster.simulation.heal_all();
        story.demand_voters(&[0, 1, 2, 3]).await;
        story.put(b"k2", b"v2").await;
        story.demand_on(behind, &[(b"k1", b"v1"), (b"k2", b"v2")]).await;
        story.demand_nothing_on(removed).await;
    });
}

#[test]
fn a_removed_peer_is_not_made_again() {
    tell(async |_, _| {});
}

#[test]
fn a_removed_peer_is_not_made_again_after_a_power_cut() {
    tell(async |story, removed| {
        story.cluster.cut_power(removed);
        story.cluster.restart(removed, 1).await;
    });
}

#[test]
fn a_removed_peer_that_a_power_cut_left_behind_goes_with_the_next_start() {
    tell_of(SEEDS, 0, async |story| {
        let (cluster, removed) = (story.cluster, 4);
        let store = &cluster.stores[removed];
        story.lead_from(0).await;
        story.ask("a split", async |client| client.split(&[b"m".to_vec()]).await).await;
        let other = story.half_with(b"m").await;
        for tried in 0..CUTS {
            // Whoever writes must not wait for the store whose power is cut.
            other.lead_from(0).await;
            let is_cut = Cell::new(false);
            // Another region writes to the store's log all the time.
            let traffic = async {
                while !is_cut.get() {
                    other.put(b"m1", b"v").await;
                }
            };
            let cut = async {
                // It can't be deleted while a snapshot of it is being made.
                let (engine, region) = (store.shards()[0].engine().clone(), story.region);
                drop(store.host.spawn_core(CHECKER, async move {
                    while let Ok(snapshot) = engine.make_snapshot(region).await {
                        drop(snapshot.release().await);
                    }
                }));
                story.remove(removed).await;
                while story.peer_on(removed).is_some() {
                    pinion_runtime::sleep(CUT_STEP).await;
                }
                pinion_runtime::sleep(CUT_STEP * tried).await;
                cluster.cut_power(removed);
                is_cut.set(true);
            };
            futures_util::join!(traffic, cut);
            // Nobody tells it.
            story.part(|place| place == removed);
            cluster.restart(removed, 1).await;
            match story.peer_on(removed) {
                // It had not heard of it before.
                Some(peer) if peer.region.peers.iter().any(|member| member.id == peer.own) => {}
                Some(peer) => panic!("it knows that it was removed, and is there: {}", peer.text),
                None => story.demand_nothing_on(removed).await,
            }
            cluster.simulation.heal_all();
            story.demand_nothing_on(removed).await;
            story.change(removed, PeerChangeKind::AddVoter).await;
        }
    });
}
