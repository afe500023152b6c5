//! A store that comes back: after a power cut, and with other numbers of cores.

use crate::harness::{Store, limits, options, with_store};
use futures_util::future::{Either, select};
use pinion_capnp::{AdminService, Atomicity, Operations, RawCall, RawReply, WireError};
use pinion_runtime::sim;
use pinion_shard::{Founding, Shard, StoreAdmin, ports};
use pinion_types::ColumnFamily::Default as Values;
use pinion_types::CoreId;
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Starts the store's cores, runs the test on core 0, and cuts the power while all are at work.
fn session<F: Future<Output = ()> + 'static>(
    simulation: &sim::Simulation,
    host: &sim::Host,
    cores: u16,
    test: impl FnOnce(Store) -> F + 'static,
) {
    if !host.is_up() {
        host.start();
    }
    let mut test = Some(test);
    let mut first = None;
    for (core, port) in (0..cores).zip(ports(usize::from(cores))) {
        let core = CoreId(core);
        let test = test.take();
        let handle = host.spawn_core(core, async move {
            // The server does this before its cores start.
            pinion_runtime::fs::create_dir_durably("/", "store").await.unwrap();
            let shard = Shard::start(options(core), limits(), port, &Founding::New).await.unwrap();
            match test {
                Some(test) => test(Store { shard }).await,
                None => std::future::pending().await,
            }
        });
        first.get_or_insert(handle);
    }
    simulation.block_on(first.unwrap()).expect("the host stays up");
    host.crash();
}

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:04}").into_bytes()
}

async fn put(store: &Store, numbers: std::ops::Range<u32>) {
    for number in numbers {
        store.put(Values, &key(number), &number.to_le_bytes()).await;
    }
}

async fn check(store: &Store, count: u32) {
    for number in 0..count {
        let value = store.get(Values, &key(number)).await;
        assert_eq!(value.as_deref(), Some(&number.to_le_bytes()[..]), "key {number}");
    }
    let scanned = store.scan(b"", 10_000).await;
    assert_eq!(scanned.len(), usize::try_from(count).unwrap());
}

fn admin(store: &Store) -> StoreAdmin {
    StoreAdmin::new(store.shard.clone(), "test", std::rc::Rc::from([]))
}

/// The cores of the raw regions, in the order of their keys.
async fn raw_cores(store: &Store) -> Vec<u16> {
    let page = admin(store).regions(Vec::new(), 0).await.unwrap();
    let raw = page.regions.iter().filter(|info| info.region.start.first() == Some(&b'r'));
    raw.map(|info| info.core.0).collect()
}

#[test]
fn what_was_acknowledged_is_read_right_after_the_start() {
    for seed in 0..20 {
        sim::run(sim::Config::new(seed), |simulation| {
            let host = simulation.add_host("store");
            let mut count = 0;
            for round in 1..=3 {
                session(simulation, &host, 1, move |store| async move {
                    check(&store, count).await;
                    // Many at a time, so that the log's commit index lags behind what is acknowledged.
                    let puts = (count..count + 100).map(|number| {
                        let store = store.clone();
                        pinion_runtime::spawn(async move { put(&store, number..number + 1).await })
                    });
                    futures_util::future::join_all(puts).await;
                });
                count = round * 100;
            }
        });
    }
}

#[test]
fn a_store_comes_back_with_another_number_of_cores() {
    for seed in 0..10 {
        sim::run(sim::Config::new(seed), |simulation| {
            let host = simulation.add_host("store");
            session(simulation, &host, 1, |store| async move { put(&store, 0..300).await });
            session(simulation, &host, 2, |store| async move {
                check(&store, 300).await;
                assert_eq!(raw_cores(&store).await, [0]);
                admin(&store).split(vec![key(100), key(200)]).await.unwrap();
                let cores = raw_cores(&store).await;
                assert!(cores.contains(&0) && cores.contains(&1), "all cores are used: {cores:?}");
                put(&store, 300..400).await;
                put(&store, 0..100).await;
                check(&store, 400).await;
            });
            session(simulation, &host, 1, |store| async move {
                assert_eq!(raw_cores(&store).await, [0, 0, 0]);
                check(&store, 400).await;
                put(&store, 400..500).await;
            });
            assert!(host.files().iter().all(|(name, _)| !name.contains("cores/1/")), "{:?}", host.files());
            session(simulation, &host, 3, |store| async move {
                check(&store, 500).await;
                admin(&store).split(vec![key(50), key(150), key(250)]).await.unwrap();
                let cores = raw_cores(&store).await;
                assert!((0..3).all(|core| cores.contains(&core)), "all cores are used: {cores:?}");
                put(&store, 500..600).await;
            });
            session(simulation, &host, 2, |store| async move { check(&store, 600).await });
        });
    }
}

