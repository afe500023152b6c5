//! What an administrator asks: the list of regions, splits, who the store is.

use crate::book::StoreEntry;
use crate::cluster::{ClusterCall, ClusterReply};
use crate::command::NewRegion;
use crate::core::Shard;
use crate::error::ShardError;
use crate::message::Message;
use crate::meta::Meta;
use crate::peer::{Applying, Outcome, Peer, Proposal};
use crate::{checks, service};
use pinion_capnp::{
    AdminService, JoinRequest, Joined, PeerChange, RegionInfo, RegionPage, StoreInfo, StoreRecord, WireError,
};
use pinion_engine::NewTree;
use pinion_runtime::Instant;
use pinion_runtime::mailbox::{SendError, oneshot};
use pinion_types::key::Zone;
use pinion_types::map::HashSet;
use pinion_types::{CoreId, LogIndex, PeerId, Region, RegionId, StoreId, Term};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// Entries behind which a follower counts as pending.
const PENDING_LAG: u64 = 1000;
/// Keys of one split call.
const SPLIT_KEYS_MAX: usize = 256;
/// Leaders answer the split of regions that are moving after this long.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What serves an administrator: a core, and who its store is.
#[derive(Clone)]
pub struct StoreAdmin {
    shard: Shard,
    version: &'static str,
    addresses: Rc<[String]>,
    started: Instant,
}

impl StoreAdmin {
    /// The administrator's view of a store that listens on these addresses, in the order of its cores.
    pub fn new(shard: Shard, version: &'static str, addresses: Rc<[String]>) -> Self {
        Self { shard, version, addresses, started: pinion_runtime::now() }
    }
}

impl AdminService for StoreAdmin {
    fn regions(
        &self,
        start: Vec<u8>,
        limit: usize,
    ) -> impl Future<Output = Result<RegionPage, WireError>> + 'static {
        let shard = self.shard.clone();
        async move {
            let all = shard.all_regions().await?;
            let mut rest = all.into_iter().filter(|info| info.region.start >= start);
            let regions = rest.by_ref().take(if limit == 0 { usize::MAX } else { limit }).collect();
            Ok(RegionPage { regions, resume: rest.next().map(|info| info.region.start) })
        }
    }

    fn split(
        &self,
        keys: Vec<Vec<u8>>,
    ) -> impl Future<Output = Result<Vec<RegionInfo>, WireError>> + 'static {
        let shard = self.shard.clone();
        async move { shard.split_at(keys).await }
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            store: self.shard.0.store,
            cluster: self.shard.0.cluster,
            version: self.version.to_owned(),
            cores: u16::try_from(self.addresses.len()).expect("cores are counted in u16"),
            addresses: self.addresses.to_vec(),
            uptime: self.started.elapsed(),
            replicas: u16::try_from(self.shard.0.limits.replicas).unwrap_or(u16::MAX),
        }
    }

    fn statistics(&self) -> impl Future<Output = String> + 'static {
        let shard = self.shard.clone();
        async move { shard.statistics() }
    }

    fn stores(&self) -> impl Future<Output = Result<Vec<StoreRecord>, WireError>> + 'static {
        let shard = self.shard.clone();
        async move { shard.all_stores().await }
    }

    fn join(&self, request: JoinRequest) -> impl Future<Output = Result<Joined, WireError>> + 'static {
        let shard = self.shard.clone();
        async move {
            let JoinRequest { token, addresses } = request;
            let reply = shard.cluster_call(ClusterCall::Join { token, addresses }).await?;
            let ClusterReply::Joined(store) = reply else {
                return Err(WireError::Internal("a join was answered with something else".to_owned()));
            };
            Ok(Joined { cluster: shard.0.cluster, store, stores: shard.all_stores().await? })
        }
    }

    fn announce(
        &self,
        store: StoreId,
        addresses: Vec<String>,
    ) -> impl Future<Output = Result<(), WireError>> + 'static {
        let shard = self.shard.clone();
        async move { shard.cluster_call(ClusterCall::Announce { store, addresses }).await.map(drop) }
    }

    fn change_peers(
        &self,
        region: RegionId,
        changes: Vec<PeerChange>,
    ) -> impl Future<Output = Result<RegionInfo, WireError>> + 'static {
        let shard = self.shard.clone();
        async move {
            let core = shard.core_of(region);
            if core == shard.0.core {
                return shard.change_peers_here(region, &changes).await;
            }
            let (answer, receiver) = oneshot::channel();
            shard.ask(core, Message::ChangeMembers { region, changes, answer })?;
            // The core may have proposed it before it went.
            receiver.await.map_err(|_| WireError::Undetermined)?
        }
    }

    fn transfer_leader(
        &self,
        region: RegionId,
        to: StoreId,
    ) -> impl Future<Output = Result<(), WireError>> + 'static {
        let shard = self.shard.clone();
        async move {
            let core = shard.core_of(region);
            if core == shard.0.core {
                return shard.transfer_leader(region, to).await;
            }
            let (answer, receiver) = oneshot::channel();
            shard.ask(core, Message::Transfer { region, to, answer })?;
            receiver.await.map_err(|_| WireError::ShuttingDown)?
        }
    }

    fn region(&self, stored_key: Vec<u8>) -> impl Future<Output = Result<RegionInfo, WireError>> + 'static {
        let shard = self.shard.clone();
        async move {
            let regions = shard.all_regions().await?;
            let found = regions.into_iter().find(|info| info.region.contains(&stored_key));
            found.ok_or(WireError::RegionNotFound(RegionId(0)))
        }
    }
}

