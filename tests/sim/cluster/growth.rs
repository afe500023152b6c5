//! A cluster that grows.

use super::stores::Cluster;
use crate::seeds;
use pinion_runtime::sim::{Config, run};
use pinion_types::ColumnFamily;
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