#[test]
fn a_start_that_loses_power_while_cores_go_comes_to_the_same_end() {
    for cut in 0..60 {
        sim::run(sim::Config::new(cut), |simulation| {
            let host = simulation.add_host("store");
            session(simulation, &host, 3, |store| async move {
                put(&store, 0..200).await;
                admin(&store).split(vec![key(60), key(120)]).await.unwrap();
                put(&store, 200..300).await;
            });
            host.start();
            host.crash_at_io(host.io_count() + 5 * cut);
            let port = ports(1).remove(0);
            let core = host.spawn_core(CoreId(0), async move {
                let _shard = Shard::start(options(CoreId(0)), limits(), port, &Founding::New).await;
                pinion_runtime::sleep(Duration::from_millis(50)).await;
            });
            let _ = simulation.block_on(core);
            host.clear_disk_faults();
            if host.is_up() {
                host.crash();
            }
            session(simulation, &host, 1, |store| async move { check(&store, 300).await });
        });
    }
}

#[test]
fn the_log_stays_within_its_bound_over_many_power_cuts() {
    sim::run(sim::Config::new(7), |simulation| {
        let host = simulation.add_host("store");
        let (cores, mut count) = (2, 0);
        for _ in 0..30 {
            session(simulation, &host, cores, move |store| async move {
                put(&store, count..count + 20).await;
                // Flushes and compactions of the log take their time.
                pinion_runtime::sleep(Duration::from_millis(300)).await;
                for core in 0..cores {
                    let log = options(CoreId(core)).log_directory();
                    let bound =
                        options(CoreId(core)).replay_bytes_max / options(CoreId(core)).log.segment_bytes;
                    let files = pinion_runtime::fs::read_dir(log).await.unwrap().len() as u64;
                    // Beside the segments in use: one that is ready, one in the making, two to be used again.
                    assert!(files <= bound + 4, "{files} files of the log");
                }
            });
            count += 20;
        }
        session(simulation, &host, cores, move |store| async move { check(&store, count).await });
    });
}

/// Names and lengths of all files of a store.
async fn files(core: CoreId) -> Vec<(String, u64)> {
    let options = options(core);
    let mut directories = vec![options.log_directory()];
    for region in pinion_runtime::fs::read_dir("/store/regions").await.unwrap() {
        directories.push(format!("/store/regions/{}", region.name).into());
    }
    let mut files = Vec::new();
    for directory in directories {
        let found = pinion_runtime::fs::read_dir(&directory).await.unwrap();
        files.extend(
            found.into_iter().map(|entry| (format!("{}/{}", directory.display(), entry.name), entry.len)),
        );
    }
    files.sort();
    files
}

#[test]
fn a_store_that_has_stopped_touches_no_file() {
    let compactions: u64 = (0..20)
        .map(|seed| {
            sim::run(sim::Config::new(seed), |simulation| {
                let host = simulation.add_host("store");
                let port = ports(1).remove(0);
                let core = host.spawn_core(CoreId(0), async move {
                    pinion_runtime::fs::create_dir_durably("/", "store").await.unwrap();
                    let shard =
                        Shard::start(options(CoreId(0)), limits(), port, &Founding::New).await.unwrap();
                    let store = Store { shard: shard.clone() };
                    // Enough for flushes and compactions to be under way whenever the last is answered.
                    for number in 0..150 + u32::try_from(seed).unwrap() {
                        store.put(Values, &key(number), &[7; 4000]).await;
                    }
                    shard.stop().await.unwrap();
                    let (stopped, statistics) = (files(CoreId(0)).await, shard.engine().statistics());
                    pinion_runtime::sleep(Duration::from_secs(5)).await;
                    assert_eq!(files(CoreId(0)).await, stopped, "seed {seed}");
                    statistics.compactions
                });
                simulation.block_on(core).expect("the host stays up")
            })
        })
        .sum();
    assert!(compactions > 0, "nothing was compacted");
}

