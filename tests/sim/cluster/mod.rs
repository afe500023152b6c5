//! Clusters: several stores, each on a host of its own, and what may happen to them.

use crate::seeds;
use crate::store::{Life, PORT, addresses};
use pinion_capnp::client::Client;
use pinion_runtime::sim::{Config, Host, Simulation, run};
use pinion_shard::Founding;
use pinion_types::ColumnFamily;
use std::time::Duration;

/// Stores of a cluster with what they run on.
struct Cluster<'a> {
    simulation: &'a Simulation,
    stores: Vec<Store>,
}

struct Store {
    host: Host,
    cores: u16,
    life: Option<Life>,
}

impl<'a> Cluster<'a> {
    /// A cluster of so many stores: the first makes it, the others join.
    fn start(simulation: &'a Simulation, stores: usize, cores: u16) -> Self {
        let mut cluster = Self { simulation, stores: Vec::new() };
        for number in 1..=stores {
            let host = simulation.add_host(&format!("store-{number}"));
            cluster.stores.push(Store { host, cores, life: None });
            let founding = match number {
                1 => Founding::New,
                _ => Founding::Join {
                    member: cluster.stores[0].host.address(PORT),
                    addresses: addresses(&cluster.stores[number - 1].host, cores),
                },
            };
            cluster.begin(number - 1, &founding);
        }
        cluster
    }

    fn begin(&mut self, place: usize, founding: &Founding) {
        let store = &mut self.stores[place];
        let life = Life::begin_as(&store.host, store.cores, founding);
        assert!(life.wait(self.simulation, &store.host), "nothing cuts the power");
        store.life = Some(life);
    }

    /// A client of one store.
    async fn client(&self, place: usize) -> Client {
        Client::connect(self.stores[place].host.address(PORT))
            .await
            .unwrap()
            .with_timeout(Duration::from_secs(2))
    }

    /// Waits until every region has so many voters.
    fn wait_for_voters(&self, voters: usize) {
        self.simulation.block_on(async {
            let client = self.client(0).await;
            for _ in 0..600 {
                let page = client.regions(b"", 0).await.unwrap();
                let is_full = |info: &pinion_capnp::RegionInfo| {
                    info.region.peers.len() == voters
                        && info.region.peers.iter().all(|peer| peer.role == pinion_types::PeerRole::Voter)
                };
                if page.regions.iter().all(is_full) {
                    return;
                }
                pinion_runtime::sleep(Duration::from_millis(100)).await;
            }
            panic!("regions do not get their peers: {:?}", client.regions(b"", 0).await);
        });
    }
}

#[test]
fn a_store_that_joins_gets_peers_and_the_data_survives_the_first_store() {
    seeds::log_if_asked();
    let seed = seeds::from_environment("PINION_SIM_FROM").unwrap_or(1);
    run(Config::new(seed), |simulation| {
        let mut cluster = Cluster::start(simulation, 1, 1);
        simulation.block_on(async {
            let client = cluster.client(0).await;
            for number in 0..100 {
                let key = format!("key{number:03}");
                client.put(ColumnFamily::Default, key.as_bytes(), b"value", None).await.unwrap();
            }
        });
        for number in 1..3 {
            let host = simulation.add_host(&format!("store-{}", number + 1));
            let member = cluster.stores[0].host.address(PORT);
            let founding = Founding::Join { member, addresses: addresses(&host, 1) };
            cluster.stores.push(Store { host, cores: 1, life: None });
            cluster.begin(number, &founding);
        }
        cluster.wait_for_voters(3);
        cluster.stores[0].host.crash();
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
