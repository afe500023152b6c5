//! Reads that name their region and whom they ask: the leader, or any replica. Each is tried once. Such a read is answered by one region as it was
//! at one moment, or not at all; the client's own may be put together from several.

use crate::shared::Shared;
use pinion_capnp::Client as Connection;
use pinion_capnp::{Context, RawRequest, ReadFrom};
use pinion_client::{ClientError, Cluster, Error, RawCall, RawReply, RegionInfo, StoreId, WireError};
use pinion_types::key::Zone;
use pinion_workload::Random;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long an answer may take, and a connection.
const ANSWER_MAX: Duration = Duration::from_millis(1500);
/// How often regions are looked up when nothing calls for it, and when something does.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
const REFRESH_WANTED: Duration = Duration::from_millis(100);

/// Whom a read asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Leader,
    /// A peer, whichever it is, that asks the leader how far it is.
    Replica,
    /// A peer that may be behind by so long.
    Stale(Duration),
}

/// What is known of regions and stores.
pub(crate) struct Routes {
    cluster: Cluster,
    stores: BTreeMap<StoreId, SocketAddr>,
    regions: RefCell<Vec<RegionInfo>>,
    connections: RefCell<BTreeMap<StoreId, Connection>>,
    is_outdated: Cell<bool>,
}

impl Routes {
    /// Knows nothing yet; [`Routes::keep_fresh`] finds out.
    pub(crate) fn new(cluster: Cluster, stores: BTreeMap<StoreId, SocketAddr>) -> Rc<Self> {
        Rc::new(Self {
            cluster,
            stores,
            regions: RefCell::default(),
            connections: RefCell::default(),
            is_outdated: Cell::new(true),
        })
    }

    /// Looks regions up now and then, until the clients end.
    pub(crate) async fn keep_fresh(self: Rc<Self>, shared: Arc<Shared>) {
        let mut asked = pinion_runtime::now();
        while !shared.ends.load(Relaxed) {
            if self.is_outdated.replace(false) || asked.elapsed() >= REFRESH_EVERY {
                asked = pinion_runtime::now();
                if let Ok(regions) = self.cluster.regions().await {
                    *self.regions.borrow_mut() = regions;
                }
            }
            pinion_runtime::sleep(REFRESH_WANTED).await;
        }
    }

    /// The regions as they were a moment ago.
    pub(crate) fn regions(&self) -> Vec<RegionInfo> {
        self.regions.borrow().clone()
    }

    /// Asks once for what is at a raw key. `None` when no answer came.
    ///
    /// # Errors
    /// When the answer shows a defect.
    pub(crate) async fn read(
        &self,
        key: &[u8],
        call: RawCall,
        asked: Asked,
        random: &mut Random,
    ) -> Result<Option<RawReply>, String> {
        let stored = Zone::Raw.stored(key);
        let found = self.regions.borrow().iter().find(|info| info.region.contains(&stored)).cloned();
        let Some(info) = found.filter(|info| !info.region.peers.is_empty()) else {
            self.is_outdated.set(true);
            return Ok(None);
        };
        let leader = info.leader.map(|peer| peer.store).filter(|_| asked == Asked::Leader);
        let any = info.region.peers[random.index(info.region.peers.len())].store;
        let read_from = match asked {
            Asked::Leader => ReadFrom::Leader,
            Asked::Replica => ReadFrom::Replica,
            Asked::Stale(age) => ReadFrom::Stale(age),
        };
        let context = Context {
            region: info.region.id,
            epoch: Some(info.region.epoch),
            read_from,
            ..Context::default()
        };
        let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(call) };
        match self.ask(leader.unwrap_or(any), &request).await {
            Ok(reply) => Ok(Some(reply)),
            Err(error) => {
                self.is_outdated.set(true);
                defect(&error).map_or(Ok(None), |defect| Err(format!("{asked:?} was answered: {defect}")))
            }
        }
    }

    async fn ask(&self, store: StoreId, request: &RawRequest) -> Result<RawReply, ClientError> {
        let there = self.connections.borrow().get(&store).filter(|there| !there.is_closed()).cloned();
        let connection = match there {
            Some(connection) => connection,
            None => {
                let made = connect(self.stores[&store]).await?;
                self.connections.borrow_mut().insert(store, made.clone());
                made
            }
        };
        let answer = connection.with_timeout(ANSWER_MAX).call(request).await;
        if !matches!(answer, Ok(_) | Err(ClientError::Refused(_))) {
            // What is stuck in it would come much later.
            self.connections.borrow_mut().remove(&store);
        }
        answer
    }
}

/// Connects, or gives up soon.
pub async fn connect(address: SocketAddr) -> Result<Connection, ClientError> {
    use futures_util::future::{Either, select};
    let connecting = std::pin::pin!(Connection::connect(address));
    let timer = std::pin::pin!(pinion_runtime::sleep(ANSWER_MAX));
    match select(connecting, timer).await {
        Either::Left((connected, _)) => connected,
        Either::Right(_) => Err(ClientError::TimedOut(ANSWER_MAX)),
    }
}

/// What an error says of the store, if it is one that no trouble explains.
pub(crate) fn defect(error: &ClientError) -> Option<String> {
    let is_defect = match error {
        ClientError::Refused(refused) => matches!(
            refused,
            WireError::Corruption { .. }
                | WireError::Internal(_)
                | WireError::InvalidArgument(_)
                | WireError::TooLarge { .. }
                | WireError::DiskFull
                | WireError::ClusterNotMatch { .. }
        ),
        ClientError::Exception(_) | ClientError::Unimplemented(_) | ClientError::Protocol(_) => true,
        _ => false,
    };
    is_defect.then(|| error.to_string())
}

/// The same of a client's call.
pub(crate) fn defect_of_call(error: &Error) -> Option<String> {
    match error {
        Error::Refused(refused) => defect(&refused.clone().into()),
        Error::Undetermined(error) | Error::Failed(error) | Error::TimedOut { last: error, .. } => {
            defect(error)
        }
        Error::Unreachable { .. } => None,
        other => Some(other.to_string()),
    }
}
