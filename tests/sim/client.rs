//! The client of a cluster: calls reach the right region, its leader and its core, while these change and stores die.

use crate::seeds;
use crate::store::{Life, PORT, addresses};
use pinion_client::{
    Atomicity, Cluster, ColumnFamily, Error, OperationResult, Operations, Options, PeerChange,
    PeerChangeKind, RegionInfo, Scan, StoreId, WireError,
};
use pinion_runtime::sim::{Config, Host, Simulation, run};
use pinion_runtime::{now, sleep};
use pinion_shard::Founding;
use pinion_types::{CoreId, PeerRole};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const FAMILY: ColumnFamily = ColumnFamily::Default;

/// Three stores that every region has a voter on.
fn start(simulation: &Simulation, cores: u16) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    for number in 1..=3 {
        let host = simulation.add_host(&format!("store-{number}"));
        let founding = match hosts.first() {
            None => Founding::New,
            Some(first) => Founding::Join { member: first.address(PORT), addresses: addresses(&host, cores) },
        };
        let life = Life::begin_as(&host, cores, &founding);
        assert!(life.wait(simulation, &host), "nothing cuts the power");
        hosts.push(host);
    }
    simulation.block_on(async {
        let cluster = connect(&hosts[0]).await;
        wait_for(&cluster, |regions| regions.iter().all(has_three_voters)).await;
    });
    hosts
}

async fn connect(host: &Host) -> Cluster {
    Cluster::connect(&[host.address(PORT)], Options::default()).await.unwrap()
}

fn has_three_voters(info: &RegionInfo) -> bool {
    let voters = info.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter);
    voters.count() == 3 && info.region.peers.len() == 3
}

