//! A store of one core in the simulator, and calls on it.

use bytes::Bytes;
use pinion_capnp::{Context, Page, RawAnswer, RawCall, RawReply, RawRequest, RawService, Scan};
use pinion_engine::EngineOptions;
use pinion_engine::log::LogConfig;
use pinion_engine::tree::TreeOptions;
use pinion_runtime::sim;
use pinion_shard::{AdmissionLimits, Founding, RaftTiming, Shard, ShardLimits, ports};
use pinion_types::{ColumnFamily, CoreId};

/// Settings so small that a test sees what takes a store days.
pub(crate) fn options(core: CoreId) -> EngineOptions {
    EngineOptions {
        data_dir: "/store".into(),
        core,
        log: LogConfig { core, segment_bytes: 128 << 10, ..LogConfig::default() },
        tree: TreeOptions { memtable_bytes: 64 << 10, table_bytes: 64 << 10, ..TreeOptions::default() },
        cache_bytes: 1 << 20,
        memtables_bytes_max: 256 << 10,
        replay_bytes_max: 512 << 10,
        edits_max: 4,
    }
}

/// What the store accepts.
pub(crate) fn limits() -> ShardLimits {
    ShardLimits {
        admission: AdmissionLimits { calls_max: 1000, bytes_max: 16 << 20 },
        log_entries_max: 50,
        log_bytes_max: 64 << 10,
        scan_bytes_max: 1 << 20,
        snapshot_bytes_per_second: 0,
        region_split_bytes: 0,
        region_split_keys: 0,
        replicas: 3,
        raft: RaftTiming::default(),
    }
}

/// A store and what a test does with it.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) shard: Shard,
}

/// Starts a new store of one core and runs the test on it.
pub(crate) fn with_store<F: Future<Output = ()> + 'static>(test: impl FnOnce(Store) -> F + Send + 'static) {
    with_store_of(limits(), test);
}

/// The same of a store that accepts something else.
pub(crate) fn with_store_of<F: Future<Output = ()> + 'static>(
    limits: ShardLimits,
    test: impl FnOnce(Store) -> F + Send + 'static,
) {
    sim::run(sim::Config::new(1), |simulation| {
        let host = simulation.add_host("store");
        let port = ports(1).remove(0);
        let core = host.spawn_core(CoreId(0), async move {
            let shard = Shard::start(options(CoreId(0)), limits, port, &Founding::New).await.unwrap();
            test(Store { shard: shard.clone() }).await;
            shard.stop().await.unwrap();
        });
        simulation.block_on(core).expect("the host stays up");
    });
}

impl Store {
    pub(crate) async fn call(&self, call: RawCall) -> RawAnswer {
        self.shard.call(RawRequest::new(call)).await
    }

    pub(crate) async fn call_in(&self, context: Context, call: RawCall) -> RawAnswer {
        let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) };
        self.shard.call(request).await
    }

    pub(crate) async fn put(&self, family: ColumnFamily, key: &[u8], value: &[u8]) {
        let (key, value) = (key.to_vec(), value.to_vec());
        assert_eq!(self.call(RawCall::Put { family, key, value, ttl: None }).await, Ok(RawReply::Done));
    }

    pub(crate) async fn delete(&self, family: ColumnFamily, key: &[u8]) {
        assert_eq!(self.call(RawCall::Delete { family, key: key.to_vec() }).await, Ok(RawReply::Done));
    }

    pub(crate) async fn get(&self, family: ColumnFamily, key: &[u8]) -> Option<Bytes> {
        match self.call(RawCall::Get { family, key: key.to_vec() }).await.unwrap() {
            RawReply::Value(value) => value,
            other => panic!("a get was answered {other:?}"),
        }
    }

    /// The keys and values from `start` on.
    pub(crate) async fn scan(&self, start: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let scan = Scan { start: start.to_vec(), limit, bytes_max: 1 << 20, ..Scan::default() };
        let RawReply::Page(Page { pairs, .. }) = self.call(RawCall::Scan(scan)).await.unwrap() else {
            panic!("a scan was answered with something else");
        };
        pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }
}
