//! How a client finds its way: which regions there are, who leads them, where stores listen; and what it may conclude from what comes back.

use pinion_capnp::client::{Client, ClientError};
use pinion_capnp::{Context, RawCall, RawReply, RawRequest, ReadFrom, WireError};
use pinion_types::{Region, RegionId, StoreId};
use pinion_workload::Random;
use pinion_workload::store::{Answer, conclude};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

/// How long a connection may take to be made, and a call to be answered.
const CONNECT_MAX: Duration = Duration::from_millis(300);
const CALL_MAX: Duration = Duration::from_millis(1500);
/// How often a call is tried that was certainly not done.
const TRIES_MAX: usize = 12;

/// What a client knows of the cluster.
pub(super) struct Routes {
    random: Random,
    /// Where some stores listen from the beginning.
    seeds: Vec<SocketAddr>,
    stores: BTreeMap<StoreId, Vec<SocketAddr>>,
    regions: BTreeMap<RegionId, Region>,
    leaders: BTreeMap<RegionId, StoreId>,
    connections: BTreeMap<SocketAddr, Client>,
}

impl Routes {
    pub(super) fn new(random: Random, seeds: Vec<SocketAddr>) -> Self {
        Self {
            random,
            seeds,
            stores: BTreeMap::new(),
            regions: BTreeMap::new(),
            leaders: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    /// Every store that is known.
    pub(super) fn stores(&self) -> Vec<StoreId> {
        self.stores.keys().copied().collect()
    }

    /// Every region that is known, in the order of the ids.
    pub(super) fn regions(&self) -> Vec<Region> {
        self.regions.values().cloned().collect()
    }

    /// Where a region is thought to be led.
    pub(super) fn leader(&mut self, region: &Region) -> StoreId {
        let random = &mut self.random;
        *self.leaders.entry(region.id).or_insert_with(|| region.peers[random.index(region.peers.len())].store)
    }

    /// The region of a stored key.
    pub(super) fn region_of(&self, stored: &[u8]) -> Option<&Region> {
        self.regions
            .values()
            .filter(|region| region.contains(stored))
            .max_by_key(|region| (region.epoch.version, region.epoch.conf_ver))
    }

    /// Makes a call for a key, again as long as it was certainly not done. A read goes to the leader, or to any peer where that may answer.
    pub(super) async fn call(&mut self, stored: &[u8], call: &RawCall, read_from: ReadFrom) -> Answer {
        let mut last = Answer::Refused(WireError::StaleCommand);
        for _ in 0..TRIES_MAX {
            let Some(region) = self.region_of(stored).cloned() else {
                self.refresh().await;
                self.rest().await;
                continue;
            };
            last = self.try_once(&region, call, read_from).await;
            match &last {
                Answer::Done(_)
                | Answer::Unknown(_)
                | Answer::Refused(
                    WireError::BatchSpansRegions | WireError::InvalidArgument(_) | WireError::TooLarge { .. },
                ) => return last,
                Answer::Refused(WireError::KeyNotInRegion { .. })
                    if matches!(call, RawCall::Batch { .. }) =>
                {
                    self.refresh().await;
                    return last;
                }
                Answer::Refused(error) => {
                    let error = error.clone();
                    self.heed(&region, &error).await;
                }
            }
            self.rest().await;
        }
        last
    }

    async fn rest(&mut self) {
        pinion_runtime::sleep(Duration::from_millis(5 + self.random.below(95))).await;
    }

    async fn try_once(&mut self, region: &Region, call: &RawCall, read_from: ReadFrom) -> Answer {
        let store = match read_from {
            ReadFrom::Leader => self.leader(region),
            ReadFrom::Replica | ReadFrom::Stale(_) => {
                region.peers[self.random.index(region.peers.len())].store
            }
        };
        let Some(client) = self.connect_to(store).await else {
            // Nothing was sent.
            self.leaders.remove(&region.id);
            return Answer::Refused(WireError::StaleCommand);
        };
        let is_needed = matches!(call, RawCall::Scan(_)) || read_from != ReadFrom::Leader;
        let with_context = is_needed || self.random.below(4) > 0;
        let context =
            Context { region: region.id, epoch: Some(region.epoch), read_from, ..Context::default() };
        let context = with_context.then(|| Box::new(context));
        let request = RawRequest { context, ..RawRequest::new(call.clone()) };
        match client.1.call(&request).await {
            Ok(reply) => conclude(Ok(reply)),
            Err(ClientError::Refused(error)) => conclude(Err(error)),
            Err(error) => {
                self.connections.remove(&client.0);
                self.leaders.remove(&region.id);
                Answer::Unknown(error.to_string())
            }
        }
    }

    /// Learns from a refusal.
    pub(super) async fn heed(&mut self, region: &Region, error: &WireError) {
        match error {
            WireError::NotLeader { region, leader: Some(leader) } => {
                self.leaders.insert(*region, leader.store);
            }
            WireError::EpochNotMatch { current } => {
                for region in current {
                    self.learn(region);
                }
            }
            WireError::ServerBusy { retry_after } => pinion_runtime::sleep(*retry_after).await,
            WireError::RegionNotFound(_) | WireError::KeyNotInRegion { .. } => {
                self.leaders.remove(&region.id);
                self.refresh().await;
            }
            _ => {
                self.leaders.remove(&region.id);
                if self.random.below(4) == 0 {
                    self.refresh().await;
                }
            }
        }
    }

    /// Asks a store for its regions and for where stores listen.
    pub(super) async fn refresh(&mut self) {
        let stores = self.stores();
        let client = match stores.is_empty() {
            true => {
                let address = self.seeds[self.random.index(self.seeds.len())];
                self.connection(address).await
            }
            false => {
                let store = stores[self.random.index(stores.len())];
                self.connect_to(store).await
            }
        };
        let Some((address, client)) = client else { return };
        match (client.stores().await, client.regions(b"", 0).await) {
            (Ok(records), Ok(page)) => {
                for record in records {
                    let parsed = record.addresses.iter().filter_map(|text| text.parse().ok());
                    self.stores.insert(record.id, parsed.collect());
                }
                page.regions.iter().for_each(|info| self.learn(&info.region));
                for info in page.regions.iter().filter(|info| info.is_leader) {
                    if let Some(leader) = info.leader {
                        self.leaders.insert(info.region.id, leader.store);
                    }
                }
            }
            _ => drop(self.connections.remove(&address)),
        }
    }

    /// Takes a region in, unless a newer state of it, or of what is there now, is known.
    fn learn(&mut self, region: &Region) {
        if region.peers.is_empty() {
            return;
        }
        if self.regions.get(&region.id).is_none_or(|there| there.epoch.is_stale(region.epoch)) {
            self.regions.insert(region.id, region.clone());
        }
    }

    /// A connection to any core of a store.
    pub(super) async fn connect_to(&mut self, store: StoreId) -> Option<(SocketAddr, Client)> {
        let addresses = self.stores.get(&store).filter(|addresses| !addresses.is_empty())?;
        let address = addresses[self.random.index(addresses.len())];
        self.connection(address).await
    }

    async fn connection(&mut self, address: SocketAddr) -> Option<(SocketAddr, Client)> {
        if let Some(client) = self.connections.get(&address) {
            return Some((address, client.clone()));
        }
        let connecting = pin!(Client::connect(address));
        let late = pin!(pinion_runtime::sleep(CONNECT_MAX));
        match futures_util::future::select(connecting, late).await {
            futures_util::future::Either::Left((Ok(client), _)) => {
                let client = client.with_timeout(CALL_MAX);
                self.connections.insert(address, client.clone());
                Some((address, client))
            }
            _ => None,
        }
    }
}

/// The reply of a call that was done.
pub(super) fn done(answer: Answer) -> Option<RawReply> {
    match answer {
        Answer::Done(reply) => Some(reply),
        Answer::Refused(_) | Answer::Unknown(_) => None,
    }
}