impl Shard {
    /// Counters and gauges of this core: one `name value` a line, sorted by name.
    fn statistics(&self) -> String {
        let engine = &self.0.engine;
        let cache = engine.cache().stats();
        let mut lines = [
            format!("admission_calls {}", self.0.admission.calls()),
            format!("cache {cache:?}"),
            format!("core {}", self.0.core),
            format!("engine {:?}", engine.statistics()),
            format!("held_back {}", self.times_held_back()),
            format!("log_live_bytes {}", engine.log().live_bytes()),
            format!("memtable_bytes {}", engine.memtable_bytes()),
            format!("pressure {:.3}", engine.pressure()),
            format!("regions {}", self.peers().len()),
            format!("regions_split {}", self.0.regions_split.get()),
        ];
        lines.sort();
        lines.join("\n") + "\n"
    }

    /// Every store of the cluster, in the order of their ids; as far as this store knows where nobody can be asked.
    async fn all_stores(&self) -> Result<Vec<StoreRecord>, WireError> {
        if let Ok(ClusterReply::Stores(entries)) = self.cluster_call(ClusterCall::Stores).await {
            let record = |(id, entry): (StoreId, StoreEntry)| StoreRecord {
                id,
                addresses: entry.addresses,
                version: entry.version,
            };
            return Ok(entries.into_iter().map(record).collect());
        }
        let mut records = self.0.links.records();
        records.push(StoreRecord { id: self.0.store, addresses: self.own_addresses(), version: 0 });
        records.sort_by_key(|record| record.id);
        Ok(records)
    }

    /// Changes the members of a region of this core.
    pub(crate) async fn change_peers_here(
        &self,
        region: RegionId,
        changes: &[PeerChange],
    ) -> Result<RegionInfo, WireError> {
        self.change_members(region, changes).await?;
        let peer = self.peer(region).ok_or(WireError::RegionNotFound(region))?;
        Ok(self.describe_peer(&peer))
    }

