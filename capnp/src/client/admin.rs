//! What a client asks of a store as its administrator, and a store of the cluster that it joins.

use super::connection::Reply;
use super::{CALL_WORDS, Client, ClientError, done, mismatch};
use crate::convert::admin::{write_announce_request, write_change_peers_request, write_join_request};
use crate::convert::list_length;
use crate::convert::method::{AdminMethod, Method};
use crate::generated::admin_capnp as schema;
use crate::{JoinRequest, Joined, PeerChange, RegionInfo, RegionPage, StoreInfo, StoreRecord};
use capnp::any_pointer;
use pinion_types::{RegionId, StoreId};

impl Client {
    /// The store's regions from the stored key `start` on.
    pub async fn regions(&self, start: &[u8], limit: u32) -> Result<RegionPage, ClientError> {
        let reply = self.admin_call(AdminMethod::Regions, start.len() / 8, |params| {
            let mut params: schema::regions_request::Builder<'_> = params.init_as();
            params.set_start(start);
            params.set_limit(limit);
        });
        region_page(reply.await?)
    }

    /// Splits regions at raw keys. The regions made and changed.
    pub async fn split(&self, keys: &[Vec<u8>]) -> Result<Vec<RegionInfo>, ClientError> {
        let words = keys.iter().map(|key| 2 + key.len() / 8).sum::<usize>();
        let reply = self.admin_call(AdminMethod::Split, words, |params| {
            let params: schema::split_request::Builder<'_> = params.init_as();
            let mut list = params.init_keys(list_length(keys.len()));
            for (index, key) in (0..).zip(keys) {
                list.set(index, key);
            }
        });
        Ok(region_page(reply.await?)?.regions)
    }

    /// Who the store is.
    pub async fn info(&self) -> Result<StoreInfo, ClientError> {
        match self.admin_call(AdminMethod::Info, 0, |_| {}).await? {
            Reply::Info(info) => Ok(info),
            other => Err(mismatch(&other)),
        }
    }

    /// The store's counters and gauges, one `name value` a line.
    pub async fn statistics(&self) -> Result<String, ClientError> {
        match self.admin_call(AdminMethod::Statistics, 0, |_| {}).await? {
            Reply::Statistics(text) => Ok(text),
            other => Err(mismatch(&other)),
        }
    }

    /// The cluster's stores, in order of their ids.
    pub async fn stores(&self) -> Result<Vec<StoreRecord>, ClientError> {
        match self.admin_call(AdminMethod::Stores, 0, |_| {}).await? {
            Reply::Stores(stores) => Ok(stores?),
            other => Err(mismatch(&other)),
        }
    }

    /// Asks to make the caller a store of the cluster. May be asked again with the same token.
    pub async fn join(&self, request: &JoinRequest) -> Result<Joined, ClientError> {
        let words = address_words(&request.addresses);
        let write = |params: any_pointer::Builder<'_>| write_join_request(params.init_as(), request);
        match self.admin_call(AdminMethod::Join, words, write).await? {
            Reply::Joined(joined) => Ok(joined?),
            other => Err(mismatch(&other)),
        }
    }

    /// Says where the cores of a store listen now.
    pub async fn announce(&self, store: StoreId, addresses: &[String]) -> Result<(), ClientError> {
        let words = address_words(addresses);
        let reply = self.admin_call(AdminMethod::Announce, words, |params| {
            write_announce_request(params.init_as(), store, addresses);
        });
        done(reply.await?)
    }

    /// Changes who keeps a region: all changes or none. The region after that. One change for a store at most.
    pub async fn change_peers(
        &self,
        region: RegionId,
        changes: &[PeerChange],
    ) -> Result<RegionInfo, ClientError> {
        let reply = self.admin_call(AdminMethod::ChangePeers, 2 * changes.len(), |params| {
            write_change_peers_request(params.init_as(), region, changes);
        });
        region_info(reply.await?)
    }

    /// Makes the region's peer on store `to` its leader.
    pub async fn transfer_leader(&self, region: RegionId, to: StoreId) -> Result<(), ClientError> {
        let reply = self.admin_call(AdminMethod::TransferLeader, 0, |params| {
            let mut params: schema::transfer_leader_request::Builder<'_> = params.init_as();
            params.set_region_id(region.0);
            params.set_to_store_id(to.0);
        });
        done(reply.await?)
    }

    /// The region that a stored key is in.
    pub async fn region(&self, stored_key: &[u8]) -> Result<RegionInfo, ClientError> {
        let reply = self.admin_call(AdminMethod::Region, stored_key.len() / 8, |params| {
            params.init_as::<schema::region_request::Builder<'_>>().set_key(stored_key);
        });
        region_info(reply.await?)
    }

    /// Makes a call whose lists and texts take `words` words.
    async fn admin_call(
        &self,
        method: AdminMethod,
        words: usize,
        write: impl FnOnce(any_pointer::Builder<'_>),
    ) -> Result<Reply, ClientError> {
        let pending = self.handle.0.call(self.admin, Method::Admin(method), CALL_WORDS + words, write)?;
        self.wait(pending).await
    }
}

fn address_words(addresses: &[String]) -> usize {
    addresses.iter().map(|address| 2 + address.len() / 8).sum()
}

fn region_page(reply: Reply) -> Result<RegionPage, ClientError> {
    match reply {
        Reply::Regions(page) => Ok(page?),
        other => Err(mismatch(&other)),
    }
}

fn region_info(reply: Reply) -> Result<RegionInfo, ClientError> {
    match reply {
        Reply::Region(region) => Ok(region?),
        other => Err(mismatch(&other)),
    }
}
