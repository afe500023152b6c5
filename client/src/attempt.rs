//! One try of a call at a region's leader, and what its outcome means.

use crate::cache::Entry;
use crate::cluster::Cluster;
use crate::retry::{Failure, Pause, Retry};
use crate::{Error, WireError};
use pinion_capnp::{Client as Connection, ClientError, Context, RawReply, RawRequest, RegionInfo};
use pinion_runtime::now;
use pinion_types::{Region, StoreId};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

/// After so many tries that reached nobody, the region is looked up anew.
const UNREACHED_MAX: u32 = 4;

impl Cluster {
    /// Tries a raw call that is for one region.
    pub(crate) async fn try_raw(
        &self,
        entry: &Rc<Entry>,
        request: &mut RawRequest,
        retry: &Retry,
    ) -> Result<RawReply, Failure> {
        let Region { id, epoch, .. } = entry.region;
        request.context = Some(Box::new(Context { region: id, epoch: Some(epoch), ..Context::default() }));
        let request = &*request;
        let call = async |connection: &Connection| connection.call(request).await;
        self.at_leader(entry, request.call.is_write(), retry, call).await
    }

    /// Tries a call at a region's leader.
    pub(crate) async fn at_leader<T>(
        &self,
        entry: &Rc<Entry>,
        is_write: bool,
        retry: &Retry,
        call: impl AsyncFnOnce(&Connection) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let Some(store) = entry.target(retry.tries) else {
            self.known.cache.borrow_mut().remove(entry);
            return Err(Failure::Again(WireError::RegionNotFound(entry.region.id).into(), Pause::Growing));
        };
        if self.known.is_leaving(store) {
            entry.is_not_leader(store);
            return Err(Failure::Again(WireError::ShuttingDown.into(), Pause::Growing));
        }
        let (address, connection) = match self.connection(store, entry.region.id).await {
            Ok((_, connection)) if connection.is_closed() => {
                let error = ClientError::Closed("it closed before the call was sent".to_owned());
                return Err(self.not_reached(entry, store, retry, error));
            }
            Ok(connected) => connected,
            Err(error) => return Err(self.not_reached(entry, store, retry, error)),
        };
        match self.wait(entry, store, address, is_write, retry, call(&connection)).await {
            Ok(value) => {
                entry.set_leader(store);
                self.learn_cores(store, entry.region.id);
                Ok(value)
            }
            Err(error) => Err(self.judge(entry, store, is_write, error)),
        }
    }

    /// Waits for the answer of a call that is sent. When it takes long, later calls ask the others; this one, if it writes, waits on.
    async fn wait<T>(
        &self,
        entry: &Rc<Entry>,
        store: StoreId,
        address: SocketAddr,
        is_write: bool,
        retry: &Retry,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let begun = now();
        let mut call = pin!(call);
        let doubt_at = retry.doubt_at();
        if let Some(answer) = self.known.watch.until(doubt_at, call.as_mut()).await {
            retry.answered();
            return answer;
        }
        entry.is_not_leader(store);
        self.pool.forget(address);
        let answer = match is_write {
            true => self.known.watch.until(retry.deadline, call).await,
            false => None,
        };
        answer.unwrap_or_else(|| Err(ClientError::TimedOut(begun.elapsed())))
    }

    fn not_reached(&self, entry: &Rc<Entry>, store: StoreId, retry: &Retry, error: ClientError) -> Failure {
        entry.is_not_leader(store);
        if retry.tries % UNREACHED_MAX == UNREACHED_MAX - 1 {
            self.known.cache.borrow_mut().remove(entry);
        }
        // It may have come back at another address.
        let cluster = self.clone();
        drop(pinion_runtime::spawn(async move { cluster.learn_stores().await }));
        Failure::Again(error, Pause::Growing)
    }

    /// What the failure of a call that was sent means for it, and for what is known of the region.
    fn judge(&self, entry: &Rc<Entry>, store: StoreId, is_write: bool, error: ClientError) -> Failure {
        let unknown = |error: ClientError| match is_write {
            true => Failure::Final(Error::Undetermined(error)),
            false => Failure::Again(error, Pause::Growing),
        };
        match error {
            ClientError::Refused(refused) => self.judge_refusal(entry, store, is_write, refused),
            ClientError::TooManyCalls(_) | ClientError::Overloaded(_) => {
                Failure::Again(error, Pause::Growing)
            }
            ClientError::Closed(_) | ClientError::Io(_) | ClientError::TimedOut(_) => {
                entry.is_not_leader(store);
                unknown(error)
            }
            ClientError::Unimplemented(_) => Failure::Final(Error::Failed(error)),
            other if is_write => Failure::Final(Error::Undetermined(other)),
            other => Failure::Final(Error::Failed(other)),
        }
    }

    fn judge_refusal(
        &self,
        entry: &Rc<Entry>,
        store: StoreId,
        is_write: bool,
        refused: WireError,
    ) -> Failure {
        let pause = match &refused {
            WireError::NotLeader { leader, .. } => {
                entry.is_not_leader(store);
                match leader.map(|leader| leader.store).filter(|leader| *leader != store) {
                    Some(leader) => {
                        entry.set_leader(leader);
                        Pause::None
                    }
                    None => Pause::Growing,
                }
            }
            WireError::EpochNotMatch { current } => self.learn_regions(entry, store, current),
            WireError::KeyNotInRegion { .. } => {
                self.known.cache.borrow_mut().remove(entry);
                Pause::None
            }
            WireError::RegionNotFound(_) | WireError::StoreNotMatch { .. } => {
                self.known.cache.borrow_mut().remove(entry);
                Pause::Growing
            }
            WireError::ServerBusy { retry_after } => {
                self.known.busy.set(self.known.busy.get() + 1);
                Pause::AtLeast(*retry_after)
            }
            WireError::ShuttingDown => {
                self.known.leaves(store);
                entry.is_not_leader(store);
                Pause::Growing
            }
            WireError::TimedOut | WireError::Undetermined | WireError::Internal(_) if is_write => {
                return Failure::Final(Error::Undetermined(refused.into()));
            }
            WireError::StaleCommand | WireError::TimedOut | WireError::Undetermined => Pause::Growing,
            _ => return Failure::Final(Error::Refused(refused)),
        };
        Failure::Again(refused.into(), pause)
    }

    /// Takes over regions as their leader says that they are. One that knows less than this client leads no more.
    fn learn_regions(&self, entry: &Rc<Entry>, store: StoreId, current: &[Region]) -> Pause {
        let before = entry.region.epoch;
        let is_news = current.iter().any(|region| before.version < region.epoch.version);
        if !is_news {
            entry.is_not_leader(store);
            return Pause::Growing;
        }
        let mut cache = self.known.cache.borrow_mut();
        for region in current {
            let leader = region.peer_on(store).map(|_| store);
            cache.insert(region.clone(), leader);
        }
        Pause::None
    }
}

/// Every region of a store, page by page.
pub(crate) async fn regions_of(connection: &Connection) -> Result<Vec<RegionInfo>, ClientError> {
    let (mut regions, mut start) = (Vec::new(), Some(Vec::new()));
    while let Some(from) = start {
        let page = connection.regions(&from, 0).await?;
        regions.extend(page.regions);
        start = page.resume;
    }
    Ok(regions)
}