async fn wait_for(cluster: &Cluster, holds: impl Fn(&[RegionInfo]) -> bool) {
    for _ in 0..300 {
        if cluster.regions().await.is_ok_and(|regions| holds(&regions)) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not come to that: {:?}", cluster.regions().await);
}

fn seed() -> u64 {
    seeds::log_if_asked();
    seeds::from_environment("PINION_SIM_FROM").unwrap_or(1)
}

#[test]
fn every_call_reaches_its_region_while_regions_split_and_leaders_change() {
    run(Config::new(seed()), |simulation| {
        let hosts = start(simulation, 2);
        simulation.block_on(async {
            let (one, other) = (connect(&hosts[0]).await, connect(&hosts[2]).await);
            for number in 0..60 {
                one.put(FAMILY, format!("key{number:02}").as_bytes(), b"value", None).await.unwrap();
            }
            let made = other.split(&[b"key20".to_vec(), b"key40".to_vec()]).await.unwrap();
            assert_eq!(made.len(), 3);
            // Each of the three has another leader.
            for (info, store) in made.iter().zip(1..) {
                one.transfer_leader(info.region.id, StoreId(store)).await.unwrap();
            }
            wait_for(&one, |regions| {
                let leader = |key: &[u8]| {
                    let key = [b"r", key].concat();
                    let info = regions.iter().find(|info| info.region.contains(&key)).unwrap();
                    info.leader.map(|leader| leader.store)
                };
                (leader(b"key00"), leader(b"key30"), leader(b"key50"))
                    == (Some(StoreId(1)), Some(StoreId(2)), Some(StoreId(3)))
            })
            .await;
            for cluster in [&one, &other] {
                check_reads(cluster).await;
                check_batches(cluster).await;
            }
            one.delete_range(FAMILY, b"key10", b"key50").await.unwrap();
            let page = other.scan(Scan { limit: 100, ..Scan::default() }).await.unwrap();
            assert_eq!((page.pairs.len(), page.resume), (20, None));
            let swapped =
                other.compare_and_swap(FAMILY, b"key05", Some(b"value"), b"new", None).await.unwrap();
            assert!(swapped.0);
            assert_eq!(one.get(FAMILY, b"key05").await.unwrap().as_deref(), Some(&b"new"[..]));
        });
    });
}

async fn check_reads(cluster: &Cluster) {
    assert_eq!(cluster.get(FAMILY, b"key33").await.unwrap().as_deref(), Some(&b"value"[..]));
    let keys: Vec<_> = (0..60).map(|number| format!("key{number:02}").into_bytes()).collect();
    for reverse in [false, true] {
        let mut scan =
            Scan { start: b"key05".to_vec(), end: b"key55".to_vec(), limit: 17, reverse, ..Scan::default() };
        let mut seen = Vec::new();
        loop {
            let page = cluster.scan(scan.clone()).await.unwrap();
            seen.extend(page.pairs.iter().map(|(key, _)| key.to_vec()));
            match page.resume {
                None => break,
                Some(resume) if reverse => scan.end = resume,
                Some(resume) => scan.start = resume,
            }
        }
        if reverse {
            seen.reverse();
        }
        assert_eq!(seen, keys[5..55]);
    }
    let everything = Scan { limit: 1000, reverse: true, ..Scan::default() };
    assert_eq!(cluster.scan(everything).await.unwrap().pairs.len(), 60);
    let results = cluster.batch_get(FAMILY, &[keys[59].clone(), b"none".to_vec(), keys[0].clone()]).await;
    let results = results.unwrap();
    let listed: Vec<_> = results.iter().collect();
    let value = OperationResult::Value(b"value");
    assert_eq!(listed, [value, OperationResult::NotFound, value]);
}

async fn check_batches(cluster: &Cluster) {
    let mut operations = Operations::default();
    for number in [50, 0, 30, 1] {
        operations.put(FAMILY, format!("key{number:02}").as_bytes(), b"value", None);
    }
    let whole = cluster.batch_put(operations.clone()).await;
    assert_eq!(whole, Err(Error::Refused(WireError::BatchSpansRegions)));
    let parted = cluster.run_batch(operations.clone(), Atomicity::PerRegion).await.unwrap();
    assert_eq!(parted.first_error(), None);
    operations.get(FAMILY, b"key31");
    let mixed = cluster.batch(operations).await.unwrap();
    assert_eq!((mixed.at(3), mixed.at(4)), (OperationResult::Done, OperationResult::Value(b"value")));
}

#[test]
fn writes_go_on_when_a_leader_dies_and_none_is_lost() {
    run(Config::new(seed()), |simulation| {
        let hosts = start(simulation, 1);
        simulation.block_on(async {
            let cluster = connect(&hosts[0]).await;
            let leader = cluster.region(b"key").await.unwrap().leader.unwrap().store;
            let (mut written, mut unknown) = (Vec::new(), 0);
            let mut longest = Duration::ZERO;
            for number in 0..300 {
                if number == 100 {
                    hosts[usize::try_from(leader.0).unwrap() - 1].crash();
                }
                let key = format!("key{number:03}").into_bytes();
                let begun = now();
                match cluster.put(FAMILY, &key, b"value", None).await {
                    Ok(()) => written.push(key),
                    Err(error) if error.is_undetermined() => unknown += 1,
                    Err(error) => panic!("{error}"),
                }
                longest = longest.max(begun.elapsed());
            }
            println!("{} written, {unknown} unknown, the longest took {longest:?}", written.len());
            assert!(written.len() >= 298);
            for key in &written {
                assert!(cluster.get(FAMILY, key).await.unwrap().is_some(), "{key:?} is lost");
            }
        });
    });
}

/// Its store may have missed a split, and would show the whole region as if it were still there.
#[test]
fn a_region_is_never_shown_as_a_peer_has_it_that_does_not_lead() {
    run(Config::new(seed()), |simulation| {
        let hosts = start(simulation, 1);
        let client = simulation.add_host("client");
        let address = hosts[0].address(PORT);
        let step = Rc::new(Cell::new(0));
        let driven = step.clone();
        let asking = client.spawn_core(CoreId(0), async move {
            let wait_for_step = async |number| {
                while driven.get() < number {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            let cluster = Cluster::connect(&[address], Options::default()).await.unwrap();
            let before = cluster.region(b"key9").await.unwrap();
            driven.set(1);
            wait_for_step(2).await;
            let alone = cluster.region(b"key9").await;
            driven.set(3);
            wait_for_step(4).await;
            (before, alone, cluster.region(b"key9").await.unwrap())
        });
        let (before, alone, after) = simulation.block_on(async {
            let wait_for_step = async |number| {
                while step.get() < number {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            wait_for_step(1).await;
            let cluster = connect(&hosts[0]).await;
            let info = cluster.region(b"key9").await.unwrap();
            cluster.transfer_leader(info.region.id, StoreId(1)).await.unwrap();
            for host in &hosts[..2] {
                simulation.partition(host, &hosts[2]);
            }
            cluster.split(&[b"key5".to_vec()]).await.unwrap();
            for host in &hosts[..2] {
                simulation.partition(host, &client);
            }
            step.set(2);
            wait_for_step(3).await;
            simulation.heal_all();
            step.set(4);
            asking.await.expect("the client's host is up")
        });
        assert!(before.is_leader && before.region.contains(b"rkey1") && before.region.contains(b"rkey9"));
        assert!(alone.is_err(), "who does not lead was believed: {alone:?}");
        assert!(after.is_leader && !after.region.contains(b"rkey1") && after.region.contains(b"rkey9"));
    });
}

#[test]
fn an_administrator_reaches_whoever_leads() {
    run(Config::new(seed()), |simulation| {
        let hosts = start(simulation, 1);
        simulation.block_on(async {
            let cluster = connect(&hosts[1]).await;
            assert_eq!(cluster.stores().await.unwrap().len(), 3);
            let info = cluster.region(b"key").await.unwrap();
            let leader = info.leader.unwrap().store;
            // The leader itself goes: it hands over first, and whoever leads then is asked again.
            let remove = PeerChange { store: leader, kind: PeerChangeKind::Remove };
            let after = cluster.change_peers(info.region.id, &[remove]).await;
            if let Ok(after) = after {
                assert!(after.region.peer_on(leader).is_none());
            }
            let nobody = PeerChange { store: StoreId(9), kind: PeerChangeKind::AddVoter };
            let refused = cluster.change_peers(info.region.id, &[nobody]).await.unwrap_err();
            assert!(refused.to_string().contains("no store 9"), "{refused}");
            let refused = cluster.transfer_leader(pinion_client::RegionId(99), StoreId(1)).await;
            assert!(matches!(refused, Err(Error::NoSuchRegion(_))), "{refused:?}");
            cluster.put(FAMILY, b"key", b"value", None).await.unwrap();
        });
    });
}