    /// Every region of the store, in the order of their keys.
    pub(crate) async fn all_regions(&self) -> Result<Vec<RegionInfo>, WireError> {
        let mut regions = self.describe();
        for core in self.other_cores() {
            let (answer, receiver) = oneshot::channel();
            self.ask(core, Message::Describe(answer))?;
            regions.extend(receiver.await.map_err(|_| WireError::ShuttingDown)?);
        }
        regions.sort_by(|a, b| a.region.start.cmp(&b.region.start));
        Ok(regions)
    }

    /// The regions of this core.
    pub(crate) fn describe(&self) -> Vec<RegionInfo> {
        self.peers().iter().map(|peer| self.describe_peer(peer)).collect()
    }

    fn describe_peer(&self, peer: &Peer) -> RegionInfo {
        let size = peer.tree().size();
        RegionInfo {
            region: peer.region().clone(),
            core: self.0.core,
            leader: peer.leader(),
            term: peer.term(),
            applied: peer.tree().applied().0,
            approximate_size_bytes: size.bytes(),
            approximate_keys: size.keys,
            peers_pending: peer.lagging(PENDING_LAG),
            is_leader: peer.is_leader(),
        }
    }

    /// Splits the regions that own these raw keys, at the keys; then spreads the new regions over the cores.
    pub(crate) async fn split_at(&self, keys: Vec<Vec<u8>>) -> Result<Vec<RegionInfo>, WireError> {
        if keys.is_empty() || keys.len() > SPLIT_KEYS_MAX {
            return Err(WireError::invalid(format!(
                "a split takes 1 to {SPLIT_KEYS_MAX} keys, not {}",
                keys.len()
            )));
        }
        let mut by_region: BTreeMap<(CoreId, RegionId), Vec<Vec<u8>>> = BTreeMap::new();
        for key in keys {
            let stored = Zone::Raw.stored(&key);
            let router = self.router();
            let route = router
                .find(&stored)
                .ok_or_else(|| WireError::Internal("no region has this key".to_owned()))?;
            if route.region.start == stored {
                return Err(WireError::invalid(format!(
                    "region {} begins at this key already",
                    route.region.id
                )));
            }
            checks::key_in_region_exclusive(&route.region, &stored)?;
            by_region.entry((route.core, route.region.id)).or_default().push(stored);
        }
        let mut made = Vec::new();
        for ((core, region), mut keys) in by_region {
            keys.sort();
            keys.dedup();
            made.extend(self.split_on(core, region, keys).await?);
        }
        self.spread(&made).await;
        let ids: Vec<RegionId> = made.iter().map(|info| info.region.id).collect();
        Ok(self.all_regions().await?.into_iter().filter(|info| ids.contains(&info.region.id)).collect())
    }

    async fn split_on(
        &self,
        core: CoreId,
        region: RegionId,
        keys: Vec<Vec<u8>>,
    ) -> Result<Vec<RegionInfo>, WireError> {
        if core == self.0.core {
            return self.split_here(region, keys).await;
        }
        let (answer, receiver) = oneshot::channel();
        self.ask(core, Message::Split { region, keys, answer })?;
        receiver.await.map_err(|_| WireError::Undetermined)?
    }

    /// Splits a region of this core at these stored keys.
    pub(crate) async fn split_here(
        &self,
        region: RegionId,
        keys: Vec<Vec<u8>>,
    ) -> Result<Vec<RegionInfo>, WireError> {
        let busy = WireError::ServerBusy { retry_after: RETRY_AFTER };
        let peer = self.peer(region).filter(|peer| !peer.is_frozen()).ok_or(busy)?;
        for key in &keys {
            checks::key_in_region_exclusive(&peer.region(), key)?;
        }
        let epoch = peer.region().epoch;
        let peers = peer.region().peers.len() as u64;
        let first = self.allocate_ids((1 + peers) * keys.len() as u64).await?;
        let new: Vec<NewRegion> = keys
            .into_iter()
            .zip((first..).step_by(usize::try_from(1 + peers).expect("a region has few peers")))
            .map(|(start, id)| NewRegion {
                id: RegionId(id),
                peers: (1..=peers).map(|place| PeerId(id + place)).collect(),
                start,
            })
            .collect();
        let ids: Vec<RegionId> = new.iter().map(|region| region.id).chain([region]).collect();
        self.propose(&peer, epoch, Proposal::Split(new)).await?;
        Ok(ids.into_iter().filter_map(|id| self.peer(id)).map(|peer| self.describe_peer(&peer)).collect())
    }

