//! What concerns the whole cluster: ids, who joins, where stores listen. It is decided where the system region is led; every store can be
//! asked, and asks on.
//!
//! The book is changed by compare-and-swap on its entries, as any client changes its keys, so that two leaders in turn can't give the same id.

use crate::book::{self, MalformedBook, StoreEntry};
use crate::command::CompareAndSwap;
use crate::core::Shard;
use crate::message::Message;
use crate::peer::{Peer, Proposal, ScanLimits};
use crate::{service, value};
use bytes::Bytes;
use pinion_capnp::{RawReply, WireError};
use pinion_runtime::mailbox::oneshot;
use pinion_types::key::Zone;
use pinion_types::{ColumnFamily, RegionId, StoreId};
use std::rc::Rc;
use std::time::Duration;

/// How often a change of the book that others came before is tried.
const TRIES_MAX: usize = 100;
/// How often whoever may be in charge is asked for ids.
const ASKED_MAX: usize = 40;
/// Bytes of all stores' entries.
const BOOK_BYTES_MAX: usize = 16 << 20;
/// When a caller should come back that found nobody in charge.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What is asked of whoever leads the system region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterCall {
    /// So many ids that were never given before.
    AllocateIds(u64),
    /// A store wants to be one of the cluster's.
    Join { token: u64, addresses: Vec<String> },
    /// A store listens here from now on.
    Announce { store: StoreId, addresses: Vec<String> },
    /// Every store.
    Stores,
}

/// The answer to a [`ClusterCall`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterReply {
    /// The first of the ids.
    Ids(u64),
    /// The store's id.
    Joined(StoreId),
    /// It is noted.
    Announced,
    /// Every store.
    Stores(Vec<(StoreId, StoreEntry)>),
}

pub(crate) type ClusterAnswer = Result<ClusterReply, WireError>;

impl Shard {
    /// Does a cluster call if this store leads the system region; otherwise says who does.
    pub(crate) async fn cluster_call(&self, call: ClusterCall) -> ClusterAnswer {
        let core = self.router().find(&[Zone::System.prefix()]).map(|route| route.core);
        let core = core.ok_or(WireError::RegionNotFound(RegionId(0)))?;
        if core == self.0.core {
            return self.cluster_call_here(call).await;
        }
        let (answer, receiver) = oneshot::channel();
        self.ask(core, Message::Cluster { call, answer })?;
        receiver.await.map_err(|_| WireError::ShuttingDown)?
    }

    /// Does a cluster call on the system region's core.
    pub(crate) async fn cluster_call_here(&self, call: ClusterCall) -> ClusterAnswer {
        let route = self.router().find(&[Zone::System.prefix()]).map(|route| route.region.id);
        let peer = self.leading(route.ok_or(WireError::RegionNotFound(RegionId(0)))?)?;
        match call {
            ClusterCall::AllocateIds(count) => self.give_ids(&peer, count).await.map(ClusterReply::Ids),
            ClusterCall::Join { token, addresses } => {
                self.enter(&peer, token, addresses).await.map(ClusterReply::Joined)
            }
            ClusterCall::Announce { store, addresses } => {
                self.note_addresses(&peer, store, addresses).await.map(|()| ClusterReply::Announced)
            }
            ClusterCall::Stores => self.entries(&peer).await.map(ClusterReply::Stores),
        }
    }

    /// The first of `count` ids that were never given before.
    pub(crate) async fn allocate_ids(&self, count: u64) -> Result<u64, WireError> {
        let mut refused = WireError::ServerBusy { retry_after: RETRY_AFTER };
        for _ in 0..ASKED_MAX {
            let answer = match self.cluster_call(ClusterCall::AllocateIds(count)).await {
                Ok(ClusterReply::Ids(first)) => Ok(first),
                Ok(_) => {
                    Err(WireError::Internal("a call for ids was answered with something else".to_owned()))
                }
                Err(WireError::NotLeader { leader: Some(leader), .. }) if leader.store != self.0.store => {
                    self.ask_for_ids(leader.store, count).await
                }
                Err(WireError::RegionNotFound(_)) => self.allocate_elsewhere(count).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(first) => return Ok(first),
                Err(error) => refused = error,
            }
            pinion_runtime::sleep(RETRY_AFTER).await;
        }
        Err(refused)
    }

