//! Five stores for rows that tell one story each, step by step, and what is asked of them. The raw region has a voter on each of them at the start.
//!
//! What a store itself has is read from it alone: by a replica read, which it answers once it has all that was written before; from what it says of
//! its own peers; and from its directory.

use crate::stage::{STORES, never, program, settings, snapshots, stage};
use pinion_campaign::cluster::{Cluster, Plan};
use pinion_campaign::network::listener;
use pinion_campaign::routes::connect;
use pinion_campaign::shared::Shared;
use pinion_capnp::{Client, Context, RawCall, RawReply, RawRequest, ReadFrom};
use pinion_client::{
    Cluster as Router, ColumnFamily, Error, Options, PeerChange, PeerChangeKind, RegionInfo,
};
use pinion_types::{Region, RegionId, StoreId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const FAMILY: ColumnFamily = ColumnFamily::Default;
/// How long anything may take that is asked for.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A cluster, a client of it, and the region that the story is about.
pub(crate) struct Story {
    pub(crate) cluster: Cluster,
    router: Router,
    pub(crate) region: RegionId,
}

/// The id of a store.
pub(crate) fn id(store: u8) -> StoreId {
    StoreId(u64::from(store))
}

/// Tells a story of stores that give their regions so many voters by themselves, 0 for none, with more settings; then all stop cleanly, with
/// nothing in their logs or files that is wrong.
pub(crate) fn tell(
    name: &str,
    replicas: usize,
    more: &str,
    story: impl AsyncFnOnce(&mut Story) + Send + 'static,
) {
    let begun = Instant::now();
    stage(name, |work| {
        let plan = Plan {
            stores: STORES,
            voters: replicas.max(1),
            settings: settings(replicas, more),
            borders: Vec::new(),
        };
        let started = Cluster::start(&plan, program(), work, Arc::new(Shared::default()), never());
        let (cluster, _) = started.unwrap_or_else(|error| panic!("{error:#}"));
        let told = async move {
            let addresses: Vec<_> = (1..=STORES).map(listener).collect();
            let options = Options { call_timeout: WITHIN, admin_timeout: WITHIN, ..Options::default() };
            let router = Router::connect(&addresses, options).await.unwrap();
            let region = router.region(b"k").await.unwrap().region.id;
            let mut told = Story { cluster, router, region };
            for store in 1..=STORES {
                told.change(store, PeerChangeKind::AddVoter).await;
            }
            story(&mut told).await;
            told.cluster
        };
        let mut cluster = pinion_runtime::machine::block_on(told).unwrap();
        cluster.check().and_then(|()| cluster.stop(program())).unwrap_or_else(|error| panic!("{error:#}"));
    });
    println!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
}

impl Story {
    /// A connection to a store.
    pub(crate) async fn connection(&self, store: u8) -> Client {
        connect(listener(store)).await.unwrap().with_timeout(WITHIN)
    }

    /// What a store says of its own peers, as far as it can be asked.
    pub(crate) async fn peers_on(&self, store: u8) -> Vec<RegionInfo> {
        let asked = async { connect(listener(store)).await?.with_timeout(WITHIN).regions(b"", 0).await };
        asked.await.map_or_else(|_| Vec::new(), |page| page.regions)
    }

    /// What a store says of its peer of the region.
    pub(crate) async fn peer_on(&self, store: u8) -> Option<RegionInfo> {
        self.peers_on(store).await.into_iter().find(|info| info.region.id == self.region)
    }

    /// Waits until something is so.
    pub(crate) async fn wait_for<T>(&self, what: &str, mut is_so: impl AsyncFnMut() -> Option<T>) -> T {
        let begun = pinion_runtime::now();
        loop {
            if let Some(found) = is_so().await {
                return found;
            }
            assert!(begun.elapsed() < WITHIN, "{what} in time");
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    /// Which of the stores for which `counts` leads the region, by its own word; of several, which had to be elected last.
    pub(crate) async fn leader_among(&self, counts: impl Fn(u8) -> bool) -> u8 {
        let look = async || {
            let mut found = None;
            for store in (1..=STORES).filter(|store| counts(*store)) {
                let leads = self.peer_on(store).await.filter(|info| info.is_leader);
                found = found.max(leads.map(|info| (info.term, store)));
            }
            found.map(|(_, store)| store)
        };
        self.wait_for("a leader", look).await
    }

    /// Which store leads the region.
    pub(crate) async fn leader(&self) -> u8 {
        self.leader_among(|_| true).await
    }

    /// Asks the cluster until it is done; what is asked may be done twice.
    async fn ask<T>(&self, what: &str, ask: impl AsyncFn(&Router) -> Result<T, Error>) -> T {
        let begun = pinion_runtime::now();
        loop {
            match ask(&self.router).await {
                Ok(done) => return done,
                Err(error) => assert!(begun.elapsed() < 4 * WITHIN, "{what}: {error}"),
            }
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) async fn change(&self, store: u8, kind: PeerChangeKind) {
        let changes = [PeerChange { store: id(store), kind }];
        self.ask("a change of peers", async |router| router.change_peers(self.region, &changes).await).await;
    }

    /// Makes a store's peer the leader, and waits until it leads.
    pub(crate) async fn lead_from(&self, store: u8) {
        self.ask("a transfer", async |router| router.transfer_leader(self.region, id(store)).await).await;
        self.wait_for("the new leader", async || (self.leader().await == store).then_some(())).await;
    }

    pub(crate) async fn put(&self, key: &[u8], value: &[u8]) {
        self.ask("a put", async |router| router.put(FAMILY, key, value, None).await).await;
    }

    pub(crate) async fn delete(&self, key: &[u8]) {
        self.ask("a delete", async |router| router.delete(FAMILY, key).await).await;
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.ask("a get", async |router| router.get(FAMILY, key).await).await.map(|value| value.to_vec())
    }

    /// Parts some stores from the others; clients reach all.
    pub(crate) fn part(&self, side: impl Fn(u8) -> bool) {
        self.cluster.network.part(side).unwrap();
    }

    pub(crate) fn heal(&self) {
        self.cluster.network.heal().unwrap();
    }

    /// Kills a store with -9, and starts it again.
    pub(crate) fn restart(&mut self, store: u8) {
        self.cluster.stores[usize::from(store) - 1].kill().unwrap();
        self.cluster.restart().unwrap();
    }

    /// The region that a key is in, as its leader knows it.
    pub(crate) async fn region_of(&self, key: &[u8]) -> Region {
        self.ask("the region of a key", async |router| router.region(key).await).await.region
    }

    /// The region of the story, as its leader knows it.
    pub(crate) async fn region(&self) -> Region {
        let regions = self.ask("the regions", async |router| router.regions().await).await;
        let is_asked_for = |info: &RegionInfo| info.region.id == self.region && info.is_leader;
        regions.into_iter().find(is_asked_for).expect("its leader has it").region
    }

    /// What a store's own peer of a key's region says of it, once it can say what is newest.
    async fn get_on(&self, store: u8, key: &[u8]) -> Option<Vec<u8>> {
        let begun = pinion_runtime::now();
        loop {
            // It may be split meanwhile.
            let region = self.region_of(key).await.id;
            let context = Context { region, read_from: ReadFrom::Replica, ..Context::default() };
            let call = RawCall::Get { family: FAMILY, key: key.to_vec() };
            let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) };
            match self.connection(store).await.call(&request).await {
                Ok(RawReply::Value(value)) => return value.map(|value| value.to_vec()),
                Ok(other) => panic!("a read was answered with {other:?}"),
                Err(error) => assert!(
                    begun.elapsed() < WITHIN,
                    "store {store} does not answer of {}: {error}; its peers: {:?}",
                    String::from_utf8_lossy(key),
                    self.peers_on(store).await
                ),
            }
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    /// Demands that a store's own peer of the key's region holds exactly that.
    pub(crate) async fn demand_on(&self, store: u8, pairs: &[(&[u8], Option<&[u8]>)]) {
        for (key, value) in pairs {
            assert_eq!(self.get_on(store, key).await.as_deref(), *value, "on store {store}");
        }
    }

    /// Demands that the region's voters are on these stores, and nobody else is a member.
    pub(crate) async fn demand_voters(&self, stores: &[u8]) {
        let region = self.region().await;
        let there: BTreeSet<StoreId> = region.peers.iter().map(|peer| peer.store).collect();
        assert_eq!(there, stores.iter().map(|store| id(*store)).collect());
        let is_voter = |peer: &pinion_types::Peer| peer.role == pinion_types::PeerRole::Voter;
        assert!(region.peers.iter().all(is_voter), "{:?}", region.peers);
    }

    /// Waits until a store has nothing of the region: no peer, no directory.
    pub(crate) async fn demand_nothing_on(&self, store: u8) {
        let regions = self.cluster.stores[usize::from(store) - 1].data().join("regions");
        let name = self.region.to_string();
        let has_files = || {
            let mut names = std::fs::read_dir(&regions).unwrap().map(|entry| entry.unwrap().file_name());
            names.any(|entry| entry.to_string_lossy().split('.').next() == Some(&name))
        };
        let is_gone = async || (self.peer_on(store).await.is_none() && !has_files()).then_some(());
        self.wait_for("the removed store lets go of everything", is_gone).await;
    }

    /// Snapshots from which a store's peers of the region have gone on.
    pub(crate) fn installed(&self, store: u8) -> usize {
        let which = format!("region {} ", self.region);
        snapshots(&self.cluster.stores[usize::from(store) - 1], &which)
    }
}