    /// Applies a committed split: the region keeps its left part, and each new region gets its tree in the same log group.
    pub(crate) async fn apply_split(
        &self,
        peer: &Rc<Peer>,
        applying: Applying,
        new: Vec<NewRegion>,
    ) -> Result<(), ShardError> {
        if !applying.is_of_members(&peer.region()) || new.iter().any(|new| !new.fits(&peer.region())) {
            peer.refuse(applying);
            peer.finish_slow();
            return Ok(());
        }
        let position = applying.position;
        let (parent, children) = divide(&peer.region(), &new);
        let (mut trees, mut had_peers) = (Vec::new(), HashSet::default());
        for region in &children {
            let own =
                region.peer_on(self.0.store).expect("the child has a peer on each store of its parent").id;
            if !self.prepare_child(region.id, own).await? {
                log::debug!("core {}: region {} is here without its split", self.0.core, region.id);
                continue;
            }
            if self.peer(region.id).is_some() {
                had_peers.insert(region.id);
            }
            // No message makes a peer of it meanwhile.
            self.0.in_transition.borrow_mut().insert(region.id);
            let stamp_ms = peer.meta_of(region).stamp_ms;
            let meta = Meta { region: region.clone(), stamp_ms, changed_at: LogIndex(0), own };
            trees.push(NewTree::of_split(region, meta.encode()));
        }
        let kept = Meta { changed_at: position.0, ..peer.meta_of(&parent) };
        let kept = NewTree::of_split(&parent, kept.encode());
        log::debug!("core {}: region {} is split at entry {}", self.0.core, peer.id(), position.0);
        let narrowed = || peer.set_region(parent, position);
        let recovered = self.0.engine.split(peer.id(), position, kept, trees, narrowed).await?;
        self.announce(peer);
        for region in recovered {
            // A peer that waited for a snapshot may have promised not to vote, though its data is new.
            let (id, is_new) = (region.id, !had_peers.contains(&region.id));
            let child = Peer::recover(self, region, is_new).await?;
            self.0.in_transition.borrow_mut().remove(&id);
            self.begin_peer(&child);
            // Nobody has heard of the new region yet: whoever leads the old one has the best prospects.
            if peer.is_leader() {
                child.lead();
                self.enqueue(&child);
            }
        }
        Peer::answer(applying, || Outcome::Done);
        peer.finish_slow();
        Ok(())
    }

    /// Compacts the log of this store's peer.
    pub(crate) fn compact_here(&self, peer: &Peer, index: LogIndex, term: Term) {
        let meta = peer.meta_of(&peer.region()).encode();
        self.0.engine.compact_log(peer.id(), index, term, meta);
        peer.compacted();
    }

    /// Applies a committed compaction of the log.
    pub(crate) fn apply_compaction(&self, peer: &Rc<Peer>, applying: Applying, index: LogIndex, term: Term) {
        self.compact_here(peer, index, term);
        peer.wrote(applying.position);
        Peer::answer(applying, || Outcome::Done);
        peer.finish_slow();
    }

