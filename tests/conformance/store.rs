//! Rows of the store: bootstrap, checks of regions, the log of a peer.

use crate::harness::{limits, options, with_store};
use bytes::Bytes;
use pinion_capnp::server::{Services, serve};
use pinion_capnp::{
    AdminService, Client, ClientError, Context, NoLinks, RawAnswer, RawCall, RawReply, RawRequest,
    RawService, RegionInfo, RegionPage, StoreInfo, WireError,
};
use pinion_engine::Opening;
use pinion_engine::log::{Durability, Log, LogConfig, Record, Released};
use pinion_runtime::net::TcpListener;
use pinion_runtime::{fs, machine, sim};
use pinion_shard::checks::{self, EpochCheck};
use pinion_shard::{Founding, Shard, StoreAdmin, ports};
use pinion_types::key::Zone;
use pinion_types::{ColumnFamily, CoreId, Epoch, LogIndex, Peer, PeerId, Region, RegionId, StoreId, Term};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

fn in_simulator<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
    sim::run(sim::Config::new(1), |simulation| {
        let host = simulation.add_host("store");
        simulation.block_on(host.spawn_core(CoreId(0), async move { test().await })).unwrap();
    });
}

#[test]
fn test_engine_util() {
    with_store(async |store| {
        // Families are namespaces of their own: writing, deleting and iterating in one leaves the others alone.
        for (number, family) in (1u8..).zip(ColumnFamily::ALL) {
            store.put(family, b"key", &[number]).await;
        }
        store.delete(ColumnFamily::Lock, b"key").await;
        assert_eq!(store.get(ColumnFamily::Default, b"key").await.unwrap(), [1][..]);
        assert_eq!(store.get(ColumnFamily::Lock, b"key").await, None);
        assert_eq!(store.get(ColumnFamily::Write, b"key").await.unwrap(), [3][..]);
        assert_eq!(store.scan(b"", 10).await.len(), 1);
    });
}

#[test]
fn test_different_db_path() {
    in_simulator(async || {
        // The log and the regions' tables are in directories of their own: neither path holds the other.
        let opening = Opening::open(options(CoreId(0))).await.unwrap();
        assert!(opening.streams().is_empty());
        let log = options(CoreId(0)).log_directory();
        let region = options(CoreId(0)).region_directory(RegionId(1));
        assert!(!log.starts_with(&region) && !region.starts_with(&log));
        assert!(fs::exists(&log).await.unwrap() && !fs::exists(&region).await.unwrap());
    });
}

#[test]
fn test_raftstore_err_to_pb_error() {
    // Every error of a region reaches the caller as data, each as itself: through the wire and back.
    let region = Region { id: RegionId(1), start: b"a".to_vec(), end: b"z".to_vec(), ..Region::default() };
    let errors = vec![
        WireError::NotLeader { region: RegionId(1), leader: Some(Peer { id: PeerId(2), ..Peer::default() }) },
        WireError::RegionNotFound(RegionId(1)),
        WireError::KeyNotInRegion {
            key: b"key".to_vec(),
            region: RegionId(1),
            start: b"a".to_vec(),
            end: b"z".to_vec(),
        },
        WireError::EpochNotMatch { current: vec![region] },
        WireError::StaleCommand,
        WireError::StoreNotMatch { requested: StoreId(1), actual: StoreId(2) },
    ];
    machine::block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr();
        let services = Services {
            raw: Refusing(RefCell::new(errors.clone().into())),
            admin: Refusing::default(),
            link: NoLinks,
        };
        pinion_runtime::spawn(async move {
            let stream = listener.accept().await.unwrap();
            drop(serve(stream, Rc::new(services), Rc::default()).await);
        });
        let client = Client::connect(address).await.unwrap();
        for error in errors {
            let call = RawCall::Get { family: ColumnFamily::Default, key: b"key".to_vec() };
            match client.call(&RawRequest::new(call)).await {
                Err(ClientError::Refused(refused)) => assert_eq!(refused, error),
                other => panic!("{error:?} arrived as {other:?}"),
            }
        }
    })
    .unwrap();
}

/// A store that refuses one call after the other, each with the next of these errors.
#[derive(Default)]
struct Refusing(RefCell<VecDeque<WireError>>);

