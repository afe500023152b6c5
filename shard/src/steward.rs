//! What a store sees to by itself in its cluster: that the others know where it listens, that it knows where they do, and that each region that it
//! leads has enough peers.
//!
//! The rule for peers is small on purpose: a region with fewer voters than [`ShardLimits::replicas`](crate::ShardLimits::replicas) gets one on the
//! store without a peer that has the lowest id, one region at a time on each core. A learner that is lost stays, and counts for nothing after a
//! minute. Where peers had better be is for the scheduler to say.

use crate::acquaintances;
use crate::cluster::{ClusterCall, ClusterReply};
use crate::core::Shard;
use crate::error::ShardError;
use crate::links::asked;
use crate::membership::LEARNER_WAIT;
use crate::peer::Peer;
use pinion_capnp::{
    Client, ClientError, JoinRequest, Joined, PeerChange, PeerChangeKind, StoreRecord, WireError,
};
use pinion_types::map::HashMap;
use pinion_types::{CoreId, PeerId, PeerRole, StoreId};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How often the book is read, and regions are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long another store may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a start waits for each of two answers by which it would learn that this store runs elsewhere. Stores that start at the same time wait
/// for each other in vain.
const CHECK_MAX: Duration = Duration::from_millis(300);

impl Shard {
    /// Looks after the store's place in the cluster; for ever.
    pub async fn steward(self) {
        pinion_runtime::spawn(self.clone().keep_replicas());
        let (mut announced, mut kept) = (false, Vec::new());
        while !self.0.stopping.get() {
            if self.0.core == CoreId(0) {
                let addresses = self.own_addresses();
                if !announced && !addresses.is_empty() {
                    let call = ClusterCall::Announce { store: self.0.store, addresses };
                    announced = self.cluster_anywhere(call).await.is_ok();
                }
                if let Ok(ClusterReply::Stores(entries)) = self.cluster_anywhere(ClusterCall::Stores).await {
                    let record = |(id, entry): &(StoreId, crate::book::StoreEntry)| StoreRecord {
                        id: *id,
                        addresses: entry.addresses.clone(),
                        version: entry.version,
                    };
                    self.learn_stores(&entries.iter().map(record).collect::<Vec<_>>());
                }
            }
            if self.0.core == CoreId(0) {
                self.keep_stores(&mut kept).await;
            }
            self.release_snapshots().await;
            self.note_lost_learners();
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    /// Gives regions the peers that they lack; for ever. It waits for as long as a new peer takes.
    async fn keep_replicas(self) {
        while !self.0.stopping.get() {
            self.add_missing_peers().await;
            pinion_runtime::sleep(LOOK_EVERY).await;
        }
    }

    /// Keeps where the other stores listen for the next start, when that has changed.
    async fn keep_stores(&self, kept: &mut Vec<StoreRecord>) {
        let known = self.0.links.records();
        if known == *kept {
            return;
        }
        match acquaintances::write(&self.0.data_dir, &known).await {
            Ok(()) => *kept = known,
            Err(error) => log::warn!("where the other stores listen is not kept: {error}"),
        }
    }

    /// Refuses to go on where another process runs as this store: one of the two has a copy of the other's directory, and what this one would
    /// promise the other one would not know of. To be asked before anything is sent; `own` is where this store's cores listen.
    ///
    /// # Errors
    /// When the store answers at another address, as the other stores know it. Where none of them can be reached nothing is known.
    pub async fn check_is_the_only_one(&self, own: &[String]) -> Result<(), ShardError> {
        let others = self.0.links.stores().into_iter().filter_map(|store| self.0.links.address_of(store));
        let asked: Vec<_> =
            others.map(|address| Box::pin(async move { connect(address).await?.stores().await })).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let answer = within(CHECK_MAX, futures_util::future::select_ok(asked)).await;
        let records = answer.and_then(Result::ok).map(|(records, _)| records).unwrap_or_default();
        let newest = records.into_iter().find(|record| record.id == self.0.store);
        let Some(elsewhere) = newest.and_then(|record| record.addresses.into_iter().next()) else {
            return Ok(());
        };
        let Some(address) = elsewhere.parse().ok().filter(|_| !own.contains(&elsewhere)) else {
            return Ok(());
        };
        let asked = async { connect(address).await?.info().await };
        match within(CHECK_MAX, asked).await {
            Some(Ok(info)) if info.store == self.0.store && info.cluster == self.0.cluster => {
                Err(ShardError::Identity(format!(
                    "store {} of this cluster runs already, at {elsewhere}: this directory is a copy of its; \
                     give a new store an empty directory and --join",
                    self.0.store
                )))
            }
            _ => Ok(()),
        }
    }

    /// Notes since when learners are lost whose regions this core leads.
    fn note_lost_learners(&self) {
        let mut lost = HashMap::default();
        let mut before = self.0.learners_lost.borrow_mut();
        for peer in self.peers().into_iter().filter(|peer| peer.serves()) {
            let unreachable = peer.unreachable();
            for member in &peer.region().peers {
                if member.role == PeerRole::Learner && unreachable.contains(&member.id) {
                    let since = before.get(&member.id).copied().unwrap_or_else(pinion_runtime::now);
                    lost.insert(member.id, since);
                }
            }
        }
        *before = lost;
    }

    /// Whether a learner that is lost was so for so long that its region need not wait for it.
    fn is_given_up(&self, learner: PeerId) -> bool {
        self.0.learners_lost.borrow().get(&learner).is_some_and(|since| since.elapsed() > LEARNER_WAIT)
    }

    async fn add_missing_peers(&self) {
        for peer in self.peers() {
            if let Some(store) = self.store_for(&peer).await {
                let change = PeerChange { store, kind: PeerChangeKind::AddVoter };
                if let Err(error) = self.change_members(peer.id(), &[change]).await {
                    log::debug!("region {} gets no peer on store {store}: {error}", peer.id());
                }
            }
        }
    }

    /// The store on which a region that this core leads should get a voter: one that answers.
    async fn store_for(&self, peer: &Rc<Peer>) -> Option<StoreId> {
        for store in self.candidates(peer) {
            if self.answers(store).await {
                // Somebody else may have seen to it while this one was asked.
                return self.candidates(peer).contains(&store).then_some(store);
            }
        }
        None
    }

    /// The stores on which a region could get a voter, in the order of preference; none where it needs none.
    fn candidates(&self, peer: &Rc<Peer>) -> Vec<StoreId> {
        if !peer.serves() || peer.is_joint() {
            return Vec::new();
        }
        let region = peer.region();
        let voters = region.peers.iter().filter(|member| member.role == PeerRole::Voter).count();
        if voters >= self.0.limits.replicas {
            return Vec::new();
        }
        // One that was begun is ended first; one that was not heard of yet, or a moment ago, is waited for.
        let lost = peer.unreachable();
        let learners = region.peers.iter().filter(|member| member.role == PeerRole::Learner);
        let is_given_up = |id| lost.contains(&id) && self.is_given_up(id);
        let learners: Vec<_> = learners.filter(|learner| !is_given_up(learner.id)).collect();
        if !learners.is_empty() {
            let there = learners.into_iter().filter(|learner| !lost.contains(&learner.id));
            return there.map(|learner| learner.store).collect();
        }
        self.0.links.stores().into_iter().filter(|store| region.peer_on(*store).is_none()).collect()
    }

    /// Whether a store is there.
    async fn answers(&self, store: StoreId) -> bool {
        let Some(address) = self.0.links.address_of(store) else { return false };
        let asked = async { connect(address).await?.info().await };
        matches!(within(ASK_TIMEOUT, asked).await, Some(Ok(info)) if info.store == store)
    }

    /// Does a cluster call here, or where the system region is led.
    pub(crate) async fn cluster_anywhere(&self, call: ClusterCall) -> Result<ClusterReply, WireError> {
        let refused = match self.cluster_call(call.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        let asked = match &refused {
            WireError::NotLeader { leader: Some(leader), .. } => vec![leader.store],
            WireError::NotLeader { leader: None, .. } | WireError::RegionNotFound(_) => self.0.links.stores(),
            _ => return Err(refused),
        };
        let mut last = refused;
        for store in asked.into_iter().filter(|store| *store != self.0.store) {
            let Some(address) = self.0.links.address_of(store) else { continue };
            match self.ask_store(store, address, &call).await {
                Ok(reply) => return Ok(reply),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_store(
        &self,
        store: StoreId,
        address: SocketAddr,
        call: &ClusterCall,
    ) -> Result<ClusterReply, WireError> {
        let failed = |error| asked(store, error);
        let client = connect(address).await.map_err(failed)?;
        match call {
            ClusterCall::AllocateIds(count) => self.ask_for_ids(store, *count).await.map(ClusterReply::Ids),
            ClusterCall::Join { token, addresses } => {
                let request = JoinRequest { token: *token, addresses: addresses.clone() };
                let joined = client.join(&request).await.map_err(failed)?;
                Ok(ClusterReply::Joined(joined.store))
            }
            ClusterCall::Announce { store, addresses } => {
                client.announce(*store, addresses).await.map_err(failed)?;
                Ok(ClusterReply::Announced)
            }
            ClusterCall::Stores => {
                let records = client.stores().await.map_err(failed)?;
                let entry = |record: StoreRecord| {
                    let StoreRecord { id, addresses, version } = record;
                    (id, crate::book::StoreEntry { token: 0, version, addresses })
                };
                Ok(ClusterReply::Stores(records.into_iter().map(entry).collect()))
            }
        }
    }
}

/// Asks a member of a cluster to be one of its stores, and the others where that one is not in charge. A store that is asked asks nobody else:
/// while nobody is in charge, each question would become ever more of them.
pub(crate) async fn ask_to_join(member: SocketAddr, request: &JoinRequest) -> Result<Joined, ClientError> {
    let client = connect(member).await?;
    let mut last = match client.join(request).await {
        Err(ClientError::Refused(error)) if may_be_elsewhere(&error) => error,
        answer => return answer,
    };
    let mut stores = client.stores().await?;
    if let WireError::NotLeader { leader: Some(leader), .. } = &last {
        stores.sort_by_key(|record| (record.id != leader.store, record.id));
    }
    let addresses = stores.iter().filter_map(|record| record.addresses.first()?.parse().ok());
    for address in addresses.filter(|address| *address != member) {
        let Ok(client) = connect(address).await else { continue };
        match client.join(request).await {
            Err(ClientError::Refused(error)) if may_be_elsewhere(&error) => last = error,
            Err(ClientError::Refused(error)) => return Err(error.into()),
            Err(_) => {}
            Ok(joined) => return Ok(joined),
        }
    }
    Err(last.into())
}

/// Whether a refusal says that another store may be in charge.
fn may_be_elsewhere(error: &WireError) -> bool {
    matches!(error, WireError::NotLeader { .. } | WireError::RegionNotFound(_))
}

/// A connection to a store that may be gone without a word.
pub(crate) async fn connect(address: SocketAddr) -> Result<Client, ClientError> {
    let connected = within(ASK_TIMEOUT, Client::connect(address)).await;
    Ok(connected.unwrap_or(Err(ClientError::TimedOut(ASK_TIMEOUT)))?.with_timeout(ASK_TIMEOUT))
}

/// The future's result, or nothing when that takes too long.
async fn within<T>(timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (future, late) = (std::pin::pin!(future), std::pin::pin!(pinion_runtime::sleep(timeout)));
    match futures_util::future::select(future, late).await {
        futures_util::future::Either::Left((value, _)) => Some(value),
        futures_util::future::Either::Right(_) => None,
    }
}