    /// Moves new regions to the cores that have the least, so that a store uses all its cores.
    pub(crate) async fn spread(&self, made: &[RegionInfo]) {
        for info in made {
            let Ok(regions) = self.all_regions().await else { return };
            let mut raw_regions = vec![0usize; self.0.mailbox.cores()];
            for there in regions.iter().filter(|there| is_raw(&there.region)) {
                raw_regions[usize::from(there.core.0)] += 1;
            }
            let from = usize::from(info.core.0);
            let Some(least) = (0..raw_regions.len()).min_by_key(|&core| raw_regions[core]) else { return };
            if raw_regions[least] + 1 < raw_regions[from] + usize::from(from != least) {
                let to = CoreId(u16::try_from(least).expect("cores are counted in u16"));
                if let Err(error) = self.relocate(info.core, info.region.id, to).await {
                    log::warn!("region {} stays on core {}: {error}", info.region.id, info.core);
                }
            }
        }
    }

    async fn relocate(&self, from: CoreId, region: RegionId, to: CoreId) -> Result<(), WireError> {
        if from == self.0.core {
            return self.move_region(region, to).await.map_err(|error| service::wire_error(&error));
        }
        let (answer, receiver) = oneshot::channel();
        self.ask(from, Message::MoveOut { region, to, answer })?;
        receiver.await.map_err(|_| WireError::ShuttingDown)?
    }

    /// Sends a message to another core, or says why that can't be.
    pub(crate) fn ask(&self, core: CoreId, message: Message) -> Result<(), WireError> {
        match self.0.mailbox.try_send(core, message) {
            Ok(()) => Ok(()),
            Err(SendError::Full(_)) => Err(WireError::ServerBusy { retry_after: RETRY_AFTER }),
            Err(SendError::Closed(_)) => Err(WireError::ShuttingDown),
        }
    }
}

fn is_raw(region: &Region) -> bool {
    region.start.first() == Some(&Zone::Raw.prefix())
}

/// The parts of a region that is split: what it keeps, and the new regions. All get the next version.
fn divide(region: &Region, new: &[NewRegion]) -> (Region, Vec<Region>) {
    let mut epoch = region.epoch;
    epoch.version += 1;
    let ends = new.iter().skip(1).map(|next| next.start.clone()).chain([region.end.clone()]);
    let children = new
        .iter()
        .zip(ends)
        .map(|(new, end)| Region {
            id: new.id,
            start: new.start.clone(),
            end,
            epoch,
            peers: region
                .peers
                .iter()
                .zip(&new.peers)
                .map(|(there, id)| pinion_types::Peer { id: *id, ..*there })
                .collect(),
        })
        .collect();
    let end = new.first().map_or_else(|| region.end.clone(), |first| first.start.clone());
    (Region { end, epoch, ..region.clone() }, children)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_types::{Epoch, Peer, StoreId};

    #[test]
    fn a_split_leaves_no_gap_and_raises_every_version() {
        let region = Region {
            id: RegionId(1),
            start: b"a".to_vec(),
            end: b"z".to_vec(),
            epoch: Epoch { conf_ver: 1, version: 4 },
            peers: (1..=2).map(|id| Peer { id: PeerId(id), store: StoreId(id), ..Peer::default() }).collect(),
        };
        let new = |id, start: &str| {
            let peers = vec![PeerId(id + 1), PeerId(id + 2)];
            NewRegion { id: RegionId(id), peers, start: start.into() }
        };
        let (left, right) = divide(&region, &[new(2, "h"), new(5, "p")]);
        let seats = |region: &Region| -> Vec<_> {
            region.peers.iter().map(|peer| (peer.id.0, peer.store.0)).collect()
        };
        assert_eq!((seats(&right[0]), seats(&right[1])), (vec![(3, 1), (4, 2)], vec![(6, 1), (7, 2)]));
        assert_eq!((left.start.as_slice(), left.end.as_slice()), (&b"a"[..], &b"h"[..]));
        assert_eq!((right[0].start.as_slice(), right[0].end.as_slice()), (&b"h"[..], &b"p"[..]));
        assert_eq!((right[1].start.as_slice(), right[1].end.as_slice()), (&b"p"[..], &b"z"[..]));
        assert!([&left, &right[0], &right[1]].iter().all(|part| part.epoch.version == 5));
    }
}
