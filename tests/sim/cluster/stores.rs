//! The stores of a cluster and the hosts that they run on.

use crate::store::{Life, PORT, addresses, limits};
use pinion_capnp::client::Client;
use pinion_engine::Statistics;
use pinion_runtime::sim::{Host, Simulation};
use pinion_shard::{Founding, Shard, ShardLimits, testing};
use pinion_types::{CoreId, PeerRole, StoreId};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// How long a store may take to start again.
const START_MAX: Duration = Duration::from_secs(20);
/// How long it may take to stop: what `Shard::stop` says, and a log to close on a disk that may be slow.
const STOP_MAX: Duration = Duration::from_secs(10);
/// The first of the cores from which a store's cores are told to stop, each from one, beside its own.
const STOPPERS: u16 = 101;
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often a store tries to join, and what it rests in between.
const JOIN_TRIES_MAX: usize = 300;
const JOIN_RESTS: Duration = Duration::from_millis(200);

/// Stores of a cluster with what they run on.
pub(super) struct Cluster<'a> {
    pub(super) simulation: &'a Simulation,
    pub(super) stores: Vec<Store>,
    /// What the storage of lives that have ended has done.
    pub(super) done: RefCell<Vec<Statistics>>,
    /// What the stores accept.
    limits: ShardLimits,
    /// Regions that lives that have ended split because they were too large.
    pub(super) regions_split: Cell<u64>,
}

pub(super) struct Store {
    pub(super) host: Host,
    pub(super) cores: Cell<u16>,
    life: RefCell<Option<Life>>,
    /// How often it has started.
    lives: Cell<u64>,
    /// Whether its disk fails: a core of it may stop, or not start.
    pub(super) is_sick: Cell<bool>,
}

impl Store {
    /// The id that the cluster gives to the store that joins at this place.
    pub(super) fn id(place: usize) -> StoreId {
        StoreId(place as u64 + 1)
    }

    /// The cores that serve; none while the store is down or starting.
    pub(super) fn shards(&self) -> Vec<Shard> {
        match &*self.life.borrow() {
            Some(life) if self.host.is_up() && life.is_begun() => life.shards(),
            _ => Vec::new(),
        }
    }

    /// How often it has started.
    pub(super) fn lives(&self) -> u64 {
        self.lives.get()
    }

    /// Why a core of it stopped, or did not start, if one did though no disk failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.trouble().filter(|_| !self.is_sick.get())
    }

    /// Whether a core of it stopped, or did not start.
    pub(super) fn has_failed(&self) -> bool {
        self.trouble().is_some()
    }

    fn trouble(&self) -> Option<String> {
        let life = self.life.borrow();
        let life = life.as_ref()?;
        life.refused().or_else(|| life.failures().pop())
    }
}

impl<'a> Cluster<'a> {
    /// A cluster of so many stores: the first makes it, the others join.
    pub(super) fn start(simulation: &'a Simulation, cores: &[u16]) -> Self {
        Self::start_with(simulation, cores, limits())
    }

    /// The same of stores that accept something else.
    pub(super) fn start_with(simulation: &'a Simulation, cores: &[u16], limits: ShardLimits) -> Self {
        let mut cluster = Self {
            simulation,
            stores: Vec::new(),
            done: RefCell::default(),
            limits,
            regions_split: Cell::default(),
        };
        for cores in cores {
            cluster.add_store(*cores);
        }
        cluster
    }

    /// One more store, on a host of its own.
    pub(super) fn add_store(&mut self, cores: u16) {
        let number = self.stores.len() + 1;
        let host = self.simulation.add_host(&format!("store-{number}"));
        let founding = match self.stores.first() {
            None => Founding::New,
            Some(first) => {
                Founding::Join { member: first.host.address(PORT), addresses: addresses(&host, cores) }
            }
        };
        let life = Life::begin_with(&host, cores, &founding, self.limits);
        assert!(life.wait(self.simulation, &host), "nothing cuts the power");
        self.stores.push(Store {
            host,
            cores: Cell::new(cores),
            life: RefCell::new(Some(life)),
            lives: Cell::new(1),
            is_sick: Cell::new(false),
        });
    }

    /// A host for one more store, which is to [join](Self::join) later. It is the last.
    pub(super) fn expect_store(&mut self) {
        let host = self.simulation.add_host(&format!("store-{}", self.stores.len() + 1));
        let (cores, lives) = (Cell::new(1), Cell::new(0));
        self.stores.push(Store { host, cores, life: RefCell::default(), lives, is_sick: Cell::new(false) });
    }

    /// How many stores have joined; the one that has not is the last.
    pub(super) fn present(&self) -> usize {
        self.stores.iter().filter(|store| store.lives() > 0).count()
    }

