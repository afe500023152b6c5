//! What is tried again and what is not, against a store that answers as it is told, in the simulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use pinion_capnp::server::{Services, serve};
use pinion_capnp::{
    AdminService, Limits, NoLinks, RawAnswer, RawCall, RawReply, RawRequest, RawService, RegionPage,
};
use pinion_client::{
    Atomicity, Cluster, ColumnFamily, Error, Operations, Options, RegionId, RegionInfo, StoreId, StoreInfo,
    StoreRecord, WireError,
};
use pinion_runtime::net::TcpListener;
use pinion_runtime::sim::{Config, Host, Simulation, run};
use pinion_runtime::{now, sleep, spawn};
use pinion_types::key::Zone;
use pinion_types::{CoreId, Epoch, Peer, PeerId, Region};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const FAMILY: ColumnFamily = ColumnFamily::Default;
const CLUSTER: u64 = 7;
const PORT: u16 = 20160;

/// What a store does with its next call instead of answering it well.
enum Told {
    Refuse(WireError),
    /// Takes the call and never answers.
    Hang,
}

/// A store that leads every region it is given, and does as it is told.
#[derive(Clone, Default)]
struct Fake(Rc<State>);

#[derive(Default)]
struct State {
    told: RefCell<VecDeque<Told>>,
    /// The keys of the calls that came.
    came: RefCell<Vec<Vec<u8>>>,
    regions: RefCell<Vec<Region>>,
    store: Cell<u64>,
    address: RefCell<String>,
}

impl Fake {
    /// A store of one region on a simulated host, which listens.
    fn listen(store: u64, address: SocketAddr) -> Self {
        let fake = Self::default();
        fake.0.store.set(store);
        fake.0.address.replace(address.to_string());
        fake.0.regions.replace(vec![region(1, "", "", 1)]);
        let services = Rc::new(Services { raw: fake.clone(), admin: fake.clone(), link: NoLinks });
        let listener = TcpListener::bind(address).unwrap();
        drop(spawn(async move {
            while let Ok(stream) = listener.accept().await {
                let services = services.clone();
                drop(spawn(async move { drop(serve(stream, services, Rc::new(Limits::default())).await) }));
            }
        }));
        fake
    }

    fn tell(&self, told: impl IntoIterator<Item = Told>) {
        self.0.told.borrow_mut().extend(told);
    }

    fn refuse(&self, errors: impl IntoIterator<Item = WireError>) {
        self.tell(errors.into_iter().map(Told::Refuse));
    }

    fn came(&self) -> usize {
        self.0.came.take().len()
    }

    fn check(&self, request: &RawRequest) -> Result<(), WireError> {
        let context = request.context.as_deref().unwrap();
        let regions = self.0.regions.borrow();
        let found = regions.iter().find(|region| region.id == context.region);
        let region = found.ok_or(WireError::RegionNotFound(context.region))?;
        if context.epoch.unwrap().version != region.epoch.version {
            return Err(WireError::EpochNotMatch { current: regions.clone() });
        }
        match &request.call {
            RawCall::Batch { operations, .. } => {
                assert!(operations.iter().all(|operation| region.contains(&Zone::Raw.stored(operation.key))));
            }
            call => assert!(region.contains(&Zone::Raw.stored(key_of(call)))),
        }
        Ok(())
    }
}

fn region(id: u64, start: &str, end: &str, version: u64) -> Region {
    let end = if end.is_empty() { Zone::Raw.end().to_vec() } else { Zone::Raw.stored(end.as_bytes()) };
    let peers =
        (1..=2).map(|store| Peer { id: PeerId(10 * id + store), store: StoreId(store), ..Peer::default() });
    Region {
        id: RegionId(id),
        start: Zone::Raw.stored(start.as_bytes()),
        end,
        epoch: Epoch { conf_ver: 1, version },
        peers: peers.collect(),
    }
}

fn key_of(call: &RawCall) -> &[u8] {
    match call {
        RawCall::Get { key, .. } | RawCall::Put { key, .. } => key,
        RawCall::Batch { operations, .. } => operations.at(0).key,
        _ => b"",
    }
}

impl RawService for Fake {
    fn call(&self, request: RawRequest) -> impl Future<Output = RawAnswer> + 'static {
        self.0.came.borrow_mut().push(key_of(&request.call).to_vec());
        let told = self.0.told.borrow_mut().pop_front();
        let checked = self.check(&request);
        async move {
            match told {
                Some(Told::Refuse(error)) => return Err(error),
                Some(Told::Hang) => std::future::pending().await,
                None => checked?,
            }
            Ok(match &request.call {
                RawCall::Get { .. } => RawReply::Value(Some(Bytes::from_static(b"value"))),
                RawCall::Batch { operations, .. } => {
                    RawReply::Results(pinion_client::Results::done(operations.len()))
                }
                _ => RawReply::Done,
            })
        }
    }
}

