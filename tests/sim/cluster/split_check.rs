//! A cluster whose regions outgrow their bound while stores go down: the regions are split, and every replica holds the same.

use super::convergence::{self, CHECKER};
use super::observer::Seen;
use super::stores::{Cluster, Store};
use crate::seeds;
use crate::store::limits;
use pinion_capnp::RegionInfo;
use pinion_runtime::sim::{Config, run};
use pinion_shard::ShardLimits;
use pinion_shard::testing::{self, PeerState};
use pinion_types::ColumnFamily;
use pinion_types::key::Zone;
use std::time::Duration;

const SPLIT_BYTES: u64 = 16 << 10;
const KEYS: u32 = 800;
const VALUE: [u8; 200] = [b'v'; 200];
/// Seeds, as a plain test and in a long campaign at most.
const FEW: u64 = 3;
const MANY: u64 = 50;

fn key(number: u32) -> Vec<u8> {
    // Not in their order.
    format!("key{:04}", number * 7 % KEYS).into_bytes()
}

/// Writes some keys by whichever store can.
async fn write(cluster: &Cluster<'_>, numbers: std::ops::Range<u32>) {
    let mut place = 0;
    for number in numbers {
        let begun = pinion_runtime::now();
        loop {
            let is_up = !cluster.stores[place].shards().is_empty();
            let put = async |client: pinion_capnp::Client| {
                client.put(ColumnFamily::Default, &key(number), &VALUE, None).await
            };
            if is_up && put(cluster.client(place).await).await.is_ok() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "nobody takes key {number}");
            place = (place + 1) % cluster.stores.len();
            pinion_runtime::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The regions that some core leads and that have raw keys.
async fn led(cluster: &Cluster<'_>) -> Vec<RegionInfo> {
    let mut regions = Vec::new();
    for place in 0..cluster.stores.len() {
        let page = cluster.client(place).await.regions(b"", 0).await.unwrap();
        let is_raw = |info: &RegionInfo| info.region.start.first() == Some(&Zone::Raw.prefix());
        regions.extend(page.regions.into_iter().filter(|info| info.is_leader && is_raw(info)));
    }
    regions.sort_by(|a, b| a.region.start.cmp(&b.region.start));
    regions
}

fn grow(seed: u64) -> u64 {
    run(Config::new(seed), |simulation| {
        let small = ShardLimits { region_split_bytes: SPLIT_BYTES, ..limits() };
        let cluster = Cluster::start_with(simulation, &[1, 2, 1], small);
        cluster.wait_for_voters(3);
        simulation.block_on(async {
            for (part, down) in (0..4).zip([0, 1, 2, 0]) {
                cluster.cut_power(down);
                write(&cluster, part * KEYS / 4..(part + 1) * KEYS / 4).await;
                cluster.restart(down, cluster.stores[down].cores.get()).await;
            }
            // For all that is still to be split, one after the other.
            pinion_runtime::sleep(Duration::from_secs(40)).await;
            convergence::demand(&cluster, &mut Seen::default()).await;
            let regions = led(&cluster).await;
            assert!(regions.len() >= 8, "{} regions of 170 KiB, split from 16 KiB on", regions.len());
            assert!(regions.windows(2).all(|pair| pair[0].region.end == pair[1].region.start));
            for shard in cluster.stores.iter().flat_map(Store::shards) {
                for peer in testing::peers(&shard).into_iter().filter(|peer| peer.serves && is_raw(peer)) {
                    let size = shard.engine().tree(peer.region.id).expect("it is open").size();
                    assert!(size.lasting_bytes < SPLIT_BYTES, "{size:?} in {:?}", peer.region);
                }
            }
            let mut pairs = 0;
            for shard in cluster.stores[0].shards() {
                let counted = async move {
                    let mut pairs = 0;
                    for peer in testing::peers(&shard) {
                        let content = testing::content(&shard, peer.region.id).await.unwrap().unwrap();
                        let held = if is_raw(&peer) { content[0].1 } else { 0 };
                        // What lies over older tables counts as newer versions until it is merged, and tables are compressed: there may be more than
                        // the bound.
                        let bytes = held * (VALUE.len() as u64);
                        assert!(bytes < 3 * SPLIT_BYTES, "{held} keys in {:?}", peer.region);
                        pairs += held;
                    }
                    pairs
                };
                pairs += cluster.stores[0].host.spawn_core(CHECKER, counted).await.unwrap();
            }
            assert_eq!(pairs, u64::from(KEYS), "every key is there once");
        });
        for place in 0..cluster.stores.len() {
            cluster.end_life(place);
        }
        cluster.regions_split.get()
    })
}

fn is_raw(peer: &PeerState) -> bool {
    peer.region.start.first() == Some(&Zone::Raw.prefix())
}

#[test]
fn regions_that_grow_too_large_are_split_while_stores_go_down() {
    seeds::log_if_asked();
    let from = seeds::from_environment("PINION_SIM_FROM").unwrap_or(1);
    let count = seeds::from_environment("PINION_SIM_SEEDS").map_or(FEW, |count| count.min(MANY));
    for seed in from..from + count {
        println!("seed {seed}: {} regions split", grow(seed));
    }
}
