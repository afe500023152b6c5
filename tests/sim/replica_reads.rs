//! Reads from followers: the newest acknowledged state, or one of bounded age; never an older one, and never what a cut-off follower has.

use crate::seeds;
use crate::store::{Life, PORT, addresses};
use bytes::Bytes;
use pinion_capnp::client::{Client, ClientError};
use pinion_capnp::{Context, RawCall, RawReply, RawRequest, ReadFrom, RegionInfo};
use pinion_runtime::sim::{Config, Host, Simulation, run};
use pinion_shard::Founding;
use pinion_types::{ColumnFamily, PeerRole, RegionId, StoreId};
use std::time::Duration;

const STORES: usize = 3;
const KEY: &[u8] = b"key";
/// The region of raw keys that a cluster begins with.
const RAW_REGION: RegionId = RegionId(3);

/// Three stores, each with a voter of every region.
fn start(simulation: &Simulation) -> (Vec<Host>, Vec<Life>) {
    let mut hosts: Vec<Host> = Vec::new();
    let mut lives = Vec::new();
    for number in 1..=STORES {
        let host = simulation.add_host(&format!("store-{number}"));
        let founding = match hosts.first() {
            None => Founding::New,
            Some(first) => Founding::Join { member: first.address(PORT), addresses: addresses(&host, 1) },
        };
        let life = Life::begin_as(&host, 1, &founding);
        assert!(life.wait(simulation, &host), "nothing cuts the power");
        hosts.push(host);
        lives.push(life);
    }
    (hosts, lives)
}

async fn client(host: &Host) -> Client {
    Client::connect(host.address(PORT)).await.unwrap().with_timeout(Duration::from_secs(3))
}

/// Waits until the raw region has a voter on each store, and says which store leads it.
async fn leader(client: &Client) -> StoreId {
    for _ in 0..200 {
        let page = client.regions(b"", 0).await.unwrap();
        let is_whole = |info: &&RegionInfo| {
            info.region.id == RAW_REGION
                && info.region.peers.len() == STORES
                && info.region.peers.iter().all(|peer| peer.role == PeerRole::Voter)
        };
        if let Some(leader) = page.regions.iter().find(is_whole).and_then(|info| info.leader) {
            return leader.store;
        }
        pinion_runtime::sleep(Duration::from_millis(100)).await;
    }
    panic!("the raw region does not get its peers");
}

async fn read(client: &Client, read_from: ReadFrom) -> Result<Option<Bytes>, ClientError> {
    let context = Context { region: RAW_REGION, read_from, ..Context::default() };
    let call = RawCall::Get { family: ColumnFamily::Default, key: KEY.to_vec() };
    match client.call(&RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) }).await? {
        RawReply::Value(value) => Ok(value),
        other => panic!("a read was answered with {other:?}"),
    }
}

#[test]
fn a_follower_reads_what_was_acknowledged_before_and_says_when_it_cannot() {
    seeds::log_if_asked();
    for seed in 1..=5 {
        run(Config::new(seed), |simulation| {
            let (hosts, _lives) = start(simulation);
            simulation.block_on(async {
                let first = client(&hosts[0]).await;
                let led_by = usize::try_from(leader(&first).await.0).unwrap() - 1;
                let follower = (led_by + 1) % STORES;
                let (writer, reader) = (client(&hosts[led_by]).await, client(&hosts[follower]).await);
                for number in 0..50u32 {
                    let value = number.to_le_bytes();
                    writer.put(ColumnFamily::Default, KEY, &value, None).await.unwrap();
                    let there = read(&reader, ReadFrom::Replica).await.unwrap();
                    assert_eq!(
                        there.as_deref(),
                        Some(&value[..]),
                        "an older state than what was acknowledged"
                    );
                }
                assert!(matches!(read(&reader, ReadFrom::Leader).await, Err(ClientError::Refused(_))));

                // A state of a moment ago is answered without a question.
                let age_max = Duration::from_millis(500);
                let begun = pinion_runtime::now();
                assert!(read(&reader, ReadFrom::Stale(age_max)).await.unwrap().is_some());
                assert!(begun.elapsed() < Duration::from_millis(5), "it asked: {:?}", begun.elapsed());

                // Cut off, it may say what it has for as long as that is young enough, and nothing after.
                for other in (0..STORES).filter(|other| *other != follower) {
                    simulation.partition(&hosts[follower], &hosts[other]);
                }
                writer.put(ColumnFamily::Default, KEY, b"newest", None).await.unwrap();
                pinion_runtime::sleep(age_max).await;
                for read_from in [ReadFrom::Replica, ReadFrom::Stale(age_max)] {
                    let answer = read(&reader, read_from).await;
                    assert!(answer.is_err(), "{read_from:?} from a follower that is cut off: {answer:?}");
                }
            });
        });
    }
}