impl AdminService for Fake {
    fn regions(&self, _: Vec<u8>, _: usize) -> impl Future<Output = Result<RegionPage, WireError>> + 'static {
        let infos = self.0.regions.borrow().iter().map(|region| self.info_of(region)).collect();
        async move { Ok(RegionPage { regions: infos, resume: None }) }
    }

    fn split(&self, _: Vec<Vec<u8>>) -> impl Future<Output = Result<Vec<RegionInfo>, WireError>> + 'static {
        ready(Err(WireError::DiskFull))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            store: StoreId(self.0.store.get()),
            cluster: CLUSTER,
            cores: 1,
            addresses: vec![self.0.address.borrow().clone()],
            ..StoreInfo::default()
        }
    }

    fn statistics(&self) -> impl Future<Output = String> + 'static {
        ready(String::new())
    }

    fn stores(&self) -> impl Future<Output = Result<Vec<StoreRecord>, WireError>> + 'static {
        ready(Ok(Vec::new()))
    }

    fn region(&self, key: Vec<u8>) -> impl Future<Output = Result<RegionInfo, WireError>> + 'static {
        let regions = self.0.regions.borrow();
        let found = regions.iter().find(|region| region.contains(&key)).map(|region| self.info_of(region));
        async move { found.ok_or(WireError::RegionNotFound(RegionId(0))) }
    }
}

impl Fake {
    fn info_of(&self, region: &Region) -> RegionInfo {
        RegionInfo {
            region: region.clone(),
            core: CoreId(0),
            leader: region.peer_on(StoreId(self.0.store.get())),
            is_leader: true,
            ..RegionInfo::default()
        }
    }
}

/// A store on a host of its own.
fn start(simulation: &Simulation) -> (Host, Fake) {
    let host = simulation.add_host("store");
    let address = host.address(PORT);
    let made: Rc<RefCell<Option<Fake>>> = Rc::default();
    let slot = made.clone();
    drop(host.spawn_core(CoreId(0), async move {
        slot.replace(Some(Fake::listen(1, address)));
        std::future::pending::<()>().await;
    }));
    simulation.run_until(Duration::from_millis(1), || made.borrow().is_some());
    (host, made.take().unwrap())
}

async fn connect(host: &Host) -> Cluster {
    let options = Options { call_timeout: Duration::from_secs(3), ..Options::default() };
    Cluster::connect(&[host.address(PORT)], options).await.unwrap()
}

/// Runs a test with a client of a store that does as it is told.
fn with_store<F: Future<Output = ()>>(test: impl FnOnce(Fake, Cluster) -> F + Send) {
    run(Config::new(3), |simulation| {
        let (host, fake) = start(simulation);
        simulation.block_on(async move {
            let cluster = connect(&host).await;
            assert_eq!(cluster.id(), CLUSTER);
            test(fake, cluster).await;
        });
    });
}

#[test]
fn what_was_not_done_is_tried_again_until_it_is() {
    with_store(async |store: Fake, cluster: Cluster| {
        store.refuse([
            WireError::NotLeader { region: RegionId(1), leader: None },
            WireError::ServerBusy { retry_after: Duration::from_millis(300) },
            WireError::StaleCommand,
            WireError::RegionNotFound(RegionId(1)),
            WireError::ShuttingDown,
        ]);
        let begun = now();
        cluster.put(FAMILY, b"key", b"value", None).await.unwrap();
        assert_eq!(store.came(), 6);
        assert!(begun.elapsed() >= Duration::from_millis(300), "the store asked for a pause");
    });
}

#[test]
fn a_store_that_stops_is_left_alone_for_a_while() {
    with_store(async |store: Fake, cluster: Cluster| {
        store.refuse([WireError::ShuttingDown]);
        let begun = now();
        cluster.put(FAMILY, b"key", b"value", None).await.unwrap();
        assert_eq!(store.came(), 2);
        assert!(begun.elapsed() >= Duration::from_secs(1), "what is sent meanwhile could be cut off");
    });
}

