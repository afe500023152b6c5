//! A store on a simulated host: cores that listen, sizes so small that a second sees what takes a real store days.

use futures_util::future::{Either, select};
use pinion_capnp::server::{Services, serve};
use pinion_capnp::{Limits, RawCall, RawRequest, RawService};
use pinion_engine::log::LogConfig;
use pinion_engine::tree::TreeOptions;
use pinion_engine::{EngineOptions, Statistics};
use pinion_runtime::net::TcpListener;
use pinion_runtime::sim::{Host, Simulation};
use pinion_runtime::{fs, spawn};
use pinion_shard::{AdmissionLimits, CorePort, Founding, RaftTiming, Shard, ShardLimits, StoreAdmin, ports};
use pinion_types::CoreId;
use pinion_workload::store::{Answer, Store, conclude};
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Core 0's port.
pub(crate) const PORT: u16 = 20160;
/// How long a call is on its way that does not come over a connection.
const CALL_TAKES: Duration = Duration::from_micros(20);
/// How often the driver looks whether a start has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

fn options(core: CoreId) -> EngineOptions {
    EngineOptions {
        data_dir: "/store".into(),
        core,
        log: LogConfig { core, segment_bytes: 512 << 10, cache_bytes: 128 << 10, ..LogConfig::default() },
        tree: TreeOptions {
            memtable_bytes: 64 << 10,
            table_bytes: 64 << 10,
            level0_tables: 2,
            level_ratio: 4,
            ..TreeOptions::default()
        },
        cache_bytes: 256 << 10,
        memtables_bytes_max: 256 << 10,
        replay_bytes_max: 1 << 20,
        edits_max: 4,
    }
}

/// Voters that a store's regions are given, where nothing else is said.
pub(crate) const REPLICAS: usize = 3;

/// What a store accepts, where nothing else is said.
pub(crate) fn limits() -> ShardLimits {
    ShardLimits {
        replicas: REPLICAS,
        admission: AdmissionLimits { calls_max: 1000, bytes_max: 16 << 20 },
        log_entries_max: 100,
        log_bytes_max: 256 << 10,
        scan_bytes_max: 1 << 20,
        snapshot_bytes_per_second: 0,
        region_split_bytes: 0,
        region_split_keys: 0,
        raft: RaftTiming::default(),
    }
}

/// One life of a store: from a start to a stop or a failure.
#[derive(Clone)]
pub(crate) struct Life {
    cores: u16,
    started: Rc<RefCell<Vec<Result<Shard, String>>>>,
}

impl Life {
    /// Starts the cores on a host that is up; a new store makes a cluster of its own.
    pub(crate) fn begin(host: &Host, cores: u16) -> Self {
        Self::begin_as(host, cores, &Founding::New)
    }

    /// Starts the cores of a store that joins the cluster of another, if it belongs to none.
    pub(crate) fn begin_as(host: &Host, cores: u16, founding: &Founding) -> Self {
        Self::begin_with(host, cores, founding, limits())
    }

    /// The same of a store that accepts something else.
    pub(crate) fn begin_with(host: &Host, cores: u16, founding: &Founding, limits: ShardLimits) -> Self {
        let started: Rc<RefCell<Vec<_>>> = Rc::default();
        for (core, port) in (0..cores).zip(ports(usize::from(cores))) {
            let (started, address) = (started.clone(), host.address(PORT + core));
            let (founding, listen) = (founding.clone(), addresses(host, cores));
            // Nobody waits for a core: it ends with the host.
            drop(host.spawn_core(CoreId(core), async move {
                match start(CoreId(core), port, &founding, limits).await {
                    Ok(shard) => {
                        shard.set_addresses(&listen);
                        accept(&shard, TcpListener::bind(address).unwrap(), &listen);
                        spawn(shard.clone().steward());
                        started.borrow_mut().push(Ok(shard));
                        std::future::pending::<()>().await;
                    }
                    Err(error) => started.borrow_mut().push(Err(error)),
                }
            }));
        }
        Self { cores, started }
    }

    /// Runs the world until every core serves (true), or the host lost its power (false).
    ///
    /// # Panics
    /// When a core refuses to start although its disk did not fail.
    pub(crate) fn wait(&self, simulation: &Simulation, host: &Host) -> bool {
        let ended = || self.started.borrow().len() == usize::from(self.cores) || self.refused().is_some();
        simulation.run_until(LOOK_EVERY, || !host.is_up() || ended());
        if !host.is_up() {
            return false;
        }
        if let Some(error) = self.refused() {
            panic!("a core does not start: {error}");
        }
        true
    }

    /// Whether every core serves.
    pub(crate) fn is_begun(&self) -> bool {
        self.started.borrow().len() == usize::from(self.cores) && self.refused().is_none()
    }

    /// Why a core did not start, if one did not.
    pub(crate) fn refused(&self) -> Option<String> {
        self.started.borrow().iter().find_map(|started| started.as_ref().err().cloned())
    }

    /// The cores that have started.
    pub(crate) fn shards(&self) -> Vec<Shard> {
        self.started.borrow().iter().flatten().cloned().collect()
    }

    /// Why cores stopped serving, if any did.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.started.borrow().iter().flatten().filter_map(Shard::failure).collect()
    }

    /// What the cores' storage has done in this life.
    pub(crate) fn statistics(&self) -> Vec<Statistics> {
        let started = self.started.borrow();
        started.iter().flatten().map(|shard| shard.engine().statistics()).collect()
    }
}

async fn start(
    core: CoreId,
    port: CorePort,
    founding: &Founding,
    limits: ShardLimits,
) -> Result<Shard, String> {
    // The server does this before its cores start.
    fs::create_dir_durably("/", "store").await.map_err(|error| error.to_string())?;
    Shard::start(options(core), limits, port, founding).await.map_err(|error| error.to_string())
}

fn accept(shard: &Shard, listener: TcpListener, addresses: &[String]) {
    let admin = StoreAdmin::new(shard.clone(), "test", Rc::from(addresses));
    let services = Rc::new(Services { raw: shard.clone(), admin, link: shard.clone() });
    let limits = Rc::new(Limits::default());
    let shard = shard.clone();
    spawn(async move {
        // As in a server, a core that stops takes no more connections.
        let mut draining = pin!(shard.until_draining());
        while let Either::Left((Ok(stream), _)) = select(pin!(listener.accept()), &mut draining).await {
            let (services, limits) = (services.clone(), limits.clone());
            spawn(async move { drop(serve(stream, services, limits).await) });
        }
    });
}

/// The addresses of a store's cores.
pub(crate) fn addresses(host: &Host, cores: u16) -> Vec<String> {
    (0..cores).map(|core| host.address(PORT + core).to_string()).collect()
}

/// A core asked without a connection.
pub(crate) struct Local(pub(crate) Shard);

impl Local {
    /// Starts the only core of a store, on the host that this runs on.
    pub(crate) async fn start() -> Result<Self, String> {
        Ok(Self(start(CoreId(0), ports(1).remove(0), &Founding::New, limits()).await?))
    }
}

impl Store for Local {
    fn call(&self, call: RawCall) -> impl Future<Output = Answer> {
        let answer = self.0.call(RawRequest::new(call));
        async move {
            // What is in memory is answered at once, and a caller that never waits would never let go.
            pinion_runtime::sleep(CALL_TAKES).await;
            conclude(answer.await)
        }
    }
}