impl RawService for Refusing {
    fn call(&self, _: RawRequest) -> impl Future<Output = RawAnswer> + 'static {
        std::future::ready(Err(self.0.borrow_mut().pop_front().unwrap()))
    }
}

impl AdminService for Refusing {
    fn regions(&self, _: Vec<u8>, _: usize) -> impl Future<Output = Result<RegionPage, WireError>> + 'static {
        std::future::ready(Ok(RegionPage::default()))
    }

    fn split(&self, _: Vec<Vec<u8>>) -> impl Future<Output = Result<Vec<RegionInfo>, WireError>> + 'static {
        std::future::ready(Ok(Vec::new()))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::default()
    }

    fn statistics(&self) -> impl Future<Output = String> + 'static {
        std::future::ready(String::new())
    }
}

/// A key, a region's start and end, and whether it is in there: inclusive of the end, exclusive of it, exclusive of both.
type KeyCase<'a> = (&'a [u8], &'a [u8], &'a [u8], [bool; 3]);

#[test]
fn test_check_key_in_region() {
    let region =
        |start: &[u8], end: &[u8]| Region { start: start.into(), end: end.into(), ..Region::default() };
    let cases: [KeyCase<'_>; 7] = [
        (b"", b"", b"", [true, true, false]),
        (b"", b"", b"6", [true, true, false]),
        (b"", b"3", b"6", [false, false, false]),
        (b"4", b"3", b"6", [true, true, true]),
        (b"4", b"3", b"", [true, true, true]),
        (b"3", b"3", b"", [true, true, false]),
        (b"6", b"3", b"6", [true, false, false]),
    ];
    for (key, start, end, [inclusive, half_open, exclusive]) in cases {
        let region = region(start, end);
        assert_eq!(checks::key_in_region_inclusive(&region, key).is_ok(), inclusive, "{key:?} {region:?}");
        assert_eq!(checks::key_in_region(&region, key).is_ok(), half_open, "{key:?} {region:?}");
        assert_eq!(checks::key_in_region_exclusive(&region, key).is_ok(), exclusive, "{key:?} {region:?}");
    }
}

#[test]
fn test_epoch_stale() {
    let epoch = |version, conf_ver| Epoch { conf_ver, version };
    let here = epoch(10, 10);
    assert!(epoch(1, 10).is_stale(here) && epoch(10, 1).is_stale(here));
    assert!(!epoch(10, 10).is_stale(here) && !epoch(11, 10).is_stale(here) && !epoch(10, 11).is_stale(here));
}

#[test]
fn test_check_region_epoch() {
    let region = Region { id: RegionId(1), epoch: Epoch { conf_ver: 2, version: 2 }, ..Region::default() };
    let is_ok = |version, conf_ver, check| checks::epoch(&region, Epoch { conf_ver, version }, check).is_ok();
    // Compaction of the log depends on nothing; reads and writes on the range; a change of peers on the members; a split and a
    // transfer of leadership on both. Either way of differing is a mismatch.
    for other in [1, 3] {
        assert!(is_ok(other, other, EpochCheck::Nothing));
        assert!(is_ok(2, other, EpochCheck::Version) && !is_ok(other, 2, EpochCheck::Version));
        assert!(is_ok(other, 2, EpochCheck::ConfVer) && !is_ok(2, other, EpochCheck::ConfVer));
        assert!(!is_ok(2, other, EpochCheck::Both) && !is_ok(other, 2, EpochCheck::Both));
    }
    assert!(is_ok(2, 2, EpochCheck::Both));
}