#[test]
fn a_write_of_unknown_outcome_is_sent_once() {
    with_store(async |store: Fake, cluster: Cluster| {
        for error in [WireError::Undetermined, WireError::TimedOut, WireError::Internal("broken".into())] {
            store.refuse([error]);
            let outcome = cluster.put(FAMILY, b"key", b"value", None).await;
            assert!(outcome.unwrap_err().is_undetermined());
            assert_eq!(store.came(), 1);
        }
        store.tell([Told::Hang]);
        let begun = now();
        let outcome = cluster.put(FAMILY, b"key", b"value", None).await;
        assert!(outcome.unwrap_err().is_undetermined());
        assert_eq!(store.came(), 1);
        assert!((3..4).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        // And the next one finds the store again.
        cluster.put(FAMILY, b"key", b"value", None).await.unwrap();
    });
}

#[test]
fn a_read_without_an_answer_is_tried_again() {
    with_store(async |store: Fake, cluster: Cluster| {
        store.refuse([WireError::Undetermined, WireError::TimedOut]);
        store.tell([Told::Hang]);
        let value = cluster.get(FAMILY, b"key").await.unwrap();
        assert_eq!((value.as_deref(), store.came()), (Some(&b"value"[..]), 4));
    });
}

#[test]
fn what_would_be_refused_again_is_not_tried_again() {
    with_store(async |store: Fake, cluster: Cluster| {
        for error in [WireError::DiskFull, WireError::invalid("no"), WireError::BatchSpansRegions] {
            store.refuse([error.clone()]);
            assert_eq!(cluster.put(FAMILY, b"key", b"value", None).await, Err(Error::Refused(error)));
            assert_eq!(store.came(), 1);
        }
    });
}

#[test]
fn a_call_ends_at_its_deadline() {
    with_store(async |store: Fake, cluster: Cluster| {
        let cluster = cluster.with_timeout(Duration::from_millis(500));
        store.refuse((0..1000).map(|_| WireError::NotLeader { region: RegionId(1), leader: None }));
        let begun = now();
        let error = cluster.put(FAMILY, b"key", b"value", None).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(begun.elapsed() <= Duration::from_millis(500));
        let tries = store.came();
        assert!((3..30).contains(&tries), "{tries} tries in half a second");
    });
}

#[test]
fn a_split_is_learned_of_from_the_refusal() {
    with_store(async |store: Fake, cluster: Cluster| {
        cluster.put(FAMILY, b"x", b"value", None).await.unwrap();
        store.0.regions.replace(vec![region(1, "", "m", 2), region(5, "m", "", 2)]);
        store.came();
        cluster.put(FAMILY, b"x", b"value", None).await.unwrap();
        assert_eq!(store.came(), 2);
        cluster.put(FAMILY, b"a", b"value", None).await.unwrap();
        assert_eq!(store.came(), 1);
        let mut operations = Operations::default();
        for key in ["a", "n", "b", "z"] {
            operations.put(FAMILY, key.as_bytes(), b"value", None);
        }
        let whole = cluster.run_batch(operations.clone(), Atomicity::Whole).await;
        assert_eq!(whole, Err(Error::Refused(WireError::BatchSpansRegions)));
        assert_eq!(store.came(), 0);
        store.refuse([WireError::StaleCommand, WireError::DiskFull]);
        let results = cluster.batch(operations).await.unwrap();
        let failed: Vec<_> = (0..4)
            .filter(|&index| {
                matches!(results.at(index), pinion_client::OperationResult::Error(WireError::DiskFull))
            })
            .collect();
        assert!(
            failed == [0, 2] || failed == [1, 3],
            "one part is refused and the other one done: {results:?}"
        );
        assert_eq!(store.came(), 3);
    });
}

#[test]
fn a_write_on_a_connection_that_is_cut_is_undetermined_and_a_read_goes_on() {
    run(Config::new(3), |simulation| {
        let (host, store) = start(simulation);
        simulation.block_on(async {
            let cluster = connect(&host).await;
            store.tell([Told::Hang, Told::Hang]);
            let (writes, reads) = (cluster.clone(), cluster.clone());
            let write = spawn(async move { writes.put(FAMILY, b"key", b"value", None).await });
            let read = spawn(async move { reads.get(FAMILY, b"key").await });
            sleep(Duration::from_millis(100)).await;
            assert_eq!(store.came(), 2);
            simulation.cut_connections(&host, simulation.driver());
            assert!(write.await.unwrap_err().is_undetermined());
            assert!(read.await.is_ok());
            assert_eq!(store.came(), 1);
        });
    });
}

#[test]
fn an_address_that_is_nobodys_is_said_to_be() {
    run(Config::new(3), |simulation| {
        let host = simulation.add_host("nobody");
        let address = host.address(PORT);
        simulation.block_on(async move {
            let error = Cluster::connect(&[address], Options::default()).await.err().unwrap();
            assert!(error.to_string().contains("cannot reach a store at"), "{error}");
        });
    });
}