    /// Asks the other stores in turn: this one has no part in the system region.
    async fn allocate_elsewhere(&self, count: u64) -> Result<u64, WireError> {
        let mut refused = WireError::RegionNotFound(RegionId(0));
        for store in self.0.links.stores() {
            match self.ask_for_ids(store, count).await {
                Ok(first) => return Ok(first),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn give_ids(&self, peer: &Rc<Peer>, count: u64) -> Result<u64, WireError> {
        for _ in 0..TRIES_MAX {
            let there = self.read_book(peer, &book::ids_key()).await?;
            let first = match &there {
                Some(bytes) => book::decode_id(bytes).map_err(|error| damaged(&error))?,
                // The first ids were given when the cluster was made.
                None => crate::start::FIRST_IDS_END + 1,
            };
            let next = first.checked_add(count).ok_or_else(|| WireError::invalid("there are no such ids"))?;
            if self.swap(peer, book::ids_key(), there, book::encode_id(next)).await? {
                return Ok(first);
            }
        }
        Err(WireError::ServerBusy { retry_after: RETRY_AFTER })
    }

    /// Takes a store in; one that asks again under the same token gets the same id.
    async fn enter(&self, peer: &Rc<Peer>, token: u64, addresses: Vec<String>) -> Result<StoreId, WireError> {
        check_addresses(&addresses)?;
        for _ in 0..TRIES_MAX {
            let entries = self.entries(peer).await?;
            if let Some((store, _)) = entries.iter().find(|(_, entry)| entry.token == token) {
                self.note_addresses(peer, *store, addresses).await?;
                return Ok(*store);
            }
            if let Some((store, _)) = holder(&entries, &addresses, StoreId(0)) {
                return Err(WireError::invalid(format!(
                    "store {store} listens on an address that the new store gives as its own"
                )));
            }
            if entries.len() >= book::STORES_MAX {
                return Err(WireError::invalid(format!("a cluster has {} stores at most", book::STORES_MAX)));
            }
            let store = StoreId(entries.iter().map(|(store, _)| store.0).max().unwrap_or(0) + 1);
            let entry = StoreEntry { token, version: 1, addresses: addresses.clone() };
            if self.swap(peer, book::store_key(store), None, entry.encode()).await? {
                log::info!("store {store} joins the cluster");
                return Ok(store);
            }
        }
        Err(WireError::ServerBusy { retry_after: RETRY_AFTER })
    }

    async fn note_addresses(
        &self,
        peer: &Rc<Peer>,
        store: StoreId,
        addresses: Vec<String>,
    ) -> Result<(), WireError> {
        check_addresses(&addresses)?;
        for _ in 0..TRIES_MAX {
            let there = self.read_book(peer, &book::store_key(store)).await?;
            let mut entry = match &there {
                Some(bytes) => StoreEntry::decode(bytes).map_err(|error| damaged(&error))?,
                // The first store made the book, and is not in it yet.
                None if store == StoreId(1) => StoreEntry::default(),
                None => return Err(WireError::invalid(format!("store {store} is not of this cluster"))),
            };
            if entry.addresses == addresses {
                return Ok(());
            }
            entry.version += 1;
            entry.addresses.clone_from(&addresses);
            if self.swap(peer, book::store_key(store), there, entry.encode()).await? {
                return Ok(());
            }
        }
        Err(WireError::ServerBusy { retry_after: RETRY_AFTER })
    }

    /// Every store in the book, in the order of the ids.
    async fn entries(&self, peer: &Rc<Peer>) -> Result<Vec<(StoreId, StoreEntry)>, WireError> {
        self.wait_until_readable(peer).await?;
        let (start, end) = book::stores_range();
        let limits =
            ScanLimits { pairs: book::STORES_MAX, bytes: BOOK_BYTES_MAX, keys_only: false, reverse: false };
        let scanned = peer.scan(ColumnFamily::Default, &start, &end, limits).await;
        let scanned = scanned.map_err(|error| service::wire_error(&error))?;
        let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let store = book::store_of(key).ok_or_else(|| WireError::Internal("a key of no store".into()))?;
            Ok((store, StoreEntry::decode(value).map_err(|error| damaged(&error))?))
        };
        scanned.pairs.iter().map(entry).collect()
    }

    async fn read_book(&self, peer: &Rc<Peer>, key: &[u8]) -> Result<Option<Bytes>, WireError> {
        self.wait_until_readable(peer).await?;
        let found =
            peer.get(ColumnFamily::Default, key).await.map_err(|error| service::wire_error(&error))?;
        Ok(found.map(|found| Bytes::copy_from_slice(&found)))
    }

    async fn swap(
        &self,
        peer: &Rc<Peer>,
        key: Bytes,
        expected: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, WireError> {
        let new = Some([&value::envelope(None)[..], &new].concat().into());
        let command = CompareAndSwap { family: ColumnFamily::Default, key, expected, new };
        let epoch = peer.region().epoch;
        match self.propose(peer, epoch, Proposal::CompareAndSwap(command)).await? {
            RawReply::Swap { swapped, .. } => Ok(swapped),
            _ => Err(WireError::Internal("a swap was answered with something else".to_owned())),
        }
    }
}

fn check_addresses(addresses: &[String]) -> Result<(), WireError> {
    match StoreEntry::is_sound(addresses) {
        true => Ok(()),
        false => Err(WireError::invalid("a store has 1 to 256 addresses, each of 256 bytes at most")),
    }
}

/// Another store that listens on one of these addresses.
fn holder<'a>(
    entries: &'a [(StoreId, StoreEntry)],
    addresses: &[String],
    own: StoreId,
) -> Option<&'a (StoreId, StoreEntry)> {
    entries
        .iter()
        .find(|(store, entry)| *store != own && entry.addresses.iter().any(|there| addresses.contains(there)))
}

fn damaged(error: &MalformedBook) -> WireError {
    WireError::Internal(error.to_string())
}