#[test]
fn calls_under_way_when_a_store_stops_are_answered_and_later_ones_are_turned_away() {
    with_store(async |store| {
        let calls: Vec<_> = (0..50)
            .map(|number| {
                let call = RawCall::Put { family: Values, key: key(number), value: vec![7; 4000], ttl: None };
                let store = store.clone();
                pinion_runtime::spawn(async move { store.call(call).await })
            })
            .collect();
        // Some have been proposed by then, and none is durable.
        pinion_runtime::sleep(Duration::from_micros(15)).await;
        let late = async {
            pinion_runtime::sleep(Duration::from_millis(50)).await;
            store.call(RawCall::Get { family: Values, key: key(0) }).await
        };
        let (answers, stopped, late) =
            futures_util::join!(futures_util::future::join_all(calls), store.shard.stop(), late);
        stopped.unwrap();
        assert!(answers.iter().all(|answer| *answer == Ok(RawReply::Done)), "{answers:?}");
        assert_eq!(late, Err(WireError::ShuttingDown));
    });
}

#[test]
fn what_is_larger_than_the_log_takes_at_once_is_refused_and_the_rest_goes_on() {
    with_store(async |store| {
        let mut operations = Operations::default();
        for number in 0..30 {
            operations.put(Values, &key(number), &[7; 4000], None);
        }
        let answer = store.call(RawCall::Batch { operations, atomicity: Atomicity::Whole }).await;
        assert!(matches!(answer, Err(WireError::TooLarge { limit, got, .. }) if limit < got), "{answer:?}");
        store.put(Values, &key(99), b"goes on").await;
        assert_eq!(store.get(Values, &key(0)).await, None);
    });
}

/// Splits a region, so that a part of it changes cores, while operation `at` of the disk fails; writes to that part, and cuts the power. Gives
/// `false` when there are not so many operations.
fn change_cores_with_failing(at: u64) -> bool {
    sim::run(sim::Config::new(at), |simulation| {
        let host = simulation.add_host("store");
        let (disk, has_struck, is_taken) =
            (host.clone(), Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (struck, taken) = (has_struck.clone(), is_taken.clone());
        session(simulation, &host, 2, async move |store| {
            for number in 0..60 {
                store.put(Values, &key(number), &[7; 4000]).await;
            }
            let number = disk.io_count() + at;
            disk.fail_io(sim::Failing::Once(number), sim::DiskError::Io);
            // It may be refused, or stay where it was.
            drop(admin(&store).split(vec![key(30)]).await);
            struck.set(disk.io_count() > number);
            let put = RawCall::Put { family: Values, key: key(40), value: b"after".to_vec(), ttl: None };
            let (put, late) = (pin!(store.call(put)), pin!(pinion_runtime::sleep(Duration::from_secs(10))));
            if let Either::Left((answer, _)) = select(put, late).await {
                taken.set(answer == Ok(RawReply::Done));
            }
            disk.clear_disk_faults();
        });
        let taken = is_taken.get();
        session(simulation, &host, 2, async move |store| {
            let found = store.get(Values, &key(40)).await;
            assert!(!taken || found.as_deref() == Some(&b"after"[..]), "operation {at}: a write is lost");
        });
        has_struck.get()
    })
}

#[test]
fn a_region_that_could_not_change_cores_loses_nothing_that_it_took_afterwards() {
    let mut at = 0;
    while change_cores_with_failing(at) {
        at += 1;
    }
    assert!(at > 20, "a change of cores has many operations: {at}");
}