#[test]
fn a_context_is_held_against_the_region() {
    with_store(async |store| {
        let route = store.shard.router().find(&Zone::Raw.stored(b"k")).unwrap().clone();
        let get = || RawCall::Get { family: ColumnFamily::Default, key: b"k".to_vec() };
        let context =
            Context { region: route.region.id, epoch: Some(route.region.epoch), ..Context::default() };
        assert_eq!(store.call_in(context, get()).await, Ok(RawReply::Value(None)));
        let old = Context { epoch: Some(Epoch { version: 9, ..route.region.epoch }), ..context };
        let current = vec![route.region.clone()];
        assert_eq!(store.call_in(old, get()).await, Err(WireError::EpochNotMatch { current }));
        let nobody = Context { region: RegionId(77), ..context };
        assert_eq!(store.call_in(nobody, get()).await, Err(WireError::RegionNotFound(RegionId(77))));
        let elsewhere = Context { region: RegionId(1), epoch: None, ..context };
        assert!(matches!(store.call_in(elsewhere, get()).await, Err(WireError::KeyNotInRegion { .. })));
        let peer = Peer { id: PeerId(4), store: StoreId(9), ..Peer::default() };
        let stranger = Context { peer: Some(peer), ..context };
        let mismatch = WireError::StoreNotMatch { requested: StoreId(9), actual: StoreId(1) };
        assert_eq!(store.call_in(stranger, get()).await, Err(mismatch));
    });
}

#[test]
fn test_bootstrap_store() {
    in_simulator(async || {
        let first =
            Shard::start(options(CoreId(0)), limits(), ports(1).remove(0), &Founding::New).await.unwrap();
        let regions: Vec<Region> = first.router().iter().map(|route| route.region.clone()).collect();
        assert_eq!(first.store(), StoreId(1));
        assert!(regions.iter().all(|region| region.epoch == Epoch::INITIAL && region.peers.len() == 1));
        assert!(
            regions.windows(2).all(|pair| pair[0].end == pair[1].start),
            "no gap between the first regions"
        );
        first.stop().await.unwrap();
        // A store is bootstrapped once: a second start finds the same identity and the same regions.
        let opening = Opening::open(options(CoreId(0))).await.unwrap();
        assert_eq!(opening.structures().len(), 1);
        assert_eq!(opening.streams().len(), regions.len());
    });
}

const STREAM: RegionId = RegionId(1);

async fn open_log() -> Log {
    let directory = PathBuf::from("/log");
    fs::create_dir_all(&directory).await.unwrap();
    Log::open(&directory, LogConfig { segment_bytes: 64 << 10, ..LogConfig::default() }).await.unwrap().0
}

async fn append(log: &Log, entries: &[(u64, u64)]) {
    let payload = Bytes::from_static(b"payload");
    let records: Vec<_> = entries
        .iter()
        .map(|&(index, term)| Record::Entry {
            stream: STREAM,
            index: LogIndex(index),
            term: Term(term),
            kind: 0,
            payload: &payload,
        })
        .collect();
    log.append(&records, Durability::Sync).await.unwrap();
}

async fn compact(log: &Log, index: u64, term: u64) {
    let record = Record::Compact { stream: STREAM, index: LogIndex(index), term: Term(term) };
    log.append(&[record], Durability::Sync).await.unwrap();
}

/// A log that begins behind (3, 3) and holds these entries.
async fn log_of(entries: &[(u64, u64)]) -> Log {
    let log = open_log().await;
    compact(&log, 3, 3).await;
    append(&log, entries).await;
    log
}

async fn positions(log: &Log) -> Vec<(u64, u64)> {
    let (first, last) = (log.first_index(STREAM), log.last_index(STREAM));
    let entries = log.entries(STREAM, first, last.next(), usize::MAX).await.unwrap();
    entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect()
}

#[test]
fn test_gc_raft_log() {
    in_simulator(async || {
        let log = open_log().await;
        append(&log, &(1..=100).map(|index| (index, 1)).collect::<Vec<_>>()).await;
        // Through, how many go: doing it again does nothing.
        let mut there = 100;
        for (through, gone) in [(10, 10), (50, 40), (50, 0), (60, 10)] {
            compact(&log, through, 1).await;
            let through = LogIndex(through);
            log.release(STREAM, Released { entries_through: through, edits_through: 0 });
            there -= gone;
            assert_eq!(positions(&log).await.len(), there);
            assert!(log.entries(STREAM, through, through.next(), 1).await.is_err());
            assert!(log.entries(STREAM, through.next(), LogIndex(101), 1).await.is_ok());
        }
    });
}

#[test]
fn test_peer_storage_term() {
    in_simulator(async || {
        let log = log_of(&[(4, 4), (5, 5)]).await;
        for (index, term) in [(2, None), (3, Some(3)), (4, Some(4)), (5, Some(5)), (6, None)] {
            assert_eq!(log.term(STREAM, LogIndex(index)), term.map(Term), "{index}");
        }
    });
}

