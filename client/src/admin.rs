//! What an administrator asks of a cluster; each question goes to whoever can answer it.

use crate::attempt::regions_of;
use crate::cache::Entry;
use crate::cluster::Cluster;
use crate::retry::{Failure, Pause, Retry};
use crate::{
    ClientError, Error, PeerChange, RegionId, RegionInfo, StoreId, StoreInfo, StoreRecord, WireError,
};
use pinion_capnp::Client as Connection;
use pinion_runtime::now;
use pinion_types::key::Zone;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How long a store may take to say who it is.
const INFO_MAX: Duration = Duration::from_secs(2);

impl Cluster {
    /// The cluster's stores, in order of their ids, whether or not they can be reached.
    pub async fn stores(&self) -> Result<Vec<StoreRecord>, Error> {
        let ask = async |connection: &Connection| connection.stores().await;
        let answers = self.ask_around(ask, |_| false).await.map_err(Error::Failed)?;
        let mut book = self.known.book.borrow_mut();
        for record in answers.into_iter().flat_map(|(_, records)| records) {
            book.note(record);
        }
        Ok(book.records())
    }

    /// Who a store is; an error when it cannot be reached.
    pub async fn store(&self, store: StoreId) -> Result<StoreInfo, Error> {
        let asked = async { self.store_connection(store).await?.info().await };
        let info = self.known.watch.until(now() + INFO_MAX, asked).await;
        info.unwrap_or(Err(ClientError::TimedOut(INFO_MAX))).map_err(Error::Failed)
    }

    /// Every region of the cluster, in order of the keys: as its leader has it, else as the member does that knows most.
    pub async fn regions(&self) -> Result<Vec<RegionInfo>, Error> {
        self.learn_stores().await;
        let mut retry = self.retry();
        loop {
            match self.look_up_all().await {
                Ok(regions) => return Ok(regions),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// Every region that any store in reach has.
    pub(crate) async fn every_region(&self) -> Result<Vec<RegionInfo>, Failure> {
        let ask = async |connection: &Connection| regions_of(connection).await;
        let answers = self.ask_around(ask, |_| false).await;
        let answers = answers.map_err(|error| Failure::Again(error, Pause::Growing))?;
        let mut best: BTreeMap<RegionId, RegionInfo> = BTreeMap::new();
        let rank = |info: &RegionInfo| (info.is_leader, info.term, info.region.epoch.version, info.applied);
        for (store, regions) in answers {
            self.known.book.borrow_mut().note_cores(store, &regions);
            for info in regions {
                match best.get(&info.region.id) {
                    Some(there) if rank(there) >= rank(&info) => {}
                    _ => drop(best.insert(info.region.id, info)),
                }
            }
        }
        let mut regions: Vec<_> = best.into_values().collect();
        regions.sort_by(|a, b| a.region.start.cmp(&b.region.start));
        Ok(regions)
    }

    /// The region that a raw key is in, as its leader has it.
    pub async fn region(&self, key: &[u8]) -> Result<RegionInfo, Error> {
        let stored = Zone::Raw.stored(key);
        let mut retry = self.retry();
        loop {
            let outcome = match self.locate(&stored).await {
                Ok(entry) => {
                    let call = async |connection: &Connection| {
                        let info = connection.region(&stored).await?;
                        of_leader(entry.region.id, info).map_err(ClientError::Refused)
                    };
                    self.at_leader(&entry, false, &retry, call).await
                }
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(info) => return Ok(info),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// Splits regions at raw keys, one region after the other in order of their keys, each at all of its keys or not at all: what was split before
    /// a refusal stays so. The regions made and changed, in order of their keys.
    pub async fn split(&self, keys: &[Vec<u8>]) -> Result<Vec<RegionInfo>, Error> {
        let mut retry = Retry::new(self.options.call_timeout);
        let mut rest: Vec<Vec<u8>> = keys.to_vec();
        rest.sort();
        rest.dedup();
        let mut made: BTreeMap<RegionId, RegionInfo> = BTreeMap::new();
        if rest.is_empty() {
            return Err(WireError::invalid("a split takes a key at least").into());
        }
        while !rest.is_empty() {
            match self.split_region(&rest, &retry).await {
                Ok((done, regions)) => {
                    rest.drain(..done);
                    made.extend(regions.into_iter().map(|info| (info.region.id, info)));
                }
                Err(failure) => retry.after(failure).await?,
            }
        }
        let mut made: Vec<_> = made.into_values().collect();
        made.sort_by(|a, b| a.region.start.cmp(&b.region.start));
        Ok(made)
    }

    /// Splits the region of the first key, at all of the keys that are in it. How many they are, and the regions.
    async fn split_region(
        &self,
        keys: &[Vec<u8>],
        retry: &Retry,
    ) -> Result<(usize, Vec<RegionInfo>), Failure> {
        let stored: Vec<_> = keys.iter().map(|key| Zone::Raw.stored(key)).collect();
        let entry = self.locate(&stored[0]).await?;
        let count = stored.iter().take_while(|key| entry.region.contains(key)).count();
        let call = async |connection: &Connection| connection.split(&keys[..count]).await;
        let regions = self.at_leader(&entry, true, retry, call).await?;
        let mut cache = self.known.cache.borrow_mut();
        for info in &regions {
            cache.insert(info.region.clone(), entry.target(0));
        }
        Ok((count, regions))
    }

    /// Changes who keeps a region: all changes or none. The region after that. May be asked again after an error, and then goes on.
    pub async fn change_peers(&self, region: RegionId, changes: &[PeerChange]) -> Result<RegionInfo, Error> {
        let call = async |connection: &Connection| connection.change_peers(region, changes).await;
        self.at_region(region, self.options.admin_timeout, call).await
    }

    /// Makes a region's peer on a store its leader.
    pub async fn transfer_leader(&self, region: RegionId, to: StoreId) -> Result<(), Error> {
        let call = async |connection: &Connection| connection.transfer_leader(region, to).await;
        self.at_region(region, self.options.call_timeout, call).await
    }

    /// Has a region's leader do something.
    async fn at_region<T>(
        &self,
        region: RegionId,
        timeout: Duration,
        call: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> Result<T, Error> {
        let mut retry = Retry::new(timeout);
        loop {
            let outcome = match self.entry_of(region).await? {
                Ok(entry) => {
                    let call = async |connection: &Connection| call(connection).await;
                    self.at_leader(&entry, true, &retry, call).await
                }
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(value) => return Ok(value),
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    async fn entry_of(&self, region: RegionId) -> Result<Result<Rc<Entry>, Failure>, Error> {
        let found = self.known.cache.borrow().of(region);
        if let Some(entry) = found {
            return Ok(Ok(entry));
        }
        if let Err(failure) = self.look_up_all().await {
            return Ok(Err(failure));
        }
        let found = self.known.cache.borrow().of(region);
        found.map(Ok).ok_or(Error::NoSuchRegion(region))
    }
}

/// What a store says of a region, if it leads it: whoever does not says how things were for it once.
fn of_leader(asked: RegionId, info: RegionInfo) -> Result<RegionInfo, WireError> {
    match info {
        info if info.is_leader => Ok(info),
        info if info.region.id == asked => Err(WireError::NotLeader { region: asked, leader: info.leader }),
        // It has the key in a region that is older or newer than the one that it was asked for.
        _ => Err(WireError::RegionNotFound(asked)),
    }
}
