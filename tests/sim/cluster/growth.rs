//! A cluster that grows.

use super::stores::{Cluster, Store};
use crate::seeds;
use pinion_capnp::client::Client;
use pinion_capnp::{PeerChange, PeerChangeKind, RegionInfo};
use pinion_runtime::sim::{Config, run};
use pinion_types::{ColumnFamily, PeerRole};
use std::time::Duration;

#[test]
fn a_store_that_joins_gets_peers_and_the_data_survives_the_first_store() {
    seeds::log_if_asked();
    let seed = seeds::from_environment("PINION_SIM_FROM").unwrap_or(1);
    run(Config::new(seed), |simulation| {
        let mut cluster = Cluster::start(simulation, &[1]);
        simulation.block_on(async {
            let client = cluster.client(0).await;
            for number in 0..100 {
                let key = format!("key{number:03}");
                client.put(ColumnFamily::Default, key.as_bytes(), b"value", None).await.unwrap();
            }
        });
        for _ in 0..2 {
            cluster.add_store(1);
        }
        cluster.wait_for_voters(3);
        cluster.cut_power(0);
        simulation.block_on(async {
            let begun = pinion_runtime::now();
            let mut place = 1;
            let client = loop {
                let client = cluster.client(place).await;
                match client.get(ColumnFamily::Default, b"key007").await {
                    Ok(value) => {
                        assert_eq!(value.as_deref(), Some(&b"value"[..]));
                        break client;
                    }
                    Err(error) => {
                        assert!(begun.elapsed() < Duration::from_secs(5), "nobody leads: {error}");
                        place = 3 - place;
                        pinion_runtime::sleep(Duration::from_millis(50)).await;
                    }
                }
            };
            println!("a leader after {:?}", begun.elapsed());
            client.put(ColumnFamily::Default, b"key007", b"new", None).await.unwrap();
            assert_eq!(
                client.get(ColumnFamily::Default, b"key007").await.unwrap().as_deref(),
                Some(&b"new"[..])
            );
        });
    });
}

#[test]
fn a_region_that_lacks_a_peer_gets_it_on_a_store_that_is_there() {
    let (dead, spare) = (1, 3);
    run(Config::new(1), |simulation| {
        let cluster = Cluster::start(simulation, &[1; 4]);
        cluster.wait_for_voters(3);
        simulation.block_on(async {
            let client = cluster.client(0).await.with_timeout(Duration::from_secs(20));
            let regions = client.regions(b"", 0).await.unwrap().regions;
            cluster.cut_power(dead);
            for info in &regions {
                let gone = [PeerChange { store: Store::id(dead), kind: PeerChangeKind::Remove }];
                client.change_peers(info.region.id, &gone).await.unwrap();
            }
            demand_voters_on(&client, spare, Duration::from_secs(20)).await;
        });
    });
}

#[test]
fn a_region_whose_learner_is_gone_for_good_gets_another_voter() {
    let (dead, spare, lost) = (1, 3, 4);
    run(Config::new(1), |simulation| {
        let cluster = Cluster::start(simulation, &[1; 5]);
        cluster.wait_for_voters(3);
        simulation.block_on(async {
            let client = cluster.client(0).await.with_timeout(Duration::from_secs(20));
            let regions = client.regions(b"", 0).await.unwrap().regions;
            let change = async |region, place: usize, kind| {
                let changes = [PeerChange { store: Store::id(place), kind }];
                client.change_peers(region, &changes).await.unwrap();
            };
            for info in &regions {
                change(info.region.id, lost, PeerChangeKind::AddLearner).await;
            }
            cluster.cut_power(lost);
            cluster.cut_power(dead);
            for info in &regions {
                change(info.region.id, dead, PeerChangeKind::Remove).await;
            }
            // Its store might just start again.
            pinion_runtime::sleep(Duration::from_secs(50)).await;
            let there = client.regions(b"", 0).await.unwrap().regions;
            assert!(there.iter().all(|info| info.region.peer_on(Store::id(spare)).is_none()));
            demand_voters_on(&client, spare, Duration::from_secs(30)).await;
        });
    });
}

/// Waits until every region has a voter on a store.
async fn demand_voters_on(client: &Client, place: usize, within: Duration) {
    let begun = pinion_runtime::now();
    let is_there = |info: &RegionInfo| {
        let there = info.region.peer_on(Store::id(place));
        there.is_some_and(|peer| peer.role == PeerRole::Voter)
    };
    while !client.regions(b"", 0).await.unwrap().regions.iter().all(is_there) {
        assert!(begun.elapsed() < within, "a region has no voter on the store that is there");
        pinion_runtime::sleep(Duration::from_millis(100)).await;
    }
}