    /// Lets the store join that is expected, by whichever store answers, however often that takes.
    pub(super) async fn join(&self, place: usize, cores: u16) {
        let store = &self.stores[place];
        store.cores.set(cores);
        for member in (0..place).cycle().take(JOIN_TRIES_MAX) {
            let (member, addresses) = (self.stores[member].host.address(PORT), addresses(&store.host, cores));
            let founding = Founding::Join { member, addresses };
            let life = Life::begin_with(&store.host, cores, &founding, self.limits);
            while !life.is_begun() && life.refused().is_none() {
                pinion_runtime::sleep(LOOK_EVERY).await;
            }
            let Some(refused) = life.refused() else {
                *store.life.borrow_mut() = Some(life);
                return store.lives.set(1);
            };
            log::debug!("-- store {} does not join yet: {refused}", Store::id(place));
            store.host.kill();
            store.host.start();
            pinion_runtime::sleep(JOIN_RESTS).await;
        }
        panic!("store {} does not join", Store::id(place));
    }

    /// Notes what a store's life has done, which has ended or is about to. A life in which a core failed, though no disk did, is a defect.
    pub(super) fn end_life(&self, place: usize) {
        let store = &self.stores[place];
        assert_eq!(
            store.failure(),
            None,
            "a core of store {} failed though its disk did not",
            Store::id(place)
        );
        if let Some(life) = store.life.take() {
            self.done.borrow_mut().extend(life.statistics());
            let split = life.shards().iter().map(testing::regions_split).sum::<u64>();
            self.regions_split.update(|before| before + split);
        }
    }

    /// Cuts the power of a store.
    pub(super) fn cut_power(&self, place: usize) {
        self.end_life(place);
        self.stores[place].host.crash();
    }

    /// Stops a store as its operator does: every core hands over what it leads and answers what is under way, and then the process ends.
    pub(super) async fn stop(&self, place: usize) {
        let store = &self.stores[place];
        let stopping: Vec<_> = store
            .shards()
            .into_iter()
            .map(|shard| {
                let stopper = CoreId(STOPPERS + shard.core().0);
                store.host.spawn_core(stopper, async move { shard.stop().await })
            })
            .collect();
        let begun = pinion_runtime::now();
        for stopped in futures_util::future::join_all(stopping).await {
            stopped.expect("nothing ends the process meanwhile").expect("a store stops");
        }
        assert!(begun.elapsed() < STOP_MAX, "store {} took {:?} to stop", Store::id(place), begun.elapsed());
        self.end_life(place);
        store.host.kill();
    }

    /// Starts a store that is down, on so many cores; waits until it serves, or goes down again.
    pub(super) async fn restart(&self, place: usize, cores: u16) {
        let store = &self.stores[place];
        store.host.start();
        self.begin(place, cores).await;
    }

    /// Starts the cores of a store whose host is up.
    pub(super) async fn begin(&self, place: usize, cores: u16) {
        let store = &self.stores[place];
        store.cores.set(cores);
        store.lives.set(store.lives.get() + 1);
        let life = Life::begin_with(&store.host, cores, &Founding::New, self.limits);
        *store.life.borrow_mut() = Some(life.clone());
        let begun = pinion_runtime::now();
        while store.host.is_up() && !life.is_begun() {
            if store.is_sick.get() && life.refused().is_some() {
                return;
            }
            assert_eq!(life.refused(), None, "a core of store {} does not start", Store::id(place));
            assert!(begun.elapsed() < START_MAX, "store {} does not start in time", Store::id(place));
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    /// How many snapshots peers went on from, in this life of their stores and before.
    pub(super) fn snapshots_installed(&self) -> u64 {
        let there = self.stores.iter().flat_map(Store::shards);
        let there: u64 = there.map(|shard| shard.engine().statistics().snapshots_installed).sum();
        there + self.done.borrow().iter().map(|done| done.snapshots_installed).sum::<u64>()
    }

    /// A client of one store.
    pub(super) async fn client(&self, place: usize) -> Client {
        Client::connect(self.stores[place].host.address(PORT))
            .await
            .unwrap()
            .with_timeout(Duration::from_secs(2))
    }

    /// Waits until every region has so many voters.
    pub(super) fn wait_for_voters(&self, voters: usize) {
        self.simulation.block_on(async {
            let client = self.client(0).await;
            for _ in 0..600 {
                let page = client.regions(b"", 0).await.unwrap();
                let is_full = |info: &pinion_capnp::RegionInfo| {
                    info.region.peers.len() == voters
                        && info.region.peers.iter().all(|peer| peer.role == PeerRole::Voter)
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