#[test]
fn test_peer_storage_clear_meta() {
    in_simulator(async || {
        let log = log_of(&[(4, 4), (5, 5), (6, 6)]).await;
        log.remove_stream(STREAM);
        assert_eq!(log.last_index(STREAM), LogIndex(0));
        assert_eq!(log.hard_state(STREAM), Default::default());
        log.close().await.unwrap();
        drop(log);
        assert_eq!(open_log().await.last_index(STREAM), LogIndex(0), "nothing comes back with a start");
    });
}

#[test]
fn test_peer_storage_entries() {
    in_simulator(async || {
        let log = log_of(&[(4, 4), (5, 5), (6, 6)]).await;
        let count = async |low, high, bytes| {
            log.entries(STREAM, LogIndex(low), LogIndex(high), bytes).await.map(|entries| entries.len()).ok()
        };
        assert_eq!(count(2, 6, usize::MAX).await, None, "compacted");
        assert_eq!(count(3, 4, usize::MAX).await, None, "compacted");
        assert_eq!(count(4, 5, usize::MAX).await, Some(1));
        assert_eq!(count(4, 7, usize::MAX).await, Some(3));
        assert_eq!(count(4, 7, 0).await, Some(1), "one entry always fits");
        assert_eq!(count(4, 7, 14).await, Some(2));
        assert_eq!(count(4, 8, usize::MAX).await, None, "there is no entry 7");
    });
}

/// Index and term of each entry: what is appended, and what is there then.
type AppendCase<'a> = (&'a [(u64, u64)], &'a [(u64, u64)]);

#[test]
fn test_peer_storage_append() {
    in_simulator(async || {
        let held = [(4, 4), (5, 5)];
        let cases: [AppendCase<'_>; 4] = [
            (&[(4, 4), (5, 5)], &[(4, 4), (5, 5)]),
            (&[(4, 6), (5, 6)], &[(4, 6), (5, 6)]),
            (&[(4, 4), (5, 5), (6, 5)], &[(4, 4), (5, 5), (6, 5)]),
            // Truncates what is there, and replaces it.
            (&[(4, 5)], &[(4, 5)]),
        ];
        for (appended, expected) in cases {
            let log = log_of(&held).await;
            append(&log, appended).await;
            assert_eq!(positions(&log).await, expected);
            log.remove_stream(STREAM);
            log.close().await.unwrap();
        }
        let log = log_of(&held).await;
        append(&log, &[(6, 5)]).await;
        assert_eq!(positions(&log).await, [(4, 4), (5, 5), (6, 5)]);
    });
}

#[test]
fn what_has_expired_gives_its_room_back() {
    with_store(async |store| {
        const VALUE_BYTES: usize = 1000;
        let route = store.shard.router().find(&Zone::Raw.stored(b"k")).unwrap().clone();
        let engine = store.shard.engine();
        for number in 0..500u32 {
            let (key, ttl) = (format!("brief-{number:03}").into_bytes(), Some(Duration::from_secs(1)));
            let call = RawCall::Put { family: ColumnFamily::Default, key, value: vec![7; VALUE_BYTES], ttl };
            assert_eq!(store.call(call).await, Ok(RawReply::Done));
        }
        engine.flush_region(route.region.id).await.unwrap();
        let admin = StoreAdmin::new(store.shard.clone(), "test", Rc::from([]));
        let bytes = async || {
            let regions = admin.regions(Vec::new(), 0).await.unwrap().regions;
            regions.iter().find(|info| info.region.id == route.region.id).unwrap().approximate_size_bytes
        };
        assert!(bytes().await > 500 * 1000);
        pinion_runtime::sleep(Duration::from_secs(2)).await;
        for _ in 0..8 {
            // Around the expired keys, so that compactions reach them.
            store.put(ColumnFamily::Default, b"a", b"first").await;
            store.put(ColumnFamily::Default, b"z", b"last").await;
            engine.flush_region(route.region.id).await.unwrap();
            pinion_runtime::sleep(Duration::from_millis(100)).await;
        }
        assert!(bytes().await < 50 * 1000, "{} bytes are left", bytes().await);
        assert_eq!(store.scan(b"", 1000).await.len(), 2);
    });
}
