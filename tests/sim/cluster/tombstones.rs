//! Stories about peers that were removed, and about those who have not heard of it.

use super::stories::{LOOK_EVERY, Story, WITHIN, tell_of};
use pinion_shard::testing;

const SEEDS: std::ops::Range<u64> = 1..4;

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
            let shards = story.cluster.stores[removed].shards();
            let mut peers = shards.iter().flat_map(testing::peers);
            assert!(peers.all(|peer| peer.region.id != story.region), "the removed peer is there again");
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
